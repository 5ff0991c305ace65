//! Subscriptions to channels: the answer, the members of a presence channel, and the last event of a cache channel.
//!
//! Each member of a channel is present in its topic, so that the channel is occupied on all nodes: as the user that the
//! backend has signed in a presence channel, without a name in others.

use std::rc::Rc;

use crate::protocol::pusher::{message, webhook};
use crate::pubsub::{Body, Entry, EventId, Gap, Since, TopicError, User};
use crate::reactor::id::ConnId;
use crate::reactor::reactor::Reactor;

use crate::hub::engine::{ReadFor, Source, Start};
use crate::hub::parts::Parts;
use crate::hub::pending::ReplayNames;
use crate::hub::refusal::Refusal;
use crate::hub::replay::{Replay, ReplayClient};
use crate::hub::subscription::check_count;

use super::topic::{CACHE_AGE, split};
use super::words::roster;

/// The bytes of the page in which the last event of a channel is read.
const PAGE_BYTES_MAX: usize = 16 * 1024;

/// A subscription to which a client has the right.
pub(super) struct Wanted {
    pub(super) channel: String,
    pub(super) topic: String,
    /// A new member gets the last event.
    pub(super) is_cache: bool,
    /// The user, where it is a presence channel.
    pub(super) user: Option<User>,
}

/// The last event of a channel, where there is one.
pub(super) type LastEvent = Option<Last>;

/// The last event of a channel.
pub(super) struct Last {
    event_id: EventId,
    pub(super) body: Body,
    /// When it was published, in seconds since 1970, where that is known.
    published_unix: Option<u32>,
}

impl Last {
    fn new(event_id: EventId, entry: &Entry) -> Last {
        Last {
            event_id,
            body: entry.body.clone(),
            published_unix: entry.second(),
        }
    }

    /// For how many seconds a cache channel still has it.
    pub(super) fn seconds_left(&self, now_unix: u64) -> Option<u64> {
        let end_unix = u64::from(self.published_unix?) + CACHE_AGE.as_secs();
        Some(end_unix.saturating_sub(now_unix))
    }
}

/// Begins a subscription, and may complete it. The client is told how it ends.
pub(super) fn begin<S: 'static>(
    hub: &Rc<Parts<S>>,
    reactor: &mut Reactor<S>,
    id: ConnId,
    wanted: Wanted,
) {
    if hub.engine.confirms_at_once() {
        let read_last = |reactor: &mut Reactor<S>, topic: &str| read_last(reactor, topic);
        return wanted.become_member(hub, reactor, id, read_last);
    }
    let names = vec![Box::from(&*wanted.topic)];
    if let Err(error) = check_count(hub, reactor, id, &names) {
        return wanted.refuse(reactor, id, &error);
    }
    let start = match wanted.is_cache {
        true => Start::Since(Since::Earliest),
        false => Start::Now,
    };
    let to_read = vec![(Box::from(&*wanted.topic), false)];
    let client = Subscriber {
        hub: Rc::clone(hub),
        names: hub.pending.add(id, names),
        wanted: Some(wanted),
        last: None,
    };
    Replay::begin(hub, reactor, id, to_read, start, client);
}

/// Finds the last event of a topic, on whichever node it was published.
pub(super) fn find_last<S: 'static>(
    hub: &Parts<S>,
    reactor: &mut Reactor<S>,
    topic: &str,
    done: impl FnOnce(&mut Reactor<S>, LastEvent) + 'static,
) {
    let names = vec![(Box::from(topic), false)];
    let source = (hub.engine).read(reactor, names, Start::Since(Since::Earliest));
    find_on(reactor, source, None, done);
}

fn find_on<S: 'static>(
    reactor: &mut Reactor<S>,
    mut source: Box<dyn Source<S>>,
    mut last: LastEvent,
    done: impl FnOnce(&mut Reactor<S>, LastEvent) + 'static,
) {
    loop {
        let read_for = ReadFor::Granted(&|_, _| true);
        let Some(page) = source.page(reactor, PAGE_BYTES_MAX, &read_for) else {
            if source.is_refused() {
                return done(reactor, None);
            }
            let ready = source.ready();
            return ready.set(move |reactor| find_on(reactor, source, last, done));
        };
        if let Some((_, entry)) = page.entries.last() {
            last = Some(Last::new(source.id_at(reactor, entry.number), entry));
        }
        if page.is_end {
            return done(reactor, last);
        }
    }
}

/// The last event of a topic that this reactor has delivered.
fn read_last<S: 'static>(reactor: &mut Reactor<S>, topic: &str) -> LastEvent {
    let names = [(Box::from(topic), false)];
    let mut reader = reactor.read_history(names, Since::Earliest, false);
    let mut last = None;
    loop {
        let page = reactor.history_page(&mut reader, PAGE_BYTES_MAX, |_, _| true);
        if let Some((_, entry)) = page.entries.last() {
            last = Some(Last::new(reactor.id_at(entry.number), entry));
        }
        if page.is_end {
            return last;
        }
    }
}

impl Wanted {
    fn become_member<S: 'static>(
        mut self,
        hub: &Rc<Parts<S>>,
        reactor: &mut Reactor<S>,
        id: ConnId,
        read_last: impl FnOnce(&mut Reactor<S>, &str) -> LastEvent + 'static,
    ) {
        let Some(user) = self.user.take() else {
            let subscribed = reactor.subscribe(id, &self.topic);
            if subscribed.is_ok() {
                reactor.join_presence(id, &self.topic);
            }
            let outcome = subscribed.map(|_| "{}".to_owned());
            return self.answer(hub, reactor, id, outcome, read_last);
        };
        let (topic, hub) = (self.topic.clone(), Rc::clone(hub));
        reactor.subscribe_present(id, &topic, user, move |reactor, outcome| {
            let outcome = outcome.map(|snapshot| roster(&snapshot));
            self.answer(&hub, reactor, id, outcome, read_last);
        });
    }

    /// Tells a client that it is subscribed, with the data of the answer, or why it is not.
    fn answer<S: 'static>(
        &self,
        hub: &Parts<S>,
        reactor: &mut Reactor<S>,
        id: ConnId,
        outcome: Result<String, TopicError>,
        read_last: impl FnOnce(&mut Reactor<S>, &str) -> LastEvent,
    ) {
        let data = match outcome {
            Ok(data) => data,
            Err(error) => return self.refuse(reactor, id, &error),
        };
        let succeeded = message::subscription_succeeded(&self.channel, &data);
        reactor.send(id, succeeded);
        if !self.is_cache {
            return;
        }
        match read_last(reactor, &self.topic) {
            Some(last) => {
                let event = last.body.event();
                reactor.deliver_to(id, &self.topic, last.event_id, &event, None, 0);
            }
            None => {
                reactor.send(id, message::cache_miss(&self.channel));
                if let Some((app_id, channel)) = split(&self.topic) {
                    let event = || webhook::channel_event("cache_miss", channel);
                    let webhooks = hub.pusher.webhooks();
                    webhooks.send(reactor, app_id, "cache_miss", channel, event);
                }
            }
        }
    }

    fn refuse<S: 'static>(&self, reactor: &mut Reactor<S>, id: ConnId, error: &TopicError) {
        let message = message::subscription_error(&self.channel, &error.to_string(), 403);
        reactor.send(id, message);
    }
}

/// A client whose subscription waits for the engine.
struct Subscriber<S: 'static> {
    hub: Rc<Parts<S>>,
    names: ReplayNames,
    /// Taken with the answer.
    wanted: Option<Wanted>,
    last: LastEvent,
}

impl<S: 'static> ReplayClient<S> for Subscriber<S> {
    fn has_one_cursor(&self) -> bool {
        false
    }

    fn comes_back(&self) -> bool {
        false
    }

    fn is_next(&self) -> bool {
        self.names.are_first()
    }

    fn wants(&mut self, _: &mut Reactor<S>, _: ConnId, name: &str) -> bool {
        self.names.contains(name)
    }

    // The answer to the subscription comes first.
    fn takes(&mut self, event_id: EventId, entry: &Entry) -> bool {
        self.last = Some(Last::new(event_id, entry));
        true
    }

    fn gap(&mut self, _: &mut Reactor<S>, _: ConnId, _: &Gap, _: EventId, _: &str) {}

    fn refuse(&mut self, reactor: &mut Reactor<S>, id: ConnId) {
        if let (Some(wanted), false) = (self.wanted.take(), self.names.take().is_empty()) {
            let why = Refusal::Unavailable.to_string();
            let message = message::subscription_error(&wanted.channel, &why, 503);
            reactor.send(id, message);
        }
    }

    fn live(&mut self, reactor: &mut Reactor<S>, id: ConnId, _: EventId) {
        if let (Some(wanted), false) = (self.wanted.take(), self.names.take().is_empty()) {
            let last = self.last.take();
            wanted.become_member(&self.hub, reactor, id, |_, _| last);
        }
    }
}
