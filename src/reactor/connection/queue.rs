//! The write queue of a connection: a linked list of nodes in one slab of the loop.
//!
//! A connection holds head and tail, so an idle one owns no memory here, and a publication to a
//! thousand members allocates no list. A node is one message, or a run of bytes that no policy may
//! drop. Its bytes are its own, or shared with every other member that a publication went to.
//!
//! Neighbours that may not be dropped are merged into runs. A peer that sends pings and does not read
//! queues thousands of pongs. As a node each, they would have to be passed whenever a policy looks for
//! a message to drop.

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
    /// Its bytes, and the overhead of each message.
    fn counted_bytes(&self) -> usize {
        self.bytes.as_slice().len() + self.message_count as usize * QUEUED_MESSAGE_BYTES
    }
}

/// The nodes of every connection.
#[derive(Default)]
pub(crate) struct Nodes {
    slab: Slab<Node>,
    /// The most nodes there were at one time since `take_most` was last called.
    most: usize,
}

impl Nodes {
    /// The most nodes there were at one time since this was last called.
    #[inline]
    pub(crate) fn take_most(&mut self) -> usize {
        std::mem::replace(&mut self.most, self.slab.len())
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

/// One connection's queue: 24 bytes.
#[derive(Debug)]
pub(crate) struct Queue {
    head: u32,
    tail: u32,
    /// Bytes of the head node that the kernel has taken.
    written: usize,
    /// Bytes of all messages, with `QUEUED_MESSAGE_BYTES` for each, as the watermarks count them.
    /// The head node counts in full until the kernel has taken all of it.
    queued_bytes: usize,
}

impl Queue {
    pub(crate) const fn new() -> Self {
        Queue {
            head: NONE,
            tail: NONE,
            written: 0,
            queued_bytes: 0,
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

    #[inline]
    pub(crate) fn push(&mut self, nodes: &mut Nodes, bytes: Bytes, rule: DropRule) {
        let length = bytes.as_slice().len();
        if length == 0 || rule == DropRule::Never && self.extend_run(nodes, self.tail, &bytes, 1) {
            return;
        }
        self.queued_bytes += length + QUEUED_MESSAGE_BYTES;
        let index = nodes.slab.insert(Node {
            bytes,
            rule,
            message_count: 1,
            next: NONE,
        }) as u32;
        nodes.most = nodes.most.max(nodes.slab.len());
        if self.is_empty() {
            self.head = index;
        } else {
            nodes.slab[self.tail as usize].next = index;
        }
        self.tail = index;
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
    ) -> (usize, usize) {
        let (mut count, mut length, mut index, mut skip) = (0, 0, self.head, self.written);
        while index != NONE && count < SLICES_MAX {
            let node = &nodes.slab[index as usize];
            let bytes = &node.bytes.as_slice()[skip..];
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
            self.head = nodes.slab.remove(self.head as usize).next;
            if self.head == NONE {
                self.tail = NONE;
            }
        }
    }

    /// Drops everything.
    pub(crate) fn clear(&mut self, nodes: &mut Nodes) {
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
        let (mut dropped, mut before, mut index) = (0, NONE, self.head);
        while index != NONE && bytes < self.queued_bytes() {
            let node = &nodes.slab[index as usize];
            if node.rule == DropRule::Never || index == spared || self.has_begun(index) {
                before = index;
                index = node.next;
            } else {
                self.drop_message(nodes, before, index);
                index = self.after(nodes, before);
                dropped += 1;
            }
        }
        dropped
    }

    /// Puts `bytes` in the place of the last queued message with the same key and drops the others
    /// of this key, so that no older one comes after it. If the new message is larger, the oldest
    /// messages of other keys are dropped until the queue holds at most `high_bytes` and this one.
    /// Returns how many messages were dropped.
    ///
    /// Linear in the queue. It is called only above the high watermark, for routes that chose it.
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
        let (mut dropped, mut before, mut index) = (0, NONE, self.head);
        let mut found = None;
        while index != NONE {
            let node = &nodes.slab[index as usize];
            let next = node.next;
            if node.rule == DropRule::ByKey(key) && !self.has_begun(index) {
                let earlier = found.replace((before, index));
                if let Some((before_found, older)) = earlier {
                    self.drop_message(nodes, before_found, older);
                    dropped += 1;
                    if self.after(nodes, before_found) == index {
                        before = before_found;
                        found = Some((before, index));
                    }
                }
            }
            before = index;
            index = next;
        }
        let Some((_, index)) = found else {
            return Err(bytes);
        };
        let length = bytes.as_slice().len();
        let node = &mut nodes.slab[index as usize];
        self.queued_bytes -= node.bytes.as_slice().len();
        self.queued_bytes += length;
        node.bytes = bytes;
        let limit = high_bytes + length + QUEUED_MESSAGE_BYTES;
        Ok(1 + dropped + self.drop_oldest_but(nodes, limit, index))
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
        let node = nodes.slab.remove(index as usize);
        self.queued_bytes -= node.counted_bytes();
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
        let (count, length) = queue.gather(nodes, &mut slices);
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
        }
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
    }

    #[test]
    fn the_latest_of_a_key_takes_the_place_of_the_older() {
        const HIGH: usize = 1000;
        let (mut nodes, mut queue) = (Nodes::default(), Queue::new());
        queue.push(&mut nodes, owned("a1"), DropRule::ByKey(1));
        queue.push(&mut nodes, owned("b1"), DropRule::ByKey(2));
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
    fn the_latest_of_a_key_is_the_last_of_it() {
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
        assert_eq!(
            queue.replace(&mut nodes, 1, owned("a4"), 1000).ok(),
            Some(3)
        );
        assert_eq!(contents(&queue, &nodes), "b1a4c1b2");
        assert_eq!(
            queue.replace(&mut nodes, 2, owned("b3"), 1000).ok(),
            Some(2)
        );
        assert_eq!(contents(&queue, &nodes), "a4c1b3");
        // The head is partly written, so it cannot be replaced: the next is a second one of its key.
        queue.advance(&mut nodes, 1);
        queue.push(&mut nodes, owned("a5"), DropRule::ByKey(1));
        assert_eq!(
            queue.replace(&mut nodes, 1, owned("a6"), 1000).ok(),
            Some(1)
        );
        assert_eq!(contents(&queue, &nodes), "4c1b3a6");
        // A message without bytes is not queued, because it would never be written.
        assert_eq!(queue.replace(&mut nodes, 3, owned(""), 1000).ok(), Some(0));
        assert_eq!(contents(&queue, &nodes), "4c1b3a6");
        // Others are dropped for a larger one, but not the partly written head.
        assert_eq!(
            queue.replace(&mut nodes, 3, owned("large"), 0).ok(),
            Some(3)
        );
        assert_eq!(contents(&queue, &nodes), "4large");
        queue.push(&mut nodes, owned("!"), DropRule::Allowed);
        assert_eq!(contents(&queue, &nodes), "4large!");
        queue.clear(&mut nodes);
        assert_eq!((queue.queued_bytes(), nodes.len()), (0, 0));
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

    fn drop_oldest_of_model(model: &mut Model) {
        model.retain(|(_, rule, is_begun)| *rule == DropRule::Never || *is_begun);
    }

    fn replace_in_model(model: &mut Model, key: u64, text: &str) -> bool {
        let is_older = |(_, rule, is_begun): &(String, DropRule, bool)| {
            *rule == DropRule::ByKey(key) && !is_begun
        };
        let Some(last) = model.iter().rposition(is_older) else {
            return false;
        };
        model[last].0 = text.to_owned();
        let mut index = 0;
        model.retain(|message| {
            index += 1;
            index - 1 == last || !is_older(message)
        });
        true
    }

    // Runs change where messages lie in memory and must not change what leaves.
    #[test]
    fn random_steps_leave_the_same_bytes_as_a_list_of_messages() {
        for seed in 0..300 {
            let mut random = StdRng::seed_from_u64(seed);
            let (mut nodes, mut queue) = (Nodes::default(), Queue::new());
            let mut model = Model::new();
            for step in 0..60 {
                let text = format!("<{step}>");
                let key = random.random_range(0..2);
                match random.random_range(0..10) {
                    0..7 => {
                        let rules = [DropRule::Never, DropRule::Allowed, DropRule::ByKey(key)];
                        let rule = rules[random.random_range(0..3)];
                        queue.push(&mut nodes, owned(&text), rule);
                        model.push((text, rule, false));
                    }
                    7 => {
                        let length: usize = model.iter().map(|(text, ..)| text.len()).sum();
                        let taken = random.random_range(0..=length.min(12));
                        queue.advance(&mut nodes, taken);
                        advance_model(&mut model, taken);
                    }
                    8 if random.random_range(0..3) == 0 => {
                        queue.drop_oldest(&mut nodes, 0);
                        drop_oldest_of_model(&mut model);
                    }
                    _ => {
                        let is_replaced = replace_in_model(&mut model, key, &text);
                        let replaced = queue.replace(&mut nodes, key, owned(&text), usize::MAX / 2);
                        assert_eq!(replaced.is_ok(), is_replaced, "seed {seed}");
                    }
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
        }
    }
}
