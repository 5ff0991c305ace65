//! A request that waits for the application's decision, and the answer that accepts it.

use std::borrow::Cow;

use super::encode::is_header;

/// A check that the application makes before a request reaches its route, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Check {
    /// The check of the whole listener.
    Guard,
    /// The check of a WebSocket route.
    BeforeOpen,
    /// The check of a route that gets the body as it comes.
    Head,
}

/// A request whose check has said that it decides later. Its bytes are kept, because the input
/// buffer is one for all connections.
#[derive(Debug)]
pub struct Deferred {
    /// The head, as it came.
    pub head: Vec<u8>,
    /// The body, without its framing.
    pub body: Vec<u8>,
    /// The check that waits for the decision.
    pub check: Check,
    /// The decision: `None` while the request waits.
    pub accepted: Option<Accept>,
}

/// How a request for a WebSocket is accepted: the subprotocol and further headers of the 101.
///
/// ```
/// # use waterwheel::Accept;
/// let accept = Accept::new().subprotocol("chat.v2").header("Set-Cookie", "seen=1");
/// ```
///
/// `()` converts to it, and chooses nothing.
#[derive(Clone, Debug, Default)]
pub struct Accept {
    pub(crate) subprotocol: Option<String>,
    pub(crate) headers: Vec<(Cow<'static, str>, String)>,
}

impl From<()> for Accept {
    fn from((): ()) -> Accept {
        Accept::default()
    }
}

impl Accept {
    /// Accepts without a choice: the subprotocol is the one that the route agrees to.
    pub fn new() -> Accept {
        Accept::default()
    }

    /// Chooses the subprotocol. It takes the place of the route's choice if the client offers it, and
    /// is left out otherwise, because the client would end the connection.
    ///
    /// Source: RFC 6455, section 4.2.2.
    pub fn subprotocol(mut self, name: impl Into<String>) -> Accept {
        self.subprotocol = Some(name.into());
        self
    }

    /// Adds a header to the 101, such as `Set-Cookie`.
    ///
    /// # Panics
    ///
    /// When the name is not a token or is one that the handshake sets, or the value has a control
    /// character. Check a value that a stranger has given before.
    pub fn header(
        mut self,
        name: impl Into<Cow<'static, str>>,
        value: impl Into<String>,
    ) -> Accept {
        let (name, value) = (name.into(), value.into());
        let ours = [
            "connection",
            "upgrade",
            "content-length",
            "transfer-encoding",
        ];
        let is_ours = ours.iter().any(|ours| ours.eq_ignore_ascii_case(&name))
            || name.to_ascii_lowercase().starts_with("sec-websocket-");
        assert!(
            !is_ours && is_header(&name, &value),
            "the header {name:?} cannot stand in the answer to a handshake"
        );
        self.headers.push((name, value));
        self
    }
}
