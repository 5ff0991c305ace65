//! UDP sockets, in a simulation and of the kernel.

mod support;

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use support::PATIENCE;
use waterwheel::{Config, EventLoop, Reactor, Sim, UdpCallbacks, UdpId};

type Seen = Vec<String>;

/// Answers each datagram with its bytes, and keeps its text and the errors.
fn echo(udp: &mut UdpCallbacks<Seen>) {
    udp.on_datagram(|udp, bytes, _| {
        udp.state.push(String::from_utf8_lossy(bytes).into_owned());
        udp.reply(bytes)
    });
    udp.on_error(|udp, error| udp.state.push(format!("{:?}: {error}", error.kind())));
    udp.on_drain(|udp| udp.state.push("drained".to_owned()));
}

fn at(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

fn event_loop(
    address: &str,
    setup: impl FnOnce(&mut UdpCallbacks<Seen>),
) -> (EventLoop<Seen>, UdpId) {
    let mut event_loop = EventLoop::new(Config::default(), Seen::new()).unwrap();
    let id = event_loop.reactor().udp(address, setup).unwrap();
    (event_loop, id)
}

fn address(reactor: &Reactor<Seen>, id: UdpId) -> SocketAddr {
    reactor.udp_address(id).unwrap()
}

/// A socket of another program, whose reads do not wait for ever.
fn peer(address: &str) -> UdpSocket {
    let socket = UdpSocket::bind(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn turn_until(event_loop: &mut EventLoop<Seen>, is_done: impl Fn(&Seen) -> bool) {
    let began = Instant::now();
    while !is_done(event_loop.state()) {
        assert!(began.elapsed() < PATIENCE, "{:?}", event_loop.state());
        event_loop.turn(Some(Duration::from_millis(100))).unwrap();
    }
}

#[test]
fn an_echo_in_the_kernel() {
    for host in ["127.0.0.1:0", "[::1]:0"] {
        let (mut event_loop, id) = event_loop(host, echo);
        let server = address(event_loop.reactor(), id);
        let client = peer(host);
        let longest = "x".repeat(65_507);
        for (index, text) in ["hello", "", &longest].into_iter().enumerate() {
            client.send_to(text.as_bytes(), server).unwrap();
            turn_until(&mut event_loop, |seen| seen.len() == index + 1);
            assert!(event_loop.state()[index] == text);
            let mut buffer = [0; 65_536];
            let (length, from) = client.recv_from(&mut buffer).unwrap();
            assert_eq!((&buffer[..length], from), (text.as_bytes(), server));
        }
        let stats = event_loop.reactor().stats();
        let counts = (stats.datagrams_received, stats.datagrams_sent);
        assert_eq!(counts, (3, 3));
    }
}

#[test]
fn an_echo_in_a_simulation() {
    let mut sim = Sim::new(Seen::new(), |reactor: &mut Reactor<Seen>| {
        reactor.udp("0.0.0.0:7", echo)
    });
    let client = sim.udp("192.0.2.1:4711");
    for text in ["hello", ""] {
        client.send_to(text, at("127.0.0.1:7"));
        sim.settle();
        assert_eq!(client.received(), [(text.into(), at("127.0.0.1:7"))]);
    }
    assert_eq!(*sim.state(), ["hello", ""]);
}
