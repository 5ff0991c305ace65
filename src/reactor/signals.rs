//! SIGTERM and SIGINT, as bytes in a socket pair that is registered with the poll.
//!
//! A signal handler may do almost nothing safely; writing a byte to a socket is allowed
//! (signal-safety(7)). The loop reads it like any other source, so a signal is handled between
//! callbacks.

use std::io::{self, Read};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::time::Duration;

use mio::net::UnixStream;
use mio::{Interest, Registry, Token};
use signal_hook::SigId;
use signal_hook::consts::{SIGINT, SIGTERM};

/// The token of the socket that signals arrive at.
pub(super) const SIGNALS: Token = Token(usize::MAX - 1);

/// The signals of a process, as long as its reactor lives.
pub(super) struct Signals {
    receiver: UnixStream,
    /// How long the drain lasts that the first signal begins.
    window: Duration,
    registered: Vec<SigId>,
}

impl Signals {
    /// Takes over TERM and INT.
    ///
    /// # Errors
    ///
    /// When the signal handlers cannot be installed.
    pub(super) fn new(registry: Option<&Registry>, window: Duration) -> io::Result<Signals> {
        let (receiver, sender) = StdUnixStream::pair()?;
        receiver.set_nonblocking(true)?;
        let mut signals = Signals {
            receiver: UnixStream::from_std(receiver),
            window,
            registered: Vec::new(),
        };
        for signal in [SIGTERM, SIGINT] {
            let id = signal_hook::low_level::pipe::register(signal, sender.try_clone()?)?;
            signals.registered.push(id);
        }
        if let Some(registry) = registry {
            registry.register(&mut signals.receiver, SIGNALS, Interest::READABLE)?;
        }
        Ok(signals)
    }

    pub(super) fn window(&self) -> Duration {
        self.window
    }

    /// How many signals have come since this was last asked.
    pub(super) fn take(&mut self) -> usize {
        let mut buffer = [0; 16];
        let mut count = 0;
        while let Ok(read @ 1..) = self.receiver.read(&mut buffer) {
            count += read;
        }
        count
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for id in self.registered.drain(..) {
            signal_hook::low_level::unregister(id);
        }
    }
}
