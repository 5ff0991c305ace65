//! A server process to test against, and simple clients.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

mod socket;

pub use socket::Socket;
use tungstenite::{Message, WebSocket};
#[cfg(feature = "redis")]
#[allow(unused_imports, reason = "each test file uses its own part")]
pub use waterwheel::protocol::resp;

/// After this long a test gives up waiting. It guards against a hang and asserts no time.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The running program. Dropping this kills it.
pub struct Server {
    pub child: Child,
    pub address: SocketAddr,
}

impl Server {
    /// Starts the program with these arguments on a free port.
    pub fn start(words: &[&str]) -> Server {
        let mut command = Command::new(env!("CARGO_BIN_EXE_waterwheel"));
        command.args(words);
        Server::spawn(command)
    }

    /// As [`start`](Self::start), with at most so many open descriptors.
    pub fn start_with_descriptors(max: u32, words: &[&str]) -> Server {
        let mut command = Command::new("bash");
        command
            .arg("-c")
            .arg(format!("ulimit -n {max} && exec \"$0\" \"$@\""))
            .arg(env!("CARGO_BIN_EXE_waterwheel"))
            .args(words);
        Server::spawn(command)
    }

    /// Runs a command that becomes the program, on a free port.
    pub fn spawn(mut command: Command) -> Server {
        command.args(["--listen", "127.0.0.1:0"]);
        Server::run(command)
    }

    /// Runs a command that becomes the program, and listens on some address.
    pub fn run(command: Command) -> Server {
        Server::run_with_stderr(command, Stdio::piped())
    }

    /// As [`run`](Self::run), with a standard error of one's own.
    pub fn run_with_stderr(mut command: Command, stderr: Stdio) -> Server {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines.map(Result::unwrap).find_map(|line| {
            let url = line.strip_prefix("listening on ")?;
            let (_, address) = url.split_once("://")?;
            Some(address.to_owned())
        });
        let Some(address) = address else {
            child.kill().unwrap();
            let mut errors = String::new();
            if let Some(mut stderr) = child.stderr.take() {
                let _ = stderr.read_to_string(&mut errors);
            }
            panic!("it did not listen: {errors}");
        };
        let mut address: SocketAddr = address.parse().unwrap();
        if address.ip().is_unspecified() {
            address.set_ip([127, 0, 0, 1].into());
        }
        Server { address, child }
    }

    pub fn url(&self, target: &str) -> String {
        format!("http://{}{target}", self.address)
    }

    /// Asks the program to end, with TERM.
    pub fn terminate(&self) {
        self.signal("-TERM");
    }

    pub fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &id])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Waits for the end. Returns the exit status and the log.
    pub fn ended(mut self) -> (ExitStatus, String) {
        let mut errors = String::new();
        let mut stderr = self.child.stderr.take().unwrap();
        stderr.read_to_string(&mut errors).unwrap();
        (self.child.wait().unwrap(), errors)
    }

    /// Resident memory, in bytes.
    #[cfg(target_os = "linux")]
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .unwrap();
        line.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<u64>()
            .unwrap()
            * 1024
    }

    /// A connected, blocking stream.
    pub fn connect(&self) -> Socket {
        Socket::connect(self.address).unwrap()
    }

    /// A WebSocket client that shares no code with the server.
    pub fn websocket(&self, target: &str) -> WebSocket<Socket> {
        let request = format!("ws://{}{target}", self.address);
        tungstenite::client(request, self.connect()).unwrap().0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The process may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A keep-alive HTTP client: one request, one answer.
pub struct Http {
    stream: BufReader<Socket>,
}

impl Http {
    pub fn new(stream: Socket) -> Http {
        Http {
            stream: BufReader::new(stream),
        }
    }

    /// Status and body of the answer.
    pub fn request(&mut self, method: &str, target: &str, body: &[u8]) -> (u16, String) {
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let stream = self.stream.get_mut();
        stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
        self.answer()
    }

    fn answer(&mut self) -> (u16, String) {
        let mut status = None;
        let mut length = 0;
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).unwrap();
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            if status.is_none() {
                status = Some(line.split(' ').nth(1).unwrap().parse().unwrap());
            }
            if let Some(value) = line.strip_prefix("Content-Length: ") {
                length = value.parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).unwrap();
        (status.unwrap(), String::from_utf8(body).unwrap())
    }
}

/// Sends a message and waits until it comes back, so that the server has seen all bytes before it.
pub fn round_trip(client: &mut WebSocket<Socket>, text: &str) {
    client.send(Message::text(text)).unwrap();
    assert_eq!(client.read().unwrap(), Message::text(text));
}

/// Whether a program is installed. Without it the test is skipped; in CI it fails instead.
pub fn has(program: &str) -> bool {
    let found = Command::new("sh")
        .args(["-c", &format!("command -v {program}")])
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !found {
        skip(&format!("{program} is not installed"));
    }
    found
}

/// The interpreter that has the packages of `tests/python/requirements.txt`, and a test is skipped without it.
pub fn python() -> Option<PathBuf> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let environment = target.join("python");
    let wanted = include_str!("../python/requirements.txt");
    let installed = std::fs::read_to_string(environment.join("requirements.txt"));
    if installed.is_ok_and(|installed| installed == wanted) {
        return Some(environment.join("bin/python"));
    }
    skip("the Python packages of the tests are missing: tests/python/install");
    None
}

/// Prints that a test is skipped, and why. Panics in CI, where all programs must be installed.
pub fn skip(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "{why}");
    // The output of `eprintln` is only shown when a test fails.
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}
