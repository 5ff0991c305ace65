//! Clients that flood the server do not keep the others waiting.

use std::time::Duration;

use waterwheel::{Config, Reactor, Sim, SimSocket, SimStream};

const MICROSECOND: Duration = Duration::from_micros(1);

/// A client that sends without end.
enum Flooder {
    WebSocket(SimSocket, Vec<u8>),
    Stream(SimStream, Vec<u8>, usize),
}

impl Flooder {
    /// Sends as much as the server takes, in whole rounds. Returns whether the server took something.
    fn flood(&mut self) -> bool {
        let mut has_sent = false;
        match self {
            Flooder::WebSocket(socket, round) => {
                let _ = socket.take_events();
                while socket.unsent_bytes() == 0 {
                    socket.send_bytes(&round);
                    has_sent = true;
                }
            }
            Flooder::Stream(stream, round, sent) => {
                let _ = stream.read();
                loop {
                    let taken = stream.write(&round[*sent..]);
                    *sent = (*sent + taken) % round.len();
                    if taken == 0 {
                        break;
                    }
                    has_sent = true;
                }
            }
        }
        has_sent
    }
}

/// A masked text message.
fn text(text: &str) -> Vec<u8> {
    let length = text.len() as u64;
    let mut frame = match length {
        0..126 => vec![0x81, 0x80 | length as u8],
        _ => [vec![0x81, 0xff], length.to_be_bytes().to_vec()].concat(),
    };
    frame.extend([0; 4]);
    frame.extend(text.as_bytes());
    frame
}

/// A server whose callbacks and system calls take time on the simulated clock.
fn server() -> Sim<()> {
    let mut config = Config::default();
    config.options.websocket.frame_bytes_max = 2 * 1024 * 1024;
    config.options.websocket.message_bytes_max = 2 * 1024 * 1024;
    let mut sim = Sim::with_config(config, (), |_: &mut Reactor<()>| ());
    let clock = sim.clock();
    let listening = sim.reactor().http("0.0.0.0:80", move |router| {
        let request_clock = clock.clone();
        router.get("/", move |request| {
            request_clock.advance(30 * MICROSECOND);
            request.reply("hello")
        });
        router.websocket("/ws", move |ws| {
            let ping_clock = clock.clone();
            ws.on_ping(move |_, _| ping_clock.advance(MICROSECOND));
            ws.on_message(move |ws, message| {
                let text = message.as_text().unwrap_or_default();
                match text.split_at_checked(1) {
                    Some(("+", topic)) => {
                        clock.advance(5 * MICROSECOND);
                        let _ = ws.subscribe(topic);
                    }
                    Some(("-", topic)) => {
                        clock.advance(5 * MICROSECOND);
                        let _ = ws.unsubscribe(topic);
                    }
                    // As long as a parser takes for JSON.
                    Some(("{", rest)) => clock.advance(MICROSECOND * (rest.len() / 200) as u32),
                    _ => {
                        clock.advance(MICROSECOND);
                        let _ = ws.send(message);
                    }
                }
            });
        });
    });
    listening.unwrap();
    sim.socket_bytes(256 * 1024);
    sim
}

#[test]
fn a_hundred_flooding_clients_keep_no_one_waiting() {
    let mut sim = server();
    let json = format!("{{{}", "x".repeat(1_000_000));
    let rounds: [Vec<u8>; 4] = [
        [text("+a"), text("-a")].concat().repeat(100),
        [0x89, 0x80, 0, 0, 0, 0].repeat(100),
        text(&json),
        text("x").repeat(100),
    ];
    let mut flooders = Vec::new();
    for round in &rounds {
        for _ in 0..20 {
            flooders.push(Flooder::WebSocket(sim.websocket("/ws"), round.clone()));
        }
    }
    let requests = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n".repeat(100);
    for _ in 0..20 {
        flooders.push(Flooder::Stream(sim.connect(), requests.clone(), 0));
    }
    let other = sim.websocket("/ws");
    sim.socket_time(5 * MICROSECOND);
    let (mut waited, mut longest) = (0, 0);
    let mut answers = 0;
    let mut served_counts = [0; 100];
    other.send("hi");
    for _ in 0..200 {
        for (flooder, served_count) in flooders.iter_mut().zip(&mut served_counts) {
            *served_count += u32::from(flooder.flood());
        }
        sim.turn();
        waited += 1;
        if other.received() == ["hi"] {
            answers += 1;
            waited = 0;
            other.send("hi");
        }
        longest = longest.max(waited);
    }
    assert!(
        longest <= 3 && 100 <= answers,
        "{longest} turns, {answers} answers"
    );
    // All of the others are served too, in turn.
    assert!(
        served_counts.iter().all(|count| 3 <= *count),
        "{served_counts:?}"
    );
    let stats = sim.reactor().stats();
    assert!(
        stats.lag.max() <= Duration::from_millis(50),
        "{:?}",
        stats.lag.max()
    );
    assert!(
        stats.callbacks.max() <= Duration::from_millis(12),
        "{:?}",
        stats.callbacks.max()
    );
    // The flood was one.
    assert!(Duration::from_millis(15) < stats.lag.quantile(0.5));
    assert!(1000 < stats.messages && 100 < stats.requests, "{stats:?}");
}

// A system call that takes a millisecond makes every client look costly, also one that sends little.
#[test]
fn a_request_waits_for_a_share_of_each_publisher() {
    for (members, socket_time) in [
        (0, 100 * MICROSECOND),
        (30, 100 * MICROSECOND),
        (0, 1000 * MICROSECOND),
        (30, 1000 * MICROSECOND),
    ] {
        let mut sim = Sim::new((), |_: &mut Reactor<()>| ());
        let clock = sim.clock();
        let listening = sim.reactor().http("0.0.0.0:80", move |router| {
            router.get("/", |request| request.reply("hello"));
            router.websocket("/members", |ws| ws.on_open(|ws, _| ws.subscribe("news")));
            router.websocket("/publishers", move |ws| {
                ws.on_message(move |ws, message| {
                    clock.advance(5 * MICROSECOND);
                    ws.publish("news", message)
                });
            });
        });
        listening.unwrap();
        sim.socket_bytes(4 * 1024 * 1024);
        let members: Vec<_> = (0..members).map(|_| sim.websocket("/members")).collect();
        let publishers: Vec<_> = (0..30).map(|_| sim.websocket("/publishers")).collect();
        let client = sim.connect();
        sim.socket_time(socket_time);
        let many = text("hi").repeat(20_000);
        for publisher in &publishers {
            publisher.send_bytes(&many);
        }
        let mut waits = Vec::new();
        let mut waited = 0;
        client.write("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        for _ in 0..30 {
            sim.turn();
            for member in &members {
                member.stream().read();
            }
            waited += 1;
            if !client.read().is_empty() {
                waits.push(std::mem::take(&mut waited));
                client.write("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
            }
        }
        let case = format!("{} members, {socket_time:?}", members.len());
        assert!(waits.iter().all(|wait| *wait <= 4), "{case}: {waits:?}");
        assert!(
            waited <= 4 && 10 <= waits.len(),
            "{case}: {waits:?}, {waited}"
        );
    }
}
