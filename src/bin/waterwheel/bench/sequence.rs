//! Which numbers of a sequence have come: in order, late, again, or never.

use std::collections::BTreeSet;

/// Numbers that were passed over are remembered up to this many; a server that loses more than
/// that loses.
const REMEMBERED_MAX: usize = 65_536;

/// One end of a sequence of numbers that begins with 0.
#[derive(Clone, Debug, Default)]
pub struct Sequence {
    next: u64,
    /// Passed over, and not come since.
    missing: BTreeSet<u64>,
    /// Passed over beyond those.
    forgotten: u64,
}

/// What a number was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The next.
    Next,
    /// Ahead: so many were passed over.
    Ahead(u64),
    /// One that had been passed over.
    Late,
    /// One that had come.
    Again,
}

impl Sequence {
    /// The number that is to come next.
    #[inline]
    pub fn next(&self) -> u64 {
        self.next
    }

    #[inline]
    pub fn take(&mut self, number: u64) -> Place {
        if number == self.next {
            self.next += 1;
            return Place::Next;
        }
        self.take_out_of_order(number)
    }

    #[cold]
    fn take_out_of_order(&mut self, number: u64) -> Place {
        let missing = &mut self.missing;
        if number < self.next {
            return match missing.remove(&number) {
                true => Place::Late,
                false => Place::Again,
            };
        }
        let passed = number - self.next;
        let room = (REMEMBERED_MAX - missing.len()) as u64;
        missing.extend(self.next..number.min(self.next + room));
        self.forgotten += passed.saturating_sub(room);
        self.next = number + 1;
        Place::Ahead(passed)
    }

    /// How many of the first `count` numbers have not come.
    pub fn missing_of(&self, count: u64) -> u64 {
        self.missing.len() as u64 + self.forgotten + count.saturating_sub(self.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_classified_by_their_place_in_the_sequence() {
        use Place::{Again, Ahead, Late, Next};
        let cases: &[(&str, &[u64], &[Place], u64)] = &[
            ("in order", &[0, 1, 2], &[Next, Next, Next], 0),
            ("one lost", &[0, 2, 3], &[Next, Ahead(1), Next], 1),
            ("two lost at the end", &[0, 1], &[Next, Next], 2),
            ("swapped", &[1, 0, 2], &[Ahead(1), Late, Next], 0),
            ("again", &[0, 0, 1, 2], &[Next, Again, Next, Next], 0),
            ("late and again", &[1, 0, 0], &[Ahead(1), Late, Again], 1),
        ];
        for (name, numbers, places, missing) in cases {
            let mut sequence = Sequence::default();
            let found: Vec<_> = numbers
                .iter()
                .map(|number| sequence.take(*number))
                .collect();
            assert_eq!(found, *places, "{name}");
            let count = if *name == "two lost at the end" { 4 } else { 3 };
            assert_eq!(sequence.missing_of(count), *missing, "{name}");
        }
    }

    #[test]
    fn a_far_jump_is_counted_without_storing_the_gap() {
        let mut sequence = Sequence::default();
        assert_eq!(sequence.take(1_000_000), Place::Ahead(1_000_000));
        assert_eq!(sequence.missing_of(1_000_001), 1_000_000);
        assert_eq!(sequence.missing.len(), REMEMBERED_MAX);
    }
}
