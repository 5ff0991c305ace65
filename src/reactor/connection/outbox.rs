//! What goes out: queues and their policies, the cork, and what the kernel takes.
//!
//! A connection's own replies are gathered while its event is handled (corked) and leave with one
//! write; what others queue for it leaves when it is flushed.

use std::io::{self, IoSlice};
use std::rc::Rc;

use mio::Interest;

use crate::protocol::websocket::{self, Message, Role};
use crate::protocol::{event_stream, http};
use crate::pubsub::FramedFormat;

use crate::reactor::close::{CloseCause, Sent};
use crate::reactor::config::{ConnectionOptions, Overflow};
use crate::reactor::connection::queue::{Bytes, Keep, SLICES_MAX};
use crate::reactor::connection::table::{Source, Table, reregister};
use crate::reactor::connection::{Connection, Flags, Life, Protocol};
use crate::reactor::id::ConnId;
use crate::reactor::time::coarse::Tick;

/// Above this many bytes the replies of one event are written before the event is over.
const CORK_BYTES: usize = 64 * 1024;

/// From this many bytes on a payload is written from where it lies.
const LARGE_BYTES: usize = 16 * 1024;

impl Table {
    // ── what the application orders: bytes ───────────────────────────────────────────────────

    /// Queues one application message, in the words of the connection's protocol.
    #[inline]
    pub(crate) fn send(&mut self, id: ConnId, message: Message<'_>, keep: Keep) -> Sent {
        // A short reply to who is being read: the common case by itself.
        if let Some(role) = self.plain
            && self.corked == id
            && message.as_bytes().len() + self.cork.len() < LARGE_BYTES
        {
            let mask = match role {
                Role::Server => None,
                Role::Client => Some(websocket::random_mask()),
            };
            websocket::encode_message(mask, message, &mut self.cork);
            return Sent::Queued;
        }
        self.send_any(id, message, keep)
    }

    fn send_any(&mut self, id: ConnId, message: Message<'_>, keep: Keep) -> Sent {
        match self.admit(id, keep) {
            Ok(()) => {}
            Err(Sent::Full) if matches!(keep, Keep::Keyed(_)) && self.replaces(id) => {
                let mut bytes = Vec::new();
                return match self.encode(id, message, &mut bytes) {
                    Ok(()) => self.replace(id, keep, Bytes::Owned(bytes)),
                    Err(sent) => sent,
                };
            }
            Err(sent) => return sent,
        }
        if self.corked == id {
            if LARGE_BYTES <= message.as_bytes().len() && self.write_large(id, message) {
                return Sent::Queued;
            }
            if message.as_bytes().len() < CORK_BYTES || !self.masks(id) {
                let mut cork = std::mem::take(&mut self.cork);
                let encoded = self.encode(id, message, &mut cork);
                self.cork = cork;
                if let Err(sent) = encoded {
                    return sent;
                }
                if CORK_BYTES <= self.cork.len() {
                    self.spill_cork();
                }
                return Sent::Queued;
            }
            // What is masked is a copy already: the kernel's refusal needs no other.
            self.uncork_into_queue(id);
        }
        let mut bytes = Vec::with_capacity(message.as_bytes().len() + 14);
        if let Err(sent) = self.encode(id, message, &mut bytes) {
            return sent;
        }
        self.push(id, Bytes::Owned(bytes), keep);
        Sent::Queued
    }

    /// Queues bytes that the stream cannot do without: heads, replies, control frames.
    pub(crate) fn send_raw(&mut self, id: ConnId, bytes: &[u8]) {
        if self.corked == id {
            self.cork.extend_from_slice(bytes);
            if CORK_BYTES <= self.cork.len() {
                self.spill_cork();
            }
        } else {
            self.push(id, Bytes::Owned(bytes.to_vec()), Keep::Always);
        }
    }

    /// As [`send_raw`](Self::send_raw), without a copy where there is no cork.
    pub(crate) fn send_owned(&mut self, id: ConnId, bytes: Vec<u8>) {
        if self.corked == id && bytes.len() < LARGE_BYTES {
            self.send_raw(id, &bytes);
        } else {
            self.uncork_into_queue(id);
            self.push(id, Bytes::Owned(bytes), Keep::Always);
        }
    }

    /// Queues a publication for a member, unless it has the one of this `mark` already, is not open,
    /// or has a protocol that takes none now: then `None`.
    #[inline]
    pub(crate) fn send_publication(
        &mut self,
        id: ConnId,
        mark: u64,
        key: u64,
        encode: impl FnOnce(FramedFormat) -> Rc<[u8]>,
    ) -> Option<Sent> {
        let Table {
            sources,
            nodes,
            options,
            dirty,
            corked,
            ..
        } = self;
        let Some(Source::Connection(connection)) = sources.get_mut(id.index as usize) else {
            return None;
        };
        let is_open = connection.generation == id.generation && connection.life == Life::Open;
        if !is_open || std::mem::replace(&mut connection.last_publication, mark) == mark {
            return None;
        }
        let bytes = encode(connection.publication_format()?);
        // The common case by itself: one look-up for a member that has room and is not being read.
        let options = &options[usize::from(connection.options)];
        if *corked == id || options.queue_high_bytes < connection.queue.queued_bytes() {
            return Some(self.send_shared(id, bytes, key));
        }
        connection
            .queue
            .push(nodes, Bytes::Shared(bytes), Keep::Keyed(key));
        if connection.note_pushed(options) {
            dirty.push(id);
        }
        Some(Sent::Queued)
    }

    /// Queues shared bytes: a publication, in the form this member takes.
    fn send_shared(&mut self, id: ConnId, bytes: Rc<[u8]>, key: u64) -> Sent {
        match self.admit(id, Keep::Keyed(key)) {
            Ok(()) => {}
            Err(Sent::Full) if self.replaces(id) => {
                return self.replace(id, Keep::Keyed(key), Bytes::Shared(bytes));
            }
            Err(sent) => return sent,
        }
        if self.corked == id && bytes.len() < LARGE_BYTES {
            self.cork.extend_from_slice(&bytes);
            if CORK_BYTES <= self.cork.len() {
                self.spill_cork();
            }
        } else {
            self.uncork_into_queue(id);
            self.push(id, Bytes::Shared(bytes), Keep::Keyed(key));
        }
        Sent::Queued
    }

    fn masks(&self, id: ConnId) -> bool {
        self.connection(id).is_some_and(
            |found| matches!(&found.protocol, Protocol::WebSocket(machine) if machine.masks()),
        )
    }

    fn encode(&self, id: ConnId, message: Message<'_>, out: &mut Vec<u8>) -> Result<(), Sent> {
        let Some(connection) = self.connection(id) else {
            return Err(Sent::Gone);
        };
        match &connection.protocol {
            Protocol::Raw => out.extend_from_slice(message.as_bytes()),
            Protocol::WebSocket(machine) => machine.encode(message, out),
            Protocol::EventStream { chunked } => {
                let Message::Text(text) = message else {
                    return Err(Sent::Gone);
                };
                let mut event = Vec::with_capacity(text.len() + 16);
                // Only names and ids can be refused, and there are none.
                let _ = event_stream::encode(None, None, text, &mut event);
                if *chunked {
                    http::encode_chunk(&event, out);
                } else {
                    out.extend_from_slice(&event);
                }
            }
            Protocol::Http(exchange) => {
                if !exchange.encode_body(message.as_bytes(), out) {
                    return Err(Sent::Gone);
                }
            }
            // A frame before the answer would be a guess that there will be one.
            Protocol::Upgrade(_) => return Err(Sent::Gone),
        }
        Ok(())
    }

    /// Whether one more message may be queued; applies the route's policy when not.
    fn admit(&mut self, id: ConnId, keep: Keep) -> Result<(), Sent> {
        let Some(connection) = self.open_mut(id) else {
            return Err(Sent::Gone);
        };
        let queued_bytes = connection.queue.queued_bytes();
        let connection_is_http = matches!(connection.protocol, Protocol::Http(_));
        let is_blocked = connection.flags.has(Flags::BLOCKED);
        let options_index = connection.options;
        let high_bytes = self.options[usize::from(options_index)].queue_high_bytes;
        if queued_bytes <= high_bytes {
            return Ok(());
        }
        // Nobody is slow whom nothing was offered yet: a burst within one turn may be this large.
        if !is_blocked && self.corked != id {
            self.flush(id);
            let Some(connection) = self.open_mut(id) else {
                return Err(Sent::Gone);
            };
            if connection.queue.queued_bytes() <= high_bytes {
                return Ok(());
            }
        }
        let options = &self.options[usize::from(options_index)];
        // A body with a hole in it would look whole.
        let overflow = match connection_is_http {
            true => Overflow::Close,
            false => options.overflow,
        };
        match overflow {
            Overflow::Close => {
                self.stats.slow_consumers += 1;
                self.fail(id, CloseCause::SlowConsumer);
                Err(Sent::Full)
            }
            Overflow::DropNewest => {
                self.stats.dropped += 1;
                Err(Sent::Full)
            }
            // For the caller to put in the place of an older one.
            Overflow::LatestPerKey if matches!(keep, Keep::Keyed(_)) => Err(Sent::Full),
            Overflow::DropOldest | Overflow::LatestPerKey => self.drop_oldest(id, high_bytes),
        }
    }

    fn drop_oldest(&mut self, id: ConnId, high_bytes: usize) -> Result<(), Sent> {
        let Table {
            sources,
            nodes,
            stats,
            ..
        } = self;
        let Some(Source::Connection(connection)) = sources.get_mut(id.index as usize) else {
            return Err(Sent::Gone);
        };
        stats.dropped += connection.queue.drop_oldest(nodes, high_bytes);
        if connection.queue.queued_bytes() <= high_bytes {
            return Ok(());
        }
        stats.dropped += 1;
        Err(Sent::Full)
    }

    fn replaces(&self, id: ConnId) -> bool {
        self.open(id).is_some()
            && self
                .options_of(id)
                .is_some_and(|options| options.overflow == Overflow::LatestPerKey)
    }

    fn open(&self, id: ConnId) -> Option<&Connection> {
        self.connection(id)
            .filter(|connection| connection.life == Life::Open)
    }

    fn replace(&mut self, id: ConnId, keep: Keep, bytes: Bytes) -> Sent {
        let Keep::Keyed(key) = keep else {
            return Sent::Full;
        };
        self.uncork_into_queue(id);
        let high_bytes = self
            .options_of(id)
            .map_or(0, |options| options.queue_high_bytes);
        let Some(Source::Connection(connection)) = self.sources.get_mut(id.index as usize) else {
            return Sent::Gone;
        };
        let replaced = connection
            .queue
            .replace(&mut self.nodes, key, bytes, high_bytes);
        match replaced {
            Ok(dropped) => {
                self.stats.dropped += dropped;
                Sent::Queued
            }
            Err(bytes) => match self.drop_oldest(id, high_bytes) {
                Ok(()) => {
                    self.push(id, bytes, keep);
                    Sent::Queued
                }
                Err(sent) => sent,
            },
        }
    }

    fn push(&mut self, id: ConnId, bytes: Bytes, keep: Keep) {
        self.unplain(id);
        let Table {
            sources,
            nodes,
            options,
            dirty,
            ..
        } = self;
        let Some(Source::Connection(connection)) = sources.get_mut(id.index as usize) else {
            return;
        };
        if connection.generation != id.generation {
            return;
        }
        connection.queue.push(nodes, bytes, keep);
        if connection.note_pushed(&options[usize::from(connection.options)]) {
            dirty.push(id);
        }
    }

    // ── what goes out ────────────────────────────────────────────────────────────────────────

    /// From here to [`uncork`](Self::uncork) the connection's own replies are gathered.
    pub(crate) fn set_cork(&mut self, id: ConnId) {
        debug_assert!(self.cork.is_empty());
        self.corked = id;
    }

    /// The corked connection is a WebSocket of this role with nothing else about it.
    #[inline]
    pub(crate) fn set_plain(&mut self, role: Role) {
        self.plain = Some(role);
    }

    /// The role of the corked connection, where it has nothing else about it.
    #[inline]
    pub(crate) fn plain(&self) -> Option<Role> {
        self.plain
    }

    /// Something else is about the connection from here on.
    #[inline]
    pub(crate) fn unplain(&mut self, id: ConnId) {
        if self.corked == id {
            self.plain = None;
        }
    }

    /// No message is handed out any more the short way, because none is.
    pub(crate) fn unplain_all(&mut self) {
        self.plain = None;
    }

    /// Writes what was gathered, with one system call; the kernel's refusal goes to the queue.
    #[inline]
    pub(crate) fn uncork(&mut self) {
        if !self.cork.is_empty() && !self.write_cork() {
            self.spill_cork_slowly();
        }
        self.corked = ConnId::NONE;
        self.plain = None;
    }

    fn spill_cork(&mut self) {
        if !self.write_cork() {
            self.spill_cork_slowly();
        }
    }

    /// Nobody is behind and the socket takes bytes: the common case by itself.
    #[inline(always)]
    fn write_cork(&mut self) -> bool {
        let id = self.corked;
        if let Some(Source::Connection(connection)) = self.sources.get_mut(id.index as usize)
            && connection.generation == id.generation
            && connection.queue.is_empty()
            && !connection.flags.has(Flags::BLOCKED)
            && let Ok(taken) = connection.transport.write(&self.cork)
        {
            self.stats.sent_bytes += taken as u64;
            if taken != self.cork.len() {
                let rest = Bytes::Owned(self.cork[taken..].to_vec());
                self.push(id, rest, Keep::Always);
            }
            self.cork.clear();
            if 4 * CORK_BYTES < self.cork.capacity() {
                self.cork.shrink_to(CORK_BYTES);
            }
            return true;
        }
        false
    }

    fn spill_cork_slowly(&mut self) {
        let id = self.corked;
        let mut cork = std::mem::take(&mut self.cork);
        self.write_now(id, &cork, &[]);
        cork.clear();
        if 4 * CORK_BYTES < cork.capacity() {
            cork.shrink_to(CORK_BYTES);
        }
        self.cork = cork;
    }

    /// Before something else is queued for the corked connection: keeps the order.
    fn uncork_into_queue(&mut self, id: ConnId) {
        if self.corked == id && !self.cork.is_empty() {
            self.spill_cork();
        }
    }

    /// Writes cork, frame header and payload from where they lie. Not for all protocols: `false`
    /// means that nothing was done.
    fn write_large(&mut self, id: ConnId, message: Message<'_>) -> bool {
        let Some(Protocol::WebSocket(machine)) =
            self.connection(id).map(|connection| &connection.protocol)
        else {
            return false;
        };
        if machine.masks() {
            return false;
        }
        let mut cork = std::mem::take(&mut self.cork);
        websocket::encode_message_header(message, &mut cork);
        self.write_now(id, &cork, message.as_bytes());
        cork.clear();
        self.cork = cork;
        true
    }

    fn write_now(&mut self, id: ConnId, first: &[u8], second: &[u8]) {
        let Some(connection) = self.connection_mut(id) else {
            return;
        };
        let mut taken = 0;
        if connection.queue.is_empty() && !connection.flags.has(Flags::BLOCKED) {
            let result = if second.is_empty() {
                connection.transport.write(first)
            } else {
                connection
                    .transport
                    .write_vectored(&[IoSlice::new(first), IoSlice::new(second)])
            };
            match result {
                Ok(count) => taken = count,
                Err(error) if is_again(&error) => {}
                Err(error) => return self.abort(id, CloseCause::Io(error.kind())),
            }
        }
        self.stats.sent_bytes += taken as u64;
        let length = first.len() + second.len();
        if taken == length {
            return;
        }
        let mut rest = Vec::with_capacity(length - taken);
        rest.extend_from_slice(&first[taken.min(first.len())..]);
        rest.extend_from_slice(&second[taken.saturating_sub(first.len())..]);
        self.push(id, Bytes::Owned(rest), Keep::Always);
    }

    /// Moves queued bytes to the kernel until it takes no more.
    pub(crate) fn flush(&mut self, id: ConnId) {
        let now = self.now;
        loop {
            let Table {
                sources,
                nodes,
                options,
                stats,
                registry,
                together,
                ..
            } = self;
            let Some(Source::Connection(connection)) = sources.get_mut(id.index as usize) else {
                return;
            };
            if connection.generation != id.generation
                || matches!(connection.life, Life::Done | Life::Lingering)
            {
                return;
            }
            if connection.queue.is_empty() {
                if connection.flags.take(Flags::BLOCKED) {
                    connection.write_deadline = Tick::NEVER;
                    // A failure shows at the next operation on the socket.
                    let _ = reregister(
                        registry,
                        &mut connection.transport,
                        id.index as usize,
                        Interest::READABLE,
                    );
                }
                return self.flushed(id);
            }
            let (length, result) = match connection.queue.only(nodes) {
                Some(bytes) => (bytes.len(), connection.transport.write(bytes)),
                None if 1 < connection.queue.copy(nodes, together) => {
                    (together.len(), connection.transport.write(together))
                }
                None => {
                    let mut slices = [IoSlice::new(&[]); SLICES_MAX];
                    let (count, length) = connection.queue.gather(nodes, &mut slices);
                    (
                        length,
                        connection.transport.write_vectored(&slices[..count]),
                    )
                }
            };
            let blocked = match result {
                Ok(taken) => {
                    stats.sent_bytes += taken as u64;
                    connection.queue.advance(nodes, taken);
                    if 0 < taken && connection.flags.has(Flags::BLOCKED) {
                        connection.write_deadline = Tick::after(
                            now,
                            options[usize::from(connection.options)].write_timeout,
                        );
                    }
                    taken < length
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => false,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => true,
                Err(error) => return self.abort(id, CloseCause::Io(error.kind())),
            };
            if blocked {
                self.block(id);
                return self.note_level(id);
            }
        }
    }

    fn block(&mut self, id: ConnId) {
        let now = self.now;
        let Table {
            sources,
            options,
            registry,
            ..
        } = self;
        let Some(Source::Connection(connection)) = sources.get_mut(id.index as usize) else {
            return;
        };
        if connection.flags.has(Flags::BLOCKED) {
            return;
        }
        connection.flags.set(Flags::BLOCKED);
        connection.write_deadline =
            Tick::after(now, options[usize::from(connection.options)].write_timeout);
        let interest = Interest::READABLE | Interest::WRITABLE;
        let result = reregister(
            registry,
            &mut connection.transport,
            id.index as usize,
            interest,
        );
        self.file(id);
        if let Err(error) = result {
            self.abort(id, CloseCause::Io(error.kind()));
        }
    }

    fn flushed(&mut self, id: ConnId) {
        self.note_level(id);
        if self
            .connection(id)
            .is_some_and(|connection| connection.life == Life::Finishing)
        {
            self.finished(id);
        }
    }

    /// Below the low watermark again: reading goes on, and the application is told.
    fn note_level(&mut self, id: ConnId) {
        let Table {
            sources,
            options,
            drained,
            ..
        } = self;
        let Some(Source::Connection(connection)) = sources.get_mut(id.index as usize) else {
            return;
        };
        let options = &options[usize::from(connection.options)];
        let low_bytes = options.queue_low_bytes.min(options.queue_high_bytes);
        if connection.flags.has(Flags::FULL) && connection.queue.queued_bytes() <= low_bytes {
            connection.flags.clear(Flags::FULL);
            connection.flags.clear(Flags::CHOKED);
            if !connection.flags.has(Flags::DRAINED) {
                connection.flags.set(Flags::DRAINED);
                drained.push(id);
            }
            self.read_again(id);
        }
    }

    /// Flushes every connection that has something to say and is not blocked.
    pub(crate) fn flush_dirty(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for id in dirty.drain(..) {
            if self
                .connection_mut(id)
                .is_some_and(|connection| connection.flags.take(Flags::DIRTY))
            {
                self.flush(id);
            }
        }
        // Flushing queues nothing for others, but it may have closed; keep what came meanwhile.
        if self.dirty.is_empty() {
            self.dirty = dirty;
        }
    }
}

impl Connection {
    /// Something was queued: is it full now? Whether it is to be flushed that was not before.
    #[inline]
    fn note_pushed(&mut self, options: &ConnectionOptions) -> bool {
        if options.queue_high_bytes < self.queue.queued_bytes() {
            self.flags.set(Flags::FULL);
            // Where messages are dropped, it takes pongs and replies, which are not, to get far above.
            let far = options.queue_high_bytes.saturating_mul(2);
            if options.overflow == Overflow::Close || far < self.queue.queued_bytes() {
                self.flags.set(Flags::CHOKED);
            }
        }
        if self.flags.has_any(Flags::WAITS_TO_BE_FLUSHED) {
            return false;
        }
        self.flags.set(Flags::DIRTY);
        true
    }
}

pub(crate) fn is_again(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}
