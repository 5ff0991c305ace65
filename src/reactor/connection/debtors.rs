//! The debtors: connections that hold much of the memory of all, and the end of those that hold
//! most when the limit is passed. `reactor::memory` is the account, and says when.

use std::cmp::Reverse;
use std::time::Duration;

use crate::pubsub::Subscriptions;
use crate::reactor::id::ConnId;
use crate::reactor::memory::DEBT_BYTES_MIN;

use super::rooms::Rooms;
use super::sources::Sources;
use super::{Connection, Life, end, send};

/// Ends the connections that hold most, until a quarter of the limit is free. `subscription_bytes`
/// says what the subscriptions of a connection hold. Connections that hold little stay, whatever
/// the sum.
#[inline(never)]
pub(super) fn release_memory(
    sources: &mut Sources,
    rooms: &mut Rooms,
    subscription_bytes: impl Fn(ConnId, Subscriptions) -> usize,
) {
    let mut debtors = Vec::new();
    for connection in sources.connections() {
        if has_ended(connection) {
            continue;
        }
        let subscribed = subscription_bytes(connection.id, connection.subscriptions);
        let debt = debt_of(rooms, connection) + subscribed;
        if DEBT_BYTES_MIN <= debt {
            debtors.push((debt, subscribed, connection.id));
        }
    }
    debtors.sort_unstable_by_key(|(debt, ..)| Reverse(*debt));
    for (_, subscribed, id) in debtors {
        if rooms.memory.is_relieved(rooms.outbox.held_bytes()) {
            return;
        }
        let Some(connection) = sources.connection_mut(id) else {
            continue;
        };
        // Flush before judging: a queue that was never offered to the kernel says nothing about the
        // peer.
        let is_corked = rooms.outbox.is_corked(id);
        if !is_corked && !connection.output.is_empty() && !connection.output.is_blocked() {
            send::flush(rooms, connection);
            rooms.outbox.forget_publications();
        }
        let debt = debt_of(rooms, connection) + subscribed;
        if has_ended(connection) || debt < DEBT_BYTES_MIN {
            continue;
        }
        rooms.stats.memory_ends += 1;
        log_end(rooms, connection, debt);
        end::release_memory(rooms, connection);
        rooms.memory.note_releasing(subscribed);
        if is_corked {
            let held_bytes = connection.charged_bytes as usize;
            rooms.memory.note_releasing(held_bytes);
        }
    }
}

/// The memory that a connection holds, in bytes, without its subscriptions.
fn debt_of(rooms: &Rooms, connection: &Connection) -> usize {
    let queued_bytes = rooms.outbox.queued_bytes(connection.id, &connection.output);
    connection.charged_bytes as usize + queued_bytes
}

fn has_ended(connection: &Connection) -> bool {
    matches!(connection.life, Life::Done | Life::Lingering)
}

fn log_end(rooms: &mut Rooms, connection: &Connection, debt: usize) {
    let now = Duration::from_nanos(rooms.now);
    let Some(suppressed) = rooms.memory.ends_mut().allow_line(now) else {
        return;
    };
    let used_bytes = rooms.memory.used_bytes(rooms.outbox.held_bytes());
    log::warn!(
        "conn {} {}: ended because memory is short: it holds {debt} of {used_bytes} bytes, and {} are allowed{suppressed}",
        connection.id,
        connection.transport.peer(),
        rooms.memory.limit(),
    );
}
