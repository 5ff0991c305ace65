//! `GET /events`: topics and patterns as Server-Sent Events.

use crate::protocol::http::Status;
use crate::pubsub;
use crate::server::request::Request;

use super::access::{self, Access};
use super::subscribe::subscribe_name;

/// Answers with an event stream of the topics and patterns that are asked for. If one name is not
/// valid or not allowed, the answer says why, and there is no subscription.
pub(super) fn events<S: 'static>(request: &mut Request<'_, '_, S>, access: &Access) {
    let topics: Vec<_> = request.queries("topic").collect();
    if topics.is_empty() {
        request.reply((Status::BAD_REQUEST, "say which: /events?topic=NAME\n"));
        return;
    }
    for topic in &topics {
        if let Err(error) = pubsub::check_name(topic) {
            request.reply((Status::BAD_REQUEST, format!("topic {topic:?}: {error}\n")));
            return;
        }
        if pubsub::pattern::is_pattern(topic)
            && !access.allows(access::token_of(request).as_deref())
        {
            request.reply(access::unauthorized("a pattern"));
            return;
        }
    }
    let config = request.reactor.config();
    if config.subscriptions_max < topics.len() {
        request.reply((Status::BAD_REQUEST, "too many topics\n"));
        return;
    }
    let patterns = topics.iter().filter(|it| pubsub::pattern::is_pattern(it));
    if config.patterns_max < patterns.count() {
        request.reply((Status::BAD_REQUEST, "too many patterns\n"));
        return;
    }
    let id = request.event_stream().id;
    for topic in &topics {
        // Checked above; the stream may be gone already, which is no error of the request.
        let _ = subscribe_name(request.reactor, id, topic);
    }
}
