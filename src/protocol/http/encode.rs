//! Encoders of a server: response heads, chunks, and answers that end a connection.

use crate::protocol::digits::{push_decimal, push_hexadecimal};

use super::headers::{is_token, is_value};
use super::status::Status;

/// The head of an answer. The fields are the facts from which the headers for framing, date and
/// connection follow; other headers are an argument of [`encode`](Self::encode).
#[derive(Clone, Copy, Debug)]
pub struct ResponseHead<'a> {
    /// The status.
    pub status: Status,
    /// Whether the request was HTTP/1.0. An HTTP/1.0 client must be told when the
    /// connection stays open.
    pub is_http_10: bool,
    /// Whether the connection stays open after the answer.
    pub keep_alive: bool,
    /// The current time as [`format_date`](super::format_date) writes it.
    pub date: &'a [u8],
    /// The media type of the body.
    pub content_type: Option<&'a str>,
    /// The length of the body in bytes, where it is known. Not written with a status that has no
    /// body.
    pub length: Option<u64>,
    /// Whether the body comes in chunks.
    pub is_chunked: bool,
}

impl ResponseHead<'_> {
    /// Appends the head with its empty line. Headers that [`is_header`] refuses are left out, and so
    /// is such a media type; a caller that must know of that calls `is_header` first.
    ///
    /// Source: RFC 9112, sections 4, 6 and 9.3.
    pub fn encode<'x>(&self, headers: impl Iterator<Item = (&'x str, &'x str)>, out: &mut Vec<u8>) {
        out.extend_from_slice(b"HTTP/1.1 ");
        push_decimal(self.status.code().into(), out);
        out.push(b' ');
        out.extend_from_slice(self.status.reason().as_bytes());
        out.extend_from_slice(b"\r\nDate: ");
        out.extend_from_slice(self.date);
        let is_safe = |value: &&str| is_value(value.as_bytes());
        if let Some(content_type) = self.content_type.filter(is_safe) {
            out.extend_from_slice(b"\r\nContent-Type: ");
            out.extend_from_slice(content_type.as_bytes());
        }
        match self.length {
            _ if self.is_chunked => out.extend_from_slice(b"\r\nTransfer-Encoding: chunked"),
            Some(length) if self.status.has_body() => {
                out.extend_from_slice(b"\r\nContent-Length: ");
                push_decimal(length, out);
            }
            Some(_) | None => {}
        }
        match (self.keep_alive, self.is_http_10) {
            (false, _) => out.extend_from_slice(b"\r\nConnection: close"),
            (true, true) => out.extend_from_slice(b"\r\nConnection: keep-alive"),
            (true, false) => {}
        }
        for (name, value) in headers.filter(|(name, value)| is_header(name, value)) {
            put_header(name, value.as_bytes(), out);
        }
        out.extend_from_slice(b"\r\n\r\n");
    }
}

/// Appends a line end and then a header. The end of the head ends the last header.
pub(super) fn put_header(name: &str, value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
}

/// Whether a header may be sent: its name is a token, and its value has no control character, which
/// could end the line.
///
/// Source: RFC 9110, sections 5.5 and 5.6.2.
pub fn is_header(name: &str, value: &str) -> bool {
    is_token(name.as_bytes()) && is_value(value.as_bytes())
}

/// Appends one chunk. Appends nothing for empty `data`, because an empty chunk would be the last.
pub fn encode_chunk(data: &[u8], out: &mut Vec<u8>) {
    if !data.is_empty() {
        push_hexadecimal(data.len() as u64, out);
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(data);
        out.extend_from_slice(b"\r\n");
    }
}

/// Appends the end of a body in chunks.
pub fn encode_last_chunk(out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n\r\n");
}

/// Appends the interim answer that asks for the body. Source: RFC 9110, section 15.2.1.
pub fn encode_continue(out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
}

/// Appends an answer that ends the connection, with the status as its body. The body is left out
/// in the answer to HEAD. Returns the length of the body that was appended, in bytes.
pub fn encode_refusal<'h>(
    status: Status,
    date: &[u8],
    headers: impl Iterator<Item = (&'h str, &'h str)>,
    is_head_request: bool,
    out: &mut Vec<u8>,
) -> u64 {
    let body = format!("{status}\n");
    let head = ResponseHead {
        status,
        is_http_10: false,
        keep_alive: false,
        date,
        content_type: Some("text/plain; charset=utf-8"),
        length: Some(body.len() as u64),
        is_chunked: false,
    };
    // A single client could try again at once. One second spreads many clients that are refused
    // together.
    let retry = (status == Status::SERVICE_UNAVAILABLE).then_some(("Retry-After", "1"));
    head.encode(retry.into_iter().chain(headers), out);
    if is_head_request {
        return 0;
    }
    out.extend_from_slice(body.as_bytes());
    body.len() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: ResponseHead<'static> = ResponseHead {
        status: Status::OK,
        is_http_10: false,
        keep_alive: true,
        date: b"Sun, 06 Nov 1994 08:49:37 GMT",
        content_type: None,
        length: Some(12),
        is_chunked: false,
    };

    fn encoded(head: ResponseHead<'_>, headers: &[(&str, &str)]) -> String {
        let mut out = Vec::new();
        head.encode(headers.iter().copied(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn heads() {
        let start = "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
        let cases = [
            (HEAD, "Content-Length: 12\r\n\r\n"),
            (
                ResponseHead {
                    length: None,
                    ..HEAD
                },
                "\r\n",
            ),
            (
                ResponseHead {
                    keep_alive: false,
                    length: None,
                    ..HEAD
                },
                "Connection: close\r\n\r\n",
            ),
            (
                ResponseHead {
                    is_http_10: true,
                    ..HEAD
                },
                "Content-Length: 12\r\nConnection: keep-alive\r\n\r\n",
            ),
            (
                ResponseHead {
                    is_chunked: true,
                    content_type: Some("a/b"),
                    length: None,
                    ..HEAD
                },
                "Content-Type: a/b\r\nTransfer-Encoding: chunked\r\n\r\n",
            ),
        ];
        for (head, rest) in cases {
            assert_eq!(encoded(head, &[]), format!("{start}{rest}"));
        }
    }

    #[test]
    fn a_status_without_a_body_has_no_length() {
        let head = ResponseHead {
            status: Status::NO_CONTENT,
            length: Some(0),
            ..HEAD
        };
        assert!(!encoded(head, &[]).contains("Content-Length"));
    }

    #[test]
    fn a_header_cannot_be_split() {
        let bad = [
            ("A", "b\r\nC: d"),
            ("A", "b\nc"),
            ("A", "b\0"),
            ("A\r\nB", "c"),
            ("A:", "b"),
            ("", "b"),
            ("A b", "c"),
        ];
        for (name, value) in bad {
            assert!(!is_header(name, value), "{name:?} {value:?}");
        }
        assert!(is_header("X-A", "caf\u{e9}\t1"));
        assert_eq!(encoded(HEAD, &bad), encoded(HEAD, &[]));
        assert!(encoded(HEAD, &[("X-A", "b")]).ends_with("\r\nX-A: b\r\n\r\n"));
    }

    #[test]
    fn chunks() {
        let mut out = Vec::new();
        encode_chunk(b"", &mut out);
        encode_chunk(&[b'x'; 26], &mut out);
        encode_last_chunk(&mut out);
        assert_eq!(
            out,
            [&b"1a\r\n"[..], &[b'x'; 26], b"\r\n0\r\n\r\n"].concat()
        );
    }

    #[test]
    fn refusals() {
        let mut out = Vec::new();
        encode_refusal(
            Status::SERVICE_UNAVAILABLE,
            HEAD.date,
            std::iter::empty(),
            false,
            &mut out,
        );
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.contains("Connection: close\r\n") && text.contains("Retry-After: 1\r\n"),
            "{text}"
        );
        assert!(text.ends_with("Content-Length: 24\r\nConnection: close\r\nRetry-After: 1\r\n\r\n503 Service Unavailable\n"));
        let mut out = Vec::new();
        encode_refusal(
            Status::BAD_REQUEST,
            HEAD.date,
            std::iter::empty(),
            true,
            &mut out,
        );
        assert!(out.ends_with(b"\r\n\r\n"));
    }
}
