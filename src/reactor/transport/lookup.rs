//! Names, looked up off the loop.
//!
//! The system's resolver blocks for as long as it likes, so each look-up has a thread. At most
//! [`Config::lookups_max`](crate::reactor::config::Config::lookups_max) run at once, the others wait in their
//! order; a resolver that hangs costs those who wait their `connect_timeout`, and no more threads.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use crate::reactor::burst::BURST;
use crate::reactor::id::ConnId;

use super::tunnel::Tunnel;

/// Returns the addresses of a host and port. May block.
pub(crate) type Resolve = Arc<dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync>;

/// From this many waiting look-ups on, those whose connection has ended are removed.
const SWEEP_MIN: usize = 64;

/// A connection to be made by name.
pub(crate) struct Lookup {
    pub(crate) id: ConnId,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) from: Option<IpAddr>,
    /// The exchange that follows, where this is the name of a proxy.
    pub(crate) tunnel: Option<Box<Tunnel>>,
}

/// The look-ups that run, and those that wait.
pub(crate) struct Lookups {
    resolve: Resolve,
    running_count: usize,
    waiting: VecDeque<Lookup>,
    sweep_at: usize,
}

impl Default for Lookups {
    fn default() -> Self {
        let system = |host: &str, port| (host, port).to_socket_addrs().map(Iterator::collect);
        Lookups {
            resolve: Arc::new(system),
            running_count: 0,
            waiting: VecDeque::new(),
            sweep_at: SWEEP_MIN,
        }
    }
}

impl Lookups {
    pub(crate) fn resolver(&self) -> &Resolve {
        &self.resolve
    }

    #[cfg(test)]
    pub(crate) fn set_resolver(&mut self, resolve: Resolve) {
        self.resolve = resolve;
    }

    pub(crate) fn running_count(&self) -> usize {
        self.running_count
    }

    #[cfg(test)]
    pub(crate) fn waiting_count(&self) -> usize {
        self.waiting.len()
    }

    /// Adds a look-up behind those that wait. `is_wanted` returns whether a connection still wants
    /// its addresses.
    ///
    /// A connection that ends does not search for its look-up here. Instead those that are no
    /// longer wanted are removed each time that their number may have doubled, so there are at most
    /// twice as many look-ups as connections that want one.
    pub(crate) fn push(&mut self, lookup: Lookup, is_wanted: impl Fn(ConnId) -> bool) {
        self.waiting.push_back(lookup);
        if self.sweep_at <= self.waiting.len() {
            self.waiting.retain(|lookup| is_wanted(lookup.id));
            self.sweep_at = SWEEP_MIN.max(2 * self.waiting.len());
        }
    }

    /// The look-up that has waited longest.
    pub(crate) fn pop(&mut self) -> Option<Lookup> {
        let lookup = self.waiting.pop_front();
        if lookup.is_none() && BURST < self.waiting.capacity() {
            self.waiting = VecDeque::new();
        }
        lookup
    }

    pub(crate) fn note_start(&mut self) {
        self.running_count += 1;
    }

    pub(crate) fn note_end(&mut self) {
        self.running_count -= 1;
    }
}
