//! The argument of HTTP callbacks: the request, and the ways to answer it.

use std::borrow::Cow;
use std::io;

use crate::protocol::http::{
    Accept, Check, Conditions, Deferred, Headers, Phase, RequestHead, Scheme, Status, form,
};
use crate::reactor::close::Sent;
use crate::reactor::id::ConnId;
use crate::reactor::outcome::CallbackError;
use crate::reactor::reactor::{Cx, Reactor};
use crate::reactor::transport::socket::Peer;

use super::body_sender::BodySender;
use super::event_stream::EventStream;
use super::files::place::{Place, unix_seconds};
use super::path::Pattern;
use super::reply::{Reply, Responder};

/// A request with its whole body, and the ways to answer it.
///
/// The results of `form`, `query`, `header` and `body` borrow from the input and not from the request, so that
/// they can be used together with `reactor` and `state`.
pub struct Request<'a, 'i, S> {
    /// Your state.
    pub state: &'a mut S,
    /// The reactor: sending, publishing, timers, connecting.
    pub reactor: &'a mut Reactor<S>,
    /// The connection that the request came on.
    pub id: ConnId,
    pub(crate) head: &'i RequestHead<'i>,
    pub(crate) pattern: &'a Pattern,
    pub(crate) body: &'i [u8],
    pub(crate) is_answered: bool,
    /// The bytes of the head.
    pub(crate) head_bytes: &'i [u8],
    /// The check that is being made. `None` in the route's own callback.
    pub(crate) check: Option<Check>,
    /// The choices for the 101.
    pub(crate) accept: Accept,
}

impl<'i, S: 'static> Request<'_, 'i, S> {
    // ── the request ───────────────────────────────────────────────────────────────────────

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

    /// A parameter of the query, decoded; the first of its name. `None` also for a value that is not
    /// UTF-8.
    pub fn query(&self, name: &str) -> Option<Cow<'i, str>> {
        form::value(self.head.query()?, name)
    }

    /// All parameters of the query with a name, decoded.
    pub fn queries(&self, name: &'i str) -> impl Iterator<Item = Cow<'i, str>> + use<'i, S> {
        form::pairs(self.head.query().unwrap_or_default())
            .filter_map(move |(key, value)| (key == name).then_some(value))
    }

    /// A `:name` of the route's path, decoded. `*` is the part that the route's `*` stands for, without the
    /// slash in front of it: `a/b` for the path `/files/a/b` and the route `/files/*`, and empty for
    /// `/files`. Dot segments stay, and decoding may make further slashes, so check the value before it
    /// names a file.
    pub fn param(&self, name: &str) -> Option<Cow<'i, str>> {
        self.pattern.value(self.head.path(), name)
    }

    /// A field of a form body (`application/x-www-form-urlencoded`), decoded.
    pub fn form(&self, name: &str) -> Option<Cow<'i, str>> {
        form::value(str::from_utf8(self.body).ok()?, name)
    }

    /// The headers.
    pub fn headers(&self) -> Headers<'i> {
        self.head.headers
    }

    /// The first header with a name, whatever its case.
    ///
    /// A value that is not UTF-8 is returned as `"\u{FFFD}"`, so that a check which lets a request without this
    /// header pass does not take it for absent. [`headers`](Self::headers) has its bytes.
    pub fn header(&self, name: &str) -> Option<&'i str> {
        self.head.headers.first(name)
    }

    /// Host and port of the request: those of an absolute request target, otherwise those of the
    /// `Host` header. Source: RFC 9112, section 3.2.2.
    pub fn host(&self) -> Option<&'i str> {
        self.head.host
    }

    /// The body.
    pub fn body(&self) -> &'i [u8] {
        self.body
    }

    /// The body as text; `None` when it is not UTF-8.
    pub fn text(&self) -> Option<&'i str> {
        str::from_utf8(self.body).ok()
    }

    /// Whether a [trusted proxy](crate::Config::trusted_proxies) says that the client asked by HTTPS, in
    /// `Forwarded` or `X-Forwarded-Proto`. Of several proxies in a row the outermost trusted one decides. `false`
    /// when none says anything: there is no TLS without a proxy yet.
    ///
    /// ```
    /// # use waterwheel::{Config, ListenOptions, Reactor, Sim};
    /// # let config = Config { trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()], ..Config::default() };
    /// # let mut sim = Sim::with_config(config, (), |reactor: &mut Reactor<()>| {
    /// # reactor.http(ListenOptions::new("0.0.0.0:80").proxy_protocol(true), |http| {
    /// http.get("/", |request| match request.is_secure() {
    ///     true => request.reply("hello"),
    ///     false => request.reply("please come by https"),
    /// });
    /// # })
    /// # });
    /// # for (proto, expected) in [("https", "hello"), ("http", "please come by https")] {
    /// #     let client = sim.connect();
    /// #     client.write("PROXY TCP4 10.0.0.1 192.0.2.1 4711 80\r\n");
    /// #     client.write(format!("GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-Proto: {proto}\r\n\r\n"));
    /// #     sim.settle();
    /// #     assert!(client.read_text().ends_with(expected));
    /// # }
    /// ```
    ///
    /// Source: RFC 7239, section 5.4.
    /// Without such a proxy: whether it came over TLS.
    pub fn is_secure(&self) -> bool {
        let scheme = self.reactor.forwarded_scheme(self.id, self.head.headers);
        scheme == Some(Scheme::Https)
    }

    /// The address of the connection's peer, which may be a proxy. Asks the kernel.
    pub fn peer(&self) -> Peer {
        self.reactor.peer(self.id)
    }

    /// Your state and the reactor, for a function that takes a [`Cx`].
    pub fn cx(&mut self) -> Cx<'_, S> {
        Cx::new(self.state, self.reactor)
    }

    // ── the answer ───────────────────────────────────────────────────────────────────────────

    /// Answers the request. `Gone` when it was answered before.
    pub fn reply(&mut self, reply: impl Into<Reply>) -> Sent {
        if std::mem::replace(&mut self.is_answered, true) {
            return Sent::Gone;
        }
        let mut reply = reply.into();
        match reply.file.take() {
            Some(place) => self.reply_with_file(*place, reply),
            None => self.reactor.send_reply(self.id, reply),
        }
        Sent::Queued
    }

    /// Answers with a file, as the conditions of the request ask for it.
    #[inline(never)]
    fn reply_with_file(&mut self, place: Place, reply: Reply) {
        let method = self.method();
        let conditions = matches!(method, "GET" | "HEAD")
            .then(|| Conditions::of(method, self.head.headers, unix_seconds()));
        let responder = self.reactor.take_for_later(self.id);
        self.reactor.send_file(responder, place, reply, conditions);
    }

    /// Takes the request for later: [`Reactor::reply`] answers it from a timer or another event, within the
    /// listener's `reply_timeout`.
    ///
    /// A client that ends its side of the stream meanwhile may still read, and gets the answer. When it has
    /// reset the connection, the responder is stale; [`Reactor::on_gone`] tells. The responder of a request
    /// that was answered already is stale from the start.
    pub fn reply_later(&mut self) -> Responder {
        if std::mem::replace(&mut self.is_answered, true) {
            let exchange = self.reactor.exchange(self.id);
            let request = exchange.map_or(0, |exchange| exchange.request());
            return Responder {
                id: self.id,
                request,
            };
        }
        self.reactor.take_for_later(self.id)
    }

    /// Takes the decision of a `guard` or of `before_open` for later: [`Reactor::accept`] lets the request go on
    /// to its route from a timer or another event, and [`Reactor::reply`] refuses it, within the listener's
    /// `reply_timeout`. The callback's own result is then ignored.
    ///
    /// Meanwhile the head and the body are kept, and the client's further bytes wait in the socket. If the
    /// time passes, the client gets 503; [`Reactor::on_gone`] tells when it is gone. In the callback of a
    /// route, which decides nothing, this is [`reply_later`](Self::reply_later).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use waterwheel::{Reactor, Sim};
    /// let mut sim = Sim::new((), |reactor: &mut Reactor<()>| {
    ///     reactor.websocket("0.0.0.0:8080", |ws| {
    ///         ws.before_open(|request| {
    ///             let responder = request.decide_later();
    ///             // As an answer of a database would.
    ///             request.reactor.after(Duration::from_millis(50), move |cx| cx.reactor.accept(responder, ()));
    ///             Ok(())
    ///         });
    ///         ws.on_open(|ws, _| ws.send("welcome"));
    ///     })
    /// });
    /// # let client = sim.connect();
    /// # client.write("GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    /// #     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
    /// # sim.settle();
    /// # assert_eq!(client.read_text(), "");
    /// # sim.advance(Duration::from_secs(1));
    /// # assert!(client.read_text().contains("welcome"));
    /// ```
    pub fn decide_later(&mut self) -> Responder {
        let was_answered = self.is_answered;
        let responder = self.reply_later();
        if let Some(check) = self.check
            && !was_answered
            && let Some(exchange) = self.reactor.exchange(self.id)
        {
            exchange.defer(Deferred {
                head: self.head_bytes.to_vec(),
                body: self.body.to_vec(),
                check,
                accepted: None,
            });
        }
        responder
    }

    /// Chooses the subprotocol and further headers of the 101, in `before_open`. A decision that comes later
    /// has them as the argument of [`Reactor::accept`].
    pub fn accept_with(&mut self, accept: Accept) {
        self.accept = accept;
    }

    /// Answers with a stream of Server-Sent Events. It carries publications of the topics that it subscribes to,
    /// and messages that are sent to its id.
    ///
    /// Source: WHATWG HTML, section 9.2.
    pub fn event_stream(&mut self) -> EventStream<'_, S> {
        if !std::mem::replace(&mut self.is_answered, true) {
            let head = Reply::new(Status::OK);
            self.reactor.begin_event_stream_of(self.id, &head, &[]);
        }
        EventStream {
            reactor: self.reactor,
            id: self.id,
        }
    }

    /// As [`event_stream`](Self::event_stream), with the lines that it begins with.
    #[cfg_attr(not(feature = "hub"), expect(dead_code, reason = "the hub needs it"))]
    pub(crate) fn event_stream_with(&mut self, first_lines: &[u8]) -> EventStream<'_, S> {
        if !std::mem::replace(&mut self.is_answered, true) {
            let head = Reply::new(Status::OK);
            self.reactor
                .begin_event_stream_of(self.id, &head, first_lines);
        }
        self.event_stream()
    }

    /// Answers with a body that is sent piece by piece, by `reactor.send(id, ..)` for each piece and then
    /// `reactor.finish_body(id)`.
    ///
    /// The body is chunked. HTTP/1.0 has no chunks, so there it ends with the connection.
    /// Source: RFC 9112, sections 6.1 and 6.3.
    pub fn stream(&mut self, content_type: impl Into<Cow<'static, str>>) -> ConnId {
        self.begin_body(Reply::new(Status::OK).content_type(content_type), None)
    }

    /// Begins an answer whose body is sent piece by piece, with the status, the content type and the headers of
    /// `head`; the body of `head` is the first piece. `reactor.send(id, ..)` sends each piece, and
    /// `reactor.finish_body(id)` ends the body. [`Reactor::on_drain`] tells when the next piece has room.
    ///
    /// With a length the client sees how much is to come. A piece beyond it is refused as `Gone`. Without one
    /// the body is chunked; for a client that speaks HTTP/1.0 it ends with the connection.
    ///
    /// ```
    /// # use waterwheel::{Reactor, Reply, Sim, Status};
    /// # let mut sim = Sim::new((), |reactor: &mut Reactor<()>| {
    /// # reactor.http("0.0.0.0:80", |http| {
    /// http.get("/part", |request| {
    ///     let head = Reply::new(Status::PARTIAL_CONTENT)
    ///         .content_type("application/octet-stream")
    ///         .header("Content-Range", "bytes 0-9/4711");
    ///     let id = request.begin_body(head, Some(10));
    ///     request.reactor.send(id, "01234");
    ///     request.reactor.send(id, "56789");
    ///     request.reactor.finish_body(id)
    /// });
    /// # })
    /// # });
    /// # let client = sim.connect();
    /// # client.write("GET /part HTTP/1.1\r\nHost: h\r\n\r\n");
    /// # sim.settle();
    /// # assert!(client.read_text().ends_with("Content-Length: 10\r\nContent-Range: bytes 0-9/4711\r\n\r\n0123456789"));
    /// ```
    pub fn begin_body(&mut self, head: impl Into<Reply>, length_bytes: Option<u64>) -> ConnId {
        if !std::mem::replace(&mut self.is_answered, true) {
            self.reactor
                .begin_body_of(self.id, head.into(), length_bytes);
        }
        self.id
    }

    /// Answers with a body of pieces. The next piece is taken from the iterator when the connection's
    /// queue has room, so a client that reads slowly slows the iterator down, and the body may be
    /// without end. The first is taken in the next turn. The iterator runs on the loop and must not block; see
    /// [`body_sender`](Self::body_sender) for a source that does.
    ///
    /// `head` and `length_bytes` are those of [`begin_body`](Self::begin_body). An error, a panic of
    /// the iterator, or more bytes than were announced [aborts](Reactor::abort_body) the body. The
    /// iterator is dropped when the body or the connection has ended. The answer to a HEAD takes no
    /// piece.
    ///
    /// ```
    /// # use waterwheel::{Reactor, Reply, Sim, Status};
    /// # let mut sim = Sim::new((), |reactor: &mut Reactor<()>| {
    /// # reactor.http("0.0.0.0:80", |http| {
    /// http.get("/numbers", |request| {
    ///     let numbers = (1..=1000).map(|number| Ok(format!("{number}\n")));
    ///     request.send_pieces(Reply::new(Status::OK).content_type("text/plain"), None, numbers)
    /// });
    /// # })
    /// # });
    /// # let client = sim.connect();
    /// # client.write("GET /numbers HTTP/1.1\r\nHost: h\r\n\r\n");
    /// # sim.settle();
    /// # assert!(client.read_text().ends_with("1000\n\r\n0\r\n\r\n"));
    /// ```
    pub fn send_pieces<P: Into<Vec<u8>>>(
        &mut self,
        head: impl Into<Reply>,
        length_bytes: Option<u64>,
        pieces: impl IntoIterator<Item = io::Result<P>, IntoIter: 'static>,
    ) -> Sent {
        if std::mem::replace(&mut self.is_answered, true) {
            return Sent::Gone;
        }
        let (id, head) = (self.id, head.into());
        self.reactor.send_pieces_of(id, head, length_bytes, pieces);
        Sent::Queued
    }

    /// Answers with a body that another thread sends. `head` and `length_bytes` are those of
    /// [`begin_body`](Self::begin_body).
    ///
    /// The sender keeps at most [`queue_high_bytes`](crate::ConnectionOptions::queue_high_bytes) of
    /// the listener beside the connection's own queue. If it is dropped without
    /// [`finish`](BodySender::finish), as a panic of its thread does, the body is
    /// [aborted](Reactor::abort_body).
    ///
    /// ```
    /// # use waterwheel::{Reactor, Reply, Sim, Status};
    /// # let mut sim = Sim::new(None, |reactor: &mut Reactor<Option<std::thread::JoinHandle<()>>>| {
    /// # reactor.http("0.0.0.0:80", |http| {
    /// http.get("/report", |request| {
    ///     let head = Reply::new(Status::OK).content_type("text/csv");
    ///     let body = request.body_sender(head, None);
    ///     let thread = std::thread::spawn(move || {
    ///         for line in ["name,count\n", "wheel,1\n"] {
    ///             body.send(line);
    ///         }
    ///         body.finish();
    ///     });
    /// #   *request.state = Some(thread);
    /// });
    /// # })
    /// # });
    /// # let client = sim.connect();
    /// # client.write("GET /report HTTP/1.1\r\nHost: h\r\n\r\n");
    /// # sim.settle();
    /// # sim.state().take().unwrap().join().unwrap();
    /// # sim.settle();
    /// # assert!(client.read_text().ends_with("wheel,1\n\r\n0\r\n\r\n"));
    /// ```
    pub fn body_sender(&mut self, head: impl Into<Reply>, length_bytes: Option<u64>) -> BodySender {
        if std::mem::replace(&mut self.is_answered, true) {
            return BodySender::gone();
        }
        self.reactor
            .body_sender_of(self.id, head.into(), length_bytes)
    }

    /// Answers with the error that the route's callback has returned: an answer as it is, any other
    /// error with 500. A body that is being streamed is cut short, as by a panic.
    #[cold]
    pub(crate) fn answer_error(&mut self, error: Box<dyn CallbackError>) {
        if matches!(
            self.reactor
                .exchange(self.id)
                .map(|exchange| exchange.phase()),
            Some(Phase::Reply)
        ) {
            self.is_answered = true;
        }
        self.reactor.answer_error(self.id, error);
    }
}

impl<S: 'static> Reactor<S> {
    /// Answers the request of a connection with the error that its callback has returned.
    #[cold]
    pub(crate) fn answer_error(&mut self, id: ConnId, error: Box<dyn CallbackError>) {
        let exchange = self.exchange(id);
        let has_answer = exchange.as_ref().is_some_and(|it| it.has_answer());
        match exchange.map(|exchange| exchange.phase()) {
            // The answer is a file that is being opened.
            Some(Phase::Reply) if has_answer => self.note_error(&*error),
            // Also after `reply_later`: the callback has changed its mind.
            Some(Phase::Reply) => {
                let reply = Reply::from_error(error).unwrap_or_else(|error| {
                    self.note_error(&*error);
                    Status::INTERNAL_SERVER_ERROR.into()
                });
                self.send_reply(id, reply);
            }
            // The request was answered before.
            Some(Phase::Head | Phase::Body | Phase::End) => self.note_error(&*error),
            // A streamed body, or an event stream.
            Some(Phase::Stream) | None => self.fail_by_error(id, &*error),
        }
    }
}
