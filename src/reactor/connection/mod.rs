//! One connection: transport, protocol, write queue, life; small, and without heap of its own.
//!
//! ```text
//!   Handshaking ── opens ──▶ Open
//!
//!             close            finish                          flushed
//!   Open ───────────▶ Closing ───────────▶ Finishing ──────────────────▶ Done ── on_close
//!     │ ╲                                      ▲ ▲                         │        │
//!     │  ╲── finish (the peer has ended) ──────┘ │                         │        ▼
//!     ├───── fail (the peer broke the protocol, slow consumer, panic) ─────┘     linger ──▶ Lingering
//!     └───── abort (transport failed, deadline passed) ──▶ Done ── on_close ──▶ remove ◀───────┘
//! ```
//!
//! *Handshaking* has no transport yet that carries the protocol's bytes: a client that connects (and
//! later TLS). What is sent waits in the queue.
//! *Open* takes messages. *Closing* has said goodbye and waits for the peer's (WebSocket only).
//! *Finishing* has nothing left to say: its queue is flushed, then our side of the stream is ended. In
//! *Done* the connection is on the list of those that have ended; `on_close` is called at the end of
//! the turn, once. *Lingering* discards what still comes until the peer ends its side too, because
//! closing a socket with unread bytes resets it and could destroy our last words on their way. From
//! Closing on one absolute deadline holds for all of this, except that the last answer of an HTTP
//! connection may take as long as its bytes are taken.
//!
//! The arrows are the functions of `end.rs`, by these names; nothing else moves a connection from one
//! state to the next, except that `table.rs` opens and removes it.
//!
//! # The rooms
//!
//! ```text
//!   table      sources by index; the way in by id
//!     read       what comes in: readiness to bytes        send    what goes out: admission, flush
//!       end        the arrows above
//!         rooms      what they work on: outbox, deadlines, lists
//!           outbox     queues, cork, the lists of the flush       deadline
//!             queue      one linked list                          reading   why a connection is not read
//! ```
//!
//! Each file imports only from lines below its own.

pub(crate) mod deadline;
mod end;
mod fast_path;
mod outbox;
pub(crate) mod queue;
pub(crate) mod read;
pub(crate) mod reading;
mod rooms;
mod send;
pub(crate) mod table;

use crate::pubsub::{FramedFormat, Subscriptions, WireFormat};

use super::close::Close;
use super::config::ConnectionOptions;
use super::id::ConnId;
use super::protocol::Protocol;
use super::transport::Transport;
use deadline::Waits;
use outbox::{Output, Parts};
use reading::Reading;
use rooms::Rooms;

/// Where a connection is in its life; see the picture above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    Handshaking,
    Open,
    Closing,
    Finishing,
    Done,
    Lingering,
}

impl Life {
    /// Whether the application may still send.
    #[inline]
    pub(crate) fn takes_messages(self) -> bool {
        matches!(self, Life::Handshaking | Life::Open)
    }

    /// Whether the application may still hear of it before `on_close`.
    #[inline]
    pub(crate) fn is_notifiable(self) -> bool {
        matches!(self, Life::Handshaking | Life::Open | Life::Closing)
    }
}

/// One connection. Its size is a promise, and a test.
pub struct Connection {
    id: ConnId,
    transport: Transport,
    protocol: Protocol,
    output: Output,
    reading: Reading,
    waits: Waits,
    /// Who ended it and why; there from the first step of closing on.
    close: Option<Box<Close>>,
    /// Index of its handler; [`NO_HANDLER`] once `on_close` was called.
    handler: u32,
    /// Which part of its handler it belongs to.
    route: u16,
    /// Index of its options.
    options: u16,
    life: Life,
    /// Closed only when the peer ends its side too, or the deadline passes.
    lingers: bool,
    /// `on_open` was called for what the connection is now, so `on_close` is owed.
    is_opened: bool,
    subscriptions: Subscriptions,
    /// How publications to it are written, where that is not its protocol's own way.
    wire_format: Option<WireFormat>,
    /// The last publication that was queued here; a member by name and by pattern gets it once.
    last_publication: u64,
}

/// The handler of a connection that has none any more.
pub(crate) const NO_HANDLER: u32 = u32::MAX;

impl Connection {
    fn new(
        id: ConnId,
        transport: Transport,
        protocol: Protocol,
        handler: u32,
        options: u16,
    ) -> Connection {
        Connection {
            id,
            transport,
            protocol,
            output: Output::new(),
            reading: Reading::default(),
            waits: Waits::default(),
            close: None,
            handler,
            route: 0,
            options,
            life: Life::Open,
            lingers: false,
            is_opened: false,
            subscriptions: Subscriptions::default(),
            wire_format: None,
            last_publication: 0,
        }
    }

    /// What its bytes mean.
    #[inline]
    pub(crate) fn protocol(&self) -> &Protocol {
        &self.protocol
    }

    /// Which part of its handler it belongs to.
    #[inline]
    pub(crate) fn route(&self) -> u16 {
        self.route
    }

    #[inline]
    pub(crate) fn life(&self) -> Life {
        self.life
    }

    #[inline]
    pub(crate) fn handler(&self) -> u32 {
        self.handler
    }

    pub(crate) fn transport(&self) -> &Transport {
        &self.transport
    }

    /// Its reading half.
    #[inline]
    pub(crate) fn reading(&self) -> &Reading {
        &self.reading
    }

    /// Whether `on_open` was called for what the connection is now.
    pub(crate) fn is_opened(&self) -> bool {
        self.is_opened
    }

    /// How a publication to this connection is written and framed now; `None` while it takes none.
    #[inline]
    fn publication_format(&self) -> Option<FramedFormat> {
        let format = self.protocol.publication_format()?;
        Some(match self.wire_format {
            None => format,
            Some(wire_format) => format.with_wire_format(wire_format),
        })
    }

    #[inline]
    fn options<'r>(&self, rooms: &'r Rooms) -> &'r ConnectionOptions {
        rooms.options(self.options)
    }

    /// What the outbox borrows of it.
    #[inline]
    fn parts(&mut self) -> Parts<'_> {
        Parts {
            id: self.id,
            transport: &mut self.transport,
            output: &mut self.output,
            reading: &mut self.reading,
        }
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
