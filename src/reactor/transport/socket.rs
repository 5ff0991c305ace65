//! Sockets: the kernel's streams and their stand-ins in memory, without any encryption.
//!
//! One variant for each kind. `read` and `write` run for every event, so this is an enum and not a
//! trait object: a match on the kind can be inlined.

use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr};

use mio::{Interest, Registry, Token};

use crate::reactor::transport::memory::MemoryStream;

/// On these systems a read that returns less than was asked for has emptied the socket, and the
/// kernel reports the next bytes. Source: epoll(7), question 9; kqueue(2), `EV_CLEAR`.
const SHORT_READ_MEANS_EMPTY: bool = cfg!(any(
    target_os = "linux",
    target_os = "android",
    target_vendor = "apple",
    target_os = "freebsd"
));

pub(crate) enum Socket {
    Tcp(mio::net::TcpStream),
    #[cfg(unix)]
    Unix(mio::net::UnixStream),
    Memory(MemoryStream),
    /// Stands for the socket of a connection that connects. The sockets that are tried belong to
    /// its attempts.
    Pending,
}

/// The address of a peer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Peer {
    /// Its internet address.
    Inet(SocketAddr),
    /// On this machine, over a Unix socket.
    Unix,
    /// In this process, in a simulation.
    Memory,
    /// Not known: the connection is not made yet or has ended, or the id is stale.
    Unknown,
}

impl Peer {
    /// Returns the internet address, if it has one.
    pub fn inet(&self) -> Option<SocketAddr> {
        match self {
            Peer::Inet(address) => Some(*address),
            Peer::Unix | Peer::Memory | Peer::Unknown => None,
        }
    }

    /// Whether it is on this machine, as far as its address says.
    pub(crate) fn is_local(&self) -> bool {
        match self {
            Peer::Inet(address) => address.ip().to_canonical().is_loopback(),
            Peer::Unix | Peer::Memory => true,
            Peer::Unknown => false,
        }
    }
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Peer::Inet(address) => address.fmt(f),
            Peer::Unix => f.write_str("unix"),
            Peer::Memory => f.write_str("memory"),
            Peer::Unknown => f.write_str("unknown"),
        }
    }
}

impl Socket {
    #[inline(always)]
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.read(buffer),
            #[cfg(unix)]
            Socket::Unix(stream) => stream.read(buffer),
            Socket::Memory(stream) => stream.read(buffer),
            Socket::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    #[inline(always)]
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.write(bytes),
            #[cfg(unix)]
            Socket::Unix(stream) => stream.write(bytes),
            Socket::Memory(stream) => stream.write(bytes),
            Socket::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// The readiness that the poll is to report. `has_output` when the kernel took less than it was
    /// given.
    pub(crate) fn interest(&self, has_output: bool) -> Interest {
        let interest = match self {
            // A read stops in front of urgent data, and is short although more bytes are there. The
            // kernel reports urgent data only with this interest; without it the connection would
            // wait for an edge that does not come. Source: tcp(7), `MSG_OOB`.
            #[cfg(any(target_os = "linux", target_os = "android"))]
            Socket::Tcp(_) => Interest::READABLE | Interest::PRIORITY,
            #[cfg(not(any(target_os = "linux", target_os = "android")))]
            Socket::Tcp(_) => Interest::READABLE,
            #[cfg(unix)]
            Socket::Unix(_) => Interest::READABLE,
            Socket::Memory(_) | Socket::Pending => Interest::READABLE,
        };
        match has_output {
            true => interest | Interest::WRITABLE,
            false => interest,
        }
    }

    /// Whether more bytes may be there after a read that was asked for `asked` bytes and returned
    /// `read`. The caller then reads again before it waits for a new edge.
    #[inline(always)]
    pub(crate) fn may_hold_more(&self, read: usize, asked: usize) -> bool {
        match self {
            Socket::Tcp(_) | Socket::Memory(_) => !SHORT_READ_MEANS_EMPTY || asked <= read,
            // A read stops in front of a file descriptor that the peer has passed, and the kernel
            // does not report that. Source: unix(7), `SCM_RIGHTS`.
            #[cfg(unix)]
            Socket::Unix(_) => true,
            Socket::Pending => false,
        }
    }

    /// Whether there is no socket yet.
    pub(crate) fn is_pending(&self) -> bool {
        matches!(self, Socket::Pending)
    }

    pub(crate) fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.write_vectored(slices),
            #[cfg(unix)]
            Socket::Unix(stream) => stream.write_vectored(slices),
            Socket::Memory(stream) => stream.write_vectored(slices),
            Socket::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Ends our side of the stream (half close): the peer reads an end of stream, and may still
    /// send.
    pub(crate) fn shutdown_write(&mut self) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => stream.shutdown(Shutdown::Write),
            #[cfg(unix)]
            Socket::Unix(stream) => stream.shutdown(Shutdown::Write),
            Socket::Memory(stream) => {
                stream.shutdown_write();
                Ok(())
            }
            Socket::Pending => Ok(()),
        }
    }

    /// Makes the next close of the socket a reset: the kernel throws unsent bytes away, and keeps
    /// no TIME_WAIT state. Source: socket(7), `SO_LINGER`.
    pub(crate) fn reset_on_close(&mut self) {
        match self {
            // An error here means that the socket has failed already.
            Socket::Tcp(stream) => {
                let _ =
                    socket2::SockRef::from(&*stream).set_linger(Some(std::time::Duration::ZERO));
            }
            #[cfg(unix)]
            Socket::Unix(_) => {}
            Socket::Memory(stream) => stream.reset(),
            Socket::Pending => {}
        }
    }

    /// Registers the socket with the poll. There is no registry in a simulation, where a stream
    /// in memory reports its readiness itself.
    pub(crate) fn register(
        &mut self,
        registry: Option<&Registry>,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        match (self, registry) {
            (Socket::Tcp(stream), Some(registry)) => registry.register(stream, token, interest),
            #[cfg(unix)]
            (Socket::Unix(stream), Some(registry)) => registry.register(stream, token, interest),
            (Socket::Memory(stream), _) => stream.register(token.0, interest),
            (Socket::Pending, _) => Ok(()),
            (Socket::Tcp(_), None) => Err(no_registry()),
            #[cfg(unix)]
            (Socket::Unix(_), None) => Err(no_registry()),
        }
    }

    /// Changes the readiness that the poll reports, or the index that it reports it by.
    pub(crate) fn reregister(
        &mut self,
        registry: Option<&Registry>,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        match (self, registry) {
            (Socket::Tcp(stream), Some(registry)) => registry.reregister(stream, token, interest),
            #[cfg(unix)]
            (Socket::Unix(stream), Some(registry)) => registry.reregister(stream, token, interest),
            (Socket::Memory(stream), _) => stream.reregister(token.0, interest),
            (Socket::Pending, _) => Ok(()),
            (Socket::Tcp(_), None) => Err(no_registry()),
            #[cfg(unix)]
            (Socket::Unix(_), None) => Err(no_registry()),
        }
    }

    pub(crate) fn peer(&self) -> Peer {
        match self {
            Socket::Tcp(stream) => stream.peer_addr().map_or(Peer::Unknown, Peer::Inet),
            #[cfg(unix)]
            Socket::Unix(_) => Peer::Unix,
            Socket::Memory(_) => Peer::Memory,
            Socket::Pending => Peer::Unknown,
        }
    }
}

fn no_registry() -> io::Error {
    io::Error::other("a socket of the kernel in a simulation")
}
