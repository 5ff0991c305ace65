//! The record of an answer, for an access log.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use crate::protocol::http::{OnAnswer, RequestHead, Status};
use crate::reactor::transport::Peer;

/// An answer, for [`Router::after_reply`](crate::Router::after_reply).
#[derive(Debug)]
#[non_exhaustive]
pub struct Answered<'a> {
    /// The peer of the connection.
    pub peer: Peer,
    /// The address of the client: that of the peer, or the one that a
    /// [trusted proxy](crate::Config::trusted_proxies) has named.
    pub client: Option<IpAddr>,
    /// The method of the request.
    pub method: &'a str,
    /// The path of the request, as it came. The query is left out, because it may contain a token.
    pub path: &'a str,
    /// The status of the answer: 101 for a WebSocket.
    pub status: Status,
    /// The length of the body, in bytes: 0 where it is streamed without a length.
    pub body_bytes: u64,
    /// The time from the complete head of the request until the answer began.
    pub time: Duration,
}

/// The callback of a router for each answer.
pub(super) type AfterReply = Rc<dyn Fn(&Answered<'_>)>;

/// Makes the call for the answer to a request that came at `begun_at`. The answer may come in a later turn, when
/// the head is gone, so this copies the method and the path.
pub(super) fn on_answer(
    after_reply: &AfterReply,
    (peer, client): (Peer, Option<IpAddr>),
    head: &RequestHead<'_>,
    begun_at: Duration,
) -> OnAnswer {
    let call = Rc::clone(after_reply);
    let (method, path) = (head.method.to_owned(), head.path().to_owned());
    OnAnswer(Box::new(move |status, body_bytes, now| {
        call(&Answered {
            peer,
            client,
            method: &method,
            path: &path,
            status,
            body_bytes,
            time: now.saturating_sub(begun_at),
        });
    }))
}
