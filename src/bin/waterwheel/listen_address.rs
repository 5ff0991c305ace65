//! Addresses to listen on, over TCP, TLS or a Unix socket.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};

use waterwheel::tls::ServerTls;
use waterwheel::{ListenOptions, ListenerId, Reactor, Router};

/// The beginning of an address whose clients speak TLS.
pub const TLS: &str = "tls:";

/// An address to listen on. A name is resolved once, so that the access rules are decided from the
/// same addresses that the listener binds.
#[derive(Clone)]
pub enum ListenAddress<'o> {
    Inet(Vec<SocketAddr>),
    /// With TLS.
    Tls(Vec<SocketAddr>),
    /// With the `unix:` in front.
    Unix(&'o str),
}

/// How a program listens.
#[derive(Clone, Copy, Default)]
pub struct Listening<'o> {
    pub tls: Option<&'o ServerTls>,
    /// The permissions of a Unix socket.
    pub unix_mode: Option<u32>,
    pub proxy_protocol: bool,
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
    /// # Errors
    ///
    /// When the name has no address.
    pub fn of(address: &'o str) -> io::Result<ListenAddress<'o>> {
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

    /// This address of the network, with TLS if `self` has it.
    pub fn at(&self, address: SocketAddr) -> ListenAddress<'static> {
        match self {
            ListenAddress::Tls(_) => ListenAddress::Tls(vec![address]),
            ListenAddress::Inet(_) | ListenAddress::Unix(_) => ListenAddress::Inet(vec![address]),
        }
    }

    pub fn is_loopback(&self) -> bool {
        match self {
            ListenAddress::Inet(addresses) | ListenAddress::Tls(addresses) => {
                addresses.iter().all(|it| it.ip().is_loopback())
            }
            ListenAddress::Unix(_) => false,
        }
    }

    pub fn is_unix(&self) -> bool {
        matches!(self, ListenAddress::Unix(_))
    }

    pub fn scheme(&self) -> Scheme {
        match self {
            ListenAddress::Tls(_) => Scheme::Https,
            ListenAddress::Inet(_) | ListenAddress::Unix(_) => Scheme::Http,
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

    /// Listens on the first address that can be bound.
    ///
    /// # Errors
    ///
    /// That of the last address.
    pub fn listen<S: 'static>(
        &self,
        reactor: &mut Reactor<S>,
        listening: Listening<'_>,
        mount: impl Fn(&mut Router<S>),
    ) -> io::Result<ListenerId> {
        let at = |address: &str| {
            ListenOptions::new(address.to_owned()).proxy_protocol(listening.proxy_protocol)
        };
        let addresses = match self {
            ListenAddress::Unix(address) => {
                let listener = reactor.http(at(address), mount)?;
                if let Some(mode) = listening.unix_mode {
                    set_mode(address, mode)?;
                }
                return Ok(listener);
            }
            ListenAddress::Inet(addresses) | ListenAddress::Tls(addresses) => addresses,
        };
        let mut last = io::Error::other("the name has no address");
        for address in addresses {
            let mut options = at(&address.to_string());
            if self.scheme() == Scheme::Https {
                let missing = || io::Error::other("a listener with TLS has no certificate");
                options = options.tls(listening.tls.ok_or_else(missing)?.clone());
            }
            match reactor.http(options, &mount) {
                Ok(listener) => return Ok(listener),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// Sets the permissions of a Unix socket. Clients need the right to write.
#[cfg(unix)]
fn set_mode(address: &str, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;

    let path = address.trim_start_matches("unix:");
    let permissions = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(path, permissions).map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("--unix-mode {mode:o}: {path}: {error}"),
        )
    })
}

#[cfg(not(unix))]
fn set_mode(_: &str, _: u32) -> io::Result<()> {
    Ok(())
}
