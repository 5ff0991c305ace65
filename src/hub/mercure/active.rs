//! The subscriptions of one stream, where they are listed.

use std::cell::Cell;
use std::sync::Arc;

use crate::hub::parts::Parts;
use crate::protocol::mercure::selector::Selector;
use crate::protocol::mercure::subscription::Subscription;
use crate::reactor::reactor::Reactor;

use super::claims::Grants;
use super::listed::Listed;
use super::options::MercureOptions;
use super::publish::new_iri;
use super::subscriptions;

/// The subscriptions of a stream, where they are listed.
pub(super) struct Active {
    listed: Listed,
    /// One for each selector.
    all: Arc<[Subscription]>,
    subscriber: String,
    /// Others know that they have begun.
    is_announced: Cell<bool>,
}

impl Active {
    /// `None` where they are not listed.
    pub(super) fn new(
        selectors: &[Selector],
        grants: &Grants,
        options: &MercureOptions,
    ) -> Option<Active> {
        if !options.has_subscriptions {
            return None;
        }
        let subscriber = new_iri();
        let all = selectors.iter().map(|selector| Subscription {
            selector: selector.text().to_owned(),
            subscriber: subscriber.clone(),
            payload: grants.payload(selector).map(str::to_owned),
        });
        Some(Active {
            listed: options.listed().clone(),
            all: all.collect(),
            subscriber,
            is_announced: Cell::new(false),
        })
    }

    /// Lists them.
    pub(super) fn begin(&self) {
        self.listed.add(&self.subscriber, &self.all);
    }

    /// Publishes that they have begun.
    pub(super) fn announce<S: 'static>(&self, hub: &Parts<S>, reactor: &mut Reactor<S>) {
        self.is_announced.set(true);
        subscriptions::announce(hub, reactor, &self.all, true);
    }

    /// Removes them from the list, and publishes that they have ended.
    pub(super) fn end<S: 'static>(&self, hub: &Parts<S>, reactor: &mut Reactor<S>) {
        self.listed.remove(&self.subscriber);
        if self.is_announced.get() {
            subscriptions::announce(hub, reactor, &self.all, false);
        }
    }
}
