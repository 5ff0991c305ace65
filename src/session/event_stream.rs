//! Server-Sent Events: an answer that stays open, with a comment as its heartbeat.
//!
//! Source: WHATWG HTML, section 9.2.

use crate::reactor::close::Deadline;
use crate::reactor::id::ConnId;
use crate::reactor::protocol::Protocol;
use crate::reactor::reactor::Reactor;

impl<S: 'static> Reactor<S> {
    pub(crate) fn begin_events(&mut self, id: ConnId, chunked: bool) {
        self.set_protocol(id, Protocol::EventStream { chunked }, None);
        self.mark_opened(id);
        // A first byte at once: some proxies and browsers report nothing before it.
        self.send_comment(id);
        self.restart_heartbeat(id);
    }

    pub(crate) fn restart_heartbeat(&mut self, id: ConnId) {
        match self
            .options_of(id)
            .and_then(|options| options.heartbeat_interval)
        {
            Some(interval) => self.set_deadline(id, Deadline::Heartbeat, interval),
            None => self.clear_deadline(id),
        }
    }

    pub(crate) fn send_comment(&mut self, id: ConnId) {
        self.send_to_stream(id, b":\n\n");
    }

    /// Sends lines of an event stream to a connection that is one.
    pub(crate) fn send_to_stream(&mut self, id: ConnId, lines: &[u8]) {
        let mut out = Vec::with_capacity(lines.len() + 8);
        let is_stream = self
            .protocol(id)
            .is_some_and(|protocol| protocol.encode_event_lines(lines, &mut out));
        if is_stream {
            self.queue_reply(id, &out);
        }
    }
}
