//! Paths of routes: whether a request's path fits, and the values of its parameters.
//!
//! A route's path is made of literal segments, `:name` for one segment, and `*` at the end for the rest.
//! Paths are not normalised: slashes at the end and dot segments stay. A proxy in front may have rules for the
//! path as it came, and a second spelling of the same route would get around them.

use std::borrow::Cow;

use crate::protocol::http::form;
use crate::protocol::split::split;

/// The most parameters of one path; further ones are not captured. They lie in the `Request` itself, so that a
/// request with parameters allocates nothing.
const PARAMETERS_MAX: usize = 8;

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

/// The values of a route's `:name`s in a path, still percent-encoded: most are never asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Parameters<'p> {
    values: [&'p str; PARAMETERS_MAX],
    count: usize,
    /// The part of the path that `*` stands for, without the slash in front of it.
    rest: Option<&'p str>,
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

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// The parameters of `path` if it fits this pattern. `is_encoded`: the path has a percent sign.
    pub(crate) fn matches<'p>(&self, path: &'p str, is_encoded: bool) -> Option<Parameters<'p>> {
        // Most routes are literal, and hardly a path is encoded: then one comparison decides.
        if self.is_literal && !is_encoded {
            let fits = without_slash(path) == without_slash(&self.text);
            return fits.then(Parameters::default);
        }
        let mut parameters = Parameters::default();
        let mut given = segments_of(path);
        for segment in &self.segments {
            match segment {
                Segment::Rest => {
                    let first = given.next();
                    let start = first.map_or(path.len(), |first| offset_in(path, first));
                    parameters.rest = Some(&path[start..]);
                    return Some(parameters);
                }
                // Not empty: `/rooms/` is not the room whose name is empty.
                Segment::Parameter(_) => {
                    let value = given.next().filter(|value| !value.is_empty())?;
                    if parameters.count < PARAMETERS_MAX {
                        parameters.values[parameters.count] = value;
                        parameters.count += 1;
                    }
                }
                Segment::Literal(literal) => {
                    let value = given.next()?;
                    if value != literal && !(is_encoded && is_encoded_as(value, literal)) {
                        return None;
                    }
                }
            }
        }
        given.next().is_none().then_some(parameters)
    }

    /// The value of the parameter `name`, decoded. `None` for another name, and for a value that is not UTF-8.
    pub(crate) fn value<'p>(
        &self,
        parameters: &Parameters<'p>,
        name: &str,
    ) -> Option<Cow<'p, str>> {
        if name == "*" {
            return form::decode_path(parameters.rest?);
        }
        let names = self.segments.iter().filter_map(|segment| match segment {
            Segment::Parameter(name) => Some(name),
            Segment::Literal(_) | Segment::Rest => None,
        });
        let index = names
            .take(parameters.count)
            .position(|parameter| parameter == name)?;
        form::decode_path(parameters.values[index])
    }
}

/// Where a part of a path begins in it.
fn offset_in(path: &str, part: &str) -> usize {
    part.as_ptr() as usize - path.as_ptr() as usize
}

/// Whether a segment is the literal in percent-encoding. Decoding comes after splitting, so that `%2F` in a
/// segment does not become a slash between two. Source: RFC 3986, section 2.4.
fn is_encoded_as(value: &str, literal: &str) -> bool {
    form::decode_path(value).is_some_and(|decoded| decoded == literal)
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
                Pattern::new(pattern)
                    .matches(path, path.contains('%'))
                    .is_some(),
                expected,
                "{pattern} {path}"
            );
        }
    }

    #[test]
    fn parameters_are_decoded() {
        let pattern = Pattern::new("/rooms/:room/users/:user");
        let found = pattern.matches("/rooms/a%2Fb/users/%C3%A9+x", true);
        let found = found.unwrap();
        assert_eq!(pattern.value(&found, "room").as_deref(), Some("a/b"));
        assert_eq!(pattern.value(&found, "user").as_deref(), Some("\u{e9}+x"));
        assert_eq!(pattern.value(&found, "other"), None);
        assert_eq!(pattern.value(&found, "*"), None);
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
            let found = pattern.matches(path, path.contains('%')).unwrap();
            assert_eq!(
                pattern.value(&found, "*").as_deref(),
                Some(expected),
                "{path}"
            );
        }
    }
}
