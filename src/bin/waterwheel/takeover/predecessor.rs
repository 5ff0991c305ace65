//! The process before, as its successor sees it: it is asked for its listeners.

use std::collections::BTreeSet;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::line::{ERROR, GREETING, Line, PATIENCE, VERSION, is_gone, unexpected};
use super::socket_file;

/// How often a process is asked again that has closed the connection without an answer, and the time between.
const GONE_ATTEMPTS: u32 = 20;
const GONE_PAUSE: Duration = Duration::from_millis(100);

/// The process that serves now, and will drain when this one is ready.
pub struct Predecessor {
    line: Line,
    path: PathBuf,
    /// The listeners that it has.
    names: BTreeSet<String>,
    /// Those that it has given.
    given: BTreeSet<String>,
}

impl Predecessor {
    /// Connects to the process that waits at a path. `None` where there is none, or one that has closed its listeners
    /// at the end of a drain: it closes the connection without an answer. So does one that has another successor, which
    /// will wait at the same path soon.
    ///
    /// # Errors
    ///
    /// When it belongs to another user, is of another version, or does not answer.
    pub fn connect(path: &Path) -> io::Result<Option<Predecessor>> {
        for _ in 0..GONE_ATTEMPTS {
            match Predecessor::connect_once(path) {
                Err(error) if is_gone(&error) => thread::sleep(GONE_PAUSE),
                result => return result,
            }
        }
        log::warn!(
            "{}: the process before ends, or has another successor; listening without it",
            path.display()
        );
        Ok(None)
    }

    fn connect_once(path: &Path) -> io::Result<Option<Predecessor>> {
        let explain = |error| explained(path, &error);
        let Some(stream) = socket_file::connect(path).map_err(explain)? else {
            return Ok(None);
        };
        let greet = || {
            let mut line = Line::new(stream)?;
            line.send(&format!("{GREETING}{VERSION}"))?;
            let greeting = answer(&mut line)?;
            let version = greeting.strip_prefix(GREETING);
            match version.ok_or_else(|| unexpected(&format!("{greeting:?}")))? {
                VERSION => {}
                other => {
                    let why = format!(
                        "the running process hands over by version {other}, and this one takes over by {VERSION}: \
                         end it, and start this one"
                    );
                    return Err(io::Error::other(why));
                }
            }
            let mut names = BTreeSet::new();
            loop {
                let next = answer(&mut line)?;
                match next.strip_prefix("listener ") {
                    Some(name) => names.insert(name.to_owned()),
                    None if next == "end" => break,
                    None => return Err(unexpected(&format!("{next:?}"))),
                };
            }
            Ok(Predecessor {
                line,
                path: path.to_owned(),
                names,
                given: BTreeSet::new(),
            })
        };
        greet().map(Some).map_err(explain)
    }

    /// The listeners of an address. `None` where the process before has none, or has ended meanwhile.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub fn take(&mut self, name: &str) -> io::Result<Option<Vec<TcpListener>>> {
        if !self.names.remove(name) {
            return Ok(None);
        }
        let line = &mut self.line;
        let mut ask = || {
            line.send(&format!("take {name}"))?;
            let answer = answer(line)?;
            let count = answer.strip_prefix("sockets ").map(str::parse::<usize>);
            let Some(Ok(count @ 1..)) = count else {
                return Err(unexpected(&format!("{answer:?}")));
            };
            // A `TcpListener` can hold a Unix socket too; the reactor looks which it is.
            let sockets = (0..count).map(|_| line.receive_descriptor().map(TcpListener::from));
            sockets.collect::<io::Result<Vec<_>>>()
        };
        let taken = match ask() {
            Ok(taken) => taken,
            Err(error) if is_gone(&error) => {
                log::warn!("{}: {name} is not taken", explained(&self.path, &error));
                self.names.clear();
                return Ok(None);
            }
            Err(error) => return Err(explained(&self.path, &error)),
        };
        self.given.insert(name.to_owned());
        log::info!(
            "{name}: taken from the process before, {} sockets",
            taken.len()
        );
        Ok(Some(taken))
    }

    /// Whether it has given the listeners of an address.
    pub fn has_given(&self, name: &str) -> bool {
        self.given.contains(name)
    }

    /// Whether it says, unasked, that it goes on, or has ended.
    pub fn has_news(&self) -> bool {
        self.line.has_news()
    }

    /// Tells the process before that this one serves. Returns when it accepts no more.
    ///
    /// # Errors
    ///
    /// When it does not answer, or answers that it goes on.
    pub fn replace(mut self) -> io::Result<()> {
        // It may have closed the connection, and said before why.
        let sent = self.line.send("ready");
        let answer = answer(&mut self.line).and_then(|answer| {
            sent?;
            Ok(answer)
        });
        match answer.map_err(|error| explained(&self.path, &error))? {
            answer if answer == "draining" => Ok(()),
            other => Err(explained(&self.path, &unexpected(&format!("{other:?}")))),
        }
    }
}

/// The next line of the process before.
fn answer(line: &mut Line) -> io::Result<String> {
    let answer = line.receive(PATIENCE)?;
    match answer.strip_prefix(ERROR) {
        None => Ok(answer),
        Some(why) => Err(io::Error::other(format!(
            "the running process answers: {why}"
        ))),
    }
}

fn explained(path: &Path, error: &io::Error) -> io::Error {
    let why = format!("--takeover {}: {error}", path.display());
    io::Error::new(error.kind(), why)
}
