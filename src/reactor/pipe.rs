//! Pipes between raw streams: what comes from one goes to the other, with back-pressure.
//!
//! Bytes go from the read buffer into the queue of the sink, which the flush at the end of the turn writes. While the
//! queue is above its low watermark the source is not read, so a queue holds at most that mark and one read.

use super::close::{Close, CloseCause, Sent};
use super::connection::reading::Pause;
use super::id::ConnId;
use super::protocol::Protocol;
use super::reactor::Reactor;

/// # Pipes
impl<S: 'static> Reactor<S> {
    /// Sends what comes from the raw stream `source` to the raw stream `sink`, until one of them ends. Two calls make a
    /// proxy:
    ///
    /// ```
    /// use waterwheel::{Reactor, Sim};
    ///
    /// let mut sim = Sim::new((), |reactor: &mut Reactor<()>| {
    ///     reactor.stream("127.0.0.1:7001", |stream| stream.on_data(|stream, data| stream.send(data)))?;
    ///     reactor.stream("127.0.0.1:7000", |stream| {
    ///         stream.on_open(|client| {
    ///             let server = client.reactor.connect_stream("127.0.0.1:7001", |_| {})?;
    ///             client.reactor.pipe(client.id, server);
    ///             client.reactor.pipe(server, client.id);
    ///             Ok::<_, std::io::Error>(())
    ///         })
    ///     })
    /// });
    /// let client = sim.connect_port(7000);
    /// client.write("ping");
    /// sim.settle();
    /// assert_eq!(client.read_text(), "ping");
    /// ```
    ///
    /// * The callbacks for input of `source`, such as `on_data`, are not called meanwhile. The other callbacks are.
    /// * While the queue of `sink` is above its low watermark, `source` is not read. No overflow policy drops piped
    ///   bytes, and a full queue of a piped stream does not stop the other direction.
    /// * The end of `source` ends our side of `sink` behind what is queued (half close). A stream whose two sides have
    ///   ended is closed. `on_end` is called for a source only if no pipe leads to it.
    /// * When one of them is closed, the other is closed behind what is queued; when one fails or is [reset](Self::reset),
    ///   the other is reset, so that its peer cannot take what it got for the whole.
    /// * Either may still be connecting. A stream may have several sources, whose last one ends it, and may be its own
    ///   sink. A second pipe of a source takes the place of the first one.
    /// * The streams of a [child process](Self::process) may be piped. When a child ends its standard input, the pipe to
    ///   it is removed, and its source goes on.
    ///
    /// [`Sent::Gone`] when one of them is not a raw stream, or its `on_close` was called; a pipe is not made then. A
    /// stream that has ended, and whose `on_close` is still to be called, such as a client that could not connect, ends
    /// the other one.
    pub fn pipe(&mut self, source: ConnId, sink: ConnId) -> Sent {
        let takes_bytes =
            |protocol: &Protocol| matches!(protocol, Protocol::Raw | Protocol::Finished);
        let is_raw = |protocol: &Protocol| matches!(protocol, Protocol::Raw);
        if !self.may_be_piped(source, takes_bytes) || !self.may_be_piped(sink, is_raw) {
            return Sent::Gone;
        }
        self.unpipe(source);
        self.pipes.insert(source, sink);
        // The beginning of a line or frame, which has come before the pipe was made.
        let kept = self.table.take_unconsumed(source);
        if !kept.is_empty() {
            self.forward_to(source, sink, &kept);
        }
        if self.table.has_delivered_end(source) {
            self.forward_end(source);
        } else {
            self.pause_for_sink(source, sink);
        }
        Sent::Queued
    }

    /// Ends the pipe of a source, whose callbacks get what comes from here on. Returns `false` when there is none.
    pub fn unpipe(&mut self, source: ConnId) -> bool {
        let was_piped = self.pipes.remove(source).is_some();
        if was_piped {
            self.table.resume(source, Pause::Pipe);
        }
        was_piped
    }

    /// Whether it is a stream of such a protocol that gets its `on_close`, which ends the other one.
    fn may_be_piped(&self, id: ConnId, is_fit: impl Fn(&Protocol) -> bool) -> bool {
        let connection = self.connection(id);
        connection
            .is_some_and(|connection| connection.owes_on_close() && is_fit(connection.protocol()))
    }

    /// Whether it is a raw stream that takes bytes.
    fn is_raw(&self, id: ConnId) -> bool {
        let takes_messages = self
            .connection(id)
            .is_some_and(|connection| connection.life().takes_messages());
        (takes_messages || self.table.is_connecting(id))
            && matches!(self.protocol(id), Some(Protocol::Raw))
    }

    /// Queues bytes of a source for its sink. Returns `false` when it has none.
    #[inline]
    pub(crate) fn forward(&mut self, source: ConnId, bytes: &[u8]) -> bool {
        let Some(sink) = self.pipes.sink_of(source) else {
            return false;
        };
        self.forward_to(source, sink, bytes);
        true
    }

    #[inline(never)]
    fn forward_to(&mut self, source: ConnId, sink: ConnId, bytes: &[u8]) {
        if !self.is_raw(sink) {
            let sink = self.connection(sink);
            return match sink.is_some_and(|sink| sink.life().takes_messages()) {
                // The application has ended our side of the sink, and the bytes have nowhere to go.
                true => self.reset(source),
                // The sink is being closed, and its `on_close` closes the source.
                false => self.table.pause(source, Pause::Pipe),
            };
        }
        self.queue_reply(sink, bytes);
        // The back-pressure of a pipe is for its source. If the full queue stopped the other direction too, two
        // peers that write before they read would wait for each other.
        if self.pipes.sink_of(sink).is_some() {
            self.table.resume(sink, Pause::Queue);
        }
        self.pause_for_sink(source, sink);
    }

    /// Stops reading a source while its sink connects, or has no room.
    fn pause_for_sink(&mut self, source: ConnId, sink: ConnId) {
        if self.has_room(sink) {
            return;
        }
        self.table.pause(source, Pause::Pipe);
        // A sink that connects resumes its sources when it is open.
        if !self.table.is_connecting(sink) {
            self.on_drain(sink, move |cx| {
                if cx.reactor.pipes.sink_of(source) == Some(sink) {
                    cx.reactor.resume_source(source, sink);
                }
            });
        }
    }

    fn resume_source(&mut self, source: ConnId, sink: ConnId) {
        self.table.resume(source, Pause::Pipe);
        // Another source may have filled the queue.
        self.pause_for_sink(source, sink);
    }

    /// Resumes the sources of a stream that is open now.
    pub(crate) fn resume_sources(&mut self, sink: ConnId) {
        for source in self.pipes.sources_of(sink) {
            match self.table.has_delivered_end(source) {
                true => self.end_sink(source, sink),
                false => self.resume_source(source, sink),
            }
        }
    }

    /// Carries the end of a source over to its sink. Returns `false` when the role has to handle the end of the
    /// source itself.
    pub(crate) fn forward_end(&mut self, source: ConnId) -> bool {
        let was_sink = !self.pipes.sources_of(source).is_empty();
        if let Some(sink) = self.pipes.sink_of(source) {
            self.end_sink(source, sink);
        } else if !was_sink {
            return false;
        }
        if matches!(self.protocol(source), Some(Protocol::Finished)) {
            self.finish_piped(source);
        }
        was_sink
    }

    /// Ends our side of the sink of a source that has ended. A sink that connects gets the end when it is open.
    fn end_sink(&mut self, source: ConnId, sink: ConnId) {
        if self.table.is_connecting(sink) {
            return;
        }
        self.pipes.remove(source);
        // The last one of several sources ends the sink.
        if !self.pipes.sources_of(sink).is_empty() {
            return;
        }
        match self.table.has_delivered_end(sink) {
            true => self.finish_piped(sink),
            false => drop(self.finish_sending(sink)),
        }
    }

    /// Ends a stream whose two sides have ended.
    fn finish_piped(&mut self, id: ConnId) {
        let close = Close {
            was_clean: true,
            ..Close::new(CloseCause::Peer)
        };
        self.finish(id, close, false);
    }

    /// Ends the streams that are piped to one that is closed, or that it is piped to.
    pub(crate) fn close_piped(&mut self, id: ConnId, close: &Close) {
        for other in self.take_piped(id) {
            match close.cause {
                CloseCause::Peer
                | CloseCause::Local
                | CloseCause::Drained
                | CloseCause::AgeLimit => drop(self.close(other)),
                cause => self.abort(other, cause),
            }
        }
    }

    /// Resets the streams that are piped to one that is reset, or that it is piped to.
    pub(super) fn reset_piped(&mut self, id: ConnId) {
        for other in self.take_piped(id) {
            self.reset(other);
        }
    }

    /// Ends the pipes that lead to a stream which is closed, and nothing else: callbacks get what comes from their
    /// sources.
    #[cfg_attr(not(unix), allow(dead_code))]
    pub(crate) fn unpipe_sources(&mut self, sink: ConnId) {
        for source in self.pipes.sources_of(sink) {
            self.unpipe(source);
        }
    }

    /// Removes all pipes of a stream, and returns the streams at their other ends.
    fn take_piped(&mut self, id: ConnId) -> Vec<ConnId> {
        let mut others = self.pipes.sources_of(id);
        for source in &others {
            self.pipes.remove(*source);
        }
        others.extend(self.pipes.remove(id));
        others.retain(|other| *other != id);
        others
    }
}
