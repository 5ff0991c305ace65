//! Several reactors that are one hub.
//!
//! A reactor is one thread. To use more cores, run more reactors, on one port
//! ([`Config::reuse_port`](crate::Config::reuse_port)) or on several, and let each join one
//! [`ReactorGroup`]: a publication on one reactor then reaches the members on all, in one order for all topics and
//! all reactors. How the order is made stands in `pubsub/sequencer.rs`.
//!
//! A reactor that does not come to its mailbox holds up nobody else's publications: when its mailbox is full, it
//! alone is behind. It reads the rest from the history when it goes on, and its members are told of a gap where
//! the history has forgotten something.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use crate::pubsub::{Event, History, Sequencer};
use crate::reactor::addresses::ClientCounts;
use crate::reactor::outcome::Outcome;
use crate::reactor::published::Published;
use crate::reactor::reactor::{Cx, Reactor};
use crate::reactor::remote::Remote;

use crate::hub::idempotency::SharedIdempotency;

#[cfg(feature = "redis")]
use super::redis::RedisCounts;

/// The limit of [`ReactorGroup::new`] for the pending publications of each reactor, in bytes.
const PENDING_BYTES_MAX: usize = 16 * 1024 * 1024;

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
    remotes: Box<[OnceLock<Remote<S>>]>,
    /// The limit of the publications of each reactor whose outcome is not known, in bytes.
    pending_bytes_max: usize,
    /// How many reactors have asked for a seat, refused ones included.
    join_count: AtomicUsize,
    /// The order of all publications. It begins with the reactor that joins first, in the epoch of that one.
    sequencer: OnceLock<Arc<Sequencer>>,
    /// The bytes that all reactors hold for their clients.
    memory: Arc<AtomicUsize>,
    /// The keys of requests that publish once, whichever reactor they come to.
    idempotency: SharedIdempotency,
    /// Numbers about Redis, for a group that is a node of several.
    #[cfg(feature = "redis")]
    redis: Arc<RedisCounts>,
    /// The connections of each address, and the handshakes of this second, on all reactors.
    clients: ClientCounts,
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
    /// A group that `reactor_count` reactors will join; at least one. The publications of each that others have not
    /// taken are limited to 16 MiB.
    pub fn new(reactor_count: usize) -> ReactorGroup<S> {
        ReactorGroup::with_limit(reactor_count, PENDING_BYTES_MAX)
    }

    /// As [`new`](Self::new), with another limit. `pending_bytes_max` is for each reactor, in bytes: its
    /// publications that not all others have taken. Each counts 256 bytes beside its topic and data. At the limit
    /// [`GroupSeat::publish`] is refused on this reactor. The mailbox of a reactor has room for as much from each.
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
        let remotes = (0..reactor_count.max(1)).map(|_| OnceLock::new());
        ReactorGroup {
            shared: Arc::new(Shared {
                remotes: remotes.collect(),
                pending_bytes_max,
                join_count: AtomicUsize::new(0),
                sequencer: OnceLock::new(),
                memory: Arc::default(),
                idempotency: SharedIdempotency::default(),
                #[cfg(feature = "redis")]
                redis: Arc::default(),
                clients: ClientCounts::default(),
            }),
        }
    }

    /// Gives a reactor its seat. From now on its publications are in the order of the group:
    /// [`Reactor::publish`] too reaches the members on all reactors, and counts those of its own at once.
    ///
    /// # Errors
    ///
    /// When all seats are taken.
    pub fn join(&self, reactor: &mut Reactor<S>) -> io::Result<GroupSeat<S>> {
        let shared = &self.shared;
        let index = shared.join_count.fetch_add(1, Ordering::Relaxed);
        let Some(remote) = shared.remotes.get(index) else {
            let count = shared.remotes.len();
            let why = format!("all {count} seats of the group are taken");
            return Err(io::Error::other(why));
        };
        let sequencer = shared.sequencer.get_or_init(|| {
            let history = History::new(reactor.epoch());
            let count = shared.remotes.len();
            let bytes_max = shared.pending_bytes_max.saturating_mul(count);
            Arc::new(Sequencer::new(count, bytes_max, history))
        });
        reactor.join_sequencer(Arc::clone(sequencer), index);
        reactor.share_memory(Arc::clone(&shared.memory));
        reactor.share_client_counts(&shared.clients);
        // Empty until now: the counter gives each index to one caller only.
        let _ = remote.set(reactor.remote());
        Ok(GroupSeat {
            shared: Arc::clone(shared),
            index,
        })
    }

    /// Runs `call` on each reactor that has joined and not ended, in a turn of that reactor.
    pub fn run_on_all<R: Outcome>(
        &self,
        call: impl Fn(&mut Cx<'_, S>) -> R + Clone + Send + 'static,
    ) {
        for remote in self.shared.remotes.iter().filter_map(OnceLock::get) {
            let _ = remote.run(call.clone());
        }
    }
}

impl<S: 'static> GroupSeat<S> {
    /// Publishes to the members on all reactors, and calls `done` on this one, in a later turn,
    /// when all reactors have queued it to their members.
    ///
    /// `reactor` is the one that took this seat. `done` gets the id and the number of members on all
    /// reactors. Members of a reactor that ends meanwhile, or that does not take it within two seconds, do not
    /// count.
    ///
    /// # Errors
    ///
    /// [`Overloaded`] when publications of this reactor whose `done` was not called have reached
    /// `pending_bytes_max` of the group. Then `done` is not called.
    #[track_caller]
    pub fn publish<'e, R: Outcome>(
        &self,
        reactor: &mut Reactor<S>,
        topic: &str,
        event: impl Into<Event<'e>>,
        done: impl FnOnce(&mut Cx<'_, S>, Published) -> R + 'static,
    ) -> Result<(), Overloaded> {
        if self.is_full(reactor) {
            return Err(Overloaded);
        }
        reactor.publish_counted(topic, &event.into(), None, move |cx, published| {
            let outcome = done(cx, published);
            cx.reactor.note_outcome(outcome);
        });
        Ok(())
    }

    /// The number of this reactor in the group.
    pub(super) fn index(&self) -> usize {
        self.index
    }

    /// Runs `call` on each reactor of the group, in a turn of that reactor.
    #[cfg(feature = "pusher")]
    pub(super) fn run_on_all<R: Outcome>(
        &self,
        call: impl FnOnce(&mut Cx<'_, S>) -> R + Clone + Send + 'static,
    ) {
        for index in 0..self.reactor_count() {
            self.run_on(index, call.clone());
        }
    }

    /// How many reactors the group is made for.
    pub(super) fn reactor_count(&self) -> usize {
        self.shared.remotes.len()
    }

    /// Runs `call` on the reactor at this index of the group. Drops it when that reactor has not joined yet or
    /// has ended.
    pub(super) fn run_on<R: Outcome>(
        &self,
        index: usize,
        call: impl FnOnce(&mut Cx<'_, S>) -> R + Send + 'static,
    ) {
        if let Some(remote) = self.shared.remotes[index].get() {
            let _ = remote.run(call);
        }
    }

    /// As [`run_on`](Self::run_on), on the reactor that has this seat.
    pub(super) fn run_on_own<R: Outcome>(
        &self,
        call: impl FnOnce(&mut Cx<'_, S>) -> R + Send + 'static,
    ) {
        self.run_on(self.index, call);
    }

    /// Numbers about Redis.
    #[cfg(feature = "redis")]
    pub(super) fn redis_counts(&self) -> Arc<RedisCounts> {
        Arc::clone(&self.shared.redis)
    }

    /// The keys of requests that publish once.
    pub(super) fn idempotency(&self) -> &SharedIdempotency {
        &self.shared.idempotency
    }

    /// Whether a publication would be refused.
    pub(super) fn is_full(&self, reactor: &Reactor<S>) -> bool {
        self.assert_own(reactor);
        self.shared.pending_bytes_max <= reactor.pending_publication_bytes()
    }

    /// Whether the publications whose outcome is not known have reached half of the limit.
    pub(super) fn is_half_full(&self, reactor: &Reactor<S>) -> bool {
        self.shared.pending_bytes_max / 2 <= reactor.pending_publication_bytes()
    }

    fn assert_own(&self, reactor: &Reactor<S>) {
        let remote = self.shared.remotes[self.index].get();
        debug_assert!(
            remote.is_some_and(|remote| *remote == reactor.remote()),
            "the seat of another reactor"
        );
    }
}
