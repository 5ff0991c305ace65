//! Streams and descriptors with the programs of others: `nc` and a shell.
#![cfg(unix)]

#[path = "../examples/both_ways.rs"]
#[allow(dead_code, reason = "the test has its own main")]
mod both_ways;
#[path = "../examples/half_close.rs"]
#[allow(dead_code, reason = "the test has its own main")]
mod half_close;
#[path = "../examples/inherited.rs"]
#[allow(dead_code, reason = "the test has its own main")]
mod inherited;
#[path = "../examples/stream_chat.rs"]
#[allow(dead_code, reason = "the test has its own main")]
mod stream_chat;
#[path = "../examples/stream_echo.rs"]
#[allow(dead_code, reason = "the test has its own main")]
mod stream_echo;
#[path = "../examples/stream_out.rs"]
#[allow(dead_code, reason = "the test has its own main")]
mod stream_out;
mod support;
#[path = "../examples/udp.rs"]
#[allow(dead_code, reason = "the test has its own main")]
mod udp;
#[path = "../examples/upload.rs"]
#[allow(dead_code, reason = "the test has its own main")]
mod upload;
#[path = "../examples/watch.rs"]
#[allow(dead_code, reason = "the test has its own main")]
mod watch;
#[path = "../examples/watch_file.rs"]
#[allow(dead_code, reason = "the test has its own main")]
mod watch_file;

use std::cell::Cell;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use support::has;
use waterwheel::{Address, Config, ConnMap, EventLoop, Reactor, Router};

fn inet_port<S: 'static>(reactor: &Reactor<S>, listener: waterwheel::ListenerId) -> u16 {
    match reactor.local_addr(listener) {
        Some(Address::Inet(address)) => address.port(),
        other => panic!("{other:?}"),
    }
}

/// Runs a loop until `nc` with these flags has ended, and returns its output for an input.
fn run_with_nc<S: 'static>(
    event_loop: &mut EventLoop<S>,
    port: u16,
    flags: &[&str],
    input: &[u8],
) -> String {
    let mut nc = Command::new("nc")
        .args(flags)
        .args(["127.0.0.1", &port.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Its drop ends the input.
    nc.stdin.take().unwrap().write_all(input).unwrap();
    let remote = event_loop.reactor().remote();
    let output = thread::spawn(move || {
        let output = nc.wait_with_output().unwrap();
        remote.run(|cx| cx.reactor.stop()).unwrap();
        String::from_utf8(output.stdout).unwrap()
    });
    while event_loop.turn(None).unwrap() {}
    output.join().unwrap()
}

// `nc -N` ends its side behind its input, and the answer must still reach it.
#[test]
fn a_client_that_has_ended_its_side_gets_its_answer() {
    if !has("nc") {
        return;
    }
    for input in [&b"x"[..], &[b'x'; 300_000], b""] {
        let mut event_loop = EventLoop::new(Config::default(), half_close::Counts::new()).unwrap();
        let listener = half_close::listen(event_loop.reactor(), "127.0.0.1:0").unwrap();
        let port = inet_port(event_loop.reactor(), listener);
        let answer = run_with_nc(&mut event_loop, port, &["-N"], input);
        assert_eq!(answer, format!("{}\n", input.len()));
        assert!(event_loop.state().is_empty());
    }
}

#[test]
fn an_inherited_socket_is_served() {
    if !has("nc") {
        return;
    }
    let mut event_loop = EventLoop::new(Config::default(), ()).unwrap();
    let opened = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = opened.local_addr().unwrap().port();
    inherited::listen(event_loop.reactor(), opened).unwrap();
    let answer = run_with_nc(&mut event_loop, port, &["-N"], b"hello");
    assert_eq!(answer, "hello");
}

#[test]
fn the_streams_of_eventmachine_speak_with_nc() {
    if !has("nc") {
        return;
    }
    let mut event_loop = EventLoop::new(Config::default(), ()).unwrap();
    let listener = stream_echo::listen(event_loop.reactor(), "127.0.0.1:0").unwrap();
    let port = inet_port(event_loop.reactor(), listener);
    // Without `-N`: the server ends the connection.
    let answer = run_with_nc(&mut event_loop, port, &[], b"quit\n");
    assert_eq!(answer, ">>>you sent: quit\n");
    let mut event_loop = EventLoop::new(Config::default(), ConnMap::default()).unwrap();
    let listener = stream_chat::listen(event_loop.reactor(), "127.0.0.1:0").unwrap();
    let port = inet_port(event_loop.reactor(), listener);
    let answer = run_with_nc(&mut event_loop, port, &["-N"], b"Ada\n");
    let expected = "[info] Please enter your username:\n[info] Ada has joined the room\n";
    assert_eq!(answer, expected);
}

// Datagrams have no end, so `nc -u` is ended when the answer has come.
#[test]
fn a_datagram_of_nc_comes_back() {
    if !has("nc") {
        return;
    }
    let mut event_loop = EventLoop::new(Config::default(), ()).unwrap();
    let id = udp::setup(event_loop.reactor(), "127.0.0.1:0").unwrap();
    let port = event_loop.reactor().udp_address(id).unwrap().port();
    let mut nc = Command::new("nc")
        .args(["-u", "127.0.0.1", &port.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = nc.stdin.take().unwrap();
    let output = nc.stdout.take().unwrap();
    let remote = event_loop.reactor().remote();
    let lines = thread::spawn(move || {
        let mut lines = BufReader::new(output).lines();
        let answers = ["first", "second"].map(|text| {
            writeln!(input, "{text}").unwrap();
            lines.next().unwrap().unwrap()
        });
        remote.run(|cx| cx.reactor.stop()).unwrap();
        answers
    });
    while event_loop.turn(None).unwrap() {}
    assert_eq!(lines.join().unwrap(), ["first", "second"]);
    nc.kill().unwrap();
    nc.wait().unwrap();
}

#[test]
fn the_example_publishes_what_a_program_prints() {
    let child = Command::new("sh")
        .args(["-c", "printf first; printf second"])
        .stdout(Stdio::piped())
        .spawn();
    let mut child = child.unwrap();
    let output = child.stdout.take().unwrap();
    let mut event_loop = EventLoop::new(Config::default(), ()).unwrap();
    let setting_up = watch::setup(event_loop.reactor(), "127.0.0.1:0", output);
    setting_up.unwrap();
    // The example stops the loop at the end of the output.
    while event_loop.turn(None).unwrap() {}
    assert!(event_loop.reactor().stats().publications >= 1);
    assert!(child.wait().unwrap().success());
}

#[test]
fn changes_of_a_file_are_told() {
    let path = std::env::temp_dir().join(format!("waterwheel-watch-{}", std::process::id()));
    std::fs::write(&path, "old").unwrap();
    let mut event_loop = EventLoop::new(Config::default(), Vec::new()).unwrap();
    watch_file::setup(event_loop.reactor(), &path).unwrap();
    std::fs::write(&path, "new").unwrap();
    std::fs::remove_file(&path).unwrap();
    let mut kinds = Vec::new();
    while !kinds.contains(&"remove") {
        // Not `None`: a turn runs what another thread has queued, and then polls before it returns.
        let wait = std::time::Duration::from_millis(100);
        event_loop.turn(Some(wait)).unwrap();
        let told = event_loop.state().drain(..);
        kinds.extend(told.map(|event| match event.kind {
            notify::EventKind::Modify(_) => "modify",
            notify::EventKind::Remove(_) => "remove",
            _ => "other",
        }));
    }
    assert!(kinds.contains(&"modify"), "{kinds:?}");
}

// The counterpart of `EM.watch_process`, for a process that need not be a child of the reactor.
#[cfg(target_os = "linux")]
#[test]
fn the_end_of_a_process_is_told() {
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    use waterwheel::Interest;

    let mut cat = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    let process = pidfd_open(Pid::from_child(&cat), PidfdFlags::empty()).unwrap();
    let mut event_loop = EventLoop::new(Config::default(), ()).unwrap();
    let watching = event_loop
        .reactor()
        .watch(process, Interest::Readable, |watch| {
            watch.reactor.stop();
        });
    watching.unwrap();
    let is_running = event_loop.turn(Some(std::time::Duration::ZERO)).unwrap();
    assert!(is_running);
    drop(cat.stdin.take());
    while event_loop.turn(None).unwrap() {}
    assert!(cat.wait().unwrap().success());
}

/// Runs a loop until `curl` with these words and this path has ended, and returns its output.
fn run_with_curl<S: 'static>(
    event_loop: &mut EventLoop<S>,
    port: u16,
    path: &str,
    words: &[&str],
) -> Vec<u8> {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--max-time", "50"]);
    curl.args(words)
        .arg(format!("http://127.0.0.1:{port}{path}"));
    let remote = event_loop.reactor().remote();
    let output = thread::spawn(move || {
        let output = curl.output().unwrap();
        remote.run(|cx| cx.reactor.stop()).unwrap();
        output
    });
    while event_loop.turn(None).unwrap() {}
    let output = output.join().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    output.stdout
}

/// The example for uploads, on a port, with a folder.
fn serve_uploads(folder: &str) -> (EventLoop<upload::Files>, u16) {
    let mut event_loop = EventLoop::new(Config::default(), upload::Files::default()).unwrap();
    let folder: &'static str = folder.to_owned().leak();
    let mount = |http: &mut Router<_>| upload::mount(http, folder);
    let listener = event_loop.reactor().http("127.0.0.1:0", mount).unwrap();
    let port = inet_port(event_loop.reactor(), listener);
    (event_loop, port)
}

#[test]
fn bodies_go_to_files_of_their_own_in_flat_memory() {
    if !has("curl") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    // 32 MB that repeat nowhere.
    let sent: Vec<u8> = (0..8_000_000u32).flat_map(u32::to_le_bytes).collect();
    fs::write(&source, &sent).unwrap();
    let (mut event_loop, port) = serve_uploads(folder.path().to_str().unwrap());
    let highest = Rc::new(Cell::new(0));
    let held = Rc::clone(&highest);
    event_loop
        .reactor()
        .every(Duration::from_millis(1), move |cx| {
            held.set(held.get().max(cx.reactor.memory_bytes()));
        });
    // Two on one connection.
    let url = format!("http://127.0.0.1:{port}/upload");
    let source = source.to_str().unwrap();
    let words = ["--upload-file", source, &url, "--upload-file", source];
    let names = run_with_curl(&mut event_loop, port, "/upload", &words);
    let names = String::from_utf8(names).unwrap();
    let names: Vec<&str> = names.lines().collect();
    assert!(names.len() == 2 && names[0] != names[1], "{names:?}");
    for name in names {
        let stored = fs::read(name).unwrap();
        assert!(stored == sent, "{} of {} bytes", stored.len(), sent.len());
    }
    assert!(highest.get() < 1_000_000, "{} bytes", highest.get());
}

#[test]
fn a_body_that_is_cut_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let (mut event_loop, port) = serve_uploads(folder.path().to_str().unwrap());
    let remote = event_loop.reactor().remote();
    let file_count = || fs::read_dir(folder.path()).unwrap().count();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            let head = "PUT /upload HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nsome";
            stream.write_all(head.as_bytes()).unwrap();
            while file_count() == 0 {
                thread::yield_now();
            }
            drop(stream);
            while file_count() != 0 {
                thread::yield_now();
            }
            remote.run(|cx| cx.reactor.stop()).unwrap();
        });
        while event_loop.turn(None).unwrap() {}
    });
}

#[test]
fn a_body_comes_back_while_it_is_sent() {
    if !has("curl") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    fs::write(&source, "abc".repeat(1_000_000)).unwrap();
    let mut event_loop = EventLoop::new(Config::default(), ()).unwrap();
    let listener = both_ways::listen(event_loop.reactor(), "127.0.0.1:0").unwrap();
    let port = inet_port(event_loop.reactor(), listener);
    let words = ["--no-buffer", "--upload-file", source.to_str().unwrap()];
    let body = run_with_curl(&mut event_loop, port, "/capitals", &words);
    assert!(body == "ABC".repeat(1_000_000).as_bytes());
}

#[test]
fn an_answer_is_as_long_as_its_client_reads() {
    if !has("curl") {
        return;
    }
    let lines: String = (0..stream_out::LINE_COUNT)
        .map(|number| format!("line {number}\n"))
        .collect();
    for path in ["/iterator", "/thread"] {
        let mut event_loop = EventLoop::new(Config::default(), ()).unwrap();
        let listener = stream_out::listen(event_loop.reactor(), "127.0.0.1:0").unwrap();
        let port = inet_port(event_loop.reactor(), listener);
        let words = ["--no-buffer", "--limit-rate", "20M"];
        let body = run_with_curl(&mut event_loop, port, path, &words);
        assert!(body == lines.as_bytes(), "{path}: {} bytes", body.len());
    }
}
