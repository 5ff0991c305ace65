//! The handler of WebSockets: the methods that the user's type has, and the arguments that they get.
//!
//! Closures are a handler too, and so is one that keeps a further handler for each connection.

use std::borrow::Cow;

use crate::protocol::http::{Headers, form};
use crate::protocol::websocket::{Message, ToMessage};
use crate::pubsub::{self, TopicError};
use crate::reactor::close::{Close, CloseCause, Sent};
use crate::reactor::id::{ConnId, ConnMap};
use crate::reactor::published::Published;
use crate::reactor::reactor::Reactor;
use crate::reactor::transport::socket::Peer;

/// The argument of the callbacks of a WebSocket.
///
/// The fields are disjoint, so that looping over your state while sending compiles: `ws.reactor.send(ws.id, ..)`
/// borrows one field, where `ws.send(..)` borrows all of them and the compiler answers E0502.
#[non_exhaustive]
pub struct Ws<'a, S> {
    /// Your state.
    pub state: &'a mut S,
    /// The reactor: sending, publishing, timers, connecting.
    pub reactor: &'a mut Reactor<S>,
    /// The id of the connection that this callback was called for.
    pub id: ConnId,
}

impl<S: 'static> Ws<'_, S> {
    /// Sends a message to this peer.
    #[inline]
    pub fn send(&mut self, message: impl ToMessage) -> Sent {
        self.reactor.send(self.id, message)
    }

    /// As [`send`](Self::send), with a key for [`Overflow::LatestPerKey`](crate::Overflow::LatestPerKey); see
    /// [`Reactor::send_keyed`].
    pub fn send_keyed(&mut self, key: u64, message: impl ToMessage) -> Sent {
        self.reactor.send_keyed(self.id, key, message)
    }

    /// Bytes that wait for the socket; see [`Reactor::queued_bytes`].
    pub fn queued_bytes(&self) -> usize {
        self.reactor.queued_bytes(self.id)
    }

    /// Stops reading from this connection; see [`Reactor::pause`].
    pub fn pause(&mut self) {
        self.reactor.pause(self.id);
    }

    /// Reads from this connection again.
    pub fn resume(&mut self) {
        self.reactor.resume(self.id);
    }

    /// Ends this connection at once, without a goodbye; see [`Reactor::reset`].
    pub fn reset(&mut self) {
        self.reactor.reset(self.id);
    }

    /// Closes with code 1000, after what is queued.
    pub fn close(&mut self) -> Sent {
        self.reactor.close(self.id)
    }

    /// Closes with a code and a reason, after what is queued; see [`Reactor::close_with`].
    pub fn close_with(&mut self, code: u16, reason: &str) -> Sent {
        self.reactor.close_with(self.id, code, reason)
    }

    /// Sends a ping of at most 125 bytes; longer payloads are cut. The reactor pings by itself too, every
    /// `ping_interval`.
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

    /// Ends the membership of this connection in a topic. `false` when it was no member.
    pub fn unsubscribe(&mut self, topic: &str) -> bool {
        self.reactor.unsubscribe(self.id, topic)
    }

    /// Makes this connection a member of every topic that matches a glob pattern.
    ///
    /// # Errors
    ///
    /// As [`Reactor::subscribe`].
    pub fn subscribe_pattern(&mut self, pattern: &str) -> Result<bool, TopicError> {
        self.reactor.subscribe_pattern(self.id, pattern)
    }

    /// Ends the membership of this connection by a pattern. `false` when there was none.
    pub fn unsubscribe_pattern(&mut self, pattern: &str) -> bool {
        self.reactor.unsubscribe_pattern(self.id, pattern)
    }

    /// Publishes to a topic, also to this connection where it is a member.
    pub fn publish<'e>(&mut self, topic: &str, event: impl Into<pubsub::Event<'e>>) -> Published {
        self.reactor.publish(topic, event)
    }

    /// The address of the peer. Asks the kernel.
    pub fn peer(&self) -> Peer {
        self.reactor.peer(self.id)
    }
}

/// The request and the answer that made a WebSocket of a connection.
pub struct Handshake<'h> {
    pub(crate) path: &'h str,
    pub(crate) query: Option<&'h str>,
    pub(crate) headers: Headers<'h>,
    pub(crate) subprotocol: Option<&'h str>,
    /// Looks up a `:name` of the route's path.
    pub(crate) parameter: &'h dyn Fn(&str) -> Option<Cow<'h, str>>,
}

impl<'h> Handshake<'h> {
    /// The path of the request, still percent-encoded, without the query.
    pub fn path(&self) -> &'h str {
        self.path
    }

    /// The query as it came, without the question mark.
    pub fn query_string(&self) -> Option<&'h str> {
        self.query
    }

    /// A parameter of the query, decoded.
    pub fn query(&self, name: &str) -> Option<Cow<'h, str>> {
        form::value(self.query?, name)
    }

    /// A `:name` of the route's path, or `*`, decoded; see [`Request::param`](crate::Request::param). `None`
    /// on a client's side, which has no route.
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

    /// The origin of the page that opened the WebSocket. Only browsers send it.
    ///
    /// Source: RFC 6455, section 10.2.
    pub fn origin(&self) -> Option<&'h str> {
        self.header("origin")
    }

    /// The subprotocol that client and server agreed on.
    pub fn subprotocol(&self) -> Option<&'h str> {
        self.subprotocol
    }
}

/// The same callbacks as [`WebSocketCallbacks`](crate::WebSocketCallbacks), as methods of a type with state of its own.
pub trait WebSocketHandler<S>: 'static {
    /// Called when the handshake is done.
    fn on_open(&mut self, ws: &mut Ws<'_, S>, handshake: &Handshake<'_>) {
        let _ = (ws, handshake);
    }

    /// Called with each whole message.
    fn on_message(&mut self, ws: &mut Ws<'_, S>, message: Message<'_>) {
        let _ = (ws, message);
    }

    /// Called with each ping, which has been answered already.
    fn on_ping(&mut self, ws: &mut Ws<'_, S>, payload: &[u8]) {
        let _ = (ws, payload);
    }

    /// Called with each pong.
    fn on_pong(&mut self, ws: &mut Ws<'_, S>, payload: &[u8]) {
        let _ = (ws, payload);
    }

    /// Called when the queue falls below the low watermark, if it was above the high one, or if the application
    /// paused reading while the queue was above the low one.
    fn on_drain(&mut self, ws: &mut Ws<'_, S>) {
        let _ = ws;
    }

    /// Called when the peer broke the protocol, a deadline passed or the transport failed; `on_close`
    /// follows.
    fn on_error(&mut self, ws: &mut Ws<'_, S>, cause: &CloseCause) {
        let _ = (ws, cause);
    }

    /// Called when the connection has ended: once, and last.
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
pub(super) struct Closures<S> {
    pub(super) on_open: Option<OnOpen<S>>,
    pub(super) on_message: Option<OnMessage<S>>,
    pub(super) on_ping: Option<OnPing<S>>,
    pub(super) on_pong: Option<OnPing<S>>,
    pub(super) on_drain: Option<OnDrain<S>>,
    pub(super) on_error: Option<OnError<S>>,
    pub(super) on_close: Option<OnClose<S>>,
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

/// A handler that has one more for each connection.
pub(super) struct Each<F, H> {
    make: F,
    handlers: ConnMap<H>,
}

impl<F, H> Each<F, H> {
    pub(super) fn new(make: F) -> Each<F, H> {
        Each {
            make,
            handlers: ConnMap::default(),
        }
    }

    /// Calls the handler of a connection. There is none if `make` has panicked.
    fn with<S>(&mut self, ws: &mut Ws<'_, S>, call: impl FnOnce(&mut H, &mut Ws<'_, S>)) {
        if let Some(handler) = self.handlers.get_mut(ws.id) {
            call(handler, ws);
        }
    }
}

impl<S, F, H> WebSocketHandler<S> for Each<F, H>
where
    F: FnMut(&Handshake<'_>) -> H + 'static,
    H: WebSocketHandler<S>,
{
    fn on_open(&mut self, ws: &mut Ws<'_, S>, handshake: &Handshake<'_>) {
        let handler = (self.make)(handshake);
        self.handlers.insert(ws.id, handler);
        self.with(ws, |handler, ws| handler.on_open(ws, handshake));
    }

    fn on_message(&mut self, ws: &mut Ws<'_, S>, message: Message<'_>) {
        self.with(ws, |handler, ws| handler.on_message(ws, message));
    }

    fn on_ping(&mut self, ws: &mut Ws<'_, S>, payload: &[u8]) {
        self.with(ws, |handler, ws| handler.on_ping(ws, payload));
    }

    fn on_pong(&mut self, ws: &mut Ws<'_, S>, payload: &[u8]) {
        self.with(ws, |handler, ws| handler.on_pong(ws, payload));
    }

    fn on_drain(&mut self, ws: &mut Ws<'_, S>) {
        self.with(ws, |handler, ws| handler.on_drain(ws));
    }

    fn on_error(&mut self, ws: &mut Ws<'_, S>, cause: &CloseCause) {
        self.with(ws, |handler, ws| handler.on_error(ws, cause));
    }

    fn on_close(&mut self, ws: &mut Ws<'_, S>, close: &Close) {
        if let Some(mut handler) = self.handlers.remove(ws.id) {
            handler.on_close(ws, close);
        }
    }
}
