//! The limit of memory for all connections together: which connections end, and which lose nothing.

use std::time::Duration;

use waterwheel::{CloseCause, Config, ConnId, Faults, Reactor, Sim, SimSocket, SimStream};

const KIB: usize = 1024;
const LIMIT: usize = 1024 * KIB;

#[derive(Default)]
struct Hub {
    ids: Vec<ConnId>,
    causes: Vec<CloseCause>,
}

/// A hub whose clients get what is published to "news", and may subscribe to more names.
fn hub() -> Sim<Hub> {
    let config = Config {
        memory_bytes_max: Some(LIMIT),
        ..Config::default()
    };
    Sim::with_config(config, Hub::default(), |reactor: &mut Reactor<Hub>| {
        reactor.http("0.0.0.0:80", |http| {
            http.get("/healthz", |request| request.reply("ok"));
            http.post("/", |request| request.reply("taken"));
            http.websocket("/ws", |ws| {
                ws.on_open(|ws, _| {
                    ws.state.ids.push(ws.id);
                    ws.subscribe("news")
                });
                ws.on_message(|ws, message| {
                    if let waterwheel::Message::Text(name) = message {
                        let _ = ws.subscribe(name);
                    }
                });
                ws.on_close(|ws, close| ws.state.causes.push(close.cause));
            });
        })
    })
}

/// The first bytes of a text message of 200 KiB.
fn half_message(bytes: usize) -> Vec<u8> {
    let mut frame = vec![0x81, 0xff];
    frame.extend_from_slice(&(200 * KIB as u64).to_be_bytes());
    frame.extend_from_slice(&[0; 4]);
    frame.resize(frame.len() + bytes, b'x');
    frame
}

/// Writes more than the socket takes at once, as far as the server reads it.
fn write_all(sim: &mut Sim<Hub>, stream: &SimStream, mut bytes: &[u8]) {
    while !bytes.is_empty() && !stream.is_closed() {
        bytes = &bytes[stream.write(bytes)..];
        sim.settle();
    }
}

fn open_and_read(sim: &mut Sim<Hub>) -> SimSocket {
    let socket = sim.websocket("/ws");
    sim.settle();
    socket
}

fn assert_serves(sim: &mut Sim<Hub>, honest: &SimSocket) {
    let stream = sim.connect();
    stream.write("GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n");
    sim.settle();
    // Accepting may pause for a moment before connections are ended for it.
    for _ in 0..10 {
        sim.advance(Duration::from_millis(200));
    }
    assert!(stream.read_text().ends_with("ok"));
    stream.close();
    sim.reactor().publish("news", "still there");
    sim.settle();
    assert_eq!(honest.received(), ["still there"]);
}

fn assert_bounded(sim: &mut Sim<Hub>) {
    let used_bytes = sim.reactor().memory_bytes();
    assert!(used_bytes <= LIMIT, "{used_bytes} bytes");
}

#[test]
fn half_messages_end_with_1013_from_the_largest_on() {
    let mut sim = hub();
    let honest = open_and_read(&mut sim);
    let small = open_and_read(&mut sim);
    small.send_bytes(half_message(10 * KIB));
    let clients: Vec<_> = (0..20).map(|_| open_and_read(&mut sim)).collect();
    for client in &clients {
        write_all(&mut sim, client.stream(), &half_message(150 * KIB));
        sim.settle();
        assert_bounded(&mut sim);
    }
    for client in &clients {
        client.received();
    }
    let ended = clients.iter().filter(|it| it.close_code() == Some(1013));
    assert!(10 < ended.count());
    assert_eq!(small.close_code(), None);
    assert!(0 < sim.reactor().stats().memory_ends);
    let is_memory = |cause: &CloseCause| *cause == CloseCause::MemoryLimit;
    assert!(sim.state().causes.iter().all(is_memory));
    assert_serves(&mut sim, &honest);
}

#[test]
fn half_bodies_end_with_503() {
    let mut sim = hub();
    let honest = open_and_read(&mut sim);
    let clients: Vec<_> = (0..20).map(|_| sim.connect()).collect();
    for client in &clients {
        client.write("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 500000\r\n\r\n");
        write_all(&mut sim, client, &[b'x'; 150 * KIB]);
        assert_bounded(&mut sim);
    }
    let is_refused = |client: &&SimStream| client.read_text().starts_with("HTTP/1.1 503 ");
    assert!(10 < clients.iter().filter(is_refused).count());
    assert_serves(&mut sim, &honest);
}

#[test]
fn half_heads_end() {
    let mut sim = hub();
    let honest = open_and_read(&mut sim);
    let head = format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}", "x".repeat(15 * KIB));
    for _ in 0..100 {
        sim.connect().write(&head);
        sim.settle();
        assert_bounded(&mut sim);
    }
    assert_serves(&mut sim, &honest);
}

#[test]
fn slow_readers_end_and_a_shared_body_counts_once() {
    let mut sim = hub();
    let honest = open_and_read(&mut sim);
    // Enough for the answer to the handshake, and little more.
    sim.socket_bytes(300);
    let slow: Vec<_> = (0..20).map(|_| open_and_read(&mut sim)).collect();
    sim.socket_bytes(1024 * KIB);
    let before = sim.reactor().memory_bytes();
    sim.reactor().publish("news", &"x".repeat(100 * KIB)[..]);
    sim.settle();
    let mut got = honest.received();
    let shared = sim.reactor().memory_bytes() - before;
    assert!((100 * KIB..110 * KIB).contains(&shared), "{shared} bytes");
    for _ in 0..20 {
        sim.reactor().publish("news", &"x".repeat(100 * KIB)[..]);
        for _ in 0..4 {
            sim.settle();
            got.extend(honest.received());
        }
        assert_bounded(&mut sim);
    }
    // A message that was begun cannot be completed, so they are reset.
    assert!(slow.iter().all(SimSocket::is_closed));
    assert!(got.len() == 21 && got.iter().all(|text| text.len() == 100 * KIB));
    assert_serves(&mut sim, &honest);
}

#[test]
fn subscribers_to_many_long_names_end() {
    let mut sim = hub();
    let honest = open_and_read(&mut sim);
    let clients: Vec<_> = (0..20).map(|_| open_and_read(&mut sim)).collect();
    for (number, client) in clients.iter().enumerate() {
        for name in 0..500 {
            client.send(&format!("{number:05} {name:0>200}")[..]);
        }
        sim.settle();
        assert_bounded(&mut sim);
    }
    assert!(0 < sim.reactor().stats().memory_ends);
    assert_serves(&mut sim, &honest);
}

#[test]
fn one_callback_that_sends_to_all_stays_below_the_limit() {
    let mut sim = hub();
    sim.socket_bytes(300);
    for _ in 0..20 {
        open_and_read(&mut sim);
    }
    let text = "x".repeat(100 * KIB);
    let ids = std::mem::take(&mut sim.state().ids);
    for id in ids {
        sim.reactor().send(id, &text[..]);
        assert_bounded(&mut sim);
    }
}

#[test]
fn accepting_pauses_first_and_then_the_largest_go() {
    let mut sim = hub();
    let clients: Vec<_> = (0..5).map(|_| open_and_read(&mut sim)).collect();
    for client in &clients {
        write_all(&mut sim, client.stream(), &half_message(190 * KIB));
    }
    sim.settle();
    let stream = sim.connect();
    stream.write("GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n");
    sim.settle();
    let stats = sim.reactor().stats();
    assert_eq!((stats.memory_pauses, stats.memory_ends), (1, 0));
    assert_eq!(stream.read_text(), "");
    sim.advance(Duration::from_secs(1));
    assert!(stream.read_text().ends_with("ok"));
    assert!(0 < sim.reactor().stats().memory_ends);
}

#[test]
fn the_account_is_empty_when_all_have_left() {
    for seed in 0..50 {
        let mut sim = hub();
        let faults = Faults {
            short_reads_percent: 30,
            short_writes_percent: 30,
            refused_writes_percent: 10,
            resets_percent: 1,
        };
        sim.faults(seed, faults);
        let empty = sim.reactor().memory_bytes();
        let sockets: Vec<_> = (0..8)
            .filter_map(|_| sim.try_websocket("/ws", &[]).ok())
            .collect();
        let streams: Vec<_> = (0..8).map(|_| sim.connect()).collect();
        for (number, socket) in sockets.iter().enumerate() {
            socket.send(&format!("name {number}")[..]);
            socket.send_bytes(half_message(number * 40 * KIB));
        }
        for (number, stream) in streams.iter().enumerate() {
            stream.write("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n");
            stream.write(vec![b'x'; number * 20 * KIB]);
        }
        sim.settle();
        sim.reactor().publish("news", &"x".repeat(100 * KIB)[..]);
        sim.settle();
        for stream in streams {
            stream.close();
        }
        for socket in sockets {
            socket.stream().reset();
        }
        sim.settle();
        sim.advance(Duration::from_secs(120));
        assert_eq!(sim.reactor().connection_count(), 0, "seed {seed}");
        assert_eq!(sim.reactor().memory_bytes(), empty, "seed {seed}");
    }
}
