//! Pusher Channels on the hub's topics: `GET /app/KEY` for clients, and the HTTP API below `/apps/ID` for backends.
//!
//! Channel `c` of the app with id `a` is the topic `pusher:a:c`. So clients of all transports hear what a backend
//! triggers, and the reverse; a topic of a private, encrypted or presence channel is private.
//!
//! ```text
//!   mod         the routes
//!    ├─ socket  a client on a WebSocket
//!    ├─ api     requests of backends
//!    ├─ topic   the topics of channels, and what is published there as an event
//!    └─ app     the apps: keys, secrets and options
//! ```

mod api;
mod app;
mod socket;
mod topic;

use std::rc::Rc;

use crate::server::router::Router;

use super::parts::Parts;
use app::PusherApps;

pub use self::app::{PusherApp, PusherAppError};
pub(super) use self::topic::with_rules;

/// Whether pages of any origin may send requests to a path: the apps check origins themselves.
pub(super) fn is_path(path: &str) -> bool {
    path.starts_with("/app/") || path.starts_with("/apps/")
}

/// Adds the routes of the apps to a router. Without apps there are none.
pub(super) fn mount<S: 'static>(router: &mut Router<S>, hub: &Rc<Parts<S>>) {
    if hub.options.pusher_apps.is_empty() {
        return;
    }
    let apps = Rc::new(PusherApps::new(&hub.options.pusher_apps));
    let sockets = Rc::default();
    socket::add_routes(router, hub, &apps, &sockets);
    api::add_routes(router, hub, &apps, &sockets);
}
