//! The proxy through which a client connects.

use std::fmt;

use crate::protocol::http::{Url, UrlError, basic_credentials};

/// An HTTP proxy that makes tunnels by `CONNECT`, for [`ConnectOptions::proxy`](crate::ConnectOptions::proxy).
///
/// ```
/// use waterwheel::HttpProxy;
///
/// let proxy = HttpProxy::parse("http://user:secret@proxy.example:3128")?;
/// assert_eq!(proxy.address(), "proxy.example:3128");
/// assert_eq!(format!("{proxy:?}"), "HttpProxy(\"proxy.example:3128\")");
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct HttpProxy {
    /// `HOST:PORT`.
    address: String,
    /// The value of `Proxy-Authorization`.
    authorization: Option<String>,
}

impl HttpProxy {
    /// Parses `http://[USER:PASSWORD@]HOST[:PORT]`, where user and password may be percent-encoded. The port is 80
    /// where there is none. User and password go to the proxy with the scheme `Basic`, which does not encrypt them.
    ///
    /// # Errors
    ///
    /// For any other text, and for `https://`: a proxy that is spoken to over TLS is not supported.
    pub fn parse(url: &str) -> Result<HttpProxy, UrlError> {
        let parsed = Url::of_http(url).map_err(|error| match error {
            UrlError::Scheme => UrlError::ProxyScheme,
            error => error,
        })?;
        if parsed.has_tls() {
            return Err(UrlError::ProxyScheme);
        }
        let credentials = parsed.credentials()?;
        Ok(HttpProxy {
            address: parsed.address(),
            authorization: credentials.map(|(user, password)| basic_credentials(&user, &password)),
        })
    }

    /// The address of the proxy, as `HOST:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn authorization(&self) -> Option<&str> {
        self.authorization.as_deref()
    }
}

/// Without user and password, which must not stand in a log.
impl fmt::Debug for HttpProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HttpProxy").field(&self.address).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_proxies() {
        let cases = [
            ("http://h", Ok(("h:80", None))),
            ("http://h:3128/", Ok(("h:3128", None))),
            ("http://[::1]:1", Ok(("[::1]:1", None))),
            ("http://a:b@h", Ok(("h:80", Some("Basic YTpi")))),
            ("http://a:%62@h", Ok(("h:80", Some("Basic YTpi")))),
            ("https://h", Err(UrlError::ProxyScheme)),
            ("socks5://h", Err(UrlError::ProxyScheme)),
            ("h:3128", Err(UrlError::ProxyScheme)),
            ("http://", Err(UrlError::Host)),
            ("http://a:%0d%0a@h", Err(UrlError::UserInfo)),
        ];
        for (url, expected) in cases {
            let parsed = HttpProxy::parse(url);
            let parts = parsed.as_ref().map(|it| (it.address(), it.authorization()));
            assert_eq!(parts.map_err(|error| *error), expected, "{url}");
        }
    }
}
