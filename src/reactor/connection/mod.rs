//! One connection: transport, protocol, write queue, life; small, and without heap of its own.
//!
//! ```text
//!               open          close              finish              flushed
//!   Handshaking ────▶ Open ───────────▶ Closing ─────────▶ Finishing ─────────▶ Done
//!                      │ │ (WebSocket)                        ▲                 ▲ │
//!                      │ ├── close (every other protocol) ────┤                 │ │
//!                      │ ├── finish (peer's close or end) ────┤                 │ │
//!                      │ └── fail (the peer's fault, a panic) ┘                 │ │
//!                      └──── abort (the transport failed, a deadline passed) ───┘ │
//!                                                                                 ▼
//!                             Lingering ◀── linger (if the peer may still read) ── on_close
//!                                 └────────── remove ◀── otherwise ─────────────────┘
//! ```
//!
//! *Handshaking*: the transport does not carry the protocol's bytes yet, as when a client connects
//! or speaks TLS. Messages wait in the queue. *Open* takes messages. *Closing* (WebSocket only)
//! has sent our close frame and waits for the peer's. *Finishing* sends no more than its queue;
//! when that is flushed, our side of the stream is ended (half close, if the connection lingers).
//! *Done* is on the list of connections that have ended, and `on_close` is called once, at the end
//! of the turn. *Lingering* discards what still comes until the peer ends its side too: closing a
//! socket with unread bytes sends a reset, which can destroy our last words before the peer has
//! read them (RFC 9112, section 9.6).
//!
//! Handshaking has the same arrows as Open, with one exception: `close` aborts a handshaking
//! connection whose queue is empty. `fail` and `abort` leave Closing too, and `abort` leaves
//! Finishing. An arrow whose state does not fit does nothing, so callers need not ask first, and
//! the first cause stays.
//!
//! From the first step of closing one absolute deadline holds, which the peer cannot extend. The
//! exception is the last answer of an HTTP connection: it may be large and its client slow, so the
//! deadline of closing begins after its last byte, and until then the write deadline holds.
//!
//! The arrows are the functions of `begin.rs` (open) and `end.rs` (all others), by these names;
//! nothing else moves a connection from one state to the next, except that `table.rs` inserts and
//! removes it.
//!
//! # The rooms
//!
//! ```text
//!   table                              the way in by id
//!     ready  debtors                   reports of the poll to next steps; ends for want of memory
//!       begin  sources                 transport and open; everything registered, by index
//!       read  send                     readiness to bytes; admission and flush
//!         end                          the other arrows above
//!           mod                        the data of one connection
//!             rooms                    the data that all connections share
//!               outbox  deadline       queues and lists of the flush; when to look again
//!               ready_list             what is handled without another report of the poll
//!               early_flush            what the flushes before that of the turn may cost
//!                 cork  palette        the open tail of one queue; publications in common
//!                   queue  fast_path   linked lists of what is queued; the way of one echo
//!                 reading  rate        why reading stopped; messages a second
//!                 awaiting             requests that wait for publications
//!                 handshakes           the time of handshakes in a turn
//! ```
//!
//! Each file imports only from lines below its own. Most functions take `&mut Connection` and
//! `&mut Rooms`, so that only `table` looks ids up.

pub(crate) mod awaiting;
mod begin;
mod cork;
pub(crate) mod deadline;
mod debtors;
mod early_flush;
mod end;
mod fast_path;
mod handshakes;
mod outbox;
mod palette;
pub(crate) mod queue;
pub(crate) mod rate;
pub(crate) mod read;
pub(crate) mod reading;
pub(crate) mod ready;
mod ready_list;
mod rooms;
mod send;
mod sources;
pub(crate) mod table;

use crate::pubsub::{FramedFormat, Subscriptions, WireFormat};

use super::close::{Close, Deadline};
use super::config::ConnectionOptions;
use super::id::ConnId;
use super::protocol::Protocol;
use super::stats::ConnectionCounts;
use super::time::coarse::CoarseTime;
use super::transport::Transport;
use deadline::Waits;
use outbox::{Output, Parts};
use rate::Rate;
use reading::{Pause, Reading};
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

    /// Whether callbacks other than `on_close` may still be called for it.
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
    rate: Rate,
    waits: Waits,
    /// The cause of its end. Set at the first step of closing, and taken for `on_close`.
    close: Option<Box<Close>>,
    /// Index of its handler; [`NO_HANDLER`] once `on_close` was called.
    handler: u32,
    /// Which route of its handler it belongs to.
    route: u16,
    /// Index of its options. An index, because most connections share one set of options.
    options: u16,
    life: Life,
    /// Whether the connection waits, after `on_close`, until the peer ends its side too or the
    /// close deadline passes.
    lingers: bool,
    /// `on_open` was called for what the connection is now, so `on_close` is owed.
    is_opened: bool,
    subscriptions: Subscriptions,
    /// How publications to it are encoded, if not as its protocol does by default.
    wire_format: Option<WireFormat>,
    /// The bytes that it holds of its own, as the account of memory has them; see `held_bytes`.
    charged_bytes: u32,
    /// The mark of the last publication that was queued here. A member by name and by pattern is
    /// visited twice, and gets the publication once.
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
            rate: Rate::default(),
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
            charged_bytes: 0,
            last_publication: 0,
        }
    }

    /// The protocol that its bytes belong to.
    #[inline]
    pub(crate) fn protocol(&self) -> &Protocol {
        &self.protocol
    }

    /// The index of its route in its handler.
    #[inline]
    pub(crate) fn route(&self) -> u16 {
        self.route
    }

    #[inline]
    pub(crate) fn handler(&self) -> u32 {
        self.handler
    }

    pub(crate) fn transport(&self) -> &Transport {
        &self.transport
    }

    pub(crate) fn life(&self) -> Life {
        self.life
    }

    /// Whether it takes messages and its transport carries them.
    pub(crate) fn is_ready(&self) -> bool {
        self.life == Life::Open
    }

    /// Whether it still waits for a transport. A connection that was closed while it connects does,
    /// if messages were sent before: they are delivered first.
    pub(crate) fn wants_transport(&self) -> bool {
        self.transport.is_pending() && matches!(self.life, Life::Handshaking | Life::Finishing)
    }

    /// Its reading half.
    #[inline]
    pub(crate) fn reading(&self) -> &Reading {
        &self.reading
    }

    /// The pace of its messages; see `budget`.
    pub(crate) fn pace(&self) -> u8 {
        self.reading.pace()
    }

    /// Whether the loop may read it, parse and deliver now. Once it is closing, only the budget of
    /// the turn stops it: the peer's goodbye must be found behind what the application has left
    /// unread.
    #[inline]
    pub(crate) fn may_read(&self) -> bool {
        match self.life {
            Life::Handshaking | Life::Open => self.reading.may_read(),
            Life::Closing | Life::Finishing | Life::Lingering | Life::Done => {
                !self.reading.is_paused(Pause::Turn)
            }
        }
    }

    /// Whether an open connection is not read for a reason that lasts longer than a turn.
    pub(crate) fn is_held(&self) -> bool {
        matches!(self.life, Life::Handshaking | Life::Open) && self.reading.is_held()
    }

    /// Whether our side of the stream ends behind what is queued.
    fn ends_output(&self) -> bool {
        self.life == Life::Finishing || matches!(self.protocol, Protocol::Finished)
    }

    /// Whether `on_close` is still to be called for it: with the life of a connection that has
    /// ended, until the close is taken for the call.
    pub(crate) fn owes_on_close(&self) -> bool {
        match self.life {
            Life::Handshaking | Life::Open | Life::Closing | Life::Finishing => true,
            Life::Done => self.close.is_some(),
            Life::Lingering => false,
        }
    }

    /// The count of the connections of its kind.
    fn count_in<'c>(&self, counts: &'c mut ConnectionCounts) -> &'c mut usize {
        match self.life {
            Life::Lingering => &mut counts.lingering,
            _ => self.protocol.count_in(counts),
        }
    }

    /// The memory that it holds of its own, without its queue, in bytes: its place, and the
    /// beginnings of what is coming.
    fn held_bytes(&self) -> usize {
        size_of::<Connection>()
            + self.transport.held_bytes()
            + self.reading.held_bytes()
            + self.protocol.held_bytes()
    }

    /// Whether `on_open` was called for what the connection is now.
    pub(crate) fn is_opened(&self) -> bool {
        self.is_opened
    }

    /// The deadline that is set, apart from the write deadline.
    pub(crate) fn waits_for(&self) -> Option<Deadline> {
        self.waits.waits_for()
    }

    /// How a publication to this connection is encoded and framed now; `None` while its protocol
    /// takes no publications.
    #[inline]
    pub(crate) fn publication_format(&self) -> Option<FramedFormat> {
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

    // ── changes that need no other room ──────────────────────────────────────────────────────

    #[inline]
    pub(crate) fn protocol_mut(&mut self) -> &mut Protocol {
        &mut self.protocol
    }

    /// Sets the route of its handler that it belongs to.
    pub(crate) fn set_route(&mut self, route: u16) {
        self.route = route;
    }

    /// Notes that `on_open` is called for it, so that its `on_close` will be called too.
    pub(crate) fn mark_opened(&mut self) {
        self.is_opened = true;
    }

    /// Sets how publications to it are encoded from now on.
    pub(crate) fn set_wire_format(&mut self, wire_format: WireFormat) {
        self.wire_format = Some(wire_format);
    }

    /// Its subscriptions, while its protocol may be a member of topics.
    pub(crate) fn member_mut(&mut self) -> Option<&mut Subscriptions> {
        let may_subscribe = self.protocol.may_subscribe();
        may_subscribe.then_some(&mut self.subscriptions)
    }

    pub(crate) fn subscriptions(&self) -> Subscriptions {
        self.subscriptions
    }

    pub(crate) fn subscriptions_mut(&mut self) -> &mut Subscriptions {
        &mut self.subscriptions
    }

    /// Leaves it out of the publication of this mark, as if it had the publication already.
    pub(crate) fn leave_out(&mut self, mark: u64) {
        self.last_publication = mark;
    }

    /// Whether the end of stream is to be delivered to the handler. Returns `true` once.
    pub(crate) fn take_end(&mut self) -> bool {
        self.reading.take_end()
    }

    /// Whether `on_drain` is due for it. Returns `true` once.
    pub(crate) fn take_below_low_mark(&mut self) -> bool {
        self.output.take_below_low_mark()
    }

    /// Takes out what the call of `on_close` needs: the cause, the handler and the subscriptions.
    /// Returns `None` the second time.
    pub(crate) fn take_close(&mut self) -> Option<(Box<Close>, u32, Subscriptions)> {
        let close = self.close.take()?;
        let subscriptions = std::mem::take(&mut self.subscriptions);
        Some((close, self.handler, subscriptions))
    }

    // ── deadlines ────────────────────────────────────────────────────────────────────────────

    /// Sets the deadline of an open connection in place of the one that it had. Does nothing from
    /// the first step of closing on, because then one absolute deadline holds.
    #[inline]
    fn set_deadline(&mut self, rooms: &mut Rooms, deadline: Deadline, after_nanos: u64) {
        if self.life.takes_messages() {
            let due = CoarseTime::after_nanos(rooms.now, after_nanos);
            rooms.deadlines.set(self.id, &mut self.waits, deadline, due);
        }
    }

    /// Clears the deadline of an open connection.
    #[inline]
    pub(crate) fn clear_deadline(&mut self) {
        if self.life.takes_messages() {
            self.waits.clear();
        }
    }

    /// Puts off the deadline of an open connection by whole seconds.
    pub(crate) fn extend_deadline(&mut self, seconds: u32) {
        if self.life.takes_messages() {
            self.waits.extend(seconds);
        }
    }

    // ── other rooms ──────────────────────────────────────────────────────────────────────────

    /// Borrows the fields that the outbox works on, apart from the rest.
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
