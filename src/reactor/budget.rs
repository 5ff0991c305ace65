//! The time that the messages of one connection may take in a turn, and that the steps of a turn may
//! take for all connections together.
//!
//! A byte budget alone is not enough: one read can hold a hundred thousand small messages. For small
//! messages reading the clock costs as much as handling them, so it is read once in several steps:
//! after the first one at the beginning, then after twice as many each time, as long as the steps are
//! cheap. Steps that took long lower the number at once. Each connection keeps its own number, its
//! *pace*, because the messages of one client may cost microseconds and those of another milliseconds.

use super::config::Config;
use super::time::clock::nanos;

/// The most steps between two readings of the clock. A message or a request is one step, and so are
/// eight members that a publication is offered to, and one comparison to a pattern.
///
/// A client whose messages were cheap so far can have at most this many costly ones before the clock
/// is read. With more of them the reading would cost less than one percent of the cheapest message.
pub(crate) const PACE_MAX: u8 = 32;

/// The clock is read so often that the steps in between take at most this part of the budget, as far
/// as the last ones tell.
const PARTS: u64 = 8;

/// The least that each source may use however many are ready, in nanoseconds.
const SHARE_NANOS_MIN: u64 = 250_000;

/// A connection that brings more in one turn is busy, in bytes. The last piece of a long message may cost as
/// much as all of it.
const BUSY_BYTES_MIN: usize = 64 * 1024;

/// The time that the connection which is being read may use in this turn, and the turn itself.
pub(crate) struct Budget {
    limit_nanos: u64,
    dispatch_nanos: u64,
    flush_limit_nanos: u64,
    /// The part of the limit that one connection has while others are ready too, in nanoseconds.
    share_nanos: u64,
    /// How long the steps between two readings of the clock may take, in nanoseconds.
    chunk_nanos: u64,
    /// A step that takes at most this long allows the highest pace, in nanoseconds.
    cheap_nanos: u64,
    /// When the connection began to be read in this turn.
    began: u64,
    /// When the clock was last read for this connection.
    read_at: u64,
    /// Steps of work since then.
    steps: u32,
    /// The steps after which the clock is read again.
    pace: u8,
    /// Whether the connection that is being read waits for a flush, and has no time left.
    is_exhausted: bool,
    /// When the last poll returned.
    woke: u64,
    /// How long flushing took since messages were last delivered.
    flush_nanos: u64,
}

impl Budget {
    pub(crate) fn new(config: &Config) -> Budget {
        let limit = config.read_time_budget;
        Budget {
            limit_nanos: nanos(limit),
            dispatch_nanos: nanos(config.dispatch_time_budget),
            flush_limit_nanos: nanos(config.flush_time_budget),
            share_nanos: nanos(limit),
            chunk_nanos: nanos(limit) / PARTS,
            cheap_nanos: nanos(limit) / PARTS / u64::from(PACE_MAX),
            began: 0,
            read_at: 0,
            steps: 0,
            pace: 1,
            is_exhausted: false,
            woke: 0,
            flush_nanos: 0,
        }
    }

    /// Notes that the poll has returned.
    #[inline]
    pub(crate) fn note_wake(&mut self, now: u64) {
        self.woke = now;
    }

    /// Forgets the time of earlier flushes, after a dispatch has used it.
    #[inline]
    pub(crate) fn forget_flush(&mut self) {
        self.flush_nanos = 0;
    }

    /// How long the flushes until the next dispatch may still take, in nanoseconds.
    pub(crate) fn flush_left(&self) -> u64 {
        self.flush_limit_nanos.saturating_sub(self.flush_nanos)
    }

    /// Adds the time of a flush.
    pub(crate) fn note_flush(&mut self, took_nanos: u64) {
        self.flush_nanos += took_nanos;
    }

    /// Whether the dispatch has used its time: sources that are not handled yet wait for the next
    /// turn.
    #[inline]
    pub(crate) fn is_dispatch_over(&self, now: u64) -> bool {
        self.is_step_over(self.woke, now)
    }

    /// Whether a step of the turn other than the flush has used its time.
    #[inline]
    pub(crate) fn is_step_over(&self, began: u64, now: u64) -> bool {
        self.dispatch_nanos <= now - began
    }

    /// Divides the time of the dispatch between `count` sources that are ready, so that the last of
    /// them does not wait for the whole budgets of all others.
    ///
    /// All of them together have at least as long as the last flush took. With a fan-out to thousands
    /// of members each turn ends with thousands of writes; fewer messages in a turn mean more flushes,
    /// and so more writes, for the same publications.
    pub(crate) fn share_between(&mut self, count: usize) {
        let count = count.max(1) as u64;
        let share = self.dispatch_nanos / count;
        self.share_nanos = share
            .max(SHARE_NANOS_MIN)
            .min(self.limit_nanos)
            .max(self.flush_nanos / count);
        self.chunk_nanos = (self.limit_nanos / PARTS).min(self.share_nanos / 4);
        self.cheap_nanos = self.chunk_nanos / u64::from(PACE_MAX);
    }

    /// Begins the budget of the next connection that is read, which has this pace.
    #[inline]
    pub(crate) fn begin(&mut self, now: u64, pace: u8) {
        self.began = now;
        self.read_at = now;
        self.steps = 0;
        self.pace = pace;
        self.is_exhausted = false;
    }

    /// Counts work for the connection that is being read.
    #[inline]
    pub(crate) fn charge(&mut self, steps: u32) {
        self.steps = self.steps.saturating_add(steps);
    }

    /// Ends the time of the connection that is being read.
    #[cold]
    pub(crate) fn exhaust(&mut self) {
        self.steps = u32::MAX;
        self.is_exhausted = true;
    }

    /// Counts one message. Returns whether the clock is to be read now.
    #[inline]
    pub(crate) fn charge_message(&mut self) -> bool {
        self.steps = self.steps.saturating_add(1);
        u32::from(self.pace) <= self.steps
    }

    /// Adapts the pace to the time that the steps took between the last reading of the clock and
    /// this one. Returns the pace, for the connection to keep.
    #[inline]
    pub(crate) fn note_clock(&mut self, now: u64) -> u8 {
        let took = now - self.read_at;
        // In most events the pace is the highest one, and stays.
        if self.pace != PACE_MAX || self.cheap_nanos < took {
            self.adapt_pace(took);
        }
        self.read_at = now;
        self.steps = 0;
        self.pace
    }

    #[inline(never)]
    fn adapt_pace(&mut self, took: u64) {
        if self.steps != 0 {
            let allowed = self.chunk_nanos.saturating_mul(u64::from(self.steps));
            // Twice as many at most: one cheap message says little about the next ones.
            let pace = (2 * self.pace).min(PACE_MAX);
            self.pace = match took.saturating_mul(u64::from(pace)) <= allowed {
                true => pace,
                false => (allowed / took).clamp(1, u64::from(pace)) as u8,
            };
        }
    }

    /// Whether the connection that is being read uses so much of this turn that it is read after quiet ones
    /// in the next turns. It has brought so many bytes.
    #[inline]
    pub(crate) fn is_busy(&self, now: u64, came_bytes: usize) -> bool {
        SHARE_NANOS_MIN < now - self.began || BUSY_BYTES_MIN < came_bytes
    }

    /// Whether the connection that is being read has used its time.
    pub(crate) fn is_used(&self, now: u64) -> bool {
        self.is_exhausted || self.share_nanos < now - self.began
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLIS: u64 = 1_000_000;

    /// The readings of the clock for messages that take these times: after which of them.
    fn readings(pace: u8, costs: impl IntoIterator<Item = u64>) -> (Vec<usize>, u8) {
        let mut budget = Budget::new(&Config::default());
        let (mut now, mut read_after) = (0, Vec::new());
        budget.begin(now, pace);
        for (index, cost) in costs.into_iter().enumerate() {
            now += cost;
            if budget.charge_message() {
                budget.note_clock(now);
                read_after.push(index + 1);
            }
        }
        (read_after, budget.note_clock(now))
    }

    #[test]
    fn cheap_messages_put_the_next_reading_of_the_clock_off() {
        let (read_after, pace) = readings(1, [1000; 127]);
        assert_eq!(read_after, [1, 3, 7, 15, 31, 63, 95, 127]);
        assert_eq!(pace, PACE_MAX);
    }

    #[test]
    fn a_message_that_took_long_has_the_clock_read_after_each() {
        let (read_after, pace) =
            readings(PACE_MAX, [vec![1000; 31], vec![10 * MILLIS; 3]].concat());
        assert_eq!((read_after, pace), (vec![32, 33, 34], 1));
    }

    #[test]
    fn the_pace_is_an_eighth_of_the_budget() {
        // 625 us are an eighth, in which five messages of 125 us fit.
        assert_eq!(readings(4, [125_000; 4]).1, 5);
        assert_eq!(readings(1, [u64::MAX / 2]).1, 1);
    }
}
