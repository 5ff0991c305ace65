//! What comes in: from readiness to bytes in the input buffer, and what is kept of them.
//!
//! No user code runs here. A read ends in one of the answers below, and the loop delivers the bytes
//! and hands back what was not consumed.

use std::io;

use crate::protocol::websocket::Role;
use crate::reactor::close::CloseCause;
use crate::reactor::protocol::Protocol;

use super::reading::Pause;
use super::rooms::Rooms;
use super::{Connection, Life, end};

/// What came of a read by the fast path.
pub(super) enum FastRead {
    /// So many bytes for a WebSocket of this role, and the socket is empty.
    Bytes { role: Role, count: usize },
    /// Nothing was done: the fast path is not for this connection now.
    NotEligible,
    /// A read was done, whose result the general way must look at.
    FellBack(io::Result<usize>),
}

/// What came of a read by the general way.
pub(super) enum Read {
    /// Nothing to deliver.
    Nothing,
    /// The connection is past its last word: what comes is discarded.
    Discards,
    /// The end of stream is to be delivered although reading is paused.
    End,
    /// Bytes for the handler, or none but the end of stream behind them.
    Bytes(Arrived),
}

/// Bytes in the input buffer.
pub(crate) struct Arrived {
    /// How many there are, with those that were kept from before.
    pub(super) length: usize,
    /// How many of them are new.
    pub(super) came: usize,
    /// The end of stream is behind them.
    pub(super) at_end: bool,
    /// The buffer that held the unconsumed bytes, to be used again.
    #[expect(clippy::box_collection, reason = "as in `Reading`")]
    pub(super) buffer: Option<Box<Vec<u8>>>,
}

/// What is to be done behind a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing more in this turn.
    Stop,
    /// The end of stream is to be delivered.
    DeliverEnd,
    /// Another read.
    ReadOn,
}

/// Reads for the fast path; see `fast_path` for what it takes.
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
        && machine.is_between_messages()
        && rooms.option_sets[usize::from(connection.options)].has_fast_path;
    if !is_eligible {
        return FastRead::NotEligible;
    }
    let role = machine.role();
    match connection.transport.read(input) {
        Ok(count) if count != 0 && !connection.transport.may_hold_more(count, input.len()) => {
            rooms.stats.received_bytes += count as u64;
            rooms.outbox.enter_fast_path(connection.id, role);
            FastRead::Bytes { role, count }
        }
        result => FastRead::FellBack(result),
    }
}

/// Reads once into `input`, behind what was not consumed. `first` is what a read has brought already.
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
    if connection.life == Life::Open && !connection.reading.may_read() {
        // Nothing is read while the application owes an answer; that the client has gone is noticed
        // all the same.
        let waits_for_answer = connection.reading.is_paused(Pause::Answer);
        return match waits_for_answer && connection.reading.is_read_closed() {
            true => Read::End,
            false => Read::Nothing,
        };
    }
    let (buffer, kept) = connection.reading.take_unconsumed(input);
    let mut came = 0;
    if connection.reading.is_readable() && kept < input.len() {
        let until = input.len().min(kept + connection.protocol.read_bytes_max());
        let result = first
            .take()
            .unwrap_or_else(|| read_uninterrupted(connection, &mut input[kept..until]));
        match result {
            Ok(0) => connection.reading.note_end(),
            Ok(count) => {
                came = count;
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
            // The fast path may have been interrupted; the next round reads again.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                return read(rooms, connection, input, &mut None);
            }
            Err(error) => {
                connection.reading.keep_unconsumed(buffer, &input[..kept]);
                end::abort(rooms, connection, CloseCause::Io(error.kind()));
                return Read::Nothing;
            }
        }
    }
    rooms.stats.received_bytes += came as u64;
    Read::Bytes(Arrived {
        length: kept + came,
        came,
        at_end: connection.reading.is_at_end(),
        buffer,
    })
}

fn read_uninterrupted(connection: &mut Connection, input: &mut [u8]) -> io::Result<usize> {
    loop {
        match connection.transport.read(input) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Keeps what was not consumed of a delivery, and says what is next.
pub(super) fn delivered(
    rooms: &mut Rooms,
    connection: &mut Connection,
    arrived: Arrived,
    rest: &[u8],
    budget_bytes: &mut usize,
) -> Next {
    let keeps = matches!(connection.life, Life::Open | Life::Closing);
    if !rest.is_empty() && keeps {
        connection.reading.keep_unconsumed(arrived.buffer, rest);
    }
    if connection.reading.resume(Pause::Turn) {
        // An end of stream behind it is delivered when its turn comes.
        read_again(rooms, connection);
        return Next::Stop;
    }
    if arrived.at_end {
        let waits = connection.life == Life::Open
            && !connection.reading.may_read()
            && !connection.reading.is_paused(Pause::Answer);
        return match waits {
            true => Next::Stop,
            false => Next::DeliverEnd,
        };
    }
    if !connection.reading.is_readable() {
        return Next::Stop;
    }
    // A read that neither brought nor consumed anything would be the same the next time.
    if arrived.came == 0 && rest.len() == arrived.length {
        return Next::Stop;
    }
    *budget_bytes = budget_bytes.saturating_sub(arrived.came.max(1));
    if *budget_bytes == 0 {
        read_again(rooms, connection);
        return Next::Stop;
    }
    Next::ReadOn
}

/// As [`delivered`], where the fast path was left: for whatever the general way has to look at.
#[inline(never)]
pub(super) fn delivered_rest(rooms: &mut Rooms, connection: &mut Connection, rest: &[u8]) {
    if !rest.is_empty() && matches!(connection.life, Life::Open | Life::Closing) {
        connection.reading.keep_unconsumed(None, rest);
    }
    if connection.reading.resume(Pause::Turn) {
        read_again(rooms, connection);
    }
}

/// After our last words: reads and throws away, until the peer ends its side too. Returns whether the
/// connection is to be removed.
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

/// Has the connection read, or what it left unread delivered, in the next turn.
pub(super) fn read_again(rooms: &mut Rooms, connection: &mut Connection) {
    if connection.reading.list() {
        rooms.read_again.push(connection.id.index);
    }
}
