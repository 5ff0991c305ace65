//! The encoder of a client's requests.
//!
//! Whatever the caller gives, the bytes are one request: a name, value, target or host that could end a line is
//! refused, and so is a header that would contradict the framing or the connection.
//!
//! Source: RFC 9112, sections 3 and 6; RFC 9110, sections 5.5 and 8.6.

use crate::protocol::digits::push_decimal;

use super::encode::put_header;
use super::error::EncodeError;
use super::headers::{is_token, is_value};
use super::target::is_host;

/// Headers that follow from the request itself, or that concern the connection and not the request.
///
/// `Expect` is among them because this client never waits for 100 before it sends a body: a server that does
/// not answer it would cost a delay for each request.
const RESERVED_NAMES: [&str; 11] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The head of a request. The fields are the facts from which the headers for framing and host follow; other
/// headers are an argument of [`encode`](Self::encode).
#[derive(Clone, Copy, Debug)]
pub struct OutgoingRequest<'a> {
    /// The method, as it is sent.
    pub method: &'a str,
    /// Path and query, or the absolute form for a proxy.
    pub target: &'a str,
    /// Name or address with an optional port.
    pub host: &'a str,
    /// The length of the body in bytes. `None` without a body; a method that usually has one then says that it
    /// is empty.
    pub length: Option<u64>,
}

impl OutgoingRequest<'_> {
    /// Appends the head with its empty line.
    ///
    /// # Errors
    ///
    /// [`EncodeError`] when a part cannot be part of a request. The output is unchanged then.
    pub fn encode<'x>(
        &self,
        headers: impl Iterator<Item = (&'x str, &'x str)>,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        self.check()?;
        let start = out.len();
        out.extend_from_slice(self.method.as_bytes());
        out.push(b' ');
        out.extend_from_slice(self.target.as_bytes());
        out.extend_from_slice(b" HTTP/1.1");
        put_header("Host", self.host.as_bytes(), out);
        let usually_has_body = matches!(self.method, "POST" | "PUT" | "PATCH");
        if let Some(length) = self.length.or(usually_has_body.then_some(0)) {
            out.extend_from_slice(b"\r\nContent-Length: ");
            push_decimal(length, out);
        }
        for (name, value) in headers {
            if let Err(error) = check_header(name, value) {
                out.truncate(start);
                return Err(error);
            }
            put_header(name, value.as_bytes(), out);
        }
        out.extend_from_slice(b"\r\n\r\n");
        Ok(())
    }

    fn check(&self) -> Result<(), EncodeError> {
        if !is_token(self.method.as_bytes()) || self.method == "CONNECT" {
            return Err(EncodeError::BadMethod);
        }
        let is_target_byte = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
        let has_form = self.target.starts_with('/') || self.target.starts_with("http://");
        if !has_form || !self.target.bytes().all(is_target_byte) {
            return Err(EncodeError::BadTarget);
        }
        match is_host(self.host) {
            true => Ok(()),
            false => Err(EncodeError::BadHost),
        }
    }
}

/// Whether a header follows from the request itself or concerns the connection, so that the application must not set it.
pub fn is_reserved_header(name: &str) -> bool {
    let mut names = RESERVED_NAMES.iter();
    names.any(|reserved| reserved.eq_ignore_ascii_case(name))
}

fn check_header(name: &str, value: &str) -> Result<(), EncodeError> {
    match () {
        () if !is_token(name.as_bytes()) => Err(EncodeError::BadName),
        () if is_reserved_header(name) => Err(EncodeError::ReservedName),
        () if !is_value(value.as_bytes()) => Err(EncodeError::BadValue),
        () => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{HeaderStorage, Limits, parse_request_head};
    use super::*;

    const GET: OutgoingRequest<'static> = OutgoingRequest {
        method: "GET",
        target: "/a?b",
        host: "h:81",
        length: None,
    };

    fn encoded(
        request: OutgoingRequest<'_>,
        headers: &[(&str, &str)],
    ) -> Result<String, EncodeError> {
        let mut out = b"before".to_vec();
        let encoded = request.encode(headers.iter().copied(), &mut out);
        if encoded.is_err() {
            assert_eq!(out, b"before");
        }
        encoded.map(|()| String::from_utf8(out.split_off(6)).unwrap())
    }

    #[test]
    fn requests() {
        let cases: &[(OutgoingRequest<'_>, &str)] = &[
            (GET, "GET /a?b HTTP/1.1\r\nHost: h:81\r\nX: y\r\n\r\n"),
            (
                OutgoingRequest {
                    method: "POST",
                    ..GET
                },
                "POST /a?b HTTP/1.1\r\nHost: h:81\r\nContent-Length: 0\r\nX: y\r\n\r\n",
            ),
            (
                OutgoingRequest {
                    method: "REPORT",
                    length: Some(12),
                    ..GET
                },
                "REPORT /a?b HTTP/1.1\r\nHost: h:81\r\nContent-Length: 12\r\nX: y\r\n\r\n",
            ),
            (
                OutgoingRequest {
                    target: "http://h:81/a?b",
                    ..GET
                },
                "GET http://h:81/a?b HTTP/1.1\r\nHost: h:81\r\nX: y\r\n\r\n",
            ),
        ];
        for (request, expected) in cases {
            assert_eq!(encoded(*request, &[("X", "y")]).as_deref(), Ok(*expected));
        }
    }

    #[test]
    fn a_server_reads_what_was_meant() {
        let request = OutgoingRequest {
            method: "PUT",
            length: Some(3),
            ..GET
        };
        let text = encoded(request, &[("X-A", "caf\u{e9}\t1"), ("X-A", "")]).unwrap();
        let mut storage = HeaderStorage::new();
        let parsed = parse_request_head(text.as_bytes(), &mut storage, &Limits::default());
        let parsed = parsed.unwrap().unwrap();
        assert_eq!(
            (parsed.head.method, parsed.head.path(), parsed.body.length()),
            ("PUT", "/a", Some(3))
        );
        assert_eq!(parsed.head.headers.len(), 4);
    }

    #[test]
    fn a_request_cannot_be_split() {
        use EncodeError as E;
        let with = |method, target, host| OutgoingRequest {
            method,
            target,
            host,
            length: None,
        };
        let cases: &[(OutgoingRequest<'_>, (&str, &str), EncodeError)] = &[
            (with("", "/", "h"), ("X", "y"), E::BadMethod),
            (with("G T", "/", "h"), ("X", "y"), E::BadMethod),
            (with("GET\r\n", "/", "h"), ("X", "y"), E::BadMethod),
            (with("CONNECT", "/", "h"), ("X", "y"), E::BadMethod),
            (with("GET", "", "h"), ("X", "y"), E::BadTarget),
            (with("GET", "x", "h"), ("X", "y"), E::BadTarget),
            (with("GET", "/ x", "h"), ("X", "y"), E::BadTarget),
            (with("GET", "/#x", "h"), ("X", "y"), E::BadTarget),
            (with("GET", "/\r\nA: b", "h"), ("X", "y"), E::BadTarget),
            (with("GET", "/\u{e9}", "h"), ("X", "y"), E::BadTarget),
            (with("GET", "/", ""), ("X", "y"), E::BadHost),
            (with("GET", "/", "u@h"), ("X", "y"), E::BadHost),
            (with("GET", "/", "h\r\nA: b"), ("X", "y"), E::BadHost),
            (GET, ("", "y"), E::BadName),
            (GET, ("X ", "y"), E::BadName),
            (GET, ("X:", "y"), E::BadName),
            (GET, ("X\r\nA", "y"), E::BadName),
            (GET, ("X", "y\r\nA: b"), E::BadValue),
            (GET, ("X", "y\n"), E::BadValue),
            (GET, ("X", "y\0"), E::BadValue),
            (GET, ("X", "y\u{7f}"), E::BadValue),
            (GET, ("HOST", "h"), E::ReservedName),
            (GET, ("Content-Length", "3"), E::ReservedName),
            (GET, ("transfer-encoding", "chunked"), E::ReservedName),
            (GET, ("Expect", "100-continue"), E::ReservedName),
            (GET, ("Connection", "close"), E::ReservedName),
            (GET, ("Upgrade", "h2c"), E::ReservedName),
        ];
        for (request, header, expected) in cases {
            assert_eq!(
                encoded(*request, &[*header]),
                Err(*expected),
                "{request:?} {header:?}"
            );
        }
    }
}
