//! Subscriptions of clients: each has an identifier, and one stream or several.
//!
//! A subscription is confirmed when the engine has confirmed its streams. Until then it is pending, and can be ended
//! as one that is live.

use std::rc::Rc;

use crate::protocol::action_cable::hook::Stop;
use crate::protocol::action_cable::message::{self, HistoryRequest};
use crate::pubsub::{Entry, EventId, Gap, TopicError, check_name};
use crate::reactor::id::ConnId;
use crate::reactor::reactor::Reactor;

use crate::hub::engine::Start;
use crate::hub::parts::Parts;
use crate::hub::pending::ReplayNames;
use crate::hub::replay::{Replay, ReplayClient};
use crate::hub::subscription::check_count;

use super::client::{Kind, Streams, Subscription};
use super::extended::{Begin, whispers_of};
use super::identifiers::{AS_IT_IS, Number};
use super::state::Cable;

/// A subscription that a client wants, and has the right to.
pub(super) struct Wanted {
    pub(super) streams: Streams,
    pub(super) kind: Kind,
    /// The places from which it wants what it has missed.
    pub(super) history: Option<HistoryRequest>,
}

/// Begins a subscription to streams, and may complete it. The client is told how it ends.
pub(super) fn begin<S: 'static>(
    hub: &Rc<Parts<S>>,
    cable: &Rc<Cable<S>>,
    reactor: &mut Reactor<S>,
    id: ConnId,
    identifier: &str,
    wanted: Wanted,
) {
    let Wanted {
        streams,
        kind,
        history,
    } = wanted;
    if let Err(error) = check(hub, cable, reactor, id, &streams) {
        return reject(reactor, id, identifier, &error);
    }
    let number = cable.identifiers().borrow_mut().take(identifier);
    let serial = match cable.clients().get_mut(id) {
        Some(client) => client.add(number, kind),
        None => return cable.identifiers().borrow_mut().give_back(number),
    };
    let joining = Joining {
        cable: Rc::clone(cable),
        number,
        serial,
        streams,
        history,
        next_stream: 0,
        is_whole: true,
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
        history: None,
        next_stream: 0,
        is_whole: true,
    };
    joining.begin(hub, reactor, id);
}

/// Sends a client what a subscription has missed. The subscription stands still meanwhile.
pub(super) fn replay<S: 'static>(
    hub: &Rc<Parts<S>>,
    cable: &Rc<Cable<S>>,
    reactor: &mut Reactor<S>,
    id: ConnId,
    identifier: &str,
    history: HistoryRequest,
) {
    let number = cable.identifiers().borrow().find(identifier);
    let found = {
        let mut clients = cable.clients();
        let client = clients.get_mut(id).zip(number);
        let found = client.and_then(|(client, number)| client.find_mut(number));
        found.filter(|it| it.is_confirmed).map(|it| {
            let streams = std::mem::replace(&mut it.streams, Streams::from([]));
            (it.number, it.serial, it.has_whispers, streams)
        })
    };
    let Some((number, serial, has_whispers, streams)) = found else {
        return;
    };
    for stream in streams.iter() {
        // The client stays present.
        suspend(cable, reactor, id, stream, number);
        if has_whispers {
            suspend(cable, reactor, id, &whispers_of(stream), number);
        }
    }
    let joining = Joining {
        cable: Rc::clone(cable),
        number,
        serial,
        streams,
        history: Some(history),
        next_stream: 0,
        is_whole: true,
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
    if !suspend(cable, reactor, id, stream, number) {
        reactor.leave_presence(id, stream);
    }
}

/// As [`leave`], but the client stays present. Returns whether it is a member by another subscription.
fn suspend<S: 'static>(
    cable: &Cable<S>,
    reactor: &mut Reactor<S>,
    id: ConnId,
    stream: &str,
    number: Number,
) -> bool {
    let further = cable.further();
    if further.remove(reactor, id, stream, number) {
        return true;
    }
    reactor.suspend_membership(id, stream);
    further.has(id, stream)
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
        if subscription.has_whispers {
            leave(
                cable,
                reactor,
                id,
                &whispers_of(stream),
                subscription.number,
            );
        }
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
    /// The places from which the client wants what it has missed.
    history: Option<HistoryRequest>,
    /// The stream whose history is read, where it wants some.
    next_stream: usize,
    /// The client has got all that it wanted so far.
    is_whole: bool,
}

impl<S: 'static> Joining<S> {
    /// Asks the engine, and may complete it.
    fn begin(self, hub: &Rc<Parts<S>>, reactor: &mut Reactor<S>, id: ConnId) {
        let wants_history = self.history.is_some() && !self.streams.is_empty();
        if wants_history {
            return self.read_next(hub, reactor, id);
        }
        if hub.engine.confirms_at_once() || self.streams.is_empty() {
            return self.complete(reactor, id);
        }
        let names: Vec<Box<str>> = self.streams.to_vec();
        let wanted = names.iter().map(|name| (name.clone(), false)).collect();
        let subscriber = Subscriber {
            hub: Rc::clone(hub),
            joining: Some(self),
            begin: Begin::Now,
            names: hub.pending.add(id, names),
        };
        Replay::begin(hub, reactor, id, wanted, Start::Now, subscriber);
    }

    /// Reads the history of the next stream: each has a place of its own.
    fn read_next(self, hub: &Rc<Parts<S>>, reactor: &mut Reactor<S>, id: ConnId) {
        let stream = self.streams[self.next_stream].clone();
        let history = self.history.as_ref();
        let begin = history.map_or(Begin::Now, |history| Begin::of(history, &stream));
        let start = begin.since().map_or(Start::Now, Start::Since);
        let wanted = vec![(stream.clone(), false)];
        let subscriber = Subscriber {
            hub: Rc::clone(hub),
            joining: Some(self),
            begin,
            names: hub.pending.add(id, vec![stream]),
        };
        Replay::begin(hub, reactor, id, wanted, start, subscriber);
    }

    /// Confirms a subscription, unless it is.
    fn confirm(&self, reactor: &mut Reactor<S>, id: ConnId) {
        let is_confirmed = {
            let mut clients = self.cable.clients();
            let found = clients.get_mut(id).and_then(|it| it.find_mut(self.number));
            let Some(subscription) = found else {
                return;
            };
            std::mem::replace(&mut subscription.is_confirmed, true)
        };
        let identifier = self.cable.identifiers().borrow().text(self.number);
        if let (false, Some(identifier)) = (is_confirmed, identifier) {
            reactor.send(id, message::confirmation(&identifier));
        }
    }

    /// The history of a stream has ended: from here on the client is its member.
    fn live(mut self, hub: &Rc<Parts<S>>, reactor: &mut Reactor<S>, id: ConnId) {
        if self.history.is_none() {
            return self.complete(reactor, id);
        }
        let stream = &self.streams[self.next_stream];
        if let Err(error) = self.join_stream(reactor, id, stream) {
            log::warn!("conn {id}: a subscription gets no stream: {error}");
            self.is_whole = false;
        }
        self.next_stream += 1;
        if self.next_stream < self.streams.len() {
            return self.read_next(hub, reactor, id);
        }
        self.confirm(reactor, id);
        if let Some(identifier) = self.cable.identifiers().borrow().text(self.number) {
            reactor.send(id, message::history_answer(&identifier, self.is_whole));
        }
    }

    /// Makes the client a member of one stream, and of its whispers where it may get them.
    fn join_stream(
        &self,
        reactor: &mut Reactor<S>,
        id: ConnId,
        stream: &str,
    ) -> Result<(), TopicError> {
        let has_whispers = {
            let clients = self.cable.clients();
            let found = clients.get(id).and_then(|it| it.find(self.number));
            let Some(subscription) = found else {
                return Ok(());
            };
            if subscription
                .streams
                .iter()
                .any(|joined| **joined == *stream)
            {
                return Ok(());
            }
            subscription.has_whispers
        };
        join(&self.cable, reactor, id, stream, self.number)?;
        if has_whispers {
            let whispers = whispers_of(stream);
            if let Err(error) = join(&self.cable, reactor, id, &whispers, self.number) {
                log::debug!("conn {id}: no whispers of {stream:?}: {error}");
            }
        }
        let mut clients = self.cable.clients();
        if let Some(it) = clients.get_mut(id).and_then(|it| it.find_mut(self.number)) {
            let joined = it.streams.iter().cloned();
            it.streams = joined.chain([Box::from(stream)]).collect();
        }
        Ok(())
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
        let is_confirmed = {
            let clients = cable.clients();
            let subscription = clients.get(id).and_then(|it| it.find(self.number));
            let Some(subscription) = subscription else {
                return;
            };
            subscription.is_confirmed
        };
        let Some(identifier) = cable.identifiers().borrow().text(self.number) else {
            return;
        };
        for stream in self.streams.iter() {
            match self.join_stream(reactor, id, stream) {
                Ok(()) => {}
                Err(error) if is_confirmed => {
                    log::warn!("conn {id}: a subscription gets no further stream: {error}");
                }
                Err(error) => {
                    end(cable, reactor, id, &identifier);
                    return reject(reactor, id, &identifier, &error);
                }
            }
        }
        self.confirm(reactor, id);
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

/// A client whose subscription waits for the engine, or for what it has missed.
struct Subscriber<S: 'static> {
    hub: Rc<Parts<S>>,
    /// Taken at the end.
    joining: Option<Joining<S>>,
    begin: Begin,
    names: ReplayNames,
}

impl<S: 'static> Subscriber<S> {
    fn is_wanted(&self, id: ConnId) -> bool {
        self.joining.as_ref().is_some_and(|it| it.is_wanted(id))
    }

    /// Takes the subscription at the end of its replay, if it is still wanted.
    fn take(&mut self, id: ConnId) -> Option<Joining<S>> {
        self.names.take();
        self.joining.take().filter(|joining| joining.is_wanted(id))
    }
}

impl<S: 'static> ReplayClient<S> for Subscriber<S> {
    fn has_one_cursor(&self) -> bool {
        false
    }

    fn comes_back(&self) -> bool {
        matches!(self.begin, Begin::Past(_))
    }

    fn is_next(&self) -> bool {
        self.names.are_first()
    }

    fn wants(&mut self, _: &mut Reactor<S>, id: ConnId, _: &str) -> bool {
        self.is_wanted(id)
    }

    fn begins(&mut self, reactor: &mut Reactor<S>, id: ConnId) {
        if let Some(joining) = self.joining.as_mut().filter(|it| it.history.is_some()) {
            joining.is_whole &= self.begin != Begin::Unknown;
            if joining.is_wanted(id) {
                joining.confirm(reactor, id);
            }
        }
    }

    // Publications that are older than the client wants.
    fn takes(&mut self, _: EventId, entry: &Entry) -> bool {
        match self.begin {
            Begin::At(since_unix) => {
                let second = entry.second().map(u64::from);
                second.is_some_and(|second| second < since_unix)
            }
            Begin::Unknown => true,
            Begin::Now | Begin::Past(_) => false,
        }
    }

    fn value(&self) -> u32 {
        let joining = self.joining.as_ref();
        joining.map_or(AS_IT_IS, |joining| joining.number.value())
    }

    fn gap(&mut self, _: &mut Reactor<S>, _: ConnId, _: &Gap, _: EventId, _: &str) {
        if let Some(joining) = &mut self.joining {
            joining.is_whole = false;
        }
    }

    fn refuse(&mut self, reactor: &mut Reactor<S>, id: ConnId) {
        if let Some(joining) = self.take(id) {
            joining.refuse(reactor, id);
        }
    }

    fn live(&mut self, reactor: &mut Reactor<S>, id: ConnId, _: EventId) {
        if let Some(joining) = self.take(id) {
            joining.live(&self.hub, reactor, id);
        }
    }
}
