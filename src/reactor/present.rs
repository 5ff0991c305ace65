//! The connections of a reactor that have a user or are present in topics. See `presence.rs`.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::id::{ConnId, ConnMap};
use crate::pubsub::User;

/// Connections with their users and the topics that they have joined. Empty in most programs, and then without
/// cost.
#[derive(Default)]
pub(super) struct PresentConnections {
    connections: ConnMap<PresentConnection>,
    /// A timer will tell counts of users.
    has_timer: bool,
}

#[derive(Default)]
struct PresentConnection {
    user: Option<User>,
    topics: BTreeSet<Arc<str>>,
}

impl PresentConnections {
    pub(super) fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// Forgets all connections.
    pub(super) fn clear(&mut self) {
        self.connections = ConnMap::default();
    }

    fn entry(&mut self, id: ConnId) -> &mut PresentConnection {
        if self.connections.get(id).is_none() {
            self.connections.insert(id, PresentConnection::default());
        }
        self.connections.get_mut(id).expect("it was inserted")
    }

    /// Sets the user of a connection. Returns the user that it had, and the topics that it has joined. `None` when
    /// the user is the same.
    pub(super) fn set_user(
        &mut self,
        id: ConnId,
        user: Option<User>,
    ) -> Option<(Option<User>, Vec<Arc<str>>)> {
        let known = self.connections.get(id).map(|present| &present.user);
        if *known.unwrap_or(&None) == user {
            return None;
        }
        let present = self.entry(id);
        let topics = present.topics.iter().cloned().collect();
        Some((std::mem::replace(&mut present.user, user), topics))
    }

    /// Notes that a connection joins a topic. Returns its user; `None` when it has joined before.
    pub(super) fn join(&mut self, id: ConnId, topic: &str) -> Option<Option<User>> {
        let present = self.entry(id);
        let is_new = present.topics.insert(topic.into());
        is_new.then(|| present.user.clone())
    }

    /// Notes that a connection leaves a topic. Returns its user; `None` when it has not joined.
    pub(super) fn leave(&mut self, id: ConnId, topic: &str) -> Option<Option<User>> {
        let present = self.connections.get_mut(id)?;
        present.topics.remove(topic).then(|| present.user.clone())
    }

    /// Forgets a connection. Returns its user and the topics that it has joined.
    pub(super) fn remove(&mut self, id: ConnId) -> Option<(Option<User>, BTreeSet<Arc<str>>)> {
        let present = self.connections.remove(id)?;
        Some((present.user, present.topics))
    }

    /// The topics that connections have joined.
    pub(super) fn topics(&self) -> BTreeSet<Arc<str>> {
        let connections = self.connections.iter();
        connections
            .flat_map(|(_, present)| present.topics.iter().cloned())
            .collect()
    }

    /// Notes that a timer was set, or has run. Returns whether there was one.
    pub(super) fn set_timer(&mut self, has_timer: bool) -> bool {
        std::mem::replace(&mut self.has_timer, has_timer)
    }
}
