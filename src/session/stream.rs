//! Raw streams: the callbacks of connections whose bytes only the application understands.
//!
//! The server and the client side share this. They differ only in how a connection comes about.

use crate::protocol::websocket::ToMessage;
use crate::pubsub::{self, TopicError};
use crate::reactor::close::{Close, CloseCause, Deadline, Sent};
use crate::reactor::config::ConnectionOptions;
use crate::reactor::connection::Connection;
use crate::reactor::id::ConnId;
use crate::reactor::outcome::Outcome;
use crate::reactor::published::Published;
use crate::reactor::reactor::Reactor;
use crate::reactor::reactor::{Cx, Handler};
use crate::reactor::transport::socket::Peer;

/// The argument of the callbacks of a raw stream.
#[non_exhaustive]
pub struct Stream<'a, S> {
    /// Your state.
    pub state: &'a mut S,
    /// The reactor: sending, publishing, timers, connecting.
    pub reactor: &'a mut Reactor<S>,
    /// The id of the connection that this callback was called for.
    pub id: ConnId,
}

impl<S: 'static> Stream<'_, S> {
    /// Sends bytes to this connection.
    pub fn send(&mut self, bytes: impl ToMessage) -> Sent {
        self.reactor.send(self.id, bytes)
    }

    /// Flushes what is queued and ends the stream.
    pub fn close(&mut self) -> Sent {
        self.reactor.close(self.id)
    }

    /// Flushes what is queued and ends our side only (half close); see [`Reactor::finish_sending`].
    pub fn finish(&mut self) -> Sent {
        self.reactor.finish_sending(self.id)
    }

    /// As [`send`](Self::send), with a key for [`Overflow::LatestPerKey`](crate::Overflow::LatestPerKey); see
    /// [`Reactor::send_keyed`].
    pub fn send_keyed(&mut self, key: u64, bytes: impl AsRef<[u8]>) -> Sent {
        self.reactor.send_keyed(self.id, key, bytes.as_ref())
    }

    /// Bytes that wait for the socket; see [`Reactor::queued_bytes`].
    pub fn queued_bytes(&self) -> usize {
        self.reactor.queued_bytes(self.id)
    }

    /// Stops reading from this connection; see [`Reactor::pause`].
    pub fn pause(&mut self) {
        self.reactor.pause(self.id);
    }

    /// Reads from this connection again.
    pub fn resume(&mut self) {
        self.reactor.resume(self.id);
    }

    /// Ends this connection at once, without a goodbye; see [`Reactor::reset`].
    pub fn reset(&mut self) {
        self.reactor.reset(self.id);
    }

    /// Makes this connection a member of a topic; it gets the data of each publication as bytes.
    ///
    /// # Errors
    ///
    /// As [`Reactor::subscribe`].
    pub fn subscribe(&mut self, topic: &str) -> Result<bool, TopicError> {
        self.reactor.subscribe(self.id, topic)
    }

    /// Ends the membership of this connection in a topic. `false` when it was no member.
    pub fn unsubscribe(&mut self, topic: &str) -> bool {
        self.reactor.unsubscribe(self.id, topic)
    }

    /// Makes this connection a member of every topic that matches a glob pattern.
    ///
    /// # Errors
    ///
    /// As [`Reactor::subscribe`].
    pub fn subscribe_pattern(&mut self, pattern: &str) -> Result<bool, TopicError> {
        self.reactor.subscribe_pattern(self.id, pattern)
    }

    /// Ends the membership of this connection by a pattern. `false` when there was none.
    pub fn unsubscribe_pattern(&mut self, pattern: &str) -> bool {
        self.reactor.unsubscribe_pattern(self.id, pattern)
    }

    /// Publishes to a topic, also to this connection where it is a member.
    pub fn publish<'e>(&mut self, topic: &str, event: impl Into<pubsub::Event<'e>>) -> Published {
        self.reactor.publish(topic, event)
    }

    /// The address of the peer. Asks the kernel.
    pub fn peer(&self) -> Peer {
        self.reactor.peer(self.id)
    }
}

type OnStream<S> = Box<dyn FnMut(&mut Stream<'_, S>)>;
type OnData<S> = Box<dyn FnMut(&mut Stream<'_, S>, &[u8])>;
type OnClose<S> = Box<dyn FnMut(&mut Stream<'_, S>, &Close)>;

/// The callbacks of one listener's, or one client's, raw streams.
pub struct StreamCallbacks<S> {
    pub(crate) name: String,
    /// Whether these callbacks belong to one outgoing connection and are dropped when it ends. Those of a
    /// listener serve many connections.
    is_single: bool,
    options: ConnectionOptions,
    on_open: Option<OnStream<S>>,
    on_data: Option<OnData<S>>,
    on_end: Option<OnStream<S>>,
    on_tls: Option<OnStream<S>>,
    on_drain: Option<OnStream<S>>,
    on_close: Option<OnClose<S>>,
}

impl<S: 'static> StreamCallbacks<S> {
    pub(crate) fn new(name: String, is_single: bool, options: ConnectionOptions) -> Self {
        StreamCallbacks {
            name,
            is_single,
            options,
            on_open: None,
            on_data: None,
            on_end: None,
            on_tls: None,
            on_drain: None,
            on_close: None,
        }
    }

    /// Watermarks, policy and deadlines of these connections; they start as the reactor's.
    pub fn options(&mut self) -> &mut ConnectionOptions {
        &mut self.options
    }

    /// Called when the connection was accepted or made.
    pub fn on_open<R: Outcome>(&mut self, mut call: impl FnMut(&mut Stream<'_, S>) -> R + 'static) {
        self.on_open = Some(Box::new(move |stream| {
            let outcome = call(stream);
            stream.reactor.end_if_error(stream.id, outcome);
        }));
    }

    /// Called with the bytes that came, in whatever pieces the network made of them.
    pub fn on_data<R: Outcome>(
        &mut self,
        mut call: impl FnMut(&mut Stream<'_, S>, &[u8]) -> R + 'static,
    ) {
        self.on_data = Some(Box::new(move |stream, bytes| {
            let outcome = call(stream, bytes);
            stream.reactor.end_if_error(stream.id, outcome);
        }));
    }

    /// Called when the peer has ended its side. Without this callback our side is ended too, after the queue
    /// is flushed. The callback may go on sending, and must close the stream itself.
    pub fn on_end<R: Outcome>(&mut self, mut call: impl FnMut(&mut Stream<'_, S>) -> R + 'static) {
        self.on_end = Some(Box::new(move |stream| {
            let outcome = call(stream);
            stream.reactor.end_if_error(stream.id, outcome);
        }));
    }

    /// Called when the handshake that `Reactor::start_tls` began is done. One that fails ends the stream
    /// with [`CloseCause::Tls`].
    #[cfg(feature = "tls")]
    pub fn on_tls<R: Outcome>(&mut self, mut call: impl FnMut(&mut Stream<'_, S>) -> R + 'static) {
        self.on_tls = Some(Box::new(move |stream| {
            let outcome = call(stream);
            stream.reactor.end_if_error(stream.id, outcome);
        }));
    }

    /// Called when the queue falls below the low watermark, if it was above the high one, or if the application
    /// paused reading while the queue was above the low one.
    pub fn on_drain<R: Outcome>(
        &mut self,
        mut call: impl FnMut(&mut Stream<'_, S>) -> R + 'static,
    ) {
        self.on_drain = Some(Box::new(move |stream| {
            let outcome = call(stream);
            stream.reactor.end_if_error(stream.id, outcome);
        }));
    }

    /// Called when the connection has ended, or could not be made: once, and last.
    pub fn on_close<R: Outcome>(
        &mut self,
        mut call: impl FnMut(&mut Stream<'_, S>, &Close) -> R + 'static,
    ) {
        self.on_close = Some(Box::new(move |stream, close| {
            let outcome = call(stream, close);
            stream.reactor.end_if_error(stream.id, outcome);
        }));
    }
}

impl<S: 'static> StreamCallbacks<S> {
    /// Sets the idle deadline to `idle_timeout` from now. A stream without `idle_timeout` has none, since a raw protocol
    /// has no ping that would tell a silent peer from a dead one.
    fn restart_idle(cx: &mut Cx<'_, S>, id: ConnId) {
        if let Some(timeout) = cx
            .reactor
            .options_of(id)
            .and_then(|options| options.idle_timeout)
        {
            cx.reactor.set_deadline(id, Deadline::Idle, timeout);
        }
    }
}

impl<S: 'static> Handler<S> for StreamCallbacks<S> {
    fn name(&self, _: Option<&Connection>) -> String {
        self.name.clone()
    }

    fn open(&mut self, cx: &mut Cx<'_, S>, id: ConnId) {
        Self::restart_idle(cx, id);
        cx.reactor.mark_opened(id);
        if let Some(call) = &mut self.on_open {
            call(&mut Stream {
                state: cx.state,
                reactor: cx.reactor,
                id,
            });
        }
    }

    fn receive(&mut self, cx: &mut Cx<'_, S>, id: ConnId, input: &mut [u8]) -> usize {
        Self::restart_idle(cx, id);
        if let Some(call) = &mut self.on_data {
            call(
                &mut Stream {
                    state: cx.state,
                    reactor: cx.reactor,
                    id,
                },
                input,
            );
        }
        input.len()
    }

    fn secured(&mut self, cx: &mut Cx<'_, S>, id: ConnId) {
        Self::restart_idle(cx, id);
        if let Some(call) = &mut self.on_tls {
            call(&mut Stream {
                state: cx.state,
                reactor: cx.reactor,
                id,
            });
        }
    }

    fn end(&mut self, cx: &mut Cx<'_, S>, id: ConnId) {
        match &mut self.on_end {
            Some(call) => call(&mut Stream {
                state: cx.state,
                reactor: cx.reactor,
                id,
            }),
            None => cx.reactor.finish(
                id,
                Close {
                    was_clean: true,
                    ..Close::new(CloseCause::Peer)
                },
                false,
            ),
        }
    }

    fn below_low_mark(&mut self, cx: &mut Cx<'_, S>, id: ConnId) {
        if let Some(call) = &mut self.on_drain {
            call(&mut Stream {
                state: cx.state,
                reactor: cx.reactor,
                id,
            });
        }
    }

    fn due(&mut self, cx: &mut Cx<'_, S>, id: ConnId, deadline: Deadline) {
        // While reading pauses, the peer's bytes may be in the kernel unread, so silence says nothing.
        if deadline == Deadline::Idle && !cx.reactor.may_read(id) {
            return Self::restart_idle(cx, id);
        }
        cx.reactor
            .finish(id, Close::new(CloseCause::TimedOut(deadline)), true);
    }

    fn closed(&mut self, cx: &mut Cx<'_, S>, id: ConnId, close: &Close) {
        if let Some(call) = &mut self.on_close {
            call(
                &mut Stream {
                    state: cx.state,
                    reactor: cx.reactor,
                    id,
                },
                close,
            );
        }
    }

    fn is_single(&self) -> bool {
        self.is_single
    }
}
