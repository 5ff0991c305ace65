//! Reading publications from the streams in Redis, merged in the order of their numbers.
//!
//! ```text
//!   names ─▶ topics ─▶ [XRANGE of topics with more] ─▶ merge ─▶ page
//!    patterns: by the topics that changed behind the cursor
//! ```
//!
//! The end is a number that was read before: everything up to it stands in the streams, because the script that
//! numbers also stores. Each entry names the number before it in its topic, so that a reader sees what was
//! forgotten, also while it reads.
//!
//! An answer that is too large would end the link, so few entries are read at a time where they are large.
//!
//! A topic whose key Redis refuses to read is a gap, and the others are read. Any other refusal ends the reader.

mod merge;

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use crate::protocol::resp::Reply;
use crate::pubsub::{Rules, pattern};
use crate::reactor::reactor::{Cx, Reactor};

use super::links::Bucket;
use super::refusals::{ReadError, answered};
use merge::Merge;
pub(super) use merge::{StreamEntry, StreamGap, StreamPage};

/// Most topics in one answer of those that have changed.
const CHANGED_MAX: usize = 1000;

/// Most topics of patterns that are read for one reader. For more it is told of a gap.
const TOPICS_MAX: usize = 10_000;

/// How long a command may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A reader of the streams of topics and patterns in one bucket.
pub(super) struct Streams<S: 'static> {
    bucket: Bucket<S>,
    rules: Rules,
    /// The names that are wanted, each with whether it is a pattern.
    names: Vec<(Box<str>, bool)>,
    has_topics: bool,
    merge: Merge,
}

/// Called with the reader and its next page, or with the reason why there is none.
type OnPage<S> = Box<dyn FnOnce(&mut Cx<'_, S>, Result<(Streams<S>, StreamPage), ReadError>)>;

/// A round of answers on their way.
struct Pending<S: 'static> {
    streams: Streams<S>,
    /// Topics that are read in this round.
    topic_count: usize,
    /// The indexes of those that were not asked for yet.
    waiting: VecDeque<usize>,
    /// Answers that have not come.
    asked_count: usize,
    error: Option<ReadError>,
    done: OnPage<S>,
}

impl<S: 'static> Streams<S> {
    /// Reads the names behind a number, up to `end`. Topics among them are of the bucket. Without `tells_gaps` it begins
    /// with the oldest that is there, without a gap.
    pub(super) fn new(
        bucket: &Bucket<S>,
        rules: &Rules,
        names: Vec<(Box<str>, bool)>,
        (after, end): (u64, u64),
        tells_gaps: bool,
    ) -> Streams<S> {
        Streams {
            bucket: bucket.clone(),
            rules: rules.clone(),
            names,
            has_topics: false,
            merge: Merge::new(after, end, tells_gaps),
        }
    }

    /// Reads the latest value of each key instead.
    pub(super) fn of_latest(mut self) -> Streams<S> {
        self.merge.set_latest();
        self
    }

    /// Reads the next page, and gives the reader back with it.
    pub(super) fn next_page(
        mut self,
        reactor: &mut Reactor<S>,
        done: impl FnOnce(&mut Cx<'_, S>, Result<(Streams<S>, StreamPage), ReadError>) + 'static,
    ) {
        if !self.has_topics {
            self.has_topics = true;
            return self.find_topics(reactor, Box::new(done));
        }
        self.read_topics(reactor, Box::new(done));
    }

    /// `last` is the number of its newest publication, which is stored like all before it.
    fn add_topic(&mut self, topic: &str, wanted_index: usize, last: u64) {
        let age_seconds = self.rules.of(topic).history_age.as_secs();
        (self.merge).add_topic(topic, wanted_index, last, age_seconds);
    }

    /// Asks for the floor of the topics that are forgotten.
    fn find_topics(self, reactor: &mut Reactor<S>, done: OnPage<S>) {
        let bucket = self.bucket.clone();
        let head = bucket.keys().head(bucket.index());
        let (words, key) = (["HGET", &head, "floor"], head.clone());
        bucket.command_within(reactor, &words, TIMEOUT, move |cx, reply| {
            match answered("HGET", &key, reply) {
                Ok(reply) => {
                    let floor = reply.as_integer().unwrap_or_default() as u64;
                    self.find_named(cx.reactor, floor, done);
                }
                Err(error) => done(cx, Err(error)),
            }
        });
    }

    /// Asks for the last number of each topic that is wanted by its name.
    fn find_named(mut self, reactor: &mut Reactor<S>, floor: u64, done: OnPage<S>) {
        let is_pattern = |index: &usize| self.names[*index].1;
        let (patterns, named): (Vec<_>, Vec<_>) = (0..self.names.len()).partition(is_pattern);
        let is_forgotten = self.merge.tells_gaps() && self.merge.after() < floor;
        if is_forgotten {
            for index in &patterns {
                self.add_gap(*index, floor);
            }
        }
        if named.is_empty() {
            let after = self.merge.after();
            return self.find_changed(reactor, after, done);
        }
        let bucket = self.bucket.clone();
        let topics = bucket.keys().topics(bucket.index());
        let mut words = vec!["ZMSCORE".to_owned(), topics.clone()];
        words.extend(named.iter().map(|index| self.names[*index].0.to_string()));
        bucket.command_within(reactor, &words, TIMEOUT, move |cx, reply| {
            let reply = match answered("ZMSCORE", &topics, reply) {
                Ok(reply) => reply,
                Err(error) => return done(cx, Err(error)),
            };
            let lasts = reply.as_array().unwrap_or_default().iter().map(score);
            for (index, last) in named.into_iter().zip(lasts) {
                match last {
                    Some(last) => {
                        let topic = self.names[index].0.clone();
                        self.add_topic(&topic, index, last);
                    }
                    // It never had a publication, or was forgotten.
                    None if is_forgotten => self.add_gap(index, floor),
                    None => {}
                }
            }
            let after = self.merge.after();
            match patterns.is_empty() {
                true => self.read_topics(cx.reactor, done),
                false => self.find_changed(cx.reactor, after, done),
            }
        });
    }

    fn add_gap(&mut self, wanted_index: usize, number: u64) {
        let name = &self.names[wanted_index].0;
        self.merge.add_gap(name, wanted_index, number);
    }

    /// Asks which topics have changed behind a number, in steps. A topic may come that is known: it has had a publication
    /// since the answer before.
    fn find_changed(mut self, reactor: &mut Reactor<S>, after: u64, done: OnPage<S>) {
        let (from, count) = (format!("({after}"), CHANGED_MAX.to_string());
        let bucket = self.bucket.clone();
        let topics = bucket.keys().topics(bucket.index());
        let key = topics.clone();
        let words = [
            "ZRANGEBYSCORE",
            &topics,
            &from,
            "+inf",
            "WITHSCORES",
            "LIMIT",
            "0",
            &count,
        ];
        bucket.command_within(reactor, &words, TIMEOUT, move |cx, reply| {
            let reply = match answered("ZRANGEBYSCORE", &key, reply) {
                Ok(reply) => reply,
                Err(error) => return done(cx, Err(error)),
            };
            let changed = changed_topics(&reply);
            let is_last = changed.len() < CHANGED_MAX;
            let last = changed.last().map_or(after, |(_, number)| *number);
            self.add_changed(&changed);
            match is_last {
                true => self.read_topics(cx.reactor, done),
                false => self.find_changed(cx.reactor, last, done),
            }
        });
    }

    /// Adds the topics that have changed and are wanted, each with its last number.
    fn add_changed(&mut self, changed: &[(&str, u64)]) {
        let names = std::mem::take(&mut self.names);
        let (mut patterns, mut named) = (Vec::new(), HashMap::new());
        for (index, (name, is_pattern)) in names.iter().enumerate() {
            match is_pattern {
                true => patterns.push((index, &**name)),
                false => _ = named.entry(&**name).or_insert(index),
            }
        }
        for &(topic, number) in changed {
            if self.merge.raise_topic(topic, number) {
                continue;
            }
            if let Some(index) = named.get(topic) {
                self.add_topic(topic, *index, number);
                continue;
            }
            let mut patterns = patterns.iter();
            let is_wanted =
                |(_, name): &&(usize, &str)| pattern::matches(name.as_bytes(), topic.as_bytes());
            let Some((index, name)) = patterns.find(is_wanted) else {
                continue;
            };
            if self.merge.topic_count() < TOPICS_MAX {
                self.add_topic(topic, *index, number);
            } else if !self.merge.has_gap(*index) {
                self.merge.add_gap(name, *index, self.merge.end());
            }
        }
        self.names = names;
    }

    /// The command that reads the next entries of a topic.
    fn read_command(&self, index: usize, count: usize) -> Vec<String> {
        let topic = self.merge.topic(index);
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        if self.merge.is_latest() && self.rules.of(topic).keeps_latest {
            return words(&["HVALS", &self.bucket.keys().values(topic)]);
        }
        let key = self.bucket.keys().stream(topic);
        let from = format!("{}-0", self.merge.read_to(index).saturating_add(1));
        let to = format!("{}-{}", self.merge.end(), u64::MAX);
        if self.merge.is_latest() {
            // A topic whose values have no keys has one value: its newest publication.
            return words(&["XREVRANGE", &key, &to, &from, "COUNT", "1"]);
        }
        words(&["XRANGE", &key, &from, &to, "COUNT", &count.to_string()])
    }

    /// Reads the next entries of topics that may have more, and makes a page.
    fn read_topics(self, reactor: &mut Reactor<S>, done: OnPage<S>) {
        let wanted = self.merge.topics_to_read();
        if wanted.is_empty() {
            // The answer comes in a later turn, as all others do.
            reactor.next_tick(move |cx| self.finish_page(cx, done));
            return;
        }
        let pending = Rc::new(RefCell::new(Some(Pending {
            streams: self,
            topic_count: wanted.len(),
            waiting: wanted.into(),
            asked_count: 0,
            error: None,
            done,
        })));
        while read_next(&pending, reactor) {}
    }

    fn finish_page(mut self, cx: &mut Cx<'_, S>, done: OnPage<S>) {
        let page = self.merge.next_page(cx.reactor.unix_time());
        match page.entries.is_empty() && page.gaps.is_empty() && !page.is_end {
            true => self.read_topics(cx.reactor, done),
            false => done(cx, Ok((self, page))),
        }
    }

    /// The names that have any of these gaps, each once, with whether it is a pattern: those of the gaps, and for a topic
    /// all patterns that match it.
    pub(super) fn names_of(&self, gaps: &[StreamGap]) -> impl Iterator<Item = (&str, bool)> {
        let mut indexes: BTreeSet<usize> = gaps.iter().map(|gap| gap.wanted_index).collect();
        // The patterns without a gap so far: the gaps that follow are compared with these alone.
        let mut patterns: Vec<usize> = match gaps {
            [] => Vec::new(),
            _ => (0..self.names.len())
                .filter(|index| self.names[*index].1 && !indexes.contains(index))
                .collect(),
        };
        for gap in gaps {
            let (own, own_is_pattern) = &self.names[gap.wanted_index];
            if *own_is_pattern && **own == *gap.name {
                continue;
            }
            patterns.retain(|index| {
                let pattern = self.names[*index].0.as_bytes();
                let matches = pattern::matches(pattern, gap.name.as_bytes());
                if matches {
                    indexes.insert(*index);
                }
                !matches
            });
        }
        (indexes.into_iter()).map(|index| (&*self.names[index].0, self.names[index].1))
    }

    /// The number up to which it reads. It may rise until the first page.
    pub(super) fn end(&self) -> u64 {
        self.merge.end()
    }
}

/// Sends the next command of a round, if there is one and the answers on their way are not too many. Returns whether it did.
fn read_next<S: 'static>(all: &Rc<RefCell<Option<Pending<S>>>>, reactor: &mut Reactor<S>) -> bool {
    let (index, count, words, bucket) = {
        let mut pending = all.borrow_mut();
        let Some(pending) = pending.as_mut() else {
            return false;
        };
        let Some(index) = pending.waiting.front().copied() else {
            return false;
        };
        let streams = &pending.streams;
        let count = streams.merge.entries_max(index, pending.topic_count);
        if streams.merge.reads_max(count) <= pending.asked_count {
            return false;
        }
        pending.waiting.pop_front();
        pending.asked_count += 1;
        let words = streams.read_command(index, count);
        (index, count, words, streams.bucket.clone())
    };
    let (all, kind, key) = (Rc::clone(all), words[0].clone(), words[1].clone());
    bucket.command_within(reactor, &words, TIMEOUT, move |cx, reply| {
        let is_last = {
            let mut pending = all.borrow_mut();
            let Some(pending) = pending.as_mut() else {
                return;
            };
            pending.asked_count -= 1;
            // After an error no more is read, and the next is not told.
            if pending.error.is_none() {
                let merge = &mut pending.streams.merge;
                match answered(&kind, &key, reply) {
                    Ok(reply) => merge.take_answer(index, count, &reply),
                    Err(ReadError::Refused(refusal)) if refusal.is_lasting() => {
                        merge.take_refusal(index, refusal);
                    }
                    Err(error) => {
                        pending.error = Some(error);
                        pending.waiting.clear();
                    }
                }
            }
            pending.asked_count == 0 && pending.waiting.is_empty()
        };
        if !is_last {
            while read_next(&all, cx.reactor) {}
            return;
        }
        let pending = all.take();
        if let Some(pending) = pending {
            match pending.error {
                Some(error) => (pending.done)(cx, Err(error)),
                None => pending.streams.finish_page(cx, pending.done),
            }
        }
    });
    true
}

/// The topics with their last numbers, as `ZRANGEBYSCORE .. WITHSCORES` returns them: flat in RESP2, in pairs in some
/// versions of RESP3.
fn changed_topics<'b>(reply: &Reply<'b>) -> Vec<(&'b str, u64)> {
    let values = reply.as_array().unwrap_or_default();
    let pairs: Vec<(&Reply<'b>, &Reply<'b>)> = match values.first() {
        Some(Reply::Array(_)) => values
            .iter()
            .filter_map(|pair| match pair.as_array() {
                Some([topic, score]) => Some((topic, score)),
                _ => None,
            })
            .collect(),
        _ => values
            .chunks_exact(2)
            .map(|pair| (&pair[0], &pair[1]))
            .collect(),
    };
    (pairs.into_iter())
        .filter_map(|(topic, last)| Some((topic.as_str()?, score(last)?)))
        .collect()
}

/// The number that a score of a sorted set stands for.
fn score(reply: &Reply<'_>) -> Option<u64> {
    match reply {
        Reply::Double(number) => Some(*number as u64),
        Reply::Integer(number) => Some(*number as u64),
        other => other
            .as_str()?
            .parse::<f64>()
            .ok()
            .map(|number| number as u64),
    }
}
