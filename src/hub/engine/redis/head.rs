//! The newest number of each bucket, asked for now and then: a client of a quiet topic gets a young cursor with its heartbeat,
//! and need not be told of a gap when older publications of other topics are forgotten. Also asked for a client with a cursor of
//! a node that is ahead of this one.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use crate::reactor::reactor::{Cx, Reactor};

use super::refusals::{ReadError, Refusal, answered};
use super::shared::{Shared, published_at};

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
            for bucket in 0..shared.keys().bucket_count() {
                ask(&shared, cx.reactor, bucket);
            }
        }
        watch(&shared, cx.reactor);
    });
}

fn ask<S: 'static>(shared: &Rc<Shared<S>>, reactor: &mut Reactor<S>, bucket: usize) {
    let again = Rc::clone(shared);
    let break_count = shared.recovery().borrow().break_count();
    read(shared, reactor, bucket, move |cx, head| {
        let Ok(Some((epoch, number))) = head else {
            return;
        };
        // All messages before the answer were heard when the barrier is there.
        let shared = Rc::clone(&again);
        (again.links()).barrier(cx.reactor, bucket, move |cx, reply| {
            let is_whole = has_heard_all(&shared, break_count);
            if is_whole && reply.is_ok() && shared.is_epoch(bucket, epoch) {
                cx.reactor.note_number(bucket, number);
            }
        });
    });
}

/// Reads the epoch and the newest number of a bucket. `None` where there was no publication, which an error is not: with
/// a number that is too low a cursor seems to be of another order.
pub(super) fn read<S: 'static>(
    shared: &Rc<Shared<S>>,
    reactor: &mut Reactor<S>,
    bucket: usize,
    done: impl FnOnce(&mut Cx<'_, S>, Result<Option<(u64, u64)>, ReadError>) + 'static,
) {
    let head = shared.keys().head(bucket);
    let (words, key) = (["HMGET", &head, "epoch", "number"], head.clone());
    (shared.links()).command_within(reactor, bucket, &words, TIMEOUT, move |cx, reply| {
        let reply = answered("HMGET", &key, reply);
        done(cx, reply.map(|reply| published_at(&reply)));
    });
}

/// Whether this reactor has heard everything since it had counted this many breaks.
fn has_heard_all<S: 'static>(shared: &Shared<S>, break_count: u64) -> bool {
    let recovery = shared.recovery().borrow();
    recovery.is_ready() && recovery.break_count() == break_count
}

/// The answers of all buckets.
struct Answers {
    missing_count: usize,
    has_failed: bool,
    /// One of the refusals.
    refusal: Option<Refusal>,
}

/// Asks for the newest number of each bucket, and notes it when all messages up to there were heard. `done` is called once,
/// with an error when one bucket was not read or the link broke since `break_count`; it has the refusal of Redis if that is why.
pub(super) fn note_all<S: 'static>(
    shared: &Rc<Shared<S>>,
    reactor: &mut Reactor<S>,
    break_count: u64,
    done: impl FnOnce(&mut Reactor<S>, Result<(), Option<Refusal>>) + 'static,
) {
    let bucket_count = shared.keys().bucket_count();
    let answers = Answers {
        missing_count: bucket_count,
        has_failed: false,
        refusal: None,
    };
    let answers = Rc::new(RefCell::new((answers, Some(done))));
    for bucket in 0..bucket_count {
        let (again, answers) = (Rc::clone(shared), Rc::clone(&answers));
        read(shared, reactor, bucket, move |cx, head| {
            let shared = Rc::clone(&again);
            (again.links()).barrier(cx.reactor, bucket, move |cx, passed| {
                let mut all = answers.borrow_mut();
                let (answers, done) = &mut *all;
                answers.missing_count -= 1;
                answers.has_failed |= passed.is_err() || !has_heard_all(&shared, break_count);
                match head {
                    Ok(Some((epoch, number))) => {
                        if !answers.has_failed && shared.is_epoch(bucket, epoch) {
                            cx.reactor.note_number(bucket, number);
                        }
                    }
                    Ok(None) => {}
                    Err(error) => {
                        answers.has_failed = true;
                        answers.refusal = error.into_refusal().or(answers.refusal.take());
                    }
                }
                if answers.missing_count != 0 {
                    return;
                }
                let result = match answers.has_failed {
                    true => Err(answers.refusal.take()),
                    false => Ok(()),
                };
                let done = done.take();
                drop(all);
                if let Some(done) = done {
                    done(cx.reactor, result);
                }
            });
        });
    }
}
