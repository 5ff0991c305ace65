//! Notices: news about a topic for its members that are not publications, such as a gap or a user that has
//! come.
//!
//! A notice takes the way of a publication (see `topics.rs`), so that it stands in each queue in the order
//! of the calls. It has no id, and is counted as a message that was sent, not as a delivery. A member whose
//! wire format has no words for notices is left out.

use std::hash::{BuildHasher, Hash, Hasher};

use super::close::Sent;
use super::connection::table::Table;
use super::id::ConnId;
use super::reactor::Reactor;
use crate::pubsub::{Audience, BodyKind, EncodeNotice, Encoded, HasNotice, Notice, WireFormat};

impl<S: 'static> Reactor<S> {
    /// Gives a wire format words for notices. Without them its members get none. The words that a wire format
    /// got first stay.
    ///
    /// `encode` gets the name of the topic or pattern and the notice, appends the body, and returns whether
    /// it is text.
    pub fn set_notice_encoder(&mut self, wire_format: WireFormat, encode: EncodeNotice) {
        self.wire_formats.set_notices(wire_format, |_| true, encode);
    }

    /// As [`set_notice_encoder`](Self::set_notice_encoder), with words only for the notices for which `has` is true.
    pub fn set_notice_encoder_of(
        &mut self,
        wire_format: WireFormat,
        has: HasNotice,
        encode: EncodeNotice,
    ) {
        self.wire_formats.set_notices(wire_format, has, encode);
    }

    /// As [`set_notice_encoder_of`](Self::set_notice_encoder_of), for a wire format that uses values: `encode` gets the
    /// value of the subscription.
    #[allow(dead_code, reason = "a role needs it, and not every build has it")]
    pub(crate) fn set_notice_encoder_with_values(
        &mut self,
        wire_format: WireFormat,
        has: HasNotice,
        encode: impl Fn(u32, &Notice<'_>, &mut Vec<u8>) -> BodyKind + 'static,
    ) {
        self.wire_formats
            .set_notices_with_values(wire_format, has, Box::new(encode));
    }

    /// Queues a notice about a topic, or about a pattern, for its members on this reactor, apart from
    /// `except`.
    ///
    /// Members get notices and publications in the order of the calls. A route whose policy keeps the latest
    /// message of each topic keeps a notice for each user, and one of each other kind, beside it.
    pub fn deliver_notice(
        &mut self,
        name: &str,
        notice: &Notice<'_>,
        audience: Audience,
        except: Option<ConnId>,
    ) {
        let key = self.notice_key(name, notice);
        // Raised as for a publication: no member has got something with this mark.
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
        let mut filter = None;
        let mut delivery = NoticeDelivery {
            table,
            encoded: Encoded::of_notice(wire_formats, name, notice),
            mark,
            key,
            gap_of: matches!(notice, Notice::Gap { .. }).then_some(name),
            visited: 0,
            queued: 0,
        };
        match audience {
            Audience::OfPattern => topics
                .members_of_pattern(name)
                .for_each(|(member, value)| delivery.deliver_to(member, value)),
            Audience::ByName | Audience::All => {
                let lists = topics.members(name).take_while(|(pattern, _)| {
                    // The members by name come first.
                    pattern.is_none() || audience == Audience::All
                });
                for (pattern, members) in lists {
                    let is_by_pattern = pattern.is_some();
                    if let Some(pattern) = pattern {
                        delivery.encoded.set_pattern(pattern);
                    }
                    let filter = filter.get_or_insert_with(|| pattern_filters.of(name));
                    members
                        .filter(|(member, _)| !is_by_pattern || !filter.hides(*member))
                        .for_each(|(member, value)| delivery.deliver_to(member, value));
                }
            }
        }
        let (visited, queued) = (delivery.visited, delivery.queued);
        drop(delivery);
        self.table.stats_mut().sent_messages += queued;
        let kept_bytes = self.wire_formats.take_kept_bytes();
        self.table.count_shared(kept_bytes);
        if self.table.is_over_memory() {
            self.release_memory();
        }
        let steps = visited / 8;
        self.budget.charge(u32::try_from(steps).unwrap_or(u32::MAX));
        if self.table.has_overrun() {
            self.budget.exhaust();
        }
    }

    /// Queues a notice about a topic for one connection, a member or not, unless its wire format has no words
    /// for notices.
    pub fn send_notice(&mut self, id: ConnId, name: &str, notice: &Notice<'_>) {
        let key = self.notice_key(name, notice);
        self.publication_mark += 1;
        let mark = self.publication_mark;
        let Reactor {
            table,
            wire_formats,
            ..
        } = self;
        let mut delivery = NoticeDelivery {
            table,
            encoded: Encoded::of_notice(wire_formats, name, notice),
            mark,
            key,
            gap_of: matches!(notice, Notice::Gap { .. }).then_some(name),
            visited: 0,
            queued: 0,
        };
        delivery.deliver_to(id.to_bits(), 0);
        let queued = delivery.queued;
        drop(delivery);
        self.table.stats_mut().sent_messages += queued;
        let kept_bytes = self.wire_formats.take_kept_bytes();
        self.table.count_shared(kept_bytes);
    }

    /// The key of a notice for [`LatestPerKey`](crate::Overflow::LatestPerKey). That a user has left takes the
    /// place of its coming.
    fn notice_key(&self, name: &str, notice: &Notice<'_>) -> u64 {
        let mut hasher = self.topics.hasher().build_hasher();
        name.hash(&mut hasher);
        notice.user().hash(&mut hasher);
        // A list of users and their count take each other's place.
        notice.cursor().is_some().hash(&mut hasher);
        hasher.finish()
    }
}

/// One notice while its members are visited.
struct NoticeDelivery<'n> {
    table: &'n mut Table,
    encoded: Encoded<'n>,
    mark: u64,
    key: u64,
    /// The name, where the notice is a gap.
    gap_of: Option<&'n str>,
    visited: usize,
    queued: u64,
}

impl NoticeDelivery<'_> {
    fn deliver_to(&mut self, member: u64, value: u32) {
        self.visited += 1;
        let id = ConnId::from_bits(member);
        let connection = self.table.connection(id);
        let Some(connection) = connection else {
            return;
        };
        match connection.publication_format() {
            Some(format) if self.encoded.has_words(format) => {
                let sent = self
                    .table
                    .publish(id, self.mark, self.key, &mut self.encoded, value);
                self.queued += u64::from(sent == Some(Sent::Queued));
            }
            Some(_) => {}
            // A request that waits for publications learns of gaps alone.
            None => {
                if let Some(name) = self.gap_of {
                    self.table.add_awaited_gap(id, name);
                }
            }
        }
    }
}
