//! Paths of files below a folder, from the targets of requests.
//!
//! Each segment is decoded once and is then the name of one file or folder, or the path is refused. A name is
//! never a way to another place, and each file has one spelling but for its percent-encoding: an empty segment is
//! refused too, because a rule of a proxy for `/private/` would not fit `//private/`.
//!
//! This does not look at files. Links are the business of the code that opens the path.

use crate::protocol::split::split;

use super::form::decode_path_strictly;

/// The longest path, in bytes: `PATH_MAX` of Linux.
const PATH_BYTES_MAX: usize = 4096;
/// The longest name of a file, in bytes: `NAME_MAX` of most file systems.
const NAME_BYTES_MAX: usize = 255;

/// The folder that is served although its name begins with a dot. Source: RFC 8615.
const WELL_KNOWN: &str = ".well-known";

/// The path of a file or folder below a folder, without a way out of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelativePath {
    /// Names with slashes between them. Empty for the folder itself.
    path: String,
    /// Whether it ends with a slash, or is the folder itself.
    is_folder: bool,
}

impl RelativePath {
    /// Decodes a path, which begins behind the slash of the folder that is served. `None` where a segment may
    /// lead elsewhere, is hidden, or could not be the name of a file:
    ///
    /// * `.` and `..`, and every name that begins with a dot but `.well-known`;
    /// * a slash, a backslash, a colon on systems that have volumes, or a control character in a segment, each
    ///   encoded or not;
    /// * an empty segment, but for the last one, which is the slash of a folder;
    /// * a percent sign without two hexadecimal digits, and bytes that are not UTF-8;
    /// * a name of more than 255 bytes, or a path of more than 4096.
    pub fn decode(encoded: &str) -> Option<RelativePath> {
        // Decoding makes no path longer, and a path that is long by its encoding alone is no path of ours.
        if 3 * PATH_BYTES_MAX < encoded.len() {
            return None;
        }
        let (segments, is_folder) = match encoded.strip_suffix('/') {
            Some(segments) => (segments, true),
            None => (encoded, encoded.is_empty()),
        };
        let mut path = String::with_capacity(segments.len());
        if !encoded.is_empty() {
            for segment in split(segments, b'/') {
                let name = decode_path_strictly(segment)?;
                if !is_visible_name(&name) {
                    return None;
                }
                if !path.is_empty() {
                    path.push('/');
                }
                path.push_str(&name);
            }
        }
        (path.len() <= PATH_BYTES_MAX).then_some(RelativePath { path, is_folder })
    }

    /// Names with slashes between them, without one at the end. Empty for the folder itself.
    pub fn as_str(&self) -> &str {
        &self.path
    }

    /// Whether a folder is asked for: the path ends with a slash, or is empty.
    pub fn is_folder(&self) -> bool {
        self.is_folder
    }

    /// The path of a file with this name in the folder.
    pub fn join(mut self, name: &str) -> RelativePath {
        if !self.path.is_empty() {
            self.path.push('/');
        }
        self.path.push_str(name);
        self.is_folder = false;
        self
    }
}

fn is_visible_name(name: &str) -> bool {
    let is_separator = |byte| matches!(byte, b'/' | b'\\') || (cfg!(windows) && byte == b':');
    let is_allowed = |byte: u8| !byte.is_ascii_control() && !is_separator(byte);
    // Windows drops them: the file would have two spellings.
    let is_cut = cfg!(windows) && name.ends_with(['.', ' ']);
    !name.is_empty()
        && !is_cut
        && name.len() <= NAME_BYTES_MAX
        && (!name.starts_with('.') || name == WELL_KNOWN)
        && name.bytes().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_files_and_folders() {
        for (encoded, expected, is_folder) in [
            ("", "", true),
            ("a", "a", false),
            ("a/", "a", true),
            ("a/b.html", "a/b.html", false),
            ("a/b/", "a/b", true),
            ("a%20b+c", "a b+c", false),
            ("caf%C3%A9", "caf\u{e9}", false),
            ("a..b", "a..b", false),
            ("a.", "a.", false),
            ("%61", "a", false),
            // Decoded once.
            ("%2561", "%61", false),
            ("%252e%252e%252fetc", "%2e%2e%2fetc", false),
            (
                ".well-known/acme-challenge/x",
                ".well-known/acme-challenge/x",
                false,
            ),
            ("%2Ewell-known/x", ".well-known/x", false),
        ] {
            let path = RelativePath::decode(encoded).expect(encoded);
            assert_eq!(
                (path.as_str(), path.is_folder()),
                (expected, is_folder),
                "{encoded}"
            );
        }
    }

    #[test]
    fn paths_that_lead_elsewhere_or_are_hidden() {
        for encoded in [
            "/",
            "//",
            "/a",
            "a//b",
            "a//",
            ".",
            "..",
            "./",
            "../",
            "../etc/passwd",
            "a/..",
            "a/../b",
            "a/./b",
            "...",
            "%2e",
            "%2e%2e",
            "%2E%2E/etc/passwd",
            ".%2e/x",
            "%2e./x",
            "a/%2e%2e/%2e%2e/etc/passwd",
            "%2fetc/passwd",
            "a%2fb",
            "a%2F..%2Fb",
            "..%2f..%2fetc",
            "a\\b",
            "..\\windows",
            "%5c",
            "..%5c..%5cwindows",
            "a%00",
            "a%00.html",
            "%00",
            "a%0ab",
            "a%7f",
            "a%1b",
            ".git/config",
            "a/.env",
            ".htaccess",
            "%2egit/config",
            ".well-known/.git",
            ".well-knownx",
            ".WELL-KNOWN/x",
            // Over-long UTF-8 for `..` and `/`, and other bytes that are no text.
            "%c0%ae%c0%ae/etc",
            "%c0%af",
            "%e0%80%af",
            "%ff",
            "%u002e",
            "%",
            "a%2",
            "a%zz",
            "100%",
        ] {
            assert_eq!(RelativePath::decode(encoded), None, "{encoded}");
        }
    }

    #[test]
    fn no_path_leads_elsewhere_however_it_is_made() {
        const PARTS: [&str; 9] = ["/", ".", "%2e", "%2F", "\\", "%5c", "a", "%00", "%25"];
        let mut accepted = 0;
        for number in 0..PARTS.len().pow(5) {
            let mut rest = number;
            let mut encoded = String::new();
            for _ in 0..5 {
                encoded.push_str(PARTS[rest % PARTS.len()]);
                rest /= PARTS.len();
            }
            let Some(path) = RelativePath::decode(&encoded) else {
                continue;
            };
            accepted += 1;
            for name in path.as_str().split('/') {
                let is_name = !name.is_empty() && !name.starts_with('.');
                assert!(is_name && !name.contains(['\\', '\0']), "{encoded}");
            }
        }
        assert_ne!(accepted, 0);
    }

    #[test]
    fn long_paths() {
        let longest_name = "a".repeat(NAME_BYTES_MAX);
        assert!(RelativePath::decode(&longest_name).is_some());
        assert!(RelativePath::decode(&"%61".repeat(NAME_BYTES_MAX)).is_some());
        assert_eq!(RelativePath::decode(&"a".repeat(NAME_BYTES_MAX + 1)), None);
        assert_eq!(
            RelativePath::decode(&"%61".repeat(NAME_BYTES_MAX + 1)),
            None
        );
        let of_bytes = |bytes: usize| "a/".repeat(bytes / 2) + &"b".repeat(bytes % 2);
        assert!(RelativePath::decode(&of_bytes(PATH_BYTES_MAX)).is_some());
        assert_eq!(RelativePath::decode(&of_bytes(PATH_BYTES_MAX + 3)), None);
        assert_eq!(RelativePath::decode(&"a/".repeat(100_000)), None);
    }

    #[test]
    fn index_files() {
        for (encoded, expected) in [("", "index.html"), ("a/b/", "a/b/index.html")] {
            let path = RelativePath::decode(encoded).unwrap().join("index.html");
            assert_eq!((path.as_str(), path.is_folder()), (expected, false));
        }
    }
}
