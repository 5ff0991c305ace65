//! The connections of a reactor that have a user or are present in topics. See `presence.rs`.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::id::{ConnId, ConnMap};
use crate::pubsub::{MemberChange, User};

/// The bytes that a connection counts beside the texts of its user.
const CONNECTION_BYTES: usize = 128;

/// The bytes that a connection counts for each topic that it has joined: its place in the set, and that of its user
/// in the table of the topic.
const JOIN_BYTES: usize = 192;

/// Connections with their users and the topics that they have joined. Empty in most programs, and then without
/// cost.
#[derive(Default)]
pub(super) struct PresentConnections {
    connections: ConnMap<PresentConnection>,
    counted_bytes: usize,
    /// A timer will tell counts of users.
    has_timer: bool,
    /// The joins and leaves that an engine has not taken, where it wants them.
    changes: Option<Vec<MemberChange>>,
}

#[derive(Default)]
struct PresentConnection {
    user: Option<User>,
    topics: BTreeSet<Arc<str>>,
}

impl PresentConnection {
    fn counted_bytes(&self) -> usize {
        let user_bytes =
            |user: &User| user.name.len() + user.info.as_ref().map_or(0, |it| it.len());
        let user_bytes = self.user.as_ref().map_or(0, user_bytes);
        CONNECTION_BYTES + user_bytes + self.topics.len() * JOIN_BYTES
    }
}

impl PresentConnections {
    pub(super) fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// Forgets all connections.
    pub(super) fn clear(&mut self) {
        self.connections = ConnMap::default();
        self.counted_bytes = 0;
    }

    /// The bytes of all connections.
    pub(super) fn counted_bytes(&self) -> usize {
        self.counted_bytes
    }

    /// The bytes of one connection.
    pub(super) fn bytes_of(&self, id: ConnId) -> usize {
        let present = self.connections.get(id);
        present.map_or(0, PresentConnection::counted_bytes)
    }

    /// Changes a connection, which is added if it is not there.
    fn change<R>(&mut self, id: ConnId, call: impl FnOnce(&mut PresentConnection) -> R) -> R {
        if self.connections.get(id).is_none() {
            let present = PresentConnection::default();
            self.counted_bytes += present.counted_bytes();
            self.connections.insert(id, present);
        }
        let present = self.connections.get_mut(id).expect("it was inserted");
        self.counted_bytes -= present.counted_bytes();
        let result = call(present);
        self.counted_bytes += present.counted_bytes();
        result
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
        self.change(id, |present| {
            let topics = present.topics.iter().cloned().collect();
            Some((std::mem::replace(&mut present.user, user), topics))
        })
    }

    /// The user of a connection that has not joined this topic. `None` when it has.
    pub(super) fn user_to_join(&self, id: ConnId, topic: &str) -> Option<Option<User>> {
        match self.connections.get(id) {
            Some(present) if present.topics.contains(topic) => None,
            Some(present) => Some(present.user.clone()),
            None => Some(None),
        }
    }

    /// Notes that a connection has joined a topic.
    pub(super) fn join(&mut self, id: ConnId, topic: Arc<str>) {
        self.change(id, |present| present.topics.insert(topic));
    }

    /// Notes that a connection leaves a topic. Returns its user; `None` when it has not joined.
    pub(super) fn leave(&mut self, id: ConnId, topic: &str) -> Option<Option<User>> {
        self.connections.get(id)?;
        self.change(id, |present| {
            present.topics.remove(topic).then(|| present.user.clone())
        })
    }

    /// Forgets a connection. Returns its user and the topics that it has joined.
    pub(super) fn remove(&mut self, id: ConnId) -> Option<(Option<User>, BTreeSet<Arc<str>>)> {
        let present = self.connections.remove(id)?;
        self.counted_bytes -= present.counted_bytes();
        Some((present.user, present.topics))
    }

    /// The topics that connections have joined.
    pub(super) fn topics(&self) -> BTreeSet<Arc<str>> {
        let connections = self.connections.iter();
        connections
            .flat_map(|(_, present)| present.topics.iter().cloned())
            .collect()
    }

    /// Records joins and leaves from now on.
    pub(super) fn watch(&mut self) {
        self.changes.get_or_insert_default();
    }

    /// Records that a connection has joined or left. Returns whether it is the first that is not taken.
    pub(super) fn note_change(
        &mut self,
        topic: &Arc<str>,
        user: &Option<User>,
        has_joined: bool,
    ) -> bool {
        let Some(changes) = &mut self.changes else {
            return false;
        };
        changes.push(MemberChange {
            topic: Arc::clone(topic),
            user: user.clone(),
            has_joined,
        });
        changes.len() == 1
    }

    /// Takes the joins and leaves.
    pub(super) fn take_changes(&mut self) -> Vec<MemberChange> {
        self.changes
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default()
    }

    /// The connections in each topic that they have joined.
    pub(super) fn members(&self) -> Vec<MemberChange> {
        let of_connection = |present: &PresentConnection| {
            let user = present.user.clone();
            let of_topic = move |topic: &Arc<str>| MemberChange {
                topic: Arc::clone(topic),
                user: user.clone(),
                has_joined: true,
            };
            present.topics.iter().map(of_topic).collect::<Vec<_>>()
        };
        let connections = self.connections.iter();
        connections
            .flat_map(|(_, present)| of_connection(present))
            .collect()
    }

    /// Notes that a timer was set, or has run. Returns whether there was one.
    pub(super) fn set_timer(&mut self, has_timer: bool) -> bool {
        std::mem::replace(&mut self.has_timer, has_timer)
    }
}
