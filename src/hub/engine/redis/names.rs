//! The names of clients that are subscribed in Redis: two channels for a topic, two patterns for a pattern.
//!
//! One of the two is for publications with numbers, the other for messages of other programs. In a cluster the first
//! is the sharded channel of the topic. Sharded channels have no patterns, so all patterns share the feeds of all buckets.
//!
//! A name is wanted while a client waits for it or is a member of it, and for [`LINGER`] longer. It is confirmed when
//! Redis has acknowledged both of its subscriptions, and the parts that it needs have caught up (`recovery.rs`). From
//! the place of the confirmation on, the log of this reactor has all messages of the name.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::rc::Rc;
use std::time::Duration;

use crate::client::redis::{Held, SubscriptionKind};
use crate::pubsub::{MembersChange, pattern};
use crate::reactor::reactor::Reactor;

use super::keys::{Channel, Keys};
use super::links::Links;

/// How long a name stays subscribed that has no members: clients that come back soon find it in the log.
const LINGER: Duration = Duration::from_secs(2);

/// The time from one look at the members of names to the next.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Redis has refused to subscribe one of the names of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused;

/// Called when all names of a client are confirmed, or one is refused.
type Confirmed<S> = Box<dyn FnOnce(&mut Reactor<S>, Result<(), Refused>)>;

/// The names that are subscribed, and the clients that wait for them.
pub(super) struct Names<S: 'static> {
    links: Links<S>,
    keys: Keys,
    /// Which parts have caught up: what is acknowledged there is confirmed. The last one has the messages of other
    /// programs.
    ready_parts: Vec<bool>,
    feeds: Feeds,
    names: HashMap<Box<str>, Name>,
    /// The name that a channel or a pattern in Redis belongs to, and which of its two it is.
    by_upstream: HashMap<(SubscriptionKind, Box<[u8]>), (Box<str>, usize)>,
    /// By their tickets, which ascend.
    waiting: BTreeMap<u64, Waiting<S>>,
    last_ticket: u64,
    /// Names of clients that are members now, or gone.
    settled: Vec<Box<str>>,
    has_timer: bool,
}

/// The feeds of all buckets of a cluster, which all patterns share.
#[derive(Default)]
struct Feeds {
    pattern_count: usize,
    is_acknowledged: Vec<bool>,
}

impl Feeds {
    fn are_acknowledged(&self) -> bool {
        self.is_acknowledged.iter().all(|it| *it)
    }
}

/// The subscriptions of a name: that for publications with numbers, and that for messages of other programs.
const NUMBERED: usize = 0;
const RAW: usize = 1;

#[derive(Default)]
struct Name {
    /// The bucket of a topic. `None` for a pattern, whose topics are in all buckets.
    bucket: Option<usize>,
    /// Clients that wait for the confirmation, or have it and are not members yet.
    pending_count: usize,
    has_members: bool,
    /// Which of the two subscriptions Redis has acknowledged.
    is_acknowledged: [bool; 2],
    /// Redis has refused a subscription. The next client that wants it has Redis asked again.
    is_refused: bool,
    /// The place in the log from which on it has all messages of the name. While the name is not confirmed, that of an
    /// earlier confirmation, which holds again if nothing is missed.
    covered_from: Option<u64>,
    /// The place in the log at which its members were last told of a gap of this name. The log does not have all its
    /// messages from an earlier place on, whenever the name is confirmed.
    gap_place: u64,
    /// Without members since this time.
    unused_since: Option<Duration>,
    /// The tickets of clients for which this is the first of their names that is not confirmed.
    tickets: BTreeSet<u64>,
}

impl Name {
    fn is_used(&self) -> bool {
        self.has_members || self.pending_count != 0
    }

    /// Whether its subscriptions are acknowledged, and the parts that it needs have caught up.
    fn is_confirmed(&self, ready_parts: &[bool]) -> bool {
        let is_ready = match self.bucket {
            Some(bucket) => ready_parts[bucket] && ready_parts.last() == Some(&true),
            None => ready_parts.iter().all(|it| *it),
        };
        is_ready && self.is_acknowledged == [true; 2]
    }
}

/// A client that waits for its names.
struct Waiting<S> {
    names: Vec<Box<str>>,
    /// The names before this index are confirmed, or were when it was looked at.
    index: usize,
    confirmed: Confirmed<S>,
}

impl<S: 'static> Names<S> {
    pub(super) fn new(links: &Links<S>, keys: &Keys, part_count: usize) -> Names<S> {
        Names {
            links: links.clone(),
            keys: keys.clone(),
            ready_parts: vec![false; part_count],
            feeds: Feeds::default(),
            names: HashMap::new(),
            by_upstream: HashMap::new(),
            waiting: BTreeMap::new(),
            last_ticket: 0,
            settled: Vec::new(),
            has_timer: false,
        }
    }

    /// The link of a part is lost: its subscriptions are not acknowledged any more.
    pub(super) fn lose_part(&mut self, part: usize) {
        self.ready_parts[part] = false;
        let has_raw = part + 1 == self.ready_parts.len();
        if let Some(is_acknowledged) = self.feeds.is_acknowledged.get_mut(part) {
            *is_acknowledged = false;
        }
        for name in self.names.values_mut() {
            if part < self.keys.bucket_count() && name.bucket.is_none_or(|it| it == part) {
                name.is_acknowledged[NUMBERED] = false;
                name.is_refused = false;
            }
            if has_raw {
                name.is_acknowledged[RAW] = false;
                name.is_refused = false;
                name.covered_from = None;
            }
        }
    }

    /// A part has caught up at a place in the log. No message with a number was missed there for the names in `read`, and
    /// with `since` the log has all their messages since that place.
    pub(super) fn confirm_part(
        &mut self,
        part: usize,
        place: u64,
        read: &HashSet<Box<str>>,
        since: Option<u64>,
    ) {
        self.ready_parts[part] = true;
        let ready_parts = &self.ready_parts;
        let is_of_part = |name: &Name| {
            part + 1 == ready_parts.len() || name.bucket.is_none_or(|bucket| bucket == part)
        };
        for (text, name) in &mut self.names {
            if !is_of_part(name) {
                continue;
            }
            if !read.contains(text) {
                name.covered_from = None;
            } else if since.is_some() {
                name.covered_from = since;
            }
            if name.is_confirmed(ready_parts) && name.covered_from.is_none() {
                name.covered_from = Some(place);
            }
        }
    }

    /// The log has all messages of confirmed names from this place on only.
    pub(super) fn cover_from(&mut self, place: u64) {
        for name in self.names.values_mut() {
            name.covered_from = name.covered_from.map(|_| place);
        }
    }

    /// The log has all messages of a name from this place on only, also when it is confirmed later.
    pub(super) fn cover_name_from(&mut self, name: &str, place: u64) {
        if let Some(entry) = self.names.get_mut(name) {
            entry.gap_place = place;
        }
    }

    /// The place from which on the log has all messages of these names. `None` where one is not confirmed.
    pub(super) fn covered_from<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> Option<u64> {
        let mut place = 0;
        for name in names {
            place = place.max(self.coverage(name)?);
        }
        Some(place)
    }

    /// The place from which on the log has all messages of a name, if it is confirmed.
    fn coverage(&self, name: &str) -> Option<u64> {
        let entry = self.names.get(name)?;
        let is_confirmed = entry.is_confirmed(&self.ready_parts);
        let covered_from = entry.covered_from.filter(|_| is_confirmed)?;
        Some(covered_from.max(entry.gap_place))
    }

    /// A client is a member of its names now, or gone. The names are looked at with the next look.
    pub(super) fn settle_later(&mut self, names: Vec<Box<str>>) {
        self.settled.extend(names);
    }

    /// Redis has acknowledged a subscription. Returns the calls for the clients whose names are all confirmed by it.
    fn acknowledge(
        &mut self,
        reactor: &mut Reactor<S>,
        kind: SubscriptionKind,
        upstream: &[u8],
    ) -> Vec<Confirmed<S>> {
        if let Some(bucket) = self.feed_of(kind, upstream) {
            return self.acknowledge_feed(reactor, bucket);
        }
        let key = (kind, Box::from(upstream));
        let Some((name, index)) = self.by_upstream.get(&key).cloned() else {
            return Vec::new();
        };
        if let Some(entry) = self.names.get_mut(&name) {
            entry.is_acknowledged[index] = true;
        }
        self.cover(reactor, &name);
        self.take_confirmed(&name)
    }

    fn feed_of(&self, kind: SubscriptionKind, upstream: &[u8]) -> Option<usize> {
        match self.keys.meaning_of(upstream, true) {
            Channel::Feed(bucket) if kind == SubscriptionKind::Sharded => Some(bucket),
            _ => None,
        }
    }

    fn acknowledge_feed(&mut self, reactor: &mut Reactor<S>, bucket: usize) -> Vec<Confirmed<S>> {
        if let Some(is_acknowledged) = self.feeds.is_acknowledged.get_mut(bucket) {
            *is_acknowledged = true;
        }
        if self.feeds.pattern_count == 0 || !self.feeds.are_acknowledged() {
            return Vec::new();
        }
        let patterns = self
            .names
            .iter_mut()
            .filter(|(_, name)| name.bucket.is_none());
        let names: Vec<Box<str>> = patterns
            .map(|(text, name)| {
                name.is_acknowledged[NUMBERED] = true;
                text.clone()
            })
            .collect();
        for name in &names {
            self.cover(reactor, name);
        }
        (names.iter())
            .flat_map(|name| self.take_confirmed(name))
            .collect()
    }

    /// A client does not wait any longer.
    pub(super) fn forget(&mut self, ticket: u64) {
        let _ = self.take_waiting(ticket);
    }

    fn take_waiting(&mut self, ticket: u64) -> Option<Confirmed<S>> {
        let waiting = self.waiting.remove(&ticket)?;
        if let Some(name) = waiting.names.get(waiting.index)
            && let Some(entry) = self.names.get_mut(name)
        {
            entry.tickets.remove(&ticket);
        }
        Some(waiting.confirmed)
    }

    /// Takes the calls for the clients of a name whose names are all confirmed.
    fn take_confirmed(&mut self, name: &str) -> Vec<Confirmed<S>> {
        if self.coverage(name).is_none() {
            return Vec::new();
        }
        let entry = self.names.get_mut(name);
        let tickets = entry.map(|entry| std::mem::take(&mut entry.tickets));
        let tickets = tickets.into_iter().flatten();
        tickets
            .filter_map(|ticket| self.take_if_confirmed(ticket))
            .collect()
    }

    /// Takes the calls for all clients whose names are all confirmed.
    fn take_all_confirmed(&mut self) -> Vec<Confirmed<S>> {
        let tickets: Vec<u64> = self.waiting.keys().copied().collect();
        (tickets.into_iter())
            .filter_map(|ticket| self.take_if_confirmed(ticket))
            .collect()
    }

    /// Takes the call for a client whose names are all confirmed. Another one waits for its next name.
    fn take_if_confirmed(&mut self, ticket: u64) -> Option<Confirmed<S>> {
        let waiting = self.waiting.get(&ticket)?;
        let earlier = waiting.names.get(waiting.index);
        if let Some(entry) = earlier.and_then(|it| self.names.get_mut(it)) {
            entry.tickets.remove(&ticket);
        }
        let is_confirmed = |name: &str| self.coverage(name).is_some();
        // A link that was lost since has ended earlier confirmations too.
        let Some(index) = waiting.names.iter().position(|it| !is_confirmed(it)) else {
            return self.waiting.remove(&ticket).map(|it| it.confirmed);
        };
        let waiting = self.waiting.get_mut(&ticket)?;
        waiting.index = index;
        if let Some(entry) = self.names.get_mut(&waiting.names[index]) {
            entry.tickets.insert(ticket);
        }
        None
    }

    /// Has a name subscribed in Redis.
    fn hold(&mut self, reactor: &mut Reactor<S>, name: &str) {
        if let Some(entry) = self.names.get_mut(name) {
            if std::mem::take(&mut entry.is_refused) {
                self.ask_again(reactor, name);
            }
            return;
        }
        let is_pattern = pattern::is_pattern(name);
        let mut entry = Name {
            bucket: (!is_pattern).then(|| self.keys.bucket_of(name)),
            ..Name::default()
        };
        for (kind, upstream, index) in self.upstream_of(name) {
            let held = self.links.hold(reactor, kind, upstream.as_bytes());
            entry.is_acknowledged[index] = held == Held::Active;
            let key = (kind, upstream.into_bytes().into());
            self.by_upstream.insert(key, (name.into(), index));
        }
        if is_pattern && self.has_feeds() {
            entry.is_acknowledged[NUMBERED] = self.hold_feeds(reactor);
        }
        self.names.insert(name.into(), entry);
        self.cover(reactor, name);
    }

    /// Has a name subscribed that was refused. It is held already, and one more hold has the command sent.
    fn ask_again(&mut self, reactor: &mut Reactor<S>, name: &str) {
        let mut all: Vec<_> = (self.upstream_of(name).into_iter())
            .map(|(kind, upstream, _)| (kind, upstream))
            .collect();
        if pattern::is_pattern(name) {
            all.extend(self.feeds());
        }
        for (kind, upstream) in all {
            self.links.hold(reactor, kind, upstream.as_bytes());
            self.links.release(reactor, kind, upstream.as_bytes());
        }
    }

    /// The subscriptions of a name, each with its index in [`Name::is_acknowledged`]. Patterns also need the feeds of a
    /// cluster.
    fn upstream_of(&self, name: &str) -> Vec<(SubscriptionKind, String, usize)> {
        use SubscriptionKind::{Channel, Pattern};
        let keys = &self.keys;
        if !pattern::is_pattern(name) {
            let numbered = (keys.numbered_kind(), keys.numbered_channel(name), NUMBERED);
            return vec![numbered, (Channel, keys.raw_channel(name), RAW)];
        }
        let raw = (Pattern, keys.raw_pattern(name), RAW);
        match self.has_feeds() {
            true => vec![raw],
            false => vec![(Pattern, keys.numbered_pattern(name), NUMBERED), raw],
        }
    }

    fn has_feeds(&self) -> bool {
        1 < self.keys.bucket_count()
    }

    fn feeds(&self) -> impl Iterator<Item = (SubscriptionKind, String)> {
        let feeds = (0..self.keys.bucket_count()).filter_map(|bucket| self.keys.feed(bucket));
        feeds.map(|feed| (SubscriptionKind::Sharded, feed))
    }

    /// One more pattern needs the feeds. Returns whether all are acknowledged.
    fn hold_feeds(&mut self, reactor: &mut Reactor<S>) -> bool {
        self.feeds.pattern_count += 1;
        if self.feeds.pattern_count == 1 {
            let hold = |(kind, feed): (_, String)| self.links.hold(reactor, kind, feed.as_bytes());
            let held: Vec<Held> = self.feeds().map(hold).collect();
            self.feeds.is_acknowledged = held.iter().map(|it| *it == Held::Active).collect();
        }
        self.feeds.are_acknowledged()
    }

    fn release_feeds(&mut self, reactor: &mut Reactor<S>) {
        self.feeds.pattern_count -= 1;
        if self.feeds.pattern_count == 0 {
            self.feeds.is_acknowledged.clear();
            for (kind, feed) in self.feeds() {
                self.links.release(reactor, kind, feed.as_bytes());
            }
        }
    }

    /// Notes that the log has all messages of a name from here on, if so.
    fn cover(&mut self, reactor: &mut Reactor<S>, name: &str) {
        if let Some(entry) = self.names.get_mut(name)
            && entry.is_confirmed(&self.ready_parts)
            && entry.covered_from.is_none()
        {
            entry.covered_from = Some(reactor.exact_place());
        }
    }

    /// Notes which names have got their first member or lost their last, and which clients do not wait any longer.
    fn look(&mut self, reactor: &mut Reactor<S>) {
        let now = reactor.now();
        for (_, name, change) in reactor.take_topic_changes() {
            let has_members = change == MembersChange::Joined;
            if has_members {
                // An application may subscribe without asking the hub.
                self.hold(reactor, &name);
            }
            if let Some(entry) = self.names.get_mut(&name) {
                entry.has_members = has_members;
                entry.unused_since = (!entry.is_used()).then_some(now);
            }
        }
        for name in std::mem::take(&mut self.settled) {
            if let Some(entry) = self.names.get_mut(&name) {
                entry.pending_count = entry.pending_count.saturating_sub(1);
                if !entry.is_used() {
                    entry.unused_since = Some(now);
                }
            }
        }
        self.drop_unused(reactor, now);
    }

    /// Gives names up that were without members for long enough.
    fn drop_unused(&mut self, reactor: &mut Reactor<S>, now: Duration) {
        let is_over = |name: &Name| {
            let since = name.unused_since.filter(|_| !name.is_used());
            since.is_some_and(|since| since + LINGER <= now)
        };
        let over = self.names.iter().filter(|(_, name)| is_over(name));
        let unused: Vec<Box<str>> = over.map(|(name, _)| name.clone()).collect();
        for name in unused {
            self.names.remove(&name);
            for (kind, upstream, _) in self.upstream_of(&name) {
                self.links.release(reactor, kind, upstream.as_bytes());
                let key = (kind, upstream.into_bytes().into());
                self.by_upstream.remove(&key);
            }
            if self.has_feeds() && pattern::is_pattern(&name) {
                self.release_feeds(reactor);
            }
        }
    }
}

/// Subscribes to names for a client, and calls `confirmed` when Redis has acknowledged them all: before this returns, or
/// later. Each name stays subscribed until [`Names::settle_later`] is called. Returns the ticket for [`Names::forget`].
pub(super) fn want<S: 'static>(
    all: &Rc<RefCell<Names<S>>>,
    reactor: &mut Reactor<S>,
    names: &[Box<str>],
    confirmed: impl FnOnce(&mut Reactor<S>, Result<(), Refused>) + 'static,
) -> u64 {
    for name in names {
        let mut all = all.borrow_mut();
        all.hold(reactor, name);
        if let Some(entry) = all.names.get_mut(name) {
            entry.pending_count += 1;
            entry.unused_since = None;
        }
    }
    arm_look(all, reactor);
    wait_for(all, reactor, names, confirmed)
}

/// Calls `confirmed` when names that are wanted already are confirmed. Returns the ticket for [`Names::forget`].
pub(super) fn wait_for<S: 'static>(
    all: &Rc<RefCell<Names<S>>>,
    reactor: &mut Reactor<S>,
    names: &[Box<str>],
    confirmed: impl FnOnce(&mut Reactor<S>, Result<(), Refused>) + 'static,
) -> u64 {
    let (ticket, ready) = {
        let mut all = all.borrow_mut();
        all.last_ticket += 1;
        let ticket = all.last_ticket;
        let waiting = Waiting {
            names: names.to_vec(),
            index: 0,
            confirmed: Box::new(confirmed),
        };
        all.waiting.insert(ticket, waiting);
        (ticket, all.take_if_confirmed(ticket))
    };
    if let Some(confirmed) = ready {
        confirmed(reactor, Ok(()));
    }
    ticket
}

/// Notes that Redis has acknowledged a subscription, and calls back for the clients whose names are all confirmed.
pub(super) fn acknowledge<S: 'static>(
    all: &Rc<RefCell<Names<S>>>,
    reactor: &mut Reactor<S>,
    kind: SubscriptionKind,
    upstream: &[u8],
) {
    let ready = all.borrow_mut().acknowledge(reactor, kind, upstream);
    for confirmed in ready {
        confirmed(reactor, Ok(()));
    }
}

/// Redis has refused to subscribe: calls back for the clients that wait for the name.
pub(super) fn refuse<S: 'static>(
    all: &Rc<RefCell<Names<S>>>,
    reactor: &mut Reactor<S>,
    kind: SubscriptionKind,
    upstream: &[u8],
) {
    let refused: Vec<Confirmed<S>> = {
        let mut all = all.borrow_mut();
        let names: HashSet<Box<str>> = match all.feed_of(kind, upstream) {
            Some(_) => {
                let patterns = all.names.iter().filter(|(_, name)| name.bucket.is_none());
                patterns.map(|(text, _)| text.clone()).collect()
            }
            None => {
                let name = all.by_upstream.get(&(kind, Box::from(upstream)));
                name.map(|(name, _)| name.clone()).into_iter().collect()
            }
        };
        for name in &names {
            if let Some(entry) = all.names.get_mut(name) {
                entry.is_refused = true;
            }
        }
        let tickets: Vec<u64> = (all.waiting.iter())
            .filter(|(_, waiting)| waiting.names.iter().any(|name| names.contains(name)))
            .map(|(ticket, _)| *ticket)
            .collect();
        tickets
            .into_iter()
            .filter_map(|ticket| all.take_waiting(ticket))
            .collect()
    };
    for call in refused {
        call(reactor, Err(Refused));
    }
}

/// Calls back for all clients whose names are all confirmed.
pub(super) fn call_confirmed<S: 'static>(all: &Rc<RefCell<Names<S>>>, reactor: &mut Reactor<S>) {
    let ready = all.borrow_mut().take_all_confirmed();
    for confirmed in ready {
        confirmed(reactor, Ok(()));
    }
}

/// Looks at the members of all names, as long as there are names.
fn arm_look<S: 'static>(all: &Rc<RefCell<Names<S>>>, reactor: &mut Reactor<S>) {
    if std::mem::replace(&mut all.borrow_mut().has_timer, true) {
        return;
    }
    let all = Rc::clone(all);
    reactor.after(LOOK_INTERVAL, move |cx| {
        all.borrow_mut().has_timer = false;
        all.borrow_mut().look(cx.reactor);
        if !all.borrow().names.is_empty() {
            arm_look(&all, cx.reactor);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::redis::Redis;
    use crate::reactor::sim::Sim;

    // Messages that were published while a slot was on its way were read for names with members alone.
    #[test]
    fn a_bucket_that_is_back_has_missed_nothing_of_names_that_were_read() {
        let mut sim = Sim::new((), |_: &mut Reactor<()>| Ok::<(), std::io::Error>(()));
        let reactor = sim.reactor();
        let redis = Redis::connect(reactor, "redis://127.0.0.1:1").expect("a URL");
        let keys = Keys::of_cluster(None).expect("keys");
        let (bucket_count, part) = (keys.bucket_count(), keys.bucket_of("a"));
        let mut names = Names::new(&Links::Server(redis), &keys, bucket_count + 1);
        names.hold(reactor, "a");
        let acknowledge = |names: &mut Names<()>, reactor: &mut Reactor<()>| {
            for (kind, upstream, _) in names.upstream_of("a") {
                let _ = names.acknowledge(reactor, kind, upstream.as_bytes());
            }
        };
        acknowledge(&mut names, reactor);
        assert_eq!(names.coverage("a"), None);
        let none = HashSet::new();
        for index in 0..=bucket_count {
            names.confirm_part(index, 10, &none, None);
        }
        assert_eq!(names.coverage("a"), Some(10));
        let read = HashSet::from(["a".into()]);
        for (read, place, expected) in [(&read, 20, 10), (&none, 30, 30)] {
            names.lose_part(part);
            assert_eq!(names.coverage("a"), None);
            acknowledge(&mut names, reactor);
            names.confirm_part(part, place, read, None);
            assert_eq!(names.coverage("a"), Some(expected));
        }
        // Messages of other programs are in no stream, so that a gap was told at place 35.
        names.lose_part(bucket_count);
        acknowledge(&mut names, reactor);
        names.confirm_part(bucket_count, 40, &read, Some(35));
        assert_eq!(names.coverage("a"), Some(35));
        // The same at place 45, and then a stream could not be read: a gap of this name at place 47.
        names.lose_part(bucket_count);
        acknowledge(&mut names, reactor);
        names.cover_name_from("a", 47);
        assert_eq!(names.coverage("a"), None);
        names.confirm_part(bucket_count, 50, &read, Some(45));
        assert_eq!(names.coverage("a"), Some(47));
    }
}
