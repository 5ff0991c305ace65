//! Pusher Channels on the hub's topics: `GET /app/KEY` for clients, and the HTTP API below `/apps/ID` for backends.
//!
//! Channel `c` of the app with id `a` is the topic `pusher:a:c`. So clients of all transports hear what a backend
//! triggers, and the reverse; a topic of a private, encrypted or presence channel is private.
//!
//! ```text
//!   mod               the routes
//!    ├─ socket        a client on a WebSocket
//!    │   ├─ subscription   its channels
//!    │   ├─ sign_in        its user
//!    │   ├─ client_event   its events for other clients, at the event_rate that is allowed
//!    │   └─ client         its socket id and user
//!    ├─ api           requests of backends
//!    ├─ authorize     signatures for pages with a token of the hub
//!    ├─ occupancy     who comes and goes
//!    │   └─ webhook        requests that tell backends of it
//!    ├─ state         the apps of a hub, and their users
//!    ├─ registry      the connections of users
//!    ├─ topic         the topics of channels, and their rules
//!    ├─ words         how their publications and notices are worded
//!    └─ app           the apps: keys, secrets and options
//! ```

mod api;
pub(super) mod app;
mod authorize;
mod client;
mod client_event;
mod event_rate;
mod occupancy;
mod registry;
mod sign_in;
mod socket;
pub(super) mod state;
mod subscription;
mod topic;
mod webhook;
mod words;

use std::rc::Rc;

use crate::server::router::Router;

use super::access::Access;
use super::parts::Parts;
use registry::Registry;

pub use self::app::{PusherApp, PusherAppError};
#[cfg(feature = "cable")]
pub(super) use self::topic::public_rule;
pub(super) use self::topic::with_rules;

/// Whether pages of any origin may send requests to a path: the apps check origins themselves.
pub(super) fn is_path(path: &str) -> bool {
    path.starts_with("/app/") || path.starts_with("/apps/")
}

/// Adds the routes of the apps to a router. Without apps there are none.
pub(super) fn mount<S: 'static>(router: &mut Router<S>, hub: &Rc<Parts<S>>, access: &Rc<Access>) {
    if hub.options.pusher_apps.is_empty() {
        return;
    }
    let parts = Rc::clone(hub);
    router.when_listening(move |reactor| {
        parts.engine.hear_orders(reactor);
        let mut apps = parts.options.pusher_apps.iter();
        if apps.any(|app| app.tells_counts() || !app.webhooks().is_empty()) {
            occupancy::watch(&parts, reactor);
        }
        reactor.add_users(Rc::<Registry>::clone(parts.pusher.registry()) as _);
    });
    socket::add_routes(router, hub);
    api::add_routes(router, hub);
    authorize::add_routes(router, hub, access);
}
