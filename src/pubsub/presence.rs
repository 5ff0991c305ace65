//! Presence: which users are members of a topic, with how many connections, and how many members have no name.
//!
//! Pure: no lock, no clock. The caller says who joins and leaves and what time it is, and gets what the
//! members of the topic have to be told.
//!
//! # Lists and counts
//!
//! A client builds the list of users from a snapshot and from the users that have joined and left since. A
//! topic is in one of two modes:
//!
//! ```text
//!  listed    each first connection of a user is told as joined, each last one as left
//!     |  ^
//!     |  | at most half of users_max users: all members get a new snapshot
//!     v  |
//!  counted   from users_max + 1 users on: the members get the count of users, at most once a second
//! ```
//!
//! In counted mode a snapshot is the count alone. A client that gets a count forgets its list, because users
//! come and go unnamed from there on; the next list that it gets is whole. The way back is at half of the limit,
//! so that users who come and go around the limit do not cause a snapshot each time: its length is paid for by
//! as many users that have left unnamed.
//!
//! # Shares
//!
//! Several reactors share one table. Each counts its connections in a share of its own, and the shares of a
//! reactor that has ended are removed together.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use super::occupancy::{Occupancy, Watched};

/// How many users of a topic are listed by default.
pub const PRESENCE_USERS_MAX: usize = 1000;

/// The least time between two counts of one topic.
pub const COUNT_INTERVAL: Duration = Duration::from_secs(1);

/// The bytes that a user or a topic counts beside its texts.
const ENTRY_BYTES: usize = 128;

/// A user as it is known by its credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: Arc<str>,
    /// The description of the user, as JSON.
    pub info: Option<Arc<str>>,
}

/// A user that is present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresentUser {
    /// The user, with the description that its first connection had.
    pub user: User,
    /// Its connections that are members.
    pub connection_count: usize,
}

/// The members of a topic at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The users in the order of their names. `None` where they are too many to be listed.
    pub users: Option<Vec<PresentUser>>,
    /// How many users there are.
    pub user_count: usize,
    /// How many connections have no user.
    pub anonymous_count: usize,
}

/// The members of a topic, as numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PresenceCounts {
    /// Users.
    pub users: usize,
    /// Connections, those of users and those without one.
    pub connections: usize,
}

/// A connection has joined or left a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberChange {
    /// The topic.
    pub topic: Arc<str>,
    /// Its user. `None` for one without a name.
    pub user: Option<User>,
    /// It has joined.
    pub has_joined: bool,
}

/// The change of a topic that its members have to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicChange {
    /// The topic.
    pub topic: Arc<str>,
    /// The change.
    pub change: PresenceChange,
}

/// The change that the members of a topic have to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PresenceChange {
    /// The first connection of a user has joined.
    Joined(User),
    /// The last connection of the user with this name has left.
    Left(Arc<str>),
    /// There are so many users that they are counted.
    Counted {
        /// How many users there are.
        user_count: usize,
    },
    /// There are so few users that they are listed again.
    Listed(Arc<Snapshot>),
}

impl TopicChange {
    /// The bytes of the texts that only this change holds, about.
    pub(super) fn counted_bytes(&self) -> usize {
        let user_count = match &self.change {
            PresenceChange::Joined(_) | PresenceChange::Left(_) => 1,
            PresenceChange::Counted { .. } => 0,
            PresenceChange::Listed(snapshot) => snapshot.user_count,
        };
        user_count * ENTRY_BYTES
    }
}

/// A count of connections for each reactor that has some. Most users are on one reactor.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Shares {
    One { share: u16, count: u32 },
    Many(Vec<(u16, u32)>),
}

impl Shares {
    const EMPTY: Shares = Shares::Many(Vec::new());

    fn total(&self) -> usize {
        match self {
            Shares::One { count, .. } => *count as usize,
            Shares::Many(counts) => counts.iter().map(|(_, count)| *count as usize).sum(),
        }
    }

    fn add(&mut self, to: u16) {
        match self {
            Shares::One { share, count } if *share == to => *count += 1,
            Shares::One { share, count } => *self = Shares::Many(vec![(*share, *count), (to, 1)]),
            Shares::Many(counts) if counts.is_empty() => {
                *self = Shares::One {
                    share: to,
                    count: 1,
                };
            }
            Shares::Many(counts) => match counts.iter_mut().find(|(share, _)| *share == to) {
                Some((_, count)) => *count += 1,
                None => counts.push((to, 1)),
            },
        }
    }

    /// Returns whether there was a connection to remove.
    fn remove_one(&mut self, from: u16) -> bool {
        let count = match self {
            Shares::One { share, count } if *share == from => count,
            Shares::One { .. } => return false,
            Shares::Many(counts) => match counts.iter_mut().find(|(share, _)| *share == from) {
                Some((_, count)) => count,
                None => return false,
            },
        };
        *count -= 1;
        if *count == 0 {
            self.remove_all(from);
        }
        true
    }

    /// Returns whether there was one.
    fn remove_all(&mut self, from: u16) -> bool {
        let before = self.total();
        match self {
            Shares::One { share, .. } if *share == from => *self = Shares::EMPTY,
            Shares::One { .. } => {}
            Shares::Many(counts) => {
                counts.retain(|(share, _)| *share != from);
                if let [(share, count)] = counts[..] {
                    *self = Shares::One { share, count };
                }
            }
        }
        // A share without connections is not kept, except by the removal of its last one just before.
        before != self.total()
    }
}

#[derive(Debug)]
struct Present {
    info: Option<Arc<str>>,
    connections: Shares,
}

/// The members of one topic. There is one at least.
#[derive(Debug)]
struct TopicMembers {
    users: BTreeMap<Arc<str>, Present>,
    anonymous: Shares,
    is_counted: bool,
    /// When the members were told the count of users, and whether it has changed since.
    counted_at: Option<Duration>,
    is_count_due: bool,
}

impl TopicMembers {
    const EMPTY: TopicMembers = TopicMembers {
        users: BTreeMap::new(),
        anonymous: Shares::EMPTY,
        is_counted: false,
        counted_at: None,
        is_count_due: false,
    };

    fn is_empty(&self) -> bool {
        self.users.is_empty() && self.anonymous.total() == 0
    }

    /// The user with this name, where it has no connection left.
    fn absent_user(&self, user: &str) -> Option<Arc<str>> {
        let (name, present) = self.users.get_key_value(user)?;
        (present.connections.total() == 0).then(|| Arc::clone(name))
    }

    fn snapshot(&self) -> Snapshot {
        let present = |(name, present): (&Arc<str>, &Present)| PresentUser {
            user: User {
                name: Arc::clone(name),
                info: present.info.clone(),
            },
            connection_count: present.connections.total(),
        };
        let users = (!self.is_counted).then(|| self.users.iter().map(present).collect());
        Snapshot {
            users,
            user_count: self.users.len(),
            anonymous_count: self.anonymous.total(),
        }
    }

    fn counts(&self) -> PresenceCounts {
        let users = self.users.values();
        let connections = users.map(|present| present.connections.total());
        PresenceCounts {
            users: self.users.len(),
            connections: self.anonymous.total() + connections.sum::<usize>(),
        }
    }

    /// The moment from which the count may be told.
    fn count_due_at(&self, interval: Duration) -> Duration {
        self.counted_at.map_or(Duration::ZERO, |at| at + interval)
    }
}

/// The users of all topics that have presence.
#[derive(Debug)]
pub struct Presence {
    users_max: usize,
    count_interval: Duration,
    topics: BTreeMap<Arc<str>, TopicMembers>,
    /// The topics whose count is told later, with the time.
    due: BTreeSet<(Duration, Arc<str>)>,
    counted_bytes: usize,
    watched: Option<Watched>,
}

impl Presence {
    /// No members yet. Up to `users_max` users of a topic are listed.
    pub fn new(users_max: usize) -> Presence {
        Presence {
            users_max,
            count_interval: COUNT_INTERVAL,
            topics: BTreeMap::new(),
            due: BTreeSet::new(),
            counted_bytes: 0,
            watched: None,
        }
    }

    /// Notes from now on who joins and leaves topics whose names begin with `prefix`.
    pub fn watch(&mut self, prefix: &'static str) {
        self.watched.get_or_insert(Watched::new(prefix));
    }

    /// Takes the changes of the topics that are [watched](Self::watch).
    pub fn take_occupancy(&mut self) -> Vec<Occupancy> {
        let watched = self.watched.as_mut();
        watched.map_or_else(Vec::new, Watched::take_changes)
    }

    /// Forgets the changes that were not taken, but for the topics with another number of connections.
    pub fn keep_counts(&mut self) {
        if let Some(watched) = &mut self.watched {
            watched.keep_counts();
        }
    }

    /// Whether a topic has been without connections for three seconds. Says so once.
    pub fn is_vacated(&mut self, topic: &str, now: Duration) -> bool {
        let watched = self.watched.as_mut();
        watched.is_some_and(|watched| watched.is_vacated(topic, now))
    }

    fn note_join(
        &mut self,
        topic: &Arc<str>,
        is_first: bool,
        user: Option<&Arc<str>>,
        now: Duration,
    ) {
        if let Some(watched) = &mut self.watched {
            watched.set_now(now);
            watched.note_join(topic, is_first, user);
        }
    }

    fn note_leave(&mut self, topic: &Arc<str>, user: Option<&Arc<str>>) {
        let is_last = !self.topics.contains_key(topic);
        if let Some(watched) = &mut self.watched {
            watched.note_leave(topic, is_last, user);
        }
    }

    /// Changes how many users of a topic are listed, for the users that join and leave from now on.
    pub fn set_users_max(&mut self, users_max: usize) {
        self.users_max = users_max;
    }

    /// Removes all members.
    pub fn clear(&mut self) {
        self.topics.clear();
        self.due.clear();
        self.counted_bytes = 0;
    }

    /// Changes the least time between two counts of one topic, before there are any members.
    pub fn set_count_interval(&mut self, count_interval: Duration) {
        self.count_interval = count_interval;
    }

    /// Adds a connection of a share to a topic, with its user or without a name. Returns the change that
    /// members have to be told, if there is one.
    ///
    /// The caller balances this by one [`leave`](Self::leave) with the same share and user, or by
    /// [`remove_share`](Self::remove_share). A user keeps the description of its first connection until it has
    /// left.
    pub fn join(
        &mut self,
        share: u16,
        topic: &str,
        user: Option<&User>,
        now: Duration,
    ) -> Option<TopicChange> {
        let (topic, is_first): (Arc<str>, bool) = match self.topics.get_key_value(topic) {
            Some((topic, _)) => (Arc::clone(topic), false),
            None => {
                self.counted_bytes += ENTRY_BYTES + topic.len();
                (topic.into(), true)
            }
        };
        let members = self
            .topics
            .entry(Arc::clone(&topic))
            .or_insert(TopicMembers::EMPTY);
        let Some(user) = user else {
            members.anonymous.add(share);
            self.note_join(&topic, is_first, None, now);
            return None;
        };
        if let Some(present) = members.users.get_mut(&user.name) {
            present.connections.add(share);
            self.note_join(&topic, is_first, None, now);
            return None;
        }
        let present = Present {
            info: user.info.clone(),
            connections: Shares::One { share, count: 1 },
        };
        self.counted_bytes += bytes_of(&user.name, &present);
        members.users.insert(Arc::clone(&user.name), present);
        members.is_counted |= self.users_max < members.users.len();
        let change = match members.is_counted {
            false => Some(PresenceChange::Joined(user.clone())),
            true => self.count(&topic, now),
        };
        self.note_join(&topic, is_first, Some(&user.name), now);
        let change = change?;
        Some(TopicChange { topic, change })
    }

    /// Removes a connection that has [joined](Self::join) with this share and user. Returns the change that
    /// members have to be told, if there is one.
    pub fn leave(
        &mut self,
        share: u16,
        topic: &str,
        user: Option<&str>,
        now: Duration,
    ) -> Option<TopicChange> {
        let (topic, _) = self.topics.get_key_value(topic)?;
        let topic = Arc::clone(topic);
        let members = self.topics.get_mut(&topic)?;
        let mut absent = None;
        let change = match user {
            None => {
                let has_left = members.anonymous.remove_one(share);
                debug_assert!(has_left, "no connection without a name is in {topic}");
                None
            }
            Some(user) => {
                let present = members.users.get_mut(user);
                let has_left = present.is_some_and(|it| it.connections.remove_one(share));
                debug_assert!(has_left, "no connection of {user} is in {topic}");
                absent = members.absent_user(user);
                self.remove_absent(&topic, user, now)
            }
        };
        self.remove_if_empty(&topic);
        if let Some(watched) = &mut self.watched {
            watched.set_now(now);
        }
        self.note_leave(&topic, absent.as_ref());
        Some(TopicChange {
            topic,
            change: change?,
        })
    }

    /// Removes all connections of a share: those of a reactor that has ended. Returns the changes that members
    /// have to be told.
    ///
    /// A count is told at once, whenever the last one was: the reactor that has ended may be the one that would
    /// have told it later.
    pub fn remove_share(&mut self, share: u16) -> Vec<TopicChange> {
        let mut changes = Vec::new();
        let topics: Vec<Arc<str>> = self.topics.keys().cloned().collect();
        for topic in topics {
            let Some(members) = self.topics.get_mut(&topic) else {
                continue;
            };
            let before = members.counts().connections;
            members.anonymous.remove_all(share);
            let mut absent = Vec::new();
            for (user, present) in &mut members.users {
                present.connections.remove_all(share);
                if present.connections.total() == 0 {
                    absent.push(Arc::clone(user));
                }
            }
            for user in &absent {
                if let Some(present) = members.users.remove(user) {
                    self.counted_bytes -= bytes_of(user, &present);
                }
            }
            let have_left = absent.clone();
            let of_topic = match members.is_counted {
                false => absent.into_iter().map(PresenceChange::Left).collect(),
                true if absent.is_empty() => Vec::new(),
                true => Vec::from_iter(self.count_or_list(&topic, Duration::MAX)),
            };
            for change in of_topic {
                let topic = Arc::clone(&topic);
                changes.push(TopicChange { topic, change });
            }
            let was_member = before != self.counts(&topic).connections;
            self.remove_if_empty(&topic);
            for user in have_left.iter().skip(1) {
                if let Some(watched) = &mut self.watched {
                    watched.note_leave(&topic, false, Some(user));
                }
            }
            if was_member {
                self.note_leave(&topic, have_left.first());
            }
        }
        changes
    }

    /// The members of a topic now. Without members an empty list.
    pub fn snapshot(&self, topic: &str) -> Snapshot {
        let members = self.topics.get(topic);
        members.unwrap_or(&TopicMembers::EMPTY).snapshot()
    }

    /// How many users a topic has.
    pub fn user_count(&self, topic: &str) -> usize {
        self.topics
            .get(topic)
            .map_or(0, |members| members.users.len())
    }

    /// How many users a topic has, and how many connections, with those without a name.
    pub fn counts(&self, topic: &str) -> PresenceCounts {
        let members = self.topics.get(topic);
        members.unwrap_or(&TopicMembers::EMPTY).counts()
    }

    /// The topics that have members and whose names begin with `prefix` and come behind `after`, in the order of
    /// their names: at most `count_max`, each with its counts.
    pub fn topics_with_prefix(
        &self,
        prefix: &str,
        after: Option<&str>,
        count_max: usize,
    ) -> Vec<(Arc<str>, PresenceCounts)> {
        let begin = match after {
            Some(after) => Bound::Excluded(after.max(prefix)),
            None => Bound::Included(prefix),
        };
        let topics = self.topics.range::<str, _>((begin, Bound::Unbounded));
        let topics = topics.take_while(|(name, _)| name.starts_with(prefix));
        let with_counts =
            |(name, members): (&Arc<str>, &TopicMembers)| (Arc::clone(name), members.counts());
        topics.take(count_max).map(with_counts).collect()
    }

    /// The name of a topic that has members, to be shared.
    pub fn topic_name(&self, topic: &str) -> Option<Arc<str>> {
        let (name, _) = self.topics.get_key_value(topic)?;
        Some(Arc::clone(name))
    }

    /// The counts of users that members have to be told now.
    pub fn take_due(&mut self, now: Duration) -> Vec<TopicChange> {
        let mut changes = Vec::new();
        while let Some((at, _)) = self.due.first()
            && *at <= now
            && let Some((_, topic)) = self.due.pop_first()
        {
            if let Some(members) = self.topics.get_mut(&topic) {
                members.is_count_due = false;
                members.counted_at = Some(now);
                let user_count = members.users.len();
                let change = PresenceChange::Counted { user_count };
                changes.push(TopicChange { topic, change });
            }
        }
        changes
    }

    /// The moment at which [`take_due`](Self::take_due) has something to return, if there is one.
    pub fn next_due(&self) -> Option<Duration> {
        self.due.first().map(|(at, _)| *at)
    }

    /// The bytes of all names and descriptions, with their overhead. A description that several topics
    /// share counts in each.
    pub fn counted_bytes(&self) -> usize {
        self.counted_bytes
    }

    /// How many topics have members.
    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// Removes a user that has no connection left, and returns the change. `now` is as for
    /// [`count`](Self::count).
    fn remove_absent(
        &mut self,
        topic: &Arc<str>,
        user: &str,
        now: Duration,
    ) -> Option<PresenceChange> {
        let members = self.topics.get_mut(topic)?;
        if members.users.get(user)?.connections.total() != 0 {
            return None;
        }
        let (user, present) = members.users.remove_entry(user)?;
        self.counted_bytes -= bytes_of(&user, &present);
        match members.is_counted {
            false => Some(PresenceChange::Left(user)),
            true => self.count_or_list(topic, now),
        }
    }

    /// Users of a counted topic have left: it goes on being counted, or is listed again.
    fn count_or_list(&mut self, topic: &Arc<str>, now: Duration) -> Option<PresenceChange> {
        let members = self.topics.get_mut(topic)?;
        if self.users_max / 2 < members.users.len() {
            return self.count(topic, now);
        }
        members.is_counted = false;
        let snapshot = members.snapshot();
        self.cancel_count(topic);
        Some(PresenceChange::Listed(Arc::new(snapshot)))
    }

    /// The count of users has changed in counted mode: it is told now or, so soon after the last time, later.
    /// `now` is [`Duration::MAX`] where it is told at once.
    fn count(&mut self, topic: &Arc<str>, now: Duration) -> Option<PresenceChange> {
        let members = self.topics.get_mut(topic)?;
        let due_at = members.count_due_at(self.count_interval);
        if now < due_at {
            members.is_count_due = true;
            self.due.insert((due_at, Arc::clone(topic)));
            return None;
        }
        let user_count = members.users.len();
        self.cancel_count(topic);
        let members = self.topics.get_mut(topic)?;
        if now != Duration::MAX {
            members.counted_at = Some(now);
        }
        Some(PresenceChange::Counted { user_count })
    }

    /// Forgets that the count was to be told later.
    fn cancel_count(&mut self, topic: &Arc<str>) {
        if let Some(members) = self.topics.get_mut(topic)
            && std::mem::take(&mut members.is_count_due)
        {
            self.due
                .remove(&(members.count_due_at(self.count_interval), Arc::clone(topic)));
        }
    }

    fn remove_if_empty(&mut self, topic: &Arc<str>) {
        if self.topics.get(topic).is_some_and(TopicMembers::is_empty) {
            self.cancel_count(topic);
            self.topics.remove(topic);
            self.counted_bytes -= ENTRY_BYTES + topic.len();
        }
    }
}

fn bytes_of(name: &str, present: &Present) -> usize {
    ENTRY_BYTES + name.len() + present.info.as_ref().map_or(0, |info| info.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pubsub::tests::Xorshift;

    fn user(name: &str) -> User {
        User {
            name: name.into(),
            info: (name == "ann").then(|| "[1]".into()),
        }
    }

    fn second(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    /// A change in short: `+ann`, `-ann`, `#3`, `=ann,bob`.
    fn short(change: &TopicChange) -> String {
        match &change.change {
            PresenceChange::Joined(user) => format!("+{}", user.name),
            PresenceChange::Left(name) => format!("-{name}"),
            PresenceChange::Counted { user_count } => format!("#{user_count}"),
            PresenceChange::Listed(snapshot) => format!("={}", names(snapshot).join(",")),
        }
    }

    fn names(snapshot: &Snapshot) -> Vec<String> {
        let users = snapshot.users.iter().flatten();
        users.map(|it| it.user.name.to_string()).collect()
    }

    /// Runs steps such as `+ann` and `-ann`, each with its share and second, and returns the changes.
    fn run(presence: &mut Presence, steps: &[(u16, u64, &str)]) -> Vec<String> {
        let mut changes = Vec::new();
        for (share, at, step) in steps {
            let (what, name) = step.split_at(1);
            let now = second(*at);
            let change = match (what, name) {
                ("+", "") => presence.join(*share, "t", None, now),
                ("-", "") => presence.leave(*share, "t", None, now),
                ("+", name) => presence.join(*share, "t", Some(&user(name)), now),
                ("-", name) => presence.leave(*share, "t", Some(name), now),
                (step, _) => panic!("{step}"),
            };
            changes.push(change.as_ref().map_or(String::new(), short));
        }
        changes
    }

    #[test]
    fn the_first_connection_of_a_user_joins_and_the_last_one_leaves() {
        let mut presence = Presence::new(1000);
        let steps = [
            ((0, 0, "+ann"), "+ann"),
            ((0, 0, "+ann"), ""),
            ((1, 0, "+ann"), ""),
            ((0, 0, "+"), ""),
            ((1, 0, "+bob"), "+bob"),
            ((0, 0, "-ann"), ""),
            ((1, 0, "-ann"), ""),
            ((0, 0, "-"), ""),
            ((0, 0, "-ann"), "-ann"),
            ((2, 0, "+ann"), "+ann"),
            ((1, 0, "-bob"), "-bob"),
            ((2, 0, "-ann"), "-ann"),
        ];
        for (step, expected) in steps {
            assert_eq!(run(&mut presence, &[step]), [expected], "{step:?}");
        }
        assert_eq!((presence.topic_count(), presence.counted_bytes()), (0, 0));
        assert_eq!(presence.snapshot("t").users, Some(Vec::new()));
    }

    #[test]
    fn a_snapshot_has_users_with_their_first_description() {
        let mut presence = Presence::new(1000);
        run(
            &mut presence,
            &[(0, 0, "+bob"), (0, 0, "+ann"), (1, 0, "+")],
        );
        let other = User {
            name: "ann".into(),
            info: Some("2".into()),
        };
        assert_eq!(presence.join(1, "t", Some(&other), second(0)), None);
        let snapshot = presence.snapshot("t");
        let present = |name, connection_count| PresentUser {
            user: user(name),
            connection_count,
        };
        assert_eq!(
            snapshot,
            Snapshot {
                users: Some(vec![present("ann", 2), present("bob", 1)]),
                user_count: 2,
                anonymous_count: 1,
            }
        );
        let bytes = 3 * ENTRY_BYTES + "t".len() + "ann".len() + "[1]".len() + "bob".len();
        assert_eq!(presence.counted_bytes(), bytes);
        assert_eq!(presence.snapshot("other"), Presence::new(0).snapshot("t"));
    }

    #[test]
    fn many_users_are_counted_once_a_second_and_listed_again_at_half() {
        let mut presence = Presence::new(4);
        let steps = [
            ((0, 0, "+a"), "+a"),
            ((0, 0, "+b"), "+b"),
            ((0, 0, "+c"), "+c"),
            ((0, 0, "+d"), "+d"),
            ((0, 10, "+e"), "#5"),
            ((0, 10, "+f"), ""),
            ((0, 10, "-f"), ""),
            ((0, 11, "+g"), "#6"),
            ((0, 11, "-g"), ""),
            // The limit itself is no way back.
            ((0, 12, "-e"), "#4"),
            ((0, 13, "-d"), "#3"),
            ((0, 13, "-c"), "=a,b"),
            ((0, 13, "-b"), "-b"),
            ((0, 13, "+b"), "+b"),
        ];
        for (step, expected) in steps {
            assert_eq!(run(&mut presence, &[step]), [expected], "{step:?}");
        }
        assert_eq!(presence.next_due(), None);
    }

    #[test]
    fn a_count_that_came_too_soon_is_told_later() {
        let mut presence = Presence::new(0);
        let steps = [(0, 5, "+a"), (0, 5, "+b"), (0, 5, "+c")];
        assert_eq!(run(&mut presence, &steps), ["#1", "", ""]);
        assert_eq!(presence.next_due(), Some(second(6)));
        let almost = second(6) - Duration::from_nanos(1);
        assert_eq!(presence.take_due(almost), []);
        let due = presence.take_due(second(6));
        assert_eq!(due.iter().map(short).collect::<Vec<_>>(), ["#3"]);
        assert_eq!(
            (presence.next_due(), presence.take_due(second(9))),
            (None, vec![])
        );
        // The topic of the last member that leaves has none to be told.
        let steps = [(0, 6, "-a"), (0, 6, "-b"), (0, 6, "-c")];
        assert_eq!(run(&mut presence, &steps), ["", "", "="]);
        assert_eq!((presence.next_due(), presence.topic_count()), (None, 0));
    }

    #[test]
    fn snapshots_of_a_counted_topic_have_no_users() {
        let mut presence = Presence::new(1);
        run(&mut presence, &[(0, 0, "+a"), (0, 0, "+b"), (0, 0, "+")]);
        assert_eq!(
            presence.snapshot("t"),
            Snapshot {
                users: None,
                user_count: 2,
                anonymous_count: 1,
            }
        );
    }

    #[test]
    fn a_share_is_removed_at_once() {
        let mut presence = Presence::new(4);
        let steps = ["+a", "+b", "+b", "+"].map(|step| (7, 0, step));
        run(&mut presence, &steps);
        run(&mut presence, &[(8, 0, "+b"), (8, 0, "+c")]);
        let changes: Vec<String> = presence.remove_share(7).iter().map(short).collect();
        assert_eq!(changes, ["-a"]);
        assert_eq!(names(&presence.snapshot("t")), ["b", "c"]);
        assert_eq!(presence.snapshot("t").anonymous_count, 0);
        assert_eq!(presence.remove_share(7), []);

        // Counted before and after, within a second.
        run(
            &mut presence,
            &["+d", "+e", "+f", "+g"].map(|step| (9, 0, step)),
        );
        run(&mut presence, &[(7, 0, "+h")]);
        let changes: Vec<String> = presence.remove_share(7).iter().map(short).collect();
        assert_eq!((changes, presence.next_due()), (vec!["#6".into()], None));
        // Counted before, listed after.
        let changes: Vec<String> = presence.remove_share(9).iter().map(short).collect();
        assert_eq!(changes, ["=b,c"]);
        let changes: Vec<String> = presence.remove_share(8).iter().map(short).collect();
        assert_eq!(changes, ["-b", "-c"]);
        assert_eq!((presence.topic_count(), presence.counted_bytes()), (0, 0));
    }

    /// A client's list of users, or their count, from the changes that it is told.
    #[derive(Debug, PartialEq)]
    enum View {
        List(Vec<String>),
        Count(usize),
    }

    impl View {
        fn of(snapshot: &Snapshot) -> View {
            match &snapshot.users {
                Some(_) => View::List(names(snapshot)),
                None => View::Count(snapshot.user_count),
            }
        }

        fn apply(&mut self, change: &PresenceChange) {
            match (change, &mut *self) {
                (PresenceChange::Joined(user), View::List(list)) => {
                    assert!(
                        !list.contains(&user.name.to_string()),
                        "{user:?} has joined twice"
                    );
                    list.push(user.name.to_string());
                    list.sort();
                }
                (PresenceChange::Left(name), View::List(list)) => {
                    let index = list.iter().position(|it| **it == **name);
                    list.remove(index.expect("it has joined"));
                }
                (PresenceChange::Joined(_) | PresenceChange::Left(_), View::Count(_)) => {
                    panic!("a name without a list: {change:?}")
                }
                (PresenceChange::Counted { user_count }, _) => *self = View::Count(*user_count),
                (PresenceChange::Listed(snapshot), _) => *self = View::of(snapshot),
            }
        }
    }

    // Of three shares, one of which ends now and then, with a limit that is crossed both ways.
    #[test]
    fn random_steps_leave_no_user_behind_and_the_view_of_a_client_is_the_table() {
        let mut seen = [0; 4];
        for seed in 1..200 {
            let mut random = Xorshift::new(seed);
            let users_max = 2 + random.below(6);
            let mut presence = Presence::new(users_max);
            let mut joined: Vec<(u16, Option<String>)> = Vec::new();
            let mut view = View::List(Vec::new());
            let mut last_count: Option<Duration> = None;
            for step in 0..400 {
                let now = Duration::from_millis(200 * step);
                let mut is_removal = false;
                let mut changes = presence.take_due(now);
                // Phases in which more join than leave, and the other way round.
                let joins = match step / 100 % 2 {
                    0 => 7,
                    _ => 2,
                };
                match random.below(100) {
                    0 => {
                        let share = random.below(3) as u16;
                        joined.retain(|(of, _)| *of != share);
                        changes.extend(presence.remove_share(share));
                        is_removal = true;
                    }
                    n if n % 10 < joins => {
                        let share = random.below(3) as u16;
                        let name = (random.below(5) != 0).then(|| random.below(12).to_string());
                        let user = name.as_deref().map(user);
                        changes.extend(presence.join(share, "t", user.as_ref(), now));
                        joined.push((share, name));
                    }
                    _ if joined.is_empty() => {}
                    _ => {
                        let (share, name) = joined.swap_remove(random.below(joined.len()));
                        changes.extend(presence.leave(share, "t", name.as_deref(), now));
                    }
                }
                for TopicChange { topic, change } in &changes {
                    assert_eq!(&**topic, "t");
                    view.apply(change);
                    seen[match change {
                        PresenceChange::Joined(_) => 0,
                        PresenceChange::Left(_) => 1,
                        PresenceChange::Counted { .. } => 2,
                        PresenceChange::Listed(_) => 3,
                    }] += 1;
                    if matches!(change, PresenceChange::Counted { .. }) && !is_removal {
                        let is_late = last_count.is_none_or(|at| at + COUNT_INTERVAL <= now);
                        assert!(is_late || joined.is_empty(), "{now:?} after {last_count:?}");
                        last_count = Some(now);
                    }
                }
                let mut model: Vec<&String> = joined
                    .iter()
                    .filter_map(|(_, name)| name.as_ref())
                    .collect();
                model.sort();
                model.dedup();
                let snapshot = presence.snapshot("t");
                assert_eq!(snapshot.user_count, model.len(), "seed {seed}, step {step}");
                let anonymous = joined.iter().filter(|(_, name)| name.is_none()).count();
                assert_eq!(snapshot.anonymous_count, anonymous);
                if let Some(users) = &snapshot.users {
                    assert_eq!(names(&snapshot).iter().collect::<Vec<_>>(), model);
                    for present in users {
                        let name = Some(present.user.name.to_string());
                        let count = joined.iter().filter(|(_, it)| *it == name).count();
                        assert_eq!(present.connection_count, count);
                    }
                }
                // A count may be late, which is noted. A list is never wrong.
                if presence.next_due().is_none() {
                    assert_eq!(view, View::of(&snapshot), "seed {seed}, step {step}");
                }
                assert!(
                    presence
                        .next_due()
                        .is_none_or(|due| now < due && due <= now + COUNT_INTERVAL)
                );
            }
            for (share, name) in joined {
                presence.leave(share, "t", name.as_deref(), second(1000));
            }
            assert_eq!((presence.topic_count(), presence.counted_bytes()), (0, 0));
            assert_eq!(presence.next_due(), None);
        }
        assert!(seen.iter().all(|count| 300 < *count), "{seen:?}");
    }

    #[test]
    fn users_that_come_and_go_cost_a_bounded_number_of_messages() {
        // Messages for N users that join and leave one topic within a minute, each of which all members get.
        let messages = |users: usize| {
            let mut presence = Presence::new(1000);
            let mut messages = 0;
            let mut member_count = 0;
            let mut count = |changes: Vec<TopicChange>, members: usize| {
                for it in &changes {
                    messages += members;
                    if let PresenceChange::Listed(snapshot) = &it.change {
                        assert!(snapshot.users.as_ref().unwrap().len() <= 500);
                    }
                }
            };
            for step in 0..2 * users {
                let now = Duration::from_secs(60) * step as u32 / (2 * users) as u32;
                count(presence.take_due(now), member_count);
                let change = if step < users {
                    member_count += 1;
                    presence.join(0, "t", Some(&user(&step.to_string())), now)
                } else {
                    member_count -= 1;
                    let name = (step - users).to_string();
                    presence.leave(0, "t", Some(&name), now)
                };
                count(change.into_iter().collect(), member_count);
            }
            messages
        };
        let (some, twice) = (messages(10_000), messages(20_000));
        // Those of the listed users, and a count a second for each member.
        let listed = 1000 * 1000 / 2 + 500 * 500;
        assert!(some < listed + 61 * 10_000, "{some}");
        assert!(twice - some < 61 * 10_000, "{some} and {twice}");
    }
}
