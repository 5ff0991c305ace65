//! `GET /.well-known/mercure`: event streams of subscribers.

use std::rc::Rc;

use crate::hub::access::Access;
use crate::hub::engine::{ReadFor, Start};
use crate::hub::events::{come_again_reply, end_stream};
use crate::hub::jwt::{Claims, LEEWAY_SECONDS};
use crate::hub::parts::Parts;
use crate::hub::pending::ReplayNames;
use crate::hub::replay::{Replay, ReplayClient};
use crate::hub::rights::{Rights, Scope};
use crate::protocol::event_stream;
use crate::protocol::http::Status;
use crate::protocol::mercure::EARLIEST;
use crate::pubsub::{Entry, EventId, Gap, Since, WireFormat};
use crate::reactor::id::ConnId;
use crate::reactor::reactor::Reactor;
use crate::server::reply::{Reply, Responder};
use crate::server::request::Request;

use super::active::Active;
use super::authorize::{Refusal, grants_of, refuse, with_shared_headers};
use super::cursor::{self, LastEvent, Place};
use super::options::MercureOptions;
use super::topic;
use super::view::View;
use super::wanted::{Name, Wanted, check_names, names_of};
use super::words::{self, Extra, fragment};

/// The name of the wire format of streams.
const EVENTS: &str = "mercure events";

/// For how many seconds a token without an end is valid: longer than a connection stays.
const ENDLESS_SECONDS: u64 = 1 << 40;

/// Answers with an event stream of the updates that are selected.
pub(super) fn subscribe<S: 'static>(
    request: &mut Request<'_, '_, S>,
    access: &Access,
    hub: &Rc<Parts<S>>,
    options: &MercureOptions,
) {
    if request.reactor.is_draining() {
        let reply = come_again_reply(request, "draining\n");
        request.reply(reply);
        return;
    }
    let grants = match grants_of(request, access, &options.subscriber_secrets) {
        Ok(None) if !options.is_anonymous => Err(Refusal::Missing),
        grants => grants,
    };
    let wanted = grants.and_then(|grants| Ok((grants.unwrap_or_default(), Wanted::of(request)?)));
    let (grants, wanted) = match wanted {
        Ok(wanted) => wanted,
        Err(refusal) => return refuse(request, refusal, hub),
    };
    let Wanted {
        selectors,
        last_event,
    } = wanted;
    let active = Active::new(&selectors, &grants, options).map(Rc::new);
    let view = View {
        wanted: selectors,
        granted: grants.subscribe,
    };
    let views = hub.mercure.views();
    let number = ViewNumber::new(hub, view);
    let names = views.get(number.get()).map_or_else(Vec::new, |view| {
        names_of(&view, number.get(), |name| views.is_private(name))
    });
    if let Err(refusal) = check_names(request.reactor, &names) {
        return refuse(request, refusal, hub);
    }
    let total_max = request.reactor.config().subscriptions_total_max;
    let count = request.reactor.subscription_count() + names.len();
    if total_max.is_some_and(|max| max < count) {
        let reply = come_again_reply(request, "too many subscriptions\n");
        request.reply(reply);
        return;
    }
    let format = register_format(hub, request.reactor);
    let Some(wire_format) = format else {
        request.reply(Status::INTERNAL_SERVER_ERROR);
        return;
    };
    let reply = Reply::new(Status::OK);
    let subscriber = Subscriber {
        hub: Rc::clone(hub),
        head: with_shared_headers(request, reply),
        wire_format,
        rights: rights_of(grants.user, grants.end_unix),
        names,
        number,
        active,
        last_id: None,
    };
    // The answer where the engine does not say from where to read on.
    let late = matches!(last_event, Some((LastEvent::Id(_), _)));
    let late = late.then(|| come_again_reply(request, "the hub is behind\n"));
    let responder = request.reply_later();
    let reactor = &mut *request.reactor;
    let earliest = Place {
        since: Since::Earliest,
        nonce: None,
    };
    match last_event {
        None => subscriber.begin(reactor, responder, None),
        Some((LastEvent::Earliest, _)) => subscriber.begin(reactor, responder, Some(earliest)),
        Some((LastEvent::Place(id), given)) => {
            let place = Place {
                since: Since::Id(id),
                nonce: None,
            };
            let subscriber = subscriber.behind(given);
            subscriber.begin(reactor, responder, Some(place));
        }
        Some((LastEvent::Id(id), given)) => {
            let hub = Rc::clone(hub);
            cursor::find(&hub, reactor, id, move |reactor, found| match found {
                Ok(Some(place)) => {
                    let subscriber = subscriber.behind(given);
                    subscriber.begin(reactor, responder, Some(place));
                }
                // The event is forgotten, and with it all before it.
                Ok(None) => subscriber.begin(reactor, responder, Some(earliest)),
                Err(_) => {
                    let reply = late.unwrap_or_else(|| Status::SERVICE_UNAVAILABLE.into());
                    reactor.reply(responder, reply);
                }
            });
        }
    }
}

/// The rights among the hub's topics of a client whose token has a user or an end.
fn rights_of(user: Option<Box<str>>, end_unix: Option<u64>) -> Option<Rights> {
    if user.is_none() && end_unix.is_none() {
        return None;
    }
    let claims = Claims {
        user,
        expires_unix: end_unix.map_or(ENDLESS_SECONDS, |end| end.saturating_sub(LEEWAY_SECONDS)),
        // The view decides about each update.
        subscribe: vec![topic::ALL.into()],
        ..Claims::default()
    };
    Some(Rights {
        scope: Scope::Token,
        claims: Some(Rc::new(claims)),
    })
}

/// The wire format of streams. `None` where there are too many wire formats.
fn register_format<S: 'static>(hub: &Parts<S>, reactor: &mut Reactor<S>) -> Option<WireFormat> {
    let views = Rc::clone(hub.mercure.views());
    let format = reactor.register_wire_format_with_values(EVENTS, move |publication, out| {
        words::encode(&views, publication, out)
    });
    format.inspect_err(|error| log::error!("{error}")).ok()
}

/// The number of a view. The view is forgotten with the last of its numbers.
struct ViewNumber<S: 'static> {
    hub: Rc<Parts<S>>,
    number: u32,
}

impl<S> ViewNumber<S> {
    fn new(hub: &Rc<Parts<S>>, view: View) -> ViewNumber<S> {
        let number = hub.mercure.views().add(view);
        let hub = Rc::clone(hub);
        ViewNumber { hub, number }
    }

    fn get(&self) -> u32 {
        self.number
    }
}

impl<S> Drop for ViewNumber<S> {
    fn drop(&mut self) {
        self.hub.mercure.views().remove(self.number);
    }
}

/// A subscriber that has asked for a stream.
struct Subscriber<S: 'static> {
    hub: Rc<Parts<S>>,
    /// The headers of the answer.
    head: Reply,
    wire_format: WireFormat,
    rights: Option<Rights>,
    names: Vec<Name>,
    number: ViewNumber<S>,
    active: Option<Rc<Active>>,
    /// The id that it has given, where that is known.
    last_id: Option<String>,
}

impl<S: 'static> Subscriber<S> {
    fn behind(mut self, last_id: String) -> Subscriber<S> {
        self.last_id = Some(last_id);
        self
    }

    /// Begins the stream, and reads for it what it has missed.
    fn begin(self, reactor: &mut Reactor<S>, responder: Responder, place: Option<Place>) {
        let (hub, id) = (Rc::clone(&self.hub), responder.id());
        let (since, nonce) = match place {
            None => (None, None),
            Some(place) => (Some(place.since), place.nonce),
        };
        let mut head = self.head;
        if let Some(since) = since {
            let is_whole = is_whole(&hub, reactor, id, &self.names, since);
            let last_id = self.last_id.filter(|_| is_whole);
            let value = last_id.unwrap_or_else(|| EARLIEST.to_owned());
            // An id that could not stand in a header was not given in one.
            head = match head.clone().try_header("Mercure-Last-Event-ID", value) {
                Ok(head) => head,
                Err(_) => head.header("Mercure-Last-Event-ID", EARLIEST),
            };
        }
        // A subscriber without an id gets a place before its first update: a break before it would lose updates in silence.
        let mut first_lines = Vec::new();
        let newest = hub.engine.cursor(reactor);
        let has_place = since.is_none() && hub.engine.confirms_at_once();
        if has_place {
            event_stream::encode_id(&fragment(newest), &mut first_lines);
        }
        let stream = reactor.event_stream_with(responder, &head, &first_lines);
        if stream.is_none() {
            return;
        }
        reactor.set_wire_format(id, self.wire_format);
        if let Some(rights) = &self.rights {
            // The connection is new, and belongs to no other user.
            let _ = hub.identities.identify(reactor, id, rights, end_stream);
        }
        let names = self.names.iter().map(|it| it.name.clone()).collect();
        let names: ReplayNames = hub.pending.add(id, names);
        let wanted = self.names.iter();
        let wanted = wanted.map(|it| (it.name.clone(), it.is_pattern)).collect();
        let (number, active) = (self.number, self.active.clone());
        let number_of_replay = number.get();
        if let Some(active) = &active {
            active.begin();
        }
        reactor.on_close(id, move |cx, _| {
            if let Some(active) = active {
                active.end(&number.hub, cx.reactor);
            }
            // The view is forgotten now.
            drop(number);
        });
        let stream = Stream {
            hub: Rc::clone(&hub),
            names,
            all: self.names,
            number: number_of_replay,
            nonce,
            has_place,
            has_events: false,
            comes_back: since.is_some(),
            active: self.active,
        };
        let start = Start::new(since, false);
        Replay::begin(&hub, reactor, id, wanted, start, stream);
    }
}

/// Whether nothing is forgotten behind a place. On other nodes than this one that is not known.
fn is_whole<S: 'static>(
    hub: &Parts<S>,
    reactor: &mut Reactor<S>,
    id: ConnId,
    names: &[Name],
    since: Since,
) -> bool {
    if !hub.engine.confirms_at_once() {
        return true;
    }
    let names = names.iter().map(|it| (it.name.clone(), it.is_pattern));
    let start = Start::Since(since);
    let mut source = hub.engine.read(reactor, names.collect(), start);
    let page = source.page(reactor, 1, &ReadFor::Client(id));
    page.is_some_and(|page| page.gaps.is_empty())
}

/// An event stream that a replay is for.
struct Stream<S: 'static> {
    hub: Rc<Parts<S>>,
    /// A subscription that the back end ends meanwhile is not begun.
    names: ReplayNames,
    all: Vec<Name>,
    /// The number of the view.
    number: u32,
    /// The nonce of the update that the client has got.
    nonce: Option<String>,
    /// It began with a place.
    has_place: bool,
    /// It has got an event.
    has_events: bool,
    comes_back: bool,
    active: Option<Rc<Active>>,
}

impl<S: 'static> ReplayClient<S> for Stream<S> {
    fn has_one_cursor(&self) -> bool {
        true
    }

    fn comes_back(&self) -> bool {
        self.comes_back
    }

    // Takes those that the client does not get.
    fn takes(&mut self, _: EventId, entry: &Entry) -> bool {
        let (name, event) = (entry.body.topic(), entry.body.event());
        let extra = event.extra_text().map(Extra::parse).unwrap_or_default();
        let is_known = extra.nonce.is_some() && extra.nonce == self.nonce.as_deref();
        let views = self.hub.mercure.views();
        let is_seen = topic::split(name).is_some_and(|(_, topic)| {
            let (topics, index) = words::topics_of(&extra, topic);
            let view = views.get(self.number);
            view.is_some_and(|view| view.sees(&topics, index, views.is_private(name)))
        });
        let is_sent = is_seen && !is_known;
        self.has_events |= is_sent;
        !is_sent
    }

    // The header of the answer has said so.
    fn gap(&mut self, _: &mut Reactor<S>, _: ConnId, _: &Gap, _: EventId, _: &str) {}

    /// A stream cannot be told. The client comes again.
    fn refuse(&mut self, reactor: &mut Reactor<S>, id: ConnId) {
        reactor.close(id);
    }

    fn live(&mut self, reactor: &mut Reactor<S>, id: ConnId, cursor: EventId) {
        for wanted in self.names.take() {
            let Some(name) = self.all.iter().find(|it| it.name == wanted) else {
                continue;
            };
            // Checked before; the stream may be gone already, which is no error of the request.
            let _ = match name.is_pattern {
                true => reactor.subscribe_pattern_with_value(id, &name.name, name.value),
                false => reactor.subscribe_with_value(id, &name.name, name.value),
            };
        }
        if !self.has_place && !self.has_events {
            let mut lines = Vec::new();
            event_stream::encode_id(&fragment(cursor), &mut lines);
            reactor.send_event_lines(id, &lines);
        }
        if let Some(active) = &self.active {
            active.announce(&self.hub, reactor);
        }
    }
}
