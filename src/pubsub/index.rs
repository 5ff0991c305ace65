//! From the hash of a name to the key of what has this name.

use super::slots::Key;

/// Hashes and keys: open addressing with linear probing.
///
/// Kept instead of a `HashMap<Box<str>, Key>`, whose place has 24 bytes and owns a second copy of
/// the name: a place has eight bytes here, and the name stands where the key points to. The hash is kept in the
/// place, so growing looks at no name.
#[derive(Debug, Default)]
pub(super) struct Index {
    places: Vec<Option<(Key, u32)>>,
    count: usize,
}

impl Index {
    const PLACES_MIN: usize = 8;

    fn home(&self, hash: u32) -> usize {
        ((u64::from(hash) * self.places.len() as u64) >> 32) as usize
    }

    fn after(&self, place: usize) -> usize {
        if place + 1 == self.places.len() {
            0
        } else {
            place + 1
        }
    }

    /// The place that holds what is searched.
    fn position(&self, hash: u32, is_it: impl Fn(Key) -> bool) -> Option<usize> {
        if self.places.is_empty() {
            return None;
        }
        let mut place = self.home(hash);
        // One place is always free, so this ends.
        while let Some((key, other)) = self.places[place] {
            if other == hash && is_it(key) {
                return Some(place);
            }
            place = self.after(place);
        }
        None
    }

    pub(super) fn find(&self, hash: u32, is_it: impl Fn(Key) -> bool) -> Option<Key> {
        let place = self.position(hash, is_it)?;
        self.places[place].map(|(key, _)| key)
    }

    pub(super) fn insert(&mut self, hash: u32, key: Key) {
        // At most four fifths full.
        if self.places.len() * 4 < (self.count + 1) * 5 {
            self.resize();
        }
        self.put(hash, key);
        self.count += 1;
    }

    fn put(&mut self, hash: u32, key: Key) {
        let mut place = self.home(hash);
        while self.places[place].is_some() {
            place = self.after(place);
        }
        self.places[place] = Some((key, hash));
    }

    pub(super) fn remove(&mut self, hash: u32, key: Key) {
        let Some(mut hole) = self.position(hash, |other| other == key) else {
            return;
        };
        // Each entry whose search passes the hole moves into the hole, because a search ends at a
        // free place.
        let mut place = self.after(hole);
        while let Some((_, other)) = self.places[place] {
            if self.distance(self.home(other), place) >= self.distance(hole, place) {
                self.places[hole] = self.places[place];
                hole = place;
            }
            place = self.after(place);
        }
        self.places[hole] = None;
        self.count -= 1;
        // Less than a fifth full.
        if Self::PLACES_MIN < self.places.len() && self.count * 5 < self.places.len()
            || self.count == 0
        {
            self.resize();
        }
    }

    /// How many steps a search takes from one place to another.
    fn distance(&self, from: usize, to: usize) -> usize {
        if from <= to {
            to - from
        } else {
            to + self.places.len() - from
        }
    }

    /// Makes room for two thirds more than there is.
    fn resize(&mut self) {
        let places = match self.count {
            0 if self.places.is_empty() => Self::PLACES_MIN,
            0 => 0,
            count => (count * 5 / 3).max(Self::PLACES_MIN),
        };
        let old = std::mem::replace(&mut self.places, vec![None; places]);
        for (key, hash) in old.into_iter().flatten() {
            self.put(hash, key);
        }
    }

    /// The memory that is allocated, in bytes.
    #[cfg(test)]
    pub(super) fn heap_bytes(&self) -> usize {
        self.places.capacity() * size_of::<Option<(Key, u32)>>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pubsub::tests::Xorshift;

    #[test]
    fn index_finds_what_is_there_through_collisions() {
        // Few hashes for many keys, so that runs are long and go over the end.
        let mut random = Xorshift::new(5);
        let mut index = Index::default();
        let mut model: Vec<(Key, u32)> = Vec::new();
        for round in 0..20_000 {
            let joins = if round / 4000 % 2 == 0 { 60 } else { 40 };
            if model.is_empty() || random.below(100) < joins {
                let key = Key::from_bits(round + 1).unwrap();
                let hash = u32::MAX - (random.below(40) as u32) * 0x0100_0000;
                index.insert(hash, key);
                model.push((key, hash));
            } else {
                let (key, hash) = model.swap_remove(random.below(model.len()));
                index.remove(hash, key);
                assert_eq!(index.find(hash, |other| other == key), None);
            }
            assert_eq!(index.count, model.len());
            if round % 100 == 0 {
                for (key, hash) in &model {
                    assert_eq!(index.find(*hash, |other| other == *key), Some(*key));
                }
            }
        }
    }
}
