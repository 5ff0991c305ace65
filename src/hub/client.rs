//! A client on a WebSocket, as its grammar sees it: what the client may ask of the hub.
//!
//! The rights are checked here, once for all grammars. A grammar words requests, answers and
//! refusals.

use std::borrow::Cow;
use std::fmt;

use crate::protocol::event_stream::FieldError;
use crate::pubsub::{self, Event, TopicError};
use crate::reactor::id::ConnId;
use crate::reactor::published::Published;
use crate::reactor::reactor::Reactor;
use crate::session::handler::Ws;

use super::access::Access;
use super::engine::PublishError;
use super::guesses::{self, Answer, WRONG_TOKENS_MAX};
use super::identities::{AnotherUser, OnEnd};
use super::jwt::TokenError;
use super::parts::Parts;
use super::presence;
use super::rights::{Lack, Rights, Scope, Shown};
use super::subscribe::{subscribe_name, unsubscribe_name};

/// One client while one of its events is handled.
pub(super) struct Client<'c, 'w, S: 'static> {
    ws: &'c mut Ws<'w, S>,
    access: &'c Access,
    hub: &'c Parts<S>,
    standing: &'c mut Standing,
    on_end: OnEnd<S>,
}

/// The rights of a client, and how many wrong tokens it has given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// How far its rights go. The claims of a token stand in `identities`.
    pub(super) scope: Scope,
    /// A proxy has passed its handshake on.
    pub(super) is_forwarded: bool,
    pub(super) wrong_tokens: u8,
}

/// Why the hub does not do what a client asks for.
#[derive(Debug)]
pub(super) enum Refusal {
    NeedsToken,
    /// Its token does not grant this.
    NotGranted,
    /// The token that it shows is signed and not valid.
    Token(TokenError),
    /// The token that it shows is of another user than the one before.
    AnotherUser,
    Topic(TopicError),
    EventName(FieldError),
    Publish(PublishError),
    NoPresence,
}

/// For the client, in words that fit every grammar. A grammar that says how a token is given has its
/// own words for [`Refusal::NeedsToken`].
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NeedsToken => f.write_str("this needs a token"),
            Refusal::NotGranted => f.write_str("the token does not grant this"),
            Refusal::Token(error) => error.fmt(f),
            Refusal::AnotherUser => {
                f.write_str("this connection belongs to another user; open another one")
            }
            Refusal::Topic(error) => error.fmt(f),
            Refusal::EventName(error) => error.fmt(f),
            Refusal::Publish(error) => error.fmt(f),
            Refusal::NoPresence => f.write_str("the topic has no presence"),
        }
    }
}

impl From<Lack> for Refusal {
    fn from(lack: Lack) -> Refusal {
        match lack {
            Lack::Credential => Refusal::NeedsToken,
            Lack::Grant => Refusal::NotGranted,
        }
    }
}

/// A token was accepted.
#[derive(Debug)]
pub(super) struct Authorized {
    pub(super) user: Option<String>,
    /// The end of the token, in seconds since 1970. `None`: it has none.
    pub(super) expires_unix: Option<u64>,
    /// The subscriptions that the token before granted and this one does not.
    pub(super) ended: Vec<String>,
}

impl<'c, 'w, S: 'static> Client<'c, 'w, S> {
    /// `standing` may change: a right token gives other rights, a wrong one is counted. `on_end` tells the client
    /// that its token has ended.
    pub(super) fn new(
        ws: &'c mut Ws<'w, S>,
        access: &'c Access,
        hub: &'c Parts<S>,
        standing: &'c mut Standing,
        on_end: OnEnd<S>,
    ) -> Client<'c, 'w, S> {
        Client {
            ws,
            access,
            hub,
            standing,
            on_end,
        }
    }

    /// The connection of the client, for answers in a later turn.
    pub(super) fn id(&self) -> ConnId {
        self.ws.id
    }

    /// Sends a text message.
    pub(super) fn send(&mut self, text: &str) {
        self.ws.send(text);
    }

    /// Closes with a code and a reason.
    pub(super) fn close_with(&mut self, code: u16, reason: &str) {
        self.ws.close_with(code, reason);
    }

    fn rights(&self) -> Rights {
        let scope = self.standing.scope;
        self.hub.identities.rights_of(self.ws.id, scope)
    }

    /// Gives the client the rights of a token from now on, in place of those that it has.
    ///
    /// A wrong token takes no rights away: after a pause, in which the client is not read, it is answered with
    /// `wrong`, and this returns `None`. The last of [`WRONG_TOKENS_MAX`] closes the connection instead.
    ///
    /// # Errors
    ///
    /// [`Refusal::Token`] or [`Refusal::AnotherUser`]; the rights stay as they were.
    pub(super) fn authenticate(
        &mut self,
        token: &str,
        wrong: impl FnOnce() -> String,
    ) -> Result<Option<Authorized>, Refusal> {
        let is_forwarded = self.standing.is_forwarded;
        let (reactor, id) = (&mut *self.ws.reactor, self.ws.id);
        let credential = || Some(Cow::Borrowed(token));
        let now_unix = || reactor.system_unix_time();
        let (rights, shown) = Rights::of(self.access, credential, || is_forwarded, now_unix);
        if let Shown::Refused(error) = shown {
            return Err(Refusal::Token(error));
        }
        if rights.is_trusted() {
            let identities = &self.hub.identities;
            identities
                .identify(reactor, id, &rights, self.on_end)
                .map_err(|AnotherUser| Refusal::AnotherUser)?;
            self.standing.scope = rights.scope;
            reactor.set_message_bytes_max(id, None);
            return Ok(Some(Authorized {
                user: rights.user().map(str::to_owned),
                expires_unix: rights.claims.as_ref().map(|it| it.expires_unix),
                ended: identities.end_subscriptions(reactor, id),
            }));
        }
        self.standing.wrong_tokens += 1;
        let answer = match self.standing.wrong_tokens < WRONG_TOKENS_MAX {
            true => Answer::Message(id, wrong()),
            false => Answer::Close(id),
        };
        let guesses = &self.hub.guesses;
        match guesses::note_wrong(reactor, id, guesses) {
            Some(pause) => {
                reactor.pause(id);
                guesses::answer_later(reactor, pause, answer, guesses);
            }
            None => guesses::close(reactor, id),
        }
        Ok(None)
    }

    /// Subscribes to a topic, or to a pattern. A pattern and a private topic need rights. It is no error to be a
    /// member already. When the client was told, [`announce`](Self::announce) follows.
    ///
    /// # Errors
    ///
    /// [`Refusal::NeedsToken`], [`Refusal::NotGranted`] or [`Refusal::Topic`].
    pub(super) fn subscribe(&mut self, name: &str) -> Result<(), Refusal> {
        pubsub::check_name(name).map_err(Refusal::Topic)?;
        let rights = self.rights();
        rights.may_subscribe(&self.hub.options.rules, name)?;
        let (reactor, id) = (&mut *self.ws.reactor, self.ws.id);
        if pubsub::pattern::is_pattern(name) {
            let identities = &self.hub.identities;
            identities.note_pattern(reactor, id, &rights, self.on_end);
        }
        subscribe_name(reactor, id, name).map_err(Refusal::Topic)?;
        Ok(())
    }

    /// The client was told that it is subscribed: it joins a topic that has presence, and gets a snapshot.
    pub(super) fn announce(&mut self, name: &str) {
        presence::join(self.ws.reactor, &self.hub.options.rules, self.ws.id, name);
    }

    /// The users of a topic, as a message of the envelope.
    ///
    /// # Errors
    ///
    /// [`Refusal::NeedsToken`], [`Refusal::NotGranted`], [`Refusal::Topic`] or [`Refusal::NoPresence`].
    pub(super) fn presence(&mut self, topic: &str) -> Result<String, Refusal> {
        pubsub::check_name(topic).map_err(Refusal::Topic)?;
        let rules = &self.hub.options.rules;
        self.rights().may_subscribe(rules, topic)?;
        presence::message(self.ws.reactor, rules, topic).ok_or(Refusal::NoPresence)
    }

    /// Ends a subscription. `false` when there was none.
    pub(super) fn unsubscribe(&mut self, name: &str) -> bool {
        unsubscribe_name(self.ws.reactor, self.ws.id, name)
    }

    /// Publishes JSON. `done` is called as
    /// [`Engine::publish_message`] says.
    ///
    /// # Errors
    ///
    /// The refusal. Then `done` is not called.
    pub(super) fn publish_json(
        &mut self,
        topic: &str,
        event_name: Option<String>,
        json: String,
        done: impl FnOnce(&mut Reactor<S>, Result<Published, PublishError>) + 'static,
    ) -> Result<(), Refusal> {
        pubsub::check_name(topic).map_err(Refusal::Topic)?;
        self.rights().may_publish(&self.hub.options.rules, topic)?;
        let event = match event_name {
            Some(name) => Event::try_new(name).map_err(Refusal::EventName)?,
            None => Event::message(""),
        };
        self.hub
            .engine
            .publish_message(self.ws, topic, event.json(json), false, done)
            .map_err(Refusal::Publish)
    }
}
