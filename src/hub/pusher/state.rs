//! The state of a hub for Pusher Channels on one reactor.

use std::rc::Rc;

use super::app::{PusherApp, PusherApps};
use super::registry::Registry;
use super::webhook::Webhooks;

/// The apps of a hub, and their connections on one reactor.
pub(crate) struct Pusher<S: 'static> {
    apps: PusherApps,
    registry: Rc<Registry>,
    webhooks: Webhooks<S>,
}

impl<S: 'static> Pusher<S> {
    pub(crate) fn new(apps: &[PusherApp]) -> Pusher<S> {
        Pusher {
            apps: PusherApps::new(apps),
            registry: Rc::default(),
            webhooks: Webhooks::new(apps),
        }
    }

    pub(super) fn webhooks(&self) -> &Webhooks<S> {
        &self.webhooks
    }

    pub(super) fn apps(&self) -> &PusherApps {
        &self.apps
    }

    pub(super) fn registry(&self) -> &Rc<Registry> {
        &self.registry
    }
}
