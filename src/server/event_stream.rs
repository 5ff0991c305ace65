//! The handle of an event stream, which a route gets when it answers with one.

use std::borrow::Cow;
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
    /// Makes the stream a member of a topic, or of each topic of an array: `subscribe(["news", "chat"])`.
    /// Returns the id of the connection, so that the call can be the last expression of a route's callback.
    ///
    /// A name that is not valid, or one above the limit, is logged and left out. [`Reactor::subscribe`] returns
    /// the error instead.
    pub fn subscribe(&mut self, topics: impl Names) -> ConnId {
        topics.for_each(|topic| {
            let outcome = self.reactor.subscribe(self.id, topic);
            self.log_error(topic, outcome);
        });
        self.id
    }

    /// Makes the stream a member of all topics that match a pattern, or one of an array of patterns. As
    /// [`subscribe`](Self::subscribe) otherwise.
    pub fn subscribe_pattern(&mut self, patterns: impl Names) -> ConnId {
        patterns.for_each(|pattern| {
            let outcome = self.reactor.subscribe_pattern(self.id, pattern);
            self.log_error(pattern, outcome);
        });
        self.id
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

    fn log_error(&self, name: &str, outcome: Result<bool, TopicError>) {
        if let Err(error) = outcome {
            log::warn!("conn {}: cannot subscribe to {name:?}: {error}", self.id);
        }
    }
}

/// A name, or several in an array, a slice or a [`Vec`].
pub trait Names {
    /// Calls `call` with each name.
    fn for_each(&self, call: impl FnMut(&str));
}

macro_rules! one_name {
    ($($name:ty),*) => { $(
        impl Names for $name {
            fn for_each(&self, mut call: impl FnMut(&str)) {
                call(self);
            }
        }
    )* };
}

one_name!(&str, String, &String, Cow<'_, str>, &Cow<'_, str>, Box<str>);

impl<T: AsRef<str>, const N: usize> Names for [T; N] {
    fn for_each(&self, call: impl FnMut(&str)) {
        self.iter().map(T::as_ref).for_each(call);
    }
}

impl<T: AsRef<str>> Names for &[T] {
    fn for_each(&self, call: impl FnMut(&str)) {
        self.iter().map(T::as_ref).for_each(call);
    }
}

impl<T: AsRef<str>> Names for Vec<T> {
    fn for_each(&self, call: impl FnMut(&str)) {
        self.iter().map(T::as_ref).for_each(call);
    }
}

impl<T: AsRef<str>> Names for &Vec<T> {
    fn for_each(&self, call: impl FnMut(&str)) {
        self.iter().map(T::as_ref).for_each(call);
    }
}
