//! The address and the scheme of a client behind proxies: `X-Forwarded-For`, `X-Forwarded-Proto` and `Forwarded`.
//!
//! Each proxy appends the address that it was asked from, so the list is read from the right, and only as far as
//! the proxies are known: a client may have begun the list with anything. An address that is not one of a known
//! proxy is the client. The scheme is the one that the proxy in front of that client has written.
//!
//! Source: RFC 7239, sections 4 to 6 and 7.4.

use core::net::{IpAddr, SocketAddr};

use super::headers::Headers;

/// Two forwarding headers say different things, or one of them is broken where it is read. A proxy sets one
/// header and passes on the other as the client wrote it, so neither can be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForwardedError;

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
    /// The client's address. `None` when no header names one that is not a proxy itself.
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
    let list = |name| -> Vec<&str> {
        let lines = headers.all(name);
        lines.flat_map(|line| line.split(',')).collect()
    };
    let elements = list("forwarded");
    let by_element = from_the_right(&elements, for_of, &is_proxy)?;
    let nodes = list("x-forwarded-for");
    let by_node = from_the_right(&nodes, address_of, &is_proxy)?;
    let schemes = list("x-forwarded-proto");
    Ok(Forwarded {
        client: agreed(by_element.client, by_node.client)?,
        scheme: agreed(
            nth_from_the_right(&elements, by_element.hop_count).and_then(proto_of),
            nth_from_the_right(&schemes, by_node.hop_count).and_then(scheme_of),
        )?,
    })
}

/// The value that two headers name, of which each may name none.
fn agreed<T: PartialEq>(one: Option<T>, other: Option<T>) -> Result<Option<T>, ForwardedError> {
    match (one, other) {
        (Some(one), Some(other)) if one != other => Err(ForwardedError),
        (one, other) => Ok(one.or(other)),
    }
}

/// A client in a list, and how many elements from the right belong to it and to the proxies behind it.
struct Found {
    client: Option<IpAddr>,
    hop_count: usize,
}

/// The first address from the right that is not one of a proxy.
fn from_the_right(
    elements: &[&str],
    address_in: impl Fn(&str) -> Option<IpAddr>,
    is_proxy: impl Fn(IpAddr) -> bool,
) -> Result<Found, ForwardedError> {
    for (index, element) in elements.iter().rev().enumerate() {
        let address = address_in(element).ok_or(ForwardedError)?;
        if !is_proxy(address) {
            return Ok(Found {
                client: Some(address),
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

/// The address in the parameter `for` of one element.
fn for_of(element: &str) -> Option<IpAddr> {
    address_of(parameter(element, "for")?)
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

/// An address with or without a port. Names such as `unknown` and `_hidden` are none.
fn address_of(node: &str) -> Option<IpAddr> {
    let node = node.trim();
    let bare = node
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(node);
    let address = bare
        .parse()
        .or_else(|_| node.parse::<SocketAddr>().map(|address| address.ip()));
    address.ok().map(|address: IpAddr| address.to_canonical())
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
        assert_eq!(parsed(contradiction), Err(ForwardedError));
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
        for lines in [
            "X-Forwarded-For: unknown\r\n",
            "X-Forwarded-For: 203.0.113.1,\r\n",
            "Forwarded: for=_hidden\r\n",
            "Forwarded: proto=https\r\n",
            "Forwarded: for=192.0.2.9\r\nX-Forwarded-For: 203.0.113.1\r\n",
        ] {
            assert_eq!(client(lines), Err(ForwardedError), "{lines:?}");
        }
    }
}
