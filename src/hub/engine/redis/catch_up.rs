//! Catching up after a link was made or lost.
//!
//! ```text
//!   connected ─▶ begin.lua: epoch and newest number
//!       │ first time, or another epoch: the log begins there
//!       │ the same epoch: members are told of a gap; publications of the streams, in order
//!       ▼
//!   what was heard meanwhile, in its order ─▶ ready: names are confirmed, publishing works
//! ```
//!
//! Messages that come while the reactor catches up are held, in a bounded list (`recovery.rs`). With more it begins again
//! from what it has, so that memory stays bounded and nothing with a number is lost.

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

/// The link is made, and all names are subscribed: catches up.
pub(super) fn begin<S: 'static>(shared: &Rc<Shared<S>>, reactor: &mut Reactor<S>) {
    let generation = shared.recovery().borrow_mut().begin();
    let again = Rc::clone(shared);
    let load = ["SCRIPT", "LOAD", PUBLISH];
    (shared.redis()).command_within(reactor, &load, TIMEOUT, move |_, reply| {
        if let Ok(Reply::Bulk(digest)) = reply {
            again.set_script(String::from_utf8_lossy(digest).into_owned());
        }
    });
    let seen = reactor.cursor();
    let has_log = shared.recovery().borrow().has_log();
    let seen_number = if has_log { seen.number } else { 0 };
    let words = [
        "EVAL".to_owned(),
        BEGIN.to_owned(),
        "2".to_owned(),
        shared.keys().head(),
        shared.keys().topics(),
        format!("{:x}", rand::random::<u64>()),
        format!("{:x}", seen.epoch),
        seen_number.to_string(),
    ];
    let again = Rc::clone(shared);
    (shared.redis()).command_within(reactor, &words, TIMEOUT, move |cx, reply| {
        if !again.recovery().borrow().is_current(generation) {
            return;
        }
        match reply.as_ref().ok().and_then(begun) {
            Some((epoch, number)) => catch_up(&again, cx.reactor, generation, epoch, number),
            None => try_again(&again, cx.reactor, generation, &format!("{reply:?}")),
        }
    });
}

/// Begins again after a while: Redis is loading, or refuses what is needed.
fn try_again<S: 'static>(
    shared: &Rc<Shared<S>>,
    reactor: &mut Reactor<S>,
    generation: u64,
    why: &str,
) {
    log::warn!("redis: cannot catch up: {why}; it is tried again");
    let shared = Rc::clone(shared);
    reactor.after(Duration::from_secs(1), move |cx| {
        if shared.recovery().borrow().is_current(generation) {
            begin(&shared, cx.reactor);
        }
    });
}

fn catch_up<S: 'static>(
    shared: &Rc<Shared<S>>,
    reactor: &mut Reactor<S>,
    generation: u64,
    epoch: u64,
    number: u64,
) {
    let had_log = shared.recovery().borrow_mut().note_log();
    let seen = reactor.cursor();
    if !had_log {
        reactor.begin_log(epoch, number, rand::random());
        return finish(shared, reactor, number);
    }
    if seen.epoch != epoch {
        shared.begin_epoch(reactor, epoch, number);
        return finish(shared, reactor, number);
    }
    if shared.recovery().borrow().gap_place().is_none() {
        let place = reactor.tell_gap_to_all();
        shared.recovery().borrow_mut().note_gap(place);
    }
    let names = subscribed_names(reactor);
    if number <= seen.number || names.is_empty() {
        return finish(shared, reactor, number);
    }
    let rules = shared.rules().borrow().clone();
    let places = (seen.number, number);
    let streams = Streams::new(shared.redis(), shared.keys(), &rules, names, places, false);
    read_missed(shared, reactor, generation, streams);
}

/// Delivers the publications that were missed, page by page.
fn read_missed<S: 'static>(
    shared: &Rc<Shared<S>>,
    reactor: &mut Reactor<S>,
    generation: u64,
    streams: Streams<S>,
) {
    let shared = Rc::clone(shared);
    streams.next_page(reactor, move |cx, page| {
        if !shared.recovery().borrow().is_current(generation) {
            return;
        }
        match page {
            Ok((streams, page)) => {
                let is_end = page.is_end;
                deliver_page(&shared, cx.reactor, page);
                match is_end {
                    true => finish(&shared, cx.reactor, streams.end()),
                    false => read_missed(&shared, cx.reactor, generation, streams),
                }
            }
            Err(error) => try_again(&shared, cx.reactor, generation, &error.to_string()),
        }
    });
}

fn deliver_page<S: 'static>(shared: &Shared<S>, reactor: &mut Reactor<S>, page: StreamPage) {
    for entry in page.entries {
        if let Some(numbered) = payload::parse(&entry.message) {
            shared.deliver_numbered(reactor, &entry.topic, &numbered);
        }
    }
}

/// Everything up to a number was delivered: delivers what was heard meanwhile.
fn finish<S: 'static>(shared: &Rc<Shared<S>>, reactor: &mut Reactor<S>, number: u64) {
    reactor.note_number(number);
    let held = shared.recovery().borrow_mut().take_held();
    let Some(held) = held else {
        return begin(shared, reactor);
    };
    for message in &held {
        shared.deliver(reactor, message.channel(), message.payload());
    }
    shared.recovery().borrow_mut().complete();
    presence::begin(shared, reactor);
    shared.counts().note_ready();
    let names = shared.names();
    names.borrow_mut().confirm_all(reactor.exact_place());
    if let Some(place) = shared.recovery().borrow().gap_place() {
        // Everything behind the gap was read for the names that have members.
        let members = subscribed_names(reactor);
        let members = members.iter().map(|(name, _)| &**name);
        names.borrow_mut().cover_members_from(members, place);
    }
    names::call_confirmed(names, reactor);
}

/// The names that have members here.
fn subscribed_names<S: 'static>(reactor: &Reactor<S>) -> Vec<(Box<str>, bool)> {
    reactor
        .subscribed_names()
        .map(|(kind, name)| (Box::from(name), kind == NameKind::Pattern))
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
