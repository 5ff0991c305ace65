//! The keys of a hub, derived once: which stream an identifier names, and which backend may broadcast.

use crate::protocol::action_cable::message::Identifier;
use crate::protocol::action_cable::signed::{
    self, CABLE_READY_SALTS, Digest, SignedError, TURBO_SALT, derive_key,
};

use crate::hub::tokens::equal_in_constant_time;

use super::options::CableOptions;

/// The channel of Turbo.
const TURBO: &str = "Turbo::StreamsChannel";

/// The channel of CableReady.
const CABLE_READY: &str = "CableReady::Stream";

/// The channel for streams without a class of the application.
pub(super) const PUBSUB: &str = "$pubsub";

/// The digests that an application may have signed with.
const DIGESTS: [Digest; 2] = [Digest::Sha256, Digest::Sha1];

/// The stream that an identifier names.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// A name that the application has signed.
    Signed(String),
    /// A name that anybody can write.
    Plain(String),
    /// A channel of the application.
    Channel,
}

/// The reason why an identifier names no stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NameError {
    /// It has no signed name.
    Missing,
    /// Its name is not signed as it should be.
    Signed(SignedError),
}

impl std::fmt::Display for NameError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NameError::Missing => f.write_str("the identifier has no signed name of a stream"),
            NameError::Signed(error) => error.fmt(f),
        }
    }
}

/// The keys of a hub.
pub(super) struct Keys {
    turbo: Vec<Vec<u8>>,
    cable_ready: Vec<Vec<u8>>,
    pubsub: Vec<Vec<u8>>,
    /// The keys of tokens, beside those of the listener.
    tokens: Vec<Vec<u8>>,
    broadcast: Vec<String>,
}

impl Keys {
    pub(super) fn new(options: &CableOptions) -> Keys {
        let bytes = |keys: &[String]| -> Vec<Vec<u8>> {
            keys.iter().map(|key| key.clone().into_bytes()).collect()
        };
        let derived = |salt: &str| -> Vec<Vec<u8>> {
            let derived = options.secrets.iter().flat_map(|secret| {
                DIGESTS.map(|digest| derive_key(secret.as_bytes(), salt, digest))
            });
            derived.collect()
        };
        let mut turbo = bytes(&options.turbo_keys);
        turbo.extend(derived(TURBO_SALT));
        let mut cable_ready = bytes(&options.streams_keys);
        cable_ready.extend(CABLE_READY_SALTS.iter().flat_map(|salt| derived(salt)));
        let mut pubsub = bytes(&options.streams_keys);
        pubsub.extend(bytes(&options.secrets));
        let mut broadcast = options.broadcast_keys.clone();
        let secrets = options.secrets.iter();
        broadcast.extend(secrets.map(|secret| signed::broadcast_token(secret.as_bytes())));
        Keys {
            turbo,
            cable_ready,
            pubsub,
            tokens: bytes(&options.secrets),
            broadcast,
        }
    }

    /// The stream of an identifier. `now_unix` is the time in seconds since 1970.
    ///
    /// # Errors
    ///
    /// [`NameError`] where its channel needs a signed name that it does not have.
    pub(super) fn stream_of(
        &self,
        identifier: &Identifier<'_>,
        now_unix: u64,
    ) -> Result<Named, NameError> {
        let signed_name = identifier.signed_stream_name.as_deref();
        let (keys, name) = match &*identifier.channel {
            TURBO => (&self.turbo, signed_name),
            CABLE_READY => (&self.cable_ready, identifier.identifier.as_deref()),
            PUBSUB => match (signed_name, &identifier.stream_name) {
                (None, Some(name)) => return Ok(Named::Plain(name.clone().into_owned())),
                _ => (&self.pubsub, signed_name),
            },
            _ => return Ok(Named::Channel),
        };
        let name = name.ok_or(NameError::Missing)?;
        let stream = verify(keys, name, now_unix).map_err(NameError::Signed)?;
        Ok(Named::Signed(stream))
    }

    pub(super) fn of_tokens(&self) -> &[Vec<u8>] {
        &self.tokens
    }

    /// Whether a backend with this token may broadcast.
    pub(super) fn may_broadcast(&self, given: &str) -> bool {
        // All are compared, so that the time does not depend on which one it is.
        (self.broadcast.iter()).fold(false, |is_found, expected| {
            is_found | equal_in_constant_time(expected, given)
        })
    }

    /// Whether there is a token for broadcasts.
    pub(super) fn has_broadcast_token(&self) -> bool {
        !self.broadcast.is_empty()
    }
}

/// The string that one of the keys has signed.
fn verify(keys: &[Vec<u8>], text: &str, now_unix: u64) -> Result<String, SignedError> {
    let mut last = SignedError::Signature;
    for key in keys {
        for digest in DIGESTS {
            match signed::stream_name(key, digest, text, now_unix) {
                Err(SignedError::Signature) => {}
                Err(error) => last = error,
                stream => return stream,
            }
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `chat/2024`, signed with `s3Krit`.
    const CHAT: &str =
        "ImNoYXQvMjAyNCI=--82a3fbb6e2c6083afdbd1a63564580bfcf9284f8bef3bce300c4b31b0b3e45e6";

    /// `Z2lkOi8vVGVzdEFwcC9Qb3N0LzE:comments`, signed by Turbo under a secret of 128 letters `a`.
    const COMMENTS: &str = "IloybGtPaTh2VkdWemRFRndjQzlRYjNOMEx6RTpjb21tZW50cyI=\
        --3672eedc111f12600dd92f2ffbe154c5fb6b727815e0f7e79a66665795bdc851";

    fn named(keys: &Keys, identifier: &str) -> Result<Named, NameError> {
        keys.stream_of(&Identifier::parse(identifier).unwrap(), 1_700_000_000)
    }

    #[test]
    fn streams_of_identifiers() {
        let keys = Keys::new(&CableOptions {
            secrets: vec!["a".repeat(128)],
            streams_keys: vec!["s3Krit".to_owned()],
            ..CableOptions::default()
        });
        let comments = "Z2lkOi8vVGVzdEFwcC9Qb3N0LzE:comments".to_owned();
        let wrong = NameError::Signed(SignedError::Signature);
        for (channel, name, signed, expected) in [
            (
                TURBO,
                "signed_stream_name",
                COMMENTS,
                Ok(Named::Signed(comments)),
            ),
            (
                PUBSUB,
                "signed_stream_name",
                CHAT,
                Ok(Named::Signed("chat/2024".into())),
            ),
            (
                CABLE_READY,
                "identifier",
                CHAT,
                Ok(Named::Signed("chat/2024".into())),
            ),
            (
                PUBSUB,
                "stream_name",
                "chat/2024",
                Ok(Named::Plain("chat/2024".into())),
            ),
            ("ChatChannel", "room", "7", Ok(Named::Channel)),
            // Each channel has keys of its own.
            (TURBO, "signed_stream_name", CHAT, Err(wrong)),
            (PUBSUB, "signed_stream_name", COMMENTS, Err(wrong)),
            (CABLE_READY, "identifier", COMMENTS, Err(wrong)),
            (TURBO, "signed_stream_name", "", Err(wrong)),
            (TURBO, "stream_name", "chat/2024", Err(NameError::Missing)),
            (
                CABLE_READY,
                "signed_stream_name",
                CHAT,
                Err(NameError::Missing),
            ),
            (PUBSUB, "name", "chat/2024", Err(NameError::Missing)),
        ] {
            let identifier = format!(r#"{{"channel":"{channel}","{name}":"{signed}"}}"#);
            assert_eq!(named(&keys, &identifier), expected, "{identifier}");
        }
        // A plain name beside a signed one does not count.
        let both = format!(
            r#"{{"channel":"$pubsub","stream_name":"x","signed_stream_name":"{}"}}"#,
            CHAT.replace("82a3", "82a4")
        );
        assert_eq!(named(&keys, &both), Err(wrong));
    }

    #[test]
    fn without_keys_no_name_is_signed() {
        let keys = Keys::new(&CableOptions::default());
        for (channel, name) in [
            (TURBO, "signed_stream_name"),
            (PUBSUB, "signed_stream_name"),
            (CABLE_READY, "identifier"),
        ] {
            let identifier = format!(r#"{{"channel":"{channel}","{name}":"{CHAT}"}}"#);
            assert!(named(&keys, &identifier).is_err(), "{identifier}");
        }
        assert!(!keys.has_broadcast_token() && !keys.may_broadcast(""));
    }

    #[test]
    fn tokens_of_broadcasts() {
        let keys = Keys::new(&CableOptions {
            secrets: vec!["secret".to_owned()],
            broadcast_keys: vec!["my-key".to_owned()],
            ..CableOptions::default()
        });
        // printf broadcast-cable | openssl dgst -sha256 -hmac secret
        let derived = "fc20575eaa046c555be789f7a9df5111d64eb17e4956597597c3220c1ad14739";
        for (token, expected) in [
            ("my-key", true),
            (derived, true),
            ("secret", false),
            ("", false),
        ] {
            assert_eq!(keys.may_broadcast(token), expected, "{token}");
        }
    }
}
