//! Refusals: why the hub does not do what a client asks for.

use std::fmt;

use crate::protocol::event_stream::FieldError;
use crate::pubsub::{TOPIC_BYTES_MAX, TopicError, check_name};

use super::engine::PublishError;
use super::jwt::TokenError;
use super::rights::Lack;

/// Why the hub does not do what a client asks for.
#[derive(Debug)]
pub(super) enum Refusal {
    NeedsToken,
    /// Its token does not grant this.
    NotGranted,
    /// The token that it shows is signed and not valid.
    Token(TokenError),
    /// The token that it shows is of another user than the one before.
    AnotherUser,
    Topic(TopicError),
    EventName(FieldError),
    Key(InvalidKey),
    Publish(PublishError),
    NoPresence,
    /// The engine cannot subscribe to the name.
    Unavailable,
}

/// For the client, in words that fit every grammar. A grammar that says how a token is given has its
/// own words for [`Refusal::NeedsToken`].
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NeedsToken => f.write_str("this needs a token"),
            Refusal::NotGranted => f.write_str("the token does not grant this"),
            Refusal::Token(error) => error.fmt(f),
            Refusal::AnotherUser => {
                f.write_str("this connection belongs to another user; open another one")
            }
            Refusal::Topic(error) => error.fmt(f),
            Refusal::EventName(error) => error.fmt(f),
            Refusal::Key(error) => error.fmt(f),
            Refusal::Publish(error) => error.fmt(f),
            Refusal::NoPresence => f.write_str("the topic has no presence"),
            Refusal::Unavailable => f.write_str("the server cannot subscribe to this"),
        }
    }
}

impl From<Lack> for Refusal {
    fn from(lack: Lack) -> Refusal {
        match lack {
            Lack::Credential => Refusal::NeedsToken,
            Lack::Grant => Refusal::NotGranted,
        }
    }
}

/// The key of a message is empty, too long, or has control characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InvalidKey;

impl fmt::Display for InvalidKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "key: expected 1 to {TOPIC_BYTES_MAX} bytes without control characters"
        )
    }
}

/// Checks the key of a message: as the name of a topic.
///
/// # Errors
///
/// [`InvalidKey`].
pub(super) fn check_key(key: &str) -> Result<(), InvalidKey> {
    check_name(key).map_err(|_| InvalidKey)
}
