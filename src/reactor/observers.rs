//! The callbacks of topics: parts of this program that hear what is published, beside the connections.
//!
//! All observers of a reactor are one member of the topics that they observe, so that an engine subscribes to these
//! topics elsewhere and a group sends them here. This member is no connection, and no count of members has it.

use std::collections::HashMap;

use crate::pubsub::{Limits, Subscriptions, TopicError, Topics};

/// The number of the observers among the members of topics. No connection has it.
pub(super) const OBSERVERS: u64 = u64::MAX;

/// An observer of one topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ObserverId(u64);

/// The observers of a reactor, by their topics.
pub(super) struct Observers<O> {
    topics: HashMap<Box<str>, Vec<(ObserverId, O)>>,
    subscriptions: Subscriptions,
    next_id: u64,
}

impl<O> Default for Observers<O> {
    fn default() -> Self {
        Observers {
            topics: HashMap::new(),
            subscriptions: Subscriptions::default(),
            next_id: 0,
        }
    }
}

impl<O: Clone> Observers<O> {
    pub(super) fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// Whether a topic has one.
    pub(super) fn has(&self, topic: &str) -> bool {
        self.topics.contains_key(topic)
    }

    /// How many topics have one.
    pub(super) fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// Those of a topic.
    pub(super) fn of(&self, topic: &str) -> Vec<O> {
        let observers = self.topics.get(topic).into_iter().flatten();
        observers.map(|(_, observer)| observer.clone()).collect()
    }

    /// Adds an observer, and returns whether it is the first one of its topic.
    ///
    /// # Errors
    ///
    /// As [`Topics::subscribe`].
    #[allow(dead_code, reason = "roles need it, and not every build has one")]
    pub(super) fn add(
        &mut self,
        topics: &mut Topics,
        topic: &str,
        observer: O,
        limits: Limits,
    ) -> Result<(ObserverId, bool), TopicError> {
        let limits = Limits {
            subscriptions_max: usize::MAX,
            ..limits
        };
        let is_first = topics.subscribe(OBSERVERS, &mut self.subscriptions, topic, 0, limits)?;
        self.next_id += 1;
        let id = ObserverId(self.next_id);
        let observers = self.topics.entry(topic.into()).or_default();
        observers.push((id, observer));
        Ok((id, is_first))
    }

    /// Removes an observer. Does nothing when it has been.
    #[allow(dead_code, reason = "roles need it, and not every build has one")]
    pub(super) fn remove(&mut self, topics: &mut Topics, topic: &str, id: ObserverId) {
        let Some(observers) = self.topics.get_mut(topic) else {
            return;
        };
        observers.retain(|(other, _)| *other != id);
        if observers.is_empty() {
            self.topics.remove(topic);
            topics.unsubscribe(OBSERVERS, &mut self.subscriptions, topic);
        }
    }
}
