//! The successor, as the running process sees it: it is waited for, and gets the listeners.
//!
//! A thread of its own, because it waits for the other process, and a loop must not. It holds no descriptor of a
//! listener: it asks the reactor for one when a successor wants it, so that a drain without a successor closes all.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use waterwheel::{ListenerId, Remote};

use super::line::{ERROR, GREETING, HANDOVER_TIMEOUT, Line, PATIENCE, VERSION, is_gone};
use super::predecessor::Predecessor;
use super::socket_file::{self, SocketFile};
use crate::listen_address::set_mode;

/// How often a process that is not ready looks whether the one before it has gone.
const NEWS_CHECK: Duration = Duration::from_millis(20);

/// Time until the process tries again to accept a successor, such as when it had no descriptor.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Time from the last accept to the first goodbye, for clients that have connected and not sent their request.
const LAST_REQUESTS: Duration = Duration::from_secs(1);

/// A listening socket of one reactor, which a successor may have.
pub struct Offer {
    pub name: String,
    pub remote: Remote<()>,
    pub listener: ListenerId,
    /// The path of a Unix socket that was taken and is this process's to remove.
    pub adopted: Option<PathBuf>,
}

/// Why the process must end although its reactors run.
pub type Failure = Arc<Mutex<Option<io::Error>>>;

/// Takes the place of the process before, and waits for the next.
pub struct Takeover {
    pub path: PathBuf,
    pub drain_window: Duration,
    /// The permissions of Unix sockets.
    pub unix_mode: Option<u32>,
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
        if let Some(predecessor) = self.predecessor.take() {
            loop {
                match ready.recv_timeout(NEWS_CHECK) {
                    Ok(()) => break,
                    Err(RecvTimeoutError::Timeout) if !predecessor.has_news() => {}
                    Err(RecvTimeoutError::Timeout) => break,
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
            match predecessor.replace() {
                Ok(()) => {}
                // It has said that it goes on serving.
                Err(error) if error.kind() == io::ErrorKind::Other => return self.fail(error),
                Err(error) => log::warn!("{error}; serving without its answer"),
            }
            self.accept();
        }
        let listener = match listener.map_or_else(|| self.listen(file), Ok) {
            Ok(listener) => listener,
            Err(error) => return log::error!("{error}; no successor can take over"),
        };
        log::info!("waiting for a successor at {}", self.path.display());
        loop {
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) => {
                    log::warn!("--takeover: no successor can connect now: {error}");
                    thread::sleep(ACCEPT_PAUSE);
                    continue;
                }
            };
            match self.hand_over(stream) {
                Ok(()) => return,
                Err(error) if is_ending(&error) => {
                    return log::info!(
                        "a successor came at the end of this process, and got nothing"
                    );
                }
                Err(error) if is_gone(&error) => {
                    log::warn!(
                        "--takeover: a successor ended before it was ready; this process goes on serving"
                    );
                }
                Err(error) => {
                    log::warn!("--takeover: {error}; this process goes on serving");
                }
            }
        }
    }

    /// Accepts on the listeners that were taken, and owns the files of Unix sockets from now on.
    fn accept(&self) {
        for offer in &self.offers {
            let (listener, mode) = (offer.listener, self.unix_mode);
            let adopted = offer.adopted.clone();
            let _ = offer.remote.run(move |cx| {
                if let Some(path) = adopted {
                    if !cx.reactor.adopt_listener_file(listener) {
                        log::error!("{}: the socket has lost its file", path.display());
                    } else if let Some(mode) = mode
                        && let Err(error) = set_mode(&path, mode)
                    {
                        log::error!("{error}");
                    }
                }
                cx.reactor.resume_listener(listener);
            });
        }
    }

    /// Ends the process, after the clients that have come to addresses which only it has.
    fn fail(&self, error: io::Error) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        let window = self.drain_window;
        for offer in &self.offers {
            let _ = offer.remote.run(move |cx| cx.reactor.drain(window));
        }
    }

    /// Hands the listeners to a successor.
    ///
    /// # Errors
    ///
    /// When it did not come so far as to be ready.
    fn hand_over(&self, stream: UnixStream) -> io::Result<()> {
        let mut line = Line::new(stream)?;
        line.end_after(HANDOVER_TIMEOUT);
        self.answer(&mut line).inspect_err(|error| {
            // Without an answer the successor listens by itself.
            if !is_ending(error) {
                line.end_after(PATIENCE);
                let _ = line.send(&format!("{ERROR}{error}"));
            }
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
        let mut names = Vec::new();
        let mut outcome = Ok(());
        for offer in &self.offers {
            match offer.duplicate() {
                Ok(_) => names.push(offer.name.as_str()),
                Err(error) if is_ending(&error) => outcome = Err(error),
                Err(error) => return Err(error),
            }
        }
        if names.is_empty() {
            outcome?;
        }
        line.send(&greeting)?;
        names.sort_unstable();
        names.dedup();
        for name in names {
            line.send(&format!("listener {name}"))?;
        }
        line.send("end")?;
        let mut taken = Vec::new();
        loop {
            let order = line.receive(HANDOVER_TIMEOUT)?;
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
        if taken.is_empty() {
            let why =
                "the successor has taken none of this process's listeners, so it takes no place";
            return Err(io::Error::other(why));
        }
        log::info!("the successor is ready; it has {}", taken.join(", "));
        for offer in &self.offers {
            if !taken.contains(&offer.name) {
                log::warn!(
                    "{}: the successor does not listen there; this ends with this process",
                    offer.name
                );
            }
        }
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
        ended.map_err(|error| io::Error::new(io::ErrorKind::NotConnected, error))?;
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "the reactor does not answer");
        duplicate.recv_timeout(PATIENCE).map_err(late)?
    }
}

/// Whether an error says that the listeners are closed: a drain has come to the end of its window.
fn is_ending(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotConnected
}
