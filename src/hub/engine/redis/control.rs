//! Messages between the reactors of all nodes: orders of a back end, and how many each has carried out.
//!
//! ```text
//!   asker ── PUBLISH order ─▶ each reactor with users, the asker too: carries it out
//!     ▲                                 │
//!     └──── PUBLISH answer ◀────────────┘        the sum, when as many have answered as Redis has reached, or after a second
//! ```
//!
//! A node of a cluster does not know how many reactors all nodes reach, so that the sum takes a second there.
//!
//! The channel is one that no topic can have. It is subscribed on reactors whose clients may have users.

use std::rc::Rc;
use std::time::Duration;

use crate::client::redis::SubscriptionKind;
use crate::hub::order::Order;
use crate::reactor::reactor::Reactor;

use super::message::ControlMessage;
use super::presence;
use super::questions::Question;
use super::shared::Shared;

/// How long the reactors may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Hears orders from now on. The first call counts.
pub(super) fn join<S: 'static>(shared: &Rc<Shared<S>>, reactor: &mut Reactor<S>) {
    if !shared.questions().borrow_mut().note_joined() {
        let channel = shared.keys().control_channel();
        let kind = SubscriptionKind::Channel;
        shared.links().hold(reactor, kind, channel.as_bytes());
    }
}

/// Has an order carried out on all reactors of all nodes, also on this one, and calls `done` with the sum. Without a
/// link, `done` is called at once with zero.
pub(super) fn ask_all<S: 'static>(
    shared: &Rc<Shared<S>>,
    reactor: &mut Reactor<S>,
    order: Order,
    done: impl FnOnce(&mut Reactor<S>, usize) + 'static,
) {
    // With the link ready, the channel is subscribed.
    let is_ready = shared.recovery().borrow().is_raw_ready();
    let token = is_ready.then(|| shared.questions().borrow_mut().next_token());
    let Some(token) = token.flatten() else {
        return done(reactor, 0);
    };
    let late = Rc::clone(shared);
    let timeout = reactor.after(ANSWER_TIMEOUT, move |cx| {
        let question = late.questions().borrow_mut().take(token);
        finish(cx.reactor, question);
    });
    (shared.questions().borrow_mut()).add(token, timeout, Box::new(done));
    let message = ControlMessage::Order {
        origin: shared.origin(),
        token,
        order,
    };
    if shared.links().counts_subscribers() {
        ask_count(shared, reactor, token);
    }
    send(shared, reactor, &message);
}

/// Asks how many reactors hear the channel, so that the sum is complete before the time is over.
fn ask_count<S: 'static>(shared: &Rc<Shared<S>>, reactor: &mut Reactor<S>, token: u64) {
    let channel = shared.keys().control_channel();
    let again = Rc::clone(shared);
    // The answer to `PUBLISH` would count a link several times that has patterns too.
    let words = ["PUBSUB", "NUMSUB", &channel];
    (shared.links()).command_anywhere(reactor, &words, ANSWER_TIMEOUT, move |cx, reply| {
        let count = reply
            .ok()
            .and_then(|reply| reply.as_array()?.get(1)?.as_integer());
        let count = count.and_then(|count| usize::try_from(count).ok());
        let question = match count {
            Some(count) => again.questions().borrow_mut().note_expected(token, count),
            None => again.questions().borrow_mut().take(token),
        };
        finish(cx.reactor, question);
    });
}

/// Sends a message to all reactors that hear the channel.
fn send<S: 'static>(shared: &Shared<S>, reactor: &mut Reactor<S>, message: &ControlMessage) {
    let channel = shared.keys().control_channel();
    let bytes = message.encode();
    let words: [&[u8]; 3] = [b"PUBLISH", channel.as_bytes(), &bytes];
    (shared.links()).command_anywhere(reactor, &words, ANSWER_TIMEOUT, |_, _| {});
}

/// A message has come.
pub(super) fn handle<S: 'static>(shared: &Rc<Shared<S>>, reactor: &mut Reactor<S>, bytes: &[u8]) {
    match ControlMessage::parse(bytes) {
        Some(ControlMessage::Order {
            origin,
            token,
            order,
        }) => {
            let count = order.carry_out(reactor);
            let answer = ControlMessage::Answer {
                origin,
                token,
                count,
            };
            send(shared, reactor, &answer);
        }
        Some(ControlMessage::Answer {
            origin,
            token,
            count,
        }) if origin == shared.origin() => {
            let question = shared.questions().borrow_mut().note_answer(token, count);
            finish(reactor, question);
        }
        Some(ControlMessage::Answer { .. }) => {}
        Some(message) => presence::handle(shared, reactor, message),
        None => shared.note_left_out(reactor.now()),
    }
}

/// Ends an order, if it is there.
fn finish<S: 'static>(reactor: &mut Reactor<S>, question: Option<Question<S>>) {
    if let Some(question) = question {
        reactor.cancel(question.timeout);
        (question.done)(reactor, question.count);
    }
}
