//! ActionCable on the hub's topics: `GET /cable` for the clients of Rails.
//!
//! A stream is the topic of its name, so clients of all transports hear what Rails broadcasts, and the reverse. Names
//! of streams are signed by the application, which is why a topic that no rule names is private.
//!
//! ```text
//!   mod               the routes and the rules
//!    ├─ socket        a client on a WebSocket
//!    │   ├─ identity       who it is
//!    │   └─ commands       what it asks for
//!    │       ├─ channels       channels of the application: calls, and what their answers ask for
//!    │       │   ├─ hooked         a connection, as calls tell of it
//!    │       │   └─ hook           the requests of calls
//!    │       ├─ extended       presence and whispers, and places in streams
//!    │       ├─ subscription   its subscriptions: begin, confirm, end
//!    │       │   └─ streams        two of them to one stream
//!    │       └─ client         what is kept of it
//!    ├─ broadcast     a backend's broadcasts in AnyCable's words
//!    ├─ remote        connections that a backend ends
//!    ├─ pings         the pings that clients need
//!    ├─ state         all of a reactor
//!    ├─ identifiers   the identifiers of subscriptions, and how a broadcast is encoded for them
//!    └─ keys          keys: which stream an identifier names
//!        └─ options
//! ```

mod broadcast;
mod channels;
mod client;
mod commands;
mod extended;
mod hook;
mod hooked;
mod identifiers;
mod identity;
mod keys;
mod options;
mod pings;
mod remote;
mod socket;
pub(super) mod state;
mod streams;
mod subscription;

use std::rc::Rc;

use crate::pubsub::{Rule, Rules};
use crate::reactor::reactor::Users;
use crate::server::reply::Reply;
use crate::server::request::Request;
use crate::server::router::Router;

use super::access::Access;
use super::parts::{HubOptions, Parts};

pub use self::hook::CableHook;
pub use self::options::CableOptions;

/// The answer to a page of an origin that is not allowed, where a path has one of its own.
pub(super) fn refusal_of(path: &str) -> Option<Reply> {
    (path == socket::PATH).then(socket::not_found)
}

/// Makes topics private that no rule names: with ActionCable a stream is for clients that have its signed name.
pub(super) fn with_rules(mut options: HubOptions) -> HubOptions {
    let Some(cable) = &options.cable else {
        return options;
    };
    let is_open = cable.is_open;
    let private = Rule {
        is_private: true,
        ..Rule::default()
    };
    let mut all = Rules::new();
    // Orders of backends to the hub are for no client, and whispers for those of ActionCable.
    let of_backends = [
        broadcast::TOPIC.to_owned(),
        format!("{}*", remote::TOPIC),
        format!("{}*", extended::WHISPERS),
    ];
    for pattern in of_backends {
        let unkept = Rule {
            history_count: 0,
            ..private.clone()
        };
        all.add(&pattern, unkept)
            .expect("the pattern and the rule are valid");
    }
    let own = options.rules.iter();
    let mut rules: Vec<(String, Rule)> = own
        .map(|(pattern, rule)| (pattern.to_owned(), rule.clone()))
        .collect();
    if !is_open {
        #[cfg(feature = "pusher")]
        rules.extend(super::pusher::public_rule(&options));
        #[cfg(feature = "mercure")]
        rules.extend(super::mercure::public_rule(&options));
        rules.push(("*".to_owned(), private));
    }
    for (pattern, rule) in rules {
        if let Err(error) = all.add(&pattern, rule) {
            log::error!("the rule of {pattern:?} does not hold: {error}");
        }
    }
    options.rules = all;
    options
}

/// Refuses a request that may not broadcast, before its body is read.
pub(super) fn check_head<S: 'static>(
    path: &str,
    request: &mut Request<'_, '_, S>,
    access: &Access,
    hub: &Parts<S>,
) {
    broadcast::check_head(path, request, access, hub);
}

/// Adds the routes to a router. Without the options there are none.
pub(super) fn mount<S: 'static>(router: &mut Router<S>, hub: &Rc<Parts<S>>, access: &Rc<Access>) {
    let Some(cable) = &hub.cable else {
        return;
    };
    let (parts, of_reactor) = (Rc::clone(hub), Rc::clone(cable));
    router.when_listening(move |reactor| {
        parts.engine.hear_orders(reactor);
        parts.engine.share_presence(reactor);
        reactor.add_users(Rc::new(of_reactor.remote().clone()) as Rc<dyn Users<S>>);
        if parts.engine.hears_other_programs() && of_reactor.begins_to_hear() {
            broadcast::hear(&parts, reactor);
        }
    });
    socket::add_routes(router, hub, cable, access);
    broadcast::add_routes(router, hub, cable, access);
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::hub::Hub;
    use crate::reactor::sim::Sim;

    #[test]
    fn a_client_that_has_ended_leaves_no_state() {
        let hub = Hub::<()>::new(HubOptions {
            cable: Some(CableOptions {
                is_open: true,
                ..CableOptions::default()
            }),
            ..HubOptions::default()
        });
        let parts = Rc::clone(&hub.parts);
        let mut sim = Sim::new((), |reactor| {
            reactor.http("0.0.0.0:80", |router| hub.mount(router, &Access::default()))
        });
        let cable = parts.cable.as_ref().unwrap();
        let client = sim.websocket("/cable");
        for tab in 1..=3 {
            let identifier =
                format!(r#"{{\"channel\":\"$pubsub\",\"stream_name\":\"s\",\"tab\":{tab}}}"#);
            client.send(format!(
                r#"{{"command":"subscribe","identifier":"{identifier}"}}"#
            ));
        }
        sim.settle();
        assert_eq!(cable.identifiers().borrow().len(), 3);
        assert!(!cable.further().is_empty() && !cable.clients().is_empty());
        client.vanish();
        sim.settle();
        assert_eq!(cable.identifiers().borrow().len(), 0);
        assert!(cable.further().is_empty() && cable.clients().is_empty());
    }
}
