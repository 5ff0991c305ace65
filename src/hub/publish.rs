//! `POST /publish`.

use std::borrow::Cow;

use crate::protocol::digits::push_decimal;
use crate::protocol::http::{Status, form};
use crate::pubsub::{self, Event, Payload, Rules};
use crate::reactor::published::Published;
use crate::server::reply::Reply;
use crate::server::request::Request;

use super::access::Access;
use super::engine::{Engine, PublishError, PublishedOnce};
use super::guesses::{self, Denied};
use super::once::{self, Once, json_reply, unavailable};
use super::parts::Parts;
use super::refusal::check_key;
use super::rights::{self, Lack, Rights, STRANGERS_BYTES_MAX};
use crate::protocol::json;

/// `POST /publish`.
pub(super) fn publish<S: 'static>(
    request: &mut Request<'_, '_, S>,
    access: &Access,
    hub: &Parts<S>,
) {
    match publication(request, access, &hub.options.rules) {
        Ok((topics, event, None)) => {
            let reply = match topics[..] {
                [_] => reply_with_one,
                _ => reply_with_list,
            };
            hub.engine.publish_request(request, &topics, &event, reply);
        }
        Ok((topics, event, Some(key))) => {
            let credential = rights::credential(request, access);
            let once = Once { credential, key };
            publish_once(request, &hub.engine, &once, topics, &event);
        }
        Err(denied) => guesses::refuse(request, denied, &hub.guesses),
    }
}

/// Publishes for a request that has an `Idempotency-Key`.
#[cold]
fn publish_once<S: 'static>(
    request: &mut Request<'_, '_, S>,
    engine: &Engine<S>,
    once: &Once<'_>,
    topics: Vec<Cow<'_, str>>,
    event: &Event<'_>,
) {
    let is_json = matches!(event.payload(), Payload::Json(_));
    let body = request.body();
    let what = (
        "one",
        topics.clone(),
        event.name(),
        event.key_name(),
        is_json,
        body,
    );
    let to_json = match topics[..] {
        [_] => one_once_json,
        _ => list_once_json,
    };
    let items = topics.into_iter().map(|topic| (topic, event.clone()));
    let items: Vec<_> = items.collect();
    once::publish(request, engine, once, &what, &items, to_json);
}

/// Answers a request that may not publish, or that has no valid topics, before its body is read.
pub(super) fn check_head<S: 'static>(
    request: &mut Request<'_, '_, S>,
    access: &Access,
    hub: &Parts<S>,
) {
    if let Err(denied) = targets(request, access, &hub.options.rules) {
        guesses::refuse(request, denied, &hub.guesses);
    }
}

/// Most topics of one request. The message is copied for each of them.
const TOPICS_MAX: usize = 100;

/// Most bytes that the copies of a message for several topics have together, as a client of the envelope or of
/// an event stream gets them. A message of control characters is six times as long there, and a hundred such
/// messages of 1 MiB held the loop for more than a second.
const COPIES_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The most bytes that a message has when it is encoded: as a string of JSON, in which a control character
/// becomes `\u0001`, or as lines of an event stream, each of which begins with `data: `.
fn encoded_bytes(text: &str, is_json: bool) -> usize {
    let encoded = |byte: u8| match byte {
        b'\n' | b'\r' => 7,
        _ if is_json => 1,
        0..=0x1f => 6,
        b'"' | b'\\' => 2,
        _ => 1,
    };
    text.bytes().map(encoded).sum()
}

/// The topics and the event that a request asks to publish, and its `Idempotency-Key`.
///
/// # Errors
///
/// When the request is not allowed to publish, or is not valid.
fn publication<'i, S: 'static>(
    request: &Request<'_, 'i, S>,
    access: &Access,
    rules: &Rules,
) -> Result<(Vec<Cow<'i, str>>, Event<'i>, Option<&'i [u8]>), Denied> {
    let bad = |why: String| Err(Denied::Invalid((Status::BAD_REQUEST, why).into()));
    let Parameters {
        topics,
        event_names,
        keys,
        bytes_max,
    } = targets(request, access, rules)?;
    let idempotency_key = once::key_of(request).map_err(Denied::Invalid)?;
    let Some(text) = request.text() else {
        return bad("the message is not UTF-8 text\n".into());
    };
    if bytes_max < text.len() {
        let why = format!("without a token a message has at most {bytes_max} bytes\n");
        let reply = Reply::from((Status::CONTENT_TOO_LARGE, why));
        return Err(Denied::Invalid(reply));
    }
    let mut event_names = event_names.into_iter();
    let mut event = match event_names.next().map(Event::try_new) {
        None => Event::message(""),
        Some(Ok(event)) => event,
        Some(Err(error)) => return bad(format!("{error}\n")),
    };
    if event_names.next().is_some() {
        return bad("a message has one event name\n".into());
    }
    let mut keys = keys.into_iter();
    if let Some(key) = keys.next() {
        if let Err(why) = check_key(&key) {
            return bad(format!("{why}\n"));
        }
        event = event.key(key);
    }
    if keys.next().is_some() {
        return bad("a message has one key\n".into());
    }
    let media_type = request.headers().first_bytes("content-type");
    let is_json = media_type.is_some_and(is_json);
    if 1 < topics.len() && COPIES_BYTES_MAX / topics.len() < encoded_bytes(text, is_json) {
        let why = "the message is too long for so many topics: encoded for each of them it may have \
                   16 MiB in all\n";
        let reply = Reply::from((Status::CONTENT_TOO_LARGE, why));
        return Err(Denied::Invalid(reply));
    }
    event = if is_json {
        if let Err(error) = json::check(text) {
            return bad(format!("the message is not JSON: {error}\n"));
        }
        event.json(text.trim())
    } else {
        event.data(text)
    };
    Ok((topics, event, idempotency_key))
}

/// The parameters of a request that may publish, with valid topics.
///
/// # Errors
///
/// When the request is not allowed to publish, or is not valid.
fn targets<'i, S: 'static>(
    request: &Request<'_, 'i, S>,
    access: &Access,
    rules: &Rules,
) -> Result<Parameters<'i>, Denied> {
    let (rights, shown) = Rights::of_request(request, access);
    let denied = |lack| Denied::NotGranted {
        what: "publishing",
        lack,
        shown,
    };
    if !rights.may_publish_somewhere(rules) {
        return Err(denied(Lack::Credential));
    }
    let bad = |why: String| Err(Denied::Invalid((Status::BAD_REQUEST, why).into()));
    let Ok(mut parameters) = parameters(request.query_string().unwrap_or_default()) else {
        return bad("the query is not UTF-8 text\n".into());
    };
    if parameters.topics.is_empty() {
        return bad("say where: /publish?topic=NAME\n".into());
    }
    if TOPICS_MAX < parameters.topics.len() {
        return bad(format!("more than {TOPICS_MAX} topics\n"));
    }
    for topic in &parameters.topics {
        if let Err(error) = pubsub::check_name(topic) {
            return bad(format!("topic {topic:?}: {error}\n"));
        }
        rights.may_publish(rules, topic).map_err(denied)?;
    }
    if !rights.is_trusted() {
        parameters.bytes_max = STRANGERS_BYTES_MAX as usize;
    }
    Ok(parameters)
}

/// Whether this is the media type of JSON, with any parameters.
fn is_json(media_type: &[u8]) -> bool {
    let kind = media_type.split(|byte| *byte == b';').next();
    kind.is_some_and(|kind| kind.trim_ascii().eq_ignore_ascii_case(b"application/json"))
}

/// The parameters of a publication.
struct Parameters<'i> {
    topics: Vec<Cow<'i, str>>,
    event_names: Vec<Cow<'i, str>>,
    keys: Vec<Cow<'i, str>>,
    /// The longest message, in bytes.
    bytes_max: usize,
}

/// A parameter of the query is not UTF-8 when it is decoded.
struct NotUtf8;

/// The values of `topic`, of `event` and of `key` in a query. Others are ignored.
///
/// # Errors
///
/// [`NotUtf8`]. A topic that was left out for this would not get the message, in silence.
fn parameters(query: &str) -> Result<Parameters<'_>, NotUtf8> {
    let mut parameters = Parameters {
        // Most requests name one topic, and no event.
        topics: Vec::with_capacity(1),
        event_names: Vec::new(),
        keys: Vec::new(),
        bytes_max: usize::MAX,
    };
    for pair in form::try_pairs(query) {
        let (name, value) = pair.ok_or(NotUtf8)?;
        match &*name {
            "topic" => parameters.topics.push(value),
            "event" => parameters.event_names.push(value),
            "key" => parameters.keys.push(value),
            _ => {}
        }
    }
    Ok(parameters)
}

/// Appends `{"id":..,"delivered":..}`, with `"repeated":true` where nothing was published again.
fn push_object(published: &Published, is_repeat: bool, json: &mut Vec<u8>) {
    json.extend_from_slice(b"{\"id\":\"");
    published.id.encode(json);
    json.extend_from_slice(b"\",\"delivered\":");
    push_decimal(published.delivered as u64, json);
    if is_repeat {
        json.extend_from_slice(b",\"repeated\":true");
    }
    json.push(b'}');
}

fn reply_with_one(outcome: Result<&[Published], PublishError>) -> Reply {
    match outcome {
        Ok(published) => {
            let mut json = Vec::with_capacity(64);
            for published in published {
                push_object(published, false, &mut json);
            }
            json.push(b'\n');
            json_reply(json)
        }
        Err(error) => unavailable(&error),
    }
}

fn reply_with_list(outcome: Result<&[Published], PublishError>) -> Reply {
    match outcome {
        Ok(published) => json_reply(list_json(published)),
        Err(error) => unavailable(&error),
    }
}

fn one_once_json(published: &[PublishedOnce]) -> Vec<u8> {
    let mut json = Vec::with_capacity(64);
    for it in published {
        push_object(&it.published, it.is_repeat, &mut json);
    }
    json.push(b'\n');
    json
}

/// The outcomes for each topic, as an array.
pub(super) fn list_json(published: &[Published]) -> Vec<u8> {
    array(published.iter().map(|published| (published, false)))
}

/// As [`list_json`], for a request that has a key.
pub(super) fn list_once_json(published: &[PublishedOnce]) -> Vec<u8> {
    array(published.iter().map(|it| (&it.published, it.is_repeat)))
}

fn array<'p>(published: impl ExactSizeIterator<Item = (&'p Published, bool)>) -> Vec<u8> {
    let mut json = Vec::with_capacity(64 * published.len());
    json.push(b'[');
    for (index, (published, is_repeat)) in published.enumerate() {
        if 0 < index {
            json.push(b',');
        }
        push_object(published, is_repeat, &mut json);
    }
    json.extend_from_slice(b"]\n");
    json
}
