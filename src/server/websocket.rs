//! WebSocket routes: the check before the upgrade, the subprotocol, and the answer 101.

use std::ops::{Deref, DerefMut};

use crate::protocol::http::{Accept, Check, ExtraHeaders, OnAnswer, Status, upgrade};
#[cfg(feature = "deflate")]
use crate::protocol::websocket::deflate;
use crate::protocol::websocket::{Machine, Role};
use crate::reactor::config::ConnectionOptions;
use crate::reactor::id::ConnId;
use crate::reactor::reactor::Cx;
use crate::session::handler::Handshake;
use crate::session::websocket::WebSocketCallbacks;

use super::reply::Reply;
use super::request::Request;

type BeforeOpen<S> = Box<dyn FnMut(&mut Request<'_, '_, S>) -> Result<(), Reply>>;

/// The callbacks and the options of one WebSocket route.
pub struct WebSocketRoute<S> {
    pub(crate) subprotocols: Vec<String>,
    pub(crate) options_index: u16,
    pub(crate) before_open: Option<BeforeOpen<S>>,
    pub(crate) callbacks: WebSocketCallbacks<S>,
}

impl<S> Deref for WebSocketRoute<S> {
    type Target = WebSocketCallbacks<S>;

    fn deref(&self) -> &WebSocketCallbacks<S> {
        &self.callbacks
    }
}

impl<S> DerefMut for WebSocketRoute<S> {
    fn deref_mut(&mut self) -> &mut WebSocketCallbacks<S> {
        &mut self.callbacks
    }
}

impl<S: 'static> WebSocketRoute<S> {
    pub(crate) fn new(options: ConnectionOptions) -> Self {
        WebSocketRoute {
            subprotocols: Vec::new(),
            options_index: 0,
            before_open: None,
            callbacks: WebSocketCallbacks::new(options),
        }
    }

    /// Sets the subprotocols of this route. The first one that a client offers and that is among them is agreed
    /// on, so the client's preference decides. A client that offers none of them is accepted without one.
    ///
    /// Source: RFC 6455, section 4.2.2.
    pub fn subprotocols<'n>(&mut self, names: impl IntoIterator<Item = &'n str>) {
        self.subprotocols = names.into_iter().map(str::to_owned).collect();
    }

    /// Sets a check that may refuse a client before the upgrade, with any answer. No other callback is called
    /// for a refused client.
    ///
    /// A check that needs an answer from elsewhere calls [`Request::decide_later`]. The subprotocol and
    /// further headers of the 101 are chosen by [`Request::accept_with`].
    pub fn before_open(
        &mut self,
        call: impl FnMut(&mut Request<'_, '_, S>) -> Result<(), Reply> + 'static,
    ) {
        self.before_open = Some(Box::new(call));
    }

    // ── for the router ───────────────────────────────────────────────────────────────────

    /// Answers an upgrade request: asks `before_open`, then answers 101 and makes a WebSocket of the
    /// connection.
    pub(super) fn answer(
        &mut self,
        mut request: Request<'_, '_, S>,
        index: u16,
        upgrade: &upgrade::Upgrade<'_>,
        passed: Option<Check>,
    ) {
        // A WebSocket stays for hours, and this reactor is about to end.
        if request.reactor.is_draining() {
            request.reply(draining_reply());
            return;
        }
        if passed < Some(Check::BeforeOpen)
            && let Some(before_open) = &mut self.before_open
        {
            request.reactor.note_callback("before_open");
            request.check = Some(Check::BeforeOpen);
            let outcome = before_open(&mut request);
            if request.is_answered || request.reactor.is_stopped() {
                return;
            }
            if let Err(reply) = outcome {
                request.reply(reply);
                return;
            }
        }
        let Request {
            state,
            reactor,
            id,
            head,
            pattern,
            accept,
            ..
        } = request;
        // Taken before `open`, which replaces the exchange by the WebSocket.
        let headers = reactor
            .exchange(id)
            .map_or_else(Vec::new, |exchange| exchange.take_extra_headers());
        let on_answer = reactor
            .exchange(id)
            .and_then(|exchange| exchange.take_on_answer());
        if let Some(OnAnswer(call)) = on_answer {
            call(Status::SWITCHING_PROTOCOLS, 0, reactor.clock_now());
        }
        reactor.set_route(id, index);
        let handshake = Handshake {
            path: head.path(),
            query: head.query(),
            headers: head.headers,
            subprotocol: None,
            parameter: &|name| pattern.value(head.path(), name),
        };
        let cx = &mut Cx { state, reactor };
        self.open(cx, id, upgrade, handshake, &headers, &accept);
    }

    /// Answers 101, and makes a WebSocket of the connection.
    fn open<'h>(
        &mut self,
        cx: &mut Cx<'_, S>,
        id: ConnId,
        upgrade: &upgrade::Upgrade<'h>,
        handshake: Handshake<'h>,
        headers: &ExtraHeaders,
        accept: &Accept,
    ) {
        let known = |offered: &&str| self.subprotocols.iter().any(|known| known == offered);
        let chosen = accept.subprotocol.as_deref();
        let agreed = upgrade
            .subprotocols()
            .find(|offered| chosen == Some(*offered))
            .or_else(|| upgrade.subprotocols().find(known));
        // Room for the fixed lines, a subprotocol and one more header.
        let mut out = Vec::with_capacity(192);
        let extra = headers.iter().map(|(name, value)| (*name, value.as_ref()));
        let own = accept.headers.iter();
        let own = own.map(|(name, value)| (name.as_ref(), value.as_str()));
        let (machine, extensions) = self.agree(cx, upgrade);
        let extensions = extensions.as_deref();
        let extensions = extensions.map(|value| ("Sec-WebSocket-Extensions", value));
        let headers = extra.chain(own).chain(extensions);
        upgrade::encode_accept(upgrade.key(), agreed, headers, &mut out);
        cx.reactor.queue_reply(id, &out);
        let handshake = Handshake {
            subprotocol: agreed,
            ..handshake
        };
        self.callbacks
            .open(cx, id, machine, self.options_index, &handshake);
    }

    /// Agrees to compression, where the route has it and the client offers it. Returns the value of
    /// `Sec-WebSocket-Extensions` with the machine.
    fn agree(&self, cx: &Cx<'_, S>, upgrade: &upgrade::Upgrade<'_>) -> (Machine, Option<String>) {
        #[cfg(feature = "deflate")]
        {
            let mode = self.callbacks.options.deflate;
            let may_keep_window = self.callbacks.drops_no_message();
            let accepted = deflate::accept(mode, may_keep_window, upgrade.extensions());
            if let Some((agreed, answer)) = accepted {
                let bytes_min = cx.reactor.config().deflate_bytes_min;
                let machine = Machine::with_deflate(Role::Server, agreed, bytes_min);
                return (machine, Some(answer));
            }
        }
        let _ = (cx, upgrade);
        (Machine::new(Role::Server), None)
    }
}

/// The answer to a request for a WebSocket route that is no upgrade.
pub(crate) fn upgrade_required_reply() -> Reply {
    let reply = Reply::new(Status::UPGRADE_REQUIRED).body("this is a WebSocket\n");
    // `Upgrade` is for this hop only, so `Connection` must name it. Source: RFC 9110, section 7.8.
    let headers = [
        ("Sec-WebSocket-Version", "13"),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
    ];
    reply.with_extra_headers(&headers.map(|(name, value)| (name, value.into())))
}

/// The answer to an upgrade request while the reactor drains. A proxy, or the client after a second, then
/// tries another server.
fn draining_reply() -> Reply {
    let reply: Reply = Status::SERVICE_UNAVAILABLE.into();
    reply.with_extra_headers(&[("Retry-After", "1".into())])
}
