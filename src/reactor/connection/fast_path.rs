//! The fast path: short WebSocket messages in, short replies out, with nothing else to look at.
//!
//! Most events of a busy server are alike: a WebSocket becomes readable, one read empties its
//! socket, the input holds whole short messages, and each callback sends a short reply. The fast
//! path handles this with one look-up of the connection before the callbacks and one behind them.
//!
//! *It holds* from the read to the end of the event, for the connection that is corked, when at the
//! read the connection
//!
//! * is an open WebSocket between two messages, and its `on_open` has been called,
//! * has nothing queued, is not blocked, is not paused, and has no unconsumed bytes,
//! * has not been reported as ended by the peer, and has no urgent data on its way,
//! * belongs to a route whose overflow policy is to close, so that the ends of single messages need
//!   not be remembered, and whose high watermark is at least `FAST_CORK_BYTES_MAX`, so that short
//!   replies need not be compared to it,
//!
//! and when the read has brought bytes and emptied the socket. (A short read of a Unix socket does
//! not show that it is empty, so Unix sockets take the general way.)
//!
//! *While it holds*, messages of at most 125 bytes are parsed, unmasked and delivered where they
//! lie in the input buffer (`websocket::next_short_message`), and a reply that fits into
//! `LARGE_BYTES` with the others is encoded straight into the cork
//! ([`Cork::send_fast`](super::cork::Cork::send_fast)).
//!
//! *It ends* when a callback makes one of these conditions false. Each such change calls
//! [`FastPath::leave`] in the one place where it is made, through `leave_fast_path` of the outbox:
//!
//! * bytes are queued instead of corked: `Outbox::push`,
//! * reading is paused: `Table::pause`, and `Table::pause_for_turn` when the budget is used up,
//! * the connection goes on to another state of its life: the functions of `end`,
//! * it changes its protocol or its options: `Table::set_protocol`,
//! * the reactor is stopped: `Table::leave_fast_path_of_all`,
//! * the event has queued more than the flushes have time for: `send.rs`,
//! * the event is over: `Cork::write_fast`, or `Cork::take_back` of the general way.
//!
//! A message that is not short stops the delivery as well. The rest of the input then goes the
//! general way, which handles everything and may leave unconsumed bytes or half a message behind.
//! Code that adds a condition must call `leave_fast_path` where a callback can change it.
//!
//! # The way of one echo
//!
//! ```text
//!  turn.rs               dispatch: the poll reports a socket as readable
//!  readiness.rs          ready: asks the table for the fast path
//!  connection/table.rs   ready_fast: the first look-up
//!  connection/ready.rs   ready_fast: what the poll has reported
//!  connection/read.rs    read_fast: the other conditions above, one read, and the cork is lent
//!  transport/mod.rs      read: one system call
//!  readiness.rs          deliver_fast: the callbacks, and then the end of the event
//!  call.rs               deliver: guarded and timed, through the trait `Handler` of reactor.rs
//!  server/http_handler   receive_fast: the route by its number
//!  session/websocket.rs  receive_fast, receive_short_messages: one message after the other
//!  websocket/machine.rs  next_short_message (the function): header, mask, UTF-8
//!  (your callback)       ws.send(message)
//!  reactor.rs            send
//!  connection/table.rs   send
//!  connection/cork.rs    send_fast: the frame goes into the cork (websocket/frame.rs encodes it)
//!  readiness.rs          charge_message, fast_path: whether the next message may follow
//!  connection/table.rs   delivered_fast: the second look-up, and the heartbeat (connection/deadline.rs)
//!  connection/cork.rs    write_fast
//!  transport/mod.rs      write: one system call
//! ```
//!
//! Paths are below `src/reactor`; `server` and `session` are below `src`, and `websocket` below
//! `src/protocol`.

use crate::protocol::websocket::Role;

/// Whether the fast path holds for the corked connection, and which end of a WebSocket it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FastPath(Option<Role>);

impl FastPath {
    /// Enters the fast path, because a read has found that all conditions hold.
    #[inline]
    pub(super) fn enter(&mut self, role: Role) {
        self.0 = Some(role);
    }

    /// Leaves the fast path, because a condition no longer holds, or the event is over.
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
