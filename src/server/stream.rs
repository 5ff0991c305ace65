//! Raw streams that are accepted.

use std::io;

use crate::reactor::id::ListenerId;
use crate::reactor::reactor::Reactor;
use crate::reactor::transport::endpoint::ListenOptions;
use crate::session::stream::StreamCallbacks;

impl<S: 'static> Reactor<S> {
    /// Listens on `HOST:PORT` (port 0 picks one) or `unix:PATH` for raw streams; `setup` names the
    /// callbacks and runs once.
    ///
    /// # Errors
    ///
    /// When the address cannot be listened on; the message names it.
    pub fn stream<'a>(
        &mut self,
        address: impl Into<ListenOptions<'a>>,
        setup: impl FnOnce(&mut StreamCallbacks<S>),
    ) -> io::Result<ListenerId> {
        let options = self.config().options.clone();
        let mut handlers = StreamCallbacks::new(String::new(), false, options);
        setup(&mut handlers);
        let options = self.add_options(handlers.options().clone())?;
        self.listen(&address.into(), options, |address| {
            handlers.name = format!("stream {address}");
            Box::new(handlers)
        })
    }
}
