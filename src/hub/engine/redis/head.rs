//! The newest number in Redis, asked for now and then: a client of a quiet topic gets a young cursor with its heartbeat,
//! and need not be told of a gap when older publications of other topics are forgotten.

use std::rc::Rc;
use std::time::Duration;

use crate::reactor::reactor::Reactor;

use super::shared::{Shared, published_id};

/// The time from one question to the next. Shorter than that of heartbeats.
const INTERVAL: Duration = Duration::from_secs(10);

/// How long a command may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Asks again and again, while there are members.
pub(super) fn watch<S: 'static>(shared: &Rc<Shared<S>>, reactor: &mut Reactor<S>) {
    let shared = Rc::clone(shared);
    reactor.after(INTERVAL, move |cx| {
        let is_ready = shared.recovery().borrow().is_ready();
        if is_ready && cx.reactor.subscription_count() != 0 {
            ask(&shared, cx.reactor);
        }
        watch(&shared, cx.reactor);
    });
}

fn ask<S: 'static>(shared: &Rc<Shared<S>>, reactor: &mut Reactor<S>) {
    let head = shared.keys().head();
    let words = ["HMGET", &head, "epoch", "number"];
    let again = Rc::clone(shared);
    (shared.redis()).command_within(reactor, &words, TIMEOUT, move |cx, reply| {
        let Some(head) = reply.ok().and_then(|reply| published_id(&reply)) else {
            return;
        };
        // All messages before the answer were heard when the barrier is there.
        again.redis().barrier(cx.reactor, move |cx, reply| {
            if reply.is_ok() && head.epoch == cx.reactor.cursor().epoch {
                cx.reactor.note_number(head.number);
            }
        });
    });
}
