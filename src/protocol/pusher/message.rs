//! Messages: JSON objects with the name of an event, and its data.
//!
//! The data of an event is a text. Where it is JSON, as in all messages that the server makes itself, it stands in the
//! message as a string that holds JSON. `pusher:error` alone has an object.

use std::borrow::Cow;
use std::fmt;

use serde_json::value::RawValue;

use crate::protocol::json::{self, push_string, quote, string};

/// The front of the names of events that clients send to each other.
pub const CLIENT_EVENT: &str = "client-";

/// The longest name of an event, in bytes.
pub const EVENT_BYTES_MAX: usize = 200;

/// A message of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientMessage<'t> {
    /// `pusher:ping`, which is answered with [`PONG`].
    Ping,
    /// `pusher:pong`, the answer to [`PING`].
    Pong,
    /// `pusher:subscribe`.
    Subscribe {
        /// The name of the channel, as it came.
        channel: Cow<'t, str>,
        /// `KEY:SIGNATURE`; empty where none was sent.
        auth: Cow<'t, str>,
        /// The member's id and information, as they were signed.
        channel_data: Option<Cow<'t, str>>,
    },
    /// `pusher:unsubscribe`.
    Unsubscribe {
        /// The name of the channel, as it came.
        channel: Cow<'t, str>,
    },
    /// `pusher:signin`.
    SignIn {
        /// `KEY:SIGNATURE`; empty where none was sent.
        auth: Cow<'t, str>,
        /// The user's id and information, as they were signed.
        user_data: Cow<'t, str>,
    },
    /// An event for the other members of a channel.
    ClientEvent {
        /// The name of the event, which begins with [`CLIENT_EVENT`].
        event: Cow<'t, str>,
        /// The name of the channel, as it came.
        channel: Cow<'t, str>,
        /// The data, as JSON.
        data: &'t str,
    },
    /// Another event, to which there is no answer.
    Unknown,
}

/// The reason why a text is no message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageError(String);

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for MessageError {}

impl From<serde_json::Error> for MessageError {
    fn from(error: serde_json::Error) -> Self {
        MessageError(error.to_string())
    }
}

impl From<&str> for MessageError {
    fn from(why: &str) -> Self {
        MessageError(why.to_owned())
    }
}

/// Reads a message. `data` may be an object, or a string that holds one, which `scratch` keeps then.
///
/// # Errors
///
/// [`MessageError`] when it is no object with the name of an event, is nested more than 128 deep, or lacks what its
/// event needs.
pub fn parse<'t>(
    text: &'t str,
    scratch: &'t mut String,
) -> Result<ClientMessage<'t>, MessageError> {
    json::check_depth(text)?;
    let [event, channel, data] = json::fields(text, &["event", "channel", "data"])?;
    let event = event.and_then(string).ok_or("the message has no event")?;
    if event.starts_with(CLIENT_EVENT) {
        let channel = channel.and_then(string);
        return Ok(ClientMessage::ClientEvent {
            event,
            channel: channel.ok_or("the event has no channel")?,
            data: data.map_or("null", RawValue::get),
        });
    }
    match &*event {
        "pusher:ping" => return Ok(ClientMessage::Ping),
        "pusher:pong" => return Ok(ClientMessage::Pong),
        "pusher:subscribe" | "pusher:unsubscribe" | "pusher:signin" => {}
        _ => return Ok(ClientMessage::Unknown),
    }
    let data = data.ok_or("the message has no data")?;
    let data = match string(data) {
        None => data.get(),
        Some(text) => {
            *scratch = text.into_owned();
            json::check_depth(scratch)?;
            scratch
        }
    };
    let names = &["channel", "auth", "channel_data", "user_data"];
    let [channel, auth, channel_data, user_data] = json::fields(data, names)?;
    let channel = channel.and_then(string).ok_or("data has no channel");
    let auth = auth.and_then(string).unwrap_or_default();
    Ok(match &*event {
        "pusher:subscribe" => ClientMessage::Subscribe {
            channel: channel?,
            auth,
            channel_data: channel_data.and_then(string),
        },
        "pusher:unsubscribe" => ClientMessage::Unsubscribe { channel: channel? },
        _ => ClientMessage::SignIn {
            auth,
            user_data: user_data.and_then(string).ok_or("data has no user_data")?,
        },
    })
}

/// A member of a presence channel, or a user who signs in: `channel_data` and `user_data`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserData {
    /// The id, also where it was a number.
    pub id: String,
    /// The information about the user, as JSON.
    pub info: Option<Box<str>>,
    /// The ids of the users whose presence the client wants to know.
    pub watchlist: Vec<String>,
}

impl UserData {
    /// Reads the data of a member: `user_id`, a text or a number, and `user_info`.
    ///
    /// # Errors
    ///
    /// [`MessageError`] when it is no object, or has no id.
    pub fn of_member(text: &str) -> Result<UserData, MessageError> {
        json::check_depth(text)?;
        let [id, info] = json::fields(text, &["user_id", "user_info"])?;
        let number = |value: &RawValue| {
            let text = value.get();
            serde_json::from_str::<serde_json::Number>(text)
                .ok()
                .map(|_| text.to_owned())
        };
        let id = id.and_then(|id| string(id).map(Cow::into_owned).or_else(|| number(id)));
        Ok(UserData {
            id: id
                .filter(|id| !id.is_empty())
                .ok_or("channel_data has no user_id")?,
            info: info.map(|info| info.get().into()),
            watchlist: Vec::new(),
        })
    }

    /// Reads the data of a sign-in: `id`, a text, `user_info`, and `watchlist` with at most `watchlist_max` ids.
    ///
    /// # Errors
    ///
    /// [`MessageError`] when it is no object, has no id, or its watchlist is no list of texts or too long.
    pub fn of_sign_in(text: &str, watchlist_max: usize) -> Result<UserData, MessageError> {
        json::check_depth(text)?;
        let [id, info, watchlist] = json::fields(text, &["id", "user_info", "watchlist"])?;
        let id = id.and_then(string).filter(|id| !id.is_empty());
        let watchlist = match watchlist {
            None => Vec::new(),
            Some(list) => json::elements(list.get(), watchlist_max)?,
        };
        let ids = watchlist
            .into_iter()
            .map(|id| string(id).map(Cow::into_owned));
        Ok(UserData {
            id: id.ok_or("user_data has no id")?.into_owned(),
            info: info.map(|info| info.get().into()),
            watchlist: ids
                .collect::<Option<_>>()
                .ok_or("the watchlist has an id that is no text")?,
        })
    }
}

// ── for clients ──────────────────────────────────────────────────────────────────────────────────

/// Asks a client whether it is there.
pub const PING: &str = r#"{"event":"pusher:ping","data":"{}"}"#;

/// The answer to a ping of a client.
pub const PONG: &str = r#"{"event":"pusher:pong","data":"{}"}"#;

/// The greeting. `socket_id` is `DIGITS.DIGITS`; the client sends a ping when it has got nothing for so many seconds.
pub fn connection_established(socket_id: &str, activity_timeout_seconds: u32) -> String {
    let data = format!(
        "{{\"socket_id\":\"{socket_id}\",\"activity_timeout\":{activity_timeout_seconds}}}"
    );
    of_server("pusher:connection_established", None, &data)
}

/// An error, with its [`code`](super::code).
pub fn error(code: u16, why: &str, channel: Option<&str>) -> String {
    let data = format!("{{\"code\":{code},\"message\":{}}}", quote(why));
    with_data("pusher:error", channel, &data)
}

/// The answer to a subscription; for a presence channel with its members, as [`presence`] words them.
pub fn subscription_succeeded(channel: &str, data: &str) -> String {
    of_server(
        "pusher_internal:subscription_succeeded",
        Some(channel),
        data,
    )
}

/// A subscription is refused, with a status as of HTTP: 401 without the right to it, 403 above a limit, 400 and 503 otherwise.
pub fn subscription_error(channel: &str, why: &str, status: u16) -> String {
    let kind = match status {
        401 => "AuthError",
        403 => "LimitReached",
        _ => "Error",
    };
    let why = quote(why);
    let data = format!("{{\"type\":\"{kind}\",\"error\":{why},\"status\":{status}}}");
    with_data("pusher:subscription_error", Some(channel), &data)
}

/// The members of a presence channel, each once: their ids, and what is known of them as JSON.
pub fn presence<'m>(members: impl Iterator<Item = (&'m str, Option<&'m str>)>) -> String {
    let (mut ids, mut hash, mut count) = (Vec::new(), Vec::new(), 0);
    for (id, info) in members {
        if count != 0 {
            ids.push(b',');
            hash.push(b',');
        }
        count += 1;
        push_string(id, &mut ids);
        push_string(id, &mut hash);
        hash.push(b':');
        hash.extend_from_slice(info.unwrap_or("null").as_bytes());
    }
    let text = |bytes| String::from_utf8(bytes).expect("JSON is UTF-8");
    let (ids, hash) = (text(ids), text(hash));
    format!("{{\"presence\":{{\"ids\":[{ids}],\"hash\":{{{hash}}},\"count\":{count}}}}}")
}

/// A user has come to a presence channel, with his first connection.
pub fn member_added(channel: &str, id: &str, info: Option<&str>) -> String {
    let mut data = format!("{{\"user_id\":{}", quote(id));
    if let Some(info) = info {
        data.push_str(",\"user_info\":");
        data.push_str(info);
    }
    data.push('}');
    of_server("pusher_internal:member_added", Some(channel), &data)
}

/// A user has left a presence channel, with his last connection.
pub fn member_removed(channel: &str, id: &str) -> String {
    let data = format!("{{\"user_id\":{}}}", quote(id));
    of_server("pusher_internal:member_removed", Some(channel), &data)
}

/// How many connections have subscribed to a channel.
pub fn subscription_count(channel: &str, count: usize) -> String {
    let data = format!("{{\"subscription_count\":{count}}}");
    of_server("pusher_internal:subscription_count", Some(channel), &data)
}

/// A cache channel has no event for its new member.
pub fn cache_miss(channel: &str) -> String {
    of_server("pusher:cache_miss", Some(channel), "{}")
}

/// The answer to a sign-in, with its data.
pub fn sign_in_succeeded(user_data: &str) -> String {
    let data = format!("{{\"user_data\":{}}}", quote(user_data));
    of_server("pusher:signin_success", None, &data)
}

/// Users of a watchlist have come (`online`) or gone (`offline`).
pub fn watchlist_events(online: &[&str], offline: &[&str]) -> String {
    let mut events = Vec::new();
    for (name, ids) in [("online", online), ("offline", offline)] {
        if !ids.is_empty() {
            let ids: Vec<_> = ids.iter().map(|id| quote(id)).collect();
            let ids = ids.join(",");
            events.push(format!("{{\"name\":\"{name}\",\"user_ids\":[{ids}]}}"));
        }
    }
    let data = format!("{{\"events\":[{}]}}", events.join(","));
    of_server("pusher_internal:watchlist_events", None, &data)
}

/// Appends an event of the application. The data is the text that the publisher gave.
pub fn push_event(event: &str, channel: &str, data: &str, out: &mut Vec<u8>) {
    out.reserve(48 + event.len() + channel.len() + data.len());
    out.extend_from_slice(b"{\"event\":");
    push_string(event, out);
    out.extend_from_slice(b",\"channel\":");
    push_string(channel, out);
    out.extend_from_slice(b",\"data\":");
    push_string(data, out);
    out.push(b'}');
}

/// Appends an event of a client, with its data as JSON, and on a presence channel its user.
pub fn push_client_event(
    event: &str,
    channel: &str,
    data: &str,
    user_id: Option<&str>,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(b"{\"event\":");
    push_string(event, out);
    out.extend_from_slice(b",\"channel\":");
    push_string(channel, out);
    out.extend_from_slice(b",\"data\":");
    out.extend_from_slice(data.as_bytes());
    if let Some(user_id) = user_id {
        out.extend_from_slice(b",\"user_id\":");
        push_string(user_id, out);
    }
    out.push(b'}');
}

/// A message of the server itself, whose data is JSON in a string.
fn of_server(event: &str, channel: Option<&str>, data: &str) -> String {
    with_data(event, channel, &quote(data))
}

/// A message whose data is JSON.
fn with_data(event: &str, channel: Option<&str>, data: &str) -> String {
    match channel {
        None => format!("{{\"event\":\"{event}\",\"data\":{data}}}"),
        Some(channel) => {
            let channel = quote(channel);
            format!("{{\"event\":\"{event}\",\"channel\":{channel},\"data\":{data}}}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<String, String> {
        let mut scratch = String::new();
        parse(text, &mut scratch)
            .map(|message| format!("{message:?}"))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn messages_of_pusher_js() {
        for (text, expected) in [
            (r#"{"event":"pusher:ping","data":{}}"#, "Ping"),
            (r#"{"event":"pusher:pong","data":{}}"#, "Pong"),
            (
                r#"{"event":"pusher:subscribe","data":{"auth":"","channel":"news"}}"#,
                r#"Subscribe { channel: "news", auth: "", channel_data: None }"#,
            ),
            (
                r#"{"event":"pusher:subscribe","data":{"auth":"k:s","channel":"presence-a","channel_data":"{\"user_id\":\"7\"}"}}"#,
                r#"Subscribe { channel: "presence-a", auth: "k:s", channel_data: Some("{\"user_id\":\"7\"}") }"#,
            ),
            // Others send the data as a string.
            (
                r#"{"event":"pusher:subscribe","data":"{\"channel\":\"news\"}"}"#,
                r#"Subscribe { channel: "news", auth: "", channel_data: None }"#,
            ),
            (
                r#"{"event":"pusher:unsubscribe","data":{"channel":"news"}}"#,
                r#"Unsubscribe { channel: "news" }"#,
            ),
            (
                r#"{"event":"pusher:signin","data":{"auth":"k:s","user_data":"{\"id\":\"7\"}"}}"#,
                r#"SignIn { auth: "k:s", user_data: "{\"id\":\"7\"}" }"#,
            ),
            (
                r#"{"event":"client-typing","channel":"private-a","data":{"x":[1, 2]}}"#,
                r#"ClientEvent { event: "client-typing", channel: "private-a", data: "{\"x\":[1, 2]}" }"#,
            ),
            (
                r#"{"event":"client-typing","channel":"private-a"}"#,
                r#"ClientEvent { event: "client-typing", channel: "private-a", data: "null" }"#,
            ),
            (r#"{"event":"pusher:else","data":7}"#, "Unknown"),
            (r#"{"event":"news"}"#, "Unknown"),
        ] {
            assert_eq!(parsed(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn other_texts_are_no_messages() {
        let deep = format!(
            r#"{{"event":"client-a","channel":"b","data":{}{}}}"#,
            "[".repeat(1000),
            "]".repeat(1000)
        );
        let inner = format!(r#"{{"channel":{}"#, "[".repeat(1000));
        let deep_inside = format!(r#"{{"event":"pusher:subscribe","data":{}}}"#, quote(&inner));
        for (text, expected) in [
            ("", "EOF"),
            ("7", "an object"),
            ("[]", "an object"),
            ("{}", "no event"),
            (r#"{"event":7}"#, "no event"),
            (r#"{"event":"pusher:ping"} {}"#, "trailing"),
            (
                r#"{"event":"pusher:ping","event":"pusher:pong"}"#,
                "duplicate field",
            ),
            (r#"{"event":"pusher:subscribe"}"#, "no data"),
            (r#"{"event":"pusher:subscribe","data":7}"#, "an object"),
            (r#"{"event":"pusher:subscribe","data":{}}"#, "no channel"),
            (
                r#"{"event":"pusher:subscribe","data":{"channel":7}}"#,
                "no channel",
            ),
            (r#"{"event":"pusher:subscribe","data":"news"}"#, "expected"),
            (r#"{"event":"pusher:unsubscribe","data":{}}"#, "no channel"),
            (
                r#"{"event":"pusher:signin","data":{"auth":"a"}}"#,
                "no user_data",
            ),
            (r#"{"event":"client-a","data":{}}"#, "no channel"),
            (&deep, "more than 128 deep"),
            (&deep_inside, "more than 128 deep"),
        ] {
            let error = parsed(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn users_have_an_id() {
        let member = |text| UserData::of_member(text).map(|it| (it.id, it.info));
        let info = Some(r#"{"name":"A"}"#.into());
        assert_eq!(
            member(r#"{"user_id":10,"user_info":{"name":"A"}}"#),
            Ok(("10".to_owned(), info))
        );
        assert_eq!(member(r#"{"user_id":"ä\n"}"#), Ok(("ä\n".to_owned(), None)));
        for text in [
            "",
            "7",
            "{}",
            r#"{"user_id":""}"#,
            r#"{"user_id":null}"#,
            r#"{"user_id":[]}"#,
        ] {
            assert!(member(text).is_err(), "{text}");
        }
        let signed_in = |text| UserData::of_sign_in(text, 2).map(|it| (it.id, it.watchlist));
        let watchlist = vec!["a".to_owned(), "b".to_owned()];
        assert_eq!(
            signed_in(r#"{"id":"7","watchlist":["a","b"]}"#),
            Ok(("7".to_owned(), watchlist))
        );
        for text in [
            "{}",
            r#"{"id":7}"#,
            r#"{"id":""}"#,
            r#"{"id":"7","watchlist":7}"#,
            r#"{"id":"7","watchlist":[7]}"#,
            r#"{"id":"7","watchlist":["a","b","c"]}"#,
        ] {
            assert!(signed_in(text).is_err(), "{text}");
        }
    }

    #[test]
    fn messages_for_clients() {
        let mut event = Vec::new();
        push_event("e\"", "news", r#"{"x":1}"#, &mut event);
        let mut client_event = Vec::new();
        push_client_event(
            "client-a",
            "presence-b",
            "[1]",
            Some("7"),
            &mut client_event,
        );
        let members = [("11", Some(r#"{"n":1}"#)), ("12", None)];
        for (message, expected) in [
            (
                connection_established("1.2", 120),
                r#"{"event":"pusher:connection_established","data":"{\"socket_id\":\"1.2\",\"activity_timeout\":120}"}"#,
            ),
            (
                error(4301, "no", Some("private-a")),
                r#"{"event":"pusher:error","channel":"private-a","data":{"code":4301,"message":"no"}}"#,
            ),
            (
                subscription_succeeded("news", "{}"),
                r#"{"event":"pusher_internal:subscription_succeeded","channel":"news","data":"{}"}"#,
            ),
            (
                subscription_succeeded("presence-a", &presence(members.into_iter())),
                r#"{"event":"pusher_internal:subscription_succeeded","channel":"presence-a","data":"{\"presence\":{\"ids\":[\"11\",\"12\"],\"hash\":{\"11\":{\"n\":1},\"12\":null},\"count\":2}}"}"#,
            ),
            (
                subscription_error("private-a", "no", 401),
                r#"{"event":"pusher:subscription_error","channel":"private-a","data":{"type":"AuthError","error":"no","status":401}}"#,
            ),
            (
                member_added("presence-a", "11", Some("{}")),
                r#"{"event":"pusher_internal:member_added","channel":"presence-a","data":"{\"user_id\":\"11\",\"user_info\":{}}"}"#,
            ),
            (
                member_removed("presence-a", "11"),
                r#"{"event":"pusher_internal:member_removed","channel":"presence-a","data":"{\"user_id\":\"11\"}"}"#,
            ),
            (
                subscription_count("a", 5),
                r#"{"event":"pusher_internal:subscription_count","channel":"a","data":"{\"subscription_count\":5}"}"#,
            ),
            (
                cache_miss("cache-a"),
                r#"{"event":"pusher:cache_miss","channel":"cache-a","data":"{}"}"#,
            ),
            (
                sign_in_succeeded(r#"{"id":"7"}"#),
                r#"{"event":"pusher:signin_success","data":"{\"user_data\":\"{\\\"id\\\":\\\"7\\\"}\"}"}"#,
            ),
            (
                watchlist_events(&["a"], &["b", "c"]),
                r#"{"event":"pusher_internal:watchlist_events","data":"{\"events\":[{\"name\":\"online\",\"user_ids\":[\"a\"]},{\"name\":\"offline\",\"user_ids\":[\"b\",\"c\"]}]}"}"#,
            ),
            (
                String::from_utf8(event).unwrap(),
                r#"{"event":"e\"","channel":"news","data":"{\"x\":1}"}"#,
            ),
            (
                String::from_utf8(client_event).unwrap(),
                r#"{"event":"client-a","channel":"presence-b","data":[1],"user_id":"7"}"#,
            ),
        ] {
            assert_eq!(message, expected);
            json::check(&message).unwrap();
        }
    }
}
