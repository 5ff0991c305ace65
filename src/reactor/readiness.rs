//! What the loop does when the kernel says that a source is ready: accept, read, hand out.

use std::io;

use crate::reactor::EventLoop;
use crate::reactor::close::CloseCause;
use crate::reactor::connection::table::Source;
use crate::reactor::connection::{Flags, Life, Protocol};
use crate::reactor::handler::Cx;
use crate::reactor::id::{ConnId, ListenerId};
use crate::reactor::reactor::Reactor;
use crate::reactor::transport::listener::{self, Accepting};
use crate::reactor::transport::memory::Readiness;

/// On these systems a read that gives less than was asked for has emptied the socket, so that the
/// next readiness is a new one.
const SHORT_READ_MEANS_EMPTY: bool = cfg!(any(
    target_os = "linux",
    target_os = "android",
    target_vendor = "apple",
    target_os = "freebsd"
));

/// What came of the short way to read.
enum Read {
    /// All that there was to do.
    Done,
    /// Nothing: the connection is not of that kind.
    Not,
    /// A read, whose result is not of that kind.
    Otherwise(io::Result<usize>),
}

impl<S: 'static> EventLoop<S> {
    #[inline(always)]
    pub(super) fn ready(&mut self, index: usize, readiness: Readiness) {
        match self.reactor.table.sources.get_mut(index) {
            Some(Source::Connection(connection)) => {
                let id = ConnId {
                    index: index as u32,
                    generation: connection.generation,
                };
                let is_readable = readiness.readable || readiness.read_closed;
                if is_readable {
                    connection.flags.set(Flags::READABLE);
                }
                if readiness.read_closed {
                    connection.flags.set(Flags::READ_CLOSED);
                }
                if readiness.writable && connection.flags.has(Flags::BLOCKED) {
                    self.reactor.table.flush(id);
                }
                if is_readable {
                    self.read(id);
                }
            }
            Some(Source::Listener(listener)) if listener.accepting == Accepting::Ready => {
                self.accept(index as u32);
            }
            Some(Source::Attempt(_)) => {
                if let Some(id) = self.reactor.attempt_ready(index as u32) {
                    self.handle(id, "on_open", |handler, cx| handler.open(cx, id));
                    if !self.reactor.stopped {
                        self.read(id);
                    }
                }
            }
            Some(Source::Listener(_) | Source::Gone) | None => {}
        }
    }

    pub(super) fn ready_again(&mut self, index: u32) {
        match self.reactor.table.sources.get_mut(index as usize) {
            Some(Source::Connection(connection)) => {
                let id = ConnId {
                    index,
                    generation: connection.generation,
                };
                if connection.flags.take(Flags::STILL_READY) {
                    self.read(id);
                }
            }
            Some(Source::Listener(_)) => self.accept(index),
            Some(Source::Attempt(_) | Source::Gone) | None => {}
        }
    }

    /// Reads and hands out what one connection has, within its budget.
    fn read(&mut self, id: ConnId) {
        self.reactor.table.spent = 0;
        self.reactor.table.set_cork(id);
        match self.read_once(id) {
            Read::Done => {}
            Read::Not => self.read_on(id, None),
            Read::Otherwise(result) => self.read_on(id, Some(result)),
        }
        self.reactor.table.uncork();
    }

    /// The common case by itself: a WebSocket with nothing else about it, and one read that empties
    /// its socket.
    #[inline(always)]
    fn read_once(&mut self, id: ConnId) -> Read {
        let Some(connection) = self.reactor.table.connection_mut(id) else {
            return Read::Done;
        };
        let Protocol::WebSocket(machine) = &connection.protocol else {
            return Read::Not;
        };
        let is_plain = connection.flags.is_only_readable()
            && connection.life == Life::Open
            && connection.carry.is_none()
            && machine.is_between_messages();
        if !is_plain || !SHORT_READ_MEANS_EMPTY {
            return Read::Not;
        }
        let role = machine.role();
        let count = match connection.transport.read(&mut self.input) {
            Ok(count) if count != 0 && count < self.input.len() => count,
            result => return Read::Otherwise(result),
        };
        connection.flags.clear(Flags::READABLE);
        let key = connection.handler;
        self.reactor.table.stats.received_bytes += count as u64;
        self.reactor.table.set_plain(role);
        let used = self.hand_out((id, key), count);
        // Still with nothing else about it, and nothing is left: the common case by itself.
        if used == count && self.reactor.table.plain().is_some() {
            return Read::Done;
        }
        let Some(connection) = self.reactor.table.connection_mut(id) else {
            return Read::Done;
        };
        if used < count && matches!(connection.life, Life::Open | Life::Closing) {
            connection.carry = Some(Box::new(self.input[used..count].to_vec()));
        }
        if connection.flags.take(Flags::SPENT) {
            self.reactor.table.read_again(id);
        }
        Read::Done
    }

    /// Gives the handler the first so many bytes of the input buffer; how many it consumed.
    #[inline(always)]
    fn hand_out(&mut self, to: (ConnId, u32), length: usize) -> usize {
        let input = &mut self.input[..length];
        let mut consumed = 0;
        Self::handle_with(
            &mut self.handlers,
            &mut self.reactor,
            &mut self.state,
            to,
            "receive",
            |handler, cx| consumed = handler.receive(cx, to.0, input),
        );
        consumed.min(length)
    }

    // Not inlined: the copy above is the one that counts.
    #[inline(never)]
    fn hand_out_on(&mut self, to: (ConnId, u32), length: usize) -> usize {
        self.hand_out(to, length)
    }

    /// Reads until the socket is empty or the budget is spent. `first` is what a read has brought
    /// already.
    fn read_on(&mut self, id: ConnId, mut first: Option<io::Result<usize>>) {
        let mut budget = self.reactor.table.config.read_budget_bytes;
        while !self.reactor.stopped
            && let Some(connection) = self.reactor.table.connection_mut(id)
        {
            match connection.life {
                Life::Open | Life::Closing => {}
                Life::Finishing | Life::Lingering => {
                    self.discard(id);
                    break;
                }
                Life::Done => break,
            }
            if connection.life == Life::Open && !connection.may_read() {
                // Nobody reads while the application owes an answer; that the client has gone is
                // noticed all the same.
                if connection.flags.has(Flags::HELD) && connection.flags.has(Flags::READ_CLOSED) {
                    self.tell_end(id);
                }
                break;
            }
            let key = connection.handler;
            let mut length = 0;
            let carry = connection.carry.take();
            if let Some(carry) = &carry {
                length = carry.len();
                self.input[..length].copy_from_slice(carry);
            }
            let mut ended = connection.flags.has(Flags::AT_END);
            let mut came = 0;
            if connection.flags.has(Flags::READABLE) && length < self.input.len() {
                let until = self
                    .input
                    .len()
                    .min(length + read_bytes_max(&connection.protocol));
                let result = first
                    .take()
                    .unwrap_or_else(|| connection.transport.read(&mut self.input[length..until]));
                match result {
                    Ok(0) => {
                        connection.flags.clear(Flags::READABLE);
                        connection.flags.set(Flags::AT_END);
                        ended = true;
                    }
                    Ok(count) => {
                        came = count;
                        if SHORT_READ_MEANS_EMPTY
                            && count < until - length
                            && !connection.flags.has(Flags::READ_CLOSED)
                        {
                            connection.flags.clear(Flags::READABLE);
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        connection.flags.clear(Flags::READABLE)
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => {
                        connection.carry = carry;
                        self.reactor.table.abort(id, CloseCause::Io(error.kind()));
                        break;
                    }
                }
            }
            length += came;
            self.reactor.table.stats.received_bytes += came as u64;
            let mut used = 0;
            if length != 0 {
                used = self.hand_out_on((id, key), length);
            }
            let Some(connection) = self.reactor.table.connection_mut(id) else {
                break;
            };
            if used < length && matches!(connection.life, Life::Open | Life::Closing) {
                let mut rest = carry.unwrap_or_default();
                rest.clear();
                rest.extend_from_slice(&self.input[used..length]);
                connection.carry = Some(rest);
            }
            if connection.flags.has(Flags::SPENT) {
                // An end of stream behind it is told when its turn comes.
                connection.flags.clear(Flags::SPENT);
                self.reactor.table.read_again(id);
                break;
            }
            if ended {
                self.end(id);
                break;
            }
            if !connection.flags.has(Flags::READABLE) {
                break;
            }
            budget = budget.saturating_sub(came.max(1));
            if budget == 0 {
                self.reactor.table.read_again(id);
                break;
            }
        }
    }

    /// The peer's end of stream has been read; told when what came before is handled.
    fn end(&mut self, id: ConnId) {
        let Some(connection) = self.reactor.table.connection_mut(id) else {
            return;
        };
        let waits = connection.life == Life::Open
            && !connection.may_read()
            && !connection.flags.has(Flags::HELD);
        if !waits {
            self.tell_end(id);
        }
    }

    fn tell_end(&mut self, id: ConnId) {
        let Some(connection) = self.reactor.table.connection_mut(id) else {
            return;
        };
        if !connection.flags.has(Flags::END_TOLD) {
            connection.flags.set(Flags::END_TOLD);
            self.handle(id, "on_end", |handler, cx| handler.end(cx, id));
        }
    }

    /// After our last words: reads and throws away, until the peer ends its side too.
    fn discard(&mut self, id: ConnId) {
        let mut budget = self.reactor.table.config.read_budget_bytes;
        loop {
            let Some(connection) = self.reactor.table.connection_mut(id) else {
                return;
            };
            let lingers = connection.life == Life::Lingering;
            if !connection.flags.has(Flags::READABLE) && !connection.flags.has(Flags::AT_END) {
                return;
            }
            match connection.transport.read(&mut self.input) {
                Ok(0) => {
                    connection.flags.set(Flags::AT_END);
                    connection.flags.clear(Flags::READABLE);
                    if lingers {
                        self.reactor.table.remove(id);
                    }
                    return;
                }
                Ok(count) => budget = budget.saturating_sub(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return connection.flags.clear(Flags::READABLE);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return self.reactor.table.abort(id, CloseCause::Io(error.kind())),
            }
            if budget == 0 {
                return self.reactor.table.read_again(id);
            }
        }
    }

    fn accept(&mut self, index: u32) {
        if let Some(Source::Listener(listener)) = self.reactor.table.sources.get_mut(index as usize)
        {
            listener.accepting = Accepting::Ready;
        }
        for _ in 0..self.reactor.table.config.accepts_per_turn {
            if self.reactor.stopped {
                return;
            }
            let table = &mut self.reactor.table;
            let is_full = table.config.connections_max <= table.connection_count;
            let Some(Source::Listener(listener)) = table.sources.get_mut(index as usize) else {
                return;
            };
            if is_full {
                return self.reactor.pause_accepting(
                    index,
                    "as many connections as allowed",
                    false,
                );
            }
            let (handler, options) = (listener.handler, listener.options);
            let accepted = listener.accept();
            if accepted.is_ok() {
                listener.is_starved = false;
            }
            match accepted
                .and_then(|transport| table.insert(transport, Protocol::Raw, handler, options))
            {
                Ok(id) => {
                    table.stats.accepted += 1;
                    self.handle(id, "on_open", |handler, cx| handler.open(cx, id));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if listener::is_exhausted(&error) => {
                    return self
                        .reactor
                        .pause_accepting(index, "out of descriptors", true);
                }
                // One connection went away while it waited, or could not be watched; the next may be fine.
                Err(error) => log::debug!("accept: {error}"),
            }
        }
        self.reactor.table.accept_again(index);
    }
}

/// How much one read may bring: little before the protocol has shown that it needs more, because
/// what is not consumed yet is kept.
fn read_bytes_max(protocol: &Protocol) -> usize {
    match protocol {
        Protocol::WebSocket(_) | Protocol::Raw => usize::MAX / 2,
        Protocol::Http(exchange) => exchange.read_bytes_max(),
        Protocol::Upgrade(_) | Protocol::EventStream { .. } => 4096,
    }
}

impl<S: 'static> Reactor<S> {
    // The kernel keeps the rest in the backlog meanwhile, so that who waits is served later
    // instead of being turned away. Readiness is edge-triggered: nothing spins.
    fn pause_accepting(&mut self, index: u32, why: &str, backs_off: bool) {
        self.table.stats.accept_pauses += 1;
        // Said once until a connection is accepted again.
        if let Some(Source::Listener(listener)) = self.table.sources.get_mut(index as usize)
            && !std::mem::replace(&mut listener.is_starved, true)
        {
            log::warn!(
                "{}: accepting pauses at {} connections: {why}",
                listener.address,
                self.table.connection_count
            );
        }
        let Some(Source::Listener(listener)) = self.table.sources.get_mut(index as usize) else {
            return;
        };
        if backs_off {
            listener.accepting = Accepting::BackingOff;
            let id = ListenerId(ConnId {
                index,
                generation: listener.generation,
            });
            let backoff = self.table.config.accept_backoff;
            self.after(backoff, move |cx: &mut Cx<'_, S>| {
                // It may have been closed, and its place taken.
                if cx.reactor.local_addr(id).is_some() {
                    cx.reactor.table.accept_again(index);
                }
            });
        } else {
            listener.accepting = Accepting::Full;
            self.table.paused_listeners.push(index);
        }
    }
}
