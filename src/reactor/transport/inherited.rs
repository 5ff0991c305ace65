//! Listening sockets that were made elsewhere: by systemd, by an earlier process, or by the application.

use std::io;
use std::path::PathBuf;

use socket2::{Domain, SockRef, Socket, Type};

use crate::reactor::config::Config;

use super::listener::{Acceptor, Address, set_tcp_options};

/// A socket that may listen already. It is examined when a reactor takes it, which returns the error.
#[derive(Debug)]
pub(crate) struct Inherited(Socket);

impl Inherited {
    pub(crate) fn new(socket: impl Into<Socket>) -> Inherited {
        Inherited(socket.into())
    }

    /// The address as text, for errors and log lines.
    pub(crate) fn name(&self) -> String {
        match address(&SockRef::from(&self.0)) {
            Ok(address) => address.to_string(),
            Err(_) => "an inherited socket".to_owned(),
        }
    }

    /// Takes a duplicate of the socket, which does not block and has the options of this reactor's sockets.
    ///
    /// # Errors
    ///
    /// When the socket is closed, does not listen, or carries datagrams.
    pub(crate) fn acceptor(&self, config: &Config) -> io::Result<(Acceptor, Address)> {
        let socket = self.0.try_clone()?;
        if socket.r#type()? != Type::STREAM {
            return Err(unfit("the inherited socket is not a stream socket"));
        }
        let address = address(&SockRef::from(&socket))?;
        #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
        if !socket.is_listener()? {
            return Err(unfit("the inherited socket does not listen"));
        }
        socket.set_nonblocking(true)?;
        let acceptor = match &address {
            Address::Inet(_) => {
                set_tcp_options(&socket, config)?;
                Acceptor::Tcp(mio::net::TcpListener::from_std(socket.into()))
            }
            #[cfg(unix)]
            Address::Unix(_) => {
                let listener = std::os::unix::net::UnixListener::from(socket);
                // The maker of the file decides when it is removed.
                Acceptor::Unix(mio::net::UnixListener::from_std(listener), None)
            }
            #[cfg(not(unix))]
            Address::Unix(_) => return Err(unfit("Unix sockets need a Unix system")),
        };
        Ok((acceptor, address))
    }
}

fn unfit(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

/// The address that a socket is bound to. A Unix socket without a file has the path `@NAME`, as `ss` shows it.
fn address(socket: &SockRef<'_>) -> io::Result<Address> {
    let address = socket.local_addr()?;
    if let Some(inet) = address.as_socket() {
        return Ok(Address::Inet(inet));
    }
    if address.domain() != Domain::UNIX {
        return Err(unfit(
            "the inherited socket is neither of the internet nor a Unix socket",
        ));
    }
    #[cfg(unix)]
    if let Some(path) = address.as_pathname() {
        return Ok(Address::Unix(path.to_owned()));
    }
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Some(name) = address.as_abstract_namespace() {
        let name = String::from_utf8_lossy(name);
        return Ok(Address::Unix(PathBuf::from(format!("@{name}"))));
    }
    Ok(Address::Unix(PathBuf::from("@")))
}
