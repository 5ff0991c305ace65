//! The decoder of message bodies, which takes them off the input piece by piece.
//!
//! Chunk sizes, extensions and trailers are read byte by byte and strictly: a size is hexadecimal
//! digits only, every line ends with CR LF. Extensions and trailers are bounded and dropped, because
//! no role here uses them, and two readers may disagree about each of them.
//!
//! Source: RFC 9112, sections 6 and 7.1.

use super::error::HttpError;
use super::framing::BodyFraming;
use super::headers::{is_token_byte, is_value_byte};
use super::limits::Limits;

/// Most bytes of chunk extensions and trailers in one body.
pub const OVERHEAD_BYTES_MAX: usize = 8 * 1024;

/// A piece of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyChunk<'b> {
    /// The next bytes of the body, at least one.
    Data(&'b [u8]),
    /// The body is complete.
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In a body of known length, of which `left` bytes are still to come.
    Length,
    /// In a body that lasts until the connection ends.
    UntilClose,
    /// In a chunk's size; the flag says whether a digit has come.
    Size {
        has_digit: bool,
    },
    /// In the spaces before an extension.
    Blank,
    Extension,
    SizeLineFeed,
    /// In a chunk, of which `left` bytes are still to come.
    Data,
    DataReturn,
    DataLineFeed,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLineFeed,
    LastLineFeed,
    End,
}

/// The decoder of one body.
#[derive(Clone, Debug)]
pub struct BodyDecoder {
    state: State,
    overhead_bytes: u16,
    /// The bytes still to come of the body or of the chunk; in a size line, the size so far.
    left: u64,
}

impl BodyDecoder {
    /// A decoder for a body with this framing.
    pub fn new(framing: BodyFraming) -> BodyDecoder {
        let (state, left) = match framing {
            BodyFraming::None => (State::End, 0),
            BodyFraming::Length(length) => (State::Length, length),
            BodyFraming::Chunked => (State::Size { has_digit: false }, 0),
            BodyFraming::UntilClose => (State::UntilClose, 0),
        };
        BodyDecoder {
            state,
            overhead_bytes: 0,
            left,
        }
    }

    /// Takes the next piece off the front of `input`; `None` when more bytes are needed. After the
    /// end of the body it always returns [`BodyChunk::End`], and consumes nothing.
    ///
    /// # Errors
    ///
    /// [`HttpError::BadChunk`] and [`HttpError::ChunkOverhead`]; the connection is lost.
    pub fn next_chunk<'b>(
        &mut self,
        input: &mut &'b [u8],
    ) -> Result<Option<BodyChunk<'b>>, HttpError> {
        loop {
            match self.state {
                State::End => return Ok(Some(BodyChunk::End)),
                State::Length | State::Data if self.left == 0 => {
                    self.state = if self.state == State::Data {
                        State::DataReturn
                    } else {
                        State::End
                    };
                }
                _ if input.is_empty() => return Ok(None),
                State::UntilClose => return Ok(Some(BodyChunk::Data(std::mem::take(input)))),
                State::Length | State::Data => {
                    let length = usize::try_from(self.left)
                        .unwrap_or(usize::MAX)
                        .min(input.len());
                    let (data, rest) = input.split_at(length);
                    *input = rest;
                    self.left -= length as u64;
                    return Ok(Some(BodyChunk::Data(data)));
                }
                _ => {
                    self.state = self.state_after(input[0])?;
                    *input = &input[1..];
                }
            }
        }
    }

    /// Appends the part of the body that is in `input` to `body`. Returns whether it is complete.
    ///
    /// # Errors
    ///
    /// As [`next_chunk`](Self::next_chunk), and [`HttpError::BodyTooLong`] before `body` grows beyond
    /// `limits`: at the size of a chunk that does, before the chunk has come.
    pub fn collect(
        &mut self,
        input: &mut &[u8],
        body: &mut Vec<u8>,
        limits: &Limits,
    ) -> Result<bool, HttpError> {
        loop {
            let chunk = self.next_chunk(input)?;
            let came = match chunk {
                Some(BodyChunk::Data(data)) => data.len() as u64,
                Some(BodyChunk::End) | None => 0,
            };
            let room = limits.body_bytes_max - body.len();
            if (room as u64) < came.saturating_add(self.announced_bytes()) {
                return Err(HttpError::BodyTooLong);
            }
            match chunk {
                None => return Ok(false),
                Some(BodyChunk::End) => return Ok(true),
                Some(BodyChunk::Data(data)) => body.extend_from_slice(data),
            }
        }
    }

    /// How many bytes of a chunk are still to come, once its size line is complete, or of a body of known length.
    pub(super) fn announced_bytes(&self) -> u64 {
        match self.state {
            State::Data | State::Length => self.left,
            _ => 0,
        }
    }

    /// Checks that the body may end where the connection ended.
    ///
    /// # Errors
    ///
    /// [`HttpError::Truncated`] when the body is not complete.
    pub fn check_end(&self) -> Result<(), HttpError> {
        match self.state {
            State::End | State::UntilClose => Ok(()),
            State::Length if self.left == 0 => Ok(()),
            _ => Err(HttpError::Truncated),
        }
    }

    /// The state after one byte of a size line, a trailer, or the end of a line.
    fn state_after(&mut self, byte: u8) -> Result<State, HttpError> {
        match (self.state, byte) {
            (State::Size { .. }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                let size = self
                    .left
                    .checked_mul(16)
                    .and_then(|size| size.checked_add(digit.into()));
                self.left = size.ok_or(HttpError::BadChunk)?;
                // Digits count as overhead: leading zeros could make a size of any length.
                self.count_overhead()?;
                Ok(State::Size { has_digit: true })
            }
            (State::Size { has_digit: true }, b'\r') => Ok(State::SizeLineFeed),
            (State::Size { has_digit: true } | State::Blank, b' ' | b'\t') => {
                self.count_overhead()?;
                Ok(State::Blank)
            }
            (State::Size { has_digit: true } | State::Blank, b';') => Ok(State::Extension),
            (State::Extension, b'\r') => Ok(State::SizeLineFeed),
            (State::Extension, _) if is_value_byte(byte) => {
                self.count_overhead()?;
                Ok(State::Extension)
            }
            (State::SizeLineFeed, b'\n') if self.left == 0 => Ok(State::TrailerStart),
            (State::SizeLineFeed, b'\n') => {
                // A chunk with data may have 16 bytes of overhead, which do not count.
                self.overhead_bytes = self.overhead_bytes.saturating_sub(16);
                Ok(State::Data)
            }
            (State::DataReturn, b'\r') => Ok(State::DataLineFeed),
            (State::DataLineFeed, b'\n') => Ok(State::Size { has_digit: false }),
            (State::TrailerStart, b'\r') => Ok(State::LastLineFeed),
            (State::TrailerStart | State::TrailerName, _) if is_token_byte(byte) => {
                self.count_overhead()?;
                Ok(State::TrailerName)
            }
            (State::TrailerName, b':') => Ok(State::TrailerValue),
            (State::TrailerValue, b'\r') => Ok(State::TrailerLineFeed),
            (State::TrailerValue, _) if is_value_byte(byte) => {
                self.count_overhead()?;
                Ok(State::TrailerValue)
            }
            (State::TrailerLineFeed, b'\n') => Ok(State::TrailerStart),
            (State::LastLineFeed, b'\n') => Ok(State::End),
            _ => Err(HttpError::BadChunk),
        }
    }

    fn count_overhead(&mut self) -> Result<(), HttpError> {
        self.overhead_bytes += 1;
        if OVERHEAD_BYTES_MAX < usize::from(self.overhead_bytes) {
            return Err(HttpError::ChunkOverhead);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The body and what is left behind it, in one go; every cut must give the same.
    fn collect(framing: BodyFraming, input: &[u8]) -> Result<Option<(Vec<u8>, usize)>, HttpError> {
        let limits = Limits {
            body_bytes_max: 64,
            ..Limits::default()
        };
        let run = |step: usize| {
            let mut decoder = BodyDecoder::new(framing);
            let (mut body, mut taken) = (Vec::new(), 0);
            for piece in input.chunks(step) {
                let mut rest = piece;
                let complete = decoder.collect(&mut rest, &mut body, &limits)?;
                taken += piece.len() - rest.len();
                if complete {
                    return Ok(Some((body, input.len() - taken)));
                }
                assert!(rest.is_empty());
            }
            assert!(decoder.check_end().is_err() || framing == BodyFraming::UntilClose);
            Ok(None)
        };
        let at_once = run(input.len().max(1));
        for step in 1..input.len() {
            assert_eq!(run(step), at_once, "{step} bytes at a time");
        }
        at_once
    }

    #[test]
    fn bodies_with_a_length() {
        let five = BodyFraming::Length(5);
        assert_eq!(collect(five, b"hello"), Ok(Some((b"hello".to_vec(), 0))));
        assert_eq!(collect(five, b"hello!!"), Ok(Some((b"hello".to_vec(), 2))));
        assert_eq!(collect(five, b"hell"), Ok(None));
        assert_eq!(
            collect(BodyFraming::Length(65), &[0; 65]),
            Err(HttpError::BodyTooLong)
        );
    }

    #[test]
    fn bodies_in_chunks() {
        let cases: &[(&str, Result<Option<(&str, usize)>, HttpError>)] = &[
            ("0\r\n\r\n", Ok(Some(("", 0)))),
            ("5\r\nhello\r\n0\r\n\r\nGET", Ok(Some(("hello", 3)))),
            ("0005\r\nhello\r\n00\r\n\r\n", Ok(Some(("hello", 0)))),
            (
                "A\r\n0123456789\r\n1\r\na\r\n0\r\n\r\n",
                Ok(Some(("0123456789a", 0))),
            ),
            ("2;x=y\r\nab\r\n0;z\r\n\r\n", Ok(Some(("ab", 0)))),
            ("2 ; x\r\nab\r\n0\r\n\r\n", Ok(Some(("ab", 0)))),
            ("0\r\nA: b\r\nC:\r\n\r\n", Ok(Some(("", 0)))),
            ("5\r\nhel", Ok(None)),
            ("", Ok(None)),
            ("\r\n", Err(HttpError::BadChunk)),
            ("5\nhello", Err(HttpError::BadChunk)),
            ("0x5\r\nhello", Err(HttpError::BadChunk)),
            ("+5\r\nhello", Err(HttpError::BadChunk)),
            (" 5\r\nhello", Err(HttpError::BadChunk)),
            ("5 \r\nhello", Err(HttpError::BadChunk)),
            ("5\r\nhelloX", Err(HttpError::BadChunk)),
            ("5\r\nhello\n0", Err(HttpError::BadChunk)),
            ("5\rX", Err(HttpError::BadChunk)),
            ("5;a\nb\r\n", Err(HttpError::BadChunk)),
            ("11111111111111111\r\n", Err(HttpError::BadChunk)),
            ("0\r\n A: b\r\n\r\n", Err(HttpError::BadChunk)),
            ("0\r\nA b\r\n\r\n", Err(HttpError::BadChunk)),
            ("0\r\nA: \u{1}\r\n\r\n", Err(HttpError::BadChunk)),
        ];
        for (input, expected) in cases {
            let expected =
                expected.map(|body| body.map(|(body, left)| (body.as_bytes().to_vec(), left)));
            assert_eq!(
                collect(BodyFraming::Chunked, input.as_bytes()),
                expected,
                "{input:?}"
            );
        }
    }

    #[test]
    fn chunk_extensions_and_trailers_are_bounded() {
        let long = "x".repeat(OVERHEAD_BYTES_MAX + 1);
        for input in [
            format!("5;{long}"),
            format!("0\r\n{long}"),
            format!("0\r\nA: {long}"),
            "0".repeat(9000),
        ] {
            let mut decoder = BodyDecoder::new(BodyFraming::Chunked);
            assert_eq!(
                decoder.next_chunk(&mut input.as_bytes()),
                Err(HttpError::ChunkOverhead)
            );
        }
        let many = "1\r\nx\r\n".repeat(65);
        let outcome = collect(BodyFraming::Chunked, many.as_bytes());
        assert_eq!(outcome, Err(HttpError::BodyTooLong));
        // Small chunks alone do not reach the limit.
        let mut decoder = BodyDecoder::new(BodyFraming::Chunked);
        let many = "1\r\nx\r\n".repeat(100_000);
        let complete = decoder.collect(&mut many.as_bytes(), &mut Vec::new(), &Limits::default());
        assert_eq!(complete, Ok(false));
    }

    #[test]
    fn a_body_until_the_end_of_the_connection() {
        let mut decoder = BodyDecoder::new(BodyFraming::UntilClose);
        let mut body = Vec::new();
        assert_eq!(
            decoder.collect(&mut &b"abc"[..], &mut body, &Limits::default()),
            Ok(false)
        );
        assert_eq!((body, decoder.check_end()), (b"abc".to_vec(), Ok(())));
    }
}
