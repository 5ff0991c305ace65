//! Fixed work for callgrind: `instructions CASE ROUNDS`. `benches/instructions/run` counts it.
//!
//! One seed, no clock and no sockets: the same rounds take the same instructions. Callgrind counts
//! only [`serve`]: the server, and the memory that stands for the kernel's sockets; not the clients.

use waterwheel::hub::{self, Access};
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

/// Name, and members of the topic.
const FAN_OUTS: [(&str, usize); 2] = [("fan_out/100_members", 100), ("fan_out/1000_members", 1000)];

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
            ws.on_open(|ws, _| ws.subscribe("all"));
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
fn serve(sim: &mut Sim<()>, publication: Option<&str>) {
    if let Some(text) = publication {
        sim.reactor().publish("all", text);
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
        serve(&mut sim, None);
        for client in &clients {
            assert_eq!(client.read().len(), outstanding * REPLY_BYTES);
        }
    }
    rounds * CONNECTIONS * outstanding
}

fn fan_out(members: usize, rounds: usize) -> usize {
    let (mut sim, clients) = open(members);
    let text = "x".repeat(PUBLISHED_BYTES);
    for _ in 0..rounds {
        serve(&mut sim, Some(&text));
        for client in &clients {
            assert_eq!(client.read().len(), 2 + PUBLISHED_BYTES);
        }
    }
    rounds * members
}

fn http(request: &str, end_of_answer: &str, rounds: usize) -> usize {
    let mut sim = Sim::new((), setup_hub);
    let clients: Vec<_> = (0..CONNECTIONS).map(|_| sim.connect()).collect();
    for _ in 0..rounds {
        for client in &clients {
            assert_eq!(client.write(request), request.len());
        }
        serve(&mut sim, None);
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
            for (name, _) in ECHOES.iter().chain(&FAN_OUTS) {
                println!("{name}");
            }
            for (name, ..) in REQUESTS {
                println!("{name}");
            }
            return;
        }
        [case, rounds] => (case.as_str(), rounds.parse().unwrap_or(0)),
        _ => ("", 0),
    };
    let named = |cases: &[(&str, usize)]| {
        cases
            .iter()
            .find(|(name, _)| *name == case)
            .map(|(_, n)| *n)
    };
    let request = REQUESTS.iter().find(|(name, ..)| *name == case);
    let messages = match (named(&ECHOES), named(&FAN_OUTS), request) {
        _ if rounds == 0 => None,
        (Some(outstanding), ..) => Some(echo(outstanding, rounds)),
        (_, Some(members), _) => Some(fan_out(members, rounds)),
        (.., Some((_, request, end_of_answer))) => Some(http(request, end_of_answer, rounds)),
        (None, None, None) => None,
    };
    let Some(messages) = messages else {
        eprintln!("usage: instructions CASE ROUNDS | --list");
        std::process::exit(2);
    };
    println!("{messages}");
}
