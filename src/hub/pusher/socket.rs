//! A client of an app, on a WebSocket.

use std::rc::Rc;

use crate::protocol::http::Scheme;
use crate::protocol::pusher::channel::{Channel, ChannelKind};
use crate::protocol::pusher::message::{self, ClientMessage, UserData};
use crate::protocol::pusher::{VERSIONS, code, signature};
use crate::protocol::websocket::Message;
use crate::pubsub::User;
use crate::reactor::close::Close;
use crate::reactor::config::Goodbye;
use crate::reactor::id::ConnMap;
use crate::reactor::reactor::Reactor;
use crate::server::router::Router;
use crate::session::handler::{Handshake, WebSocketHandler, Ws};

use crate::hub::parts::Parts;
use crate::hub::subscribe::unsubscribe_name;

use super::app::PusherApp;
use super::client::Socket;
use super::client_event::client_event;
use super::sign_in::sign_in;
use super::subscription::{self, Wanted};
use super::topic::{connections_topic, topic_of};
use super::words::{encode, encode_notice, has_notice};

/// The name of the wire format.
const WIRE_FORMAT: &str = "pusher";

/// The time without a message after which a client asks whether the server is there, in seconds.
const ACTIVITY_TIMEOUT_SECONDS: u32 = 120;

/// The longest message of a client, in bytes.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// The longest id of a member, in bytes.
const MEMBER_ID_BYTES_MAX: usize = 128;

/// The longest information about a member, in bytes.
const MEMBER_INFO_BYTES_MAX: usize = 2048;

struct Sockets<S: 'static> {
    hub: Rc<Parts<S>>,
    sockets: ConnMap<Socket>,
}

/// Adds `GET /app/KEY`.
pub(super) fn add_routes<S: 'static>(router: &mut Router<S>, hub: &Rc<Parts<S>>) {
    let sockets = Sockets {
        hub: Rc::clone(hub),
        sockets: ConnMap::default(),
    };
    router.websocket("/app/:key", |ws| {
        // Its clients come back after a second, all of them: a drain spreads the goodbyes.
        let (code, why) = (code::OVER_CAPACITY, "the server ends");
        ws.options().goodbye = Goodbye {
            message: Some(message::error(code, why, None).into()),
            code,
            reason: why.into(),
        };
        ws.options().websocket.message_bytes_max = MESSAGE_BYTES_MAX;
        ws.handler(sockets);
    });
}

impl<S: 'static> Sockets<S> {
    /// The app of a client that opens a WebSocket.
    ///
    /// # Errors
    ///
    /// The code and the reason with which the client is refused: the first that holds.
    fn app_of(
        &self,
        ws: &Ws<'_, S>,
        handshake: &Handshake<'_>,
    ) -> Result<Rc<PusherApp>, (u16, &'static str)> {
        let key = handshake.param("key").unwrap_or_default();
        let app = self.hub.pusher.apps().by_key(&key);
        let app = app.ok_or((code::UNKNOWN_APP, "there is no app with this key"))?;
        if app.is_disabled() {
            return Err((code::DISABLED_APP, "the app is disabled"));
        }
        let scheme = ws.reactor.forwarded_scheme(ws.id, handshake.headers());
        if app.needs_tls() && scheme != Some(Scheme::Https) {
            return Err((code::TLS_ONLY, "the app takes clients with TLS alone"));
        }
        let version = handshake.query("protocol");
        let version = version.ok_or((code::NO_VERSION, "the parameter protocol is missing"))?;
        let version = version
            .parse::<u32>()
            .map_err(|_| (code::BAD_VERSION, "the protocol is no number"))?;
        if !VERSIONS.contains(&version) {
            return Err((code::UNSUPPORTED_VERSION, "the protocols are 5 to 7"));
        }
        if let Some(connections_max) = app.connections_max() {
            let counts = ws.reactor.presence_counts(&connections_topic(app.id()));
            if connections_max <= counts.connections {
                return Err((code::OVER_QUOTA, "the app has as many clients as it may"));
            }
        }
        if ws.reactor.is_draining() {
            return Err((code::OVER_CAPACITY, "the server ends"));
        }
        match app.allows_origin(handshake.origin()) {
            true => Ok(Rc::clone(app)),
            false => Err((code::UNAUTHORIZED, "pages of this origin are not allowed")),
        }
    }
}

fn on_text<S: 'static>(hub: &Rc<Parts<S>>, ws: &mut Ws<'_, S>, socket: &mut Socket, text: &str) {
    let mut scratch = String::new();
    match message::parse(text, &mut scratch) {
        Ok(ClientMessage::Ping) => _ = ws.send(message::PONG),
        Ok(ClientMessage::Subscribe {
            channel,
            auth,
            channel_data,
        }) => subscribe(hub, ws, socket, &channel, &auth, channel_data.as_deref()),
        Ok(ClientMessage::Unsubscribe { channel }) => {
            if Channel::parse(&channel).is_ok() {
                let topic = topic_of(socket.app().id(), &channel);
                hub.pending.cancel(ws.id, &topic);
                unsubscribe_name(ws.reactor, ws.id, &topic);
            }
        }
        Ok(ClientMessage::ClientEvent {
            event,
            channel,
            data,
        }) => client_event(hub, ws, socket, (&event, &channel, data)),
        Ok(ClientMessage::SignIn { auth, user_data }) => {
            sign_in(hub, ws, socket, &auth, &user_data);
        }
        Ok(ClientMessage::Pong | ClientMessage::Unknown) => {}
        Err(error) => log::debug!("conn {}: no message of Pusher: {error}", ws.id),
    }
}

/// Answers `pusher:subscribe`.
fn subscribe<S: 'static>(
    hub: &Rc<Parts<S>>,
    ws: &mut Ws<'_, S>,
    socket: &Socket,
    name: &str,
    auth: &str,
    channel_data: Option<&str>,
) {
    let begun = Channel::parse(name)
        .map_err(|error| (error.to_string(), 400))
        .and_then(|channel| {
            let user = granted(socket, channel, auth, channel_data)?;
            let topic = topic_of(socket.app().id(), name);
            if let Some(user) = &user
                && is_full(ws.reactor, &topic, user, socket.app().members_max())
            {
                return Err(("the channel has as many members as it may".to_owned(), 403));
            }
            Ok(Wanted {
                channel: name.to_owned(),
                topic,
                is_cache: channel.is_cache(),
                user,
            })
        });
    match begun {
        Ok(wanted) => subscription::begin(hub, ws.reactor, ws.id, wanted),
        Err((why, status)) => {
            ws.send(message::subscription_error(name, &why, status));
        }
    }
}

/// Whether a channel has as many members as it may, and this user is none of them.
fn is_full<S: 'static>(
    reactor: &mut Reactor<S>,
    topic: &str,
    user: &User,
    members_max: usize,
) -> bool {
    if reactor.present_user_count(topic) < members_max {
        return false;
    }
    let users = reactor.presence(topic).users;
    !(users.iter().flatten()).any(|present| present.user.name == user.name)
}

/// The user as which a client becomes a member of a channel, where that is one with presence.
///
/// # Errors
///
/// The reason, and the status, where the client has no right to it.
fn granted(
    socket: &Socket,
    channel: Channel<'_>,
    auth: &str,
    channel_data: Option<&str>,
) -> Result<Option<User>, (String, u16)> {
    if channel.needs_signature() {
        let text = signature::subscription_text(socket.socket_id(), channel.name(), channel_data);
        if !signature::is_authorized(socket.app().key(), socket.app().secret(), &text, auth) {
            return Err(("the signature is not right".to_owned(), 401));
        }
    }
    match (channel.kind(), channel_data) {
        (ChannelKind::Public | ChannelKind::Private | ChannelKind::Encrypted, _) => Ok(None),
        (ChannelKind::ServerToUser, _) => {
            let user = socket.signed_in().map(|it| &*it.user().name);
            match channel.user() == user {
                true => Ok(None),
                false => Err(("the connection has not signed in as this user".into(), 401)),
            }
        }
        (ChannelKind::Presence, Some(data)) => {
            let data = UserData::of_member(data).map_err(|error| (error.to_string(), 400))?;
            checked_member(User {
                name: data.id.into(),
                info: data.info.map(Into::into),
            })
        }
        (ChannelKind::Presence, None) => match socket.signed_in() {
            Some(signed_in) => checked_member(signed_in.user().clone()),
            None => Err(("channel_data is missing".to_owned(), 400)),
        },
    }
}

/// A member whose id and information are not too long: each other member is sent both.
fn checked_member(user: User) -> Result<Option<User>, (String, u16)> {
    if MEMBER_ID_BYTES_MAX < user.name.len() {
        let why = format!("user_id has more than {MEMBER_ID_BYTES_MAX} bytes");
        return Err((why, 400));
    }
    if MEMBER_INFO_BYTES_MAX < user.info.as_ref().map_or(0, |info| info.len()) {
        let why = format!("user_info has more than {MEMBER_INFO_BYTES_MAX} bytes");
        return Err((why, 400));
    }
    Ok(Some(user))
}

impl<S: 'static> WebSocketHandler<S> for Sockets<S> {
    fn on_open(&mut self, ws: &mut Ws<'_, S>, handshake: &Handshake<'_>) {
        let app = self.app_of(ws, handshake);
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
        ws.reactor
            .set_notice_encoder_of(wire_format, has_notice, encode_notice);
        ws.reactor.set_wire_format(ws.id, wire_format);
        if app.connections_max().is_some() {
            let topic = connections_topic(app.id());
            ws.reactor.join_presence(ws.id, &topic);
        }
        let socket = Socket::new(app, self.hub.engine.place_of(ws.id));
        ws.send(message::connection_established(
            socket.socket_id(),
            ACTIVITY_TIMEOUT_SECONDS,
        ));
        self.sockets.insert(ws.id, socket);
    }

    fn on_message(&mut self, ws: &mut Ws<'_, S>, message: Message<'_>) {
        let Message::Text(text) = message else {
            ws.close_with(1003, "messages are text");
            return;
        };
        if let Some(socket) = self.sockets.get_mut(ws.id) {
            on_text(&self.hub, ws, socket, text);
        }
    }

    fn on_close(&mut self, ws: &mut Ws<'_, S>, _: &Close) {
        let Some(socket) = self.sockets.remove(ws.id) else {
            return;
        };
        let registry = self.hub.pusher.registry();
        if let Some(signed_in) = socket.signed_in() {
            registry.sign_out(&signed_in.key(socket.app().id()), ws.id);
        }
    }
}
