//! Rules for topics: what a hub keeps of a topic, and who may do what with it.
//!
//! Pure. A rule is a pattern, as in [`pattern`](super::pattern), with a [`Rule`]. The first rule whose
//! pattern matches a topic holds for it, all of it: rules are not merged. A topic that no rule matches
//! has [`Rule::default`].
//!
//! As text a rule is `PATTERN=OPTION,..`. The first `=` ends the pattern; a `=` of the pattern itself is
//! written `\=`, which patterns take as the byte `=`. So every pattern can be written, with `,` in it too.

use std::error::Error;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::pattern;
use super::topics::{TopicError, check_name};

/// The most rules of one hub. Each topic is compared with one after the other.
pub const RULES_MAX: usize = 64;

/// The most publications that a rule may keep of one topic.
pub const HISTORY_COUNT_MAX: u32 = 1_000_000;

/// The longest time for which a rule may keep a publication: 365 days.
pub const HISTORY_AGE_MAX: Duration = Duration::from_secs(365 * 86_400);

/// The options of a topic.
///
/// ```
/// use std::time::Duration;
/// use waterwheel::pubsub::Rule;
///
/// let rule: Rule = "history=1000,presence".parse()?;
/// assert_eq!((rule.history_count, rule.has_presence), (1000, true));
/// assert_eq!(rule.history_age, Duration::from_secs(300)); // the default
/// # Ok::<(), waterwheel::pubsub::RuleError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Publications that are kept of the topic, at most 1,000,000 (`history=COUNT`; default 100). With 0 only
    /// the number of the last one is kept.
    pub history_count: u32,
    /// Time for which a publication is kept, at most 365 days (`age=SECONDS`; default 300 s). Zero is not
    /// allowed: a topic keeps nothing with a [`history_count`](Self::history_count) of 0.
    pub history_age: Duration,
    /// Only clients whose token grants the topic may subscribe (`private`; default `false`).
    pub is_private: bool,
    /// Members learn of each other (`presence`; default `false`).
    pub has_presence: bool,
    /// The last value of each key is kept beside the history (`latest`; default `false`).
    pub keeps_latest: bool,
    /// Every client that may subscribe may publish (`client-publish`; default `false`).
    pub clients_publish: bool,
}

/// The rule of a topic that no rule matches.
static DEFAULT: Rule = Rule {
    history_count: 100,
    history_age: Duration::from_secs(300),
    is_private: false,
    has_presence: false,
    keeps_latest: false,
    clients_publish: false,
};

impl Default for Rule {
    fn default() -> Rule {
        DEFAULT.clone()
    }
}

impl Rule {
    /// Checks the ranges of the fields.
    fn check(&self) -> Result<(), RuleError> {
        if HISTORY_COUNT_MAX < self.history_count {
            return Err(RuleError::HistoryCount {
                given: self.history_count.to_string(),
            });
        }
        if self.history_age.is_zero() || HISTORY_AGE_MAX < self.history_age {
            return Err(RuleError::HistoryAge {
                given: self.history_age.as_secs_f64().to_string(),
            });
        }
        Ok(())
    }
}

/// Parses `OPTION,..`: each at most once. The others are as by default.
impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Rule, RuleError> {
        let mut rule = Rule::default();
        let mut names: Vec<&str> = Vec::new();
        for word in text.split(',') {
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (word, None),
            };
            match (name, value) {
                ("history", Some(value)) => {
                    let count = parse_number(value).and_then(|count| u32::try_from(count).ok());
                    rule.history_count = count.ok_or_else(|| RuleError::HistoryCount {
                        given: value.to_owned(),
                    })?;
                }
                ("age", Some(value)) => {
                    let seconds = parse_number(value).ok_or_else(|| RuleError::HistoryAge {
                        given: value.to_owned(),
                    })?;
                    rule.history_age = Duration::from_secs(seconds);
                }
                ("private", None) => rule.is_private = true,
                ("presence", None) => rule.has_presence = true,
                ("latest", None) => rule.keeps_latest = true,
                ("client-publish", None) => rule.clients_publish = true,
                _ => {
                    return Err(RuleError::UnknownOption {
                        given: word.to_owned(),
                    });
                }
            }
            if names.contains(&name) {
                return Err(RuleError::Repeated {
                    option: name.to_owned(),
                });
            }
            names.push(name);
        }
        rule.check()?;
        Ok(rule)
    }
}

// `str::parse` takes a leading `+`.
fn parse_number(digits: &str) -> Option<u64> {
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().ok()).flatten()
}

/// Rules for topics, in order: the first whose pattern matches a topic holds for it. Empty by default.
///
/// ```
/// use waterwheel::pubsub::{Rule, Rules};
///
/// let mut rules = Rules::new();
/// rules.add_text("chat.*=history=1000,age=3600,presence")?;
/// rules.add("*.secret", Rule { is_private: true, ..Rule::default() })?;
///
/// assert!(rules.of("chat.secret").has_presence); // the first rule holds, and it alone
/// assert!(rules.of("board.secret").is_private);
/// assert_eq!(rules.of("news"), &Rule::default());
/// # Ok::<(), waterwheel::pubsub::RuleError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    rules: Vec<(Box<str>, Rule)>,
}

impl Rules {
    /// Makes an empty list: every topic has [`Rule::default`].
    pub fn new() -> Rules {
        Rules::default()
    }

    /// Adds a rule behind the others. A pattern without specials is the name of one topic.
    ///
    /// # Errors
    ///
    /// [`RuleError`] when the pattern cannot be one, a field of the rule is out of its range, or there are
    /// [`RULES_MAX`] rules. Then no rule was added.
    pub fn add(&mut self, pattern: &str, rule: Rule) -> Result<(), RuleError> {
        check_name(pattern).map_err(|why| RuleError::Pattern {
            pattern: pattern.to_owned(),
            why,
        })?;
        rule.check()?;
        if RULES_MAX <= self.rules.len() {
            return Err(RuleError::TooMany);
        }
        self.rules.push((pattern.into(), rule));
        Ok(())
    }

    /// Adds a rule that is written `PATTERN=OPTION,..`, such as `chat.*=history=50,presence`.
    ///
    /// The first `=` that has no `\` in front ends the pattern.
    ///
    /// # Errors
    ///
    /// As [`add`](Self::add), and for words that are no option. The error shows the word.
    pub fn add_text(&mut self, text: &str) -> Result<(), RuleError> {
        let (pattern, options) = split_pattern(text).ok_or_else(|| RuleError::NoOptions {
            given: text.to_owned(),
        })?;
        self.add(pattern, options.parse()?)
    }

    /// The rule of a topic.
    ///
    /// Takes time for each pattern in front of the one that matches: to be asked when a topic begins, not
    /// with each publication.
    pub fn of(&self, topic: &str) -> &Rule {
        self.at(self.index_of(topic))
    }

    /// The place in the list of the rule that holds for a topic; their [count](Self::count) for the default.
    pub fn index_of(&self, topic: &str) -> usize {
        let is_of = |(pattern, _): &(Box<str>, Rule)| {
            pattern::matches(pattern.as_bytes(), topic.as_bytes())
        };
        self.rules
            .iter()
            .position(is_of)
            .unwrap_or(self.rules.len())
    }

    /// The rule at a place in the list, or the default behind its end.
    pub fn at(&self, index: usize) -> &Rule {
        self.rules.get(index).map_or(&DEFAULT, |(_, rule)| rule)
    }

    /// How many rules there are, without the default.
    pub fn count(&self) -> usize {
        self.rules.len()
    }

    /// The patterns with their rules, in order, without the default.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Rule)> {
        self.rules.iter().map(|(pattern, rule)| (&**pattern, rule))
    }
}

/// The pattern and the options of a rule, without the first `=` that no `\` escapes.
fn split_pattern(text: &str) -> Option<(&str, &str)> {
    let mut is_escaped = false;
    let end = text.bytes().position(|byte| {
        let ends = byte == b'=' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        ends
    })?;
    Some((&text[..end], &text[end + 1..]))
}

/// Why a rule for topics is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RuleError {
    /// No `=` ends the pattern.
    NoOptions {
        /// The text.
        given: String,
    },
    /// The pattern is not one.
    Pattern {
        /// The text.
        pattern: String,
        /// The reason.
        why: TopicError,
    },
    /// No option is called so, or it has a value and takes none, or has none and needs one.
    UnknownOption {
        /// The option as it was given.
        given: String,
    },
    /// The value of `history` is no number, or above [`HISTORY_COUNT_MAX`].
    HistoryCount {
        /// The value as it was given.
        given: String,
    },
    /// The value of `age` is no number, is 0 or above [`HISTORY_AGE_MAX`].
    HistoryAge {
        /// The value as it was given.
        given: String,
    },
    /// An option is given twice.
    Repeated {
        /// The name of the option.
        option: String,
    },
    /// There are [`RULES_MAX`] rules already.
    TooMany,
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RuleError::NoOptions { given } => {
                write!(f, "expected PATTERN=OPTION,.., got {given:?}")
            }
            RuleError::Pattern { pattern, why } => write!(f, "the pattern {pattern:?}: {why}"),
            RuleError::UnknownOption { given } => write!(
                f,
                "expected history=COUNT, age=SECONDS, private, presence, latest or client-publish, \
                 got {given:?}"
            ),
            RuleError::HistoryCount { given } => write!(
                f,
                "history: expected a count from 0 to {HISTORY_COUNT_MAX}, got {given:?}"
            ),
            RuleError::HistoryAge { given } => write!(
                f,
                "age: expected seconds from 1 to {}, got {given:?} (history=0 keeps no publication)",
                HISTORY_AGE_MAX.as_secs()
            ),
            RuleError::Repeated { option } => write!(f, "the option {option:?} is given twice"),
            RuleError::TooMany => write!(f, "more than {RULES_MAX} rules"),
        }
    }
}

impl Error for RuleError {}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pattern and the rule of one text.
    fn parsed(text: &str) -> Result<(String, Rule), RuleError> {
        let mut rules = Rules::new();
        rules.add_text(text)?;
        let (pattern, rule) = rules.iter().next().unwrap();
        Ok((pattern.to_owned(), rule.clone()))
    }

    #[test]
    fn rules_are_parsed() {
        let default = Rule::default;
        let cases = [
            (
                "news=history=5",
                "news",
                Rule {
                    history_count: 5,
                    ..default()
                },
            ),
            (
                "a.*=history=0,age=1",
                "a.*",
                Rule {
                    history_count: 0,
                    history_age: Duration::from_secs(1),
                    ..default()
                },
            ),
            (
                "*=history=1000000,age=31536000",
                "*",
                Rule {
                    history_count: HISTORY_COUNT_MAX,
                    history_age: HISTORY_AGE_MAX,
                    ..default()
                },
            ),
            (
                "a,b=private,presence,latest,client-publish",
                "a,b",
                Rule {
                    is_private: true,
                    has_presence: true,
                    keeps_latest: true,
                    clients_publish: true,
                    ..default()
                },
            ),
            (
                r"a\=b=private",
                r"a\=b",
                Rule {
                    is_private: true,
                    ..default()
                },
            ),
            (
                r"a\\=private",
                r"a\\",
                Rule {
                    is_private: true,
                    ..default()
                },
            ),
            (
                "日 本=latest",
                "日 本",
                Rule {
                    keeps_latest: true,
                    ..default()
                },
            ),
        ];
        for (text, pattern, rule) in cases {
            assert_eq!(parsed(text), Ok((pattern.to_owned(), rule)), "{text}");
        }
    }

    #[test]
    fn the_default_keeps_a_hundred_publications_for_five_minutes() {
        let default = Rule::default();
        assert_eq!(
            (default.history_count, default.history_age),
            (100, Duration::from_secs(300))
        );
        assert!(!default.is_private && !default.has_presence);
        assert!(!default.keeps_latest && !default.clients_publish);
        assert_eq!(default.check(), Ok(()));
    }

    #[test]
    fn bad_rules_are_refused_and_the_error_shows_the_word() {
        let long = "a".repeat(257) + "=private";
        let cases: &[(&str, &[&str])] = &[
            ("", &["PATTERN=OPTION", "\"\""]),
            ("news", &["PATTERN=OPTION", "\"news\""]),
            (r"a\=private", &["PATTERN=OPTION", r#""a\\=private""#]),
            ("news=", &["client-publish", "\"\""]),
            ("=private", &["pattern \"\"", "empty"]),
            ("a\nb=private", &["pattern", "control"]),
            (&long, &["at most 256 bytes", "257"]),
            ("a=privat", &["private", "\"privat\""]),
            ("a=Private", &["private", "\"Private\""]),
            ("a= private", &["private", "\" private\""]),
            ("a=private,", &["private", "\"\""]),
            ("a=,private", &["private", "\"\""]),
            ("a=private=1", &["private", "\"private=1\""]),
            ("a=presence=yes", &["presence", "\"presence=yes\""]),
            ("a=history", &["history=COUNT", "\"history\""]),
            ("a=age", &["age=SECONDS", "\"age\""]),
            ("a=history=", &["history", "0 to 1000000", "\"\""]),
            ("a=history=many", &["history", "0 to 1000000", "\"many\""]),
            ("a=history=-1", &["history", "0 to 1000000", "\"-1\""]),
            ("a=history=+1", &["history", "0 to 1000000", "\"+1\""]),
            ("a=history=1.5", &["history", "0 to 1000000", "\"1.5\""]),
            ("a=history=1000001", &["history", "1000000", "\"1000001\""]),
            ("a=history=4294967396", &["history", "\"4294967396\""]),
            ("a=history=99999999999999999999", &["history", "9999\""]),
            ("a=age=0", &["age", "1 to 31536000", "\"0\"", "history=0"]),
            ("a=age=5m", &["age", "1 to 31536000", "\"5m\""]),
            ("a=age=31536001", &["age", "31536000", "\"31536001\""]),
            ("a=age=18446744073709551616", &["age", "551616\""]),
            ("a=history=1=2", &["history", "\"1=2\""]),
            ("a=b=private", &["\"b=private\""]),
            ("a=private,private", &["twice", "\"private\""]),
            ("a=history=1,history=1", &["twice", "\"history\""]),
        ];
        for (text, parts) in cases {
            let error = parsed(text).expect_err(text).to_string();
            for part in *parts {
                assert!(error.contains(part), "{text:?}: {error}");
            }
        }
    }

    #[test]
    fn fields_out_of_range_are_refused() {
        let mut rules = Rules::new();
        let cases = [
            Rule {
                history_count: HISTORY_COUNT_MAX + 1,
                ..Rule::default()
            },
            Rule {
                history_age: Duration::ZERO,
                ..Rule::default()
            },
            Rule {
                history_age: HISTORY_AGE_MAX + Duration::from_nanos(1),
                ..Rule::default()
            },
        ];
        for rule in cases {
            assert!(rules.add("a", rule.clone()).is_err(), "{rule:?}");
        }
        let short = Rule {
            history_age: Duration::from_millis(1),
            ..Rule::default()
        };
        assert_eq!(rules.add("a", short), Ok(()));
        assert_eq!(rules.count(), 1);
    }

    #[test]
    fn the_first_rule_that_matches_holds() {
        let mut rules = Rules::new();
        for text in [
            "chat.lobby=history=1",
            "chat.*=history=2,presence",
            "*.secret=private",
            r"a\*=history=4",
            r"key\=*=history=5",
        ] {
            rules.add_text(text).unwrap();
        }
        let cases = [
            ("chat.lobby", 0),
            ("chat.lobby.x", 1),
            ("chat.", 1),
            ("chat.secret", 1),
            ("my.secret", 2),
            ("secret", 5),
            ("a*", 3),
            ("ab", 5),
            ("key=value", 4),
            ("key", 5),
            ("", 5),
        ];
        for (topic, index) in cases {
            assert_eq!(rules.index_of(topic), index, "{topic:?}");
            assert_eq!(rules.of(topic), rules.at(index), "{topic:?}");
        }
        assert_eq!(rules.of("chat.lobby").history_count, 1);
        assert!(!rules.of("chat.secret").is_private && rules.of("my.secret").is_private);
        assert_eq!(rules.of("secret"), &Rule::default());
        assert_eq!(Rules::new().of("secret"), &Rule::default());
    }

    #[test]
    fn the_count_of_rules_is_bounded() {
        let mut rules = Rules::new();
        for index in 0..RULES_MAX {
            assert_eq!(rules.add(&index.to_string(), Rule::default()), Ok(()));
        }
        assert_eq!(rules.add_text("a=private"), Err(RuleError::TooMany));
        assert_eq!(rules.count(), RULES_MAX);
        assert!(RuleError::TooMany.to_string().contains("64"));
    }
}
