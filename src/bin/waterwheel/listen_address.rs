//! Addresses to listen on, over TCP, TLS or a Unix socket.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;

use waterwheel::tls::ServerTls;
use waterwheel::{Address, ListenOptions, ListenerId, Reactor, Router};

use crate::sockets::{Sockets, TLS};

/// An address to listen on. A name is resolved once, so that the access rules are decided from the
/// same addresses that the listener binds.
#[derive(Clone)]
pub enum ListenAddress<'o> {
    Inet(Vec<SocketAddr>),
    /// With TLS.
    Tls(Vec<SocketAddr>),
    /// With the `unix:` in front.
    Unix(&'o str),
    /// Sockets that listen already, with the scheme of their URLs.
    Taken(Vec<Arc<TcpListener>>, Scheme),
}

/// Which of several reactors listens.
#[derive(Clone, Copy)]
pub struct Part {
    pub index: usize,
    pub count: usize,
}

impl Part {
    /// The only one.
    pub const WHOLE: Part = Part { index: 0, count: 1 };

    /// The sockets of this reactor: each belongs to one reactor, and where there are fewer sockets than reactors,
    /// some reactors share one.
    fn of<T>(self, sockets: &[T]) -> impl Iterator<Item = &T> {
        let first = self.index % sockets.len().max(1);
        sockets.iter().skip(first).step_by(self.count)
    }
}

/// How a program listens.
#[derive(Clone, Copy, Default)]
pub struct Listening<'o> {
    pub tls: Option<&'o ServerTls>,
    /// The permissions of a Unix socket.
    pub unix_mode: Option<u32>,
    pub proxy_protocol: bool,
}

/// The listeners of one address on one reactor.
pub struct Bound {
    /// The name of the address for a successor.
    pub name: String,
    /// One, or several where this process has taken them from another. At least one.
    pub sockets: Vec<ListenerId>,
    pub scheme: Scheme,
}

/// The scheme of the URLs of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

impl<'o> ListenAddress<'o> {
    /// `name` is that of the address for the process before.
    ///
    /// # Errors
    ///
    /// When the name has no address, or there is no inherited socket with the name.
    pub fn of(
        address: &'o str,
        name: &str,
        sockets: &mut Sockets,
    ) -> io::Result<ListenAddress<'o>> {
        let taken = sockets.take(address, name).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
        })?;
        if let Some(taken) = taken {
            let scheme = match address.starts_with(TLS) {
                true => Scheme::Https,
                false => Scheme::Http,
            };
            let taken = taken.into_iter().map(Arc::new).collect();
            return Ok(ListenAddress::Taken(taken, scheme));
        }
        if address.starts_with("unix:") {
            return Ok(ListenAddress::Unix(address));
        }
        let why = |error: io::Error| {
            io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
        };
        let inet = address.strip_prefix(TLS);
        let addresses: Vec<_> = (inet.unwrap_or(address))
            .to_socket_addrs()
            .map_err(why)?
            .collect();
        if addresses.is_empty() {
            return Err(why(io::Error::other("the name has no address")));
        }
        Ok(match inet {
            None => ListenAddress::Inet(addresses),
            Some(_) => ListenAddress::Tls(addresses),
        })
    }

    /// The same for further reactors, with the port that the first has got. `None` for a Unix socket that the first
    /// has bound: it cannot be shared.
    pub fn shared(&self, bound: &Address) -> Option<ListenAddress<'static>> {
        match (self, bound) {
            (ListenAddress::Taken(sockets, scheme), _) => {
                Some(ListenAddress::Taken(sockets.clone(), *scheme))
            }
            (ListenAddress::Tls(_), Address::Inet(address)) => {
                Some(ListenAddress::Tls(vec![*address]))
            }
            (_, Address::Inet(address)) => Some(ListenAddress::Inet(vec![*address])),
            _ => None,
        }
    }

    pub fn is_loopback(&self) -> bool {
        match self {
            ListenAddress::Inet(addresses) | ListenAddress::Tls(addresses) => {
                addresses.iter().all(|it| it.ip().is_loopback())
            }
            ListenAddress::Unix(_) => false,
            ListenAddress::Taken(sockets, _) => sockets.iter().all(|socket| {
                socket
                    .local_addr()
                    .is_ok_and(|address| address.ip().is_loopback())
            }),
        }
    }

    pub fn is_unix(&self) -> bool {
        match self {
            ListenAddress::Unix(_) => true,
            ListenAddress::Inet(_) | ListenAddress::Tls(_) => false,
            // A Unix socket has no address of the internet.
            ListenAddress::Taken(sockets, _) => {
                sockets.iter().all(|socket| socket.local_addr().is_err())
            }
        }
    }

    pub fn scheme(&self) -> Scheme {
        match self {
            ListenAddress::Tls(_) => Scheme::Https,
            ListenAddress::Inet(_) | ListenAddress::Unix(_) => Scheme::Http,
            ListenAddress::Taken(_, scheme) => *scheme,
        }
    }

    /// Keeps the addresses that no other program listens on. With a shared port the bind would
    /// succeed beside another hub, which would then get a part of the connections.
    ///
    /// # Errors
    ///
    /// When none is left.
    pub fn without_taken(mut self) -> io::Result<ListenAddress<'o>> {
        let (ListenAddress::Inet(addresses) | ListenAddress::Tls(addresses)) = &mut self else {
            return Ok(self);
        };
        let mut outcome = Ok(());
        addresses.retain(|address| match TcpListener::bind(address) {
            Ok(_) => true,
            Err(error) => {
                let why = format!("cannot listen on {address}: {error}");
                outcome = Err(io::Error::new(error.kind(), why));
                false
            }
        });
        if addresses.is_empty() {
            outcome?;
        }
        Ok(self)
    }

    /// Listens on the first address that can be bound, or on the sockets of this reactor's part. Returns at least one
    /// listener.
    ///
    /// # Errors
    ///
    /// That of the last address.
    pub fn listen<S: 'static>(
        &self,
        reactor: &mut Reactor<S>,
        listening: Listening<'_>,
        part: Part,
        mount: impl Fn(&mut Router<S>),
    ) -> io::Result<Vec<ListenerId>> {
        let with = |options: ListenOptions<'static>| -> io::Result<_> {
            let options = options.proxy_protocol(listening.proxy_protocol);
            if self.scheme() == Scheme::Http {
                return Ok(options);
            }
            let missing = || io::Error::other("a listener with TLS has no certificate");
            Ok(options.tls(listening.tls.ok_or_else(missing)?.clone()))
        };
        let addresses = match self {
            ListenAddress::Unix(address) => {
                let options = with(ListenOptions::new(address.to_string()))?;
                let listener = reactor.http(options, mount)?;
                if let Some(mode) = listening.unix_mode {
                    set_mode(Path::new(address.trim_start_matches("unix:")), mode)?;
                }
                return Ok(vec![listener]);
            }
            ListenAddress::Taken(sockets, _) => {
                let listen = |socket: &Arc<TcpListener>| {
                    reactor.http(with(socket.try_clone()?.into())?, &mount)
                };
                return part.of(sockets).map(listen).collect();
            }
            ListenAddress::Inet(addresses) | ListenAddress::Tls(addresses) => addresses,
        };
        let mut last = io::Error::other("the name has no address");
        for address in addresses {
            let options = with(ListenOptions::new(address.to_string()))?;
            match reactor.http(options, &mount) {
                Ok(listener) => return Ok(vec![listener]),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// Sets the permissions of a Unix socket. Clients need the right to write.
#[cfg(unix)]
pub fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;

    let permissions = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(path, permissions).map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("--unix-mode {mode:o}: {}: {error}", path.display()),
        )
    })
}

#[cfg(not(unix))]
fn set_mode(_: &Path, _: u32) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_socket_has_a_reactor_and_each_reactor_a_socket() {
        for sockets in 1..5 {
            let sockets: Vec<usize> = (0..sockets).collect();
            for count in 1..6 {
                let parts: Vec<Vec<usize>> = (0..count)
                    .map(|index| Part { index, count }.of(&sockets).copied().collect())
                    .collect();
                assert!(parts.iter().all(|part| !part.is_empty()), "{parts:?}");
                assert!(sockets.iter().all(|socket| {
                    let owners = parts.iter().flatten().filter(|other| *other == socket);
                    (1..=count.div_ceil(sockets.len())).contains(&owners.count())
                }));
            }
        }
    }
}
