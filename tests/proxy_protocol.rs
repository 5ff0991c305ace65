//! Listeners behind a proxy of bytes, which names its client by the PROXY protocol: the client's address where
//! the socket's would be, and limits by that address.

use std::time::Duration;

use waterwheel::{
    ClientCounts, Config, ListenOptions, Network, Origins, Peer, Reactor, Sim, SimStream, Stats,
};

const HEAD: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

const HTTP: u16 = 80;
const WEBSOCKET: u16 = 81;
const STREAM: u16 = 82;

/// The peers of what was opened, and the ends.
type Seen = Vec<String>;

fn name(peer: Peer) -> String {
    match peer.inet() {
        Some(address) => address.to_string(),
        None => format!("{peer:?}"),
    }
}

fn listen(reactor: &mut Reactor<Seen>) -> std::io::Result<()> {
    let at = |port: u16| ListenOptions::new(format!("0.0.0.0:{port}")).proxy_protocol(true);
    reactor.http(at(HTTP), |http| {
        http.get("/", |request| request.reply(name(request.peer())));
    })?;
    reactor.websocket(at(WEBSOCKET), |ws| {
        ws.on_open(|ws, _| {
            let peer = name(ws.peer());
            ws.state.push(peer);
        });
        ws.on_close(|ws, _| ws.state.push("websocket closed".into()));
    })?;
    reactor.stream(at(STREAM), |stream| {
        stream.on_open(|stream| {
            let peer = name(stream.peer());
            stream.state.push(peer);
        });
        stream.on_data(|stream, bytes| {
            let bytes = bytes.to_vec();
            stream.send(bytes)
        });
        stream.on_close(|stream, _| stream.state.push("stream closed".into()));
    })?;
    Ok(())
}

fn proxied_with(config: Config) -> Sim<Seen> {
    Sim::with_config(config, Seen::new(), listen)
}

fn proxied() -> Sim<Seen> {
    proxied_with(Config::default())
}

fn header(client: &str) -> String {
    let family = if client.contains(':') { "TCP6" } else { "TCP4" };
    let proxy = if client.contains(':') {
        "::1"
    } else {
        "127.0.0.1"
    };
    format!("PROXY {family} {client} {proxy} 4711 80\r\n")
}

/// A client at this address that has sent its header and these bytes.
fn client(sim: &mut Sim<Seen>, port: u16, address: &str, bytes: &str) -> SimStream {
    let stream = sim.connect_port(port);
    stream.write(header(address) + bytes);
    sim.settle();
    stream
}

fn stats(sim: &mut Sim<Seen>) -> Stats {
    sim.reactor().stats().clone()
}

#[test]
fn the_client_that_the_proxy_names_is_the_peer() {
    let mut sim = proxied();
    let http = client(&mut sim, HTTP, "203.0.113.7", HEAD);
    assert!(http.read_text().ends_with("203.0.113.7:4711"));
    let websocket = client(&mut sim, WEBSOCKET, "2001:db8::7", UPGRADE);
    assert!(websocket.read_text().starts_with("HTTP/1.1 101"));
    let stream = client(&mut sim, STREAM, "203.0.113.8", "hello");
    assert_eq!(stream.read_text(), "hello");
    assert_eq!(*sim.state(), ["[2001:db8::7]:4711", "203.0.113.8:4711"]);
}

#[test]
fn both_versions_are_read() {
    let mut sim = proxied();
    let binary = |command: u8, family: u8, addresses: &[u8]| {
        let mut bytes = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
        bytes.extend([0x20 | command, family, 0, addresses.len() as u8]);
        bytes.extend(addresses);
        bytes
    };
    let v4 = [203, 0, 113, 7, 192, 0, 2, 1, 0x12, 0x67, 0, 80];
    // The socket's own address, which a simulation calls `Memory`.
    let own = "Memory";
    let cases = [
        (b"PROXY UNKNOWN\r\n".to_vec(), own),
        (binary(1, 0x11, &v4), "203.0.113.7:4711"),
        (
            binary(1, 0x11, &[&v4[..], b"\x04\0\x01x"].concat()),
            "203.0.113.7:4711",
        ),
        (binary(1, 0x31, &[0; 216]), "Unix"),
        (binary(0, 0x00, b""), own),
    ];
    for (header, expected) in cases {
        let client = sim.connect_port(HTTP);
        client.write([&header[..], HEAD.as_bytes()].concat());
        sim.settle();
        assert!(client.read_text().ends_with(expected), "{expected}");
    }
}

#[test]
fn a_header_may_come_in_pieces() {
    let mut sim = proxied();
    let bytes = header("203.0.113.7") + HEAD;
    for cut in 1..bytes.len() {
        let client = sim.connect_port(HTTP);
        client.write(&bytes[..cut]);
        sim.settle();
        client.write(&bytes[cut..]);
        sim.settle();
        assert!(client.read_text().ends_with("203.0.113.7:4711"), "{cut}");
    }
    let bytes = header("203.0.113.7") + "hello";
    let client = sim.connect_port(STREAM);
    for byte in bytes.chars() {
        client.write(byte.to_string());
        sim.settle();
    }
    assert_eq!(client.read_text(), "hello");
}

// Otherwise a client that reaches the listener past the proxy would have whatever address it likes.
#[test]
fn a_connection_without_a_header_reaches_no_callback() {
    let mut sim = proxied();
    for (port, bytes) in [
        (HTTP, HEAD),
        (WEBSOCKET, UPGRADE),
        (STREAM, "hello"),
        (STREAM, "PROXY TCP4 203.0.113.7\r\nhello"),
    ] {
        let client = sim.connect_port(port);
        client.write(bytes);
        sim.settle();
        assert!(client.is_closed(), "{port} {bytes}");
        assert_eq!(client.read_text(), "");
    }
    // The end of the stream inside the header, and a check of the port.
    for (bytes, errors) in [("PROXY TCP4", 5), ("", 5)] {
        let client = sim.connect_port(STREAM);
        client.write(bytes);
        client.finish();
        sim.settle();
        assert!(client.is_closed());
        assert_eq!(stats(&mut sim).proxy_header_errors, errors);
    }
    assert!(sim.state().is_empty());
    assert_eq!(sim.reactor().connection_count(), 0);
    assert_eq!(stats(&mut sim).closed, 6);
}

#[test]
fn a_header_that_does_not_come_has_a_deadline() {
    let mut sim = proxied();
    let clients = [HTTP, WEBSOCKET, STREAM].map(|port| sim.connect_port(port));
    clients[1].write("PROXY TCP4 ");
    sim.settle();
    sim.advance(Duration::from_secs(9));
    assert!(clients.iter().all(|client| !client.is_closed()));
    sim.advance(Duration::from_secs(2));
    assert!(clients.iter().all(|client| client.is_closed()));
    assert!(sim.state().is_empty());
    assert_eq!(sim.reactor().connection_count(), 0);
}

#[test]
fn an_end_of_stream_behind_the_header_is_delivered() {
    let mut sim = proxied();
    let client = sim.connect_port(STREAM);
    client.write(header("203.0.113.7") + "hello");
    client.finish();
    sim.settle();
    assert_eq!(*sim.state(), ["203.0.113.7:4711", "stream closed"]);
}

#[test]
fn bytes_behind_the_header_wait_for_a_stream_that_pauses() {
    let mut sim = Sim::new(Seen::new(), |reactor: &mut Reactor<Seen>| {
        let options = ListenOptions::new("0.0.0.0:80").proxy_protocol(true);
        reactor.stream(options, |stream| {
            stream.on_open(|stream| {
                let id = stream.id;
                stream.reactor.pause(id);
                let resume = Duration::from_secs(1);
                stream
                    .reactor
                    .after(resume, move |cx| cx.reactor.resume(id));
            });
            stream.on_data(|stream, bytes| {
                let text = String::from_utf8_lossy(bytes).into_owned();
                stream.state.push(text);
            });
        })
    });
    let client = sim.connect();
    client.write(header("203.0.113.7") + "hello");
    sim.settle();
    assert!(sim.state().is_empty());
    sim.advance(Duration::from_secs(2));
    assert_eq!(*sim.state(), ["hello"]);
}

#[test]
fn connections_that_wait_for_their_header_end_with_the_loop_and_with_a_drain() {
    let mut sim = proxied();
    let _waiting = sim.connect_port(STREAM);
    sim.settle();
    sim.reactor().drain(Duration::from_secs(1));
    sim.advance(Duration::from_secs(2));
    assert_eq!(sim.reactor().connection_count(), 0);
    let mut sim = proxied();
    let _waiting = sim.connect_port(STREAM);
    sim.settle();
    sim.reactor().stop();
    sim.settle();
    assert!(sim.state().is_empty());
}

// ── limits by address ───────────────────────────────────────────────────────────────────────────

#[test]
fn limits_by_address_hold_for_every_kind_of_listener() {
    let mut sim = proxied_with(Config {
        connections_per_address_max: Some(3),
        ..Config::default()
    });
    let websocket = client(&mut sim, WEBSOCKET, "203.0.113.7", UPGRADE);
    let stream = client(&mut sim, STREAM, "203.0.113.7", "a");
    let http = client(&mut sim, HTTP, "203.0.113.7", HEAD);
    assert_eq!(stream.read_text(), "a");
    sim.state().clear();

    let refused = client(&mut sim, WEBSOCKET, "203.0.113.7", UPGRADE);
    assert!(refused.read_text().starts_with("HTTP/1.1 429"));
    let refused = client(&mut sim, HTTP, "203.0.113.7", HEAD);
    assert!(refused.read_text().starts_with("HTTP/1.1 429"));
    let refused = client(&mut sim, STREAM, "203.0.113.7", "a");
    assert!(refused.is_closed());
    assert_eq!(refused.read_text(), "");
    // A connection that is refused has no callbacks.
    assert!(sim.state().is_empty());
    assert_eq!(stats(&mut sim).address_refusals, 3);

    let other = client(&mut sim, STREAM, "203.0.113.8", "b");
    assert_eq!(other.read_text(), "b");
    stream.finish();
    sim.settle();
    let again = client(&mut sim, STREAM, "203.0.113.7", "c");
    assert_eq!(again.read_text(), "c");
    drop((websocket, http));
}

#[test]
fn clients_of_a_loopback_address_are_not_counted() {
    let mut sim = proxied_with(Config {
        connections_per_address_max: Some(1),
        ..Config::default()
    });
    // All are held: a client that has gone has given its place back.
    let addresses = ["127.0.0.1", "127.0.0.1", "::1", "::1", "203.0.113.7"];
    let held = addresses.map(|address| client(&mut sim, STREAM, address, "a"));
    assert!(held.iter().all(|client| client.read_text() == "a"));
    assert!(client(&mut sim, STREAM, "203.0.113.7", "a").is_closed());
}

// A client of IPv6 has a network of 64 bits for itself.
#[test]
fn clients_of_one_network_of_ipv6_are_counted_together() {
    let mut sim = proxied_with(Config {
        connections_per_address_max: Some(2),
        ..Config::default()
    });
    let addresses = ["2001:db8:0:1::1", "2001:db8:0:1:ffff::2", "2001:db8:0:2::1"];
    let held = addresses.map(|address| client(&mut sim, STREAM, address, "a"));
    assert!(held.iter().all(|client| client.read_text() == "a"));
    let third = client(&mut sim, STREAM, "2001:db8:0:1::3", "a");
    assert!(third.is_closed());
    assert_eq!(stats(&mut sim).address_refusals, 1);
    let [first, ..] = held;
    first.finish();
    sim.settle();
    let again = client(&mut sim, STREAM, "2001:db8:0:1::3", "b");
    assert_eq!(again.read_text(), "b");
}

#[test]
fn a_trusted_proxy_is_known_by_the_address_that_the_header_names() {
    let mut sim = proxied_with(Config {
        connections_per_address_max: Some(1),
        trusted_proxies: vec!["10.0.0.0/8".parse::<Network>().unwrap()],
        ..Config::default()
    });
    let forwarded = HEAD.replace("Host", "X-Forwarded-For: 203.0.113.7\r\nHost");
    let first = client(&mut sim, HTTP, "10.0.0.1", &forwarded);
    assert!(first.read_text().starts_with("HTTP/1.1 200"));
    let second = client(&mut sim, HTTP, "10.0.0.2", &forwarded);
    assert!(second.read_text().starts_with("HTTP/1.1 429"));
    // A stranger's header says nothing.
    let stranger = client(&mut sim, HTTP, "203.0.113.8", &forwarded);
    assert!(stranger.read_text().starts_with("HTTP/1.1 200"));
}

// Each request of a trusted proxy names the client again.
#[test]
fn later_requests_of_a_connection_are_no_handshakes() {
    let mut sim = proxied_with(Config {
        handshakes_per_second_max: Some(1),
        trusted_proxies: vec!["10.0.0.0/8".parse::<Network>().unwrap()],
        ..Config::default()
    });
    let forwarded = HEAD.replace("Host", "X-Forwarded-For: 203.0.113.7\r\nHost");
    let held = client(&mut sim, HTTP, "10.0.0.1", &forwarded);
    for _ in 0..3 {
        assert!(held.read_text().starts_with("HTTP/1.1 200"));
        held.write(&forwarded);
        sim.settle();
    }
    let second = client(&mut sim, HTTP, "10.0.0.1", &forwarded);
    assert!(second.read_text().starts_with("HTTP/1.1 429"));
}

#[test]
fn reactors_that_share_their_counts_have_one_limit() {
    let config = Config {
        connections_per_address_max: Some(2),
        ..Config::default()
    };
    let counts = ClientCounts::default();
    let mut sims = [(); 2].map(|()| {
        let mut sim = proxied_with(config.clone());
        sim.reactor().share_client_counts(&counts);
        sim
    });
    let held: Vec<_> = sims
        .iter_mut()
        .map(|sim| client(sim, STREAM, "203.0.113.7", "a"))
        .collect();
    assert!(held.iter().all(|client| client.read_text() == "a"));
    for sim in &mut sims {
        assert!(client(sim, STREAM, "203.0.113.7", "a").is_closed());
    }
    // A reactor that ends gives back what it has counted.
    let [first, mut second] = sims;
    drop(first);
    let again = client(&mut second, STREAM, "203.0.113.7", "b");
    assert_eq!(again.read_text(), "b");
}

// ── the scheme ──────────────────────────────────────────────────────────────────────────────────

// Where the scheme is known, a page that was loaded without TLS is not a page of the server.
#[test]
fn a_page_of_the_other_scheme_is_of_another_origin_where_a_trusted_proxy_says_the_scheme() {
    let config = Config {
        trusted_proxies: vec!["10.0.0.0/8".parse::<Network>().unwrap()],
        ..Config::default()
    };
    let mut sim = Sim::with_config(config, Seen::new(), |reactor| {
        let options = ListenOptions::new("0.0.0.0:80").proxy_protocol(true);
        reactor.http(options, |http| {
            http.origins(Origins::Listed {
                origins: vec!["http://listed.example.org".into()],
                absent: false,
            });
            http.get("/", |request| {
                request.reply(if request.is_secure() {
                    "https"
                } else {
                    "unknown"
                })
            });
        })
    });
    let mut status = |peer: &str, origin: &str, lines: &str| {
        let head = format!("GET / HTTP/1.1\r\nHost: h\r\nOrigin: {origin}\r\n{lines}\r\n");
        let stream = client(&mut sim, HTTP, peer, &head);
        let answer = stream.read_text();
        (answer[9..12].to_owned(), answer.ends_with("https"))
    };
    let (served, secure, refused) = (("200", false), ("200", true), ("403", false));
    let https = "X-Forwarded-Proto: https\r\n";
    let http = "Forwarded: for=203.0.113.7;proto=http\r\n";
    let cases = [
        ("10.0.0.1", "https://h", https, secure),
        ("10.0.0.1", "http://h", https, refused),
        ("10.0.0.1", "http://h", http, served),
        ("10.0.0.1", "https://h", http, refused),
        ("10.0.0.1", "http://listed.example.org", https, secure),
        ("10.0.0.1", "http://h", "", served),
        ("10.0.0.1", "https://h", "", served),
        // A stranger's header says nothing.
        ("203.0.113.7", "http://h", https, served),
        ("203.0.113.7", "https://h", http, served),
    ];
    for (peer, origin, lines, (expected, is_secure)) in cases {
        let expected = (expected.to_owned(), is_secure);
        assert_eq!(
            status(peer, origin, lines),
            expected,
            "{peer} {origin} {lines:?}"
        );
    }
    let contradiction = https.to_owned() + http;
    assert_eq!(status("10.0.0.1", "https://h", &contradiction).0, "400");
}

// ── handshakes in all ───────────────────────────────────────────────────────────────────────────

fn at_most_two_a_second() -> Config {
    Config {
        handshakes_per_second_total_max: Some(2),
        ..Config::default()
    }
}

#[test]
fn more_handshakes_than_all_may_make_in_a_second_wait() {
    let mut sim = proxied_with(at_most_two_a_second());
    let clients: Vec<_> = (1..=5)
        .map(|host| {
            let stream = sim.connect_port(STREAM);
            stream.write(header(&format!("203.0.113.{host}")) + "a");
            stream
        })
        .collect();
    sim.settle();
    assert_eq!(sim.state().len(), 2);
    sim.advance(Duration::from_millis(1100));
    assert_eq!(sim.state().len(), 4);
    sim.advance(Duration::from_millis(1100));
    assert_eq!(sim.state().len(), 5);
    assert!(clients.iter().all(|client| client.read_text() == "a"));
    assert!(2 <= stats(&mut sim).handshake_pauses);
}

#[test]
fn reactors_that_share_their_counts_have_the_handshakes_together() {
    let counts = ClientCounts::default();
    let mut sims = [(); 2].map(|()| {
        let mut sim = proxied_with(at_most_two_a_second());
        sim.reactor().share_client_counts(&counts);
        sim
    });
    let mut clients = Vec::new();
    for sim in &mut sims {
        for host in 1..=2 {
            clients.push(client(sim, STREAM, &format!("203.0.113.{host}"), "a"));
        }
    }
    assert_eq!(sims.map(|mut sim| sim.state().len()), [2, 0]);
}

// One address that has too many could otherwise keep all others out.
#[test]
fn a_connection_that_is_refused_for_its_address_does_not_count_for_all() {
    let mut sim = proxied_with(Config {
        connections_per_address_max: Some(1),
        handshakes_per_second_total_max: Some(3),
        ..Config::default()
    });
    let _held = client(&mut sim, STREAM, "203.0.113.7", "a");
    for _ in 0..10 {
        assert!(client(&mut sim, STREAM, "203.0.113.7", "a").is_closed());
    }
    let other = client(&mut sim, STREAM, "203.0.113.8", "b");
    assert_eq!(other.read_text(), "b");
}

#[test]
fn a_listener_on_a_loopback_address_does_not_pause_for_handshakes() {
    let mut sim = proxied_with(at_most_two_a_second());
    let listening = sim.reactor().stream("127.0.0.1:90", |stream| {
        stream.on_open(|stream| stream.send("local"))
    });
    listening.unwrap();
    let _clients: Vec<_> = (1..=3)
        .map(|host| client(&mut sim, STREAM, &format!("203.0.113.{host}"), "a"))
        .collect();
    assert_eq!(sim.state().len(), 2);
    for _ in 0..5 {
        let local = sim.connect_port(90);
        sim.settle();
        assert_eq!(local.read_text(), "local");
    }
}
