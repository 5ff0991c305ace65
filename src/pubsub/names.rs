//! Names with their members: what is found by a name, and what a publication walks over.

use std::hash::{BuildHasher, RandomState};
use std::slice;

use super::index::Index;
use super::slots::{Key, Slots, grow, shrink};

/// The bytes that a topic counts beside its name: its slot, its place in the index, and what the allocator
/// needs for the name.
const TOPIC_BYTES: usize = 2 * (size_of::<Topic>() + size_of::<(Key, u32)>()) + 16;

/// One subscription, in the array of its topic: what a publication walks over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) member: u64,
    pub(super) node: Key,
    /// The value of the subscription, for wire formats that use values.
    pub(super) value: u32,
}

#[derive(Debug)]
pub(super) struct Topic {
    pub(super) name: Box<str>,
    pub(super) members: Members,
}

/// The members of a topic, of which there is always one. Most topics of most programs are a single
/// user's, so that one needs no allocation.
#[derive(Debug)]
pub(super) enum Members {
    One(Entry),
    // In a box, so that a topic with one member is 16 bytes smaller. One more pointer to follow
    // costs little beside a walk over a large array.
    #[expect(clippy::box_collection, reason = "as above")]
    Many(Box<Vec<Entry>>),
}

impl Members {
    pub(super) fn as_slice(&self) -> &[Entry] {
        match self {
            Members::One(entry) => slice::from_ref(entry),
            Members::Many(entries) => entries,
        }
    }

    pub(super) fn get_mut(&mut self, index: usize) -> Option<&mut Entry> {
        match self {
            Members::One(entry) => slice::from_mut(entry).get_mut(index),
            Members::Many(entries) => entries.get_mut(index),
        }
    }

    fn push(&mut self, entry: Entry) {
        match self {
            Members::One(first) => *self = Members::Many(Box::new(vec![*first, entry])),
            Members::Many(entries) => {
                grow(entries);
                entries.push(entry);
            }
        }
    }

    /// Removes the entry at `index`, which is there, and is not the only one. Returns the entry
    /// that has moved into its place.
    fn swap_remove(&mut self, index: usize) -> Option<Entry> {
        let Members::Many(entries) = self else {
            return None;
        };
        entries.swap_remove(index);
        let moved = entries.get(index).copied();
        if let [last] = entries[..] {
            *self = Members::One(last);
        } else {
            shrink(entries);
        }
        moved
    }
}

/// The parts that are gone after a member was removed.
#[derive(Debug)]
pub(super) enum Removed {
    /// The member alone. The entry that has moved into its place has a new index.
    Member { moved: Option<Entry> },
    /// The topic too, since this was its last member.
    Topic { name: Box<str> },
}

/// Names with their topics: the exact ones, or the patterns.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) topics: Slots<Topic>,
    index: Index,
    name_bytes: usize,
}

impl Names {
    pub(super) fn find(&self, hash: u32, name: &str) -> Option<Key> {
        self.index.find(hash, |key| {
            self.topics
                .get(key)
                .is_some_and(|topic| *topic.name == *name)
        })
    }

    pub(super) fn member_count(&self, key: Option<Key>) -> usize {
        let topic = key.and_then(|key| self.topics.get(key));
        topic.map_or(0, |topic| topic.members.as_slice().len())
    }

    /// Adds a member to a topic that was found, or to a new one at the next key.
    pub(super) fn add(&mut self, found: Option<Key>, hash: u32, name: &str, entry: Entry) {
        match found.and_then(|key| self.topics.get_mut(key)) {
            Some(topic) => topic.members.push(entry),
            None => {
                let members = Members::One(entry);
                self.name_bytes += name.len();
                let name = name.into();
                if let Some(key) = self.topics.insert(Topic { name, members }) {
                    self.index.insert(hash, key);
                }
            }
        }
    }

    /// Removes a member from a topic, and the topic with its last one.
    pub(super) fn remove(&mut self, hasher: &RandomState, key: Key, entry_index: usize) -> Removed {
        match self.topics.get_mut(key) {
            None => return Removed::Member { moved: None },
            Some(topic) => {
                if let Members::Many(_) = topic.members {
                    let moved = topic.members.swap_remove(entry_index);
                    return Removed::Member { moved };
                }
            }
        }
        match self.topics.remove(key) {
            None => Removed::Member { moved: None },
            Some(topic) => {
                self.index.remove(hash_name(hasher, &topic.name), key);
                self.name_bytes -= topic.name.len();
                Removed::Topic { name: topic.name }
            }
        }
    }

    /// The memory of topics and names without their members, in bytes, about: it counts what each topic
    /// takes in tables that are half full.
    pub(super) fn counted_bytes(&self) -> usize {
        self.topics.len() * TOPIC_BYTES + self.name_bytes
    }

    /// The memory that is allocated, without the names, in bytes.
    #[cfg(test)]
    pub(super) fn heap_bytes(&self) -> usize {
        let of_members = |topic: &Topic| match &topic.members {
            Members::One(_) => 0,
            Members::Many(entries) => {
                size_of::<Vec<Entry>>() + entries.capacity() * size_of::<Entry>()
            }
        };
        let members: usize = self.topics.values().map(of_members).sum();
        let index = self.index.heap_bytes();
        members + index + self.topics.heap_bytes()
    }
}

pub(super) fn hash_name(hasher: &RandomState, name: &str) -> u32 {
    hasher.hash_one(name) as u32
}
