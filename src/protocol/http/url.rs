//! URLs that this side connects to: of WebSockets, of HTTP requests, and of proxies.
//!
//! Pure: a URL is split and checked, never looked up. All clients read their URLs here, so that no two of them
//! disagree about which host a text names.
//!
//! Source: RFC 3986; RFC 6455, section 3; RFC 9110, section 4.2.

use std::fmt;

use super::form;
use super::forwarded::Scheme;
use super::target::is_host;

/// The parts of a URL that has a host.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Url<'u> {
    /// [`Scheme::Https`] with TLS, also for `wss://`.
    pub scheme: Scheme,
    /// The name or address of the host, an IPv6 address in brackets.
    pub host: &'u str,
    /// The port, that of the scheme where the URL has none.
    pub port: u16,
    /// Path and query as in the URL, which may be empty; [`target`](Self::target) is the target of
    /// the request.
    pub rest: &'u str,
    /// The part before `@`, still encoded.
    user_info: Option<&'u str>,
}

/// Without user and password, which must not stand in a log.
impl fmt::Debug for Url<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Url")
            .field("scheme", &self.scheme)
            .field("host", &self.host)
            .field("port", &self.port)
            .field("rest", &self.rest)
            .finish_non_exhaustive()
    }
}

/// Why a client cannot connect to a URL. The text of the URL is not part of it, because it may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UrlError {
    /// The URL of a request does not begin with `http://` or `https://`.
    Scheme,
    /// The URL of a WebSocket does not begin with `ws://`, `wss://`, `http://` or `https://`.
    WebSocketScheme,
    /// The URL of a proxy does not begin with `http://`.
    ProxyScheme,
    /// The host is empty, or is not a name or address, or the port is not a number up to 65535.
    Host,
    /// There is a user name or a password, which no WebSocket URL has, nor one that a server names.
    UserInfo,
    /// Path or query has a space, a control character, or a byte above ASCII.
    Target,
    /// It has a fragment.
    Fragment,
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            UrlError::Scheme => "a URL must begin with http:// or https://",
            UrlError::WebSocketScheme => "a URL must begin with ws://, wss://, http:// or https://",
            UrlError::ProxyScheme => "the URL of a proxy must begin with http://",
            UrlError::Host => "the host must be a name or address with an optional port",
            UrlError::UserInfo => "the URL must not have a user name or a password",
            UrlError::Target => "path and query must be visible ASCII",
            UrlError::Fragment => "a WebSocket URL has no fragment",
        })
    }
}

impl std::error::Error for UrlError {}

impl<'u> Url<'u> {
    /// Parses the URL of a WebSocket. `http://` means `ws://` and `https://` means `wss://`, as in browsers.
    ///
    /// # Errors
    ///
    /// [`UrlError`].
    pub fn of_websocket(url: &'u str) -> Result<Url<'u>, UrlError> {
        if url.contains('#') {
            return Err(UrlError::Fragment);
        }
        let url = Url::parse(url, &["http", "ws"], &["https", "wss"]);
        let url = url.map_err(|error| match error {
            UrlError::Scheme => UrlError::WebSocketScheme,
            error => error,
        })?;
        match url.user_info {
            None => Ok(url),
            Some(_) => Err(UrlError::UserInfo),
        }
    }

    /// Parses the URL of an HTTP request. A fragment is left out, because it is not part of a request.
    ///
    /// # Errors
    ///
    /// [`UrlError`].
    pub fn of_http(url: &'u str) -> Result<Url<'u>, UrlError> {
        let url = url.split_once('#').map_or(url, |(url, _)| url);
        Url::parse(url, &["http"], &["https"])
    }

    fn parse(url: &'u str, without_tls: &[&str], with_tls: &[&str]) -> Result<Url<'u>, UrlError> {
        let (scheme, rest) = url.split_once("://").ok_or(UrlError::Scheme)?;
        let is_one_of = |names: &[&str]| names.iter().any(|name| name.eq_ignore_ascii_case(scheme));
        let scheme = match () {
            () if is_one_of(without_tls) => Scheme::Http,
            () if is_one_of(with_tls) => Scheme::Https,
            () => return Err(UrlError::Scheme),
        };
        let authority_bytes = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(authority_bytes);
        // A password may hold an `@` that is not encoded, but no host does.
        let (user_info, host_and_port) = match authority.rsplit_once('@') {
            Some((user_info, host)) => (Some(user_info), host),
            None => (None, authority),
        };
        if !is_host(host_and_port) {
            return Err(UrlError::Host);
        }
        let (host, port) = split_port(host_and_port);
        let port = match port.unwrap_or_default() {
            "" => default_port(scheme),
            digits => digits.parse().map_err(|_| UrlError::Host)?,
        };
        if !rest.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(UrlError::Target);
        }
        Ok(Url {
            scheme,
            host,
            port,
            rest,
            user_info,
        })
    }

    /// Whether the connection is made with TLS.
    pub fn has_tls(&self) -> bool {
        self.scheme == Scheme::Https
    }

    /// The request's target in origin form, which begins with a slash.
    pub fn target(&self) -> String {
        let slash = if self.rest.starts_with('/') { "" } else { "/" };
        format!("{slash}{}", self.rest)
    }

    /// The request's target in absolute form, for a proxy. Source: RFC 9112, section 3.2.2.
    pub fn absolute_target(&self) -> String {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        format!("{scheme}://{}{}", self.host_header(), self.target())
    }

    /// The value of the `Host` header: the port is left out where it is that of the scheme.
    ///
    /// Source: RFC 9110, sections 4.2.3 and 7.2.
    pub fn host_header(&self) -> String {
        match self.port == default_port(self.scheme) {
            true => self.host.to_owned(),
            false => self.address(),
        }
    }

    /// The address to connect to, as `HOST:PORT`.
    pub fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// The name or address of the host as a certificate has it: without brackets.
    pub fn server_name(&self) -> &'u str {
        let inner = self.host.strip_prefix('[');
        inner
            .and_then(|inner| inner.strip_suffix(']'))
            .unwrap_or(self.host)
    }

    /// User and password, decoded. `None` where the URL has neither.
    ///
    /// # Errors
    ///
    /// [`UrlError::UserInfo`] where they are not UTF-8 when decoded, or have a control character.
    pub fn credentials(&self) -> Result<Option<(String, String)>, UrlError> {
        let Some(user_info) = self.user_info else {
            return Ok(None);
        };
        let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
        let decoded = |text| {
            let text = form::decode_path(text).filter(|text| !text.contains(char::is_control));
            text.map(String::from).ok_or(UrlError::UserInfo)
        };
        Ok(Some((decoded(user)?, decoded(password)?)))
    }
}

/// The text of a URL without user and password, for errors and logs. In a text that is no URL everything up to the last
/// `@` is left out, because a password may hold any character.
pub fn without_user_info(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url
            .rsplit_once('@')
            .map_or_else(|| url.to_owned(), |(_, rest)| format!("***@{rest}"));
    };
    let is_url = Url::of_http(url).is_ok() || Url::parse(url, &["ws"], &["wss"]).is_ok();
    let end = match is_url {
        true => rest.find(['/', '?', '#']).unwrap_or(rest.len()),
        false => rest.len(),
    };
    match rest[..end].rfind('@') {
        Some(at) => format!("{scheme}://***{}", &rest[at..]),
        None => url.to_owned(),
    }
}

fn default_port(scheme: Scheme) -> u16 {
    match scheme {
        Scheme::Http => 80,
        Scheme::Https => 443,
    }
}

/// Splits the port off a host. An IPv6 address stands in brackets.
fn split_port(host_and_port: &str) -> (&str, Option<&str>) {
    let colon = match host_and_port.rfind(']') {
        Some(end) => host_and_port[end..].find(':').map(|colon| end + colon),
        None => host_and_port.find(':'),
    };
    match colon {
        Some(colon) => (&host_and_port[..colon], Some(&host_and_port[colon + 1..])),
        None => (host_and_port, None),
    }
}

/// The value of `Authorization` or `Proxy-Authorization` for a user with a password.
///
/// Source: RFC 7617, section 2.
pub fn basic_credentials(user: &str, password: &str) -> String {
    let pair = format!("{user}:{password}");
    format!(
        "Basic {}",
        crate::protocol::base64::to_base64(pair.as_bytes())
    )
}

#[cfg(test)]
mod tests {
    use super::UrlError as E;
    use super::*;

    #[test]
    fn urls_of_websockets() {
        let cases: &[(&str, Result<(&str, &str, &str), UrlError>)] = &[
            ("ws://h", Ok(("h:80", "h", "/"))),
            ("WS://h:81/", Ok(("h:81", "h:81", "/"))),
            ("http://h:/a?b=c", Ok(("h:80", "h", "/a?b=c"))),
            ("ws://[::1]/x", Ok(("[::1]:80", "[::1]", "/x"))),
            ("ws://[::1]:9/x", Ok(("[::1]:9", "[::1]:9", "/x"))),
            ("ws://h:80?x", Ok(("h:80", "h", "/?x"))),
            ("ws://h:443", Ok(("h:443", "h:443", "/"))),
            ("wss://h", Ok(("h:443", "h", "/"))),
            ("https://h:0443/", Ok(("h:443", "h", "/"))),
            ("wss://h:80", Ok(("h:80", "h:80", "/"))),
            ("ftp://h", Err(E::WebSocketScheme)),
            ("h:80", Err(E::WebSocketScheme)),
            ("ws://", Err(E::Host)),
            ("ws://:80", Err(E::Host)),
            ("ws://u@h", Err(E::UserInfo)),
            ("ws://h:99999", Err(E::Host)),
            ("ws://h:1:2", Err(E::Host)),
            ("ws://::1", Err(E::Host)),
            ("ws://h/ x", Err(E::Target)),
            ("ws://h/\u{e9}", Err(E::Target)),
            ("ws://h/\r\nA: b", Err(E::Target)),
            ("ws://h\r\nA: b/", Err(E::Host)),
            ("ws://h/#x", Err(E::Fragment)),
        ];
        for (url, expected) in cases {
            let parts = Url::of_websocket(url)
                .map(|url| (url.address(), url.host_header(), url.target()))
                .map_err(|error| error.to_string());
            let expected = expected
                .map(|(address, host, target)| (address.into(), host.into(), target.into()))
                .map_err(|error| error.to_string());
            assert_eq!(parts, expected, "{url}");
        }
    }

    #[test]
    fn urls_of_requests() {
        let cases: &[(&str, Result<&str, UrlError>)] = &[
            ("http://h", Ok("http://h/")),
            ("HTTPS://h:443?a#b", Ok("https://h/?a")),
            ("http://h#?/", Ok("http://h/")),
            ("https://[::1]:80/x", Ok("https://[::1]:80/x")),
            ("http://u:p@h/x@y", Ok("http://h/x@y")),
            ("ws://h", Err(E::Scheme)),
            ("http://a@", Err(E::Host)),
        ];
        for (url, expected) in cases {
            let target = Url::of_http(url).map(|url| url.absolute_target());
            assert_eq!(target.as_deref(), expected.as_deref(), "{url}");
        }
    }

    #[test]
    fn user_and_password_are_decoded_and_not_shown() {
        let cases: &[(&str, Result<Option<(&str, &str)>, UrlError>)] = &[
            ("http://h", Ok(None)),
            ("http://u@h", Ok(Some(("u", "")))),
            ("http://u:p%40:q@h", Ok(Some(("u", "p@:q")))),
            ("http://u:p@q@h", Ok(Some(("u", "p@q")))),
            ("http://:p@h", Ok(Some(("", "p")))),
            ("http://u:%0d%0a@h", Err(E::UserInfo)),
            ("http://u:%ff@h", Err(E::UserInfo)),
        ];
        for (text, expected) in cases {
            let url = Url::of_http(text).unwrap();
            let expected =
                expected.map(|pair| pair.map(|(user, password)| (user.into(), password.into())));
            assert_eq!(url.credentials(), expected, "{text}");
        }
        let shown = format!("{:?}", Url::of_http("http://user:secret@h").unwrap());
        assert!(
            shown.contains("\"h\"") && !shown.contains("secret"),
            "{shown}"
        );
        // Source: RFC 7617, section 2.
        let value = basic_credentials("Aladdin", "open sesame");
        assert_eq!(value, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    }

    #[test]
    fn a_server_name_has_no_brackets() {
        for (url, expected) in [("http://[::1]:9", "::1"), ("http://h:9", "h")] {
            assert_eq!(Url::of_http(url).unwrap().server_name(), expected);
        }
    }
}
