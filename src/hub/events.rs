//! `GET /events`: topics and patterns as Server-Sent Events.

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use crate::protocol::event_stream;
use crate::protocol::http::{Status, form};
use crate::pubsub::{self, Rules, WireFormat, pattern};
use crate::reactor::id::ConnId;
use crate::reactor::reactor::Reactor;
use crate::server::reply::Reply;
use crate::server::request::Request;

use super::access::Access;
use super::grammar::{envelope, notices};
use super::guesses::{self, Denied};
use super::parts::Parts;
use super::presence;
use super::rights::{Rights, Shown};
use super::subscribe::subscribe_name;

/// The name of the wire format of streams with `envelope=1`.
const ENVELOPE_EVENTS: &str = "waterwheel.v1.json events";

/// Answers with an event stream of the topics and patterns that are asked for. If one name is not
/// valid or not allowed, the answer says why, and there is no subscription.
pub(super) fn events<S: 'static>(
    request: &mut Request<'_, '_, S>,
    access: &Access,
    hub: &Parts<S>,
) {
    if request.reactor.is_draining() {
        let reply = come_again_reply(request, "draining\n");
        request.reply(reply);
        return;
    }
    let (rights, shown) = Rights::of_request(request, access);
    let (topics, has_envelope) = match parameters(request, &hub.options.rules, &rights, shown) {
        Ok(parameters) => parameters,
        Err(denied) => return guesses::refuse(request, denied, &hub.guesses),
    };
    let total_max = request.reactor.config().subscriptions_total_max;
    let wanted = request.reactor.subscription_count() + topics.len();
    if total_max.is_some_and(|max| max < wanted) {
        let reply = come_again_reply(request, "too many subscriptions\n");
        request.reply(reply);
        return;
    }
    let wire_format = match has_envelope {
        false => {
            let reactor = &mut *request.reactor;
            reactor.set_notice_encoder(WireFormat::EVENT_STREAM, notices::encode_event);
            None
        }
        true => match request
            .reactor
            .register_wire_format_with_values(ENVELOPE_EVENTS, envelope::encode_event)
        {
            Ok(wire_format) => {
                let reactor = &mut *request.reactor;
                reactor.set_notice_encoder(wire_format, notices::encode_envelope_event);
                Some(wire_format)
            }
            Err(error) => {
                log::error!("{error}");
                request.reply(Status::INTERNAL_SERVER_ERROR);
                return;
            }
        },
    };
    let id = request.event_stream().id;
    if let Some(wire_format) = wire_format {
        request.reactor.set_wire_format(id, wire_format);
    }
    // The connection is new, and belongs to no other user.
    let _ = (hub.identities).identify(request.reactor, id, &rights, end_stream);
    if topics.iter().any(|topic| pattern::is_pattern(topic)) {
        (hub.identities).note_pattern(request.reactor, id, &rights, end_stream);
    }
    for topic in &topics {
        // Checked above; the stream may be gone already, which is no error of the request.
        if let Ok(true) = subscribe_name(request.reactor, id, topic) {
            presence::join(request.reactor, &hub.options.rules, id, topic);
        }
    }
}

/// The token of a stream has ended. A stream cannot be given another one, so the client comes again with it.
fn end_stream<S: 'static>(reactor: &mut Reactor<S>, id: ConnId, _: &[String]) {
    reactor.close(id);
}

/// The answer to a request for a stream while the hub drains or has no room: the end of a stream, with the
/// time after which the client shall ask again, from 1 to 10 seconds.
///
/// A browser gives up for ever at any other status than 200. A client that does not name the type
/// of event streams is not a browser's `EventSource` and gets a plain 503.
fn come_again_reply<S: 'static>(request: &Request<'_, '_, S>, why: &'static str) -> Reply {
    let accept = request.header("accept").unwrap_or_default();
    let mut types = accept.split([',', ';']).map(str::trim);
    if !types.any(|name| name.eq_ignore_ascii_case("text/event-stream")) {
        let reply = Reply::from((Status::SERVICE_UNAVAILABLE, why));
        return reply.header("Retry-After", "1");
    }
    // Each client another time, so that they do not all come back in one moment. The same in each
    // run of a simulation.
    let mut hasher = DefaultHasher::new();
    (request.id, request.reactor.now()).hash(&mut hasher);
    let delay = Duration::from_millis(1000 + hasher.finish() % 9001);
    let mut lines = Vec::new();
    event_stream::encode_retry(delay, &mut lines);
    Reply::new(Status::OK)
        .content_type("text/event-stream")
        .body(lines)
        .header("Cache-Control", "no-store")
}

/// The names that a request asks for, and whether it wants the envelope as data.
///
/// # Errors
///
/// When the request is not valid or not allowed.
fn parameters<'i, S: 'static>(
    request: &Request<'_, 'i, S>,
    rules: &Rules,
    rights: &Rights,
    shown: Shown,
) -> Result<(Vec<Cow<'i, str>>, bool), Denied> {
    let bad = |why: String| Err(Denied::Invalid((Status::BAD_REQUEST, why).into()));
    let (mut topics, mut has_envelope) = (Vec::new(), false);
    for pair in form::try_pairs(request.query_string().unwrap_or_default()) {
        // A topic that was left out for this would be missing in silence.
        let Some((name, value)) = pair else {
            return bad("the query is not UTF-8 text\n".into());
        };
        match (&*name, &*value) {
            ("topic", _) => topics.push(value),
            ("envelope", "1") => has_envelope = true,
            ("envelope", "0") => has_envelope = false,
            ("envelope", other) => {
                return bad(format!("envelope: expected 0 or 1, got {other:?}\n"));
            }
            _ => {}
        }
    }
    if topics.is_empty() {
        return bad("say which: /events?topic=NAME\n".into());
    }
    for topic in &topics {
        if let Err(error) = pubsub::check_name(topic) {
            return bad(format!("topic {topic:?}: {error}\n"));
        }
        rights
            .may_subscribe(rules, topic)
            .map_err(|lack| Denied::subscribing(topic, lack, shown))?;
    }
    let config = request.reactor.config();
    if config.subscriptions_max < topics.len() {
        return bad("too many topics\n".into());
    }
    let patterns = topics.iter().filter(|it| pattern::is_pattern(it));
    if config.patterns_max < patterns.count() {
        return bad("too many patterns\n".into());
    }
    Ok((topics, has_envelope))
}
