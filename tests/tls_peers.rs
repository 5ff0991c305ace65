//! TLS against other implementations: `sslyze`, and `websockets` of PyPI in both roles.

#![cfg(all(unix, feature = "program"))]

#[path = "support/certificates.rs"]
mod certificates;
mod support;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use certificates::{Authority, file};
use support::{Server, has};
use waterwheel::tls::ClientTls;
use waterwheel::{ClientTransport, Reactor};

/// A command of the program on a free port, with this certificate and key.
fn start(command: &str, certificate: &str, key: &str) -> Server {
    let mut program = Command::new(env!("CARGO_BIN_EXE_waterwheel"));
    program.args([command, "--listen", "tls:127.0.0.1:0"]);
    program.args(["--tls-certificate", certificate, "--tls-key", key]);
    Server::run(program)
}

// ── sslyze ───────────────────────────────────────────────────────────────────────────────────────

/// Whether the server is as Mozilla recommends for clients of the last ten years, and the whole report.
///
/// Without `--resum`, which has no place in the recommendation: sslyze takes a session as resumed only if the server
/// gives the same ticket again, and ours gives a fresh one. `openssl s_client` says that sessions are resumed.
fn sslyze(python: &Path, server: &Server) -> (bool, String) {
    let port = server.address.port();
    let output = Command::new(python)
        .args(["-m", "sslyze", "--mozilla_config=intermediate"])
        .args(["--early_data", "--certinfo_ca_file", &file("ca.pem")])
        .arg(format!("localhost:{port}"))
        .output()
        .unwrap();
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(report.contains("COMPLIANCE AGAINST TLS"), "{output:?}");
    (output.status.success(), report)
}

/// The text behind a label of the report.
fn said<'r>(report: &'r str, label: &str) -> &'r str {
    let (_, rest) = report
        .split_once(label)
        .unwrap_or_else(|| panic!("no {label} in {report}"));
    rest.trim_start().lines().next().unwrap().trim_end()
}

#[test]
fn sslyze_finds_nothing_below_intermediate() {
    let Some(python) = support::python() else {
        return;
    };
    if !has("openssl") {
        return;
    }
    let authority = Authority::new("sslyze");
    for algorithm in ["ec", "rsa"] {
        let [certificate, key] = authority.server(algorithm);
        let server = start("serve", &certificate, &key);
        let (is_compliant, report) = sslyze(&python, &server);
        assert!(is_compliant, "{algorithm}: {report}");
        assert!(report.contains(": OK - Compliant."), "{report}");
        // The recommendation does not ask for all of these.
        let expected = [
            (
                "Received Chain:",
                &*format!("{algorithm} --> between authorities"),
            ),
            ("Received Chain Order:", "OK - Order is valid"),
            (
                "Supplied CA file CA Store (N/A):",
                "OK - Certificate is trusted",
            ),
            ("TLS 1.3 Early Data:", "Not Supported"),
            ("Client Renegotiation DoS Attack:", "OK - Not vulnerable"),
            ("Secure Renegotiation:", "OK - Supported"),
            ("TLS_FALLBACK_SCSV:", "OK - Supported"),
            ("Extended Master Secret Extension:", "OK - Supported"),
            ("Supported curves:", "X25519, secp256r1, secp384r1"),
        ];
        for (label, text) in expected {
            assert_eq!(said(&report, label), text, "{algorithm} {label}");
        }
    }
}

// A judge that finds nothing anywhere would pass the test above.
#[test]
fn sslyze_finds_a_certificate_that_is_valid_for_a_century() {
    let Some(python) = support::python() else {
        return;
    };
    let server = start("serve", &file("server.pem"), &file("server.key"));
    let (is_compliant, report) = sslyze(&python, &server);
    assert!(!is_compliant, "{report}");
    let (_, findings) = report.split_once("FAILED - Not compliant.").unwrap();
    let findings: Vec<&str> = findings
        .split_whitespace()
        .filter(|it| it.ends_with(':'))
        .collect();
    assert_eq!(findings, ["maximum_certificate_lifespan:"]);
}

// ── websockets ───────────────────────────────────────────────────────────────────────────────────

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/tls_peers")
        .join(name)
}

#[test]
fn a_client_of_websockets_exchanges_messages_over_tls() {
    let Some(python) = support::python() else {
        return;
    };
    let server = start("echo", &file("server.pem"), &file("server.key"));
    let run = |authority: &str, words: &[&str]| {
        let output = Command::new(&python)
            .arg(script("websockets_client.py"))
            .arg(format!("wss://localhost:{}/", server.address.port()))
            .arg(file(authority))
            .args(words)
            .output()
            .unwrap();
        let [out, errors] = [output.stdout, output.stderr];
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&errors)
        );
        String::from_utf8_lossy(&out).trim_end().to_owned()
    };
    assert_eq!(run("ca.pem", &["1.2"]), "TLSv1.2: 8 messages");
    assert_eq!(run("ca.pem", &["1.3"]), "TLSv1.3: 8 messages");
    // The server's authority is not among those of this client.
    let said = run("stranger.pem", &["1.3"]);
    assert!(
        said.starts_with("refused: ") && said.contains("CERTIFICATE_VERIFY_FAILED"),
        "{said}"
    );
}

/// A running script. Dropping this ends it.
struct Script(Child);

impl Drop for Script {
    fn drop(&mut self) {
        // The process may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn our_client_exchanges_messages_with_a_server_of_websockets_over_tls() {
    let Some(python) = support::python() else {
        return;
    };
    // The name of the host is in the first certificate and not in the second. The authority of the third is not the
    // client's.
    let cases = [
        ("server", "ca.pem", "8 messages"),
        ("server_rsa", "ca.pem", "8 messages"),
        ("other", "ca.pem", "the certificate is for another host"),
        (
            "server",
            "stranger.pem",
            "of an authority that is not trusted",
        ),
    ];
    for (pair, authority, expected) in cases {
        let mut command = Command::new(&python);
        command.arg(script("websockets_server.py"));
        command.args(["pem", "key"].map(|ending| file(&format!("{pair}.{ending}"))));
        let mut server = Script(command.stdout(Stdio::piped()).spawn().unwrap());
        let mut port = String::new();
        let mut lines = BufReader::new(server.0.stdout.take().unwrap());
        lines.read_line(&mut port).unwrap();
        let tls = ClientTls::builder().ca(file(authority)).build().unwrap();
        let url = format!("wss://localhost:{}/", port.trim_end());
        let said = exchanged(&url, ClientTransport::default().tls(tls));
        assert!(said.contains(expected), "{pair} {authority}: {said}");
    }
}

struct Exchange {
    count: usize,
    said: String,
}

/// How many messages came back from an echo server, or why there was no connection.
fn exchanged(url: &str, transport: ClientTransport) -> String {
    const LENGTHS: [usize; 8] = [0, 1, 125, 126, 16 * 1024, 65_535, 65_536, 1_000_000];
    let message = |count: usize| "x".repeat(LENGTHS[count]);
    let exchange = Exchange {
        count: 0,
        said: String::new(),
    };
    let ended = Reactor::run(exchange, |reactor| {
        reactor.after(support::PATIENCE, |cx| cx.reactor.stop());
        reactor.connect_websocket(url, |ws| {
            ws.transport(transport);
            ws.on_open(move |ws, _| ws.send(message(0)));
            ws.on_message(move |ws, text| {
                assert!(text.to_string() == message(ws.state.count));
                ws.state.count += 1;
                match ws.state.count == LENGTHS.len() {
                    true => ws.close(),
                    false => ws.send(message(ws.state.count)),
                }
            });
            ws.on_close(|ws, close| {
                ws.state.said = format!("{} messages: {close}", ws.state.count);
                ws.reactor.stop();
            });
        })
    });
    ended.unwrap().said
}
