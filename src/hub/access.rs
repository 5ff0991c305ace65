//! Who may publish and use patterns, from which pages, under which names.

use std::borrow::Cow;

use crate::server::request::Request;
use crate::session::websocket::Handshake;

/// The rights on one listener.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// The token that publishing and patterns need. `None`: nobody has one.
    pub token: Option<String>,
    /// Publishing and patterns are for anyone, whatever the token.
    pub open: bool,
    /// The origins whose pages may use the hub beside its own, such as `https://example.org`; the
    /// host of each is also a name that a loopback listener answers to.
    pub origins: Vec<String>,
    /// The listener is on a loopback address: only this machine reaches it, and only by its
    /// loopback names.
    pub is_loopback: bool,
    /// The listener is a Unix socket, which no browser reaches.
    pub is_unix: bool,
}

impl Access {
    /// Whether who holds `token` may publish and use patterns.
    ///
    /// Without a token configured, local listeners are open and others are closed.
    pub fn allows(&self, token: Option<&str>) -> bool {
        if self.open {
            return true;
        }
        match (&self.token, token) {
            (None, _) => self.is_loopback || self.is_unix,
            (Some(_), None) => false,
            (Some(expected), Some(token)) => {
                equal_in_constant_time(expected.as_bytes(), token.as_bytes())
            }
        }
    }

    /// Whether a request that names `host` is served.
    ///
    /// A page of any website can have its name resolve to 127.0.0.1 and then speak to a hub there
    /// as its own origin; what it cannot change is that the browser sends that name.
    pub(crate) fn serves(&self, host: &str) -> bool {
        !self.is_loopback
            || is_loopback_name(host)
            || self
                .origins
                .iter()
                .any(|origin| authority(origin).eq_ignore_ascii_case(host))
    }
}

/// The token of a request: its bearer token, or the query's.
pub(crate) fn token_of<'i, S: 'static>(request: &Request<'_, 'i, S>) -> Option<Cow<'i, str>> {
    request
        .header("authorization")
        .and_then(bearer)
        .or_else(|| request.query("token"))
}

/// The token of a WebSocket's request: the same two places.
pub(crate) fn token_of_handshake<'h>(handshake: &Handshake<'h>) -> Option<Cow<'h, str>> {
    handshake
        .header("authorization")
        .and_then(bearer)
        .or_else(|| handshake.query("token"))
}

fn bearer(value: &str) -> Option<Cow<'_, str>> {
    let (scheme, token) = value.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| Cow::Borrowed(token.trim()))
}

fn authority(origin: &str) -> &str {
    origin
        .split_once("://")
        .map_or(origin, |(_, authority)| authority)
        .trim_end_matches('/')
}

fn is_loopback_name(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port))
            if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') =>
        {
            name
        }
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    let name_without_dot = name.trim_end_matches('.');
    name_without_dot.eq_ignore_ascii_case("localhost")
        || name_without_dot
            .to_ascii_lowercase()
            .ends_with(".localhost")
        || name
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

// The time it takes tells how long the expected token is, and nothing else.
fn equal_in_constant_time(expected: &[u8], given: &[u8]) -> bool {
    let mut difference = expected.len() ^ given.len();
    for (index, byte) in expected.iter().enumerate() {
        difference |= usize::from(byte ^ given.get(index).copied().unwrap_or(0));
    }
    std::hint::black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_names() {
        for host in [
            "localhost",
            "localhost:8080",
            "LOCALHOST",
            "app.localhost:3000",
            "127.0.0.1",
            "127.0.0.1:8080",
            "127.9.9.9",
            "[::1]:8080",
            "[::1]",
        ] {
            assert!(is_loopback_name(host), "{host}");
        }
        for host in [
            "example.org",
            "localhost.example.org",
            "127.0.0.1.example.org",
            "10.0.0.1",
            "0.0.0.0:8080",
            "",
            "notlocalhost",
        ] {
            assert!(!is_loopback_name(host), "{host}");
        }
    }

    #[test]
    fn publishing_needs_the_token_or_a_local_listener() {
        let token = Some("secret".to_owned());
        let cases = [
            (
                "local",
                Access {
                    is_loopback: true,
                    ..Access::default()
                },
                None,
                true,
            ),
            (
                "unix",
                Access {
                    is_unix: true,
                    ..Access::default()
                },
                None,
                true,
            ),
            (
                "elsewhere, no token configured",
                Access::default(),
                Some("guess"),
                false,
            ),
            (
                "open",
                Access {
                    open: true,
                    ..Access::default()
                },
                None,
                true,
            ),
            (
                "right token",
                Access {
                    token: token.clone(),
                    ..Access::default()
                },
                Some("secret"),
                true,
            ),
            (
                "wrong token",
                Access {
                    token: token.clone(),
                    ..Access::default()
                },
                Some("secreT"),
                false,
            ),
            (
                "longer token",
                Access {
                    token: token.clone(),
                    ..Access::default()
                },
                Some("secrets"),
                false,
            ),
            (
                "empty token",
                Access {
                    token: token.clone(),
                    ..Access::default()
                },
                Some(""),
                false,
            ),
            (
                "local with a token configured",
                Access {
                    token,
                    is_loopback: true,
                    ..Access::default()
                },
                None,
                false,
            ),
        ];
        for (name, access, given, expected) in cases {
            assert_eq!(access.allows(given), expected, "{name}");
        }
    }

    #[test]
    fn hosts_of_a_loopback_listener() {
        let access = Access {
            is_loopback: true,
            origins: vec!["https://live.example.org".into()],
            ..Access::default()
        };
        assert!(access.serves("localhost:8080"));
        assert!(access.serves("live.example.org"));
        assert!(!access.serves("rebound.example.net"));
        assert!(Access::default().serves("rebound.example.net"));
    }
}
