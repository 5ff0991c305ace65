//! From a report of the poll to the loop's next step for a source.
//!
//! A report is only a hint, and it comes once for each edge. It is remembered before anything else,
//! and a source that is not handled now goes on the ready list.

use std::io;

use crate::protocol::websocket::Role;
use crate::reactor::id::ConnId;
use crate::reactor::transport::listener::Accepting;
use crate::reactor::transport::memory::Readiness;

use super::read::{self, FastRead};
use super::rooms::Rooms;
use super::sources::Source;
use super::{Connection, begin, send};

/// The result of the fast path for a source that is ready.
pub(crate) enum FastReady {
    /// Bytes of a WebSocket on the fast path; see `connection::fast_path`.
    Messages(FastMessages),
    /// The fast path does not hold.
    NotEligible,
    /// A read was done, whose result the general way must look at.
    FellBack(io::Result<usize>),
}

/// Input that the fast path delivers.
#[derive(Clone, Copy)]
pub(crate) struct FastMessages {
    pub(crate) id: ConnId,
    pub(crate) handler: u32,
    pub(crate) route: u16,
    pub(crate) role: Role,
    /// The pace of its messages; see `budget`.
    pub(crate) pace: u8,
    /// How many bytes are in the input buffer.
    pub(crate) count: usize,
}

/// The loop's next step for a source that is ready.
pub(crate) enum Ready {
    /// There is no step.
    Nothing,
    /// The connection is corked, and is to be read; the fast path may have read once already.
    Read {
        id: ConnId,
        first: Option<io::Result<usize>>,
    },
    /// A step of the transport's handshake was done.
    Handshaking,
    /// The transport's handshake is done.
    Opened(ConnId),
    /// The listener is to accept.
    Accept,
    /// An attempt to connect may have succeeded or failed.
    Attempt,
    /// A source that the reactor keeps apart.
    Watched(Readiness),
}

/// Handles a report of the poll where the fast path holds: the connection is read at once, into
/// `input`, and corked. In all other cases [`ready`] is asked, with what a read has brought.
#[inline(always)]
pub(super) fn ready_fast(
    rooms: &mut Rooms,
    source: Option<&mut Source>,
    readiness: Readiness,
    input: &mut [u8],
) -> FastReady {
    let Some(Source::Connection(connection)) = source else {
        return FastReady::NotEligible;
    };
    if !readiness.readable || readiness.read_closed || readiness.urgent {
        return FastReady::NotEligible;
    }
    match read::read_fast(rooms, connection, input) {
        FastRead::Bytes { role, count } => FastReady::Messages(FastMessages {
            id: connection.id,
            handler: connection.handler,
            route: connection.route,
            role,
            pace: connection.reading.pace(),
            count,
        }),
        FastRead::NotEligible => FastReady::NotEligible,
        FastRead::FellBack(result) => FastReady::FellBack(result),
    }
}

/// The poll says that a source is ready, for which the fast path does not hold. `first` is what a
/// read has brought already.
pub(super) fn ready(
    rooms: &mut Rooms,
    source: Option<&mut Source>,
    readiness: Readiness,
    first: Option<io::Result<usize>>,
) -> Ready {
    let connection = match source {
        Some(Source::Connection(connection)) => connection,
        Some(Source::Listener(listener)) if listener.accepting() == Accepting::Ready => {
            return Ready::Accept;
        }
        Some(Source::Attempt(_)) => return Ready::Attempt,
        // One that is listed is handled when its place on the list comes, and not twice in one turn.
        Some(Source::Watched(place)) => {
            return match place.merge_deferred(readiness) {
                true => Ready::Nothing,
                false => Ready::Watched(readiness),
            };
        }
        // A listener that pauses leaves its clients in the backlog: it tries again when there
        // is room, or after its timer, without another report.
        Some(Source::Listener(_) | Source::Vacated) | None => return Ready::Nothing,
    };
    // Only a read finds the end of stream or the error that was reported.
    let is_readable = readiness.readable || readiness.read_closed;
    // Remembered even if reading is paused, or the transport shakes hands: the edge is not reported
    // again.
    note_readable(connection, readiness);
    if connection.transport.is_handshaking() {
        return progress(rooms, connection, false);
    }
    // Written before the read, so that the replies to it can be corked instead of queued.
    if readiness.writable && connection.output.is_blocked() {
        send::flush(rooms, connection);
    }
    // One that is listed is read when its turn on the list comes, and not twice in one turn.
    if !is_readable || connection.reading.is_listed() {
        return Ready::Nothing;
    }
    if connection.reading.is_busy() && first.is_none() {
        rooms
            .ready_list
            .read_last(connection.id, &mut connection.reading);
        return Ready::Nothing;
    }
    begin_read(rooms, connection, first)
}

/// Handles a source that was on the ready list, as [`ready`] does.
pub(super) fn ready_again(rooms: &mut Rooms, source: Option<&mut Source>) -> Ready {
    let connection = match source {
        Some(Source::Connection(connection)) => connection,
        Some(Source::Listener(listener)) if listener.accepting() == Accepting::Queued => {
            return Ready::Accept;
        }
        Some(Source::Attempt(_)) => return Ready::Attempt,
        Some(Source::Watched(place)) => {
            return match place.take_deferred() {
                Some(readiness) => Ready::Watched(readiness),
                None => Ready::Nothing,
            };
        }
        Some(Source::Listener(_) | Source::Vacated) | None => return Ready::Nothing,
    };
    if !connection.reading.unlist() {
        return Ready::Nothing;
    }
    if connection.transport.is_handshaking() {
        return progress(rooms, connection, true);
    }
    if connection.output.take_writable() {
        send::flush(rooms, connection);
    }
    begin_read(rooms, connection, None)
}

/// Remembers a report of the poll for which the turn has no time. Returns whether the source is to
/// be deferred; a busy connection is read again, after those.
pub(super) fn note_deferred(
    rooms: &mut Rooms,
    source: Option<&mut Source>,
    readiness: Readiness,
) -> bool {
    match source {
        Some(Source::Connection(connection)) => {
            note_readable(connection, readiness);
            if readiness.writable {
                connection.output.note_writable();
            }
            if connection.reading.is_busy() {
                let reading = &mut connection.reading;
                rooms.ready_list.read_again(connection.id, reading);
                return false;
            }
            connection.reading.list()
        }
        Some(Source::Listener(listener)) => {
            let is_new = listener.accepting() == Accepting::Ready;
            if is_new {
                listener.set_accepting(Accepting::Queued);
            }
            is_new
        }
        // Handling an attempt twice does no harm: the socket is asked whether it has connected.
        Some(Source::Attempt(_)) => true,
        Some(Source::Watched(place)) => place.defer(readiness),
        Some(Source::Vacated) | None => false,
    }
}

/// Remembers a report of the poll, as far as it is about reading.
fn note_readable(connection: &mut Connection, readiness: Readiness) {
    if readiness.readable || readiness.read_closed {
        connection
            .reading
            .note_readable(readiness.read_closed, readiness.urgent);
        if readiness.hung_up {
            connection.reading.note_hang_up();
        }
    }
}

/// Corks a connection that is to be read.
#[inline]
fn begin_read(
    rooms: &mut Rooms,
    connection: &mut Connection,
    first: Option<io::Result<usize>>,
) -> Ready {
    let id = connection.id;
    send::cork(rooms, connection);
    Ready::Read { id, first }
}

/// Goes on with a handshake, if the turn has time for it. `has_waited`: the turn had none before.
fn progress(rooms: &mut Rooms, connection: &mut Connection, has_waited: bool) -> Ready {
    // One that waits goes on when its place on the list comes.
    if connection.reading.is_listed() {
        return Ready::Nothing;
    }
    if !rooms.handshakes.begin_step(rooms.now) {
        let has_answered = connection.transport.has_sent_flight();
        rooms
            .ready_list
            .wait_for_handshake(connection.id, &mut connection.reading, has_answered);
        return Ready::Nothing;
    }
    match begin::progress(rooms, connection, has_waited) {
        true => Ready::Opened(connection.id),
        false => Ready::Handshaking,
    }
}
