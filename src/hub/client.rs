//! A client on a WebSocket, as its grammar sees it: what the client may ask of the hub.
//!
//! The rights are checked here, once for all grammars. A grammar words requests, answers and
//! refusals.

use std::borrow::Cow;
use std::rc::Rc;

use crate::pubsub::{self, Event, Since, pattern};
use crate::reactor::id::ConnId;
use crate::reactor::published::Published;
use crate::reactor::reactor::Reactor;
use crate::session::handler::Ws;

use super::access::Access;
use super::engine::PublishError;
use super::guesses::{self, Answer, WRONG_TOKENS_MAX};
use super::identities::{AnotherUser, OnEnd};
use super::parts::Parts;
use super::presence;
use super::refusal::{Refusal, check_key};
use super::rights::{Rights, Scope, Shown};
use super::subscribe::{subscribe_name, unsubscribe_name};
use super::subscription::{self, SubscribeWords};

/// One client while one of its events is handled.
pub(super) struct Client<'c, 'w, S: 'static> {
    ws: &'c mut Ws<'w, S>,
    access: &'c Access,
    hub: &'c Rc<Parts<S>>,
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

/// A publication of a client.
pub(super) struct ClientPublication<'p> {
    pub(super) topic: &'p str,
    pub(super) event_name: Option<String>,
    pub(super) key: Option<String>,
    /// Valid JSON.
    pub(super) json: String,
    /// The client itself does not get it.
    pub(super) is_to_others: bool,
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
        hub: &'c Rc<Parts<S>>,
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
    /// member already.
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
        if !self.hub.engine.confirms_at_once() {
            return subscription::begin_without_words(self.hub, reactor, id, name);
        }
        if subscribe_name(reactor, id, name).map_err(Refusal::Topic)? {
            presence::join(reactor, &self.hub.options.rules, id, name);
        }
        Ok(())
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

    /// Subscribes to the names of a command, and answers it with its own words, behind what the client has missed
    /// since a cursor. With `is_latest` the latest value of each key instead of every publication. The answer comes
    /// when the client has got everything and is a member.
    ///
    /// # Errors
    ///
    /// As [`subscribe`](Self::subscribe), for the first name that is refused. Then there is no subscription to any
    /// of them.
    pub(super) fn subscribe_since(
        &mut self,
        words: impl SubscribeWords,
        since: Option<Since>,
        is_latest: bool,
    ) -> Result<(), Refusal> {
        let rights = self.rights();
        for name in words.names() {
            pubsub::check_name(name).map_err(Refusal::Topic)?;
            rights.may_subscribe(&self.hub.options.rules, name)?;
        }
        let (reactor, id) = (&mut *self.ws.reactor, self.ws.id);
        if words.names().iter().any(|name| pattern::is_pattern(name)) {
            let identities = &self.hub.identities;
            identities.note_pattern(reactor, id, &rights, self.on_end);
        }
        let scope = self.standing.scope;
        subscription::begin(self.hub, reactor, id, words, since, is_latest, scope)
    }

    /// Ends a subscription. `false` when there was none.
    pub(super) fn unsubscribe(&mut self, name: &str) -> bool {
        let was_pending = self.hub.pending.cancel(self.ws.id, name);
        unsubscribe_name(self.ws.reactor, self.ws.id, name) || was_pending
    }

    /// Publishes JSON. `done` is called as
    /// [`Engine::publish_message`] says.
    ///
    /// # Errors
    ///
    /// The refusal. Then `done` is not called.
    pub(super) fn publish_json(
        &mut self,
        publication: ClientPublication<'_>,
        done: impl FnOnce(&mut Reactor<S>, Result<Published, PublishError>) + 'static,
    ) -> Result<(), Refusal> {
        let topic = publication.topic;
        pubsub::check_name(topic).map_err(Refusal::Topic)?;
        self.rights().may_publish(&self.hub.options.rules, topic)?;
        let mut event = match publication.event_name {
            Some(name) => Event::try_new(name).map_err(Refusal::EventName)?,
            None => Event::message(""),
        };
        event = event.json(publication.json);
        if let Some(key) = publication.key {
            check_key(&key).map_err(Refusal::Key)?;
            event = event.key(key);
        }
        self.hub
            .engine
            .publish_message(self.ws, topic, event, publication.is_to_others, done)
            .map_err(Refusal::Publish)
    }
}
