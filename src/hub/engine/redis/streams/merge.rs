//! Merging what was read of the streams of many topics, in the order of their numbers.
//!
//! ```text
//!   answers ─▶ kept, in the order of the numbers ─▶ everything up to the horizon ─▶ page
//!               │ too many bytes: the highest go, and are read again later
//! ```
//!
//! The horizon is the lowest number up to which a topic with more was read. Entries behind it wait for the next page.
//! A round reads the topics that were read least far.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use crate::hub::engine::redis::payload;
use crate::hub::engine::redis::refusals::Refusal;
use crate::protocol::resp::Reply;

/// Most entries of one topic in one answer.
const ENTRIES_MAX: usize = 64;

/// Entries of a topic in its first answer, when their sizes are not known.
const FIRST_ENTRIES: usize = 8;

/// Most entries in one page, and about as many are read in one round behind the first.
const PAGE_ENTRIES_MAX: usize = 1024;

/// Most bytes of entries in one page, about.
const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Most bytes of entries that wait for a page.
const KEPT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Most bytes in one answer, as far as the sizes seen so far tell.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Most bytes in all answers on their way, as far as the sizes seen so far tell. Redis ends a link with subscriptions that
/// has 32 MB to be sent.
const ANSWERS_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Most topics that are read at a time.
const READS_MAX: usize = 64;

/// Topics that are read at a time before the first answer. Each answer adds one.
const FIRST_READS: usize = 2;

/// Bytes that an entry takes besides its message, about.
const ENTRY_BYTES: usize = 128;

/// One publication in a stream.
#[derive(Debug)]
pub(crate) struct StreamEntry {
    pub number: u64,
    /// The index of the name by which it is wanted.
    pub wanted_index: usize,
    pub topic: Rc<str>,
    /// As it was published.
    pub message: Box<[u8]>,
}

/// A gap that the streams have shown.
#[derive(Debug)]
pub(crate) struct StreamGap {
    /// The topic, or the pattern where it is not known which topics it has.
    pub name: Rc<str>,
    pub wanted_index: usize,
    /// Publications up to this number may be missing.
    pub number: u64,
}

#[derive(Debug, Default)]
pub(crate) struct StreamPage {
    /// In the order of their numbers.
    pub entries: Vec<StreamEntry>,
    pub gaps: Vec<StreamGap>,
    /// The topics among the gaps that cannot be read at all.
    pub refusals: Vec<Refusal>,
    pub is_end: bool,
}

impl StreamPage {
    /// Adds the gaps of another page. Those of a name that has a gap here are told once with it.
    pub(crate) fn add_gaps(&mut self, gaps: Vec<StreamGap>) {
        // The gaps of one page are not compared with each other: they may be as many as there are topics.
        let known = self.gaps.len();
        for gap in gaps {
            let is_same =
                |it: &&mut StreamGap| it.wanted_index == gap.wanted_index && it.name == gap.name;
            match self.gaps[..known].iter_mut().find(is_same) {
                Some(earlier) => earlier.number = earlier.number.max(gap.number),
                None => self.gaps.push(gap),
            }
        }
    }
}

/// A topic that is read.
#[derive(Debug)]
struct TopicPart {
    topic: Rc<str>,
    wanted_index: usize,
    /// Its publications up to this number were given in pages, or are known to be gone.
    after: u64,
    /// Its publications up to this number were read.
    read_to: u64,
    /// The number of its newest publication when the reader began.
    last: u64,
    /// No entry was given in a page yet.
    is_new: bool,
    /// It may have publications behind `read_to`.
    has_more: bool,
    age_seconds: u64,
}

/// An entry that waits for a page.
#[derive(Debug)]
struct KeptEntry {
    second: u64,
    /// The number before it in its topic.
    previous: u64,
    /// `None` where it cannot be read.
    message: Option<Box<[u8]>>,
}

impl KeptEntry {
    fn bytes(&self) -> usize {
        ENTRY_BYTES + self.message.as_ref().map_or(0, |message| message.len())
    }
}

/// The topics of a reader, and what was read of them.
#[derive(Debug)]
pub(super) struct Merge {
    after: u64,
    end: u64,
    /// Gaps are told: the reader has a cursor.
    tells_gaps: bool,
    /// Has the latest value of each key instead of every publication.
    is_latest: bool,
    parts: Vec<TopicPart>,
    indexes: HashMap<Rc<str>, usize>,
    /// By their numbers and the indexes of their topics.
    kept: BTreeMap<(u64, usize), KeptEntry>,
    kept_bytes: usize,
    /// The largest entry seen. 0 before the first.
    largest_bytes: usize,
    reads_max: usize,
    /// The gaps that the next page tells.
    gaps: Vec<StreamGap>,
    refusals: Vec<Refusal>,
}

impl Merge {
    pub(super) fn new(after: u64, end: u64, tells_gaps: bool) -> Merge {
        Merge {
            after,
            end,
            tells_gaps,
            is_latest: false,
            parts: Vec::new(),
            indexes: HashMap::new(),
            kept: BTreeMap::new(),
            kept_bytes: 0,
            largest_bytes: 0,
            reads_max: FIRST_READS,
            gaps: Vec::new(),
            refusals: Vec::new(),
        }
    }

    pub(super) fn set_latest(&mut self) {
        self.is_latest = true;
        self.tells_gaps = false;
    }

    pub(super) fn is_latest(&self) -> bool {
        self.is_latest
    }

    pub(super) fn tells_gaps(&self) -> bool {
        self.tells_gaps
    }

    pub(super) fn after(&self) -> u64 {
        self.after
    }

    pub(super) fn end(&self) -> u64 {
        self.end
    }

    pub(super) fn topic_count(&self) -> usize {
        self.parts.len()
    }

    pub(super) fn topic(&self, index: usize) -> &str {
        &self.parts[index].topic
    }

    /// Its publications up to this number were read.
    pub(super) fn read_to(&self, index: usize) -> u64 {
        self.parts[index].read_to
    }

    /// `last` is the number of its newest publication, which is stored like all before it.
    pub(super) fn add_topic(
        &mut self,
        topic: &str,
        wanted_index: usize,
        last: u64,
        age_seconds: u64,
    ) {
        let topic: Rc<str> = Rc::from(topic);
        self.end = self.end.max(last);
        (self.indexes).insert(Rc::clone(&topic), self.parts.len());
        self.parts.push(TopicPart {
            topic,
            wanted_index,
            after: self.after,
            read_to: self.after,
            last,
            is_new: true,
            has_more: self.after < last,
            age_seconds,
        });
    }

    /// Notes that a topic has a newer publication than when it was added: the end rises, and its publications up to there
    /// are to be read too. Returns whether the topic was added.
    pub(super) fn raise_topic(&mut self, topic: &str, last: u64) -> bool {
        let Some(index) = self.indexes.get(topic) else {
            return false;
        };
        let part = &mut self.parts[*index];
        part.last = part.last.max(last);
        part.has_more = part.read_to < part.last;
        self.end = self.end.max(last);
        true
    }

    pub(super) fn add_gap(&mut self, name: &str, wanted_index: usize, number: u64) {
        self.gaps.push(StreamGap {
            name: Rc::from(name),
            wanted_index,
            number,
        });
    }

    pub(super) fn has_gap(&self, wanted_index: usize) -> bool {
        self.gaps.iter().any(|gap| gap.wanted_index == wanted_index)
    }

    /// Everything up to this number was read.
    fn horizon(&self) -> u64 {
        let with_more = self.parts.iter().filter(|part| part.has_more);
        let lowest = with_more.map(|part| part.read_to).min();
        lowest.unwrap_or(self.end).min(self.end)
    }

    /// The topics that are read before the next page: those that were read least far. The list is empty where a page waits.
    pub(super) fn topics_to_read(&self) -> Vec<usize> {
        let horizon = self.horizon();
        if (self.kept.first_key_value()).is_some_and(|((number, _), _)| *number <= horizon) {
            return Vec::new();
        }
        let mut wanted: Vec<usize> = (self.parts.iter().enumerate())
            .filter(|(_, part)| part.has_more)
            .map(|(index, _)| index)
            .collect();
        wanted.sort_by_key(|index| self.parts[*index].read_to);
        // All of the lowest, so that the horizon rises.
        let lowest = wanted.partition_point(|index| self.parts[*index].read_to <= horizon);
        wanted.truncate(lowest.max(PAGE_ENTRIES_MAX / FIRST_ENTRIES));
        wanted
    }

    /// Most entries to read of a topic, in a round that reads so many topics.
    pub(super) fn entries_max(&self, index: usize, topic_count: usize) -> usize {
        let part = &self.parts[index];
        let is_first = part.read_to == self.after;
        let count = match is_first {
            true => FIRST_ENTRIES,
            false => (PAGE_ENTRIES_MAX / topic_count.max(1)).clamp(FIRST_ENTRIES, ENTRIES_MAX),
        };
        let fitting = ANSWER_BYTES_MAX.checked_div(self.largest_bytes);
        count.min(fitting.unwrap_or(count)).max(1)
    }

    /// Most topics to read at a time, with so many entries of each.
    pub(super) fn reads_max(&self, count: usize) -> usize {
        let fitting = ANSWERS_BYTES_MAX.checked_div(self.largest_bytes.saturating_mul(count));
        let reads_max = self.reads_max.min(READS_MAX);
        reads_max.min(fitting.unwrap_or(reads_max)).max(1)
    }

    /// Takes the answer of a topic, which was asked for `count` entries at most.
    pub(super) fn take_answer(&mut self, index: usize, count: usize, reply: &Reply<'_>) {
        self.reads_max = (self.reads_max + 1).min(READS_MAX);
        let read_to = self.parts[index].read_to;
        let replies = reply.as_array().unwrap_or_default();
        let mut highest = read_to;
        for reply in replies {
            let entry = match reply {
                Reply::Bulk(message) => value_entry(message),
                reply => stream_entry(reply),
            };
            let Some((number, entry)) = entry else {
                continue;
            };
            highest = highest.max(number);
            // A value may be newer than the end. Its publication is heard.
            if read_to < number && number <= self.end {
                self.keep(number, index, entry);
            }
        }
        let part = &mut self.parts[index];
        let is_full = !self.is_latest && count <= replies.len();
        part.has_more = is_full && read_to < highest && highest < part.last;
        part.read_to = if part.has_more { highest } else { self.end };
        while KEPT_BYTES_MAX < self.kept_bytes && 1 < self.kept.len() {
            self.drop_highest();
        }
    }

    /// Takes the refusal to read a topic: it is a gap up to the end, also for a reader without a cursor.
    pub(super) fn take_refusal(&mut self, index: usize, refusal: Refusal) {
        self.reads_max = (self.reads_max + 1).min(READS_MAX);
        let part = &mut self.parts[index];
        (part.read_to, part.has_more) = (self.end, false);
        // The gap is not told once more with the last page.
        part.last = 0;
        self.refusals.push(refusal.of_topic(&part.topic));
        self.gaps.push(StreamGap {
            name: Rc::clone(&part.topic),
            wanted_index: part.wanted_index,
            number: self.end,
        });
    }

    fn keep(&mut self, number: u64, index: usize, entry: KeptEntry) {
        let bytes = entry.bytes();
        self.largest_bytes = self.largest_bytes.max(bytes);
        self.kept_bytes += bytes;
        if let Some(earlier) = self.kept.insert((number, index), entry) {
            self.kept_bytes -= earlier.bytes();
        }
    }

    /// Drops the entry with the highest number. It is read again.
    fn drop_highest(&mut self) {
        if let Some(((number, index), entry)) = self.kept.pop_last() {
            self.kept_bytes -= entry.bytes();
            let part = &mut self.parts[index];
            part.read_to = part.read_to.min(number - 1);
            part.has_more = true;
        }
    }

    /// Makes a page of what is complete. `second` is the time.
    pub(super) fn next_page(&mut self, second: u64) -> StreamPage {
        let mut page = StreamPage {
            gaps: std::mem::take(&mut self.gaps),
            refusals: std::mem::take(&mut self.refusals),
            ..StreamPage::default()
        };
        let horizon = self.horizon();
        let mut page_bytes = 0;
        while page.entries.len() < PAGE_ENTRIES_MAX && page_bytes < PAGE_BYTES_MAX {
            let Some(kept) = (self.kept.first_entry()).filter(|it| it.key().0 <= horizon) else {
                break;
            };
            let ((number, index), entry) = kept.remove_entry();
            let bytes = entry.bytes();
            self.kept_bytes -= bytes;
            let part = &mut self.parts[index];
            let is_old = entry.second.saturating_add(part.age_seconds) < second;
            let has_gap = part.after < entry.previous || entry.message.is_none();
            let is_gap = has_gap && (self.tells_gaps || !part.is_new);
            if is_gap || (is_old && self.tells_gaps) {
                page.gaps.push(StreamGap {
                    name: Rc::clone(&part.topic),
                    wanted_index: part.wanted_index,
                    number: match is_old || entry.message.is_none() {
                        true => number,
                        false => entry.previous,
                    },
                });
            }
            (part.after, part.is_new) = (number, false);
            if let Some(message) = entry.message.filter(|_| !is_old) {
                page_bytes += bytes;
                page.entries.push(StreamEntry {
                    number,
                    wanted_index: part.wanted_index,
                    topic: Rc::clone(&part.topic),
                    message,
                });
            }
        }
        page.is_end = self.kept.is_empty() && !self.parts.iter().any(|part| part.has_more);
        if page.is_end && self.tells_gaps {
            self.add_missing_ends(&mut page);
        }
        page
    }

    /// A topic whose last publication was not in its stream was forgotten up to it.
    fn add_missing_ends(&mut self, page: &mut StreamPage) {
        for part in &mut self.parts {
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
}

/// A latest value, as an entry that cannot be too old, because its key would have expired.
fn value_entry(message: &[u8]) -> Option<(u64, KeptEntry)> {
    let number = payload::parse(message)?.number;
    let entry = KeptEntry {
        second: u64::MAX,
        previous: 0,
        message: Some(message.into()),
    };
    Some((number, entry))
}

/// An entry of a stream, with its number. `None` where it has no number.
fn stream_entry(reply: &Reply<'_>) -> Option<(u64, KeptEntry)> {
    let [id, fields] = reply.as_array()? else {
        return None;
    };
    let (number, second) = id.as_str()?.split_once('-')?;
    let (number, second) = (number.parse().ok()?, second.parse().ok()?);
    let (previous, message) = match entry_fields(fields) {
        Some((previous, message)) => (previous, Some(message.into())),
        None => (0, None),
    };
    let entry = KeptEntry {
        second,
        previous,
        message,
    };
    Some((number, entry))
}

/// The number before an entry, and its message.
fn entry_fields<'b>(fields: &Reply<'b>) -> Option<(u64, &'b [u8])> {
    let (mut previous, mut message) = (0, None);
    for field in fields.as_array()?.chunks_exact(2) {
        match field[0].as_bytes()? {
            b"p" => previous = field[1].as_str()?.parse().ok()?,
            b"m" => message = field[1].as_bytes(),
            _ => {}
        }
    }
    Some((previous, message?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::engine::redis::refusals::{ReadError, answered};

    const AGE: u64 = 300;

    /// Streams as a server has them: the numbers of each topic, with the size of all messages.
    struct Server {
        streams: Vec<Vec<u64>>,
        message_bytes: usize,
        read_count: usize,
    }

    impl Server {
        fn new(streams: Vec<Vec<u64>>, message_bytes: usize) -> Server {
            Server {
                streams,
                message_bytes,
                read_count: 0,
            }
        }

        fn merge(&self) -> Merge {
            let mut merge = Merge::new(0, 0, true);
            for (index, numbers) in self.streams.iter().enumerate() {
                let last = numbers.last().copied().unwrap_or_default();
                merge.add_topic(&format!("t{index}"), 0, last, AGE);
            }
            merge
        }

        /// Answers like `XRANGE`, with the number before each entry in its topic.
        fn answer(&mut self, merge: &mut Merge, index: usize, count: usize) {
            let (from, to) = (merge.read_to(index) + 1, merge.end());
            let numbers = &self.streams[index];
            let found = numbers.iter().enumerate();
            let found: Vec<(String, String)> = found
                .filter(|(_, number)| (from..=to).contains(*number))
                .take(count)
                .map(|(at, number)| {
                    let previous = at.checked_sub(1).map_or(0, |at| numbers[at]);
                    (format!("{number}-1000"), previous.to_string())
                })
                .collect();
            self.read_count += found.len();
            let message = vec![b'x'; self.message_bytes];
            let bulk = |text: &'static str| Reply::Bulk(text.as_bytes());
            let reply = found.iter().map(|(id, previous)| {
                let previous = Reply::Bulk(previous.as_bytes());
                let fields = vec![bulk("p"), previous, bulk("m"), Reply::Bulk(&message)];
                Reply::Array(vec![Reply::Bulk(id.as_bytes()), Reply::Array(fields)])
            });
            merge.take_answer(index, count, &Reply::Array(reply.collect()));
        }

        /// Reads to the end. Returns the numbers and the number of rounds.
        fn read_all(&mut self, merge: &mut Merge) -> (Vec<u64>, usize) {
            let (mut numbers, mut rounds) = (Vec::new(), 0);
            loop {
                let wanted = merge.topics_to_read();
                rounds += usize::from(!wanted.is_empty());
                for index in &wanted {
                    let count = merge.entries_max(*index, wanted.len());
                    let expected_bytes = count * (self.message_bytes + ENTRY_BYTES);
                    if merge.largest_bytes != 0 && 1 < count {
                        assert!(expected_bytes <= ANSWER_BYTES_MAX);
                        assert!(merge.reads_max(count) * expected_bytes <= ANSWERS_BYTES_MAX);
                    }
                    self.answer(merge, *index, count);
                    assert!(merge.kept_bytes <= KEPT_BYTES_MAX);
                }
                let page = merge.next_page(1000);
                assert!(page.entries.len() <= PAGE_ENTRIES_MAX);
                assert!(page.gaps.is_empty(), "{:?}", page.gaps);
                numbers.extend(page.entries.iter().map(|entry| entry.number));
                if page.is_end {
                    assert_eq!((merge.kept.len(), merge.kept_bytes), (0, 0));
                    return (numbers, rounds);
                }
                assert!(!page.entries.is_empty() || !wanted.is_empty());
            }
        }
    }

    #[test]
    fn entries_of_many_topics_are_read_once_and_in_order() {
        let streams: Vec<Vec<u64>> = (0..1000)
            .map(|topic| (0..40).map(|at| at * 1000 + topic + 1).collect())
            .collect();
        let mut server = Server::new(streams, 100);
        let mut merge = server.merge();
        let (numbers, rounds) = server.read_all(&mut merge);
        assert_eq!(numbers, (1..=40_000).collect::<Vec<u64>>());
        assert_eq!(server.read_count, 40_000);
        assert!(rounds <= 50, "{rounds}");
    }

    #[test]
    fn large_entries_that_do_not_fit_are_read_again() {
        let streams: Vec<Vec<u64>> = (0..30)
            .map(|topic| (0..12).map(|at| at * 30 + topic + 1).collect())
            .collect();
        let mut server = Server::new(streams, 1024 * 1024);
        let mut merge = server.merge();
        let (numbers, _) = server.read_all(&mut merge);
        assert_eq!(numbers, (1..=360).collect::<Vec<u64>>());
    }

    #[test]
    fn a_topic_that_rises_while_topics_are_found_is_read_up_to_the_end() {
        let mut server = Server::new(vec![vec![100, 101], vec![102]], 10);
        let mut merge = Merge::new(100, 100, true);
        merge.add_topic("a", 0, 100, AGE);
        assert!(merge.raise_topic("a", 101));
        assert!(!merge.raise_topic("x.1", 102));
        merge.add_topic("x.1", 1, 102, AGE);
        assert_eq!(merge.end(), 102);
        for index in merge.topics_to_read() {
            server.answer(&mut merge, index, 8);
        }
        let page = merge.next_page(1000);
        let numbers: Vec<u64> = page.entries.iter().map(|entry| entry.number).collect();
        assert_eq!((numbers, page.is_end), (vec![101, 102], true));
    }

    #[test]
    fn an_entry_that_cannot_be_read_is_a_gap_and_is_passed() {
        let bulk = |text: &'static str| Reply::Bulk(text.as_bytes());
        let array = |texts: &[&'static str]| {
            let values = texts.iter().map(|text| bulk(text));
            Reply::Array(values.collect())
        };
        let entry = |id, fields: &[&'static str]| Reply::Array(vec![bulk(id), array(fields)]);
        // The fields of the first entry, and the gaps with their numbers.
        let cases: &[(&[&str], &[u64])] = &[
            (&["p", "0", "m", "x"], &[]),
            (&["x", "y"], &[5]),
            (&["p", "-1", "m", "x"], &[5]),
            (&[], &[5]),
        ];
        for (fields, expected) in cases {
            let mut merge = Merge::new(0, 9, true);
            merge.add_topic("a", 0, 9, AGE);
            let first = entry("5-18446744073709551615", fields);
            merge.take_answer(0, 1, &Reply::Array(vec![first]));
            assert_eq!(merge.topics_to_read(), Vec::<usize>::new());
            let page = merge.next_page(1000);
            let gaps: Vec<u64> = page.gaps.iter().map(|gap| gap.number).collect();
            assert_eq!((gaps.as_slice(), page.is_end), (*expected, false));
            assert_eq!((merge.topics_to_read(), merge.read_to(0)), (vec![0], 5));
            let next = entry("9-1000", &["p", "5", "m", "y"]);
            merge.take_answer(0, 1, &Reply::Array(vec![next]));
            let page = merge.next_page(1000);
            assert_eq!((page.entries.len(), page.gaps.len()), (1, 0));
            assert!(page.is_end);
        }
    }

    #[test]
    fn answers_without_numbers_end_a_topic() {
        let replies = [
            Reply::Null,
            Reply::Array(vec![]),
            Reply::Array(vec![Reply::Null]),
            Reply::Array(vec![Reply::Array(vec![Reply::Bulk(b"x"), Reply::Null])]),
        ];
        for reply in replies {
            let mut merge = Merge::new(0, 9, true);
            merge.add_topic("a", 0, 9, AGE);
            merge.take_answer(0, 1, &reply);
            let page = merge.next_page(1000);
            assert_eq!((page.entries.len(), page.gaps.len()), (0, 1), "{reply:?}");
            assert!(page.is_end, "{reply:?}");
        }
    }

    #[test]
    fn a_topic_that_is_refused_is_one_gap_and_the_others_are_read() {
        for tells_gaps in [true, false] {
            let mut merge = Merge::new(0, 9, tells_gaps);
            for (index, topic) in ["a", "b"].iter().enumerate() {
                merge.add_topic(topic, index, 9, AGE);
            }
            let reply = Ok(Reply::Error(b"WRONGTYPE x"));
            let Err(ReadError::Refused(refusal)) = answered("XRANGE", "s:a", reply) else {
                panic!("it is refused");
            };
            merge.take_refusal(0, refusal);
            assert_eq!(merge.topics_to_read(), [1]);
            let fields = [&b"p"[..], b"0", b"m", b"x"].map(Reply::Bulk);
            let fields = Reply::Array(fields.to_vec());
            let last = Reply::Array(vec![Reply::Bulk(b"9-1000"), fields]);
            merge.take_answer(1, 8, &Reply::Array(vec![last]));
            let page = merge.next_page(1000);
            let gaps = page.gaps.iter().map(|gap| (&*gap.name, gap.number));
            assert_eq!(gaps.collect::<Vec<_>>(), [("a", 9)]);
            assert_eq!((page.entries.len(), page.refusals.len()), (1, 1));
            assert!(page.is_end);
        }
    }

    // The first gap of a topic was told as late as the second, behind the entries between them.
    #[test]
    fn gaps_of_one_page_are_not_joined() {
        let gaps = |gaps: &[(&str, usize, u64)]| -> Vec<StreamGap> {
            let gap = |&(name, wanted_index, number): &(&str, usize, u64)| StreamGap {
                name: Rc::from(name),
                wanted_index,
                number,
            };
            gaps.iter().map(gap).collect()
        };
        let mut page = StreamPage {
            gaps: gaps(&[("a", 0, 3), ("b", 1, 9)]),
            ..StreamPage::default()
        };
        page.add_gaps(gaps(&[
            ("a", 0, 5),
            ("b", 1, 6),
            ("b", 2, 6),
            ("c", 2, 5),
            ("c", 2, 8),
        ]));
        let found = page.gaps.iter();
        let found = found.map(|gap| (&*gap.name, gap.wanted_index, gap.number));
        let expected = [
            ("a", 0, 5),
            ("b", 1, 9),
            ("b", 2, 6),
            ("c", 2, 5),
            ("c", 2, 8),
        ];
        assert_eq!(found.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn values_behind_the_end_are_left_out() {
        let value = |number: u64| format!("1 a {number} 0 0 0 t - -\nx");
        let (inside, behind) = (value(7), value(12));
        let values = [&inside, &behind].map(|value| Reply::Bulk(value.as_bytes()));
        let mut merge = Merge::new(0, 9, true);
        merge.set_latest();
        merge.add_topic("a", 0, 9, AGE);
        merge.take_answer(0, 8, &Reply::Array(values.to_vec()));
        let page = merge.next_page(1000);
        let numbers: Vec<u64> = page.entries.iter().map(|entry| entry.number).collect();
        assert_eq!((numbers, page.is_end), (vec![7], true));
    }
}
