//! Server-Sent Events: an answer that stays open, with a comment as its heartbeat.
//!
//! The stream only sends. Input of the client has no meaning in this protocol, and the router drops it.
//! How publications become lines stands in `protocol::event_stream`.
//!
//! Source: WHATWG HTML, section 9.2.

use std::borrow::Cow;
use std::time::Duration;

use crate::protocol::event_stream;
use crate::protocol::websocket::Message;
use crate::pubsub::Event;
use crate::reactor::close::{Deadline, Sent};
use crate::reactor::connection::deadline::deadline_nanos;
use crate::reactor::id::ConnId;
use crate::reactor::protocol::Protocol;
use crate::reactor::reactor::Reactor;

/// A comment without text. A client ignores the comment, and proxies see that the connection is in use.
const EMPTY_COMMENT: &[u8] = b":\n\n";

impl<S: 'static> Reactor<S> {
    /// Makes an event stream of a connection whose response head was queued. It begins with `first_lines`, which are
    /// a comment where there are none.
    pub(crate) fn begin_event_stream(&mut self, id: ConnId, chunked: bool, first_lines: &[u8]) {
        self.set_protocol(
            id,
            Protocol::EventStream {
                announces_cursor: false,
                chunked,
                discarded_bytes: 0,
            },
            None,
        );
        self.mark_opened(id);
        // A first byte at once, because some proxies and browsers do not report the response before it.
        let first_lines = match first_lines {
            b"" => EMPTY_COMMENT,
            lines => lines,
        };
        self.send_event_lines(id, first_lines);
        self.await_stream_heartbeat(id);
    }

    /// From now on the heartbeats of an event stream are its newest cursor instead of a comment: the client has got
    /// everything up to there. It also keeps the cursors of quiet topics young.
    #[cfg_attr(not(feature = "hub"), expect(dead_code, reason = "the hub needs it"))]
    pub(crate) fn announce_cursor(&mut self, id: ConnId) {
        if let Some(Protocol::EventStream {
            announces_cursor, ..
        }) = self.protocol_mut(id)
        {
            *announces_cursor = true;
        }
    }

    /// Sends a comment or the newest cursor, and sets the time of the next one.
    ///
    /// A client that has gone without a word is noticed only by sending: the bytes stay
    /// unacknowledged, and the write deadline passes.
    pub(crate) fn send_stream_heartbeat(&mut self, id: ConnId) {
        let announces_cursor = matches!(
            self.protocol(id),
            Some(Protocol::EventStream {
                announces_cursor: true,
                ..
            })
        );
        if announces_cursor {
            let mut lines = Vec::with_capacity(48);
            event_stream::encode_id(&self.cursor().to_string(), &mut lines);
            self.send_event_lines(id, &lines);
        } else {
            self.send_event_lines(id, EMPTY_COMMENT);
        }
        self.await_stream_heartbeat(id);
    }

    fn await_stream_heartbeat(&mut self, id: ConnId) {
        let interval = self
            .options_of(id)
            .and_then(|options| options.heartbeat_interval);
        match interval {
            Some(interval) => {
                let interval = Duration::from_nanos(id.spread(deadline_nanos(interval)));
                self.set_deadline(id, Deadline::Heartbeat, interval);
            }
            None => self.clear_deadline(id),
        }
    }

    /// Sends an event with an id of the program's own to an event stream. A browser names the last id that it
    /// got as `Last-Event-ID` when it connects again. [`Reactor::send`] sends data without name and id, and
    /// [`Reactor::publish`] gives each event an id of its own.
    ///
    /// CR, LF and NUL in the id become U+FFFD. `Gone` for a connection that is no event stream, and for an
    /// event with binary data.
    pub fn send_event<'e>(
        &mut self,
        id: ConnId,
        event_id: &str,
        event: impl Into<Event<'e>>,
    ) -> Sent {
        let event = event.into();
        let Message::Text(data) = event.payload().to_message() else {
            return Sent::Gone;
        };
        let event_id = match event_stream::is_field_value(event_id) {
            true => Cow::Borrowed(event_id),
            false => Cow::Owned(event_id.replace(['\r', '\n', '\0'], "\u{fffd}")),
        };
        let mut lines = Vec::with_capacity(data.len() + event_id.len() + 32);
        // The event has replaced what is not a field value in its name, and the line above in the id.
        let _ = event_stream::encode(event.name(), Some(&event_id), data, &mut lines);
        let mut out = Vec::with_capacity(lines.len() + 8);
        let protocol = self.protocol(id);
        if !protocol.is_some_and(|protocol| protocol.encode_event_lines(&lines, &mut out)) {
            return Sent::Gone;
        }
        self.send_frame(id, &out)
    }

    /// Queues lines that are encoded already, such as a comment, if this is an event stream. Events go
    /// through `send`.
    pub(crate) fn send_event_lines(&mut self, id: ConnId, lines: &[u8]) {
        // A chunk's length line and its end take up to eight bytes more.
        let mut out = Vec::with_capacity(lines.len() + 8);
        let is_stream = self
            .protocol(id)
            .is_some_and(|protocol| protocol.encode_event_lines(lines, &mut out));
        if is_stream {
            self.queue_reply(id, &out);
        }
    }
}
