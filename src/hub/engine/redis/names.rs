//! The names of clients that are subscribed in Redis: two channels for a topic, two patterns for a pattern.
//!
//! A name is wanted while a client waits for it or is a member of it, and for [`LINGER`] longer. It is confirmed when
//! Redis has acknowledged both of its subscriptions, and the link is not catching up. From the place of the
//! confirmation on, the log of this reactor has all messages of the name.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
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

/// Redis has refused to subscribe one of the names of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused;

/// Called when all names of a client are confirmed, or one is refused.
type Confirmed<S> = Box<dyn FnOnce(&mut Reactor<S>, Result<(), Refused>)>;

/// The names that are subscribed, and the clients that wait for them.
pub(super) struct Names<S: 'static> {
    redis: Redis<S>,
    keys: Keys,
    /// The reactor has caught up: what is acknowledged is confirmed.
    is_ready: bool,
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

#[derive(Default)]
struct Name {
    /// Clients that wait for the confirmation, or have it and are not members yet.
    pending_count: usize,
    has_members: bool,
    /// Which of the two subscriptions Redis has acknowledged.
    is_acknowledged: [bool; 2],
    /// Redis has refused a subscription. The next client that wants it has Redis asked again.
    is_refused: bool,
    /// The place in the log from which on it has all messages of the name.
    covered_from: Option<u64>,
    /// Without members since this time.
    unused_since: Option<Duration>,
    /// The tickets of clients for which this is the first of their names that is not confirmed.
    tickets: BTreeSet<u64>,
}

impl Name {
    fn is_used(&self) -> bool {
        self.has_members || self.pending_count != 0
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
    pub(super) fn new(redis: &Redis<S>, keys: &Keys) -> Names<S> {
        Names {
            redis: redis.clone(),
            keys: keys.clone(),
            is_ready: false,
            names: HashMap::new(),
            by_upstream: HashMap::new(),
            waiting: BTreeMap::new(),
            last_ticket: 0,
            settled: Vec::new(),
            has_timer: false,
        }
    }

    /// The link is lost: nothing is acknowledged.
    pub(super) fn forget_confirmations(&mut self) {
        self.is_ready = false;
        for name in self.names.values_mut() {
            name.is_acknowledged = [false; 2];
            name.is_refused = false;
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

    /// The log has all messages of those of these names that are confirmed from this place on, which is earlier.
    pub(super) fn cover_members_from<'n>(
        &mut self,
        names: impl IntoIterator<Item = &'n str>,
        place: u64,
    ) {
        for name in names {
            if let Some(entry) = self.names.get_mut(name)
                && entry.covered_from.is_some()
            {
                entry.covered_from = Some(place);
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

    /// Redis has acknowledged a subscription. Returns its name.
    fn acknowledge(
        &mut self,
        reactor: &mut Reactor<S>,
        kind: SubscriptionKind,
        upstream: &[u8],
    ) -> Option<Box<str>> {
        let key = (kind, Box::from(upstream));
        let (name, index) = self.by_upstream.get(&key).cloned()?;
        if let Some(entry) = self.names.get_mut(&name) {
            entry.is_acknowledged[index] = true;
        }
        self.cover(reactor, &name);
        Some(name)
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
        let entry = self.names.get_mut(name);
        let entry = entry.filter(|entry| entry.covered_from.is_some());
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
        let waiting = self.waiting.get_mut(&ticket)?;
        let names = &mut self.names;
        if let Some(entry) = (waiting.names.get(waiting.index)).and_then(|it| names.get_mut(it)) {
            entry.tickets.remove(&ticket);
        }
        let is_confirmed =
            |name: &str| (names.get(name)).is_some_and(|it| it.covered_from.is_some());
        // A link that was lost since has ended earlier confirmations too.
        let Some(index) = waiting.names.iter().position(|it| !is_confirmed(it)) else {
            return self.waiting.remove(&ticket).map(|it| it.confirmed);
        };
        waiting.index = index;
        if let Some(entry) = names.get_mut(&waiting.names[index]) {
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

    /// Has a name subscribed that was refused. It is held already, and one more hold has the command sent.
    fn ask_again(&mut self, reactor: &mut Reactor<S>, name: &str) {
        let (kind, upstream) = self.upstream_of(name);
        for channel in upstream {
            self.redis.hold(reactor, kind, channel.as_bytes());
            self.redis.release(reactor, kind, channel.as_bytes());
        }
    }

    fn upstream_of(&self, name: &str) -> (SubscriptionKind, [String; 2]) {
        match pattern::is_pattern(name) {
            true => (SubscriptionKind::Pattern, self.keys.patterns(name)),
            false => (SubscriptionKind::Channel, self.keys.channels(name)),
        }
    }

    /// Notes that the log has all messages of a name from here on, if so.
    fn cover(&mut self, reactor: &mut Reactor<S>, name: &str) {
        if self.is_ready
            && let Some(entry) = self.names.get_mut(name)
            && entry.is_acknowledged == [true; 2]
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
    let ready = {
        let mut all = all.borrow_mut();
        let Some(name) = all.acknowledge(reactor, kind, upstream) else {
            return;
        };
        all.take_confirmed(&name)
    };
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
        let Some((name, _)) = all.by_upstream.get(&(kind, Box::from(upstream))).cloned() else {
            return;
        };
        if let Some(entry) = all.names.get_mut(&name) {
            entry.is_refused = true;
        }
        let tickets: Vec<u64> = (all.waiting.iter())
            .filter(|(_, waiting)| waiting.names.contains(&name))
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
