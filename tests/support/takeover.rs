//! Processes that take over from each other.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::support::{PATIENCE, Server};

/// A folder that is removed with what is in it.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("takeover-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        Folder(path)
    }

    pub fn at(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Waits until something is so.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = std::time::Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "waited for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Starts a process that takes over at a path, and waits until a successor can connect to it.
pub fn start(path: &str, options: &[&str]) -> Server {
    let server = begin(path, options);
    until_it_waits(path, &server);
    server
}

/// Starts a process that takes over at a path, and may not be ready yet.
pub fn begin(path: &str, options: &[&str]) -> Server {
    Server::start(&[&["--takeover", path, "--drain-window", "1"], options].concat())
}

/// Waits until a successor can connect to a process.
pub fn until_it_waits(path: &str, server: &Server) {
    until("the socket of the takeover", || {
        is_of(Path::new(path), server)
    });
}

/// The status of a request over a Unix socket.
pub fn unix_status(path: &str) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    let request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.lines().next().unwrap_or("no answer").to_owned()
}

/// Whether the process listens at a path, and not the one before it: the kernel shows the name under which it made
/// the socket.
fn is_of(path: &Path, server: &Server) -> bool {
    let sockets = fs::read_to_string("/proc/net/unix").unwrap();
    let made = format!("{}.{}", path.display(), server.child.id());
    path.exists() && sockets.lines().any(|line| line.ends_with(&made))
}

/// The status of one request on a connection of its own.
pub fn status(address: SocketAddr) -> Result<String, String> {
    let explain = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect(address).map_err(explain)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(explain)?;
    let head = "POST /publish?topic=news HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi";
    stream.write_all(head.as_bytes()).map_err(explain)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(explain)?;
    Ok(answer.lines().next().unwrap_or("no answer").to_owned())
}
