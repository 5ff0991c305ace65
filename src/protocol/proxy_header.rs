//! The header of the PROXY protocol, versions 1 and 2: a proxy of bytes says for which client it connects.
//!
//! The header is the first thing on a connection, and the protocol's own bytes follow it. It must only be read
//! where no one but the proxy can connect, because any peer can write one.
//!
//! Pure: bytes in, the client's address out. [`parse`] takes the bytes from the start of the connection each
//! time; a header is at most [`HEADER_BYTES_MAX`] long.
//!
//! Source: The PROXY protocol, versions 1 and 2 (HAProxy, `doc/proxy-protocol.txt`), sections 2.1 and 2.2.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::fmt;

/// The longest header that is accepted, in bytes. A header of version 1 has at most 107; one of version 2 has 16
/// and up to 65,535 more, of which the addresses take 216 at most. The rest are extensions such as a client's
/// certificate, which are skipped.
pub const HEADER_BYTES_MAX: usize = 4096;

/// The longest header of version 1, in bytes, its line end included.
const TEXT_BYTES_MAX: usize = 107;

/// The beginning of a header of version 1.
const TEXT_START: &[u8] = b"PROXY ";

/// The beginning of a header of version 2: bytes that no text protocol begins with.
const BINARY_START: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The bytes of a header of version 2 in front of the addresses.
const BINARY_HEAD_BYTES: usize = 16;

/// The client that a proxy names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Client {
    /// A client with an internet address.
    Inet(SocketAddr),
    /// A client on a Unix socket of the proxy.
    Unix,
    /// The proxy itself, as for a check of the server's health, or a client that the proxy does not know. The
    /// address of the socket holds.
    Unnamed,
}

/// Why the first bytes of a connection are not a header of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProxyHeaderError {
    /// The bytes do not begin as a header does.
    Missing,
    /// A header of version 1 whose line is not as the protocol says, or is longer than 107 bytes.
    BadLine,
    /// A version other than 1 and 2.
    UnsupportedVersion,
    /// A command other than LOCAL and PROXY.
    UnknownCommand,
    /// An address of an unknown family, or one of a datagram socket.
    UnsupportedFamily,
    /// A header of version 2 that is too short for its addresses.
    TooShort,
    /// A header longer than [`HEADER_BYTES_MAX`].
    TooLong,
    /// The connection ended inside the header.
    Truncated,
}

impl fmt::Display for ProxyHeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ProxyHeaderError::Missing => "no PROXY header",
            ProxyHeaderError::BadLine => "a malformed PROXY header",
            ProxyHeaderError::UnsupportedVersion => "a PROXY header of an unknown version",
            ProxyHeaderError::UnknownCommand => "a PROXY header with an unknown command",
            ProxyHeaderError::UnsupportedFamily => {
                "a PROXY header with an unknown family of addresses"
            }
            ProxyHeaderError::TooShort => "a PROXY header that is too short for its addresses",
            ProxyHeaderError::TooLong => "a PROXY header above the limit",
            ProxyHeaderError::Truncated => "the end of the connection inside a PROXY header",
        })
    }
}

impl std::error::Error for ProxyHeaderError {}

/// The header at the front of `input`, with its length in bytes; `None` when more bytes are needed.
///
/// # Errors
///
/// [`ProxyHeaderError`] when these bytes can never become a header. The connection must then be closed.
pub fn parse(input: &[u8]) -> Result<Option<(Client, usize)>, ProxyHeaderError> {
    if begins_as(input, BINARY_START) {
        return parse_binary(input);
    }
    if begins_as(input, TEXT_START) {
        return parse_text(input);
    }
    Err(ProxyHeaderError::Missing)
}

/// Whether `input` begins with `start`, as far as both go.
fn begins_as(input: &[u8], start: &[u8]) -> bool {
    input
        .iter()
        .zip(start)
        .all(|(byte, expected)| byte == expected)
}

// ── version 1 ────────────────────────────────────────────────────────────────────────────────────

fn parse_text(input: &[u8]) -> Result<Option<(Client, usize)>, ProxyHeaderError> {
    let line = &input[..input.len().min(TEXT_BYTES_MAX)];
    let Some(end) = line.iter().position(|byte| *byte == b'\n') else {
        return match line.len() < TEXT_BYTES_MAX {
            true => Ok(None),
            false => Err(ProxyHeaderError::BadLine),
        };
    };
    let line = str::from_utf8(&line[..end]).map_err(|_| ProxyHeaderError::BadLine)?;
    let client = line.strip_suffix('\r').and_then(client_of_line);
    Ok(Some((client.ok_or(ProxyHeaderError::BadLine)?, end + 1)))
}

fn client_of_line(line: &str) -> Option<Client> {
    let mut words = line.split(' ');
    if words.next() != Some("PROXY") {
        return None;
    }
    let is_v4 = match words.next()? {
        // The rest of the line is to be ignored.
        "UNKNOWN" => return Some(Client::Unnamed),
        "TCP4" => true,
        "TCP6" => false,
        _ => return None,
    };
    let mut address = || {
        let address: IpAddr = words.next()?.parse().ok()?;
        (address.is_ipv4() == is_v4).then_some(address)
    };
    let (client, _) = (address()?, address()?);
    let mut port = || port_of(words.next()?);
    let (client_port, _) = (port()?, port()?);
    match words.next() {
        None => Some(Client::Inet(SocketAddr::new(client, client_port))),
        Some(_) => None,
    }
}

// `str::parse` takes a leading `+`, and zeros in front.
fn port_of(digits: &str) -> Option<u16> {
    let has_digits = digits.bytes().all(|byte| byte.is_ascii_digit());
    let is_shortest = digits == "0" || !digits.starts_with('0');
    digits.parse().ok().filter(|_| has_digits && is_shortest)
}

// ── version 2 ────────────────────────────────────────────────────────────────────────────────────

fn parse_binary(input: &[u8]) -> Result<Option<(Client, usize)>, ProxyHeaderError> {
    let Some(version_and_command) = input.get(BINARY_START.len()) else {
        return Ok(None);
    };
    if version_and_command >> 4 != 2 {
        return Err(ProxyHeaderError::UnsupportedVersion);
    }
    let is_local = match version_and_command & 0x0f {
        0 => true,
        1 => false,
        _ => return Err(ProxyHeaderError::UnknownCommand),
    };
    let Some(head) = input.first_chunk::<BINARY_HEAD_BYTES>() else {
        return Ok(None);
    };
    let rest_bytes = usize::from(u16::from_be_bytes([head[14], head[15]]));
    let length = BINARY_HEAD_BYTES + rest_bytes;
    if HEADER_BYTES_MAX < length {
        return Err(ProxyHeaderError::TooLong);
    }
    let Some(header) = input.get(..length) else {
        return Ok(None);
    };
    let client = match is_local {
        // The addresses are to be ignored, whatever their family says.
        true => Client::Unnamed,
        false => client_of_addresses(head[13], &header[BINARY_HEAD_BYTES..])?,
    };
    Ok(Some((client, length)))
}

/// The client in the addresses of a header. Its own address comes first, then that of the proxy, then both ports,
/// then extensions.
fn client_of_addresses(family: u8, bytes: &[u8]) -> Result<Client, ProxyHeaderError> {
    let port_at = |index: usize| -> Result<u16, ProxyHeaderError> {
        let port = bytes.get(index..).and_then(|bytes| bytes.first_chunk());
        // The last two bytes are the proxy's port.
        let is_whole = index + 4 <= bytes.len();
        port.filter(|_| is_whole)
            .map(|port| u16::from_be_bytes(*port))
            .ok_or(ProxyHeaderError::TooShort)
    };
    match family {
        0x00 => Ok(Client::Unnamed),
        0x11 => {
            let address: [u8; 4] = *bytes.first_chunk().ok_or(ProxyHeaderError::TooShort)?;
            let port = port_at(8)?;
            Ok(Client::Inet((Ipv4Addr::from(address), port).into()))
        }
        0x21 => {
            let address: [u8; 16] = *bytes.first_chunk().ok_or(ProxyHeaderError::TooShort)?;
            let port = port_at(32)?;
            Ok(Client::Inet((Ipv6Addr::from(address), port).into()))
        }
        // Two paths of 108 bytes.
        0x31 if 2 * 108 <= bytes.len() => Ok(Client::Unix),
        0x31 => Err(ProxyHeaderError::TooShort),
        _ => Err(ProxyHeaderError::UnsupportedFamily),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inet(address: &str) -> Client {
        Client::Inet(address.parse().unwrap())
    }

    /// A header of version 2.
    fn binary(version_and_command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut header = BINARY_START.to_vec();
        header.extend([version_and_command, family]);
        header.extend((rest.len() as u16).to_be_bytes());
        header.extend(rest);
        header
    }

    const V4: [u8; 12] = [203, 0, 113, 7, 192, 0, 2, 1, 0x12, 0x67, 0, 80];

    fn v6() -> Vec<u8> {
        let mut addresses = Vec::new();
        for address in ["2001:db8::7", "2001:db8::1"] {
            addresses.extend(address.parse::<Ipv6Addr>().unwrap().octets());
        }
        addresses.extend([0x12, 0x67, 0, 80]);
        addresses
    }

    fn accepted() -> Vec<(&'static str, Vec<u8>, Client)> {
        let text = |line: &str| line.as_bytes().to_vec();
        let longest = "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff \
                       ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
        assert_eq!(longest.len(), TEXT_BYTES_MAX);
        vec![
            (
                "IPv4",
                text("PROXY TCP4 203.0.113.7 192.0.2.1 4711 80\r\n"),
                inet("203.0.113.7:4711"),
            ),
            (
                "IPv6",
                text("PROXY TCP6 2001:db8::7 2001:db8::1 0 65535\r\n"),
                inet("[2001:db8::7]:0"),
            ),
            ("unknown", text("PROXY UNKNOWN\r\n"), Client::Unnamed),
            ("the longest line", text(longest), Client::Unnamed),
            ("IPv4", binary(0x21, 0x11, &V4), inet("203.0.113.7:4711")),
            (
                "IPv4 with extensions",
                binary(0x21, 0x11, &[&V4[..], b"\x04\0\x01x"].concat()),
                inet("203.0.113.7:4711"),
            ),
            (
                "IPv6",
                binary(0x21, 0x21, &v6()),
                inet("[2001:db8::7]:4711"),
            ),
            ("Unix", binary(0x21, 0x31, &[b'/'; 216]), Client::Unix),
            ("no family", binary(0x21, 0x00, b""), Client::Unnamed),
            ("no family", binary(0x21, 0x00, b"ignored"), Client::Unnamed),
            ("local", binary(0x20, 0x00, b""), Client::Unnamed),
            ("local", binary(0x20, 0x11, &V4), Client::Unnamed),
            (
                "the longest",
                binary(0x20, 0x00, &[0; HEADER_BYTES_MAX - BINARY_HEAD_BYTES]),
                Client::Unnamed,
            ),
        ]
    }

    #[test]
    fn headers() {
        for (name, header, client) in accepted() {
            let expected = Ok(Some((client, header.len())));
            assert_eq!(parse(&header), expected, "{name}");
            let followed = [&header[..], b"GET / HTTP/1.1\r\n\r\n"].concat();
            assert_eq!(parse(&followed), expected, "{name}");
        }
    }

    #[test]
    fn a_header_that_is_cut_anywhere_asks_for_more_bytes() {
        for (name, header, _) in accepted() {
            for length in 0..header.len() {
                assert_eq!(parse(&header[..length]), Ok(None), "{name} {length}");
            }
        }
    }

    fn refused() -> Vec<(Vec<u8>, ProxyHeaderError)> {
        use ProxyHeaderError as E;
        let mut refused = vec![
            (b"GET / HTTP/1.1\r\n\r\n".to_vec(), E::Missing),
            (b"\x16\x03\x01".to_vec(), E::Missing),
            (b"PROXYTCP4".to_vec(), E::Missing),
            (b"\r\n\r\nGET /".to_vec(), E::Missing),
            (binary(0x11, 0x11, &V4), E::UnsupportedVersion),
            (binary(0x31, 0x11, &V4), E::UnsupportedVersion),
            (binary(0x22, 0x11, &V4), E::UnknownCommand),
            (binary(0x21, 0x12, &V4), E::UnsupportedFamily),
            (binary(0x21, 0x10, &V4), E::UnsupportedFamily),
            (binary(0x21, 0x41, &V4), E::UnsupportedFamily),
            (binary(0x21, 0x11, &V4[..11]), E::TooShort),
            (binary(0x21, 0x11, b""), E::TooShort),
            (binary(0x21, 0x21, &V4), E::TooShort),
            (binary(0x21, 0x21, &v6()[..35]), E::TooShort),
            (binary(0x21, 0x31, &[0; 215]), E::TooShort),
            (binary(0x20, 0x00, &[0; HEADER_BYTES_MAX]), E::TooLong),
        ];
        let mut too_long = b"PROXY UNKNOWN ".to_vec();
        too_long.resize(TEXT_BYTES_MAX - 1, b'x');
        too_long.extend(b"\r\n");
        refused.push((too_long, E::BadLine));
        for line in [
            "PROXY \r\n",
            "PROXY UDP4 203.0.113.7 192.0.2.1 4711 80\r\n",
            "PROXY TCP4 203.0.113.7 192.0.2.1 4711 80\n",
            "PROXY TCP4 203.0.113.7 192.0.2.1 4711\r\n",
            "PROXY TCP4 203.0.113.7 192.0.2.1 4711 80 \r\n",
            "PROXY TCP4  203.0.113.7 192.0.2.1 4711 80\r\n",
            "PROXY TCP4 203.0.113.7 192.0.2.1 4711 65536\r\n",
            "PROXY TCP4 203.0.113.7 192.0.2.1 +471 80\r\n",
            "PROXY TCP4 203.0.113.7 192.0.2.1 0471 80\r\n",
            "PROXY TCP4 203.0.113.07 192.0.2.1 4711 80\r\n",
            "PROXY TCP4 2001:db8::7 2001:db8::1 4711 80\r\n",
            "PROXY TCP6 203.0.113.7 192.0.2.1 4711 80\r\n",
            "PROXY TCP6 203.0.113.7 2001:db8::1 4711 80\r\n",
            "PROXY UNKNOWN\u{e9}\r\n",
            "PROXY tcp4 203.0.113.7 192.0.2.1 4711 80\r\n",
        ] {
            refused.push((line.as_bytes().to_vec(), E::BadLine));
        }
        refused.push((b"PROXY TCP4 \xff\r\n".to_vec(), E::BadLine));
        refused
    }

    #[test]
    fn other_bytes_are_refused() {
        for (bytes, error) in refused() {
            assert_eq!(parse(&bytes), Err(error), "{}", bytes.escape_ascii());
        }
    }

    // Bytes that cannot become a header must not wait for more of them.
    #[test]
    fn a_refusal_stays_one_whatever_follows() {
        for (bytes, error) in refused() {
            let early = (0..=bytes.len()).find(|length| parse(&bytes[..*length]).is_err());
            let early = early.unwrap();
            assert_eq!(parse(&bytes[..early]), Err(error));
            for length in 0..early {
                assert_eq!(parse(&bytes[..length]), Ok(None));
            }
            let followed = [&bytes[..], &[b' '; HEADER_BYTES_MAX]].concat();
            assert_eq!(parse(&followed), Err(error), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn no_bytes_make_it_panic() {
        // A linear congruential generator; the values only have to differ.
        let mut seed = 1u64;
        let mut next = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) as usize
        };
        let headers = accepted();
        for _ in 0..20_000 {
            let (_, header, _) = &headers[next() % headers.len()];
            let mut bytes = header.clone();
            for _ in 0..1 + next() % 3 {
                let index = next() % bytes.len().min(64);
                bytes[index] = next() as u8;
            }
            if let Ok(Some((_, length))) = parse(&bytes) {
                assert!(length <= bytes.len() && length <= HEADER_BYTES_MAX);
            }
        }
    }
}
