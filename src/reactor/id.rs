//! Handles: small `Copy` ids with a generation, which never dangle.

use std::fmt;

/// Names one connection, for as long as it lives and never after.
///
/// Eight bytes, `Copy`, and safe to keep anywhere: when the connection is gone, every operation
/// on its id answers [`Sent::Gone`](crate::Sent::Gone), also when its place in the table has been
/// taken by another one since.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl ConnId {
    /// Nobody's: the table has no such place.
    pub(crate) const NONE: ConnId = ConnId {
        index: u32::MAX,
        generation: u32::MAX,
    };

    /// The id as one number, for tables that are keyed by `u64`.
    #[inline]
    pub fn to_bits(self) -> u64 {
        (u64::from(self.generation) << 32) | u64::from(self.index)
    }

    /// The id that [`to_bits`](Self::to_bits) made.
    #[inline]
    pub fn from_bits(bits: u64) -> ConnId {
        ConnId {
            index: (bits & 0xffff_ffff) as u32,
            generation: (bits >> 32) as u32,
        }
    }
}

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.generation)
    }
}

impl fmt::Debug for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "conn {self}")
    }
}

/// Names one listener.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ListenerId(pub(crate) ConnId);

/// A map from connections to what you keep for each, without hashing.
///
/// A vector indexed like the table of connections; a stale id finds nothing, and what a closed
/// connection left is dropped when its place is taken again, or by [`remove`](Self::remove) in
/// `on_close`.
#[derive(Debug)]
pub struct ConnMap<T> {
    slots: Vec<Option<(u32, T)>>,
    count: usize,
}

impl<T> Default for ConnMap<T> {
    fn default() -> Self {
        ConnMap {
            slots: Vec::new(),
            count: 0,
        }
    }
}

impl<T> ConnMap<T> {
    /// Keeps `value` for `id` and returns what was kept for the same id before.
    pub fn insert(&mut self, id: ConnId, value: T) -> Option<T> {
        let index = id.index as usize;
        if self.slots.len() <= index {
            self.slots.resize_with(index + 1, || None);
        }
        match self.slots[index].replace((id.generation, value)) {
            Some((generation, old)) if generation == id.generation => Some(old),
            Some(_) => None,
            None => {
                self.count += 1;
                None
            }
        }
    }

    /// What is kept for `id`.
    pub fn get(&self, id: ConnId) -> Option<&T> {
        match self.slots.get(id.index as usize) {
            Some(Some((generation, value))) if *generation == id.generation => Some(value),
            _ => None,
        }
    }

    /// What is kept for `id`, to be changed.
    pub fn get_mut(&mut self, id: ConnId) -> Option<&mut T> {
        match self.slots.get_mut(id.index as usize) {
            Some(Some((generation, value))) if *generation == id.generation => Some(value),
            _ => None,
        }
    }

    /// Takes out what is kept for `id`.
    pub fn remove(&mut self, id: ConnId) -> Option<T> {
        let slot = self.slots.get_mut(id.index as usize)?;
        if !matches!(slot, Some((generation, _)) if *generation == id.generation) {
            return None;
        }
        self.count -= 1;
        slot.take().map(|(_, value)| value)
    }

    /// How many connections have a value.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether no connection has a value.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// All ids with their values, in the order of their places in the table.
    pub fn iter(&self) -> impl Iterator<Item = (ConnId, &T)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| {
            let (generation, value) = slot.as_ref()?;
            Some((
                ConnId {
                    index: index as u32,
                    generation: *generation,
                },
                value,
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(index: u32, generation: u32) -> ConnId {
        ConnId { index, generation }
    }

    #[test]
    fn bits_and_back() {
        let id = id(7, u32::MAX);
        assert_eq!(ConnId::from_bits(id.to_bits()), id);
        assert_eq!(size_of::<ConnId>(), 8);
    }

    #[test]
    fn a_stale_id_finds_nothing_in_a_map() {
        let mut map = ConnMap::default();
        assert_eq!(map.insert(id(3, 1), "old"), None);
        assert_eq!(map.insert(id(3, 2), "new"), None);
        assert_eq!(map.get(id(3, 1)), None);
        assert_eq!(map.remove(id(3, 1)), None);
        assert_eq!(map.get(id(3, 2)), Some(&"new"));
        assert_eq!(map.iter().collect::<Vec<_>>(), [(id(3, 2), &"new")]);
        assert_eq!(
            (map.remove(id(3, 2)), map.len(), map.is_empty()),
            (Some("new"), 0, true)
        );
    }
}
