//! The way of a client to its servers: from which address, through which proxy, with which TLS.

use std::io;
use std::net::IpAddr;

use crate::reactor::transport::endpoint::ConnectOptions;
use crate::reactor::transport::proxy::HttpProxy;
#[cfg(feature = "tls")]
use crate::reactor::transport::tls::client::ClientTls;

/// How a client reaches its servers, whatever their URLs: directly by default, from an address that the system chooses.
///
/// An address of this machine becomes one by itself, and so does `None`:
///
/// ```
/// use waterwheel::{ClientTransport, HttpProxy};
///
/// let proxy = HttpProxy::parse("http://127.0.0.1:3128")?;
/// let through_proxy = ClientTransport::default().proxy(proxy);
/// let direct: ClientTransport = None.into();
/// # let _ = (through_proxy, direct);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct ClientTransport {
    from: Option<IpAddr>,
    proxy: Option<HttpProxy>,
    #[cfg(feature = "tls")]
    tls: Option<ClientTls>,
}

impl ClientTransport {
    /// Sets the address of this machine to connect from; see [`ConnectOptions::from_address`].
    #[must_use]
    pub fn from_address(mut self, from: impl Into<Option<IpAddr>>) -> ClientTransport {
        self.from = from.into();
        self
    }

    /// Sets the proxy to connect through; see [`ConnectOptions::proxy`].
    #[must_use]
    pub fn proxy(mut self, proxy: impl Into<Option<HttpProxy>>) -> ClientTransport {
        self.proxy = proxy.into();
        self
    }

    /// Sets the TLS of `wss://` and `https://`; other URLs do not use it. [`ClientTls::system`] by default.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, tls: impl Into<ClientTls>) -> ClientTransport {
        self.tls = Some(tls.into());
        self
    }

    /// The options of a connection to this address, with TLS if the URL asks for it.
    ///
    /// # Errors
    ///
    /// When the system has no authorities to trust, and none were chosen.
    pub(super) fn options<'a>(
        &self,
        address: &'a str,
        has_tls: bool,
    ) -> io::Result<ConnectOptions<'a>> {
        let options = ConnectOptions::new(address)
            .from_address(self.from)
            .proxy(self.proxy.clone());
        match has_tls {
            true => self.with_tls(options),
            false => Ok(options),
        }
    }

    #[cfg(feature = "tls")]
    fn with_tls<'a>(&self, options: ConnectOptions<'a>) -> io::Result<ConnectOptions<'a>> {
        let tls = match &self.tls {
            Some(tls) => Ok(tls.clone()),
            None => ClientTls::system(),
        };
        let tls = tls.map_err(|error| {
            io::Error::other(format!("cannot connect to {}: {error}", options.address()))
        })?;
        Ok(options.tls(tls))
    }

    #[cfg(not(feature = "tls"))]
    fn with_tls<'a>(&self, options: ConnectOptions<'a>) -> io::Result<ConnectOptions<'a>> {
        let why = format!(
            "cannot connect to {}: this program was built without the feature `tls`",
            options.address()
        );
        Err(io::Error::new(io::ErrorKind::Unsupported, why))
    }
}

impl From<Option<IpAddr>> for ClientTransport {
    fn from(from: Option<IpAddr>) -> Self {
        ClientTransport::default().from_address(from)
    }
}

impl From<IpAddr> for ClientTransport {
    fn from(from: IpAddr) -> Self {
        ClientTransport::default().from_address(from)
    }
}

impl From<HttpProxy> for ClientTransport {
    fn from(proxy: HttpProxy) -> Self {
        ClientTransport::default().proxy(proxy)
    }
}
