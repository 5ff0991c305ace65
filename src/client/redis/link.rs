//! The link to a server: it carries bytes between the machine and connections, and calls back.
//!
//! The machine decides. Its orders are carried out in ticks and in callbacks of the connections, never inside of a
//! method that the application calls.
//!
//! Where sentinels know the address, they are asked before each attempt, and while the link is connected every
//! [`WATCH_INTERVAL`]: a master that is cut off from the sentinels does not end its connections when another one takes
//! over. One sentinel may be behind the others, so the link is lost when two answers in a row name another master.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use super::error::RedisError;
use super::machine::{Action, Event, Heard, Lane, Machine, UNSENT_BYTES_MAX};
use super::push::Message;
use super::sentinel::Answer;
use super::sentinel_link::{SentinelLink, reason};
use super::subscriptions::Subscriptions;
use super::upstream::{Held, SubscriptionKind};
use super::url::RedisUrl;
use crate::protocol::resp::{Reply, ReplyDecoder};
use crate::reactor::id::ConnId;
use crate::reactor::reactor::{Cx, Reactor};
use crate::reactor::time::timers::TimerId;
use crate::session::stream::{Stream, StreamCallbacks};

/// The longest reply that is taken, in bytes.
pub(super) const REPLY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Most bytes that wait for a connection to the server.
const QUEUE_BYTES_MAX: usize = 2 * UNSENT_BYTES_MAX;

/// A log line about failed attempts is not repeated for so long.
const FAILURE_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The time between two questions to the sentinels while the link is connected. An old master takes publications, which
/// are lost, for about ten seconds after an ordered failover.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Called with the answer to a command, or with the reason why there is none.
pub(super) type Done<S> = Box<dyn FnOnce(&mut Cx<'_, S>, Result<Reply<'_>, RedisError>)>;

/// Called when the state of the link has changed.
pub(super) type OnState<S> = Rc<RefCell<dyn FnMut(&mut Cx<'_, S>)>>;

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

    /// A node of a cluster has no subscription to this sharded name any more, or has refused it with this error, because the
    /// slot is not its own. It does not subscribe to the name again before another one [holds](Link::hold) it.
    fn ended(self: Rc<Self>, cx: &mut Cx<'_, S>, name: &[u8], why: Option<&str>) {
        let _ = (cx, name, why);
    }

    /// All that is wanted is subscribed.
    fn connected(self: Rc<Self>, cx: &mut Cx<'_, S>);

    /// The link was connected and is no more.
    fn lost(self: Rc<Self>, cx: &mut Cx<'_, S>);
}

/// The link of a reactor to a server.
pub(super) struct Link<S: 'static> {
    machine: RefCell<Machine<Done<S>>>,
    lanes: [LaneState; 2],
    /// The timer that looks at the machine again, and when.
    timer: Cell<Option<(TimerId, Duration)>>,
    /// A tick is queued that looks at the machine.
    has_tick: Cell<bool>,
    subscriptions: Subscriptions<S>,
    listener: RefCell<Option<Rc<dyn Listener<S>>>>,
    on_connected: RefCell<Vec<OnState<S>>>,
    on_lost: RefCell<Vec<OnState<S>>>,
    on_gap: RefCell<Vec<OnState<S>>>,
    was_connected: Cell<bool>,
    /// A line about a failed attempt was logged at this time, since the link was lost.
    logged_at: Cell<Option<Duration>>,
    master: Option<Master<S>>,
}

/// The address that sentinels know.
struct Master<S: 'static> {
    sentinels: Rc<SentinelLink<S>>,
    /// As a sentinel has named it for this attempt. Empty before.
    address: RefCell<String>,
    /// The last answer has named another address.
    is_doubted: Cell<bool>,
    /// The timer for the next question while the link is connected.
    timer: Cell<Option<TimerId>>,
}

/// The connection of a lane.
struct LaneState {
    id: Cell<Option<ConnId>>,
    decoder: RefCell<ReplyDecoder>,
    /// The beginning of a reply.
    pending: RefCell<Vec<u8>>,
}

impl<S: 'static> Link<S> {
    /// Makes a link, which connects at once. `random` is any number, for the pauses.
    pub(super) fn new(reactor: &mut Reactor<S>, url: RedisUrl, random: u64) -> Rc<Link<S>> {
        Link::with_machine(reactor, Machine::new(url, random))
    }

    /// As [`new`](Self::new), to one node of a cluster.
    pub(super) fn of_node(reactor: &mut Reactor<S>, url: RedisUrl, random: u64) -> Rc<Link<S>> {
        Link::with_machine(reactor, Machine::of_node(url, random))
    }

    fn with_machine(reactor: &mut Reactor<S>, machine: Machine<Done<S>>) -> Rc<Link<S>> {
        let lane = || LaneState {
            id: Cell::new(None),
            decoder: RefCell::new(ReplyDecoder::new(REPLY_BYTES_MAX)),
            pending: RefCell::default(),
        };
        let master = machine.url().sentinels.clone().map(|sentinels| Master {
            sentinels: SentinelLink::new(sentinels, machine.url().security.clone()),
            address: RefCell::default(),
            is_doubted: Cell::new(false),
            timer: Cell::new(None),
        });
        let link = Rc::new(Link {
            machine: RefCell::new(machine),
            lanes: [lane(), lane()],
            timer: Cell::new(None),
            has_tick: Cell::new(false),
            subscriptions: Subscriptions::default(),
            listener: RefCell::default(),
            on_connected: RefCell::default(),
            on_lost: RefCell::default(),
            on_gap: RefCell::default(),
            was_connected: Cell::new(false),
            logged_at: Cell::new(None),
            master,
        });
        link.look_soon(reactor);
        link
    }

    // ── what the owner orders ────────────────────────────────────────────────────────────────

    /// Sends a command. `done` is called once.
    pub(super) fn send<A: AsRef<[u8]>>(
        self: &Rc<Self>,
        reactor: &mut Reactor<S>,
        words: &[A],
        timeout: Duration,
        done: Done<S>,
    ) {
        let now = reactor.now();
        let queued_bytes = self.queued_bytes(reactor);
        let mut machine = self.machine.borrow_mut();
        machine.send(words, done, timeout, now, queued_bytes);
        drop(machine);
        self.look_soon(reactor);
    }

    /// As [`send`](Self::send), for a command that is encoded already.
    pub(super) fn send_encoded(
        self: &Rc<Self>,
        reactor: &mut Reactor<S>,
        bytes: &[u8],
        timeout: Duration,
        done: Done<S>,
    ) {
        let now = reactor.now();
        let queued_bytes = self.queued_bytes(reactor);
        let mut machine = self.machine.borrow_mut();
        machine.send_encoded(bytes, done, timeout, now, queued_bytes);
        drop(machine);
        self.look_soon(reactor);
    }

    /// The bytes of commands that wait for the socket.
    fn queued_bytes(&self, reactor: &Reactor<S>) -> usize {
        let id = self.lane(Lane::Commands).id.get();
        id.map_or(0, |id| reactor.queued_bytes(id))
    }

    /// Calls `done` when all messages that the server has sent by now were delivered.
    pub(super) fn send_barrier(
        self: &Rc<Self>,
        reactor: &mut Reactor<S>,
        timeout: Duration,
        done: Done<S>,
    ) {
        let now = reactor.now();
        self.machine.borrow_mut().send_barrier(done, timeout, now);
        self.look_soon(reactor);
    }

    /// Wants a name.
    pub(super) fn hold(
        self: &Rc<Self>,
        reactor: &mut Reactor<S>,
        kind: SubscriptionKind,
        name: &[u8],
    ) -> Held {
        let held = self.machine.borrow_mut().hold(kind, name);
        self.look_soon(reactor);
        held
    }

    /// Gives up what [`hold`](Self::hold) wanted.
    pub(super) fn release(
        self: &Rc<Self>,
        reactor: &mut Reactor<S>,
        kind: SubscriptionKind,
        name: &[u8],
    ) {
        let now = reactor.now();
        self.machine.borrow_mut().release(kind, name, now);
        self.look_soon(reactor);
    }

    /// Ends the link for good.
    pub(super) fn close(self: &Rc<Self>, reactor: &mut Reactor<S>) {
        let now = reactor.now();
        self.machine.borrow_mut().close(now);
        self.look_soon(reactor);
    }

    pub(super) fn set_listener(&self, listener: Rc<dyn Listener<S>>) {
        *self.listener.borrow_mut() = Some(listener);
    }

    pub(super) fn on_connected(&self, call: OnState<S>) {
        self.on_connected.borrow_mut().push(call);
    }

    pub(super) fn on_lost(&self, call: OnState<S>) {
        self.on_lost.borrow_mut().push(call);
    }

    pub(super) fn on_gap(&self, call: OnState<S>) {
        self.on_gap.borrow_mut().push(call);
    }

    // ── what one may ask ─────────────────────────────────────────────────────────────────────

    /// The subscriptions of the application.
    pub(super) fn subscriptions(&self) -> &Subscriptions<S> {
        &self.subscriptions
    }

    pub(super) fn is_connected(&self) -> bool {
        self.machine.borrow().is_connected()
    }

    pub(super) fn is_first_by_pattern(&self, pattern: &[u8], channel: &[u8]) -> bool {
        let machine = self.machine.borrow();
        machine.upstream().is_first_by_pattern(pattern, channel)
    }

    pub(super) fn is_first_of(
        &self,
        patterns: &[Box<[u8]>],
        pattern: &[u8],
        channel: &[u8],
    ) -> bool {
        let machine = self.machine.borrow();
        machine.upstream().is_first_of(patterns, pattern, channel)
    }

    // ── inside ───────────────────────────────────────────────────────────────────────────────

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
                    Action::Connect(Lane::Commands) if self.master.is_some() => {
                        self.find_master(cx.reactor);
                    }
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
                    let address = self.shown_address();
                    log::warn!("redis {address}: the link is lost: {why}; messages may be missed");
                    if let Some(listener) = listener {
                        listener.lost(cx);
                    }
                    call_all(&self.on_lost, cx);
                }
                Event::Failed(why) => {
                    self.log_failure(cx.reactor.now(), &why);
                    self.reject_address();
                }
                Event::Subscribed(kind, name) => {
                    if let Some(listener) = listener {
                        listener.subscribed(cx, kind, &name);
                    }
                }
                Event::FoundCluster => {
                    let address = self.address();
                    log::warn!(
                        "redis {address}: the server is a node of a Redis Cluster and refuses keys of other nodes; the URL of a cluster begins with redis+cluster://"
                    );
                }
                Event::Ended(name, why) => {
                    if let Some(listener) = listener {
                        listener.ended(cx, &name, why.as_deref());
                    }
                }
                Event::Refused(kind, name, why) => {
                    let (address, shown) = (self.shown_address(), String::from_utf8_lossy(&name));
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
        log::info!("redis {}: connected", self.shown_address());
        self.logged_at.set(None);
        self.watch_master(cx.reactor);
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
                self.shown_address()
            );
        }
    }

    fn connect(self: &Rc<Self>, reactor: &mut Reactor<S>, lane: Lane) {
        let address = self.address();
        let link = Rc::clone(self);
        let to = self.machine.borrow().url().security.clone();
        let to = to.connect_to(&address);
        let made = reactor.connect_stream(to, |stream| link.set_callbacks(stream, lane));
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
        if let Some(master) = &self.master {
            master.sentinels.cancel(reactor);
            if let Some(timer) = master.timer.take() {
                reactor.cancel(timer);
            }
        }
    }

    // ── the master that sentinels know ───────────────────────────────────────────────────────

    /// Asks the sentinels for the address of the master, and connects to it.
    fn find_master(self: &Rc<Self>, reactor: &mut Reactor<S>) {
        if let Some(master) = &self.master {
            master.address.borrow_mut().clear();
            master.is_doubted.set(false);
            master.sentinels.begin();
            self.ask_sentinel(reactor);
        }
    }

    /// Asks the sentinels after a while whether there is another master.
    fn watch_master(self: &Rc<Self>, reactor: &mut Reactor<S>) {
        let Some(master) = &self.master else {
            return;
        };
        let link = Rc::clone(self);
        let timer = reactor.after(WATCH_INTERVAL, move |cx| {
            if let Some(master) = &link.master {
                master.timer.set(None);
                master.sentinels.begin();
                link.ask_sentinel(cx.reactor);
            }
        });
        master.timer.set(Some(timer));
    }

    fn ask_sentinel(self: &Rc<Self>, reactor: &mut Reactor<S>) {
        if let Some(master) = &self.master {
            let link = Rc::clone(self);
            let done = move |cx: &mut Cx<'_, S>, answer| link.handle_sentinel(cx, answer);
            master.sentinels.ask(reactor, Box::new(done));
        }
    }

    fn handle_sentinel(self: &Rc<Self>, cx: &mut Cx<'_, S>, answer: Answer) {
        let Some(master) = &self.master else {
            return;
        };
        let now = cx.reactor.now();
        match answer {
            Answer::Next => {
                if !self.is_connected() {
                    // Each sentinel has its time, and the master behind them the whole of its own.
                    self.machine.borrow_mut().handle_bytes(Lane::Commands, now);
                }
                return self.ask_sentinel(cx.reactor);
            }
            Answer::Found(address) if self.is_connected() => {
                return self.compare_master(cx, master, &address);
            }
            Answer::Found(address) => {
                self.machine.borrow_mut().handle_bytes(Lane::Commands, now);
                *master.address.borrow_mut() = address;
                self.connect(cx.reactor, Lane::Commands);
            }
            Answer::Failed(why) if self.is_connected() => {
                log::debug!("redis {}: {why}", self.shown_address());
                return self.watch_master(cx.reactor);
            }
            Answer::Failed(why) => self.machine.borrow_mut().handle_close(&why, now),
        }
        self.look(cx);
    }

    /// Compares the address of a sentinel with the one that the link has.
    fn compare_master(self: &Rc<Self>, cx: &mut Cx<'_, S>, master: &Master<S>, address: &str) {
        let is_other = *master.address.borrow() != address;
        let was_doubted = master.is_doubted.replace(is_other);
        if is_other {
            master.sentinels.reject();
        }
        if !is_other || !was_doubted {
            return self.watch_master(cx.reactor);
        }
        let now = cx.reactor.now();
        let why = format!("the sentinels name another master, {address}");
        self.machine.borrow_mut().handle_close(&why, now);
        self.look(cx);
    }

    /// An attempt has failed: another sentinel may know better.
    fn reject_address(&self) {
        if let Some(master) = &self.master
            && !master.address.borrow().is_empty()
        {
            master.sentinels.reject();
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
        self.subscriptions.call(cx, message);
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
        match &self.master {
            Some(master) => master.address.borrow().clone(),
            None => self.machine.borrow().url().address.clone(),
        }
    }

    /// The address for the log, with the name of the master where it has one.
    fn shown_address(&self) -> String {
        let address = self.address();
        match &self.master {
            Some(master) if address.is_empty() => master.sentinels.master(),
            Some(master) => format!("{} at {address}", master.sentinels.master()),
            None => address,
        }
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
