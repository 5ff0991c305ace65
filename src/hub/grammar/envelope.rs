//! The envelope: JSON objects both ways, with subprotocol `waterwheel.v1.json`.
//!
//! From the client: `{"subscribe":"t"}`, `{"unsubscribe":"t"}`, `{"publish":"t","data":...}` with
//! an optional `"event"`, `{"auth":"TOKEN"}`. From the server: `{"topic":"t","id":"...","data":...}`
//! with `"event"` where there is one and `"by":"PATTERN"` where it came by a pattern only, `{"subscribed":"t"}`,
//! `{"error":"...","code":"...","about":...}`.

use std::fmt;

use serde_core::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;

use crate::hub::client::{Authorized, Client, Refusal};
use crate::hub::engine::PublishError;
use crate::hub::json::{self, push_string, quote};
use crate::protocol::event_stream;
use crate::pubsub::{BodyKind, Payload, Publication, TopicError};
use crate::reactor::id::ConnId;
use crate::reactor::reactor::Reactor;

/// The name of the subprotocol.
pub const SUBPROTOCOL: &str = "waterwheel.v1.json";

/// The kind of an error, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Code {
    /// The message is not a command that can be carried out.
    Bad,
    /// A token is missing or wrong.
    Unauthorized,
    /// The token does not grant it.
    Forbidden,
    /// The client is at one of its limits.
    Limit,
    /// The hub cannot do it now.
    Unavailable,
}

impl Code {
    fn name(self) -> &'static str {
        match self {
            Code::Bad => "bad",
            Code::Unauthorized => "unauthorized",
            Code::Forbidden => "forbidden",
            Code::Limit => "limit",
            Code::Unavailable => "unavailable",
        }
    }
}

/// Why a command was not carried out: a sentence for the client, and its kind.
#[derive(Debug, PartialEq, Eq)]
struct Failure {
    code: Code,
    why: String,
}

impl<T: Into<String>> From<T> for Failure {
    fn from(why: T) -> Failure {
        Failure {
            code: Code::Bad,
            why: why.into(),
        }
    }
}

/// A request of a client.
#[derive(Debug, PartialEq, Eq)]
enum Command {
    Subscribe(String),
    Unsubscribe(String),
    Publish {
        topic: String,
        event: Option<String>,
        /// Valid JSON, as the client wrote it.
        data: String,
    },
    Auth(String),
    Presence(String),
}

/// Carries out a client's message, and answers it where the grammar has an answer.
pub(super) fn on_text<S: 'static>(client: &mut Client<'_, '_, S>, text: &str) {
    match carry_out(client, text) {
        Ok(Some(answer)) => client.send(&answer),
        Ok(None) => {}
        Err(failure) if has_token(text) => client.send(&error(&failure, None)),
        Err(failure) => client.send(&error(&failure, Some(text))),
    }
}

fn carry_out<S: 'static>(
    client: &mut Client<'_, '_, S>,
    text: &str,
) -> Result<Option<String>, Failure> {
    match parse(text)? {
        Command::Subscribe(name) => {
            client.subscribe(&name).map_err(failure)?;
            client.send(&subscribed(&name));
            client.announce(&name);
            Ok(None)
        }
        Command::Unsubscribe(name) => match client.unsubscribe(&name) {
            true => Ok(None),
            false => Err("not subscribed".into()),
        },
        Command::Publish { topic, event, data } => {
            let id = client.id();
            let about = about_publish(&topic);
            let done = move |reactor: &mut Reactor<S>, outcome: Result<_, PublishError>| {
                if let Err(refused) = outcome {
                    let failure = Failure {
                        code: Code::Unavailable,
                        why: refused.to_string(),
                    };
                    reactor.send(id, error(&failure, Some(&about)));
                }
            };
            client
                .publish_json(&topic, event, data, done)
                .map_err(failure)?;
            Ok(None)
        }
        Command::Presence(topic) => client.presence(&topic).map(Some).map_err(failure),
        Command::Auth(token) => {
            let wrong = Failure {
                code: Code::Unauthorized,
                why: "wrong token".into(),
            };
            match client.authenticate(&token, || error(&wrong, None)) {
                Ok(Some(authorized)) => {
                    for name in &authorized.ended {
                        client.send(&unsubscribed_for_expiry(name));
                    }
                    Ok(Some(encode_authorized(&authorized)))
                }
                Ok(None) => Ok(None),
                Err(refusal) => Err(failure(refusal)),
            }
        }
    }
}

fn failure(refusal: Refusal) -> Failure {
    let code = match &refusal {
        Refusal::NeedsToken | Refusal::Token(_) => Code::Unauthorized,
        Refusal::NotGranted | Refusal::AnotherUser => Code::Forbidden,
        Refusal::Topic(
            TopicError::TooMany { .. } | TopicError::TooManyPatterns { .. } | TopicError::Full,
        ) => Code::Limit,
        Refusal::Topic(
            TopicError::Empty | TopicError::TooLong { .. } | TopicError::ControlCharacter,
        ) => Code::Bad,
        Refusal::EventName(_) | Refusal::NoPresence => Code::Bad,
        Refusal::Publish(_) => Code::Unavailable,
    };
    let why = match refusal {
        Refusal::NeedsToken => "this needs a token: {\"auth\":\"TOKEN\"}".into(),
        refusal => refusal.to_string(),
    };
    Failure { code, why }
}

/// The command in a client's message.
///
/// # Errors
///
/// The failure for the client.
fn parse(text: &str) -> Result<Command, Failure> {
    json::check_depth(text).map_err(|error| error.to_string())?;
    let fields: Fields<'_> =
        serde_json::from_str(text).map_err(|error| match error.classify() {
            Category::Data => error.to_string(),
            Category::Io | Category::Syntax | Category::Eof => format!("not JSON: {error}"),
        })?;
    if 1 < fields.command_count() {
        return Err("a message has one command".into());
    }
    if let Some(topic) = fields.string("subscribe")? {
        return Ok(Command::Subscribe(topic));
    }
    if let Some(topic) = fields.string("unsubscribe")? {
        return Ok(Command::Unsubscribe(topic));
    }
    if let Some(token) = fields.string("auth")? {
        return Ok(Command::Auth(token));
    }
    if let Some(topic) = fields.string("presence")? {
        return Ok(Command::Presence(topic));
    }
    let Some(topic) = fields.string("publish")? else {
        let commands = "\"subscribe\", \"unsubscribe\", \"publish\", \"auth\" or \"presence\"";
        return Err(format!("expected {commands}").into());
    };
    let event = fields.string("event")?;
    let data = fields.value("data").ok_or("\"publish\" needs \"data\"")?;
    Ok(Command::Publish {
        topic,
        event,
        data: data.get().to_owned(),
    })
}

/// The fields that a command is made of, those that name it first. Others are ignored.
const KNOWN: [&str; 7] = [
    "subscribe",
    "unsubscribe",
    "auth",
    "publish",
    "presence",
    "event",
    "data",
];

/// How many of the [`KNOWN`] fields name a command.
const COMMANDS: usize = 5;

/// Limit of the fields in one message, known or not.
const FIELDS_MAX: usize = 64;

/// The values of the [`KNOWN`] fields as they stand in the message. Other fields are not kept, so
/// that a message of many small fields costs no memory.
#[derive(Default)]
struct Fields<'t>([Option<&'t RawValue>; KNOWN.len()]);

impl<'t> Fields<'t> {
    fn value(&self, name: &str) -> Option<&'t RawValue> {
        let index = KNOWN.iter().position(|known| *known == name)?;
        self.0[index]
    }

    /// How many commands the message names. Of two, one could be left out without a word.
    fn command_count(&self) -> usize {
        self.0[..COMMANDS].iter().flatten().count()
    }

    fn string(&self, name: &str) -> Result<Option<String>, String> {
        let value = self.value(name);
        let text = value.map(|value| serde_json::from_str(value.get()));
        text.transpose()
            .map_err(|_| format!("\"{name}\" must be a string"))
    }
}

impl<'t> Deserialize<'t> for Fields<'t> {
    fn deserialize<D: Deserializer<'t>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'t> Visitor<'t> for FieldsVisitor {
    type Value = Fields<'t>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'t>>(self, mut map: A) -> Result<Fields<'t>, A::Error> {
        let mut fields = Fields::default();
        let mut count = 0;
        while let Some(FieldIndex(index)) = map.next_key()? {
            count += 1;
            if FIELDS_MAX < count {
                return Err(A::Error::custom(format_args!(
                    "more than {FIELDS_MAX} fields"
                )));
            }
            let Some(index) = index else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if fields.0[index].replace(map.next_value()?).is_some() {
                return Err(A::Error::duplicate_field(KNOWN[index]));
            }
        }
        Ok(fields)
    }
}

/// The index of a name in [`KNOWN`], also when the message escapes its letters. `None`: an unknown field.
struct FieldIndex(Option<usize>);

impl<'t> Deserialize<'t> for FieldIndex {
    fn deserialize<D: Deserializer<'t>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(NameVisitor)
    }
}

struct NameVisitor;

impl Visitor<'_> for NameVisitor {
    type Value = FieldIndex;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<FieldIndex, E> {
        Ok(FieldIndex(KNOWN.iter().position(|known| *known == name)))
    }
}

/// Appends a publication. The wire format uses values, because the envelope names the pattern.
pub(crate) fn encode(publication: &Publication<'_>, out: &mut Vec<u8>) -> BodyKind {
    let payload = publication.event.payload();
    out.reserve(64 + payload.as_bytes().len());
    out.extend_from_slice(b"{\"topic\":");
    push_string(publication.topic, out);
    out.extend_from_slice(b",\"id\":\"");
    publication.id.encode(out);
    out.push(b'"');
    if let Some(name) = publication.event.name() {
        out.extend_from_slice(b",\"event\":");
        push_string(name, out);
    }
    if let Some(pattern) = publication.pattern {
        out.extend_from_slice(b",\"by\":");
        push_string(pattern, out);
    }
    out.extend_from_slice(b",\"data\":");
    match payload {
        Payload::Json(value) => out.extend_from_slice(value.as_bytes()),
        Payload::Text(_) | Payload::Binary(_) => push_string(&payload.to_text(), out),
    }
    out.push(b'}');
    BodyKind::Text
}

/// Appends a publication as an event of an event stream, with the envelope as its data.
///
/// The event has no name of its own, because an `EventSource` hands events with a name only to
/// listeners of that name. The envelope has the name.
pub(crate) fn encode_event(publication: &Publication<'_>, out: &mut Vec<u8>) -> BodyKind {
    let mut envelope = Vec::new();
    let kind = encode(publication, &mut envelope);
    let envelope = str::from_utf8(&envelope).expect("JSON is UTF-8");
    out.extend_from_slice(format!("id: {}\n", publication.id).as_bytes());
    event_stream::encode(None, None, envelope, out).expect("there is no name and no id to refuse");
    kind
}

/// `{"subscribed":"t"}`.
fn subscribed(topic: &str) -> String {
    format!("{{\"subscribed\":{}}}", quote(topic))
}

/// `{"unsubscribed":"t","reason":"expired"}`.
fn unsubscribed_for_expiry(name: &str) -> String {
    let name = quote(name);
    format!("{{\"unsubscribed\":{name},\"reason\":\"expired\"}}")
}

/// `{"authorized":{"user":"u","expires":1000000000}}`.
fn encode_authorized(authorized: &Authorized) -> String {
    let user = authorized.user.as_deref();
    let user = user.map(|user| format!("\"user\":{}", quote(user)));
    let expires = authorized.expires_unix;
    let expires = expires.map(|expires| format!("\"expires\":{expires}"));
    let fields: Vec<_> = [user, expires].into_iter().flatten().collect();
    format!("{{\"authorized\":{{{}}}}}", fields.join(","))
}

/// Tells a client that its token has ended, and which subscriptions with it.
pub(super) fn on_end<S: 'static>(reactor: &mut Reactor<S>, id: ConnId, names: &[String]) {
    for name in names {
        reactor.send(id, unsubscribed_for_expiry(name));
    }
    reactor.send(id, "{\"expired\":true}");
}

/// Whether a client's message may contain a token, which must not be sent back: a page that shows
/// the answer would show the token. In doubt it may.
fn has_token(text: &str) -> bool {
    match serde_json::from_str::<Fields<'_>>(text) {
        Ok(fields) => fields.value("auth").is_some(),
        Err(_) => text.contains("auth"),
    }
}

/// `{"error":"...","code":"...","about":...}`, where `about` is the client's message when that was JSON, and
/// its text otherwise. Without `about` where the message may contain a token.
fn error(failure: &Failure, about: Option<&str>) -> String {
    let (why, code) = (quote(&failure.why), failure.code.name());
    let Some(about) = about else {
        return format!("{{\"error\":{why},\"code\":\"{code}\"}}");
    };
    // A large message is cut: its beginning is enough to recognize it.
    let about = match about.len() {
        0..=1024 if json::check(about).is_ok() => about.to_owned(),
        _ => quote(&about.chars().take(256).collect::<String>()),
    };
    format!("{{\"error\":{why},\"code\":\"{code}\",\"about\":{about}}}")
}

/// The `about` of an error when a publication fails after its message was handled.
fn about_publish(topic: &str) -> String {
    format!("{{\"publish\":{}}}", quote(topic))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands() {
        let publish = |event: Option<&str>, data: &str| Command::Publish {
            topic: "t".into(),
            event: event.map(str::to_owned),
            data: data.into(),
        };
        let cases: &[(&str, Option<Command>)] = &[
            (
                r#"{"subscribe":"a.*"}"#,
                Some(Command::Subscribe("a.*".into())),
            ),
            (
                r#"{"unsubscribe":"a"}"#,
                Some(Command::Unsubscribe("a".into())),
            ),
            (r#"{"auth":"secret"}"#, Some(Command::Auth("secret".into()))),
            (r#"{"presence":"t"}"#, Some(Command::Presence("t".into()))),
            (r#"{"presence":"t","subscribe":"t"}"#, None),
            (r#"{"presence":["t"]}"#, None),
            (
                r#"{"publish":"t","data":{"b":1,"a":[2.50]}}"#,
                Some(publish(None, r#"{"b":1,"a":[2.50]}"#)),
            ),
            (
                r#"{"data":null,"event":"e","publish":"t"}"#,
                Some(publish(Some("e"), "null")),
            ),
            (
                r#"{"what":["e",{"v":"er"}],"sub\u0073cribe":"a"}"#,
                Some(Command::Subscribe("a".into())),
            ),
            // Of two values for one field, one could be checked and the other acted upon.
            (r#"{"subscribe":"a","subscribe":"b"}"#, None),
            (r#"{"auth":"a","\u0061uth":"a"}"#, None),
            (r#"{"publish":"t","data":1,"data":1}"#, None),
            (
                r#"{"what":1,"auth":"a","what":2}"#,
                Some(Command::Auth("a".into())),
            ),
            (r#"{"what":oops,"auth":"a"}"#, None),
            (r#"{"auth":"a"} {}"#, None),
            (r#"{"publish":"t"}"#, None),
            (r#"{"publish":7,"data":1}"#, None),
            (r#"{"subscribe":["a"]}"#, None),
            (r#"{"what":"ever"}"#, None),
            (r#"["subscribe"]"#, None),
            ("chat", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text).ok(), *expected, "{text}");
        }
    }

    // A mebibyte of fields, each kept in a map, took a tenth of a second.
    #[test]
    fn a_message_with_too_many_fields_is_refused() {
        let with = |others: usize| {
            let others: String = (0..others).map(|n| format!("\"{n}\":0,")).collect();
            parse(&format!("{{{others}\"subscribe\":\"t\"}}"))
        };
        let subscribe = Ok(Command::Subscribe("t".into()));
        assert_eq!(with(FIELDS_MAX - 1), subscribe);
        let refused = with(FIELDS_MAX).unwrap_err().why;
        assert!(refused.contains("more than 64 fields"), "{refused}");
        // The rest of the message is not read.
        let begun = format!("{{{}", "\"a\":0,".repeat(FIELDS_MAX + 1));
        assert_eq!(
            parse(&begun).unwrap_err().why.split(" at ").next(),
            refused.split(" at ").next()
        );
    }

    #[test]
    fn a_message_that_may_contain_a_token_is_not_sent_back() {
        for text in [
            r#"{"auth":"secret"}"#,
            r#"{"auth":7}"#,
            r#"{"\u0061uth":"secret","subscribe":""}"#,
            r#"{"auth":"secret""#,
            r#"{"auth":"a","auth":"b"}"#,
        ] {
            assert!(has_token(text), "{text}");
        }
        for text in [r#"{"subscribe":"auth"}"#, r#"{"publish":7}"#, "chat"] {
            assert!(!has_token(text), "{text}");
        }
        assert_eq!(error(&"no".into(), None), r#"{"error":"no","code":"bad"}"#);
    }

    #[test]
    fn errors_are_json_whatever_they_are_about() {
        for about in [
            r#"{"publish":7}"#,
            "not json \"at\" all",
            "",
            &"x".repeat(5000),
        ] {
            let text = error(&"why \"so\"".into(), Some(about));
            assert!(json::check(&text).is_ok(), "{text}");
            assert!(text.len() < 2000);
        }
    }
}
