//! `POST /disconnect` and `POST /unsubscribe`: the back end ends what a user has, on all reactors
//! of all nodes.

use crate::protocol::http::Status;
use crate::pubsub;
use crate::reactor::id::ConnId;
use crate::reactor::reactor::{Cx, Reactor, Users};
use crate::server::request::Request;

use super::access::Access;
use super::engine::Engine;
use super::guesses::{self, POLICY_VIOLATION};
use super::once::json_reply;
use super::order::Order;
use super::parts::Parts;
use super::subscribe::unsubscribe_name;

/// Closes the connections of a user, and calls `done` with how many there were on all reactors.
pub(super) fn disconnect<S: 'static>(
    engine: &Engine<S>,
    cx: Cx<'_, S>,
    user: String,
    done: impl FnOnce(&mut Reactor<S>, usize) + Send + 'static,
) {
    engine.carry_out(cx, Order::Disconnect { user }, done);
}

/// Ends the subscriptions of a user to a topic, or to a pattern where the name is one, and calls `done` with how
/// many there were on all reactors.
pub(super) fn unsubscribe<S: 'static>(
    engine: &Engine<S>,
    cx: Cx<'_, S>,
    (user, name): (String, String),
    done: impl FnOnce(&mut Reactor<S>, usize) + Send + 'static,
) {
    engine.carry_out(cx, Order::Unsubscribe { user, name }, done);
}

impl<S: 'static> Users<S> for Parts<S> {
    fn connections_of(&self, user: &str) -> Vec<ConnId> {
        self.identities.connections_of(user)
    }

    fn disconnect(&self, reactor: &mut Reactor<S>, id: ConnId) -> bool {
        let reason = "disconnected by the back end";
        reactor.close_with(id, POLICY_VIOLATION, reason).is_queued()
    }

    fn unsubscribe(&self, reactor: &mut Reactor<S>, id: ConnId, name: &str) -> bool {
        let was_pending = self.pending.cancel(id, name);
        let was_subscribed = unsubscribe_name(reactor, id, name) || was_pending;
        if was_subscribed {
            self.identities.tell_unsubscribed(reactor, id, name);
        }
        was_subscribed
    }
}

/// `POST /disconnect?user=U`.
pub(super) fn post_disconnect<S: 'static>(
    request: &mut Request<'_, '_, S>,
    access: &Access,
    hub: &Parts<S>,
) {
    if let Err(denied) = guesses::check_administration(request, access, "/disconnect") {
        return guesses::refuse(request, denied, &hub.guesses);
    }
    let Some(user) = request.query("user") else {
        let why = "say whom: /disconnect?user=NAME\n";
        request.reply((Status::BAD_REQUEST, why));
        return;
    };
    let (user, responder) = (user.into_owned(), request.reply_later());
    disconnect(&hub.engine, request.cx(), user, move |reactor, count| {
        let json = format!("{{\"disconnected\":{count}}}\n");
        reactor.reply(responder, json_reply(json.into_bytes()));
    });
}

/// `POST /unsubscribe?user=U&topic=T`.
pub(super) fn post_unsubscribe<S: 'static>(
    request: &mut Request<'_, '_, S>,
    access: &Access,
    hub: &Parts<S>,
) {
    if let Err(denied) = guesses::check_administration(request, access, "/unsubscribe") {
        return guesses::refuse(request, denied, &hub.guesses);
    }
    let (Some(user), Some(topic)) = (request.query("user"), request.query("topic")) else {
        let why = "say whom and of what: /unsubscribe?user=NAME&topic=NAME\n";
        request.reply((Status::BAD_REQUEST, why));
        return;
    };
    if let Err(error) = pubsub::check_name(&topic) {
        request.reply((Status::BAD_REQUEST, format!("topic {topic:?}: {error}\n")));
        return;
    }
    let of = (user.into_owned(), topic.into_owned());
    let responder = request.reply_later();
    unsubscribe(&hub.engine, request.cx(), of, move |reactor, count| {
        let json = format!("{{\"unsubscribed\":{count}}}\n");
        reactor.reply(responder, json_reply(json.into_bytes()));
    });
}
