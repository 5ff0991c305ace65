//! The state of a hub for Pusher Channels on one reactor.

use std::rc::Rc;

use super::app::{PusherApp, PusherApps};
use super::registry::Registry;

/// The apps of a hub, and their connections on one reactor.
pub(crate) struct Pusher {
    apps: PusherApps,
    registry: Rc<Registry>,
}

impl Pusher {
    pub(crate) fn new(apps: &[PusherApp]) -> Pusher {
        Pusher {
            apps: PusherApps::new(apps),
            registry: Rc::default(),
        }
    }

    pub(super) fn apps(&self) -> &PusherApps {
        &self.apps
    }

    pub(super) fn registry(&self) -> &Rc<Registry> {
        &self.registry
    }
}
