//! The ready list: sources that are handled in a later turn without another report of the poll.
//!
//! The poll reports an edge once. So a source goes on this list when the loop leaves it although it
//! may not have used up its edge: a report for which the turn had no time is *deferred* and comes
//! before all others in the next turn; a source with more input than its budget is handled *again*,
//! after those that the next poll reports. A *busy* connection, one that has used much of the last
//! turns, comes behind them in the same turn.
//!
//! A connection whose transport shakes hands waits on a list of its own when the turn has no time for
//! more handshakes; those who have waited come before the first report of the next turn.
//!
//! The lists hold indexes and not ids. A flag of the source says whether it is meant, so that a new
//! source at the same index is not handled by mistake.

use std::collections::VecDeque;

use crate::reactor::burst::{give_back, give_back_queue};
use crate::reactor::id::ConnId;
use crate::reactor::transport::listener::{Accepting, Listener};

use super::reading::Reading;

#[derive(Default)]
pub(crate) struct ReadyList {
    deferred: VecDeque<u32>,
    again: Vec<u32>,
    /// Busy connections that the poll has reported in this turn.
    busy: Vec<u32>,
    /// Connections whose handshake waits for its share of a turn.
    handshakes: VecDeque<u32>,
    /// Listeners that accept when a connection has been removed.
    paused_listeners: Vec<u32>,
}

impl ReadyList {
    // ── in ───────────────────────────────────────────────────────────────────────────────────

    /// Keeps a report of the poll for the next turn. The source must not be listed already.
    pub(super) fn defer(&mut self, index: u32) {
        self.deferred.push_back(index);
    }

    /// Has a connection read in the next turn, and its unconsumed bytes delivered.
    pub(super) fn read_again(&mut self, id: ConnId, reading: &mut Reading) {
        if reading.list() {
            self.again.push(id.index);
        }
    }

    /// Has a busy connection read at the end of this dispatch.
    pub(super) fn read_last(&mut self, id: ConnId, reading: &mut Reading) {
        if reading.list() {
            self.busy.push(id.index);
        }
    }

    /// Has the handshake of a connection go on before others begin theirs.
    pub(super) fn wait_for_handshake(&mut self, id: ConnId, reading: &mut Reading) {
        if reading.list() {
            self.handshakes.push_back(id.index);
        }
    }

    /// Has a listener accept in the next turn.
    pub(super) fn accept_again(&mut self, index: u32, listener: &mut Listener) {
        if listener.accepting() != Accepting::Queued {
            listener.set_accepting(Accepting::Queued);
            self.again.push(index);
        }
    }

    /// Has a listener accept when a connection has been removed.
    pub(crate) fn accept_when_room(&mut self, index: u32) {
        self.paused_listeners.push(index);
    }

    // ── out ──────────────────────────────────────────────────────────────────────────────────

    /// The next source that an earlier turn had no time for.
    pub(crate) fn pop_deferred(&mut self) -> Option<u32> {
        self.deferred.pop_front()
    }

    /// The connection whose handshake has waited longest.
    pub(super) fn pop_handshake(&mut self) -> Option<u32> {
        self.handshakes.pop_front()
    }

    /// The sources that are handled again in this turn.
    pub(crate) fn take_again(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.again)
    }

    /// Moves the busy connections that the poll has reported in this turn behind the others of
    /// `again`.
    pub(crate) fn append_busy(&mut self, again: &mut Vec<u32>) {
        again.append(&mut self.busy);
    }

    /// Gives back the list of [`take_again`](Self::take_again), of which the first `handled_count`
    /// were handled. The others come first in the next turn.
    pub(crate) fn return_again(&mut self, mut again: Vec<u32>, handled_count: usize) {
        again.drain(..handled_count);
        again.append(&mut self.again);
        self.again = again;
    }

    pub(super) fn take_paused_listeners(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.paused_listeners)
    }

    // ── questions ────────────────────────────────────────────────────────────────────────────

    /// How many sources are deferred, and how many are to be handled again.
    pub(crate) fn counts(&self) -> [usize; 2] {
        [self.deferred.len(), self.again.len()]
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.deferred.is_empty() && self.again.is_empty() && self.handshakes.is_empty()
    }

    /// Gives back the memory that a burst took.
    pub(super) fn give_back_memory(&mut self) {
        give_back_queue(&mut self.deferred);
        give_back_queue(&mut self.handshakes);
        give_back(&mut self.again);
        give_back(&mut self.busy);
    }
}
