//! The target of a request: path, query, and the host where it names one.

// The address alone, as a grammar: no socket comes with it.
use core::net::Ipv6Addr;

use crate::protocol::digits::parse_decimal;
use crate::protocol::split::split_once;

use super::error::HttpError;

/// The parts of a request's target, still encoded.
///
/// Source: RFC 9112, section 3.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'h> {
    /// The whole target, as it was received.
    pub whole: &'h str,
    /// The path, which begins with a slash; `*` for the server as such, empty for CONNECT.
    pub path: &'h str,
    /// The part after the first question mark.
    pub query: Option<&'h str>,
    /// Host and port, where the target names them. They override the `Host` header.
    pub authority: Option<&'h str>,
}

impl<'h> Target<'h> {
    /// Parses a target. Its form depends on the method.
    pub(super) fn parse(method: &str, whole: &'h str) -> Result<Target<'h>, HttpError> {
        // A fragment is never sent by a correct client, and programs read a raw byte above ASCII in
        // different ways.
        // Without an early exit, so that the compiler makes vector code of it.
        let is_allowed = |allowed, byte: u8| allowed & byte.is_ascii_graphic() & (byte != b'#');
        if !whole.bytes().fold(true, is_allowed) {
            return Err(HttpError::BadTarget);
        }
        if method == "CONNECT" {
            let has_port = whole
                .rsplit_once(':')
                .is_some_and(|(_, port)| !port.is_empty());
            return if has_port && is_host(whole) {
                Ok(Target {
                    whole,
                    path: "",
                    query: None,
                    authority: Some(whole),
                })
            } else {
                Err(HttpError::BadTarget)
            };
        }
        if whole == "*" && method == "OPTIONS" {
            return Ok(Target {
                whole,
                path: whole,
                query: None,
                authority: None,
            });
        }
        if whole.starts_with('/') {
            let (path, query) = split_query(whole);
            return Ok(Target {
                whole,
                path,
                query,
                authority: None,
            });
        }
        let rest = strip_scheme(whole).ok_or(HttpError::BadTarget)?;
        let authority_bytes = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(authority_bytes);
        if !is_host(authority) {
            return Err(HttpError::BadTarget);
        }
        let (path, query) = split_query(rest);
        let path = if path.is_empty() { "/" } else { path };
        Ok(Target {
            whole,
            path,
            query,
            authority: Some(authority),
        })
    }
}

fn split_query(target: &str) -> (&str, Option<&str>) {
    match split_once(target, b'?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    }
}

fn strip_scheme(target: &str) -> Option<&str> {
    ["http://", "https://"].into_iter().find_map(|scheme| {
        let (given, rest) = target.split_at_checked(scheme.len())?;
        given.eq_ignore_ascii_case(scheme).then_some(rest)
    })
}

/// Whether this is a host with an optional port, as in a `Host` header. An empty host is refused,
/// because the URI of every request that comes here has one.
///
/// Source: RFC 3986, section 3.2.2; RFC 9110, sections 4.2.1 and 7.2.
pub(super) fn is_host(text: &str) -> bool {
    if let Some(literal) = text.strip_prefix('[') {
        return literal.split_once(']').is_some_and(|(address, port)| {
            address.parse::<Ipv6Addr>().is_ok()
                && port.strip_prefix(':').map_or(port.is_empty(), is_port)
        });
    }
    let (name, rest) = text.split_at(registered_name_bytes(text.as_bytes()));
    !name.is_empty() && (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port))
}

fn is_port(port: &str) -> bool {
    port.is_empty() || parse_decimal(port.as_bytes()).is_some_and(|port| port <= u16::MAX.into())
}

/// The length of the registered name at the front of `text`.
fn registered_name_bytes(text: &[u8]) -> usize {
    let mut rest = text;
    while let [first, after @ ..] = rest {
        rest = match after {
            _ if NAME_BYTES[usize::from(*first)] => after,
            [high, low, after @ ..]
                if *first == b'%' && high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                after
            }
            _ => break,
        };
    }
    text.len() - rest.len()
}

/// For each byte, whether a registered name may have it as it is: unreserved characters and
/// delimiters within a component. Source: RFC 3986, sections 2.2, 2.3 and 3.2.2.
static NAME_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < table.len() {
        table[byte] = matches!(byte as u8, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9'
            | b'-' | b'.' | b'_' | b'~'
            | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=');
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        type Parts = (&'static str, Option<&'static str>, Option<&'static str>);
        let cases: &[(&str, &str, Option<Parts>)] = &[
            ("GET", "/", Some(("/", None, None))),
            ("GET", "/a/b?c=d?e", Some(("/a/b", Some("c=d?e"), None))),
            ("GET", "/?", Some(("/", Some(""), None))),
            ("GET", "//double", Some(("//double", None, None))),
            ("GET", "/a|b{c}", Some(("/a|b{c}", None, None))),
            (
                "GET",
                "http://h:80/x?y",
                Some(("/x", Some("y"), Some("h:80"))),
            ),
            ("GET", "HTTPS://h", Some(("/", None, Some("h")))),
            ("GET", "http://h?y", Some(("/", Some("y"), Some("h")))),
            ("GET", "http:///x", None),
            ("GET", "http://user@h/", None),
            ("GET", "ftp://h/", None),
            ("GET", "h:80", None),
            ("GET", "a", None),
            ("GET", "*", None),
            ("GET", "/a#b", None),
            ("GET", "/\u{e9}", None),
            ("OPTIONS", "*", Some(("*", None, None))),
            ("OPTIONS", "**", None),
            ("OPTIONS", "/", Some(("/", None, None))),
            ("CONNECT", "h:443", Some(("", None, Some("h:443")))),
            ("CONNECT", "[::1]:443", Some(("", None, Some("[::1]:443")))),
            ("CONNECT", "h", None),
            ("CONNECT", "h:", None),
            ("CONNECT", "/", None),
            ("CONNECT", "http://h/", None),
        ];
        for (method, whole, expected) in cases {
            let parts = Target::parse(method, whole).map(|target| {
                assert_eq!(target.whole, *whole);
                (target.path, target.query, target.authority)
            });
            assert_eq!(
                parts,
                expected.ok_or(HttpError::BadTarget),
                "{method} {whole}"
            );
        }
    }

    #[test]
    fn hosts() {
        for host in [
            "h",
            "example.org",
            "example.org:8080",
            "example.org:",
            "127.0.0.1:1",
            "[::1]",
            "[::1]:65535",
            "a_b",
            "xn--bcher-kva.example",
            "a%20b",
            "a,b",
        ] {
            assert!(is_host(host), "{host}");
        }
        for other in [
            "",
            ":80",
            "h:65536",
            "h:+1",
            "h:a",
            "h:1:2",
            "[::1",
            "::1",
            "[::1]x",
            "[::1]80",
            "[h]",
            "a b",
            "a/b",
            "u@h",
            "a%2",
            "a%zz",
            "http://h",
            "h\\",
            "h?",
            "\u{e9}",
            "[fe80::1%25eth0]",
        ] {
            assert!(!is_host(other), "{other}");
        }
    }
}
