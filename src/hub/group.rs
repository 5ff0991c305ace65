//! Several reactors that are one hub.
//!
//! A reactor is one thread. To use more cores, run more reactors, on one port
//! ([`Config::reuse_port`](crate::Config::reuse_port)) or on several, and let each join one
//! [`ReactorGroup`]: a publication on one reactor then reaches the members on all.
//!
//! ```text
//!  publisher's reactor ──▶ home of the topic ──┬──▶ reactor ─▶ its members ──┐
//!          ▲                numbers it         ├──▶ reactor ─▶ its members ──┤
//!          │                                   └──▶ its own members ─────────┤
//!          └──────────── id and member count, from the last reactor ◀────────┘
//! ```
//!
//! Every topic has a home: one of the reactors, found by a hash of the name. Only the home numbers
//! the publications of the topic, and calls from one thread to another arrive in the order in which
//! they were handed over. So all members get the publications of a topic in one order, with
//! ascending ids. Publications of topics with different homes have no common order. The ids of all
//! topics come from one sequence and never repeat.
//!
//! The publisher's side limits what is pending: each reactor counts the bytes of the publications
//! that it sent and that some reactor has not taken yet, and refuses more at its limit. So the queue of
//! calls in front of any reactor is limited too, by that limit times the number of reactors.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::pubsub::{Event, EventId};
use crate::reactor::addresses::ClientCounts;
use crate::reactor::outcome::Outcome;
use crate::reactor::reactor::Cx;
use crate::reactor::reactor::Reactor;
use crate::reactor::remote::{ReactorEnded, Remote};
use crate::reactor::topics::Published;

/// The limit of [`ReactorGroup::new`] for the pending publications of each reactor, in bytes.
const PENDING_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The bytes that a pending publication counts beside its topic, event name and data.
const PUBLICATION_BYTES: usize = 256;

/// Called with the topic and the outcome of a publication.
type Done<S> = Box<dyn FnOnce(&mut Cx<'_, S>, &str, Result<Published, ReactorEnded>) + Send>;

/// Reactors that each serve a part of the members of one hub. `Send`, `Sync`, and cheap to clone.
///
/// ```no_run
/// use std::{io, thread};
/// use waterwheel::hub::{Access, ReactorGroup};
/// use waterwheel::{Config, Reactor};
///
/// let group = ReactorGroup::new(4);
/// let run = || {
///     let config = Config { reuse_port: true, ..Config::default() };
///     Reactor::run_with(config, (), |reactor| {
///         let seat = group.join(reactor)?;
///         let access = Access { is_loopback: true, ..Access::default() };
///         reactor.http("127.0.0.1:8080", |router| seat.mount(router, &access))
///     })
/// };
/// thread::scope(|scope| {
///     let threads = [(); 4].map(|()| scope.spawn(run));
///     threads.into_iter().try_for_each(|thread| thread.join().expect("no panic"))
/// })?;
/// # io::Result::Ok(())
/// ```
pub struct ReactorGroup<S> {
    shared: Arc<Shared<S>>,
}

/// The place of one reactor in a [`ReactorGroup`].
pub struct GroupSeat<S> {
    shared: Arc<Shared<S>>,
    index: usize,
}

/// A publication was refused because too much is pending before it. It has reached no member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overloaded;

impl std::fmt::Display for Overloaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a reactor has not caught up with earlier publications")
    }
}

impl std::error::Error for Overloaded {}

struct Shared<S> {
    places: Box<[Place<S>]>,
    /// The limit of [`Place::pending_bytes`], for each reactor.
    pending_bytes_max: usize,
    /// How many reactors have asked for a seat, refused ones included.
    join_count: AtomicUsize,
    /// The epoch of the reactor that joined first.
    epoch: OnceLock<u64>,
    /// The bytes that all reactors hold for their clients.
    memory: Arc<AtomicUsize>,
    /// The connections of each address, and the handshakes of this second, on all reactors.
    clients: ClientCounts,
    /// How many reactors have not drained. A reactor without connections still orders the publications of its
    /// topics, so it goes on until the others have drained too.
    undrained_count: Arc<AtomicUsize>,
    /// The last number that was given to a publication of any of the reactors.
    last_number: Arc<AtomicU64>,
}

/// The state of one reactor in the group.
struct Place<S> {
    remote: OnceLock<Remote<S>>,
    /// The bytes of the publications that this reactor has begun and not all reactors have taken. Changed on
    /// this reactor's thread only, so that asking and then adding is no race.
    pending_bytes: AtomicUsize,
    /// Whether the latest publication of this reactor was refused. The first refusal of a row is logged.
    is_full: AtomicBool,
}

impl<S> Clone for ReactorGroup<S> {
    fn clone(&self) -> Self {
        ReactorGroup {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<S> Clone for GroupSeat<S> {
    fn clone(&self) -> Self {
        GroupSeat {
            shared: Arc::clone(&self.shared),
            index: self.index,
        }
    }
}

impl<S: 'static> ReactorGroup<S> {
    /// A group that `reactor_count` reactors will join; at least one. The publications that each of
    /// them has begun and others have not taken are limited to 16 MiB.
    ///
    /// Until all have joined, publishing to some topics fails as if their home had ended.
    pub fn new(reactor_count: usize) -> ReactorGroup<S> {
        ReactorGroup::with_limit(reactor_count, PENDING_BYTES_MAX)
    }

    /// As [`new`](Self::new), with another limit. `pending_bytes_max` is for each reactor, in bytes:
    /// the publications it has begun and not all reactors have taken. Each counts 256 bytes beside
    /// its topic, event name and data. At the limit the reactor refuses to publish more until others
    /// have caught up.
    ///
    /// # Errors
    ///
    /// Of kind `InvalidInput` when `pending_bytes_max` is zero: every publication would be refused.
    pub fn with_pending_bytes_max(
        reactor_count: usize,
        pending_bytes_max: usize,
    ) -> io::Result<ReactorGroup<S>> {
        if pending_bytes_max == 0 {
            let why = "pending_bytes_max of a ReactorGroup is 0, expected at least 1";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        Ok(ReactorGroup::with_limit(reactor_count, pending_bytes_max))
    }

    fn with_limit(reactor_count: usize, pending_bytes_max: usize) -> ReactorGroup<S> {
        let place = |_| Place {
            remote: OnceLock::new(),
            pending_bytes: AtomicUsize::new(0),
            is_full: AtomicBool::new(false),
        };
        ReactorGroup {
            shared: Arc::new(Shared {
                places: (0..reactor_count.max(1)).map(place).collect(),
                pending_bytes_max,
                join_count: AtomicUsize::new(0),
                epoch: OnceLock::new(),
                memory: Arc::default(),
                clients: ClientCounts::default(),
                undrained_count: Arc::default(),
                last_number: Arc::default(),
            }),
        }
    }

    /// Gives a reactor its seat. From now on its ids come from the sequence of the group.
    ///
    /// [`Reactor::publish`] still reaches the members of that reactor alone, in no order with the
    /// publications of the group. [`GroupSeat::publish`] reaches the members on all reactors.
    ///
    /// # Errors
    ///
    /// When all seats are taken.
    pub fn join(&self, reactor: &mut Reactor<S>) -> io::Result<GroupSeat<S>> {
        let index = self.shared.join_count.fetch_add(1, Ordering::Relaxed);
        let Some(place) = self.shared.places.get(index) else {
            let count = self.shared.places.len();
            let why = format!("all {count} seats of the group are taken");
            return Err(io::Error::other(why));
        };
        let epoch = *self.shared.epoch.get_or_init(|| reactor.epoch());
        reactor.number_publications(epoch, Arc::clone(&self.shared.last_number));
        reactor.drain_with(&self.shared.undrained_count);
        reactor.share_memory(Arc::clone(&self.shared.memory));
        reactor.share_client_counts(&self.shared.clients);
        // Empty until now: the counter gives each index to one caller only.
        let _ = place.remote.set(reactor.remote());
        Ok(GroupSeat {
            shared: Arc::clone(&self.shared),
            index,
        })
    }

    /// Runs `call` on each reactor that has joined and not ended, in a turn of that reactor.
    pub fn run_on_all<R: Outcome>(
        &self,
        call: impl Fn(&mut Cx<'_, S>) -> R + Clone + Send + 'static,
    ) {
        for index in 0..self.shared.places.len() {
            self.shared.run_on(index, call.clone());
        }
    }
}

impl<S: 'static> Shared<S> {
    fn home_of(&self, topic: &str) -> usize {
        // Not seeded, so that a simulation is the same in every run. Topic names that all hash to one
        // reactor could burden it, but publishing needs the token.
        let mut hasher = DefaultHasher::new();
        topic.hash(&mut hasher);
        (hasher.finish() % self.places.len() as u64) as usize
    }

    /// Drops `call` when the reactor has not joined yet or has ended.
    fn run_on<R: Outcome>(
        &self,
        index: usize,
        call: impl FnOnce(&mut Cx<'_, S>) -> R + Send + 'static,
    ) {
        if let Some(remote) = self.places[index].remote.get() {
            let _ = remote.run(call);
        }
    }
}

impl<S: 'static> GroupSeat<S> {
    /// Publishes to the members on all reactors, and calls `done` on this one, in a later turn,
    /// when all reactors have queued it to their members.
    ///
    /// `reactor` is the one that took this seat. `done` gets the id and the number of members on all
    /// reactors. It gets [`ReactorEnded`] when the home of the topic has ended or has not joined
    /// yet; the publication has then reached no member. Members of a reactor that ends meanwhile do
    /// not count.
    ///
    /// # Errors
    ///
    /// [`Overloaded`] when the pending publications of this reactor have reached
    /// `pending_bytes_max` of the group. Then `done` is not called.
    pub fn publish<'e, R: Outcome>(
        &self,
        reactor: &mut Reactor<S>,
        topic: &str,
        event: impl Into<Event<'e>>,
        done: impl FnOnce(&mut Cx<'_, S>, Result<Published, ReactorEnded>) -> R + Send + 'static,
    ) -> Result<(), Overloaded> {
        let done = move |cx: &mut Cx<'_, S>, _: &str, outcome: Result<_, _>| {
            let outcome = done(cx, outcome);
            cx.reactor.note_outcome(outcome);
        };
        self.begin(reactor, topic, event.into(), Box::new(done))
    }

    /// As [`publish`](Self::publish); `done` gets the topic too, so that a caller that needs it need
    /// not copy it once more.
    pub(super) fn publish_with_topic(
        &self,
        reactor: &mut Reactor<S>,
        topic: &str,
        event: Event<'_>,
        done: impl FnOnce(&mut Reactor<S>, &str, Result<Published, ReactorEnded>) + Send + 'static,
    ) -> Result<(), Overloaded> {
        let done = move |cx: &mut Cx<'_, S>, topic: &str, outcome: Result<_, _>| {
            done(cx.reactor, topic, outcome);
        };
        self.begin(reactor, topic, event, Box::new(done))
    }

    /// Publishes one event to several topics. Calls `done` with the outcomes, in the order of the
    /// topics, when all of them are there.
    ///
    /// # Errors
    ///
    /// As [`publish`](Self::publish); then the event has reached none of the topics.
    pub(super) fn publish_to_all(
        &self,
        reactor: &mut Reactor<S>,
        topics: &[impl AsRef<str>],
        event: &Event<'_>,
        done: impl FnOnce(&mut Reactor<S>, Vec<Result<Published, ReactorEnded>>) + Send + 'static,
    ) -> Result<(), Overloaded> {
        let bytes = topics.iter().map(|topic| bytes_of(topic.as_ref(), event));
        self.admit(reactor, bytes.sum())?;
        // Each outcome is reported on this reactor's thread; the `Mutex` only makes the list `Send`.
        let outcomes = Arc::new(Mutex::new(Outcomes {
            of_topics: vec![Err(ReactorEnded); topics.len()],
            missing_count: topics.len(),
            done: Some(done),
        }));
        for (index, topic) in topics.iter().enumerate() {
            let outcomes = Arc::clone(&outcomes);
            let done = move |cx: &mut Cx<'_, S>, _: &str, outcome: Result<_, _>| {
                let all = {
                    let mut outcomes = outcomes.lock().unwrap_or_else(PoisonError::into_inner);
                    outcomes.add(index, outcome)
                };
                if let Some((done, of_topics)) = all {
                    done(cx.reactor, of_topics);
                }
            };
            self.begin_admitted(reactor, topic.as_ref(), event.clone(), Box::new(done));
        }
        Ok(())
    }

    fn begin(
        &self,
        reactor: &mut Reactor<S>,
        topic: &str,
        event: Event<'_>,
        done: Done<S>,
    ) -> Result<(), Overloaded> {
        self.admit(reactor, bytes_of(topic, &event))?;
        self.begin_admitted(reactor, topic, event, done);
        Ok(())
    }

    fn begin_admitted(
        &self,
        reactor: &mut Reactor<S>,
        topic: &str,
        event: Event<'_>,
        done: Done<S>,
    ) {
        let bytes = bytes_of(topic, &event);
        let pending = Arc::new(Pending {
            shared: Arc::clone(&self.shared),
            publisher: self.index,
            bytes,
            topic: topic.into(),
            event: event.into_owned(),
            id: OnceLock::new(),
            delivered: AtomicUsize::new(0),
            done: Mutex::new(Some(done)),
        });
        let home = self.shared.home_of(topic);
        if home == self.index {
            fan_out(&pending, home, reactor);
        } else {
            self.shared
                .run_on(home, move |cx| fan_out(&pending, home, cx.reactor));
        }
    }

    fn admit(&self, reactor: &Reactor<S>, bytes: usize) -> Result<(), Overloaded> {
        let place = &self.shared.places[self.index];
        debug_assert!(
            place
                .remote
                .get()
                .is_some_and(|remote| *remote == reactor.remote()),
            "the seat of another reactor"
        );
        let pending_bytes = place.pending_bytes.load(Ordering::Relaxed);
        let is_full = self.shared.pending_bytes_max <= pending_bytes;
        let was_full = place.is_full.swap(is_full, Ordering::Relaxed);
        if is_full {
            if !was_full {
                log::warn!("publishing is refused: {pending_bytes} bytes wait for a reactor");
            }
            return Err(Overloaded);
        }
        place.pending_bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// How many reactors the group is made for.
    pub(super) fn reactor_count(&self) -> usize {
        self.shared.places.len()
    }

    /// Runs `call` on the reactor at this index of the group. Drops it when that reactor has not joined yet or
    /// has ended.
    pub(super) fn run_on<R: Outcome>(
        &self,
        index: usize,
        call: impl FnOnce(&mut Cx<'_, S>) -> R + Send + 'static,
    ) {
        self.shared.run_on(index, call);
    }

    /// As [`run_on`](Self::run_on), on the reactor that has this seat.
    pub(super) fn run_on_own<R: Outcome>(
        &self,
        call: impl FnOnce(&mut Cx<'_, S>) -> R + Send + 'static,
    ) {
        self.shared.run_on(self.index, call);
    }

    /// Whether the pending publications of this reactor have reached half of the limit.
    pub(super) fn is_half_full(&self) -> bool {
        let place = &self.shared.places[self.index];
        let pending_bytes = place.pending_bytes.load(Ordering::Relaxed);
        self.shared.pending_bytes_max / 2 <= pending_bytes
    }
}

/// The bytes that a publication counts while it is pending.
fn bytes_of(topic: &str, event: &Event<'_>) -> usize {
    let name_bytes = event.name().map_or(0, str::len);
    PUBLICATION_BYTES + topic.len() + name_bytes + event.payload().as_bytes().len()
}

/// The outcomes of one event that was published to several topics.
struct Outcomes<D> {
    of_topics: Vec<Result<Published, ReactorEnded>>,
    missing_count: usize,
    /// Taken with the last outcome.
    done: Option<D>,
}

impl<D> Outcomes<D> {
    /// Notes an outcome. Returns what to call, and with which outcomes, when it is the last one.
    fn add(
        &mut self,
        index: usize,
        outcome: Result<Published, ReactorEnded>,
    ) -> Option<(D, Vec<Result<Published, ReactorEnded>>)> {
        self.of_topics[index] = outcome;
        self.missing_count -= 1;
        if self.missing_count != 0 {
            return None;
        }
        let done = self.done.take()?;
        Some((done, std::mem::take(&mut self.of_topics)))
    }
}

/// One publication on its way to all reactors. Each reactor that has yet to take it holds a
/// reference. Dropping the last reference reports the outcome to the publisher's reactor, also where
/// a reactor has ended and dropped its reference unused.
struct Pending<S: 'static> {
    shared: Arc<Shared<S>>,
    publisher: usize,
    bytes: usize,
    topic: Box<str>,
    event: Event<'static>,
    /// Set by the home of the topic.
    id: OnceLock<EventId>,
    delivered: AtomicUsize,
    /// Never locked. The `Mutex` makes this struct `Sync` although the closure is only `Send`.
    done: Mutex<Option<Done<S>>>,
}

/// Numbers a publication, on the home of its topic, and hands it to all reactors.
fn fan_out<S: 'static>(pending: &Arc<Pending<S>>, home: usize, reactor: &mut Reactor<S>) {
    let id = *pending.id.get_or_init(|| reactor.next_event_id());
    // The other reactors first, so that they deliver at the same time as this one.
    let shared = &pending.shared;
    for index in (0..shared.places.len()).filter(|index| *index != home) {
        let pending = Arc::clone(pending);
        shared.run_on(index, move |cx| pending.deliver(id, cx.reactor));
    }
    pending.deliver(id, reactor);
}

impl<S: 'static> Pending<S> {
    fn deliver(&self, id: EventId, reactor: &mut Reactor<S>) {
        let delivered = reactor.deliver(&self.topic, id, &self.event, None);
        self.delivered.fetch_add(delivered, Ordering::Relaxed);
    }
}

impl<S: 'static> Drop for Pending<S> {
    fn drop(&mut self) {
        let done = self.done.get_mut().unwrap_or_else(PoisonError::into_inner);
        let Some(done) = done.take() else {
            return;
        };
        let delivered = *self.delivered.get_mut();
        let outcome = match self.id.get() {
            Some(id) => Ok(Published { id: *id, delivered }),
            None => Err(ReactorEnded),
        };
        let (publisher, bytes) = (self.publisher, self.bytes);
        let topic = std::mem::take(&mut self.topic);
        let shared = Arc::clone(&self.shared);
        self.shared.run_on(publisher, move |cx| {
            let place = &shared.places[publisher];
            place.pending_bytes.fetch_sub(bytes, Ordering::Relaxed);
            done(cx, &topic, outcome);
        });
    }
}
