//! Listening for WebSockets, for HTTP with routes, and for raw streams.

use std::io;

use crate::reactor::SetupResult;
use crate::reactor::id::ListenerId;
use crate::reactor::reactor::Reactor;
use crate::reactor::transport::endpoint::ListenOptions;
use crate::session::stream::StreamCallbacks;

use super::router::Router;
use super::websocket::WebSocketRoute;

/// # Listen
impl<S: 'static> Reactor<S> {
    /// Listens on `HOST:PORT` (port 0 picks one) or `unix:PATH` for WebSockets on any path;
    /// `setup` names the callbacks and runs once. A plain HTTP request gets 426.
    ///
    /// # Errors
    ///
    /// When the address cannot be listened on, or the reactor has stopped; the message names the address.
    /// The error of `setup`.
    pub fn websocket<'a, R: SetupResult>(
        &mut self,
        address: impl Into<ListenOptions<'a>>,
        setup: impl FnOnce(&mut WebSocketRoute<S>) -> R,
    ) -> io::Result<ListenerId> {
        self.http(address, |router: &mut Router<S>| {
            router.websocket("*", setup)
        })
    }

    /// Listens on `HOST:PORT` (port 0 picks one) or `unix:PATH` for HTTP/1.1; `setup` adds the
    /// routes and runs once.
    ///
    /// # Errors
    ///
    /// When the address cannot be listened on, or the reactor has stopped; the message names the address.
    /// The error of `setup`.
    pub fn http<'a, R: SetupResult>(
        &mut self,
        address: impl Into<ListenOptions<'a>>,
        setup: impl FnOnce(&mut Router<S>) -> R,
    ) -> io::Result<ListenerId> {
        let config = self.config();
        let mut router = Router::new(config.options.clone(), config.http);
        setup(&mut router).into_result()?;
        let options = router.seal(self)?;
        let listener = self.listen(&address.into(), options, |address| {
            router.into_handler(address)
        })?;
        self.listen_while_draining(listener);
        Ok(listener)
    }

    /// Listens on `HOST:PORT` (port 0 picks one) or `unix:PATH` for raw streams; `setup` names the
    /// callbacks and runs once.
    ///
    /// # Errors
    ///
    /// When the address cannot be listened on, or the reactor has stopped; the message names the address.
    /// The error of `setup`.
    pub fn stream<'a, R: SetupResult>(
        &mut self,
        address: impl Into<ListenOptions<'a>>,
        setup: impl FnOnce(&mut StreamCallbacks<S>) -> R,
    ) -> io::Result<ListenerId> {
        let options = self.config().options.clone();
        let mut callbacks = StreamCallbacks::new(String::new(), false, options);
        setup(&mut callbacks).into_result()?;
        callbacks.check(self.config().read_buffer_bytes)?;
        let options = self.add_options(callbacks.options().clone())?;
        self.listen(&address.into(), options, |address| {
            callbacks.name = format!("stream {address}");
            Box::new(callbacks)
        })
    }
}
