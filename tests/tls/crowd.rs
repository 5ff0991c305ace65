//! Many clients that come back at once.

use super::*;

/// A simulation in which each read and write of the server takes so long.
fn slow_echo(head_timeout: Duration, socket_time: Duration) -> Sim<Log> {
    let config = Config {
        head_timeout,
        ..Config::default()
    };
    let mut sim = Sim::with_config(config, Log::new(), |reactor: &mut Reactor<Log>| {
        let options = ListenOptions::new("0.0.0.0:443").tls(server_tls("server"));
        echo(reactor, options);
    });
    sim.socket_time(socket_time);
    sim
}

// Their handshakes take far longer together than each of them may.
#[test]
fn clients_that_answer_at_once_get_in_however_many_there_are() {
    let mut sim = slow_echo(Duration::from_secs(1), Duration::ZERO);
    let config = client_config(&VERSIONS);
    // All are accepted, and their deadlines begin.
    let mut peers: Vec<_> = (0..24)
        .map(|_| Peer::new(sim.connect(), Arc::clone(&config)))
        .collect();
    sim.socket_time(Duration::from_millis(50));
    for _ in 0..1000 {
        for peer in peers.iter_mut().filter(|peer| peer.tls.is_handshaking()) {
            let input = peer.stream.read();
            let mut input = &input[..];
            while !input.is_empty() && peer.tls.read_tls(&mut input).is_ok() {
                peer.tls.process_new_packets().unwrap();
            }
            let flight = peer.take_flight();
            peer.stream.write(&flight);
        }
        sim.turn();
        if sim.state().len() == peers.len() {
            break;
        }
    }
    assert_eq!(sim.state(), &["open"; 24]);
}

#[test]
fn clients_are_accepted_later_while_many_handshakes_wait() {
    let mut sim = slow_echo(Duration::from_secs(60), Duration::from_millis(3));
    let clients: Vec<_> = (0..400).map(|_| sim.dial()).collect();
    for client in &clients {
        client.write([0x16]);
    }
    for _ in 0..20 {
        sim.turn();
    }
    // 128 that wait, those that a turn accepts and has not heard yet, and those that had a step.
    let count = sim.reactor().connection_count();
    assert!((128..300).contains(&count), "{count} connections");
    sim.settle();
    assert_eq!(sim.reactor().connection_count(), clients.len());
}
