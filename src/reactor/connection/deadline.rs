//! The deadlines of a connection: setting them, putting them off, and finding those that passed.
//!
//! A connection has three deadlines: one that its protocol or its life sets, the write deadline,
//! until which the peer must take some of the queued bytes, and its age. Two of them, because a
//! peer that sends pings and takes no bytes must still time out; the age, because no message puts
//! it off. All three are fields of the connection, so a message that puts one off costs a store or
//! two. The room files the connection in one bucket only, at the earliest of them or before it.
//! When the bucket comes up, the connection is asked and filed anew if none has passed. The
//! buckets, and how late a deadline may pass, are explained in `time::coarse`.

use std::time::Duration;

use crate::reactor::close::Deadline;
use crate::reactor::id::ConnId;
use crate::reactor::time::coarse::{Buckets, CoarseTime};

/// The change of the heartbeat's deadline that a role wants after a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heartbeat {
    /// The role has set the deadline itself, or keeps the one that is set.
    Unchanged,
    /// The next heartbeat is due after this many nanoseconds.
    In(u64),
    /// There is none.
    Off,
}

/// Returns a time in nanoseconds for `Table::set_deadline`.
pub(crate) fn deadline_nanos(after: Duration) -> u64 {
    CoarseTime::bounded_nanos(after)
}

/// The deadlines of one connection.
#[derive(Debug, Default)]
pub(crate) struct Waits {
    due: CoarseTime,
    write_due: CoarseTime,
    age_due: CoarseTime,
    /// The bucket in which it is filed; never after the earliest of the deadlines.
    filed: CoarseTime,
    /// The meaning of `due`.
    waits_for: Option<Deadline>,
}

impl Waits {
    /// The deadline that is set, apart from the write deadline.
    pub(super) fn waits_for(&self) -> Option<Deadline> {
        self.waits_for
    }

    /// Clears the deadline; the write deadline stays. The connection stays filed: finding it in its
    /// bucket would cost more than asking it once for nothing.
    pub(super) fn clear(&mut self) {
        self.waits_for = None;
        self.due = CoarseTime::NEVER;
    }

    /// Puts off the deadline, if there is one, by whole seconds.
    pub(super) fn extend(&mut self, seconds: u32) {
        if self.due != CoarseTime::NEVER {
            self.due = self.due.later_by_seconds(seconds);
        }
    }

    /// The write deadline; never while the peer takes everything.
    pub(super) fn write_due(&self) -> CoarseTime {
        self.write_due
    }

    /// Clears the write deadline: the queue is empty.
    pub(super) fn clear_write(&mut self) {
        self.write_due = CoarseTime::NEVER;
    }

    fn next(&self) -> CoarseTime {
        self.due.earlier(self.write_due).earlier(self.age_due)
    }
}

/// The deadlines of all connections, by the moment at which each is looked at next.
#[derive(Default)]
pub(super) struct Deadlines {
    buckets: Buckets,
}

impl Deadlines {
    /// Sets the deadline of a connection in place of the one that it had.
    #[inline]
    pub(super) fn set(&mut self, id: ConnId, waits: &mut Waits, what: Deadline, due: CoarseTime) {
        waits.waits_for = Some(what);
        waits.due = due;
        if waits.filed == CoarseTime::NEVER || due < waits.filed {
            self.file(id, waits);
        }
    }

    /// Sets the write deadline, until which the peer must have taken some of its queued bytes.
    pub(super) fn set_write(&mut self, id: ConnId, waits: &mut Waits, due: CoarseTime) {
        waits.write_due = due;
        self.file(id, waits);
    }

    /// Sets the moment at which the connection is old; never without a limit.
    pub(super) fn set_age(&mut self, id: ConnId, waits: &mut Waits, due: CoarseTime) {
        waits.age_due = due;
        self.file(id, waits);
    }

    /// Files a connection, unless it is filed early enough. A later deadline needs no filing: the
    /// bucket that comes up first files it anew.
    fn file(&mut self, id: ConnId, waits: &mut Waits) {
        let next = waits.next();
        if next != CoarseTime::NEVER && (waits.filed == CoarseTime::NEVER || next < waits.filed) {
            waits.filed = next;
            self.buckets.file(next, id);
        }
    }

    /// How many connections are filed, those that have gone or were filed anew included.
    #[inline]
    pub(super) fn filed_count(&self) -> usize {
        self.buckets.count()
    }

    /// Forgets the entries of connections that have gone, or that were filed anew since. `waits_of`
    /// returns the deadlines of a connection that is there.
    pub(super) fn sweep<'w>(&mut self, waits_of: impl Fn(ConnId) -> Option<&'w Waits>) {
        let is_wanted =
            |at: CoarseTime, id: ConnId| waits_of(id).is_some_and(|waits| waits.filed == at);
        self.buckets.sweep(is_wanted);
    }

    /// When the earliest bucket comes up, in nanoseconds; `u64::MAX` when there is none.
    #[inline]
    pub(super) fn next_due(&self) -> u64 {
        self.buckets.next_due()
    }

    /// The earliest bucket that has come up at `now`, with its connections.
    #[inline]
    pub(super) fn pop_due(&mut self, now: u64) -> Option<(CoarseTime, Vec<ConnId>)> {
        self.buckets.pop_due(now)
    }

    /// Puts back connections of a bucket that has come up, to be looked at later.
    pub(super) fn put_back(&mut self, filed: CoarseTime, ids: Vec<ConnId>) {
        for id in ids {
            self.buckets.file(filed, id);
        }
    }

    /// Returns the deadline that has passed for a connection that came up in the bucket of `filed`,
    /// and files it anew for the others.
    pub(super) fn take_passed(
        &mut self,
        id: ConnId,
        waits: &mut Waits,
        filed: CoarseTime,
        now: u64,
    ) -> Option<Deadline> {
        // It was filed in an earlier bucket since, and this entry is an old one.
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
        } else if has_passed(waits.age_due) {
            waits.age_due = CoarseTime::NEVER;
            Some(Deadline::Age)
        } else {
            None
        };
        self.file(id, waits);
        passed
    }
}
