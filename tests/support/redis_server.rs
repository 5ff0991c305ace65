//! A `redis-server` of the test's own, and commands that are sent to it.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::support::resp::{Reply, ReplyDecoder, encode_command};
use super::support::{PATIENCE, has};

/// A running server. Dropping it kills it and removes its files.
pub struct RedisServer {
    child: Option<Child>,
    pub port: u16,
    /// The port on which the nodes of a cluster talk to each other. Unused without `--cluster-enabled`.
    pub bus_port: u16,
    folder: PathBuf,
    options: Vec<String>,
}

/// Starts a server on a port of its own, or prints that the test is skipped; in CI the test fails instead.
pub fn start(options: &[&str]) -> Option<RedisServer> {
    has("redis-server").then(|| RedisServer::start(options))
}

impl RedisServer {
    fn start(options: &[&str]) -> RedisServer {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("waterwheel-redis-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let mut server = RedisServer {
            child: None,
            port: 0,
            bus_port: 0,
            folder,
            options: options.iter().map(|option| (*option).to_owned()).collect(),
        };
        let runs = || {
            // Another process may take a port before the server does.
            let ports = free_ports(2);
            (server.port, server.bus_port) = (ports[0], ports[1]);
            server.try_run()
        };
        assert!(becomes_true(runs), "redis-server does not run");
        server
    }

    /// Runs the server, on the port and with the files that it had.
    pub fn run(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        // The connection of another process may have the port for a while.
        assert!(becomes_true(|| self.try_run()), "redis-server does not run");
    }

    /// Runs the server, and returns whether it answers. If not, it has ended.
    fn try_run(&mut self) -> bool {
        let port = self.port;
        let mut command = Command::new("redis-server");
        command
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--dir"])
            .arg(&self.folder)
            .args(&self.options);
        if self.options.iter().any(|it| it == "--cluster-enabled") {
            command.args(["--cluster-port", &self.bus_port.to_string()]);
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // A server of another test may have the port, and answers.
        let id = format!("process_id:{}\r\n", child.id());
        let is_ready = || {
            let answer = |words| command_to(port, words);
            answer(&["PING"]).is_some_and(|it| !it.starts_with("LOADING"))
                && answer(&["INFO", "server"]).is_some_and(|it| it.contains(&id))
        };
        let child = self.child.insert(child);
        let mut has_ended = false;
        let is_known = becomes_true(|| {
            has_ended = child.try_wait().unwrap().is_some();
            has_ended || is_ready()
        });
        assert!(is_known, "redis-server does not answer");
        if has_ended {
            self.child = None;
        }
        !has_ended
    }

    /// Kills the server.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Ends the server politely.
    pub fn stop(&mut self) {
        let mut child = self.child.take().expect("it runs");
        self.signal_child(&child, "TERM");
        child.wait().unwrap();
    }

    /// Sends a signal to the server, such as `STOP`.
    pub fn signal(&self, name: &str) {
        self.signal_child(self.child.as_ref().expect("it runs"), name);
    }

    fn signal_child(&self, child: &Child, name: &str) {
        let id = child.id().to_string();
        let status = Command::new("kill").args(["-s", name, &id]).status();
        assert!(status.unwrap().success());
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Sends a command, and returns the answer as text: arrays with a space between the values.
    pub fn command(&self, words: &[&str]) -> String {
        self.try_command(words).expect("an answer of redis-server")
    }

    /// As [`command`](Self::command). `None` where the server does not answer, or ends the connection.
    pub fn try_command(&self, words: &[&str]) -> Option<String> {
        command_to(self.port, words)
    }

    /// Publishes a message as an application does, and returns how many have got it.
    pub fn publish(&self, channel: &str, message: &str) -> usize {
        let answer = self.command(&["PUBLISH", channel, message]);
        answer.parse().expect("a count")
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn text(reply: &Reply<'_>) -> String {
    match reply {
        Reply::Integer(number) => number.to_string(),
        Reply::Array(values) | Reply::Push(values) => {
            let values: Vec<_> = values.iter().map(text).collect();
            values.join(" ")
        }
        Reply::Error(text) => String::from_utf8_lossy(text).into_owned(),
        other => other.as_str().unwrap_or_default().to_owned(),
    }
}

/// Sends a command to a server on this machine. `None` where no server answers.
pub fn command_to(port: u16, words: &[&str]) -> Option<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let mut bytes = Vec::new();
    encode_command(words, &mut bytes);
    stream.write_all(&bytes).ok()?;
    let mut decoder = ReplyDecoder::new(64 * 1024 * 1024);
    let (mut received, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
    loop {
        if let Some(reply) = decoder.next_reply(&mut &received[..]).ok()? {
            return Some(text(&reply));
        }
        match stream.read(&mut buffer) {
            Ok(0) => return None,
            Ok(count) => received.extend_from_slice(&buffer[..count]),
            // A stopped machine ends a read that has a time limit.
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}

/// A port on which no one listens now.
pub fn free_port() -> u16 {
    free_ports(1)[0]
}

/// Different ports on which no one listens now.
pub fn free_ports(count: usize) -> Vec<u16> {
    let listeners: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap())
        .collect();
    let ports = listeners.iter();
    ports.map(|it| it.local_addr().unwrap().port()).collect()
}

/// Waits until `is_reached` is true.
#[track_caller]
pub fn until(is_reached: impl FnMut() -> bool) {
    assert!(becomes_true(is_reached), "it was not reached");
}

/// Asks again and again, because a process does not report what it has reached. Returns whether it became true in time.
fn becomes_true(mut is_reached: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    while !is_reached() {
        if PATIENCE <= began.elapsed() {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    true
}
