//! Splitting of short texts at an ASCII character.
//!
//! `str::split` and `str::split_once` prepare a search that pays for itself in long texts. In a path or a
//! query of 20 bytes, a look at each byte is done earlier.

/// The parts before and after the first `separator`; `None` where there is none.
pub fn split_once(text: &str, separator: u8) -> Option<(&str, &str)> {
    debug_assert!(separator.is_ascii());
    let index = text.bytes().position(|byte| byte == separator)?;
    Some((&text[..index], &text[index + 1..]))
}

/// The parts between all `separator`s, empty ones included. There is always one.
pub fn split(text: &str, separator: u8) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let (part, after) = match split_once(text, separator) {
            Some((part, after)) => (part, Some(after)),
            None => (text, None),
        };
        rest = after;
        Some(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_split_as_the_standard_library_splits_them() {
        for text in [
            "",
            "a",
            "=",
            "a=b",
            "=b",
            "a=",
            "==",
            "caf\u{e9}=\u{1F600}==",
        ] {
            assert_eq!(split_once(text, b'='), text.split_once('='), "{text}");
            let parts: Vec<_> = split(text, b'=').collect();
            assert_eq!(parts, text.split('=').collect::<Vec<_>>(), "{text}");
        }
    }
}
