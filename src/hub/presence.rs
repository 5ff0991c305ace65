//! Presence: the users of topics whose rule says so, for members and for those who ask.
//!
//! A member by name is present from its subscription on, and gets a snapshot behind the answer to it. Members by
//! pattern are not present and get no changes. [`Reactor::join_presence`] says how each leaves exactly once.
//!
//! `GET /presence?topic=T` answers with a snapshot, for a client whose credential grants the topic. On a WebSocket a client that may
//! subscribe to the topic may ask.

use crate::protocol::http::Status;
use crate::pubsub::{self, Notice, Rules, Snapshot, pattern};
use crate::reactor::id::ConnId;
use crate::reactor::reactor::Reactor;
use crate::server::reply::Reply;
use crate::server::request::Request;

use super::access::Access;
use super::grammar::notices;
use super::guesses::{self, Denied};
use super::parts::Parts;
use super::rights::{Lack, Rights};

/// A connection has become a member of a topic, or of a pattern, and was told so: where the topic has presence it
/// is present from now on, and gets a snapshot.
pub(super) fn join<S: 'static>(reactor: &mut Reactor<S>, rules: &Rules, id: ConnId, name: &str) {
    if pattern::is_pattern(name) || !rules.of(name).has_presence {
        return;
    }
    reactor.join_presence(id, name);
    let snapshot = reactor.presence(name);
    let notice = Notice::Present {
        snapshot: &snapshot,
    };
    reactor.send_notice(id, name, &notice);
}

/// The users of a topic, as a message of the envelope. `None` when the topic has no presence.
pub(super) fn message<S: 'static>(
    reactor: &mut Reactor<S>,
    rules: &Rules,
    topic: &str,
) -> Option<String> {
    let has_presence = rules.of(topic).has_presence;
    has_presence.then(|| word(topic, &reactor.presence(topic)))
}

fn word(topic: &str, snapshot: &Snapshot) -> String {
    let mut message = Vec::new();
    notices::push_snapshot(topic, snapshot, &mut message);
    String::from_utf8(message).expect("JSON is UTF-8")
}

/// `GET /presence?topic=T`.
pub(super) fn presence<S: 'static>(
    request: &mut Request<'_, '_, S>,
    access: &Access,
    hub: &Parts<S>,
) {
    match reply(request, access, hub) {
        Ok(reply) => {
            request.reply(reply);
        }
        Err(denied) => guesses::refuse(request, denied, &hub.guesses),
    }
}

fn reply<S: 'static>(
    request: &mut Request<'_, '_, S>,
    access: &Access,
    hub: &Parts<S>,
) -> Result<Reply, Denied> {
    let bad = |why: String| Denied::Invalid((Status::BAD_REQUEST, why).into());
    let (rights, shown) = Rights::of_request(request, access);
    let denied = |lack| Denied::NotGranted {
        what: "/presence",
        lack,
        shown,
    };
    // A stranger learns nothing else about its request.
    if !rights.is_trusted() {
        return Err(denied(Lack::Credential));
    }
    let topic = request
        .query("topic")
        .ok_or_else(|| bad("say which: /presence?topic=NAME\n".into()))?;
    pubsub::check_name(&topic).map_err(|why| bad(format!("topic {topic:?}: {why}\n")))?;
    rights
        .may_list_users(&hub.options.rules, &topic)
        .map_err(denied)?;
    let mut message = message(request.reactor, &hub.options.rules, &topic)
        .ok_or_else(|| bad(format!("topic {topic:?} has no presence\n")))?;
    message.push('\n');
    Ok(Reply::new(Status::OK)
        .content_type("application/json")
        .body(message))
}
