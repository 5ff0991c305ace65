//! How far a reactor has caught up with Redis, and the messages that it holds meanwhile.

use super::keys::Channel;

/// Most bytes of messages that wait until the reactor has caught up.
const HELD_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The bytes that a held message counts beside its content.
const HELD_BYTES: usize = 64;

#[derive(Default)]
enum Phase {
    /// There is no link.
    #[default]
    Away,
    CatchingUp,
    Ready,
}

/// How far the reactor has caught up.
#[derive(Default)]
pub(super) struct Recovery {
    phase: Phase,
    /// Raised with each link and each new beginning: answers to an earlier one are stale.
    generation: u64,
    /// Raised with each break of what this reactor hears: a lost link, or a new epoch.
    break_count: u64,
    /// The place in the log at which members were told of the last break.
    gap_place: Option<u64>,
    /// The log has begun.
    has_log: bool,
    held: Vec<Held>,
    held_bytes: usize,
    has_overflow: bool,
}

/// A message that was heard meanwhile.
pub(super) struct Held {
    is_numbered: bool,
    topic: Box<[u8]>,
    payload: Box<[u8]>,
}

impl Held {
    pub(super) fn channel(&self) -> Channel<'_> {
        match self.is_numbered {
            true => Channel::Numbered(&self.topic),
            false => Channel::Raw(&self.topic),
        }
    }

    pub(super) fn payload(&self) -> &[u8] {
        &self.payload
    }
}

impl Recovery {
    pub(super) fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Ready)
    }

    /// Begins to catch up. Returns the number of this attempt. Messages that an earlier attempt on this link has held stay.
    pub(super) fn begin(&mut self) -> u64 {
        self.generation += 1;
        self.phase = Phase::CatchingUp;
        self.generation
    }

    /// Whether an attempt is the newest one.
    pub(super) fn is_current(&self, generation: u64) -> bool {
        self.generation == generation
    }

    /// Notes a break. A client that is not a member yet, and so is not told of it, reads again from where it was.
    pub(super) fn note_break(&mut self) {
        self.break_count += 1;
    }

    pub(super) fn break_count(&self) -> u64 {
        self.break_count
    }

    /// The place in the log at which members were told of the last break, if they were.
    pub(super) fn gap_place(&self) -> Option<u64> {
        self.gap_place
    }

    /// Notes that members are told of the last break at a place in the log.
    pub(super) fn note_gap(&mut self, place: u64) {
        self.gap_place = Some(place);
    }

    pub(super) fn has_log(&self) -> bool {
        self.has_log
    }

    /// Notes that the log has begun. Returns whether it had before.
    pub(super) fn note_log(&mut self) -> bool {
        std::mem::replace(&mut self.has_log, true)
    }

    /// Takes the messages that were held. `None` where they were too many.
    pub(super) fn take_held(&mut self) -> Option<Vec<Held>> {
        let held = std::mem::take(&mut self.held);
        let has_overflow = self.has_overflow;
        if has_overflow {
            // Messages without a number are among those that were dropped.
            self.gap_place = None;
        }
        self.drop_held();
        (!has_overflow).then_some(held)
    }

    /// The reactor has caught up.
    pub(super) fn complete(&mut self) {
        self.phase = Phase::Ready;
    }

    /// The link is lost. Returns whether the reactor had caught up.
    pub(super) fn end(&mut self) -> bool {
        let was_ready = self.is_ready();
        self.generation += 1;
        self.phase = Phase::Away;
        self.gap_place = None;
        self.note_break();
        self.drop_held();
        was_ready
    }

    fn drop_held(&mut self) {
        self.held = Vec::new();
        self.held_bytes = 0;
        self.has_overflow = false;
    }

    /// Whether a message may be delivered now. Otherwise it is held. Before the link is complete it is left out: the gap
    /// is told later.
    pub(super) fn may_deliver(&mut self, channel: Channel<'_>, payload: &[u8]) -> bool {
        match self.phase {
            Phase::Ready => return true,
            Phase::Away => return false,
            Phase::CatchingUp => {}
        }
        let (is_numbered, topic) = match channel {
            Channel::Numbered(topic) => (true, topic),
            Channel::Raw(topic) => (false, topic),
            Channel::Control | Channel::Foreign => return false,
        };
        self.held_bytes += HELD_BYTES + topic.len() + payload.len();
        if HELD_BYTES_MAX < self.held_bytes {
            self.held = Vec::new();
            self.has_overflow = true;
        } else if !self.has_overflow {
            self.held.push(Held {
                is_numbered,
                topic: topic.into(),
                payload: payload.into(),
            });
        }
        false
    }
}
