//! The envelope: JSON objects both ways, with subprotocol `waterwheel.v1.json`.
//!
//! | from the client | answer |
//! |---|---|
//! | `{"subscribe":"t"}` or a list, with `"since"` and `"latest"` | `{"subscribed":"t","cursor":"..."}` behind what was missed |
//! | `{"unsubscribe":"t"}` | `{"unsubscribed":"t"}` |
//! | `{"publish":"t","data":...}`, with `"event"`, `"key"` and `"others"` | with a `ref` `{"published":"t","id":"..."}` |
//! | `{"auth":"TOKEN"}` | `{"authorized":{...}}` |
//! | `{"presence":"t"}` | the users: see `notices.rs` |
//!
//! A command with a `"ref"` has it in its answer. One that is not carried out is answered with
//! `{"error":"...","code":"...","about":...}`. `docs/hub.md` describes all messages.

use crate::hub::client::{Authorized, Client, ClientPublication};
use crate::hub::engine::PublishError;
use crate::hub::identities::EndReason;
use crate::hub::refusal::Refusal;
use crate::hub::subscription::SubscribeWords;
use crate::protocol::event_stream;
use crate::protocol::json::{self, push_string, quote};
use crate::pubsub::{BodyKind, EventId, Payload, Publication, TopicError};
use crate::reactor::id::ConnId;
use crate::reactor::published::Published;
use crate::reactor::reactor::Reactor;

use super::commands::{Command, Message, Names};

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

/// Carries out a client's message, and answers it where the grammar has an answer.
pub(super) fn on_text<S: 'static>(client: &mut Client<'_, '_, S>, text: &str) {
    let message = match Message::parse(text) {
        Ok(message) => message,
        // In doubt it shows a token, which must not be sent back: a page that shows the answer would show the
        // token.
        Err(why) => {
            let about = (!text.contains("auth")).then_some(text);
            return client.send(&error(&why.into(), about, None));
        }
    };
    let about = (!message.has_token()).then_some(text);
    let outcome = match message.reference() {
        Ok(reference) => match message.command() {
            Ok(command) => carry_out(client, command, reference),
            Err(why) => Err(why.into()),
        },
        Err(why) => return client.send(&error(&why.into(), about, None)),
    };
    let reference = message.reference().unwrap_or_default();
    match outcome {
        Ok(Some(answer)) => client.send(&answer),
        Ok(None) => {}
        Err(failure) => client.send(&error(&failure, about, reference)),
    }
}

/// Carries out a command. Returns the answer, unless it comes later.
fn carry_out<S: 'static>(
    client: &mut Client<'_, '_, S>,
    command: Command,
    reference: Option<&str>,
) -> Result<Option<String>, Failure> {
    match command {
        Command::Subscribe {
            names,
            since,
            is_latest,
        } => {
            let words = Subscription {
                names,
                reference: reference.map(str::to_owned),
            };
            client
                .subscribe_since(words, since, is_latest)
                .map_err(failure)?;
            Ok(None)
        }
        Command::Presence(topic) => {
            let mut answer = client.presence(&topic).map_err(failure)?;
            // Without its brace, which comes behind the reference.
            answer.pop();
            push_reference(reference, &mut answer);
            Ok(Some(answer))
        }
        Command::Unsubscribe(name) => match client.unsubscribe(&name) {
            true => {
                let mut answer = format!("{{\"unsubscribed\":{}", quote(&name));
                push_reference(reference, &mut answer);
                Ok(Some(answer))
            }
            false => Err("not subscribed".into()),
        },
        Command::Publish {
            topic,
            event,
            key,
            is_to_others,
            data,
        } => {
            let id = client.id();
            let reference = reference.map(str::to_owned);
            let quoted = quote(&topic);
            let done = move |reactor: &mut Reactor<S>, outcome: Result<Published, _>| {
                let answer = match (outcome, &reference) {
                    (Ok(published), Some(_)) => {
                        let id = published.id;
                        let mut answer = format!("{{\"published\":{quoted},\"id\":\"{id}\"");
                        push_reference(reference.as_deref(), &mut answer);
                        answer
                    }
                    (Ok(_), None) => return,
                    (Err(refused), _) => {
                        let failure = unavailable(refused);
                        let about = format!("{{\"publish\":{quoted}}}");
                        error(&failure, Some(&about), reference.as_deref())
                    }
                };
                reactor.send(id, answer);
            };
            let publication = ClientPublication {
                topic: &topic,
                event_name: event,
                key,
                json: data,
                is_to_others,
            };
            client.publish_json(publication, done).map_err(failure)?;
            Ok(None)
        }
        Command::Auth(token) => {
            let wrong = Failure {
                code: Code::Unauthorized,
                why: "wrong token".into(),
            };
            match client.authenticate(&token, || error(&wrong, None, reference)) {
                Ok(Some(authorized)) => {
                    for name in &authorized.ended {
                        client.send(&unsubscribed(name, EndReason::Expired));
                    }
                    let mut answer = encode_authorized(&authorized);
                    push_reference(reference, &mut answer);
                    Ok(Some(answer))
                }
                Ok(None) => Ok(None),
                Err(refusal) => Err(failure(refusal)),
            }
        }
    }
}

/// A `subscribe` on its way.
struct Subscription {
    names: Names,
    reference: Option<String>,
}

impl SubscribeWords for Subscription {
    fn names(&self) -> &[String] {
        self.names.as_slice()
    }

    fn gap(&self, name: &str, by: Option<&str>, cursor: EventId) -> String {
        let mut message = format!("{{\"gap\":{},\"cursor\":\"{cursor}\"", quote(name));
        if let Some(pattern) = by {
            message.push_str(",\"by\":");
            message.push_str(&quote(pattern));
        }
        message.push('}');
        message
    }

    fn subscribed(&self, cursor: EventId, is_live: &dyn Fn(&str) -> bool) -> Option<String> {
        let names = self.names().iter().filter(|name| is_live(name));
        let quoted: Vec<_> = names.map(|name| quote(name)).collect();
        if quoted.is_empty() && self.reference.is_none() {
            return None;
        }
        let names = match self.names {
            Names::One(_) if !quoted.is_empty() => quoted.concat(),
            // Also for one name that was ended during its replay: a client waits for the answer to its `ref`.
            Names::One(_) | Names::List(_) => format!("[{}]", quoted.join(",")),
        };
        let mut answer = format!("{{\"subscribed\":{names},\"cursor\":\"{cursor}\"");
        push_reference(self.reference.as_deref(), &mut answer);
        Some(answer)
    }

    fn refused(&self, name: &str, refusal: Refusal) -> String {
        let about = format!("{{\"subscribe\":{}}}", quote(name));
        error(&failure(refusal), Some(&about), self.reference.as_deref())
    }

    fn expired(&self, name: &str) -> String {
        unsubscribed(name, EndReason::Expired)
    }
}

fn unavailable(refused: PublishError) -> Failure {
    Failure {
        code: Code::Unavailable,
        why: refused.to_string(),
    }
}

/// Ends a message, with the `ref` of the command that it answers.
fn push_reference(reference: Option<&str>, message: &mut String) {
    if let Some(reference) = reference {
        message.push_str(",\"ref\":");
        message.push_str(reference);
    }
    message.push('}');
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
        Refusal::EventName(_) | Refusal::Key(_) | Refusal::NoPresence => Code::Bad,
        Refusal::Publish(_) | Refusal::Unavailable => Code::Unavailable,
    };
    let why = match refusal {
        Refusal::NeedsToken => "this needs a token: {\"auth\":\"TOKEN\"}".into(),
        refusal => refusal.to_string(),
    };
    Failure { code, why }
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
    if let Some(key) = publication.event.key_name() {
        out.extend_from_slice(b",\"key\":");
        push_string(key, out);
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

/// `{"unsubscribed":"t","reason":"expired"}`.
fn unsubscribed(name: &str, reason: EndReason) -> String {
    let name = quote(name);
    let reason = match reason {
        EndReason::Expired => "expired",
        EndReason::Forced => "forced",
    };
    format!("{{\"unsubscribed\":{name},\"reason\":\"{reason}\"}}")
}

/// `{"authorized":{"user":"u","expires":1000000000}`, without the brace at the end.
fn encode_authorized(authorized: &Authorized) -> String {
    let user = authorized.user.as_deref();
    let user = user.map(|user| format!("\"user\":{}", quote(user)));
    let expires = authorized.expires_unix;
    let expires = expires.map(|expires| format!("\"expires\":{expires}"));
    let fields: Vec<_> = [user, expires].into_iter().flatten().collect();
    format!("{{\"authorized\":{{{}}}", fields.join(","))
}

/// Tells a client which subscriptions have ended, and whether its token has.
pub(super) fn on_end<S: 'static>(
    reactor: &mut Reactor<S>,
    id: ConnId,
    names: &[String],
    reason: EndReason,
) {
    for name in names {
        reactor.send(id, unsubscribed(name, reason));
    }
    if reason == EndReason::Expired {
        reactor.send(id, "{\"expired\":true}");
    }
}

/// `{"error":"...","code":"...","about":...}`, where `about` is the client's message when that was JSON, and
/// its text otherwise. Without `about` where the message may contain a token.
fn error(failure: &Failure, about: Option<&str>, reference: Option<&str>) -> String {
    let (why, code) = (quote(&failure.why), failure.code.name());
    let mut message = format!("{{\"error\":{why},\"code\":\"{code}\"");
    if let Some(about) = about {
        // A large message is cut: its beginning is enough to recognize it.
        let about = match about.len() {
            0..=1024 if json::check(about).is_ok() => about.to_owned(),
            _ => quote(&about.chars().take(256).collect::<String>()),
        };
        message.push_str(",\"about\":");
        message.push_str(&about);
    }
    push_reference(reference, &mut message);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_without_their_message() {
        let text = error(&"no".into(), None, Some("7"));
        assert_eq!(text, r#"{"error":"no","code":"bad","ref":7}"#);
    }

    #[test]
    fn errors_are_json_whatever_they_are_about() {
        for about in [
            r#"{"publish":7}"#,
            "not json \"at\" all",
            "",
            &"x".repeat(5000),
        ] {
            let text = error(&"why \"so\"".into(), Some(about), None);
            assert!(json::check(&text).is_ok(), "{text}");
            assert!(text.len() < 2000);
        }
    }
}
