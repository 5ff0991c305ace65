//! A `redis-server` of the test's own, and commands that are sent to it.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use waterwheel::protocol::resp::{Reply, ReplyDecoder, encode_command};

use super::support::{PATIENCE, has};

/// A running server. Dropping it kills it and removes its files.
pub struct RedisServer {
    child: Option<Child>,
    pub port: u16,
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
            port: free_port(),
            folder,
            options: options.iter().map(|option| (*option).to_owned()).collect(),
        };
        server.run();
        server
    }

    /// Runs the server, on the port and with the files that it had.
    pub fn run(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let child = Command::new("redis-server")
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--dir"])
            .arg(&self.folder)
            .args(&self.options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
        let began = Instant::now();
        while self
            .try_command(&["PING"])
            .is_none_or(|it| it.starts_with("LOADING"))
        {
            assert!(began.elapsed() < PATIENCE, "redis-server does not answer");
            std::thread::yield_now();
        }
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

    fn try_command(&self, words: &[&str]) -> Option<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok()?;
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
            match stream.read(&mut buffer).ok()? {
                0 => return None,
                count => received.extend_from_slice(&buffer[..count]),
            }
        }
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

/// A port on which no one listens now.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// Waits until `is_reached` is true.
pub fn until(mut is_reached: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_reached() {
        assert!(began.elapsed() < PATIENCE, "it was not reached");
        std::thread::sleep(Duration::from_millis(2));
    }
}
