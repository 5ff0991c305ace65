//! WebSockets as an application and its peers see them, on the invented clock of a simulation.

use std::io;
use std::time::Duration;

use waterwheel::websocket::Error;
use waterwheel::{
    Close, CloseCause, ConnId, Faults, Handshake, ListenerId, Message, Reactor, Received, Sent,
    Sim, SimSocket, WebSocketHandler, Ws,
};

/// A deadline of a connection passes at most this much late, and never early.
const LATE: Duration = Duration::from_millis(70);

const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

type Log = Vec<String>;

/// An echo that logs its callbacks.
fn echo(reactor: &mut Reactor<Log>) -> io::Result<ListenerId> {
    reactor.websocket("0.0.0.0:80", |ws| {
        ws.on_open(|ws, handshake| {
            ws.state.push(format!("open {}", handshake.path()));
        });
        ws.on_message(|ws, message| {
            ws.state.push(match message {
                Message::Text(text) => format!("text {text}"),
                Message::Binary(bytes) => format!("binary {bytes:?}"),
            });
            ws.send(message)
        });
        ws.on_ping(|ws, payload| ws.state.push(format!("ping {payload:?}")));
        ws.on_pong(|ws, payload| ws.state.push(format!("pong {payload:?}")));
        ws.on_error(|ws, reason| ws.state.push(format!("error {reason}")));
        ws.on_close(|ws, close| {
            let clean = if close.was_clean {
                "clean"
            } else {
                "not clean"
            };
            ws.state.push(format!("close {close}, {clean}"))
        });
    })
}

const UPGRADE: &str = "GET /chat HTTP/1.1\r\nHost: sim\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

const MASK: [u8; 4] = [7, 1, 255, 80];

/// A masked frame with any first byte and payload, including invalid ones.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..126 => bytes.push(0x80 | length as u8),
        length @ 126..0x1_0000 => {
            bytes.push(0x80 | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        length => {
            bytes.push(0x80 | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes.extend(
        payload
            .iter()
            .zip(MASK.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    bytes
}

fn close_frame(code: u16, reason: &str) -> Vec<u8> {
    frame(0x88, &[&code.to_be_bytes(), reason.as_bytes()].concat())
}

// ── a session ────────────────────────────────────────────────────────────────────────────────

#[test]
fn text_binary_pings_and_a_clean_close() {
    let mut sim = Sim::new(Log::new(), echo);
    let client = sim.websocket("/chat");
    client.send("héllo");
    client.send([0, 255]);
    client.send("");
    client.ping(b"are you there");
    client.pong();
    client.send_bytes(close_frame(4001, "bye"));
    sim.settle();
    let expected = [
        Received::Text("héllo".into()),
        Received::Binary(vec![0, 255]),
        Received::Text(String::new()),
        Received::Pong(b"are you there".to_vec()),
        Received::Close(4001, String::new()),
    ];
    assert_eq!(client.take_events(), expected);
    assert!(client.is_closed());
    let ping = format!("ping {:?}", b"are you there");
    let expected = [
        "open /chat",
        "text héllo",
        "binary [0, 255]",
        "text ",
        &ping,
        "pong []",
        "close 4001 closed by peer: bye, clean",
    ];
    assert_eq!(*sim.state(), expected);
}

// Source: RFC 6455, section 7.1.5.
#[test]
fn on_close_gets_cause_code_and_cleanness() {
    type Act = fn(&mut Sim<Log>, &SimSocket);
    let cases: &[(&str, Act, Option<u16>, &str)] = &[
        (
            "the peer, with a code",
            |_, client| client.close(1000),
            Some(1000),
            "close 1000 closed by peer, clean",
        ),
        (
            "the peer, without a code",
            |_, client| client.send_bytes(frame(0x88, &[])),
            Some(1005),
            "close 1005 closed by peer, clean",
        ),
        (
            "the peer, without a word",
            |_, client| client.stream().finish(),
            None,
            "close 1006 closed by peer, not clean",
        ),
        (
            "the network",
            |_, client| client.stream().reset(),
            None,
            "close 1006 transport failed: connection reset, not clean",
        ),
        (
            "the application, and the peer answers",
            |sim, client| {
                close_all(sim, 4002, "enough");
                client.close(4002);
            },
            Some(4002),
            "close 4002 closed by us: enough, clean",
        ),
        (
            "the application, and the peer only hangs up",
            |sim, client| {
                close_all(sim, 1000, "");
                client.stream().finish();
            },
            Some(1000),
            "close 1000 closed by us, not clean",
        ),
        (
            "the application, with a code that must not be sent",
            |sim, client| {
                close_all(sim, 1005, "why");
                client.close(1000);
            },
            Some(1000),
            "close 1000 closed by us: why, clean",
        ),
        (
            "the application, abruptly",
            |sim, _| {
                let id = only_id(sim);
                sim.reactor().reset(id);
            },
            None,
            "close 1006 closed by us, not clean",
        ),
    ];
    for (name, act, code, expected) in cases {
        let mut sim = Sim::new(Log::new(), echo);
        let client = sim.websocket("/");
        act(&mut sim, &client);
        sim.settle();
        client.take_events();
        assert_eq!(client.close_code(), *code, "{name}");
        assert_eq!(sim.state().last().unwrap(), expected, "{name}");
        let closes = sim.state().iter().filter(|line| line.starts_with("close"));
        assert_eq!(closes.count(), 1, "{name}");
        drop(client);
        sim.settle();
        assert_eq!(sim.reactor().connection_count(), 0, "{name}");
    }
}

fn only_id<S: 'static>(sim: &mut Sim<S>) -> ConnId {
    (0..16u64)
        .flat_map(|index| (0..16u64).map(move |generation| (generation << 32) | index))
        .map(ConnId::from_bits)
        .find(|id| sim.reactor().is_open(*id))
        .expect("a connection is open")
}

fn close_all(sim: &mut Sim<Log>, code: u16, reason: &str) {
    let id = only_id(sim);
    assert_eq!(sim.reactor().close_with(id, code, reason), Sent::Queued);
    sim.settle();
}

#[test]
fn close_sends_queued_messages_first_and_ignores_later_ones() {
    let mut sim = Sim::new(Log::new(), |reactor: &mut Reactor<Log>| {
        reactor.websocket("0.0.0.0:80", |ws| {
            ws.on_message(|ws, message| {
                ws.state.push(message.to_string());
                ws.send("last words");
                ws.close_with(4000, &"é".repeat(100));
                let late = ws.send("too late");
                ws.state.push(format!("{late:?}"));
            });
            ws.on_close(|ws, close| ws.state.push(format!("{} {}", close.code, close.reason)));
        })
    });
    let client = sim.websocket("/");
    client.send("one");
    client.send("two");
    sim.settle();
    client.send("three");
    client.close(4000);
    sim.settle();
    // A close frame has room for 123 bytes of reason, and a character is not cut in half.
    let reason = "é".repeat(61);
    let expected = [
        Received::Text("last words".into()),
        Received::Close(4000, reason.clone()),
    ];
    assert_eq!(client.take_events(), expected);
    assert_eq!(*sim.state(), ["one", "Gone", &format!("4000 {reason}")]);
}

struct CountingHandler {
    greeting: &'static str,
    count: usize,
}

impl WebSocketHandler<Log> for CountingHandler {
    fn on_open(&mut self, ws: &mut Ws<'_, Log>, handshake: &Handshake<'_>) {
        ws.send(format!("{} {}", self.greeting, handshake.path()));
    }

    fn on_message(&mut self, ws: &mut Ws<'_, Log>, message: Message<'_>) {
        self.count += 1;
        ws.send(format!("{} {message}", self.count));
    }

    fn on_close(&mut self, ws: &mut Ws<'_, Log>, close: &Close) {
        ws.state.push(format!("{} {close}", self.count));
    }
}

#[test]
fn a_reset_in_on_message_delivers_no_further_messages() {
    for length in [1, 1000] {
        let mut sim = Sim::new(Log::new(), |reactor: &mut Reactor<Log>| {
            reactor.websocket("0.0.0.0:80", |ws| {
                ws.on_message(|ws, message| {
                    ws.state.push(message.to_string()[..1].to_owned());
                    ws.reactor.reset(ws.id);
                    let late = ws.send("too late");
                    ws.state.push(format!("{late:?}"));
                });
                ws.on_close(|ws, close| ws.state.push(close.cause.to_string()));
            })
        });
        let client = sim.websocket("/");
        // All arrive in one read.
        for text in ["a", "b", "c"] {
            client.send(text.repeat(length));
        }
        sim.settle();
        assert_eq!(*sim.state(), ["a", "Gone", "closed by us"], "{length}");
        assert_eq!(client.take_events(), []);
    }
}

#[test]
fn one_handler_object_can_take_all_callbacks() {
    let mut sim = Sim::new(Log::new(), |reactor: &mut Reactor<Log>| {
        reactor.websocket("0.0.0.0:80", |ws| {
            ws.handler(CountingHandler {
                greeting: "welcome to",
                count: 0,
            })
        })
    });
    let (a, b) = (sim.websocket("/a"), sim.websocket("/b"));
    a.send("x");
    sim.settle();
    b.send("y");
    b.close(1000);
    sim.settle();
    assert_eq!(a.received(), ["welcome to /a", "1 x"]);
    assert_eq!(b.received(), ["welcome to /b", "2 y"]);
    assert_eq!(*sim.state(), ["2 1000 closed by peer"]);
}

// ── cut bytes ────────────────────────────────────────────────────────────────────────────────

/// An upgrade, fragments with a control frame between them, binary of all three length encodings,
/// and a close.
fn session() -> Vec<u8> {
    let mut bytes = UPGRADE.as_bytes().to_vec();
    bytes.extend(frame(0x81, b"first"));
    bytes.extend(frame(0x01, "frag\u{00e9}".as_bytes()));
    bytes.extend(frame(0x89, b"between"));
    bytes.extend(frame(0x00, b""));
    bytes.extend(frame(0x80, "\u{1f980}ments".as_bytes()));
    bytes.extend(frame(0x82, &[9; 200]));
    bytes.extend(frame(0x8a, b"pong"));
    bytes.extend(close_frame(1001, "leaving"));
    bytes
}

/// The callbacks of the application and the bytes for the client, with the session in pieces.
fn run_in_pieces(pieces: &[&[u8]], settle: bool) -> (Log, Vec<u8>) {
    let mut sim = Sim::new(Log::new(), echo);
    let client = sim.connect();
    let mut got = Vec::new();
    for piece in pieces {
        assert_eq!(client.write(piece), piece.len());
        if settle {
            sim.settle();
        }
        got.extend(client.read());
    }
    sim.settle();
    got.extend(client.read());
    assert!(client.is_closed());
    (std::mem::take(sim.state()), got)
}

// Bytes behind the upgrade in the same read are the first frames.
#[test]
fn frames_behind_the_upgrade_in_one_read_are_delivered() {
    let (heard, got) = run_in_pieces(&[&session()], true);
    let expected = [
        "open /chat".to_owned(),
        "text first".into(),
        format!("ping {:?}", b"between"),
        "text fragé🦀ments".into(),
        format!("binary {:?}", [9; 200]),
        format!("pong {:?}", b"pong"),
        "close 1001 closed by peer: leaving, clean".into(),
    ];
    assert_eq!(heard, expected);
    let head = got
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .unwrap()
        + 4;
    assert!(got.starts_with(b"HTTP/1.1 101 "));
    let mut frames =
        b"\x81\x05first\x8a\x07between\x81\x0ffrag\xc3\xa9\xf0\x9f\xa6\x80ments".to_vec();
    frames.extend([0x82, 126, 0, 200]);
    frames.extend([9; 200]);
    frames.extend(b"\x88\x02\x03\xe9");
    assert_eq!(got[head..], frames);
}

#[test]
fn every_cut_of_a_session_gives_the_same_events() {
    let session = session();
    let whole = run_in_pieces(&[&session], true);
    for cut in 1..session.len() {
        let pieces = [&session[..cut], &session[cut..]];
        assert_eq!(run_in_pieces(&pieces, true), whole, "cut at {cut}");
    }
    for length in 1..40 {
        let pieces: Vec<&[u8]> = session.chunks(length).collect();
        assert_eq!(run_in_pieces(&pieces, true), whole, "pieces of {length}");
    }
}

#[test]
fn short_reads_and_writes_change_nothing() {
    for seed in 0..200 {
        let mut sim = Sim::new(Log::new(), echo);
        sim.socket_bytes(40 + 37 * seed as usize);
        sim.faults(
            seed,
            Faults {
                short_reads_percent: 40,
                short_writes_percent: 40,
                refused_writes_percent: 20,
                resets_percent: 0,
            },
        );
        let client = sim.websocket("/chat");
        let mut expected = Vec::new();
        for n in 0..20usize {
            let text = format!("{n} ").repeat(n * n);
            client.send(&text);
            client.send(vec![n as u8; n * 10]);
            expected.push(Received::Text(text));
            expected.push(Received::Binary(vec![n as u8; n * 10]));
        }
        client.ping(b"p");
        client.close(4999);
        expected.push(Received::Pong(b"p".to_vec()));
        expected.push(Received::Close(4999, String::new()));
        let mut got = Vec::new();
        for _ in 0..100_000 {
            sim.settle();
            got.extend(client.take_events());
            if client.is_closed() {
                break;
            }
        }
        assert!(got == expected, "seed {seed}: {} events", got.len());
        assert_eq!(
            sim.state().last().unwrap(),
            "close 4999 closed by peer, clean"
        );
        assert_eq!(sim.state().len(), 1 + 40 + 1 + 1, "seed {seed}");
    }
}

// No input panics, and every connection ends.
#[test]
fn noise_after_the_handshake_ends_the_connection_and_nothing_else() {
    let mut random: u64 = 42;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 16) as u8
    };
    let mut sim = Sim::new(Log::new(), echo);
    for _ in 0..2000 {
        sim.state().clear();
        let client = sim.connect();
        client.write(UPGRADE);
        let noise: Vec<u8> = (0..1 + next() as usize).map(|_| next()).collect();
        client.write(&noise);
        sim.settle();
        client.finish();
        client.read();
        sim.settle();
        assert_eq!(sim.state().first().unwrap(), "open /chat");
        assert!(
            sim.state().last().unwrap().starts_with("close "),
            "{noise:?}"
        );
        let closes = sim.state().iter().filter(|line| line.starts_with("close "));
        assert_eq!(closes.count(), 1, "{noise:?}");
    }
    assert_eq!(sim.reactor().connection_count(), 0);
    assert_eq!(sim.reactor().stats().panics, 0);
}

// ── protocol errors and panics ───────────────────────────────────────────────────────────────

// Source: RFC 6455, section 7.4.1.
/// The cause of `on_error`, and the argument of `on_close`.
type Closes = (Option<CloseCause>, Option<Close>);

#[test]
fn a_protocol_error_sends_its_code_to_the_peer_and_to_on_close() {
    let too_long = |bytes| Error::FrameTooLong {
        bytes,
        max: 1 << 20,
    };
    let cases: &[(&str, Vec<u8>, u16, Error)] = &[
        ("reserved bit", frame(0xc1, b"x"), 1002, Error::ReservedBits),
        (
            "reserved opcode",
            frame(0x83, b"x"),
            1002,
            Error::ReservedOpcode { opcode: 3 },
        ),
        (
            "fragmented ping",
            frame(0x09, b"x"),
            1002,
            Error::FragmentedControl,
        ),
        (
            "long ping",
            frame(0x89, &[0; 126]),
            1002,
            Error::ControlTooLong,
        ),
        ("without a mask", vec![0x81, 1, b'x'], 1002, Error::Unmasked),
        (
            "one byte with a length of 16 bits",
            vec![0x81, 0xfe, 0, 1, 0, 0, 0, 0, b'x'],
            1002,
            Error::LengthNotMinimal,
        ),
        (
            "continuation of nothing",
            frame(0x80, b"x"),
            1002,
            Error::UnexpectedContinuation,
        ),
        (
            "message inside a message",
            [frame(0x01, b"x"), frame(0x81, b"y")].concat(),
            1002,
            Error::InterleavedMessage,
        ),
        (
            "close of one byte",
            frame(0x88, &[3]),
            1002,
            Error::ClosePayloadOfOneByte,
        ),
        (
            "close with 1006",
            close_frame(1006, ""),
            1002,
            Error::BadCloseCode { code: 1006 },
        ),
        (
            "text that is not UTF-8",
            frame(0x81, b"\xff"),
            1007,
            Error::InvalidUtf8,
        ),
        (
            "close reason that is not UTF-8",
            frame(0x88, b"\x03\xe8\xff"),
            1007,
            Error::InvalidUtf8,
        ),
        (
            "long frame, its header alone",
            frame(0x82, &vec![0; 0x10_0001])[..14].to_vec(),
            1009,
            too_long(0x10_0001),
        ),
    ];
    for (name, bytes, code, error) in cases {
        let mut sim = Sim::new((None, None), |reactor: &mut Reactor<Closes>| {
            reactor.websocket("0.0.0.0:80", |ws| {
                ws.on_error(|ws, cause| ws.state.0 = Some(*cause));
                ws.on_close(|ws, close| {
                    ws.state.1 = Some(close.clone());
                    assert_eq!(ws.state.0, Some(close.cause));
                });
            })
        });
        let (client, other) = (sim.websocket("/"), sim.websocket("/"));
        client.send_bytes(bytes);
        sim.settle();
        assert_eq!(
            client.take_events(),
            [Received::Close(*code, String::new())],
            "{name}"
        );
        assert!(client.is_closed(), "{name}");
        let close = sim.state().1.take().unwrap();
        assert_eq!(close.cause, CloseCause::Protocol(*error), "{name}");
        assert_eq!((close.code, close.was_clean), (*code, false), "{name}");
        assert_eq!(sim.reactor().stats().panics, 0, "{name}");
        other.ping(b"");
        sim.settle();
        assert_eq!(other.take_events(), [Received::Pong(Vec::new())], "{name}");
    }
}

// Only the application knows which kinds of messages it takes, so 1003 is sent by it.
#[test]
fn an_application_can_refuse_binary_with_1003() {
    let mut sim = Sim::new(Log::new(), |reactor: &mut Reactor<Log>| {
        reactor.websocket("0.0.0.0:80", |ws| {
            ws.on_message(|ws, message| match message {
                Message::Text(_) => ws.send(message),
                Message::Binary(_) => ws.close_with(1003, "text only"),
            });
            ws.on_close(|ws, close| ws.state.push(close.to_string()));
        })
    });
    let client = sim.websocket("/");
    client.send([1, 2, 3]);
    sim.settle();
    assert_eq!(
        client.take_events(),
        [Received::Close(1003, "text only".into())]
    );
    client.close(1003);
    sim.settle();
    assert_eq!(*sim.state(), ["1003 closed by us: text only"]);
}

#[test]
fn fragments_above_the_message_limit_together_get_1009() {
    let mut sim = Sim::new(Log::new(), echo);
    sim.socket_bytes(8 * 1024 * 1024);
    let client = sim.websocket("/");
    let fragment = vec![b'x'; 900_000];
    client.send_bytes(frame(0x01, &fragment));
    sim.settle();
    assert!(client.take_events().is_empty());
    // The header of the second fragment already shows that the message is too long.
    client.send_bytes(&frame(0x00, &fragment)[..14]);
    sim.settle();
    assert_eq!(client.take_events(), [Received::Close(1009, String::new())]);
    for _ in 0..29 {
        client.send_bytes(frame(0x00, &fragment));
        sim.settle();
    }
    assert_eq!(
        sim.state().len(),
        3,
        "open, error and close: {:?}",
        sim.state()
    );
}

#[test]
fn a_message_at_the_limit_is_taken_and_each_route_has_its_limit() {
    let mut sim = Sim::new(Log::new(), |reactor: &mut Reactor<Log>| {
        reactor.http("0.0.0.0:80", |http| {
            for (path, max) in [("/small", 10), ("/large", 100)] {
                http.websocket(path, move |ws| {
                    ws.options().websocket.message_bytes_max = max;
                    ws.options().websocket.frame_bytes_max = max;
                    ws.on_message(|ws, message| ws.send(message));
                });
            }
        })
    });
    for (path, max) in [("/small", 10), ("/large", 100)] {
        let client = sim.websocket(path);
        client.send("x".repeat(max));
        sim.settle();
        assert_eq!(client.received(), ["x".repeat(max)], "{path}");
        client.send_bytes(frame(0x01, &vec![b'x'; max]));
        client.send_bytes(frame(0x80, b""));
        sim.settle();
        assert_eq!(client.received(), ["x".repeat(max)], "{path}");
        client.send("x".repeat(max + 1));
        sim.settle();
        assert_eq!(
            client.take_events(),
            [Received::Close(1009, String::new())],
            "{path}"
        );
    }
}

#[test]
fn a_panic_in_any_callback_closes_with_1011_and_calls_on_close() {
    for doomed in ["on_open", "on_message", "on_ping", "on_pong", "on_close"] {
        let mut sim = Sim::new(Log::new(), move |reactor: &mut Reactor<Log>| {
            reactor.websocket("0.0.0.0:80", move |ws| {
                ws.on_open(move |_, handshake| {
                    assert!(doomed != "on_open" || handshake.path() != "/doomed")
                });
                ws.on_message(move |_, _| assert_ne!(doomed, "on_message"));
                ws.on_ping(move |_, _| assert_ne!(doomed, "on_ping"));
                ws.on_pong(move |_, _| assert_ne!(doomed, "on_pong"));
                ws.on_close(move |ws, close| {
                    ws.state.push(close.to_string());
                    assert_ne!(doomed, "on_close");
                });
            })
        });
        sim.catch_panics(true);
        let other = sim.websocket("/");
        let client = sim.websocket("/doomed");
        client.send("x");
        if doomed != "on_message" {
            client.ping(b"");
            client.pong();
            client.close(1000);
        }
        sim.settle();
        let code = if doomed == "on_close" { 1000 } else { 1011 };
        client.take_events();
        assert_eq!(client.close_code(), Some(code), "{doomed}");
        assert_eq!(sim.state().len(), 1, "{doomed}");
        let reason = match doomed {
            "on_close" => "1000 closed by peer",
            _ => "1011 a callback panicked",
        };
        assert_eq!(*sim.state(), [reason], "{doomed}");
        assert_eq!(sim.reactor().stats().panics, 1, "{doomed}");
        assert!(!other.is_closed(), "{doomed}");
    }
}

// ── time ─────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_silent_peer_is_pinged_after_25_seconds_and_removed_20_later() {
    let mut sim = Sim::new(Log::new(), echo);
    let client = sim.websocket("/");
    sim.advance(secs(25));
    assert_eq!(client.take_events(), []);
    sim.advance(LATE);
    assert_eq!(client.take_events(), [Received::Ping(Vec::new())]);
    sim.advance(secs(20) - LATE);
    assert!(!client.is_closed());
    sim.advance(LATE + LATE);
    assert!(client.is_closed());
    assert_eq!(client.take_events(), [], "no close frame for a dead peer");
    let expected = [
        "open /",
        "error pong deadline passed",
        "close 1006 pong deadline passed, not clean",
    ];
    assert_eq!(*sim.state(), expected);
    assert_eq!(sim.reactor().connection_count(), 0);
}

// As after a restart of the server: all clients connect and send their first message together.
#[test]
fn clients_that_came_together_are_not_pinged_together() {
    assert_pings_are_spread(|client| client.send("hello"));
}

#[test]
fn clients_that_came_together_and_are_silent_are_not_pinged_together() {
    assert_pings_are_spread(|_| ());
}

fn assert_pings_are_spread(first_message: impl Fn(&SimSocket)) {
    let mut sim = Sim::new(Log::new(), echo);
    let clients: Vec<_> = (0..100).map(|_| sim.websocket("/")).collect();
    clients.iter().for_each(first_message);
    sim.settle();
    for client in &clients {
        client.take_events();
    }
    sim.advance(secs(18));
    let (mut pinged, mut most) = (0, 0);
    for _ in 0..80 {
        sim.advance(Duration::from_millis(100));
        let mut together = 0;
        for client in &clients {
            if client.take_events() == [Received::Ping(Vec::new())] {
                together += 1;
                client.pong();
            }
        }
        pinged += together;
        most = most.max(together);
        sim.settle();
    }
    assert_eq!(pinged, clients.len());
    assert!(most <= 10, "{most} pings in a tenth of a second");
}

#[test]
fn a_peer_that_answers_or_sends_anything_stays() {
    let mut sim = Sim::new(Log::new(), echo);
    let (answers, talks) = (sim.websocket("/"), sim.websocket("/"));
    for _ in 0..20 {
        sim.advance(secs(25) + LATE);
        for socket in [&answers, &talks] {
            let pings = [Received::Ping(Vec::new())];
            assert_eq!(socket.take_events(), pings);
        }
        sim.advance(secs(19));
        answers.pong();
        talks.send_bytes(frame(0x01, b"the first half of a message"));
        talks.send_bytes(frame(0x80, b""));
        sim.settle();
        assert_eq!(talks.received().len(), 1);
    }
    // A client that sends messages all the time is not pinged.
    for _ in 0..20 {
        sim.advance(secs(20));
        talks.send("x");
        answers.pong();
        sim.settle();
        assert_eq!(talks.take_events(), [Received::Text("x".into())]);
    }
    assert!(!answers.is_closed() && !talks.is_closed());
}

// Single bytes of a message that never ends are no sign of life. Otherwise a client could keep its
// place for ever without one whole frame.
#[test]
fn an_endless_message_does_not_postpone_the_pong_deadline() {
    let mut sim = Sim::new(Log::new(), echo);
    let client = sim.websocket("/");
    // The header announces a masked binary message of 1,000 bytes.
    client.send_bytes([0x82, 0xfe, 0x03, 0xe8, 0, 0, 0, 0]);
    for _ in 0..44 {
        client.send_bytes([7]);
        sim.advance(secs(1));
    }
    assert_eq!(sim.reactor().connection_count(), 1, "before the deadline");
    client.send_bytes([7]);
    sim.advance(secs(1) + LATE + LATE);
    assert_eq!(sim.reactor().connection_count(), 0);
    let expected = [
        "open /",
        "error pong deadline passed",
        "close 1006 pong deadline passed, not clean",
    ];
    assert_eq!(*sim.state(), expected);
}

// Frame headers must not count as bytes of the message. Here the message is at a count at which one
// byte more would earn another second.
#[test]
fn empty_fragments_do_not_postpone_the_pong_deadline() {
    let mut sim = Sim::new(Log::new(), echo);
    let client = sim.websocket("/");
    client.send_bytes(frame(0x01, &[b'x'; 16 * 1024]));
    sim.settle();
    for _ in 0..100 {
        client.send_bytes(frame(0x00, b""));
        sim.advance(secs(1));
    }
    assert_eq!(sim.reactor().connection_count(), 0);
}

#[test]
fn a_route_without_pings_keeps_silent_peers() {
    let mut sim = Sim::new(Log::new(), |reactor: &mut Reactor<Log>| {
        reactor.websocket("0.0.0.0:80", |ws| ws.options().ping_interval = None)
    });
    let client = sim.websocket("/");
    sim.advance(secs(1_000_000));
    assert_eq!(client.take_events(), []);
    assert!(!client.is_closed());
}

#[test]
fn an_application_can_send_pings() {
    let mut sim = Sim::new(Log::new(), echo);
    let client = sim.websocket("/");
    let id = only_id(&mut sim);
    assert_eq!(sim.reactor().send_ping(id, b"hello"), Sent::Queued);
    assert_eq!(sim.reactor().send_ping(id, &[b'x'; 200]), Sent::Queued);
    sim.settle();
    let expected = [
        Received::Ping(b"hello".to_vec()),
        Received::Ping(vec![b'x'; 125]),
    ];
    assert_eq!(client.take_events(), expected);
}

fn go(client: &SimSocket) {
    client.send("go");
}

fn fill(ws: &mut Ws<'_, Log>) {
    ws.send([0; 100_000]);
}

// Closing has one absolute deadline, whichever side began it.
#[test]
fn a_closing_socket_is_removed_ten_seconds_after_its_first_step() {
    /// An action of the client; the server acts when it receives `go`.
    type Act = fn(&SimSocket);
    let cases: &[(&str, bool, Act, fn(&mut Ws<'_, Log>), u16)] = &[
        (
            "closed, unanswered",
            false,
            go,
            |ws| assert_eq!(ws.close(), Sent::Queued),
            1000,
        ),
        (
            "closed, with unsent bytes",
            true,
            go,
            |ws| {
                fill(ws);
                ws.close();
            },
            1000,
        ),
        (
            "closed, and the peer goes on talking",
            false,
            |client| {
                go(client);
                for _ in 0..5 {
                    client.send("x");
                }
            },
            |ws| assert_eq!(ws.close(), Sent::Queued),
            1000,
        ),
        (
            "a slow consumer",
            true,
            go,
            |ws| {
                for _ in 0..20 {
                    fill(ws);
                }
            },
            1013,
        ),
        (
            "a panic, with unsent bytes",
            true,
            go,
            |ws| {
                fill(ws);
                panic!("as ordered")
            },
            1011,
        ),
        (
            "an error, with unsent bytes",
            true,
            |client| {
                go(client);
                client.send_bytes(frame(0x83, b""))
            },
            fill,
            1002,
        ),
        (
            "an error, and the stream is left open",
            false,
            |client| client.send_bytes(frame(0x83, b"")),
            |_| {},
            1002,
        ),
        (
            "the peer's close, with unsent bytes",
            true,
            |client| {
                go(client);
                client.close(4000)
            },
            fill,
            4000,
        ),
        (
            "the peer's end, with unsent bytes",
            true,
            |client| {
                go(client);
                client.stream().finish()
            },
            fill,
            1006,
        ),
    ];
    for (name, is_stuck, act, on_go, code) in cases {
        let on_go = *on_go;
        let mut sim = Sim::new(Log::new(), move |reactor: &mut Reactor<Log>| {
            reactor.websocket("0.0.0.0:80", move |ws| {
                ws.options().queue_high_bytes = 1_000_000;
                ws.on_message(move |ws, _| on_go(ws));
                ws.on_close(|ws, close| ws.state.push(close.code.to_string()));
            })
        });
        sim.catch_panics(true);
        if *is_stuck {
            sim.socket_bytes(1000);
        }
        let client = sim.websocket("/");
        act(&client);
        sim.settle();
        // Pings from the peer do not postpone the deadline.
        for _ in 0..9 {
            sim.advance(secs(1));
            client.ping(b"");
        }
        sim.advance(secs(1));
        assert_eq!(sim.reactor().connection_count(), 1, "{name}: not before");
        sim.advance(LATE);
        assert_eq!(sim.reactor().connection_count(), 0, "{name}");
        assert_eq!(*sim.state(), [code.to_string()], "{name}");
    }
}

#[test]
fn an_answered_close_ends_at_once() {
    let mut sim = Sim::new(Log::new(), echo);
    let client = sim.websocket("/");
    close_all(&mut sim, 1000, "");
    assert_eq!(client.take_events(), [Received::Close(1000, String::new())]);
    assert!(!client.is_closed(), "it waits for the answer");
    client.close(1000);
    sim.settle();
    assert!(client.is_closed());
    assert_eq!(sim.reactor().connection_count(), 0);
}

// The close frame of a paused peer is still read.
#[test]
fn closing_a_paused_socket_reads_the_answer() {
    for before in [false, true] {
        let mut sim = Sim::new(Log::new(), echo);
        let client = sim.websocket("/");
        let id = only_id(&mut sim);
        sim.reactor().pause(id);
        if before {
            // Both sides send a close frame at the same time, and the peer's arrives first.
            client.send("unheard");
            client.close(1000);
            sim.settle();
        }
        sim.reactor().close(id);
        sim.settle();
        if !before {
            client.close(1000);
            sim.settle();
        }
        assert_eq!(client.take_events(), [Received::Close(1000, String::new())]);
        assert!(client.is_closed(), "{before}");
        assert_eq!(
            sim.state()[1..],
            ["close 1000 closed by us, clean"],
            "{before}"
        );
    }
}

#[test]
fn a_broadcast_skips_closing_sockets_with_gone() {
    let mut sim = Sim::new(Vec::new(), |reactor: &mut Reactor<Vec<ConnId>>| {
        reactor.websocket("0.0.0.0:80", |ws| ws.on_open(|ws, _| ws.state.push(ws.id)))
    });
    let clients: Vec<SimSocket> = (0..1000).map(|_| sim.websocket("/")).collect();
    let ids = sim.state().clone();
    for id in ids.iter().step_by(2) {
        sim.reactor().close(*id);
    }
    let sent: Vec<Sent> = ids
        .iter()
        .map(|id| sim.reactor().send(*id, "news"))
        .collect();
    let count = |wanted| sent.iter().filter(|sent| **sent == wanted).count();
    assert_eq!((count(Sent::Queued), count(Sent::Gone)), (500, 500));
    sim.settle();
    for (n, client) in clients.iter().enumerate() {
        let expected = if n % 2 == 1 {
            vec!["news".to_owned()]
        } else {
            vec![]
        };
        assert_eq!(client.received(), expected, "{n}");
    }
}

#[test]
fn a_drain_closes_sockets_with_1001_and_accepts_no_new_ones() {
    let mut sim = Sim::new(Log::new(), echo);
    let client = sim.websocket("/");
    let late = sim.connect();
    late.write(&UPGRADE[..20]);
    sim.settle();
    sim.reactor().drain(secs(1));
    late.write(&UPGRADE[20..]);
    sim.settle();
    let answer = late.read_text();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    sim.advance(secs(1));
    assert_eq!(
        client.take_events(),
        [Received::Close(1001, "going away".into())]
    );
    client.close(1001);
    late.finish();
    sim.settle();
    assert!(!sim.is_running());
    assert_eq!(
        sim.state()[1..],
        ["close 1001 closed by us, draining: going away, clean"]
    );
}
