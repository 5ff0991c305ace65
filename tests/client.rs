//! WebSocket clients: against our own server in a simulation, against another implementation on
//! loopback, and against servers with wrong answers.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use tungstenite::handshake::server::{Request, Response};
use tungstenite::{Message, WebSocket};
use waterwheel::{Reactor, Sim};

type Log = Vec<String>;

/// A client that logs its callbacks, and sends `hello` when it is open.
fn watch(reactor: &mut Reactor<Log>, url: &str) {
    let made = reactor.connect_websocket(url, |ws| {
        ws.header("X-Token", "secret").unwrap();
        ws.subprotocols(["a", "b"]);
        ws.on_open(|ws, handshake| {
            let agreed = handshake.subprotocol().unwrap_or("none").to_owned();
            ws.state.push(format!("open {} {agreed}", handshake.path()));
            ws.send("hello")
        });
        ws.on_message(|ws, message| ws.state.push(format!("message {message}")));
        ws.on_close(|ws, close| {
            ws.state.push(format!("close {close}"));
            ws.reactor.stop();
        });
    });
    made.unwrap();
}

#[test]
fn our_client_talks_to_our_server() {
    let mut sim = Sim::new(Log::new(), |reactor| {
        reactor
            .http("0.0.0.0:8080", |router| {
                router.websocket("/room/:name", |ws| {
                    ws.subprotocols(["b"]);
                    ws.on_open(|ws, handshake| {
                        assert_eq!(handshake.header("x-token"), Some("secret"));
                        ws.subscribe("hall")
                    });
                    ws.on_message(|ws, message| {
                        let text = message.to_string();
                        match text.as_str() {
                            "bye" => ws.close_with(4001, "as you wish"),
                            _ => ws.send(format!("echo {text}")),
                        };
                    });
                });
            })
            .unwrap();
        watch(reactor, "ws://localhost:8080/room/1?x=y");
    });
    sim.settle();
    assert_eq!(*sim.state(), ["open /room/1 b", "message echo hello"]);
    sim.reactor().publish("hall", "to all");
    // Pings go both ways, and both are answered.
    sim.advance(Duration::from_secs(300));
    assert_eq!(sim.state().last().unwrap(), "message to all");
    assert_eq!(sim.reactor().connection_count(), 2);
}

#[test]
fn a_refused_client_learns_the_status() {
    let mut sim = Sim::new(Log::new(), |reactor| {
        reactor
            .http("0.0.0.0:8080", |router| {
                router.websocket("/ws", |ws| {
                    ws.before_open(|_| Err(waterwheel::Status::UNAUTHORIZED.into()));
                });
            })
            .unwrap();
        watch(reactor, "ws://localhost:8080/ws");
    });
    sim.settle();
    assert_eq!(
        *sim.state(),
        ["close 1006 the server answered 401 Unauthorized"]
    );
}

/// The callbacks of a client whose server on loopback does this.
fn outcome_of(serve: impl FnOnce(std::net::TcpStream) + Send + 'static) -> Log {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/path", listener.local_addr().unwrap());
    let server = thread::spawn(move || serve(listener.accept().unwrap().0));
    let log = Reactor::run(Log::new(), |reactor| watch(reactor, &url)).unwrap();
    server.join().unwrap();
    log
}

#[test]
fn another_implementation_understands_our_client() {
    let log = outcome_of(|stream| {
        #[expect(clippy::result_large_err, reason = "tungstenite's own signature")]
        let choose = |request: &Request, mut response: Response| {
            assert_eq!(request.headers()["x-token"], "secret");
            assert_eq!(request.headers()["sec-websocket-protocol"], "a, b");
            let chosen = "a".parse().unwrap();
            response
                .headers_mut()
                .insert("sec-websocket-protocol", chosen);
            Ok(response)
        };
        let mut socket: WebSocket<_> = tungstenite::accept_hdr(stream, choose).unwrap();
        assert_eq!(socket.read().unwrap(), Message::text("hello"));
        socket.send(Message::Ping("p".into())).unwrap();
        assert_eq!(socket.read().unwrap(), Message::Pong("p".into()));
        socket.send(Message::text("x".repeat(100_000))).unwrap();
        socket.close(None).unwrap();
        while socket.read().is_ok() {}
    });
    assert_eq!(log[0], "open /path a");
    assert_eq!(log[1].len(), "message ".len() + 100_000);
    assert_eq!(log[2..], ["close 1005 closed by peer"]);
}

#[test]
fn wrong_answers_to_the_handshake_end_the_connection() {
    let accept = |lines: &str| format!("HTTP/1.1 101 Switching Protocols\r\n{lines}\r\n");
    let cases = [
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned(),
            "answered 200 OK",
        ),
        (accept("Upgrade: websocket\r\n"), "did not upgrade"),
        (
            accept("Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n"),
            "accept key",
        ),
        ("SSH-2.0-OpenSSH\r\n".to_owned(), "malformed status line"),
        ("HTTP/1.1 101 Swi".to_owned(), "end of the connection"),
    ];
    for (answer, expected) in cases {
        let log = outcome_of(move |mut stream| {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.push(byte[0]);
            }
            stream.write_all(answer.as_bytes()).unwrap();
        });
        assert_eq!(log.len(), 1, "{log:?}");
        assert!(
            log[0].starts_with("close 1006") && log[0].contains(expected),
            "{log:?}"
        );
    }
}

#[test]
fn a_server_that_does_not_answer_times_out() {
    let mut sim = Sim::new(Log::new(), |reactor| {
        reactor.stream("0.0.0.0:8080", |_| ()).unwrap();
        watch(reactor, "ws://localhost:8080/");
    });
    sim.advance(Duration::from_secs(9));
    assert_eq!(*sim.state(), Log::new());
    sim.advance(Duration::from_secs(2));
    assert_eq!(*sim.state(), ["close 1006 head deadline passed"]);
}

/// The answer of a server to a request for a WebSocket; `None` when these bytes are none.
fn accept(request: &[u8]) -> Option<String> {
    let request = str::from_utf8(request).ok()?;
    let key = request
        .lines()
        .find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "))?;
    let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
    Some(format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    ))
}

// A client that closed its socket first could destroy its own answer on the way.
// Source: RFC 6455, section 7.1.1.
#[test]
fn a_client_waits_for_the_server_to_end_the_stream() {
    let mut sim = Sim::new(Log::new(), |reactor: &mut Reactor<Log>| {
        let listening = reactor.stream("0.0.0.0:8080", |stream| {
            stream.on_data(|stream, bytes| match accept(bytes) {
                Some(answer) => {
                    stream.send(answer);
                    // A close frame with code 1000.
                    stream.send([0x88, 2, 0x03, 0xe8]);
                }
                None => {
                    assert_eq!((bytes[0], bytes.len()), (0x88, 8));
                    stream.state.push("server got a close".into())
                }
            });
            // With this callback our side stays open until it is closed.
            stream.on_end(|stream| stream.state.push("server end".into()));
        });
        listening.unwrap();
        let made = reactor.connect_websocket("ws://localhost:8080/", |ws| {
            ws.on_close(|ws, close| ws.state.push(format!("client {close}")));
        });
        made.unwrap();
    });
    sim.settle();
    let log = sim.state().join(", ");
    assert!(log.contains("client 1000 closed by peer"), "{log}");
    assert!(log.contains("server got a close, server end"), "{log}");
    assert_eq!(sim.reactor().connection_count(), 2, "both are kept");
    sim.advance(Duration::from_secs(9));
    assert_eq!(sim.reactor().connection_count(), 2, "both are kept");
    sim.advance(Duration::from_secs(2));
    assert_eq!(
        sim.reactor().connection_count(),
        1,
        "the client waits ten seconds at the most"
    );
}

#[test]
fn an_invalid_url_fails_before_connecting() {
    Reactor::run((), |reactor| {
        for (url, expected) in [
            ("localhost:80", "ws://"),
            ("wss://localhost/", "wss://"),
            ("ws://localhost:http/", "host"),
        ] {
            let error = reactor.connect_websocket(url, |_| ()).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(url) && text.contains(expected), "{text}");
        }
        reactor.stop();
    })
    .unwrap();
}
