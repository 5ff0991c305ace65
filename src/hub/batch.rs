//! `POST /publish/batch`: many messages in one request.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::protocol::http::Status;
use crate::pubsub::{self, Event, Rules};
use crate::server::reply::Reply;
use crate::server::request::Request;

use super::access::Access;
use super::guesses::{self, Denied};
use super::once::{self, Once, json_reply, unavailable};
use super::parts::Parts;
use super::publish::{list_json, list_once_json};
use super::refusal::check_key;
use super::rights::{self, Lack, Rights, STRANGERS_BYTES_MAX, Shown};
use crate::protocol::json;

/// Most messages of one request.
const ENTRIES_MAX: usize = 1000;

/// The fields of an entry.
const FIELDS: [&str; 4] = ["topic", "data", "event", "key"];

/// One message, with its topic.
type Entry<'i> = (Cow<'i, str>, Event<'i>);

/// Publishes all messages of the body, or none if one is not valid.
pub(super) fn publish_batch<S: 'static>(
    request: &mut Request<'_, '_, S>,
    access: &Access,
    parts: &Parts<S>,
) {
    let (key, entries) = match checked(request, access, &parts.options.rules) {
        Ok(checked) => checked,
        Err(denied) => return guesses::refuse(request, denied, &parts.guesses),
    };
    let engine = &parts.engine;
    if let Some(key) = key {
        let credential = rights::credential(request, access);
        let once = Once { credential, key };
        let what = ("batch", request.body());
        return once::publish(request, engine, &once, &what, &entries, list_once_json);
    }
    let responder = request.reply_later();
    engine.publish_all(request.reactor, &entries, move |reactor, outcome| {
        let reply = match outcome {
            Ok(published) => json_reply(list_json(published)),
            Err(error) => unavailable(&error),
        };
        reactor.reply(responder, reply);
    });
}

/// Answers a request that may not publish before its body is read.
pub(super) fn check_head<S: 'static>(
    request: &mut Request<'_, '_, S>,
    access: &Access,
    parts: &Parts<S>,
) {
    if let Err(denied) = rights_of(request, access, &parts.options.rules) {
        guesses::refuse(request, denied, &parts.guesses);
    }
}

/// The rights of a request that may publish to some topic, and what it has shown.
///
/// # Errors
///
/// When it may publish to none.
fn rights_of<S: 'static>(
    request: &Request<'_, '_, S>,
    access: &Access,
    rules: &Rules,
) -> Result<(Rights, Shown), Denied> {
    let (rights, shown) = Rights::of_request(request, access);
    match rights.may_publish_somewhere(rules) {
        true => Ok((rights, shown)),
        false => Err(denied(Lack::Credential, shown)),
    }
}

fn denied(lack: Lack, shown: Shown) -> Denied {
    Denied::NotGranted {
        what: "publishing",
        lack,
        shown,
    }
}

/// The key and the messages of a request.
///
/// # Errors
///
/// When the request is not allowed to publish, or an entry is not valid.
fn checked<'i, S: 'static>(
    request: &Request<'_, 'i, S>,
    access: &Access,
    rules: &Rules,
) -> Result<(Option<&'i [u8]>, Vec<Entry<'i>>), Denied> {
    let (rights, shown) = rights_of(request, access, rules)?;
    let key = once::key_of(request).map_err(Denied::Invalid)?;
    if !rights.is_trusted() && (STRANGERS_BYTES_MAX as usize) < request.body().len() {
        let why = format!("without a token a request has at most {STRANGERS_BYTES_MAX} bytes\n");
        let reply = Reply::from((Status::CONTENT_TOO_LARGE, why));
        return Err(Denied::Invalid(reply));
    }
    let text = request
        .text()
        .ok_or("the body is not UTF-8 text".to_owned());
    let entries = text.and_then(entries).map_err(|why| {
        let reply = Reply::from((Status::BAD_REQUEST, format!("{why}\n")));
        Denied::Invalid(reply)
    })?;
    for (topic, _) in &entries {
        let granted = rights.may_publish(rules, topic);
        granted.map_err(|lack| denied(lack, shown))?;
    }
    Ok((key, entries))
}

/// The messages of a body.
///
/// # Errors
///
/// A sentence that names the entry by its place, and its index in the array.
fn entries(text: &str) -> Result<Vec<Entry<'_>>, String> {
    json::check_depth(text).map_err(|error| error.to_string())?;
    let elements = json::elements(text, ENTRIES_MAX)
        .map_err(|error| format!("expected an array of messages: {error}"))?;
    let count = elements.len();
    let entries = elements.into_iter().enumerate().map(|(index, element)| {
        entry(element.get())
            .map_err(|why| format!("entry {} of {count} (index {index}): {why}", index + 1))
    });
    entries.collect()
}

fn entry(text: &str) -> Result<Entry<'_>, String> {
    let fields = json::fields(text, &FIELDS).map_err(|error| error.to_string())?;
    let [topic, data, event, key] = fields;
    let topic = string("topic", topic)?.ok_or("\"topic\" is missing")?;
    pubsub::check_name(&topic).map_err(|error| format!("topic {topic:?}: {error}"))?;
    let data = data.ok_or("\"data\" is missing")?;
    let mut message = match string("event", event)? {
        Some(name) => Event::try_new(name).map_err(|error| error.to_string())?,
        None => Event::message(""),
    };
    if let Some(key) = string("key", key)? {
        check_key(&key).map_err(|error| error.to_string())?;
        message = message.key(key);
    }
    Ok((topic, message.json(data.get())))
}

fn string<'t>(name: &str, value: Option<&'t RawValue>) -> Result<Option<Cow<'t, str>>, String> {
    let text = value.map(|value| serde_json::from_str::<String>(value.get()));
    let text = text.transpose();
    text.map(|text| text.map(Cow::Owned))
        .map_err(|_| format!("\"{name}\" must be a string"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_become_events() {
        let text = r#" [{"topic":"a","data":{"n":1}},
            {"data":"x","topic":"b\u002fc","event":"e","key":"k","other":[1]}] "#;
        let entries = entries(text).unwrap();
        let all: Vec<_> = entries
            .iter()
            .map(|(topic, event)| {
                let data = event.payload().to_text().into_owned();
                (&**topic, event.name(), event.key_name(), data)
            })
            .collect();
        assert_eq!(
            all,
            [
                ("a", None, None, "{\"n\":1}".to_owned()),
                ("b/c", Some("e"), Some("k"), "\"x\"".to_owned()),
            ]
        );
        assert!(super::entries("[]").unwrap().is_empty());
    }

    #[test]
    fn the_error_names_the_entry() {
        let many = format!("[{}1]", "1,".repeat(ENTRIES_MAX));
        let deep = "[".repeat(200);
        let fields = format!("[{{{}\"topic\":\"a\"}}]", "\"x\":1,".repeat(70));
        let cases = [
            ("", "expected an array"),
            ("{}", "expected an array"),
            ("[", "expected an array"),
            ("[{}] x", "expected an array"),
            (&many, "more than 1000"),
            (&deep, "128 deep"),
            ("[1]", "entry 1 of 1 (index 0): "),
            (&fields, "entry 1 of 1 (index 0): more than 64 fields"),
            ("[{}]", "\"topic\" is missing"),
            ("[{\"topic\":\"a\"}]", "\"data\" is missing"),
            (
                "[{\"topic\":\"a\",\"data\":1},{\"topic\":7,\"data\":1}]",
                "entry 2 of 2 (index 1): \"topic\" must be a string",
            ),
            ("[{\"topic\":\"\",\"data\":1}]", "topic \"\""),
            ("[{\"topic\":\"a\\n\",\"data\":1}]", "topic \"a\\n\""),
            (
                "[{\"topic\":\"a\",\"topic\":\"b\",\"data\":1}]",
                "duplicate field `topic`",
            ),
            (
                "[{\"topic\":\"a\",\"data\":1,\"event\":\"x\\ny\"}]",
                "entry 1 of 1",
            ),
            (
                "[{\"topic\":\"a\",\"data\":1,\"key\":\"\"}]",
                "entry 1 of 1 (index 0): key: expected 1 to 256 bytes",
            ),
            (
                "[{\"topic\":\"a\",\"data\":1,\"key\":null}]",
                "\"key\" must be a string",
            ),
        ];
        for (text, expected) in cases {
            let error = entries(text).unwrap_err();
            assert!(error.contains(expected), "{text:.80}: {error}");
        }
    }
}
