//! Messages to one connection, and what there is to know of it.

use std::time::Duration;

use super::close::{Close, CloseCause, Sent};
use super::connection::queue::DropRule;
use super::connection::reading::Pause;
use super::id::ConnId;
use super::reactor::{Cx, Reactor};
use super::transport::Peer;
use crate::protocol::websocket::ToMessage;

/// # Send
impl<S: 'static> Reactor<S> {
    /// Sends a message to a connection: a WebSocket message, the data of an event, a chunk of a
    /// streamed body, or plain bytes, as the connection's protocol has it.
    ///
    /// Accepts into a bounded queue; above its high watermark the route's
    /// [`Overflow`](crate::Overflow) policy decides. Binary data for an event stream is refused
    /// as `Gone`, since that protocol is text.
    #[inline]
    pub fn send(&mut self, id: ConnId, message: impl ToMessage) -> Sent {
        self.table.send(id, message.to_message(), DropRule::Allowed)
    }

    /// As [`send`](Self::send), for routes that keep only the latest message of each key.
    pub fn send_keyed(&mut self, id: ConnId, key: u64, message: impl ToMessage) -> Sent {
        self.table
            .send(id, message.to_message(), DropRule::ByKey(key))
    }

    /// Closes a connection in its protocol's words, after what is queued.
    pub fn close(&mut self, id: ConnId) -> Sent {
        self.close_with(id, 1000, "")
    }

    /// Closes a WebSocket with a code and a reason of at most 123 bytes, after what is queued; a
    /// longer reason is cut at a character. On other connections both are ignored.
    ///
    /// Codes that an application may use are 1000 to 1003, 1007 to 1014 and 3000 to 4999; others
    /// go out as 1000. Source: RFC 6455, section 7.4.
    pub fn close_with(&mut self, id: ConnId, code: u16, reason: &str) -> Sent {
        self.table.close(id, CloseCause::Local, code, reason)
    }

    /// Ends a connection at once, without a goodbye and without flushing.
    pub fn reset(&mut self, id: ConnId) {
        self.table.abort(id, CloseCause::Local);
    }

    /// Stops reading from a connection. What the kernel buffered stays there.
    ///
    /// A proxy pauses its source while its sink is behind, and goes on in the sink's `on_drain`.
    /// For replies to a connection itself that is not needed: while its queue is above the high
    /// watermark, and the policy is [`Overflow::Close`](crate::Overflow::Close), it is not read.
    pub fn pause(&mut self, id: ConnId) {
        self.table.pause(id, Pause::Application);
    }

    /// Goes on reading from a connection.
    pub fn resume(&mut self, id: ConnId) {
        self.table.resume(id, Pause::Application);
    }

    /// Whether a connection still takes messages.
    pub fn is_open(&self, id: ConnId) -> bool {
        self.table.is_open(id)
    }

    /// Bytes that wait for a connection's socket, with their overhead.
    pub fn queued_bytes(&self, id: ConnId) -> usize {
        self.table.queued_bytes(id)
    }

    /// Where a connection's peer is. Asks the kernel.
    pub fn peer(&self, id: ConnId) -> Peer {
        self.table
            .connection(id)
            .map_or(Peer::Unknown, |connection| connection.transport().peer())
    }

    /// How many connections there are, of every kind, lingering ones included.
    pub fn connection_count(&self) -> usize {
        self.table.connection_count()
    }

    /// Calls `call` once when the connection has ended, after the route's own `on_close`.
    ///
    /// Never called when the connection is gone already.
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

    /// Time since the start of the reactor, as of the readiness that is being handled.
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.table.now())
    }

    /// Seconds since 1970, from the same clock.
    pub fn unix_time(&self) -> u64 {
        self.table.unix_time()
    }
}
