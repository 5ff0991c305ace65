//! One reactor with a million WebSockets, in memory: measures how long each step takes and
//! how many bytes a connection costs the server.
//!
//! `cargo bench --bench million [-- COUNT]`; 1,000,000 connections by default. Prints a table and one
//! line of JSON. Fails when a connection takes more memory than allowed, or when memory is not freed
//! at the end.
//!
//! Bytes are counted exactly, by the allocator (as requested, without its own overhead), not
//! estimated from resident pages. The two ends of each stream and the client's handle are
//! left out: they stand for the kernel's socket and for the peer, and are counted separately in
//! [`dial`]. Resident memory is printed too; it is that of the whole process, with the clients and
//! the freed memory that the allocator keeps. The clock of the simulation moves only in the last
//! step.

use std::time::{Duration, Instant};

use allocation_counter::measure;
use waterwheel::{ConnId, Reactor, Sim, SimStream};

const COUNT: usize = 1_000_000;

/// Clients that connect or close at the same time.
const BATCH: usize = 1000;

const REQUEST: &[u8] =
    b"GET /ws HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
      Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
      Origin: https://example.com\r\nUser-Agent: million\r\n\r\n";

/// A close with code 1000, masked with zeros.
const GOODBYE: &[u8] = b"\x88\x82\0\0\0\0\x03\xe8";

const MESSAGE_BYTES: usize = 64;

/// The most bytes that a connection with one subscription may take on the server's side.
const EACH_BYTES_MAX: f64 = 400.0;

/// The most bytes that may stay allocated when all connections are closed.
const LEFT_BYTES_MAX: i64 = 100_000;

type Ids = Vec<ConnId>;

fn setup(reactor: &mut Reactor<Ids>) {
    reactor
        .websocket("0.0.0.0:80", |ws| {
            ws.on_open(|ws, _| ws.state.push(ws.id));
        })
        .expect("memory can be listened on");
}

struct Bench {
    sim: Sim<Ids>,
    clients: Vec<SimStream>,
    count: usize,
    /// Growth of the allocated bytes since the start: in total, and the part of the streams.
    heap_bytes: i64,
    stream_bytes: i64,
    json: String,
}

impl Bench {
    /// Runs one step and prints what it took. The bytes are printed only when the step leaves the
    /// streams empty (`is_quiet`).
    fn step(&mut self, name: &str, is_quiet: bool, run: impl FnOnce(&mut Bench)) {
        let began = Instant::now();
        let change = measure(|| run(self)).bytes_current;
        let seconds = began.elapsed().as_secs_f64();
        self.heap_bytes += change;
        let each = self.each_bytes();
        let resident = resident_bytes() as f64 / f64::from(1 << 20);
        if is_quiet {
            println!("{name:<10} {seconds:>9.3} s {each:>9.1} bytes {resident:>9.0} MiB");
            self.json += &format!(
                ",\"{name}\":{{\"seconds\":{seconds:.3},\"bytes_per_connection\":{each:.1}}}"
            );
        } else {
            println!("{name:<10} {seconds:>9.3} s {:>15} {resident:>9.0} MiB", "");
            self.json += &format!(",\"{name}\":{{\"seconds\":{seconds:.3}}}");
        }
    }

    fn each_bytes(&self) -> f64 {
        (self.heap_bytes - self.stream_bytes) as f64 / self.count as f64
    }

    /// The clients connect and do the handshake.
    fn open(&mut self) {
        while self.clients.len() < self.count {
            let first = self.clients.len();
            let last = self.count.min(first + BATCH);
            self.stream_bytes += dial(&mut self.sim, &mut self.clients, last);
            for client in &self.clients[first..last] {
                assert_eq!(client.write(REQUEST), REQUEST.len());
            }
            self.sim.settle();
            for client in &self.clients[first..last] {
                assert!(client.read().starts_with(b"HTTP/1.1 101 "));
            }
        }
        assert_eq!(self.sim.state().len(), self.count);
    }

    fn subscribe(&mut self) {
        let ids = std::mem::take(self.sim.state());
        for id in &ids {
            assert_eq!(self.sim.reactor().subscribe(*id, "all"), Ok(true));
        }
        *self.sim.state() = ids;
    }

    fn publish(&mut self) {
        let message = "x".repeat(MESSAGE_BYTES);
        let published = self.sim.reactor().publish("all", &message);
        assert_eq!(published.delivered, self.count);
    }

    fn read(&mut self) {
        for client in &self.clients {
            let frame = client.read();
            assert_eq!(frame.len(), 2 + MESSAGE_BYTES);
            assert_eq!(frame[..3], [0x81, MESSAGE_BYTES as u8, b'x']);
        }
    }

    /// The clients send a close frame, read the server's, and close.
    fn close(&mut self) {
        for batch in self.clients.chunks(BATCH) {
            for client in batch {
                assert_eq!(client.write(GOODBYE), GOODBYE.len());
            }
            self.sim.settle();
            for client in batch {
                assert_eq!(client.read(), b"\x88\x02\x03\xe8");
                assert!(client.is_closed());
                client.close();
            }
            self.sim.settle();
        }
        // Only the handles of the clients are left of the streams.
        self.clients.clear();
        self.stream_bytes = 0;
        assert_eq!(self.sim.reactor().connection_count(), 0);
    }
}

/// Connects clients until there are `count`; returns what their streams take, in bytes.
fn dial(sim: &mut Sim<Ids>, clients: &mut Vec<SimStream>, count: usize) -> i64 {
    let cost = measure(|| {
        while clients.len() < count {
            clients.push(sim.dial());
        }
    });
    cost.bytes_current
}

/// Zero where the system has no `/proc`.
fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}

fn main() {
    let words = std::env::args().skip(1).filter(|word| word != "--bench");
    let count = match words.map(|word| word.parse()).next() {
        None => COUNT,
        Some(Ok(count @ 1..)) => count,
        Some(_) => {
            eprintln!("million: expected the number of connections");
            std::process::exit(2);
        }
    };
    let mut bench = Bench {
        sim: Sim::new(Vec::with_capacity(count), setup),
        clients: Vec::with_capacity(count),
        count,
        heap_bytes: 0,
        stream_bytes: 0,
        json: String::new(),
    };
    println!("{count} connections");
    println!(
        "{:<10} {:>11} {:>15} {:>13}",
        "step", "time", "server, each", "resident"
    );
    bench.step("open", true, Bench::open);
    bench.step("subscribe", true, Bench::subscribe);
    let each = bench.each_bytes();
    bench.step("publish", true, Bench::publish);
    bench.step("flush", false, |bench| bench.sim.settle());
    bench.step("read", true, Bench::read);
    bench.step("close", true, Bench::close);
    bench.step("rest", true, |bench| {
        bench.sim.advance(Duration::from_secs(60))
    });
    println!("{} bytes are left", bench.heap_bytes);
    bench.json += &format!(",\"left_bytes\":{}", bench.heap_bytes);
    println!("{{\"connections\":{count}{}}}", bench.json);
    if EACH_BYTES_MAX < each || LEFT_BYTES_MAX < bench.heap_bytes {
        eprintln!(
            "million: expected at most {EACH_BYTES_MAX} bytes for each connection and {LEFT_BYTES_MAX} at the end"
        );
        std::process::exit(1);
    }
}
