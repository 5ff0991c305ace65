//! Connecting: WebSockets and raw streams.

use std::io;

use crate::reactor::SetupResult;
use crate::reactor::id::ConnId;
use crate::reactor::outcome::{Outcome, Sealed};
use crate::reactor::protocol::Protocol;
use crate::reactor::reactor::Reactor;
use crate::reactor::transport::endpoint::ConnectOptions;
use crate::session::stream::StreamCallbacks;

use super::client_transport::ClientTransport;
use super::target::Target;
use super::websocket::WebSocketClient;
use super::websocket_link;

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
    /// Connects to a `ws://` or `wss://` URL for a WebSocket; `http://` and `https://` mean the same. `setup` names
    /// the callbacks, the headers and the subprotocols, and runs once.
    ///
    /// Returns at once. Names are looked up off the loop, every address is tried and the TLS handshake is made, within
    /// `connect_timeout`; the answer must come within `head_timeout`. The one outcome is `on_open` or
    /// `on_close`. Messages can be sent from `on_open` on; before that, `send` returns
    /// [`Sent::Gone`](crate::Sent::Gone).
    ///
    /// With [`reconnect`](WebSocketClient::reconnect) in the setup, further connections follow this one, as those of
    /// a [`websocket_link`](Self::websocket_link). The id is that of the first one.
    ///
    /// # Errors
    ///
    /// When `url` is not a URL of this kind, when it is `wss://` without a
    /// [`transport`](WebSocketClient::transport) that has TLS and the system's authorities cannot be read, when the
    /// reactor was stopped, and when `setup` returns an error. All other errors come with `on_close`.
    pub fn connect_websocket<R: SetupResult>(
        &mut self,
        url: &str,
        setup: impl FnOnce(&mut WebSocketClient<S>) -> R,
    ) -> io::Result<ConnId> {
        let target = Target::parse(url)?;
        let name = target.name();
        let (mut client, options) = WebSocketClient::build(self, name, true, setup)?;
        if client.reconnects()? {
            let link = websocket_link::begin(self, target, client, options)?;
            return Ok(link.connection().expect("the first attempt has begun"));
        }
        let protocol = target.upgrade_request();
        let to = target.options(&client.take_transport())?;
        self.connect(&to, Box::new(client), options, protocol)
    }

    /// Keeps callbacks for many connections, which [`connect_websocket_with`](Self::connect_websocket_with)
    /// makes. `setup` runs once. The callbacks stay until the reactor ends.
    ///
    /// # Errors
    ///
    /// When the options that `setup` chose are not valid together, and when it chose
    /// [`reconnect`](WebSocketClient::reconnect): that is for one connection at a time, as
    /// [`websocket_link`](Self::websocket_link) makes it.
    pub fn websocket_client<R: SetupResult>(
        &mut self,
        setup: impl FnOnce(&mut WebSocketClient<S>) -> R,
    ) -> io::Result<WebSocketClientId> {
        let name = "websocket client".to_owned();
        let (client, options) = WebSocketClient::build(self, name, false, setup)?;
        if client.reconnects()? {
            let why = "callbacks for many connections cannot reconnect: use `websocket_link`";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        Ok(WebSocketClientId {
            handler: self.add_handler(Box::new(client)),
            options,
        })
    }

    /// As [`connect_websocket`](Self::connect_websocket), with the callbacks of a
    /// [`websocket_client`](Self::websocket_client). `transport` is the address to connect from, which the system
    /// chooses where it is `None`, or a whole [`ClientTransport`].
    ///
    /// # Errors
    ///
    /// As [`connect_websocket`](Self::connect_websocket).
    pub fn connect_websocket_with(
        &mut self,
        client: WebSocketClientId,
        url: &str,
        transport: impl Into<ClientTransport>,
    ) -> io::Result<ConnId> {
        let target = Target::parse(url)?;
        let protocol = target.upgrade_request();
        let to = target.options(&transport.into())?;
        self.connect_for(client.handler, &to, client.options, protocol)
    }

    /// Connects to `HOST:PORT` or `unix:PATH` for a raw stream. `setup` names the callbacks, and runs once.
    /// [`ConnectOptions`] can name the address of this machine to connect from.
    ///
    /// Returns at once. Names are looked up off the loop, every address is tried and the TLS handshake is made, where
    /// [`ConnectOptions`] asks for TLS, within `connect_timeout`; the one outcome is `on_open` or `on_close`. Bytes that are sent
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
        callbacks.check(self.config().read_buffer_bytes)?;
        let options = self.add_options(callbacks.options().clone())?;
        self.connect(&to, Box::new(callbacks), options, Protocol::Raw)
    }
}
