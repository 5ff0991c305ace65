//! Streams in memory: they stand in for the kernel's sockets in a simulation.
//!
//! A pair has two ends, each with a bounded inbox, an end of stream and a reset, as a socket has. A
//! change at one end is reported by the next poll to the loop that has registered the other.
//! Faults are drawn from a seeded generator, so one seed is one run.
//!
//! These rules of epoll in edge-triggered mode hold here:
//!
//! * Readable is reported when bytes arrive (also behind bytes that were not read yet), at the end
//!   of the stream, and at a reset. Bytes that a read leaves behind are not reported again: a reader
//!   that forgets them hangs, as with a socket.
//! * Writable is reported only to a source whose interest includes it, and only when room has come
//!   after a write that found too little.
//! * Registering, and registering again with another interest, reports once what is there already.
//! * One poll reports a source at most once, with everything that has changed since it was reported
//!   last. A change after that is for the next poll.
//! * A source that is closed is not reported by later polls.
//! * A short read means that the inbox is empty. A short read that is a fault means that the network
//!   has brought only so much: the rest arrives with the next poll. After a refused or a short write
//!   there is no room before the next poll.
//! * A reset lets the receiver read what had arrived before, and destroys what is still on its way:
//!   the bytes that were written since the last poll. So a server that closes with unread bytes
//!   loses its last words, unless it lingers.
//! * A write to a peer that has closed succeeds, and its bytes vanish. The next poll reports the
//!   reset that the peer has answered with. A stream that had ended still reads as ended; writing to
//!   it fails with `BrokenPipe`.
//!
//! In these points it differs:
//!
//! * A report names only what has changed. epoll adds what else is true at that moment, which can
//!   hide that an earlier report was forgotten.
//! * One poll reports every source that has changed, however many they are.
//! * Room of one byte is room. Linux waits until a third of its buffer is free.
//! * Every operation after a reset returns the error. Linux returns it once.
//! * Bytes take no time: an end that is not registered, such as that of a simulated client, can
//!   read them at once. Short reads, refused writes and resets take effect at once there, because
//!   no poll would report the rest.
//!
//! The two ends are held by two owners (a connection and a simulated peer, or two connections),
//! on one thread, and no borrow outlives one operation: this is the one place for `RefCell`.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::time::Duration;

use mio::Interest;

use crate::reactor::burst::BURST;
use crate::reactor::time::clock::SimClock;

/// A poll's report about one source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Readiness {
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// The peer's end of stream, a hang-up or an error waits behind the readable bytes.
    pub(crate) read_closed: bool,
    /// The peer neither sends nor reads any more: a reset, or on a Unix socket its close.
    pub(crate) hung_up: bool,
    /// Urgent data is on its way; reads stop in front of it. Never set by streams in memory.
    pub(crate) urgent: bool,
}

impl Readiness {
    const NONE: Readiness = Readiness {
        readable: false,
        writable: false,
        read_closed: false,
        hung_up: false,
        urgent: false,
    };
    pub(crate) const READABLE: Readiness = Readiness {
        readable: true,
        ..Readiness::NONE
    };
    pub(crate) const WRITABLE: Readiness = Readiness {
        writable: true,
        ..Readiness::NONE
    };
    const ENDED: Readiness = Readiness {
        readable: true,
        read_closed: true,
        ..Readiness::NONE
    };
    const RESET: Readiness = Readiness {
        readable: true,
        writable: true,
        read_closed: true,
        hung_up: true,
        ..Readiness::NONE
    };

    /// The union of two reports.
    pub(crate) fn merged(self, other: Readiness) -> Readiness {
        Readiness {
            readable: self.readable || other.readable,
            writable: self.writable || other.writable,
            read_closed: self.read_closed || other.read_closed,
            hung_up: self.hung_up || other.hung_up,
            urgent: self.urgent || other.urgent,
        }
    }

    fn bits(self) -> u8 {
        u8::from(self.readable)
            | u8::from(self.writable) << 1
            | u8::from(self.read_closed) << 2
            | u8::from(self.hung_up) << 3
    }

    fn from_bits(bits: u8) -> Readiness {
        Readiness {
            readable: bits & 1 != 0,
            writable: bits & 2 != 0,
            read_closed: bits & 4 != 0,
            hung_up: bits & 8 != 0,
            urgent: false,
        }
    }
}

/// The faults of a simulated network, in percent of operations, 0 to 100. All are 0 by default. See
/// [`Sim::faults`](crate::Sim::faults).
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Reads that return fewer bytes than were sent; the rest arrives with the next poll.
    pub short_reads_percent: u8,
    /// Writes that take fewer bytes than there is room; there is room again at the next poll.
    pub short_writes_percent: u8,
    /// Writes that find no room although there is some; it is found at the next poll.
    pub refused_writes_percent: u8,
    /// Operations at which the connection is reset.
    pub resets_percent: u8,
}

/// A count of polls. A simulation makes fewer than four thousand million.
type Moment = u32;

const NEVER: Moment = Moment::MAX;

/// The simulated kernel: what has changed since the last poll, and the dice.
#[derive(Default)]
pub(crate) struct Net {
    changes: RefCell<Changes>,
    /// How many streams are registered.
    registered: Cell<usize>,
    /// Counts polls. Bytes that are written in one moment are on their way; in the next they have
    /// arrived.
    moment: Cell<Moment>,
    faults: Cell<Faults>,
    /// Whether operations may fail or take time.
    has_faults: Cell<bool>,
    seed: Cell<u64>,
    /// The clock that each operation of the program puts forward, and by how much.
    operations: RefCell<Option<(SimClock, Duration)>>,
}

/// The changes that polls report.
#[derive(Default)]
struct Changes {
    /// Sources for the next poll to report, in the order in which each changed first.
    changed: VecDeque<usize>,
    /// Sources that the last poll has reported and the loop has not handled yet.
    reported: VecDeque<usize>,
    /// The changes of each source, as bits of [`Readiness`], by token; zero for most.
    readiness: Vec<u8>,
}

impl Net {
    pub(crate) fn set_faults(&self, seed: u64, faults: Faults) {
        // Mixed, so that neighbouring seeds give unlike runs; odd, because from zero the generator
        // would give zeros for ever.
        self.seed
            .set(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5851_F42D_4C95_7F2D | 1);
        self.faults.set(faults);
        self.has_faults.set(true);
    }

    /// Lets each read and write of the program take this long from now on.
    pub(crate) fn set_operation_time(&self, clock: SimClock, time: Duration) {
        *self.operations.borrow_mut() = Some((clock, time));
        self.has_faults.set(true);
    }

    /// Lets the time of an operation pass, if the program makes it, and resets the connection, if
    /// that is the fault.
    #[cold]
    fn begin_operation(&self, ends: &mut [End; 2], side: u8) {
        if let Some((clock, time)) = &*self.operations.borrow()
            && ends[usize::from(side)].registration.is_some()
        {
            clock.advance(*time);
        }
        if self.happens(self.faults.get().resets_percent) {
            ends.iter_mut().for_each(|end| end.reset(self));
        }
    }

    /// Lets the time of an operation pass that the program makes on a socket of datagrams. Returns whether the socket
    /// refuses to send, if the operation would: that is the fault.
    pub(crate) fn begin_datagram(&self) -> bool {
        if !self.has_faults.get() {
            return false;
        }
        if let Some((clock, time)) = &*self.operations.borrow() {
            clock.advance(*time);
        }
        self.happens(self.faults.get().refused_writes_percent)
    }

    /// Has the next poll report a change of one source. If a report of it waits to be handled, the
    /// change becomes part of that report.
    pub(crate) fn notify(&self, token: usize, readiness: Readiness) {
        let mut changes = self.changes.borrow_mut();
        if changes.readiness.len() <= token {
            changes.readiness.resize(token + 1, 0);
        }
        if changes.readiness[token] == 0 {
            changes.changed.push_back(token);
        }
        changes.readiness[token] |= readiness.bits();
    }

    /// Forgets the changes of a source that is closed.
    pub(crate) fn forget(&self, token: usize) {
        // Its token stays in the list, and `pop` passes over it.
        if let Some(readiness) = self.changes.borrow_mut().readiness.get_mut(token) {
            *readiness = 0;
        }
    }

    /// Reports what has changed since the last poll; [`pop`](Self::pop) gives at most so many
    /// reports.
    pub(crate) fn poll(&self) -> usize {
        self.arrive();
        let Changes {
            changed, reported, ..
        } = &mut *self.changes.borrow_mut();
        if reported.is_empty() {
            std::mem::swap(changed, reported);
        } else {
            reported.append(changed);
        }
        reported.len()
    }

    /// Lets bytes that are on their way arrive: a reset no longer destroys them.
    pub(crate) fn arrive(&self) {
        self.moment.set(self.moment.get() + 1);
    }

    /// The next report of the last poll.
    pub(crate) fn pop(&self) -> Option<(usize, Readiness)> {
        let changes = &mut *self.changes.borrow_mut();
        loop {
            let token = changes.reported.pop_front()?;
            match changes.readiness.get_mut(token).map(std::mem::take) {
                None | Some(0) => {}
                Some(bits) => return Some((token, Readiness::from_bits(bits))),
            }
        }
    }

    /// Whether a poll has nothing to report.
    pub(crate) fn is_quiet(&self) -> bool {
        let changes = self.changes.borrow();
        changes.changed.is_empty() && changes.reported.is_empty()
    }

    /// Gives memory back after a burst of reports.
    pub(crate) fn give_back_memory(&self) {
        let mut changes = self.changes.borrow_mut();
        if !changes.changed.is_empty() || !changes.reported.is_empty() {
            return;
        }
        if BURST < changes.changed.capacity().max(changes.reported.capacity()) {
            changes.changed = VecDeque::new();
            changes.reported = VecDeque::new();
        }
        // It is as long as the largest token, so it is given back when a quarter of the sources is
        // left.
        let capacity = changes.readiness.capacity();
        if BURST < capacity && self.registered.get() <= capacity / 4 {
            changes.readiness = Vec::new();
        }
    }

    // xorshift64: good enough dice, and the same on every machine.
    fn roll(&self) -> u64 {
        let mut seed = self.seed.get();
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        self.seed.set(seed);
        seed >> 16
    }

    fn happens(&self, percent: u8) -> bool {
        percent != 0 && self.roll() % 100 < u64::from(percent)
    }

    /// Returns a number from one to `count`.
    fn some_of(&self, count: usize) -> usize {
        1 + (self.roll() as usize) % count
    }
}

struct End {
    inbox: VecDeque<u8>,
    /// How many of the last bytes of the inbox were written at the moment `written_at`.
    written_bytes: usize,
    written_at: Moment,
    /// When the rest of the inbox arrives, after a short read that was a fault.
    delayed_until: Moment,
    /// When a write of this end finds room again, after one that was a fault.
    full_until: Moment,
    /// The moment from which on this end is reset.
    reset_at: Moment,
    /// Its token and interest, once it is registered.
    registration: Option<(u32, Interest)>,
    /// The peer will write no more.
    finished: bool,
    dropped: bool,
    /// A write of this end found too little room.
    blocked: bool,
}

impl Default for End {
    fn default() -> Self {
        End {
            inbox: VecDeque::new(),
            written_bytes: 0,
            written_at: 0,
            delayed_until: 0,
            full_until: 0,
            reset_at: NEVER,
            registration: None,
            finished: false,
            dropped: false,
            blocked: false,
        }
    }
}

impl End {
    fn is_reset(&self, now: Moment) -> bool {
        self.reset_at <= now
    }

    /// Has the next poll report a change of this end, as far as its owner is interested. A reset is
    /// reported whatever the interest, as by epoll.
    #[inline]
    fn notify(&self, net: &Net, mut readiness: Readiness) {
        let Some((token, interest)) = self.registration else {
            return;
        };
        readiness.writable &= interest.is_writable();
        if !interest.is_readable() && self.reset_at == NEVER {
            readiness.readable = false;
            readiness.read_closed = false;
            readiness.hung_up = false;
        }
        if readiness != Readiness::NONE {
            net.notify(token as usize, readiness);
        }
    }

    #[inline]
    fn receive(&mut self, net: &Net, bytes: &[u8]) {
        let now = net.moment.get();
        if self.written_at != now {
            self.written_at = now;
            self.written_bytes = 0;
        }
        self.written_bytes += bytes.len();
        self.inbox.extend(bytes);
        self.notify(net, Readiness::READABLE);
    }

    /// The peer has reset the stream.
    fn reset(&mut self, net: &Net) {
        let now = net.moment.get();
        if self.is_reset(now) {
            return;
        }
        if self.written_at == now {
            let arrived = self.inbox.len().saturating_sub(self.written_bytes);
            self.inbox.truncate(arrived);
        }
        self.reset_at = now;
        self.notify(net, Readiness::RESET);
    }

    /// The peer, which has closed, answers what was written to it with a reset.
    fn reset_soon(&mut self, net: &Net) {
        if self.reset_at == NEVER {
            let soon = Moment::from(self.registration.is_some());
            self.reset_at = net.moment.get() + soon;
            self.notify(net, Readiness::RESET);
        }
    }

    /// A write that was a fault found too little room; there is some again at the next poll.
    fn refuse_until_next_poll(&mut self, net: &Net) {
        if self.registration.is_some() {
            self.full_until = net.moment.get() + 1;
            self.notify(net, Readiness::WRITABLE);
        }
    }
}

struct Pair {
    net: Rc<Net>,
    capacity_bytes: usize,
    /// No end is finished, dropped, reset or delayed by a fault, and none has been.
    is_plain: bool,
    ends: [End; 2],
}

impl Pair {
    /// The end on one side, and the other.
    #[inline]
    fn split(ends: &mut [End; 2], side: u8) -> (&mut End, &mut End) {
        let [first, second] = ends;
        match side {
            0 => (first, second),
            _ => (second, first),
        }
    }
}

/// One end of a stream in memory.
pub(crate) struct MemoryStream {
    pair: Rc<RefCell<Pair>>,
    side: u8,
}

impl MemoryStream {
    /// Two connected ends; each takes `capacity_bytes` that its owner has not read yet.
    pub(crate) fn pair(net: &Rc<Net>, capacity_bytes: usize) -> (MemoryStream, MemoryStream) {
        let pair = Pair {
            net: Rc::clone(net),
            capacity_bytes,
            is_plain: true,
            ends: Default::default(),
        };
        let pair = Rc::new(RefCell::new(pair));
        (
            MemoryStream {
                pair: Rc::clone(&pair),
                side: 0,
            },
            MemoryStream { pair, side: 1 },
        )
    }

    /// Its own side, and the other.
    fn sides(&self) -> (usize, usize) {
        (usize::from(self.side), usize::from(1 - self.side))
    }

    /// Registers this end: from now on polls report it by `token`, and the next one reports what is
    /// there already.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` when it is registered.
    pub(crate) fn register(&mut self, token: usize, interest: Interest) -> io::Result<()> {
        if self.registration().is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.set_registration(token, interest);
        Ok(())
    }

    /// Changes token and interest; the next poll reports what is there already.
    ///
    /// # Errors
    ///
    /// `NotFound` when it is not registered.
    pub(crate) fn reregister(&mut self, token: usize, interest: Interest) -> io::Result<()> {
        let Some((old, _)) = self.registration() else {
            return Err(io::ErrorKind::NotFound.into());
        };
        if old as usize != token {
            self.pair.borrow().net.forget(old as usize);
        }
        self.set_registration(token, interest);
        Ok(())
    }

    fn registration(&self) -> Option<(u32, Interest)> {
        self.pair.borrow().ends[usize::from(self.side)].registration
    }

    fn set_registration(&mut self, token: usize, interest: Interest) {
        let (side, other) = self.sides();
        let mut pair = self.pair.borrow_mut();
        let Pair {
            net,
            capacity_bytes,
            ends,
            ..
        } = &mut *pair;
        let has_room = ends[other].inbox.len() < *capacity_bytes || ends[other].dropped;
        let end = &mut ends[side];
        if end.registration.replace((token as u32, interest)).is_none() {
            net.registered.set(net.registered.get() + 1);
        }
        let is_reset = end.is_reset(net.moment.get());
        let read_closed = end.finished || is_reset;
        if interest.is_writable() && !has_room {
            end.blocked = true;
        }
        end.notify(
            net,
            Readiness {
                readable: read_closed || !end.inbox.is_empty(),
                writable: has_room || is_reset,
                read_closed,
                hung_up: is_reset,
                urgent: false,
            },
        );
    }

    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Pair {
            net,
            ends,
            is_plain,
            ..
        } = &mut *self.pair.borrow_mut();
        let faults = net.faults.get();
        if net.has_faults.get() {
            // With faults an operation may end or delay this stream, so it is not plain any more.
            *is_plain = false;
            net.begin_operation(ends, self.side);
        }
        let now = net.moment.get();
        let (end, peer) = Pair::split(ends, self.side);
        if end.inbox.is_empty() {
            return match end.finished {
                true => Ok(0),
                false if end.is_reset(now) => Err(io::ErrorKind::ConnectionReset.into()),
                false => Err(io::ErrorKind::WouldBlock.into()),
            };
        }
        if now < end.delayed_until {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut count = end.inbox.len().min(buffer.len());
        if 1 < count && net.happens(faults.short_reads_percent) {
            let whole = count;
            count = net.some_of(whole);
            if count < whole && end.registration.is_some() {
                end.delayed_until = now + 1;
                let finished = end.finished;
                end.notify(
                    net,
                    if finished {
                        Readiness::ENDED
                    } else {
                        Readiness::READABLE
                    },
                );
            }
        }
        let (first, second) = end.inbox.as_slices();
        let until = count.min(first.len());
        buffer[..until].copy_from_slice(&first[..until]);
        buffer[until..count].copy_from_slice(&second[..count - until]);
        end.inbox.drain(..count);
        if end.inbox.is_empty() {
            end.inbox = VecDeque::new();
        }
        if std::mem::take(&mut peer.blocked) {
            peer.notify(net, Readiness::WRITABLE);
        }
        Ok(count)
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let pair = &mut *self.pair.borrow_mut();
        let has_faults = pair.net.has_faults.get();
        let (_, peer) = Pair::split(&mut pair.ends, self.side);
        let room = pair.capacity_bytes.saturating_sub(peer.inbox.len());
        if pair.is_plain && !has_faults && !bytes.is_empty() && bytes.len() <= room {
            peer.receive(&pair.net, bytes);
            return Ok(bytes.len());
        }
        self.write_slowly(pair, bytes)
    }

    #[inline(never)]
    fn write_slowly(&self, pair: &mut Pair, bytes: &[u8]) -> io::Result<usize> {
        let (side, other) = self.sides();
        let Pair {
            net,
            capacity_bytes,
            is_plain,
            ends,
        } = pair;
        let faults = net.faults.get();
        // With faults an operation may end or delay this stream, so it is not plain any more.
        *is_plain &= !net.has_faults.get();
        net.begin_operation(ends, self.side);
        let now = net.moment.get();
        if ends[side].is_reset(now) {
            return match ends[side].finished {
                true => Err(io::ErrorKind::BrokenPipe.into()),
                false => Err(io::ErrorKind::ConnectionReset.into()),
            };
        }
        // This end has ended its own stream.
        if ends[other].finished {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if ends[other].dropped {
            ends[side].reset_soon(net);
            return Ok(bytes.len());
        }
        let room = capacity_bytes.saturating_sub(ends[other].inbox.len());
        let mut count = bytes.len().min(room);
        if count < bytes.len() {
            ends[side].blocked = true;
        }
        if now < ends[side].full_until || count == 0 {
            return match bytes.len() {
                0 => Ok(0),
                _ => Err(io::ErrorKind::WouldBlock.into()),
            };
        }
        if net.happens(faults.refused_writes_percent) {
            ends[side].refuse_until_next_poll(net);
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if 1 < count && net.happens(faults.short_writes_percent) {
            let whole = count;
            count = net.some_of(whole);
            if count < whole {
                ends[side].refuse_until_next_poll(net);
            }
        }
        ends[other].receive(net, &bytes[..count]);
        Ok(count)
    }

    pub(crate) fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut taken = 0;
        for slice in slices {
            match self.write(slice) {
                Ok(count) => {
                    taken += count;
                    if count < slice.len() {
                        break;
                    }
                }
                Err(error) if taken == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(taken)
    }

    /// Ends this side's stream; a later write fails with `BrokenPipe`.
    pub(crate) fn shutdown_write(&mut self) {
        let (side, other) = self.sides();
        let mut pair = self.pair.borrow_mut();
        pair.is_plain = false;
        let Pair { net, ends, .. } = &mut *pair;
        if !ends[side].is_reset(net.moment.get()) {
            ends[other].finished = true;
            ends[other].notify(net, Readiness::ENDED);
        }
    }

    /// Throws away bytes that are unread here, and bytes that are on their way to the peer, which
    /// gets a reset.
    pub(crate) fn reset(&mut self) {
        let (side, other) = self.sides();
        let mut pair = self.pair.borrow_mut();
        pair.is_plain = false;
        let Pair { net, ends, .. } = &mut *pair;
        ends[side].inbox = VecDeque::new();
        ends[side].reset(net);
        ends[other].reset(net);
    }

    /// Whether the stream was reset, or the other end finished or dropped and all that it sent has
    /// been read. After a reset there may be bytes to read that had arrived before.
    pub(crate) fn is_at_end(&self) -> bool {
        let pair = self.pair.borrow();
        let end = &pair.ends[usize::from(self.side)];
        end.is_reset(pair.net.moment.get()) || (end.finished && end.inbox.is_empty())
    }
}

impl Drop for MemoryStream {
    fn drop(&mut self) {
        let (side, other) = self.sides();
        let mut pair = self.pair.borrow_mut();
        pair.is_plain = false;
        let Pair { net, ends, .. } = &mut *pair;
        if let Some((token, _)) = ends[side].registration.take() {
            net.forget(token as usize);
            net.registered.set(net.registered.get() - 1);
        }
        ends[side].dropped = true;
        let is_reset = ends[side].is_reset(net.moment.get());
        // As with sockets: closing with unread bytes is a reset, without them an end of stream.
        if !ends[side].inbox.is_empty() {
            ends[side].inbox = VecDeque::new();
            ends[other].reset(net);
        } else if !is_reset {
            ends[other].finished = true;
            ends[other].notify(net, Readiness::ENDED);
        }
    }
}

/// A listener in memory: streams that wait to be accepted.
pub(crate) struct MemoryListener {
    net: Rc<Net>,
    backlog: VecDeque<MemoryStream>,
    token: Option<usize>,
}

impl MemoryListener {
    pub(crate) fn new(net: &Rc<Net>) -> MemoryListener {
        MemoryListener {
            net: Rc::clone(net),
            backlog: VecDeque::new(),
            token: None,
        }
    }

    /// Registers the listener: from now on polls report by `token` that streams have come.
    pub(crate) fn register(&mut self, token: usize) {
        self.token = Some(token);
    }

    /// A stream has come. Each is reported, also behind others that wait; what an accepting loop
    /// leaves in the backlog is not reported again.
    pub(crate) fn offer(&mut self, stream: MemoryStream) {
        self.backlog.push_back(stream);
        if let Some(token) = self.token {
            self.net.notify(token, Readiness::READABLE);
        }
    }

    /// The stream that has waited longest; `WouldBlock` when there is none.
    pub(crate) fn accept(&mut self) -> io::Result<MemoryStream> {
        self.backlog
            .pop_front()
            .ok_or_else(|| io::ErrorKind::WouldBlock.into())
    }
}

impl Drop for MemoryListener {
    // As with sockets: clients that were not accepted are reset.
    fn drop(&mut self) {
        if let Some(token) = self.token {
            self.net.forget(token);
        }
        self.backlog.iter_mut().for_each(MemoryStream::reset);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: Interest = Interest::READABLE.add(Interest::WRITABLE);

    /// Two ends that are registered as 1 and 2 for reading, and polled.
    fn pair(capacity_bytes: usize) -> (Rc<Net>, MemoryStream, MemoryStream) {
        let net = Rc::new(Net::default());
        let (mut a, mut b) = MemoryStream::pair(&net, capacity_bytes);
        a.register(1, Interest::READABLE).unwrap();
        b.register(2, Interest::READABLE).unwrap();
        assert_eq!(poll(&net), []);
        (net, a, b)
    }

    fn poll(net: &Net) -> Vec<(usize, Readiness)> {
        net.poll();
        std::iter::from_fn(|| net.pop()).collect()
    }

    /// The bytes of one read, or the kind of its error.
    fn read(stream: &mut MemoryStream, bytes_max: usize) -> Result<Vec<u8>, io::ErrorKind> {
        let mut buffer = vec![0; bytes_max];
        match stream.read(&mut buffer) {
            Ok(count) => Ok(buffer[..count].to_vec()),
            Err(error) => Err(error.kind()),
        }
    }

    fn write(stream: &mut MemoryStream, bytes: &[u8]) -> Result<usize, io::ErrorKind> {
        stream.write(bytes).map_err(|error| error.kind())
    }

    #[test]
    fn bytes_cross_and_a_full_inbox_refuses_until_it_is_read() {
        let (net, mut a, mut b) = pair(4);
        assert_eq!(write(&mut a, b"abcdef"), Ok(4));
        assert_eq!(write(&mut a, b"ef"), Err(io::ErrorKind::WouldBlock));
        a.reregister(1, BOTH).unwrap();
        assert_eq!(poll(&net), [(2, Readiness::READABLE)]);
        assert_eq!(read(&mut b, 16), Ok(b"abcd".to_vec()));
        assert_eq!(poll(&net), [(1, Readiness::WRITABLE)]);
        assert_eq!(read(&mut b, 16), Err(io::ErrorKind::WouldBlock));
        assert_eq!(write(&mut a, b"ef"), Ok(2));
    }

    #[test]
    fn bytes_that_a_read_leaves_behind_are_not_reported_again() {
        let (net, mut a, mut b) = pair(16);
        write(&mut a, b"abcdef").unwrap();
        assert_eq!(poll(&net), [(2, Readiness::READABLE)]);
        assert_eq!(read(&mut b, 4), Ok(b"abcd".to_vec()));
        assert_eq!(poll(&net), []);
        assert!(net.is_quiet());
        // A reader that remembers the bytes finds them.
        assert_eq!(read(&mut b, 4), Ok(b"ef".to_vec()));
    }

    #[test]
    fn bytes_are_reported_when_they_arrive_also_behind_unread_ones() {
        let (net, mut a, mut b) = pair(16);
        write(&mut a, b"ab").unwrap();
        write(&mut a, b"cd").unwrap();
        assert_eq!(poll(&net), [(2, Readiness::READABLE)]);
        assert_eq!(poll(&net), []);
        write(&mut a, b"ef").unwrap();
        assert_eq!(poll(&net), [(2, Readiness::READABLE)]);
        assert_eq!(read(&mut b, 16), Ok(b"abcdef".to_vec()));
        write(&mut a, b"").unwrap();
        assert_eq!(poll(&net), []);
    }

    #[test]
    fn one_poll_reports_a_source_once_and_later_changes_are_for_the_next() {
        let (net, mut a, mut b) = pair(16);
        write(&mut b, b"x").unwrap();
        write(&mut a, b"x").unwrap();
        a.shutdown_write();
        assert_eq!(net.poll(), 2);
        // While the reports are being handled.
        assert_eq!(net.pop(), Some((1, Readiness::READABLE)));
        write(&mut b, b"y").unwrap();
        assert_eq!(net.pop(), Some((2, Readiness::ENDED)));
        assert_eq!(net.pop(), None);
        assert_eq!(poll(&net), [(1, Readiness::READABLE)]);
    }

    #[test]
    fn the_end_of_a_stream_is_reported_once() {
        let (net, mut a, mut b) = pair(16);
        write(&mut a, b"last").unwrap();
        assert_eq!(poll(&net), [(2, Readiness::READABLE)]);
        a.shutdown_write();
        assert_eq!(poll(&net), [(2, Readiness::ENDED)]);
        assert_eq!(read(&mut b, 2), Ok(b"la".to_vec()));
        assert_eq!(poll(&net), []);
        assert_eq!(read(&mut b, 16), Ok(b"st".to_vec()));
        assert_eq!(read(&mut b, 16), Ok(Vec::new()));
        assert_eq!(poll(&net), []);
        assert_eq!(write(&mut a, b"more"), Err(io::ErrorKind::BrokenPipe));
    }

    #[test]
    fn room_is_reported_only_to_a_writer_that_found_none_and_is_interested() {
        let (net, mut a, mut b) = pair(4);
        // Not interested.
        write(&mut a, b"abcdef").unwrap();
        read(&mut b, 1).unwrap();
        assert_eq!(poll(&net), [(2, Readiness::READABLE)]);
        // Interested too late, but there is room.
        a.reregister(1, BOTH).unwrap();
        assert_eq!(poll(&net), [(1, Readiness::WRITABLE)]);
        assert_eq!(poll(&net), []);
        // There was room enough, so no report is due.
        write(&mut a, b"e").unwrap();
        read(&mut b, 1).unwrap();
        assert_eq!(poll(&net), [(2, Readiness::READABLE)]);
        // After a write that found no room, room is reported once.
        write(&mut a, b"fgh").unwrap();
        assert_eq!(poll(&net), [(2, Readiness::READABLE)]);
        read(&mut b, 1).unwrap();
        read(&mut b, 1).unwrap();
        assert_eq!(poll(&net), [(1, Readiness::WRITABLE)]);
        assert_eq!(poll(&net), []);
    }

    #[test]
    fn registering_reports_once_what_is_there() {
        let net = Rc::new(Net::default());
        let (mut a, mut b) = MemoryStream::pair(&net, 4);
        write(&mut a, b"abcd").unwrap();
        assert_eq!(poll(&net), []);
        b.register(2, Interest::READABLE).unwrap();
        assert_eq!(poll(&net), [(2, Readiness::READABLE)]);
        assert_eq!(poll(&net), []);
        b.reregister(2, Interest::READABLE).unwrap();
        assert_eq!(poll(&net), [(2, Readiness::READABLE)]);
        // No room, so it is reported when it has come.
        a.register(1, Interest::WRITABLE).unwrap();
        assert_eq!(poll(&net), []);
        read(&mut b, 4).unwrap();
        assert_eq!(poll(&net), [(1, Readiness::WRITABLE)]);
        // Not interested in what comes.
        write(&mut b, b"x").unwrap();
        assert_eq!(poll(&net), []);
        a.reregister(3, Interest::READABLE).unwrap();
        assert_eq!(poll(&net), [(3, Readiness::READABLE)]);
        let again = a.register(3, Interest::READABLE).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        let (mut unknown, _b) = MemoryStream::pair(&net, 4);
        let unknown = unknown.reregister(4, Interest::READABLE).unwrap_err();
        assert_eq!(unknown.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_closed_source_is_not_reported_and_its_token_is_free() {
        let (net, mut a, b) = pair(16);
        write(&mut a, b"for the one that closes").unwrap();
        drop(b);
        let (mut c, mut d) = MemoryStream::pair(&net, 16);
        d.register(2, Interest::READABLE).unwrap();
        assert_eq!(
            poll(&net),
            [(
                1,
                Readiness {
                    writable: false,
                    ..Readiness::RESET
                }
            )]
        );
        write(&mut c, b"x").unwrap();
        assert_eq!(poll(&net), [(2, Readiness::READABLE)]);
    }

    #[test]
    fn a_short_read_by_fault_is_all_that_has_arrived_before_the_next_poll() {
        let (net, mut a, mut b) = pair(16);
        net.set_faults(
            7,
            Faults {
                short_reads_percent: 100,
                ..Faults::default()
            },
        );
        write(&mut a, b"abcdefgh").unwrap();
        let mut whole = Vec::new();
        let mut polls = 0;
        while whole.len() < 8 {
            assert_eq!(poll(&net), [(2, Readiness::READABLE)]);
            polls += 1;
            let came = read(&mut b, 16).unwrap();
            whole.extend_from_slice(&came);
            assert_eq!(read(&mut b, 16), Err(io::ErrorKind::WouldBlock));
        }
        assert_eq!((whole, 1 < polls), (b"abcdefgh".to_vec(), true));
        assert_eq!(poll(&net), []);
    }

    #[test]
    fn after_a_refused_write_by_fault_there_is_room_at_the_next_poll() {
        let (net, mut a, _b) = pair(16);
        net.set_faults(
            7,
            Faults {
                refused_writes_percent: 100,
                ..Faults::default()
            },
        );
        assert_eq!(write(&mut a, b"x"), Err(io::ErrorKind::WouldBlock));
        net.set_faults(7, Faults::default());
        assert_eq!(write(&mut a, b"x"), Err(io::ErrorKind::WouldBlock));
        a.reregister(1, BOTH).unwrap();
        assert_eq!(poll(&net), [(1, Readiness::WRITABLE)]);
        assert_eq!(write(&mut a, b"x"), Ok(1));
        // A short write is a refusal of the rest.
        net.set_faults(
            7,
            Faults {
                short_writes_percent: 100,
                ..Faults::default()
            },
        );
        assert!(write(&mut a, b"abcdefgh").unwrap() < 8);
        assert_eq!(write(&mut a, b"x"), Err(io::ErrorKind::WouldBlock));
        let of_a = (1, Readiness::WRITABLE);
        assert!(poll(&net).contains(&of_a));
    }

    #[test]
    fn closing_ends_the_stream_and_with_unread_bytes_resets_it() {
        let (net, a, mut b) = pair(16);
        drop(a);
        assert_eq!(poll(&net), [(2, Readiness::ENDED)]);
        assert_eq!(read(&mut b, 4), Ok(Vec::new()));
        let (net, a, mut b) = pair(16);
        write(&mut b, b"unread").unwrap();
        drop(a);
        assert_eq!(
            poll(&net),
            [(
                2,
                Readiness {
                    writable: false,
                    ..Readiness::RESET
                }
            )]
        );
        assert_eq!(read(&mut b, 4), Err(io::ErrorKind::ConnectionReset));
        assert_eq!(write(&mut b, b"x"), Err(io::ErrorKind::ConnectionReset));
    }

    #[test]
    fn a_reset_lets_pass_what_has_arrived_and_destroys_what_is_on_its_way() {
        let (net, mut a, mut b) = pair(16);
        write(&mut a, b"arrived").unwrap();
        net.poll();
        write(&mut a, b", lost").unwrap();
        a.reset();
        assert_eq!(read(&mut b, 16), Ok(b"arrived".to_vec()));
        assert_eq!(read(&mut b, 16), Err(io::ErrorKind::ConnectionReset));
        // It stays a reset when the other end is closed.
        drop(a);
        assert_eq!(read(&mut b, 16), Err(io::ErrorKind::ConnectionReset));
    }

    #[test]
    fn a_write_to_a_closed_peer_succeeds_and_the_next_poll_reports_a_reset() {
        let (net, mut a, b) = pair(4);
        drop(b);
        assert_eq!(poll(&net), [(1, Readiness::ENDED)]);
        for _ in 0..2 {
            assert_eq!(write(&mut a, b"vanishes"), Ok(8));
        }
        assert_eq!(
            poll(&net),
            [(
                1,
                Readiness {
                    writable: false,
                    ..Readiness::RESET
                }
            )]
        );
        assert_eq!(write(&mut a, b"x"), Err(io::ErrorKind::BrokenPipe));
        assert_eq!(read(&mut a, 4), Ok(Vec::new()));
    }

    #[test]
    fn a_listener_reports_what_comes_and_not_what_it_left_in_the_backlog() {
        let net = Rc::new(Net::default());
        let mut listener = MemoryListener::new(&net);
        listener.register(5);
        let mut clients = Vec::new();
        for _ in 0..3 {
            let (client, server) = MemoryStream::pair(&net, 4);
            listener.offer(server);
            clients.push(client);
        }
        assert_eq!(poll(&net), [(5, Readiness::READABLE)]);
        let accepted = listener.accept().unwrap();
        assert_eq!(poll(&net), []);
        drop(listener);
        assert!(!clients[0].is_at_end());
        for client in &mut clients[1..] {
            assert_eq!(read(client, 4), Err(io::ErrorKind::ConnectionReset));
        }
        drop(accepted);
        assert_eq!(read(&mut clients[0], 4), Ok(Vec::new()));
    }

    #[test]
    fn one_seed_is_one_run() {
        let run = |seed| {
            let (net, mut a, mut b) = pair(64);
            net.set_faults(
                seed,
                Faults {
                    short_reads_percent: 50,
                    short_writes_percent: 50,
                    ..Faults::default()
                },
            );
            (0..50)
                .map(|_| {
                    net.poll();
                    (a.write(&[7; 20]).ok(), b.read(&mut [0; 20]).ok())
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(run(42), run(42));
        assert_ne!(run(42), run(43));
    }
}
