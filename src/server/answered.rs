//! The record of an answer, for an access log.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use crate::protocol::http::{OnAnswer, Status};
use crate::reactor::transport::socket::Peer;

/// An answer, for [`Router::after_reply`](crate::Router::after_reply).
#[derive(Debug)]
#[non_exhaustive]
pub struct Answered<'a> {
    /// The peer of the connection.
    pub peer: Peer,
    /// The address of the client: that of the peer, or the one that a
    /// [trusted proxy](crate::Config::trusted_proxies) has named.
    pub client: Option<IpAddr>,
    /// The method of the request. `None` where the request was refused before its first line was
    /// read, or for a first line that is not HTTP.
    pub method: Option<&'a str>,
    /// The path of the request, as it came. The query is left out, because it may contain a token.
    /// `None` as for the method.
    pub path: Option<&'a str>,
    /// The status of the answer: 101 for a WebSocket.
    pub status: Status,
    /// The length of the body, in bytes: 0 where it is streamed without a length.
    pub body_bytes: u64,
    /// The time from the complete head of the request until the answer began. For an answer with
    /// which the connection has failed, such as 408 or 413, it is the time until that answer was
    /// sent; without a complete head it is that since the refusal. [`Sim`](crate::Sim) counts by
    /// its own clock.
    pub time: Duration,
}

/// The callback of a router for each answer.
pub(super) type AfterReply = Rc<dyn Fn(&Answered<'_>)>;

/// Makes the call for the answer to a request that came at `begun_at`. The answer may come in a
/// later turn, when the head is gone, so this copies the method and the path, where they are known.
pub(super) fn on_answer(
    after_reply: &AfterReply,
    (peer, client): (Peer, Option<IpAddr>),
    request: Option<(&str, &str)>,
    begun_at: Duration,
) -> OnAnswer {
    let call = Rc::clone(after_reply);
    let request = request.map(|(method, path)| (method.to_owned(), path.to_owned()));
    OnAnswer(Box::new(move |status, body_bytes, now| {
        call(&Answered {
            peer,
            client,
            method: request.as_ref().map(|(method, _)| method.as_str()),
            path: request.as_ref().map(|(_, path)| path.as_str()),
            status,
            body_bytes,
            time: now.saturating_sub(begun_at),
        });
    }))
}
