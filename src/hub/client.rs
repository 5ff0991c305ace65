//! A client on a WebSocket, as its grammar sees it: what the client may ask of the hub.
//!
//! The rights are checked here, once for all grammars. A grammar words requests, answers and
//! refusals.

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
use super::parts::Parts;
use super::presence;
use super::subscribe::{subscribe_name, unsubscribe_name};

/// One client while one of its events is handled.
pub(super) struct Client<'c, 'w, S: 'static> {
    ws: &'c mut Ws<'w, S>,
    access: &'c Access,
    hub: &'c Parts<S>,
    standing: &'c mut Standing,
}

/// The rights of a client: whether it is trusted, and how many wrong tokens it has given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// It holds the token, or needs none.
    pub(super) is_trusted: bool,
    /// A proxy has passed its handshake on.
    pub(super) is_forwarded: bool,
    pub(super) wrong_tokens: u8,
}

/// Why the hub does not do what a client asks for.
#[derive(Debug)]
pub(super) enum Refusal {
    NeedsToken,
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
            Refusal::Topic(error) => error.fmt(f),
            Refusal::EventName(error) => error.fmt(f),
            Refusal::Publish(error) => error.fmt(f),
            Refusal::NoPresence => f.write_str("the topic has no presence"),
        }
    }
}

impl<'c, 'w, S: 'static> Client<'c, 'w, S> {
    /// `standing` may change: a right token makes the client trusted, a wrong one is counted.
    pub(super) fn new(
        ws: &'c mut Ws<'w, S>,
        access: &'c Access,
        hub: &'c Parts<S>,
        standing: &'c mut Standing,
    ) -> Client<'c, 'w, S> {
        Client {
            ws,
            access,
            hub,
            standing,
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

    /// Trusts the client from now on if the token is right. A wrong one takes no trust away: after a pause, in
    /// which the client is not read, it is answered with `wrong`. The last of [`WRONG_TOKENS_MAX`] closes the
    /// connection instead.
    pub(super) fn authenticate(&mut self, token: &str, wrong: impl FnOnce() -> String) {
        let is_forwarded = self.standing.is_forwarded;
        let (reactor, id) = (&mut *self.ws.reactor, self.ws.id);
        if self.access.grants(Some(token), || is_forwarded) {
            self.standing.is_trusted = true;
            reactor.set_message_bytes_max(id, None);
            return;
        }
        self.standing.wrong_tokens += 1;
        let answer = match self.standing.wrong_tokens < WRONG_TOKENS_MAX {
            true => Answer::Message(id, wrong()),
            false => Answer::Close(id),
        };
        match guesses::note_wrong(reactor, id, &self.hub.guesses) {
            Some(pause) => {
                reactor.pause(id);
                guesses::answer_later(reactor, pause, answer, &self.hub.guesses);
            }
            None => guesses::close(reactor, id),
        }
    }

    /// Subscribes to a topic, or to a pattern, which needs the token. It is no error to be a member
    /// already. When the client was told, [`announce`](Self::announce) follows.
    ///
    /// # Errors
    ///
    /// [`Refusal::NeedsToken`] or [`Refusal::Topic`].
    pub(super) fn subscribe(&mut self, name: &str) -> Result<(), Refusal> {
        if pubsub::pattern::is_pattern(name) && !self.standing.is_trusted {
            return Err(Refusal::NeedsToken);
        }
        subscribe_name(self.ws.reactor, self.ws.id, name).map_err(Refusal::Topic)?;
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
    /// [`Refusal::NeedsToken`], [`Refusal::Topic`] or [`Refusal::NoPresence`].
    pub(super) fn presence(&mut self, topic: &str) -> Result<String, Refusal> {
        pubsub::check_name(topic).map_err(Refusal::Topic)?;
        let rules = &self.hub.options.rules;
        if rules.of(topic).is_private && !self.standing.is_trusted {
            return Err(Refusal::NeedsToken);
        }
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
        if !self.standing.is_trusted {
            return Err(Refusal::NeedsToken);
        }
        pubsub::check_name(topic).map_err(Refusal::Topic)?;
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
