//! A client of event streams: one GET after the other, each going on behind the last event of the one before.
//!
//! ```text
//!   requested ──200, text/event-stream──▶ open ──▶ ended ──▶ away ──pause──▶ requested
//!       ├──── no connection, 5xx if asked ────────▶ │
//!       └──── 204, other status, other type, redirect refused ──▶ gave up
//! ```
//!
//! The requests are those of an HTTP client, which follows redirects and knows TLS; the events come out of
//! `protocol::event_stream`. Events are delivered by a tick of their own and not in the callback of a piece of the
//! body: a callback that panics then costs one event, and neither the stream nor the attempts that follow. Reading
//! pauses while `UNDELIVERED_BYTES_MAX` wait, so at most these and one piece do.
//!
//! Source: WHATWG HTML, section 9.2.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::protocol::event_stream::{self, Decoder, Event, Limits};
use crate::protocol::http::{Status, Url, is_header, without_user_info};
use crate::reactor::SetupResult;
use crate::reactor::outcome::Outcome;
use crate::reactor::reactor::{Cx, Reactor};
use crate::reactor::time::timers::TimerId;

use super::client_transport::ClientTransport;
use super::header;
use super::http::{
    HttpClient, HttpClientOptions, HttpPart, HttpRequest, HttpRequestError, HttpRequestId,
    HttpResponse,
};
use super::reconnect::{Backoff, Pauses};
use super::retry_after::retry_after;

/// Bytes of a stream whose events wait, from which on reading pauses until they are delivered.
const UNDELIVERED_BYTES_MAX: usize = 64 * 1024;

/// Most redirects of one attempt. Source: WHATWG Fetch, section 4.4.
const REDIRECTS_MAX: u8 = 20;

/// The headers of each request, apart from those that any request has.
const OWN_HEADERS: [&str; 3] = ["Accept", "Cache-Control", "Last-Event-ID"];

/// Without a deadline for silence: as long as the clock goes.
const NO_TIMEOUT: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// Why a stream has ended, or could not be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventSourceError {
    /// The server has ended the stream.
    Ended,
    /// The connection could not be made, has failed, or was silent for too long; or the request cannot be sent.
    Request(HttpRequestError),
    /// The status of the answer is not 200. With 204 a server asks its clients not to come back.
    Status(Status),
    /// The answer is not `text/event-stream`.
    ContentType,
    /// A line or an event is above its limit.
    Stream(event_stream::Error),
    /// This side has closed the stream.
    Closed,
}

impl fmt::Display for EventSourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EventSourceError::Ended => f.write_str("the server ended the stream"),
            EventSourceError::Request(error) => error.fmt(f),
            EventSourceError::Status(status) => write!(f, "the server answered {status}"),
            EventSourceError::ContentType => f.write_str("the answer is not text/event-stream"),
            EventSourceError::Stream(error) => error.fmt(f),
            EventSourceError::Closed => f.write_str("closed by us"),
        }
    }
}

impl std::error::Error for EventSourceError {}

/// The argument of `on_reconnect` of an event stream: the attempt that follows, and why.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EventSourceReconnect<'a> {
    /// The number of the attempt, from 1. It begins again after a stream that has brought an event, or was open for
    /// [`stable_after`](Backoff::stable_after).
    pub attempt: u32,
    /// The time from now to the attempt.
    pub pause: Duration,
    /// The end of the stream, or of the attempt before.
    pub error: &'a EventSourceError,
}

type OnOpen<S> = Box<dyn FnMut(&mut Cx<'_, S>)>;
type OnEvent<S> = Box<dyn FnMut(&mut Cx<'_, S>, &Event)>;
type OnReconnect<S> = Box<dyn FnMut(&mut Cx<'_, S>, &EventSourceReconnect<'_>)>;
type OnGiveUp<S> = Box<dyn FnMut(&mut Cx<'_, S>, &EventSourceError)>;

/// The callbacks and the options of a client of an event stream.
pub struct EventSourceSetup<S> {
    headers: Vec<(String, String)>,
    transport: ClientTransport,
    backoff: Backoff,
    limits: Limits,
    idle_timeout: Option<Duration>,
    retries_server_errors: bool,
    last_event_id: String,
    callbacks: Callbacks<S>,
}

struct Callbacks<S> {
    on_open: Option<OnOpen<S>>,
    on_event: Option<OnEvent<S>>,
    on_reconnect: Option<OnReconnect<S>>,
    on_give_up: Option<OnGiveUp<S>>,
}

impl<S: 'static> EventSourceSetup<S> {
    fn new() -> EventSourceSetup<S> {
        EventSourceSetup {
            headers: Vec::new(),
            transport: ClientTransport::default(),
            backoff: Backoff::default(),
            limits: Limits::default(),
            idle_timeout: Some(Duration::from_secs(60)),
            retries_server_errors: false,
            last_event_id: String::new(),
            callbacks: Callbacks {
                on_open: None,
                on_event: None,
                on_reconnect: None,
                on_give_up: None,
            },
        }
    }

    /// Adds a header to each request, such as `Authorization`. It is not sent to another origin after a redirect if it
    /// is one of the credentials that [`HttpRequest::redirects_max`] names.
    ///
    /// # Errors
    ///
    /// When the name is not a token, or the value has a control character, which could end the line; and for `Accept`,
    /// `Cache-Control` and `Last-Event-ID`, which the client sets, and those of
    /// [`EncodeError::ReservedName`](crate::protocol::http::EncodeError::ReservedName).
    pub fn header(&mut self, name: &str, value: &str) -> io::Result<()> {
        let is_own = OWN_HEADERS.iter().any(|own| own.eq_ignore_ascii_case(name));
        self.headers.push(header::checked(name, value, is_own)?);
        Ok(())
    }

    /// Sets the address to connect from, the proxy, and the TLS of `https://`.
    pub fn transport(&mut self, transport: impl Into<ClientTransport>) {
        self.transport = transport.into();
    }

    /// Sets the pauses before attempts. A time that the server has sent as `retry` comes before the pause, up to
    /// the maximum.
    pub fn reconnect(&mut self, backoff: Backoff) {
        self.backoff = backoff;
    }

    /// Sets the limits of a line and of an event. A stream above them is given up.
    pub fn limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Sets how long a stream may be silent, also without comments, before the client connects again. 60 seconds by
    /// default; the standard recommends servers to send a comment every 15 seconds. `None` waits for ever for a server
    /// that may be gone.
    pub fn idle_timeout(&mut self, timeout: Option<Duration>) {
        self.idle_timeout = timeout;
    }

    /// Sets whether answers with 408, 425, 429 and 5xx lead to another attempt, with the `Retry-After` of 429 and
    /// 503 as far as the maximum of the pauses allows. Off by default: the standard gives up at every status but 200.
    pub fn retries_server_errors(&mut self, retries: bool) {
        self.retries_server_errors = retries;
    }

    /// Sets the id behind which the first stream begins, as an earlier run of the program has kept it.
    pub fn last_event_id(&mut self, id: &str) {
        id.clone_into(&mut self.last_event_id);
    }

    /// Called each time the stream has been opened.
    pub fn on_open<R: Outcome>(&mut self, mut call: impl FnMut(&mut Cx<'_, S>) -> R + 'static) {
        self.callbacks.on_open = Some(Box::new(move |cx| {
            let outcome = call(cx);
            cx.reactor.note_outcome(outcome);
        }));
    }

    /// Called with each event. A panic costs this event only.
    pub fn on_event<R: Outcome>(
        &mut self,
        mut call: impl FnMut(&mut Cx<'_, S>, &Event) -> R + 'static,
    ) {
        self.callbacks.on_event = Some(Box::new(move |cx, event| {
            let outcome = call(cx, event);
            cx.reactor.note_outcome(outcome);
        }));
    }

    /// Called when another attempt follows, with its number, the pause before it, and why.
    pub fn on_reconnect<R: Outcome>(
        &mut self,
        mut call: impl FnMut(&mut Cx<'_, S>, &EventSourceReconnect<'_>) -> R + 'static,
    ) {
        self.callbacks.on_reconnect = Some(Box::new(move |cx, next| {
            let outcome = call(cx, next);
            cx.reactor.note_outcome(outcome);
        }));
    }

    /// Called once, when no further attempt follows, with the reason.
    pub fn on_give_up<R: Outcome>(
        &mut self,
        mut call: impl FnMut(&mut Cx<'_, S>, &EventSourceError) -> R + 'static,
    ) {
        self.callbacks.on_give_up = Some(Box::new(move |cx, error| {
            let outcome = call(cx, error);
            cx.reactor.note_outcome(outcome);
        }));
    }
}

/// A client of an event stream that connects again. A clone is the same client.
///
/// [`Reactor::event_source`] makes it. It goes on without its handles, until it is closed or gives up.
pub struct EventSource<S: 'static> {
    source: Rc<Source<S>>,
}

impl<S> Clone for EventSource<S> {
    fn clone(&self) -> Self {
        EventSource {
            source: Rc::clone(&self.source),
        }
    }
}

impl<S: 'static> EventSource<S> {
    /// Ends the stream, and connects no more. Events that were not delivered yet are dropped.
    pub fn close(&self, reactor: &mut Reactor<S>) {
        let source = &self.source;
        if source.is_closed.replace(true) {
            return;
        }
        source.end(reactor);
        let source = Rc::clone(source);
        // Not now, because no method of the application's calls one of its callbacks.
        reactor.next_tick(move |cx| source.call_on_give_up(cx, &EventSourceError::Closed));
    }

    /// The id of the last event that was delivered, for another run of the program. Empty for none. Within `on_event`
    /// it is the id of that event. Events that were not delivered before [`close`](Self::close) do not count.
    pub fn last_event_id(&self) -> String {
        self.source.delivered_id.borrow().to_string()
    }

    /// Whether a stream is open.
    pub fn is_open(&self) -> bool {
        self.source.opened_at.get().is_some()
    }

    /// Whether the client connects no more: it was closed, or has given up.
    pub fn has_ended(&self) -> bool {
        self.source.is_closed.get()
    }
}

/// # Connect
impl<S: 'static> Reactor<S> {
    /// Reads the event stream of an `http://` or `https://` URL, and connects again when it ends, behind the last
    /// event that came. `setup` names the callbacks and the options, and runs once.
    ///
    /// As the standard says, the client sends `Last-Event-ID`, follows up to 20 redirects, waits for as long as the
    /// server has said with `retry`, and gives up for any status but 200 (204 is how a server sends clients away) and
    /// for another type than `text/event-stream`. It also gives up when a line or an event is above its
    /// [limit](EventSourceSetup::limits), after as many attempts as
    /// [`attempts_max`](crate::Backoff::attempts_max) allows, and with [`Reactor::drain`] or [`Reactor::stop`],
    /// then without a call of `on_give_up`. All else leads to another attempt, with a random pause of
    /// [`Backoff`] behind the time that the server has asked for.
    ///
    /// ```
    /// use waterwheel::{Event, Reactor, Sim};
    ///
    /// let mut sim = Sim::new(Vec::new(), |reactor: &mut Reactor<Vec<String>>| {
    ///     reactor.http("0.0.0.0:80", |http| {
    ///         http.get("/news", |request| request.event_stream().subscribe("news"));
    ///     })?;
    ///     reactor.event_source("http://localhost/news", |events| {
    ///         events.on_event(|cx, event| cx.state.push(format!("{}: {}", event.name, event.data)));
    ///     })?;
    ///     std::io::Result::Ok(())
    /// });
    /// sim.settle();
    /// sim.reactor().publish("news", Event::new("headline").data("It works"));
    /// sim.settle();
    /// assert_eq!(*sim.state(), ["headline: It works"]);
    /// ```
    ///
    /// # Errors
    ///
    /// When `url` is not a URL of this kind, when the pauses or the timeout are impossible, and when `setup` returns
    /// an error.
    pub fn event_source<R: SetupResult>(
        &mut self,
        url: &str,
        setup: impl FnOnce(&mut EventSourceSetup<S>) -> R,
    ) -> io::Result<EventSource<S>> {
        let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidInput, why);
        Url::of_http(url).map_err(|error| {
            let url = without_user_info(url);
            invalid(format!("cannot connect to {url}: {error}"))
        })?;
        let mut chosen = EventSourceSetup::new();
        setup(&mut chosen).into_result()?;
        let options = HttpClientOptions {
            connections_max: 1,
            connections_per_host_max: 1,
            body_piece_timeout: chosen.idle_timeout.unwrap_or(NO_TIMEOUT),
            transport: chosen.transport,
            ..HttpClientOptions::default()
        };
        let client = self.http_client_with(options)?;
        let random = self.random();
        let decoder = Decoder::behind(&chosen.last_event_id);
        let source = Rc::new(Source {
            url: url.to_owned(),
            headers: chosen.headers,
            limits: chosen.limits,
            retries_server_errors: chosen.retries_server_errors,
            client,
            request: Cell::new(None),
            timer: Cell::new(None),
            is_closed: Cell::new(false),
            opened_at: Cell::new(None),
            has_brought_event: Cell::new(false),
            delivered_id: RefCell::new(Arc::clone(decoder.last_event_id())),
            decoder: RefCell::new(decoder),
            pauses: RefCell::new(Pauses::new(chosen.backoff.checked()?, random)),
            arrived: RefCell::default(),
            undelivered_bytes: Cell::new(0),
            has_tick: Cell::new(false),
            at_end: Cell::new(None),
            callbacks: RefCell::new(Some(Rc::new(RefCell::new(chosen.callbacks)))),
        });
        let ended = Rc::clone(&source);
        let at_end = self.at_end(move |cx| {
            ended.at_end.set(None);
            ended.forget(cx.reactor);
        });
        source.at_end.set(Some(at_end));
        source.connect(self);
        Ok(EventSource { source })
    }
}

/// The news for the application, in order.
enum Arrived {
    Open,
    Event(Event),
    Reconnect {
        attempt: u32,
        pause: Duration,
        error: EventSourceError,
    },
    GiveUp(EventSourceError),
}

struct Source<S: 'static> {
    url: String,
    headers: Vec<(String, String)>,
    limits: Limits,
    retries_server_errors: bool,
    client: HttpClient<S>,
    request: Cell<Option<HttpRequestId>>,
    /// The timer of the next attempt.
    timer: Cell<Option<TimerId>>,
    is_closed: Cell<bool>,
    opened_at: Cell<Option<Duration>>,
    has_brought_event: Cell<bool>,
    decoder: RefCell<Decoder>,
    /// The id of the last event that was delivered. That of the decoder may be of one that waits.
    delivered_id: RefCell<Arc<str>>,
    pauses: RefCell<Pauses>,
    /// Not delivered yet. At most what [`UNDELIVERED_BYTES_MAX`] and one piece of the body have brought, and the end
    /// behind it.
    arrived: RefCell<VecDeque<Arrived>>,
    /// The bytes of the stream that came since all of `arrived` was delivered.
    undelivered_bytes: Cell<usize>,
    has_tick: Cell<bool>,
    /// The key of the call at the end of the loop.
    at_end: Cell<Option<usize>>,
    /// `None` after the end. The application's closures may hold the client itself.
    callbacks: RefCell<Option<Rc<RefCell<Callbacks<S>>>>>,
}

impl<S: 'static> Source<S> {
    /// Makes an attempt.
    fn connect(self: &Rc<Self>, reactor: &mut Reactor<S>) {
        self.timer.set(None);
        if reactor.is_draining() {
            return self.forget(reactor);
        }
        let mut request = HttpRequest::get(self.url.as_str())
            .redirects_max(REDIRECTS_MAX)
            .header("Accept", "text/event-stream")
            .header("Cache-Control", "no-cache");
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let decoder = self.decoder.borrow();
        let id = decoder.last_event_id();
        // An id may hold control characters, which a header may not.
        if !id.is_empty() && is_header("Last-Event-ID", id) {
            request = request.header("Last-Event-ID", &**id);
        }
        drop(decoder);
        let source = Rc::clone(self);
        let on_part = move |cx: &mut Cx<'_, S>, part: Result<HttpPart<'_>, HttpRequestError>| {
            source.receive(cx.reactor, part);
        };
        let request = self.client.stream(reactor, request, on_part);
        self.request.set(Some(request));
    }

    fn receive(
        self: &Rc<Self>,
        reactor: &mut Reactor<S>,
        part: Result<HttpPart<'_>, HttpRequestError>,
    ) {
        if self.is_closed.get() {
            return;
        }
        match part {
            Ok(HttpPart::Head(response)) => self.receive_head(reactor, response),
            Ok(HttpPart::Body(bytes)) => self.receive_body(reactor, bytes),
            Ok(HttpPart::End) => self.stream_ended(reactor, EventSourceError::Ended, None),
            Err(error) => {
                let is_final = is_final(&error);
                let error = EventSourceError::Request(error);
                match is_final {
                    true => self.give_up(reactor, error),
                    false => self.stream_ended(reactor, error, None),
                }
            }
        }
    }

    fn receive_head(self: &Rc<Self>, reactor: &mut Reactor<S>, response: &HttpResponse) {
        let status = response.status;
        if status != Status::OK {
            self.cancel_request(reactor);
            let error = EventSourceError::Status(status);
            let may_pass = matches!(status.code(), 408 | 425 | 429 | 500..);
            if self.retries_server_errors && may_pass {
                let asked = retry_after(status, response.header("retry-after"));
                return self.stream_ended(reactor, error, asked);
            }
            return self.give_up(reactor, error);
        }
        if !is_event_stream(response.header("content-type").unwrap_or_default()) {
            self.cancel_request(reactor);
            return self.give_up(reactor, EventSourceError::ContentType);
        }
        self.opened_at.set(Some(reactor.now()));
        self.has_brought_event.set(false);
        if let Some(connection) = self
            .request
            .get()
            .and_then(|id| self.client.connection_of(id))
        {
            // The stream has no end that a drain could wait for.
            reactor.outlast_drain(connection);
        }
        self.deliver(reactor, Arrived::Open);
    }

    fn receive_body(self: &Rc<Self>, reactor: &mut Reactor<S>, mut bytes: &[u8]) {
        // Small events take more memory than their bytes. A pause for each piece would cost a turn for each, and a
        // server may make a piece of each event.
        let undelivered_bytes = self.undelivered_bytes.get() + bytes.len();
        self.undelivered_bytes.set(undelivered_bytes);
        if UNDELIVERED_BYTES_MAX <= undelivered_bytes
            && let Some(request) = self.request.get()
        {
            self.client.pause(reactor, request);
        }
        self.deliver_soon(reactor);
        loop {
            let event = self
                .decoder
                .borrow_mut()
                .next_event(&mut bytes, &self.limits);
            match event {
                Ok(Some(event)) => {
                    self.has_brought_event.set(true);
                    self.deliver(reactor, Arrived::Event(event));
                }
                Ok(None) => return,
                Err(error) => {
                    self.cancel_request(reactor);
                    return self.give_up(reactor, EventSourceError::Stream(error));
                }
            }
        }
    }

    /// A stream has ended, or an attempt has failed. `asked` is the time that the server has asked for in this answer.
    fn stream_ended(
        self: &Rc<Self>,
        reactor: &mut Reactor<S>,
        error: EventSourceError,
        asked: Option<Duration>,
    ) {
        self.request.set(None);
        let now = reactor.now();
        let lasted = self.opened_at.take().map(|at| now.saturating_sub(at));
        if reactor.is_stopped() || reactor.is_draining() {
            return self.forget(reactor);
        }
        let mut decoder = self.decoder.borrow_mut();
        decoder.restart();
        let asked = asked.or(decoder.retry());
        drop(decoder);
        let mut pauses = self.pauses.borrow_mut();
        match self.has_brought_event.take() {
            true => pauses.begin_again(),
            false => pauses.note_connection(lasted.unwrap_or_default()),
        }
        let pause = pauses.next_after(asked);
        let attempt = pauses.attempts();
        drop(pauses);
        let Some(pause) = pause else {
            return self.give_up(reactor, error);
        };
        let source = Rc::clone(self);
        let timer = reactor.after(pause, move |cx| source.connect(cx.reactor));
        self.timer.set(Some(timer));
        let arrived = Arrived::Reconnect {
            attempt,
            pause,
            error,
        };
        self.deliver(reactor, arrived);
    }

    fn give_up(self: &Rc<Self>, reactor: &mut Reactor<S>, error: EventSourceError) {
        self.opened_at.set(None);
        self.is_closed.set(true);
        self.deliver(reactor, Arrived::GiveUp(error));
    }

    fn cancel_request(&self, reactor: &mut Reactor<S>) {
        if let Some(request) = self.request.take() {
            self.client.cancel(reactor, request);
        }
    }

    /// Ends the request or the timer that is under way, and drops what was not delivered.
    fn end(&self, reactor: &mut Reactor<S>) {
        self.is_closed.set(true);
        self.opened_at.set(None);
        self.cancel_request(reactor);
        if let Some(timer) = self.timer.take() {
            reactor.cancel(timer);
        }
        self.arrived.borrow_mut().clear();
    }

    /// As [`end`](Self::end), without a call of the application.
    fn forget(&self, reactor: &mut Reactor<S>) {
        self.end(reactor);
        drop(self.take_callbacks(reactor));
    }

    /// Takes the callbacks out at the end. They may hold the client that holds them.
    fn take_callbacks(&self, reactor: &mut Reactor<S>) -> Option<Rc<RefCell<Callbacks<S>>>> {
        if let Some(key) = self.at_end.take() {
            reactor.forget_at_end(key);
        }
        self.callbacks.take()
    }

    // ── the application ──────────────────────────────────────────────────────────────────────

    /// Has the application told in the next turn.
    fn deliver(self: &Rc<Self>, reactor: &mut Reactor<S>, arrived: Arrived) {
        self.arrived.borrow_mut().push_back(arrived);
        self.deliver_soon(reactor);
    }

    fn deliver_soon(self: &Rc<Self>, reactor: &mut Reactor<S>) {
        if !self.has_tick.replace(true) {
            let source = Rc::clone(self);
            reactor.next_tick(move |cx| source.deliver_all(cx));
        }
    }

    /// Calls the application with what has come, as long as one connection may take in a turn.
    fn deliver_all(self: &Rc<Self>, cx: &mut Cx<'_, S>) {
        self.has_tick.set(false);
        let began = cx.reactor.clock_now();
        while !cx.reactor.is_stopped() {
            let arrived = self.arrived.borrow_mut().pop_front();
            // Before the call: one that panics ends this tick.
            match self.arrived.borrow().is_empty() {
                true => self.read_on(cx.reactor),
                false => self.deliver_soon(cx.reactor),
            }
            match arrived {
                None => return,
                Some(Arrived::GiveUp(error)) => return self.call_on_give_up(cx, &error),
                Some(other) => self.call(cx, &other),
            }
            let took = cx.reactor.clock_now().saturating_sub(began);
            if cx.reactor.config().read_time_budget <= took {
                // The last id may have come without an event.
                return self.deliver_soon(cx.reactor);
            }
        }
    }

    /// All that has come was delivered, or is being delivered: reads the next piece.
    fn read_on(&self, reactor: &mut Reactor<S>) {
        // The events that waited have been dropped.
        if self.is_closed.get() {
            return;
        }
        // An id without an event counts too.
        let id = Arc::clone(self.decoder.borrow().last_event_id());
        self.delivered_id.replace(id);
        self.undelivered_bytes.set(0);
        if let Some(request) = self.request.get() {
            self.client.resume(reactor, request);
        }
    }

    fn call(&self, cx: &mut Cx<'_, S>, arrived: &Arrived) {
        let Some(callbacks) = self.callbacks.borrow().clone() else {
            return;
        };
        let mut callbacks = callbacks.borrow_mut();
        match arrived {
            Arrived::Open => {
                if let Some(call) = &mut callbacks.on_open {
                    cx.reactor.note_callback("on_open");
                    call(cx);
                }
            }
            Arrived::Event(event) => {
                self.delivered_id.replace(Arc::clone(&event.id));
                if let Some(call) = &mut callbacks.on_event {
                    cx.reactor.note_callback("on_event");
                    call(cx, event);
                }
            }
            Arrived::Reconnect {
                attempt,
                pause,
                error,
            } => {
                if let Some(call) = &mut callbacks.on_reconnect {
                    cx.reactor.note_callback("on_reconnect");
                    let next = EventSourceReconnect {
                        attempt: *attempt,
                        pause: *pause,
                        error,
                    };
                    call(cx, &next);
                }
            }
            Arrived::GiveUp(_) => {}
        }
    }

    /// Calls the application for the last time.
    fn call_on_give_up(&self, cx: &mut Cx<'_, S>, error: &EventSourceError) {
        let Some(callbacks) = self.take_callbacks(cx.reactor) else {
            return;
        };
        if let Some(call) = &mut callbacks.borrow_mut().on_give_up {
            cx.reactor.note_callback("on_give_up");
            call(cx, error);
        }
    }
}

/// Whether the same request would fail again in the same way.
fn is_final(error: &HttpRequestError) -> bool {
    match error {
        HttpRequestError::Url(_)
        | HttpRequestError::Request(_)
        | HttpRequestError::TooManyRedirects
        | HttpRequestError::RepeatedLocation
        | HttpRequestError::Redirect(_)
        | HttpRequestError::InsecureRedirect => true,
        HttpRequestError::Full
        | HttpRequestError::TimedOut(_)
        | HttpRequestError::Connection { .. }
        | HttpRequestError::Response(_) => false,
    }
}

/// Whether a content type is that of event streams, with any parameters. Source: WHATWG HTML, section 9.2.3.
fn is_event_stream(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("text/event-stream")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_of_event_streams() {
        let cases = [
            ("text/event-stream", true),
            ("Text/Event-Stream;charset=utf-8", true),
            (" text/event-stream ; x=y", true),
            ("text/event-streams", false),
            ("application/json", false),
            ("", false),
        ];
        for (content_type, expected) in cases {
            assert_eq!(is_event_stream(content_type), expected, "{content_type:?}");
        }
    }
}
