//! Subscriptions of clients: each has an identifier, and one stream or several.
//!
//! A subscription is confirmed when the engine has confirmed its streams. Until then it is pending, and can be ended
//! as one that is live.

use std::rc::Rc;

use crate::protocol::action_cable::message;
use crate::pubsub::{Entry, EventId, Gap, TopicError, check_name};
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
    cable: &Rc<Cable>,
    reactor: &mut Reactor<S>,
    id: ConnId,
    identifier: &str,
    streams: Streams,
) {
    if let Err(error) = check(hub, cable, reactor, id, &streams) {
        return reject(reactor, id, identifier, &error);
    }
    let number = cable.identifiers().borrow_mut().take(identifier);
    let subscription = Subscription {
        number,
        is_confirmed: false,
        streams: Rc::clone(&streams),
    };
    match cable.clients().get_mut(id) {
        Some(client) => client.add(subscription),
        None => return cable.identifiers().borrow_mut().give_back(number),
    }
    if hub.engine.confirms_at_once() || streams.is_empty() {
        return complete(cable, reactor, id, number);
    }
    let names: Vec<Box<str>> = streams.to_vec();
    let wanted = names.iter().map(|name| (name.clone(), false)).collect();
    let subscriber = Subscriber {
        cable: Rc::clone(cable),
        number,
        streams,
        names: hub.pending.add(id, names),
    };
    Replay::begin(hub, reactor, id, wanted, Start::Now, subscriber);
}

/// Whether the streams can be subscribed to.
fn check<S: 'static>(
    hub: &Parts<S>,
    cable: &Cable,
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

/// Makes a client a member of the streams of a pending subscription, and tells it.
fn complete<S: 'static>(cable: &Rc<Cable>, reactor: &mut Reactor<S>, id: ConnId, number: Number) {
    let streams = {
        let mut clients = cable.clients();
        let subscription = clients.get_mut(id).and_then(|it| it.find_mut(number));
        let Some(subscription) = subscription else {
            return;
        };
        subscription.is_confirmed = true;
        Rc::clone(&subscription.streams)
    };
    let Some(identifier) = cable.identifiers().borrow().text(number) else {
        return;
    };
    for (index, stream) in streams.iter().enumerate() {
        if let Err(error) = join(cable, reactor, id, stream, number) {
            for stream in &streams[..index] {
                leave(cable, reactor, id, stream, number);
            }
            forget(cable, id, number);
            return reject(reactor, id, &identifier, &error);
        }
    }
    reactor.send(id, message::confirmation(&identifier));
}

/// Makes a client a member of a stream by one of its subscriptions.
pub(super) fn join<S: 'static>(
    cable: &Cable,
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
    cable: &Cable,
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

/// Ends a subscription. Does nothing where there is none.
pub(super) fn end<S: 'static>(
    cable: &Cable,
    reactor: &mut Reactor<S>,
    id: ConnId,
    identifier: &str,
) {
    let number = cable.identifiers().borrow().find(identifier);
    let Some(subscription) = number.and_then(|number| forget(cable, id, number)) else {
        return;
    };
    if subscription.is_confirmed {
        for stream in subscription.streams.iter() {
            leave(cable, reactor, id, stream, subscription.number);
        }
    }
}

/// Removes a subscription from the state of its client.
fn forget(cable: &Cable, id: ConnId, number: Number) -> Option<Subscription> {
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

/// A client whose subscription waits for the engine.
struct Subscriber {
    cable: Rc<Cable>,
    number: Number,
    streams: Streams,
    names: ReplayNames,
}

impl Subscriber {
    /// Whether this very subscription is still wanted.
    fn is_wanted(&self, id: ConnId) -> bool {
        let clients = self.cable.clients();
        let subscription = clients.get(id).and_then(|it| it.find(self.number));
        subscription.is_some_and(|it| Rc::ptr_eq(&it.streams, &self.streams))
    }
}

impl<S: 'static> ReplayClient<S> for Subscriber {
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
        self.is_wanted(id)
    }

    fn takes(&mut self, _: EventId, _: &Entry) -> bool {
        false
    }

    fn value(&self) -> u32 {
        self.number.value()
    }

    fn gap(&mut self, _: &mut Reactor<S>, _: ConnId, _: &Gap, _: EventId, _: &str) {}

    fn refuse(&mut self, reactor: &mut Reactor<S>, id: ConnId) {
        self.names.take();
        if !self.is_wanted(id) {
            return;
        }
        let identifier = self.cable.identifiers().borrow().text(self.number);
        forget(&self.cable, id, self.number);
        if let Some(identifier) = identifier {
            reject(reactor, id, &identifier, &"the engine has no answer");
        }
    }

    fn live(&mut self, reactor: &mut Reactor<S>, id: ConnId, _: EventId) {
        self.names.take();
        if self.is_wanted(id) {
            complete(&self.cable, reactor, id, self.number);
        }
    }
}
