//! Publishing for a request with an `Idempotency-Key`: once, however often the request comes.

use std::borrow::Cow;
use std::hash::Hash;
use std::sync::{Arc, PoisonError};

use crate::protocol::http::Status;
use crate::pubsub::Event;
use crate::reactor::reactor::Reactor;
use crate::server::reply::Reply;
use crate::server::request::Request;

use super::engine::{Engine, PublishError, PublishedOnce, RequestKey};
use super::idempotency::{Begun, KEY_BYTES_MAX, SharedIdempotency, Waiter};

/// The name of the header.
const HEADER: &str = "idempotency-key";

/// The key of a request, and the credential to which it belongs.
pub(super) struct Once<'i> {
    pub(super) credential: Option<Cow<'i, str>>,
    pub(super) key: &'i [u8],
}

/// A request that is under way. When it is dropped without an end, such as with its reactor, those who wait are
/// told, and the key may be used again.
struct UnderWay {
    keys: SharedIdempotency,
    number: u64,
    /// Whether the answer is kept here for repeats. Otherwise the engine recognises them.
    keeps_answer: bool,
}

impl UnderWay {
    fn end(&self, answer: Option<&Arc<[u8]>>) {
        let waiting = {
            let kept = answer.filter(|_| self.keeps_answer);
            let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
            keys.finish(self.number, kept.cloned())
        };
        for waiter in waiting {
            waiter(answer.cloned());
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        // Does nothing after an end.
        self.end(None);
    }
}

/// The key of a request, if it has one.
///
/// # Errors
///
/// The refusal of a key that is empty, too long, or not the only one.
pub(super) fn key_of<'i, S: 'static>(
    request: &Request<'_, 'i, S>,
) -> Result<Option<&'i [u8]>, Reply> {
    let headers = request.headers();
    let Some(key) = headers.first_bytes(HEADER) else {
        return Ok(None);
    };
    let count = headers.all(HEADER).count();
    if count == 1 && (1..=KEY_BYTES_MAX).contains(&key.len()) {
        return Ok(Some(key));
    }
    let why = format!("Idempotency-Key: expected one key of 1 to {KEY_BYTES_MAX} bytes\n");
    Err((Status::BAD_REQUEST, why).into())
}

/// Publishes each event to its topic for a request that has a key, unless it is a repeat. The answer is the JSON
/// that `to_json` makes of the outcomes; a repeat gets the first one. `what` is all that the request asks for, with
/// which the repeat is compared.
pub(super) fn publish<S: 'static>(
    request: &mut Request<'_, '_, S>,
    engine: &Engine<S>,
    once: &Once<'_>,
    what: &impl Hash,
    items: &[(Cow<'_, str>, Event<'_>)],
    to_json: fn(&[PublishedOnce]) -> Vec<u8>,
) {
    let responder = request.reply_later();
    let (remote, now) = (request.reactor.remote(), request.reactor.unix_time());
    let waiter = || -> Waiter {
        Box::new(move |answer| {
            // On the reactor that has the connection; when it has ended, so has the client.
            let _ = remote.run(move |cx| cx.reactor.reply(responder, reply_with(answer)));
        })
    };
    let keys = engine.idempotency();
    let begun = {
        let mut keys = keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.begin(once.credential.as_deref(), once.key, what, now, waiter)
    };
    let reactor = &mut *request.reactor;
    match begun {
        Begun::Waits => {}
        Begun::Repeat(answer) => {
            reactor.reply(responder, reply_with(Some(answer)));
        }
        Begun::Mismatch => {
            reactor.reply(responder, key_used());
        }
        Begun::New(number) => {
            let keys = Arc::clone(keys);
            let under_way = UnderWay {
                keys,
                number,
                keeps_answer: !engine.recognises_repeats(),
            };
            let done = move |reactor: &mut Reactor<S>, outcome: Result<&[PublishedOnce], _>| {
                let answer: Result<Arc<[u8]>, PublishError> =
                    outcome.map(|published| to_json(published).into());
                under_way.end(answer.as_ref().ok());
                let reply = match answer {
                    Ok(answer) => reply_with(Some(answer)),
                    Err(PublishError::KeyUsed) => key_used(),
                    Err(error) => unavailable(&error),
                };
                reactor.reply(responder, reply);
            };
            let key = RequestKey {
                credential: once.credential.as_deref(),
                key: once.key,
            };
            engine.publish_once(reactor, key, items, done);
        }
    }
}

/// The answer to another request with the same key.
fn key_used() -> Reply {
    let why = "this Idempotency-Key was used for another request\n";
    (Status::UNPROCESSABLE_CONTENT, why).into()
}

fn reply_with(answer: Option<Arc<[u8]>>) -> Reply {
    match answer {
        Some(json) => json_reply(json.to_vec()),
        None => unavailable(&"the first request with this Idempotency-Key was not carried out"),
    }
}

/// An answer in JSON.
pub(super) fn json_reply(json: Vec<u8>) -> Reply {
    Reply::new(Status::OK)
        .content_type("application/json")
        .body(json)
}

/// The answer to a request that may be sent again.
pub(super) fn unavailable(why: &dyn std::fmt::Display) -> Reply {
    let reply = Reply::from((Status::SERVICE_UNAVAILABLE, format!("{why}\n")));
    reply.header("Retry-After", "1")
}
