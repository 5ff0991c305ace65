//! A stream of TLS over a socket: the handshake, reads, writes, and the polite end.
//!
//! # Phases
//!
//! *Unstarted*: reads and writes pass as they are, and a write takes all: the header of the PROXY
//! protocol comes, or what was queued before `start_tls` leaves. *Handshaking*: [`progress`](TlsStream::progress) goes on with it at each report of the poll; a
//! write would block. *Open*: records carry the protocol's bytes. *Failed*: the alert, or the answer to a plain
//! HTTP request, is still to be sent; what comes is thrown away.
//!
//! # Bytes
//!
//! Ciphertext is read into the reactor's scratch, behind `kept`, the beginning of a record that is
//! not whole yet. Plaintext goes straight to the caller's buffer, and what has no room there to
//! `undelivered`. A write encrypts into the scratch and offers that to the socket at once; what the
//! socket does not take is `unsent`, at most one scratch full. So a stream owns bytes only while a
//! record is incomplete or the socket is full.
//!
//! A write takes all that it is given unless the socket is full: its callers take a short write for
//! a full socket.

use std::io::{self, IoSlice};
use std::rc::Rc;
use std::sync::Arc;

use mio::{Interest, Registry, Token};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};

use super::failure::{failure, io_error};
use super::scratch::{SCRATCH_BYTES, Scratch};
use super::session::{Order, Outgoing, Session};
use crate::reactor::tls_error::TlsError;
use crate::reactor::transport::socket::{Peer, Socket};

/// The longest record, with its header. Source: RFC 5246, section 6.2.3; RFC 8446, section 5.2.
const RECORD_BYTES_MAX: usize = 5 + 16 * 1024 + 2048;

/// The plaintext of one record. Source: RFC 8446, section 5.1.
const PLAINTEXT_BYTES_MAX: usize = 16 * 1024;

/// The most that a peer may send before the handshake is done, in bytes. A chain of certificates
/// has some thousands.
const HANDSHAKE_BYTES_MAX: usize = 128 * 1024;

/// The most that a server keeps of messages that are not whole, once the handshake is done, in bytes:
/// a record. A client sends nothing that is longer.
const SERVER_KEPT_BYTES_MAX: usize = RECORD_BYTES_MAX;

/// As [`SERVER_KEPT_BYTES_MAX`], for a client: a server may send a session ticket of up to 64 KiB, in
/// several records. Source: RFC 8446, section 4.6.1.
const CLIENT_KEPT_BYTES_MAX: usize = 64 * 1024;

/// The most that a peer may send at once without a byte for the protocol.
const EMPTY_BYTES_MAX: usize = 256 * 1024;

/// The most reads at once of what comes behind the peer's close_notify.
const DISCARDS_MAX: usize = 8;

/// Alerts that end a handshake for a reason that is not its own: user_canceled and close_notify, each in
/// a record without encryption. Source: RFC 8446, sections 5.1 and 6.1.
const CANCELED: &[u8] = b"\x15\x03\x03\x00\x02\x01\x5a\x15\x03\x03\x00\x02\x01\x00";

/// The heap of rustls for an idle connection, beside its struct, in bytes; see `tests/tls.rs`.
const SESSION_HEAP_BYTES: usize = 3 * 1024;

/// The content type of a handshake record, which begins each connection. Source: RFC 8446, section 5.1.
const HANDSHAKE_RECORD: u8 = 0x16;

/// The answer to a plain HTTP request.
const PLAIN_HTTP_TEXT: &str =
    "This port speaks TLS only: use https:// or wss:// in place of http:// or ws://.\n";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Unstarted,
    Handshaking,
    Open,
    Failed,
}

/// Bytes of which the front has been taken. Gives its memory back when all are.
#[derive(Default)]
struct Leftover {
    bytes: Vec<u8>,
    taken: usize,
}

impl Leftover {
    fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn take(&mut self, count: usize) {
        self.taken += count;
        if self.taken == self.bytes.len() {
            *self = Leftover::default();
        }
    }
}

/// A stream of TLS; see the head.
pub(crate) struct TlsStream {
    socket: Socket,
    session: Session,
    phase: Phase,
    kept: Vec<u8>,
    unsent: Leftover,
    undelivered: Leftover,
    scratch: Rc<Scratch>,
    /// Bytes that the peer has sent in the handshake.
    handshake_bytes: usize,
    /// A flight of ours was sent in the handshake.
    has_sent_flight: bool,
    /// The last read may not have emptied the socket.
    may_hold_more: bool,
    /// The error that came behind the plaintext of the last read.
    error: Option<io::Error>,
    /// The peer's close_notify has come.
    is_peer_closed: bool,
    /// The socket ended without the peer's close_notify.
    is_truncated: bool,
    /// Our close_notify was encrypted.
    has_said_goodbye: bool,
}

impl TlsStream {
    /// A stream in the role of the server.
    ///
    /// # Errors
    ///
    /// When rustls refuses the configuration.
    pub(crate) fn server(
        socket: Socket,
        config: Arc<ServerConfig>,
        scratch: &Rc<Scratch>,
    ) -> io::Result<TlsStream> {
        let session = Session::server(config).map_err(|error| io_error(&error))?;
        Ok(TlsStream::new(socket, session, scratch))
    }

    /// A stream in the role of the client, before it has a socket.
    ///
    /// # Errors
    ///
    /// When rustls refuses the configuration.
    pub(crate) fn client(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        scratch: &Rc<Scratch>,
    ) -> io::Result<TlsStream> {
        let session = Session::client(config, name).map_err(|error| io_error(&error))?;
        Ok(TlsStream::new(Socket::Pending, session, scratch))
    }

    fn new(socket: Socket, session: Session, scratch: &Rc<Scratch>) -> TlsStream {
        TlsStream {
            socket,
            session,
            phase: Phase::Unstarted,
            kept: Vec::new(),
            unsent: Leftover::default(),
            undelivered: Leftover::default(),
            scratch: Rc::clone(scratch),
            handshake_bytes: 0,
            has_sent_flight: false,
            may_hold_more: false,
            error: None,
            is_peer_closed: false,
            is_truncated: false,
            has_said_goodbye: false,
        }
    }

    /// Gives a stream that was made before its socket the socket.
    pub(crate) fn set_socket(&mut self, socket: Socket) {
        self.socket = socket;
    }

    // ── the handshake ────────────────────────────────────────────────────────────────────────

    /// Begins the handshake, of which `received` has come already. Returns `false` when it has
    /// begun before.
    pub(crate) fn begin_handshake(&mut self, received: &[u8]) -> bool {
        if self.phase != Phase::Unstarted {
            return false;
        }
        self.phase = Phase::Handshaking;
        self.kept.extend_from_slice(received);
        true
    }

    /// Whether the protocol's bytes cannot be written yet.
    pub(crate) fn is_handshaking(&self) -> bool {
        self.phase == Phase::Handshaking
    }

    /// Whether the handshake has sent something, which the peer has to answer.
    pub(crate) fn has_sent_flight(&self) -> bool {
        self.has_sent_flight
    }

    /// Goes on with the handshake. Returns whether it is done.
    ///
    /// # Errors
    ///
    /// The socket's error, or the reason why the handshake failed. In the second case
    /// [`flush`](Self::flush) sends the alert.
    pub(crate) fn progress(&mut self) -> io::Result<bool> {
        if self.phase != Phase::Handshaking || self.socket.is_pending() {
            return Ok(self.phase == Phase::Open);
        }
        // The first flight of a client, and bytes that came before the handshake was begun.
        if self.handshake_bytes == 0 {
            self.process_received()?;
        }
        loop {
            self.flush()?;
            if !self.session.is_handshaking() {
                self.phase = Phase::Open;
                return Ok(true);
            }
            let TlsStream { undelivered, .. } = self;
            let mut undelivered = std::mem::take(undelivered);
            let came = self.read_records(RECORD_BYTES_MAX, |bytes| undelivered.push(bytes));
            self.undelivered = undelivered;
            match came {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => {
                    self.undelivered = Leftover::default();
                    return Err(error);
                }
            }
        }
    }

    /// Ends a handshake that has not failed. Returns whether the peer can be told: as long as the sides
    /// have not agreed on a version there are no keys, and [`flush`](Self::flush) sends an alert. Behind that
    /// the alert would have to be encrypted, for which rustls has no call before the handshake is done.
    pub(crate) fn cancel_handshake(&mut self) -> bool {
        let is_handshaking = self.phase == Phase::Handshaking && !self.socket.is_pending();
        if !is_handshaking || self.session.has_agreed() {
            return false;
        }
        self.phase = Phase::Failed;
        self.kept = Vec::new();
        self.unsent.push(CANCELED);
        true
    }

    /// Ends a handshake of which the peer cannot be told: what comes is thrown away.
    pub(crate) fn forget_handshake(&mut self) {
        if self.phase == Phase::Handshaking {
            self.phase = Phase::Failed;
            self.kept = Vec::new();
        }
    }

    /// Processes ciphertext that came before the handshake was begun.
    fn process_received(&mut self) -> io::Result<()> {
        let mut incoming = std::mem::take(&mut self.kept);
        let filled = incoming.len();
        if filled != 0 {
            self.check_handshake(&incoming, filled)?;
        }
        let mut undelivered = std::mem::take(&mut self.undelivered);
        let processed = self.process(&mut incoming, filled, |bytes| undelivered.push(bytes));
        self.undelivered = undelivered;
        let discarded = processed?;
        if discarded < filled {
            incoming.drain(..discarded);
            self.kept = incoming;
        }
        Ok(())
    }

    /// Whether the handshake has resumed an earlier session.
    pub(crate) fn is_resumed(&self) -> bool {
        self.session.is_resumed()
    }

    // ── reading ──────────────────────────────────────────────────────────────────────────────

    /// Reads plaintext. `Ok(0)` is the peer's close_notify, or the end of the socket; see
    /// [`is_truncated`](Self::is_truncated).
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.phase == Phase::Handshaking {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if !self.undelivered.is_empty() {
            let rest = self.undelivered.as_slice();
            let count = rest.len().min(buffer.len());
            buffer[..count].copy_from_slice(&rest[..count]);
            self.undelivered.take(count);
            return Ok(count);
        }
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        // After a failure the peer may still be sending, and its bytes have no meaning any more.
        if self.phase != Phase::Open {
            return self.read_socket(buffer);
        }
        let mut empty_bytes = 0;
        while !self.is_peer_closed {
            let mut filled = 0;
            let mut undelivered = Leftover::default();
            // Plaintext is shorter than its records: only what was kept can make it longer than the
            // buffer.
            let most = buffer.len().clamp(RECORD_BYTES_MAX, SCRATCH_BYTES);
            let came = self.read_records(most, |bytes| {
                let count = bytes.len().min(buffer.len() - filled);
                buffer[filled..filled + count].copy_from_slice(&bytes[..count]);
                filled += count;
                undelivered.push(&bytes[count..]);
            });
            self.undelivered = undelivered;
            if filled != 0 {
                // The records in front of a faulty one are whole and authenticated.
                self.error = came.err();
                return Ok(filled);
            }
            let came = came?;
            if came == 0 {
                self.is_truncated = !self.is_peer_closed;
                return Ok(0);
            }
            empty_bytes += came;
            if EMPTY_BYTES_MAX < empty_bytes {
                let reason = "many records without data".to_owned();
                return Err(self.fail(failure(TlsError::Protocol, reason)));
            }
        }
        self.discard_rest();
        Ok(0)
    }

    /// Throws away what came behind the peer's close_notify. The kernel would otherwise keep it, and make
    /// the close of the socket a reset, which can destroy our last bytes. Above a limit it
    /// stays. Source: RFC 8446, section 6.1.
    fn discard_rest(&mut self) {
        let mut incoming = self.scratch.take_incoming();
        for _ in 0..DISCARDS_MAX {
            match self.socket.read(&mut incoming) {
                Ok(0) => break,
                Err(error) if error.kind() != io::ErrorKind::Interrupted => break,
                Ok(_) | Err(_) => {}
            }
        }
        self.scratch.put_back_incoming(incoming);
    }

    fn read_socket(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.socket.read(buffer)?;
        self.may_hold_more = self.socket.may_hold_more(count, buffer.len());
        Ok(count)
    }

    /// Reads ciphertext once and processes its records. Returns how many bytes came: 0 at the end
    /// of the socket.
    fn read_records(&mut self, most: usize, plaintext: impl FnMut(&[u8])) -> io::Result<usize> {
        let scratch = Rc::clone(&self.scratch);
        let mut incoming = scratch.take_incoming();
        let result = self.read_records_into(&mut incoming, most, plaintext);
        scratch.put_back_incoming(incoming);
        result
    }

    fn read_records_into(
        &mut self,
        incoming: &mut Vec<u8>,
        most: usize,
        plaintext: impl FnMut(&[u8]),
    ) -> io::Result<usize> {
        let kept = self.kept.len();
        let most = most
            .min(incoming.len().saturating_sub(kept))
            .max(RECORD_BYTES_MAX);
        if incoming.len() < kept + most {
            incoming.resize(kept + most, 0);
        }
        let came = loop {
            match self.socket.read(&mut incoming[kept..kept + most]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        self.may_hold_more = self.socket.may_hold_more(came, most);
        if came == 0 {
            return Ok(0);
        }
        incoming[..kept].copy_from_slice(&self.kept);
        let filled = kept + came;
        if self.phase == Phase::Handshaking {
            self.check_handshake(&incoming[..filled], came)?;
        }
        let discarded = self.process(incoming, filled, plaintext)?;
        // Behind the peer's close_notify there is nothing to understand.
        if discarded == filled || self.is_peer_closed {
            self.kept = Vec::new();
            return Ok(came);
        }
        self.check_kept(filled - discarded)?;
        self.kept.clear();
        self.kept.extend_from_slice(&incoming[discarded..filled]);
        Ok(came)
    }

    /// Refuses a message that is too long. It could otherwise come in records of a byte each, which
    /// are kept until it is whole and looked at again with each of them.
    fn check_kept(&mut self, bytes: usize) -> io::Result<()> {
        let most = match (self.session.is_handshaking(), self.session.is_server()) {
            // There is another limit for all of a handshake.
            (true, _) => return Ok(()),
            (false, true) => SERVER_KEPT_BYTES_MAX,
            (false, false) => CLIENT_KEPT_BYTES_MAX,
        };
        match bytes <= most {
            true => Ok(()),
            false => {
                let reason = format!("a message of more than {most} bytes");
                Err(self.fail(failure(TlsError::Protocol, reason)))
            }
        }
    }

    /// Refuses a handshake that is too long, or a request of plain HTTP.
    fn check_handshake(&mut self, bytes: &[u8], came: usize) -> io::Result<()> {
        if self.handshake_bytes == 0
            && self.session.is_server()
            && bytes[0] != HANDSHAKE_RECORD
            && bytes[0].is_ascii_uppercase()
        {
            let answer = format!(
                "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{PLAIN_HTTP_TEXT}",
                PLAIN_HTTP_TEXT.len(),
            );
            self.unsent.push(answer.as_bytes());
            return Err(self.fail(failure(TlsError::PlainHttp, String::new())));
        }
        self.handshake_bytes += came;
        if HANDSHAKE_BYTES_MAX < self.handshake_bytes {
            let reason = format!("more than {HANDSHAKE_BYTES_MAX} bytes");
            return Err(self.fail(failure(TlsError::HandshakeTooLong, reason)));
        }
        Ok(())
    }

    /// Processes the records in the first `filled` bytes. Returns how many bytes to drop.
    fn process(
        &mut self,
        incoming: &mut [u8],
        filled: usize,
        plaintext: impl FnMut(&[u8]),
    ) -> io::Result<usize> {
        let scratch = Rc::clone(&self.scratch);
        let mut outgoing = Outgoing::new(scratch.take_outgoing());
        let result = self.session.process(
            &mut incoming[..filled],
            Order::Nothing,
            &mut outgoing,
            plaintext,
        );
        let result = match result {
            Ok(processed) => {
                self.is_peer_closed |= processed.is_peer_closed;
                self.has_sent_flight |= !outgoing.bytes().is_empty();
                let offered = self.offer(outgoing.bytes());
                offered.map(|()| processed.discarded)
            }
            Err(error) => {
                self.unsent.push(outgoing.bytes());
                Err(io_error(&error))
            }
        };
        scratch.put_back_outgoing(outgoing.into_buffer());
        result.map_err(|error| self.fail(error))
    }

    /// From here on the session is not asked any more: it needs the ciphertext that was not
    /// consumed.
    fn fail(&mut self, error: io::Error) -> io::Error {
        self.phase = Phase::Failed;
        self.kept = Vec::new();
        error
    }

    /// Whether another read may bring more although the last one was short.
    pub(crate) fn may_hold_more(&self) -> bool {
        self.may_hold_more
            || self.is_peer_closed
            || !self.undelivered.is_empty()
            || self.error.is_some()
            // A read that has made output: the general way lists the connection for a flush.
            || !self.unsent.is_empty()
    }

    /// Whether the socket ended without the peer's close_notify: somebody may have cut the stream.
    pub(crate) fn is_truncated(&self) -> bool {
        self.is_truncated
    }

    // ── writing ──────────────────────────────────────────────────────────────────────────────

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    /// Encrypts the slices, short ones together in one record, and offers that to the socket.
    /// Returns how many bytes it took: fewer than it was given only when the socket is full.
    pub(crate) fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self.phase {
            Phase::Open => {}
            Phase::Unstarted => {
                slices.iter().for_each(|slice| self.unsent.push(slice));
                return Ok(slices.iter().map(|slice| slice.len()).sum());
            }
            Phase::Handshaking => return Err(io::ErrorKind::WouldBlock.into()),
            // The connection ends with what is unsent, and not with an error of this write.
            Phase::Failed => return Ok(slices.iter().map(|slice| slice.len()).sum()),
        }
        if !self.flush()? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let scratch = Rc::clone(&self.scratch);
        let mut outgoing = Outgoing::new(scratch.take_outgoing());
        let mut joined = scratch.take_joined();
        let result = self.encrypt_all(slices, &mut outgoing, &mut joined);
        scratch.put_back_joined(joined);
        scratch.put_back_outgoing(outgoing.into_buffer());
        result
    }

    fn encrypt_all(
        &mut self,
        slices: &[IoSlice<'_>],
        outgoing: &mut Outgoing,
        joined: &mut Vec<u8>,
    ) -> io::Result<usize> {
        let mut taken = 0;
        let mut slices = slices
            .iter()
            .map(|slice| &**slice)
            .filter(|slice| !slice.is_empty());
        let mut next = slices.next();
        while let Some(slice) = next {
            let is_last = slices.clone().next().is_none();
            let count;
            if joined.is_empty() && (is_last || PLAINTEXT_BYTES_MAX <= slice.len()) {
                // From where they lie; the end of a slice is joined with the next one.
                let whole = match is_last {
                    true => slice.len(),
                    false => slice.len() - slice.len() % PLAINTEXT_BYTES_MAX,
                };
                count = whole.min(SCRATCH_BYTES);
                self.encrypt(&slice[..count], outgoing)?;
                taken += count;
            } else {
                count = slice.len().min(PLAINTEXT_BYTES_MAX - joined.len());
                joined.extend_from_slice(&slice[..count]);
            }
            next = match count < slice.len() {
                true => Some(&slice[count..]),
                false => slices.next(),
            };
            if !joined.is_empty() && (joined.len() == PLAINTEXT_BYTES_MAX || next.is_none()) {
                self.encrypt(joined, outgoing)?;
                taken += joined.len();
                joined.clear();
            }
            if SCRATCH_BYTES <= outgoing.bytes().len() || next.is_none() {
                self.offer(outgoing.bytes())?;
                outgoing.clear();
                if !self.unsent.is_empty() {
                    break;
                }
            }
        }
        Ok(taken)
    }

    fn encrypt(&mut self, bytes: &[u8], outgoing: &mut Outgoing) -> io::Result<()> {
        self.carry_out(Order::Plaintext(bytes), outgoing)
    }

    fn carry_out(&mut self, order: Order<'_>, outgoing: &mut Outgoing) -> io::Result<()> {
        let TlsStream {
            session,
            kept,
            undelivered,
            ..
        } = self;
        let processed = session.process(kept, order, outgoing, |bytes| undelivered.push(bytes));
        let processed = match processed {
            Ok(processed) => processed,
            Err(error) => return Err(self.fail(io_error(&error))),
        };
        if processed.discarded != 0 {
            kept.drain(..processed.discarded);
        }
        match processed.is_done {
            true => Ok(()),
            false => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Offers ciphertext to the socket, behind what is unsent, and keeps what it does not take.
    fn offer(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut taken = 0;
        while self.unsent.is_empty() && taken < bytes.len() {
            match self.socket.write(&bytes[taken..]) {
                Ok(count) => {
                    taken += count;
                    // A short write: another one would only say `WouldBlock`.
                    if taken < bytes.len() {
                        self.unsent.push(&bytes[taken..]);
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        if taken < bytes.len() {
            self.unsent.push(&bytes[taken..]);
        }
        Ok(())
    }

    /// Offers the socket what it has not taken yet. Returns whether it has everything.
    pub(crate) fn flush(&mut self) -> io::Result<bool> {
        while !self.unsent.is_empty() {
            match self.socket.write(self.unsent.as_slice()) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.unsent.take(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Bytes that the socket has not taken yet.
    pub(crate) fn unsent_bytes(&self) -> usize {
        self.unsent.as_slice().len()
    }

    /// Encrypts close_notify, once, behind everything else. Returns whether the socket has it.
    pub(crate) fn say_goodbye(&mut self) -> io::Result<bool> {
        if self.phase == Phase::Open && !self.has_said_goodbye {
            self.has_said_goodbye = true;
            let scratch = Rc::clone(&self.scratch);
            let mut outgoing = Outgoing::new(scratch.take_outgoing());
            let result = self
                .carry_out(Order::CloseNotify, &mut outgoing)
                .and_then(|()| self.offer(outgoing.bytes()));
            scratch.put_back_outgoing(outgoing.into_buffer());
            result?;
        }
        self.flush()
    }

    // ── questions, and what the socket does ──────────────────────────────────────────────────

    pub(crate) fn is_pending(&self) -> bool {
        self.socket.is_pending()
    }

    /// The memory that it holds, in bytes, as far as it is known: with that of rustls.
    pub(crate) fn held_bytes(&self) -> usize {
        size_of::<TlsStream>()
            + SESSION_HEAP_BYTES
            + self.kept.capacity()
            + self.unsent.bytes.capacity()
            + self.undelivered.bytes.capacity()
    }

    pub(crate) fn interest(&self, has_output: bool) -> Interest {
        self.socket.interest(has_output)
    }

    pub(crate) fn shutdown_write(&mut self) -> io::Result<()> {
        self.socket.shutdown_write()
    }

    pub(crate) fn reset_on_close(&mut self) {
        self.socket.reset_on_close();
    }

    pub(crate) fn register(
        &mut self,
        registry: Option<&Registry>,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        self.socket.register(registry, token, interest)
    }

    pub(crate) fn reregister(
        &mut self,
        registry: Option<&Registry>,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        self.socket.reregister(registry, token, interest)
    }

    pub(crate) fn peer(&self) -> Peer {
        self.socket.peer()
    }
}
