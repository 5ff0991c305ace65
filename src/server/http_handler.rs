//! HTTP for the loop: from the bytes of a connection to the callback of a route.
//!
//! One [`HttpHandler`] per listener holds the routes and their callbacks, so that a connection
//! needs only the number of its route. The connection holds the state of its request, an
//! [`Exchange`]. The rules of HTTP are in `protocol::http`. This file decides in which order a
//! request is checked, and to which callback it goes.
//!
//! The steps of a request:
//!
//! ```text
//! receive_requests ── receive_head ───────────┬── handle_request ──┬── call_route
//!   one turn of a     parse, check the origin │   find the route,  └── WebSocketRoute::answer
//!   loop each                                 │   ask the guard          before_open, then 101
//!                  ── receive_body ───────────┘
//!                     until the body is complete
//! ```
//!
//! An answer may come in a later turn. Until then the connection is not read, so later requests of
//! the same client wait, and answers go out in the order of the requests (RFC 9112, section 9.3.2).

use crate::protocol::http::upgrade::Upgrade;
use crate::protocol::http::{
    self, Accept, Check, Deferred, Exchange, ExtraHeaders, HeaderStorage, HttpError, OnAnswer,
    ParsedHead, Phase, RequestHead, Status, upgrade,
};
use crate::reactor::close::{Close, CloseCause, Deadline};
use crate::reactor::connection::Connection;
use crate::reactor::connection::ready::FastMessages;
use crate::reactor::id::ConnId;
use crate::reactor::protocol::Protocol;
use crate::reactor::reactor::{Cx, Handler, Reactor, Received};
use crate::session::websocket::finish_without_close;

use super::answered::{self, AfterReply};
use super::origins::OriginCheck;
use super::refusals::{fail_request, no_route_reply, send_refusal, upgrade_refusal_reply};
use super::reply::Reply;
use super::request::Request;
use super::routes::{Endpoint, OnRequest, Routes};
use super::upload::{self, BODY_BYTES_PER_SECOND};
use super::websocket::{WebSocketRoute, upgrade_required_reply};

/// The most bytes that a client may send behind the request of an event stream.
const DISCARDED_BYTES_MAX: u32 = 64 * 1024;

pub(super) type Guard<S> = Box<dyn FnMut(&mut Request<'_, '_, S>) -> Result<(), Reply>>;

/// Handles the requests of one listener. The fields are filled by the setup, through `Router`.
pub(super) struct HttpHandler<S> {
    /// `http` and the real address, for log lines.
    pub(super) name: String,
    /// The route of the request that was handled last, for log lines. Lines about slow callbacks
    /// and panics are written right behind the callback, so they name the right route.
    current_route: Option<usize>,
    pub(super) routes: Routes<S>,
    pub(super) options_index: u16,
    pub(super) origin_check: OriginCheck,
    pub(super) guard: Option<Guard<S>>,
    pub(super) after_reply: Option<AfterReply>,
    pub(super) default_headers: ExtraHeaders,
    /// A check for requests whose body has not come with their head, before it is read.
    pub(super) before_body: Option<OnRequest<S>>,
    /// A copy of the reactor's limits, because the reactor is borrowed mutably while a body is read
    /// into its exchange.
    limits: http::Limits,
}

/// The route of a request.
struct Found<'h> {
    /// The upgrade to a WebSocket, if the request asks for one.
    upgrade: Option<Upgrade<'h>>,
    /// The index of the route; see [`Routes::get_mut`].
    route: Option<usize>,
    /// Without a route, the methods that its path has.
    allowed: Vec<String>,
}

impl<S: 'static> HttpHandler<S> {
    pub(super) fn new(limits: http::Limits) -> HttpHandler<S> {
        HttpHandler {
            name: String::new(),
            current_route: None,
            routes: Routes::new(),
            options_index: 0,
            origin_check: OriginCheck::default(),
            guard: None,
            after_reply: None,
            default_headers: Vec::new(),
            before_body: None,
            limits,
        }
    }

    /// The longest body that is collected, in bytes.
    pub(super) fn body_bytes_max(&self) -> usize {
        self.limits.body_bytes_max
    }

    /// Handles the requests at the front of `input`; returns how many bytes were consumed.
    // Not inlined: the storage for headers takes kilobytes of stack, and `receive` runs for each
    // message of a WebSocket as well.
    #[inline(never)]
    fn receive_requests(&mut self, cx: &mut Cx<'_, S>, id: ConnId, input: &[u8]) -> usize {
        let mut rest = input;
        // Until a route is found, a log line must not name the route of an earlier request.
        self.current_route = None;
        while !cx.reactor.is_stopped() {
            // A callback may have closed the connection. The rest of its input is dropped.
            let connection = cx.reactor.connection(id);
            let Some(connection) = connection.filter(|it| it.life().takes_messages()) else {
                return input.len();
            };
            // One read may bring hundreds of requests, and each answer may be large. So the pause
            // of a full queue, or of a used budget, is asked for before each request and not only
            // before each read.
            if !connection.may_read() {
                break;
            }
            let Protocol::Http(exchange) = connection.protocol() else {
                break;
            };
            let outcome = match exchange.phase() {
                Phase::Head if rest.is_empty() => break,
                Phase::Head => self.receive_head(cx, id, &mut rest),
                Phase::Body => self.receive_body(cx, id, &mut rest),
                Phase::Reply | Phase::Stream if exchange.hands_out() => {
                    self.receive_piece(cx, id, &mut rest)
                }
                // The next request waits until the answer to this one is complete: answers go out
                // in the order of the requests. Source: RFC 9112, section 9.3.2.
                Phase::Reply | Phase::Stream => break,
                // The connection closes after the answer. Its client was told so, and bytes behind
                // the last request have no meaning. Source: RFC 9112, section 9.6.
                Phase::End => return input.len(),
            };
            match outcome {
                Ok(true) => {
                    cx.reactor.charge_message(id);
                    // Most clients wait for the answer before they send the next request.
                    if rest.is_empty() {
                        break;
                    }
                }
                Ok(false) => break,
                Err(error) => {
                    self.note_refusal(cx, id, rest);
                    fail_request(cx.reactor, id, error, &self.name);
                    return input.len();
                }
            }
        }
        input.len() - rest.len()
    }

    /// Takes a head off the front of `rest`, and handles the request if its whole body is there
    /// too.
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
            // A kept-alive connection may be silent for long, but a head that has begun must end
            // soon: a client that sends one byte a minute would hold its place for hours
            // (Slowloris). The deadline of the first request has run since the connection was made,
            // and is not set again.
            if cx.reactor.waits_for(id) == Some(Deadline::KeepAlive) {
                let timeout = cx.reactor.config().head_timeout;
                cx.reactor.set_deadline(id, Deadline::Head, timeout);
            }
            return Ok(false);
        };
        *rest = &input[parsed.bytes..];
        cx.reactor.stats_mut().requests += 1;
        // The head is complete. Each way on from here sets its own deadline, for the body or the
        // answer.
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
        let admitted = cx.reactor.admit_forwarded(id, parsed.head.headers);
        self.note_request(cx, id, &parsed.head);
        let scheme = admitted.inspect_err(|_| self.keep_default_headers(cx, id))?;
        // Before the body, so that a page that may not use the server cannot make it read one.
        match self
            .origin_check
            .check(&parsed.head, scheme, &self.name, cx.reactor.now())
        {
            Ok(mut headers) => {
                headers.extend_from_slice(&self.default_headers);
                if let Some(exchange) = cx.reactor.exchange(id) {
                    exchange.set_extra_headers(headers);
                }
            }
            Err(reply) => {
                self.keep_default_headers(cx, id);
                if !matches!(upgrade::check(&parsed), Ok(None)) {
                    cx.reactor.stats_mut().refused_handshakes.origin += 1;
                }
                send_refusal(cx.reactor, id, reply);
                return Ok(true);
            }
        }
        if self.routes.hands_out(&parsed) {
            let has_bytes = !rest.is_empty();
            self.begin_upload(cx, id, &parsed, &input[..parsed.bytes], None, has_bytes)?;
            return Ok(true);
        }
        match parsed.body.length() {
            Some(0) => self.handle_request(cx, id, &parsed, &input[..parsed.bytes], &[], None),
            // The whole body came with the head, as most do: the callback borrows it from the
            // input, and it is not copied.
            Some(length) if length <= rest.len() as u64 => {
                parsed.body.check(&self.limits)?;
                let (body, after) = rest.split_at(length as usize);
                *rest = after;
                self.handle_request(cx, id, &parsed, &input[..parsed.bytes], body, None);
            }
            _ => {
                // A length above the limit is refused now. With `Expect: 100-continue` the client
                // then sends no body at all. Source: RFC 9110, section 10.1.1.
                parsed.body.check(&self.limits)?;
                if self.passes_before_body(cx, id, &parsed, &input[..parsed.bytes]) {
                    await_body(cx, id, &parsed, &input[..parsed.bytes]);
                }
            }
        }
        Ok(true)
    }

    /// Keeps the default headers for an answer that refuses the request before its route is asked.
    #[cold]
    fn keep_default_headers(&self, cx: &mut Cx<'_, S>, id: ConnId) {
        if let Some(exchange) = cx.reactor.exchange(id) {
            exchange.set_extra_headers(self.default_headers.clone());
        }
    }

    /// Finds the route of a request. `None` when it asks for an upgrade that is refused; the refusal is
    /// sent then.
    #[inline]
    fn find_route<'h>(
        &mut self,
        reactor: &mut Reactor<S>,
        id: ConnId,
        parsed: &ParsedHead<'h>,
    ) -> Option<Found<'h>> {
        let head = &parsed.head;
        let upgrade = match upgrade::check(parsed) {
            Ok(None) => None,
            Ok(upgrade) => {
                note_handshake(reactor, id);
                upgrade
            }
            Err(refusal) => {
                note_handshake(reactor, id);
                send_refusal(reactor, id, upgrade_refusal_reply(refusal));
                return None;
            }
        };
        let route = self.routes.find(head, upgrade.is_some());
        self.current_route = route;
        let allowed = match route {
            Some(_) => Vec::new(),
            None => self.routes.allowed_methods(head),
        };
        Some(Found {
            upgrade,
            route,
            allowed,
        })
    }

    /// Whether a request may send its body. If not, it was answered, or its guard decides later: a
    /// body that will be refused is not read, and `100 Continue` is not sent for it.
    #[inline(never)]
    fn passes_before_body(
        &mut self,
        cx: &mut Cx<'_, S>,
        id: ConnId,
        parsed: &ParsedHead<'_>,
        head_bytes: &[u8],
    ) -> bool {
        // An answer from here on ends the connection, because its body would be read as the next
        // request.
        if let Some(exchange) = cx.reactor.exchange(id) {
            exchange.leave_body();
        }
        let head = &parsed.head;
        let Some(found) = self.find_route(cx.reactor, id, parsed) else {
            return false;
        };
        let (pattern, endpoint) = self.routes.get_mut(found.route);
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
        if !passes_guard(&mut self.guard, &mut request) {
            return false;
        }
        let refusal = match endpoint {
            None => Some(no_route_reply(head, &found.allowed)),
            Some((_, Endpoint::WebSocket(_))) if found.upgrade.is_none() => {
                Some(upgrade_required_reply())
            }
            Some(_) => None,
        };
        if let Some(reply) = refusal {
            request.reply(reply);
        } else if let Some(check) = &mut self.before_body {
            request.reactor.note_callback("before_body");
            check(&mut request);
        }
        !request.is_answered && !request.reactor.is_stopped()
    }

    /// Takes bytes of a body off the front of `rest`, and handles the request when the body is
    /// complete.
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
            // The deadline moves by the seconds that the new bytes have earned, and not to a new
            // period after each read, which one byte would be enough for.
            cx.reactor.extend_deadline(id, earned as u32);
            return Ok(false);
        };
        let mut storage = HeaderStorage::new();
        // The head was parsed when it came. Parsing it again costs less than a form that owns its
        // strings, since most requests have no body or bring it along.
        if let Some(parsed) = http::parse_request_head(&head, &mut storage, &self.limits)? {
            // The guard was asked before the body.
            let passed = Some((Check::Guard, Accept::new()));
            self.handle_request(cx, id, &parsed, &head, &body, passed);
        }
        Ok(true)
    }

    /// Asks the guard and the route of a request whose body is handed out. `passed` is the check that has
    /// accepted the request in an earlier turn, and `has_bytes` says whether some of the body has come.
    ///
    /// # Errors
    ///
    /// When the body is announced to be longer than the route takes.
    #[inline(never)]
    fn begin_upload(
        &mut self,
        cx: &mut Cx<'_, S>,
        id: ConnId,
        parsed: &ParsedHead<'_>,
        head_bytes: &[u8],
        passed: Option<Check>,
        has_bytes: bool,
    ) -> Result<(), HttpError> {
        if let Some(exchange) = cx.reactor.exchange(id)
            && parsed.body.length() != Some(0)
        {
            exchange.leave_body();
        }
        let Some(found) = self.find_route(cx.reactor, id, parsed) else {
            return Ok(());
        };
        let (pattern, endpoint) = self.routes.get_mut(found.route);
        let Some((index, Endpoint::Upload { route, .. })) = endpoint else {
            return Ok(());
        };
        let mut request = Request {
            state: cx.state,
            reactor: cx.reactor,
            id,
            head: &parsed.head,
            pattern,
            body: &[],
            is_answered: false,
            head_bytes,
            check: None,
            accept: Accept::new(),
        };
        if passed.is_none() && !passes_guard(&mut self.guard, &mut request) {
            return Ok(());
        }
        request.reactor.set_route(id, index);
        route.begin(request, parsed, passed == Some(Check::Head), has_bytes)
    }

    /// Hands out what has come of a body.
    ///
    /// Results and errors as [`receive_head`](Self::receive_head).
    fn receive_piece(
        &mut self,
        cx: &mut Cx<'_, S>,
        id: ConnId,
        rest: &mut &[u8],
    ) -> Result<bool, HttpError> {
        let index = cx.reactor.connection(id).map_or(0, Connection::route);
        self.current_route = Some(usize::from(index));
        match self.routes.upload_at(index) {
            Some(route) => route.receive(cx, id, rest),
            None => Ok(false),
        }
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
        let Some(found) = self.find_route(cx.reactor, id, parsed) else {
            return;
        };
        let (pattern, endpoint) = self.routes.get_mut(found.route);
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
        // Before the route, and without one too: otherwise 404 would tell a client that is not let
        // in which paths there are.
        if passed.is_none() && !passes_guard(&mut self.guard, &mut request) {
            return;
        }
        match endpoint {
            None => {
                request.reply(no_route_reply(head, &found.allowed));
            }
            Some((_, Endpoint::Request { call, .. })) => call_route(&mut request, call),
            // `receive_head` has found it before the body.
            Some((_, Endpoint::Upload { .. })) => {}
            Some((index, Endpoint::WebSocket(route))) => match found.upgrade {
                Some(upgrade) => route.answer(request, index, &upgrade, passed),
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
            if self.routes.hands_out(&parsed) {
                let has_bytes = cx.reactor.has_unconsumed(id);
                let begun = self.begin_upload(cx, id, &parsed, &head, Some(check), has_bytes);
                if let Err(error) = begun {
                    fail_request(cx.reactor, id, error, &self.name);
                }
                return;
            }
            // A guard may have been asked before the body, which is read now.
            if check == Check::Guard && body.is_empty() && parsed.body.length() != Some(0) {
                return await_body(cx, id, &parsed, &head);
            }
            let accepted = (check, accepted.unwrap_or_default());
            self.handle_request(cx, id, &parsed, &head, &body, Some(accepted));
        }
    }

    /// Makes the answer to this request, also a later one, call what was set by
    /// `Router::after_reply`.
    fn note_request(&self, cx: &mut Cx<'_, S>, id: ConnId, head: &RequestHead<'_>) {
        if self.after_reply.is_none() {
            return;
        }
        if let Some(on_answer) = self.on_answer(cx, id, Some((head.method, head.path())))
            && let Some(exchange) = cx.reactor.exchange(id)
        {
            exchange.set_on_answer(on_answer);
        }
    }

    /// As [`note_request`](Self::note_request), for a head that cannot be parsed or has not come,
    /// and which begins with `input`. A request whose head was parsed is noted already.
    fn note_refusal(&self, cx: &mut Cx<'_, S>, id: ConnId, input: &[u8]) {
        if let Some(on_answer) = self.on_answer(cx, id, http::method_and_path(input))
            && let Some(exchange) = cx.reactor.exchange(id)
            && !exchange.has_on_answer()
        {
            exchange.set_on_answer(on_answer);
        }
    }

    /// Calls what was set by `Router::after_reply` for the answer with which a connection has
    /// failed. The reactor makes that answer, and calls no user code until the connection ends.
    fn report_failure(&self, cx: &mut Cx<'_, S>, id: ConnId) {
        let Some(exchange) = cx.reactor.ended_exchange(id) else {
            return;
        };
        let (failure, noted) = (exchange.take_failure(), exchange.take_on_answer());
        let Some((status, body_bytes)) = failure else {
            return;
        };
        if let Some(OnAnswer(call)) = noted.or_else(|| self.on_answer(cx, id, None)) {
            call(status, body_bytes, cx.reactor.clock_now());
        }
    }

    /// Tells a route that the body which it gets ends before its end.
    fn close_upload(&mut self, cx: &mut Cx<'_, S>, id: ConnId, close: &Close) {
        let exchange = cx.reactor.ended_exchange(id);
        if !exchange.is_some_and(Exchange::drop_handed_out) {
            return;
        }
        let index = cx.reactor.connection(id).map_or(0, Connection::route);
        self.current_route = Some(usize::from(index));
        if let Some(route) = self.routes.upload_at(index) {
            route.closed(cx, id, close);
        }
    }

    /// Makes the call for the answer to a request, of which method and path are known or
    /// not. `None` without an `after_reply`.
    fn on_answer(
        &self,
        cx: &Cx<'_, S>,
        id: ConnId,
        request: Option<(&str, &str)>,
    ) -> Option<OnAnswer> {
        let after_reply = self.after_reply.as_ref()?;
        let clients = (cx.reactor.peer(id), cx.reactor.client_address(id));
        let now = cx.reactor.clock_now();
        Some(answered::on_answer(after_reply, clients, request, now))
    }

    /// The route of a connection that is a WebSocket.
    fn websocket_mut<'s>(
        &'s mut self,
        cx: &Cx<'_, S>,
        id: ConnId,
    ) -> Option<&'s mut WebSocketRoute<S>> {
        let connection = cx.reactor.connection(id)?;
        match connection.protocol() {
            Protocol::WebSocket(_) => self.routes.websocket_at(connection.route()),
            _ => None,
        }
    }

    /// The WebSocket route of a connection whose `on_open` was called. A connection that ends
    /// before that must not get `on_error` or `on_close` either.
    fn opened_websocket_mut<'s>(
        &'s mut self,
        cx: &Cx<'_, S>,
        id: ConnId,
    ) -> Option<&'s mut WebSocketRoute<S>> {
        let connection = cx.reactor.connection(id)?;
        match connection.protocol() {
            Protocol::WebSocket(_) if connection.is_opened() => {
                self.routes.websocket_at(connection.route())
            }
            _ => None,
        }
    }
}

/// Asks the guard. Returns whether the request goes on: otherwise it was answered, or the guard
/// decides later.
#[inline]
fn passes_guard<S: 'static>(
    guard: &mut Option<Guard<S>>,
    request: &mut Request<'_, '_, S>,
) -> bool {
    let Some(guard) = guard else {
        return true;
    };
    request.reactor.note_callback("guard");
    request.check = Some(Check::Guard);
    let outcome = guard(request);
    request.check = None;
    if request.is_answered || request.reactor.is_stopped() {
        return false;
    }
    match outcome {
        Ok(()) => true,
        Err(reply) => {
            send_refusal(request.reactor, request.id, reply);
            false
        }
    }
}

/// Calls the callback of a route, and answers 500 if the callback has neither answered nor taken
/// the request for later. Without that, the client would wait until its own deadline.
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

/// Notes that a request asks for a WebSocket, so that its refusal is counted.
fn note_handshake<S: 'static>(reactor: &mut Reactor<S>, id: ConnId) {
    if let Some(exchange) = reactor.exchange(id) {
        exchange.note_handshake();
    }
}

/// Discards what a client sends behind the request of an event stream: it has no meaning. Reading goes
/// on, because the end of the client's side arrives the same way. A client that sends without end is
/// ended, because reading costs time that others need.
fn discard_input<S: 'static>(reactor: &mut Reactor<S>, id: ConnId, bytes: usize) {
    let protocol = reactor.protocol_mut(id);
    if let Some(Protocol::EventStream {
        discarded_bytes, ..
    }) = protocol
    {
        *discarded_bytes = discarded_bytes.saturating_add(bytes as u32);
        if DISCARDED_BYTES_MAX < *discarded_bytes {
            reactor.abort(id, CloseCause::Http(HttpError::BodyTooLong));
        }
    }
}

/// Waits for the body of a request, which has passed every check of its head.
fn await_body<S: 'static>(
    cx: &mut Cx<'_, S>,
    id: ConnId,
    parsed: &ParsedHead<'_>,
    head_bytes: &[u8],
) {
    // The exchange copies the head: the input buffer is one for all connections, and the next read
    // of another connection overwrites it.
    if let Some(exchange) = cx.reactor.exchange(id) {
        exchange.await_body(head_bytes, parsed.body);
    }
    if parsed.expects_continue {
        cx.reactor.queue_reply(id, b"HTTP/1.1 100 Continue\r\n\r\n");
    }
    let timeout = cx.reactor.config().body_timeout;
    cx.reactor.set_deadline(id, Deadline::Body, timeout);
}

impl<S: 'static> Handler<S> for HttpHandler<S> {
    fn name(&self, connection: Option<&Connection>) -> String {
        // A WebSocket keeps the number of its route. Other connections have a new route with each
        // request.
        let route = match connection {
            Some(connection) if matches!(connection.protocol(), Protocol::WebSocket(_)) => {
                Some(usize::from(connection.route()))
            }
            _ => self.current_route,
        };
        match route.and_then(|index| self.routes.name(index)) {
            Some(route) => format!("{} {route}", self.name),
            None => self.name.clone(),
        }
    }

    fn open(&mut self, cx: &mut Cx<'_, S>, id: ConnId) {
        // The deadline runs from now on, before the first byte: a client that connects and stays
        // silent would hold a descriptor otherwise.
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
        self.note_refusal(cx, id, &[]);
        let error = HttpError::TooManyConnections;
        cx.reactor.fail(id, CloseCause::Http(error));
    }

    #[inline]
    fn receive(&mut self, cx: &mut Cx<'_, S>, id: ConnId, input: &mut [u8]) -> usize {
        let connection = cx.reactor.connection(id);
        match connection.map(|it| (it.protocol(), it.route())) {
            // Most events are those of WebSockets, so they are asked for first.
            Some((Protocol::WebSocket(_), route)) => {
                return match self.routes.websocket_at(route) {
                    Some(route) => route.callbacks.receive(cx, id, input),
                    None => input.len(),
                };
            }
            Some((Protocol::Http(_), _)) => {}
            Some(_) | None => {
                discard_input(cx.reactor, id, input.len());
                return input.len();
            }
        }
        let used = self.receive_requests(cx, id, input);
        if used == input.len() {
            return used;
        }
        // Bytes behind an upgrade request are frames of a client that has not waited for the 101.
        // They are delivered now: the poll reports nothing for bytes that were read already.
        match self.websocket_mut(cx, id) {
            Some(route) => used + route.callbacks.receive(cx, id, &mut input[used..]),
            None if matches!(cx.reactor.protocol(id), Some(Protocol::EventStream { .. })) => {
                discard_input(cx.reactor, id, input.len() - used);
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
        match self.routes.websocket_at(messages.route) {
            Some(route) => route.callbacks.receive_fast(cx, messages, input),
            None => Received::all(input.len()),
        }
    }

    fn end(&mut self, cx: &mut Cx<'_, S>, id: ConnId) {
        match cx.reactor.protocol(id) {
            Some(Protocol::WebSocket(_)) => finish_without_close(cx.reactor, id),
            // Every answer that was owed has been given; see `connection/read.rs`. A streamed body,
            // or an event stream, may be without end: most clients that end their side of it have
            // gone.
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
            // The answer is still in the queue, where the write deadline watches it. The time for
            // the next request begins when the client has the answer.
            Deadline::KeepAlive if 0 < cx.reactor.queued_bytes(id) => {
                let timeout = cx.reactor.config().keep_alive_timeout;
                cx.reactor.set_deadline(id, Deadline::KeepAlive, timeout);
            }
            Deadline::Head | Deadline::KeepAlive => {
                // A request that has begun gets 408. A connection without one is closed silently,
                // since a client would take a 408 for the answer to the request that it is just
                // sending. Source: RFC 9110, section 15.5.9.
                let input = cx.reactor.unconsumed(id).to_vec();
                if deadline == Deadline::Head && !input.is_empty() {
                    self.note_refusal(cx, id, &input);
                    cx.reactor.fail(id, CloseCause::TimedOut(deadline));
                } else {
                    let lingers = deadline == Deadline::KeepAlive;
                    cx.reactor
                        .finish(id, Close::new(CloseCause::TimedOut(deadline)), lingers);
                }
            }
            // The client cannot be slow while its body is not read.
            Deadline::Body if upload::forgives_pause(cx.reactor, id) => {}
            // The time for which it waits for publications is over, and no fault.
            Deadline::Reply if cx.reactor.end_wait(id) => {}
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
        self.report_failure(cx, id);
        self.close_upload(cx, id, close);
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

    #[test]
    fn a_client_of_an_event_stream_that_sends_without_end_is_ended() {
        let max = super::DISCARDED_BYTES_MAX as usize;
        for (bytes, is_ended) in [(max, false), (max + 1, true), (10 * max, true)] {
            let mut sim = Sim::new(None, |reactor: &mut Reactor<Option<crate::ConnId>>| {
                reactor.http("0.0.0.0:80", |http| {
                    http.get("/", |request| {
                        *request.state = Some(request.id);
                        request.event_stream().subscribe("t")
                    });
                })
            });
            let client = sim.connect();
            client.write("GET / HTTP/1.1\r\nHost: h\r\n\r\nxx");
            sim.settle();
            let id = sim.state().unwrap();
            let mut left = bytes - 2;
            while 0 < left && sim.reactor().is_open(id) {
                left -= client.write(vec![b'x'; left.min(5000)]);
                sim.settle();
            }
            assert_eq!(sim.reactor().is_open(id), !is_ended, "{bytes}");
        }
    }
}
