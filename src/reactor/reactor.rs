//! What callbacks and the setup get as `reactor`: everything they may ask for.
//!
//! No method here calls user code. Sends, closes, publishes, subscriptions and ticks are queued or
//! applied to plain data, and the turn carries them out; so callbacks never nest.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
#[cfg(feature = "hub")]
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use slab::Slab;

use crate::protocol::http;
use crate::protocol::websocket::ToMessage;
use crate::pubsub::{
    BodyKind, Encoded, Event, EventId, MembersChange, NameKind, Publication, TopicError, Topics,
    WireFormat, WireFormats,
};

use crate::reactor::close::{Close, CloseCause, Sent};
use crate::reactor::config::{Config, ConnectionOptions};
use crate::reactor::connection::queue::Keep;
use crate::reactor::connection::table::{Source, Table};
use crate::reactor::connection::{Flags, Protocol};
use crate::reactor::drain::Drain;
use crate::reactor::handler::{Cx, Handler};
use crate::reactor::id::{ConnId, ListenerId};
use crate::reactor::remote::{Arrival, Mailbox, Remote};
use crate::reactor::stats::Stats;
use crate::reactor::time::clock::{Clock, nanos};
use crate::reactor::time::timers::{TimerId, Timers};
use crate::reactor::transport::Peer;
use crate::reactor::transport::connect::Race;
use crate::reactor::transport::listener::{self, Accepting, Acceptor, Address, Listener};
use crate::reactor::transport::lookup::Lookups;
use crate::reactor::transport::memory::Net;

pub(crate) type Once<S> = Box<dyn FnOnce(&mut Cx<'_, S>)>;
pub(crate) type OnClose<S> = Box<dyn FnOnce(&mut Cx<'_, S>, &Close)>;

pub(crate) enum Timer<S> {
    Once(Once<S>),
    Periodic {
        period: u64,
        call: Box<dyn FnMut(&mut Cx<'_, S>)>,
    },
    /// Its callback is being called.
    Running,
}

/// Messages, requests, deliveries by eights and looks at patterns between two readings of the
/// clock.
const STEPS_PER_CLOCK: u32 = 64;

/// Where the numbers of publications come from.
enum Numbers {
    Own(u64),
    /// Several reactors are one hub.
    #[cfg(feature = "hub")]
    Shared(Arc<AtomicU64>),
}

impl Numbers {
    #[inline]
    fn next(&mut self) -> u64 {
        match self {
            Numbers::Own(last) => {
                *last += 1;
                *last
            }
            #[cfg(feature = "hub")]
            // One place in memory has one order of changes, so what one thread gets here ascends.
            Numbers::Shared(last) => last.fetch_add(1, Ordering::Relaxed) + 1,
        }
    }
}

/// What a publication came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its id: one sequence for all topics, assigned here.
    pub id: EventId,
    /// Into how many members' queues it was accepted.
    pub delivered: usize,
}

/// Everything a callback may ask for: send, close, publish, subscribe, timers, ticks, listeners.
pub struct Reactor<S> {
    pub(crate) table: Table,
    pub(crate) topics: Topics,
    pub(crate) timers: Timers<Timer<S>>,
    pub(crate) ticks: VecDeque<Once<S>>,
    pub(crate) mailbox: Arc<Mailbox<S>>,
    /// What came from other threads and waits for its turn.
    pub(crate) arrivals: VecDeque<Arrival<S>>,
    pub(crate) clock: Clock,
    pub(crate) net: Option<Rc<Net>>,
    pub(crate) races: HashMap<ConnId, Race>,
    pub(crate) lookups: Lookups,
    pub(crate) new_handlers: Vec<(u32, Box<dyn Handler<S>>)>,
    pub(crate) on_close: HashMap<ConnId, Vec<OnClose<S>>>,
    pub(crate) stopped: bool,
    pub(crate) drain: Option<Drain>,
    /// What is being called, for the log lines about slow callbacks and panics.
    pub(crate) callback: &'static str,
    #[cfg(all(unix, feature = "signals"))]
    pub(crate) signals: Option<crate::reactor::signals::Signals>,
    handler_keys: Slab<()>,
    wire_formats: WireFormats,
    epoch: u64,
    numbers: Numbers,
    /// Tells this publication from the one before, with each member that it was queued to.
    publication_mark: u64,
    hasher: RandomState,
}

impl<S> Drop for Reactor<S> {
    // However the reactor ends, threads that still hold a `Remote` are told.
    fn drop(&mut self) {
        self.mailbox.close();
    }
}

impl<S: 'static> Reactor<S> {
    pub(crate) fn new(
        table: Table,
        mailbox: Mailbox<S>,
        clock: Clock,
        net: Option<Rc<Net>>,
        epoch: u64,
    ) -> Reactor<S> {
        Reactor {
            table,
            topics: Topics::new(),
            timers: Timers::new(),
            ticks: VecDeque::new(),
            mailbox: Arc::new(mailbox),
            arrivals: VecDeque::new(),
            clock,
            net,
            races: HashMap::new(),
            lookups: Lookups::default(),
            new_handlers: Vec::new(),
            on_close: HashMap::new(),
            stopped: false,
            drain: None,
            callback: "",
            #[cfg(all(unix, feature = "signals"))]
            signals: None,
            handler_keys: Slab::new(),
            wire_formats: WireFormats::new(),
            epoch,
            numbers: Numbers::Own(0),
            publication_mark: 0,
            hasher: RandomState::new(),
        }
    }

    // ── messages ─────────────────────────────────────────────────────────────────────────────

    /// Sends a message to a connection: a WebSocket message, the data of an event, a chunk of a
    /// streamed body, or plain bytes, as the connection's protocol has it.
    ///
    /// Accepts into a bounded queue; above its high watermark the route's
    /// [`Overflow`](crate::Overflow) policy decides. Binary data for an event stream is refused
    /// as `Gone`, since that protocol is text.
    #[inline]
    pub fn send(&mut self, id: ConnId, message: impl ToMessage) -> Sent {
        self.table.send(id, message.to_message(), Keep::Message)
    }

    /// As [`send`](Self::send), for routes that keep only the latest message of each key.
    pub fn send_keyed(&mut self, id: ConnId, key: u64, message: impl ToMessage) -> Sent {
        self.table.send(id, message.to_message(), Keep::Keyed(key))
    }

    /// Closes a connection in its protocol's words, after what is queued.
    pub fn close(&mut self, id: ConnId) -> Sent {
        self.close_with(id, 1000, "")
    }

    /// Closes a WebSocket with a code and a reason of at most 123 bytes, after what is queued; a
    /// longer reason is cut at a character. On other connections both are ignored.
    ///
    /// Codes that an application may use are 1000 to 1003, 1007 to 1014 and 3000 to 4999; others
    /// go out as 1000. Source: RFC 6455, section 7.4.
    pub fn close_with(&mut self, id: ConnId, code: u16, reason: &str) -> Sent {
        self.table.close(id, CloseCause::Local, code, reason)
    }

    /// Ends a connection at once, without a goodbye and without flushing.
    pub fn reset(&mut self, id: ConnId) {
        self.table.abort(id, CloseCause::Local);
    }

    /// Stops reading from a connection. What the kernel buffered stays there.
    ///
    /// A proxy pauses its source while its sink is behind, and goes on in the sink's `on_drain`.
    /// For replies to a connection itself that is not needed: while its queue is above the high
    /// watermark, and the policy is [`Overflow::Close`](crate::reactor::config::Overflow::Close), it is not
    /// read.
    pub fn pause(&mut self, id: ConnId) {
        self.table.pause(id);
    }

    /// Goes on reading from a connection.
    pub fn resume(&mut self, id: ConnId) {
        self.table.resume(id);
    }

    /// Whether a connection still takes messages.
    pub fn is_open(&self, id: ConnId) -> bool {
        self.table
            .connection(id)
            .is_some_and(|connection| connection.life == crate::reactor::connection::Life::Open)
    }

    /// Bytes that wait for a connection's socket, with their overhead.
    pub fn queued_bytes(&self, id: ConnId) -> usize {
        self.table
            .connection(id)
            .map_or(0, |connection| connection.queue.queued_bytes())
    }

    /// Where a connection's peer is. Asks the kernel.
    pub fn peer(&self, id: ConnId) -> Peer {
        self.table
            .connection(id)
            .map_or(Peer::Unknown, |connection| connection.transport.peer())
    }

    /// How many connections there are, of every kind, lingering ones included.
    pub fn connection_count(&self) -> usize {
        self.table.connection_count
    }

    /// Calls `call` once when the connection has ended, after the route's own `on_close`.
    ///
    /// Never called when the connection is gone already.
    pub fn on_close<R>(
        &mut self,
        id: ConnId,
        call: impl FnOnce(&mut Cx<'_, S>, &Close) -> R + 'static,
    ) {
        if self.table.is_heard(id) {
            self.on_close
                .entry(id)
                .or_default()
                .push(Box::new(move |cx, close| {
                    call(cx, close);
                }));
        }
    }

    // ── topics ───────────────────────────────────────────────────────────────────────────────

    /// Publishes to the members of a topic and of the patterns that match it.
    ///
    /// Each wire format is encoded once, and members whose connections frame it alike share the
    /// bytes. A member by name and by pattern gets it once. A member whose protocol takes no
    /// publications now, such as a WebSocket client before its handshake is done, is left out and
    /// not counted.
    pub fn publish<'e>(&mut self, topic: &str, event: impl Into<Event<'e>>) -> Published {
        self.publish_to(topic, &event.into(), None)
    }

    /// As [`publish`](Self::publish), but leaves out one member: the connection that asked for it,
    /// say, and has shown the event already. A stale id leaves out no member.
    pub fn publish_except<'e>(
        &mut self,
        topic: &str,
        event: impl Into<Event<'e>>,
        except: ConnId,
    ) -> Published {
        self.publish_to(topic, &event.into(), Some(except))
    }

    fn publish_to(&mut self, topic: &str, event: &Event<'_>, except: Option<ConnId>) -> Published {
        let id = self.next_event_id();
        let delivered = self.deliver(topic, id, event, except);
        Published { id, delivered }
    }

    /// The place in the sequence of what is published next.
    #[inline]
    pub(crate) fn next_event_id(&mut self) -> EventId {
        self.table.stats.publications += 1;
        EventId {
            epoch: self.epoch,
            number: self.numbers.next(),
        }
    }

    /// Queues a publication that has its id to the members that are here, all but one where there is
    /// an exception, and returns to how many.
    #[inline]
    pub(crate) fn deliver(
        &mut self,
        topic: &str,
        id: EventId,
        event: &Event<'_>,
        except: Option<ConnId>,
    ) -> usize {
        let publication = Publication {
            topic,
            id,
            event,
            value: 0,
        };
        let key = self.hasher.hash_one(topic);
        // Zero is the mark of a connection to which nothing was published yet.
        self.publication_mark += 1;
        let mark = self.publication_mark;
        if let Some(connection) = except.and_then(|id| self.table.connection_mut(id)) {
            // As if the publication had been queued to it, so that the loop needs no comparison.
            connection.last_publication = mark;
        }
        let Reactor {
            table,
            topics,
            wire_formats,
            ..
        } = self;
        let mut encoded = Encoded::new(wire_formats, publication);
        let mut delivered = 0;
        let count = &mut delivered;
        // By `for_each`, which goes through the lists one after the other instead of asking at each
        // member which it is in. The closure owns what it can, which saves a pointer each.
        topics.members(topic).for_each(move |(member, value)| {
            let member = ConnId::from_bits(member);
            let encode = |format| encoded.get(format, value);
            if table.send_publication(member, mark, key, encode) == Some(Sent::Queued) {
                *count += 1;
            }
        });
        self.table.stats.deliveries += delivered as u64;
        let steps = delivered / 8 + self.topics.pattern_count();
        self.table.spend(u32::try_from(steps).unwrap_or(u32::MAX));
        delivered
    }

    /// Takes the ids of publications from a sequence that other reactors take them from too.
    #[cfg(feature = "hub")]
    pub(crate) fn share_sequence(&mut self, epoch: u64, numbers: Arc<AtomicU64>) {
        // What was published here before keeps its ids for itself.
        if let Numbers::Own(last) = self.numbers {
            numbers.fetch_max(last, Ordering::Relaxed);
        }
        self.epoch = epoch;
        self.numbers = Numbers::Shared(numbers);
    }

    /// Which run of the hub the ids of publications belong to.
    #[cfg(feature = "hub")]
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Looks at the clock when enough has been done for the connection that is being read: beyond
    /// its time in this turn, the rest of what it sent waits for the next, and others come first.
    #[inline]
    pub(crate) fn check_budget(&mut self, id: ConnId) {
        if self.table.spent < STEPS_PER_CLOCK {
            self.table.spent += 1;
        } else {
            self.table.spent = 0;
            let now = self.clock.now();
            if self.table.read_time_nanos < now - self.table.now
                && self.table.flush_nanos < now - self.table.woke
                && let Some(connection) = self.table.connection_mut(id)
            {
                connection.flags.set(Flags::SPENT);
                self.table.unplain(id);
            }
        }
    }

    /// Makes a connection a member of a topic, until it ends. `false` when it was one, is gone, or
    /// speaks HTTP and has not become a WebSocket or an event stream.
    ///
    /// A WebSocket client can subscribe before its handshake is done; it gets what is published
    /// from `on_open` on.
    ///
    /// # Errors
    ///
    /// [`TopicError`] when the name cannot be a topic's, or the connection has too many.
    pub fn subscribe(&mut self, id: ConnId, topic: &str) -> Result<bool, TopicError> {
        self.subscribe_with_value(id, topic, 0)
    }

    /// As [`subscribe`](Self::subscribe), with a value that stays with the subscription: a wire
    /// format that was [registered with values](Self::register_wire_format_with_values) finds it in
    /// each publication that comes by this subscription. A subscription that is there already keeps
    /// its value.
    ///
    /// # Errors
    ///
    /// As [`subscribe`](Self::subscribe).
    pub fn subscribe_with_value(
        &mut self,
        id: ConnId,
        topic: &str,
        value: u32,
    ) -> Result<bool, TopicError> {
        self.table.spend(4);
        let limits = self.table.config.subscription_limits();
        let Some(connection) = self.table.member_mut(id) else {
            return Ok(false);
        };
        self.topics.subscribe(
            id.to_bits(),
            &mut connection.subscriptions,
            topic,
            value,
            limits,
        )
    }

    /// Makes a connection a member of every topic that matches a glob pattern, now and later.
    ///
    /// # Errors
    ///
    /// As [`subscribe`](Self::subscribe).
    pub fn subscribe_pattern(&mut self, id: ConnId, pattern: &str) -> Result<bool, TopicError> {
        self.table.spend(4);
        let limits = self.table.config.subscription_limits();
        let Some(connection) = self.table.member_mut(id) else {
            return Ok(false);
        };
        self.topics.subscribe_pattern(
            id.to_bits(),
            &mut connection.subscriptions,
            pattern,
            0,
            limits,
        )
    }

    /// Ends a membership in a topic. `false` when there was none.
    pub fn unsubscribe(&mut self, id: ConnId, topic: &str) -> bool {
        let Some(connection) = self.table.connection_mut(id) else {
            return false;
        };
        self.topics
            .unsubscribe(id.to_bits(), &mut connection.subscriptions, topic)
    }

    /// Ends a membership by pattern. `false` when there was none.
    pub fn unsubscribe_pattern(&mut self, id: ConnId, pattern: &str) -> bool {
        let Some(connection) = self.table.connection_mut(id) else {
            return false;
        };
        self.topics
            .unsubscribe_pattern(id.to_bits(), &mut connection.subscriptions, pattern)
    }

    /// How many members a topic has by its name.
    pub fn member_count(&self, topic: &str) -> usize {
        self.topics.member_count(topic)
    }

    /// How many topics have members.
    pub fn topic_count(&self) -> usize {
        self.topics.topic_count()
    }

    /// Keeps account of the names that get their first member and lose their last, for an engine
    /// that subscribes elsewhere to what is subscribed here.
    #[cfg_attr(not(test), expect(dead_code, reason = "no engine needs it yet"))]
    pub(crate) fn watch_topics(&mut self) {
        self.topics.watch();
    }

    /// The names that have got their first member, or lost their last, since this was last called.
    #[cfg_attr(not(test), expect(dead_code, reason = "no engine needs it yet"))]
    pub(crate) fn take_topic_changes(&mut self) -> Vec<(NameKind, Box<str>, MembersChange)> {
        self.topics.take_changes()
    }

    /// Adds a wire format, for [`set_wire_format`](Self::set_wire_format), or finds the one that has
    /// been added by this name, whose encoder stays.
    ///
    /// `encode` appends the body of a publication and says whether it is text. The frame around the
    /// body is the connection's: a WebSocket frame, a chunk of an event stream, or nothing.
    ///
    /// # Errors
    ///
    /// When there are sixteen already.
    pub fn register_wire_format(
        &mut self,
        name: &'static str,
        encode: impl Fn(&Publication<'_>, &mut Vec<u8>) -> BodyKind + 'static,
    ) -> io::Result<WireFormat> {
        self.wire_formats
            .register(name, encode)
            .map_err(|_| io::Error::other("there are sixteen wire formats already"))
    }

    /// As [`register_wire_format`](Self::register_wire_format), for a wire format whose bodies depend
    /// on the [value](Self::subscribe_with_value) of the subscription. A publication is encoded once
    /// for each distinct value.
    ///
    /// # Errors
    ///
    /// As [`register_wire_format`](Self::register_wire_format).
    pub fn register_wire_format_with_values(
        &mut self,
        name: &'static str,
        encode: impl Fn(&Publication<'_>, &mut Vec<u8>) -> BodyKind + 'static,
    ) -> io::Result<WireFormat> {
        self.wire_formats
            .register_with_values(name, encode)
            .map_err(|_| io::Error::other("there are sixteen wire formats already"))
    }

    /// Sets how publications to this connection are written from now on, whichever topic they come
    /// from. Before, and for most connections always, its protocol decides:
    /// [`WireFormat::EVENT_STREAM`] for an event stream, [`WireFormat::RAW`] for others.
    pub fn set_wire_format(&mut self, id: ConnId, wire_format: WireFormat) {
        if let Some(connection) = self.table.open_mut(id) {
            connection.wire_format = Some(wire_format);
        }
    }

    // ── time ─────────────────────────────────────────────────────────────────────────────────

    /// Time since the start of the reactor, as of the readiness that is being handled.
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.table.now)
    }

    /// Seconds since 1970, from the same clock.
    pub fn unix_time(&self) -> u64 {
        self.table.unix_time()
    }

    /// Calls `call` once after `delay`.
    pub fn after<R>(
        &mut self,
        delay: Duration,
        call: impl FnOnce(&mut Cx<'_, S>) -> R + 'static,
    ) -> TimerId {
        let due = self.due_in(delay);
        self.timers.insert(
            due,
            Timer::Once(Box::new(move |cx| {
                call(cx);
            })),
        )
    }

    /// Calls `call` every `period`, the first time after one. It does not drift; when the loop was
    /// late by whole periods they are left out. A panic in it does not end it.
    pub fn every<R>(
        &mut self,
        period: Duration,
        mut call: impl FnMut(&mut Cx<'_, S>) -> R + 'static,
    ) -> TimerId {
        let due = self.due_in(period);
        let period = nanos(period).max(1);
        self.timers.insert(
            due,
            Timer::Periodic {
                period,
                call: Box::new(move |cx| {
                    call(cx);
                }),
            },
        )
    }

    fn due_in(&self, delay: Duration) -> u64 {
        // From the clock and not from `now`: the callback that asks may have run for a while.
        self.clock.now().saturating_add(nanos(delay))
    }

    /// Cancels a timer. `false` when it has fired or was cancelled before.
    pub fn cancel(&mut self, timer: TimerId) -> bool {
        self.timers.cancel(timer).is_some()
    }

    /// Calls `call` in the next turn, before the poll, in the order asked for.
    pub fn next_tick<R>(&mut self, call: impl FnOnce(&mut Cx<'_, S>) -> R + 'static) {
        self.ticks.push_back(Box::new(move |cx| {
            call(cx);
        }));
    }

    /// A handle for other threads.
    pub fn remote(&self) -> Remote<S> {
        Remote {
            mailbox: Arc::clone(&self.mailbox),
        }
    }

    // ── the whole ────────────────────────────────────────────────────────────────────────────

    /// Ends the loop after this callback, and with it every connection, without goodbyes. Each
    /// gets its `on_close`; nothing else that has come is handed out, and nothing can be connected
    /// any more.
    pub fn stop(&mut self) {
        self.stopped = true;
        self.table.unplain_all();
    }

    /// What the loop has counted.
    pub fn stats(&self) -> &Stats {
        &self.table.stats
    }

    /// The limits in force.
    pub fn config(&self) -> &Config {
        &self.table.config
    }

    // ── for roles ────────────────────────────────────────────────────────────────────────────

    /// Adds a role. It can be named at once, and is called from the next callback on.
    pub(crate) fn add_handler(&mut self, handler: Box<dyn Handler<S>>) -> u32 {
        let key = self.handler_keys.insert(()) as u32;
        self.new_handlers.push((key, handler));
        key
    }

    pub(crate) fn free_handler(&mut self, key: u32) {
        self.handler_keys.try_remove(key as usize);
    }

    pub(crate) fn add_options(&mut self, options: ConnectionOptions) -> u16 {
        // A client that connects again and again has the same ones each time.
        let known = self
            .table
            .options
            .iter()
            .position(|known| **known == options);
        if let Some(known) = known {
            return known as u16;
        }
        // They are made by the program, not by peers; beyond 65,535 different ones they share the
        // last.
        if self.table.options.len() < usize::from(u16::MAX) {
            self.table.options.push(Rc::new(options));
        }
        (self.table.options.len() - 1) as u16
    }

    /// Listens on `HOST:PORT` (port 0 picks one) or `unix:PATH` for the handler that is made for the
    /// real address.
    pub(crate) fn listen(
        &mut self,
        address: &str,
        options: u16,
        handler: impl FnOnce(&Address) -> Box<dyn Handler<S>>,
    ) -> io::Result<ListenerId> {
        let (acceptor, address) = match &self.net {
            Some(_) => (
                Acceptor::Memory(VecDeque::new()),
                self.memory_address(address),
            ),
            None => listener::bind(address, &self.table.config)?,
        };
        let handler = self.add_handler(handler(&address));
        let generation = self.table.generation();
        let mut listener = Box::new(Listener {
            acceptor,
            address,
            generation,
            handler,
            options,
            is_starved: false,
            accepting: Accepting::Ready,
        });
        let entry = self.table.sources.vacant_entry();
        let index = entry.key();
        if let Some(registry) = &self.table.registry {
            listener.register(registry, mio::Token(index))?;
        }
        log::info!("listening on {}", listener.address);
        entry.insert(Source::Listener(listener));
        Ok(ListenerId(ConnId {
            index: index as u32,
            generation,
        }))
    }

    /// Where a listener listens, with the real port. `None` when it is closed.
    pub fn local_addr(&self, listener: ListenerId) -> Option<Address> {
        match self.table.sources.get(listener.0.index as usize) {
            Some(Source::Listener(found)) if found.generation == listener.0.generation => {
                Some(found.address.clone())
            }
            _ => None,
        }
    }

    /// Stops listening; connections stay. `false` when it was closed before.
    pub fn close_listener(&mut self, listener: ListenerId) -> bool {
        let is_there = self.local_addr(listener).is_some();
        if is_there {
            self.table.vacate(listener.0.index as usize);
        }
        is_there
    }

    /// The state of a connection's HTTP exchange, while it has one.
    pub(crate) fn exchange(&mut self, id: ConnId) -> Option<&mut http::Exchange> {
        match &mut self.table.open_mut(id)?.protocol {
            Protocol::Http(exchange) => Some(exchange),
            _ => None,
        }
    }

    /// From here on `on_close` is owed.
    pub(crate) fn mark_opened(&mut self, id: ConnId) {
        if let Some(connection) = self.table.open_mut(id) {
            connection.flags.set(Flags::OPENED);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::websocket::{Message, encode_message};
    use crate::reactor::sim::Sim;

    /// How many messages are handed out in each turn when each takes a millisecond, of two clients
    /// that have sent twelve each, and the last flush took so long.
    fn turns(flush: Duration) -> Vec<usize> {
        let mut sim = Sim::new(0, |reactor: &mut Reactor<usize>| {
            reactor.websocket("0.0.0.0:80", |ws| {
                ws.on_message(|ws, _| {
                    *ws.state += 1;
                    let later = ws.reactor.clock.now() + 1_000_000;
                    ws.reactor.clock = Clock::Invented(later);
                    // What a publication to hundreds counts.
                    ws.reactor.table.spend(STEPS_PER_CLOCK);
                });
            })
        });
        let clients = [(); 2].map(|()| sim.websocket("/"));
        let mut twelve = Vec::new();
        for _ in 0..12 {
            encode_message(Some([0; 4]), Message::Text("x"), &mut twelve);
        }
        for client in &clients {
            client.send_bytes(&twelve);
        }
        sim.reactor().table.flush_nanos = nanos(flush);
        let mut turns = Vec::new();
        while *sim.state() < 24 {
            let before = *sim.state();
            sim.turn();
            turns.push(*sim.state() - before);
        }
        turns
    }

    // Rule 3
    #[test]
    fn a_connection_has_five_milliseconds_of_a_turn_and_all_together_what_going_out_took() {
        // Looked at after each: the sixth is the first that is beyond.
        assert_eq!(turns(Duration::ZERO), [12, 12]);
        assert_eq!(turns(Duration::from_millis(9)), [10 + 6, 2 + 6]);
        assert_eq!(turns(Duration::from_millis(30)), [24]);
    }

    #[test]
    fn topics_tell_when_the_last_member_ends() {
        let mut sim = Sim::new((), |reactor: &mut Reactor<()>| {
            reactor.watch_topics();
            reactor.websocket("0.0.0.0:80", |ws| ws.on_open(|ws, _| ws.subscribe("news")))
        });
        let clients = [(); 2].map(|()| sim.websocket("/"));
        let change = |change| vec![(NameKind::Exact, "news".into(), change)];
        let changes = sim.reactor().take_topic_changes();
        assert_eq!(changes, change(MembersChange::Joined));
        clients[0].vanish();
        sim.settle();
        assert_eq!(sim.reactor().take_topic_changes(), []);
        clients[1].vanish();
        sim.settle();
        let changes = sim.reactor().take_topic_changes();
        assert_eq!(changes, change(MembersChange::Left));
    }

    // A client that connects again for ever has options like the time before.
    #[test]
    fn options_that_are_alike_are_kept_once() {
        let mut sim = Sim::new((), |_: &mut Reactor<()>| ());
        let hasty = ConnectionOptions {
            write_timeout: Duration::from_secs(1),
            ..ConnectionOptions::default()
        };
        let reactor = sim.reactor();
        let first = reactor.add_options(hasty.clone());
        assert_eq!(reactor.add_options(hasty), first);
        assert_eq!(reactor.add_options(ConnectionOptions::default()), 0);
        assert_eq!(reactor.table.options.len(), 2);
    }
}
