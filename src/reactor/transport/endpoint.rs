//! Endpoints: an address to listen on or to connect to, with its options.

use std::borrow::Cow;
use std::net::IpAddr;

/// The address of a listener: `HOST:PORT` (with port 0 the system chooses one) or `unix:PATH`.
///
/// A `&str` or a `String` becomes one by itself:
///
/// ```
/// use waterwheel::ListenOptions;
///
/// let options: ListenOptions = "127.0.0.1:0".into();
/// assert_eq!(options.address(), "127.0.0.1:0");
/// ```
#[derive(Clone, Debug)]
pub struct ListenOptions<'a> {
    address: Cow<'a, str>,
}

impl<'a> ListenOptions<'a> {
    /// Returns the options of a listener on this address. The address is parsed when the listener
    /// is made, which returns the error.
    pub fn new(address: impl Into<Cow<'a, str>>) -> ListenOptions<'a> {
        ListenOptions {
            address: address.into(),
        }
    }

    /// The address, as it was given.
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
}

impl<'a> ConnectOptions<'a> {
    /// Returns the options of a connection to this address, from one that the system chooses.
    pub fn new(address: impl Into<Cow<'a, str>>) -> ConnectOptions<'a> {
        ConnectOptions {
            address: address.into(),
            from: None,
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

    /// The address, as it was given.
    pub fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn from(&self) -> Option<IpAddr> {
        self.from
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
