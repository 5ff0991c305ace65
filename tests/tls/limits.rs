//! Limits that hold during the handshake: clients of one address, memory.

use super::*;

/// A client behind a proxy that names its address, before the first byte of its own.
fn client_at(sim: &mut Sim<Log>, address: &str) -> SimStream {
    let stream = sim.connect();
    stream.write(format!("PROXY TCP4 {address} 192.0.2.1 4711 443\r\n"));
    sim.settle();
    stream
}

/// A server of TLS behind a proxy.
fn proxied_echo(config: Config) -> Sim<Log> {
    Sim::with_config(config, Log::new(), |reactor: &mut Reactor<Log>| {
        let options = ListenOptions::new("0.0.0.0:443").tls(server_tls("server"));
        echo(reactor, options.proxy_protocol(true));
    })
}

#[test]
fn handshakes_count_as_connections_of_their_address() {
    let mut sim = proxied_echo(Config {
        connections_per_address_max: Some(2),
        ..Config::default()
    });
    let held = [(); 2].map(|()| client_at(&mut sim, "203.0.113.7"));
    let refused = client_at(&mut sim, "203.0.113.7");
    assert!(refused.is_closed() && held.iter().all(|client| !client.is_closed()));
    assert_eq!(sim.reactor().stats().address_refusals, 1);
    assert_eq!(sim.reactor().connection_count(), 2);
    let other = client_at(&mut sim, "203.0.113.8");
    let mut other = Peer::new(other, client_config(&VERSIONS));
    other.send(b"hello");
    other.settle(&mut sim);
    assert_eq!(other.received(), b"hello");
    // One that has gone gives its place back; one whose handshake ends is not counted twice.
    let [first, second] = held;
    first.close();
    sim.settle();
    let again = client_at(&mut sim, "203.0.113.7");
    for stream in [second, again] {
        let mut peer = Peer::new(stream, client_config(&VERSIONS));
        peer.send(b"hello");
        peer.settle(&mut sim);
        assert_eq!(peer.received(), b"hello");
    }
    assert_eq!(sim.reactor().stats().address_refusals, 1);
    assert_eq!(sim.state().iter().filter(|line| *line == "open").count(), 3);
}

#[test]
fn a_handshake_that_is_refused_for_its_address_does_not_count_for_all() {
    let mut sim = proxied_echo(Config {
        connections_per_address_max: Some(1),
        handshakes_per_second_total_max: Some(3),
        ..Config::default()
    });
    let held = client_at(&mut sim, "203.0.113.7");
    for _ in 0..5 {
        assert!(client_at(&mut sim, "203.0.113.7").is_closed());
    }
    let other = client_at(&mut sim, "203.0.113.8");
    assert!(!other.is_closed() && !held.is_closed());
    assert_eq!(sim.reactor().stats().handshake_pauses, 0);
}

/// 40,000 bytes of a ClientHello of the greatest length that there is.
fn part_of_hello() -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < 40_000 {
        bytes.extend_from_slice(b"\x16\x03\x01\x40\x00");
        let header: &[u8] = if bytes.len() == 5 {
            b"\x01\x00\xff\xff"
        } else {
            b""
        };
        bytes.extend_from_slice(header);
        bytes.resize(bytes.len() + 16 * 1024 - header.len(), 0);
    }
    bytes.truncate(40_000);
    bytes
}

/// The memory that the clients of a reactor hold, in bytes.
fn held_bytes(sim: &mut Sim<Log>) -> usize {
    sim.reactor().memory_bytes()
}

#[test]
fn a_handshake_that_is_not_whole_counts_as_memory() {
    let mut sim = echo_sim();
    let stream = sim.connect();
    let before = held_bytes(&mut sim);
    let part = &part_of_hello()[..];
    assert_eq!(stream.write(part), part.len());
    sim.settle();
    let held = held_bytes(&mut sim);
    assert!(before + part.len() <= held, "{held} bytes, {before} before");
    // One that fails gives it back at once, although the connection waits for the peer's end.
    stream.write([0; 20_000]);
    sim.settle();
    assert_eq!(sim.reactor().connection_count(), 1);
    let held = held_bytes(&mut sim);
    assert!(held < before + 1000, "{held} bytes, {before} before");
}

#[test]
fn handshakes_end_when_the_memory_of_all_is_used_up() {
    let config = Config {
        memory_bytes_max: Some(1024 * 1024),
        ..Config::default()
    };
    let mut sim = Sim::with_config(config, Log::new(), |reactor: &mut Reactor<Log>| {
        let options = ListenOptions::new("0.0.0.0:443").tls(server_tls("server"));
        echo(reactor, options);
    });
    let streams: Vec<_> = (0..60).map(|_| sim.connect()).collect();
    for stream in &streams {
        stream.write(part_of_hello());
        sim.settle();
        let held = held_bytes(&mut sim);
        assert!(held <= 1024 * 1024, "{held} bytes");
    }
    assert_ne!(sim.reactor().stats().memory_ends, 0);
}
