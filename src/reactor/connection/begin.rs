//! The beginning of a connection: its transport is adopted, shakes hands, and is opened.
//!
//! No user code runs here. The answer says whether the handler is to open the connection now.

use std::io;

use mio::Token;

use crate::reactor::close::CloseCause;
use crate::reactor::transport::{Progress, Transport};

use super::rooms::Rooms;
use super::{Connection, Life, end, send};

/// Goes on with the transport's own handshake after a report of the poll. Returns whether the
/// connection was opened.
pub(super) fn progress(rooms: &mut Rooms, connection: &mut Connection) -> bool {
    match connection.transport.progress() {
        Ok(Progress::Handshaking) => false,
        Ok(Progress::Ready) => {
            connection.reading.note_readable(false, false);
            open(rooms, connection);
            true
        }
        Err(error) => {
            end::abort(rooms, connection, CloseCause::Io(error.kind()));
            false
        }
    }
}

/// Gives a handshaking connection its transport. Returns whether the connection was opened.
///
/// The transport moves from the index of the attempt to that of the connection, so it is
/// registered again under the connection's token. That reports bytes that have come already.
///
/// # Errors
///
/// When the poll refuses it, or the transport's own handshake fails.
pub(super) fn adopt_transport(
    rooms: &mut Rooms,
    connection: &mut Connection,
    mut transport: Transport,
) -> io::Result<bool> {
    // It may have been aborted in this very turn, before its attempt was removed.
    if !matches!(connection.life, Life::Handshaking | Life::Finishing) {
        return Ok(false);
    }
    let interest = transport.interest(false);
    let token = Token(connection.id.index as usize);
    transport.reregister(rooms.registry.as_ref(), token, interest)?;
    connection.transport = transport;
    connection.reading.note_readable(false, false);
    connection.output.unblock();
    rooms.stats.connected += 1;
    if connection.life != Life::Handshaking {
        // It was closed while it connected. Messages that were sent before are flushed first.
        rooms
            .outbox
            .mark_dirty(connection.id, &mut connection.output);
        return Ok(false);
    }
    match connection.transport.progress()? {
        Progress::Handshaking => Ok(false),
        Progress::Ready => {
            open(rooms, connection);
            Ok(true)
        }
    }
}

/// Opens a connection: its transport carries the protocol's bytes from here on, first those that
/// were sent while it connected.
fn open(rooms: &mut Rooms, connection: &mut Connection) {
    connection.life = Life::Open;
    connection.waits.clear();
    send::flush(rooms, connection);
}
