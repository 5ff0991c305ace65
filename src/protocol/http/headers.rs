//! Header lines as they were received, and look-ups by name.

use std::fmt;
use std::mem::MaybeUninit;

/// Most header lines that a [`HeaderStorage`] has room for.
pub const HEADER_LINES_MAX: usize = 128;

/// Stands for a value that is not UTF-8. The header counts as present, and its value is equal to no
/// value that a caller compares it with.
const NOT_TEXT: &str = "\u{FFFD}";

/// Room on the stack for the lines of one head, uninitialised and thus free to create.
pub struct HeaderStorage<'b>([MaybeUninit<httparse::Header<'b>>; HEADER_LINES_MAX]);

impl<'b> HeaderStorage<'b> {
    /// Empty room.
    #[inline]
    pub fn new() -> HeaderStorage<'b> {
        HeaderStorage([const { MaybeUninit::uninit() }; HEADER_LINES_MAX])
    }

    pub(super) fn lines(&mut self, max: usize) -> &mut [MaybeUninit<httparse::Header<'b>>] {
        &mut self.0[..max.min(HEADER_LINES_MAX)]
    }
}

impl Default for HeaderStorage<'_> {
    fn default() -> Self {
        HeaderStorage::new()
    }
}

impl fmt::Debug for HeaderStorage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HeaderStorage")
    }
}

/// The header lines of one head, in the order they came. Names are compared without case.
#[derive(Clone, Copy, Debug, Default)]
pub struct Headers<'h>(pub(super) &'h [httparse::Header<'h>]);

impl<'h> Headers<'h> {
    /// The value of the first line with a name, without the space around it.
    ///
    /// A value that is not UTF-8 is returned as `"\u{FFFD}"`, so that a check which lets a request
    /// without this header pass does not treat it as absent. [`iter`](Self::iter) has its bytes.
    pub fn first(self, name: &str) -> Option<&'h str> {
        self.first_bytes(name).map(text)
    }

    /// The value of the first line with a name, as it was received, without the space around it.
    pub fn first_bytes(self, name: &str) -> Option<&'h [u8]> {
        self.0
            .iter()
            .find(|line| line.name.eq_ignore_ascii_case(name))
            .map(|line| line.value)
    }

    /// The values of all lines with a name; see [`first`](Self::first).
    pub fn all<'n>(self, name: &'n str) -> impl Iterator<Item = &'h str> + use<'h, 'n> {
        let lines = self
            .0
            .iter()
            .filter(move |line| line.name.eq_ignore_ascii_case(name));
        lines.map(|line| text(line.value))
    }

    /// The elements of a comma-separated list, which may be spread over many lines, without empty
    /// elements. Source: RFC 9110, section 5.6.1.
    pub fn elements<'n>(self, name: &'n str) -> impl Iterator<Item = &'h str> + use<'h, 'n> {
        self.all(name)
            .flat_map(|value| value.split(','))
            .map(trim)
            .filter(|item| !item.is_empty())
    }

    /// Whether a comma-separated list has an element, compared without case.
    pub fn has_token(self, name: &str, token: &str) -> bool {
        self.elements(name)
            .any(|element| element.eq_ignore_ascii_case(token))
    }

    /// Whether there is a line with a name.
    pub fn contains(self, name: &str) -> bool {
        self.0
            .iter()
            .any(|line| line.name.eq_ignore_ascii_case(name))
    }

    /// Names and values of all lines, as they were received.
    pub fn iter(self) -> impl Iterator<Item = (&'h str, &'h [u8])> {
        self.0.iter().map(|line| (line.name, line.value))
    }

    /// How many lines there are.
    pub fn len(self) -> usize {
        self.0.len()
    }

    /// Whether there is no line.
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }
}

fn text(value: &[u8]) -> &str {
    str::from_utf8(value).unwrap_or(NOT_TEXT)
}

/// The element without optional white space around it. `str::trim` would remove more kinds of space
/// than HTTP allows.
pub(super) fn trim(element: &str) -> &str {
    element.trim_matches([' ', '\t'])
}

/// Whether this is a token, which is not empty. Source: RFC 9110, section 5.6.2.
pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| TOKEN_BYTES[usize::from(*byte)])
}

/// For each byte, whether a token may have it. One look-up replaces the comparisons of
/// [`is_token_byte`].
static TOKEN_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < table.len() {
        table[byte] = is_token_byte(byte as u8);
        byte += 1;
    }
    table
};

pub(super) const fn is_token_byte(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'!' | b'#' | b'$' | b'%' | b'&'
        | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~')
}

/// Whether these bytes may be the value of a header.
pub(super) fn is_value(bytes: &[u8]) -> bool {
    // Without an early exit, so that the compiler makes vector code of it.
    let is_allowed = |allowed, byte: &u8| allowed & is_value_byte(*byte);
    bytes.iter().fold(true, is_allowed)
}

/// Visible, blank, or above ASCII. Source: RFC 9110, section 5.5.
pub(super) fn is_value_byte(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines() -> Vec<httparse::Header<'static>> {
        [
            ("Host", &b"example.org"[..]),
            ("Connection", b"keep-alive, Upgrade"),
            ("X-List", b"a,, b ,"),
            ("x-list", b"\tc"),
            ("X-Latin", b"caf\xe9"),
            ("X-Empty", b""),
        ]
        .map(|(name, value)| httparse::Header { name, value })
        .to_vec()
    }

    #[test]
    fn names_are_compared_without_case() {
        let lines = lines();
        let headers = Headers(&lines);
        assert_eq!(headers.first("HOST"), Some("example.org"));
        assert_eq!(headers.first("hos"), None);
        assert_eq!(headers.first("x-empty"), Some(""));
        assert!(headers.contains("x-EMPTY"));
        assert!(!headers.contains("x-absent"));
        assert_eq!(
            headers.all("X-LIST").collect::<Vec<_>>(),
            ["a,, b ,", "\tc"]
        );
        assert_eq!(headers.len(), 6);
        assert_eq!(headers.iter().nth(4), Some(("X-Latin", &b"caf\xe9"[..])));
    }

    #[test]
    fn a_list_may_span_several_lines() {
        let lines = lines();
        let headers = Headers(&lines);
        assert_eq!(
            headers.elements("x-list").collect::<Vec<_>>(),
            ["a", "b", "c"]
        );
        assert!(headers.has_token("connection", "upgrade"));
        assert!(!headers.has_token("connection", "grade"));
        assert!(!headers.has_token("x-empty", ""));
    }

    #[test]
    fn a_value_that_is_not_utf8_counts_as_present() {
        let lines = lines();
        let headers = Headers(&lines);
        assert_eq!(headers.first("x-latin"), Some("\u{FFFD}"));
        assert_eq!(headers.first_bytes("x-latin"), Some(&b"caf\xe9"[..]));
        assert!(headers.contains("x-latin"));
    }

    #[test]
    fn tokens() {
        for token in ["a", "Content-Length", "!#$%&'*+-.^_`|~09"] {
            assert!(is_token(token.as_bytes()), "{token}");
        }
        for other in ["", "a b", "a:", "a\r\n", "\u{e9}", "a/b", "(a)"] {
            assert!(!is_token(other.as_bytes()), "{other}");
        }
    }
}
