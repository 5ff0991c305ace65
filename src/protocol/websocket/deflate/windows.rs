//! The compression of one connection that is not like that of all others: it keeps windows, or its own is limited.

use super::codec::{Deflater, Inflater};
use super::negotiation::{Agreed, Direction, WINDOW_BITS_MAX, WINDOW_BITS_MIN};
use super::pool;
use crate::protocol::websocket::error::Error;
use crate::protocol::websocket::role::Role;

/// The memory of an inflater, in bytes.
const INFLATER_BYTES: usize = 48 * 1024;

/// The memory of a compressor apart from its window, in bytes.
const DEFLATER_BYTES: usize = 244 * 1024;

/// The windows of one connection, made when they are first used.
#[derive(Debug)]
pub(in crate::protocol::websocket) struct Windows {
    sent: Direction,
    received: Direction,
    deflater: Option<Deflater>,
    inflater: Option<Inflater>,
}

impl Windows {
    /// The windows of one end; `None` where the connection needs nothing of its own.
    pub(in crate::protocol::websocket) fn new(role: Role, agreed: Agreed) -> Option<Box<Windows>> {
        let (sent, received) = match role {
            Role::Server => (agreed.server, agreed.client),
            Role::Client => (agreed.client, agreed.server),
        };
        let is_shared =
            !sent.keeps_window && !received.keeps_window && sent.window_bits == WINDOW_BITS_MAX;
        let windows = || Windows {
            sent,
            received,
            deflater: None,
            inflater: None,
        };
        (!is_shared).then(|| Box::new(windows()))
    }

    /// Compresses a message and passes the payload to `call`. `None` when the message goes out uncompressed.
    pub(in crate::protocol::websocket) fn with_deflated<R>(
        &mut self,
        message: &[u8],
        call: impl FnOnce(&[u8]) -> R,
    ) -> Option<R> {
        let Direction {
            keeps_window,
            window_bits,
        } = self.sent;
        if window_bits < WINDOW_BITS_MIN {
            return None;
        }
        if !keeps_window {
            return pool::with_deflated_in(message, window_bits, call);
        }
        let deflater = self
            .deflater
            .get_or_insert_with(|| Deflater::new(window_bits));
        pool::with_scratch(|scratch| {
            // The window has the message now, so it must go out compressed even if that is longer.
            match deflater.deflate(message, usize::MAX, scratch) {
                true => {
                    pool::count_deflated(message.len(), scratch.len());
                    Some(call(scratch))
                }
                false => {
                    // The next one begins with an empty window, which every receiver accepts. A new compressor, because
                    // zlib-rs 0.6.8 does not reset all of one that was given up.
                    *deflater = Deflater::new(window_bits);
                    None
                }
            }
        })
    }

    /// Inflates a message into `out`, which is empty.
    ///
    /// # Errors
    ///
    /// As [`Inflater::inflate`].
    pub(in crate::protocol::websocket) fn inflate(
        &mut self,
        payload: &[u8],
        bytes_max: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        if !self.received.keeps_window {
            return pool::inflate(payload, bytes_max, out);
        }
        let inflater = self.inflater.get_or_insert_with(Inflater::new);
        inflater.inflate(payload, true, bytes_max, out)?;
        pool::count_inflated();
        Ok(())
    }

    /// The memory that it holds, in bytes.
    pub(in crate::protocol::websocket) fn held_bytes(&self) -> usize {
        let deflater = self
            .deflater
            .as_ref()
            .map_or(0, |_| DEFLATER_BYTES + (4 << self.sent.window_bits));
        let inflater = self.inflater.as_ref().map_or(0, |_| INFLATER_BYTES);
        size_of::<Windows>() + deflater + inflater
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_windows_is_counted() {
        for window_bits in 9..=15 {
            let direction = Direction {
                keeps_window: true,
                window_bits,
            };
            let agreed = Agreed {
                server: direction,
                client: direction,
            };
            let mut windows = None;
            let allocated = allocation_counter::measure(|| {
                windows = Windows::new(Role::Server, agreed);
            });
            let windows = windows.as_mut().unwrap();
            assert_eq!(allocated.bytes_current, windows.held_bytes() as i64);
            // The buffer that all connections of the thread share is made before.
            pool::with_scratch(|scratch| scratch.reserve(10_000));
            let mut payload = Vec::with_capacity(1000);
            let mut message = Vec::with_capacity(10_000);
            let allocated = allocation_counter::measure(|| {
                windows.with_deflated(&[b'x'; 5000], |bytes| payload.extend_from_slice(bytes));
                windows.inflate(&payload, 5000, &mut message).unwrap();
            });
            assert_eq!(message, [b'x'; 5000]);
            let counted = (windows.held_bytes() - size_of::<Windows>()) as i64;
            let held = allocated.bytes_current;
            assert!(
                held <= counted && counted <= held + held / 8,
                "{window_bits} bits: {held} bytes held, {counted} counted"
            );
        }
    }
}
