//! Shutting down politely: no new connections, goodbyes spread over a window, flush, deadline.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use crate::protocol::event_stream;

use super::close::{Close, CloseCause};
use super::id::ConnId;
use super::protocol::{DrainStep, Protocol};
use super::reactor::{Cx, Reactor};
use super::shutdown::Shutdown;

/// Time between two steps of a drain. Each says goodbye to its share of the connections.
const STEP: Duration = Duration::from_millis(20);

impl<S: 'static> Reactor<S> {
    /// Shuts down politely: says goodbye to the connections, spread evenly over `window`, so that
    /// their clients do not all connect to another server in the same moment, and closes the
    /// listeners.
    ///
    /// Listeners for raw streams are closed at once, those for HTTP at the end of the window: until
    /// then plain requests are answered, with `Connection: close`, and upgrades get 503, so that no
    /// client that could be served is refused. A connection that came during the drain gets its
    /// goodbye at the end of the window.
    ///
    /// The goodbye is the protocol's: the [`goodbye`](crate::ConnectionOptions::goodbye) of a WebSocket; for an event stream
    /// its end, and before it a `retry` from 1 to 10 seconds, which tells the client when it shall come again;
    /// `Connection: close` on the next HTTP answer, a half close of a raw connection. An HTTP
    /// connection without a request under way stays until the end of the window, because a request may be on its way,
    /// which is answered too: a client that sends a request within the window loses none. The loop
    /// stops when every connection has ended, at the latest `close_timeout` (of `Config::options`)
    /// after the window.
    ///
    /// A second call does nothing; [`stop`](Self::stop) ends a drain at once.
    pub fn drain(&mut self, window: Duration) {
        if self.is_draining() {
            return;
        }
        self.table
            .remove_listeners(|listener| window.is_zero() || !listener.accepts_while_draining());
        let targets = self.ending_connections();
        let count = targets.len();
        match window.is_zero() {
            true => log::info!("draining {count} connections at once"),
            false => log::info!("draining {count} connections over {window:?}"),
        }
        let close_timeout = self.config.options.close_timeout;
        let now = self.clock.now();
        self.shutdown = Some(Shutdown::new(now, window, close_timeout, targets));
        self.every(STEP, |cx: &mut Cx<'_, S>| cx.reactor.drain_step());
        self.drain_step();
    }

    /// Whether [`drain`](Self::drain) was called: a health check should answer "not ready" then.
    pub fn is_draining(&self) -> bool {
        self.shutdown.is_some()
    }

    /// Has a connection that this side has made stay until a drain has ended all others, which need what it brings.
    #[allow(dead_code, reason = "a client needs it, and not every build has one")]
    pub(crate) fn outlast_drain(&mut self, id: ConnId) {
        let table = &self.table;
        self.lasting.retain(|id| table.connection(*id).is_some());
        self.lasting.push(id);
    }

    /// The connections to which a drain says goodbye.
    fn ending_connections(&self) -> Vec<ConnId> {
        let mut targets = self.table.sources().connection_ids();
        // The outputs of a child end with the child, which ends when its input does.
        let staying = self.lasting.iter().copied();
        let staying: HashSet<ConnId> = staying.chain(self.children.outputs()).collect();
        targets.retain(|id| !staying.contains(id));
        targets
    }

    /// Whether a drain has reached its end: the last connection is removed.
    pub(super) fn is_drained(&self) -> bool {
        if self.shutdown.is_none() {
            return false;
        }
        let lasting = self.lasting.iter();
        let lasting = lasting.filter(|id| self.table.connection(**id).is_some());
        self.table.sources().connection_count() == lasting.count() && !self.children.are_awaited()
    }

    fn drain_step(&mut self) {
        let now = self.clock.now();
        let Some(shutdown) = &mut self.shutdown else {
            return;
        };
        let is_over = shutdown.is_over(now);
        let due = shutdown.take_due(now);
        if shutdown.take_end_of_window(now) {
            self.table.remove_listeners(|_| true);
            // Also the connections that came during the drain. A second goodbye does nothing.
            for id in self.ending_connections() {
                self.say_goodbye(id, CloseCause::Drained, false);
            }
        }
        // After the end of the window they have had their goodbye, and a second one does nothing.
        for id in due {
            self.say_goodbye(id, CloseCause::Drained, true);
        }
        if is_over && !self.is_stopped {
            let count = self.table.sources().connection_count();
            log::warn!("draining took too long: {count} connections are closed at once");
            self.stop();
        }
    }

    /// Ends a connection that is as old as it may be. An HTTP connection gets `Connection: close` with its next
    /// answer: its client may be sending a request in this moment, which would be lost.
    pub(super) fn end_old(&mut self, id: ConnId) {
        match self.protocol_mut(id) {
            Some(Protocol::Http(exchange)) => exchange.close_after(),
            Some(_) => self.say_goodbye(id, CloseCause::AgeLimit, false),
            None => {}
        }
    }

    /// `may_wait` says that the connection gets another goodbye later.
    fn say_goodbye(&mut self, id: ConnId, cause: CloseCause, may_wait: bool) {
        let Some(protocol) = self.protocol_mut(id) else {
            return;
        };
        match protocol.drain(may_wait) {
            DrainStep::AwaitsRequest => {}
            // One that waits for publications is answered now.
            DrainStep::AnswersFirst => {
                self.table.end_wait(id);
            }
            DrainStep::Closes { has_words: false } => {
                if cause == CloseCause::Drained {
                    self.send_retry(id);
                }
                self.table.close(id, cause, 0, "");
            }
            DrainStep::Closes { has_words: true } => {
                let options = self.table.options_of(id);
                let goodbye = options.map(|it| it.goodbye.clone()).unwrap_or_default();
                if let Some(message) = &goodbye.message {
                    self.send(id, &**message);
                }
                self.table.close(id, cause, goodbye.code, &goodbye.reason);
            }
            DrainStep::Finishes => {
                // The end of an answer may still be queued, and unread input would make the close a reset,
                // which could destroy it.
                let lingers = 0 < self.table.queued_bytes(id);
                self.finish(id, Close::new(cause), lingers);
            }
            DrainStep::Aborts => self.table.end_handshake(id, cause),
        }
    }

    /// Tells the client of an event stream when it shall come again: each another time, from 1 to 10 seconds, the same
    /// in each run of a simulation. Does nothing for other connections.
    fn send_retry(&mut self, id: ConnId) {
        let mut hasher = DefaultHasher::new();
        (id, self.clock.now()).hash(&mut hasher);
        let delay = Duration::from_millis(1000 + hasher.finish() % 9001);
        let (mut lines, mut out) = (Vec::new(), Vec::new());
        event_stream::encode_retry(delay, &mut lines);
        let protocol = self.protocol(id);
        if protocol.is_some_and(|protocol| protocol.encode_event_lines(&lines, &mut out)) {
            self.queue_reply(id, &out);
        }
    }
}

#[cfg(all(unix, feature = "signals"))]
impl<S: 'static> Reactor<S> {
    /// Drains over `window` when the process gets SIGTERM or SIGINT; a second signal stops the loop
    /// at once. When the reactor has been dropped, both signals have their default effect again:
    /// they end the process.
    ///
    /// Needs the feature `signals`, and a Unix system.
    ///
    /// # Errors
    ///
    /// The kernel's error when the signal handlers cannot be installed.
    pub fn drain_on_signals(&mut self, window: Duration) -> std::io::Result<()> {
        let signals = super::signals::Signals::new(self.table.registry(), window)?;
        self.signals = Some(signals);
        Ok(())
    }

    /// Drains or stops for the signals that have come.
    pub(super) fn take_signals(&mut self) {
        let Some(signals) = &mut self.signals else {
            return;
        };
        let (count, window) = (signals.take(), signals.window());
        for _ in 0..count {
            if self.is_draining() {
                log::info!("a second signal: stopping at once");
                return self.stop();
            }
            self.drain(window);
        }
    }
}
