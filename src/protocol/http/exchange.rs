//! The server's side of one HTTP/1.1 connection: which step of the current request comes next.
//!
//! ```text
//!           head, no body              reply
//!   Head ───────────────────▶ Reply ───────────▶ Head (keep-alive) or the end
//!     │                        ▲   │
//!     └─ head ─▶ Body ─ end ───┘   └── stream ──▶ Stream ── end ──▶ the same
//! ```
//!
//! Requests are handled one at a time: the next is parsed only when the answer to the one before is
//! complete. So answers leave in order, and pipelined input waits in the caller's buffer, which is
//! bounded by the size of one read.
//!
//! Source: RFC 9112, sections 9.3 and 9.3.2.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;
use std::time::Duration;

use super::body::BodyDecoder;
use super::deferred::{Accept, Deferred};
use super::encode::{encode_chunk, encode_last_chunk, encode_refusal};
use super::error::HttpError;
use super::framing::BodyFraming;
use super::handed_out::HandedOut;
use super::head::Version;
use super::limits::Limits;
use super::request::ParsedHead;
use super::status::Status;

/// Headers that are added to an answer. Their values are constants, or were parsed as values of headers, so
/// they cannot end a line.
pub type ExtraHeaders = Vec<(&'static str, Cow<'static, str>)>;

/// The length of a body that is sent piece by piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// It is not known: the body is sent in chunks.
    Chunked,
    /// It is not known, and the client knows no chunks: the body ends with the connection.
    UntilEnd,
    /// So many bytes.
    Known(u64),
}

/// Called with the status of an answer, the length of its body in bytes and the time on the clock.
pub struct OnAnswer(pub Box<dyn FnOnce(Status, u64, Duration)>);

impl fmt::Debug for OnAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnAnswer")
    }
}

/// The step that comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The head of the next request has not come, or not all of it.
    Head,
    /// The body of the request is not complete.
    Body,
    /// The application owes the answer.
    Reply,
    /// The application is sending a body piece by piece.
    Stream,
    /// The connection takes no more requests.
    End,
}

/// One connection's exchange of requests and answers.
#[derive(Debug)]
pub struct Exchange {
    phase: Phase,
    keep_alive: bool,
    /// The body of the request has not been read. Its bytes are no request, so the connection ends with the
    /// answer.
    leaves_body: bool,
    /// The request asks for a WebSocket, and is not answered yet.
    is_handshake: bool,
    is_http_10: bool,
    is_head_request: bool,
    /// The answer waits for publications.
    awaits_publications: bool,
    /// The application has given the answer, and its body is being fetched.
    has_answer: bool,
    /// The length of the streamed body, and how many bytes of a known length are to come. A `Cell`, because
    /// encoding a message leaves the protocol of a connection as it is in all other cases.
    length: BodyLength,
    left_bytes: Cell<u64>,
    /// How many requests have begun; also the name of the one that is being handled.
    request_count: u32,
    requests_max: u32,
    head: Vec<u8>,
    body: Vec<u8>,
    decoder: BodyDecoder,
    received_body_bytes: u64,
    /// Headers that the answer to this request will have, also where it is a refusal.
    extra_headers: ExtraHeaders,
    /// Called when the head of the answer to this request is made.
    on_answer: Option<OnAnswer>,
    /// Status and length of the body of the answer with which the connection has failed.
    failure: Option<(Status, u64)>,
    /// The request that is being handled, while a check of it waits for the decision.
    deferred: Option<Box<Deferred>>,
    /// The body of the request, where it is handed out and has not ended. The phase is then that of the
    /// answer, which may begin before the body has ended.
    handed_out: Option<Box<HandedOut>>,
}

impl Exchange {
    /// The exchange of a new connection, which ends after `requests_max` requests.
    pub fn new(requests_max: u32) -> Exchange {
        Exchange {
            phase: Phase::Head,
            keep_alive: true,
            leaves_body: false,
            is_handshake: false,
            is_http_10: false,
            is_head_request: false,
            awaits_publications: false,
            has_answer: false,
            length: BodyLength::Chunked,
            left_bytes: Cell::new(0),
            request_count: 0,
            requests_max,
            head: Vec::new(),
            body: Vec::new(),
            decoder: BodyDecoder::new(BodyFraming::None),
            received_body_bytes: 0,
            extra_headers: Vec::new(),
            on_answer: None,
            failure: None,
            deferred: None,
            handed_out: None,
        }
    }

    // ── what comes in ────────────────────────────────────────────────────────────────────────

    /// Begins a request whose head is complete. From here on an answer is owed.
    pub fn begin(&mut self, parsed: &ParsedHead<'_>) {
        self.request_count += 1;
        self.keep_alive =
            self.keep_alive && parsed.keep_alive && self.request_count < self.requests_max;
        self.is_handshake = false;
        self.has_answer = false;
        self.is_http_10 = parsed.head.version == Version::Http10;
        self.is_head_request = parsed.head.method == "HEAD";
        self.phase = Phase::Reply;
    }

    /// Waits for the body of the request that has begun, and keeps its head until then.
    pub fn await_body(&mut self, head: &[u8], framing: BodyFraming) {
        self.head = head.to_vec();
        self.decoder = BodyDecoder::new(framing);
        self.received_body_bytes = 0;
        self.leaves_body = false;
        self.phase = Phase::Body;
    }

    /// Holds the body of the request that has begun, to be handed out; at most `body_bytes_max` of it.
    pub fn hold_body(&mut self, framing: BodyFraming, body_bytes_max: u64) {
        // Until the body has ended, an answer ends the connection.
        self.leaves_body = framing.length() != Some(0);
        self.handed_out = Some(Box::new(HandedOut::new(framing, body_bytes_max)));
    }

    /// The body that is handed out, until it has ended or the answer is complete.
    pub fn handed_out(&mut self) -> Option<&mut HandedOut> {
        self.handed_out.as_deref_mut()
    }

    /// Notes that the body that is handed out is not read now.
    pub fn note_pause(&mut self) {
        if let Some(body) = &mut self.handed_out {
            body.note_pause();
        }
    }

    /// Ends the body that was handed out. Returns whether the answer comes later.
    pub fn end_handed_out(&mut self) -> bool {
        self.leaves_body = false;
        let body = self.handed_out.take();
        body.is_some_and(|body| body.is_taken())
    }

    /// Takes the body that has not ended although the connection has. Returns whether there was one.
    pub fn drop_handed_out(&mut self) -> bool {
        self.handed_out.take().is_some()
    }

    /// Takes more of the body. Returns head and body of the request when it is complete.
    ///
    /// # Errors
    ///
    /// As [`BodyDecoder::collect`]: the framing is broken, or the body is longer than `limits` allow.
    pub fn receive_body(
        &mut self,
        input: &mut &[u8],
        limits: &Limits,
    ) -> Result<Option<(Vec<u8>, Vec<u8>)>, HttpError> {
        let before = input.len();
        let complete = self.decoder.collect(input, &mut self.body, limits)?;
        self.received_body_bytes += (before - input.len()) as u64;
        if !complete {
            return Ok(None);
        }
        self.phase = Phase::Reply;
        Ok(Some((
            std::mem::take(&mut self.head),
            std::mem::take(&mut self.body),
        )))
    }

    // ── what the application orders ──────────────────────────────────────────────────────────

    /// Begins a streamed answer with this status, whose head is sent next. A status without a body, such
    /// as 204, is followed by none, whatever is sent.
    pub fn begin_stream(&mut self, length: BodyLength, status: Status) {
        self.phase = Phase::Stream;
        self.length = length;
        self.left_bytes.set(match length {
            BodyLength::Known(bytes) => bytes,
            BodyLength::Chunked | BodyLength::UntilEnd => 0,
        });
        self.is_head_request = self.is_head_request || !status.has_body();
        self.keep_alive = self.keeps_alive() && length != BodyLength::UntilEnd;
    }

    /// Completes the answer. Returns whether another request may follow.
    #[inline]
    pub fn complete_reply(&mut self) -> bool {
        // A failure from here on does not belong to that request.
        self.is_head_request = false;
        self.extra_headers = Vec::new();
        self.deferred = None;
        self.handed_out = None;
        self.keep_alive = self.keeps_alive();
        self.phase = if self.keep_alive {
            Phase::Head
        } else {
            Phase::End
        };
        self.keep_alive
    }

    /// Keeps headers for the answer to this request, such as those of cross-origin sharing.
    #[inline]
    pub fn set_extra_headers(&mut self, headers: ExtraHeaders) {
        self.extra_headers = headers;
    }

    /// Takes the headers that were kept, for the answer that is being made.
    pub fn take_extra_headers(&mut self) -> ExtraHeaders {
        std::mem::take(&mut self.extra_headers)
    }

    /// Keeps what is to be called with the answer to this request.
    pub fn set_on_answer(&mut self, on_answer: OnAnswer) {
        self.on_answer = Some(on_answer);
    }

    /// Takes what is to be called with the answer that is being made.
    #[inline]
    pub fn take_on_answer(&mut self) -> Option<OnAnswer> {
        self.on_answer.take()
    }

    /// Takes the status of the answer with which the connection has failed, and the length of its
    /// body in bytes.
    pub fn take_failure(&mut self) -> Option<(Status, u64)> {
        self.failure.take()
    }

    /// Keeps the request that is being handled until [`accept`](Self::accept).
    pub fn defer(&mut self, deferred: Deferred) {
        self.deferred = Some(Box::new(deferred));
    }

    /// Accepts the request that was deferred. Returns `false` when none waits for it.
    pub fn accept(&mut self, accept: Accept) -> bool {
        match &mut self.deferred {
            Some(deferred) if deferred.accepted.is_none() => {
                deferred.accepted = Some(accept);
                true
            }
            Some(_) | None => false,
        }
    }

    /// Takes the request that was accepted.
    pub fn take_accepted(&mut self) -> Option<Deferred> {
        let accepted = self
            .deferred
            .take_if(|deferred| deferred.accepted.is_some());
        accepted.map(|deferred| *deferred)
    }

    /// Whether the request waits for a decision.
    pub fn is_deferred(&self) -> bool {
        self.deferred.is_some()
    }

    /// Whether the body of the request is being handed out.
    pub fn hands_out(&self) -> bool {
        self.handed_out.as_ref().is_some_and(|body| body.flows())
    }

    /// Whether the end of the body can be handed out, for which no byte is needed.
    pub fn has_end_to_hand_out(&self) -> bool {
        let body = self.handed_out.as_ref();
        body.is_some_and(|body| body.is_at_end())
    }

    /// Whether a request was accepted and has not been taken up again.
    pub fn is_accepted(&self) -> bool {
        let deferred = self.deferred.as_ref();
        deferred.is_some_and(|deferred| deferred.accepted.is_some())
    }

    /// Drops the part of a request that has come. The connection takes no more requests.
    pub fn drop_input(&mut self) {
        self.head = Vec::new();
        self.body = Vec::new();
        self.deferred = None;
        self.phase = Phase::End;
    }

    /// Ends the connection after the answer, unless the body of the request is
    /// [awaited](Self::await_body) before.
    pub fn leave_body(&mut self) {
        self.leaves_body = true;
    }

    /// Notes that the request asks for a WebSocket.
    pub fn note_handshake(&mut self) {
        self.is_handshake = true;
    }

    /// Whether the request asks for a WebSocket. Returns `false` the second time.
    #[inline]
    pub fn take_handshake(&mut self) -> bool {
        std::mem::take(&mut self.is_handshake)
    }

    /// Notes whether the answer that is owed waits for publications.
    pub fn set_awaits_publications(&mut self, awaits: bool) {
        self.awaits_publications = awaits;
    }

    /// Notes that the application has given the answer, which is sent later.
    pub fn note_answer(&mut self) {
        self.has_answer = true;
    }

    /// Ends the connection after the answer that is owed.
    pub fn close_after(&mut self) {
        self.keep_alive = false;
    }

    // ── what goes out ────────────────────────────────────────────────────────────────────────

    /// Appends a piece of a streamed body. Returns `false` when no streamed body is under way, or when the
    /// piece is longer than what is left of a known length.
    pub fn encode_body(&self, bytes: &[u8], out: &mut Vec<u8>) -> bool {
        if self.phase != Phase::Stream {
            return false;
        }
        // An empty chunk would be the last.
        if bytes.is_empty() || self.is_head_request {
            return true;
        }
        match self.length {
            BodyLength::Chunked => encode_chunk(bytes, out),
            BodyLength::UntilEnd => out.extend_from_slice(bytes),
            BodyLength::Known(_) => {
                let Some(left) = self.left_bytes.get().checked_sub(bytes.len() as u64) else {
                    return false;
                };
                self.left_bytes.set(left);
                out.extend_from_slice(bytes);
            }
        }
        true
    }

    /// Whether a piece of this length of a streamed body is sent without a frame around it. The caller that sends it
    /// so calls [`note_unframed`](Self::note_unframed).
    pub fn sends_unframed(&self, bytes: usize) -> bool {
        let fits = match self.length {
            BodyLength::Chunked => false,
            BodyLength::UntilEnd => true,
            BodyLength::Known(_) => bytes as u64 <= self.left_bytes.get(),
        };
        fits && self.phase == Phase::Stream && !self.is_head_request
    }

    /// Notes that a piece was sent as it is.
    pub fn note_unframed(&self, bytes: usize) {
        if let BodyLength::Known(_) = self.length {
            self.left_bytes.set(self.left_bytes.get() - bytes as u64);
        }
    }

    /// Appends the end of a streamed body, where it is chunked.
    pub fn encode_end(&self, out: &mut Vec<u8>) {
        let is_chunked = self.length == BodyLength::Chunked;
        if self.phase == Phase::Stream && is_chunked && !self.is_head_request {
            encode_last_chunk(out);
        }
    }

    /// Appends an answer that refuses and ends the connection, where one is owed.
    ///
    /// A streamed body that is cut short must not look whole, so nothing is appended to it. A
    /// failure of the server itself (500 or 503) between two requests belongs to the request that
    /// was answered already, such as a panic after the answer: a client would take a second answer
    /// for that to its next request. A head that cannot be accepted is answered with any other
    /// status, 501 and 505 too.
    pub fn encode_failure(&mut self, status: Status, date: &[u8], out: &mut Vec<u8>) {
        if self.owes_answer(status) {
            let extra = std::mem::take(&mut self.extra_headers);
            let headers = extra.iter().map(|(name, value)| (*name, value.as_ref()));
            let body_bytes = encode_refusal(status, date, headers, self.is_head_request, out);
            self.failure = Some((status, body_bytes));
        }
        self.phase = Phase::End;
        self.keep_alive = false;
    }

    fn owes_answer(&self, failure: Status) -> bool {
        let is_failure_of_server = matches!(
            failure,
            Status::INTERNAL_SERVER_ERROR | Status::SERVICE_UNAVAILABLE
        );
        match self.phase {
            Phase::Body | Phase::Reply => true,
            Phase::Head => self.request_count == 0 || !is_failure_of_server,
            Phase::Stream | Phase::End => false,
        }
    }

    // ── what one may ask ─────────────────────────────────────────────────────────────────────

    /// The step that comes next.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether the answer that is owed waits for publications.
    pub fn awaits_publications(&self) -> bool {
        self.awaits_publications
    }

    /// Whether the application has given the answer that is owed.
    pub fn has_answer(&self) -> bool {
        self.has_answer
    }

    /// Whether something is to be called with the answer to this request.
    pub fn has_on_answer(&self) -> bool {
        self.on_answer.is_some()
    }

    /// The number of the request that is being handled, from 1.
    pub fn request(&self) -> u32 {
        self.request_count
    }

    /// The memory of the head and the body that are kept until the request is complete and decided on, in
    /// bytes.
    pub fn held_bytes(&self) -> usize {
        let deferred = self.deferred.as_ref();
        let deferred_bytes = deferred.map_or(0, |it| it.head.capacity() + it.body.capacity());
        self.head.capacity() + self.body.capacity() + deferred_bytes
    }

    /// How many bytes of the body have come, with their framing.
    pub fn body_bytes(&self) -> u64 {
        self.received_body_bytes
    }

    /// Whether an answer is owed or under way.
    pub fn is_busy(&self) -> bool {
        matches!(self.phase, Phase::Body | Phase::Reply | Phase::Stream)
    }

    /// How many bytes of a streamed body of known length were not sent.
    pub fn missing_bytes(&self) -> u64 {
        match self.is_head_request {
            true => 0,
            false => self.left_bytes.get(),
        }
    }

    /// Whether a streamed body is under way of which only the end of the connection says where it
    /// ends. A body that is cut short looks whole then, unless the connection is reset.
    pub fn is_until_end(&self) -> bool {
        let is_streaming = self.phase == Phase::Stream && !self.is_head_request;
        is_streaming && self.length == BodyLength::UntilEnd
    }

    /// Whether the connection stays open after the answer.
    pub fn keeps_alive(&self) -> bool {
        self.keep_alive && !self.leaves_body
    }

    /// Whether the request being handled is HTTP/1.0.
    pub fn is_http_10(&self) -> bool {
        self.is_http_10
    }

    /// Whether the request being handled is a HEAD, whose answer has no body.
    pub fn is_head_request(&self) -> bool {
        self.is_head_request
    }

    /// Most bytes that one read may bring. Outside of a body it is less, because pipelined input is
    /// kept until its turn comes.
    pub fn read_bytes_max(&self) -> usize {
        match self.phase {
            Phase::Body => 64 * 1024,
            Phase::Reply | Phase::Stream if self.hands_out() => 64 * 1024,
            Phase::Head | Phase::Reply | Phase::Stream | Phase::End => 16 * 1024,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::headers::HeaderStorage;
    use super::super::request::parse_request_head;
    use super::*;

    const REQUEST: &[u8] = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n";

    fn begin_request(exchange: &mut Exchange) {
        let mut storage = HeaderStorage::new();
        let parsed = parse_request_head(REQUEST, &mut storage, &Limits::default());
        exchange.begin(&parsed.unwrap().unwrap());
    }

    #[test]
    fn a_failure_is_answered_where_an_answer_is_owed() {
        let internal = Status::INTERNAL_SERVER_ERROR;
        let unavailable = Status::SERVICE_UNAVAILABLE;
        let version = Status::HTTP_VERSION_NOT_SUPPORTED;
        let cases = [
            ("first head", 0, Phase::Head, Status::BAD_REQUEST, true),
            ("first head, 500", 0, Phase::Head, internal, true),
            ("body", 0, Phase::Body, internal, true),
            ("reply", 0, Phase::Reply, internal, true),
            ("reply, 503", 0, Phase::Reply, unavailable, true),
            ("stream", 0, Phase::Stream, internal, false),
            ("answered, 500", 1, Phase::Head, internal, false),
            ("answered, 503", 1, Phase::Head, unavailable, false),
            ("next head bad", 1, Phase::Head, Status::BAD_REQUEST, true),
            (
                "next head slow",
                1,
                Phase::Head,
                Status::REQUEST_TIMEOUT,
                true,
            ),
            ("next head, version", 1, Phase::Head, version, true),
            (
                "next head, coding",
                1,
                Phase::Head,
                Status::NOT_IMPLEMENTED,
                true,
            ),
            ("next reply", 1, Phase::Reply, internal, true),
        ];
        for (name, answered_count, phase, status, is_answered) in cases {
            let mut exchange = Exchange::new(100);
            for _ in 0..answered_count {
                begin_request(&mut exchange);
                assert!(exchange.complete_reply());
            }
            match phase {
                Phase::Head => {}
                Phase::Body => {
                    begin_request(&mut exchange);
                    exchange.await_body(REQUEST, BodyFraming::Length(1));
                }
                Phase::Reply => begin_request(&mut exchange),
                Phase::Stream => {
                    begin_request(&mut exchange);
                    exchange.begin_stream(BodyLength::Chunked, Status::OK);
                }
                Phase::End => unreachable!(),
            }
            assert_eq!(exchange.phase(), phase, "{name}");
            let mut out = Vec::new();
            exchange.encode_failure(status, b"", &mut out);
            assert_eq!(!out.is_empty(), is_answered, "{name}");
            assert_eq!(exchange.phase(), Phase::End, "{name}");
            out.clear();
            exchange.encode_failure(status, b"", &mut out);
            assert!(out.is_empty(), "{name}: a second answer");
        }
    }

    #[test]
    fn pieces_without_a_frame() {
        let streaming = |length, status| {
            let mut exchange = Exchange::new(10);
            exchange.begin_stream(length, status);
            exchange
        };
        let known = streaming(BodyLength::Known(10), Status::OK);
        assert!(known.sends_unframed(10) && !known.sends_unframed(11));
        known.note_unframed(4);
        assert!(known.sends_unframed(6) && !known.sends_unframed(7));
        assert_eq!(known.missing_bytes(), 6);
        let until_end = streaming(BodyLength::UntilEnd, Status::OK);
        assert!(until_end.sends_unframed(usize::MAX));
        until_end.note_unframed(4);
        assert!(!streaming(BodyLength::Chunked, Status::OK).sends_unframed(1));
        let without_body = streaming(BodyLength::Known(10), Status::NOT_MODIFIED);
        assert!(!without_body.sends_unframed(1));
        assert!(!Exchange::new(10).sends_unframed(0));
    }
}
