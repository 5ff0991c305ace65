//! Which route a request's method and path lead to.
//!
//! A route is a path of literal segments, `:name` for one segment, and `*` at the end for the
//! rest. Routes are tried in the order they were added; they are few, and a linear search over
//! them is cheaper than parsing the request was.

use std::borrow::Cow;

use crate::protocol::http::form;

/// Parameters of one path at the most; further ones are not captured.
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
}

/// What a path gave for the `:name`s of its route, still percent-encoded.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Parameters<'p> {
    values: [&'p str; PARAMETERS_MAX],
    count: usize,
}

impl Pattern {
    pub(crate) fn new(text: &str) -> Pattern {
        let segments = split(text)
            .map(|segment| match segment {
                "*" => Segment::Rest,
                _ => match segment.strip_prefix(':') {
                    Some(name) => Segment::Parameter(name.to_owned()),
                    None => Segment::Literal(segment.to_owned()),
                },
            })
            .collect();
        Pattern {
            text: text.to_owned(),
            segments,
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn matches<'p>(&self, path: &'p str) -> Option<Parameters<'p>> {
        let mut parameters = Parameters::default();
        let mut given = split(path);
        for segment in &self.segments {
            match segment {
                Segment::Rest => return Some(parameters),
                Segment::Parameter(_) => {
                    let value = given.next().filter(|value| !value.is_empty())?;
                    if parameters.count < PARAMETERS_MAX {
                        parameters.values[parameters.count] = value;
                        parameters.count += 1;
                    }
                }
                Segment::Literal(literal) => {
                    let value = given.next()?;
                    if value != literal && !is_encoded_as(value, literal) {
                        return None;
                    }
                }
            }
        }
        given.next().is_none().then_some(parameters)
    }

    pub(crate) fn value<'p>(
        &self,
        parameters: &Parameters<'p>,
        name: &str,
    ) -> Option<Cow<'p, str>> {
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

fn is_encoded_as(value: &str, literal: &str) -> bool {
    value.contains('%') && form::decode_path(value).is_some_and(|decoded| decoded == literal)
}

fn split(path: &str) -> std::str::Split<'_, char> {
    path.strip_prefix('/').unwrap_or(path).split('/')
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
                Pattern::new(pattern).matches(path).is_some(),
                expected,
                "{pattern} {path}"
            );
        }
    }

    #[test]
    fn parameters_are_decoded() {
        let pattern = Pattern::new("/rooms/:room/users/:user");
        let found = pattern.matches("/rooms/a%2Fb/users/%C3%A9+x").unwrap();
        assert_eq!(pattern.value(&found, "room").as_deref(), Some("a/b"));
        assert_eq!(pattern.value(&found, "user").as_deref(), Some("\u{e9}+x"));
        assert_eq!(pattern.value(&found, "other"), None);
    }
}
