//! The names of keys and channels in Redis.
//!
//! | name | content |
//! |---|---|
//! | `waterwheel:head` | hash: `epoch`, `number`, and `floor`, the highest number that is forgotten with its topic |
//! | `waterwheel:topics` | sorted set: each topic with its last number |
//! | `waterwheel:s:TOPIC` | stream: the newest publications, `NUMBER-SECOND`, with the number before (`p`) |
//! | `waterwheel:v:TOPIC` | hash: the latest publication of each key |
//! | `waterwheel:i:DIGEST` | string: the request and the id of a publication with an `Idempotency-Key`, for 300 seconds |
//! | `waterwheel:raw` | sorted set: topics with messages of other programs, each with the second of the last one, about |
//! | channel `waterwheel:TOPIC` | publications with a number |
//! | channel `waterwheel:\x01` | messages between the reactors of all nodes |
//! | channel `TOPIC` | messages of other programs |
//!
//! With a prefix each name begins with `PREFIX:`.

/// The part between the prefix and what is the hub's own.
const OWN: &str = "waterwheel:";

/// The channel of the reactors, behind [`OWN`]: no topic has a control character.
const CONTROL: &str = "\u{1}";

/// Names with one prefix.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    /// Empty, or with a colon at the end.
    prefix: Box<str>,
}

/// The topic that a channel stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Channel<'c> {
    /// Of publications with a number.
    Numbered(&'c [u8]),
    /// Of messages of other programs.
    Raw(&'c [u8]),
    /// Messages between the reactors.
    Control,
    /// Of another prefix.
    Foreign,
}

impl Keys {
    pub(super) fn new(prefix: Option<&str>) -> Keys {
        let prefix = prefix.map_or_else(String::new, |prefix| format!("{prefix}:"));
        Keys {
            prefix: prefix.into(),
        }
    }

    fn own(&self, rest: &str) -> String {
        format!("{}{OWN}{rest}", self.prefix)
    }

    pub(super) fn head(&self) -> String {
        self.own("head")
    }

    pub(super) fn topics(&self) -> String {
        self.own("topics")
    }

    pub(super) fn raw_topics(&self) -> String {
        self.own("raw")
    }

    /// The key that recognises the repeat of a request.
    pub(super) fn once(&self, digest: &str) -> String {
        self.own(&format!("i:{digest}"))
    }

    pub(super) fn stream(&self, topic: &str) -> String {
        self.own(&format!("s:{topic}"))
    }

    pub(super) fn values(&self, topic: &str) -> String {
        self.own(&format!("v:{topic}"))
    }

    pub(super) fn numbered_channel(&self, topic: &str) -> String {
        self.own(topic)
    }

    pub(super) fn control_channel(&self) -> String {
        self.own(CONTROL)
    }

    pub(super) fn raw_channel(&self, topic: &str) -> String {
        format!("{}{topic}", self.prefix)
    }

    /// The patterns of channels for a pattern of topics: of those with numbers, and of others.
    pub(super) fn patterns(&self, pattern: &str) -> [String; 2] {
        let prefix = escape(&self.prefix);
        [
            format!("{prefix}{OWN}{pattern}"),
            format!("{prefix}{pattern}"),
        ]
    }

    /// The channels of a topic: of publications with numbers, and of others.
    pub(super) fn channels(&self, topic: &str) -> [String; 2] {
        [self.numbered_channel(topic), self.raw_channel(topic)]
    }

    /// The topic of a channel.
    pub(super) fn topic_of<'c>(&self, channel: &'c [u8]) -> Channel<'c> {
        let Some(name) = channel.strip_prefix(self.prefix.as_bytes()) else {
            return Channel::Foreign;
        };
        match name.strip_prefix(OWN.as_bytes()) {
            Some(topic) if topic == CONTROL.as_bytes() => Channel::Control,
            Some(topic) => Channel::Numbered(topic),
            None => Channel::Raw(name),
        }
    }
}

/// A text as a glob pattern that matches it alone.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        if matches!(letter, '*' | '?' | '[' | ']' | '\\' | '^') {
            escaped.push('\\');
        }
        escaped.push(letter);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pubsub::pattern;

    #[test]
    fn topics_are_found_in_the_names_of_channels() {
        for prefix in [None, Some("p"), Some("a*b")] {
            let keys = Keys::new(prefix);
            let [numbered, raw] = keys.channels("t:1");
            assert_eq!(
                keys.topic_of(numbered.as_bytes()),
                Channel::Numbered(b"t:1")
            );
            assert_eq!(keys.topic_of(raw.as_bytes()), Channel::Raw(b"t:1"));
            let control = keys.control_channel();
            assert_eq!(keys.topic_of(control.as_bytes()), Channel::Control);
            let patterns = keys.patterns("t:*");
            for (pattern, channel) in patterns.iter().zip([&numbered, &raw]) {
                assert!(pattern::matches(pattern.as_bytes(), channel.as_bytes()));
            }
        }
        assert_eq!(Keys::new(Some("p")).topic_of(b"q:t"), Channel::Foreign);
        let [_, raw] = Keys::new(Some("a*b")).patterns("t");
        assert!(!pattern::matches(raw.as_bytes(), b"axb:t"));
    }
}
