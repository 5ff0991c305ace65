//! The sources: everything that is registered with the poll, each at its index.
//!
//! A look-up by id compares the generation, so that a stale id finds no connection.
//!
//! A source that has been removed keeps its index until the end of the turn. The reports of one
//! poll name indexes: if a callback closes a connection and a new one takes its index at once, a
//! later report of the same poll, which is about the old one, would reach the new one.

use std::io;

use mio::{Interest, Registry, Token};
use slab::Slab;

use crate::reactor::burst::{BURST, give_back};
use crate::reactor::id::{ConnId, ListenerId};
use crate::reactor::protocol::Protocol;
use crate::reactor::transport::Transport;
use crate::reactor::transport::connect::Attempt;
use crate::reactor::transport::listener::Listener;
use crate::reactor::transport::memory::Readiness;

use super::{Connection, Life};

/// One thing that is registered with the poll.
pub(super) enum Source {
    Connection(Connection),
    Listener(Box<Listener>),
    Attempt(Box<Attempt>),
    Watched(WatchedPlace),
    /// The source was removed in this turn; its index is free at the end of it.
    Vacated,
}

/// The place of a source whose descriptor and callbacks the reactor keeps apart; see `reactor::watched`.
pub(super) struct WatchedPlace {
    generation: u32,
    /// The report for which a turn had no time.
    deferred: Option<Readiness>,
}

impl WatchedPlace {
    /// Keeps a report for the next turn. Returns whether there was none before.
    pub(super) fn defer(&mut self, readiness: Readiness) -> bool {
        let earlier = self.deferred.take();
        self.deferred = Some(earlier.map_or(readiness, |earlier| earlier.merged(readiness)));
        earlier.is_none()
    }

    /// Adds a report to one that is kept. Returns whether there is one.
    pub(super) fn merge_deferred(&mut self, readiness: Readiness) -> bool {
        self.deferred.is_some() && !self.defer(readiness)
    }

    pub(super) fn take_deferred(&mut self) -> Option<Readiness> {
        self.deferred.take()
    }
}

/// Connections come and go by methods of the table, which keeps the account of what they hold.
/// Listeners and attempts hold nothing beside their place, so all of the reactor may remove them.
pub(crate) struct Sources {
    slab: Slab<Source>,
    connection_count: usize,
    next_generation: u32,
    /// Indexes to be freed at the end of the turn.
    vacated: Vec<usize>,
    /// Most sources since memory was last given back.
    high_water: usize,
}

impl Sources {
    pub(super) fn new() -> Sources {
        Sources {
            slab: Slab::new(),
            connection_count: 0,
            next_generation: 0,
            vacated: Vec::new(),
            high_water: 0,
        }
    }

    // ── in ───────────────────────────────────────────────────────────────────────────────────

    fn next_generation(&mut self) -> u32 {
        self.next_generation = self.next_generation.wrapping_add(1);
        self.next_generation
    }

    /// Adds a connection and registers it with the poll. A connection whose transport is not ready
    /// is handshaking, and is opened when the transport is ready.
    ///
    /// # Errors
    ///
    /// When the poll refuses it. It is not among the sources then.
    pub(super) fn insert(
        &mut self,
        registry: Option<&Registry>,
        transport: Transport,
        protocol: Protocol,
        handler: u32,
        options: u16,
    ) -> io::Result<ConnId> {
        let generation = self.next_generation();
        let entry = self.slab.vacant_entry();
        let index = entry.key();
        let id = ConnId {
            index: index as u32,
            generation,
        };
        let mut connection = Connection::new(id, transport, protocol, handler, options);
        if connection.transport.is_handshaking() {
            connection.life = Life::Handshaking;
        }
        let interest = connection.transport.interest(false);
        connection
            .transport
            .register(registry, Token(index), interest)?;
        entry.insert(Source::Connection(connection));
        self.connection_count += 1;
        self.high_water = self.high_water.max(self.slab.len());
        Ok(id)
    }

    /// Adds a listener and registers it with the poll.
    ///
    /// # Errors
    ///
    /// When the poll refuses it.
    pub(super) fn insert_listener(
        &mut self,
        registry: Option<&Registry>,
        mut listener: Box<Listener>,
    ) -> io::Result<ListenerId> {
        let generation = self.next_generation();
        let entry = self.slab.vacant_entry();
        let index = entry.key();
        listener.set_generation(generation);
        listener.register(registry, Token(index))?;
        entry.insert(Source::Listener(listener));
        Ok(ListenerId(ConnId {
            index: index as u32,
            generation,
        }))
    }

    /// Adds an attempt to connect and registers it with the poll. Returns its index.
    ///
    /// An attempt has an index of its own and not its connection's, because several attempts of one
    /// connection can be under way.
    ///
    /// # Errors
    ///
    /// When the poll refuses it.
    pub(super) fn insert_attempt(
        &mut self,
        registry: Option<&Registry>,
        mut attempt: Box<Attempt>,
    ) -> io::Result<u32> {
        let entry = self.slab.vacant_entry();
        let index = entry.key();
        // A non-blocking connect that has ended makes the socket writable. Source: connect(2),
        // `EINPROGRESS`.
        let interest = match attempt.has_tunnel {
            true => attempt.socket.interest(true),
            false => Interest::WRITABLE,
        };
        attempt.socket.register(registry, Token(index), interest)?;
        entry.insert(Source::Attempt(attempt));
        Ok(index as u32)
    }

    /// Adds a place for a source that the reactor keeps apart. It registers itself with the poll.
    pub(crate) fn insert_watched(&mut self) -> ConnId {
        let generation = self.next_generation();
        let place = WatchedPlace {
            generation,
            deferred: None,
        };
        let index = self.slab.insert(Source::Watched(place)) as u32;
        ConnId { index, generation }
    }

    // ── out ──────────────────────────────────────────────────────────────────────────────────

    fn vacate(&mut self, index: u32) -> Option<Source> {
        match std::mem::replace(self.slab.get_mut(index as usize)?, Source::Vacated) {
            // Vacated before in this turn; its index must be freed only once.
            Source::Vacated => None,
            source => {
                self.vacated.push(index as usize);
                Some(source)
            }
        }
    }

    /// Removes a connection. Dropping it closes its socket.
    pub(super) fn remove(&mut self, id: ConnId) -> Option<Connection> {
        self.connection(id)?;
        match self.vacate(id.index) {
            Some(Source::Connection(connection)) => {
                self.connection_count -= 1;
                Some(connection)
            }
            Some(
                Source::Listener(_) | Source::Attempt(_) | Source::Watched(_) | Source::Vacated,
            )
            | None => None,
        }
    }

    /// Removes a listener. `None` when it was removed before.
    pub(super) fn remove_listener(
        &mut self,
        registry: Option<&Registry>,
        id: ListenerId,
    ) -> Option<Box<Listener>> {
        self.listener(id)?;
        match self.vacate(id.0.index) {
            Some(Source::Listener(mut listener)) => {
                listener.deregister(registry);
                Some(listener)
            }
            Some(
                Source::Connection(_) | Source::Attempt(_) | Source::Watched(_) | Source::Vacated,
            )
            | None => None,
        }
    }

    /// Removes the listeners for which `is_over` returns `true`.
    pub(super) fn remove_listeners(
        &mut self,
        registry: Option<&Registry>,
        is_over: impl Fn(&Listener) -> bool,
    ) {
        let over_at = |(index, source): (usize, &Source)| match source {
            Source::Listener(listener) => is_over(listener).then_some(index),
            Source::Connection(_) | Source::Attempt(_) | Source::Watched(_) | Source::Vacated => {
                None
            }
        };
        let indexes: Vec<usize> = self.slab.iter().filter_map(over_at).collect();
        for index in indexes {
            if let Some(Source::Listener(mut listener)) = self.vacate(index as u32) {
                listener.deregister(registry);
            }
        }
    }

    /// Removes an attempt to connect.
    pub(crate) fn remove_attempt(&mut self, index: u32) -> Option<Box<Attempt>> {
        self.attempt_mut(index)?;
        match self.vacate(index) {
            Some(Source::Attempt(attempt)) => Some(attempt),
            Some(
                Source::Connection(_) | Source::Listener(_) | Source::Watched(_) | Source::Vacated,
            )
            | None => None,
        }
    }

    /// Removes the place of a source that the reactor keeps apart. `false` when it was removed before.
    pub(crate) fn remove_watched(&mut self, id: ConnId) -> bool {
        self.has_watched(id) && self.vacate(id.index).is_some()
    }

    /// Frees the indexes of sources that were removed in this turn, when every report of the poll
    /// has been handled. Returns whether there were any.
    pub(super) fn free_vacated(&mut self) -> bool {
        let were_there = !self.vacated.is_empty();
        for index in self.vacated.drain(..) {
            self.slab.remove(index);
        }
        were_there
    }

    // ── looking up ───────────────────────────────────────────────────────────────────────────

    /// Whatever is at this index.
    #[inline]
    pub(super) fn source_mut(&mut self, index: usize) -> Option<&mut Source> {
        self.slab.get_mut(index)
    }

    #[inline]
    pub(super) fn connection(&self, id: ConnId) -> Option<&Connection> {
        match self.slab.get(id.index as usize) {
            Some(Source::Connection(connection)) if connection.id == id => Some(connection),
            _ => None,
        }
    }

    #[inline]
    pub(super) fn connection_mut(&mut self, id: ConnId) -> Option<&mut Connection> {
        match self.slab.get_mut(id.index as usize) {
            Some(Source::Connection(connection)) if connection.id == id => Some(connection),
            _ => None,
        }
    }

    pub(super) fn connections(&self) -> impl Iterator<Item = &Connection> {
        self.slab.iter().filter_map(|(_, source)| match source {
            Source::Connection(connection) => Some(connection),
            Source::Listener(_) | Source::Attempt(_) | Source::Watched(_) | Source::Vacated => None,
        })
    }

    pub(super) fn connections_mut(&mut self) -> impl Iterator<Item = &mut Connection> {
        self.slab.iter_mut().filter_map(|(_, source)| match source {
            Source::Connection(connection) => Some(connection),
            Source::Listener(_) | Source::Attempt(_) | Source::Watched(_) | Source::Vacated => None,
        })
    }

    /// The ids of all connections.
    pub(crate) fn connection_ids(&self) -> Vec<ConnId> {
        self.connections().map(|connection| connection.id).collect()
    }

    /// How many connections there are: of every protocol, also those that connect or linger.
    pub(crate) fn connection_count(&self) -> usize {
        self.connection_count
    }

    /// How many sources of every kind there are.
    pub(crate) fn count(&self) -> usize {
        self.slab.len()
    }

    pub(crate) fn listener(&self, id: ListenerId) -> Option<&Listener> {
        match self.slab.get(id.0.index as usize) {
            Some(Source::Listener(listener)) if listener.generation() == id.0.generation => {
                Some(listener)
            }
            _ => None,
        }
    }

    pub(crate) fn listener_mut(&mut self, index: u32) -> Option<&mut Listener> {
        match self.slab.get_mut(index as usize) {
            Some(Source::Listener(listener)) => Some(listener),
            _ => None,
        }
    }

    /// The index of the first listener for which `is_it` returns `true`.
    pub(crate) fn find_listener(&self, is_it: impl Fn(&Listener) -> bool) -> Option<u32> {
        self.slab.iter().find_map(|(index, source)| match source {
            Source::Listener(listener) => is_it(listener).then_some(index as u32),
            Source::Connection(_) | Source::Attempt(_) | Source::Watched(_) | Source::Vacated => {
                None
            }
        })
    }

    /// The id of the source that the reactor keeps apart and that has this place.
    pub(crate) fn watched_id(&self, index: u32) -> Option<ConnId> {
        match self.slab.get(index as usize) {
            Some(Source::Watched(place)) => Some(ConnId {
                index,
                generation: place.generation,
            }),
            _ => None,
        }
    }

    /// The place of a source that the reactor keeps apart.
    pub(super) fn watched_mut(&mut self, id: ConnId) -> Option<&mut WatchedPlace> {
        match self.slab.get_mut(id.index as usize) {
            Some(Source::Watched(place)) if place.generation == id.generation => Some(place),
            _ => None,
        }
    }

    /// Whether a source that the reactor keeps apart has its place.
    pub(crate) fn has_watched(&self, id: ConnId) -> bool {
        match self.slab.get(id.index as usize) {
            Some(Source::Watched(place)) => place.generation == id.generation,
            _ => false,
        }
    }

    pub(crate) fn attempt_mut(&mut self, index: u32) -> Option<&mut Attempt> {
        match self.slab.get_mut(index as usize) {
            Some(Source::Attempt(attempt)) => Some(attempt),
            _ => None,
        }
    }

    #[cfg(test)]
    pub(crate) fn attempt_count(&self) -> usize {
        let sources = self.slab.iter();
        sources
            .filter(|(_, source)| matches!(source, Source::Attempt(_)))
            .count()
    }

    // ── memory ───────────────────────────────────────────────────────────────────────────────

    /// Gives back the list of vacated indexes that a burst has made long.
    pub(super) fn give_back_vacated(&mut self) {
        give_back(&mut self.vacated);
    }

    /// Gives back places when a quarter of the sources is left.
    ///
    /// `shrink_to_fit` visits every free index. Done only each time that a quarter of the
    /// sources is left, it costs a constant for each source. A slab can only drop free indexes
    /// at its end: one connection near the end keeps all before it, which are used again.
    pub(super) fn shrink_after_burst(&mut self) {
        if self.slab.len() <= self.high_water / 4 && BURST < self.slab.capacity() {
            self.high_water = self.slab.len();
            self.slab.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reactor::transport::socket::Socket;

    // Looking at every place costs as much as all of them, so it is done a few times in their life.
    #[test]
    fn places_are_given_back_when_a_quarter_is_left_and_not_before() {
        let mut sources = Sources::new();
        let ids: Vec<ConnId> = (0..4 * BURST)
            .map(|_| {
                let inserted =
                    sources.insert(None, Transport::Plain(Socket::Pending), Protocol::Raw, 0, 0);
                inserted.unwrap()
            })
            .collect();
        let capacity = sources.slab.capacity();
        for left in [2 * BURST, BURST] {
            for id in &ids[left..] {
                sources.remove(*id);
            }
            sources.free_vacated();
            sources.shrink_after_burst();
            let has_shrunk = sources.slab.capacity() < capacity;
            assert_eq!(has_shrunk, left == BURST, "{left} left");
        }
        assert_eq!(sources.connection_count(), BURST);
    }
}
