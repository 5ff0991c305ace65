//! HTTP with routes: requests, upgrades and streams on one listener.
//!
//! One [`Router`] per listener holds the routes and their callbacks, so that a connection needs only the
//! number of its route. The connection holds the state of its request, an [`Exchange`]. The rules of HTTP
//! are in `protocol::http`. This file decides to which callback a request goes, and which requests are
//! refused before that.
//!
//! The steps of a request:
//!
//! ```text
//! receive_requests ── receive_head ───────────┬── handle_request ──┬── call_route
//!   one turn of a     parse, check the origin │   find the route,  └── open_websocket
//!   loop each                                 │   ask the guard          before_open, then 101
//!                  ── receive_body ───────────┘
//!                     until the body is complete
//! ```
//!
//! An answer may come in a later turn. Until then the connection is not read, so later requests of the
//! same client wait, and answers go out in the order of the requests (RFC 9112, section 9.3.2).

use std::borrow::Cow;
use std::io;
use std::rc::Rc;

use crate::protocol::http::{
    self, Accept, Check, Deferred, Exchange, ExtraHeaders, HeaderStorage, HttpError, OnAnswer,
    ParsedHead, Phase, RequestHead, Status, upgrade,
};
use crate::reactor::SetupResult;
use crate::reactor::close::{Close, CloseCause, Deadline};
use crate::reactor::config::ConnectionOptions;
use crate::reactor::connection::Connection;
use crate::reactor::connection::ready::FastMessages;
use crate::reactor::id::ConnId;
use crate::reactor::outcome::Outcome;
use crate::reactor::protocol::Protocol;
use crate::reactor::reactor::Reactor;
use crate::reactor::reactor::{Cx, Handler, Received};
use crate::reactor::transport::listener::Address;
use crate::session::handler::Handshake;
use crate::session::websocket::finish_without_close;

use super::answered::{self, AfterReply, Answered};
use super::origins::{OriginCheck, Origins, preflight};
use super::path::Pattern;
use super::reply::Reply;
use super::request::Request;
use super::websocket::{WebSocketRoute, upgrade_required_reply};

/// A body that comes at least this fast, in bytes per second, does not run out of time. A fixed deadline
/// would end large uploads over slow lines; no deadline would let a client hold a connection with a byte
/// an hour.
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
    /// `http` and the real address, for log lines.
    name: String,
    /// The route of the request that was handled last, for log lines. Lines about slow callbacks and panics
    /// are written right behind the callback, so they name the right route.
    current_route: Option<usize>,
    routes: Vec<Route<S>>,
    /// The first error of a route's setup.
    setup_error: Option<io::Error>,
    options: ConnectionOptions,
    options_index: u16,
    pub(crate) origin_check: OriginCheck,
    guard: Option<Guard<S>>,
    after_reply: Option<AfterReply>,
    default_headers: ExtraHeaders,
    /// A check for requests whose body has not come with their head, before it is read.
    before_body: Option<Box<dyn FnMut(&mut Request<'_, '_, S>)>>,
    /// The pattern of a request that matches no route. The guard sees such requests too, and `Request`
    /// borrows a pattern.
    unmatched: Pattern,
    /// A copy of the reactor's limits, because the reactor is borrowed mutably while a body is read into its
    /// exchange.
    limits: http::Limits,
}

impl<S: 'static> Router<S> {
    pub(crate) fn new(options: ConnectionOptions, limits: http::Limits) -> Router<S> {
        Router {
            name: String::new(),
            current_route: None,
            routes: Vec::new(),
            setup_error: None,
            options,
            options_index: 0,
            origin_check: OriginCheck::default(),
            guard: None,
            after_reply: None,
            default_headers: Vec::new(),
            before_body: None,
            unmatched: Pattern::of_no_route(),
            limits,
        }
    }

    /// Limits, watermarks, policy and deadlines of this listener's connections; they start as the
    /// reactor's, and WebSocket routes made from now on start as these.
    pub fn options(&mut self) -> &mut ConnectionOptions {
        &mut self.options
    }

    /// Sets which pages may use this router. A page of another origin gets 403, and its connection is
    /// closed. Answers to allowed pages get the headers of cross-origin sharing.
    ///
    /// Source: Fetch, "CORS protocol".
    pub fn origins(&mut self, origins: Origins) {
        self.origin_check.origins = origins;
    }

    /// Sets a check that may refuse any request before its route sees it, upgrades too. Runs for requests
    /// without a route as well. A refusal with status 400 or 403 closes the connection.
    ///
    /// A body that has not come with the head is read after the check, so that none is read for a request
    /// that is refused: [`Request::body`] is empty then. A refusal closes the connection in that case.
    ///
    /// A check that needs an answer from elsewhere calls [`Request::decide_later`]. An error of type
    /// [`Status`] becomes a [`Reply`] by `?` or `.into()`.
    pub fn guard(
        &mut self,
        guard: impl FnMut(&mut Request<'_, '_, S>) -> Result<(), Reply> + 'static,
    ) {
        self.guard = Some(Box::new(guard));
    }

    /// Sets a check for requests whose body has not come with their head, before it is read. It answers those
    /// that the route itself would refuse, and no others, because requests with their body do not pass it.
    #[cfg_attr(not(feature = "hub"), expect(dead_code, reason = "the hub needs it"))]
    pub(crate) fn before_body(&mut self, check: impl FnMut(&mut Request<'_, '_, S>) + 'static) {
        self.before_body = Some(Box::new(check));
    }

    /// Adds a header to every answer that has none of this name: to answers of routes and of guards, to
    /// refusals, and to the 101 of a WebSocket. The answer to bytes that are no request does not get it.
    ///
    /// # Panics
    ///
    /// Where [`Reply::try_header`] returns an error.
    pub fn default_header(&mut self, name: &'static str, value: impl Into<Cow<'static, str>>) {
        let value = value.into();
        if let Err(error) = Reply::check_header(name, &value) {
            panic!("the header {name:?}: {value:?} cannot be sent: {error}");
        }
        self.default_headers.push((name, value));
    }

    /// Sets what is called with each answer, for example to log it: when the answer is queued whole, when a
    /// streamed answer or an event stream begins, and when a WebSocket is opened. A connection whose bytes are not HTTP has
    /// no request and so no call.
    pub fn after_reply(&mut self, call: impl Fn(&Answered<'_>) + 'static) {
        self.after_reply = Some(Rc::new(call));
    }

    /// Makes the answer to this request, also a later one, call what was set by
    /// [`after_reply`](Self::after_reply).
    fn note_request(&self, cx: &mut Cx<'_, S>, id: ConnId, head: &RequestHead<'_>) {
        let Some(after_reply) = &self.after_reply else {
            return;
        };
        let (now, peer) = (cx.reactor.now(), cx.reactor.peer(id));
        let on_answer = answered::on_answer(after_reply, peer, head, now);
        if let Some(exchange) = cx.reactor.exchange(id) {
            exchange.set_on_answer(on_answer);
        }
    }

    /// A route for GET, and for HEAD, which gets the same answer without its body.
    ///
    /// `path` is made of literal segments, `:name` for one segment, and `*` at the end for the
    /// rest, which may be empty: `/files/*` also takes `/files`. [`Request::param`] returns both. Routes are
    /// tried in the order they were added.
    pub fn get<R: Outcome>(
        &mut self,
        path: &str,
        call: impl FnMut(&mut Request<'_, '_, S>) -> R + 'static,
    ) {
        self.method("GET", path, call);
    }

    /// A route for POST; see [`get`](Self::get).
    pub fn post<R: Outcome>(
        &mut self,
        path: &str,
        call: impl FnMut(&mut Request<'_, '_, S>) -> R + 'static,
    ) {
        self.method("POST", path, call);
    }

    /// A route for one method, or for every one where `method` is `*`. Of several routes that fit,
    /// the one that was added first is taken.
    pub fn method<R: Outcome>(
        &mut self,
        method: &'static str,
        path: &str,
        mut call: impl FnMut(&mut Request<'_, '_, S>) -> R + 'static,
    ) {
        let call: OnRequest<S> = Box::new(move |request| {
            if let Some(error) = call(request).into_error() {
                request.answer_error(error);
            }
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
    ///
    /// An error of `setup` is the error of the [`Reactor::http`] around it.
    pub fn websocket<R: SetupResult>(
        &mut self,
        path: &str,
        setup: impl FnOnce(&mut WebSocketRoute<S>) -> R,
    ) {
        let mut route = WebSocketRoute::new(self.options.clone());
        if let Err(error) = setup(&mut route).into_result() {
            self.setup_error.get_or_insert(error);
        }
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
    /// When the setup chose options that are not valid together, and the error of a route's setup.
    pub(crate) fn seal(&mut self, reactor: &mut Reactor<S>) -> io::Result<u16> {
        if let Some(error) = self.setup_error.take() {
            return Err(error);
        }
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

    /// Handles the requests at the front of `input`; returns how many bytes were consumed.
    // Not inlined: the storage for headers takes kilobytes of stack, and `receive` runs for each message
    // of a WebSocket as well.
    #[inline(never)]
    fn receive_requests(&mut self, cx: &mut Cx<'_, S>, id: ConnId, input: &[u8]) -> usize {
        let mut rest = input;
        // Until a route is found, a log line must not name the route of an earlier request.
        self.current_route = None;
        while !cx.reactor.is_stopped() {
            // A callback may have closed the connection. The rest of its input is dropped.
            if !cx.reactor.is_open(id) {
                return input.len();
            }
            // One read may bring hundreds of requests, and each answer may be large. So the pause of a full
            // queue, or of a used budget, is asked for before each request and not only before each read.
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
                // The next request waits until the answer to this one is complete: answers go out in the
                // order of the requests. Source: RFC 9112, section 9.3.2.
                Phase::Reply | Phase::Stream => break,
                // The connection closes after the answer. Its client was told so, and bytes behind the
                // last request have no meaning. Source: RFC 9112, section 9.6.
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

    /// Takes a head off the front of `rest`, and handles the request if its whole body is there too.
    ///
    /// `Ok(true)` when a head was taken, `Ok(false)` when more bytes are needed.
    ///
    /// # Errors
    ///
    /// When the bytes are not a request that this server accepts. The connection must end.
    fn receive_head(
        &mut self,
        cx: &mut Cx<'_, S>,
        id: ConnId,
        rest: &mut &[u8],
    ) -> Result<bool, HttpError> {
        let mut storage = HeaderStorage::new();
        let input = *rest;
        let Some(parsed) = http::parse_request_head(input, &mut storage, &self.limits)? else {
            // A kept-alive connection may be silent for long, but a head that has begun must end soon: a
            // client that sends one byte a minute would hold its place for hours (Slowloris). The deadline
            // of the first request has run since the connection was made, and is not set again.
            if cx.reactor.waits_for(id) == Some(Deadline::KeepAlive) {
                let timeout = cx.reactor.config().head_timeout;
                cx.reactor.set_deadline(id, Deadline::Head, timeout);
            }
            return Ok(false);
        };
        *rest = &input[parsed.bytes..];
        cx.reactor.stats_mut().requests += 1;
        // The head is complete. Each way on from here sets its own deadline, for the body or the answer.
        cx.reactor.clear_deadline(id);
        // The answer says `Connection: close`, so that the client sends its next request elsewhere.
        if cx.reactor.is_draining()
            && let Some(exchange) = cx.reactor.exchange(id)
        {
            exchange.close_after();
        }
        let Some(exchange) = cx.reactor.exchange(id) else {
            return Ok(false);
        };
        exchange.begin(&parsed);
        exchange.set_extra_headers(self.default_headers.clone());
        self.note_request(cx, id, &parsed.head);
        cx.reactor.admit_forwarded(id, parsed.head.headers)?;
        // Before the body, so that a page that may not use the server cannot make it read one.
        match self
            .origin_check
            .check(&parsed.head, &self.name, cx.reactor.now())
        {
            Ok(mut headers) => {
                if let Some(exchange) = cx.reactor.exchange(id) {
                    headers.extend_from_slice(&self.default_headers);
                    exchange.set_extra_headers(headers);
                }
            }
            Err(reply) => {
                send_refusal(cx, id, reply);
                return Ok(true);
            }
        }
        match parsed.body.length() {
            Some(0) => self.handle_request(cx, id, &parsed, &input[..parsed.bytes], &[], None),
            // The whole body came with the head, as most do: the callback borrows it from the input, and it
            // is not copied.
            Some(length) if length <= rest.len() as u64 => {
                parsed.body.check(&self.limits)?;
                let (body, after) = rest.split_at(length as usize);
                *rest = after;
                self.handle_request(cx, id, &parsed, &input[..parsed.bytes], body, None);
            }
            _ => {
                // A length above the limit is refused now. With `Expect: 100-continue` the client then sends
                // no body at all. Source: RFC 9110, section 10.1.1.
                parsed.body.check(&self.limits)?;
                if self.passes_before_body(cx, id, &parsed, &input[..parsed.bytes]) {
                    await_body(cx, id, &parsed, &input[..parsed.bytes]);
                }
            }
        }
        Ok(true)
    }

    /// Whether a request may send its body. If not, it was answered, or its guard decides later: a body that
    /// will be refused is not read, and `100 Continue` is not sent for it.
    #[inline(never)]
    fn passes_before_body(
        &mut self,
        cx: &mut Cx<'_, S>,
        id: ConnId,
        parsed: &ParsedHead<'_>,
        head_bytes: &[u8],
    ) -> bool {
        // An answer from here on ends the connection, because its body would be read as the next request.
        if let Some(exchange) = cx.reactor.exchange(id) {
            exchange.leave_body();
        }
        let head = &parsed.head;
        let upgrade = match upgrade::check(parsed) {
            Ok(upgrade) => upgrade,
            Err(refusal) => {
                send_refusal(cx, id, refusal_reply(refusal));
                return false;
            }
        };
        let found = find_route(&self.routes, head, upgrade.is_some());
        let allowed = match found {
            Some(_) => Vec::new(),
            None => allowed_methods(&self.routes, head),
        };
        self.current_route = found;
        let pattern = found.map_or(&self.unmatched, |index| &self.routes[index].pattern);
        let mut request = Request {
            state: cx.state,
            reactor: cx.reactor,
            id,
            head,
            pattern,
            body: &[],
            is_answered: false,
            head_bytes,
            check: None,
            accept: Accept::new(),
        };
        if let Some(guard) = &mut self.guard {
            request.reactor.note_callback("guard");
            request.check = Some(Check::Guard);
            let outcome = guard(&mut request);
            request.check = None;
            if request.is_answered || request.reactor.is_stopped() {
                return false;
            }
            if let Err(reply) = outcome {
                send_refusal(cx, id, reply);
                return false;
            }
        }
        let endpoint = found.map(|index| &self.routes[index].endpoint);
        let refusal = match endpoint {
            None => Some(no_route_reply(head, &allowed)),
            Some(Endpoint::WebSocket(_)) if upgrade.is_none() => Some(upgrade_required_reply()),
            Some(Endpoint::WebSocket(_) | Endpoint::Request { .. }) => None,
        };
        if let Some(reply) = refusal {
            request.reply(reply);
        } else if let Some(check) = &mut self.before_body {
            request.reactor.note_callback("before_body");
            check(&mut request);
        }
        !request.is_answered && !request.reactor.is_stopped()
    }

    /// Takes bytes of a body off the front of `rest`, and handles the request when the body is complete.
    ///
    /// Results and errors as [`receive_head`](Self::receive_head).
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
            // The deadline moves by the seconds that the new bytes have earned, and not to a new period
            // after each read, which one byte would be enough for.
            cx.reactor.extend_deadline(id, earned as u32);
            return Ok(false);
        };
        let mut storage = HeaderStorage::new();
        // The head was parsed when it came. Parsing it again costs less than a form that owns its strings,
        // since most requests have no body or bring it along.
        if let Some(parsed) = http::parse_request_head(&head, &mut storage, &self.limits)? {
            // The guard was asked before the body.
            let passed = Some((Check::Guard, Accept::new()));
            self.handle_request(cx, id, &parsed, &head, &body, passed);
        }
        Ok(true)
    }

    /// Finds the route of a complete request, asks the guard, and calls the route.
    fn handle_request(
        &mut self,
        cx: &mut Cx<'_, S>,
        id: ConnId,
        parsed: &ParsedHead<'_>,
        head_bytes: &[u8],
        body: &[u8],
        accepted: Option<(Check, Accept)>,
    ) {
        let head = &parsed.head;
        let passed = accepted.as_ref().map(|(check, _)| *check);
        let upgrade = match upgrade::check(parsed) {
            Ok(upgrade) => upgrade,
            Err(refusal) => return send_refusal(cx, id, refusal_reply(refusal)),
        };
        let found = find_route(&self.routes, head, upgrade.is_some());
        let allowed = match found {
            Some(_) => Vec::new(),
            None => allowed_methods(&self.routes, head),
        };
        self.current_route = found;
        let (pattern, endpoint) = match found {
            Some(index) => {
                let Route { pattern, endpoint } = &mut self.routes[index];
                (&*pattern, Some((index, endpoint)))
            }
            None => (&self.unmatched, None),
        };
        let mut request = Request {
            state: cx.state,
            reactor: cx.reactor,
            id,
            head,
            pattern,
            body,
            is_answered: false,
            head_bytes,
            check: None,
            accept: accepted.map_or_else(Accept::new, |(_, accept)| accept),
        };
        // Before the route, and without one too: otherwise 404 would tell a client that is not let in which
        // paths there are.
        if passed.is_none()
            && let Some(guard) = &mut self.guard
        {
            request.reactor.note_callback("guard");
            request.check = Some(Check::Guard);
            let outcome = guard(&mut request);
            request.check = None;
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
                Some(upgrade) => open_websocket(request, route, index as u16, &upgrade, passed),
                None => {
                    request.reply(upgrade_required_reply());
                }
            },
        }
    }

    /// Goes on with a request whose guard or `before_open` has decided later.
    #[inline(never)]
    fn handle_accepted(&mut self, cx: &mut Cx<'_, S>, id: ConnId) {
        let exchange = cx.reactor.exchange(id);
        let Some(deferred) = exchange.and_then(Exchange::take_accepted) else {
            return;
        };
        let Deferred {
            head,
            body,
            check,
            accepted,
        } = deferred;
        // The route may ask for another deadline and another pause.
        cx.reactor.clear_deadline(id);
        cx.reactor.resume_after_answer(id);
        let mut storage = HeaderStorage::new();
        if let Ok(Some(parsed)) = http::parse_request_head(&head, &mut storage, &self.limits) {
            // A guard may have been asked before the body, which is read now.
            if check == Check::Guard && body.is_empty() && parsed.body.length() != Some(0) {
                return await_body(cx, id, &parsed, &head);
            }
            let accepted = (check, accepted.unwrap_or_default());
            self.handle_request(cx, id, &parsed, &head, &body, Some(accepted));
        }
    }

    /// Ends a connection whose bytes are not HTTP, with the status that says why.
    ///
    /// Two errors are mistakes of the operator and not of a client: TLS on a plain port, and a proxy that
    /// sends a PROXY header. Each is a warning once in the reactor's life, since it comes with each connection.
    fn fail_request(&self, cx: &mut Cx<'_, S>, id: ConnId, error: HttpError) {
        let stats = cx.reactor.stats_mut();
        let misdirected = match error {
            HttpError::TlsOnPlainPort => Some((
                &mut stats.tls_on_plain_port,
                "a client speaks TLS, but this port is without TLS",
            )),
            HttpError::ProxyHeader => Some((
                &mut stats.proxy_headers,
                "a proxy sends PROXY headers, but this port does not read them; `proxy_protocol` of its options reads them",
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

    /// The route of a connection that is a WebSocket.
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

    /// The route with this number, if it is one for WebSockets. The fast path knows the number and does not
    /// look up the connection for it.
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

    /// The WebSocket route of a connection whose `on_open` was called. A connection that ends before that
    /// must not get `on_error` or `on_close` either.
    fn opened_websocket_mut<'s>(
        &'s mut self,
        cx: &Cx<'_, S>,
        id: ConnId,
    ) -> Option<&'s mut WebSocketRoute<S>> {
        let connection = cx.reactor.connection(id)?;
        match connection.protocol() {
            Protocol::WebSocket(_) if connection.is_opened() => {
                self.websocket_at(connection.route())
            }
            _ => None,
        }
    }
}

/// Calls the callback of a route, and answers 500 if the callback has neither answered nor taken the request
/// for later. Without that, the client would wait until its own deadline.
fn call_route<S: 'static>(request: &mut Request<'_, '_, S>, call: &mut OnRequest<S>) {
    request.reactor.note_callback("request");
    call(request);
    if !request.is_answered && !request.reactor.is_stopped() {
        log::error!(
            "conn {}: {} {} was neither answered nor taken with `reply_later`",
            request.id,
            request.method(),
            request.pattern.as_str()
        );
        request.reply(Status::INTERNAL_SERVER_ERROR);
    }
}

/// Asks `before_open`, then answers 101 and makes a WebSocket of the connection.
fn open_websocket<S: 'static>(
    mut request: Request<'_, '_, S>,
    route: &mut WebSocketRoute<S>,
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
        && let Some(before_open) = &mut route.before_open
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
        call(Status::SWITCHING_PROTOCOLS, 0, reactor.now());
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
    route.open(cx, id, upgrade, handshake, &headers, &accept);
}

/// The route for a request.
///
/// Linear in the routes, which are few: the search costs less than the parse of the head did.
fn find_route<S>(
    routes: &[Route<S>],
    head: &RequestHead<'_>,
    wants_upgrade: bool,
) -> Option<usize> {
    // A WebSocket route for a request that is no upgrade. It is taken only if no other route fits, so that
    // a page and a WebSocket can share a path.
    let mut without_upgrade = None;
    let is_encoded = head.path().contains('%');
    for (index, route) in routes.iter().enumerate() {
        let has_method = match &route.endpoint {
            Endpoint::WebSocket(_) => matches!(head.method, "GET" | "HEAD"),
            Endpoint::Request { method, .. } => {
                *method == head.method
                    || *method == "*"
                    || (*method == "GET" && head.method == "HEAD")
            }
        };
        if !has_method || !route.pattern.matches(head.path(), is_encoded) {
            continue;
        }
        match &route.endpoint {
            Endpoint::WebSocket(_) if !wants_upgrade => {
                without_upgrade = without_upgrade.or(Some(index))
            }
            Endpoint::WebSocket(_) | Endpoint::Request { .. } => return Some(index),
        }
    }
    without_upgrade
}

/// The methods of the routes that have the path of a request, each once.
fn allowed_methods<S>(routes: &[Route<S>], head: &RequestHead<'_>) -> Vec<String> {
    let mut allowed: Vec<String> = Vec::new();
    let is_encoded = head.path().contains('%');
    for route in routes {
        let method = match &route.endpoint {
            Endpoint::WebSocket(_) => "GET",
            Endpoint::Request { method, .. } => method.as_ref(),
        };
        let is_new = !allowed.iter().any(|known| known == method);
        if is_new && route.pattern.matches(head.path(), is_encoded) {
            allowed.push(method.to_owned());
        }
    }
    allowed
}

/// The answer to a request without a route: 404 where no route has its path, otherwise 405, or 204 to an
/// `OPTIONS`, with the methods of the path.
///
/// Source: RFC 9110, sections 9.3.7 and 15.5.6.
fn no_route_reply(head: &RequestHead<'_>, allowed: &[String]) -> Reply {
    // `OPTIONS *` and `CONNECT host:port` have no path, so the answer cannot be that the path is missing.
    let is_about_the_server = head.path() == "*" || head.method == "CONNECT";
    if allowed.is_empty() && !is_about_the_server {
        return Status::NOT_FOUND.into();
    }
    let mut methods = allowed.join(", ");
    // A route for GET answers HEAD too, and this function answers OPTIONS for each path.
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
        .with_extra_headers(&[("Allow", methods.into())])
        .with_extra_headers(&shared)
}

/// Waits for the body of a request, which has passed every check of its head.
fn await_body<S: 'static>(
    cx: &mut Cx<'_, S>,
    id: ConnId,
    parsed: &ParsedHead<'_>,
    head_bytes: &[u8],
) {
    // The exchange copies the head: the input buffer is one for all connections, and the next read of another
    // connection overwrites it.
    if let Some(exchange) = cx.reactor.exchange(id) {
        exchange.await_body(head_bytes, parsed.body);
    }
    if parsed.expects_continue {
        cx.reactor.queue_reply(id, b"HTTP/1.1 100 Continue\r\n\r\n");
    }
    let timeout = cx.reactor.config().body_timeout;
    cx.reactor.set_deadline(id, Deadline::Body, timeout);
}

/// Refuses a request that no route has seen.
///
/// Status 400 and 403 close the connection: the client sends broken requests, or its page is not allowed
/// here, and the next request would be refused too. After another status, such as 401 or 426, the client
/// may do better on the same connection.
fn send_refusal<S: 'static>(cx: &mut Cx<'_, S>, id: ConnId, reply: Reply) {
    if matches!(reply.status, Status::BAD_REQUEST | Status::FORBIDDEN)
        && let Some(exchange) = cx.reactor.exchange(id)
    {
        exchange.close_after();
    }
    cx.reactor.send_reply(id, reply);
}

/// The answer to an upgrade request that breaks the rules of the handshake.
///
/// Source: RFC 6455, section 4.2.2.
fn refusal_reply(refusal: upgrade::Refusal) -> Reply {
    let reply = if refusal.status() == Status::UPGRADE_REQUIRED {
        upgrade_required_reply()
    } else {
        refusal.status().into()
    };
    reply.body(format!("{refusal}\n"))
}

/// The answer to an upgrade request while the reactor drains. A proxy, or the client after a second, then
/// tries another server.
fn draining_reply() -> Reply {
    let reply: Reply = Status::SERVICE_UNAVAILABLE.into();
    reply.with_extra_headers(&[("Retry-After", "1".into())])
}

impl<S: 'static> Handler<S> for Router<S> {
    fn name(&self, connection: Option<&Connection>) -> String {
        // A WebSocket keeps the number of its route. Other connections have a new route with each request.
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
        // The deadline runs from now on, before the first byte: a client that connects and stays silent would
        // hold a descriptor otherwise.
        let config = cx.reactor.config();
        let (requests_max, timeout) = (config.requests_per_connection_max, config.head_timeout);
        let protocol = Protocol::Http(Box::new(Exchange::new(requests_max)));
        cx.reactor
            .set_protocol(id, protocol, Some(self.options_index));
        cx.reactor.set_deadline(id, Deadline::Head, timeout);
    }

    fn refuse(&mut self, cx: &mut Cx<'_, S>, id: ConnId) {
        let protocol = Protocol::Http(Box::new(Exchange::new(1)));
        cx.reactor
            .set_protocol(id, protocol, Some(self.options_index));
        let error = HttpError::TooManyConnections;
        cx.reactor.fail(id, CloseCause::Http(error));
    }

    #[inline]
    fn receive(&mut self, cx: &mut Cx<'_, S>, id: ConnId, input: &mut [u8]) -> usize {
        // Most events are those of WebSockets, so they are asked for first.
        if let Some(route) = self.websocket_mut(cx, id) {
            return route.callbacks.receive(cx, id, input);
        }
        match cx.reactor.protocol(id) {
            Some(Protocol::Http(_)) => {}
            // Input on an event stream has no meaning, and is dropped. Reading goes on, because the end of
            // the client's side arrives the same way.
            Some(_) | None => {
                return input.len();
            }
        }
        let used = self.receive_requests(cx, id, input);
        // Bytes behind an upgrade request are frames of a client that has not waited for the 101. They are
        // delivered now: the poll reports nothing for bytes that were read already.
        match self.websocket_mut(cx, id) {
            Some(route) if used < input.len() => {
                used + route.callbacks.receive(cx, id, &mut input[used..])
            }
            // Bytes behind the request of an event stream have no meaning, as those that come later.
            None if matches!(cx.reactor.protocol(id), Some(Protocol::EventStream { .. })) => {
                input.len()
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
            // Every answer that was owed has been given; see `connection/read.rs`. A streamed body, or an event
            // stream, may be without end: most clients that end their side of it have gone.
            Some(_) => cx.reactor.finish(id, Close::new(CloseCause::Peer), false),
            None => {}
        }
    }

    fn accepted(&mut self, cx: &mut Cx<'_, S>, id: ConnId) {
        self.handle_accepted(cx, id);
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
            // The answer is still in the queue, where the write deadline watches it. The time for the next
            // request begins when the client has the answer.
            Deadline::KeepAlive if 0 < cx.reactor.queued_bytes(id) => {
                let timeout = cx.reactor.config().keep_alive_timeout;
                cx.reactor.set_deadline(id, Deadline::KeepAlive, timeout);
            }
            Deadline::Head | Deadline::KeepAlive => {
                // A request that has begun gets 408. A connection without one is closed silently, since a
                // client would take a 408 for the answer to the request that it is just sending.
                // Source: RFC 9110, section 15.5.9.
                if deadline == Deadline::Head && cx.reactor.has_unconsumed(id) {
                    cx.reactor.fail(id, CloseCause::TimedOut(deadline));
                } else {
                    let lingers = deadline == Deadline::KeepAlive;
                    cx.reactor
                        .finish(id, Close::new(CloseCause::TimedOut(deadline)), lingers);
                }
            }
            Deadline::Body
            | Deadline::Reply
            | Deadline::Connect
            | Deadline::Handshake
            | Deadline::Idle
            | Deadline::Pong
            | Deadline::Age
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

#[cfg(test)]
mod tests {
    use crate::reactor::reactor::Reactor;
    use crate::reactor::sim::Sim;

    #[test]
    fn an_event_stream_keeps_no_bytes_that_came_behind_its_request() {
        let mut sim = Sim::new(None, |reactor: &mut Reactor<Option<crate::ConnId>>| {
            reactor.http("0.0.0.0:80", |http| {
                http.get("/", |request| {
                    *request.state = Some(request.id);
                    request.event_stream().subscribe("t")
                });
            })
        });
        let client = sim.connect();
        let behind = "x".repeat(10_000);
        client.write(format!("GET / HTTP/1.1\r\nHost: h\r\n\r\n{behind}"));
        sim.settle();
        let id = sim.state().unwrap();
        assert!(sim.reactor().is_open(id));
        assert!(!sim.reactor().has_unconsumed(id));
    }
}
