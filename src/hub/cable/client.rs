//! A client: its subscriptions, and its identity.

use std::rc::Rc;

use super::hooked::Hooked;
use super::identifiers::Number;

/// The streams of a subscription.
pub(super) type Streams = Rc<[Box<str>]>;

/// The kinds of subscriptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// To a stream.
    Stream,
    /// To a stream to which the client may whisper.
    Whispering,
    /// To a channel of the application.
    OfHook,
}

/// A subscription of a client.
#[derive(Clone, Debug)]
pub(super) struct Subscription {
    pub(super) number: Number,
    /// The engine has confirmed it, and the client knows.
    pub(super) is_confirmed: bool,
    /// Its channel is one of the application.
    pub(super) is_of_hook: bool,
    /// The client may whisper to the others of its stream.
    pub(super) has_whispers: bool,
    /// Tells it from an earlier one with the same identifier.
    pub(super) serial: u32,
    /// Those that the client is a member of.
    pub(super) streams: Streams,
}

/// A client that was greeted.
#[derive(Default)]
pub(super) struct Client {
    subscriptions: Vec<Subscription>,
    /// The name by which a backend knows the connection, where it has one.
    name: Option<Rc<str>>,
    /// Its state for the calls of the hook, where there is one.
    hooked: Option<Rc<Hooked>>,
    last_serial: u32,
}

impl Client {
    pub(super) fn new(name: Option<Rc<str>>, hooked: Option<Rc<Hooked>>) -> Client {
        Client {
            subscriptions: Vec::new(),
            name,
            hooked,
            last_serial: 0,
        }
    }

    pub(super) fn hooked(&self) -> Option<&Rc<Hooked>> {
        self.hooked.as_ref()
    }

    pub(super) fn set_name(&mut self, name: Rc<str>) {
        self.name = Some(name);
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

    /// Adds a pending subscription, and returns its serial number.
    pub(super) fn add(&mut self, number: Number, kind: Kind) -> u32 {
        self.last_serial = self.last_serial.wrapping_add(1);
        let subscription = Subscription {
            number,
            is_confirmed: false,
            is_of_hook: kind == Kind::OfHook,
            has_whispers: kind == Kind::Whispering,
            serial: self.last_serial,
            streams: Streams::from([]),
        };
        // Most clients have one or two.
        if self.subscriptions.len() == self.subscriptions.capacity() {
            self.subscriptions
                .reserve_exact(1 + self.subscriptions.len() / 2);
        }
        self.subscriptions.push(subscription);
        self.last_serial
    }

    pub(super) fn remove(&mut self, number: Number) -> Option<Subscription> {
        let index = self
            .subscriptions
            .iter()
            .position(|it| it.number == number)?;
        Some(self.subscriptions.swap_remove(index))
    }
}
