//! The handle of an event stream, which a route gets when it answers with one.

use std::time::Duration;

use crate::protocol::event_stream;
use crate::pubsub::TopicError;
use crate::reactor::id::ConnId;
use crate::reactor::reactor::Reactor;

/// An event stream that has begun.
pub struct EventStream<'a, S> {
    pub(crate) reactor: &'a mut Reactor<S>,
    /// The connection of the stream.
    pub id: ConnId,
}

impl<S: 'static> EventStream<'_, S> {
    /// Makes the stream a member of a topic. Call it again for further topics. Returns the id of the connection,
    /// so that the call can be the last expression of a route's callback.
    ///
    /// A name that is not valid, or one above the limit, is logged and left out. [`Reactor::subscribe`] returns
    /// the error instead.
    pub fn subscribe(&mut self, topic: &str) -> ConnId {
        let outcome = self.reactor.subscribe(self.id, topic);
        self.log_error(topic, outcome)
    }

    /// Makes the stream a member of all topics that match a pattern. As
    /// [`subscribe`](Self::subscribe) otherwise.
    pub fn subscribe_pattern(&mut self, pattern: &str) -> ConnId {
        let outcome = self.reactor.subscribe_pattern(self.id, pattern);
        self.log_error(pattern, outcome)
    }

    /// Sets how long the client waits before it connects again after the stream has ended. Without it a
    /// browser waits some three seconds.
    ///
    /// Source: WHATWG HTML, section 9.2.6.
    pub fn retry(self, delay: Duration) -> Self {
        let mut line = Vec::new();
        event_stream::encode_retry(delay, &mut line);
        self.reactor.send_event_lines(self.id, &line);
        self
    }

    fn log_error(&self, name: &str, outcome: Result<bool, TopicError>) -> ConnId {
        if let Err(error) = outcome {
            log::warn!("conn {}: cannot subscribe to {name:?}: {error}", self.id);
        }
        self.id
    }
}
