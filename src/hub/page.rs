//! `GET /`: the demo page. Its script is `page.js`, which runs on the browser client; nothing comes from elsewhere.

use crate::protocol::http::Status;
use crate::server::reply::Reply;

const PAGE: &str = include_str!("page.html");

/// Stands once in the page, which shows from it whether publishing needs a token.
const PUBLISHING_IS_OPEN: &str = "data-publishing=\"open\"";

/// The page for clients that may publish without a token, or that need one for it.
pub(super) fn page(is_open: bool) -> Reply {
    // `'self'` covers the WebSocket too (CSP level 3), so the page talks to its own hub alone.
    const POLICY: &str = "default-src 'none'; connect-src 'self'; img-src data:; style-src 'unsafe-inline'; \
                          script-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    let reply = Reply::new(Status::OK).content_type("text/html; charset=utf-8");
    let reply = match is_open {
        true => reply.body(PAGE),
        false => reply.body(PAGE.replacen(PUBLISHING_IS_OPEN, "data-publishing=\"token\"", 1)),
    };
    let headers = [
        ("Content-Security-Policy", POLICY),
        ("X-Content-Type-Options", "nosniff"),
        ("Cache-Control", "no-cache"),
    ];
    headers
        .into_iter()
        .fold(reply, |reply, (name, value)| reply.header(name, value))
}
