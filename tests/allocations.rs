//! Allocations of common operations. Unlike times, counts are the same on every machine.

use std::net::UdpSocket;
use std::time::Duration;

use allocation_counter::measure;
use waterwheel::{Config, ConnectionOptions, EventLoop, Reactor, Sim, SimSocket, Status};

const MEMBERS: usize = 1000;

fn room(reactor: &mut Reactor<()>) {
    reactor
        .websocket("0.0.0.0:80", |ws| {
            ws.on_open(|ws, _| ws.subscribe("room"));
            ws.on_message(|ws, message| ws.send(message));
        })
        .unwrap();
}

fn config() -> Config {
    Config {
        options: ConnectionOptions {
            ping_interval: None,
            ..ConnectionOptions::default()
        },
        ..Config::default()
    }
}

fn server_with_members() -> (Sim<()>, Vec<SimSocket>) {
    let mut sim = Sim::with_config(config(), (), room);
    let members: Vec<_> = (0..MEMBERS).map(|_| sim.websocket("/")).collect();
    sim.settle();
    assert_eq!(sim.reactor().member_count("room"), MEMBERS);
    (sim, members)
}

#[test]
fn a_publish_allocates_the_same_for_a_thousand_members_as_for_one() {
    let (mut sim, members) = server_with_members();
    let message = "x".repeat(1024);
    let mut cost_of = |publishes: std::ops::Range<usize>| {
        let costs = publishes.map(|index| {
            let cost = measure(|| {
                assert_eq!(sim.reactor().publish("room", &message).delivered, MEMBERS);
            });
            sim.settle();
            if index % 20 == 19 {
                for member in &members {
                    assert_eq!(member.stream().read().len(), 20 * (4 + 1024));
                }
            }
            cost.count_total
        });
        costs.max().unwrap()
    };
    // The first rounds grow the queues to the size they need.
    let at_first = cost_of(0..20);
    let later = cost_of(20..1000);
    assert!(at_first <= 32, "{at_first} allocations for a publish");
    assert!(later <= 4, "{later} allocations for a publish");
}

#[test]
fn an_echo_of_a_small_message_allocates_nothing_of_its_own() {
    let mut sim = Sim::with_config(config(), (), room);
    let client = sim.websocket("/");
    let mut echo = || {
        client.send("hello");
        let cost = measure(|| sim.settle());
        assert_eq!(client.received(), ["hello"]);
        cost.count_total
    };
    for _ in 0..10 {
        echo();
    }
    let most = (0..1000).map(|_| echo()).max();
    // One allocation is the buffer in which the simulated kernel keeps the bytes for the peer.
    assert_eq!(most, Some(1));
}

#[test]
fn a_datagram_allocates_nothing_of_its_own() {
    let mut sim = Sim::new((), |reactor: &mut Reactor<()>| {
        reactor.udp("0.0.0.0:7", |udp| {
            udp.on_datagram(|udp, bytes, _| udp.reply(bytes));
        })
    });
    let client = sim.udp("192.0.2.1:4711");
    let server = "127.0.0.1:7".parse().unwrap();
    let mut echo = |count: u64| {
        for _ in 0..count {
            client.send_to("hello", server);
        }
        let cost = measure(|| sim.settle());
        assert_eq!(client.received().len() as u64, count);
        cost.count_total
    };
    for count in [1, 100] {
        echo(count);
        // Each allocation is the buffer in which the simulated kernel keeps an answer for the peer.
        let most = (0..100).map(|_| echo(count)).max().unwrap();
        assert_eq!(most, count);
    }
}

// The kernel's sockets need no copy for a peer.
#[test]
fn a_datagram_of_the_kernel_allocates_nothing() {
    let mut event_loop = EventLoop::new(config(), 0).unwrap();
    let opening = event_loop.reactor().udp("127.0.0.1:0", |udp| {
        udp.on_datagram(|udp, bytes, _| {
            *udp.state += 1;
            udp.reply(bytes)
        });
    });
    let server = event_loop.reactor().udp_address(opening.unwrap()).unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    let echo = |event_loop: &mut EventLoop<usize>| {
        let wanted = *event_loop.state() + 100;
        for _ in 0..100 {
            client.send_to(b"hello", server).unwrap();
        }
        let cost = measure(|| {
            while *event_loop.state() < wanted {
                event_loop.turn(None).unwrap();
            }
        });
        for _ in 0..100 {
            assert_eq!(client.recv(&mut [0; 16]).unwrap(), 5);
        }
        cost.count_total
    };
    echo(&mut event_loop);
    let most = (0..100).map(|_| echo(&mut event_loop)).max();
    assert_eq!(most, Some(0));
}

#[test]
fn memory_is_freed_after_all_connections_have_closed() {
    let mut sim = Sim::with_config(config(), (), room);
    let mut visit = |count: usize| {
        let left = measure(|| {
            let clients: Vec<_> = (0..count).map(|_| sim.websocket("/")).collect();
            assert_eq!(sim.reactor().publish("room", "news").delivered, count);
            sim.settle();
            for client in &clients {
                assert_eq!(client.received(), ["news"]);
                client.vanish();
            }
            sim.settle();
            drop(clients);
            assert_eq!(sim.reactor().connection_count(), 0);
            sim.advance(Duration::from_secs(60));
        });
        left.bytes_current
    };
    // A few tables keep room for the next connections.
    let by_few = visit(100);
    let by_many = visit(20_000);
    assert!(by_few < 100_000, "{by_few} bytes");
    assert!(by_many < 100_000, "{by_many} bytes");
}

#[test]
fn a_large_body_that_is_owned_is_not_copied() {
    const BODY_BYTES: usize = 8 * 1024 * 1024;
    let mut body = Some(vec![b'x'; BODY_BYTES]);
    let mut sim = Sim::with_config(config(), (), |reactor: &mut Reactor<()>| {
        reactor.http("0.0.0.0:80", move |router| {
            router.get("/", move |request| {
                request.reply((Status::OK, body.take().unwrap_or_default()))
            });
        })
    });
    sim.socket_bytes(16 * 1024);
    let client = sim.connect();
    let cost = measure(|| {
        client.write("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        sim.turn();
    });
    assert!(
        cost.bytes_total < BODY_BYTES as u64 / 16,
        "{} bytes",
        cost.bytes_total
    );
    let mut got = 0;
    while got < BODY_BYTES {
        let read = client.read().len();
        assert_ne!(read, 0);
        got += read;
        sim.settle();
    }
}

#[test]
fn large_bytes_that_are_owned_are_queued_as_they_are() {
    const LARGE_BYTES: usize = 8 * 1024 * 1024;
    let mut sim = Sim::with_config(config(), None, |reactor| {
        reactor.stream("0.0.0.0:80", |stream| {
            stream.options().queue_high_bytes = 3 * LARGE_BYTES;
            stream.on_open(|stream| *stream.state = Some(stream.id));
            stream.on_data(|stream, bytes| {
                stream.send(bytes);
                stream.send(vec![b'y'; LARGE_BYTES]);
                stream.send("z");
            });
        })
    });
    sim.socket_bytes(16 * 1024);
    let client = sim.connect();
    let id = sim.state().unwrap();
    let mut large = Some(vec![b'x'; LARGE_BYTES]);
    let between_turns = measure(|| {
        sim.reactor().send(id, large.take().unwrap_or_default());
        sim.turn();
    });
    client.write("w");
    let in_a_callback = measure(|| sim.turn());
    for (cost, own_bytes) in [(between_turns, 0), (in_a_callback, LARGE_BYTES)] {
        let copied = cost.bytes_total - own_bytes as u64;
        assert!(copied < LARGE_BYTES as u64 / 16, "{copied} bytes");
    }
    let mut got = Vec::new();
    while got.len() < 2 * LARGE_BYTES + 2 {
        let bytes = client.read();
        assert!(!bytes.is_empty());
        got.extend(bytes);
        sim.settle();
    }
    let (first, second) = got.split_at(LARGE_BYTES);
    assert!(first.iter().all(|byte| *byte == b'x'));
    assert_eq!((second[0], second[LARGE_BYTES + 1]), (b'w', b'z'));
    assert!(second[1..=LARGE_BYTES].iter().all(|byte| *byte == b'y'));
}

/// The bytes of an idle connection, with those of the streams that stand for its socket.
#[cfg(feature = "hub")]
fn bytes_of_each(sim: &mut Sim<()>, path: &str) -> i64 {
    let mut open = |count: usize| {
        let sockets: Vec<SimSocket> = (0..count).map(|_| sim.websocket(path)).collect();
        sim.settle();
        std::mem::forget(sockets);
    };
    // Tables grow by doubling: so many that none is half empty.
    open(1024);
    measure(|| open(1024)).bytes_current / 1024
}

#[cfg(feature = "hub")]
#[test]
fn a_connection_to_the_hub_without_identity_costs_what_any_other_does() {
    use waterwheel::hub::{Access, Hub, HubOptions};

    let mut plain = Sim::with_config(config(), (), |reactor: &mut Reactor<()>| {
        reactor.websocket("0.0.0.0:80", |ws| {
            ws.on_message(|ws, message| ws.send(message));
        })
    });
    let plain = bytes_of_each(&mut plain, "/");
    for rule in ["*=history=10", "*=presence", "*=private"] {
        let mut options = HubOptions::default();
        options.rules.add_text(rule).unwrap();
        let access = Access {
            token: Some("token".into()),
            ..Access::default()
        };
        let mut hub = Sim::with_config(config(), (), |reactor| {
            let hub = Hub::new(options);
            reactor.http("0.0.0.0:80", |router| hub.mount(router, &access))
        });
        // Without a subprotocol, whose name the client would keep with the head of the answer.
        let each = bytes_of_each(&mut hub, "/ws");
        // The hub keeps 12 bytes about each: its grammar and how far its rights go.
        let more = each - plain;
        assert!(more <= 16, "{rule}: {more} bytes more");
    }
}
