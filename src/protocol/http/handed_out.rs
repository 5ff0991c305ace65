//! A request's body that is handed out as it comes, and is not collected.
//!
//! ```text
//!   Held ── the application wants it ──▶ Flows ── the last piece ──▶ (gone)
//! ```
//!
//! It is held while the application decides by the head. A body that is held or flows when the answer
//! is complete, or when the connection ends, has not been read whole.

use super::body::{BodyChunk, BodyDecoder};
use super::error::HttpError;
use super::framing::BodyFraming;

/// The state of one body that is handed out.
#[derive(Debug)]
pub struct HandedOut {
    decoder: BodyDecoder,
    flows: bool,
    /// The answer comes later, and may come after the last piece.
    is_taken: bool,
    /// The body was not read for a while, which is not the client's fault.
    was_paused: bool,
    body_bytes_max: u64,
    /// How much has come, without and with the framing.
    received_bytes: u64,
    framed_bytes: u64,
}

impl HandedOut {
    /// Holds a body with this framing, of which at most `body_bytes_max` may come.
    pub fn new(framing: BodyFraming, body_bytes_max: u64) -> HandedOut {
        HandedOut {
            decoder: BodyDecoder::new(framing),
            flows: false,
            is_taken: false,
            was_paused: false,
            body_bytes_max,
            received_bytes: 0,
            framed_bytes: 0,
        }
    }

    /// Takes the next piece off the front of `input`; `None` when more bytes are needed. The pieces
    /// borrow from the input.
    ///
    /// # Errors
    ///
    /// As [`BodyDecoder::next_chunk`], and [`HttpError::BodyTooLong`] before a piece that is over the
    /// maximum: at the size of its chunk, before the chunk has come.
    pub fn next_piece<'b>(
        &mut self,
        input: &mut &'b [u8],
    ) -> Result<Option<BodyChunk<'b>>, HttpError> {
        let before = input.len();
        let chunk = self.decoder.next_chunk(input)?;
        self.framed_bytes += (before - input.len()) as u64;
        if let Some(BodyChunk::Data(bytes)) = chunk {
            self.received_bytes += bytes.len() as u64;
        }
        let coming = self
            .received_bytes
            .saturating_add(self.decoder.announced_bytes());
        match self.body_bytes_max < coming {
            true => Err(HttpError::BodyTooLong),
            false => Ok(chunk),
        }
    }

    /// Hands the body out from now on.
    pub fn start(&mut self) {
        self.flows = true;
    }

    /// Notes that the answer comes later.
    pub fn take(&mut self) {
        self.is_taken = true;
    }

    /// Notes that the body is not read now, so that its client cannot be slow.
    pub fn note_pause(&mut self) {
        self.was_paused = true;
    }

    /// Whether the body was not read for a while since the last call.
    pub fn take_pause(&mut self) -> bool {
        std::mem::take(&mut self.was_paused)
    }

    /// Whether the body is handed out, and not held.
    pub fn flows(&self) -> bool {
        self.flows
    }

    /// Whether the answer comes later.
    pub fn is_taken(&self) -> bool {
        self.is_taken
    }

    /// Whether all bytes have come, and the end was not handed out.
    pub fn is_at_end(&self) -> bool {
        self.flows && self.decoder.check_end().is_ok()
    }

    /// How many bytes of the body have come, without their framing.
    pub fn received_bytes(&self) -> u64 {
        self.received_bytes
    }

    /// How many bytes have come, with the framing.
    pub fn framed_bytes(&self) -> u64 {
        self.framed_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The body and the bytes behind it, from pieces of every length.
    fn collect(
        framing: BodyFraming,
        max: u64,
        wire: &[u8],
    ) -> Result<Option<(Vec<u8>, usize)>, HttpError> {
        let run = |step: usize| {
            let mut body = HandedOut::new(framing, max);
            body.start();
            let (mut all, mut taken) = (Vec::new(), 0);
            for piece in wire.chunks(step) {
                let mut rest = piece;
                while let Some(chunk) = body.next_piece(&mut rest)? {
                    match chunk {
                        BodyChunk::Data(bytes) => all.extend_from_slice(bytes),
                        BodyChunk::End => {
                            taken += piece.len() - rest.len();
                            assert_eq!(body.received_bytes(), all.len() as u64);
                            assert_eq!(body.framed_bytes(), taken as u64);
                            return Ok(Some((all, wire.len() - taken)));
                        }
                    }
                }
                taken += piece.len();
            }
            assert!(!body.is_at_end());
            Ok(None)
        };
        let at_once = run(wire.len().max(1));
        for step in 1..wire.len() {
            assert_eq!(run(step), at_once, "{step} bytes at a time");
        }
        at_once
    }

    #[test]
    fn bodies_are_the_same_however_they_are_cut() {
        let five = BodyFraming::Length(5);
        let chunked = BodyFraming::Chunked;
        let hello = |left| Ok(Some((b"hello".to_vec(), left)));
        let cases: &[(&str, BodyFraming, u64, &[u8], _)] = &[
            ("length", five, 5, b"hello", hello(0)),
            ("more behind it", five, 5, b"helloGET", hello(3)),
            ("not all of it", five, 5, b"hell", Ok(None)),
            (
                "over the maximum",
                five,
                4,
                b"h",
                Err(HttpError::BodyTooLong),
            ),
            (
                "chunks",
                chunked,
                5,
                b"2\r\nhe\r\n3;x\r\nllo\r\n0\r\nA: b\r\n\r\nGET",
                hello(3),
            ),
            (
                "a chunk over the maximum",
                chunked,
                5,
                b"2\r\nhe\r\n4\r\n",
                Err(HttpError::BodyTooLong),
            ),
            ("no size", chunked, 5, b"x\r\n", Err(HttpError::BadChunk)),
        ];
        for (name, framing, max, wire, expected) in cases {
            assert_eq!(collect(*framing, *max, wire), *expected, "{name}");
        }
    }

    #[test]
    fn the_end_may_wait_without_bytes() {
        let mut body = HandedOut::new(BodyFraming::Length(1), 1);
        assert!(!body.is_at_end());
        body.start();
        let mut input = &b"x"[..];
        assert_eq!(body.next_piece(&mut input), Ok(Some(BodyChunk::Data(b"x"))));
        assert!(body.is_at_end());
        assert_eq!(body.next_piece(&mut input), Ok(Some(BodyChunk::End)));
    }
}
