//! Long downloads and uploads of many clients at once: every byte is right, and the memory of the server stays flat.
//!
//! `WATERWHEEL_STORM=full cargo test --release --test downloads_uploads -- --nocapture` has ten times as many bytes, and
//! fails if a turn of the loop was busy for more than 50 ms.
#![cfg(target_os = "linux")]

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use waterwheel::{ConnId, Interest, Reactor, Status};

const CLIENTS: usize = 50;

/// The names of the folder to serve, and of the test that becomes the server.
const FOLDER: &str = "WATERWHEEL_FOLDER";
const SERVER: &str = "serve_the_other_test";

/// The bytes that each client sends or gets, and how fast.
struct Load {
    bytes: usize,
    bytes_per_second: usize,
}

fn is_full() -> bool {
    std::env::var_os("WATERWHEEL_STORM").is_some_and(|it| it == "full")
}

fn loads() -> [Load; 2] {
    let scale = if is_full() { 10 } else { 1 };
    [(20_000_000, 4_000_000), (5_000_000, 1_000_000)].map(|(bytes, bytes_per_second)| Load {
        bytes: bytes * scale,
        bytes_per_second,
    })
}

/// The content of every file is this, again and again. No shift of it is the same.
static CONTENT: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut seed = 1_u64;
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 32) as u8
    };
    (0..1_000_003).map(|_| next()).collect()
});

/// The longest piece of the content from a place on, of at most so many bytes.
fn content_at(at: usize, bytes_max: usize) -> &'static [u8] {
    let rest = &CONTENT[at % CONTENT.len()..];
    &rest[..rest.len().min(bytes_max)]
}

/// Whether bytes are the content from a place on.
fn is_content(mut at: usize, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        let wanted = content_at(at, bytes.len());
        let (piece, rest) = bytes.split_at(wanted.len());
        if piece != wanted {
            return false;
        }
        (at, bytes) = (at + piece.len(), rest);
    }
    true
}

// ── the server ──────────────────────────────────────────────────────────────────────────────────

/// How much of each upload has come. `None` when a byte was wrong.
type Uploads = HashMap<ConnId, Option<usize>>;

fn serve(reactor: &mut Reactor<Uploads>, folder: &Path) -> io::Result<()> {
    let listener = reactor.http("127.0.0.1:0", |http| {
        http.files("/files", folder);
        http.post_stream("/upload", |upload| {
            upload.body_bytes_max(u64::MAX);
            upload.on_data(|upload, bytes| {
                let came = upload.state.entry(upload.id).or_insert(Some(0));
                *came = came
                    .filter(|at| is_content(*at, bytes))
                    .map(|at| at + bytes.len());
            });
            upload.on_end(|upload| {
                let came = upload.state.remove(&upload.id).flatten();
                match came {
                    Some(count) => upload.reply(count.to_string()),
                    None => upload.reply(Status::BAD_REQUEST),
                }
            });
        });
        http.get("/longest_turn", |request| {
            let longest = request.reactor.stats().lag.max();
            request.reply(longest.as_micros().to_string())
        });
    })?;
    // The parent ends our input when it has finished, or has failed.
    reactor.watch(io::stdin(), Interest::Readable, |watch| {
        watch.reactor.stop()
    })?;
    let address = reactor.local_addr(listener).unwrap();
    println!("\nserving on port {}", address.port().unwrap());
    Ok(())
}

#[test]
#[ignore = "the other test runs it, in a process whose memory is the server's"]
fn serve_the_other_test() {
    let folder = std::env::var(FOLDER).unwrap();
    Reactor::run(Uploads::new(), |reactor| serve(reactor, folder.as_ref())).unwrap();
}

struct Server {
    child: Child,
    port: u16,
    /// The harness of the server's test still writes to it.
    _output: BufReader<ChildStdout>,
}

impl Server {
    fn start(folder: &Path) -> Server {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", SERVER, "--ignored", "--nocapture"])
            .env(FOLDER, folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut lines = output.by_ref().lines().map_while(Result::ok);
        let port = lines.find_map(|line| line.strip_prefix("serving on port ")?.parse().ok());
        Server {
            child,
            port: port.expect("the server says its port"),
            _output: output,
        }
    }

    fn connect(&self) -> BufReader<TcpStream> {
        BufReader::new(TcpStream::connect(("127.0.0.1", self.port)).unwrap())
    }

    /// Its resident memory, in bytes.
    fn memory_bytes(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes: usize = line
            .and_then(|line| line.trim().strip_suffix(" kB"))
            .and_then(|number| number.parse().ok())
            .expect("the kernel tells the resident memory");
        kilobytes * 1024
    }

    fn longest_turn(&self) -> Duration {
        let mut client = self.connect();
        let request = "GET /longest_turn HTTP/1.1\r\nHost: h\r\n\r\n";
        client.get_mut().write_all(request.as_bytes()).unwrap();
        let length = read_head(&mut client);
        let mut body = String::new();
        client
            .take(length as u64)
            .read_to_string(&mut body)
            .unwrap();
        Duration::from_micros(body.parse().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

// ── the clients ─────────────────────────────────────────────────────────────────────────────────

/// Reads the head of an answer with status 200, and returns the length of its body.
fn read_head(client: &mut BufReader<TcpStream>) -> usize {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        client.read_line(&mut line).unwrap();
        if line.trim().is_empty() {
            break;
        }
        lines.push(line.to_ascii_lowercase());
    }
    assert!(lines[0].starts_with("http/1.1 200 "), "{lines:?}");
    let length = lines
        .iter()
        .find_map(|line| line.strip_prefix("content-length:"));
    length.unwrap().trim().parse().unwrap()
}

/// Waits until so many bytes are due.
fn pace(began: Instant, bytes: usize, load: &Load) {
    let due = Duration::from_secs_f64(bytes as f64 / load.bytes_per_second as f64);
    thread::sleep(due.saturating_sub(began.elapsed()));
}

fn download(server: &Server, load: &Load) {
    let mut client = server.connect();
    let request = "GET /files/content.bin HTTP/1.1\r\nHost: h\r\n\r\n";
    client.get_mut().write_all(request.as_bytes()).unwrap();
    assert_eq!(read_head(&mut client), load.bytes);
    let began = Instant::now();
    let mut buffer = vec![0; 64 * 1024];
    let mut at = 0;
    while at < load.bytes {
        let count = client.read(&mut buffer).unwrap();
        assert!(0 < count, "the download ends after {at} bytes");
        assert!(is_content(at, &buffer[..count]), "the bytes from {at} on");
        at += count;
        pace(began, at, load);
    }
}

fn upload(server: &Server, load: &Load) {
    let mut client = server.connect();
    let stream = client.get_mut();
    let head = format!(
        "POST /upload HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n",
        load.bytes
    );
    stream.write_all(head.as_bytes()).unwrap();
    let began = Instant::now();
    let mut at = 0;
    while at < load.bytes {
        let piece = content_at(at, (load.bytes - at).min(16 * 1024));
        stream.write_all(piece).unwrap();
        at += piece.len();
        pace(began, at, load);
    }
    let length = read_head(&mut client);
    let mut body = String::new();
    client
        .take(length as u64)
        .read_to_string(&mut body)
        .unwrap();
    assert_eq!(body, load.bytes.to_string());
}

/// The most by which the memory of the server may grow: for each download the two pieces of the file that it holds at
/// most, and for each client some.
const GROWTH_BYTES_MAX: usize = CLIENTS * 2 * 256 * 1024 + 2 * CLIENTS * 64 * 1024;

#[test]
fn downloads_and_uploads_at_once_are_whole_and_memory_is_flat() {
    let [downloads, uploads] = loads();
    let name = format!("waterwheel-transfers-{}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    fs::create_dir(&folder).unwrap();
    let mut file = File::create(folder.join("content.bin")).unwrap();
    let mut at = 0;
    while at < downloads.bytes {
        let piece = content_at(at, downloads.bytes - at);
        file.write_all(piece).unwrap();
        at += piece.len();
    }
    drop(file);
    let server = Server::start(&folder);
    let at_once = Load {
        bytes_per_second: usize::MAX,
        ..downloads
    };
    download(&server, &at_once);
    upload(&server, &at_once);
    let before = server.memory_bytes();
    let left = AtomicUsize::new(2 * CLIENTS);
    let mut highest = before;
    let began = Instant::now();
    thread::scope(|scope| {
        let run = |client: fn(&Server, &Load), load| {
            let (server, left) = (&server, &left);
            scope.spawn(move || {
                // Also when it panics, or the loop below would not end.
                let _done = Done(left);
                client(server, load);
            });
        };
        for _ in 0..CLIENTS {
            run(download, &downloads);
            run(upload, &uploads);
        }
        while 0 < left.load(Ordering::Relaxed) {
            highest = highest.max(server.memory_bytes());
            thread::sleep(Duration::from_millis(20));
        }
    });
    let took = began.elapsed();
    let longest_turn = server.longest_turn();
    let grown = highest - before;
    println!(
        "{took:?}; memory {before} bytes and {grown} at most; the longest turn was busy for {longest_turn:?}"
    );
    drop(server);
    fs::remove_dir_all(&folder).unwrap();
    assert!(grown <= GROWTH_BYTES_MAX, "{grown} bytes");
    if is_full() {
        assert!(
            longest_turn <= Duration::from_millis(50),
            "{longest_turn:?}"
        );
    }
}

/// Counts a client that has ended.
struct Done<'a>(&'a AtomicUsize);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
