//! Subscriptions of clients: each has an identifier, and one stream or several.
//!
//! A subscription is confirmed when the engine has confirmed its streams. Until then it is pending, and can be ended
//! as one that is live.

use std::rc::Rc;

use crate::protocol::action_cable::hook::Stop;
use crate::protocol::action_cable::message;
use crate::pubsub::{EventId, Gap, TopicError, check_name};
use crate::reactor::id::ConnId;
use crate::reactor::reactor::Reactor;

use crate::hub::engine::Start;
use crate::hub::parts::Parts;
use crate::hub::pending::ReplayNames;
use crate::hub::replay::{Replay, ReplayClient};
use crate::hub::subscription::check_count;

use super::client::{Streams, Subscription};
use super::identifiers::Number;
use super::state::Cable;

/// Begins a subscription to streams, and may complete it. The client is told how it ends.
pub(super) fn begin<S: 'static>(
    hub: &Rc<Parts<S>>,
    cable: &Rc<Cable<S>>,
    reactor: &mut Reactor<S>,
    id: ConnId,
    identifier: &str,
    streams: Streams,
    is_of_hook: bool,
) {
    if let Err(error) = check(hub, cable, reactor, id, &streams) {
        return reject(reactor, id, identifier, &error);
    }
    let number = cable.identifiers().borrow_mut().take(identifier);
    let serial = match cable.clients().get_mut(id) {
        Some(client) => client.add(number, is_of_hook),
        None => return cable.identifiers().borrow_mut().give_back(number),
    };
    let joining = Joining {
        cable: Rc::clone(cable),
        number,
        serial,
        streams,
    };
    joining.begin(hub, reactor, id);
}

/// Adds streams to a subscription that is confirmed, in which the client is not a member yet. The client is not told.
pub(super) fn extend<S: 'static>(
    hub: &Rc<Parts<S>>,
    cable: &Rc<Cable<S>>,
    reactor: &mut Reactor<S>,
    id: ConnId,
    identifier: &str,
    streams: Streams,
) {
    let number = cable.identifiers().borrow().find(identifier);
    let found = {
        let clients = cable.clients();
        let client = clients.get(id).zip(number);
        let found = client.and_then(|(client, number)| client.find(number));
        found.map(|it| (it.number, it.serial))
    };
    let (Some((number, serial)), false) = (found, streams.is_empty()) else {
        return;
    };
    if let Err(error) = check(hub, cable, reactor, id, &streams) {
        log::warn!("conn {id}: a subscription gets no further stream: {error}");
        return;
    }
    let joining = Joining {
        cable: Rc::clone(cable),
        number,
        serial,
        streams,
    };
    joining.begin(hub, reactor, id);
}

/// Ends the membership of a subscription in streams.
pub(super) fn stop<S: 'static>(
    cable: &Cable<S>,
    reactor: &mut Reactor<S>,
    id: ConnId,
    identifier: &str,
    stop: &Stop,
) {
    let Some(number) = cable.identifiers().borrow().find(identifier) else {
        return;
    };
    let is_stopped = |stream: &str| match stop {
        Stop::All => true,
        Stop::Streams(streams) => streams.iter().any(|it| it == stream),
    };
    let stopped: Vec<Box<str>> = {
        let mut clients = cable.clients();
        let found = clients.get_mut(id).and_then(|it| it.find_mut(number));
        let Some(subscription) = found else {
            return;
        };
        let all = subscription.streams.iter().cloned();
        let (stopped, kept): (Vec<_>, Vec<_>) = all.partition(|it| is_stopped(it));
        subscription.streams = kept.into();
        stopped
    };
    for stream in stopped {
        leave(cable, reactor, id, &stream, number);
    }
}

/// Whether the streams can be subscribed to.
fn check<S: 'static>(
    hub: &Parts<S>,
    cable: &Cable<S>,
    reactor: &Reactor<S>,
    id: ConnId,
    streams: &Streams,
) -> Result<(), TopicError> {
    for stream in streams.iter() {
        check_name(stream)?;
    }
    let subscriptions_max = reactor.config().subscriptions_max;
    let clients = cable.clients();
    let count = clients.get(id).map_or(0, |it| it.subscriptions().len());
    if subscriptions_max <= count {
        return Err(TopicError::TooMany { subscriptions_max });
    }
    check_count(hub, reactor, id, streams)
}

/// Makes a client a member of a stream by one of its subscriptions.
pub(super) fn join<S: 'static>(
    cable: &Cable<S>,
    reactor: &mut Reactor<S>,
    id: ConnId,
    stream: &str,
    number: Number,
) -> Result<(), TopicError> {
    match reactor.subscribe_with_value(id, stream, number.value())? {
        true => Ok(()),
        false if !reactor.is_open(id) => Ok(()),
        // By another subscription it is a member already.
        false => cable.further().add(reactor, id, stream, number),
    }
}

/// Ends the membership of a client in a stream by one of its subscriptions.
pub(super) fn leave<S: 'static>(
    cable: &Cable<S>,
    reactor: &mut Reactor<S>,
    id: ConnId,
    stream: &str,
    number: Number,
) {
    let further = cable.further();
    if further.remove(reactor, id, stream, number) {
        return;
    }
    let next = further.take(reactor, id, stream);
    reactor.unsubscribe(id, stream);
    if let Some(next) = next {
        // There is room for it, because one has ended.
        let _ = reactor.subscribe_with_value(id, stream, next.value());
    }
}

/// Ends a subscription, and returns it. Does nothing where there is none.
pub(super) fn end<S: 'static>(
    cable: &Cable<S>,
    reactor: &mut Reactor<S>,
    id: ConnId,
    identifier: &str,
) -> Option<Subscription> {
    let number = cable.identifiers().borrow().find(identifier)?;
    let subscription = forget(cable, id, number)?;
    for stream in subscription.streams.iter() {
        leave(cable, reactor, id, stream, subscription.number);
    }
    Some(subscription)
}

/// Removes a subscription from the state of its client.
fn forget<S: 'static>(cable: &Cable<S>, id: ConnId, number: Number) -> Option<Subscription> {
    let subscription = cable.clients().get_mut(id)?.remove(number)?;
    cable.identifiers().borrow_mut().give_back(number);
    Some(subscription)
}

/// Tells a client that it is not subscribed.
pub(super) fn reject<S: 'static>(
    reactor: &mut Reactor<S>,
    id: ConnId,
    identifier: &str,
    why: &dyn std::fmt::Display,
) {
    log::debug!("conn {id}: a subscription is rejected: {why}");
    reactor.send(id, message::rejection(identifier));
}

/// Streams that a subscription joins.
struct Joining<S: 'static> {
    cable: Rc<Cable<S>>,
    number: Number,
    serial: u32,
    streams: Streams,
}

impl<S: 'static> Joining<S> {
    /// Asks the engine, and may complete it.
    fn begin(self, hub: &Rc<Parts<S>>, reactor: &mut Reactor<S>, id: ConnId) {
        if hub.engine.confirms_at_once() || self.streams.is_empty() {
            return self.complete(reactor, id);
        }
        let names: Vec<Box<str>> = self.streams.to_vec();
        let wanted = names.iter().map(|name| (name.clone(), false)).collect();
        let subscriber = Subscriber {
            joining: self,
            names: hub.pending.add(id, names),
        };
        Replay::begin(hub, reactor, id, wanted, Start::Now, subscriber);
    }

    /// Whether this very subscription is still wanted.
    fn is_wanted(&self, id: ConnId) -> bool {
        let clients = self.cable.clients();
        let subscription = clients.get(id).and_then(|it| it.find(self.number));
        subscription.is_some_and(|it| it.serial == self.serial)
    }

    /// Makes the client a member of the streams, and confirms a subscription that is not.
    fn complete(&self, reactor: &mut Reactor<S>, id: ConnId) {
        let cable = &self.cable;
        let (mut joined, is_confirmed) = {
            let clients = cable.clients();
            let subscription = clients.get(id).and_then(|it| it.find(self.number));
            let Some(subscription) = subscription else {
                return;
            };
            (subscription.streams.to_vec(), subscription.is_confirmed)
        };
        let Some(identifier) = cable.identifiers().borrow().text(self.number) else {
            return;
        };
        for stream in self.streams.iter() {
            if joined.contains(stream) {
                continue;
            }
            match join(cable, reactor, id, stream, self.number) {
                Ok(()) => joined.push(stream.clone()),
                Err(error) if is_confirmed => {
                    log::warn!("conn {id}: a subscription gets no further stream: {error}");
                }
                Err(error) => {
                    for stream in &joined {
                        leave(cable, reactor, id, stream, self.number);
                    }
                    forget(cable, id, self.number);
                    return reject(reactor, id, &identifier, &error);
                }
            }
        }
        if let Some(it) = cable
            .clients()
            .get_mut(id)
            .and_then(|it| it.find_mut(self.number))
        {
            it.streams = joined.into();
            it.is_confirmed = true;
        }
        if !is_confirmed {
            reactor.send(id, message::confirmation(&identifier));
        }
    }

    /// The engine does not confirm it.
    fn refuse(&self, reactor: &mut Reactor<S>, id: ConnId) {
        let is_confirmed = {
            let clients = self.cable.clients();
            let subscription = clients.get(id).and_then(|it| it.find(self.number));
            subscription.is_some_and(|it| it.is_confirmed)
        };
        let why = "the engine has no answer";
        if is_confirmed {
            log::warn!("conn {id}: a subscription gets no further stream: {why}");
            return;
        }
        let identifier = self.cable.identifiers().borrow().text(self.number);
        forget(&self.cable, id, self.number);
        if let Some(identifier) = identifier {
            reject(reactor, id, &identifier, &why);
        }
    }
}

/// A client whose subscription waits for the engine.
struct Subscriber<S: 'static> {
    joining: Joining<S>,
    names: ReplayNames,
}

impl<S: 'static> ReplayClient<S> for Subscriber<S> {
    fn has_one_cursor(&self) -> bool {
        false
    }

    fn comes_back(&self) -> bool {
        false
    }

    fn is_next(&self) -> bool {
        self.names.are_first()
    }

    fn wants(&mut self, _: &mut Reactor<S>, id: ConnId, _: &str) -> bool {
        self.joining.is_wanted(id)
    }

    fn value(&self) -> u32 {
        self.joining.number.value()
    }

    fn gap(&mut self, _: &mut Reactor<S>, _: ConnId, _: &Gap, _: EventId, _: &str) {}

    fn refuse(&mut self, reactor: &mut Reactor<S>, id: ConnId) {
        self.names.take();
        if self.joining.is_wanted(id) {
            self.joining.refuse(reactor, id);
        }
    }

    fn live(&mut self, reactor: &mut Reactor<S>, id: ConnId, _: EventId) {
        self.names.take();
        if self.joining.is_wanted(id) {
            self.joining.complete(reactor, id);
        }
    }
}
