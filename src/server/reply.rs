//! Answers to requests: status, headers, body.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::protocol::http::{self, Accept, ExtraHeaders, OnAnswer, ResponseHead, Status};
use crate::reactor::close::{Close, CloseCause, Deadline, Sent};
use crate::reactor::id::ConnId;
use crate::reactor::outcome::{CallbackError, Outcome, Sealed};
use crate::reactor::reactor::{Cx, Reactor};

use super::files::place::Place;

/// An answer to a request.
///
/// Made from a text, a status, both, or piece by piece:
///
/// ```
/// # use waterwheel::{Reply, Status};
/// let short: Reply = "Hello".into();
/// let refused: Reply = Status::NOT_FOUND.into();
/// let page = Reply::new(Status::OK).content_type("text/html; charset=utf-8").body("<h1>Hello</h1>");
/// let moved = Reply::new(Status::FOUND).header("Location", "/elsewhere");
/// let file: Reply = vec![0_u8; 16].into();
/// ```
#[derive(Clone, Debug)]
pub struct Reply {
    pub(crate) status: Status,
    /// `None` while only the body decides.
    content_type: Option<Cow<'static, str>>,
    /// Whether the body is text, by its type.
    is_text: bool,
    pub(crate) headers: Vec<(Cow<'static, str>, String)>,
    pub(crate) body: Cow<'static, [u8]>,
    /// The file that is the body, in place of `body`.
    pub(super) file: Option<Box<Place>>,
}

/// The status, such as `404 Not Found`.
impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.status.fmt(f)
    }
}

/// A header that must not be sent: its name or value could end the header line and begin another one (response
/// splitting), or the name is one that the server sets itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderError;

impl std::fmt::Display for HeaderError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a header name must be a token, and its value free of control characters")
    }
}

impl std::error::Error for HeaderError {}

/// From this many bytes on, a body is not copied behind its head. Below, the copy costs less than a second write.
const LARGE_BODY_BYTES: usize = 64 * 1024;

/// Room for the head of an answer, in bytes. Most heads need less.
const HEAD_BYTES: usize = 256;

const TEXT: &str = "text/plain; charset=utf-8";
const BYTES: &str = "application/octet-stream";

/// Whether a header is among those of an answer.
pub(super) fn has_header(headers: &[(Cow<'static, str>, String)], name: &str) -> bool {
    headers
        .iter()
        .any(|(known, _)| known.eq_ignore_ascii_case(name))
}

/// The headers that the router adds to an answer, without those that the answer has itself. `Vary` is a list
/// and is sent beside the answer's own.
pub(super) fn extra_without<'e>(
    extra: &'e ExtraHeaders,
    is_own: impl Fn(&str) -> bool + 'e,
) -> impl Iterator<Item = (&'e str, &'e str)> {
    extra
        .iter()
        .filter(move |(name, _)| *name == "Vary" || !is_own(name))
        .map(|(name, value)| (*name, value.as_ref()))
}

fn content_type_of(chosen: Option<&str>, is_text: bool) -> &str {
    match chosen {
        Some(content_type) => content_type,
        None if is_text => TEXT,
        None => BYTES,
    }
}

impl Reply {
    /// An answer without a body.
    pub fn new(status: Status) -> Reply {
        Reply {
            status,
            content_type: None,
            is_text: true,
            headers: Vec::new(),
            body: Cow::Borrowed(&[]),
            file: None,
        }
    }

    /// A file, which is opened and read off the loop and sent as fast as its client reads.
    ///
    /// ```
    /// # use waterwheel::{Reactor, Reply, Sim};
    /// # let mut sim = Sim::new((), |reactor: &mut Reactor<()>| {
    /// # reactor.http("0.0.0.0:80", |http| {
    /// http.get("/licence", |request| {
    ///     let file = Reply::file("LICENSE-MIT").content_type("text/plain; charset=utf-8");
    ///     request.reply(file.header("Content-Disposition", "attachment"))
    /// });
    /// # })
    /// # });
    /// # let client = sim.connect();
    /// # client.write("GET /licence HTTP/1.1\r\nHost: h\r\n\r\n");
    /// # sim.settle();
    /// # let text = client.read_text();
    /// # assert!(text.starts_with("HTTP/1.1 200") && text.contains("attachment\r\n") && text.contains("Permission"), "{text}");
    /// ```
    ///
    /// The path is the application's, and links are followed: a path that a client has chosen is for
    /// [`Router::files`](crate::Router::files), which lets none out of its folder. The content type follows from the
    /// ending of the name. `ETag`, `Last-Modified`, conditional requests, a range, and HEAD are as described there; an
    /// answer that comes later, by [`Reactor::reply`], and one with another status than 200, is sent whole.
    ///
    /// A file that is not there is answered with 404, one without rights with 403, and one of more than 256 KiB with
    /// 503 while [`open_files_max`](crate::Config::open_files_max) of these are being sent. A file that becomes shorter
    /// while it is sent ends the connection before the announced length.
    pub fn file(path: impl Into<PathBuf>) -> Reply {
        Reply::from_place(Place::Path(path.into()))
    }

    /// An answer with the file at this place.
    pub(super) fn from_place(place: Place) -> Reply {
        Reply {
            is_text: false,
            file: Some(Box::new(place)),
            ..Reply::new(Status::OK)
        }
    }

    /// Sets the content type that a file has by its name, unless another one was chosen.
    pub(super) fn or_content_type(mut self, content_type: &'static str) -> Reply {
        self.content_type.get_or_insert(Cow::Borrowed(content_type));
        self
    }

    /// A JSON answer with status 200. `text` is sent as it is, without a check.
    pub fn json(text: impl Into<String>) -> Reply {
        Reply::new(Status::OK)
            .content_type("application/json")
            .body(text.into().into_bytes())
    }

    /// Sets the status.
    pub fn status(mut self, status: Status) -> Reply {
        self.status = status;
        self
    }

    /// Sets the content type. Without it a text is `text/plain` in UTF-8, and bytes are
    /// `application/octet-stream`. A value with a control character, which could end the line, is not sent.
    pub fn content_type(mut self, content_type: impl Into<Cow<'static, str>>) -> Reply {
        self.content_type = Some(content_type.into());
        self
    }

    /// Sets the body.
    pub fn body(mut self, body: impl Into<Body>) -> Reply {
        let Body { bytes, is_text } = body.into();
        self.body = bytes;
        self.is_text = is_text;
        self.file = None;
        self
    }

    /// Adds a header of the program's own, such as `Location`. `Content-Type` is set, as by
    /// [`content_type`](Self::content_type).
    ///
    /// # Panics
    ///
    /// Where [`try_header`](Self::try_header) returns an error. Use that for names and values that a stranger
    /// has given.
    pub fn header(self, name: impl Into<Cow<'static, str>>, value: impl Into<String>) -> Reply {
        let (name, value) = (name.into(), value.into());
        match self.try_header(name.clone(), value.as_str()) {
            Ok(reply) => reply,
            Err(error) => panic!("the header {name:?}: {value:?} cannot be sent: {error}"),
        }
    }

    /// Adds a header. `Content-Length`, `Transfer-Encoding`, `Connection` and `Date` are refused: the server
    /// sets them, and a second one would let client and proxy disagree about where the answer ends.
    ///
    /// # Errors
    ///
    /// [`HeaderError`] for a name that is not a token, a control character in the value, or one
    /// of the names above. Source: RFC 9110, section 5.5.
    pub fn try_header(
        mut self,
        name: impl Into<Cow<'static, str>>,
        value: impl Into<String>,
    ) -> Result<Reply, HeaderError> {
        let (name, value) = (name.into(), value.into());
        Reply::check_header(&name, &value)?;
        if name.eq_ignore_ascii_case("content-type") {
            self.content_type = Some(Cow::Owned(value));
        } else {
            self.headers.push((name, value));
        }
        Ok(self)
    }

    /// The answer that a callback has returned as its error, or the error if it is none.
    pub(crate) fn from_error(
        error: Box<dyn CallbackError>,
    ) -> Result<Reply, Box<dyn CallbackError>> {
        let any: &dyn Any = &*error;
        if let Some(status) = any.downcast_ref::<Status>() {
            return Ok((*status).into());
        }
        if any.is::<Reply>() {
            let any: Box<dyn Any> = error;
            return Ok(*any.downcast().expect("its type was asked for"));
        }
        Err(error)
    }

    /// Adds headers that were checked before, or are constants.
    pub(crate) fn with_extra_headers(
        mut self,
        headers: &[(&'static str, Cow<'static, str>)],
    ) -> Reply {
        let headers = headers.iter();
        self.headers.extend(
            headers.map(|(name, value)| (Cow::Borrowed(*name), value.clone().into_owned())),
        );
        self
    }

    /// The content type that is sent with a body.
    pub(crate) fn content_type_of_body(&self) -> &str {
        content_type_of(self.content_type.as_deref(), self.is_text)
    }

    /// Whether [`try_header`](Self::try_header) would add a header.
    ///
    /// # Errors
    ///
    /// [`HeaderError`] when it would not.
    pub fn check_header(name: &str, value: &str) -> Result<(), HeaderError> {
        let ours = ["content-length", "transfer-encoding", "connection", "date"];
        let is_ours = ours.iter().any(|ours| ours.eq_ignore_ascii_case(name));
        if is_ours || !http::is_header(name, value) {
            return Err(HeaderError);
        }
        Ok(())
    }
}

/// The body of an answer: a text or bytes, owned or static.
pub struct Body {
    bytes: Cow<'static, [u8]>,
    is_text: bool,
}

impl Body {
    fn text(bytes: impl Into<Cow<'static, [u8]>>) -> Body {
        Body {
            bytes: bytes.into(),
            is_text: true,
        }
    }

    fn bytes(bytes: impl Into<Cow<'static, [u8]>>) -> Body {
        Body {
            bytes: bytes.into(),
            is_text: false,
        }
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Body {
        Body::text(text.as_bytes())
    }
}

impl From<String> for Body {
    fn from(text: String) -> Body {
        Body::text(text.into_bytes())
    }
}

/// A text that is borrowed, such as a parameter of the request, is copied.
impl From<Cow<'_, str>> for Body {
    fn from(text: Cow<'_, str>) -> Body {
        Body::from(text.into_owned())
    }
}

impl From<&'static [u8]> for Body {
    fn from(bytes: &'static [u8]) -> Body {
        Body::bytes(bytes)
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Body {
        Body::bytes(bytes)
    }
}

/// Bytes that are borrowed are copied.
impl From<Cow<'_, [u8]>> for Body {
    fn from(bytes: Cow<'_, [u8]>) -> Body {
        Body::from(bytes.into_owned())
    }
}

impl From<&'static str> for Reply {
    fn from(text: &'static str) -> Reply {
        Reply::new(Status::OK).body(text)
    }
}

impl From<String> for Reply {
    fn from(text: String) -> Reply {
        Reply::new(Status::OK).body(text)
    }
}

/// A text that is borrowed, such as a parameter of the request, is copied.
impl From<Cow<'_, str>> for Reply {
    fn from(text: Cow<'_, str>) -> Reply {
        Reply::new(Status::OK).body(text)
    }
}

impl From<&'static [u8]> for Reply {
    fn from(bytes: &'static [u8]) -> Reply {
        Reply::new(Status::OK).body(bytes)
    }
}

impl From<Vec<u8>> for Reply {
    fn from(bytes: Vec<u8>) -> Reply {
        Reply::new(Status::OK).body(bytes)
    }
}

impl From<Status> for Reply {
    fn from(status: Status) -> Reply {
        let reply = Reply::new(status);
        if status.has_body() {
            reply.body(format!("{status}\n"))
        } else {
            reply
        }
    }
}

impl<B: Into<Body>> From<(Status, B)> for Reply {
    fn from((status, body): (Status, B)) -> Reply {
        Reply::new(status).body(body)
    }
}

/// Names a request that is answered later, by [`Reactor::reply`], or accepted later, by [`Reactor::accept`].
///
/// It is `Copy`, and stale once the request is answered or the client is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Responder {
    pub(crate) id: ConnId,
    pub(crate) request: u32,
}

impl Sealed for Responder {}
impl Outcome for Responder {}

impl Responder {
    /// The connection that the request came on.
    pub fn id(&self) -> ConnId {
        self.id
    }
}

/// # Answer
impl<S: 'static> Reactor<S> {
    /// Answers a request that was taken with [`Request::reply_later`](crate::Request::reply_later), or
    /// refuses one that was taken with [`Request::decide_later`](crate::Request::decide_later). `Gone` when
    /// the client is gone, or when the request was answered before.
    pub fn reply(&mut self, responder: Responder, reply: impl Into<Reply>) -> Sent {
        if !self.is_pending(responder) {
            return Sent::Gone;
        }
        self.send_reply(responder.id, reply.into());
        Sent::Queued
    }

    /// Accepts a request that was taken with [`Request::decide_later`](crate::Request::decide_later): it goes on
    /// to its route in the next turn. After `before_open` the WebSocket is opened, with the headers and
    /// the subprotocol that `accept` chooses; `()` chooses none.
    ///
    /// `Gone` when the client is gone, when the request was decided before, and for a responder of
    /// [`Request::reply_later`](crate::Request::reply_later), which only an answer ends.
    pub fn accept(&mut self, responder: Responder, accept: impl Into<Accept>) -> Sent {
        let is_accepted = self.is_pending(responder)
            && self
                .exchange(responder.id)
                .is_some_and(|exchange| exchange.accept(accept.into()));
        if !is_accepted {
            return Sent::Gone;
        }
        self.drop_on_gone(responder.id);
        self.continue_accepted(responder.id);
        Sent::Queued
    }

    /// Calls `call` if the client of a request that was taken with
    /// [`Request::reply_later`](crate::Request::reply_later) goes before the answer, or its connection ends
    /// in another way, such as by the deadline of the answer. The answer, and
    /// [`accept`](Self::accept), drop `call` without a call.
    ///
    /// It is never called for a responder that is stale.
    ///
    /// A client that only ends its side of the stream has not gone: it gets the answer. The kernel tells it
    /// apart from a client that has closed its socket only when bytes are written.
    pub fn on_gone<R: Outcome>(
        &mut self,
        responder: Responder,
        call: impl FnOnce(&mut Cx<'_, S>, &Close) -> R + 'static,
    ) {
        if self.is_pending(responder) {
            let call = Box::new(move |cx: &mut Cx<'_, S>, close: &Close| {
                let outcome = call(cx, close);
                cx.reactor.note_outcome(outcome);
            });
            self.add_on_gone(responder.id, call);
        }
    }

    /// Whether the answer of this request is still owed. The connection may be at a later request already, so
    /// the number of the request is compared too.
    pub(crate) fn is_pending(&mut self, responder: Responder) -> bool {
        self.exchange(responder.id).is_some_and(|exchange| {
            exchange.phase() == http::Phase::Reply
                && exchange.request() == responder.request
                && !exchange.is_accepted()
                && !exchange.has_answer()
        })
    }

    /// Takes the request that is being handled for later, within the listener's `reply_timeout`.
    pub(crate) fn take_for_later(&mut self, id: ConnId) -> Responder {
        let exchange = self.exchange(id);
        let request = exchange.map_or(0, |exchange| exchange.request());
        let timeout = self
            .options_of(id)
            .map_or(Duration::from_secs(60), |options| options.reply_timeout);
        // Later requests of the client stay unread until this one is answered.
        self.pause_for_answer(id);
        self.set_deadline(id, Deadline::Reply, timeout);
        Responder { id, request }
    }

    /// Queues a whole answer to the request that is being handled.
    pub(crate) fn send_reply(&mut self, id: ConnId, mut reply: Reply) {
        // The client would go on waiting for the answer. Source: RFC 9110, section 15.2.
        if reply.status.is_informational() {
            log::error!(
                "conn {id}: {} is no answer to a request: 500 is sent instead",
                reply.status
            );
            reply = Status::INTERNAL_SERVER_ERROR.into();
        }
        if let Some(place) = reply.file.take() {
            let responder = self.take_for_later(id);
            return self.send_file(responder, *place, reply, None);
        }
        let (date, status) = (self.date(), reply.status);
        let Some(exchange) = self.exchange(id) else {
            return;
        };
        let extra = exchange.take_extra_headers();
        let on_answer = exchange.take_on_answer();
        let is_handshake = exchange.take_handshake();
        let head = ResponseHead {
            status: reply.status,
            is_http_10: exchange.is_http_10(),
            keep_alive: exchange.keeps_alive(),
            date: &date,
            content_type: (!reply.body.is_empty())
                .then(|| content_type_of(reply.content_type.as_deref(), reply.is_text)),
            length: reply.status.has_body().then_some(reply.body.len() as u64),
            is_chunked: false,
        };
        // The answer to a HEAD has the length of the body but not the body. Source: RFC 9110, section 9.3.2.
        let body = if exchange.is_head_request() || !reply.status.has_body() {
            Cow::Borrowed(&[][..])
        } else {
            reply.body
        };
        if is_handshake {
            let refused = &mut self.stats_mut().refused_handshakes;
            refused.record(status.code());
        }
        if let Some(OnAnswer(call)) = on_answer {
            call(status, body.len() as u64, self.clock_now());
        }
        let own = reply
            .headers
            .iter()
            .map(|(name, value)| (name.as_ref(), value.as_str()));
        let extra = extra_without(&extra, |name| has_header(&reply.headers, name));
        // Head and body in one buffer, so that a small answer is one write. A large body that is owned
        // already is queued as it is.
        let is_large = LARGE_BODY_BYTES <= body.len();
        self.encode_reply(id, |out| {
            // An answer that comes later has a buffer of its own, which would grow in steps.
            out.reserve(if is_large {
                HEAD_BYTES
            } else {
                HEAD_BYTES + body.len()
            });
            head.encode(own.chain(extra), out);
            if !is_large {
                out.extend_from_slice(&body);
            }
        });
        if is_large {
            self.queue_owned_reply(id, body.into_owned());
        }
        self.complete_reply(id);
    }

    /// Goes on after a complete answer: waits for the next request, or finishes the connection.
    pub(crate) fn complete_reply(&mut self, id: ConnId) {
        self.drop_on_gone(id);
        let keep_alive_timeout = self.config().keep_alive_timeout;
        let Some(exchange) = self.exchange(id) else {
            return;
        };
        if exchange.complete_reply() {
            self.await_request(id, keep_alive_timeout);
        } else {
            self.finish(
                id,
                Close {
                    was_clean: true,
                    ..Close::new(CloseCause::Local)
                },
                true,
            );
        }
    }
}
