//! `GET /events`: topics and patterns as Server-Sent Events.

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;
use std::time::Duration;

use crate::protocol::event_stream;
use crate::protocol::http::{Status, form};
use crate::pubsub::{EventId, Gap, Notice, Rules, Since, WireFormat, pattern};
use crate::reactor::id::ConnId;
use crate::reactor::reactor::Reactor;
use crate::server::reply::Reply;
use crate::server::request::Request;

use super::access::Access;
use super::engine::Start;
use super::grammar::{envelope, notices};
use super::guesses::{self, Denied};
use super::identities::EndReason;
use super::parts::Parts;
use super::pending::ReplayNames;
use super::presence;
use super::replay::{Replay, ReplayClient};
use super::rights::{Rights, Shown};
use super::subscribe::{parse_cursor, subscribe_name};

/// The name of the wire format of streams with `envelope=1`.
const ENVELOPE_EVENTS: &str = "waterwheel.v1.json events";

/// Answers with an event stream of the topics and patterns that are asked for. If one name is not
/// valid or not allowed, the answer says why, and there is no subscription.
pub(super) fn events<S: 'static>(
    request: &mut Request<'_, '_, S>,
    access: &Access,
    hub: &Rc<Parts<S>>,
) {
    if request.reactor.is_draining() {
        let reply = come_again_reply(request, "draining\n");
        request.reply(reply);
        return;
    }
    let (rights, shown) = Rights::of_request(request, access);
    let Parameters {
        topics,
        has_envelope,
        since,
        is_latest,
    } = match parameters(request, &hub.options.rules, &rights, shown) {
        Ok(parameters) => parameters,
        Err(denied) => return guesses::refuse(request, denied, &hub.guesses),
    };
    let total_max = request.reactor.config().subscriptions_total_max;
    let wanted = request.reactor.subscription_count() + topics.len();
    if total_max.is_some_and(|max| max < wanted) {
        let reply = come_again_reply(request, "too many subscriptions\n");
        request.reply(reply);
        return;
    }
    let wire_format = match has_envelope {
        false => {
            let reactor = &mut *request.reactor;
            reactor.set_notice_encoder_of(
                WireFormat::EVENT_STREAM,
                notices::has,
                notices::encode_event,
            );
            None
        }
        true => match request
            .reactor
            .register_wire_format_with_values(ENVELOPE_EVENTS, envelope::encode_event)
        {
            Ok(wire_format) => {
                let reactor = &mut *request.reactor;
                reactor.set_notice_encoder_of(
                    wire_format,
                    notices::has,
                    notices::encode_envelope_event,
                );
                Some(wire_format)
            }
            Err(error) => {
                log::error!("{error}");
                request.reply(Status::INTERNAL_SERVER_ERROR);
                return;
            }
        },
    };
    // Everybody gets a cursor before the first message: a break before it would lose messages in silence.
    let newest = hub.engine.cursor(request.reactor);
    let has_cursor = matches!(since, Some(Since::Id(_)));
    let start = Start::new(since, is_latest);
    let first = match (since, start) {
        // No cursor is known before the engine has confirmed the names.
        _ if !hub.engine.confirms_at_once() => None,
        (Some(Since::Id(id)), _) => Some(id),
        (_, Start::Now) => Some(newest),
        _ => Some(EventId::new(newest.epoch, 0)),
    };
    let mut first_lines = Vec::new();
    if let Some(first) = first {
        event_stream::encode_id(&first.to_string(), &mut first_lines);
    }
    let id = request.event_stream_with(&first_lines).id;
    if let Some(wire_format) = wire_format {
        request.reactor.set_wire_format(id, wire_format);
    }
    // The connection is new, and belongs to no other user.
    let _ = (hub.identities).identify(request.reactor, id, &rights, end_stream);
    if topics.iter().any(|topic| pattern::is_pattern(topic)) {
        (hub.identities).note_pattern(request.reactor, id, &rights, end_stream);
    }
    let names: Vec<Box<str>> = topics.iter().map(|topic| (**topic).into()).collect();
    let wanted = names
        .iter()
        .map(|name| (name.clone(), pattern::is_pattern(name)))
        .collect();
    let stream = Stream {
        hub: Rc::clone(hub),
        names: hub.pending.add(id, names),
        has_envelope,
        announced: first,
        has_cursor,
    };
    Replay::begin(hub, request.reactor, id, wanted, start, stream);
}

/// An event stream that a replay is for.
struct Stream<S: 'static> {
    hub: Rc<Parts<S>>,
    /// A subscription that the back end ends meanwhile ends the stream.
    names: ReplayNames,
    has_envelope: bool,
    /// The cursor that it began with, if it was known.
    announced: Option<EventId>,
    /// The client has sent that cursor.
    has_cursor: bool,
}

impl<S: 'static> ReplayClient<S> for Stream<S> {
    fn has_one_cursor(&self) -> bool {
        true
    }

    fn comes_back(&self) -> bool {
        self.has_cursor
    }

    fn gap(&mut self, reactor: &mut Reactor<S>, id: ConnId, gap: &Gap, cursor: EventId, _: &str) {
        let cursor = cursor.to_string();
        let notice = Notice::Gap { cursor: &cursor };
        let mut lines = Vec::new();
        match self.has_envelope {
            true => notices::encode_envelope_event(&gap.name, &notice, &mut lines),
            false => notices::encode_event(&gap.name, &notice, &mut lines),
        };
        reactor.send_event_lines(id, &lines);
    }

    /// A stream cannot be told. The client comes again.
    fn refuse(&mut self, reactor: &mut Reactor<S>, id: ConnId) {
        reactor.close(id);
    }

    fn live(&mut self, reactor: &mut Reactor<S>, id: ConnId, cursor: EventId) {
        for name in self.names.take() {
            // Checked before; the stream may be gone already, which is no error of the request.
            if let Ok(true) = subscribe_name(reactor, id, &name) {
                presence::join(reactor, &self.hub.options.rules, id, &name);
            }
        }
        reactor.announce_cursor(id);
        if Some(cursor) != self.announced {
            let mut lines = Vec::new();
            event_stream::encode_id(&cursor.to_string(), &mut lines);
            reactor.send_event_lines(id, &lines);
        }
    }
}

/// The token of a stream has ended, or one of its subscriptions. A stream cannot be told, nor be given another
/// token, so the client comes again.
pub(super) fn end_stream<S: 'static>(
    reactor: &mut Reactor<S>,
    id: ConnId,
    _: &[String],
    _: EndReason,
) {
    reactor.close(id);
}

/// The answer to a request for a stream while the hub drains or has no room: the end of a stream, with the
/// time after which the client shall ask again, from 1 to 10 seconds.
///
/// A browser gives up for ever at any other status than 200. A client that does not name the type
/// of event streams is not a browser's `EventSource` and gets a plain 503.
pub(super) fn come_again_reply<S: 'static>(
    request: &Request<'_, '_, S>,
    why: &'static str,
) -> Reply {
    let accept = request.header("accept").unwrap_or_default();
    let mut types = accept.split([',', ';']).map(str::trim);
    if !types.any(|name| name.eq_ignore_ascii_case("text/event-stream")) {
        let reply = Reply::from((Status::SERVICE_UNAVAILABLE, why));
        return reply.header("Retry-After", "1");
    }
    // Each client another time, so that they do not all come back in one moment. The same in each
    // run of a simulation.
    let mut hasher = DefaultHasher::new();
    (request.id, request.reactor.now()).hash(&mut hasher);
    let delay = Duration::from_millis(1000 + hasher.finish() % 9001);
    let mut lines = Vec::new();
    event_stream::encode_retry(delay, &mut lines);
    Reply::new(Status::OK)
        .content_type("text/event-stream")
        .body(lines)
        .header("Cache-Control", "no-store")
}

/// The parameters of a request for a stream.
struct Parameters<'i> {
    topics: Vec<Cow<'i, str>>,
    /// It wants the envelope as data.
    has_envelope: bool,
    since: Option<Since>,
    /// It wants the latest value of each key first.
    is_latest: bool,
}

/// The parameters of a request.
///
/// # Errors
///
/// When the request is not valid or not allowed.
fn parameters<'i, S: 'static>(
    request: &Request<'_, 'i, S>,
    rules: &Rules,
    rights: &Rights,
    shown: Shown,
) -> Result<Parameters<'i>, Denied> {
    let bad = |why: String| Err(Denied::Invalid((Status::BAD_REQUEST, why).into()));
    let (mut topics, mut has_envelope, mut is_latest) = (Vec::new(), false, false);
    let mut cursor = None;
    for pair in form::try_pairs(request.query_string().unwrap_or_default()) {
        // A topic that was left out for this would be missing in silence.
        let Some((name, value)) = pair else {
            return bad("the query is not UTF-8 text\n".into());
        };
        match (&*name, &*value) {
            ("topic", _) => topics.push(value),
            ("envelope", "1") => has_envelope = true,
            ("envelope", "0") => has_envelope = false,
            ("latest", "1") => is_latest = true,
            ("latest", "0") => is_latest = false,
            (name @ ("envelope" | "latest"), other) => {
                return bad(format!("{name}: expected 0 or 1, got {other:?}\n"));
            }
            ("since", _) => cursor = Some(value),
            _ => {}
        }
    }
    if topics.is_empty() {
        return bad("say which: /events?topic=NAME\n".into());
    }
    guesses::check_names(request, &topics, rules, rights, shown)?;
    // A browser names the last id that it got when it connects again; the address is that of the first time.
    let last_id = request.header("last-event-id").filter(|id| !id.is_empty());
    let cursor = last_id.map(Cow::Borrowed).or(cursor);
    let since = match cursor.map(|cursor| parse_cursor(&cursor)).transpose() {
        Ok(since) => since,
        Err(error) => return bad(format!("since or Last-Event-ID: {error}\n")),
    };
    Ok(Parameters {
        topics,
        has_envelope,
        since,
        is_latest,
    })
}
