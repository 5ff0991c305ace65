//! TERM and INT, as bytes in a socket pair that the poll watches.
//!
//! A signal handler cannot be uninstalled: without an action, `signal-hook` swallows the signal. So
//! while no reactor takes signals, an action of our own has the default effect, which is to end the
//! process.

use std::io::{self, Read};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mio::net::UnixStream;
use mio::{Interest, Registry, Token};
use signal_hook::SigId;
use signal_hook::consts::{SIGINT, SIGTERM};

/// The token of the socket that signals arrive at.
pub(super) const SIGNALS: Token = Token(usize::MAX - 1);

/// Whether TERM and INT end the process, because no reactor takes them.
static HAS_DEFAULT_EFFECT: AtomicBool = AtomicBool::new(false);

static TAKERS: Mutex<Takers> = Mutex::new(Takers {
    count: 0,
    is_registered: false,
});

/// The reactors of the process that take signals.
struct Takers {
    count: usize,
    /// The action that has the default effect is registered; it stays.
    is_registered: bool,
}

impl Takers {
    fn lock() -> MutexGuard<'static, Takers> {
        TAKERS.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one more reactor that takes signals.
    fn add(&mut self) -> io::Result<()> {
        if !self.is_registered {
            for signal in [SIGTERM, SIGINT] {
                signal_hook::flag::register_conditional_default(signal, &HAS_DEFAULT_EFFECT)?;
            }
            self.is_registered = true;
        }
        HAS_DEFAULT_EFFECT.store(false, Ordering::SeqCst);
        self.count += 1;
        Ok(())
    }

    /// Counts one reactor less that takes signals.
    fn remove(&mut self) {
        self.count -= 1;
        HAS_DEFAULT_EFFECT.store(self.count == 0, Ordering::SeqCst);
    }
}

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
        Takers::lock().add()?;
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
        Takers::lock().remove();
        for id in self.registered.drain(..) {
            signal_hook::low_level::unregister(id);
        }
    }
}
