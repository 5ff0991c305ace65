//! What an HTTP callback gets: the request, and the ways to answer it.

use std::borrow::Cow;
use std::time::Duration;

use crate::protocol::event_stream;
use crate::protocol::http::{Headers, Phase, RequestHead, ResponseHead, Status, form};
use crate::pubsub::TopicError;
use crate::reactor::close::{Deadline, Sent};
use crate::reactor::id::ConnId;
use crate::reactor::protocol::Protocol;
use crate::reactor::reactor::Reactor;
use crate::reactor::transport::Peer;

use super::path::{Parameters, Pattern};
use super::reply::{Reply, Responder};

/// A request whose body is there, within its limit, and the ways to answer it.
///
/// What it lends (`form`, `query`, `header`, `body`) borrows from the input and not from the
/// request, so that it can be used while `reactor` and `state` are.
pub struct Request<'a, 'i, S> {
    /// Your state.
    pub state: &'a mut S,
    /// Everything a callback may ask for.
    pub reactor: &'a mut Reactor<S>,
    /// The connection it came on.
    pub id: ConnId,
    pub(crate) head: &'i RequestHead<'i>,
    pub(crate) pattern: &'a Pattern,
    pub(crate) parameters: Parameters<'i>,
    pub(crate) body: &'i [u8],
    pub(crate) is_answered: bool,
}

impl<'i, S: 'static> Request<'_, 'i, S> {
    // ── what was asked ───────────────────────────────────────────────────────────────────────

    /// The method, such as `GET`.
    pub fn method(&self) -> &'i str {
        self.head.method
    }

    /// The path, as it came, without the query.
    pub fn path(&self) -> &'i str {
        self.head.path()
    }

    /// The whole query, as it came, without the question mark.
    pub fn query_string(&self) -> Option<&'i str> {
        self.head.query()
    }

    /// A parameter of the query, decoded; the first of its name. `None` also for one that is not
    /// UTF-8.
    pub fn query(&self, name: &str) -> Option<Cow<'i, str>> {
        form::value(self.head.query()?, name)
    }

    /// All parameters of the query with a name, decoded.
    pub fn queries(&self, name: &'i str) -> impl Iterator<Item = Cow<'i, str>> + use<'i, S> {
        form::pairs(self.head.query().unwrap_or_default())
            .filter_map(move |(key, value)| (key == name).then_some(value))
    }

    /// A `:name` of the route's path, decoded.
    pub fn param(&self, name: &str) -> Option<Cow<'i, str>> {
        self.pattern.value(&self.parameters, name)
    }

    /// A field of a form body (`application/x-www-form-urlencoded`), decoded.
    pub fn form(&self, name: &str) -> Option<Cow<'i, str>> {
        form::value(str::from_utf8(self.body).ok()?, name)
    }

    /// The headers.
    pub fn headers(&self) -> Headers<'i> {
        self.head.headers
    }

    /// The first header with a name, whatever its case. `None` also for one that is not text.
    pub fn header(&self, name: &str) -> Option<&'i str> {
        self.head.headers.first(name)
    }

    /// Host and port that the client asks for: the target's where it names them, else those of the
    /// `Host` header. Source: RFC 9112, section 3.2.2.
    pub fn host(&self) -> Option<&'i str> {
        self.head.host()
    }

    /// The body.
    pub fn body(&self) -> &'i [u8] {
        self.body
    }

    /// The body as text; `None` when it is not UTF-8.
    pub fn text(&self) -> Option<&'i str> {
        str::from_utf8(self.body).ok()
    }

    /// Where the client is. Asks the kernel.
    pub fn peer(&self) -> Peer {
        self.reactor.peer(self.id)
    }

    // ── the answer ───────────────────────────────────────────────────────────────────────────

    /// Answers. The second answer to one request is `Gone`.
    pub fn reply(&mut self, reply: impl Into<Reply>) -> Sent {
        if std::mem::replace(&mut self.is_answered, true) {
            return Sent::Gone;
        }
        self.reactor.respond(self.id, reply.into());
        Sent::Queued
    }

    /// Takes the request, to be answered by [`Reactor::reply`] from a timer or another event, within
    /// the route's `reply_timeout`.
    ///
    /// A client that ends its side meanwhile counts as gone: `on_close` is called, and the
    /// responder is stale. After an answer it is stale from the start.
    pub fn reply_later(&mut self) -> Responder {
        let exchange = self.reactor.exchange(self.id);
        let request = exchange.map_or(0, |exchange| exchange.request());
        let responder = Responder {
            id: self.id,
            request,
        };
        if std::mem::replace(&mut self.is_answered, true) {
            return responder;
        }
        let timeout = self
            .reactor
            .options_of(self.id)
            .map_or(Duration::from_secs(60), |options| options.reply_timeout);
        self.reactor.pause_for_answer(self.id);
        self.reactor.set_deadline(self.id, Deadline::Reply, timeout);
        responder
    }

    /// Answers with a stream of Server-Sent Events: what is published to the topics it subscribes
    /// to, and what is sent to its id.
    ///
    /// Source: WHATWG HTML, section 9.2.
    pub fn event_stream(&mut self) -> EventStream<'_, S> {
        let id = self.id;
        let chunked = self.begin_stream(
            "text/event-stream",
            &[
                ("Cache-Control", "no-cache, no-transform"),
                ("X-Accel-Buffering", "no"),
            ],
        );
        if let Some(chunked) = chunked {
            let is_head = self
                .reactor
                .exchange(id)
                .is_some_and(|exchange| exchange.is_head_request());
            if is_head {
                self.reactor.complete(id);
            } else {
                self.reactor.begin_events(id, chunked);
            }
        }
        EventStream {
            reactor: self.reactor,
            id,
        }
    }

    /// Answers with a body that is sent piece by piece: `reactor.send(id, ..)` each, then
    /// `reactor.finish_body(id)`.
    ///
    /// Chunked, or until the end of the connection for HTTP/1.0.
    pub fn stream(&mut self, content_type: &'static str) -> ConnId {
        let id = self.id;
        if self.begin_stream(content_type, &[]).is_some() {
            self.reactor.clear_deadline(id);
            self.reactor.pause_for_answer(id);
            self.reactor.mark_opened(id);
        }
        id
    }

    fn begin_stream(&mut self, content_type: &str, headers: &[(&str, &str)]) -> Option<bool> {
        if std::mem::replace(&mut self.is_answered, true) {
            return None;
        }
        let date = self.reactor.date();
        let exchange = self.reactor.exchange(self.id)?;
        let chunked = !exchange.is_http_10();
        let owed = exchange.take_owed_headers();
        exchange.begin_stream(chunked);
        let head = ResponseHead {
            status: Status::OK,
            is_http_10: exchange.is_http_10(),
            keep_alive: exchange.keeps_alive(),
            date: &date,
            content_type: Some(content_type),
            length: None,
            is_chunked: chunked,
        };
        let mut out = Vec::with_capacity(256);
        let owed = owed.iter().map(|(name, value)| (*name, value.as_str()));
        head.encode(headers.iter().copied().chain(owed), &mut out);
        self.reactor.queue_reply(self.id, &out);
        Some(chunked)
    }
}

/// An event stream that has begun.
pub struct EventStream<'a, S> {
    pub(crate) reactor: &'a mut Reactor<S>,
    /// The connection that carries it.
    pub id: ConnId,
}

impl<S: 'static> EventStream<'_, S> {
    /// Makes the stream a member of a topic; several calls, of several topics. Returns its id, which
    /// a route's callback can return while the stream itself is borrowed from the request.
    ///
    /// A name that cannot be a topic's, or one too many, is logged and left out; use
    /// [`Reactor::subscribe`] to learn of it.
    pub fn subscribe(&mut self, topic: &str) -> ConnId {
        let outcome = self.reactor.subscribe(self.id, topic);
        self.log(topic, outcome)
    }

    /// Makes the stream a member of all topics that match a pattern. As
    /// [`subscribe`](Self::subscribe) otherwise.
    pub fn subscribe_pattern(&mut self, pattern: &str) -> ConnId {
        let outcome = self.reactor.subscribe_pattern(self.id, pattern);
        self.log(pattern, outcome)
    }

    /// Sends the client how long to wait before it connects again once the stream has ended. Without
    /// it a browser waits about three seconds.
    ///
    /// Source: WHATWG HTML, section 9.2.6.
    pub fn retry(self, delay: Duration) -> Self {
        let mut line = Vec::new();
        event_stream::encode_retry(delay, &mut line);
        self.reactor.send_to_stream(self.id, &line);
        self
    }

    fn log(&self, name: &str, outcome: Result<bool, TopicError>) -> ConnId {
        if let Err(error) = outcome {
            log::warn!("conn {}: cannot subscribe to {name:?}: {error}", self.id);
        }
        self.id
    }
}

impl<S: 'static> Reactor<S> {
    fn begin_events(&mut self, id: ConnId, chunked: bool) {
        self.set_protocol(id, Protocol::EventStream { chunked }, None);
        self.mark_opened(id);
        // A first byte at once: some proxies and browsers report nothing before it.
        self.send_comment(id);
        self.restart_heartbeat(id);
    }

    pub(crate) fn restart_heartbeat(&mut self, id: ConnId) {
        match self
            .options_of(id)
            .and_then(|options| options.heartbeat_interval)
        {
            Some(interval) => self.set_deadline(id, Deadline::Heartbeat, interval),
            None => self.clear_deadline(id),
        }
    }

    pub(crate) fn send_comment(&mut self, id: ConnId) {
        self.send_to_stream(id, b":\n\n");
    }

    /// Sends lines of an event stream to a connection that is one.
    fn send_to_stream(&mut self, id: ConnId, lines: &[u8]) {
        let mut out = Vec::with_capacity(lines.len() + 8);
        let is_stream = self
            .protocol(id)
            .is_some_and(|protocol| protocol.encode_event_lines(lines, &mut out));
        if is_stream {
            self.queue_reply(id, &out);
        }
    }

    /// Ends a body that was sent piece by piece. `Gone` when there is no such body.
    pub fn finish_body(&mut self, id: ConnId) -> Sent {
        let mut out = Vec::new();
        match self.exchange(id) {
            Some(exchange) if exchange.phase() == Phase::Stream => exchange.encode_end(&mut out),
            _ => return Sent::Gone,
        }
        if !out.is_empty() {
            self.queue_reply(id, &out);
        }
        self.complete(id);
        Sent::Queued
    }
}
