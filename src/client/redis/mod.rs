//! A client of a Redis server on the reactor: commands, subscriptions, and a link that comes back.
//!
//! ```text
//!   command, subscribe ─▶ machine ─▶ bytes ─▶ connection       callbacks run in turns of the loop, never
//!   callbacks ◀─ machine ◀─ decoder ◀─ bytes ◀──┘              inside of a method that the application calls
//! ```
//!
//! `machine.rs` decides, `upstream.rs` knows the subscriptions, and this file carries bytes and calls back. A server
//! that goes away is tried again for ever; [`Redis::on_lost`] and [`Redis::on_gap`] tell the application, because
//! messages that are published meanwhile are missed.
//!
//! Works with Redis 2.8 and later, and with Valkey.

#[cfg(test)]
mod cut_tests;
mod error;
mod machine;
#[cfg(test)]
mod small_server;
mod upstream;
mod url;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use crate::protocol::resp::{Reply, ReplyDecoder};
use crate::reactor::close::{Close, CloseCause};
use crate::reactor::id::ConnId;
use crate::reactor::outcome::Outcome;
use crate::reactor::reactor::{Cx, Reactor};
use crate::reactor::time::timers::TimerId;
use crate::session::stream::{Stream, StreamCallbacks};

use self::machine::{Action, Event, Heard, Lane, Machine};

pub use self::error::RedisError;
pub(crate) use self::machine::Message;
pub(crate) use self::upstream::{Held, SubscriptionKind};
use self::url::RedisUrl;
pub use self::url::RedisUrlError;

/// The longest reply that is taken, in bytes.
pub const REPLY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How long a command waits for its answer.
pub const COMMAND_TIMEOUT: Duration = Duration::from_secs(5);

/// Most bytes that wait for a connection to the server.
const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A log line about failed attempts is not repeated for so long.
const FAILURE_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Called with the answer to a command, or with the reason why there is none.
type Done<S> = Box<dyn FnOnce(&mut Cx<'_, S>, Result<Reply<'_>, RedisError>)>;

type OnMessage<S> = Rc<RefCell<dyn FnMut(&mut Cx<'_, S>, &RedisMessage<'_>)>>;

type OnState<S> = Rc<RefCell<dyn FnMut(&mut Cx<'_, S>)>>;

/// A message that was published in Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RedisMessage<'m> {
    /// The channel to which it was published.
    pub channel: &'m [u8],
    /// The pattern by which it came, for a subscription by pattern.
    pub pattern: Option<&'m [u8]>,
    /// The message.
    pub payload: &'m [u8],
}

/// One subscription of the application, to end it with [`Redis::unsubscribe`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RedisSubscription(u64);

/// The part of the program that takes all messages and news of a link.
pub(crate) trait Listener<S> {
    /// A message came by a subscription that it holds.
    fn message(self: Rc<Self>, cx: &mut Cx<'_, S>, message: Message<'_>);

    /// A name is subscribed that was pending.
    fn subscribed(self: Rc<Self>, cx: &mut Cx<'_, S>, kind: SubscriptionKind, name: &[u8]);

    /// The server has refused to subscribe a name that was pending.
    fn refused(self: Rc<Self>, cx: &mut Cx<'_, S>, kind: SubscriptionKind, name: &[u8]) {
        let _ = (cx, kind, name);
    }

    /// All that is wanted is subscribed.
    fn connected(self: Rc<Self>, cx: &mut Cx<'_, S>);

    /// The link was connected and is no more.
    fn lost(self: Rc<Self>, cx: &mut Cx<'_, S>);
}

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
}

impl<S> Clone for Redis<S> {
    fn clone(&self) -> Self {
        Redis {
            link: Rc::clone(&self.link),
        }
    }
}

struct Link<S: 'static> {
    machine: RefCell<Machine<Done<S>>>,
    lanes: [LaneState; 2],
    /// The timer that looks at the machine again, and when.
    timer: Cell<Option<(TimerId, Duration)>>,
    /// A tick is queued that looks at the machine.
    has_tick: Cell<bool>,
    subscriptions: RefCell<Subscriptions<S>>,
    listener: RefCell<Option<Rc<dyn Listener<S>>>>,
    on_connected: RefCell<Vec<OnState<S>>>,
    on_lost: RefCell<Vec<OnState<S>>>,
    on_gap: RefCell<Vec<OnState<S>>>,
    was_connected: Cell<bool>,
    /// A line about a failed attempt was logged at this time, since the link was lost.
    logged_at: Cell<Option<Duration>>,
}

/// The connection of a lane.
struct LaneState {
    id: Cell<Option<ConnId>>,
    decoder: RefCell<ReplyDecoder>,
    /// The beginning of a reply.
    pending: RefCell<Vec<u8>>,
}

/// The subscriptions of the application.
struct Subscriptions<S: 'static> {
    last_id: u64,
    names: HashMap<RedisSubscription, (SubscriptionKind, Box<[u8]>)>,
    callbacks: HashMap<(SubscriptionKind, Box<[u8]>), Vec<(RedisSubscription, OnMessage<S>)>>,
}

/// # Redis
impl<S: 'static> Redis<S> {
    /// Makes a link to `redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE]` or
    /// `unix://[[USER]:PASSWORD@]/PATH[?db=DATABASE]`. `?name=NAME` names the connection in `CLIENT LIST`, and
    /// `?protocol=2` speaks RESP2 also where the server has RESP3.
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
        let url = RedisUrl::parse(url)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let lane = || LaneState {
            id: Cell::new(None),
            decoder: RefCell::new(ReplyDecoder::new(REPLY_BYTES_MAX)),
            pending: RefCell::default(),
        };
        let link = Rc::new(Link {
            machine: RefCell::new(Machine::new(url, random)),
            lanes: [lane(), lane()],
            timer: Cell::new(None),
            has_tick: Cell::new(false),
            subscriptions: RefCell::new(Subscriptions {
                last_id: 0,
                names: HashMap::new(),
                callbacks: HashMap::new(),
            }),
            listener: RefCell::default(),
            on_connected: RefCell::default(),
            on_lost: RefCell::default(),
            on_gap: RefCell::default(),
            was_connected: Cell::new(false),
            logged_at: Cell::new(None),
        });
        link.look_soon(reactor);
        Ok(Redis { link })
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
        let now = reactor.now();
        let mut machine = self.link.machine.borrow_mut();
        machine.send(words, Box::new(done), timeout, now);
        drop(machine);
        self.link.look_soon(reactor);
    }

    /// Calls `done` when all messages that the server has sent by now were delivered.
    pub(crate) fn barrier(
        &self,
        reactor: &mut Reactor<S>,
        done: impl FnOnce(&mut Cx<'_, S>, Result<Reply<'_>, RedisError>) + 'static,
    ) {
        let now = reactor.now();
        let mut machine = self.link.machine.borrow_mut();
        machine.send_barrier(Box::new(done), COMMAND_TIMEOUT, now);
        drop(machine);
        self.link.look_soon(reactor);
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
        let mut subscriptions = self.link.subscriptions.borrow_mut();
        subscriptions.last_id += 1;
        let id = RedisSubscription(subscriptions.last_id);
        subscriptions.names.insert(id, (kind, name.into()));
        let callbacks = subscriptions.callbacks.entry((kind, name.into()));
        callbacks.or_default().push((id, on_message));
        drop(subscriptions);
        self.hold(reactor, kind, name);
        id
    }

    /// Ends a subscription. The server is told shortly after the last subscription to a name has ended.
    pub fn unsubscribe(&self, reactor: &mut Reactor<S>, subscription: RedisSubscription) {
        let mut subscriptions = self.link.subscriptions.borrow_mut();
        let Some(key) = subscriptions.names.remove(&subscription) else {
            return;
        };
        if let Some(callbacks) = subscriptions.callbacks.get_mut(&key) {
            callbacks.retain(|(id, _)| *id != subscription);
            if callbacks.is_empty() {
                subscriptions.callbacks.remove(&key);
            }
        }
        drop(subscriptions);
        self.release(reactor, key.0, &key.1);
    }

    /// Sends each message of the channels that match a glob pattern to a connection, until it ends. Messages that are
    /// not UTF-8 are sent as binary ones. Does nothing for a connection that is not open.
    pub fn forward(&self, reactor: &mut Reactor<S>, pattern: impl AsRef<[u8]>, id: ConnId) {
        if !reactor.is_open(id) {
            return;
        }
        let send = move |cx: &mut Cx<'_, S>, message: &RedisMessage<'_>| {
            match str::from_utf8(message.payload) {
                Ok(text) => cx.reactor.send(id, text),
                Err(_) => cx.reactor.send(id, message.payload),
            };
        };
        let subscription = self.psubscribe(reactor, pattern, send);
        let redis = self.clone();
        reactor.on_close(id, move |cx, _| redis.unsubscribe(cx.reactor, subscription));
    }

    /// Wants a name without a callback.
    pub(crate) fn hold(
        &self,
        reactor: &mut Reactor<S>,
        kind: SubscriptionKind,
        name: &[u8],
    ) -> Held {
        let held = self.link.machine.borrow_mut().hold(kind, name);
        self.link.look_soon(reactor);
        held
    }

    /// Gives up what [`hold`](Self::hold) wanted.
    pub(crate) fn release(&self, reactor: &mut Reactor<S>, kind: SubscriptionKind, name: &[u8]) {
        let now = reactor.now();
        self.link.machine.borrow_mut().release(kind, name, now);
        self.link.look_soon(reactor);
    }

    // ── the state of the link ────────────────────────────────────────────────────────────────

    /// Calls `call` each time the link is connected and all names are subscribed again.
    pub fn on_connected<R: Outcome>(&self, call: impl FnMut(&mut Cx<'_, S>) -> R + 'static) {
        self.link.on_connected.borrow_mut().push(state_call(call));
    }

    /// Calls `call` each time a link that was connected is lost.
    pub fn on_lost<R: Outcome>(&self, call: impl FnMut(&mut Cx<'_, S>) -> R + 'static) {
        self.link.on_lost.borrow_mut().push(state_call(call));
    }

    /// Calls `call` each time the link is connected again after it was lost: messages that were published in between were
    /// missed.
    pub fn on_gap<R: Outcome>(&self, call: impl FnMut(&mut Cx<'_, S>) -> R + 'static) {
        self.link.on_gap.borrow_mut().push(state_call(call));
    }

    /// Whether the link is connected and all names are subscribed.
    pub fn is_connected(&self) -> bool {
        self.link.machine.borrow().is_connected()
    }

    /// Has all messages and news given to a part of the program too.
    pub(crate) fn set_listener(&self, listener: Rc<dyn Listener<S>>) {
        *self.link.listener.borrow_mut() = Some(listener);
    }

    /// Whether a message by a pattern is the one to take, of those that come for one publication.
    pub(crate) fn is_first_by_pattern(&self, pattern: &[u8], channel: &[u8]) -> bool {
        let machine = self.link.machine.borrow();
        machine.upstream().is_first_by_pattern(pattern, channel)
    }

    /// Ends the link for good. Commands that wait come to nothing.
    pub fn close(&self, reactor: &mut Reactor<S>) {
        let now = reactor.now();
        self.link.machine.borrow_mut().close(now);
        self.link.look_soon(reactor);
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

impl<S: 'static> Link<S> {
    /// Looks at the machine in this turn or the next, outside of the caller.
    fn look_soon(self: &Rc<Self>, reactor: &mut Reactor<S>) {
        if !self.has_tick.replace(true) {
            let link = Rc::clone(self);
            reactor.next_tick(move |cx| {
                link.has_tick.set(false);
                let now = cx.reactor.now();
                link.machine.borrow_mut().handle_time(now);
                link.look(cx);
            });
        }
    }

    /// Carries out what the machine wants, and calls back.
    fn look(self: &Rc<Self>, cx: &mut Cx<'_, S>) {
        loop {
            self.machine.borrow_mut().send_names();
            while let Some(action) = self.take_action() {
                match action {
                    Action::Connect(lane) => self.connect(cx.reactor, lane),
                    Action::Disconnect => self.disconnect(cx.reactor),
                }
            }
            for lane in [Lane::Commands, Lane::Subscriptions] {
                let bytes = self.machine.borrow_mut().take_bytes(lane);
                if let (false, Some(id)) = (bytes.is_empty(), self.lane(lane).id.get()) {
                    cx.reactor.send(id, bytes);
                }
            }
            let failed = self.machine.borrow_mut().take_failed();
            let has_failed = !failed.is_empty();
            for (done, error) in failed {
                done(cx, Err(error));
            }
            if !self.call_events(cx) && !has_failed {
                break;
            }
        }
        self.arm_timer(cx.reactor);
    }

    /// Calls back with the news of the link. Returns whether there were any.
    fn call_events(self: &Rc<Self>, cx: &mut Cx<'_, S>) -> bool {
        let mut had_event = false;
        while let Some(event) = self.take_event() {
            had_event = true;
            let listener = self.listener.borrow().clone();
            match event {
                Event::Connected => self.call_connected(cx),
                Event::Lost(why) => {
                    let address = self.address();
                    log::warn!("redis {address}: the link is lost: {why}; messages may be missed");
                    if let Some(listener) = listener {
                        listener.lost(cx);
                    }
                    call_all(&self.on_lost, cx);
                }
                Event::Failed(why) => self.log_failure(cx.reactor.now(), &why),
                Event::Subscribed(kind, name) => {
                    if let Some(listener) = listener {
                        listener.subscribed(cx, kind, &name);
                    }
                }
                Event::Refused(kind, name, why) => {
                    let (address, shown) = (self.address(), String::from_utf8_lossy(&name));
                    log::error!("redis {address}: cannot subscribe to {shown:?}: {why}");
                    if let Some(listener) = listener {
                        listener.refused(cx, kind, &name);
                    }
                }
            }
        }
        had_event
    }

    fn call_connected(self: &Rc<Self>, cx: &mut Cx<'_, S>) {
        log::info!("redis {}: connected", self.address());
        self.logged_at.set(None);
        if let Some(listener) = self.listener.borrow().clone() {
            listener.connected(cx);
        }
        let is_again = self.was_connected.replace(true);
        call_all(&self.on_connected, cx);
        if is_again {
            call_all(&self.on_gap, cx);
        }
    }

    fn log_failure(&self, now: Duration, why: &str) {
        let is_due = |at: Duration| FAILURE_LOG_INTERVAL <= now.saturating_sub(at);
        if self.logged_at.get().is_none_or(is_due) {
            self.logged_at.set(Some(now));
            log::warn!(
                "redis {}: cannot connect: {why}; it is tried again",
                self.address()
            );
        }
    }

    fn connect(self: &Rc<Self>, reactor: &mut Reactor<S>, lane: Lane) {
        let address = self.address();
        let link = Rc::clone(self);
        let made = reactor.connect_stream(&address, |stream| link.set_callbacks(stream, lane));
        match made {
            Ok(id) => {
                reactor.outlast_drain(id);
                let state = self.lane(lane);
                state.id.set(Some(id));
                *state.decoder.borrow_mut() = ReplyDecoder::new(REPLY_BYTES_MAX);
                state.pending.borrow_mut().clear();
            }
            Err(error) => {
                let now = reactor.now();
                let mut machine = self.machine.borrow_mut();
                machine.handle_close(&error.to_string(), now);
            }
        }
    }

    fn set_callbacks(self: &Rc<Self>, stream: &mut StreamCallbacks<S>, lane: Lane) {
        let options = stream.options();
        options.queue_high_bytes = QUEUE_BYTES_MAX;
        options.idle_timeout = None;
        options.age_max = None;
        let link = Rc::clone(self);
        stream.on_open(move |stream| {
            let now = stream.reactor.now();
            link.machine.borrow_mut().handle_open(lane, now);
            link.look(&mut Cx::new(stream.state, stream.reactor));
        });
        let link = Rc::clone(self);
        stream.on_data(move |stream, bytes| link.receive(stream, lane, bytes));
        let link = Rc::clone(self);
        stream.on_close(move |stream, close| {
            if link.lane(lane).id.get() != Some(stream.id) {
                return;
            }
            link.lane(lane).id.set(None);
            let now = stream.reactor.now();
            let why = reason(close);
            link.machine.borrow_mut().handle_close(&why, now);
            link.look(&mut Cx::new(stream.state, stream.reactor));
        });
    }

    fn disconnect(&self, reactor: &mut Reactor<S>) {
        for lane in &self.lanes {
            if let Some(id) = lane.id.take() {
                reactor.reset(id);
            }
            *lane.pending.borrow_mut() = Vec::new();
        }
    }

    /// Takes bytes of the server.
    fn receive(self: &Rc<Self>, stream: &mut Stream<'_, S>, lane: Lane, bytes: &[u8]) {
        let (id, state) = (stream.id, self.lane(lane));
        let cx = &mut Cx::new(stream.state, stream.reactor);
        let now = cx.reactor.now();
        self.machine.borrow_mut().handle_bytes(lane, now);
        let mut buffer = state.pending.take();
        let mut input = match buffer.is_empty() {
            true => bytes,
            false => {
                buffer.extend_from_slice(bytes);
                &buffer[..]
            }
        };
        let input_bytes = input.len();
        // A callback may end the link.
        while state.id.get() == Some(id) {
            let reply = state.decoder.borrow_mut().next_reply(&mut input);
            let now = cx.reactor.now();
            match reply {
                Ok(Some(reply)) => self.handle_reply(cx, lane, reply, now),
                Ok(None) => {
                    // A long reply comes in many pieces, and is not copied with each.
                    let taken_bytes = input_bytes - input.len();
                    match buffer.is_empty() {
                        true => buffer = input.to_vec(),
                        false => _ = buffer.drain(..taken_bytes),
                    }
                    state.pending.replace(buffer);
                    break;
                }
                Err(error) => {
                    let mut machine = self.machine.borrow_mut();
                    machine.handle_close(&error.to_string(), now);
                    drop(machine);
                    break;
                }
            }
        }
        self.look(cx);
    }

    fn handle_reply(
        self: &Rc<Self>,
        cx: &mut Cx<'_, S>,
        lane: Lane,
        reply: Reply<'_>,
        now: Duration,
    ) {
        let heard = self.machine.borrow_mut().handle_reply(lane, reply, now);
        match heard {
            Heard::Nothing => {}
            Heard::Answer(done, reply) => done(cx, Ok(reply)),
            Heard::Message(message) => self.call_message(cx, message),
        }
        // News stand in one order with messages and answers.
        self.call_events(cx);
        self.carry_out_disconnect(cx.reactor);
    }

    /// A reply may have ended the link: what is left of the input then belongs to no connection.
    fn carry_out_disconnect(&self, reactor: &mut Reactor<S>) {
        if !self.machine.borrow().has_connections() {
            self.disconnect(reactor);
        }
    }

    fn call_message(&self, cx: &mut Cx<'_, S>, message: Message<'_>) {
        if let Some(listener) = self.listener.borrow().clone() {
            listener.message(cx, message);
        }
        let callbacks = {
            let subscriptions = self.subscriptions.borrow();
            if subscriptions.callbacks.is_empty() {
                return;
            }
            let key = (message.kind, Box::from(message.name));
            subscriptions.callbacks.get(&key).cloned()
        };
        let message = RedisMessage {
            channel: message.channel,
            pattern: (message.kind == SubscriptionKind::Pattern).then_some(message.name),
            payload: message.payload,
        };
        for (id, call) in callbacks.into_iter().flatten() {
            // An earlier callback may have ended it.
            if self.subscriptions.borrow().names.contains_key(&id)
                && let Ok(mut call) = call.try_borrow_mut()
            {
                call(cx, &message);
            }
        }
    }

    /// Looks at the machine when something is due.
    fn arm_timer(self: &Rc<Self>, reactor: &mut Reactor<S>) {
        let due = self.machine.borrow().next_due();
        if let Some((timer, at)) = self.timer.get() {
            // A timer that comes too early looks again.
            if due.is_some_and(|due| at <= due) {
                return;
            }
            reactor.cancel(timer);
            self.timer.set(None);
        }
        let Some(due) = due else {
            return;
        };
        let now = reactor.now();
        let link = Rc::clone(self);
        let timer = reactor.after(due.saturating_sub(now), move |cx| {
            link.timer.set(None);
            let now = cx.reactor.now();
            link.machine.borrow_mut().handle_time(now);
            link.look(cx);
        });
        self.timer.set(Some((timer, due)));
    }

    fn lane(&self, lane: Lane) -> &LaneState {
        &self.lanes[lane as usize]
    }

    fn take_action(&self) -> Option<Action> {
        self.machine.borrow_mut().next_action()
    }

    fn take_event(&self) -> Option<Event> {
        self.machine.borrow_mut().next_event()
    }

    fn address(&self) -> String {
        self.machine.borrow().url().address.clone()
    }
}

fn call_all<S>(calls: &RefCell<Vec<OnState<S>>>, cx: &mut Cx<'_, S>) {
    let calls = calls.borrow().clone();
    for call in calls {
        if let Ok(mut call) = call.try_borrow_mut() {
            call(cx);
        }
    }
}

/// Why a connection has ended, for the log.
fn reason(close: &Close) -> String {
    match &close.cause {
        CloseCause::Peer => "the server has closed the connection".into(),
        cause => cause.to_string(),
    }
}
