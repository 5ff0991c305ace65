//! Replays: what a client that comes back with a cursor has missed, and then live.
//!
//! ```text
//!   wanted names, cursor ─▶ [page of history ─▶ queue has room?]* ─▶ subscribed: live
//!                                  ▲                 │ no
//!                                  └──── on_drain ◀──┘
//! ```
//!
//! The client is no member of its names while it reads the history. The replay ends at the moment when it has
//! reached the last publication that this reactor has delivered, and in the same turn the client becomes a member;
//! so nothing comes in between, and live messages come behind the replay. A client that reads slowly is sent no more
//! than its queue has room for. The client is told of a gap where the history forgets something meanwhile.

use std::collections::VecDeque;
use std::rc::Rc;

use crate::pubsub::{Entry, EventId, Gap};
use crate::reactor::close::Sent;
use crate::reactor::id::ConnId;
use crate::reactor::reactor::Reactor;

use super::engine::{ReadFor, Source, Start};
use super::parts::Parts;

/// The bytes of the bodies of one page, about.
const PAGE_BYTES_MAX: usize = 16 * 1024;

/// The most pages that one client is sent in a turn.
const PAGES_PER_TURN_MAX: usize = 4;

/// The words of a client's protocol for what a replay tells it beside the messages.
pub(super) trait ReplayClient<S: 'static>: 'static {
    /// Whether its names share one cursor, as those of an event stream do. A gap of one name is then told at its
    /// place in the order, because the client takes its cursor for all names.
    fn has_one_cursor(&self) -> bool;

    /// Whether it has given a cursor, so that it is counted among the clients that come back.
    fn comes_back(&self) -> bool;

    /// Whether the earlier replays of the client have ended.
    fn is_next(&self) -> bool {
        true
    }

    /// Whether a name is still wanted, before the next page is read for it.
    fn wants(&mut self, reactor: &mut Reactor<S>, id: ConnId, name: &str) -> bool {
        let _ = (reactor, id, name);
        true
    }

    /// The engine has confirmed the names, and nothing of a page was sent yet.
    fn begins(&mut self, reactor: &mut Reactor<S>, id: ConnId) {
        let _ = (reactor, id);
    }

    /// Takes a publication that the client would be sent now, to send it itself.
    fn takes(&mut self, event_id: EventId, entry: &Entry) -> bool {
        let _ = (event_id, entry);
        false
    }

    /// The value of its subscriptions, by which publications are encoded for it.
    fn value(&self) -> u32 {
        0
    }

    /// Tells of a gap up to a cursor. `wanted` is the name by which the client is subscribed: that of the gap, or a
    /// pattern.
    fn gap(
        &mut self,
        reactor: &mut Reactor<S>,
        id: ConnId,
        gap: &Gap,
        cursor: EventId,
        wanted: &str,
    );

    /// Tells the client that its subscription is refused after all.
    fn refuse(&mut self, reactor: &mut Reactor<S>, id: ConnId);

    /// Makes the client a member of its names: it has got everything up to `cursor`. Called once, unless the
    /// connection ends before.
    fn live(&mut self, reactor: &mut Reactor<S>, id: ConnId, cursor: EventId);
}

/// A replay that is under way.
pub(super) struct Replay<S: 'static> {
    hub: Rc<Parts<S>>,
    id: ConnId,
    source: Box<dyn Source<S>>,
    /// To be told when the replay has come to their numbers.
    gaps: VecDeque<Gap>,
    client: Box<dyn ReplayClient<S>>,
    /// The client was told of a gap.
    had_gap: bool,
    /// The first page was there.
    has_begun: bool,
}

impl<S: 'static> Replay<S> {
    /// Begins a replay of the names, each with whether it is a pattern. It may end before this returns. It waits until
    /// the earlier replays of the client have ended.
    pub(super) fn begin(
        hub: &Rc<Parts<S>>,
        reactor: &mut Reactor<S>,
        id: ConnId,
        names: Vec<(Box<str>, bool)>,
        start: Start,
        client: impl ReplayClient<S>,
    ) {
        let source = hub.engine.read(reactor, names, start);
        let replay = Replay {
            hub: Rc::clone(hub),
            id,
            source,
            gaps: VecDeque::new(),
            client: Box::new(client),
            had_gap: false,
            has_begun: false,
        };
        replay.go_on(reactor);
    }

    /// Sends until the queue has no more room, and goes on when it has.
    fn go_on(mut self, reactor: &mut Reactor<S>) {
        // The confirmations of a client come in the order of its commands.
        if !self.client.is_next() {
            return self.wait(reactor);
        }
        let mut page_count = 0;
        while reactor.has_room(self.id) {
            // The queue of a client that reads fast never fills, and other clients wait meanwhile.
            if page_count == PAGES_PER_TURN_MAX {
                return reactor.next_tick(|cx| self.go_on(cx.reactor));
            }
            page_count += 1;
            let (client, id) = (&mut self.client, self.id);
            (self.source).retain(&mut |name| client.wants(reactor, id, name));
            let read_for = ReadFor::Client(id);
            let Some(page) = self.source.page(reactor, PAGE_BYTES_MAX, &read_for) else {
                if self.source.is_refused() {
                    return self.client.refuse(reactor, self.id);
                }
                return self.wait_for_page(reactor);
            };
            if !std::mem::replace(&mut self.has_begun, true) {
                self.client.begins(reactor, self.id);
            }
            self.gaps.extend(page.gaps);
            self.gaps.make_contiguous().sort_by_key(|gap| gap.number);
            if !self.client.has_one_cursor() {
                self.tell_gaps_of_topics(reactor);
            }
            for (wanted_index, entry) in page.entries {
                self.tell_gaps(reactor, entry.number - 1);
                let wanted = &self.source.wanted()[wanted_index];
                let pattern = wanted.is_pattern.then_some(&*wanted.name);
                let event_id = self.source.id_at(reactor, entry.number);
                if self.client.takes(event_id, &entry) {
                    continue;
                }
                let value = self.client.value();
                let (topic, event) = (entry.body.topic(), entry.body.event());
                if reactor.has_room(self.id)
                    && reactor.deliver_to(self.id, topic, event_id, &event, pattern, value)
                        == Sent::Queued
                {
                    continue;
                }
                self.source.rewind(entry.number - 1);
                return self.wait(reactor);
            }
            if page.is_end || page.ends_section {
                self.tell_gaps(reactor, u64::MAX);
            }
            if page.is_end {
                self.count(reactor);
                let cursor = self.hub.engine.cursor(reactor);
                return self.client.live(reactor, self.id, cursor);
            }
        }
        self.wait(reactor);
    }

    /// Counts a client that has come back.
    fn count(&self, reactor: &mut Reactor<S>) {
        let stats = reactor.stats_mut();
        match (self.client.comes_back(), self.had_gap) {
            (true, false) => stats.resumes += 1,
            (true, true) => stats.resumes_with_gap += 1,
            (false, _) => {}
        }
    }

    /// Goes on when the queue of the client has room. Does nothing where the connection has ended.
    fn wait(self, reactor: &mut Reactor<S>) {
        reactor.on_drain(self.id, |cx| self.go_on(cx.reactor));
    }

    /// Goes on when the next page is there. The client is given up where the connection ends before.
    fn wait_for_page(self, reactor: &mut Reactor<S>) {
        let (ready, id) = (self.source.ready(), self.id);
        let slot = ready.clone();
        reactor.on_close(id, move |_, _| drop(slot.take()));
        ready.set(move |reactor| self.go_on(reactor));
    }

    /// Tells of the gaps of names that are one topic's: all messages that follow for this name lie behind. The gap
    /// of one topic that a pattern has found does not lie before all messages of the pattern.
    fn tell_gaps_of_topics(&mut self, reactor: &mut Reactor<S>) {
        let wanted = self.source.wanted();
        let is_of_pattern = |gap: &Gap| wanted[gap.wanted_index].is_pattern;
        let gaps = std::mem::take(&mut self.gaps);
        let (held, gaps): (VecDeque<_>, VecDeque<_>) = gaps.into_iter().partition(is_of_pattern);
        self.gaps = gaps;
        self.tell_gaps(reactor, u64::MAX);
        self.gaps = held;
    }

    /// Tells of the gaps up to a number.
    fn tell_gaps(&mut self, reactor: &mut Reactor<S>, number: u64) {
        while let Some(gap) = self.gaps.front()
            && gap.number <= number
            && let Some(gap) = self.gaps.pop_front()
        {
            let wanted = &self.source.wanted()[gap.wanted_index].name;
            let cursor = self.source.id_at(reactor, gap.number);
            self.had_gap = true;
            self.client.gap(reactor, self.id, &gap, cursor, wanted);
        }
    }
}
