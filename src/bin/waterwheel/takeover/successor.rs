//! The running process's side: waits for a successor and hands the listeners to it.
//!
//! A thread of its own, because it waits for the other process, and a loop must not. It holds no descriptor of a
//! listener: it asks the reactor for one when a successor wants it, so that a drain without a successor closes all.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use waterwheel::{ListenerId, Remote};

use super::line::{ERROR, GREETING, Line, PATIENCE, VERSION};
use super::predecessor::Predecessor;
use super::socket_file::{self, SocketFile};

/// How long a successor may take from its greeting until it is ready; its engine may have to connect.
const READY_PATIENCE: Duration = Duration::from_secs(60);

/// Time from the last accept to the first goodbye, for clients that have connected and not sent their request.
const LAST_REQUESTS: Duration = Duration::from_secs(1);

/// A listening socket of one reactor, which a successor may have.
pub struct Offer {
    pub name: String,
    pub remote: Remote<()>,
    pub listener: ListenerId,
}

/// Why the process must end although its reactors run.
pub type Failure = Arc<Mutex<Option<io::Error>>>;

/// Takes the place of the process before, and waits for the next.
pub struct Takeover {
    pub path: PathBuf,
    pub drain_window: Duration,
    pub predecessor: Option<Predecessor>,
    /// One for each socket. Each reactor has at least one.
    pub offers: Vec<Offer>,
    pub failure: Failure,
}

/// The file at which the process waits, while it does.
type File = Arc<Mutex<Option<SocketFile>>>;

/// Removes the file when the process ends.
pub struct Waiting(File);

impl Drop for Waiting {
    fn drop(&mut self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Takeover {
    /// Starts the thread. A message of `ready` says that this process serves.
    ///
    /// # Errors
    ///
    /// When the path cannot be listened at and there is no process before, or no thread can be started.
    pub fn start(self, ready: Receiver<()>) -> io::Result<Waiting> {
        let file = File::default();
        let listener = match self.predecessor {
            // Its path is taken when it drains.
            Some(_) => None,
            None => Some(self.listen(&file)?),
        };
        let kept = Arc::clone(&file);
        thread::Builder::new()
            .name("takeover".to_owned())
            .spawn(move || self.run(listener, &ready, &kept))?;
        Ok(Waiting(file))
    }

    fn listen(&self, file: &File) -> io::Result<UnixListener> {
        let (listener, made) = socket_file::listen(&self.path).map_err(|error| {
            let why = format!("--takeover {}: {error}", self.path.display());
            io::Error::new(error.kind(), why)
        })?;
        *file.lock().unwrap_or_else(PoisonError::into_inner) = Some(made);
        Ok(listener)
    }

    fn run(mut self, listener: Option<UnixListener>, ready: &Receiver<()>, file: &File) {
        if ready.recv().is_err() {
            return;
        }
        if let Some(predecessor) = self.predecessor.take()
            && let Err(error) = predecessor.replace()
        {
            match error.kind() {
                // It has said that it goes on serving.
                io::ErrorKind::Other => return self.fail(error),
                _ => log::warn!("{error}; serving without its answer"),
            }
        }
        let listener = match listener.map_or_else(|| self.listen(file), Ok) {
            Ok(listener) => listener,
            Err(error) => return log::error!("{error}; no successor can take over"),
        };
        log::info!("waiting for a successor at {}", self.path.display());
        while let Ok((stream, _)) = listener.accept() {
            match self.hand_over(stream) {
                Ok(()) => return,
                Err(error) => {
                    log::warn!("--takeover: {error}; this process goes on serving");
                }
            }
        }
    }

    /// Ends the process.
    fn fail(&self, error: io::Error) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        for offer in &self.offers {
            let _ = offer.remote.run(|cx| cx.reactor.stop());
        }
    }

    /// Hands the listeners to a successor.
    ///
    /// # Errors
    ///
    /// When it did not come so far as to be ready.
    fn hand_over(&self, stream: UnixStream) -> io::Result<()> {
        let mut line = Line::new(stream)?;
        self.answer(&mut line).inspect_err(|error| {
            let _ = line.send(&format!("{ERROR}{error}"));
        })
    }

    fn answer(&self, line: &mut Line) -> io::Result<()> {
        let greeting = line.receive(PATIENCE)?;
        match greeting.strip_prefix(GREETING) {
            Some(VERSION) => {}
            Some(other) => {
                let why = format!(
                    "the successor takes over by version {other}, and this process hands over by {VERSION}"
                );
                return Err(io::Error::other(why));
            }
            None => return Err(io::Error::other("the successor does not greet")),
        }
        line.send(&greeting)?;
        let mut names: Vec<_> = self
            .offers
            .iter()
            .map(|offer| offer.name.as_str())
            .collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            line.send(&format!("listener {name}"))?;
        }
        line.send("end")?;
        let mut taken = Vec::new();
        loop {
            let order = line.receive(READY_PATIENCE)?;
            match order.strip_prefix("take ") {
                Some(name) => {
                    self.send_sockets(line, name)?;
                    taken.push(name.to_owned());
                }
                None if order == "ready" => break,
                None => {
                    let why = format!("the successor sent {order:?}");
                    return Err(io::Error::other(why));
                }
            }
        }
        log::info!("the successor is ready; it has {}", taken.join(", "));
        self.drain(&taken);
        // The successor serves whether or not it hears this.
        let _ = line.send("draining");
        Ok(())
    }

    fn send_sockets(&self, line: &mut Line, name: &str) -> io::Result<()> {
        let offers = self.offers.iter().filter(|offer| offer.name == name);
        let sockets = offers
            .map(Offer::duplicate)
            .collect::<io::Result<Vec<_>>>()?;
        if sockets.is_empty() {
            let why = format!("this process has no listener on {name}");
            return Err(io::Error::other(why));
        }
        line.send(&format!("sockets {}", sockets.len()))?;
        for socket in &sockets {
            line.send_descriptor(socket.as_fd())?;
        }
        Ok(())
    }

    /// Has each reactor accept no more, and drain. Returns when none accepts.
    fn drain(&self, taken: &[String]) {
        let window = self.drain_window;
        let (sender, left) = mpsc::channel();
        for (index, offer) in self.offers.iter().enumerate() {
            let (listener, sender) = (offer.listener, sender.clone());
            let is_taken = taken.contains(&offer.name);
            // A reactor with several sockets drains once.
            let is_first = self.offers[..index]
                .iter()
                .all(|other| other.remote != offer.remote);
            let _ = offer.remote.run(move |cx| {
                if is_taken {
                    cx.reactor.leave_listener(listener);
                }
                let _ = sender.send(());
                if is_first {
                    cx.reactor
                        .after(LAST_REQUESTS, move |cx| cx.reactor.drain(window));
                }
            });
        }
        drop(sender);
        while left.recv_timeout(PATIENCE).is_ok() {}
    }
}

impl Offer {
    /// A descriptor of the socket, from its reactor.
    fn duplicate(&self) -> io::Result<OwnedFd> {
        let listener = self.listener;
        let (sender, duplicate) = mpsc::channel();
        let ended = self.remote.run(move |cx| {
            let _ = sender.send(cx.reactor.duplicate_listener(listener));
        });
        ended.map_err(io::Error::other)?;
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "the reactor does not answer");
        duplicate.recv_timeout(PATIENCE).map_err(late)?
    }
}
