//! The active subscriptions of all reactors of a node.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::protocol::mercure::subscription::Subscription;

/// The subscriptions of each subscriber, by its IRI.
type BySubscriber = HashMap<Box<str>, Arc<[Subscription]>>;

/// The active subscriptions, as lists show them. A clone is the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Listed(Arc<Mutex<BySubscriber>>);

impl Listed {
    /// Adds a subscriber.
    pub(super) fn add(&self, subscriber: &str, subscriptions: &Arc<[Subscription]>) {
        self.lock()
            .insert(subscriber.into(), Arc::clone(subscriptions));
    }

    /// Removes a subscriber.
    pub(super) fn remove(&self, subscriber: &str) {
        self.lock().remove(subscriber);
    }

    /// The subscriptions for which `is_wanted` is true.
    pub(super) fn list(&self, is_wanted: impl Fn(&Subscription) -> bool) -> Vec<Subscription> {
        let all = self.lock();
        let all = all.values().flat_map(|it| it.iter());
        all.filter(|it| is_wanted(it)).cloned().collect()
    }

    // No caller panics with the lock.
    fn lock(&self) -> MutexGuard<'_, BySubscriber> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
