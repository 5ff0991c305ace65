//! Topics: texts that are often IRIs.

use std::error::Error;
use std::fmt;

use crate::protocol::http::form;

use super::PATH;

/// The longest topic and the longest selector, in bytes.
pub const TOPIC_BYTES_MAX: usize = 1024;

/// Characters that are invisible: those of the general category Cf.
///
/// Source: Unicode 16.0, `DerivedGeneralCategory.txt`.
const FORMAT_CHARACTERS: [(char, char); 21] = [
    ('\u{ad}', '\u{ad}'),
    ('\u{600}', '\u{605}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{6dd}', '\u{6dd}'),
    ('\u{70f}', '\u{70f}'),
    ('\u{890}', '\u{891}'),
    ('\u{8e2}', '\u{8e2}'),
    ('\u{180e}', '\u{180e}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{202a}', '\u{202e}'),
    ('\u{2060}', '\u{2064}'),
    ('\u{2066}', '\u{206f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{fff9}', '\u{fffb}'),
    ('\u{110bd}', '\u{110bd}'),
    ('\u{110cd}', '\u{110cd}'),
    ('\u{13430}', '\u{1343f}'),
    ('\u{1bca0}', '\u{1bca3}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{e0001}', '\u{e0001}'),
    ('\u{e0020}', '\u{e007f}'),
];

/// Why a text cannot be a topic or a selector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TopicError {
    /// It is empty.
    Empty,
    /// It is above [`TOPIC_BYTES_MAX`].
    TooLong {
        /// Its length, in bytes.
        bytes: usize,
    },
    /// It has a control character, or one that is invisible.
    Character,
}

impl fmt::Display for TopicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TopicError::Empty => f.write_str("expected at least one character"),
            TopicError::TooLong { bytes } => {
                write!(f, "expected at most {TOPIC_BYTES_MAX} bytes, got {bytes}")
            }
            TopicError::Character => {
                f.write_str("expected no control characters and no invisible ones")
            }
        }
    }
}

impl Error for TopicError {}

/// Checks a topic or a selector.
///
/// # Errors
///
/// [`TopicError`].
///
/// Source: draft-dunglas-mercure-08, section 2.
pub fn check(text: &str) -> Result<(), TopicError> {
    if text.is_empty() {
        return Err(TopicError::Empty);
    }
    if TOPIC_BYTES_MAX < text.len() {
        return Err(TopicError::TooLong { bytes: text.len() });
    }
    match is_visible(text) {
        true => Ok(()),
        false => Err(TopicError::Character),
    }
}

/// Whether a text has no control characters and no invisible ones.
pub fn is_visible(text: &str) -> bool {
    let is_format = |it: char| {
        let mut ranges = FORMAT_CHARACTERS.iter();
        ranges.any(|(first, last)| (first..=last).contains(&&it))
    };
    text.is_ascii() && !text.bytes().any(|it| it.is_ascii_control())
        || !text.chars().any(|it| it.is_control() || is_format(it))
}

/// Whether a topic is in the namespace of the hub itself, on whatever host: resolved against the URL of the hub, its path is
/// [`PATH`] or below it.
///
/// Source: draft-dunglas-mercure-08, section 5; WHATWG URL, section 4.4.
pub fn is_reserved(topic: &str) -> bool {
    // A browser takes a backslash for a slash, and leaves out spaces around a URL.
    let topic = topic.trim_matches(' ').replace('\\', "/");
    let (scheme, rest) = match topic.split_once(':') {
        Some((scheme, rest)) if is_scheme(scheme) => (Some(scheme), rest),
        _ => (None, &*topic),
    };
    let end = rest.find(['?', '#']).unwrap_or(rest.len());
    let mut path = &rest[..end];
    let slashes = path.bytes().take_while(|byte| *byte == b'/').count();
    if 2 <= slashes {
        let authority = &path[slashes..];
        path = authority.find('/').map_or("/", |begin| &authority[begin..]);
    }
    let mut segments: Vec<String> = Vec::new();
    if slashes == 0 {
        let is_web = |it: &str| it.eq_ignore_ascii_case("http") || it.eq_ignore_ascii_case("https");
        match (scheme, path) {
            // A text such as `urn:mercure` has no path of segments.
            (Some(scheme), _) if !is_web(scheme) => return false,
            // A query or a fragment of the hub's own URL.
            (_, "") => return true,
            // Relative to the path of the hub, whose last segment it replaces.
            _ => segments.push(".well-known".to_owned()),
        }
    }
    for segment in path.split('/') {
        // A segment that is not UTF-8 is none of the hub's.
        let segment = form::decode_path(segment).unwrap_or("%".into());
        match &*segment {
            "" | "." => {}
            ".." => _ = segments.pop(),
            other => segments.push(other.to_owned()),
        }
    }
    let mut own = PATH.split('/').filter(|it| !it.is_empty());
    let mut segments = segments.iter();
    own.all(|it| segments.next().is_some_and(|segment| segment == it))
}

/// Source: RFC 3986, section 3.1.
fn is_scheme(text: &str) -> bool {
    let is_letter = |it: u8| it.is_ascii_alphanumeric() || b"+-.".contains(&it);
    text.starts_with(|it: char| it.is_ascii_alphabetic()) && text.bytes().all(is_letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_can_be_topics() {
        for good in [
            "a",
            "https://example.com/books/1?page=2#x",
            "/books/é/日本",
            "a b",
            "*",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        let long = "x".repeat(TOPIC_BYTES_MAX);
        assert_eq!(check(&long), Ok(()));
        let too_long = format!("{long}x");
        let bytes = TOPIC_BYTES_MAX + 1;
        assert_eq!(check(&too_long), Err(TopicError::TooLong { bytes }));
        assert_eq!(check(""), Err(TopicError::Empty));
        for bad in [
            "a\nb",
            "\0",
            "a\u{7f}",
            "a\u{85}",
            "a\u{200b}",
            "\u{202e}a",
            "\u{feff}",
            "\u{e0041}",
            "é\u{ad}",
        ] {
            assert_eq!(check(bad), Err(TopicError::Character), "{bad:?}");
        }
    }

    #[test]
    fn the_namespace_of_the_hub() {
        for reserved in [
            "/.well-known/mercure",
            "/.well-known/mercure/",
            "/.well-known/mercure/subscriptions/a/b",
            "https://other.example/.well-known/mercure/subscriptions",
            "https://other.example/.well-known/mercure?x=1",
            "//other.example/.well-known/mercure#x",
            "/.well-known/%6Dercure/x",
            "/%2Ewell-known/mercure/x",
            "/.well-known/mercure/../mercure/x",
            "/a/../.well-known/./mercure/x",
            "/a/%2e%2e/.well-known/mercure",
            "https:/\\host/.well-known\\mercure",
            " /.well-known/mercure",
            "mercure/subscriptions/a/b",
            "./mercure",
            "mercure",
            "https:mercure",
            "?page=1",
            "#a",
            "urn:/.well-known/mercure",
        ] {
            assert!(is_reserved(reserved), "{reserved}");
        }
        for free in [
            "mercure-news",
            "/.well-known/mercure-news",
            "/.well-known/other",
            "/well-known/mercure",
            "https://example.com/books/1",
            "https://example.com/?x=/.well-known/mercure",
            "https://example.com/a/.well-known/mercure",
            "https://example.com",
            "https://example.com?page=1",
            "urn:mercure",
            "urn:mercure:1",
            "did:example:#a",
            "/%FF/.well-known/mercure",
            "books",
            "/",
        ] {
            assert!(!is_reserved(free), "{free}");
        }
    }
}
