//! A client on a WebSocket.

use std::rc::Rc;

use crate::protocol::action_cable::message::{self, Command, Identifier, Reason};
use crate::protocol::action_cable::{MESSAGE_BYTES_MAX, SUBPROTOCOL};
use crate::protocol::http::Status;
use crate::protocol::websocket::Message;
use crate::reactor::close::Close;
use crate::reactor::config::Goodbye;
use crate::reactor::id::ConnId;
use crate::reactor::reactor::Reactor;
use crate::server::reply::Reply;
use crate::server::router::Router;
use crate::session::handler::{Handshake, WebSocketHandler, Ws};

use crate::hub::access::Access;
use crate::hub::jwt::{self, TokenError};
use crate::hub::parts::Parts;

use super::client::{Client, Streams};
use super::identifiers::encoder;
use super::identity;
use super::keys::Named;
use super::state::Cable;
use super::subscription::{self, reject};

/// The name of the wire format.
const WIRE_FORMAT: &str = "cable";

/// The longest identifier of a subscription, in bytes. Each is kept as long as it is used.
const IDENTIFIER_BYTES_MAX: usize = 2048;

/// The code with which a client is closed that has no right to be there.
const NORMAL: u16 = 1000;

/// The code with which a drain closes: the service restarts.
const SERVICE_RESTART: u16 = 1012;

struct Sockets<S: 'static> {
    hub: Rc<Parts<S>>,
    cable: Rc<Cable>,
    access: Rc<Access>,
}

/// Adds the route of clients.
pub(super) fn add_routes<S: 'static>(
    router: &mut Router<S>,
    hub: &Rc<Parts<S>>,
    cable: &Rc<Cable>,
    access: &Rc<Access>,
) {
    let sockets = Sockets {
        hub: Rc::clone(hub),
        cable: Rc::clone(cable),
        access: Rc::clone(access),
    };
    router.websocket(super::PATH, |ws| {
        ws.subprotocols([SUBPROTOCOL]);
        ws.options().goodbye = Goodbye {
            message: Some(message::disconnect(Reason::ServerRestart, true).into()),
            code: SERVICE_RESTART,
            reason: "".into(),
        };
        ws.options().websocket.message_bytes_max = MESSAGE_BYTES_MAX;
        ws.handler(sockets);
    });
    // Behind the route of upgrades, which would otherwise ask for one.
    router.get(super::PATH, |request| request.reply(not_found()));
}

/// The answer of Rails to requests that open no WebSocket, and to pages of origins that are not allowed.
pub(super) fn not_found() -> Reply {
    (Status::NOT_FOUND, "Page not found").into()
}

impl<S: 'static> Sockets<S> {
    /// The name of the connection of a client that opens a WebSocket, where it shows a token.
    ///
    /// # Errors
    ///
    /// The fault of the token.
    fn name_of(
        &self,
        reactor: &Reactor<S>,
        handshake: &Handshake<'_>,
    ) -> Result<Option<Rc<str>>, TokenError> {
        let Some(token) = identity::token_of(handshake) else {
            return Ok(None);
        };
        let now_unix = reactor.system_unix_time();
        let keys = self.cable.keys().of_tokens();
        let foreign = match jwt::verify_foreign(&token, keys, now_unix) {
            Err(TokenError::Signature) => {
                let secrets = &self.access.token_secrets;
                secrets.verify_foreign(&token, now_unix)?
            }
            outcome => outcome?,
        };
        let identifiers = identity::identifiers_of(&foreign.payload)?;
        let name = identity::connection_name(&identifiers);
        let name = name.filter(|name| !name.is_empty());
        Ok(name.map(Into::into))
    }

    fn on_text(&self, reactor: &mut Reactor<S>, id: ConnId, text: &str) {
        match message::parse(text) {
            Ok(Command::Subscribe { identifier }) => self.subscribe(reactor, id, &identifier),
            Ok(Command::Unsubscribe { identifier }) => {
                subscription::end(&self.cable, reactor, id, &identifier);
            }
            Ok(Command::Message { .. }) => {
                log::debug!("conn {id}: a message for a channel of the application");
            }
            Err(error) => log::debug!("conn {id}: no command of ActionCable: {error}"),
        }
    }

    /// Answers `subscribe`.
    fn subscribe(&self, reactor: &mut Reactor<S>, id: ConnId, identifier: &str) {
        if IDENTIFIER_BYTES_MAX < identifier.len() {
            let bytes = identifier.len();
            log::debug!("conn {id}: an identifier of {bytes} bytes");
            return;
        }
        // Clients ask again every half second until there is an answer, which may have been lost.
        let number = self.cable.identifiers().borrow().find(identifier);
        let known = {
            let clients = self.cable.clients();
            let client = clients.get(id);
            let found = client.zip(number).and_then(|(it, number)| it.find(number));
            found.map(|it| it.is_confirmed)
        };
        if let Some(is_confirmed) = known {
            if is_confirmed {
                reactor.send(id, message::confirmation(identifier));
            }
            return;
        }
        match self.streams_of(reactor, identifier) {
            Ok(streams) => {
                let (hub, cable) = (&self.hub, &self.cable);
                subscription::begin(hub, cable, reactor, id, identifier, streams);
            }
            Err(why) => reject(reactor, id, identifier, &why),
        }
    }

    /// The streams of an identifier.
    ///
    /// # Errors
    ///
    /// The reason why the client has no right to them.
    fn streams_of(&self, reactor: &Reactor<S>, identifier: &str) -> Result<Streams, String> {
        let identifier = Identifier::parse(identifier).map_err(|error| error.to_string())?;
        let now_unix = reactor.system_unix_time();
        let named = self.cable.keys().stream_of(&identifier, now_unix);
        let stream = match named.map_err(|error| error.to_string())? {
            Named::Signed(stream) => stream,
            Named::Plain(_) if !self.cable.is_open() => {
                return Err("plain names of streams are not allowed".to_owned());
            }
            Named::Plain(stream) => match self.hub.options.rules.of(&stream).is_private {
                true => return Err("the stream is private".to_owned()),
                false => stream,
            },
            Named::Channel => return Err("there is no such channel".to_owned()),
        };
        Ok([stream.into_boxed_str()].into())
    }
}

impl<S: 'static> WebSocketHandler<S> for Sockets<S> {
    fn on_open(&mut self, ws: &mut Ws<'_, S>, handshake: &Handshake<'_>) {
        let name = match self.name_of(ws.reactor, handshake) {
            Ok(name) => name,
            Err(error) => {
                log::debug!("conn {}: {error}", ws.id);
                let reason = match error {
                    TokenError::Expired => Reason::TokenExpired,
                    _ => Reason::Unauthorized,
                };
                ws.send(message::disconnect(reason, false));
                ws.close_with(NORMAL, "");
                return;
            }
        };
        let encode = encoder(Rc::clone(self.cable.identifiers()));
        let registered = ws
            .reactor
            .register_wire_format_with_values(WIRE_FORMAT, encode);
        let wire_format = match registered {
            Ok(wire_format) => wire_format,
            Err(error) => {
                log::error!("{error}");
                ws.close_with(1011, "no room for another wire format");
                return;
            }
        };
        ws.reactor.set_wire_format(ws.id, wire_format);
        if let Some(name) = &name {
            let remote = self.cable.remote();
            remote.add(&self.hub.engine, ws.reactor, ws.id, name);
        }
        self.cable.clients().insert(ws.id, Client::new(name));
        self.cable.pings().add(ws.reactor, ws.id);
        ws.send(message::WELCOME);
    }

    fn on_message(&mut self, ws: &mut Ws<'_, S>, message: Message<'_>) {
        let Message::Text(text) = message else {
            ws.close_with(1003, "messages are text");
            return;
        };
        if self.cable.clients().get(ws.id).is_some() {
            self.on_text(ws.reactor, ws.id, text);
        }
    }

    fn on_close(&mut self, ws: &mut Ws<'_, S>, _: &Close) {
        let Some(client) = self.cable.clients().remove(ws.id) else {
            return;
        };
        if let Some(name) = client.name() {
            self.cable.remote().remove(ws.reactor, ws.id, name);
        }
        for subscription in client.subscriptions() {
            let number = subscription.number;
            for stream in subscription.streams.iter() {
                (self.cable.further()).remove(ws.reactor, ws.id, stream, number);
            }
            self.cable.identifiers().borrow_mut().give_back(number);
        }
    }
}
