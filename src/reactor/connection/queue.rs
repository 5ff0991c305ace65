//! The write queue of a connection: a linked list of nodes in one slab of the loop.
//!
//! A connection holds head and tail, so an idle one owns no memory here, and a publication to a
//! thousand members allocates no list. A node is one message, or a run of bytes that no policy may
//! drop. Its bytes are its own, or shared with every other member that a publication went to.
//!
//! The cost of a message to a full queue does not depend on the length of the queue:
//!
//! * Neighbours that may not be dropped are merged into runs. A peer that sends pings and does not
//!   read queues thousands of pongs. As a node each, they would have to be passed whenever a policy
//!   looks for a message to drop.
//! * The queue remembers up to which node none may be dropped (`kept`), so a policy passes each node
//!   once and not for each message.
//! * A queue above its high watermark whose policy keeps the latest message of each key gets an index
//!   from key to node, until it is short again. Making the index drops the superseded messages. From
//!   then on the queue holds one message of each key, since a new one takes the place of the older.

use std::collections::HashMap;
use std::io::IoSlice;
use std::rc::Rc;

use slab::Slab;

use crate::reactor::burst::BURST;
use crate::reactor::config::QUEUED_MESSAGE_BYTES;

/// No node.
const NONE: u32 = u32::MAX;

/// Messages of at most this many bytes in all are copied side by side and written at once.
const TOGETHER_BYTES: usize = 16 * 1024;

/// A run of bytes that no policy may drop grows to at most this length. It is not longer, because it
/// keeps its memory until the kernel has taken its last byte.
const RUN_BYTES_MAX: usize = 16 * 1024;

/// The memory of a node, and what the allocator needs beside its bytes.
const NODE_BYTES: usize = size_of::<Node>() + 16;

/// At most this many buffers go into one vectored write; kernels take 1024.
pub(crate) const SLICES_MAX: usize = 64;

pub(crate) enum Bytes {
    Owned(Vec<u8>),
    Shared(Rc<[u8]>),
}

impl Bytes {
    fn as_slice(&self) -> &[u8] {
        match self {
            Bytes::Owned(bytes) => bytes,
            Bytes::Shared(bytes) => bytes,
        }
    }
}

/// Whether a policy may drop a message, and what it replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DropRule {
    /// Never dropped: handshakes, replies and control frames, without which the stream is broken.
    Never,
    /// A whole message without a key.
    Allowed,
    /// A whole message; of those with the same key only the latest matters.
    ByKey(u64),
}

struct Node {
    bytes: Bytes,
    rule: DropRule,
    /// How many messages it holds: a run of replies may hold many.
    message_count: u32,
    next: u32,
}

impl Node {
    /// The bytes that only it holds.
    #[inline]
    fn own_bytes(&self) -> usize {
        match &self.bytes {
            Bytes::Owned(bytes) => bytes.len(),
            Bytes::Shared(_) => 0,
        }
    }

    /// Its bytes, and the overhead of each message.
    fn counted_bytes(&self) -> usize {
        self.bytes.as_slice().len() + self.message_count as usize * QUEUED_MESSAGE_BYTES
    }
}

/// The nodes of every connection.
#[derive(Default)]
pub(crate) struct Nodes {
    slab: Slab<Node>,
    /// The bytes of all nodes. A shared body counts once.
    held_bytes: usize,
    /// The most nodes there were at one time since `take_most` was last called.
    most: usize,
    /// How many nodes the policies have looked at.
    #[cfg(test)]
    visited: usize,
}

impl Nodes {
    fn note_visited(&mut self) {
        #[cfg(test)]
        {
            self.visited += 1;
        }
    }

    /// The most nodes there were at one time since this was last called.
    #[inline]
    pub(crate) fn take_most(&mut self) -> usize {
        std::mem::replace(&mut self.most, self.slab.len())
    }

    /// The memory of all nodes and their bytes, in bytes.
    #[inline]
    pub(crate) fn held_bytes(&self) -> usize {
        self.held_bytes + self.slab.len() * NODE_BYTES
    }

    /// Counts bodies that nodes and the palette share, once no one else holds them. Each counts until the
    /// last of these drops it.
    pub(crate) fn count_shared(&mut self, bytes: usize) {
        self.held_bytes += bytes;
    }

    /// Takes bytes of bodies off the count that the palette has dropped and no node holds.
    #[inline]
    pub(crate) fn forget_shared(&mut self, bytes: usize) {
        self.held_bytes -= bytes;
    }

    #[inline]
    fn insert(&mut self, node: Node) -> u32 {
        self.held_bytes += node.own_bytes();
        let index = self.slab.insert(node) as u32;
        self.most = self.most.max(self.slab.len());
        index
    }

    #[inline]
    fn remove(&mut self, index: u32) -> Node {
        let node = self.slab.remove(index as usize);
        self.forget(&node.bytes);
        node
    }

    /// Takes bytes that leave a node, or were kept outside of the queues, off the count. A publication holds its bodies itself while it
    /// is delivered, and they are not counted yet.
    #[inline]
    pub(crate) fn forget(&mut self, bytes: &Bytes) {
        match bytes {
            Bytes::Shared(bytes) if 1 < Rc::strong_count(bytes) => {}
            Bytes::Owned(_) | Bytes::Shared(_) => self.held_bytes -= bytes.as_slice().len(),
        }
    }

    /// Gives memory back after a burst.
    pub(crate) fn give_back_memory(&mut self) {
        if self.slab.is_empty() && BURST < self.slab.capacity() {
            self.slab = Slab::new();
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.slab.len()
    }
}

/// Two short cuts of a queue to which a policy applies.
#[derive(Debug)]
struct ShortCuts {
    /// No node from the head up to this one may be dropped. [`NONE`] when that is not known of the
    /// head.
    kept: u32,
    /// The node of each key, while the queue keeps only the latest message of each.
    by_key: Option<HashMap<u64, u32>>,
}

/// One connection's queue: 32 bytes.
#[derive(Debug)]
pub(crate) struct Queue {
    head: u32,
    tail: u32,
    /// Bytes of the head node that the kernel has taken.
    written: usize,
    /// Bytes of all messages, with `QUEUED_MESSAGE_BYTES` for each, as the watermarks count them.
    /// The head node counts in full until the kernel has taken all of it.
    queued_bytes: usize,
    /// Since a policy has applied to the queue. Boxed, because that is true of few connections.
    short_cuts: Option<Box<ShortCuts>>,
}

impl ShortCuts {
    #[cold]
    fn note_pushed(&mut self, index: u32, rule: DropRule) {
        if let Some(by_key) = &mut self.by_key
            && let DropRule::ByKey(key) = rule
        {
            by_key.insert(key, index);
        }
    }

    #[cold]
    fn note_removed(&mut self, before: u32, index: u32, rule: DropRule) {
        if self.kept == index {
            self.kept = before;
        }
        if let Some(by_key) = &mut self.by_key
            && let DropRule::ByKey(key) = rule
            && by_key.get(&key) == Some(&index)
        {
            by_key.remove(&key);
        }
    }
}

impl Queue {
    pub(crate) const fn new() -> Self {
        Queue {
            head: NONE,
            tail: NONE,
            written: 0,
            queued_bytes: 0,
            short_cuts: None,
        }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.head == NONE
    }

    #[inline]
    pub(crate) fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    pub(crate) fn push(&mut self, nodes: &mut Nodes, bytes: Bytes, rule: DropRule) {
        let length = bytes.as_slice().len();
        if length == 0 || rule == DropRule::Never && self.extend_run(nodes, self.tail, &bytes, 1) {
            return;
        }
        let index = self.append(nodes, bytes, length, rule);
        if let Some(short_cuts) = &mut self.short_cuts {
            short_cuts.note_pushed(index, rule);
        }
    }

    /// As [`push`](Self::push), while the queue has no short cuts.
    #[inline(always)]
    pub(crate) fn push_publication(&mut self, nodes: &mut Nodes, bytes: Rc<[u8]>, key: u64) {
        debug_assert!(!self.has_short_cuts());
        let length = bytes.len();
        if length != 0 {
            self.append(nodes, Bytes::Shared(bytes), length, DropRule::ByKey(key));
        }
    }

    #[inline(always)]
    fn append(&mut self, nodes: &mut Nodes, bytes: Bytes, length: usize, rule: DropRule) -> u32 {
        self.queued_bytes += length + QUEUED_MESSAGE_BYTES;
        let index = nodes.insert(Node {
            bytes,
            rule,
            message_count: 1,
            next: NONE,
        });
        if self.is_empty() {
            self.head = index;
        } else {
            nodes.slab[self.tail as usize].next = index;
        }
        self.tail = index;
        index
    }

    /// Appends bytes that no policy may drop to the node at this index, if that is such a node too and
    /// stays a run of at most [`RUN_BYTES_MAX`]. Returns whether it did.
    fn extend_run(
        &mut self,
        nodes: &mut Nodes,
        index: u32,
        bytes: &Bytes,
        message_count: u32,
    ) -> bool {
        let more = bytes.as_slice();
        match nodes.slab.get_mut(index as usize) {
            Some(Node {
                bytes: Bytes::Owned(run),
                rule: DropRule::Never,
                message_count: run_count,
                ..
            }) if run.len() + more.len() <= RUN_BYTES_MAX => {
                run.extend_from_slice(more);
                nodes.held_bytes += more.len();
                *run_count += message_count;
                self.queued_bytes += more.len() + message_count as usize * QUEUED_MESSAGE_BYTES;
                true
            }
            _ => false,
        }
    }

    /// The unwritten bytes of the only message; `None` when there are more, or none. A case of its
    /// own, because clearing the slices for a vectored write costs more than everything else about
    /// a publication to one member.
    #[inline]
    pub(crate) fn only<'n>(&self, nodes: &'n Nodes) -> Option<&'n [u8]> {
        let node = nodes.slab.get(self.head as usize)?;
        (node.next == NONE).then(|| &node.bytes.as_slice()[self.written..])
    }

    /// Fills `slices` from the front of the queue and returns how many, with their length.
    pub(crate) fn gather<'n>(
        &self,
        nodes: &'n Nodes,
        slices: &mut [IoSlice<'n>; SLICES_MAX],
        bytes_max: usize,
    ) -> (usize, usize) {
        let (mut count, mut length, mut index, mut skip) = (0, 0, self.head, self.written);
        while index != NONE && count < SLICES_MAX && length < bytes_max {
            let node = &nodes.slab[index as usize];
            let bytes = &node.bytes.as_slice()[skip..];
            let bytes = &bytes[..bytes.len().min(bytes_max - length)];
            skip = 0;
            slices[count] = IoSlice::new(bytes);
            length += bytes.len();
            count += 1;
            index = node.next;
        }
        (count, length)
    }

    /// Copies messages from the front, as long as they fit into [`TOGETHER_BYTES`]. Returns how
    /// many.
    ///
    /// Copying a few hundred bytes costs us and the kernel less than a slice for each message.
    pub(crate) fn copy(&self, nodes: &Nodes, out: &mut Vec<u8>) -> usize {
        out.clear();
        let (mut count, mut index, mut skip) = (0, self.head, self.written);
        while index != NONE {
            let node = &nodes.slab[index as usize];
            let bytes = &node.bytes.as_slice()[skip..];
            if TOGETHER_BYTES < out.len() + bytes.len() {
                break;
            }
            skip = 0;
            out.extend_from_slice(bytes);
            count += 1;
            index = node.next;
        }
        count
    }

    /// Removes `taken` bytes from the front, which the kernel has taken.
    pub(crate) fn advance(&mut self, nodes: &mut Nodes, mut taken: usize) {
        while 0 < taken {
            let node = &nodes.slab[self.head as usize];
            let length = node.bytes.as_slice().len();
            let left = length - self.written;
            if taken < left {
                self.written += taken;
                return;
            }
            taken -= left;
            self.written = 0;
            self.queued_bytes -= node.counted_bytes();
            if let Some(short_cuts) = &mut self.short_cuts {
                short_cuts.note_removed(NONE, self.head, node.rule);
            }
            self.head = nodes.remove(self.head).next;
            if self.head == NONE {
                self.tail = NONE;
            }
        }
    }

    /// Drops everything.
    pub(crate) fn clear(&mut self, nodes: &mut Nodes) {
        self.short_cuts = None;
        while !self.is_empty() {
            self.pop(nodes);
        }
    }

    /// Drops messages, oldest first, until at most `bytes` are queued. Returns how many it dropped.
    ///
    /// A message of which the kernel has the first bytes stays, and so do those that the stream
    /// needs; so more than `bytes` may be left.
    pub(crate) fn drop_oldest(&mut self, nodes: &mut Nodes, bytes: usize) -> u64 {
        self.drop_oldest_but(nodes, bytes, NONE)
    }

    fn drop_oldest_but(&mut self, nodes: &mut Nodes, bytes: usize, spared: u32) -> u64 {
        let mut dropped = 0;
        let mut kept = self.short_cuts().kept;
        let mut before = kept;
        let mut index = self.after(nodes, before);
        while index != NONE && bytes < self.queued_bytes() {
            nodes.note_visited();
            let node = &nodes.slab[index as usize];
            if index == spared || node.rule == DropRule::Never || self.has_begun(index) {
                if before == kept && index != spared {
                    kept = index;
                }
                before = index;
            } else {
                self.drop_message(nodes, before, index);
                dropped += 1;
            }
            index = self.after(nodes, before);
        }
        self.short_cuts().kept = kept;
        dropped
    }

    fn short_cuts(&mut self) -> &mut ShortCuts {
        self.short_cuts.get_or_insert_with(|| {
            Box::new(ShortCuts {
                kept: NONE,
                by_key: None,
            })
        })
    }

    /// Whether a policy has applied to the queue since it was last short.
    #[inline]
    pub(crate) fn has_short_cuts(&self) -> bool {
        self.short_cuts.is_some()
    }

    /// Forgets what only the policies need, because the queue is short again.
    pub(crate) fn drop_short_cuts(&mut self) {
        self.short_cuts = None;
    }

    /// Whether the queue keeps only the latest message of each key.
    pub(crate) fn keeps_latest(&self) -> bool {
        let short_cuts = self.short_cuts.as_ref();
        short_cuts.is_some_and(|short_cuts| short_cuts.by_key.is_some())
    }

    /// Keeps only the latest message of each key, until [`drop_short_cuts`](Self::drop_short_cuts)
    /// is called: [`replace`](Self::replace) must be asked before a message with a key is pushed.
    /// Returns how many messages it dropped, because a later one of their key is queued.
    ///
    /// Linear in the queue when it begins to do so, and constant as long as it does.
    pub(crate) fn keep_latest(&mut self, nodes: &mut Nodes) -> u64 {
        if self.keeps_latest() {
            return 0;
        }
        let mut by_key = HashMap::new();
        let mut index = self.head;
        while index != NONE {
            nodes.note_visited();
            let node = &nodes.slab[index as usize];
            if let DropRule::ByKey(key) = node.rule {
                by_key.insert(key, index);
            }
            index = node.next;
        }
        let (mut dropped, mut before, mut index) = (0, NONE, self.head);
        while index != NONE {
            nodes.note_visited();
            let is_superseded = match nodes.slab[index as usize].rule {
                DropRule::ByKey(key) => by_key.get(&key) != Some(&index),
                DropRule::Allowed | DropRule::Never => false,
            };
            if is_superseded && !self.has_begun(index) {
                self.drop_message(nodes, before, index);
                dropped += 1;
            } else {
                before = index;
            }
            index = self.after(nodes, before);
        }
        self.short_cuts().by_key = Some(by_key);
        dropped
    }

    /// Puts `bytes` in the place of the queued message with the same key. If the new message is larger,
    /// the oldest messages of other keys are dropped until the queue holds at most `high_bytes` and this
    /// one. Returns how many messages were dropped.
    ///
    /// Works while the queue [keeps the latest](Self::keep_latest). Passes runs that may not be dropped
    /// only where the replaced message is the first that may be.
    ///
    /// # Errors
    ///
    /// Returns the bytes when no queued message of this key can be replaced. A message that the kernel
    /// has begun to take cannot be.
    pub(crate) fn replace(
        &mut self,
        nodes: &mut Nodes,
        key: u64,
        bytes: Bytes,
        high_bytes: usize,
    ) -> Result<u64, Bytes> {
        // As in `push`: a node without bytes would never leave.
        if bytes.as_slice().is_empty() {
            return Ok(0);
        }
        let index = match self.short_cuts().by_key.as_ref() {
            Some(by_key) => by_key.get(&key).copied(),
            None => None,
        };
        let Some(index) = index.filter(|index| !self.has_begun(*index)) else {
            return Err(bytes);
        };
        nodes.note_visited();
        let length = bytes.as_slice().len();
        let node = &mut nodes.slab[index as usize];
        self.queued_bytes -= node.bytes.as_slice().len();
        self.queued_bytes += length;
        let replaced = std::mem::replace(&mut node.bytes, bytes);
        nodes.held_bytes += node.own_bytes();
        nodes.forget(&replaced);
        let limit = high_bytes + length + QUEUED_MESSAGE_BYTES;
        Ok(1 + self.drop_oldest_but(nodes, limit, index))
    }

    fn has_begun(&self, index: u32) -> bool {
        index == self.head && self.written != 0
    }

    fn pop(&mut self, nodes: &mut Nodes) {
        self.unlink(nodes, NONE, self.head);
        self.written = 0;
    }

    /// The index behind this one; the head behind [`NONE`].
    fn after(&self, nodes: &Nodes, index: u32) -> u32 {
        match index {
            NONE => self.head,
            index => nodes.slab[index as usize].next,
        }
    }

    /// Removes a node. If its neighbours are runs then, they become one.
    fn drop_message(&mut self, nodes: &mut Nodes, before: u32, index: u32) {
        self.unlink(nodes, before, index);
        let next = self.after(nodes, before);
        let Some(node) = nodes.slab.get_mut(next as usize) else {
            return;
        };
        if node.rule == DropRule::Never {
            // The bytes are only taken out for a moment, so the memory of the nodes stays the same.
            let bytes = std::mem::replace(&mut node.bytes, Bytes::Owned(Vec::new()));
            let message_count = node.message_count;
            let is_merged = self.extend_run(nodes, before, &bytes, message_count);
            nodes.slab[next as usize].bytes = bytes;
            if is_merged {
                self.unlink(nodes, before, next);
            }
        }
    }

    fn unlink(&mut self, nodes: &mut Nodes, before: u32, index: u32) {
        let node = nodes.remove(index);
        self.queued_bytes -= node.counted_bytes();
        if let Some(short_cuts) = &mut self.short_cuts {
            short_cuts.note_removed(before, index, node.rule);
        }
        if before == NONE {
            self.head = node.next;
        } else {
            nodes.slab[before as usize].next = node.next;
        }
        if node.next == NONE {
            self.tail = before;
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    fn owned(text: &str) -> Bytes {
        Bytes::Owned(text.as_bytes().to_vec())
    }

    fn contents(queue: &Queue, nodes: &Nodes) -> String {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let (count, length) = queue.gather(nodes, &mut slices, usize::MAX);
        let only = queue.only(nodes);
        assert_eq!(only.is_some(), count == 1);
        assert!(only.is_none_or(|only| *only == *slices[0]));
        let text: String = slices[..count]
            .iter()
            .map(|slice| str::from_utf8(slice).unwrap())
            .collect();
        assert_eq!(text.len(), length);
        text
    }

    #[test]
    fn bytes_leave_in_order_however_the_kernel_takes_them() {
        for step in 1..=9 {
            let (mut nodes, mut queue) = (Nodes::default(), Queue::new());
            nodes.count_shared(4);
            queue.push(&mut nodes, owned("abc"), DropRule::Allowed);
            queue.push(&mut nodes, owned(""), DropRule::Allowed);
            queue.push(
                &mut nodes,
                Bytes::Shared(Rc::from(&b"defg"[..])),
                DropRule::Never,
            );
            queue.push(&mut nodes, owned("hi"), DropRule::ByKey(1));
            let mut taken = String::new();
            while !queue.is_empty() {
                let left = contents(&queue, &nodes);
                let now = step.min(left.len());
                taken.push_str(&left[..now]);
                queue.advance(&mut nodes, now);
            }
            assert_eq!(taken, "abcdefghi");
            assert_eq!((queue.queued_bytes(), nodes.len()), (0, 0));
            assert_eq!(nodes.held_bytes(), 0);
        }
    }

    #[test]
    #[cfg(target_pointer_width = "64")]
    fn a_message_of_more_than_4_gib_is_counted_to_its_end() {
        // Zeroes that are only counted take no memory, where the machine lets them be allocated.
        const LENGTH: usize = 5 << 30;
        if Vec::<u8>::new().try_reserve_exact(LENGTH).is_err() {
            eprintln!("skipped: 5 GiB of addresses cannot be had");
            return;
        }
        let (mut nodes, mut queue) = (Nodes::default(), Queue::new());
        queue.push(&mut nodes, Bytes::Owned(vec![0; LENGTH]), DropRule::Allowed);
        for taken in 1..=5 {
            assert!(!queue.is_empty(), "after {taken} GiB");
            queue.advance(&mut nodes, 1 << 30);
        }
        assert_eq!((queue.queued_bytes(), nodes.held_bytes()), (0, 0));
    }

    #[test]
    fn the_oldest_go_but_not_what_is_begun_or_needed() {
        let (mut nodes, mut queue) = (Nodes::default(), Queue::new());
        for (text, rule) in [
            ("begun", DropRule::Allowed),
            ("head", DropRule::Never),
            ("old", DropRule::Allowed),
            ("new", DropRule::Allowed),
        ] {
            queue.push(&mut nodes, owned(text), rule);
        }
        queue.advance(&mut nodes, 2);
        let limit = queue.queued_bytes() - 1;
        assert_eq!(queue.drop_oldest(&mut nodes, limit), 1);
        assert_eq!(contents(&queue, &nodes), "gunheadnew");
        assert_eq!(queue.drop_oldest(&mut nodes, 0), 1);
        assert_eq!(contents(&queue, &nodes), "gunhead");
        queue.push(&mut nodes, owned("!"), DropRule::Allowed);
        assert_eq!(contents(&queue, &nodes), "gunhead!");
        queue.clear(&mut nodes);
        assert_eq!((queue.queued_bytes(), nodes.len()), (0, 0));
        assert_eq!(nodes.held_bytes(), 0);
    }

    #[test]
    fn the_latest_of_a_key_takes_the_place_of_the_older() {
        const HIGH: usize = 1000;
        let (mut nodes, mut queue) = (Nodes::default(), Queue::new());
        queue.push(&mut nodes, owned("a1"), DropRule::ByKey(1));
        queue.push(&mut nodes, owned("b1"), DropRule::ByKey(2));
        assert_eq!(queue.keep_latest(&mut nodes), 0);
        assert_eq!(
            queue.replace(&mut nodes, 2, owned("b22"), HIGH).ok(),
            Some(1)
        );
        assert!(queue.replace(&mut nodes, 3, owned("c"), HIGH).is_err());
        assert_eq!(contents(&queue, &nodes), "a1b22");
        queue.advance(&mut nodes, 1);
        let begun = queue.replace(&mut nodes, 1, owned("a2"), HIGH);
        assert!(begun.is_err());
        assert_eq!(queue.queued_bytes(), 5 + 2 * QUEUED_MESSAGE_BYTES);
    }

    #[test]
    fn only_the_latest_of_each_key_is_kept() {
        let (mut nodes, mut queue) = (Nodes::default(), Queue::new());
        for (text, key) in [
            ("a1", 1),
            ("a2", 1),
            ("b1", 2),
            ("a3", 1),
            ("c1", 3),
            ("b2", 2),
        ] {
            queue.push(&mut nodes, owned(text), DropRule::ByKey(key));
        }
        assert_eq!(queue.keep_latest(&mut nodes), 3);
        assert_eq!(contents(&queue, &nodes), "a3c1b2");
        assert_eq!(
            queue.replace(&mut nodes, 1, owned("a4"), 1000).ok(),
            Some(1)
        );
        assert_eq!(contents(&queue, &nodes), "a4c1b2");
        // The head is partly written, so it cannot be replaced: the next is a second one of its key.
        queue.advance(&mut nodes, 1);
        assert!(queue.replace(&mut nodes, 1, owned("a5"), 1000).is_err());
        queue.push(&mut nodes, owned("a5"), DropRule::ByKey(1));
        assert_eq!(
            queue.replace(&mut nodes, 1, owned("a6"), 1000).ok(),
            Some(1)
        );
        assert_eq!(contents(&queue, &nodes), "4c1b2a6");
        // A message without bytes is not queued, because it would never be written.
        assert_eq!(queue.replace(&mut nodes, 3, owned(""), 1000).ok(), Some(0));
        assert_eq!(contents(&queue, &nodes), "4c1b2a6");
        // Others are dropped for a larger one, but not the partly written head.
        assert_eq!(
            queue.replace(&mut nodes, 3, owned("large"), 0).ok(),
            Some(3)
        );
        assert_eq!(contents(&queue, &nodes), "4large");
        assert!(queue.replace(&mut nodes, 2, owned("b3"), 1000).is_err());
        queue.push(&mut nodes, owned("!"), DropRule::Allowed);
        assert_eq!(contents(&queue, &nodes), "4large!");
        queue.clear(&mut nodes);
        assert_eq!((queue.queued_bytes(), nodes.len()), (0, 0));
        assert!(!queue.keeps_latest());
        assert_eq!(nodes.held_bytes(), 0);
    }

    /// How many nodes `act` looks at.
    fn visited(nodes: &mut Nodes, act: impl FnOnce(&mut Nodes)) -> usize {
        nodes.visited = 0;
        act(nodes);
        nodes.visited
    }

    // Otherwise clients that do not read would take the time of those that do.
    #[test]
    fn a_message_to_a_full_queue_costs_the_same_whatever_its_length() {
        for count in [100, 10_000] {
            let (mut nodes, mut queue) = (Nodes::default(), Queue::new());
            for key in 0..count {
                queue.push(&mut nodes, owned("x"), DropRule::ByKey(key));
            }
            let high_bytes = queue.queued_bytes();
            assert_eq!(queue.keep_latest(&mut nodes), 0);
            for (key, text) in [(0, "y"), (count / 2, "yy"), (count - 1, "yyyy")] {
                let visited = visited(&mut nodes, |nodes| {
                    assert_eq!(queue.keep_latest(nodes), 0);
                    assert!(queue.replace(nodes, key, owned(text), high_bytes).is_ok());
                });
                assert!(visited <= 2, "{visited} nodes for key {key} of {count}");
            }
            for key in count..count + 50 {
                let visited = visited(&mut nodes, |nodes| {
                    assert!(queue.replace(nodes, key, owned("x"), high_bytes).is_err());
                    queue.drop_oldest(nodes, high_bytes);
                    queue.push(nodes, owned("x"), DropRule::ByKey(key));
                });
                assert!(visited <= 2, "{visited} nodes for a new key beside {count}");
            }
            queue.clear(&mut nodes);
            // Behind as many runs that may not be dropped, of which each has its largest size.
            let run = "r".repeat(RUN_BYTES_MAX);
            for _ in 0..count {
                queue.push(&mut nodes, owned(&run), DropRule::Never);
            }
            queue.push(&mut nodes, owned("x"), DropRule::Allowed);
            let high_bytes = queue.queued_bytes();
            let first = visited(&mut nodes, |nodes| {
                assert_eq!(queue.drop_oldest(nodes, 0), 1);
            });
            assert_eq!(first, count as usize + 1);
            for _ in 0..50 {
                queue.push(&mut nodes, owned("x"), DropRule::Allowed);
                queue.push(&mut nodes, owned("x"), DropRule::Allowed);
                let visited = visited(&mut nodes, |nodes| {
                    assert_eq!(queue.drop_oldest(nodes, high_bytes), 1);
                });
                assert!(visited <= 2, "{visited} nodes behind {count} runs");
                assert_eq!(queue.drop_oldest(&mut nodes, 0), 1);
            }
        }
    }

    #[test]
    fn replies_become_runs_and_count_like_messages() {
        let (mut nodes, mut queue) = (Nodes::default(), Queue::new());
        for _ in 0..10_000 {
            queue.push(&mut nodes, owned("ab"), DropRule::Never);
        }
        assert_eq!(queue.queued_bytes(), 10_000 * (2 + QUEUED_MESSAGE_BYTES));
        assert_eq!(nodes.len(), 20_000_usize.div_ceil(RUN_BYTES_MAX));
        queue.clear(&mut nodes);
        // The messages between replies are dropped, and the replies become one run.
        for _ in 0..1000 {
            queue.push(&mut nodes, owned("ab"), DropRule::Never);
            queue.push(&mut nodes, owned("xyz"), DropRule::Allowed);
        }
        assert_eq!(nodes.len(), 2000);
        assert_eq!(queue.drop_oldest(&mut nodes, 0), 1000);
        assert_eq!(nodes.len(), 1);
        assert_eq!(queue.queued_bytes(), 1000 * (2 + QUEUED_MESSAGE_BYTES));
    }

    /// The messages of a queue as one would write them down: text, rule, and whether some of its bytes
    /// were taken.
    type Model = Vec<(String, DropRule, bool)>;

    fn advance_model(model: &mut Model, mut taken: usize) {
        while 0 < taken {
            let length = model[0].0.len();
            if taken < length {
                model[0].0.drain(..taken);
                model[0].2 = true;
                return;
            }
            taken -= length;
            model.remove(0);
        }
    }

    fn is_droppable((_, rule, is_begun): &(String, DropRule, bool)) -> bool {
        *rule != DropRule::Never && !is_begun
    }

    fn drop_oldest_of_model(model: &mut Model, count: usize) {
        for _ in 0..count {
            if let Some(oldest) = model.iter().position(is_droppable) {
                model.remove(oldest);
            }
        }
    }

    fn keep_latest_of_model(model: &mut Model) {
        let mut index = 0;
        while index < model.len() {
            let (_, rule, _) = &model[index];
            let is_last = !model[index + 1..].iter().any(|(_, later, _)| later == rule);
            if matches!(rule, DropRule::ByKey(_)) && is_droppable(&model[index]) && !is_last {
                model.remove(index);
            } else {
                index += 1;
            }
        }
    }

    // Runs, the first node that may be dropped and the index of keys change the cost of a policy, and
    // must not change what leaves.
    #[test]
    fn random_steps_leave_the_same_bytes_as_a_list_of_messages() {
        for seed in 0..500 {
            let mut random = StdRng::seed_from_u64(seed);
            let (mut nodes, mut queue) = (Nodes::default(), Queue::new());
            let mut model = Model::new();
            for step in 0..60 {
                let text = format!("<{step}>");
                let key = random.random_range(0..3);
                match random.random_range(0..12) {
                    0..7 => {
                        let rules = [DropRule::Never, DropRule::Allowed, DropRule::ByKey(key)];
                        let rule = rules[random.random_range(0..3)];
                        if !queue.keeps_latest() || rule != DropRule::ByKey(key) {
                            queue.push(&mut nodes, owned(&text), rule);
                            model.push((text, rule, false));
                        } else {
                            let is_larger = random.random_range(0..3) == 0;
                            let high_bytes = if is_larger { 0 } else { usize::MAX / 2 };
                            let replaced = queue.replace(&mut nodes, key, owned(&text), high_bytes);
                            let older = model.iter().position(|message| {
                                message.1 == DropRule::ByKey(key) && is_droppable(message)
                            });
                            assert_eq!(replaced.is_ok(), older.is_some(), "seed {seed}");
                            match older {
                                Some(older) => {
                                    model[older].0 = text.clone();
                                    model.retain(|message| {
                                        !is_larger || message.0 == text || !is_droppable(message)
                                    });
                                }
                                None => {
                                    queue.push(&mut nodes, owned(&text), rule);
                                    model.push((text, rule, false));
                                }
                            }
                        }
                    }
                    7..9 => {
                        let length: usize = model.iter().map(|(text, ..)| text.len()).sum();
                        let taken = random.random_range(0..=length.min(12));
                        queue.advance(&mut nodes, taken);
                        advance_model(&mut model, taken);
                    }
                    9 => {
                        let (bytes, count) = match random.random_range(0..6) {
                            0 => (0, model.len()),
                            _ => (queue.queued_bytes().saturating_sub(1), 1),
                        };
                        queue.drop_oldest(&mut nodes, bytes);
                        drop_oldest_of_model(&mut model, count);
                    }
                    10 => {
                        let before = model.len();
                        if !queue.keeps_latest() {
                            keep_latest_of_model(&mut model);
                        }
                        let dropped = queue.keep_latest(&mut nodes);
                        assert_eq!(dropped as usize, before - model.len(), "seed {seed}");
                    }
                    _ => queue.drop_short_cuts(),
                }
                let expected: String = model.iter().map(|(text, ..)| text.as_str()).collect();
                assert_eq!(
                    contents(&queue, &nodes),
                    expected,
                    "seed {seed}, step {step}"
                );
            }
            queue.clear(&mut nodes);
            assert_eq!((queue.queued_bytes(), nodes.len()), (0, 0));
            assert_eq!(nodes.held_bytes(), 0);
        }
    }
}
