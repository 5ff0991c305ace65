//! Event streams that a route answers with.

use std::time::Duration;

use crate::protocol::event_stream;
use crate::pubsub::TopicError;
use crate::reactor::id::ConnId;
use crate::reactor::reactor::Reactor;

/// An event stream that has begun.
pub struct EventStream<'a, S> {
    pub(crate) reactor: &'a mut Reactor<S>,
    /// The connection that carries it.
    pub id: ConnId,
}

impl<S: 'static> EventStream<'_, S> {
    /// Makes the stream a member of a topic; several calls, of several topics. Returns its id, which
    /// a route's callback can return while the stream itself is borrowed from the request.
    ///
    /// A name that cannot be a topic's, or one too many, is logged and left out; use
    /// [`Reactor::subscribe`] to learn of it.
    pub fn subscribe(&mut self, topic: &str) -> ConnId {
        let outcome = self.reactor.subscribe(self.id, topic);
        self.log(topic, outcome)
    }

    /// Makes the stream a member of all topics that match a pattern. As
    /// [`subscribe`](Self::subscribe) otherwise.
    pub fn subscribe_pattern(&mut self, pattern: &str) -> ConnId {
        let outcome = self.reactor.subscribe_pattern(self.id, pattern);
        self.log(pattern, outcome)
    }

    /// Tells the client how long to wait before it connects again once the stream has ended; a
    /// browser that is told nothing waits some three seconds.
    ///
    /// Source: WHATWG HTML, section 9.2.6.
    pub fn retry(self, delay: Duration) -> Self {
        let mut line = Vec::new();
        event_stream::encode_retry(delay, &mut line);
        self.reactor.send_event_lines(self.id, &line);
        self
    }

    fn log(&self, name: &str, outcome: Result<bool, TopicError>) -> ConnId {
        if let Err(error) = outcome {
            log::warn!("conn {}: cannot subscribe to {name:?}: {error}", self.id);
        }
        self.id
    }
}
