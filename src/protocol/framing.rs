//! Lines and length-prefixed frames in a stream of bytes.
//!
//! Pure: bytes in, frames out. A frame borrows from the input, so it is not copied. The decoder keeps nothing: a frame
//! whose end has not come stays in the input, and is looked at again with what comes next.
//!
//! A line ends with `\n`, and a `\r` in front of it belongs to the end. A frame begins with its length, as an integer
//! of 1, 2, 4 or 8 bytes.

use std::fmt;

/// The reason for which bytes are no line or frame within its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FramingError {
    /// More bytes have come without the end of a line than the limit allows.
    LineTooLong {
        /// The limit, in bytes.
        max: usize,
    },
    /// The prefix announces a longer frame than the limit allows.
    FrameTooLong {
        /// The length in the prefix, in bytes.
        length: u64,
        /// The limit, in bytes.
        max: usize,
    },
}

impl fmt::Display for FramingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FramingError::LineTooLong { max } => write!(f, "a line has more than {max} bytes"),
            FramingError::FrameTooLong { length, max } => {
                write!(f, "a frame of {length} bytes is longer than {max} bytes")
            }
        }
    }
}

impl std::error::Error for FramingError {}

/// The integer in front of a frame that says how many bytes follow it.
///
/// ```
/// use waterwheel::LengthPrefix;
///
/// let prefix = LengthPrefix::U16_BE;
/// let mut out = Vec::new();
/// prefix.encode(b"ping", &mut out)?;
/// assert_eq!(out, b"\x00\x04ping");
/// # Ok::<_, waterwheel::FramingError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LengthPrefix {
    bytes: usize,
    is_little_endian: bool,
}

impl LengthPrefix {
    /// One byte: frames of at most 255 bytes.
    pub const U8: LengthPrefix = LengthPrefix::new(1, false);
    /// Two bytes, the high one first: frames of at most 65,535 bytes.
    pub const U16_BE: LengthPrefix = LengthPrefix::new(2, false);
    /// Two bytes, the low one first: frames of at most 65,535 bytes.
    pub const U16_LE: LengthPrefix = LengthPrefix::new(2, true);
    /// Four bytes, the highest one first.
    pub const U32_BE: LengthPrefix = LengthPrefix::new(4, false);
    /// Four bytes, the lowest one first.
    pub const U32_LE: LengthPrefix = LengthPrefix::new(4, true);
    /// Eight bytes, the highest one first.
    pub const U64_BE: LengthPrefix = LengthPrefix::new(8, false);
    /// Eight bytes, the lowest one first.
    pub const U64_LE: LengthPrefix = LengthPrefix::new(8, true);

    const fn new(bytes: usize, is_little_endian: bool) -> LengthPrefix {
        LengthPrefix {
            bytes,
            is_little_endian,
        }
    }

    /// The longest frame that it can announce, in bytes.
    pub fn frame_bytes_max(self) -> u64 {
        u64::MAX >> (64 - 8 * self.bytes)
    }

    /// Appends a frame: the prefix, and then the payload.
    ///
    /// # Errors
    ///
    /// [`FramingError::FrameTooLong`] for a payload whose length the prefix cannot hold. `out` stays as it is then.
    pub fn encode(self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), FramingError> {
        let length = payload.len() as u64;
        if self.frame_bytes_max() < length {
            let max = self.frame_bytes_max() as usize;
            return Err(FramingError::FrameTooLong { length, max });
        }
        out.reserve(self.bytes + payload.len());
        match self.is_little_endian {
            true => out.extend_from_slice(&length.to_le_bytes()[..self.bytes]),
            false => out.extend_from_slice(&length.to_be_bytes()[8 - self.bytes..]),
        }
        out.extend_from_slice(payload);
        Ok(())
    }

    /// The length at the front of `input`, which has as many bytes as the prefix.
    fn length(self, input: &[u8]) -> u64 {
        let mut bytes = [0; 8];
        if self.is_little_endian {
            bytes[..self.bytes].copy_from_slice(input);
            u64::from_le_bytes(bytes)
        } else {
            bytes[8 - self.bytes..].copy_from_slice(input);
            u64::from_be_bytes(bytes)
        }
    }
}

/// How a stream is divided, with the limit of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Lines of at most `line_bytes_max` bytes, their ends not counted.
    Lines { line_bytes_max: usize },
    /// Frames of at most `frame_bytes_max` bytes, their prefixes not counted.
    Frames {
        prefix: LengthPrefix,
        frame_bytes_max: usize,
    },
}

impl Framing {
    /// The most bytes that an unfinished part may have, with its end or prefix.
    pub(crate) fn pending_bytes_max(self) -> usize {
        match self {
            Framing::Lines { line_bytes_max } => line_bytes_max.saturating_add(b"\r\n".len()),
            Framing::Frames {
                prefix,
                frame_bytes_max,
            } => frame_bytes_max.saturating_add(prefix.bytes),
        }
    }

    /// The line without its end, or the frame without its prefix, off the front of `input`. `None` when more bytes
    /// are needed; `input` stays as it is then.
    ///
    /// # Errors
    ///
    /// When these bytes can never become a part within the limit. The stream is then lost.
    pub(crate) fn next_part<'b>(
        self,
        input: &mut &'b [u8],
    ) -> Result<Option<&'b [u8]>, FramingError> {
        match self {
            Framing::Lines { line_bytes_max } => next_line(input, line_bytes_max),
            Framing::Frames {
                prefix,
                frame_bytes_max,
            } => next_frame(input, prefix, frame_bytes_max),
        }
    }
}

fn next_line<'b>(input: &mut &'b [u8], max: usize) -> Result<Option<&'b [u8]>, FramingError> {
    // A longer line is refused before its end is searched for.
    let searched = &input[..input.len().min(max.saturating_add(b"\r\n".len()))];
    let end = position_of_newline(searched);
    let line = without_return(&searched[..end.unwrap_or(searched.len())]);
    if max < line.len() {
        return Err(FramingError::LineTooLong { max });
    }
    let Some(end) = end else {
        return Ok(None);
    };
    *input = &input[end + 1..];
    Ok(Some(line))
}

/// The search for one byte in a slice compares many bytes at once, and does not say where it is.
fn position_of_newline(bytes: &[u8]) -> Option<usize> {
    const CHUNK_BYTES: usize = 256;
    let chunk = bytes
        .chunks(CHUNK_BYTES)
        .position(|chunk| chunk.contains(&b'\n'))?;
    let first = chunk * CHUNK_BYTES;
    let within = bytes[first..].iter().position(|byte| *byte == b'\n')?;
    Some(first + within)
}

fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn next_frame<'b>(
    input: &mut &'b [u8],
    prefix: LengthPrefix,
    max: usize,
) -> Result<Option<&'b [u8]>, FramingError> {
    let Some((head, rest)) = input.split_at_checked(prefix.bytes) else {
        return Ok(None);
    };
    let length = prefix.length(head);
    if (max as u64) < length {
        return Err(FramingError::FrameTooLong { length, max });
    }
    // Not above `max`, so it fits.
    let Some((frame, rest)) = rest.split_at_checked(length as usize) else {
        return Ok(None);
    };
    *input = rest;
    Ok(Some(frame))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: Framing = Framing::Lines { line_bytes_max: 4 };

    fn frames(prefix: LengthPrefix) -> Framing {
        Framing::Frames {
            prefix,
            frame_bytes_max: 300,
        }
    }

    #[test]
    fn lines() {
        let too_long = Err(FramingError::LineTooLong { max: 4 });
        let cases: &[(&str, &str, Result<Option<&str>, FramingError>)] = &[
            ("a line", "abc\ndef", Ok(Some("abc"))),
            ("a line with a return", "abc\r\n", Ok(Some("abc"))),
            ("an empty line", "\n", Ok(Some(""))),
            ("an empty line with a return", "\r\n", Ok(Some(""))),
            ("a return within a line", "a\rb\n", Ok(Some("a\rb"))),
            ("two returns", "a\r\r\n", Ok(Some("a\r"))),
            ("no byte", "", Ok(None)),
            ("the end is missing", "abcd", Ok(None)),
            ("the end may begin", "abcd\r", Ok(None)),
            ("as long as the limit", "abcd\n", Ok(Some("abcd"))),
            ("as long, with a return", "abcd\r\n", Ok(Some("abcd"))),
            ("longer than the limit", "abcde\n", too_long),
            ("longer, the end is missing", "abcde", too_long),
            ("longer, and a return at its end", "abcde\r\n", too_long),
            ("the return ends nothing", "abcd\rx", too_long),
            ("much longer", "abcdefghijklmnop", too_long),
        ];
        for (name, text, expected) in cases {
            let mut input = text.as_bytes();
            let line = LINES.next_part(&mut input);
            assert_eq!(line, expected.map(|line| line.map(str::as_bytes)), "{name}");
            let is_taken = matches!(expected, Ok(Some(_)));
            assert_eq!(input.len() < text.len(), is_taken, "{name}");
        }
    }

    #[test]
    fn a_newline_is_found_wherever_it_is() {
        for length in [0, 1, 255, 256, 257, 511, 512, 513] {
            let mut bytes = vec![b'a'; length];
            assert_eq!(position_of_newline(&bytes), None, "{length}");
            bytes.extend_from_slice(b"\nb\n");
            assert_eq!(position_of_newline(&bytes), Some(length));
        }
    }

    #[test]
    fn frames_of_each_prefix() {
        for (prefix, head) in [
            (LengthPrefix::U8, &b"\x05"[..]),
            (LengthPrefix::U16_BE, b"\0\x05"),
            (LengthPrefix::U16_LE, b"\x05\0"),
            (LengthPrefix::U32_BE, b"\0\0\0\x05"),
            (LengthPrefix::U32_LE, b"\x05\0\0\0"),
            (LengthPrefix::U64_BE, b"\0\0\0\0\0\0\0\x05"),
            (LengthPrefix::U64_LE, b"\x05\0\0\0\0\0\0\0"),
        ] {
            let mut wire = Vec::new();
            prefix.encode(b"hello", &mut wire).unwrap();
            assert_eq!(wire, [head, b"hello"].concat(), "{prefix:?}");
            prefix.encode(b"", &mut wire).unwrap();
            for cut in 0..head.len() + 5 {
                let mut input = &wire[..cut];
                assert_eq!(frames(prefix).next_part(&mut input), Ok(None), "{cut}");
                assert_eq!(input.len(), cut);
            }
            let mut input = &wire[..];
            for expected in [&b"hello"[..], b""] {
                let frame = frames(prefix).next_part(&mut input);
                assert_eq!(frame, Ok(Some(expected)), "{prefix:?}");
            }
            assert!(input.is_empty());
        }
    }

    #[test]
    fn a_frame_above_the_limit_is_refused_from_its_prefix() {
        let prefix = LengthPrefix::U16_BE;
        for (length, is_refused) in [(300, false), (301, true), (u16::MAX, true)] {
            let wire = length.to_be_bytes();
            let frame = frames(prefix).next_part(&mut &wire[..]);
            let error = FramingError::FrameTooLong {
                length: length.into(),
                max: 300,
            };
            let expected = if is_refused { Err(error) } else { Ok(None) };
            assert_eq!(frame, expected, "{length}");
        }
        let wire = [0xff; 8];
        let frame = frames(LengthPrefix::U64_LE).next_part(&mut &wire[..]);
        let error = FramingError::FrameTooLong {
            length: u64::MAX,
            max: 300,
        };
        assert_eq!(frame, Err(error));
    }

    #[test]
    fn a_payload_that_the_prefix_cannot_announce_is_refused() {
        let mut out = vec![1];
        LengthPrefix::U8.encode(&[0; 255], &mut out).unwrap();
        assert_eq!(out.len(), 257);
        let refused = LengthPrefix::U8.encode(&[0; 256], &mut out);
        let error = FramingError::FrameTooLong {
            length: 256,
            max: 255,
        };
        assert_eq!(refused, Err(error));
        assert_eq!(out.len(), 257);
        assert_eq!(LengthPrefix::U64_LE.frame_bytes_max(), u64::MAX);
    }

    /// The parts of `wire`, which comes in pieces of `size` bytes.
    fn parts_in_pieces(framing: Framing, wire: &[u8], size: usize) -> Vec<Vec<u8>> {
        let (mut kept, mut parts) = (Vec::new(), Vec::new());
        for piece in wire.chunks(size) {
            kept.extend_from_slice(piece);
            let mut input = &kept[..];
            while let Some(part) = framing.next_part(&mut input).unwrap() {
                parts.push(part.to_vec());
            }
            let consumed = kept.len() - input.len();
            kept.drain(..consumed);
            assert!(kept.len() < framing.pending_bytes_max());
        }
        assert!(kept.is_empty());
        parts
    }

    #[test]
    fn same_parts_however_the_bytes_are_cut() {
        let lines = b"a\n\r\nabc\r\n\nabcd\r\nabcd\n";
        let mut frames_wire = Vec::new();
        for payload in [&b"a"[..], b"", &[7; 300], b"\r\n"] {
            let prefix = LengthPrefix::U32_LE;
            prefix.encode(payload, &mut frames_wire).unwrap();
        }
        for (framing, wire) in [
            (LINES, &lines[..]),
            (frames(LengthPrefix::U32_LE), &frames_wire),
        ] {
            let whole = parts_in_pieces(framing, wire, wire.len());
            assert!(4 <= whole.len());
            for size in 1..wire.len() {
                assert_eq!(parts_in_pieces(framing, wire, size), whole, "{size}");
            }
        }
    }
}
