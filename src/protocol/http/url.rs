//! URLs of WebSockets.

use std::fmt;

use super::target::is_host;

/// The parts of a `ws://` or `http://` URL.
///
/// Source: RFC 6455, section 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WebSocketUrl<'u> {
    /// Host and port as in the URL, for the `Host` header.
    pub host: &'u str,
    /// Path and query as in the URL, which may be empty; [`target`](Self::target) is the target of
    /// the request.
    pub rest: &'u str,
}

/// Why a client cannot connect to a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UrlError {
    /// It begins neither with `ws://` nor with `http://`.
    Scheme,
    /// `wss://` or `https://`, which need TLS.
    Tls,
    /// The host is empty, there is a user name, or the port is not a number up to 65535.
    Host,
    /// Path or query has a space, a control character, or a byte above ASCII.
    Target,
    /// It has a fragment.
    Fragment,
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            UrlError::Scheme => "a URL must begin with ws:// or http://",
            UrlError::Tls => "wss:// and https:// need TLS, which is not supported yet",
            UrlError::Host => "the host must be a name or address with an optional port",
            UrlError::Target => "path and query must be visible ASCII",
            UrlError::Fragment => "a WebSocket URL has no fragment",
        })
    }
}

impl std::error::Error for UrlError {}

impl<'u> WebSocketUrl<'u> {
    /// Parses a URL. `http://` means `ws://`, as in browsers.
    ///
    /// # Errors
    ///
    /// [`UrlError`].
    pub fn parse(url: &'u str) -> Result<WebSocketUrl<'u>, UrlError> {
        let (scheme, rest) = url.split_once("://").ok_or(UrlError::Scheme)?;
        match scheme.to_ascii_lowercase().as_str() {
            "ws" | "http" => {}
            "wss" | "https" => return Err(UrlError::Tls),
            _ => return Err(UrlError::Scheme),
        }
        if rest.contains('#') {
            return Err(UrlError::Fragment);
        }
        let host_bytes = rest.find(['/', '?']).unwrap_or(rest.len());
        let (host, rest) = rest.split_at(host_bytes);
        if !is_host(host) {
            return Err(UrlError::Host);
        }
        if !rest.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(UrlError::Target);
        }
        Ok(WebSocketUrl { host, rest })
    }

    /// The request's target, which begins with a slash.
    pub fn target(&self) -> String {
        let slash = if self.rest.starts_with('/') { "" } else { "/" };
        format!("{slash}{}", self.rest)
    }

    /// The address to connect to, as `HOST:PORT`; the port is 80 where the URL has none.
    pub fn address(&self) -> String {
        let has_port = match self.host.rfind(']') {
            Some(end) => self.host[end..].contains(':'),
            None => self.host.contains(':'),
        };
        match (has_port, self.host.strip_suffix(':')) {
            (_, Some(host)) => format!("{host}:80"),
            (true, None) => self.host.to_owned(),
            (false, None) => format!("{}:80", self.host),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        use UrlError as E;
        let cases: &[(&str, Result<(&str, &str), UrlError>)] = &[
            ("ws://h", Ok(("h:80", "/"))),
            ("WS://h:81/", Ok(("h:81", "/"))),
            ("http://h:/a?b=c", Ok(("h:80", "/a?b=c"))),
            ("ws://[::1]/x", Ok(("[::1]:80", "/x"))),
            ("ws://[::1]:9/x", Ok(("[::1]:9", "/x"))),
            ("ws://h?x", Ok(("h:80", "/?x"))),
            ("wss://h", Err(E::Tls)),
            ("ftp://h", Err(E::Scheme)),
            ("h:80", Err(E::Scheme)),
            ("ws://", Err(E::Host)),
            ("ws://:80", Err(E::Host)),
            ("ws://u@h", Err(E::Host)),
            ("ws://h:99999", Err(E::Host)),
            ("ws://h/ x", Err(E::Target)),
            ("ws://h/\u{e9}", Err(E::Target)),
            ("ws://h/#x", Err(E::Fragment)),
        ];
        for (url, expected) in cases {
            let parsed = WebSocketUrl::parse(url);
            let parts = parsed.map(|parsed| (parsed.address(), parsed.target()));
            let expected =
                expected.map(|(address, target)| (address.to_owned(), target.to_owned()));
            assert_eq!(parts, expected, "{url}");
        }
    }
}
