//! Topics: membership, and publishing to members.
//!
//! # The way of one publication
//!
//! ```text
//!  topics.rs                publish_to: an id from the sequence; deliver: for each member
//!  pubsub/topics.rs         members: by the topic's name, then by each pattern that matches
//!  connection/table.rs      publish: the one look-up of the member
//!  connection/send.rs       publish: has it got this one already, is it open
//!  connection/mod.rs        publication_format: its own wire format, or that of its protocol
//!  pubsub/wire_format.rs    Encoded::get: the body and its frame, once for each format and value
//!  connection/send.rs       is there room
//!  connection/palette.rs    add: the publication stands in the palette, once for each format
//!  connection/outbox.rs     push_range: the member's range gets one longer, and the connection is dirty
//!  turn.rs                  flush: before the poll and behind the events of a turn
//!  connection/send.rs       flush
//!  connection/outbox.rs     flush_range: one write of what the range stands for
//!  connection/palette.rs    bytes: joined once for all members with the same range
//! ```
//!
//! A member that has something else queued, or whose socket is blocked, gets a node with the shared
//! bytes (`push` in `connection/outbox.rs`). Its flush puts up to 64 nodes in one write, until all is
//! written or the socket blocks.
//!
//! The connection whose callback publishes is corked. Its own copy goes into the cork
//! (`publish_with_care` in `connection/send.rs`) and leaves with the event.
//!
//! Paths are below `src/reactor`, and `pubsub` is below `src`.

use std::hash::BuildHasher;
use std::io;
use std::rc::Rc;

use super::close::Sent;
use super::connection::Connection;
use super::connection::table::Table;
use super::id::ConnId;
use super::observers::OBSERVERS;
use super::pattern_filter::{PatternFilter, TopicFilter};
use super::published::Published;
use super::reactor::Reactor;
use super::sequence::Sequence;
use crate::pubsub::{
    BodyKind, Encoded, Event, EventId, MembersChange, NameKind, Publication, TopicError, Topics,
    WireFormat,
};

impl<S: 'static> Reactor<S> {
    /// Publishes an event to the members of a topic and of the patterns that match it.
    ///
    /// The event is encoded once for each wire format, and members whose connections frame it alike
    /// share the bytes. A member by name and by pattern gets it once. A member whose protocol takes
    /// no publications now, such as a WebSocket client before its handshake is done, is left out
    /// and not counted.
    pub fn publish<'e>(&mut self, topic: &str, event: impl Into<Event<'e>>) -> Published {
        self.publish_to(topic, &event.into(), None)
    }

    /// As [`publish`](Self::publish), but leaves out one member, such as the client that sent the
    /// message and shows it already. A stale id leaves out no member.
    pub fn publish_except<'e>(
        &mut self,
        topic: &str,
        event: impl Into<Event<'e>>,
        except: ConnId,
    ) -> Published {
        self.publish_to(topic, &event.into(), Some(except))
    }

    pub(super) fn publish_to(
        &mut self,
        topic: &str,
        event: &Event<'_>,
        except: Option<ConnId>,
    ) -> Published {
        self.table.stats_mut().publications += 1;
        let table = &self.table;
        let hash = self.topics.hash(topic);
        let own = match &mut self.sequence {
            Sequence::Own(own) => own,
            Sequence::Shared(place) => {
                let index = place.index();
                let except = except.map(|id| (index, id));
                return self.publish_to_group(topic, event, except, None);
            }
        };
        let place = own.append(topic, hash, || table.unix_time() as u32, event);
        let id = own.id_at(place);
        let delivered = self.deliver_to_hash(topic, hash, &id, event, except);
        self.arm_expiry();
        Published::new(id, delivered)
    }

    /// Queues a publication that has an id for the members of this reactor, apart from `except`,
    /// and returns how many queues accepted it.
    ///
    /// Does not check that the id is new or that ids ascend: members get publications in the order
    /// of these calls.
    pub fn deliver(
        &mut self,
        topic: &str,
        id: EventId,
        event: &Event<'_>,
        except: Option<ConnId>,
    ) -> usize {
        let hash = self.topics.hash(topic);
        self.deliver_to_hash(topic, hash, &id, event, except)
    }

    /// As [`deliver`](Self::deliver), for a topic whose hash is known.
    fn deliver_to_hash(
        &mut self,
        topic: &str,
        hash: u64,
        id: &EventId,
        event: &Event<'_>,
        except: Option<ConnId>,
    ) -> usize {
        let publication = Publication {
            topic,
            id,
            event,
            value: 0,
            pattern: None,
        };
        let key = self.key_of(topic, hash, event);
        // From one on: zero is the mark of a connection that got no publication yet.
        self.publication_mark += 1;
        let mark = self.publication_mark;
        if let Some(connection) = except.and_then(|id| self.table.connection_mut(id)) {
            connection.leave_out(mark);
        }
        let Reactor {
            table,
            topics,
            wire_formats,
            pattern_filters,
            ..
        } = self;
        let mut is_filtered = false;
        let mut delivery = Delivery {
            table,
            encoded: Encoded::new(wire_formats, publication),
            mark,
            key,
            delivered: 0,
            visited: 0,
        };
        // `for_each` runs without asking at each member whether there is another list.
        for (pattern, members) in topics.members_of_hash(hash, topic) {
            if let Some(pattern) = pattern {
                delivery.encoded.set_pattern(pattern);
                // The members by name come first, and have got it.
                if !std::mem::replace(&mut is_filtered, true) && !pattern_filters.is_empty() {
                    delivery.leave_out_hidden(topics, &pattern_filters.of(topic));
                }
            }
            members.for_each(|(member, value)| delivery.deliver_to(member, value));
        }
        let (delivered, visited) = (delivery.delivered, delivery.visited);
        drop(delivery);
        self.table.stats_mut().deliveries += delivered as u64;
        let kept_bytes = self.wire_formats.take_kept_bytes();
        self.table.count_shared(kept_bytes);
        #[cfg(feature = "deflate")]
        if self.wire_formats.take_has_deflated() {
            self.table.stats_mut().count_deflate();
        }
        if !self.observers.is_empty() {
            self.tell_observers(topic, *id, event);
        }
        if self.table.is_over_memory() {
            self.release_memory();
        }
        // A member whose full queue refuses the publication takes as long as one that gets it.
        let steps = visited / 8 + self.topics.pattern_count();
        self.budget.charge(u32::try_from(steps).unwrap_or(u32::MAX));
        if self.table.has_overrun() {
            self.budget.exhaust();
        }
        delivered
    }

    /// Queues a publication that has an id for one connection, in its wire format, whether or not it is a member.
    /// `pattern` is the one by which a member would get it, and `value` that of its subscription.
    #[doc(hidden)]
    pub fn deliver_to(
        &mut self,
        member: ConnId,
        topic: &str,
        id: EventId,
        event: &Event<'_>,
        pattern: Option<&str>,
        value: u32,
    ) -> Sent {
        let publication = Publication {
            topic,
            id: &id,
            event,
            value: 0,
            pattern: None,
        };
        let key = self.key_of(topic, self.topics.hash(topic), event);
        self.publication_mark += 1;
        let mut encoded = Encoded::new(&mut self.wire_formats, publication);
        if let Some(pattern) = pattern {
            encoded.set_pattern(pattern);
        }
        let mark = self.publication_mark;
        let sent = (self.table).publish_to_one(member, mark, key, &mut encoded, value);
        drop(encoded);
        let kept_bytes = self.wire_formats.take_kept_bytes();
        self.table.count_shared(kept_bytes);
        self.budget.charge(1);
        let sent = sent.unwrap_or(Sent::Gone);
        self.table.stats_mut().deliveries += u64::from(sent == Sent::Queued);
        sent
    }

    /// As [`deliver_to`](Self::deliver_to), for several connections, each with a value. Those with the same value
    /// share the bytes.
    #[allow(dead_code, reason = "roles need it, and not every build has one")]
    pub(crate) fn deliver_to_each(
        &mut self,
        members: impl IntoIterator<Item = (ConnId, u32)>,
        topic: &str,
        id: EventId,
        event: &Event<'_>,
    ) {
        let publication = Publication {
            topic,
            id: &id,
            event,
            value: 0,
            pattern: None,
        };
        let key = self.key_of(topic, self.topics.hash(topic), event);
        self.publication_mark += 1;
        let mut encoded = Encoded::new(&mut self.wire_formats, publication);
        let (mut count, mut delivered) = (0, 0);
        for (member, value) in members {
            let table = &mut self.table;
            let sent =
                table.publish_to_one(member, self.publication_mark, key, &mut encoded, value);
            count += 1;
            delivered += u64::from(sent == Some(Sent::Queued));
        }
        drop(encoded);
        let kept_bytes = self.wire_formats.take_kept_bytes();
        self.table.count_shared(kept_bytes);
        self.budget.charge(1 + count / 8);
        self.table.stats_mut().deliveries += delivered;
        if self.table.is_over_memory() {
            self.release_memory();
        }
    }

    /// The key by which a member that keeps the latest of each key keeps an event: its topic, and its own key where
    /// it has one.
    #[inline]
    fn key_of(&self, topic: &str, hash: u64, event: &Event<'_>) -> u64 {
        match event.key_name() {
            None => hash,
            Some(key) => self.topics.hasher().hash_one((topic, key)),
        }
    }

    /// Makes a connection a member of a topic until the connection ends. Returns `false` when it is
    /// one already, has ended, or speaks HTTP and has not become a WebSocket or an event stream.
    ///
    /// A WebSocket client can subscribe before its handshake is done. It gets the publications from
    /// `on_open` on.
    ///
    /// # Errors
    ///
    /// [`TopicError`] when the name is not valid (empty, longer than 256 bytes, or with a control
    /// character), or the connection has `subscriptions_max` names already, or all connections have
    /// `subscriptions_total_max` together.
    pub fn subscribe(&mut self, id: ConnId, topic: &str) -> Result<bool, TopicError> {
        self.subscribe_with_value(id, topic, 0)
    }

    /// As [`subscribe`](Self::subscribe), with a value that is kept with the subscription. A wire
    /// format that was [registered with values](Self::register_wire_format_with_values) gets it
    /// with each publication that reaches the member by this subscription. A subscription that
    /// exists already keeps its value.
    ///
    /// # Errors
    ///
    /// As [`subscribe`](Self::subscribe).
    pub fn subscribe_with_value(
        &mut self,
        id: ConnId,
        topic: &str,
        value: u32,
    ) -> Result<bool, TopicError> {
        self.budget.charge(4);
        let limits = self.config.subscription_limits();
        let connection = self.table.open_mut(id);
        let Some(subscriptions) = connection.and_then(Connection::member_mut) else {
            return Ok(false);
        };
        let is_new = self
            .topics
            .subscribe(id.to_bits(), subscriptions, topic, value, limits)?;
        if is_new && let Sequence::Shared(place) = &mut self.sequence {
            place.note_member(topic, false);
        }
        Ok(is_new)
    }

    /// Makes a connection a member of every topic that matches a glob pattern, also of topics that
    /// come later. Returns as [`subscribe`](Self::subscribe).
    ///
    /// # Errors
    ///
    /// As [`subscribe`](Self::subscribe).
    pub fn subscribe_pattern(&mut self, id: ConnId, pattern: &str) -> Result<bool, TopicError> {
        self.subscribe_pattern_with_value(id, pattern, 0)
    }

    /// As [`subscribe_pattern`](Self::subscribe_pattern), with a value as that of
    /// [`subscribe_with_value`](Self::subscribe_with_value).
    ///
    /// # Errors
    ///
    /// As [`subscribe`](Self::subscribe).
    pub fn subscribe_pattern_with_value(
        &mut self,
        id: ConnId,
        pattern: &str,
        value: u32,
    ) -> Result<bool, TopicError> {
        self.budget.charge(4);
        let limits = self.config.subscription_limits();
        let connection = self.table.open_mut(id);
        let Some(subscriptions) = connection.and_then(Connection::member_mut) else {
            return Ok(false);
        };
        let is_new =
            self.topics
                .subscribe_pattern(id.to_bits(), subscriptions, pattern, value, limits)?;
        if is_new && let Sequence::Shared(place) = &mut self.sequence {
            place.note_member(pattern, true);
        }
        Ok(is_new)
    }

    /// Ends the membership of a connection in a topic. Returns `false` when there was none.
    pub fn unsubscribe(&mut self, id: ConnId, topic: &str) -> bool {
        self.budget.charge(4);
        let Some(connection) = self.table.connection_mut(id) else {
            return false;
        };
        let subscriptions = connection.subscriptions_mut();
        let was_member = self.topics.unsubscribe(id.to_bits(), subscriptions, topic);
        self.leave_presence(id, topic);
        was_member
    }

    /// Ends the membership of a connection by a pattern. Returns `false` when there was none.
    pub fn unsubscribe_pattern(&mut self, id: ConnId, pattern: &str) -> bool {
        self.budget.charge(4);
        let Some(connection) = self.table.connection_mut(id) else {
            return false;
        };
        let subscriptions = connection.subscriptions_mut();
        self.topics
            .unsubscribe_pattern(id.to_bits(), subscriptions, pattern)
    }

    /// Ends the membership of a connection in a topic, or by a pattern where the name is one, until it subscribes
    /// again. It stays present in the topic. Does nothing when there was no membership.
    #[allow(dead_code, reason = "roles need it, and not every build has one")]
    pub(crate) fn suspend_subscription(&mut self, id: ConnId, name: &str) {
        self.budget.charge(4);
        let Some(connection) = self.table.connection_mut(id) else {
            return;
        };
        let subscriptions = connection.subscriptions_mut();
        let topics = &mut self.topics;
        match crate::pubsub::pattern::is_pattern(name) {
            true => topics.unsubscribe_pattern(id.to_bits(), subscriptions, name),
            false => topics.unsubscribe(id.to_bits(), subscriptions, name),
        };
    }

    /// Ends the membership of a connection in the topic of this very name. It stays present in the topic.
    #[allow(dead_code, reason = "roles need it, and not every build has one")]
    pub(crate) fn suspend_membership(&mut self, id: ConnId, topic: &str) {
        self.budget.charge(4);
        if let Some(connection) = self.table.connection_mut(id) {
            let subscriptions = connection.subscriptions_mut();
            self.topics.unsubscribe(id.to_bits(), subscriptions, topic);
        }
    }

    /// Adds a filter for the members by pattern of private topics. A member gets what no filter hides.
    #[allow(dead_code, reason = "roles need it, and not every build has one")]
    pub(crate) fn add_pattern_filter(&mut self, filter: Rc<dyn PatternFilter>) {
        self.pattern_filters.add(filter);
    }

    /// Whether a connection is subscribed to this name: to the topic, or to the pattern where it is one.
    pub fn is_subscribed(&self, id: ConnId, name: &str) -> bool {
        let kind = match crate::pubsub::pattern::is_pattern(name) {
            true => NameKind::Pattern,
            false => NameKind::Exact,
        };
        let connection = self.table.connection(id);
        let list = connection.map(Connection::subscriptions);
        list.is_some_and(|list| self.topics.is_member(kind, id.to_bits(), list, name))
    }

    /// The topics and patterns that a connection is subscribed to, in no order.
    pub fn subscriptions(&self, id: ConnId) -> impl Iterator<Item = &str> {
        let connection = self.table.connection(id);
        let list = connection.map(Connection::subscriptions);
        list.into_iter()
            .flat_map(|list| self.topics.subscriptions_of(list))
    }

    /// How many members a topic has by its name. Members by pattern are not counted.
    pub fn member_count(&self, topic: &str) -> usize {
        let observers = usize::from(self.observers.has(topic));
        self.topics.member_count(topic) - observers
    }

    /// The members that a topic has by its name, in no order. Members by pattern are not among them.
    ///
    /// The iterator borrows the reactor: collect it before you send to each.
    pub fn members(&self, topic: &str) -> impl Iterator<Item = ConnId> {
        let by_name = self
            .topics
            .members(topic)
            .filter(|(pattern, _)| pattern.is_none());
        let members = by_name.flat_map(|(_, members)| members.map(|(member, _)| member));
        let connections = members.filter(|member| *member != OBSERVERS);
        connections.map(ConnId::from_bits)
    }

    /// The topics that have members by their name, each with their count, in no order.
    pub fn topics_with_members(&self) -> impl Iterator<Item = (&str, usize)> {
        let counts = self.topics.member_counts();
        counts.filter_map(|(topic, count)| {
            let count = match self.observers.is_empty() {
                true => count,
                false => count - usize::from(self.observers.has(topic)),
            };
            (count != 0).then_some((topic, count))
        })
    }

    /// How many topics have members.
    pub fn topic_count(&self) -> usize {
        match self.observers.is_empty() {
            true => self.topics.topic_count(),
            false => self.topics_with_members().count(),
        }
    }

    /// How many subscriptions there are, to topics and by patterns, of all members together.
    pub fn subscription_count(&self) -> usize {
        self.topics.subscription_count() - self.observers.topic_count()
    }

    /// Begins to record names that get their first member or lose their last, for an engine that
    /// subscribes at another server to the topics that have members here.
    #[allow(dead_code, reason = "an engine needs it, and not every build has one")]
    pub(crate) fn watch_topics(&mut self) {
        self.topics.watch();
    }

    /// Returns the names that got their first member or lost their last since this was last called.
    #[allow(dead_code, reason = "an engine needs it, and not every build has one")]
    pub(crate) fn take_topic_changes(&mut self) -> Vec<(NameKind, Box<str>, MembersChange)> {
        self.topics.take_changes()
    }

    /// Adds a wire format, for [`set_wire_format`](Self::set_wire_format). A name that was added
    /// before returns that wire format, and its first encoder stays.
    ///
    /// `encode` appends the body of a publication and returns whether it is text. The connection
    /// puts the frame around it: a WebSocket frame, a chunk of an event stream, or none.
    ///
    /// # Errors
    ///
    /// When sixteen wire formats are registered already.
    pub fn register_wire_format(
        &mut self,
        name: &'static str,
        encode: impl Fn(&Publication<'_>, &mut Vec<u8>) -> BodyKind + 'static,
    ) -> io::Result<WireFormat> {
        self.wire_formats
            .register(name, encode)
            .map_err(|_| io::Error::other("there are sixteen wire formats already"))
    }

    /// As [`register_wire_format`](Self::register_wire_format), for a wire format whose bodies depend
    /// on the subscription: its [value](Self::subscribe_with_value), or the pattern by which it is
    /// made, [`Publication::pattern`]. A publication is encoded once for each distinct value of the
    /// members by name, and of those by each pattern.
    ///
    /// # Errors
    ///
    /// As [`register_wire_format`](Self::register_wire_format).
    pub fn register_wire_format_with_values(
        &mut self,
        name: &'static str,
        encode: impl Fn(&Publication<'_>, &mut Vec<u8>) -> BodyKind + 'static,
    ) -> io::Result<WireFormat> {
        self.wire_formats
            .register_with_values(name, encode)
            .map_err(|_| io::Error::other("there are sixteen wire formats already"))
    }

    /// Sets how publications to a connection are encoded from now on, for all topics. The default
    /// is that of its protocol: [`WireFormat::EVENT_STREAM`] for an event stream,
    /// [`WireFormat::RAW`] for others.
    pub fn set_wire_format(&mut self, id: ConnId, wire_format: WireFormat) {
        if let Some(connection) = self.table.open_mut(id) {
            connection.set_wire_format(wire_format);
        }
    }
}

/// One publication while its members are visited. It owns what each visit needs, so that a visit
/// follows one pointer.
struct Delivery<'p> {
    table: &'p mut Table,
    encoded: Encoded<'p>,
    mark: u64,
    key: u64,
    delivered: usize,
    visited: usize,
}

impl Delivery<'_> {
    /// Marks the members by pattern that must not get it, so that the loop over all members need not ask.
    #[cold]
    #[inline(never)]
    fn leave_out_hidden(&mut self, topics: &Topics, filter: &TopicFilter<'_, '_>) {
        if filter.is_empty() {
            return;
        }
        let by_pattern = topics.members(filter.topic()).filter(|it| it.0.is_some());
        for (member, _) in by_pattern.flat_map(|(_, members)| members) {
            if filter.hides(member)
                && let Some(connection) = self.table.connection_mut(ConnId::from_bits(member))
            {
                connection.leave_out(self.mark);
            }
        }
    }

    #[inline]
    fn deliver_to(&mut self, member: u64, value: u32) {
        self.visited += 1;
        let Delivery { table, encoded, .. } = self;
        let id = ConnId::from_bits(member);
        if table.publish(id, self.mark, self.key, encoded, value) == Some(Sent::Queued) {
            self.delivered += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reactor::close::CloseCause;
    use crate::reactor::sim::Sim;

    // A range that is left would keep the publications of all later turns.
    #[test]
    fn a_member_that_ends_before_the_flush_leaves_no_publications() {
        for way in 0..5 {
            let mut sim = Sim::new(Vec::new(), |reactor: &mut Reactor<Vec<ConnId>>| {
                reactor.websocket("0.0.0.0:80", |ws| {
                    ws.on_open(|ws, _| {
                        ws.state.push(ws.id);
                        ws.subscribe("news")
                    });
                    ws.on_message(|ws, _| {
                        ws.publish("news", "3");
                        panic!("as a test wants");
                    });
                })
            });
            sim.catch_panics(true);
            let clients = [(); 3].map(|()| sim.websocket("/"));
            for text in ["1", "2"] {
                assert_eq!(sim.reactor().publish("news", text).delivered, 3);
            }
            assert_ne!(sim.reactor().table.queued_memory(), 0);
            let id = sim.state()[0];
            match way {
                0 => clients[0].stream().reset(),
                1 => clients[0].vanish(),
                2 => {
                    sim.reactor().close(id);
                }
                3 => sim.reactor().table.abort(id, CloseCause::Local),
                _ => clients[0].send("panics"),
            }
            sim.settle();
            assert_eq!(sim.reactor().table.queued_memory(), 0, "{way}");
            let received = clients[1].received();
            assert_eq!(received[..2], ["1", "2"], "{way}");
        }
    }

    #[test]
    fn topics_tell_when_the_last_member_ends() {
        let mut sim = Sim::new((), |reactor: &mut Reactor<()>| {
            reactor.watch_topics();
            reactor.websocket("0.0.0.0:80", |ws| ws.on_open(|ws, _| ws.subscribe("news")))
        });
        let clients = [(); 2].map(|()| sim.websocket("/"));
        let change = |change| vec![(NameKind::Exact, "news".into(), change)];
        let changes = sim.reactor().take_topic_changes();
        assert_eq!(changes, change(MembersChange::Joined));
        clients[0].vanish();
        sim.settle();
        assert_eq!(sim.reactor().take_topic_changes(), []);
        clients[1].vanish();
        sim.settle();
        let changes = sim.reactor().take_topic_changes();
        assert_eq!(changes, change(MembersChange::Left));
    }
}
