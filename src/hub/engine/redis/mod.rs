//! The engine of several nodes: Redis numbers and stores publications, and tells all nodes of them.
//!
//! ```text
//!   publish ─▶ script: number, stream, latest value, PUBLISH ─▶ every node ─▶ its log ─▶ its members
//!   another program: PUBLISH topic ───────────────────────────▶ every node ─▶ its log ─▶ its members
//!   a client that comes back ─▶ the own log, where it reaches back to the cursor; else the streams, then the log
//! ```
//!
//! Each reactor has a link and a log of its own (`reactor/heard.rs`): what it has heard, in the order in which it
//! heard it. Publications of nodes have numbers of Redis, and any node finds them in the streams. Messages of other
//! programs have none, and only the log has them.
//!
//! A name is subscribed in Redis while it has members here, and shortly after (`names.rs`). A link that is lost is a gap
//! for all members, because messages of other programs may be missed. When it is back, publications with numbers
//! are read from the streams before anything else is delivered (`recovery.rs`).
//!
//! A publication is not sent again when its link breaks before the answer: whether Redis has carried it out is not known, and
//! the error says so. With the key of its request (`once.rs`) it may be sent again, and is published once.

mod catch_up;
mod control;
mod counts;
mod head;
mod keys;
mod links;
mod message;
mod names;
mod once;
mod others;
mod payload;
mod presence;
mod questions;
mod raw_topics;
mod recovery;
mod refusals;
mod shared;
mod source;
mod streams;
mod words;

use std::borrow::Cow;
use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use crate::client::redis::{ClusterListener, Listener, Message, SubscriptionKind};
use crate::hub::order::Order;
use crate::pubsub::{Event, Rules};
use crate::reactor::id::ConnId;
use crate::reactor::published::Published;
use crate::reactor::reactor::{Cx, Reactor};

use super::repeat::{PublishedOnce, RequestKey};
use super::source::Start;

pub(super) use self::counts::{RedisCounts, RedisNumbers};
use self::keys::Channel;
use self::links::Links;
use self::once::OnceDigests;
pub use self::shared::RedisPublishError;
use self::shared::Shared;
pub(super) use self::shared::{CountOnNode, HeardPublication};
pub(super) use self::source::RedisSource;

/// Publications under way from which on sockets that publish are paused.
const PUBLISHING_HALF: usize = 5_000;

/// The engine on one reactor.
pub(super) struct RedisEngine<S: 'static> {
    shared: Rc<Shared<S>>,
}

impl<S: 'static> RedisEngine<S> {
    /// Connects to Redis. Names of keys and channels begin with the prefix.
    ///
    /// # Errors
    ///
    /// Of kind `InvalidInput`, when the URL cannot be parsed, or the prefix has a brace in a cluster.
    pub(super) fn connect(
        reactor: &mut Reactor<S>,
        url: &str,
        prefix: Option<&str>,
        counts: Arc<RedisCounts>,
    ) -> io::Result<RedisEngine<S>> {
        let (links, keys) = Links::connect(reactor, url, prefix)?;
        reactor.watch_topics();
        let shared = Rc::new(Shared::new(&links, &keys, counts));
        head::watch(&shared, reactor);
        links.set_listener(Rc::new(LinkListener {
            shared: Rc::clone(&shared),
        }));
        Ok(RedisEngine { shared })
    }

    /// Subscribes to a topic that has an observer on this reactor.
    #[cfg(feature = "cable")]
    pub(super) fn begin_to_hear(&self, reactor: &mut Reactor<S>, topic: &str) {
        let names = vec![Box::from(topic)];
        let all = self.shared.names();
        let topic = topic.to_owned();
        names::want(all, reactor, &names, move |_, confirmed| {
            if confirmed.is_err() {
                log::error!("Redis refuses the subscription to {topic:?}: it is not heard");
            }
        });
        // From here on the observer is its member.
        all.borrow_mut().settle_later(names);
    }

    /// As [`Engine::deliver_here`](super::Engine::deliver_here).
    #[cfg(feature = "cable")]
    pub(super) fn deliver_unnumbered(
        &self,
        reactor: &mut Reactor<S>,
        topic: &str,
        event: &Event<'_>,
        except: Option<ConnId>,
    ) {
        self.shared
            .deliver_unnumbered(reactor, topic, event, except);
    }

    /// Has the members on all reactors of the node counted from now on.
    pub(super) fn count_on_node(&self, count: CountOnNode<S>) {
        self.shared.set_node_count(count);
    }

    /// Sets the rules of topics.
    pub(super) fn set_rules(&self, rules: &Rules) {
        *self.shared.rules().borrow_mut() = rules.clone();
    }

    /// Whether all that is subscribed is heard, and publishing is possible.
    pub(super) fn is_ready(&self) -> bool {
        self.shared.recovery().borrow().is_ready()
    }

    /// Hears orders from other reactors from now on.
    pub(super) fn hear_orders(&self, reactor: &mut Reactor<S>) {
        control::join(&self.shared, reactor);
    }

    /// Tells other reactors who is present here, and hears who is present there, from now on.
    pub(super) fn share_presence(&self, reactor: &mut Reactor<S>) {
        control::join(&self.shared, reactor);
        presence::join(&self.shared, reactor);
    }

    /// Has an order carried out on the reactors of all nodes, and calls `done` with the sum of what there was: at once with
    /// zero where they cannot be reached.
    pub(super) fn carry_out(
        &self,
        reactor: &mut Reactor<S>,
        order: Order,
        done: impl FnOnce(&mut Reactor<S>, usize) + 'static,
    ) {
        control::ask_all(&self.shared, reactor, order, done);
    }

    /// The name of this reactor among all of all nodes.
    pub(super) fn origin(&self) -> u64 {
        self.shared.origin()
    }

    /// Publishes an event, and calls `done` once, in a later turn, when Redis has answered and the members of this reactor
    /// have it. `except` is a reactor, by its [`origin`](Self::origin), and a member there that is left out.
    pub(super) fn publish(
        &self,
        reactor: &mut Reactor<S>,
        topic: &str,
        event: &Event<'_>,
        except: Option<(u64, ConnId)>,
        done: impl FnOnce(&mut Reactor<S>, Result<Published, RedisPublishError>) + 'static,
    ) {
        let done = Box::new(
            |reactor: &mut Reactor<S>, outcome: Result<PublishedOnce, RedisPublishError>| {
                done(reactor, outcome.map(|it| it.published));
            },
        );
        (self.shared).publish(reactor, topic, event, except, None, done);
    }

    /// Publishes each event to its topic, and calls `done` once with the outcomes in their order. On an error some may have
    /// been published.
    pub(super) fn publish_all(
        &self,
        reactor: &mut Reactor<S>,
        items: &[(&str, &Event<'_>)],
        done: impl FnOnce(&mut Reactor<S>, Result<&[Published], RedisPublishError>) + 'static,
    ) {
        let items = items.iter().map(|(topic, event)| (*topic, *event, None));
        publish_each(&self.shared, reactor, items, |reactor, all| {
            let all: Result<Vec<Published>, _> =
                all.map(|all| all.into_iter().map(|it| it.published).collect());
            done(reactor, all.as_deref().map_err(|error| *error));
        });
    }

    /// Numbers about the links of this node.
    pub(super) fn numbers(&self) -> RedisNumbers {
        self.shared.counts().numbers()
    }

    /// As [`publish_all`](Self::publish_all), for a request with a key. It publishes nothing again that an earlier request with
    /// the same key has published, on any node in the last five minutes. A key that was used for another request is an
    /// error, and nothing is published.
    pub(super) fn publish_once(
        &self,
        reactor: &mut Reactor<S>,
        key: RequestKey<'_>,
        items: &[(Cow<'_, str>, Event<'_>)],
        done: impl FnOnce(&mut Reactor<S>, Result<&[PublishedOnce], RedisPublishError>) + 'static,
    ) {
        let mut items: Vec<_> = (items.iter().zip(once::digests(key, items)))
            .map(|((topic, event), digests)| OnceItem {
                topic: Box::from(&**topic),
                event: event.clone().into_owned(),
                digests,
            })
            .collect();
        if items.is_empty() {
            return done(reactor, Ok(&[]));
        }
        let later = items.split_off(1);
        let shared = Rc::clone(&self.shared);
        // The first publication finds out whether the key was used for another request.
        let first_item = items.iter().map(OnceItem::as_parts);
        publish_each(&self.shared, reactor, first_item, move |reactor, first| {
            let first = match first {
                Ok(first) => first,
                Err(error) => return done(reactor, Err(error)),
            };
            if later.is_empty() {
                return done(reactor, Ok(&first));
            }
            let later = later.iter().map(OnceItem::as_parts);
            publish_each(&shared, reactor, later, move |reactor, others| {
                let all = others.map(|others| [first, others].concat());
                done(reactor, all.as_deref().map_err(|error| *error));
            });
        });
    }

    /// Whether many publications are under way.
    pub(super) fn is_half_full(&self) -> bool {
        PUBLISHING_HALF <= self.shared.publishing_count()
    }

    /// Subscribes to names for a client, and reads what it has missed.
    pub(super) fn read(
        &self,
        reactor: &mut Reactor<S>,
        names: Vec<(Box<str>, bool)>,
        start: Start,
    ) -> RedisSource<S> {
        RedisSource::begin(&self.shared, reactor, names, start)
    }
}

/// One publication of a request with a key.
struct OnceItem {
    topic: Box<str>,
    event: Event<'static>,
    digests: OnceDigests,
}

impl OnceItem {
    fn as_parts(&self) -> ItemParts<'_> {
        (&self.topic, &self.event, Some(&self.digests))
    }
}

/// The topic and the event of a publication, and its digests where its request has a key.
type ItemParts<'i> = (&'i str, &'i Event<'i>, Option<&'i OnceDigests>);

/// Publishes at least one item, and calls `done` once with all outcomes in the order of the items, or with the first
/// error in that order.
fn publish_each<'i, S: 'static>(
    shared: &Rc<Shared<S>>,
    reactor: &mut Reactor<S>,
    items: impl ExactSizeIterator<Item = ItemParts<'i>>,
    done: impl FnOnce(&mut Reactor<S>, Result<Vec<PublishedOnce>, RedisPublishError>) + 'static,
) {
    let outcomes = Rc::new(RefCell::new(Outcomes {
        of_items: vec![None; items.len()],
        missing_count: items.len(),
        done: Some(done),
    }));
    for (index, (topic, event, once)) in items.enumerate() {
        let outcomes = Rc::clone(&outcomes);
        let done = Box::new(move |reactor: &mut Reactor<S>, outcome| {
            let all = outcomes.borrow_mut().add(index, outcome);
            if let Some((done, all)) = all {
                done(reactor, all.into_iter().collect());
            }
        });
        shared.publish(reactor, topic, event, None, once, done);
    }
}

type Outcome = Result<PublishedOnce, RedisPublishError>;

/// The outcomes of events that were published together.
struct Outcomes<D> {
    of_items: Vec<Option<Outcome>>,
    missing_count: usize,
    /// Taken with the last outcome.
    done: Option<D>,
}

impl<D> Outcomes<D> {
    /// Notes an outcome. Returns what to call, and with which outcomes, when it is the last one.
    fn add(&mut self, index: usize, outcome: Outcome) -> Option<(D, Vec<Outcome>)> {
        self.of_items[index] = Some(outcome);
        self.missing_count -= 1;
        if self.missing_count != 0 {
            return None;
        }
        let done = self.done.take()?;
        Some((done, self.of_items.drain(..).flatten().collect()))
    }
}

/// The part of the engine that hears the link.
struct LinkListener<S: 'static> {
    shared: Rc<Shared<S>>,
}

impl<S: 'static> LinkListener<S> {
    fn end(&self, part: usize) {
        let (was_ready, is_gap) = {
            let mut recovery = self.shared.recovery().borrow_mut();
            (recovery.end(part), part == recovery.raw_part())
        };
        self.shared.counts().note_lost(was_ready, is_gap);
        self.shared.names().borrow_mut().lose_part(part);
    }
}

impl<S: 'static> Listener<S> for LinkListener<S> {
    fn message(self: Rc<Self>, cx: &mut Cx<'_, S>, message: Message<'_>) {
        let Message {
            kind,
            name,
            channel,
            payload,
        } = message;
        let shared = &self.shared;
        let is_by_pattern = kind == SubscriptionKind::Pattern;
        if is_by_pattern && !shared.links().is_first_by_pattern(name, channel) {
            return;
        }
        let is_sharded = kind == SubscriptionKind::Sharded;
        let channel = shared.keys().meaning_of(channel, is_sharded);
        if channel == Channel::Control {
            // A reactor hears it by its name alone, so that it hears each message once.
            if !is_by_pattern {
                control::handle(shared, cx.reactor, payload);
            }
            return;
        }
        if shared.recovery().borrow_mut().may_deliver(channel, payload) {
            shared.deliver(cx.reactor, channel, payload);
        }
    }

    fn subscribed(self: Rc<Self>, cx: &mut Cx<'_, S>, kind: SubscriptionKind, name: &[u8]) {
        names::acknowledge(self.shared.names(), cx.reactor, kind, name);
    }

    fn refused(self: Rc<Self>, cx: &mut Cx<'_, S>, kind: SubscriptionKind, name: &[u8]) {
        names::refuse(self.shared.names(), cx.reactor, kind, name);
    }

    fn connected(self: Rc<Self>, cx: &mut Cx<'_, S>) {
        let part = self.shared.recovery().borrow().raw_part();
        catch_up::begin(&self.shared, cx.reactor, part);
    }

    fn lost(self: Rc<Self>, _: &mut Cx<'_, S>) {
        let part = self.shared.recovery().borrow().raw_part();
        self.end(part);
    }
}

impl<S: 'static> ClusterListener<S> for LinkListener<S> {
    fn slot_connected(self: Rc<Self>, cx: &mut Cx<'_, S>, slot: u16) {
        if let Some(bucket) = self.shared.links().bucket_of_slot(slot) {
            catch_up::begin(&self.shared, cx.reactor, bucket);
        }
    }

    fn slot_lost(self: Rc<Self>, _: &mut Cx<'_, S>, slot: u16) {
        if let Some(bucket) = self.shared.links().bucket_of_slot(slot) {
            self.end(bucket);
        }
    }
}
