//! TLS on real sockets, against other implementations.

use super::*;

#[test]
fn rustls_own_client_gets_its_echo_on_loopback() {
    let mut port = None;
    let (sender, receiver) = std::sync::mpsc::channel();
    let client = std::thread::spawn(move || {
        let port: u16 = receiver.recv().unwrap();
        for version in VERSIONS {
            let mut socket = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
            let name = ServerName::try_from("localhost").unwrap();
            let mut tls = ClientConnection::new(client_config(&[version]), name).unwrap();
            let mut stream = rustls::Stream::new(&mut tls, &mut socket);
            for length in [1, 20, 16 * 1024, 1_000_000] {
                let message: Vec<u8> = (0..length).map(|n| n as u8).collect();
                stream.write_all(&message).unwrap();
                let mut answer = vec![0; length];
                stream.read_exact(&mut answer).unwrap();
                assert!(answer == message, "{version:?}: {length} bytes");
            }
            tls.send_close_notify();
            tls.write_tls(&mut socket).unwrap();
            let mut rest = Vec::new();
            rustls::Stream::new(&mut tls, &mut socket)
                .read_to_end(&mut rest)
                .unwrap();
        }
    });
    let log = Reactor::run(Log::new(), |reactor| {
        let tls = ServerTls::new(server_config("server"));
        let options = ListenOptions::new("127.0.0.1:0").tls(tls);
        let listener = reactor.stream(options, |stream| {
            stream.on_data(|stream, bytes| stream.send(bytes));
            stream.on_close(|stream, close| {
                stream.state.push(close.cause.to_string());
                if stream.state.len() == VERSIONS.len() {
                    stream.reactor.stop();
                }
            });
        })?;
        port = reactor
            .local_addr(listener)
            .and_then(|address| address.port());
        sender.send(port.unwrap()).unwrap();
        std::io::Result::Ok(())
    });
    client.join().unwrap();
    assert_eq!(log.unwrap(), ["closed by peer", "closed by peer"]);
}

// ── openssl and curl ─────────────────────────────────────────────────────────────────────────────

/// A server of `hello over https` in a thread of its own, until it is dropped.
struct Https {
    port: u16,
    remote: Remote<Log>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Https {
    fn start(tls: ServerTls) -> Https {
        let (sender, receiver) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let ended = Reactor::run(Log::new(), |reactor| {
                let options = ListenOptions::new("127.0.0.1:0").tls(tls);
                let listener = reactor.http(options, |http| {
                    http.get("/", |request| request.reply("hello over https\n"));
                })?;
                let port = reactor
                    .local_addr(listener)
                    .and_then(|address| address.port());
                sender.send((port.unwrap(), reactor.remote())).unwrap();
                std::io::Result::Ok(())
            });
            ended.unwrap();
        });
        let (port, remote) = receiver.recv().unwrap();
        Https {
            port,
            remote,
            thread: Some(thread),
        }
    }

    fn stats(&self) -> Stats {
        let (sender, receiver) = std::sync::mpsc::channel();
        let asked = self
            .remote
            .run(move |cx| sender.send(cx.reactor.stats().clone()).unwrap());
        asked.unwrap();
        receiver.recv().unwrap()
    }

    /// The output of `openssl s_client` that sends `input`, with further words.
    fn s_client(&self, words: &[&str], input: &str) -> String {
        let address = format!("127.0.0.1:{}", self.port);
        let mut command = Command::new("openssl");
        command.args(["s_client", "-connect", &address, "-servername", "localhost"]);
        command.args(["-verify_return_error", "-CAfile", &file("ca.pem")]);
        output(command.args(words), input)
    }
}

impl Drop for Https {
    fn drop(&mut self) {
        let _ = self.remote.run(|cx| cx.reactor.stop());
        let ended = self.thread.take().map(std::thread::JoinHandle::join);
        if !std::thread::panicking() {
            ended.unwrap().unwrap();
        }
    }
}

/// The text that a program prints on both outputs when it is given `input`.
fn output(command: &mut Command, input: &str) -> String {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // An error means that the program has ended before.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).into_owned()
}

const REQUEST: &str = "GET / HTTP/1.0\r\nHost: localhost\r\n\r\n";

fn lacks(program: &str) -> bool {
    let has = Command::new(program).arg("version").output().is_ok();
    if !has {
        assert!(
            std::env::var_os("CI").is_none(),
            "{program} is not installed"
        );
        eprintln!("skipped: {program} is not installed");
    }
    !has
}

#[test]
fn openssl_gets_an_answer_by_both_versions_and_both_kinds_of_key() {
    if lacks("openssl") {
        return;
    }
    let server = Https::start(builder(&["server", "server_rsa"]).build().unwrap());
    let cases: [(&[&str], &str); 6] = [
        (&["-tls1_2"], "TLSv1.2"),
        (&["-tls1_3"], "TLSv1.3"),
        (
            &["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"],
            "TLSv1.2",
        ),
        (
            &["-tls1_3", "-sigalgs", "rsa_pss_rsae_sha256:RSA+SHA256"],
            "TLSv1.3",
        ),
        (&["-tls1_3", "-groups", "P-256"], "TLSv1.3"),
        (&["-alpn", "h2,http/1.1"], "ALPN protocol: http/1.1"),
    ];
    for (words, expected) in cases {
        let text = server.s_client(&[words, &["-ign_eof"]].concat(), REQUEST);
        assert!(text.contains("hello over https"), "{words:?}: {text}");
        assert!(text.contains(expected), "{words:?}: {text}");
    }
    assert_eq!(server.stats().tls_handshakes, 6);
}

#[test]
fn openssl_resumes_its_session() {
    if lacks("openssl") {
        return;
    }
    let folder = std::env::temp_dir();
    for version in ["-tls1_2", "-tls1_3"] {
        let server = Https::start(server_tls("server"));
        let session = folder.join(format!("waterwheel-{}{version}", std::process::id()));
        let session = session.to_str().unwrap();
        let text = server.s_client(&[version, "-ign_eof", "-sess_out", session], REQUEST);
        assert!(text.contains("hello over https"), "{text}");
        let text = server.s_client(&[version, "-ign_eof", "-sess_in", session], REQUEST);
        std::fs::remove_file(session).unwrap();
        assert!(
            text.contains("hello over https") && text.contains("Reused"),
            "{text}"
        );
        let stats = server.stats();
        assert_eq!((stats.tls_handshakes, stats.tls_resumptions), (1, 1));
    }
}

#[test]
fn openssl_needs_a_certificate_where_clients_must_have_one() {
    if lacks("openssl") {
        return;
    }
    let server = Https::start(
        builder(&["server"])
            .client_ca(file("ca.pem"))
            .build()
            .unwrap(),
    );
    let [certificate, key] = ["client.pem", "client.key"].map(file);
    for version in ["-tls1_2", "-tls1_3"] {
        let pair = ["-cert", &certificate, "-key", &key];
        let text = server.s_client(&[&[version, "-ign_eof"][..], &pair].concat(), REQUEST);
        assert!(text.contains("hello over https"), "{text}");
        let text = server.s_client(&[version, "-ign_eof"], REQUEST);
        assert!(!text.contains("hello over https"), "{text}");
    }
    let failures: Vec<_> = server.stats().tls_failures.iter().collect();
    assert_eq!(failures, [("certificate_missing", 2)]);
}

#[test]
fn old_versions_and_renegotiation_are_refused() {
    if lacks("openssl") {
        return;
    }
    let server = Https::start(server_tls("server"));
    let old = ["-tls1_1", "-cipher", "ALL:@SECLEVEL=0", "-ign_eof"];
    let text = server.s_client(&old, REQUEST);
    assert!(text.contains("alert"), "{text}");
    let failures: Vec<_> = server.stats().tls_failures.iter().collect();
    assert_eq!(failures, [("protocol_version", 1)]);
    // A line of `R` has s_client ask for renegotiation.
    let text = server.s_client(&["-tls1_2"], "R\n");
    assert!(
        text.contains("RENEGOTIATING") && text.contains("no renegotiation"),
        "{text}"
    );
    let text = server.s_client(&["-tls1_2", "-ign_eof"], REQUEST);
    assert!(text.contains("hello over https"), "{text}");
}

#[test]
fn curl_gets_an_answer_by_https_and_a_sentence_by_http() {
    if lacks("openssl") || Command::new("curl").arg("--version").output().is_err() {
        return;
    }
    let server = Https::start(server_tls("server"));
    let port = server.port;
    let curl = |words: &[&str], url: String| {
        let mut command = Command::new("curl");
        command.args([
            "--silent",
            "--show-error",
            "--noproxy",
            "*",
            "--cacert",
            &file("ca.pem"),
        ]);
        command.args(["--resolve", &format!("localhost:{port}:127.0.0.1")]);
        output(command.args(words).arg(url), "")
    };
    for words in [&[][..], &["--tls-max", "1.2"], &["--http1.0"]] {
        let text = curl(words, format!("https://localhost:{port}/"));
        assert_eq!(text, "hello over https\n", "{words:?}");
    }
    let text = curl(&[], format!("http://localhost:{port}/"));
    assert!(text.starts_with("This port speaks TLS only"), "{text}");
}

/// `openssl s_server`, which answers requests with a page, until it is dropped.
struct SServer {
    child: std::process::Child,
    port: u16,
}

impl SServer {
    fn start(words: &[&str]) -> SServer {
        let mut child = Command::new("openssl")
            .args(["s_server", "-accept", "127.0.0.1:0", "-www"])
            .args(["-cert", &file("server.pem"), "-key", &file("server.key")])
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines.find_map(|line| line.unwrap().strip_prefix("ACCEPT ").map(str::to_owned));
        let port = line.unwrap().rsplit_once(':').unwrap().1.parse().unwrap();
        // Read on, so that the program never waits for room in the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        SServer { child, port }
    }
}

impl Drop for SServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn our_client_speaks_with_openssl() {
    if lacks("openssl") {
        return;
    }
    let cases: [(&[&str], &str); 4] = [
        (&["-tls1_2"], "HTTP/1.0 200 ok"),
        (&["-tls1_3"], "HTTP/1.0 200 ok"),
        (
            &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"],
            "TLS failed: no version of TLS in common",
        ),
        (
            &["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"],
            "TLS failed: ",
        ),
    ];
    for (words, expected) in cases {
        let server = SServer::start(words);
        let log = Reactor::run(String::new(), |reactor| {
            let options = ConnectOptions::new(format!("localhost:{}", server.port)).tls(ca());
            reactor.connect_stream(options, |stream| {
                stream.on_open(|stream| stream.send(REQUEST));
                stream.on_data(|stream, bytes| {
                    let text = String::from_utf8_lossy(bytes).into_owned();
                    stream.state.push_str(&text);
                });
                stream.on_close(|stream, close| {
                    let text = format!("\n{close}");
                    stream.state.push_str(&text);
                    stream.reactor.stop();
                });
            })
        });
        let text = log.unwrap();
        assert!(text.trim_start().starts_with(expected), "{words:?}: {text}");
    }
}

// ── memory ───────────────────────────────────────────────────────────────────────────────────────

/// The bytes that each of some idle connections costs the thread of its loop, and how many of them
/// the loop's own account has.
fn idle_bytes(version: &'static SupportedProtocolVersion) -> (usize, usize) {
    const CONNECTIONS: usize = 100;
    let mut event_loop = EventLoop::new(Config::default(), 0_usize).unwrap();
    let listening = event_loop.reactor().stream(
        ListenOptions::new("127.0.0.1:0").tls(server_tls("server")),
        |stream| {
            stream.on_data(|stream, _| *stream.state += 1);
        },
    );
    let listener = listening.unwrap();
    let port = event_loop
        .reactor()
        .local_addr(listener)
        .unwrap()
        .port()
        .unwrap();
    let (sender, receiver) = std::sync::mpsc::channel::<()>();
    let clients = std::thread::spawn(move || {
        let config = client_config(&[version]);
        let connect = |_| {
            let mut socket = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
            let name = ServerName::try_from("localhost").unwrap();
            let mut tls = ClientConnection::new(Arc::clone(&config), name).unwrap();
            let mut stream = rustls::Stream::new(&mut tls, &mut socket);
            stream.write_all(b"x").unwrap();
            (tls, socket)
        };
        // The first one has the loop make what all share.
        let first: Vec<_> = (0..1).map(connect).collect();
        let others: Vec<_> = (0..CONNECTIONS).map(connect).collect();
        // Until the loop has been measured.
        receiver.recv().unwrap();
        drop((first, others));
    });
    while *event_loop.state() < 1 {
        event_loop.turn(None).unwrap();
    }
    let before = event_loop.reactor().memory_bytes();
    let cost = allocation_counter::measure(|| {
        while *event_loop.state() < 1 + CONNECTIONS {
            event_loop.turn(None).unwrap();
        }
    });
    let counted = event_loop.reactor().memory_bytes() - before;
    sender.send(()).unwrap();
    clients.join().unwrap();
    (
        cost.bytes_current as usize / CONNECTIONS,
        counted / CONNECTIONS,
    )
}

#[test]
fn an_idle_connection_holds_no_buffers() {
    for version in VERSIONS {
        let (bytes, counted) = idle_bytes(version);
        println!("{version:?}: {bytes} bytes for an idle connection, {counted} by the account");
        assert!(bytes < 6 * 1024, "{version:?}: {bytes} bytes");
        // The account is about right: a connection that is charged too little is not ended in time.
        assert!(
            counted < 2 * bytes && bytes < 2 * counted,
            "{version:?}: {bytes}, {counted}"
        );
    }
}
