//! The streams of subscriptions. Two subscriptions of one client may have a stream in common: then the client gets each
//! broadcast once for each of them.
//!
//! The first one is a subscription of the reactor. An observer of the topic sends the broadcast for the others, also when
//! the first one has ended.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use crate::pubsub::TopicError;
use crate::reactor::id::ConnId;
use crate::reactor::observers::ObserverId;
use crate::reactor::reactor::{Observe, Reactor};

use super::identifiers::Number;

/// The further subscriptions to one stream.
struct Further {
    observer: ObserverId,
    members: Vec<(ConnId, Number)>,
}

/// The further subscriptions to streams, on one reactor.
#[derive(Clone, Default)]
pub(super) struct FurtherSubscriptions(Rc<RefCell<HashMap<Box<str>, Further>>>);

impl FurtherSubscriptions {
    /// Adds a subscription to a stream to which the client is subscribed by another identifier.
    ///
    /// # Errors
    ///
    /// As [`Reactor::observe`].
    pub(super) fn add<S: 'static>(
        &self,
        reactor: &mut Reactor<S>,
        id: ConnId,
        stream: &str,
        number: Number,
    ) -> Result<(), TopicError> {
        let mut streams = self.0.borrow_mut();
        if let Some(further) = streams.get_mut(stream) {
            further.members.push((id, number));
            return Ok(());
        }
        let all = self.clone();
        let observe: Observe<S> = Rc::new(move |reactor, topic, event_id, event| {
            let streams = all.0.borrow();
            let members = streams.get(topic).map(|further| further.members.clone());
            drop(streams);
            let members = members.unwrap_or_default().into_iter();
            let members = members.map(|(id, number)| (id, number.value()));
            reactor.deliver_to_each(members, topic, event_id, event);
        });
        let further = Further {
            observer: reactor.observe(stream, observe)?,
            members: vec![(id, number)],
        };
        streams.insert(stream.into(), further);
        Ok(())
    }

    /// Removes a further subscription, and returns whether it was one.
    pub(super) fn remove<S: 'static>(
        &self,
        reactor: &mut Reactor<S>,
        id: ConnId,
        stream: &str,
        number: Number,
    ) -> bool {
        let mut streams = self.0.borrow_mut();
        let Some(further) = streams.get_mut(stream) else {
            return false;
        };
        let index = further.members.iter().position(|it| *it == (id, number));
        let Some(index) = index else {
            return false;
        };
        further.members.remove(index);
        if further.members.is_empty() {
            reactor.end_observation(stream, further.observer);
            streams.remove(stream);
        }
        true
    }

    /// Whether a client has a further subscription to a stream.
    pub(super) fn has(&self, id: ConnId, stream: &str) -> bool {
        let streams = self.0.borrow();
        let further = streams.get(stream);
        further.is_some_and(|it| it.members.iter().any(|(member, _)| *member == id))
    }

    /// Whether there is none.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }
}
