//! Subscriptions of clients that have a cursor for each name: the envelope's, and those of grammars like it.
//!
//! A client that comes back gets what it has missed, and then the confirmation: from there on it is live. Until then
//! its names are pending. A pending name can be unsubscribed, and ends with the right to it, like one that is live.
//!
//! A name that is live when its client asks for what it has missed becomes pending too: live messages would come
//! before older ones, and a client that takes the last id as its cursor would lose the rest of the replay in a break.
//! The client stays present in the topic. Replays of one client come one after the other.

use std::rc::Rc;

use crate::pubsub::{EventId, Gap, Since, TopicError, pattern};
use crate::reactor::id::ConnId;
use crate::reactor::reactor::Reactor;

use super::engine::Start;
use super::guesses::POLICY_VIOLATION;
use super::parts::Parts;
use super::pending::ReplayNames;
use super::presence;
use super::refusal::Refusal;
use super::replay::{Replay, ReplayClient};
use super::rights::Scope;
use super::subscribe::{subscribe_name, unsubscribe_name};

/// The words of a grammar for a subscription.
pub(super) trait SubscribeWords: 'static {
    /// The names of the command.
    fn names(&self) -> &[String];

    /// A gap of a name, or of a topic that was found by the pattern `by`.
    fn gap(&self, name: &str, by: Option<&str>, cursor: EventId) -> String;

    /// The client is subscribed to the names for which `is_live` is true. `None` where that needs no answer.
    fn subscribed(&self, cursor: EventId, is_live: &dyn Fn(&str) -> bool) -> Option<String>;

    /// A name is refused after all.
    fn refused(&self, name: &str, refusal: Refusal) -> String;

    /// The right to a name has ended.
    fn expired(&self, name: &str) -> String;
}

/// Begins a subscription, and may complete it.
///
/// # Errors
///
/// [`Refusal::Topic`] where the client has as many subscriptions as it may. Then there is none to any of the names.
pub(super) fn begin<S: 'static>(
    hub: &Rc<Parts<S>>,
    reactor: &mut Reactor<S>,
    id: ConnId,
    words: impl SubscribeWords,
    since: Option<Since>,
    is_latest: bool,
    scope: Scope,
) -> Result<(), Refusal> {
    // A list that is longer cannot be granted, and each of its names is compared with those before it.
    let subscriptions_max = reactor.config().subscriptions_max;
    if subscriptions_max < words.names().len() {
        return Err(Refusal::Topic(TopicError::TooMany { subscriptions_max }));
    }
    let is_replayed = since.is_some() || is_latest;
    let is_pending = |name: &String| hub.pending.is_pending(id, name);
    let is_at_once = hub.engine.confirms_at_once();
    if is_at_once && !is_replayed && !words.names().iter().any(is_pending) {
        let new_names = subscribe_all(reactor, id, words.names()).map_err(Refusal::Topic)?;
        let cursor = hub.engine.cursor(reactor);
        if let Some(answer) = words.subscribed(cursor, &|_| true) {
            reactor.send(id, answer);
        }
        for name in new_names {
            presence::join(reactor, &hub.options.rules, id, name);
        }
        return Ok(());
    }
    let mut names: Vec<Box<str>> = Vec::new();
    for name in words.names() {
        // Without a cursor there is nothing to replay for a name that is live, or will be.
        let is_known = !is_replayed && (is_pending(name) || reactor.is_subscribed(id, name));
        if !is_known && !names.iter().any(|other| **other == **name) {
            names.push(name.as_str().into());
        }
    }
    check_count(hub, reactor, id, &names).map_err(Refusal::Topic)?;
    for name in &names {
        reactor.suspend_subscription(id, name);
    }
    let wanted = names
        .iter()
        .map(|name| (name.clone(), pattern::is_pattern(name)))
        .collect();
    let client = Subscriber {
        hub: Rc::clone(hub),
        words,
        names: hub.pending.add(id, names),
        scope,
        has_cursor: matches!(since, Some(Since::Id(_))),
    };
    let start = Start::new(since, is_latest);
    Replay::begin(hub, reactor, id, wanted, start, client);
    Ok(())
}

/// Begins a subscription to one name for a client whose grammar has no words for a confirmation.
///
/// # Errors
///
/// As [`begin`].
pub(super) fn begin_without_words<S: 'static>(
    hub: &Rc<Parts<S>>,
    reactor: &mut Reactor<S>,
    id: ConnId,
    name: &str,
) -> Result<(), Refusal> {
    if reactor.is_subscribed(id, name) || hub.pending.is_pending(id, name) {
        return Ok(());
    }
    let names = vec![Box::from(name)];
    check_count(hub, reactor, id, &names).map_err(Refusal::Topic)?;
    let client = SilentSubscriber {
        hub: Rc::clone(hub),
        names: hub.pending.add(id, names),
    };
    let wanted = vec![(name.into(), pattern::is_pattern(name))];
    Replay::begin(hub, reactor, id, wanted, Start::Now, client);
    Ok(())
}

/// Subscribes to all names, or to none. Returns those of which the client is a member since now.
fn subscribe_all<'n, S: 'static>(
    reactor: &mut Reactor<S>,
    id: ConnId,
    names: &'n [String],
) -> Result<Vec<&'n String>, TopicError> {
    let mut new_names = Vec::new();
    for name in names {
        match subscribe_name(reactor, id, name) {
            Ok(true) => new_names.push(name),
            Ok(false) => {}
            Err(error) => {
                for name in new_names {
                    unsubscribe_name(reactor, id, name);
                }
                return Err(error);
            }
        }
    }
    Ok(new_names)
}

/// Checks the limits of a client's subscriptions for names that will be live later.
pub(super) fn check_count<S: 'static>(
    hub: &Parts<S>,
    reactor: &Reactor<S>,
    id: ConnId,
    names: &[Box<str>],
) -> Result<(), TopicError> {
    let config = reactor.config();
    let (subscriptions_max, patterns_max) = (config.subscriptions_max, config.patterns_max);
    let (pending_count, pending_patterns) = hub.pending.counts(id);
    let live = reactor.subscriptions(id);
    // A command without new names waits too.
    let (mut count, mut pattern_count) = (names.len().max(1) + pending_count, pending_patterns);
    pattern_count += names.iter().filter(|it| pattern::is_pattern(it)).count();
    for name in live.filter(|live| !names.iter().any(|name| **name == **live)) {
        count += 1;
        pattern_count += usize::from(pattern::is_pattern(name));
    }
    if subscriptions_max < count {
        return Err(TopicError::TooMany { subscriptions_max });
    }
    if patterns_max < pattern_count {
        return Err(TopicError::TooManyPatterns { patterns_max });
    }
    Ok(())
}

/// A client whose subscription is pending.
struct Subscriber<S: 'static, W> {
    hub: Rc<Parts<S>>,
    words: W,
    names: ReplayNames,
    scope: Scope,
    has_cursor: bool,
}

impl<S: 'static, W: SubscribeWords> ReplayClient<S> for Subscriber<S, W> {
    fn has_one_cursor(&self) -> bool {
        false
    }

    fn comes_back(&self) -> bool {
        self.has_cursor
    }

    fn is_next(&self) -> bool {
        self.names.are_first()
    }

    fn wants(&mut self, reactor: &mut Reactor<S>, id: ConnId, name: &str) -> bool {
        if !self.names.contains(name) {
            return false;
        }
        let rights = self.hub.identities.rights_of(id, self.scope);
        let is_granted = rights.may_subscribe(&self.hub.options.rules, name).is_ok();
        if !is_granted {
            self.hub.pending.cancel(id, name);
            unsubscribe_name(reactor, id, name);
            reactor.send(id, self.words.expired(name));
        }
        is_granted
    }

    fn gap(
        &mut self,
        reactor: &mut Reactor<S>,
        id: ConnId,
        gap: &Gap,
        cursor: EventId,
        wanted: &str,
    ) {
        let by = (*wanted != *gap.name).then_some(wanted);
        let message = self.words.gap(&gap.name, by, cursor);
        reactor.send(id, message);
    }

    fn refuse(&mut self, reactor: &mut Reactor<S>, id: ConnId) {
        for name in self.names.take() {
            unsubscribe_name(reactor, id, &name);
            let message = self.words.refused(&name, Refusal::Unavailable);
            reactor.send(id, message);
        }
    }

    fn live(&mut self, reactor: &mut Reactor<S>, id: ConnId, cursor: EventId) {
        let mut names = self.names.take();
        // A later command reads on for these.
        names.retain(|name| !self.hub.pending.is_pending(id, name));
        let (mut new_names, mut is_refused) = (Vec::new(), false);
        for name in &names {
            match subscribe_name(reactor, id, name) {
                Ok(true) => new_names.push(name),
                Ok(false) => {}
                Err(error) => {
                    is_refused = true;
                    // It is present where it was a member before.
                    unsubscribe_name(reactor, id, name);
                    let message = self.words.refused(name, Refusal::Topic(error));
                    reactor.send(id, message);
                }
            }
        }
        if !is_refused {
            // Others have been unsubscribed since the command, or their right has ended, and the client was told.
            let is_live = |name: &str| {
                reactor.is_subscribed(id, name) || self.hub.pending.is_pending(id, name)
            };
            if let Some(answer) = self.words.subscribed(cursor, &is_live) {
                reactor.send(id, answer);
            }
        }
        for name in new_names {
            presence::join(reactor, &self.hub.options.rules, id, name);
        }
    }
}

/// A client whose subscription is pending, and that is sent no words about it.
struct SilentSubscriber<S: 'static> {
    hub: Rc<Parts<S>>,
    names: ReplayNames,
}

impl<S: 'static> ReplayClient<S> for SilentSubscriber<S> {
    fn has_one_cursor(&self) -> bool {
        false
    }

    fn comes_back(&self) -> bool {
        false
    }

    fn is_next(&self) -> bool {
        self.names.are_first()
    }

    fn wants(&mut self, _: &mut Reactor<S>, _: ConnId, name: &str) -> bool {
        self.names.contains(name)
    }

    fn gap(&mut self, _: &mut Reactor<S>, _: ConnId, _: &Gap, _: EventId, _: &str) {}

    fn refuse(&mut self, reactor: &mut Reactor<S>, id: ConnId) {
        let why = Refusal::Unavailable.to_string();
        reactor.close_with(id, POLICY_VIOLATION, &why);
    }

    fn live(&mut self, reactor: &mut Reactor<S>, id: ConnId, _: EventId) {
        for name in self.names.take() {
            match subscribe_name(reactor, id, &name) {
                Ok(true) => presence::join(reactor, &self.hub.options.rules, id, &name),
                Ok(false) => {}
                Err(error) => _ = reactor.close_with(id, POLICY_VIOLATION, &error.to_string()),
            }
        }
    }
}
