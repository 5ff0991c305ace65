//! Routes that get the body of a request as it comes, and do not wait for the whole of it.
//!
//! ```text
//!   on_head ──┬── on_data … on_data ──┬── on_end      the body is complete
//!             │                       └── on_close    it never will be
//!             └── an answer: the body is not read
//! ```
//!
//! The pieces borrow from the read buffer of the loop, so a body of any length needs no memory. While
//! the route is paused, or the queue of the answer is full, the connection is not read, and the bytes
//! wait in the kernel. An answer may begin before the body has ended. A complete answer ends the
//! connection then, since the rest of the body would be read as the next request.
//!
//! Source: RFC 9112, sections 6 and 9.6; RFC 9110, section 10.1.1 for `100 Continue`.

use std::io;

use crate::protocol::http::{BodyChunk, Check, Exchange, HttpError, ParsedHead, Phase, Status};
use crate::protocol::websocket::ToMessage;
use crate::reactor::close::{Close, Deadline, Sent};
use crate::reactor::id::ConnId;
use crate::reactor::outcome::Outcome;
use crate::reactor::reactor::{Cx, Reactor};

use super::body_sender::BodySender;
use super::reply::{Reply, Responder};
use super::request::Request;

/// A body that comes at least this fast, in bytes per second, does not run out of time. A fixed
/// deadline would end large uploads over slow lines; no deadline would let a client hold a
/// connection with a byte an hour.
pub(super) const BODY_BYTES_PER_SECOND: u64 = 16 * 1024;

type OnHead<S> = Box<dyn FnMut(&mut Request<'_, '_, S>)>;
type OnData<S> = Box<dyn FnMut(&mut Upload<'_, S>, &[u8])>;
type OnEnd<S> = Box<dyn FnMut(&mut Upload<'_, S>)>;
type OnClose<S> = Box<dyn FnMut(&mut Upload<'_, S>, &Close)>;

/// The argument of the callbacks of a route that gets the body as it comes.
#[non_exhaustive]
pub struct Upload<'a, S> {
    /// Your state.
    pub state: &'a mut S,
    /// The reactor: sending, publishing, timers, connecting.
    pub reactor: &'a mut Reactor<S>,
    /// The connection that the request came on.
    pub id: ConnId,
    is_taken: bool,
}

impl<S: 'static> Upload<'_, S> {
    /// Answers the request. `Gone` when it was answered before.
    ///
    /// Before the end of the body the answer ends the connection, and no further callback is called
    /// for the request. Bytes that the client still sends are discarded for a while, so that it can read the
    /// answer.
    pub fn reply(&mut self, reply: impl Into<Reply>) -> Sent {
        let request = self.request();
        let responder = Responder {
            id: self.id,
            request,
        };
        self.is_taken = true;
        self.reactor.reply(responder, reply)
    }

    /// Takes the answer for later; see [`Request::reply_later`]. The time of `reply_timeout` begins at
    /// the end of the body.
    pub fn reply_later(&mut self) -> Responder {
        self.is_taken = true;
        if let Some(exchange) = self.reactor.exchange(self.id)
            && let Some(body) = exchange.handed_out()
        {
            body.take();
        }
        Responder {
            id: self.id,
            request: self.request(),
        }
    }

    /// Begins an answer that is sent piece by piece, also while the body still comes; see
    /// [`Request::begin_body`]. The connection ends behind an answer that began before the end of the
    /// body.
    pub fn begin_body(&mut self, head: impl Into<Reply>, length_bytes: Option<u64>) -> ConnId {
        if self.owes_answer() {
            self.reactor
                .begin_body_of(self.id, head.into(), length_bytes);
        }
        self.id
    }

    /// Answers with the pieces of an iterator; see [`Request::send_pieces`].
    pub fn send_pieces<P: Into<Vec<u8>>>(
        &mut self,
        head: impl Into<Reply>,
        length_bytes: Option<u64>,
        pieces: impl IntoIterator<Item = io::Result<P>, IntoIter: 'static>,
    ) -> Sent {
        if !self.owes_answer() {
            return Sent::Gone;
        }
        let (id, head) = (self.id, head.into());
        self.reactor.send_pieces_of(id, head, length_bytes, pieces);
        Sent::Queued
    }

    /// Answers with a body that another thread sends; see [`Request::body_sender`].
    pub fn body_sender(&mut self, head: impl Into<Reply>, length_bytes: Option<u64>) -> BodySender {
        match self.owes_answer() {
            true => {
                let (id, head) = (self.id, head.into());
                self.reactor.body_sender_of(id, head, length_bytes)
            }
            false => BodySender::gone(),
        }
    }

    /// Sends a piece of the answer that was begun; see [`Reactor::send`].
    pub fn send(&mut self, piece: impl ToMessage) -> Sent {
        self.reactor.send(self.id, piece)
    }

    /// Ends the answer that was begun; see [`Reactor::finish_body`].
    pub fn finish_body(&mut self) -> Sent {
        self.reactor.finish_body(self.id)
    }

    /// Stops reading the body; see [`Reactor::pause`]. The client cannot be slow meanwhile: its time
    /// for the body stands still.
    pub fn pause(&mut self) {
        self.reactor.pause(self.id);
    }

    /// Reads the body again after [`pause`](Self::pause).
    pub fn resume(&mut self) {
        self.reactor.resume(self.id);
    }

    /// Your state and the reactor, for a function that takes a [`Cx`].
    pub fn cx(&mut self) -> Cx<'_, S> {
        Cx::new(self.state, self.reactor)
    }

    fn request(&mut self) -> u32 {
        let exchange = self.reactor.exchange(self.id);
        exchange.map_or(0, |exchange| exchange.request())
    }

    fn owes_answer(&mut self) -> bool {
        let exchange = self.reactor.exchange(self.id);
        exchange.is_some_and(|exchange| exchange.phase() == Phase::Reply)
    }
}

/// The callbacks and the limit of a route that gets the body as it comes; see
/// [`Router::post_stream`](crate::Router::post_stream).
pub struct UploadRoute<S> {
    body_bytes_max: u64,
    on_head: Option<OnHead<S>>,
    on_data: Option<OnData<S>>,
    on_end: Option<OnEnd<S>>,
    on_close: Option<OnClose<S>>,
}

impl<S: 'static> UploadRoute<S> {
    pub(super) fn new(body_bytes_max: u64) -> UploadRoute<S> {
        UploadRoute {
            body_bytes_max,
            on_head: None,
            on_data: None,
            on_end: None,
            on_close: None,
        }
    }

    /// Sets the longest body, in bytes, without the framing of chunks. The status above it is 413: for
    /// an announced length before [`on_head`](Self::on_head). It starts as that of bodies that are
    /// collected, [`Limits::body_bytes_max`](crate::protocol::http::Limits::body_bytes_max), and may be larger.
    pub fn body_bytes_max(&mut self, bytes: u64) {
        self.body_bytes_max = bytes;
    }

    /// Called with the head of a request, before its body is read. The body of the argument is empty.
    ///
    /// An answer refuses the body, and ends the connection unless the request has none. With
    /// [`decide_later`](Request::decide_later) the body waits until [`Reactor::accept`] or the answer.
    /// Otherwise the body is read from now on, and a client that expects `100 Continue` gets it.
    pub fn on_head<R: Outcome>(
        &mut self,
        mut call: impl FnMut(&mut Request<'_, '_, S>) -> R + 'static,
    ) {
        self.on_head = Some(Box::new(move |request| {
            if let Some(error) = call(request).into_error() {
                request.answer_error(error);
            }
        }));
    }

    /// Called with each piece of the body, at least one byte, as it comes. A piece is no unit of the
    /// client's. An error that is a [`Reply`] or a [`Status`] is the answer, as in a route.
    pub fn on_data<R: Outcome>(
        &mut self,
        mut call: impl FnMut(&mut Upload<'_, S>, &[u8]) -> R + 'static,
    ) {
        self.on_data = Some(Box::new(move |upload, bytes| {
            if let Some(error) = call(upload, bytes).into_error() {
                upload.is_taken = true;
                upload.reactor.answer_error(upload.id, error);
            }
        }));
    }

    /// Called when the body is complete, unless the request was answered before. The callback answers
    /// the request if nothing has; otherwise the answer is 500.
    pub fn on_end<R: Outcome>(&mut self, mut call: impl FnMut(&mut Upload<'_, S>) -> R + 'static) {
        self.on_end = Some(Box::new(move |upload| {
            if let Some(error) = call(upload).into_error() {
                upload.is_taken = true;
                upload.reactor.answer_error(upload.id, error);
            }
        }));
    }

    /// Called when the connection has ended before the body was complete: the client is gone, was too
    /// slow or sent too much, or a callback has panicked. For each request whose
    /// [`on_head`](Self::on_head) was called, either this or [`on_end`](Self::on_end) is called, once;
    /// neither is called behind an answer that came before the end of the body.
    pub fn on_close<R: Outcome>(
        &mut self,
        mut call: impl FnMut(&mut Upload<'_, S>, &Close) -> R + 'static,
    ) {
        self.on_close = Some(Box::new(move |upload, close| {
            let outcome = call(upload, close);
            upload.reactor.note_outcome(outcome);
        }));
    }

    // ── for the handler ──────────────────────────────────────────────────────────────────────

    /// Asks `on_head`, unless it has accepted the request in an earlier turn, and begins to hand out
    /// the body. `has_bytes` when some of it has come already.
    ///
    /// # Errors
    ///
    /// When the announced length is above the maximum.
    pub(super) fn begin(
        &mut self,
        mut request: Request<'_, '_, S>,
        parsed: &ParsedHead<'_>,
        has_passed: bool,
        has_bytes: bool,
    ) -> Result<(), HttpError> {
        let id = request.id;
        if parsed
            .body
            .length()
            .is_some_and(|bytes| self.body_bytes_max < bytes)
        {
            return Err(HttpError::BodyTooLong);
        }
        if !has_passed {
            if let Some(exchange) = request.reactor.exchange(id) {
                exchange.hold_body(parsed.body, self.body_bytes_max);
            }
            if let Some(on_head) = &mut self.on_head {
                request.reactor.note_callback("on_head");
                request.check = Some(Check::Head);
                on_head(&mut request);
            }
        }
        let Request {
            state,
            reactor,
            is_answered,
            ..
        } = request;
        if reactor.is_stopped() {
            return Ok(());
        }
        let Some(exchange) = reactor.exchange(id) else {
            return Ok(());
        };
        let phase = exchange.phase();
        // A decision is awaited, or a file, which is the answer.
        let waits = phase == Phase::Reply && (exchange.is_deferred() || exchange.has_answer());
        let Some(body) = exchange.handed_out().filter(|_| !waits) else {
            return Ok(());
        };
        if is_answered && phase == Phase::Reply {
            body.take();
        }
        body.start();
        let is_at_end = body.is_at_end();
        reactor.resume_after_answer(id);
        if parsed.expects_continue && phase == Phase::Reply && !has_bytes && !is_at_end {
            reactor.queue_reply(id, b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        restart_clock(reactor, id);
        if is_at_end {
            self.end(&mut Cx::new(state, reactor), id);
        }
        Ok(())
    }

    /// Hands out the pieces at the front of `rest`, until reading pauses. `Ok(false)` when more bytes
    /// are needed.
    ///
    /// # Errors
    ///
    /// When the framing is broken, or the body is longer than the maximum.
    pub(super) fn receive(
        &mut self,
        cx: &mut Cx<'_, S>,
        id: ConnId,
        rest: &mut &[u8],
    ) -> Result<bool, HttpError> {
        loop {
            let Some(body) = cx.reactor.exchange(id).and_then(Exchange::handed_out) else {
                return Ok(true);
            };
            let was_paused = body.take_pause();
            let before = body.framed_bytes() / BODY_BYTES_PER_SECOND;
            let chunk = body.next_piece(rest)?;
            let earned = body.framed_bytes() / BODY_BYTES_PER_SECOND - before;
            let is_taken = body.is_taken();
            match was_paused {
                true => restart_clock(cx.reactor, id),
                false => cx.reactor.extend_deadline(id, earned as u32),
            }
            match chunk {
                None => return Ok(false),
                Some(BodyChunk::End) => {
                    self.end(cx, id);
                    return Ok(true);
                }
                Some(BodyChunk::Data(bytes)) => {
                    if let Some(on_data) = &mut self.on_data {
                        cx.reactor.note_callback("on_data");
                        let mut upload = Upload {
                            state: cx.state,
                            reactor: cx.reactor,
                            id,
                            is_taken,
                        };
                        on_data(&mut upload, bytes);
                    }
                }
            }
            cx.reactor.charge_message(id);
            if cx.reactor.is_stopped() {
                return Ok(true);
            }
            if !cx.reactor.may_read(id) {
                if cx.reactor.is_held(id)
                    && let Some(body) = cx.reactor.exchange(id).and_then(Exchange::handed_out)
                {
                    body.note_pause();
                }
                return Ok(true);
            }
        }
    }

    /// The body is complete. The answer is owed from here on, unless it was given or has begun.
    fn end(&mut self, cx: &mut Cx<'_, S>, id: ConnId) {
        let Some(exchange) = cx.reactor.exchange(id) else {
            return;
        };
        let is_taken = exchange.end_handed_out();
        cx.reactor.clear_deadline(id);
        let mut upload = Upload {
            state: cx.state,
            reactor: cx.reactor,
            id,
            is_taken,
        };
        if let Some(on_end) = &mut self.on_end {
            upload.reactor.note_callback("on_end");
            on_end(&mut upload);
        }
        let Upload {
            reactor, is_taken, ..
        } = upload;
        if reactor.is_stopped() {
            return;
        }
        match reactor.exchange(id).map(|exchange| exchange.phase()) {
            // A file may be on its way already, which has set this deadline.
            Some(Phase::Reply) if is_taken => {
                reactor.take_for_later(id);
            }
            Some(Phase::Reply) => {
                log::error!(
                    "conn {id}: an upload was neither answered nor taken with `reply_later`"
                );
                reactor.send_reply(id, Status::INTERNAL_SERVER_ERROR.into());
            }
            // The next request waits for the end of the answer.
            Some(Phase::Stream) => reactor.pause_for_answer(id),
            Some(Phase::Head | Phase::Body | Phase::End) | None => {}
        }
    }

    /// The connection has ended before the body was complete.
    pub(super) fn closed(&mut self, cx: &mut Cx<'_, S>, id: ConnId, close: &Close) {
        if let Some(on_close) = &mut self.on_close {
            cx.reactor.note_callback("on_close");
            let mut upload = Upload {
                state: cx.state,
                reactor: cx.reactor,
                id,
                is_taken: false,
            };
            on_close(&mut upload, close);
        }
    }
}

/// Whether a body whose time is over was not read for a part of it. Its time begins again then.
pub(super) fn forgives_pause<S: 'static>(reactor: &mut Reactor<S>, id: ConnId) -> bool {
    let is_paused = reactor.is_held(id);
    let body = reactor.exchange(id).and_then(Exchange::handed_out);
    // A pause that goes on is still a pause when it ends, whatever is left of the time then.
    let was_paused = body.is_some_and(|body| is_paused || body.take_pause());
    if was_paused {
        restart_clock(reactor, id);
    }
    was_paused
}

/// Begins the time for the body, or for the rest of it.
fn restart_clock<S: 'static>(reactor: &mut Reactor<S>, id: ConnId) {
    let timeout = reactor.config().body_timeout;
    reactor.set_deadline(id, Deadline::Body, timeout);
}
