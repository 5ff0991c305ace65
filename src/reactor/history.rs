//! The history of publications on a reactor, for clients that come back.

use std::time::Duration;

use super::id::ConnId;
use super::reactor::Reactor;
use super::sequence::Sequence;
use crate::pubsub::{EventId, History, Page, Reader, Rule, Rules, Since, TopicHistory};

/// Most entries that are forgotten for their age in one step: reactors that share the history cannot publish meanwhile.
const EXPIRE_MAX: usize = 256;

/// The shortest time between two looks for entries that are too old.
const EXPIRE_PERIOD: Duration = Duration::from_secs(1);

/// # The order of publications
impl<S: 'static> Reactor<S> {
    /// Keeps publications from now on, by these rules and in at most `bytes_max` bytes, for clients that come
    /// back with a cursor. In a group the history belongs to all reactors, and the first call holds.
    #[doc(hidden)]
    pub fn keep_history(&mut self, rules: &Rules, bytes_max: usize) {
        self.with_history(|history| {
            if !history.is_kept() {
                history.keep(rules.clone(), bytes_max);
            }
        });
    }

    /// Looks at the history, or changes it. In a group no reactor can publish meanwhile.
    #[doc(hidden)]
    pub fn with_history<R>(&mut self, call: impl FnOnce(&mut History) -> R) -> R {
        match &mut self.sequence {
            Sequence::Own(own) => own.with_history(call),
            Sequence::Shared(place) => place.sequencer().with_history(call),
        }
    }

    /// Returns the run of the order that ids of publications belong to; see [`EventId::epoch`].
    pub fn epoch(&self) -> u64 {
        match &self.sequence {
            Sequence::Own(own) => match own.numbering() {
                None => own.history().head().epoch,
                Some(numbering) => numbering.epoch(),
            },
            Sequence::Shared(place) => place.sequencer().epoch(),
        }
    }

    /// The cursor of a client that has got everything up to now: the id of the last publication that this
    /// reactor has delivered. With number 0 when there was none.
    pub fn cursor(&self) -> EventId {
        self.id_at(self.applied_number())
    }

    /// The id that a number of the history stands for: that of the publication, and a cursor behind it.
    #[doc(hidden)]
    pub fn id_at(&self, number: u64) -> EventId {
        match &self.sequence {
            Sequence::Own(own) => own.id_at(number),
            Sequence::Shared(place) => EventId::new(place.sequencer().epoch(), number),
        }
    }

    /// The number of the last publication that was delivered.
    pub(super) fn applied_number(&self) -> u64 {
        match &self.sequence {
            Sequence::Own(own) => own.history().head().number,
            Sequence::Shared(place) => place.applied(),
        }
    }

    /// Whether publications of the group wait to be delivered.
    pub(super) fn has_posts(&self) -> bool {
        match &self.sequence {
            Sequence::Own(_) => false,
            Sequence::Shared(place) => place.has_post(),
        }
    }

    /// Begins to read the history: the names, each with whether it is a pattern, from `since` on; with
    /// `is_latest` the latest value of each key.
    #[doc(hidden)]
    pub fn read_history(
        &mut self,
        names: impl IntoIterator<Item = (Box<str>, bool)>,
        since: Since,
        is_latest: bool,
    ) -> Reader {
        if let Since::Id(id) = since
            && id.epoch == self.epoch()
        {
            // The client comes from a reactor that is ahead.
            self.deliver_until(id.number, None);
        }
        self.with_history(|history| Reader::new(history, names, since, is_latest))
    }

    /// Reads on for a connection, up to what this reactor has delivered. Of topics that only a pattern finds, those
    /// are left out that a filter hides from it.
    #[doc(hidden)]
    pub fn history_page_of(
        &mut self,
        reader: &mut Reader,
        bytes_max: usize,
        member: ConnId,
    ) -> Page {
        let filters = std::mem::take(&mut self.pattern_filters);
        let is_granted = |topic: &str, _: &Rule| !filters.of(topic).hides(member.to_bits());
        let page = self.history_page(reader, bytes_max, is_granted);
        self.pattern_filters = filters;
        page
    }

    /// Reads on, up to what this reactor has delivered. Of topics that only a pattern finds, those are left out
    /// for which `is_granted` is false.
    #[doc(hidden)]
    pub fn history_page(
        &mut self,
        reader: &mut Reader,
        bytes_max: usize,
        is_granted: impl Fn(&str, &Rule) -> bool,
    ) -> Page {
        let end = self.applied_number();
        self.with_history(|history| history.page(reader, end, bytes_max, is_granted))
    }

    /// Calls `call` with what there is of a topic in the history, if it had a publication.
    #[doc(hidden)]
    pub fn with_topic_history<R>(
        &mut self,
        topic: &str,
        call: impl FnOnce(TopicHistory<'_>) -> R,
    ) -> Option<R> {
        self.with_history(|history| history.topic(topic).map(call))
    }

    /// The second in which something is published.
    pub(super) fn publication_second(&self) -> u32 {
        self.unix_time() as u32
    }

    /// Looks for entries that are too old when the first of them can be.
    #[inline]
    pub(super) fn arm_expiry(&mut self) {
        if !self.has_expiry_timer {
            self.set_expiry_timer(EXPIRE_PERIOD);
        }
    }

    #[cold]
    fn set_expiry_timer(&mut self, period_min: Duration) {
        let second = self.publication_second();
        let Some(due) = self.with_history(|history| history.next_expiry()) else {
            self.has_expiry_timer = false;
            return;
        };
        self.has_expiry_timer = true;
        let wait = Duration::from_secs(u64::from(due.saturating_sub(second)));
        self.after(wait.max(period_min), |cx| {
            let reactor = &mut *cx.reactor;
            let second = reactor.publication_second();
            let has_more = reactor.with_history(|history| history.expire(second, EXPIRE_MAX));
            // The next step in a later turn, because the entries of a busy hub are many.
            let period = if has_more {
                Duration::ZERO
            } else {
                EXPIRE_PERIOD
            };
            reactor.set_expiry_timer(period);
        });
    }
}
