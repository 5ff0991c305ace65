//! Streams in memory: what stands in for the kernel in a simulation.
//!
//! A pair has two ends, each with a bounded inbox, an end of stream and a reset, as a socket has.
//! What happens at one end becomes readiness at the other, on a list that the loop polls instead
//! of the kernel. Faults are drawn from a seeded generator, so one seed is one run.
//!
//! The two ends are held by two owners (a connection and a simulated peer, or two connections),
//! on one thread, and no borrow outlives one operation: this is the one place for `RefCell`.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::rc::Rc;

use crate::reactor::burst::BURST;

/// What a poll says of one source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Readiness {
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// The peer's end of stream, a hang-up or an error waits behind the readable bytes.
    pub(crate) read_closed: bool,
    /// Urgent data is on its way, in front of which reads are short.
    pub(crate) urgent: bool,
}

/// What may go wrong in a simulated network, in percent of operations.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Reads that give fewer bytes than there are.
    pub short_reads_percent: u8,
    /// Writes that take fewer bytes than there is room.
    pub short_writes_percent: u8,
    /// Writes that find no room although there is some; room is found later.
    pub refused_writes_percent: u8,
    /// Operations at which the connection is reset.
    pub resets_percent: u8,
}

/// The simulated kernel: readiness that waits for the loop, and the dice.
#[derive(Default)]
pub(crate) struct Net {
    ready: RefCell<VecDeque<(usize, Readiness)>>,
    faults: Cell<Faults>,
    seed: Cell<u64>,
}

impl Net {
    pub(crate) fn set_faults(&self, seed: u64, faults: Faults) {
        // Neighbouring seeds give unlike runs, and zero would give zeros for ever.
        self.seed
            .set(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5851_F42D_4C95_7F2D | 1);
        self.faults.set(faults);
    }

    pub(crate) fn notify(&self, token: usize, readiness: Readiness) {
        self.ready.borrow_mut().push_back((token, readiness));
    }

    pub(crate) fn pop(&self) -> Option<(usize, Readiness)> {
        self.ready.borrow_mut().pop_front()
    }

    /// How many reports wait.
    pub(crate) fn len(&self) -> usize {
        self.ready.borrow().len()
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.ready.borrow().is_empty()
    }

    /// Gives memory back after a burst of reports.
    pub(crate) fn give_back_memory(&self) {
        let mut ready = self.ready.borrow_mut();
        if ready.is_empty() && BURST < ready.capacity() {
            *ready = VecDeque::new();
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

    fn some_of(&self, count: usize) -> usize {
        1 + (self.roll() as usize) % count
    }
}

#[derive(Default)]
struct End {
    inbox: VecDeque<u8>,
    /// The peer will write no more.
    finished: bool,
    reset: bool,
    dropped: bool,
    /// A write to this end's peer found no room.
    blocked: bool,
    token: Option<usize>,
}

struct Pair {
    net: Rc<Net>,
    capacity_bytes: usize,
    ends: [End; 2],
}

impl Pair {
    fn notify(&self, side: usize, readiness: Readiness) {
        if let Some(token) = self.ends[side].token {
            self.net.notify(token, readiness);
        }
    }

    fn reset(&mut self) {
        for side in [0, 1] {
            self.ends[side].reset = true;
            self.ends[side].inbox = VecDeque::new();
            self.notify(
                side,
                Readiness {
                    readable: true,
                    writable: true,
                    read_closed: true,
                    urgent: false,
                },
            );
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

    pub(crate) fn register(&mut self, token: usize) {
        let side = usize::from(self.side);
        let mut pair = self.pair.borrow_mut();
        pair.ends[side].token = Some(token);
        let end = &pair.ends[side];
        let read_closed = end.finished || end.reset;
        if read_closed || !end.inbox.is_empty() {
            pair.notify(
                side,
                Readiness {
                    readable: true,
                    writable: false,
                    read_closed,
                    urgent: false,
                },
            );
        }
    }

    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (side, other) = (usize::from(self.side), usize::from(1 - self.side));
        let mut pair = self.pair.borrow_mut();
        let net = Rc::clone(&pair.net);
        if net.happens(net.faults.get().resets_percent) {
            pair.reset();
        }
        let end = &mut pair.ends[side];
        if end.reset {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if end.inbox.is_empty() {
            return if end.finished {
                Ok(0)
            } else {
                Err(io::ErrorKind::WouldBlock.into())
            };
        }
        let mut count = end.inbox.len().min(buffer.len());
        if net.happens(net.faults.get().short_reads_percent) {
            count = net.some_of(count);
        }
        let (first, second) = end.inbox.as_slices();
        let until = count.min(first.len());
        buffer[..until].copy_from_slice(&first[..until]);
        buffer[until..count].copy_from_slice(&second[..count - until]);
        end.inbox.drain(..count);
        if end.inbox.is_empty() {
            end.inbox = VecDeque::new();
        }
        let finished = end.finished;
        if !end.inbox.is_empty() || finished {
            pair.notify(
                side,
                Readiness {
                    readable: true,
                    writable: false,
                    read_closed: finished,
                    urgent: false,
                },
            );
        }
        if std::mem::take(&mut pair.ends[other].blocked) {
            pair.notify(
                other,
                Readiness {
                    readable: false,
                    writable: true,
                    read_closed: false,
                    urgent: false,
                },
            );
        }
        Ok(count)
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (side, other) = (usize::from(self.side), usize::from(1 - self.side));
        let mut pair = self.pair.borrow_mut();
        let net = Rc::clone(&pair.net);
        if net.happens(net.faults.get().resets_percent) {
            pair.reset();
        }
        if pair.ends[side].reset {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if pair.ends[other].dropped {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let room = pair
            .capacity_bytes
            .saturating_sub(pair.ends[other].inbox.len());
        if room != 0 && net.happens(net.faults.get().refused_writes_percent) {
            pair.notify(
                side,
                Readiness {
                    readable: false,
                    writable: true,
                    read_closed: false,
                    urgent: false,
                },
            );
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut count = bytes.len().min(room);
        if count < bytes.len() {
            pair.ends[side].blocked = true;
        }
        if count == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if 1 < count && net.happens(net.faults.get().short_writes_percent) {
            count = net.some_of(count);
            pair.notify(
                side,
                Readiness {
                    readable: false,
                    writable: true,
                    read_closed: false,
                    urgent: false,
                },
            );
        }
        pair.ends[other].inbox.extend(&bytes[..count]);
        pair.notify(
            other,
            Readiness {
                readable: true,
                writable: false,
                read_closed: false,
                urgent: false,
            },
        );
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

    pub(crate) fn shutdown_write(&mut self) {
        let other = usize::from(1 - self.side);
        let mut pair = self.pair.borrow_mut();
        pair.ends[other].finished = true;
        pair.notify(
            other,
            Readiness {
                readable: true,
                writable: false,
                read_closed: true,
                urgent: false,
            },
        );
    }

    pub(crate) fn reset(&mut self) {
        self.pair.borrow_mut().reset();
    }

    /// Whether the other end was reset, finished or dropped, and all it sent has been read.
    pub(crate) fn is_at_end(&self) -> bool {
        let end = &self.pair.borrow().ends[usize::from(self.side)];
        end.reset || (end.finished && end.inbox.is_empty())
    }
}

impl Drop for MemoryStream {
    fn drop(&mut self) {
        let (side, other) = (usize::from(self.side), usize::from(1 - self.side));
        let mut pair = self.pair.borrow_mut();
        pair.ends[side].dropped = true;
        pair.ends[side].token = None;
        // As with sockets: closing with unread bytes is a reset, without them an end of stream.
        if !pair.ends[side].inbox.is_empty() {
            pair.reset();
        } else {
            pair.ends[other].finished = true;
            pair.notify(
                other,
                Readiness {
                    readable: true,
                    writable: true,
                    read_closed: true,
                    urgent: false,
                },
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(capacity_bytes: usize) -> (Rc<Net>, MemoryStream, MemoryStream) {
        let net = Rc::new(Net::default());
        let (mut a, mut b) = MemoryStream::pair(&net, capacity_bytes);
        a.register(1);
        b.register(2);
        (net, a, b)
    }

    #[test]
    fn bytes_cross_and_a_full_inbox_refuses_until_it_is_read() {
        let (net, mut a, mut b) = pair(4);
        assert_eq!(a.write(b"abcdef").unwrap(), 4);
        assert_eq!(
            a.write(b"ef").unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
        assert_eq!(net.pop().unwrap().0, 2);
        let mut buffer = [0; 16];
        assert_eq!(b.read(&mut buffer).unwrap(), 4);
        assert_eq!(
            net.pop(),
            Some((
                1,
                Readiness {
                    writable: true,
                    ..Readiness::default()
                }
            ))
        );
        assert_eq!(
            b.read(&mut buffer).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
    }

    #[test]
    fn closing_ends_the_stream_and_with_unread_bytes_resets_it() {
        let (_, a, mut b) = pair(16);
        drop(a);
        assert_eq!(b.read(&mut [0; 4]).unwrap(), 0);
        let (_, a, mut b) = pair(16);
        b.write(b"unread").unwrap();
        drop(a);
        assert_eq!(
            b.read(&mut [0; 4]).unwrap_err().kind(),
            io::ErrorKind::ConnectionReset
        );
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
                .map(|_| (a.write(&[7; 20]).ok(), b.read(&mut [0; 20]).ok()))
                .collect::<Vec<_>>()
        };
        assert_eq!(run(42), run(42));
        assert_ne!(run(42), run(43));
    }
}
