//! Topics for every transport: WebSocket, Server-Sent Events and POST on one router.
//!
//! [`mount`] adds the hub's routes to a [`Router`]:
//!
//! | route | what |
//! |---|---|
//! | `GET /` | the demo page |
//! | `GET /waterwheel.js`, `GET /waterwheel.d.ts` | the browser client: a module that resumes after each break, and its types |
//! | `GET /ws` | each text message is a topic or a pattern; the data of a publication arrives as one message. With subprotocol [`SUBPROTOCOL`]: JSON both ways |
//! | `GET /events?topic=a&topic=b.*` | Server-Sent Events |
//! | `GET /poll?topic=a&since=CURSOR` | long polling: the messages behind a cursor, or the first that comes |
//! | `POST /publish?topic=a&topic=b` | the body is the message; answers, for each topic, its id and how many got it |
//! | `POST /publish/batch` | an array of messages, all of which are published or none |
//! | `GET /topics`, `GET /topics/NAME` | the topics that have members or history |
//! | `POST /disconnect?user=U`, `POST /unsubscribe?user=U&topic=T` | end what a user has, by the name in its token |
//! | `GET /metrics` | counters for Prometheus; needs the token as publishing does |
//! | `GET /presence?topic=a` | the users that are members of a topic |
//! | `GET /healthz`, `GET /readyz` | alive; ready, which ends when draining begins |
//!
//! A client that comes back with a cursor gets what it has missed, as far as the [`Rules`] of its topics keep it, or is
//! told of a gap.
//!
//! Rights: anybody may subscribe to a topic by its name, unless its rule is private. Private topics, publishing
//! and patterns need a publish token or a JSON Web Token that grants them, unless the hub is open. Pages of other
//! origins are refused unless they are listed. A hub on a loopback address serves only loopback names, which
//! prevents DNS rebinding.
//!
//! Several reactors, each on a core of its own, are one hub with a [`ReactorGroup`].

// The floor, from the routes down. A file uses those below it and none above it.
//
//   mod        mounts: the table of routes, and the checks that come before every route
//    ├─ page                   GET /
//    ├─ files                  GET /waterwheel.js and its types
//    ├─ events                 GET /events
//    ├─ poll                   GET /poll
//    ├─ presence               GET /presence; joins members of topics with presence
//    ├─ metrics                GET /metrics; its text in exposition, the process in process
//    ├─ topics                 GET /topics
//    ├─ users                  POST /disconnect, POST /unsubscribe
//    ├─ batch                  POST /publish/batch
//    ├─ publish                POST /publish; with an Idempotency-Key by once, which asks idempotency
//    └─ socket                 GET /ws: keeps the grammar and the rights of each connection
//        └─ grammar/mod        the enum of grammars: passes every call on to a file
//            └─ grammar/plain, envelope    reads and words the messages of one grammar
//                └─ client     what a grammar may do for its client; checks the rights
//                    └─ engine/mod     orders, numbers and stores publications; see its picture
//                        └─ engine/local, engine/group
//
//   at the bottom: parts (of one hub), guesses (wrong credentials), identities (whose connection it is, and until
//   when), rights (what a credential grants), access (the rules of a listener), tokens, secrets and jwt,
//   subscribe (topic or pattern)
//
// A message on a WebSocket goes socket -> grammar -> client -> engine. Answers that come in a later
// turn go to the closure that was handed to the engine. Only the engine asks which one it is.
//
// To add a grammar on WebSockets, such as Pusher's:
// 1. `grammar/pusher.rs`: `on_open`, `on_text`, and `encode` for publications.
// 2. `grammar/mod.rs`: `mod pusher` and a variant of `Grammar`. The compiler asks for its arm in
//    `subprotocol`, `wire_format`, `on_open` and `on_text`.
// 3. Here: a line in `mount_with` that names the path and the variant. Until then the compiler says
//    that the variant is never constructed.
// 4. Where its clients have rights or requests of their own: a method of `Rights`, a method of
//    `Client`. Where a connection has a state of its own: a field of `socket::Profile`.
//
// A protocol of other clients is a folder beside `grammar`, such as `pusher` and `mercure`: its `mount` adds the
// routes, and none of them knows another. It publishes with `Engine::publish_all`, and reads with a `Replay`.

mod access;
mod batch;
#[cfg(feature = "cable")]
mod cable;
mod client;
mod engine;
mod events;
mod exposition;
mod files;
mod grammar;
mod guesses;
mod idempotency;
mod identities;
mod jwt;
#[cfg(feature = "mercure")]
mod mercure;
mod metrics;
mod once;
mod order;
mod page;
mod parts;
mod pending;
mod poll;
mod presence;
mod process;
mod publish;
#[cfg(feature = "pusher")]
mod pusher;
mod refusal;
mod replay;
mod rights;
mod secrets;
mod socket;
mod subscribe;
mod subscription;
mod tokens;
mod topics;
mod users;

use std::borrow::Cow;
use std::rc::Rc;

use crate::protocol::http::Status;
use crate::pubsub::{Event, TopicError, check_name};
use crate::reactor::log_limit::{LogLimit, truncate};
use crate::reactor::published::Published;
use crate::reactor::reactor::{Cx, Reactor};
use crate::server::origins::Origins;
use crate::server::reply::Reply;
use crate::server::request::Request;
use crate::server::router::Router;

use self::engine::Engine;
use self::grammar::Grammar;
use self::guesses::SharedGuesses;
use self::identities::Identities;
use self::parts::Parts;
use self::pending::Pending;

pub use self::access::Access;
#[cfg(feature = "cable")]
pub use self::cable::{CableHook, CableOptions};
pub use self::engine::{Answers, GroupSeat, Overloaded, PublishError, ReactorGroup};
pub use self::grammar::envelope::SUBPROTOCOL;
#[cfg(feature = "mercure")]
pub use self::mercure::MercureOptions;
pub use self::parts::HubOptions;
#[cfg(feature = "pusher")]
pub use self::pusher::{PusherApp, PusherAppError};
pub use self::secrets::{ShortSecret, TokenSecrets};
pub use self::tokens::Tokens;
pub use self::topics::{TopicInfo, TopicList};
pub use crate::pubsub::{Rule, RuleError, Rules};

/// One hub on one reactor. A clone is the same hub, and its listeners have its topics in common.
pub struct Hub<S: 'static> {
    parts: Rc<Parts<S>>,
}

impl<S: 'static> Clone for Hub<S> {
    fn clone(&self) -> Self {
        Hub {
            parts: Rc::clone(&self.parts),
        }
    }
}

/// Adds the hub's routes to a router, with [`HubOptions::default`].
///
/// They publish to the members of this reactor; [`GroupSeat::mount`] is for those of several.
pub fn mount<S: 'static>(router: &mut Router<S>, access: &Access) {
    Hub::new(HubOptions::default()).mount(router, access);
}

impl<S: 'static> GroupSeat<S> {
    /// Adds the hub's routes to a router, as [`mount`] does; they publish to the members of all
    /// reactors, and `POST /publish` is answered when all have it.
    pub fn mount(&self, router: &mut Router<S>, access: &Access) {
        Hub::of_group(self, HubOptions::default()).mount(router, access);
    }
}

impl<S: 'static> Hub<S> {
    /// Whether publishing works and all members are reached, as `GET /readyz` says: always, but for a hub whose Redis
    /// is away.
    pub fn is_ready(&self) -> bool {
        self.parts.engine.is_ready()
    }

    /// A hub whose topics are those of one reactor.
    pub fn new(options: HubOptions) -> Hub<S> {
        Hub::on(Engine::local(), options)
    }

    /// The hub of a group, on the reactor that has the seat. The options of the reactor that listens first hold for
    /// all.
    pub fn of_group(seat: &GroupSeat<S>, options: HubOptions) -> Hub<S> {
        Hub::on(Engine::group(seat.clone()), options)
    }

    /// A hub whose topics are those of all nodes that are connected to one Redis server, under one prefix. `url` is as for
    /// [`Redis::connect`](crate::Redis::connect), or `redis+cluster://[[USER]:PASSWORD@]HOST[:PORT][,HOST[:PORT]...]` for a
    /// Redis Cluster. The names of keys and channels begin with the prefix and a colon, where there is one.
    ///
    /// # Errors
    ///
    /// Of kind `InvalidInput`, when the URL cannot be parsed, or the prefix has a brace in a cluster.
    #[cfg(feature = "redis")]
    pub fn of_redis(
        reactor: &mut Reactor<S>,
        url: &str,
        prefix: Option<&str>,
        options: HubOptions,
    ) -> std::io::Result<Hub<S>> {
        Ok(Hub::on(Engine::redis(reactor, None, url, prefix)?, options))
    }

    /// As [`of_redis`](Self::of_redis), on the reactor that has a seat in a group of this node. Each reactor of the group has
    /// a link of its own; limits and questions are those of the group.
    ///
    /// # Errors
    ///
    /// As [`of_redis`](Self::of_redis).
    #[cfg(feature = "redis")]
    pub fn of_redis_in_group(
        reactor: &mut Reactor<S>,
        seat: &GroupSeat<S>,
        url: &str,
        prefix: Option<&str>,
        options: HubOptions,
    ) -> std::io::Result<Hub<S>> {
        let engine = Engine::redis(reactor, Some(seat), url, prefix)?;
        Ok(Hub::on(engine, options))
    }

    fn on(engine: Engine<S>, options: HubOptions) -> Hub<S> {
        #[cfg(feature = "pusher")]
        let options = pusher::with_rules(options);
        #[cfg(feature = "mercure")]
        let options = mercure::with_rules(options);
        // Behind the rules of the other roles.
        #[cfg(feature = "cable")]
        let options = cable::with_rules(options);
        Hub {
            parts: Rc::new(Parts {
                engine,
                #[cfg(feature = "pusher")]
                pusher: pusher::state::Pusher::new(&options.pusher_apps),
                #[cfg(feature = "cable")]
                cable: (options.cable.as_ref()).map(|it| Rc::new(cable::state::Cable::new(it))),
                #[cfg(feature = "mercure")]
                mercure: mercure::state::Mercure::new(&options.rules),
                identities: Identities::new(&options.rules),
                pending: Pending::default(),
                options,
                guesses: SharedGuesses::default(),
            }),
        }
    }

    /// Adds the routes to a router. A hub may have several listeners, each with rights of its own.
    pub fn mount(&self, router: &mut Router<S>, access: &Access) {
        let hub = &self.parts;
        let access = &Rc::new(access.clone());
        mount_checks(router, access);
        let kept = Rc::clone(hub);
        let may_have_users = !access.token_secrets.is_empty();
        router.when_listening(move |reactor| {
            let options = &kept.options;
            let bytes_max = options.history_bytes_max;
            kept.engine.keep(reactor, &options.rules, bytes_max);
            reactor.set_presence_users_max(options.presence_users_max);
            if may_have_users {
                kept.engine.hear_orders(reactor);
            }
            if options.rules.iter().any(|(_, rule)| rule.has_presence) {
                kept.engine.share_presence(reactor);
            }
            kept.identities.filter_patterns(reactor);
            reactor.add_users(Rc::<Parts<S>>::clone(&kept) as _);
        });

        // Routes are tried in this order, so the busiest stand first.
        router.get("/healthz", |request| request.reply("ok\n"));
        let (rights, parts) = (Rc::clone(access), Rc::clone(hub));
        router.post("/publish", move |request| {
            publish::publish(request, &rights, &parts)
        });

        let rights = Rc::clone(access);
        router.get("/", move |request| {
            // A page that depended on the token of its request would tell a stranger whether the token is right,
            // without the pause and the count of other refusals.
            let is_forwarded =
                || access::is_from_proxy(request.reactor, request.id, request.headers());
            let reply = page::page(rights.grants(is_forwarded));
            request.reply(reply)
        });
        files::add_routes(router);
        let (rights, parts) = (Rc::clone(access), Rc::clone(hub));
        router.get("/metrics", move |request| {
            metrics::metrics(request, &rights, &parts)
        });
        let parts = Rc::clone(hub);
        router.get("/readyz", move |request| {
            let why = match request.reactor.is_draining() {
                true => Some("draining\n"),
                false => (!parts.engine.is_ready()).then_some("Redis is away\n"),
            };
            match why {
                None => request.reply("ready\n"),
                Some(why) => request.reply((Status::SERVICE_UNAVAILABLE, why)),
            }
        });

        let (rights, parts) = (Rc::clone(access), Rc::clone(hub));
        router.get("/events", move |request| {
            events::events(request, &rights, &parts)
        });
        let (rights, parts) = (Rc::clone(access), Rc::clone(hub));
        router.get("/presence", move |request| {
            presence::presence(request, &rights, &parts)
        });
        let (rights, parts) = (Rc::clone(access), Rc::clone(hub));
        router.get("/poll", move |request| poll::poll(request, &rights, &parts));

        // Only the body of a request that may publish is read.
        let (rights, parts) = (Rc::clone(access), Rc::clone(hub));
        router.before_body(move |request| match request.path() {
            "/publish" => publish::check_head(request, &rights, &parts),
            "/publish/batch" => batch::check_head(request, &rights, &parts),
            path => check_head_of_roles(path, request, &rights, &parts),
        });
        let (rights, parts) = (Rc::clone(access), Rc::clone(hub));
        router.post("/disconnect", move |request| {
            users::post_disconnect(request, &rights, &parts)
        });
        let (rights, parts) = (Rc::clone(access), Rc::clone(hub));
        router.post("/unsubscribe", move |request| {
            users::post_unsubscribe(request, &rights, &parts)
        });
        let (rights, parts) = (Rc::clone(access), Rc::clone(hub));
        router.get("/topics", move |request| {
            topics::list(request, &rights, &parts)
        });
        let (rights, parts) = (Rc::clone(access), Rc::clone(hub));
        router.get("/topics/*", move |request| {
            topics::one(request, &rights, &parts)
        });

        let (rights, parts) = (Rc::clone(access), Rc::clone(hub));
        router.post("/publish/batch", move |request| {
            batch::publish_batch(request, &rights, &parts)
        });

        #[cfg(feature = "pusher")]
        pusher::mount(router, hub, access);
        #[cfg(feature = "cable")]
        cable::mount(router, hub, access);
        #[cfg(feature = "mercure")]
        mercure::mount(router, hub, access);
        router.websocket("/ws", |ws| {
            let grammars = &[Grammar::Envelope, Grammar::Plain];
            socket::set_up(ws, grammars, Rc::clone(access), Rc::clone(hub));
        });
    }
}

/// # The back end's calls
///
/// As those of the routes, for a program that has the hub in itself.
impl<S: 'static> Hub<S> {
    /// Publishes each event to its topic, and calls `done` once with the outcomes in their order: before this
    /// returns where the hub is on one reactor, otherwise in a later turn.
    ///
    /// # Errors
    ///
    /// [`TopicError`] for the first name that is not valid; nothing is published then, and `done` is not called.
    /// `done` gets [`PublishError`] where that could not be done.
    pub fn publish_batch(
        &self,
        reactor: &mut Reactor<S>,
        items: &[(Cow<'_, str>, Event<'_>)],
        done: impl FnOnce(&mut Reactor<S>, Result<&[Published], PublishError>) + 'static,
    ) -> Result<(), TopicError> {
        for (topic, _) in items {
            check_name(topic)?;
        }
        let engine = &self.parts.engine;
        engine.publish_all(reactor, items, done);
        Ok(())
    }

    /// Calls `done` with the topics that have members, or a publication that the history knows of: the first 1,000
    /// by their names, of those that match `pattern` and come behind `after`. In a group later, with those of all
    /// reactors.
    pub fn topics(
        &self,
        cx: &mut Cx<'_, S>,
        pattern: Option<&str>,
        after: Option<&str>,
        done: impl FnOnce(&mut Reactor<S>, TopicList) + Send + 'static,
    ) {
        let question = topics::Question {
            pattern: pattern.map(str::to_owned),
            after: after.map(str::to_owned),
            public_by: None,
        };
        topics::list_topics(&self.parts.engine, reborrow(cx), question, done);
    }

    /// As [`topics`](Self::topics), for one topic. `None` when it has no members and the history does not know it.
    pub fn topic(
        &self,
        cx: &mut Cx<'_, S>,
        topic: &str,
        done: impl FnOnce(&mut Reactor<S>, Option<TopicInfo>) + Send + 'static,
    ) {
        topics::find_topic(&self.parts.engine, reborrow(cx), topic.to_owned(), done);
    }

    /// Closes the connections of a user, with 1008 where they are WebSockets, and calls `done` with how many there
    /// were on all reactors. A user is known by the `sub` of a JSON Web Token.
    pub fn disconnect(
        &self,
        cx: &mut Cx<'_, S>,
        user: &str,
        done: impl FnOnce(&mut Reactor<S>, usize) + Send + 'static,
    ) {
        users::disconnect(&self.parts.engine, reborrow(cx), user.to_owned(), done);
    }

    /// Ends the subscriptions of a user to a topic, or to a pattern where `name` is one, and calls `done` with how
    /// many there were on all reactors.
    pub fn unsubscribe(
        &self,
        cx: &mut Cx<'_, S>,
        user: &str,
        name: &str,
        done: impl FnOnce(&mut Reactor<S>, usize) + Send + 'static,
    ) {
        let of = (user.to_owned(), name.to_owned());
        users::unsubscribe(&self.parts.engine, reborrow(cx), of, done);
    }
}

/// Answers a request of a role that it refuses before its body is read.
fn check_head_of_roles<S: 'static>(
    path: &str,
    request: &mut Request<'_, '_, S>,
    access: &Access,
    hub: &Parts<S>,
) {
    #[cfg(feature = "cable")]
    cable::check_head(path, request, access, hub);
    #[cfg(feature = "mercure")]
    mercure::check_head(path, request, access, hub);
    let _ = (path, request, access, hub);
}

/// The same context, for a call that takes it whole.
fn reborrow<'c, S>(cx: &'c mut Cx<'_, S>) -> Cx<'c, S> {
    Cx::new(cx.state, cx.reactor)
}

/// Refuses pages of other origins, and on a loopback address requests for other hosts, before any
/// route sees them.
fn mount_checks<S: 'static>(router: &mut Router<S>, access: &Rc<Access>) {
    router.origins(Origins::Listed {
        origins: access.origins.clone(),
        absent: true,
    });
    let check = router.origin_check_mut();
    check.setting = access.origins_setting();
    check.is_public_path = |path| {
        #[cfg(feature = "pusher")]
        if pusher::is_path(path) {
            return true;
        }
        files::is_path(path)
    };
    #[cfg(feature = "cable")]
    {
        check.refusal_of = cable::refusal_of;
    }
    let access = Rc::clone(access);
    let mut refused_host = LogLimit::default();
    let mut served_host = String::new();
    router.guard(move |request| check_host(request, &access, &mut served_host, &mut refused_host));
}

/// `served_host` is the host that was served last. Clients name the same host in request after request,
/// and to judge a host its address is parsed.
fn check_host<S: 'static>(
    request: &Request<'_, '_, S>,
    access: &Access,
    served_host: &mut String,
    refused_host: &mut LogLimit,
) -> Result<(), Reply> {
    let Some(host) = request.host().filter(|host| host != served_host) else {
        return Ok(());
    };
    if access.serves(host) {
        host.clone_into(served_host);
        return Ok(());
    }
    if let Some(suppressed) = refused_host.allow_line(request.reactor.now()) {
        let (host, setting) = (truncate(host), access.origins_setting());
        log::warn!(
            "refused a request for host {host:?} on a loopback address; {setting} https://{host} allows it, \
             or http://{host} if its pages are loaded without TLS{suppressed}"
        );
    }
    Err((
        Status::FORBIDDEN,
        "this name is not served on a loopback address\n",
    )
        .into())
}
