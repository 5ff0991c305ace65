//! Topics for every transport: WebSocket, Server-Sent Events and POST on one router.
//!
//! [`mount`] adds the hub's routes to a [`Router`]:
//!
//! | route | what |
//! |---|---|
//! | `GET /` | the demo page |
//! | `GET /ws` | each text message is a topic or a pattern; what is published arrives as it is. With subprotocol [`SUBPROTOCOL`]: JSON both ways |
//! | `GET /events?topic=a&topic=b.*` | Server-Sent Events |
//! | `POST /publish?topic=a` | the body is the message; answers its id and how many got it |
//! | `GET /healthz`, `GET /readyz` | alive; ready, which ends when draining begins |
//!
//! Who may: anyone may subscribe to a topic by its name. Publishing and patterns need the token,
//! unless the hub is open. Pages of other origins are refused unless they are listed, and a hub on
//! a loopback address answers only to loopback names, so that no website can drive a hub on its
//! reader's own machine.
//!
//! Several reactors, each on a core of its own, are one hub with a [`ReactorGroup`].

mod access;
mod client;
mod events;
mod grammar;
mod group;
mod json;
mod page;
mod publish;
mod socket;
mod subscribe;

use std::rc::Rc;

use crate::protocol::http::Status;
use crate::pubsub::{self, Event};
use crate::reactor::reactor::Reactor;
use crate::reactor::topics::Published;
use crate::server::log_limit::{LogLimit, shown};
use crate::server::origins::Origins;
use crate::server::reply::Reply;
use crate::server::request::Request;
use crate::server::router::Router;

use self::grammar::Grammar;
use self::publish::Publisher;

pub use self::access::Access;
pub use self::grammar::envelope::SUBPROTOCOL;
pub use self::group::{GroupSeat, Overloaded, ReactorGroup};

/// Adds the hub's routes to a router.
///
/// They publish to the members of this reactor; [`GroupSeat::mount`] is for those of several.
pub fn mount<S: 'static>(router: &mut Router<S>, access: &Access) {
    mount_at(router, access, Publisher::local());
}

impl<S: 'static> GroupSeat<S> {
    /// Adds the hub's routes to a router, as [`mount`] does; they publish to the members of all
    /// reactors, and `POST /publish` is answered when all have it.
    pub fn mount(&self, router: &mut Router<S>, access: &Access) {
        mount_at(router, access, Publisher::group(self.clone()));
    }
}

fn mount_at<S: 'static>(router: &mut Router<S>, access: &Access, publisher: Publisher<S>) {
    router.origins(Origins::Listed {
        origins: access.origins.clone(),
        absent: true,
    });
    router.gate.setting = access.origins_setting();
    let names = access.clone();
    let mut refused_host = LogLimit::default();
    router.guard(move |request| check_host(request, &names, &mut refused_host));

    router.get("/", |request| request.reply(page::page()));
    router.get("/healthz", |request| request.reply("ok\n"));
    router.get("/readyz", |request| match request.reactor.is_draining() {
        false => request.reply("ready\n"),
        true => request.reply((Status::SERVICE_UNAVAILABLE, "draining\n")),
    });
    let rights = access.clone();
    router.get("/events", move |request| events::events(request, &rights));
    let publisher = Rc::new(publisher);
    let (rights, post_publisher) = (access.clone(), Rc::clone(&publisher));
    router.post("/publish", move |request| {
        publish::publish(request, &rights, &post_publisher)
    });
    let rights = access.clone();
    router.websocket("/ws", move |ws| {
        socket::set_up(ws, &[Grammar::Envelope, Grammar::Plain], rights, publisher);
    });
}

fn check_host<S: 'static>(
    request: &Request<'_, '_, S>,
    access: &Access,
    refused_host: &mut LogLimit,
) -> Result<(), Reply> {
    let Some(host) = request.host().filter(|host| !access.serves(host)) else {
        return Ok(());
    };
    if let Some(suppressed) = refused_host.is_due(request.reactor.now()) {
        let (host, setting) = (truncate(host), access.origins_setting());
        log::warn!(
            "refused a request for host {host:?} on a loopback address; {setting} http://{host} allows it{suppressed}"
        );
    }
    Err((
        Status::FORBIDDEN,
        "this name is not served on a loopback address\n",
    )
        .into())
}
