//! Requests as the application describes them.

use std::fmt;
use std::time::Duration;

use crate::protocol::http::{OutgoingRequest, Url, basic_credentials};

use super::error::HttpRequestError;
use super::origin::Origin;

/// Sent as `User-Agent` unless the request has one. Some services refuse requests without it.
const USER_AGENT: &str = concat!("waterwheel/", env!("CARGO_PKG_VERSION"));

/// A request of an [`HttpClient`](crate::HttpClient). A URL becomes a GET by itself.
///
/// ```
/// use std::time::Duration;
/// use waterwheel::HttpRequest;
///
/// let request = HttpRequest::new("PUT", "https://example.org/hooks/1")
///     .header("Authorization", "Bearer secret")
///     .body("application/json", r#"{"on":true}"#)
///     .timeout(Duration::from_secs(5));
/// ```
///
/// Whatever it is given, it is one well-formed request or an error: a method, header or URL that could end a line
/// fails the request. `Host` and `Content-Length` follow from the URL and the body, and headers of the connection
/// belong to the client, so none of these may be given:
/// [`EncodeError::ReservedName`](crate::protocol::http::EncodeError::ReservedName) names them all.
#[derive(Clone)]
pub struct HttpRequest {
    pub(super) method: String,
    pub(super) url: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Option<Vec<u8>>,
    pub(super) redirects_max: u8,
    pub(super) redirects_to_http: bool,
    pub(super) body_bytes_max: Option<u64>,
    pub(super) timeout: Option<Duration>,
}

/// Without headers and query, which may hold secrets.
impl fmt::Debug for HttpRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpRequest")
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

impl HttpRequest {
    /// A request without headers and body.
    pub fn new(method: impl Into<String>, url: impl Into<String>) -> HttpRequest {
        HttpRequest {
            method: method.into(),
            url: url.into(),
            headers: Vec::new(),
            body: None,
            redirects_max: 0,
            redirects_to_http: false,
            body_bytes_max: None,
            timeout: None,
        }
    }

    /// A GET of a URL.
    pub fn get(url: impl Into<String>) -> HttpRequest {
        HttpRequest::new("GET", url)
    }

    /// A POST to a URL, with a body of this media type.
    pub fn post(
        url: impl Into<String>,
        content_type: &str,
        body: impl Into<Vec<u8>>,
    ) -> HttpRequest {
        HttpRequest::new("POST", url).body(content_type, body)
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> HttpRequest {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the body and its media type.
    #[must_use]
    pub fn body(mut self, content_type: &str, body: impl Into<Vec<u8>>) -> HttpRequest {
        self.body = Some(body.into());
        self.header("Content-Type", content_type)
    }

    /// Sets how many redirects are followed, one after the other; one more fails the request. By default
    /// zero, and an answer with a redirect is an answer as any other.
    ///
    /// 303 becomes a GET, and so does 301 and 302 of a POST; 307 and 308 send the same request again. Another
    /// scheme, host or port gets no `Authorization`, no `Cookie` and no `Proxy-Authorization`. Source: RFC 9110,
    /// section 15.4.
    #[must_use]
    pub fn redirects_max(mut self, count: u8) -> HttpRequest {
        self.redirects_max = count;
        self
    }

    /// Sets whether redirects from `https://` to `http://` are followed. Off by default: the request, or a token in
    /// its URL, would go over the network in the clear.
    #[must_use]
    pub fn redirects_to_http(mut self, follows: bool) -> HttpRequest {
        self.redirects_to_http = follows;
        self
    }

    /// Sets the longest body of the answer, in bytes. By default that of the client for whole answers, and none
    /// for streams.
    #[must_use]
    pub fn response_bytes_max(mut self, bytes: u64) -> HttpRequest {
        self.body_bytes_max = Some(bytes);
        self
    }

    /// Sets the time from now to the last byte of the answer. By default `request_timeout` of the client for whole
    /// answers, and none for streams.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> HttpRequest {
        self.timeout = Some(timeout);
        self
    }

    /// Whether the same request twice has the effect of one. Source: RFC 9110, section 9.2.2.
    pub(super) fn is_idempotent(&self) -> bool {
        matches!(
            self.method.as_str(),
            "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE"
        )
    }

    /// The server that it goes to, and the bytes of its head.
    ///
    /// # Errors
    ///
    /// [`HttpRequestError`] when it cannot be sent.
    pub(super) fn encode(&self) -> Result<(Origin, Vec<u8>), HttpRequestError> {
        let url = Url::of_http(&self.url).map_err(HttpRequestError::Url)?;
        let authorization = match url.credentials().map_err(HttpRequestError::Url)? {
            Some((user, password)) if !self.has_header("Authorization") => {
                Some(basic_credentials(&user, &password))
            }
            Some(_) | None => None,
        };
        let user_agent = (!self.has_header("User-Agent")).then_some(("User-Agent", USER_AGENT));
        let authorization = authorization
            .as_deref()
            .map(|value| ("Authorization", value));
        let given = self.headers.iter();
        let given = given.map(|(name, value)| (name.as_str(), value.as_str()));
        let head = OutgoingRequest {
            method: &self.method,
            target: &url.target(),
            host: &url.host_header(),
            length: self.body.as_ref().map(|body| body.len() as u64),
        };
        let mut bytes = Vec::with_capacity(256);
        head.encode(
            user_agent.into_iter().chain(authorization).chain(given),
            &mut bytes,
        )
        .map_err(HttpRequestError::Request)?;
        Ok((Origin::of(&url), bytes))
    }

    /// Has the request carry the credentials of a URL that it no longer has.
    pub(super) fn authorize(&mut self, user: &str, password: &str) {
        if !self.has_header("Authorization") {
            let value = basic_credentials(user, password);
            self.headers.push(("Authorization".to_owned(), value));
        }
    }

    fn has_header(&self, wanted: &str) -> bool {
        let mut names = self.headers.iter().map(|(name, _)| name);
        names.any(|name| name.eq_ignore_ascii_case(wanted))
    }
}

impl From<&str> for HttpRequest {
    fn from(url: &str) -> HttpRequest {
        HttpRequest::get(url)
    }
}

impl From<String> for HttpRequest {
    fn from(url: String) -> HttpRequest {
        HttpRequest::get(url)
    }
}

impl From<&String> for HttpRequest {
    fn from(url: &String) -> HttpRequest {
        HttpRequest::get(url)
    }
}
