//! Messages between the reactors of all nodes: orders of a back end, and how many each has carried out.
//!
//! ```text
//!   asker ── PUBLISH order ─▶ each reactor with users, the asker too: carries it out
//!     ▲                                 │
//!     └──── PUBLISH answer ◀────────────┘        the sum, when as many have answered as Redis has reached, or after a second
//! ```
//!
//! A message is an array of words in the form of RESP, on a channel that no topic can have. It is subscribed on reactors
//! whose clients may have users. Each program that may publish in Redis may send one.

use std::rc::Rc;
use std::time::Duration;

use crate::client::redis::SubscriptionKind;
use crate::hub::order::Order;
use crate::protocol::resp::{Reply, ReplyDecoder, encode_command};
use crate::reactor::reactor::Reactor;

use super::questions::Question;
use super::shared::Shared;

/// How long the reactors may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// The longest message, in bytes.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
enum ControlMessage {
    Order {
        origin: u64,
        token: u64,
        order: Order,
    },
    Answer {
        origin: u64,
        token: u64,
        count: usize,
    },
}

impl ControlMessage {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let hexadecimal = |number: &u64| format!("{number:x}");
        match self {
            ControlMessage::Order {
                origin,
                token,
                order,
            } => {
                let (kind, user, name) = match order {
                    Order::Disconnect { user } => ("disconnect", user, None),
                    Order::Unsubscribe { user, name } => ("unsubscribe", user, Some(name)),
                };
                let mut words = vec![kind.to_owned(), hexadecimal(origin), hexadecimal(token)];
                words.push(user.clone());
                words.extend(name.cloned());
                encode_command(&words, &mut out);
            }
            ControlMessage::Answer {
                origin,
                token,
                count,
            } => {
                let words = [
                    "answer".to_owned(),
                    hexadecimal(origin),
                    hexadecimal(token),
                    count.to_string(),
                ];
                encode_command(&words, &mut out);
            }
        }
        out
    }

    /// `None` for bytes that no node has written.
    fn parse(bytes: &[u8]) -> Option<ControlMessage> {
        let mut rest = bytes;
        let mut decoder = ReplyDecoder::new(MESSAGE_BYTES_MAX);
        let reply = decoder.next_reply(&mut rest).ok()??;
        if !rest.is_empty() {
            return None;
        }
        let words: Option<Vec<&str>> = reply.as_array()?.iter().map(Reply::as_str).collect();
        let words = words?;
        let [kind, origin, token, ref arguments @ ..] = words[..] else {
            return None;
        };
        let origin = u64::from_str_radix(origin, 16).ok()?;
        let token = u64::from_str_radix(token, 16).ok()?;
        let order = match (kind, arguments) {
            ("disconnect", [user]) => Order::Disconnect {
                user: (*user).to_owned(),
            },
            ("unsubscribe", [user, name]) => Order::Unsubscribe {
                user: (*user).to_owned(),
                name: (*name).to_owned(),
            },
            ("answer", [count]) => {
                let count = count.parse().ok()?;
                return Some(ControlMessage::Answer {
                    origin,
                    token,
                    count,
                });
            }
            _ => return None,
        };
        Some(ControlMessage::Order {
            origin,
            token,
            order,
        })
    }
}

/// Hears orders from now on. The first call counts.
pub(super) fn join<S: 'static>(shared: &Rc<Shared<S>>, reactor: &mut Reactor<S>) {
    if !shared.questions().borrow_mut().note_joined() {
        let channel = shared.keys().control_channel();
        let kind = SubscriptionKind::Channel;
        shared.redis().hold(reactor, kind, channel.as_bytes());
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
    let is_ready = shared.recovery().borrow().is_ready();
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
    let channel = shared.keys().control_channel();
    let again = Rc::clone(shared);
    // The answer to `PUBLISH` would count a link several times that has patterns too.
    let words = ["PUBSUB", "NUMSUB", &channel];
    (shared.redis()).command_within(reactor, &words, ANSWER_TIMEOUT, move |cx, reply| {
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
    send(shared, reactor, &message);
}

/// Sends a message to all reactors that hear the channel.
fn send<S: 'static>(shared: &Shared<S>, reactor: &mut Reactor<S>, message: &ControlMessage) {
    let channel = shared.keys().control_channel();
    let bytes = message.encode();
    let words: [&[u8]; 3] = [b"PUBLISH", channel.as_bytes(), &bytes];
    (shared.redis()).command_within(reactor, &words, ANSWER_TIMEOUT, |_, _| {});
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_as_they_were() {
        let order = |order| ControlMessage::Order {
            origin: u64::MAX,
            token: 0x1f,
            order,
        };
        let messages = [
            order(Order::Disconnect {
                user: "ada\r\n$".to_owned(),
            }),
            order(Order::Unsubscribe {
                user: String::new(),
                name: "a*".to_owned(),
            }),
            ControlMessage::Answer {
                origin: 0,
                token: 1,
                count: 17,
            },
        ];
        for message in messages {
            assert_eq!(ControlMessage::parse(&message.encode()), Some(message));
        }
    }

    #[test]
    fn other_bytes_are_no_message() {
        let words: &[&[&str]] = &[
            &[],
            &["disconnect"],
            &["disconnect", "1", "2"],
            &["disconnect", "x", "2", "ada"],
            &["disconnect", "1", "2", "ada", "a"],
            &["unsubscribe", "1", "2", "ada"],
            &["answer", "1", "2", "-1"],
            &["answer", "1", "2", "99999999999999999999"],
            &["other", "1", "2", "ada"],
        ];
        for words in words {
            let mut bytes = Vec::new();
            encode_command(words, &mut bytes);
            assert_eq!(ControlMessage::parse(&bytes), None, "{words:?}");
        }
        let long = format!("$70000\r\n{}\r\n", "x".repeat(70_000));
        let texts = [
            "",
            "x",
            "*1\r\n",
            "+OK\r\n",
            ":1\r\n",
            "*0\r\n*0\r\n",
            &long,
        ];
        for text in texts {
            assert_eq!(ControlMessage::parse(text.as_bytes()), None, "{text:.20}");
        }
    }
}
