//! `GET /events`: topics and patterns as Server-Sent Events.

use std::borrow::Cow;

use crate::protocol::http::{Status, form};
use crate::pubsub::{self, pattern};
use crate::server::reply::Reply;
use crate::server::request::Request;

use super::access::{self, Access};
use super::grammar::envelope;
use super::subscribe::subscribe_name;

/// The name of the wire format of streams with `envelope=1`.
const ENVELOPE_EVENTS: &str = "waterwheel.v1.json events";

/// Answers with an event stream of the topics and patterns that are asked for. If one name is not
/// valid or not allowed, the answer says why, and there is no subscription.
pub(super) fn events<S: 'static>(request: &mut Request<'_, '_, S>, access: &Access) {
    let (topics, has_envelope) = match parameters(request, access) {
        Ok(parameters) => parameters,
        Err(reply) => {
            request.reply(reply);
            return;
        }
    };
    let wire_format = match has_envelope {
        false => None,
        true => match request
            .reactor
            .register_wire_format_with_values(ENVELOPE_EVENTS, envelope::encode_event)
        {
            Ok(wire_format) => Some(wire_format),
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
    for topic in &topics {
        // Checked above; the stream may be gone already, which is no error of the request.
        let _ = subscribe_name(request.reactor, id, topic);
    }
}

/// The names that a request asks for, and whether it wants the envelope as data.
///
/// # Errors
///
/// The answer to a request that is not valid or not allowed.
fn parameters<'i, S: 'static>(
    request: &Request<'_, 'i, S>,
    access: &Access,
) -> Result<(Vec<Cow<'i, str>>, bool), Reply> {
    let bad = |why: String| Err(Reply::from((Status::BAD_REQUEST, why)));
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
        if pattern::is_pattern(topic) && !access.allows(access::token_of(request).as_deref()) {
            return Err(access::unauthorized("a pattern"));
        }
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
