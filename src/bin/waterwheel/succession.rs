//! `--takeover`, as `serve` sees it: the listeners of the process before, and the offer of ours to the next.

use std::io;

#[cfg(target_os = "linux")]
use waterwheel::Address;
use waterwheel::Reactor;
use waterwheel::hub::Hub;

use crate::arguments::Serve;
use crate::listen_address::Bound;
#[cfg(target_os = "linux")]
use crate::sockets::INHERITED;
use crate::sockets::Sockets;
#[cfg(target_os = "linux")]
use crate::takeover::{Failure, Offer, Predecessor, Takeover, Waiting};

/// How often a process that starts looks whether its hub is ready.
#[cfg(target_os = "linux")]
const READY_CHECK: std::time::Duration = std::time::Duration::from_millis(20);

/// Does nothing without `--takeover`.
#[derive(Default)]
pub struct Succession {
    #[cfg(target_os = "linux")]
    takeover: Option<Takeover>,
    #[cfg(target_os = "linux")]
    failure: Failure,
    #[cfg(target_os = "linux")]
    waiting: Option<Waiting>,
}

impl Succession {
    /// Connects to the process before, whose listeners are among the sockets then.
    ///
    /// # Errors
    ///
    /// When it does not answer, or something else is at the path.
    pub fn begin(options: &Serve, sockets: &mut Sockets) -> io::Result<Succession> {
        let mut succession = Succession::default();
        #[cfg(target_os = "linux")]
        if let Some(path) = &options.takeover {
            sockets.predecessor = Predecessor::connect(path)?;
            succession.takeover = Some(Takeover {
                path: path.clone(),
                drain_window: options.drain_window,
                unix_mode: options.unix_mode,
                predecessor: None,
                offers: Vec::new(),
                failure: Failure::clone(&succession.failure),
            });
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (options, sockets, &mut succession);
        Ok(succession)
    }

    /// Keeps the process before until this one is ready.
    pub fn take_predecessor(&mut self, sockets: &mut Sockets) {
        #[cfg(target_os = "linux")]
        if let Some(takeover) = &mut self.takeover {
            takeover.predecessor = sockets.predecessor.take();
        }
        #[cfg(not(target_os = "linux"))]
        let _ = sockets;
    }

    /// Notes the listeners of a reactor, which a successor may have. Those that were taken accept nothing until this
    /// process is ready, and the process before serves their clients.
    pub fn offer(&mut self, reactor: &mut Reactor<()>, bound: &[Bound]) {
        #[cfg(target_os = "linux")]
        if let Some(takeover) = &mut self.takeover {
            for Bound { name, sockets, .. } in bound {
                let mut adopted = None;
                let predecessor = takeover.predecessor.as_ref();
                if predecessor.is_some_and(|predecessor| predecessor.has_given(name)) {
                    for listener in sockets {
                        reactor.pause_listener(*listener);
                    }
                    // One reactor removes the file of a Unix socket. That of an inherited one belongs to its maker.
                    let is_first = takeover.offers.iter().all(|offer| offer.name != *name);
                    if let Some(Address::Unix(path)) = reactor.local_addr(sockets[0])
                        && is_first
                        && !name.starts_with(INHERITED)
                    {
                        adopted = Some(path);
                    }
                }
                for listener in sockets {
                    takeover.offers.push(Offer {
                        name: name.clone(),
                        remote: reactor.remote(),
                        listener: *listener,
                        adopted: adopted.take(),
                    });
                }
            }
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (reactor, bound);
    }

    /// Takes the place of the process before as soon as the hub is ready, and waits for a successor then; without a
    /// process before at once.
    ///
    /// # Errors
    ///
    /// When the path cannot be listened at.
    pub fn start(&mut self, reactor: &mut Reactor<()>, hub: &Hub<()>) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        if let Some(takeover) = self.takeover.take() {
            use std::ops::ControlFlow;

            let (sender, ready) = std::sync::mpsc::channel();
            self.waiting = Some(takeover.start(ready)?);
            let hub = hub.clone();
            reactor.every(READY_CHECK, move |_| {
                if !hub.is_ready() {
                    return ControlFlow::Continue(());
                }
                let _ = sender.send(());
                ControlFlow::Break(())
            });
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (reactor, hub);
        Ok(())
    }

    /// Removes the socket at the path.
    ///
    /// # Errors
    ///
    /// The error for which the process ends.
    pub fn end(self) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        {
            drop(self.waiting);
            let mut failure = self
                .failure
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            if let Some(error) = failure.take() {
                return Err(error);
            }
        }
        Ok(())
    }
}
