//! Which pages may use a server from a browser: the check of `Origin`, and cross-origin sharing.
//!
//! Sources: RFC 6455, section 10.2; Fetch, "CORS protocol".

use std::borrow::Cow;
use std::time::Duration;

use crate::protocol::http::{ExtraHeaders, RequestHead, Scheme, Status};
use crate::reactor::log_limit::{LogLimit, truncate};

use super::reply::Reply;

/// Which pages may use a server from a browser.
///
/// A browser sends `Origin` with each request by which a page could read the answer of another site or post to
/// it, and a page cannot forge the header. Programs other than browsers can send any `Origin`, or none, so this
/// protects the users of browsers and is no access control.
///
/// Source: RFC 6455, section 10.2; Fetch, "CORS protocol".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origins {
    /// Pages of any origin.
    #[default]
    Any,
    /// Pages of the server itself, and of the origins listed, such as `https://example.org`.
    Listed {
        /// The other origins.
        origins: Vec<String>,
        /// Whether a request without an `Origin` header is allowed.
        absent: bool,
    },
}

impl Origins {
    /// Whether a request may be served, given its `Origin` and `Host`. Pages of the host count as the server's own
    /// whatever their scheme.
    pub fn allow(&self, origin: Option<&str>, host: Option<&str>) -> bool {
        self.allow_by(origin, host, None)
    }

    /// As [`allow`](Self::allow), for a request whose scheme a trusted proxy has said: a page of the host that was
    /// loaded by the other scheme is of another origin.
    pub(crate) fn allow_by(
        &self,
        origin: Option<&str>,
        host: Option<&str>,
        scheme: Option<Scheme>,
    ) -> bool {
        match (self, origin) {
            (Origins::Any, _) => true,
            (Origins::Listed { absent, .. }, None) => *absent,
            (Origins::Listed { origins, .. }, Some(origin)) => {
                // `Host` does not have the scheme, so pages of both schemes count as the server's own where no
                // trusted proxy says it: a proxy in front may speak TLS for it.
                let same = || {
                    let by = |prefix, other| match scheme == Some(other) {
                        true => None,
                        false => origin.strip_prefix(prefix),
                    };
                    let authority =
                        by("http://", Scheme::Https).or_else(|| by("https://", Scheme::Http));
                    authority
                        .zip(host)
                        .is_some_and(|(authority, host)| authority.eq_ignore_ascii_case(host))
                };
                same()
                    || origins
                        .iter()
                        .any(|listed| listed.trim_end_matches('/').eq_ignore_ascii_case(origin))
            }
        }
    }
}

/// The check of a router: which origin a request comes from, and whether that one is allowed.
pub(crate) struct OriginCheck {
    pub(crate) origins: Origins,
    /// The setting that log lines name to the operator as the way to allow an origin.
    pub(crate) setting: &'static str,
    /// Paths whose answers are the same for everybody, so that pages of any origin may ask for them. The answers
    /// bring their own `Access-Control-Allow-Origin`.
    pub(crate) is_public_path: fn(&str) -> bool,
    /// The answer to a page that is not allowed, for a path that has one of its own.
    pub(crate) refusal_of: fn(&str) -> Option<Reply>,
    /// Paths that pages of listed origins may ask for with the cookies of the server's own pages.
    pub(crate) shares_cookies: fn(&str) -> bool,
    refusals: LogLimit,
}

impl Default for OriginCheck {
    fn default() -> Self {
        OriginCheck {
            origins: Origins::Any,
            setting: "`Router::origins`",
            is_public_path: |_| false,
            refusal_of: |_| None,
            shares_cookies: |_| false,
            refusals: LogLimit::default(),
        }
    }
}

impl OriginCheck {
    /// Checks a request. Returns the headers of cross-origin sharing for its answer, without which the browser
    /// hides the answer from the page.
    ///
    /// # Errors
    ///
    /// The answer 403 to a page that is not allowed. The refusal is logged for the router called `name`. 400 for
    /// two origins, of which one could be checked and the other be meant.
    pub(crate) fn check(
        &mut self,
        head: &RequestHead<'_>,
        scheme: Option<Scheme>,
        name: &str,
        now: Duration,
    ) -> Result<ExtraHeaders, Reply> {
        let mut origins = head.headers.all("origin");
        let origin = origins.next();
        if origins.next().is_some() {
            return Err((Status::BAD_REQUEST, "two Origin headers\n").into());
        }
        if !self.origins.allow_by(origin, head.host, scheme) {
            // Asked only here, so that other requests do not pay for it. The answer says itself who may read it.
            if (self.is_public_path)(head.path()) {
                return Ok(Vec::new());
            }
            if let Some(suppressed) = self.refusals.allow_line(now) {
                log::warn!(
                    "{name}: refused a request from origin {:?}; {} allows it{suppressed}",
                    truncate(origin.unwrap_or("(none)")),
                    self.setting
                );
            }
            let usual = || (Status::FORBIDDEN, "this origin is not allowed\n").into();
            return Err((self.refusal_of)(head.path()).unwrap_or_else(usual));
        }
        // In each answer, also to a request without an origin: such an answer has no
        // `Access-Control-Allow-Origin`, and a cache must not give it to a page that needs one.
        let vary = ("Vary", Cow::Borrowed("Origin"));
        Ok(match (&self.origins, origin) {
            // `*` and not the origin itself: a cache can give such an answer to all pages, and browsers do not
            // accept it for requests with cookies.
            (Origins::Any, Some(_)) => vec![("Access-Control-Allow-Origin", "*".into())],
            (Origins::Any, None) => Vec::new(),
            (Origins::Listed { .. }, None) => vec![vary],
            (Origins::Listed { .. }, Some(origin)) => {
                let mut headers = vec![
                    vary,
                    ("Access-Control-Allow-Origin", origin.to_owned().into()),
                ];
                if (self.shares_cookies)(head.path()) {
                    headers.push(("Access-Control-Allow-Credentials", "true".into()));
                }
                headers
            }
        })
    }
}

/// The headers of an answer to a preflight, by which a browser asks for permission before the real request.
/// Empty when the request is no preflight.
///
/// All headers that the page wants to send are allowed, since an origin that is not allowed was refused before.
///
/// Source: Fetch, "CORS-preflight request".
pub(crate) fn preflight(head: &RequestHead<'_>, methods: &str) -> ExtraHeaders {
    let requested = |name| head.headers.first(name);
    if head.method != "OPTIONS" || requested("access-control-request-method").is_none() {
        return Vec::new();
    }
    let mut headers = vec![("Access-Control-Allow-Methods", methods.to_owned().into())];
    if let Some(names) = requested("access-control-request-headers") {
        headers.push(("Access-Control-Allow-Headers", names.to_owned().into()));
    }
    // Ten minutes, in seconds. Without it browsers ask again after five seconds.
    headers.push(("Access-Control-Max-Age", "600".into()));
    headers
}
