//! Reading: from readiness to bytes in the input buffer, and the keeping of unconsumed bytes.
//!
//! No user code runs here. A read returns one of the answers below; the loop delivers the bytes to
//! the handler and gives back those that the handler did not consume.

use std::io;
use std::time::Duration;

use crate::protocol::websocket::Role;
use crate::reactor::close::CloseCause;
use crate::reactor::protocol::Protocol;
use crate::reactor::time::coarse::CoarseTime;

use super::reading::Pause;
use super::rooms::Rooms;
use super::{Connection, Life, end};

/// The most that is read at once from a peer whose messages are counted, unless a longer frame is coming.
const LIMITED_READ_BYTES: usize = 16 * 1024;

/// The result of a read by the fast path.
pub(super) enum FastRead {
    /// `count` bytes for a WebSocket of this role, and the socket is empty.
    Bytes { role: Role, count: usize },
    /// The connection was not read: the fast path is not for it now.
    NotEligible,
    /// The connection was read, and the general way must handle the result. It must not read again
    /// before that, because the bytes are in the input buffer already.
    FellBack(io::Result<usize>),
}

/// The result of a read by the general way.
pub(crate) enum Read {
    /// There is no input to deliver.
    Nothing,
    /// The connection has sent its last bytes: its input is to be discarded.
    Discards,
    /// The end of stream is to be delivered although reading is paused.
    End,
    /// Bytes for the handler; none when only the end of stream has come.
    Bytes(Arrived),
}

/// Bytes in the input buffer.
pub(crate) struct Arrived {
    /// The handler that they are for.
    pub(super) handler: u32,
    /// How many there are, those kept from earlier reads included.
    pub(super) length: usize,
    /// How many of them this read has brought.
    pub(super) came: usize,
    /// The end of stream follows them.
    pub(super) at_end: bool,
    /// They begin with the header of the PROXY protocol, because the connection is not open before it.
    is_unopened: bool,
    /// They are for the handler also if there are none.
    ends_without_bytes: bool,
    /// The buffer that held the kept bytes. Used again for the next ones, because a large message
    /// that comes in pieces would otherwise allocate for each piece.
    #[expect(clippy::box_collection, reason = "as in `Reading`")]
    pub(super) buffer: Option<Box<Vec<u8>>>,
}

impl Arrived {
    pub(crate) fn handler(&self) -> u32 {
        self.handler
    }

    pub(crate) fn length(&self) -> usize {
        self.length
    }

    pub(crate) fn is_unopened(&self) -> bool {
        self.is_unopened
    }

    pub(crate) fn ends_without_bytes(&self) -> bool {
        self.ends_without_bytes
    }
}

/// The loop's next step after a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// The connection is not read any more in this turn.
    Stop,
    /// The end of stream is to be delivered.
    DeliverEnd,
    /// Another read.
    ReadOn,
}

/// Reads for the fast path, if its conditions hold; they are listed in `fast_path`.
#[inline(always)]
pub(super) fn read_fast(
    rooms: &mut Rooms,
    connection: &mut Connection,
    input: &mut [u8],
) -> FastRead {
    let Protocol::WebSocket(machine) = &connection.protocol else {
        return FastRead::NotEligible;
    };
    let is_eligible = connection.reading.is_idle()
        && connection.life == Life::Open
        && connection.is_opened
        && connection.output.is_idle()
        && machine.has_fast_path()
        && rooms.option_sets[usize::from(connection.options)].has_fast_path;
    if !is_eligible {
        return FastRead::NotEligible;
    }
    let role = machine.role();
    match connection.transport.read(input) {
        Ok(count) if count != 0 && !connection.transport.may_hold_more(count, input.len()) => {
            rooms.stats.received_bytes += count as u64;
            rooms.outbox.cork_mut().enter_fast_path(connection.id, role);
            FastRead::Bytes { role, count }
        }
        result => FastRead::FellBack(result),
    }
}

/// Reads once into `input`, behind the kept bytes. `first` is the result of a read that the fast
/// path has made already.
///
/// Kept bytes are copied to the front of the input buffer, so that the parser sees them and the new
/// ones side by side. The copy is bounded: a head is at most as long as the read buffer, and the
/// WebSocket machine takes a frame that is longer into a buffer of its own.
pub(super) fn read(
    rooms: &mut Rooms,
    connection: &mut Connection,
    input: &mut [u8],
    first: &mut Option<io::Result<usize>>,
) -> Read {
    match connection.life {
        Life::Open | Life::Closing => {}
        Life::Finishing | Life::Lingering => return Read::Discards,
        Life::Handshaking | Life::Done => return Read::Nothing,
    }
    if !connection.may_read() {
        return read_while_paused(rooms, connection);
    }
    let (buffer, kept) = connection.reading.take_unconsumed(input);
    let mut came = 0;
    let until = read_until(rooms, connection, kept, input.len());
    if connection.reading.is_readable() && kept < until {
        let result = first
            .take()
            .unwrap_or_else(|| read_uninterrupted(connection, &mut input[kept..until]));
        match result {
            Ok(0) if connection.transport.is_truncated() && connection.protocol.is_unframed() => {
                connection.reading.keep_unconsumed(buffer, &input[..kept]);
                let cause = CloseCause::Io(io::ErrorKind::UnexpectedEof);
                end::abort(rooms, connection, cause);
                return Read::Nothing;
            }
            Ok(0) => connection.reading.note_end(),
            Ok(count) => {
                came = count;
                // After a short read one may skip the read that would say `WouldBlock`, one system
                // call of two. Not if an end of stream or urgent data was reported: then
                // there is more behind these bytes, and no other edge will come for it.
                let may_hold_more = connection.transport.may_hold_more(count, until - kept)
                    || connection.reading.is_read_closed()
                    || connection.reading.is_urgent();
                if !may_hold_more {
                    connection.reading.note_empty();
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                connection.reading.note_empty();
            }
            // Only the fast path's read can have been interrupted; the others try again by
            // themselves.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                return read(rooms, connection, input, &mut None);
            }
            Err(error) => {
                connection.reading.keep_unconsumed(buffer, &input[..kept]);
                end::fail_transport(rooms, connection, &error);
                return Read::Nothing;
            }
        }
        if !connection.transport.is_flushed() {
            // The read has made output, such as the answer to a key update.
            rooms
                .outbox
                .mark_dirty(connection.id, &mut connection.output);
        }
    }
    rooms.stats.received_bytes += came as u64;
    Read::Bytes(Arrived {
        handler: connection.handler,
        length: kept + came,
        came,
        at_end: connection.reading.is_at_end(),
        is_unopened: matches!(connection.protocol, Protocol::Unopened),
        ends_without_bytes: connection.protocol.ends_without_bytes(),
        buffer,
    })
}

/// The place in the input buffer up to which the next read may fill it, behind the kept bytes.
fn read_until(rooms: &Rooms, connection: &Connection, kept: usize, length: usize) -> usize {
    let most = match &connection.protocol {
        // The surplus of a limited peer is better left in the kernel: each pause would copy it twice,
        // and a thousand peers would hold a read buffer each.
        Protocol::WebSocket(machine) if rooms.rate_limit(connection.options).is_some() => {
            LIMITED_READ_BYTES.max(machine.expected_bytes())
        }
        protocol => kept + protocol.read_bytes_max(),
    };
    length.min(most)
}

/// Counts a message of a WebSocket. When the next one is not allowed yet, reading pauses until it is.
pub(super) fn count_message(rooms: &mut Rooms, connection: &mut Connection) {
    let limit = rooms.rate_limit(connection.options);
    let Some(allowed_at) = connection.rate.count_message(limit, rooms.now) else {
        return;
    };
    if connection.reading.is_paused(Pause::Rate) {
        return;
    }
    rooms.outbox.leave_fast_path(connection.id);
    connection.reading.pause(Pause::Rate);
    rooms.stats.rate_pauses += 1;
    let due = CoarseTime::after_nanos(allowed_at, 0);
    rooms.rate_pauses.file(due, connection.id);
    let now = Duration::from_nanos(rooms.now);
    if let Some(suppressed) = rooms.rate_lines.allow_line(now) {
        log::info!(
            "conn {} {}: slowed down: it sends more than {} messages a second{suppressed}",
            connection.id,
            connection.transport.peer(),
            limit.per_second(),
        );
    }
}

/// Notices a client that goes while the application owes an HTTP answer, so that the application can give
/// up an answer that costs much to make. The next request is not read meanwhile: pipelined requests would
/// pile up here.
///
/// A client that has ended its side may wait for the answer, and gets it. An end of stream is all that
/// the kernel reports of a client that has closed its socket too, until something is written to it. So only a
/// reset is a departure here. A streamed body may be without end, and ends with the client's side.
fn read_while_paused(rooms: &mut Rooms, connection: &mut Connection) -> Read {
    if !connection.reading.is_paused(Pause::Answer) {
        return Read::Nothing;
    }
    if connection.reading.is_hung_up() {
        end::abort(rooms, connection, CloseCause::Peer);
        return Read::Nothing;
    }
    match connection.reading.is_read_closed() && !connection.protocol.owes_answer() {
        true => Read::End,
        false => Read::Nothing,
    }
}

fn read_uninterrupted(connection: &mut Connection, input: &mut [u8]) -> io::Result<usize> {
    loop {
        match connection.transport.read(input) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Whether the peer has sent neither a byte nor its end since the last delivery. Asks the socket: a report of the
/// poll may be on its way. A byte that is there is lost, so the caller ends a connection that is not silent.
pub(super) fn is_silent(rooms: &mut Rooms, connection: &mut Connection) -> bool {
    let reading = &connection.reading;
    if reading.has_unconsumed() || reading.is_at_end() || reading.is_read_closed() {
        return false;
    }
    let result = read_uninterrupted(connection, &mut [0]);
    if !connection.transport.is_flushed() {
        // The read has made output, such as the answer to a key update.
        rooms
            .outbox
            .mark_dirty(connection.id, &mut connection.output);
    }
    matches!(result, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

/// Keeps the bytes that the handler did not consume, and returns the next step.
pub(super) fn delivered(
    rooms: &mut Rooms,
    connection: &mut Connection,
    arrived: Arrived,
    rest: &[u8],
    budget_bytes: &mut usize,
) -> Next {
    // In any other state no handler will ask for them any more.
    let keeps = matches!(connection.life, Life::Open | Life::Closing);
    if !rest.is_empty() && keeps {
        connection.reading.keep_unconsumed(arrived.buffer, rest);
    }
    end::charge(rooms, connection);
    if connection.reading.resume(Pause::Turn) {
        // Its time in this turn is used up. An end of stream is delivered in the next turn, after
        // the bytes before it.
        read_again(rooms, connection);
        return Next::Stop;
    }
    if arrived.at_end {
        // An application that paused gets the end of stream after the rest of the bytes, when it
        // resumes, and one that owes an HTTP answer after its answer. One that streams a body gets it
        // now.
        let streams_body =
            connection.reading.is_paused(Pause::Answer) && !connection.protocol.owes_answer();
        let waits = !connection.may_read() && !streams_body;
        return match waits {
            true => Next::Stop,
            false => Next::DeliverEnd,
        };
    }
    if !connection.reading.is_readable() {
        return Next::Stop;
    }
    // No byte came and none was consumed: the next read would be the same, and the loop would spin.
    // This is so when kept bytes fill the input buffer.
    if arrived.came == 0 && rest.len() == arrived.length {
        return Next::Stop;
    }
    // At least one, so that a connection on which only kept bytes are consumed stops some time too.
    *budget_bytes = budget_bytes.saturating_sub(arrived.came.max(1));
    if *budget_bytes == 0 {
        read_again(rooms, connection);
        return Next::Stop;
    }
    Next::ReadOn
}

/// As [`delivered`], for an event that the fast path began and did not finish.
#[inline(never)]
pub(super) fn delivered_rest(rooms: &mut Rooms, connection: &mut Connection, rest: &[u8]) {
    if !rest.is_empty() && matches!(connection.life, Life::Open | Life::Closing) {
        connection.reading.keep_unconsumed(None, rest);
    }
    end::charge(rooms, connection);
    if connection.reading.resume(Pause::Turn) {
        read_again(rooms, connection);
    }
}

/// Reads and throws away input that comes after our last bytes, until the peer ends its side too.
/// Returns whether the connection is to be removed.
///
/// Unread bytes in the socket would make its close a reset, and the peer could lose our last bytes.
pub(super) fn discard(
    rooms: &mut Rooms,
    connection: &mut Connection,
    input: &mut [u8],
    mut budget_bytes: usize,
) -> bool {
    let lingers = connection.life == Life::Lingering;
    loop {
        if !connection.reading.is_readable() && !connection.reading.is_at_end() {
            return false;
        }
        match connection.transport.read(input) {
            Ok(0) => {
                connection.reading.note_end();
                return lingers;
            }
            Ok(count) => budget_bytes = budget_bytes.saturating_sub(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                connection.reading.note_empty();
                return false;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // `on_close` has been called, so an error has no one to go to: the peer is gone.
            Err(_) if lingers => return true,
            Err(error) => {
                end::abort(rooms, connection, CloseCause::Io(error.kind()));
                return false;
            }
        }
        if budget_bytes == 0 {
            read_again(rooms, connection);
            return false;
        }
    }
}

/// Lists the connection for the next turn, which reads it and delivers its kept bytes.
fn read_again(rooms: &mut Rooms, connection: &mut Connection) {
    rooms
        .ready_list
        .read_again(connection.id, &mut connection.reading);
}
