//! The limit of messages a second of one connection, on the invented clock of a simulation.

use std::time::Duration;

use waterwheel::{Config, ConnectionOptions, Reactor, Received, Sim, SimSocket};

type Log = Vec<String>;

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// A server whose WebSockets may send `per_second` messages a second.
fn server(per_second: u32, change: impl FnOnce(&mut ConnectionOptions)) -> Sim<Log> {
    let mut config = Config::default();
    config.options.messages_per_second_max = Some(per_second);
    change(&mut config.options);
    Sim::with_config(config, Log::new(), |reactor: &mut Reactor<Log>| {
        reactor.http("0.0.0.0:80", |http| {
            http.websocket("/", |ws| {
                ws.on_message(|ws, message| ws.state.push(message.to_string()));
                ws.on_ping(|ws, _| ws.state.push("ping".to_owned()));
                ws.on_close(|ws, close| ws.state.push(format!("close {close}")));
            });
            http.get("/", |request| request.reply("page"));
        })
    })
}

/// Lets the server take what the client could not send at once.
fn send_rest(sim: &mut Sim<Log>, client: &SimSocket) {
    while client.unsent_bytes() != 0 {
        sim.settle();
        client.send_bytes([]);
    }
    sim.settle();
}

fn send_numbers(client: &SimSocket, count: u32) {
    for number in 0..count {
        client.send(number.to_string());
    }
}

fn numbers(count: u32) -> Log {
    (0..count).map(|number| number.to_string()).collect()
}

#[test]
fn a_second_of_messages_is_delivered_at_once_and_the_rest_at_the_rate() {
    let mut sim = server(100, |_| {});
    sim.advance(secs(5));
    let client = sim.websocket("/");
    send_numbers(&client, 1000);
    sim.settle();
    assert_eq!(sim.state().len(), 100);
    let turns = sim.reactor().stats().lag.count();
    for second in 1..=8 {
        sim.advance(secs(1));
        let delivered = sim.state().len();
        // A pause ends up to 67 ms late, and what it has missed comes with the next ones.
        let expected = 100 + 100 * second;
        assert!(
            expected - 8 <= delivered && delivered <= expected + 1,
            "{delivered} after {second} s"
        );
    }
    sim.advance(secs(2));
    assert_eq!(*sim.state(), numbers(1000));
    // A few turns for each pause, of which there are at most 15 a second.
    let turns = sim.reactor().stats().lag.count() - turns;
    assert!(turns < 10 * 15 * 4, "{turns} turns");
    assert!(100 < sim.reactor().stats().rate_pauses);
    // The bucket is full again after a second without messages.
    sim.advance(secs(1));
    sim.state().clear();
    send_numbers(&client, 101);
    sim.settle();
    assert_eq!(sim.state().len(), 100);
}

#[test]
fn other_clients_are_not_slowed_down() {
    let mut sim = server(10, |_| {});
    let [busy, quiet] = [(); 2].map(|()| sim.websocket("/"));
    send_numbers(&busy, 1000);
    sim.advance(secs(3));
    sim.state().clear();
    quiet.send("quiet");
    sim.settle();
    assert_eq!(*sim.state(), ["quiet"]);
}

#[test]
fn a_paused_peer_keeps_little_memory() {
    let mut sim = server(10, |_| {});
    let client = sim.websocket("/");
    let before = sim.reactor().memory_bytes();
    send_numbers(&client, 100_000);
    sim.advance(secs(1));
    let held = sim.reactor().memory_bytes() - before;
    assert!(held <= 40 * 1024, "{held} bytes");
}

#[test]
fn long_messages_and_fragments_are_one_message() {
    let mut sim = server(2, |_| {});
    let client = sim.websocket("/");
    let long = "x".repeat(300_000);
    client.send(&*long);
    // A fragment, a ping between the two, and the last one.
    client.send_bytes([0x01, 0x81, 0, 0, 0, 0, b'a']);
    client.send_bytes([0x89, 0x80, 0, 0, 0, 0]);
    client.send_bytes([0x80, 0x81, 0, 0, 0, 0, b'b']);
    client.send("third");
    send_rest(&mut sim, &client);
    assert_eq!(*sim.state(), [long.as_str(), "ping", "ab"]);
    sim.advance(secs(1));
    assert_eq!(sim.state()[3..], ["third"]);
}

// Its messages may not be delivered yet, so its silence says nothing.
#[test]
fn a_paused_peer_is_not_dead() {
    let mut sim = server(1, |options| {
        options.ping_interval = Some(Duration::from_millis(300));
        options.pong_timeout = Duration::from_millis(200);
    });
    let client = sim.websocket("/");
    send_numbers(&client, 30);
    for _ in 0..400 {
        sim.advance(Duration::from_millis(100));
        for event in client.take_events() {
            assert_eq!(event, Received::Ping(Vec::new()));
        }
        if sim.state().len() == 30 {
            break;
        }
    }
    assert_eq!(*sim.state(), numbers(30));
    assert!(!client.is_closed());
    // When everything has been delivered, it is.
    sim.advance(secs(3));
    assert_eq!(sim.state()[30..], ["close 1006 pong deadline passed"]);
}

#[test]
fn a_paused_peer_can_be_closed_and_drained() {
    let mut sim = server(1, |_| {});
    let [closed, drained] = [(); 2].map(|()| sim.websocket("/"));
    send_numbers(&closed, 100);
    send_numbers(&drained, 100);
    sim.settle();
    assert_eq!(sim.state().len(), 2);
    // The peer's close is found behind its messages, which are not delivered any more.
    sim.state().clear();
    closed.close(1000);
    sim.reactor().drain(Duration::ZERO);
    sim.settle();
    assert_eq!(
        drained.take_events().last(),
        Some(&Received::Close(1001, "going away".into()))
    );
    drained.close(1001);
    sim.settle();
    assert_eq!(
        *sim.state(),
        vec!["close 1001 closed by us, draining: going away"; 2]
    );
    for client in [&closed, &drained] {
        client.vanish();
    }
    sim.advance(Duration::from_millis(100));
    assert!(!sim.is_running());
}

#[test]
fn the_end_of_a_paused_peer_comes_after_its_messages() {
    let mut sim = server(2, |_| {});
    let client = sim.websocket("/");
    send_numbers(&client, 5);
    client.vanish();
    sim.settle();
    assert_eq!(*sim.state(), numbers(2));
    sim.advance(secs(3));
    assert_eq!(sim.state()[..5], numbers(5));
    assert_eq!(sim.state().len(), 6);
}

#[test]
fn more_control_frames_than_messages_a_second_close_with_1008() {
    let mut sim = server(10, |_| {});
    let client = sim.websocket("/");
    for _ in 0..3 {
        for number in 0..10 {
            match number % 2 {
                0 => client.ping(b""),
                _ => client.pong(),
            }
        }
        sim.settle();
        assert_eq!(client.take_events().len(), 5);
        sim.advance(secs(1));
    }
    assert_eq!(sim.state().len(), 15);
    (0..11).for_each(|_| client.ping(b""));
    sim.settle();
    client.take_events();
    assert_eq!(client.close_code(), Some(1008));
    assert_eq!(sim.state().len(), 26);
    assert!(
        sim.state()[25].contains("more than 10 pings and pongs in a second"),
        "{:?}",
        sim.state()
    );
}

#[test]
fn http_requests_and_connections_without_a_limit_are_not_counted() {
    let mut sim = server(1, |_| {});
    let client = sim.connect();
    for _ in 0..50 {
        client.write("GET / HTTP/1.1\r\nHost: sim\r\n\r\n");
        sim.settle();
        assert!(client.read_text().ends_with("page"));
    }
    let mut sim = server(1, |options| options.messages_per_second_max = None);
    let client = sim.websocket("/");
    send_numbers(&client, 10_000);
    (0..1000).for_each(|_| client.ping(b""));
    send_rest(&mut sim, &client);
    assert_eq!(sim.state().len(), 11_000);
    assert_eq!(sim.reactor().stats().rate_pauses, 0);
}
