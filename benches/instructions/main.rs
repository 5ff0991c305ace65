//! Fixed work for callgrind: `instructions CASE ROUNDS`. `benches/instructions/run` counts it.
//!
//! One seed, no clock and no sockets: the same rounds take the same instructions. Callgrind counts
//! only [`serve`]: the server, and the memory that stands for the kernel's sockets; not the clients.

use std::cell::Cell;

use waterwheel::hub::{self, Access, Rules};
use waterwheel::{Reactor, Sim, SimStream};

/// An unmasked and a masked frame with 20 bytes of text. The mask is zeros, which takes as
/// many instructions to undo as another.
const MESSAGE: &[u8] = b"\x81\x94\0\0\0\0abcdefghijklmnopqrst";
const REPLY_BYTES: usize = 22;

const REQUEST: &[u8] = b"GET /ws HTTP/1.1\r\nHost: sim\r\nConnection: Upgrade\r\n\
      Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
      Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

const CONNECTIONS: usize = 100;

/// Name, and messages outstanding on each connection.
const ECHOES: [(&str, usize); 2] = [("echo/1_outstanding", 1), ("echo/16_outstanding", 16)];

/// Publications to many members.
struct FanOut {
    name: &'static str,
    members: usize,
    /// The topics that each round publishes to, one after the other.
    topics: &'static [&'static str],
    /// How many times each round does so, in one turn.
    times: usize,
    /// How many of these topics each member is subscribed to.
    topics_of_a_member: usize,
    /// A history keeps what is published.
    has_history: bool,
}

const ALL: &[&str] = &["all"];

/// Each connection is subscribed to one of these.
const ONE_OF: &[&str] = &[
    "one 0", "one 1", "one 2", "one 3", "one 4", "one 5", "one 6", "one 7", "one 8", "one 9",
];

/// Each connection is subscribed to three of these.
const THREE_OF: &[&str] = &[
    "three 0", "three 1", "three 2", "three 3", "three 4", "three 5", "three 6", "three 7",
    "three 8", "three 9",
];

const fn fan_out_to_all(name: &'static str, members: usize, times: usize) -> FanOut {
    FanOut {
        name,
        members,
        topics: ALL,
        times,
        topics_of_a_member: 1,
        has_history: false,
    }
}

/// Sixteen in a turn, so that the topic's ring is full after the first rounds.
const fn publish_to_all(name: &'static str, members: usize, has_history: bool) -> FanOut {
    FanOut {
        has_history,
        ..fan_out_to_all(name, members, 16)
    }
}

const FAN_OUTS: [FanOut; 9] = [
    fan_out_to_all("fan_out/100_members", 100, 1),
    fan_out_to_all("fan_out/1000_members", 1000, 1),
    fan_out_to_all("fan_out/8_in_flight", 1000, 8),
    FanOut {
        name: "fan_out/1_of_10_topics",
        members: 200,
        topics: ONE_OF,
        times: 8,
        topics_of_a_member: 1,
        has_history: false,
    },
    FanOut {
        name: "fan_out/3_of_10_topics",
        members: 200,
        topics: THREE_OF,
        times: 8,
        topics_of_a_member: 3,
        has_history: false,
    },
    publish_to_all("publish/1_member", 1, false),
    publish_to_all("publish/1_member_kept", 1, true),
    publish_to_all("publish/100_members", 100, false),
    publish_to_all("publish/100_members_kept", 100, true),
];

/// Name, request, and the end of its answer. The headers are those that `curl` sends. The topic has no
/// members: deliveries are counted by the fan-outs.
const REQUESTS: [(&str, &str, &str); 2] = [
    (
        "http/healthz",
        "GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n\r\n",
        "\r\n\r\nok\n",
    ),
    (
        "http/publish",
        "POST /publish?topic=prices.eur HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUser-Agent: curl/8.5.0\r\n\
         Accept: */*\r\nContent-Length: 64\r\nContent-Type: application/x-www-form-urlencoded\r\n\r\n\
         {\"time\":\"2024-03-01T12:00:00Z\",\"symbol\":\"EURUSD\",\"price\":1.0837}",
        ",\"delivered\":0}\n",
    ),
];

const PUBLISHED_BYTES: usize = 64;

fn setup(reactor: &mut Reactor<()>) {
    reactor
        .websocket("0.0.0.0:80", |ws| {
            let opened = Cell::new(0);
            ws.on_open(move |ws, _| {
                let n = opened.replace(opened.get() + 1);
                let mut subscribe = |topic| ws.subscribe(topic).expect("the name of a topic");
                subscribe("all");
                subscribe(ONE_OF[n % 10]);
                for apart in [0, 3, 7] {
                    subscribe(THREE_OF[(n + apart) % 10]);
                }
            });
            ws.on_message(|ws, message| ws.send(message));
        })
        .expect("memory can be listened on");
}

/// The hub as `waterwheel serve` mounts it on a loopback address.
fn setup_hub(reactor: &mut Reactor<()>) {
    let access = Access {
        is_loopback: true,
        ..Access::default()
    };
    reactor
        .http("127.0.0.1:8080", |router| hub::mount(router, &access))
        .expect("memory can be listened on");
}

/// The only function that callgrind counts, found by its name.
#[inline(never)]
fn serve(sim: &mut Sim<()>, topics: &[&str], times: usize, text: &str) {
    for _ in 0..times {
        for topic in topics {
            sim.reactor().publish(topic, text);
        }
    }
    sim.settle();
}

fn open(count: usize) -> (Sim<()>, Vec<SimStream>) {
    let mut sim = Sim::new((), setup);
    let clients: Vec<_> = (0..count).map(|_| sim.connect()).collect();
    for client in &clients {
        assert_eq!(client.write(REQUEST), REQUEST.len());
    }
    sim.settle();
    for client in &clients {
        assert!(client.read().starts_with(b"HTTP/1.1 101 "));
    }
    (sim, clients)
}

fn echo(outstanding: usize, rounds: usize) -> usize {
    let (mut sim, clients) = open(CONNECTIONS);
    let messages = MESSAGE.repeat(outstanding);
    for _ in 0..rounds {
        for client in &clients {
            assert_eq!(client.write(&messages), messages.len());
        }
        serve(&mut sim, &[], 0, "");
        for client in &clients {
            assert_eq!(client.read().len(), outstanding * REPLY_BYTES);
        }
    }
    rounds * CONNECTIONS * outstanding
}

fn fan_out(case: &FanOut, rounds: usize) -> usize {
    let (mut sim, clients) = open(case.members);
    if case.has_history {
        sim.reactor().keep_history(&Rules::new(), 64 << 20);
    }
    let text = "x".repeat(PUBLISHED_BYTES);
    let deliveries = case.topics_of_a_member * case.times;
    for _ in 0..rounds {
        serve(&mut sim, case.topics, case.times, &text);
        for client in &clients {
            assert_eq!(client.read().len(), deliveries * (2 + PUBLISHED_BYTES));
        }
    }
    rounds * case.members * deliveries
}

fn http(request: &str, end_of_answer: &str, rounds: usize) -> usize {
    let mut sim = Sim::new((), setup_hub);
    let clients: Vec<_> = (0..CONNECTIONS).map(|_| sim.connect()).collect();
    for _ in 0..rounds {
        for client in &clients {
            assert_eq!(client.write(request), request.len());
        }
        serve(&mut sim, &[], 0, "");
        for client in &clients {
            let answer = client.read_text();
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
            assert!(answer.ends_with(end_of_answer), "{answer}");
        }
    }
    rounds * CONNECTIONS
}

fn main() {
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| word != "--bench")
        .collect();
    let (case, rounds) = match &words[..] {
        [] => return println!("instructions: counted by benches/instructions/run"),
        [word] if word == "--list" => {
            for (name, _) in ECHOES {
                println!("{name}");
            }
            for case in FAN_OUTS {
                println!("{}", case.name);
            }
            for (name, ..) in REQUESTS {
                println!("{name}");
            }
            return;
        }
        [case, rounds] => (case.as_str(), rounds.parse().unwrap_or(0)),
        _ => ("", 0),
    };
    let echoes = ECHOES.iter().find(|(name, _)| *name == case);
    let fan_outs = FAN_OUTS.iter().find(|it| it.name == case);
    let request = REQUESTS.iter().find(|(name, ..)| *name == case);
    let messages = match (echoes, fan_outs, request) {
        _ if rounds == 0 => None,
        (Some((_, outstanding)), ..) => Some(echo(*outstanding, rounds)),
        (_, Some(case), _) => Some(fan_out(case, rounds)),
        (.., Some((_, request, end_of_answer))) => Some(http(request, end_of_answer, rounds)),
        (None, None, None) => None,
    };
    let Some(messages) = messages else {
        eprintln!("usage: instructions CASE ROUNDS | --list");
        std::process::exit(2);
    };
    println!("{messages}");
}
