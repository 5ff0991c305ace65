//! Pages of a client that reads very many topics.
//!
//! A page of a few topics merges their rings. With a pattern over a hundred thousand topics that would look at all of
//! them for each page. Here the queues of what is oldest are followed instead: they have all entries in the order
//! of their numbers. The last number that a full ring has forgotten stays in its queue, and a gap is noted where the
//! walk comes to it. A number that was forgotten at the front of a queue has left the queue, so all records are
//! looked at on the first page, and again when a front has moved on behind the place of the reader.

use std::collections::{HashMap, hash_map};
use std::iter::Peekable;

use super::{Entry, Gap, History, PAGE_BODIES_MAX, PATTERN_GAPS_MAX, Page, Reader, Record, merge};
use crate::pubsub::pattern;
use crate::pubsub::rules::Rule;
use crate::pubsub::slots::Key;

/// Names are compared one by one up to this number.
const COMPARED_NAMES_MAX: usize = 64;

/// A client that reads by a pattern walks where there are more records. Tests walk over few.
const MERGED_RECORDS_MAX: usize = if cfg!(test) { 4 } else { 1024 };

/// The most entries that one page passes, wanted or not. It may be read under a lock.
const STEPS_MAX: usize = 4096;

impl Reader {
    /// Prepares to find the names.
    pub(super) fn index_names(&mut self) {
        self.indexes.clear();
        if COMPARED_NAMES_MAX < self.wanted.len() {
            let names = self.wanted.iter().enumerate();
            let names = names.filter(|(_, wanted)| !wanted.is_pattern);
            self.indexes
                .extend(names.map(|(index, wanted)| (wanted.name.clone(), index)));
        }
    }

    /// The index of the name by which a topic is wanted, and otherwise of the first pattern that matches.
    fn position(&self, topic: &str) -> Option<usize> {
        let of_name = match self.wanted.len() <= COMPARED_NAMES_MAX {
            true => {
                let mut names = self.wanted.iter();
                names.position(|wanted| !wanted.is_pattern && *wanted.name == *topic)
            }
            false => self.indexes.get(topic).copied(),
        };
        of_name.or_else(|| {
            self.wanted.iter().position(|wanted| {
                wanted.is_pattern && pattern::matches(wanted.name.as_bytes(), topic.as_bytes())
            })
        })
    }

    /// Notes that the client is told of the gap of a topic, unless it has been or need not be.
    fn announce(&mut self, index: usize, topic: &str, forgotten: u64) -> bool {
        let wanted = &mut self.wanted[index];
        if forgotten <= self.after.max(wanted.announced) {
            return false;
        }
        if !wanted.is_pattern {
            wanted.announced = forgotten;
            return true;
        }
        match self.announced.get_mut(topic) {
            Some(announced) if forgotten <= *announced => return false,
            Some(announced) => *announced = forgotten,
            None => drop(self.announced.insert(topic.into(), forgotten)),
        }
        true
    }
}

impl History {
    /// Whether a reader wants so much that its pages [walk](Self::walk).
    pub(super) fn is_walked(&self, reader: &Reader) -> bool {
        let has_pattern = || reader.wanted.iter().any(|wanted| wanted.is_pattern);
        self.is_kept()
            && (COMPARED_NAMES_MAX < reader.wanted.len()
                || MERGED_RECORDS_MAX < self.records.len() && has_pattern())
    }

    /// The highest number that has left a queue at its front or the history with its record, and a sum that grows
    /// whenever one does.
    fn forgotten_until(&self) -> (u64, u64) {
        let orders = self.orders.iter().chain([&self.values_order]);
        let passed = orders.map(|order| order.passed).chain([self.floor]);
        passed.fold((0, 0), |(highest, sum), number| {
            (number.max(highest), number.wrapping_add(sum))
        })
    }

    /// As [`page`](Self::page), by the queues of all entries.
    pub(super) fn walk(
        &self,
        reader: &mut Reader,
        end: u64,
        bytes_max: usize,
        is_granted: &impl Fn(&str, &Rule) -> bool,
    ) -> Page {
        let mut page = Page::default();
        let forgotten = self.forgotten_until();
        let seen = reader.seen_forgotten;
        let is_scanned = seen.is_some_and(|it| it == forgotten || forgotten.0 <= reader.after);
        if !is_scanned {
            let after = reader.after;
            reader.announced.retain(|_, number| after < *number);
            let found = self.find_wanted(reader, is_granted);
            self.note_gaps(reader, &found, &mut page);
            reader.seen_forgotten = Some(forgotten);
            if found.len() <= MERGED_RECORDS_MAX {
                return merge(found, reader, end, bytes_max, page);
            }
        }
        let mut positions = HashMap::new();
        let mut queues = Queues::new(self, reader);
        let (mut bytes, mut step_count, mut gap_count) = (0, 0, 0);
        while let Some((number, key, is_value)) = queues.next_until(end) {
            // A number may stand in two queues. It counts once.
            if reader.after != number {
                let is_full = PAGE_BODIES_MAX <= page.entries.len() || bytes_max <= bytes;
                if STEPS_MAX <= step_count
                    || PATTERN_GAPS_MAX <= gap_count
                    || !page.entries.is_empty() && is_full
                {
                    return page;
                }
                step_count += 1;
            }
            let found = self.records.get(key).and_then(|record| {
                let entry = record.entry_at(number, end, is_value, reader.is_latest);
                let is_gap = !is_value && record.forgotten_for(reader.is_latest) == number;
                (entry.is_some() || is_gap).then_some((record, entry))
            });
            if let Some((record, entry)) = found {
                let position = match positions.entry(key.index()) {
                    hash_map::Entry::Occupied(known) => *known.get(),
                    hash_map::Entry::Vacant(vacant) => {
                        let rule = self.rules.at(usize::from(record.rule_index));
                        let position = reader.position(&record.topic).filter(|index| {
                            !reader.wanted[*index].is_pattern || is_granted(&record.topic, rule)
                        });
                        *vacant.insert(position)
                    }
                };
                if let Some(index) = position {
                    match entry {
                        Some(entry) => {
                            bytes += entry.counted_bytes();
                            page.entries.push((index, entry.clone()));
                        }
                        None if reader.announce(index, &record.topic, number) => {
                            gap_count += 1;
                            page.gaps.push(Gap {
                                name: record.topic.clone(),
                                is_pattern: false,
                                wanted_index: index,
                                number,
                            });
                        }
                        None => {}
                    }
                }
            }
            reader.after = number;
        }
        reader.after = end;
        page.is_end = true;
        page
    }
}

impl Record {
    /// The entry with a number, in the ring or among the values, if a reader gets it.
    fn entry_at(&self, number: u64, end: u64, is_value: bool, is_latest: bool) -> Option<&Entry> {
        if is_value {
            let values = self.values.as_ref()?;
            return values.by_number.get(&number);
        }
        if is_latest && self.values.is_some() {
            return None;
        }
        let index = self.ring.binary_search_by_key(&number, |it| it.number);
        let index = index.ok()?;
        // A topic whose values have no keys has one value: its newest publication.
        let next = self.ring.get(index + 1);
        let is_newest = next.is_none_or(|next| end < next.number);
        (!is_latest || is_newest).then(|| &self.ring[index])
    }
}

/// The queues of entries behind the place of a reader. The last one has the values.
struct Queues<I: Iterator<Item = (u64, Key)>> {
    queues: Vec<Peekable<I>>,
    values_index: usize,
}

impl Queues<std::iter::Empty<(u64, Key)>> {
    fn new<'h>(
        history: &'h History,
        reader: &Reader,
    ) -> Queues<impl Iterator<Item = (u64, Key)> + use<'h>> {
        let after = reader.after;
        let values = reader.is_latest.then_some(&history.values_order);
        let orders = history.orders.iter().chain(values);
        let queues = orders.map(|order| {
            let begin = order.queue.partition_point(|(number, _)| *number <= after);
            order.queue.range(begin..).copied().peekable()
        });
        Queues {
            queues: queues.collect(),
            values_index: history.orders.len(),
        }
    }
}

impl<I: Iterator<Item = (u64, Key)>> Queues<I> {
    /// The next number up to `end`, with its record and whether it is that of a value.
    fn next_until(&mut self, end: u64) -> Option<(u64, Key, bool)> {
        let fronts = self.queues.iter_mut().enumerate();
        let fronts = fronts.filter_map(|(index, queue)| Some((queue.peek()?.0, index)));
        let (number, index) = fronts.min()?;
        if end < number {
            return None;
        }
        let (number, key) = self.queues[index].next()?;
        Some((number, key, index == self.values_index))
    }
}
