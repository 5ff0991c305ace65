//! The parser of response heads, for clients.
//!
//! Source: RFC 9112, sections 4 and 6.3.

use super::error::HttpError;
use super::framing::{BodyFraming, MessageHeaders};
use super::head::{self, Version};
use super::headers::{HeaderStorage, Headers};
use super::limits::Limits;
use super::status::Status;

/// A whole response head, with the framing and the persistence that follow from it.
#[derive(Clone, Copy, Debug)]
pub struct ParsedResponse<'h> {
    /// The status. After an informational one other than 101 the final head follows.
    pub status: Status,
    /// The version of HTTP in the status line.
    pub version: Version,
    /// The header lines.
    pub headers: Headers<'h>,
    /// The length of the head in bytes. The body follows.
    pub bytes: usize,
    /// How the body is framed.
    pub body: BodyFraming,
    /// Whether the server keeps the connection after the answer.
    pub keep_alive: bool,
}

/// Parses a whole response head at the front of `input`; `None` when more bytes are needed. Consumes
/// nothing. The answer to HEAD has no body, whatever its headers say.
///
/// As strict as [`parse_request_head`](super::parse_request_head), for the same reasons.
///
/// # Errors
///
/// [`HttpError`] when these bytes can never become a head; the connection is lost.
pub fn parse_response_head<'h, 'b: 'h>(
    input: &'b [u8],
    is_head_request: bool,
    storage: &'h mut HeaderStorage<'b>,
    limits: &Limits,
) -> Result<Option<ParsedResponse<'h>>, HttpError> {
    let window = head::window(input, limits);
    if !head::is_worth_parsing(window, limits) {
        return Ok(None);
    }
    match scan(window, storage, limits) {
        Ok(Some((response, bytes))) => interpret(response, bytes, is_head_request).map(Some),
        Ok(None) if window.len() < limits.head_bytes_max => Ok(None),
        Ok(None) => Err(HttpError::HeadTooLong),
        Err(error) => {
            let fault = |prefix: &[u8]| scan(prefix, &mut HeaderStorage::new(), limits).err();
            Err(head::first_fault(window, fault).unwrap_or(error))
        }
    }
}

fn scan<'h, 'b: 'h>(
    window: &'b [u8],
    storage: &'h mut HeaderStorage<'b>,
    limits: &Limits,
) -> Result<Option<(httparse::Response<'h, 'b>, usize)>, HttpError> {
    // `httparse` skips empty lines before a status line. Here they would be bytes behind the answer before.
    if let Some(b'\r' | b'\n') = window.first() {
        return Err(HttpError::BadStatusLine);
    }
    let mut response = httparse::Response::new(&mut []);
    let lines = storage.lines(limits.header_lines_max);
    let parser = httparse::ParserConfig::default();
    let outcome = parser.parse_response_with_uninit_headers(&mut response, window, lines);
    let head_bytes = match outcome {
        Ok(httparse::Status::Complete(bytes)) => bytes,
        Ok(httparse::Status::Partial) | Err(_) => window.len(),
    };
    if head::has_bare_line_feed(&window[..head_bytes]) {
        return Err(HttpError::BareLineFeed);
    }
    match outcome {
        Ok(httparse::Status::Complete(bytes)) => Ok(Some((response, bytes))),
        Ok(httparse::Status::Partial) => Ok(None),
        Err(httparse::Error::Version) => Err(head::version_fault(window, HttpError::BadStatusLine)),
        Err(httparse::Error::Token | httparse::Error::Status) => Err(HttpError::BadStatusLine),
        Err(httparse::Error::NewLine) => Err(HttpError::BadLineEnding),
        Err(httparse::Error::HeaderName) => Err(HttpError::BadHeaderName),
        Err(httparse::Error::HeaderValue) => Err(HttpError::BadHeaderValue),
        Err(httparse::Error::TooManyHeaders) => Err(HttpError::TooManyHeaders),
    }
}

// The meaning of a whole head.
fn interpret<'h, 'b: 'h>(
    response: httparse::Response<'h, 'b>,
    bytes: usize,
    is_head_request: bool,
) -> Result<ParsedResponse<'h>, HttpError> {
    let status = response
        .code
        .and_then(Status::new)
        .ok_or(HttpError::BadStatusLine)?;
    let version = Version::of_minor(response.version);
    let lines: &'h [httparse::Header<'b>] = response.headers;
    let headers = Headers(lines);
    let message = MessageHeaders::read(headers)?;
    let framing = message.framing(version)?;
    let body = match framing {
        _ if is_head_request || !status.has_body() => BodyFraming::None,
        Some(framing) => framing,
        None => BodyFraming::UntilClose,
    };
    let keep_alive = message.persists(version)
        && body != BodyFraming::UntilClose
        && !has_forbidden_body(status, framing);
    Ok(ParsedResponse {
        status,
        version,
        headers,
        bytes,
        body,
        keep_alive,
    })
}

/// Whether a head announces a body that its status must not have. A server that does so may send the body too, which
/// would be taken for the next answer. The answers to HEAD and 304 may announce the body that another one would have.
///
/// Source: RFC 9110, section 8.6; RFC 9112, sections 6.1 and 6.3.
fn has_forbidden_body(status: Status, framing: Option<BodyFraming>) -> bool {
    let must_have_none = status.is_informational() || status == Status::NO_CONTENT;
    // A length of zero means the same to every reader.
    must_have_none && framing.is_some_and(|framing| framing != BodyFraming::None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(input: &[u8], is_head: bool) -> Option<Result<String, HttpError>> {
        let limits = Limits::default();
        let describe = |input: &[u8]| {
            let mut storage = HeaderStorage::new();
            parse_response_head(input, is_head, &mut storage, &limits)
                .transpose()
                .map(|outcome| {
                    outcome.map(|parsed| {
                        let rest = input.len() - parsed.bytes;
                        format!(
                            "{} {:?} {} +{rest}",
                            parsed.status.code(),
                            parsed.body,
                            parsed.keep_alive
                        )
                    })
                })
        };
        let at_once = describe(input);
        let cut = (0..=input.len()).find_map(|end| describe(&input[..end]));
        match (&at_once, &cut) {
            (Some(Ok(_)), Some(Ok(_))) => {}
            (at_once, cut) => assert_eq!(at_once, cut),
        }
        at_once
    }

    #[test]
    fn heads() {
        use HttpError as E;
        let cases: &[(&str, bool, Option<Result<&str, HttpError>>)] = &[
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
                false,
                Some(Ok("200 Length(3) true +3")),
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n",
                true,
                Some(Ok("200 None true +0")),
            ),
            (
                "HTTP/1.1 200 OK\r\n\r\n",
                false,
                Some(Ok("200 UntilClose false +0")),
            ),
            (
                "HTTP/1.1 200\r\n\r\n",
                false,
                Some(Ok("200 UntilClose false +0")),
            ),
            (
                "HTTP/1.1 204 x\r\nConnection: close\r\n\r\n",
                false,
                Some(Ok("204 None false +0")),
            ),
            // Two readers could disagree about where these end.
            (
                "HTTP/1.1 204 x\r\nContent-Length: 3\r\n\r\n",
                false,
                Some(Ok("204 None false +0")),
            ),
            (
                "HTTP/1.1 204 x\r\nTransfer-Encoding: chunked\r\n\r\n",
                true,
                Some(Ok("204 None false +0")),
            ),
            (
                "HTTP/1.1 103 x\r\nContent-Length: 3\r\n\r\n",
                false,
                Some(Ok("103 None false +0")),
            ),
            (
                "HTTP/1.1 204 x\r\nContent-Length: 0\r\n\r\n",
                false,
                Some(Ok("204 None true +0")),
            ),
            (
                "HTTP/1.1 304 x\r\nContent-Length: 3\r\n\r\n",
                false,
                Some(Ok("304 None true +0")),
            ),
            (
                "HTTP/1.1 101 x\r\n\r\nrest",
                false,
                Some(Ok("101 None true +4")),
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                false,
                Some(Ok("200 Chunked true +0")),
            ),
            (
                "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n",
                false,
                Some(Ok("200 Length(1) false +0")),
            ),
            ("HTTP/1.1 200 O", false, None),
            (
                "HTTP/2.0 200 OK\r\n\r\n",
                false,
                Some(Err(E::UnsupportedVersion)),
            ),
            (
                "\r\nHTTP/1.1 200 OK\r\n\r\n",
                false,
                Some(Err(E::BadStatusLine)),
            ),
            ("\n", false, Some(Err(E::BadStatusLine))),
            ("\r", false, Some(Err(E::BadStatusLine))),
            (
                "HTTP/1.1  200 OK\r\n\r\n",
                false,
                Some(Err(E::BadStatusLine)),
            ),
            (
                " HTTP/1.1 200 OK\r\n\r\n",
                false,
                Some(Err(E::BadStatusLine)),
            ),
            (
                "HTTP/1.1 +20 OK\r\n\r\n",
                false,
                Some(Err(E::BadStatusLine)),
            ),
            (
                "HTTP/1.1 2000 OK\r\n\r\n",
                false,
                Some(Err(E::BadStatusLine)),
            ),
            (
                "HTTP/1.1 099 OK\r\n\r\n",
                false,
                Some(Err(E::BadStatusLine)),
            ),
            (
                "http/1.1 200 OK\r\n\r\n",
                false,
                Some(Err(E::BadStatusLine)),
            ),
            (
                "HTTP/0.9 200 OK\r\n\r\n",
                false,
                Some(Err(E::UnsupportedVersion)),
            ),
            (
                "HTTP/1.2 200 OK\r\n\r\n",
                false,
                Some(Err(E::UnsupportedVersion)),
            ),
            (
                "HTTP/1.1 200 a\x01b\r\n\r\n",
                false,
                Some(Err(E::BadStatusLine)),
            ),
            (
                "HTTP/1.1 200 OK\rA: b\r\n\r\n",
                false,
                Some(Err(E::BadStatusLine)),
            ),
            (
                "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
                false,
                Some(Err(E::BadHeaderName)),
            ),
            (
                "HTTP/1.1 200 OK\r\n A: b\r\n\r\n",
                false,
                Some(Err(E::BadHeaderName)),
            ),
            (
                "HTTP/1.1 200 OK\r\n: b\r\n\r\n",
                false,
                Some(Err(E::BadHeaderName)),
            ),
            (
                "HTTP/1.1 200 OK\r\nA: b\0\r\n\r\n",
                false,
                Some(Err(E::BadHeaderValue)),
            ),
            (
                "HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n",
                false,
                Some(Err(E::BadHeaderValue)),
            ),
            ("ICY 200 OK\r\n\r\n", false, Some(Err(E::BadStatusLine))),
            ("HTTP/1.1 20 OK\r\n\r\n", false, Some(Err(E::BadStatusLine))),
            (
                "HTTP/1.1 999 OK\r\n\r\n",
                false,
                Some(Err(E::BadStatusLine)),
            ),
            (
                "HTTP/1.1 200 OK\nA: b\r\n\r\n",
                false,
                Some(Err(E::BareLineFeed)),
            ),
            (
                "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
                false,
                Some(Err(E::BadHeaderName)),
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                false,
                Some(Err(E::ConflictingFraming)),
            ),
        ];
        for (input, is_head, expected) in cases {
            let expected = expected.map(|outcome| outcome.map(str::to_owned));
            assert_eq!(parse(input.as_bytes(), *is_head), expected, "{input:?}");
        }
    }
}
