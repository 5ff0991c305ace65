//! Streams over TLS in a simulation.

use super::*;
use waterwheel::{Sent, Stream};

#[test]
fn an_echo_comes_back_over_tls_in_a_simulation() {
    for version in VERSIONS {
        let mut sim = echo_sim();
        let mut peer = Peer::new(sim.connect(), client_config(&[version]));
        peer.settle(&mut sim);
        assert_eq!(sim.state(), &["open"]);
        for length in [1, 20, 16 * 1024, 16 * 1024 + 1, 50_000] {
            let message: Vec<u8> = (0..length).map(|n| n as u8).collect();
            peer.send(&message);
            peer.settle(&mut sim);
            assert!(peer.received() == message, "{version:?}: {length} bytes");
        }
        peer.tls.send_close_notify();
        peer.settle(&mut sim);
        assert_eq!(sim.state(), &["open", "closed: closed by peer"]);
        assert!(peer.stream.is_closed());
    }
}

#[test]
fn a_client_and_a_server_of_one_simulation_speak_tls() {
    for version in VERSIONS {
        let mut sim = echo_sim();
        let tls = ClientTls::new(client_config(&[version]));
        let options = ConnectOptions::new("localhost:443").tls(tls);
        let connecting = sim.reactor().connect_stream(options, |stream| {
            stream.on_open(|stream| stream.send("hello"));
            stream.on_data(|stream, bytes| {
                let text = String::from_utf8_lossy(bytes).into_owned();
                stream.state.push(text);
                stream.close()
            });
            stream.on_close(|stream, close| stream.state.push(format!("client: {}", close.cause)));
        });
        connecting.unwrap();
        sim.settle();
        let expected = [
            "open",
            "hello",
            "client: closed by us",
            "closed: closed by peer",
        ];
        assert_eq!(sim.state(), &expected);
    }
}

/// How a Sim is made in which both sides speak WebSocket over TLS; the state logs what they get.
fn websocket_echo(reactor: &mut Reactor<Log>) {
    let options = ListenOptions::new("0.0.0.0:443").tls(server_tls("server"));
    let listening = reactor.websocket(options, |ws| {
        ws.on_message(|ws, message| ws.send(message));
        ws.on_close(|ws, close| ws.state.push(format!("server: {close}")));
    });
    listening.unwrap();
}

const WEBSOCKET_REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A whole conversation of a WebSocket over TLS, whose bytes go to the server in pieces of so many
/// bytes, and whose answers come through a socket of so much room.
fn converse(version: &'static SupportedProtocolVersion, piece_bytes: usize, room_bytes: usize) {
    let mut sim = Sim::new(Log::new(), websocket_echo);
    sim.socket_bytes(room_bytes);
    let mut peer = Peer::new(sim.connect(), client_config(&[version]));
    peer.piece_bytes = piece_bytes;
    peer.send(WEBSOCKET_REQUEST);
    peer.settle(&mut sim);
    let answer = peer.received();
    assert!(
        answer.starts_with(b"HTTP/1.1 101 "),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    // Masked by zeros: a text of 5 bytes, one of 300, and a close frame.
    peer.send(b"\x81\x85\0\0\0\0hello");
    peer.settle(&mut sim);
    assert_eq!(peer.received(), b"\x81\x05hello");
    let long = [&b"\x81\xfe\x01\x2c\0\0\0\0"[..], &[b'x'; 300]].concat();
    peer.send(&long);
    peer.settle(&mut sim);
    assert_eq!(
        peer.received(),
        [&b"\x81\x7e\x01\x2c"[..], &[b'x'; 300]].concat()
    );
    peer.send(b"\x88\x82\0\0\0\0\x03\xe8");
    peer.settle(&mut sim);
    assert_eq!(peer.received(), b"\x88\x02\x03\xe8");
    assert!(peer.has_close_notify);
    assert_eq!(sim.state(), &["server: 1000 closed by peer"]);
}

#[test]
fn a_conversation_cut_at_every_byte_is_the_same() {
    for version in VERSIONS {
        converse(version, 1, 64 * 1024);
        // Each write of the server is short, and goes on when the peer has read.
        converse(version, 64 * 1024, 1);
        for bytes in [2, 3, 5, 7, 100, 1000] {
            converse(version, bytes, bytes);
        }
    }
}

#[test]
fn a_client_and_a_server_speak_through_a_faulty_network() {
    let faults = Faults {
        short_reads_percent: 40,
        short_writes_percent: 40,
        refused_writes_percent: 20,
        ..Faults::default()
    };
    for seed in 0..60 {
        let version = VERSIONS[seed as usize % 2];
        let mut sim = echo_sim();
        sim.faults(seed, faults);
        let tls = ClientTls::new(client_config(&[version]));
        let options = ConnectOptions::new("localhost:443").tls(tls);
        let message = vec![b'x'; 100_000];
        let mut got = 0;
        let connecting = sim.reactor().connect_stream(options, move |stream| {
            stream.on_open(move |stream| stream.send(&message[..]));
            stream.on_data(move |stream, bytes| {
                got += bytes.len();
                if got == 100_000 {
                    stream.close();
                }
            });
            stream.on_close(|stream, close| stream.state.push(format!("client: {}", close.cause)));
        });
        connecting.unwrap();
        sim.settle();
        let expected = ["open", "client: closed by us", "closed: closed by peer"];
        assert_eq!(sim.state(), &expected, "seed {seed}");
    }
}

#[test]
fn connections_that_are_reset_at_any_moment_end_once() {
    let faults = Faults {
        short_reads_percent: 20,
        short_writes_percent: 20,
        resets_percent: 10,
        ..Faults::default()
    };
    for seed in 0..200 {
        let version = VERSIONS[seed as usize % 2];
        let mut sim = echo_sim();
        sim.faults(seed, faults);
        let tls = ClientTls::new(client_config(&[version]));
        let options = ConnectOptions::new("localhost:443").tls(tls);
        let connecting = sim.reactor().connect_stream(options, |stream| {
            stream.on_open(|stream| stream.send(vec![b'x'; 50_000]));
            stream.on_close(|stream, _| stream.state.push("client ended".into()));
        });
        connecting.unwrap();
        sim.advance(Duration::from_secs(120));
        let ends = sim.state().iter().filter(|line| *line == "client ended");
        assert!(ends.count() <= 1, "seed {seed}");
        let opens = sim.state().iter().filter(|line| *line == "open").count();
        let closes = sim
            .state()
            .iter()
            .filter(|line| line.starts_with("closed"))
            .count();
        assert!(closes <= opens, "seed {seed}: {:?}", sim.state());
    }
}

#[test]
fn a_stream_that_ends_without_close_notify_is_cut() {
    for version in VERSIONS {
        let mut sim = echo_sim();
        let mut peer = Peer::new(sim.connect(), client_config(&[version]));
        peer.send(b"x");
        peer.settle(&mut sim);
        peer.stream.finish();
        sim.settle();
        let expected = ["open", "closed: transport failed: unexpected end of file"];
        assert_eq!(sim.state(), &expected);
    }
}

#[test]
fn each_side_may_end_before_the_other() {
    for version in VERSIONS {
        let mut sim = Sim::new(Log::new(), |reactor: &mut Reactor<Log>| {
            let options = ListenOptions::new("0.0.0.0:443").tls(server_tls("server"));
            let listening = reactor.stream(options, |stream| {
                stream.on_data(|stream, bytes| {
                    if bytes == b"end" {
                        stream.send("our end");
                        stream.finish();
                    } else {
                        let text = String::from_utf8_lossy(bytes).into_owned();
                        stream.state.push(text);
                    }
                });
                stream.on_end(|stream| {
                    stream.send("after your end");
                    stream.close();
                });
                stream.on_close(|stream, close| stream.state.push(close.cause.to_string()));
            });
            listening.unwrap();
        });
        // The server ends its side first, and still gets what comes.
        let mut peer = Peer::new(sim.connect(), client_config(&[version]));
        peer.send(b"end");
        peer.settle(&mut sim);
        assert_eq!(peer.received(), b"our end");
        assert!(peer.has_close_notify);
        peer.send(b"still here");
        peer.settle(&mut sim);
        peer.tls.send_close_notify();
        peer.settle(&mut sim);
        // The client ends its side first, and still gets what comes.
        let mut peer = Peer::new(sim.connect(), client_config(&[version]));
        peer.settle(&mut sim);
        peer.tls.send_close_notify();
        peer.settle(&mut sim);
        assert_eq!(peer.received(), b"after your end");
        assert!(peer.has_close_notify);
        let expected = ["still here", "closed by us", "closed by us"];
        assert_eq!(sim.state(), &expected, "{version:?}");
    }
}

// Requests and messages say themselves where they end, and many peers leave without close_notify.
#[test]
fn a_websocket_that_ends_without_close_notify_is_closed_by_its_peer() {
    let mut sim = Sim::new(Log::new(), websocket_echo);
    let mut peer = Peer::new(sim.connect(), client_config(&VERSIONS));
    peer.send(WEBSOCKET_REQUEST);
    peer.settle(&mut sim);
    peer.stream.finish();
    sim.settle();
    assert_eq!(sim.state(), &["server: 1006 closed by peer"]);
}

#[test]
fn a_request_over_tls_is_secure() {
    let mut sim = Sim::new((), |reactor: &mut Reactor<()>| {
        let options = ListenOptions::new("0.0.0.0:443").tls(server_tls("server"));
        reactor.http(options, |http| {
            http.get("/", |request| {
                request.reply(format!("secure: {}", request.is_secure()))
            });
        })
    });
    let mut peer = Peer::new(sim.connect(), client_config(&VERSIONS));
    peer.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    peer.settle(&mut sim);
    assert!(peer.received().ends_with(b"\r\n\r\nsecure: true"));
}

#[test]
fn a_key_update_that_the_peer_asks_for_is_answered() {
    let mut sim = echo_sim();
    let mut peer = Peer::new(sim.connect(), client_config(&[&version::TLS13]));
    peer.settle(&mut sim);
    for _ in 0..3 {
        peer.tls.refresh_traffic_keys().unwrap();
        peer.settle(&mut sim);
        peer.send(b"hello");
        peer.settle(&mut sim);
        assert_eq!(peer.received(), b"hello");
    }
}

#[test]
fn the_header_of_a_proxy_comes_before_the_handshake() {
    let mut sim = Sim::new(Log::new(), |reactor: &mut Reactor<Log>| {
        let options = ListenOptions::new("0.0.0.0:443").tls(server_tls("server"));
        let listening = reactor.stream(options.proxy_protocol(true), |stream| {
            stream.on_open(|stream| {
                let peer = stream.peer().to_string();
                stream.state.push(peer);
            });
            stream.on_data(|stream, bytes| stream.send(bytes));
        });
        listening.unwrap();
    });
    for is_cut in [false, true] {
        let stream = sim.connect();
        stream.write("PROXY TCP4 203.0.113.7 192.0.2.1 4711 443\r\n");
        if is_cut {
            sim.settle();
        }
        let mut peer = Peer::new(stream, client_config(&VERSIONS));
        peer.send(b"hello");
        peer.settle(&mut sim);
        assert_eq!(peer.received(), b"hello");
    }
    assert_eq!(sim.state(), &["203.0.113.7:4711"; 2]);
}

// ── start_tls ────────────────────────────────────────────────────────────────────────────────────

/// A server that begins TLS when it is asked to, with a long answer in front.
fn starttls_server(reactor: &mut Reactor<Log>, answer_bytes: usize) {
    let tls = server_tls("server");
    let listening = reactor.stream("0.0.0.0:25", move |stream| {
        let tls = tls.clone();
        stream.on_data(move |stream, bytes| {
            if bytes == b"STARTTLS" {
                stream.send(vec![b'.'; answer_bytes]);
                stream.send("ready");
                stream.reactor.start_tls(stream.id, tls.clone()).unwrap();
                // Waits for the handshake.
                stream.send("secret");
            } else {
                stream.send(bytes);
            }
        });
        stream.on_tls(|stream| stream.state.push("server speaks TLS".into()));
        stream.on_close(|stream, close| stream.state.push(format!("server: {}", close.cause)));
    });
    listening.unwrap();
}

#[test]
fn both_sides_begin_tls_on_an_open_stream() {
    for answer_bytes in [0, 200_000] {
        let mut sim = Sim::new(Log::new(), |reactor| starttls_server(reactor, answer_bytes));
        let tls = ca().server_name("localhost");
        let mut answer = Vec::new();
        let mut is_secure = false;
        let connecting = sim.reactor().connect_stream("localhost:25", move |stream| {
            stream.on_open(|stream| stream.send("STARTTLS"));
            stream.on_data(move |stream, bytes| {
                answer.extend_from_slice(bytes);
                if !is_secure && answer.ends_with(b"ready") {
                    is_secure = true;
                    stream.reactor.start_tls(stream.id, tls.clone()).unwrap();
                    stream.send("hello");
                }
                if answer.ends_with(b"hello") {
                    let length = answer.len();
                    stream.state.push(format!("{length} bytes"));
                    stream.close();
                }
            });
            stream.on_tls(|stream| stream.state.push("client speaks TLS".into()));
        });
        connecting.unwrap();
        sim.settle();
        let length = answer_bytes + "readysecrethello".len();
        let expected = [
            "client speaks TLS".to_owned(),
            "server speaks TLS".into(),
            format!("{length} bytes"),
            "server: closed by peer".into(),
        ];
        assert_eq!(sim.state(), &expected);
    }
}

// A client that does not wait for the answer to its command.
#[test]
fn a_handshake_may_begin_in_the_segment_of_the_command() {
    let mut sim = Sim::new(Log::new(), |reactor: &mut Reactor<Log>| {
        let tls = server_tls("server");
        let listening = reactor.stream("0.0.0.0:25", move |stream| {
            stream.on_data(
                move |stream, bytes| match bytes.strip_prefix(b"STARTTLS\r\n") {
                    Some(rest) => stream
                        .reactor
                        .start_tls_with(stream.id, tls.clone(), rest)
                        .unwrap(),
                    None => {
                        stream.send(bytes);
                    }
                },
            );
            stream.on_close(|stream, close| stream.state.push(close.cause.to_string()));
        });
        listening.unwrap();
    });
    for cut in [0, 1, 5, 100] {
        let mut peer = Peer::new(sim.connect(), client_config(&VERSIONS));
        let hello = peer.take_flight();
        let (first, rest) = hello.split_at(cut);
        peer.stream.write([b"STARTTLS\r\n", first].concat());
        peer.stream.write(rest);
        sim.settle();
        peer.send(b"hello");
        peer.settle(&mut sim);
        assert_eq!(peer.received(), b"hello", "{cut} bytes");
        // The rest in a segment of its own.
        let mut peer = Peer::new(sim.connect(), client_config(&VERSIONS));
        let hello = peer.take_flight();
        let (first, rest) = hello.split_at(cut);
        peer.stream.write([b"STARTTLS\r\n", first].concat());
        sim.settle();
        peer.stream.write(rest);
        sim.settle();
        peer.send(b"hello");
        peer.settle(&mut sim);
        assert_eq!(peer.received(), b"hello", "{cut} bytes");
    }
    let client = sim.connect();
    client.write("STARTTLS\r\nMAIL FROM");
    sim.settle();
    let refused = "TLS failed: a plain HTTP request on a port for TLS";
    assert_eq!(sim.state().last().unwrap(), refused);
}

#[test]
fn tls_begins_only_on_an_open_raw_stream_and_only_once() {
    let mut sim = Sim::new(Log::new(), |reactor| starttls_server(reactor, 0));
    let client = sim.connect();
    client.write("STARTTLS");
    sim.settle();
    assert_eq!(client.read_text(), "ready");
    let mut peer = Peer::new(client, client_config(&VERSIONS));
    peer.settle(&mut sim);
    assert_eq!(peer.received(), b"secret");
    let ids = sim.reactor().stats().tls_handshakes;
    assert_eq!(ids, 1);
    let options = ConnectOptions::new("localhost:25").tls(ca());
    let id = sim.reactor().connect_stream(options, |_| {}).unwrap();
    let again = sim.reactor().start_tls(id, ca().server_name("localhost"));
    let error = again.unwrap_err().to_string();
    assert_eq!(error, "TLS can begin only on an open raw stream without it");
    let without_name = sim.reactor().start_tls(id, ca());
    assert!(without_name.is_err());
}

#[test]
fn a_file_of_several_pieces_is_sent_over_tls() {
    for version in VERSIONS {
        let path = std::env::temp_dir().join(format!("waterwheel-tls-file-{}", std::process::id()));
        let bytes: Vec<u8> = (0..1_000_000_u32).map(|n| (n / 3) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let file = path.clone();
        let mut sim = Sim::new((), |reactor: &mut Reactor<()>| {
            let options = ListenOptions::new("0.0.0.0:443").tls(server_tls("server"));
            reactor.http(options, |http| {
                http.get("/", move |request| {
                    request.reply(Reply::file(file.as_path()))
                })
            })
        });
        let mut peer = Peer::new(sim.connect(), client_config(&[version]));
        peer.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let mut received = Vec::new();
        while received.len() < bytes.len() || !received.ends_with(&bytes) {
            peer.settle(&mut sim);
            let more = peer.received();
            assert!(!more.is_empty(), "{version:?}: {} bytes", received.len());
            received.extend(more);
        }
        std::fs::remove_file(&path).unwrap();
    }
}

/// More than a queue holds below its low watermark.
const WELCOME_BYTES: usize = 300_000;

/// A proxy that speaks TLS with its clients, from their first byte or after a command, and none with its server.
fn tls_proxy(reactor: &mut Reactor<Log>) {
    let serving = reactor.stream("127.0.0.1:7001", |server| {
        server.on_open(|server| server.send(vec![b'w'; WELCOME_BYTES]));
        server.on_data(|server, bytes| server.send(bytes));
    });
    serving.unwrap();
    fn pipe_both_ways(client: &mut Stream<'_, Log>) {
        let server = client.reactor.connect_stream("127.0.0.1:7001", |_| {});
        let server = server.unwrap();
        assert_eq!(client.reactor.pipe(client.id, server), Sent::Queued);
        assert_eq!(client.reactor.pipe(server, client.id), Sent::Queued);
    }
    let options = ListenOptions::new("0.0.0.0:443").tls(server_tls("server"));
    let listening = reactor.stream(options, |stream| {
        stream.on_open(pipe_both_ways);
        stream.on_close(|stream, close| stream.state.push(close.cause.to_string()));
    });
    listening.unwrap();
    let tls = server_tls("server");
    let listening = reactor.stream("0.0.0.0:25", move |stream| {
        let tls = tls.clone();
        stream.on_data(move |stream, _| {
            stream.reactor.start_tls(stream.id, tls.clone()).unwrap();
            // Before the handshake: the server's welcome comes meanwhile.
            pipe_both_ways(stream);
        });
        stream.on_close(|stream, close| stream.state.push(close.cause.to_string()));
    });
    listening.unwrap();
}

#[test]
fn pipes_go_through_tls_and_wait_for_a_handshake() {
    for port in [443, 25] {
        let mut sim = Sim::new(Log::new(), tls_proxy);
        sim.socket_bytes(10_000);
        let client = sim.connect_port(port);
        if port == 25 {
            client.write("STARTTLS");
            sim.settle();
        }
        let mut peer = Peer::new(client, client_config(&VERSIONS));
        peer.settle(&mut sim);
        assert_eq!(peer.received().len(), WELCOME_BYTES, "port {port}");
        let message: Vec<u8> = (0..50_000u32).map(|n| n as u8).collect();
        for _ in 0..3 {
            peer.send(&message);
            peer.settle(&mut sim);
            assert!(peer.received() == message, "port {port}");
        }
        peer.tls.send_close_notify();
        peer.settle(&mut sim);
        assert_eq!(sim.state(), &["closed by peer"], "port {port}");
        assert_eq!(sim.reactor().connection_count(), 0, "port {port}");
    }
}
