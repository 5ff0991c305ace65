//! A client of a Redis server on the reactor: commands, subscriptions, and a link that comes back.
//!
//! ```text
//!   command, subscribe ─▶ machine ─▶ bytes ─▶ connection       callbacks run in turns of the loop, never
//!   callbacks ◀─ machine ◀─ decoder ◀─ bytes ◀──┘              inside of a method that the application calls
//! ```
//!
//! `machine.rs` decides, `upstream.rs` knows the names that the server has subscribed, `subscriptions.rs` those who want
//! them, `sentinel.rs` where a master is, and `link.rs` carries bytes and calls back. A server that goes away is tried
//! again for ever; [`Redis::on_lost`] and [`Redis::on_gap`] tell the application, because messages that are published
//! meanwhile are missed.
//!
//! The client speaks RESP3, and RESP2 where the server has nothing else.

mod cluster;
mod connection;
#[cfg(test)]
mod cut_tests;
mod error;
mod forwards;
mod link;
mod machine;
mod push;
mod refusal;
mod sentinel;
mod sentinel_link;
#[cfg(test)]
mod sentinel_tests;
mod slot;
#[cfg(test)]
mod small_server;
mod subscriptions;
mod tls;
mod upstream;
mod url;
mod url_error;

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use crate::protocol::resp::Reply;
use crate::reactor::id::ConnId;
use crate::reactor::outcome::Outcome;
use crate::reactor::reactor::{Cx, Reactor};

use self::forwards::{Added, Forwards, PATTERNS_MAX};
use self::link::{Link, OnState};
use self::subscriptions::OnMessage;
use self::url::RedisUrl;

pub(crate) use self::cluster::{Cluster, ClusterListener};
pub use self::error::RedisError;
pub(crate) use self::link::Listener;
pub(crate) use self::push::Message;
pub(crate) use self::slot::slot_of;
pub use self::subscriptions::{RedisMessage, RedisSubscription};
pub(crate) use self::upstream::{Held, SubscriptionKind};
pub(crate) use self::url::is_cluster;
pub use self::url_error::RedisUrlError;

/// How long a command waits for its answer.
pub const COMMAND_TIMEOUT: Duration = Duration::from_secs(5);

/// The link of a reactor to a Redis server. A clone is the same link.
///
/// ```no_run
/// use waterwheel::{Reactor, Redis};
///
/// Reactor::run((), |reactor| {
///     let redis = Redis::connect(reactor, "redis://127.0.0.1:6379")?;
///     reactor.websocket("127.0.0.1:8080", move |ws| {
///         let redis = redis.clone();
///         ws.on_open(move |ws, _| redis.forward(ws.reactor, "notifications.*", ws.id));
///     })
/// })
/// # .unwrap();
/// ```
pub struct Redis<S: 'static> {
    link: Rc<Link<S>>,
    forwards: Rc<Forwards>,
}

impl<S> Clone for Redis<S> {
    fn clone(&self) -> Self {
        Redis {
            link: Rc::clone(&self.link),
            forwards: Rc::clone(&self.forwards),
        }
    }
}

/// # Redis
impl<S: 'static> Redis<S> {
    /// Makes a link to `redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE]`,
    /// `unix://[[USER]:PASSWORD@]/PATH[?db=DATABASE]`, or the master that sentinels know by a name,
    /// `redis+sentinel://[[USER]:PASSWORD@]HOST[:PORT][,HOST[:PORT]...]/NAME[/DATABASE]`. `?name=NAME` names the connection in `CLIENT LIST`, and
    /// `?protocol=2` speaks RESP2 also where the server has RESP3.
    ///
    /// With the feature `tls`, `rediss` in place of `redis` is over TLS: the server's certificate must be from an authority of the system and for the
    /// host. `#ca=FILE` names another authority, and `#sha256=HEX` the one certificate that is accepted, by its fingerprint;
    /// `#certificate=FILE&key=FILE` shows one to the server. Files are PEM.
    ///
    /// Returns at once, and connects for ever: a server that is absent is tried again after 100 milliseconds at most,
    /// later after 10 seconds at most.
    ///
    /// # Errors
    ///
    /// Of kind `InvalidInput` with a [`RedisUrlError`], for another URL.
    pub fn connect(reactor: &mut Reactor<S>, url: &str) -> io::Result<Redis<S>> {
        Redis::connect_with(reactor, url, rand::random())
    }

    /// As [`connect`](Self::connect), with a number that determines the pauses.
    fn connect_with(reactor: &mut Reactor<S>, url: &str, random: u64) -> io::Result<Redis<S>> {
        let mut url = RedisUrl::parse(url)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        url.security.prepare()?;
        let link = Link::new(reactor, url, random);
        Ok(Redis::of_link(link))
    }

    /// A link to one node of a cluster.
    fn connect_to_node(reactor: &mut Reactor<S>, url: RedisUrl, random: u64) -> Redis<S> {
        let link = Link::of_node(reactor, url, random);
        Redis::of_link(link)
    }

    fn of_link(link: Rc<Link<S>>) -> Redis<S> {
        Redis {
            link,
            forwards: Rc::default(),
        }
    }

    /// Sends a command, and calls `done` once with its answer, or with the reason why there is none. An error of the
    /// server is an answer. Commands are sent without waiting for the answers to earlier ones, and answered in their order.
    ///
    /// A command waits a second at most for a connection and five seconds for its answer. Without a connection 1000
    /// commands may wait, and one more comes to nothing with [`RedisError::Full`].
    ///
    /// ```
    /// # use waterwheel::{Reactor, Redis};
    /// # fn example(reactor: &mut Reactor<()>, redis: &Redis<()>) {
    /// redis.command(reactor, ["GET", "greeting"], |_, reply| {
    ///     println!("{:?}", reply.map(|reply| reply.as_str().map(str::to_owned)));
    /// });
    /// # }
    /// ```
    pub fn command<A: AsRef<[u8]>, R: Outcome>(
        &self,
        reactor: &mut Reactor<S>,
        words: impl AsRef<[A]>,
        done: impl FnOnce(&mut Cx<'_, S>, Result<Reply<'_>, RedisError>) -> R + 'static,
    ) {
        let done = move |cx: &mut Cx<'_, S>, reply: Result<Reply<'_>, RedisError>| {
            let outcome = done(cx, reply);
            cx.reactor.note_outcome(outcome);
        };
        self.command_within(reactor, words.as_ref(), COMMAND_TIMEOUT, done);
    }

    /// As [`command`](Self::command), with another time to wait for the answer.
    pub(crate) fn command_within<A: AsRef<[u8]>>(
        &self,
        reactor: &mut Reactor<S>,
        words: &[A],
        timeout: Duration,
        done: impl FnOnce(&mut Cx<'_, S>, Result<Reply<'_>, RedisError>) + 'static,
    ) {
        self.link.send(reactor, words, timeout, Box::new(done));
    }

    /// As [`command_within`](Self::command_within), for a command that is encoded already.
    pub(crate) fn command_encoded(
        &self,
        reactor: &mut Reactor<S>,
        bytes: &[u8],
        timeout: Duration,
        done: impl FnOnce(&mut Cx<'_, S>, Result<Reply<'_>, RedisError>) + 'static,
    ) {
        self.link
            .send_encoded(reactor, bytes, timeout, Box::new(done));
    }

    /// Calls `done` when all messages that the server has sent by now were delivered.
    pub(crate) fn barrier(
        &self,
        reactor: &mut Reactor<S>,
        done: impl FnOnce(&mut Cx<'_, S>, Result<Reply<'_>, RedisError>) + 'static,
    ) {
        let done = Box::new(done);
        self.link.send_barrier(reactor, COMMAND_TIMEOUT, done);
    }

    // ── subscriptions ────────────────────────────────────────────────────────────────────────

    /// Subscribes to a channel. The server is asked once for each name, however many subscriptions there are to it.
    pub fn subscribe<R: Outcome>(
        &self,
        reactor: &mut Reactor<S>,
        channel: impl AsRef<[u8]>,
        on_message: impl FnMut(&mut Cx<'_, S>, &RedisMessage<'_>) -> R + 'static,
    ) -> RedisSubscription {
        let kind = SubscriptionKind::Channel;
        self.subscribe_to(reactor, kind, channel.as_ref(), on_message)
    }

    /// As [`subscribe`](Self::subscribe), to all channels that match a glob pattern.
    pub fn psubscribe<R: Outcome>(
        &self,
        reactor: &mut Reactor<S>,
        pattern: impl AsRef<[u8]>,
        on_message: impl FnMut(&mut Cx<'_, S>, &RedisMessage<'_>) -> R + 'static,
    ) -> RedisSubscription {
        let kind = SubscriptionKind::Pattern;
        self.subscribe_to(reactor, kind, pattern.as_ref(), on_message)
    }

    /// As [`subscribe`](Self::subscribe), to a sharded channel (Redis 7 and later).
    pub fn ssubscribe<R: Outcome>(
        &self,
        reactor: &mut Reactor<S>,
        channel: impl AsRef<[u8]>,
        on_message: impl FnMut(&mut Cx<'_, S>, &RedisMessage<'_>) -> R + 'static,
    ) -> RedisSubscription {
        let kind = SubscriptionKind::Sharded;
        self.subscribe_to(reactor, kind, channel.as_ref(), on_message)
    }

    fn subscribe_to<R: Outcome>(
        &self,
        reactor: &mut Reactor<S>,
        kind: SubscriptionKind,
        name: &[u8],
        mut on_message: impl FnMut(&mut Cx<'_, S>, &RedisMessage<'_>) -> R + 'static,
    ) -> RedisSubscription {
        let on_message: OnMessage<S> = Rc::new(RefCell::new(
            move |cx: &mut Cx<'_, S>, message: &RedisMessage<'_>| {
                let outcome = on_message(cx, message);
                cx.reactor.note_outcome(outcome);
            },
        ));
        let id = self.link.subscriptions().add(kind, name, on_message);
        self.hold(reactor, kind, name);
        id
    }

    /// Ends a subscription. The server is told shortly after the last subscription to a name has ended.
    pub fn unsubscribe(&self, reactor: &mut Reactor<S>, subscription: RedisSubscription) {
        if let Some((kind, name)) = self.link.subscriptions().remove(subscription) {
            self.release(reactor, kind, &name);
        }
    }

    /// Sends each message of the channels that match a glob pattern to a connection, until it ends. Messages that are
    /// not UTF-8 are sent as binary ones. Does nothing for a connection that is not open.
    ///
    /// A connection gets a message once, also where several of its patterns match. It may have 100 patterns; further ones
    /// are refused with a line in the log.
    pub fn forward(&self, reactor: &mut Reactor<S>, pattern: impl AsRef<[u8]>, id: ConnId) {
        if !reactor.is_open(id) {
            return;
        }
        match self.forwards.add(id, pattern.as_ref()) {
            Added::First => {
                let redis = self.clone();
                reactor.on_close(id, move |cx, _| {
                    for subscription in redis.forwards.remove(id) {
                        redis.unsubscribe(cx.reactor, subscription);
                    }
                });
            }
            Added::Further => {}
            Added::Refused { is_first: true } => {
                log::warn!(
                    "conn {id}: it has {PATTERNS_MAX} patterns of Redis; further ones are refused"
                );
                return;
            }
            Added::Known | Added::Refused { .. } => return,
        }
        // The callback belongs to the link, which would keep itself.
        let (link, forwards) = (Rc::downgrade(&self.link), Rc::clone(&self.forwards));
        let send = move |cx: &mut Cx<'_, S>, message: &RedisMessage<'_>| {
            let is_first = |patterns: &[Box<[u8]>]| {
                let pattern = message.pattern.unwrap_or_default();
                let is_first =
                    |link: Rc<Link<S>>| link.is_first_of(patterns, pattern, message.channel);
                link.upgrade().is_none_or(is_first)
            };
            if !forwards.takes(id, is_first) {
                return;
            }
            match str::from_utf8(message.payload) {
                Ok(text) => cx.reactor.send(id, text),
                Err(_) => cx.reactor.send(id, message.payload),
            };
        };
        let subscription = self.psubscribe(reactor, pattern, send);
        self.forwards.note(id, subscription);
    }

    /// Wants a name without a callback.
    pub(crate) fn hold(
        &self,
        reactor: &mut Reactor<S>,
        kind: SubscriptionKind,
        name: &[u8],
    ) -> Held {
        self.link.hold(reactor, kind, name)
    }

    /// Gives up what [`hold`](Self::hold) wanted.
    pub(crate) fn release(&self, reactor: &mut Reactor<S>, kind: SubscriptionKind, name: &[u8]) {
        self.link.release(reactor, kind, name);
    }

    // ── the state of the link ────────────────────────────────────────────────────────────────

    /// Calls `call` each time the link is connected and all names are subscribed again.
    pub fn on_connected<R: Outcome>(&self, call: impl FnMut(&mut Cx<'_, S>) -> R + 'static) {
        self.link.on_connected(state_call(call));
    }

    /// Calls `call` each time a link that was connected is lost.
    pub fn on_lost<R: Outcome>(&self, call: impl FnMut(&mut Cx<'_, S>) -> R + 'static) {
        self.link.on_lost(state_call(call));
    }

    /// Calls `call` each time the link is connected again after it was lost: messages that were published in between were
    /// missed.
    pub fn on_gap<R: Outcome>(&self, call: impl FnMut(&mut Cx<'_, S>) -> R + 'static) {
        self.link.on_gap(state_call(call));
    }

    /// Whether the link is connected and all names are subscribed.
    pub fn is_connected(&self) -> bool {
        self.link.is_connected()
    }

    /// Has all messages and news given to a part of the program too.
    pub(crate) fn set_listener(&self, listener: Rc<dyn Listener<S>>) {
        self.link.set_listener(listener);
    }

    /// Whether a message by a pattern is the one to take, of those that come for one publication.
    pub(crate) fn is_first_by_pattern(&self, pattern: &[u8], channel: &[u8]) -> bool {
        self.link.is_first_by_pattern(pattern, channel)
    }

    /// Ends the link for good. Commands that wait come to nothing.
    pub fn close(&self, reactor: &mut Reactor<S>) {
        self.link.close(reactor);
    }
}

fn state_call<S: 'static, R: Outcome>(
    mut call: impl FnMut(&mut Cx<'_, S>) -> R + 'static,
) -> OnState<S> {
    Rc::new(RefCell::new(move |cx: &mut Cx<'_, S>| {
        let outcome = call(cx);
        cx.reactor.note_outcome(outcome);
    }))
}
