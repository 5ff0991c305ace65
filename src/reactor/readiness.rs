//! What the loop does when a source is ready: accept, read, deliver.

use std::io;

use super::EventLoop;
use super::call::deliver;
use super::connection::read::Next;
use super::connection::table::{Delivery, FastMessages, FastReady, Heartbeat, Ready};
use super::id::ConnId;
use super::protocol::Protocol;
use super::reactor::Received;
use super::transport::listener;
use super::transport::memory::Readiness;

impl<S: 'static> EventLoop<S> {
    #[inline(always)]
    pub(super) fn ready(&mut self, index: usize, readiness: Readiness) {
        let table = &mut self.reactor.table;
        match table.ready_fast(index, readiness, &mut self.input) {
            FastReady::Messages(messages) => self.deliver_fast(messages),
            FastReady::NotEligible => self.ready_any(index, readiness, None),
            FastReady::FellBack(result) => self.ready_any(index, readiness, Some(result)),
        }
    }

    #[inline(never)]
    fn ready_any(&mut self, index: usize, readiness: Readiness, first: Option<io::Result<usize>>) {
        let ready = self.reactor.table.ready(index, readiness, first);
        self.handle_ready(index as u32, ready);
    }

    pub(super) fn ready_again(&mut self, index: u32) {
        let ready = self.reactor.table.ready_again(index);
        self.handle_ready(index, ready);
    }

    fn handle_ready(&mut self, index: u32, ready: Ready) {
        match ready {
            Ready::Nothing => {}
            Ready::Read { id, first } => self.read(id, first),
            Ready::Opened(id) => self.open(id),
            Ready::Accept => self.accept(index),
            Ready::Attempt => {
                if let Some(id) = self.reactor.attempt_ready(index) {
                    self.open(id);
                }
            }
        }
    }

    /// The transport of a connection is ready: the handler opens it, and what has come already is
    /// read.
    fn open(&mut self, id: ConnId) {
        self.call_handler(id, "on_open", |handler, cx| handler.open(cx, id));
        if !self.reactor.is_stopped {
            self.reactor.table.cork(id);
            self.read(id, None);
        }
    }

    /// Delivers what the fast path has read; see `connection::fast_path`.
    #[inline(always)]
    fn deliver_fast(&mut self, messages: FastMessages) {
        let FastMessages {
            id, handler, count, ..
        } = messages;
        let EventLoop {
            handlers,
            reactor,
            state,
            input,
            ..
        } = self;
        reactor.budget.begin();
        let input = &mut input[..count];
        let mut received = Received {
            consumed_bytes: 0,
            heartbeat: Heartbeat::Unchanged,
        };
        deliver(
            handlers,
            reactor,
            state,
            (id, handler),
            "receive",
            |handler, cx| received = handler.receive_fast(cx, messages, input),
        );
        let rest = &self.input[received.consumed_bytes.min(count)..count];
        self.reactor
            .table
            .delivered_fast(id, rest, received.heartbeat);
    }

    /// Reads until the socket is empty or the budget is used up. `first` is what a read has brought
    /// already. The connection is corked.
    fn read(&mut self, id: ConnId, mut first: Option<io::Result<usize>>) {
        self.reactor.budget.begin();
        let mut budget_bytes = self.reactor.config.read_budget_bytes;
        while !self.reactor.is_stopped {
            let delivery = self.reactor.table.read(id, &mut self.input, &mut first);
            let (handler, length, arrived) = match delivery {
                Delivery::Bytes {
                    handler,
                    length,
                    arrived,
                } => (handler, length, arrived),
                Delivery::End => {
                    self.deliver_end(id);
                    break;
                }
                Delivery::Discards => {
                    let budget_bytes = self.reactor.config.read_budget_bytes;
                    self.reactor
                        .table
                        .discard(id, &mut self.input, budget_bytes);
                    break;
                }
                Delivery::Nothing => break,
            };
            let consumed = match length {
                0 => 0,
                length => self.deliver_bytes((id, handler), length),
            };
            let rest = &self.input[consumed..length];
            let next = self
                .reactor
                .table
                .delivered(id, arrived, rest, &mut budget_bytes);
            match next {
                Next::ReadOn => {}
                Next::Stop => break,
                Next::DeliverEnd => {
                    self.deliver_end(id);
                    break;
                }
            }
        }
        self.reactor.table.uncork(id);
    }

    /// Gives the handler the first so many bytes of the input buffer; how many it consumed.
    #[inline(never)]
    fn deliver_bytes(&mut self, to: (ConnId, u32), length: usize) -> usize {
        let EventLoop {
            handlers,
            reactor,
            state,
            input,
            ..
        } = self;
        let input = &mut input[..length];
        let mut consumed = 0;
        deliver(handlers, reactor, state, to, "receive", |handler, cx| {
            consumed = handler.receive(cx, to.0, input);
        });
        consumed.min(length)
    }

    /// The peer's end of stream has been read, and what came before it is handled.
    fn deliver_end(&mut self, id: ConnId) {
        if self.reactor.table.take_end(id) {
            self.call_handler(id, "on_end", |handler, cx| handler.end(cx, id));
        }
    }

    fn accept(&mut self, index: u32) {
        self.reactor.table.begin_accept(index);
        for _ in 0..self.reactor.config.accepts_per_turn {
            if self.reactor.is_stopped {
                return;
            }
            let is_full = self.reactor.config.connections_max <= self.reactor.connection_count();
            let table = &mut self.reactor.table;
            let Some(listener) = table.listener_mut(index) else {
                return;
            };
            if is_full {
                let why = "as many connections as allowed";
                return self.reactor.pause_accepting(index, why, false);
            }
            let (handler, options) = (listener.handler(), listener.options());
            let accepted = listener.accept();
            let inserted = accepted
                .and_then(|transport| table.insert(transport, Protocol::Raw, handler, options));
            match inserted {
                Ok(id) => {
                    table.stats_mut().accepted += 1;
                    self.reactor.handler_keys.count_accepted(handler);
                    // One whose transport still shakes hands is opened when that is done.
                    if self.reactor.table.is_ready(id) {
                        self.call_handler(id, "on_open", |handler, cx| handler.open(cx, id));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if listener::is_exhausted(&error) => {
                    return self
                        .reactor
                        .pause_accepting(index, "out of descriptors", true);
                }
                // One connection went away while it waited, or could not be watched; the next may be
                // fine.
                Err(error) => log::debug!("accept: {error}"),
            }
        }
        self.reactor.table.accept_again(index);
    }
}
