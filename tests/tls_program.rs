//! The program with TLS, against clients of other implementations: `openssl s_client` and `curl`.

#![cfg(all(unix, feature = "program"))]

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};

use support::{Http, Server, has};

fn file(name: &str) -> String {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/certificates");
    directory.join(name).to_str().unwrap().to_owned()
}

/// The options for a certificate of `tests/certificates`.
fn pair(name: &str) -> [String; 4] {
    let [certificate, key] = ["pem", "key"].map(|ending| file(&format!("{name}.{ending}")));
    [
        "--tls-certificate".to_owned(),
        certificate,
        "--tls-key".to_owned(),
        key,
    ]
}

fn program(words: impl IntoIterator<Item = impl AsRef<std::ffi::OsStr>>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_waterwheel"));
    command.args(words);
    command
}

/// The hub on a free port with TLS.
fn serve(words: impl IntoIterator<Item = String>) -> Server {
    let words = ["--listen", "tls:127.0.0.1:0"]
        .map(str::to_owned)
        .into_iter()
        .chain(words);
    Server::run(program(words))
}

/// The output of `openssl s_client` with these words, for a server that is known by the name `localhost`.
fn s_client(server: &Server, words: &[&str]) -> String {
    let output = Command::new("openssl")
        .args([
            "s_client",
            "-connect",
            &server.address.to_string(),
            "-CAfile",
            &file("ca.pem"),
        ])
        .args(words)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn curl(words: &[&str]) -> String {
    let output = Command::new("curl")
        .args([
            "--silent",
            "--show-error",
            "--include",
            "--cacert",
            &file("ca.pem"),
        ])
        .args(words)
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn openssl_speaks_each_version_and_resumes() {
    if !has("openssl") {
        return;
    }
    let server = serve(pair("server"));
    for (version, name) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let said = s_client(
            &server,
            &[version, "-verify_return_error", "-alpn", "http/1.1"],
        );
        assert!(said.contains(&format!("New, {name}, Cipher is")), "{said}");
        assert!(said.contains("Verification: OK"), "{said}");
        assert!(said.contains("ALPN protocol: http/1.1"), "{said}");
    }
    for version in ["-tls1", "-tls1_1"] {
        let said = s_client(&server, &[version, "-cipher", "ALL:@SECLEVEL=0"]);
        assert!(said.contains("Cipher is (NONE)"), "{said}");
        assert!(said.contains("alert"), "{said}");
    }
    let said = s_client(&server, &["-alpn", "h2"]);
    assert!(said.contains("no application protocol"), "{said}");
    // A ticket of TLS 1.2 comes with the handshake. One of 1.3 comes behind it.
    let said = s_client(&server, &["-tls1_2", "-reconnect"]);
    assert_eq!(said.matches("Reused, TLSv1.2").count(), 5, "{said}");
    let session = std::env::temp_dir().join(format!("waterwheel-session-{}", std::process::id()));
    let path = session.to_str().unwrap();
    let mut first = Session::open(&server, &["-tls1_3", "-sess_out", path]);
    assert!(first.get("/healthz").starts_with("HTTP/1.1 200 "));
    drop(first);
    let said = s_client(&server, &["-tls1_3", "-sess_in", path]);
    assert!(said.contains("Reused, TLSv1.3"), "{said}");
    fs::remove_file(session).unwrap();
}

#[test]
fn curl_publishes_over_tls_and_is_redirected_there() {
    if !has("curl") {
        return;
    }
    // The port of the redirect is taken from the log, where it stands.
    let words = ["--listen", "tls:127.0.0.1:0", "--redirect", "127.0.0.1:0"].map(str::to_owned);
    let mut server = Server::run(program(words.into_iter().chain(pair("server"))));
    let stderr = BufReader::new(server.child.stderr.take().unwrap());
    let plain = stderr.lines().map(Result::unwrap).find_map(|line| {
        let line = line.strip_suffix(" sends clients to https")?.to_owned();
        Some(line.rsplit_once(' ').unwrap().1.to_owned())
    });
    let (plain, secured) = (plain.unwrap(), server.address);
    let said = curl(&[&format!("https://{secured}/publish?topic=a"), "--data", "x"]);
    assert!(said.starts_with("HTTP/1.1 200 "), "{said}");
    let said = curl(&[&format!("http://{plain}/publish?topic=a&b"), "--data", "x"]);
    assert!(said.starts_with("HTTP/1.1 308 "), "{said}");
    let location = format!("Location: https://{secured}/publish?topic=a&b\r\n");
    assert!(said.contains(&location), "{said}");
    let said = curl(&[
        "--location",
        &format!("http://{plain}/publish?topic=a"),
        "--data",
        "x",
    ]);
    assert!(
        said.contains("HTTP/1.1 308 ") && said.contains("HTTP/1.1 200 "),
        "{said}"
    );
    let said = curl(&[&format!("https://{secured}/metrics")]);
    let path = file("server.pem");
    let metric = format!("waterwheel_tls_certificate_expiry_seconds{{file=\"{path}\"}} ");
    let (_, seconds) = said.split_once(&metric).unwrap();
    let seconds: f64 = seconds.lines().next().unwrap().parse().unwrap();
    assert!(2e9 < seconds, "{seconds}");
    // Plain HTTP on the port of TLS.
    let said = curl(&[&format!("http://{secured}/")]);
    assert!(said.starts_with("HTTP/1.1 400 "), "{said}");
    assert!(said.contains("https://"), "{said}");
}

#[test]
fn redirects_name_the_port_that_clients_see() {
    if !has("curl") {
        return;
    }
    let words = [
        "--listen",
        "tls:127.0.0.1:0",
        "--redirect",
        "127.0.0.1:0",
        "--redirect-port",
        "443",
    ];
    let words = words.map(str::to_owned);
    let mut server = Server::run(program(words.into_iter().chain(pair("server"))));
    let plain = log_of(&mut server).find_map(|line| {
        let line = line.strip_suffix(" sends clients to https")?.to_owned();
        Some(line.rsplit_once(' ').unwrap().1.to_owned())
    });
    let said = curl(&[&format!("http://{}/a", plain.unwrap())]);
    assert!(said.contains("Location: https://127.0.0.1/a\r\n"), "{said}");
}

#[test]
fn the_certificate_is_chosen_by_the_name_that_is_asked_for() {
    if !has("openssl") {
        return;
    }
    let server = serve(pair("server").into_iter().chain(pair("other")));
    let cases = [
        (vec!["-servername", "localhost"], "CN = server"),
        (vec!["-servername", "other.example"], "CN = other"),
        (vec!["-servername", "unknown.example"], "CN = server"),
        (vec!["-noservername"], "CN = server"),
    ];
    for (words, expected) in cases {
        let said = s_client(&server, &words);
        assert!(
            said.contains(&format!("subject={expected}\n")),
            "{words:?}: {said}"
        );
    }
}

#[test]
fn a_client_needs_a_certificate_where_an_authority_is_named() {
    if !has("curl") {
        return;
    }
    let authority = ["--tls-client-ca".to_owned(), file("ca.pem")];
    let server = serve(pair("server").into_iter().chain(authority));
    let url = format!("https://{}/healthz", server.address);
    let said = curl(&[
        &url,
        "--cert",
        &file("client.pem"),
        "--key",
        &file("client.key"),
    ]);
    assert!(said.starts_with("HTTP/1.1 200 "), "{said}");
    for words in [
        vec![],
        vec![
            "--cert".to_owned(),
            file("stranger.pem"),
            "--key".to_owned(),
            file("stranger.key"),
        ],
    ] {
        let words: Vec<&str> = [url.as_str()]
            .into_iter()
            .chain(words.iter().map(String::as_str))
            .collect();
        let said = curl(&words);
        assert!(said.contains("curl: ("), "{said}");
    }
}

/// `openssl s_client` on an open connection. Dropping this kills it.
struct Session {
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl Session {
    fn open(server: &Server, words: &[&str]) -> Session {
        let mut child = Command::new("openssl")
            .args([
                "s_client",
                "-quiet",
                "-connect",
                &server.address.to_string(),
            ])
            .args(["-CAfile", &file("ca.pem"), "-verify_return_error"])
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Session { child, answers }
    }

    /// The head and the body of an answer.
    fn get(&mut self, target: &str) -> String {
        let stdin = self.child.stdin.as_mut().unwrap();
        write!(stdin, "GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(self.answers.read_line(&mut head).unwrap(), 0, "{head}");
        }
        let length = head.split_once("Content-Length: ").unwrap().1;
        let mut body = vec![0; length.split_once("\r\n").unwrap().0.parse().unwrap()];
        self.answers.read_exact(&mut body).unwrap();
        head + str::from_utf8(&body).unwrap()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Files of a certificate and its key that are exchanged.
struct Exchanged {
    directory: PathBuf,
}

impl Exchanged {
    fn new(name: &str) -> Exchanged {
        let name = format!("waterwheel-{name}-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory).unwrap();
        Exchanged { directory }
    }

    fn path(&self, name: &str) -> String {
        self.directory.join(name).to_str().unwrap().to_owned()
    }

    fn put(&self, certificate: &str, key: &str) {
        fs::copy(file(certificate), self.path("tls.pem")).unwrap();
        fs::copy(file(key), self.path("tls.key")).unwrap();
    }

    fn options(&self) -> [String; 4] {
        let [certificate, key] = ["tls.pem", "tls.key"].map(|name| self.path(name));
        [
            "--tls-certificate".to_owned(),
            certificate,
            "--tls-key".to_owned(),
            key,
        ]
    }
}

impl Drop for Exchanged {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Sends HUP, and waits for the line of the log that has this text.
fn reload(server: &Server, log: &mut impl Iterator<Item = String>, text: &str) {
    server.signal("-HUP");
    let line = log.find(|line| line.contains("HUP: ")).unwrap();
    assert!(line.contains(text), "{line}");
}

fn log_of(server: &mut Server) -> impl Iterator<Item = String> + use<> {
    let stderr: ChildStderr = server.child.stderr.take().unwrap();
    BufReader::new(stderr).lines().map(Result::unwrap)
}

#[test]
fn hangup_changes_the_certificate_and_a_bad_pair_changes_nothing() {
    if !has("openssl") {
        return;
    }
    for reactors in ["1", "2"] {
        let files = Exchanged::new("reload");
        files.put("server.pem", "server.key");
        let reactors = ["--reactors", reactors].map(str::to_owned);
        let mut server = serve(files.options().into_iter().chain(reactors));
        let mut log = log_of(&mut server);
        let subject = |expected: &str| {
            // Each connection may be at another reactor.
            for _ in 0..8 {
                let said = s_client(&server, &["-servername", "localhost"]);
                assert!(
                    said.contains(&format!("subject=CN = {expected}\n")),
                    "{said}"
                );
            }
        };
        let mut open = Session::open(&server, &[]);
        assert!(open.get("/healthz").starts_with("HTTP/1.1 200 "));
        subject("server");
        let bad = [
            (
                "server_rsa.pem",
                "server.key",
                "does not belong to the certificate",
            ),
            ("expired.pem", "expired.key", "expired on"),
            ("make", "server.key", "holds no certificate"),
        ];
        for (certificate, key, why) in bad {
            files.put(certificate, key);
            reload(&server, &mut log, why);
            subject("server");
        }
        files.put("server_rsa.pem", "server_rsa.key");
        reload(&server, &mut log, "HUP: read 1 certificate;");
        subject("server_rsa");
        assert!(open.get("/healthz").starts_with("HTTP/1.1 200 "));
        // A session from before the exchange would hide the new certificate.
        fs::remove_file(files.path("tls.pem")).unwrap();
        reload(
            &server,
            &mut log,
            "tls.pem does not exist; the certificates stay",
        );
        subject("server_rsa");
    }
}

#[test]
fn a_bad_pair_does_not_keep_another_from_being_renewed() {
    if !has("openssl") {
        return;
    }
    let files = Exchanged::new("renewal");
    files.put("server.pem", "server.key");
    fs::copy(file("other.pem"), files.path("other.pem")).unwrap();
    let other = ["--tls-certificate".to_owned(), files.path("other.pem")];
    let key = ["--tls-key".to_owned(), file("other.key")];
    let mut server = serve(files.options().into_iter().chain(other).chain(key));
    let mut log = log_of(&mut server);
    let subject = |name: &str, expected: &str| {
        let said = s_client(&server, &["-servername", name]);
        assert!(
            said.contains(&format!("subject=CN = {expected}\n")),
            "{said}"
        );
    };
    subject("localhost", "server");
    subject("other.example", "other");
    fs::copy(file("expired.pem"), files.path("other.pem")).unwrap();
    files.put("server_rsa.pem", "server_rsa.key");
    reload(
        &server,
        &mut log,
        "the certificate that was read before stays",
    );
    let line = log.find(|line| line.contains("HUP: ")).unwrap();
    assert!(line.contains("HUP: read 1 certificate;"), "{line}");
    subject("localhost", "server_rsa");
    subject("other.example", "other");
}

#[test]
fn a_wrong_pair_ends_the_program_with_a_sentence() {
    let cases = [
        (
            "expired",
            "expired",
            1,
            "expired.pem expired on Fri, 01 Jan 2021",
        ),
        (
            "server",
            "other",
            1,
            "other.key does not belong to the certificate in",
        ),
        ("missing", "server", 1, "missing.pem does not exist"),
        ("server", "missing", 1, "missing.key does not exist"),
    ];
    for (certificate, key, code, expected) in cases {
        let [certificate, key] =
            [format!("{certificate}.pem"), format!("{key}.key")].map(|it| file(&it));
        let words = [
            "--listen",
            "tls:127.0.0.1:0",
            "--tls-certificate",
            &certificate,
            "--tls-key",
            &key,
        ];
        for command in ["serve", "echo"] {
            let output = program([command].iter().chain(&words)).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(code), "{said}");
            assert!(said.contains(expected), "{said}");
        }
    }
}

#[test]
fn tls_on_a_plain_port_ends_the_connection_and_is_counted() {
    if !has("openssl") {
        return;
    }
    let server = Server::start(&[]);
    let said = s_client(&server, &[]);
    assert!(said.contains("Cipher is (NONE)"), "{said}");
    let (_, metrics) = Http::new(server.connect()).request("GET", "/metrics", b"");
    let metric = "waterwheel_handshakes_refused_total{reason=\"tls_on_plain_port\"} 1\n";
    assert!(metrics.contains(metric), "{metrics}");
}

// Several reactors share their ports, so that a bind beside another program would succeed.
#[test]
fn the_port_of_a_redirect_must_be_free() {
    let other = Server::run(program(["serve", "--reactors=2", "--listen=127.0.0.1:0"]));
    let taken = other.address.to_string();
    for (listen, redirect) in [
        (["--listen=tls:127.0.0.1:0"].as_slice(), &taken),
        (
            &["--listen=tls:127.0.0.1:0", "--listen=127.0.0.1:47113"],
            &"127.0.0.1:47113".to_owned(),
        ),
    ] {
        let output = program(["serve", "--reactors=2"])
            .args(listen)
            .args(pair("server"))
            .args(["--redirect", redirect])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(
            error.contains(&format!("cannot listen on {redirect}")),
            "{error}"
        );
    }
}
