//! Events that clients send to each other.

use crate::hub::parts::Parts;
use crate::protocol::pusher::channel::Channel;
use crate::protocol::pusher::code;
use crate::protocol::pusher::message::{self, EVENT_BYTES_MAX};
use crate::protocol::pusher::webhook;
use crate::pubsub::Event;
use crate::session::handler::Ws;

use super::client::Socket;
use super::topic::topic_of;

/// The longest data of an event of a client, in bytes.
const DATA_BYTES_MAX: usize = 10 * 1024;

/// Passes an event of a client on to the other members of a channel, or tells it why not.
pub(super) fn client_event<S: 'static>(
    hub: &Parts<S>,
    ws: &mut Ws<'_, S>,
    socket: &mut Socket,
    (event, channel, data): (&str, &str, &str),
) {
    if let Err(why) = pass_on(hub, ws, socket, (event, channel, data)) {
        ws.send(message::error(code::CLIENT_EVENT, why, Some(channel)));
    }
}

fn pass_on<S: 'static>(
    hub: &Parts<S>,
    ws: &mut Ws<'_, S>,
    socket: &mut Socket,
    (event, name, data): (&str, &str, &str),
) -> Result<(), &'static str> {
    let channel = Channel::parse(name).map_err(|_| "there is no such channel")?;
    if !socket.app().takes_client_events() {
        return Err("the app takes no client events");
    }
    if !channel.takes_client_events() {
        return Err("this kind of channel takes no client events");
    }
    if EVENT_BYTES_MAX < event.len() {
        return Err("the name of the event is longer than 200 bytes");
    }
    if DATA_BYTES_MAX < data.len() {
        return Err("the data is longer than 10 KiB");
    }
    let topic = topic_of(socket.app().id(), name);
    if !ws.reactor.is_subscribed(ws.id, &topic) {
        return Err("the connection is no member of the channel");
    }
    if !socket.event_rate_mut().allows(ws.reactor.now()) {
        return Err("the connection sends more than 10 events a second");
    }
    let Ok(event) = Event::try_new(event) else {
        return Err("the name of the event has a character that cannot be sent");
    };
    let mut event = event.json(data);
    // The key of an event of a client is its user.
    let user = ws.reactor.present_user(ws.id, &topic);
    if let Some(user) = &user {
        event = event.key(&*user.name);
    }
    let event_name = event.name().unwrap_or_default().to_owned();
    (hub.engine
        .publish_message(ws, &topic, event, true, |_, _| {}))
    .map_err(|_| "the server is overloaded")?;
    let webhooks = hub.pusher.webhooks();
    webhooks.send(ws.reactor, socket.app().id(), "client_event", name, || {
        let user = user.as_ref().map(|user| &*user.name);
        webhook::client_event(name, &event_name, data, socket.socket_id(), user)
    });
    Ok(())
}
