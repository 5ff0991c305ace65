//! Refusals: the answers to requests that reach no route, and the ends of those that are not HTTP.

use crate::protocol::http::{HttpError, RequestHead, Status, upgrade};
use crate::reactor::close::CloseCause;
use crate::reactor::id::ConnId;
use crate::reactor::reactor::Reactor;

use super::origins::preflight;
use super::reply::Reply;
use super::websocket::upgrade_required_reply;

/// Refuses a request that no route has seen.
///
/// Status 400 and 403 close the connection: the client sends broken requests, or its page is not
/// allowed here, and the next request would be refused too. After another status, such as 401 or
/// 426, the client may do better on the same connection.
pub(super) fn send_refusal<S: 'static>(reactor: &mut Reactor<S>, id: ConnId, reply: Reply) {
    if matches!(reply.status, Status::BAD_REQUEST | Status::FORBIDDEN)
        && let Some(exchange) = reactor.exchange(id)
    {
        exchange.close_after();
    }
    reactor.send_reply(id, reply);
}

/// The answer to an upgrade request that breaks the rules of the handshake.
///
/// Source: RFC 6455, section 4.2.2.
pub(super) fn upgrade_refusal_reply(refusal: upgrade::Refusal) -> Reply {
    let reply = if refusal.status() == Status::UPGRADE_REQUIRED {
        upgrade_required_reply()
    } else {
        refusal.status().into()
    };
    reply.body(format!("{refusal}\n"))
}

/// The answer to a request without a route: 404 where no route has its path, otherwise 405, or 204
/// to an `OPTIONS`, with the methods of the path.
///
/// Source: RFC 9110, sections 9.3.7 and 15.5.6.
pub(super) fn no_route_reply(head: &RequestHead<'_>, allowed: &[String]) -> Reply {
    // `OPTIONS *` and `CONNECT host:port` have no path, so the answer cannot be that the path is
    // missing.
    let is_about_the_server = head.path() == "*" || head.method == "CONNECT";
    if allowed.is_empty() && !is_about_the_server {
        return Status::NOT_FOUND.into();
    }
    let mut methods = allowed.join(", ");
    // A route for GET answers HEAD too, and this function answers OPTIONS for each path.
    if allowed.iter().any(|method| method == "GET") {
        methods.push_str(", HEAD");
    }
    methods.push_str(if methods.is_empty() {
        "OPTIONS"
    } else {
        ", OPTIONS"
    });
    let reply: Reply = if head.method == "OPTIONS" {
        Status::NO_CONTENT.into()
    } else {
        Status::METHOD_NOT_ALLOWED.into()
    };
    let shared = preflight(head, &methods);
    reply
        .with_extra_headers(&[("Allow", methods.into())])
        .with_extra_headers(&shared)
}

/// Ends a connection whose bytes are not HTTP, with the status that says why.
///
/// `name` is that of the listener, for log lines. Two errors are mistakes of the operator and not
/// of a client: TLS on a plain port, and a proxy that sends a PROXY header. Each is a warning once
/// in the reactor's life, since it comes with each connection.
pub(super) fn fail_request<S: 'static>(
    reactor: &mut Reactor<S>,
    id: ConnId,
    error: HttpError,
    name: &str,
) {
    let stats = reactor.stats_mut();
    let misdirected = match error {
        HttpError::TlsOnPlainPort => Some((
            &mut stats.tls_on_plain_port,
            "a client speaks TLS, but this port is without TLS",
        )),
        HttpError::ProxyHeader => Some((
            &mut stats.proxy_headers,
            "a proxy sends PROXY headers, but this port does not read them; `proxy_protocol` of its options reads them",
        )),
        _ => None,
    };
    if let Some((count, why)) = misdirected {
        *count += 1;
        if *count == 1 {
            log::warn!("{name}: {why}");
        }
    }
    log::debug!("conn {id} {}: {error}", reactor.peer(id));
    reactor.fail(id, CloseCause::Http(error));
}
