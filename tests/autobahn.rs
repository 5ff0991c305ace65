//! Servers and a client under the Autobahn cases, an independent judge of RFC 6455.
//!
//! The cases are installed by `tests/python/install`. Without them the tests print why and are skipped; in CI they fail
//! instead.

#![cfg(all(unix, feature = "program"))]

#[allow(dead_code, reason = "a whole program, whose `main` is not called here")]
#[path = "../examples/autobahn_client.rs"]
mod autobahn_client;
#[allow(dead_code, reason = "a whole program, whose `main` is not called here")]
#[path = "../examples/driver_echo.rs"]
mod driver_echo;
mod support;

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;

use support::Server;
use waterwheel::tls::ClientTls;
use waterwheel::websocket::Deflate;
use waterwheel::{ClientTransport, ConnectionOptions};

/// Groups 12 and 13 are about compression, which has cases of its own.
const ALL: [&str; 5] = ["--strict", "-x", "12.*", "-x", "13.*"];

/// A part of those about compression: every combination of parameters, with messages of up to 4 KiB. `tests/autobahn/all`
/// runs the others.
const COMPRESSED: [&str; 10] = [
    "--strict",
    "--require-deflate",
    "-i",
    "12.*.3",
    "-i",
    "12.*.5",
    "-i",
    "13.*.5",
    "-i",
    "5.*",
];

/// A file of `tests/certificates`.
fn certificate(name: &str) -> String {
    format!("{}/tests/certificates/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn script(words: &[&str]) -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let mut command = Command::new(root.join("tests/autobahn/run"));
    command.args(words).env("CARGO_TARGET_DIR", target);
    command
}

/// The running cases. Dropping this ends them.
struct Cases {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Cases {
    fn run(words: &[&str]) -> Cases {
        Cases::run_some(words, &ALL)
    }

    fn run_some(words: &[&str], cases: &[&str]) -> Cases {
        let mut child = script(&[words, cases].concat())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Cases { child, lines }
    }

    /// Lines before the verdicts, while the script waits for a client.
    fn url(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        let url = line.trim_end().strip_prefix("listening on ");
        url.unwrap_or_else(|| panic!("{line}")).to_owned()
    }

    fn all_pass(mut self, count: u32) {
        let mut said = String::new();
        self.lines.read_to_string(&mut said).unwrap();
        let expected = format!("{count} passed, 0 failed, 0 skipped");
        assert_eq!(said.lines().last(), Some(&*expected), "{said}");
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Cases {
    fn drop(&mut self) {
        // The process may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_echo_server_passes_all_cases_strictly() {
    if support::python().is_some() {
        let server = Server::start(&["echo"]);
        Cases::run(&[&format!("ws://{}", server.address)]).all_pass(301);
    }
}

#[test]
fn a_client_passes_all_cases_strictly() {
    if support::python().is_some() {
        let mut cases = Cases::run(&["--serve"]);
        let client = autobahn_client::run(&cases.url(), ClientTransport::default(), |_| {});
        let client = client.unwrap();
        assert_eq!((client.count, client.run), (301, 301));
        cases.all_pass(301);
    }
}

#[test]
fn the_echo_server_passes_all_cases_strictly_over_tls() {
    if support::python().is_some() {
        let [pem, key, ca] = ["server.pem", "server.key", "ca.pem"].map(certificate);
        let mut command = Command::new(env!("CARGO_BIN_EXE_waterwheel"));
        command.args(["echo", "--listen", "tls:127.0.0.1:0"]);
        command.args(["--tls-certificate", &pem, "--tls-key", &key]);
        let server = Server::run(command);
        Cases::run(&[&format!("wss://{}", server.address), "--ca", &ca]).all_pass(301);
    }
}

#[test]
fn a_client_passes_all_cases_strictly_over_tls() {
    if support::python().is_some() {
        let [pem, key, ca] = ["server.pem", "server.key", "ca.pem"].map(certificate);
        let mut cases = Cases::run(&["--serve", "--certificate", &pem, "--key", &key]);
        let url = cases.url();
        assert!(url.starts_with("wss://"), "{url}");
        let tls = ClientTls::builder().ca(ca).build().unwrap();
        let client = autobahn_client::run(&url, ClientTransport::default().tls(tls), |_| {});
        let client = client.unwrap();
        assert_eq!((client.count, client.run), (301, 301));
        cases.all_pass(301);
    }
}

#[test]
fn the_echo_server_passes_the_cases_about_compression() {
    if support::python().is_some() {
        for mode in ["shared", "dedicated"] {
            let server = Server::start(&["echo", "--deflate", mode]);
            let url = format!("ws://{}", server.address);
            Cases::run_some(&[&url], &COMPRESSED).all_pass(37);
        }
    }
}

#[test]
fn a_client_passes_the_cases_about_compression() {
    if support::python().is_some() {
        for mode in [Deflate::Shared, Deflate::Dedicated] {
            let mut cases = Cases::run_some(&["--serve"], &COMPRESSED);
            let set_up = |options: &mut ConnectionOptions| options.deflate = mode;
            let transport = ClientTransport::default();
            let client = autobahn_client::run(&cases.url(), transport, set_up).unwrap();
            assert_eq!((client.count, client.run), (37, 37));
            cases.all_pass(37);
        }
    }
}

// Without group 9: its messages of up to 16 MiB are longer than the example accepts.
#[test]
fn the_driver_passes_the_cases_on_blocking_sockets() {
    if support::python().is_some() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("ws://{}", listener.local_addr().unwrap());
        // Ends with the process.
        thread::spawn(move || driver_echo::serve_all(&listener));
        Cases::run(&[&url, "-x", "9.*"]).all_pass(247);
    }
}
