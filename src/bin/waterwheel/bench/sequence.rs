//! Classifies each number of a sequence on arrival: in order, ahead of missing ones, late, or duplicate.

use std::collections::BTreeSet;

/// The most missing numbers that are remembered. Further ones stay counted as lost, and count as
/// duplicates if they arrive late.
const REMEMBERED_MAX: usize = 65_536;

/// The receiving end of a sequence of numbers that begins with 0.
#[derive(Clone, Debug, Default)]
pub struct Sequence {
    next: u64,
    /// Numbers that were skipped and have not come since.
    missing: BTreeSet<u64>,
    /// How many were skipped beyond those that are remembered.
    forgotten: u64,
}

/// The classification of one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The number was expected next.
    InOrder,
    /// This many numbers before it are missing.
    Ahead(u64),
    /// The number was missing until now.
    Late,
    /// The number has already arrived.
    Duplicate,
}

impl Sequence {
    /// The number that is to come next.
    #[inline]
    pub fn next(&self) -> u64 {
        self.next
    }

    #[inline]
    pub fn take(&mut self, number: u64) -> Arrival {
        if number == self.next {
            self.next += 1;
            return Arrival::InOrder;
        }
        self.take_out_of_order(number)
    }

    #[cold]
    fn take_out_of_order(&mut self, number: u64) -> Arrival {
        let missing = &mut self.missing;
        if number < self.next {
            return match missing.remove(&number) {
                true => Arrival::Late,
                false => Arrival::Duplicate,
            };
        }
        let passed = number - self.next;
        let room = (REMEMBERED_MAX - missing.len()) as u64;
        missing.extend(self.next..number.min(self.next + room));
        self.forgotten += passed.saturating_sub(room);
        self.next = number + 1;
        Arrival::Ahead(passed)
    }

    /// Returns how many of the numbers below `count` have not arrived. `count` is at least `next`.
    pub fn missing_of(&self, count: u64) -> u64 {
        self.missing.len() as u64 + self.forgotten + count.saturating_sub(self.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_classified_by_their_place_in_the_sequence() {
        use Arrival::{Ahead, Duplicate, InOrder, Late};
        let cases: &[(&str, &[u64], &[Arrival], u64)] = &[
            ("in order", &[0, 1, 2], &[InOrder, InOrder, InOrder], 0),
            ("one lost", &[0, 2, 3], &[InOrder, Ahead(1), InOrder], 1),
            ("two lost at the end", &[0, 1], &[InOrder, InOrder], 2),
            ("swapped", &[1, 0, 2], &[Ahead(1), Late, InOrder], 0),
            (
                "again",
                &[0, 0, 1, 2],
                &[InOrder, Duplicate, InOrder, InOrder],
                0,
            ),
            (
                "late and again",
                &[1, 0, 0],
                &[Ahead(1), Late, Duplicate],
                1,
            ),
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
        assert_eq!(sequence.take(1_000_000), Arrival::Ahead(1_000_000));
        assert_eq!(sequence.missing_of(1_000_001), 1_000_000);
        assert_eq!(sequence.missing.len(), REMEMBERED_MAX);
    }
}
