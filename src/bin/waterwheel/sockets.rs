//! Listening sockets that this process did not bind: those of systemd, and those of the process before.

use std::collections::HashMap;
use std::io;
use std::net::TcpListener;

#[cfg(unix)]
use crate::activated::Activated;
#[cfg(target_os = "linux")]
use crate::takeover::Predecessor;

/// The beginning of the name of a socket of systemd.
pub const INHERITED: &str = "fd:";

/// The beginning of an address whose clients speak TLS.
pub const TLS: &str = "tls:";

/// Where sockets come from that listen already.
#[derive(Default)]
pub struct Sockets {
    #[cfg(unix)]
    pub activated: Activated,
    #[cfg(target_os = "linux")]
    pub predecessor: Option<Predecessor>,
}

impl Sockets {
    /// With the sockets of systemd. Must be called before there are other threads, because it removes variables of
    /// the environment.
    pub fn of_environment() -> Sockets {
        Sockets {
            #[cfg(unix)]
            activated: Activated::of_environment(),
            ..Sockets::default()
        }
    }

    /// The sockets that listen on an address already: those that the process before has under `name`, or that of
    /// systemd for `fd:NAME`.
    ///
    /// # Errors
    ///
    /// When systemd gave no such socket, or the process before does not answer.
    pub fn take(&mut self, address: &str, name: &str) -> io::Result<Option<Vec<TcpListener>>> {
        #[cfg(target_os = "linux")]
        if let Some(predecessor) = &mut self.predecessor
            && let Some(mut sockets) = predecessor.take(name)?
        {
            // systemd may have given this process the same socket, or one of its own with that name, whose clients
            // would wait for ever.
            if let Some(name) = without_tls(address).strip_prefix(INHERITED)
                && let Ok(own) = self.activated.take(name)
                && sockets.iter().all(|taken| !is_same(taken, &own))
            {
                sockets.push(own);
            }
            return Ok(Some(sockets));
        }
        let _ = name;
        let Some(name) = without_tls(address).strip_prefix(INHERITED) else {
            return Ok(None);
        };
        #[cfg(unix)]
        let taken = self.activated.take(name);
        #[cfg(not(unix))]
        let taken = Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!("{INHERITED}{name} needs a Unix system"),
        ));
        taken.map(|socket| Some(vec![socket]))
    }

    /// Warns of the sockets of systemd that no listener has taken: clients that connect there wait for ever.
    pub fn warn_of_left(&self) {
        #[cfg(unix)]
        if let names = self.activated.names()
            && !names.is_empty()
        {
            log::warn!("no --listen takes these inherited sockets: {names}");
        }
    }
}

/// The names under which a process hands its sockets to its successor: the address as it was given, with a number
/// behind it where it was given before. Without `tls:`, because the socket is the same.
#[derive(Default)]
pub struct SocketNames {
    counts: HashMap<String, usize>,
}

impl SocketNames {
    /// The name of the next socket with this address.
    pub fn name(&mut self, address: &str) -> String {
        let address = without_tls(address);
        let count = self.counts.entry(address.to_owned()).or_default();
        *count += 1;
        match *count {
            1 => address.to_owned(),
            count => format!("{address} {count}"),
        }
    }
}

/// Whether two descriptors are of one socket.
#[cfg(target_os = "linux")]
fn is_same(one: &TcpListener, other: &TcpListener) -> bool {
    use std::os::fd::OwnedFd;
    use std::os::unix::fs::MetadataExt;

    let id = |socket: &TcpListener| {
        let file = std::fs::File::from(OwnedFd::from(socket.try_clone()?));
        file.metadata().map(|it| (it.dev(), it.ino()))
    };
    matches!((id(one), id(other)), (Ok(one), Ok(other)) if one == other)
}

fn without_tls(address: &str) -> &str {
    address.strip_prefix(TLS).unwrap_or(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_has_a_name_of_its_own() {
        let mut names = SocketNames::default();
        let given = ["tls:a:1", "a:1", "unix:/a", "a:1", "fd:web"];
        let names = given.map(|address| names.name(address));
        assert_eq!(names, ["a:1", "a:1 2", "unix:/a", "a:1 3", "fd:web"]);
    }
}
