//! What request and response heads have in common: where they end, and which byte spoils them.
//!
//! `httparse` reads a head in one go and with SIMD, and is a little lenient: it takes a bare line
//! feed for a line end. So every head that it accepts is looked through once more.
//!
//! A head that cannot be one is refused as soon as it is seen, which may be before its end came.
//! Whether that is so, and with which error, must not depend on how the bytes were cut: a parser
//! that sees all at once could find a later fault first. [`first_fault`] looks for the shortest
//! prefix that is at fault, which is the one that a reader byte by byte would have met. That costs
//! a dozen parses for a head that is refused, and nothing for others.

use super::Limits;
use super::error::HttpError;

/// Above this length, in bytes, a head is parsed only when its end is there. A peer that sends
/// 16 KiB byte by byte would otherwise have us parse 128 MiB.
const EAGER_BYTES_MAX: usize = 1024;

/// The versions that are spoken here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// HTTP/1.0: closes unless asked to stay, knows no chunks.
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

/// The bytes that a head may take.
pub(super) fn window<'b>(input: &'b [u8], limits: &Limits) -> &'b [u8] {
    &input[..input.len().min(limits.head_bytes_max)]
}

/// Whether parsing can tell anything yet, other than that the head is incomplete.
pub(super) fn is_worth_parsing(window: &[u8], limits: &Limits) -> bool {
    window.len() <= EAGER_BYTES_MAX
        || limits.head_bytes_max <= window.len()
        || has_end(window)
        || has_bare_line_feed(window)
}

// Both are folds without an early exit, so that the compiler makes them vector code.

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

/// Tells a version that we do not speak from something that is no version. `rest` is where
/// `httparse` expected one of ours.
///
/// RFC 9110, section 2.5, would have HTTP/1.2 served as 1.1. `httparse` takes the two versions that
/// there are and no other, and what it lends borrows from the input, in which the version cannot be
/// changed; so that would need a parser of first lines of our own, for a version that nobody speaks.
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
    fn the_earliest_fault_is_reported() {
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
