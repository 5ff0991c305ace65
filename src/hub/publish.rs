//! `POST /publish`: the body is a message for a topic.

use std::borrow::Cow;

use crate::protocol::http::Status;
use crate::pubsub::{self, Event};
use crate::reactor::reactor::Published;
use crate::server::reply::Reply;
use crate::server::request::Request;

use super::access::{self, Access};
use super::group::GroupSeat;
use super::json;

pub(super) fn publish<S: 'static>(
    request: &mut Request<'_, '_, S>,
    access: &Access,
    seat: Option<&GroupSeat<S>>,
) {
    let (topic, event) = match publication(request, access) {
        Ok(publication) => publication,
        Err(reply) => {
            request.reply(reply);
            return;
        }
    };
    let Some(seat) = seat else {
        let published = request.reactor.publish(&topic, event);
        request.reply(told(published));
        return;
    };
    let responder = request.reply_later();
    let outcome = seat.publish(request.reactor, &topic, event, move |cx, outcome| {
        let reply = outcome.map_or_else(|gone| unavailable(&gone), told);
        cx.reactor.reply(responder, reply)
    });
    if let Err(behind) = outcome {
        request.reactor.reply(responder, unavailable(&behind));
    }
}

/// What is to be published, and where.
///
/// # Errors
///
/// The answer to a request that may not or cannot.
fn publication<'i, S: 'static>(
    request: &Request<'_, 'i, S>,
    access: &Access,
) -> Result<(Cow<'i, str>, Event<'i>), Reply> {
    if !access.allows(access::token_of(request).as_deref()) {
        return Err(access::unauthorized("publishing"));
    }
    let bad = |why: String| Err(Reply::from((Status::BAD_REQUEST, why)));
    let Some(topic) = request.query("topic") else {
        return bad("say where: /publish?topic=NAME\n".into());
    };
    if let Err(error) = pubsub::check_name(&topic) {
        return bad(format!("topic {topic:?}: {error}\n"));
    }
    let Some(text) = request.text() else {
        return bad("the message is not UTF-8 text\n".into());
    };
    let mut event = match request.query("event").map(Event::try_new) {
        None => Event::message(""),
        Some(Ok(event)) => event,
        Some(Err(error)) => return bad(format!("{error}\n")),
    };
    let is_json = request.header("content-type").is_some_and(|value| {
        let kind = value.split(';').next().unwrap_or_default().trim();
        kind.eq_ignore_ascii_case("application/json")
    });
    event = if is_json {
        if let Err(error) = json::check(text) {
            return bad(format!("the message is not JSON: {error}\n"));
        }
        event.json(text.trim())
    } else {
        event.data(text)
    };
    Ok((topic, event))
}

/// The answer to who published.
fn told(published: Published) -> Reply {
    Reply::json(format!(
        "{{\"id\":\"{}\",\"delivered\":{}}}\n",
        published.id, published.delivered
    ))
}

fn unavailable(why: &dyn std::fmt::Display) -> Reply {
    let reply = Reply::from((Status::SERVICE_UNAVAILABLE, format!("{why}\n")));
    reply.header("Retry-After", "1").expect("a constant header")
}
