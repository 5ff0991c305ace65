//! Users who sign in: their own channel, and the users whom they watch.
//!
//! A connection that has signed in is present in a topic of its user, whose members are the connections that watch the
//! user: they are told when the first connection comes and the last one goes, on whichever nodes these are.

use std::rc::Rc;

use crate::protocol::pusher::message::{self, UserData};
use crate::protocol::pusher::{code, signature};
use crate::pubsub::User;
use crate::reactor::reactor::Reactor;
use crate::session::handler::Ws;

use crate::hub::parts::Parts;

use super::client::{SignedIn, Socket};
use super::topic::{online_topic, topic_of};

/// The most users whom one connection may watch.
const WATCHLIST_MAX: usize = 100;

/// Answers `pusher:signin`. A connection whose sign-in is not right is closed.
pub(super) fn sign_in<S: 'static>(
    hub: &Rc<Parts<S>>,
    ws: &mut Ws<'_, S>,
    socket: &mut Socket,
    auth: &str,
    user_data: &str,
) {
    let refuse = |ws: &mut Ws<'_, S>, why: &str| {
        ws.send(message::error(code::UNAUTHORIZED, why, None));
        ws.close_with(code::UNAUTHORIZED, why);
    };
    let app = Rc::clone(socket.app());
    let text = signature::sign_in_text(socket.socket_id(), user_data);
    if !signature::is_authorized(app.key(), app.secret(), &text, auth) {
        return refuse(ws, "the signature of the sign-in is not right");
    }
    if let Some(signed_in) = socket.signed_in() {
        return match signed_in.user_data() == user_data {
            true => _ = ws.send(message::sign_in_succeeded(user_data)),
            false => refuse(ws, "the connection has signed in with other data"),
        };
    }
    let Ok(data) = UserData::of_sign_in(user_data, usize::MAX) else {
        return refuse(ws, "the data of the sign-in is no user");
    };
    let user = User {
        name: data.id.into(),
        info: data.info.map(Into::into),
    };
    // It gets what is sent to its user whether or not it subscribes to the channel.
    let own_channel = format!("#server-to-user-{}", user.name);
    let own_topic = topic_of(app.id(), &own_channel);
    if let Err(error) = ws.subscribe(&own_topic) {
        return refuse(ws, &error.to_string());
    }
    let signed_in = SignedIn::new(user.clone(), user_data);
    hub.pusher
        .registry()
        .sign_in(&signed_in.key(app.id()), ws.id);
    socket.set_signed_in(signed_in);
    ws.send(message::sign_in_succeeded(user_data));
    let online = online_topic(app.id(), &user.name);
    // Others learn that the user is there, and no more.
    let user = User { info: None, ..user };
    ws.reactor.join_presence_as(ws.id, &online, user);
    watch(ws, app.id(), &data.watchlist);
}

/// Tells a client which of the users that it wants to watch are there, and from now on who comes and goes.
fn watch<S: 'static>(ws: &mut Ws<'_, S>, app_id: &str, watchlist: &[String]) {
    if WATCHLIST_MAX < watchlist.len() {
        let why = "the watchlist has more than 100 users";
        ws.send(message::error(code::WATCHLIST, why, None));
        return;
    }
    let (mut online, mut offline) = (Vec::new(), Vec::new());
    for user in watchlist {
        let topic = online_topic(app_id, user);
        if let Err(error) = ws.subscribe(&topic) {
            let why = error.to_string();
            ws.send(message::error(code::WATCHLIST, &why, None));
            break;
        }
        match is_online(ws.reactor, &topic) {
            true => online.push(user.as_str()),
            false => offline.push(user.as_str()),
        }
    }
    if !watchlist.is_empty() {
        ws.send(message::watchlist_events(&online, &offline));
    }
}

fn is_online<S: 'static>(reactor: &Reactor<S>, online_topic: &str) -> bool {
    reactor.present_user_count(online_topic) != 0
}
