//! The end of a connection: the arrows of the picture in `connection`, by their names.
//!
//! Nothing here calls user code: what has ended is on the list of `ended` connections, which the
//! turn works off. The words of a goodbye are the protocol's business.

use crate::reactor::close::{Close, CloseCause, Deadline, Sent};
use crate::reactor::protocol::{Failure, Goodbye, Protocol};
use crate::reactor::time::coarse::CoarseTime;

use super::rooms::Rooms;
use super::{Connection, Life, NO_HANDLER};
use crate::protocol::websocket;

/// Says goodbye for the application, in the words of the protocol, and waits for the peer's where
/// the protocol has one.
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
        // There is no peer yet, and nothing for it.
        abort(rooms, connection, cause);
        return Sent::Queued;
    }
    let mut goodbye = Vec::new();
    let (life, code) = match connection
        .protocol
        .encode_goodbye(code, reason, &mut goodbye)
    {
        Goodbye::AwaitsPeer { code } => (Life::Closing, code),
        Goodbye::Finishes => {
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
    // From here on it is read, whatever the application paused: the peer's goodbye may be there
    // already, and would not be reported again.
    if !connection.reading.may_read() && connection.reading.list() {
        rooms.read_again.push(connection.id.index);
    }
    move_on(rooms, connection, life, close);
    Sent::Queued
}

/// The peer's goodbye came, or nothing is to be waited for: flush, then end our side. `close` is kept
/// only when the connection was not closing before.
pub(super) fn finish(rooms: &mut Rooms, connection: &mut Connection, close: Close, lingers: bool) {
    if !connection.life.is_notifiable() {
        return;
    }
    connection.lingers |= lingers;
    let was_clean = close.was_clean;
    move_on(rooms, connection, Life::Finishing, close);
    if let Some(close) = &mut connection.close {
        close.was_clean |= was_clean;
    }
    if connection.protocol.ends_with_an_answer() {
        connection.waits.clear();
    }
}

/// Ends a connection for a fault: the right status or close code is said, and the peer's answer is
/// not waited for. Of a slow consumer, or after a panic, what was queued and not begun is dropped.
pub(super) fn fail(rooms: &mut Rooms, connection: &mut Connection, cause: CloseCause) {
    if !connection.life.is_notifiable() {
        return;
    }
    let has_said_goodbye = connection.life == Life::Closing;
    let date = rooms.wall_clock.date(rooms.now);
    let mut goodbye = Vec::new();
    let failure = connection
        .protocol
        .encode_failure(cause, has_said_goodbye, &date, &mut goodbye);
    let code = match failure {
        Failure::Finishes { code } => code,
        Failure::Aborts => return abort(rooms, connection, cause),
    };
    connection.lingers = true;
    if matches!(cause, CloseCause::SlowConsumer | CloseCause::Panicked) {
        rooms.outbox.drop_oldest(&mut connection.output, 0);
    }
    queue_goodbye(rooms, connection, &goodbye);
    let close = Close {
        code,
        ..Close::new(cause)
    };
    move_on(rooms, connection, Life::Finishing, close);
}

/// Ends a connection whose transport is of no more use. Nothing happens where it has ended.
pub(super) fn abort(rooms: &mut Rooms, connection: &mut Connection, cause: CloseCause) {
    if matches!(connection.life, Life::Done | Life::Lingering) {
        return;
    }
    connection.transport.reset_on_close();
    end_without_goodbye(rooms, connection, cause);
}

/// Ends a connection because the loop does: without a goodbye, and without a reset.
pub(super) fn abort_without_reset(
    rooms: &mut Rooms,
    connection: &mut Connection,
    cause: CloseCause,
) {
    connection.lingers = false;
    if !matches!(connection.life, Life::Done | Life::Lingering) {
        end_without_goodbye(rooms, connection, cause);
    }
}

/// All that was queued is with the kernel: our side ends, and the connection is done.
pub(super) fn flushed(rooms: &mut Rooms, connection: &mut Connection) {
    debug_assert_eq!(connection.life, Life::Finishing);
    // A failure means that the peer is gone, which is what lingering waits for.
    connection.lingers = connection.lingers
        && !connection.reading.is_at_end()
        && connection.transport.shutdown_write().is_ok();
    mark_done(rooms, connection);
}

/// After `on_close`: waits for the peer's end, where that is of use. `false` when the connection is to
/// be removed instead.
pub(super) fn linger(rooms: &mut Rooms, connection: &mut Connection) -> bool {
    if !connection.lingers {
        return false;
    }
    connection.life = Life::Lingering;
    connection.handler = NO_HANDLER;
    connection.protocol = Protocol::Raw;
    connection.reading.forget_unconsumed();
    if connection.waits.waits_for().is_none() {
        set_close_deadline(rooms, connection);
    }
    if connection.reading.list() {
        rooms.read_again.push(connection.id.index);
    }
    true
}

fn move_on(rooms: &mut Rooms, connection: &mut Connection, life: Life, close: Close) {
    rooms.outbox.leave_fast_path(connection.id);
    let was_open = connection.life.takes_messages();
    connection.life = life;
    // The first cause stays.
    connection.close.get_or_insert_with(|| Box::new(close));
    if was_open {
        set_close_deadline(rooms, connection);
    }
    if life == Life::Finishing {
        // Also with an empty queue: the flush is what ends our side.
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
