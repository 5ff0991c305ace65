//! The work of a client: it gives waiting requests to connections, reads answers, and calls back.
//!
//! A request is never sent inside of the method that orders it: it waits, and a tick gives it to an idle or a new
//! connection. So callbacks may order requests, and a connection that a callback has just freed is used again.
//!
//! No callback is called while the state is borrowed. It is taken out for the call and put back behind it, so it may
//! order further requests, cancel its own, or panic: a panic ends the connection, and the end finds a request without
//! a callback.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use crate::protocol::http::{HeaderStorage, HttpError, ResponseDecoder, ResponseEvent};
use crate::reactor::close::{Close, CloseCause, Deadline};
use crate::reactor::config::{ConnectionOptions, Overflow};
use crate::reactor::connection::Connection;
use crate::reactor::id::ConnId;
use crate::reactor::protocol::Protocol;
use crate::reactor::reactor::{Cx, Handler, Reactor};

use super::error::{HttpRequestError, HttpStep};
use super::exchange::{Callback, Exchange, Head};
use super::id::HttpRequestId;
use super::options::HttpClientOptions;
use super::origin::Origin;
use super::pool::{Order, Pool, Use};
use super::request::HttpRequest;
use super::response::HttpPart;

/// Most bytes of the body of a redirect that are read to keep the connection. A longer one costs more than a new
/// connection.
const DISCARDED_BYTES_MAX: u64 = 64 * 1024;

/// The work of a client.
pub(super) struct Link<S: 'static> {
    options: HttpClientOptions,
    /// The index of the options of its connections.
    connection_options: u16,
    state: RefCell<State<S>>,
    /// A tick is queued that gives requests to connections.
    has_tick: Cell<bool>,
    /// The application has dropped its client, so no connection is kept.
    is_dropped: Cell<bool>,
}

struct State<S> {
    pool: Pool,
    exchanges: HashMap<HttpRequestId, Exchange<S>>,
    /// Requests that have failed before they could wait, each with a tick that calls back.
    failed: VecDeque<(Callback<S>, HttpRequestError)>,
    next_id: u64,
    /// The key of the call at the end of the loop, while there is a request.
    at_end: Option<usize>,
}

/// The step that follows from a piece of input.
enum Step {
    /// More bytes are needed.
    More,
    /// The piece is handled.
    Handled,
    /// The server has sent bytes that no request asked for.
    Unasked,
    /// The head of a stream.
    Head(HttpRequestId),
    /// The answer is complete.
    Complete(HttpRequestId),
    /// The rest of a redirect's answer was thrown away.
    Discarded,
    /// The request goes to another URL.
    Redirected(HttpRequestId),
    /// The redirect must not be followed.
    Refused(HttpRequestId, HttpRequestError),
    /// The server broke HTTP/1.1.
    Broken(HttpError),
}

impl<S: 'static> Link<S> {
    pub(super) fn new(
        reactor: &mut Reactor<S>,
        options: HttpClientOptions,
    ) -> io::Result<Rc<Link<S>>> {
        let config = reactor.config();
        let options = options.checked(config.read_buffer_bytes)?;
        let connection_options = ConnectionOptions {
            write_timeout: options.write_timeout,
            // A request is one message, however long. An answer is read also while the request is being sent.
            queue_high_bytes: usize::MAX,
            overflow: Overflow::Close,
            idle_timeout: None,
            age_max: None,
            ..config.options.clone()
        };
        let connection_options = reactor.add_options(connection_options)?;
        let pool = Pool::new(&options);
        Ok(Rc::new(Link {
            options,
            connection_options,
            state: RefCell::new(State {
                pool,
                exchanges: HashMap::new(),
                failed: VecDeque::new(),
                next_id: 0,
                at_end: None,
            }),
            has_tick: Cell::new(false),
            is_dropped: Cell::new(false),
        }))
    }

    // ── what the application orders ──────────────────────────────────────────────────────────

    /// Has a request sent. The callback is called later, also with an error that is known now.
    pub(super) fn request(
        self: &Rc<Self>,
        reactor: &mut Reactor<S>,
        request: HttpRequest,
        callback: Callback<S>,
    ) -> HttpRequestId {
        let id = self.next_id();
        if reactor.has_ended() {
            return id;
        }
        let mut exchange = match Exchange::new(request, callback, &self.options) {
            Ok(exchange) => exchange,
            Err((callback, error)) => {
                self.fail_later(reactor, callback, error);
                return id;
            }
        };
        let mut state = self.state.borrow_mut();
        let bytes = exchange.held_bytes();
        if !state.pool.wait(exchange.origin(), id, bytes) {
            drop(state);
            if let Some(callback) = exchange.callback {
                self.fail_later(reactor, callback, HttpRequestError::Full);
            }
            return id;
        }
        exchange.timer = exchange.timeout(&self.options).map(|timeout| {
            let link = Rc::clone(self);
            reactor.after(timeout, move |cx| link.time_out(cx, id))
        });
        state.exchanges.insert(id, exchange);
        drop(state);
        self.watch_end(reactor);
        self.dispatch_soon(reactor);
        id
    }

    /// Calls back in the next turn: the caller is a method that the application has called, or one callback of several.
    fn fail_later(
        self: &Rc<Self>,
        reactor: &mut Reactor<S>,
        callback: Callback<S>,
        error: HttpRequestError,
    ) {
        self.state.borrow_mut().failed.push_back((callback, error));
        self.watch_end(reactor);
        let link = Rc::clone(self);
        reactor.next_tick(move |cx| link.fail_next(cx));
    }

    fn fail_next(&self, cx: &mut Cx<'_, S>) {
        let failed = self.state.borrow_mut().failed.pop_front();
        self.ignore_end(cx.reactor);
        if let Some((callback, error)) = failed {
            callback.fail(cx, error);
        }
    }

    /// Has the requests told that are left when the loop ends. Their callbacks may hold the client that holds them.
    fn watch_end(self: &Rc<Self>, reactor: &mut Reactor<S>) {
        let mut state = self.state.borrow_mut();
        if state.at_end.is_none() {
            let link = Rc::clone(self);
            state.at_end = Some(reactor.at_end(move |cx| link.reactor_ended(cx)));
        }
    }

    /// Forgets the call at the end of the loop if there is no request.
    fn ignore_end(&self, reactor: &mut Reactor<S>) {
        let mut state = self.state.borrow_mut();
        if state.exchanges.is_empty()
            && state.failed.is_empty()
            && let Some(key) = state.at_end.take()
        {
            drop(state);
            reactor.forget_at_end(key);
        }
    }

    /// Fails one of the requests that are left at the end of the loop; the next one in a call of its own, so that a
    /// callback that panics costs no other.
    fn reactor_ended(self: &Rc<Self>, cx: &mut Cx<'_, S>) {
        let mut state = self.state.borrow_mut();
        state.at_end = None;
        let failed = state.failed.pop_front();
        let oldest = state.exchanges.keys().min().copied();
        drop(state);
        let cause = match cx.reactor.is_draining() {
            true => CloseCause::Drained,
            false => CloseCause::Local,
        };
        let failed = failed.or_else(|| {
            let callback = self.take(cx.reactor, oldest?)?.callback?;
            let reason = Box::default();
            Some((callback, HttpRequestError::Connection { cause, reason }))
        });
        let Some((callback, error)) = failed else {
            return;
        };
        self.watch_end(cx.reactor);
        callback.fail(cx, error);
    }

    fn next_id(&self) -> HttpRequestId {
        let mut state = self.state.borrow_mut();
        state.next_id += 1;
        HttpRequestId(state.next_id)
    }

    /// Gives up a request without a call of its callback. Returns `false` when it is done already.
    pub(super) fn cancel(self: &Rc<Self>, reactor: &mut Reactor<S>, id: HttpRequestId) -> bool {
        let exchange = self.take(reactor, id);
        if let Some(connection) = exchange.as_ref().and_then(|exchange| exchange.connection) {
            self.remove_connection(connection);
            reactor.abort(connection, CloseCause::Local);
            self.dispatch_soon(reactor);
        }
        exchange.is_some()
    }

    /// The connection that the answer to a request comes over.
    pub(super) fn connection_of(&self, id: HttpRequestId) -> Option<ConnId> {
        self.state.borrow().exchanges.get(&id)?.connection
    }

    /// Stops reading the answer to a request.
    pub(super) fn pause(&self, reactor: &mut Reactor<S>, id: HttpRequestId) {
        if let Some(connection) = self.connection_of(id) {
            reactor.pause(connection);
        }
    }

    /// Reads the answer to a request again. The deadline of its next bytes begins anew: the time of the pause was the
    /// application's own.
    pub(super) fn resume(&self, reactor: &mut Reactor<S>, id: HttpRequestId) {
        let Some(connection) = self.connection_of(id) else {
            return;
        };
        if reactor.may_read(connection) {
            return;
        }
        reactor.resume(connection);
        let waits_for = reactor
            .connection(connection)
            .and_then(Connection::waits_for);
        match waits_for {
            Some(Deadline::Head) => {
                reactor.set_deadline(connection, Deadline::Head, self.options.head_timeout);
            }
            _ => self.arm_body_deadline(reactor, connection),
        }
    }

    /// Notes that the application has no handle any more. Returns the idle connections, for
    /// [`close_idle`].
    pub(super) fn note_drop(&self) -> Vec<ConnId> {
        self.is_dropped.set(true);
        // A callback that holds the last handle is not dropped while the state is borrowed.
        let state = self.state.try_borrow_mut();
        state.map_or_else(|_| Vec::new(), |mut state| state.pool.take_idle())
    }

    // ── requests without a connection ────────────────────────────────────────────────────────

    /// Takes a request out, wherever it is.
    fn take(&self, reactor: &mut Reactor<S>, id: HttpRequestId) -> Option<Exchange<S>> {
        let mut state = self.state.borrow_mut();
        let exchange = state.exchanges.remove(&id)?;
        if exchange.connection.is_none() {
            state.pool.forget(exchange.origin(), id);
        }
        drop(state);
        if let Some(timer) = exchange.timer {
            reactor.cancel(timer);
        }
        self.ignore_end(reactor);
        Some(exchange)
    }

    fn time_out(self: &Rc<Self>, cx: &mut Cx<'_, S>, id: HttpRequestId) {
        let Some(exchange) = self.take(cx.reactor, id) else {
            return;
        };
        if let Some(connection) = exchange.connection {
            self.remove_connection(connection);
            // The deadline of the request is the application's own.
            cx.reactor.abort(connection, CloseCause::Local);
            self.dispatch_soon(cx.reactor);
        }
        if let Some(callback) = exchange.callback {
            callback.fail(cx, HttpRequestError::TimedOut(HttpStep::Request));
        }
    }

    /// Gives requests to connections in the next turn, outside of the caller.
    fn dispatch_soon(self: &Rc<Self>, reactor: &mut Reactor<S>) {
        if !self.has_tick.replace(true) {
            let link = Rc::clone(self);
            reactor.next_tick(move |cx| {
                link.has_tick.set(false);
                link.dispatch(cx.reactor);
            });
        }
    }

    fn dispatch(self: &Rc<Self>, reactor: &mut Reactor<S>) {
        while let Some(order) = self.next_order() {
            match order {
                Order::Reuse(request, connection) if reactor.is_open(connection) => {
                    self.reserve(reactor, connection, request);
                }
                // It is ending, as in a drain, and its handler has not been called yet.
                Order::Reuse(_, connection) => {
                    self.remove_connection(connection);
                }
                Order::Connect(request, origin) => self.connect(reactor, request, &origin),
                Order::Close(connection) => close_idle(reactor, connection),
                Order::Abort(connection) => reactor.abort(connection, CloseCause::Local),
            }
        }
    }

    fn next_order(&self) -> Option<Order> {
        self.state.borrow_mut().pool.next_order()
    }

    fn wait_again(&self, request: HttpRequestId, needs_new: bool) {
        let mut state = self.state.borrow_mut();
        let State {
            pool, exchanges, ..
        } = &mut *state;
        if let Some(exchange) = exchanges.get_mut(&request) {
            exchange.connection = None;
            let bytes = exchange.held_bytes();
            pool.wait_again(exchange.origin(), request, bytes, needs_new);
        }
    }

    /// Gives a request to an idle connection in the next turn. Since the last poll the server may have closed it, or
    /// have sent bytes that would be taken for the answer. If this turn's poll reports one of these, or the socket
    /// has them in the moment of sending, the request goes over another connection, whatever its method: it was not
    /// sent yet. The poll alone would not do: its report may wait for a turn that has time for it.
    fn reserve(
        self: &Rc<Self>,
        reactor: &mut Reactor<S>,
        connection: ConnId,
        request: HttpRequestId,
    ) {
        self.note_connection(request, connection);
        set_busy(reactor, connection, true);
        reactor.clear_deadline(connection);
        let link = Rc::clone(self);
        reactor.next_tick(move |cx| link.use_reserved(cx.reactor, connection, request));
    }

    fn use_reserved(
        self: &Rc<Self>,
        reactor: &mut Reactor<S>,
        connection: ConnId,
        request: HttpRequestId,
    ) {
        let mut state = self.state.borrow_mut();
        if !state.pool.use_reserved(connection, request) {
            return;
        }
        drop(state);
        if reactor.is_silent(connection) {
            return self.send(reactor, connection, request);
        }
        self.state.borrow_mut().pool.remove(connection);
        self.wait_again(request, false);
        reactor.abort(connection, CloseCause::Peer);
        self.dispatch_soon(reactor);
    }

    /// Makes a connection for a request.
    fn connect(
        self: &Rc<Self>,
        reactor: &mut Reactor<S>,
        request: HttpRequestId,
        origin: &Rc<Origin>,
    ) {
        let address = origin.address();
        let to = match self.options.transport.options(&address, origin.has_tls) {
            Ok(to) => to,
            Err(error) => return self.fail_waiting(reactor, request, &error),
        };
        let handler = Box::new(HttpConnection {
            link: Rc::clone(self),
            name: format!("http client to {address}"),
        });
        let protocol = Protocol::Request { is_busy: true };
        match reactor.connect(&to, handler, self.connection_options, protocol) {
            Ok(id) => {
                self.state.borrow_mut().pool.add(id, origin, request);
                self.note_connection(request, id);
                let is_pending = reactor
                    .connection(id)
                    .is_some_and(Connection::wants_transport);
                if is_pending {
                    reactor.set_deadline(id, Deadline::Connect, self.options.connect_timeout);
                }
            }
            Err(error) => self.fail_waiting(reactor, request, &error),
        }
    }

    /// Fails a request for which no connection can be made.
    fn fail_waiting(
        self: &Rc<Self>,
        reactor: &mut Reactor<S>,
        request: HttpRequestId,
        error: &io::Error,
    ) {
        let error = HttpRequestError::Connection {
            cause: CloseCause::Io(error.kind()),
            reason: error.to_string().into(),
        };
        let exchange = self.take(reactor, request);
        if let Some(callback) = exchange.and_then(|exchange| exchange.callback) {
            self.fail_later(reactor, callback, error);
        }
    }

    fn note_connection(&self, request: HttpRequestId, connection: ConnId) {
        let mut state = self.state.borrow_mut();
        if let Some(exchange) = state.exchanges.get_mut(&request) {
            exchange.connection = Some(connection);
        }
    }

    // ── a connection with a request ──────────────────────────────────────────────────────────

    /// Sends a request over an open connection.
    fn send(&self, reactor: &mut Reactor<S>, connection: ConnId, request: HttpRequestId) {
        let state = self.state.borrow();
        let Some(exchange) = state.exchanges.get(&request) else {
            return;
        };
        reactor.queue_owned_reply(connection, exchange.wire_bytes());
        set_busy(reactor, connection, true);
        reactor.set_deadline(connection, Deadline::Head, self.options.head_timeout);
    }

    /// Sends the request for which the connection was made.
    fn open(&self, reactor: &mut Reactor<S>, id: ConnId) {
        let request = match self.state.borrow_mut().pool.connection(id) {
            Some(pooled) => match pooled.usage {
                Use::Request(request) => request,
                Use::Discard { .. } | Use::Reserved(_) | Use::Idle => return,
            },
            None => return,
        };
        self.send(reactor, id, request);
    }

    /// Handles input. Returns how many bytes were consumed.
    fn receive(self: &Rc<Self>, cx: &mut Cx<'_, S>, id: ConnId, input: &[u8]) -> usize {
        let mut rest = input;
        // A callback may have ended the connection or the loop, or paused the answer, also by taking long.
        while cx.reactor.is_open(id) && cx.reactor.may_read(id) && !cx.reactor.is_stopped() {
            match self.next_step(cx, id, &mut rest) {
                Step::More => break,
                Step::Handled => {}
                Step::Unasked => {
                    self.remove_connection(id);
                    cx.reactor
                        .abort(id, CloseCause::Http(HttpError::BadStatusLine));
                    self.dispatch_soon(cx.reactor);
                }
                Step::Head(request) => self.call_head(cx, request),
                Step::Discarded => self.reuse_or_close(cx.reactor, id, rest.is_empty()),
                Step::Redirected(request) => {
                    self.wait_again(request, false);
                    self.dispatch_soon(cx.reactor);
                }
                Step::Refused(request, error) => self.refuse(cx, id, request, error),
                Step::Complete(request) => self.complete(cx, id, request, rest.is_empty()),
                Step::Broken(error) => cx.reactor.abort(id, CloseCause::Http(error)),
            }
            cx.reactor.charge_message(id);
        }
        if self.is_dropped.get() {
            let idle = self.state.borrow_mut().pool.take_idle();
            for id in idle {
                close_idle(cx.reactor, id);
            }
        }
        match cx.reactor.is_open(id) {
            true if input.is_empty() => 0,
            true => {
                self.arm_body_deadline(cx.reactor, id);
                input.len() - rest.len()
            }
            false => input.len(),
        }
    }

    /// Takes one piece off the input. Calls back with a piece of the body of a stream.
    fn next_step(&self, cx: &mut Cx<'_, S>, id: ConnId, rest: &mut &[u8]) -> Step {
        let mut storage = HeaderStorage::new();
        let limits = &self.options.http;
        let mut state = self.state.borrow_mut();
        let State {
            pool, exchanges, ..
        } = &mut *state;
        let Some(pooled) = pool.connection(id) else {
            return Step::Unasked;
        };
        let request = match &mut pooled.usage {
            Use::Request(request) => *request,
            Use::Idle | Use::Reserved(_) if rest.is_empty() => return Step::More,
            Use::Idle | Use::Reserved(_) => return Step::Unasked,
            Use::Discard { decoder, .. } => {
                return match decoder.next_event(rest, &mut storage, limits) {
                    Ok(None) => Step::More,
                    Ok(Some(ResponseEvent::End)) => Step::Discarded,
                    Ok(Some(_)) => Step::Handled,
                    Err(_) => Step::Unasked,
                };
            }
        };
        let Some(exchange) = exchanges.get_mut(&request) else {
            return Step::Unasked;
        };
        let bytes = match exchange.decoder.next_event(rest, &mut storage, limits) {
            Ok(None) => return Step::More,
            Ok(Some(ResponseEvent::Interim(_))) => return Step::Handled,
            Ok(Some(ResponseEvent::Head(parsed))) => {
                return match exchange.take_head(&parsed) {
                    Ok(Head::Final) => match exchange.decoder.check_length() {
                        Ok(()) if exchange.is_whole() => Step::Handled,
                        Ok(()) => Step::Head(request),
                        Err(error) => Step::Broken(error),
                    },
                    Ok(Head::Redirected { kept_for }) => {
                        let mut decoder = exchange.renew_decoder();
                        decoder.limit_rest(DISCARDED_BYTES_MAX);
                        pool.set_discarding(id, decoder, kept_for);
                        Step::Redirected(request)
                    }
                    Err(error) => Step::Refused(request, error),
                };
            }
            Ok(Some(ResponseEvent::Body(bytes))) => bytes,
            Ok(Some(ResponseEvent::End)) => return Step::Complete(request),
            Err(error) => return Step::Broken(error),
        };
        if exchange.is_whole() {
            exchange.collect(bytes);
        } else {
            drop(state);
            self.call_part(cx, request, HttpPart::Body(bytes));
        }
        Step::Handled
    }

    fn call_head(&self, cx: &mut Cx<'_, S>, request: HttpRequestId) {
        let mut state = self.state.borrow_mut();
        let exchange = state.exchanges.get_mut(&request);
        let response = exchange.and_then(Exchange::take_response);
        drop(state);
        if let Some(response) = response {
            self.call_part(cx, request, HttpPart::Head(&response));
        }
    }

    fn call_part(&self, cx: &mut Cx<'_, S>, request: HttpRequestId, part: HttpPart<'_>) {
        let mut state = self.state.borrow_mut();
        let exchange = state.exchanges.get_mut(&request);
        let callback = exchange.and_then(|exchange| exchange.callback.take());
        drop(state);
        let Some(Callback::Parts(mut call)) = callback else {
            return;
        };
        call(cx, Ok(part));
        let mut state = self.state.borrow_mut();
        if let Some(exchange) = state.exchanges.get_mut(&request) {
            exchange.callback = Some(Callback::Parts(call));
        }
    }

    /// Ends a request whose answer is complete, and calls back.
    fn complete(
        self: &Rc<Self>,
        cx: &mut Cx<'_, S>,
        id: ConnId,
        request: HttpRequestId,
        is_at_end: bool,
    ) {
        self.reuse_or_close(cx.reactor, id, is_at_end);
        let Some(mut exchange) = self.take(cx.reactor, request) else {
            return;
        };
        match exchange.callback.take() {
            Some(Callback::Whole(call)) => {
                if let Some(response) = exchange.take_response() {
                    call(cx, Ok(response));
                }
            }
            Some(Callback::Parts(mut call)) => call(cx, Ok(HttpPart::End)),
            None => {}
        }
    }

    /// Ends a request whose redirect must not be followed.
    fn refuse(
        self: &Rc<Self>,
        cx: &mut Cx<'_, S>,
        id: ConnId,
        request: HttpRequestId,
        error: HttpRequestError,
    ) {
        let exchange = self.take(cx.reactor, request);
        self.remove_connection(id);
        cx.reactor.abort(id, CloseCause::Local);
        self.dispatch_soon(cx.reactor);
        if let Some(callback) = exchange.and_then(|exchange| exchange.callback) {
            callback.fail(cx, error);
        }
    }

    /// Keeps a connection whose answer is complete for the next request, or closes it. `is_at_end` when no byte is
    /// behind the answer.
    fn reuse_or_close(self: &Rc<Self>, reactor: &mut Reactor<S>, id: ConnId, is_at_end: bool) {
        let mut state = self.state.borrow_mut();
        let kept_for = state.kept_for(id).unwrap_or_default();
        // A server that answers before it has read the whole request may never read the rest.
        let is_sent = reactor.queued_bytes(id) == 0;
        let keeps = is_at_end
            && is_sent
            && !kept_for.is_zero()
            && !reactor.is_draining()
            && !self.is_dropped.get();
        match keeps {
            true => state.pool.set_idle(id),
            false => drop(state.pool.remove(id)),
        }
        drop(state);
        match keeps {
            true => {
                set_busy(reactor, id, false);
                let timeout = kept_for.min(self.options.keep_alive_timeout);
                reactor.set_deadline(id, Deadline::KeepAlive, timeout);
            }
            false if is_sent => close_idle(reactor, id),
            false => reactor.abort(id, CloseCause::Local),
        }
        self.dispatch_soon(reactor);
    }

    /// Removes a connection that ends. A request that it was to get waits for another one.
    fn remove_connection(&self, id: ConnId) {
        let removed = self.state.borrow_mut().pool.remove(id);
        if let Some((Use::Reserved(request), _)) = removed {
            self.wait_again(request, false);
        }
    }

    /// Puts off the deadline of a body whose bytes come.
    fn arm_body_deadline(&self, reactor: &mut Reactor<S>, id: ConnId) {
        let has_head = match self.state.borrow_mut().decoder(id) {
            Some(decoder) => decoder.has_head(),
            None => false,
        };
        if has_head {
            reactor.set_deadline(id, Deadline::Body, self.options.body_piece_timeout);
        }
    }

    // ── ends ─────────────────────────────────────────────────────────────────────────────────

    /// The server has ended its side.
    fn end(self: &Rc<Self>, cx: &mut Cx<'_, S>, id: ConnId) {
        let mut state = self.state.borrow_mut();
        let request = match state.pool.connection(id).map(|pooled| &pooled.usage) {
            Some(Use::Request(request)) => Some(*request),
            Some(Use::Discard { .. } | Use::Reserved(_) | Use::Idle) | None => None,
        };
        let exchange = request.and_then(|request| state.exchanges.get(&request));
        let outcome =
            exchange.map(|exchange| (exchange.decoder.check_end(), exchange.decoder.has_input()));
        drop(state);
        match (request, outcome) {
            (Some(request), Some((Ok(()), _))) => self.complete(cx, id, request, false),
            // `closed` repeats the request or fails it.
            (Some(_), Some((Err(_), false))) => cx.reactor.abort(id, CloseCause::Peer),
            (Some(_), Some((Err(error), true))) => {
                cx.reactor.abort(id, CloseCause::Http(error));
            }
            _ => {
                self.remove_connection(id);
                close_idle(cx.reactor, id);
                self.dispatch_soon(cx.reactor);
            }
        }
    }

    fn due(self: &Rc<Self>, reactor: &mut Reactor<S>, id: ConnId, deadline: Deadline) {
        match deadline {
            Deadline::KeepAlive => {
                self.remove_connection(id);
                close_idle(reactor, id);
            }
            // The rest of a long request has its own deadline, the one of the write queue.
            Deadline::Head if 0 < reactor.queued_bytes(id) => {
                reactor.set_deadline(id, Deadline::Head, self.options.head_timeout);
            }
            // While the application has paused the answer, the server's silence says nothing.
            Deadline::Head | Deadline::Body if !reactor.may_read(id) => {
                reactor.set_deadline(id, deadline, self.options.body_piece_timeout);
            }
            deadline => reactor.abort(id, CloseCause::TimedOut(deadline)),
        }
    }

    /// The connection is done. Its request goes over another one, or fails.
    fn closed(self: &Rc<Self>, cx: &mut Cx<'_, S>, id: ConnId, close: &Close) {
        let removed = self.state.borrow_mut().pool.remove(id);
        let Some((usage, was_used)) = removed else {
            return;
        };
        self.dispatch_soon(cx.reactor);
        let request = match usage {
            Use::Request(request) => request,
            Use::Reserved(request) if !cx.reactor.is_stopped() => {
                return self.wait_again(request, false);
            }
            Use::Reserved(request) => request,
            Use::Discard { .. } | Use::Idle => return,
        };
        if was_used && is_lost(close.cause) && !cx.reactor.is_stopped() {
            let mut state = self.state.borrow_mut();
            let exchange = state.exchanges.get_mut(&request);
            if let Some(exchange) = exchange.filter(|exchange| exchange.may_repeat()) {
                exchange.note_repeat();
                drop(state);
                return self.wait_again(request, true);
            }
        }
        let exchange = self.take(cx.reactor, request);
        if let Some(callback) = exchange.and_then(|exchange| exchange.callback) {
            callback.fail(cx, HttpRequestError::of_close(close));
        }
    }
}

impl<S> State<S> {
    /// The decoder of the answer that comes over a connection.
    fn decoder(&mut self, id: ConnId) -> Option<&ResponseDecoder> {
        match &self.pool.connection(id)?.usage {
            Use::Request(request) => Some(&self.exchanges.get(request)?.decoder),
            Use::Discard { decoder, .. } => Some(decoder),
            Use::Reserved(_) | Use::Idle => None,
        }
    }

    /// How long the server keeps a connection after the answer that came over it; `None` where it does not.
    fn kept_for(&mut self, id: ConnId) -> Option<Duration> {
        let keeps = self.decoder(id)?.keeps_alive();
        let said = match &self.pool.connection(id)?.usage {
            Use::Request(request) => self.exchanges.get(request).and_then(Exchange::kept_for),
            Use::Discard { kept_for, .. } => *kept_for,
            Use::Reserved(_) | Use::Idle => None,
        };
        keeps.then(|| said.unwrap_or(Duration::MAX))
    }
}

/// Whether a connection has ended so that the server may not have read the request.
fn is_lost(cause: CloseCause) -> bool {
    match cause {
        CloseCause::Peer => true,
        CloseCause::Io(kind) => matches!(
            kind,
            io::ErrorKind::BrokenPipe
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::NotConnected
                | io::ErrorKind::UnexpectedEof
        ),
        _ => false,
    }
}

/// Ends a connection that carries no request.
pub(super) fn close_idle<S: 'static>(reactor: &mut Reactor<S>, id: ConnId) {
    let close = Close {
        was_clean: true,
        ..Close::new(CloseCause::Local)
    };
    reactor.finish(id, close, false);
}

/// Notes whether a connection carries a request, which a drain lets end.
fn set_busy<S: 'static>(reactor: &mut Reactor<S>, id: ConnId, busy: bool) {
    if let Some(Protocol::Request { is_busy }) = reactor.protocol_mut(id) {
        *is_busy = busy;
    }
}

/// One connection of a client.
struct HttpConnection<S: 'static> {
    link: Rc<Link<S>>,
    name: String,
}

impl<S: 'static> Handler<S> for HttpConnection<S> {
    fn name(&self, _: Option<&Connection>) -> String {
        self.name.clone()
    }

    fn open(&mut self, cx: &mut Cx<'_, S>, id: ConnId) {
        self.link.open(cx.reactor, id);
    }

    fn receive(&mut self, cx: &mut Cx<'_, S>, id: ConnId, input: &mut [u8]) -> usize {
        self.link.receive(cx, id, input)
    }

    fn end(&mut self, cx: &mut Cx<'_, S>, id: ConnId) {
        self.link.end(cx, id);
    }

    fn below_low_mark(&mut self, _: &mut Cx<'_, S>, _: ConnId) {}

    fn due(&mut self, cx: &mut Cx<'_, S>, id: ConnId, deadline: Deadline) {
        self.link.due(cx.reactor, id, deadline);
    }

    fn closed(&mut self, cx: &mut Cx<'_, S>, id: ConnId, close: &Close) {
        self.link.closed(cx, id, close);
    }

    fn is_single(&self) -> bool {
        true
    }
}
