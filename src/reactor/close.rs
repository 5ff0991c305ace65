//! How a connection ended: who, why, and with which words.

use std::fmt::Write;
use std::{fmt, io};

use crate::protocol::http::{self, HttpError};
use crate::protocol::websocket;

/// Who ended a connection, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseCause {
    /// The peer closed, in its protocol's own words or by ending the stream.
    Peer,
    /// The application closed it.
    Local,
    /// The reactor said goodbye while draining.
    Drained,
    /// A deadline passed.
    TimedOut(Deadline),
    /// The peer broke the WebSocket protocol.
    Protocol(websocket::Error),
    /// The peer broke HTTP.
    Http(HttpError),
    /// The server did not agree to a WebSocket.
    Upgrade(http::upgrade::ResponseError),
    /// The peer did not read what was sent, and the route's policy is to close.
    SlowConsumer,
    /// A callback panicked.
    Panicked,
    /// The transport failed.
    Io(io::ErrorKind),
}

impl CloseCause {
    /// Whether the peer broke the protocol, a deadline passed or the transport failed: `on_error`.
    pub(crate) fn is_failure(&self) -> bool {
        match self {
            CloseCause::Protocol(_)
            | CloseCause::Http(_)
            | CloseCause::Upgrade(_)
            | CloseCause::Io(_)
            | CloseCause::TimedOut(_) => true,
            CloseCause::Peer
            | CloseCause::Local
            | CloseCause::Drained
            | CloseCause::SlowConsumer
            | CloseCause::Panicked => false,
        }
    }
}

/// What a connection waits for, each with a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Deadline {
    /// A connection to be made.
    Connect,
    /// The handshake of a transport that has one, before its protocol begins.
    Handshake,
    /// A whole request head, or the answer to a handshake.
    Head,
    /// The rest of a request body.
    Body,
    /// The next request on a kept-alive connection.
    KeepAlive,
    /// The application's answer to a request it took with `reply_later`.
    Reply,
    /// Any bytes at all.
    Idle,
    /// Our next ping or heartbeat comment. Passing it is not an error.
    Heartbeat,
    /// Anything from the peer after our ping.
    Pong,
    /// The peer's taking of bytes that wait for it.
    Write,
    /// The end of a closing handshake, or of lingering.
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
            CloseCause::Upgrade(error) => error.fmt(f),
            CloseCause::SlowConsumer => f.write_str("slow consumer"),
            CloseCause::Panicked => f.write_str("a callback panicked"),
            CloseCause::Io(kind) => write!(f, "transport failed: {kind}"),
        }
    }
}

/// What `on_close` gets: who ended the connection, why, and the close code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    /// Who, and why.
    pub cause: CloseCause,
    /// The close code: the peer's where the peer closed with one, else the one we sent; 1005 when
    /// the peer sent none, 1006 when the connection ended without a closing handshake. Zero on
    /// connections that are not WebSockets. Source: RFC 6455, section 7.4.
    pub code: u16,
    /// The text that came or went with the code; usually empty, at most 123 bytes. It is the peer's
    /// where the peer closed.
    pub reason: Box<str>,
    /// Whether both sides said goodbye before the stream ended.
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
    /// As it is displayed, but for the words, which may be a stranger's: for log lines.
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

/// Code, reason and words; control characters in these are escaped, so that it stays one line.
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

/// What became of a message that was handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Accepted into the connection's bounded queue, or already written.
    Queued,
    /// The queue is above its high watermark: the route's policy was applied and counted.
    Full,
    /// There is no such connection any more, or it is closing.
    Gone,
}

impl Sent {
    /// Whether the message was accepted.
    pub fn is_queued(self) -> bool {
        self == Sent::Queued
    }
}
