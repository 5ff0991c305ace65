//! Messages to one connection, and its state.

use super::close::{Close, CloseCause, Sent};
use super::connection::queue::DropRule;
use super::connection::reading::Pause;
use super::id::ConnId;
use super::reactor::{Cx, Reactor};
use super::transport::Peer;
use crate::protocol::websocket::ToMessage;

/// # Send and publish
impl<S: 'static> Reactor<S> {
    /// Queues a message for a connection: a WebSocket message, the data of an event, a chunk of a
    /// streamed body, or plain bytes, as the connection's protocol demands.
    ///
    /// The queue is bounded: above its high watermark the route's [`Overflow`](crate::Overflow)
    /// policy decides. The bytes leave at the end of the event or of the turn, so many small
    /// messages cost one system call. A protocol that cannot carry the message refuses it as
    /// [`Sent::Gone`]: binary data on an event stream, a body when no answer is being streamed.
    #[inline]
    pub fn send(&mut self, id: ConnId, message: impl ToMessage) -> Sent {
        self.table.send(id, message.to_message(), DropRule::Allowed)
    }

    /// As [`send`](Self::send), with a key for the policy
    /// [`Overflow::LatestPerKey`](crate::Overflow::LatestPerKey): in a full queue the message takes
    /// the place of an older one of the same key. Other policies ignore the key.
    pub fn send_keyed(&mut self, id: ConnId, key: u64, message: impl ToMessage) -> Sent {
        self.table
            .send(id, message.to_message(), DropRule::ByKey(key))
    }

    /// Closes a connection with its protocol's goodbye, after everything that is queued. Returns
    /// [`Sent::Gone`] when it is closing or gone already.
    pub fn close(&mut self, id: ConnId) -> Sent {
        self.close_with(id, 1000, "")
    }

    /// Closes a WebSocket with a code and a reason of at most 123 bytes, after everything that is
    /// queued. A longer reason is cut at a character. Other protocols ignore both.
    ///
    /// Codes that an application may use are 1000 to 1003, 1007 to 1014 and 3000 to 4999; any other
    /// is sent as 1000. Source: RFC 6455, section 7.4.
    pub fn close_with(&mut self, id: ConnId, code: u16, reason: &str) -> Sent {
        self.table.close(id, CloseCause::Local, code, reason)
    }

    /// Ends a connection at once, without a goodbye and without flushing. The peer sees a reset (on
    /// a Unix socket an end of stream). `on_close` is called at the end of the turn.
    pub fn reset(&mut self, id: ConnId) {
        self.table.abort(id, CloseCause::Local);
    }

    /// Stops reading from a connection: back-pressure. Its bytes stay in the kernel's buffer, and
    /// when that is full the peer cannot send.
    ///
    /// A proxy pauses its source while its sink is behind, and resumes it in the sink's `on_drain`.
    /// Replies to a connection itself do not need this: with the policy
    /// [`Overflow::Close`](crate::Overflow::Close) a connection is not read while its queue is
    /// above the high watermark.
    pub fn pause(&mut self, id: ConnId) {
        self.table.pause(id, Pause::Application);
    }

    /// Reads from a connection again after [`pause`](Self::pause). Does nothing if it was not
    /// paused.
    pub fn resume(&mut self, id: ConnId) {
        self.table.resume(id, Pause::Application);
    }

    /// Whether a connection still takes messages.
    pub fn is_open(&self, id: ConnId) -> bool {
        self.table.is_open(id)
    }

    /// Bytes that wait for a connection's socket. Each message counts
    /// [`QUEUED_MESSAGE_BYTES`](crate::QUEUED_MESSAGE_BYTES) more than it has. Zero for a stale id.
    pub fn queued_bytes(&self, id: ConnId) -> usize {
        self.table.queued_bytes(id)
    }

    /// Returns the address of a connection's peer. Costs a system call.
    pub fn peer(&self, id: ConnId) -> Peer {
        self.table
            .connection(id)
            .map_or(Peer::Unknown, |connection| connection.transport().peer())
    }

    /// How many connections there are: of every protocol, also those that connect or linger.
    pub fn connection_count(&self) -> usize {
        self.table.connection_count()
    }

    /// Calls `call` once when a connection has ended, after the route's own `on_close`.
    ///
    /// It is never called when the connection has ended already, or for a stale id.
    pub fn on_close<R>(
        &mut self,
        id: ConnId,
        call: impl FnOnce(&mut Cx<'_, S>, &Close) -> R + 'static,
    ) {
        let is_notifiable = self
            .table
            .connection(id)
            .is_some_and(|connection| connection.life().is_notifiable());
        if is_notifiable {
            self.on_close
                .entry(id)
                .or_default()
                .push(Box::new(move |cx, close| {
                    call(cx, close);
                }));
        }
    }
}
