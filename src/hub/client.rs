//! A client on a WebSocket, as its grammar sees it: what the client may ask of the hub.
//!
//! The rights are checked here, once for all grammars. A grammar words requests, answers and
//! refusals.

use std::fmt;

use crate::protocol::event_stream::FieldError;
use crate::pubsub::{self, Event, TopicError};
use crate::reactor::id::ConnId;
use crate::reactor::reactor::Reactor;
use crate::reactor::remote::ReactorEnded;
use crate::reactor::topics::Published;
use crate::session::websocket::Ws;

use super::access::Access;
use super::group::Overloaded;
use super::publish::Publisher;
use super::subscribe::{subscribe_name, unsubscribe_name};

/// One client while one of its events is handled.
pub(super) struct Client<'c, 'w, S: 'static> {
    ws: &'c mut Ws<'w, S>,
    access: &'c Access,
    publisher: &'c Publisher<S>,
    is_trusted: &'c mut bool,
}

/// Why the hub does not do what a client asks for.
#[derive(Debug)]
pub(super) enum Refusal {
    NeedsToken,
    Topic(TopicError),
    EventName(FieldError),
    Overloaded(Overloaded),
}

/// For the client, in words that fit every grammar. A grammar that says how a token is given has its
/// own words for [`Refusal::NeedsToken`].
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NeedsToken => f.write_str("this needs a token"),
            Refusal::Topic(error) => error.fmt(f),
            Refusal::EventName(error) => error.fmt(f),
            Refusal::Overloaded(error) => error.fmt(f),
        }
    }
}

impl<'c, 'w, S: 'static> Client<'c, 'w, S> {
    /// `is_trusted` says whether the client holds the token, or needs none. It may become `true`.
    pub(super) fn new(
        ws: &'c mut Ws<'w, S>,
        access: &'c Access,
        publisher: &'c Publisher<S>,
        is_trusted: &'c mut bool,
    ) -> Client<'c, 'w, S> {
        Client {
            ws,
            access,
            publisher,
            is_trusted,
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

    /// Trusts the client from now on if the token is right. `false` when it is not; that takes no
    /// trust away.
    pub(super) fn authenticate(&mut self, token: &str) -> bool {
        let is_right = self.access.allows(Some(token));
        *self.is_trusted |= is_right;
        is_right
    }

    /// Subscribes to a topic, or to a pattern, which needs the token. It is no error to be a member
    /// already.
    ///
    /// # Errors
    ///
    /// [`Refusal::NeedsToken`] or [`Refusal::Topic`].
    pub(super) fn subscribe(&mut self, name: &str) -> Result<(), Refusal> {
        if pubsub::pattern::is_pattern(name) && !*self.is_trusted {
            return Err(Refusal::NeedsToken);
        }
        subscribe_name(self.ws.reactor, self.ws.id, name).map_err(Refusal::Topic)?;
        Ok(())
    }

    /// Ends a subscription. `false` when there was none.
    pub(super) fn unsubscribe(&mut self, name: &str) -> bool {
        unsubscribe_name(self.ws.reactor, self.ws.id, name)
    }

    /// Publishes JSON. `done` is called as
    /// [`Publisher::publish_message`](super::publish::Publisher::publish_message) says.
    ///
    /// # Errors
    ///
    /// The refusal. Then `done` is not called.
    pub(super) fn publish_json(
        &mut self,
        topic: &str,
        event_name: Option<String>,
        json: String,
        done: impl FnOnce(&mut Reactor<S>, &str, Result<Published, ReactorEnded>) + Send + 'static,
    ) -> Result<(), Refusal> {
        if !*self.is_trusted {
            return Err(Refusal::NeedsToken);
        }
        pubsub::check_name(topic).map_err(Refusal::Topic)?;
        let event = match event_name {
            Some(name) => Event::try_new(name).map_err(Refusal::EventName)?,
            None => Event::message(""),
        };
        self.publisher
            .publish_message(self.ws, topic, event.json(json), done)
            .map_err(Refusal::Overloaded)
    }
}
