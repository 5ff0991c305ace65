//! The URL of a WebSocket, as the parts that each connection to it needs.

use std::io;

use crate::protocol::http::{Url, upgrade, without_user_info};
use crate::reactor::protocol::{Protocol, Upgrade};
use crate::reactor::transport::endpoint::ConnectOptions;

use super::client_transport::ClientTransport;

/// The parts of a URL that a connection needs.
pub(super) struct Target {
    host: String,
    /// Path and query.
    target: String,
    address: String,
    has_tls: bool,
}

impl Target {
    /// # Errors
    ///
    /// When it is not the URL of a WebSocket.
    pub(super) fn parse(url: &str) -> io::Result<Target> {
        let parsed = Url::of_websocket(url).map_err(|error| {
            let url = without_user_info(url);
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("cannot connect to {url}: {error}"),
            )
        })?;
        Ok(Target {
            host: parsed.host_header(),
            target: parsed.target(),
            address: parsed.address(),
            has_tls: parsed.has_tls(),
        })
    }

    /// The name of its handler, for the log.
    pub(super) fn name(&self) -> String {
        format!("websocket to {}", self.host)
    }

    /// The options of a connection to it.
    ///
    /// # Errors
    ///
    /// When it wants TLS, and there is none.
    pub(super) fn options(&self, transport: &ClientTransport) -> io::Result<ConnectOptions<'_>> {
        transport.options(&self.address, self.has_tls)
    }

    /// The protocol of a new connection, with a key of its own.
    pub(super) fn upgrade_request(&self) -> Protocol {
        Protocol::Upgrade(Box::new(Upgrade {
            host: self.host.clone(),
            target: self.target.clone(),
            key: upgrade::random_key(),
        }))
    }
}
