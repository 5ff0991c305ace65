//! Names that clients give: each is a topic, or a pattern of topics.

use crate::pubsub::{EventIdError, Since, TopicError, pattern};
use crate::reactor::id::ConnId;
use crate::reactor::reactor::Reactor;

/// Subscribes to a topic, or to a pattern where the name is one.
pub(super) fn subscribe_name<S: 'static>(
    reactor: &mut Reactor<S>,
    id: ConnId,
    name: &str,
) -> Result<bool, TopicError> {
    if pattern::is_pattern(name) {
        reactor.subscribe_pattern(id, name)
    } else {
        reactor.subscribe(id, name)
    }
}

/// Ends a subscription to a topic, or to a pattern where the name is one. `false` when there was none.
pub(super) fn unsubscribe_name<S: 'static>(
    reactor: &mut Reactor<S>,
    id: ConnId,
    name: &str,
) -> bool {
    if pattern::is_pattern(name) {
        reactor.unsubscribe_pattern(id, name)
    } else {
        reactor.unsubscribe(id, name)
    }
}

/// The place from which a client wants to read: a cursor, or `earliest`.
///
/// # Errors
///
/// For a text that was never given as a cursor.
pub(super) fn parse_cursor(text: &str) -> Result<Since, EventIdError> {
    match text {
        "earliest" => Ok(Since::Earliest),
        cursor => cursor.parse().map(Since::Id),
    }
}
