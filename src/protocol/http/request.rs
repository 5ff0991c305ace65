//! The parser of request heads, for servers.
//!
//! Source: RFC 9112, sections 2, 3 and 5.

use super::error::HttpError;
use super::framing::{BodyFraming, MessageHeaders};
use super::head::{self, Version};
use super::headers::{HeaderStorage, Headers};
use super::limits::Limits;
use super::target::{Target, is_host};

/// The methods that are known. The router decides whether one is allowed for a resource (405).
const METHODS: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE",
];

/// Longest method in bytes; a longer one is refused before its end has come. The known methods have
/// at most seven.
const METHOD_BYTES_MAX: usize = 32;

/// Empty lines that are skipped before a request line. RFC 9112 asks for one.
const EMPTY_LINES_MAX: usize = 4;

/// A request's first line and headers.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'h> {
    /// The method, one of those that HTTP defines.
    pub method: &'h str,
    /// The target of the request.
    pub target: Target<'h>,
    /// The version of HTTP in the request line.
    pub version: Version,
    /// The header lines.
    pub headers: Headers<'h>,
    /// Host and port: the target's where it names them, else those of the `Host` header. `None` only
    /// with HTTP/1.0. Source: RFC 9112, section 3.2.2.
    pub host: Option<&'h str>,
}

impl<'h> RequestHead<'h> {
    /// The path, still encoded, without the query.
    pub fn path(&self) -> &'h str {
        self.target.path
    }

    /// The query, still encoded, without its question mark.
    pub fn query(&self) -> Option<&'h str> {
        self.target.query
    }
}

/// A whole request head, with the framing and the persistence that follow from it.
#[derive(Clone, Copy, Debug)]
pub struct ParsedHead<'h> {
    /// First line and headers.
    pub head: RequestHead<'h>,
    /// The length of the head in bytes, with empty lines before it. The body follows, or the next
    /// request, or the first bytes of the protocol that an upgrade leads to.
    pub bytes: usize,
    /// How the body is framed. Its length is not compared with a limit yet: see
    /// [`BodyFraming::check`].
    pub body: BodyFraming,
    /// Whether the client keeps the connection after the answer.
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue` or a refusal before it sends the body.
    pub expects_continue: bool,
}

/// Parses a whole request head at the front of `input`; `None` when more bytes are needed.
///
/// Allocates nothing. Consumes nothing: the caller goes on at [`ParsedHead::bytes`]. Up to four
/// empty lines before the head are skipped.
///
/// # Errors
///
/// [`HttpError`] when these bytes can never become a head that may be served, even before the head
/// is complete. The connection is then lost, because the start of the next request is not known.
///
/// Source: RFC 9112, sections 2.2, 3, 5 and 6.3.
pub fn parse_request_head<'h, 'b: 'h>(
    input: &'b [u8],
    storage: &'h mut HeaderStorage<'b>,
    limits: &Limits,
) -> Result<Option<ParsedHead<'h>>, HttpError> {
    let Some(skipped) = skip_empty_lines(input)? else {
        return Ok(None);
    };
    let window = head::window(&input[skipped..], limits);
    if !head::is_worth_parsing(window, limits) {
        return Ok(None);
    }
    match scan(window, storage, limits) {
        Ok(Some((request, bytes))) => interpret(request, skipped + bytes).map(Some),
        Ok(None) if window.len() < limits.head_bytes_max => Ok(None),
        // The first line is not complete, and only its target can be that long.
        Ok(None) if !window.contains(&b'\n') => Err(HttpError::TargetTooLong),
        Ok(None) => Err(HttpError::HeadTooLong),
        Err(error) => {
            let fault = |prefix: &[u8]| scan(prefix, &mut HeaderStorage::new(), limits).err();
            Err(head::first_fault(window, fault).unwrap_or(error))
        }
    }
}

/// The method and the path in the first line of a head that cannot be parsed or is not complete, for log lines.
/// `None` where the line does not begin as a request line does.
pub fn method_and_path(input: &[u8]) -> Option<(&str, &str)> {
    let line = input.trim_ascii_start();
    let line_end = line.iter().position(|byte| !matches!(byte, b' '..=b'~'));
    let line = str::from_utf8(&line[..line_end.unwrap_or(line.len())]).ok()?;
    let (method, rest) = line.split_once(' ')?;
    let is_method = (1..=METHOD_BYTES_MAX).contains(&method.len())
        && method.bytes().all(|byte| byte.is_ascii_alphabetic());
    let path_end = rest.find([' ', '?']).unwrap_or(rest.len());
    (is_method && rest.starts_with('/')).then(|| (method, &rest[..path_end]))
}

/// How many bytes of empty lines to skip, or `None` when the request has not begun. Refuses first
/// bytes of TLS, of the PROXY protocol, and of lines that end wrongly.
fn skip_empty_lines(input: &[u8]) -> Result<Option<usize>, HttpError> {
    let mut skipped = 0;
    while skipped < 2 * EMPTY_LINES_MAX && input[skipped..].starts_with(b"\r\n") {
        skipped += 2;
    }
    match &input[skipped..] {
        // A TLS record of type handshake; its version begins with 3 in every version of TLS.
        [] | [b'\r'] | [0x16] => Ok(None),
        [0x16, 0x03, ..] => Err(HttpError::TlsOnPlainPort),
        [b'\n', ..] => Err(HttpError::BareLineFeed),
        [b'\r', ..] => Err(HttpError::BadLineEnding),
        // The signature of PROXY version 2 begins with two empty lines and a NUL.
        [0, ..] if skipped == 4 => Err(HttpError::ProxyHeader),
        rest if rest.starts_with(b"PROXY ") => Err(HttpError::ProxyHeader),
        _ => Ok(Some(skipped)),
    }
}

/// Parses `window`: a whole head and its length, `None` where it is incomplete, or the error where
/// it can never become a head.
fn scan<'h, 'b: 'h>(
    window: &'b [u8],
    storage: &'h mut HeaderStorage<'b>,
    limits: &Limits,
) -> Result<Option<(httparse::Request<'h, 'b>, usize)>, HttpError> {
    let mut request = httparse::Request::new(&mut []);
    let outcome = request.parse_with_uninit_headers(window, storage.lines(limits.header_lines_max));
    let head_bytes = match outcome {
        Ok(httparse::Status::Complete(bytes)) => bytes,
        Ok(httparse::Status::Partial) | Err(_) => window.len(),
    };
    if head::has_bare_line_feed(&window[..head_bytes]) {
        return Err(HttpError::BareLineFeed);
    }
    let method_bytes = request.method.map_or(head_bytes, str::len);
    if METHOD_BYTES_MAX < method_bytes {
        return Err(HttpError::BadRequestLine);
    }
    let target_bytes = match (request.method, request.path) {
        (_, Some(target)) => target.len(),
        (Some(method), None) => window.len() - (method.len() + 1),
        (None, None) => 0,
    };
    if limits.target_bytes_max < target_bytes {
        return Err(HttpError::TargetTooLong);
    }
    match outcome {
        Ok(httparse::Status::Complete(bytes)) => Ok(Some((request, bytes))),
        Ok(httparse::Status::Partial) => Ok(None),
        Err(error) => Err(error_of(error, &request, window)),
    }
}

fn error_of(
    error: httparse::Error,
    request: &httparse::Request<'_, '_>,
    window: &[u8],
) -> HttpError {
    match error {
        httparse::Error::Token | httparse::Error::Status => HttpError::BadRequestLine,
        httparse::Error::Version => {
            let parts = [request.method, request.path];
            let before: usize = parts.iter().flatten().map(|part| part.len() + 1).sum();
            let rest = window.get(before..).unwrap_or_default();
            head::version_fault(rest, HttpError::BadRequestLine)
        }
        httparse::Error::NewLine => HttpError::BadLineEnding,
        httparse::Error::HeaderName => HttpError::BadHeaderName,
        httparse::Error::HeaderValue => HttpError::BadHeaderValue,
        httparse::Error::TooManyHeaders => HttpError::TooManyHeaders,
    }
}

/// The meaning of a whole head, or the error where its parts do not fit together.
fn interpret<'h, 'b: 'h>(
    request: httparse::Request<'h, 'b>,
    bytes: usize,
) -> Result<ParsedHead<'h>, HttpError> {
    let (Some(method), Some(target)) = (request.method, request.path) else {
        return Err(HttpError::BadRequestLine);
    };
    if !METHODS.contains(&method) {
        return Err(HttpError::UnknownMethod);
    }
    let target = Target::parse(method, target)?;
    let version = Version::of_minor(request.version);
    let lines: &'h [httparse::Header<'b>] = request.headers;
    let headers = Headers(lines);
    let message = MessageHeaders::read(headers)?;
    let host = match (message.host, message.host_count) {
        (Some(value), 1) => {
            let host = str::from_utf8(value).ok().filter(|host| is_host(host));
            Some(host.ok_or(HttpError::BadHost)?)
        }
        (Some(_), _) => return Err(HttpError::BadHost),
        (None, _) if version == Version::Http10 => None,
        (None, _) => return Err(HttpError::MissingHost),
    };
    let body = message.framing(version)?.unwrap_or(BodyFraming::None);
    let may_expect = version == Version::Http11;
    if may_expect && message.expects_other {
        return Err(HttpError::UnknownExpectation);
    }
    Ok(ParsedHead {
        head: RequestHead {
            method,
            target,
            version,
            headers,
            host: target.authority.or(host),
        },
        bytes,
        body,
        keep_alive: message.persists(version),
        expects_continue: may_expect && message.expects_continue && body != BodyFraming::None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const H: &str = "Host: h\r\n";

    /// The parsed head or its fault. Asserts that a head which arrives in pieces gives the same.
    fn parse(input: &[u8]) -> Option<Result<String, HttpError>> {
        parse_within(input, &Limits::default())
    }

    fn parse_within(input: &[u8], limits: &Limits) -> Option<Result<String, HttpError>> {
        let describe = |input: &[u8]| {
            let mut storage = HeaderStorage::new();
            parse_request_head(input, &mut storage, limits)
                .transpose()
                .map(|outcome| {
                    outcome.map(|parsed| {
                        let head = parsed.head;
                        let mut text = format!("{} {}", head.method, head.path());
                        if let Some(query) = head.query() {
                            text += &format!("?{query}");
                        }
                        text += match head.version {
                            Version::Http10 => " 1.0",
                            Version::Http11 => "",
                        };
                        if let Some(host) = head.host {
                            text += &format!(" @{host}");
                        }
                        match parsed.body {
                            BodyFraming::None => {}
                            framing => text += &format!(" {framing:?}"),
                        }
                        if !parsed.keep_alive {
                            text += " close";
                        }
                        if parsed.expects_continue {
                            text += " continue";
                        }
                        text += &format!(" +{}", input.len() - parsed.bytes);
                        text
                    })
                })
        };
        let at_once = describe(input);
        // Parsing every prefix takes quadratic time. The longest inputs repeat one character, so
        // most of the prefixes that end within it are left out.
        let is_tried =
            |end: &usize| *end <= 1000 || input.len() < *end + 100 || end.is_multiple_of(397);
        let cut = (0..=input.len()).filter(is_tried).find_map(|end| {
            let outcome = describe(&input[..end])?;
            Some((outcome, end))
        });
        match (&at_once, &cut) {
            (Some(Ok(_)), Some((Ok(_), end))) => {
                assert!(describe(&input[..*end]).is_some())
            }
            (Some(Err(error)), Some((Err(cut), _))) => {
                assert_eq!(error, cut, "{:?}", String::from_utf8_lossy(input));
            }
            (None, None) => {}
            other => panic!("{other:?} for {:?}", String::from_utf8_lossy(input)),
        }
        at_once
    }

    #[test]
    fn valid_heads_are_parsed() {
        let cases: &[(&str, &str)] = &[
            ("GET / HTTP/1.1\r\nHost: h\r\n\r\n", "GET / @h +0"),
            ("\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\nxyz", "GET / @h +3"),
            (
                "GET /a?b=c HTTP/1.1\r\nHost:h:80\r\n\r\n",
                "GET /a?b=c @h:80 +0",
            ),
            ("GET / HTTP/1.0\r\n\r\n", "GET / 1.0 close +0"),
            (
                "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n",
                "GET / 1.0 +0",
            ),
            (
                "GET / HTTP/1.1\r\nHost: h\r\nConnection: a, Close\r\n\r\n",
                "GET / @h close +0",
            ),
            (
                "GET http://o:1/x HTTP/1.1\r\nHost: h\r\n\r\n",
                "GET /x @o:1 +0",
            ),
            ("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", "OPTIONS * @h +0"),
            (
                "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n",
                "POST / @h Length(5) +0",
            ),
            (
                "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
                "POST / @h +0",
            ),
            (
                "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\r\n\r\n",
                "POST / @h Chunked +0",
            ),
            (
                "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-Continue\r\nContent-Length: 5\r\n\r\n",
                "POST / @h Length(5) continue +0",
            ),
            (
                "GET / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n\r\n",
                "GET / @h +0",
            ),
            (
                "POST / HTTP/1.0\r\nExpect: else\r\nContent-Length: 1\r\n\r\n",
                "POST / 1.0 Length(1) close +0",
            ),
            (
                "GET / HTTP/1.1\r\nHost: h\r\nX:\r\nY: a\tb \u{e9} \r\n\r\n",
                "GET / @h +0",
            ),
        ];
        for (input, expected) in cases {
            assert_eq!(
                parse(input.as_bytes()),
                Some(Ok((*expected).to_owned())),
                "{input:?}"
            );
        }
    }

    #[test]
    fn invalid_heads_are_refused_with_their_fault() {
        use HttpError as E;
        let cases: &[(String, HttpError)] = &[
            ("GET / HTTP/1.1\r\n\r\n".into(), E::MissingHost),
            (format!("GET / HTTP/1.1\r\n{H}{H}\r\n"), E::BadHost),
            ("GET / HTTP/1.1\r\nHost:\r\n\r\n".into(), E::BadHost),
            ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n".into(), E::BadHost),
            ("GET / HTTP/1.1\r\nHost: \u{e9}\r\n\r\n".into(), E::BadHost),
            (format!("GET / HTTP/1.1\n{H}\r\n"), E::BareLineFeed),
            (format!("GET / HTTP/1.1\r\n{H}\n"), E::BareLineFeed),
            ("\nGET / HTTP/1.1\r\n".into(), E::BareLineFeed),
            (
                "GET / HTTP/1.1\r\nA: b\rc\r\n\r\n".into(),
                E::BadHeaderValue,
            ),
            ("GET / HTTP/1.1\rX".into(), E::BadLineEnding),
            (format!("GET / HTTP/2.0\r\n{H}\r\n"), E::UnsupportedVersion),
            (format!("GET / HTTP/1.2\r\n{H}\r\n"), E::UnsupportedVersion),
            (format!("GET / HTTX/1.1\r\n{H}\r\n"), E::BadRequestLine),
            (format!("GET /\r\n{H}\r\n"), E::BadRequestLine),
            (format!("GET  / HTTP/1.1\r\n{H}\r\n"), E::BadRequestLine),
            (format!("\u{1}GET / HTTP/1.1\r\n{H}\r\n"), E::BadRequestLine),
            (format!("BREW / HTTP/1.1\r\n{H}\r\n"), E::UnknownMethod),
            (format!("get / HTTP/1.1\r\n{H}\r\n"), E::UnknownMethod),
            (format!("GET a HTTP/1.1\r\n{H}\r\n"), E::BadTarget),
            (format!("GET * HTTP/1.1\r\n{H}\r\n"), E::BadTarget),
            (
                "GET / HTTP/1.1\r\nHost : h\r\n\r\n".into(),
                E::BadHeaderName,
            ),
            ("GET / HTTP/1.1\r\n: h\r\n\r\n".into(), E::BadHeaderName),
            (
                format!("GET / HTTP/1.1\r\n{H}A: b\r\n c\r\n\r\n"),
                E::BadHeaderName,
            ),
            (
                format!("GET / HTTP/1.1\r\n{H}A: \u{1}\r\n\r\n"),
                E::BadHeaderValue,
            ),
            (
                format!("POST / HTTP/1.1\r\n{H}Content-Length: +1\r\n\r\n"),
                E::BadContentLength,
            ),
            (
                format!("POST / HTTP/1.1\r\n{H}Content-Length: -1\r\n\r\n"),
                E::BadContentLength,
            ),
            (
                format!("POST / HTTP/1.1\r\n{H}Content-Length:\r\n\r\n"),
                E::BadContentLength,
            ),
            (
                format!("POST / HTTP/1.1\r\n{H}Content-Length: 1, 1\r\n\r\n"),
                E::BadContentLength,
            ),
            (
                format!("POST / HTTP/1.1\r\n{H}Content-Length: 1\r\nContent-Length: 2\r\n\r\n"),
                E::BadContentLength,
            ),
            (
                format!("POST / HTTP/1.1\r\n{H}Content-Length: 18446744073709551616\r\n\r\n"),
                E::BadContentLength,
            ),
            (
                format!(
                    "POST / HTTP/1.1\r\n{H}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
                ),
                E::ConflictingFraming,
            ),
            (
                format!("POST / HTTP/1.1\r\n{H}Transfer-Encoding: gzip\r\n\r\n"),
                E::BadTransferEncoding,
            ),
            (
                format!("POST / HTTP/1.1\r\n{H}Transfer-Encoding: chunked, chunked\r\n\r\n"),
                E::BadTransferEncoding,
            ),
            (
                format!("POST / HTTP/1.1\r\n{H}Transfer-Encoding: gzip, chunked\r\n\r\n"),
                E::UnknownTransferCoding,
            ),
            (
                "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".into(),
                E::BadTransferEncoding,
            ),
            (
                format!("POST / HTTP/1.1\r\n{H}Expect: tea\r\n\r\n"),
                E::UnknownExpectation,
            ),
            ("\u{16}\u{3}\u{1}".into(), E::TlsOnPlainPort),
            ("PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n".into(), E::ProxyHeader),
            ("\r\n\r\n\0\r\nQUIT\n".into(), E::ProxyHeader),
            (
                format!("GET /{} HTTP/1.1\r\n{H}\r\n", "a".repeat(8192)),
                E::TargetTooLong,
            ),
            (
                format!("GET / HTTP/1.1\r\n{H}A: {}\r\n\r\n", "a".repeat(16 * 1024)),
                E::HeadTooLong,
            ),
            (
                format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(101)),
                E::TooManyHeaders,
            ),
            ("A".repeat(100), E::BadRequestLine),
        ];
        for (input, expected) in cases {
            let shown: String = input.chars().take(80).collect();
            assert_eq!(parse(input.as_bytes()), Some(Err(*expected)), "{shown:?}");
        }
    }

    #[test]
    fn a_host_that_is_not_utf8_is_refused() {
        let head = b"GET / HTTP/1.1\r\nHost: h\xff\r\n\r\n";
        assert_eq!(parse(head), Some(Err(HttpError::BadHost)));
    }

    #[test]
    fn incomplete_heads_ask_for_more_bytes() {
        for input in [
            "",
            "\r",
            "\r\n\r\n",
            "G",
            "GET ",
            "GET / HTTP/1.1\r\nHost: h\r\n\r",
            "\u{16}",
        ] {
            assert_eq!(parse(input.as_bytes()), None, "{input:?}");
        }
    }

    #[test]
    fn heads_above_the_limits_are_refused() {
        let limits = Limits {
            head_bytes_max: 64,
            header_lines_max: 2,
            ..Limits::default()
        };
        let fits = format!("GET / HTTP/1.1\r\n{H}A: b\r\n\r\n");
        assert!(matches!(
            parse_within(fits.as_bytes(), &limits),
            Some(Ok(_))
        ));
        let lines = format!("GET / HTTP/1.1\r\n{H}A: b\r\nC: d\r\n\r\n");
        assert_eq!(
            parse_within(lines.as_bytes(), &limits),
            Some(Err(HttpError::TooManyHeaders))
        );
        let long = format!("GET / HTTP/1.1\r\n{H}A: {}\r\n\r\n", "b".repeat(64));
        assert_eq!(
            parse_within(long.as_bytes(), &limits),
            Some(Err(HttpError::HeadTooLong))
        );
    }
}
