//! Publishing and delivering in a group of reactors that have one order.
//!
//! The reactor delivers from its mailbox only, its own publications too, so that its members get all topics in the
//! order of the group. [`Reactor::publish`] works the mailbox off up to its own publication before it returns;
//! this queues bytes and calls none of the application's callbacks.
//!
//! A reactor that was away for long finds that its mailbox had no room for everything. It then reads what its
//! members are subscribed to from the history, as a client with a cursor does.

use std::panic::Location;
use std::sync::Arc;

use super::id::ConnId;
use super::place::{Missed, OUTCOME_TIMEOUT, OrderPlace, Step};
use super::published::Published;
use super::reactor::{Cx, QueuedDone, QueuedTick, Reactor};
use super::sequence::Sequence;
use crate::pubsub::{Audience, Content, Event, EventId, Gap, Notice, Sequencer};

/// The bytes that a publication whose outcome is not known counts beside its topic and data.
const PUBLICATION_BYTES: usize = 256;

impl<S: 'static> Reactor<S> {
    /// Takes a place in the order of several reactors: from now on this reactor numbers no publication itself.
    #[doc(hidden)]
    pub fn join_sequencer(&mut self, sequencer: Arc<Sequencer>, index: usize) {
        let mailbox = Arc::clone(&self.mailbox);
        let head = sequencer.open(index, Box::new(move || mailbox.ring()));
        let place = OrderPlace::new(sequencer, index, head);
        self.sequence = Sequence::Shared(Box::new(place));
        self.present.clear();
    }

    /// The bytes of the publications of this reactor whose `done` was not called.
    #[doc(hidden)]
    pub fn pending_publication_bytes(&self) -> usize {
        self.outcomes.bytes()
    }

    /// Publishes to the members on all reactors of the group, and calls `done` in a later turn, when all have it
    /// or after two seconds.
    #[doc(hidden)]
    #[track_caller]
    pub fn publish_counted(
        &mut self,
        topic: &str,
        event: &Event<'_>,
        except: Option<ConnId>,
        done: impl FnOnce(&mut Cx<'_, S>, Published) + 'static,
    ) {
        self.table.stats_mut().publications += 1;
        let token = self.outcomes.next_token();
        let published = self.publish_to_group(topic, event, except, Some(token));
        let bytes = PUBLICATION_BYTES + topic.len() + event.payload().as_bytes().len();
        let done = QueuedDone {
            queued_at: Location::caller(),
            call: Box::new(done),
        };
        let now = self.now();
        if self.outcomes.insert(token, bytes, published, now, done) {
            self.after(OUTCOME_TIMEOUT, |cx| cx.reactor.end_overdue());
        }
    }

    /// Publishes in the order of the group, and delivers to the members of this reactor.
    pub(super) fn publish_to_group(
        &mut self,
        topic: &str,
        event: &Event<'_>,
        except: Option<ConnId>,
        token: Option<u64>,
    ) -> Published {
        let second = self.publication_second();
        let Sequence::Shared(place) = &mut self.sequence else {
            unreachable!("only a reactor with a place in a group is asked");
        };
        let id = place.publish(topic, event, second, except.map(ConnId::to_bits), token);
        let delivered = self.deliver_until(id.number);
        self.arm_expiry();
        Published::new(id, delivered)
    }

    /// Delivers what the group has published, up to a number. Returns how many members got the publication of
    /// this number.
    pub(super) fn deliver_until(&mut self, number: u64) -> usize {
        let mut delivered = 0;
        while self.applied_number() < number {
            match self.deliver_next(number) {
                Some(count) => delivered = count,
                None => break,
            }
        }
        delivered
    }

    /// Delivers the next publication of the group, or the next page of those that the mailbox had no room for.
    /// Returns how many members got it, or in a page the publication of the number `asked`. `None` when there
    /// is nothing to deliver.
    pub(super) fn deliver_next(&mut self, asked: u64) -> Option<usize> {
        let Sequence::Shared(place) = &mut self.sequence else {
            return None;
        };
        let mut outcomes = Vec::new();
        let topics = &self.topics;
        let step = place.next_step(|| topics.subscribed_names(), &mut outcomes);
        for outcome in outcomes {
            if let Some((done, published)) = self.outcomes.take(&outcome) {
                self.queue_done(done, published);
            }
        }
        match step {
            Step::Nothing => None,
            Step::Page(page) => Some(self.deliver_page(page, asked)),
            Step::Presence => {
                self.deliver_present_users();
                Some(0)
            }
            Step::Post(post) => {
                let except = match &self.sequence {
                    Sequence::Shared(place) => place.except(&post),
                    Sequence::Own(_) => None,
                };
                let except = except.map(ConnId::from_bits);
                match &post.content {
                    Content::Publication(body) => {
                        let id = self.id_of(post.number);
                        let delivered = self.deliver(body.topic(), id, &body.event(), except);
                        post.add_delivered(delivered);
                        Some(delivered)
                    }
                    Content::Change(change) => {
                        self.deliver_change(change, None);
                        Some(0)
                    }
                }
            }
        }
    }

    /// Delivers a page of what the mailbox had no room for, and tells members of what the history has not
    /// either.
    fn deliver_page(&mut self, missed: Vec<Missed>, asked: u64) -> usize {
        let mut delivered = 0;
        for missed in missed {
            let entry = match missed {
                Missed::Entry(entry) => entry,
                Missed::Gap(gap) => {
                    self.deliver_gap(&gap);
                    continue;
                }
            };
            let (id, event) = (self.id_of(entry.number), entry.body.event());
            let count = self.deliver(entry.body.topic(), id, &event, None);
            if entry.number == asked {
                delivered = count;
            }
        }
        delivered
    }

    fn deliver_gap(&mut self, gap: &Gap) {
        let notice = Notice::Gap {
            cursor: &self.id_of(gap.number).to_string(),
        };
        // A gap of a topic is one for the members of its patterns too.
        let audience = match gap.is_pattern {
            true => Audience::OfPattern,
            false => Audience::All,
        };
        self.deliver_notice(&gap.name, &notice, audience, None);
    }

    fn id_of(&self, number: u64) -> EventId {
        EventId {
            epoch: self.epoch(),
            number,
        }
    }

    /// Ends the publications for whose outcome the time is over: a reactor of the group is stuck.
    fn end_overdue(&mut self) {
        let now = self.now();
        let mut last = None;
        while let Some((done, published)) = self.outcomes.take_overdue(now) {
            last = Some(published.id.number);
            self.queue_done(done, published);
        }
        if let (Some(number), Sequence::Shared(place)) = (last, &self.sequence) {
            place.sequencer().skip_stuck(number);
        }
        if let Some(due) = self.outcomes.next_due() {
            let wait = due.saturating_sub(now);
            self.after(wait, |cx| cx.reactor.end_overdue());
        }
    }

    /// Has the callback of a publication called in this turn or the next.
    fn queue_done(&mut self, done: QueuedDone<S>, published: Published) {
        self.ticks.push_back(QueuedTick {
            queued_at: done.queued_at,
            call: Box::new(move |cx| (done.call)(cx, published)),
        });
    }
}
