//! Text that arrives in pieces: each byte is validated once, as soon as it has come.
//!
//! A piece may end inside a code point, of which up to three bytes are kept here until the next
//! piece. Bytes that no continuation can make valid are refused at once, so that the peer learns of
//! its mistake before it has sent the rest of the message (Autobahn's cases 6.4).
//!
//! Source: RFC 6455, section 8.1; RFC 3629.

use super::error::Error;

/// The text so far, and the beginning of a code point that is not complete.
#[derive(Debug, Default)]
pub(super) struct PartialText {
    text: String,
    tail: [u8; 4],
    tail_bytes: u8,
}

impl PartialText {
    /// An empty text, which will be collected in this empty buffer.
    pub(super) fn with_buffer(buffer: Vec<u8>) -> PartialText {
        PartialText {
            text: String::from_utf8(buffer).unwrap_or_default(),
            ..PartialText::default()
        }
    }

    /// Appends the next piece of the message.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidUtf8`] when no UTF-8 text begins with the bytes so far.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let bytes = self.complete_tail(bytes)?;
        let (whole, tail) = bytes.split_at(bytes.len() - incomplete_bytes(bytes));
        self.text
            .push_str(std::str::from_utf8(whole).map_err(|_| Error::InvalidUtf8)?);
        if !tail.is_empty() {
            // Overlong forms, surrogates and code points above U+10FFFF cannot be completed.
            check_can_continue(tail)?;
            self.tail[..tail.len()].copy_from_slice(tail);
            self.tail_bytes = tail.len() as u8;
        }
        Ok(())
    }

    /// The whole text.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidUtf8`] when it ends inside a code point.
    pub(super) fn into_text(self) -> Result<String, Error> {
        if self.tail_bytes == 0 {
            Ok(self.text)
        } else {
            Err(Error::InvalidUtf8)
        }
    }

    /// Bytes received, the incomplete code point included.
    pub(super) fn len(&self) -> usize {
        self.text.len() + usize::from(self.tail_bytes)
    }

    pub(super) fn capacity(&self) -> usize {
        self.text.capacity()
    }

    /// Reserves room for a text of exactly `bytes` bytes in all.
    pub(super) fn reserve_in_all(&mut self, bytes: usize) {
        self.text
            .reserve_exact(bytes.saturating_sub(self.text.len()));
    }

    // Takes bytes off the front of the piece until the code point that was begun is complete;
    // returns the rest of the piece.
    fn complete_tail<'b>(&mut self, mut bytes: &'b [u8]) -> Result<&'b [u8], Error> {
        while self.tail_bytes != 0
            && let Some((byte, rest)) = bytes.split_first()
        {
            let end = usize::from(self.tail_bytes);
            self.tail[end] = *byte;
            bytes = rest;
            match std::str::from_utf8(&self.tail[..=end]) {
                Ok(code_point) => {
                    self.text.push_str(code_point);
                    self.tail_bytes = 0;
                }
                Err(error) if error.error_len().is_some() => return Err(Error::InvalidUtf8),
                Err(_) => self.tail_bytes += 1,
            }
        }
        Ok(bytes)
    }
}

// The length, 0 to 3, of an incomplete code point at the end of `bytes`. 0 too where the end is not
// valid at all: the validation of the whole piece finds that.
fn incomplete_bytes(bytes: &[u8]) -> usize {
    for (index, byte) in bytes.iter().rev().take(3).enumerate() {
        let width = match byte {
            0x80..=0xbf => continue,
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => 0,
        };
        return if width > index + 1 { index + 1 } else { 0 };
    }
    0
}

fn check_can_continue(tail: &[u8]) -> Result<(), Error> {
    match std::str::from_utf8(tail) {
        Err(error) if error.error_len().is_none() => Ok(()),
        _ => Err(Error::InvalidUtf8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Pushes byte by byte. The index of the byte that is refused; `len` when only the end of the
    // text is refused.
    fn refused_at(bytes: &[u8]) -> Option<usize> {
        let mut text = PartialText::default();
        for (index, byte) in bytes.iter().enumerate() {
            if text.push(&[*byte]).is_err() {
                return Some(index);
            }
        }
        text.into_text().is_err().then_some(bytes.len())
    }

    #[test]
    fn refusals_come_with_the_first_impossible_byte() {
        let cases: &[(&str, &[u8], Option<usize>)] = &[
            ("empty", b"", None),
            ("ASCII", b"abc", None),
            ("two bytes", "é".as_bytes(), None),
            ("three bytes", "€".as_bytes(), None),
            ("four bytes", "😀".as_bytes(), None),
            ("last code point", b"\xf4\x8f\xbf\xbf", None),
            ("before the surrogates", b"\xed\x9f\xbf", None),
            ("after the surrogates", b"\xee\x80\x80", None),
            ("lone continuation", b"a\x80", Some(1)),
            ("overlong two", b"\xc0\xaf", Some(0)),
            ("overlong two, c1", b"\xc1\xbf", Some(0)),
            ("overlong three", b"\xe0\x9f\xbf", Some(1)),
            ("overlong four", b"\xf0\x8f\xbf\xbf", Some(1)),
            ("surrogate", b"\xed\xa0\x80", Some(1)),
            ("above U+10FFFF", b"\xf4\x90\x80\x80", Some(1)),
            ("f5", b"\xf5\x80", Some(0)),
            ("ff", b"\xff", Some(0)),
            ("third byte wrong", b"\xe2\x82a", Some(2)),
            ("fourth byte wrong", b"\xf0\x9f\x98a", Some(3)),
            ("ends in two", b"\xc3", Some(1)),
            ("ends in three", b"\xe2\x82", Some(2)),
            ("ends in four", b"\xf0\x9f\x98", Some(3)),
        ];
        for (name, bytes, expected) in cases {
            assert_eq!(refused_at(bytes), *expected, "{name}");
        }
    }

    #[test]
    fn same_text_however_it_is_cut() {
        let expected = "aé€😀 κόσμε z".repeat(3);
        let bytes = expected.as_bytes();
        for cut in 1..=bytes.len() {
            let mut text = PartialText::default();
            for piece in bytes.chunks(cut) {
                text.push(piece).unwrap();
            }
            assert_eq!(text.len(), bytes.len());
            assert_eq!(text.into_text().unwrap(), expected, "pieces of {cut} bytes");
        }
    }

    #[test]
    fn agrees_with_std_on_every_short_sequence() {
        // All pairs of lead and second byte, with endings of which some complete them.
        let ends: [&[u8]; 5] = [b"", b"\x80", b"\x80\x80", b"a", b"\xbf\xbf\xbf"];
        for lead in 0..=255 {
            for second in 0..=255 {
                for end in ends {
                    let bytes = [&[lead, second], end].concat();
                    let std = std::str::from_utf8(&bytes);
                    for cut in 1..=bytes.len() {
                        let mut text = PartialText::default();
                        let pushed = bytes.chunks(cut).try_for_each(|piece| text.push(piece));
                        match std {
                            Ok(expected) => assert_eq!(text.into_text().as_deref(), Ok(expected)),
                            Err(error) if error.error_len().is_some() => {
                                assert!(pushed.is_err(), "{bytes:x?} in pieces of {cut}");
                            }
                            Err(_) => {
                                assert!(pushed.is_ok(), "{bytes:x?} in pieces of {cut}");
                                assert!(text.into_text().is_err());
                            }
                        }
                    }
                }
            }
        }
    }
}
