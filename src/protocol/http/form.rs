//! Queries, form bodies and paths: percent-encoding.
//!
//! Source: RFC 3986, section 2.1; WHATWG URL, section 5 (`application/x-www-form-urlencoded`).

use std::borrow::Cow;

use crate::protocol::split::{split, split_once};

/// The first value with a name in a query or form body, decoded. `None` where it is absent, or is
/// not UTF-8 when decoded.
pub fn value<'h>(encoded: &'h str, name: &str) -> Option<Cow<'h, str>> {
    pairs(encoded).find_map(|(key, value)| (key == name).then_some(value))
}

/// Names and values of a query or form body, decoded, in their order. A pair that is not UTF-8
/// when decoded is left out.
pub fn pairs(encoded: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    try_pairs(encoded).flatten()
}

/// As [`pairs`], with `None` in place of a pair that is not UTF-8 when decoded.
pub fn try_pairs(encoded: &str) -> impl Iterator<Item = Option<(Cow<'_, str>, Cow<'_, str>)>> {
    split(encoded, b'&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = split_once(pair, b'=').unwrap_or((pair, ""));
            Some((decode_component(name)?, decode_component(value)?))
        })
}

/// Decodes a name or value of a query or form, where `+` is a space. A percent sign without two
/// hexadecimal digits stands for itself. `None` where the result is not UTF-8.
pub fn decode_component(encoded: &str) -> Option<Cow<'_, str>> {
    decode(encoded, true)
}

/// Decodes a path or a segment of one, where `+` is a plus sign; otherwise as [`decode_component`].
pub fn decode_path(encoded: &str) -> Option<Cow<'_, str>> {
    decode(encoded, false)
}

/// As [`decode_path`], but `None` where a percent sign has not two hexadecimal digits.
pub(super) fn decode_path_strictly(encoded: &str) -> Option<Cow<'_, str>> {
    let mut signs = encoded.split('%').skip(1);
    let is_digit = |byte: &u8| digit(*byte).is_some();
    let is_encoding = |after: &str| match after.as_bytes() {
        [high, low, ..] => is_digit(high) && is_digit(low),
        _ => false,
    };
    signs.all(is_encoding).then(|| decode(encoded, false))?
}

fn decode(encoded: &str, plus_is_space: bool) -> Option<Cow<'_, str>> {
    let is_literal = |byte| byte != b'%' && (byte != b'+' || !plus_is_space);
    if encoded.bytes().all(is_literal) {
        return Some(Cow::Borrowed(encoded));
    }
    let mut decoded = Vec::with_capacity(encoded.len());
    let mut rest = encoded.as_bytes();
    while let [first, after @ ..] = rest {
        let (byte, after) = match (first, after) {
            (b'%', [high, low, after @ ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => (high * 16 + low, after),
                _ => (b'%', &rest[1..]),
            },
            (b'+', after) if plus_is_space => (b' ', after),
            (byte, after) => (*byte, after),
        };
        decoded.push(byte);
        rest = after;
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

/// Encodes text as a name or value of a query or form, or as a path segment: each byte becomes
/// `%XX`, except letters, digits and `-._~`.
pub fn encode_component(text: &str) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(byte.into());
            }
            _ => encoded.extend([
                '%',
                DIGITS[usize::from(byte >> 4)].into(),
                DIGITS[usize::from(byte & 15)].into(),
            ]),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components() {
        let cases: &[(&str, Option<&str>, Option<&str>)] = &[
            ("", Some(""), Some("")),
            ("abc", Some("abc"), Some("abc")),
            ("a+b", Some("a b"), Some("a+b")),
            ("a%20b", Some("a b"), Some("a b")),
            ("%C3%a9", Some("\u{e9}"), Some("\u{e9}")),
            ("%zz%", Some("%zz%"), Some("%zz%")),
            ("%2", Some("%2"), Some("%2")),
            ("%%41", Some("%A"), Some("%A")),
            ("%ff", None, None),
        ];
        for (encoded, component, path) in cases {
            assert_eq!(
                decode_component(encoded).as_deref(),
                *component,
                "{encoded}"
            );
            assert_eq!(decode_path(encoded).as_deref(), *path, "{encoded}");
        }
    }

    #[test]
    fn queries() {
        let query = "topic=a&topic=b%2A&&flag&=x&bad=%ff&e==";
        let all: Vec<(String, String)> = pairs(query)
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect();
        let expected = [
            ("topic", "a"),
            ("topic", "b*"),
            ("flag", ""),
            ("", "x"),
            ("e", "="),
        ];
        assert_eq!(
            all,
            expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
        assert_eq!(value(query, "topic").as_deref(), Some("a"));
        assert_eq!(value(query, "bad"), None);
        assert_eq!(value("", "topic"), None);
    }

    #[test]
    fn encoded_components_decode_to_the_same_text() {
        for text in ["", "plain", "a b&c=d", "\u{e9}\u{1F600}%+", "/?#"] {
            let encoded = encode_component(text);
            assert!(encoded.bytes().all(|byte| byte.is_ascii_graphic()));
            assert_eq!(decode_component(&encoded).as_deref(), Some(text));
            assert_eq!(decode_path(&encoded).as_deref(), Some(text));
        }
    }
}
