//! A hub whose Redis loads its data set, in a simulation: it is tried again each second, and the log says so once in a
//! while.

#![cfg(all(feature = "hub", feature = "redis"))]

#[path = "support/log_lines.rs"]
mod log_lines;
#[path = "support/redis_commands.rs"]
mod redis_commands;

use std::time::Duration;

use waterwheel::hub::{Access, Hub, HubOptions};
use waterwheel::{Reactor, Sim};

const LOADING: &str = "-LOADING Redis is loading the dataset in memory\r\n";

/// The commands that a server refuses because it is loading.
#[derive(Clone, Copy, PartialEq)]
enum Refuses {
    Nothing,
    /// As a server that begins: `HELLO` and subscriptions are allowed.
    Ping,
    /// As a replica that begins to copy its master when the link is there.
    Commands,
}

struct World {
    refuses: Refuses,
    /// The commands that came, without their arguments.
    commands: Vec<String>,
}

/// The answer of the server to a command.
fn answer(world: &mut World, words: &[String]) -> String {
    let command = words[0].clone();
    let answer = match (&*command, world.refuses) {
        ("HELLO", _) => "%0\r\n".to_owned(),
        ("SUBSCRIBE" | "PSUBSCRIBE", _) => {
            let kind = command.to_lowercase();
            let acknowledge = |name: &String| {
                let (kind_bytes, name_bytes) = (kind.len(), name.len());
                format!(">3\r\n${kind_bytes}\r\n{kind}\r\n${name_bytes}\r\n{name}\r\n:1\r\n")
            };
            words[1..].iter().map(acknowledge).collect()
        }
        (_, Refuses::Ping) => LOADING.to_owned(),
        ("PING", _) => "+PONG\r\n".to_owned(),
        (_, Refuses::Commands) => LOADING.to_owned(),
        ("EVAL", _) => "*3\r\n$2\r\n77\r\n$1\r\n0\r\n$1\r\n0\r\n".to_owned(),
        _ => "_\r\n".to_owned(),
    };
    world.commands.push(command);
    answer
}

/// Listens as a server of one port, which has no data.
fn listen(reactor: &mut Reactor<World>, port: u16) -> std::io::Result<()> {
    let made = reactor.stream(&*format!("127.0.0.1:{port}"), |stream| {
        stream.on_data(|stream, bytes| {
            for words in redis_commands::commands(bytes) {
                let answer = answer(stream.state, &words);
                stream.reactor.send(stream.id, answer.as_bytes());
            }
        });
    });
    made.map(drop)
}

fn run(refuses: Refuses, port: u16) -> Sim<World> {
    log_lines::capture();
    let world = World {
        refuses,
        commands: Vec::new(),
    };
    Sim::new(world, move |reactor: &mut Reactor<World>| {
        listen(reactor, port)?;
        let url = format!("redis://127.0.0.1:{port}");
        let hub = Hub::of_redis(reactor, &url, None, HubOptions::default())?;
        let access = Access::default();
        reactor.http("127.0.0.1:8080", |router| hub.mount(router, &access))
    })
}

fn is_ready(sim: &mut Sim<World>) -> bool {
    let stream = sim.connect_port(8080);
    stream.write("GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    sim.settle();
    stream.read_text().starts_with("HTTP/1.1 200 ")
}

fn count(sim: &mut Sim<World>, command: &str) -> usize {
    let commands = sim.state().commands.iter();
    commands.filter(|it| **it == command).count()
}

#[test]
fn a_server_that_loads_is_connected_to_each_second() {
    let mut sim = run(Refuses::Ping, 7001);
    sim.advance(Duration::from_secs(60));
    let attempt_count = count(&mut sim, "HELLO");
    // The pauses are random parts of a second.
    assert!((60..=240).contains(&attempt_count), "{attempt_count}");
    assert!(!is_ready(&mut sim));
    let lines = log_lines::with("redis 127.0.0.1:7001: cannot connect: LOADING");
    assert!((5..=7).contains(&lines.len()), "{lines:?}");
    sim.state().refuses = Refuses::Nothing;
    sim.advance(Duration::from_secs(1));
    assert!(is_ready(&mut sim));
}

#[test]
fn a_server_that_refuses_commands_is_asked_each_second() {
    let mut sim = run(Refuses::Commands, 7002);
    sim.advance(Duration::from_secs(50));
    assert_eq!(count(&mut sim, "HELLO"), 1);
    let attempt_count = count(&mut sim, "EVAL");
    assert!((49..=51).contains(&attempt_count), "{attempt_count}");
    assert!(!is_ready(&mut sim));
    let lines = log_lines::with("cannot catch up: ");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("LOADING"), "{lines:?}");
    sim.state().refuses = Refuses::Nothing;
    sim.advance(Duration::from_secs(1));
    assert!(is_ready(&mut sim));
}
