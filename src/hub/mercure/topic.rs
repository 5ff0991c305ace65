//! The hub's topics of Mercure's topics: their names and their rules.
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

use crate::hub::parts::HubOptions;
use crate::pubsub::{Rule, Rules};

/// The front of the topics of updates that are not private.
const PUBLIC: &str = "mercure:";

/// The front of the topics of private updates.
const PRIVATE: &str = "mercure-private:";

/// The front of the topics of ids.
const IDS: &str = "mercure-id:";

/// A pattern that all of these match.
pub(super) const ALL: &str = "mercure*";

/// The longest part of a name behind its front, in bytes.
pub(super) const REST_BYTES_MAX: usize = 256 - PRIVATE.len();

/// The sign in front of the hash of a topic that is too long.
const HASH: char = '#';

/// The ids that are kept in each of the 256 topics of ids.
const IDS_MAX: u32 = 1000;

/// Puts the rules of Mercure's topics in front of those of others, so that none of these makes a private update public.
/// What others say of topics that begin with `mercure-private:` holds beside that.
pub(crate) fn with_rules(mut options: HubOptions) -> HubOptions {
    if options.mercure.is_none() {
        return options;
    }
    let ages = options.rules.iter().map(|(_, rule)| rule.history_age);
    let ids = Rule {
        history_count: IDS_MAX,
        // An id is of use as long as something that follows on it is kept.
        history_age: ages.fold(Rule::default().history_age, |longest, age| longest.max(age)),
        is_private: true,
        ..Rule::default()
    };
    let private = |rule: &Rule| Rule {
        is_private: true,
        clients_publish: false,
        ..rule.clone()
    };
    let given = options.rules.iter();
    let given: Vec<_> = given
        .map(|(pattern, rule)| (pattern.to_owned(), rule.clone()))
        .collect();
    let (own, others): (Vec<_>, Vec<_>) = given
        .into_iter()
        .partition(|(pattern, _)| pattern.starts_with(PRIVATE));
    let own = own
        .into_iter()
        .map(|(pattern, rule)| (pattern, private(&rule)));
    let last = [
        (format!("{PRIVATE}*"), private(&Rule::default())),
        (format!("{IDS}*"), ids),
    ];
    let mut all = Rules::new();
    for (pattern, rule) in own.chain(last).chain(others) {
        if let Err(error) = all.add(&pattern, rule) {
            log::error!("the rule of {pattern:?} does not hold: {error}");
        }
    }
    options.rules = all;
    options
}

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
    use crate::hub::mercure::MercureOptions;
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

    #[test]
    fn rules_keep_private_updates_private() {
        let mut options = HubOptions::default();
        options.rules.add_text("*=history=5,age=1000").unwrap();
        let given = "mercure-private:/a/*=history=7,client-publish";
        options.rules.add_text(given).unwrap();
        assert_eq!(with_rules(options.clone()).rules, options.rules);
        options.mercure = Some(MercureOptions::default());
        let rules = with_rules(options).rules;
        let own = rules.of("mercure-private:/a/b");
        assert!(own.is_private && own.history_count == 7 && !own.clients_publish);
        let other = rules.of("mercure-private:b");
        assert!(other.is_private && other.history_count == 100);
        let ids = rules.of(&id_name("x"));
        assert!(ids.is_private && ids.history_age.as_secs() == 1000);
        assert_eq!(rules.of("mercure:b").history_count, 5);
    }
}
