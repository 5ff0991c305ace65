//! The table of sources: everything that moves a connection's state, and knows no user code.
//!
//! Not generic, so it is compiled once; what callbacks ask for ends here as plain data on one of
//! its lists (dirty, still ready, drained, closings), which the turn works off.

use std::io;
use std::rc::Rc;

use mio::{Interest, Registry, Token};
use slab::Slab;

use crate::protocol::http;
use crate::protocol::websocket::{self, Role};
use crate::pubsub::Subscriptions;

use crate::reactor::config::{Config, ConnectionOptions};
use crate::reactor::connection::queue::{Nodes, WriteQueue};
use crate::reactor::connection::{Connection, Flags, Life, Protocol};
use crate::reactor::id::ConnId;
use crate::reactor::stats::Stats;
use crate::reactor::time::clock::nanos;
use crate::reactor::time::coarse::{Deadlines, Tick};
use crate::reactor::transport::Transport;
use crate::reactor::transport::connect::Attempt;
use crate::reactor::transport::listener::{Accepting, Listener};

pub(crate) enum Source {
    Connection(Connection),
    Listener(Box<Listener>),
    Attempt(Box<Attempt>),
    /// It ended in this turn.
    Gone,
}

/// A list that has had room for more than this is not kept for ever when it is empty.
pub(crate) const BURST: usize = 4096;

/// So long after the last burst of messages, in nanoseconds, what it took is given back; later where
/// nothing wakes the loop.
const BURST_KEPT_NANOS: u64 = 1_000_000_000;

/// What is handed out in a turn may take as long as what went out in the last one, or less of it
/// would leave together, but not longer than this, in nanoseconds.
pub(crate) const FLUSH_NANOS_MAX: u64 = 50_000_000;

pub(crate) struct Table {
    pub(crate) sources: Slab<Source>,
    pub(crate) config: Config,
    pub(crate) slow_callback_nanos: u64,
    pub(crate) read_time_nanos: u64,
    /// Steps of work since the clock was looked at for the connection that is being read.
    pub(crate) spent: u32,
    pub(crate) options: Vec<Rc<ConnectionOptions>>,
    pub(crate) stats: Stats,
    /// Nanoseconds since the start of the reactor; read once a readiness.
    pub(crate) now: u64,
    /// When the last poll returned.
    pub(crate) woke: u64,
    /// How long flushing took since messages were last handed out; at most [`FLUSH_NANOS_MAX`].
    pub(crate) flush_nanos: u64,
    /// `None` in a simulation, where readiness comes from memory.
    pub(crate) registry: Option<Registry>,
    pub(crate) dirty: Vec<ConnId>,
    pub(crate) still_ready: Vec<u32>,
    pub(crate) drained: Vec<ConnId>,
    pub(crate) closings: Vec<ConnId>,
    pub(crate) deadlines: Deadlines,
    pub(crate) connection_count: usize,
    /// The last poll after a burst of messages.
    burst_at: u64,
    /// Most sources since memory was last given back.
    sources_high_water: usize,
    /// Listeners that paused until a connection ends.
    pub(crate) paused_listeners: Vec<u32>,
    /// Places to be freed at the end of the turn.
    vacated: Vec<usize>,
    pub(crate) nodes: Nodes,
    pub(super) cork: Vec<u8>,
    /// The corked connection is a WebSocket of this role, open, read, and nothing waits for it:
    /// so it was when it was corked, and whatever changes that says so.
    pub(super) plain: Option<Role>,
    /// Buffers of large messages, for the next ones.
    pub(crate) spare: websocket::Spare,
    /// Short messages of one queue, side by side for one write.
    pub(super) together: Vec<u8>,
    pub(super) corked: ConnId,
    next_generation: u32,
    /// Seconds since 1970 at the start of the reactor.
    started_unix: u64,
    date: (u64, [u8; 29]),
}

impl Table {
    pub(crate) fn new(config: Config, registry: Option<Registry>, started_unix: u64) -> Table {
        let options = vec![Rc::new(config.options.clone())];
        Table {
            sources: Slab::new(),
            slow_callback_nanos: nanos(config.slow_callback),
            read_time_nanos: nanos(config.read_time_budget),
            spent: 0,
            config,
            options,
            stats: Stats::default(),
            now: 0,
            woke: 0,
            flush_nanos: 0,
            registry,
            dirty: Vec::new(),
            still_ready: Vec::new(),
            drained: Vec::new(),
            closings: Vec::new(),
            deadlines: Deadlines::default(),
            connection_count: 0,
            burst_at: 0,
            sources_high_water: 0,
            paused_listeners: Vec::new(),
            vacated: Vec::new(),
            nodes: Nodes::default(),
            cork: Vec::new(),
            together: Vec::new(),
            plain: None,
            spare: websocket::Spare::new(),
            corked: ConnId::NONE,
            next_generation: 0,
            started_unix,
            date: (u64::MAX, [0; 29]),
        }
    }

    /// Seconds since 1970, from the reactor's clock.
    pub(crate) fn unix_time(&self) -> u64 {
        self.started_unix + self.now / 1_000_000_000
    }

    /// The date for response heads, formatted once a second. Source: RFC 9110, section 5.6.7.
    pub(crate) fn date(&mut self) -> [u8; 29] {
        let now = self.unix_time();
        if self.date.0 != now {
            self.date.0 = now;
            http::format_date(now, &mut self.date.1);
        }
        self.date.1
    }

    // ── in and out of the table ──────────────────────────────────────────────────────────────

    pub(crate) fn generation(&mut self) -> u32 {
        self.next_generation = self.next_generation.wrapping_add(1);
        self.next_generation
    }

    /// Adds a connection and watches it.
    pub(crate) fn insert(
        &mut self,
        transport: Transport,
        protocol: Protocol,
        handler: u32,
        options: u16,
    ) -> io::Result<ConnId> {
        let generation = self.generation();
        let entry = self.sources.vacant_entry();
        let index = entry.key();
        let mut connection = Connection {
            transport,
            protocol,
            queue: WriteQueue::new(),
            carry: None,
            close: None,
            generation,
            handler,
            route: 0,
            options,
            flags: Flags::default(),
            life: Life::Open,
            wait: None,
            deadline: Tick::NEVER,
            write_deadline: Tick::NEVER,
            filed: Tick::NEVER,
            subscriptions: Subscriptions::default(),
            wire_format: None,
            last_publication: 0,
        };
        register(
            &self.registry,
            &mut connection.transport,
            index,
            Interest::READABLE,
        )?;
        entry.insert(Source::Connection(connection));
        self.connection_count += 1;
        self.sources_high_water = self.sources_high_water.max(self.sources.len());
        Ok(ConnId {
            index: index as u32,
            generation,
        })
    }

    #[inline]
    pub(crate) fn spend(&mut self, steps: u32) {
        self.spent = self.spent.saturating_add(steps);
    }

    /// Removes a source now, and frees its place at the end of the turn: what the kernel said of
    /// it in the same breath must not be taken for somebody else's who came meanwhile.
    pub(crate) fn vacate(&mut self, index: usize) -> Option<Source> {
        match std::mem::replace(self.sources.get_mut(index)?, Source::Gone) {
            // Vacated before; its place is freed once.
            Source::Gone => None,
            source => {
                self.vacated.push(index);
                Some(source)
            }
        }
    }

    pub(crate) fn free_vacated(&mut self) {
        for index in self.vacated.drain(..) {
            self.sources.remove(index);
        }
    }

    /// Removes a connection and closes its socket.
    pub(crate) fn remove(&mut self, id: ConnId) {
        let Some(connection) = self.connection_mut(id) else {
            return;
        };
        let mut queue = std::mem::replace(&mut connection.queue, WriteQueue::new());
        queue.clear(&mut self.nodes);
        self.vacate(id.index as usize);
        self.connection_count -= 1;
        if !self.paused_listeners.is_empty() {
            for index in std::mem::take(&mut self.paused_listeners) {
                self.accept_again(index);
            }
        }
    }

    /// Has a listener accept in the next turn.
    pub(crate) fn accept_again(&mut self, index: u32) {
        if let Some(Source::Listener(listener)) = self.sources.get_mut(index as usize)
            && listener.accepting != Accepting::Queued
        {
            listener.accepting = Accepting::Queued;
            self.still_ready.push(index);
        }
    }

    /// Gives back what a burst has taken; called before each poll.
    pub(crate) fn give_back_memory(&mut self) {
        if BURST < self.nodes.take_most() {
            self.burst_at = self.now;
        }
        if self.spare.is_used() {
            self.burst_at = self.now;
        }
        // A topic with many members has a burst at each publication: to take the memory anew costs
        // as much as the publication itself.
        if BURST_KEPT_NANOS <= self.now - self.burst_at {
            self.nodes.give_back_memory();
            give_back(&mut self.dirty);
            give_back(&mut self.drained);
            give_back(&mut self.closings);
            give_back(&mut self.still_ready);
            give_back(&mut self.vacated);
            if !self.spare.is_empty() {
                self.spare = websocket::Spare::new();
            }
        }
        // Looks at every place, so only each time a quarter is left: a constant for each source. A
        // connection near the end holds all before it, and their places are taken again.
        if self.sources.len() <= self.sources_high_water / 4 && BURST < self.sources.capacity() {
            self.sources_high_water = self.sources.len();
            self.sources.shrink_to_fit();
        }
    }

    #[inline]
    pub(crate) fn connection(&self, id: ConnId) -> Option<&Connection> {
        match self.sources.get(id.index as usize) {
            Some(Source::Connection(connection)) if connection.generation == id.generation => {
                Some(connection)
            }
            _ => None,
        }
    }

    #[inline]
    pub(crate) fn connection_mut(&mut self, id: ConnId) -> Option<&mut Connection> {
        match self.sources.get_mut(id.index as usize) {
            Some(Source::Connection(connection)) if connection.generation == id.generation => {
                Some(connection)
            }
            _ => None,
        }
    }

    /// The connection, while it takes messages.
    #[inline]
    pub(crate) fn open_mut(&mut self, id: ConnId) -> Option<&mut Connection> {
        self.connection_mut(id)
            .filter(|connection| connection.life == Life::Open)
    }

    /// The connection, while it may subscribe: it takes publications now, or will when its handshake
    /// is done. HTTP frames its bodies by itself, and bytes between two answers would be taken for
    /// the second.
    pub(crate) fn member_mut(&mut self, id: ConnId) -> Option<&mut Connection> {
        self.open_mut(id)
            .filter(|connection| !matches!(connection.protocol, Protocol::Http(_)))
    }

    /// The connection, while the application may hear of it.
    #[inline]
    pub(crate) fn is_heard(&self, id: ConnId) -> bool {
        self.connection(id)
            .is_some_and(|connection| matches!(connection.life, Life::Open | Life::Closing))
    }

    pub(crate) fn options_of(&self, id: ConnId) -> Option<&Rc<ConnectionOptions>> {
        self.connection(id)
            .map(|connection| &self.options[usize::from(connection.options)])
    }

    // ── what comes in ────────────────────────────────────────────────────────────────────────

    /// Has the connection read, or what it left unread handed out, in the next turn.
    pub(crate) fn read_again(&mut self, id: ConnId) {
        let Some(connection) = self.connection_mut(id) else {
            return;
        };
        if !connection.flags.has(Flags::STILL_READY) {
            connection.flags.set(Flags::STILL_READY);
            self.still_ready.push(id.index);
        }
    }

    /// Whether what the peer sends is read now. While it is not, silence is no sign of its death.
    pub(crate) fn may_read(&self, id: ConnId) -> bool {
        self.connection(id).is_some_and(Connection::may_read)
    }

    pub(crate) fn pause(&mut self, id: ConnId) {
        self.unplain(id);
        let low_bytes = self
            .options_of(id)
            .map_or(0, |options| options.queue_low_bytes);
        if let Some(connection) = self.open_mut(id) {
            connection.flags.set(Flags::PAUSED);
            if low_bytes < connection.queue.queued_bytes() {
                connection.flags.set(Flags::FULL);
            }
        }
    }

    pub(crate) fn resume(&mut self, id: ConnId) {
        if self
            .open_mut(id)
            .is_some_and(|connection| connection.flags.take(Flags::PAUSED))
        {
            self.read_again(id);
        }
    }

    /// The protocol waits for the application: later input stays where it is.
    pub(crate) fn hold(&mut self, id: ConnId) {
        self.unplain(id);
        if let Some(connection) = self.open_mut(id) {
            connection.flags.set(Flags::HELD);
        }
    }

    pub(crate) fn release(&mut self, id: ConnId) {
        if self
            .open_mut(id)
            .is_some_and(|connection| connection.flags.take(Flags::HELD))
        {
            self.read_again(id);
        }
    }
}

fn give_back<T>(list: &mut Vec<T>) {
    if BURST < list.capacity() && list.is_empty() {
        *list = Vec::new();
    }
}

fn register(
    registry: &Option<Registry>,
    transport: &mut Transport,
    index: usize,
    interest: Interest,
) -> io::Result<()> {
    match (registry, transport) {
        (_, Transport::Memory(stream)) => {
            stream.register(index);
            Ok(())
        }
        (Some(registry), transport) => transport.register(registry, Token(index), interest),
        (None, _) => Ok(()),
    }
}

pub(super) fn reregister(
    registry: &Option<Registry>,
    transport: &mut Transport,
    index: usize,
    interest: Interest,
) -> io::Result<()> {
    match registry {
        Some(registry) => transport.reregister(registry, Token(index), interest),
        None => Ok(()),
    }
}
