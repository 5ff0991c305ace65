//! Reading publications from the streams in Redis, merged in the order of their numbers.
//!
//! ```text
//!   names ─▶ topics ─▶ [XRANGE of each topic with more] ─▶ everything up to the lowest end of a full answer ─▶ page
//!    patterns: by the topics that changed behind the cursor
//! ```
//!
//! The end is a number that was read before: everything up to it stands in the streams, because the script that
//! numbers also stores. Each entry names the number before it in its topic, so that a reader sees what was
//! forgotten, also while it reads.

use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

use crate::client::redis::{Redis, RedisError};
use crate::protocol::resp::Reply;
use crate::pubsub::{Rules, pattern};
use crate::reactor::reactor::{Cx, Reactor};

use super::keys::Keys;
use super::payload;

/// Most entries of one topic in one answer.
const ENTRIES_MAX: usize = 64;

/// Most entries of all topics in one page, about.
const PAGE_ENTRIES_MAX: usize = 1024;

/// Most topics in one answer of those that have changed.
const CHANGED_MAX: usize = 1000;

/// Most topics that are read for one reader. For more it is told of a gap.
const TOPICS_MAX: usize = 10_000;

/// How long a command may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// One publication in a stream.
#[derive(Debug)]
pub(super) struct StreamEntry {
    pub number: u64,
    /// The index of the name by which it is wanted.
    pub wanted_index: usize,
    pub topic: Rc<str>,
    /// As it was published.
    pub message: Box<[u8]>,
}

/// A gap that the streams have shown.
#[derive(Debug)]
pub(super) struct StreamGap {
    /// The topic, or the pattern where it is not known which topics it has.
    pub name: Rc<str>,
    pub wanted_index: usize,
    /// Publications up to this number may be missing.
    pub number: u64,
}

#[derive(Debug, Default)]
pub(super) struct StreamPage {
    /// In the order of their numbers.
    pub entries: Vec<StreamEntry>,
    pub gaps: Vec<StreamGap>,
    pub is_end: bool,
}

/// A topic that is read.
#[derive(Debug)]
struct TopicPart {
    topic: Rc<str>,
    wanted_index: usize,
    /// Its publications up to this number were read, or are known to be gone.
    after: u64,
    /// The number of its newest publication when the reader began.
    last: u64,
    /// The first entry has not come yet.
    is_new: bool,
    has_more: bool,
    age_seconds: u64,
}

/// A reader of the streams of topics and patterns.
pub(super) struct Streams<S: 'static> {
    redis: Redis<S>,
    keys: Keys,
    rules: Rules,
    /// The names that are wanted, each with whether it is a pattern.
    names: Vec<(Box<str>, bool)>,
    after: u64,
    end: u64,
    /// Gaps are told: the reader has a cursor.
    tells_gaps: bool,
    /// Reads the latest value of each key instead of every publication.
    is_latest: bool,
    topics: Vec<TopicPart>,
    has_topics: bool,
    /// The gaps that were found before the first page.
    page: StreamPage,
}

/// Called with the reader and its next page, or with the reason why there is none.
type OnPage<S> = Box<dyn FnOnce(&mut Cx<'_, S>, Result<(Streams<S>, StreamPage), RedisError>)>;

/// A page on its way.
struct Pending<S: 'static> {
    streams: Streams<S>,
    missing: usize,
    error: Option<RedisError>,
    /// Entries of this round, each with the index of its topic, the number before it and its second.
    read: Vec<(usize, u64, u64, StreamEntry)>,
    done: Option<OnPage<S>>,
}

impl<S: 'static> Streams<S> {
    /// Reads the names behind a number, up to `end`. Without `tells_gaps` it begins with the oldest that is there, without
    /// a gap.
    pub(super) fn new(
        redis: &Redis<S>,
        keys: &Keys,
        rules: &Rules,
        names: Vec<(Box<str>, bool)>,
        (after, end): (u64, u64),
        tells_gaps: bool,
    ) -> Streams<S> {
        Streams {
            redis: redis.clone(),
            keys: keys.clone(),
            rules: rules.clone(),
            names,
            after,
            end,
            tells_gaps,
            is_latest: false,
            topics: Vec::new(),
            has_topics: false,
            page: StreamPage::default(),
        }
    }

    /// Reads the latest value of each key instead.
    pub(super) fn of_latest(mut self) -> Streams<S> {
        self.is_latest = true;
        self.tells_gaps = false;
        self
    }

    /// Reads the next page, and gives the reader back with it.
    pub(super) fn next_page(
        mut self,
        reactor: &mut Reactor<S>,
        done: impl FnOnce(&mut Cx<'_, S>, Result<(Streams<S>, StreamPage), RedisError>) + 'static,
    ) {
        if !self.has_topics {
            self.has_topics = true;
            return self.find_topics(reactor, Box::new(done));
        }
        self.read_topics(reactor, Box::new(done));
    }

    fn age_seconds(&self, topic: &str) -> u64 {
        self.rules.of(topic).history_age.as_secs()
    }

    /// `last` is the number of its newest publication, which is stored like all before it.
    fn add_topic(&mut self, topic: Rc<str>, wanted_index: usize, last: u64) {
        let age_seconds = self.age_seconds(&topic);
        self.end = self.end.max(last);
        self.topics.push(TopicPart {
            topic,
            wanted_index,
            after: self.after,
            last,
            is_new: true,
            has_more: self.after < last,
            age_seconds,
        });
    }

    /// Asks for the floor of the topics that are forgotten.
    fn find_topics(self, reactor: &mut Reactor<S>, done: OnPage<S>) {
        let (redis, head) = (self.redis.clone(), self.keys.head());
        let words = ["HGET", &head, "floor"];
        redis.command_within(
            reactor,
            &words,
            TIMEOUT,
            move |cx, reply| match refusal_as_error(reply) {
                Ok(reply) => {
                    let floor = reply.as_integer().unwrap_or_default() as u64;
                    self.find_named(cx.reactor, floor, done);
                }
                Err(error) => done(cx, Err(error)),
            },
        );
    }

    /// Asks for the last number of each topic that is wanted by its name.
    fn find_named(mut self, reactor: &mut Reactor<S>, floor: u64, done: OnPage<S>) {
        let is_pattern = |index: &usize| self.names[*index].1;
        let (patterns, named): (Vec<_>, Vec<_>) = (0..self.names.len()).partition(is_pattern);
        if self.tells_gaps && self.after < floor {
            for index in &patterns {
                self.add_gap(*index, floor);
            }
        }
        if named.is_empty() {
            let after = self.after;
            return self.find_changed(reactor, after, done);
        }
        let mut words = vec!["ZMSCORE".to_owned(), self.keys.topics()];
        words.extend(named.iter().map(|index| self.names[*index].0.to_string()));
        let redis = self.redis.clone();
        redis.command_within(reactor, &words, TIMEOUT, move |cx, reply| {
            let reply = match refusal_as_error(reply) {
                Ok(reply) => reply,
                Err(error) => return done(cx, Err(error)),
            };
            let lasts = reply.as_array().unwrap_or_default().iter().map(score);
            for (index, last) in named.into_iter().zip(lasts) {
                match last {
                    Some(last) => {
                        let topic = Rc::from(&*self.names[index].0);
                        self.add_topic(topic, index, last);
                    }
                    // It never had a publication, or was forgotten.
                    None if self.tells_gaps && self.after < floor => self.add_gap(index, floor),
                    None => {}
                }
            }
            let after = self.after;
            match patterns.is_empty() {
                true => self.read_topics(cx.reactor, done),
                false => self.find_changed(cx.reactor, after, done),
            }
        });
    }

    fn add_gap(&mut self, wanted_index: usize, number: u64) {
        let name = Rc::from(&*self.names[wanted_index].0);
        self.page.gaps.push(StreamGap {
            name,
            wanted_index,
            number,
        });
    }

    /// Asks which topics have changed behind a number, in steps.
    fn find_changed(mut self, reactor: &mut Reactor<S>, after: u64, done: OnPage<S>) {
        let (from, count) = (format!("({after}"), CHANGED_MAX.to_string());
        let redis = self.redis.clone();
        let topics = self.keys.topics();
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
        redis.command_within(reactor, &words, TIMEOUT, move |cx, reply| {
            let changed = match &refusal_as_error(reply) {
                Ok(reply) => changed_topics(reply),
                Err(error) => return done(cx, Err(*error)),
            };
            let is_last = changed.len() < CHANGED_MAX;
            let last = changed.last().map_or(after, |(_, number)| *number);
            // Thousands of names may be topics.
            let patterns: Vec<(usize, Box<str>)> = (self.names.iter().enumerate())
                .filter(|(_, (_, is_pattern))| *is_pattern)
                .map(|(index, (name, _))| (index, name.clone()))
                .collect();
            let mut known: HashSet<Rc<str>> = (self.topics.iter())
                .map(|part| Rc::clone(&part.topic))
                .collect();
            for (topic, number) in changed {
                if known.contains(topic) {
                    continue;
                }
                let mut patterns = patterns.iter();
                let is_wanted = |(_, name): &&(usize, Box<str>)| {
                    pattern::matches(name.as_bytes(), topic.as_bytes())
                };
                let Some((index, _)) = patterns.find(is_wanted) else {
                    continue;
                };
                let index = *index;
                if self.topics.len() < TOPICS_MAX {
                    let topic: Rc<str> = Rc::from(topic);
                    known.insert(Rc::clone(&topic));
                    self.add_topic(topic, index, number);
                } else if !self.page.gaps.iter().any(|gap| gap.wanted_index == index) {
                    self.add_gap(index, self.end);
                }
            }
            match is_last {
                true => self.read_topics(cx.reactor, done),
                false => self.find_changed(cx.reactor, last, done),
            }
        });
    }

    /// The command that reads the next entries of a topic.
    fn read_command(&self, index: usize, count: usize) -> Vec<String> {
        let part = &self.topics[index];
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        if self.is_latest && self.rules.of(&part.topic).keeps_latest {
            return words(&["HVALS", &self.keys.values(&part.topic)]);
        }
        let key = self.keys.stream(&part.topic);
        let from = format!("{}-0", part.after + 1);
        let to = format!("{}-{}", self.end, u64::MAX);
        if self.is_latest {
            // A topic whose values have no keys has one value: its newest publication.
            return words(&["XREVRANGE", &key, &to, &from, "COUNT", "1"]);
        }
        words(&["XRANGE", &key, &from, &to, "COUNT", &count.to_string()])
    }

    /// Reads the next entries of each topic that may have more.
    fn read_topics(self, reactor: &mut Reactor<S>, done: OnPage<S>) {
        let wanted: Vec<usize> = (self.topics.iter().enumerate())
            .filter(|(_, part)| part.has_more)
            .map(|(index, _)| index)
            .collect();
        let redis = self.redis.clone();
        let second = reactor.unix_time();
        if wanted.is_empty() {
            let mut streams = self;
            let mut page = std::mem::take(&mut streams.page);
            page.is_end = true;
            // The answer comes in a later turn, as all others do.
            reactor.next_tick(move |cx| done(cx, Ok((streams, page))));
            return;
        }
        let count = (PAGE_ENTRIES_MAX / wanted.len()).clamp(1, ENTRIES_MAX);
        let commands: Vec<_> = (wanted.into_iter())
            .map(|index| (index, self.read_command(index, count)))
            .collect();
        let pending = Rc::new(RefCell::new(Some(Pending {
            streams: self,
            missing: commands.len(),
            error: None,
            read: Vec::new(),
            done: Some(done),
        })));
        for (index, words) in commands {
            let pending = Rc::clone(&pending);
            redis.command_within(reactor, &words, TIMEOUT, move |cx, reply| {
                let is_last = {
                    let mut pending = pending.borrow_mut();
                    let Some(pending) = pending.as_mut() else {
                        return;
                    };
                    pending.missing -= 1;
                    match refusal_as_error(reply) {
                        Ok(reply) => pending.add(index, count, &reply),
                        Err(error) => pending.error = Some(error),
                    }
                    pending.missing == 0
                };
                if is_last && let Some(pending) = pending.take() {
                    pending.finish(cx, second);
                }
            });
        }
    }
}

impl<S: 'static> Pending<S> {
    /// Adds the answer of a topic.
    fn add(&mut self, index: usize, count: usize, reply: &Reply<'_>) {
        let part = &mut self.streams.topics[index];
        let entries = reply.as_array().unwrap_or_default();
        let is_latest = self.streams.is_latest;
        part.has_more = !is_latest && entries.len() == count;
        for entry in entries {
            let entry = match entry {
                Reply::Bulk(message) => value_entry(message, part.after),
                entry => stream_entry(entry),
            };
            let Some((number, second, previous, message)) = entry else {
                continue;
            };
            let entry = StreamEntry {
                number,
                wanted_index: part.wanted_index,
                topic: Rc::clone(&part.topic),
                message: message.into(),
            };
            self.read.push((index, previous, second, entry));
        }
    }

    /// Makes a page of everything that is complete.
    fn finish(mut self, cx: &mut Cx<'_, S>, now_second: u64) {
        let Some(done) = self.done.take() else {
            return;
        };
        if let Some(error) = self.error {
            return done(cx, Err(error));
        }
        let mut streams = self.streams;
        // Of a topic with more, nothing is known behind its last entry.
        let mut horizon = streams.end;
        for (index, part) in streams.topics.iter().enumerate() {
            if part.has_more {
                let of_part = self.read.iter().filter(|(other, ..)| *other == index);
                let last = of_part.map(|(_, _, _, entry)| entry.number).max();
                horizon = horizon.min(last.unwrap_or(part.after));
            }
        }
        self.read.sort_by_key(|(_, _, _, entry)| entry.number);
        let mut page = std::mem::take(&mut streams.page);
        for (index, previous, second, entry) in self.read {
            let part = &mut streams.topics[index];
            if horizon < entry.number {
                part.has_more = true;
                continue;
            }
            let is_gap = part.after < previous && (streams.tells_gaps || !part.is_new);
            let is_old = second + part.age_seconds < now_second;
            if is_gap || (is_old && streams.tells_gaps) {
                page.gaps.push(StreamGap {
                    name: Rc::clone(&part.topic),
                    wanted_index: part.wanted_index,
                    number: if is_old { entry.number } else { previous },
                });
            }
            part.after = entry.number;
            part.is_new = false;
            if !is_old {
                page.entries.push(entry);
            }
        }
        page.is_end = !streams.topics.iter().any(|part| part.has_more);
        if page.is_end && streams.tells_gaps {
            streams.add_missing_ends(&mut page);
        }
        done(cx, Ok((streams, page)));
    }
}

impl<S: 'static> Streams<S> {
    /// A topic whose last publication was not in its stream was forgotten up to it.
    fn add_missing_ends(&mut self, page: &mut StreamPage) {
        for part in &mut self.topics {
            if part.after < part.last {
                part.after = part.last;
                page.gaps.push(StreamGap {
                    name: Rc::clone(&part.topic),
                    wanted_index: part.wanted_index,
                    number: part.last,
                });
            }
        }
    }

    /// The number up to which it reads. It may rise until the first page.
    pub(super) fn end(&self) -> u64 {
        self.end
    }
}

/// The answer, or an error where the server refuses to read: an answer without entries would be a loss in silence.
fn refusal_as_error(reply: Result<Reply<'_>, RedisError>) -> Result<Reply<'_>, RedisError> {
    match reply {
        Ok(Reply::Error(text)) => {
            let text = String::from_utf8_lossy(text);
            log::debug!("redis: cannot read the streams: {text}");
            Err(RedisError::Unknown)
        }
        other => other,
    }
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

/// A latest value, as an entry that cannot be too old, because its key would have expired. `None` for one that is not behind a
/// number.
fn value_entry(message: &[u8], after: u64) -> Option<(u64, u64, u64, &[u8])> {
    let number = payload::parse(message)?.number;
    (after < number).then_some((number, u64::MAX / 2, after, message))
}

/// An entry of a stream: its number, its second, the number before it and the message.
fn stream_entry<'b>(reply: &Reply<'b>) -> Option<(u64, u64, u64, &'b [u8])> {
    let [id, fields] = reply.as_array()? else {
        return None;
    };
    let (number, second) = id.as_str()?.split_once('-')?;
    let (mut previous, mut message) = (0, None);
    for field in fields.as_array()?.chunks_exact(2) {
        match field[0].as_bytes()? {
            b"p" => previous = field[1].as_str()?.parse().ok()?,
            b"m" => message = field[1].as_bytes(),
            _ => {}
        }
    }
    Some((
        number.parse().ok()?,
        second.parse().ok()?,
        previous,
        message?,
    ))
}
