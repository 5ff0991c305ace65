//! How far a reactor has caught up with Redis, and the messages that it holds meanwhile.
//!
//! It catches up by parts: one for each bucket, and one for the messages of other programs, which have no number. One server
//! has one part, which is for its one bucket and for messages of other programs.

use std::time::Duration;

use super::keys::Channel;

/// Most bytes of messages of one part that wait until the reactor has caught up.
const HELD_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The bytes that a held message counts beside its content.
const HELD_BYTES: usize = 64;

/// The time from one log line about a reactor that cannot catch up to the next.
const FAILURE_LOG_INTERVAL: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    /// There is no link.
    #[default]
    Away,
    CatchingUp,
    Ready,
}

/// How far the reactor has caught up.
pub(super) struct Recovery {
    bucket_count: usize,
    parts: Vec<Part>,
    /// Raised with each break of what this reactor hears: a lost link, or a new epoch.
    break_count: u64,
    /// The place in the log at which members were told of the last break of messages without numbers.
    gap_place: Option<u64>,
    /// The log has begun.
    has_log: bool,
    failure_logged_at: Option<Duration>,
}

#[derive(Default)]
struct Part {
    phase: Phase,
    /// Raised with each link and each new beginning: answers to an earlier one are stale.
    generation: u64,
    /// The epoch and the number at which the bucket begins, before there is a log.
    begin: Option<(u64, u64)>,
    held: Vec<Held>,
    held_bytes: usize,
    has_overflow: bool,
}

/// A message that was heard meanwhile.
pub(super) struct Held {
    kind: HeldKind,
    topic: Box<[u8]>,
    payload: Box<[u8]>,
}

#[derive(Clone, Copy)]
enum HeldKind {
    Numbered(usize),
    Feed(usize),
    Raw,
}

impl Held {
    pub(super) fn channel(&self) -> Channel<'_> {
        match self.kind {
            HeldKind::Numbered(bucket) => Channel::Numbered(bucket, &self.topic),
            HeldKind::Feed(bucket) => Channel::Feed(bucket),
            HeldKind::Raw => Channel::Raw(&self.topic),
        }
    }

    pub(super) fn payload(&self) -> &[u8] {
        &self.payload
    }
}

impl Part {
    fn drop_held(&mut self) {
        self.held = Vec::new();
        self.held_bytes = 0;
        self.has_overflow = false;
    }
}

impl Recovery {
    /// For this many buckets.
    pub(super) fn new(bucket_count: usize) -> Recovery {
        let part_count = match bucket_count {
            1 => 1,
            count => count + 1,
        };
        Recovery {
            bucket_count,
            parts: (0..part_count).map(|_| Part::default()).collect(),
            break_count: 0,
            gap_place: None,
            has_log: false,
            failure_logged_at: None,
        }
    }

    pub(super) fn part_count(&self) -> usize {
        self.parts.len()
    }

    /// The part of messages of other programs. It is the last one.
    pub(super) fn raw_part(&self) -> usize {
        self.parts.len() - 1
    }

    /// The bucket of a part. `None` where it is for messages of other programs alone.
    pub(super) fn bucket_of(&self, part: usize) -> Option<usize> {
        (part < self.bucket_count).then_some(part)
    }

    /// Whether all parts have caught up.
    pub(super) fn is_ready(&self) -> bool {
        self.parts.iter().all(|part| part.phase == Phase::Ready)
    }

    /// Whether messages of other programs, and of other reactors, are heard.
    pub(super) fn is_raw_ready(&self) -> bool {
        self.parts[self.raw_part()].phase == Phase::Ready
    }

    /// Begins to catch up. Returns the number of this attempt. Messages that an earlier attempt on this link has held stay.
    pub(super) fn begin(&mut self, part: usize) -> u64 {
        let part = &mut self.parts[part];
        part.generation += 1;
        part.phase = Phase::CatchingUp;
        part.generation
    }

    /// Whether a failure is to be logged now: not each second while it lasts.
    pub(super) fn may_log_failure(&mut self, now: Duration) -> bool {
        let is_due = |at: Duration| FAILURE_LOG_INTERVAL <= now.saturating_sub(at);
        let may_log = self.failure_logged_at.is_none_or(is_due);
        if may_log {
            self.failure_logged_at = Some(now);
        }
        may_log
    }

    /// Whether an attempt is the newest one.
    pub(super) fn is_current(&self, part: usize, generation: u64) -> bool {
        self.parts[part].generation == generation
    }

    /// Notes where a bucket begins, before there is a log. Returns where all begin, when it is the last one to be known.
    pub(super) fn note_begin(
        &mut self,
        bucket: usize,
        begin: (u64, u64),
    ) -> Option<Vec<(u64, u64)>> {
        self.parts[bucket].begin = Some(begin);
        let buckets = &self.parts[..self.bucket_count];
        buckets.iter().map(|part| part.begin).collect()
    }

    /// Notes a break. A client that is not a member yet, and so is not told of it, reads again from where it was.
    pub(super) fn note_break(&mut self) {
        self.break_count += 1;
    }

    pub(super) fn break_count(&self) -> u64 {
        self.break_count
    }

    /// The place in the log at which members were told of the last break of messages without numbers, if they were.
    pub(super) fn gap_place(&self) -> Option<u64> {
        self.gap_place
    }

    /// Notes that members are told of the last break at a place in the log.
    pub(super) fn note_gap(&mut self, place: u64) {
        // Without a link for them, messages without numbers are missed behind that place too.
        if self.parts[self.raw_part()].phase != Phase::Away {
            self.gap_place = Some(place);
        }
    }

    pub(super) fn has_log(&self) -> bool {
        self.has_log
    }

    /// Notes that the log has begun.
    pub(super) fn note_log(&mut self) {
        self.has_log = true;
    }

    /// Takes the messages of a part that were held. `None` where they were too many.
    pub(super) fn take_held(&mut self, index: usize) -> Option<Vec<Held>> {
        let part = &mut self.parts[index];
        let held = std::mem::take(&mut part.held);
        let has_overflow = part.has_overflow;
        part.drop_held();
        if has_overflow && index == self.raw_part() {
            // Messages without a number are among those that were dropped.
            self.gap_place = None;
        }
        (!has_overflow).then_some(held)
    }

    /// A part has caught up.
    pub(super) fn complete(&mut self, part: usize) {
        self.failure_logged_at = None;
        self.parts[part].phase = Phase::Ready;
    }

    /// The link of a part is lost. Returns whether all parts had caught up.
    pub(super) fn end(&mut self, index: usize) -> bool {
        let was_ready = self.is_ready();
        let part = &mut self.parts[index];
        part.generation += 1;
        part.phase = Phase::Away;
        part.begin = None;
        part.drop_held();
        if index == self.raw_part() {
            self.gap_place = None;
        }
        self.note_break();
        was_ready
    }

    /// Whether a message may be delivered now. Otherwise it is held. Before the link is complete it is left out: the gap
    /// is told later.
    pub(super) fn may_deliver(&mut self, channel: Channel<'_>, payload: &[u8]) -> bool {
        let (kind, topic) = match channel {
            Channel::Numbered(bucket, topic) => (HeldKind::Numbered(bucket), topic),
            Channel::Feed(bucket) => (HeldKind::Feed(bucket), &b""[..]),
            Channel::Raw(topic) => (HeldKind::Raw, topic),
            Channel::Control | Channel::Foreign => return false,
        };
        let raw_part = self.raw_part();
        let part = &mut self.parts[match kind {
            HeldKind::Numbered(bucket) | HeldKind::Feed(bucket) => bucket,
            HeldKind::Raw => raw_part,
        }];
        match part.phase {
            Phase::Ready => return self.has_log,
            Phase::Away => return false,
            Phase::CatchingUp => {}
        }
        part.held_bytes += HELD_BYTES + topic.len() + payload.len();
        if HELD_BYTES_MAX < part.held_bytes {
            part.held = Vec::new();
            part.has_overflow = true;
        } else if !part.has_overflow {
            part.held.push(Held {
                kind,
                topic: topic.into(),
                payload: payload.into(),
            });
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // A bucket may begin a new epoch while the link for messages of other programs is away.
    #[test]
    fn a_gap_that_is_told_without_a_link_is_told_again_with_it() {
        let mut recovery = Recovery::new(16);
        let raw = recovery.raw_part();
        recovery.begin(raw);
        recovery.complete(raw);
        recovery.end(raw);
        recovery.note_gap(7);
        assert_eq!(recovery.gap_place(), None);
        recovery.begin(raw);
        recovery.note_gap(9);
        assert_eq!(recovery.gap_place(), Some(9));
    }
}
