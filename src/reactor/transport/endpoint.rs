//! What to listen on and what to connect to: an address with its options.

use std::borrow::Cow;
use std::net::IpAddr;

/// What a listener is made of: `HOST:PORT` (port 0 picks one) or `unix:PATH`.
///
/// Made from an address alone, wherever one is wanted:
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
    /// Listens on an address.
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

/// What a connection is made to: `HOST:PORT` or `unix:PATH`, and from where.
///
/// Made from an address alone, wherever one is wanted:
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
    /// Connects to an address, from one that the system chooses.
    pub fn new(address: impl Into<Cow<'a, str>>) -> ConnectOptions<'a> {
        ConnectOptions {
            address: address.into(),
            from: None,
        }
    }

    /// Connects from an address of this machine; the system chooses where it is `None`, and always
    /// chooses the port. Each address
    /// has ports of its own, so that several make more connections to one server than one can.
    ///
    /// A Unix socket and a simulation have no such address; it means nothing there. When it is not
    /// this machine's, has no port left, or is of another family than every address of the server,
    /// that comes with `on_close`.
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
