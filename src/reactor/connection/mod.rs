//! One connection: transport, protocol, write queue, lifecycle; small, and without heap of its own.
//!
//! ```text
//!             close            peer's goodbye / nothing to wait for       flushed
//!   Open ───────────▶ Closing ─────────────────────────────▶ Finishing ───────────▶ Done
//!     │                                                          ▲                 on_close
//!     ├── fail (peer broke the protocol, slow consumer, panic) ──┘                    │
//!     └── abort (transport failed, deadline passed) ──────────▶ Done ──▶ removed ◀── Lingering
//! ```
//!
//! *Open* takes messages. *Closing* has said goodbye and waits for the peer's (WebSocket only).
//! *Finishing* has nothing left to say: its queue is flushed, then the stream is ended. In *Done*
//! the connection is on the list of closings; `on_close` is called at the end of the turn, once.
//! *Lingering* discards what still comes until the peer ends its side too, because closing a
//! socket with unread bytes resets it and could destroy our last words on their way. From Closing
//! on one absolute deadline holds for all of this, except that the last answer of an HTTP
//! connection may take as long as its bytes are taken. What moves the state is in `closing.rs`, and
//! nowhere else.

pub(crate) mod deadline;
pub(crate) mod end;
pub(crate) mod outbox;
pub(crate) mod queue;
pub(crate) mod table;

use crate::protocol::websocket::Role;
use crate::protocol::{http, websocket};
use crate::pubsub::{Frame, FramedFormat, Subscriptions, WireFormat};

use crate::reactor::close::{Close, Deadline};
use crate::reactor::connection::queue::WriteQueue;
use crate::reactor::time::coarse::Tick;
use crate::reactor::transport::Transport;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    Open,
    Closing,
    Finishing,
    Done,
    Lingering,
}

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

/// Facts about a connection's readiness, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags(u16);

impl Flags {
    /// The socket may have bytes for us.
    pub(crate) const READABLE: Flags = Flags(1);
    /// An end of stream, a hang-up or an error waits behind them.
    pub(crate) const READ_CLOSED: Flags = Flags(1 << 1);
    /// The end of stream has been read.
    pub(crate) const AT_END: Flags = Flags(1 << 2);
    /// Its end was told to the handler.
    pub(crate) const END_TOLD: Flags = Flags(1 << 3);
    /// On the list of those with bytes to flush.
    pub(crate) const DIRTY: Flags = Flags(1 << 4);
    /// The kernel took less than we had: writable interest is on.
    pub(crate) const BLOCKED: Flags = Flags(1 << 5);
    /// When the queue is below the low watermark, that is to be told: it was above the high one, or
    /// reading was paused over it.
    pub(crate) const FULL: Flags = Flags(1 << 6);
    /// The application paused reading.
    pub(crate) const PAUSED: Flags = Flags(1 << 7);
    /// On the list of those to be read again in the next turn.
    pub(crate) const STILL_READY: Flags = Flags(1 << 8);
    /// A drained queue is to be told.
    pub(crate) const DRAINED: Flags = Flags(1 << 9);
    /// Closed only when the peer ends its side too, or the deadline passes.
    pub(crate) const LINGERS: Flags = Flags(1 << 10);
    /// The protocol waits for the application: nothing more is read (HTTP, later replies).
    pub(crate) const HELD: Flags = Flags(1 << 11);
    /// `on_open` was called for what the connection is now, so `on_close` is owed.
    pub(crate) const OPENED: Flags = Flags(1 << 12);
    /// Not read until the queue is below the low watermark: another reply would be the end of a
    /// peer that only takes its time. Where messages are dropped instead, reading goes on, or the
    /// pongs of a slow peer would not be seen; but not for one that provokes without end what
    /// cannot be dropped.
    pub(crate) const CHOKED: Flags = Flags(1 << 13);

    /// It has had its share of this turn; the rest of what was read waits for the next.
    pub(crate) const SPENT: Flags = Flags(1 << 14);
    /// Any of these, and the connection is not read.
    pub(crate) const UNREAD: Flags =
        Flags(Self::PAUSED.0 | Self::CHOKED.0 | Self::HELD.0 | Self::SPENT.0);

    /// Any of these, and there is no need to list it for the next flush.
    pub(crate) const WAITS_TO_BE_FLUSHED: Flags = Flags(Self::DIRTY.0 | Self::BLOCKED.0);

    #[inline]
    pub(crate) fn has(self, flag: Flags) -> bool {
        self.0 & flag.0 != 0
    }

    /// Whether it is open, has something to read, and nothing else about it.
    #[inline]
    pub(crate) fn is_only_readable(self) -> bool {
        self.0 == Self::READABLE.0 | Self::OPENED.0
    }

    /// Whether at least one of several is set.
    #[inline]
    pub(crate) fn has_any(self, flags: Flags) -> bool {
        self.0 & flags.0 != 0
    }

    #[inline]
    pub(crate) fn set(&mut self, flag: Flags) {
        self.0 |= flag.0;
    }

    #[inline]
    pub(crate) fn clear(&mut self, flag: Flags) {
        self.0 &= !flag.0;
    }

    /// Clears a flag and tells whether it was set.
    #[inline]
    pub(crate) fn take(&mut self, flag: Flags) -> bool {
        let was = self.has(flag);
        self.clear(flag);
        was
    }
}

/// One connection. Its size is a promise, and a test.
pub struct Connection {
    pub(crate) transport: Transport,
    pub(crate) protocol: Protocol,
    pub(crate) queue: WriteQueue,
    /// Bytes that were read and not consumed: the beginning of a head or a frame, or what came
    /// while reading was paused. The next read goes behind them.
    #[expect(
        clippy::box_collection,
        reason = "a pointer where most have nothing to keep"
    )]
    pub(crate) carry: Option<Box<Vec<u8>>>,
    /// Who ended it and why; there from the first step of closing on.
    pub(crate) close: Option<Box<Close>>,
    pub(crate) generation: u32,
    /// Index of its handler; [`NO_HANDLER`] once `on_close` was called.
    pub(crate) handler: u32,
    /// Which part of its handler it belongs to.
    pub(crate) route: u16,
    /// Index of its options.
    pub(crate) options: u16,
    pub(crate) flags: Flags,
    pub(crate) life: Life,
    /// What `deadline` is about.
    pub(crate) wait: Option<Deadline>,
    pub(crate) deadline: Tick,
    pub(crate) write_deadline: Tick,
    /// Where it is filed in `Deadlines`.
    pub(crate) filed: Tick,
    pub(crate) subscriptions: Subscriptions,
    /// How publications to it are written, where that is not its protocol's own way.
    pub(crate) wire_format: Option<WireFormat>,
    /// The last publication that was queued here; a member by name and by pattern gets it once.
    pub(crate) last_publication: u64,
}

pub(crate) const NO_HANDLER: u32 = u32::MAX;

impl Connection {
    /// Whether the loop may read, parse and hand out now.
    #[inline]
    pub(crate) fn may_read(&self) -> bool {
        !self.flags.has_any(Flags::UNREAD)
    }

    /// How a publication to this connection is written and framed now. `None` while its protocol
    /// takes none: HTTP frames its bodies by itself, and before the answer to an upgrade request
    /// no frame can be sent.
    #[inline]
    pub(crate) fn publication_format(&self) -> Option<FramedFormat> {
        let format = match &self.protocol {
            Protocol::WebSocket(machine) => FramedFormat::new(
                WireFormat::RAW,
                match machine.role() {
                    Role::Server => Frame::WebSocket,
                    Role::Client => Frame::MaskedWebSocket,
                },
            ),
            Protocol::Raw
            | Protocol::EventStream { .. }
            | Protocol::Http(_)
            | Protocol::Upgrade(_) => self.format_without_websocket()?,
        };
        Some(match self.wire_format {
            None => format,
            Some(wire_format) => format.with_wire_format(wire_format),
        })
    }

    /// Not inlined, so that members that are WebSockets, as most are, take one comparison instead of
    /// a jump through a table.
    #[inline(never)]
    fn format_without_websocket(&self) -> Option<FramedFormat> {
        let (wire_format, frame) = match &self.protocol {
            Protocol::Raw => (WireFormat::RAW, Frame::Bare),
            Protocol::EventStream { chunked: true } => (WireFormat::EVENT_STREAM, Frame::HttpChunk),
            Protocol::EventStream { chunked: false } => (WireFormat::EVENT_STREAM, Frame::Bare),
            Protocol::Http(_) | Protocol::Upgrade(_) | Protocol::WebSocket(_) => return None,
        };
        Some(FramedFormat::new(wire_format, frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_small() {
        let size = size_of::<Connection>();
        assert!(size <= 192, "{size} bytes");
    }
}
