//! The publications for one client: from the streams in Redis, and then from the log of this reactor.
//!
//! ```text
//!   names wanted ─▶ confirmed by Redis ─┬─ the log reaches back to the cursor ──────────────────────┐
//!                                       └─ streams, or latest values, up to a number ─▶ barrier ─▶ log ─▶ live
//!                                              ▲            one bucket after the other  │
//!                                              └────────────────────────────────────────┘
//! ```
//!
//! The log has everything from the confirmation on. Publications that the streams have given are left out of it. Behind
//! the barrier this reactor has heard all numbers of the bucket up to the end of the streams, so that the client gets nothing
//! twice when it is live. The buckets have no order among each other, so that they are read one after the other.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use crate::hub::engine::source::{ReadFor, Ready, Source, Start};
use crate::pubsub::{Body, Entry, EventId, Found, Gap, Page, Reader, Scratch, Since, Wanted};
use crate::reactor::reactor::Reactor;

use super::head;
use super::names::{self, Refused};
use super::payload;
use super::raw_topics;
use super::refusals::{ReadError, Refusal};
use super::shared::Shared;
use super::streams::{StreamEntry, StreamGap, StreamPage, Streams};

/// The time after which a client begins again. It doubles with each refusal, up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(500);

const RETRY_MAX: Duration = Duration::from_secs(16);

/// The publications for a client that has asked for names.
pub struct RedisSource<S: 'static> {
    names: Vec<Box<str>>,
    /// The names as streams know them; some may not be wanted any more.
    wanted: Vec<Wanted>,
    is_wanted: Vec<bool>,
    state: Rc<RefCell<State<S>>>,
    shared: Rc<Shared<S>>,
    /// The page that was given last, of the streams. It is dropped with the next one.
    page: Vec<(usize, Entry)>,
    /// That page is the last one of its bucket.
    page_ends_section: bool,
    /// The log, once the streams are read.
    log: Option<Reader>,
    /// The newest place of the log when the client began to read it.
    log_head: u64,
}

/// The part that changes when answers come.
struct State<S: 'static> {
    stage: Stage<S>,
    /// The page that is there.
    page: Option<StreamPage>,
    ready: Ready<S>,
    names: Vec<(Box<str>, bool)>,
    start: Start,
    /// Whether gaps of the streams are told: the client has a cursor.
    tells_gaps: bool,
    /// Only the latest values are wanted.
    is_latest: bool,
    epoch: u64,
    /// The breaks of what this reactor hears, when the client began to read.
    break_count: u64,
    /// The newest numbers were asked for, because the cursor is ahead of this reactor.
    has_heads: bool,
    /// The number up to which the client has each bucket, when it began with the one that it reads now.
    numbers: Vec<u64>,
    /// Something was taken from the streams, so that these numbers are a cursor.
    has_taken: bool,
    /// The bucket that is read.
    bucket: usize,
    /// The buckets that are read behind it.
    buckets: VecDeque<usize>,
    /// The number in this bucket up to which pages were taken. Zero before the first.
    after: u64,
    /// Publications of each bucket up to this number came from the streams. Empty where none did.
    ends: Vec<u64>,
    /// The numbers of a cursor that stands in the log: publications behind its place may have lower ones, which the client
    /// got from the streams. Empty without one.
    got: Vec<u64>,
    /// Where the log begins for the client.
    place: u64,
    is_gone: bool,
    /// Redis has refused to subscribe one of the names.
    is_refused: bool,
    /// The place in the list of those who wait for their names.
    ticket: u64,
    /// The pause after the next refusal.
    retry: Duration,
}

impl<S: 'static> State<S> {
    /// The cursor behind a number of the bucket that is read.
    fn id_at(&self, number: u64) -> EventId {
        let mut numbers = self.numbers.clone();
        numbers[self.bucket] = number;
        EventId::of_buckets(self.epoch, &numbers)
    }

    /// The cursor behind everything that was taken.
    fn cursor(&self) -> EventId {
        match self.after {
            0 => EventId::of_buckets(self.epoch, &self.numbers),
            after => self.id_at(after),
        }
    }

    /// Whether the streams have given a publication of a bucket with a number.
    fn is_read(&self, bucket: usize, number: u64) -> bool {
        self.ends.get(bucket).is_some_and(|end| number <= *end)
    }

    /// Whether the client has a publication of the log with a number.
    fn has_got(&self, bucket: usize, number: u64) -> bool {
        let has_got = self.got.get(bucket).is_some_and(|got| number <= *got);
        has_got || self.is_read(bucket, number)
    }

    /// The bucket has been read to its end.
    fn end_bucket(&mut self) {
        let end = self.ends[self.bucket];
        (self.numbers[self.bucket], self.after, self.has_taken) = (end, 0, true);
    }
}

enum Stage<S: 'static> {
    /// The answer of Redis is awaited.
    Pending,
    /// The next page can be asked for.
    Reader(Box<Streams<S>>, Rc<[usize]>),
    /// The last page of a bucket is there.
    BucketEnd,
    /// All that is behind the streams is in the log.
    Log,
}

impl<S: 'static> RedisSource<S> {
    pub(super) fn begin(
        shared: &Rc<Shared<S>>,
        reactor: &mut Reactor<S>,
        names: Vec<(Box<str>, bool)>,
        start: Start,
    ) -> RedisSource<S> {
        // The log's reader makes the list of names, each once. All indexes are of this list.
        let begin = Since::Id(EventId::new(0, 0));
        let reader = reactor.read_history(names, begin, false);
        let names: Vec<(Box<str>, bool)> = (reader.wanted().iter())
            .map(|wanted| (wanted.name.clone(), wanted.is_pattern))
            .collect();
        let plain: Vec<Box<str>> = names.iter().map(|(name, _)| name.clone()).collect();
        let source = RedisSource {
            is_wanted: vec![true; reader.wanted().len()],
            wanted: reader.wanted().to_vec(),
            names: plain.clone(),
            state: Rc::new(RefCell::new(State {
                stage: Stage::Pending,
                page: None,
                ready: Ready::default(),
                names,
                start,
                tells_gaps: false,
                is_latest: false,
                epoch: 0,
                break_count: 0,
                has_heads: false,
                numbers: vec![0; shared.keys().bucket_count()],
                has_taken: false,
                bucket: 0,
                buckets: VecDeque::new(),
                after: 0,
                ends: Vec::new(),
                got: Vec::new(),
                place: 0,
                is_gone: false,
                is_refused: false,
                ticket: 0,
                retry: RETRY_MIN,
            })),
            shared: Rc::clone(shared),
            page: Vec::new(),
            page_ends_section: false,
            log: None,
            log_head: 0,
        };
        let (state, again) = (Rc::clone(&source.state), Rc::clone(shared));
        let ticket = names::want(
            shared.names(),
            reactor,
            &plain,
            move |reactor, confirmed| choose(&again, reactor, &state, confirmed),
        );
        source.state.borrow_mut().ticket = ticket;
        source
    }

    /// Takes the page of the streams that has come.
    fn stream_page(&mut self, page: StreamPage) -> Page {
        let mut scratch = Scratch::default();
        let (is_wanted, wanted) = (&self.is_wanted, &self.wanted);
        let gap = |gap: StreamGap| Gap {
            is_pattern: wanted[gap.wanted_index].is_pattern
                && *wanted[gap.wanted_index].name == *gap.name,
            name: Box::from(&*gap.name),
            wanted_index: gap.wanted_index,
            number: gap.number,
        };
        let gaps = page
            .gaps
            .into_iter()
            .filter(|gap| is_wanted[gap.wanted_index]);
        let gaps = gaps.map(gap).collect();
        let entry = |entry: StreamEntry| {
            let numbered = payload::parse(&entry.message)?;
            let body = Body::new(&entry.topic, &numbered.event, &mut scratch);
            Some((entry.wanted_index, Entry::new(entry.number, body)))
        };
        let entries: Vec<_> = (page.entries.into_iter())
            .filter(|entry| is_wanted[entry.wanted_index])
            .filter_map(entry)
            .collect();
        self.page = entries.clone();
        self.page_ends_section = page.is_end;
        self.note_taken(&entries);
        Page {
            gaps,
            entries,
            is_end: false,
            ends_section: self.page_ends_section,
        }
    }

    fn note_taken(&self, entries: &[(usize, Entry)]) {
        if let Some((_, last)) = entries.last() {
            let mut state = self.state.borrow_mut();
            (state.after, state.has_taken, state.retry) = (last.number, true, RETRY_MIN);
        }
    }

    /// The rest of the page that was given last, behind a number to which the client went back.
    fn rest(&mut self) -> Option<Page> {
        let after = self.state.borrow().after;
        let is_wanted = &self.is_wanted;
        (self.page).retain(|(index, entry)| after < entry.number && is_wanted[*index]);
        let entries = self.page.clone();
        entries.last()?;
        self.note_taken(&entries);
        Some(Page {
            gaps: Vec::new(),
            entries,
            is_end: false,
            ends_section: self.page_ends_section,
        })
    }

    /// Whether the client reads, and this reactor has not heard everything since it began. Members are told of that
    /// break and get publications with numbers, but this client is no member yet.
    fn is_broken(&self) -> bool {
        let state = self.state.borrow();
        let is_reading = !matches!(state.stage, Stage::Pending);
        is_reading && is_broken(&self.shared, &state)
    }

    /// Begins again behind what the client has got from the log or from the streams.
    fn begin_again(&mut self, reactor: &mut Reactor<S>) {
        if let Some(log) = self.log.take() {
            let mut state = self.state.borrow_mut();
            let cursor = match state.epoch == reactor.epoch() {
                true => cursor_in_log(reactor, &state, log.after()),
                // The places of an earlier epoch have lost their numbers.
                false => EventId::new(state.epoch, 0),
            };
            state.start = Start::Since(Since::Id(cursor));
            (state.after, state.has_taken) = (0, false);
        }
        self.page = Vec::new();
        restart(&self.shared, reactor, &self.state, None);
    }

    fn hide(
        reactor: &mut Reactor<S>,
        wanted: &[Wanted],
        shared: &Shared<S>,
        read_for: &ReadFor<'_>,
        page: &mut Page,
    ) {
        let rules = shared.rules().borrow();
        let is_seen = |index: usize, topic: &str| {
            !wanted[index].is_pattern
                || match read_for {
                    ReadFor::Client(id) => !reactor.is_hidden(topic, *id),
                    ReadFor::Granted(is_granted) => is_granted(topic, rules.of(topic)),
                }
        };
        page.entries
            .retain(|(index, entry)| is_seen(*index, entry.body.topic()));
        page.gaps
            .retain(|gap| gap.is_pattern || is_seen(gap.wanted_index, &gap.name));
    }
}

impl<S: 'static> Source<S> for RedisSource<S> {
    fn page(
        &mut self,
        reactor: &mut Reactor<S>,
        bytes_max: usize,
        read_for: &ReadFor<'_>,
    ) -> Option<Page> {
        if self.is_broken() {
            self.begin_again(reactor);
            return None;
        }
        if let Some(log) = &mut self.log {
            let mut page = log.page(reactor, bytes_max, read_for)?;
            let state = self.state.borrow();
            let has_got = |(bucket, number)| state.has_got(bucket, number);
            let is_new = |entry: &Entry| !reactor.number_at(entry.number).is_some_and(has_got);
            page.entries.retain(|(_, entry)| is_new(entry));
            // The streams had what the log had forgotten by then, and the client knows of messages without a number.
            let (keys, log_head) = (self.shared.keys(), self.log_head);
            page.gaps.retain(|gap| {
                if log_head < gap.number {
                    return true;
                }
                let id = reactor.id_at(gap.number);
                let is_new = |bucket| !state.is_read(bucket, id.number_in(bucket));
                match gap.is_pattern {
                    true => (0..keys.bucket_count()).any(is_new),
                    false => is_new(keys.bucket_of(&gap.name)),
                }
            });
            drop(state);
            return Some(page);
        }
        if let Some(mut page) = self.rest() {
            Self::hide(reactor, &self.wanted, &self.shared, read_for, &mut page);
            return Some(page);
        }
        let page = self.state.borrow_mut().page.take();
        if let Some(page) = page {
            let mut page = self.stream_page(page);
            Self::hide(reactor, &self.wanted, &self.shared, read_for, &mut page);
            return Some(page);
        }
        let mut state = self.state.borrow_mut();
        match std::mem::replace(&mut state.stage, Stage::Pending) {
            Stage::Pending => None,
            Stage::Reader(streams, indexes) => {
                drop(state);
                read_next(&self.shared, reactor, &self.state, *streams, indexes);
                None
            }
            Stage::BucketEnd => {
                state.end_bucket();
                drop(state);
                self.page = Vec::new();
                begin_bucket(&self.shared, reactor, &self.state);
                self.page(reactor, bytes_max, read_for)
            }
            Stage::Log => {
                state.stage = Stage::Log;
                let names: Vec<(Box<str>, bool)> = (self.wanted.iter().zip(&self.is_wanted))
                    .filter(|(_, is_wanted)| **is_wanted)
                    .map(|(wanted, _)| (wanted.name.clone(), wanted.is_pattern))
                    .collect();
                let place = state.place;
                drop(state);
                self.log_head = reactor.newest_place();
                self.log = Some(reactor.read_log(names, place));
                self.page(reactor, bytes_max, read_for)
            }
        }
    }

    fn ready(&self) -> Ready<S> {
        self.state.borrow().ready.clone()
    }

    fn id_at(&self, reactor: &Reactor<S>, number: u64) -> EventId {
        match self.log {
            Some(_) => cursor_in_log(reactor, &self.state.borrow(), number),
            None => self.state.borrow().id_at(number),
        }
    }

    fn after(&self) -> u64 {
        let after = || self.state.borrow().after;
        self.log.as_ref().map_or_else(after, Reader::after)
    }

    fn cursor(&self, reactor: &Reactor<S>) -> EventId {
        match &self.log {
            Some(log) => cursor_in_log(reactor, &self.state.borrow(), log.after()),
            None => self.state.borrow().cursor(),
        }
    }

    fn is_here(&self) -> bool {
        self.log.is_some()
    }

    fn is_refused(&self) -> bool {
        self.state.borrow().is_refused
    }

    fn rewind(&mut self, number: u64) {
        match &mut self.log {
            Some(log) => log.rewind(number),
            None => self.state.borrow_mut().after = number,
        }
    }

    fn wanted(&self) -> &[Wanted] {
        self.log.as_ref().map_or(&self.wanted, Reader::wanted)
    }

    fn retain(&mut self, is_wanted: &mut dyn FnMut(&str) -> bool) {
        if let Some(log) = &mut self.log {
            return log.retain(is_wanted);
        }
        for (index, wanted) in self.wanted.iter().enumerate() {
            self.is_wanted[index] &= is_wanted(&wanted.name);
        }
    }
}

impl<S: 'static> Drop for RedisSource<S> {
    fn drop(&mut self) {
        let ticket = {
            let mut state = self.state.borrow_mut();
            state.is_gone = true;
            state.ticket
        };
        let names = std::mem::take(&mut self.names);
        let mut all = self.shared.names().borrow_mut();
        all.forget(ticket);
        all.settle_later(names);
    }
}

/// The names are confirmed: chooses where the client reads.
fn choose<S: 'static>(
    shared: &Rc<Shared<S>>,
    reactor: &mut Reactor<S>,
    state: &Rc<RefCell<State<S>>>,
    confirmed: Result<(), Refused>,
) {
    if state.borrow().is_gone {
        return;
    }
    if confirmed.is_err() {
        state.borrow_mut().is_refused = true;
        return call_ready(reactor, state);
    }
    let (names, start) = {
        let state = state.borrow();
        (state.names.clone(), state.start)
    };
    let newest = reactor.cursor();
    let covered = (shared.names().borrow()).covered_from(names.iter().map(|(name, _)| &**name));
    let Some(covered) = covered else {
        // The link was lost in between.
        return restart(shared, reactor, state, None);
    };
    {
        let mut state = state.borrow_mut();
        if state.epoch != newest.epoch {
            (state.epoch, state.after, state.has_taken) = (newest.epoch, 0, false);
        }
        state.break_count = shared.recovery().borrow().break_count();
    }
    let mut place = covered;
    let (after, tells_gaps, is_latest) = match start {
        Start::Now => return begin_log(reactor, state, reactor.newest_place(), None),
        Start::Since(since) => (since, true, false),
        Start::Latest(since) => (since.unwrap_or(Since::Earliest), since.is_some(), true),
    };
    let keys = shared.keys();
    let has_pattern = names.iter().any(|(_, is_pattern)| *is_pattern);
    let is_wanted =
        |bucket| has_pattern || (names.iter()).any(|(name, _)| keys.bucket_of(name) == bucket);
    // In another epoch, or with another count of buckets, no newer number makes the cursor known.
    let may_be_ahead =
        |id: EventId| id.epoch == newest.epoch && id.bucket_count() == keys.bucket_count();
    let mut is_unknown = false;
    let cursor = match after {
        Since::Earliest => None,
        Since::Id(id) => match reactor.find_cursor(id) {
            Found::At(at) if covered <= at && !is_latest => {
                let buckets = (0..keys.bucket_count()).filter(|bucket| is_wanted(*bucket));
                if is_covered(reactor, id, at, covered, buckets) {
                    return begin_log(reactor, state, at, Some(id));
                }
                // The client may have got the messages without a number up to there, on another node.
                place = at;
                Some(id)
            }
            Found::Unknown if may_be_ahead(id) && !state.borrow().has_heads => {
                return find_heads(shared, reactor, state);
            }
            Found::Unknown => {
                is_unknown = true;
                None
            }
            Found::Between(_, last) | Found::Crossed(last) => {
                // The client may have got the messages up to there on another node.
                place = place.max(last);
                Some(id)
            }
            Found::At(_) | Found::Before => Some(id),
        },
    };
    {
        let mut state = state.borrow_mut();
        state.place = place;
        state.tells_gaps = cursor.is_some() && tells_gaps;
        state.is_latest = is_latest;
        let buckets = 0..keys.bucket_count();
        state.numbers = (buckets.clone())
            .map(|bucket| {
                let number = cursor.map_or(0, |cursor| cursor.number_in(bucket));
                match is_wanted(bucket) {
                    true => number,
                    // The client has nothing to get there.
                    false => number.max(reactor.newest_number(bucket)),
                }
            })
            .collect();
        state.ends = state.numbers.clone();
        state.buckets = buckets.filter(|bucket| is_wanted(*bucket)).collect();
        if let Some(bucket) = state.buckets.front() {
            state.bucket = *bucket;
        }
        if is_unknown {
            // In front of all messages: a client that breaks off behind one of them has been told.
            let number = state.numbers.get(state.bucket).copied().unwrap_or(0);
            let gaps = names.iter().enumerate();
            let gaps = gaps.map(|(wanted_index, (name, _))| StreamGap {
                name: Rc::from(&**name),
                wanted_index,
                number,
            });
            state.page = Some(StreamPage {
                gaps: gaps.collect(),
                ..StreamPage::default()
            });
        }
    }
    let tells_gaps = state.borrow().tells_gaps;
    match tells_gaps {
        true => find_raw_gaps(shared, reactor, state, names),
        false => begin_bucket(shared, reactor, state),
    }
}

/// Begins to read the next bucket, or the log behind the last one.
fn begin_bucket<S: 'static>(
    shared: &Rc<Shared<S>>,
    reactor: &mut Reactor<S>,
    state: &Rc<RefCell<State<S>>>,
) {
    let keys = shared.keys();
    let (streams, indexes) = {
        let mut state = state.borrow_mut();
        let Some(bucket) = state.buckets.pop_front() else {
            (state.stage, state.retry) = (Stage::Log, RETRY_MIN);
            return;
        };
        state.bucket = bucket;
        let is_of_bucket =
            |(name, is_pattern): &(Box<str>, bool)| *is_pattern || keys.bucket_of(name) == bucket;
        let (indexes, names): (Vec<usize>, Vec<_>) = (state.names.iter().cloned().enumerate())
            .filter(|(_, name)| is_of_bucket(name))
            .unzip();
        let end = reactor.newest_number(bucket);
        let places = (state.numbers[bucket], end);
        let rules = shared.rules().borrow().clone();
        let shard = shared.bucket(bucket);
        let streams = Streams::new(&shard, &rules, names, places, state.tells_gaps);
        let streams = match state.is_latest {
            true => streams.of_latest(),
            false => streams,
        };
        (streams, indexes)
    };
    read_next(shared, reactor, state, streams, indexes.into());
}

/// Whether the log has everything of these buckets behind a cursor that stands at a place. The names were confirmed at
/// the place `covered`, but the newest number of a bucket may have been higher then than the last that this reactor had
/// heard. So a number stands behind the confirmation only where a higher place has it; a place of this log is exact.
fn is_covered<S: 'static>(
    reactor: &Reactor<S>,
    cursor: EventId,
    place: u64,
    covered: u64,
    mut buckets: impl Iterator<Item = usize>,
) -> bool {
    cursor.log_place() == Some(place)
        || buckets.all(|bucket| covered < reactor.bucket_place(bucket, place))
}

/// Asks for the newest numbers: the cursor may be that of a node that is ahead.
fn find_heads<S: 'static>(
    shared: &Rc<Shared<S>>,
    reactor: &mut Reactor<S>,
    state: &Rc<RefCell<State<S>>>,
) {
    let (again, of_client) = (Rc::clone(shared), Rc::clone(state));
    let break_count = state.borrow().break_count;
    head::note_all(shared, reactor, break_count, move |reactor, noted| {
        if let Err(refusal) = noted {
            return restart(&again, reactor, &of_client, refusal);
        }
        of_client.borrow_mut().has_heads = true;
        choose(&again, reactor, &of_client, Ok(()));
    });
}

/// Makes a gap of each name that may have messages of other programs, which only a log has.
fn find_raw_gaps<S: 'static>(
    shared: &Rc<Shared<S>>,
    reactor: &mut Reactor<S>,
    state: &Rc<RefCell<State<S>>>,
    names: Vec<(Box<str>, bool)>,
) {
    let number = reactor.newest_number(state.borrow().bucket);
    let (again, of_client) = (Rc::clone(shared), Rc::clone(state));
    raw_topics::find(shared, reactor, names, move |reactor, found| {
        let gaps: Vec<StreamGap> = match found {
            Ok(found) => (found.into_iter())
                .map(|(wanted_index, name)| StreamGap {
                    name: Rc::from(name),
                    wanted_index,
                    number,
                })
                .collect(),
            Err(error) => return restart(&again, reactor, &of_client, error.into_refusal()),
        };
        if !gaps.is_empty() {
            of_client.borrow_mut().page = Some(StreamPage {
                gaps,
                ..StreamPage::default()
            });
        }
        begin_bucket(&again, reactor, &of_client);
    });
}

/// Asks for the next page of the streams. `indexes` are those of their names among all names.
fn read_next<S: 'static>(
    shared: &Rc<Shared<S>>,
    reactor: &mut Reactor<S>,
    state: &Rc<RefCell<State<S>>>,
    streams: Streams<S>,
    indexes: Rc<[usize]>,
) {
    let (again, of_page) = (Rc::clone(shared), Rc::clone(state));
    streams.next_page(reactor, move |cx, page| {
        if of_page.borrow().is_gone {
            return;
        }
        let now = cx.reactor.now();
        let (streams, mut page) = match page {
            Ok(it) if !is_broken(&again, &of_page.borrow()) => it,
            page => {
                let refusal = page.err().and_then(ReadError::into_refusal);
                // The link may be lost: the names are confirmed again, and then the client reads from where it was.
                return restart(&again, cx.reactor, &of_page, refusal);
            }
        };
        for refusal in &page.refusals {
            again.refusals().borrow_mut().note_gap(refusal, now);
        }
        let (end, is_end) = (streams.end(), page.is_end);
        for gap in &mut page.gaps {
            gap.wanted_index = indexes[gap.wanted_index];
        }
        for entry in &mut page.entries {
            entry.wanted_index = indexes[entry.wanted_index];
        }
        let bucket = {
            let mut state = of_page.borrow_mut();
            let bucket = state.bucket;
            state.ends[bucket] = end;
            match &mut state.page {
                Some(earlier) => {
                    earlier.add_gaps(page.gaps);
                    earlier.entries.extend(page.entries);
                    earlier.is_end = is_end;
                }
                None => state.page = Some(page),
            }
            if !is_end {
                state.stage = Stage::Reader(Box::new(streams), indexes);
            }
            bucket
        };
        if !is_end {
            return call_ready(cx.reactor, &of_page);
        }
        let (state, shared) = (Rc::clone(&of_page), Rc::clone(&again));
        (again.links()).barrier(cx.reactor, bucket, move |cx, passed| {
            if passed.is_err() || is_broken(&shared, &state.borrow()) {
                return restart(&shared, cx.reactor, &state, None);
            }
            // This reactor has heard everything up to there.
            cx.reactor.note_number(bucket, end);
            state.borrow_mut().stage = Stage::BucketEnd;
            call_ready(cx.reactor, &state);
        });
    });
}

/// Whether this reactor has not heard everything since the client began to read. Numbers that it has read of Redis
/// since must not be noted as heard.
fn is_broken<S: 'static>(shared: &Shared<S>, state: &State<S>) -> bool {
    let recovery = shared.recovery().borrow();
    !recovery.is_ready() || recovery.break_count() != state.break_count
}

/// Begins again behind what the client has, when its names are confirmed. The pause grows only with refusals, which last
/// until a person mends their cause: a lost link is back soon, and the client gets nothing before it has read.
fn restart<S: 'static>(
    shared: &Rc<Shared<S>>,
    reactor: &mut Reactor<S>,
    state: &Rc<RefCell<State<S>>>,
    refusal: Option<Refusal>,
) {
    let mut pause = RETRY_MIN;
    if let Some(refusal) = refusal {
        let now = reactor.now();
        shared.refusals().borrow_mut().note_retry(&refusal, now);
        let retry = &mut state.borrow_mut().retry;
        pause = std::mem::replace(retry, RETRY_MAX.min(2 * *retry));
    }
    let names: Vec<Box<str>> = {
        let mut state = state.borrow_mut();
        state.stage = Stage::Pending;
        state.page = None;
        state.has_heads = false;
        if state.has_taken {
            state.start = Start::Since(Since::Id(state.cursor()));
        }
        state.ends.clear();
        state.got.clear();
        state.names.iter().map(|(name, _)| name.clone()).collect()
    };
    let (shared, state) = (Rc::clone(shared), Rc::clone(state));
    reactor.after(pause, move |cx| {
        if state.borrow().is_gone {
            return;
        }
        let (again, of_client) = (Rc::clone(&shared), Rc::clone(&state));
        let choose = move |reactor: &mut Reactor<S>, confirmed| {
            choose(&again, reactor, &of_client, confirmed);
        };
        let ticket = names::wait_for(shared.names(), cx.reactor, &names, choose);
        state.borrow_mut().ticket = ticket;
    });
}

/// The cursor behind what a client has got of the streams, and of the log up to a place.
fn cursor_in_log<S: 'static>(reactor: &Reactor<S>, state: &State<S>, place: u64) -> EventId {
    let id = reactor.id_at(place);
    match id.epoch == state.epoch {
        true => id.raised_to(&state.ends).raised_to(&state.got),
        false => id,
    }
}

/// Begins to read the log at a place, which is that of a cursor if there is one.
fn begin_log<S: 'static>(
    reactor: &mut Reactor<S>,
    state: &Rc<RefCell<State<S>>>,
    place: u64,
    cursor: Option<EventId>,
) {
    {
        let mut state = state.borrow_mut();
        (state.stage, state.place, state.retry) = (Stage::Log, place, RETRY_MIN);
        state.ends.clear();
        state.got = cursor.map_or_else(Vec::new, |cursor| {
            let buckets = 0..cursor.bucket_count();
            buckets.map(|bucket| cursor.number_in(bucket)).collect()
        });
    }
    call_ready(reactor, state);
}

fn call_ready<S: 'static>(reactor: &mut Reactor<S>, state: &Rc<RefCell<State<S>>>) {
    let ready = state.borrow().ready.clone();
    if let Some(call) = ready.take() {
        call(reactor);
    }
}
