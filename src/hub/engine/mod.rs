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
mod group;
mod local;

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use crate::pubsub::{Event, EventId, Page, Reader, Rule, Rules, Since};
use crate::reactor::id::ConnId;
use crate::reactor::published::Published;
use crate::reactor::reactor::{Cx, Reactor};
use crate::server::reply::Reply;
use crate::server::request::Request;
use crate::session::handler::Ws;

use super::idempotency::SharedIdempotency;

pub use self::ask::Answers;
pub use self::group::{GroupSeat, Overloaded, ReactorGroup};

enum Kind<S> {
    /// This reactor alone. Outcomes are there at once.
    Local,
    /// Several reactors. The outcome is there when all of them have the publication.
    Group(GroupSeat<S>),
}

/// The engine of one hub, as its roles see it on one reactor.
pub(super) struct Engine<S> {
    kind: Kind<S>,
    idempotency: SharedIdempotency,
}

/// Why an event was not published. It has reached no member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PublishError {
    Overloaded(Overloaded),
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PublishError::Overloaded(error) => error.fmt(f),
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

    // ── publishing ───────────────────────────────────────────────────────────────────────────

    /// Publishes an event, and calls `done` once with the outcome: before this returns, or in a later turn.
    /// `except` is a member of this reactor that is left out.
    ///
    /// # Errors
    ///
    /// [`PublishError`]. Then `done` is not called.
    pub(super) fn publish(
        &self,
        reactor: &mut Reactor<S>,
        topic: &str,
        event: Event<'_>,
        except: Option<ConnId>,
        done: impl FnOnce(&mut Reactor<S>, Result<Published, PublishError>) + 'static,
    ) -> Result<(), PublishError> {
        match &self.kind {
            Kind::Local => {
                let published = local::publish(reactor, topic, event, except);
                done(reactor, Ok(published));
            }
            Kind::Group(seat) => {
                if seat.is_full(reactor) {
                    return Err(PublishError::Overloaded(Overloaded));
                }
                reactor.publish_counted(topic, &event, except, |cx, published| {
                    done(cx.reactor, Ok(published));
                });
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
        let except = is_to_others.then_some(id);
        let seat = match &self.kind {
            Kind::Local => return self.publish(reactor, topic, event, except, done),
            Kind::Group(seat) => seat,
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
        }
    }

    // ── reading ──────────────────────────────────────────────────────────────────────────────

    /// Keeps publications from now on, by these rules and in at most `bytes_max` bytes. The first call for an
    /// engine holds.
    pub(super) fn keep(&self, reactor: &mut Reactor<S>, rules: &Rules, bytes_max: usize) {
        reactor.keep_history(rules, bytes_max);
    }

    /// The cursor of a client that has got everything that this reactor has delivered.
    pub(super) fn cursor(&self, reactor: &Reactor<S>) -> EventId {
        reactor.cursor()
    }

    /// Begins to read the history for a client: the names, each with whether it is a pattern.
    pub(super) fn read(
        &self,
        reactor: &mut Reactor<S>,
        names: Vec<(Box<str>, bool)>,
        since: Since,
        is_latest: bool,
    ) -> Reader {
        reactor.read_history(names, since, is_latest)
    }

    /// Reads the next page for a client, up to what this reactor has delivered. Topics that only a pattern finds and
    /// that the client has no right to are left out.
    pub(super) fn page_of(
        &self,
        reactor: &mut Reactor<S>,
        reader: &mut Reader,
        bytes_max: usize,
        client: ConnId,
    ) -> Page {
        reactor.history_page_of(reader, bytes_max, client)
    }

    /// As [`page_of`](Self::page_of), for a request: `is_granted` says which topics it has a right to.
    pub(super) fn page(
        &self,
        reactor: &mut Reactor<S>,
        reader: &mut Reader,
        bytes_max: usize,
        is_granted: impl Fn(&str, &Rule) -> bool,
    ) -> Page {
        reactor.history_page(reader, bytes_max, is_granted)
    }
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
