//! The hub's WebSocket: topics as plain text, or the JSON envelope.

use std::rc::Rc;

use crate::protocol::websocket::Message;
use crate::pubsub::{self, Event};
use crate::reactor::close::Close;
use crate::reactor::id::ConnMap;
use crate::reactor::reactor::Cx;
use crate::reactor::remote::ReactorEnded;
use crate::server::websocket::WebSocketRoute;
use crate::session::websocket::{Handshake, WebSocketHandler, Ws};

use super::access::{self, Access};
use super::grammar::envelope::{self, Command, SUBPROTOCOL};
use super::publish::Publisher;
use super::subscribe::subscribe_name;

/// What the hub knows of a client.
#[derive(Clone, Copy, Debug, Default)]
struct Client {
    speaks_json: bool,
    /// Holds the token, or needs none.
    is_trusted: bool,
}

struct Sockets<S: 'static> {
    access: Access,
    publisher: Rc<Publisher<S>>,
    /// Only those that differ from the default.
    clients: ConnMap<Client>,
}

pub(super) fn set_up<S: 'static>(
    ws: &mut WebSocketRoute<S>,
    access: Access,
    publisher: Rc<Publisher<S>>,
) {
    ws.subprotocols([SUBPROTOCOL]);
    ws.handler(Sockets {
        access,
        publisher,
        clients: ConnMap::default(),
    });
}

impl<S: 'static> WebSocketHandler<S> for Sockets<S> {
    fn on_open(&mut self, ws: &mut Ws<'_, S>, handshake: &Handshake<'_>) {
        let token = access::token_of_handshake(handshake);
        let is_trusted = self.access.allows(token.as_deref());
        let speaks_json = handshake.subprotocol() == Some(SUBPROTOCOL);
        if speaks_json {
            match ws
                .reactor
                .register_wire_format(SUBPROTOCOL, envelope::encode)
            {
                Ok(wire_format) => ws.reactor.set_wire_format(ws.id, wire_format),
                Err(error) => {
                    log::error!("{error}");
                    ws.close_with(1011, "no room for another wire format");
                    return;
                }
            }
        }
        if speaks_json || is_trusted {
            self.clients.insert(
                ws.id,
                Client {
                    speaks_json,
                    is_trusted,
                },
            );
        }
    }

    fn on_message(&mut self, ws: &mut Ws<'_, S>, message: Message<'_>) {
        let client = self.clients.get(ws.id).copied().unwrap_or_default();
        let Message::Text(text) = message else {
            ws.close_with(1003, "this socket is text only");
            return;
        };
        if client.speaks_json {
            self.command(ws, client, text);
        } else {
            subscribe_plainly(ws, client, text);
        }
    }

    fn on_close(&mut self, ws: &mut Ws<'_, S>, _: &Close) {
        self.clients.remove(ws.id);
    }
}

/// The plain socket has no words for an error, so it is closed with one.
fn subscribe_plainly<S: 'static>(ws: &mut Ws<'_, S>, client: Client, name: &str) {
    if pubsub::pattern::is_pattern(name) && !client.is_trusted {
        ws.close_with(1008, "a pattern needs a token: /ws?token=TOKEN");
        return;
    }
    if let Err(error) = subscribe_name(ws.reactor, ws.id, name) {
        ws.close_with(1008, &error.to_string());
    }
}

impl<S: 'static> Sockets<S> {
    fn command(&mut self, ws: &mut Ws<'_, S>, client: Client, text: &str) {
        match self.carry_out(ws, client, text) {
            Ok(Some(answer)) => {
                ws.send(answer);
            }
            Ok(None) => {}
            Err(why) => {
                ws.send(envelope::error(&why, text));
            }
        }
    }

    fn carry_out(
        &mut self,
        ws: &mut Ws<'_, S>,
        client: Client,
        text: &str,
    ) -> Result<Option<String>, String> {
        const NEEDS_TOKEN: &str = "this needs a token: {\"auth\":\"TOKEN\"}";
        match envelope::parse(text)? {
            Command::Subscribe(name) => {
                if pubsub::pattern::is_pattern(&name) && !client.is_trusted {
                    return Err(NEEDS_TOKEN.into());
                }
                subscribe_name(ws.reactor, ws.id, &name).map_err(|error| error.to_string())?;
                Ok(Some(envelope::subscribed(&name)))
            }
            Command::Unsubscribe(name) => {
                let was = if pubsub::pattern::is_pattern(&name) {
                    ws.reactor.unsubscribe_pattern(ws.id, &name)
                } else {
                    ws.reactor.unsubscribe(ws.id, &name)
                };
                if was {
                    Ok(None)
                } else {
                    Err("not subscribed".into())
                }
            }
            Command::Publish { topic, event, data } => {
                if !client.is_trusted {
                    return Err(NEEDS_TOKEN.into());
                }
                pubsub::check_name(&topic).map_err(|error| error.to_string())?;
                let event = match event {
                    Some(name) => Event::try_new(name).map_err(|error| error.to_string())?,
                    None => Event::message(""),
                };
                self.publish(ws, &topic, event.json(data))?;
                Ok(None)
            }
            Command::Auth(token) => {
                if !self.access.allows(Some(&token)) {
                    return Err("wrong token".into());
                }
                self.clients.insert(
                    ws.id,
                    Client {
                        is_trusted: true,
                        ..client
                    },
                );
                Ok(None)
            }
        }
    }

    fn publish(&self, ws: &mut Ws<'_, S>, topic: &str, event: Event<'_>) -> Result<(), String> {
        let id = ws.id;
        let done =
            move |reactor: &mut Reactor<S>, topic: &str, outcome: Result<_, ReactorEnded>| {
                if let Err(error) = outcome {
                    let about = envelope::about_publish(topic);
                    reactor.send(id, envelope::error(&error.to_string(), &about));
                }
            };
        self.publisher
            .publish_message(ws, topic, event, done)
            .map_err(|error| error.to_string())
    }
}
