//! Selectors: expressions that select topics, by which subscribers choose and tokens grant.
//!
//! | form | selects |
//! |---|---|
//! | `*` | all topics |
//! | text | the topic that is this text |
//! | URI template, such as `https://example.com/books/{id}` | what it expands to, and the topic that is its text |
//! | URL pattern, such as `https://example.com/books/:id` | `:id` stands for one segment, `*` for any text |
//!
//! Templates are those of level 1, where `{id}` stands for letters, digits, `-._~` and `%XX`, or for nothing. Of URL patterns there
//! are the two signs of the table, and the topic is compared as it stands. Matching takes at most the product of both
//! lengths in steps and never tries again, whatever the selector is.
//!
//! Sources: RFC 6570, section 3.2.2; WHATWG URL Pattern; draft-dunglas-mercure-08, section 4.

use std::error::Error;
use std::fmt;

use super::topic::{self, TopicError};

/// The most variables of a selector.
pub const VARIABLES_MAX: usize = 16;

/// An expression that selects topics.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Selector {
    text: Box<str>,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Kind {
    All,
    Exact,
    Template(Vec<Part>),
    UrlPattern(Vec<Part>),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Part {
    Literal(Box<str>),
    /// The expansion of a variable of a template.
    Expansion,
    /// One or more bytes other than those that end a segment.
    Segment,
    Anything,
}

impl Part {
    /// Whether the part may stand for a text with this byte.
    fn takes(&self, byte: u8) -> bool {
        match self {
            Part::Literal(_) => false,
            Part::Expansion => byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte),
            Part::Segment => !b"/?#".contains(&byte),
            Part::Anything => true,
        }
    }
}

/// Why a text is no selector.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SelectorError {
    /// It could not be a topic either.
    Text(TopicError),
    /// It has more than [`VARIABLES_MAX`] variables.
    TooManyVariables,
    /// It has a brace that is not one of a pair around a variable.
    Brace,
    /// This is no variable of level 1, or it stands twice.
    Variable(String),
    /// It has this sign of URL patterns, for which there is no matcher.
    Sign(char),
}

impl fmt::Display for SelectorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SelectorError::Text(error) => error.fmt(f),
            SelectorError::TooManyVariables => {
                write!(f, "expected at most {VARIABLES_MAX} variables")
            }
            SelectorError::Brace => f.write_str("expected pairs of { and } around variables"),
            SelectorError::Variable(name) => write!(
                f,
                "expected variables of level 1 of RFC 6570, each once, got {{{name}}}"
            ),
            SelectorError::Sign(sign) => {
                write!(
                    f,
                    "expected a URL pattern with :NAME and * only, got {sign:?}"
                )
            }
        }
    }
}

impl Error for SelectorError {}

impl From<TopicError> for SelectorError {
    fn from(error: TopicError) -> SelectorError {
        SelectorError::Text(error)
    }
}

impl Selector {
    /// The selector `*`, or that of one topic: `match`, and the type `exact`.
    ///
    /// # Errors
    ///
    /// [`SelectorError::Text`].
    pub fn exact(text: &str) -> Result<Selector, SelectorError> {
        Selector::new(text, |_| Ok(Kind::Exact))
    }

    /// The selector `*`, that of one topic, or a URI template where the text has a brace: `topic`, and those of tokens.
    ///
    /// # Errors
    ///
    /// [`SelectorError`].
    pub fn template(text: &str) -> Result<Selector, SelectorError> {
        Selector::new(text, |text| match text.contains(['{', '}']) {
            true => template_parts(text).map(Kind::Template),
            false => Ok(Kind::Exact),
        })
    }

    /// The selector `*`, or a URL pattern: `match_urlpattern`, and the type `urlpattern`.
    ///
    /// # Errors
    ///
    /// [`SelectorError`].
    pub fn url_pattern(text: &str) -> Result<Selector, SelectorError> {
        Selector::new(text, |text| url_pattern_parts(text).map(Kind::UrlPattern))
    }

    fn new(
        text: &str,
        kind: impl FnOnce(&str) -> Result<Kind, SelectorError>,
    ) -> Result<Selector, SelectorError> {
        topic::check(text)?;
        let kind = match text {
            "*" => Kind::All,
            text => kind(text)?,
        };
        if let Kind::Template(parts) | Kind::UrlPattern(parts) = &kind {
            let variables = parts.iter().filter(|it| !matches!(it, Part::Literal(_)));
            if VARIABLES_MAX < variables.count() {
                return Err(SelectorError::TooManyVariables);
            }
        }
        let text = text.into();
        Ok(Selector { text, kind })
    }

    /// The text that it was made of.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it selects all topics.
    pub fn is_all(&self) -> bool {
        self.kind == Kind::All
    }

    /// Whether it selects a topic.
    pub fn matches(&self, topic: &str) -> bool {
        match &self.kind {
            Kind::All => true,
            Kind::Exact => *self.text == *topic,
            Kind::Template(parts) => *self.text == *topic || match_parts(parts, topic.as_bytes()),
            Kind::UrlPattern(parts) => match_parts(parts, topic.as_bytes()),
        }
    }

    /// Whether it selects what another one does, as far as tokens are concerned: the text of that one, or all.
    pub fn selects(&self, other: &Selector) -> bool {
        self.matches(&other.text)
    }

    /// A glob pattern of at most `bytes_max` bytes that matches every topic which this matches and perhaps others, where it
    /// may match more than the topic that is its text.
    pub fn glob(&self, bytes_max: usize) -> Option<String> {
        let parts = match &self.kind {
            Kind::All => return Some("*".to_owned()),
            Kind::Exact => return None,
            Kind::Template(parts) | Kind::UrlPattern(parts) => parts,
        };
        let mut glob = String::with_capacity(self.text.len());
        'parts: for part in parts {
            match part {
                Part::Literal(text) => {
                    for character in text.chars() {
                        // An escape, a character and the star need no more room.
                        if bytes_max < glob.len() + 6 {
                            glob.push('*');
                            break 'parts;
                        }
                        if matches!(character, '*' | '?' | '[' | '\\') {
                            glob.push('\\');
                        }
                        glob.push(character);
                    }
                }
                // The text of a template is selected too, and a brace is a byte like others.
                Part::Expansion | Part::Segment | Part::Anything => glob.push('*'),
            }
        }
        Some(glob)
    }
}

/// The parts of a URI template.
fn template_parts(text: &str) -> Result<Vec<Part>, SelectorError> {
    let mut parts = Vec::new();
    let mut names: Vec<&str> = Vec::new();
    let mut rest = text;
    while let Some(begin) = rest.find(['{', '}']) {
        push_literal(&rest[..begin], &mut parts);
        let variable = rest[begin..]
            .strip_prefix('{')
            .ok_or(SelectorError::Brace)?;
        let (name, behind) = variable.split_once('}').ok_or(SelectorError::Brace)?;
        if !is_variable(name) || names.contains(&name) {
            return Err(SelectorError::Variable(name.to_owned()));
        }
        names.push(name);
        parts.push(Part::Expansion);
        rest = behind;
    }
    push_literal(rest, &mut parts);
    Ok(parts)
}

/// Whether this is the name of a variable of level 1. Source: RFC 6570, section 2.3.
fn is_variable(name: &str) -> bool {
    let is_letter = |it: u8| it.is_ascii_alphanumeric() || it == b'_';
    let mut words = name.split('.');
    words.all(|word| !word.is_empty() && word.bytes().all(is_letter))
}

/// The parts of a URL pattern.
fn url_pattern_parts(text: &str) -> Result<Vec<Part>, SelectorError> {
    let mut parts = Vec::new();
    let mut literal_begin = 0;
    let mut index = 0;
    while index < text.len() {
        let rest = &text[index..];
        let first = rest.chars().next().unwrap_or_default();
        let (part, bytes) = match first {
            '(' | ')' | '{' | '}' | '\\' | '+' | '[' | ']' => {
                return Err(SelectorError::Sign(first));
            }
            '*' => (Part::Anything, 1),
            ':' => {
                let name = rest[1..]
                    .bytes()
                    .take_while(|it| it.is_ascii_alphanumeric() || *it == b'_')
                    .count();
                let is_name =
                    rest[1..].starts_with(|it: char| it.is_ascii_alphabetic() || it == '_');
                // The sign behind a scheme, and in front of a port.
                if !is_name {
                    index += 1;
                    continue;
                }
                (Part::Segment, 1 + name)
            }
            _ => {
                index += first.len_utf8();
                continue;
            }
        };
        push_literal(&text[literal_begin..index], &mut parts);
        // `?` and another `*` behind a part say how often it may stand there.
        match text[index + bytes..].chars().next() {
            Some(sign @ ('?' | '*')) => return Err(SelectorError::Sign(sign)),
            _ => parts.push(part),
        }
        index += bytes;
        literal_begin = index;
    }
    push_literal(&text[literal_begin..], &mut parts);
    Ok(parts)
}

fn push_literal(text: &str, parts: &mut Vec<Part>) {
    if !text.is_empty() {
        parts.push(Part::Literal(text.into()));
    }
}

/// Whether the parts match a topic as a whole.
///
/// All places that the parts before have reached are carried on together, so nothing is tried twice.
fn match_parts(parts: &[Part], topic: &[u8]) -> bool {
    // Most topics differ from most selectors at their begin or at their end.
    if let Some(Part::Literal(first)) = parts.first()
        && !topic.starts_with(first.as_bytes())
    {
        return false;
    }
    if let Some(Part::Literal(last)) = parts.last()
        && !topic.ends_with(last.as_bytes())
    {
        return false;
    }
    // Whether the parts so far match the topic up to each place.
    let mut reached = vec![false; topic.len() + 1];
    reached[0] = true;
    for part in parts {
        let mut next = vec![false; topic.len() + 1];
        match part {
            Part::Literal(text) => {
                for place in places(&reached) {
                    if topic[place..].starts_with(text.as_bytes()) {
                        next[place + text.len()] = true;
                    }
                }
            }
            Part::Expansion | Part::Segment | Part::Anything => {
                let mut is_inside = false;
                for place in 0..=topic.len() {
                    let is_behind_byte = is_inside && place != 0 && part.takes(topic[place - 1]);
                    next[place] = is_behind_byte || *part != Part::Segment && reached[place];
                    is_inside = is_behind_byte || reached[place];
                }
            }
        }
        reached = next;
    }
    reached[topic.len()]
}

/// The places that are set.
fn places(reached: &[bool]) -> impl Iterator<Item = usize> {
    let places = reached.iter().enumerate();
    places.filter_map(|(place, is_reached)| is_reached.then_some(place))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pubsub::pattern;

    type Parse = fn(&str) -> Result<Selector, SelectorError>;

    #[test]
    fn selectors() {
        let cases: &[(Parse, &str, &[&str], &[&str])] = &[
            (Selector::exact, "*", &["a", "*", "https://e.com/1?x"], &[]),
            (Selector::exact, "a", &["a"], &["A", "aa", "", "*"]),
            (Selector::exact, "/a/{id}", &["/a/{id}"], &["/a/1"]),
            (Selector::exact, "/a/:id", &["/a/:id"], &["/a/1"]),
            (Selector::template, "*", &["a"], &[]),
            (Selector::template, "/a?x=*", &["/a?x=*"], &["/a?x=1"]),
            (
                Selector::template,
                "https://e.com/b/{id}",
                &[
                    "https://e.com/b/1",
                    "https://e.com/b/a-b._~%2F",
                    "https://e.com/b/",
                    "https://e.com/b/{id}",
                ],
                &[
                    "https://e.com/b/1/2",
                    "https://e.com/b",
                    "https://e.com/b/a b",
                    "https://e.com/b/1?x",
                    "https://e.com/b/é",
                    "http://e.com/b/1",
                    "xhttps://e.com/b/1",
                ],
            ),
            (
                Selector::template,
                "{a}/x/{b.c}.json",
                &["1/x/2.json", "/x/.json", "1/x/2.json.json"],
                &["1/y/2.json", "1/x/2.jso", "1/x/2.jsonx", "/1/x/2.json"],
            ),
            (
                Selector::template,
                "{a}",
                &["", "abc", "{a}"],
                &["a/b", "a b"],
            ),
            (
                Selector::template,
                "{a}1{b}1",
                &["11", "x1y1", "111"],
                &["1", "x1y"],
            ),
            (
                Selector::url_pattern,
                "https://e.com:8080/b/:id",
                &["https://e.com:8080/b/1", "https://e.com:8080/b/é.x"],
                &[
                    "https://e.com:8080/b/",
                    "https://e.com:8080/b/1/2",
                    "https://e.com:8080/b/1?x",
                    "https://e.com:8080/b/:id/",
                ],
            ),
            (
                Selector::url_pattern,
                "/users/42/*",
                &["/users/42/", "/users/42/books/1?x#y"],
                &["/users/42", "/users/43/x"],
            ),
            (
                Selector::url_pattern,
                "/.well-known/mercure/subscriptions/:topic/:subscriber",
                &["/.well-known/mercure/subscriptions/a%2Fb/urn%3Auuid%3A1"],
                &["/.well-known/mercure/subscriptions/a"],
            ),
            (
                Selector::url_pattern,
                ":a-:b",
                &["1-2", "1-2-3"],
                &["-2", "1-"],
            ),
        ];
        for (parse, text, matching, others) in cases {
            let selector = parse(text).unwrap();
            assert_eq!(selector.text(), *text);
            for topic in *matching {
                assert!(selector.matches(topic), "{text} and {topic}");
                let glob = selector.glob(200);
                let is_found = glob.is_none_or(|glob| {
                    topic.is_empty() || pattern::matches(glob.as_bytes(), topic.as_bytes())
                });
                assert!(is_found, "{text} and {topic} by its glob");
            }
            for topic in *others {
                assert!(!selector.matches(topic), "{text} and {topic}");
            }
        }
    }

    #[test]
    fn globs_have_no_other_signs() {
        let cases: &[(Parse, &str, Option<&str>)] = &[
            (Selector::exact, "a?", None),
            (Selector::template, "a?[*\\", None),
            (Selector::template, "*", Some("*")),
            (
                Selector::template,
                "/?a[1]\\*/{b}",
                Some("/\\?a\\[1]\\\\\\*/*"),
            ),
            (Selector::url_pattern, "/a.b/:c/*", Some("/a.b/*/*")),
        ];
        for (parse, text, expected) in cases {
            let glob = parse(text).unwrap().glob(200);
            assert_eq!(glob.as_deref(), *expected, "{text}");
        }
    }

    #[test]
    fn a_long_glob_is_cut() {
        let name = "é[".repeat(20);
        let topic = format!("{name}1{name}");
        let selector = Selector::template(&format!("{name}{{id}}{name}")).unwrap();
        for bytes_max in 6..topic.len() + 60 {
            let glob = selector.glob(bytes_max).unwrap();
            assert!(glob.len() <= bytes_max, "{bytes_max}: {glob}");
            assert!(
                pattern::matches(glob.as_bytes(), topic.as_bytes()),
                "{glob}"
            );
        }
    }

    #[test]
    fn texts_that_are_no_selectors() {
        use SelectorError::{Brace, Sign, Text, TooManyVariables, Variable};
        let variable = |name: &str| Variable(name.to_owned());
        let many = (0..=VARIABLES_MAX).map(|it| format!("/{{v{it}}}"));
        let many: String = many.collect();
        let stars = "/*".repeat(VARIABLES_MAX + 1);
        let cases: &[(Parse, &str, SelectorError)] = &[
            (Selector::exact, "", Text(TopicError::Empty)),
            (Selector::exact, "a\u{200b}", Text(TopicError::Character)),
            (Selector::template, "a{", Brace),
            (Selector::template, "a}b", Brace),
            (Selector::template, "a}{b", Brace),
            (Selector::template, "{}", variable("")),
            (Selector::template, "{+a}", variable("+a")),
            (Selector::template, "{#a}", variable("#a")),
            (Selector::template, "{?a,b}", variable("?a,b")),
            (Selector::template, "{a,b}", variable("a,b")),
            (Selector::template, "{a:3}", variable("a:3")),
            (Selector::template, "{a*}", variable("a*")),
            (Selector::template, "{a.}", variable("a.")),
            (Selector::template, "{{a}}", variable("{a")),
            (Selector::template, "/{a}/{a}", variable("a")),
            (Selector::template, &many, TooManyVariables),
            (Selector::url_pattern, &stars, TooManyVariables),
            (Selector::url_pattern, "/a/(.*)", Sign('(')),
            (Selector::url_pattern, "/a{/b}", Sign('{')),
            (Selector::url_pattern, "/:a?", Sign('?')),
            (Selector::url_pattern, "/:a*", Sign('*')),
            (Selector::url_pattern, "/**", Sign('*')),
            (Selector::url_pattern, "/a\\:b", Sign('\\')),
        ];
        for (parse, text, expected) in cases {
            assert_eq!(parse(text).as_ref(), Err(expected), "{text}");
            assert!(!expected.to_string().is_empty());
        }
    }

    #[test]
    fn a_hostile_selector_takes_bounded_work() {
        let topic = "a".repeat(topic::TOPIC_BYTES_MAX);
        let literal = "a".repeat(50);
        let names = (0..VARIABLES_MAX).map(|it| format!("{literal}{{v{it}}}"));
        let text: String = names.collect::<String>() + "b";
        let selector = Selector::template(&text).unwrap();
        // Trying again at each variable would take longer than the age of the world.
        for _ in 0..100 {
            assert!(!selector.matches(&topic));
        }
    }

    #[test]
    fn a_selector_of_a_token_selects_that_of_a_subscriber() {
        let cases = [
            ("*", "/a/{id}", true),
            ("/a/{id}", "/a/{id}", true),
            ("/a/{id}", "/a/1", true),
            ("/a/1", "/a/{id}", false),
            ("/{x}", "*", false),
        ];
        for (granted, wanted, expected) in cases {
            let granted = Selector::template(granted).unwrap();
            let wanted = Selector::template(wanted).unwrap();
            assert_eq!(granted.selects(&wanted), expected, "{wanted:?}");
        }
    }
}
