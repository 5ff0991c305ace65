//! The loop's answer to readiness: accept, read, deliver.
//!
//! The poll is edge-triggered: the kernel reports a source when something about it has changed, and
//! not again while that stays true. So readiness is only a hint that is remembered, and each source
//! is read or accepted from until the kernel has no more (`WouldBlock`, or a short read where that
//! means the same), or until its budget is used up; then it goes on the list of the next turn. Code
//! here that returns early without one of the two makes a connection hang.
//!
//! User code runs between two uses of the table. It may close any connection, this one included,
//! or stop the loop. That is why ids are passed, and looked up again after each call.

use std::io;
use std::ops::Range;

use super::Running;
use super::call::deliver;
use super::close::{CloseCause, Deadline};
use super::connection::Connection;
use super::connection::deadline::Heartbeat;
use super::connection::read::{Next, Read};
use super::connection::ready::{FastMessages, FastReady, Ready};
use super::id::ConnId;
use super::protocol::Protocol;
use super::reactor::{Reactor, Received};
use super::transport::Transport;
use super::transport::listener::{self, Accepting};
use super::transport::memory::Readiness;
#[cfg(feature = "tls")]
use super::transport::tls::server::ServerTls;
#[cfg(feature = "tls")]
use super::transport::tls::stream::TlsStream;
use crate::protocol::proxy_header::{self, ProxyHeaderError};
use crate::protocol::websocket::Role;

impl<S: 'static> Running<S> {
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
            // The table may have flushed a queue.
            Ready::Nothing => {}
            // The handler was called behind the last read, which read the clock.
            Ready::Read { id, first } => return self.read(id, first),
            Ready::Handshaking => {
                self.end_handshake_step();
                if self.reactor.table.is_over_memory() {
                    self.reactor.release_memory();
                }
                return;
            }
            // The first read judges the memory: a connection must not end between its handshake and
            // `on_open`.
            Ready::Opened(id) => {
                self.end_handshake_step();
                self.open(id);
            }
            Ready::Accept => self.accept(index),
            Ready::Watched(readiness) => self.watched_ready(index, readiness),
            Ready::Attempt => {
                if let Some(id) = self.reactor.attempt_ready(index) {
                    self.open(id);
                }
            }
        }
        self.reactor.read_clock();
    }

    /// A step of a handshake is done, which took time.
    fn end_handshake_step(&mut self) {
        self.reactor.read_clock();
        self.reactor.table.end_handshake_step();
    }

    /// The transport of a connection is ready: the handler opens it, and bytes that came before are
    /// read. Their edge may have been reported while the connection was handshaking, and would not
    /// be reported again.
    fn open(&mut self, id: ConnId) {
        if self.is_unopened(id) {
            // It was accepted and admitted, and its handshake is done.
            self.reactor.set_protocol(id, Protocol::Raw, None);
            self.call_handler(id, "on_open", |handler, cx| handler.open(cx, id));
        } else if self.is_opened(id) {
            // It was open, and `start_tls` is done.
            self.call_handler(id, "on_tls", |handler, cx| handler.secured(cx, id));
        } else {
            self.call_handler(id, "on_open", |handler, cx| handler.open(cx, id));
        }
        if !self.reactor.is_stopped {
            self.reactor.table.cork(id);
            self.read(id, None);
        }
    }

    /// Delivers the bytes that the fast path has read; see `connection::fast_path`.
    #[inline(always)]
    fn deliver_fast(&mut self, messages: FastMessages) {
        let FastMessages {
            id, handler, count, ..
        } = messages;
        let Running {
            handlers,
            reactor,
            state,
            input,
            ..
        } = self;
        reactor.budget.begin(reactor.table.now(), messages.pace);
        let input = &mut input[..count];
        // Stays so when a callback panics; the connection has failed then, and keeps no bytes.
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
        let reactor = &mut self.reactor;
        let pace = reactor.budget.note_clock(reactor.table.now());
        reactor
            .table
            .delivered_fast(id, rest, received.heartbeat, pace);
    }

    /// Reads until the socket is empty or the budget is used up. `first` is the result of a read
    /// that the fast path has made already: those bytes are in the input buffer, and reading again
    /// would overwrite them. The connection is corked, so that replies to all of it leave in one
    /// write.
    fn read(&mut self, id: ConnId, mut first: Option<io::Result<usize>>) {
        let table = &self.reactor.table;
        let mut pace = table.connection(id).map_or(1, Connection::pace);
        self.reactor.budget.begin(table.now(), pace);
        let mut budget_bytes = self.reactor.config.read_budget_bytes;
        let (mut came_bytes, mut is_busy) = (0, false);
        while !self.reactor.is_stopped {
            let delivery = self.reactor.table.read(id, &mut self.input, &mut first);
            let arrived = match delivery {
                Read::Bytes(arrived) => arrived,
                Read::End => {
                    self.deliver_end(id);
                    break;
                }
                Read::Discards => {
                    let budget_bytes = self.reactor.config.read_budget_bytes;
                    self.reactor
                        .table
                        .discard(id, &mut self.input, budget_bytes);
                    self.reactor.read_clock();
                    break;
                }
                Read::Nothing => break,
            };
            let (handler, length) = (arrived.handler(), arrived.length());
            let consumed = match length {
                // Only the end of stream has come, which is delivered below.
                0 if !arrived.ends_without_bytes() => 0,
                length if arrived.is_unopened() => self.deliver_proxied((id, handler), length),
                length => self.deliver_bytes((id, handler), 0..length),
            };
            // The delivery has read the clock. The budget is for all reads of this turn together.
            let now = self.reactor.table.now();
            pace = self.reactor.budget.note_clock(now);
            if self.reactor.budget.is_used(now) {
                budget_bytes = 0;
            }
            came_bytes += length;
            is_busy = self.reactor.budget.is_busy(now, came_bytes);
            let rest = &self.input[consumed..length];
            let next = self
                .reactor
                .table
                .delivered(id, arrived, rest, &mut budget_bytes);
            if self.reactor.table.is_over_memory() {
                self.reactor.release_memory();
            }
            match next {
                Next::ReadOn => {}
                Next::Stop => break,
                Next::DeliverEnd => {
                    self.deliver_end(id);
                    break;
                }
            }
        }
        self.reactor.table.uncork(id, pace, is_busy);
    }

    /// Gives the handler these bytes of the input buffer. Returns how many it consumed.
    // Not inlined: `read` is not the fast path, and a copy of this in it would push code that is
    // used more often out of the instruction cache.
    #[inline(never)]
    fn deliver_bytes(&mut self, to: (ConnId, u32), bytes: Range<usize>) -> usize {
        let length = bytes.len();
        let Running {
            handlers,
            reactor,
            state,
            input,
            ..
        } = self;
        let input = &mut input[bytes];
        // Stays zero when the handler panics; the connection has failed then, and keeps no bytes.
        let mut consumed = 0;
        deliver(handlers, reactor, state, to, "receive", |handler, cx| {
            consumed = handler.receive(cx, to.0, input);
        });
        consumed.min(length)
    }

    /// As [`deliver_bytes`](Self::deliver_bytes), for a connection whose bytes begin with the header of the
    /// PROXY protocol.
    #[cold]
    fn deliver_proxied(&mut self, to: (ConnId, u32), length: usize) -> usize {
        let header_bytes = self.open_proxied(to.0, length);
        // The rest is for the handler, which may have ended the connection or paused it.
        let reactor = &self.reactor;
        if !reactor.is_open(to.0) {
            return length;
        }
        if header_bytes == 0 || header_bytes == length || !reactor.may_read(to.0) {
            return header_bytes;
        }
        header_bytes + self.deliver_bytes(to, header_bytes..length)
    }

    /// Delivers the peer's end of stream, after the bytes that came before it.
    fn deliver_end(&mut self, id: ConnId) {
        let connection = self.reactor.table.connection_mut(id);
        if !connection.is_some_and(Connection::take_end) {
            return;
        }
        if self.is_unopened(id) {
            return self.end_unopened(id);
        }
        self.call_handler(id, "on_end", |handler, cx| handler.end(cx, id));
    }

    /// The peer has ended its side before the header of the PROXY protocol was there. Without a byte it was a
    /// check of the port, which is no fault.
    fn end_unopened(&mut self, id: ConnId) {
        match self.reactor.has_unconsumed(id) {
            true => self
                .reactor
                .refuse_proxy_header(id, ProxyHeaderError::Truncated),
            false => self.reactor.abort(id, CloseCause::Peer),
        }
    }

    /// Opens a connection that was accepted and whose peer is known, if the peer's address may have one more.
    fn open_accepted(&mut self, id: ConnId) {
        if self.reactor.admits_peer(id) {
            return self.call_handler(id, "on_open", |handler, cx| handler.open(cx, id));
        }
        self.reactor.take_back_handshake();
        self.call_handler(id, "refuse", |handler, cx| handler.refuse(cx, id));
    }

    /// Whether a connection that was accepted may shake hands: its peer's address may have one more. Asked before
    /// the handshake, which costs most; one that is refused has no words for it and is reset.
    #[cfg(feature = "tls")]
    fn admits_handshake(&mut self, id: ConnId) -> bool {
        let is_admitted = self.reactor.admits_peer(id);
        if !is_admitted {
            self.reactor.take_back_handshake();
            self.reactor.table.abort(id, CloseCause::AddressLimit);
        }
        is_admitted
    }

    /// Reads the header of the PROXY protocol in the first `length` bytes of the input buffer, and opens the
    /// connection when it is whole. Returns the length of the header; 0 while bytes of it are missing.
    #[cold]
    fn open_proxied(&mut self, id: ConnId, length: usize) -> usize {
        match proxy_header::parse(&self.input[..length]) {
            Ok(None) => 0,
            Ok(Some((client, header_bytes))) => {
                let reactor = &mut self.reactor;
                reactor.set_proxied_peer(id, client);
                #[cfg(feature = "tls")]
                if reactor.speaks_tls(id) {
                    if self.admits_handshake(id) {
                        let received = &self.input[header_bytes..length];
                        self.reactor.table.begin_handshake(id, received);
                    }
                    return length;
                }
                reactor.clear_deadline(id);
                reactor.set_protocol(id, Protocol::Raw, None);
                self.open_accepted(id);
                header_bytes
            }
            Err(error) => {
                self.reactor.refuse_proxy_header(id, error);
                length
            }
        }
    }

    fn is_opened(&self, id: ConnId) -> bool {
        let connection = self.reactor.table.connection(id);
        connection.is_some_and(Connection::is_opened)
    }

    /// Whether the connection was accepted and its handler does not know of it yet.
    fn is_unopened(&self, id: ConnId) -> bool {
        matches!(self.reactor.protocol(id), Some(Protocol::Unopened))
    }

    /// Accepts until the kernel has no more connections, but at most `accepts_per_turn`: a wave of
    /// new clients must not keep those that are connected waiting.
    fn accept(&mut self, index: u32) {
        let table = &mut self.reactor.table;
        if let Some(listener) = table.sources_mut().listener_mut(index) {
            // Reports of the poll reach it again.
            listener.set_accepting(Accepting::Ready);
        }
        let mut only_fails = false;
        for count in 0..self.reactor.config.accepts_per_turn {
            if self.reactor.is_stopped {
                return;
            }
            if 0 < count && self.is_dispatch_over() {
                break;
            }
            if self.reactor.pauses_for_memory(index) || self.reactor.pauses_for_handshakes(index) {
                return;
            }
            #[cfg(feature = "tls")]
            if self.reactor.table.pauses_for_handshakes(index) {
                return self.reactor.table.accept_again(index);
            }
            let is_full = self.reactor.config.connections_max <= self.reactor.connection_count();
            let table = &mut self.reactor.table;
            // Looked up each time: the `on_open` of the last client may have closed the listener.
            let Some(listener) = table.sources_mut().listener_mut(index) else {
                return;
            };
            if listener.accepting() == Accepting::Held {
                return;
            }
            // Checked before `accept`: a client that is accepted and closed at once sees a reset,
            // and one that waits in the kernel's backlog is served later.
            if is_full {
                let why = "as many connections as `connections_max` allows";
                return self.reactor.pause_accepting(index, why, None);
            }
            let (handler, options) = (listener.handler(), listener.options());
            let has_proxy_protocol = listener.has_proxy_protocol();
            let accepted = listener.accept();
            #[cfg(feature = "tls")]
            let tls = listener.tls().map(ServerTls::config);
            let inserted = accepted.and_then(|(socket, peer)| {
                #[cfg(feature = "tls")]
                let transport = match tls {
                    Some(config) => {
                        let scratch = &self.reactor.tls_scratch;
                        let mut stream = TlsStream::server(socket, config, scratch)?;
                        if !has_proxy_protocol {
                            stream.begin_handshake(&[]);
                        }
                        Transport::Tls(Box::new(stream))
                    }
                    None => Transport::Plain(socket),
                };
                #[cfg(not(feature = "tls"))]
                let transport = Transport::Plain(socket);
                let protocol = match has_proxy_protocol || transport.is_handshaking() {
                    true => Protocol::Unopened,
                    false => Protocol::Raw,
                };
                let id = table.insert(transport, protocol, handler, options)?;
                Ok((id, peer))
            });
            match inserted {
                Ok((id, peer)) => {
                    only_fails = false;
                    if has_proxy_protocol || !peer.is_local() {
                        self.reactor.count_handshake();
                    }
                    self.reactor.keep_peer(id, peer);
                    let table = &mut self.reactor.table;
                    table.stats_mut().accepted += 1;
                    self.reactor.handler_keys.count_accepted(handler);
                    // A connection whose transport still shakes hands is opened when that is done.
                    let connection = self.reactor.table.connection(id);
                    if connection.is_some_and(Connection::is_ready) && !has_proxy_protocol {
                        self.open_accepted(id);
                        continue;
                    }
                    #[cfg(feature = "tls")]
                    if !has_proxy_protocol && !self.admits_handshake(id) {
                        continue;
                    }
                    let timeout = self.reactor.config.head_timeout;
                    self.reactor.set_deadline(id, Deadline::Handshake, timeout);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // The connection that could not be accepted stays in the backlog, and its edge has
                // been reported: without a timer, accepting would never go on.
                Err(error) if listener::is_exhausted(&error) => {
                    let backoff = self.reactor.config.accept_backoff;
                    return self.reactor.pause_accepting(
                        index,
                        "out of descriptors",
                        Some(backoff),
                    );
                }
                // One connection went away while it waited (ECONNABORTED), or could not be
                // registered with the poll. The next one may be fine.
                Err(error) => {
                    only_fails |= count == 0 && error.kind() != io::ErrorKind::ConnectionAborted;
                    log::debug!("a connection was not accepted: {error}");
                }
            }
        }
        // An error that stays would keep the loop busy for ever.
        if only_fails {
            let backoff = self.reactor.config.accept_backoff;
            return self
                .reactor
                .pause_accepting(index, "every attempt fails", Some(backoff));
        }
        // More clients may wait, and their edge has been used up.
        self.reactor.table.accept_again(index);
    }
}

/// The budget of the input that is delivered, for roles to ask between two messages.
impl<S: 'static> Reactor<S> {
    /// The role of the WebSocket that is corked, while the fast path holds; see
    /// `connection::fast_path`.
    #[inline]
    pub(crate) fn fast_path(&self) -> Option<Role> {
        self.table.fast_path()
    }

    /// Counts a message or a request of the connection that is being read. When the connection has
    /// used its time in this turn, the rest of its input waits for the next turn.
    ///
    /// The bytes of one read can hold a hundred thousand small messages. Without this limit the
    /// callbacks of one client would keep every other client waiting.
    #[inline]
    pub(crate) fn charge_message(&mut self, id: ConnId) {
        if self.budget.charge_message() {
            self.check_budget(id);
        }
    }

    // Not inlined: it runs once in many messages, and the count before it runs for each.
    #[inline(never)]
    fn check_budget(&mut self, id: ConnId) {
        let now = self.clock.now();
        self.budget.note_clock(now);
        if self.budget.is_used(now) {
            self.table.pause_for_turn(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::protocol::websocket::{Message, encode_message};
    use crate::reactor::EventLoop;
    use crate::reactor::budget::PACE_MAX;
    use crate::reactor::config::{Config, Overflow};
    use crate::reactor::sim::Sim;
    use crate::reactor::time::clock::nanos;

    /// Whether the fast path holds in each callback of a WebSocket that gets these messages, one read
    /// each.
    fn fast_path_in(messages: &[&str]) -> Vec<bool> {
        let mut sim = Sim::new(Vec::new(), |reactor: &mut Reactor<Vec<bool>>| {
            reactor.websocket("0.0.0.0:80", |ws| {
                ws.on_message(|ws, _| {
                    let holds = ws.reactor.fast_path().is_some();
                    ws.state.push(holds);
                });
            })
        });
        let client = sim.websocket("/");
        for message in messages {
            client.send(*message);
            sim.settle();
        }
        sim.state().clone()
    }

    #[test]
    fn the_fast_path_takes_short_messages_alone() {
        let long = "x".repeat(126);
        assert_eq!(fast_path_in(&["short", "", "again"]), [true; 3]);
        // A long message goes the general way, within the event of the fast path.
        assert_eq!(fast_path_in(&[&long, "short"]).len(), 2);
    }

    // Bytes that a peer sent before its connection lingers are of no use any more.
    #[test]
    fn a_connection_that_lingers_keeps_no_unconsumed_bytes() {
        let mut sim = Sim::new((), |reactor: &mut Reactor<()>| {
            reactor.http("0.0.0.0:80", |http| {
                http.get("/", |request| request.reply("hi"));
            })
        });
        let client = sim.connect();
        client.write("GET / HTTP/1.1\r\nHost: h\r\nX: incomplete");
        sim.settle();
        let ids = sim.reactor().table.sources().connection_ids();
        assert_eq!(ids.len(), 1);
        sim.reactor().close(ids[0]);
        sim.settle();
        assert!(client.is_closed());
        let connection = sim.reactor().table.connection(ids[0]).unwrap();
        assert!(!connection.reading().has_unconsumed());
    }

    // The handshake is what costs most. A simulated socket has no address, so it is told one.
    #[cfg(feature = "tls")]
    #[test]
    fn a_client_is_refused_for_its_address_before_its_handshake() {
        let file = |name| format!("{}/tests/certificates/{name}", env!("CARGO_MANIFEST_DIR"));
        let tls = ServerTls::builder().pair(file("server.pem"), file("server.key"));
        let tls = tls.build().unwrap();
        let config = Config {
            connections_per_address_max: Some(1),
            ..Config::default()
        };
        let mut sim = Sim::with_config(config, (), |reactor: &mut Reactor<()>| {
            let options = crate::ListenOptions::new("0.0.0.0:443").tls(tls);
            reactor.stream(options, |_| {})
        });
        let probe = sim.connect();
        let [mut id] = sim.reactor().table.sources().connection_ids()[..] else {
            panic!("one connection");
        };
        probe.close();
        sim.settle();
        let mut connect = || {
            id.generation += 1;
            let peer = crate::Peer::Inet("203.0.113.7:4711".parse().unwrap());
            sim.reactor().proxied_peers.insert(id, peer);
            let client = sim.connect();
            id.index += u32::from(!client.is_closed());
            client
        };
        let clients = [(); 3].map(|()| connect());
        assert_eq!(
            clients.map(|client| client.is_closed()),
            [false, true, true]
        );
        assert_eq!(sim.reactor().stats().address_refusals, 2);
    }

    // The error comes again with each call, and no connection leaves the backlog.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_listener_that_only_fails_pauses_instead_of_spinning() {
        let mut event_loop = EventLoop::new(Config::default(), ()).unwrap();
        let listening = event_loop.reactor().stream("127.0.0.1:0", |_| {});
        let id = listening.unwrap();
        let listener = event_loop
            .reactor()
            .table
            .sources_mut()
            .listener_mut(id.0.index)
            .unwrap();
        listener.shut_down();
        // The kernel reports the listener, and accepting is invalid.
        while event_loop.reactor().stats().accept_pauses == 0 {
            event_loop.turn(None).unwrap();
        }
        event_loop.turn(Some(Duration::ZERO)).unwrap();
        assert_ne!(event_loop.next_wakeup(), Some(Duration::ZERO));
        assert_eq!(event_loop.reactor().stats().accept_pauses, 1);
    }

    /// How many messages are delivered in each turn. Two clients have sent twelve messages each,
    /// each message takes a millisecond, and the last flush took as long as `flush`.
    fn turns(flush: Duration) -> Vec<usize> {
        let mut sim = Sim::new(0, |_: &mut Reactor<usize>| ());
        let clock = sim.clock();
        let listening = sim.reactor().websocket("0.0.0.0:80", move |ws| {
            ws.on_message(move |ws, _| {
                *ws.state += 1;
                clock.advance(Duration::from_millis(1));
            });
        });
        listening.unwrap();
        let clients = [(); 2].map(|()| sim.websocket("/"));
        let mut twelve = Vec::new();
        for _ in 0..12 {
            encode_message(Some([0; 4]), Message::Text("x"), &mut twelve);
        }
        for client in &clients {
            client.send_bytes(&twelve);
        }
        sim.reactor().budget.note_flush(nanos(flush));
        let mut turns = Vec::new();
        while *sim.state() < 24 {
            let before = *sim.state();
            sim.turn();
            turns.push(*sim.state() - before);
        }
        turns
    }

    #[test]
    fn a_connection_has_five_milliseconds_a_turn_or_a_share_of_the_last_flush() {
        // The clock is read after each message: the sixth is the first beyond the limit.
        assert_eq!(turns(Duration::ZERO), [12, 12]);
        assert_eq!(turns(Duration::from_millis(9)), [12, 12]);
        assert_eq!(turns(Duration::from_millis(15)), [8 + 8, 4 + 4]);
        assert_eq!(turns(Duration::from_millis(30)), [24]);
    }

    #[test]
    fn a_message_longer_than_the_budget_is_the_last_of_its_turn() {
        let mut sim = Sim::new(Vec::new(), |_: &mut Reactor<Vec<u32>>| ());
        let clock = sim.clock();
        let listening = sim.reactor().websocket("0.0.0.0:80", move |ws| {
            ws.on_message(move |ws, message| {
                let millis = message.as_text().unwrap().parse().unwrap();
                ws.state.push(millis);
                clock.advance(Duration::from_millis(u64::from(millis)));
            });
        });
        listening.unwrap();
        let client = sim.websocket("/");
        let send = |millis: u32, count: usize| {
            let mut messages = Vec::new();
            for _ in 0..count {
                let text = millis.to_string();
                encode_message(Some([0; 4]), Message::Text(&text), &mut messages);
            }
            client.send_bytes(&messages);
        };
        let turn = |sim: &mut Sim<Vec<u32>>| {
            sim.turn();
            std::mem::take(sim.state()).len()
        };
        // The handshake was cheap, so the clock is read after two messages at first.
        send(10, 4);
        assert_eq!([(); 3].map(|()| turn(&mut sim)), [2, 1, 1]);
        // Cheap messages put the next reading of the clock off, and the first costly one that is
        // noticed ends that.
        send(0, 100);
        assert_eq!(turn(&mut sim), 100);
        send(10, 40);
        assert_eq!(turn(&mut sim), usize::from(PACE_MAX));
        assert_eq!([(); 8].map(|()| turn(&mut sim)), [1; 8]);
    }

    #[test]
    fn a_closing_connection_keeps_the_limit_of_a_turn() {
        let mut sim = Sim::new(0, |_: &mut Reactor<usize>| ());
        let clock = sim.clock();
        let listening = sim.reactor().websocket("0.0.0.0:80", move |ws| {
            ws.on_open(|ws, _| ws.close());
            ws.on_pong(move |ws, _| {
                *ws.state += 1;
                clock.advance(Duration::from_millis(1));
            });
        });
        listening.unwrap();
        let client = sim.websocket("/");
        client.send_bytes([0x8a, 0x80, 0, 0, 0, 0].repeat(12));
        sim.turn();
        assert_eq!(*sim.state(), 6);
        sim.turn();
        assert_eq!(*sim.state(), 12);
    }

    #[test]
    fn members_that_refuse_a_publication_count_towards_the_limit_of_a_turn() {
        let mut sim = Sim::new(0, |_: &mut Reactor<usize>| ());
        let clock = sim.clock();
        let listening = sim.reactor().websocket("0.0.0.0:80", move |ws| {
            ws.options().queue_low_bytes = 0;
            ws.options().queue_high_bytes = 1;
            ws.options().overflow = Overflow::DropNewest;
            ws.on_open(|ws, _| ws.subscribe("news"));
            ws.on_message(move |ws, _| {
                *ws.state += 1;
                clock.advance(Duration::from_millis(1));
                ws.reactor.publish("news", "x")
            });
        });
        listening.unwrap();
        // Enough of the answer to the handshake, and nothing behind it.
        sim.socket_bytes(200);
        let members: Vec<_> = (0..8 * u32::from(PACE_MAX))
            .map(|_| sim.websocket("/"))
            .collect();
        for _ in 0..4 {
            sim.reactor().publish("news", &"x".repeat(100)[..]);
            sim.settle();
        }
        sim.socket_bytes(1024 * 1024);
        let publisher = sim.websocket("/");
        let mut twelve = Vec::new();
        for _ in 0..12 {
            encode_message(Some([0; 4]), Message::Text("x"), &mut twelve);
        }
        publisher.send_bytes(&twelve);
        sim.turn();
        assert_eq!(*sim.state(), 6);
        assert!(members.iter().all(|member| !member.is_closed()));
    }
}
