//! Tokens of requests, and the answers to requests that are refused.
//!
//! A token comes as a bearer token, as the parameter `authorization` of the query, or in one of two cookies.
//!
//! Source: RFC 6750, section 3; draft-dunglas-mercure-07, section 6.

use std::borrow::Cow;

use crate::hub::access::Access;
use crate::hub::guesses;
use crate::hub::parts::Parts;
use crate::hub::rights::{bearer, cookie};
use crate::hub::secrets::TokenSecrets;
use crate::protocol::http::Status;
use crate::server::reply::Reply;
use crate::server::request::Request;

use super::claims::Grants;

/// The cookies that may have a token, the first that is there.
const COOKIES: [&str; 2] = ["__Secure-mercure_access_token", "mercureAuthorization"];

/// Why a request is refused.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It has no token.
    Missing,
    /// Its token is not valid.
    Invalid {
        /// It was signed with no key of the hub.
        is_guess: bool,
    },
    /// Its token does not grant this.
    Scope,
    /// It is not valid, whoever asks. The text says why.
    Request(Status, String),
}

/// The refusal of a request that is not valid.
pub(super) fn bad(why: impl std::fmt::Display) -> Refusal {
    Refusal::Request(Status::BAD_REQUEST, format!("{why}\n"))
}

/// The grants of the token of a request. `None` where it has none.
///
/// # Errors
///
/// [`Refusal::Invalid`].
pub(super) fn grants_of<S: 'static>(
    request: &Request<'_, '_, S>,
    access: &Access,
    secrets: &TokenSecrets,
) -> Result<Option<Grants>, Refusal> {
    let Some(token) = token_of(request, access) else {
        return Ok(None);
    };
    let token = secrets.verify_foreign(&token, request.reactor.system_unix_time());
    let token = token.map_err(|error| Refusal::Invalid {
        is_guess: !error.is_signed(),
    })?;
    let invalid = Refusal::Invalid { is_guess: false };
    Grants::of(&token).map(Some).ok_or(invalid)
}

/// The token of a request, right or wrong.
fn token_of<'i, S: 'static>(request: &Request<'_, 'i, S>, access: &Access) -> Option<Cow<'i, str>> {
    let headers = request.headers();
    let cookie = |name: &&str| cookie(headers, name, access).map(Cow::Borrowed);
    headers
        .first("authorization")
        .and_then(bearer)
        .or_else(|| request.query("authorization"))
        .filter(|token| !token.is_empty())
        .or_else(|| COOKIES.iter().find_map(cookie))
}

/// Answers a request that is refused: after a pause, where its token may be a guess.
pub(super) fn refuse<S: 'static>(
    request: &mut Request<'_, '_, S>,
    refusal: Refusal,
    hub: &Parts<S>,
) {
    let (status, text, challenge) = match &refusal {
        Refusal::Missing => (
            Status::UNAUTHORIZED,
            "this needs a token: `Authorization: Bearer TOKEN`\n",
            "Bearer",
        ),
        Refusal::Invalid { .. } => (
            Status::UNAUTHORIZED,
            "the token is not valid\n",
            "Bearer error=\"invalid_token\"",
        ),
        Refusal::Scope => (
            Status::FORBIDDEN,
            "the token does not grant this\n",
            "Bearer error=\"insufficient_scope\"",
        ),
        Refusal::Request(status, text) => {
            let reply = with_shared_headers(request, (*status, text.clone()).into());
            request.reply(reply);
            return;
        }
    };
    let reply = Reply::from((status, text)).header("WWW-Authenticate", challenge);
    let reply = with_shared_headers(request, reply);
    match refusal {
        Refusal::Invalid { is_guess: true } => {
            guesses::refuse_wrong(request, reply, &hub.guesses);
        }
        _ => _ = request.reply(reply),
    }
}

/// Adds the headers by which a page of another origin reads the answer.
pub(super) fn with_shared_headers<S: 'static>(request: &Request<'_, '_, S>, reply: Reply) -> Reply {
    match request.headers().contains("origin") {
        true => reply.header(
            "Access-Control-Expose-Headers",
            "Link, Mercure-Last-Event-ID, WWW-Authenticate",
        ),
        false => reply,
    }
}
