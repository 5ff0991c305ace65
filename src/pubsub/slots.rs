//! Values at places that do not move, in one vector: what the lists of [`Topics`] are made of.
//!
//! The `slab` crate does the same at a higher price. Its free list holds a `usize`, so a node of 12
//! bytes takes 16 there, and its vector doubles: right behind a growth at 600,000 subscriptions a
//! node costs 28 bytes there, and at most 15 here. With the entry of 16 bytes, and the quarter by
//! which its vector grows, a subscription would cost 48 bytes instead of 35; the tests allow 40.
//!
//! Keys here are four bytes with a niche. Memory is given back as values are removed: free places at
//! the end are cut off one by one, which `slab` does by walking all places. A value near the end
//! keeps the places before it allocated, and they are used again.
//!
//! [`Topics`]: super::Topics

use std::num::NonZeroU32;
use std::ops::Range;

/// Most values at a time. One bit is left, so that a key can be packed with a flag.
const SLOTS_MAX: usize = (1 << 31) - 1;

/// Where a value is: its index plus one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key(NonZeroU32);

impl Key {
    pub(super) fn to_bits(self) -> u32 {
        self.0.get()
    }

    pub(super) fn from_bits(bits: u32) -> Option<Key> {
        NonZeroU32::new(bits).map(Key)
    }

    fn new(index: usize) -> Option<Key> {
        u32::try_from(index + 1).ok().and_then(Key::from_bits)
    }

    pub(super) fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

#[derive(Debug)]
enum Slot<T> {
    Full(T),
    /// The free list is doubly linked, so that a free place at the end can leave it.
    Free {
        before: Option<Key>,
        after: Option<Key>,
    },
}

#[derive(Debug)]
pub(super) struct Slots<T> {
    slots: Vec<Slot<T>>,
    first_free: Option<Key>,
    count: usize,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Slots {
            slots: Vec::new(),
            first_free: None,
            count: 0,
        }
    }
}

impl<T> Slots<T> {
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// The key of what is inserted next: a free place, or a new one at the end. `None` when all
    /// keys are taken.
    pub(super) fn next_key(&self) -> Option<Key> {
        match self.first_free {
            Some(key) => Some(key),
            None if self.slots.len() < SLOTS_MAX => Key::new(self.slots.len()),
            None => None,
        }
    }

    pub(super) fn get(&self, key: Key) -> Option<&T> {
        match self.slots.get(key.index()) {
            Some(Slot::Full(value)) => Some(value),
            Some(Slot::Free { .. }) | None => None,
        }
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        match self.slots.get_mut(key.index()) {
            Some(Slot::Full(value)) => Some(value),
            Some(Slot::Free { .. }) | None => None,
        }
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.values_at(0..self.slots.len())
    }

    /// The values at these places, of which some may be free. Those behind the last place are left out.
    pub(super) fn values_at(&self, places: Range<usize>) -> impl Iterator<Item = &T> {
        let end = places.end.min(self.slots.len());
        let slots = &self.slots[places.start.min(end)..end];
        slots.iter().filter_map(|slot| match slot {
            Slot::Full(value) => Some(value),
            Slot::Free { .. } => None,
        })
    }

    /// How many places there are, those that are free included.
    pub(super) fn place_count(&self) -> usize {
        self.slots.len()
    }

    /// Stores a value at [`next_key`](Self::next_key).
    pub(super) fn insert(&mut self, value: T) -> Option<Key> {
        let key = self.next_key()?;
        if self.first_free.is_some() {
            self.unlink(key);
            self.slots[key.index()] = Slot::Full(value);
        } else {
            grow(&mut self.slots);
            self.slots.push(Slot::Full(value));
        }
        self.count += 1;
        Some(key)
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<T> {
        let slot = self.slots.get_mut(key.index())?;
        if matches!(slot, Slot::Free { .. }) {
            return None;
        }
        let freed = Slot::Free {
            before: None,
            after: self.first_free,
        };
        let Slot::Full(value) = std::mem::replace(slot, freed) else {
            return None;
        };
        if let Some(first) = self.first_free {
            self.set_before(first, Some(key));
        }
        self.first_free = Some(key);
        self.count -= 1;
        self.cut_end();
        Some(value)
    }

    fn cut_end(&mut self) {
        while let Some(Slot::Free { .. }) = self.slots.last() {
            if let Some(key) = Key::new(self.slots.len() - 1) {
                self.unlink(key);
            }
            self.slots.pop();
        }
        shrink(&mut self.slots);
    }

    fn unlink(&mut self, key: Key) {
        let Some(&Slot::Free { before, after }) = self.slots.get(key.index()) else {
            return;
        };
        match before {
            Some(before) => self.set_after(before, after),
            None => self.first_free = after,
        }
        if let Some(after) = after {
            self.set_before(after, before);
        }
    }

    fn set_before(&mut self, key: Key, to: Option<Key>) {
        if let Some(Slot::Free { before, .. }) = self.slots.get_mut(key.index()) {
            *before = to;
        }
    }

    fn set_after(&mut self, key: Key, to: Option<Key>) {
        if let Some(Slot::Free { after, .. }) = self.slots.get_mut(key.index()) {
            *after = to;
        }
    }

    /// The memory that is allocated, in bytes.
    #[cfg(test)]
    pub(super) fn heap_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Slot<T>>()
    }
}

/// Above this length a vector grows by a quarter instead of doubling: at a million members the
/// unused half would be larger than all that a member's subscription needs.
const DOUBLES_BELOW: usize = 1024;

/// Makes room for one more value.
pub(super) fn grow<T>(values: &mut Vec<T>) {
    let count = values.len();
    if count == values.capacity() && DOUBLES_BELOW <= count {
        values.reserve_exact(count / 4);
    }
}

/// Gives memory back when less than a quarter of it is in use, and all of it when nothing is.
pub(super) fn shrink<T>(values: &mut Vec<T>) {
    let count = values.len();
    if count == 0 || (DOUBLES_BELOW < values.capacity() && count < values.capacity() / 4) {
        values.shrink_to(count * 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pubsub::tests::Xorshift;

    #[test]
    fn same_as_a_map() {
        let mut random = Xorshift::new(3);
        let mut slots = Slots::default();
        let mut model: Vec<(Key, u64)> = Vec::new();
        for round in 0..40_000_u64 {
            // Waves, so that the end is cut and grown again.
            let wants_more = random.below(100) < if round / 5000 % 2 == 0 { 60 } else { 40 };
            if wants_more || model.is_empty() {
                model.push((slots.insert(round).unwrap(), round));
            } else {
                let (key, value) = model.swap_remove(random.below(model.len()));
                assert_eq!(slots.remove(key), Some(value));
                assert_eq!(slots.remove(key), None, "freed twice");
                assert_eq!(slots.get(key), None);
            }
            assert_eq!(slots.len(), model.len());
        }
        for (key, value) in &model {
            assert_eq!(slots.get(*key), Some(value));
        }
        let mut values: Vec<_> = slots.values().copied().collect();
        values.sort_unstable();
        model.sort_unstable_by_key(|(_, value)| *value);
        assert!(values.iter().eq(model.iter().map(|(_, value)| value)));

        for (key, value) in model {
            assert_eq!(slots.remove(key), Some(value));
        }
        assert_eq!(
            (slots.len(), slots.heap_bytes(), slots.first_free),
            (0, 0, None)
        );
    }

    #[test]
    fn free_places_are_used_before_new_ones() {
        let mut slots = Slots::default();
        let keys: Vec<_> = (0..10).map(|n| slots.insert(n).unwrap()).collect();
        slots.remove(keys[3]);
        slots.remove(keys[7]);
        slots.insert(11);
        slots.insert(12);
        assert_eq!(slots.slots.len(), 10);
        assert!(slots.first_free.is_none());
    }

    #[test]
    fn keys_out_of_range_have_no_value() {
        let mut slots = Slots::default();
        slots.insert(1);
        let far = Key::from_bits(u32::MAX).unwrap();
        assert_eq!(slots.get(far), None);
        assert_eq!(slots.remove(far), None);
    }
}
