//! Topics: publishing to their members, and membership.

use std::hash::BuildHasher;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::close::Sent;
use super::id::ConnId;
use super::reactor::Reactor;
use crate::pubsub::{Encode, Encoded, Event, EventId, Publication, TopicError, WireFormat};

/// What a publication came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its id: one sequence for all topics, assigned here.
    pub id: EventId,
    /// Into how many members' queues it was accepted.
    pub delivered: usize,
}

/// # Publish
impl<S: 'static> Reactor<S> {
    /// Publishes to the members of a topic and of the patterns that match it.
    ///
    /// Each wire format is encoded once, and its bytes are shared. A member by name and by pattern
    /// gets it once.
    pub fn publish<'e>(&mut self, topic: &str, event: impl Into<Event<'e>>) -> Published {
        let event = event.into();
        let id = self.next_event_id();
        let delivered = self.deliver(topic, id, &event);
        Published { id, delivered }
    }

    /// Takes the id of a publication from the sequence, for [`deliver`](Self::deliver).
    ///
    /// [`publish`](Self::publish) is both at once, for the members of this reactor. Apart they are
    /// for several reactors that deliver one publication under one id.
    #[inline]
    pub fn next_event_id(&mut self) -> EventId {
        self.table.stats_mut().publications += 1;
        self.sequence.next_id()
    }

    /// Queues a publication that has its id to the members of this reactor, and returns to how many.
    ///
    /// Checks neither that the id is new nor that ids ascend: members get publications in the order
    /// of these calls.
    #[inline]
    pub fn deliver(&mut self, topic: &str, id: EventId, event: &Event<'_>) -> usize {
        let publication = Publication { topic, id, event };
        let mut encoded = Encoded::default();
        let mut delivered = 0;
        let key = self.hasher.hash_one(topic);
        // Zero is the mark of a connection to which nothing was published yet.
        self.publication_mark += 1;
        let mark = self.publication_mark;
        let Reactor {
            table,
            topics,
            wire_formats,
            scratch,
            ..
        } = self;
        // By `for_each`, which goes through the lists one after the other instead of asking at each
        // member which it is in.
        topics.members(topic).for_each(|(member, _)| {
            let member = ConnId::from_bits(member);
            let encode =
                |wire_format| encoded.get(wire_format, wire_formats, &publication, scratch);
            if table.publish(member, mark, key, encode) == Some(Sent::Queued) {
                delivered += 1;
            }
        });
        self.table.stats_mut().deliveries += delivered as u64;
        let steps = delivered / 8 + self.topics.pattern_count();
        self.budget.charge(u32::try_from(steps).unwrap_or(u32::MAX));
        delivered
    }

    /// Makes a connection a member of a topic, until it ends. `false` when it was one, is gone, or
    /// speaks HTTP and has not become a WebSocket or an event stream.
    ///
    /// # Errors
    ///
    /// [`TopicError`] when the name cannot be a topic's, or the connection has too many.
    pub fn subscribe(&mut self, id: ConnId, topic: &str) -> Result<bool, TopicError> {
        self.budget.charge(4);
        let limits = self.config.subscription_limits();
        let Some((subscriptions, wire_format)) = self.table.member_mut(id) else {
            return Ok(false);
        };
        self.topics
            .subscribe(id.to_bits(), subscriptions, topic, wire_format, limits)
    }

    /// Makes a connection a member of every topic that matches a glob pattern, now and later.
    ///
    /// # Errors
    ///
    /// As [`subscribe`](Self::subscribe).
    pub fn subscribe_pattern(&mut self, id: ConnId, pattern: &str) -> Result<bool, TopicError> {
        self.budget.charge(4);
        let limits = self.config.subscription_limits();
        let Some((subscriptions, wire_format)) = self.table.member_mut(id) else {
            return Ok(false);
        };
        self.topics
            .subscribe_pattern(id.to_bits(), subscriptions, pattern, wire_format, limits)
    }

    /// Ends a membership in a topic. `false` when there was none.
    pub fn unsubscribe(&mut self, id: ConnId, topic: &str) -> bool {
        let Some(subscriptions) = self.table.subscriptions_mut(id) else {
            return false;
        };
        self.topics.unsubscribe(id.to_bits(), subscriptions, topic)
    }

    /// Ends a membership by pattern. `false` when there was none.
    pub fn unsubscribe_pattern(&mut self, id: ConnId, pattern: &str) -> bool {
        let Some(subscriptions) = self.table.subscriptions_mut(id) else {
            return false;
        };
        self.topics
            .unsubscribe_pattern(id.to_bits(), subscriptions, pattern)
    }

    /// How many members a topic has by its name.
    pub fn member_count(&self, topic: &str) -> usize {
        self.topics.member_count(topic)
    }

    /// How many topics have members.
    pub fn topic_count(&self) -> usize {
        self.topics.topic_count()
    }

    /// Adds a way to put publications on the wire, for [`set_wire_format`](Self::set_wire_format), or finds the
    /// one that has been added by this name, whose encoder stays.
    ///
    /// # Errors
    ///
    /// When there are sixteen already.
    pub fn register_wire_format(
        &mut self,
        name: &'static str,
        encode: Encode,
    ) -> io::Result<WireFormat> {
        self.wire_formats
            .register(name, encode)
            .map_err(|_| io::Error::other("there are sixteen wire formats already"))
    }

    /// How publications are put on the wire for the subscriptions that this connection makes from
    /// now on.
    pub fn set_wire_format(&mut self, id: ConnId, wire_format: WireFormat) {
        self.table.set_wire_format(id, wire_format);
    }

    /// Numbers the publications of this reactor from a counter that other reactors may share, in
    /// their common `epoch`. By default a reactor has a counter and an epoch of its own.
    ///
    /// `last_number` holds the last number that was given out; each publication adds one. It is
    /// raised to the last number of this reactor, so that no number is given out twice.
    pub fn number_publications(&mut self, epoch: u64, last_number: Arc<AtomicU64>) {
        self.sequence.share(epoch, last_number);
    }

    /// The run of the sequence that the ids of publications belong to; see [`EventId::epoch`].
    pub fn epoch(&self) -> u64 {
        self.sequence.epoch()
    }
}
