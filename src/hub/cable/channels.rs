//! Channels of the application: what a client does there is a call of the hook, and its answer is carried out.

use std::rc::Rc;

use crate::protocol::action_cable::hook::{Answer, CallKind};
use crate::protocol::action_cable::message;
use crate::protocol::json;
use crate::pubsub::{Event, check_name};
use crate::reactor::id::ConnId;
use crate::reactor::reactor::Reactor;

use crate::hub::parts::Parts;

use super::client::{Kind, Streams};
use super::hook::Calls;
use super::hooked::Hooked;
use super::remote;
use super::state::Cable;
use super::subscription::{self, Wanted};

/// A connection whose channels are those of an application.
pub(super) struct Channels<'c, S: 'static> {
    pub(super) hub: &'c Rc<Parts<S>>,
    pub(super) cable: &'c Rc<Cable<S>>,
    pub(super) calls: &'c Rc<Calls<S>>,
    pub(super) hooked: &'c Rc<Hooked>,
    pub(super) id: ConnId,
}

impl<S: 'static> Channels<'_, S> {
    /// Asks whether a client may connect. `then` gets whether it may.
    pub(super) fn connect(
        &self,
        reactor: &mut Reactor<S>,
        then: impl FnOnce(&mut Reactor<S>, bool) + 'static,
    ) {
        self.call(
            reactor,
            CallKind::Connect,
            None,
            None,
            |it, reactor, answer| {
                let Ok(answer) = answer else {
                    return then(reactor, false);
                };
                let is_ok = answer.is_ok;
                if let (true, Some(identifiers)) = (is_ok, &answer.identifiers) {
                    it.hooked.set_identifiers(identifiers);
                    let name = super::identity::connection_name(identifiers);
                    match name.filter(|name| !name.is_empty()) {
                        Some(name) => it.set_name(reactor, name.into()),
                        None => {
                            log::warn!("the hook of ActionCable: identifiers that are no texts")
                        }
                    }
                }
                // The messages of a connection are sent as they are.
                for json in &answer.transmit {
                    reactor.send(it.id, json.as_str());
                }
                it.carry_out(reactor, answer);
                then(reactor, is_ok);
            },
        );
    }

    /// Notes the name of the connection.
    fn set_name(&self, reactor: &mut Reactor<S>, name: Rc<str>) {
        if let Some(client) = self.cable.clients().get_mut(self.id) {
            client.set_name(Rc::clone(&name));
        } else {
            return;
        }
        let remote = self.cable.remote();
        remote.add(&self.hub.engine, reactor, self.id, &name);
    }

    /// Asks whether a client may subscribe. It is told, at once or when the engine has confirmed the streams.
    pub(super) fn subscribe(
        &self,
        reactor: &mut Reactor<S>,
        identifier: &str,
        then: impl FnOnce(&mut Reactor<S>) + 'static,
    ) {
        let of: Box<str> = identifier.into();
        let kind = CallKind::Subscribe;
        self.call(
            reactor,
            kind,
            Some(identifier),
            None,
            move |it, reactor, answer| {
                match answer {
                    Ok(answer) if answer.is_ok => {
                        it.transmit(reactor, &of, &answer);
                        let streams: Streams = answer
                            .streams
                            .iter()
                            .map(|it| &**it)
                            .map(Box::from)
                            .collect();
                        it.carry_out(reactor, answer);
                        let wanted = Wanted {
                            streams,
                            kind: Kind::OfHook,
                            history: None,
                        };
                        subscription::begin(it.hub, it.cable, reactor, it.id, &of, wanted);
                    }
                    Ok(answer) => {
                        it.transmit(reactor, &of, &answer);
                        it.carry_out(reactor, answer);
                        subscription::reject(reactor, it.id, &of, &"the application refuses it");
                    }
                    Err(()) => {
                        subscription::reject(reactor, it.id, &of, &"no answer of the application")
                    }
                }
                then(reactor);
            },
        );
    }

    /// Passes a message of a client on to the channel of a subscription.
    pub(super) fn perform(
        &self,
        reactor: &mut Reactor<S>,
        identifier: &str,
        data: &str,
        then: impl FnOnce(&mut Reactor<S>) + 'static,
    ) {
        let of: Box<str> = identifier.into();
        let kind = CallKind::Perform;
        self.call(
            reactor,
            kind,
            Some(identifier),
            Some(data),
            move |it, reactor, answer| {
                if let Ok(answer) = answer {
                    it.transmit(reactor, &of, &answer);
                    let streams: Streams = answer
                        .streams
                        .iter()
                        .map(|it| &**it)
                        .map(Box::from)
                        .collect();
                    subscription::stop(it.cable, reactor, it.id, &of, &answer.stop);
                    it.carry_out(reactor, answer);
                    subscription::extend(it.hub, it.cable, reactor, it.id, &of, streams);
                }
                then(reactor);
            },
        );
    }

    /// Tells the application that a subscription has ended.
    pub(super) fn unsubscribe(
        &self,
        reactor: &mut Reactor<S>,
        identifier: &str,
        then: impl FnOnce(&mut Reactor<S>) + 'static,
    ) {
        let kind = CallKind::Unsubscribe;
        self.call(
            reactor,
            kind,
            Some(identifier),
            None,
            |it, reactor, answer| {
                if let Ok(answer) = answer {
                    it.carry_out(reactor, answer);
                }
                then(reactor);
            },
        );
    }

    /// Makes a call, and notes the state that the answer changes.
    fn call(
        &self,
        reactor: &mut Reactor<S>,
        kind: CallKind,
        identifier: Option<&str>,
        data: Option<&str>,
        done: impl FnOnce(&Channels<'_, S>, &mut Reactor<S>, Result<Answer, ()>) + 'static,
    ) {
        let body = self.hooked.body(kind, identifier, data);
        let (hub, cable) = (Rc::clone(self.hub), Rc::clone(self.cable));
        let (calls, hooked, id) = (Rc::clone(self.calls), Rc::clone(self.hooked), self.id);
        self.calls.call(reactor, body, move |reactor, answer| {
            let answer = answer.and_then(|mut answer| {
                let has_room = hooked.merge(std::mem::take(&mut answer.state));
                if !has_room {
                    log::warn!("the hook of ActionCable: the state of a connection is too long");
                }
                has_room.then_some(answer).ok_or(())
            });
            let channels = Channels {
                hub: &hub,
                cable: &cable,
                calls: &calls,
                hooked: &hooked,
                id,
            };
            done(&channels, reactor, answer);
        });
    }

    /// Sends the messages of an answer to the client, as those of the subscription.
    fn transmit(&self, reactor: &mut Reactor<S>, identifier: &str, answer: &Answer) {
        if answer.transmit.is_empty() {
            return;
        }
        let quoted = json::quote(identifier);
        for json in &answer.transmit {
            let mut text = Vec::new();
            message::push_message(&quoted, json, &mut text);
            let text = String::from_utf8(text).expect("its parts are texts");
            reactor.send(self.id, text);
        }
    }

    /// Carries out what an answer says of other connections.
    fn carry_out(&self, reactor: &mut Reactor<S>, answer: Answer) {
        carry_out(self.hub, reactor, answer);
    }
}

/// Tells the application that a connection has ended: its subscriptions one after the other, and then itself.
pub(super) fn leave<S: 'static>(
    hub: &Rc<Parts<S>>,
    calls: &Rc<Calls<S>>,
    reactor: &mut Reactor<S>,
    hooked: Rc<Hooked>,
) {
    let Some(body) = hooked.next_leaving() else {
        return;
    };
    let (hub, again) = (Rc::clone(hub), Rc::clone(calls));
    calls.call(reactor, body, move |reactor, answer| {
        if let Ok(mut answer) = answer {
            hooked.merge(std::mem::take(&mut answer.state));
            carry_out(&hub, reactor, answer);
        }
        leave(&hub, &again, reactor, hooked);
    });
}

fn carry_out<S: 'static>(hub: &Rc<Parts<S>>, reactor: &mut Reactor<S>, answer: Answer) {
    let broadcasts = answer.broadcast.into_iter();
    let orders = answer
        .disconnect
        .into_iter()
        .filter_map(|(identifiers, reconnects)| remote::order(&identifiers, reconnects));
    let mut items = Vec::new();
    for (topic, json) in broadcasts.chain(orders) {
        match check_name(&topic) {
            Ok(()) => items.push((topic.into(), Event::message("").json(json))),
            Err(error) => log::warn!("the hook of ActionCable: a broadcast is dropped: {error}"),
        }
    }
    if items.is_empty() {
        return;
    }
    hub.engine.publish_all(reactor, &items, |_, outcome| {
        if let Err(error) = outcome {
            log::warn!("the hook of ActionCable: broadcasts are dropped: {error}");
        }
    });
}
