//! The engine of a hub: what orders publications, numbers them and stores them.
//!
//! ```text
//!   roles:   WebSocket      event stream      long poll      POST
//!                \\              |               |            /
//!                 publish, subscribe, read history, cursor, head
//!                 +---------------- Engine ----------------+
//!                 |  local          group                  |
//!                 |  this reactor   several: one lock      |
//!                 +----------------------------------------+
//!                 number, history, latest values | what to deliver
//!                                                v
//!                       reactor: counts members, encodes, queues
//! ```
//!
//! Roles and grammars ask the engine and never which one it is. Answers may come in a later turn, also to a
//! subscription: a client is told that it is subscribed when the engine has confirmed it. The order, the numbers
//! and the store are the engine's; the members, their wire formats and their queues are those of the reactor that it
//! runs on.
//!
//! To add an engine, such as Redis: a variant of [`Kind`]. The compiler asks for its arm in each method.

mod ask;
#[cfg(feature = "redis")]
mod delivered;
mod group;
mod local;
#[cfg(feature = "redis")]
mod redis;
mod repeat;
mod source;

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

#[cfg(feature = "cable")]
use crate::pubsub::TopicError;
use crate::pubsub::{Event, EventId, Rules, Since};
use crate::reactor::id::ConnId;
#[cfg(feature = "cable")]
use crate::reactor::observers::ObserverId;
use crate::reactor::published::Published;
#[cfg(feature = "cable")]
use crate::reactor::reactor::Observe;
use crate::reactor::reactor::{Cx, Reactor};
use crate::server::reply::Reply;
use crate::server::request::Request;
use crate::session::handler::Ws;

use super::idempotency::SharedIdempotency;
use super::order::Order;

#[cfg(feature = "redis")]
pub use self::redis::RedisPublishError;
#[cfg(feature = "redis")]
use self::redis::{RedisEngine, RedisNumbers};

pub use self::ask::Answers;
pub use self::group::{GroupSeat, Overloaded, ReactorGroup};
pub(super) use self::repeat::{PublishedOnce, RequestKey};
pub(super) use self::source::{ReadFor, Source, Start};

enum Kind<S: 'static> {
    /// This reactor alone. Outcomes are there at once.
    Local,
    /// Several reactors. The outcome is there when all of them have the publication.
    Group(GroupSeat<S>),
    /// Several nodes. The outcome is there when Redis has answered. With the seat in the group of this node's reactors, where
    /// there are several.
    #[cfg(feature = "redis")]
    Redis(RedisEngine<S>, Option<GroupSeat<S>>),
}

/// The place of a connection among those of all reactors and nodes of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The reactor, as the engine knows it.
    origin: u64,
    id: ConnId,
}

#[allow(dead_code, reason = "roles need it, and not every build has one")]
impl Place {
    /// An id of a session at this place: a random number, which must not be guessed, a dot, and the place.
    pub(super) fn to_session_id(self) -> String {
        let place = (u128::from(self.origin) << 64) | u128::from(self.id.to_bits());
        format!("{}.{place}", rand::random::<u64>())
    }

    /// The place of an [id of a session](Self::to_session_id). `None` where it is none.
    pub(super) fn of_session_id(id: &str) -> Option<Place> {
        let (_, place) = id.split_once('.')?;
        let number = place.parse::<u128>().ok()?;
        Some(Place {
            origin: (number >> 64) as u64,
            id: ConnId::from_bits(number as u64),
        })
    }
}

/// The engine of one hub, as its roles see it on one reactor.
pub(super) struct Engine<S: 'static> {
    kind: Kind<S>,
    idempotency: SharedIdempotency,
}

/// Why an event was not published, or perhaps not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PublishError {
    /// The reactors of a group are behind. It has reached no member.
    Overloaded(Overloaded),
    /// The idempotency key was used for another request. It was not published.
    KeyUsed,
    /// Redis has not carried it out, or has not said so.
    #[cfg(feature = "redis")]
    Redis(RedisPublishError),
}

impl std::error::Error for PublishError {}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PublishError::Overloaded(error) => error.fmt(f),
            PublishError::KeyUsed => {
                f.write_str("the idempotency key was used for another request")
            }
            #[cfg(feature = "redis")]
            PublishError::Redis(error) => error.fmt(f),
        }
    }
}

#[cfg(feature = "redis")]
impl From<RedisPublishError> for PublishError {
    fn from(error: RedisPublishError) -> PublishError {
        match error {
            RedisPublishError::KeyUsed => PublishError::KeyUsed,
            error => PublishError::Redis(error),
        }
    }
}

impl<S: 'static> Engine<S> {
    /// Publishes to the members on this reactor.
    pub(super) fn local() -> Engine<S> {
        Engine {
            kind: Kind::Local,
            idempotency: SharedIdempotency::default(),
        }
    }

    /// Publishes to the members on all reactors of a group.
    pub(super) fn group(seat: GroupSeat<S>) -> Engine<S> {
        Engine {
            idempotency: Arc::clone(seat.idempotency()),
            kind: Kind::Group(seat),
        }
    }

    /// Publishes to the members on all nodes of one Redis.
    ///
    /// # Errors
    ///
    /// When the URL cannot be parsed.
    #[cfg(feature = "redis")]
    pub(super) fn redis(
        reactor: &mut Reactor<S>,
        seat: Option<&GroupSeat<S>>,
        url: &str,
        prefix: Option<&str>,
    ) -> std::io::Result<Engine<S>> {
        reactor.leave_sequencer();
        let counts = seat.map(GroupSeat::redis_counts).unwrap_or_default();
        let engine = RedisEngine::connect(reactor, url, prefix, counts)?;
        if let Some(seat) = seat.filter(|seat| 1 < seat.reactor_count()) {
            reactor.note_deliveries();
            engine.count_on_node(delivered::counter(seat));
        }
        Ok(Engine {
            kind: Kind::Redis(engine, seat.cloned()),
            idempotency: match seat {
                Some(seat) => Arc::clone(seat.idempotency()),
                None => SharedIdempotency::default(),
            },
        })
    }

    // ── publishing ───────────────────────────────────────────────────────────────────────────

    /// The place of a connection of this reactor among those of all reactors and nodes.
    #[allow(dead_code, reason = "roles need it, and not every build has one")]
    pub(super) fn place_of(&self, id: ConnId) -> Place {
        let origin = match &self.kind {
            Kind::Local => 0,
            Kind::Group(seat) => seat.index() as u64,
            #[cfg(feature = "redis")]
            Kind::Redis(engine, _) => engine.origin(),
        };
        Place { origin, id }
    }

    /// Publishes an event, and calls `done` once with the outcome: before this returns, or in a later turn.
    /// `except` is left out.
    ///
    /// # Errors
    ///
    /// [`PublishError`]. Then `done` is not called.
    pub(super) fn publish(
        &self,
        reactor: &mut Reactor<S>,
        topic: &str,
        event: Event<'_>,
        except: Option<Place>,
        done: impl FnOnce(&mut Reactor<S>, Result<Published, PublishError>) + 'static,
    ) -> Result<(), PublishError> {
        match &self.kind {
            Kind::Local => {
                let except = except.map(|place| place.id);
                let published = local::publish(reactor, topic, event, except);
                done(reactor, Ok(published));
            }
            Kind::Group(seat) => {
                if seat.is_full(reactor) {
                    return Err(PublishError::Overloaded(Overloaded));
                }
                let except = except.map(|place| (place.origin as usize, place.id));
                reactor.publish_counted(topic, &event, except, |cx, published| {
                    done(cx.reactor, Ok(published));
                });
            }
            #[cfg(feature = "redis")]
            Kind::Redis(engine, _) => {
                let except = except.map(|place| (place.origin, place.id));
                engine.publish(reactor, topic, &event, except, |reactor, it| {
                    done(reactor, it.map_err(PublishError::Redis));
                })
            }
        }
        Ok(())
    }

    /// Publishes one event to each of the topics for a request, and answers it with what `reply`
    /// makes of the outcome: what was published to each topic, in their order.
    ///
    /// The connection of a request is not read while the request waits for its answer. So one
    /// connection has one request pending, and needs no other back-pressure.
    pub(super) fn publish_request(
        &self,
        request: &mut Request<'_, '_, S>,
        topics: &[Cow<'_, str>],
        event: &Event<'_>,
        reply: fn(Result<&[Published], PublishError>) -> Reply,
    ) {
        match &self.kind {
            Kind::Local => {
                let reactor = &mut *request.reactor;
                let mut publish =
                    |topic: &Cow<'_, str>| local::publish(reactor, topic, event.clone(), None);
                let answer = match topics {
                    // Most requests name one topic, whose outcome needs no list on the heap.
                    [topic] => reply(Ok(&[publish(topic)])),
                    _ => reply(Ok(&topics.iter().map(publish).collect::<Vec<_>>())),
                };
                request.reply(answer);
            }
            Kind::Group(seat) => {
                if seat.is_full(request.reactor) {
                    let refused = Err(PublishError::Overloaded(Overloaded));
                    request.reply(reply(refused));
                    return;
                }
                let responder = request.reply_later();
                let done = move |reactor: &mut Reactor<S>, published: &[Published]| {
                    reactor.reply(responder, reply(Ok(published)));
                };
                let items = topics.iter().map(|topic| (&**topic, event));
                publish_to_all(request.reactor, items, done);
            }
            #[cfg(feature = "redis")]
            Kind::Redis(engine, _) => {
                let responder = request.reply_later();
                let items: Vec<_> = topics.iter().map(|topic| (&**topic, event)).collect();
                engine.publish_all(request.reactor, &items, move |reactor, outcome| {
                    reactor.reply(responder, reply(outcome.map_err(PublishError::Redis)));
                });
            }
        }
    }

    /// Publishes each event to its topic, and calls `done` once with the outcomes in their order: before this
    /// returns, or in a later turn. On an error no event has reached a member.
    pub(super) fn publish_all(
        &self,
        reactor: &mut Reactor<S>,
        items: &[(Cow<'_, str>, Event<'_>)],
        done: impl FnOnce(&mut Reactor<S>, Result<&[Published], PublishError>) + 'static,
    ) {
        match &self.kind {
            _ if items.is_empty() => done(reactor, Ok(&[])),
            Kind::Local => {
                let mut published = Vec::with_capacity(items.len());
                for (topic, event) in items {
                    published.push(local::publish(reactor, topic, event.clone(), None));
                }
                done(reactor, Ok(&published));
            }
            Kind::Group(seat) if seat.is_full(reactor) => {
                done(reactor, Err(PublishError::Overloaded(Overloaded)));
            }
            Kind::Group(_) => {
                let items = items.iter().map(|(topic, event)| (&**topic, event));
                publish_to_all(reactor, items, |reactor, published: &[Published]| {
                    done(reactor, Ok(published));
                });
            }
            #[cfg(feature = "redis")]
            Kind::Redis(engine, _) => {
                let items: Vec<_> = items
                    .iter()
                    .map(|(topic, event)| (&**topic, event))
                    .collect();
                engine.publish_all(reactor, &items, |reactor, outcome| {
                    done(reactor, outcome.map_err(PublishError::Redis));
                });
            }
        }
    }

    /// As [`publish_all`](Self::publish_all), for a request with a key. An engine that
    /// [recognises repeats](Self::recognises_repeats) publishes nothing again.
    pub(super) fn publish_once(
        &self,
        reactor: &mut Reactor<S>,
        key: RequestKey<'_>,
        items: &[(Cow<'_, str>, Event<'_>)],
        done: impl FnOnce(&mut Reactor<S>, Result<&[PublishedOnce], PublishError>) + 'static,
    ) {
        #[cfg(feature = "redis")]
        if let Kind::Redis(engine, _) = &self.kind {
            return engine.publish_once(reactor, key, items, |reactor, outcome| {
                done(reactor, outcome.map_err(PublishError::from));
            });
        }
        let _ = key;
        self.publish_all(reactor, items, |reactor, outcome| {
            let outcome = outcome.map(|all| all.iter().copied().map(PublishedOnce::new).collect());
            let outcome: Result<Vec<_>, _> = outcome;
            done(reactor, outcome.as_deref().map_err(|error| *error));
        });
    }

    /// Whether the engine itself recognises the repeat of a request that has ended, on whichever node it came. Then
    /// [`idempotency`](Self::idempotency) is for requests that are under way.
    pub(super) fn recognises_repeats(&self) -> bool {
        match &self.kind {
            Kind::Local | Kind::Group(_) => false,
            #[cfg(feature = "redis")]
            Kind::Redis(..) => true,
        }
    }

    /// The keys of requests that publish once.
    pub(super) fn idempotency(&self) -> &SharedIdempotency {
        &self.idempotency
    }

    /// Publishes for a WebSocket, and calls `done` once with the topic and the outcome: before this
    /// returns, or in a later turn. With `is_to_others` the client itself is left out.
    ///
    /// A socket that publishes faster than the engine takes it is not read until `done` was called.
    /// That begins when the engine is half full, so that it rarely comes to refusing.
    ///
    /// # Errors
    ///
    /// [`PublishError`]. Then `done` is not called.
    pub(super) fn publish_message(
        &self,
        ws: &mut Ws<'_, S>,
        topic: &str,
        event: Event<'_>,
        is_to_others: bool,
        done: impl FnOnce(&mut Reactor<S>, Result<Published, PublishError>) + 'static,
    ) -> Result<(), PublishError> {
        let (id, reactor) = (ws.id, &mut *ws.reactor);
        let except = is_to_others.then(|| self.place_of(id));
        let seat = match &self.kind {
            Kind::Local => return self.publish(reactor, topic, event, except, done),
            Kind::Group(seat) => seat,
            #[cfg(feature = "redis")]
            Kind::Redis(engine, _) => {
                // A socket that publishes faster than Redis answers is not read meanwhile.
                let is_paused = engine.is_half_full();
                let except = except.map(|place| (place.origin, place.id));
                engine.publish(reactor, topic, &event, except, move |reactor, it| {
                    done(reactor, it.map_err(PublishError::Redis));
                    if is_paused {
                        reactor.resume(id);
                    }
                });
                if is_paused {
                    reactor.pause(id);
                }
                return Ok(());
            }
        };
        if seat.is_full(reactor) {
            return Err(PublishError::Overloaded(Overloaded));
        }
        let is_paused = seat.is_half_full(reactor);
        let done = move |reactor: &mut Reactor<S>, published| {
            done(reactor, Ok(published));
            if is_paused {
                reactor.resume(id);
            }
        };
        let except = except.map(|place| (place.origin as usize, place.id));
        reactor.publish_counted(topic, &event, except, |cx, it| done(cx.reactor, it));
        if is_paused {
            reactor.pause(id);
        }
        Ok(())
    }

    /// Calls `ask` on each reactor, and then `done` on this one with the answers: before this returns where
    /// there is one reactor, otherwise in a later turn. See [`GroupSeat::ask_all`].
    pub(super) fn ask_all<T: Send + 'static>(
        &self,
        mut cx: Cx<'_, S>,
        ask: impl Fn(&mut Cx<'_, S>) -> T + Clone + Send + 'static,
        done: impl FnOnce(&mut Reactor<S>, Answers<T>) + Send + 'static,
    ) {
        match &self.kind {
            Kind::Local => {
                let answers = Answers::of_one(ask(&mut cx));
                done(cx.reactor, answers);
            }
            Kind::Group(seat) => seat.ask_all(cx.reactor, ask, done),
            // Each node answers for itself.
            #[cfg(feature = "redis")]
            Kind::Redis(_, Some(seat)) => seat.ask_all(cx.reactor, ask, done),
            #[cfg(feature = "redis")]
            Kind::Redis(_, None) => {
                let answers = Answers::of_one(ask(&mut cx));
                done(cx.reactor, answers);
            }
        }
    }

    /// Runs `call` on each reactor that knows who is present in topics by this one: on all of a group, and on this one
    /// alone where each learns of others by itself.
    #[cfg(feature = "pusher")]
    pub(super) fn run_where_shared(
        &self,
        reactor: &mut Reactor<S>,
        call: impl FnOnce(&mut Reactor<S>) + Clone + Send + 'static,
    ) {
        match &self.kind {
            Kind::Local => call(reactor),
            Kind::Group(seat) => seat.run_on_all(move |cx| call(cx.reactor)),
            #[cfg(feature = "redis")]
            Kind::Redis(..) => call(reactor),
        }
    }

    /// Has an order about a user carried out on all reactors, and calls `done` with the sum of what there was.
    pub(super) fn carry_out(
        &self,
        cx: Cx<'_, S>,
        order: Order,
        done: impl FnOnce(&mut Reactor<S>, usize) + Send + 'static,
    ) {
        let reactor = cx.reactor;
        match &self.kind {
            Kind::Local => {
                let count = order.carry_out(reactor);
                done(reactor, count);
            }
            Kind::Group(seat) => carry_out_in_group(seat, reactor, order, done),
            #[cfg(feature = "redis")]
            Kind::Redis(engine, seat) => {
                let (again, seat) = (order.clone(), seat.clone());
                engine.carry_out(reactor, order, move |reactor, count| {
                    // Those of this node also while Redis is away. A reactor that has carried it out has nothing left.
                    let done = move |reactor: &mut Reactor<S>, here| done(reactor, count + here);
                    match seat {
                        Some(seat) => carry_out_in_group(&seat, reactor, again, done),
                        None => {
                            let here = again.carry_out(reactor);
                            done(reactor, here);
                        }
                    }
                });
            }
        }
    }

    /// Hears orders about users from other nodes, where there are some. For a hub whose clients may have users.
    pub(super) fn hear_orders(&self, reactor: &mut Reactor<S>) {
        match &self.kind {
            Kind::Local | Kind::Group(_) => _ = reactor,
            #[cfg(feature = "redis")]
            Kind::Redis(engine, _) => engine.hear_orders(reactor),
        }
    }

    /// Has the users of topics with presence known on all nodes, where there are some.
    pub(super) fn share_presence(&self, reactor: &mut Reactor<S>) {
        match &self.kind {
            Kind::Local | Kind::Group(_) => _ = reactor,
            #[cfg(feature = "redis")]
            Kind::Redis(engine, _) => engine.share_presence(reactor),
        }
    }

    // ── reading ──────────────────────────────────────────────────────────────────────────────

    /// Keeps publications from now on, by these rules and in at most `bytes_max` bytes. The first call for an
    /// engine holds.
    pub(super) fn keep(&self, reactor: &mut Reactor<S>, rules: &Rules, bytes_max: usize) {
        reactor.keep_history(rules, bytes_max);
        #[cfg(feature = "redis")]
        if let Kind::Redis(engine, _) = &self.kind {
            engine.set_rules(rules);
        }
    }

    /// The cursor of a client that has got everything that this reactor has delivered.
    pub(super) fn cursor(&self, reactor: &Reactor<S>) -> EventId {
        reactor.cursor()
    }

    /// Has this reactor deliver all that was published so far, as far as it is in the same history: reading finds it then.
    #[cfg(feature = "mercure")]
    pub(super) fn catch_up(&self, reactor: &mut Reactor<S>) {
        if let Kind::Group(_) = &self.kind {
            let head = reactor.with_history(|history| history.head());
            // A reader from a place begins when this place is reached.
            reactor.read_history([], Since::Id(head), false);
        }
    }

    /// Begins to read for a client: the names, each with whether it is a pattern. The engine subscribes to them: a client
    /// that becomes a member in the turn in which it has got the last page misses nothing.
    pub(super) fn read(
        &self,
        reactor: &mut Reactor<S>,
        names: Vec<(Box<str>, bool)>,
        start: Start,
    ) -> Box<dyn Source<S>> {
        #[cfg(feature = "redis")]
        if let Kind::Redis(engine, _) = &self.kind {
            return Box::new(engine.read(reactor, names, start));
        }
        let (since, is_latest) = match start {
            Start::Now => (Since::Id(reactor.cursor()), false),
            Start::Since(since) => (since, false),
            Start::Latest(since) => (since.unwrap_or(Since::Earliest), true),
        };
        Box::new(reactor.read_history(names, since, is_latest))
    }

    /// Whether a client is a member as soon as it subscribes, so that it need not [`read`](Self::read) first.
    pub(super) fn confirms_at_once(&self) -> bool {
        match &self.kind {
            Kind::Local | Kind::Group(_) => true,
            #[cfg(feature = "redis")]
            Kind::Redis(..) => false,
        }
    }

    /// Numbers about Redis, where it is the engine.
    #[cfg(feature = "redis")]
    pub(super) fn redis_numbers(&self) -> Option<RedisNumbers> {
        match &self.kind {
            Kind::Local | Kind::Group(_) => None,
            Kind::Redis(engine, _) => Some(engine.numbers()),
        }
    }

    /// Has each publication to a topic told to an observer on this reactor, whichever node it comes from.
    ///
    /// # Errors
    ///
    /// As [`Reactor::observe`].
    #[cfg(feature = "cable")]
    pub(super) fn observe(
        &self,
        reactor: &mut Reactor<S>,
        topic: &str,
        observer: Observe<S>,
    ) -> Result<ObserverId, TopicError> {
        let id = reactor.observe(topic, observer)?;
        #[cfg(feature = "redis")]
        if let Kind::Redis(engine, _) = &self.kind {
            engine.begin_to_hear(reactor, topic);
        }
        Ok(id)
    }

    /// Delivers an event to the members on this reactor alone, without a number: each other reactor hears by itself what
    /// it is made of. `except` is left out.
    #[cfg(feature = "cable")]
    pub(super) fn deliver_here(
        &self,
        reactor: &mut Reactor<S>,
        topic: &str,
        event: &Event<'_>,
        except: Option<Place>,
    ) {
        let is_here = |place: &Place| self.place_of(place.id) == *place;
        let except = except.filter(is_here).map(|place| place.id);
        match &self.kind {
            Kind::Local | Kind::Group(_) => _ = reactor.publish_heard(topic, event, None, except),
            #[cfg(feature = "redis")]
            Kind::Redis(engine, _) => engine.deliver_unnumbered(reactor, topic, event, except),
        }
    }

    /// Whether other programs can publish to topics without this hub.
    #[cfg(feature = "cable")]
    pub(super) fn hears_other_programs(&self) -> bool {
        match &self.kind {
            Kind::Local | Kind::Group(_) => false,
            #[cfg(feature = "redis")]
            Kind::Redis(..) => true,
        }
    }

    /// Whether publishing works and all members are reached.
    pub(super) fn is_ready(&self) -> bool {
        match &self.kind {
            Kind::Local | Kind::Group(_) => true,
            #[cfg(feature = "redis")]
            Kind::Redis(engine, _) => engine.is_ready(),
        }
    }
}

/// Has an order carried out on the reactors of a group.
fn carry_out_in_group<S: 'static>(
    seat: &GroupSeat<S>,
    reactor: &mut Reactor<S>,
    order: Order,
    done: impl FnOnce(&mut Reactor<S>, usize) + Send + 'static,
) {
    let ask = move |cx: &mut Cx<'_, S>| order.carry_out(cx.reactor);
    seat.ask_all(reactor, ask, |reactor, answers| {
        done(reactor, answers.answers.into_iter().sum());
    });
}

/// Publishes each event to its topic in a group. There is at least one. Calls `done` with the outcomes, in the order of the
/// topics, when all of them are there.
fn publish_to_all<'e, S: 'static>(
    reactor: &mut Reactor<S>,
    items: impl ExactSizeIterator<Item = (&'e str, &'e Event<'e>)>,
    done: impl FnOnce(&mut Reactor<S>, &[Published]) + 'static,
) {
    let outcomes = Rc::new(RefCell::new(Outcomes {
        of_topics: vec![None; items.len()],
        missing_count: items.len(),
        done: Some(done),
    }));
    for (index, (topic, event)) in items.enumerate() {
        let outcomes = Rc::clone(&outcomes);
        reactor.publish_counted(topic, event, None, move |cx, published| {
            let all = outcomes.borrow_mut().add(index, published);
            if let Some((done, of_topics)) = all {
                done(cx.reactor, &of_topics);
            }
        });
    }
}

/// The outcomes of events that were published together.
struct Outcomes<D> {
    of_topics: Vec<Option<Published>>,
    missing_count: usize,
    /// Taken with the last outcome.
    done: Option<D>,
}

impl<D> Outcomes<D> {
    /// Notes an outcome. Returns what to call, and with which outcomes, when it is the last one.
    fn add(&mut self, index: usize, published: Published) -> Option<(D, Vec<Published>)> {
        self.of_topics[index] = Some(published);
        self.missing_count -= 1;
        if self.missing_count != 0 {
            return None;
        }
        let done = self.done.take()?;
        Some((done, self.of_topics.drain(..).flatten().collect()))
    }
}
