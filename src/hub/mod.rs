//! Topics for every transport: WebSocket, Server-Sent Events and POST on one router.
//!
//! [`mount`] adds the hub's routes to a [`Router`]:
//!
//! | route | what |
//! |---|---|
//! | `GET /` | the demo page |
//! | `GET /ws` | each text message is a topic or a pattern; what is published arrives as it is. With subprotocol [`SUBPROTOCOL`]: JSON both ways |
//! | `GET /events?topic=a&topic=b.*` | Server-Sent Events |
//! | `POST /publish?topic=a` | the body is the message; answers its id and how many got it |
//! | `GET /healthz`, `GET /readyz` | alive; ready, which ends when draining begins |
//!
//! Who may: anyone may subscribe to a topic by its name. Publishing and patterns need the token,
//! unless the hub is open. Pages of other origins are refused unless they are listed, and a hub on
//! a loopback address answers only to loopback names, so that no website can drive a hub on its
//! reader's own machine.
//!
//! Several reactors, each on a core of its own, are one hub with a [`ReactorGroup`].

mod access;
mod envelope;
mod group;
mod socket;

use std::borrow::Cow;

use crate::protocol::http::Status;
use crate::pubsub::{self, Event};
use crate::reactor::reactor::Reactor;
use crate::reactor::topics::Published;
use crate::server::log_limit::{LogLimit, shown};
use crate::server::origins::Origins;
use crate::server::reply::Reply;
use crate::server::request::Request;
use crate::server::router::Router;

pub use self::access::Access;
pub use self::envelope::SUBPROTOCOL;
pub use self::group::{GroupSeat, Overloaded, ReactorGroup};

/// The demo page: one file, nothing external.
const PAGE: &str = include_str!("page.html");

/// Adds the hub's routes to a router.
///
/// They publish to the members of this reactor; [`GroupSeat::mount`] is for those of several.
pub fn mount<S: 'static>(router: &mut Router<S>, access: &Access) {
    mount_at(router, access, None);
}

fn mount_at<S: 'static>(router: &mut Router<S>, access: &Access, seat: Option<&GroupSeat<S>>) {
    router.origins(Origins::Listed {
        origins: access.origins.clone(),
        absent: true,
    });
    router.gate.setting = access.origins_setting();
    let names = access.clone();
    let mut refused_host = LogLimit::default();
    router.guard(move |request| check_host(request, &names, &mut refused_host));

    router.get("/", |request| request.reply(page()));
    router.get("/healthz", |request| request.reply("ok\n"));
    router.get("/readyz", |request| match request.reactor.is_draining() {
        false => request.reply("ready\n"),
        true => request.reply((Status::SERVICE_UNAVAILABLE, "draining\n")),
    });
    let rights = access.clone();
    router.get("/events", move |request| events(request, &rights));
    let (rights, post_seat) = (access.clone(), seat.cloned());
    router.post("/publish", move |request| {
        publish(request, &rights, post_seat.as_ref())
    });
    let (rights, seat) = (access.clone(), seat.cloned());
    router.websocket("/ws", move |ws| socket::set_up(ws, rights, seat));
}

fn check_host<S: 'static>(
    request: &Request<'_, '_, S>,
    access: &Access,
    refused_host: &mut LogLimit,
) -> Result<(), Reply> {
    let Some(host) = request.host().filter(|host| !access.serves(host)) else {
        return Ok(());
    };
    if let Some(suppressed) = refused_host.is_due(request.reactor.now()) {
        let (host, setting) = (shown(host), access.origins_setting());
        log::warn!(
            "refused a request for host {host:?} on a loopback address; {setting} http://{host} allows it{suppressed}"
        );
    }
    Err((
        Status::FORBIDDEN,
        "this name is not served on a loopback address\n",
    )
        .into())
}

fn page() -> Reply {
    // `'self'` covers the WebSocket too (CSP level 3), so the page talks to its own hub alone.
    const POLICY: &str = "default-src 'none'; connect-src 'self'; img-src data:; style-src 'unsafe-inline'; \
                          script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    let reply = Reply::new(Status::OK)
        .content_type("text/html; charset=utf-8")
        .body(PAGE);
    let headers = [
        ("Content-Security-Policy", POLICY),
        ("X-Content-Type-Options", "nosniff"),
        ("Cache-Control", "no-cache"),
    ];
    headers.into_iter().fold(reply, |reply, (name, value)| {
        reply.header(name, value).expect("a constant header")
    })
}

fn events<S: 'static>(request: &mut Request<'_, '_, S>, access: &Access) {
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
            request.reply(unauthorized("a pattern"));
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
        let _ = join(request.reactor, id, topic);
    }
}

/// Subscribes to a topic, or to a pattern where the name is one.
fn join<S: 'static>(
    reactor: &mut Reactor<S>,
    id: crate::ConnId,
    name: &str,
) -> Result<bool, pubsub::TopicError> {
    if pubsub::pattern::is_pattern(name) {
        reactor.subscribe_pattern(id, name)
    } else {
        reactor.subscribe(id, name)
    }
}

fn publish<S: 'static>(
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
        return Err(unauthorized("publishing"));
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
        if let Err(error) = envelope::check_json(text) {
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

fn unauthorized(what: &str) -> Reply {
    let reply = Reply::from((
        Status::UNAUTHORIZED,
        format!("{what} needs a token: `Authorization: Bearer TOKEN`, or `?token=TOKEN`\n"),
    ));
    reply
        .header("WWW-Authenticate", "Bearer")
        .expect("a constant header")
}
