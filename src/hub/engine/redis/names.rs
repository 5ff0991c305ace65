//! The names of clients that are subscribed in Redis: two channels for a topic, two patterns for a pattern.
//!
//! A name is wanted while a client waits for it or is a member of it, and for [`LINGER`] longer. It is confirmed when
//! Redis has acknowledged both of its subscriptions, and the link is not catching up. From the place of the
//! confirmation on, the log of this reactor has all messages of the name.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use crate::client::redis::{Held, Redis, SubscriptionKind};
use crate::pubsub::{MembersChange, pattern};
use crate::reactor::reactor::Reactor;

use super::keys::Keys;

/// How long a name stays subscribed that has no members: clients that come back soon find it in the log.
const LINGER: Duration = Duration::from_secs(2);

/// The time from one look at the members of names to the next.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

type Confirmed<S> = Box<dyn FnOnce(&mut Reactor<S>)>;

/// The names that are subscribed, and the clients that wait for them.
pub(super) struct Names<S: 'static> {
    redis: Redis<S>,
    keys: Keys,
    /// The reactor has caught up: what is acknowledged is confirmed.
    is_ready: bool,
    names: HashMap<Box<str>, Name>,
    /// The name that a channel or a pattern in Redis belongs to, and which of its two it is.
    by_upstream: HashMap<(SubscriptionKind, Box<[u8]>), (Box<str>, usize)>,
    waiting: Vec<Waiting<S>>,
    /// Names of clients that are members now, or gone.
    settled: Vec<Box<str>>,
    has_timer: bool,
}

#[derive(Default)]
struct Name {
    /// Clients that wait for the confirmation, or have it and are not members yet.
    pending_count: usize,
    has_members: bool,
    /// Which of the two subscriptions Redis has acknowledged.
    is_acknowledged: [bool; 2],
    /// The place in the log from which on it has all messages of the name.
    covered_from: Option<u64>,
    /// Without members since this time.
    unused_since: Option<Duration>,
}

impl Name {
    fn is_used(&self) -> bool {
        self.has_members || self.pending_count != 0
    }
}

/// A client that waits for its names.
struct Waiting<S> {
    names: Vec<Box<str>>,
    confirmed: Confirmed<S>,
}

impl<S: 'static> Names<S> {
    pub(super) fn new(redis: &Redis<S>, keys: &Keys) -> Names<S> {
        Names {
            redis: redis.clone(),
            keys: keys.clone(),
            is_ready: false,
            names: HashMap::new(),
            by_upstream: HashMap::new(),
            waiting: Vec::new(),
            settled: Vec::new(),
            has_timer: false,
        }
    }

    /// The link is lost: nothing is acknowledged.
    pub(super) fn forget_confirmations(&mut self) {
        self.is_ready = false;
        for name in self.names.values_mut() {
            name.is_acknowledged = [false; 2];
            name.covered_from = None;
        }
    }

    /// The reactor has caught up: the log has all messages of acknowledged names from its newest place on.
    pub(super) fn confirm_all(&mut self, place: u64) {
        self.is_ready = true;
        self.cover_from(place);
    }

    /// The log has all messages of confirmed names from this place on only.
    pub(super) fn cover_from(&mut self, place: u64) {
        for name in self.names.values_mut() {
            if name.is_acknowledged == [true; 2] {
                name.covered_from = Some(place);
            }
        }
    }

    /// The place from which on the log has all messages of these names. `None` where one is not confirmed.
    pub(super) fn covered_from<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> Option<u64> {
        let mut place = 0;
        for name in names {
            place = place.max(self.names.get(name)?.covered_from?);
        }
        Some(place)
    }

    /// A client is a member of its names now, or gone. The names are looked at with the next look.
    pub(super) fn settle_later(&mut self, names: Vec<Box<str>>) {
        self.settled.extend(names);
    }

    /// Redis has acknowledged a subscription.
    pub(super) fn acknowledge(
        &mut self,
        reactor: &Reactor<S>,
        kind: SubscriptionKind,
        upstream: &[u8],
    ) {
        let Some((name, index)) = self.by_upstream.get(&(kind, upstream.into())).cloned() else {
            return;
        };
        if let Some(entry) = self.names.get_mut(&name) {
            entry.is_acknowledged[index] = true;
        }
        self.cover(reactor, &name);
    }

    /// Takes the calls for the clients whose names are all confirmed.
    pub(super) fn take_confirmed(&mut self) -> Vec<Confirmed<S>> {
        let names = &self.names;
        let is_confirmed = |waiting: &mut Waiting<S>| {
            let covered = |name: &str| names.get(name)?.covered_from;
            waiting.names.iter().all(|name| covered(name).is_some())
        };
        let ready = self.waiting.extract_if(.., is_confirmed);
        ready.map(|waiting| waiting.confirmed).collect()
    }

    /// Has a name subscribed in Redis.
    fn hold(&mut self, reactor: &mut Reactor<S>, name: &str) {
        if self.names.contains_key(name) {
            return;
        }
        let (kind, upstream) = self.upstream_of(name);
        let mut entry = Name::default();
        for (index, channel) in upstream.iter().enumerate() {
            let held = self.redis.hold(reactor, kind, channel.as_bytes());
            entry.is_acknowledged[index] = held == Held::Active;
            let key = (kind, channel.as_bytes().into());
            self.by_upstream.insert(key, (name.into(), index));
        }
        self.names.insert(name.into(), entry);
        self.cover(reactor, name);
    }

    fn upstream_of(&self, name: &str) -> (SubscriptionKind, [String; 2]) {
        match pattern::is_pattern(name) {
            true => (SubscriptionKind::Pattern, self.keys.patterns(name)),
            false => (SubscriptionKind::Channel, self.keys.channels(name)),
        }
    }

    /// Notes that the log has all messages of a name from here on, if so.
    fn cover(&mut self, reactor: &Reactor<S>, name: &str) {
        if self.is_ready
            && let Some(entry) = self.names.get_mut(name)
            && entry.is_acknowledged == [true; 2]
            && entry.covered_from.is_none()
        {
            entry.covered_from = Some(reactor.newest_place());
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
            let (kind, upstream) = self.upstream_of(&name);
            for channel in upstream {
                let key = (kind, channel.as_bytes().into());
                self.by_upstream.remove(&key);
                self.redis.release(reactor, kind, channel.as_bytes());
            }
        }
    }
}

/// Subscribes to names for a client, and calls `confirmed` when Redis has acknowledged them all: before this returns, or
/// later. Each name stays subscribed until [`Names::settle_later`] is called.
pub(super) fn want<S: 'static>(
    all: &Rc<RefCell<Names<S>>>,
    reactor: &mut Reactor<S>,
    names: &[Box<str>],
    confirmed: impl FnOnce(&mut Reactor<S>) + 'static,
) {
    for name in names {
        let mut all = all.borrow_mut();
        all.hold(reactor, name);
        if let Some(entry) = all.names.get_mut(name) {
            entry.pending_count += 1;
            entry.unused_since = None;
        }
    }
    wait_for(all, reactor, names, confirmed);
    arm_look(all, reactor);
}

/// Calls `confirmed` when names that are wanted already are confirmed.
pub(super) fn wait_for<S: 'static>(
    all: &Rc<RefCell<Names<S>>>,
    reactor: &mut Reactor<S>,
    names: &[Box<str>],
    confirmed: impl FnOnce(&mut Reactor<S>) + 'static,
) {
    let waiting = Waiting {
        names: names.to_vec(),
        confirmed: Box::new(confirmed),
    };
    all.borrow_mut().waiting.push(waiting);
    call_confirmed(all, reactor);
}

/// Calls back for the clients whose names are all confirmed.
pub(super) fn call_confirmed<S: 'static>(all: &Rc<RefCell<Names<S>>>, reactor: &mut Reactor<S>) {
    let ready = all.borrow_mut().take_confirmed();
    for confirmed in ready {
        confirmed(reactor);
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
