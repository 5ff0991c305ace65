//! The digests by which Redis recognises the repeat of a request that has a key.
//!
//! Each publication of a request has a key of its own in Redis. The one of the first publication depends on the
//! credential and the key of the request alone, and its value says for which request it was used: so another request with
//! the same key is found before anything is published. Those of the others depend on the whole request, because
//! only a repeat of it comes to them.
//!
//! Digests are SHA-256 of parts that each stand behind their length, and so are the same on all nodes. The
//! credential and the key are not kept in Redis.

use std::borrow::Cow;
use std::fmt::Write;

use sha2::{Digest, Sha256};

use crate::hub::engine::repeat::RequestKey;
use crate::pubsub::Event;

use super::payload::{self, Sender};

/// The digests of one publication of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OnceDigests {
    /// In the name of the key in Redis.
    pub key: String,
    /// Of the whole request.
    pub request: String,
}

/// The digests of each publication of a request, in their order.
pub(super) fn digests(
    key: RequestKey<'_>,
    items: &[(Cow<'_, str>, Event<'_>)],
) -> Vec<OnceDigests> {
    let mut content = Vec::new();
    let mut digest = Sha256::new();
    for (topic, event) in items {
        content.clear();
        payload::encode(Sender::default(), event, &mut content);
        add(&mut digest, topic.as_bytes());
        add(&mut digest, &content);
    }
    let request = hexadecimal(digest);
    let digests = (0..items.len()).map(|index| {
        let mut digest = Sha256::new();
        digest.update([u8::from(key.credential.is_some())]);
        add(&mut digest, key.credential.unwrap_or_default().as_bytes());
        add(&mut digest, key.key);
        if 0 < index {
            add(&mut digest, request.as_bytes());
            digest.update((index as u64).to_be_bytes());
        }
        OnceDigests {
            key: hexadecimal(digest),
            request: request.clone(),
        }
    });
    digests.collect()
}

/// Adds a part behind its length, so that two lists of parts with the same bytes differ.
fn add(digest: &mut Sha256, part: &[u8]) {
    digest.update((part.len() as u64).to_be_bytes());
    digest.update(part);
}

fn hexadecimal(digest: Sha256) -> String {
    let mut text = String::with_capacity(64);
    for byte in digest.finalize() {
        // Writing to a text cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(
        credential: Option<&str>,
        key: &str,
        items: &[(&'static str, Event<'static>)],
    ) -> Vec<OnceDigests> {
        let key = RequestKey {
            credential,
            key: key.as_bytes(),
        };
        let items: Vec<_> = (items.iter())
            .map(|(topic, event)| (Cow::Borrowed(*topic), event.clone()))
            .collect();
        digests(key, &items)
    }

    #[test]
    fn the_first_key_depends_on_credential_and_key_alone() {
        let first = &of(None, "k", &[("a", Event::message("x"))])[0];
        let others = [
            of(None, "k", &[("b", Event::message("x"))]),
            of(None, "k", &[("a", Event::message("y"))]),
            of(None, "k", &[("a", Event::new("e").data("x"))]),
            of(None, "k", &[("a", Event::message("x").key("q"))]),
            of(None, "k", &[("a", Event::message("").json("x"))]),
            of(
                None,
                "k",
                &[("a", Event::message("x")), ("a", Event::message("x"))],
            ),
        ];
        for (index, other) in others.iter().enumerate() {
            assert_eq!(other[0].key, first.key, "{index}");
            assert_ne!(other[0].request, first.request, "{index}");
        }
        let scopes = [
            (Some(""), "k"),
            (Some("k"), ""),
            (None, "l"),
            (Some("t"), "k"),
        ];
        for (credential, key) in scopes {
            let other = &of(credential, key, &[("a", Event::message("x"))])[0];
            assert_ne!(other.key, first.key, "{credential:?} {key}");
            assert_eq!(other.request, first.request);
        }
    }

    #[test]
    fn later_keys_depend_on_the_whole_request() {
        let event = || Event::message("x");
        let of_both = of(None, "k", &[("a", event()), ("b", event())]);
        let of_three = of(None, "k", &[("a", event()), ("b", event()), ("b", event())]);
        let mut keys: Vec<_> = (of_both.iter().chain(&of_three).skip(1))
            .map(|digests| &digests.key)
            .collect();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), 4);
        assert_eq!(of_both, of(None, "k", &[("a", event()), ("b", event())]));
    }
}
