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
//!
//! In a cluster the topics are divided into [`BUCKETS`] buckets, each with an order of its own. The keys of bucket 3 begin
//! with `{waterwheel:3}:` instead of `waterwheel:`, and with a prefix with `{PREFIX:3}:waterwheel:`. So one node of the
//! cluster has all keys of a bucket, and its publications are on sharded channels of these names: that of the topic, and
//! `\x02`, the feed, which has those of all topics for nodes with patterns. `raw` belongs to bucket 0.

use std::fmt;

use crate::client::redis::{SubscriptionKind, slot_of};

/// The buckets of a cluster.
pub(super) const BUCKETS: usize = 16;

/// The part between the prefix and what is the hub's own.
const OWN: &str = "waterwheel:";

/// The channel of the reactors, behind [`OWN`]: no topic has a control character.
const CONTROL: &str = "\u{1}";

/// The sharded channel of all publications of a bucket.
const FEED: &str = "\u{2}";

/// Names with one prefix.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    /// Empty, or with a colon at the end.
    prefix: Box<str>,
    /// The beginning of the hub's own names, for each bucket.
    buckets: Vec<Box<str>>,
}

/// The meaning of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Channel<'c> {
    /// Publications of a topic in a bucket.
    Numbered(usize, &'c [u8]),
    /// Publications of all topics of a bucket.
    Feed(usize),
    /// Messages of other programs for a topic.
    Raw(&'c [u8]),
    /// Messages between the reactors.
    Control,
    /// Of another prefix.
    Foreign,
}

impl Keys {
    /// The names for one server.
    pub(super) fn new(prefix: Option<&str>) -> Keys {
        let prefix = prefix.map_or_else(String::new, |prefix| format!("{prefix}:"));
        Keys {
            buckets: vec![format!("{prefix}{OWN}").into()],
            prefix: prefix.into(),
        }
    }

    /// The names for a cluster.
    ///
    /// # Errors
    ///
    /// For a prefix with a brace: the names of one bucket would not be on one node.
    pub(super) fn of_cluster(prefix: Option<&str>) -> Result<Keys, BraceInPrefix> {
        if prefix.is_some_and(|prefix| prefix.contains(['{', '}'])) {
            return Err(BraceInPrefix);
        }
        let own = |bucket: usize| match prefix {
            None => format!("{{waterwheel:{bucket}}}:"),
            Some(prefix) => format!("{{{prefix}:{bucket}}}:{OWN}"),
        };
        Ok(Keys {
            buckets: (0..BUCKETS).map(|bucket| own(bucket).into()).collect(),
            ..Keys::new(prefix)
        })
    }

    /// How many buckets there are: one server has one.
    pub(super) fn bucket_count(&self) -> usize {
        self.buckets.len()
    }

    /// The bucket of a topic.
    pub(super) fn bucket_of(&self, topic: &str) -> usize {
        match self.buckets.len() {
            1 => 0,
            count => usize::from(slot_of(topic.as_bytes())) % count,
        }
    }

    /// The hash slot in a cluster that has the names of each bucket.
    pub(super) fn slots(&self) -> Vec<u16> {
        (self.buckets.iter())
            .map(|own| slot_of(own.as_bytes()))
            .collect()
    }

    fn own(&self, bucket: usize, rest: &str) -> String {
        [&*self.buckets[bucket], rest].concat()
    }

    fn own_of(&self, topic: &str, rest: &str) -> String {
        [&*self.buckets[self.bucket_of(topic)], rest, topic].concat()
    }

    pub(super) fn head(&self, bucket: usize) -> String {
        self.own(bucket, "head")
    }

    pub(super) fn topics(&self, bucket: usize) -> String {
        self.own(bucket, "topics")
    }

    /// The key of all buckets that says which topics have messages of other programs. It belongs to bucket 0.
    pub(super) fn raw_topics(&self) -> String {
        self.own(0, "raw")
    }

    /// The key that recognises the repeat of a request, for a publication to a topic.
    pub(super) fn once(&self, topic: &str, digest: &str) -> String {
        self.own(self.bucket_of(topic), &format!("i:{digest}"))
    }

    pub(super) fn stream(&self, topic: &str) -> String {
        self.own_of(topic, "s:")
    }

    pub(super) fn values(&self, topic: &str) -> String {
        self.own_of(topic, "v:")
    }

    pub(super) fn numbered_channel(&self, topic: &str) -> String {
        self.own_of(topic, "")
    }

    pub(super) fn control_channel(&self) -> String {
        format!("{}{OWN}{CONTROL}", self.prefix)
    }

    pub(super) fn raw_channel(&self, topic: &str) -> String {
        format!("{}{topic}", self.prefix)
    }

    /// The sharded channel of all publications of a bucket. `None` for one server, where patterns serve.
    pub(super) fn feed(&self, bucket: usize) -> Option<String> {
        (1 < self.buckets.len()).then(|| self.own(bucket, FEED))
    }

    /// The pattern of the channels of publications, for a pattern of topics at one server.
    pub(super) fn numbered_pattern(&self, pattern: &str) -> String {
        format!("{}{OWN}{pattern}", escape(&self.prefix))
    }

    /// The pattern of the channels of other programs, for a pattern of topics.
    pub(super) fn raw_pattern(&self, pattern: &str) -> String {
        format!("{}{pattern}", escape(&self.prefix))
    }

    /// The kind of subscription for the channel of a topic's publications.
    pub(super) fn numbered_kind(&self) -> SubscriptionKind {
        match self.buckets.len() {
            1 => SubscriptionKind::Channel,
            _ => SubscriptionKind::Sharded,
        }
    }

    /// The meaning of a channel by which a message came, sharded or not.
    pub(super) fn meaning_of<'c>(&self, channel: &'c [u8], is_sharded: bool) -> Channel<'c> {
        if is_sharded {
            let own = |own: &str| channel.strip_prefix(own.as_bytes());
            let mut names = self.buckets.iter().map(|it| own(it)).enumerate();
            return match names.find_map(|(bucket, name)| Some((bucket, name?))) {
                Some((bucket, name)) if name == FEED.as_bytes() => Channel::Feed(bucket),
                Some((bucket, topic)) => Channel::Numbered(bucket, topic),
                None => Channel::Foreign,
            };
        }
        let Some(name) = channel.strip_prefix(self.prefix.as_bytes()) else {
            return Channel::Foreign;
        };
        match name.strip_prefix(OWN.as_bytes()) {
            Some(topic) if topic == CONTROL.as_bytes() => Channel::Control,
            Some(topic) if self.buckets.len() == 1 => Channel::Numbered(0, topic),
            // A program may have topics of this name in a cluster, where those of the hub are sharded.
            _ => Channel::Raw(name),
        }
    }
}

/// The prefix has a brace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BraceInPrefix;

impl fmt::Display for BraceInPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the prefix of a Redis Cluster cannot have braces")
    }
}

impl std::error::Error for BraceInPrefix {}

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
            let (numbered, raw) = (keys.numbered_channel("t:1"), keys.raw_channel("t:1"));
            let meaning_of = |channel: &'static str| keys.meaning_of(channel.as_bytes(), false);
            let leak = |text: &String| &*text.clone().leak();
            assert_eq!(meaning_of(leak(&numbered)), Channel::Numbered(0, b"t:1"));
            assert_eq!(meaning_of(leak(&raw)), Channel::Raw(b"t:1"));
            assert_eq!(meaning_of(leak(&keys.control_channel())), Channel::Control);
            let patterns = [keys.numbered_pattern("t:*"), keys.raw_pattern("t:*")];
            for (pattern, channel) in patterns.iter().zip([&numbered, &raw]) {
                assert!(pattern::matches(pattern.as_bytes(), channel.as_bytes()));
            }
        }
        let keys = Keys::new(Some("p"));
        assert_eq!(keys.meaning_of(b"q:t", false), Channel::Foreign);
        let raw = Keys::new(Some("a*b")).raw_pattern("t");
        assert!(!pattern::matches(raw.as_bytes(), b"axb:t"));
    }

    #[test]
    fn all_names_of_a_bucket_are_in_one_slot() {
        for prefix in [None, Some("p"), Some("a*b")] {
            let keys = Keys::of_cluster(prefix).expect("keys");
            let slots = keys.slots();
            assert_eq!(slots.len(), BUCKETS);
            let mut seen = [false; BUCKETS];
            for index in 0..200 {
                let topic = format!("t:{index}");
                let bucket = keys.bucket_of(&topic);
                seen[bucket] = true;
                let channel = keys.numbered_channel(&topic);
                let names = [
                    keys.head(bucket),
                    keys.topics(bucket),
                    keys.stream(&topic),
                    keys.values(&topic),
                    keys.once(&topic, "digest"),
                    keys.feed(bucket).expect("a feed"),
                    channel.clone(),
                ];
                for name in names {
                    assert_eq!(slot_of(name.as_bytes()), slots[bucket], "{name}");
                }
                let meaning = keys.meaning_of(channel.as_bytes(), true);
                assert_eq!(meaning, Channel::Numbered(bucket, topic.as_bytes()));
            }
            assert_eq!(seen, [true; BUCKETS]);
            let feed = keys.feed(7).expect("a feed");
            assert_eq!(keys.meaning_of(feed.as_bytes(), true), Channel::Feed(7));
            assert_eq!(keys.meaning_of(b"{x:1}:t", true), Channel::Foreign);
            let control = keys.control_channel();
            assert_eq!(keys.meaning_of(control.as_bytes(), false), Channel::Control);
        }
        assert_eq!(Keys::of_cluster(Some("a{b")).err(), Some(BraceInPrefix));
    }

    #[test]
    fn names_in_a_cluster() {
        let keys = Keys::of_cluster(None).expect("keys");
        assert_eq!(keys.head(3), "{waterwheel:3}:head");
        let keys = Keys::of_cluster(Some("p")).expect("keys");
        assert_eq!(keys.head(15), "{p:15}:waterwheel:head");
    }
}
