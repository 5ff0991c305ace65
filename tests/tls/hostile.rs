//! Peers that break the rules, or none at all: refused, bounded, counted.

use super::*;

/// The alerts of a handshake that ends for another reason than its own: user_canceled, close_notify.
const CANCELED: &[u8] = b"\x15\x03\x03\x00\x02\x01\x5a\x15\x03\x03\x00\x02\x01\x00";

/// The reasons for which handshakes have failed, and how often.
fn failures(sim: &mut Sim<Log>) -> Vec<(&'static str, u64)> {
    sim.reactor().stats().tls_failures.iter().collect()
}

/// A handshake record of so many bytes of a ClientHello that says it is longer.
fn endless_hello() -> Vec<u8> {
    let mut bytes = Vec::new();
    for index in 0..40 {
        bytes.extend_from_slice(b"\x16\x03\x01\x40\x00");
        let header: &[u8] = if index == 0 { b"\x01\xff\xff\xff" } else { b"" };
        bytes.extend_from_slice(header);
        bytes.resize(bytes.len() + 16 * 1024 - header.len(), 0);
    }
    bytes
}

#[test]
fn bytes_that_are_no_handshake_are_refused_and_counted() {
    let one_by_one = |message: &[u8]| {
        let records = message.iter().map(|byte| [0x16, 3, 1, 0, 1, *byte]);
        records.flatten().collect::<Vec<_>>()
    };
    let long_hello = [&b"\x01\x00\xff\xff"[..], &[0; 30_000]].concat();
    let cases: [(&str, Vec<u8>, &str); 9] = [
        ("zeros", vec![0; 100], "protocol"),
        (
            "an SSLv2 hello",
            b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10".to_vec(),
            "protocol",
        ),
        (
            "a record that is too long",
            b"\x16\x03\x01\xff\xff".to_vec(),
            "protocol",
        ),
        (
            "an unknown record",
            b"\x63\x03\x01\x00\x01x".to_vec(),
            "protocol",
        ),
        (
            "data before the handshake",
            b"\x17\x03\x03\x00\x05hello".to_vec(),
            "protocol",
        ),
        (
            "an alert",
            b"\x15\x03\x01\x00\x02\x02\x28".to_vec(),
            "refused",
        ),
        ("a handshake without end", endless_hello(), "protocol"),
        (
            "a hello in records of a byte",
            one_by_one(&long_hello),
            "handshake_too_long",
        ),
        (
            "an empty record",
            b"\x16\x03\x01\x00\x00".repeat(30_000),
            "protocol",
        ),
    ];
    for (name, bytes, reason) in cases {
        let mut sim = echo_sim();
        let client = sim.connect();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let taken = client.write(rest);
            sim.settle();
            if taken == 0 {
                break;
            }
            rest = &rest[taken..];
        }
        assert_eq!(failures(&mut sim), [(reason, 1)], "{name}");
        client.read();
        assert!(client.is_closed(), "{name}");
        sim.advance(Duration::from_secs(60));
        assert_eq!(sim.state(), &Log::new(), "{name}");
        assert_eq!(sim.reactor().connection_count(), 0, "{name}");
    }
}

#[test]
fn a_plain_request_on_a_port_for_tls_gets_a_sentence() {
    for request in ["GET / HTTP/1.1\r\nHost: h\r\n\r\n", "POST", "P"] {
        let mut sim = echo_sim();
        let client = sim.connect();
        client.write(request);
        sim.settle();
        let answer = client.read_text();
        assert!(
            answer.starts_with("HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain"),
            "{answer}"
        );
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())));
        assert_eq!(
            body,
            "This port speaks TLS only: use https:// or wss:// in place of http:// or ws://.\n"
        );
        assert!(client.is_closed());
        assert_eq!(failures(&mut sim), [("plain_http", 1)]);
    }
}

/// The same configuration without the sessions of earlier connections.
fn fresh(config: &ClientConfig) -> Arc<ClientConfig> {
    let mut config = config.clone();
    config.resumption = rustls::client::Resumption::disabled();
    Arc::new(config)
}

/// Sends a part of a handshake and then the end of the stream.
fn cut_handshake(sim: &mut Sim<Log>, stream: &SimStream, bytes: &[u8], context: &str) {
    stream.write(bytes);
    sim.settle();
    stream.finish();
    sim.settle();
    assert_eq!(sim.state(), &Log::new(), "{context}");
    assert_eq!(failures(sim), [("connection_lost", 1)], "{context}");
    sim.advance(Duration::from_secs(60));
    assert_eq!(sim.reactor().connection_count(), 0, "{context}");
}

#[test]
fn a_handshake_that_is_cut_at_any_byte_reaches_no_callback() {
    for version in VERSIONS {
        let config = fresh(&client_config(&[version]));
        let mut sim = echo_sim();
        let hello = Peer::new(sim.connect(), Arc::clone(&config)).take_flight();
        for cut in 0..hello.len() {
            let mut sim = echo_sim();
            let stream = sim.connect();
            let context = format!("{version:?}, byte {cut} of the first flight");
            cut_handshake(&mut sim, &stream, &hello[..cut], &context);
        }
        // The second flight costs key exchanges each time.
        for cut in (0..).step_by(5) {
            let mut sim = echo_sim();
            let mut peer = Peer::new(sim.connect(), Arc::clone(&config));
            peer.exchange(&mut sim);
            let flight = peer.take_flight();
            if flight.len() <= cut {
                break;
            }
            let context = format!("{version:?}, byte {cut} of the second flight");
            cut_handshake(&mut sim, &peer.stream, &flight[..cut], &context);
        }
    }
}

#[test]
fn a_byte_that_is_changed_ends_the_connection() {
    for version in VERSIONS {
        let mut sim = echo_sim();
        let mut peer = Peer::new(sim.connect(), client_config(&[version]));
        peer.settle(&mut sim);
        peer.send(b"hello");
        let mut record = Vec::new();
        peer.tls.write_tls(&mut record).unwrap();
        let last = record.len() - 1;
        record[last] ^= 1;
        peer.stream.write(&record);
        sim.settle();
        let expected = [
            "open",
            "closed: TLS failed: not TLS, or a breach of its rules",
        ];
        assert_eq!(sim.state(), &expected);
        // The alert: bad_record_mac.
        let alert = peer.stream.read();
        assert!(!alert.is_empty() && peer.stream.is_closed());
        let read = peer.tls.read_tls(&mut &alert[..]);
        read.unwrap();
        let error = peer.tls.process_new_packets().unwrap_err();
        assert_eq!(error.to_string(), "received fatal alert: BadRecordMac");
    }
}

#[test]
fn a_handshake_of_one_byte_a_second_is_ended_by_its_deadline() {
    let mut sim = echo_sim();
    let mut peer = Peer::new(sim.connect(), client_config(&VERSIONS));
    let mut flight = Vec::new();
    peer.tls.write_tls(&mut flight).unwrap();
    for byte in flight.iter().take(9) {
        peer.stream.write([*byte]);
        sim.advance(Duration::from_secs(1));
        assert!(!peer.stream.is_closed());
    }
    sim.advance(Duration::from_secs(3));
    assert_eq!(peer.stream.read(), CANCELED);
    assert!(peer.stream.is_closed());
    assert_eq!(failures(&mut sim), [("timeout", 1)]);
    assert_eq!(
        (sim.state().len(), sim.reactor().connection_count()),
        (0, 0)
    );
}

#[test]
fn handshakes_have_a_share_of_each_turn() {
    let mut sim = echo_sim();
    let open = Peer::new(sim.connect(), client_config(&VERSIONS));
    let peers: Vec<_> = (0..50)
        .map(|_| Peer::new(sim.connect(), client_config(&VERSIONS)))
        .collect();
    let mut peers: Vec<_> = [open].into_iter().chain(peers).collect();
    peers[0].settle(&mut sim);
    let flight_of_newcomer = Peer::new(sim.dial(), client_config(&VERSIONS)).take_flight();
    // Each read and write of the server takes a millisecond.
    sim.socket_time(Duration::from_millis(1));
    for peer in &mut peers[1..] {
        let mut flight = Vec::new();
        peer.tls.write_tls(&mut flight).unwrap();
        peer.stream.write(&flight);
    }
    peers[0].send(b"hello");
    let mut flight = Vec::new();
    peers[0].tls.write_tls(&mut flight).unwrap();
    peers[0].stream.write(&flight);
    sim.turn();
    // A step reads and writes: there was time for one or two, and for the connection that was open.
    let answered = peers[1..]
        .iter()
        .filter(|peer| !peer.stream.read().is_empty())
        .count();
    assert!(
        (1..=2).contains(&answered),
        "{answered} handshakes in one turn"
    );
    assert!(!peers[0].stream.read().is_empty());
    // The others come in later turns, before clients that came after them.
    let mut newcomers = Vec::new();
    let mut all = answered;
    while all < 50 {
        let newcomer = Peer::new(sim.dial(), client_config(&VERSIONS));
        newcomer.stream.write(&flight_of_newcomer);
        newcomers.push(newcomer);
        let before = all;
        sim.turn();
        all += peers[1..]
            .iter()
            .filter(|peer| !peer.stream.read().is_empty())
            .count();
        assert!(before < all, "no handshake in a turn");
        assert!(newcomers.iter().all(|peer| peer.stream.read().is_empty()));
    }
}

#[test]
fn messages_in_front_of_a_faulty_record_are_delivered() {
    for version in VERSIONS {
        let mut sim = Sim::new(Log::new(), |reactor: &mut Reactor<Log>| {
            let options = ListenOptions::new("0.0.0.0:443").tls(server_tls("server"));
            let listening = reactor.stream(options, |stream| {
                stream.on_data(|stream, bytes| {
                    let text = String::from_utf8_lossy(bytes).into_owned();
                    stream.state.push(text);
                });
                stream.on_close(|stream, close| stream.state.push(close.cause.to_string()));
            });
            listening.unwrap();
        });
        let mut peer = Peer::new(sim.connect(), client_config(&[version]));
        peer.settle(&mut sim);
        peer.send(b"whole");
        let mut records = peer.take_flight();
        peer.send(b"broken");
        records.extend(peer.take_flight());
        *records.last_mut().unwrap() ^= 1;
        peer.stream.write(&records);
        sim.settle();
        let expected = ["whole", "TLS failed: not TLS, or a breach of its rules"];
        assert_eq!(sim.state(), &expected, "{version:?}");
        assert_eq!(alert(&mut peer), "received fatal alert: BadRecordMac");
    }
}

/// The error that the bytes which have come mean to a client.
fn alert(peer: &mut Peer) -> String {
    let bytes = peer.stream.read();
    let mut input = &bytes[..];
    let mut error = String::new();
    while !input.is_empty() && peer.tls.read_tls(&mut input).is_ok() {
        if let Err(why) = peer.tls.process_new_packets() {
            error = why.to_string();
        }
    }
    error
}

#[test]
fn bytes_behind_close_notify_do_not_destroy_the_answer() {
    for version in VERSIONS {
        let mut sim = Sim::new((), |reactor: &mut Reactor<()>| {
            let options = ListenOptions::new("0.0.0.0:443").tls(server_tls("server"));
            let listening = reactor.stream(options, |stream| {
                stream.on_end(|stream| {
                    stream.send("after your end");
                    stream.close();
                });
            });
            listening.unwrap();
        });
        sim.socket_bytes(400_000);
        let mut peer = Peer::new(sim.connect(), client_config(&[version]));
        peer.settle(&mut sim);
        peer.tls.send_close_notify();
        let mut flight = peer.take_flight();
        flight.resize(300_000, 0);
        assert_eq!(peer.stream.write(&flight), flight.len());
        sim.settle();
        peer.settle(&mut sim);
        assert_eq!(peer.received(), b"after your end", "{version:?}");
        assert!(peer.has_close_notify);
    }
}

/// Writes all of it, while the server takes it.
fn write_all(sim: &mut Sim<Log>, stream: &SimStream, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        bytes = &bytes[stream.write(bytes)..];
        sim.settle();
    }
}

// The socket has room again when the handshake fails, which is not reported twice.
#[test]
fn the_alert_of_a_handshake_leaves_although_its_socket_was_full() {
    for version in VERSIONS {
        let config = fresh(&client_config(&[version]));
        let mut sim = echo_sim();
        let peer = &mut Peer::new(sim.connect(), Arc::clone(&config));
        let flight = peer.take_flight();
        peer.stream.write(&flight);
        sim.settle();
        let answer_bytes = peer.stream.read().len();
        let mut sim = echo_sim();
        sim.socket_bytes(answer_bytes - 100);
        let peer = &mut Peer::new(sim.connect(), config);
        let flight = peer.take_flight();
        write_all(&mut sim, &peer.stream, &flight);
        let answer = peer.stream.read();
        assert_eq!(answer.len(), answer_bytes - 100);
        peer.tls.read_tls(&mut &answer[..]).unwrap();
        peer.tls.process_new_packets().unwrap();
        peer.stream.write(b"\x63\x03\x03\x00\x01x");
        sim.settle();
        let error = alert(peer);
        assert!(
            error.starts_with("received fatal alert"),
            "{version:?}: {error}"
        );
        assert!(peer.stream.is_closed());
        // It lingers for a moment, and not for the whole `close_timeout`.
        assert_eq!(sim.reactor().connection_count(), 1);
        sim.advance(Duration::from_secs(2));
        assert_eq!(sim.reactor().connection_count(), 0);
    }
}

#[test]
fn a_handshake_that_the_server_ends_gets_an_alert() {
    let ends: [(&str, fn(&mut Reactor<Log>)); 2] = [
        ("drain", |reactor| reactor.drain(Duration::ZERO)),
        ("stop", |reactor| reactor.stop()),
    ];
    for (name, end) in ends {
        let mut sim = echo_sim();
        let mut peer = Peer::new(sim.connect(), client_config(&VERSIONS));
        let flight = peer.take_flight();
        peer.stream.write(&flight[..100]);
        sim.settle();
        end(sim.reactor());
        sim.settle();
        assert_eq!(peer.stream.read(), CANCELED, "{name}");
        assert!(peer.stream.is_closed(), "{name}");
        // The peer may be in the middle of its flight.
        peer.stream.write(&flight[100..]);
        sim.settle();
        assert_eq!(sim.state(), &Log::new(), "{name}");
        peer.stream.finish();
        sim.settle();
        assert_eq!(sim.reactor().connection_count(), 0, "{name}");
    }
}

// From there on an alert would have to be encrypted, for which there is no call.
#[test]
fn a_handshake_that_has_keys_is_reset_by_its_deadline() {
    let mut sim = echo_sim();
    let peer = &mut Peer::new(sim.connect(), client_config(&VERSIONS));
    peer.exchange(&mut sim);
    sim.advance(Duration::from_secs(11));
    assert!(peer.stream.is_closed());
    assert_eq!(failures(&mut sim), [("timeout", 1)]);
    assert_eq!(sim.reactor().connection_count(), 0);
}

#[test]
fn a_client_that_ends_its_handshake_says_so() {
    let mut sim = Sim::new(Vec::new(), |reactor: &mut Reactor<Vec<u8>>| {
        reactor.stream("0.0.0.0:443", |stream| {
            stream.on_data(|stream, bytes| stream.state.extend_from_slice(bytes));
        })
    });
    let options = ConnectOptions::new("localhost:443").tls(ca());
    let id = sim.reactor().connect_stream(options, |_| {}).unwrap();
    sim.settle();
    assert_eq!(sim.state()[0], 0x16);
    sim.reactor().close(id);
    sim.settle();
    assert!(sim.state().ends_with(CANCELED));
    assert_eq!(sim.reactor().connection_count(), 0);
}

// A callback that begins TLS and then fails ends the connection while its handshake goes on.
#[test]
fn a_connection_that_lingers_shakes_no_hands() {
    let mut sim = Sim::new(Log::new(), |reactor: &mut Reactor<Log>| {
        let tls = server_tls("server");
        reactor.stream("0.0.0.0:25", move |stream| {
            stream.on_data(move |stream, _| -> Result<(), &str> {
                stream.reactor.start_tls(stream.id, tls.clone()).unwrap();
                Err("no")
            });
        })
    });
    let client = sim.connect();
    client.write("STARTTLS");
    sim.settle();
    client.read();
    assert!(client.is_closed());
    client.finish();
    sim.settle();
    assert_eq!(sim.reactor().connection_count(), 0);
}
