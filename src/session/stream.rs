//! Raw streams: the callbacks of connections whose bytes only the application understands.
//!
//! The server and the client side share this. They differ only in how a connection comes about.

use std::io;

use crate::protocol::framing::{Framing, LengthPrefix};
use crate::protocol::websocket::ToMessage;
use crate::pubsub::{self, TopicError};
use crate::reactor::close::{Close, CloseCause, Deadline, Sent};
use crate::reactor::config::ConnectionOptions;
use crate::reactor::connection::Connection;
use crate::reactor::id::{ConnId, ConnMap};
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

impl<'a, S> Stream<'a, S> {
    fn new<'c: 'a>(cx: &'a mut Cx<'c, S>, id: ConnId) -> Stream<'a, S> {
        Stream {
            state: cx.state,
            reactor: cx.reactor,
            id,
        }
    }
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

    /// Ends our side after the peer has ended its own, when the queue is flushed.
    fn end_too(&mut self) {
        let close = Close {
            was_clean: true,
            ..Close::new(CloseCause::Peer)
        };
        self.reactor.finish(self.id, close, false);
    }

    /// The address of the peer. Asks the kernel.
    pub fn peer(&self) -> Peer {
        self.reactor.peer(self.id)
    }
}

/// The same callbacks as [`StreamCallbacks`], as methods of a type with state of its own.
pub trait StreamHandler<S: 'static>: 'static {
    /// Called when the connection was accepted or made.
    fn on_open(&mut self, stream: &mut Stream<'_, S>) {
        let _ = stream;
    }

    /// Called with the bytes that came, in whatever pieces the network made of them, or with one line or frame where
    /// [`lines`](StreamCallbacks::lines) or [`frames`](StreamCallbacks::frames) says so.
    fn on_data(&mut self, stream: &mut Stream<'_, S>, bytes: &[u8]) {
        let _ = (stream, bytes);
    }

    /// Called when the peer has ended its side. By default our side is ended too, after the queue is flushed.
    fn on_end(&mut self, stream: &mut Stream<'_, S>) {
        stream.end_too();
    }

    /// Called when the handshake that `Reactor::start_tls` began is done.
    fn on_tls(&mut self, stream: &mut Stream<'_, S>) {
        let _ = stream;
    }

    /// Called when the queue falls below the low watermark, if it was above the high one, or if the application
    /// paused reading while the queue was above the low one.
    fn on_drain(&mut self, stream: &mut Stream<'_, S>) {
        let _ = stream;
    }

    /// Called when the connection has ended, or could not be made: once, and last. A connection that was not made has no
    /// `on_open`.
    fn on_close(&mut self, stream: &mut Stream<'_, S>, close: &Close) {
        let _ = (stream, close);
    }
}

/// A handler that has one more for each connection.
struct Each<F, H> {
    make: F,
    /// `None` while `make` is called for it, and after `make` has panicked.
    handlers: ConnMap<Option<H>>,
}

impl<F, H> Each<F, H> {
    /// Calls the handler of a connection. There is none if `make` has panicked.
    fn with<S>(
        &mut self,
        stream: &mut Stream<'_, S>,
        call: impl FnOnce(&mut H, &mut Stream<'_, S>),
    ) {
        if let Some(Some(handler)) = self.handlers.get_mut(stream.id) {
            call(handler, stream);
        }
    }
}

impl<S, F, H> StreamHandler<S> for Each<F, H>
where
    S: 'static,
    F: FnMut(&mut Stream<'_, S>) -> H + 'static,
    H: StreamHandler<S>,
{
    fn on_open(&mut self, stream: &mut Stream<'_, S>) {
        // Before the call: one that panics is not called again in `on_close`.
        self.handlers.insert(stream.id, None);
        let handler = (self.make)(stream);
        self.handlers.insert(stream.id, Some(handler));
        self.with(stream, |handler, stream| handler.on_open(stream));
    }

    fn on_data(&mut self, stream: &mut Stream<'_, S>, bytes: &[u8]) {
        self.with(stream, |handler, stream| handler.on_data(stream, bytes));
    }

    fn on_end(&mut self, stream: &mut Stream<'_, S>) {
        match self.handlers.get_mut(stream.id) {
            Some(Some(handler)) => handler.on_end(stream),
            Some(None) | None => stream.end_too(),
        }
    }

    fn on_tls(&mut self, stream: &mut Stream<'_, S>) {
        self.with(stream, |handler, stream| handler.on_tls(stream));
    }

    fn on_drain(&mut self, stream: &mut Stream<'_, S>) {
        self.with(stream, |handler, stream| handler.on_drain(stream));
    }

    fn on_close(&mut self, stream: &mut Stream<'_, S>, close: &Close) {
        // One that was not made has no handler yet.
        let handler = match self.handlers.remove(stream.id) {
            Some(handler) => handler,
            None => Some((self.make)(stream)),
        };
        if let Some(mut handler) = handler {
            handler.on_close(stream, close);
        }
    }
}

type OnStream<S> = Box<dyn FnMut(&mut Stream<'_, S>)>;
type OnBytes<S> = Box<dyn FnMut(&mut Stream<'_, S>, &[u8])>;
type OnClose<S> = Box<dyn FnMut(&mut Stream<'_, S>, &Close)>;

/// The callbacks of one listener's, or one client's, raw streams.
pub struct StreamCallbacks<S> {
    pub(crate) name: String,
    /// Whether these callbacks belong to one outgoing connection and are dropped when it ends. Those of a
    /// listener serve many connections.
    is_single: bool,
    options: ConnectionOptions,
    on_open: Option<OnStream<S>>,
    on_input: Option<OnBytes<S>>,
    /// How the input is divided, and `on_line` or `on_frame`, for log lines.
    framing: Option<(Framing, &'static str)>,
    on_end: Option<OnStream<S>>,
    on_tls: Option<OnStream<S>>,
    on_drain: Option<OnStream<S>>,
    on_close: Option<OnClose<S>>,
    /// Called instead of the closures.
    handler: Option<Box<dyn StreamHandler<S>>>,
}

impl<S: 'static> StreamCallbacks<S> {
    pub(crate) fn new(name: String, is_single: bool, options: ConnectionOptions) -> Self {
        StreamCallbacks {
            name,
            is_single,
            options,
            on_open: None,
            on_input: None,
            framing: None,
            on_end: None,
            on_tls: None,
            on_drain: None,
            on_close: None,
            handler: None,
        }
    }

    /// Gives all callbacks to one object, instead of closures. Closures that were given are not called then.
    pub fn handler(&mut self, handler: impl StreamHandler<S>) {
        self.handler = Some(Box::new(handler));
    }

    /// Gives each connection an object of its own, which `make` returns before its `on_open`, or before the `on_close`
    /// of a connection that could not be made. The object is dropped after its `on_close`. Closures that were given are
    /// not called then.
    ///
    /// ```
    /// # use waterwheel::{Reactor, Sim, Stream, StreamHandler};
    /// struct Counter {
    ///     bytes: usize,
    /// }
    ///
    /// impl StreamHandler<()> for Counter {
    ///     fn on_data(&mut self, stream: &mut Stream<'_, ()>, bytes: &[u8]) {
    ///         self.bytes += bytes.len();
    ///         stream.send(format!("{}\n", self.bytes));
    ///     }
    /// }
    ///
    /// let mut sim = Sim::new((), |reactor: &mut Reactor<()>| {
    ///     reactor.stream("0.0.0.0:80", |stream| stream.each(|_| Counter { bytes: 0 }))
    /// });
    /// let (ada, bob) = (sim.connect(), sim.connect());
    /// ada.write("abc");
    /// bob.write("d");
    /// sim.settle();
    /// assert_eq!(ada.read_text(), "3\n");
    /// assert_eq!(bob.read_text(), "1\n");
    /// ```
    pub fn each<H: StreamHandler<S>>(
        &mut self,
        make: impl FnMut(&mut Stream<'_, S>) -> H + 'static,
    ) {
        let handlers = ConnMap::default();
        self.handler(Each { make, handlers });
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
    ///
    /// It takes the place of [`on_line`](Self::on_line) and [`on_frame`](Self::on_frame), as they take its place: of
    /// the three, the one that is set last is called.
    pub fn on_data<R: Outcome>(
        &mut self,
        call: impl FnMut(&mut Stream<'_, S>, &[u8]) -> R + 'static,
    ) {
        self.on_input = Some(on_bytes(call));
        self.framing = None;
    }

    /// Called with each line, without its end, which is `\n` or `\r\n`.
    ///
    /// A line has at most `line_bytes_max` bytes. A longer one ends the stream with [`CloseCause::Framing`], as soon
    /// as the bytes behind the limit have come. A line without an end at the end of the stream is dropped, because the
    /// rest of it may be missing.
    ///
    /// When the callback begins TLS, bytes that came together with its line are dropped, because they came without
    /// protection.
    ///
    /// ```
    /// use waterwheel::{Reactor, Sim};
    ///
    /// let mut sim = Sim::new((), |reactor: &mut Reactor<()>| {
    ///     reactor.stream("127.0.0.1:7000", |stream| {
    ///         stream.on_line(1024, |stream, line| stream.send([b"> ", line, b"\n"].concat()));
    ///     })
    /// });
    /// let client = sim.connect();
    /// client.write("HELO\r\nQU");
    /// client.write("IT\n");
    /// sim.settle();
    /// assert_eq!(client.read_text(), "> HELO\n> QUIT\n");
    /// ```
    ///
    /// # Errors
    ///
    /// The listener or client is not made when `line_bytes_max` and the end of the line are not less than
    /// [`Config::read_buffer_bytes`](crate::Config::read_buffer_bytes): a line is looked at in that buffer.
    pub fn on_line<R: Outcome>(
        &mut self,
        line_bytes_max: usize,
        call: impl FnMut(&mut Stream<'_, S>, &[u8]) -> R + 'static,
    ) {
        self.lines(line_bytes_max);
        self.on_input = Some(on_bytes(call));
    }

    /// Called with each frame, without its prefix. [`LengthPrefix::encode`] makes such frames.
    ///
    /// A frame has at most `frame_bytes_max` bytes. A longer one ends the stream with [`CloseCause::Framing`], as soon
    /// as its prefix has come. An unfinished frame at the end of the stream is dropped. TLS is as with
    /// [`on_line`](Self::on_line).
    ///
    /// # Errors
    ///
    /// The listener or client is not made when `frame_bytes_max` and the prefix are not less than
    /// [`Config::read_buffer_bytes`](crate::Config::read_buffer_bytes).
    pub fn on_frame<R: Outcome>(
        &mut self,
        prefix: LengthPrefix,
        frame_bytes_max: usize,
        call: impl FnMut(&mut Stream<'_, S>, &[u8]) -> R + 'static,
    ) {
        self.frames(prefix, frame_bytes_max);
        self.on_input = Some(on_bytes(call));
    }

    /// Divides the input into lines for a [`handler`](Self::handler), or for those of [`each`](Self::each): its
    /// [`on_data`](StreamHandler::on_data) gets one line in each call, as [`on_line`](Self::on_line) does.
    pub fn lines(&mut self, line_bytes_max: usize) {
        self.framing = Some((Framing::Lines { line_bytes_max }, "on_line"));
    }

    /// Divides the input into frames for a [`handler`](Self::handler), or for those of [`each`](Self::each): its
    /// [`on_data`](StreamHandler::on_data) gets one frame in each call, as [`on_frame`](Self::on_frame) does.
    pub fn frames(&mut self, prefix: LengthPrefix, frame_bytes_max: usize) {
        let framing = Framing::Frames {
            prefix,
            frame_bytes_max,
        };
        self.framing = Some((framing, "on_frame"));
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

fn on_bytes<S: 'static, R: Outcome>(
    mut call: impl FnMut(&mut Stream<'_, S>, &[u8]) -> R + 'static,
) -> OnBytes<S> {
    Box::new(move |stream, bytes| {
        let outcome = call(stream, bytes);
        stream.reactor.end_if_error(stream.id, outcome);
    })
}

impl<S: 'static> StreamCallbacks<S> {
    /// Checks the limit of a line or frame, which must fit into the read buffer: what is unfinished stays in front of
    /// the next read.
    ///
    /// # Errors
    ///
    /// When it does not fit.
    pub(crate) fn check(&self, read_buffer_bytes: usize) -> io::Result<()> {
        let Some((framing, name)) = &self.framing else {
            return Ok(());
        };
        if framing.pending_bytes_max() < read_buffer_bytes {
            return Ok(());
        }
        let why = format!(
            "the limit of {name} does not fit into read_buffer_bytes, which is {read_buffer_bytes}"
        );
        Err(io::Error::new(io::ErrorKind::InvalidInput, why))
    }

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
        cx.reactor.resume_sources(id);
        let stream = &mut Stream::new(cx, id);
        match (&mut self.handler, &mut self.on_open) {
            (Some(handler), _) => handler.on_open(stream),
            (None, Some(call)) => call(stream),
            (None, None) => {}
        }
    }

    fn receive(&mut self, cx: &mut Cx<'_, S>, id: ConnId, input: &mut [u8]) -> usize {
        Self::restart_idle(cx, id);
        if cx.reactor.forward(id, input) {
            return input.len();
        }
        let call = |stream: &mut Stream<'_, S>, bytes: &[u8]| match (
            &mut self.handler,
            &mut self.on_input,
        ) {
            (Some(handler), _) => handler.on_data(stream, bytes),
            (None, Some(call)) => call(stream, bytes),
            (None, None) => {}
        };
        let framing = self.framing.map(|(framing, _)| framing);
        receive_parts(cx, id, input, framing, call)
    }

    fn secured(&mut self, cx: &mut Cx<'_, S>, id: ConnId) {
        Self::restart_idle(cx, id);
        cx.reactor.resume_sources(id);
        let stream = &mut Stream::new(cx, id);
        match (&mut self.handler, &mut self.on_tls) {
            (Some(handler), _) => handler.on_tls(stream),
            (None, Some(call)) => call(stream),
            (None, None) => {}
        }
    }

    fn end(&mut self, cx: &mut Cx<'_, S>, id: ConnId) {
        if cx.reactor.forward_end(id) {
            return;
        }
        let stream = &mut Stream::new(cx, id);
        match (&mut self.handler, &mut self.on_end) {
            (Some(handler), _) => handler.on_end(stream),
            (None, Some(call)) => call(stream),
            (None, None) => stream.end_too(),
        }
    }

    fn below_low_mark(&mut self, cx: &mut Cx<'_, S>, id: ConnId) {
        let stream = &mut Stream::new(cx, id);
        match (&mut self.handler, &mut self.on_drain) {
            (Some(handler), _) => handler.on_drain(stream),
            (None, Some(call)) => call(stream),
            (None, None) => {}
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
        cx.reactor.close_piped(id, close);
        let stream = &mut Stream::new(cx, id);
        match (&mut self.handler, &mut self.on_close) {
            (Some(handler), _) => handler.on_close(stream, close),
            (None, Some(call)) => call(stream, close),
            (None, None) => {}
        }
    }

    fn is_single(&self) -> bool {
        self.is_single
    }
}

/// Calls `call` with the input, or with the parts at the front of it. Returns how many bytes they have.
fn receive_parts<S: 'static>(
    cx: &mut Cx<'_, S>,
    id: ConnId,
    input: &[u8],
    framing: Option<Framing>,
    mut call: impl FnMut(&mut Stream<'_, S>, &[u8]),
) -> usize {
    let Some(framing) = framing else {
        call(&mut Stream::new(cx, id), input);
        return input.len();
    };
    let mut rest = input;
    while !cx.reactor.is_stopped() {
        let connection = cx.reactor.connection(id);
        let Some(connection) = connection.filter(|it| it.life().takes_messages()) else {
            return input.len();
        };
        if !connection.may_read() {
            break;
        }
        match framing.next_part(&mut rest) {
            Ok(Some(part)) => call(
                &mut Stream {
                    state: cx.state,
                    reactor: cx.reactor,
                    id,
                },
                part,
            ),
            Ok(None) => break,
            Err(error) => {
                cx.reactor.fail(id, CloseCause::Framing(error));
                return input.len();
            }
        }
        cx.reactor.charge_message(id);
        // The callback may have made a pipe, which takes the rest.
        if !rest.is_empty() && cx.reactor.forward(id, rest) {
            return input.len();
        }
    }
    input.len() - rest.len()
}
