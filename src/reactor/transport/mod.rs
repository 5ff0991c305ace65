//! Transports: what carries a connection's bytes, and its demands on the loop.
//!
//! A transport is a socket, or TLS over one. The loop does not ask which it has. It asks
//! [`Transport::interest`] which readiness to wait for, [`Transport::may_hold_more`] whether a read
//! has emptied it, [`Transport::is_flushed`] whether the kernel has all bytes that were written,
//! and [`Transport::progress`] whether the transport is ready for the protocol's bytes. To add a
//! transport, add a variant here; the compiler then asks for its answers.
//!
//! Places that the compiler does not name know that a transport may have a handshake and a buffer:
//! `begin::progress`, `end::fail_transport` and `end::end_handshake`, where a handshake ends with an
//! alert;
//! `send::flush`, which sends the goodbye before the half close; `read::read`, which lists a
//! connection whose read has made output.
//!
//! An enum and not a trait object: `read` and `write` run for every event, and a match on the kind
//! can be inlined.

#[cfg(unix)]
pub(crate) mod command;
pub(crate) mod connect;
pub(crate) mod datagram;
pub(crate) mod endpoint;
pub(crate) mod inherited;
pub(crate) mod listener;
pub(crate) mod lookup;
pub(crate) mod memory;
pub(crate) mod memory_datagrams;
#[cfg(unix)]
pub(crate) mod pipe;
pub(crate) mod proxy;
pub(crate) mod socket;
#[cfg(feature = "tls")]
pub(crate) mod tls;
pub(crate) mod tunnel;

use std::io::{self, IoSlice};

use mio::{Interest, Registry, Token};

use self::socket::{Peer, Socket};
#[cfg(feature = "tls")]
use self::tls::stream::TlsStream;

/// Whether a transport is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It connects or shakes hands; the protocol's bytes wait in the queue.
    Handshaking,
    /// It carries the protocol's bytes.
    Ready,
}

pub(crate) enum Transport {
    Plain(Socket),
    #[cfg(feature = "tls")]
    Tls(Box<TlsStream>),
}

impl Transport {
    #[inline(always)]
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Transport::Plain(socket) => socket.read(buffer),
            #[cfg(feature = "tls")]
            Transport::Tls(stream) => stream.read(buffer),
        }
    }

    #[inline(always)]
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Transport::Plain(socket) => socket.write(bytes),
            #[cfg(feature = "tls")]
            Transport::Tls(stream) => stream.write(bytes),
        }
    }

    /// The readiness that the poll is to report. `has_output` when the kernel took less than it was
    /// given.
    pub(crate) fn interest(&self, has_output: bool) -> Interest {
        match self {
            Transport::Plain(socket) => socket.interest(has_output),
            #[cfg(feature = "tls")]
            Transport::Tls(stream) => stream.interest(has_output),
        }
    }

    /// Whether more bytes may be there after a read that was asked for `asked` bytes and returned
    /// `read`. The caller then reads again before it waits for a new edge.
    #[inline(always)]
    pub(crate) fn may_hold_more(&self, read: usize, asked: usize) -> bool {
        match self {
            Transport::Plain(socket) => socket.may_hold_more(read, asked),
            #[cfg(feature = "tls")]
            Transport::Tls(stream) => stream.may_hold_more(),
        }
    }

    /// Whether the stream ended without the goodbye that its transport has, so that a part of it
    /// may be missing.
    pub(crate) fn is_truncated(&self) -> bool {
        match self {
            Transport::Plain(_) => false,
            #[cfg(feature = "tls")]
            Transport::Tls(stream) => stream.is_truncated(),
        }
    }

    /// Whether the kernel has all bytes that `write` has taken.
    #[inline(always)]
    pub(crate) fn is_flushed(&self) -> bool {
        self.unsent_bytes() == 0
    }

    /// Bytes that `write` has taken, or that the transport has made itself, and that the kernel
    /// does not have.
    #[inline(always)]
    pub(crate) fn unsent_bytes(&self) -> usize {
        match self {
            Transport::Plain(_) => 0,
            #[cfg(feature = "tls")]
            Transport::Tls(stream) => stream.unsent_bytes(),
        }
    }

    /// Offers the kernel what [`unsent_bytes`](Self::unsent_bytes) counts. Returns whether it has
    /// everything.
    ///
    /// # Errors
    ///
    /// The kernel's.
    #[inline(always)]
    pub(crate) fn flush(&mut self) -> io::Result<bool> {
        match self {
            Transport::Plain(_) => Ok(true),
            #[cfg(feature = "tls")]
            Transport::Tls(stream) => stream.flush(),
        }
    }

    /// Sends the goodbye of the transport itself, where it has one, behind everything that was
    /// written. Returns whether the kernel has it.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub(crate) fn say_goodbye(&mut self) -> io::Result<bool> {
        match self {
            Transport::Plain(_) => Ok(true),
            #[cfg(feature = "tls")]
            Transport::Tls(stream) => stream.say_goodbye(),
        }
    }

    /// Whether a handshake of the transport itself has sent something, which the peer has to answer.
    pub(crate) fn has_sent_flight(&self) -> bool {
        match self {
            Transport::Plain(_) => false,
            #[cfg(feature = "tls")]
            Transport::Tls(stream) => stream.has_sent_flight(),
        }
    }

    /// Ends the handshake of the transport itself, if that goes on. Returns whether the transport has a
    /// word for the peer, which [`flush`](Self::flush) sends.
    pub(crate) fn cancel_handshake(&mut self) -> bool {
        match self {
            Transport::Plain(_) => false,
            #[cfg(feature = "tls")]
            Transport::Tls(stream) => stream.cancel_handshake(),
        }
    }

    /// Ends the handshake of the transport itself without a word: what comes is thrown away.
    pub(crate) fn forget_handshake(&mut self) {
        match self {
            Transport::Plain(_) => {}
            #[cfg(feature = "tls")]
            Transport::Tls(stream) => stream.forget_handshake(),
        }
    }

    /// The memory of the transport beside its place, in bytes.
    #[inline]
    pub(crate) fn held_bytes(&self) -> usize {
        match self {
            Transport::Plain(_) => 0,
            #[cfg(feature = "tls")]
            Transport::Tls(stream) => stream.held_bytes(),
        }
    }

    /// Whether the connection has no socket yet.
    pub(crate) fn is_pending(&self) -> bool {
        match self {
            Transport::Plain(socket) => socket.is_pending(),
            #[cfg(feature = "tls")]
            Transport::Tls(stream) => stream.is_pending(),
        }
    }

    #[inline]
    pub(crate) fn speaks_tls(&self) -> bool {
        match self {
            Transport::Plain(_) => false,
            #[cfg(feature = "tls")]
            Transport::Tls(_) => true,
        }
    }

    /// Whether a handshake of TLS was done, and has resumed an earlier session; `None` without TLS.
    pub(crate) fn is_resumed(&self) -> Option<bool> {
        match self {
            Transport::Plain(_) => None,
            #[cfg(feature = "tls")]
            Transport::Tls(stream) => Some(stream.is_resumed()),
        }
    }

    /// Gives the transport of a connection that connects its socket.
    pub(crate) fn set_socket(&mut self, socket: Socket) {
        match self {
            Transport::Plain(place) => *place = socket,
            #[cfg(feature = "tls")]
            Transport::Tls(stream) => stream.set_socket(socket),
        }
    }

    /// Whether the transport cannot carry the protocol's bytes yet.
    #[inline]
    pub(crate) fn is_handshaking(&self) -> bool {
        match self {
            Transport::Plain(socket) => socket.is_pending(),
            #[cfg(feature = "tls")]
            Transport::Tls(stream) => stream.is_handshaking(),
        }
    }

    /// Whether the transport is ready for the protocol's bytes. A transport with a handshake of its
    /// own goes on with it here.
    ///
    /// # Errors
    ///
    /// The error of a handshake that has failed.
    pub(crate) fn progress(&mut self) -> io::Result<Progress> {
        let is_ready = match self {
            Transport::Plain(socket) => !socket.is_pending(),
            #[cfg(feature = "tls")]
            Transport::Tls(stream) => stream.progress()?,
        };
        Ok(match is_ready {
            true => Progress::Ready,
            false => Progress::Handshaking,
        })
    }

    pub(crate) fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Transport::Plain(socket) => socket.write_vectored(slices),
            #[cfg(feature = "tls")]
            Transport::Tls(stream) => stream.write_vectored(slices),
        }
    }

    /// Ends our side of the stream (half close): the peer reads an end of stream, and may still
    /// send.
    pub(crate) fn shutdown_write(&mut self) -> io::Result<()> {
        match self {
            Transport::Plain(socket) => socket.shutdown_write(),
            #[cfg(feature = "tls")]
            Transport::Tls(stream) => stream.shutdown_write(),
        }
    }

    /// Makes the next close of the socket a reset: the kernel throws unsent bytes away, and keeps
    /// no TIME_WAIT state. Source: socket(7), `SO_LINGER`.
    pub(crate) fn reset_on_close(&mut self) {
        match self {
            Transport::Plain(socket) => socket.reset_on_close(),
            #[cfg(feature = "tls")]
            Transport::Tls(stream) => stream.reset_on_close(),
        }
    }

    /// Registers the transport with the poll. There is no registry in a simulation, where a stream
    /// in memory reports its readiness itself.
    pub(crate) fn register(
        &mut self,
        registry: Option<&Registry>,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        match self {
            Transport::Plain(socket) => socket.register(registry, token, interest),
            #[cfg(feature = "tls")]
            Transport::Tls(stream) => stream.register(registry, token, interest),
        }
    }

    /// Changes the readiness that the poll reports, or the index that it reports it by.
    pub(crate) fn reregister(
        &mut self,
        registry: Option<&Registry>,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        match self {
            Transport::Plain(socket) => socket.reregister(registry, token, interest),
            #[cfg(feature = "tls")]
            Transport::Tls(stream) => stream.reregister(registry, token, interest),
        }
    }

    pub(crate) fn peer(&self) -> Peer {
        match self {
            Transport::Plain(socket) => socket.peer(),
            #[cfg(feature = "tls")]
            Transport::Tls(stream) => stream.peer(),
        }
    }
}
