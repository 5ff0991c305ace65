//! The real program with little memory, and clients who want it all.

#![cfg(all(target_os = "linux", feature = "program"))]

mod support;

use std::io::{Read, Write};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use support::{Http, Server, Socket};
use tungstenite::Message;

/// The address space of the process, in KiB.
const ADDRESS_SPACE_KIB: usize = 300 * 1024;

const MIB: usize = 1024 * 1024;

/// Clients of each of five kinds. The messages and bodies alone would take more than there is.
const CLIENTS: usize = 200;

/// The messages that an honest subscriber gets meanwhile.
const MESSAGES: usize = 300;

/// A WebSocket as a hostile client speaks it: it never reads more than the answer to its handshake.
fn upgrade(server: &Server) -> Option<Socket> {
    let mut stream = server.connect();
    stream
        .write_all(
            b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
              Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )
        .ok()?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    Some(stream)
}

fn frame(first: u8, announced: usize, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first, 0xff];
    bytes.extend_from_slice(&(announced as u64).to_be_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(payload);
    bytes
}

/// A text message of a mebibyte without its last byte.
fn half_message(server: &Server) -> Option<Socket> {
    let mut stream = upgrade(server)?;
    let payload = vec![b'x'; MIB - 1];
    stream.write_all(&frame(0x81, MIB, &payload)).ok()?;
    Some(stream)
}

/// A body of a mebibyte without its last byte.
fn half_body(server: &Server) -> Option<Socket> {
    let mut stream = server.connect();
    let head = format!(
        "POST /publish?topic=x HTTP/1.1\r\nHost: localhost\r\nContent-Length: {MIB}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(&vec![b'x'; MIB - 1]).ok()?;
    Some(stream)
}

/// The beginning of a head.
fn half_head(server: &Server) -> Option<Socket> {
    let mut stream = server.connect();
    let head = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(15 * 1024));
    stream.write_all(head.as_bytes()).ok()?;
    Some(stream)
}

/// A subscriber to large publications that never reads.
fn slow_reader(server: &Server) -> Option<Socket> {
    let mut stream = upgrade(server)?;
    stream.write_all(&frame(0x81, 5, b"large")).ok()?;
    Some(stream)
}

/// A subscriber to a thousand names of its own, each as long as a name may be.
fn subscriber(server: &Server, number: usize) -> Option<Socket> {
    let mut stream = upgrade(server)?;
    for name in 0..1000 {
        let name = format!("{number:05}.{name:0>250}");
        stream
            .write_all(&frame(0x81, name.len(), name.as_bytes()))
            .ok()?;
    }
    Some(stream)
}

/// The time that 99 % of the loop's turns were busy at most, in milliseconds, as the program says at its end. A
/// request waits for the turn that is under way and is answered in the next one.
fn busy_ms(log: &str) -> f64 {
    let (_, rest) = log.split_once("were busy for at most ").expect("the line");
    let (number, _) = rest.split_once(" ms").expect("a unit");
    number.parse().expect("a number")
}

#[test]
fn hostile_clients_of_five_kinds_neither_end_the_process_nor_cost_others_a_message() {
    let mut command = Command::new("bash");
    command
        .arg("-c")
        .arg(format!(
            "ulimit -v {ADDRESS_SPACE_KIB} && exec \"$0\" \"$@\""
        ))
        .arg(env!("CARGO_BIN_EXE_waterwheel"))
        .args(["--drain-window", "0"]);
    let server = Server::spawn(command);
    let mut honest = server.websocket("/ws");
    honest.send(Message::text("honest")).unwrap();
    let mut publisher = Http::new(server.connect());
    let publish = |publisher: &mut Http, topic: &str, body: &[u8]| {
        let (status, answer) = publisher.request("POST", &format!("/publish?topic={topic}"), body);
        assert_eq!(status, 200, "{answer}");
        answer
    };
    while publish(&mut publisher, "honest", b"begin").contains("\"delivered\":0") {}

    let is_over = AtomicBool::new(false);
    let kinds: [&(dyn Fn(usize) -> Option<Socket> + Sync); 5] = [
        &|_| half_message(&server),
        &|_| half_body(&server),
        &|_| half_head(&server),
        &|_| slow_reader(&server),
        &|number| subscriber(&server, number),
    ];
    thread::scope(|scope| {
        let hostile = kinds.map(|attack| {
            scope.spawn(move || {
                // A client that is refused comes again in vain. Each that is let in stays until the end.
                (0..CLIENTS).filter_map(attack).collect::<Vec<_>>()
            })
        });
        let reader = scope.spawn(|| {
            let mut count = 0;
            while count < MESSAGES {
                let Message::Text(text) = honest.read().unwrap() else {
                    continue;
                };
                if text.as_str() != "begin" {
                    assert_eq!(text.as_str(), count.to_string());
                    count += 1;
                }
            }
        });
        let checks = scope.spawn(|| {
            let mut count = 0;
            while !is_over.load(Ordering::Relaxed) || count == 0 {
                let mut http = Http::new(server.connect());
                assert_eq!(http.request("GET", "/healthz", b"").0, 200);
                count += 1;
            }
        });
        let large = vec![b'x'; MIB / 2];
        for number in 0..MESSAGES {
            publish(&mut publisher, "honest", number.to_string().as_bytes());
            if number % 10 == 0 {
                publish(&mut publisher, "large", &large);
            }
        }
        reader.join().unwrap();
        let clients = hostile.map(|thread| thread.join().unwrap());
        assert_eq!(publisher.request("GET", "/healthz", b"").0, 200);
        is_over.store(true, Ordering::Relaxed);
        checks.join().unwrap();
        drop(clients);
    });
    server.terminate();
    // A second signal ends the drain, which waits for peers that do not close.
    server.terminate();
    let (status, log) = server.ended();
    assert!(status.success(), "{log}");
    assert!(log.contains("ended because memory is short"), "{log}");
    assert!(busy_ms(&log) < 50.0, "{log}");
}
