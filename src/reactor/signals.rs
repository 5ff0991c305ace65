//! TERM and INT, as bytes in a socket pair that the poll watches.

use std::io::{self, Read};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::time::Duration;

use mio::Interest;
use mio::net::UnixStream;
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::reactor::SIGNALS;
use crate::reactor::reactor::Reactor;

pub(crate) struct Signals {
    receiver: UnixStream,
    window: Duration,
}

impl<S: 'static> Reactor<S> {
    /// On TERM or INT drains over `window`; on a second one stops at once.
    ///
    /// Needs feature `signals`, and a Unix system.
    ///
    /// # Errors
    ///
    /// When the signal handlers cannot be installed.
    pub fn drain_on_signals(&mut self, window: Duration) -> io::Result<()> {
        let (receiver, sender) = StdUnixStream::pair()?;
        receiver.set_nonblocking(true)?;
        let mut receiver = UnixStream::from_std(receiver);
        for signal in [SIGTERM, SIGINT] {
            signal_hook::low_level::pipe::register(signal, sender.try_clone()?)?;
        }
        if let Some(registry) = &self.table.registry {
            registry.register(&mut receiver, SIGNALS, Interest::READABLE)?;
        }
        self.signals = Some(Signals { receiver, window });
        Ok(())
    }

    pub(crate) fn take_signals(&mut self) {
        let Some(signals) = &mut self.signals else {
            return;
        };
        let mut buffer = [0; 16];
        let mut count = 0;
        while let Ok(read @ 1..) = signals.receiver.read(&mut buffer) {
            count += read;
        }
        let window = signals.window;
        for _ in 0..count {
            if self.is_draining() {
                log::info!("a second signal: stopping at once");
                return self.stop();
            }
            self.drain(window);
        }
    }
}
