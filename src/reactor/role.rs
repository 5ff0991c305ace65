//! The methods through which `session`, `server` and `client` reach a connection.
//!
//! A role knows a connection by its id alone, and may change it only through these methods. So the
//! table and its rooms can change without a change in any role, and a role cannot leave a
//! connection in a state that the loop does not know.

use std::rc::Rc;
use std::time::Duration;

use super::close::{Close, CloseCause, Deadline, Sent};
use super::config::ConnectionOptions;
use super::connection::deadline::deadline_nanos;
use super::connection::reading::Pause;
use super::connection::{Connection, Life};
use super::id::ConnId;
use super::outcome::{CallbackError, Outcome};
use super::panics::{Panicked, drop_guarded, guarded};
use super::protocol::Protocol;
use super::reactor::{OnClose, Reactor, Users};
use super::stats::Stats;
use crate::protocol::http;
use crate::protocol::websocket::{Machine, Spare};

/// The parts of a connection with which a WebSocket's input is parsed.
pub(crate) struct WebSocketParser<'r> {
    /// The state of the connection's life.
    pub(crate) life: Life,
    /// Whether its input may be delivered now.
    pub(crate) may_read: bool,
    pub(crate) machine: &'r mut Machine,
    /// Buffers of large messages, to be used again.
    pub(crate) spare: &'r mut Spare,
}

impl<S: 'static> Reactor<S> {
    // ── state of a connection ────────────────────────────────────────────────────────────────

    /// A connection, for reading its state.
    #[inline]
    pub(crate) fn connection(&self, id: ConnId) -> Option<&Connection> {
        self.table.connection(id)
    }

    /// The protocol of a connection.
    #[inline]
    pub(crate) fn protocol(&self, id: ConnId) -> Option<&Protocol> {
        self.table.connection(id).map(Connection::protocol)
    }

    /// The protocol of a connection that takes messages.
    pub(crate) fn protocol_mut(&mut self, id: ConnId) -> Option<&mut Protocol> {
        self.table.open_mut(id).map(Connection::protocol_mut)
    }

    /// The state of a connection's HTTP exchange, while it speaks HTTP and takes messages.
    pub(crate) fn exchange(&mut self, id: ConnId) -> Option<&mut http::Exchange> {
        match self.protocol_mut(id)? {
            Protocol::Http(exchange) => Some(exchange),
            _ => None,
        }
    }

    /// As [`exchange`](Self::exchange), also where the connection has ended and is not removed yet.
    pub(crate) fn ended_exchange(&mut self, id: ConnId) -> Option<&mut http::Exchange> {
        match self.table.connection_mut(id)?.protocol_mut() {
            Protocol::Http(exchange) => Some(exchange),
            _ => None,
        }
    }

    /// Changes the protocol of a connection, and its options if given. The bytes that are
    /// unconsumed then belong to the new protocol.
    pub(crate) fn set_protocol(&mut self, id: ConnId, protocol: Protocol, options: Option<u16>) {
        self.table.set_protocol(id, protocol, options);
    }

    /// Sets the route of its handler that a connection belongs to.
    pub(crate) fn set_route(&mut self, id: ConnId, route: u16) {
        if let Some(connection) = self.table.open_mut(id) {
            connection.set_route(route);
        }
    }

    /// Notes that `on_open` is called for a connection, so that its `on_close` will be called too.
    pub(crate) fn mark_opened(&mut self, id: ConnId) {
        if let Some(connection) = self.table.open_mut(id) {
            connection.mark_opened();
        }
    }

    pub(crate) fn options_of(&self, id: ConnId) -> Option<&ConnectionOptions> {
        self.table.options_of(id)
    }

    /// Keeps options, and returns the index by which connections name them.
    ///
    /// # Errors
    ///
    /// [`ConfigError`](super::config::ConfigError) for a value that `checked` refuses; an error
    /// when there are 65,536 different sets already.
    pub(crate) fn add_options(&mut self, options: ConnectionOptions) -> std::io::Result<u16> {
        self.table.add_options(options.checked()?)
    }

    // ── sending ──────────────────────────────────────────────────────────────────────────────

    /// Queues bytes that the stream cannot do without: heads, answers, control frames. No overflow
    /// policy drops them.
    pub(crate) fn queue_reply(&mut self, id: ConnId, bytes: &[u8]) {
        self.table.queue_reply(id, bytes);
    }

    /// As [`queue_reply`](Self::queue_reply), for a reply that `encode` appends.
    pub(crate) fn encode_reply(&mut self, id: ConnId, encode: impl FnOnce(&mut Vec<u8>)) {
        self.table.encode_reply(id, encode);
    }

    /// As [`queue_reply`](Self::queue_reply), for bytes that become a node of the queue without a copy.
    pub(crate) fn queue_owned_reply(&mut self, id: ConnId, bytes: Vec<u8>) {
        self.table.queue_owned_reply(id, bytes);
    }

    /// Queues a frame of the application that is not a message, such as a ping. It is admitted as a
    /// message is.
    pub(crate) fn send_frame(&mut self, id: ConnId, frame: &[u8]) -> Sent {
        self.table.send_frame(id, frame)
    }

    /// The date for response heads. Source: RFC 9110, section 5.6.7.
    pub(crate) fn date(&mut self) -> [u8; 29] {
        self.table.date()
    }

    // ── reading ──────────────────────────────────────────────────────────────────────────────

    /// Stops reading until the application has answered. Later requests stay in the socket, so a
    /// client that pipelines without end fills its own send buffer and not our memory.
    pub(crate) fn pause_for_answer(&mut self, id: ConnId) {
        self.table.pause(id, Pause::Answer);
    }

    /// Reads again, because the answer is complete.
    pub(crate) fn resume_after_answer(&mut self, id: ConnId) {
        self.table.resume(id, Pause::Answer);
    }

    /// As [`resume_after_answer`](Self::resume_after_answer), after a complete answer. The next request must
    /// begin before the timeout.
    pub(crate) fn await_request(&mut self, id: ConnId, timeout: Duration) {
        let after_nanos = deadline_nanos(timeout);
        self.table
            .resume_until(id, Pause::Answer, Deadline::KeepAlive, after_nanos);
    }

    /// Has the role called in the next turn for a request that was accepted later. Not now, because
    /// the caller is a callback.
    pub(crate) fn continue_accepted(&mut self, id: ConnId) {
        self.accepted.push_back(id);
    }

    /// Whether the peer's bytes are read now. While they are not, its silence does not mean that it
    /// has gone, and a pong deadline must not end it.
    pub(crate) fn may_read(&self, id: ConnId) -> bool {
        let connection = self.table.connection(id);
        connection.is_some_and(Connection::may_read)
    }

    /// Whether a connection is not read for a reason that its peer cannot help, and that lasts longer than a turn.
    pub(crate) fn is_held(&self, id: ConnId) -> bool {
        let connection = self.table.connection(id);
        connection.is_some_and(Connection::is_held)
    }

    /// Whether the peer of an open connection has sent neither a byte nor its end since the last delivery, as far
    /// as the socket knows in this moment. A connection that is not silent must be ended: a byte of it may be lost.
    pub(crate) fn is_silent(&mut self, id: ConnId) -> bool {
        self.table.is_silent(id)
    }

    /// Counts a message of a peer whose messages are limited. Reading may pause after it.
    pub(crate) fn count_message(&mut self, id: ConnId) {
        self.table.count_message(id);
    }

    /// Counts a control frame of a peer whose messages are limited. Fails the connection when there
    /// are too many, and returns whether it did.
    pub(crate) fn has_too_many_controls(&mut self, id: ConnId) -> bool {
        let Some(max) = self.table.count_control(id) else {
            return false;
        };
        let error = crate::protocol::websocket::Error::TooManyControlFrames { max };
        self.fail(id, CloseCause::Protocol(error));
        true
    }

    /// The beginning of a head or a frame whose rest has not come.
    pub(crate) fn unconsumed(&self, id: ConnId) -> &[u8] {
        let connection = self.table.connection(id);
        connection.map_or(&[], |connection| connection.reading().unconsumed())
    }

    /// Whether the beginning of a head or a frame has come whose rest has not.
    pub(crate) fn has_unconsumed(&self, id: ConnId) -> bool {
        self.table
            .connection(id)
            .is_some_and(|connection| connection.reading().has_unconsumed())
    }

    /// The parts that the general way needs to parse a WebSocket's input, with one look-up. In any
    /// state of its life, because the peer's close frame is parsed while ours is on its way. `None`
    /// when the connection has been removed, or is not a WebSocket.
    pub(crate) fn websocket_parser(&mut self, id: ConnId) -> Option<WebSocketParser<'_>> {
        let connection = self.table.connection_mut(id)?;
        let (life, may_read) = (connection.life(), connection.may_read());
        match connection.protocol_mut() {
            Protocol::WebSocket(machine) => Some(WebSocketParser {
                life,
                may_read,
                machine,
                spare: &mut self.spare,
            }),
            _ => None,
        }
    }

    /// Buffers of large messages that have been delivered, for the next ones.
    pub(crate) fn spare_mut(&mut self) -> &mut Spare {
        &mut self.spare
    }

    // ── ends ─────────────────────────────────────────────────────────────────────────────────

    /// Flushes what is queued and then ends our side: the peer's goodbye has come, or there is none
    /// to wait for.
    pub(crate) fn finish(&mut self, id: ConnId, close: Close, lingers: bool) {
        self.table.finish(id, &[], close, lingers);
    }

    /// As [`finish`](Self::finish), with last words behind what is queued.
    pub(crate) fn finish_with(&mut self, id: ConnId, words: &[u8], close: Close, lingers: bool) {
        self.table.finish(id, words, close, lingers);
    }

    /// Ends a connection for a fault, with the matching HTTP status or close code.
    pub(crate) fn fail(&mut self, id: ConnId, cause: CloseCause) {
        self.table.fail(id, cause);
    }

    /// Ends a connection whose callback has returned an error, as a panic would.
    #[inline(always)]
    pub(crate) fn end_if_error(&mut self, id: ConnId, outcome: impl Outcome) {
        if let Some(error) = outcome.into_error() {
            self.fail_by_error(id, &*error);
        }
    }

    #[cold]
    pub(crate) fn fail_by_error(&mut self, id: ConnId, error: &dyn CallbackError) {
        self.note_error(error);
        self.table.fail(id, CloseCause::CallbackError);
    }

    /// Ends a connection at once, with a reset.
    pub(crate) fn abort(&mut self, id: ConnId, cause: CloseCause) {
        self.table.abort(id, cause);
    }

    /// Calls `call` when a connection ends before its answer is complete.
    pub(crate) fn add_on_gone(&mut self, id: ConnId, call: OnClose<S>) {
        self.on_gone.entry(id).or_default().push(call);
    }

    /// Drops the callbacks of [`add_on_gone`](Self::add_on_gone), and ends the request's wait for publications:
    /// the answer is complete.
    #[inline]
    pub(crate) fn drop_on_gone(&mut self, id: ConnId) {
        if !self.on_gone.is_empty() {
            self.drop_on_gone_of(id);
        }
        self.forget_wait(id);
    }

    fn drop_on_gone_of(&mut self, id: ConnId) {
        for call in self.on_gone.remove(&id).unwrap_or_default() {
            // The reactor is in the middle of an answer, and the callback that gives it goes on.
            if let Err(panicked) = drop_guarded(&"an on_gone that was not called", call) {
                self.table.stats_mut().panics += 1;
                self.panics.note(panicked);
            }
        }
    }

    // ── deadlines ────────────────────────────────────────────────────────────────────────────

    /// Sets the deadline of an open connection in place of the one that it had. One is enough: a
    /// protocol waits for one thing at a time.
    pub(crate) fn set_deadline(&mut self, id: ConnId, deadline: Deadline, after: Duration) {
        self.table.set_deadline(id, deadline, deadline_nanos(after));
    }

    /// Clears the deadline of an open connection.
    pub(crate) fn clear_deadline(&mut self, id: ConnId) {
        if let Some(connection) = self.table.connection_mut(id) {
            connection.clear_deadline();
        }
    }

    /// Puts off the deadline of an open connection by whole seconds.
    pub(crate) fn extend_deadline(&mut self, id: ConnId, seconds: u32) {
        if let Some(connection) = self.table.connection_mut(id) {
            connection.extend_deadline(seconds);
        }
    }

    /// The deadline that is set for a connection, apart from the write deadline.
    pub(crate) fn waits_for(&self, id: ConnId) -> Option<Deadline> {
        self.table.connection(id)?.waits_for()
    }

    // ── users ────────────────────────────────────────────────────────────────────────────────

    /// Registers a role that knows users of connections, once.
    #[allow(dead_code, reason = "roles need it, and not every build has one")]
    pub(crate) fn add_users(&mut self, users: Rc<dyn Users<S>>) {
        if !self.users.iter().any(|known| Rc::ptr_eq(known, &users)) {
            self.users.push(users);
        }
    }

    /// The roles that know users of connections.
    #[allow(dead_code, reason = "roles need it, and not every build has one")]
    pub(crate) fn users(&self) -> Vec<Rc<dyn Users<S>>> {
        self.users.clone()
    }

    // ── the loop ─────────────────────────────────────────────────────────────────────────────

    /// The counters, for those that roles increase.
    #[inline]
    pub(crate) fn stats_mut(&mut self) -> &mut Stats {
        self.table.stats_mut()
    }

    /// Whether the loop ends after this callback.
    #[inline]
    pub(crate) fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    /// Any number, for what clients do at random. In a simulation its seed determines it, so that a run repeats.
    pub(crate) fn random(&mut self) -> u64 {
        if !self.is_simulated() {
            return rand::random();
        }
        // Source: Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators" (SplitMix64).
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Calls code of the application that works for a connection, `what` in the log. A panic ends the
    /// connection, as one in its handler does, and `None` is returned.
    pub(crate) fn call_for<R>(
        &mut self,
        id: ConnId,
        what: &str,
        call: impl FnOnce() -> R,
    ) -> Option<R> {
        match guarded(call) {
            Ok(result) => Some(result),
            Err(panicked) => {
                self.note_panic_for(id, what, panicked);
                None
            }
        }
    }

    /// Ends a connection for which code of the application has panicked, `what` in the log.
    pub(crate) fn note_panic_for(&mut self, id: ConnId, what: &str, panicked: Panicked) {
        self.table.stats_mut().panics += 1;
        self.panics.note(panicked);
        log::error!("conn {id} {}: {what} panicked", self.peer(id));
        self.fail(id, CloseCause::Panicked);
    }

    /// Notes the name of the callback that is about to be called, for log lines about panics and
    /// slow callbacks.
    #[inline]
    pub(crate) fn note_callback(&mut self, callback: &'static str) {
        self.callback = callback;
    }
}
