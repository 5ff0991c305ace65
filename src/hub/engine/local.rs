//! The engine of one reactor: its own order and its own history. There is no lock.

use crate::pubsub::Event;
use crate::reactor::id::ConnId;
use crate::reactor::published::Published;
use crate::reactor::reactor::Reactor;

/// Publishes to the members of the reactor.
pub(super) fn publish<S: 'static>(
    reactor: &mut Reactor<S>,
    topic: &str,
    event: Event<'_>,
    except: Option<ConnId>,
) -> Published {
    match except {
        Some(except) => reactor.publish_except(topic, event, except),
        None => reactor.publish(topic, event),
    }
}
