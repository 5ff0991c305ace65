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
use crate::pubsub::{Audience, Content, Event, Gap, Notice, Sequencer};

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

    /// Gives the place in the order of a group back, before anything was published: the publications of this reactor are
    /// ordered by another server.
    #[doc(hidden)]
    pub fn leave_sequencer(&mut self) {
        self.sequence.end(self.topics.hasher().clone());
    }

    /// The bytes of the publications of this reactor whose `done` was not called.
    #[doc(hidden)]
    pub fn pending_publication_bytes(&self) -> usize {
        self.outcomes.bytes()
    }

    /// Publishes to the members on all reactors of the group, and calls `done` in a later turn, when all have it
    /// or after two seconds. `except` is a place in the group, and a connection of the reactor there that is left out.
    #[doc(hidden)]
    #[track_caller]
    pub fn publish_counted(
        &mut self,
        topic: &str,
        event: &Event<'_>,
        except: Option<(usize, ConnId)>,
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

    /// Publishes in the order of the group, and delivers to the members of this reactor. `except` is as for
    /// [`publish_counted`](Self::publish_counted).
    pub(super) fn publish_to_group(
        &mut self,
        topic: &str,
        event: &Event<'_>,
        except: Option<(usize, ConnId)>,
        token: Option<u64>,
    ) -> Published {
        let second = self.publication_second();
        let Sequence::Shared(place) = &mut self.sequence else {
            unreachable!("only a reactor with a place in a group is asked");
        };
        let own = except.filter(|(of, _)| *of == place.index());
        let except = except.map(|(place, id)| (place as u16, id.to_bits()));
        let id = place.publish(topic, event, second, except, token);
        let delivered = self.deliver_until(id.number, own.map(|(_, id)| id));
        self.arm_expiry();
        Published::new(id, delivered)
    }

    /// Delivers what the group has published, up to a number. Returns how many members got the publication of
    /// this number; `except` does not get it.
    pub(super) fn deliver_until(&mut self, number: u64, except: Option<ConnId>) -> usize {
        let mut delivered = 0;
        while self.applied_number() < number {
            match self.deliver_next(number, except) {
                Some(count) => delivered = count,
                None => break,
            }
        }
        delivered
    }

    /// Delivers the next publication of the group, or the next page of those that the mailbox had no room for.
    /// Returns how many members got it, or in a page the publication of the number `asked`, which `asked_except`
    /// does not get. `None` when there is nothing to deliver.
    pub(super) fn deliver_next(
        &mut self,
        asked: u64,
        asked_except: Option<ConnId>,
    ) -> Option<usize> {
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
            Step::Page(page) => Some(self.deliver_page(page, asked, asked_except)),
            Step::Presence(marks) => {
                for mark in marks {
                    self.call_parked(mark, 0);
                }
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
                        let id = self.id_at(post.number);
                        let delivered = self.deliver(body.topic(), id, &body.event(), except);
                        post.add_delivered(delivered);
                        Some(delivered)
                    }
                    Content::Change(change) => {
                        self.deliver_change(change, None);
                        Some(0)
                    }
                    Content::Mark(mark) => {
                        self.call_parked(*mark, 0);
                        Some(0)
                    }
                }
            }
        }
    }

    /// Delivers a page of what the mailbox had no room for, and tells members of what the history has not
    /// either.
    fn deliver_page(
        &mut self,
        missed: Vec<Missed>,
        asked: u64,
        asked_except: Option<ConnId>,
    ) -> usize {
        let mut delivered = 0;
        for missed in missed {
            let entry = match missed {
                Missed::Entry(entry) => entry,
                Missed::Gap(gap) => {
                    self.deliver_gap(&gap);
                    continue;
                }
            };
            let (id, event) = (self.id_at(entry.number), entry.body.event());
            // The history does not know who was left out.
            let except = asked_except.filter(|_| entry.number == asked);
            let count = self.deliver(entry.body.topic(), id, &event, except);
            if entry.number == asked {
                delivered = count;
            }
        }
        delivered
    }

    fn deliver_gap(&mut self, gap: &Gap) {
        let notice = Notice::Gap {
            cursor: &self.id_at(gap.number).to_string(),
        };
        // A gap of a topic is one for the members of its patterns too.
        let audience = match gap.is_pattern {
            true => Audience::OfPattern,
            false => Audience::All,
        };
        self.deliver_notice(&gap.name, &notice, audience, None);
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::pubsub::{Body, Event, History, Rules, Scratch, Sequencer, Since};
    use crate::reactor::id::ConnId;
    use crate::reactor::reactor::Reactor;
    use crate::reactor::sim::{Sim, SimSocket};

    /// Three WebSockets of a reactor with a place in a group. Publications on the other place are numbered from 1
    /// to 2,000, on `new` and `old` in turn, and few of them have room in the mailbox. The first socket is
    /// a member of `old`.
    fn behind() -> (Sim<Vec<ConnId>>, [SimSocket; 3]) {
        let mut sim = Sim::new(Vec::new(), |reactor: &mut Reactor<Vec<ConnId>>| {
            reactor.websocket("0.0.0.0:80", |ws| ws.on_open(|ws, _| ws.state.push(ws.id)))
        });
        let sockets = [(); 3].map(|()| sim.websocket("/"));
        let id = sim.state()[0];
        let mut history = History::new(1);
        let mut rules = Rules::new();
        rules.add_text("*=history=5000").unwrap();
        history.keep(rules, 1 << 24);
        let sequencer = Arc::new(Sequencer::new(2, 1000, history));
        let reactor = sim.reactor();
        reactor.join_sequencer(Arc::clone(&sequencer), 0);
        reactor.subscribe(id, "old").unwrap();
        for number in 1..=2000 {
            let text = number.to_string();
            let topic = if number % 2 == 0 { "old" } else { "new" };
            let event: Event<'_> = text.as_str().into();
            let body = Body::new(topic, &event, &mut Scratch::default());
            sequencer.publish(1, 0, body, None, None);
        }
        (sim, sockets)
    }

    // Its own history hashed topics in another way than the reactor, so that it found none of what it had kept.
    #[test]
    fn a_reactor_that_has_left_a_group_finds_what_it_keeps() {
        let (mut sim, _) = behind();
        let reactor = sim.reactor();
        reactor.leave_sequencer();
        let mut rules = Rules::new();
        rules.add_text("*=history=5").unwrap();
        reactor.keep_history(&rules, 1 << 20);
        let since = Since::Id(reactor.cursor());
        reactor.publish("old", "kept");
        let mut reader = reactor.read_history([("old".into(), false)], since, false);
        let page = reactor.history_page(&mut reader, 1000, |_, _| true);
        assert_eq!(page.entries.len(), 1);
    }

    // The pages of what the mailbox had no room for were read for the names that had members at first.
    #[test]
    fn a_member_that_comes_while_a_reactor_catches_up_misses_nothing() {
        let (mut sim, sockets) = behind();
        let ids = sim.state().clone();
        let reactor = sim.reactor();
        while reactor.cursor().number < 500 {
            assert!(reactor.deliver_next(0, None).is_some());
        }
        let cursor = reactor.cursor().number;
        assert!(cursor < 1500, "the rest is on other pages");
        reactor.subscribe(ids[1], "new").unwrap();
        // It is read already.
        reactor.subscribe(ids[1], "old").unwrap();
        reactor.subscribe_pattern(ids[2], "n*").unwrap();
        while reactor.deliver_next(0, None).is_some() {}
        assert_eq!(reactor.cursor().number, 2000);
        sim.settle();
        let numbers = |numbers: &mut dyn Iterator<Item = u64>| -> Vec<String> {
            numbers.map(|number| number.to_string()).collect()
        };
        let even = numbers(&mut (1..=2000).filter(|it| it % 2 == 0));
        assert_eq!(sockets[0].received(), even);
        assert_eq!(sockets[1].received(), numbers(&mut (cursor + 1..=2000)));
        let odd = numbers(&mut (cursor + 1..=2000).filter(|it| it % 2 == 1));
        assert_eq!(sockets[2].received(), odd);
    }
    #[test]
    fn a_reactor_that_is_behind_leaves_out_the_publisher() {
        let (mut sim, sockets) = behind();
        let ids = sim.state().clone();
        let reactor = sim.reactor();
        reactor.subscribe(ids[1], "old").unwrap();
        let published = reactor.publish_except("old", "2001", ids[0]);
        assert_eq!((published.id.number, published.delivered), (2001, 1));
        sim.settle();
        assert_eq!(sockets[0].received().len(), 1000);
        assert_eq!(sockets[1].received().len(), 1001);
    }
}
