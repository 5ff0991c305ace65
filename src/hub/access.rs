//! The rights on a listener: publishing and patterns, the origins of pages, the names of the host.

use crate::protocol::http::{Headers, Status};
use crate::reactor::id::ConnId;
use crate::reactor::reactor::Reactor;
use crate::server::reply::Reply;

use super::jwt::TokenError;
use super::secrets::TokenSecrets;
use super::tokens::{Tokens, equal_in_constant_time};

/// The rights on one listener. By default every field is off or empty, so that publishing and patterns are
/// closed to all.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// The token that publishing and patterns need. With `None` only those of [`tokens`](Self::tokens) are
    /// accepted.
    pub token: Option<String>,
    /// Further tokens, each of which is accepted too. Unlike [`token`](Self::token) they may be replaced
    /// while the hub runs.
    pub tokens: Tokens,
    /// The secrets of JSON Web Tokens. A token that one of them has signed, by HS256, HS384 or HS512, grants
    /// what its claim `waterwheel` says.
    pub token_secrets: TokenSecrets,
    /// Anybody may publish and use patterns, with or without a token.
    pub open: bool,
    /// The origins whose pages may use the hub beside its own, such as `https://example.org`; the
    /// host of each is also a name that a loopback listener answers to.
    pub origins: Vec<String>,
    /// The listener is on a loopback address: only this machine reaches it, and the hub refuses
    /// requests for a host that is neither a loopback name nor that of a listed origin.
    pub is_loopback: bool,
    /// The listener is a Unix socket, which no browser reaches.
    pub is_unix: bool,
    /// A proxy stands in front, so that a client on this machine may be anybody: a loopback listener or a
    /// Unix socket without a token is not open.
    pub has_proxy: bool,
    /// The name under which the operator sets [`origins`](Self::origins), such as `--allow-origin`.
    /// Log lines about refused requests name it. `None`: they name the field `Access::origins`.
    pub origins_setting: Option<&'static str>,
}

impl Access {
    /// Whether a client that gives `token` may publish and use patterns. JSON Web Tokens are not looked at.
    ///
    /// Where no token is configured, a loopback listener and a Unix socket are open and others are
    /// closed. They are not open where a proxy stands in front: [`has_proxy`](Self::has_proxy) is set, or an
    /// origin is listed that is not on this machine.
    pub fn allows(&self, token: Option<&str>) -> bool {
        self.grants(|| false) || token.is_some_and(|given| self.is_publish_token(given))
    }

    /// Whether a client without a token may publish and use patterns. `is_forwarded` says whether a proxy has
    /// passed its request on.
    pub(super) fn grants(&self, is_forwarded: impl FnOnce() -> bool) -> bool {
        self.open || !self.has_publish_token() && self.is_open_locally() && !is_forwarded()
    }

    /// Whether there is a token with which one may publish.
    pub(super) fn has_publish_token(&self) -> bool {
        self.token.is_some() || !self.tokens.is_empty()
    }

    /// Whether this is such a token.
    pub(super) fn is_publish_token(&self, given: &str) -> bool {
        let expected = self.token.as_deref();
        let is_first = expected.is_some_and(|expected| equal_in_constant_time(expected, given));
        // All are compared, so that the time does not depend on which one it is.
        is_first | self.tokens.contain(given)
    }

    /// Whether clients on this machine need no token where none is configured.
    pub fn is_open_locally(&self) -> bool {
        let is_remote = |origin: &String| !is_loopback_name(authority(origin));
        (self.is_loopback || self.is_unix) && !self.has_proxy && !self.origins.iter().any(is_remote)
    }

    /// The setting that log lines name to the operator as the way to allow an origin.
    pub(super) fn origins_setting(&self) -> &'static str {
        self.origins_setting.unwrap_or("`Access::origins`")
    }

    /// Whether a request that names `host` is served.
    ///
    /// Prevents DNS rebinding: the owner of a website can point its host name at 127.0.0.1, so that
    /// its pages reach a local hub as their own origin. The browser still sends that host name.
    pub(super) fn serves(&self, host: &str) -> bool {
        !self.is_loopback
            || is_loopback_name(host)
            || self
                .origins
                .iter()
                .any(|origin| authority(origin).eq_ignore_ascii_case(host))
    }
}

/// Whether a proxy stands in front of a client: it has named the client by the PROXY protocol, or passed a request
/// on with a header that does.
pub(super) fn is_from_proxy<S: 'static>(
    reactor: &Reactor<S>,
    id: ConnId,
    headers: Headers<'_>,
) -> bool {
    reactor.is_proxied(id) || is_forwarded(headers)
}

/// Whether a proxy has passed a request on: it has a header by which a proxy says for whom it asks.
///
/// Source: RFC 7239; RFC 9110, section 7.6.3.
fn is_forwarded(headers: Headers<'_>) -> bool {
    headers.iter().any(|(name, _)| {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        // The length is compared first, so that most lines cost one branch.
        match name.len() {
            3 => is("via"),
            9 => is("forwarded") || is("x-real-ip"),
            15 => is("x-forwarded-for"),
            16 => is("x-forwarded-host"),
            17 => is("x-forwarded-proto"),
            _ => false,
        }
    })
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

/// The answer to a request that needs a credential. `refused` says why the one that it has is refused, if it is a
/// token that was signed.
pub(super) fn unauthorized(what: &str, refused: Option<TokenError>) -> Reply {
    let needs = format!("{what} needs a token: `Authorization: Bearer TOKEN`, or `?token=TOKEN`\n");
    let (text, challenge) = match refused {
        None => (needs, "Bearer"),
        Some(why) => (format!("{why}; {needs}"), "Bearer error=\"invalid_token\""),
    };
    Reply::from((Status::UNAUTHORIZED, text)).header("WWW-Authenticate", challenge)
}

/// The answer to a request whose token does not grant it.
pub(super) fn forbidden(what: &str) -> Reply {
    let text = format!("the token does not grant this: {what}\n");
    (Status::FORBIDDEN, text).into()
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
    fn a_local_listener_behind_a_proxy_is_not_open() {
        let local = Access {
            is_loopback: true,
            ..Access::default()
        };
        let unix = Access {
            is_unix: true,
            ..Access::default()
        };
        for access in [local, unix] {
            assert!(access.allows(None));
            assert!(!access.grants(|| true), "a request that a proxy sent");
            let with_origin = |origin: &str| Access {
                origins: vec![origin.into()],
                ..access.clone()
            };
            assert!(!with_origin("https://live.example.org").allows(None));
            assert!(with_origin("http://localhost:3000").allows(None));
            let behind = Access {
                has_proxy: true,
                ..access.clone()
            };
            assert!(!behind.allows(None) && !behind.allows(Some("guess")));
            let open = Access {
                open: true,
                ..behind
            };
            assert!(open.grants(|| true));
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
