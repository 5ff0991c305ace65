//! Clients by their address: how many connections each has, and how many it made in this second.
//!
//! A client is counted by its network: of IPv6 the first 64 bits, because a site has all addresses that begin
//! with them. A client behind a trusted proxy is counted by the address that the proxy names.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::protocol::network::site_of;

use super::id::{ConnId, ConnMap};
use super::log_limit::{LogLimit, Suppressed};

/// How many addresses without a connection are kept before they are swept.
const IDLE_ADDRESSES_MAX: usize = 1024;

/// The limits for one address. `None`: no limit.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AddressLimits {
    pub(super) connections: Option<u32>,
    pub(super) per_second: Option<u32>,
}

#[derive(Debug, Default)]
struct Client {
    connection_count: u32,
    second: u64,
    count_in_second: u32,
}

/// The clients of one reactor by their address.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    clients: HashMap<IpAddr, Client>,
    of_connections: ConnMap<IpAddr>,
    refusals: LogLimit,
}

impl Addresses {
    /// Counts a connection for an address, instead of the one that it was counted for. Returns `false` when a
    /// limit is passed; the connection is not counted then.
    pub(super) fn admit(
        &mut self,
        id: ConnId,
        address: IpAddr,
        now: Duration,
        limits: AddressLimits,
    ) -> bool {
        if self.of_connections.get(id) == Some(&address) {
            return true;
        }
        self.release(id);
        self.sweep(now);
        let client = self.clients.entry(site_of(address)).or_default();
        if client.second != now.as_secs() {
            client.second = now.as_secs();
            client.count_in_second = 0;
        }
        client.count_in_second = client.count_in_second.saturating_add(1);
        let is_above = |limit: Option<u32>, count: u32| limit.is_some_and(|limit| limit < count);
        if is_above(limits.per_second, client.count_in_second)
            || is_above(limits.connections, client.connection_count + 1)
        {
            return false;
        }
        client.connection_count += 1;
        self.of_connections.insert(id, address);
        true
    }

    /// The address that a connection is counted for.
    pub(super) fn of_connection(&self, id: ConnId) -> Option<IpAddr> {
        self.of_connections.get(id).copied()
    }

    /// A connection has ended.
    pub(super) fn release(&mut self, id: ConnId) {
        if let Some(address) = self.of_connections.remove(id)
            && let Some(client) = self.clients.get_mut(&site_of(address))
        {
            client.connection_count = client.connection_count.saturating_sub(1);
        }
    }

    /// Whether a line about a refusal may be logged now.
    pub(super) fn allow_line(&mut self, now: Duration) -> Option<Suppressed> {
        self.refusals.allow_line(now)
    }

    // Amortized: it runs when as many addresses without a connection may have gathered as there are with one.
    fn sweep(&mut self, now: Duration) {
        if self.clients.len() < IDLE_ADDRESSES_MAX + 2 * self.of_connections.len() {
            return;
        }
        let second = now.as_secs();
        self.clients
            .retain(|_, client| client.connection_count != 0 || client.second == second);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(index: u32) -> ConnId {
        ConnId {
            index,
            generation: 1,
        }
    }

    #[test]
    fn connections_and_handshakes_are_counted_by_address() {
        let limits = AddressLimits {
            connections: Some(2),
            per_second: Some(3),
        };
        let [one, other] = ["192.0.2.1", "192.0.2.2"].map(|ip| ip.parse().unwrap());
        let at = Duration::from_secs;
        let mut addresses = Addresses::default();
        assert!(addresses.admit(id(1), one, at(0), limits));
        assert!(addresses.admit(id(1), one, at(0), limits), "counted once");
        assert!(addresses.admit(id(2), one, at(0), limits));
        assert!(
            !addresses.admit(id(3), one, at(0), limits),
            "two connections"
        );
        assert!(addresses.admit(id(3), other, at(0), limits));
        addresses.release(id(1));
        assert!(
            !addresses.admit(id(4), one, at(0), limits),
            "four handshakes"
        );
        assert!(addresses.admit(id(4), one, at(1), limits));
        // A proxy's connection carries requests of several clients.
        assert!(addresses.admit(id(4), other, at(1), limits));
        assert!(addresses.admit(id(5), one, at(2), limits));
        addresses.release(id(77));
    }

    #[test]
    fn addresses_without_a_connection_are_forgotten() {
        let mut addresses = Addresses::default();
        for number in 0..100_000 {
            let address = IpAddr::from(std::net::Ipv4Addr::from(number));
            let now = Duration::from_millis(u64::from(number));
            assert!(addresses.admit(id(number), address, now, AddressLimits::default()));
            addresses.release(id(number));
        }
        assert!(addresses.clients.len() <= 2 * IDLE_ADDRESSES_MAX);
    }
}
