//! The address and the scheme of a client behind proxies: `X-Forwarded-For`, `X-Forwarded-Proto` and `Forwarded`.
//!
//! Each proxy appends the address that it was asked from, so the list is read from the right, and only as far as
//! the proxies are known: a client may have begun the list with anything. An address that is not one of a known
//! proxy is the client. The scheme is the one that the proxy in front of that client has written.
//! A proxy may hide whom it was asked by, or not know it: `unknown`, a name such as `_hidden`, or an
//! element without `for`. The list is read no further then, and the client is not known.
//!
//! Source: RFC 7239, sections 4 to 6 and 7.4.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::headers::Headers;

/// Why forwarding headers cannot be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardedError {
    /// Two headers say different things. A proxy sets one header and passes on the other as the
    /// client wrote it.
    Contradiction,
    /// A header is malformed where it is read.
    Malformed,
}

impl fmt::Display for ForwardedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ForwardedError::Contradiction => "its forwarding headers contradict each other",
            ForwardedError::Malformed => "a forwarding header is malformed",
        })
    }
}

/// The scheme by which a client asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Without TLS.
    Http,
    /// With TLS.
    Https,
}

/// The client of a request, as known proxies say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forwarded {
    /// The client's address. `None` when no header names one that is not a proxy itself, or when the
    /// proxy hides it.
    pub client: Option<IpAddr>,
    /// The scheme by which the client asked the outermost of the known proxies. `None` when no header says it.
    pub scheme: Option<Scheme>,
}

/// The client of a request that came from a known proxy.
///
/// # Errors
///
/// [`ForwardedError`]: the request should be refused.
pub fn forwarded(
    headers: Headers<'_>,
    is_proxy: impl Fn(IpAddr) -> bool,
) -> Result<Forwarded, ForwardedError> {
    // Empty elements say nothing. Source: RFC 9110, section 5.6.1.2.
    let list = |name| -> Vec<&str> {
        let lines = headers.all(name);
        let elements = lines.flat_map(|line| line.split(',')).map(str::trim);
        elements.filter(|element| !element.is_empty()).collect()
    };
    let elements = list("forwarded");
    let by_element = from_the_right(&elements, for_of, &is_proxy)?;
    let nodes = list("x-forwarded-for");
    let by_node = from_the_right(&nodes, |node| node_of(node).map(Some), &is_proxy)?;
    let schemes = list("x-forwarded-proto");
    let client = match agreed(by_element.client, by_node.client)? {
        Some(Node::Address(address)) => Some(address),
        Some(Node::Hidden) | None => None,
    };
    Ok(Forwarded {
        client,
        scheme: agreed(
            nth_from_the_right(&elements, by_element.hop_count).and_then(proto_of),
            nth_from_the_right(&schemes, by_node.hop_count).and_then(scheme_of),
        )?,
    })
}

/// The value that two headers name, of which each may name none.
fn agreed<T: PartialEq>(one: Option<T>, other: Option<T>) -> Result<Option<T>, ForwardedError> {
    match (one, other) {
        (Some(one), Some(other)) if one != other => Err(ForwardedError::Contradiction),
        (one, other) => Ok(one.or(other)),
    }
}

/// Whom a proxy was asked by, as it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Address(IpAddr),
    /// The proxy does not know it, or hides it.
    Hidden,
}

/// A client in a list, and how many elements from the right belong to it and to the proxies behind it.
struct Found {
    client: Option<Node>,
    hop_count: usize,
}

/// The first node from the right that is not a proxy. An element may name none.
fn from_the_right(
    elements: &[&str],
    node_in: impl Fn(&str) -> Result<Option<Node>, ForwardedError>,
    is_proxy: impl Fn(IpAddr) -> bool,
) -> Result<Found, ForwardedError> {
    for (index, element) in elements.iter().rev().enumerate() {
        let client = node_in(element)?;
        if !matches!(client, Some(Node::Address(address)) if is_proxy(address)) {
            return Ok(Found {
                client,
                hop_count: index + 1,
            });
        }
    }
    Ok(Found {
        client: None,
        hop_count: elements.len(),
    })
}

/// The element that was written by the outermost of `hop_count` known proxies, of which the last one is the
/// peer. A shorter list was begun anew by one of these proxies, so one of them has written its first element
/// too.
fn nth_from_the_right<'l>(list: &[&'l str], hop_count: usize) -> Option<&'l str> {
    let hop_count = hop_count.clamp(1, list.len().max(1));
    list.get(list.len().checked_sub(hop_count)?).copied()
}

/// The node in the parameter `for` of one element.
fn for_of(element: &str) -> Result<Option<Node>, ForwardedError> {
    let mut pairs = element.split(';').map(str::trim);
    if !pairs.all(|pair| pair.is_empty() || pair.contains('=')) {
        return Err(ForwardedError::Malformed);
    }
    parameter(element, "for").map(node_of).transpose()
}

/// The scheme in the parameter `proto` of one element.
fn proto_of(element: &str) -> Option<Scheme> {
    scheme_of(parameter(element, "proto")?)
}

fn parameter<'e>(element: &'e str, name: &str) -> Option<&'e str> {
    element.split(';').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        key.trim()
            .eq_ignore_ascii_case(name)
            .then(|| value.trim().trim_matches('"'))
    })
}

/// Some proxies name the scheme of a WebSocket by that of its URL. An unknown scheme counts as none.
fn scheme_of(text: &str) -> Option<Scheme> {
    let is = |name: &str| text.trim().eq_ignore_ascii_case(name);
    match (is("http") || is("ws"), is("https") || is("wss")) {
        (true, _) => Some(Scheme::Http),
        (_, true) => Some(Scheme::Https),
        (false, false) => None,
    }
}

/// An address, `unknown`, or a hidden name such as `_hidden`, with or without a port.
///
/// Source: RFC 7239, section 6. `X-Forwarded-For` has no standard: an IPv6 address is there without
/// its brackets too.
fn node_of(node: &str) -> Result<Node, ForwardedError> {
    if let Ok(address) = node.parse::<Ipv6Addr>() {
        return Ok(Node::Address(IpAddr::from(address).to_canonical()));
    }
    let (name, port) = match node.rsplit_once(':') {
        // The colon is one of the address.
        Some(_) if node.ends_with(']') => (node, None),
        Some((name, port)) => (name, Some(port)),
        None => (node, None),
    };
    let is_port = |port: &str| port.parse::<u16>().is_ok() || is_hidden(port);
    if !port.is_none_or(is_port) {
        return Err(ForwardedError::Malformed);
    }
    if name.eq_ignore_ascii_case("unknown") || is_hidden(name) {
        return Ok(Node::Hidden);
    }
    let in_brackets = name.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    let address = match in_brackets {
        Some(address) => address.parse::<Ipv6Addr>().map(IpAddr::from),
        None => name.parse::<Ipv4Addr>().map(IpAddr::from),
    };
    match address {
        Ok(address) => Ok(Node::Address(address.to_canonical())),
        Err(_) => Err(ForwardedError::Malformed),
    }
}

/// Whether this is a name or a port that a proxy has made up. Source: RFC 7239, section 6.3.
fn is_hidden(text: &str) -> bool {
    let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    text.strip_prefix('_')
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(is_of_name))
}

#[cfg(test)]
mod tests {
    use super::super::headers::HeaderStorage;
    use super::super::limits::Limits;
    use super::super::request::parse_request_head;
    use super::*;

    fn parsed(lines: &str) -> Result<Forwarded, ForwardedError> {
        let head = format!("GET / HTTP/1.1\r\nHost: h\r\n{lines}\r\n");
        let mut storage = HeaderStorage::new();
        let parsed = parse_request_head(head.as_bytes(), &mut storage, &Limits::default());
        let parsed = parsed.unwrap().unwrap();
        let is_proxy = |address: IpAddr| address.to_string().starts_with("10.");
        forwarded(parsed.head.headers, is_proxy)
    }

    fn client(lines: &str) -> Result<Option<String>, ForwardedError> {
        let client = parsed(lines)?.client;
        Ok(client.map(|address| address.to_string()))
    }

    #[test]
    fn the_scheme_is_the_one_by_which_the_client_asked_the_outermost_proxy() {
        let (http, https) = (Some(Scheme::Http), Some(Scheme::Https));
        let cases = [
            ("", None),
            ("X-Forwarded-Proto: https\r\n", https),
            ("X-Forwarded-Proto: HTTP\r\n", http),
            ("X-Forwarded-Proto: wss\r\n", https),
            ("X-Forwarded-Proto: gopher\r\n", None),
            // The client has begun the list.
            ("X-Forwarded-Proto: https, http\r\n", http),
            (
                "X-Forwarded-For: 203.0.113.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Proto: https\r\n",
                https,
            ),
            // Two proxies, each of which has added to both lists.
            (
                "X-Forwarded-For: 192.0.2.9, 203.0.113.1, 10.0.0.7\r\nX-Forwarded-Proto: http, https, http\r\n",
                https,
            ),
            // Two proxies, and one has set the scheme alone.
            (
                "X-Forwarded-For: 203.0.113.1, 10.0.0.7\r\nX-Forwarded-Proto: https\r\n",
                https,
            ),
            // A proxy asks for itself.
            (
                "X-Forwarded-For: 10.0.0.7\r\nX-Forwarded-Proto: https\r\n",
                https,
            ),
            ("Forwarded: for=203.0.113.1;proto=https\r\n", https),
            ("Forwarded: for=203.0.113.1;Proto=\"HTTPS\"\r\n", https),
            ("Forwarded: for=203.0.113.1\r\n", None),
            (
                "Forwarded: proto=https;for=192.0.2.9, for=203.0.113.1;proto=http\r\n",
                http,
            ),
            (
                "Forwarded: for=203.0.113.1;proto=https, for=10.0.0.7;proto=http\r\n",
                https,
            ),
            (
                "Forwarded: for=203.0.113.1;proto=https\r\nX-Forwarded-Proto: https\r\n",
                https,
            ),
        ];
        for (lines, expected) in cases {
            let scheme = parsed(lines).map(|forwarded| forwarded.scheme);
            assert_eq!(scheme, Ok(expected), "{lines:?}");
        }
        let contradiction = "Forwarded: for=203.0.113.1;proto=http\r\nX-Forwarded-Proto: https\r\n";
        assert_eq!(parsed(contradiction), Err(ForwardedError::Contradiction));
    }

    #[test]
    fn the_client_is_the_first_from_the_right_that_is_no_proxy() {
        let cases = [
            ("", None),
            ("X-Forwarded-For: 203.0.113.1\r\n", Some("203.0.113.1")),
            (
                "X-Forwarded-For: 203.0.113.1, 10.0.0.7\r\n",
                Some("203.0.113.1"),
            ),
            (
                "X-Forwarded-For: 192.0.2.9, 203.0.113.1\r\n",
                Some("203.0.113.1"),
            ),
            (
                "X-Forwarded-For: nonsense, 203.0.113.1\r\n",
                Some("203.0.113.1"),
            ),
            (
                "X-Forwarded-For: 192.0.2.9\r\nX-Forwarded-For: 203.0.113.1\r\n",
                Some("203.0.113.1"),
            ),
            ("X-Forwarded-For: 10.0.0.7\r\n", None),
            ("X-Forwarded-For: 203.0.113.1:4711\r\n", Some("203.0.113.1")),
            ("X-Forwarded-For: 2001:db8::1\r\n", Some("2001:db8::1")),
            (
                "Forwarded: for=203.0.113.1;proto=https\r\n",
                Some("203.0.113.1"),
            ),
            (
                "Forwarded: For=\"[2001:db8::1]:4711\"\r\n",
                Some("2001:db8::1"),
            ),
            (
                "Forwarded: for=192.0.2.9, proto=http;for=203.0.113.1\r\n",
                Some("203.0.113.1"),
            ),
            (
                "Forwarded: for=203.0.113.1\r\nX-Forwarded-For: 203.0.113.1\r\n",
                Some("203.0.113.1"),
            ),
        ];
        for (lines, expected) in cases {
            assert_eq!(client(lines), Ok(expected.map(str::to_owned)), "{lines:?}");
        }
    }

    #[test]
    fn a_client_that_the_proxy_hides_is_not_known() {
        let https = Some(Scheme::Https);
        let cases = [
            ("X-Forwarded-For: unknown\r\n", None),
            ("X-Forwarded-For: Unknown:4711\r\n", None),
            // The client has begun the list.
            ("X-Forwarded-For: 203.0.113.1, unknown\r\n", None),
            ("X-Forwarded-For: 203.0.113.1, unknown, 10.0.0.7\r\n", None),
            ("X-Forwarded-For: \r\n", None),
            ("X-Forwarded-For: ,\r\n", None),
            ("Forwarded: for=unknown\r\n", None),
            ("Forwarded: for=_hidden, for=10.0.0.7\r\n", None),
            ("Forwarded: for=\"_SEVKISEK:_a.b-c\";proto=https\r\n", https),
            ("Forwarded: proto=https\r\n", https),
            ("Forwarded: for=203.0.113.1, proto=https;by=_us;\r\n", https),
            (
                "Forwarded: for=unknown\r\nX-Forwarded-For: unknown\r\n",
                None,
            ),
        ];
        for (lines, scheme) in cases {
            let expected = Forwarded {
                client: None,
                scheme,
            };
            assert_eq!(parsed(lines), Ok(expected), "{lines:?}");
        }
        let named = [
            "X-Forwarded-For: 203.0.113.1,\r\n",
            "X-Forwarded-For: , 203.0.113.1 ,, 10.0.0.7\r\n",
            "X-Forwarded-For: 203.0.113.1:_port\r\n",
            "Forwarded: for=203.0.113.1, , for=\"10.0.0.7:_port\"\r\n",
            // One header has the scheme, the other one the client.
            "Forwarded: proto=https\r\nX-Forwarded-For: 203.0.113.1\r\n",
        ];
        for lines in named {
            assert_eq!(client(lines), Ok(Some("203.0.113.1".into())), "{lines:?}");
        }
    }

    #[test]
    fn headers_that_contradict_each_other_or_are_malformed_are_errors() {
        let contradictions = [
            "Forwarded: for=192.0.2.9\r\nX-Forwarded-For: 203.0.113.1\r\n",
            // The proxy has hidden its client, who has written the other header.
            "Forwarded: for=_hidden\r\nX-Forwarded-For: 203.0.113.1\r\n",
        ];
        for lines in contradictions {
            let expected = Err(ForwardedError::Contradiction);
            assert_eq!(client(lines), expected, "{lines:?}");
        }
        for lines in [
            "X-Forwarded-For: nonsense\r\n",
            "X-Forwarded-For: 203.0.113.1, -\r\n",
            "X-Forwarded-For: 203.0.113.256\r\n",
            "X-Forwarded-For: 203.0.113.1:65536\r\n",
            "X-Forwarded-For: _\r\n",
            "X-Forwarded-For: _a b\r\n",
            "X-Forwarded-For: [2001:db8::1\r\n",
            "Forwarded: 203.0.113.1\r\n",
            "Forwarded: for=\r\n",
            "Forwarded: for=host.example.org\r\n",
        ] {
            let expected = Err(ForwardedError::Malformed);
            assert_eq!(client(lines), expected, "{lines:?}");
        }
    }
}
