//! The differences between the protocols of connections, as far as the loop needs them: one file,
//! every match exhaustive.
//!
//! To add a protocol, add a variant of [`Protocol`]. The compiler then asks for an arm in each
//! method here, and nowhere else in the reactor. The bytes themselves are parsed and encoded in
//! `crate::protocol`; the callbacks that they lead to are called by a role (`session`, `server`,
//! `client`).

use crate::protocol::websocket::{self, Closing, Link, Message};
use crate::protocol::{event_stream, http, proxy_header};
#[cfg(feature = "deflate")]
use crate::pubsub::BodyKind;
use crate::pubsub::{Frame, FramedFormat, WireFormat};

use super::close::{CloseCause, Deadline, Sent};
use super::config::Overflow;
use super::stats::ConnectionCounts;

/// The protocol of a connection, with its state.
pub(crate) enum Protocol {
    /// The connection was accepted and is not opened yet: the header of the PROXY protocol is awaited. Or it was
    /// refused. Its handler is not called.
    Unopened,
    /// Bytes whose meaning only the application knows.
    Raw,
    /// As `Raw`, after our side was ended: bytes still come, and none are sent.
    Finished,
    /// HTTP requests and responses. The state of the exchange is on the heap, so that the many
    /// WebSockets, which have left HTTP, do not pay for it.
    Http(Box<http::Exchange>),
    /// WebSocket messages, as server or client.
    WebSocket(websocket::Machine),
    /// A client that has asked for a WebSocket and waits for the server's answer.
    Upgrade(Box<Upgrade>),
    /// HTTP requests that we send, one at a time.
    Request {
        /// The answer to a request is awaited.
        is_busy: bool,
    },
    /// Server-Sent Events that we send, in chunks unless the client speaks HTTP/1.0.
    EventStream {
        /// Its heartbeat is the newest cursor instead of a comment.
        announces_cursor: bool,
        chunked: bool,
        /// How much the client has sent behind its request. It was discarded.
        discarded_bytes: u32,
    },
}

/// A client's request for a WebSocket, with the key that the answer must match.
pub(crate) struct Upgrade {
    pub(crate) host: String,
    pub(crate) target: String,
    pub(crate) key: String,
}

/// The step that follows when the application has closed a connection.
pub(crate) enum Goodbye {
    /// Wait for the peer's goodbye. A close frame with this code was sent.
    AwaitsPeer { code: u16 },
    /// Flush the queue, and end our side of the stream.
    Finishes,
    /// End at once: the peer does not speak the protocol yet.
    Aborts,
}

/// The step that follows when a connection has failed.
pub(crate) enum Failure {
    /// Flush the queue, and end our side of the stream. This close code was sent, or 0.
    Finishes { code: u16 },
    /// End at once: the protocol has no message for it.
    Aborts,
}

/// A draining reactor's step for one connection.
pub(crate) enum DrainStep {
    /// The request that is under way is answered first, with `Connection: close`.
    AnswersFirst,
    /// The connection gets the last words of its options, where it has a closing handshake, and is closed.
    Closes { has_words: bool },
    /// A request may be on its way, and is answered with `Connection: close`. The connection ends at the end of the
    /// window if none comes.
    AwaitsRequest,
    /// There is nothing to say: the connection ends when its queue is flushed, and does not linger.
    Finishes,
    /// The connection ends at once.
    Aborts,
}

impl Protocol {
    /// Appends an application message, encoded for this protocol.
    ///
    /// # Errors
    ///
    /// [`Sent::Gone`] when the protocol cannot carry it: binary data on an event stream, a body
    /// when no answer is being streamed, any message before the answer to a client's handshake.
    pub(crate) fn encode(&mut self, message: Message<'_>, out: &mut Vec<u8>) -> Result<(), Sent> {
        match self {
            Protocol::Raw => out.extend_from_slice(message.as_bytes()),
            Protocol::WebSocket(machine) => machine.encode(message, out),
            Protocol::EventStream { chunked, .. } => {
                let Message::Text(text) = message else {
                    return Err(Sent::Gone);
                };
                let mut event = Vec::with_capacity(text.len() + 16);
                // Only a name or an id can be refused, and this event has neither.
                let _ = event_stream::encode(None, None, text, &mut event);
                encode_lines(*chunked, &event, out);
            }
            Protocol::Http(exchange) => {
                if !exchange.encode_body(message.as_bytes(), out) {
                    return Err(Sent::Gone);
                }
            }
            // Sending a frame now would assume that the server agrees. Source: RFC 6455, section
            // 4.1.
            Protocol::Upgrade(_)
            | Protocol::Request { .. }
            | Protocol::Finished
            | Protocol::Unopened => {
                return Err(Sent::Gone);
            }
        }
        Ok(())
    }

    /// Whether an encoded message of this length is a header and then the unchanged payload. A large
    /// payload can then be written from where it lies.
    pub(crate) fn sends_payload_as_it_is(&self, message_bytes: usize) -> bool {
        match self {
            Protocol::WebSocket(machine) => !machine.masks() && !machine.compresses(message_bytes),
            Protocol::Raw
            | Protocol::Finished
            | Protocol::Unopened
            | Protocol::Http(_)
            | Protocol::Upgrade(_)
            | Protocol::Request { .. }
            | Protocol::EventStream { .. } => false,
        }
    }

    /// Whether a message of this length goes out as it is, so that a buffer with it can be queued without a copy.
    pub(crate) fn sends_unframed(&self, message_bytes: usize) -> bool {
        match self {
            Protocol::Raw => true,
            Protocol::Http(exchange) => exchange.sends_unframed(message_bytes),
            Protocol::WebSocket(_)
            | Protocol::Finished
            | Protocol::Unopened
            | Protocol::Upgrade(_)
            | Protocol::Request { .. }
            | Protocol::EventStream { .. } => false,
        }
    }

    /// Notes that a message was sent as it is.
    pub(crate) fn note_unframed(&self, message_bytes: usize) {
        if let Protocol::Http(exchange) = self {
            exchange.note_unframed(message_bytes);
        }
    }

    /// Whether only the end of the stream says where its bytes end, so that a stream that was cut
    /// looks like a whole one.
    pub(crate) fn is_unframed(&self) -> bool {
        match self {
            // The body of an answer may last until the end.
            Protocol::Raw | Protocol::Finished | Protocol::Request { .. } => true,
            Protocol::Unopened
            | Protocol::Http(_)
            | Protocol::WebSocket(_)
            | Protocol::Upgrade(_)
            | Protocol::EventStream { .. } => false,
        }
    }

    /// Whether the handler may have something to deliver although no byte is left: the end of an answer follows
    /// from the bytes before it, and a pause may have come in between.
    pub(crate) fn ends_without_bytes(&self) -> bool {
        match self {
            Protocol::Request { .. } => true,
            Protocol::Http(exchange) => exchange.has_end_to_hand_out(),
            Protocol::Raw
            | Protocol::Finished
            | Protocol::Unopened
            | Protocol::WebSocket(_)
            | Protocol::Upgrade(_)
            | Protocol::EventStream { .. } => false,
        }
    }

    /// Whether encoding a message changes its payload, so that it must be copied anyway. Clients
    /// mask. Source: RFC 6455, section 5.3.
    pub(crate) fn masks(&self) -> bool {
        match self {
            Protocol::WebSocket(machine) => machine.masks(),
            Protocol::Raw
            | Protocol::Finished
            | Protocol::Unopened
            | Protocol::Http(_)
            | Protocol::Upgrade(_)
            | Protocol::Request { .. }
            | Protocol::EventStream { .. } => false,
        }
    }

    /// Appends lines of an event stream, such as a comment. Returns `false` for other protocols.
    pub(crate) fn encode_event_lines(&self, lines: &[u8], out: &mut Vec<u8>) -> bool {
        match self {
            Protocol::EventStream { chunked, .. } => {
                encode_lines(*chunked, lines, out);
                true
            }
            Protocol::Raw
            | Protocol::Finished
            | Protocol::Unopened
            | Protocol::Http(_)
            | Protocol::WebSocket(_)
            | Protocol::Request { .. }
            | Protocol::Upgrade(_) => false,
        }
    }

    /// How a publication to this connection is encoded and framed now. `None` while the protocol
    /// takes no publications: between two HTTP answers the client would take the bytes for the
    /// second answer, and before our own handshake the server would take them for the request.
    #[inline]
    pub(crate) fn publication_format(&self) -> Option<FramedFormat> {
        match self {
            Protocol::WebSocket(machine) => Some(FramedFormat::new(
                WireFormat::RAW,
                match machine.link() {
                    Link::Server => Frame::WebSocket,
                    Link::Client => Frame::MaskedWebSocket,
                    #[cfg(feature = "deflate")]
                    Link::SharedServer => Frame::DeflatedWebSocket,
                    // Compressed for this client's window, a publication could not be shared, and a thousand
                    // clients that ask for a small window would make it a thousand times as expensive.
                    #[cfg(feature = "deflate")]
                    Link::NarrowServer => Frame::WebSocket,
                    #[cfg(feature = "deflate")]
                    Link::SharedClient | Link::WindowsServer | Link::WindowsClient => {
                        Frame::OwnWebSocket
                    }
                },
            )),
            Protocol::Raw
            | Protocol::Finished
            | Protocol::Unopened
            | Protocol::EventStream { .. }
            | Protocol::Http(_)
            | Protocol::Request { .. }
            | Protocol::Upgrade(_) => self.format_without_websocket(),
        }
    }

    /// Not inlined: most members are WebSockets, and those then take one comparison instead of a
    /// jump through a table.
    #[inline(never)]
    fn format_without_websocket(&self) -> Option<FramedFormat> {
        let (wire_format, frame) = match self {
            Protocol::Raw => (WireFormat::RAW, Frame::Bare),
            Protocol::EventStream { chunked: true, .. } => {
                (WireFormat::EVENT_STREAM, Frame::HttpChunk)
            }
            Protocol::EventStream { chunked: false, .. } => (WireFormat::EVENT_STREAM, Frame::Bare),
            Protocol::Http(_)
            | Protocol::Upgrade(_)
            | Protocol::Request { .. }
            | Protocol::WebSocket(_)
            | Protocol::Unopened
            | Protocol::Finished => return None,
        };
        Some(FramedFormat::new(wire_format, frame))
    }

    /// Whether compression was agreed for it.
    #[cfg(feature = "deflate")]
    pub(crate) fn is_deflated(&self) -> bool {
        matches!(self, Protocol::WebSocket(machine) if machine.is_deflated())
    }

    /// Whether messages are compressed as only this connection's are.
    #[cfg(feature = "deflate")]
    pub(crate) fn compresses_apart(&self) -> bool {
        let format = self.publication_format();
        format.is_some_and(FramedFormat::is_own)
    }

    /// Appends the body of a publication as a message, compressed as only this connection's are.
    #[cfg(feature = "deflate")]
    pub(crate) fn encode_own(&mut self, kind: BodyKind, body: &[u8], out: &mut Vec<u8>) {
        if let Protocol::WebSocket(machine) = self {
            machine.encode_body(kind == BodyKind::Text, body, out);
        }
    }

    /// The count of the connections that speak this protocol.
    pub(crate) fn count_in<'c>(&self, counts: &'c mut ConnectionCounts) -> &'c mut usize {
        match self {
            Protocol::Raw | Protocol::Finished => &mut counts.stream,
            Protocol::Http(_) | Protocol::Request { .. } => &mut counts.http,
            Protocol::WebSocket(_) => &mut counts.websocket,
            Protocol::EventStream { .. } => &mut counts.event_stream,
            Protocol::Unopened | Protocol::Upgrade(_) => &mut counts.handshake,
        }
    }

    /// Whether the connection can be a member of topics, now or when its handshake is done.
    pub(crate) fn may_subscribe(&self) -> bool {
        match self {
            Protocol::Raw
            | Protocol::Finished
            | Protocol::WebSocket(_)
            | Protocol::EventStream { .. }
            | Protocol::Upgrade(_) => true,
            Protocol::Http(_) => self.awaits_publications(),
            Protocol::Request { .. } | Protocol::Unopened => false,
        }
    }

    /// Whether a request waits for publications, which are kept for its answer.
    pub(crate) fn awaits_publications(&self) -> bool {
        match self {
            Protocol::Http(exchange) => exchange.awaits_publications(),
            Protocol::Raw
            | Protocol::Finished
            | Protocol::Unopened
            | Protocol::WebSocket(_)
            | Protocol::Upgrade(_)
            | Protocol::Request { .. }
            | Protocol::EventStream { .. } => false,
        }
    }

    /// The policy above the high watermark for a route that has chosen `overflow`.
    pub(crate) fn overflow(&self, overflow: Overflow) -> Overflow {
        match self {
            // A body with a hole in it would look whole.
            Protocol::Http(_) | Protocol::Request { .. } => Overflow::Close,
            Protocol::Raw
            | Protocol::Finished
            | Protocol::Unopened
            | Protocol::WebSocket(_)
            | Protocol::Upgrade(_)
            | Protocol::EventStream { .. } => overflow,
        }
    }

    /// The most bytes that one read may bring. Little while only a head is expected: unconsumed
    /// bytes are kept in memory for each connection, and a client may send a megabyte behind half a
    /// head.
    pub(crate) fn read_bytes_max(&self) -> usize {
        match self {
            // Half of the maximum, so that the length of kept bytes can be added to it.
            Protocol::WebSocket(_) | Protocol::Raw | Protocol::Finished => usize::MAX / 2,
            Protocol::Request { is_busy: true } => usize::MAX / 2,
            Protocol::Http(exchange) => exchange.read_bytes_max(),
            Protocol::Request { is_busy: false }
            | Protocol::Upgrade(_)
            | Protocol::EventStream { .. } => 4096,
            Protocol::Unopened => proxy_header::HEADER_BYTES_MAX,
        }
    }

    /// The memory that it has allocated for what is coming, in bytes.
    pub(crate) fn held_bytes(&self) -> usize {
        match self {
            Protocol::Http(exchange) => size_of::<http::Exchange>() + exchange.held_bytes(),
            Protocol::WebSocket(machine) => machine.buffered_bytes(),
            Protocol::Upgrade(upgrade) => {
                size_of::<Upgrade>() + upgrade.host.len() + upgrade.target.len() + upgrade.key.len()
            }
            Protocol::Raw
            | Protocol::Finished
            | Protocol::Unopened
            | Protocol::Request { .. }
            | Protocol::EventStream { .. } => 0,
        }
    }

    /// Drops what is coming, after the connection has failed: it takes no more input.
    pub(crate) fn drop_input(&mut self) {
        match self {
            Protocol::Http(exchange) => exchange.drop_input(),
            Protocol::WebSocket(machine) => machine.drop_input(),
            Protocol::Upgrade(_)
            | Protocol::Raw
            | Protocol::Finished
            | Protocol::Unopened
            | Protocol::Request { .. }
            | Protocol::EventStream { .. } => {}
        }
    }

    // ── ends ─────────────────────────────────────────────────────────────────────────────────

    /// Appends the goodbye for a connection that the application closes.
    pub(crate) fn encode_goodbye(&self, code: u16, reason: &str, out: &mut Vec<u8>) -> Goodbye {
        match self {
            Protocol::WebSocket(machine) => {
                let code = machine.encode_close(code, reason, out);
                Goodbye::AwaitsPeer { code }
            }
            Protocol::EventStream { chunked, .. } => {
                if *chunked {
                    http::encode_last_chunk(out);
                }
                Goodbye::Finishes
            }
            Protocol::Http(exchange) => {
                exchange.encode_end(out);
                Goodbye::Finishes
            }
            Protocol::Raw | Protocol::Finished | Protocol::Request { .. } => Goodbye::Finishes,
            Protocol::Upgrade(_) | Protocol::Unopened => Goodbye::Aborts,
        }
    }

    /// Appends the status or close frame for a connection that ends for a fault. `has_said_goodbye`
    /// when our close frame was sent already.
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
            // A body whose end is that of the connection would look whole.
            Protocol::Http(exchange) if exchange.is_until_end() => Failure::Aborts,
            Protocol::Http(exchange) => {
                exchange.encode_failure(status_of(cause), date, out);
                Failure::Finishes { code: 0 }
            }
            Protocol::Raw | Protocol::Finished if cause == CloseCause::SlowConsumer => {
                Failure::Aborts
            }
            Protocol::Raw | Protocol::Finished => Failure::Finishes { code: 0 },
            Protocol::Upgrade(_) | Protocol::Request { .. } | Protocol::Unopened => Failure::Aborts,
        }
    }

    /// The close code of an end without a closing handshake: 1006. Source: RFC 6455, section 7.1.5.
    pub(crate) fn abnormal_code(&self) -> u16 {
        match self {
            Protocol::WebSocket(_) | Protocol::Upgrade(_) => Closing::without_close().code,
            Protocol::Raw
            | Protocol::Finished
            | Protocol::Unopened
            | Protocol::Http(_)
            | Protocol::Request { .. }
            | Protocol::EventStream { .. } => 0,
        }
    }

    /// Whether the last message may be a large answer. While the peer takes its bytes, the write
    /// deadline holds, and the close deadline begins after the last byte.
    pub(crate) fn ends_with_an_answer(&self) -> bool {
        match self {
            Protocol::Http(_) => true,
            Protocol::Raw
            | Protocol::Finished
            | Protocol::Unopened
            | Protocol::WebSocket(_)
            | Protocol::Upgrade(_)
            | Protocol::Request { .. }
            | Protocol::EventStream { .. } => false,
        }
    }

    /// Whether the application owes the answer to a request, which a client that has ended its side gets too. One
    /// that waits for publications is like a stream: most clients that end their side of it have gone.
    pub(crate) fn owes_answer(&self) -> bool {
        match self {
            Protocol::Http(exchange) => {
                exchange.phase() == http::Phase::Reply && !exchange.awaits_publications()
            }
            Protocol::Raw
            | Protocol::Finished
            | Protocol::Unopened
            | Protocol::WebSocket(_)
            | Protocol::Upgrade(_)
            | Protocol::Request { .. }
            | Protocol::EventStream { .. } => false,
        }
    }

    /// The step of a draining reactor for this connection. `may_wait` says that there will be another one, at the end
    /// of the drain's window.
    ///
    /// A connection without a request under way stays until then: its client may be sending one in this moment, and
    /// would get no answer. Source: RFC 9112, section 9.6.
    pub(crate) fn drain(&mut self, may_wait: bool) -> DrainStep {
        match self {
            Protocol::Http(exchange) if exchange.is_busy() => {
                exchange.close_after();
                DrainStep::AnswersFirst
            }
            // The answer that we wait for comes first. The role closes behind it.
            Protocol::Request { is_busy: true } => DrainStep::AnswersFirst,
            Protocol::Request { is_busy: false } => DrainStep::Finishes,
            Protocol::Http(_) | Protocol::Unopened if may_wait => DrainStep::AwaitsRequest,
            Protocol::Http(_) => DrainStep::Finishes,
            Protocol::EventStream { .. } | Protocol::Raw | Protocol::Finished => {
                DrainStep::Closes { has_words: false }
            }
            Protocol::Upgrade(_) | Protocol::Unopened => DrainStep::Aborts,
            Protocol::WebSocket(_) => DrainStep::Closes { has_words: true },
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

/// The close code for a WebSocket peer. Source: RFC 6455, section 7.4.1; 1013 is from IANA's
/// registry of WebSocket close codes.
fn close_code(cause: CloseCause) -> u16 {
    match cause {
        CloseCause::Protocol(error) => error.close_code(),
        CloseCause::SlowConsumer | CloseCause::MemoryLimit => 1013,
        CloseCause::Panicked | CloseCause::CallbackError => 1011,
        CloseCause::Drained | CloseCause::AgeLimit => 1001,
        CloseCause::TimedOut(_) => 1001,
        CloseCause::Peer
        | CloseCause::Local
        | CloseCause::Http(_)
        | CloseCause::Framing(_)
        | CloseCause::Upgrade(_)
        | CloseCause::ProxyHeader(_)
        | CloseCause::AddressLimit
        | CloseCause::Tunnel(_)
        | CloseCause::Lookup
        | CloseCause::Tls(_)
        | CloseCause::Io(_) => 1000,
    }
}

/// The status for an HTTP client.
fn status_of(cause: CloseCause) -> http::Status {
    match cause {
        CloseCause::Http(error) => error.status(),
        CloseCause::TimedOut(Deadline::Reply) => http::Status::SERVICE_UNAVAILABLE,
        CloseCause::TimedOut(_) => http::Status::REQUEST_TIMEOUT,
        CloseCause::Drained
        | CloseCause::AgeLimit
        | CloseCause::SlowConsumer
        | CloseCause::MemoryLimit => http::Status::SERVICE_UNAVAILABLE,
        CloseCause::Panicked
        | CloseCause::CallbackError
        | CloseCause::Peer
        | CloseCause::Local
        | CloseCause::Protocol(_)
        | CloseCause::Framing(_)
        | CloseCause::Upgrade(_)
        | CloseCause::ProxyHeader(_)
        | CloseCause::AddressLimit
        | CloseCause::Tunnel(_)
        | CloseCause::Lookup
        | CloseCause::Tls(_)
        | CloseCause::Io(_) => http::Status::INTERNAL_SERVER_ERROR,
    }
}
