//! Answers that are not complete at once: bodies that are sent piece by piece, and event streams.
//!
//! Each begins with a head, in the callback of the route or in a later event. The length of a body may be
//! known; otherwise it is chunked, or ends with the connection for a client that speaks HTTP/1.0.
//!
//! Source: RFC 9112, sections 6.1 to 6.3.

use crate::protocol::http::{BodyLength, OnAnswer, Phase, ResponseHead, Status};
use crate::reactor::close::{Close, CloseCause, Sent};
use crate::reactor::id::ConnId;
use crate::reactor::reactor::Reactor;

use super::event_stream::EventStream;
use super::reply::{Reply, Responder, extra_without, has_header};

/// The content type and the headers of an event stream. Proxies must not store or compress the stream, and
/// nginx must not collect it in a buffer: events would come late, or all at the end.
const EVENT_STREAM: &str = "text/event-stream";
const EVENT_STREAM_HEADERS: [(&str, &str); 2] = [
    ("Cache-Control", "no-cache, no-transform"),
    ("X-Accel-Buffering", "no"),
];

/// # Answer
impl<S: 'static> Reactor<S> {
    /// Begins the answer to a request that was taken with
    /// [`Request::reply_later`](crate::Request::reply_later), as
    /// [`Request::begin_body`](crate::Request::begin_body) does in the callback of the route. The pieces are
    /// sent to [`Responder::id`].
    ///
    /// `Gone` when the client is gone, or when the request was answered before.
    pub fn begin_body(
        &mut self,
        responder: Responder,
        head: impl Into<Reply>,
        length_bytes: Option<u64>,
    ) -> Sent {
        if !self.is_pending(responder) {
            return Sent::Gone;
        }
        self.begin_body_of(responder.id, head.into(), length_bytes);
        Sent::Queued
    }

    /// Answers a request that was taken with [`Request::reply_later`](crate::Request::reply_later) with an event
    /// stream. `None` when the client is gone, when the request was answered before, and after the answer to
    /// a HEAD, which has no stream.
    pub fn event_stream(&mut self, responder: Responder) -> Option<EventStream<'_, S>> {
        self.event_stream_with(responder, &Reply::new(Status::OK), &[])
    }

    /// As [`event_stream`](Self::event_stream), with the headers of `head`, and the lines that it begins with.
    pub(crate) fn event_stream_with(
        &mut self,
        responder: Responder,
        head: &Reply,
        first_lines: &[u8],
    ) -> Option<EventStream<'_, S>> {
        if !self.is_pending(responder) {
            return None;
        }
        self.resume_after_answer(responder.id);
        let has_begun = self.begin_event_stream_of(responder.id, head, first_lines);
        has_begun.then_some(EventStream {
            reactor: self,
            id: responder.id,
        })
    }

    /// Ends a body that was sent piece by piece. `Gone` when the connection has no such body under way.
    ///
    /// If its length was announced and bytes are missing, the connection ends, so that the client does not
    /// take the body for whole, and the error is logged.
    pub fn finish_body(&mut self, id: ConnId) -> Sent {
        let mut out = Vec::new();
        let missing_bytes = match self.exchange(id) {
            Some(exchange) if exchange.phase() == Phase::Stream => {
                exchange.encode_end(&mut out);
                exchange.missing_bytes()
            }
            _ => return Sent::Gone,
        };
        self.drop_on_drain(id);
        if missing_bytes != 0 {
            log::error!("conn {id}: the body was finished {missing_bytes} bytes before its end");
            self.finish(id, Close::new(CloseCause::Local), true);
            return Sent::Gone;
        }
        if !out.is_empty() {
            self.queue_reply(id, &out);
        }
        self.complete_reply(id);
        Sent::Queued
    }

    /// Ends a body that was sent piece by piece before its end, because the rest cannot be sent. The
    /// connection ends in a way that the client cannot take for the end of the body: without the last
    /// chunk, before the announced length, or with a reset where only the end of the connection ends
    /// the body. `Gone` when the connection has no such body under way.
    ///
    /// The cause that `on_close` gets is
    /// [`CloseCause::CallbackError`](crate::CloseCause::CallbackError).
    pub fn abort_body(&mut self, id: ConnId) -> Sent {
        match self.exchange(id).map(|exchange| exchange.phase()) {
            Some(Phase::Stream) => {
                self.drop_on_drain(id);
                self.fail(id, CloseCause::CallbackError);
                Sent::Queued
            }
            _ => Sent::Gone,
        }
    }

    // ── for requests ─────────────────────────────────────────────────────────────────────────

    /// Queues the head of a body that is sent piece by piece, and the body of `reply` as the first piece.
    pub(crate) fn begin_body_of(&mut self, id: ConnId, reply: Reply, length_bytes: Option<u64>) {
        if reply.status.is_informational() {
            return self.send_reply(id, reply);
        }
        let content_type = reply.content_type_of_body().to_owned();
        let head = StreamHead {
            reply: &reply,
            content_type: &content_type,
            fixed_headers: &[],
            length_bytes,
        };
        if self.begin_stream(id, head).is_none() {
            return;
        }
        // The time between two pieces is the application's; the write deadline watches the client.
        // A body that still comes keeps its deadline, and is read on, unless the answer is a file.
        let is_read_on = self
            .exchange(id)
            .is_some_and(|exchange| exchange.hands_out() && !exchange.has_answer());
        if !is_read_on {
            self.clear_deadline(id);
            self.pause_for_answer(id);
        }
        self.mark_opened(id);
        if !reply.body.is_empty() {
            self.send(id, reply.body.as_ref());
        }
    }

    /// Answers with an event stream that has the headers of `head` and begins with `first_lines`, or with a comment.
    /// Returns `false` when there is none: the answer to a HEAD ends with its head.
    pub(crate) fn begin_event_stream_of(
        &mut self,
        id: ConnId,
        head: &Reply,
        first_lines: &[u8],
    ) -> bool {
        let head = StreamHead {
            reply: head,
            content_type: EVENT_STREAM,
            fixed_headers: &EVENT_STREAM_HEADERS,
            length_bytes: None,
        };
        let Some(chunked) = self.begin_stream(id, head) else {
            return false;
        };
        let exchange = self.exchange(id);
        if exchange.is_some_and(|exchange| exchange.is_head_request()) {
            self.complete_reply(id);
            return false;
        }
        self.begin_event_stream(id, chunked, first_lines);
        true
    }

    /// Queues the head of an answer that stays open. Returns whether its body is chunked; `None` when the
    /// connection is closing.
    fn begin_stream(&mut self, id: ConnId, stream: StreamHead<'_>) -> Option<bool> {
        self.drop_on_gone(id);
        let date = self.date();
        let exchange = self.exchange(id)?;
        let status = stream.reply.status;
        let length = match stream.length_bytes {
            Some(bytes) => BodyLength::Known(bytes),
            None if exchange.is_http_10() => BodyLength::UntilEnd,
            None => BodyLength::Chunked,
        };
        let is_chunked = length == BodyLength::Chunked;
        let extra = exchange.take_extra_headers();
        let on_answer = exchange.take_on_answer();
        exchange.begin_stream(length, status);
        let head = ResponseHead {
            status,
            is_http_10: exchange.is_http_10(),
            keep_alive: exchange.keeps_alive(),
            date: &date,
            content_type: Some(stream.content_type),
            length: stream.length_bytes,
            is_chunked: is_chunked && status.has_body(),
        };
        let mut out = Vec::with_capacity(256);
        let fixed = stream.fixed_headers.iter().copied();
        let own = stream.reply.headers.iter();
        let own = own.map(|(name, value)| (name.as_ref(), value.as_str()));
        let extra = extra_without(&extra, |name| {
            let is_fixed = |(fixed, _): &(&str, &str)| fixed.eq_ignore_ascii_case(name);
            has_header(&stream.reply.headers, name) || stream.fixed_headers.iter().any(is_fixed)
        });
        head.encode(fixed.chain(own).chain(extra), &mut out);
        self.queue_reply(id, &out);
        if let Some(OnAnswer(call)) = on_answer {
            call(status, stream.length_bytes.unwrap_or(0), self.clock_now());
        }
        Some(is_chunked)
    }
}

/// The head of an answer that stays open.
struct StreamHead<'r> {
    reply: &'r Reply,
    content_type: &'r str,
    fixed_headers: &'r [(&'static str, &'static str)],
    length_bytes: Option<u64>,
}
