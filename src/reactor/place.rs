//! The place of a reactor in a group whose publications have one order: its post, and the outcomes that it
//! waits for. How the post is delivered stands in `posts.rs`.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::published::Published;
use crate::pubsub::{
    Body, Entry, Event, EventId, Gap, NameKind, Outcome, Page, Post, Presence, Reader, Scratch,
    Sequencer, Since, TopicChange,
};

/// How long a publisher waits until all reactors have taken its publication. One that has not by then is stuck,
/// and its members are not counted.
pub(super) const OUTCOME_TIMEOUT: Duration = Duration::from_secs(2);

/// The bytes of the bodies that are read from the history under one hold of its lock, about.
const PAGE_BYTES_MAX: usize = 1024 * 1024;

/// A place in the order of a group.
pub(super) struct OrderPlace {
    sequencer: Arc<Sequencer>,
    index: usize,
    scratch: Scratch,
    /// Posts that were taken from the mailbox and are not delivered yet.
    taken: VecDeque<Post>,
    /// Publications that the mailbox had no room for, behind those that were taken.
    lost: Option<Lost>,
    /// Changes of presence that the mailbox had no room for, behind all these.
    has_lost_changes: bool,
    /// Marks that stood between these changes.
    lost_marks: Vec<u64>,
    /// The number of the last publication that was delivered.
    applied: u64,
}

/// Publications that are read from the history, up to the number `end`.
struct Lost {
    reader: Reader,
    end: u64,
    /// To be told when the entries before their numbers are delivered.
    gaps: Vec<Gap>,
    /// The names that are read, each with whether it is a pattern. Put together when the first one is added.
    names: HashSet<(Box<str>, bool)>,
}

/// A part of what the mailbox had no room for, in its order.
pub(super) enum Missed {
    Gap(Gap),
    Entry(Entry),
}

/// The next thing that a reactor has to deliver.
pub(super) enum Step {
    Post(Post),
    /// A page of what the mailbox had no room for.
    Page(Vec<Missed>),
    /// The members of all topics get the users that are present now, because changes were lost. The marks stood
    /// between these, and come first.
    Presence(Vec<u64>),
    Nothing,
}

impl OrderPlace {
    pub(super) fn new(sequencer: Arc<Sequencer>, index: usize, head: EventId) -> OrderPlace {
        OrderPlace {
            sequencer,
            index,
            scratch: Scratch::default(),
            taken: VecDeque::new(),
            lost: None,
            has_lost_changes: false,
            lost_marks: Vec::new(),
            applied: head.number,
        }
    }

    pub(super) fn sequencer(&self) -> &Arc<Sequencer> {
        &self.sequencer
    }

    /// The number of the place.
    pub(super) fn index(&self) -> usize {
        self.index
    }

    pub(super) fn applied(&self) -> u64 {
        self.applied
    }

    pub(super) fn has_post(&self) -> bool {
        !self.taken.is_empty()
            || self.lost.is_some()
            || self.has_lost_changes
            || self.sequencer.has_post(self.index)
    }

    /// Changes the presence of this reactor's connections; see [`Sequencer::change_presence`].
    pub(super) fn change_presence(
        &self,
        mark: Option<u64>,
        call: impl FnOnce(&mut Presence, u16) -> Vec<TopicChange>,
    ) -> Option<Duration> {
        self.sequencer.change_presence(self.index, mark, call)
    }

    /// A name has a member more, which gets what is published from here on, also what the mailbox had no room for.
    pub(super) fn note_member(&mut self, name: &str, is_pattern: bool) {
        if let Some(lost) = &mut self.lost {
            lost.add(name, is_pattern);
        }
    }

    /// The member of this reactor that a post leaves out.
    pub(super) fn except(&self, post: &Post) -> Option<u64> {
        post.except(self.index)
    }

    pub(super) fn publish(
        &mut self,
        topic: &str,
        event: &Event<'_>,
        second: u32,
        except: Option<(u16, u64)>,
        token: Option<u64>,
    ) -> EventId {
        let body = Body::new(topic, event, &mut self.scratch);
        let sequencer = &self.sequencer;
        sequencer.publish(self.index, second, body, except, token)
    }

    /// Takes the next thing to deliver, which counts as delivered from here on: a panic in an encoder must not
    /// bring it again. `names` are those that have members; outcomes of publications go into `outcomes`.
    pub(super) fn next_step<'n, N>(
        &mut self,
        names: impl Fn() -> N,
        outcomes: &mut Vec<Outcome>,
    ) -> Step
    where
        N: Iterator<Item = (NameKind, &'n str)>,
    {
        // Each round takes posts, or sees that there is no more.
        while self.taken.is_empty() {
            if let Some(lost) = &mut self.lost {
                let page = self.sequencer.with_history(|history| {
                    history.page(&mut lost.reader, lost.end, PAGE_BYTES_MAX, |_, _| true)
                });
                self.applied = lost.reader.after();
                let missed = lost.in_order(page);
                if self.applied == lost.end {
                    self.lost = None;
                }
                return Step::Page(missed);
            }
            if std::mem::take(&mut self.has_lost_changes) {
                return Step::Presence(std::mem::take(&mut self.lost_marks));
            }
            if !self.sequencer.has_post(self.index) {
                return Step::Nothing;
            }
            let taken = self.sequencer.take(self.index);
            self.taken = taken.posts;
            outcomes.extend(taken.outcomes);
            self.has_lost_changes = taken.has_lost_changes;
            self.lost_marks = taken.lost_marks;
            if let Some((after, end)) = taken.lost {
                let since = Since::Id(EventId::new(self.sequencer.epoch(), after));
                let names = names().map(|(kind, name)| (name.into(), kind == NameKind::Pattern));
                let reader = self
                    .sequencer
                    .with_history(|history| Reader::new(history, names, since, false));
                self.lost = Some(Lost {
                    reader,
                    end,
                    gaps: Vec::new(),
                    names: HashSet::new(),
                });
            }
        }
        match self.taken.pop_front() {
            Some(post) => {
                self.applied = post.number;
                Step::Post(post)
            }
            None => Step::Nothing,
        }
    }
}

impl Lost {
    /// Reads a name too, behind the pages that were delivered.
    fn add(&mut self, name: &str, is_pattern: bool) {
        if self.names.is_empty() {
            let names = self.reader.wanted().iter();
            let names = names.map(|wanted| (wanted.name.clone(), wanted.is_pattern));
            self.names = names.collect();
        }
        if self.names.insert((name.into(), is_pattern)) {
            self.reader.add(name, is_pattern);
        }
    }

    /// The gaps and entries of a page in one order. A member with one cursor for several topics takes that of a gap
    /// for all of them, so a gap stands behind the entries before its number.
    fn in_order(&mut self, page: Page) -> Vec<Missed> {
        let mut gaps = std::mem::take(&mut self.gaps);
        gaps.extend(page.gaps);
        gaps.sort_by_key(|gap| gap.number);
        let mut gaps = gaps.into_iter().peekable();
        let mut missed = Vec::new();
        for (_, entry) in page.entries {
            while let Some(gap) = gaps.next_if(|gap| gap.number < entry.number) {
                missed.push(Missed::Gap(gap));
            }
            missed.push(Missed::Entry(entry));
        }
        match page.is_end {
            true => missed.extend(gaps.map(Missed::Gap)),
            false => self.gaps = gaps.collect(),
        }
        missed
    }
}

impl Drop for OrderPlace {
    fn drop(&mut self) {
        self.taken.clear();
        self.sequencer.close(self.index);
    }
}

struct Waiting<D> {
    since: Duration,
    bytes: usize,
    /// The members of this reactor alone, for a group that does not answer.
    published: Published,
    done: D,
}

/// The publications of a reactor whose outcome is not known yet, by their token, each with what is called then.
pub(super) struct Outcomes<D> {
    waiting: BTreeMap<u64, Waiting<D>>,
    last_token: u64,
    bytes: usize,
}

impl<D> Default for Outcomes<D> {
    fn default() -> Self {
        Outcomes {
            waiting: BTreeMap::new(),
            last_token: 0,
            bytes: 0,
        }
    }
}

impl<D> Outcomes<D> {
    /// The bytes of the publications.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// A token for the next publication.
    pub(super) fn next_token(&mut self) -> u64 {
        self.last_token += 1;
        self.last_token
    }

    /// Waits for the outcome of a publication. Returns whether it is the only one.
    pub(super) fn insert(
        &mut self,
        token: u64,
        bytes: usize,
        published: Published,
        since: Duration,
        done: D,
    ) -> bool {
        self.bytes += bytes;
        let waiting = Waiting {
            since,
            bytes,
            published,
            done,
        };
        self.waiting.insert(token, waiting);
        self.waiting.len() == 1
    }

    /// Takes what is to be called with an outcome. `None` for one that comes after its time.
    pub(super) fn take(&mut self, outcome: &Outcome) -> Option<(D, Published)> {
        let waiting = self.waiting.remove(&outcome.token)?;
        self.bytes -= waiting.bytes;
        let published = Published::new(outcome.id, outcome.delivered);
        Some((waiting.done, published))
    }

    /// Takes the first one if its time is over.
    pub(super) fn take_overdue(&mut self, now: Duration) -> Option<(D, Published)> {
        let first = self.waiting.first_entry()?;
        if now < first.get().since + OUTCOME_TIMEOUT {
            return None;
        }
        let waiting = first.remove();
        self.bytes -= waiting.bytes;
        Some((waiting.done, waiting.published))
    }

    /// When the time of the first one is over.
    pub(super) fn next_due(&self) -> Option<Duration> {
        let (_, first) = self.waiting.first_key_value()?;
        Some(first.since + OUTCOME_TIMEOUT)
    }

    /// Takes all that will not be called.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = D> {
        self.bytes = 0;
        let waiting = std::mem::take(&mut self.waiting);
        waiting.into_values().map(|waiting| waiting.done)
    }
}
