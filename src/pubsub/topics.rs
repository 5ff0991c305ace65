//! Topics and patterns, and the members that are subscribed to them.
//!
//! A topic, or a pattern, is there as long as it has members. Three structures, each the size of
//! what is subscribed now:
//!
//! ```text
//!  caller's Subscriptions ─▶ node ─▶ node ─▶ node        the subscriptions of one member: a list
//!                              │ ▲
//!                              ▼ │
//!  index: hash of name ─▶ topic: [entry entry entry …]   the members of one topic: dense
//! ```
//!
//! A node knows its topic and where in it its entry is, an entry knows its node; so a subscription
//! is ended in constant time from either side, by moving the last entry into its place. The head of
//! a member's list, four bytes, is kept by the caller beside whatever the member is.
//!
//! A subscription costs a node of 12 bytes and an entry of 16, a topic another 24 to 32 and its
//! name; a topic with one member has its entry inside.
//!
//! A walk over a member's list, which most often has a few nodes, finds whether the member is in a
//! topic. A member with more than [`WALK_MAX`] subscriptions has an index of them beside its list,
//! so that the cost of a message from it does not depend on their number.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::{fmt, iter};

use super::names::{Entry, Names, Removed, Topic, hash_name};
use super::pattern;
use super::slots::{Key, Slots};

/// Longest name of a topic or pattern, in bytes.
pub const TOPIC_BYTES_MAX: usize = 256;

/// Longest list that is walked, in subscriptions.
const WALK_MAX: usize = 32;

/// The bytes that a subscription counts: its node, its entry, and its place in the index of a member that
/// has many.
const SUBSCRIPTION_BYTES: usize = 2 * (size_of::<Node>() + size_of::<Entry>() + 16);

/// How many subscriptions one member may have, and all members together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Subscriptions, to topics and by patterns.
    pub subscriptions_max: usize,
    /// Of these, by patterns. Each publication is compared to every pattern there is.
    pub patterns_max: usize,
    /// Subscriptions of all members together.
    pub total_max: usize,
}

/// Why a subscription was refused. The subscriptions are as they were before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TopicError {
    /// The name is empty.
    Empty,
    /// The name is above [`TOPIC_BYTES_MAX`].
    TooLong {
        /// Its length, in bytes.
        bytes: usize,
    },
    /// The name has a control character, which could end a line of some protocol.
    ControlCharacter,
    /// The member has as many subscriptions as it may.
    TooMany {
        /// How many that is.
        subscriptions_max: usize,
    },
    /// The member has as many patterns as it may.
    TooManyPatterns {
        /// How many that is.
        patterns_max: usize,
    },
    /// All members together have as many subscriptions as they may:
    /// [`subscriptions_total_max`](crate::Config::subscriptions_total_max), or 2^31.
    Full,
}

impl fmt::Display for TopicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TopicError::Empty => f.write_str("the name of a topic must not be empty"),
            TopicError::TooLong { bytes } => write!(
                f,
                "the name of a topic may have at most {TOPIC_BYTES_MAX} bytes, and this one has {bytes}"
            ),
            TopicError::ControlCharacter => {
                f.write_str("the name of a topic must not have control characters")
            }
            TopicError::TooMany { subscriptions_max } => {
                write!(
                    f,
                    "a member may have at most {subscriptions_max} subscriptions"
                )
            }
            TopicError::TooManyPatterns { patterns_max } => {
                write!(f, "a member may have at most {patterns_max} patterns")
            }
            TopicError::Full => f.write_str("there is no room for another subscription"),
        }
    }
}

impl std::error::Error for TopicError {}

/// Whether a name can be that of a topic or pattern: 1 to [`TOPIC_BYTES_MAX`] bytes without control
/// characters. Subscribing checks this by itself, publishing does not.
///
/// # Errors
///
/// [`TopicError`] when it cannot.
pub fn check_name(name: &str) -> Result<(), TopicError> {
    if name.is_empty() {
        return Err(TopicError::Empty);
    }
    if TOPIC_BYTES_MAX < name.len() {
        return Err(TopicError::TooLong { bytes: name.len() });
    }
    if name.chars().any(char::is_control) {
        return Err(TopicError::ControlCharacter);
    }
    Ok(())
}

/// The head of one member's subscriptions in a [`Topics`]: four bytes, which the caller keeps with
/// the member. Empty by default.
///
/// It is `Copy` so that it can be taken out of a place that is borrowed otherwise and be put back.
/// An old copy is of no use: `Topics` notices one whose subscription is gone or another member's,
/// and stops there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Subscriptions(Option<Key>);

impl Subscriptions {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

/// One subscription, in the list of its member.
#[derive(Debug)]
struct Node {
    topic: TopicKey,
    /// Where its entry is among the members of the topic.
    entry_index: u32,
    next: Option<Key>,
}

/// How a name is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NameKind {
    /// The topic of this name.
    Exact,
    /// All topics whose names match this pattern.
    Pattern,
}

/// The change of one name's members, all in all, since the changes were last taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MembersChange {
    /// It had no members, and has some.
    Joined,
    /// It had members, and has none.
    Left,
}

/// The members of a topic, each with the value of its subscription.
fn members_of(topic: &Topic) -> impl Iterator<Item = (u64, u32)> {
    let entries = topic.members.as_slice().iter();
    entries.map(|entry| (entry.member, entry.value))
}

/// A key of one of the two [`Names`], with which of them in the lowest bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct TopicKey(Key);

impl TopicKey {
    fn new(kind: NameKind, key: Key) -> Option<TopicKey> {
        Key::from_bits(key.to_bits() << 1 | u32::from(kind == NameKind::Pattern)).map(TopicKey)
    }

    fn split(self) -> (NameKind, Key) {
        let bits = self.0.to_bits();
        let kind = if bits & 1 == 0 {
            NameKind::Exact
        } else {
            NameKind::Pattern
        };
        let key =
            Key::from_bits(bits >> 1).expect("a key is not zero, and is above the lowest bit");
        (kind, key)
    }

    fn is_pattern(self) -> bool {
        self.split().0 == NameKind::Pattern
    }
}

/// The subscriptions of a member that has many.
#[derive(Debug, Default)]
struct ManySubscriptions {
    nodes: HashMap<TopicKey, Key>,
    pattern_count: usize,
}

impl ManySubscriptions {
    fn insert(&mut self, topic: TopicKey, node: Key) {
        self.nodes.insert(topic, node);
        self.pattern_count += usize::from(topic.is_pattern());
    }

    fn remove(&mut self, topic: TopicKey) {
        self.nodes.remove(&topic);
        self.pattern_count -= usize::from(topic.is_pattern());
    }
}

/// How much a member is subscribed to, and its subscription to the topic that is asked about.
struct Membership {
    node: Option<Key>,
    subscription_count: usize,
    pattern_count: usize,
}

/// Topics and patterns, and their members.
///
/// A member is any number, say the bits of a connection id, with a [`Subscriptions`] that the caller
/// keeps for it and passes to each call about it. A member that is gone must have been made to
/// [`leave_all`](Self::leave_all).
#[derive(Debug, Default)]
pub struct Topics {
    exact: Names,
    patterns: Names,
    nodes: Slots<Node>,
    /// The subscriptions of each member that has many.
    many: HashMap<u64, ManySubscriptions>,
    hasher: RandomState,
    /// The changes of names since they were last taken; `None` when names are not watched.
    changes: Option<BTreeMap<(NameKind, Box<str>), MembersChange>>,
    /// How many nodes were looked at.
    #[cfg(test)]
    steps: std::cell::Cell<usize>,
}

impl Topics {
    /// No topics.
    pub fn new() -> Topics {
        Topics::default()
    }

    /// Makes a member of a topic, with a value for wire formats that use values. `false` when it was
    /// one: the subscription keeps its value.
    ///
    /// # Errors
    ///
    /// [`TopicError`] when the name cannot be a topic's (see [`check_name`]), or the member has as
    /// much as `limits` allow.
    pub fn subscribe(
        &mut self,
        member: u64,
        list: &mut Subscriptions,
        name: &str,
        value: u32,
        limits: Limits,
    ) -> Result<bool, TopicError> {
        self.add_subscription(NameKind::Exact, member, list, name, value, limits)
    }

    /// Makes a member of all topics that match a pattern, by the rule of [`pattern::matches`].
    /// `false` when it was one by this very pattern.
    ///
    /// Any name will do; one without specials matches the topic of that name.
    ///
    /// # Errors
    ///
    /// As [`subscribe`](Self::subscribe).
    pub fn subscribe_pattern(
        &mut self,
        member: u64,
        list: &mut Subscriptions,
        pattern: &str,
        value: u32,
        limits: Limits,
    ) -> Result<bool, TopicError> {
        self.add_subscription(NameKind::Pattern, member, list, pattern, value, limits)
    }

    /// Ends the membership in a topic. `false` when there was none.
    ///
    /// A membership by a pattern that matches the topic stays.
    pub fn unsubscribe(&mut self, member: u64, list: &mut Subscriptions, name: &str) -> bool {
        self.remove_subscription(NameKind::Exact, member, list, name)
    }

    /// Ends the membership by a pattern. `false` when there was none.
    pub fn unsubscribe_pattern(
        &mut self,
        member: u64,
        list: &mut Subscriptions,
        pattern: &str,
    ) -> bool {
        self.remove_subscription(NameKind::Pattern, member, list, pattern)
    }

    /// Ends all memberships of a member, and empties its list. Linear in their number.
    pub fn leave_all(&mut self, member: u64, list: &mut Subscriptions) {
        self.drop_index(member);
        let mut next = list.0.take();
        while let Some(key) = next {
            if !self.is_of(member, key) {
                debug_assert!(false, "an old copy of the subscriptions of {member}");
                return;
            }
            next = self.nodes.get(key).and_then(|node| node.next);
            self.remove(key);
        }
    }

    /// The members that get what is published to a topic: its own, with `None`, then those of each
    /// pattern that matches, with the pattern.
    ///
    /// A member comes once for the topic and once for each such pattern. To deliver once, the
    /// caller remembers with the member which publication it got last. The order has no meaning.
    /// With each member comes the value of the subscription. A name above [`TOPIC_BYTES_MAX`] has
    /// no members, not by a pattern either: with both lengths bounded, so are the steps of a match.
    ///
    /// Linear in the number of distinct patterns, which are few in practice; if they are not: index
    /// by literal prefix.
    pub fn members(
        &self,
        topic: &str,
    ) -> impl Iterator<Item = (Option<&str>, impl Iterator<Item = (u64, u32)>)> {
        self.members_of_hash(self.hash(topic), topic)
    }

    /// The hash of a name, for [`members_of_hash`](Self::members_of_hash).
    #[inline]
    pub fn hash(&self, name: &str) -> u64 {
        self.hasher.hash_one(name)
    }

    /// The hasher of [`hash`](Self::hash).
    pub fn hasher(&self) -> &RandomState {
        &self.hasher
    }

    /// As [`members`](Self::members), for a topic whose hash is known: hashing a name costs as much as a member.
    #[inline]
    pub fn members_of_hash(
        &self,
        hash: u64,
        topic: &str,
    ) -> impl Iterator<Item = (Option<&str>, impl Iterator<Item = (u64, u32)>)> {
        let exact = self.exact.find(hash as u32, topic);
        let exact = exact.and_then(|key| self.exact.topics.get(key));
        let by_pattern = self
            .patterns
            .topics
            .values()
            .filter(move |_| topic.len() <= TOPIC_BYTES_MAX)
            .filter(move |it| pattern::matches(it.name.as_bytes(), topic.as_bytes()))
            .map(|it| (Some(&*it.name), it));
        let exact = exact.into_iter().map(|it| (None, it));
        exact
            .chain(by_pattern)
            .map(|(pattern, topic)| (pattern, members_of(topic)))
    }

    /// The members by this very pattern, with the values of their subscriptions, in no order.
    pub fn members_of_pattern(&self, pattern: &str) -> impl Iterator<Item = (u64, u32)> {
        let found = self.find(NameKind::Pattern, pattern);
        found.into_iter().flat_map(members_of)
    }

    /// Keeps account, from here on, of the names that get their first member and lose their last.
    /// Names that have members already count as changed.
    ///
    /// For a caller that subscribes elsewhere to what is subscribed here.
    pub fn watch(&mut self) {
        let of_kind = |kind, names: &Names| {
            let names = names.topics.values().map(|topic| topic.name.clone());
            let changes = names.map(|name| ((kind, name), MembersChange::Joined));
            changes.collect::<Vec<_>>()
        };
        let exact = of_kind(NameKind::Exact, &self.exact);
        let patterns = of_kind(NameKind::Pattern, &self.patterns);
        self.changes = Some(exact.into_iter().chain(patterns).collect());
    }

    /// The names that have got their first member, or lost their last, since this was last called;
    /// exact names first, in the order of the names. Empty unless [watched](Self::watch).
    ///
    /// A name that has changed twice is as it was, and is left out. So there are at most as many
    /// changes as there were names then and are now.
    pub fn take_changes(&mut self) -> Vec<(NameKind, Box<str>, MembersChange)> {
        let changes = self.changes.as_mut().map(std::mem::take);
        changes
            .into_iter()
            .flatten()
            .map(|((kind, name), change)| (kind, name, change))
            .collect()
    }

    /// Notes a change of a name where names are watched. A change from before was the opposite one,
    /// and the two cancel each other.
    fn note_change(&mut self, kind: NameKind, name: Box<str>, change: MembersChange) {
        if let Some(changes) = &mut self.changes
            && changes.remove(&(kind, name.clone())).is_none()
        {
            changes.insert((kind, name), change);
        }
    }

    /// The topics and the patterns that have members.
    pub fn subscribed_names(&self) -> impl Iterator<Item = (NameKind, &str)> {
        let exact = self
            .exact
            .topics
            .values()
            .map(|topic| (NameKind::Exact, &*topic.name));
        let patterns = self.patterns.topics.values();
        exact.chain(patterns.map(|topic| (NameKind::Pattern, &*topic.name)))
    }

    /// The topics that have members, each with their count. Patterns are not looked at.
    pub fn member_counts(&self) -> impl Iterator<Item = (&str, usize)> {
        let topics = self.exact.topics.values();
        topics.map(|topic| (&*topic.name, topic.members.as_slice().len()))
    }

    /// Whether there is a pattern.
    pub fn has_patterns(&self) -> bool {
        self.pattern_count() != 0
    }

    /// How many distinct patterns have members.
    pub fn pattern_count(&self) -> usize {
        self.patterns.topics.len()
    }

    /// How many topics have members by their name.
    pub fn topic_count(&self) -> usize {
        self.exact.topics.len()
    }

    /// How many subscriptions there are, to topics and by patterns.
    pub fn subscription_count(&self) -> usize {
        self.nodes.len()
    }

    /// The memory of all subscriptions and names, in bytes, about: it counts what each takes in tables that
    /// are half full, and is not measured.
    pub fn counted_bytes(&self) -> usize {
        self.nodes.len() * SUBSCRIPTION_BYTES
            + self.exact.counted_bytes()
            + self.patterns.counted_bytes()
    }

    /// How many subscriptions a member has. At most [`WALK_MAX`] steps.
    pub fn subscription_count_of(&self, member: u64, list: Subscriptions) -> usize {
        self.membership(member, list, None).subscription_count
    }

    /// How many members a topic has by its name. Patterns are not looked at.
    pub fn member_count(&self, topic: &str) -> usize {
        self.find(NameKind::Exact, topic)
            .map_or(0, |topic| topic.members.as_slice().len())
    }

    /// Whether a member is subscribed by this very name. At most [`WALK_MAX`] steps.
    pub fn is_member(&self, kind: NameKind, member: u64, list: Subscriptions, name: &str) -> bool {
        let found = self.names(kind).find(hash_name(&self.hasher, name), name);
        let topic = found.and_then(|key| TopicKey::new(kind, key));
        topic.is_some() && self.membership(member, list, topic).node.is_some()
    }

    /// The topics and patterns of a member, in no order.
    pub fn subscriptions_of(&self, list: Subscriptions) -> impl Iterator<Item = &str> {
        self.nodes_of(list)
            .filter_map(|(_, node)| self.topic(node.topic))
            .map(|topic| &*topic.name)
    }

    fn add_subscription(
        &mut self,
        kind: NameKind,
        member: u64,
        list: &mut Subscriptions,
        name: &str,
        value: u32,
        limits: Limits,
    ) -> Result<bool, TopicError> {
        check_name(name)?;
        debug_assert!(
            list.0.is_none_or(|key| self.is_of(member, key)),
            "not the list of {member}"
        );
        let hash = hash_name(&self.hasher, name);
        let found = self.names(kind).find(hash, name);
        let topic = found.and_then(|key| TopicKey::new(kind, key));
        let membership = self.membership(member, *list, topic);
        if membership.node.is_some() {
            return Ok(false);
        }
        let Limits {
            subscriptions_max,
            patterns_max,
            total_max,
        } = limits;
        if subscriptions_max <= membership.subscription_count {
            return Err(TopicError::TooMany { subscriptions_max });
        }
        if kind == NameKind::Pattern && patterns_max <= membership.pattern_count {
            return Err(TopicError::TooManyPatterns { patterns_max });
        }
        if total_max <= self.nodes.len() {
            return Err(TopicError::Full);
        }

        let names = match kind {
            NameKind::Exact => &mut self.exact,
            NameKind::Pattern => &mut self.patterns,
        };
        let topic = found
            .or(names.topics.next_key())
            .and_then(|key| TopicKey::new(kind, key))
            .ok_or(TopicError::Full)?;
        let node = Node {
            topic,
            entry_index: names.member_count(found) as u32,
            next: list.0,
        };
        let node = self.nodes.insert(node).ok_or(TopicError::Full)?;
        names.add(
            found,
            hash,
            name,
            Entry {
                member,
                node,
                value,
            },
        );
        list.0 = Some(node);
        if found.is_none() && self.changes.is_some() {
            self.note_change(kind, name.into(), MembersChange::Joined);
        }
        if let Some(many) = self.many.get_mut(&member) {
            many.insert(topic, node);
        } else if WALK_MAX <= membership.subscription_count {
            self.index(member, *list);
        }
        Ok(true)
    }

    /// Makes the index of a member that has many subscriptions now.
    fn index(&mut self, member: u64, list: Subscriptions) {
        let mut many = ManySubscriptions::default();
        for (key, node) in self.nodes_of(list) {
            many.insert(node.topic, key);
        }
        self.many.insert(member, many);
    }

    fn drop_index(&mut self, member: u64) {
        // Most programs have no such member.
        if self.many.is_empty() || self.many.remove(&member).is_none() {
            return;
        }
        if self.many.len() <= self.many.capacity() / 4 {
            self.many.shrink_to(self.many.len() * 2);
        }
    }

    /// The subscriptions of a member, and whether a topic is among them. At most [`WALK_MAX`] steps.
    fn membership(&self, member: u64, list: Subscriptions, topic: Option<TopicKey>) -> Membership {
        if let Some(many) = self.many.get(&member) {
            return Membership {
                node: topic.and_then(|topic| many.nodes.get(&topic).copied()),
                subscription_count: many.nodes.len(),
                pattern_count: many.pattern_count,
            };
        }
        let mut membership = Membership {
            node: None,
            subscription_count: 0,
            pattern_count: 0,
        };
        for (key, node) in self.nodes_of(list) {
            if topic == Some(node.topic) {
                membership.node = Some(key);
            }
            membership.subscription_count += 1;
            membership.pattern_count += usize::from(node.topic.is_pattern());
        }
        membership
    }

    fn remove_subscription(
        &mut self,
        kind: NameKind,
        member: u64,
        list: &mut Subscriptions,
        name: &str,
    ) -> bool {
        let hash = hash_name(&self.hasher, name);
        let found = self.names(kind).find(hash, name);
        let Some(topic) = found.and_then(|key| TopicKey::new(kind, key)) else {
            return false;
        };
        let (Some(key), Some(first)) = (self.membership(member, *list, Some(topic)).node, list.0)
        else {
            return false;
        };
        if !self.is_of(member, key) || !self.is_of(member, first) {
            debug_assert!(false, "not the list of {member}");
            return false;
        }
        if let Some(many) = self.many.get_mut(&member) {
            many.remove(topic);
        }
        // The list goes one way, so what is in front of a node is not known. It is the first node
        // that is taken out, after it has changed places with the one that leaves.
        self.swap(member, first, key);
        list.0 = self.nodes.get(first).and_then(|node| node.next);
        self.remove(first);
        // Far below the length at which it is made, so that it is not made at every other call.
        if self
            .many
            .get(&member)
            .is_some_and(|many| many.nodes.len() <= WALK_MAX / 2)
        {
            self.drop_index(member);
        }
        true
    }

    /// Gives the subscription of a node to another one of the same list, and the other way round.
    fn swap(&mut self, member: u64, first: Key, other: Key) {
        let (Some(a), Some(b)) = (self.nodes.get(first), self.nodes.get(other)) else {
            return;
        };
        let (a, b) = ((a.topic, a.entry_index), (b.topic, b.entry_index));
        for (key, (topic, entry_index)) in [(first, b), (other, a)] {
            if let Some(node) = self.nodes.get_mut(key) {
                (node.topic, node.entry_index) = (topic, entry_index);
            }
            let (kind, topic_key) = topic.split();
            let names = match kind {
                NameKind::Exact => &mut self.exact,
                NameKind::Pattern => &mut self.patterns,
            };
            let topic_found = names.topics.get_mut(topic_key);
            if let Some(entry) = topic_found.and_then(|it| it.members.get_mut(entry_index as usize))
            {
                entry.node = key;
            }
        }
        let moved = self
            .many
            .get_mut(&member)
            .and_then(|many| many.nodes.get_mut(&a.0));
        if let Some(node) = moved {
            *node = other;
        }
    }

    /// Removes a node and its entry, and its topic with the last one. The list is the caller's.
    fn remove(&mut self, key: Key) {
        let Some(node) = self.nodes.remove(key) else {
            return;
        };
        let (kind, topic_key) = node.topic.split();
        let names = match kind {
            NameKind::Exact => &mut self.exact,
            NameKind::Pattern => &mut self.patterns,
        };
        match names.remove(&self.hasher, topic_key, node.entry_index as usize) {
            Removed::Member { moved } => {
                if let Some(moved) = moved.and_then(|entry| self.nodes.get_mut(entry.node)) {
                    moved.entry_index = node.entry_index;
                }
            }
            Removed::Topic { name } => self.note_change(kind, name, MembersChange::Left),
        }
    }

    fn names(&self, kind: NameKind) -> &Names {
        match kind {
            NameKind::Exact => &self.exact,
            NameKind::Pattern => &self.patterns,
        }
    }

    fn find(&self, kind: NameKind, name: &str) -> Option<&Topic> {
        let names = self.names(kind);
        let key = names.find(hash_name(&self.hasher, name), name)?;
        names.topics.get(key)
    }

    fn topic(&self, topic: TopicKey) -> Option<&Topic> {
        let (kind, key) = topic.split();
        self.names(kind).topics.get(key)
    }

    fn nodes_of(&self, list: Subscriptions) -> impl Iterator<Item = (Key, &Node)> {
        let at = |key| {
            #[cfg(test)]
            self.steps.update(|steps| steps + 1);
            self.nodes.get(key).map(|node| (key, node))
        };
        iter::successors(list.0.and_then(at), move |(_, node)| node.next.and_then(at))
    }

    /// Whether a node is there, and a subscription of this member.
    fn is_of(&self, member: u64, key: Key) -> bool {
        self.nodes.get(key).is_some_and(|node| {
            let members = self.topic(node.topic).map(|topic| topic.members.as_slice());
            members
                .and_then(|entries| entries.get(node.entry_index as usize))
                .is_some_and(|entry| entry.member == member && entry.node == key)
        })
    }

    /// The memory that is allocated, without the names, in bytes.
    #[cfg(test)]
    fn heap_bytes(&self) -> usize {
        let of_many: usize = self
            .many
            .values()
            .map(|many| many.nodes.capacity() * 9)
            .sum();
        let many = self.many.capacity() * (size_of::<(u64, ManySubscriptions)>() + 1) + of_many;
        self.exact.heap_bytes() + self.patterns.heap_bytes() + self.nodes.heap_bytes() + many
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::pubsub::tests::Xorshift;

    const MAX: Limits = Limits {
        subscriptions_max: 1000,
        patterns_max: 1000,
        total_max: usize::MAX,
    };

    /// Topics together with the members and their lists.
    #[derive(Default)]
    struct House {
        topics: Topics,
        lists: BTreeMap<u64, Subscriptions>,
    }

    impl House {
        fn subscribe(&mut self, member: u64, name: &str) -> Result<bool, TopicError> {
            let list = self.lists.entry(member).or_default();
            self.topics.subscribe(member, list, name, 0, MAX)
        }

        fn subscribe_pattern(&mut self, member: u64, pattern: &str) -> Result<bool, TopicError> {
            let list = self.lists.entry(member).or_default();
            self.topics.subscribe_pattern(member, list, pattern, 0, MAX)
        }

        fn unsubscribe(&mut self, member: u64, name: &str) -> bool {
            let list = self.lists.entry(member).or_default();
            self.topics.unsubscribe(member, list, name)
        }

        fn unsubscribe_pattern(&mut self, member: u64, pattern: &str) -> bool {
            let list = self.lists.entry(member).or_default();
            self.topics.unsubscribe_pattern(member, list, pattern)
        }

        fn leave_all(&mut self, member: u64) {
            let mut list = self.lists.remove(&member).unwrap_or_default();
            self.topics.leave_all(member, &mut list);
            assert!(list.is_empty());
        }

        fn members_with_values(&self, topic: &str) -> impl Iterator<Item = (u64, u32)> {
            self.topics.members(topic).flat_map(|(_, members)| members)
        }

        fn members(&self, topic: &str) -> Vec<u64> {
            self.members_with_values(topic)
                .map(|(member, _)| member)
                .collect()
        }

        fn subscriptions_of(&self, member: u64) -> Vec<&str> {
            let list = self.lists.get(&member).copied().unwrap_or_default();
            self.topics.subscriptions_of(list).collect()
        }
    }

    #[test]
    fn members_by_name_come_first_then_by_pattern() {
        let mut house = House::default();
        assert!(!house.topics.has_patterns());
        assert_eq!(house.subscribe_pattern(7, "news.*"), Ok(true));
        assert_eq!(house.subscribe_pattern(8, "*"), Ok(true));
        assert_eq!(house.subscribe(7, "news.art"), Ok(true));
        assert_eq!(house.subscribe(9, "news.art"), Ok(true));
        assert!(house.topics.has_patterns());

        let members = house.members("news.art");
        assert_eq!(members, [7, 9, 7, 8]);
        let lists = house.topics.members("news.art");
        let patterns: Vec<_> = lists.map(|(pattern, _)| pattern).collect();
        assert_eq!(patterns, [None, Some("news.*"), Some("*")]);
        assert_eq!(house.members("news"), [8]);
        assert_eq!(
            house.members("news.*"),
            [7, 8],
            "a pattern is no topic, but matches its name"
        );
        assert_eq!(house.topics.member_count("news.art"), 2);
        assert_eq!(house.topics.member_count("news.*"), 0);
        assert_eq!(
            (house.topics.topic_count(), house.topics.pattern_count()),
            (1, 2)
        );
        assert_eq!(house.topics.subscription_count(), 4);
        assert_eq!(house.subscriptions_of(7), ["news.art", "news.*"]);
    }

    // Publishing does not check the name, so a long one was compared to every pattern.
    #[test]
    fn a_name_that_no_topic_can_have_has_no_members() {
        let mut house = House::default();
        house.subscribe_pattern(1, "a*").unwrap();
        assert_eq!(house.members(&"a".repeat(TOPIC_BYTES_MAX)), [1]);
        assert!(house.members(&"a".repeat(TOPIC_BYTES_MAX + 1)).is_empty());
    }

    #[test]
    fn second_subscription_is_not_new_and_keeps_its_value() {
        let mut house = House::default();
        let list = house.lists.entry(1).or_default();
        assert_eq!(house.topics.subscribe(1, list, "a", 3, MAX), Ok(true));
        let mut list = house.lists[&1];
        assert_eq!(house.topics.subscribe(1, &mut list, "a", 4, MAX), Ok(false));
        let members = house.members_with_values("a");
        assert_eq!(members.collect::<Vec<_>>(), [(1, 3)]);
        assert_eq!(list, house.lists[&1]);
    }

    #[test]
    fn name_and_pattern_of_the_same_text_are_two() {
        let mut house = House::default();
        assert_eq!(house.subscribe(1, "a*"), Ok(true));
        assert_eq!(house.subscribe_pattern(1, "a*"), Ok(true));
        assert_eq!(house.members("a*"), [1, 1]);
        assert!(house.unsubscribe(1, "a*"));
        assert!(!house.unsubscribe(1, "a*"));
        assert_eq!(house.members("a*"), [1]);
        assert!(house.unsubscribe_pattern(1, "a*"));
        assert!(!house.unsubscribe_pattern(1, "a*"));
        assert_eq!(house.members("a*"), Vec::<u64>::new());
    }

    #[test]
    fn names_that_are_refused_change_nothing() {
        let longest = "é".repeat(TOPIC_BYTES_MAX / 2);
        let too_long = format!("{longest}x");
        let cases: &[(&str, Result<bool, TopicError>)] = &[
            (&longest, Ok(true)),
            (&too_long, Err(TopicError::TooLong { bytes: 257 })),
            ("", Err(TopicError::Empty)),
            (" ", Ok(true)),
            ("日本/ünï code", Ok(true)),
            ("a\nb", Err(TopicError::ControlCharacter)),
            ("a\0", Err(TopicError::ControlCharacter)),
            ("\x7f", Err(TopicError::ControlCharacter)),
            ("\u{85}", Err(TopicError::ControlCharacter)),
        ];
        for (name, expected) in cases {
            let mut house = House::default();
            assert_eq!(house.subscribe(1, name), *expected, "{name:?}");
            assert_eq!(house.subscribe_pattern(1, name), *expected, "{name:?}");
            assert_eq!(
                house.topics.subscription_count(),
                if expected.is_ok() { 2 } else { 0 }
            );
        }
    }

    #[test]
    fn subscriptions_of_one_member_are_limited() {
        let limits = |subscriptions_max| Limits {
            subscriptions_max,
            ..MAX
        };
        // Walked, and looked up.
        for max in [2, WALK_MAX - 1, WALK_MAX, WALK_MAX + 1, 1000] {
            let mut topics = Topics::new();
            let mut list = Subscriptions::default();
            let refused = Err(TopicError::TooMany {
                subscriptions_max: max,
            });
            assert_eq!(
                topics.subscribe(1, &mut list, "a", 0, limits(0)),
                Err(TopicError::TooMany {
                    subscriptions_max: 0
                })
            );
            let mut subscribe =
                |list: &mut _, name: &str| topics.subscribe(1, list, name, 0, limits(max));
            for n in 1..max {
                assert_eq!(subscribe(&mut list, &format!("a{n}")), Ok(true));
            }
            let by_pattern = topics.subscribe_pattern(1, &mut list, "b", 0, limits(max));
            assert_eq!(by_pattern, Ok(true));
            let by_pattern = topics.subscribe_pattern(1, &mut list, "c", 0, limits(max));
            assert_eq!(by_pattern, refused);
            let mut subscribe =
                |list: &mut _, name: &str| topics.subscribe(1, list, name, 0, limits(max));
            assert_eq!(subscribe(&mut list, "c"), refused);
            assert_eq!(subscribe(&mut list, "a1"), Ok(false), "not one more");
            assert_eq!(topics.member_count("c"), 0);
            assert!(topics.unsubscribe(1, &mut list, "a1"));
            let again = topics.subscribe(1, &mut list, "c", 0, limits(max));
            assert_eq!(again, Ok(true));
        }
    }

    #[test]
    fn subscriptions_of_all_members_are_limited() {
        let limits = Limits {
            total_max: 3,
            ..MAX
        };
        let mut topics = Topics::new();
        let [mut first, mut second] = [(); 2].map(|()| Subscriptions::default());
        assert_eq!(topics.subscribe(1, &mut first, "a", 0, limits), Ok(true));
        assert_eq!(topics.subscribe(2, &mut second, "a", 0, limits), Ok(true));
        let by_pattern = topics.subscribe_pattern(2, &mut second, "b*", 0, limits);
        assert_eq!(by_pattern, Ok(true));
        let refused = topics.subscribe(1, &mut first, "b", 0, limits);
        assert_eq!(refused, Err(TopicError::Full));
        let refused = topics.subscribe_pattern(1, &mut first, "c*", 0, limits);
        assert_eq!(refused, Err(TopicError::Full));
        // One that exists is no new one, and one that ends makes room.
        assert_eq!(topics.subscribe(1, &mut first, "a", 0, limits), Ok(false));
        topics.leave_all(2, &mut second);
        assert_eq!(topics.subscribe(1, &mut first, "b", 0, limits), Ok(true));
    }

    #[test]
    fn patterns_of_one_member_are_limited() {
        let limits = Limits {
            patterns_max: 2,
            ..MAX
        };
        let refused = Err(TopicError::TooManyPatterns { patterns_max: 2 });
        // Walked, and looked up.
        for others in [0, WALK_MAX - 1, 2 * WALK_MAX] {
            let mut topics = Topics::new();
            let mut list = Subscriptions::default();
            for n in 0..others {
                let name = format!("a{n}");
                let joined = topics.subscribe(1, &mut list, &name, 0, limits);
                assert_eq!(joined, Ok(true));
            }
            for (pattern, expected) in [
                ("a*", Ok(true)),
                ("b*", Ok(true)),
                ("c*", refused),
                ("b*", Ok(false)),
            ] {
                let joined = topics.subscribe_pattern(1, &mut list, pattern, 0, limits);
                assert_eq!(joined, expected, "{pattern}, {others}");
            }
            let joined = topics.subscribe(1, &mut list, "c", 0, limits);
            assert_eq!(joined, Ok(true), "a topic");
            assert!(topics.unsubscribe_pattern(1, &mut list, "a*"));
            let joined = topics.subscribe_pattern(1, &mut list, "c*", 0, limits);
            assert_eq!(joined, Ok(true), "in the place of another");
            let mut other = Subscriptions::default();
            let joined = topics.subscribe_pattern(2, &mut other, "a*", 0, limits);
            assert_eq!(joined, Ok(true), "of another member");
        }
    }

    // A member with a thousand topics that went on to ask for the first of them had its whole list
    // walked each time.
    #[test]
    fn a_request_costs_the_same_however_many_subscriptions_its_member_has() {
        let mut house = House::default();
        for n in 0..1000 {
            house.subscribe(1, &format!("t{n}")).unwrap();
            house.subscribe(2, &format!("u{n}")).unwrap();
        }
        let most = std::cell::Cell::new(0);
        let measure = |house: &mut House, ask: &dyn Fn(&mut House)| {
            house.topics.steps.set(0);
            ask(house);
            most.set(most.get().max(house.topics.steps.get()));
        };
        for n in 0..1000 {
            let (name, other) = (format!("t{n}"), format!("u{n}"));
            measure(&mut house, &|house| {
                assert_eq!(house.subscribe(1, &name), Ok(false));
            });
            measure(&mut house, &|house| {
                assert!(!house.unsubscribe(1, &other), "has members, not this one");
            });
            measure(&mut house, &|house| assert!(house.unsubscribe(1, &name)));
            measure(&mut house, &|house| {
                assert_eq!(house.subscribe(1, &name), Ok(true));
            });
        }
        assert!(most.get() <= 2 * WALK_MAX, "{most:?} steps");
        for n in 0..1000 {
            measure(&mut house, &|house| {
                assert!(house.unsubscribe(1, &format!("t{n}")));
            });
        }
        assert!(
            most.get() <= 2 * WALK_MAX,
            "{most:?} steps on the way to none"
        );
        assert!(house.subscriptions_of(1).is_empty());
        assert_eq!(house.subscriptions_of(2).len(), 1000);
    }

    #[test]
    fn a_topic_can_be_left_only_by_its_members() {
        let mut house = House::default();
        house.subscribe(1, "a").unwrap();
        assert!(!house.unsubscribe(2, "a"));
        assert!(!house.unsubscribe(1, "b"));
        assert!(!house.unsubscribe_pattern(1, "a"));
        house.leave_all(2);
        assert_eq!(house.members("a"), [1]);
    }

    #[test]
    fn topic_is_gone_with_its_last_member() {
        let mut house = House::default();
        for member in 1..=3 {
            house.subscribe(member, "a").unwrap();
            house.subscribe_pattern(member, "a*").unwrap();
        }
        house.leave_all(1);
        house.unsubscribe(3, "a");
        assert_eq!(house.members("a"), [2, 3, 2]);
        house.leave_all(2);
        assert_eq!(
            (house.topics.topic_count(), house.topics.pattern_count()),
            (0, 1)
        );
        house.leave_all(3);
        assert_eq!(
            (house.topics.topic_count(), house.topics.pattern_count()),
            (0, 0)
        );
        assert_eq!(house.topics.heap_bytes(), 0);
    }

    #[test]
    #[cfg_attr(debug_assertions, should_panic(expected = "old copy"))]
    fn old_copy_of_a_list_cannot_end_what_is_not_its_own() {
        let mut house = House::default();
        house.subscribe(1, "a").unwrap();
        let mut old = house.lists[&1];
        house.leave_all(1);
        house.subscribe(2, "b").unwrap();
        house.topics.leave_all(1, &mut old);
        assert_eq!(house.members("b"), [2]);
    }

    #[test]
    fn changes_are_the_first_member_and_the_last() {
        use MembersChange::{Joined, Left};
        use NameKind::{Exact, Pattern};
        let mut house = House::default();
        house.subscribe(1, "before").unwrap();
        house.subscribe_pattern(1, "a*").unwrap();
        assert!(house.topics.take_changes().is_empty(), "not watched");
        house.topics.watch();
        let cases: &[(&str, fn(&mut House), &[(NameKind, &str, MembersChange)])] = &[
            (
                "names from before",
                |_| {},
                &[(Exact, "before", Joined), (Pattern, "a*", Joined)],
            ),
            ("no change", |_| {}, &[]),
            (
                "first member of a name and of a pattern of the same text",
                |house| {
                    house.subscribe(1, "b*").unwrap();
                    house.subscribe_pattern(1, "b*").unwrap();
                },
                &[(Exact, "b*", Joined), (Pattern, "b*", Joined)],
            ),
            (
                "second member, and the first one leaves",
                |house| {
                    house.subscribe(2, "b*").unwrap();
                    house.unsubscribe(1, "b*");
                },
                &[],
            ),
            (
                "last member",
                |house| {
                    house.unsubscribe(2, "b*");
                },
                &[(Exact, "b*", Left)],
            ),
            (
                "first and last at once",
                |house| {
                    house.subscribe(2, "c").unwrap();
                    house.unsubscribe(2, "c");
                },
                &[],
            ),
            (
                "last and first at once",
                |house| {
                    house.unsubscribe_pattern(1, "a*");
                    house.subscribe_pattern(2, "a*").unwrap();
                },
                &[],
            ),
            (
                "refused",
                |house| {
                    house.subscribe(2, "").unwrap_err();
                },
                &[],
            ),
            (
                "a member with several subscriptions ends",
                |house| house.leave_all(1),
                &[(Exact, "before", Left), (Pattern, "b*", Left)],
            ),
        ];
        for (name, act, expected) in cases {
            act(&mut house);
            let changes = house.topics.take_changes();
            let changes = changes.iter().map(|(kind, name, it)| (*kind, &**name, *it));
            assert!(changes.eq(expected.iter().copied()), "{name}");
        }
    }

    type Model = BTreeMap<(bool, String), BTreeSet<u64>>;

    fn check(house: &House, model: &Model, names: &[String]) {
        let count = |is_pattern| model.keys().filter(|(it, _)| *it == is_pattern).count();
        assert_eq!(house.topics.topic_count(), count(false));
        assert_eq!(house.topics.pattern_count(), count(true));
        let subscriptions = model.values().map(BTreeSet::len).sum::<usize>();
        assert_eq!(house.topics.subscription_count(), subscriptions);
        for name in names {
            let mut expected: Vec<u64> = Vec::new();
            for ((is_pattern, it), members) in model {
                let is_match = pattern::matches(it.as_bytes(), name.as_bytes());
                if if *is_pattern { is_match } else { it == name } {
                    expected.extend(members);
                }
            }
            let mut members = house.members(name);
            let by_name = model.get(&(false, name.clone())).map_or(0, BTreeSet::len);
            assert_eq!(house.topics.member_count(name), by_name);
            members[..by_name].sort_unstable();
            assert!(members[..by_name].is_sorted() && members.len() == expected.len());
            members.sort_unstable();
            expected.sort_unstable();
            assert_eq!(members, expected, "{name}");
        }
        for (member, list) in &house.lists {
            let mut names: Vec<_> = house.topics.subscriptions_of(*list).collect();
            let mut expected: Vec<_> = model
                .iter()
                .filter(|(_, members)| members.contains(member))
                .map(|((_, name), _)| name.as_str())
                .collect();
            names.sort_unstable();
            expected.sort_unstable();
            assert_eq!(names, expected, "of {member}");
        }
    }

    #[test]
    fn same_as_a_map_of_sets() {
        // Many with a few subscriptions each, and a few with many.
        for members in [200, 5] {
            assert_same_as_a_map_of_sets(members);
        }
    }

    fn assert_same_as_a_map_of_sets(members: usize) {
        let mut random = Xorshift::new(11);
        let names: Vec<String> = (0..60)
            .map(|n| match n % 4 {
                0 => format!("a{n}*"),
                1 => "*".repeat(n),
                _ => format!("a{n}"),
            })
            .collect();
        let mut house = House::default();
        let mut model = Model::new();
        // The names that have members, by what the changes say.
        let mut watched: BTreeSet<(bool, String)> = BTreeSet::new();
        house.topics.watch();
        for round in 0..60_000 {
            let member = random.below(members) as u64;
            let name = &names[random.below(names.len())];
            let is_pattern = random.below(4) == 0;
            let key = (is_pattern, name.clone());
            // Waves: many join for a while, then many leave.
            let joins = if round / 10_000 % 2 == 0 { 70 } else { 35 };
            match random.below(100) {
                0 => {
                    house.leave_all(member);
                    model.retain(|_, members| {
                        members.remove(&member);
                        !members.is_empty()
                    });
                }
                roll if roll < joins => {
                    let is_new = if is_pattern {
                        house.subscribe_pattern(member, name)
                    } else {
                        house.subscribe(member, name)
                    };
                    assert_eq!(is_new, Ok(model.entry(key).or_default().insert(member)));
                }
                _ => {
                    let was = if is_pattern {
                        house.unsubscribe_pattern(member, name)
                    } else {
                        house.unsubscribe(member, name)
                    };
                    let expected = model.get_mut(&key).is_some_and(|it| it.remove(&member));
                    assert_eq!(was, expected);
                    model.retain(|_, members| !members.is_empty());
                }
            }
            if round % 500 == 0 {
                check(&house, &model, &names);
            }
            if random.below(20) == 0 {
                for (kind, name, change) in house.topics.take_changes() {
                    let key = (kind == NameKind::Pattern, name.into_string());
                    let is_change = match change {
                        MembersChange::Joined => watched.insert(key),
                        MembersChange::Left => watched.remove(&key),
                    };
                    assert!(is_change);
                }
                assert!(watched.iter().eq(model.keys()));
            }
        }
        check(&house, &model, &names);
        for member in 0..members as u64 {
            house.leave_all(member);
        }
        assert_eq!(
            (house.topics.subscription_count(), house.topics.heap_bytes()),
            (0, 0)
        );
    }

    #[test]
    fn sizes() {
        assert_eq!(size_of::<Subscriptions>(), 4);
        assert_eq!(size_of::<Node>(), 12);
        assert_eq!(size_of::<Entry>(), 16);
        assert_eq!(size_of::<Topic>(), 32);
        assert_eq!(size_of::<Option<(Key, u32)>>(), 8);
        let mut nodes = Slots::default();
        nodes.insert(Node {
            topic: TopicKey(Key::from_bits(2).unwrap()),
            entry_index: 0,
            next: None,
        });
        assert_eq!(
            nodes.heap_bytes() % 12,
            0,
            "a place is no larger than a node"
        );
    }

    #[test]
    fn a_subscription_costs_at_most_forty_bytes() {
        // Right behind a growth, where the most is unused, and where tables usually are.
        for count in [100_000, 600_000, 1_000_000] {
            let mut topics = Topics::new();
            let mut lists = vec![Subscriptions::default(); count];
            for (member, list) in lists.iter_mut().enumerate() {
                let new = topics.subscribe(member as u64, list, "all", 0, MAX);
                assert_eq!(new, Ok(true));
            }
            let bytes = topics.heap_bytes() as f64 / count as f64;
            assert!(bytes <= 40.0, "{bytes} for one of {count} in one topic");
            for (member, list) in lists.iter_mut().enumerate() {
                topics.leave_all(member as u64, list);
            }
            assert_eq!(topics.heap_bytes(), 0);
        }
    }

    #[test]
    fn join_and_close_a_hundred_thousand_times() {
        let mut topics = Topics::new();
        let mut standing = Subscriptions::default();
        topics
            .subscribe(u64::MAX, &mut standing, "room.7", 0, MAX)
            .unwrap();
        let mut most = 0;
        for cycle in 0..100_000_u64 {
            let mut list = Subscriptions::default();
            let room = format!("room.{}", cycle % 100);
            topics.subscribe(cycle, &mut list, &room, 0, MAX).unwrap();
            topics
                .subscribe(cycle, &mut list, &format!("user.{cycle}"), 0, MAX)
                .unwrap();
            topics
                .subscribe_pattern(cycle, &mut list, "room.*", 0, MAX)
                .unwrap();
            topics.leave_all(cycle, &mut list);
            most = most.max(topics.heap_bytes());
        }
        assert!(most < 1000, "{most} bytes at the most");
        assert_eq!(topics.subscription_count(), 1);
        topics.leave_all(u64::MAX, &mut standing);
        assert_eq!((topics.topic_count(), topics.heap_bytes()), (0, 0));
    }

    #[test]
    fn memory_comes_back_after_most_have_left() {
        let mut topics = Topics::new();
        let mut lists = vec![Subscriptions::default(); 100_000];
        for (member, list) in lists.iter_mut().enumerate() {
            let user = format!("user.{member}");
            topics
                .subscribe(member as u64, list, "all", 0, MAX)
                .unwrap();
            topics
                .subscribe(member as u64, list, &user, 0, MAX)
                .unwrap();
        }
        let full = topics.heap_bytes();
        for (member, list) in lists.iter_mut().enumerate().skip(1000) {
            topics.leave_all(member as u64, list);
        }
        let left = topics.heap_bytes();
        assert!(left * 20 < full, "{left} of {full} bytes");
        assert_eq!(topics.member_count("all"), 1000);
        assert_eq!(topics.members("user.999").count(), 1);
    }

    #[test]
    fn the_indexes_of_members_that_have_left_give_their_memory_back() {
        let mut house = House::default();
        for member in 0..200 {
            for n in 0..=WALK_MAX {
                assert_eq!(house.subscribe(member, &format!("t{n}")), Ok(true));
            }
        }
        assert_eq!(house.topics.many.len(), 200);
        for member in 10..200 {
            house.leave_all(member);
        }
        let (len, capacity) = (house.topics.many.len(), house.topics.many.capacity());
        assert_eq!(len, 10);
        assert!(
            capacity <= 64,
            "room for {capacity} indexes of {len} members"
        );
    }
}
