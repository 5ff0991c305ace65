//! The beginning of a connection: its transport is adopted, shakes hands, and is opened.
//!
//! No user code runs here. The answer says whether the handler is to open the connection now.

use std::io;

use mio::Token;

use crate::reactor::close::Deadline;
#[cfg(feature = "tls")]
use crate::reactor::protocol::Protocol;
use crate::reactor::transport::Progress;
#[cfg(feature = "tls")]
use crate::reactor::transport::Transport;
use crate::reactor::transport::socket::Socket;
#[cfg(feature = "tls")]
use crate::reactor::transport::tls::stream::TlsStream;

use super::rooms::Rooms;
use super::{Connection, Life, end, send};

/// Goes on with the transport's own handshake. Returns whether the connection was opened.
///
/// The deadline of a handshake that `has_waited` for us begins again with our first flight, once: the
/// time that other handshakes took is not the peer's.
pub(super) fn progress(rooms: &mut Rooms, connection: &mut Connection, has_waited: bool) -> bool {
    if !matches!(connection.life, Life::Handshaking | Life::Finishing) {
        return false;
    }
    let unsent_bytes = connection.transport.unsent_bytes();
    let had_sent_flight = connection.transport.has_sent_flight();
    match connection.transport.progress() {
        Ok(Progress::Handshaking) => {
            send::watch_unsent(rooms, connection, unsent_bytes);
            // A part of a flight, or a flight that the socket has not taken.
            end::charge(rooms, connection);
            let is_first_flight = !had_sent_flight && connection.transport.has_sent_flight();
            if has_waited && is_first_flight && connection.waits_for() == Some(Deadline::Handshake)
            {
                let nanos = rooms.handshakes.timeout_nanos();
                connection.set_deadline(rooms, Deadline::Handshake, nanos);
            }
            false
        }
        Ok(Progress::Ready) => {
            match connection.transport.is_resumed() {
                Some(true) => rooms.stats.tls_resumptions += 1,
                Some(false) => rooms.stats.tls_handshakes += 1,
                None => {}
            }
            end::charge(rooms, connection);
            // Bytes may have come with the end of the handshake.
            connection.reading.note_readable(false, false);
            let is_opened = connection.life == Life::Handshaking;
            if is_opened {
                connection.life = Life::Open;
                connection.waits.clear();
            }
            // Messages that were sent before; a connection that was closed since ends behind them.
            send::flush(rooms, connection);
            is_opened
        }
        Err(error) => {
            end::fail_transport(rooms, connection, &error);
            false
        }
    }
}

/// Begins the handshake of TLS on a connection whose transport waits for that. `received` are bytes
/// of the handshake that have come already.
#[cfg(feature = "tls")]
pub(super) fn begin_handshake(rooms: &mut Rooms, connection: &mut Connection, received: &[u8]) {
    let Transport::Tls(stream) = &mut connection.transport else {
        return;
    };
    if !stream.begin_handshake(received) {
        return;
    }
    rooms.outbox.leave_fast_path(connection.id);
    connection.life = Life::Handshaking;
    // The edge of what is in the socket may be used up.
    rooms
        .ready_list
        .read_again(connection.id, &mut connection.reading);
    end::charge(rooms, connection);
}

/// Wraps an open raw stream in TLS; see `Table::start_tls`.
#[cfg(feature = "tls")]
pub(super) fn start_tls(
    rooms: &mut Rooms,
    connection: &mut Connection,
    mut stream: Box<TlsStream>,
    received: &[u8],
) -> bool {
    let is_raw = matches!(connection.protocol, Protocol::Raw) && connection.life == Life::Open;
    let Transport::Plain(socket) = &mut connection.transport else {
        return false;
    };
    if !is_raw {
        return false;
    }
    stream.set_socket(std::mem::replace(socket, Socket::Pending));
    connection.transport = Transport::Tls(stream);
    // The stream takes everything: what the socket has no room for leaves before the handshake.
    send::flush_all(rooms, connection);
    if connection.life != Life::Open {
        return true;
    }
    let received = [received, connection.reading.unconsumed()].concat();
    connection.reading.forget_unconsumed();
    begin_handshake(rooms, connection, &received);
    true
}

/// Gives a handshaking connection its socket. Returns whether the connection was opened.
///
/// The socket moves from the index of the attempt to that of the connection, so it is registered
/// again under the connection's token. That reports bytes that have come already.
///
/// # Errors
///
/// When the poll refuses it.
pub(super) fn adopt_socket(
    rooms: &mut Rooms,
    connection: &mut Connection,
    mut socket: Socket,
) -> io::Result<bool> {
    // It may have been aborted in this very turn, before its attempt was removed.
    if !matches!(connection.life, Life::Handshaking | Life::Finishing) {
        return Ok(false);
    }
    let interest = socket.interest(false);
    let token = Token(connection.id.index as usize);
    socket.reregister(rooms.registry.as_ref(), token, interest)?;
    connection.transport.set_socket(socket);
    connection.reading.note_readable(false, false);
    connection.output.unblock();
    rooms.stats.connected += 1;
    Ok(progress(rooms, connection, false))
}
