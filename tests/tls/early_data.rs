//! Early data (0-RTT), which this server refuses: a record of it can be replayed. Source: RFC 8446, section 8.

use rustls::ServerConnection;

use super::*;

/// A configuration of rustls that takes early data.
fn config_with_early_data() -> Arc<ServerConfig> {
    let mut config = (*server_config("server")).clone();
    config.max_early_data_size = 4096;
    Arc::new(config)
}

fn early_client() -> Arc<ClientConfig> {
    let mut config = (*client_config(&[&version::TLS13])).clone();
    config.enable_early_data = true;
    Arc::new(config)
}

/// A server that logs what it gets.
fn logging(tls: ServerTls) -> Sim<Log> {
    Sim::new(Log::new(), |reactor: &mut Reactor<Log>| {
        let options = ListenOptions::new("0.0.0.0:443").tls(tls);
        let listening = reactor.stream(options, |stream| {
            stream.on_data(|stream, bytes| {
                let text = String::from_utf8_lossy(bytes).into_owned();
                stream.state.push(text);
            });
        });
        listening.unwrap();
    })
}

/// Has rustls' own server give the client a ticket.
fn give_ticket(server: &Arc<ServerConfig>, client: &Arc<ClientConfig>) {
    let mut server = ServerConnection::new(Arc::clone(server)).unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = ClientConnection::new(Arc::clone(client), name).unwrap();
    while client.wants_write() || server.wants_write() {
        let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
        client.write_tls(&mut to_server).unwrap();
        server.read_tls(&mut &to_server[..]).unwrap();
        server.process_new_packets().unwrap();
        server.write_tls(&mut to_client).unwrap();
        client.read_tls(&mut &to_client[..]).unwrap();
        client.process_new_packets().unwrap();
    }
}

#[test]
fn a_ticket_of_this_server_allows_no_early_data() {
    for tls in [
        server_tls("server"),
        ServerTls::new(config_with_early_data()),
    ] {
        let mut sim = logging(tls);
        let config = early_client();
        let mut first = Peer::new(sim.connect(), Arc::clone(&config));
        first.settle(&mut sim);
        let mut second = Peer::new(sim.connect(), config);
        assert!(second.tls.early_data().is_none());
        second.send(b"late");
        second.settle(&mut sim);
        assert_eq!(sim.state(), &["late"]);
        assert_eq!(sim.reactor().stats().tls_resumptions, 1);
    }
}

// Another server that has the same sessions may have given the ticket.
#[test]
fn early_data_is_skipped_and_the_handshake_goes_on() {
    let config = config_with_early_data();
    let client = early_client();
    give_ticket(&config, &client);
    let mut sim = logging(ServerTls::new(config));
    let mut peer = Peer::new(sim.connect(), client);
    peer.tls.early_data().unwrap().write_all(b"early").unwrap();
    peer.send(b"late");
    peer.settle(&mut sim);
    assert!(!peer.tls.is_early_data_accepted());
    assert_eq!(sim.state(), &["late"]);
    assert_eq!(sim.reactor().stats().tls_resumptions, 1);
}

#[test]
fn records_of_data_behind_the_hello_are_no_plaintext() {
    for version in VERSIONS {
        let mut sim = logging(server_tls("server"));
        let mut peer = Peer::new(sim.connect(), client_config(&[version]));
        let mut flight = peer.take_flight();
        flight.extend_from_slice(b"\x17\x03\x03\x00\x20");
        flight.extend_from_slice(&[b'x'; 32]);
        peer.stream.write(&flight);
        sim.settle();
        let failures: Vec<_> = sim.reactor().stats().tls_failures.iter().collect();
        assert_eq!(failures, [("protocol", 1)], "{version:?}");
        assert_eq!(sim.state(), &Log::new());
    }
}
