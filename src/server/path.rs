//! Paths of routes: whether a request's path fits, and the values of its parameters.
//!
//! A route's path is made of literal segments, `:name` for one segment, and `*` at the end for the rest.
//! Paths are not normalised: slashes at the end and dot segments stay. A proxy in front may have rules for the
//! path as it came, and a second spelling of the same route would get around them.

use std::borrow::Cow;

use crate::protocol::http::form;
use crate::protocol::split::{split, split_once};

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Parameter(String),
    Rest,
}

/// The path of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    text: String,
    segments: Vec<Segment>,
    /// No segment is a parameter or the rest, so that one path fits, in its several encodings.
    is_literal: bool,
}

impl Pattern {
    pub(crate) fn new(text: &str) -> Pattern {
        let segments: Vec<_> = segments_of(text)
            .map(|segment| match segment {
                "*" => Segment::Rest,
                _ => match segment.strip_prefix(':') {
                    Some(name) => Segment::Parameter(name.to_owned()),
                    None => Segment::Literal(segment.to_owned()),
                },
            })
            .collect();
        let is_literal = segments
            .iter()
            .all(|segment| matches!(segment, Segment::Literal(_)));
        Pattern {
            text: text.to_owned(),
            segments,
            is_literal,
        }
    }

    /// The pattern of a request that matches no route. It has no parameters.
    pub(crate) fn of_no_route() -> Pattern {
        Pattern {
            text: "*".to_owned(),
            segments: Vec::new(),
            is_literal: false,
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether `path` fits this pattern. `is_encoded` says whether the path has a percent sign, and is not
    /// called where that makes no difference.
    pub(crate) fn matches(&self, path: &str, is_encoded: impl FnOnce() -> bool) -> bool {
        // Most routes are literal, and hardly a path is encoded: then one comparison decides.
        if self.is_literal && without_slash(path) == without_slash(&self.text) {
            return true;
        }
        let is_encoded = is_encoded();
        if self.is_literal && !is_encoded {
            return false;
        }
        let mut given = segments_of(path);
        for segment in &self.segments {
            let fits = match segment {
                Segment::Rest => return true,
                // Not empty: `/rooms/` is not the room whose name is empty.
                Segment::Parameter(_) => given.next().is_some_and(|value| !value.is_empty()),
                Segment::Literal(literal) => given.next().is_some_and(|value| {
                    value == literal || (is_encoded && is_encoded_as(value, literal))
                }),
            };
            if !fits {
                return false;
            }
        }
        given.next().is_none()
    }

    /// The part of a path that fits this pattern for which its `*` stands, as it came. `None` where the path ends
    /// before the slash in front of it.
    pub(crate) fn encoded_rest<'p>(&self, path: &'p str) -> Option<&'p str> {
        let mut rest = Some(without_slash(path));
        for _ in self
            .segments
            .iter()
            .take_while(|segment| **segment != Segment::Rest)
        {
            rest = split_once(rest?, b'/').map(|(_, after)| after);
        }
        rest
    }

    /// The value of the parameter `name` in a path that fits this pattern, decoded. `None` for another name,
    /// and for a value that is not UTF-8.
    ///
    /// The path is split again for each value: most are never asked for.
    pub(crate) fn value<'p>(&self, path: &'p str, name: &str) -> Option<Cow<'p, str>> {
        let mut rest = Some(without_slash(path));
        for segment in &self.segments {
            if *segment == Segment::Rest {
                // The path may end before the slash: `/files` fits `/files/*`.
                let value = (name == "*").then_some(rest.unwrap_or_default())?;
                return form::decode_path(value);
            }
            let (value, after) = match split_once(rest?, b'/') {
                Some((value, after)) => (value, Some(after)),
                None => (rest?, None),
            };
            if matches!(segment, Segment::Parameter(parameter) if parameter == name) {
                return form::decode_path(value);
            }
            rest = after;
        }
        None
    }
}

/// Whether a segment is the literal in percent-encoding. Decoding comes after splitting, so that `%2F` in a
/// segment does not become a slash between two. Source: RFC 3986, section 2.4.
fn is_encoded_as(value: &str, literal: &str) -> bool {
    form::decode_path(value).is_some_and(|decoded| decoded == literal)
}

/// Whether the path of a route has no parameters.
pub(super) fn is_literal(path: &str) -> bool {
    Pattern::new(path).is_literal
}

fn segments_of(path: &str) -> impl Iterator<Item = &str> {
    split(without_slash(path), b'/')
}

fn without_slash(path: &str) -> &str {
    path.strip_prefix('/').unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_patterns_match_segments_and_wildcards() {
        let cases = [
            ("/", "/", true),
            ("/", "/a", false),
            ("/chat", "/chat", true),
            ("/chat", "/chat/", false),
            ("/chat", "/Chat", false),
            ("/caf\u{e9}", "/caf%C3%A9", true),
            ("/chat", "/%63hat", true),
            ("chat", "/chat", true),
            ("/a/b", "/a%2Fb", false),
            ("/rooms/:room", "/rooms/7", true),
            ("/rooms/:room", "/rooms/", false),
            ("/rooms/:room", "/rooms/7/users", false),
            ("/rooms/:room/users", "/rooms/7/users", true),
            ("/files/*", "/files/a/b", true),
            ("/files/*", "/files", true),
            ("*", "/anything/at/all", true),
            ("*", "/", true),
        ];
        for (pattern, path, expected) in cases {
            assert_eq!(
                Pattern::new(pattern).matches(path, || path.contains('%')),
                expected,
                "{pattern} {path}"
            );
        }
    }

    #[test]
    fn parameters_are_decoded() {
        let pattern = Pattern::new("/rooms/:room/users/:user");
        let path = "/rooms/a%2Fb/users/%C3%A9+x";
        assert!(pattern.matches(path, || true));
        assert_eq!(pattern.value(path, "room").as_deref(), Some("a/b"));
        assert_eq!(pattern.value(path, "user").as_deref(), Some("\u{e9}+x"));
        assert_eq!(pattern.value(path, "other"), None);
        assert_eq!(pattern.value(path, "*"), None);
        assert_eq!(pattern.value("/rooms/%ff/users/x", "room"), None);
        assert_eq!(Pattern::of_no_route().value(path, "*"), None);
    }

    #[test]
    fn a_path_may_have_many_parameters() {
        let names: Vec<String> = (0..20).map(|n| format!(":p{n}")).collect();
        let pattern = Pattern::new(&names.join("/"));
        let path = names.join("/").replace(":p", "value");
        assert!(pattern.matches(&path, || false));
        assert_eq!(pattern.value(&path, "p19").as_deref(), Some("value19"));
    }

    #[test]
    fn the_rest_of_a_path_as_it_came() {
        for (pattern, path, expected) in [
            ("/files/*", "/files/a%2Fb//c", Some("a%2Fb//c")),
            ("/files/*", "/files/", Some("")),
            ("/files/*", "/files", None),
            ("/a/b/*", "/a/b/c", Some("c")),
            ("/a/b/*", "/a/b", None),
            ("/*", "/", Some("")),
            ("/*", "//a", Some("/a")),
        ] {
            assert_eq!(Pattern::new(pattern).encoded_rest(path), expected, "{path}");
        }
    }

    #[test]
    fn the_rest_of_a_path_is_a_parameter() {
        let cases = [
            ("/files/*", "/files/a/b%20c", "a/b c"),
            ("/files/*", "/files/", ""),
            ("/files/*", "/files", ""),
            ("/files/:id/*", "/files/7/a//b/", "a//b/"),
            ("*", "/anything/at", "anything/at"),
            ("*", "/", ""),
            ("*", "*", "*"),
        ];
        for (pattern, path, expected) in cases {
            let pattern = Pattern::new(pattern);
            assert!(pattern.matches(path, || path.contains('%')), "{path}");
            assert_eq!(
                pattern.value(path, "*").as_deref(),
                Some(expected),
                "{path}"
            );
        }
    }
}
