//! Sockets that systemd opened for this process (socket activation).
//!
//! `LISTEN_PID` names the process that they are for, `LISTEN_FDS` how many there are, and `LISTEN_FDNAMES` their
//! names. Source: sd_listen_fds(3).

use std::collections::VecDeque;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;

use listenfd::ListenFd;

/// The name of a socket for which systemd gives none.
const UNNAMED: &str = "unknown";

/// The sockets of this process that no listener has taken.
#[derive(Default)]
pub struct Activated {
    /// Each with its position, beginning with 1, and its name.
    left: VecDeque<(usize, String, Result<TcpListener, String>)>,
}

impl Activated {
    /// Takes the sockets that the environment tells of.
    pub fn of_environment() -> Activated {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut descriptors = ListenFd::from_env();
        let sockets = (0..descriptors.len()).map(|index| {
            let name = names.next().filter(|name| !name.is_empty());
            let socket = take(&mut descriptors, index).map_err(|error| error.to_string());
            (index + 1, name.unwrap_or(UNNAMED).to_owned(), socket)
        });
        Activated {
            left: sockets.collect(),
        }
    }

    /// Takes the first socket with this name, or the one at this position.
    ///
    /// # Errors
    ///
    /// When there is none, with the names of those that there are, or when it is not a stream socket.
    pub fn take(&mut self, name: &str) -> io::Result<TcpListener> {
        let by_name = self.left.iter().position(|(_, known, _)| known == name);
        let by_position = || {
            let position = name.parse::<usize>().ok()?;
            self.left
                .iter()
                .position(|(known, _, _)| *known == position)
        };
        let Some((_, _, socket)) = by_name
            .or_else(by_position)
            .and_then(|index| self.left.remove(index))
        else {
            let why = match self.names() {
                names if names.is_empty() => {
                    "no socket is left of those that this process has inherited (LISTEN_FDS)"
                        .to_owned()
                }
                names => format!("no inherited socket has this name; there are {names}"),
            };
            return Err(io::Error::new(io::ErrorKind::NotFound, why));
        };
        socket.map_err(|why| io::Error::new(io::ErrorKind::InvalidInput, why))
    }

    /// The names of the sockets that no listener has taken; empty without any.
    pub fn names(&self) -> String {
        let names = self.left.iter();
        let names = names.map(|(position, name, _)| format!("fd:{name} (fd:{position})"));
        names.collect::<Vec<_>>().join(", ")
    }
}

/// The socket at an index, of the internet or a Unix socket. A `TcpListener` can hold either; the reactor looks
/// which it is.
fn take(descriptors: &mut ListenFd, index: usize) -> io::Result<TcpListener> {
    if let Ok(Some(listener)) = descriptors.take_unix_listener(index) {
        return Ok(TcpListener::from(OwnedFd::from(listener)));
    }
    let listener = descriptors.take_tcp_listener(index)?;
    listener.ok_or_else(|| io::ErrorKind::NotFound.into())
}
