//! Wrong tokens: counted by address, answered more and more slowly, and logged once a minute.
//!
//! Without this a stranger could try a million tokens a second, and no line would say so. A right token is
//! never slowed, so strangers behind the same address as a publisher cannot keep it out.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::protocol::http::Status;
use crate::protocol::network::site_of;
use crate::reactor::log_limit::LogLimit;
use crate::reactor::reactor::Cx;
use crate::server::reply::Reply;
use crate::server::request::Request;

use super::access::token_of;

/// The most wrong tokens on one WebSocket, the one of its handshake included.
pub(super) const WRONG_TOKENS_MAX: u8 = 5;

/// The most addresses that are remembered. A stranger that has more than this many addresses is not slowed.
const ADDRESSES_MAX: usize = 10_000;

/// The pause before the first wrong token is answered. It doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause, shorter than the time in which a request must be answered.
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// An address is forgotten this long after its last wrong token.
const REMEMBERED: Duration = Duration::from_secs(600);

#[derive(Clone, Copy, Debug)]
struct Guess {
    count: u32,
    last: Duration,
}

/// Answers a request that is refused: after a pause, if it has a token that is not right.
pub(super) fn refuse<S: 'static>(
    request: &mut Request<'_, '_, S>,
    reply: Reply,
    guesses: &RefCell<Guesses>,
) {
    if reply.status != Status::UNAUTHORIZED || token_of(request).is_none() {
        request.reply(reply);
        return;
    }
    request.reactor.stats_mut().wrong_tokens += 1;
    let client = request.reactor.client_address(request.id);
    let now = request.reactor.now();
    let pause = guesses.borrow_mut().note_wrong(client, now);
    let responder = request.reply_later();
    request.reactor.after(pause, move |cx: &mut Cx<'_, S>| {
        cx.reactor.reply(responder, reply);
    });
}

/// The wrong tokens that one listener of one reactor has got.
#[derive(Debug, Default)]
pub(super) struct Guesses {
    /// `None` for all clients without an address, such as those of a Unix socket.
    by_address: HashMap<Option<IpAddr>, Guess>,
    line: LogLimit,
}

impl Guesses {
    /// Counts a wrong token, and returns the pause before it is answered.
    pub(super) fn note_wrong(&mut self, client: Option<IpAddr>, now: Duration) -> Duration {
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
