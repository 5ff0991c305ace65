//! A WebSocket after its handshake, whichever side began it: callbacks, pings, close.
//!
//! Shared by the server and the client role, which differ only in how a connection becomes one.

use std::borrow::Cow;

use crate::protocol::http::{Headers, form};
use crate::protocol::websocket::{self, Closing, Event, Machine, Message, Role, ToMessage};
use crate::pubsub::{self, TopicError};

use crate::reactor::close::{Close, CloseCause, Deadline, Sent};
use crate::reactor::config::ConnectionOptions;
use crate::reactor::connection::Life;
use crate::reactor::connection::table::{FastMessages, Heartbeat, deadline_nanos};
use crate::reactor::id::ConnId;
use crate::reactor::protocol::Protocol;
use crate::reactor::reactor::Reactor;
use crate::reactor::reactor::{Cx, Received};
use crate::reactor::topics::Published;
use crate::reactor::transport::Peer;

/// What the callbacks of a WebSocket get.
///
/// The fields are disjoint, so that looping over your state while sending compiles.
pub struct Ws<'a, S> {
    /// Your state.
    pub state: &'a mut S,
    /// Everything a callback may ask for.
    pub reactor: &'a mut Reactor<S>,
    /// The connection that this is about.
    pub id: ConnId,
}

impl<S: 'static> Ws<'_, S> {
    /// Sends a message to this peer.
    #[inline]
    pub fn send(&mut self, message: impl ToMessage) -> Sent {
        self.reactor.send(self.id, message)
    }

    /// Closes with code 1000, after what is queued.
    pub fn close(&mut self) -> Sent {
        self.reactor.close(self.id)
    }

    /// Closes with a code and a reason, after what is queued; see [`Reactor::close_with`].
    pub fn close_with(&mut self, code: u16, reason: &str) -> Sent {
        self.reactor.close_with(self.id, code, reason)
    }

    /// Sends a ping of at most 125 bytes; longer payloads are cut. The loop pings by itself too.
    pub fn ping(&mut self, payload: &[u8]) -> Sent {
        self.reactor.send_ping(self.id, payload)
    }

    /// Makes this connection a member of a topic.
    ///
    /// # Errors
    ///
    /// As [`Reactor::subscribe`].
    pub fn subscribe(&mut self, topic: &str) -> Result<bool, TopicError> {
        self.reactor.subscribe(self.id, topic)
    }

    /// Ends its membership in a topic.
    pub fn unsubscribe(&mut self, topic: &str) -> bool {
        self.reactor.unsubscribe(self.id, topic)
    }

    /// Publishes to a topic, also to this connection where it is a member.
    pub fn publish<'e>(&mut self, topic: &str, event: impl Into<pubsub::Event<'e>>) -> Published {
        self.reactor.publish(topic, event)
    }

    /// Where the peer is. Asks the kernel.
    pub fn peer(&self) -> Peer {
        self.reactor.peer(self.id)
    }
}

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
        self.send_frame(id, &out)
    }

    /// Pings because it is time to: a heartbeat that finds the queue full is not sent.
    fn send_heartbeat(&mut self, id: ConnId) {
        let Some(Protocol::WebSocket(machine)) = self.protocol_mut(id) else {
            return;
        };
        let mut out = Vec::new();
        // An empty payload fits.
        let _ = websocket::encode_ping(machine.mask(), b"", &mut out);
        self.queue_reply(id, &out);
    }
}

/// A message that is coming earns a second for each so many bytes.
const BYTES_PER_SECOND_MIN: usize = 16 * 1024;

/// What was said when a connection became a WebSocket.
pub struct Handshake<'h> {
    pub(crate) path: &'h str,
    pub(crate) query: Option<&'h str>,
    pub(crate) headers: Headers<'h>,
    pub(crate) subprotocol: Option<&'h str>,
    /// Looks up a `:name` of the route's path.
    pub(crate) parameter: &'h dyn Fn(&str) -> Option<Cow<'h, str>>,
}

impl<'h> Handshake<'h> {
    /// The path that was asked for, as it came, without the query.
    pub fn path(&self) -> &'h str {
        self.path
    }

    /// A parameter of the query, decoded.
    pub fn query(&self, name: &str) -> Option<Cow<'h, str>> {
        form::value(self.query?, name)
    }

    /// A `:name` of the route's path, decoded. A client has none.
    pub fn param(&self, name: &str) -> Option<Cow<'h, str>> {
        (self.parameter)(name)
    }

    /// The peer's headers: the client's request, or the server's answer.
    pub fn headers(&self) -> Headers<'h> {
        self.headers
    }

    /// The first of the peer's headers with a name, whatever its case.
    pub fn header(&self, name: &str) -> Option<&'h str> {
        self.headers.first(name)
    }

    /// The origin of the page that opened it, where a browser did.
    pub fn origin(&self) -> Option<&'h str> {
        self.header("origin")
    }

    /// The subprotocol that was agreed on.
    pub fn subprotocol(&self) -> Option<&'h str> {
        self.subprotocol
    }
}

/// The same callbacks as [`WebSocketCallbacks`], as methods of a type with state of its own.
pub trait WebSocketHandler<S>: 'static {
    /// The handshake is done.
    fn on_open(&mut self, ws: &mut Ws<'_, S>, handshake: &Handshake<'_>) {
        let _ = (ws, handshake);
    }

    /// A whole message came.
    fn on_message(&mut self, ws: &mut Ws<'_, S>, message: Message<'_>) {
        let _ = (ws, message);
    }

    /// A ping came. It has been answered.
    fn on_ping(&mut self, ws: &mut Ws<'_, S>, payload: &[u8]) {
        let _ = (ws, payload);
    }

    /// A pong came.
    fn on_pong(&mut self, ws: &mut Ws<'_, S>, payload: &[u8]) {
        let _ = (ws, payload);
    }

    /// The queue fell below the low watermark after it had been above the high one.
    fn on_drain(&mut self, ws: &mut Ws<'_, S>) {
        let _ = ws;
    }

    /// The peer broke the protocol, a deadline passed or the transport failed; `on_close` follows.
    fn on_error(&mut self, ws: &mut Ws<'_, S>, cause: &CloseCause) {
        let _ = (ws, cause);
    }

    /// The connection has ended. Once, and last.
    fn on_close(&mut self, ws: &mut Ws<'_, S>, close: &Close) {
        let _ = (ws, close);
    }
}

type OnOpen<S> = Box<dyn FnMut(&mut Ws<'_, S>, &Handshake<'_>)>;
type OnMessage<S> = Box<dyn FnMut(&mut Ws<'_, S>, Message<'_>)>;
type OnPing<S> = Box<dyn FnMut(&mut Ws<'_, S>, &[u8])>;
type OnDrain<S> = Box<dyn FnMut(&mut Ws<'_, S>)>;
type OnError<S> = Box<dyn FnMut(&mut Ws<'_, S>, &CloseCause)>;
type OnClose<S> = Box<dyn FnMut(&mut Ws<'_, S>, &Close)>;

/// Callbacks as closures.
struct Closures<S> {
    on_open: Option<OnOpen<S>>,
    on_message: Option<OnMessage<S>>,
    on_ping: Option<OnPing<S>>,
    on_pong: Option<OnPing<S>>,
    on_drain: Option<OnDrain<S>>,
    on_error: Option<OnError<S>>,
    on_close: Option<OnClose<S>>,
}

impl<S> Default for Closures<S> {
    fn default() -> Self {
        Closures {
            on_open: None,
            on_message: None,
            on_ping: None,
            on_pong: None,
            on_drain: None,
            on_error: None,
            on_close: None,
        }
    }
}

impl<S: 'static> WebSocketHandler<S> for Closures<S> {
    fn on_open(&mut self, ws: &mut Ws<'_, S>, handshake: &Handshake<'_>) {
        if let Some(call) = &mut self.on_open {
            call(ws, handshake);
        }
    }

    #[inline]
    fn on_message(&mut self, ws: &mut Ws<'_, S>, message: Message<'_>) {
        if let Some(call) = &mut self.on_message {
            call(ws, message);
        }
    }

    fn on_ping(&mut self, ws: &mut Ws<'_, S>, payload: &[u8]) {
        if let Some(call) = &mut self.on_ping {
            call(ws, payload);
        }
    }

    fn on_pong(&mut self, ws: &mut Ws<'_, S>, payload: &[u8]) {
        if let Some(call) = &mut self.on_pong {
            call(ws, payload);
        }
    }

    fn on_drain(&mut self, ws: &mut Ws<'_, S>) {
        if let Some(call) = &mut self.on_drain {
            call(ws);
        }
    }

    fn on_error(&mut self, ws: &mut Ws<'_, S>, cause: &CloseCause) {
        if let Some(call) = &mut self.on_error {
            call(ws, cause);
        }
    }

    fn on_close(&mut self, ws: &mut Ws<'_, S>, close: &Close) {
        if let Some(call) = &mut self.on_close {
            call(ws, close);
        }
    }
}

/// The callbacks of the WebSockets of one route, or of one client, and their options.
pub struct WebSocketCallbacks<S> {
    pub(crate) options: ConnectionOptions,
    /// The interval of pings, as the deadlines count it.
    ping_interval_nanos: Option<u64>,
    /// The longest message that the fast path takes, in bytes.
    short_bytes_max: usize,
    closures: Closures<S>,
    /// The object that is called: the closures, or the application's own. Set by `seal`.
    receiver: Box<dyn WebSocketHandler<S>>,
    has_object: bool,
}

impl<S: 'static> WebSocketCallbacks<S> {
    pub(crate) fn new(options: ConnectionOptions) -> Self {
        WebSocketCallbacks {
            options,
            ping_interval_nanos: None,
            short_bytes_max: 0,
            closures: Closures::default(),
            receiver: Box::new(Closures::default()),
            has_object: false,
        }
    }

    #[inline]
    fn receiver(&mut self) -> &mut dyn WebSocketHandler<S> {
        self.receiver.as_mut()
    }

    /// Limits, watermarks, policy and deadlines; they start as the reactor's.
    pub fn options(&mut self) -> &mut ConnectionOptions {
        &mut self.options
    }

    /// The handshake is done.
    pub fn on_open<R>(
        &mut self,
        mut call: impl FnMut(&mut Ws<'_, S>, &Handshake<'_>) -> R + 'static,
    ) {
        self.closures.on_open = Some(Box::new(move |ws, handshake| {
            call(ws, handshake);
        }));
    }

    /// A whole message came.
    pub fn on_message<R>(
        &mut self,
        mut call: impl FnMut(&mut Ws<'_, S>, Message<'_>) -> R + 'static,
    ) {
        self.closures.on_message = Some(Box::new(move |ws, message| {
            call(ws, message);
        }));
    }

    /// A ping came. It has been answered.
    pub fn on_ping<R>(&mut self, mut call: impl FnMut(&mut Ws<'_, S>, &[u8]) -> R + 'static) {
        self.closures.on_ping = Some(Box::new(move |ws, payload| {
            call(ws, payload);
        }));
    }

    /// A pong came.
    pub fn on_pong<R>(&mut self, mut call: impl FnMut(&mut Ws<'_, S>, &[u8]) -> R + 'static) {
        self.closures.on_pong = Some(Box::new(move |ws, payload| {
            call(ws, payload);
        }));
    }

    /// The queue fell below the low watermark after it had been above the high one.
    pub fn on_drain<R>(&mut self, mut call: impl FnMut(&mut Ws<'_, S>) -> R + 'static) {
        self.closures.on_drain = Some(Box::new(move |ws| {
            call(ws);
        }));
    }

    /// The peer broke the protocol, a deadline passed or the transport failed; `on_close` follows.
    pub fn on_error<R>(
        &mut self,
        mut call: impl FnMut(&mut Ws<'_, S>, &CloseCause) -> R + 'static,
    ) {
        self.closures.on_error = Some(Box::new(move |ws, cause| {
            call(ws, cause);
        }));
    }

    /// The connection has ended. Once, and last.
    pub fn on_close<R>(&mut self, mut call: impl FnMut(&mut Ws<'_, S>, &Close) -> R + 'static) {
        self.closures.on_close = Some(Box::new(move |ws, close| {
            call(ws, close);
        }));
    }

    /// Gives all callbacks to one object, instead of closures.
    pub fn handler(&mut self, handler: impl WebSocketHandler<S>) {
        self.receiver = Box::new(handler);
        self.has_object = true;
    }

    /// Nothing more will be set; what a message needs of the options is made ready.
    pub(crate) fn seal(&mut self) {
        if !self.has_object {
            self.receiver = Box::new(std::mem::take(&mut self.closures));
        }
        self.short_bytes_max = self.options.websocket.short_bytes_max();
        self.ping_interval_nanos = self.options.ping_interval.map(deadline_nanos);
    }

    // ── what the roles ask ───────────────────────────────────────────────────────────────────

    /// The handshake is done: from here on the bytes are frames.
    pub(crate) fn open(
        &mut self,
        cx: &mut Cx<'_, S>,
        id: ConnId,
        role: Role,
        options: u16,
        handshake: &Handshake<'_>,
    ) {
        let protocol = Protocol::WebSocket(Machine::new(role));
        cx.reactor.set_protocol(id, protocol, Some(options));
        cx.reactor.mark_opened(id);
        self.restart_ping(cx.reactor, id);
        cx.reactor.note_callback("on_open");
        self.receiver().on_open(
            &mut Ws {
                state: cx.state,
                reactor: cx.reactor,
                id,
            },
            handshake,
        );
    }

    /// Something came, or the handshake is done: the next ping is an interval away.
    #[inline]
    fn restart_ping(&self, reactor: &mut Reactor<S>, id: ConnId) {
        match self.options.ping_interval {
            Some(interval) => reactor.set_deadline(id, Deadline::Heartbeat, interval),
            None => reactor.clear_deadline(id),
        }
    }

    /// Delivers what is in `input`; returns how much was consumed.
    pub(crate) fn receive(&mut self, cx: &mut Cx<'_, S>, id: ConnId, input: &mut [u8]) -> usize {
        cx.reactor.note_callback("on_message");
        self.receive_any(cx, id, input, false)
    }

    /// Delivers what is in `input`, of which there is some, by the fast path as long as it holds.
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
        // Twice the same, each with its role for a constant.
        let count = match messages.role {
            Role::Server => self.receive_short(cx, id, Role::Server, &mut rest),
            Role::Client => self.receive_short(cx, id, Role::Client, &mut rest),
        };
        cx.reactor.stats_mut().messages += count;
        if !rest.is_empty() {
            let consumed = length - rest.len();
            return Received {
                consumed_bytes: consumed + self.receive_any(cx, id, rest, count != 0),
                heartbeat: Heartbeat::Unchanged,
            };
        }
        Received {
            consumed_bytes: length,
            heartbeat: match self.ping_interval_nanos {
                Some(nanos) => Heartbeat::In(nanos),
                None => Heartbeat::Off,
            },
        }
    }

    /// Delivers short messages, one after the other, as long as the fast path holds; returns how many
    /// there were.
    #[inline(always)]
    fn receive_short(
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
                Err(error) => {
                    cx.reactor.fail(id, CloseCause::Protocol(error));
                    *rest = &mut [];
                    break;
                }
            }
            count += 1;
            cx.reactor.charge_message(id);
            if cx.reactor.fast_path().is_none() {
                break;
            }
        }
        count
    }

    /// As [`receive`](Self::receive), for messages of every kind. `heard` says whether the peer has
    /// given a sign of life already.
    #[inline(never)]
    fn receive_any(
        &mut self,
        cx: &mut Cx<'_, S>,
        id: ConnId,
        input: &mut [u8],
        mut heard: bool,
    ) -> usize {
        let length = input.len();
        let mut rest = input;
        while !rest.is_empty() && !cx.reactor.is_stopped() {
            let Some(life) = cx.reactor.life(id) else {
                return length;
            };
            match life {
                Life::Handshaking => break,
                Life::Open if !cx.reactor.may_read(id) => break,
                Life::Open | Life::Closing => {}
                Life::Finishing | Life::Done | Life::Lingering => return length,
            }
            let Some((machine, spare)) = cx.reactor.websocket_parser(id) else {
                break;
            };
            let outcome = machine.next_event_with(&mut rest, &self.options.websocket, spare);
            let received_bytes = machine.received_bytes();
            let event = match outcome {
                Ok(Some(event)) => event,
                Ok(None) if heard => break,
                Ok(None) => {
                    // A message that is coming is no sign of life by itself, or one byte a second
                    // would keep a connection for ever; what comes of it earns time as a body does.
                    let after = received_bytes;
                    let before = after.saturating_sub(length - rest.len());
                    let seconds = after / BYTES_PER_SECOND_MIN - before / BYTES_PER_SECOND_MIN;
                    cx.reactor.extend_deadline(id, seconds as u32);
                    return length - rest.len();
                }
                Err(error) => {
                    cx.reactor.fail(id, CloseCause::Protocol(error));
                    return length;
                }
            };
            heard = true;
            match event {
                Event::Text(text) => {
                    self.message(cx, id, life, Message::Text(&text));
                    if let Cow::Owned(text) = text {
                        cx.reactor.spare_mut().give(text.into_bytes());
                    }
                }
                Event::Binary(bytes) => {
                    self.message(cx, id, life, Message::Binary(&bytes));
                    if let Cow::Owned(bytes) = bytes {
                        cx.reactor.spare_mut().give(bytes);
                    }
                }
                Event::Ping(payload) => self.ping(cx, id, life, payload),
                Event::Pong(payload) => {
                    self.receiver().on_pong(
                        &mut Ws {
                            state: cx.state,
                            reactor: cx.reactor,
                            id,
                        },
                        payload,
                    );
                }
                Event::Close(code, reason) => {
                    close_received(cx.reactor, id, code.map(u16::from), reason);
                    return length;
                }
            }
            cx.reactor.charge_message(id);
        }
        if heard {
            self.restart_ping(cx.reactor, id);
        }
        length - rest.len()
    }

    #[inline]
    fn message(&mut self, cx: &mut Cx<'_, S>, id: ConnId, life: Life, message: Message<'_>) {
        cx.reactor.stats_mut().messages += 1;
        // What comes after our own goodbye is too late. Source: RFC 6455, section 5.5.1.
        if life == Life::Open {
            self.deliver_message(cx, id, message);
        }
    }

    #[inline]
    fn deliver_message(&mut self, cx: &mut Cx<'_, S>, id: ConnId, message: Message<'_>) {
        self.receiver().on_message(
            &mut Ws {
                state: cx.state,
                reactor: cx.reactor,
                id,
            },
            message,
        );
    }

    fn ping(&mut self, cx: &mut Cx<'_, S>, id: ConnId, life: Life, payload: &[u8]) {
        if life == Life::Open {
            let mut out = Vec::with_capacity(payload.len() + 6);
            if let Some(Protocol::WebSocket(machine)) = cx.reactor.protocol(id) {
                machine.encode_pong(payload, &mut out);
            }
            cx.reactor.queue_reply(id, &out);
        }
        self.receiver().on_ping(
            &mut Ws {
                state: cx.state,
                reactor: cx.reactor,
                id,
            },
            payload,
        );
    }

    pub(crate) fn below_low_mark(&mut self, cx: &mut Cx<'_, S>, id: ConnId) {
        self.receiver().on_drain(&mut Ws {
            state: cx.state,
            reactor: cx.reactor,
            id,
        });
    }

    pub(crate) fn due(&mut self, cx: &mut Cx<'_, S>, id: ConnId, deadline: Deadline) {
        // The pong of a peer that is not read, because the application paused it or because it is
        // above its high watermark, may be there all the same. Should it be dead, then the pings
        // fail in the end, or the write deadline passes.
        if deadline == Deadline::Heartbeat || !cx.reactor.may_read(id) {
            cx.reactor.send_heartbeat(id);
            cx.reactor
                .set_deadline(id, Deadline::Pong, self.options.pong_timeout);
        } else {
            // Who did not answer a ping will not answer a goodbye.
            cx.reactor.abort(id, CloseCause::TimedOut(deadline));
        }
    }

    pub(crate) fn failed(&mut self, cx: &mut Cx<'_, S>, id: ConnId, cause: &CloseCause) {
        let mut ws = Ws {
            state: cx.state,
            reactor: cx.reactor,
            id,
        };
        self.receiver().on_error(&mut ws, cause);
    }

    pub(crate) fn closed(&mut self, cx: &mut Cx<'_, S>, id: ConnId, close: &Close) {
        let mut ws = Ws {
            state: cx.state,
            reactor: cx.reactor,
            id,
        };
        self.receiver().on_close(&mut ws, close);
    }
}

/// The peer's close came: answers it, unless it is the answer to ours, and ends the stream.
pub(crate) fn close_received<S: 'static>(
    reactor: &mut Reactor<S>,
    id: ConnId,
    code: Option<u16>,
    reason: &str,
) {
    let was_sent = reactor.life(id) != Some(Life::Open);
    let Some(Protocol::WebSocket(machine)) = reactor.protocol(id) else {
        return;
    };
    let mut out = Vec::with_capacity(8);
    let closing = machine.encode_close_reply(code, was_sent, &mut out);
    if !out.is_empty() {
        reactor.queue_reply(id, &out);
    }
    let close = Close {
        code: closing.code,
        reason: reason.into(),
        was_clean: closing.was_clean,
        ..Close::new(CloseCause::Peer)
    };
    reactor.finish(id, close, closing.lingers);
}

/// The stream ended without a close frame.
pub(crate) fn peer_ended<S: 'static>(reactor: &mut Reactor<S>, id: ConnId) {
    let closing = Closing::without_close();
    let close = Close {
        code: closing.code,
        was_clean: closing.was_clean,
        ..Close::new(CloseCause::Peer)
    };
    reactor.finish(id, close, closing.lingers);
}
