//! Raw streams that are made.

use std::io;
use std::net::IpAddr;

use crate::reactor::connection::Protocol;
use crate::reactor::id::ConnId;
use crate::reactor::reactor::Reactor;
use crate::session::stream::StreamCallbacks;

impl<S: 'static> Reactor<S> {
    /// Connects to `HOST:PORT` or `unix:PATH` for a raw stream; `setup` names its callbacks.
    ///
    /// Returns at once. Names are looked up off the loop and every address is tried, within
    /// `connect_timeout`; the one outcome is `on_open` or `on_close`. What is sent before that
    /// waits in the queue.
    ///
    /// # Errors
    ///
    /// When `address` is not of that form, or the reactor was stopped. Everything else comes with `on_close`.
    pub fn connect_stream(
        &mut self,
        address: &str,
        setup: impl FnOnce(&mut StreamCallbacks<S>),
    ) -> io::Result<ConnId> {
        self.connect_stream_from(address, None, setup)
    }

    /// As [`connect_stream`](Self::connect_stream), with the address of this machine to connect
    /// from; the system chooses where it is `None`, and always chooses the port. Each address has
    /// ports of its own, so that several make more connections to one server than one can.
    ///
    /// A Unix socket and a simulation have no such address; there `from` means nothing.
    ///
    /// # Errors
    ///
    /// As [`connect_stream`](Self::connect_stream). When `from` is not this machine's, has no port
    /// left, or is of another family than every address of the server, that comes with `on_close`.
    pub fn connect_stream_from(
        &mut self,
        address: &str,
        from: Option<IpAddr>,
        setup: impl FnOnce(&mut StreamCallbacks<S>),
    ) -> io::Result<ConnId> {
        let options = self.config().options.clone();
        let name = format!("stream to {address}");
        let mut handlers = StreamCallbacks::new(name, true, options);
        setup(&mut handlers);
        let options = self.add_options(handlers.options().clone());
        let handlers = Box::new(handlers);
        self.connect(address, from, handlers, options, Protocol::Raw)
    }
}
