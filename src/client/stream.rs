//! Raw streams that are made.

use std::io;

use crate::reactor::id::ConnId;
use crate::reactor::protocol::Protocol;
use crate::reactor::reactor::Reactor;
use crate::reactor::transport::endpoint::ConnectOptions;
use crate::session::stream::StreamCallbacks;

impl<S: 'static> Reactor<S> {
    /// Connects to `HOST:PORT` or `unix:PATH` for a raw stream; `setup` names its callbacks. From an
    /// address of this machine where [`ConnectOptions`] name one.
    ///
    /// Returns at once. Names are looked up off the loop and every address is tried, within
    /// `connect_timeout`; the one outcome is `on_open` or `on_close`. What is sent before that
    /// waits in the queue.
    ///
    /// # Errors
    ///
    /// When `address` is not of that form, or the reactor was stopped. Everything else comes with `on_close`.
    pub fn connect_stream<'a>(
        &mut self,
        address: impl Into<ConnectOptions<'a>>,
        setup: impl FnOnce(&mut StreamCallbacks<S>),
    ) -> io::Result<ConnId> {
        let to = address.into();
        let options = self.config().options.clone();
        let name = format!("stream to {}", to.address());
        let mut callbacks = StreamCallbacks::new(name, true, options);
        setup(&mut callbacks);
        let options = self.add_options(callbacks.options().clone())?;
        self.connect(&to, Box::new(callbacks), options, Protocol::Raw)
    }
}
