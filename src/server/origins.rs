//! Which pages may use a server from a browser: the check of `Origin`, and cross-origin sharing.
//!
//! Sources: RFC 6455, section 10.2; Fetch, "CORS protocol".

use std::time::Duration;

use crate::protocol::http::{RequestHead, Status};

use super::log_limit::{LogLimit, truncate};
use super::reply::Reply;

/// Which pages may use a server from a browser. Requests without an `Origin` do not come from a
/// page of another site, and are allowed unless that is changed.
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
        /// Whether a request without an origin is allowed.
        absent: bool,
    },
}

impl Origins {
    /// Whether a request may be served, given its `Origin` and `Host`.
    pub fn allow(&self, origin: Option<&str>, host: Option<&str>) -> bool {
        match (self, origin) {
            (Origins::Any, _) => true,
            (Origins::Listed { absent, .. }, None) => *absent,
            (Origins::Listed { origins, .. }, Some(origin)) => {
                let same = || {
                    let authority = origin
                        .strip_prefix("http://")
                        .or_else(|| origin.strip_prefix("https://"));
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

/// Asks every request where it comes from.
pub(crate) struct OriginCheck {
    pub(crate) origins: Origins,
    /// The setting that log lines name to the operator as the way to allow an origin.
    pub(crate) setting: &'static str,
    refusals: LogLimit,
}

/// Headers that are added to an answer.
pub(crate) type ExtraHeaders = Vec<(&'static str, String)>;

impl Default for OriginCheck {
    fn default() -> Self {
        OriginCheck {
            origins: Origins::Any,
            setting: "`Router::origins`",
            refusals: LogLimit::default(),
        }
    }
}

impl OriginCheck {
    /// The headers of cross-origin sharing for the answer to the page that asks.
    ///
    /// # Errors
    ///
    /// The answer to a page that may not; it is logged for the router called `name`.
    pub(crate) fn check(
        &mut self,
        head: &RequestHead<'_>,
        name: &str,
        now: Duration,
    ) -> Result<ExtraHeaders, Reply> {
        let origin = head.headers.first("origin");
        if !self.origins.allow(origin, head.host()) {
            if let Some(suppressed) = self.refusals.allow_line(now) {
                log::warn!(
                    "{name}: refused a request from origin {:?}; {} allows it{suppressed}",
                    truncate(origin.unwrap_or("(none)")),
                    self.setting
                );
            }
            return Err((Status::FORBIDDEN, "this origin is not allowed\n").into());
        }
        let mut headers = Vec::new();
        match (&self.origins, origin) {
            (Origins::Any, Some(_)) => {
                headers.push(("Access-Control-Allow-Origin", "*".to_owned()))
            }
            (Origins::Any, None) => {}
            (Origins::Listed { .. }, origin) => {
                // Of an answer to nobody in particular too: a cache must not give it to another
                // page.
                headers.push(("Vary", "Origin".to_owned()));
                if let Some(origin) = origin {
                    headers.push(("Access-Control-Allow-Origin", origin.to_owned()));
                }
            }
        }
        Ok(headers)
    }
}

/// What a preflight learns beside the methods of a path; nothing, where a request is none.
///
/// Source: Fetch, "CORS-preflight request".
pub(crate) fn preflight(head: &RequestHead<'_>, methods: &str) -> ExtraHeaders {
    let asks_for = |name| head.headers.first(name);
    if head.method != "OPTIONS" || asks_for("access-control-request-method").is_none() {
        return Vec::new();
    }
    let mut headers = vec![("Access-Control-Allow-Methods", methods.to_owned())];
    if let Some(names) = asks_for("access-control-request-headers") {
        headers.push(("Access-Control-Allow-Headers", names.to_owned()));
    }
    headers.push(("Access-Control-Max-Age", "600".to_owned()));
    headers
}
