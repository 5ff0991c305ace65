//! Clients that all come back at once, each with a cursor that is 50 messages old: the processor time that the hub
//! spends on it.
//!
//! `cargo bench --bench resume [-- COUNT]`; 10,000 clients by default, which need as many descriptors. The hub is
//! `waterwheel serve` with one reactor, in a process of its own, over the loopback device, so that system calls count.
//! Two runs do the same handshakes and subscriptions, with the cursor and without: the difference is what resuming
//! costs. Fails when that is above a second for 10,000 clients, and when a client does not get each message once and
//! in order. The hub is stopped while the clients send their commands, so that they all come in one moment.
//!
//! Clients that read slowly are measured in a simulation: the largest queue that a replay fills must be within the
//! low watermark and one message.
//!
//! Processor time is that of the kernel's scheduler, so Linux only. It includes what the loopback device does in the
//! hub's calls.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use waterwheel::hub::{Access, Hub, HubOptions, SUBPROTOCOL};
use waterwheel::{ConnId, Sim};

const COUNT: usize = 10_000;

/// The messages that each client has missed.
const MISSED_COUNT: usize = 50;

const MESSAGE_BYTES: usize = 64;

/// The most processor time for resuming, for each client, in microseconds: one second for 10,000.
const EACH_MICROS_MAX: f64 = 100.0;

/// The most queued bytes of a message beside its data: its envelope, its head, and what the queue counts for it.
const OVERHEAD_BYTES: usize = 256;

/// The hub in a process of its own.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start() -> Server {
        let mut child = Command::new(env!("CARGO_BIN_EXE_waterwheel"))
            .args(["serve", "--listen", "127.0.0.1:0", "--log", "error"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let stdout = child.stdout.take().expect("it is piped");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let address = line.trim().strip_prefix("listening on http://");
        let address = address.and_then(|it| it.parse().ok()).expect("an address");
        Server { child, address }
    }

    /// The answer to a request, without its head.
    fn ask(&self, method: &str, target: &str, body: &str) -> String {
        let mut stream = self.connect();
        let length = body.len();
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        );
        stream.write_all((head + body).as_bytes()).expect("a write");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        body.to_owned()
    }

    /// Publishes messages; returns the id of the first.
    fn publish(&self, count: usize) -> String {
        let data = "x".repeat(MESSAGE_BYTES);
        let item = format!("{{\"topic\":\"news\",\"data\":\"{data}\"}}");
        let batch = format!("[{}]", vec![item; count].join(","));
        let answer = self.ask("POST", "/publish/batch", &batch);
        let id = answer.split('"').nth(3);
        id.expect("an id").to_owned()
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("a connection");
        let patience = Some(Duration::from_secs(60));
        stream.set_read_timeout(patience).expect("not zero");
        stream
    }

    fn open(&self) -> TcpStream {
        let mut stream = self.connect();
        let request = format!(
            "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).expect("a write");
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).expect("a head");
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "));
        stream
    }

    /// The processor time of the process, in seconds.
    fn processor_seconds(&self) -> f64 {
        let tasks = format!("/proc/{}/task", self.child.id());
        let tasks = fs::read_dir(tasks).expect("Linux");
        let nanos = tasks.map(|task| {
            let path = task.expect("a task").path().join("schedstat");
            let text = fs::read_to_string(path).expect("its statistics");
            let first = text.split(' ').next().and_then(|it| it.parse::<f64>().ok());
            first.expect("nanoseconds")
        });
        nanos.sum::<f64>() / 1e9
    }

    fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        let status = Command::new("kill").args([signal, &id]).status();
        assert!(status.expect("there is a program kill").success());
    }

    /// The most memory that the process has had, in KiB.
    fn peak_kib(&self) -> usize {
        let path = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(path).expect("Linux");
        let mut lines = status.lines();
        let peak = lines.find_map(|line| line.strip_prefix("VmHWM:")?.strip_suffix("kB"));
        peak.and_then(|it| it.trim().parse().ok()).expect("a size")
    }
}

/// A text message of a client, masked with zeros.
fn frame(text: &str) -> Vec<u8> {
    assert!(text.len() < 126, "a longer message needs another head");
    let mut frame = vec![0x81, 0x80 | text.len() as u8, 0, 0, 0, 0];
    frame.extend_from_slice(text.as_bytes());
    frame
}

/// Reads until the confirmation; returns the numbers of the messages before it.
fn read_replay(stream: &mut TcpStream) -> Vec<u64> {
    let mut reader = BufReader::with_capacity(16 * 1024, stream);
    let mut numbers = Vec::new();
    loop {
        let mut head = [0; 2];
        reader.read_exact(&mut head).expect("a message");
        let mut length = [0; 2];
        let length = match head[1] {
            126 => {
                reader.read_exact(&mut length).expect("a length");
                usize::from(u16::from_be_bytes(length))
            }
            short => usize::from(short),
        };
        let mut text = vec![0; length];
        reader.read_exact(&mut text).expect("a message");
        let text = String::from_utf8(text).expect("text");
        if text.starts_with("{\"subscribed\"") {
            return numbers;
        }
        let id = text.split("\"id\":\"").nth(1).expect("an id");
        let number = id.split(['"', ':']).nth(1).and_then(|it| it.parse().ok());
        numbers.push(number.expect("a number"));
    }
}

/// The measurements of one run.
struct Run {
    handshakes_seconds: f64,
    subscriptions_seconds: f64,
    peak_kib: usize,
}

/// Lets the clients subscribe, with a cursor or without.
fn run(count: usize, has_cursor: bool) -> Run {
    let server = Server::start();
    let cursor = server.publish(1);
    server.publish(MISSED_COUNT);
    let began = server.processor_seconds();
    let mut clients: Vec<_> = (0..count).map(|_| server.open()).collect();
    let opened = server.processor_seconds();
    let command = match has_cursor {
        true => frame(&format!(
            "{{\"subscribe\":\"news\",\"since\":\"{cursor}\"}}"
        )),
        false => frame("{\"subscribe\":\"news\"}"),
    };
    // They all come in one moment.
    server.signal("-STOP");
    for client in &mut clients {
        client.write_all(&command).expect("a write");
    }
    server.signal("-CONT");
    let expected = if has_cursor { MISSED_COUNT } else { 0 };
    for client in &mut clients {
        let numbers = read_replay(client);
        assert_eq!(numbers.len(), expected);
        assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]));
    }
    Run {
        handshakes_seconds: opened - began,
        subscriptions_seconds: server.processor_seconds() - opened,
        peak_kib: server.peak_kib(),
    }
}

/// The largest queue of clients that do not read what they have missed, and its limit.
fn largest_queue(count: usize) -> (usize, usize) {
    const LONG_BYTES: usize = 16 * 1024;
    let access = Access {
        open: true,
        ..Access::default()
    };
    let mut sim = Sim::new((), move |reactor| {
        let hub = Hub::new(HubOptions::default());
        reactor.http("0.0.0.0:80", |router| hub.mount(router, &access))
    });
    for _ in 0..MISSED_COUNT {
        sim.reactor().publish("news", "x".repeat(LONG_BYTES));
    }
    sim.socket_bytes(4096);
    let headers = [("Sec-WebSocket-Protocol", SUBPROTOCOL)];
    let open = |_| sim.try_websocket("/ws", &headers).expect("an upgrade");
    let clients: Vec<_> = (0..count).map(open).collect();
    let mut ids: Vec<ConnId> = Vec::new();
    for (index, client) in clients.iter().enumerate() {
        let name = format!("own.{index}");
        client.send(format!("{{\"subscribe\":\"{name}\"}}"));
        sim.settle();
        ids.extend(sim.reactor().members(&name));
        client.received();
    }
    assert_eq!(ids.len(), count);
    for client in &clients {
        client.send("{\"subscribe\":\"news\",\"since\":\"earliest\"}");
    }
    let low_bytes = sim.reactor().config().options.queue_low_bytes;
    let (mut largest_bytes, mut message_count) = (0, 0);
    while message_count < count * MISSED_COUNT {
        sim.turn();
        let queued = ids.iter().map(|id| sim.reactor().queued_bytes(*id));
        largest_bytes = queued.max().unwrap_or(0).max(largest_bytes);
        for client in &clients {
            let messages = client.received();
            message_count += messages.iter().filter(|it| it.contains("\"id\"")).count();
        }
    }
    (largest_bytes, low_bytes + LONG_BYTES + OVERHEAD_BYTES)
}

fn main() -> ExitCode {
    let words = std::env::args().skip(1).filter(|word| word != "--bench");
    let count = match words.map(|word| word.parse()).next() {
        None => COUNT,
        Some(Ok(count @ 1..)) => count,
        Some(_) => {
            eprintln!("resume: expected the number of clients");
            return ExitCode::from(2);
        }
    };
    println!("{count} clients, {MISSED_COUNT} messages of {MESSAGE_BYTES} bytes each");
    let without = run(count, false);
    let with = run(count, true);
    for (name, run) in [("without cursor", &without), ("with cursor", &with)] {
        let (handshakes, subscriptions) = (run.handshakes_seconds, run.subscriptions_seconds);
        let (name, peak) = (format!("{name:<15}"), run.peak_kib);
        println!(
            "{name} handshakes {handshakes:.3} s, subscriptions {subscriptions:.3} s, memory at most {peak} KiB"
        );
    }
    let seconds = with.subscriptions_seconds - without.subscriptions_seconds;
    let each_micros = seconds * 1e6 / count as f64;
    println!("resuming        {seconds:.3} s of processor time, {each_micros:.1} us a client");
    let (largest_bytes, limit_bytes) = largest_queue(count.min(100));
    println!(
        "largest queue   {largest_bytes} bytes of a client that reads slowly; limit {limit_bytes}"
    );
    if EACH_MICROS_MAX < each_micros || limit_bytes < largest_bytes {
        eprintln!(
            "resume: expected at most {EACH_MICROS_MAX} us a client, and queues in their limit"
        );
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
