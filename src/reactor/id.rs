//! Handles: small `Copy` ids with a generation, which never dangle.

use std::fmt;

use super::outcome::{Outcome, Sealed};

/// Names one connection of a reactor, and no later connection.
///
/// Eight bytes, `Copy`, and safe to keep anywhere. It holds an index and a generation. When the
/// connection has ended the id is *stale*: sending to it returns [`Sent::Gone`](crate::Sent::Gone)
/// and other calls do nothing, also when another connection has its index. An id means nothing in
/// another reactor.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

/// The number of different intervals of [`ConnId::spread`].
const PHASES: u32 = 256;

impl Sealed for ConnId {}
impl Outcome for ConnId {}

impl ConnId {
    /// The id of no connection: a table never has this index.
    pub(crate) const NONE: ConnId = ConnId {
        index: u32::MAX,
        generation: u32::MAX,
    };

    /// Returns the interval of this connection: up to a quarter shorter than `interval_nanos`, and different
    /// for ids in a row.
    ///
    /// Clients that came together, such as after a restart of the server, would otherwise be pinged
    /// together for ever. Intervals that differ only at the beginning would not be enough: messages put a
    /// ping off, and clients that came together send their first messages together.
    #[inline]
    pub(crate) fn spread(self, interval_nanos: u64) -> u64 {
        interval_nanos - interval_nanos / u64::from(4 * PHASES) * u64::from(self.index % PHASES)
    }

    /// As [`spread`](Self::spread), for a moment that comes once for each connection: the goodbyes of a million
    /// connections are spread over the whole quarter.
    pub(crate) fn spread_finely(self, interval_nanos: u64) -> u64 {
        // Multiples of the golden ratio are spread evenly. Source: Knuth, The Art of Computer Programming,
        // volume 3, section 6.4.
        let hash = self.generation.wrapping_mul(0x9e37_79b9);
        let quarter = u128::from(interval_nanos / 4);
        interval_nanos - ((quarter * u128::from(hash)) >> 32) as u64
    }

    /// Returns the id as one number, for maps with keys of `u64`.
    #[inline]
    pub fn to_bits(self) -> u64 {
        (u64::from(self.generation) << 32) | u64::from(self.index)
    }

    /// Returns the id of which [`to_bits`](Self::to_bits) made this number. A number of another
    /// origin gives an id that is stale or names any connection.
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

/// Names one listener of a reactor, and no later listener.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ListenerId(pub(crate) ConnId);

impl Sealed for ListenerId {}
impl Outcome for ListenerId {}

/// A map from connections to your values, without hashing.
///
/// A vector with the indexes of the table of connections: as long as the largest index in use. A
/// stale id finds no value. The value of a connection that has ended is dropped when another
/// connection with its index gets one, or by [`remove`](Self::remove) in `on_close`.
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
    /// Keeps `value` for `id`, and returns the value that was kept for the same id before.
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

    /// Returns the value of `id`.
    pub fn get(&self, id: ConnId) -> Option<&T> {
        match self.slots.get(id.index as usize) {
            Some(Some((generation, value))) if *generation == id.generation => Some(value),
            _ => None,
        }
    }

    /// Returns the value of `id`, for changing it.
    pub fn get_mut(&mut self, id: ConnId) -> Option<&mut T> {
        match self.slots.get_mut(id.index as usize) {
            Some(Some((generation, value))) if *generation == id.generation => Some(value),
            _ => None,
        }
    }

    /// Removes the value of `id` and returns it.
    pub fn remove(&mut self, id: ConnId) -> Option<T> {
        let slot = self.slots.get_mut(id.index as usize)?;
        if !matches!(slot, Some((generation, _)) if *generation == id.generation) {
            return None;
        }
        self.count -= 1;
        slot.take().map(|(_, value)| value)
    }

    /// How many values there are, those of ended connections included that were not removed.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Returns all ids with their values, in the order of their indexes.
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
    fn moments_are_spread_finely_over_a_quarter() {
        let mut moments: Vec<u64> = (0..1000)
            .map(|generation| id(5, generation).spread_finely(4_000_000))
            .collect();
        moments.sort_unstable();
        assert!(3_000_000 < moments[0] && moments[999] <= 4_000_000);
        let gaps = moments.windows(2).map(|pair| pair[1] - pair[0]);
        // A thousandth of the quarter each, nearly.
        assert!(
            gaps.clone().all(|gap| (200..3000).contains(&gap)),
            "{:?}",
            gaps.max()
        );
        // The longest time does not overflow.
        assert!(u64::MAX / 4 * 3 <= id(1, u32::MAX).spread_finely(u64::MAX));
    }

    #[test]
    fn intervals_are_spread_over_a_quarter() {
        let intervals = [0, 1, 128, 255, 256].map(|index| id(index, 7).spread(1024));
        assert_eq!(intervals, [1024, 1023, 896, 769, 1024]);
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
