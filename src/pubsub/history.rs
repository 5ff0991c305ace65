//! The history of a hub: one order for the publications of all topics, and the newest of each topic.
//!
//! ```text
//!  index: hash of topic ─▶ record: [entry entry entry …]     the ring of one topic: its newest publications
//!                            │      values: key ─▶ entry      the latest value of each key
//!                            │      forgotten                 the highest number that is no more there
//!                            ▼
//!  a queue for each rule:  number, record; number, record …   what is oldest, by age and for the bytes
//! ```
//!
//! A record stays when all entries of its topic are gone: a client that comes back must learn that it has missed
//! something. When the record has to go too, its number raises the floor of the whole history.
//!
//! Pure: the time is an argument, in seconds since any moment that stays the same.

mod walk;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque, btree_map, vec_deque};
use std::hash::{BuildHasher, RandomState};
use std::mem::take;

use super::body::Body;
use super::event_id::EventId;
use super::index::Index;
use super::names::hash_name;
use super::pattern;
use super::rules::{Rule, Rules};
use super::slots::{Key, Slots};

/// The bytes that an entry counts beside its body: its places in the ring and in the queue, in tables that are
/// half full.
const ENTRY_BYTES: usize = 2 * (size_of::<Entry>() + size_of::<(u64, Key)>());

/// The bytes that a value counts beside its body and its key, in two maps.
const VALUE_BYTES: usize = 2 * (size_of::<Entry>() + size_of::<(Box<str>, u64)>());

/// The bytes that a record counts beside its name: its slot, its places in the index and among the empty ones,
/// and what the allocator needs.
const RECORD_BYTES: usize = 2 * (size_of::<Record>() + size_of::<(Key, u32)>()) + 48;

/// Most bodies that one page has. They are copied under a lock where reactors share the history.
pub const PAGE_BODIES_MAX: usize = 256;

/// Most topics of one step of [`History::topics_of_step`].
const STEP_TOPICS_MAX: usize = 256;

/// Most gaps that one page tells one by one for topics that a pattern matches. Where there are more, the page
/// tells one under the name of the pattern.
const PATTERN_GAPS_MAX: usize = 256;

/// One publication with its place in the order.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The number in its id.
    pub number: u64,
    /// When it was published, in seconds.
    second: u32,
    /// The publication.
    pub body: Body,
}

/// The latest values of one topic.
#[derive(Debug, Default)]
struct Values {
    by_number: BTreeMap<u64, Entry>,
    by_key: HashMap<Box<str>, u64>,
    /// The highest number of a value that had to go although it was not replaced.
    forgotten: u64,
}

/// A topic that had a publication.
#[derive(Debug)]
struct Record {
    topic: Box<str>,
    rule_index: u16,
    /// It stands in the queue of empty records.
    is_listed: bool,
    ring: VecDeque<Entry>,
    values: Option<Box<Values>>,
    /// The number of its newest publication.
    last: u64,
    /// The highest number of its publications that may have been forgotten.
    forgotten: u64,
}

impl Record {
    fn is_empty(&self) -> bool {
        self.ring.is_empty()
            && self
                .values
                .as_ref()
                .is_none_or(|it| it.by_number.is_empty())
    }
}

/// Numbers with their records, the oldest first. A number whose entry has been replaced stays until it comes to
/// the front, or until half of them are such.
#[derive(Debug, Default)]
struct Order {
    queue: VecDeque<(u64, Key)>,
    stale_count: usize,
    /// Numbers up to this one have left the queue at its front, or were never in it.
    passed: u64,
}

/// The history of one topic, in numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicHistory<'h> {
    /// Its name.
    pub topic: &'h str,
    /// How many publications can be read.
    pub count: usize,
    /// The number of the oldest of these.
    pub first: Option<u64>,
    /// The number of the newest publication, which may be gone.
    pub last: u64,
}

/// A name for which a client reads the history.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The name of a topic, or a pattern.
    pub name: Box<str>,
    /// Whether it is a pattern.
    pub is_pattern: bool,
    /// The client was told that publications up to this number may be missing.
    announced: u64,
}

/// A place in the history that moves on with each [`page`](History::page) that a client takes.
#[derive(Clone, Debug)]
pub struct Reader {
    wanted: Vec<Wanted>,
    after: u64,
    /// Reads the latest value of each key instead of every publication.
    is_latest: bool,
    /// As [`Wanted::announced`], for topics that a pattern has found.
    announced: HashMap<Box<str>, u64>,
    /// The client has a cursor of another epoch, or one that was never given: each name has a gap.
    is_lost: bool,
    /// [`History::forgotten_until`] when all records were last looked at for gaps.
    seen_forgotten: Option<(u64, u64)>,
    /// The indexes of the names, where they are too many to be compared one by one.
    indexes: HashMap<Box<str>, usize>,
}

/// Where a client begins to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// Behind this place.
    Id(EventId),
    /// With the oldest that is there, without a gap.
    Earliest,
}

/// A gap in what a client gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The topic, or the pattern when it is about more than one topic.
    pub name: Box<str>,
    /// Whether `name` is the pattern.
    pub is_pattern: bool,
    /// The index of the name among those that are wanted.
    pub wanted_index: usize,
    /// Publications up to this number may be missing.
    pub number: u64,
}

/// The next part of what a client reads.
#[derive(Debug, Default)]
pub struct Page {
    /// To be told before the entries.
    pub gaps: Vec<Gap>,
    /// In the order of their numbers, each with the index of the name by which it is wanted.
    pub entries: Vec<(usize, Entry)>,
    /// The reader has come to the end that it was given.
    pub is_end: bool,
    /// The numbers of the next page begin anew, so that all gaps of this one come before its entries.
    pub ends_section: bool,
}

impl Reader {
    /// Reads the names, of which the second field says whether each is a pattern, from the place `since` in
    /// `history`. With `is_latest` the latest value of each key.
    pub fn new(
        history: &History,
        names: impl IntoIterator<Item = (Box<str>, bool)>,
        since: Since,
        is_latest: bool,
    ) -> Reader {
        let announced = match since {
            Since::Earliest => u64::MAX,
            Since::Id(_) => 0,
        };
        let wanted = |(name, is_pattern)| Wanted {
            name,
            is_pattern,
            announced,
        };
        let (after, is_lost) = match since {
            Since::Earliest => (0, false),
            Since::Id(id) if id.epoch == history.epoch && id.number <= history.head => {
                (id.number, false)
            }
            // Of another epoch nothing that is here is known to the client.
            Since::Id(id) if id.epoch != history.epoch => (0, true),
            Since::Id(_) => (history.head, true),
        };
        // A name that stands twice is read once.
        let mut known = HashSet::new();
        let names = names.into_iter();
        let names = names.filter(|name: &(Box<str>, bool)| known.insert(name.clone()));
        let mut reader = Reader {
            wanted: names.map(wanted).collect(),
            after,
            is_latest,
            announced: HashMap::new(),
            is_lost,
            seen_forgotten: None,
            indexes: HashMap::new(),
        };
        reader.index_names();
        reader
    }

    /// The names.
    pub fn wanted(&self) -> &[Wanted] {
        &self.wanted
    }

    /// Leaves out the names for which `is_wanted` is false. Not between a page and the use of its indexes.
    pub fn retain(&mut self, mut is_wanted: impl FnMut(&str) -> bool) {
        let count = self.wanted.len();
        self.wanted.retain(|wanted| is_wanted(&wanted.name));
        if self.wanted.len() != count {
            self.index_names();
        }
    }

    /// Reads another name too, from here on. It must not be read already.
    pub fn add(&mut self, name: &str, is_pattern: bool) {
        self.wanted.push(Wanted {
            name: name.into(),
            is_pattern,
            announced: 0,
        });
    }

    /// Goes back to a number at which a page was not taken to its end.
    pub fn rewind(&mut self, number: u64) {
        self.after = self.after.min(number);
    }

    /// The number up to which it has read.
    pub fn after(&self) -> u64 {
        self.after
    }
}

/// The order of all publications, and what is kept of them.
#[derive(Debug)]
pub struct History {
    epoch: u64,
    /// The highest number that was given.
    head: u64,
    rules: Rules,
    bytes_max: usize,
    bytes: usize,
    records: Slots<Record>,
    index: Index,
    hasher: RandomState,
    /// For the rings, one for each rule: entries of one rule have one age.
    orders: Vec<Order>,
    values_order: Order,
    /// Records without entries, by the number at which they became empty.
    empty: VecDeque<(u64, Key)>,
    /// Of a topic without record, publications up to this number may have been forgotten.
    floor: u64,
    /// Bodies that are no longer kept, to be dropped by the caller.
    evicted: Vec<Body>,
}

impl History {
    /// Numbers publications, and keeps none.
    pub fn new(epoch: u64) -> History {
        History::with_hasher(epoch, RandomState::new())
    }

    /// As [`new`](Self::new), for a caller that hashes topics itself.
    pub fn with_hasher(epoch: u64, hasher: RandomState) -> History {
        History {
            epoch,
            head: 0,
            rules: Rules::new(),
            bytes_max: 0,
            bytes: 0,
            records: Slots::default(),
            index: Index::default(),
            hasher,
            orders: Vec::new(),
            values_order: Order::default(),
            empty: VecDeque::new(),
            floor: 0,
            evicted: Vec::new(),
        }
    }

    /// Keeps publications by these rules from now on, in at most `bytes_max` bytes for all topics together.
    /// Earlier publications count as forgotten.
    pub fn keep(&mut self, rules: Rules, bytes_max: usize) {
        *self = History {
            epoch: self.epoch,
            head: self.head,
            orders: (0..=rules.count()).map(|_| Order::default()).collect(),
            rules,
            bytes_max,
            floor: self.head,
            ..History::with_hasher(self.epoch, self.hasher.clone())
        };
    }

    /// Whether publications are kept.
    pub fn is_kept(&self) -> bool {
        self.bytes_max != 0
    }

    /// Gives numbers above `head` from now on.
    pub fn continue_from(&mut self, head: u64) {
        self.head = self.head.max(head);
    }

    /// Numbers a publication and keeps it by the rule of its topic. `body` is called when it is kept.
    pub fn append(&mut self, topic: &str, second: u32, body: impl FnOnce() -> Body) -> EventId {
        let hash = match self.is_kept() {
            true => self.hasher.hash_one(topic),
            false => 0,
        };
        self.append_of_hash(topic, hash, second, body)
    }

    /// As [`append`](Self::append), for a topic of which the hash by the hasher is known.
    #[inline]
    pub fn append_of_hash(
        &mut self,
        topic: &str,
        hash: u64,
        second: u32,
        body: impl FnOnce() -> Body,
    ) -> EventId {
        self.head += 1;
        let id = EventId::new(self.epoch, self.head);
        if self.is_kept() {
            self.store(topic, hash as u32, second, body);
        }
        id
    }

    fn store(&mut self, topic: &str, hash: u32, second: u32, body: impl FnOnce() -> Body) {
        let number = self.head;
        let found = self.find(hash, topic);
        let Some(key) = found.or_else(|| self.add_record(hash, topic)) else {
            // There is no room for another record: the floor tells of its publications.
            self.floor = number;
            return;
        };
        let Some(record) = self.records.get_mut(key) else {
            return;
        };
        record.last = number;
        let rule = self.rules.at(usize::from(record.rule_index));
        let (count_max, keeps_latest) = (rule.history_count as usize, rule.keeps_latest);
        if count_max == 0 {
            record.forgotten = number;
            self.orders[usize::from(record.rule_index)].passed = number;
        }
        if count_max == 0 && !keeps_latest {
            self.list_if_empty(key);
            return self.fit();
        }
        let body = body();
        if keeps_latest {
            let entry = Entry {
                number,
                second,
                body: body.clone(),
            };
            self.set_value(key, entry);
        }
        if count_max != 0 {
            self.push(
                key,
                count_max,
                Entry {
                    number,
                    second,
                    body,
                },
            );
        }
        self.fit();
    }

    /// Puts an entry in the ring of its topic. The oldest one leaves a full ring.
    fn push(&mut self, key: Key, count_max: usize, entry: Entry) {
        let Some(record) = self.records.get_mut(key) else {
            return;
        };
        let order = &mut self.orders[usize::from(record.rule_index)];
        if count_max <= record.ring.len()
            && let Some(oldest) = record.ring.pop_front()
        {
            record.forgotten = oldest.number;
            self.bytes -= oldest.counted_bytes();
            self.evicted.push(oldest.body);
            order.stale_count += 1;
        }
        order.queue.push_back((entry.number, key));
        self.bytes += entry.counted_bytes();
        record.ring.push_back(entry);
        if order.needs_compaction() {
            let records = &self.records;
            order.compact(|number, key| {
                records.get(key).is_some_and(|record| {
                    // A walk notes the gap of a topic where it comes to the last number that was forgotten.
                    let front = record.ring.front();
                    record.forgotten == number || front.is_some_and(|it| it.number <= number)
                })
            });
        }
    }

    fn set_value(&mut self, key: Key, entry: Entry) {
        let Some(record) = self.records.get_mut(key) else {
            return;
        };
        let values = record.values.get_or_insert_default();
        let name = entry.body.key().unwrap_or_default();
        let number = entry.number;
        self.bytes += entry.value_bytes();
        let replaced = match values.by_key.get_mut(name) {
            Some(old) => values.by_number.remove(&std::mem::replace(old, number)),
            None => {
                values.by_key.insert(name.into(), number);
                None
            }
        };
        values.by_number.insert(number, entry);
        self.values_order.queue.push_back((number, key));
        if let Some(replaced) = replaced {
            self.bytes -= replaced.value_bytes();
            self.evicted.push(replaced.body);
            self.values_order.stale_count += 1;
        }
        if self.values_order.needs_compaction() {
            let records = &self.records;
            self.values_order.compact(|number, key| {
                let values = records.get(key).and_then(|record| record.values.as_ref());
                values.is_some_and(|values| values.by_number.contains_key(&number))
            });
        }
    }

    fn add_record(&mut self, hash: u32, topic: &str) -> Option<Key> {
        let rule_index = self.rules.index_of(topic);
        let key = self.records.insert(Record {
            topic: topic.into(),
            rule_index: u16::try_from(rule_index).ok()?,
            is_listed: false,
            ring: VecDeque::new(),
            values: None,
            last: 0,
            // Earlier publications of it may have been forgotten together with their record.
            forgotten: self.floor,
        })?;
        self.index.insert(hash, key);
        self.bytes += RECORD_BYTES + topic.len();
        Some(key)
    }

    fn find(&self, hash: u32, topic: &str) -> Option<Key> {
        self.index.find(hash, |key| {
            self.records
                .get(key)
                .is_some_and(|record| *record.topic == *topic)
        })
    }

    fn record(&self, topic: &str) -> Option<&Record> {
        // The hash of a name costs more than to see that there is no record at all.
        if self.records.len() == 0 {
            return None;
        }
        let key = self.find(hash_name(&self.hasher, topic), topic)?;
        self.records.get(key)
    }

    // ── forgetting ───────────────────────────────────────────────────────────────────────────

    /// Forgets what is older than its rule allows, at most `steps_max` entries. Returns whether there may be
    /// more.
    pub fn expire(&mut self, second: u32, steps_max: usize) -> bool {
        let mut steps = 0;
        for rule_index in 0..self.orders.len() {
            let age = self.rules.at(rule_index).history_age.as_secs();
            while let Some((number, key)) = self.oldest_of_rule(rule_index) {
                let front = self.records.get(key).and_then(|it| it.ring.front());
                let is_old = |entry: &Entry| age <= u64::from(second.saturating_sub(entry.second));
                if !front.is_some_and(is_old) {
                    break;
                }
                if steps_max <= steps {
                    return true;
                }
                steps += 1;
                self.forget(rule_index, number, key);
            }
        }
        false
    }

    /// The second in which the first entry will be too old. `None` when there is none.
    pub fn next_expiry(&mut self) -> Option<u32> {
        let due = (0..self.orders.len()).filter_map(|rule_index| {
            let (_, key) = self.oldest_of_rule(rule_index)?;
            let front = self.records.get(key)?.ring.front()?;
            let age = self.rules.at(rule_index).history_age.as_secs();
            Some(
                front
                    .second
                    .saturating_add(u32::try_from(age).unwrap_or(u32::MAX)),
            )
        });
        due.min()
    }

    /// Forgets the oldest until the bytes are within their limit.
    fn fit(&mut self) {
        while self.bytes_max < self.bytes && self.forget_oldest() {}
    }

    /// Forgets what has the lowest number: an entry, a value, or an empty record. `false` when there is nothing
    /// left.
    fn forget_oldest(&mut self) -> bool {
        let rules = 0..self.orders.len();
        let oldest = rules
            .filter_map(|index| Some((self.oldest_of_rule(index)?, index)))
            .min_by_key(|((number, _), _)| *number);
        let value = self.oldest_value();
        let empty = self.empty.front().copied();
        let lowest = |it: Option<(u64, Key)>| it.map_or(u64::MAX, |(number, _)| number);
        let of_ring = lowest(oldest.map(|(entry, _)| entry));
        if let Some((_, key)) = empty
            && lowest(empty) <= of_ring.min(lowest(value))
        {
            self.empty.pop_front();
            self.forget_record(key);
            return true;
        }
        match (value, oldest) {
            (Some((number, key)), _) if number < of_ring => self.forget_value(number, key),
            (_, Some(((number, key), rule_index))) => self.forget(rule_index, number, key),
            (_, None) => return false,
        }
        true
    }

    /// The oldest entry of a rule. Stale numbers before it leave the queue.
    fn oldest_of_rule(&mut self, rule_index: usize) -> Option<(u64, Key)> {
        let records = &self.records;
        self.orders[rule_index].front(|number, key| {
            let front = records.get(key).and_then(|record| record.ring.front());
            // A later record may have got the key of one that is gone. Its numbers are higher.
            front.is_some_and(|front| front.number <= number)
        })
    }

    fn oldest_value(&mut self) -> Option<(u64, Key)> {
        let records = &self.records;
        self.values_order.front(|number, key| {
            let values = records.get(key).and_then(|record| record.values.as_ref());
            values.is_some_and(|values| values.by_number.contains_key(&number))
        })
    }

    /// Forgets the oldest entry of a rule, which is the first of its ring.
    fn forget(&mut self, rule_index: usize, number: u64, key: Key) {
        self.orders[rule_index].pop_front();
        let Some(record) = self.records.get_mut(key) else {
            return;
        };
        if let Some(entry) = record.ring.pop_front() {
            self.bytes -= entry.counted_bytes();
            self.evicted.push(entry.body);
        }
        record.forgotten = record.forgotten.max(number);
        // The bytes of a ring are counted by its entries, not by its capacity.
        if record.ring.len() < record.ring.capacity() / 4 {
            record.ring.shrink_to(2 * record.ring.len());
        }
        self.list_if_empty(key);
    }

    fn forget_value(&mut self, number: u64, key: Key) {
        self.values_order.pop_front();
        let record = self.records.get_mut(key);
        if let Some(values) = record.and_then(|record| record.values.as_mut()) {
            if let Some(entry) = values.by_number.remove(&number) {
                values.by_key.remove(entry.body.key().unwrap_or_default());
                self.bytes -= entry.value_bytes();
                self.evicted.push(entry.body);
            }
            values.forgotten = values.forgotten.max(number);
            if values.by_key.len() < values.by_key.capacity() / 8 {
                values.by_key.shrink_to(2 * values.by_key.len());
            }
        }
        self.list_if_empty(key);
    }

    fn list_if_empty(&mut self, key: Key) {
        if let Some(record) = self.records.get_mut(key)
            && !record.is_listed
            && record.is_empty()
        {
            record.is_listed = true;
            self.empty.push_back((record.last, key));
        }
    }

    /// Forgets a record that has left the queue of empty ones, unless it has entries again. One that had a
    /// publication meanwhile goes to the end of the queue.
    fn forget_record(&mut self, key: Key) {
        let Some(record) = self.records.get_mut(key) else {
            return;
        };
        record.is_listed = false;
        if !record.is_empty() {
            return;
        }
        let forgotten = record.values.as_ref().map_or(0, |values| values.forgotten);
        let forgotten = forgotten.max(record.forgotten);
        if let Some(record) = self.records.remove(key) {
            self.index
                .remove(hash_name(&self.hasher, &record.topic), key);
            self.bytes -= RECORD_BYTES + record.topic.len();
            self.floor = self.floor.max(forgotten);
        }
    }

    /// The bodies that are no longer kept. The caller drops them, where reactors share the history without the
    /// lock.
    pub fn take_evicted(&mut self) -> Vec<Body> {
        take(&mut self.evicted)
    }

    /// Drops the bodies that are no longer kept.
    #[inline]
    pub fn drop_evicted(&mut self) {
        self.evicted.clear();
    }

    // ── reading ──────────────────────────────────────────────────────────────────────────────

    /// The id of the newest publication. With number 0 when there was none.
    pub fn head(&self) -> EventId {
        EventId::new(self.epoch, self.head)
    }

    /// The bytes of everything that is kept, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The rules by which publications are kept.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// How many topics have a record.
    pub fn topic_count(&self) -> usize {
        self.records.len()
    }

    /// Numbers about a topic. `None` for one without a record.
    pub fn topic(&self, topic: &str) -> Option<TopicHistory<'_>> {
        self.record(topic).map(TopicHistory::of)
    }

    /// Numbers about the topics of a step, in no order. The first step is 0; `None` behind the last one. A step has at most [`STEP_TOPICS_MAX`] topics, because reactors that share the history cannot
    /// publish meanwhile. A topic that is there during all steps comes once.
    pub fn topics_of_step(&self, step: usize) -> Option<impl Iterator<Item = TopicHistory<'_>>> {
        let first = step * STEP_TOPICS_MAX;
        let is_there = first < self.records.place_count();
        let records = || self.records.values_at(first..first + STEP_TOPICS_MAX);
        is_there.then(|| records().map(TopicHistory::of))
    }

    /// Reads on: at most [`PAGE_BODIES_MAX`] entries and about `bytes_max` bytes, up to the number `end`. A page
    /// that is not the last one may have no entries, when many were passed that are not wanted. Of topics that only
    /// a pattern has found, those are left out for which `is_granted` is false.
    pub fn page(
        &self,
        reader: &mut Reader,
        end: u64,
        bytes_max: usize,
        is_granted: impl Fn(&str, &Rule) -> bool,
    ) -> Page {
        let mut page = Page::default();
        if end < reader.after {
            // The client has a cursor of a reactor that is ahead.
            return page;
        }
        if self.is_walked(reader) {
            return self.walk(reader, end, bytes_max, &is_granted);
        }
        let found = self.find_wanted(reader, &is_granted);
        self.note_gaps(reader, &found, &mut page);
        if end == reader.after {
            page.is_end = true;
            return page;
        }
        merge(found, reader, end, bytes_max, page)
    }

    /// The records of what is wanted, each once: by its name, or else by the first pattern that matches.
    fn find_wanted(
        &self,
        reader: &Reader,
        is_granted: &impl Fn(&str, &Rule) -> bool,
    ) -> Vec<(usize, &Record)> {
        let wanted = reader.wanted.iter().enumerate();
        let mut found: Vec<(usize, &Record)> = wanted
            .filter(|(_, wanted)| !wanted.is_pattern)
            .filter_map(|(index, wanted)| Some((index, self.record(&wanted.name)?)))
            .collect();
        if !reader.wanted.iter().any(|wanted| wanted.is_pattern) {
            return found;
        }
        let by_name: BTreeSet<&str> = found.iter().map(|(_, record)| &*record.topic).collect();
        // One that has had no publication since needs no match, which costs more than this comparison.
        let records = self.records.values();
        let recent = records.filter(|record| reader.after < record.last);
        let mut by_pattern = Vec::new();
        for record in recent.filter(|record| !by_name.contains(&*record.topic)) {
            let topic = record.topic.as_bytes();
            let position = reader.wanted.iter().position(|wanted| {
                wanted.is_pattern && pattern::matches(wanted.name.as_bytes(), topic)
            });
            let rule = self.rules.at(usize::from(record.rule_index));
            if let Some(index) = position
                && is_granted(&record.topic, rule)
            {
                by_pattern.push((index, record));
            }
        }
        found.extend(by_pattern);
        found
    }

    /// Notes the gaps that the client has not been told of.
    fn note_gaps(&self, reader: &mut Reader, found: &[(usize, &Record)], page: &mut Page) {
        let was_lost = take(&mut reader.is_lost);
        let floor = match self.is_kept() {
            true => self.floor,
            false => self.head,
        };
        let is_latest = reader.is_latest;
        let forgotten_of = |record: &Record| record.forgotten_for(is_latest);
        // Those found by their names come first, in the order of the names.
        let mut of_names = found.iter().peekable();
        // The highest number that was forgotten of topics which each pattern has found.
        let mut of_patterns: HashMap<usize, (usize, u64)> = HashMap::new();
        for (index, record) in found {
            let wanted = &reader.wanted[*index];
            let forgotten = forgotten_of(record);
            let announced = reader.announced.get(&record.topic).copied().unwrap_or(0);
            if wanted.is_pattern && reader.after.max(announced).max(wanted.announced) < forgotten {
                let (count, highest) = of_patterns.entry(*index).or_default();
                *count += 1;
                *highest = forgotten.max(*highest);
            }
        }
        for (index, wanted) in reader.wanted.iter_mut().enumerate() {
            let (found_count, of_pattern) = of_patterns.get(&index).copied().unwrap_or_default();
            let of_name = match wanted.is_pattern {
                false => of_names.next_if(|(it, _)| *it == index),
                true => None,
            };
            let number = match (wanted.is_pattern, of_name) {
                (false, Some((_, record))) => forgotten_of(record),
                // One gap for all: the topics with records have their own unless they are too many.
                (true, _) if was_lost || PATTERN_GAPS_MAX < found_count => of_pattern.max(floor),
                (_, _) => floor,
            };
            let is_missing = reader.after.max(wanted.announced) < number;
            if is_missing || was_lost && wanted.announced != u64::MAX {
                wanted.announced = wanted.announced.max(number);
                page.gaps.push(Gap {
                    name: wanted.name.clone(),
                    is_pattern: wanted.is_pattern,
                    wanted_index: index,
                    number: number.max(reader.after),
                });
            }
        }
        for (index, record) in found {
            let wanted = &reader.wanted[*index];
            let forgotten = forgotten_of(record);
            let announced = reader.announced.get(&record.topic).copied().unwrap_or(0);
            if wanted.is_pattern && reader.after.max(announced).max(wanted.announced) < forgotten {
                reader.announced.insert(record.topic.clone(), forgotten);
                page.gaps.push(Gap {
                    name: record.topic.clone(),
                    is_pattern: false,
                    wanted_index: *index,
                    number: forgotten,
                });
            }
        }
    }
}

impl TopicHistory<'_> {
    fn of(record: &Record) -> TopicHistory<'_> {
        TopicHistory {
            topic: &record.topic,
            count: record.ring.len(),
            first: record.ring.front().map(|entry| entry.number),
            last: record.last,
        }
    }
}

impl Entry {
    /// A publication that another server keeps.
    pub fn new(number: u64, body: Body) -> Entry {
        Entry {
            number,
            second: 0,
            body,
        }
    }

    /// When it was published, in seconds. `None` where that is not known here.
    pub fn second(&self) -> Option<u32> {
        (self.second != 0).then_some(self.second)
    }

    fn counted_bytes(&self) -> usize {
        ENTRY_BYTES + self.body.counted_bytes()
    }

    fn value_bytes(&self) -> usize {
        VALUE_BYTES + self.body.counted_bytes() + self.body.key().map_or(0, str::len)
    }
}

impl Order {
    fn needs_compaction(&self) -> bool {
        64 < self.stale_count && self.queue.len() < 2 * self.stale_count
    }

    fn compact(&mut self, is_there: impl Fn(u64, Key) -> bool) {
        self.queue.retain(|(number, key)| is_there(*number, *key));
        self.queue.shrink_to(2 * self.queue.len());
        self.stale_count = 0;
    }

    fn pop_front(&mut self) {
        if let Some((number, _)) = self.queue.pop_front() {
            self.passed = self.passed.max(number);
        }
    }

    fn front(&mut self, is_there: impl Fn(u64, Key) -> bool) -> Option<(u64, Key)> {
        while let Some((number, key)) = self.queue.front().copied() {
            if is_there(number, key) {
                return Some((number, key));
            }
            self.pop_front();
            self.stale_count = self.stale_count.saturating_sub(1);
        }
        None
    }
}

/// Adds the entries of these records to a page, in the order of their numbers.
fn merge(
    found: Vec<(usize, &Record)>,
    reader: &mut Reader,
    end: u64,
    bytes_max: usize,
    mut page: Page,
) -> Page {
    let mut rings: Vec<_> = found
        .into_iter()
        .filter(|(_, record)| reader.after < record.last)
        .map(|(index, record)| (index, record.read(reader, end)))
        .collect();
    let mut bytes = 0;
    let mut next: BTreeSet<(u64, usize)> = BTreeSet::new();
    for (index, (_, ring)) in rings.iter().enumerate() {
        next.extend(ring.peek().map(|entry| (entry.number, index)));
    }
    while let Some((number, index)) = next.pop_first() {
        if !page.entries.is_empty() && (PAGE_BODIES_MAX <= page.entries.len() || bytes_max <= bytes)
        {
            return page;
        }
        let (wanted_index, ring) = &mut rings[index];
        if let Some(entry) = ring.next() {
            bytes += entry.counted_bytes();
            page.entries.push((*wanted_index, entry.clone()));
        }
        next.extend(ring.peek().map(|entry| (entry.number, index)));
        reader.after = number;
    }
    reader.after = end;
    page.is_end = true;
    page
}

/// The entries of one topic that a page reads.
enum Reading<'h> {
    Ring(vec_deque::Iter<'h, Entry>),
    Values(btree_map::Range<'h, u64, Entry>),
}

impl Record {
    /// The highest number of what may have been forgotten, for a client that reads everything, or the latest
    /// values.
    fn forgotten_for(&self, is_latest: bool) -> u64 {
        match (is_latest, &self.values) {
            (true, Some(values)) => values.forgotten,
            (true, None) if !self.ring.is_empty() => 0,
            _ => self.forgotten,
        }
    }

    /// The entries behind the place of a reader, up to `end`.
    fn read(&self, reader: &Reader, end: u64) -> Reading<'_> {
        let end_index = self.ring.partition_point(|entry| entry.number <= end);
        let mut begin = self
            .ring
            .partition_point(|entry| entry.number <= reader.after);
        if reader.is_latest {
            if let Some(values) = &self.values {
                let range = values.by_number.range(reader.after + 1..=end);
                return Reading::Values(range);
            }
            // A topic whose values have no keys has one value: its newest publication.
            begin = begin.max(end_index.saturating_sub(1));
        }
        Reading::Ring(self.ring.range(begin.min(end_index)..end_index))
    }
}

impl<'h> Reading<'h> {
    fn peek(&self) -> Option<&'h Entry> {
        match self {
            Reading::Ring(entries) => entries.clone().next(),
            Reading::Values(entries) => entries.clone().next().map(|(_, entry)| entry),
        }
    }

    fn next(&mut self) -> Option<&'h Entry> {
        match self {
            Reading::Ring(entries) => entries.next(),
            Reading::Values(entries) => entries.next().map(|(_, entry)| entry),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::body::Scratch;
    use super::super::event::Event;
    use super::*;
    use crate::pubsub::tests::Xorshift;

    const MANY_BYTES: usize = 1 << 30;

    fn rules(texts: &[&str]) -> Rules {
        let mut rules = Rules::new();
        for text in texts {
            rules.add_text(text).unwrap();
        }
        rules
    }

    fn history(texts: &[&str], bytes_max: usize) -> History {
        let mut history = History::new(7);
        history.keep(rules(texts), bytes_max);
        history
    }

    fn append(history: &mut History, topic: &str, second: u32, event: &Event<'_>) -> u64 {
        let body = || Body::new(topic, event, &mut Scratch::default());
        let number = history.append(topic, second, body).number;
        history.drop_evicted();
        number
    }

    fn reader(history: &History, names: &[&str], since: Since) -> Reader {
        let names = names
            .iter()
            .map(|name| ((*name).into(), pattern::is_pattern(name)));
        Reader::new(history, names, since, false)
    }

    fn after(number: u64) -> Since {
        Since::Id(EventId::new(7, number))
    }

    /// All that a reader gets: gaps and numbers in the order in which it is told of them.
    fn read(history: &History, reader: &mut Reader, end: u64) -> (Vec<(String, u64)>, Vec<u64>) {
        let (mut gaps, mut numbers) = (Vec::new(), Vec::new());
        for _ in 0..10_000 {
            let page = history.page(reader, end, MANY_BYTES, |_, _| true);
            gaps.extend(
                page.gaps
                    .iter()
                    .map(|gap| (gap.name.to_string(), gap.number)),
            );
            numbers.extend(page.entries.iter().map(|(_, entry)| entry.number));
            if page.is_end {
                return (gaps, numbers);
            }
        }
        panic!("the reader comes to no end");
    }

    #[test]
    fn a_reader_gets_what_came_after_its_cursor() {
        let mut history = history(&["few=history=2", "off=history=0"], MANY_BYTES);
        for topic in ["a", "b", "few", "off", "a", "few", "few", "b"] {
            append(&mut history, topic, 0, &"x".into());
        }
        let gap = |name: &str, number| vec![(name.to_owned(), number)];
        let cases: &[(&[&str], Since, Vec<(String, u64)>, &[u64])] = &[
            (&["a"], after(0), vec![], &[1, 5]),
            (&["a"], after(1), vec![], &[5]),
            (&["a"], after(8), vec![], &[]),
            (&["a", "a"], after(0), vec![], &[1, 5]),
            (&["b", "a"], after(0), vec![], &[1, 2, 5, 8]),
            (&["a*", "a", "b"], after(1), vec![], &[2, 5, 8]),
            (&["few"], after(0), gap("few", 3), &[6, 7]),
            (&["few"], after(3), vec![], &[6, 7]),
            (&["off"], after(3), gap("off", 4), &[]),
            (&["off"], after(4), vec![], &[]),
            (&["none"], after(0), vec![], &[]),
            (&["*"], after(5), vec![], &[6, 7, 8]),
            (&["f*", "b"], after(1), gap("few", 3), &[2, 6, 7, 8]),
            (&["few", "off"], Since::Earliest, vec![], &[6, 7]),
            (&["a"], Since::Id(EventId::new(8, 5)), gap("a", 0), &[1, 5]),
            (
                &["few"],
                Since::Id(EventId::new(8, 5)),
                gap("few", 3),
                &[6, 7],
            ),
            (
                &["f*"],
                Since::Id(EventId::new(8, 5)),
                gap("f*", 3),
                &[6, 7],
            ),
            (&["a"], after(9), gap("a", 8), &[]),
        ];
        for (names, since, gaps, numbers) in cases {
            let mut reader = reader(&history, names, *since);
            let expected = (gaps.clone(), numbers.to_vec());
            assert_eq!(
                read(&history, &mut reader, 8),
                expected,
                "{names:?} {since:?}"
            );
            assert_eq!(reader.after(), 8);
        }
    }

    #[test]
    fn topics_without_grant_are_left_out_of_patterns() {
        let mut history = history(&["x=history=0"], MANY_BYTES);
        for topic in ["a", "secret", "x", "a"] {
            append(&mut history, topic, 0, &"x".into());
        }
        let mut reader = reader(&history, &["*"], after(0));
        let page = history.page(&mut reader, 4, MANY_BYTES, |topic, _| topic == "a");
        let numbers: Vec<_> = page.entries.iter().map(|(_, it)| it.number).collect();
        assert_eq!((numbers, page.gaps), (vec![1, 4], vec![]));
    }

    #[test]
    fn pages_end_at_their_limits_and_go_on() {
        let mut history = history(&["*=history=1000"], MANY_BYTES);
        for n in 0..600 {
            let topic = if n % 3 == 0 { "a" } else { "b" };
            append(&mut history, topic, 0, &"x".into());
        }
        let mut reader = reader(&history, &["a", "b"], after(0));
        let first = history.page(&mut reader, 590, MANY_BYTES, |_, _| true);
        assert_eq!(
            (first.entries.len(), first.is_end),
            (PAGE_BODIES_MAX, false)
        );
        assert_eq!(reader.after(), 256);
        let small = history.page(&mut reader, 590, 1, |_, _| true);
        assert_eq!((small.entries.len(), small.is_end), (1, false));
        let (gaps, rest) = read(&history, &mut reader, 590);
        assert_eq!((gaps, rest), (vec![], (258..=590).collect()));
    }

    #[test]
    fn a_gap_under_a_replay_is_announced_where_it_is() {
        let mut history = history(&["*=history=300"], MANY_BYTES);
        for _ in 0..300 {
            append(&mut history, "a", 0, &"x".into());
        }
        let mut reader = reader(&history, &["a"], after(0));
        let page = history.page(&mut reader, 300, MANY_BYTES, |_, _| true);
        assert_eq!((page.gaps.len(), page.entries.len()), (0, 256));
        for _ in 0..280 {
            append(&mut history, "a", 0, &"x".into());
        }
        let (gaps, numbers) = read(&history, &mut reader, 580);
        assert_eq!(gaps, [("a".to_owned(), 280)]);
        assert_eq!(numbers, (281..=580).collect::<Vec<_>>());
    }

    #[test]
    fn latest_values_are_one_for_each_key() {
        let mut history = history(&["p=latest,history=0", "q=latest"], MANY_BYTES);
        let value = |key: &str, data: &str| Event::message(data.to_owned()).key(key.to_owned());
        for (topic, key, data) in [
            ("p", "eur", "1"),
            ("p", "usd", "2"),
            ("q", "eur", "3"),
            ("p", "eur", "4"),
            ("n", "a", "5"),
            ("n", "b", "6"),
        ] {
            append(&mut history, topic, 0, &value(key, data));
        }
        let latest = |names: &[&str], since| {
            let names = names.iter().map(|name| ((*name).into(), false));
            let mut reader = Reader::new(&history, names, since, true);
            let page = history.page(&mut reader, 6, MANY_BYTES, |_, _| true);
            assert!(page.is_end);
            let numbers: Vec<_> = page.entries.iter().map(|(_, it)| it.number).collect();
            (page.gaps.len(), numbers)
        };
        assert_eq!(latest(&["p", "q"], Since::Earliest), (0, vec![2, 3, 4]));
        assert_eq!(
            latest(&["p"], after(2)),
            (0, vec![4]),
            "no gap although its ring has none"
        );
        assert_eq!(
            latest(&["n"], Since::Earliest),
            (0, vec![6]),
            "a topic without keys"
        );
    }

    #[test]
    fn age_is_counted_by_the_rule_of_the_topic() {
        let mut history = history(&["long=age=100", "short=age=10"], MANY_BYTES);
        for second in 0..20 {
            append(&mut history, "long", second, &"x".into());
            append(&mut history, "short", second, &"x".into());
        }
        assert!(!history.expire(20, 1000));
        let of = |history: &History, topic| history.topic(topic).map(|it| (it.count, it.first));
        assert_eq!(of(&history, "long"), Some((20, Some(1))));
        assert_eq!(of(&history, "short"), Some((9, Some(24))));
        assert!(history.expire(1000, 5), "more to do");
        assert!(!history.expire(1000, 1000));
        assert_eq!(of(&history, "long"), Some((0, None)));
        let mut reader = reader(&history, &["long"], after(38));
        assert_eq!(
            read(&history, &mut reader, 40),
            (vec![("long".into(), 39)], vec![])
        );
    }

    #[test]
    fn each_topic_comes_in_one_step() {
        let mut history = history(&[], 10_000_000);
        assert!(history.topics_of_step(0).is_none());
        for number in 0..1000 {
            append(&mut history, &number.to_string(), 0, &Event::message("x"));
        }
        let steps: Vec<Vec<_>> = (0..)
            .map_while(|step| history.topics_of_step(step))
            .map(|topics| topics.map(|it| it.topic).collect())
            .collect();
        assert!(steps.iter().all(|step| step.len() <= STEP_TOPICS_MAX));
        let all: BTreeSet<_> = steps.concat().into_iter().collect();
        assert_eq!((steps.len(), all.len()), (4, 1000));
    }

    #[test]
    fn a_forgotten_record_raises_the_floor() {
        let mut history = history(&["*=history=1"], 20_000);
        for n in 0..1000 {
            append(&mut history, &format!("user.{n}"), 0, &"x".into());
            assert!(history.bytes() <= 20_000);
        }
        assert!(history.topic_count() < 200);
        let first = history.topics_of_step(0).unwrap();
        let first = first.map(|it| it.last).min().unwrap();
        let mut early = reader(&history, &["user.0"], after(0));
        let (gaps, _) = read(&history, &mut early, 1000);
        assert_eq!(gaps, [("user.0".to_owned(), first - 1)]);
        let mut late = reader(&history, &["user.0"], after(first - 1));
        assert_eq!(read(&history, &mut late, 1000), (vec![], vec![]));
        // A record that is made anew knows that it does not know.
        append(&mut history, "user.0", 0, &"x".into());
        let mut early = reader(&history, &["user.0"], after(0));
        let (gaps, numbers) = read(&history, &mut early, 1001);
        assert_eq!((gaps.len(), numbers), (1, vec![1001]));
    }

    #[test]
    fn busy_topics_keep_their_queue_short() {
        let mut history = history(&["*=history=3", "v=latest,history=0"], MANY_BYTES);
        let mut values = History::new(1);
        values.keep(rules(&["v=latest,history=0"]), MANY_BYTES);
        for _ in 0..100_000 {
            append(&mut history, "a", 0, &"x".into());
            append(&mut values, "v", 0, &"x".into());
        }
        let longest = history.orders.iter().map(|order| order.queue.len()).max();
        assert!(longest < Some(200), "{longest:?}");
        assert!(values.values_order.queue.len() < 200);
        assert!(history.bytes() < 2000 && values.bytes() < 2000);
    }

    #[test]
    fn without_bytes_only_the_numbers_go_on() {
        let mut history = History::new(7);
        assert_eq!(append(&mut history, "a", 0, &"x".into()), 1);
        assert_eq!((history.bytes(), history.topic_count()), (0, 0));
        history.keep(Rules::new(), MANY_BYTES);
        assert_eq!(append(&mut history, "a", 0, &"x".into()), 2);
        let mut reader = reader(&history, &["a"], after(0));
        assert_eq!(
            read(&history, &mut reader, 2),
            (vec![("a".into(), 1)], vec![2])
        );
    }

    // Against a list of everything: a reader gets each publication that it wants, or a gap up to where it
    // begins to get them.
    #[test]
    fn same_as_a_list_of_all_publications() {
        for seed in 1..200 {
            let mut random = Xorshift::new(seed);
            let texts = [
                "a=history=3",
                "b*=history=5,age=20",
                "c=latest",
                "d=history=0",
                "e=age=5",
            ];
            let bytes_max = [900, 2000, 8000, MANY_BYTES][random.below(4)];
            let mut history = history(&texts, bytes_max);
            let mut all: Vec<(u64, String)> = Vec::new();
            let mut second = 0;
            let names = ["a", "b1", "b2", "c", "d", "e", "f"];
            for _ in 0..200 {
                match random.below(10) {
                    0 => {
                        second += random.below(10) as u32;
                        history.expire(second, random.below(5));
                    }
                    1..7 => {
                        let topic = names[random.below(names.len())];
                        let number = append(&mut history, topic, second, &"x".into());
                        all.push((number, topic.to_owned()));
                        assert!(history.bytes() <= bytes_max);
                    }
                    _ => {
                        let cursor = random.below(all.len() + 1) as u64;
                        let wanted = ["a", "b*", "b1", "c", "d", "e", "*", "none"];
                        let wanted: Vec<&str> = wanted
                            .into_iter()
                            .filter(|_| random.below(3) == 0)
                            .collect();
                        let end = cursor + random.below(all.len() + 1 - cursor as usize) as u64;
                        let mut reader = reader(&history, &wanted, after(cursor));
                        let (gaps, numbers) = read(&history, &mut reader, end);
                        assert!(numbers.is_sorted());
                        for (number, topic) in &all {
                            let by_name =
                                |name: &&str| pattern::matches(name.as_bytes(), topic.as_bytes());
                            let is_wanted =
                                wanted.iter().any(by_name) && cursor < *number && *number <= end;
                            let is_read = numbers.contains(number);
                            let is_announced = gaps.iter().any(|(name, until)| {
                                number <= until
                                    && pattern::matches(name.as_bytes(), topic.as_bytes())
                            });
                            assert!(!is_read || is_wanted, "seed {seed}: {number} {topic}");
                            assert!(
                                !is_wanted || is_read || is_announced,
                                "seed {seed}: {number} {topic}"
                            );
                        }
                        // As long as everything fits, a gap means that something was missed.
                        for (name, until) in gaps.iter().filter(|_| bytes_max == MANY_BYTES) {
                            let missed = all.iter().any(|(number, topic)| {
                                topic == name
                                    && cursor < *number
                                    && number <= until
                                    && !numbers.contains(number)
                            });
                            assert!(
                                missed,
                                "seed {seed}: a gap of {name} up to {until} after {cursor}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_ring_that_has_been_long_gives_its_memory_back() {
        let mut history = history(&["*=history=10000", "v=latest"], 256 * 1024);
        let long = "x".repeat(128 * 1024);
        for topic in ["a", "b"] {
            for n in 0..600 {
                append(&mut history, topic, 0, &Event::message(n.to_string()));
            }
            // The long ones push out all but the last of these.
            append(&mut history, "c", 0, &Event::message(&*long));
            append(&mut history, topic, 0, &"last".into());
            append(&mut history, "c", 0, &Event::message(&*long));
            let record = history.record(topic).unwrap();
            assert!(record.ring.len() <= 1, "{}", record.ring.len());
            assert!(
                record.ring.capacity() <= 16,
                "{topic}: {}",
                record.ring.capacity()
            );
        }
    }

    /// Reads everything, by pages of either kind.
    fn read_all(
        history: &History,
        reader: &mut Reader,
        end: u64,
        is_walked: bool,
    ) -> (Vec<(usize, u64)>, Vec<(Box<str>, u64)>) {
        let is_granted = |topic: &str, _: &Rule| topic != "t7";
        let (mut entries, mut gaps) = (Vec::new(), Vec::new());
        loop {
            let page = match is_walked {
                true => history.walk(reader, end, 2000, &is_granted),
                false => history.page(reader, end, 2000, is_granted),
            };
            gaps.extend(page.gaps.into_iter().map(|gap| (gap.name, gap.number)));
            entries.extend(page.entries.iter().map(|(index, it)| (*index, it.number)));
            if page.is_end {
                return (entries, gaps);
            }
        }
    }

    #[test]
    fn a_walk_reads_the_same_as_a_merge() {
        let mut random = Xorshift::new(0x5eed);
        for round in 0..300 {
            let bytes_max = [4000, 20_000, MANY_BYTES][round % 3];
            let texts = [
                "t1*=history=3",
                "t2*=history=0",
                "t3*=latest,history=2",
                "t4=latest",
            ];
            let mut history = history(&texts, bytes_max);
            for second in 0..200 + (round as u32 % 50) {
                let topic = format!("t{}", random.below(40));
                let key = (random.below(4)).to_string();
                let event = Event::message("x").key(&key);
                append(&mut history, &topic, second, &event);
                if random.below(50) == 0 {
                    history.expire(second + 250, 5);
                }
            }
            let all = [("t5", false), ("t?", true), ("*", true), ("t11", false)];
            let names = all.iter().take(1 + round % all.len());
            let names = names.map(|(name, is_pattern)| (Box::from(*name), *is_pattern));
            let since = match random.below(4) {
                0 => Since::Earliest,
                _ => Since::Id(EventId::new(
                    7,
                    random.below(history.head as usize + 2) as u64,
                )),
            };
            let is_latest = random.below(2) == 0;
            let reader = Reader::new(&history, names, since, is_latest);
            let end = history.head - random.below(3) as u64;
            if end < reader.after {
                continue;
            }
            let merged = read_all(&history, &mut reader.clone(), end, false);
            let walked = read_all(&history, &mut reader.clone(), end, true);
            assert_eq!(walked, merged, "round {round}");
        }
    }

    #[test]
    fn a_walk_under_which_the_history_goes_tells_of_each_gap() {
        let mut random = Xorshift::new(0x0dd);
        for round in 0..300 {
            let texts = ["t1*=history=3", "t2=history=0", "t3*=latest,history=2"];
            let mut history = history(&texts, 6000 + 500 * round);
            // The numbers of each topic.
            let mut published: HashMap<String, Vec<u64>> = HashMap::new();
            let mut publish_some = |history: &mut History, count: u64| {
                for _ in 0..count {
                    let topic = format!("t{}", random.below(30));
                    let number = append(history, &topic, 0, &Event::message("x"));
                    published.entry(topic).or_default().push(number);
                }
            };
            publish_some(&mut history, 80);
            let after = 20;
            let names = [
                (Box::from("t1?"), true),
                ("t5".into(), false),
                ("*".into(), true),
            ];
            let since = Since::Id(EventId::new(7, after));
            let mut reader = Reader::new(&history, names, since, false);
            let mut got = HashSet::new();
            let (mut of_topics, mut of_pattern): (HashMap<String, u64>, u64) = Default::default();
            loop {
                let end = history.head;
                let page = history.walk(&mut reader, end, 600, &|_, _| true);
                for gap in page.gaps {
                    match gap.is_pattern {
                        true => of_pattern = of_pattern.max(gap.number),
                        false => drop(of_topics.insert(gap.name.into(), gap.number)),
                    }
                }
                got.extend(page.entries.iter().map(|(_, entry)| entry.number));
                if page.is_end {
                    break;
                }
                if history.head < 400 {
                    publish_some(&mut history, 5);
                }
            }
            for (topic, numbers) in published {
                let announced = of_topics.get(&topic).copied().unwrap_or(0).max(of_pattern);
                for number in numbers {
                    let is_known = number <= after.max(announced) || got.contains(&number);
                    assert!(is_known, "round {round}: {topic} {number} is missing");
                }
            }
        }
    }
}
