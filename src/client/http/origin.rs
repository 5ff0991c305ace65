//! The server that a request goes to.

use crate::protocol::http::{Scheme, Url};

/// Scheme, host and port of a URL: requests with the same origin may share connections, and a redirect to another
/// origin gets no credentials.
///
/// Source: RFC 9110, section 4.3.1.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Origin {
    pub(super) has_tls: bool,
    /// In lower case; an IPv6 address in brackets.
    pub(super) host: String,
    pub(super) port: u16,
}

impl Origin {
    pub(super) fn of(url: &Url<'_>) -> Origin {
        Origin {
            has_tls: url.scheme == Scheme::Https,
            host: url.host.to_ascii_lowercase(),
            port: url.port,
        }
    }

    /// The address to connect to, as `HOST:PORT`.
    pub(super) fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}
