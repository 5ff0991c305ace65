//! The connections of all apps on a reactor that have signed in, by their user.

use std::cell::RefCell;
use std::collections::HashMap;

use crate::protocol::pusher::{code, message};
use crate::reactor::id::ConnId;
use crate::reactor::reactor::{Reactor, Users};

use crate::hub::subscribe::unsubscribe_name;

/// The connections of a hub on one reactor that have signed in.
#[derive(Default)]
pub(crate) struct Registry {
    /// By [`user_key`].
    by_user: RefCell<HashMap<Box<str>, Vec<ConnId>>>,
}

/// The name of a user among those of all apps, and of the hub's own.
pub(super) fn user_key(app_id: &str, user: &str) -> String {
    format!("pusher:{app_id}:{user}")
}

impl Registry {
    /// A connection has signed in.
    pub(super) fn sign_in(&self, user_key: &str, id: ConnId) {
        let mut users = self.by_user.borrow_mut();
        users.entry(user_key.into()).or_default().push(id);
    }

    /// A connection that has signed in has ended.
    pub(super) fn sign_out(&self, user_key: &str, id: ConnId) {
        let mut users = self.by_user.borrow_mut();
        if let Some(connections) = users.get_mut(user_key) {
            connections.retain(|other| *other != id);
            if connections.is_empty() {
                users.remove(user_key);
            }
        }
    }
}

/// The user is a [`user_key`].
impl<S: 'static> Users<S> for Registry {
    fn connections_of(&self, user: &str) -> Vec<ConnId> {
        let users = self.by_user.borrow();
        users.get(user).cloned().unwrap_or_default()
    }

    fn disconnect(&self, reactor: &mut Reactor<S>, id: ConnId) -> bool {
        let why = "disconnected by the backend";
        reactor.send(id, message::error(code::UNAUTHORIZED, why, None));
        reactor.close_with(id, code::UNAUTHORIZED, why).is_queued()
    }

    fn unsubscribe(&self, reactor: &mut Reactor<S>, id: ConnId, name: &str) -> bool {
        unsubscribe_name(reactor, id, name)
    }
}
