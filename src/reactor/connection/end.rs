//! The end of a connection: the arrows of the picture in `connection`, by their names.
//!
//! No user code runs here. An end puts the connection on the list of those that have ended, and the
//! turn calls `on_close` from that list, so an end is safe in the middle of any callback.
//! `protocol` encodes the goodbye.
//!
//! # The way of one end: the peer's close frame
//!
//! ```text
//!  session/websocket.rs   receive_general: parses the frame (websocket/machine.rs encodes the reply)
//!  role.rs                finish_with
//!  connection/table.rs    finish: the look-up
//!  connection/end.rs      finish: the reply is queued, Finishing; dirty, also with an empty queue
//!  connection/send.rs     uncork: the reply leaves with the event
//!  turn.rs                flush, for the connections that are dirty
//!  connection/send.rs     flush: the queue is empty
//!  connection/end.rs      flushed: Done, listed as ended; a client half closes first and lingers
//!  turn.rs                run_ended, call_on_close: topics, on_error if it failed, on_close
//!  session/websocket.rs   closed: your callback (server/http_handler.rs has found the route)
//!  connection/table.rs    linger_or_remove: drops the socket
//!  connection/sources.rs  free_vacated: frees the index
//! ```

use std::io;
use std::time::Duration;

use crate::reactor::close::{Close, CloseCause, Deadline, Sent};
use crate::reactor::protocol::{Failure, Goodbye, Protocol};
use crate::reactor::time::coarse::CoarseTime;

use super::rooms::Rooms;
use super::{Connection, Life, NO_HANDLER};
use crate::protocol::websocket;

/// Time for which a connection lingers after the alert of a handshake, so that the peer can read it.
const ALERT_LINGER: Duration = Duration::from_secs(1);

/// Queues the protocol's goodbye for the application, and waits for the peer's if the protocol has
/// one.
pub(super) fn close(
    rooms: &mut Rooms,
    connection: &mut Connection,
    cause: CloseCause,
    code: u16,
    reason: &str,
) -> Sent {
    if !connection.life.takes_messages() {
        return Sent::Gone;
    }
    let queued_bytes = rooms.outbox.queued_bytes(connection.id, &connection.output);
    if connection.life == Life::Handshaking && queued_bytes == 0 {
        // There is no peer yet, or none that is secure, and no message waits for it.
        end_handshake(rooms, connection, cause);
        return Sent::Queued;
    }
    let mut goodbye = Vec::new();
    let (life, code) = match connection
        .protocol
        .encode_goodbye(code, reason, &mut goodbye)
    {
        Goodbye::AwaitsPeer { code } => (Life::Closing, code),
        Goodbye::Finishes => {
            // The peer does not know that we close and may still be sending.
            connection.lingers = true;
            (Life::Finishing, 0)
        }
        Goodbye::Aborts => {
            abort(rooms, connection, cause);
            return Sent::Queued;
        }
    };
    queue_goodbye(rooms, connection, &goodbye);
    let close = Close {
        code,
        reason: websocket::cut_reason(reason).into(),
        ..Close::new(cause)
    };
    // From here on it is read even if the application has paused it: the peer's goodbye may wait in
    // the socket already, and the kernel would not report it again.
    if !connection.may_read() {
        rooms
            .ready_list
            .read_again(connection.id, &mut connection.reading);
    }
    move_on(rooms, connection, life, close);
    Sent::Queued
}

/// Flushes what is queued and then ends our side: the peer's goodbye has come, or there is none to
/// wait for. `close` is kept only when the connection was not closing before.
pub(super) fn finish(
    rooms: &mut Rooms,
    connection: &mut Connection,
    words: &[u8],
    close: Close,
    lingers: bool,
) {
    if !connection.life.is_notifiable() {
        return;
    }
    connection.lingers |= lingers;
    queue_goodbye(rooms, connection, words);
    let was_clean = close.was_clean;
    move_on(rooms, connection, Life::Finishing, close);
    if let Some(close) = &mut connection.close {
        close.was_clean |= was_clean;
    }
    if connection.protocol.ends_with_an_answer() {
        // The last answer may be large and its client slow. While the client takes bytes, the write
        // deadline holds; `linger` sets the close deadline behind the last of them.
        connection.waits.clear();
    }
}

/// Ends a connection for a fault: sends the matching HTTP status or close code, and does not wait
/// for the peer's answer.
///
/// For a slow consumer and after a panic, queued messages of which no byte was written are dropped.
/// A slow consumer would otherwise get the close code behind a full queue, that is, never.
pub(super) fn fail(rooms: &mut Rooms, connection: &mut Connection, cause: CloseCause) {
    if !connection.life.is_notifiable() {
        return;
    }
    if matches!(
        cause,
        CloseCause::SlowConsumer
            | CloseCause::MemoryLimit
            | CloseCause::Panicked
            | CloseCause::CallbackError
    ) {
        rooms.outbox.drop_oldest(&mut connection.output, 0);
    }
    fail_behind_queue(rooms, connection, cause);
}

/// As [`fail`]; the peer gets what is queued before the goodbye, if it reads that in time.
pub(super) fn fail_behind_queue(rooms: &mut Rooms, connection: &mut Connection, cause: CloseCause) {
    if !connection.life.is_notifiable() {
        return;
    }
    // Each side sends one close frame. Source: RFC 6455, section 5.5.1.
    let has_said_goodbye = connection.life == Life::Closing;
    let date = rooms.wall_clock.date(rooms.now);
    let mut goodbye = Vec::new();
    let failure = connection
        .protocol
        .encode_failure(cause, has_said_goodbye, &date, &mut goodbye);
    let code = match failure {
        Failure::Finishes { code } => code,
        Failure::Aborts => return end_handshake(rooms, connection, cause),
    };
    // A peer that broke the protocol is often in the middle of sending. Closing at once would reset
    // the connection and destroy the status that says why. One whose head did not come in time
    // sends nothing, or too slowly: it has had its place for long enough.
    connection.lingers = cause != CloseCause::TimedOut(Deadline::Head);
    queue_goodbye(rooms, connection, &goodbye);
    let close = Close {
        code,
        ..Close::new(cause)
    };
    move_on(rooms, connection, Life::Finishing, close);
}

/// Ends a connection at once: its transport has failed, or a deadline has passed. Does nothing
/// when the connection has ended before.
///
/// The socket is closed with a reset. The kernel then frees it and its unsent bytes at once,
/// instead of keeping both for a peer that may be gone, and the peer cannot take it for a clean
/// end.
pub(super) fn abort(rooms: &mut Rooms, connection: &mut Connection, cause: CloseCause) {
    if matches!(connection.life, Life::Done | Life::Lingering) {
        return;
    }
    // The application may have closed it while it was still connecting. Its queued bytes are lost,
    // so `on_close` reports the failure and not the application's close.
    if connection.transport.is_pending() {
        connection.close = None;
    }
    note_failed_handshake(rooms, connection, cause);
    connection.transport.reset_on_close();
    end_without_goodbye(rooms, connection, cause);
}

/// Ends a connection whose transport has failed. Where the transport has something to say about it,
/// such as the alert of a TLS handshake, the peer gets that before the end.
pub(super) fn fail_transport(rooms: &mut Rooms, connection: &mut Connection, error: &io::Error) {
    let (cause, reason) = CloseCause::of_transport(error);
    if !matches!(cause, CloseCause::Tls(_)) || !connection.life.is_notifiable() {
        return abort(rooms, connection, cause);
    }
    let was_handshaking = connection.life == Life::Handshaking;
    note_failed_handshake(rooms, connection, cause);
    // The session encrypts no more.
    rooms.outbox.clear(&mut connection.output);
    // The peer may still be sending, and closing the socket now would destroy the alert.
    connection.lingers = true;
    let close = Close {
        code: connection.protocol.abnormal_code(),
        reason: reason.into(),
        ..Close::new(cause)
    };
    move_on(rooms, connection, Life::Finishing, close);
    if was_handshaking {
        send_last_word(rooms, connection);
    }
    charge(rooms, connection);
}

/// Ends a connection for a reason that its handshake is not the cause of: a close, a drain, a deadline.
/// The peer gets the transport's word for that, where there is one; otherwise, and when there is no such
/// handshake, this is [`abort`].
pub(super) fn end_handshake(rooms: &mut Rooms, connection: &mut Connection, cause: CloseCause) {
    let is_ending = matches!(connection.life, Life::Handshaking | Life::Finishing);
    if !is_ending || !connection.transport.cancel_handshake() {
        return abort(rooms, connection, cause);
    }
    note_failed_handshake(rooms, connection, cause);
    rooms.outbox.clear(&mut connection.output);
    // A peer whose flight did not come in time has had its place for long enough.
    connection.lingers = !matches!(cause, CloseCause::TimedOut(_));
    let close = Close {
        code: connection.protocol.abnormal_code(),
        ..Close::new(cause)
    };
    move_on(rooms, connection, Life::Finishing, close);
    send_last_word(rooms, connection);
    charge(rooms, connection);
}

/// Has the transport's last word flushed although the socket was full before, and has the connection
/// end soon: a peer that has no keys yet has nothing to say.
fn send_last_word(rooms: &mut Rooms, connection: &mut Connection) {
    // The socket may have taken everything since it was full, and would not be reported again.
    rooms
        .outbox
        .mark_dirty_again(connection.id, &mut connection.output);
    let timeout = connection.options(rooms).close_timeout.min(ALERT_LINGER);
    let due = CoarseTime::after(rooms.now, timeout);
    rooms
        .deadlines
        .set(connection.id, &mut connection.waits, Deadline::Close, due);
}

/// Counts the failure of a transport's handshake, if that goes on. One that is refused for its
/// address had not begun.
fn note_failed_handshake(rooms: &mut Rooms, connection: &Connection, cause: CloseCause) {
    let transport = &connection.transport;
    if connection.life == Life::Handshaking
        && cause != CloseCause::AddressLimit
        && !transport.is_pending()
        && transport.is_resumed().is_some()
    {
        rooms.stats.tls_failures.record(cause);
    }
}

/// Ends a connection because too much memory is held, and gives back what it holds. The goodbye is
/// sent only if no bytes are queued before it: it would have to wait behind them, and they would
/// keep their memory until the peer reads them.
pub(super) fn release_memory(rooms: &mut Rooms, connection: &mut Connection) {
    let cause = CloseCause::MemoryLimit;
    rooms.outbox.drop_oldest(&mut connection.output, 0);
    match connection.output.is_blocked() || !connection.output.is_empty() {
        true => abort(rooms, connection, cause),
        false => fail(rooms, connection, cause),
    }
    if connection.life == Life::Done {
        rooms.outbox.clear(&mut connection.output);
    }
    // A connection whose own event is being handled gives its input back at the end of it.
    if !rooms.outbox.is_corked(connection.id) {
        connection.protocol.drop_input();
        connection.reading.forget_unconsumed();
    }
    charge(rooms, connection);
}

/// Tells the account of memory what the connection holds now.
pub(super) fn charge(rooms: &mut Rooms, connection: &mut Connection) {
    let held_bytes = connection.held_bytes();
    rooms
        .memory
        .charge(&mut connection.charged_bytes, held_bytes);
}

/// Ends a connection because the loop ends: without a goodbye, and without a reset, so that the
/// kernel still delivers the bytes that it has taken.
pub(super) fn abort_without_reset(
    rooms: &mut Rooms,
    connection: &mut Connection,
    cause: CloseCause,
) {
    connection.lingers = false;
    if !matches!(connection.life, Life::Done | Life::Lingering) {
        // With TLS the peer would otherwise take this end for an attack that cuts the stream.
        connection.transport.cancel_handshake();
        let _ = connection.transport.say_goodbye();
        end_without_goodbye(rooms, connection, cause);
    }
}

/// Ends our side, because the kernel has taken everything that was queued. The connection is done.
pub(super) fn flushed(rooms: &mut Rooms, connection: &mut Connection) {
    debug_assert_eq!(connection.life, Life::Finishing);
    // Lingering waits for the peer's end. After its end of stream, or when the shutdown fails
    // because the peer is gone, there is none to wait for.
    connection.lingers = connection.lingers
        && !connection.reading.is_at_end()
        && connection.transport.shutdown_write().is_ok();
    mark_done(rooms, connection);
}

/// Begins to wait for the peer's end, after `on_close`. Returns `false` when the connection need
/// not linger and is to be removed.
///
/// The connection gives back its protocol and its unread input: it may wait for the whole
/// `close_timeout`, and thousands of these should cost no more than their sockets.
pub(super) fn linger(rooms: &mut Rooms, connection: &mut Connection) -> bool {
    if !connection.lingers {
        return false;
    }
    *connection.count_in(&mut rooms.connections) -= 1;
    connection.life = Life::Lingering;
    *connection.count_in(&mut rooms.connections) += 1;
    connection.handler = NO_HANDLER;
    connection.protocol = Protocol::Raw;
    connection.reading.forget_unconsumed();
    connection.transport.forget_handshake();
    charge(rooms, connection);
    if connection.waits.waits_for().is_none() {
        set_close_deadline(rooms, connection);
    }
    // Its edge may have been used up while input was paused.
    rooms
        .ready_list
        .read_again(connection.id, &mut connection.reading);
    true
}

/// Goes on to another state. From the first step of closing one deadline holds, which later steps
/// do not put off: a peer could otherwise keep a connection for ever.
fn move_on(rooms: &mut Rooms, connection: &mut Connection, life: Life, close: Close) {
    rooms.outbox.leave_fast_path(connection.id);
    let was_open = connection.life.takes_messages();
    connection.life = life;
    // The first cause stays: later ones, such as a failed write, follow from it.
    connection.close.get_or_insert_with(|| Box::new(close));
    if was_open {
        set_close_deadline(rooms, connection);
    }
    if life == Life::Finishing {
        // Listed even with an empty queue, because it is the flush that ends our side.
        rooms
            .outbox
            .mark_dirty(connection.id, &mut connection.output);
    }
}

fn end_without_goodbye(rooms: &mut Rooms, connection: &mut Connection, cause: CloseCause) {
    connection.lingers = false;
    let code = connection.protocol.abnormal_code();
    connection.close.get_or_insert_with(|| {
        Box::new(Close {
            code,
            ..Close::new(cause)
        })
    });
    mark_done(rooms, connection);
}

fn mark_done(rooms: &mut Rooms, connection: &mut Connection) {
    rooms.outbox.leave_fast_path(connection.id);
    connection.life = Life::Done;
    rooms.ended.push(connection.id);
}

/// Begins to count the age of a connection, if its options limit it.
pub(super) fn begin_age(rooms: &mut Rooms, connection: &mut Connection) {
    let due = match connection.options(rooms).age_max {
        Some(age) => {
            let nanos = connection.id.spread_finely(CoarseTime::bounded_nanos(age));
            CoarseTime::after_nanos(rooms.now, nanos)
        }
        None => CoarseTime::NEVER,
    };
    rooms
        .deadlines
        .set_age(connection.id, &mut connection.waits, due);
}

fn set_close_deadline(rooms: &mut Rooms, connection: &mut Connection) {
    let due = CoarseTime::after(rooms.now, connection.options(rooms).close_timeout);
    rooms
        .deadlines
        .set(connection.id, &mut connection.waits, Deadline::Close, due);
}

fn queue_goodbye(rooms: &mut Rooms, connection: &mut Connection, goodbye: &[u8]) {
    if !goodbye.is_empty() {
        let options = &rooms.option_sets[usize::from(connection.options)].options;
        rooms
            .outbox
            .queue_reply(&mut connection.parts(), goodbye, options);
    }
}
