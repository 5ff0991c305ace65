//! Sockets: the kernel's streams and their stand-ins in memory, without any encryption.
//!
//! One variant for each kind. `read` and `write` run for every event, so this is an enum and not a
//! trait object: a match on the kind can be inlined.

use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr};

use mio::{Interest, Registry, Token};

use crate::reactor::transport::memory::MemoryStream;
#[cfg(unix)]
use crate::reactor::transport::pipe::PipeWriter;

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
    /// The standard input of a child process.
    #[cfg(unix)]
    PipeWriter(PipeWriter),
    /// The standard output or error of a child process.
    #[cfg(unix)]
    PipeReader(mio::unix::pipe::Receiver),
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
    /// A child process, over a pipe.
    Process,
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
            Peer::Unix | Peer::Process | Peer::Memory | Peer::Unknown => None,
        }
    }

    /// Whether it is on this machine, as far as its address says.
    pub(crate) fn is_local(&self) -> bool {
        match self {
            Peer::Inet(address) => address.ip().to_canonical().is_loopback(),
            Peer::Unix | Peer::Process | Peer::Memory => true,
            Peer::Unknown => false,
        }
    }
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Peer::Inet(address) => address.fmt(f),
            Peer::Unix => f.write_str("unix"),
            Peer::Process => f.write_str("process"),
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
            #[cfg(unix)]
            Socket::PipeWriter(writer) => Err(writer.read_end()),
            #[cfg(unix)]
            Socket::PipeReader(reader) => reader.read(buffer),
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
            #[cfg(unix)]
            Socket::PipeWriter(writer) => writer.write(bytes),
            #[cfg(unix)]
            Socket::PipeReader(_) => Err(io::ErrorKind::BrokenPipe.into()),
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
            #[cfg(unix)]
            Socket::PipeReader(_) => Interest::READABLE,
            // The poll reports its end in any case, and a pipe that is writable when it is registered costs one
            // report.
            #[cfg(unix)]
            Socket::PipeWriter(_) => return Interest::WRITABLE,
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
            #[cfg(unix)]
            Socket::PipeReader(_) => !SHORT_READ_MEANS_EMPTY || asked <= read,
            #[cfg(unix)]
            Socket::PipeWriter(_) => false,
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
            #[cfg(unix)]
            Socket::PipeWriter(writer) => writer.write_vectored(slices),
            #[cfg(unix)]
            Socket::PipeReader(_) => Err(io::ErrorKind::BrokenPipe.into()),
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
            // The error says that the peer has nothing to send, for which one would linger.
            #[cfg(unix)]
            Socket::PipeWriter(writer) => {
                writer.close();
                Err(io::ErrorKind::NotConnected.into())
            }
            #[cfg(unix)]
            Socket::PipeReader(_) => Err(io::ErrorKind::NotConnected.into()),
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
            Socket::Unix(_) | Socket::PipeWriter(_) | Socket::PipeReader(_) => {}
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
            #[cfg(unix)]
            (Socket::PipeReader(reader), Some(registry)) => {
                registry.register(reader, token, interest)
            }
            #[cfg(unix)]
            (Socket::PipeWriter(writer), Some(registry)) => {
                writer.register(registry, token, interest)
            }
            (Socket::Memory(stream), _) => stream.register(token.0, interest),
            (Socket::Pending, _) => Ok(()),
            (Socket::Tcp(_), None) => Err(no_registry()),
            #[cfg(unix)]
            (Socket::Unix(_) | Socket::PipeReader(_) | Socket::PipeWriter(_), None) => {
                Err(no_registry())
            }
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
            #[cfg(unix)]
            (Socket::PipeReader(reader), Some(registry)) => {
                registry.reregister(reader, token, interest)
            }
            #[cfg(unix)]
            (Socket::PipeWriter(writer), Some(registry)) => {
                writer.reregister(registry, token, interest)
            }
            (Socket::Memory(stream), _) => stream.reregister(token.0, interest),
            (Socket::Pending, _) => Ok(()),
            (Socket::Tcp(_), None) => Err(no_registry()),
            #[cfg(unix)]
            (Socket::Unix(_) | Socket::PipeReader(_) | Socket::PipeWriter(_), None) => {
                Err(no_registry())
            }
        }
    }

    pub(crate) fn peer(&self) -> Peer {
        match self {
            Socket::Tcp(stream) => stream.peer_addr().map_or(Peer::Unknown, Peer::Inet),
            #[cfg(unix)]
            Socket::Unix(_) => Peer::Unix,
            #[cfg(unix)]
            Socket::PipeWriter(_) | Socket::PipeReader(_) => Peer::Process,
            Socket::Memory(_) => Peer::Memory,
            Socket::Pending => Peer::Unknown,
        }
    }
}

fn no_registry() -> io::Error {
    io::Error::other("a socket of the kernel in a simulation")
}
