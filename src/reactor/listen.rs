//! Listening, for the roles that accept; and the register of handlers.

use std::collections::VecDeque;
use std::io;

use super::id::{ConnId, ListenerId};
use super::reactor::{Cx, Handler, Reactor};
use super::transport::endpoint::ListenOptions;
use super::transport::listener::{self, Accepting, Acceptor, Address, Listener};
use super::transport::memory::MemoryStream;

/// A listener of a simulation that asks for any port gets one from here on.
const FIRST_MEMORY_PORT: u16 = 49_152;

/// # Listen
impl<S: 'static> Reactor<S> {
    /// Where a listener listens, with the real port. `None` when it is closed.
    pub fn local_addr(&self, listener: ListenerId) -> Option<Address> {
        self.table
            .listener(listener)
            .map(|listener| listener.address.clone())
    }

    /// Stops listening; connections stay. `false` when it was closed before.
    pub fn close_listener(&mut self, listener: ListenerId) -> bool {
        self.table.remove_listener(listener).is_some()
    }

    /// Listens for the handler that is made for the real address.
    pub(crate) fn listen(
        &mut self,
        options: &ListenOptions<'_>,
        connection_options: u16,
        handler: impl FnOnce(&Address) -> Box<dyn Handler<S>>,
    ) -> io::Result<ListenerId> {
        let (acceptor, address) = match &self.net {
            Some(_) => (
                Acceptor::Memory(VecDeque::new()),
                self.memory_address(options.address()),
            ),
            None => listener::bind(options.address(), &self.config)?,
        };
        let key = self.add_handler(handler(&address));
        let listener = Box::new(Listener {
            acceptor,
            address: address.clone(),
            generation: 0,
            handler: key,
            options: connection_options,
            is_starved: false,
            accepting: Accepting::Ready,
        });
        match self.table.insert_listener(listener) {
            Ok(id) => {
                log::info!("listening on {address}");
                Ok(id)
            }
            Err(error) => {
                self.free_handler(key);
                Err(error)
            }
        }
    }

    /// Adds a role. It can be named at once, and is called from the next callback on.
    pub(crate) fn add_handler(&mut self, handler: Box<dyn Handler<S>>) -> u32 {
        let key = self.handler_keys.insert(()) as u32;
        self.new_handlers.push((key, handler));
        key
    }

    /// A role that was not called yet, or whose object is gone, gives its key back.
    pub(crate) fn free_handler(&mut self, key: u32) {
        self.new_handlers.retain(|(new, _)| *new != key);
        self.handler_keys.try_remove(key as usize);
    }

    /// The kernel keeps new clients in its backlog meanwhile, so that they are served later instead of
    /// being refused. Readiness is edge-triggered: nothing spins.
    pub(super) fn pause_accepting(&mut self, index: u32, why: &str, backs_off: bool) {
        self.table.stats_mut().accept_pauses += 1;
        let connection_count = self.table.connection_count();
        let Some(listener) = self.table.listener_mut(index) else {
            return;
        };
        // Logged once until a connection is accepted again.
        if !std::mem::replace(&mut listener.is_starved, true) {
            log::warn!(
                "{}: accepting pauses at {connection_count} connections: {why}",
                listener.address,
            );
        }
        if !backs_off {
            listener.accepting = Accepting::Full;
            return self.table.accept_when_room(index);
        }
        listener.accepting = Accepting::BackingOff;
        let id = ListenerId(ConnId {
            index,
            generation: listener.generation,
        });
        let backoff = self.config.accept_backoff;
        self.after(backoff, move |cx: &mut Cx<'_, S>| {
            // It may have been closed, and its place taken.
            if cx.reactor.local_addr(id).is_some() {
                cx.reactor.table.accept_again(index);
            }
        });
    }

    // ── in a simulation ──────────────────────────────────────────────────────────────────────

    /// Where a simulated listener is: a Unix socket at its path, all others on one machine.
    fn memory_address(&self, address: &str) -> Address {
        if let Some(path) = address.strip_prefix("unix:") {
            return Address::Unix(path.into());
        }
        let port = address
            .rsplit_once(':')
            .and_then(|(_, port)| port.parse().ok())
            .unwrap_or(0);
        let port = match port {
            0 => self.free_memory_port(),
            port => port,
        };
        Address::Inet(([127, 0, 0, 1], port).into())
    }

    fn free_memory_port(&self) -> u16 {
        let is_free = |port: &u16| {
            let is_taken = |address: &Address| address.port() == Some(*port);
            self.memory_listener(is_taken).is_none()
        };
        let mut ports = FIRST_MEMORY_PORT..=u16::MAX;
        ports.find(is_free).expect("a simulation has fewer ports")
    }

    /// The first simulated listener whose address `is_it` says yes to.
    pub(super) fn memory_listener(&self, is_it: impl Fn(&Address) -> bool) -> Option<u32> {
        self.table
            .find_listener(|listener| is_it(&listener.address))
    }

    /// A simulated client connects.
    pub(super) fn offer(&mut self, listener: u32, stream: MemoryStream) {
        if let Some(found) = self.table.listener_mut(listener)
            && let Acceptor::Memory(waiting) = &mut found.acceptor
        {
            waiting.push_back(stream);
            self.table.accept_offered(listener);
        }
    }
}
