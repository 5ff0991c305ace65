//! UDP sockets, in a simulation and of the kernel.

mod support;

use std::io::{self, ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use support::PATIENCE;
use waterwheel::{
    Address, Config, EventLoop, Faults, MulticastInterface, QUEUED_MESSAGE_BYTES, Reactor, Sent,
    Sim, UdpCallbacks, UdpId,
};

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

fn simulation(address: &str, setup: impl FnOnce(&mut UdpCallbacks<Seen>)) -> (Sim<Seen>, UdpId) {
    let mut sim = Sim::new(Seen::new(), |_: &mut Reactor<Seen>| {});
    let id = sim.reactor().udp(address, setup).unwrap();
    (sim, id)
}

fn address(reactor: &Reactor<Seen>, id: UdpId) -> SocketAddr {
    reactor.udp_address(id).unwrap()
}

/// Has no write find room.
fn full_kernel() -> Faults {
    Faults {
        refused_writes_percent: 100,
        ..Faults::default()
    }
}

/// The setup of callbacks that panic at some datagrams.
fn panic_at_odd(udp: &mut UdpCallbacks<Seen>) {
    udp.on_datagram(|udp, bytes, _| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        udp.state.push(text.clone());
        assert!(!text.ends_with(['1', '3', '5', '7', '9']), "odd");
    });
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

#[test]
fn an_echo_of_ipv6_in_a_simulation() {
    let (mut sim, _) = simulation("[::]:7", echo);
    let client = sim.udp("[2001:db8::1]:4711");
    client.send_to("hello", at("[::1]:7"));
    sim.settle();
    assert_eq!(client.received(), [("hello".into(), at("[::1]:7"))]);
}

// ── errors ───────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_datagram_that_is_too_long_is_an_error_of_the_send() {
    let too_long = vec![b'x'; 65_508];
    let client = peer("127.0.0.1:0");
    let to = client.local_addr().unwrap();
    let (mut event_loop, id) = event_loop("127.0.0.1:0", echo);
    let reactor = event_loop.reactor();
    let error = reactor.send_to(id, &too_long, to).unwrap_err();
    #[cfg(target_os = "linux")]
    assert_eq!(
        error.raw_os_error(),
        Some(rustix::io::Errno::MSGSIZE.raw_os_error())
    );
    drop(error);
    assert_eq!(reactor.send_to(id, "hello", to).unwrap(), Sent::Queued);
    let mut buffer = [0; 16];
    assert_eq!(client.recv(&mut buffer).unwrap(), 5);
    let (mut sim, id) = simulation("0.0.0.0:7", echo);
    let client = sim.udp("192.0.2.1:4711");
    sim.reactor()
        .send_to(id, &too_long, client.address())
        .unwrap_err();
    let longest = &too_long[1..];
    sim.reactor()
        .send_to(id, longest, client.address())
        .unwrap();
    sim.settle();
    assert_eq!(client.received(), [(longest.to_vec(), at("127.0.0.1:7"))]);
    for stats in [event_loop.reactor().stats(), sim.reactor().stats()] {
        assert_eq!((stats.datagrams_sent, stats.datagrams_dropped), (1, 0));
    }
}

#[test]
fn a_datagram_above_the_limit_is_told_and_not_cut() {
    let setup = |udp: &mut UdpCallbacks<Seen>| {
        echo(udp);
        udp.datagram_bytes_max(5);
    };
    let (mut event_loop, id) = event_loop("127.0.0.1:0", setup);
    let server = address(event_loop.reactor(), id);
    let client = peer("127.0.0.1:0");
    for text in ["12345", "123456", "after"] {
        client.send_to(text.as_bytes(), server).unwrap();
    }
    turn_until(&mut event_loop, |seen| seen.len() == 3);
    let (mut sim, _) = simulation("0.0.0.0:7", setup);
    let simulated = sim.udp("192.0.2.1:4711");
    for text in ["12345", "123456", "after"] {
        simulated.send_to(text, at("127.0.0.1:7"));
    }
    sim.settle();
    assert_eq!(simulated.received_text(), ["12345", "after"]);
    let senders = [client.local_addr().unwrap(), simulated.address()];
    for (seen, from) in [event_loop.state(), sim.state()].into_iter().zip(senders) {
        let told =
            format!("InvalidData: a datagram of {from} has 6 bytes, and `datagram_bytes_max` is 5");
        assert_eq!(*seen, ["12345", &told, "after"]);
    }
    for stats in [event_loop.reactor().stats(), sim.reactor().stats()] {
        assert_eq!(stats.datagrams_received, 2);
    }
}

// A turn that has only errors must not leave the rest without a turn.
#[test]
fn datagrams_behind_many_errors_are_delivered() {
    let (mut sim, _) = simulation("0.0.0.0:7", |udp| {
        echo(udp);
        udp.datagram_bytes_max(5);
    });
    let client = sim.udp("192.0.2.1:4711");
    for _ in 0..200 {
        client.send_to("too long", at("127.0.0.1:7"));
    }
    client.send_to("short", at("127.0.0.1:7"));
    sim.settle();
    assert_eq!(sim.state().len(), 201);
    assert_eq!(client.received_text(), ["short"]);
}

#[test]
fn datagrams_behind_an_error_that_took_long_are_delivered() {
    let mut sim = Sim::new(Seen::new(), |_: &mut Reactor<Seen>| {});
    let clock = sim.clock();
    let opening = sim.reactor().udp("0.0.0.0:7", |udp| {
        echo(udp);
        udp.datagram_bytes_max(5);
        udp.on_error(move |udp, error| {
            clock.advance(Duration::from_secs(1));
            udp.state.push(format!("{:?}", error.kind()));
        });
    });
    opening.unwrap();
    let client = sim.udp("192.0.2.1:4711");
    for text in ["too long", "too long", "too long", "short"] {
        client.send_to(text, at("127.0.0.1:7"));
    }
    sim.settle();
    let told = ["InvalidData", "InvalidData", "InvalidData", "short"];
    assert_eq!(*sim.state(), told);
}

#[test]
fn a_refused_datagram_is_told_and_the_socket_goes_on() {
    let free = peer("127.0.0.1:0").local_addr().unwrap();
    let (mut event_loop, id) = event_loop("127.0.0.1:0", |udp| {
        echo(udp);
        udp.connect(free.to_string());
    });
    let reactor = event_loop.reactor();
    assert_eq!(reactor.send_datagram(id, "refused").unwrap(), Sent::Queued);
    turn_until(&mut event_loop, |seen| seen.len() == 1);
    // The second send gets the error of the first one, which is not its own.
    for _ in 0..2 {
        let sending = event_loop.reactor().send_datagram(id, "refused");
        assert_eq!(sending.unwrap(), Sent::Queued);
    }
    turn_until(&mut event_loop, |seen| seen.len() == 3);
    for told in event_loop.state() {
        assert!(told.starts_with("ConnectionRefused"), "{told}");
    }
    let client = peer(&free.to_string());
    let server = address(event_loop.reactor(), id);
    event_loop.reactor().send_to(id, "hello", free).unwrap();
    let mut buffer = [0; 16];
    assert_eq!(client.recv_from(&mut buffer).unwrap(), (5, server));
    // Another sender is not heard.
    peer("127.0.0.1:0").send_to(b"other", server).unwrap();
    client.send_to(b"last", server).unwrap();
    turn_until(&mut event_loop, |seen| seen.len() == 4);
    assert_eq!(event_loop.state()[3], "last");
    let other = event_loop.reactor().send_to(id, "x", server).unwrap_err();
    assert_eq!(other.kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_refused_datagram_is_told_in_a_simulation() {
    let (mut sim, id) = simulation("0.0.0.0:7", |udp| {
        echo(udp);
        udp.connect("192.0.2.1:4711");
    });
    for _ in 0..3 {
        sim.reactor().send_datagram(id, "refused").unwrap();
        sim.settle();
    }
    assert_eq!(sim.state().len(), 3);
    for told in sim.state() {
        assert!(told.starts_with("ConnectionRefused"), "{told}");
    }
    let client = sim.udp("192.0.2.1:4711");
    sim.reactor().send_datagram(id, "hello").unwrap();
    sim.udp("192.0.2.2:4711")
        .send_to("other", at("127.0.0.1:7"));
    client.send_to("last", at("127.0.0.1:7"));
    sim.settle();
    assert_eq!(client.received_text(), ["hello", "last"]);
    assert_eq!(sim.state()[3..], ["last"]);
}

#[test]
fn errors_of_opening_and_sending_are_clear() {
    let (mut event_loop, id) = event_loop("127.0.0.1:0", echo);
    let used = address(event_loop.reactor(), id);
    let reactor = event_loop.reactor();
    let open = |reactor: &mut Reactor<Seen>, address: &str| {
        let error = reactor.udp(address, |_| {}).unwrap_err();
        assert!(error.to_string().contains(address), "{error}");
        error.kind()
    };
    assert_eq!(open(reactor, "no address"), ErrorKind::InvalidInput);
    assert_eq!(open(reactor, &used.to_string()), ErrorKind::AddrInUse);
    let unconnected = reactor.send_datagram(id, "x").unwrap_err();
    assert_eq!(unconnected.kind(), ErrorKind::NotConnected);
    reactor.send_to(id, "x", at("[::1]:7")).unwrap_err();
    let (mut sim, id) = simulation("0.0.0.0:7", echo);
    assert_eq!(open(sim.reactor(), "no address"), ErrorKind::InvalidInput);
    assert_eq!(open(sim.reactor(), "0.0.0.0:7"), ErrorKind::AddrInUse);
    let unconnected = sim.reactor().send_datagram(id, "x").unwrap_err();
    assert_eq!(unconnected.kind(), ErrorKind::NotConnected);
    sim.reactor().send_to(id, "x", at("[::1]:7")).unwrap_err();
    let setup = |_: &mut UdpCallbacks<Seen>| Err::<(), _>(io::Error::other("of the setup"));
    let error = sim.reactor().udp("0.0.0.0:9", setup).unwrap_err();
    assert_eq!(error.to_string(), "of the setup");
}

#[test]
fn broadcast_is_an_option() {
    let everybody = at("255.255.255.255:4711");
    let (mut event_loop, id) = event_loop("0.0.0.0:0", echo);
    let refused = event_loop.reactor().send_to(id, "x", everybody);
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::PermissionDenied);
    let (mut sim, id) = simulation("0.0.0.0:7", echo);
    let refused = sim.reactor().send_to(id, "x", everybody);
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::PermissionDenied);
    let broadcaster = sim.reactor().udp("0.0.0.0:8", UdpCallbacks::broadcast);
    let clients = [sim.udp("192.0.2.1:4711"), sim.udp("192.0.2.2:4711")];
    let other = sim.udp("192.0.2.3:4712");
    let sending = sim
        .reactor()
        .send_to(broadcaster.unwrap(), "hello", everybody);
    assert_eq!(sending.unwrap(), Sent::Queued);
    for client in clients {
        assert_eq!(client.received_text(), ["hello"]);
    }
    assert!(other.received().is_empty());
}

// ── groups of multicast ──────────────────────────────────────────────────────────────────────

/// Joins a group on the loopback interface, gets a datagram, leaves it, and gets none.
fn join_and_leave(
    host: &str,
    group: IpAddr,
    interface: MulticastInterface,
    own: SocketAddr,
) -> io::Result<()> {
    let mut event_loop = EventLoop::new(Config::default(), Seen::new()).unwrap();
    let reactor = event_loop.reactor();
    let member = reactor.udp(host, |udp| {
        udp.join_group(group, interface);
        udp.on_datagram(|udp, bytes, _| {
            udp.state.push(String::from_utf8_lossy(bytes).into_owned());
        });
    })?;
    let sender = reactor.udp(host, |udp| {
        udp.multicast_interface(interface);
        udp.multicast_ttl(0);
    })?;
    let port = address(reactor, member).port();
    reactor.send_to(sender, "to the group", (group, port).into())?;
    turn_until(&mut event_loop, |seen| seen.len() == 1);
    let reactor = event_loop.reactor();
    reactor.join_group(member, group, interface).unwrap_err();
    reactor.leave_group(member, group, interface).unwrap();
    reactor.leave_group(member, group, interface).unwrap_err();
    let own = SocketAddr::new(own.ip(), port);
    reactor.send_to(sender, "after", (group, port).into())?;
    reactor.send_to(sender, "direct", own).unwrap();
    turn_until(&mut event_loop, |seen| seen.len() == 2);
    assert_eq!(*event_loop.state(), ["to the group", "direct"]);
    Ok(())
}

#[test]
fn groups_of_multicast_are_joined_and_left() {
    let ipv4 = (
        "0.0.0.0:0",
        Ipv4Addr::new(239, 255, 71, 11).into(),
        MulticastInterface::Address(Ipv4Addr::LOCALHOST),
        at("127.0.0.1:0"),
    );
    // Linux has no route for groups of IPv6 on its loopback interface. The TTL of 0 keeps the datagram on this machine.
    let ipv6 = (
        "[::]:0",
        Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0x4711, 1).into(),
        MulticastInterface::Any,
        at("[::1]:0"),
    );
    for (host, group, interface, own) in [ipv4, ipv6] {
        if let Err(error) = join_and_leave(host, group, interface, own) {
            eprintln!("skipped: no multicast within this machine with {host}: {error}");
        }
    }
}

#[test]
fn a_group_of_the_other_family_or_none_is_an_error() {
    use MulticastInterface::{Address, Any, Index};
    let ipv4: IpAddr = Ipv4Addr::new(239, 1, 2, 3).into();
    let ipv6: IpAddr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x4711).into();
    let (mut event_loop, kernel_id) = event_loop("127.0.0.1:0", echo);
    let (mut sim, sim_id) = simulation("0.0.0.0:7", echo);
    let address = Address(Ipv4Addr::LOCALHOST);
    let no_group: IpAddr = Ipv4Addr::new(192, 0, 2, 1).into();
    for (group, interface) in [(ipv4, Index(1)), (ipv6, address), (no_group, Any)] {
        for (reactor, id) in [(event_loop.reactor(), kernel_id), (sim.reactor(), sim_id)] {
            let error = reactor.join_group(id, group, interface).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
            assert!(error.to_string().contains(&group.to_string()), "{error}");
        }
    }
    sim.reactor().close_udp(sim_id);
    let closed = sim.reactor().join_group(sim_id, ipv4, Any).unwrap_err();
    assert_eq!(closed.kind(), ErrorKind::NotConnected);
}

#[test]
fn groups_of_multicast_in_a_simulation() {
    let group = Ipv4Addr::new(239, 1, 2, 3);
    let to = SocketAddr::from((group, 7));
    let (mut sim, id) = simulation("0.0.0.0:7", |udp| {
        echo(udp);
        udp.share_port();
        udp.join_group(group, MulticastInterface::Any);
    });
    let second = sim.reactor().udp("0.0.0.0:7", |udp| {
        echo(udp);
        udp.share_port();
    });
    let second = second.unwrap();
    let client = sim.udp("192.0.2.1:4711");
    client.send_to("one", to);
    sim.settle();
    let joining = sim
        .reactor()
        .join_group(second, group, MulticastInterface::Any);
    joining.unwrap();
    client.send_to("two", to);
    sim.settle();
    let reactor = sim.reactor();
    for id in [id, second] {
        reactor
            .leave_group(id, group, MulticastInterface::Any)
            .unwrap();
    }
    client.send_to("three", to);
    sim.settle();
    assert_eq!(*sim.state(), ["one", "two", "two"]);
}

// ── the queue ────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_full_queue_drops_the_newest() {
    let (mut sim, id) = simulation("0.0.0.0:7", |udp| {
        echo(udp);
        udp.queue_bytes_max(3 * (1 + QUEUED_MESSAGE_BYTES));
    });
    let client = sim.udp("192.0.2.1:4711");
    sim.faults(1, full_kernel());
    let send = |sim: &mut Sim<Seen>, text: &str| {
        let to = client.address();
        sim.reactor().send_to(id, text, to).unwrap()
    };
    let sent = ["a", "b", "c", "d", "e"].map(|text| send(&mut sim, text));
    assert_eq!(sent[..3], [Sent::Queued; 3]);
    assert_eq!(sent[3..], [Sent::Full; 2]);
    let queued_bytes = sim.reactor().udp_queued_bytes(id);
    assert_eq!(queued_bytes, 3 * (1 + QUEUED_MESSAGE_BYTES));
    sim.turn();
    assert!(client.received().is_empty());
    assert!(sim.state().is_empty());
    sim.faults(1, Faults::default());
    sim.settle();
    assert_eq!(client.received_text(), ["a", "b", "c"]);
    assert_eq!(*sim.state(), ["drained"]);
    assert_eq!(sim.reactor().udp_queued_bytes(id), 0);
    assert_eq!(send(&mut sim, "f"), Sent::Queued);
    sim.settle();
    assert_eq!(client.received_text(), ["f"]);
    assert_eq!(*sim.state(), ["drained"], "no second time");
    let stats = sim.reactor().stats();
    assert_eq!((stats.datagrams_sent, stats.datagrams_dropped), (4, 2));
}

#[test]
fn queued_datagrams_that_cannot_be_sent_are_told() {
    let (mut sim, id) = simulation("0.0.0.0:7", |udp| {
        echo(udp);
        udp.queue_bytes_max(usize::MAX);
    });
    let client = sim.udp("192.0.2.1:4711");
    let to = client.address();
    sim.faults(1, full_kernel());
    let too_long = vec![b'x'; 65_508];
    sim.reactor().send_to(id, "first", to).unwrap();
    for _ in 0..200 {
        sim.reactor().send_to(id, &too_long, to).unwrap();
    }
    sim.reactor().send_to(id, "last", to).unwrap();
    sim.faults(1, Faults::default());
    sim.settle();
    assert_eq!(client.received_text(), ["first", "last"]);
    assert_eq!(sim.state().len(), 200);
    assert_eq!(sim.reactor().udp_queued_bytes(id), 0);
}

// Whatever fails at random, each datagram that was not refused comes, in its order.
#[test]
fn queued_datagrams_keep_their_order() {
    for seed in 0..50 {
        let (mut sim, id) = simulation("0.0.0.0:7", echo);
        let client = sim.udp("192.0.2.1:4711");
        let faults = Faults {
            refused_writes_percent: 50,
            ..Faults::default()
        };
        sim.faults(seed, faults);
        let texts: Vec<String> = (0..100).map(|index| index.to_string()).collect();
        for (index, text) in texts.iter().enumerate() {
            let sending = sim.reactor().send_to(id, text, client.address());
            assert_eq!(sending.unwrap(), Sent::Queued);
            if index % 7 == 0 {
                sim.turn();
            }
        }
        sim.settle();
        assert_eq!(client.received_text(), texts);
    }
}

// ── many, and callbacks that do not just return ──────────────────────────────────────────────

fn texts(count: usize) -> Vec<String> {
    (0..count)
        .map(|index| format!("datagram {index}"))
        .collect()
}

/// Checks that all datagrams came in their order, and that the stream was served in between.
fn assert_is_fair(seen: &[String], texts: &[String]) {
    let stream = seen.iter().position(|text| text == "stream").unwrap();
    assert!(stream < texts.len() * 2 / 3, "after {stream} datagrams");
    let datagrams: Vec<_> = seen.iter().filter(|text| *text != "stream").collect();
    assert!(datagrams.iter().copied().eq(texts));
}

fn listen(reactor: &mut Reactor<Seen>, address: &str) -> waterwheel::ListenerId {
    let listening = reactor.stream(address, |stream| {
        stream.on_open(|stream| stream.state.push("open".to_owned()));
        stream.on_data(|stream, _| stream.state.push("stream".to_owned()));
    });
    listening.unwrap()
}

#[test]
fn a_thousand_datagrams_leave_turns_to_a_stream() {
    let (mut sim, _) = simulation("0.0.0.0:7", echo);
    listen(sim.reactor(), "0.0.0.0:80");
    let stream = sim.connect();
    let client = sim.udp("192.0.2.1:4711");
    sim.settle();
    sim.state().clear();
    let texts = texts(1000);
    for text in &texts {
        client.send_to(text, at("127.0.0.1:7"));
    }
    stream.write("x");
    sim.settle();
    assert_is_fair(sim.state(), &texts);
    assert_eq!(client.received_text(), texts);
    let stats = sim.reactor().stats();
    let counts = (stats.datagrams_received, stats.datagrams_sent);
    assert_eq!(counts, (1000, 1000));
}

#[test]
fn many_datagrams_in_the_kernel_leave_turns_to_a_stream() {
    let (mut event_loop, id) = event_loop("127.0.0.1:0", |udp| {
        echo(udp);
        udp.receive_buffer_bytes(4 << 20);
    });
    let server = address(event_loop.reactor(), id);
    let listener = listen(event_loop.reactor(), "127.0.0.1:0");
    let Some(Address::Inet(listening)) = event_loop.reactor().local_addr(listener) else {
        panic!("no port");
    };
    let mut stream = TcpStream::connect(listening).unwrap();
    turn_until(&mut event_loop, |seen| seen.len() == 1);
    event_loop.state().clear();
    let client = peer("127.0.0.1:0");
    // As many as Linux keeps without a larger buffer, which may be forbidden: each counts some 770 bytes of 212,992.
    let texts = texts(250);
    for text in &texts {
        client.send_to(text.as_bytes(), server).unwrap();
    }
    stream.write_all(b"x").unwrap();
    turn_until(&mut event_loop, |seen| seen.len() == texts.len() + 1);
    assert_is_fair(event_loop.state(), &texts);
}

#[test]
fn datagrams_behind_a_panic_are_delivered() {
    let texts = texts(200);
    let (mut event_loop, id) = event_loop("127.0.0.1:0", panic_at_odd);
    let server = address(event_loop.reactor(), id);
    let client = peer("127.0.0.1:0");
    for text in &texts {
        client.send_to(text.as_bytes(), server).unwrap();
    }
    turn_until(&mut event_loop, |seen| seen.len() == texts.len());
    let (mut sim, _) = simulation("0.0.0.0:7", panic_at_odd);
    sim.catch_panics(true);
    let client = sim.udp("192.0.2.1:4711");
    for text in &texts {
        client.send_to(text, at("127.0.0.1:7"));
    }
    sim.settle();
    for seen in [event_loop.state(), sim.state()] {
        assert_eq!(*seen, texts);
    }
    for stats in [event_loop.reactor().stats(), sim.reactor().stats()] {
        assert_eq!(stats.panics, 100);
        assert_eq!(stats.datagrams_received, 200);
    }
}

#[test]
fn a_panic_of_the_other_callbacks_leaves_the_socket_open() {
    let (mut sim, id) = simulation("0.0.0.0:7", |udp| {
        echo(udp);
        udp.queue_bytes_max(1 + QUEUED_MESSAGE_BYTES);
        udp.datagram_bytes_max(1);
        udp.on_drain(|_| panic!("on_drain"));
        udp.on_error(|_, _| panic!("on_error"));
    });
    sim.catch_panics(true);
    let client = sim.udp("192.0.2.1:4711");
    sim.faults(1, full_kernel());
    for _ in 0..2 {
        let to = client.address();
        sim.reactor().send_to(id, "x", to).unwrap();
    }
    client.send_to("too long", at("127.0.0.1:7"));
    client.send_to("s", at("127.0.0.1:7"));
    sim.faults(1, Faults::default());
    sim.settle();
    assert_eq!(client.received_text(), ["x", "s"]);
    assert_eq!(*sim.state(), ["s"]);
    assert_eq!(sim.reactor().stats().panics, 2);
}

/// Closes the socket at `close`, and opens another one there at `again`.
fn close_inside(udp: &mut UdpCallbacks<Seen>) {
    udp.on_datagram(|udp, bytes, _| {
        udp.state.push(String::from_utf8_lossy(bytes).into_owned());
        let address = udp.reactor.udp_address(udp.id).unwrap();
        if bytes.starts_with(b"close") {
            assert!(udp.close());
            assert!(!udp.close());
            assert_eq!(udp.reactor.udp_address(udp.id), None);
            assert_eq!(udp.reply("x").unwrap(), Sent::Gone);
        }
        if bytes.ends_with(b"again") {
            let opening = udp.reactor.udp(&address.to_string(), echo);
            udp.state.push(format!("open: {}", opening.is_ok()));
        }
    });
}

#[test]
fn a_socket_closes_itself() {
    let (mut event_loop, id) = event_loop("127.0.0.1:0", close_inside);
    let server = address(event_loop.reactor(), id);
    let client = peer("127.0.0.1:0");
    for text in ["close and open again", "lost"] {
        client.send_to(text.as_bytes(), server).unwrap();
    }
    turn_until(&mut event_loop, |seen| seen.len() == 2);
    client.send_to(b"later", server).unwrap();
    turn_until(&mut event_loop, |seen| seen.len() == 3);
    let mut buffer = [0; 16];
    assert_eq!(client.recv_from(&mut buffer).unwrap(), (5, server));
    let (mut sim, sim_id) = simulation("0.0.0.0:7", close_inside);
    let simulated = sim.udp("192.0.2.1:4711");
    for text in ["close and open again", "lost"] {
        simulated.send_to(text, at("127.0.0.1:7"));
    }
    sim.settle();
    simulated.send_to("later", at("127.0.0.1:7"));
    sim.settle();
    assert_eq!(simulated.received_text(), ["later"]);
    for seen in [event_loop.state(), sim.state()] {
        assert_eq!(*seen, ["close and open again", "open: true", "later"]);
    }
    for (reactor, id) in [(event_loop.reactor(), id), (sim.reactor(), sim_id)] {
        assert_eq!(reactor.send_to(id, "x", server).unwrap(), Sent::Gone);
        assert!(!reactor.close_udp(id));
        assert_eq!(reactor.udp_queued_bytes(id), 0);
    }
}

#[test]
fn a_socket_is_open_while_the_loop_drains_and_closed_behind_it() {
    let (mut sim, id) = simulation("0.0.0.0:7", echo);
    listen(sim.reactor(), "0.0.0.0:80");
    let stream = sim.connect();
    let client = sim.udp("192.0.2.1:4711");
    sim.settle();
    sim.reactor().drain(Duration::from_secs(5));
    client.send_to("while it drains", at("127.0.0.1:7"));
    sim.settle();
    assert_eq!(client.received_text(), ["while it drains"]);
    stream.close();
    sim.advance(Duration::from_secs(10));
    assert!(!sim.is_running());
    assert_eq!(sim.reactor().udp_address(id), None);
    let to = client.address();
    assert_eq!(sim.reactor().send_to(id, "x", to).unwrap(), Sent::Gone);
    sim.reactor().udp("0.0.0.0:8", echo).unwrap_err();
    // The address is free again.
    sim.udp("127.0.0.1:7");
}
