//! Streamed bodies that another thread sends.
//!
//! The thread puts pieces into a short queue of its own, and the loop takes them while the queue of
//! the connection has room. Both queues have a limit: a client that reads slowly makes
//! [`BodySender::send`] wait, and a client that is gone ends the wait.
//!
//! The loop is woken only when it has found the queue empty, so a thread that sends many small
//! pieces costs few wake-ups.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::reactor::close::Sent;
use crate::reactor::config::QUEUED_MESSAGE_BYTES;
use crate::reactor::id::ConnId;
use crate::reactor::reactor::Reactor;

use super::pieces::{NextPiece, Pull};
use super::reply::{Reply, Responder};

/// The end of what a thread sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SenderState {
    /// More may come.
    Sends,
    /// The body is complete.
    Finished,
    /// The sender was dropped before the end of the body.
    Dropped,
}

#[derive(Debug)]
struct Pieces {
    queue: VecDeque<Vec<u8>>,
    /// The bytes of the queue, each piece with the overhead of a message.
    queued_bytes: usize,
    sender: SenderState,
    /// The connection takes no more: the client is gone, or the body has ended.
    is_gone: bool,
    /// The loop has found the queue empty, and must be woken.
    is_awaited: bool,
}

#[derive(Debug)]
struct Shared {
    pieces: Mutex<Pieces>,
    /// Notified when the queue gets room, and when the client is gone.
    has_room: Condvar,
    queued_bytes_max: usize,
}

impl Shared {
    fn new(queued_bytes_max: usize, is_gone: bool) -> Arc<Shared> {
        Arc::new(Shared {
            pieces: Mutex::new(Pieces {
                queue: VecDeque::new(),
                queued_bytes: 0,
                sender: SenderState::Sends,
                is_gone,
                is_awaited: true,
            }),
            has_room: Condvar::new(),
            queued_bytes_max,
        })
    }

    /// No code of the application runs under the lock, so a poisoned one is whole.
    fn lock(&self) -> MutexGuard<'_, Pieces> {
        self.pieces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A piece that is longer than the limit is let in when the queue is empty.
    fn is_full(&self, pieces: &Pieces, bytes: usize) -> bool {
        let queued_bytes = pieces.queued_bytes.saturating_add(bytes);
        pieces.queued_bytes != 0 && self.queued_bytes_max < queued_bytes
    }

    fn take_next(&self) -> io::Result<NextPiece> {
        let mut pieces = self.lock();
        if let Some(piece) = pieces.queue.pop_front() {
            pieces.queued_bytes -= counted_bytes(&piece);
            self.has_room.notify_all();
            return Ok(NextPiece::Piece(piece));
        }
        match pieces.sender {
            SenderState::Sends => {
                pieces.is_awaited = true;
                Ok(NextPiece::Later)
            }
            SenderState::Finished => Ok(NextPiece::End),
            SenderState::Dropped => {
                let text = "its `BodySender` was dropped before `finish`";
                Err(io::Error::other(text))
            }
        }
    }

    fn note_gone(&self) {
        let mut pieces = self.lock();
        pieces.is_gone = true;
        pieces.queue = VecDeque::new();
        pieces.queued_bytes = 0;
        self.has_room.notify_all();
    }
}

fn counted_bytes(piece: &[u8]) -> usize {
    piece.len() + QUEUED_MESSAGE_BYTES
}

/// The loop's end of the queue. The reactor drops it with the body, with the connection and with the
/// loop, whichever comes first.
struct Receiver(Arc<Shared>);

impl Drop for Receiver {
    fn drop(&mut self) {
        self.0.note_gone();
    }
}

/// Sends the body of an answer from another thread; see
/// [`Request::body_sender`](crate::Request::body_sender).
///
/// A body that is complete is ended by [`finish`](Self::finish). To drop the sender aborts the body,
/// so that its client does not take a part for the whole.
pub struct BodySender {
    shared: Arc<Shared>,
    /// Has the loop take pieces. Returns `false` when the loop has ended.
    wake: Box<dyn Fn() -> bool + Send + Sync>,
}

impl BodySender {
    /// A sender without a client.
    pub(super) fn gone() -> BodySender {
        BodySender {
            shared: Shared::new(0, true),
            wake: Box::new(|| false),
        }
    }

    /// Sends a piece. Waits while the queue of the sender is full; a client that reads nothing at all
    /// is ended by [`write_timeout`](crate::ConnectionOptions::write_timeout), which ends the wait.
    /// `Gone` when the client is gone, and otherwise `Queued`.
    ///
    /// Must not be called on the thread of the loop, which it would wait for.
    pub fn send(&self, piece: impl Into<Vec<u8>>) -> Sent {
        let piece = piece.into();
        let mut pieces = self.shared.lock();
        while !pieces.is_gone && self.shared.is_full(&pieces, counted_bytes(&piece)) {
            let waited = self.shared.has_room.wait(pieces);
            pieces = waited.unwrap_or_else(PoisonError::into_inner);
        }
        self.push(pieces, piece)
    }

    /// As [`send`](Self::send), and returns `Full` instead of waiting; the piece is not sent then.
    pub fn try_send(&self, piece: &[u8]) -> Sent {
        let pieces = self.shared.lock();
        if !pieces.is_gone && self.shared.is_full(&pieces, counted_bytes(piece)) {
            return Sent::Full;
        }
        self.push(pieces, piece.to_vec())
    }

    /// Ends the body behind what was sent. `Gone` when the client is gone.
    pub fn finish(self) -> Sent {
        self.end(SenderState::Finished)
    }

    /// Whether the client is gone, or the body has ended in another way. A thread that computes for
    /// long between two pieces asks for it, and gives up.
    pub fn is_gone(&self) -> bool {
        self.shared.lock().is_gone
    }

    fn push(&self, mut pieces: MutexGuard<'_, Pieces>, piece: Vec<u8>) -> Sent {
        if pieces.is_gone {
            return Sent::Gone;
        }
        if !piece.is_empty() {
            pieces.queued_bytes += counted_bytes(&piece);
            pieces.queue.push_back(piece);
        }
        self.wake_loop(pieces)
    }

    fn end(&self, state: SenderState) -> Sent {
        let mut pieces = self.shared.lock();
        if pieces.is_gone || pieces.sender != SenderState::Sends {
            return Sent::Gone;
        }
        pieces.sender = state;
        self.wake_loop(pieces)
    }

    fn wake_loop(&self, mut pieces: MutexGuard<'_, Pieces>) -> Sent {
        let is_awaited = std::mem::take(&mut pieces.is_awaited);
        drop(pieces);
        if is_awaited && !(self.wake)() {
            self.shared.note_gone();
            return Sent::Gone;
        }
        Sent::Queued
    }
}

impl Drop for BodySender {
    fn drop(&mut self) {
        self.end(SenderState::Dropped);
    }
}

impl fmt::Debug for BodySender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pieces = &self.shared.pieces;
        f.debug_struct("BodySender")
            .field("pieces", pieces)
            .finish()
    }
}

/// # Answer
impl<S: 'static> Reactor<S> {
    /// Answers a request that was taken with
    /// [`Request::reply_later`](crate::Request::reply_later) with a body that another thread sends, as
    /// [`Request::body_sender`](crate::Request::body_sender) does in the callback of the route. The
    /// sender is gone from the start when the client is gone, or when the request was answered before.
    pub fn body_sender(
        &mut self,
        responder: Responder,
        head: impl Into<Reply>,
        length_bytes: Option<u64>,
    ) -> BodySender {
        match self.is_pending(responder) {
            true => self.body_sender_of(responder.id, head.into(), length_bytes),
            false => BodySender::gone(),
        }
    }

    /// As [`body_sender`](Self::body_sender), for the request that the connection is at.
    pub(crate) fn body_sender_of(
        &mut self,
        id: ConnId,
        head: Reply,
        length_bytes: Option<u64>,
    ) -> BodySender {
        let Some(body) = self.begin_pulled_body(id, head, length_bytes) else {
            return BodySender::gone();
        };
        let options = self.options_of(id);
        let queued_bytes_max = options.map_or(0, |options| options.queue_high_bytes);
        let shared = Shared::new(queued_bytes_max, false);
        let receiver = Receiver(Arc::clone(&shared));
        self.add_on_gone(id, Box::new(move |_, _| drop(receiver)));
        let (remote, pulled) = (self.remote(), Arc::clone(&shared));
        let wake = move || {
            let shared = Arc::clone(&pulled);
            let pull = remote.run(move |cx| cx.reactor.pull_sent(body, shared));
            pull.is_ok()
        };
        BodySender {
            shared,
            wake: Box::new(wake),
        }
    }

    fn pull_sent(&mut self, body: Responder, shared: Arc<Shared>) {
        if self.pull_body(body, || shared.take_next()) == Pull::GoesOn {
            self.on_drain(body.id, move |cx| cx.reactor.pull_sent(body, shared));
        }
    }
}
