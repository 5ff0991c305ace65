//! Wrong tokens: counted by address, answered more and more slowly, and logged once a minute.
//!
//! Without this a stranger could try a million tokens a second, and no line would say so. A right token is
//! never slowed, so strangers behind the same address as a publisher cannot keep it out.
//!
//! An answer that waits holds the place of its connection and an entry in one list, which a single timer reads.
//! The list is bounded: above that the answer goes out at once and the connection ends, so that a client that
//! guesses has to connect again for each token, where the limits on connections hold.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use crate::protocol::http::Status;
use crate::protocol::network::site_of;
use crate::pubsub::{Rules, check_name, pattern};
use crate::reactor::id::ConnId;
use crate::reactor::log_limit::LogLimit;
use crate::reactor::reactor::{Cx, Reactor};
use crate::server::reply::{Reply, Responder};
use crate::server::request::Request;

use super::access::{self, Access};
use super::rights::{Lack, Rights, Shown};

/// The most wrong tokens on one WebSocket, the one of its handshake included.
pub(super) const WRONG_TOKENS_MAX: u8 = 5;

/// "Policy violation". Source: RFC 6455, section 7.4.1.
pub(super) const POLICY_VIOLATION: u16 = 1008;

/// The most addresses that are remembered. A stranger that has more than this many addresses is not slowed.
const ADDRESSES_MAX: usize = 10_000;

/// The most answers that wait. Each keeps a connection open, and a process may have as few as a thousand.
const WAITING_MAX: usize = 256;

/// The pause before the first wrong token is answered. It doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause, shorter than the time in which a request must be answered.
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// The longest time between two looks at the answers that wait. A drain that has begun meanwhile waits for its
/// connections, so they are answered then.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// An address is forgotten this long after its last wrong token.
const REMEMBERED: Duration = Duration::from_secs(600);

/// The wrong tokens of one listener, for all of its routes.
pub(super) type SharedGuesses = Rc<RefCell<Guesses>>;

#[derive(Clone, Copy, Debug)]
struct Guess {
    count: u32,
    last: Duration,
}

/// Why a request is refused.
pub(super) enum Denied {
    /// It is not valid, whoever asks. The answer says why.
    Invalid(Reply),
    /// The client has no right to this part of it.
    NotGranted {
        what: &'static str,
        lack: Lack,
        shown: Shown,
    },
}

/// Checks the names that a request subscribes to: that they are valid, not too many, and allowed to its client.
///
/// # Errors
///
/// For the first that is not.
pub(super) fn check_names<S: 'static>(
    request: &Request<'_, '_, S>,
    names: &[Cow<'_, str>],
    rules: &Rules,
    rights: &Rights,
    shown: Shown,
) -> Result<(), Denied> {
    let bad = |why: String| Denied::Invalid((Status::BAD_REQUEST, why).into());
    for name in names {
        check_name(name).map_err(|why| bad(format!("topic {name:?}: {why}\n")))?;
        let what = match pattern::is_pattern(name) {
            true => "a pattern",
            false => "this topic",
        };
        let denied = |lack| Denied::NotGranted { what, lack, shown };
        rights.may_subscribe(rules, name).map_err(denied)?;
    }
    let config = request.reactor.config();
    if config.subscriptions_max < names.len() {
        return Err(bad("too many topics\n".into()));
    }
    let patterns = names.iter().filter(|it| pattern::is_pattern(it));
    match config.patterns_max < patterns.count() {
        true => Err(bad("too many patterns\n".into())),
        false => Ok(()),
    }
}

/// The rights of a request that asks for what only the back end does. `what` names it.
///
/// # Errors
///
/// When it may not.
pub(super) fn check_administration<S: 'static>(
    request: &Request<'_, '_, S>,
    access: &Access,
    what: &'static str,
) -> Result<Rights, Denied> {
    let (rights, shown) = Rights::of_request(request, access);
    let denied = |lack| Denied::NotGranted { what, lack, shown };
    rights.may_administer().map_err(denied)?;
    Ok(rights)
}

/// An answer to a wrong token.
#[derive(Debug)]
pub(super) enum Answer {
    /// 401. The text says what needs a token.
    Refusal(Responder, &'static str),
    /// Another protocol's refusal.
    #[cfg(feature = "mercure")]
    Reply(Responder, Box<Reply>),
    /// The WebSocket is opened, without the rights that the token would give.
    Handshake(Responder),
    /// A text message on a WebSocket, which is not read before.
    Message(ConnId, String),
    /// The end of a WebSocket that has given too many wrong tokens.
    Close(ConnId),
}

impl Answer {
    fn connection(&self) -> ConnId {
        match self {
            Answer::Refusal(responder, _) | Answer::Handshake(responder) => responder.id(),
            #[cfg(feature = "mercure")]
            Answer::Reply(responder, _) => responder.id(),
            Answer::Message(id, _) | Answer::Close(id) => *id,
        }
    }

    fn give<S: 'static>(self, reactor: &mut Reactor<S>) {
        match self {
            Answer::Refusal(responder, what) => {
                reactor.reply(responder, access::unauthorized(what, None));
            }
            #[cfg(feature = "mercure")]
            Answer::Reply(responder, reply) => {
                reactor.reply(responder, *reply);
            }
            Answer::Handshake(responder) => {
                reactor.accept(responder, ());
            }
            Answer::Message(id, text) => {
                reactor.send(id, text);
                reactor.resume(id);
            }
            Answer::Close(id) => close(reactor, id),
        }
    }
}

/// Ends a WebSocket for its wrong tokens.
pub(super) fn close<S: 'static>(reactor: &mut Reactor<S>, id: ConnId) {
    reactor.close_with(id, POLICY_VIOLATION, "too many wrong tokens");
}

/// Answers a request that is refused: after a pause, if it has a token that is not right.
pub(super) fn refuse<S: 'static>(
    request: &mut Request<'_, '_, S>,
    denied: Denied,
    guesses: &SharedGuesses,
) {
    let (what, lack, shown) = match denied {
        Denied::NotGranted { what, lack, shown } => (what, lack, shown),
        Denied::Invalid(reply) => {
            request.reply(reply);
            return;
        }
    };
    let refused = match (lack, shown) {
        (Lack::Grant, _) => {
            request.reply(access::forbidden(what));
            return;
        }
        (Lack::Credential, Shown::Refused(error)) => Some(error),
        (Lack::Credential, Shown::Nothing | Shown::Wrong) => None,
    };
    if shown == Shown::Wrong {
        match note_wrong(request.reactor, request.id, guesses) {
            Some(pause) => {
                let responder = request.reply_later();
                let answer = Answer::Refusal(responder, what);
                return answer_request(request.reactor, pause, responder, answer, guesses);
            }
            None => close_after_answer(request),
        }
    }
    request.reply(access::unauthorized(what, refused));
}

/// Answers a request with a wrong token, after a pause.
#[cfg(feature = "mercure")]
pub(super) fn refuse_wrong<S: 'static>(
    request: &mut Request<'_, '_, S>,
    reply: Reply,
    guesses: &SharedGuesses,
) {
    match note_wrong(request.reactor, request.id, guesses) {
        Some(pause) => {
            let responder = request.reply_later();
            let answer = Answer::Reply(responder, Box::new(reply));
            answer_request(request.reactor, pause, responder, answer, guesses);
        }
        None => {
            close_after_answer(request);
            request.reply(reply);
        }
    }
}

/// Lets a handshake with a wrong token wait, before its WebSocket is opened.
///
/// # Errors
///
/// The answer where too many wait already.
pub(super) fn check_handshake<S: 'static>(
    request: &mut Request<'_, '_, S>,
    access: &Access,
    guesses: &SharedGuesses,
) -> Result<(), Reply> {
    let (rights, shown) = Rights::of_request(request, access);
    if rights.is_trusted() || shown != Shown::Wrong {
        return Ok(());
    }
    let Some(pause) = note_wrong(request.reactor, request.id, guesses) else {
        close_after_answer(request);
        return Err(access::unauthorized(
            "this token is wrong; a WebSocket with a token",
            None,
        ));
    };
    let responder = request.decide_later();
    let answer = Answer::Handshake(responder);
    answer_request(request.reactor, pause, responder, answer, guesses);
    Ok(())
}

/// Counts a wrong token that came on a connection. Returns the pause before it is answered, or `None` where the
/// answer must not wait: too many wait already, or the reactor drains.
pub(super) fn note_wrong<S: 'static>(
    reactor: &mut Reactor<S>,
    id: ConnId,
    guesses: &SharedGuesses,
) -> Option<Duration> {
    reactor.stats_mut().wrong_tokens += 1;
    let client = reactor.client_address(id);
    let mut guesses = guesses.borrow_mut();
    let pause = guesses.note_wrong(client, reactor.now());
    (guesses.waiting.len() < WAITING_MAX && !reactor.is_draining()).then_some(pause)
}

/// Gives an answer after a pause. It is given at once when the reactor begins to drain.
pub(super) fn answer_later<S: 'static>(
    reactor: &mut Reactor<S>,
    pause: Duration,
    answer: Answer,
    guesses: &SharedGuesses,
) -> (Duration, u64) {
    let key = guesses.borrow_mut().add(reactor.now() + pause, answer);
    if !guesses.borrow().has_timer {
        set_timer(reactor, guesses);
    }
    key
}

/// As [`answer_later`]; the answer is forgotten when its client has gone.
fn answer_request<S: 'static>(
    reactor: &mut Reactor<S>,
    pause: Duration,
    responder: Responder,
    answer: Answer,
    guesses: &SharedGuesses,
) {
    let key = answer_later(reactor, pause, answer, guesses);
    let from = Rc::clone(guesses);
    reactor.on_gone(responder, move |_, _| {
        from.borrow_mut().waiting.remove(&key);
    });
}

fn close_after_answer<S: 'static>(request: &mut Request<'_, '_, S>) {
    if let Some(exchange) = request.reactor.exchange(request.id) {
        exchange.close_after();
    }
}

/// Sets the timer for the answers that wait, if there are any.
fn set_timer<S: 'static>(reactor: &mut Reactor<S>, guesses: &SharedGuesses) {
    let first = guesses.borrow().waiting.keys().next().copied();
    guesses.borrow_mut().has_timer = first.is_some();
    let Some((due, _)) = first else {
        return;
    };
    let delay = due.saturating_sub(reactor.now()).min(LOOK_INTERVAL);
    let guesses = Rc::clone(guesses);
    reactor.after(delay, move |cx: &mut Cx<'_, S>| {
        let until = match cx.reactor.is_draining() {
            true => Duration::MAX,
            false => cx.reactor.now(),
        };
        let due = guesses.borrow_mut().take_due(until);
        for answer in due.into_values() {
            answer.give(cx.reactor);
        }
        set_timer(cx.reactor, &guesses);
    });
}

/// The wrong tokens that one listener of one reactor has got.
#[derive(Debug, Default)]
pub(super) struct Guesses {
    /// `None` for all clients without an address, such as those of a Unix socket.
    by_address: HashMap<Option<IpAddr>, Guess>,
    line: LogLimit,
    /// The answers that wait, by the time at which they are due and a number that makes the keys differ.
    waiting: BTreeMap<(Duration, u64), Answer>,
    added_count: u64,
    /// Whether a timer is set for them.
    has_timer: bool,
}

impl Guesses {
    /// Counts a wrong token, and returns the pause before it is answered.
    fn note_wrong(&mut self, client: Option<IpAddr>, now: Duration) -> Duration {
        if let Some(suppressed) = self.line.allow_line(now) {
            let from = client.map_or("a client without an address".to_owned(), |it| {
                it.to_string()
            });
            log::warn!("a wrong token from {from}{suppressed}");
        }
        let count = self.count(client.map(site_of), now);
        let doubled = 1_u32.checked_shl(count - 1).unwrap_or(u32::MAX);
        FIRST_PAUSE.saturating_mul(doubled).min(LONGEST_PAUSE)
    }

    /// Whether an address has given so many wrong tokens that another one ends its WebSocket at once.
    pub(super) fn is_guessing(&self, client: Option<IpAddr>) -> bool {
        self.by_address
            .get(&client.map(site_of))
            .is_some_and(|guess| u32::from(WRONG_TOKENS_MAX) < guess.count)
    }

    /// Forgets the answers that wait for a WebSocket, which has ended.
    pub(super) fn forget(&mut self, id: ConnId) {
        self.waiting.retain(|_, answer| answer.connection() != id);
    }

    fn add(&mut self, due: Duration, answer: Answer) -> (Duration, u64) {
        self.added_count += 1;
        let key = (due, self.added_count);
        self.waiting.insert(key, answer);
        key
    }

    fn take_due(&mut self, until: Duration) -> BTreeMap<(Duration, u64), Answer> {
        let later = self.waiting.split_off(&(until, u64::MAX));
        std::mem::replace(&mut self.waiting, later)
    }

    fn count(&mut self, address: Option<IpAddr>, now: Duration) -> u32 {
        let is_old = |guess: &Guess| guess.last + REMEMBERED < now;
        if ADDRESSES_MAX <= self.by_address.len() && !self.by_address.contains_key(&address) {
            self.by_address.retain(|_, guess| !is_old(guess));
            if ADDRESSES_MAX <= self.by_address.len() {
                return 1;
            }
        }
        let guess = self.by_address.entry(address).or_insert(Guess {
            count: 0,
            last: now,
        });
        if is_old(guess) {
            guess.count = 0;
        }
        guess.count = guess.count.saturating_add(1);
        guess.last = now;
        guess.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(ip: &str) -> Option<IpAddr> {
        Some(ip.parse().unwrap())
    }

    #[test]
    fn the_pause_grows_by_address_and_is_forgotten() {
        let mut guesses = Guesses::default();
        let at = Duration::from_secs;
        let cases = [
            ("203.0.113.1", 0, 100),
            ("203.0.113.1", 1, 200),
            ("203.0.113.2", 1, 100),
            ("2001:db8::1", 2, 100),
            ("2001:db8::2", 2, 200),
            ("2001:db8:0:1::1", 2, 100),
            ("203.0.113.1", 3, 400),
            ("203.0.113.1", 700, 100),
        ];
        for (address, second, millis) in cases {
            let pause = guesses.note_wrong(peer(address), at(second));
            assert_eq!(pause.as_millis(), millis, "{address} at {second} s");
        }
        for _ in 0..100 {
            guesses.note_wrong(peer("203.0.113.9"), at(701));
        }
        let pause = guesses.note_wrong(peer("203.0.113.9"), at(701));
        assert_eq!(pause, LONGEST_PAUSE);
        assert!(guesses.is_guessing(peer("203.0.113.9")));
        assert!(!guesses.is_guessing(peer("203.0.113.1")));
        assert_eq!(guesses.note_wrong(None, at(701)), FIRST_PAUSE);
    }

    #[test]
    fn the_addresses_are_bounded() {
        let mut guesses = Guesses::default();
        for number in 0..2 * ADDRESSES_MAX as u32 {
            let address = IpAddr::from(std::net::Ipv4Addr::from(number));
            guesses.note_wrong(Some(address), Duration::ZERO);
        }
        assert_eq!(guesses.by_address.len(), ADDRESSES_MAX);
    }
}
