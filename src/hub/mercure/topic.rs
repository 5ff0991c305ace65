//! The hub's topics of Mercure's topics: their names.
//!
//! | name | what is published there |
//! |---|---|
//! | `mercure:TOPIC` | updates that are not private |
//! | `mercure-private:TOPIC` | private updates, under a private rule |
//! | `mercure:#HASH`, `mercure-private:#HASH` | as above, of a topic that is too long for a name |
//! | `mercure-id:NN` | which publication follows on an id that a publisher has chosen |
//!
//! The names have a front, so that a token for all topics of Mercure grants none of the hub's others, and the reverse.

use std::fmt::Write;

use sha2::{Digest, Sha256};

/// The front of the topics of updates that are not private.
pub(super) const PUBLIC: &str = "mercure:";

/// The front of the topics of private updates.
pub(super) const PRIVATE: &str = "mercure-private:";

/// The front of the topics of ids.
pub(super) const IDS: &str = "mercure-id:";

/// A pattern that all of these match.
pub(super) const ALL: &str = "mercure*";

/// The longest part of a name behind its front, in bytes.
pub(super) const REST_BYTES_MAX: usize = 256 - PRIVATE.len();

/// The sign in front of the hash of a topic that is too long.
const HASH: char = '#';

/// The name of the hub's topic of a topic.
pub(super) fn name_of(topic: &str, is_private: bool) -> String {
    let front = front_of(is_private);
    match REST_BYTES_MAX < topic.len() || topic.starts_with(HASH) {
        false => format!("{front}{topic}"),
        true => {
            let mut name = format!("{front}{HASH}");
            push_hash(topic, 32, &mut name);
            name
        }
    }
}

/// Whether a topic is not in its name.
pub(super) fn is_hashed(name: &str) -> bool {
    split(name).is_some_and(|(_, rest)| rest.starts_with(HASH))
}

/// The pattern of all names that have a hash.
pub(super) fn hashed_pattern(is_private: bool) -> String {
    format!("{}{HASH}*", front_of(is_private))
}

/// The name of a pattern of topics.
pub(super) fn pattern_of(glob: &str, is_private: bool) -> String {
    format!("{}{glob}", front_of(is_private))
}

fn front_of(is_private: bool) -> &'static str {
    match is_private {
        true => PRIVATE,
        false => PUBLIC,
    }
}

/// The name of the topic of an id.
pub(super) fn id_name(id: &str) -> String {
    let mut name = IDS.to_owned();
    push_hash(id, 1, &mut name);
    name
}

/// Whether a name is that of private updates, and the topic in it or its hash.
pub(super) fn split(name: &str) -> Option<(bool, &str)> {
    let public = name.strip_prefix(PUBLIC).map(|rest| (false, rest));
    public.or_else(|| name.strip_prefix(PRIVATE).map(|rest| (true, rest)))
}

fn push_hash(text: &str, bytes: usize, out: &mut String) {
    for byte in &Sha256::digest(text.as_bytes())[..bytes] {
        // Writing to a `String` does not fail.
        let _ = write!(out, "{byte:02x}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pubsub::check_name;

    #[test]
    fn names_of_topics() {
        let long = "é".repeat(REST_BYTES_MAX / 2);
        let longer = format!("{long}x");
        for topic in ["a", "https://e.com/?x=*", &long] {
            for is_private in [false, true] {
                let name = name_of(topic, is_private);
                assert_eq!(split(&name), Some((is_private, topic)));
                assert!(check_name(&name).is_ok() && !is_hashed(&name), "{name}");
            }
        }
        for topic in ["#a", &longer] {
            let name = name_of(topic, true);
            assert!(check_name(&name).is_ok() && is_hashed(&name), "{name}");
            assert_ne!(
                name,
                name_of(&topic.replace('x', "y").replace('a', "b"), true)
            );
        }
        assert_eq!(split("mercure-id:ab"), None);
        assert_eq!(id_name("x").len(), IDS.len() + 2);
    }
}
