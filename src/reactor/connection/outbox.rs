//! The outbox: the write queues of all connections, and the lists of the next flush.
//!
//! A connection's queue is a list of nodes. While the connection's own event is handled, the queue
//! has an open tail, the *cork*; see `cork`.
//!
//! Publications of a turn stand once in the *palette*, and a connection that has nothing else
//! queued holds a range of it instead of nodes. The range is unrolled into nodes before anything
//! else is queued behind it, when the socket blocks, and before a policy drops messages. So a
//! connection has nodes or a range, and the order of its bytes is: range or nodes, then the cork.
//!
//! This room moves bytes. The file `send` decides whether a message is admitted, and what follows
//! when the socket blocks or fails.

use std::io::{self, IoSlice};
use std::rc::Rc;

use crate::pubsub::FramedFormat;
use crate::reactor::burst::{BURST, give_back};
use crate::reactor::config::{ConnectionOptions, Overflow};
use crate::reactor::id::ConnId;
use crate::reactor::transport::Transport;

use super::cork::Cork;
use super::palette::{Palette, Range};
use super::queue::{Bytes, DropRule, Nodes, Queue, SLICES_MAX};
use super::reading::{Pause, Reading};

/// On the list of connections to flush.
const DIRTY: u8 = 1;
/// The kernel took less than it was given: the poll reports when the socket is writable.
const BLOCKED: u8 = 1 << 1;
/// `on_drain` is due when the queue is below its low watermark: it was above the high one, or the
/// application paused reading while it was above the low one.
const FULL: u8 = 1 << 2;
/// On the list of connections whose queue has come below the low watermark.
const LOW_MARK_LISTED: u8 = 1 << 3;
/// The poll has reported that the socket takes bytes, and none were offered to it since.
const WRITABLE: u8 = 1 << 4;

/// The writing half of one connection.
#[derive(Debug)]
pub(crate) struct Output {
    queue: Queue,
    /// Queued publications, in place of nodes.
    range: Range,
    flags: u8,
}

impl Output {
    pub(super) const fn new() -> Output {
        Output {
            queue: Queue::new(),
            range: Range::EMPTY,
            flags: 0,
        }
    }

    /// Whether nothing is queued: no nodes and no range.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.range.is_empty()
    }

    /// Whether a publication can be queued as a range: there are no nodes that it would overtake,
    /// and the range is not kept for long.
    #[inline]
    pub(super) fn takes_range(&self) -> bool {
        self.queue.is_empty() && !self.is_blocked()
    }

    /// Bytes that are queued, with the overhead of each message.
    #[inline]
    fn queued_bytes(&self) -> usize {
        self.queue.queued_bytes() + self.range.counted_bytes()
    }

    /// Whether nothing is queued and the socket takes bytes, as far as is known. An open connection
    /// with a range is dirty, so its flags are not zero.
    #[inline]
    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.flags == 0
    }

    /// Whether the poll is to report that the socket is writable.
    #[inline]
    pub(super) fn is_blocked(&self) -> bool {
        self.flags & BLOCKED != 0
    }

    /// Notes that the kernel took less than it was given. Returns whether the connection was not
    /// blocked before.
    pub(super) fn block(&mut self) -> bool {
        let is_new = self.flags & BLOCKED == 0;
        self.flags |= BLOCKED;
        is_new
    }

    /// Notes that the poll has reported that the socket takes bytes, for a flush that comes later.
    pub(super) fn note_writable(&mut self) {
        self.flags |= WRITABLE;
    }

    /// Whether the poll has reported that the socket takes bytes, and a flush is due for that.
    pub(super) fn take_writable(&mut self) -> bool {
        let is_due = self.is_blocked() && self.flags & WRITABLE != 0;
        self.flags &= !WRITABLE;
        is_due
    }

    /// Returns whether it was blocked.
    pub(super) fn unblock(&mut self) -> bool {
        let was_blocked = self.is_blocked();
        self.flags &= !BLOCKED;
        was_blocked
    }

    /// Has `on_drain` called when the queue is below the low watermark.
    pub(super) fn watch_low_mark(&mut self) {
        self.flags |= FULL;
    }

    /// Whether a message with a key takes the place of an older one.
    pub(super) fn keeps_latest(&self) -> bool {
        self.queue.keeps_latest()
    }

    /// Whether a policy has applied to the queue since it was last short.
    #[inline]
    pub(super) fn has_short_cuts(&self) -> bool {
        self.queue.has_short_cuts()
    }

    /// Takes the connection off the list of the next flush.
    pub(super) fn take_dirty(&mut self) -> bool {
        let was_dirty = self.flags & DIRTY != 0;
        self.flags &= !DIRTY;
        was_dirty
    }

    /// Takes the connection off the list of those below the low watermark.
    pub(super) fn take_below_low_mark(&mut self) -> bool {
        let was_listed = self.flags & LOW_MARK_LISTED != 0;
        self.flags &= !LOW_MARK_LISTED;
        was_listed
    }
}

/// The parts of one connection that the outbox works on.
pub(super) struct Parts<'c> {
    pub(super) id: ConnId,
    pub(super) transport: &'c mut Transport,
    pub(super) output: &'c mut Output,
    pub(super) reading: &'c mut Reading,
}

/// The most that one flush of one connection offers to the kernel, in bytes. The rest waits for the
/// next turn, so that one long answer does not keep the other connections waiting.
pub(super) const FLUSH_BYTES_MAX: usize = 1024 * 1024;

/// The result of writing a queue to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flush {
    /// The kernel has everything.
    Done,
    /// The kernel took as much as one flush offers, and more is queued.
    More,
    /// The kernel took less than it was given.
    Blocked,
    /// The transport failed.
    Failed(io::ErrorKind),
}

/// The bytes of all connections that the kernel has not taken yet.
pub(super) struct Outbox {
    nodes: Nodes,
    palette: Palette,
    cork: Cork,
    dirty: Vec<ConnId>,
    /// Whether a flush since the last [`take_burst`](Self::take_burst) had many connections.
    had_long_flush: bool,
    below_low_mark: Vec<ConnId>,
    /// Short messages of one queue, copied side by side for one write.
    joined: Vec<u8>,
}

impl Outbox {
    pub(super) fn new() -> Outbox {
        Outbox {
            nodes: Nodes::default(),
            palette: Palette::new(),
            cork: Cork::default(),
            dirty: Vec::new(),
            had_long_flush: false,
            below_low_mark: Vec::new(),
            joined: Vec::new(),
        }
    }

    /// Queues bytes that the stream cannot do without: heads, answers, control frames. They go into
    /// the cork if the connection has it; the caller then asks
    /// [`Cork::is_full`].
    pub(super) fn queue_reply(
        &mut self,
        parts: &mut Parts<'_>,
        bytes: &[u8],
        options: &ConnectionOptions,
    ) {
        if bytes.is_empty() {
            return;
        }
        if self.is_corked(parts.id) {
            self.cork.push(bytes);
        } else {
            self.push(
                parts,
                Bytes::Owned(bytes.to_vec()),
                DropRule::Never,
                options,
            );
        }
    }

    // ── the cork ─────────────────────────────────────────────────────────────────────────────

    #[inline]
    pub(super) fn cork(&self) -> &Cork {
        &self.cork
    }

    #[inline]
    pub(super) fn cork_mut(&mut self) -> &mut Cork {
        &mut self.cork
    }

    /// Whether the connection's event is being handled.
    #[inline]
    pub(super) fn is_corked(&self, id: ConnId) -> bool {
        self.cork.is_lent_to(id)
    }

    /// Leaves the fast path if this connection is corked, because one of the conditions may have
    /// changed.
    #[inline]
    pub(super) fn leave_fast_path(&mut self, id: ConnId) {
        self.cork.leave_fast_path(id);
    }

    /// Writes the cork, and `payload` behind it, with one system call, and queues the rest. The
    /// cork must be lent to the connection of `parts`. Returns how many bytes the kernel took.
    ///
    /// # Errors
    ///
    /// The transport's failure. The bytes in the cork are lost then, as the connection is.
    pub(super) fn write_cork(
        &mut self,
        parts: &mut Parts<'_>,
        payload: &[u8],
        rule: DropRule,
        options: &ConnectionOptions,
    ) -> Result<usize, io::ErrorKind> {
        debug_assert!(self.is_corked(parts.id));
        let result = if !parts.output.is_empty() || parts.output.is_blocked() {
            // Queued bytes leave first, and a blocked socket would refuse the write. Both need no
            // system call.
            Ok(0)
        } else if payload.is_empty() {
            parts.transport.write(self.cork.bytes())
        } else {
            let slices = [IoSlice::new(self.cork.bytes()), IoSlice::new(payload)];
            parts.transport.write_vectored(&slices)
        };
        self.queue_unwritten_cork(parts, result, payload, rule, options)
    }

    /// Takes the transport's `result` of writing the cork and `payload`, and queues the rest.
    /// Returns how many bytes the transport took.
    ///
    /// # Errors
    ///
    /// As [`write_cork`](Self::write_cork).
    pub(super) fn queue_unwritten_cork(
        &mut self,
        parts: &mut Parts<'_>,
        result: io::Result<usize>,
        payload: &[u8],
        rule: DropRule,
        options: &ConnectionOptions,
    ) -> Result<usize, io::ErrorKind> {
        let taken = match result {
            Ok(taken) => taken,
            Err(error) if is_again(&error) => 0,
            Err(error) => {
                self.cork.clear();
                return Err(error.kind());
            }
        };
        if taken < self.cork.bytes().len() + payload.len() {
            self.leave_fast_path(parts.id);
            // Taken out, because `push` borrows the outbox.
            let mut cork = std::mem::take(&mut self.cork);
            cork.take_unwritten(taken, payload, rule, |bytes, rule| {
                self.push(parts, bytes, rule, options);
            });
            self.cork = cork;
        } else if !parts.transport.is_flushed() {
            // The transport holds bytes that the kernel does not have: the flush goes on with them.
            self.mark_dirty(parts.id, parts.output);
        }
        self.cork.clear();
        Ok(taken)
    }

    // ── the queue ────────────────────────────────────────────────────────────────────────────

    /// Bytes that wait for a socket, with their overhead: its queue and its cork.
    #[inline]
    pub(super) fn queued_bytes(&self, id: ConnId, output: &Output) -> usize {
        let queued_bytes = output.queued_bytes();
        match self.is_corked(id) {
            true => queued_bytes + self.cork.queued_bytes(),
            false => queued_bytes,
        }
    }

    /// Queues bytes behind everything that is queued. If the connection has the cork, the cork must
    /// have been written before, or the order is lost.
    pub(super) fn push(
        &mut self,
        parts: &mut Parts<'_>,
        bytes: Bytes,
        rule: DropRule,
        options: &ConnectionOptions,
    ) {
        self.leave_fast_path(parts.id);
        self.unroll(parts.output);
        parts.output.queue.push(&mut self.nodes, bytes, rule);
        let queued_bytes = parts.output.queue.queued_bytes();
        if options.queue_high_bytes < queued_bytes {
            self.note_full(parts, options);
        }
        self.mark_dirty(parts.id, parts.output);
    }

    /// As [`push`](Self::push), for a publication to a connection that is not corked and to whose
    /// queue no policy has applied. Inlined into the loop over the members.
    #[inline(always)]
    pub(super) fn push_publication(
        &mut self,
        parts: &mut Parts<'_>,
        bytes: Rc<[u8]>,
        key: u64,
        options: &ConnectionOptions,
    ) {
        self.unroll(parts.output);
        let queue = &mut parts.output.queue;
        queue.push_publication(&mut self.nodes, bytes, key);
        if options.queue_high_bytes < queue.queued_bytes() {
            self.note_full(parts, options);
        }
        self.mark_dirty(parts.id, parts.output);
    }

    /// Whether the publication of this mark can be queued by [`push_range`](Self::push_range), for
    /// members with this format.
    #[inline(always)]
    pub(super) fn has_publication(&self, mark: u64, format: FramedFormat) -> bool {
        self.palette.has(mark, format)
    }

    /// Adds a publication for [`push_range`](Self::push_range). Returns `false` when it is to be
    /// pushed as nodes.
    pub(super) fn add_publication(
        &mut self,
        mark: u64,
        key: u64,
        format: FramedFormat,
        bytes: &Rc<[u8]>,
    ) -> bool {
        self.forget_publications();
        self.palette.add(mark, key, format, bytes)
    }

    /// Queues the publication that was added last as a range, for an open connection that is not
    /// corked and [takes ranges](Output::takes_range). Returns `false` when it is to be pushed as a
    /// node, because it does not continue the range.
    #[inline(always)]
    pub(super) fn push_range(
        &mut self,
        parts: &mut Parts<'_>,
        options: &ConnectionOptions,
    ) -> bool {
        debug_assert!(parts.output.takes_range());
        if !self.palette.extend(&mut parts.output.range) {
            return false;
        }
        if options.queue_high_bytes < parts.output.range.counted_bytes() {
            self.note_full(parts, options);
        }
        self.mark_dirty(parts.id, parts.output);
        true
    }

    /// Drops the publications of the palette when no range is left.
    #[inline]
    pub(super) fn forget_publications(&mut self) {
        let bytes = self.palette.forget_taken();
        self.nodes.forget_shared(bytes);
    }

    /// Makes nodes of a range.
    #[inline]
    fn unroll(&mut self, output: &mut Output) {
        if !output.range.is_empty() {
            self.unroll_range(output);
        }
    }

    #[inline(never)]
    fn unroll_range(&mut self, output: &mut Output) {
        debug_assert!(output.queue.is_empty());
        let (nodes, queue) = (&mut self.nodes, &mut output.queue);
        self.palette.for_each(&output.range, |key, bytes| {
            queue.push_publication(nodes, Rc::clone(bytes), key);
        });
        self.palette.release(&mut output.range);
    }

    fn note_full(&mut self, parts: &mut Parts<'_>, options: &ConnectionOptions) {
        parts.output.flags |= FULL;
        // If the policy drops messages, reading goes on above the mark: the queue may stay full for
        // long, and the pongs of the peer must be seen, or it would count as dead. Only replies,
        // which no policy drops, can take such a queue to twice the mark; then reading stops too.
        let far = options.queue_high_bytes.saturating_mul(2);
        if options.overflow == Overflow::Close || far < parts.output.queued_bytes() {
            parts.reading.pause(Pause::Queue);
        }
    }

    /// Lists a connection for the next flush, unless it is listed or blocked. A blocked connection
    /// is flushed when the poll reports it writable.
    #[inline]
    pub(super) fn mark_dirty(&mut self, id: ConnId, output: &mut Output) {
        if output.flags & (DIRTY | BLOCKED) == 0 {
            output.flags |= DIRTY;
            self.dirty.push(id);
        }
    }

    /// Drops messages, oldest first, until at most `bytes` are queued. Returns how many it dropped.
    pub(super) fn drop_oldest(&mut self, output: &mut Output, bytes: usize) -> u64 {
        self.unroll(output);
        output.queue.drop_oldest(&mut self.nodes, bytes)
    }

    /// Keeps only the latest message of each key, until the queue is short again. Returns how many
    /// messages it dropped.
    pub(super) fn keep_latest(&mut self, output: &mut Output) -> u64 {
        self.unroll(output);
        output.queue.keep_latest(&mut self.nodes)
    }

    /// Puts `bytes` in the place of the queued message with the same key. Returns how many messages
    /// it dropped.
    ///
    /// # Errors
    ///
    /// The bytes, when there is no queued message of this key.
    pub(super) fn replace(
        &mut self,
        output: &mut Output,
        key: u64,
        bytes: Bytes,
        high_bytes: usize,
    ) -> Result<u64, Bytes> {
        output
            .queue
            .replace(&mut self.nodes, key, bytes, high_bytes)
    }

    /// Drops everything that is queued.
    pub(super) fn clear(&mut self, output: &mut Output) {
        if !output.range.is_empty() {
            self.palette.release(&mut output.range);
            self.forget_publications();
        }
        output.queue.clear(&mut self.nodes);
    }

    /// Writes the queue until the kernel takes no more or has taken [`FLUSH_BYTES_MAX`] in all, and
    /// adds to `taken_bytes` what it took.
    ///
    /// One message is written from where it lies; several short ones are copied side by side, which
    /// costs less than a slice for each; large ones go out in one vectored write.
    pub(super) fn flush(
        &mut self,
        transport: &mut Transport,
        output: &mut Output,
        taken_bytes: &mut u64,
    ) -> Flush {
        if !output.range.is_empty()
            && let Some(flush) = self.flush_range(transport, output, taken_bytes)
        {
            return flush;
        }
        while !output.queue.is_empty() {
            let (length, result) = match output.queue.only(&self.nodes) {
                Some(bytes) => {
                    let bytes = &bytes[..bytes.len().min(FLUSH_BYTES_MAX)];
                    (bytes.len(), transport.write(bytes))
                }
                None if 1 < output.queue.copy(&self.nodes, &mut self.joined) => {
                    (self.joined.len(), transport.write(&self.joined))
                }
                None => {
                    let mut slices = [IoSlice::new(&[]); SLICES_MAX];
                    let (count, length) =
                        output
                            .queue
                            .gather(&self.nodes, &mut slices, FLUSH_BYTES_MAX);
                    (length, transport.write_vectored(&slices[..count]))
                }
            };
            match result {
                Ok(taken) => {
                    *taken_bytes += taken as u64;
                    output.queue.advance(&mut self.nodes, taken);
                    // A short write: another one would only say `WouldBlock`.
                    if taken < length {
                        return Flush::Blocked;
                    }
                    if FLUSH_BYTES_MAX as u64 <= *taken_bytes && !output.queue.is_empty() {
                        return Flush::More;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Flush::Blocked;
                }
                Err(error) => return Flush::Failed(error.kind()),
            }
        }
        // A transport with a buffer of its own, such as TLS, may hold bytes that it has taken.
        match transport.flush() {
            Ok(true) => Flush::Done,
            Ok(false) => Flush::Blocked,
            Err(error) => Flush::Failed(error.kind()),
        }
    }

    /// Writes a range. Returns `None` when it was written or unrolled, and the nodes are next, of
    /// which there may be none.
    fn flush_range(
        &mut self,
        transport: &mut Transport,
        output: &mut Output,
        taken_bytes: &mut u64,
    ) -> Option<Flush> {
        let Some(bytes) = self.palette.bytes(&output.range) else {
            self.unroll(output);
            return None;
        };
        let length = bytes.len();
        match transport.write(bytes) {
            Ok(taken) if taken == length => {
                *taken_bytes += taken as u64;
                self.palette.release(&mut output.range);
                None
            }
            Ok(taken) => {
                *taken_bytes += taken as u64;
                self.unroll(output);
                output.queue.advance(&mut self.nodes, taken);
                Some(Flush::Blocked)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                self.unroll(output);
                None
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.unroll(output);
                Some(Flush::Blocked)
            }
            Err(error) => Some(Flush::Failed(error.kind())),
        }
    }

    /// Whether the queue has come below its low watermark after it was full. Lists the connection
    /// for `on_drain` then.
    pub(super) fn note_level(
        &mut self,
        id: ConnId,
        output: &mut Output,
        options: &ConnectionOptions,
    ) -> bool {
        if output.flags & FULL == 0 && !output.has_short_cuts() {
            return false;
        }
        // With a low watermark above the high one, a full queue would be below it at once.
        let low_bytes = options.queue_low_bytes.min(options.queue_high_bytes);
        // Half the high watermark at most: a queue that hovers around a low watermark which is as
        // high would make its index again and again.
        let short_bytes = low_bytes.min(options.queue_high_bytes / 2);
        if output.queue.queued_bytes() <= short_bytes {
            output.queue.drop_short_cuts();
        }
        if output.flags & FULL == 0 || low_bytes < output.queued_bytes() {
            return false;
        }
        output.flags &= !FULL;
        if output.flags & LOW_MARK_LISTED == 0 {
            output.flags |= LOW_MARK_LISTED;
            self.below_low_mark.push(id);
        }
        true
    }

    // ── the lists ────────────────────────────────────────────────────────────────────────────

    /// Whether the next turn has something to do here.
    #[inline]
    pub(super) fn is_quiet(&self) -> bool {
        self.dirty.is_empty() && self.below_low_mark.is_empty()
    }

    #[inline]
    pub(super) fn has_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// The connections to flush. The list is given back with
    /// [`return_dirty`](Self::return_dirty), so that its memory is used again.
    pub(super) fn take_dirty(&mut self) -> Vec<ConnId> {
        self.had_long_flush |= BURST < self.dirty.len();
        std::mem::take(&mut self.dirty)
    }

    /// Gives back the list of [`take_dirty`](Self::take_dirty). Connections that are left on it come
    /// first in the next flush.
    pub(super) fn return_dirty(&mut self, mut list: Vec<ConnId>) {
        self.forget_publications();
        // A flush may list connections: those that have more, and those that it has ended.
        list.append(&mut self.dirty);
        self.dirty = list;
    }

    /// Lists a connection for the next flush although the poll may be about to report it.
    pub(super) fn mark_dirty_again(&mut self, id: ConnId, output: &mut Output) {
        if output.flags & DIRTY == 0 {
            output.flags |= DIRTY;
            self.dirty.push(id);
        }
    }

    #[inline]
    pub(super) fn has_below_low_mark(&self) -> bool {
        !self.below_low_mark.is_empty()
    }

    /// The connections whose queue has come below the low watermark.
    pub(super) fn take_below_low_mark(&mut self) -> Vec<ConnId> {
        std::mem::take(&mut self.below_low_mark)
    }

    pub(super) fn put_back_below_low_mark(&mut self, mut rest: Vec<ConnId>) {
        rest.append(&mut self.below_low_mark);
        self.below_low_mark = rest;
    }

    /// The memory of everything that is queued, in bytes.
    #[inline]
    pub(super) fn held_bytes(&self) -> usize {
        self.nodes.held_bytes()
    }

    /// Counts bodies that several queues share, once their publication is delivered.
    pub(super) fn count_shared(&mut self, bytes: usize) {
        self.nodes.count_shared(bytes);
    }

    pub(super) fn forget_shared(&mut self, bytes: usize) {
        self.nodes.forget_shared(bytes);
    }

    /// Drops a body that was kept outside of the queues.
    pub(super) fn drop_shared(&mut self, body: Rc<[u8]>) {
        self.nodes.forget(&Bytes::Shared(body));
    }

    /// Whether there was a burst of messages since this was last asked.
    #[inline]
    pub(super) fn take_burst(&mut self) -> bool {
        let had_long_flush = std::mem::take(&mut self.had_long_flush);
        BURST < self.nodes.take_most() || had_long_flush
    }

    #[cfg(test)]
    pub(super) fn dirty_capacity(&self) -> usize {
        self.dirty.capacity()
    }

    pub(super) fn give_back_memory(&mut self) {
        self.nodes.give_back_memory();
        self.palette.give_back_memory();
        give_back(&mut self.dirty);
        give_back(&mut self.below_low_mark);
    }
}

fn is_again(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}
