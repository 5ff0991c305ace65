//! The ready list: sources that are handled in a later turn without another report of the poll.
//!
//! The poll reports an edge once. So a source goes on this list when the loop leaves it although it
//! may not have used up its edge: a report for which the turn had no time is *deferred* and comes
//! before all others in the next turn; a source with more input than its budget is handled *again*,
//! after those that the next poll reports. A *busy* connection, one that has used much of the last
//! turns, comes behind them in the same turn.
//!
//! A connection whose transport shakes hands waits on a list of its own when the turn has no time for
//! more handshakes; those who have waited come before the first report of the next turn. There are two
//! such lists: peers that have answered our flight come first, because work that is half done holds
//! memory and has a deadline, and some that begin come between them.
//!
//! The lists hold indexes and not ids. A flag of the source says whether it is meant, so that a new
//! source at the same index is not handled by mistake.

use std::array;
use std::collections::VecDeque;

use crate::reactor::burst::{give_back, give_back_queue};
use crate::reactor::id::ConnId;
use crate::reactor::time::handled::{ANSWERED, FRESH, LISTS};
use crate::reactor::transport::listener::{Accepting, Listener};

use super::reading::Reading;

/// A handshake that begins comes behind so many of peers that have answered, if both wait.
const ANSWERED_IN_ROW: u8 = 3;

#[derive(Default)]
pub(crate) struct ReadyList {
    deferred: VecDeque<u32>,
    again: Vec<u32>,
    /// The room of `again` while those of the last turn are handled.
    again_spare: Vec<u32>,
    /// Busy connections that the poll has reported in this turn.
    busy: Vec<u32>,
    /// Connections whose handshake waits for its share of a turn: those of peers that have answered
    /// our flight, and the others.
    handshakes: [VecDeque<u32>; 2],
    /// How many of the first kind came one behind the other.
    answered_in_row: u8,
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

    /// Has a source that the reactor keeps apart handled in the next turn. It must not be listed already.
    pub(super) fn handle_again(&mut self, index: u32) {
        self.again.push(index);
    }

    /// Has a busy connection read at the end of this dispatch.
    pub(super) fn read_last(&mut self, id: ConnId, reading: &mut Reading) {
        if reading.list() {
            self.busy.push(id.index);
        }
    }

    /// Has the handshake of a connection go on in a later turn. `has_answered`: the peer has our flight.
    pub(super) fn wait_for_handshake(
        &mut self,
        id: ConnId,
        reading: &mut Reading,
        has_answered: bool,
    ) {
        if reading.list() {
            let [answered, fresh] = &mut self.handshakes;
            match has_answered {
                true => answered.push_back(id.index),
                false => fresh.push_back(id.index),
            }
        }
    }

    /// Has a listener accept in the next turn.
    pub(super) fn accept_again(&mut self, index: u32, listener: &mut Listener) {
        if !matches!(listener.accepting(), Accepting::Queued | Accepting::Held) {
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

    /// The connection whose handshake goes on next, and the list on which it has waited.
    pub(super) fn pop_handshake(&mut self) -> Option<(u32, usize)> {
        let [answered, fresh] = &mut self.handshakes;
        let is_turn_of_fresh = self.answered_in_row == ANSWERED_IN_ROW || answered.is_empty();
        if is_turn_of_fresh && !fresh.is_empty() {
            self.answered_in_row = 0;
            return fresh.pop_front().map(|index| (index, FRESH));
        }
        self.answered_in_row = (self.answered_in_row + 1).min(ANSWERED_IN_ROW);
        answered.pop_front().map(|index| (index, ANSWERED))
    }

    /// The sources that are handled again in this turn.
    pub(crate) fn take_again(&mut self) -> Vec<u32> {
        let spare = std::mem::take(&mut self.again_spare);
        std::mem::replace(&mut self.again, spare)
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
        self.again_spare = std::mem::replace(&mut self.again, again);
    }

    pub(super) fn take_paused_listeners(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.paused_listeners)
    }

    // ── questions ────────────────────────────────────────────────────────────────────────────

    /// How many sources wait on each list.
    pub(crate) fn counts(&self) -> [usize; LISTS] {
        let [answered, fresh] = array::from_fn(|list| self.handshakes[list].len());
        [self.deferred.len(), self.again.len(), answered, fresh]
    }

    /// How many handshakes wait.
    #[cfg(feature = "tls")]
    pub(super) fn handshake_count(&self) -> usize {
        self.handshakes.iter().map(VecDeque::len).sum()
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        let [answered, fresh] = &self.handshakes;
        self.deferred.is_empty() && self.again.is_empty() && answered.is_empty() && fresh.is_empty()
    }

    /// Gives back the memory that a burst took.
    pub(super) fn give_back_memory(&mut self) {
        give_back_queue(&mut self.deferred);
        self.handshakes.iter_mut().for_each(give_back_queue);
        give_back(&mut self.again);
        give_back(&mut self.again_spare);
        give_back(&mut self.busy);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handshakes_that_are_half_done_come_first_and_keep_no_other_waiting() {
        let mut list = ReadyList::default();
        let mut wait = |index, has_answered| {
            let id = ConnId {
                index,
                generation: 1,
            };
            list.wait_for_handshake(id, &mut Reading::default(), has_answered);
        };
        (0..3).for_each(|index| wait(index, false));
        (10..18).for_each(|index| wait(index, true));
        assert_eq!(list.counts(), [0, 0, 8, 3]);
        let order: Vec<_> = std::iter::from_fn(|| list.pop_handshake()).collect();
        let indexes: Vec<_> = order.iter().map(|(index, _)| *index).collect();
        assert_eq!(indexes, [10, 11, 12, 0, 13, 14, 15, 1, 16, 17, 2]);
        assert!(
            order
                .iter()
                .all(|(index, list)| (*index < 10) == (*list == FRESH))
        );
        assert!(list.is_empty());
    }
}
