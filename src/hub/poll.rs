//! `GET /poll`: topics and patterns by long polling, for clients that have neither WebSockets nor event streams.
//!
//! A request without a cursor is answered at once, with a cursor. One with a cursor gets the messages behind it, or
//! waits for the first that comes. The client keeps the cursor of the answer for its next request.
//!
//! While a request waits, its connection is a member of the topics, so that messages reach it which no history
//! keeps. It gets no news of users, and is none itself: it would come and go with each request.

use std::borrow::Cow;
use std::rc::Rc;
use std::time::Duration;

use crate::protocol::http::{Status, form};
use crate::pubsub::{EventId, Publication, Rule, Rules, Since, pattern};
use crate::reactor::connection::awaiting::{AWAITED_BYTES_MAX, AWAITED_MESSAGES_MAX};
use crate::reactor::id::ConnId;
use crate::reactor::reactor::Reactor;
use crate::server::reply::{Reply, Responder};
use crate::server::request::Request;

use super::access::Access;
use super::engine::{ReadFor, Source, Start};
use super::grammar::{Grammar, envelope};
use super::guesses::{self, Denied};
use super::identities::EndReason;
use super::parts::Parts;
use super::rights::{Rights, Shown};
use super::subscribe::{parse_cursor, subscribe_name};
use crate::protocol::json;

/// How long a request waits that does not say it.
const WAIT_DEFAULT: Duration = Duration::from_secs(25);

/// The longest time that a request may wait, in seconds.
const WAIT_SECONDS_MAX: u64 = 60;

/// How long a request at least waits for an engine that has not confirmed its names.
const UNCONFIRMED_WAIT_MIN: Duration = Duration::from_secs(1);

/// Most messages of one answer, from the history or awaited.
const MESSAGES_MAX: usize = AWAITED_MESSAGES_MAX;

/// Most bytes of the messages of one answer, apart from a single message that is longer.
const MESSAGES_BYTES_MAX: usize = AWAITED_BYTES_MAX;

/// The names, the cursor and the options of a request.
struct Parameters<'i> {
    /// Topics and patterns, each once.
    names: Vec<Cow<'i, str>>,
    since: Option<Since>,
    wait: Duration,
    is_latest: bool,
}

/// Answers with the messages behind a cursor, or waits for the first of them.
pub(super) fn poll<S: 'static>(
    request: &mut Request<'_, '_, S>,
    access: &Access,
    hub: &Rc<Parts<S>>,
) {
    if request.reactor.is_draining() {
        request.reply(unavailable_reply("draining\n"));
        return;
    }
    let (rights, shown) = Rights::of_request(request, access);
    let rules = &hub.options.rules;
    let parameters = match parameters(request, rules, &rights, shown) {
        Ok(parameters) => parameters,
        Err(denied) => return guesses::refuse(request, denied, &hub.guesses),
    };
    let total_max = request.reactor.config().subscriptions_total_max;
    let wanted = request.reactor.subscription_count() + parameters.names.len();
    if total_max.is_some_and(|max| max < wanted) {
        request.reply(unavailable_reply("too many subscriptions\n"));
        return;
    }
    let may_wait =
        parameters.since.is_some() && !parameters.wait.is_zero() && request.method() != "HEAD";
    let reading = Reading::begin(hub, request.reactor, &parameters, rights, may_wait);
    match reading.go_on(request.reactor) {
        Progress::Complete(reading) if !reading.may_wait || reading.answer.has_news() => {
            request.reply(reading.answer.into_reply());
        }
        Progress::Complete(reading) => {
            let responder = request.reply_later();
            reading.wait(request.reactor, responder);
        }
        Progress::Pending(reading) => {
            let responder = request.reply_later();
            reading.answer_later(request.reactor, responder);
        }
    }
}

/// A request whose answer is put together.
struct Reading<S: 'static> {
    hub: Rc<Parts<S>>,
    names: Vec<Box<str>>,
    rights: Rights,
    wait: Duration,
    may_wait: bool,
    /// `None` for a request that asks for a cursor alone.
    source: Option<Box<dyn Source<S>>>,
    answer: Answer,
}

/// How far the answer to a request has come.
enum Progress<S: 'static> {
    /// All that there is was read.
    Complete(Reading<S>),
    /// The next page is under way.
    Pending(Reading<S>),
}

impl<S: 'static> Reading<S> {
    fn begin(
        hub: &Rc<Parts<S>>,
        reactor: &mut Reactor<S>,
        parameters: &Parameters<'_>,
        rights: Rights,
        may_wait: bool,
    ) -> Reading<S> {
        let names = parameters.names.iter();
        let names: Vec<Box<str>> = names.map(|name| Box::from(&**name)).collect();
        let start = Start::new(parameters.since, parameters.is_latest);
        let has_source = start != Start::Now || !hub.engine.confirms_at_once();
        let source = has_source.then(|| {
            let wanted = names.iter();
            let wanted = wanted.map(|name| (name.clone(), pattern::is_pattern(name)));
            hub.engine.read(reactor, wanted.collect(), start)
        });
        let cursor = match &source {
            Some(source) => source.cursor(reactor),
            None => hub.engine.cursor(reactor),
        };
        Reading {
            hub: Rc::clone(hub),
            names,
            rights,
            wait: parameters.wait,
            may_wait,
            source,
            answer: Answer::new(cursor),
        }
    }

    /// Reads what there is.
    fn go_on(mut self, reactor: &mut Reactor<S>) -> Progress<S> {
        let Some(source) = &mut self.source else {
            return Progress::Complete(self);
        };
        let (rights, answer) = (&self.rights, &mut self.answer);
        let is_granted =
            |topic: &str, rule: &Rule| !rule.is_private || rights.may_have_private(topic);
        let read_for = ReadFor::Granted(&is_granted);
        loop {
            let before = source.after();
            let bytes_max = MESSAGES_BYTES_MAX.saturating_sub(answer.json.len());
            let Some(page) = source.page(reactor, bytes_max, &read_for) else {
                return Progress::Pending(self);
            };
            for gap in page.gaps {
                answer.add_gap(gap.name, gap.number);
            }
            // A page may have passed only what is not wanted.
            let is_last = page.is_end || (source.is_here() && source.after() == before);
            for (index, entry) in page.entries {
                let wanted = &source.wanted()[index];
                let is_added = answer.add_message(&Publication {
                    topic: entry.body.topic(),
                    id: &source.id_at(reactor, entry.number),
                    event: &entry.body.event(),
                    value: 0,
                    pattern: wanted.is_pattern.then_some(&*wanted.name),
                });
                if !is_added {
                    answer.forget_gaps_behind(entry.number - 1);
                    return Progress::Complete(self);
                }
            }
            if page.ends_section {
                answer.settle_gaps();
            }
            answer.cursor = source.cursor(reactor);
            if is_last {
                return Progress::Complete(self);
            }
        }
    }

    /// Goes on when the next page is there, and answers. Answers with 503 when it has not come within the time that the
    /// client waits.
    fn answer_later(self, reactor: &mut Reactor<S>, responder: Responder) {
        let Some(source) = &self.source else {
            reactor.reply(responder, self.answer.into_reply());
            return;
        };
        if source.is_refused() {
            let reply = unavailable_reply("the server cannot subscribe to this\n");
            reactor.reply(responder, reply);
            return;
        }
        let ready = source.ready();
        let (slot, gone) = (ready.clone(), ready.clone());
        reactor.on_gone(responder, move |_, _| drop(gone.take()));
        let timeout = reactor.after(self.wait.max(UNCONFIRMED_WAIT_MIN), move |cx| {
            if slot.take().is_some() {
                let reply = unavailable_reply("the subscription is not confirmed\n");
                cx.reactor.reply(responder, reply);
            }
        });
        ready.set(move |reactor| {
            reactor.cancel(timeout);
            match self.go_on(reactor) {
                Progress::Complete(it) if !it.may_wait || it.answer.has_news() => {
                    reactor.reply(responder, it.answer.into_reply());
                }
                Progress::Complete(reading) => reading.wait(reactor, responder),
                Progress::Pending(reading) => reading.answer_later(reactor, responder),
            }
        });
    }

    /// Makes the connection a member until the first publication comes, or the time is over.
    fn wait(self, reactor: &mut Reactor<S>, responder: Responder) {
        // The same as that of WebSockets, so that a publication is encoded once for both.
        let wire_format = match Grammar::Envelope.wire_format(reactor) {
            Ok(wire_format) => wire_format.unwrap_or_default(),
            Err(error) => {
                log::error!("{error}");
                reactor.reply(responder, Status::INTERNAL_SERVER_ERROR);
                return;
            }
        };
        let id = responder.id();
        let Reading {
            hub,
            names,
            rights,
            wait,
            source,
            ..
        } = self;
        let has_pattern = names.iter().any(|it| pattern::is_pattern(it));
        hub.identities
            .identify_request(reactor, id, &rights, has_pattern, end_wait);
        reactor.await_publications(id, wire_format, wait, move |cx, awaited| {
            hub.identities.forget_request(id);
            let mut answer = Answer::new(hub.engine.cursor(cx.reactor));
            awaited.messages().for_each(|it| answer.add_encoded(it));
            awaited
                .gaps()
                .for_each(|name| answer.add_gap(name.into(), 0));
            if let Some(last) = awaited.cut_behind() {
                answer.cursor = last;
            }
            cx.reactor.reply(responder, answer.into_reply());
        });
        for name in &names {
            // Checked before; the client may be gone already, which is no error of the request.
            let _ = subscribe_name(reactor, id, name);
        }
        // Its names are held until the connection is a member.
        drop(source);
    }
}

/// The token of a request has ended, or one of its subscriptions. The client asks again, and learns what it may
/// still have.
fn end_wait<S: 'static>(reactor: &mut Reactor<S>, id: ConnId, _: &[String], _: EndReason) {
    reactor.end_wait(id);
}

/// The answer to a request while the hub drains or has no room.
fn unavailable_reply(why: &'static str) -> Reply {
    Reply::from((Status::SERVICE_UNAVAILABLE, why)).header("Retry-After", "1")
}

/// The messages of an answer, as they are put together.
struct Answer {
    /// A cursor behind all of them.
    cursor: EventId,
    message_count: usize,
    /// The messages, with commas between them.
    json: Vec<u8>,
    /// The topics and patterns of which messages may be missing, each up to this number.
    gaps: Vec<(Box<str>, u64)>,
}

impl Answer {
    fn new(cursor: EventId) -> Answer {
        Answer {
            cursor,
            message_count: 0,
            json: Vec::new(),
            gaps: Vec::new(),
        }
    }

    /// Whether there is something that a client has waited for.
    fn has_news(&self) -> bool {
        self.message_count != 0 || !self.gaps.is_empty()
    }

    fn add_gap(&mut self, name: Box<str>, number: u64) {
        self.gaps.push((name, number));
    }

    /// Leaves out the gaps that end behind a number, where the answer was cut: the next request is told of them.
    fn forget_gaps_behind(&mut self, last: u64) {
        self.gaps.retain(|(_, number)| *number <= last);
    }

    /// Keeps all gaps from now on, also where the answer is cut.
    fn settle_gaps(&mut self) {
        for (_, number) in &mut self.gaps {
            *number = 0;
        }
    }

    /// Adds a message, and moves the cursor behind it. Returns `false` when there is no room for it.
    fn add_message(&mut self, publication: &Publication<'_>) -> bool {
        let length = self.json.len();
        if MESSAGES_MAX <= self.message_count {
            return false;
        }
        if self.message_count != 0 {
            self.json.push(b',');
        }
        envelope::encode(publication, &mut self.json);
        if self.message_count != 0 && MESSAGES_BYTES_MAX < self.json.len() {
            self.json.truncate(length);
            return false;
        }
        self.message_count += 1;
        self.cursor = *publication.id;
        true
    }

    /// Adds a message that is encoded already.
    fn add_encoded(&mut self, message: &[u8]) {
        if self.message_count != 0 {
            self.json.push(b',');
        }
        self.json.extend_from_slice(message);
        self.message_count += 1;
    }

    fn into_reply(self) -> Reply {
        let mut body = Vec::with_capacity(self.json.len() + 64);
        body.extend_from_slice(b"{\"cursor\":\"");
        self.cursor.encode(&mut body);
        body.extend_from_slice(b"\",\"messages\":[");
        body.extend_from_slice(&self.json);
        body.push(b']');
        for (index, (name, _)) in self.gaps.iter().enumerate() {
            body.extend_from_slice(if index == 0 { b",\"gap\":[" } else { b"," });
            json::push_string(name, &mut body);
        }
        if !self.gaps.is_empty() {
            body.push(b']');
        }
        body.extend_from_slice(b"}\n");
        Reply::new(Status::OK)
            .content_type("application/json")
            .body(body)
            .header("Cache-Control", "no-store")
    }
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
    let config = request.reactor.config();
    let names_max = config.subscriptions_max;
    let mut parameters = Parameters {
        names: Vec::with_capacity(1),
        since: None,
        wait: WAIT_DEFAULT,
        is_latest: false,
    };
    for pair in form::try_pairs(request.query_string().unwrap_or_default()) {
        // A topic that was left out for this would be missing in silence.
        let Some((name, value)) = pair else {
            return bad("the query is not UTF-8 text\n".into());
        };
        match (&*name, &*value) {
            // Read twice, it would be told twice.
            ("topic", _) if parameters.names.contains(&value) => {}
            ("topic", _) if names_max <= parameters.names.len() => {
                return bad("too many topics\n".into());
            }
            ("topic", _) => parameters.names.push(value),
            ("since", cursor) => match parse_cursor(cursor) {
                Ok(since) => parameters.since = Some(since),
                Err(error) => return bad(format!("since: {error}\n")),
            },
            ("wait", text) => match seconds(text) {
                Some(wait) => parameters.wait = wait,
                None => return bad(format!("wait: expected 0 to 60 seconds, got {text:?}\n")),
            },
            ("latest", "1") => parameters.is_latest = true,
            ("latest", "0") => parameters.is_latest = false,
            ("latest", other) => {
                return bad(format!("latest: expected 0 or 1, got {other:?}\n"));
            }
            _ => {}
        }
    }
    if parameters.names.is_empty() {
        return bad("say which: /poll?topic=NAME\n".into());
    }
    guesses::check_names(request, &parameters.names, rules, rights, shown)?;
    Ok(parameters)
}

/// The time for which a request may wait. `None` for another text than 0 to 60.
fn seconds(text: &str) -> Option<Duration> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = text.parse().ok().filter(|_| is_number)?;
    (seconds <= WAIT_SECONDS_MAX).then_some(Duration::from_secs(seconds))
}
