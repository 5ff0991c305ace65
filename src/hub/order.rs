//! Orders of a back end about a user: carried out on each reactor that has connections of the user.

use crate::reactor::reactor::Reactor;

/// An order about a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Closes the connections of a user.
    Disconnect { user: String },
    /// Ends the subscriptions of a user to a topic, or to a pattern where the name is one.
    Unsubscribe { user: String, name: String },
}

impl Order {
    /// Carries it out on this reactor. Returns how many connections or subscriptions there were.
    pub(super) fn carry_out<S: 'static>(&self, reactor: &mut Reactor<S>) -> usize {
        let mut count = 0;
        for users in reactor.users() {
            match self {
                Order::Disconnect { user } => {
                    for id in users.connections_of(user) {
                        count += usize::from(users.disconnect(reactor, id));
                    }
                }
                Order::Unsubscribe { user, name } => {
                    for id in users.connections_of(user) {
                        count += usize::from(users.unsubscribe(reactor, id, name));
                    }
                }
            }
        }
        count
    }
}
