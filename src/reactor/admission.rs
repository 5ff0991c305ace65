//! The peers and clients of connections, and whether one may have a connection more.

use std::net::IpAddr;
use std::time::Duration;

use crate::protocol::http::{self, Forwarded, ForwardedError, Scheme};
use crate::protocol::proxy_header::{Client, ProxyHeaderError};

use super::addresses::{AddressLimits, ClientCounts};
use super::close::CloseCause;
use super::id::ConnId;
use super::reactor::Reactor;
use super::transport::socket::Peer;

/// Time for which a listener waits before it accepts again, when all clients together have made as many
/// connections as they may in a second.
pub(super) const HANDSHAKES_BACKOFF: Duration = Duration::from_millis(100);

/// # Addresses of clients
impl<S: 'static> Reactor<S> {
    /// Returns the address of a connection's peer: that of its socket, which costs a system call, or on a
    /// listener with [`proxy_protocol`](crate::ListenOptions::proxy_protocol) the one that the proxy has named.
    pub fn peer(&self, id: ConnId) -> Peer {
        if let Some(peer) = self.proxied_peers.get(id) {
            return peer.clone();
        }
        let connection = self.table.connection(id);
        match connection.map(|connection| connection.transport().peer()) {
            Some(Peer::Unknown) => self.peers.get(&id).cloned().unwrap_or(Peer::Unknown),
            Some(peer) => peer,
            None => Peer::Unknown,
        }
    }

    /// Returns the address of a connection's client: that of its peer, or the one that a
    /// [trusted proxy](crate::Config::trusted_proxies) has named in the head of its last request.
    pub fn client_address(&self, id: ConnId) -> Option<IpAddr> {
        match self.addresses.of_connection(id) {
            Some(address) => Some(address),
            None => self.peer(id).inet().map(|address| address.ip()),
        }
    }

    /// Counts clients by their address, and handshakes, together with the other reactors that get the same
    /// counts: [`connections_per_address_max`](crate::Config::connections_per_address_max) and the limits of
    /// handshakes then hold for all of them together. Connections that are open already are not counted. The
    /// reactors of a `ReactorGroup` share theirs by themselves.
    pub fn share_client_counts(&mut self, counts: &ClientCounts) {
        self.addresses.share(counts.clone());
    }

    /// Whether a connection came to a listener with
    /// [`proxy_protocol`](crate::ListenOptions::proxy_protocol), so that a proxy stands in front of it. `false` for
    /// a stale id.
    pub fn is_proxied(&self, id: ConnId) -> bool {
        self.proxied_peers.get(id).is_some()
    }

    /// Keeps the peer that a proxy has named.
    pub(super) fn set_proxied_peer(&mut self, id: ConnId, client: Client) {
        let peer = match client {
            Client::Inet(address) => Peer::Inet(address),
            Client::Unix => Peer::Unix,
            Client::Unnamed => self.peer(id),
        };
        self.proxied_peers.insert(id, peer);
    }

    /// Ends a connection that has not begun with the header of the PROXY protocol.
    pub(super) fn refuse_proxy_header(&mut self, id: ConnId, error: ProxyHeaderError) {
        self.table.stats_mut().proxy_header_errors += 1;
        let now = self.now();
        if let Some(suppressed) = self.proxy_header_lines.allow_line(now) {
            log::warn!(
                "conn {id} {}: refused: {error}; this listener is for a proxy that speaks the PROXY protocol{suppressed}",
                self.peer(id)
            );
        }
        self.table.abort(id, CloseCause::ProxyHeader(error));
    }

    /// Whether the peer's address may have one more connection. Loopback addresses, trusted proxies, and peers
    /// without an address are not counted.
    pub(super) fn admits_peer(&mut self, id: ConnId) -> bool {
        let limits = self.address_limits();
        if limits.connections.is_none() && limits.per_second.is_none() {
            return true;
        }
        match self.peer(id).inet().map(|address| address.ip()) {
            Some(ip) if !ip.to_canonical().is_loopback() && !self.is_trusted_proxy(ip) => {
                self.admits(id, ip)
            }
            Some(_) | None => true,
        }
    }

    /// Whether the client that a trusted proxy names may have one more connection, if the peer is such a proxy.
    /// Returns the scheme by which the client asked, if the proxy says it or the request came over TLS.
    ///
    /// # Errors
    ///
    /// [`http::HttpError`] for the answer: 429, or 400 when the forwarding headers contradict each other.
    pub(crate) fn admit_forwarded(
        &mut self,
        id: ConnId,
        headers: http::Headers<'_>,
    ) -> Result<Option<Scheme>, http::HttpError> {
        if !self.has_trusted_peer(id) {
            return Ok(self.own_scheme(id));
        }
        let Forwarded { client, scheme } = match self.forwarded(headers) {
            Ok(forwarded) => forwarded,
            Err(error) => {
                self.warn_of_forwarding(id, error);
                return Err(http::HttpError::ConflictingForwarding);
            }
        };
        match client {
            Some(client) if !self.admits(id, client) => Err(http::HttpError::TooManyConnections),
            Some(_) => Ok(scheme.or(self.own_scheme(id))),
            // A request of the proxy itself, or of one behind it. The client of an earlier request is another one.
            None => {
                self.addresses.release(id);
                Ok(scheme.or(self.own_scheme(id)))
            }
        }
    }

    /// The scheme by which the client of a request asked, if a trusted proxy says it or it came over TLS.
    pub(crate) fn forwarded_scheme(
        &self,
        id: ConnId,
        headers: http::Headers<'_>,
    ) -> Option<Scheme> {
        match self.has_trusted_peer(id) {
            true => self.forwarded(headers).ok()?.scheme.or(self.own_scheme(id)),
            false => self.own_scheme(id),
        }
    }

    /// The scheme of the connection itself, where that is known: without TLS here a proxy that is not
    /// known may speak it.
    fn own_scheme(&self, id: ConnId) -> Option<Scheme> {
        self.speaks_tls(id).then_some(Scheme::Https)
    }

    /// Whether the transport of a connection is TLS.
    pub(super) fn speaks_tls(&self, id: ConnId) -> bool {
        let connection = self.table.connection(id);
        connection.is_some_and(|connection| connection.transport().speaks_tls())
    }

    // The request is refused for what a trusted proxy does, which only the operator can change.
    fn warn_of_forwarding(&mut self, id: ConnId, error: ForwardedError) {
        let now = self.now();
        if let Some(suppressed) = self.forwarding_lines.allow_line(now) {
            log::warn!(
                "conn {id}: a request of the trusted proxy {} was refused: {error}{suppressed}",
                self.peer(id)
            );
        }
    }

    fn forwarded(&self, headers: http::Headers<'_>) -> Result<Forwarded, ForwardedError> {
        http::forwarded(headers, |ip| self.is_trusted_proxy(ip))
    }

    fn has_trusted_peer(&self, id: ConnId) -> bool {
        // Asked first, because the peer costs a system call.
        if self.config.trusted_proxies.is_empty() && !self.config.trusts_unix_proxies {
            return false;
        }
        match self.peer(id) {
            Peer::Inet(address) => self.is_trusted_proxy(address.ip()),
            Peer::Unix => self.config.trusts_unix_proxies,
            _ => false,
        }
    }

    fn is_trusted_proxy(&self, address: IpAddr) -> bool {
        let proxies = &self.config.trusted_proxies;
        proxies.iter().any(|proxy| proxy.contains(address))
    }

    fn address_limits(&self) -> AddressLimits {
        AddressLimits {
            connections: self.config.connections_per_address_max,
            per_second: self.config.handshakes_per_second_max,
        }
    }

    fn admits(&mut self, id: ConnId, client: IpAddr) -> bool {
        let (second, limits) = (self.table.unix_time(), self.address_limits());
        if self.addresses.admit(id, client, second, limits) {
            return true;
        }
        self.table.stats_mut().address_refusals += 1;
        if let Some(suppressed) = self.addresses.allow_line(self.now()) {
            log::warn!(
                "conn {id} {client}: refused: more connections than one address may have{suppressed}"
            );
        }
        false
    }

    // ── handshakes in all ────────────────────────────────────────────────────────────────────

    /// Whether all clients together have made as many connections in this second as they may.
    pub(super) fn is_over_handshakes(&self) -> bool {
        let limit = self.config.handshakes_per_second_total_max;
        limit.is_some_and(|limit| {
            limit
                <= self
                    .addresses
                    .counts()
                    .handshake_count(self.table.unix_time())
        })
    }

    /// Counts a connection that was accepted, if there is a limit.
    pub(super) fn count_handshake(&self) {
        if self.config.handshakes_per_second_total_max.is_some() {
            let second = self.table.unix_time();
            self.addresses.counts().add_handshake(second);
        }
    }

    /// Takes back a connection that was counted, because its address has too many.
    pub(super) fn take_back_handshake(&self) {
        if self.config.handshakes_per_second_total_max.is_some() {
            let second = self.table.unix_time();
            self.addresses.counts().take_back_handshake(second);
        }
    }

    /// Keeps the peer of a connection for its log lines, if lines about connections are written.
    pub(super) fn keep_peer(&mut self, id: ConnId, peer: Peer) {
        if log::log_enabled!(log::Level::Debug) {
            self.peers.insert(id, peer);
        }
    }
}
