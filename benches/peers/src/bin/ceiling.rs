//! The ceiling: the least that an echo server over epoll can do.
//!
//! Edge-triggered; one shared buffer; one recv and one send a readiness. Frames are streamed
//! through: unmasked in the buffer, their headers shortened in place, and sent back, without
//! message assembly, UTF-8 checks, limits or deadlines. A ping becomes a pong, a close is echoed.
//! With `--to all`, what came within one wait is gathered in one buffer, which then goes to each
//! connection with one send; a frame must come whole, and control frames get no answer.
//! It shows what the kernel costs; it is not a server that one could use.

#![forbid(unsafe_code)]

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use waterwheel_peers::{answer, arguments, head_bytes, listen};

/// What one recv takes at most.
const BUFFER_BYTES: usize = 512 * 1024;

/// Room before the bytes received for the start of a header that came earlier.
const CARRY_BYTES: usize = 16;

/// Readinesses of one wait.
const EVENTS: usize = 1024;

/// A head that is longer is refused.
const HEAD_BYTES_MAX: usize = 16 * 1024;

const OPCODE: u8 = 0x0f;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

struct Connection {
    stream: TcpStream,
    is_open: bool,
    is_closing: bool,
    /// The mask of the payload under way, rotated to its next byte.
    mask: u32,
    payload_left: u64,
    /// The start of a header whose end has not come.
    carry: [u8; CARRY_BYTES],
    carry_bytes: u8,
    /// The head while it is incomplete; later, what the kernel did not take. Nothing is read
    /// while something waits here after the handshake.
    #[expect(
        clippy::box_collection,
        reason = "one word in each connection, not three"
    )]
    waiting: Option<Box<Vec<u8>>>,
}

enum Fate {
    Stays,
    Ends,
}

struct Server {
    epoll: OwnedFd,
    listener: TcpListener,
    /// By descriptor.
    connections: Vec<Option<Connection>>,
    buffer: Box<[u8]>,
    /// What goes to all after this wait, where it does.
    to_all: Option<Vec<u8>>,
}

fn main() -> io::Result<()> {
    let arguments = arguments(true);
    let listener = listen(arguments.port)?;
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    let token = EventData::new_u64(listener.as_raw_fd() as u64);
    epoll::add(&epoll, &listener, token, EventFlags::IN)?;
    let mut server = Server {
        epoll,
        listener,
        connections: Vec::new(),
        buffer: vec![0; CARRY_BYTES + BUFFER_BYTES].into(),
        to_all: arguments.to_all.then(Vec::new),
    };
    let mut events: Vec<Event> = Vec::with_capacity(EVENTS);
    loop {
        match epoll::wait(&server.epoll, spare_capacity(&mut events), None) {
            Err(rustix::io::Errno::INTR) => continue,
            outcome => outcome?,
        };
        for event in events.drain(..) {
            let descriptor = event.data.u64() as usize;
            if descriptor == server.listener.as_raw_fd() as usize {
                server.accept()?;
            } else if let Some(Some(connection)) = server.connections.get_mut(descriptor)
                && matches!(
                    connection.advance(&mut server.buffer, &mut server.to_all, event.flags),
                    Ok(Fate::Ends) | Err(_)
                )
            {
                server.connections[descriptor] = None;
            }
        }
        server.send_to_all();
    }
}

impl Server {
    fn accept(&mut self) -> io::Result<()> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let descriptor = stream.as_raw_fd() as usize;
            let interest = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
            epoll::add(
                &self.epoll,
                &stream,
                EventData::new_u64(descriptor as u64),
                interest,
            )?;
            if self.connections.len() <= descriptor {
                self.connections.resize_with(descriptor + 1, || None);
            }
            self.connections[descriptor] = Some(Connection {
                stream,
                is_open: false,
                is_closing: false,
                mask: 0,
                payload_left: 0,
                carry: [0; CARRY_BYTES],
                carry_bytes: 0,
                waiting: None,
            });
        }
    }
}

impl Server {
    fn send_to_all(&mut self) {
        let Some(bytes) = self.to_all.as_mut().filter(|bytes| !bytes.is_empty()) else {
            return;
        };
        for slot in &mut self.connections {
            if let Some(connection) = slot
                && connection.is_open
                && connection.send(bytes).is_err()
            {
                *slot = None;
            }
        }
        bytes.clear();
    }
}

impl Connection {
    fn advance(
        &mut self,
        buffer: &mut [u8],
        to_all: &mut Option<Vec<u8>>,
        ready: EventFlags,
    ) -> io::Result<Fate> {
        if self.is_open && self.waiting.is_some() && !self.flush()? {
            return Ok(Fate::Stays);
        }
        let is_last = ready.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
        if !is_last && !ready.contains(EventFlags::IN) && !self.is_closing {
            return Ok(Fate::Stays);
        }
        while !self.is_closing {
            let carried = usize::from(self.carry_bytes);
            let start = CARRY_BYTES - carried;
            buffer[start..CARRY_BYTES].copy_from_slice(&self.carry[..carried]);
            let count = match self.stream.read(&mut buffer[CARRY_BYTES..]) {
                Ok(0) => return Ok(Fate::Ends),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Fate::Stays),
                Err(error) => return Err(error),
            };
            self.carry_bytes = 0;
            let end = CARRY_BYTES + count;
            if !self.is_open {
                self.shake_hands(buffer, to_all, end)?;
            } else {
                self.take(buffer, to_all, start, end)?;
            }
            if self.is_open && self.waiting.is_some() {
                return Ok(Fate::Stays);
            }
            // A short recv has taken all there was; what comes later is a new edge.
            if count < BUFFER_BYTES && !is_last {
                break;
            }
        }
        Ok(if self.is_closing {
            Fate::Ends
        } else {
            Fate::Stays
        })
    }

    fn shake_hands(
        &mut self,
        buffer: &mut [u8],
        to_all: &mut Option<Vec<u8>>,
        end: usize,
    ) -> io::Result<()> {
        let mut head = self.waiting.take().unwrap_or_default();
        head.extend_from_slice(&buffer[CARRY_BYTES..end]);
        let Some(bytes) = head_bytes(&head) else {
            if HEAD_BYTES_MAX < head.len() {
                return Err(ErrorKind::InvalidData.into());
            }
            self.waiting = Some(head);
            return Ok(());
        };
        let answer = answer(&head[..bytes]).ok_or(ErrorKind::InvalidData)?;
        self.is_open = true;
        self.send(answer.as_bytes())?;
        let rest = &head[bytes..];
        if rest.is_empty() {
            return Ok(());
        }
        // Frames that came with the head are not longer than what was received with its end.
        buffer[CARRY_BYTES..CARRY_BYTES + rest.len()].copy_from_slice(rest);
        self.take(buffer, to_all, CARRY_BYTES, CARRY_BYTES + rest.len())
    }

    fn take(
        &mut self,
        buffer: &mut [u8],
        to_all: &mut Option<Vec<u8>>,
        read: usize,
        end: usize,
    ) -> io::Result<()> {
        match to_all {
            None => self.echo(buffer, read, end),
            Some(out) => self.gather(&mut buffer[read..end], out),
        }
    }

    /// Appends the messages in `input` to what goes to all.
    fn gather(&mut self, mut input: &mut [u8], out: &mut Vec<u8>) -> io::Result<()> {
        while !input.is_empty() {
            let Some(header) = Header::parse(input) else {
                self.carry[..input.len()].copy_from_slice(input);
                self.carry_bytes = input.len() as u8;
                return Ok(());
            };
            let payload_bytes = header.payload_bytes as usize;
            let (head, rest) = input.split_at_mut(header.bytes);
            let (payload, rest) = rest
                .split_at_mut_checked(payload_bytes)
                .ok_or(ErrorKind::InvalidData)?;
            match header.first & OPCODE {
                CLOSE => {
                    self.is_closing = true;
                    return Ok(());
                }
                opcode if opcode < CLOSE => {
                    let mut mask = header.mask;
                    unmask(payload, &mut mask);
                    out.extend_from_slice(&[header.first, header.second & 0x7f]);
                    out.extend_from_slice(&head[2..header.bytes - MASK_BYTES]);
                    out.extend_from_slice(payload);
                }
                _ => {}
            }
            input = rest;
        }
        Ok(())
    }

    /// Sends back the frames in `buffer[read..end]`.
    fn echo(&mut self, buffer: &mut [u8], mut read: usize, end: usize) -> io::Result<()> {
        // What goes back is `buffer[first..written]`; it is never longer than what was read.
        let mut first = read;
        let mut written = read;
        loop {
            let bytes =
                usize::try_from(self.payload_left).map_or(end - read, |left| left.min(end - read));
            if 0 < bytes {
                unmask(&mut buffer[read..read + bytes], &mut self.mask);
                if written != read {
                    buffer.copy_within(read..read + bytes, written);
                }
                self.payload_left -= bytes as u64;
                read += bytes;
                written += bytes;
            }
            if read == end || self.is_closing && self.payload_left == 0 {
                break;
            }
            let Some(header) = Header::parse(&buffer[read..end]) else {
                self.carry[..end - read].copy_from_slice(&buffer[read..end]);
                self.carry_bytes = (end - read) as u8;
                break;
            };
            read += header.bytes;
            if written == first {
                // The first header goes right before its payload, which then need not move.
                first = read - (header.bytes - MASK_BYTES);
                written = first;
            }
            let length_bytes = header.bytes - MASK_BYTES - 2;
            let length_at = read - MASK_BYTES - length_bytes;
            if 0 < length_bytes {
                buffer.copy_within(length_at..length_at + length_bytes, written + 2);
            }
            buffer[written] = match header.first & OPCODE {
                PING => header.first & !OPCODE | PONG,
                _ => header.first,
            };
            buffer[written + 1] = header.second & 0x7f;
            written += header.bytes - MASK_BYTES;
            self.mask = header.mask;
            self.payload_left = header.payload_bytes;
            self.is_closing |= header.first & OPCODE == CLOSE;
        }
        self.send(&buffer[first..written])
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        if let Some(waiting) = &mut self.waiting {
            waiting.extend_from_slice(bytes);
            return Ok(());
        }
        let count = match self.stream.write(bytes) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        if count < bytes.len() {
            self.waiting = Some(Box::new(bytes[count..].to_vec()));
        }
        Ok(())
    }

    /// Whether nothing waits any more.
    fn flush(&mut self) -> io::Result<bool> {
        let Some(mut waiting) = self.waiting.take() else {
            return Ok(true);
        };
        match self.stream.write(&waiting) {
            Ok(count) if count == waiting.len() => return Ok(true),
            Ok(count) => drop(waiting.drain(..count)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        self.waiting = Some(waiting);
        Ok(false)
    }
}

const MASK_BYTES: usize = 4;

struct Header {
    first: u8,
    second: u8,
    /// With its mask.
    bytes: usize,
    payload_bytes: u64,
    mask: u32,
}

impl Header {
    fn parse(input: &[u8]) -> Option<Self> {
        let (&first, &second) = (input.first()?, input.get(1)?);
        let (payload_bytes, mask_at) = match second & 0x7f {
            126 => {
                let length = input.get(2..4)?.try_into().ok()?;
                (u16::from_be_bytes(length).into(), 4)
            }
            127 => {
                let length = input.get(2..10)?.try_into().ok()?;
                (u64::from_be_bytes(length), 10)
            }
            length => (length.into(), 2),
        };
        let mask = input.get(mask_at..mask_at + MASK_BYTES)?.try_into().ok()?;
        Some(Header {
            first,
            second,
            bytes: mask_at + MASK_BYTES,
            payload_bytes,
            mask: u32::from_ne_bytes(mask),
        })
    }
}

/// Unmasks the next bytes of a payload, and rotates its mask to the byte after them.
fn unmask(payload: &mut [u8], mask: &mut u32) {
    let bytes = mask.to_ne_bytes();
    let wide = u64::from_ne_bytes([
        bytes[0], bytes[1], bytes[2], bytes[3], bytes[0], bytes[1], bytes[2], bytes[3],
    ]);
    let length = payload.len();
    let mut words = payload.chunks_exact_mut(8);
    for word in &mut words {
        let value = u64::from_ne_bytes(word.try_into().unwrap_or_default()) ^ wide;
        word.copy_from_slice(&value.to_ne_bytes());
    }
    for (byte, mask) in words.into_remainder().iter_mut().zip(bytes.iter().cycle()) {
        *byte ^= mask;
    }
    let turned = (length % MASK_BYTES) as u32 * 8;
    *mask = u32::from_le(*mask).rotate_right(turned).to_le();
}
