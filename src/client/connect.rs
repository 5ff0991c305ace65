//! Connecting: WebSockets and raw streams.

use std::io;

use crate::protocol::http::{WebSocketUrl, upgrade};
use crate::reactor::SetupResult;
use crate::reactor::id::ConnId;
use crate::reactor::outcome::{Outcome, Sealed};
use crate::reactor::protocol::{Protocol, Upgrade};
use crate::reactor::reactor::Reactor;
use crate::reactor::transport::endpoint::ConnectOptions;
use crate::session::stream::StreamCallbacks;

use super::websocket::WebSocketClient;

/// Names the callbacks of a client with many connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WebSocketClientId {
    handler: u32,
    options: u16,
}

impl Sealed for WebSocketClientId {}
impl Outcome for WebSocketClientId {}

/// # Connect
impl<S: 'static> Reactor<S> {
    /// Connects to a `ws://` or `http://` URL for a WebSocket. `setup` names the callbacks, the headers and the
    /// subprotocols, and runs once.
    ///
    /// Returns at once. Names are looked up off the loop and every address is tried, within
    /// `connect_timeout`; the answer must come within `head_timeout`. The one outcome is `on_open` or
    /// `on_close`. Messages can be sent from `on_open` on; before that, `send` returns
    /// [`Sent::Gone`](crate::Sent::Gone).
    ///
    /// # Errors
    ///
    /// When `url` is not a URL of this kind, when the reactor was stopped, and when `setup` returns an error.
    /// All other errors come with `on_close`.
    pub fn connect_websocket<R: SetupResult>(
        &mut self,
        url: &str,
        setup: impl FnOnce(&mut WebSocketClient<S>) -> R,
    ) -> io::Result<ConnId> {
        let url = parse_url(url)?;
        let name = format!("websocket to {}", url.host);
        let (client, options) = WebSocketClient::build(self, name, true, setup)?;
        let protocol = upgrade_request_to(&url);
        let to = url.address();
        self.connect(&to.into(), Box::new(client), options, protocol)
    }

    /// Keeps callbacks for many connections, which [`connect_websocket_with`](Self::connect_websocket_with)
    /// makes. `setup` runs once. The callbacks stay until the reactor ends.
    ///
    /// # Errors
    ///
    /// When the options that `setup` chose are not valid together.
    pub fn websocket_client<R: SetupResult>(
        &mut self,
        setup: impl FnOnce(&mut WebSocketClient<S>) -> R,
    ) -> io::Result<WebSocketClientId> {
        let name = "websocket client".to_owned();
        let (client, options) = WebSocketClient::build(self, name, false, setup)?;
        Ok(WebSocketClientId {
            handler: self.add_handler(Box::new(client)),
            options,
        })
    }

    /// As [`connect_websocket`](Self::connect_websocket), with the callbacks of a
    /// [`websocket_client`](Self::websocket_client). `from` is the address to connect from; the system
    /// chooses where it is `None`.
    ///
    /// # Errors
    ///
    /// As [`connect_websocket`](Self::connect_websocket).
    pub fn connect_websocket_with(
        &mut self,
        client: WebSocketClientId,
        url: &str,
        from: Option<std::net::IpAddr>,
    ) -> io::Result<ConnId> {
        let url = parse_url(url)?;
        let protocol = upgrade_request_to(&url);
        let to = ConnectOptions::new(url.address()).from_address(from);
        self.connect_for(client.handler, &to, client.options, protocol)
    }

    /// Connects to `HOST:PORT` or `unix:PATH` for a raw stream. `setup` names the callbacks, and runs once.
    /// [`ConnectOptions`] can name the address of this machine to connect from.
    ///
    /// Returns at once. Names are looked up off the loop and every address is tried, within
    /// `connect_timeout`; the one outcome is `on_open` or `on_close`. Bytes that are sent
    /// before that wait in the queue.
    ///
    /// # Errors
    ///
    /// When `address` is not of that form, when the reactor was stopped, and when `setup` returns an error.
    /// All other errors come with `on_close`.
    pub fn connect_stream<'a, R: SetupResult>(
        &mut self,
        address: impl Into<ConnectOptions<'a>>,
        setup: impl FnOnce(&mut StreamCallbacks<S>) -> R,
    ) -> io::Result<ConnId> {
        let to = address.into();
        let options = self.config().options.clone();
        let name = format!("stream to {}", to.address());
        let mut callbacks = StreamCallbacks::new(name, true, options);
        setup(&mut callbacks).into_result()?;
        let options = self.add_options(callbacks.options().clone())?;
        self.connect(&to, Box::new(callbacks), options, Protocol::Raw)
    }
}

fn parse_url(url: &str) -> io::Result<WebSocketUrl<'_>> {
    WebSocketUrl::parse(url).map_err(|error| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("cannot connect to {url}: {error}"),
        )
    })
}

fn upgrade_request_to(url: &WebSocketUrl<'_>) -> Protocol {
    Protocol::Upgrade(Box::new(Upgrade {
        host: url.host.to_owned(),
        target: url.target(),
        key: upgrade::random_key(),
    }))
}
