//! The table: the way in by id, for calls of the loop and of callbacks.
//!
//! An id is looked up here once for each call, and the functions of the other rooms go on with
//! `&mut Connection` and `&mut Rooms`. A room is a file here that owns its data.
//!
//! The table is not generic over the application's state, so it is compiled once. A request of a
//! callback ends here as plain data on one of the lists (dirty, below the low watermark, ended, and
//! the ready list), which the turn empties.
//!
//! Changes that concern one connection and no room are methods of [`Connection`], which
//! [`Table::connection_mut`] and [`Table::open_mut`] lend.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use mio::Registry;

use crate::protocol::websocket::{Message, Role};
use crate::pubsub::{Encoded, FramedFormat, Subscriptions};
use crate::reactor::burst::{LastBurst, give_back};
use crate::reactor::close::{Close, CloseCause, Deadline, Sent};
use crate::reactor::config::{Config, ConnectionOptions};
use crate::reactor::id::{ConnId, ListenerId};
use crate::reactor::log_limit::LogLimit;
use crate::reactor::memory::Memory;
use crate::reactor::protocol::Protocol;
use crate::reactor::stats::{ConnectionCounts, Stats};
use crate::reactor::time::clock::{Clock, WallClock, nanos, system_unix_time};
use crate::reactor::time::coarse::{Buckets, CoarseTime};
use crate::reactor::transport::Transport;
use crate::reactor::transport::connect::Attempt;
use crate::reactor::transport::listener::Listener;
use crate::reactor::transport::memory::Readiness;
use crate::reactor::transport::socket::Socket;
#[cfg(feature = "tls")]
use crate::reactor::transport::tls::stream::TlsStream;

use super::awaiting::{Awaited, Awaiting};
use super::deadline::Heartbeat;
use super::early_flush::EarlyFlushes;
use super::handshakes::Handshakes;
use super::outbox::Outbox;
use super::queue::DropRule;
use super::read::{Arrived, Next, Read};
use super::reading::Pause;
use super::ready::{FastReady, Ready};
use super::ready_list::ReadyList;
use super::rooms::{OptionSet, Rooms};
use super::sources::Sources;
use super::{Connection, Life, begin, deadline, debtors, end, read, ready, send};

/// Up to this many filed deadlines those of connections that have gone are left where they are.
const SWEEP_MIN: usize = 512;

/// The number of flushes after which the clock is read, and the bytes. A flush of a short message
/// takes some microseconds, and the kernel copies 16 KiB in as long.
const FLUSHES_PER_CLOCK: usize = 32;
const FLUSHED_BYTES_PER_CLOCK: u64 = 512 * 1024;

pub(crate) struct Table {
    sources: Sources,
    rooms: Rooms,
    last_burst: LastBurst,
}

/// As long as so many handshakes wait, clients wait in the kernel's backlog, where they cost nothing and
/// have no deadline. The deadlines of all connections are judged when these were handled.
#[cfg(feature = "tls")]
const HANDSHAKES_WAITING_MAX: usize = 128;

impl Table {
    pub(crate) fn new(config: &Config, registry: Option<Registry>, started_unix: u64) -> Table {
        Table {
            sources: Sources::new(),
            rooms: Rooms {
                outbox: Outbox::new(),
                early_flushes: EarlyFlushes::default(),
                handshakes: Handshakes::new(
                    nanos(config.handshake_time_budget),
                    deadline::deadline_nanos(config.head_timeout),
                ),
                awaiting: Awaiting::default(),
                deadlines: deadline::Deadlines::default(),
                ready_list: ReadyList::default(),
                rate_pauses: Buckets::default(),
                rate_lines: LogLimit::default(),
                ended: Vec::new(),
                option_sets: vec![OptionSet::new(config.options.clone())],
                stats: Stats::default(),
                connections: ConnectionCounts::default(),
                memory: Memory::new(config.memory_bytes_max),
                now: 0,
                wall_clock: match registry {
                    Some(_) => WallClock::asking(started_unix, system_unix_time),
                    None => WallClock::new(started_unix),
                },
                registry,
            },
            last_burst: LastBurst::default(),
        }
    }

    // ── time and counters ────────────────────────────────────────────────────────────────────

    /// Nanoseconds since the start of the reactor, as of the last reading of the clock.
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        self.rooms.now
    }

    #[inline]
    pub(crate) fn set_now(&mut self, now: u64) {
        self.rooms.now = now;
    }

    /// Seconds since 1970, as the system says now.
    #[allow(dead_code, reason = "roles need it, and not every build has one")]
    pub(crate) fn system_unix_time(&self) -> u64 {
        self.rooms.wall_clock.system_unix_time(self.rooms.now)
    }

    /// Seconds since 1970, from the reactor's clock.
    pub(crate) fn unix_time(&self) -> u64 {
        self.rooms.wall_clock.unix_time(self.rooms.now)
    }

    /// The date for response heads, formatted once a second. Source: RFC 9110, section 5.6.7.
    pub(crate) fn date(&mut self) -> [u8; 29] {
        self.rooms.wall_clock.date(self.rooms.now)
    }

    pub(crate) fn stats(&self) -> &Stats {
        &self.rooms.stats
    }

    pub(crate) fn stats_mut(&mut self) -> &mut Stats {
        &mut self.rooms.stats
    }

    /// The kernel's poll, where there is one.
    pub(crate) fn registry(&self) -> Option<&Registry> {
        self.rooms.registry.as_ref()
    }

    // ── options ──────────────────────────────────────────────────────────────────────────────

    /// Keeps options, and returns the index by which connections name them. Equal options are kept
    /// once: a client that connects again and again brings the same ones each time, and they are
    /// never removed.
    ///
    /// # Errors
    ///
    /// When there are 65,536 different sets already: the index has 16 bits in each connection.
    pub(crate) fn add_options(&mut self, options: ConnectionOptions) -> io::Result<u16> {
        let sets = &mut self.rooms.option_sets;
        let known = sets.iter().position(|known| known.options == options);
        let index = known.unwrap_or(sets.len());
        let index = u16::try_from(index).map_err(|_| {
            io::Error::other("there are 65,536 different ConnectionOptions already")
        })?;
        if known.is_none() {
            sets.push(OptionSet::new(options));
        }
        Ok(index)
    }

    pub(crate) fn options_of(&self, id: ConnId) -> Option<&ConnectionOptions> {
        self.connection(id)
            .map(|connection| connection.options(&self.rooms))
    }

    // ── in and out of the table ──────────────────────────────────────────────────────────────

    /// Adds a connection and registers it with the poll. A connection whose transport is not ready
    /// is handshaking, and is opened when the transport is ready.
    ///
    /// # Errors
    ///
    /// When the poll refuses it. It is not in the table then.
    pub(crate) fn insert(
        &mut self,
        transport: Transport,
        protocol: Protocol,
        handler: u32,
        options: u16,
    ) -> io::Result<ConnId> {
        let registry = self.rooms.registry.as_ref();
        let id = self
            .sources
            .insert(registry, transport, protocol, handler, options)?;
        if let Some((connection, rooms)) = self.split(id) {
            *connection.count_in(&mut rooms.connections) += 1;
            end::begin_age(rooms, connection);
            end::charge(rooms, connection);
        }
        Ok(id)
    }

    /// Adds a listener and registers it with the poll.
    ///
    /// # Errors
    ///
    /// When the poll refuses it.
    pub(crate) fn insert_listener(&mut self, listener: Box<Listener>) -> io::Result<ListenerId> {
        let registry = self.rooms.registry.as_ref();
        self.sources.insert_listener(registry, listener)
    }

    /// Removes a listener. `None` when it was removed before.
    pub(crate) fn remove_listener(&mut self, id: ListenerId) -> Option<Box<Listener>> {
        let registry = self.rooms.registry.as_ref();
        self.sources.remove_listener(registry, id)
    }

    /// Removes the listeners for which `is_over` returns `true`.
    pub(crate) fn remove_listeners(&mut self, is_over: impl Fn(&Listener) -> bool) {
        let registry = self.rooms.registry.as_ref();
        self.sources.remove_listeners(registry, is_over);
    }

    /// Adds an attempt to connect and registers it with the poll. Returns its index.
    ///
    /// # Errors
    ///
    /// When the poll refuses it.
    pub(crate) fn insert_attempt(&mut self, attempt: Box<Attempt>) -> io::Result<u32> {
        let registry = self.rooms.registry.as_ref();
        self.sources.insert_attempt(registry, attempt)
    }

    /// Removes a connection, which closes its socket, and lets listeners that paused at
    /// `connections_max` accept again.
    fn remove(&mut self, id: ConnId) {
        let Some(mut connection) = self.sources.remove(id) else {
            return;
        };
        *connection.count_in(&mut self.rooms.connections) -= 1;
        self.rooms.outbox.clear(&mut connection.output);
        self.rooms.memory.charge(&mut connection.charged_bytes, 0);
        // There is room for another connection. All paused listeners try: each takes at most what
        // the limit allows, and pauses again.
        for listener in self.rooms.ready_list.take_paused_listeners() {
            self.accept_again(listener);
        }
    }

    /// Frees the indexes of sources that were removed in this turn. Called at its end, when every
    /// report of the poll has been handled.
    pub(crate) fn free_vacated(&mut self) {
        if !self.sources.free_vacated() {
            return;
        }
        // A connection that has gone leaves its deadline behind, which may be a week away. The look
        // at each of them is paid for by as many that have come since the last one.
        let Table { sources, rooms, .. } = self;
        if SWEEP_MIN.max(2 * sources.connection_count()) < rooms.deadlines.filed_count() {
            let waits_of = |id| sources.connection(id).map(|connection| &connection.waits);
            rooms.deadlines.sweep(waits_of);
        }
    }

    /// How many connections the list of those to flush has room for.
    #[cfg(test)]
    pub(crate) fn dirty_capacity(&self) -> usize {
        self.rooms.outbox.dirty_capacity()
    }

    /// How many deadlines are filed, those of connections that have gone included.
    #[cfg(test)]
    pub(crate) fn filed_count(&self) -> usize {
        self.rooms.deadlines.filed_count()
    }

    // ── looking up ───────────────────────────────────────────────────────────────────────────

    /// Connections, listeners and attempts to connect.
    pub(crate) fn sources(&self) -> &Sources {
        &self.sources
    }

    pub(crate) fn sources_mut(&mut self) -> &mut Sources {
        &mut self.sources
    }

    #[inline]
    pub(crate) fn connection(&self, id: ConnId) -> Option<&Connection> {
        self.sources.connection(id)
    }

    /// The connection, and the rooms beside it.
    #[inline]
    fn split(&mut self, id: ConnId) -> Option<(&mut Connection, &mut Rooms)> {
        let Table { sources, rooms, .. } = self;
        sources
            .connection_mut(id)
            .map(|connection| (connection, rooms))
    }

    #[inline]
    pub(crate) fn connection_mut(&mut self, id: ConnId) -> Option<&mut Connection> {
        self.sources.connection_mut(id)
    }

    /// A connection while it takes messages.
    #[inline]
    pub(crate) fn open_mut(&mut self, id: ConnId) -> Option<&mut Connection> {
        self.split_open(id).map(|(connection, _)| connection)
    }

    /// As [`split`](Self::split), while the connection takes messages.
    #[inline]
    fn split_open(&mut self, id: ConnId) -> Option<(&mut Connection, &mut Rooms)> {
        self.split(id)
            .filter(|(connection, _)| connection.life.takes_messages())
    }

    /// Sources that are handled without another report of the poll.
    pub(crate) fn ready_list(&self) -> &ReadyList {
        &self.rooms.ready_list
    }

    pub(crate) fn ready_list_mut(&mut self) -> &mut ReadyList {
        &mut self.rooms.ready_list
    }

    /// Whether the connection takes messages.
    pub(crate) fn is_open(&self, id: ConnId) -> bool {
        self.connection(id)
            .is_some_and(|connection| connection.life.takes_messages())
    }

    // ── what comes in ────────────────────────────────────────────────────────────────────────

    /// Handles a report of the poll where the fast path holds: the connection is read at once, into
    /// `input`, and its replies are corked until [`delivered_fast`](Self::delivered_fast). In all
    /// other cases [`ready`](Self::ready) is asked, with what a read has brought.
    #[inline(always)]
    pub(crate) fn ready_fast(
        &mut self,
        index: usize,
        readiness: Readiness,
        input: &mut [u8],
    ) -> FastReady {
        let Table { sources, rooms, .. } = self;
        ready::ready_fast(rooms, sources.source_mut(index), readiness, input)
    }

    /// The poll says that a source is ready, for which the fast path does not hold. `first` is what
    /// a read has brought already.
    pub(crate) fn ready(
        &mut self,
        index: usize,
        readiness: Readiness,
        first: Option<io::Result<usize>>,
    ) -> Ready {
        let Table { sources, rooms, .. } = self;
        ready::ready(rooms, sources.source_mut(index), readiness, first)
    }

    /// Keeps a report of the poll for the next turn, because this one has used its time.
    #[cold]
    pub(crate) fn defer(&mut self, index: usize, readiness: Readiness) {
        let Table { sources, rooms, .. } = self;
        if ready::note_deferred(rooms, sources.source_mut(index), readiness) {
            rooms.ready_list.defer(index as u32);
        }
    }

    /// Has a source that the reactor keeps apart handled in the next turn, behind those that the poll reports then.
    pub(crate) fn handle_watched_again(&mut self, id: ConnId) {
        let Table { sources, rooms, .. } = self;
        let place = sources.watched_mut(id);
        if place.is_some_and(|place| place.defer(Readiness::default())) {
            rooms.ready_list.handle_again(id.index);
        }
    }

    /// Handles a source that was on the ready list, as [`ready`](Self::ready) does.
    pub(crate) fn ready_again(&mut self, index: u32) -> Ready {
        let Table { sources, rooms, .. } = self;
        ready::ready_again(rooms, sources.source_mut(index as usize))
    }

    /// Ends an event of the fast path: writes the replies, and keeps `rest`, which was not
    /// consumed.
    ///
    /// This is the second look-up of the event. The first one cannot be kept, because callbacks
    /// have had the reactor in between and may have ended the connection.
    #[inline(always)]
    pub(crate) fn delivered_fast(
        &mut self,
        id: ConnId,
        rest: &[u8],
        heartbeat: Heartbeat,
        pace: u8,
    ) {
        let Some((connection, rooms)) = self.split(id) else {
            return self.rooms.outbox.cork_mut().discard();
        };
        connection.reading.set_pace(pace);
        match heartbeat {
            // The delivery went on by the general way, which may have left half a message behind.
            Heartbeat::Unchanged => rooms.outbox.leave_fast_path(id),
            Heartbeat::In(nanos) => connection.set_deadline(rooms, Deadline::Heartbeat, nanos),
            Heartbeat::Off => connection.clear_deadline(),
        }
        if rest.is_empty() && rooms.outbox.cork().fast_path().is_some() {
            return match rooms
                .outbox
                .cork_mut()
                .write_fast(&mut connection.transport)
            {
                Ok(taken) => rooms.stats.sent_bytes += taken as u64,
                Err(result) => send::uncork_rest(rooms, connection, result),
            };
        }
        read::delivered_rest(rooms, connection, rest);
        send::uncork(rooms, connection);
        if rooms.is_over_memory() {
            self.release_memory(|_, _| 0);
        }
    }

    /// A dispatch begins: handshakes have their time of this turn.
    pub(crate) fn begin_handshakes(&mut self) {
        self.rooms.handshakes.begin_turn();
    }

    /// The connection whose handshake goes on next, if this turn has time for it, and the list on which it
    /// has waited.
    pub(crate) fn pop_handshake(&mut self) -> Option<(u32, usize)> {
        match self.rooms.handshakes.has_time() {
            true => self.rooms.ready_list.pop_handshake(),
            false => None,
        }
    }

    /// Whether a listener is to accept no client in this turn, because its handshake would come
    /// behind very many that wait.
    #[cfg(feature = "tls")]
    pub(crate) fn pauses_for_handshakes(&mut self, index: u32) -> bool {
        let has_many = HANDSHAKES_WAITING_MAX <= self.rooms.ready_list.handshake_count();
        let listener = self.sources.listener_mut(index);
        has_many && listener.is_some_and(|listener| listener.tls().is_some())
    }

    /// A step of a handshake is done; the clock was read behind it.
    pub(crate) fn end_handshake_step(&mut self) {
        self.rooms.handshakes.end_step(self.rooms.now);
    }

    /// Begins the handshake of TLS on a connection whose transport waits for that, with bytes that
    /// belong to it. Does nothing to other connections.
    #[cfg(feature = "tls")]
    pub(crate) fn begin_handshake(&mut self, id: ConnId, received: &[u8]) {
        if let Some((connection, rooms)) = self.split_open(id) {
            begin::begin_handshake(rooms, connection, received);
        }
    }

    /// Wraps an open raw stream in `stream`, which has no socket yet: what is queued goes out as it
    /// is, and then its handshake begins, of which `received` has been delivered already. Returns `false`
    /// for other connections.
    #[cfg(feature = "tls")]
    pub(crate) fn start_tls(
        &mut self,
        id: ConnId,
        stream: Box<TlsStream>,
        received: &[u8],
    ) -> bool {
        match self.split_open(id) {
            Some((connection, rooms)) => begin::start_tls(rooms, connection, stream, received),
            None => false,
        }
    }

    /// Reads once by the general way. `first` is the result of a read of the fast path.
    pub(crate) fn read(
        &mut self,
        id: ConnId,
        input: &mut [u8],
        first: &mut Option<io::Result<usize>>,
    ) -> Read {
        match self.split(id) {
            Some((connection, rooms)) => read::read(rooms, connection, input, first),
            None => Read::Nothing,
        }
    }

    /// Ends a delivery of the general way: keeps `rest`, which was not consumed, and returns the
    /// next step.
    pub(crate) fn delivered(
        &mut self,
        id: ConnId,
        arrived: Arrived,
        rest: &[u8],
        budget_bytes: &mut usize,
    ) -> Next {
        match self.split(id) {
            Some((connection, rooms)) => {
                read::delivered(rooms, connection, arrived, rest, budget_bytes)
            }
            None => Next::Stop,
        }
    }

    /// Lends the cork to a connection until [`uncork`](Self::uncork): its own replies gather there.
    pub(crate) fn cork(&mut self, id: ConnId) {
        if let Some((connection, rooms)) = self.split(id) {
            send::cork(rooms, connection);
        }
    }

    /// Ends a connection's event: writes the cork, and keeps the pace of its messages, and whether
    /// it was busy.
    pub(crate) fn uncork(&mut self, id: ConnId, pace: u8, is_busy: bool) {
        match self.split(id) {
            Some((connection, rooms)) => {
                connection.reading.set_pace(pace);
                connection.reading.note_event(is_busy);
                send::uncork(rooms, connection);
            }
            None => self.rooms.outbox.cork_mut().discard(),
        }
    }

    /// Reads and throws away input that comes after our last bytes.
    pub(crate) fn discard(&mut self, id: ConnId, input: &mut [u8], budget_bytes: usize) {
        let Some((connection, rooms)) = self.split(id) else {
            return;
        };
        if read::discard(rooms, connection, input, budget_bytes) {
            self.remove(id);
        }
    }

    /// Whether the peer of an open connection has sent neither a byte nor its end since the last delivery; see
    /// `read::is_silent`.
    pub(crate) fn is_silent(&mut self, id: ConnId) -> bool {
        match self.split_open(id) {
            Some((connection, rooms)) => read::is_silent(rooms, connection),
            None => false,
        }
    }

    /// The role that the fast path delivers for, while it holds.
    #[inline]
    pub(crate) fn fast_path(&self) -> Option<Role> {
        self.rooms.outbox.cork().fast_path()
    }

    /// Ends the fast path for whichever connection is corked.
    pub(crate) fn leave_fast_path_of_all(&mut self) {
        self.rooms.outbox.cork_mut().leave_fast_path_of_all();
    }

    /// Stops reading a connection until the next turn, because its time in this one is used up.
    pub(crate) fn pause_for_turn(&mut self, id: ConnId) {
        // In any state of its life: while it closes, its peer's messages are parsed too.
        if let Some((connection, rooms)) = self.split(id) {
            rooms.outbox.leave_fast_path(id);
            connection.reading.pause(Pause::Turn);
            connection.reading.note_event(true);
        }
    }

    /// Stops reading an open connection for one more reason.
    pub(crate) fn pause(&mut self, id: ConnId, reason: Pause) {
        let Some((connection, rooms)) = self.split_open(id) else {
            return;
        };
        rooms.outbox.leave_fast_path(id);
        connection.reading.pause(reason);
        // A proxy pauses its source while its sink has bytes queued, and resumes in `on_drain`. If
        // this queue is between the two marks, `on_drain` must come all the same.
        if reason == Pause::Application {
            self.watch_low_mark(id);
        }
    }

    /// Has `on_drain` called when the queue of an open connection comes to its low watermark, also
    /// if it was never above the high one. Returns `false` when it is not above the low one now.
    pub(crate) fn watch_low_mark(&mut self, id: ConnId) -> bool {
        let Some((connection, rooms)) = self.split_open(id) else {
            return false;
        };
        let low_bytes = connection.options(rooms).queue_low_bytes;
        if rooms.outbox.queued_bytes(id, &connection.output) <= low_bytes {
            return false;
        }
        connection.output.watch_low_mark();
        // Corked bytes may leave without a queue: the flush at the end of the turn asks in any
        // case.
        rooms.outbox.mark_dirty(id, &mut connection.output);
        true
    }

    /// Removes a reason not to read. Lists the connection, because its input may have come while it
    /// was paused and its edge is used up.
    pub(crate) fn resume(&mut self, id: ConnId, reason: Pause) {
        if let Some((connection, rooms)) = self.split_open(id)
            && connection.reading.resume(reason)
        {
            rooms.ready_list.read_again(id, &mut connection.reading);
        }
    }

    /// As [`resume`](Self::resume), and sets a deadline of an open connection.
    pub(crate) fn resume_until(
        &mut self,
        id: ConnId,
        reason: Pause,
        deadline: Deadline,
        after_nanos: u64,
    ) {
        if let Some((connection, rooms)) = self.split_open(id) {
            connection.set_deadline(rooms, deadline, after_nanos);
            if connection.reading.resume(reason) {
                rooms.ready_list.read_again(id, &mut connection.reading);
            }
        }
    }

    /// Whether the event that goes on has queued more than could be offered to the kernel.
    #[inline]
    pub(crate) fn has_overrun(&self) -> bool {
        self.rooms.early_flushes.has_overrun()
    }

    /// Counts a message of an open connection. When the next one is not allowed yet, reading
    /// pauses.
    pub(crate) fn count_message(&mut self, id: ConnId) {
        if let Some((connection, rooms)) = self.split_open(id) {
            read::count_message(rooms, connection);
        }
    }

    /// Counts a control frame of an open connection. Returns the limit when there are more than it
    /// allows.
    pub(crate) fn count_control(&mut self, id: ConnId) -> Option<u32> {
        let (connection, rooms) = self.split_open(id)?;
        let limit = rooms.rate_limit(connection.options);
        let is_allowed = connection.rate.count_control(limit, rooms.now);
        (!is_allowed).then(|| limit.per_second())
    }

    /// Lists the connections that may send the next message at `now`.
    #[inline]
    pub(crate) fn resume_by_rate(&mut self, now: u64) {
        while let Some((_, ids)) = self.rooms.rate_pauses.pop_due(now) {
            for id in ids {
                self.resume(id, Pause::Rate);
            }
        }
    }

    /// Has a listener accept in the next turn.
    pub(crate) fn accept_again(&mut self, index: u32) {
        if let Some(listener) = self.sources.listener_mut(index) {
            self.rooms.ready_list.accept_again(index, listener);
        }
    }

    // ── what goes out ────────────────────────────────────────────────────────────────────────

    /// Queues one application message.
    #[inline]
    pub(crate) fn send(&mut self, id: ConnId, message: Message<'_>, rule: DropRule) -> Sent {
        if self.rooms.outbox.cork_mut().send_fast(id, message) {
            self.rooms.stats.sent_messages += 1;
            return Sent::Queued;
        }
        self.send_any(id, message, rule)
    }

    fn send_any(&mut self, id: ConnId, message: Message<'_>, rule: DropRule) -> Sent {
        let sent = match self.split(id) {
            Some((connection, rooms)) => {
                let sent = send::send(rooms, connection, message, rule);
                // Its first message may have made a compressor.
                #[cfg(feature = "deflate")]
                if connection.protocol.is_deflated() {
                    rooms.stats.count_deflate();
                    if connection.protocol.compresses_apart() {
                        end::charge(rooms, connection);
                    }
                }
                sent
            }
            None => Sent::Gone,
        };
        self.rooms.stats.sent_messages += u64::from(sent.is_queued());
        // One callback may send to every connection.
        if self.rooms.is_over_memory() {
            self.release_memory(|_, _| 0);
        }
        sent
    }

    /// Queues one application message that is not encoded, without a copy.
    pub(crate) fn send_owned(&mut self, id: ConnId, bytes: Vec<u8>) -> Sent {
        let sent = match self.split(id) {
            Some((connection, rooms)) => send::send_owned(rooms, connection, bytes),
            None => Sent::Gone,
        };
        self.rooms.stats.sent_messages += u64::from(sent.is_queued());
        sent
    }

    /// Queues a frame of the application that is not a message. It is admitted as a message is.
    pub(crate) fn send_frame(&mut self, id: ConnId, frame: &[u8]) -> Sent {
        match self.split(id) {
            Some((connection, rooms)) => send::send_frame(rooms, connection, frame),
            None => Sent::Gone,
        }
    }

    /// Queues bytes that the stream cannot do without.
    pub(crate) fn queue_reply(&mut self, id: ConnId, bytes: &[u8]) {
        if let Some((connection, rooms)) = self.split(id) {
            send::queue_reply(rooms, connection, bytes);
        }
    }

    /// As [`queue_reply`](Self::queue_reply), for a reply that `encode` appends.
    pub(crate) fn encode_reply(&mut self, id: ConnId, encode: impl FnOnce(&mut Vec<u8>)) {
        if let Some((connection, rooms)) = self.split(id) {
            send::encode_reply(rooms, connection, encode);
        }
    }

    /// As [`queue_reply`](Self::queue_reply), for bytes that become a node of the queue without a
    /// copy.
    pub(crate) fn queue_owned_reply(&mut self, id: ConnId, bytes: Vec<u8>) {
        if let Some((connection, rooms)) = self.split(id) {
            send::queue_owned_reply(rooms, connection, bytes);
        }
    }

    /// Queues a publication for a member. Returns `None` when the member takes no publications, or
    /// has this one already.
    #[inline]
    pub(crate) fn publish(
        &mut self,
        id: ConnId,
        mark: u64,
        key: u64,
        encoded: &mut Encoded<'_>,
        value: u32,
    ) -> Option<Sent> {
        let (connection, rooms) = self.split(id)?;
        send::publish(rooms, connection, mark, key, encoded, value)
    }

    /// As [`publish`](Self::publish), for one connection that is a member or not. Apart, because a second call of
    /// `publish` would end its inlining into the loop over the members.
    #[inline(never)]
    pub(crate) fn publish_to_one(
        &mut self,
        id: ConnId,
        mark: u64,
        key: u64,
        encoded: &mut Encoded<'_>,
        value: u32,
    ) -> Option<Sent> {
        let (connection, rooms) = self.split(id)?;
        send::publish_to_one(rooms, connection, mark, key, encoded, value)
    }

    // ── requests that wait for publications ──────────────────────────────────────────────────

    /// Keeps publications for the request of a connection, in this format.
    pub(crate) fn begin_wait(&mut self, id: ConnId, format: FramedFormat) {
        self.rooms.awaiting.insert(id, format);
    }

    /// Notes a gap for the request of a connection that waits.
    pub(crate) fn add_awaited_gap(&mut self, id: ConnId, name: &str) {
        self.rooms.awaiting.add_gap(id, name);
    }

    /// Has the request of a connection answered in this turn. Returns whether one waits.
    pub(crate) fn end_wait(&mut self, id: ConnId) -> bool {
        self.rooms.awaiting.make_ready(id)
    }

    #[inline]
    pub(crate) fn has_awaited(&self) -> bool {
        self.rooms.awaiting.has_ready()
    }

    /// Takes the request that is answered next, with what has come for it. The caller gives that back.
    pub(crate) fn take_awaited(&mut self) -> Option<(ConnId, Awaited)> {
        self.rooms.awaiting.take_ready()
    }

    /// Drops what has come for a request that was taken.
    pub(crate) fn give_back_awaited(&mut self, awaited: Awaited) {
        for body in awaited.into_bodies() {
            self.rooms.outbox.drop_shared(body);
        }
    }

    /// Drops the request of a connection that is not answered any more, or in another way.
    pub(crate) fn forget_wait(&mut self, id: ConnId) {
        if let Some(awaited) = self.rooms.awaiting.remove(id) {
            self.give_back_awaited(awaited);
        }
    }

    // ── the queues ───────────────────────────────────────────────────────────────────────────

    /// Bytes that wait for a connection's socket, with their overhead.
    pub(crate) fn queued_bytes(&self, id: ConnId) -> usize {
        self.connection(id).map_or(0, |connection| {
            self.rooms.outbox.queued_bytes(id, &connection.output)
        })
    }

    #[inline]
    pub(crate) fn has_dirty(&self) -> bool {
        self.rooms.outbox.has_dirty()
    }

    /// Flushes the connections that have queued bytes and are not blocked, until all are flushed or
    /// the moment `until` has come. The others come first the next time.
    pub(crate) fn flush_dirty(&mut self, clock: &Clock, until: u64) {
        self.rooms.early_flushes.begin_flush();
        let mut dirty = self.rooms.outbox.take_dirty();
        let mut flushed = 0;
        while flushed < dirty.len() {
            // The clock is read after so many flushes, or after a long one.
            let group = &dirty[flushed..dirty.len().min(flushed + FLUSHES_PER_CLOCK)];
            let sent_bytes_max = self.rooms.stats.sent_bytes + FLUSHED_BYTES_PER_CLOCK;
            for &id in group {
                flushed += 1;
                if let Some((connection, rooms)) = self.split(id)
                    && connection.output.take_dirty()
                {
                    send::flush(rooms, connection);
                    if sent_bytes_max <= rooms.stats.sent_bytes {
                        break;
                    }
                }
            }
            self.rooms.now = clock.now();
            if until <= self.rooms.now {
                break;
            }
        }
        dirty.drain(..flushed);
        self.rooms.outbox.return_dirty(dirty);
        if !self.rooms.outbox.has_dirty() {
            for id in self.rooms.early_flushes.take_paused() {
                self.resume(id, Pause::Flush);
            }
        }
    }

    #[inline]
    pub(crate) fn has_below_low_mark(&self) -> bool {
        self.rooms.outbox.has_below_low_mark()
    }

    /// The connections whose queue has come below the low watermark.
    pub(crate) fn take_below_low_mark(&mut self) -> Vec<ConnId> {
        self.rooms.outbox.take_below_low_mark()
    }

    /// Gives back those for which there was no time. They come before those that are listed since.
    pub(crate) fn put_back_below_low_mark(&mut self, rest: Vec<ConnId>) {
        self.rooms.outbox.put_back_below_low_mark(rest);
    }

    // ── memory ──────────────────────────────────────────────────────────────────────────────

    /// The bytes that are held for clients: see `Reactor::memory_bytes`.
    pub(crate) fn memory_bytes(&self) -> usize {
        let queue_bytes = self.rooms.outbox.held_bytes();
        self.rooms.memory.used_bytes(queue_bytes)
    }

    /// Shares the limit of memory with other reactors.
    pub(crate) fn share_memory(&mut self, sum: Arc<AtomicUsize>) {
        self.rooms.memory.share(sum);
    }

    /// Counts bodies of a publication that several queues share.
    #[inline]
    pub(crate) fn count_shared(&mut self, bytes: usize) {
        self.rooms.outbox.count_shared(bytes);
    }

    /// Takes bytes off that count.
    pub(crate) fn forget_shared(&mut self, bytes: usize) {
        self.rooms.outbox.forget_shared(bytes);
    }

    /// The connections that there are now, by their kind.
    pub(crate) fn connection_counts(&self) -> ConnectionCounts {
        self.rooms.connections
    }

    /// The memory of everything that is queued, in bytes.
    pub(crate) fn queued_memory(&self) -> usize {
        self.rooms.outbox.held_bytes()
    }

    /// Tells the account of memory what all subscriptions hold.
    pub(crate) fn set_subscription_bytes(&mut self, bytes: usize) {
        self.rooms.memory.set_subscription_bytes(bytes);
    }

    /// The loop has ended: the other reactors have its share of the limit.
    pub(crate) fn leave_memory_group(&mut self) {
        self.rooms.memory.leave_group();
    }

    /// The end of a turn: reactors that share a limit learn the difference. So many bytes are given back
    /// in later turns.
    pub(crate) fn end_memory_turn(&mut self, releasing_bytes: usize) {
        let queue_bytes = self.rooms.outbox.held_bytes();
        self.rooms.memory.end_turn(queue_bytes, releasing_bytes);
    }

    /// Whether more memory is held than the limit allows.
    #[inline]
    pub(crate) fn is_over_memory(&self) -> bool {
        self.rooms.is_over_memory()
    }

    /// Whether so much memory is held that no connection is to be accepted.
    pub(crate) fn is_short_of_memory(&self) -> bool {
        let queue_bytes = self.rooms.outbox.held_bytes();
        self.rooms.memory.is_short(queue_bytes)
    }

    /// Ends the connections that hold most, until a quarter of the limit is free; see `debtors`.
    #[inline(never)]
    pub(crate) fn release_memory(
        &mut self,
        subscription_bytes: impl Fn(ConnId, Subscriptions) -> usize,
    ) {
        let Table { sources, rooms, .. } = self;
        debtors::release_memory(sources, rooms, subscription_bytes);
    }

    // ── ends ─────────────────────────────────────────────────────────────────────────────────

    pub(crate) fn close(&mut self, id: ConnId, cause: CloseCause, code: u16, reason: &str) -> Sent {
        match self.split(id) {
            Some((connection, rooms)) => end::close(rooms, connection, cause, code, reason),
            None => Sent::Gone,
        }
    }

    pub(crate) fn finish(&mut self, id: ConnId, words: &[u8], close: Close, lingers: bool) {
        if let Some((connection, rooms)) = self.split(id) {
            end::finish(rooms, connection, words, close, lingers);
        }
    }

    pub(crate) fn fail(&mut self, id: ConnId, cause: CloseCause) {
        if let Some((connection, rooms)) = self.split(id) {
            end::fail(rooms, connection, cause);
        }
    }

    /// As [`abort`](Self::abort), after the word that a transport has for the end of its handshake.
    pub(crate) fn end_handshake(&mut self, id: ConnId, cause: CloseCause) {
        match self.split(id) {
            Some((connection, rooms)) if connection.life != Life::Lingering => {
                end::end_handshake(rooms, connection, cause);
            }
            _ => self.abort(id, cause),
        }
    }

    /// Ends a connection at once; one that lingers is removed.
    pub(crate) fn abort(&mut self, id: ConnId, cause: CloseCause) {
        let Some((connection, rooms)) = self.split(id) else {
            return;
        };
        if connection.life == Life::Lingering {
            return self.remove(id);
        }
        end::abort(rooms, connection, cause);
    }

    /// As [`abort`](Self::abort), for a connection that has not said goodbye, with a reason for
    /// `on_close`.
    pub(crate) fn abort_with_reason(&mut self, id: ConnId, cause: CloseCause, reason: String) {
        self.abort(id, cause);
        if let Some((connection, _)) = self.split(id)
            && let Some(close) = &mut connection.close
            && close.cause == cause
        {
            close.reason = reason.into_boxed_str();
        }
    }

    /// Ends every connection because the loop ends.
    pub(crate) fn abort_all(&mut self, cause: CloseCause) {
        let Table { sources, rooms, .. } = self;
        for connection in sources.connections_mut() {
            end::abort_without_reset(rooms, connection, cause);
        }
    }

    #[inline]
    pub(crate) fn has_ended(&self) -> bool {
        !self.rooms.ended.is_empty()
    }

    /// The connections whose `on_close` is to be called.
    pub(crate) fn take_ended(&mut self) -> Vec<ConnId> {
        std::mem::take(&mut self.rooms.ended)
    }

    /// Gives back the connections of [`take_ended`](Self::take_ended) for which there was no time.
    /// They come before those that have ended since.
    pub(crate) fn put_back_ended(&mut self, mut rest: Vec<ConnId>) {
        rest.append(&mut self.rooms.ended);
        self.rooms.ended = rest;
    }

    /// The memory of the connections whose `on_close` waits for the next turn, in bytes.
    /// `subscription_bytes` says what the subscriptions of a connection hold.
    pub(crate) fn ended_bytes(
        &self,
        subscription_bytes: impl Fn(ConnId, Subscriptions) -> usize,
    ) -> usize {
        let ended = self.rooms.ended.iter();
        let connections = ended.filter_map(|id| self.sources.connection(*id));
        let bytes = connections.map(|connection| {
            let subscribed = subscription_bytes(connection.id, connection.subscriptions);
            connection.charged_bytes as usize + subscribed
        });
        bytes.sum()
    }

    /// After `on_close`: the connection lingers, or is removed.
    pub(crate) fn linger_or_remove(&mut self, id: ConnId) {
        let Some((connection, rooms)) = self.split(id) else {
            return;
        };
        if !end::linger(rooms, connection) {
            self.remove(id);
        }
    }

    // ── deadlines ────────────────────────────────────────────────────────────────────────────

    /// Sets the deadline of an open connection in place of the one that it had. Does nothing from
    /// the first step of closing on, because then one absolute deadline holds.
    #[inline]
    pub(crate) fn set_deadline(&mut self, id: ConnId, deadline: Deadline, after_nanos: u64) {
        if let Some((connection, rooms)) = self.split(id) {
            connection.set_deadline(rooms, deadline, after_nanos);
        }
    }

    /// When the earliest deadline is looked at, a peer that has sent too much is read again, or
    /// memory is to be given back, in nanoseconds; `u64::MAX` without any.
    #[inline]
    pub(crate) fn next_deadline(&self) -> u64 {
        let next_due = self.rooms.deadlines.next_due();
        next_due
            .min(self.rooms.rate_pauses.next_due())
            .min(self.last_burst.ends_at())
    }

    /// The earliest bucket of connections to look at, if its time has come at `moment`.
    #[inline]
    pub(crate) fn pop_due(&mut self, moment: u64) -> Option<(CoarseTime, Vec<ConnId>)> {
        self.rooms.deadlines.pop_due(moment)
    }

    /// Puts back connections of a bucket that there was no time for.
    pub(crate) fn put_back_due(&mut self, filed: CoarseTime, ids: Vec<ConnId>) {
        self.rooms.deadlines.put_back(filed, ids);
    }

    /// The deadline that has passed at `moment` for a connection that was filed at `filed`.
    pub(crate) fn take_passed(
        &mut self,
        id: ConnId,
        filed: CoarseTime,
        moment: u64,
    ) -> Option<Deadline> {
        let (connection, rooms) = self.split(id)?;
        rooms
            .deadlines
            .take_passed(id, &mut connection.waits, filed, moment)
    }

    // ── purpose of a connection ──────────────────────────────────────────────────────────────

    /// Changes the protocol of a connection (HTTP becomes a WebSocket), and its options if given.
    pub(crate) fn set_protocol(&mut self, id: ConnId, protocol: Protocol, options: Option<u16>) {
        if let Some((connection, rooms)) = self.split_open(id) {
            rooms.outbox.leave_fast_path(id);
            *connection.count_in(&mut rooms.connections) -= 1;
            connection.protocol = protocol;
            *connection.count_in(&mut rooms.connections) += 1;
            connection.options = options.unwrap_or(connection.options);
            if rooms.option_sets[usize::from(connection.options)].drops_messages {
                rooms.outbox.cork_mut().keep_messages(id);
            }
            end::begin_age(rooms, connection);
        }
    }

    /// Ends our side of a raw stream behind what is queued. Returns `false` for other connections.
    pub(crate) fn finish_sending(&mut self, id: ConnId) -> bool {
        let Some((connection, rooms)) = self.split_open(id) else {
            return false;
        };
        if !matches!(connection.protocol, Protocol::Raw) || connection.life != Life::Open {
            return false;
        }
        connection.protocol = Protocol::Finished;
        // Also with an empty queue, because it is the flush that ends our side.
        rooms.outbox.mark_dirty(id, &mut connection.output);
        true
    }

    /// Whether the peer of an open connection has ended its side, and the handler was told.
    pub(crate) fn has_delivered_end(&self, id: ConnId) -> bool {
        let connection = self.connection(id);
        connection.is_some_and(|connection| connection.reading.is_end_delivered())
    }

    /// Takes the beginning of a part that has come and was not consumed.
    pub(crate) fn take_unconsumed(&mut self, id: ConnId) -> Vec<u8> {
        let Some((connection, rooms)) = self.split_open(id) else {
            return Vec::new();
        };
        let kept = connection.reading.unconsumed().to_vec();
        if !kept.is_empty() {
            connection.reading.forget_unconsumed();
            end::charge(rooms, connection);
        }
        kept
    }

    /// Whether a connection is being made by us, and is not open yet.
    pub(crate) fn is_connecting(&self, id: ConnId) -> bool {
        let connection = self.connection(id);
        connection.is_some_and(|connection| connection.life == Life::Handshaking)
    }

    // ── connecting ───────────────────────────────────────────────────────────────────────────

    /// Gives a handshaking connection its socket. Returns whether its handler is to open it now.
    ///
    /// # Errors
    ///
    /// When the poll refuses it.
    pub(crate) fn adopt_socket(&mut self, id: ConnId, socket: Socket) -> io::Result<bool> {
        match self.split(id) {
            Some((connection, rooms)) => begin::adopt_socket(rooms, connection, socket),
            None => Ok(false),
        }
    }

    // ── memory ───────────────────────────────────────────────────────────────────────────────

    /// Whether the next turn has something to do.
    #[inline]
    pub(crate) fn is_quiet(&self) -> bool {
        self.rooms.outbox.is_quiet()
            && self.rooms.ready_list.is_empty()
            && self.rooms.ended.is_empty()
            && !self.rooms.awaiting.has_ready()
    }

    /// Gives back memory that a burst took. Called before each poll. `has_spare` says whether
    /// buffers of large messages were used. Returns whether the last burst is long over.
    pub(crate) fn give_back_memory(&mut self, has_spare: bool) -> bool {
        let rooms = &mut self.rooms;
        if rooms.outbox.take_burst() || has_spare {
            self.last_burst.begin(rooms.now);
        }
        let is_over = self.last_burst.end(rooms.now);
        if is_over {
            rooms.outbox.give_back_memory();
            give_back(&mut rooms.ended);
            rooms.ready_list.give_back_memory();
            rooms.awaiting.give_back_memory();
            self.sources.give_back_vacated();
        }
        self.sources.shrink_after_burst();
        is_over
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn options(write_timeout_ms: u64) -> ConnectionOptions {
        ConnectionOptions {
            write_timeout: Duration::from_millis(write_timeout_ms),
            ..ConnectionOptions::default()
        }
    }

    #[test]
    fn options_that_are_alike_are_kept_once() {
        let mut table = Table::new(&Config::default(), None, 0);
        let first = table.add_options(options(1)).unwrap();
        assert_eq!(table.add_options(options(1)).unwrap(), first);
        assert_eq!(table.add_options(ConnectionOptions::default()).unwrap(), 0);
        assert_eq!(table.rooms.option_sets.len(), 2);
    }

    #[test]
    fn the_65_537th_set_of_options_is_refused() {
        let mut table = Table::new(&Config::default(), None, 0);
        // Put in directly: `add_options` would compare each with all before it.
        for _ in 1..=u16::MAX {
            table.rooms.option_sets.push(OptionSet::new(options(1)));
        }
        assert_eq!(table.add_options(options(1)).unwrap(), 1);
        assert!(table.add_options(options(2)).is_err());
    }
}
