//! The common parts of request and response heads: where they end, and which byte is the first
//! wrong one.
//!
//! `httparse` parses a head in one pass and with SIMD, and is lenient in one point: it accepts a
//! bare line feed as a line end. So every head that it accepts is searched for one.
//!
//! A head that has a wrong byte is refused as soon as that byte has come, which may be before the
//! end of the head. Which error it is must not depend on how the bytes were cut, but a parser that
//! sees all bytes at once could find a later fault first. So [`first_fault`] searches for the
//! shortest prefix with a fault, which a reader byte by byte would have found. That costs about a
//! dozen parses for a head that is refused, and none for others.

use super::error::HttpError;
use super::limits::Limits;

/// Above this length, in bytes, a head is parsed only when its end has come. Otherwise a peer that
/// sends 16 KiB byte by byte would make us parse 128 MiB.
const EAGER_BYTES_MAX: usize = 1024;

/// The versions of HTTP that are supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// HTTP/1.0: the connection ends after one answer unless both sides agree otherwise, and there
    /// are no chunks.
    Http10,
    /// HTTP/1.1.
    Http11,
}

impl Version {
    pub(super) fn of_minor(minor: Option<u8>) -> Version {
        match minor {
            Some(0) => Version::Http10,
            Some(_) | None => Version::Http11,
        }
    }
}

/// The part of the input that a head within the limits may fill.
pub(super) fn window<'b>(input: &'b [u8], limits: &Limits) -> &'b [u8] {
    &input[..input.len().min(limits.head_bytes_max)]
}

/// Whether parsing may find more than that the head is incomplete.
pub(super) fn is_worth_parsing(window: &[u8], limits: &Limits) -> bool {
    window.len() <= EAGER_BYTES_MAX
        || limits.head_bytes_max <= window.len()
        || has_end(window)
        || has_bare_line_feed(window)
}

// The next two are folds without an early exit, so that the compiler makes vector code of them.

fn has_end(bytes: &[u8]) -> bool {
    let triples = bytes
        .iter()
        .zip(bytes.iter().skip(1))
        .zip(bytes.iter().skip(2));
    triples.fold(false, |found, ((a, b), c)| {
        found | (*a == b'\n') & (*b == b'\r') & (*c == b'\n')
    })
}

pub(super) fn has_bare_line_feed(bytes: &[u8]) -> bool {
    let pairs = bytes.iter().zip(bytes.iter().skip(1));
    bytes.first() == Some(&b'\n')
        || pairs.fold(false, |found, (a, b)| found | (*b == b'\n') & (*a != b'\r'))
}

/// The error of the shortest prefix of `window` that has one. `fault` must find one in `window`,
/// and in everything that begins with a prefix in which it finds one.
pub(super) fn first_fault(
    window: &[u8],
    fault: impl Fn(&[u8]) -> Option<HttpError>,
) -> Option<HttpError> {
    let (mut sound, mut faulty) = (0, window.len());
    while sound + 1 < faulty {
        let middle = sound.midpoint(faulty);
        match fault(&window[..middle]) {
            Some(_) => faulty = middle,
            None => sound = middle,
        }
    }
    fault(&window[..faulty])
}

/// Distinguishes a version that is not supported from bytes that are no version. `rest` begins where
/// `httparse` expected a version that it supports.
///
/// RFC 9110, section 2.5, wants HTTP/1.2 to be served as 1.1. `httparse` accepts only the two
/// versions that exist, and its result borrows from the input, in which the version cannot be
/// replaced. Serving 1.2 would need our own parser of first lines, for a version that is not used.
pub(super) fn version_fault(rest: &[u8], malformed: HttpError) -> HttpError {
    let wrong_index = rest
        .iter()
        .zip(b"HTTP/1.1")
        .position(|(given, ours)| given != ours);
    match wrong_index {
        Some(index @ (5 | 7)) if rest[index].is_ascii_digit() => HttpError::UnsupportedVersion,
        Some(_) | None => malformed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_feeds() {
        for (bytes, expected) in [
            (&b""[..], false),
            (b"\n", true),
            (b"\r\n", false),
            (b"a\r\nb\r\n\r\n", false),
            (b"a\nb", true),
            (b"a\r\n\n", true),
            (b"\r\r\n", false),
        ] {
            assert_eq!(has_bare_line_feed(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn ends() {
        for (bytes, expected) in [
            (&b""[..], false),
            (b"\r\n", false),
            (b"a\r\n\r\n", true),
            (b"a\r\n\r\nbody", true),
            (b"a\r\nb\r\n", false),
            (b"a\r\n\r", false),
        ] {
            assert_eq!(has_end(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn the_error_is_that_of_the_shortest_faulty_prefix() {
        let fault = |bytes: &[u8]| {
            let index = bytes.iter().position(|byte| !byte.is_ascii_lowercase())?;
            Some(if bytes[index] == b'1' {
                HttpError::BadChunk
            } else {
                HttpError::BadHost
            })
        };
        assert_eq!(first_fault(b"abc1de2", fault), Some(HttpError::BadChunk));
        assert_eq!(first_fault(b"abc2de1", fault), Some(HttpError::BadHost));
        assert_eq!(first_fault(b"1", fault), Some(HttpError::BadChunk));
    }
}
