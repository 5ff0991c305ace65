//! Everything in which the protocols of connections differ, for the loop: one file, every match
//! exhaustive.
//!
//! To add a protocol: a variant of [`Protocol`]. The compiler then asks for an arm in each method
//! here, and nowhere else in the reactor. What its bytes mean stands in `crate::protocol`, which
//! callbacks it leads to in a role (`session`, `server`, `client`).

use crate::protocol::websocket::{self, Closing, Message, Role};
use crate::protocol::{event_stream, http};
use crate::pubsub::{Frame, FramedFormat, WireFormat};

use super::close::{CloseCause, Deadline, Sent};
use super::config::Overflow;

/// What the bytes of a connection mean.
pub(crate) enum Protocol {
    /// Whatever the application says.
    Raw,
    /// Requests and responses; the state of the exchange is on the heap, and short-lived.
    Http(Box<http::Exchange>),
    WebSocket(websocket::Machine),
    /// Our request for a WebSocket, and the wait for its answer.
    Upgrade(Box<Upgrade>),
    /// Server-Sent Events going out, in chunks unless the client speaks HTTP/1.0.
    EventStream {
        chunked: bool,
    },
}

/// What a client asked for, and the key that the answer must match.
pub(crate) struct Upgrade {
    pub(crate) host: String,
    pub(crate) target: String,
    pub(crate) key: String,
}

/// What follows when the application closes a connection.
pub(crate) enum Goodbye {
    /// The peer's goodbye is waited for. This code went out.
    AwaitsPeer { code: u16 },
    /// After what is queued, our side of the stream ends.
    Finishes,
    /// The peer has nothing to understand yet: an end at once.
    Aborts,
}

/// What follows when a connection fails.
pub(crate) enum Failure {
    /// After what is queued, our side of the stream ends. This code went out.
    Finishes { code: u16 },
    /// The protocol has no words for it: an end at once.
    Aborts,
}

/// What a draining reactor does with a connection.
pub(crate) enum DrainStep {
    /// The request that is under way is answered first; its answer says that it is the last.
    AnswersFirst,
    /// It is closed with this code and reason.
    Closes { code: u16, reason: &'static str },
    /// An end at once.
    Aborts,
}

impl Protocol {
    /// Appends an application message in this protocol's words.
    ///
    /// # Errors
    ///
    /// [`Sent::Gone`] when the protocol has no place for it: binary data on an event stream, a body
    /// where no answer is being streamed, anything before the answer to a client's handshake.
    pub(crate) fn encode(&self, message: Message<'_>, out: &mut Vec<u8>) -> Result<(), Sent> {
        match self {
            Protocol::Raw => out.extend_from_slice(message.as_bytes()),
            Protocol::WebSocket(machine) => machine.encode(message, out),
            Protocol::EventStream { chunked } => {
                let Message::Text(text) = message else {
                    return Err(Sent::Gone);
                };
                let mut event = Vec::with_capacity(text.len() + 16);
                // Only names and ids can be refused, and there are none.
                let _ = event_stream::encode(None, None, text, &mut event);
                encode_lines(*chunked, &event, out);
            }
            Protocol::Http(exchange) => {
                if !exchange.encode_body(message.as_bytes(), out) {
                    return Err(Sent::Gone);
                }
            }
            Protocol::Upgrade(_) => return Err(Sent::Gone),
        }
        Ok(())
    }

    /// Whether a message is a header and then the payload as it is, so that a large payload can be
    /// written from where it lies.
    pub(crate) fn sends_payload_as_it_is(&self) -> bool {
        match self {
            Protocol::WebSocket(machine) => !machine.masks(),
            Protocol::Raw
            | Protocol::Http(_)
            | Protocol::Upgrade(_)
            | Protocol::EventStream { .. } => false,
        }
    }

    /// Whether encoding a message copies it, so that the copy can be queued without another one.
    pub(crate) fn masks(&self) -> bool {
        match self {
            Protocol::WebSocket(machine) => machine.masks(),
            Protocol::Raw
            | Protocol::Http(_)
            | Protocol::Upgrade(_)
            | Protocol::EventStream { .. } => false,
        }
    }

    /// Appends lines of an event stream, such as a comment. `false` when it is none.
    pub(crate) fn encode_event_lines(&self, lines: &[u8], out: &mut Vec<u8>) -> bool {
        match self {
            Protocol::EventStream { chunked } => {
                encode_lines(*chunked, lines, out);
                true
            }
            Protocol::Raw | Protocol::Http(_) | Protocol::WebSocket(_) | Protocol::Upgrade(_) => {
                false
            }
        }
    }

    /// How a publication to this connection is written and framed now. `None` while the protocol
    /// takes none: HTTP frames its bodies by itself, and bytes between two answers would be taken for
    /// the second; in front of our own handshake they would be taken for the request.
    #[inline]
    pub(crate) fn publication_format(&self) -> Option<FramedFormat> {
        match self {
            Protocol::WebSocket(machine) => Some(FramedFormat::new(
                WireFormat::RAW,
                match machine.role() {
                    Role::Server => Frame::WebSocket,
                    Role::Client => Frame::MaskedWebSocket,
                },
            )),
            Protocol::Raw
            | Protocol::EventStream { .. }
            | Protocol::Http(_)
            | Protocol::Upgrade(_) => self.format_without_websocket(),
        }
    }

    /// Not inlined, so that members that are WebSockets, as most are, take one comparison instead of
    /// a jump through a table.
    #[inline(never)]
    fn format_without_websocket(&self) -> Option<FramedFormat> {
        let (wire_format, frame) = match self {
            Protocol::Raw => (WireFormat::RAW, Frame::Bare),
            Protocol::EventStream { chunked: true } => (WireFormat::EVENT_STREAM, Frame::HttpChunk),
            Protocol::EventStream { chunked: false } => (WireFormat::EVENT_STREAM, Frame::Bare),
            Protocol::Http(_) | Protocol::Upgrade(_) | Protocol::WebSocket(_) => return None,
        };
        Some(FramedFormat::new(wire_format, frame))
    }

    /// Whether it can be a member of topics, now or when its handshake is done.
    pub(crate) fn may_subscribe(&self) -> bool {
        match self {
            Protocol::Raw
            | Protocol::WebSocket(_)
            | Protocol::EventStream { .. }
            | Protocol::Upgrade(_) => true,
            Protocol::Http(_) => false,
        }
    }

    /// The policy above the high watermark, where the route has chosen `overflow`.
    pub(crate) fn overflow(&self, overflow: Overflow) -> Overflow {
        match self {
            // A body with a hole in it would look whole.
            Protocol::Http(_) => Overflow::Close,
            Protocol::Raw
            | Protocol::WebSocket(_)
            | Protocol::Upgrade(_)
            | Protocol::EventStream { .. } => overflow,
        }
    }

    /// How much one read may bring: little before the protocol has shown that it needs more, because
    /// what is not consumed yet is kept.
    pub(crate) fn read_bytes_max(&self) -> usize {
        match self {
            Protocol::WebSocket(_) | Protocol::Raw => usize::MAX / 2,
            Protocol::Http(exchange) => exchange.read_bytes_max(),
            Protocol::Upgrade(_) | Protocol::EventStream { .. } => 4096,
        }
    }

    // ── ends ─────────────────────────────────────────────────────────────────────────────────

    /// Appends what is said when the application closes.
    pub(crate) fn encode_goodbye(&self, code: u16, reason: &str, out: &mut Vec<u8>) -> Goodbye {
        match self {
            Protocol::WebSocket(machine) => {
                let code = machine.encode_close(code, reason, out);
                Goodbye::AwaitsPeer { code }
            }
            Protocol::EventStream { chunked } => {
                if *chunked {
                    http::encode_last_chunk(out);
                }
                Goodbye::Finishes
            }
            Protocol::Http(exchange) => {
                exchange.encode_end(out);
                Goodbye::Finishes
            }
            Protocol::Raw => Goodbye::Finishes,
            Protocol::Upgrade(_) => Goodbye::Aborts,
        }
    }

    /// Appends what is said when a connection ends for a fault. `has_said_goodbye` when it was
    /// closing already.
    pub(crate) fn encode_failure(
        &mut self,
        cause: CloseCause,
        has_said_goodbye: bool,
        date: &[u8],
        out: &mut Vec<u8>,
    ) -> Failure {
        match self {
            Protocol::WebSocket(machine) => {
                let code = close_code(cause);
                if !has_said_goodbye {
                    machine.encode_close(code, "", out);
                }
                Failure::Finishes { code }
            }
            // A stream that was cut short must not look whole: no last chunk.
            Protocol::EventStream { .. } => Failure::Finishes { code: 0 },
            Protocol::Http(exchange) => {
                exchange.encode_failure(status_of(cause), date, out);
                Failure::Finishes { code: 0 }
            }
            Protocol::Raw if cause == CloseCause::SlowConsumer => Failure::Aborts,
            Protocol::Raw => Failure::Finishes { code: 0 },
            Protocol::Upgrade(_) => Failure::Aborts,
        }
    }

    /// The code of an end without a closing handshake. Source: RFC 6455, section 7.1.5.
    pub(crate) fn abnormal_code(&self) -> u16 {
        match self {
            Protocol::WebSocket(_) | Protocol::Upgrade(_) => Closing::without_close().code,
            Protocol::Raw | Protocol::Http(_) | Protocol::EventStream { .. } => 0,
        }
    }

    /// Whether the last words may be a large answer: as long as the peer takes bytes, the write
    /// deadline is the one that holds, and that of closing begins behind the last of them.
    pub(crate) fn ends_with_an_answer(&self) -> bool {
        match self {
            Protocol::Http(_) => true,
            Protocol::Raw
            | Protocol::WebSocket(_)
            | Protocol::Upgrade(_)
            | Protocol::EventStream { .. } => false,
        }
    }

    /// What a draining reactor does with the connection.
    pub(crate) fn drain(&mut self) -> DrainStep {
        match self {
            Protocol::Http(exchange) if exchange.is_busy() => {
                exchange.close_after();
                DrainStep::AnswersFirst
            }
            Protocol::Http(_) | Protocol::EventStream { .. } | Protocol::Raw => DrainStep::Closes {
                code: 0,
                reason: "",
            },
            Protocol::Upgrade(_) => DrainStep::Aborts,
            Protocol::WebSocket(_) => DrainStep::Closes {
                code: 1001,
                reason: "going away",
            },
        }
    }
}

fn encode_lines(chunked: bool, lines: &[u8], out: &mut Vec<u8>) {
    if chunked {
        http::encode_chunk(lines, out);
    } else {
        out.extend_from_slice(lines);
    }
}

/// The close code that tells a WebSocket peer. Source: RFC 6455, section 7.4.1; 1013 is IANA's.
fn close_code(cause: CloseCause) -> u16 {
    match cause {
        CloseCause::Protocol(error) => error.close_code(),
        CloseCause::SlowConsumer => 1013,
        CloseCause::Panicked => 1011,
        CloseCause::Drained => 1001,
        CloseCause::TimedOut(_) => 1001,
        CloseCause::Peer
        | CloseCause::Local
        | CloseCause::Http(_)
        | CloseCause::Upgrade(_)
        | CloseCause::Io(_) => 1000,
    }
}

/// The status that tells an HTTP client.
fn status_of(cause: CloseCause) -> http::Status {
    match cause {
        CloseCause::Http(error) => error.status(),
        CloseCause::TimedOut(Deadline::Reply) => http::Status::SERVICE_UNAVAILABLE,
        CloseCause::TimedOut(_) => http::Status::REQUEST_TIMEOUT,
        CloseCause::Drained | CloseCause::SlowConsumer => http::Status::SERVICE_UNAVAILABLE,
        CloseCause::Panicked
        | CloseCause::Peer
        | CloseCause::Local
        | CloseCause::Protocol(_)
        | CloseCause::Upgrade(_)
        | CloseCause::Io(_) => http::Status::INTERNAL_SERVER_ERROR,
    }
}
