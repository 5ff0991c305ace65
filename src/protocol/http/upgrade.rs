//! The handshake of WebSocket: its checks and its answer, as server and as client.
//!
//! [`random_key`] is the only function here whose result does not follow from its arguments: it
//! draws from the thread's cryptographic generator.
//!
//! Source: RFC 6455, section 4.

use std::fmt;

use tungstenite::handshake::client::generate_key;
use tungstenite::handshake::derive_accept_key;

use super::encode::{is_header, put_header};
use super::error::EncodeError;
use super::framing::BodyFraming;
use super::head::Version;
use super::headers::{Headers, is_token};
use super::request::ParsedHead;
use super::response::ParsedResponse;
use super::status::Status;
use super::target::is_host;

/// The version of WebSocket that is supported.
pub const VERSION: &str = "13";

/// A request for an upgrade that may be accepted.
#[derive(Clone, Copy, Debug)]
pub struct Upgrade<'h> {
    key: &'h str,
    headers: Headers<'h>,
}

impl<'h> Upgrade<'h> {
    /// The client's key: 16 bytes in base64.
    pub fn key(&self) -> &'h str {
        self.key
    }

    /// The subprotocols that the client offers, the preferred one first.
    pub fn subprotocols(&self) -> impl Iterator<Item = &'h str> + use<'h> {
        self.headers
            .elements("sec-websocket-protocol")
            .filter(|name| is_token(name.as_bytes()))
    }

    /// The extensions that the client offers with their parameters, the preferred one first. Not
    /// checked.
    pub fn extensions(&self) -> impl Iterator<Item = &'h str> + use<'h> {
        self.headers.elements("sec-websocket-extensions")
    }
}

/// Why a request for an upgrade is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// Not GET.
    Method,
    /// `Connection` does not have `upgrade`, as when a proxy dropped it.
    Connection,
    /// The version is absent or not 13, as in drafts from before RFC 6455.
    Version,
    /// There is no key, there are two, or it is not 16 bytes in base64.
    Key,
    /// The request has a body.
    Body,
}

impl Refusal {
    /// The status of the answer. An answer with 426 must have `Sec-WebSocket-Version: 13`.
    pub fn status(self) -> Status {
        match self {
            Refusal::Version => Status::UPGRADE_REQUIRED,
            Refusal::Method | Refusal::Connection | Refusal::Key | Refusal::Body => {
                Status::BAD_REQUEST
            }
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::Method => "an upgrade to WebSocket must be a GET",
            Refusal::Connection => "the Connection header must list Upgrade",
            Refusal::Version => "Sec-WebSocket-Version must be 13",
            Refusal::Key => "Sec-WebSocket-Key must be 16 bytes in base64",
            Refusal::Body => "an upgrade to WebSocket must not have a body",
        })
    }
}

impl std::error::Error for Refusal {}

/// Checks whether a request asks for WebSocket. `None` where it does not, and for HTTP/1.0: then it
/// is an ordinary request, as RFC 9110, section 7.8 requires for an upgrade to another protocol.
///
/// # Errors
///
/// [`Refusal`] when it asks in a way that must not be accepted. Source: RFC 6455, section 4.2.1.
pub fn check<'h>(parsed: &ParsedHead<'h>) -> Result<Option<Upgrade<'h>>, Refusal> {
    let headers = parsed.head.headers;
    if parsed.head.version == Version::Http10 || !headers.has_token("upgrade", "websocket") {
        return Ok(None);
    }
    if parsed.head.method != "GET" {
        return Err(Refusal::Method);
    }
    if !headers.has_token("connection", "upgrade") {
        return Err(Refusal::Connection);
    }
    if only(headers, "sec-websocket-version") != Some(VERSION) {
        return Err(Refusal::Version);
    }
    let key = only(headers, "sec-websocket-key")
        .filter(|key| is_key(key))
        .ok_or(Refusal::Key)?;
    let has_length = headers.contains("content-length");
    if has_length || parsed.body != BodyFraming::None {
        return Err(Refusal::Body);
    }
    Ok(Some(Upgrade { key, headers }))
}

// The value of a header that is there once; `None` where it is absent or repeated.
fn only<'h>(headers: Headers<'h>, name: &str) -> Option<&'h str> {
    let mut values = headers.all(name);
    let first = values.next();
    if values.next().is_none() { first } else { None }
}

/// Whether this is 16 bytes in base64: 22 digits, the last of which has only two bits.
fn is_key(key: &str) -> bool {
    let Some(digits) = key.strip_suffix("==") else {
        return false;
    };
    digits.len() == 22
        && digits.ends_with(['A', 'Q', 'g', 'w'])
        && digits
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
}

/// Appends the answer that accepts the upgrade. Headers that [`is_header`] refuses are left out, and
/// so is a subprotocol that is not a token.
///
/// Source: RFC 6455, section 4.2.2.
pub fn encode_accept<'x>(
    key: &str,
    subprotocol: Option<&str>,
    headers: impl Iterator<Item = (&'x str, &'x str)>,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(b"HTTP/1.1 101 Switching Protocols");
    put_header("Upgrade", b"websocket", out);
    put_header("Connection", b"Upgrade", out);
    put_header(
        "Sec-WebSocket-Accept",
        derive_accept_key(key.as_bytes()).as_bytes(),
        out,
    );
    if let Some(subprotocol) = subprotocol.filter(|name| is_token(name.as_bytes())) {
        put_header("Sec-WebSocket-Protocol", subprotocol.as_bytes(), out);
    }
    for (name, value) in headers.filter(|(name, value)| is_header(name, value)) {
        put_header(name, value.as_bytes(), out);
    }
    out.extend_from_slice(b"\r\n\r\n");
}

/// A random key for one request of a client, from the thread's cryptographic generator.
pub fn random_key() -> String {
    generate_key()
}

/// Appends a client's request for an upgrade. `host` is a name or address with an optional port,
/// `target` is path and query as in a URL.
///
/// # Errors
///
/// [`EncodeError`] when one of them cannot be part of a request. The output is unchanged then.
///
/// Source: RFC 6455, section 4.1.
pub fn encode_request<'x>(
    host: &str,
    target: &str,
    key: &str,
    subprotocols: &[&str],
    headers: impl Iterator<Item = (&'x str, &'x str)>,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    if !is_host(host) {
        return Err(EncodeError::BadHost);
    }
    let is_visible = target
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'#');
    if !target.starts_with('/') || !is_visible {
        return Err(EncodeError::BadTarget);
    }
    if !subprotocols.iter().all(|name| is_token(name.as_bytes())) {
        return Err(EncodeError::BadName);
    }
    let start = out.len();
    out.extend_from_slice(b"GET ");
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1");
    put_header("Host", host.as_bytes(), out);
    put_header("Upgrade", b"websocket", out);
    put_header("Connection", b"Upgrade", out);
    put_header("Sec-WebSocket-Key", key.as_bytes(), out);
    put_header("Sec-WebSocket-Version", VERSION.as_bytes(), out);
    if !subprotocols.is_empty() {
        put_header(
            "Sec-WebSocket-Protocol",
            subprotocols.join(", ").as_bytes(),
            out,
        );
    }
    for (name, value) in headers {
        if !is_header(name, value) {
            out.truncate(start);
            let is_name = is_token(name.as_bytes());
            return Err(if is_name {
                EncodeError::BadValue
            } else {
                EncodeError::BadName
            });
        }
        put_header(name, value.as_bytes(), out);
    }
    out.extend_from_slice(b"\r\n\r\n");
    Ok(())
}

/// Why a server's answer is not the start of a WebSocket connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResponseError {
    /// The status is not 101. Redirects are not followed.
    Status(Status),
    /// `Upgrade` does not list `websocket`, or `Connection` does not list `upgrade`.
    NotUpgraded,
    /// The accept key does not belong to our key.
    AcceptKey,
    /// A subprotocol that was not offered.
    Subprotocol,
    /// An extension that was not offered, or with parameters that are not an answer to the offer.
    Extension,
}

impl fmt::Display for ResponseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ResponseError::Status(status) => write!(f, "the server answered {status}"),
            ResponseError::NotUpgraded => f.write_str("the server did not upgrade to WebSocket"),
            ResponseError::AcceptKey => f.write_str("the server's accept key does not match"),
            ResponseError::Subprotocol => {
                f.write_str("the server chose a subprotocol that was not offered")
            }
            ResponseError::Extension => {
                f.write_str("the server chose an extension or parameters that were not offered")
            }
        }
    }
}

impl std::error::Error for ResponseError {}

/// Checks a server's answer to the request with this key. Returns the subprotocol that was agreed,
/// if any. Leaves `Sec-WebSocket-Extensions` to the caller, where `offers_extensions` says that the request had
/// some.
///
/// # Errors
///
/// [`ResponseError`]: the connection must be closed. Source: RFC 6455, section 4.1, page 19.
pub fn check_response<'h>(
    parsed: &ParsedResponse<'h>,
    key: &str,
    subprotocols: &[&str],
    offers_extensions: bool,
) -> Result<Option<&'h str>, ResponseError> {
    let headers = parsed.headers;
    if parsed.status != Status::SWITCHING_PROTOCOLS {
        return Err(ResponseError::Status(parsed.status));
    }
    if !headers.has_token("upgrade", "websocket") || !headers.has_token("connection", "upgrade") {
        return Err(ResponseError::NotUpgraded);
    }
    if only(headers, "sec-websocket-accept") != Some(derive_accept_key(key.as_bytes()).as_str()) {
        return Err(ResponseError::AcceptKey);
    }
    if !offers_extensions && headers.contains("sec-websocket-extensions") {
        return Err(ResponseError::Extension);
    }
    if !headers.contains("sec-websocket-protocol") {
        return Ok(None);
    }
    match only(headers, "sec-websocket-protocol") {
        Some(name) if subprotocols.contains(&name) => Ok(Some(name)),
        Some(_) | None => Err(ResponseError::Subprotocol),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{HeaderStorage, Limits, parse_request_head, parse_response_head};
    use super::*;

    /// The key of RFC 6455, section 1.3.
    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

    fn outcome(lines: &str) -> Result<Option<Vec<String>>, Refusal> {
        let request = format!("{lines}\r\n\r\n")
            .replace('\n', "\r\n")
            .replace("\r\r", "\r");
        let mut storage = HeaderStorage::new();
        let parsed = parse_request_head(request.as_bytes(), &mut storage, &Limits::default());
        let parsed = parsed.unwrap().unwrap();
        let upgrade = check(&parsed)?;
        Ok(upgrade.map(|upgrade| {
            assert_eq!(upgrade.key(), KEY);
            upgrade.subprotocols().map(str::to_owned).collect()
        }))
    }

    #[test]
    fn requests() {
        let good = format!(
            "GET /ws HTTP/1.1\nHost: h\nUpgrade: WebSocket\nConnection: keep-alive, upgrade\n\
             Sec-WebSocket-Version: 13\nSec-WebSocket-Key: {KEY}"
        );
        assert_eq!(outcome(&good), Ok(Some(vec![])));
        let offered = format!("{good}\nSec-WebSocket-Protocol: a, b\nSec-WebSocket-Protocol: c d");
        assert_eq!(
            outcome(&offered),
            Ok(Some(vec!["a".to_owned(), "b".to_owned()]))
        );
        let cases = [
            ("Upgrade: WebSocket", "Upgrade: h2c", Ok(None)),
            (
                "Upgrade: WebSocket",
                "Upgrade: h2c, websocket",
                Ok(Some(vec![])),
            ),
            ("HTTP/1.1", "HTTP/1.0", Ok(None)),
            ("GET", "POST", Err(Refusal::Method)),
            (
                "keep-alive, upgrade",
                "keep-alive",
                Err(Refusal::Connection),
            ),
            ("Version: 13", "Version: 8", Err(Refusal::Version)),
            ("Version: 13", "Version: 13, 8", Err(Refusal::Version)),
            ("Sec-WebSocket-Version: 13", "X: y", Err(Refusal::Version)),
            ("Sec-WebSocket-Key", "X", Err(Refusal::Key)),
            (KEY, "dGhlIHNhbXBsZSBub25jZQ=", Err(Refusal::Key)),
            (KEY, "dGhlIHNhbXBsZSBub25jZR==", Err(Refusal::Key)),
            (KEY, "dGhlIHNhbXBsZSBub25jZ-==", Err(Refusal::Key)),
            ("Host: h", "Host: h\nContent-Length: 1", Err(Refusal::Body)),
            ("Host: h", "Host: h\nContent-Length: 0", Err(Refusal::Body)),
            (
                "Host: h",
                "Host: h\nTransfer-Encoding: chunked",
                Err(Refusal::Body),
            ),
        ];
        for (from, to, expected) in cases {
            assert_eq!(outcome(&good.replace(from, to)), expected, "{to}");
        }
        let twice = format!("{good}\nSec-WebSocket-Key: {KEY}");
        assert_eq!(outcome(&twice), Err(Refusal::Key));
        assert_eq!(Refusal::Version.status(), Status::UPGRADE_REQUIRED);
    }

    #[test]
    fn the_example_of_the_rfc_is_accepted_as_there() {
        let mut out = Vec::new();
        let headers = [("X-A", "b"), ("X-Split", "a\r\nb")];
        encode_accept(KEY, Some("chat"), headers.into_iter(), &mut out);
        let expected = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {ACCEPT}\r\nSec-WebSocket-Protocol: chat\r\nX-A: b\r\n\r\n"
        );
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn a_server_accepts_the_request_of_our_client() {
        let key = random_key();
        let mut request = Vec::new();
        encode_request(
            "h:1",
            "/x?y",
            &key,
            &["a", "b"],
            [("X", "y")].into_iter(),
            &mut request,
        )
        .unwrap();
        let mut storage = HeaderStorage::new();
        let parsed = parse_request_head(&request, &mut storage, &Limits::default())
            .unwrap()
            .unwrap();
        let upgrade = check(&parsed).unwrap().unwrap();
        assert_eq!(
            (upgrade.key(), parsed.head.query()),
            (key.as_str(), Some("y"))
        );
        let mut answer = Vec::new();
        encode_accept(
            upgrade.key(),
            upgrade.subprotocols().nth(1),
            std::iter::empty(),
            &mut answer,
        );
        let mut storage = HeaderStorage::new();
        let parsed = parse_response_head(&answer, false, &mut storage, &Limits::default());
        let parsed = parsed.unwrap().unwrap();
        assert_eq!(
            check_response(&parsed, &key, &["a", "b"], false),
            Ok(Some("b"))
        );
        assert_eq!(
            check_response(&parsed, &key, &["a"], false),
            Err(ResponseError::Subprotocol)
        );
        assert_eq!(
            check_response(&parsed, KEY, &["b"], false),
            Err(ResponseError::AcceptKey)
        );
    }

    #[test]
    fn a_request_cannot_be_split() {
        let attempt = |host, target, protocol, header: (&'static str, &'static str)| {
            let mut out = Vec::new();
            let outcome = encode_request(
                host,
                target,
                KEY,
                &[protocol],
                [header].into_iter(),
                &mut out,
            );
            assert_eq!(outcome.is_err(), out.is_empty());
            outcome
        };
        assert_eq!(attempt("h", "/", "a", ("X", "y")), Ok(()));
        assert_eq!(
            attempt("h\r\nX: y", "/", "a", ("X", "y")),
            Err(EncodeError::BadHost)
        );
        assert_eq!(
            attempt("h", "/ x", "a", ("X", "y")),
            Err(EncodeError::BadTarget)
        );
        assert_eq!(
            attempt("h", "x", "a", ("X", "y")),
            Err(EncodeError::BadTarget)
        );
        assert_eq!(
            attempt("h", "/", "a\r\n", ("X", "y")),
            Err(EncodeError::BadName)
        );
        assert_eq!(
            attempt("h", "/", "a", ("X ", "y")),
            Err(EncodeError::BadName)
        );
        assert_eq!(
            attempt("h", "/", "a", ("X", "y\r\n")),
            Err(EncodeError::BadValue)
        );
    }
}
