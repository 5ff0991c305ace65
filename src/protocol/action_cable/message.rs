//! Messages: JSON objects, one in each text message.
//!
//! The identifier of a subscription is a text of the client, which comes back byte for byte. It is JSON with the name of a
//! channel and its parameters; the order of these makes another identifier.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde_json::value::RawValue;

use crate::protocol::json::{self, quote, string};

/// A command of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command<'t> {
    /// `subscribe`: the client wants what is sent to this subscription.
    Subscribe {
        /// The subscription.
        identifier: Cow<'t, str>,
        /// The place from which the client wants what it has missed.
        history: Option<HistoryRequest>,
        /// The user as which the client is present.
        presence: Option<Present>,
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
    /// `history`: the client wants what a subscription has missed.
    History {
        /// The subscription.
        identifier: Cow<'t, str>,
        /// The place from which it wants it.
        history: HistoryRequest,
    },
    /// `whisper`: a message for the other clients of a subscription's stream.
    Whisper {
        /// The subscription.
        identifier: Cow<'t, str>,
        /// The message, as JSON.
        data: &'t str,
    },
    /// `join`: the client is present as this user.
    Join {
        /// The subscription.
        identifier: Cow<'t, str>,
        /// The user.
        presence: Present,
    },
    /// `leave`: the client is present no more.
    Leave {
        /// The subscription.
        identifier: Cow<'t, str>,
    },
    /// `presence`: the client asks who is present.
    Presence {
        /// The subscription.
        identifier: Cow<'t, str>,
    },
    /// `pong`: the answer to a ping.
    Pong,
}

/// The places from which a client wants what it has missed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistoryRequest {
    /// A time in seconds since 1970, for streams without a place.
    pub since_unix: Option<u64>,
    /// The places of streams.
    pub streams: BTreeMap<String, Position>,
}

/// The place of a message in its stream, as it was sent with the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The order in which it counts.
    pub epoch: String,
    /// Its number there.
    pub offset: u64,
}

/// A user as which a client is present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Present {
    /// The name.
    pub id: String,
    /// More about the user, as JSON.
    pub info: Option<String>,
}

/// The most streams of one request for history.
const STREAMS_MAX: usize = 100;

impl HistoryRequest {
    fn parse(text: &str) -> Result<HistoryRequest, CommandError> {
        let [since, streams] = json::fields(text, &["since", "streams"])?;
        let since = since.map(|since| serde_json::from_str(since.get()));
        let streams = streams.map(|it| serde_json::from_str(it.get()));
        let streams: BTreeMap<String, &RawValue> = streams.transpose()?.unwrap_or_default();
        if STREAMS_MAX < streams.len() {
            return Err("the history has too many streams".into());
        }
        let position = |(stream, text): (String, &RawValue)| {
            let [epoch, offset] = json::fields(text.get(), &["epoch", "offset"])?;
            let epoch = epoch.and_then(string).ok_or("a place has no epoch")?;
            let offset = offset.map(|offset| serde_json::from_str(offset.get()));
            let position = Position {
                epoch: epoch.into_owned(),
                offset: offset.transpose()?.ok_or("a place has no offset")?,
            };
            Ok::<_, CommandError>((stream, position))
        };
        Ok(HistoryRequest {
            since_unix: since.transpose()?,
            streams: streams
                .into_iter()
                .map(position)
                .collect::<Result<_, _>>()?,
        })
    }
}

impl Present {
    fn parse(text: &str) -> Result<Present, CommandError> {
        let [id, info] = json::fields(text, &["id", "info"])?;
        let id = id.ok_or("the presence has no id")?;
        let id = match string(id) {
            Some(id) => id.into_owned(),
            // Clients may give a number.
            None if id.get().starts_with(['{', '[']) => {
                return Err("the id of the presence is no text".into());
            }
            None => id.get().to_owned(),
        };
        let info = info.filter(|info| info.get() != "null");
        Ok(Present {
            id,
            info: info.map(|info| info.get().to_owned()),
        })
    }
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
    let names = &["command", "identifier", "data", "history", "presence"];
    let [command, identifier, data, history, presence] = json::fields(text, names)?;
    let command = command
        .and_then(string)
        .ok_or("the message has no command")?;
    if command == "pong" {
        return Ok(Command::Pong);
    }
    let identifier = identifier.and_then(string);
    let identifier = identifier.ok_or("the command has no identifier")?;
    let history = history.map(|it| HistoryRequest::parse(it.get()));
    let history = history.transpose()?;
    let is_given = |it: &&RawValue| it.get() != "null";
    let presence = presence.filter(is_given);
    let presence = presence.map(|it| Present::parse(it.get())).transpose();
    match &*command {
        "subscribe" => Ok(Command::Subscribe {
            identifier,
            history,
            presence: presence?,
        }),
        "unsubscribe" => Ok(Command::Unsubscribe { identifier }),
        "message" => Ok(Command::Message {
            identifier,
            data: data.and_then(string).ok_or("the message has no data")?,
        }),
        "history" => Ok(Command::History {
            identifier,
            history: history.ok_or("the command has no history")?,
        }),
        "whisper" => Ok(Command::Whisper {
            identifier,
            data: data.ok_or("the whisper has no data")?.get(),
        }),
        "join" => Ok(Command::Join {
            identifier,
            presence: presence?.ok_or("the command has no presence")?,
        }),
        "leave" => Ok(Command::Leave { identifier }),
        "presence" => Ok(Command::Presence { identifier }),
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

/// The greeting of a client of the extended protocol, with the id of its session.
pub fn extended_welcome(sid: &str) -> String {
    format!("{{\"type\":\"welcome\",\"sid\":{}}}", quote(sid))
}

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

/// The client has got what it has missed. With `is_whole` false some of it is not known any more.
pub fn history_answer(identifier: &str, is_whole: bool) -> String {
    let kind = match is_whole {
        true => "confirm_history",
        false => "reject_history",
    };
    let identifier = quote(identifier);
    format!("{{\"identifier\":{identifier},\"type\":\"{kind}\"}}")
}

/// Appends a message about the users who are present. `quoted_identifier` is the identifier as a string of JSON.
fn push_presence(quoted_identifier: &str, message: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"type\":\"presence\",\"identifier\":");
    out.extend_from_slice(quoted_identifier.as_bytes());
    out.extend_from_slice(b",\"message\":");
    out.extend_from_slice(message.as_bytes());
    out.push(b'}');
}

/// Appends the message that a user has come. `info` is JSON.
pub fn push_joined(quoted_identifier: &str, id: &str, info: Option<&str>, out: &mut Vec<u8>) {
    let (id, info) = (quote(id), info.unwrap_or("null"));
    let message = format!("{{\"type\":\"join\",\"id\":{id},\"info\":{info}}}");
    push_presence(quoted_identifier, &message, out);
}

/// Appends the message that a user has gone.
pub fn push_left(quoted_identifier: &str, id: &str, out: &mut Vec<u8>) {
    let message = format!("{{\"type\":\"leave\",\"id\":{}}}", quote(id));
    push_presence(quoted_identifier, &message, out);
}

/// Appends the users who are present, each with `info` as JSON. They may be fewer than `total`.
pub fn push_present<'u>(
    quoted_identifier: &str,
    total: usize,
    users: impl Iterator<Item = (&'u str, Option<&'u str>)>,
    out: &mut Vec<u8>,
) {
    let records: Vec<String> = users
        .map(|(id, info)| {
            let (id, info) = (quote(id), info.unwrap_or("null"));
            format!("{{\"id\":{id},\"info\":{info}}}")
        })
        .collect();
    let records = records.join(",");
    let message = format!("{{\"type\":\"info\",\"total\":{total},\"records\":[{records}]}}");
    push_presence(quoted_identifier, &message, out);
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

/// As [`push_message`], with the place of the message in a stream, for clients of the extended protocol.
pub fn push_placed_message(
    quoted_identifier: &str,
    message: &str,
    stream: &str,
    position: &Position,
    out: &mut Vec<u8>,
) {
    push_message(quoted_identifier, message, out);
    out.pop();
    let (stream, epoch) = (quote(stream), quote(&position.epoch));
    let offset = position.offset;
    let place = format!(",\"stream_id\":{stream},\"epoch\":{epoch},\"offset\":{offset}}}");
    out.extend_from_slice(place.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_of_rails_clients() {
        let chat = r#"{"channel":"ChatChannel","room":"a"}"#;
        let quoted = quote(chat);
        let text = format!(r#"{{"command":"subscribe","identifier":{quoted}}}"#);
        let subscribe = Command::Subscribe {
            identifier: chat.into(),
            history: None,
            presence: None,
        };
        assert_eq!(parse(&text), Ok(subscribe));
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
    fn commands_of_the_extended_protocol() {
        let position = Position {
            epoch: "e".to_owned(),
            offset: 7,
        };
        let history = HistoryRequest {
            since_unix: Some(5),
            streams: BTreeMap::from([("s".to_owned(), position)]),
        };
        let present = |id: &str, info: Option<&str>| Present {
            id: id.to_owned(),
            info: info.map(str::to_owned),
        };
        let asked = r#""history":{"since":5,"streams":{"s":{"epoch":"e","offset":7}}}"#;
        for (text, expected) in [
            (
                &*format!(
                    r#"{{"command":"subscribe","identifier":"x",{asked},"presence":{{"id":"u"}}}}"#
                ),
                Command::Subscribe {
                    identifier: "x".into(),
                    history: Some(history.clone()),
                    presence: Some(present("u", None)),
                },
            ),
            (
                &format!(r#"{{"command":"history","identifier":"x",{asked}}}"#),
                Command::History {
                    identifier: "x".into(),
                    history,
                },
            ),
            (
                r#"{"command":"whisper","identifier":"x","data":{"a":1}}"#,
                Command::Whisper {
                    identifier: "x".into(),
                    data: r#"{"a":1}"#,
                },
            ),
            (
                r#"{"command":"join","identifier":"x","presence":{"id":7,"info":{"n":1}}}"#,
                Command::Join {
                    identifier: "x".into(),
                    presence: present("7", Some(r#"{"n":1}"#)),
                },
            ),
            (
                r#"{"command":"leave","identifier":"x","presence":null}"#,
                Command::Leave {
                    identifier: "x".into(),
                },
            ),
            (
                r#"{"command":"presence","identifier":"x","data":{}}"#,
                Command::Presence {
                    identifier: "x".into(),
                },
            ),
            (r#"{"command":"pong"}"#, Command::Pong),
        ] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
        for text in [
            r#"{"command":"history","identifier":"x"}"#,
            r#"{"command":"history","identifier":"x","history":{"since":-1}}"#,
            r#"{"command":"history","identifier":"x","history":{"streams":{"s":{}}}}"#,
            r#"{"command":"history","identifier":"x","history":{"streams":{"s":{"epoch":"e","offset":"7"}}}}"#,
            r#"{"command":"whisper","identifier":"x"}"#,
            r#"{"command":"join","identifier":"x"}"#,
            r#"{"command":"join","identifier":"x","presence":{"id":{}}}"#,
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
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
