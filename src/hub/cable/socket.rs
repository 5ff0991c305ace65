//! A client on a WebSocket.

use std::rc::Rc;

use crate::protocol::action_cable::message::{self, Reason, push_message, push_placed_message};
use crate::protocol::action_cable::{EXTENDED_SUBPROTOCOL, MESSAGE_BYTES_MAX, SUBPROTOCOL};
use crate::protocol::http::{Scheme, Status};
use crate::protocol::websocket::Message;
use crate::pubsub::WireFormat;
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

use super::client::Client;
use super::commands::Commands;
use super::extended::{WHISPERS, has_notice, notice_encoder, position_of, whispers_of};
use super::hooked::Hooked;
use super::identifiers::encoder;
use super::identity;
use super::state::Cable;

/// The path of clients.
pub(super) const PATH: &str = "/cable";

/// The name of the wire format.
const WIRE_FORMAT: &str = "cable";

/// The name of that of the extended protocol.
const EXTENDED_WIRE_FORMAT: &str = "cable-ext";

/// The code with which a client is closed that has no right to be there.
const NORMAL: u16 = 1000;

/// The code with which a drain closes: the service restarts.
const SERVICE_RESTART: u16 = 1012;

struct Sockets<S: 'static> {
    hub: Rc<Parts<S>>,
    cable: Rc<Cable<S>>,
    access: Rc<Access>,
    commands: Commands<S>,
}

/// Adds the route of clients.
pub(super) fn add_routes<S: 'static>(
    router: &mut Router<S>,
    hub: &Rc<Parts<S>>,
    cable: &Rc<Cable<S>>,
    access: &Rc<Access>,
) {
    let sockets = Sockets {
        hub: Rc::clone(hub),
        cable: Rc::clone(cable),
        access: Rc::clone(access),
        commands: Commands::new(hub, cable),
    };
    router.websocket(PATH, |ws| {
        ws.subprotocols([SUBPROTOCOL, EXTENDED_SUBPROTOCOL]);
        ws.options().goodbye = Goodbye {
            message: Some(message::disconnect(Reason::ServerRestart, true).into()),
            code: SERVICE_RESTART,
            reason: "".into(),
        };
        ws.options().websocket.message_bytes_max = MESSAGE_BYTES_MAX;
        ws.handler(sockets);
    });
    // Behind the route of upgrades, which would otherwise ask for one.
    router.get(PATH, |request| request.reply(not_found()));
}

/// The answer of Rails to requests that open no WebSocket, and to pages of origins that are not allowed.
pub(super) fn not_found() -> Reply {
    (Status::NOT_FOUND, "Page not found").into()
}

impl<S: 'static> Sockets<S> {
    /// The wire format of a client.
    ///
    /// # Errors
    ///
    /// When there are too many.
    fn wire_format(
        &self,
        reactor: &mut Reactor<S>,
        is_extended: bool,
    ) -> std::io::Result<WireFormat> {
        let identifiers = || Rc::clone(self.cable.identifiers());
        if !is_extended {
            let encode = encoder(identifiers(), |_, quoted, text, out| {
                push_message(quoted, text, out);
            });
            return reactor.register_wire_format_with_values(WIRE_FORMAT, encode);
        }
        let encode = encoder(
            identifiers(),
            |publication, quoted, text, out| match publication.topic.starts_with(WHISPERS) {
                true => push_message(quoted, text, out),
                false => {
                    let position = position_of(publication.id);
                    push_placed_message(quoted, text, publication.topic, &position, out);
                }
            },
        );
        let wire_format = reactor.register_wire_format_with_values(EXTENDED_WIRE_FORMAT, encode)?;
        let encode = notice_encoder(identifiers());
        reactor.set_notice_encoder_with_values(wire_format, has_notice, encode);
        Ok(wire_format)
    }

    /// The identifiers of a client that opens a WebSocket, where it shows a token.
    ///
    /// # Errors
    ///
    /// The fault of the token.
    fn identifiers_of(
        &self,
        reactor: &Reactor<S>,
        handshake: &Handshake<'_>,
    ) -> Result<Option<String>, TokenError> {
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
        identity::identifiers_of(&foreign.payload).map(Some)
    }
}

impl<S: 'static> WebSocketHandler<S> for Sockets<S> {
    fn on_open(&mut self, ws: &mut Ws<'_, S>, handshake: &Handshake<'_>) {
        let identifiers = match self.identifiers_of(ws.reactor, handshake) {
            Ok(identifiers) => identifiers,
            Err(error) => {
                log::debug!("conn {}: {error}", ws.id);
                let reason = match error {
                    TokenError::Expired => Reason::TokenExpired,
                    _ => Reason::Unauthorized,
                };
                return refuse(ws.reactor, ws.id, reason);
            }
        };
        let is_extended = handshake.subprotocol() == Some(EXTENDED_SUBPROTOCOL);
        let wire_format = match self.wire_format(ws.reactor, is_extended) {
            Ok(wire_format) => wire_format,
            Err(error) => {
                log::error!("{error}");
                ws.close_with(1011, "no room for another wire format");
                return;
            }
        };
        ws.reactor.set_wire_format(ws.id, wire_format);
        let name = identifiers.as_deref().and_then(identity::connection_name);
        let name = name.filter(|name| !name.is_empty()).map(Rc::<str>::from);
        if let Some(name) = &name {
            let remote = self.cable.remote();
            remote.add(&self.hub.engine, ws.reactor, ws.id, name);
        }
        let is_known = identifiers.is_some();
        let hooked = self.cable.calls().is_some().then(|| {
            let connection = self.hub.engine.place_of(ws.id).to_session_id();
            let url = url_of(ws, handshake);
            let identifiers = identifiers.unwrap_or_else(|| "{}".to_owned());
            Rc::new(Hooked::new(
                connection,
                url,
                handshake.headers(),
                identifiers,
            ))
        });
        self.cable
            .clients()
            .insert(ws.id, Client::new(name, hooked.clone()));
        let sid = is_extended.then(|| self.hub.engine.place_of(ws.id).to_session_id());
        match hooked.filter(|_| !is_known) {
            None => welcome(&self.cable, ws.reactor, ws.id, sid.as_deref()),
            Some(hooked) => {
                let (cable, id) = (Rc::clone(&self.cable), ws.id);
                self.commands
                    .connect(ws.reactor, id, &hooked, move |reactor, is_ok| {
                        match (is_ok, reactor.is_open(id)) {
                            (_, false) => {}
                            (true, true) => welcome(&cable, reactor, id, sid.as_deref()),
                            (false, true) => refuse(reactor, id, Reason::Unauthorized),
                        }
                    });
            }
        }
    }

    fn on_message(&mut self, ws: &mut Ws<'_, S>, message: Message<'_>) {
        let Message::Text(text) = message else {
            ws.close_with(1003, "messages are text");
            return;
        };
        if self.cable.clients().get(ws.id).is_some() {
            self.commands.take(ws.reactor, ws.id, text);
        }
    }

    fn on_close(&mut self, ws: &mut Ws<'_, S>, _: &Close) {
        let Some(client) = self.cable.clients().remove(ws.id) else {
            return;
        };
        if let Some(name) = client.name() {
            self.cable.remote().remove(ws.reactor, ws.id, name);
        }
        let mut of_hook = Vec::new();
        for subscription in client.subscriptions() {
            let number = subscription.number;
            let further = self.cable.further();
            for stream in subscription.streams.iter() {
                further.remove(ws.reactor, ws.id, stream, number);
                if subscription.has_whispers {
                    further.remove(ws.reactor, ws.id, &whispers_of(stream), number);
                }
            }
            let mut identifiers = self.cable.identifiers().borrow_mut();
            if subscription.is_of_hook {
                of_hook.extend(identifiers.text(number));
            }
            identifiers.give_back(number);
        }
        if let Some(hooked) = client.hooked() {
            let identifiers = of_hook.iter().map(|identifier| Box::from(&**identifier));
            self.commands
                .end(ws.reactor, Rc::clone(hooked), identifiers);
        }
    }
}

/// Greets a client. One of the extended protocol is told the id of its session.
fn welcome<S: 'static>(cable: &Cable<S>, reactor: &mut Reactor<S>, id: ConnId, sid: Option<&str>) {
    cable.pings().add(reactor, id);
    match sid {
        Some(sid) => reactor.send(id, message::extended_welcome(sid)),
        None => reactor.send(id, message::WELCOME),
    };
}

/// Tells a client that it has no right to be there, and ends the connection.
fn refuse<S: 'static>(reactor: &mut Reactor<S>, id: ConnId, reason: Reason) {
    reactor.send(id, message::disconnect(reason, false));
    reactor.close_with(id, NORMAL, "");
}

/// The URL by which a client has opened its connection.
fn url_of<S: 'static>(ws: &Ws<'_, S>, handshake: &Handshake<'_>) -> String {
    let scheme = ws.reactor.forwarded_scheme(ws.id, handshake.headers());
    let scheme = match scheme {
        Some(Scheme::Https) => "https",
        _ => "http",
    };
    let host = handshake.header("host").unwrap_or_default();
    let mut url = format!("{scheme}://{host}{}", handshake.path());
    if let Some(query) = handshake.query_string() {
        url.push('?');
        url.push_str(query);
    }
    url
}
