//! The end of a connection: who ended it, why, and with which close code and reason.

use std::fmt::Write;
use std::{fmt, io};

use crate::protocol::framing::FramingError;
use crate::protocol::http::{self, HttpError, TunnelError};
use crate::protocol::proxy_header::ProxyHeaderError;
use crate::protocol::websocket;

use super::outcome::{Outcome, Sealed};
use super::tls_error::{TlsError, TlsFailure};

/// The side that ended a connection, and its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseCause {
    /// The peer closed, with its protocol's goodbye or by ending the stream.
    Peer,
    /// The application closed it.
    Local,
    /// The reactor closed it in [`drain`](crate::Reactor::drain).
    Drained,
    /// This deadline passed.
    TimedOut(Deadline),
    /// The peer broke the WebSocket protocol.
    Protocol(websocket::Error),
    /// The peer broke HTTP/1.1.
    Http(HttpError),
    /// The peer of a raw stream sent a line or a frame above its limit.
    Framing(FramingError),
    /// The server did not agree to our request for a WebSocket.
    Upgrade(http::upgrade::ResponseError),
    /// The peer read too slowly: its queue was above the high watermark, and the route's policy is
    /// [`Overflow::Close`](crate::Overflow::Close).
    SlowConsumer,
    /// All connections together held more than
    /// [`memory_bytes_max`](crate::Config::memory_bytes_max), and this one was among those that held most.
    MemoryLimit,
    /// We closed it, because it had reached [`age_max`](crate::ConnectionOptions::age_max).
    AgeLimit,
    /// The connection did not begin with the header that a listener with
    /// [`proxy_protocol`](crate::ListenOptions::proxy_protocol) requires. No callback is called for it.
    ProxyHeader(ProxyHeaderError),
    /// The address of the client has as many connections as
    /// [`connections_per_address_max`](crate::Config::connections_per_address_max) or
    /// [`handshakes_per_second_max`](crate::Config::handshakes_per_second_max) allows. No callback is called for
    /// the connection.
    AddressLimit,
    /// A callback panicked.
    Panicked,
    /// A callback returned an error: see [`Outcome`](crate::Outcome).
    CallbackError,
    /// The proxy through which we connect has not made a tunnel.
    Tunnel(TunnelError),
    /// The name of the server could not be looked up. [`Close::reason`] has the name and the system's
    /// words.
    Lookup,
    /// The handshake of TLS failed, or a record broke its rules. [`Close::reason`] has the details.
    Tls(TlsError),
    /// The transport failed: the kernel's error, such as a refused or reset connection.
    /// [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) when a raw stream over TLS ended without the
    /// peer's `close_notify`, so that its end may be missing.
    Io(io::ErrorKind),
}

impl CloseCause {
    /// The cause of an error of a transport, with the text for [`Close::reason`], which is empty for
    /// an error of the kernel.
    pub(crate) fn of_transport(error: &io::Error) -> (CloseCause, &str) {
        let failure: Option<&TlsFailure> = error.get_ref().and_then(|error| error.downcast_ref());
        match failure {
            Some(failure) => (CloseCause::Tls(failure.error()), failure.reason()),
            None => (CloseCause::Io(error.kind()), ""),
        }
    }

    /// Whether `on_error` is called: the peer broke the protocol, a deadline passed or the
    /// transport failed.
    pub(crate) fn is_failure(&self) -> bool {
        match self {
            CloseCause::Protocol(_)
            | CloseCause::Http(_)
            | CloseCause::Framing(_)
            | CloseCause::Upgrade(_)
            | CloseCause::ProxyHeader(_)
            | CloseCause::Tunnel(_)
            | CloseCause::Lookup
            | CloseCause::Tls(_)
            | CloseCause::Io(_)
            | CloseCause::TimedOut(_) => true,
            CloseCause::Peer
            | CloseCause::Local
            | CloseCause::Drained
            | CloseCause::SlowConsumer
            | CloseCause::MemoryLimit
            | CloseCause::AddressLimit
            | CloseCause::AgeLimit
            | CloseCause::Panicked
            | CloseCause::CallbackError => false,
        }
    }
}

/// The deadlines that a connection can have; each names the event that must come before it. The
/// durations are fields of [`Config`](crate::Config) and
/// [`ConnectionOptions`](crate::ConnectionOptions).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Deadline {
    /// The connection to another server is made, with all addresses of its name, the tunnel of a proxy and the TLS
    /// handshake: `connect_timeout`.
    Connect,
    /// On a connection that a listener has accepted, the header of the PROXY protocol has come, where one is required,
    /// and the TLS handshake is done; after `Reactor::start_tls`, the TLS handshake is
    /// done, in either role: `head_timeout`.
    Handshake,
    /// A whole request head, or the head of the answer to our request, as for a WebSocket, has come: `head_timeout`.
    Head,
    /// A whole request body has come: `body_timeout`.
    Body,
    /// The next request of a kept-alive connection begins: `keep_alive_timeout`.
    KeepAlive,
    /// The application answers a request that it took with `reply_later`, or decides on one that it
    /// took with `decide_later`: `reply_timeout`.
    Reply,
    /// Bytes come on a raw connection: `idle_timeout`.
    Idle,
    /// Our next ping or heartbeat comment is due. Passing it is not an error.
    Heartbeat,
    /// A whole frame comes after our ping: `pong_timeout`.
    Pong,
    /// The connection ends politely: `age_max`. Passing it is not an error.
    Age,
    /// The peer takes some of its queued bytes: `write_timeout`.
    Write,
    /// The closing handshake or the lingering ends: `close_timeout`; at most a second after a TLS handshake that
    /// has failed.
    Close,
}

impl fmt::Display for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Deadline::Connect => "connect",
            Deadline::Handshake => "handshake",
            Deadline::Head => "head",
            Deadline::Body => "body",
            Deadline::KeepAlive => "keep-alive",
            Deadline::Reply => "reply",
            Deadline::Idle => "idle",
            Deadline::Heartbeat => "heartbeat",
            Deadline::Pong => "pong",
            Deadline::Age => "age",
            Deadline::Write => "write",
            Deadline::Close => "close",
        })
    }
}

impl fmt::Display for CloseCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CloseCause::Peer => f.write_str("closed by peer"),
            CloseCause::Local => f.write_str("closed by us"),
            CloseCause::Drained => f.write_str("closed by us, draining"),
            CloseCause::TimedOut(deadline) => write!(f, "{deadline} deadline passed"),
            CloseCause::Protocol(error) => write!(f, "protocol error: {error}"),
            CloseCause::Http(error) => write!(f, "not HTTP/1.1: {error}"),
            CloseCause::Framing(error) => error.fmt(f),
            CloseCause::Upgrade(error) => error.fmt(f),
            CloseCause::SlowConsumer => f.write_str("slow consumer"),
            CloseCause::MemoryLimit => f.write_str("ended because memory was short"),
            CloseCause::ProxyHeader(error) => error.fmt(f),
            CloseCause::AddressLimit => f.write_str("more connections than one address may have"),
            CloseCause::AgeLimit => f.write_str("closed by us, as old as a connection may be"),
            CloseCause::Panicked => f.write_str("a callback panicked"),
            CloseCause::CallbackError => f.write_str("a callback returned an error"),
            CloseCause::Tunnel(error) => error.fmt(f),
            CloseCause::Lookup => f.write_str("look-up failed"),
            CloseCause::Tls(error) => write!(f, "TLS failed: {error}"),
            CloseCause::Io(kind) => write!(f, "transport failed: {kind}"),
        }
    }
}

/// The argument of `on_close`: why the connection ended, and its close code.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Close {
    /// The side that ended it, and why.
    pub cause: CloseCause,
    /// The close code: the peer's if the peer closed with one, otherwise the one that we sent. 1005
    /// when the peer sent none, 1006 when the connection ended without a closing handshake, and 0
    /// on connections that are not WebSockets. Source: RFC 6455, section 7.4.
    pub code: u16,
    /// The text that was sent with the code: the peer's if the peer closed, otherwise ours. At most
    /// 123 bytes, and usually empty. When a look-up has failed, the name and what the system says; when TLS has failed, the details.
    /// The peer's text may hold anything: escape it before it goes to a log or a page.
    pub reason: Box<str>,
    /// Whether both sides said goodbye before the stream ended. Source: RFC 6455, section 7.1.4.
    pub was_clean: bool,
}

impl Close {
    pub(crate) fn new(cause: CloseCause) -> Close {
        Close {
            cause,
            code: 0,
            reason: Box::default(),
            was_clean: false,
        }
    }
}

impl Close {
    /// Displays the close without its reason, which may be a stranger's text: for log lines.
    pub(crate) fn without_reason(&self) -> WithoutReason<'_> {
        WithoutReason(self)
    }
}

pub(crate) struct WithoutReason<'c>(&'c Close);

impl fmt::Display for WithoutReason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.code != 0 {
            write!(f, "{} ", self.0.code)?;
        }
        self.0.cause.fmt(f)
    }
}

/// Displays code, cause and reason. Control characters of the reason are escaped, so that it stays
/// on one line of a log.
impl fmt::Display for Close {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.without_reason().fmt(f)?;
        if !self.reason.is_empty() {
            f.write_str(": ")?;
        }
        for char in self.reason.chars() {
            match char.is_control() {
                true => write!(f, "{}", char.escape_default())?,
                false => f.write_char(char)?,
            }
        }
        Ok(())
    }
}

/// The result of sending a message: whether the connection's queue accepted it.
///
/// [`Queued`](Sent::Queued) does not mean that the peer has the message. A connection that breaks
/// loses the messages that are on their way; only an answer of the peer shows that one arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Sent {
    /// Accepted into the connection's bounded queue, or already written.
    Queued,
    /// The message was refused, because the queue is above its high watermark: the route's
    /// [`Overflow`](crate::Overflow) policy was applied and counted.
    Full,
    /// The message was refused, because the connection is closing or gone (the id is stale), or its
    /// protocol cannot carry the message now.
    Gone,
}

impl Sealed for Sent {}
impl Outcome for Sent {}

impl Sent {
    /// Whether the message was accepted.
    pub fn is_queued(self) -> bool {
        self == Sent::Queued
    }
}
