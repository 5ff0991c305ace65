//! Messages: JSON objects, one in each text message.
//!
//! The identifier of a subscription is a text of the client, which comes back byte for byte. It is JSON with the name of a
//! channel and its parameters; the order of these makes another identifier.

use std::borrow::Cow;
use std::fmt;

use crate::protocol::json::{self, quote, string};

/// A command of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command<'t> {
    /// `subscribe`: the client wants what is sent to this subscription.
    Subscribe {
        /// The subscription.
        identifier: Cow<'t, str>,
    },
    /// `unsubscribe`.
    Unsubscribe {
        /// The subscription.
        identifier: Cow<'t, str>,
    },
    /// `message`: an action of the subscription's channel.
    Message {
        /// The subscription.
        identifier: Cow<'t, str>,
        /// The data, as JSON in a text.
        data: Cow<'t, str>,
    },
}

/// The reason why a text is no command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandError(String);

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CommandError {}

impl From<serde_json::Error> for CommandError {
    fn from(error: serde_json::Error) -> Self {
        CommandError(error.to_string())
    }
}

impl From<&str> for CommandError {
    fn from(why: &str) -> Self {
        CommandError(why.to_owned())
    }
}

/// Reads a command.
///
/// # Errors
///
/// [`CommandError`] when it is no object with a known command and its identifier, or is nested more than 128 deep.
pub fn parse(text: &str) -> Result<Command<'_>, CommandError> {
    json::check_depth(text)?;
    let [command, identifier, data] = json::fields(text, &["command", "identifier", "data"])?;
    let command = command
        .and_then(string)
        .ok_or("the message has no command")?;
    let identifier = identifier.and_then(string);
    let identifier = identifier.ok_or("the command has no identifier")?;
    match &*command {
        "subscribe" => Ok(Command::Subscribe { identifier }),
        "unsubscribe" => Ok(Command::Unsubscribe { identifier }),
        "message" => Ok(Command::Message {
            identifier,
            data: data.and_then(string).ok_or("the message has no data")?,
        }),
        _ => Err("the command is not known".into()),
    }
}

/// The parts of an identifier that name a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identifier<'i> {
    /// The class of the channel.
    pub channel: Cow<'i, str>,
    /// `signed_stream_name`.
    pub signed_stream_name: Option<Cow<'i, str>>,
    /// `stream_name`.
    pub stream_name: Option<Cow<'i, str>>,
    /// `identifier`, which CableReady has for a signed name.
    pub identifier: Option<Cow<'i, str>>,
}

impl<'i> Identifier<'i> {
    /// Reads an identifier.
    ///
    /// # Errors
    ///
    /// [`CommandError`] when it is no object with a channel, has one of these names twice, or is nested more than 128
    /// deep.
    pub fn parse(text: &'i str) -> Result<Identifier<'i>, CommandError> {
        json::check_depth(text)?;
        let names = &["channel", "signed_stream_name", "stream_name", "identifier"];
        let [channel, signed, plain, identifier] = json::fields(text, names)?;
        let channel = channel.and_then(string);
        Ok(Identifier {
            channel: channel.ok_or("the identifier has no channel")?,
            signed_stream_name: signed.and_then(string),
            stream_name: plain.and_then(string),
            identifier: identifier.and_then(string),
        })
    }
}

// ── for clients ──────────────────────────────────────────────────────────────────────────────────

/// The greeting of a client that is accepted.
pub const WELCOME: &str = r#"{"type":"welcome"}"#;

/// The beat that a client needs within six seconds, at a time in seconds since 1970.
pub fn ping(now_unix: u64) -> String {
    format!("{{\"type\":\"ping\",\"message\":{now_unix}}}")
}

/// The client is subscribed.
pub fn confirmation(identifier: &str) -> String {
    let identifier = quote(identifier);
    format!("{{\"identifier\":{identifier},\"type\":\"confirm_subscription\"}}")
}

/// The client is not subscribed.
pub fn rejection(identifier: &str) -> String {
    let identifier = quote(identifier);
    format!("{{\"identifier\":{identifier},\"type\":\"reject_subscription\"}}")
}

/// The reasons for the end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The client has shown no right to be there.
    Unauthorized,
    /// The handshake was not one of this protocol.
    InvalidRequest,
    /// The server ends.
    ServerRestart,
    /// The application has ended it.
    Remote,
    /// The time of the client's token is over.
    TokenExpired,
}

impl Reason {
    fn as_str(self) -> &'static str {
        match self {
            Reason::Unauthorized => "unauthorized",
            Reason::InvalidRequest => "invalid_request",
            Reason::ServerRestart => "server_restart",
            Reason::Remote => "remote",
            Reason::TokenExpired => "token_expired",
        }
    }
}

/// The last message before the end. `reconnects` says whether the client is to come back.
pub fn disconnect(reason: Reason, reconnects: bool) -> String {
    let reason = reason.as_str();
    format!("{{\"type\":\"disconnect\",\"reason\":\"{reason}\",\"reconnect\":{reconnects}}}")
}

/// Appends a message of a subscription. `quoted_identifier` is the identifier as a string of JSON, and `message` is JSON:
/// they are put together as they are.
pub fn push_message(quoted_identifier: &str, message: &str, out: &mut Vec<u8>) {
    out.reserve(28 + quoted_identifier.len() + message.len());
    out.extend_from_slice(b"{\"identifier\":");
    out.extend_from_slice(quoted_identifier.as_bytes());
    out.extend_from_slice(b",\"message\":");
    out.extend_from_slice(message.as_bytes());
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_of_rails_clients() {
        let chat = r#"{"channel":"ChatChannel","room":"a"}"#;
        let quoted = quote(chat);
        let text = format!(r#"{{"command":"subscribe","identifier":{quoted}}}"#);
        let identifier = Cow::from(chat);
        assert_eq!(parse(&text), Ok(Command::Subscribe { identifier }));
        let text = format!(r#"{{"command":"unsubscribe","identifier":{quoted}}}"#);
        let identifier = Cow::from(chat);
        assert_eq!(parse(&text), Ok(Command::Unsubscribe { identifier }));
        let text = format!(
            r#"{{"command":"message","identifier":{quoted},"data":"{{\"action\":\"speak\"}}"}}"#
        );
        let expected = Command::Message {
            identifier: chat.into(),
            data: r#"{"action":"speak"}"#.into(),
        };
        assert_eq!(parse(&text), Ok(expected));
    }

    #[test]
    fn other_texts_are_no_commands() {
        let deep = format!(
            r#"{{"command":"subscribe","identifier":"x","data":{}1{}}}"#,
            "[".repeat(200),
            "]".repeat(200)
        );
        for text in [
            "",
            "[]",
            "{}",
            r#"{"command":"subscribe"}"#,
            r#"{"command":"subscribe","identifier":{}}"#,
            r#"{"command":"else","identifier":"x"}"#,
            r#"{"command":"message","identifier":"x"}"#,
            r#"{"command":"message","identifier":"x","data":{}}"#,
            r#"{"command":"subscribe","command":"subscribe","identifier":"x"}"#,
            r#"{"identifier":"x"}"#,
            &deep,
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn identifiers() {
        let text = r#"{"channel":"Turbo::StreamsChannel","signed_stream_name":"x--y","more":[1]}"#;
        let expected = Identifier {
            channel: "Turbo::StreamsChannel".into(),
            signed_stream_name: Some("x--y".into()),
            ..Identifier::default()
        };
        assert_eq!(Identifier::parse(text), Ok(expected));
        for text in [
            "",
            "x",
            "{}",
            r#"{"channel":7}"#,
            r#"{"channel":"A","channel":"B"}"#,
            &"[".repeat(1000),
        ] {
            assert!(Identifier::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn messages_for_clients() {
        let identifier = r#"{"channel":"A"}"#;
        let mut message = Vec::new();
        push_message(&quote(identifier), r#"{"x":1}"#, &mut message);
        for (message, expected) in [
            (
                ping(1_700_000_000),
                r#"{"type":"ping","message":1700000000}"#,
            ),
            (
                confirmation(identifier),
                r#"{"identifier":"{\"channel\":\"A\"}","type":"confirm_subscription"}"#,
            ),
            (
                rejection(identifier),
                r#"{"identifier":"{\"channel\":\"A\"}","type":"reject_subscription"}"#,
            ),
            (
                disconnect(Reason::ServerRestart, true),
                r#"{"type":"disconnect","reason":"server_restart","reconnect":true}"#,
            ),
            (
                String::from_utf8(message).unwrap(),
                r#"{"identifier":"{\"channel\":\"A\"}","message":{"x":1}}"#,
            ),
        ] {
            assert_eq!(message, expected);
            json::check(&message).unwrap();
        }
    }
}
