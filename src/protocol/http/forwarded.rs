//! The address of a client behind proxies: `X-Forwarded-For` and `Forwarded`.
//!
//! Each proxy appends the address that it was asked from, so the list is read from the right, and only as far as
//! the proxies are known: a client may have begun the list with anything. An address that is not one of a known
//! proxy is the client.
//!
//! Source: RFC 7239, sections 4 to 6 and 7.4.

use core::net::{IpAddr, SocketAddr};

use super::headers::Headers;

/// The forwarding headers say two different things, or one of them is broken where it is read. A proxy sets one
/// header and passes on the other as the client wrote it, so neither can be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForwardedError;

/// The client's address for a request that came from a known proxy. `None` when no header names one that is not a
/// proxy itself.
///
/// # Errors
///
/// [`ForwardedError`]: the request should be refused.
pub fn client_of(
    headers: Headers<'_>,
    is_proxy: impl Fn(IpAddr) -> bool,
) -> Result<Option<IpAddr>, ForwardedError> {
    let x_forwarded = headers
        .all("x-forwarded-for")
        .flat_map(|line| line.split(','));
    let x_forwarded: Vec<_> = x_forwarded.map(|node| address_of(node.trim())).collect();
    let forwarded = headers.all("forwarded").flat_map(|line| line.split(','));
    let forwarded: Vec<_> = forwarded.map(for_of).collect();
    let clients = [x_forwarded, forwarded].map(|nodes| from_the_right(nodes, &is_proxy));
    match clients {
        [Ok(client), Ok(None)] | [Ok(None), Ok(client)] => Ok(client),
        [Ok(one), Ok(other)] if one == other => Ok(one),
        _ => Err(ForwardedError),
    }
}

/// The first address from the right that is not one of a proxy.
fn from_the_right(
    nodes: Vec<Option<IpAddr>>,
    is_proxy: impl Fn(IpAddr) -> bool,
) -> Result<Option<IpAddr>, ForwardedError> {
    for node in nodes.into_iter().rev() {
        let address = node.ok_or(ForwardedError)?;
        if !is_proxy(address) {
            return Ok(Some(address));
        }
    }
    Ok(None)
}

/// The address in the parameter `for` of one element.
fn for_of(element: &str) -> Option<IpAddr> {
    element.split(';').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        match name.trim().eq_ignore_ascii_case("for") {
            true => address_of(value.trim().trim_matches('"')),
            false => None,
        }
    })
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

    fn client(lines: &str) -> Result<Option<String>, ForwardedError> {
        let head = format!("GET / HTTP/1.1\r\nHost: h\r\n{lines}\r\n");
        let mut storage = HeaderStorage::new();
        let parsed = parse_request_head(head.as_bytes(), &mut storage, &Limits::default());
        let parsed = parsed.unwrap().unwrap();
        let is_proxy = |address: IpAddr| address.to_string().starts_with("10.");
        let client = client_of(parsed.head.headers, is_proxy)?;
        Ok(client.map(|address| address.to_string()))
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
