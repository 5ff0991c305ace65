//! Several reactors, one hub.
//!
//! A reactor is one thread. To use more cores, run more reactors, on one port
//! ([`Config::reuse_port`](crate::Config::reuse_port)) or on several, and have them join a
//! [`ReactorGroup`]: what is published on one of them reaches the members on all.
//!
//! ```text
//!  publisher's reactor ──▶ home of the topic ──┬──▶ reactor ─▶ its members ──┐
//!          ▲                numbers it         ├──▶ reactor ─▶ its members ──┤
//!          │                                   └──▶ its own members ─────────┤
//!          └───────────── id, and how many got it, from whoever is last ◀────┘
//! ```
//!
//! Every topic has a home, one of the reactors, which is found by a hash of the name. Only the
//! home numbers messages of this topic, and what one thread hands to another arrives in its order;
//! so all members get the messages of a topic in one order. Between topics with different homes
//! there is none, and ids ascend within a topic. All ids are from one sequence and never repeat.
//!
//! What is under way is bounded on the side that publishes: each reactor answers for what it has
//! begun, and refuses more while the others have too much of it before them. So what waits for any
//! reactor is bounded too, by the number of reactors.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::pubsub::{Event, EventId};
use crate::reactor::handler::Cx;
use crate::reactor::reactor::{Published, Reactor};
use crate::reactor::remote::{ReactorEnded, Remote};
use crate::server::router::Router;

use super::Access;

/// What a publication under way counts beside its bytes.
const PUBLICATION_BYTES: usize = 256;

type Done<S> = Box<dyn FnOnce(&mut Cx<'_, S>, Result<Published, ReactorEnded>) + Send>;

/// Reactors of which each serves a part of the members. `Send`, `Sync`, and cheap to clone.
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

/// A publication was refused: the reactors are behind with those before. Nobody has got it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overloaded;

impl std::fmt::Display for Overloaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a reactor is behind with what was published before")
    }
}

impl std::error::Error for Overloaded {}

struct Shared<S> {
    places: Box<[Place<S>]>,
    taken_count: AtomicUsize,
    /// That of the reactor that joined first.
    epoch: OnceLock<u64>,
    numbers: Arc<AtomicU64>,
}

struct Place<S> {
    remote: OnceLock<Remote<S>>,
    /// Of the publications that began here and that somebody has not taken yet. Changed on this
    /// reactor only.
    under_way_bytes: AtomicUsize,
    /// It was refused, and nothing was accepted since.
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
    /// A group that so many reactors will join; at least one.
    ///
    /// Until all have, publishing to some topics fails as if their home had ended.
    pub fn new(reactor_count: usize) -> ReactorGroup<S> {
        let place = |_| Place {
            remote: OnceLock::new(),
            under_way_bytes: AtomicUsize::new(0),
            is_full: AtomicBool::new(false),
        };
        ReactorGroup {
            shared: Arc::new(Shared {
                places: (0..reactor_count.max(1)).map(place).collect(),
                taken_count: AtomicUsize::new(0),
                epoch: OnceLock::new(),
                numbers: Arc::default(),
            }),
        }
    }

    /// Gives a reactor its seat. From now on its ids come from the sequence of all.
    ///
    /// [`Reactor::publish`] still reaches the members of that reactor alone, in no order with what
    /// comes through the group; publish with [`GroupSeat::publish`] where others should hear it.
    ///
    /// # Errors
    ///
    /// When all seats are taken.
    pub fn join(&self, reactor: &mut Reactor<S>) -> io::Result<GroupSeat<S>> {
        let index = self.shared.taken_count.fetch_add(1, Ordering::Relaxed);
        let Some(place) = self.shared.places.get(index) else {
            let count = self.shared.places.len();
            let why = format!("all {count} seats of the group are taken");
            return Err(io::Error::other(why));
        };
        let epoch = *self.shared.epoch.get_or_init(|| reactor.epoch());
        reactor.share_sequence(epoch, Arc::clone(&self.shared.numbers));
        // Nobody else has this index.
        let _ = place.remote.set(reactor.remote());
        Ok(GroupSeat {
            shared: Arc::clone(&self.shared),
            index,
        })
    }

    /// Has `call` run on each reactor that has joined and not ended, in a turn of its own.
    pub fn run_on_all<R>(&self, call: impl Fn(&mut Cx<'_, S>) -> R + Clone + Send + 'static) {
        for index in 0..self.shared.places.len() {
            self.shared.run_on(index, call.clone());
        }
    }
}

impl<S: 'static> Shared<S> {
    fn home_of(&self, topic: &str) -> usize {
        // The same in every run, so that a simulation is; who may publish to topics of their own
        // choice to burden one reactor has the token.
        let mut hasher = DefaultHasher::new();
        topic.hash(&mut hasher);
        (hasher.finish() % self.places.len() as u64) as usize
    }

    /// Drops `call` when the reactor has not joined yet or has ended.
    fn run_on<R>(&self, index: usize, call: impl FnOnce(&mut Cx<'_, S>) -> R + Send + 'static) {
        if let Some(remote) = self.places[index].remote.get() {
            let _ = remote.run(call);
        }
    }
}

impl<S: 'static> GroupSeat<S> {
    /// Adds the hub's routes to a router, as [`mount`](super::mount) does; they publish to the
    /// members of all reactors, and `POST /publish` is answered when all have it.
    pub fn mount(&self, router: &mut Router<S>, access: &Access) {
        super::mount_at(router, access, Some(self));
    }

    /// Publishes to the members on all reactors, and calls `done` on this one, in a later turn,
    /// when all have it in their queues.
    ///
    /// `reactor` is the one that took this seat. `done` gets the id and the sum of the members,
    /// or [`ReactorEnded`] when the home of the topic has ended or not joined yet; then nobody has got it.
    /// Members of a reactor that ends meanwhile do not count.
    ///
    /// # Errors
    ///
    /// [`Overloaded`] when the publications of this reactor that are under way are above
    /// [`Config::federation_bytes_max`](crate::Config::federation_bytes_max). Then `done` is not
    /// called.
    pub fn publish<'e, R>(
        &self,
        reactor: &mut Reactor<S>,
        topic: &str,
        event: impl Into<Event<'e>>,
        done: impl FnOnce(&mut Cx<'_, S>, Result<Published, ReactorEnded>) -> R + Send + 'static,
    ) -> Result<(), Overloaded> {
        let event = event.into();
        let bytes = PUBLICATION_BYTES
            + topic.len()
            + event.name().map_or(0, str::len)
            + event.payload().as_bytes().len();
        self.admit(reactor, bytes)?;
        let under_way = Arc::new(UnderWay {
            shared: Arc::clone(&self.shared),
            publisher: self.index,
            bytes,
            topic: topic.into(),
            event: event.into_owned(),
            id: OnceLock::new(),
            delivered: AtomicUsize::new(0),
            done: Mutex::new(Some(Box::new(move |cx, outcome| {
                done(cx, outcome);
            }))),
        });
        let home = self.shared.home_of(topic);
        if home == self.index {
            fan_out(&under_way, home, reactor);
        } else {
            self.shared
                .run_on(home, move |cx| fan_out(&under_way, home, cx.reactor));
        }
        Ok(())
    }

    fn admit(&self, reactor: &Reactor<S>, bytes: usize) -> Result<(), Overloaded> {
        let place = &self.shared.places[self.index];
        debug_assert!(
            place
                .remote
                .get()
                .is_some_and(|remote| Arc::ptr_eq(&remote.mailbox, &reactor.mailbox)),
            "the seat of another reactor"
        );
        let under_way_bytes = place.under_way_bytes.load(Ordering::Relaxed);
        let is_full = reactor.config().federation_bytes_max <= under_way_bytes;
        let was_full = place.is_full.swap(is_full, Ordering::Relaxed);
        if is_full {
            if !was_full {
                log::warn!("publishing is refused: {under_way_bytes} bytes wait for a reactor");
            }
            return Err(Overloaded);
        }
        place.under_way_bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Whether it is time to slow down who publishes much.
    pub(super) fn is_half_full(&self, reactor: &Reactor<S>) -> bool {
        let place = &self.shared.places[self.index];
        let under_way_bytes = place.under_way_bytes.load(Ordering::Relaxed);
        reactor.config().federation_bytes_max / 2 <= under_way_bytes
    }
}

/// One publication, on its way to all reactors. Each that has yet to take it holds a reference;
/// with the last one, however that ends, the publisher is told.
struct UnderWay<S: 'static> {
    shared: Arc<Shared<S>>,
    publisher: usize,
    bytes: usize,
    topic: Box<str>,
    event: Event<'static>,
    /// Given by the home of the topic.
    id: OnceLock<EventId>,
    delivered: AtomicUsize,
    /// Never locked: in a `Mutex` because it need not be `Sync` there.
    done: Mutex<Option<Done<S>>>,
}

/// Numbers a publication on its home, and hands it to all the others.
fn fan_out<S: 'static>(under_way: &Arc<UnderWay<S>>, home: usize, reactor: &mut Reactor<S>) {
    let id = *under_way.id.get_or_init(|| reactor.next_event_id());
    // The others first: they deliver while this one does.
    for index in (0..under_way.shared.places.len()).filter(|index| *index != home) {
        let part = Arc::clone(under_way);
        under_way
            .shared
            .run_on(index, move |cx| part.deliver(id, cx.reactor));
    }
    under_way.deliver(id, reactor);
}

impl<S: 'static> UnderWay<S> {
    fn deliver(&self, id: EventId, reactor: &mut Reactor<S>) {
        let delivered = reactor.deliver(&self.topic, id, &self.event, None);
        self.delivered.fetch_add(delivered, Ordering::Relaxed);
    }
}

impl<S: 'static> Drop for UnderWay<S> {
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
        let shared = Arc::clone(&self.shared);
        self.shared.run_on(publisher, move |cx| {
            let place = &shared.places[publisher];
            place.under_way_bytes.fetch_sub(bytes, Ordering::Relaxed);
            done(cx, outcome);
        });
    }
}
