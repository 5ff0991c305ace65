//! Entity tags: names for the states of a resource, and lists of them in conditional requests.
//!
//! Source: RFC 9110, section 8.8.3.

use std::fmt;

use super::headers::trim;

/// An entity tag. A *strong* tag stands for the same bytes; a weak one for a state that is as good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityTag {
    is_weak: bool,
    opaque: String,
}

/// The facts about a file from which its entity tag is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileState {
    /// The length in bytes.
    pub length_bytes: u64,
    /// The time of the last modification, in nanoseconds since 1970. Negative before that.
    pub modified_nanos: i128,
    /// The number of the file in its file system, 0 where there is none. A file that takes the place of another
    /// by a rename may have the length and the time of that file.
    pub inode: u64,
}

/// A file that was modified less than this ago, in nanoseconds, may be modified again with the same time: some
/// file systems keep times in steps of two seconds.
const SETTLED_NANOS: i128 = 2_000_000_000;

impl EntityTag {
    /// The tag of a file, at a time in nanoseconds since 1970. It is weak while the file may change without a new
    /// time of modification.
    ///
    /// Source: RFC 9110, section 8.8.1.
    pub fn of_file(file: FileState, now_nanos: i128) -> EntityTag {
        let FileState {
            length_bytes,
            modified_nanos,
            inode,
        } = file;
        EntityTag {
            is_weak: now_nanos < modified_nanos + SETTLED_NANOS,
            opaque: format!("{inode:x}-{length_bytes:x}-{modified_nanos:x}"),
        }
    }

    /// Parses a single tag. `None` for anything else.
    pub fn parse(text: &str) -> Option<EntityTag> {
        match ReceivedTag::parse_front(trim(text)) {
            Some((tag, "")) => Some(EntityTag {
                is_weak: tag.is_weak,
                opaque: tag.opaque.to_owned(),
            }),
            Some(_) | None => None,
        }
    }

    /// Whether it stands for a state that is as good, and not for the same bytes.
    pub fn is_weak(&self) -> bool {
        self.is_weak
    }

    /// Whether both stand for the same bytes. Source: RFC 9110, section 8.8.3.2.
    pub fn is_strongly(&self, other: &EntityTag) -> bool {
        self.as_received().is_strongly(other)
    }

    fn as_received(&self) -> ReceivedTag<'_> {
        ReceivedTag {
            is_weak: self.is_weak,
            opaque: &self.opaque,
        }
    }
}

/// An entity tag in a header.
#[derive(Clone, Copy)]
struct ReceivedTag<'h> {
    is_weak: bool,
    opaque: &'h str,
}

impl<'h> ReceivedTag<'h> {
    /// The tag at the front of `text`, and the text behind it. `None` where it begins with no tag.
    fn parse_front(text: &'h str) -> Option<(ReceivedTag<'h>, &'h str)> {
        let (is_weak, rest) = match text.strip_prefix("W/") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (opaque, rest) = rest.strip_prefix('"')?.split_once('"')?;
        let is_allowed = |byte| matches!(byte, 0x21..=0x7e | 0x80..);
        let is_tag = opaque.bytes().all(is_allowed);
        is_tag.then_some((ReceivedTag { is_weak, opaque }, rest))
    }

    fn is_strongly(self, other: &EntityTag) -> bool {
        !self.is_weak && !other.is_weak && self.opaque == other.opaque
    }

    fn is_weakly(self, other: &EntityTag) -> bool {
        self.opaque == other.opaque
    }
}

/// Writes the tag as in a header: `"abc"`, `W/"abc"`.
impl fmt::Display for EntityTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = if self.is_weak { "W/" } else { "" };
        write!(f, "{prefix}\"{}\"", self.opaque)
    }
}

/// The value of `If-Match` and `If-None-Match`.
///
/// A list is kept as it came, and read when it is compared: a client may send thousands of short tags, and a value
/// for each would take ten times the memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntityTags {
    /// `*`: any state, as long as there is one.
    Any,
    /// One of these: the lines of the header, with line feeds between them.
    Listed(String),
}

impl EntityTags {
    /// Takes the lines of one header.
    pub fn parse<'h>(lines: impl Iterator<Item = &'h str>) -> EntityTags {
        let mut list = String::new();
        for line in lines {
            if trim(line) == "*" {
                return EntityTags::Any;
            }
            list.push_str(line);
            list.push('\n');
        }
        EntityTags::Listed(list)
    }

    /// Whether one of them stands for the same bytes as `tag`. Source: RFC 9110, section 8.8.3.2.
    pub fn has_strongly(&self, tag: &EntityTag) -> bool {
        match self {
            EntityTags::Any => true,
            EntityTags::Listed(list) => tags_of(list).any(|listed| listed.is_strongly(tag)),
        }
    }

    /// Whether one of them stands for a state that is as good. Source: RFC 9110, section 8.8.3.2.
    pub fn has_weakly(&self, tag: &EntityTag) -> bool {
        match self {
            EntityTags::Any => true,
            EntityTags::Listed(list) => tags_of(list).any(|listed| listed.is_weakly(tag)),
        }
    }
}

/// The tags of several lines.
fn tags_of(list: &str) -> impl Iterator<Item = ReceivedTag<'_>> {
    list.lines().flat_map(tags_of_line)
}

/// The tags of a line, which ends at the first element that is none: a quotation mark may be missing there, and the
/// commas behind it be within a tag.
fn tags_of_line(line: &str) -> impl Iterator<Item = ReceivedTag<'_>> {
    let mut rest = line;
    std::iter::from_fn(move || {
        let text = rest.trim_start_matches([' ', '\t', ',']);
        let (tag, after) = ReceivedTag::parse_front(text)?;
        rest = after.trim_start_matches([' ', '\t']);
        (rest.is_empty() || rest.starts_with(',')).then_some(tag)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: FileState = FileState {
        length_bytes: 0x1000,
        modified_nanos: 1_000_000_000_000_000_000,
        inode: 0xabc,
    };

    #[test]
    fn each_fact_about_a_file_changes_its_tag() {
        let later = FILE.modified_nanos + SETTLED_NANOS;
        let tag = EntityTag::of_file(FILE, later);
        assert_eq!(tag.to_string(), "\"abc-1000-de0b6b3a7640000\"");
        for other in [
            FileState {
                length_bytes: 0x1001,
                ..FILE
            },
            FileState {
                modified_nanos: FILE.modified_nanos + 1,
                ..FILE
            },
            FileState { inode: 1, ..FILE },
        ] {
            let other = EntityTag::of_file(other, later + 1);
            assert!(!tag.as_received().is_weakly(&other), "{other}");
        }
    }

    #[test]
    fn the_tag_of_a_file_that_was_modified_just_now_is_weak() {
        let at = |nanos| EntityTag::of_file(FILE, FILE.modified_nanos + nanos);
        let settled = at(SETTLED_NANOS);
        for (nanos, is_weak) in [
            (-1, true),
            (0, true),
            (SETTLED_NANOS - 1, true),
            (SETTLED_NANOS, false),
        ] {
            assert_eq!(at(nanos).to_string().starts_with("W/"), is_weak, "{nanos}");
            assert_eq!(at(nanos).is_strongly(&settled), !is_weak, "{nanos}");
            assert!(at(nanos).as_received().is_weakly(&settled), "{nanos}");
        }
        let before_1970 = FileState {
            modified_nanos: -1,
            ..FILE
        };
        let tag = EntityTag::of_file(before_1970, 0).to_string();
        assert_eq!(EntityTag::parse(&tag).unwrap().to_string(), tag);
    }

    #[test]
    fn single_tags() {
        for (text, expected) in [
            ("\"a\"", Some("\"a\"")),
            ("W/\"a\"", Some("W/\"a\"")),
            (" \"\"\t", Some("\"\"")),
            ("\"a,b\"", Some("\"a,b\"")),
            ("\"caf\u{e9}\"", Some("\"caf\u{e9}\"")),
            ("w/\"a\"", None),
            ("a", None),
            ("\"a", None),
            ("\"a\"b", None),
            ("\"a b\"", None),
            ("\"a\", \"b\"", None),
            ("*", None),
            ("", None),
        ] {
            let tag = EntityTag::parse(text).map(|tag| tag.to_string());
            assert_eq!(tag.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn lists_of_tags() {
        let cases: &[(&[&str], Option<&[&str]>)] = &[
            (&["*"], None),
            (&["\"a\"", " * "], None),
            (&["\"a\""], Some(&["\"a\""])),
            (
                &["\"a\", W/\"b\"", "\"c\""],
                Some(&["\"a\"", "W/\"b\"", "\"c\""]),
            ),
            (&[",, \"a\" ,, \"b,c\" ,"], Some(&["\"a\"", "\"b,c\""])),
            (&["\"a\" \"b\""], Some(&[])),
            (&["\"a\", b, \"c\""], Some(&["\"a\""])),
            (&["a"], Some(&[])),
            (&["\u{FFFD}"], Some(&[])),
            (&[""], Some(&[])),
        ];
        for (lines, expected) in cases {
            let parsed = EntityTags::parse(lines.iter().copied());
            let tags: Option<Vec<String>> = match &parsed {
                EntityTags::Any => None,
                EntityTags::Listed(list) => Some(
                    tags_of(list)
                        .map(|tag| {
                            format!("{}\"{}\"", if tag.is_weak { "W/" } else { "" }, tag.opaque)
                        })
                        .collect(),
                ),
            };
            let expected: Option<Vec<String>> =
                expected.map(|tags| tags.iter().map(|tag| (*tag).to_owned()).collect());
            assert_eq!(tags, expected, "{lines:?}");
        }
    }

    #[test]
    fn comparison_is_that_of_the_rfc() {
        // The table of RFC 9110, section 8.8.3.2.
        for (one, other, strong, weak) in [
            ("W/\"1\"", "W/\"1\"", false, true),
            ("W/\"1\"", "W/\"2\"", false, false),
            ("W/\"1\"", "\"1\"", false, true),
            ("\"1\"", "\"1\"", true, true),
        ] {
            let tag = EntityTag::parse(one).unwrap();
            let listed = EntityTags::parse([other].into_iter());
            assert_eq!(listed.has_strongly(&tag), strong, "{one} {other}");
            assert_eq!(listed.has_weakly(&tag), weak, "{one} {other}");
        }
        let tag = EntityTag::parse("W/\"1\"").unwrap();
        assert!(EntityTags::Any.has_strongly(&tag));
    }
}
