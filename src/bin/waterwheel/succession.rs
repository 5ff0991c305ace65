//! `--takeover`, as `serve` sees it: the listeners of the process before, and the offer of ours to the next.

use std::io;

use waterwheel::Reactor;
use waterwheel::hub::Hub;

use crate::arguments::Serve;
use crate::listen_address::Bound;
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

    /// Notes the listeners of a reactor, which a successor may have.
    pub fn offer(&mut self, reactor: &Reactor<()>, bound: &[Bound]) {
        #[cfg(target_os = "linux")]
        if let Some(takeover) = &mut self.takeover {
            for bound in bound {
                takeover
                    .offers
                    .extend(bound.sockets.iter().map(|listener| Offer {
                        name: bound.name.clone(),
                        remote: reactor.remote(),
                        listener: *listener,
                    }));
            }
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (reactor, bound);
    }

    /// Takes the place of the process before as soon as the hub is ready, and waits for a successor then.
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
