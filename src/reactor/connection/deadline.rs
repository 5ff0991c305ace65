//! What a connection waits for: its deadlines, set, put off and passed.
//!
//! A connection has two: one for what its protocol waits for, and one for the peer's taking of
//! bytes. Both are fields of the connection, and changing them costs nothing. The room files the
//! connection once, at the earlier of the two or before it; how, and how late a deadline may pass, is
//! in `time::coarse`.

use crate::reactor::close::Deadline;
use crate::reactor::id::ConnId;
use crate::reactor::time::coarse::{Buckets, CoarseTime};

/// The deadlines of one connection.
#[derive(Debug, Default)]
pub(crate) struct Waits {
    due: CoarseTime,
    write_due: CoarseTime,
    /// Where it is filed; never after the earlier of the two.
    filed: CoarseTime,
    /// What `due` is about.
    waits_for: Option<Deadline>,
}

impl Waits {
    /// What it waits for, apart from the peer's taking of bytes.
    pub(super) fn waits_for(&self) -> Option<Deadline> {
        self.waits_for
    }

    /// Waits for nothing any more, apart from the peer's taking of bytes.
    pub(super) fn clear(&mut self) {
        self.waits_for = None;
        self.due = CoarseTime::NEVER;
    }

    /// Puts off the deadline, where there is one, by whole seconds.
    pub(super) fn extend(&mut self, seconds: u32) {
        if self.due != CoarseTime::NEVER {
            self.due = self.due.later_by_seconds(seconds);
        }
    }

    /// Nothing waits for the peer to take bytes any more.
    pub(super) fn clear_write(&mut self) {
        self.write_due = CoarseTime::NEVER;
    }

    fn next(&self) -> CoarseTime {
        self.due.earlier(self.write_due)
    }
}

/// The deadlines of all connections, by the moment at which each is looked at next.
#[derive(Default)]
pub(super) struct Deadlines {
    buckets: Buckets,
}

impl Deadlines {
    /// Sets what the connection waits for; the deadline that it had is forgotten.
    #[inline]
    pub(super) fn set(&mut self, id: ConnId, waits: &mut Waits, what: Deadline, due: CoarseTime) {
        waits.waits_for = Some(what);
        waits.due = due;
        if waits.filed == CoarseTime::NEVER || due < waits.filed {
            self.file(id, waits);
        }
    }

    /// Sets until when the peer must have taken some of what waits for it.
    pub(super) fn set_write(&mut self, id: ConnId, waits: &mut Waits, due: CoarseTime) {
        waits.write_due = due;
        self.file(id, waits);
    }

    fn file(&mut self, id: ConnId, waits: &mut Waits) {
        let next = waits.next();
        if next != CoarseTime::NEVER && (waits.filed == CoarseTime::NEVER || next < waits.filed) {
            waits.filed = next;
            self.buckets.file(next, id);
        }
    }

    /// When the earliest is looked at, in nanoseconds; `u64::MAX` when there is none.
    #[inline]
    pub(super) fn next_due(&self) -> u64 {
        self.buckets.next_due()
    }

    /// The earliest bucket that has come up at `now`, with its connections.
    #[inline]
    pub(super) fn pop_due(&mut self, now: u64) -> Option<(CoarseTime, Vec<ConnId>)> {
        self.buckets.pop_due(now)
    }

    /// What has passed for a connection that came up in the bucket of `filed`; files it anew.
    pub(super) fn take_passed(
        &mut self,
        id: ConnId,
        waits: &mut Waits,
        filed: CoarseTime,
        now: u64,
    ) -> Option<Deadline> {
        if waits.filed != filed {
            return None;
        }
        waits.filed = CoarseTime::NEVER;
        let has_passed = |due: CoarseTime| due != CoarseTime::NEVER && due.nanos() <= now;
        let passed = if has_passed(waits.write_due) {
            waits.write_due = CoarseTime::NEVER;
            Some(Deadline::Write)
        } else if has_passed(waits.due) {
            waits.due = CoarseTime::NEVER;
            waits.waits_for.take()
        } else {
            None
        };
        self.file(id, waits);
        passed
    }
}
