//! The `Range` header: which part of a body is asked for.
//!
//! One range is answered. A server may ignore the header, and this one does where it names several ranges: their
//! answer in parts costs more than the whole body, and many small ranges that overlap are an attack. The same for
//! units other than bytes, and for a value that is malformed.
//!
//! Source: RFC 9110, section 14.

use crate::protocol::digits::parse_decimal;
use crate::protocol::split::split_once;

use super::headers::{Headers, trim};

/// One range of bytes that a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeRequest {
    /// From the byte with this index up to and with the last, or to the end of the body.
    From {
        /// Index of the first byte.
        first: u64,
        /// Index of the last byte. `None` for the end of the body.
        last: Option<u64>,
    },
    /// So many bytes at the end of the body.
    Suffix {
        /// How many bytes.
        bytes: u64,
    },
}

/// The part of a body that is sent: it has at least one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Index of the first byte.
    pub first: u64,
    /// Index of the last byte.
    pub last: u64,
}

impl Part {
    /// The length in bytes.
    pub fn length_bytes(self) -> u64 {
        self.last - self.first + 1
    }
}

/// The range asks for no byte that there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsatisfiable;

impl RangeRequest {
    /// The range of a request; `None` when the whole body is to be sent.
    pub fn of(headers: Headers<'_>) -> Option<RangeRequest> {
        let mut lines = headers.all("range");
        let line = lines.next()?;
        match lines.next() {
            None => RangeRequest::parse(line),
            Some(_) => None,
        }
    }

    fn parse(value: &str) -> Option<RangeRequest> {
        let (unit, range) = split_once(trim(value), b'=')?;
        // A list of one element may have empty ones around it.
        let range = range.trim_matches([' ', '\t', ',']);
        if !unit.eq_ignore_ascii_case("bytes") {
            return None;
        }
        // The digits hold no comma, so that a list of several ranges is none.
        match split_once(range, b'-')? {
            ("", bytes) => Some(RangeRequest::Suffix {
                bytes: saturating_decimal(bytes)?,
            }),
            (first, "") => Some(RangeRequest::From {
                first: saturating_decimal(first)?,
                last: None,
            }),
            (first, last) => {
                let (first, last) = (saturating_decimal(first)?, saturating_decimal(last)?);
                (first <= last).then_some(RangeRequest::From {
                    first,
                    last: Some(last),
                })
            }
        }
    }

    /// The part of a body of `length_bytes` that this range asks for. `Ok(None)` for all of a body without a
    /// byte, which has no parts: some clients ask for a range of everything.
    ///
    /// # Errors
    ///
    /// [`Unsatisfiable`] where it begins behind the end, or asks for a suffix of nothing.
    pub fn part_of(self, length_bytes: u64) -> Result<Option<Part>, Unsatisfiable> {
        let Some(end) = length_bytes.checked_sub(1) else {
            return Ok(None);
        };
        match self {
            RangeRequest::Suffix { bytes: 0 } => Err(Unsatisfiable),
            RangeRequest::Suffix { bytes } => Ok(Some(Part {
                first: length_bytes.saturating_sub(bytes),
                last: end,
            })),
            RangeRequest::From { first, .. } if end < first => Err(Unsatisfiable),
            RangeRequest::From { first, last } => Ok(Some(Part {
                first,
                last: last.map_or(end, |last| last.min(end)),
            })),
        }
    }
}

/// A number of any length. A body is shorter than 2^64 bytes, so that a larger number means the same as the
/// largest.
fn saturating_decimal(digits: &str) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| parse_decimal(digits.as_bytes()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_a_body_of_ten_bytes() {
        let part = |first, last| Ok(Some(Part { first, last }));
        let cases = [
            ("bytes=0-0", part(0, 0)),
            ("bytes=0-9", part(0, 9)),
            ("bytes=2-5", part(2, 5)),
            ("bytes=2-99", part(2, 9)),
            ("bytes=9-", part(9, 9)),
            ("bytes=0-", part(0, 9)),
            ("bytes=-1", part(9, 9)),
            ("bytes=-10", part(0, 9)),
            ("bytes=-11", part(0, 9)),
            ("BYTES=1-2", part(1, 2)),
            (" bytes= 1-2 ", part(1, 2)),
            ("bytes=,1-2,", part(1, 2)),
            ("bytes=0-18446744073709551615", part(0, 9)),
            ("bytes=0-99999999999999999999999999", part(0, 9)),
            ("bytes=-99999999999999999999999999", part(0, 9)),
            ("bytes=10-", Err(Unsatisfiable)),
            ("bytes=10-20", Err(Unsatisfiable)),
            ("bytes=-0", Err(Unsatisfiable)),
            ("bytes=99999999999999999999999999-", Err(Unsatisfiable)),
        ];
        for (value, expected) in cases {
            let range = RangeRequest::parse(value).expect(value);
            assert_eq!(range.part_of(10), expected, "{value}");
        }
    }

    #[test]
    fn ignored_values() {
        for value in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=--1",
            "bytes=5-2",
            "bytes=a-b",
            "bytes=1-b",
            "bytes=+1-2",
            "bytes=1 -2",
            "bytes=0x1-2",
            "bytes=0-1,2-3",
            "bytes=0-,0-,0-",
            "bytes=1-2-3",
            "bytes 1-2",
            "lines=1-2",
            "\u{FFFD}",
        ] {
            assert_eq!(RangeRequest::parse(value), None, "{value}");
        }
    }

    #[test]
    fn an_empty_body_is_sent_whole() {
        for value in ["bytes=0-", "bytes=-1", "bytes=-0", "bytes=5-6"] {
            let range = RangeRequest::parse(value).unwrap();
            assert_eq!(range.part_of(0), Ok(None), "{value}");
        }
    }

    #[test]
    fn the_longest_body() {
        let range = RangeRequest::parse("bytes=-1").unwrap();
        let last = u64::MAX - 1;
        assert_eq!(
            range.part_of(u64::MAX),
            Ok(Some(Part { first: last, last }))
        );
    }

    #[test]
    fn two_lines_are_several_ranges() {
        let line = |value| httparse::Header {
            name: "Range",
            value,
        };
        let lines = [line(b"bytes=0-1"), line(b"bytes=2-3")];
        assert_eq!(RangeRequest::of(Headers(&lines)), None);
        assert!(RangeRequest::of(Headers(&lines[..1])).is_some());
        assert_eq!(RangeRequest::of(Headers(&[])), None);
    }
}
