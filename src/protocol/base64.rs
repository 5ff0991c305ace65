//! Base64 with padding.
//!
//! Source: RFC 4648, section 4.

/// The bytes in base64.
pub(crate) fn to_base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let at = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for digit in 0..4 {
            text.push(if digit > group.len() {
                '='
            } else {
                char::from(DIGITS[(bits >> (18 - 6 * digit)) as usize & 63])
            });
        }
    }
    text
}

/// The bytes that a text in base64 stands for, in its own alphabet or that for URLs, with or without padding. `None` for
/// another text.
///
/// Source: RFC 4648, sections 4 and 5.
#[cfg(feature = "cable")]
pub(crate) fn from_base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    if 2 < text.len() - digits.len() {
        return None;
    }
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    let (mut bits, mut bit_count) = (0_u32, 0);
    for digit in digits.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        bit_count += 6;
        if 8 <= bit_count {
            bit_count -= 8;
            bytes.push((bits >> bit_count) as u8);
            bits &= (1 << bit_count) - 1;
        }
    }
    // Six bits that are left are a digit too many.
    (bit_count < 6).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64() {
        // Source: RFC 4648, section 10.
        let cases = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (bytes, text) in cases {
            assert_eq!(to_base64(bytes.as_bytes()), text);
            #[cfg(feature = "cable")]
            for text in [text, text.trim_end_matches('=')] {
                assert_eq!(from_base64(text).as_deref(), Some(bytes.as_bytes()));
            }
        }
        assert_eq!(to_base64(&[0xfb, 0xff, 0xfe]), "+//+");
        #[cfg(feature = "cable")]
        for (text, expected) in [
            ("+//+", Some(&[0xfb, 0xff, 0xfe][..])),
            ("-__-", Some(&[0xfb, 0xff, 0xfe])),
            ("A", None),
            ("AA===", None),
            ("A=A", None),
            ("A\n", None),
            ("ä", None),
        ] {
            assert_eq!(from_base64(text).as_deref(), expected, "{text}");
        }
    }
}
