//! A client: its subscriptions, and its identity.

use std::rc::Rc;

use super::identifiers::Number;

/// The streams of a subscription.
pub(super) type Streams = Rc<[Box<str>]>;

/// A subscription of a client.
#[derive(Clone, Debug)]
pub(super) struct Subscription {
    pub(super) number: Number,
    /// The engine has confirmed it, and the client knows.
    pub(super) is_confirmed: bool,
    pub(super) streams: Streams,
}

/// A client that was greeted.
#[derive(Default)]
pub(super) struct Client {
    subscriptions: Vec<Subscription>,
    /// The name by which a backend knows the connection, where it has one.
    name: Option<Rc<str>>,
}

impl Client {
    pub(super) fn new(name: Option<Rc<str>>) -> Client {
        Client {
            subscriptions: Vec::new(),
            name,
        }
    }

    pub(super) fn name(&self) -> Option<&Rc<str>> {
        self.name.as_ref()
    }

    pub(super) fn subscriptions(&self) -> &[Subscription] {
        &self.subscriptions
    }

    pub(super) fn find(&self, number: Number) -> Option<&Subscription> {
        self.subscriptions.iter().find(|it| it.number == number)
    }

    pub(super) fn find_mut(&mut self, number: Number) -> Option<&mut Subscription> {
        self.subscriptions.iter_mut().find(|it| it.number == number)
    }

    pub(super) fn add(&mut self, subscription: Subscription) {
        // Most clients have one or two.
        if self.subscriptions.len() == self.subscriptions.capacity() {
            self.subscriptions
                .reserve_exact(1 + self.subscriptions.len() / 2);
        }
        self.subscriptions.push(subscription);
    }

    pub(super) fn remove(&mut self, number: Number) -> Option<Subscription> {
        let index = self
            .subscriptions
            .iter()
            .position(|it| it.number == number)?;
        Some(self.subscriptions.swap_remove(index))
    }
}
