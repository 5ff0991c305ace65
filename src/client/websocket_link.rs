//! A WebSocket that comes back: one handle for all connections to a URL, one after the other.
//!
//! ```text
//!   connecting ──101──▶ open ──▶ ended ──▶ away ──pause──▶ connecting
//!       └─────── failed ──────────▶ │
//!                                   └─ closed here, refused for good, no attempts left ──▶ gave up
//! ```
//!
//! Each connection has an id and callbacks of its own, as one that does not come back. The link decides in a callback
//! of the connection's end which has a guard of its own, and sets the timer for the next attempt before it calls the
//! application. So a panic in any callback ends at most one connection, and no attempt is lost.
//!
//! There is at most one connection at a time: only the end of one leads to the next.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use crate::protocol::http::TunnelError;
use crate::protocol::http::upgrade::ResponseError;
use crate::protocol::websocket::{Message, ToMessage};
use crate::reactor::SetupResult;
use crate::reactor::close::{Close, CloseCause, Deadline, Sent};
use crate::reactor::connection::Connection;
use crate::reactor::connection::ready::FastMessages;
use crate::reactor::id::ConnId;
use crate::reactor::protocol::Protocol;
use crate::reactor::reactor::{Cx, Handler, Reactor, Received};
use crate::reactor::time::timers::TimerId;

use super::client_transport::ClientTransport;
use super::reconnect::Pauses;
use super::reconnection::{KeepLimits, Reconnect, Reconnection};
use super::target::Target;
use super::websocket::WebSocketClient;

/// A WebSocket of this side that connects again. A clone is the same link.
///
/// [`Reactor::websocket_link`] makes it. The link goes on without its handles, until it is closed or gives up.
pub struct WebSocketLink<S: 'static> {
    link: Rc<Link<S>>,
}

impl<S> Clone for WebSocketLink<S> {
    fn clone(&self) -> Self {
        WebSocketLink {
            link: Rc::clone(&self.link),
        }
    }
}

impl<S: 'static> WebSocketLink<S> {
    /// Sends a message by the connection of this moment.
    ///
    /// Without an open connection the message is refused with [`Sent::Gone`], or kept if the setup called
    /// [`keep_while_away`](WebSocketClient::keep_while_away): [`Sent::Queued`], and [`Sent::Full`] above its limits.
    /// Kept messages go out in their order after the `on_open` of the next connection, before newer ones. Each goes
    /// to one connection, once: a message that a connection has accepted is lost if that breaks before the peer has
    /// got it. After the link has ended, all messages are refused.
    pub fn send(&self, reactor: &mut Reactor<S>, message: impl ToMessage) -> Sent {
        let link = &self.link;
        if link.is_closed.get() {
            return Sent::Gone;
        }
        let open = link
            .connection()
            .filter(|id| is_open_websocket(reactor, *id));
        match (open, &link.kept) {
            (Some(id), None) => reactor.send(id, message),
            (Some(id), Some(kept)) if link.is_open() && kept.borrow().is_empty() => {
                reactor.send(id, message)
            }
            (None, None) => Sent::Gone,
            (_, Some(kept)) => kept.borrow_mut().push(message.to_message()),
        }
    }

    /// Closes the connection with code 1000, and connects no more. Messages that are kept are dropped.
    pub fn close(&self, reactor: &mut Reactor<S>) {
        self.close_with(reactor, 1000, "");
    }

    /// As [`close`](Self::close), with a code and a reason; see [`Reactor::close_with`].
    pub fn close_with(&self, reactor: &mut Reactor<S>, code: u16, reason: &str) {
        let link = &self.link;
        if link.is_closed.replace(true) {
            return;
        }
        match link.state.get() {
            State::Connecting(id) | State::Open(id) => {
                reactor.close_with(id, code, reason);
            }
            State::Away(timer) => {
                reactor.cancel(timer);
                let link = Rc::clone(link);
                // Not now, because no method of the application's calls one of its callbacks.
                reactor.next_tick(move |cx| link.give_up(cx, &Close::new(CloseCause::Local)));
            }
            State::Ended => {}
        }
    }

    /// The connection of this moment, from the attempt to its `on_close`.
    pub fn connection(&self) -> Option<ConnId> {
        self.link.connection()
    }

    /// Whether there is a connection whose `on_open` was called.
    pub fn is_open(&self) -> bool {
        self.link.is_open()
    }

    /// Whether the link connects no more: it was closed, or has given up.
    pub fn has_ended(&self) -> bool {
        self.link.is_closed.get()
    }

    /// How many messages are kept for the next connection.
    pub fn kept_count(&self) -> usize {
        let kept = self.link.kept.as_ref();
        kept.map_or(0, |kept| kept.borrow().messages.len())
    }
}

/// # Connect
impl<S: 'static> Reactor<S> {
    /// Connects to a URL for a WebSocket, and connects again whenever the connection has ended or could not be made.
    /// `setup` names the callbacks, the headers and the subprotocols, and runs once. Its
    /// [`reconnect`](WebSocketClient::reconnect) sets the pauses, which are [`Backoff::default`](crate::Backoff)
    /// otherwise.
    ///
    /// Each attempt makes a connection with an id of its own: `on_open` once, and `on_close` once and last, also for
    /// an attempt that fails. An attempt for which no connection can be made at all, as where the system has no
    /// authorities to trust any more, has no id and no `on_close`, and its `Close` has the error's kind. Then either [`on_reconnect`](WebSocketClient::on_reconnect) or
    /// [`on_give_up`](WebSocketClient::on_give_up) is called. The link ends, and connects no more, after
    ///
    /// * a close by this side with any code: [`WebSocketLink::close`], [`Ws::close`](crate::Ws::close),
    ///   [`Reactor::reset`];
    /// * a close by the server with 1000 (done), 1002, 1003, 1007, 1008, 1009 or 1010: what this side sends would be
    ///   refused again;
    /// * an answer to the handshake that is no upgrade, except the status codes 408, 425, 429 and 5xx;
    /// * as many attempts in a row as [`attempts_max`](crate::Backoff::attempts_max) allows;
    /// * [`Reactor::drain`] and [`Reactor::stop`], without `on_give_up` if no connection is open.
    ///
    /// All else leads to another attempt: a name that is not found, a refused or reset connection, a TLS handshake
    /// that fails, a deadline, an end without a close frame, other close codes, a callback that panics. So a
    /// certificate that is not trusted is tried again for ever, because the server may get another one; a
    /// `reconnect_if` that looks for [`CloseCause::Tls`](crate::CloseCause::Tls) ends that.
    /// [`reconnect_if`](WebSocketClient::reconnect_if) replaces the rules for close codes and answers. After 429 and
    /// 503 the server's `Retry-After` is kept, up to the maximum of the pauses.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use waterwheel::{Backoff, Reactor, Sim};
    ///
    /// let mut sim = Sim::new(Vec::new(), |reactor: &mut Reactor<Vec<String>>| {
    ///     let link = reactor.websocket_link("ws://localhost:80/feed", |ws| {
    ///         ws.reconnect(Backoff::default());
    ///         ws.on_open(|ws, _| ws.send("subscribe"));
    ///         ws.on_reconnect(|cx, next| {
    ///             cx.state.push(format!("attempt {}: {}", next.attempt, next.close));
    ///         });
    ///     });
    ///     link.map(drop)
    /// });
    /// sim.settle();
    /// assert_eq!(sim.state()[0], "attempt 1: 1006 transport failed: connection refused");
    /// let listening = sim.reactor().websocket("0.0.0.0:80", |ws| {
    ///     ws.on_message(|ws, message| ws.state.push(message.to_string()));
    /// });
    /// assert!(listening.is_ok());
    /// sim.advance(Duration::from_millis(500));
    /// assert_eq!(sim.state()[1], "subscribe");
    /// ```
    ///
    /// # Errors
    ///
    /// When `url` is not a URL of this kind, when it is `wss://` without a
    /// [`transport`](WebSocketClient::transport) that has TLS and the system's authorities cannot be read, when the
    /// reactor was stopped, when the pauses are impossible, and when `setup` returns an error.
    pub fn websocket_link<R: SetupResult>(
        &mut self,
        url: &str,
        setup: impl FnOnce(&mut WebSocketClient<S>) -> R,
    ) -> io::Result<WebSocketLink<S>> {
        let target = Target::parse(url)?;
        let name = target.name();
        let (client, options) = WebSocketClient::build(self, name, false, setup)?;
        begin(self, target, client, options)
    }
}

/// Makes a link with the callbacks of a client, and connects.
pub(super) fn begin<S: 'static>(
    reactor: &mut Reactor<S>,
    target: Target,
    mut client: WebSocketClient<S>,
    options: u16,
) -> io::Result<WebSocketLink<S>> {
    let (reconnection, transport) = (client.take_reconnection(), client.take_transport());
    let backoff = reconnection.backoff.unwrap_or_default().checked()?;
    let kept = reconnection.keeps.map(|limits| {
        RefCell::new(Kept {
            messages: VecDeque::new(),
            bytes: 0,
            limits,
        })
    });
    let link = Rc::new(Link {
        target,
        transport,
        handler: Cell::new(0),
        options,
        state: Cell::new(State::Ended),
        is_closed: Cell::new(false),
        opened_at: Cell::new(None),
        retry_after: Cell::new(None),
        pauses: RefCell::new(Pauses::new(backoff, reactor.random())),
        kept,
        callbacks: RefCell::new(Some(Rc::new(RefCell::new(reconnection)))),
    });
    let handler = LinkHandler {
        client,
        link: Rc::clone(&link),
        opened: None,
    };
    link.handler.set(reactor.add_handler(Box::new(handler)));
    if let Err(error) = link.try_connect(reactor) {
        reactor.free_handler(link.handler.get());
        return Err(error);
    }
    Ok(WebSocketLink { link })
}

fn is_open_websocket<S: 'static>(reactor: &Reactor<S>, id: ConnId) -> bool {
    reactor.is_open(id) && matches!(reactor.protocol(id), Some(Protocol::WebSocket(_)))
}

/// Whether another attempt may succeed after a connection that has ended so.
fn may_succeed(close: &Close) -> bool {
    match close.cause {
        CloseCause::Peer => !matches!(close.code, 1000 | 1002 | 1003 | 1007..=1010),
        CloseCause::Upgrade(ResponseError::Status(status)) => {
            matches!(status.code(), 408 | 425 | 429 | 500..)
        }
        // As the server's own answer. A proxy answers 502, 503 or 504 while the server is away.
        CloseCause::Tunnel(TunnelError::Status(status)) => {
            matches!(status.code(), 408 | 425 | 429 | 500..)
        }
        CloseCause::Upgrade(_) | CloseCause::Local | CloseCause::Drained => false,
        CloseCause::TimedOut(_)
        | CloseCause::Protocol(_)
        | CloseCause::Http(_)
        | CloseCause::Framing(_)
        | CloseCause::SlowConsumer
        | CloseCause::MemoryLimit
        | CloseCause::AgeLimit
        | CloseCause::ProxyHeader(_)
        | CloseCause::AddressLimit
        | CloseCause::Panicked
        | CloseCause::CallbackError
        | CloseCause::Tunnel(_)
        | CloseCause::Lookup
        | CloseCause::Tls(_)
        | CloseCause::Io(_) => true,
    }
}

#[derive(Clone, Copy)]
enum State {
    /// The next attempt is made at this timer.
    Away(TimerId),
    Connecting(ConnId),
    Open(ConnId),
    Ended,
}

struct Link<S: 'static> {
    target: Target,
    transport: ClientTransport,
    /// The key of the handler, for all connections.
    handler: Cell<u32>,
    options: u16,
    state: Cell<State>,
    /// It connects no more.
    is_closed: Cell<bool>,
    opened_at: Cell<Option<Duration>>,
    /// The time that the server has asked for in its last answer.
    retry_after: Cell<Option<Duration>>,
    pauses: RefCell<Pauses>,
    kept: Option<RefCell<Kept>>,
    /// `None` after the link has ended. The application's closures may hold the link itself.
    callbacks: RefCell<Option<Rc<RefCell<Reconnection<S>>>>>,
}

impl<S: 'static> Link<S> {
    fn connection(&self) -> Option<ConnId> {
        match self.state.get() {
            State::Connecting(id) | State::Open(id) => Some(id),
            State::Away(_) | State::Ended => None,
        }
    }

    fn is_open(&self) -> bool {
        matches!(self.state.get(), State::Open(_))
    }

    fn try_connect(self: &Rc<Self>, reactor: &mut Reactor<S>) -> io::Result<()> {
        let to = self.target.options(&self.transport)?;
        let id = reactor.connect_for(
            self.handler.get(),
            &to,
            self.options,
            self.target.upgrade_request(),
        )?;
        self.state.set(State::Connecting(id));
        let link = Rc::clone(self);
        reactor.on_close(id, move |cx, close| link.connection_ended(cx, close));
        Ok(())
    }

    /// Makes the next attempt, from its timer.
    fn connect(self: &Rc<Self>, cx: &mut Cx<'_, S>) {
        if cx.reactor.is_draining() {
            return self.end(cx.reactor);
        }
        if let Err(error) = self.try_connect(cx.reactor) {
            let cause = CloseCause::Io(error.kind());
            self.connection_ended(cx, &Close::new(cause));
        }
    }

    /// The handshake is done and `on_open` was called.
    fn connection_opened(self: &Rc<Self>, reactor: &mut Reactor<S>, id: ConnId) {
        self.state.set(State::Open(id));
        self.opened_at.set(Some(reactor.now()));
        self.send_kept(reactor, id);
    }

    /// Sends the messages that were kept, as fast as the connection takes them.
    fn send_kept(self: &Rc<Self>, reactor: &mut Reactor<S>, id: ConnId) {
        let Some(kept) = &self.kept else { return };
        while reactor.has_room(id) {
            let mut kept = kept.borrow_mut();
            let Some(message) = kept.messages.front() else {
                return;
            };
            if !reactor.send(id, message.as_message()).is_queued() {
                return;
            }
            kept.pop();
        }
        let link = Rc::clone(self);
        reactor.on_drain(id, move |cx| link.send_kept(cx.reactor, id));
    }

    /// A connection has ended, or an attempt has failed.
    fn connection_ended(self: &Rc<Self>, cx: &mut Cx<'_, S>, close: &Close) {
        let now = cx.reactor.now();
        let lasted = self.opened_at.take().map(|at| now.saturating_sub(at));
        let asked = self.retry_after.take();
        if cx.reactor.is_stopped() || self.is_closed.get() || is_ended_here(close) {
            return self.give_up(cx, close);
        }
        let mut pauses = self.pauses.borrow_mut();
        pauses.note_connection(lasted.unwrap_or_default());
        let pause = pauses.next_after(asked);
        let attempt = pauses.attempts();
        drop(pauses);
        let Some(pause) = pause else {
            return self.give_up(cx, close);
        };
        // Before the application is asked: a panic of its answer must not end the link.
        let link = Rc::clone(self);
        let timer = cx.reactor.after(pause, move |cx| link.connect(cx));
        self.state.set(State::Away(timer));
        let callbacks = self.callbacks.borrow().clone();
        let goes_on = match &callbacks {
            Some(callbacks) => callbacks.borrow_mut().goes_on(close, may_succeed),
            None => false,
        };
        if !goes_on {
            cx.reactor.cancel(timer);
            return self.give_up(cx, close);
        }
        if let Some(callbacks) = callbacks {
            callbacks.borrow_mut().call_on_reconnect(
                cx,
                &Reconnect {
                    attempt,
                    pause,
                    close,
                },
            );
        }
    }

    /// Ends the link, and calls the application.
    fn give_up(&self, cx: &mut Cx<'_, S>, close: &Close) {
        let callbacks = self.callbacks.take();
        self.end(cx.reactor);
        if let Some(callbacks) = callbacks {
            callbacks.borrow_mut().call_on_give_up(cx, close);
        }
    }

    fn end(&self, reactor: &mut Reactor<S>) {
        self.forget();
        reactor.drop_handler(self.handler.get());
    }

    /// Gives back what the link holds.
    fn forget(&self) {
        self.is_closed.set(true);
        self.state.set(State::Ended);
        if let Some(kept) = &self.kept {
            kept.borrow_mut().clear();
        }
        let callbacks = self.callbacks.take();
        drop(callbacks);
    }
}

/// Whether this side has ended the connection for good.
fn is_ended_here(close: &Close) -> bool {
    matches!(close.cause, CloseCause::Local | CloseCause::Drained)
}

/// Messages that wait for a connection.
struct Kept {
    messages: VecDeque<KeptMessage>,
    /// The payloads of these.
    bytes: usize,
    limits: KeepLimits,
}

enum KeptMessage {
    Text(Box<str>),
    Binary(Box<[u8]>),
}

impl KeptMessage {
    fn as_message(&self) -> Message<'_> {
        match self {
            KeptMessage::Text(text) => Message::Text(text),
            KeptMessage::Binary(bytes) => Message::Binary(bytes),
        }
    }
}

impl Kept {
    fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    fn push(&mut self, message: Message<'_>) -> Sent {
        let bytes = self.bytes.saturating_add(message.as_bytes().len());
        if self.limits.messages_max <= self.messages.len() || self.limits.bytes_max < bytes {
            return Sent::Full;
        }
        self.bytes = bytes;
        self.messages.push_back(match message {
            Message::Text(text) => KeptMessage::Text(text.into()),
            Message::Binary(bytes) => KeptMessage::Binary(bytes.into()),
        });
        Sent::Queued
    }

    fn pop(&mut self) {
        if let Some(message) = self.messages.pop_front() {
            self.bytes -= message.as_message().as_bytes().len();
        }
        // A long absence must not keep its memory for ever.
        if self.messages.is_empty() {
            self.clear();
        }
    }

    fn clear(&mut self) {
        self.messages = VecDeque::new();
        self.bytes = 0;
    }
}

/// The handler of all connections of a link: that of a client, and news for the link.
struct LinkHandler<S: 'static> {
    client: WebSocketClient<S>,
    link: Rc<Link<S>>,
    /// The connection that the link knows to be open.
    opened: Option<ConnId>,
}

impl<S: 'static> Drop for LinkHandler<S> {
    /// The application's closures may hold the link, and are held by it.
    fn drop(&mut self) {
        self.link.forget();
    }
}

impl<S: 'static> Handler<S> for LinkHandler<S> {
    fn name(&self, connection: Option<&Connection>) -> String {
        self.client.name(connection)
    }

    fn open(&mut self, cx: &mut Cx<'_, S>, id: ConnId) {
        self.client.open(cx, id);
    }

    fn receive(&mut self, cx: &mut Cx<'_, S>, id: ConnId, input: &mut [u8]) -> usize {
        let used = self.client.receive(cx, id, input);
        if self.opened != Some(id) {
            if matches!(cx.reactor.protocol(id), Some(Protocol::WebSocket(_))) {
                self.opened = Some(id);
                self.link.connection_opened(cx.reactor, id);
            } else {
                self.link.retry_after.set(self.client.take_retry_after());
            }
        }
        used
    }

    #[inline]
    fn receive_fast(
        &mut self,
        cx: &mut Cx<'_, S>,
        messages: FastMessages,
        input: &mut [u8],
    ) -> Received {
        self.client.receive_fast(cx, messages, input)
    }

    fn end(&mut self, cx: &mut Cx<'_, S>, id: ConnId) {
        self.client.end(cx, id);
    }

    fn below_low_mark(&mut self, cx: &mut Cx<'_, S>, id: ConnId) {
        self.client.below_low_mark(cx, id);
    }

    fn due(&mut self, cx: &mut Cx<'_, S>, id: ConnId, deadline: Deadline) {
        self.client.due(cx, id, deadline);
    }

    fn failed(&mut self, cx: &mut Cx<'_, S>, id: ConnId, cause: &CloseCause) {
        self.client.failed(cx, id, cause);
    }

    fn closed(&mut self, cx: &mut Cx<'_, S>, id: ConnId, close: &Close) {
        self.client.closed(cx, id, close);
    }
}
