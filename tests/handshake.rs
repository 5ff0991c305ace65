//! The handshake of a WebSocket: which clients are accepted, with which parameters, and the answers
//! to the others.

use std::time::Duration;

use waterwheel::{Reactor, Reply, Sim, Status};

type Log = Vec<String>;

const UPGRADE: &str = "GET /chat HTTP/1.1\r\nHost: sim\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

#[test]
fn on_open_gets_path_query_parameters_and_headers() {
    let mut sim = Sim::new(Log::new(), |reactor: &mut Reactor<Log>| {
        reactor.http("0.0.0.0:80", |http| {
            http.websocket("/rooms/:room", |ws| {
                ws.on_open(|ws, handshake| {
                    let line = format!(
                        "{} {:?} {:?} {:?} {:?} {:?} {:?}",
                        handshake.path(),
                        handshake.param("room"),
                        handshake.query("user"),
                        handshake.query("none"),
                        handshake.header("x-token"),
                        handshake.origin(),
                        handshake.subprotocol(),
                    );
                    ws.state.push(line);
                })
            });
        })
    });
    let headers = [("X-Token", "t"), ("Origin", "http://example.org")];
    sim.try_websocket("/rooms/a%20b?user=c+d%26e", &headers)
        .unwrap();
    let expected =
        r#"/rooms/a%20b Some("a b") Some("c d&e") None Some("t") Some("http://example.org") None"#;
    assert_eq!(*sim.state(), [expected]);
}

#[test]
fn before_open_refuses_with_any_answer_and_no_other_callback_runs() {
    let mut sim = Sim::new(Log::new(), |reactor: &mut Reactor<Log>| {
        reactor.http("0.0.0.0:80", |http| {
            http.websocket("/ws", |ws| {
                ws.before_open(|request| match request.query("token").as_deref() {
                    Some("right") => Ok(()),
                    Some("moved") => {
                        Err(Reply::new(Status::FOUND).header("Location", "/elsewhere"))
                    }
                    Some("boom") => panic!("as ordered"),
                    _ => Err((Status::UNAUTHORIZED, "no token\n").into()),
                });
                ws.on_open(|ws, _| ws.state.push("open".into()));
                ws.on_error(|ws, _| ws.state.push("error".into()));
                ws.on_close(|ws, _| ws.state.push("close".into()));
            });
        })
    });
    sim.catch_panics(true);
    let refused = |sim: &mut Sim<Log>, path: &str| sim.try_websocket(path, &[]).err().unwrap();
    let answer = refused(&mut sim, "/ws");
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    assert!(answer.ends_with("\r\n\r\nno token\n"), "{answer}");
    let answer = refused(&mut sim, "/ws?token=moved");
    assert!(answer.starts_with("HTTP/1.1 302 "), "{answer}");
    assert!(answer.contains("\r\nLocation: /elsewhere\r\n"), "{answer}");
    let answer = refused(&mut sim, "/ws?token=boom");
    assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
    let answer = refused(&mut sim, "/nowhere");
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    sim.advance(Duration::from_secs(120));
    assert!(sim.state().is_empty(), "{:?}", sim.state());
    assert_eq!(sim.reactor().connection_count(), 0);
    sim.try_websocket("/ws?token=right", &[]).unwrap();
    assert_eq!(*sim.state(), ["open"]);
}

// A refusal is an ordinary answer, so the connection stays usable for the next request.
#[test]
fn a_refused_client_can_retry_on_the_same_connection() {
    let mut sim = Sim::new(Log::new(), |reactor: &mut Reactor<Log>| {
        reactor.http("0.0.0.0:80", |http| {
            http.websocket("/*", |ws| {
                ws.before_open(|request| match request.path() {
                    "/chat" => Ok(()),
                    _ => Err(Status::FORBIDDEN.into()),
                });
                ws.on_open(|ws, _| ws.send("hi"));
            });
        })
    });
    let client = sim.connect();
    client.write(UPGRADE.replace("/chat", "/other"));
    sim.settle();
    assert!(client.read_text().starts_with("HTTP/1.1 403 "));
    client.write(UPGRADE);
    sim.settle();
    let answer = client.read();
    assert!(answer.starts_with(b"HTTP/1.1 101 "));
    assert!(answer.ends_with(b"\r\n\r\n\x81\x02hi"));
}

// Source: RFC 6455, section 4.2.2.
#[test]
fn the_first_offered_subprotocol_that_is_known_is_selected() {
    let cases: &[(&str, &[&str], Option<&str>)] = &[
        ("one of two", &["chat, x"], Some("x")),
        ("the client's order counts", &["y, x"], Some("y")),
        ("two headers", &["chat", "x,y"], Some("x")),
        ("none is known", &["chat"], None),
        ("none is offered", &[], None),
        ("names are not prefixes", &["xx, X"], None),
    ];
    for (name, offered, expected) in cases {
        let mut sim = Sim::new(Log::new(), |reactor: &mut Reactor<Log>| {
            reactor.websocket("0.0.0.0:80", |ws| {
                ws.subprotocols(["x", "y"]);
                ws.on_open(|ws, handshake| ws.state.push(format!("{:?}", handshake.subprotocol())));
            })
        });
        let headers: Vec<_> = offered
            .iter()
            .map(|value| ("Sec-WebSocket-Protocol", *value))
            .collect();
        let client = sim.try_websocket("/", &headers).unwrap();
        assert_eq!(*sim.state(), [format!("{expected:?}")], "{name}");
        let answered: Vec<_> = client
            .head()
            .lines()
            .filter_map(|line| line.strip_prefix("Sec-WebSocket-Protocol: "))
            .collect();
        assert_eq!(
            answered,
            expected.iter().copied().collect::<Vec<_>>(),
            "{name}"
        );
    }
}

// Source: RFC 6455, section 4.2.
#[test]
fn an_invalid_handshake_is_refused_with_the_status_of_its_fault() {
    let with = |from: &str, to: &str| UPGRADE.replace(from, to);
    let version = "Sec-WebSocket-Version: 13\r\n";
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let cases: &[(&str, String, u16)] = &[
        ("as it should be", UPGRADE.into(), 101),
        (
            "token lists in any case",
            with("Connection: Upgrade", "connection: keep-alive, UPGRADE"),
            101,
        ),
        ("draft 8", with("Version: 13", "Version: 8"), 426),
        ("draft 7", with("Version: 13", "Version: 7"), 426),
        ("a version to come", with("Version: 13", "Version: 14"), 426),
        (
            "draft 76, with two keys and none of our headers",
            with(
                &format!("{version}{key}"),
                "Sec-WebSocket-Key1: 1 2\r\nSec-WebSocket-Key2: 3 4\r\n",
            ),
            426,
        ),
        (
            "two versions",
            with(version, &format!("{version}{version}")),
            426,
        ),
        ("not an upgrade", with("Upgrade: websocket\r\n", ""), 426),
        ("no key", with(key, ""), 400),
        ("two keys", with(key, &format!("{key}{key}")), 400),
        (
            "a key of 15 bytes",
            with("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25j"),
            400,
        ),
        (
            "a key that is not base64",
            with("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25j!Q=="),
            400,
        ),
        (
            "a proxy that dropped the connection option",
            with("Connection: Upgrade\r\n", ""),
            400,
        ),
        ("POST", with("GET", "POST"), 400),
        (
            "a body",
            with("\r\n\r\n", "\r\nContent-Length: 1\r\n\r\nx"),
            400,
        ),
        ("no host", with("Host: sim\r\n", ""), 400),
    ];
    for (name, request, status) in cases {
        let mut sim = Sim::new(Log::new(), |reactor: &mut Reactor<Log>| {
            reactor.websocket("0.0.0.0:80", |ws| {
                ws.on_open(|ws, _| ws.state.push("open".into()))
            })
        });
        let client = sim.connect();
        client.write(request);
        sim.settle();
        let answer = client.read_text();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{name}: {answer}"
        );
        if *status == 101 {
            let accept = "\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
            assert!(answer.contains(accept), "{name}: {answer}");
        }
        let names_version = answer.contains("\r\nSec-WebSocket-Version: 13\r\n");
        assert_eq!(names_version, *status == 426, "{name}: {answer}");
        assert_eq!(sim.state().is_empty(), *status != 101, "{name}");
    }
}
