//! The cork: the open tail of one connection's write queue, while the connection's own event is
//! handled.
//!
//! It is one buffer of the loop that is lent to that connection. Its replies gather there and leave
//! with one write. Bytes of it that the kernel does not take become nodes: one node for each
//! message if the policy of the route may drop messages, otherwise one node in all. So the policies
//! act on everything that is queued, and the common case, in which the kernel takes all, allocates
//! nothing.
//!
//! There is one cork and not one for each connection, because only one event is handled at a time
//! and an idle connection should own no buffer.

use std::io;

use crate::protocol::websocket::{self, Message, Role};
use crate::reactor::burst::give_back;
use crate::reactor::config::QUEUED_MESSAGE_BYTES;
use crate::reactor::id::ConnId;
use crate::reactor::transport::Transport;

use super::fast_path::FastPath;
use super::queue::{Bytes, DropRule};

/// From this many bytes on the cork is written before the event is over.
pub(super) const CORK_BYTES: usize = 64 * 1024;

/// From this many bytes on a payload is not copied into the cork: it is written from where it lies,
/// or stays shared. Below this a copy costs less than another buffer in the write.
pub(super) const LARGE_BYTES: usize = 16 * 1024;

/// The most that the cork can count, overhead included, while only the fast path has filled it.
///
/// The fast path stops at `LARGE_BYTES`, and each message has a header of at least two bytes, so
/// there are at most half as many messages. The header of the last one, of at most eight bytes,
/// comes on top. Below this a high watermark could be passed unnoticed.
pub(super) const FAST_CORK_BYTES_MAX: usize =
    LARGE_BYTES + 8 + LARGE_BYTES / 2 * QUEUED_MESSAGE_BYTES;

/// The end of one message in the cork, and whether a policy may drop the message.
struct CorkedMessage {
    end: usize,
    rule: DropRule,
}

/// The open tail of one connection's queue.
pub(super) struct Cork {
    owner: ConnId,
    bytes: Vec<u8>,
    message_count: usize,
    /// Filled only when the route's policy may drop single messages.
    messages: Vec<CorkedMessage>,
    keeps_messages: bool,
    fast_path: FastPath,
}

impl Default for Cork {
    fn default() -> Cork {
        Cork {
            owner: ConnId::NONE,
            bytes: Vec::new(),
            message_count: 0,
            messages: Vec::new(),
            keeps_messages: false,
            fast_path: FastPath::default(),
        }
    }
}

impl Cork {
    // ── lending ──────────────────────────────────────────────────────────────────────────────

    /// Lends the cork to a connection until it is [taken back](Self::take_back): its replies gather
    /// there.
    #[inline]
    pub(super) fn lend(&mut self, id: ConnId, keeps_messages: bool) {
        debug_assert!(self.bytes.is_empty());
        self.owner = id;
        self.keeps_messages = keeps_messages;
    }

    /// Whether the cork is lent to this connection: its event is being handled.
    #[inline]
    pub(super) fn is_lent_to(&self, id: ConnId) -> bool {
        self.owner == id
    }

    /// As [`lend`](Self::lend), for a connection that meets the conditions of the fast path.
    #[inline]
    pub(super) fn enter_fast_path(&mut self, id: ConnId, role: Role) {
        self.lend(id, false);
        self.fast_path.enter(role);
    }

    /// Leaves the fast path if this connection is corked, because one of the conditions may have
    /// changed.
    #[inline]
    pub(super) fn leave_fast_path(&mut self, id: ConnId) {
        if self.owner == id {
            self.fast_path.leave();
        }
    }

    /// Leaves the fast path, whichever connection is corked.
    pub(super) fn leave_fast_path_of_all(&mut self) {
        self.fast_path.leave();
    }

    #[inline]
    pub(super) fn fast_path(&self) -> Option<Role> {
        self.fast_path.role()
    }

    /// Takes the cork back at the end of the event. Its bytes have been written.
    #[inline]
    pub(super) fn take_back(&mut self) {
        debug_assert!(self.bytes.is_empty());
        self.owner = ConnId::NONE;
        self.fast_path.leave();
    }

    /// As [`take_back`](Self::take_back), when the connection was removed during its event.
    pub(super) fn discard(&mut self) {
        self.clear();
        self.take_back();
    }

    // ── what goes in ─────────────────────────────────────────────────────────────────────────

    /// Corks a short reply on the fast path. Returns `false` when the general way must send it.
    #[inline(always)]
    pub(super) fn send_fast(&mut self, id: ConnId, message: Message<'_>) -> bool {
        let Some(role) = self.fast_path.role() else {
            return false;
        };
        // Below `LARGE_BYTES` no high watermark can be reached: `OptionSet` keeps routes with a
        // lower one off the fast path.
        if self.owner != id || LARGE_BYTES <= message.as_bytes().len() + self.bytes.len() {
            return false;
        }
        let mask = match role {
            Role::Server => None,
            Role::Client => Some(websocket::random_mask()),
        };
        websocket::encode_message(mask, message, &mut self.bytes);
        self.message_count += 1;
        true
    }

    /// Corks the message that `encode` appends.
    pub(super) fn append<E>(
        &mut self,
        rule: DropRule,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let before = self.bytes.len();
        encode(&mut self.bytes)?;
        // A message that encodes to no bytes is not recorded in the cork.
        if before != self.bytes.len() {
            self.note_message(rule);
        }
        Ok(())
    }

    /// From here on the ends of messages are remembered, because the connection has got options
    /// under which single messages may be dropped. The bytes that are corked already, such as the
    /// head of a 101, are never dropped.
    pub(super) fn keep_messages(&mut self, id: ConnId) {
        if self.is_lent_to(id) && !self.keeps_messages {
            self.keeps_messages = true;
            if !self.bytes.is_empty() {
                self.messages.push(CorkedMessage {
                    end: self.bytes.len(),
                    rule: DropRule::Never,
                });
            }
        }
    }

    /// Appends the header of a payload that `Outbox::write_cork` gets.
    pub(super) fn append_header(&mut self, message: Message<'_>) {
        websocket::encode_message_header(message, &mut self.bytes);
    }

    /// Corks bytes that the stream cannot do without.
    #[inline]
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.note_message(DropRule::Never);
    }

    #[inline]
    fn note_message(&mut self, rule: DropRule) {
        self.message_count += 1;
        if self.keeps_messages {
            self.messages.push(CorkedMessage {
                end: self.bytes.len(),
                rule,
            });
        }
    }

    // ── what goes out ────────────────────────────────────────────────────────────────────────

    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Writes the cork and takes it back at the end of an event on the fast path, whose connection
    /// has nothing queued. Returns how many bytes the kernel took.
    ///
    /// # Errors
    ///
    /// The transport's result when it did not take everything, for
    /// `Outbox::queue_unwritten_cork`.
    #[inline(always)]
    pub(super) fn write_fast(
        &mut self,
        transport: &mut Transport,
    ) -> Result<usize, io::Result<usize>> {
        let length = self.bytes.len();
        if length != 0 {
            match transport.write(&self.bytes) {
                Ok(taken) if taken == length && transport.is_flushed() => {}
                result => return Err(result),
            }
            self.bytes.clear();
            self.message_count = 0;
        }
        self.owner = ConnId::NONE;
        self.fast_path.leave();
        Ok(length)
    }

    /// Gives the bytes of the cork and of the payload behind it from the byte `taken` on to `push`,
    /// as the nodes that they are to become, each with the rule by which a policy may drop it.
    pub(super) fn take_unwritten(
        &mut self,
        taken: usize,
        payload: &[u8],
        rule: DropRule,
        mut push: impl FnMut(Bytes, DropRule),
    ) {
        let cork_bytes = self.bytes.len();
        if self.keeps_messages {
            let mut start = 0;
            for message in std::mem::take(&mut self.messages) {
                if taken < message.end {
                    // The kernel has the beginning of this message, so the stream needs its end.
                    let rule = match start < taken {
                        true => DropRule::Never,
                        false => message.rule,
                    };
                    let rest = &self.bytes[start.max(taken)..message.end];
                    let rest = Bytes::Owned(rest.to_vec());
                    push(rest, rule);
                }
                start = message.end;
            }
            if payload.is_empty() {
                return;
            }
            // After the last message the cork holds the header of the payload. Header and payload
            // become one node, so that a policy drops both or neither.
            let from = start.max(taken);
            let mut rest = Vec::with_capacity(cork_bytes + payload.len() - from.min(cork_bytes));
            rest.extend_from_slice(&self.bytes[from.min(cork_bytes)..]);
            rest.extend_from_slice(&payload[taken.saturating_sub(cork_bytes)..]);
            let rule = if start < taken { DropRule::Never } else { rule };
            return push(Bytes::Owned(rest), rule);
        }
        let mut rest = Vec::with_capacity(cork_bytes + payload.len() - taken);
        rest.extend_from_slice(&self.bytes[taken.min(cork_bytes)..]);
        rest.extend_from_slice(&payload[taken.saturating_sub(cork_bytes)..]);
        push(Bytes::Owned(rest), DropRule::Never);
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.message_count = 0;
        self.messages.clear();
        if 4 * CORK_BYTES < self.bytes.capacity() {
            self.bytes.shrink_to(CORK_BYTES);
        }
        give_back(&mut self.messages);
    }

    // ── questions ────────────────────────────────────────────────────────────────────────────

    /// Whether the cork is to be written before the event is over.
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        CORK_BYTES <= self.bytes.len()
    }

    /// Whether the cork has no bytes.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes in the cork, with the overhead of each message.
    #[inline]
    pub(super) fn queued_bytes(&self) -> usize {
        self.bytes.len() + self.message_count * QUEUED_MESSAGE_BYTES
    }
}
