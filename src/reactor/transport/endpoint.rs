//! Endpoints: an address to listen on or to connect to, with its options.

use std::borrow::Cow;
use std::net::{IpAddr, TcpListener};
use std::sync::Arc;

use super::inherited::Inherited;
use super::proxy::HttpProxy;
#[cfg(feature = "tls")]
use super::tls::client::ClientTls;
#[cfg(feature = "tls")]
use super::tls::server::ServerTls;

/// The address of a listener: `HOST:PORT` (with port 0 the system chooses one) or `unix:PATH`; and whether a
/// proxy in front of it says for which client it connects.
///
/// A `&str` or a `String` becomes one by itself:
///
/// ```
/// use waterwheel::ListenOptions;
///
/// let options: ListenOptions = "127.0.0.1:0".into();
/// assert_eq!(options.address(), "127.0.0.1:0");
/// ```
///
/// So does a socket that listens already, such as one of systemd or of an earlier process: a
/// [`TcpListener`], a `UnixListener`, or an `OwnedFd` of either. The reactor makes it non-blocking. Listening fails
/// when the socket is closed, does not listen, or carries datagrams, and in a simulation. The file of such a Unix
/// socket stays when the listener is closed.
///
/// ```
/// use std::net::TcpListener;
///
/// use waterwheel::{Config, EventLoop, ListenOptions};
///
/// let inherited = TcpListener::bind("127.0.0.1:0")?;
/// let port = inherited.local_addr()?.port();
/// let mut event_loop = EventLoop::new(Config::default(), ())?;
/// let options = ListenOptions::from(inherited).proxy_protocol(true);
/// let listener = event_loop.reactor().stream(options, |stream| stream.on_data(|_, _| {}))?;
/// assert_eq!(event_loop.reactor().local_addr(listener).unwrap().port(), Some(port));
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, Debug)]
pub struct ListenOptions<'a> {
    address: Cow<'a, str>,
    inherited: Option<Arc<Inherited>>,
    has_proxy_protocol: bool,
    #[cfg(feature = "tls")]
    tls: Option<ServerTls>,
}

impl<'a> ListenOptions<'a> {
    /// Returns the options of a listener on this address. The address is parsed when the listener
    /// is made, which returns the error.
    pub fn new(address: impl Into<Cow<'a, str>>) -> ListenOptions<'a> {
        ListenOptions {
            address: address.into(),
            inherited: None,
            has_proxy_protocol: false,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// Sets whether each connection begins with a header of the PROXY protocol, version 1 or 2, by which a proxy
    /// of bytes names its client. Off by default.
    ///
    /// The client is then the connection's [`peer`](crate::Reactor::peer), for callbacks, for limits by address,
    /// for [`trusted_proxies`](crate::Config::trusted_proxies) and in log lines. A header without a client
    /// (UNKNOWN, LOCAL) leaves the address of the socket. A connection without a header, or whose header has not
    /// come within [`head_timeout`](crate::Config::head_timeout), is reset and reaches no callback. A header has
    /// at most 4096 bytes; extensions in it are skipped.
    ///
    /// Any peer can write a header, so no one but the proxy may reach the listener.
    ///
    /// ```
    /// use waterwheel::{ListenOptions, Peer, Reactor, Sim};
    ///
    /// let mut sim = Sim::new((), |reactor: &mut Reactor<()>| {
    ///     let options = ListenOptions::new("0.0.0.0:80").proxy_protocol(true);
    ///     reactor.stream(options, |stream| stream.on_open(|stream| {
    ///         let address = stream.peer().inet().map(|address| address.to_string());
    ///         stream.send(address.unwrap_or_default())
    ///     }))
    /// });
    /// let client = sim.connect();
    /// client.write("PROXY TCP4 203.0.113.7 192.0.2.1 4711 80\r\n");
    /// sim.settle();
    /// assert_eq!(client.read_text(), "203.0.113.7:4711");
    /// ```
    ///
    /// Source: The PROXY protocol, versions 1 and 2 (HAProxy).
    #[must_use]
    pub fn proxy_protocol(mut self, required: bool) -> ListenOptions<'a> {
        self.has_proxy_protocol = required;
        self
    }

    pub(crate) fn has_proxy_protocol(&self) -> bool {
        self.has_proxy_protocol
    }

    /// Has the connections of this listener speak TLS. Not by default.
    ///
    /// A connection is opened when its handshake is done, within
    /// [`head_timeout`](crate::Config::head_timeout); one that fails before reaches no callback. A
    /// plain HTTP request is answered with 400 and a sentence. Behind a proxy with
    /// [`proxy_protocol`](Self::proxy_protocol), its header comes before the handshake.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, tls: impl Into<ServerTls>) -> ListenOptions<'a> {
        self.tls = Some(tls.into());
        self
    }

    #[cfg(feature = "tls")]
    pub(crate) fn server_tls(&self) -> Option<&ServerTls> {
        self.tls.as_ref()
    }

    pub(crate) fn inherited(&self) -> Option<&Inherited> {
        self.inherited.as_deref()
    }

    /// The address, as it was given; of an inherited socket the address that it is bound to.
    pub fn address(&self) -> &str {
        &self.address
    }
}

/// The address of a server, `HOST:PORT` or `unix:PATH`, and the address of this machine to connect
/// from.
///
/// A `&str` or a `String` becomes one by itself:
///
/// ```
/// use std::net::IpAddr;
///
/// use waterwheel::ConnectOptions;
///
/// let plain: ConnectOptions = "example.org:80".into();
/// let from = ConnectOptions::new("127.0.0.1:80").from_address(IpAddr::from([127, 0, 0, 2]));
/// # assert_eq!(plain.address(), "example.org:80");
/// # assert_eq!(from.address(), "127.0.0.1:80");
/// ```
#[derive(Clone, Debug)]
pub struct ConnectOptions<'a> {
    address: Cow<'a, str>,
    from: Option<IpAddr>,
    proxy: Option<HttpProxy>,
    #[cfg(feature = "tls")]
    tls: Option<ClientTls>,
}

impl<'a> ConnectOptions<'a> {
    /// Returns the options of a connection to this address, from one that the system chooses.
    pub fn new(address: impl Into<Cow<'a, str>>) -> ConnectOptions<'a> {
        ConnectOptions {
            address: address.into(),
            from: None,
            proxy: None,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// Sets the address of this machine to connect from; with `None` the system chooses. The system
    /// always chooses the port.
    ///
    /// One address has about 28,000 ports for connections to one server (on Linux, by default).
    /// Several addresses make several times as many connections.
    ///
    /// Unix sockets and simulations ignore it. If it does not belong to this machine, has no free
    /// port, or is of another family than every address of the server, the connection fails with
    /// `on_close`.
    #[must_use]
    pub fn from_address(mut self, from: impl Into<Option<IpAddr>>) -> ConnectOptions<'a> {
        self.from = from.into();
        self
    }

    /// Sets the proxy through which to connect; with `None`, the default, the connection is direct.
    ///
    /// The proxy is asked with `CONNECT` for a tunnel to the address, whose name it looks up. The tunnel is made, with
    /// the look-up of the proxy, within [`connect_timeout`](crate::Config::connect_timeout). If the proxy refuses, the
    /// connection ends with [`CloseCause::Tunnel`](crate::CloseCause::Tunnel), which says with which status. TLS is
    /// spoken inside of the tunnel. A Unix socket cannot be reached so.
    #[must_use]
    pub fn proxy(mut self, proxy: impl Into<Option<HttpProxy>>) -> ConnectOptions<'a> {
        self.proxy = proxy.into();
        self
    }

    pub(crate) fn http_proxy(&self) -> Option<&HttpProxy> {
        self.proxy.as_ref()
    }

    /// Has the connection speak TLS. Not by default.
    ///
    /// It is made when the handshake is done, within
    /// [`connect_timeout`](crate::Config::connect_timeout). A handshake that fails ends it with
    /// [`CloseCause::Tls`](crate::CloseCause::Tls), and the reason says more. The certificate must
    /// be for the host of the address, or for [`ClientTls::server_name`].
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, tls: impl Into<ClientTls>) -> ConnectOptions<'a> {
        self.tls = Some(tls.into());
        self
    }

    #[cfg(feature = "tls")]
    pub(crate) fn client_tls(&self) -> Option<&ClientTls> {
        self.tls.as_ref()
    }

    /// The address, as it was given.
    pub fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn from(&self) -> Option<IpAddr> {
        self.from
    }
}

impl From<Inherited> for ListenOptions<'_> {
    fn from(inherited: Inherited) -> Self {
        let mut options = ListenOptions::new(inherited.name());
        options.inherited = Some(Arc::new(inherited));
        options
    }
}

impl From<TcpListener> for ListenOptions<'_> {
    fn from(listener: TcpListener) -> Self {
        Inherited::new(listener).into()
    }
}

#[cfg(unix)]
impl From<std::os::unix::net::UnixListener> for ListenOptions<'_> {
    fn from(listener: std::os::unix::net::UnixListener) -> Self {
        Inherited::new(listener).into()
    }
}

#[cfg(unix)]
impl From<std::os::fd::OwnedFd> for ListenOptions<'_> {
    fn from(descriptor: std::os::fd::OwnedFd) -> Self {
        Inherited::new(descriptor).into()
    }
}

macro_rules! made_from_an_address {
    ($($options:ident)*) => {$(
        impl<'a> From<&'a str> for $options<'a> {
            fn from(address: &'a str) -> Self {
                $options::new(address)
            }
        }

        impl<'a> From<&'a String> for $options<'a> {
            fn from(address: &'a String) -> Self {
                $options::new(address.as_str())
            }
        }

        impl From<String> for $options<'_> {
            fn from(address: String) -> Self {
                $options::new(address)
            }
        }
    )*};
}

made_from_an_address!(ListenOptions ConnectOptions);
