//! Names of channels. The front of a name says which kind of channel it is.

use std::fmt;

/// The longest name of a channel, in bytes.
pub const NAME_BYTES_MAX: usize = 200;

/// The channel of the connections that are signed in as one user: this, and the id of the user.
const SERVER_TO_USER: &str = "#server-to-user-";

/// The kinds of channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelKind {
    /// Anybody may subscribe.
    Public,
    /// The backend signs each subscription.
    Private,
    /// A private channel whose data the server cannot read.
    Encrypted,
    /// A private channel whose members know of each other.
    Presence,
    /// The connections of one user, who is signed in.
    ServerToUser,
}

/// A valid name of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Channel<'n> {
    name: &'n str,
    kind: ChannelKind,
    is_cache: bool,
}

/// The reason why a text is no name of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelError {
    /// It is empty.
    Empty,
    /// It is longer than [`NAME_BYTES_MAX`].
    TooLong,
    /// It has another character than letters and digits of ASCII and `_-=@,.;`.
    Character(char),
}

impl fmt::Display for ChannelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChannelError::Empty => f.write_str("the name of the channel is empty"),
            ChannelError::TooLong => write!(
                f,
                "the name of the channel is longer than {NAME_BYTES_MAX} bytes"
            ),
            ChannelError::Character(found) => {
                write!(f, "the name of a channel cannot have {found:?}")
            }
        }
    }
}

impl std::error::Error for ChannelError {}

impl<'n> Channel<'n> {
    /// Checks a name, and finds out which kind of channel has it.
    ///
    /// # Errors
    ///
    /// [`ChannelError`] when it is no name of a channel.
    pub fn parse(name: &'n str) -> Result<Channel<'n>, ChannelError> {
        if name.is_empty() {
            return Err(ChannelError::Empty);
        }
        if NAME_BYTES_MAX < name.len() {
            return Err(ChannelError::TooLong);
        }
        let user = name.strip_prefix(SERVER_TO_USER);
        if user.is_some_and(|user| !user.is_empty() && !user.contains(char::is_control)) {
            return Ok(Channel {
                name,
                kind: ChannelKind::ServerToUser,
                is_cache: false,
            });
        }
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || "_-=@,.;".contains(c);
        if let Some(found) = name.chars().find(|c| !is_allowed(*c)) {
            return Err(ChannelError::Character(found));
        }
        // The longer front first: it begins with another one.
        let kinds = [
            ("private-encrypted-", ChannelKind::Encrypted),
            ("private-", ChannelKind::Private),
            ("presence-", ChannelKind::Presence),
        ];
        let kind = kinds
            .into_iter()
            .find_map(|(front, kind)| Some((name.strip_prefix(front)?, kind)));
        let (rest, kind) = kind.unwrap_or((name, ChannelKind::Public));
        Ok(Channel {
            name,
            kind,
            is_cache: rest.starts_with("cache-"),
        })
    }

    /// The name.
    pub fn name(self) -> &'n str {
        self.name
    }

    /// Which kind of channel it is.
    pub fn kind(self) -> ChannelKind {
        self.kind
    }

    /// Whether a new member gets the last event.
    pub fn is_cache(self) -> bool {
        self.is_cache
    }

    /// Whether a subscription needs the signature of the backend.
    pub fn needs_signature(self) -> bool {
        match self.kind {
            ChannelKind::Private | ChannelKind::Encrypted | ChannelKind::Presence => true,
            ChannelKind::Public | ChannelKind::ServerToUser => false,
        }
    }

    /// Whether its members may send events to each other.
    pub fn takes_client_events(self) -> bool {
        matches!(self.kind, ChannelKind::Private | ChannelKind::Presence)
    }

    /// The user to whom it belongs.
    pub fn user(self) -> Option<&'n str> {
        self.name.strip_prefix(SERVER_TO_USER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_front_of_a_name_says_the_kind() {
        use ChannelKind::*;
        for (name, kind, is_cache) in [
            ("news", Public, false),
            ("a_-=@,.;Z9", Public, false),
            ("cache-news", Public, true),
            ("my-cache-x", Public, false),
            ("foo-private-x", Public, false),
            ("privat-x", Public, false),
            ("private-x", Private, false),
            ("private-cache-x", Private, true),
            ("private-encrypted-x", Encrypted, false),
            ("private-encrypted-cache-x", Encrypted, true),
            ("private-cache-encrypted-x", Private, true),
            ("presence-x", Presence, false),
            ("presence-cache-x", Presence, true),
            ("presence-encrypted-x", Presence, false),
            ("#server-to-user-7", ServerToUser, false),
        ] {
            let channel = Channel::parse(name).unwrap();
            assert_eq!(
                (channel.kind(), channel.is_cache()),
                (kind, is_cache),
                "{name}"
            );
            assert_eq!(channel.name(), name);
        }
        assert_eq!(
            Channel::parse("#server-to-user-a b").unwrap().user(),
            Some("a b")
        );
    }

    #[test]
    fn other_texts_are_no_names() {
        let long = "x".repeat(NAME_BYTES_MAX + 1);
        for (name, expected) in [
            ("", ChannelError::Empty),
            (long.as_str(), ChannelError::TooLong),
            ("a b", ChannelError::Character(' ')),
            ("a:b", ChannelError::Character(':')),
            ("a/b", ChannelError::Character('/')),
            ("ä", ChannelError::Character('ä')),
            ("a\n", ChannelError::Character('\n')),
            ("#x", ChannelError::Character('#')),
            ("#server-to-user-", ChannelError::Character('#')),
        ] {
            assert_eq!(Channel::parse(name), Err(expected), "{name:?}");
        }
        assert!(Channel::parse(&long[1..]).is_ok());
    }
}
