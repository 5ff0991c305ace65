//! Streamed bodies whose pieces are taken from an iterator, one at a time and only while the queue
//! of the connection has room.
//!
//! A client that reads slowly therefore slows the iterator down, and the memory of an answer without
//! end is that of the queue. The rules of a streamed body stand in `streaming`.

use std::io;

use crate::protocol::http::Phase;
use crate::reactor::close::Sent;
use crate::reactor::id::ConnId;
use crate::reactor::reactor::Reactor;

use super::reply::{Reply, Responder};

/// The most bytes and pieces that one connection takes before the others have their turn.
const BYTES_PER_TURN: usize = 128 * 1024;
const PIECES_PER_TURN: usize = 64;

/// The pieces of a body, in their order.
type Pieces = Box<dyn Iterator<Item = io::Result<Vec<u8>>>>;

/// The place where a pull has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pull {
    /// The source has nothing now. It pulls again when that changes.
    Waits,
    /// The queue has no room, or the connection has had its turn.
    GoesOn,
    /// The body is complete, was aborted, or its client is gone.
    Ended,
}

/// A source's answer to the question for the next piece.
pub(crate) enum NextPiece {
    Piece(Vec<u8>),
    /// There is none now.
    Later,
    /// The body is complete.
    End,
}

/// # Answer
impl<S: 'static> Reactor<S> {
    /// Answers a request that was taken with
    /// [`Request::reply_later`](crate::Request::reply_later) with a body of pieces, as
    /// [`Request::send_pieces`](crate::Request::send_pieces) does in the callback of the route.
    ///
    /// `Gone` when the client is gone, or when the request was answered before.
    pub fn send_pieces<P: Into<Vec<u8>>>(
        &mut self,
        responder: Responder,
        head: impl Into<Reply>,
        length_bytes: Option<u64>,
        pieces: impl IntoIterator<Item = io::Result<P>, IntoIter: 'static>,
    ) -> Sent {
        if !self.is_pending(responder) {
            return Sent::Gone;
        }
        self.send_pieces_of(responder.id, head.into(), length_bytes, pieces);
        Sent::Queued
    }

    /// As [`send_pieces`](Self::send_pieces), for the request that the connection is at.
    pub(crate) fn send_pieces_of<P: Into<Vec<u8>>>(
        &mut self,
        id: ConnId,
        head: Reply,
        length_bytes: Option<u64>,
        pieces: impl IntoIterator<Item = io::Result<P>, IntoIter: 'static>,
    ) {
        let Some(body) = self.begin_pulled_body(id, head, length_bytes) else {
            return;
        };
        let pieces = pieces.into_iter().map(|piece| piece.map(Into::into));
        // Behind the callback that has called this: the iterator is the application's, and may want what it holds.
        self.on_drain(body.id, move |cx| {
            cx.reactor.pull_pieces(body, Box::new(pieces));
        });
    }

    fn pull_pieces(&mut self, body: Responder, mut pieces: Pieces) {
        let pull = self.pull_body(body, || match pieces.next() {
            Some(Ok(piece)) => Ok(NextPiece::Piece(piece)),
            Some(Err(error)) => Err(error),
            None => Ok(NextPiece::End),
        });
        if pull == Pull::GoesOn {
            self.on_drain(body.id, move |cx| cx.reactor.pull_pieces(body, pieces));
        }
    }

    // ── for other sources ────────────────────────────────────────────────────────────────────

    /// Begins a body that is pulled. `None` when it has ended with its head: the answer to a HEAD,
    /// a status that has no body, a client that is gone.
    pub(crate) fn begin_pulled_body(
        &mut self,
        id: ConnId,
        head: Reply,
        length_bytes: Option<u64>,
    ) -> Option<Responder> {
        self.begin_body_of(id, head, length_bytes);
        let exchange = self.exchange(id)?;
        let request = exchange.request();
        if exchange.phase() == Phase::Stream && exchange.is_head_request() {
            self.finish_body(id);
        }
        let body = Responder { id, request };
        self.is_streaming(body).then_some(body)
    }

    /// Whether the answer to this request is a streamed body that is under way.
    pub(crate) fn is_streaming(&mut self, body: Responder) -> bool {
        self.is_at(body, Phase::Stream)
    }

    /// Whether the connection is still at this request, and at this step of it.
    pub(super) fn is_at(&mut self, responder: Responder, phase: Phase) -> bool {
        self.exchange(responder.id).is_some_and(|exchange| {
            exchange.phase() == phase && exchange.request() == responder.request
        })
    }

    /// Sends pieces while the queue has room, for one turn at most, and ends the body behind the last
    /// one. An error or a panic of `next_piece` [aborts](Self::abort_body) the body.
    pub(crate) fn pull_body(
        &mut self,
        body: Responder,
        mut next_piece: impl FnMut() -> io::Result<NextPiece>,
    ) -> Pull {
        let id = body.id;
        let (mut sent_bytes, mut sent_count) = (0, 0);
        while self.is_streaming(body) {
            let is_over = BYTES_PER_TURN <= sent_bytes || PIECES_PER_TURN <= sent_count;
            if is_over || !self.has_room(id) {
                return Pull::GoesOn;
            }
            let Some(next) = self.call_for(id, "the source of its body", &mut next_piece) else {
                return Pull::Ended;
            };
            let piece = match next {
                Ok(NextPiece::Piece(piece)) => piece,
                Ok(NextPiece::Later) => return Pull::Waits,
                Ok(NextPiece::End) => {
                    self.finish_body(id);
                    return Pull::Ended;
                }
                Err(error) => {
                    log::error!("conn {id}: its body is cut short: {error}");
                    self.abort_body(id);
                    return Pull::Ended;
                }
            };
            sent_bytes += piece.len();
            sent_count += 1;
            if self.send(id, piece) == Sent::Gone && self.is_streaming(body) {
                log::error!("conn {id}: its body is longer than its announced length");
                self.abort_body(id);
            }
        }
        Pull::Ended
    }
}
