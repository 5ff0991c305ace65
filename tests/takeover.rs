//! `--takeover`: a process takes the listeners of the one before it, and no client is refused.
//!
//! The sizes are small. `WATERWHEEL_STORM=full` has 500 clients.

#![cfg(all(target_os = "linux", feature = "program"))]

#[path = "support/takeover.rs"]
mod processes;
mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use processes::{Folder, start, status, unix_status, until};
use support::{Http, PATIENCE, Server, Socket, has};
use tungstenite::Message;

/// How many descriptors a process has.
fn descriptor_count(server: &Server) -> usize {
    let folder = format!("/proc/{}/fd", server.child.id());
    fs::read_dir(folder).unwrap().count()
}

/// Whether a connection can have another request.
enum Kept {
    Stays,
    Ends,
}

/// A request on a connection that stays, unless its answer says otherwise.
fn request_and_keep(stream: &mut BufReader<Socket>) -> Result<Kept, String> {
    let explain = |error: std::io::Error| error.to_string();
    let head = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stream.get_mut().write_all(head).map_err(explain)?;
    let (mut answer, mut kept) = (String::new(), Kept::Stays);
    while !answer.ends_with("\r\n\r\n") {
        let begin = answer.len();
        if stream.read_line(&mut answer).map_err(explain)? == 0 {
            return Err(format!("ended after {answer:?}"));
        }
        if answer[begin..].to_lowercase() == "connection: close\r\n" {
            kept = Kept::Ends;
        }
    }
    let mut body = [0; 3];
    stream.read_exact(&mut body).map_err(explain)?;
    match answer.starts_with("HTTP/1.1 200 OK\r\n") && &body == b"ok\n" {
        true => Ok(kept),
        false => Err(format!("answer: {answer}")),
    }
}

#[test]
fn ten_takeovers_refuse_nobody_and_lose_no_answer() {
    let client_count = match std::env::var_os("WATERWHEEL_STORM").is_some_and(|it| it == "full") {
        true => 500,
        false => 100,
    };
    let folder = Folder::new("storm");
    let path = folder.at("takeover");
    let options = [
        "--max-connections-per-address",
        "0",
        "--handshakes-per-second",
        "0",
    ];
    let mut server = start(&path, &options);
    let descriptors = descriptor_count(&server);
    let address = server.address;
    let (is_over, sessions) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (ends, requests, failures) = (
        AtomicUsize::new(0),
        AtomicUsize::new(0),
        Mutex::new(Vec::new()),
    );
    let fail = |why: String| failures.lock().unwrap().push(why);
    thread::scope(|scope| {
        for _ in 0..client_count {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let stream = match Socket::connect(address) {
                        Ok(stream) => stream,
                        Err(error) => return fail(format!("connect: {error}")),
                    };
                    let url = format!("ws://{address}/ws");
                    let mut client = match tungstenite::client(url, stream) {
                        Ok((client, _)) => client,
                        Err(error) => return fail(format!("handshake: {error}")),
                    };
                    let _ = client.send(Message::text("news"));
                    while client.read().is_ok() {
                        if is_over.load(Ordering::Relaxed) {
                            return;
                        }
                    }
                    sessions.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // 50 requests in a second, each on a connection of its own.
        let requester = scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                match status(address) {
                    Ok(line) if line == "HTTP/1.1 200 OK" => {}
                    Ok(line) => fail(format!("answer: {line}")),
                    Err(error) => fail(format!("request: {error}")),
                }
                requests.fetch_add(1, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(20));
            }
        });
        // And 50 on connections that are kept until an answer says that they end.
        let keeper = scope.spawn(|| {
            let mut kept = None;
            while !is_over.load(Ordering::Relaxed) {
                let mut stream: BufReader<Socket> =
                    kept.take()
                        .unwrap_or_else(|| match Socket::connect(address) {
                            Ok(stream) => BufReader::new(stream),
                            Err(error) => panic!("connect: {error}"),
                        });
                match request_and_keep(&mut stream) {
                    Ok(Kept::Stays) => kept = Some(stream),
                    Ok(Kept::Ends) => {
                        ends.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(error) => fail(format!("kept connection: {error}")),
                }
                thread::sleep(Duration::from_millis(20));
            }
        });
        for _ in 0..10 {
            let next = start(&path, &options);
            assert_eq!(next.address, address);
            let before = std::mem::replace(&mut server, next);
            let (exit, log) = before.ended();
            assert!(exit.success(), "{log}");
        }
        is_over.store(true, Ordering::Relaxed);
        requester.join().unwrap();
        keeper.join().unwrap();
        // Clients wait for a message.
        let _ = status(address);
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{failures:?}");
    assert!(
        10 * client_count <= sessions.into_inner(),
        "each client came back each time"
    );
    assert!(0 < requests.into_inner());
    assert!(
        10 <= ends.into_inner(),
        "each process ended a connection that was kept"
    );
    until("the descriptors of the first process", || {
        descriptor_count(&server) == descriptors
    });
}

/// A peer that speaks the lines of a takeover itself.
struct BadPeer(BufReader<UnixStream>);

impl BadPeer {
    fn connect(path: &str) -> BadPeer {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        BadPeer(BufReader::new(stream))
    }

    fn send(&mut self, line: &str) {
        self.0.get_mut().write_all(line.as_bytes()).unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line
    }

    /// Greets, and reads the names of the listeners.
    fn greet(&mut self) -> Vec<String> {
        self.send("waterwheel takeover 1\n");
        assert_eq!(self.line(), "waterwheel takeover 1\n");
        let mut names = Vec::new();
        loop {
            match self.line().strip_prefix("listener ") {
                Some(name) => names.push(name.trim_end().to_owned()),
                None => return names,
            }
        }
    }
}

#[test]
fn a_bad_successor_is_told_why_and_the_process_goes_on_serving() {
    let folder = Folder::new("bad");
    let path = folder.at("takeover");
    let server = start(&path, &[]);
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut http = Http::new(server.connect());
    assert_eq!(http.request("GET", "/readyz", b"").0, 200);
    let descriptors = descriptor_count(&server);

    let mut other_version = BadPeer::connect(&path);
    other_version.send("waterwheel takeover 999\n");
    let answer = other_version.line();
    assert!(
        answer.starts_with("error: ") && answer.contains("999"),
        "{answer}"
    );
    assert_eq!(other_version.line(), "", "it closes the connection");

    let mut stranger = BadPeer::connect(&path);
    stranger.send("GET / HTTP/1.1\r\n\r\n");
    assert_eq!(stranger.line(), "error: the successor does not greet\n");

    let mut endless = BadPeer::connect(&path);
    endless.send(&"x".repeat(1025));
    assert!(endless.line().contains("a line that does not end"));

    let mut unknown = BadPeer::connect(&path);
    assert_eq!(unknown.greet(), ["127.0.0.1:0"]);
    unknown.send("take 127.0.0.1:1\n");
    let answer = unknown.line();
    assert_eq!(
        answer,
        "error: this process has no listener on 127.0.0.1:1\n"
    );

    // It has the descriptor, and ends.
    let mut dying = BadPeer::connect(&path);
    dying.greet();
    dying.send("take 127.0.0.1:0\n");
    assert_eq!(dying.line(), "sockets 1\n");
    drop(dying);

    let mut silent = BadPeer::connect(&path);
    let answer = silent.line();
    assert_eq!(
        answer,
        "error: the other process was silent for 5 seconds\n"
    );

    assert_eq!(http.request("GET", "/readyz", b"").0, 200);
    until("the descriptors", || {
        descriptor_count(&server) == descriptors
    });
    let next = start(&path, &[]);
    assert_eq!(next.address, server.address);
    assert!(server.ended().0.success());
}

/// Runs the program to its end, which is a failure. Returns what it says.
fn failure(options: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_waterwheel"))
        .args(["--listen", "127.0.0.1:0"])
        .args(options)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_successor_says_what_is_wrong_with_the_process_before() {
    let folder = Folder::new("before");
    let path = folder.at("takeover");
    let file = folder.at("file");
    fs::write(&file, "no socket").unwrap();
    assert!(failure(&["--takeover", &file]).contains("the file is not a socket"));
    assert_eq!(fs::read_to_string(&file).unwrap(), "no socket");

    let listener = UnixListener::bind(&path).unwrap();
    for (answer, expected) in [
        ("waterwheel takeover 2\n", "hands over by version 2"),
        ("HTTP/1.1 400 Bad Request\n", "the other process sent"),
        (
            "error: it is in a bad mood\n",
            "answers: it is in a bad mood",
        ),
        (
            "waterwheel takeover 1\nlistener 127.0.0.1:0\nend\nsockets 1\n.",
            "a byte without a descriptor",
        ),
    ] {
        let why = thread::scope(|scope| {
            scope.spawn(|| {
                let (mut stream, _) = listener.accept().unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
                stream.shutdown(std::net::Shutdown::Write).unwrap();
                let _ = stream.read_to_end(&mut Vec::new());
            });
            failure(&["--takeover", &path])
        });
        assert!(why.contains(expected), "{expected}: {why}");
    }
    // A process that has stopped accepts no one; the kernel makes the connection.
    let why = failure(&["--takeover", &path]);
    assert!(why.contains("silent for 5 seconds"), "{why}");
}

#[test]
fn a_successor_that_takes_nothing_is_refused() {
    let folder = Folder::new("nothing");
    let path = folder.at("takeover");
    let server = start(&path, &[]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_waterwheel"));
    command.args(["--takeover", &path, "--listen", "localhost:0"]);
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let why = String::from_utf8(output.stderr).unwrap();
    assert!(
        why.contains("has taken none of this process's listeners"),
        "{why}"
    );
    assert_eq!(status(server.address).unwrap(), "HTTP/1.1 200 OK");
}

#[test]
fn a_folder_that_is_missing_is_told_before_a_client_comes() {
    let folder = Folder::new("missing");
    let why = failure(&["--takeover", &folder.at("none/takeover")]);
    assert!(why.contains("there is no such folder"), "{why}");
}

#[test]
fn a_socket_that_an_ended_process_left_is_replaced() {
    let folder = Folder::new("stale");
    let path = folder.at("takeover");
    drop(UnixListener::bind(&path).unwrap());
    let server = start(&path, &[]);
    server.terminate();
    assert!(server.ended().0.success());
    assert!(!Path::new(&path).exists(), "it removes its own");
}

#[test]
fn shared_addresses_are_taken_and_others_bound() {
    let folder = Folder::new("shared");
    let (path, kept) = (folder.at("takeover"), folder.at("kept.sock"));
    let (left, new) = (folder.at("left.sock"), folder.at("new.sock"));
    let unix = |path: &str| format!("unix:{path}");
    let old = ["--listen", &unix(&kept), "--listen", &unix(&left)];
    let server = start(&path, &old);
    let inode = |path: &str| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
    let kept_inode = inode(&kept);
    let options = ["--listen", &unix(&kept), "--listen", &unix(&new)];
    // Two reactors share the sockets of one.
    let next = start(&path, &[&options[..], &["--reactors", "2"]].concat());
    assert_eq!(next.address, server.address);
    assert!(server.ended().0.success());
    assert_eq!(inode(&kept), kept_inode);
    assert!(!Path::new(&left).exists(), "no process listens there");
    let answers = |path: &str| unix_status(path) == "HTTP/1.1 200 OK";
    assert!(answers(&kept) && answers(&new));
    // And one takes those of two, which have a socket each.
    let last = start(&path, &options);
    assert_eq!(last.address, next.address);
    assert!(next.ended().0.success());
    assert!(answers(&kept) && answers(&new));
    assert_eq!(status(last.address).unwrap(), "HTTP/1.1 200 OK");
}

#[test]
fn a_process_of_another_user_is_refused() {
    let is_root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
    if !is_root || !has("setpriv") {
        return;
    }
    let folder = Folder::new("user");
    fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o777)).unwrap();
    let (path, program) = (folder.at("takeover"), folder.at("waterwheel"));
    fs::copy(env!("CARGO_BIN_EXE_waterwheel"), &program).unwrap();
    let mut command = Command::new("setpriv");
    command.args([
        "--reuid",
        "65534",
        "--regid",
        "65534",
        "--clear-groups",
        &program,
    ]);
    command.args(["--takeover", &path]);
    let server = Server::spawn(command);
    until("the socket", || Path::new(&path).exists());
    let why = failure(&["--takeover", &path]);
    assert!(
        why.contains("belongs to user 65534, and this one to user 0"),
        "{why}"
    );
    // It is served after the one before it.
    assert_eq!(BadPeer::connect(&path).line(), "");
    assert_eq!(status(server.address).unwrap(), "HTTP/1.1 200 OK");
    server.terminate();
    let (exit, log) = server.ended();
    assert!(exit.success());
    assert!(
        log.contains("belongs to user 0, and this one to user 65534"),
        "{log}"
    );
}
