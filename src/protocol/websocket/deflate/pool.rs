//! The compressor and the inflater of a thread, for messages that do not depend on those before.
//!
//! They are the thread's, as the masks of frames are: a loop has one thread, and what they make of a message follows from
//! the message alone, so it does not matter who used them before. They are made when they are first used.

use std::cell::{Cell, RefCell};

use super::codec::{Deflater, Inflater};
use super::negotiation::WINDOW_BITS_MAX;
use crate::protocol::websocket::error::Error;

/// The most that is left allocated for the payload of a compressed message, in bytes.
const SCRATCH_BYTES_MAX: usize = 64 * 1024;

#[derive(Debug)]
struct Pool {
    deflater: Option<Deflater>,
    inflater: Option<Inflater>,
    scratch: Vec<u8>,
}

/// Messages since the counts were last taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) deflated_messages: u64,
    pub(crate) saved_bytes: u64,
    pub(crate) inflated_messages: u64,
}

thread_local! {
    static COUNTS: Cell<Counts> = const {
        Cell::new(Counts {
            deflated_messages: 0,
            saved_bytes: 0,
            inflated_messages: 0,
        })
    };

    static POOL: RefCell<Pool> = const {
        RefCell::new(Pool {
            deflater: None,
            inflater: None,
            scratch: Vec::new(),
        })
    };
}

/// Compresses a message by itself, and passes the payload to `call`. `None` when compression does not make the message
/// shorter.
pub(crate) fn with_deflated<R>(message: &[u8], call: impl FnOnce(&[u8]) -> R) -> Option<R> {
    with_deflated_in(message, WINDOW_BITS_MAX, call)
}

/// As [`with_deflated`], for a window of at most this many bits.
pub(super) fn with_deflated_in<R>(
    message: &[u8],
    window_bits: u8,
    call: impl FnOnce(&[u8]) -> R,
) -> Option<R> {
    POOL.with_borrow_mut(|pool| {
        let deflater = pool
            .deflater
            .get_or_insert_with(|| Deflater::new(WINDOW_BITS_MAX));
        deflater.reset();
        let window_bytes = match window_bits {
            // The compressor's own.
            WINDOW_BITS_MAX => usize::MAX,
            bits => 1 << bits,
        };
        let scratch = &mut pool.scratch;
        // The message is compressed to its end even where that is longer: output on its way would stay in the compressor.
        let is_whole = deflater.deflate(message, window_bytes, scratch);
        if !is_whole {
            pool.deflater = None;
        }
        let is_shorter = is_whole && pool.scratch.len() < message.len();
        let outcome = is_shorter.then(|| {
            count_deflated(message.len(), pool.scratch.len());
            call(&pool.scratch)
        });
        pool.clear_scratch();
        outcome
    })
}

/// Lends an empty buffer for the payload of a compressed message.
pub(super) fn with_scratch<R>(call: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    POOL.with_borrow_mut(|pool| {
        let outcome = call(&mut pool.scratch);
        pool.clear_scratch();
        outcome
    })
}

/// Takes the counts of this thread.
pub(crate) fn take_counts() -> Counts {
    COUNTS.take()
}

pub(super) fn count_deflated(message_bytes: usize, payload_bytes: usize) {
    let counts = COUNTS.get();
    COUNTS.set(Counts {
        deflated_messages: counts.deflated_messages + 1,
        saved_bytes: counts.saved_bytes + message_bytes.saturating_sub(payload_bytes) as u64,
        ..counts
    });
}

pub(super) fn count_inflated() {
    let counts = COUNTS.get();
    COUNTS.set(Counts {
        inflated_messages: counts.inflated_messages + 1,
        ..counts
    });
}

impl Pool {
    fn clear_scratch(&mut self) {
        self.scratch.clear();
        self.scratch.shrink_to(SCRATCH_BYTES_MAX);
    }
}

/// Inflates a message that does not depend on those before into `out`, which is empty.
///
/// # Errors
///
/// As [`Inflater::inflate`].
pub(crate) fn inflate(payload: &[u8], bytes_max: usize, out: &mut Vec<u8>) -> Result<(), Error> {
    POOL.with_borrow_mut(|pool| {
        let inflater = pool.inflater.get_or_insert_with(Inflater::new);
        inflater.inflate(payload, false, bytes_max, out)
    })?;
    count_inflated();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    // A compressor that was reset in the middle of a message lost room with each of them, and panicked in the end.
    #[test]
    fn messages_that_do_not_become_shorter_leave_the_compressor_whole() {
        let mut state = 1_u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as u8
        })
        .take(5000)
        .collect();
        for _ in 0..200 {
            assert_eq!(with_deflated(&noise, <[u8]>::len), None);
            assert_eq!(with_deflated_in(&noise, 9, <[u8]>::len), None);
            assert!(with_deflated(&[b'x'; 5000], <[u8]>::len).is_some());
        }
    }
}
