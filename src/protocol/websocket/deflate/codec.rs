//! One message through the compressor or the inflater.
//!
//! A sender ends each message with an empty stored block, so that it ends at a byte, and leaves out the four bytes by which
//! every such block ends. The receiver adds them again.
//!
//! Source: RFC 7692, sections 7.2.1 and 7.2.2; RFC 1951.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::negotiation::WINDOW_BITS_MAX;
use crate::protocol::websocket::error::Error;

/// The end of an empty stored block, which a sender leaves out.
const EMPTY_BLOCK_END: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// The payload of an empty message. Source: RFC 7692, section 7.2.3.6.
const EMPTY_MESSAGE: [u8; 1] = [0x00];

/// An empty block that is the last of its stream. An inflater that is within another block takes it for something else.
const LAST_BLOCK: [u8; 2] = [0x03, 0x00];

/// The level of compression, of 1 to 9. A text of 16 KiB takes a sixth of the time that level 6 takes, the default of zlib
/// and of other servers, and is 1.6 times as long; `docs/measure.md` has the figures.
const LEVEL: u32 = 1;

/// The least room for output in one call, in bytes. zlib repeats the end of a block where it has less than seven.
const ROOM_BYTES_MIN: usize = 64;

/// The least that is reserved for an inflated message, in bytes, unless the limit is lower.
const INFLATED_BYTES_MIN: usize = 1024;

/// How many times as long as its payload a message is expected to be. Texts are compressed to a fifth or a tenth.
const EXPECTED_RATIO: usize = 8;

/// From this many bytes on the buffer of a message does not grow step by step.
const GROWING_BYTES_MAX: usize = 512 * 1024;

/// Above this limit of a message its buffer grows by doubling, however long it is.
const GROWN_AT_ONCE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A compressor, with the window that it keeps from message to message.
#[derive(Debug)]
pub(super) struct Deflater(Compress);

impl Deflater {
    /// A compressor with a window of this many bits, 9 to 15.
    pub(super) fn new(window_bits: u8) -> Deflater {
        let level = Compression::new(LEVEL);
        Deflater(Compress::new_with_window_bits(level, false, window_bits))
    }

    /// Forgets the window.
    pub(super) fn reset(&mut self) {
        self.0.reset();
    }

    /// Appends the payload of a compressed message. It refers to no byte further back than `window_bytes`, which the
    /// compressor's own window does not exceed either.
    ///
    /// Returns `false` when the compressor failed. It cannot be used any more then: zlib-rs 0.6.8 does not reset one that has
    /// output on its way.
    pub(super) fn deflate(
        &mut self,
        message: &[u8],
        window_bytes: usize,
        out: &mut Vec<u8>,
    ) -> bool {
        if message.is_empty() {
            // A second flush without a message between would write nothing.
            out.extend_from_slice(&EMPTY_MESSAGE);
            return true;
        }
        let mut rest = message;
        // A full flush forgets what was before it, so each part refers only to itself.
        while let Some((part, behind)) = rest.split_at_checked(window_bytes)
            && !behind.is_empty()
        {
            rest = behind;
            if !self.append(part, FlushCompress::Full, out) {
                return false;
            }
        }
        if !self.append(rest, FlushCompress::Sync, out) || !out.ends_with(&EMPTY_BLOCK_END) {
            return false;
        }
        out.truncate(out.len() - EMPTY_BLOCK_END.len());
        true
    }

    fn append(&mut self, mut part: &[u8], flush: FlushCompress, out: &mut Vec<u8>) -> bool {
        loop {
            if out.capacity() - out.len() < ROOM_BYTES_MIN {
                out.reserve(ROOM_BYTES_MIN + part.len() / 2);
            }
            let before = self.0.total_in();
            if self.0.compress_vec(part, out, flush).is_err() {
                return false;
            }
            part = &part[(self.0.total_in() - before) as usize..];
            // With room left the flush is complete. Source: zlib.h, `deflate`.
            if part.is_empty() && out.len() < out.capacity() {
                return true;
            }
        }
    }
}

/// An inflater, with the window of the messages before.
#[derive(Debug)]
pub(super) struct Inflater(Decompress);

impl Inflater {
    pub(super) fn new() -> Inflater {
        Inflater(Decompress::new_with_window_bits(false, WINDOW_BITS_MAX))
    }

    /// Appends the message whose payload this is to `out`, which is empty. `keeps_window` is whether the message, and the
    /// next one, may refer to those before.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidDeflate`], or [`Error::MessageTooLong`] as soon as the message is longer than `bytes_max`. `out`
    /// has at most one byte more than that then, or what it had room for.
    pub(super) fn inflate(
        &mut self,
        payload: &[u8],
        keeps_window: bool,
        bytes_max: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        if !keeps_window {
            self.0.reset(false);
        }
        let expected = payload.len().saturating_mul(EXPECTED_RATIO);
        out.reserve_exact(capacity_for(expected.max(INFLATED_BYTES_MIN), bytes_max));
        let mut rest = payload;
        // Some senders write nothing for an empty message.
        while !rest.is_empty() {
            // The last block of a stream may be followed by another stream, mostly one that is empty. The window ends with
            // the stream. Source: RFC 7692, section 7.2.3.4.
            if self.append(&mut rest, bytes_max, out)? {
                self.0.reset(false);
                continue;
            }
            let mut end = EMPTY_BLOCK_END.as_slice();
            if self.append(&mut end, bytes_max, out)? {
                return Err(Error::InvalidDeflate);
            }
            // The payload must end between two blocks. That can be asked only where the next message begins anew.
            if !keeps_window {
                let length = out.len();
                let mut last = LAST_BLOCK.as_slice();
                let has_ended = self.append(&mut last, bytes_max, out)?;
                if !has_ended || !last.is_empty() || out.len() != length {
                    return Err(Error::InvalidDeflate);
                }
            }
        }
        Ok(())
    }

    /// Inflates `input`. Returns whether the stream has ended; the input behind its end is left.
    fn append(
        &mut self,
        input: &mut &[u8],
        bytes_max: usize,
        out: &mut Vec<u8>,
    ) -> Result<bool, Error> {
        loop {
            if out.len() == out.capacity() {
                let wanted = capacity_for(out.len().saturating_mul(2), bytes_max);
                out.reserve_exact(wanted.saturating_sub(out.len()).max(1));
            }
            let before = self.0.total_in();
            let status = self
                .0
                .decompress_vec(input, out, FlushDecompress::Sync)
                .map_err(|_| Error::InvalidDeflate)?;
            *input = &input[(self.0.total_in() - before) as usize..];
            if bytes_max < out.len() {
                return Err(Error::MessageTooLong {
                    bytes: out.len() as u64,
                    max: bytes_max,
                });
            }
            if status == Status::StreamEnd {
                return Ok(true);
            }
            // With room left all input was used.
            if out.len() < out.capacity() {
                return match input.is_empty() {
                    true => Ok(false),
                    false => Err(Error::InvalidDeflate),
                };
            }
        }
    }
}

/// The capacity for a message that may have so many bytes. A large one gets as much as it can become at once: when a buffer
/// grows, the old one and the new one exist together for a moment. The system gives memory to a large buffer where it is
/// written.
fn capacity_for(bytes: usize, bytes_max: usize) -> usize {
    let most = bytes_max.saturating_add(1);
    match bytes {
        GROWING_BYTES_MAX.. if bytes_max <= GROWN_AT_ONCE_BYTES_MAX => most,
        _ => bytes.min(most),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message that compresses to a few bytes for each of its lines.
    fn text(bytes: usize) -> Vec<u8> {
        let lines =
            (0..).flat_map(|line: u32| format!("{{\"line\":{line},\"on\":true}}\n").into_bytes());
        lines.take(bytes).collect()
    }

    /// Bytes that do not compress, from a linear congruential generator.
    fn noise(bytes: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as u8
        };
        (0..bytes).map(|_| next()).collect()
    }

    fn inflated(payload: &[u8], bytes_max: usize) -> Result<Vec<u8>, Error> {
        let mut out = Vec::new();
        Inflater::new().inflate(payload, false, bytes_max, &mut out)?;
        Ok(out)
    }

    #[test]
    fn every_kind_of_block_is_inflated() {
        let cases: &[(&str, &[u8], &[u8])] = &[
            // Source of the first six: RFC 7692, section 7.2.3.
            ("one block", b"\xf2\x48\xcd\xc9\xc9\x07\x00", b"Hello"),
            ("shares a window", b"\xf2\x00\x11\x00\x00", b""),
            (
                "not compressed",
                b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00",
                b"Hello",
            ),
            (
                "the last block of a stream",
                b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00",
                b"Hello",
            ),
            (
                "two blocks",
                b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00",
                b"Hello",
            ),
            ("an empty message", b"\x00", b""),
            ("an empty message, in another way", b"\x02\x00", b""),
            ("nothing at all", b"", b""),
            (
                "the end of a stream, and nothing",
                b"\xf3\x48\xcd\xc9\xc9\x07\x00",
                b"Hello",
            ),
            (
                "two streams",
                b"\xf3\x48\xcd\xc9\xc9\x07\x00\xf2\x48\xcd\xc9\xc9\x07\x00",
                b"HelloHello",
            ),
        ];
        for (name, payload, expected) in cases {
            match *name {
                // Refers to the message before, which is not there.
                "shares a window" => assert_eq!(inflated(payload, 100), Err(Error::InvalidDeflate)),
                _ => assert_eq!(inflated(payload, 100).as_deref(), Ok(*expected), "{name}"),
            }
        }
    }

    #[test]
    fn invalid_payloads_are_refused() {
        let cases: &[(&str, &[u8])] = &[
            ("a block of the reserved type", b"\x06\x00"),
            (
                "a stored block whose lengths differ",
                b"\x00\x05\x00\x00\x00Hello",
            ),
            ("a stored block that is cut", b"\x00\x64\x00\x9b\xffHello"),
            ("cut within a block", b"\xf2\x48\xcd\xc9"),
            ("cut behind its first byte", b"\xf2"),
            (
                "bytes behind the end of a stream",
                b"\xf3\x48\xcd\xc9\xc9\x07\x00\x06",
            ),
            ("codes that are too long", b"\x04\xff\xff\xff\xff\xff"),
            ("text", b"Hello"),
        ];
        for (name, payload) in cases {
            assert_eq!(
                inflated(payload, 1000),
                Err(Error::InvalidDeflate),
                "{name}"
            );
        }
    }

    #[test]
    fn the_example_of_two_messages_in_one_window() {
        let mut inflater = Inflater::new();
        for payload in [
            &b"\xf2\x48\xcd\xc9\xc9\x07\x00"[..],
            b"\xf2\x00\x11\x00\x00",
        ] {
            let mut out = Vec::new();
            inflater.inflate(payload, true, 100, &mut out).unwrap();
            assert_eq!(out, b"Hello");
        }
    }

    #[test]
    fn every_length_comes_back_through_every_window() {
        for window_bits in 9..=15 {
            let window_bytes = 1 << window_bits;
            let mut narrow = Decompress::new_with_window_bits(false, window_bits);
            let (mut kept, mut inflater) = (Deflater::new(window_bits), Inflater::new());
            let mut shared = Deflater::new(WINDOW_BITS_MAX);
            let lengths = [0, 1, 511, 512, 513, 4096, 32_768, 32_769, 100_000];
            for message in lengths
                .iter()
                .flat_map(|length| [text(*length), noise(*length)])
            {
                let mut payload = Vec::new();
                assert!(kept.deflate(&message, usize::MAX, &mut payload));
                let mut out = Vec::new();
                inflater
                    .inflate(&payload, true, message.len(), &mut out)
                    .unwrap();
                assert_eq!(out, message);
                // An inflater with no more than the agreed window reads it too.
                let mut out = Vec::with_capacity(message.len() + 64);
                payload.extend_from_slice(&EMPTY_BLOCK_END);
                narrow
                    .decompress_vec(&payload, &mut out, FlushDecompress::Sync)
                    .unwrap();
                assert_eq!(out, message);

                let mut payload = Vec::new();
                shared.reset();
                assert!(shared.deflate(&message, window_bytes, &mut payload));
                assert_eq!(inflated(&payload, message.len()).as_ref(), Ok(&message));
                let mut fresh = Decompress::new_with_window_bits(false, window_bits);
                let mut out = Vec::with_capacity(message.len() + 64);
                payload.extend_from_slice(&EMPTY_BLOCK_END);
                fresh
                    .decompress_vec(&payload, &mut out, FlushDecompress::Sync)
                    .unwrap();
                assert_eq!(out, message);
            }
        }
    }

    #[test]
    fn the_limit_holds_to_the_byte() {
        let mut payload = Vec::new();
        let message = text(50_000);
        Deflater::new(15).deflate(&message, usize::MAX, &mut payload);
        assert_eq!(inflated(&payload, 50_000), Ok(message));
        let too_long = |bytes_max| Error::MessageTooLong {
            bytes: bytes_max as u64 + 1,
            max: bytes_max,
        };
        for bytes_max in [0, 1, 1023, 49_999] {
            assert_eq!(inflated(&payload, bytes_max), Err(too_long(bytes_max)));
        }
        // The bytes of a stored block are counted too.
        assert_eq!(
            inflated(b"\x00\x05\x00\xfa\xffHello\x00", 4),
            Err(too_long(4))
        );
        assert_eq!(
            inflated(b"\x00\x05\x00\xfa\xffHello\x00", 5).unwrap(),
            b"Hello"
        );
        assert_eq!(inflated(b"\x00", 0).unwrap(), b"");
    }

    /// The payload of a message of so many MiB that are zero.
    fn bomb(mebibytes: usize) -> Vec<u8> {
        let mut deflater = Deflater(Compress::new(Compression::best(), false));
        let mut mebibyte = Vec::new();
        assert!(deflater.append(&vec![0; 1024 * 1024], FlushCompress::Full, &mut mebibyte));
        let mut payload = mebibyte.repeat(mebibytes);
        payload.truncate(payload.len() - EMPTY_BLOCK_END.len());
        payload
    }

    #[test]
    fn a_bomb_takes_no_more_memory_than_the_limit() {
        const MIB: usize = 1024 * 1024;
        let mut inflater = Inflater::new();
        for mebibytes in [2, 64, 1024] {
            let payload = bomb(mebibytes);
            assert!(payload.len() < 2 * 1024 * mebibytes);
            for limit in [1000, MIB, 16 * MIB, 64 * MIB] {
                let expected = match mebibytes * MIB <= limit {
                    true => Ok(()),
                    false => Err(Error::MessageTooLong {
                        bytes: limit as u64 + 1,
                        max: limit,
                    }),
                };
                let mut outcome = Ok(());
                let allocated = allocation_counter::measure(|| {
                    outcome = inflater.inflate(&payload, false, limit, &mut Vec::new());
                });
                assert_eq!(outcome, expected, "{mebibytes} MiB, at most {limit}");
                assert!(allocated.bytes_max <= (limit + MIB) as u64, "{allocated:?}");
            }
        }
    }
}
