//! The hub's WebSockets: which grammar a connection speaks, and what its client may do.
//!
//! One handler serves a route. It keeps a few bytes for a connection that differs from the default,
//! and hands every message to the connection's grammar.

use std::rc::Rc;

use crate::protocol::websocket::Message;
use crate::reactor::close::Close;
use crate::reactor::id::{ConnId, ConnMap};
use crate::server::websocket::WebSocketRoute;
use crate::session::handler::{Handshake, WebSocketHandler, Ws};

use super::access::{self, Access};
use super::client::{Client, Standing};
use super::grammar::Grammar;
use super::guesses;
use super::parts::Parts;
use super::rights::{Rights, STRANGERS_BYTES_MAX, Shown};

/// The state that is kept for a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Profile {
    grammar: Grammar,
    standing: Standing,
}

struct Sockets<S: 'static> {
    grammars: &'static [Grammar],
    access: Rc<Access>,
    hub: Rc<Parts<S>>,
    /// The profiles that differ from the default, which most connections of a public hub have.
    profiles: ConnMap<Profile>,
}

/// Serves `grammars` on a route. Of several that a client offers, the client's first is taken.
pub(super) fn set_up<S: 'static>(
    ws: &mut WebSocketRoute<S>,
    grammars: &'static [Grammar],
    access: Rc<Access>,
    hub: Rc<Parts<S>>,
) {
    let (rights, wrong) = (Rc::clone(&access), Rc::clone(&hub.guesses));
    ws.before_open(move |request| guesses::check_handshake(request, &rights, &wrong));
    ws.subprotocols(grammars.iter().filter_map(|grammar| grammar.subprotocol()));
    ws.handler(Sockets {
        grammars,
        access,
        hub,
        profiles: ConnMap::default(),
    });
}

impl<S: 'static> Sockets<S> {
    fn profile(&self, id: ConnId) -> Profile {
        self.profiles.get(id).copied().unwrap_or_default()
    }

    /// Calls the grammar of a connection with its client, and keeps what the call has changed.
    fn with_client(
        &mut self,
        ws: &mut Ws<'_, S>,
        mut profile: Profile,
        call: impl FnOnce(Grammar, &mut Client<'_, '_, S>),
    ) {
        let id = ws.id;
        let standing = &mut profile.standing;
        let on_end = profile.grammar.on_end();
        let mut client = Client::new(ws, &self.access, &self.hub, standing, on_end);
        call(profile.grammar, &mut client);
        if profile != self.profile(id) {
            self.profiles.insert(id, profile);
        }
    }
}

impl<S: 'static> WebSocketHandler<S> for Sockets<S> {
    fn on_open(&mut self, ws: &mut Ws<'_, S>, handshake: &Handshake<'_>) {
        let Some(grammar) = Grammar::of(self.grammars, handshake.subprotocol()) else {
            ws.close_with(1002, "this path needs a subprotocol");
            return;
        };
        match grammar.wire_format(ws.reactor) {
            Ok(None) => {}
            Ok(Some(wire_format)) => ws.reactor.set_wire_format(ws.id, wire_format),
            Err(error) => {
                log::error!("{error}");
                ws.close_with(1011, "no room for another wire format");
                return;
            }
        }
        let is_forwarded = access::is_from_proxy(ws.reactor, ws.id, handshake.headers());
        let now_unix = || ws.reactor.system_unix_time();
        let (rights, shown) = Rights::of_handshake(handshake, &self.access, is_forwarded, now_unix);
        let mut wrong_tokens = 0;
        if !rights.is_trusted() {
            ws.reactor
                .set_message_bytes_max(ws.id, Some(STRANGERS_BYTES_MAX));
            // It was counted before the handshake was answered.
            if shown == Shown::Wrong {
                wrong_tokens = 1;
                let client = ws.reactor.client_address(ws.id);
                if self.hub.guesses.borrow().is_guessing(client) {
                    guesses::close(ws.reactor, ws.id);
                    return;
                }
            }
        }
        // The connection is new, and belongs to no other user.
        let _ = (self.hub.identities).identify(ws.reactor, ws.id, &rights, grammar.on_end());
        let standing = Standing {
            scope: rights.scope,
            is_forwarded,
            wrong_tokens,
        };
        let profile = Profile { grammar, standing };
        self.with_client(ws, profile, |grammar, client| grammar.on_open(client));
    }

    fn on_message(&mut self, ws: &mut Ws<'_, S>, message: Message<'_>) {
        let Message::Text(text) = message else {
            ws.close_with(1003, "this socket is text only");
            return;
        };
        let profile = self.profile(ws.id);
        self.with_client(ws, profile, |grammar, client| grammar.on_text(client, text));
    }

    fn on_close(&mut self, ws: &mut Ws<'_, S>, _: &Close) {
        let profile = self.profiles.remove(ws.id);
        if profile.is_some_and(|profile| 0 < profile.standing.wrong_tokens) {
            self.hub.guesses.borrow_mut().forget(ws.id);
        }
    }
}
