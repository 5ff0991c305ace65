//! Broadcasts of a backend in AnyCable's words: over HTTP, and in a topic of Redis.
//!
//! A body is one publication or an array of them, each with a stream and its data; or an order to disconnect.
//!
//! Source: AnyCable's documentation, "Broadcasting".

use std::cell::Cell;
use std::rc::Rc;
use std::vec::IntoIter;

use crate::protocol::http::Status;
use crate::protocol::json;
use crate::pubsub::{Event, check_name};
use crate::reactor::reactor::Reactor;
use crate::server::reply::Reply;
use crate::server::request::Request;
use crate::server::router::Router;

use crate::hub::access::Access;
use crate::hub::engine::{Place, PublishError};
use crate::hub::parts::Parts;
use crate::hub::rights::{self, Rights};

use super::remote;
use super::state::Cable;

/// The path of broadcasts.
const PATH: &str = "/_broadcast";

/// The topic in which a backend broadcasts by Redis.
pub(super) const TOPIC: &str = "__anycable__";

/// The most publications of one request.
const PUBLICATIONS_MAX: usize = 1000;

/// Adds the route of broadcasts.
pub(super) fn add_routes<S: 'static>(
    router: &mut Router<S>,
    hub: &Rc<Parts<S>>,
    cable: &Rc<Cable<S>>,
    access: &Rc<Access>,
) {
    let (hub, cable, access) = (Rc::clone(hub), Rc::clone(cable), Rc::clone(access));
    router.post(PATH, move |request| {
        broadcast(request, &hub, &cable, &access)
    });
}

/// Begins to hear the broadcasts of backends in Redis: each reactor of each node hears all of them.
pub(super) fn hear<S: 'static>(hub: &Rc<Parts<S>>, reactor: &mut Reactor<S>) {
    let parts = Rc::clone(hub);
    let observe = Rc::new(
        move |reactor: &mut Reactor<S>, _: &str, _, event: &Event<'_>| {
            let text = event.payload().to_text();
            match publications_of(&text) {
                Ok(publications) => {
                    for it in publications {
                        let engine = &parts.engine;
                        engine.deliver_here(reactor, &it.topic, &it.event, it.except);
                    }
                }
                Err(why) => log::debug!("a broadcast in {TOPIC}: {why}"),
            }
        },
    );
    if let Err(error) = hub.engine.observe(reactor, TOPIC, observe) {
        log::error!("broadcasts in {TOPIC} are not heard: {error}");
    }
}

/// `POST /_broadcast`.
fn broadcast<S: 'static>(
    request: &mut Request<'_, '_, S>,
    hub: &Rc<Parts<S>>,
    cable: &Cable<S>,
    access: &Access,
) -> Result<(), Reply> {
    check_key(request, cable, access)?;
    let body = str::from_utf8(request.body()).map_err(|_| bad("the body is no text"))?;
    let publications = publications_of(body).map_err(|why| bad(&why))?;
    let responder = request.reply_later();
    publish(
        hub,
        request.reactor,
        publications,
        move |reactor, outcome| {
            let reply: Reply = match outcome {
                Ok(()) => (Status::CREATED, "").into(),
                Err(error) => unavailable(error),
            };
            reactor.reply(responder, reply);
        },
    );
    Ok(())
}

/// Publishes all, and calls `done` once.
fn publish<S: 'static>(
    hub: &Rc<Parts<S>>,
    reactor: &mut Reactor<S>,
    publications: Vec<Publication>,
    done: impl FnOnce(&mut Reactor<S>, Result<(), PublishError>) + 'static,
) {
    let mut publications = publications.into_iter();
    if !publications.as_slice().iter().any(|it| it.except.is_some()) {
        let items: Vec<_> = publications.map(|it| (it.topic.into(), it.event)).collect();
        let engine = &hub.engine;
        return engine.publish_all(reactor, &items, |reactor, outcome| {
            done(reactor, outcome.map(|_| ()));
        });
    }
    // One after the other: the engine leaves out a member of one publication alone.
    let Some(first) = publications.next() else {
        return done(reactor, Ok(()));
    };
    let done: Done<S> = Box::new(done);
    publish_next(hub, reactor, first, publications, done);
}

type Done<S> = Box<dyn FnOnce(&mut Reactor<S>, Result<(), PublishError>)>;

fn publish_next<S: 'static>(
    hub: &Rc<Parts<S>>,
    reactor: &mut Reactor<S>,
    next: Publication,
    mut rest: IntoIter<Publication>,
    done: Done<S>,
) {
    let again = Rc::clone(hub);
    let done = Rc::new(Cell::new(Some(done)));
    let when_refused = Rc::clone(&done);
    let engine = &hub.engine;
    let sent = engine.publish(reactor, &next.topic, next.event, next.except, {
        move |reactor, outcome| {
            let Some(done) = done.take() else {
                return;
            };
            match (outcome, rest.next()) {
                (Err(error), _) => done(reactor, Err(error)),
                (Ok(_), None) => done(reactor, Ok(())),
                // In a turn of its own: there may be a thousand.
                (Ok(_), Some(next)) => reactor.next_tick(move |cx| {
                    publish_next(&again, cx.reactor, next, rest, done);
                }),
            }
        }
    });
    if let Err(error) = sent
        && let Some(done) = when_refused.take()
    {
        done(reactor, Err(error));
    }
}

/// Refuses a broadcast without the key, before its body is read.
pub(super) fn check_head<S: 'static>(
    path: &str,
    request: &mut Request<'_, '_, S>,
    access: &Access,
    hub: &Parts<S>,
) {
    if path == PATH
        && let Some(cable) = &hub.cable
        && let Err(reply) = check_key(request, cable, access)
    {
        request.reply(reply);
    }
}

/// Whether a request may broadcast.
fn check_key<S: 'static>(
    request: &Request<'_, '_, S>,
    cable: &Cable<S>,
    access: &Access,
) -> Result<(), Reply> {
    let may_broadcast = match cable.keys().has_broadcast_token() {
        true => rights::credential(request, access).is_some_and(|given| {
            cable.keys().may_broadcast(&given) || access.is_publish_token(&given)
        }),
        false => {
            let (rights, _) = Rights::of_request(request, access);
            rights.may_administer().is_ok()
        }
    };
    match may_broadcast {
        true => Ok(()),
        false => {
            let why = "the key of broadcasts is missing or wrong\n";
            Err((Status::UNAUTHORIZED, why).into())
        }
    }
}

fn unavailable(error: PublishError) -> Reply {
    (Status::SERVICE_UNAVAILABLE, format!("{error}\n")).into()
}

fn bad(why: &str) -> Reply {
    (Status::BAD_REQUEST, format!("{why}\n")).into()
}

/// A message of a backend.
struct Publication {
    topic: String,
    event: Event<'static>,
    /// Left out.
    except: Option<Place>,
}

/// The messages of a body.
///
/// # Errors
///
/// A sentence that says what is wrong.
fn publications_of(body: &str) -> Result<Vec<Publication>, String> {
    let wrong = |error: serde_json::Error| format!("the broadcast is not valid: {error}");
    json::check_depth(body).map_err(wrong)?;
    if !body.trim_start().starts_with('[') {
        return Ok(vec![publication_of(body)?]);
    }
    let all = json::elements(body, PUBLICATIONS_MAX).map_err(wrong)?;
    all.into_iter().map(|it| publication_of(it.get())).collect()
}

fn publication_of(text: &str) -> Result<Publication, String> {
    let names = &["stream", "data", "meta", "command", "payload"];
    let fields = json::fields(text, names).map_err(|error| error.to_string())?;
    let [stream, data, meta, command, payload] = fields;
    if command.and_then(json::string).as_deref() == Some("disconnect") {
        let payload = payload.ok_or("the command has no payload")?;
        return disconnect_of(payload.get());
    }
    let stream = stream.and_then(json::string);
    let stream = stream.ok_or("the publication has no stream")?;
    check_name(&stream).map_err(|error| error.to_string())?;
    let data = data.and_then(json::string);
    let data = data.ok_or("the publication has no data in a string")?;
    // Other fields of `meta` are for other servers.
    let meta = meta.filter(|meta| meta.get().starts_with('{'));
    let meta = meta.map(|meta| json::fields(meta.get(), &["exclude_socket"]));
    let except = match meta.transpose().map_err(|error| error.to_string())? {
        Some([Some(session)]) => json::string(session).and_then(|id| Place::of_session_id(&id)),
        _ => None,
    };
    Ok(Publication {
        topic: stream.into_owned(),
        event: Event::message("").data(data.into_owned()),
        except,
    })
}

/// An order to disconnect, as Rails publishes it.
fn disconnect_of(payload: &str) -> Result<Publication, String> {
    let names = &["identifier", "reconnect"];
    let [identifier, reconnect] =
        json::fields(payload, names).map_err(|error| error.to_string())?;
    let identifiers = identifier.and_then(json::string).unwrap_or_default();
    let reconnects = reconnect.is_none_or(|it| it.get() != "false");
    let order = remote::order(&identifiers, reconnects);
    let (topic, order) = order.ok_or("the payload has no identifiers")?;
    check_name(&topic).map_err(|error| error.to_string())?;
    Ok(Publication {
        topic,
        event: Event::message("").json(order),
        except: None,
    })
}
