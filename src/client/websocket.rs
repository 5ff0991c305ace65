//! WebSockets that this side opens: the request, the check of the answer, and then the same as on a server.
//!
//! Source: RFC 6455, sections 4.1 and 4.2.2.

use std::io;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use crate::protocol::http::{
    HeaderStorage, HttpError, ParsedResponse, Status, is_header, parse_response_head,
    upgrade::{self, ResponseError},
};
#[cfg(feature = "deflate")]
use crate::protocol::websocket::deflate;
use crate::protocol::websocket::{Machine, Role};
use crate::reactor::SetupResult;
use crate::reactor::close::{Close, CloseCause, Deadline};
use crate::reactor::connection::Connection;
use crate::reactor::connection::ready::FastMessages;
use crate::reactor::id::ConnId;
use crate::reactor::outcome::Outcome;
use crate::reactor::protocol::{Protocol, Upgrade};
use crate::reactor::reactor::Reactor;
use crate::reactor::reactor::{Cx, Handler, Received};
use crate::session::handler::Handshake;
use crate::session::websocket::{WebSocketCallbacks, finish_without_close};

use super::client_transport::ClientTransport;
use super::header;
use super::reconnect::Backoff;
use super::reconnection::{KeepLimits, Reconnect, Reconnection};
use super::retry_after::retry_after;

/// The beginning of the names of headers that belong to the handshake. Source: RFC 6455, section 11.3.
const HANDSHAKE_PREFIX: &str = "sec-websocket-";

const EXTENSIONS: &str = "Sec-WebSocket-Extensions";

/// The callbacks, the options and the request of a WebSocket client.
///
/// The callbacks are those of [`WebSocketCallbacks`], as on a server. A connection that cannot be opened gets
/// `on_error` with the cause, and then `on_close`, without `on_open`.
pub struct WebSocketClient<S> {
    name: String,
    is_single: bool,
    subprotocols: Vec<String>,
    headers: Vec<(String, String)>,
    options_index: u16,
    callbacks: WebSocketCallbacks<S>,
    reconnection: Reconnection<S>,
    transport: ClientTransport,
    /// The time that a server has asked for with 429 or 503.
    retry_after: Option<Duration>,
}

impl<S> Deref for WebSocketClient<S> {
    type Target = WebSocketCallbacks<S>;

    fn deref(&self) -> &WebSocketCallbacks<S> {
        &self.callbacks
    }
}

impl<S> DerefMut for WebSocketClient<S> {
    fn deref_mut(&mut self) -> &mut WebSocketCallbacks<S> {
        &mut self.callbacks
    }
}

impl<S: 'static> WebSocketClient<S> {
    /// A client with the callbacks, headers and options that `setup` chooses, and the index of its
    /// options.
    ///
    /// # Errors
    ///
    /// When the options are not valid together.
    pub(crate) fn build<R: SetupResult>(
        reactor: &mut Reactor<S>,
        name: String,
        is_single: bool,
        setup: impl FnOnce(&mut WebSocketClient<S>) -> R,
    ) -> io::Result<(WebSocketClient<S>, u16)> {
        let mut client = WebSocketClient {
            name,
            is_single,
            subprotocols: Vec::new(),
            headers: Vec::new(),
            options_index: 0,
            callbacks: WebSocketCallbacks::new(reactor.config().options.clone()),
            reconnection: Reconnection::default(),
            transport: ClientTransport::default(),
            retry_after: None,
        };
        setup(&mut client).into_result()?;
        client.options_index = reactor.add_options(client.callbacks.options.clone())?;
        client.callbacks.seal();
        let options = client.options_index;
        Ok((client, options))
    }

    /// Sets the subprotocols to offer, in the order of preference.
    ///
    /// # Panics
    ///
    /// When a name is not a token (RFC 9110, section 5.6.2). The names are constants of the program, so a wrong
    /// one is a mistake in it.
    pub fn subprotocols<'n>(&mut self, names: impl IntoIterator<Item = &'n str>) {
        self.subprotocols = names.into_iter().map(str::to_owned).collect();
        for name in &self.subprotocols {
            assert!(
                is_header(name, ""),
                "the subprotocol {name:?} is not a token"
            );
        }
    }

    /// Adds a header to the request, such as `Authorization`.
    ///
    /// # Errors
    ///
    /// When the name is not a token, or the value has a control character, which could end the line; and for the
    /// headers that belong to the request for a WebSocket or to the connection: those of
    /// [`EncodeError::ReservedName`](crate::protocol::http::EncodeError::ReservedName), and all that begin with
    /// `Sec-WebSocket-`.
    pub fn header(&mut self, name: &str, value: &str) -> io::Result<()> {
        let prefix = name.get(..HANDSHAKE_PREFIX.len()).unwrap_or_default();
        let is_own = prefix.eq_ignore_ascii_case(HANDSHAKE_PREFIX);
        self.headers.push(header::checked(name, value, is_own)?);
        Ok(())
    }

    /// Sets the address to connect from, the proxy, and the TLS of `wss://`. For connections of
    /// [`connect_websocket_with`](Reactor::connect_websocket_with) its argument is used instead.
    ///
    /// ```
    /// use waterwheel::{HttpProxy, Reactor, Sim};
    ///
    /// let mut sim = Sim::new((), |reactor: &mut Reactor<()>| {
    ///     let proxy = HttpProxy::parse("http://127.0.0.1:3128")?;
    ///     reactor.connect_websocket("ws://example.org/feed", |ws| {
    ///         ws.transport(proxy);
    ///         ws.on_close(|_, close| println!("{close}"));
    ///     })?;
    ///     Ok::<_, Box<dyn std::error::Error>>(())
    /// });
    /// # sim.settle();
    /// ```
    pub fn transport(&mut self, transport: impl Into<ClientTransport>) {
        self.transport = transport.into();
    }

    pub(super) fn take_transport(&mut self) -> ClientTransport {
        std::mem::take(&mut self.transport)
    }

    /// Connects again, with these pauses, when the connection has ended or could not be made; see
    /// [`Reactor::websocket_link`], which says when a client gives up.
    ///
    /// The id that [`Reactor::connect_websocket`] returns is that of the first connection, so it does not end the
    /// attempts that follow. A program that ends them has a [`WebSocketLink`](crate::WebSocketLink).
    pub fn reconnect(&mut self, backoff: Backoff) {
        self.reconnection.backoff = Some(backoff);
    }

    /// Decides whether another attempt follows an end, in place of the rules of [`Reactor::websocket_link`] for close
    /// codes and answers to the handshake. It is not asked after a close by this side.
    ///
    /// ```
    /// use waterwheel::{Reactor, Sim};
    ///
    /// let mut sim = Sim::new((), |reactor: &mut Reactor<()>| {
    ///     let link = reactor.websocket_link("ws://localhost/feed", |ws| {
    ///         // This server closes with 4001 when a token has expired.
    ///         ws.reconnect_if(|close| close.code != 4001);
    ///     });
    ///     link.map(drop)
    /// });
    /// # sim.settle();
    /// ```
    pub fn reconnect_if(&mut self, condition: impl FnMut(&Close) -> bool + 'static) {
        self.reconnection.set_condition(condition);
    }

    /// Keeps what [`WebSocketLink::send`](crate::WebSocketLink::send) gets while there is no connection, up to these
    /// limits. Without this it is refused.
    pub fn keep_while_away(&mut self, limits: KeepLimits) {
        self.reconnection.keeps = Some(limits);
    }

    /// Called when another attempt follows the end of a connection or of an attempt, after its `on_close`: with the
    /// number of the attempt, the pause before it, and why.
    pub fn on_reconnect<R: Outcome>(
        &mut self,
        call: impl FnMut(&mut Cx<'_, S>, &Reconnect<'_>) -> R + 'static,
    ) {
        self.reconnection.set_on_reconnect(call);
    }

    /// Called once, when no further attempt follows, after the last `on_close`: with the end of the last connection.
    pub fn on_give_up<R: Outcome>(
        &mut self,
        call: impl FnMut(&mut Cx<'_, S>, &Close) -> R + 'static,
    ) {
        self.reconnection.set_on_give_up(call);
    }

    /// Whether the setup asked to connect again.
    ///
    /// # Errors
    ///
    /// When it did not, and has chosen how.
    pub(super) fn reconnects(&self) -> io::Result<bool> {
        let has_backoff = self.reconnection.backoff.is_some();
        match self.reconnection.choice() {
            Some(name) if !has_backoff => {
                let why =
                    format!("{name} is for a client that connects again: call `reconnect` too");
                Err(io::Error::new(io::ErrorKind::InvalidInput, why))
            }
            _ => Ok(has_backoff),
        }
    }

    pub(super) fn take_reconnection(&mut self) -> Reconnection<S> {
        std::mem::take(&mut self.reconnection)
    }

    /// The time that the server has asked for in its answer.
    pub(super) fn take_retry_after(&mut self) -> Option<Duration> {
        self.retry_after.take()
    }

    /// Queues the request of the handshake.
    fn send_request(&mut self, cx: &mut Cx<'_, S>, id: ConnId) {
        let Some(Protocol::Upgrade(wanted)) = protocol(cx, id) else {
            return;
        };
        let mut out = Vec::with_capacity(256);
        let subprotocols: Vec<_> = self.subprotocols.iter().map(String::as_str).collect();
        let headers = self
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        let offer = self.extensions_offer();
        let offer = offer.as_deref();
        let headers = headers.chain(offer.map(|value| (EXTENSIONS, value)));
        let encoded = upgrade::encode_request(
            &wanted.host,
            &wanted.target,
            &wanted.key,
            &subprotocols,
            headers,
            &mut out,
        );
        debug_assert_eq!(
            encoded,
            Ok(()),
            "host, target and headers were checked in the setup"
        );
        cx.reactor.queue_reply(id, &out);
        let head_timeout = cx.reactor.config().head_timeout;
        cx.reactor.set_deadline(id, Deadline::Head, head_timeout);
    }

    /// The value of `Sec-WebSocket-Extensions` in the request.
    fn extensions_offer(&self) -> Option<String> {
        #[cfg(feature = "deflate")]
        return deflate::offer(self.callbacks.options.deflate);
        #[cfg(not(feature = "deflate"))]
        None
    }

    /// The machine with the compression to which the server has agreed.
    ///
    /// # Errors
    ///
    /// When the answer is not one to our offer.
    fn agree(&self, cx: &Cx<'_, S>, parsed: &ParsedResponse<'_>) -> Result<Machine, ResponseError> {
        #[cfg(feature = "deflate")]
        {
            let mode = self.callbacks.options.deflate;
            let may_keep_window = self.callbacks.drops_no_message();
            let answers = parsed.headers.elements(EXTENSIONS);
            let checked = deflate::check_answer(mode, may_keep_window, answers);
            if let Some(agreed) = checked.map_err(|_| ResponseError::Extension)? {
                let bytes_min = cx.reactor.config().deflate_bytes_min;
                return Ok(Machine::with_deflate(Role::Client, agreed, bytes_min));
            }
        }
        let _ = (cx, parsed);
        Ok(Machine::new(Role::Client))
    }

    /// Takes the answer off the front of `input`; returns how many bytes were consumed.
    fn receive_response(&mut self, cx: &mut Cx<'_, S>, id: ConnId, input: &[u8]) -> usize {
        let limits = cx.reactor.config().http;
        let mut used = 0;
        loop {
            let mut storage = HeaderStorage::new();
            match parse_response_head(&input[used..], false, &mut storage, &limits) {
                Ok(None) => return used,
                Ok(Some(parsed)) => {
                    used += parsed.bytes;
                    // Interim answers such as 103 may come before the final one. Source: RFC 9110, section 15.2.
                    let is_interim = parsed.status.is_informational()
                        && parsed.status != Status::SWITCHING_PROTOCOLS;
                    if !is_interim {
                        self.handle_response(cx, id, &parsed);
                        return used;
                    }
                }
                Err(error) => {
                    cx.reactor.abort(id, CloseCause::Http(error));
                    return input.len();
                }
            }
        }
    }

    /// Checks the answer, and opens the WebSocket or aborts the connection.
    fn handle_response(&mut self, cx: &mut Cx<'_, S>, id: ConnId, parsed: &ParsedResponse<'_>) {
        let Some(Protocol::Upgrade(upgrade)) = cx.reactor.protocol_mut(id) else {
            return;
        };
        // The strings are taken, because the reactor must be free for `open`. The connection keeps its
        // protocol, so that an abort below is reported as a failed handshake.
        let wanted = Upgrade {
            host: std::mem::take(&mut upgrade.host),
            target: std::mem::take(&mut upgrade.target),
            key: std::mem::take(&mut upgrade.key),
        };
        let subprotocols: Vec<_> = self.subprotocols.iter().map(String::as_str).collect();
        let offers_extensions = self.extensions_offer().is_some();
        let checked =
            upgrade::check_response(parsed, &wanted.key, &subprotocols, offers_extensions)
                .and_then(|subprotocol| Ok((subprotocol, self.agree(cx, parsed)?)));
        match checked {
            Ok((subprotocol, machine)) => {
                let (path, query) = match wanted.target.split_once('?') {
                    Some((path, query)) => (path, Some(query)),
                    None => (wanted.target.as_str(), None),
                };
                let handshake = Handshake {
                    path,
                    query,
                    headers: parsed.headers,
                    subprotocol,
                    parameter: &|_| None,
                };
                self.callbacks
                    .open(cx, id, machine, self.options_index, &handshake);
            }
            Err(error) => {
                let value = parsed.headers.first("retry-after");
                self.retry_after = retry_after(parsed.status, value);
                cx.reactor.abort(id, CloseCause::Upgrade(error));
            }
        }
    }
}

impl<S: 'static> Handler<S> for WebSocketClient<S> {
    fn name(&self, _: Option<&Connection>) -> String {
        self.name.clone()
    }

    fn open(&mut self, cx: &mut Cx<'_, S>, id: ConnId) {
        self.send_request(cx, id);
    }

    #[inline]
    fn receive(&mut self, cx: &mut Cx<'_, S>, id: ConnId, input: &mut [u8]) -> usize {
        match protocol(cx, id) {
            Some(Protocol::WebSocket(_)) => self.callbacks.receive(cx, id, input),
            Some(Protocol::Upgrade(_)) => {
                let used = self.receive_response(cx, id, input);
                // A server may send frames right behind its 101. They are delivered now: the poll reports nothing
                // for bytes that were read already.
                match protocol(cx, id) {
                    Some(Protocol::WebSocket(_)) if used < input.len() => {
                        used + self.callbacks.receive(cx, id, &mut input[used..])
                    }
                    Some(Protocol::WebSocket(_) | Protocol::Upgrade(_)) => used,
                    _ => input.len(),
                }
            }
            _ => input.len(),
        }
    }

    #[inline]
    fn receive_fast(
        &mut self,
        cx: &mut Cx<'_, S>,
        messages: FastMessages,
        input: &mut [u8],
    ) -> Received {
        self.callbacks.receive_fast(cx, messages, input)
    }

    fn end(&mut self, cx: &mut Cx<'_, S>, id: ConnId) {
        if matches!(protocol(cx, id), Some(Protocol::WebSocket(_))) {
            finish_without_close(cx.reactor, id);
        } else {
            cx.reactor.abort(id, CloseCause::Http(HttpError::Truncated));
        }
    }

    fn below_low_mark(&mut self, cx: &mut Cx<'_, S>, id: ConnId) {
        self.callbacks.below_low_mark(cx, id);
    }

    fn due(&mut self, cx: &mut Cx<'_, S>, id: ConnId, deadline: Deadline) {
        self.callbacks.due(cx, id, deadline);
    }

    fn failed(&mut self, cx: &mut Cx<'_, S>, id: ConnId, cause: &CloseCause) {
        self.callbacks.failed(cx, id, cause);
    }

    fn closed(&mut self, cx: &mut Cx<'_, S>, id: ConnId, close: &Close) {
        self.callbacks.closed(cx, id, close);
    }

    fn is_single(&self) -> bool {
        self.is_single
    }
}

#[inline]
fn protocol<'c, S: 'static>(cx: &'c Cx<'_, S>, id: ConnId) -> Option<&'c Protocol> {
    cx.reactor.protocol(id)
}
