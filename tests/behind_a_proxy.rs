//! The program behind a proxy of bytes, as `serve --proxy-protocol` runs it: real processes and real sockets.

#![cfg(all(unix, feature = "program"))]

mod support;

use std::io::{Read, Write};

use support::{Server, Socket};

/// A connection from this client, and the status of the answer to its request; 0 for a connection that ends
/// without one.
fn ask(server: &Server, header: &str, method: &str, target: &str) -> (u16, Socket) {
    let mut stream = server.connect();
    let head =
        format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
    // A connection without the right header may be reset while this is sent.
    let _ = stream.write_all((header.to_owned() + &head).as_bytes());
    let mut line = [0; 12];
    let status = match stream.read_exact(&mut line) {
        Ok(()) => String::from_utf8_lossy(&line[9..]).parse().unwrap(),
        Err(_) => 0,
    };
    (status, stream)
}

fn header(client: &str) -> String {
    format!("PROXY TCP4 {client} 192.0.2.1 4711 443\r\n")
}

#[test]
fn clients_are_known_by_the_address_in_their_header() {
    let server = Server::start(&[
        "--proxy-protocol",
        "--access-log",
        "--max-connections-per-address",
        "2",
        "--drain-window",
        "0",
    ]);
    let ask = |header: &str| ask(&server, header, "GET", "/healthz");
    let one = header("203.0.113.7");
    let held = [ask(&one), ask(&one)];
    assert_eq!(held.each_ref().map(|(status, _)| *status), [200, 200]);
    assert_eq!(ask(&one).0, 429);
    assert_eq!(ask(&header("203.0.113.8")).0, 200);
    for header in ["", "PROXY TCP4 203.0.113.7\r\n"] {
        assert_eq!(ask(header).0, 0, "{header:?}");
    }
    drop(held);
    while ask(&one).0 != 200 {}
    server.terminate();
    let (_, log) = server.ended();
    assert!(log.contains("203.0.113.7:4711 GET /healthz 200"), "{log}");
    let refusals = log.matches("this listener is for a proxy that speaks the PROXY protocol");
    assert_eq!(refusals.count(), 1, "{log}");
}

// The proxy stands on this machine, and its clients anywhere.
#[test]
fn a_local_listener_behind_a_proxy_of_bytes_is_not_open() {
    let server = Server::start(&["--proxy-protocol"]);
    for header in [
        header("203.0.113.7"),
        header("127.0.0.1"),
        "PROXY UNKNOWN\r\n".into(),
    ] {
        let (status, _) = ask(&server, &header, "POST", "/publish?topic=t");
        assert_eq!(status, 401, "{header}");
    }
    server.terminate();
    let (_, log) = server.ended();
    assert!(log.contains("publishing and patterns are refused"), "{log}");
}

// Each reactor once counted for itself.
#[test]
fn an_address_has_no_more_connections_to_several_reactors_than_to_one() {
    let server = Server::start(&[
        "--proxy-protocol",
        "--reactors",
        "4",
        "--max-connections-per-address",
        "5",
        "--drain-window",
        "0",
    ]);
    let held: Vec<_> = (0..30)
        .map(|_| ask(&server, &header("203.0.113.7"), "GET", "/healthz"))
        .collect();
    let served = held.iter().filter(|(status, _)| *status == 200).count();
    let refused = held.iter().filter(|(status, _)| *status == 429).count();
    assert_eq!((served, refused), (5, 25));
}

#[test]
fn clients_above_the_handshakes_of_a_second_wait_and_are_served() {
    let server = Server::start(&[
        "--proxy-protocol",
        "--handshakes-per-second-total",
        "1",
        "--drain-window",
        "0",
    ]);
    for host in 1..=3 {
        let client = header(&format!("203.0.113.{host}"));
        assert_eq!(ask(&server, &client, "GET", "/healthz").0, 200);
    }
    server.terminate();
    let (_, log) = server.ended();
    let pauses = log.matches("`handshakes_per_second_total_max` allows");
    assert_eq!(pauses.count(), 1, "{log}");
}

// The log once named the proxy with each request.
#[test]
fn the_access_log_has_each_request_and_the_client_that_a_trusted_proxy_names() {
    let server = Server::start(&[
        "--trusted-proxy",
        "127.0.0.0/8",
        "--access-log",
        "--log-format",
        "json",
        "--drain-window",
        "0",
    ]);
    let mut stream = server.connect();
    for line in ["X-Forwarded-For: 203.0.113.7\r\n", ""] {
        let head = format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\n{line}\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"ok\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            answer.extend(byte);
        }
    }
    let path = "x".repeat(4000);
    for broken in [
        "nonsense".to_owned(),
        format!("GET /{path}?token=secret HTTP/1.1\r\nHost: localhost\r\nbad"),
    ] {
        let mut stream = server.connect();
        stream
            .write_all(format!("{broken}\r\n\r\n").as_bytes())
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
    server.terminate();
    let (_, log) = server.ended();
    let requests: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|line: &serde_json::Value| line["message"] == "request")
        .collect();
    assert_eq!(requests.len(), 4, "{log}");
    for request in &requests {
        assert!(0.0 < request["seconds"].as_f64().unwrap(), "{log}");
    }
    assert_eq!(requests[2]["status"], 400);
    assert_eq!(requests[2]["method"], serde_json::Value::Null);
    assert_eq!(requests[3]["method"], "GET");
    let path = requests[3]["path"].as_str().unwrap();
    assert!(
        path.len() < 1100 && path.ends_with("x...(4001 bytes)"),
        "{path}"
    );
    assert_eq!(requests[0]["client"], "203.0.113.7");
    // The proxy's own request.
    assert!(requests[1].get("client").is_none(), "{log}");
}

// Its clients had no address, and shared one count of wrong tokens.
#[test]
fn a_trusted_proxy_on_a_unix_socket_names_its_clients() {
    use std::os::unix::net::UnixStream;
    let name = format!("waterwheel-proxy-{}.sock", std::process::id());
    let path = std::env::temp_dir().join(name);
    let listen = format!("unix:{}", path.display());
    for (is_trusted, client) in [(false, "unix"), (true, "203.0.113.7")] {
        let mut words = vec!["--listen", &listen, "--access-log", "--drain-window", "0"];
        if is_trusted {
            words.extend(["--trusted-proxy", "unix"]);
        }
        let server = Server::start(&words);
        let mut stream = UnixStream::connect(&path).unwrap();
        let head = "POST /publish?topic=a HTTP/1.1\r\nHost: live.example.org\r\nContent-Length: 0\r\n\
                    X-Forwarded-For: 203.0.113.7\r\nConnection: close\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
        drop(stream);
        server.terminate();
        let (_, log) = server.ended();
        assert!(
            log.contains(&format!("{client} POST /publish 401")),
            "{log}"
        );
        let warning = log.contains("publishing and patterns are refused");
        assert_eq!(warning, is_trusted, "{log}");
    }
}
