//! The palette: publications that many members have in common, each held once.
//!
//! A member of a topic gets the same bytes as the next one, and most often it gets nothing else in a
//! turn. A node for each member and publication would hold a reference to the bytes, a place in the
//! slab and a copy at the flush. So a publication stands once in a list, and a member holds a
//! [`Range`] of this list instead of nodes. The bytes of a range are joined once for the flush, and
//! all members with the same range write the same buffer.
//!
//! There is a list for each wire format, its *lane*, with the publications that were encoded in it. A
//! range is extended by one publication in one of two orders:
//!
//! * *dense*: the next entry of the lane. So are the ranges of members that get everything.
//! * *by key*: the next entry of the same topic. So are the ranges of members of one topic, when
//!   publications to other topics come between.
//!
//! A range holds as long as nothing else is queued for its member. The outbox unrolls it into nodes
//!
//! * when anything else comes between: a reply, a message, or a publication which continues the range
//!   in neither order, as for a member that is left out of one or is in several topics but not in all,
//! * when the socket blocks, because a slow member would hold the list for long,
//! * before a policy acts, because policies drop single messages.
//!
//! So a connection has nodes or a range, and never both.
//!
//! These stay outside, and are nodes from the start: publications to a connection that is blocked, is
//! being read or is not open yet; masked frames; wire formats whose bytes depend on the subscription;
//! publications of [`PUBLICATION_BYTES_MAX`] or more, for which a node costs little beside their bytes.
//!
//! Entries live until no range is left, in any lane. The flush of each turn takes all ranges, unless
//! the turn had no time for it; a lane with [`ENTRIES_MAX`] publications or [`LANE_BYTES_MAX`] bytes
//! takes no more until all ranges are gone. Each range is then taken by a flush or unrolled, and the
//! list is empty again. A list whose first entries go one by one would hold less, but it would have to
//! count the ranges of each entry, for each member.

use std::rc::Rc;

use crate::pubsub::{Frame, FramedFormat, WireFormat};
use crate::reactor::config::QUEUED_MESSAGE_BYTES;

/// Publications of this many bytes or more stay outside.
const PUBLICATION_BYTES_MAX: usize = 16 * 1024;

/// The most publications in a lane.
const ENTRIES_MAX: usize = 1024;

/// The most bytes in a lane, with the overhead of each publication.
const LANE_BYTES_MAX: usize = 1024 * 1024;

/// The longest range that is joined, in bytes with their overhead. A longer one is unrolled.
const JOINED_BYTES_MAX: usize = 128 * 1024;

/// How far back the entry before of the same topic is looked for. With more topics between, the range
/// of a member of one topic is unrolled.
const LOOK_BACK: usize = 16;

/// No entry.
const NONE: u32 = u32::MAX;

/// The range goes on with the next entry of the lane.
const DENSE: u8 = 1;
/// The range goes on with the next entry of the same key.
const BY_KEY: u8 = 1 << 1;

/// The publications that are queued for one connection, instead of nodes.
#[derive(Debug)]
pub(super) struct Range {
    first: u32,
    last: u32,
    counted_bytes: u32,
    lane: u8,
    /// The orders that its entries have; a range of one entry has both. Zero without entries.
    orders: u8,
}

impl Range {
    pub(super) const EMPTY: Range = Range {
        first: 0,
        last: 0,
        counted_bytes: 0,
        lane: 0,
        orders: 0,
    };

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.orders == 0
    }

    /// The bytes of its publications, with the overhead of each.
    #[inline]
    pub(super) fn counted_bytes(&self) -> usize {
        self.counted_bytes as usize
    }

    /// Which bytes it stands for. Equal for ranges of the same entries.
    fn name(&self) -> (u8, bool, u32, u32) {
        let is_dense = self.orders & DENSE != 0;
        (self.lane, is_dense, self.first, self.last)
    }
}

/// One publication in one wire format.
struct Entry {
    bytes: Rc<[u8]>,
    key: u64,
    /// The next entry of the same key.
    next_of_key: u32,
}

/// The publications in one wire format, oldest first.
struct Lane {
    format: FramedFormat,
    entries: Vec<Entry>,
    counted_bytes: usize,
    /// The mark of the last publication.
    mark: u64,
    /// The entry before the last one with the same key.
    before_of_key: u32,
}

/// The last entry of one lane, for the members of the publication that is being delivered.
struct Current {
    /// The mark of the publication; zero for none.
    mark: u64,
    format: FramedFormat,
    lane: u8,
    index: u32,
    before_of_key: u32,
    counted_bytes: u32,
}

const NO_CURRENT: Current = Current {
    mark: 0,
    format: FramedFormat::new(WireFormat::RAW, Frame::Bare),
    lane: 0,
    index: NONE,
    before_of_key: NONE,
    counted_bytes: 0,
};

/// The publications of all lanes. See the head of this file.
pub(super) struct Palette {
    current: Current,
    /// How many ranges there are.
    range_count: usize,
    lanes: Vec<Lane>,
    /// The bytes of the range that was joined last, and its name.
    joined: Vec<u8>,
    joined_name: Option<(u8, bool, u32, u32)>,
}

impl Palette {
    pub(super) fn new() -> Palette {
        Palette {
            current: NO_CURRENT,
            range_count: 0,
            lanes: Vec::new(),
            joined: Vec::new(),
            joined_name: None,
        }
    }

    // ── a publication ────────────────────────────────────────────────────────────────────────

    /// Whether the publication of this mark stands in the lane of this format, so that ranges can be
    /// [extended](Self::extend) by it.
    #[inline(always)]
    pub(super) fn has(&self, mark: u64, format: FramedFormat) -> bool {
        self.current.mark == mark && self.current.format == format
    }

    /// Adds a publication in one format, unless it stands there already. Returns `false` when it is too
    /// long, or the lane is full. [`forget_taken`](Self::forget_taken) is to be called before.
    pub(super) fn add(
        &mut self,
        mark: u64,
        key: u64,
        format: FramedFormat,
        bytes: &Rc<[u8]>,
    ) -> bool {
        // An empty message is never queued.
        if bytes.is_empty() || PUBLICATION_BYTES_MAX <= bytes.len() {
            return false;
        }
        let lane_index = self.lane_of(format);
        let lane = &mut self.lanes[usize::from(lane_index)];
        let counted_bytes = bytes.len() + QUEUED_MESSAGE_BYTES;
        if lane.mark != mark {
            let is_full = ENTRIES_MAX <= lane.entries.len()
                || LANE_BYTES_MAX < lane.counted_bytes + counted_bytes;
            if is_full {
                return false;
            }
            lane.add(mark, key, Rc::clone(bytes));
        }
        self.current = Current {
            mark,
            format,
            lane: lane_index,
            index: lane.entries.len() as u32 - 1,
            before_of_key: lane.before_of_key,
            counted_bytes: counted_bytes as u32,
        };
        true
    }

    /// Extends a range by the publication that was added last. Returns `false` when it does not continue
    /// the range, which is to be unrolled then.
    #[inline(always)]
    pub(super) fn extend(&mut self, range: &mut Range) -> bool {
        let current = &self.current;
        if range.is_empty() {
            self.range_count += 1;
            *range = Range {
                first: current.index,
                last: current.index,
                counted_bytes: current.counted_bytes,
                lane: current.lane,
                orders: DENSE | BY_KEY,
            };
            return true;
        }
        let dense = u8::from(range.last + 1 == current.index) * DENSE;
        let by_key = u8::from(range.last == current.before_of_key) * BY_KEY;
        let orders = range.orders & (dense | by_key);
        if orders == 0 || range.lane != current.lane {
            return false;
        }
        range.last = current.index;
        range.counted_bytes += current.counted_bytes;
        range.orders = orders;
        true
    }

    fn lane_of(&mut self, format: FramedFormat) -> u8 {
        let known = self.lanes.iter().position(|lane| lane.format == format);
        let index = known.unwrap_or(self.lanes.len());
        if known.is_none() {
            self.lanes.push(Lane::new(format));
        }
        // There are 18 wire formats and 4 frames.
        index as u8
    }

    // ── a range ──────────────────────────────────────────────────────────────────────────────

    /// The bytes of a range; `None` when it is too long to be joined.
    #[inline]
    pub(super) fn bytes(&mut self, range: &Range) -> Option<&[u8]> {
        if range.first == range.last {
            let lane = &self.lanes[usize::from(range.lane)];
            return Some(&lane.entries[range.first as usize].bytes);
        }
        if self.joined_name != Some(range.name()) {
            if JOINED_BYTES_MAX < range.counted_bytes() {
                return None;
            }
            self.join(range);
        }
        Some(&self.joined)
    }

    #[inline(never)]
    fn join(&mut self, range: &Range) {
        let mut joined = std::mem::take(&mut self.joined);
        joined.clear();
        self.for_each(range, |_, bytes| joined.extend_from_slice(bytes));
        self.joined = joined;
        self.joined_name = Some(range.name());
    }

    /// Calls `visit` with the key and the bytes of each publication of a range, in their order.
    pub(super) fn for_each(&self, range: &Range, mut visit: impl FnMut(u64, &Rc<[u8]>)) {
        if range.is_empty() {
            return;
        }
        let entries = &self.lanes[usize::from(range.lane)].entries;
        let mut index = range.first;
        loop {
            let entry = &entries[index as usize];
            visit(entry.key, &entry.bytes);
            if index == range.last {
                return;
            }
            index = match range.orders & DENSE {
                0 => entry.next_of_key,
                _ => index + 1,
            };
        }
    }

    /// Empties a range: its bytes are in the kernel, or are nodes.
    #[inline]
    pub(super) fn release(&mut self, range: &mut Range) {
        if !range.is_empty() {
            *range = Range::EMPTY;
            self.range_count -= 1;
        }
    }

    // ── memory ───────────────────────────────────────────────────────────────────────────────

    /// Drops all publications when no range is left. Returns how many bytes only the palette held: no
    /// node, and no publication that is being delivered.
    #[inline]
    pub(super) fn forget_taken(&mut self) -> usize {
        if self.range_count != 0 {
            return 0;
        }
        self.current = NO_CURRENT;
        self.joined_name = None;
        self.lanes.iter_mut().map(Lane::clear).sum()
    }

    /// Gives memory back after a burst, when no publication is left.
    pub(super) fn give_back_memory(&mut self) {
        if self.lanes.iter().all(|lane| lane.entries.is_empty()) {
            self.joined = Vec::new();
            self.lanes = Vec::new();
            self.joined_name = None;
            self.current = NO_CURRENT;
        }
    }

    #[cfg(test)]
    pub(super) fn entry_count(&self) -> usize {
        self.lanes.iter().map(|lane| lane.entries.len()).sum()
    }
}

impl Lane {
    fn new(format: FramedFormat) -> Lane {
        Lane {
            format,
            entries: Vec::new(),
            counted_bytes: 0,
            mark: 0,
            before_of_key: NONE,
        }
    }

    fn add(&mut self, mark: u64, key: u64, bytes: Rc<[u8]>) {
        let index = self.entries.len();
        let recent = self.entries.iter().rev().take(LOOK_BACK);
        let before = recent.into_iter().position(|entry| entry.key == key);
        self.before_of_key = match before {
            Some(back) => {
                let before = index - 1 - back;
                self.entries[before].next_of_key = index as u32;
                before as u32
            }
            None => NONE,
        };
        self.counted_bytes += bytes.len() + QUEUED_MESSAGE_BYTES;
        self.mark = mark;
        self.entries.push(Entry {
            bytes,
            key,
            next_of_key: NONE,
        });
    }

    /// Drops all entries. Returns how many bytes no one else held.
    fn clear(&mut self) -> usize {
        self.counted_bytes = 0;
        self.mark = 0;
        let entries = self.entries.drain(..);
        let only_here = entries.filter(|entry| Rc::strong_count(&entry.bytes) == 1);
        only_here.map(|entry| entry.bytes.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: FramedFormat = FramedFormat::new(WireFormat::RAW, Frame::WebSocket);
    const EVENTS: FramedFormat = FramedFormat::new(WireFormat::EVENT_STREAM, Frame::HttpChunk);

    fn add(palette: &mut Palette, mark: u64, key: u64, format: FramedFormat, text: &str) -> bool {
        palette.add(mark, key, format, &Rc::from(text.as_bytes()))
    }

    fn text(palette: &mut Palette, range: &Range) -> String {
        let mut visited = Vec::new();
        palette.for_each(range, |_, bytes| visited.extend_from_slice(bytes));
        let bytes = palette.bytes(range).unwrap();
        assert_eq!(bytes, visited);
        String::from_utf8(visited).unwrap()
    }

    #[test]
    fn a_member_of_all_topics_and_a_member_of_one_have_ranges() {
        let mut palette = Palette::new();
        let [mut all, mut one, mut some] = [Range::EMPTY, Range::EMPTY, Range::EMPTY];
        for mark in 1..=9 {
            let key = mark % 3;
            assert!(add(&mut palette, mark, key, TEXT, &mark.to_string()));
            assert!(palette.has(mark, TEXT));
            assert!(palette.extend(&mut all));
            if key == 1 {
                assert!(palette.extend(&mut one));
            }
            // The first two continue each other, and the third one does neither.
            if key != 0 && !palette.extend(&mut some) {
                assert_eq!(mark, 4);
                assert_eq!(text(&mut palette, &some), "12");
                palette.release(&mut some);
                assert!(palette.extend(&mut some));
            }
            if mark == 5 {
                palette.release(&mut some);
            }
        }
        assert_eq!(text(&mut palette, &all), "123456789");
        assert_eq!(all.counted_bytes(), 9 * (1 + QUEUED_MESSAGE_BYTES));
        assert_eq!(text(&mut palette, &one), "147");
        for range in [&mut all, &mut one, &mut some] {
            assert_eq!(palette.forget_taken(), 0);
            assert_eq!(palette.entry_count(), 9);
            palette.release(range);
        }
        assert_eq!(palette.forget_taken(), 9);
        assert_eq!(palette.entry_count(), 0);
        assert!(!palette.has(9, TEXT));
    }

    #[test]
    fn each_format_has_a_lane() {
        let mut palette = Palette::new();
        let [mut texts, mut events, mut changed] = [Range::EMPTY, Range::EMPTY, Range::EMPTY];
        for mark in 1..=3 {
            for _ in 0..2 {
                assert!(add(&mut palette, mark, 0, TEXT, &format!("text {mark},")));
                assert!(palette.has(mark, TEXT) && !palette.has(mark, EVENTS));
                assert!(add(
                    &mut palette,
                    mark,
                    0,
                    EVENTS,
                    &format!("event {mark},")
                ));
            }
            assert!(palette.extend(&mut events));
            if mark == 1 {
                assert!(palette.extend(&mut changed));
            }
            assert!(add(&mut palette, mark, 0, TEXT, &format!("text {mark},")));
            assert!(palette.extend(&mut texts));
            if mark == 2 {
                assert!(!palette.extend(&mut changed), "in another lane");
            }
        }
        assert_eq!(palette.entry_count(), 6);
        assert_eq!(text(&mut palette, &texts), "text 1,text 2,text 3,");
        assert_eq!(text(&mut palette, &events), "event 1,event 2,event 3,");
        assert_eq!(text(&mut palette, &changed), "event 1,");
    }

    #[test]
    fn members_with_the_same_range_share_the_joined_bytes() {
        let mut palette = Palette::new();
        let mut ranges = [const { Range::EMPTY }; 3];
        for mark in 1..=2 {
            add(&mut palette, mark, 0, TEXT, "ab");
            for range in &mut ranges[..2] {
                palette.extend(range);
            }
        }
        palette.extend(&mut ranges[2]);
        assert_eq!(palette.bytes(&ranges[0]), Some(&b"abab"[..]));
        palette.joined[0] = b'!';
        assert_eq!(palette.bytes(&ranges[1]), Some(&b"!bab"[..]));
        assert_eq!(palette.bytes(&ranges[2]), Some(&b"ab"[..]));
        // The buffer is not taken for that of later publications at the same places.
        for range in &mut ranges {
            palette.release(range);
        }
        assert_eq!(palette.forget_taken(), 4);
        for mark in 3..=4 {
            add(&mut palette, mark, 0, TEXT, "cd");
            palette.extend(&mut ranges[0]);
        }
        assert_eq!(palette.bytes(&ranges[0]), Some(&b"cdcd"[..]));
    }

    #[test]
    fn the_palette_is_bounded_while_a_range_is_left() {
        let mut palette = Palette::new();
        let (mut stays, mut goes) = (Range::EMPTY, Range::EMPTY);
        let large = "x".repeat(PUBLICATION_BYTES_MAX - 1);
        assert!(!add(&mut palette, 1, 0, TEXT, &format!("{large}x")));
        assert!(!add(&mut palette, 1, 0, TEXT, ""));
        for text in ["x", &large] {
            let mut mark = 0;
            loop {
                mark += 1;
                if !add(&mut palette, mark, 0, TEXT, text) {
                    break;
                }
                if stays.is_empty() {
                    assert!(palette.extend(&mut stays));
                }
                assert!(palette.extend(&mut goes));
            }
            let counted = palette.entry_count() * (text.len() + QUEUED_MESSAGE_BYTES);
            assert!(palette.entry_count() <= ENTRIES_MAX && counted <= LANE_BYTES_MAX);
            assert_eq!(goes.counted_bytes(), counted);
            let is_joined = counted <= JOINED_BYTES_MAX;
            assert_eq!(palette.bytes(&goes).is_some(), is_joined);
            palette.release(&mut goes);
            palette.forget_taken();
            assert!(!add(&mut palette, mark, 0, TEXT, text), "a range is left");
            palette.release(&mut stays);
            palette.forget_taken();
            assert!(add(&mut palette, mark, 0, TEXT, text));
            assert_eq!(palette.entry_count(), 1);
            palette.forget_taken();
        }
        palette.give_back_memory();
        assert_eq!(palette.entry_count(), 0);
    }
}
