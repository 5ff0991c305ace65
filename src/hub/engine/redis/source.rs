//! The publications for one client: from the streams in Redis, and then from the log of this reactor.
//!
//! ```text
//!   names wanted ─▶ confirmed by Redis ─┬─ the log reaches back to the cursor ──────────────────────┐
//!                                       └─ streams, or latest values, up to a number ─▶ barrier ─▶ log ─▶ live
//! ```
//!
//! The log has everything from the confirmation on. Publications that the streams have given are left out of it. Behind the barrier this
//! reactor has heard all numbers up to the end of the streams, so that the client gets nothing twice when it is live.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use crate::client::redis::RedisError;
use crate::hub::engine::source::{ReadFor, Ready, Source, Start};
use crate::protocol::resp::Reply;
use crate::pubsub::{
    Body, Entry, EventId, Found, Gap, Page, Reader, Scratch, Since, Wanted, pattern,
};
use crate::reactor::reactor::{Cx, Reactor};

use super::names::{self, Refused};
use super::payload;
use super::shared::{Shared, published_id};
use super::streams::{StreamEntry, StreamPage, Streams};

/// How long a command may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The time after which a read that has failed is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// Most topics with messages of other programs that are looked at for a pattern.
const RAW_TOPICS_MAX: usize = 10_000;

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
    /// The log, once the streams are read.
    log: Option<Reader>,
}

/// The part that changes when answers come.
struct State<S: 'static> {
    stage: Stage<S>,
    /// The page that is there.
    page: Option<StreamPage>,
    ready: Ready<S>,
    names: Vec<(Box<str>, bool)>,
    start: Start,
    epoch: u64,
    /// The breaks of what this reactor hears, when the client began to read.
    break_count: u64,
    /// The newest number was asked for, because the cursor is ahead of this reactor.
    has_head: bool,
    /// The number up to which pages were taken. Zero before the first.
    after: u64,
    /// Publications up to this number came from the streams.
    end: u64,
    /// Where the log begins for the client.
    place: u64,
    is_gone: bool,
    /// Redis has refused to subscribe one of the names.
    is_refused: bool,
    /// The place in the list of those who wait for their names.
    ticket: u64,
}

enum Stage<S: 'static> {
    /// The answer of Redis is awaited.
    Pending,
    /// The next page can be asked for.
    Reader(Streams<S>),
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
        let plain: Vec<Box<str>> = names.iter().map(|(name, _)| name.clone()).collect();
        // The log's reader makes the list of names, each once.
        let begin = Since::Id(EventId::new(0, 0));
        let reader = reactor.read_history(names.clone(), begin, false);
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
                epoch: 0,
                break_count: 0,
                has_head: false,
                after: 0,
                end: 0,
                place: 0,
                is_gone: false,
                is_refused: false,
                ticket: 0,
            })),
            shared: Rc::clone(shared),
            page: Vec::new(),
            log: None,
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
        let gap = |gap: super::streams::StreamGap| Gap {
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
        if let Some((_, last)) = entries.last() {
            self.state.borrow_mut().after = last.number;
        }
        Page {
            gaps,
            entries,
            is_end: false,
        }
    }

    /// The rest of the page that was given last, behind a number to which the client went back.
    fn rest(&mut self) -> Option<Page> {
        let after = self.state.borrow().after;
        let is_wanted = &self.is_wanted;
        (self.page).retain(|(index, entry)| after < entry.number && is_wanted[*index]);
        let entries = self.page.clone();
        let last = entries.last()?.1.number;
        self.state.borrow_mut().after = last;
        Some(Page {
            gaps: Vec::new(),
            entries,
            is_end: false,
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
                true => reactor.id_at(log.after()),
                // The places of an earlier epoch have lost their numbers.
                false => EventId::new(state.epoch, 0),
            };
            state.start = Start::Since(Since::Id(cursor));
            state.after = 0;
        }
        self.page = Vec::new();
        restart(&self.shared, reactor, &self.state);
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
            let end = self.state.borrow().end;
            let is_new = |entry: &Entry| reactor.number_at(entry.number).is_none_or(|it| end < it);
            page.entries.retain(|(_, entry)| is_new(entry));
            // The streams had what the log has forgotten, and the client knows of messages without a number.
            page.gaps
                .retain(|gap| end < reactor.id_at(gap.number).number);
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
            Stage::Reader(streams) => {
                drop(state);
                read_next(&self.shared, reactor, &self.state, streams);
                None
            }
            Stage::Log => {
                state.stage = Stage::Log;
                let names: Vec<(Box<str>, bool)> = (self.wanted.iter().zip(&self.is_wanted))
                    .filter(|(_, is_wanted)| **is_wanted)
                    .map(|(wanted, _)| (wanted.name.clone(), wanted.is_pattern))
                    .collect();
                let place = state.place;
                drop(state);
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
            Some(_) => reactor.id_at(number),
            None => EventId::new(self.state.borrow().epoch, number),
        }
    }

    fn after(&self) -> u64 {
        let after = || self.state.borrow().after;
        self.log.as_ref().map_or_else(after, Reader::after)
    }

    fn cursor(&self, reactor: &Reactor<S>) -> EventId {
        match &self.log {
            Some(log) => reactor.id_at(log.after()),
            None => {
                let state = self.state.borrow();
                EventId::new(state.epoch, state.after)
            }
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
        return restart(shared, reactor, state);
    };
    {
        let mut state = state.borrow_mut();
        if state.epoch != newest.epoch {
            (state.epoch, state.after) = (newest.epoch, 0);
        }
        state.break_count = shared.recovery().borrow().break_count();
    }
    let mut place = covered;
    let (after, tells_gaps, is_latest) = match start {
        Start::Now => return begin_log(reactor, state, reactor.newest_place(), 0),
        Start::Since(since) => (since, true, false),
        Start::Latest(since) => (since.unwrap_or(Since::Earliest), since.is_some(), true),
    };
    let mut is_unknown = false;
    let number =
        match after {
            Since::Earliest => 0,
            Since::Id(id) => match reactor.find_cursor(id) {
                Found::At(place) if is_covered(id, place, covered) && !is_latest => {
                    return begin_log(reactor, state, place, 0);
                }
                Found::Unknown if !state.borrow().has_head => {
                    return find_head(shared, reactor, state);
                }
                Found::Unknown => {
                    is_unknown = true;
                    let gaps = names.iter().enumerate().map(|(index, (name, _))| {
                        super::streams::StreamGap {
                            name: Rc::from(&**name),
                            wanted_index: index,
                            number: newest.number,
                        }
                    });
                    let page = StreamPage {
                        gaps: gaps.collect(),
                        ..StreamPage::default()
                    };
                    state.borrow_mut().page = Some(page);
                    0
                }
                Found::Between(_, last) => {
                    // The client may have got the messages up to there on another node.
                    place = place.max(last);
                    id.number
                }
                Found::At(_) | Found::Before => id.number,
            },
        };
    state.borrow_mut().place = place;
    let tells_gaps = tells_gaps && matches!(after, Since::Id(_)) && !is_unknown;
    let rules = shared.rules().borrow().clone();
    let places = (number, newest.number);
    let (redis, keys) = (shared.redis(), shared.keys());
    let streams = Streams::new(redis, keys, &rules, names.clone(), places, tells_gaps);
    let streams = if is_latest {
        streams.of_latest()
    } else {
        streams
    };
    if !tells_gaps {
        return read_next(shared, reactor, state, streams);
    }
    find_raw_gaps(shared, reactor, state, names, streams);
}

/// Whether the log has everything behind a cursor that stands at a place. The names were confirmed at the place `covered`,
/// but the newest number may have been higher then than the last that this reactor had heard. So a number stands behind
/// the confirmation only where a higher place has it; a place of this log is exact.
fn is_covered(cursor: EventId, place: u64, covered: u64) -> bool {
    covered < place || (covered == place && cursor.unnumbered_place() == Some(place))
}

/// Asks for the newest number: the cursor may be that of a node that is ahead.
fn find_head<S: 'static>(
    shared: &Rc<Shared<S>>,
    reactor: &mut Reactor<S>,
    state: &Rc<RefCell<State<S>>>,
) {
    let head = shared.keys().head();
    let words = ["HMGET", &head, "epoch", "number"];
    let (again, state) = (Rc::clone(shared), Rc::clone(state));
    let redis = shared.redis().clone();
    redis.command_within(reactor, &words, TIMEOUT, move |cx, reply| {
        let head = match reply {
            Ok(reply) => published_id(&reply),
            Err(_) => return restart(&again, cx.reactor, &state),
        };
        let shared = Rc::clone(&again);
        again.redis().barrier(cx.reactor, move |cx, passed| {
            if passed.is_err() || is_broken(&shared, &state.borrow()) {
                return restart(&shared, cx.reactor, &state);
            }
            state.borrow_mut().has_head = true;
            if let Some(head) = head
                && head.epoch == cx.reactor.cursor().epoch
            {
                cx.reactor.note_number(head.number);
            }
            choose(&shared, cx.reactor, &state, Ok(()));
        });
    });
}

/// Looks whether the names have messages of other programs, which only a log has.
fn find_raw_gaps<S: 'static>(
    shared: &Rc<Shared<S>>,
    reactor: &mut Reactor<S>,
    state: &Rc<RefCell<State<S>>>,
    names: Vec<(Box<str>, bool)>,
    streams: Streams<S>,
) {
    let key = shared.keys().raw_topics();
    let has_pattern = names.iter().any(|(_, is_pattern)| *is_pattern);
    let mut words = match has_pattern {
        true => vec![
            "ZRANGE".to_owned(),
            key,
            "0".to_owned(),
            RAW_TOPICS_MAX.to_string(),
        ],
        false => vec!["ZMSCORE".to_owned(), key],
    };
    if !has_pattern {
        words.extend(names.iter().map(|(name, _)| name.to_string()));
    }
    let (again, state) = (Rc::clone(shared), Rc::clone(state));
    let number = reactor.cursor().number;
    let done = move |cx: &mut Cx<'_, S>, reply: Result<Reply<'_>, RedisError>| {
        let reply = match reply {
            Ok(Reply::Error(_)) | Err(_) => return restart(&again, cx.reactor, &state),
            Ok(reply) => reply,
        };
        let topics = reply.as_array().unwrap_or_default();
        let mut page = StreamPage::default();
        for (wanted_index, (name, is_pattern)) in names.iter().enumerate() {
            let is_of_name = |topic: &[u8]| match is_pattern {
                true => pattern::matches(name.as_bytes(), topic),
                false => name.as_bytes() == topic,
            };
            let has_raw = match has_pattern {
                // With too many none is left out.
                true => {
                    RAW_TOPICS_MAX < topics.len()
                        || topics.iter().filter_map(Reply::as_bytes).any(is_of_name)
                }
                false => topics
                    .get(wanted_index)
                    .is_some_and(|it| *it != Reply::Null),
            };
            if has_raw {
                page.gaps.push(super::streams::StreamGap {
                    name: Rc::from(&**name),
                    wanted_index,
                    number,
                });
            }
        }
        if !page.gaps.is_empty() {
            state.borrow_mut().page = Some(page);
        }
        read_next(&again, cx.reactor, &state, streams);
    };
    shared
        .redis()
        .command_within(reactor, &words, TIMEOUT, done);
}

/// Asks for the next page of the streams.
fn read_next<S: 'static>(
    shared: &Rc<Shared<S>>,
    reactor: &mut Reactor<S>,
    state: &Rc<RefCell<State<S>>>,
    streams: Streams<S>,
) {
    let (again, of_page) = (Rc::clone(shared), Rc::clone(state));
    streams.next_page(reactor, move |cx, page| {
        if of_page.borrow().is_gone {
            return;
        }
        let page = page.ok().filter(|_| !is_broken(&again, &of_page.borrow()));
        let Some((streams, page)) = page else {
            // The link is lost: the names are confirmed again, and then the client reads from where it was.
            return restart(&again, cx.reactor, &of_page);
        };
        let mut has_barrier = false;
        let end = streams.end();
        {
            let mut state = of_page.borrow_mut();
            state.end = end;
            has_barrier |= page.is_end;
            match &mut state.page {
                Some(earlier) => {
                    earlier.gaps.extend(page.gaps);
                    earlier.entries.extend(page.entries);
                }
                None => state.page = Some(page),
            }
            if !has_barrier {
                state.stage = Stage::Reader(streams);
            }
        }
        match has_barrier {
            true => {
                let (state, shared) = (Rc::clone(&of_page), Rc::clone(&again));
                again.redis().barrier(cx.reactor, move |cx, passed| {
                    if passed.is_err() || is_broken(&shared, &state.borrow()) {
                        return restart(&shared, cx.reactor, &state);
                    }
                    // This reactor has heard everything up to there.
                    cx.reactor.note_number(end);
                    state.borrow_mut().stage = Stage::Log;
                    call_ready(cx.reactor, &state);
                });
            }
            false => call_ready(cx.reactor, &of_page),
        }
    });
}

/// Whether this reactor has not heard everything since the client began to read. Numbers that it has read of Redis
/// since must not be noted as heard.
fn is_broken<S: 'static>(shared: &Shared<S>, state: &State<S>) -> bool {
    let recovery = shared.recovery().borrow();
    !recovery.is_ready() || recovery.break_count() != state.break_count
}

/// Begins again behind what the client has, when its names are confirmed.
fn restart<S: 'static>(
    shared: &Rc<Shared<S>>,
    reactor: &mut Reactor<S>,
    state: &Rc<RefCell<State<S>>>,
) {
    let names: Vec<Box<str>> = {
        let mut state = state.borrow_mut();
        state.stage = Stage::Pending;
        state.page = None;
        (state.has_head, state.end) = (false, 0);
        if state.after != 0 {
            let cursor = EventId::new(state.epoch, state.after);
            state.start = Start::Since(Since::Id(cursor));
        }
        state.names.iter().map(|(name, _)| name.clone()).collect()
    };
    let (shared, state) = (Rc::clone(shared), Rc::clone(state));
    reactor.after(RETRY, move |cx| {
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

fn begin_log<S: 'static>(
    reactor: &mut Reactor<S>,
    state: &Rc<RefCell<State<S>>>,
    place: u64,
    end: u64,
) {
    {
        let mut state = state.borrow_mut();
        (state.stage, state.place, state.end) = (Stage::Log, place, end);
    }
    call_ready(reactor, state);
}

fn call_ready<S: 'static>(reactor: &mut Reactor<S>, state: &Rc<RefCell<State<S>>>) {
    let ready = state.borrow().ready.clone();
    if let Some(call) = ready.take() {
        call(reactor);
    }
}
