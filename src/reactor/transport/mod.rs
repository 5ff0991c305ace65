//! What carries a connection's bytes, and what it wants of the loop.
//!
//! One variant a kind. Nothing above asks which one it is: the loop asks [`Transport::interest`] what
//! to wait for, [`Transport::may_hold_more`] whether a read has emptied it,
//! [`Transport::is_flushed`] whether the kernel has everything it was given, and
//! [`Transport::progress`] whether it is ready for the protocol's bytes. To add a transport: a variant
//! here, and the compiler asks for its answers.

pub(crate) mod connect;
pub(crate) mod endpoint;
pub(crate) mod listener;
pub(crate) mod lookup;
pub(crate) mod memory;

use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr};

use mio::{Interest, Registry, Token};

use crate::reactor::transport::memory::MemoryStream;

/// On these systems a read that gives less than was asked for has emptied the socket, so that the
/// next readiness is a new one.
const SHORT_READ_MEANS_EMPTY: bool = cfg!(any(
    target_os = "linux",
    target_os = "android",
    target_vendor = "apple",
    target_os = "freebsd"
));

/// How far a transport is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It connects or shakes hands: bytes wait.
    Handshaking,
    /// It carries the protocol's bytes.
    Ready,
}

pub(crate) enum Transport {
    Tcp(mio::net::TcpStream),
    #[cfg(unix)]
    Unix(mio::net::UnixStream),
    Memory(MemoryStream),
    /// Not connected yet.
    Pending,
}

/// Where a peer is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Peer {
    /// Its internet address.
    Inet(SocketAddr),
    /// On this machine, over a Unix socket.
    Unix,
    /// In this process, in a simulation.
    Memory,
    /// Not known, or not any more.
    Unknown,
}

impl Peer {
    /// The internet address, where there is one.
    pub fn inet(&self) -> Option<SocketAddr> {
        match self {
            Peer::Inet(address) => Some(*address),
            Peer::Unix | Peer::Memory | Peer::Unknown => None,
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

impl Transport {
    #[inline(always)]
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Transport::Tcp(stream) => stream.read(buffer),
            #[cfg(unix)]
            Transport::Unix(stream) => stream.read(buffer),
            Transport::Memory(stream) => stream.read(buffer),
            Transport::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    #[inline(always)]
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Transport::Tcp(stream) => stream.write(bytes),
            #[cfg(unix)]
            Transport::Unix(stream) => stream.write(bytes),
            Transport::Memory(stream) => stream.write(bytes),
            Transport::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// What the poll is to wait for. `has_output` when the kernel took less than there was.
    pub(crate) fn interest(&self, has_output: bool) -> Interest {
        let interest = match self {
            // Urgent data makes a read stop in front of it, so that it is short although more is
            // there; the kernel says so only to who asks. Source: tcp(7), "Sending and receiving
            // urgent data".
            #[cfg(any(target_os = "linux", target_os = "android"))]
            Transport::Tcp(_) => Interest::READABLE | Interest::PRIORITY,
            #[cfg(not(any(target_os = "linux", target_os = "android")))]
            Transport::Tcp(_) => Interest::READABLE,
            #[cfg(unix)]
            Transport::Unix(_) => Interest::READABLE,
            Transport::Memory(_) | Transport::Pending => Interest::READABLE,
        };
        match has_output {
            true => interest | Interest::WRITABLE,
            false => interest,
        }
    }

    /// Whether more may be there after a read that was asked for `asked` bytes and gave `read`. The
    /// caller then reads again before it waits for a new edge.
    #[inline(always)]
    pub(crate) fn may_hold_more(&self, read: usize, asked: usize) -> bool {
        match self {
            Transport::Tcp(_) | Transport::Memory(_) => !SHORT_READ_MEANS_EMPTY || asked <= read,
            // A read stops in front of a descriptor that the peer has passed, and nothing tells.
            #[cfg(unix)]
            Transport::Unix(_) => true,
            Transport::Pending => false,
        }
    }

    /// Whether the kernel has all bytes that `write` has taken.
    #[inline(always)]
    pub(crate) fn is_flushed(&self) -> bool {
        match self {
            Transport::Tcp(_) | Transport::Memory(_) => true,
            #[cfg(unix)]
            Transport::Unix(_) => true,
            Transport::Pending => false,
        }
    }

    /// Whether there is none yet.
    pub(crate) fn is_pending(&self) -> bool {
        matches!(self, Transport::Pending)
    }

    /// Whether it is ready for the protocol's bytes; a transport with a handshake of its own goes on
    /// with it here.
    ///
    /// # Errors
    ///
    /// When the handshake has failed.
    pub(crate) fn progress(&mut self) -> io::Result<Progress> {
        match self {
            Transport::Tcp(_) | Transport::Memory(_) => Ok(Progress::Ready),
            #[cfg(unix)]
            Transport::Unix(_) => Ok(Progress::Ready),
            Transport::Pending => Ok(Progress::Handshaking),
        }
    }

    pub(crate) fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Transport::Tcp(stream) => stream.write_vectored(slices),
            #[cfg(unix)]
            Transport::Unix(stream) => stream.write_vectored(slices),
            Transport::Memory(stream) => stream.write_vectored(slices),
            Transport::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Tells the peer that nothing more will come.
    pub(crate) fn shutdown_write(&mut self) -> io::Result<()> {
        match self {
            Transport::Tcp(stream) => stream.shutdown(Shutdown::Write),
            #[cfg(unix)]
            Transport::Unix(stream) => stream.shutdown(Shutdown::Write),
            Transport::Memory(stream) => {
                stream.shutdown_write();
                Ok(())
            }
            Transport::Pending => Ok(()),
        }
    }

    /// Makes the coming close a reset: what is unsent is thrown away and the peer is told so.
    pub(crate) fn reset_on_close(&mut self) {
        match self {
            // A failure here means the socket is gone already.
            Transport::Tcp(stream) => {
                let _ =
                    socket2::SockRef::from(&*stream).set_linger(Some(std::time::Duration::ZERO));
            }
            #[cfg(unix)]
            Transport::Unix(_) => {}
            Transport::Memory(stream) => stream.reset(),
            Transport::Pending => {}
        }
    }

    /// Has the poll watch it. A stream in memory tells its readiness by itself, so there is no
    /// registry in a simulation.
    pub(crate) fn register(
        &mut self,
        registry: Option<&Registry>,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        match (self, registry) {
            (Transport::Tcp(stream), Some(registry)) => registry.register(stream, token, interest),
            #[cfg(unix)]
            (Transport::Unix(stream), Some(registry)) => registry.register(stream, token, interest),
            (Transport::Memory(stream), _) => {
                stream.register(token.0);
                Ok(())
            }
            (Transport::Pending, _) => Ok(()),
            (Transport::Tcp(_), None) => Err(no_registry()),
            #[cfg(unix)]
            (Transport::Unix(_), None) => Err(no_registry()),
        }
    }

    /// Changes what the poll waits for, or the index that it reports.
    pub(crate) fn reregister(
        &mut self,
        registry: Option<&Registry>,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        match (self, registry) {
            (Transport::Tcp(stream), Some(registry)) => {
                registry.reregister(stream, token, interest)
            }
            #[cfg(unix)]
            (Transport::Unix(stream), Some(registry)) => {
                registry.reregister(stream, token, interest)
            }
            (Transport::Memory(stream), _) => {
                stream.register(token.0);
                Ok(())
            }
            (Transport::Pending, _) => Ok(()),
            (Transport::Tcp(_), None) => Err(no_registry()),
            #[cfg(unix)]
            (Transport::Unix(_), None) => Err(no_registry()),
        }
    }

    pub(crate) fn peer(&self) -> Peer {
        match self {
            Transport::Tcp(stream) => stream.peer_addr().map_or(Peer::Unknown, Peer::Inet),
            #[cfg(unix)]
            Transport::Unix(_) => Peer::Unix,
            Transport::Memory(_) => Peer::Memory,
            Transport::Pending => Peer::Unknown,
        }
    }
}

fn no_registry() -> io::Error {
    io::Error::other("a socket of the kernel in a simulation")
}
