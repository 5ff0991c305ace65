//! WebSocket clients: against our own server in a simulation, against another implementation on
//! loopback, and against servers with wrong answers.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use tungstenite::handshake::server::{Request, Response};
use tungstenite::{Message, WebSocket};
use waterwheel::{ConnId, ConnMap, ConnectOptions, HttpProxy, Reactor, Sim};

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

// A long message that is masked is a copy already, and is queued without another one.
#[test]
fn a_client_keeps_the_order_of_short_and_long_messages() {
    let mut sim = Sim::new(Vec::new(), |reactor: &mut Reactor<Vec<usize>>| {
        let listening = reactor.websocket("0.0.0.0:8080", |ws| {
            ws.on_open(|ws, _| ws.send("go"));
            ws.on_message(|ws, message| ws.state.push(message.as_bytes().len()));
        });
        listening.unwrap();
        let made = reactor.connect_websocket("ws://localhost:8080/", |ws| {
            ws.on_message(|ws, _| {
                for length in [5, 20_000, 6, 100_000, 7] {
                    ws.send("x".repeat(length));
                }
            });
        });
        made.unwrap();
    });
    sim.settle();
    assert_eq!(*sim.state(), [5, 20_000, 6, 100_000, 7]);
}

#[test]
fn an_invalid_url_fails_before_connecting() {
    Reactor::run((), |reactor| {
        for (url, expected) in [
            ("localhost:80", "ws://"),
            #[cfg(not(feature = "tls"))]
            ("wss://localhost/", "feature `tls`"),
            ("wss://user@localhost/", "user name"),
            ("ws://localhost:http/", "host"),
        ] {
            let error = reactor.connect_websocket(url, |_| ()).unwrap_err();
            let text = error.to_string();
            assert!(text.starts_with("cannot connect to "), "{text}");
            assert!(text.contains(expected), "{text}");
        }
        reactor.stop();
    })
    .unwrap();
}

// ── through a proxy ─────────────────────────────────────────────────────────────────────────

/// The two sides of a tunnel, and what the proxy was asked for.
#[derive(Default)]
struct Tunnels {
    log: Log,
    requests: Vec<String>,
    /// The beginnings of requests.
    arrived: ConnMap<String>,
    other_side: ConnMap<ConnId>,
}

/// A proxy on port 3128 that connects to the port of the request, and a server that echoes on port 80.
fn world_with_proxy() -> Sim<Tunnels> {
    Sim::new(Tunnels::default(), |reactor: &mut Reactor<Tunnels>| {
        reactor.websocket("0.0.0.0:80", |ws| {
            ws.on_message(|ws, message| ws.send(message))
        })?;
        reactor.stream("0.0.0.0:3128", |stream| {
            stream.on_data(|stream, bytes| {
                let client = stream.id;
                if let Some(server) = stream.state.other_side.get(client) {
                    return stream.reactor.send(*server, bytes);
                }
                let mut request = stream.state.arrived.remove(client).unwrap_or_default();
                request.push_str(str::from_utf8(bytes).unwrap());
                if !request.ends_with("\r\n\r\n") {
                    stream.state.arrived.insert(client, request);
                    return waterwheel::Sent::Queued;
                }
                let address = request.split(' ').nth(1).unwrap().to_owned();
                stream.state.requests.push(request);
                let made = stream.reactor.connect_stream(address, move |server| {
                    server.on_open(move |server| {
                        server
                            .reactor
                            .send(client, "HTTP/1.1 200 Connection established\r\n\r\n")
                    });
                    server.on_data(move |server, bytes| server.reactor.send(client, bytes));
                    server.on_close(move |server, _| server.reactor.close(client));
                });
                stream.state.other_side.insert(client, made.unwrap());
                waterwheel::Sent::Queued
            });
            stream.on_close(|stream, _| {
                let server = stream.state.other_side.remove(stream.id);
                server.map(|server| stream.reactor.close(server))
            });
        })
    })
}

fn connect_through(sim: &mut Sim<Tunnels>, proxy: &str) {
    let proxy = HttpProxy::parse(proxy).unwrap();
    let made = sim.reactor().connect_websocket("ws://server.test/", |ws| {
        ws.transport(proxy);
        ws.on_open(|ws, _| {
            ws.state.log.push("open".to_owned());
            ws.send("x".repeat(100_000))
        });
        ws.on_message(|ws, message| {
            ws.state.log.push(message.as_bytes().len().to_string());
            ws.close()
        });
        ws.on_error(|ws, cause| ws.state.log.push(format!("error {cause}")));
        ws.on_close(|ws, close| ws.state.log.push(format!("close {close}")));
    });
    made.unwrap();
}

#[test]
fn a_websocket_goes_through_a_tunnel() {
    let cases = [
        ("http://127.0.0.1:3128", ""),
        (
            "http://user:p%40ss@127.0.0.1:3128",
            "Proxy-Authorization: Basic dXNlcjpwQHNz\r\n",
        ),
    ];
    for (proxy, authorization) in cases {
        for seed in 0..50 {
            let mut sim = world_with_proxy();
            if seed != 0 {
                let faults = waterwheel::Faults {
                    short_reads_percent: 60,
                    short_writes_percent: 0,
                    refused_writes_percent: 30,
                    ..Default::default()
                };
                sim.faults(seed, faults);
            }
            connect_through(&mut sim, proxy);
            sim.advance(Duration::from_secs(1));
            assert_eq!(
                sim.state().log,
                ["open", "100000", "close 1000 closed by us"]
            );
            let head = "CONNECT server.test:80 HTTP/1.1\r\nHost: server.test:80\r\n";
            if seed == 0 {
                assert_eq!(sim.state().requests, [format!("{head}{authorization}\r\n")]);
            }
        }
    }
}

#[test]
fn a_proxy_that_makes_no_tunnel_is_named_with_its_answer() {
    let cases = [
        (
            "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n",
            "the proxy answered 407 Proxy Authentication Required",
        ),
        (
            "HTTP/1.1 502 Bad Gateway\r\n\r\n",
            "the proxy answered 502 Bad Gateway",
        ),
        (
            "SSH-2.0-OpenSSH\r\n",
            "the proxy's answer is not HTTP/1.1: a malformed status line",
        ),
        ("", "the proxy ended the connection without an answer"),
        (
            "HTTP/1.1 200 OK\r\n",
            "the proxy ended the connection without an answer",
        ),
    ];
    for (answer, why) in cases {
        let mut sim = Sim::new(Tunnels::default(), move |reactor: &mut Reactor<Tunnels>| {
            reactor.stream("0.0.0.0:3128", move |stream| {
                stream.on_data(move |stream, _| {
                    stream.send(answer);
                    stream.close()
                });
            })
        });
        connect_through(&mut sim, "http://127.0.0.1:3128");
        sim.advance(Duration::from_secs(1));
        assert_eq!(
            sim.state().log,
            [format!("error {why}"), format!("close 1006 {why}")]
        );
    }
}

#[test]
fn a_proxy_that_is_silent_or_absent_ends_at_the_deadline_or_at_once() {
    let mut sim = Sim::new(Tunnels::default(), |reactor: &mut Reactor<Tunnels>| {
        reactor.stream("0.0.0.0:3128", |_| {})
    });
    connect_through(&mut sim, "http://127.0.0.1:3128");
    sim.advance(Duration::from_secs(9));
    assert!(sim.state().log.is_empty());
    sim.advance(Duration::from_millis(1100));
    assert_eq!(
        sim.state().log.last().unwrap(),
        "close 1006 connect deadline passed"
    );
    connect_through(&mut sim, "http://127.0.0.1:3129");
    sim.settle();
    let refused = "close 1006 transport failed: connection refused";
    assert_eq!(sim.state().log.last().unwrap(), refused);
}

#[test]
fn bytes_behind_the_answer_of_a_proxy_belong_to_the_tunnel() {
    let mut sim = Sim::new(Log::new(), |reactor: &mut Reactor<Log>| {
        reactor.stream("0.0.0.0:3128", |stream| {
            stream.on_data(|stream, _| {
                stream.send("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nA: b\r\n\r\n220 hello")
            });
        })?;
        let proxy = HttpProxy::parse("http://127.0.0.1:3128").unwrap();
        let to = ConnectOptions::new("mail.test:25").proxy(proxy);
        reactor.connect_stream(to, |stream| {
            stream.on_open(|stream| stream.state.push("open".to_owned()));
            stream.on_data(|stream, bytes| {
                let text = String::from_utf8_lossy(bytes).into_owned();
                stream.state.push(text);
            });
        })
    });
    sim.settle();
    assert_eq!(*sim.state(), ["open", "220 hello"]);
}

#[test]
fn a_unix_socket_has_no_proxy() {
    let mut sim = Sim::new((), |_: &mut Reactor<()>| ());
    let proxy = HttpProxy::parse("http://127.0.0.1:3128").unwrap();
    let to = ConnectOptions::new("unix:/run/x").proxy(proxy);
    let made = sim.reactor().connect_stream(to, |_| {});
    assert!(made.is_err());
}

#[test]
fn a_link_through_a_proxy_comes_back_when_the_server_is_there() {
    let mut sim = world_with_proxy();
    let proxy = HttpProxy::parse("http://127.0.0.1:3128").unwrap();
    let link = sim.reactor().websocket_link("ws://server.test/", |ws| {
        ws.transport(proxy);
        ws.on_open(|ws, _| ws.state.log.push("open".to_owned()));
    });
    let link = link.unwrap();
    sim.settle();
    let server = *sim.state().other_side.iter().next().unwrap().1;
    sim.reactor().reset(server);
    sim.settle();
    assert!(!link.is_open());
    sim.advance(Duration::from_secs(1));
    assert!(link.is_open());
    assert_eq!(sim.state().log, ["open", "open"]);
}

#[cfg(feature = "tls")]
#[test]
fn a_link_speaks_tls_inside_of_a_tunnel_and_comes_back() {
    use waterwheel::tls::{ClientTls, ServerTls};
    use waterwheel::{ClientTransport, ListenOptions};

    let file = |name: &str| format!("{}/tests/certificates/{name}", env!("CARGO_MANIFEST_DIR"));
    let server = ServerTls::builder().pair(file("server.pem"), file("server.key"));
    let server = server.build().unwrap();
    let client = ClientTls::builder().ca(file("ca.pem")).build().unwrap();
    let cases = [
        ("wss://example.org/", "open"),
        (
            "wss://elsewhere.test/",
            "error TLS failed: the certificate is for another host",
        ),
    ];
    for (url, expected) in cases {
        let mut sim = world_with_proxy();
        let listening = ListenOptions::new("0.0.0.0:443").tls(server.clone());
        let listening = sim.reactor().websocket(listening, |_| {});
        listening.unwrap();
        let proxy = HttpProxy::parse("http://127.0.0.1:3128").unwrap();
        let transport = ClientTransport::default().proxy(proxy).tls(client.clone());
        let link = sim.reactor().websocket_link(url, |ws| {
            ws.transport(transport);
            ws.on_open(|ws, _| ws.state.log.push("open".to_owned()));
            ws.on_error(|ws, cause| ws.state.log.push(format!("error {cause}")));
        });
        let link = link.unwrap();
        sim.settle();
        assert_eq!(sim.state().log, [expected]);
        assert_eq!(link.is_open(), expected == "open");
        let server = sim.state().other_side.iter().next().map(|(_, id)| *id);
        if let Some(server) = server {
            sim.reactor().reset(server);
        }
        sim.advance(Duration::from_millis(600));
        assert_eq!(sim.state().log.last().unwrap(), expected);
        assert!(2 <= sim.state().log.len());
        assert!(sim.state().requests[0].starts_with("CONNECT e"));
    }
}
