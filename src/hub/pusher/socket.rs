//! A client of an app, on a WebSocket.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use crate::protocol::pusher::channel::{Channel, ChannelKind};
use crate::protocol::pusher::message::{self, ClientMessage, EVENT_BYTES_MAX};
use crate::protocol::pusher::{VERSIONS, code, signature};
use crate::protocol::websocket::Message;
use crate::pubsub::{Event, EventId};
use crate::reactor::close::Close;
use crate::reactor::id::{ConnId, ConnMap};
use crate::server::router::Router;
use crate::session::handler::{Handshake, WebSocketHandler, Ws};

use crate::hub::parts::Parts;
use crate::hub::refusal::Refusal;
use crate::hub::rights::Scope;
use crate::hub::subscribe::unsubscribe_name;
use crate::hub::subscription::{self, SubscribeWords};

use super::app::{PusherApp, PusherApps};
use super::topic::{encode, topic_of};

/// The name of the wire format.
const WIRE_FORMAT: &str = "pusher";

/// The time without a message after which a client asks whether the server is there, in seconds.
const ACTIVITY_TIMEOUT_SECONDS: u32 = 120;

/// The longest data of an event of a client, in bytes.
const CLIENT_EVENT_BYTES_MAX: usize = 10 * 1024;

/// The connections of this reactor by their socket id, which is how backends name them.
pub(super) type SocketIds = Rc<RefCell<HashMap<Rc<str>, ConnId>>>;

/// A client that was greeted.
struct Socket {
    app: Rc<PusherApp>,
    socket_id: Rc<str>,
}

struct Sockets<S: 'static> {
    hub: Rc<Parts<S>>,
    apps: Rc<PusherApps>,
    sockets: ConnMap<Socket>,
    ids: SocketIds,
}

/// Adds `GET /app/KEY`.
pub(super) fn add_routes<S: 'static>(
    router: &mut Router<S>,
    hub: &Rc<Parts<S>>,
    apps: &Rc<PusherApps>,
    ids: &SocketIds,
) {
    let sockets = Sockets {
        hub: Rc::clone(hub),
        apps: Rc::clone(apps),
        sockets: ConnMap::default(),
        ids: Rc::clone(ids),
    };
    router.websocket("/app/:key", |ws| ws.handler(sockets));
}

impl<S: 'static> Sockets<S> {
    /// The app of a client that opens a WebSocket.
    ///
    /// # Errors
    ///
    /// The code and the reason with which the client is refused.
    fn app_of(&self, handshake: &Handshake<'_>) -> Result<Rc<PusherApp>, (u16, &'static str)> {
        let key = handshake.param("key").unwrap_or_default();
        let app = self.apps.by_key(&key);
        let app = app.ok_or((code::UNKNOWN_APP, "there is no app with this key"))?;
        let version = handshake.query("protocol");
        let version = version.ok_or((code::NO_VERSION, "the parameter protocol is missing"))?;
        let version = version
            .parse::<u32>()
            .map_err(|_| (code::BAD_VERSION, "the protocol is no number"))?;
        match VERSIONS.contains(&version) {
            true => Ok(Rc::clone(app)),
            false => Err((code::UNSUPPORTED_VERSION, "the protocols are 5 to 7")),
        }
    }

    fn subscribe(
        &self,
        ws: &mut Ws<'_, S>,
        socket: &Socket,
        name: &str,
        auth: &str,
        channel_data: Option<&str>,
    ) {
        let refuse = |ws: &mut Ws<'_, S>, why: &str, status: u16| {
            ws.send(message::subscription_error(name, why, status));
        };
        let channel = match Channel::parse(name) {
            Ok(channel) => channel,
            Err(error) => return refuse(ws, &error.to_string(), 400),
        };
        if channel.needs_signature() {
            let text = signature::subscription_text(&socket.socket_id, name, channel_data);
            let app = &socket.app;
            if !signature::is_authorized(app.key(), app.secret(), &text, auth) {
                return refuse(ws, "the signature is not right", 401);
            }
        }
        match channel.kind() {
            ChannelKind::Public | ChannelKind::Private | ChannelKind::Encrypted => {}
            ChannelKind::Presence | ChannelKind::ServerToUser => {
                return refuse(ws, "this server has no such channels yet", 501);
            }
        }
        let words = Subscription {
            channel: name.to_owned(),
            topics: [topic_of(socket.app.id(), name)],
        };
        let begun =
            subscription::begin(&self.hub, ws.reactor, ws.id, words, None, false, Scope::All);
        if let Err(refusal) = begun {
            refuse(ws, &refusal.to_string(), 403);
        }
    }

    fn client_event(
        &self,
        ws: &mut Ws<'_, S>,
        socket: &Socket,
        event: &str,
        name: &str,
        data: &str,
    ) {
        let why = 'refused: {
            let Ok(channel) = Channel::parse(name) else {
                break 'refused "there is no such channel";
            };
            if !socket.app.takes_client_events() {
                break 'refused "the app takes no client events";
            }
            if !channel.takes_client_events() {
                break 'refused "this kind of channel takes no client events";
            }
            if EVENT_BYTES_MAX < event.len() {
                break 'refused "the name of the event is longer than 200 bytes";
            }
            if CLIENT_EVENT_BYTES_MAX < data.len() {
                break 'refused "the data is longer than 10 KiB";
            }
            let topic = topic_of(socket.app.id(), name);
            if !ws.reactor.is_subscribed(ws.id, &topic) {
                break 'refused "the connection is no member of the channel";
            }
            let Ok(event) = Event::try_new(event) else {
                break 'refused "the name of the event has a character that cannot be sent";
            };
            let engine = &self.hub.engine;
            match engine.publish_message(ws, &topic, event.json(data), true, |_, _| {}) {
                Ok(()) => return,
                Err(_) => "the server is overloaded",
            }
        };
        ws.send(message::error(code::CLIENT_EVENT, why, Some(name)));
    }
}

impl<S: 'static> WebSocketHandler<S> for Sockets<S> {
    fn on_open(&mut self, ws: &mut Ws<'_, S>, handshake: &Handshake<'_>) {
        let app = match self.app_of(handshake) {
            Ok(_) if ws.reactor.is_draining() => Err((code::OVER_CAPACITY, "the server ends")),
            app => app,
        };
        let registered = ws.reactor.register_wire_format(WIRE_FORMAT, encode);
        let (app, wire_format) = match (app, registered) {
            (Ok(app), Ok(wire_format)) => (app, wire_format),
            (Err((code, why)), _) => {
                ws.send(message::error(code, why, None));
                ws.close_with(code, why);
                return;
            }
            (Ok(_), Err(error)) => {
                log::error!("{error}");
                ws.close_with(1011, "no room for another wire format");
                return;
            }
        };
        ws.reactor.set_wire_format(ws.id, wire_format);
        // It is signed in every authorization, so that it must not be guessed.
        let socket_id: Rc<str> =
            format!("{}.{}", rand::random::<u32>(), rand::random::<u64>()).into();
        ws.send(message::connection_established(
            &socket_id,
            ACTIVITY_TIMEOUT_SECONDS,
        ));
        self.ids.borrow_mut().insert(Rc::clone(&socket_id), ws.id);
        self.sockets.insert(ws.id, Socket { app, socket_id });
    }

    fn on_message(&mut self, ws: &mut Ws<'_, S>, message: Message<'_>) {
        let Some(socket) = self.sockets.get(ws.id) else {
            return;
        };
        let Message::Text(text) = message else {
            ws.close_with(1003, "messages are text");
            return;
        };
        let mut scratch = String::new();
        match message::parse(text, &mut scratch) {
            Ok(ClientMessage::Ping) => {
                ws.send(message::PONG);
            }
            Ok(ClientMessage::Subscribe {
                channel,
                auth,
                channel_data,
            }) => self.subscribe(ws, socket, &channel, &auth, channel_data.as_deref()),
            Ok(ClientMessage::Unsubscribe { channel }) => {
                let topic = topic_of(socket.app.id(), &channel);
                self.hub.pending.cancel(ws.id, &topic);
                unsubscribe_name(ws.reactor, ws.id, &topic);
            }
            Ok(ClientMessage::ClientEvent {
                event,
                channel,
                data,
            }) => self.client_event(ws, socket, &event, &channel, data),
            Ok(ClientMessage::Pong | ClientMessage::SignIn { .. } | ClientMessage::Unknown) => {}
            Err(error) => log::debug!("conn {}: no message of Pusher: {error}", ws.id),
        }
    }

    fn on_close(&mut self, ws: &mut Ws<'_, S>, _: &Close) {
        if let Some(socket) = self.sockets.remove(ws.id) {
            self.ids.borrow_mut().remove(&socket.socket_id);
        }
    }
}

/// A subscription on its way.
struct Subscription {
    channel: String,
    topics: [String; 1],
}

impl SubscribeWords for Subscription {
    fn names(&self) -> &[String] {
        &self.topics
    }

    // Without a cursor there is no gap.
    fn gap(&self, _: &str, _: Option<&str>, _: EventId) -> String {
        message::PONG.to_owned()
    }

    fn subscribed(&self, _: EventId, is_live: &dyn Fn(&str) -> bool) -> Option<String> {
        let is_live = is_live(&self.topics[0]);
        is_live.then(|| message::subscription_succeeded(&self.channel, "{}"))
    }

    fn refused(&self, _: &str, refusal: Refusal) -> String {
        message::subscription_error(&self.channel, &refusal.to_string(), 503)
    }

    fn expired(&self, _: &str) -> String {
        message::subscription_error(&self.channel, "the right to it has ended", 401)
    }
}
