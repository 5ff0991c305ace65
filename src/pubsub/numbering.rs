//! The numbers of publications that another server orders, beside the places that they have in the log of a reactor.
//!
//! ```text
//!   place     501   502      503      504   505        in the order in which this reactor heard them
//!   number     17     -        -       18     -        as the server has numbered them; messages of others have none
//!   id       E:17  E:17-502 E:17-503 E:18  E:18-505
//! ```
//!
//! The log is the reactor's history, and a place is what the history calls a number. Places begin at a random number. So
//! a place belongs to one log: another reactor finds that it is not in its own. A cursor with a number alone belongs
//! to all of them.
//!
//! Pure: a table of which number stands at which place, bounded by [`MARKS_MAX`].

use std::collections::VecDeque;

use super::event::EventId;

/// Most places whose number is known. Cursors before them are not found by their number.
pub const MARKS_MAX: usize = 256 * 1024;

/// Logs begin below this place, so that none comes near 2^63.
const FIRST_PLACE_MAX: u64 = 1 << 62;

/// The numbers at the places of a log.
#[derive(Debug)]
pub struct Numbering {
    epoch: u64,
    /// Ascending by place and by number. There is at least one.
    marks: VecDeque<Mark>,
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
    /// Before the log begins, in the same epoch.
    Before,
    /// In another epoch, or behind the newest number.
    Unknown,
}

impl Numbering {
    /// The first place of a log. `random` is any number.
    pub fn first_place(random: u64) -> u64 {
        // The low half is left free, so that two logs of four billion places rarely overlap.
        ((random % FIRST_PLACE_MAX) & !u64::from(u32::MAX)) | 1
    }

    /// The numbers of a log that begins at a place, where everything up to a number was heard or given before.
    pub fn new(epoch: u64, place: u64, number: u64) -> Numbering {
        Numbering {
            epoch,
            marks: VecDeque::from([Mark { place, number }]),
        }
    }

    /// The run of the server's order.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The newest number that is known to be given.
    pub fn number(&self) -> u64 {
        self.marks.back().map_or(0, |mark| mark.number)
    }

    /// The place at which the log begins to be known.
    pub fn begin(&self) -> u64 {
        self.marks.front().map_or(0, |mark| mark.place)
    }

    /// Notes that the publication at a place has a number, or that it was given before what comes behind the place. Both
    /// are higher than those before.
    pub fn mark(&mut self, place: u64, number: u64) {
        self.marks.push_back(Mark { place, number });
        if MARKS_MAX < self.marks.len() {
            self.marks.pop_front();
        }
    }

    /// The id at a place: that of the publication there, and a cursor behind it.
    pub fn id_at(&self, place: u64) -> EventId {
        let index = self.marks.partition_point(|mark| mark.place <= place);
        let mark = index.checked_sub(1).and_then(|index| self.marks.get(index));
        match mark {
            Some(mark) if mark.place == place => {
                EventId::numbered_at(self.epoch, mark.number, place)
            }
            Some(mark) => EventId::unnumbered_at(self.epoch, mark.number, place),
            // Its number was forgotten. This log finds the id by its place.
            None => EventId::unnumbered_at(self.epoch, 0, place),
        }
    }

    /// The number of the publication at a place, if it has one.
    pub fn number_at(&self, place: u64) -> Option<u64> {
        let index = self.marks.binary_search_by_key(&place, |mark| mark.place);
        self.marks.get(index.ok()?).map(|mark| mark.number)
    }

    /// Finds a cursor in the log, whose newest place is `head`.
    pub fn find(&self, cursor: EventId, head: u64) -> Found {
        if cursor.epoch != self.epoch {
            return Found::Unknown;
        }
        let place = cursor.unnumbered_place();
        if let Some(place) = place
            && (self.begin()..=head).contains(&place)
        {
            return Found::At(place);
        }
        if self.number() < cursor.number {
            return Found::Unknown;
        }
        let next = (self.marks).partition_point(|mark| mark.number <= cursor.number);
        let Some(mark) = next.checked_sub(1).and_then(|index| self.marks.get(index)) else {
            return Found::Before;
        };
        let last = self.marks.get(next).map_or(head, |mark| mark.place - 1);
        match place {
            Some(_) if mark.place < last => Found::Between(mark.place, last),
            _ => Found::At(mark.place),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The log of the picture above: places 501 to 505, which begins behind number 16.
    fn numbering() -> Numbering {
        let mut numbering = Numbering::new(0xe, 500, 16);
        numbering.mark(501, 17);
        numbering.mark(504, 18);
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
        assert_eq!(numbers, [Some(16), Some(17), None, Some(18)]);
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
            assert_eq!(numbering.find(cursor, 505), found, "{cursor}");
        }
        // Each id that was given is found where it stands.
        for place in 500..=505 {
            let id = numbering.id_at(place).to_string().parse().expect("an id");
            assert_eq!(numbering.find(id, 505), Found::At(place));
        }
    }

    #[test]
    fn the_oldest_numbers_are_forgotten() {
        let mut numbering = Numbering::new(1, 1, 0);
        for number in 1..=MARKS_MAX as u64 {
            numbering.mark(number + 1, number);
        }
        assert_eq!(numbering.begin(), 2);
        let found = |number| numbering.find(EventId::new(1, number), 1 + MARKS_MAX as u64);
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
