//! What a run is asked for, whatever the kind of load.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::process::Process;

/// What is asked for, whatever the kind of load.
pub struct Plan {
    /// With an address in the place of a name.
    pub url: String,
    /// `HOST:PORT`, for sentences.
    pub address: String,
    pub connections: usize,
    /// Whether all are open before anything else happens.
    pub opens_first: bool,
    pub connect_rate: Option<f64>,
    /// Connect from several addresses of the loopback network, each of which has all the ports.
    pub spreads: bool,
    pub warmup: Duration,
    pub seconds: Duration,
    pub process: Option<Process>,
    /// Whether anything is counted in the measured time.
    pub counts: bool,
    pub shows_progress: bool,
}

impl Plan {
    /// Where the connection of this number connects from.
    pub fn source(&self, number: usize) -> Option<IpAddr> {
        /// Below the ports that a system gives to one address.
        const PER_ADDRESS: usize = 20_000;
        /// Addresses that churn takes in turn.
        const ADDRESSES: usize = 200;
        let last = match (self.spreads, self.opens_first) {
            (false, _) => return None,
            (true, true) => number / PER_ADDRESS,
            (true, false) => number % ADDRESSES,
        };
        Some(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1 + last as u8)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_address_has_more_connections_than_ports() {
        let mut plan = Plan {
            url: String::new(),
            address: String::new(),
            connections: 100_000,
            opens_first: true,
            connect_rate: None,
            spreads: false,
            warmup: Duration::ZERO,
            seconds: Duration::ZERO,
            process: None,
            counts: true,
            shows_progress: false,
        };
        assert_eq!(plan.source(99_999), None);
        plan.spreads = true;
        let sources = [0, 19_999, 20_000, 99_999].map(|number| plan.source(number));
        let expected = [1, 1, 2, 5].map(|last| Some(IpAddr::from([127, 0, 0, last])));
        assert_eq!(sources, expected);
        // Churn leaves ports behind that are not free for a minute, at every address alike.
        plan.opens_first = false;
        let sources = [0, 1, 199, 200].map(|number| plan.source(number));
        let expected = [1, 2, 200, 1].map(|last| Some(IpAddr::from([127, 0, 0, last])));
        assert_eq!(sources, expected);
    }
}
