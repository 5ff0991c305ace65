//! The connections of a reactor that have a user or are present in topics. See `presence.rs`.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::id::{ConnId, ConnMap};
use crate::pubsub::{MemberChange, Occupancy, User};

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
    /// The number of the last join.
    last_join: u64,
    /// A timer will tell counts of users.
    has_timer: bool,
    /// The joins and leaves that an engine has not taken, where it wants them.
    changes: Option<Vec<MemberChange>>,
    /// The changes that the program was not told.
    occupancy: Vec<Occupancy>,
}

#[derive(Default)]
struct PresentConnection {
    user: Option<User>,
    /// In the order of their names.
    joins: Vec<Join>,
}

/// A topic that a connection has joined.
pub(super) struct Join {
    topic: Arc<str>,
    joined_as: JoinedAs,
    /// No other join has it.
    number: u64,
}

/// The user by whom a connection is present in a topic.
pub(super) enum JoinedAs {
    /// That of the connection, whoever it is.
    OfConnection,
    /// One that was named for this topic alone.
    Named(User),
}

impl Join {
    pub(super) fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    /// The user, where `of_connection` is that of the connection.
    pub(super) fn user(&self, of_connection: &Option<User>) -> Option<User> {
        match &self.joined_as {
            JoinedAs::OfConnection => of_connection.clone(),
            JoinedAs::Named(user) => Some(user.clone()),
        }
    }
}

impl PresentConnection {
    fn counted_bytes(&self) -> usize {
        let of_joins = self.joins.iter().map(|join| match &join.joined_as {
            JoinedAs::OfConnection => 0,
            JoinedAs::Named(user) => user_bytes(user),
        });
        let of_user = self.user.as_ref().map_or(0, user_bytes);
        let bytes = CONNECTION_BYTES + of_user + of_joins.sum::<usize>();
        bytes + self.joins.len() * JOIN_BYTES
    }

    /// The place of a topic in the list, or the one where it belongs.
    fn find(&self, topic: &str) -> Result<usize, usize> {
        self.joins.binary_search_by(|join| (*join.topic).cmp(topic))
    }
}

fn user_bytes(user: &User) -> usize {
    user.name.len() + user.info.as_ref().map_or(0, |it| it.len())
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

    /// Sets the user of a connection. Returns the user that it had, and the topics that it has joined as this user.
    /// `None` when the user is the same.
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
            let joins = present.joins.iter();
            let topics = joins
                .filter(|join| matches!(join.joined_as, JoinedAs::OfConnection))
                .map(|join| Arc::clone(&join.topic));
            let topics = topics.collect();
            Some((std::mem::replace(&mut present.user, user), topics))
        })
    }

    /// The user of a connection. `None` for one without a name.
    pub(super) fn user(&self, id: ConnId) -> Option<User> {
        self.connections.get(id)?.user.clone()
    }

    /// Whether a connection has joined a topic.
    pub(super) fn has_joined(&self, id: ConnId, topic: &str) -> bool {
        self.join_number(id, topic).is_some()
    }

    /// The number of the join of a connection to a topic. One that has left and joined again has another.
    pub(super) fn join_number(&self, id: ConnId, topic: &str) -> Option<u64> {
        let present = self.connections.get(id)?;
        let index = present.find(topic).ok()?;
        Some(present.joins[index].number)
    }

    /// The user as which a connection has joined a topic.
    pub(super) fn user_in(&self, id: ConnId, topic: &str) -> Option<User> {
        let present = self.connections.get(id)?;
        let index = present.find(topic).ok()?;
        present.joins[index].user(&present.user)
    }

    /// Notes that a connection has joined a topic.
    pub(super) fn join(&mut self, id: ConnId, topic: Arc<str>, joined_as: JoinedAs) {
        self.last_join += 1;
        let number = self.last_join;
        self.change(id, |present| {
            if let Err(index) = present.find(&topic) {
                let join = Join {
                    topic,
                    joined_as,
                    number,
                };
                // Most connections have one topic, for which a vector would make room for four.
                if present.joins.is_empty() {
                    present.joins.reserve_exact(1);
                }
                present.joins.insert(index, join);
            }
        });
    }

    /// Notes that a connection leaves a topic. Returns the user as which it was there; `None` when it has not joined.
    pub(super) fn leave(&mut self, id: ConnId, topic: &str) -> Option<Option<User>> {
        self.connections.get(id)?;
        self.change(id, |present| {
            let index = present.find(topic).ok()?;
            let join = present.joins.remove(index);
            Some(join.user(&present.user))
        })
    }

    /// Forgets a connection. Returns its user and the topics that it has joined.
    pub(super) fn remove(&mut self, id: ConnId) -> Option<(Option<User>, Vec<Join>)> {
        let present = self.connections.remove(id)?;
        self.counted_bytes -= present.counted_bytes();
        Some((present.user, present.joins))
    }

    /// The topics that connections have joined.
    pub(super) fn topics(&self) -> BTreeSet<Arc<str>> {
        let connections = self.connections.iter();
        connections
            .flat_map(|(_, present)| &present.joins)
            .map(|join| Arc::clone(&join.topic))
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

    /// Records changes for the program. Returns whether there were none before.
    pub(super) fn note_occupancy(&mut self, changes: Vec<Occupancy>) -> bool {
        let is_first = self.occupancy.is_empty();
        self.occupancy.extend(changes);
        is_first
    }

    /// Takes the changes for the program.
    pub(super) fn take_occupancy(&mut self) -> Vec<Occupancy> {
        std::mem::take(&mut self.occupancy)
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
            let of_join = |join: &Join| MemberChange {
                topic: Arc::clone(&join.topic),
                user: join.user(&present.user),
                has_joined: true,
            };
            present.joins.iter().map(of_join).collect::<Vec<_>>()
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
