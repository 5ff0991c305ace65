//! Timers of the application: a binary heap in which a timer can be cancelled.
//!
//! Entries live in a slab and know their index in the heap, so cancelling removes a timer at once,
//! in logarithmic time, and drops its closure. With the usual mark "cancelled" in the heap, a
//! program that sets and cancels a long timer for each message would keep all of them. Time is an
//! argument, in nanoseconds since the start of the reactor.

use slab::Slab;

use crate::reactor::outcome::{Outcome, Sealed};

/// Names one timer, and no later timer. Stale when a timer of [`after`](crate::Reactor::after) has
/// fired, or when it was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimerId {
    index: u32,
    generation: u32,
}

impl Sealed for TimerId {}
impl Outcome for TimerId {}

struct Entry<T> {
    due: u64,
    /// Breaks ties: of two timers due at the same time, the one set first fires first.
    order: u64,
    heap_index: u32,
    generation: u32,
    value: T,
}

pub(crate) struct Timers<T> {
    entries: Slab<Entry<T>>,
    heap: Vec<u32>,
    /// Most timers since memory was last given back.
    high_water: usize,
    next_order: u64,
    next_generation: u32,
}

impl<T> Timers<T> {
    pub(crate) fn new() -> Self {
        Timers {
            entries: Slab::new(),
            heap: Vec::new(),
            high_water: 0,
            next_order: 0,
            next_generation: 0,
        }
    }

    pub(crate) fn insert(&mut self, due: u64, value: T) -> TimerId {
        let generation = self.next_generation;
        self.next_generation = self.next_generation.wrapping_add(1);
        let heap_index = self.heap.len() as u32;
        let order = self.next_order;
        self.next_order += 1;
        let index = self.entries.insert(Entry {
            due,
            order,
            heap_index,
            generation,
            value,
        }) as u32;
        self.heap.push(index);
        self.high_water = self.high_water.max(self.heap.len());
        self.sift_up(heap_index as usize);
        TimerId { index, generation }
    }

    /// Takes out a timer; `None` when it is stale.
    pub(crate) fn cancel(&mut self, id: TimerId) -> Option<T> {
        let entry = self.entries.get(id.index as usize)?;
        if entry.generation != id.generation {
            return None;
        }
        let place = entry.heap_index as usize;
        let last = self.heap.len() - 1;
        self.heap.swap(place, last);
        self.heap.pop();
        if place < last {
            self.entries[self.heap[place] as usize].heap_index = place as u32;
            self.sift_down(place);
            self.sift_up(place);
        }
        let entry = self.entries.remove(id.index as usize);
        self.give_back_memory();
        Some(entry.value)
    }

    /// Takes out every timer.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = T> {
        self.heap.clear();
        std::mem::take(&mut self.entries)
            .into_iter()
            .map(|(_, entry)| entry.value)
    }

    /// When the earliest timer is due; `u64::MAX` when there is none.
    #[inline]
    pub(crate) fn next_due(&self) -> u64 {
        match self.heap.first() {
            Some(index) => self.entries[*index as usize].due,
            None => u64::MAX,
        }
    }

    /// Returns a mark between the timers that have been set and those that are set later.
    pub(crate) fn mark(&self) -> u64 {
        self.next_order
    }

    /// Returns the earliest timer and its moment, if it is due at `now` and was set before `mark`.
    pub(crate) fn peek_due(&self, now: u64, mark: u64) -> Option<(TimerId, u64)> {
        let index = *self.heap.first()?;
        let entry = &self.entries[index as usize];
        // A timer that was set after the mark is due at `now` at the earliest, and comes after
        // those of the same moment. So it hides no timer that is due.
        (entry.due <= now && entry.order < mark).then_some((
            TimerId {
                index,
                generation: entry.generation,
            },
            entry.due,
        ))
    }

    /// The value of a timer; `None` when the id is stale.
    pub(crate) fn get_mut(&mut self, id: TimerId) -> Option<&mut T> {
        let entry = self.entries.get_mut(id.index as usize)?;
        (entry.generation == id.generation).then_some(&mut entry.value)
    }

    /// Moves a timer to another moment. Does nothing when the id is stale.
    pub(crate) fn reschedule(&mut self, id: TimerId, due: u64) {
        let order = self.next_order;
        let Some(entry) = self.entries.get_mut(id.index as usize) else {
            return;
        };
        if entry.generation != id.generation {
            return;
        }
        entry.due = due;
        entry.order = order;
        self.next_order += 1;
        let place = entry.heap_index as usize;
        self.sift_down(place);
        self.sift_up(place);
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.heap.len()
    }

    // A million cancelled timers should not keep their memory. Done each time that a quarter is
    // left, so that it costs a constant for each timer. A slab can only drop free indexes at its
    // end, so it may give back all only when the last timer has gone.
    fn give_back_memory(&mut self) {
        if self.heap.len() <= self.high_water / 4 && 1024 < self.entries.capacity() {
            self.high_water = self.heap.len();
            self.heap.shrink_to(self.heap.len() * 2);
            self.entries.shrink_to_fit();
        }
    }

    fn earlier(&self, a: usize, b: usize) -> bool {
        let (a, b) = (
            &self.entries[self.heap[a] as usize],
            &self.entries[self.heap[b] as usize],
        );
        (a.due, a.order) < (b.due, b.order)
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        self.entries[self.heap[a] as usize].heap_index = a as u32;
        self.entries[self.heap[b] as usize].heap_index = b as u32;
    }

    fn sift_up(&mut self, mut place: usize) {
        while 0 < place {
            let parent = (place - 1) / 2;
            if !self.earlier(place, parent) {
                return;
            }
            self.swap(place, parent);
            place = parent;
        }
    }

    fn sift_down(&mut self, mut place: usize) {
        loop {
            let mut least = place;
            for child in [2 * place + 1, 2 * place + 2] {
                if child < self.heap.len() && self.earlier(child, least) {
                    least = child;
                }
            }
            if least == place {
                return;
            }
            self.swap(place, least);
            place = least;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl<T> Timers<T> {
        fn pop_due(&mut self, now: u64) -> Option<(TimerId, u64, T)> {
            let (id, due) = self.peek_due(now, u64::MAX)?;
            self.cancel(id).map(|value| (id, due, value))
        }
    }

    #[test]
    fn a_rescheduled_timer_keeps_its_id() {
        let mut timers = Timers::new();
        let tick = timers.insert(10, "tick");
        timers.insert(15, "other");
        timers.reschedule(tick, 20);
        assert_eq!(timers.peek_due(30, u64::MAX).map(|(_, due)| due), Some(15));
        timers.reschedule(tick, 5);
        assert_eq!(timers.peek_due(30, u64::MAX), Some((tick, 5)));
        assert_eq!(timers.get_mut(tick), Some(&mut "tick"));
        timers.cancel(tick);
        timers.reschedule(tick, 1);
        assert_eq!(timers.peek_due(30, u64::MAX).map(|(_, due)| due), Some(15));
    }

    #[test]
    fn due_timers_come_in_order_and_ties_in_the_order_they_were_set() {
        let mut timers = Timers::new();
        for (due, name) in [(30, "c"), (10, "a"), (20, "b1"), (20, "b2"), (40, "d")] {
            timers.insert(due, name);
        }
        assert_eq!(timers.next_due(), 10);
        let fired: Vec<_> = std::iter::from_fn(|| timers.pop_due(30))
            .map(|(_, _, name)| name)
            .collect();
        assert_eq!(fired, ["a", "b1", "b2", "c"]);
        assert_eq!(timers.next_due(), 40);
    }

    #[test]
    fn cancelled_and_fired_ids_are_stale() {
        let mut timers = Timers::new();
        let first = timers.insert(1, "first");
        let second = timers.insert(2, "second");
        assert_eq!(timers.cancel(first), Some("first"));
        assert_eq!(timers.cancel(first), None);
        let third = timers.insert(3, "in the place of the first");
        assert_eq!(timers.cancel(first), None);
        assert_eq!(timers.pop_due(2).map(|(id, ..)| id), Some(second));
        assert_eq!(timers.cancel(second), None);
        assert!(timers.cancel(third).is_some());
        assert_eq!((timers.len(), timers.next_due()), (0, u64::MAX));
    }

    #[test]
    fn same_as_a_sorted_list_under_random_operations() {
        let mut timers = Timers::new();
        let mut model: Vec<(u64, u64, TimerId)> = Vec::new();
        let mut seed = 0x2545_f491_4f6c_dd1d_u64;
        for order in 0..20_000 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            match seed % 3 {
                0 if !model.is_empty() => {
                    let (.., id) = model.swap_remove(seed as usize / 3 % model.len());
                    assert!(timers.cancel(id).is_some());
                }
                1 => {
                    model.sort_unstable_by_key(|(due, order, _)| (*due, *order));
                    let fired = timers.pop_due(seed >> 54);
                    match model.first().filter(|(due, ..)| *due <= seed >> 54) {
                        Some((due, _, id)) => {
                            assert_eq!(fired.map(|(id, due, ())| (due, id)), Some((*due, *id)));
                            model.remove(0);
                        }
                        None => assert!(fired.is_none()),
                    }
                }
                _ => {
                    let due = seed >> 53;
                    model.push((due, order, timers.insert(due, ())));
                }
            }
            assert_eq!(timers.len(), model.len());
        }
    }

    #[test]
    fn cancelled_timers_give_their_memory_back() {
        const COUNT: usize = 50_000;
        let mut timers = Timers::new();
        let ids: Vec<_> = (0..COUNT as u64)
            .map(|due| timers.insert(due, [0u8; 16]))
            .collect();
        assert!(COUNT <= timers.heap.capacity() && COUNT <= timers.entries.capacity());
        for id in ids {
            assert!(timers.cancel(id).is_some());
        }
        assert!(timers.heap.capacity() <= 4096 && timers.entries.capacity() <= 4096);
    }
}
