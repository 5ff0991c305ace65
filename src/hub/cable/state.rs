//! The state of a hub for ActionCable on one reactor.

use std::cell::{Cell, RefCell, RefMut};
use std::rc::Rc;

use crate::reactor::id::ConnMap;

use super::client::Client;
use super::hook::Calls;
use super::identifiers::SharedIdentifiers;
use super::keys::Keys;
use super::options::CableOptions;
use super::pings::Pings;
use super::remote::RemoteConnections;
use super::streams::FurtherSubscriptions;

/// The keys of a hub, and its clients on one reactor.
pub(crate) struct Cable<S: 'static> {
    keys: Keys,
    is_open: bool,
    clients: RefCell<ConnMap<Client>>,
    identifiers: SharedIdentifiers,
    further: FurtherSubscriptions,
    remote: RemoteConnections,
    pings: Pings,
    /// Calls of the application, where it has a hook.
    calls: Option<Rc<Calls<S>>>,
    /// Broadcasts of backends in Redis are heard.
    is_hearing: Cell<bool>,
}

impl<S: 'static> Cable<S> {
    pub(crate) fn new(options: &CableOptions) -> Cable<S> {
        Cable {
            keys: Keys::new(options),
            is_open: options.is_open,
            clients: RefCell::default(),
            identifiers: SharedIdentifiers::default(),
            further: FurtherSubscriptions::default(),
            remote: RemoteConnections::default(),
            pings: Pings::default(),
            calls: options.hook.as_ref().map(|hook| Rc::new(Calls::new(hook))),
            is_hearing: Cell::new(false),
        }
    }

    /// Notes that broadcasts of backends are heard. Returns whether they were not.
    pub(super) fn begins_to_hear(&self) -> bool {
        !self.is_hearing.replace(true)
    }

    pub(super) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Whether clients may subscribe by plain names.
    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    pub(super) fn clients(&self) -> RefMut<'_, ConnMap<Client>> {
        self.clients.borrow_mut()
    }

    pub(super) fn identifiers(&self) -> &SharedIdentifiers {
        &self.identifiers
    }

    pub(super) fn further(&self) -> &FurtherSubscriptions {
        &self.further
    }

    pub(super) fn remote(&self) -> &RemoteConnections {
        &self.remote
    }

    pub(super) fn calls(&self) -> Option<&Rc<Calls<S>>> {
        self.calls.as_ref()
    }

    pub(super) fn pings(&self) -> &Pings {
        &self.pings
    }
}
