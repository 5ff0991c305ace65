//! Observers of topics.

use super::observers::ObserverId;
use super::reactor::{Observe, Reactor};
use super::sequence::Sequence;
use crate::pubsub::{Event, EventId, TopicError};

#[allow(dead_code, reason = "roles need it, and not every build has one")]
impl<S: 'static> Reactor<S> {
    /// Has each publication to a topic told to an observer, from now on.
    ///
    /// # Errors
    ///
    /// [`TopicError`] when the name is not valid, or all connections have as many subscriptions as they may.
    pub(crate) fn observe(
        &mut self,
        topic: &str,
        observer: Observe<S>,
    ) -> Result<ObserverId, TopicError> {
        let limits = self.config.subscription_limits();
        let (observers, topics) = (&mut self.observers, &mut self.topics);
        let (id, is_first) = observers.add(topics, topic, observer, limits)?;
        if is_first && let Sequence::Shared(place) = &mut self.sequence {
            place.note_member(topic, false);
        }
        Ok(id)
    }

    /// Ends an observation. Does nothing when it has ended.
    pub(crate) fn end_observation(&mut self, topic: &str, id: ObserverId) {
        self.observers.remove(&mut self.topics, topic, id);
    }
}

impl<S: 'static> Reactor<S> {
    /// Tells the observers of a topic of a publication. One that ends meanwhile may still get this one.
    #[cold]
    #[inline(never)]
    pub(super) fn tell_observers(&mut self, topic: &str, id: EventId, event: &Event<'_>) {
        for observer in self.observers.of(topic) {
            observer(self, topic, id, event);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;
    use crate::reactor::sim::Sim;

    #[test]
    fn observers_hear_what_is_published_and_are_no_members() {
        let mut sim = Sim::new((), |reactor: &mut Reactor<()>| {
            reactor.watch_topics();
            reactor.websocket("0.0.0.0:80", |ws| ws.on_open(|ws, _| ws.subscribe("news")))
        });
        let client = sim.websocket("/");
        let heard = Rc::new(RefCell::new(Vec::new()));
        let reactor = sim.reactor();
        let observer = |number| -> Observe<()> {
            let heard = Rc::clone(&heard);
            Rc::new(
                move |_: &mut Reactor<()>, topic: &str, _, event: &Event<'_>| {
                    let text = event.payload().to_text().into_owned();
                    heard.borrow_mut().push(format!("{number} {topic} {text}"));
                },
            )
        };
        let first = reactor.observe("news", observer(1)).unwrap();
        let second = reactor.observe("news", observer(2)).unwrap();
        let other = reactor.observe("other", observer(3)).unwrap();
        assert!(reactor.observe("", observer(4)).is_err());
        assert_eq!(reactor.publish("news", "a").delivered, 1);
        assert_eq!(reactor.publish("other", "b").delivered, 0);
        assert_eq!(
            (reactor.member_count("news"), reactor.member_count("other")),
            (1, 0)
        );
        assert_eq!(reactor.members("news").count(), 1);
        assert_eq!(
            reactor.topics_with_members().collect::<Vec<_>>(),
            [("news", 1)]
        );
        assert_eq!(
            (reactor.topic_count(), reactor.subscription_count()),
            (1, 1)
        );
        reactor.end_observation("news", first);
        reactor.publish("news", "c");
        reactor.end_observation("news", second);
        reactor.end_observation("other", other);
        reactor.end_observation("other", other);
        reactor.publish("news", "d");
        reactor.publish("other", "e");
        let expected = ["1 news a", "2 news a", "3 other b", "2 news c"];
        assert_eq!(*heard.borrow(), expected);
        // An engine is told of topics that have none but observers.
        let changes = reactor.take_topic_changes();
        assert!(
            changes.iter().all(|(_, name, _)| **name == *"news"),
            "{changes:?}"
        );
        drop(client);
    }
}
