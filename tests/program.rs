//! The program as its users run it: real processes, real sockets, clients of other implementations.

#![cfg(all(unix, feature = "program"))]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::thread;

use support::{Http, Server, Socket, has};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Message, WebSocket};

/// A `curl -N` on an event stream. Dropping this kills it.
struct Curl {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Curl {
    fn listen(url: &str) -> Curl {
        let mut child = Command::new("curl")
            .args(["-sN", url])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Curl { child, lines }
    }

    /// The data of the next event that has some.
    fn next(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            if let Some(data) = line.trim_end().strip_prefix("data: ") {
                return Some(data.to_owned());
            }
        }
    }
}

impl Drop for Curl {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Publishes until a message reaches this number of members.
fn publish_until_delivered(http: &mut Http, topic: &str, members: usize) {
    let expected = format!("\"delivered\":{members}}}");
    loop {
        let (status, answer) = http.request("POST", &format!("/publish?topic={topic}"), b"begin");
        assert_eq!(status, 200, "{answer}");
        if answer.trim_end().ends_with(&expected) {
            return;
        }
    }
}

fn next_text(client: &mut WebSocket<Socket>) -> String {
    loop {
        if let Message::Text(text) = client.read().unwrap() {
            return text.as_str().to_owned();
        }
    }
}

#[test]
fn ten_thousand_publishes_reach_all_in_one_order() {
    if !has("curl") {
        return;
    }
    const COUNT: usize = 10_000;
    let server = Server::start(&[]);
    let curls = [(); 2].map(|()| Curl::listen(&server.url("/events?topic=chat")));
    let mut plain = server.websocket("/ws");
    plain.send(Message::text("chat")).unwrap();
    let mut http = Http::new(server.connect());
    publish_until_delivered(&mut http, "chat", 3);

    let readers = thread::spawn(move || {
        let numbers = |mut next: Box<dyn FnMut() -> String>| {
            let mut text = next();
            while text == "begin" {
                text = next();
            }
            let mut all = vec![text];
            while all.len() < COUNT {
                all.push(next());
            }
            all
        };
        let from_socket = numbers(Box::new(move || next_text(&mut plain)));
        let from_curls = curls.map(|mut curl| numbers(Box::new(move || curl.next().unwrap())));
        (from_socket, from_curls)
    });
    for number in 0..COUNT {
        let body = number.to_string();
        let (status, answer) = http.request("POST", "/publish?topic=chat", body.as_bytes());
        assert_eq!(status, 200, "{answer}");
        assert!(answer.contains("\"delivered\":3"), "{number}: {answer}");
    }
    let (from_socket, from_curls) = readers.join().unwrap();
    let expected: Vec<_> = (0..COUNT).map(|number| number.to_string()).collect();
    assert!(from_socket == expected);
    assert!(from_curls.iter().all(|numbers| *numbers == expected));
}

#[test]
fn term_says_goodbye_and_ends_with_success() {
    if !has("curl") {
        return;
    }
    let server = Server::start(&["--drain-window", "1"]);
    let mut curl = Curl::listen(&server.url("/events?topic=chat"));
    let mut plain = server.websocket("/ws");
    plain.send(Message::text("chat")).unwrap();
    let mut http = Http::new(server.connect());
    publish_until_delivered(&mut http, "chat", 2);

    server.terminate();
    let close = loop {
        match plain.read().unwrap() {
            Message::Close(close) => break close.unwrap(),
            message => assert_eq!(message, Message::text("begin")),
        }
    };
    assert_eq!(close.code, CloseCode::Away);
    // Tungstenite writes its answer on the next call.
    let _ = plain.flush();
    while let Some(data) = curl.next() {
        assert_eq!(data, "begin");
    }
    // An exit code of 18 would mean that the body was cut short.
    assert_eq!(curl.child.wait().unwrap().code(), Some(0));
    let (status, log) = server.ended();
    assert_eq!(status.code(), Some(0), "{log}");
}

#[test]
fn int_drains_like_term() {
    let server = Server::start(&["--drain-window", "0"]);
    let mut client = server.websocket("/ws");
    server.signal("-INT");
    match client.read().unwrap() {
        Message::Close(Some(close)) => assert_eq!(close.code, CloseCode::Away),
        message => panic!("{message:?}"),
    }
    let _ = client.flush();
    let (status, log) = server.ended();
    assert_eq!(status.code(), Some(0), "{log}");
}

#[test]
fn a_second_term_ends_at_once() {
    let server = Server::start(&["--drain-window", "3600"]);
    let mut client = server.websocket("/ws");
    client.send(Message::text("chat")).unwrap();
    let mut http = Http::new(server.connect());
    publish_until_delivered(&mut http, "chat", 1);
    server.terminate();
    while Http::new(server.connect()).request("GET", "/readyz", b"").0 == 200 {
        thread::yield_now();
    }
    server.terminate();
    // The drain alone would take an hour.
    let (status, log) = server.ended();
    assert!(status.success(), "{log}");
}

#[test]
fn too_few_descriptors_fail_before_anything_is_announced() {
    let output = Command::new("bash")
        .args(["-c", "ulimit -n 40 && exec \"$0\" \"$@\""])
        .arg(env!("CARGO_BIN_EXE_waterwheel"))
        .args(["--listen", "127.0.0.1:0", "--reactors", "8"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.contains("ulimit -n") && error.contains("136"),
        "{error}"
    );
    assert!(output.stdout.is_empty());
}

#[test]
fn misdirected_clients_are_one_log_line_a_kind_without_their_bytes() {
    let server = Server::start(&["--log", "debug"]);
    for said in [&b"\x16\x03\x01\x02\x00\x01"[..], b"PROXY TCP4 1.1.1.1 "] {
        for _ in 0..2 {
            let mut client = server.connect();
            client.write_all(said).unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).unwrap();
        }
    }
    let mut client = server.websocket("/ws");
    let frame = tungstenite::protocol::CloseFrame {
        code: CloseCode::Normal,
        reason: "secret\nwords".into(),
    };
    client.close(Some(frame)).unwrap();
    while client.read().is_ok() {}
    server.terminate();
    let (_, log) = server.ended();
    for line in ["speaks TLS", "PROXY headers"] {
        let warnings = log
            .lines()
            .filter(|found| found.contains("WARN") && found.contains(line));
        assert_eq!(warnings.count(), 1, "{log}");
    }
    assert!(log.contains("ended: 1000 closed by peer\n"), "{log}");
    assert!(!log.contains("secret") && !log.contains("words"), "{log}");
}

#[test]
#[cfg(target_os = "linux")]
fn a_client_that_stops_reading_costs_at_most_its_queue_limit() {
    const MESSAGES: usize = 100;
    const BYTES: usize = 1024 * 1024;
    // Messages that are kept in the history would take 64 MiB.
    let server = Server::start(&["--log", "debug", "--topic", "*=history=0"]);
    let mut stopped = server.websocket("/ws");
    stopped.send(Message::text("chat")).unwrap();
    let mut reader = server.websocket("/ws");
    reader.send(Message::text("chat")).unwrap();
    let mut http = Http::new(server.connect());
    publish_until_delivered(&mut http, "chat", 2);

    // The publisher waits for it: a reader of a debug build may be slower than the publisher.
    let (has_read, was_read) = mpsc::channel();
    let reading = thread::spawn(move || {
        let mut count = 0;
        while count < MESSAGES {
            let text = next_text(&mut reader);
            if text != "begin" {
                assert_eq!(text.len(), BYTES);
                assert!(text.starts_with(&format!("{count:03}")));
                count += 1;
                has_read.send(()).unwrap();
            }
        }
        reader
    });
    let before = server.resident_bytes();
    let mut most = before;
    for number in 0..MESSAGES {
        let mut body = format!("{number:03}").into_bytes();
        body.resize(BYTES, b'x');
        let (status, answer) = http.request("POST", "/publish?topic=chat", &body);
        assert_eq!(status, 200, "{answer}");
        was_read.recv().unwrap();
        most = most.max(server.resident_bytes());
    }
    let reader = reading.join().unwrap();
    // A queue holds 1 MiB and one message. The message being received, the one being published and
    // the queue of the other client come on top. Without a limit it would be 100 MB.
    let growth = most - before;
    assert!(growth < 16 * 1024 * 1024, "{growth} bytes");
    // A client that reads again gets the rest of a begun message, and then the reason.
    let close = loop {
        match stopped.read().unwrap() {
            Message::Close(close) => break close.unwrap(),
            message => assert!(message.is_text()),
        }
    };
    assert_eq!(u16::from(close.code), 1013);
    let _ = stopped.flush();
    drop((stopped, reader, http));
    server.terminate();
    let (_, log) = server.ended();
    let told = |line: &str| line.contains(": ended: 1013 slow consumer");
    assert!(log.lines().any(told), "{log}");
    assert!(!log.contains("xxxx"), "a payload in the log");
}

#[test]
fn a_port_in_use_is_reported_with_exit_code_1() {
    let server = Server::start(&[]);
    let output = Command::new(env!("CARGO_BIN_EXE_waterwheel"))
        .args(["--listen", &server.address.to_string()])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.contains(&format!("cannot listen on {}", server.address)),
        "{error}"
    );
    assert!(
        !error.contains("panicked") && output.stdout.is_empty(),
        "{error}"
    );
}

#[test]
fn no_listener_is_announced_before_all_are_bound() {
    let server = Server::start(&[]);
    let taken = server.address.to_string();
    for command in ["serve", "echo"] {
        let output = Command::new(env!("CARGO_BIN_EXE_waterwheel"))
            .args([command, "--listen", "127.0.0.1:0", "--listen", &taken])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(said, "", "{command}: of a listener that is gone");
    }
}

// The signal handlers were once installed after the announcement, so that a signal in between
// killed the process. Here its standard output is full, so it stops in the announcement.
#[test]
fn a_signal_after_the_announcement_ends_the_program_cleanly() {
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    for command in ["serve", "echo"] {
        let path = std::env::temp_dir().join(format!(
            "waterwheel-early-{command}-{}.sock",
            std::process::id()
        ));
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        while theirs.write(&[b'.'; 1024]).is_ok() {}
        theirs.set_nonblocking(false).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_waterwheel"))
            .args([command, "--listen", &format!("unix:{}", path.display())])
            .stdin(Stdio::null())
            .stdout(Stdio::from(OwnedFd::from(theirs)))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while UnixStream::connect(&path).is_err() {
            assert!(child.try_wait().unwrap().is_none(), "{command} ended early");
            thread::yield_now();
        }
        let id = child.id().to_string();
        let killed = Command::new("kill").args(["-TERM", &id]).status();
        assert!(killed.unwrap().success());
        let mut said = String::new();
        ours.read_to_string(&mut said).unwrap();
        assert!(said.trim_start_matches('.').starts_with("listening on "));
        let status = child.wait().unwrap();
        assert!(status.success(), "{command}: {status}");
    }
}

/// The program with a standard error that is full already, and the end from which it can be read.
fn start_with_full_stderr(words: &[&str]) -> (Server, std::os::unix::net::UnixStream) {
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    while theirs.write(&[b'.'; 1024]).is_ok() {}
    theirs.set_nonblocking(false).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_waterwheel"));
    command.args(words).args(["--listen", "127.0.0.1:0"]);
    let server = Server::run_with_stderr(command, Stdio::from(OwnedFd::from(theirs)));
    (server, ours)
}

// A log line once waited until standard error took it, and with it every client and every signal.
#[test]
fn a_standard_error_that_takes_no_bytes_stops_neither_clients_nor_the_end() {
    // Each client causes several lines of more than a hundred bytes at this level.
    let (mut server, mut stderr) =
        start_with_full_stderr(&["--log", "debug", "--drain-window", "0"]);
    for _ in 0..2000 {
        let mut client = server.connect();
        client.write_all(b"nonsense\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
    }
    let mut http = Http::new(server.connect());
    assert_eq!(http.request("GET", "/healthz", b"").0, 200);
    // When it is read again, the log goes on and says how many lines were dropped.
    let mut lines = BufReader::new(stderr.try_clone().unwrap()).lines();
    let told = lines.find(|line| line.as_ref().unwrap().contains(" log lines were dropped"));
    assert!(told.is_some());
    drop(http);
    server.terminate();
    stderr.read_to_end(&mut Vec::new()).unwrap();
    assert!(server.child.wait().unwrap().success());

    let (mut server, _unread) = start_with_full_stderr(&["--drain-window", "0"]);
    server.terminate();
    assert!(server.child.wait().unwrap().success());
}

#[test]
fn a_public_listener_needs_a_token_or_open() {
    let output = Command::new(env!("CARGO_BIN_EXE_waterwheel"))
        .args(["--listen", "0.0.0.0:0"])
        .env_remove("WATERWHEEL_PUBLISH_TOKEN")
        .output()
        .unwrap();
    assert!(!output.status.success());
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.contains("--publish-token") && error.contains("--open"),
        "{error}"
    );
    assert!(output.stdout.is_empty());
}

#[test]
fn port_and_token_are_taken_from_the_environment() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_waterwheel"));
    command
        .env("PORT", "0")
        .env("WATERWHEEL_PUBLISH_TOKEN", "open-sesame");
    let server = Server::run(command);
    let mut http = Http::new(server.connect());
    let (status, answer) = http.request("POST", "/publish?topic=a", b"hi");
    assert_eq!(status, 401, "{answer}");
    let (status, answer) = http.request("POST", "/publish?topic=a&token=open-sesame", b"hi");
    assert_eq!(status, 200, "{answer}");
    server.terminate();
    let (status, log) = server.ended();
    assert!(status.success(), "{log}");
    assert!(log.contains("listening on 0.0.0.0:"), "{log}");
    assert!(!log.contains("sesame"), "{log}");
}

#[test]
fn options_are_taken_from_a_file() {
    let file = std::env::temp_dir().join(format!("waterwheel-options-{}", std::process::id()));
    std::fs::write(&file, "# one option\npublish-token open-sesame\n").unwrap();
    // By the environment and by the option; the command line wins over the file.
    let by_environment = |command: &mut Command| {
        command.env("WATERWHEEL_OPTIONS_FILE", &file);
    };
    let by_option = |command: &mut Command| {
        // A file that does not exist would stop the program.
        command.env("WATERWHEEL_OPTIONS_FILE", "/no/such/file");
        command.arg("--options-file").arg(&file);
        command.args(["--publish-token", "other-sesame"]);
    };
    let cases: [(&dyn Fn(&mut Command), _, _); 2] = [
        (&by_environment, "open-sesame", "other-sesame"),
        (&by_option, "other-sesame", "open-sesame"),
    ];
    for (set, right, wrong) in cases {
        let mut command = Command::new(env!("CARGO_BIN_EXE_waterwheel"));
        set(&mut command);
        let server = Server::spawn(command);
        let mut http = Http::new(server.connect());
        for (token, status) in [(right, 200), (wrong, 401)] {
            let target = format!("/publish?topic=a&token={token}");
            assert_eq!(http.request("POST", &target, b"hi").0, status, "{token}");
        }
    }
    std::fs::write(&file, "access-log\nlissen :1\n").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_waterwheel"))
        .env("WATERWHEEL_OPTIONS_FILE", &file)
        .output()
        .unwrap();
    std::fs::remove_file(&file).unwrap();
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8(output.stderr).unwrap();
    for part in [file.to_str().unwrap(), "line 2", "lissen", "--listen?"] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn an_invalid_port_is_named_with_exit_code_2() {
    let output = Command::new(env!("CARGO_BIN_EXE_waterwheel"))
        .env("PORT", "http")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.contains("PORT") && error.contains("\"http\""),
        "{error}"
    );
}

#[test]
fn only_pages_of_allowed_origins_are_served() {
    let server = Server::start(&["--allow-origin", "https://example.org"]);
    let ask_as = |host: &str, origin: &str| {
        let mut stream = server.connect();
        let request = format!(
            "GET /healthz HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let ask = |origin: &str| ask_as("localhost", origin);
    let allowed = ask("https://example.org");
    assert!(allowed.starts_with("HTTP/1.1 200"), "{allowed}");
    assert!(
        allowed.contains("Access-Control-Allow-Origin: https://example.org\r\n"),
        "{allowed}"
    );
    let refused = ask("https://example.net");
    assert!(refused.starts_with("HTTP/1.1 403"), "{refused}");
    let refused = ask_as("live.example.net", "http://live.example.net");
    assert!(refused.starts_with("HTTP/1.1 403"), "{refused}");
    // The log names the option that would have allowed them.
    server.terminate();
    let (_, log) = server.ended();
    for line in [
        "\"https://example.net\"; --allow-origin allows it",
        "\"live.example.net\" on a loopback address; --allow-origin https://live.example.net allows it, \
         or http://live.example.net if its pages are loaded without TLS",
    ] {
        assert!(log.contains(line), "{log}");
    }
}

#[test]
fn a_proxy_in_front_of_a_local_listener_closes_it() {
    let server = Server::start(&["--allow-origin", "https://live.example.org"]);
    let answer = Http::new(server.connect()).request("POST", "/publish?topic=t", b"x");
    assert_eq!(answer.0, 401, "{}", answer.1);
    server.terminate();
    let (_, log) = server.ended();
    assert!(log.contains("publishing and patterns are refused"), "{log}");
    let server = Server::start(&["--publish-token", "short"]);
    server.terminate();
    let (_, log) = server.ended();
    assert!(log.contains("fewer than 16 characters"), "{log}");
}

#[test]
fn a_client_behind_a_trusted_proxy_counts_by_its_own_address() {
    let server = Server::start(&[
        "--trusted-proxy",
        "127.0.0.0/8",
        "--max-connections-per-address",
        "2",
        "--drain-window",
        "0",
    ]);
    let ask = |client: &str| {
        let mut stream = server.connect();
        let head = format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\n{client}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).unwrap();
        (String::from_utf8_lossy(&status[9..]).into_owned(), stream)
    };
    let one = "X-Forwarded-For: 192.0.2.1, 203.0.113.1";
    let same_site = [
        "Forwarded: for=\"[2001:db8::1]\"",
        "X-Forwarded-For: 2001:db8::2",
    ];
    let held: Vec<_> = [one, one, same_site[0], same_site[1]].map(ask).into();
    assert!(held.iter().all(|(status, _)| status == "200"));
    assert_eq!(ask(one).0, "429");
    assert_eq!(ask("X-Forwarded-For: 2001:db8::3").0, "429");
    assert_eq!(ask("X-Forwarded-For: 203.0.113.2").0, "200");
    // A proxy's own requests are not counted.
    assert!([(); 4].iter().all(|()| ask("X: y").0 == "200"));
    let contradiction = "X-Forwarded-For: 203.0.113.2\r\nForwarded: for=203.0.113.3";
    assert_eq!(ask(contradiction).0, "400");
    assert_eq!(ask("X-Forwarded-For: nonsense").0, "400");
    // A client that the proxy hides has no address to be counted by.
    assert!(
        [(); 4]
            .iter()
            .all(|()| ask("Forwarded: for=unknown").0 == "200")
    );
    drop(held);
    while ask(one).0 != "200" {}
    server.terminate();
    let (_, log) = server.ended();
    let refusals = log.matches("more connections than one address may have");
    assert_eq!(refusals.count(), 1, "{log}");
    let lines: Vec<_> = log
        .lines()
        .filter(|it| it.contains("trusted proxy"))
        .collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(
        lines[0].contains("WARN") && lines[0].contains("127.0.0.1"),
        "{log}"
    );
    assert!(lines[0].contains("contradict each other"), "{log}");
}

#[test]
fn clients_above_max_connections_wait_until_one_leaves() {
    let server = Server::start(&["--max-connections", "1", "--drain-window", "0"]);
    let mut first = Http::new(server.connect());
    assert_eq!(first.request("GET", "/healthz", b"").0, 200);
    let mut second = server.connect();
    second
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .unwrap();
    // The log lines about the second client are written before this answer.
    assert_eq!(first.request("GET", "/healthz", b"").0, 200);
    drop(first);
    let mut answer = String::new();
    second.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // Each of these finds the hub full again, or makes it full.
    for _ in 0..20 {
        let mut http = Http::new(server.connect());
        assert_eq!(http.request("GET", "/healthz", b"").0, 200);
    }
    server.terminate();
    let (_, log) = server.ended();
    assert!(log.contains("room for 1 connections"), "{log}");
    let pauses = log.matches("accepting pauses at 1 connections").count();
    assert_eq!(pauses, 1, "{log}");
}

// A name without an address was once reported as a public listener without a token.
#[test]
fn a_name_without_an_address_is_reported_before_the_missing_token() {
    for listen in ["nosuchhost.invalid:80", "*:0"] {
        let output = Command::new(env!("CARGO_BIN_EXE_waterwheel"))
            .args(["--listen", listen])
            .env_remove("WATERWHEEL_PUBLISH_TOKEN")
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(
            error.contains(&format!("cannot listen on {listen}: ")),
            "{error}"
        );
        assert!(!error.contains("publish"), "{error}");
    }
}

// An empty token was once refused as an invalid one.
#[test]
fn an_empty_token_in_the_environment_counts_as_unset() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_waterwheel"));
    command.env("WATERWHEEL_PUBLISH_TOKEN", "");
    let server = Server::spawn(command);
    let answer = Http::new(server.connect()).request("POST", "/publish?topic=t", b"x");
    assert_eq!(answer.0, 200, "{}", answer.1);
}

// The token stood in the command line, which other users of the machine can see, and HUP ended the
// hub without a goodbye.
#[test]
fn tokens_of_a_file_are_read_again_on_hup() {
    let path = std::env::temp_dir().join(format!("waterwheel-tokens-{}", std::process::id()));
    std::fs::write(&path, "# since May\n\nfirst-secret\n  second-secret\n").unwrap();
    let words = ["--publish-token-file", path.to_str().unwrap()];
    let server = Server::start(&[&words[..], &["--log-format", "json"]].concat());
    let mut http = Http::new(server.connect());
    let mut status_with = |token: &str| {
        let target = format!("/publish?topic=a&token={token}");
        http.request("POST", &target, b"hi").0
    };
    let statuses = ["first-secret", "second-secret", "since", "%23"].map(&mut status_with);
    assert_eq!(statuses, [200, 200, 401, 401]);
    std::fs::write(&path, "third-secret\n").unwrap();
    server.signal("-HUP");
    while status_with("third-secret") == 401 {
        thread::yield_now();
    }
    assert_eq!(status_with("first-secret"), 401);
    server.terminate();
    let (status, log) = server.ended();
    std::fs::remove_file(&path).unwrap();
    assert!(status.success(), "{log}");
    assert!(
        log.contains("HUP: read 1 token from") && !log.contains("secret"),
        "{log}"
    );
    for line in log.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let time = line["time"].as_str().unwrap();
        assert!(
            time.len() == "2026-11-21T19:45:27.123Z".len() && time.ends_with('Z'),
            "{line}"
        );
        assert!(
            line["level"].is_string() && line["message"].is_string(),
            "{line}"
        );
    }
}

#[test]
fn the_access_log_has_a_line_for_each_request_without_its_token() {
    for format in ["text", "json"] {
        let words = ["--access-log", "--log-format", format, "--log", "off"];
        let server = Server::start(&[&words[..], &["--publish-token", "open-sesame"]].concat());
        let mut http = Http::new(server.connect());
        http.request("POST", "/publish?topic=a&token=open-sesame", b"hi");
        http.request("POST", "/publish?topic=a&token=wrong-sesame", b"hi");
        http.request("GET", "/none", b"");
        let _socket = server.websocket("/ws");
        server.terminate();
        let (_, log) = server.ended();
        assert!(!log.contains("sesame"), "{log}");
        let expected = [
            ("POST", "/publish", 200),
            ("POST", "/publish", 401),
            ("GET", "/none", 404),
            ("GET", "/ws", 101),
        ];
        assert_eq!(log.lines().count(), expected.len(), "{log}");
        for (line, (method, path, status)) in log.lines().zip(expected) {
            if format == "text" {
                let words = format!(" {method} {path} {status} ");
                assert!(
                    line.contains(" INFO  127.0.0.1:") && line.contains(&words),
                    "{line}"
                );
                continue;
            }
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(line["method"], method);
            assert_eq!(
                (&line["path"], &line["status"]),
                (&path.into(), &status.into())
            );
            assert!(
                line["peer"].as_str().unwrap().starts_with("127.0.0.1:"),
                "{line}"
            );
            assert!(line["bytes"].is_u64() && line["seconds"].is_f64(), "{line}");
        }
    }
}

#[test]
fn hup_without_files_says_so_and_the_server_goes_on() {
    let words: [&[&str]; 2] = [
        &["serve", "--drain-window", "0"],
        &["echo", "--log", "info"],
    ];
    for words in words {
        let mut server = Server::start(words);
        server.signal("-HUP");
        let mut lines = BufReader::new(server.child.stderr.take().unwrap()).lines();
        let told = lines.find(|line| line.as_ref().unwrap().contains("HUP: there is no file"));
        // The time stands in front.
        assert!(told.unwrap().unwrap().starts_with("20"));
        assert_eq!(
            Http::new(server.connect())
                .request("GET", "/healthz", b"")
                .0,
            200
        );
    }
}

#[test]
fn a_token_file_without_a_token_is_reported() {
    for (text, named) in [("# none\n", "no token in it"), ("two words\n", "line 1")] {
        let path = std::env::temp_dir().join(format!("waterwheel-none-{}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_waterwheel"))
            .args(["--listen", "127.0.0.1:0", "--publish-token-file"])
            .arg(&path)
            .output()
            .unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(output.status.code(), Some(1));
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(
            error.contains("--publish-token-file") && error.contains(named),
            "{error}"
        );
        assert!(
            !error.contains("two words") && output.stdout.is_empty(),
            "{error}"
        );
    }
}

#[test]
fn a_unix_socket_has_the_permissions_that_were_asked_for() {
    use std::os::unix::fs::PermissionsExt;
    let path = std::env::temp_dir().join(format!("waterwheel-mode-{}.sock", std::process::id()));
    let listen = format!("unix:{}", path.display());
    let _server = Server::start(&["--listen", &listen, "--unix-mode", "660"]);
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
}

#[test]
fn invalid_arguments_are_named_with_exit_code_2() {
    for (words, named) in [
        (&["--lissen", "x"][..], "did you mean --listen?"),
        (&["--listen", "http://127.0.0.1:1"], "leave out"),
        (&["--open", "--publish-token", "t"], "leave one of them out"),
        (&["--allow-origin", "https://a.example:443"], "leave out"),
        (&["doctor", "--conections", "1"], "--connections?"),
        (&["doctor", "--x"], "waterwheel doctor --help"),
        (&["--drain-window", "soon"], "soon"),
        (&["--max-connections", "0"], "--max-connections"),
        (&["echo", "--to", "nobody"], "nobody"),
        (&["doctor", "--connections", "99999999999"], "100000000"),
        (&["bench", "ecko"], "waterwheel bench --help"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_waterwheel"))
            .args(words)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains(named), "{error}");
    }
}

#[test]
fn a_unix_socket_serves_the_hub_and_is_removed() {
    use std::os::unix::net::UnixStream;
    let path = std::env::temp_dir().join(format!("waterwheel-{}.sock", std::process::id()));
    let listen = format!("unix:{}", path.display());
    let server = Server::start(&["--listen", &listen]);
    let mut stream = UnixStream::connect(&path).unwrap();
    stream
        .write_all(b"POST /publish?topic=a HTTP/1.1\r\nHost: whatever\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    server.terminate();
    let (status, log) = server.ended();
    assert!(status.success(), "{log}");
    assert!(!path.exists());
}

#[test]
fn echo_returns_messages_and_bodies() {
    let server = Server::start(&["echo"]);
    let mut client = server.websocket("/any/path?at=all");
    for length in [0, 1, 125, 126, 65_535, 65_536, 3_000_000] {
        let text = "é".repeat(length / 2);
        client.send(Message::text(&text)).unwrap();
        assert_eq!(client.read().unwrap(), Message::text(text));
        let bytes = vec![0xff; length];
        client.send(Message::binary(bytes.clone())).unwrap();
        assert_eq!(client.read().unwrap(), Message::binary(bytes));
    }
    let mut http = Http::new(server.connect());
    for method in ["GET", "POST", "PUT", "DELETE"] {
        let answer = http.request(method, "/x", b"the body");
        assert_eq!(answer, (200, "the body".to_owned()), "{method}");
    }
}

#[test]
fn echo_to_all_reaches_every_client() {
    let server = Server::start(&["echo", "--to", "all"]);
    let mut clients: Vec<_> = (0..10).map(|_| server.websocket("/")).collect();
    for client in &mut clients {
        // A client that gets its own message back is a member.
        support::round_trip(client, "here");
    }
    clients[3].send(Message::text("to all")).unwrap();
    for client in &mut clients {
        while next_text(client) != "to all" {}
    }
}

#[test]
#[cfg(target_os = "linux")]
fn the_doctor_prints_a_line_for_each_limit_and_exits_by_the_worst() {
    for connections in ["1", "100000000"] {
        let output = Command::new(env!("CARGO_BIN_EXE_waterwheel"))
            .args(["doctor", "--connections", connections])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let words: Vec<_> = text
            .lines()
            .take_while(|line| !line.is_empty())
            .map(|line| line.split(' ').next().unwrap())
            .collect();
        assert_eq!(words.len(), 12, "{text}");
        let is_bad = words.iter().any(|word| ["low", "high"].contains(word));
        assert_eq!(output.status.code(), Some(i32::from(is_bad)), "{text}");
        if connections != "1" {
            assert!(words.contains(&"low"), "{text}");
        }
    }
}

#[test]
fn limits_of_one_client_are_those_of_the_options() {
    let server = Server::start(&[
        "--max-fragments",
        "2",
        "--messages-per-second",
        "3",
        "--max-subscriptions",
        "1",
    ]);
    let code = |server: &Server, frames: &[u8]| {
        let mut socket = server.websocket("/ws");
        socket.get_mut().write_all(frames).unwrap();
        loop {
            match socket.read().unwrap() {
                tungstenite::Message::Close(frame) => return frame.map(|it| u16::from(it.code)),
                other => assert!(other.is_pong() || other.is_ping(), "{other:?}"),
            }
        }
    };
    let frame = |first: u8, payload: &[u8]| {
        let header = [first, 0x80 | payload.len() as u8, 0, 0, 0, 0];
        [&header, payload].concat()
    };
    let fragments = [frame(0x01, b"a"), frame(0x00, b"b"), frame(0x80, b"c")];
    assert_eq!(code(&server, &fragments.concat()), Some(1008));
    assert_eq!(code(&server, &frame(0x89, b"").repeat(8)), Some(1008));
    let two_names = [frame(0x81, b"one"), frame(0x81, b"two")];
    assert_eq!(code(&server, &two_names.concat()), Some(1008));
    let server = Server::start(&["--max-connection-age", "1"]);
    assert_eq!(code(&server, &frame(0x81, b"one")), Some(1001));
}
