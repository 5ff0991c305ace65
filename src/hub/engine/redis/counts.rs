//! Numbers about the links of a node to Redis, for its metrics. The reactors of a node share them.

use std::sync::atomic::{AtomicU64, Ordering};

/// Numbers about all links of a node.
#[derive(Debug, Default)]
pub struct RedisCounts {
    links: AtomicU64,
    ready: AtomicU64,
    lost: AtomicU64,
    epochs: AtomicU64,
    unpublished: AtomicU64,
    left_out: AtomicU64,
}

/// The numbers at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RedisNumbers {
    /// Links, one for each reactor.
    pub links: u64,
    /// Links that have caught up.
    pub ready: u64,
    /// Links that were lost, each a gap for the members of its reactor.
    pub lost: u64,
    /// Epochs that have begun after the first, each a gap.
    pub epochs: u64,
    /// Publications that Redis has not carried out, or has not said so.
    pub unpublished: u64,
    /// Messages of other programs that were left out.
    pub left_out: u64,
}

impl RedisCounts {
    pub(super) fn note_link(&self) {
        self.links.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn note_ready(&self) {
        self.ready.fetch_add(1, Ordering::Relaxed);
    }

    /// A link is lost. `was_ready` says whether all of the reactor had caught up, and `is_gap` whether messages may be
    /// missed for good.
    pub(super) fn note_lost(&self, was_ready: bool, is_gap: bool) {
        self.lost.fetch_add(u64::from(is_gap), Ordering::Relaxed);
        self.ready
            .fetch_sub(u64::from(was_ready), Ordering::Relaxed);
    }

    pub(super) fn note_epoch(&self) {
        self.epochs.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn note_unpublished(&self) {
        self.unpublished.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn note_left_out(&self) {
        self.left_out.fetch_add(1, Ordering::Relaxed);
    }

    pub fn numbers(&self) -> RedisNumbers {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        RedisNumbers {
            links: read(&self.links),
            ready: read(&self.ready),
            lost: read(&self.lost),
            epochs: read(&self.epochs),
            unpublished: read(&self.unpublished),
            left_out: read(&self.left_out),
        }
    }
}
