//! A WebSocket after its handshake: messages to callbacks, pings, close.
//!
//! The server and the client role share this. They differ only in how a connection becomes a WebSocket, and
//! each has one [`WebSocketCallbacks`] for all connections of a route or a client. The parser's state, a
//! [`Machine`], is the connection's own.
//!
//! Input takes one of two ways:
//!
//! * [`receive_fast`](WebSocketCallbacks::receive_fast), for short whole messages. Its conditions stand in
//!   `reactor::connection::fast_path`. It parses without the machine and without a look-up of the connection.
//! * [`receive`](WebSocketCallbacks::receive), for everything: fragments, long messages, control frames, and
//!   whatever the fast path leaves over.
//!
//! Deadlines: an open WebSocket waits for [`Deadline::Heartbeat`], with intervals that differ from connection
//! to connection by up to a quarter, so that clients that came together are not pinged together. Each whole
//! message or control frame of the peer puts it off. When it passes, a ping is sent and [`Deadline::Pong`]
//! takes its place. If no whole frame follows the ping in time, the peer is dead, and the connection is
//! aborted. Source: RFC 6455, section 5.5.2.

use std::borrow::Cow;
use std::time::Duration;

use crate::protocol::websocket::{self, Closing, Event, Machine, Message, Role};
use crate::reactor::close::{Close, CloseCause, Deadline, Sent};
use crate::reactor::config::ConnectionOptions;
#[cfg(feature = "deflate")]
use crate::reactor::config::Overflow;
use crate::reactor::connection::Life;
use crate::reactor::connection::deadline::{Heartbeat, deadline_nanos};
use crate::reactor::connection::ready::FastMessages;
use crate::reactor::id::ConnId;
use crate::reactor::outcome::Outcome;
use crate::reactor::protocol::Protocol;
use crate::reactor::reactor::Reactor;
use crate::reactor::reactor::{Cx, Received};

use super::handler::{Closures, Each, Handshake, WebSocketHandler, Ws};

impl<S: 'static> Reactor<S> {
    /// Sends a ping of at most 125 bytes; longer payloads are cut. Source: RFC 6455, section 5.5.2.
    pub fn send_ping(&mut self, id: ConnId, payload: &[u8]) -> Sent {
        let Some(Protocol::WebSocket(machine)) = self.protocol_mut(id) else {
            return Sent::Gone;
        };
        let mut out = Vec::new();
        let payload = &payload[..payload.len().min(websocket::CONTROL_BYTES_MAX)];
        if websocket::encode_ping(machine.mask(), payload, &mut out).is_err() {
            return Sent::Gone;
        }
        // Admitted as a message is: an application that pings in a loop would fill the memory otherwise.
        self.send_frame(id, &out)
    }

    /// Sends the ping of the heartbeat. It is queued even above the high watermark, because its pong tells a
    /// slow peer from a dead one.
    fn send_heartbeat(&mut self, id: ConnId) {
        let Some(Protocol::WebSocket(machine)) = self.protocol_mut(id) else {
            return;
        };
        let mut out = Vec::new();
        // The only error is a payload that is too long, and this one is empty.
        let _ = websocket::encode_ping(machine.mask(), b"", &mut out);
        self.queue_reply(id, &out);
    }
}

/// While a message arrives, each 16 KiB of it extend the deadline by one second. So a large message over a slow
/// line is not cut off, and a peer that sends a byte now and then does not keep the connection.
const BYTES_PER_SECOND_MIN: usize = 16 * 1024;

/// The callbacks of the WebSockets of one route, or of one client, and their options.
pub struct WebSocketCallbacks<S> {
    pub(crate) options: ConnectionOptions,
    /// `options.ping_interval` in the unit of the deadlines, computed once because the fast path needs it for
    /// each event.
    ping_interval_nanos: Option<u64>,
    /// The longest message of the fast path, computed once from `options.websocket`.
    short_bytes_max: usize,
    /// Whether `options` limits the messages of a second.
    is_limited: bool,
    /// The closures that the setup has given so far.
    closures: Closures<S>,
    /// The object that is called: the user's own, or the closures, which `seal` moves here. One field for both
    /// saves the question which of them it is.
    handler: Box<dyn WebSocketHandler<S>>,
    has_own_handler: bool,
}

impl<S: 'static> WebSocketCallbacks<S> {
    pub(crate) fn new(options: ConnectionOptions) -> Self {
        WebSocketCallbacks {
            options,
            ping_interval_nanos: None,
            short_bytes_max: 0,
            is_limited: false,
            closures: Closures::default(),
            handler: Box::new(Closures::default()),
            has_own_handler: false,
        }
    }

    #[inline]
    fn handler_mut(&mut self) -> &mut dyn WebSocketHandler<S> {
        self.handler.as_mut()
    }

    /// Limits, watermarks, policy and deadlines; they start as the reactor's.
    pub fn options(&mut self) -> &mut ConnectionOptions {
        &mut self.options
    }

    /// Called when the handshake is done.
    pub fn on_open<R: Outcome>(
        &mut self,
        mut call: impl FnMut(&mut Ws<'_, S>, &Handshake<'_>) -> R + 'static,
    ) {
        self.closures.on_open = Some(Box::new(move |ws, handshake| {
            let outcome = call(ws, handshake);
            ws.reactor.end_if_error(ws.id, outcome);
        }));
    }

    /// Called with each whole message.
    pub fn on_message<R: Outcome>(
        &mut self,
        mut call: impl FnMut(&mut Ws<'_, S>, Message<'_>) -> R + 'static,
    ) {
        self.closures.on_message = Some(Box::new(move |ws, message| {
            let outcome = call(ws, message);
            ws.reactor.end_if_error(ws.id, outcome);
        }));
    }

    /// Called with each ping, which has been answered already.
    pub fn on_ping<R: Outcome>(
        &mut self,
        mut call: impl FnMut(&mut Ws<'_, S>, &[u8]) -> R + 'static,
    ) {
        self.closures.on_ping = Some(Box::new(move |ws, payload| {
            let outcome = call(ws, payload);
            ws.reactor.end_if_error(ws.id, outcome);
        }));
    }

    /// Called with each pong.
    pub fn on_pong<R: Outcome>(
        &mut self,
        mut call: impl FnMut(&mut Ws<'_, S>, &[u8]) -> R + 'static,
    ) {
        self.closures.on_pong = Some(Box::new(move |ws, payload| {
            let outcome = call(ws, payload);
            ws.reactor.end_if_error(ws.id, outcome);
        }));
    }

    /// Called when the queue falls below the low watermark, if it was above the high one, or if the application
    /// paused reading while the queue was above the low one.
    pub fn on_drain<R: Outcome>(&mut self, mut call: impl FnMut(&mut Ws<'_, S>) -> R + 'static) {
        self.closures.on_drain = Some(Box::new(move |ws| {
            let outcome = call(ws);
            ws.reactor.end_if_error(ws.id, outcome);
        }));
    }

    /// Called when the peer broke the protocol, a deadline passed or the transport failed; `on_close`
    /// follows.
    pub fn on_error<R: Outcome>(
        &mut self,
        mut call: impl FnMut(&mut Ws<'_, S>, &CloseCause) -> R + 'static,
    ) {
        self.closures.on_error = Some(Box::new(move |ws, cause| {
            let outcome = call(ws, cause);
            ws.reactor.end_if_error(ws.id, outcome);
        }));
    }

    /// Called when the connection has ended: once, and last.
    pub fn on_close<R: Outcome>(
        &mut self,
        mut call: impl FnMut(&mut Ws<'_, S>, &Close) -> R + 'static,
    ) {
        self.closures.on_close = Some(Box::new(move |ws, close| {
            let outcome = call(ws, close);
            ws.reactor.end_if_error(ws.id, outcome);
        }));
    }

    /// Gives all callbacks to one object, instead of closures. Closures that were given are not called then.
    pub fn handler(&mut self, handler: impl WebSocketHandler<S>) {
        self.handler = Box::new(handler);
        self.has_own_handler = true;
    }

    /// Gives each connection an object of its own, which `make` returns when the handshake is done, before its
    /// `on_open`. The object is dropped after its `on_close`. Closures that were given are not called then.
    ///
    /// ```
    /// # use waterwheel::{Handshake, Message, Reactor, Sim, WebSocketHandler, Ws};
    /// struct Counter {
    ///     count: u32,
    /// }
    ///
    /// impl WebSocketHandler<()> for Counter {
    ///     fn on_message(&mut self, ws: &mut Ws<'_, ()>, message: Message<'_>) {
    ///         self.count += 1;
    ///         ws.send(format!("{}: {message}", self.count));
    ///     }
    /// }
    ///
    /// let mut sim = Sim::new((), |reactor: &mut Reactor<()>| {
    ///     reactor.websocket("0.0.0.0:80", |ws| ws.each(|_: &Handshake| Counter { count: 0 }))
    /// });
    /// let (ada, bob) = (sim.websocket("/"), sim.websocket("/"));
    /// ada.send("a");
    /// ada.send("b");
    /// bob.send("c");
    /// sim.settle();
    /// assert_eq!(ada.received(), ["1: a", "2: b"]);
    /// assert_eq!(bob.received(), ["1: c"]);
    /// ```
    pub fn each<H: WebSocketHandler<S>>(
        &mut self,
        make: impl FnMut(&Handshake<'_>) -> H + 'static,
    ) {
        self.handler(Each::new(make));
    }

    /// Ends the setup: chooses the object that is called, and computes the values that each event needs of the
    /// options.
    pub(crate) fn seal(&mut self) {
        if !self.has_own_handler {
            self.handler = Box::new(std::mem::take(&mut self.closures));
        }
        self.is_limited = self.options.messages_per_second_max.is_some();
        self.short_bytes_max = self.options.websocket.short_bytes_max();
        self.ping_interval_nanos = self.options.ping_interval.map(deadline_nanos);
    }

    // ── for the roles ───────────────────────────────────────────────────────────────────

    /// Makes a WebSocket of a connection whose handshake is done, and calls `on_open`. From here on its bytes
    /// are frames.
    pub(crate) fn open(
        &mut self,
        cx: &mut Cx<'_, S>,
        id: ConnId,
        machine: Machine,
        options: u16,
        handshake: &Handshake<'_>,
    ) {
        let protocol = Protocol::WebSocket(machine);
        cx.reactor.set_protocol(id, protocol, Some(options));
        // Before the callback: `on_close` must follow also if `on_open` panics or closes.
        cx.reactor.mark_opened(id);
        self.restart_ping(cx.reactor, id);
        cx.reactor.note_callback("on_open");
        self.handler_mut().on_open(
            &mut Ws {
                state: cx.state,
                reactor: cx.reactor,
                id,
            },
            handshake,
        );
    }

    /// Whether every message that is sent reaches the peer, as long as the connection does not end.
    #[cfg(feature = "deflate")]
    pub(crate) fn drops_no_message(&self) -> bool {
        self.options.overflow == Overflow::Close
    }

    /// Puts the next ping off to one interval from now. The peer has just shown that it is alive.
    #[inline]
    fn restart_ping(&self, reactor: &mut Reactor<S>, id: ConnId) {
        match self.ping_interval_nanos {
            Some(nanos) => {
                let interval = Duration::from_nanos(id.spread(nanos));
                reactor.set_deadline(id, Deadline::Heartbeat, interval);
            }
            None => reactor.clear_deadline(id),
        }
    }

    /// Delivers the messages in `input`; returns how many bytes were consumed.
    pub(crate) fn receive(&mut self, cx: &mut Cx<'_, S>, id: ConnId, input: &mut [u8]) -> usize {
        cx.reactor.note_callback("on_message");
        self.receive_general(cx, id, input, false)
    }

    /// Delivers the messages in `input`, which is not empty: by the fast path as long as it holds, then by the
    /// general way.
    ///
    /// The heartbeat is returned and not set here, so that the caller sets it with the look-up of the
    /// connection that it needs anyway.
    #[inline(always)]
    pub(crate) fn receive_fast(
        &mut self,
        cx: &mut Cx<'_, S>,
        messages: FastMessages,
        input: &mut [u8],
    ) -> Received {
        let id = messages.id;
        let length = input.len();
        let mut rest = input;
        cx.reactor.note_callback("on_message");
        // Each arm is compiled with its role as a constant, which takes the question about the mask out of the
        // loop over the messages.
        let count = match messages.role {
            Role::Server => self.receive_short_messages(cx, id, Role::Server, &mut rest),
            Role::Client => self.receive_short_messages(cx, id, Role::Client, &mut rest),
        };
        // Counted once for all of them: a counter in the loop would be a store for each message.
        cx.reactor.stats_mut().messages += count;
        // The fast path has ended, or the rest is no short message. A message that was delivered is a sign of
        // life, so an incomplete one behind it does not matter for the deadline.
        if !rest.is_empty() {
            let consumed = length - rest.len();
            return Received {
                consumed_bytes: consumed + self.receive_general(cx, id, rest, count != 0),
                heartbeat: Heartbeat::Unchanged,
            };
        }
        Received {
            consumed_bytes: length,
            heartbeat: match self.ping_interval_nanos {
                Some(nanos) => Heartbeat::In(id.spread(nanos)),
                None => Heartbeat::Off,
            },
        }
    }

    /// Delivers short messages, one after the other, as long as the fast path holds; returns how many
    /// there were.
    #[inline(always)]
    fn receive_short_messages(
        &mut self,
        cx: &mut Cx<'_, S>,
        id: ConnId,
        role: Role,
        rest: &mut &mut [u8],
    ) -> u64 {
        let mut count = 0;
        while let Some(message) = websocket::next_short_message(role, rest, self.short_bytes_max) {
            match message {
                Ok(message) => self.deliver_message(cx, id, message),
                // The connection ends, so the bytes behind the error are dropped.
                Err(error) => {
                    cx.reactor.fail(id, CloseCause::Protocol(error));
                    *rest = &mut [];
                    break;
                }
            }
            count += 1;
            cx.reactor.charge_message(id);
            // The callback may have closed, paused or filled the queue of this connection, and the budget may be
            // used up. Each of these leaves the fast path, so this is the one question to ask.
            if cx.reactor.fast_path().is_none() {
                break;
            }
        }
        count
    }

    /// As [`receive`](Self::receive). `has_event` says whether the fast path has already delivered something
    /// of the same input, which is a sign of life.
    // Not inlined: `receive_fast` is, and its loop stays small without this one.
    #[inline(never)]
    fn receive_general(
        &mut self,
        cx: &mut Cx<'_, S>,
        id: ConnId,
        input: &mut [u8],
        mut has_event: bool,
    ) -> usize {
        let length = input.len();
        let mut rest = input;
        while !rest.is_empty() && !cx.reactor.is_stopped() {
            // Looked up again for each event: the callback before may have closed or aborted this very
            // connection.
            let Some(parser) = cx.reactor.websocket_parser(id) else {
                return length;
            };
            let life = parser.life;
            match life {
                Life::Handshaking => break,
                // The rest stays in the connection and is presented again when reading resumes.
                Life::Open | Life::Closing if !parser.may_read => break,
                // After our close, frames are parsed until the peer's close. Source: RFC 6455, section 7.1.1.
                Life::Open | Life::Closing => {}
                // The end is decided, so further input is dropped.
                Life::Finishing | Life::Done | Life::Lingering => return length,
            }
            let (machine, limits) = (parser.machine, &self.options.websocket);
            let received_before = machine.received_bytes();
            let outcome = machine.next_event_with(&mut rest, limits, parser.spare);
            let received_bytes = machine.received_bytes();
            #[cfg(feature = "deflate")]
            let is_deflated = machine.is_deflated();
            let event = match outcome {
                Ok(Some(event)) => event,
                Ok(None) if has_event => break,
                Ok(None) => {
                    // Part of a message is no sign of life by itself, or one byte a second would keep a
                    // connection for ever. Its bytes put the deadline off by the seconds they have earned, as
                    // those of an HTTP body do.
                    // Frame headers do not count: a message may consist of empty frames without end.
                    let seconds = received_bytes / BYTES_PER_SECOND_MIN
                        - received_before / BYTES_PER_SECOND_MIN;
                    cx.reactor.extend_deadline(id, seconds as u32);
                    return length - rest.len();
                }
                Err(error) => {
                    cx.reactor.fail(id, CloseCause::Protocol(error));
                    return length;
                }
            };
            has_event = true;
            match event {
                Event::Text(text) => {
                    self.receive_message(cx, id, life, Message::Text(&text));
                    // An owned text was put together from several reads. Its buffer serves the next one.
                    if let Cow::Owned(text) = text {
                        cx.reactor.spare_mut().give(text.into_bytes());
                    }
                }
                Event::Binary(bytes) => {
                    self.receive_message(cx, id, life, Message::Binary(&bytes));
                    if let Cow::Owned(bytes) = bytes {
                        cx.reactor.spare_mut().give(bytes);
                    }
                }
                Event::Ping(payload) => {
                    if self.is_limited && cx.reactor.has_too_many_controls(id) {
                        return length;
                    }
                    self.receive_ping(cx, id, life, payload);
                }
                Event::Pong(payload) => {
                    if self.is_limited && cx.reactor.has_too_many_controls(id) {
                        return length;
                    }
                    self.handler_mut().on_pong(
                        &mut Ws {
                            state: cx.state,
                            reactor: cx.reactor,
                            id,
                        },
                        payload,
                    );
                }
                Event::Close(code, reason) => {
                    // The peer's close is answered, unless it is the answer to ours: any other state than `Open`
                    // means that our close went out before. Source: RFC 6455, section 5.5.1.
                    let was_sent = life != Life::Open;
                    let mut reply = Vec::with_capacity(8);
                    let code = code.map(u16::from);
                    let closing = machine.encode_close_reply(code, was_sent, &mut reply);
                    let close = close_of(closing, reason);
                    cx.reactor.finish_with(id, &reply, close, closing.lingers);
                    return length;
                }
            }
            #[cfg(feature = "deflate")]
            if is_deflated {
                cx.reactor.stats_mut().count_deflate();
            }
            cx.reactor.charge_message(id);
        }
        if has_event {
            self.restart_ping(cx.reactor, id);
        }
        length - rest.len()
    }

    #[inline]
    fn receive_message(
        &mut self,
        cx: &mut Cx<'_, S>,
        id: ConnId,
        life: Life,
        message: Message<'_>,
    ) {
        cx.reactor.stats_mut().messages += 1;
        if self.is_limited {
            cx.reactor.count_message(id);
        }
        // After our close the application has ended its part, so a message of the peer that crossed the close
        // on its way is counted and dropped. Source: RFC 6455, section 5.5.1.
        if life == Life::Open {
            self.deliver_message(cx, id, message);
        }
    }

    #[inline]
    fn deliver_message(&mut self, cx: &mut Cx<'_, S>, id: ConnId, message: Message<'_>) {
        self.handler_mut().on_message(
            &mut Ws {
                state: cx.state,
                reactor: cx.reactor,
                id,
            },
            message,
        );
    }

    fn receive_ping(&mut self, cx: &mut Cx<'_, S>, id: ConnId, life: Life, payload: &[u8]) {
        // No frame may follow our close, a pong neither. Source: RFC 6455, section 5.5.1.
        if life == Life::Open {
            // Two bytes of header and four of mask.
            let mut out = Vec::with_capacity(payload.len() + 6);
            if let Some(Protocol::WebSocket(machine)) = cx.reactor.protocol(id) {
                machine.encode_pong(payload, &mut out);
            }
            cx.reactor.queue_reply(id, &out);
        }
        self.handler_mut().on_ping(
            &mut Ws {
                state: cx.state,
                reactor: cx.reactor,
                id,
            },
            payload,
        );
    }

    pub(crate) fn below_low_mark(&mut self, cx: &mut Cx<'_, S>, id: ConnId) {
        self.handler_mut().on_drain(&mut Ws {
            state: cx.state,
            reactor: cx.reactor,
            id,
        });
    }

    pub(crate) fn due(&mut self, cx: &mut Cx<'_, S>, id: ConnId, deadline: Deadline) {
        // While reading pauses, for the application or above the high watermark, the pong may be in the kernel
        // unread. So a missing pong says nothing then, and another ping is sent. If the peer is dead, the
        // write deadline passes in the end.
        if deadline == Deadline::Heartbeat || !cx.reactor.may_read(id) {
            cx.reactor.send_heartbeat(id);
            cx.reactor
                .set_deadline(id, Deadline::Pong, self.options.pong_timeout);
        } else {
            // No close frame: a peer that did not answer a ping will not answer a close either, and waiting for
            // it would keep the connection for one more timeout.
            cx.reactor.abort(id, CloseCause::TimedOut(deadline));
        }
    }

    pub(crate) fn failed(&mut self, cx: &mut Cx<'_, S>, id: ConnId, cause: &CloseCause) {
        let mut ws = Ws {
            state: cx.state,
            reactor: cx.reactor,
            id,
        };
        self.handler_mut().on_error(&mut ws, cause);
    }

    pub(crate) fn closed(&mut self, cx: &mut Cx<'_, S>, id: ConnId, close: &Close) {
        let mut ws = Ws {
            state: cx.state,
            reactor: cx.reactor,
            id,
        };
        self.handler_mut().on_close(&mut ws, close);
    }
}

/// Finishes a WebSocket whose peer has ended the stream without a close frame: code 1006, not clean.
///
/// Source: RFC 6455, section 7.1.5.
pub(crate) fn finish_without_close<S: 'static>(reactor: &mut Reactor<S>, id: ConnId) {
    let closing = Closing::without_close();
    reactor.finish(id, close_of(closing, ""), closing.lingers);
}

/// The end of a WebSocket as `on_close` gets it, when the peer has ended it.
fn close_of(closing: Closing, reason: &str) -> Close {
    Close {
        code: closing.code,
        reason: reason.into(),
        was_clean: closing.was_clean,
        ..Close::new(CloseCause::Peer)
    }
}
