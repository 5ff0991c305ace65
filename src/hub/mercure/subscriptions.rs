//! Active subscriptions: `GET /.well-known/mercure/subscriptions`, and private updates when one begins or ends.
//!
//! The lists are those of the subscribers of this node. The updates reach all nodes.
//!
//! Source: draft-dunglas-mercure-07, section 8.

use std::borrow::Cow;

use crate::hub::access::Access;
use crate::hub::parts::Parts;
use crate::protocol::http::Status;
use crate::protocol::mercure::LINK;
use crate::protocol::mercure::subscription::{
    Asked, CONTENT_TYPE, SUBSCRIPTIONS, Subscription, list_document,
};
use crate::pubsub::Event;
use crate::reactor::reactor::Reactor;
use crate::server::reply::Reply;
use crate::server::request::Request;

use super::authorize::{Refusal, grants_of, refuse, with_shared_headers};
use super::options::MercureOptions;
use super::topic::{is_hashed, name_of};
use super::words::{Extra, fragment};

/// The most subscriptions of a list.
const LISTED_MAX: usize = 10_000;

/// Publishes that subscriptions have begun or have ended.
pub(super) fn announce<S: 'static>(
    hub: &Parts<S>,
    reactor: &mut Reactor<S>,
    subscriptions: &[Subscription],
    is_active: bool,
) {
    let mut items = Vec::with_capacity(subscriptions.len());
    for subscription in subscriptions {
        let path = subscription.path();
        let name = name_of(&path, true);
        let topics = match is_hashed(&name) {
            true => vec![&*path],
            false => Vec::new(),
        };
        let extra = Extra {
            topics,
            ..Extra::default()
        };
        let mut event = Event::message(subscription.document(is_active));
        if let Some(extra) = extra.encode() {
            event = event.extra(extra);
        }
        items.push((Cow::Owned(name), event));
    }
    hub.engine.publish_all(reactor, &items, |_, outcome| {
        if let Err(error) = outcome {
            log::debug!("updates about subscriptions are not published: {error}");
        }
    });
}

/// Answers with the document of a list of subscriptions, or of one.
pub(super) fn list<S: 'static>(
    request: &mut Request<'_, '_, S>,
    access: &Access,
    hub: &Parts<S>,
    options: &MercureOptions,
) {
    let path = request.path().to_owned();
    let asked = match asked_of(request, access, options, &path) {
        Ok(asked) => asked,
        Err(refusal) => return refuse(request, refusal, hub),
    };
    let cursor = fragment(hub.engine.cursor(request.reactor));
    let mut all = options.listed().list(|it| asked.is_for(it));
    all.sort_by_cached_key(Subscription::path);
    all.truncate(LISTED_MAX);
    let document = match asked {
        Asked::All | Asked::Of(_) => Some(list_document(&path, &cursor, &all)),
        Asked::One(..) => all.first().map(|one| one.document(true)),
    };
    let Some(document) = document else {
        let why = "no such subscription\n".to_owned();
        return refuse(request, Refusal::Request(Status::NOT_FOUND, why), hub);
    };
    let reply = Reply::new(Status::OK)
        .content_type(CONTENT_TYPE)
        .header("Link", format!("{LINK}; last-event-id=\"{cursor}\""))
        .header("Cache-Control", "no-store")
        .body(document);
    let reply = with_shared_headers(request, reply);
    request.reply(reply);
}

/// The part of the list that a request asks for.
fn asked_of<S: 'static>(
    request: &Request<'_, '_, S>,
    access: &Access,
    options: &MercureOptions,
    path: &str,
) -> Result<Asked, Refusal> {
    let grants = grants_of(request, access, &options.subscriber_secrets)?;
    let grants = grants.ok_or(Refusal::Missing)?;
    if !grants.may_read(path) {
        return Err(Refusal::Scope);
    }
    let nothing = format!("nothing here; lists are at {SUBSCRIPTIONS}\n");
    Asked::parse(path).ok_or(Refusal::Request(Status::NOT_FOUND, nothing))
}
