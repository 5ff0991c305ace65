//! The JSON of subprotocol `waterwheel.v1.json`.
//!
//! From the client: `{"subscribe":"t"}`, `{"unsubscribe":"t"}`, `{"publish":"t","data":...}` with
//! an optional `"event"`, `{"auth":"TOKEN"}`. From the server: `{"topic":"t","id":"...","data":...}`
//! with `"event"` where there is one, `{"subscribed":"t"}`, `{"error":"...","about":...}`.

use std::collections::HashMap;

use serde_json::value::RawValue;

use crate::protocol::websocket::{self, Message};
use crate::pubsub::{Payload, Publication};

/// The name of the subprotocol.
pub const SUBPROTOCOL: &str = "waterwheel.v1.json";

/// What a client asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Subscribe(String),
    Unsubscribe(String),
    Publish {
        topic: String,
        event: Option<String>,
        /// Valid JSON, as the client wrote it.
        data: String,
    },
    Auth(String),
}

/// What a client's message says.
///
/// # Errors
///
/// A sentence for the client.
pub(crate) fn parse(text: &str) -> Result<Command, String> {
    let mut fields: HashMap<String, Box<RawValue>> =
        serde_json::from_str(text).map_err(|error| format!("not a JSON object: {error}"))?;
    let mut string = |name: &str| -> Result<Option<String>, String> {
        let Some(raw) = fields.remove(name) else {
            return Ok(None);
        };
        serde_json::from_str(raw.get())
            .map(Some)
            .map_err(|_| format!("\"{name}\" must be a string"))
    };
    if let Some(topic) = string("subscribe")? {
        return Ok(Command::Subscribe(topic));
    }
    if let Some(topic) = string("unsubscribe")? {
        return Ok(Command::Unsubscribe(topic));
    }
    if let Some(token) = string("auth")? {
        return Ok(Command::Auth(token));
    }
    let Some(topic) = string("publish")? else {
        return Err("expected \"subscribe\", \"unsubscribe\", \"publish\" or \"auth\"".into());
    };
    let event = string("event")?;
    let data = fields.remove("data").ok_or("\"publish\" needs \"data\"")?;
    Ok(Command::Publish {
        topic,
        event,
        data: data.get().to_owned(),
    })
}

/// Whether a text is one JSON value.
///
/// # Errors
///
/// What is wrong with it, and where.
pub(crate) fn check_json(text: &str) -> Result<(), serde_json::Error> {
    serde_json::from_str::<&RawValue>(text).map(drop)
}

/// Appends a publication as one frame.
pub(crate) fn encode(publication: &Publication<'_>, out: &mut Vec<u8>) {
    let payload = publication.event.payload();
    let mut json = Vec::with_capacity(64 + payload.as_bytes().len());
    json.extend_from_slice(b"{\"topic\":");
    push_string(publication.topic, &mut json);
    json.extend_from_slice(format!(",\"id\":\"{}\"", publication.id).as_bytes());
    if let Some(name) = publication.event.name() {
        json.extend_from_slice(b",\"event\":");
        push_string(name, &mut json);
    }
    json.extend_from_slice(b",\"data\":");
    match payload {
        Payload::Json(value) => json.extend_from_slice(value.as_bytes()),
        Payload::Text(_) | Payload::Binary(_) => push_string(&payload.to_text(), &mut json),
    }
    json.push(b'}');
    let text = str::from_utf8(&json).expect("strings and JSON are UTF-8");
    websocket::encode_message(None, Message::Text(text), out);
}

/// `{"subscribed":"t"}`.
pub(crate) fn subscribed(topic: &str) -> String {
    format!("{{\"subscribed\":{}}}", quoted(topic))
}

/// `{"error":"...","about":...}`, where `about` is the client's message when that was JSON, and
/// its text otherwise.
pub(crate) fn error(why: &str, about: &str) -> String {
    // An echo of something large helps nobody.
    let about = match about.len() {
        0..=1024 if check_json(about).is_ok() => about.to_owned(),
        _ => quoted(&about.chars().take(256).collect::<String>()),
    };
    format!("{{\"error\":{},\"about\":{about}}}", quoted(why))
}

/// What to say an error is about when a publication failed later.
pub(crate) fn about_publish(topic: &str) -> String {
    format!("{{\"publish\":{}}}", quoted(topic))
}

fn quoted(text: &str) -> String {
    let mut json = Vec::with_capacity(text.len() + 2);
    push_string(text, &mut json);
    String::from_utf8(json).expect("a JSON string is UTF-8")
}

fn push_string(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("writing a string to memory succeeds");
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
            (
                r#"{"publish":"t","data":{"b":1,"a":[2.50]}}"#,
                Some(publish(None, r#"{"b":1,"a":[2.50]}"#)),
            ),
            (
                r#"{"data":null,"event":"e","publish":"t"}"#,
                Some(publish(Some("e"), "null")),
            ),
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

    #[test]
    fn errors_are_json_whatever_they_are_about() {
        for about in [
            r#"{"publish":7}"#,
            "not json \"at\" all",
            "",
            &"x".repeat(5000),
        ] {
            let text = error("why \"so\"", about);
            assert!(check_json(&text).is_ok(), "{text}");
            assert!(text.len() < 2000);
        }
    }
}
