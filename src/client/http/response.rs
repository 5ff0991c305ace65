//! Answers, as the application gets them.

use std::fmt;
use std::time::Duration;

use crate::protocol::http::{Headers, ParsedResponse, Status, without_user_info};

/// Stands for a value that is not UTF-8, as in [`Headers`].
pub(super) const NOT_TEXT: &str = "\u{FFFD}";

/// The answer to a request.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HttpResponse {
    /// The status, which may be any but 1xx.
    pub status: Status,
    /// The header lines.
    pub headers: ResponseHeaders,
    /// The URL that was requested last: another than the first one after a redirect.
    pub url: String,
    /// The body. Empty in [`HttpPart::Head`].
    pub body: Vec<u8>,
}

/// Without user and password of the URL, which must not stand in a log.
impl fmt::Debug for HttpResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpResponse")
            .field("status", &self.status)
            .field("headers", &self.headers)
            .field("url", &without_user_info(&self.url))
            .field("body", &self.body)
            .finish()
    }
}

/// A part of an answer whose body is a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HttpPart<'p> {
    /// The head: the first part. Its body is empty.
    Head(&'p HttpResponse),
    /// The next bytes of the body, at least one, in whatever pieces the network made of them.
    Body(&'p [u8]),
    /// The answer is complete: the last part.
    End,
}

impl HttpResponse {
    pub(super) fn of(parsed: &ParsedResponse<'_>, url: &str) -> HttpResponse {
        HttpResponse {
            status: parsed.status,
            headers: ResponseHeaders::of(parsed.headers),
            url: url.to_owned(),
            body: Vec::new(),
        }
    }

    /// The body as text; bytes that are not UTF-8 are replaced.
    pub fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }

    /// The value of the first header with a name; see [`ResponseHeaders::first`].
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.first(name)
    }

    /// How long the server says that it keeps the connection, less a second, so that a request does not meet the
    /// server's close. Source: RFC 2068, section 19.7.1.1.
    pub(super) fn keep_alive_timeout(&self) -> Option<Duration> {
        let parameters = self.headers.first("keep-alive")?.split(',');
        let mut timeout =
            parameters.filter_map(|parameter| parameter.trim().strip_prefix("timeout="));
        let seconds = timeout.next_back()?.parse::<u32>().ok()?;
        Some(Duration::from_secs(seconds.saturating_sub(1).into()))
    }
}

/// The header lines of an answer, in the order they came. Names are compared without case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseHeaders {
    lines: Vec<(Box<str>, Box<[u8]>)>,
}

impl ResponseHeaders {
    fn of(headers: Headers<'_>) -> ResponseHeaders {
        let lines = headers
            .iter()
            .map(|(name, value)| (name.into(), value.into()));
        ResponseHeaders {
            lines: lines.collect(),
        }
    }

    /// The value of the first line with a name, without the space around it. One that is not UTF-8 is returned as
    /// `"\u{FFFD}"`; [`iter`](Self::iter) has its bytes.
    pub fn first(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// The values of all lines with a name; see [`first`](Self::first).
    pub fn all<'h>(&'h self, name: &str) -> impl Iterator<Item = &'h str> {
        let lines = self.lines.iter();
        let lines = lines.filter(move |(given, _)| given.eq_ignore_ascii_case(name));
        lines.map(|(_, value)| str::from_utf8(value).unwrap_or(NOT_TEXT))
    }

    /// Names and values of all lines, as they were received.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.lines.iter().map(|(name, value)| (&**name, &**value))
    }

    /// How many lines there are.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether there is no line.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::http::{HeaderStorage, Limits, parse_response_head};

    fn response(head: &str) -> HttpResponse {
        let mut storage = HeaderStorage::new();
        let parsed = parse_response_head(head.as_bytes(), false, &mut storage, &Limits::default());
        HttpResponse::of(&parsed.unwrap().unwrap(), "http://h/")
    }

    #[test]
    fn headers_are_found_by_name() {
        let response = response("HTTP/1.1 200 OK\r\nA: b\r\na: c\r\nX-Empty:\r\n\r\n");
        assert_eq!(response.header("a"), Some("b"));
        assert_eq!(response.headers.all("A").collect::<Vec<_>>(), ["b", "c"]);
        assert_eq!(response.header("x-empty"), Some(""));
        assert_eq!(response.header("b"), None);
        assert_eq!(response.headers.len(), 3);
        let second = response.headers.iter().nth(1);
        assert_eq!(second, Some(("a", &b"c"[..])));
    }

    #[test]
    fn a_password_does_not_stand_in_a_log() {
        let response = HttpResponse {
            url: "http://u:secret@h/a@b".to_owned(),
            ..response("HTTP/1.1 200 OK\r\n\r\n")
        };
        let text = format!("{:?} {response:?}", HttpPart::Head(&response));
        assert!(!text.contains("secret"), "{text}");
        assert!(text.contains("http://***@h/a@b"), "{text}");
    }

    #[test]
    fn a_server_may_keep_its_connections_for_less() {
        let cases: &[(&str, Option<u64>)] = &[
            ("Keep-Alive: timeout=5", Some(4)),
            ("Keep-Alive: timeout=5, max=100", Some(4)),
            ("Keep-Alive: max=1, timeout=0", Some(0)),
            ("Keep-Alive: timeout=x", None),
            ("Keep-Alive: timeout=-1", None),
            ("Keep-Alive: timeout=99999999999", None),
            ("Keep-Alive: max=5", None),
            ("A: timeout=5", None),
        ];
        for (line, expected) in cases {
            let response = response(&format!("HTTP/1.1 200 OK\r\n{line}\r\n\r\n"));
            let seconds = response.keep_alive_timeout().map(|it| it.as_secs());
            assert_eq!(seconds, *expected, "{line}");
        }
    }
}
