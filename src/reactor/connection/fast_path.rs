//! The fast path: short WebSocket messages in, short replies out, with nothing else to look at.
//!
//! Most events of a busy server are alike: a WebSocket becomes readable, one read empties its
//! socket, the input holds whole short messages, and each callback sends a short reply. The fast path
//! handles this with one look-up of the connection before the callbacks and one behind them.
//!
//! *It holds* from the read to the end of the event, for the connection that is corked, when at the
//! read the connection
//!
//! * is an open WebSocket between two messages, with `on_open` behind it,
//! * has nothing queued, is not blocked, is not paused, and has no unconsumed bytes,
//! * belongs to a route whose overflow policy is to close, so that the ends of single messages need
//!   not be remembered.
//!
//! *While it holds*, messages of at most 125 bytes are parsed, unmasked and delivered where they lie
//! in the input buffer (`websocket::next_short_message`), and a reply that fits is encoded straight into
//! the cork ([`Outbox::send_fast`](super::outbox::Outbox::send_fast)).
//!
//! *It ends* at whatever makes one of these conditions false: something is queued instead of corked,
//! reading is paused, the connection moves on in its life, the reactor is stopped, the budget of the
//! turn is used up. Each of these calls [`FastPath::leave`], in the one place that it has:
//! `Outbox::push`, `Table::pause`, the functions of `end`, `Table::leave_fast_path_of_all`. What is
//! left of the input then goes the general way, which handles everything.

use crate::protocol::websocket::Role;

/// Whether the fast path holds for the corked connection, and which end of a WebSocket it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FastPath(Option<Role>);

impl FastPath {
    /// The conditions hold.
    #[inline]
    pub(super) fn enter(&mut self, role: Role) {
        self.0 = Some(role);
    }

    /// A condition does not hold any more.
    #[inline]
    pub(super) fn leave(&mut self) {
        self.0 = None;
    }

    /// Which end of the WebSocket this is, while the fast path holds.
    #[inline]
    pub(super) fn role(self) -> Option<Role> {
        self.0
    }
}
