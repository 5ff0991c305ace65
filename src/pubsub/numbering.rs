//! The numbers of publications that another server orders, beside the places that they have in the log of a reactor.
//!
//! ```text
//!   place     501   502      503      504   505        in the order in which this reactor heard them
//!   number     17     -        -       18     -        as the server has numbered them; messages of others have none
//!   id       E:17  E:17-502 E:17-503 E:18  E:18-505
//! ```
//!
//! A Redis Cluster divides its topics into buckets, each with numbers of its own. An id then has the number of each
//! bucket. With two of them:
//!
//! ```text
//!   place       501     502        503        504       505
//!   number      17.-     -         -.31       -.32       -
//!   id       E:17.30  E:17.30-502  E:17.31  E:17.32  E:17.32-505
//! ```
//!
//! The log is the reactor's history, and a place is what the history calls a number. Places begin at a random number. So
//! a place belongs to one log: another reactor finds that it is not in its own. A cursor with numbers alone belongs to all
//! of them. But reactors hear the messages of different buckets in different orders: the cursor may stand between two
//! places where one of its numbers was not heard yet and another was already passed. It is then not found, and the
//! caller reads each bucket for itself.
//!
//! Pure: a table of which number stands at which place, bounded by [`MARKS_MAX`].

use std::collections::VecDeque;

use super::event_id::{BUCKET_COUNT, EventId};

/// Most places whose number is known, of all buckets. Cursors before them are not found by their number.
pub const MARKS_MAX: usize = 256 * 1024;

/// Logs begin below this place, so that none comes near 2^63.
const FIRST_PLACE_MAX: u64 = 1 << 62;

/// The numbers at the places of a log.
#[derive(Debug)]
pub struct Numbering {
    epoch: u64,
    /// Ascending by place and by number, for each bucket. Each bucket has at least one.
    buckets: Box<[VecDeque<Mark>]>,
    /// From this place on the numbers of all buckets are known.
    begin: u64,
    /// The highest place that has a mark.
    newest: u64,
    marks_max: usize,
}

/// At this place stands the publication with the number, or it became known here that the number was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    place: u64,
    number: u64,
}

/// Where a cursor stands in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Behind this place.
    At(u64),
    /// Behind the first of these places, or behind another one up to the second: another reactor has heard messages
    /// without a number there, and it is not known which of them are before the cursor.
    Between(u64, u64),
    /// At no place of the log: another reactor has heard the buckets in another order. Messages without a number up to
    /// this place may be before the cursor.
    Crossed(u64),
    /// Before the log begins, in the same epoch.
    Before,
    /// In another epoch, behind the newest number of a bucket, or of another count of buckets.
    Unknown,
}

impl Numbering {
    /// The first place of a log. `random` is any number.
    pub fn first_place(random: u64) -> u64 {
        // The low half is left free, so that two logs of four billion places rarely overlap.
        ((random % FIRST_PLACE_MAX) & !u64::from(u32::MAX)) | 1
    }

    /// The numbers of a log that begins at a place, where everything up to a number of each bucket was heard or given
    /// before.
    ///
    /// # Panics
    ///
    /// Without a bucket, and with more than 16.
    pub fn new(epoch: u64, place: u64, numbers: &[u64]) -> Numbering {
        assert!((1..=BUCKET_COUNT).contains(&numbers.len()), "1 to 16");
        let first = |number: &u64| {
            VecDeque::from([Mark {
                place,
                number: *number,
            }])
        };
        Numbering {
            epoch,
            buckets: numbers.iter().map(first).collect(),
            begin: place,
            newest: place,
            marks_max: MARKS_MAX,
        }
    }

    /// The run of the server's order.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// How many buckets there are.
    pub fn bucket_count(&self) -> usize {
        self.buckets.len()
    }

    /// The newest number of a bucket that is known to be given.
    pub fn number_in(&self, bucket: usize) -> u64 {
        let marks = self.buckets.get(bucket);
        marks.and_then(VecDeque::back).map_or(0, |it| it.number)
    }

    /// The place at which the log begins to be known.
    pub fn begin(&self) -> u64 {
        self.begin
    }

    /// Notes that the publication at a place has a number in a bucket, or that it was given before what comes behind the
    /// place. The place is higher than all before, and the number higher than those of the bucket.
    pub fn mark(&mut self, place: u64, bucket: usize, number: u64) {
        debug_assert!(self.newest < place && self.number_in(bucket) < number);
        let Some(marks) = self.buckets.get_mut(bucket) else {
            debug_assert!(false, "a bucket of this log");
            return;
        };
        marks.push_back(Mark { place, number });
        self.newest = place;
        if self.marks_max < self.buckets.iter().map(VecDeque::len).sum() {
            self.forget_oldest();
        }
    }

    /// Moves the begin of the log to the place at which the number of a bucket changes for the first time.
    fn forget_oldest(&mut self) {
        let second = |marks: &VecDeque<Mark>| marks.get(1).map(|mark| mark.place);
        let oldest = (self.buckets.iter_mut())
            .filter_map(|marks| Some((second(marks)?, marks)))
            .min_by_key(|(place, _)| *place);
        if let Some((place, marks)) = oldest {
            marks.pop_front();
            self.begin = place;
        }
    }

    /// The id at a place: that of the publication there, and a cursor behind it.
    pub fn id_at(&self, place: u64) -> EventId {
        let mut numbers = [0; BUCKET_COUNT];
        let numbers = &mut numbers[..self.buckets.len()];
        if place < self.begin {
            // The numbers were forgotten. This log finds the id by its place.
            return EventId::of_buckets(self.epoch, numbers).unnumbered_at(place);
        }
        let mut numbered = None;
        for (bucket, (to, marks)) in numbers.iter_mut().zip(&self.buckets).enumerate() {
            if let Some(mark) = last_up_to(marks, |mark| mark.place <= place) {
                *to = mark.number;
                numbered = (mark.place == place).then_some(bucket).or(numbered);
            }
        }
        let id = EventId::of_buckets(self.epoch, numbers);
        match numbered {
            Some(bucket) => id.numbered_at(bucket, place),
            None => id.unnumbered_at(place),
        }
    }

    /// The bucket and the number of the publication at a place, if it has one.
    pub fn number_at(&self, place: u64) -> Option<(usize, u64)> {
        if self.newest < place {
            return None;
        }
        (self.buckets.iter().enumerate()).find_map(|(bucket, marks)| {
            let index = marks.binary_search_by_key(&place, |mark| mark.place);
            Some((bucket, marks.get(index.ok()?)?.number))
        })
    }

    /// The place at which a bucket got the number that it has at a place. Zero where that is not known any more.
    pub fn place_in(&self, bucket: usize, place: u64) -> u64 {
        let marks = self.buckets.get(bucket);
        let mark = marks.and_then(|marks| last_up_to(marks, |mark| mark.place <= place));
        mark.map_or(0, |mark| mark.place)
    }

    /// Finds a cursor in the log, whose newest place is `head`.
    ///
    /// It stands at its own place, if that is one of this log. Publications behind it may have numbers that the cursor has
    /// already; see [`EventId::raised_to`]. Otherwise it stands where each bucket has the number that the cursor has of it.
    /// With several buckets there may be no such place.
    pub fn find(&self, cursor: &EventId, head: u64) -> Found {
        if cursor.epoch != self.epoch || cursor.bucket_count() != self.buckets.len() {
            return Found::Unknown;
        }
        let place = cursor.log_place();
        if let Some(place) = place
            && (self.begin..=head).contains(&place)
        {
            return Found::At(place);
        }
        let number_of = |bucket| cursor.number_in(bucket);
        if (0..self.buckets.len()).any(|bucket| self.number_in(bucket) < number_of(bucket)) {
            return Found::Unknown;
        }
        let (mut first, mut last) = (self.begin, head);
        for (bucket, marks) in self.buckets.iter().enumerate() {
            let next = marks.partition_point(|mark| mark.number <= number_of(bucket));
            let Some(mark) = next.checked_sub(1).and_then(|index| marks.get(index)) else {
                return Found::Before;
            };
            first = first.max(mark.place);
            last = marks.get(next).map_or(last, |it| last.min(it.place - 1));
        }
        match place {
            _ if last < first => Found::Crossed(first),
            Some(_) if first < last => Found::Between(first, last),
            _ => Found::At(first),
        }
    }
}

/// The last mark that is in a part, which has the first marks.
fn last_up_to(marks: &VecDeque<Mark>, is_in: impl Fn(&Mark) -> bool) -> Option<&Mark> {
    match marks.back() {
        Some(mark) if is_in(mark) => Some(mark),
        _ => marks.get(marks.partition_point(is_in).checked_sub(1)?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pubsub::tests::Xorshift;

    /// The log of the picture above: places 501 to 505, which begins behind number 16.
    fn numbering() -> Numbering {
        let mut numbering = Numbering::new(0xe, 500, &[16]);
        numbering.mark(501, 0, 17);
        numbering.mark(504, 0, 18);
        numbering
    }

    #[test]
    fn ids_are_those_of_the_numbers_before() {
        let numbering = numbering();
        let cases = [
            (499, "e:0-499"),
            (500, "e:16"),
            (501, "e:17"),
            (502, "e:17-502"),
            (503, "e:17-503"),
            (504, "e:18"),
            (505, "e:18-505"),
        ];
        for (place, id) in cases {
            assert_eq!(numbering.id_at(place).to_string(), id);
        }
        let numbers = [500, 501, 502, 504].map(|place| numbering.number_at(place));
        assert_eq!(numbers, [Some((0, 16)), Some((0, 17)), None, Some((0, 18))]);
    }

    #[test]
    fn a_number_stands_where_it_was_heard() {
        let mut numbering = Numbering::new(0xe, 500, &[16, 7]);
        numbering.mark(501, 0, 17);
        numbering.mark(504, 1, 8);
        let cases = [
            (0, 499, 0),
            (0, 500, 500),
            (0, 501, 501),
            (0, 510, 501),
            (1, 503, 500),
            (1, 504, 504),
            (2, 504, 0),
        ];
        for (bucket, place, expected) in cases {
            assert_eq!(numbering.place_in(bucket, place), expected);
        }
    }

    #[test]
    fn cursors_are_found() {
        let numbering = numbering();
        let cases = [
            ("e:15", Found::Before),
            ("e:15-7", Found::Before),
            ("e:16", Found::At(500)),
            // There were no messages without a number behind 16 here.
            ("e:16-7", Found::At(500)),
            ("e:17", Found::At(501)),
            ("e:17-502", Found::At(502)),
            ("e:17-7", Found::Between(501, 503)),
            ("e:18", Found::At(504)),
            ("e:18-505", Found::At(505)),
            ("e:18-506", Found::Between(504, 505)),
            ("e:18-499", Found::Between(504, 505)),
            ("e:19", Found::Unknown),
            ("e:19-7", Found::Unknown),
            ("f:17", Found::Unknown),
            ("f:17-502", Found::Unknown),
        ];
        for (cursor, found) in cases {
            let cursor = cursor.parse().expect("an id");
            assert_eq!(numbering.find(&cursor, 505), found, "{cursor}");
        }
        // Each id that was given is found where it stands.
        for place in 500..=505 {
            let id = numbering.id_at(place).to_string().parse().expect("an id");
            assert_eq!(numbering.find(&id, 505), Found::At(place));
        }
    }

    /// The id of an epoch, the numbers of buckets, and a place if there is one: `e:1.2-7`, of any count of buckets.
    fn id(text: &str) -> EventId {
        let (epoch, numbers) = text.split_once(':').expect("an epoch");
        let epoch = u64::from_str_radix(epoch, 16).expect("an epoch");
        let (numbers, place) = numbers.split_once('-').unwrap_or((numbers, ""));
        let numbers: Vec<u64> = numbers.split('.').map(|it| it.parse().unwrap()).collect();
        let id = EventId::of_buckets(epoch, &numbers);
        match place.parse() {
            Ok(place) => id.unnumbered_at(place),
            Err(_) => id,
        }
    }

    /// Places 501 to 508 of a log of three buckets, which begins behind numbers 3, 0 and 7. Others published at the
    /// places 503 and 508.
    fn numbering_of_three() -> Numbering {
        let mut numbering = Numbering::new(0xe, 500, &[3, 0, 7]);
        for (place, bucket, number) in [
            (501, 2, 8),
            (502, 0, 4),
            (504, 0, 6),
            (505, 2, 9),
            (506, 1, 2),
            (507, 2, 10),
        ] {
            numbering.mark(place, bucket, number);
        }
        numbering
    }

    #[test]
    fn ids_of_buckets() {
        let numbering = numbering_of_three();
        let cases = [
            (499, "e:0.0.0-499", None),
            (500, "e:3.0.7~500", Some((0, 3))),
            (501, "e:3.0.8~501", Some((2, 8))),
            (502, "e:4.0.8~502", Some((0, 4))),
            (503, "e:4.0.8-503", None),
            (504, "e:6.0.8~504", Some((0, 6))),
            (505, "e:6.0.9~505", Some((2, 9))),
            (506, "e:6.2.9~506", Some((1, 2))),
            (507, "e:6.2.10~507", Some((2, 10))),
            (508, "e:6.2.10-508", None),
        ];
        for (place, text, number) in cases {
            assert_eq!(numbering.id_at(place).to_string(), text);
            assert_eq!(numbering.number_at(place), number, "{place}");
        }
        let numbers = [0, 1, 2, 3].map(|bucket| numbering.number_in(bucket));
        assert_eq!(numbers, [6, 2, 10, 0]);
        assert_eq!(
            numbering.id_at(505).cursor_before().to_string(),
            "e:6.0.8-504"
        );
    }

    #[test]
    fn cursors_of_buckets_are_found() {
        let numbering = numbering_of_three();
        let cases = [
            ("e:2.0.7", Found::Before),
            ("e:6.2.6", Found::Before),
            ("e:3.0.7", Found::At(500)),
            // There were no messages without a number behind it here.
            ("e:3.0.7-9", Found::At(500)),
            ("e:3.0.8", Found::At(501)),
            ("e:4.0.8", Found::At(502)),
            ("e:4.0.8-503", Found::At(503)),
            ("e:4.0.8-9", Found::Between(502, 503)),
            // Numbers of topics that this reactor does not hear, and that others have heard.
            ("e:5.0.8", Found::At(502)),
            ("e:4.1.8", Found::At(502)),
            ("e:5.1.8-9", Found::Between(502, 503)),
            ("e:6.1.9", Found::At(505)),
            ("e:6.2.9", Found::At(506)),
            ("e:6.2.10", Found::At(507)),
            ("e:6.2.10-508", Found::At(508)),
            ("e:6.2.10-509", Found::Between(507, 508)),
            ("e:6.2.10-9", Found::Between(507, 508)),
            // Another reactor has heard the buckets in another order.
            ("e:4.0.7", Found::Crossed(502)),
            ("e:4.0.7-9", Found::Crossed(502)),
            ("e:3.2.8", Found::Crossed(506)),
            ("e:6.0.10", Found::Crossed(507)),
            ("e:5.2.8", Found::Crossed(506)),
            // Higher than what is known, in any bucket.
            ("e:7.2.10", Found::Unknown),
            ("e:3.3.7", Found::Unknown),
            ("e:6.2.11-9", Found::Unknown),
            // Of another count of buckets.
            ("e:4", Found::Unknown),
            ("e:4-503", Found::Unknown),
            ("e:4.0", Found::Unknown),
            ("e:4.0.8.0", Found::Unknown),
            ("f:4.0.8", Found::Unknown),
            ("f:4.0.8-503", Found::Unknown),
        ];
        for (cursor, found) in cases {
            assert_eq!(numbering.find(&id(cursor), 508), found, "{cursor}");
        }
        // The head alone is known.
        let numbering = Numbering::new(0xe, 500, &[3, 0]);
        assert_eq!(numbering.find(&id("e:3.0"), 500), Found::At(500));
        assert_eq!(
            numbering.find(&id("e:3.0-9"), 502),
            Found::Between(500, 502)
        );
        assert_eq!(numbering.find(&id("e:2.0"), 500), Found::Before);
        assert_eq!(numbering.find(&id("e:3.1"), 500), Found::Unknown);
    }

    #[test]
    fn the_oldest_numbers_of_all_buckets_are_forgotten() {
        let mut numbering = numbering_of_three();
        numbering.marks_max = 5;
        let mut begins = Vec::new();
        for place in 509..=512 {
            numbering.mark(place, 1, place);
            begins.push(numbering.begin());
        }
        // One is forgotten for each that comes: that after which the log has begun.
        assert_eq!(begins, [501, 502, 504, 505]);
        assert_eq!(numbering.id_at(504).to_string(), "e:0.0.0-504");
        assert_eq!(numbering.id_at(505).to_string(), "e:6.0.9~505");
        assert_eq!(numbering.find(&id("e:6.0.8"), 512), Found::Before);
        assert_eq!(numbering.find(&id("e:6.0.9"), 512), Found::At(505));
        assert_eq!(numbering.find(&id("e:6.2.9"), 512), Found::At(506));
        assert_eq!(numbering.find(&id("e:6.0.8-504"), 512), Found::Before);
    }

    /// The messages of a node, in the order in which it heard them: a publication of a bucket with its number, or a message without one.
    type Heard = Vec<Option<(usize, u64)>>;

    /// A node hears the `published` messages of each bucket in their order, and the buckets interleaved at random. Some
    /// that are not wanted it does not hear, and in between are messages without a number.
    fn hear(
        random: &mut Xorshift,
        published: &[u64],
        is_wanted: impl Fn(usize, u64) -> bool,
    ) -> Heard {
        let mut next = vec![1; published.len()];
        let mut heard = Vec::new();
        while (0..published.len()).any(|it| next[it] <= published[it]) {
            let bucket = random.below(published.len());
            let number = next[bucket];
            if published[bucket] < number {
                continue;
            }
            next[bucket] += 1;
            if is_wanted(bucket, number) || random.below(2) == 0 {
                heard.push(Some((bucket, number)));
            }
            if random.below(3) == 0 {
                heard.push(None);
            }
        }
        heard
    }

    fn numbering_of(first_place: u64, bucket_count: usize, heard: &Heard) -> Numbering {
        let mut numbering = Numbering::new(0xe, first_place, &vec![0; bucket_count]);
        for (place, number) in (first_place + 1..).zip(heard) {
            if let Some((bucket, number)) = *number {
                numbering.mark(place, bucket, number);
            }
        }
        numbering
    }

    /// Finds the cursors of one of two nodes on both. Up to the place that is found stands what the client has got, and
    /// nothing else.
    #[test]
    fn cursors_neither_skip_nor_repeat() {
        let mut random = Xorshift::new(0x1d5);
        let (mut found_count, mut before_count) = (0, 0);
        for round in 0..400 {
            let bucket_count = [1, 2, 3, 16][round % 4];
            let published: Vec<u64> = (0..bucket_count).map(|_| random.below(6) as u64).collect();
            let is_wanted =
                |bucket: usize, number: u64| !(bucket as u64 + number).is_multiple_of(3);
            let wanted = |heard: &[Option<(usize, u64)>]| {
                let mut wanted: Vec<_> = (heard.iter().flatten().copied())
                    .filter(|(bucket, number)| is_wanted(*bucket, *number))
                    .collect();
                wanted.sort_unstable();
                wanted
            };
            let first = [500, 9000];
            let heard = [(); 2].map(|()| hear(&mut random, &published, is_wanted));
            let logs = [0, 1].map(|node| numbering_of(first[node], bucket_count, &heard[node]));
            let head = [0, 1].map(|node| first[node] + heard[node].len() as u64);
            for (index, place) in (first[0]..=head[0]).enumerate() {
                let id = logs[0].id_at(place);
                let got = wanted(&heard[0][..index]);
                assert_eq!(logs[0].find(&id, head[0]), Found::At(place), "{id}");
                let raised = id.raised_to(&vec![3; bucket_count]);
                let is_raised = id.unnumbered_place().is_none() && raised != id;
                if is_raised {
                    assert_eq!(logs[0].find(&raised, head[0]), Found::At(place), "{raised}");
                }
                let mut cursors = vec![(id, got)];
                if 1 <= index {
                    let before = id.cursor_before();
                    assert_eq!(logs[0].find(&before, head[0]), Found::At(place - 1), "{id}");
                    cursors.push((before, wanted(&heard[0][..index - 1])));
                }
                for (cursor, got) in cursors {
                    let places = match logs[1].find(&cursor, head[1]) {
                        Found::At(place) => place..=place,
                        Found::Between(first, last) => first..=last,
                        Found::Before | Found::Crossed(_) => {
                            before_count += 1;
                            continue;
                        }
                        // The other node did not hear the newest numbers.
                        Found::Unknown => continue,
                    };
                    found_count += 1;
                    for place in places {
                        let passed = (place - first[1]) as usize;
                        assert_eq!(wanted(&heard[1][..passed]), got, "{cursor} of {heard:?}");
                    }
                }
            }
        }
        assert!(
            1000 < found_count && 1000 < before_count,
            "{found_count} {before_count}"
        );
    }

    #[test]
    fn the_oldest_numbers_are_forgotten() {
        let mut numbering = Numbering::new(1, 1, &[0]);
        for number in 1..=MARKS_MAX as u64 {
            numbering.mark(number + 1, 0, number);
        }
        assert_eq!(numbering.begin(), 2);
        let found = |number| numbering.find(&EventId::new(1, number), 1 + MARKS_MAX as u64);
        assert_eq!(found(0), Found::Before);
        assert_eq!(found(1), Found::At(2));
    }

    #[test]
    fn logs_begin_far_apart() {
        for random in [0, 1, u64::MAX, 0x1234_5678_9abc_def0] {
            let place = Numbering::first_place(random);
            assert!(place != 0 && place < FIRST_PLACE_MAX, "{random}");
            assert_eq!(place as u32, 1);
        }
        assert_ne!(
            Numbering::first_place(1 << 32),
            Numbering::first_place(2 << 32)
        );
    }
}
