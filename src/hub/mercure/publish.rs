//! `POST /.well-known/mercure`: updates of publishers.
//!
//! An update is published to the hub's topic of each of its topics. Where it has an id of its own, or several topics that need
//! one id, a publication with the id comes before them, from which subscribers read on that name the id (`cursor`).

use std::borrow::Cow;

use crate::hub::access::Access;
use crate::hub::once::unavailable;
use crate::hub::parts::Parts;
use crate::protocol::http::Status;
use crate::protocol::mercure::update::Update;
use crate::pubsub::Event;
use crate::server::reply::Reply;
use crate::server::request::Request;

use super::authorize::{Refusal, bad, grants_of, refuse, with_shared_headers};
use super::claims::Grants;
use super::cursor::id_event;
use super::options::MercureOptions;
use super::topic::{id_name, is_hashed, name_of};
use super::words::{Extra, fragment};

/// Most bytes that the data of an update has for all its topics together, as subscribers get it.
const COPIES_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The type of forms. Source: WHATWG URL, section 5.
const FORM: &str = "application/x-www-form-urlencoded";

/// Answers a request that may not publish, before its body is read.
pub(super) fn check_head<S: 'static>(
    request: &mut Request<'_, '_, S>,
    access: &Access,
    hub: &Parts<S>,
    options: &MercureOptions,
) {
    if let Err(refusal) = publisher(request, access, options) {
        refuse(request, refusal, hub);
    }
}

/// The grants of the token of a publisher.
fn publisher<S: 'static>(
    request: &Request<'_, '_, S>,
    access: &Access,
    options: &MercureOptions,
) -> Result<Grants, Refusal> {
    let grants = grants_of(request, access, &options.publisher_secrets)?;
    let grants = grants.ok_or(Refusal::Missing)?;
    match grants.publish.is_empty() {
        true => Err(Refusal::Scope),
        false => Ok(grants),
    }
}

/// Publishes the update of a request.
pub(super) fn publish<S: 'static>(
    request: &mut Request<'_, '_, S>,
    access: &Access,
    hub: &Parts<S>,
    options: &MercureOptions,
) {
    let update = match update_of(request, access, options) {
        Ok(update) => update,
        Err(refusal) => return refuse(request, refusal, hub),
    };
    let head = with_shared_headers(request, Reply::new(Status::OK));
    let responder = request.reply_later();
    let own_id = update.id.as_deref().map(str::to_owned);
    let own_id = own_id.or_else(|| (1 < update.topics.len()).then(new_iri));
    let answered = own_id.clone();
    let items = publications(&update, own_id.as_deref());
    hub.engine
        .publish_all(request.reactor, &items, move |reactor, outcome| {
            let reply = match outcome {
                Ok(published) => {
                    let last = published.last().map(|it| fragment(it.id));
                    let id = answered.or(last).unwrap_or_default();
                    head.content_type("text/plain; charset=utf-8").body(id)
                }
                Err(error) => unavailable(&error),
            };
            reactor.reply(responder, reply);
        });
}

/// The update that a request asks to publish.
fn update_of<'i, S: 'static>(
    request: &Request<'_, 'i, S>,
    access: &Access,
    options: &MercureOptions,
) -> Result<Update<'i>, Refusal> {
    let grants = publisher(request, access, options)?;
    let kind = request.header("content-type").unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case(FORM) {
        let why = format!("expected a form of the type {FORM}\n");
        return Err(Refusal::Request(Status::UNSUPPORTED_MEDIA_TYPE, why));
    }
    let form = request.text().ok_or_else(|| bad("expected UTF-8 text"))?;
    let update = Update::parse(form).map_err(bad)?;
    if !update.topics.iter().all(|topic| grants.may_publish(topic)) {
        return Err(Refusal::Scope);
    }
    // Each line of an event begins with `data: `.
    let line_ends = update.data.bytes().filter(|it| matches!(it, b'\n' | b'\r'));
    let encoded_bytes = update.data.len() + 6 * line_ends.count();
    if 1 < update.topics.len() && COPIES_BYTES_MAX / update.topics.len() < encoded_bytes {
        let why = "data: too long for so many topics, with 16 MiB for all of them\n";
        return Err(Refusal::Request(Status::CONTENT_TOO_LARGE, why.into()));
    }
    Ok(update)
}

/// The publications of an update, each with its topic.
fn publications<'u>(update: &'u Update<'_>, id: Option<&'u str>) -> Vec<(Cow<'u, str>, Event<'u>)> {
    let nonce = id.map(|_| format!("{:x}", rand::random::<u64>()));
    let mut items = Vec::with_capacity(update.topics.len() + 1);
    if let (Some(id), Some(nonce)) = (id, &nonce) {
        items.push((id_name(id).into(), id_event(id, nonce)));
    }
    for (index, topic) in update.topics.iter().enumerate() {
        let name = name_of(topic, update.is_private);
        let has_topics = 1 < update.topics.len() || is_hashed(&name);
        let topics = match has_topics {
            true => update.topics.iter().map(|it| &**it).collect(),
            false => Vec::new(),
        };
        let extra = Extra {
            id,
            nonce: nonce.as_deref(),
            retry_ms: update.retry_ms,
            topics,
            index,
        };
        let mut event = match &update.event_type {
            // It has no line end.
            Some(kind) => Event::new(&**kind).data(&*update.data),
            None => Event::message(&*update.data),
        };
        if let Some(extra) = extra.encode() {
            event = event.extra(extra);
        }
        items.push((name.into(), event));
    }
    items
}

/// A new IRI: a random UUID. Source: RFC 9562, section 5.4.
pub(super) fn new_iri() -> String {
    let mut bytes = rand::random::<u128>();
    bytes = bytes & !(0xf << 76) | 4 << 76;
    bytes = bytes & !(0b11 << 62) | 0b10 << 62;
    let digits = format!("{bytes:032x}");
    let (a, b, c) = (&digits[..8], &digits[8..12], &digits[12..16]);
    format!("urn:uuid:{a}-{b}-{c}-{}-{}", &digits[16..20], &digits[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_iris() {
        let iri = new_iri();
        let uuid = iri.strip_prefix("urn:uuid:").unwrap();
        let lengths: Vec<usize> = uuid.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12]);
        assert_eq!(&uuid[14..15], "4");
        assert!("89ab".contains(&uuid[19..20]));
        assert_ne!(iri, new_iri());
    }
}
