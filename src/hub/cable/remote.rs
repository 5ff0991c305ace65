//! Connections that a backend ends by their name, as Rails does.
//!
//! Rails publishes to `action_cable/NAME`, where the name is that of the connection's identifiers. The topic is observed
//! as long as there is a connection of this name.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use crate::protocol::action_cable::message::{self, Reason};
use crate::protocol::json;
use crate::pubsub::Event;
use crate::reactor::id::ConnId;
use crate::reactor::observers::ObserverId;
use crate::reactor::reactor::{Observe, Reactor, Users};

use crate::hub::engine::Engine;

use super::identity;

/// The front of the topics.
pub(super) const TOPIC: &str = "action_cable/";

/// The code with which a connection is closed that the backend has ended.
const NORMAL: u16 = 1000;

struct Named {
    /// `None` where the name is too long for a topic.
    observer: Option<ObserverId>,
    connections: Vec<ConnId>,
}

/// The connections of a reactor by their names.
#[derive(Clone, Default)]
pub(super) struct RemoteConnections(Rc<RefCell<HashMap<Rc<str>, Named>>>);

impl RemoteConnections {
    /// A connection has a name from now on.
    pub(super) fn add<S: 'static>(
        &self,
        engine: &Engine<S>,
        reactor: &mut Reactor<S>,
        id: ConnId,
        name: &Rc<str>,
    ) {
        if let Some(named) = self.0.borrow_mut().get_mut(name) {
            named.connections.push(id);
            return;
        }
        let (all, of) = (self.clone(), Rc::clone(name));
        let observe: Observe<S> = Rc::new(move |reactor, _, _, event| {
            if let Some(reconnects) = disconnect_of(event) {
                all.end(reactor, &of, reconnects);
            }
        });
        let observer = engine.observe(reactor, &format!("{TOPIC}{name}"), observe);
        if let Err(error) = &observer {
            log::warn!("conn {id}: the backend cannot end it by its identifiers: {error}");
        }
        let named = Named {
            observer: observer.ok(),
            connections: vec![id],
        };
        self.0.borrow_mut().insert(Rc::clone(name), named);
    }

    /// A connection has ended.
    pub(super) fn remove<S: 'static>(&self, reactor: &mut Reactor<S>, id: ConnId, name: &str) {
        let mut names = self.0.borrow_mut();
        let Some(named) = names.get_mut(name) else {
            return;
        };
        named.connections.retain(|other| *other != id);
        if named.connections.is_empty() {
            if let Some(observer) = named.observer {
                reactor.end_observation(&format!("{TOPIC}{name}"), observer);
            }
            names.remove(name);
        }
    }

    /// Ends the connections of a name.
    pub(super) fn end<S: 'static>(&self, reactor: &mut Reactor<S>, name: &str, reconnects: bool) {
        for id in Users::<S>::connections_of(self, name) {
            end(reactor, id, reconnects);
        }
    }
}

fn end<S: 'static>(reactor: &mut Reactor<S>, id: ConnId, reconnects: bool) -> bool {
    reactor.send(id, message::disconnect(Reason::Remote, reconnects));
    reactor.close_with(id, NORMAL, "").is_queued()
}

/// The order to disconnect the connections with these identifiers, an object of JSON, as Rails publishes it: the topic, and
/// the message. `None` where they name no connection.
pub(super) fn order(identifiers: &str, reconnects: bool) -> Option<(String, String)> {
    let name = identity::connection_name(identifiers)?;
    let order = format!("{{\"type\":\"disconnect\",\"reconnect\":{reconnects}}}");
    Some((format!("{TOPIC}{name}"), order))
}

/// Whether clients are to come back, where an event is the order to disconnect them.
fn disconnect_of(event: &Event<'_>) -> Option<bool> {
    let text = event.payload().to_text();
    let [kind, reconnect] = json::fields(&text, &["type", "reconnect"]).ok()?;
    if kind.and_then(json::string).as_deref() != Some("disconnect") {
        return None;
    }
    // Before Rails 7.1 there is no such field, and clients come back.
    Some(reconnect.is_none_or(|it| it.get() != "false"))
}

/// The user is the name of connections.
impl<S: 'static> Users<S> for RemoteConnections {
    fn connections_of(&self, user: &str) -> Vec<ConnId> {
        let names = self.0.borrow();
        let named = names.get(user);
        named.map(|it| it.connections.clone()).unwrap_or_default()
    }

    fn disconnect(&self, reactor: &mut Reactor<S>, id: ConnId) -> bool {
        end(reactor, id, false)
    }

    // A client has subscriptions by their identifiers.
    fn unsubscribe(&self, _: &mut Reactor<S>, _: ConnId, _: &str) -> bool {
        false
    }
}
