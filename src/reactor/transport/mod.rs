//! What carries a connection's bytes: one variant a kind, the same four operations.

pub(crate) mod connect;
pub(crate) mod listener;
pub(crate) mod lookup;
pub(crate) mod memory;

use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr};

use mio::{Interest, Registry, Token};

use crate::reactor::transport::memory::MemoryStream;

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

    pub(crate) fn register(
        &mut self,
        registry: &Registry,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        match self {
            Transport::Tcp(stream) => registry.register(stream, token, interest),
            #[cfg(unix)]
            Transport::Unix(stream) => registry.register(stream, token, interest),
            Transport::Memory(stream) => {
                stream.register(token.0);
                Ok(())
            }
            Transport::Pending => Ok(()),
        }
    }

    pub(crate) fn reregister(
        &mut self,
        registry: &Registry,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        match self {
            Transport::Tcp(stream) => registry.reregister(stream, token, interest),
            #[cfg(unix)]
            Transport::Unix(stream) => registry.reregister(stream, token, interest),
            Transport::Memory(_) | Transport::Pending => Ok(()),
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
