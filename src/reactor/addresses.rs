//! Clients by their address: how many connections each has, how many it made in this second, and how many all
//! made together.
//!
//! A client is counted by its network: of IPv6 the first 64 bits, because a site has all addresses that begin
//! with them. A client behind a trusted proxy is counted by the address that the proxy names.
//!
//! The counts may be shared by several reactors, so they are behind a lock. It is taken when a connection is
//! made or ends, and only where there is a limit; a limit that is divided between reactors would refuse a client
//! whose connections the kernel has given to one of them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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

impl AddressLimits {
    fn is_limited(self) -> bool {
        self.connections.is_some() || self.per_second.is_some()
    }
}

/// The connections of each client, and the handshakes of this second, of one reactor or of several that
/// [share](crate::Reactor::share_client_counts) them. `Send`, `Sync`, and cheap to clone; a clone is the same
/// counts.
#[derive(Clone, Debug, Default)]
pub struct ClientCounts(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    clients: HashMap<IpAddr, Client>,
    /// From this many clients on those without a connection are swept.
    sweep_from: usize,
    handshakes: InSecond,
}

#[derive(Debug, Default)]
struct Client {
    connection_count: u32,
    handshakes: InSecond,
}

/// How often something happened in one second.
#[derive(Debug, Default)]
struct InSecond {
    second: u64,
    count: u32,
}

impl InSecond {
    /// The count in a second of the caller's clock.
    ///
    /// The clocks of two reactors may change to the next second up to a second apart. The one that is behind
    /// counts in the second of the other: if it began its own again, both would begin again and again, and the
    /// limit would never be reached.
    fn count_at(&mut self, second: u64) -> &mut u32 {
        if self.second != second && self.second != second + 1 {
            *self = InSecond { second, count: 0 };
        }
        &mut self.count
    }
}

impl ClientCounts {
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a connection of any client in this second.
    pub(super) fn add_handshake(&self, second: u64) {
        let mut counts = self.lock();
        let count = counts.handshakes.count_at(second);
        *count = count.saturating_add(1);
    }

    /// Takes back a connection that was counted in this second, because it was refused for its address. One
    /// client could otherwise use up what all may have.
    pub(super) fn take_back_handshake(&self, second: u64) {
        let mut counts = self.lock();
        let count = counts.handshakes.count_at(second);
        *count = count.saturating_sub(1);
    }

    /// How many connections were counted in this second.
    pub(super) fn handshake_count(&self, second: u64) -> u32 {
        *self.lock().handshakes.count_at(second)
    }
}

impl Counts {
    fn admit(&mut self, site: IpAddr, second: u64, limits: AddressLimits) -> bool {
        self.sweep(second);
        let client = self.clients.entry(site).or_default();
        let handshake_count = client.handshakes.count_at(second);
        *handshake_count = handshake_count.saturating_add(1);
        let is_above = |limit: Option<u32>, count: u32| limit.is_some_and(|limit| limit < count);
        if is_above(limits.per_second, *handshake_count)
            || is_above(limits.connections, client.connection_count + 1)
        {
            return false;
        }
        client.connection_count += 1;
        true
    }

    fn release(&mut self, site: IpAddr) {
        if let Some(client) = self.clients.get_mut(&site) {
            client.connection_count = client.connection_count.saturating_sub(1);
        }
    }

    /// Forgets clients without a connection, and returns how many clients it looked at. It runs when there
    /// are twice as many clients as the last sweep left, so that each costs a constant: a stranger can come
    /// from very many networks in one second, and these stay until the next.
    fn sweep(&mut self, second: u64) -> usize {
        let count = self.clients.len();
        if count < self.sweep_from.max(IDLE_ADDRESSES_MAX) {
            return 0;
        }
        self.clients.retain(|_, client| {
            client.connection_count != 0 || *client.handshakes.count_at(second) != 0
        });
        self.sweep_from = 2 * self.clients.len();
        self.clients.shrink_to(self.sweep_from);
        count
    }
}

/// The clients of one reactor by their address.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    counts: ClientCounts,
    of_connections: ConnMap<Counted>,
    refusals: LogLimit,
}

/// The address that a connection belongs to.
#[derive(Debug)]
struct Counted {
    address: IpAddr,
    /// Whether the connection is counted for it.
    is_counted: bool,
}

impl Addresses {
    pub(super) fn counts(&self) -> &ClientCounts {
        &self.counts
    }

    /// Counts with other reactors from now on. Connections that were counted before are not counted any more.
    pub(super) fn share(&mut self, counts: ClientCounts) {
        self.release_all();
        self.counts = counts;
    }

    /// Counts a connection for an address, instead of the one that it was counted for. Returns `false` when a
    /// limit is passed; the connection is not counted then.
    pub(super) fn admit(
        &mut self,
        id: ConnId,
        address: IpAddr,
        second: u64,
        limits: AddressLimits,
    ) -> bool {
        if self.of_connection(id) == Some(address) {
            return true;
        }
        self.release(id);
        let is_counted = limits.is_limited();
        if is_counted && !self.counts.lock().admit(site_of(address), second, limits) {
            return false;
        }
        let counted = Counted {
            address,
            is_counted,
        };
        self.of_connections.insert(id, counted);
        true
    }

    /// The address that a connection is counted for.
    pub(super) fn of_connection(&self, id: ConnId) -> Option<IpAddr> {
        self.of_connections.get(id).map(|counted| counted.address)
    }

    /// Takes a connection that has ended off the count of its address.
    pub(super) fn release(&mut self, id: ConnId) {
        if let Some(counted) = self.of_connections.remove(id)
            && counted.is_counted
        {
            self.counts.lock().release(site_of(counted.address));
        }
    }

    fn release_all(&mut self) {
        let of_connections = std::mem::take(&mut self.of_connections);
        let mut counts = self.counts.lock();
        for (_, counted) in of_connections.iter().filter(|(_, it)| it.is_counted) {
            counts.release(site_of(counted.address));
        }
    }

    /// Whether a line about a refusal may be logged now.
    pub(super) fn allow_line(&mut self, now: Duration) -> Option<Suppressed> {
        self.refusals.allow_line(now)
    }
}

/// A reactor that is dropped gives back what it counted with others.
impl Drop for Addresses {
    fn drop(&mut self) {
        if !self.of_connections.is_empty() {
            self.release_all();
        }
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

    const LIMITS: AddressLimits = AddressLimits {
        connections: Some(2),
        per_second: Some(3),
    };

    fn addresses() -> [IpAddr; 2] {
        ["192.0.2.1", "192.0.2.2"].map(|ip| ip.parse().unwrap())
    }

    #[test]
    fn connections_and_handshakes_are_counted_by_address() {
        let [one, other] = addresses();
        let mut addresses = Addresses::default();
        assert!(addresses.admit(id(1), one, 0, LIMITS));
        assert!(addresses.admit(id(1), one, 0, LIMITS), "counted once");
        assert!(addresses.admit(id(2), one, 0, LIMITS));
        assert!(!addresses.admit(id(3), one, 0, LIMITS), "two connections");
        assert!(addresses.admit(id(3), other, 0, LIMITS));
        addresses.release(id(1));
        assert!(!addresses.admit(id(4), one, 0, LIMITS), "four handshakes");
        assert!(addresses.admit(id(4), one, 2, LIMITS));
        // A proxy's connection carries requests of several clients.
        assert!(addresses.admit(id(4), other, 2, LIMITS));
        assert!(addresses.admit(id(5), one, 4, LIMITS));
        addresses.release(id(77));
    }

    #[test]
    fn reactors_that_share_their_counts_have_the_limits_together() {
        let [one, _] = addresses();
        let counts = ClientCounts::default();
        let [mut first, mut second] = [(); 2].map(|()| Addresses::default());
        // Counted before, and so not counted with others.
        assert!(first.admit(id(9), one, 0, LIMITS));
        first.share(counts.clone());
        second.share(counts.clone());
        assert!(first.admit(id(1), one, 0, LIMITS));
        assert!(second.admit(id(1), one, 0, LIMITS));
        assert!(!first.admit(id(2), one, 0, LIMITS));
        assert!(!second.admit(id(2), one, 0, LIMITS));
        second.release(id(1));
        assert!(first.admit(id(2), one, 5, LIMITS));
        drop(first);
        for index in 3..5 {
            assert!(second.admit(id(index), one, 7, LIMITS));
        }
        assert!(!second.admit(id(5), one, 9, LIMITS));
    }

    #[test]
    fn clocks_that_differ_count_in_one_second() {
        let counts = ClientCounts::default();
        for second in [7, 8, 7, 8, 7] {
            counts.add_handshake(second);
        }
        counts.take_back_handshake(8);
        assert_eq!(counts.handshake_count(8), 3);
        assert_eq!(counts.handshake_count(7), 3);
        assert_eq!(counts.handshake_count(9), 0);
        // A clock that was set back.
        counts.add_handshake(3);
        assert_eq!(counts.handshake_count(3), 1);
    }

    #[test]
    fn addresses_without_a_connection_are_forgotten() {
        let mut addresses = Addresses::default();
        let limits = AddressLimits {
            connections: Some(u32::MAX),
            per_second: None,
        };
        for number in 0..100_000 {
            let address = IpAddr::from(std::net::Ipv4Addr::from(number));
            assert!(addresses.admit(id(number), address, u64::from(number / 1000), limits));
            addresses.release(id(number));
        }
        assert!(addresses.counts.lock().clients.len() <= 3 * IDLE_ADDRESSES_MAX);
    }

    #[test]
    fn a_flood_of_addresses_in_one_second_is_swept_at_a_constant_cost() {
        let mut counts = Counts::default();
        let mut looked_at = 0;
        for number in 0..100_000_u32 {
            looked_at += counts.sweep(7);
            let address = IpAddr::from(std::net::Ipv4Addr::from(number));
            assert!(counts.admit(address, 7, LIMITS));
            counts.release(address);
        }
        assert!(looked_at <= 200_000, "{looked_at}");
        assert_eq!(counts.clients.len(), 100_000);
        // In the next second all of them are forgotten, and so is their memory.
        counts.sweep_from = 0;
        assert_eq!(counts.sweep(8), 100_000);
        assert!(counts.clients.capacity() < IDLE_ADDRESSES_MAX);
    }

    #[test]
    fn without_a_limit_no_address_is_counted() {
        let [one, _] = addresses();
        let mut addresses = Addresses::default();
        assert!(addresses.admit(id(1), one, 0, AddressLimits::default()));
        assert_eq!(addresses.of_connection(id(1)), Some(one));
        assert!(addresses.counts.lock().clients.is_empty());
        addresses.release(id(1));
        assert_eq!(addresses.of_connection(id(1)), None);
    }
}
