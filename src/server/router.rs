//! HTTP with routes: requests, upgrades and streams on one listener.
//!
//! One object per listener holds the routes and their callbacks; a connection knows its route by
//! a number. The state of its exchange is in the connection, the rules are in `protocol::http`;
//! what is decided here is which callback a request belongs to, and who may ask.

use std::borrow::Cow;
use std::io;

use crate::protocol::http::{
    self, Exchange, HeaderStorage, HttpError, ParsedHead, Phase, RequestHead, Status, upgrade,
};
use crate::reactor::close::{Close, CloseCause, Deadline};
use crate::reactor::config::ConnectionOptions;
use crate::reactor::connection::Connection;
use crate::reactor::connection::table::FastMessages;
use crate::reactor::id::ConnId;
use crate::reactor::protocol::Protocol;
use crate::reactor::reactor::Reactor;
use crate::reactor::reactor::{Cx, Handler, Received};
use crate::reactor::transport::listener::Address;
use crate::session::websocket::{Handshake, finish_without_close};

use super::origins::{OriginCheck, Origins, preflight};
use super::path::{Parameters, Pattern};
use super::reply::Reply;
use super::request::Request;
use super::websocket::{WebSocketRoute, upgrade_required_reply};

/// A body that comes at least this fast, in bytes per second, does not run out of time.
const BODY_BYTES_PER_SECOND: u64 = 16 * 1024;

type OnRequest<S> = Box<dyn FnMut(&mut Request<'_, '_, S>)>;
type Guard<S> = Box<dyn FnMut(&mut Request<'_, '_, S>) -> Result<(), Reply>>;

enum Endpoint<S> {
    Request {
        method: Cow<'static, str>,
        call: OnRequest<S>,
    },
    WebSocket(Box<WebSocketRoute<S>>),
}

struct Route<S> {
    pattern: Pattern,
    endpoint: Endpoint<S>,
}

/// The routes of one listener, or of several that share them by being set up alike.
pub struct Router<S> {
    /// `http` and the real address.
    name: String,
    /// The route of the request that is being handled, for log lines.
    current_route: Option<usize>,
    routes: Vec<Route<S>>,
    options: ConnectionOptions,
    options_index: u16,
    pub(crate) origin_check: OriginCheck,
    guard: Option<Guard<S>>,
    /// The pattern of a request that matches no route.
    unmatched: Pattern,
    limits: http::Limits,
}

impl<S: 'static> Router<S> {
    pub(crate) fn new(options: ConnectionOptions, limits: http::Limits) -> Router<S> {
        Router {
            name: String::new(),
            current_route: None,
            routes: Vec::new(),
            options,
            options_index: 0,
            origin_check: OriginCheck::default(),
            guard: None,
            unmatched: Pattern::new("*"),
            limits,
        }
    }

    /// Limits, watermarks, policy and deadlines of this listener's connections; they start as the
    /// reactor's, and WebSocket routes made from now on start as these.
    pub fn options(&mut self) -> &mut ConnectionOptions {
        &mut self.options
    }

    /// Which pages may use this router. Refused requests get 403 and the end of the connection,
    /// allowed ones the headers of cross-origin sharing.
    pub fn origins(&mut self, origins: Origins) {
        self.origin_check.origins = origins;
    }

    /// May refuse any request before its route sees it, upgrades too. With status 400 or 403 that
    /// ends the connection.
    pub fn guard(
        &mut self,
        guard: impl FnMut(&mut Request<'_, '_, S>) -> Result<(), Reply> + 'static,
    ) {
        self.guard = Some(Box::new(guard));
    }

    /// A route for GET, and for HEAD, which gets the same answer without its body.
    ///
    /// `path` is made of literal segments, `:name` for one segment, and `*` at the end for the
    /// rest; routes are tried in the order they were added.
    pub fn get<R>(&mut self, path: &str, call: impl FnMut(&mut Request<'_, '_, S>) -> R + 'static) {
        self.method("GET", path, call);
    }

    /// A route for POST; see [`get`](Self::get).
    pub fn post<R>(
        &mut self,
        path: &str,
        call: impl FnMut(&mut Request<'_, '_, S>) -> R + 'static,
    ) {
        self.method("POST", path, call);
    }

    /// A route for one method, or for every one where `method` is `*`. Of several routes that fit,
    /// the one that was added first is taken.
    pub fn method<R>(
        &mut self,
        method: &'static str,
        path: &str,
        mut call: impl FnMut(&mut Request<'_, '_, S>) -> R + 'static,
    ) {
        let call: OnRequest<S> = Box::new(move |request| {
            call(request);
        });
        self.routes.push(Route {
            pattern: Pattern::new(path),
            endpoint: Endpoint::Request {
                method: Cow::Borrowed(method),
                call,
            },
        });
    }

    /// A route for WebSockets; see [`get`](Self::get) for its path. `setup` names the callbacks
    /// and runs once.
    pub fn websocket(&mut self, path: &str, setup: impl FnOnce(&mut WebSocketRoute<S>)) {
        let mut route = WebSocketRoute::new(self.options.clone());
        setup(&mut route);
        self.routes.push(Route {
            pattern: Pattern::new(path),
            endpoint: Endpoint::WebSocket(Box::new(route)),
        });
    }

    /// Keeps the options of the router and of its routes with the reactor, once all routes are there.
    /// Returns the index of the router's own.
    ///
    /// # Errors
    ///
    /// When the setup chose options that are not valid together.
    pub(crate) fn seal(&mut self, reactor: &mut Reactor<S>) -> io::Result<u16> {
        self.options_index = reactor.add_options(self.options.clone())?;
        for route in &mut self.routes {
            if let Endpoint::WebSocket(route) = &mut route.endpoint {
                route.options_index = reactor.add_options(route.callbacks.options.clone())?;
                route.callbacks.seal();
            }
        }
        Ok(self.options_index)
    }

    /// Sets the address that log lines name.
    pub(crate) fn set_address(&mut self, address: &Address) {
        self.name = format!("http {address}");
    }

    // ── requests ─────────────────────────────────────────────────────────────────────────────

    // Not inlined: it takes kilobytes of stack.
    #[inline(never)]
    fn receive_requests(&mut self, cx: &mut Cx<'_, S>, id: ConnId, input: &[u8]) -> usize {
        let mut rest = input;
        self.current_route = None;
        while !cx.reactor.is_stopped() {
            if !cx.reactor.is_open(id) {
                return input.len();
            }
            // One read may bring hundreds of requests, and each answer may be large.
            if !cx.reactor.may_read(id) {
                break;
            }
            let Some(exchange) = cx.reactor.exchange(id) else {
                break;
            };
            let outcome = match exchange.phase() {
                Phase::Head if rest.is_empty() => break,
                Phase::Head => self.receive_head(cx, id, &mut rest),
                Phase::Body => self.receive_body(cx, id, &mut rest),
                // The next request is looked at when the answer to this one is complete.
                Phase::Reply | Phase::Stream => break,
                Phase::End => return input.len(),
            };
            match outcome {
                Ok(true) => cx.reactor.charge_message(id),
                Ok(false) => break,
                Err(error) => {
                    self.fail_request(cx, id, error);
                    return input.len();
                }
            }
        }
        input.len() - rest.len()
    }

    /// `Ok(true)` when a request was begun, `Ok(false)` when more bytes are needed.
    fn receive_head(
        &mut self,
        cx: &mut Cx<'_, S>,
        id: ConnId,
        rest: &mut &[u8],
    ) -> Result<bool, HttpError> {
        let mut storage = HeaderStorage::new();
        let input = *rest;
        let Some(parsed) = http::parse_request_head(input, &mut storage, &self.limits)? else {
            // From the first byte of a request on, its head has a deadline. The first request's
            // has run since the connection was made.
            if cx.reactor.waits_for(id) == Some(Deadline::KeepAlive) {
                let timeout = cx.reactor.config().head_timeout;
                cx.reactor.set_deadline(id, Deadline::Head, timeout);
            }
            return Ok(false);
        };
        *rest = &input[parsed.bytes..];
        cx.reactor.stats_mut().requests += 1;
        cx.reactor.clear_deadline(id);
        if cx.reactor.is_draining()
            && let Some(exchange) = cx.reactor.exchange(id)
        {
            exchange.close_after();
        }
        let Some(exchange) = cx.reactor.exchange(id) else {
            return Ok(false);
        };
        exchange.begin(&parsed);
        // Before its body: what a page may not ask for is not read.
        match self
            .origin_check
            .check(&parsed.head, &self.name, cx.reactor.now())
        {
            Ok(headers) => {
                if let Some(exchange) = cx.reactor.exchange(id) {
                    exchange.set_extra_headers(headers);
                }
            }
            Err(reply) => {
                send_refusal(cx, id, reply);
                return Ok(true);
            }
        }
        match parsed.body.length() {
            Some(0) => self.handle_request(cx, id, &parsed, &[]),
            Some(length) if length <= rest.len() as u64 => {
                parsed.body.check(&self.limits)?;
                let (body, after) = rest.split_at(length as usize);
                *rest = after;
                self.handle_request(cx, id, &parsed, body);
            }
            _ => {
                parsed.body.check(&self.limits)?;
                if let Some(exchange) = cx.reactor.exchange(id) {
                    exchange.await_body(&input[..parsed.bytes], parsed.body);
                }
                if parsed.expects_continue {
                    cx.reactor.queue_reply(id, b"HTTP/1.1 100 Continue\r\n\r\n");
                }
                let timeout = cx.reactor.config().body_timeout;
                cx.reactor.set_deadline(id, Deadline::Body, timeout);
            }
        }
        Ok(true)
    }

    fn receive_body(
        &mut self,
        cx: &mut Cx<'_, S>,
        id: ConnId,
        rest: &mut &[u8],
    ) -> Result<bool, HttpError> {
        let Some(exchange) = cx.reactor.exchange(id) else {
            return Ok(false);
        };
        let before = exchange.body_bytes() / BODY_BYTES_PER_SECOND;
        let complete = exchange.receive_body(rest, &self.limits)?;
        let earned = exchange.body_bytes() / BODY_BYTES_PER_SECOND - before;
        let Some((head, body)) = complete else {
            cx.reactor.extend_deadline(id, earned as u32);
            return Ok(false);
        };
        let mut storage = HeaderStorage::new();
        // It was parsed before, and is now parsed again instead of being kept taken apart.
        if let Some(parsed) = http::parse_request_head(&head, &mut storage, &self.limits)? {
            self.handle_request(cx, id, &parsed, &body);
        }
        Ok(true)
    }

    fn handle_request(
        &mut self,
        cx: &mut Cx<'_, S>,
        id: ConnId,
        parsed: &ParsedHead<'_>,
        body: &[u8],
    ) {
        let head = &parsed.head;
        let upgrade = match upgrade::check(parsed) {
            Ok(upgrade) => upgrade,
            Err(refusal) => return send_refusal(cx, id, refusal_reply(refusal)),
        };
        let (found, allowed) = find_route(&self.routes, head, upgrade.is_some());
        self.current_route = found.as_ref().map(|(index, _)| *index);
        let (pattern, parameters, endpoint) = match found {
            Some((index, parameters)) => {
                let Route { pattern, endpoint } = &mut self.routes[index];
                (&*pattern, parameters, Some((index, endpoint)))
            }
            None => (&self.unmatched, Parameters::default(), None),
        };
        let mut request = Request {
            state: cx.state,
            reactor: cx.reactor,
            id,
            head,
            pattern,
            parameters,
            body,
            is_answered: false,
        };
        if let Some(guard) = &mut self.guard {
            request.reactor.note_callback("guard");
            let outcome = guard(&mut request);
            if request.is_answered || request.reactor.is_stopped() {
                return;
            }
            if let Err(reply) = outcome {
                return send_refusal(cx, id, reply);
            }
        }
        match endpoint {
            None => {
                request.reply(no_route_reply(head, &allowed));
            }
            Some((_, Endpoint::Request { call, .. })) => call_route(&mut request, call),
            Some((index, Endpoint::WebSocket(route))) => match upgrade {
                Some(upgrade) => open_websocket(request, route, index as u16, &upgrade),
                None => {
                    request.reply(upgrade_required_reply());
                }
            },
        }
    }

    fn fail_request(&self, cx: &mut Cx<'_, S>, id: ConnId, error: HttpError) {
        let stats = cx.reactor.stats_mut();
        let misdirected = match error {
            HttpError::TlsOnPlainPort => Some((
                &mut stats.tls_on_plain_port,
                "somebody speaks TLS, which this port does not",
            )),
            HttpError::ProxyHeader => Some((
                &mut stats.proxy_headers,
                "a proxy sends PROXY headers, which this port does not read",
            )),
            _ => None,
        };
        if let Some((count, why)) = misdirected {
            *count += 1;
            if *count == 1 {
                log::warn!("{}: {why}", self.name);
            }
        }
        log::debug!("conn {id} {}: {error}", cx.reactor.peer(id));
        cx.reactor.fail(id, CloseCause::Http(error));
    }

    fn websocket_mut<'s>(
        &'s mut self,
        cx: &Cx<'_, S>,
        id: ConnId,
    ) -> Option<&'s mut WebSocketRoute<S>> {
        let connection = cx.reactor.connection(id)?;
        match connection.protocol() {
            Protocol::WebSocket(_) => self.websocket_at(connection.route()),
            _ => None,
        }
    }

    #[inline]
    fn websocket_at(&mut self, route: u16) -> Option<&mut WebSocketRoute<S>> {
        match self
            .routes
            .get_mut(usize::from(route))
            .map(|route| &mut route.endpoint)
        {
            Some(Endpoint::WebSocket(route)) => Some(route),
            Some(Endpoint::Request { .. }) | None => None,
        }
    }
}

impl<S: 'static> Router<S> {
    /// The WebSocket route of a connection whose `on_open` was called.
    fn opened_websocket_mut<'s>(
        &'s mut self,
        cx: &Cx<'_, S>,
        id: ConnId,
    ) -> Option<&'s mut WebSocketRoute<S>> {
        let is_opened = cx.reactor.connection(id)?.is_opened();
        is_opened.then(|| self.websocket_mut(cx, id)).flatten()
    }
}

fn call_route<S: 'static>(request: &mut Request<'_, '_, S>, call: &mut OnRequest<S>) {
    request.reactor.note_callback("request");
    call(request);
    if !request.is_answered && !request.reactor.is_stopped() {
        log::error!(
            "conn {}: {} {} was neither answered nor taken for later",
            request.id,
            request.method(),
            request.pattern.as_str()
        );
        request.reply(Status::INTERNAL_SERVER_ERROR);
    }
}

fn open_websocket<S: 'static>(
    mut request: Request<'_, '_, S>,
    route: &mut WebSocketRoute<S>,
    index: u16,
    upgrade: &upgrade::Upgrade<'_>,
) {
    if request.reactor.is_draining() {
        request.reply(draining_reply());
        return;
    }
    if let Some(before_open) = &mut route.before_open {
        request.reactor.note_callback("before_open");
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
        parameters,
        ..
    } = request;
    let headers = reactor
        .exchange(id)
        .map_or_else(Vec::new, |exchange| exchange.take_extra_headers());
    reactor.set_route(id, index);
    let handshake = Handshake {
        path: head.path(),
        query: head.query(),
        headers: head.headers,
        subprotocol: None,
        parameter: &|name| pattern.value(&parameters, name),
    };
    let cx = &mut Cx { state, reactor };
    route.open(cx, id, upgrade, handshake, &headers);
}

/// The route for a request; where there is none, the methods its path has.
fn find_route<'h, S>(
    routes: &[Route<S>],
    head: &RequestHead<'h>,
    wants_upgrade: bool,
) -> (Option<(usize, Parameters<'h>)>, Vec<String>) {
    let mut allowed: Vec<String> = Vec::new();
    let mut plain_websocket = None;
    for (index, route) in routes.iter().enumerate() {
        let Some(parameters) = route.pattern.matches(head.path()) else {
            continue;
        };
        match &route.endpoint {
            Endpoint::WebSocket(_) if wants_upgrade => return (Some((index, parameters)), allowed),
            Endpoint::WebSocket(_) if matches!(head.method, "GET" | "HEAD") => {
                plain_websocket = plain_websocket.or(Some((index, parameters)))
            }
            Endpoint::WebSocket(_) => add_method("GET", &mut allowed),
            Endpoint::Request { method, .. } => {
                let fits = *method == head.method
                    || *method == "*"
                    || (*method == "GET" && head.method == "HEAD");
                if fits {
                    return (Some((index, parameters)), allowed);
                }
                add_method(method, &mut allowed);
            }
        }
    }
    (plain_websocket, allowed)
}

fn add_method(method: &str, allowed: &mut Vec<String>) {
    if !allowed.iter().any(|known| known == method) {
        allowed.push(method.to_owned());
    }
}

fn no_route_reply(head: &RequestHead<'_>, allowed: &[String]) -> Reply {
    // Neither names a path that could be missing.
    let is_about_the_server = head.path() == "*" || head.method == "CONNECT";
    if allowed.is_empty() && !is_about_the_server {
        return Status::NOT_FOUND.into();
    }
    let mut methods = allowed.join(", ");
    if allowed.iter().any(|method| method == "GET") {
        methods.push_str(", HEAD");
    }
    methods.push_str(if methods.is_empty() {
        "OPTIONS"
    } else {
        ", OPTIONS"
    });
    let reply: Reply = if head.method == "OPTIONS" {
        Status::NO_CONTENT.into()
    } else {
        Status::METHOD_NOT_ALLOWED.into()
    };
    let shared = preflight(head, &methods);
    reply
        .with_extra_headers(&[("Allow", methods)])
        .with_extra_headers(&shared)
}

/// Refuses a request that no route has seen. Who sends what must not be, or what it must not, has
/// nothing more to ask for on this connection; with another status, such as 401 or 426, it may know
/// what to do next.
fn send_refusal<S: 'static>(cx: &mut Cx<'_, S>, id: ConnId, reply: Reply) {
    if matches!(reply.status, Status::BAD_REQUEST | Status::FORBIDDEN)
        && let Some(exchange) = cx.reactor.exchange(id)
    {
        exchange.close_after();
    }
    cx.reactor.send_reply(id, reply);
}

fn refusal_reply(refusal: upgrade::Refusal) -> Reply {
    let reply = if refusal.status() == Status::UPGRADE_REQUIRED {
        upgrade_required_reply()
    } else {
        refusal.status().into()
    };
    reply.body(format!("{refusal}\n"))
}

fn draining_reply() -> Reply {
    let reply: Reply = Status::SERVICE_UNAVAILABLE.into();
    reply.with_extra_headers(&[("Retry-After", "1".to_owned())])
}

impl<S: 'static> Handler<S> for Router<S> {
    fn name(&self, connection: Option<&Connection>) -> String {
        let route = match connection {
            Some(connection) if matches!(connection.protocol(), Protocol::WebSocket(_)) => {
                Some(usize::from(connection.route()))
            }
            _ => self.current_route,
        };
        match route.and_then(|index| self.routes.get(index)) {
            Some(Route {
                pattern,
                endpoint: Endpoint::Request { method, .. },
            }) => format!("{} {method} {}", self.name, pattern.as_str()),
            Some(Route { pattern, .. }) => format!("{} websocket {}", self.name, pattern.as_str()),
            None => self.name.clone(),
        }
    }

    fn open(&mut self, cx: &mut Cx<'_, S>, id: ConnId) {
        let config = cx.reactor.config();
        let (requests_max, timeout) = (config.requests_per_connection_max, config.head_timeout);
        let protocol = Protocol::Http(Box::new(Exchange::new(requests_max)));
        cx.reactor
            .set_protocol(id, protocol, Some(self.options_index));
        cx.reactor.set_deadline(id, Deadline::Head, timeout);
    }

    #[inline]
    fn receive(&mut self, cx: &mut Cx<'_, S>, id: ConnId, input: &mut [u8]) -> usize {
        if let Some(route) = self.websocket_mut(cx, id) {
            return route.callbacks.receive(cx, id, input);
        }
        match cx.reactor.protocol(id) {
            Some(Protocol::Http(_)) => {}
            // What a client says on an event stream means nothing.
            Some(_) | None => {
                return input.len();
            }
        }
        let used = self.receive_requests(cx, id, input);
        // Bytes behind an upgrade request are the WebSocket's first.
        match self.websocket_mut(cx, id) {
            Some(route) if used < input.len() => {
                used + route.callbacks.receive(cx, id, &mut input[used..])
            }
            _ => used,
        }
    }

    #[inline]
    fn receive_fast(
        &mut self,
        cx: &mut Cx<'_, S>,
        messages: FastMessages,
        input: &mut [u8],
    ) -> Received {
        match self.websocket_at(messages.route) {
            Some(route) => route.callbacks.receive_fast(cx, messages, input),
            None => Received::all(input.len()),
        }
    }

    fn end(&mut self, cx: &mut Cx<'_, S>, id: ConnId) {
        match cx.reactor.protocol(id) {
            Some(Protocol::WebSocket(_)) => finish_without_close(cx.reactor, id),
            Some(_) => cx.reactor.finish(id, Close::new(CloseCause::Peer), false),
            None => {}
        }
    }

    fn below_low_mark(&mut self, cx: &mut Cx<'_, S>, id: ConnId) {
        if let Some(route) = self.websocket_mut(cx, id) {
            route.callbacks.below_low_mark(cx, id);
        }
    }

    fn due(&mut self, cx: &mut Cx<'_, S>, id: ConnId, deadline: Deadline) {
        if let Some(route) = self.websocket_mut(cx, id) {
            return route.callbacks.due(cx, id, deadline);
        }
        match deadline {
            Deadline::Heartbeat => {
                cx.reactor.send_stream_heartbeat(id);
            }
            // The answer is still on its way, and has a deadline of its own.
            Deadline::KeepAlive if 0 < cx.reactor.queued_bytes(id) => {
                let timeout = cx.reactor.config().keep_alive_timeout;
                cx.reactor.set_deadline(id, Deadline::KeepAlive, timeout);
            }
            Deadline::Head | Deadline::KeepAlive => {
                // A client that has sent nothing has no request to be answered.
                if deadline == Deadline::Head && cx.reactor.has_unconsumed(id) {
                    cx.reactor.fail(id, CloseCause::TimedOut(deadline));
                } else {
                    cx.reactor
                        .finish(id, Close::new(CloseCause::TimedOut(deadline)), true);
                }
            }
            Deadline::Body
            | Deadline::Reply
            | Deadline::Connect
            | Deadline::Idle
            | Deadline::Pong
            | Deadline::Write
            | Deadline::Close => {
                cx.reactor.fail(id, CloseCause::TimedOut(deadline));
            }
        }
    }

    fn closed(&mut self, cx: &mut Cx<'_, S>, id: ConnId, close: &Close) {
        if let Some(route) = self.opened_websocket_mut(cx, id) {
            route.callbacks.closed(cx, id, close);
        }
    }

    fn failed(&mut self, cx: &mut Cx<'_, S>, id: ConnId, cause: &CloseCause) {
        if let Some(route) = self.opened_websocket_mut(cx, id) {
            route.callbacks.failed(cx, id, cause);
        }
    }
}
