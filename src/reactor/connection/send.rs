//! Sending on one connection: admission, the overflow policies, and flushing.
//!
//! A message goes through three steps. *Admit*: is there room, and if not, what does the route's
//! policy say? *Queue*: into the cork while the connection's own event is handled, otherwise as a
//! node of its queue. *Flush*: the kernel takes what it has room for.
//!
//! Bytes that the stream cannot do without, such as answers and control frames, skip admission: a
//! stream with one of them missing is broken. They are bounded in another way. While the queue is
//! above its high watermark, reading pauses, so a peer cannot provoke more of them.
//!
//! Almost nothing is written where it is sent. Many sends to one connection in one turn then leave
//! with one system call, and a callback that publishes to ten thousand members makes no system
//! call.

use std::convert::Infallible;
use std::io;

use crate::protocol::websocket::Message;
use crate::pubsub::{Encoded, FramedFormat};
use crate::reactor::close::{CloseCause, Sent};
use crate::reactor::config::Overflow;
use crate::reactor::time::coarse::CoarseTime;

use super::cork::{CORK_BYTES, LARGE_BYTES};
use super::outbox::{Flush, Outbox};
use super::queue::{Bytes, DropRule};
use super::reading::Pause;
use super::rooms::Rooms;
use super::{Connection, Life, end};

/// Whether a message may be queued.
enum Admission {
    Admitted,
    /// The queue is full, and the message takes the place of an older one of its key.
    Replaces {
        key: u64,
    },
    /// The queue is full, and the policy ends the connection.
    Overflows,
    Refused(Sent),
}

/// Queues one application message, encoded as the connection's protocol does.
///
/// There are three ways into the queue, for the sake of copies: a short message is encoded into the
/// cork; a large payload that goes out unchanged is written from where it lies, in one system call
/// with the cork before it; and a large payload that is masked is encoded into a buffer of its own,
/// which becomes the node.
pub(super) fn send(
    rooms: &mut Rooms,
    connection: &mut Connection,
    message: Message<'_>,
    rule: DropRule,
) -> Sent {
    match admit(rooms, connection, rule) {
        Admission::Admitted => {}
        Admission::Overflows => return close_slow(rooms, connection),
        Admission::Refused(sent) => return sent,
        Admission::Replaces { key } => {
            let mut bytes = Vec::new();
            return match connection.protocol.encode(message, &mut bytes) {
                Ok(()) => replace(rooms, connection, key, Bytes::Owned(bytes)),
                Err(sent) => sent,
            };
        }
    }
    let length = message.as_bytes().len();
    if rooms.outbox.is_corked(connection.id) {
        if LARGE_BYTES <= length && connection.protocol.sends_payload_as_it_is(length) {
            rooms.outbox.cork_mut().append_header(message);
            write_cork(rooms, connection, message.as_bytes(), rule);
            return Sent::Queued;
        }
        // Masking has to copy a large message anyway. Its copy becomes a node without another one.
        if takes_cork(connection) && (length < CORK_BYTES || !connection.protocol.masks()) {
            let protocol = &mut connection.protocol;
            let encode = |out: &mut Vec<u8>| protocol.encode(message, out);
            if let Err(sent) = rooms.outbox.cork_mut().append(rule, encode) {
                return sent;
            }
            spill_full_cork(rooms, connection);
            return Sent::Queued;
        }
    }
    // The longest WebSocket header with its mask has 14 bytes.
    let mut bytes = Vec::with_capacity(length + 14);
    if let Err(sent) = connection.protocol.encode(message, &mut bytes) {
        return sent;
    }
    push(rooms, connection, Bytes::Owned(bytes), rule);
    Sent::Queued
}

/// Queues one application message whose bytes go out unchanged, without a copy.
pub(super) fn send_owned(rooms: &mut Rooms, connection: &mut Connection, bytes: Vec<u8>) -> Sent {
    match admit(rooms, connection, DropRule::Allowed) {
        Admission::Admitted => {}
        Admission::Overflows => return close_slow(rooms, connection),
        Admission::Refused(sent) => return sent,
        Admission::Replaces { .. } => return Sent::Full,
    }
    connection.protocol.note_unframed(bytes.len());
    push(rooms, connection, Bytes::Owned(bytes), DropRule::Allowed);
    Sent::Queued
}

/// Queues a frame of the application that is not a message, such as a ping. It is admitted as a
/// message is, because an application may send pings without end.
pub(super) fn send_frame(rooms: &mut Rooms, connection: &mut Connection, frame: &[u8]) -> Sent {
    match admit(rooms, connection, DropRule::Allowed) {
        Admission::Admitted => {}
        Admission::Overflows => return close_slow(rooms, connection),
        Admission::Refused(sent) => return sent,
        Admission::Replaces { .. } => return Sent::Full,
    }
    queue_reply(rooms, connection, frame);
    Sent::Queued
}

/// Queues bytes that the stream cannot do without: heads, answers, control frames.
pub(super) fn queue_reply(rooms: &mut Rooms, connection: &mut Connection, bytes: &[u8]) {
    if matches!(connection.life, Life::Done | Life::Lingering) {
        return;
    }
    let options = &rooms.option_sets[usize::from(connection.options)].options;
    rooms
        .outbox
        .queue_reply(&mut connection.parts(), bytes, options);
    spill_full_cork(rooms, connection);
}

/// As [`queue_reply`], for a reply that `encode` appends: a connection that has the cork needs no
/// other buffer.
pub(super) fn encode_reply(
    rooms: &mut Rooms,
    connection: &mut Connection,
    encode: impl FnOnce(&mut Vec<u8>),
) {
    if matches!(connection.life, Life::Done | Life::Lingering) {
        return;
    }
    if rooms.outbox.is_corked(connection.id) {
        let encode = |out: &mut Vec<u8>| {
            encode(out);
            Ok::<(), Infallible>(())
        };
        let Ok(()) = rooms.outbox.cork_mut().append(DropRule::Never, encode);
        spill_full_cork(rooms, connection);
    } else {
        let mut bytes = Vec::new();
        encode(&mut bytes);
        push(rooms, connection, Bytes::Owned(bytes), DropRule::Never);
    }
}

/// As [`queue_reply`], for bytes that become a node of the queue without a copy.
pub(super) fn queue_owned_reply(rooms: &mut Rooms, connection: &mut Connection, bytes: Vec<u8>) {
    if !matches!(connection.life, Life::Done | Life::Lingering) {
        push(rooms, connection, Bytes::Owned(bytes), DropRule::Never);
    }
}

/// Queues a publication for a member. Returns `None` when the member has the publication of this
/// `mark` already, or takes no publications.
///
/// The bytes are shared by all members that encode it alike, so a publication to a thousand members
/// allocates once. A member that has nothing but publications queued gets a range of the palette,
/// the others get a node.
#[inline]
pub(super) fn publish(
    rooms: &mut Rooms,
    connection: &mut Connection,
    mark: u64,
    key: u64,
    encoded: &mut Encoded<'_>,
    value: u32,
) -> Option<Sent> {
    let is_new = std::mem::replace(&mut connection.last_publication, mark) != mark;
    if !is_new || !connection.life.takes_messages() {
        return None;
    }
    let Some(format) = connection.publication_format() else {
        return publish_to_request(rooms, connection, encoded, value);
    };
    let options = &rooms.option_sets[usize::from(connection.options)].options;
    let outbox = &mut rooms.outbox;
    // The common case, an open member that has room and is not being read, has a path of its own,
    // which is small enough to be inlined into the loop over the members.
    if connection.life != Life::Open
        || outbox.is_corked(connection.id)
        || connection.output.has_short_cuts()
        || options.queue_high_bytes < outbox.queued_bytes(connection.id, &connection.output)
    {
        return Some(publish_with_care(
            rooms, connection, key, encoded, format, value,
        ));
    }
    let parts = &mut connection.parts();
    let is_range = parts.output.takes_range()
        && (outbox.has_publication(mark, format)
            || add_publication(outbox, mark, key, format, encoded, value))
        && outbox.push_range(parts, options);
    if !is_range {
        #[cfg(feature = "deflate")]
        if format.is_own() {
            return Some(publish_with_care(
                rooms, connection, key, encoded, format, value,
            ));
        }
        outbox.push_publication(parts, encoded.get(format, value), key, options);
    }
    Some(Sent::Queued)
}

/// Keeps a publication for a request of a member that takes none into its queue. `None` when no request waits.
#[cold]
fn publish_to_request(
    rooms: &mut Rooms,
    connection: &Connection,
    encoded: &mut Encoded<'_>,
    value: u32,
) -> Option<Sent> {
    match connection.protocol.awaits_publications() {
        true => rooms.awaiting.add(connection.id, encoded, value),
        false => None,
    }
}

/// As [`publish`], for a publication that no other member gets now. It is not compressed where connections
/// share a compressor: clients that come back together would each have the same history compressed again.
pub(super) fn publish_to_one(
    rooms: &mut Rooms,
    connection: &mut Connection,
    mark: u64,
    key: u64,
    encoded: &mut Encoded<'_>,
    value: u32,
) -> Option<Sent> {
    connection.last_publication = mark;
    if !connection.life.takes_messages() {
        return None;
    }
    let format = connection.publication_format()?.uncompressed();
    Some(publish_with_care(
        rooms, connection, key, encoded, format, value,
    ))
}

/// Adds a publication to the palette, for the first member that takes it in this format.
#[inline(never)]
fn add_publication(
    outbox: &mut Outbox,
    mark: u64,
    key: u64,
    format: FramedFormat,
    encoded: &mut Encoded<'_>,
    value: u32,
) -> bool {
    encoded.is_common(format)
        && outbox.add_publication(mark, key, format, &encoded.get(format, value))
}

#[inline(never)]
fn publish_with_care(
    rooms: &mut Rooms,
    connection: &mut Connection,
    key: u64,
    encoded: &mut Encoded<'_>,
    format: FramedFormat,
    value: u32,
) -> Sent {
    let rule = DropRule::ByKey(key);
    match admit(rooms, connection, rule) {
        Admission::Admitted => {}
        Admission::Overflows => {
            return match encoded.lagged(format) {
                Some(bytes) => close_lagged(rooms, connection, bytes),
                None => close_slow(rooms, connection),
            };
        }
        Admission::Refused(sent) => return sent,
        Admission::Replaces { key } => {
            let bytes = publication_bytes(connection, encoded, format, value);
            return replace(rooms, connection, key, bytes);
        }
    }
    #[cfg(feature = "deflate")]
    if format.is_own() {
        let bytes = publication_bytes(connection, encoded, format, value);
        push(rooms, connection, bytes, rule);
        rooms.stats.count_deflate();
        end::charge(rooms, connection);
        return Sent::Queued;
    }
    let bytes = encoded.get(format, value);
    let is_corked = rooms.outbox.is_corked(connection.id);
    if is_corked && takes_cork(connection) && bytes.len() < LARGE_BYTES {
        let copy = |out: &mut Vec<u8>| {
            out.extend_from_slice(&bytes);
            Ok::<(), Sent>(())
        };
        if let Err(sent) = rooms.outbox.cork_mut().append(rule, copy) {
            return sent;
        }
        spill_full_cork(rooms, connection);
    } else {
        push(rooms, connection, Bytes::Shared(bytes), rule);
    }
    Sent::Queued
}

/// The bytes of a publication for one connection: those that all share, unless its messages are
/// compressed as only its own are.
fn publication_bytes(
    connection: &mut Connection,
    encoded: &mut Encoded<'_>,
    format: FramedFormat,
    value: u32,
) -> Bytes {
    #[cfg(feature = "deflate")]
    if format.is_own() {
        let (body, kind) = encoded.body_of(format, value);
        let mut bytes = Vec::new();
        connection.protocol.encode_own(kind, &body, &mut bytes);
        return Bytes::Owned(bytes);
    }
    let _ = connection;
    Bytes::Shared(encoded.get(format, value))
}

// ── admission ────────────────────────────────────────────────────────────────────────────────

/// Whether one more message may be queued. If not, applies the route's policy.
///
/// The queue is compared to the high watermark before the message is added: a message that is
/// larger than the watermark can still be sent, and the queue holds at most the watermark and one
/// message.
fn admit(rooms: &mut Rooms, connection: &mut Connection, rule: DropRule) -> Admission {
    if !connection.life.takes_messages() {
        return Admission::Refused(Sent::Gone);
    }
    let high_bytes = connection.options(rooms).queue_high_bytes;
    if let DropRule::ByKey(key) = rule
        && connection.output.keeps_latest()
    {
        spill_cork(rooms, connection);
        return match connection.life.takes_messages() {
            true => Admission::Replaces { key },
            false => Admission::Refused(Sent::Gone),
        };
    }
    if has_room(rooms, connection, high_bytes) {
        return Admission::Admitted;
    }
    // Flush before a policy acts: a queue that was never offered to the kernel says nothing about
    // the peer. Afterwards the cork is empty, so the policies see all queued messages.
    spill_cork(rooms, connection);
    if !connection.output.is_blocked() {
        if may_wait_for_flush(rooms, connection, high_bytes) {
            rooms.early_flushes.note_overrun();
            // The fast path does not ask for it at its end.
            rooms.outbox.cork_mut().leave_fast_path_of_all();
            return Admission::Admitted;
        }
        // All of it, however long the queue is: more than one flush offers may be queued, and the
        // kernel may have room for it.
        let before = rooms.stats.sent_bytes;
        while flush(rooms, connection) {}
        let offered = rooms.stats.sent_bytes - before;
        rooms.early_flushes.charge(offered);
    }
    // The write may have failed, which ends the connection.
    if !connection.life.takes_messages() {
        return Admission::Refused(Sent::Gone);
    }
    if has_room(rooms, connection, high_bytes) {
        return Admission::Admitted;
    }
    let overflow = connection.options(rooms).overflow;
    match connection.protocol.overflow(overflow) {
        Overflow::Close => Admission::Overflows,
        Overflow::DropNewest => {
            note_dropped(rooms, Overflow::DropNewest, 1);
            Admission::Refused(Sent::Full)
        }
        Overflow::LatestPerKey => {
            // Superseded messages go first: the only message of a quiet key is worth more.
            let dropped = rooms.outbox.keep_latest(&mut connection.output);
            note_dropped(rooms, Overflow::LatestPerKey, dropped);
            match rule {
                DropRule::ByKey(key) => Admission::Replaces { key },
                // A message without a key has no older one to replace.
                DropRule::Allowed | DropRule::Never => {
                    make_room(rooms, connection, high_bytes, Overflow::LatestPerKey)
                }
            }
        }
        Overflow::DropOldest => make_room(rooms, connection, high_bytes, Overflow::DropOldest),
    }
}

/// Ends a connection that does not read what is queued to it.
fn close_slow(rooms: &mut Rooms, connection: &mut Connection) -> Sent {
    rooms.stats.slow_consumers += 1;
    end::fail(rooms, connection, CloseCause::SlowConsumer);
    Sent::Full
}

/// As [`close_slow`], for a client that is told where to go on. It gets what is queued first: the place to go on
/// lies behind that.
fn close_lagged(rooms: &mut Rooms, connection: &mut Connection, lagged: Vec<u8>) -> Sent {
    push(rooms, connection, Bytes::Owned(lagged), DropRule::Never);
    rooms.stats.slow_consumers += 1;
    end::fail_behind_queue(rooms, connection, CloseCause::SlowConsumer);
    Sent::Full
}

/// Whether a queue above its high watermark takes one more message without being written; see
/// `early_flush`. A connection's own replies cost its own time.
fn may_wait_for_flush(rooms: &Rooms, connection: &Connection, high_bytes: usize) -> bool {
    rooms.early_flushes.is_spent()
        && !rooms.outbox.is_corked(connection.id)
        && has_room(rooms, connection, high_bytes.saturating_mul(2))
}

#[inline]
fn has_room(rooms: &Rooms, connection: &Connection, high_bytes: usize) -> bool {
    rooms.outbox.queued_bytes(connection.id, &connection.output) <= high_bytes
}

/// Drops the oldest messages until the queue is at its watermark. Refuses the new message when that
/// cannot be reached: messages of which bytes were written, and replies, must stay.
fn make_room(
    rooms: &mut Rooms,
    connection: &mut Connection,
    high_bytes: usize,
    overflow: Overflow,
) -> Admission {
    let dropped = rooms.outbox.drop_oldest(&mut connection.output, high_bytes);
    note_dropped(rooms, overflow, dropped);
    if has_room(rooms, connection, high_bytes) {
        return Admission::Admitted;
    }
    note_dropped(rooms, overflow, 1);
    Admission::Refused(Sent::Full)
}

/// Counts messages that a policy has dropped.
fn note_dropped(rooms: &mut Rooms, overflow: Overflow, count: u64) {
    let stats = &mut rooms.stats;
    stats.dropped += count;
    match overflow {
        Overflow::DropOldest => stats.dropped_oldest += count,
        Overflow::LatestPerKey => stats.dropped_latest += count,
        Overflow::DropNewest | Overflow::Close => {}
    }
}

/// Puts a message in the place of an older one of its key.
fn replace(rooms: &mut Rooms, connection: &mut Connection, key: u64, bytes: Bytes) -> Sent {
    let high_bytes = connection.options(rooms).queue_high_bytes;
    let replaced = rooms
        .outbox
        .replace(&mut connection.output, key, bytes, high_bytes);
    match replaced {
        Ok(dropped) => {
            note_dropped(rooms, Overflow::LatestPerKey, dropped);
            Sent::Queued
        }
        Err(bytes) => match make_room(rooms, connection, high_bytes, Overflow::LatestPerKey) {
            Admission::Admitted | Admission::Replaces { .. } => {
                push(rooms, connection, bytes, DropRule::ByKey(key));
                Sent::Queued
            }
            Admission::Overflows => Sent::Full,
            Admission::Refused(sent) => sent,
        },
    }
}

// ── queueing ─────────────────────────────────────────────────────────────────────────────────

/// Whether the cork is the place for the next message. A blocked socket would refuse the write of
/// the cork, and its bytes would be copied a second time, into a node.
#[inline]
fn takes_cork(connection: &Connection) -> bool {
    !connection.output.is_blocked()
}

fn push(rooms: &mut Rooms, connection: &mut Connection, bytes: Bytes, rule: DropRule) {
    spill_cork(rooms, connection);
    let options = &rooms.option_sets[usize::from(connection.options)].options;
    rooms
        .outbox
        .push(&mut connection.parts(), bytes, rule, options);
}

/// Writes the cork before bytes are queued as a node. The cork holds earlier messages of the same
/// connection, which must leave first.
fn spill_cork(rooms: &mut Rooms, connection: &mut Connection) {
    if rooms.outbox.is_corked(connection.id) && !rooms.outbox.cork().is_empty() {
        write_cork(rooms, connection, &[], DropRule::Never);
    }
}

/// Writes the cork when it holds `CORK_BYTES`, or when the connection is above its high watermark.
/// A callback that sends megabytes would otherwise hold them all in memory, although the kernel has
/// room for them; and bytes that the kernel refuses must pause reading before the next message of a
/// peer that pipelines is delivered.
fn spill_full_cork(rooms: &mut Rooms, connection: &mut Connection) {
    if !rooms.outbox.is_corked(connection.id) || rooms.outbox.cork().is_empty() {
        return;
    }
    let high_bytes = connection.options(rooms).queue_high_bytes;
    if rooms.outbox.cork().is_full() || !has_room(rooms, connection, high_bytes) {
        write_cork(rooms, connection, &[], DropRule::Never);
    }
}

fn write_cork(rooms: &mut Rooms, connection: &mut Connection, payload: &[u8], rule: DropRule) {
    let options = &rooms.option_sets[usize::from(connection.options)].options;
    let written = rooms
        .outbox
        .write_cork(&mut connection.parts(), payload, rule, options);
    note_written(rooms, connection, written);
}

fn note_written(
    rooms: &mut Rooms,
    connection: &mut Connection,
    written: Result<usize, io::ErrorKind>,
) {
    match written {
        Ok(taken) => rooms.stats.sent_bytes += taken as u64,
        Err(kind) => end::abort(rooms, connection, CloseCause::Io(kind)),
    }
}

/// Queues what the kernel did not take of the cork at the end of the fast path. `result` is what
/// the write returned.
#[inline(never)]
pub(super) fn uncork_rest(
    rooms: &mut Rooms,
    connection: &mut Connection,
    result: io::Result<usize>,
) {
    let options = &rooms.option_sets[usize::from(connection.options)].options;
    let parts = &mut connection.parts();
    let written = rooms
        .outbox
        .queue_unwritten_cork(parts, result, &[], DropRule::Never, options);
    note_written(rooms, connection, written);
    rooms.outbox.cork_mut().take_back();
}

/// Lends the cork to a connection until [`uncork`]: its own replies gather there.
pub(super) fn cork(rooms: &mut Rooms, connection: &Connection) {
    let option_set = &rooms.option_sets[usize::from(connection.options)];
    rooms
        .outbox
        .cork_mut()
        .lend(connection.id, option_set.drops_messages);
}

/// Writes the cork with one system call, because the connection's event is over.
#[inline]
pub(super) fn uncork(rooms: &mut Rooms, connection: &mut Connection) {
    if rooms.early_flushes.end_event(connection.id) {
        connection.reading.pause(Pause::Flush);
    }
    if !rooms.outbox.cork().is_empty() {
        write_cork(rooms, connection, &[], DropRule::Never);
    }
    rooms.outbox.cork_mut().take_back();
}

// ── flushing ─────────────────────────────────────────────────────────────────────────────────

/// Gives the kernel what is queued until it takes no more, or has taken as much as one flush
/// offers. Returns whether the kernel may take more.
pub(super) fn flush(rooms: &mut Rooms, connection: &mut Connection) -> bool {
    match connection.life {
        Life::Open | Life::Closing | Life::Finishing => {}
        // Messages that were sent early wait until the transport is ready. After the end there is
        // no one to write to.
        Life::Handshaking | Life::Done | Life::Lingering => return false,
    }
    // A connection may be closed while it connects, and is then Finishing without a transport.
    if connection.transport.is_pending() {
        return false;
    }
    let mut taken_bytes = 0;
    let unsent_bytes = connection.transport.unsent_bytes();
    let flush = rooms.outbox.flush(
        &mut connection.transport,
        &mut connection.output,
        &mut taken_bytes,
    );
    rooms.stats.sent_bytes += taken_bytes;
    match flush {
        Flush::Done if connection.ends_output() => {
            end_output(rooms, connection, unsent_bytes + taken_bytes as usize);
        }
        Flush::Done => {
            unblock(rooms, connection);
            note_level(rooms, connection);
        }
        Flush::More => {
            flush_later(rooms, connection, taken_bytes);
            return true;
        }
        Flush::Blocked => {
            wait_for_room(rooms, connection, unsent_bytes + taken_bytes as usize);
        }
        Flush::Failed(kind) => end::abort(rooms, connection, CloseCause::Io(kind)),
    }
    false
}

/// Writes everything that is queued to a transport that takes all.
#[cfg(feature = "tls")]
pub(super) fn flush_all(rooms: &mut Rooms, connection: &mut Connection) {
    spill_cork(rooms, connection);
    loop {
        let (transport, output) = (&mut connection.transport, &mut connection.output);
        let mut taken_bytes = 0;
        let flush = rooms.outbox.flush(transport, output, &mut taken_bytes);
        rooms.stats.sent_bytes += taken_bytes;
        match flush {
            Flush::More => {}
            Flush::Done | Flush::Blocked => return note_level(rooms, connection),
            Flush::Failed(kind) => return end::abort(rooms, connection, CloseCause::Io(kind)),
        }
    }
}

/// Ends our side of the stream, behind everything that was queued: with the goodbye of the transport itself, where it
/// has one. Before it the transport had to send this many bytes.
#[cold]
fn end_output(rooms: &mut Rooms, connection: &mut Connection, before_bytes: usize) {
    match connection.transport.say_goodbye() {
        Ok(true) => {}
        Ok(false) => return wait_for_room(rooms, connection, before_bytes),
        Err(error) => return end::abort(rooms, connection, CloseCause::Io(error.kind())),
    }
    unblock(rooms, connection);
    note_level(rooms, connection);
    if connection.life == Life::Finishing {
        end::flushed(rooms, connection);
    } else {
        // A failure shows at the next read, which returns it.
        let _ = connection.transport.shutdown_write();
    }
}

/// Waits until the socket takes bytes again. Before it took the last ones, the transport had this many to send.
#[cold]
fn wait_for_room(rooms: &mut Rooms, connection: &mut Connection, before_bytes: usize) {
    let progress = before_bytes.saturating_sub(connection.transport.unsent_bytes());
    block(rooms, connection, progress as u64);
    note_level(rooms, connection);
}

/// Has the poll report when the socket takes what the transport itself has to send, as long as
/// there is some. There were `before_bytes` before the last step.
pub(super) fn watch_unsent(rooms: &mut Rooms, connection: &mut Connection, before_bytes: usize) {
    match connection.transport.unsent_bytes() {
        0 => unblock(rooms, connection),
        left => block(rooms, connection, before_bytes.saturating_sub(left) as u64),
    }
}

#[inline]
fn unblock(rooms: &mut Rooms, connection: &mut Connection) {
    if connection.output.unblock() {
        connection.waits.clear_write();
        // Without interest in writing the poll would report this socket each time that the kernel
        // frees some room. A failure shows at the next operation on the socket.
        let _ = rooms.reregister(&mut connection.transport, connection.id, false);
        end::charge(rooms, connection);
    }
}

/// Leaves the rest of a queue to the next flush, because the kernel has taken as much as one flush
/// offers.
#[cold]
fn flush_later(rooms: &mut Rooms, connection: &mut Connection, taken_bytes: u64) {
    if connection.output.is_blocked() {
        block(rooms, connection, taken_bytes);
    }
    rooms
        .outbox
        .mark_dirty_again(connection.id, &mut connection.output);
    note_level(rooms, connection);
}

/// Has the poll report when the socket takes bytes again. Until the write deadline the peer must
/// have taken some.
///
/// Progress puts the deadline off: a client with a slow network is slow, and not gone. It moves by
/// as much time as the bytes may take at the least rate, because a client that takes a byte now and
/// then would otherwise hold its queue for ever.
fn block(rooms: &mut Rooms, connection: &mut Connection, taken_bytes: u64) {
    let is_new = connection.output.block();
    if is_new || 0 < taken_bytes {
        let options = connection.options(rooms);
        let full = CoarseTime::after(rooms.now, options.write_timeout);
        let bytes_per_second = u64::from(options.write_bytes_per_second_min);
        let due = match (is_new, bytes_per_second) {
            (true, _) | (_, 0) => full,
            (false, rate) => {
                let earned_nanos = taken_bytes.saturating_mul(1_000_000_000) / rate;
                full.earlier(connection.waits.write_due().later_by_nanos(earned_nanos))
            }
        };
        rooms
            .deadlines
            .set_write(connection.id, &mut connection.waits, due);
    }
    // The transport may hold what the socket did not take.
    end::charge(rooms, connection);
    if is_new && let Err(error) = rooms.reregister(&mut connection.transport, connection.id, true) {
        end::abort(rooms, connection, CloseCause::Io(error.kind()));
    }
}

/// When the queue has come below the low watermark: reads the connection again, and lists it for
/// `on_drain`. There are two marks, because with one a queue that hovers around it would pause and
/// resume at every message.
fn note_level(rooms: &mut Rooms, connection: &mut Connection) {
    let options = &rooms.option_sets[usize::from(connection.options)].options;
    let is_below = rooms
        .outbox
        .note_level(connection.id, &mut connection.output, options);
    if is_below {
        connection.reading.resume(Pause::Queue);
        // Its input may have come while it was paused, and that edge is used up.
        rooms
            .ready_list
            .read_again(connection.id, &mut connection.reading);
    }
}
