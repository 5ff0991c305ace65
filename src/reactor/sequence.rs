//! Where the ids of publications come from.

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

    /// The id of what is published next.
    #[inline]
    pub(super) fn next_id(&mut self) -> EventId {
        let number = match &mut self.numbers {
            Numbers::Own(last) => {
                *last += 1;
                *last
            }
            // One place in memory has one order of changes, so what one thread gets here ascends.
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

    /// Counts together with others from here on. Their counter is raised to ours, so that no number
    /// is given out twice.
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
