//! The reading half of a connection: its readiness, its unconsumed bytes, and the reasons why it is
//! not read now.
//!
//! Readiness is edge-triggered: the kernel reports once that a socket has become readable. The
//! connection remembers it until a read shows that the socket is empty, so that a pause, a budget or
//! a full buffer loses nothing.

/// Why reading from a connection has stopped. Several reasons can hold together. It is read again
/// when none is left, so that an application that resumes does not lift the back-pressure of a full
/// queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pause {
    /// The application has called `pause`.
    Application = 1,
    /// The protocol waits for the application's answer (HTTP `reply_later`). The next request must
    /// not be handled before, because answers leave in the order of requests.
    Answer = 1 << 1,
    /// The connection's own queue is above its high watermark. Another reply would end it as a slow
    /// consumer, although it may only have sent many requests at once.
    Queue = 1 << 2,
    /// The connection has used its time in this turn. Lifted when its event ends; the next turn
    /// reads it again.
    Turn = 1 << 3,
    /// The peer has sent as many messages as it may in a second. Lifted when the next one is allowed.
    Rate = 1 << 4,
    /// The connection has published more than could be offered to the kernel in this turn. Lifted when
    /// everything that is queued was offered.
    Flush = 1 << 5,
    /// The stream is piped to another one whose queue has no room.
    Pipe = 1 << 6,
}

/// The socket may have bytes for us.
const READABLE: u8 = 1;
/// An end of stream, a hang-up or an error was reported. It is found behind the bytes.
const READ_CLOSED: u8 = 1 << 1;
/// The end of stream has been read.
const AT_END: u8 = 1 << 2;
/// The end of stream has been delivered to the handler.
const END_DELIVERED: u8 = 1 << 3;
/// On the list of connections that are read in the next turn.
const LISTED: u8 = 1 << 4;
/// Urgent data was reported. A read stops in front of it, so a short read does not mean that the
/// socket is empty.
const URGENT: u8 = 1 << 5;
/// The peer neither sends nor reads any more.
const HUNG_UP: u8 = 1 << 6;

/// The connection was busy in one of its last events; see `busy_events`.
const BUSY: u8 = 1 << 7;

/// The events for which a connection counts as busy after one that was. A costly message that comes in pieces
/// is busy only in its last event.
const BUSY_EVENTS: u8 = 8;

/// The reading half of one connection.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    /// Bytes that were read and not consumed: the beginning of a head or a frame, or input that was
    /// read before a pause. The next read goes behind them.
    #[expect(
        clippy::box_collection,
        reason = "a pointer where most have nothing to keep"
    )]
    unconsumed: Option<Box<Vec<u8>>>,
    flags: u8,
    pauses: u8,
    /// The pace of its messages, less one; see `budget`.
    pace_less_one: u8,
    /// The events that are left until a busy connection counts as quiet.
    busy_events: u8,
}

impl Reading {
    /// The number of steps after which the clock is read; see `budget`.
    #[inline]
    pub(crate) fn pace(&self) -> u8 {
        self.pace_less_one + 1
    }

    #[inline]
    pub(super) fn set_pace(&mut self, pace: u8) {
        self.pace_less_one = pace.saturating_sub(1);
    }

    // ── readiness ────────────────────────────────────────────────────────────────────────────

    /// Notes that the kernel has reported something to read.
    #[inline]
    pub(super) fn note_readable(&mut self, read_closed: bool, urgent: bool) {
        self.flags |= READABLE;
        if read_closed {
            self.flags |= READ_CLOSED;
        }
        if urgent {
            self.flags |= URGENT;
        }
    }

    /// Notes that the kernel has reported that the peer neither sends nor reads any more.
    pub(super) fn note_hang_up(&mut self) {
        self.flags |= HUNG_UP;
    }

    pub(super) fn is_hung_up(&self) -> bool {
        self.flags & HUNG_UP != 0
    }

    #[inline]
    pub(super) fn is_readable(&self) -> bool {
        self.flags & READABLE != 0
    }

    /// Notes that a read has shown that the socket is empty. The kernel reports when more bytes
    /// come.
    #[inline]
    pub(super) fn note_empty(&mut self) {
        self.flags &= !(READABLE | URGENT);
    }

    /// Whether an end of stream, a hang-up or an error was reported.
    pub(super) fn is_read_closed(&self) -> bool {
        self.flags & READ_CLOSED != 0
    }

    /// Whether urgent data was reported, which makes reads short although more bytes are there.
    pub(super) fn is_urgent(&self) -> bool {
        self.flags & URGENT != 0
    }

    /// The end of stream has been read.
    pub(super) fn note_end(&mut self) {
        self.note_empty();
        self.flags |= AT_END;
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.flags & AT_END != 0
    }

    /// Whether the end of stream is to be delivered to the handler. Returns `true` once.
    pub(super) fn take_end(&mut self) -> bool {
        let is_first = self.flags & END_DELIVERED == 0;
        self.flags |= END_DELIVERED;
        is_first
    }

    pub(super) fn is_end_delivered(&self) -> bool {
        self.flags & END_DELIVERED != 0
    }

    /// Whether no flag is set, no pause holds, and no bytes are kept: the fast path asks.
    #[inline]
    pub(super) fn is_idle(&self) -> bool {
        self.flags == 0 && self.pauses == 0 && self.unconsumed.is_none()
    }

    // ── busy connections ─────────────────────────────────────────────────────────────────────

    /// Whether it has lately used its time in a turn, or brought much. It is then read after those that did
    /// not. The fast path is for quiet connections, which saves it the question.
    pub(super) fn is_busy(&self) -> bool {
        self.flags & BUSY != 0
    }

    /// An event of the general way is over, or its time is used up.
    pub(super) fn note_event(&mut self, is_busy: bool) {
        if is_busy {
            self.flags |= BUSY;
            self.busy_events = BUSY_EVENTS;
        } else if self.is_busy() {
            self.busy_events -= 1;
            if self.busy_events == 0 {
                self.flags &= !BUSY;
            }
        }
    }

    // ── the list of the next turn ────────────────────────────────────────────────────────────

    /// Whether the connection is to be added to the list of the next turn.
    pub(super) fn list(&mut self) -> bool {
        let is_new = self.flags & LISTED == 0;
        self.flags |= LISTED;
        is_new
    }

    /// Whether the connection is on a list, and will be read without another report.
    pub(super) fn is_listed(&self) -> bool {
        self.flags & LISTED != 0
    }

    /// Takes the connection off the list. Returns whether it was on it.
    pub(super) fn unlist(&mut self) -> bool {
        let was_listed = self.flags & LISTED != 0;
        self.flags &= !LISTED;
        was_listed
    }

    // ── pauses ───────────────────────────────────────────────────────────────────────────────

    /// Whether no reason to stop reading is left. Callers ask `Connection::may_read`, which asks
    /// this.
    #[inline]
    pub(super) fn may_read(&self) -> bool {
        self.pauses == 0
    }

    /// Whether reading has stopped for a reason that lasts: not because a turn was used up.
    pub(super) fn is_held(&self) -> bool {
        self.pauses & !(Pause::Turn as u8) != 0
    }

    pub(super) fn pause(&mut self, reason: Pause) {
        self.pauses |= reason as u8;
    }

    /// Whether reading has stopped for this reason.
    pub(super) fn is_paused(&self, reason: Pause) -> bool {
        self.pauses & reason as u8 != 0
    }

    /// Removes this reason; others may be left. Returns whether it was there.
    pub(super) fn resume(&mut self, reason: Pause) -> bool {
        let was_paused = self.is_paused(reason);
        self.pauses &= !(reason as u8);
        was_paused
    }

    // ── unconsumed bytes ─────────────────────────────────────────────────────────────────────

    /// The bytes that were read and not consumed.
    pub(crate) fn unconsumed(&self) -> &[u8] {
        self.unconsumed.as_ref().map_or(&[], |bytes| bytes)
    }

    pub(crate) fn has_unconsumed(&self) -> bool {
        self.unconsumed.is_some()
    }

    /// Moves the unconsumed bytes to the front of the input buffer. Returns their number, and the
    /// buffer that held them, for [`keep_unconsumed`](Self::keep_unconsumed).
    #[expect(clippy::box_collection, reason = "as the field")]
    pub(super) fn take_unconsumed(&mut self, input: &mut [u8]) -> (Option<Box<Vec<u8>>>, usize) {
        let unconsumed = self.unconsumed.take();
        let mut length = 0;
        if let Some(bytes) = &unconsumed {
            length = bytes.len();
            input[..length].copy_from_slice(bytes);
        }
        (unconsumed, length)
    }

    /// Keeps bytes that the handler did not consume, in `buffer` or in a new one.
    #[expect(clippy::box_collection, reason = "as the field")]
    pub(super) fn keep_unconsumed(&mut self, buffer: Option<Box<Vec<u8>>>, rest: &[u8]) {
        let mut buffer = buffer.unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(rest);
        self.unconsumed = Some(buffer);
    }

    /// The memory of the unconsumed bytes, in bytes.
    pub(super) fn held_bytes(&self) -> usize {
        self.unconsumed
            .as_ref()
            .map_or(0, |bytes| size_of::<Vec<u8>>() + bytes.capacity())
    }

    pub(super) fn forget_unconsumed(&mut self) {
        self.unconsumed = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_goes_on_when_no_reason_is_left() {
        let mut reading = Reading::default();
        reading.pause(Pause::Application);
        reading.pause(Pause::Queue);
        assert!(reading.resume(Pause::Application));
        assert!(!reading.resume(Pause::Application));
        assert!(!reading.may_read());
        assert!(reading.resume(Pause::Queue));
        assert!(reading.may_read());
    }

    #[test]
    fn a_connection_is_busy_for_some_events_after_a_busy_one() {
        let mut reading = Reading::default();
        reading.note_event(false);
        assert!(!reading.is_busy());
        for _ in 0..2 {
            reading.note_event(true);
            for _ in 1..BUSY_EVENTS {
                reading.note_event(false);
                assert!(reading.is_busy() && !reading.is_idle());
            }
        }
        reading.note_event(false);
        assert!(!reading.is_busy() && reading.is_idle());
    }

    #[test]
    fn idle_is_without_anything_to_remember() {
        let changes: [fn(&mut Reading); 5] = [
            |reading| reading.note_readable(false, false),
            |reading| reading.note_readable(false, true),
            |reading| reading.pause(Pause::Turn),
            |reading| reading.keep_unconsumed(None, b"x"),
            |reading| assert!(reading.list()),
        ];
        for (index, change) in changes.iter().enumerate() {
            let mut reading = Reading::default();
            assert!(reading.is_idle());
            change(&mut reading);
            assert!(!reading.is_idle(), "change {index}");
        }
    }

    #[test]
    fn the_end_of_stream_is_delivered_once() {
        let mut reading = Reading::default();
        reading.note_end();
        assert!(reading.is_at_end());
        assert!(reading.take_end());
        assert!(!reading.take_end());
    }

    #[test]
    fn an_empty_socket_ends_the_urgent_data_and_not_the_hang_up() {
        let mut reading = Reading::default();
        reading.note_readable(true, true);
        assert!(reading.is_readable() && reading.is_read_closed() && reading.is_urgent());
        reading.note_empty();
        assert!(!reading.is_readable() && reading.is_read_closed() && !reading.is_urgent());
        assert!(!reading.is_at_end());
    }
}
