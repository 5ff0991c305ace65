//! A Mercure hub on the hub's topics: `/.well-known/mercure`, where backends publish updates by a form and subscribers get them
//! as an event stream.
//!
//! The hub's topic of Mercure's topic `T` is `mercure:T`, and `mercure-private:T` for private updates. So clients of all transports hear it, and the reverse. An update with several topics is published to
//! each; a subscriber of Mercure gets it once.
//!
//! ```text
//!   mod               the routes
//!    ├─ publish       POST: updates of publishers
//!    ├─ stream        GET: event streams of subscribers
//!    │   ├─ wanted         the parameters of a request for a stream
//!    │   ├─ cursor         the place that the id of an event stands for
//!    │   └─ active         its subscriptions, where they are listed
//!    ├─ subscriptions      documents about active subscriptions, and updates when they begin and end
//!    ├─ authorize     tokens of requests, and refusals
//!    │   └─ claims         what a token grants
//!    ├─ state         the subscribers of a hub on a reactor
//!    ├─ words         how publications are worded
//!    ├─ view          who sees which update
//!    ├─ rules         the rules of the hub's topics
//!    ├─ topic         their names
//!    ├─ listed        the active subscriptions of a node
//!    └─ options       keys and options
//! ```

mod active;
mod authorize;
mod claims;
mod cursor;
mod listed;
pub(super) mod options;
mod publish;
mod rules;
pub(super) mod state;
mod stream;
mod subscriptions;
mod topic;
mod view;
mod wanted;
mod words;

use std::rc::Rc;

use crate::protocol::mercure::subscription::SUBSCRIPTIONS;
use crate::protocol::mercure::{LINK, PATH};
use crate::server::request::Request;
use crate::server::router::Router;

use super::access::Access;
use super::parts::Parts;

pub use self::options::MercureOptions;
#[cfg(feature = "cable")]
pub(super) use self::rules::public_rule;
pub(super) use self::rules::with_rules;

/// Whether pages of listed origins may send requests to a path with the cookies of the server.
fn shares_cookies(path: &str) -> bool {
    let rest = path.strip_prefix(PATH);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Answers a request that may not publish before its body is read.
pub(super) fn check_head<S: 'static>(
    path: &str,
    request: &mut Request<'_, '_, S>,
    access: &Access,
    hub: &Parts<S>,
) {
    if path == PATH
        && request.method() == "POST"
        && let Some(options) = &hub.options.mercure
    {
        publish::check_head(request, access, hub, options);
    }
}

/// Adds the routes to a router, where there is a Mercure hub.
pub(super) fn mount<S: 'static>(router: &mut Router<S>, hub: &Rc<Parts<S>>, access: &Rc<Access>) {
    let Some(options) = hub.options.mercure.clone().map(Rc::new) else {
        return;
    };
    router.default_header("Link", LINK);
    router.origin_check_mut().shares_cookies = shares_cookies;
    let parts = Rc::clone(hub);
    router.when_listening(move |reactor| parts.engine.hear_orders(reactor));
    let add =
        |options: &Rc<MercureOptions>| (Rc::clone(options), Rc::clone(hub), Rc::clone(access));
    let (own, parts, rights) = add(&options);
    router.get(PATH, move |request| {
        stream::subscribe(request, &rights, &parts, &own)
    });
    let (own, parts, rights) = add(&options);
    router.post(PATH, move |request| {
        publish::publish(request, &rights, &parts, &own)
    });
    if options.has_subscriptions {
        let (own, parts, rights) = add(&options);
        router.get(&format!("{SUBSCRIPTIONS}/*"), move |request| {
            subscriptions::list(request, &rights, &parts, &own)
        });
    }
}
