//! Catching up after a link was made or lost, part by part (`recovery.rs`).
//!
//! ```text
//!   connected ─▶ begin.lua: epoch and newest number of the bucket
//!       │ first time: the log begins when all buckets are known
//!       │ another epoch: a new log; members are told of a gap
//!       │ the same epoch: publications of the streams, in order
//!       ▼
//!   what was heard meanwhile, in its order ─▶ ready: names are confirmed, publishing works
//! ```
//!
//! Members are told of a gap where messages of other programs may be missed: they are in no stream. Messages that come
//! while the reactor catches up are held, in a bounded list. With more it begins again from what it has, so that memory
//! stays bounded and nothing with a number is lost.

use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

use crate::protocol::resp::Reply;
use crate::pubsub::NameKind;
use crate::reactor::reactor::Reactor;

use super::names;
use super::payload;
use super::presence;
use super::shared::{PUBLISH, Shared};
use super::streams::{StreamPage, Streams};

/// The script that returns the newest number, or begins an epoch.
const BEGIN: &str = include_str!("begin.lua");

/// How long a command may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// One attempt of a part to catch up.
struct Attempt {
    part: usize,
    generation: u64,
    /// The names of the part that had members when it began: all their messages with numbers are delivered.
    read: HashSet<Box<str>>,
}

impl Attempt {
    fn is_current<S: 'static>(&self, shared: &Shared<S>) -> bool {
        let recovery = shared.recovery().borrow();
        recovery.is_current(self.part, self.generation)
    }
}

/// The link of a part is made, and all its names are subscribed: catches up.
pub(super) fn begin<S: 'static>(shared: &Rc<Shared<S>>, reactor: &mut Reactor<S>, part: usize) {
    let generation = shared.recovery().borrow_mut().begin(part);
    let bucket = shared.recovery().borrow().bucket_of(part);
    let Some(bucket) = bucket else {
        return begin_raw(shared, reactor, part, generation);
    };
    let links = shared.links();
    let again = Rc::clone(shared);
    let load = ["SCRIPT", "LOAD", PUBLISH];
    links.command_within(reactor, bucket, &load, TIMEOUT, move |_, reply| {
        if let Ok(Reply::Bulk(digest)) = reply {
            again.set_script(String::from_utf8_lossy(digest).into_owned());
        }
    });
    let (seen_epoch, seen_number) = shared.seen(reactor, bucket);
    let words = [
        "EVAL".to_owned(),
        BEGIN.to_owned(),
        "2".to_owned(),
        shared.keys().head(bucket),
        shared.keys().topics(bucket),
        format!("{:x}", rand::random::<u64>()),
        format!("{seen_epoch:x}"),
        seen_number.to_string(),
    ];
    let again = Rc::clone(shared);
    links.command_within(reactor, bucket, &words, TIMEOUT, move |cx, reply| {
        if !again.recovery().borrow().is_current(part, generation) {
            return;
        }
        match reply.as_ref().ok().and_then(begun) {
            Some(begin) => catch_up(&again, cx.reactor, part, begin),
            None => try_again(&again, cx.reactor, part, &format!("{reply:?}")),
        }
    });
}

/// Messages of other programs are heard from now on, in a cluster.
fn begin_raw<S: 'static>(
    shared: &Rc<Shared<S>>,
    reactor: &mut Reactor<S>,
    part: usize,
    generation: u64,
) {
    if shared.recovery().borrow().has_log() {
        note_gap(shared, reactor);
    }
    let attempt = Attempt {
        part,
        generation,
        read: members_of(shared, reactor, part),
    };
    complete(shared, reactor, &attempt);
}

/// Tells members that messages without numbers may be missing, unless that was told of this break.
fn note_gap<S: 'static>(shared: &Shared<S>, reactor: &mut Reactor<S>) {
    if shared.recovery().borrow().gap_place().is_none() {
        let place = reactor.tell_gap_to_all();
        shared.recovery().borrow_mut().note_gap(place);
    }
}

/// Begins again after a while: Redis is loading, or refuses what is needed.
fn try_again<S: 'static>(shared: &Rc<Shared<S>>, reactor: &mut Reactor<S>, part: usize, why: &str) {
    let generation = shared.recovery().borrow_mut().begin(part);
    let now = reactor.now();
    if shared.recovery().borrow_mut().may_log_failure(now) {
        log::warn!("redis: cannot catch up: {why}; it is tried again each second");
    }
    let shared = Rc::clone(shared);
    reactor.after(Duration::from_secs(1), move |cx| {
        let is_current = shared.recovery().borrow().is_current(part, generation);
        if is_current {
            begin(&shared, cx.reactor, part);
        }
    });
}

fn catch_up<S: 'static>(
    shared: &Rc<Shared<S>>,
    reactor: &mut Reactor<S>,
    part: usize,
    (epoch, number): (u64, u64),
) {
    let bucket = part;
    let has_log = shared.recovery().borrow().has_log();
    if !has_log {
        return begin_log(shared, reactor, bucket, (epoch, number));
    }
    let mut recovery = shared.recovery().borrow_mut();
    let generation = recovery.begin(part);
    let tells_gap = part == recovery.raw_part();
    drop(recovery);
    let read = members_of(shared, reactor, part);
    let names: Vec<(Box<str>, bool)> = subscribed_names(reactor)
        .filter(|(name, _)| read.contains(name))
        .collect();
    let attempt = Attempt {
        part,
        generation,
        read,
    };
    if !shared.is_epoch(bucket, epoch) {
        shared.begin_epoch(reactor, bucket, epoch, number);
        return finish(shared, reactor, attempt, number);
    }
    if tells_gap {
        note_gap(shared, reactor);
    }
    let seen_number = reactor.newest_number(bucket);
    if number <= seen_number || names.is_empty() {
        return finish(shared, reactor, attempt, number);
    }
    let rules = shared.rules().borrow().clone();
    let places = (seen_number, number);
    // Members that were told of a gap need not be told of those in the streams.
    let streams = Streams::new(&shared.bucket(bucket), &rules, names, places, !tells_gap);
    read_missed(shared, reactor, attempt, streams);
}

/// Notes where a bucket begins. The log begins with the last one.
fn begin_log<S: 'static>(
    shared: &Rc<Shared<S>>,
    reactor: &mut Reactor<S>,
    bucket: usize,
    begin: (u64, u64),
) {
    let begins = shared.recovery().borrow_mut().note_begin(bucket, begin);
    let Some(begins) = begins else {
        return;
    };
    shared.begin_log(reactor, &begins);
    for (part, (_, number)) in begins.into_iter().enumerate() {
        let attempt = Attempt {
            part,
            generation: shared.recovery().borrow_mut().begin(part),
            read: HashSet::new(),
        };
        finish(shared, reactor, attempt, number);
    }
}

/// Delivers the publications that were missed, page by page.
fn read_missed<S: 'static>(
    shared: &Rc<Shared<S>>,
    reactor: &mut Reactor<S>,
    attempt: Attempt,
    streams: Streams<S>,
) {
    let shared = Rc::clone(shared);
    streams.next_page(reactor, move |cx, page| {
        if !attempt.is_current(&shared) {
            return;
        }
        match page {
            Ok((streams, page)) => {
                let is_end = page.is_end;
                deliver_page(&shared, cx.reactor, page, &streams);
                match is_end {
                    true => finish(&shared, cx.reactor, attempt, streams.end()),
                    false => read_missed(&shared, cx.reactor, attempt, streams),
                }
            }
            Err(error) => try_again(&shared, cx.reactor, attempt.part, &error.to_string()),
        }
    });
}

fn deliver_page<S: 'static>(
    shared: &Rc<Shared<S>>,
    reactor: &mut Reactor<S>,
    page: StreamPage,
    streams: &Streams<S>,
) {
    for refusal in &page.refusals {
        let now = reactor.now();
        shared.refusals().borrow_mut().note_gap(refusal, now);
    }
    for (name, is_pattern) in streams.names_of(&page.gaps) {
        let place = reactor.tell_gap(name, is_pattern);
        (shared.names().borrow_mut()).cover_name_from(name, place);
    }
    for entry in page.entries {
        if let Some(numbered) = payload::parse(&entry.message) {
            shared.deliver_numbered(reactor, &entry.topic, &numbered);
        }
    }
}

/// Everything of a bucket up to a number was delivered: delivers what was heard meanwhile.
fn finish<S: 'static>(
    shared: &Rc<Shared<S>>,
    reactor: &mut Reactor<S>,
    attempt: Attempt,
    number: u64,
) {
    reactor.note_number(attempt.part, number);
    let held = shared.recovery().borrow_mut().take_held(attempt.part);
    let Some(held) = held else {
        return begin(shared, reactor, attempt.part);
    };
    for message in &held {
        shared.deliver(reactor, message.channel(), message.payload());
    }
    complete(shared, reactor, &attempt);
}

/// A part has caught up.
fn complete<S: 'static>(shared: &Rc<Shared<S>>, reactor: &mut Reactor<S>, attempt: &Attempt) {
    let (has_raw, since) = {
        let mut recovery = shared.recovery().borrow_mut();
        recovery.complete(attempt.part);
        if recovery.is_ready() {
            shared.counts().note_ready();
        }
        let has_raw = attempt.part == recovery.raw_part();
        (has_raw, recovery.gap_place().filter(|_| has_raw))
    };
    if has_raw {
        presence::begin(shared, reactor);
    }
    let (place, names) = (reactor.exact_place(), shared.names());
    (names.borrow_mut()).confirm_part(attempt.part, place, &attempt.read, since);
    names::call_confirmed(names, reactor);
}

/// The names that have members here.
fn subscribed_names<S: 'static>(
    reactor: &Reactor<S>,
) -> impl Iterator<Item = (Box<str>, bool)> + use<'_, S> {
    reactor
        .subscribed_names()
        .map(|(kind, name)| (Box::from(name), kind == NameKind::Pattern))
}

/// The names with members whose messages come by a part.
fn members_of<S: 'static>(
    shared: &Shared<S>,
    reactor: &Reactor<S>,
    part: usize,
) -> HashSet<Box<str>> {
    let is_raw = part == shared.recovery().borrow().raw_part();
    let is_of_part =
        |name: &str, is_pattern| is_raw || is_pattern || shared.keys().bucket_of(name) == part;
    subscribed_names(reactor)
        .filter(|(name, is_pattern)| is_of_part(name, *is_pattern))
        .map(|(name, _)| name)
        .collect()
}

/// The epoch and the number in the answer of the script.
fn begun(reply: &Reply<'_>) -> Option<(u64, u64)> {
    let [epoch, number, _] = reply.as_array()? else {
        return None;
    };
    let epoch = u64::from_str_radix(epoch.as_str()?, 16).ok()?;
    Some((epoch, number.as_str()?.parse().ok()?))
}
