//! The parameters of a run that all kinds of load share.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use waterwheel::tls::ClientTls;
use waterwheel::websocket::Deflate;
use waterwheel::{ClientTransport, ConnectOptions, HttpProxy};

use super::process::Process;

pub struct Plan {
    /// Its host is an address: the name was resolved.
    pub url: String,
    /// `HOST:PORT`, for messages to the user.
    pub address: String,
    pub connections: usize,
    /// Whether all connections are opened before the warm-up.
    pub opens_first: bool,
    pub connect_rate: Option<f64>,
    pub deflate: Deflate,
    /// With it the server's certificate is checked for the name in the URL of the command line.
    pub tls: Option<ClientTls>,
    pub proxy: Option<HttpProxy>,
    /// Whether to connect from several addresses of the loopback network, since the ports of one
    /// are too few.
    pub spreads: bool,
    pub warmup: Duration,
    pub seconds: Duration,
    pub process: Option<Process>,
    /// Whether the load counts anything while it measures.
    pub counts: bool,
    pub shows_progress: bool,
}

impl Plan {
    /// The way to the server for the WebSocket with this number.
    pub fn transport(&self, number: usize) -> ClientTransport {
        let transport = ClientTransport::default()
            .from_address(self.source(number))
            .proxy(self.proxy.clone());
        match &self.tls {
            Some(tls) => transport.tls(tls.clone()),
            None => transport,
        }
    }

    /// The same for a connection with this number that is no WebSocket.
    pub fn connect_options(&self, number: usize) -> ConnectOptions<'_> {
        let options = ConnectOptions::new(&self.address)
            .from_address(self.source(number))
            .proxy(self.proxy.clone());
        match &self.tls {
            Some(tls) => options.tls(tls.clone()),
            None => options,
        }
    }

    /// The source address for the connection with this number, where the system does not choose.
    fn source(&self, number: usize) -> Option<IpAddr> {
        /// Fewer than the ports that a system has for one address.
        const PER_ADDRESS: usize = 20_000;
        /// Source addresses that `churn` uses in turn.
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
    fn each_source_address_has_at_most_as_many_connections_as_ports() {
        let mut plan = Plan {
            url: String::new(),
            address: String::new(),
            connections: 100_000,
            opens_first: true,
            connect_rate: None,
            deflate: Deflate::None,
            tls: None,
            proxy: None,
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
        // `churn` leaves ports in TIME_WAIT for a minute, so it uses all addresses evenly.
        plan.opens_first = false;
        let sources = [0, 1, 199, 200].map(|number| plan.source(number));
        let expected = [1, 2, 200, 1].map(|last| Some(IpAddr::from([127, 0, 0, last])));
        assert_eq!(sources, expected);
    }
}
