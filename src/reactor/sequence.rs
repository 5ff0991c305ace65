//! The sequence that the ids of publications are taken from.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::pubsub::EventId;

/// Each variant holds the last number taken.
enum Numbers {
    Own(u64),
    /// Several reactors count together.
    Shared(Arc<AtomicU64>),
}

/// The sequence of a reactor's publications.
pub(super) struct Sequence {
    epoch: u64,
    numbers: Numbers,
}

impl Sequence {
    pub(super) fn new(epoch: u64) -> Sequence {
        Sequence {
            epoch,
            numbers: Numbers::Own(0),
        }
    }

    /// Takes the id of the next publication.
    #[inline]
    pub(super) fn next_id(&mut self) -> EventId {
        let number = match &mut self.numbers {
            Numbers::Own(last) => {
                *last += 1;
                *last
            }
            // `Relaxed` is enough: all changes of one atomic have one order, so the numbers that
            // one thread gets ascend. The publications themselves travel by other means.
            Numbers::Shared(last) => last.fetch_add(1, Ordering::Relaxed) + 1,
        };
        EventId {
            epoch: self.epoch,
            number,
        }
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Counts together with other reactors from here on. Their counter is raised to ours, so that
    /// no number is used twice.
    pub(super) fn share(&mut self, epoch: u64, last_number: Arc<AtomicU64>) {
        let last = match &self.numbers {
            Numbers::Own(last) => *last,
            Numbers::Shared(last) => last.load(Ordering::Relaxed),
        };
        last_number.fetch_max(last, Ordering::Relaxed);
        self.epoch = epoch;
        self.numbers = Numbers::Shared(last_number);
    }
}
