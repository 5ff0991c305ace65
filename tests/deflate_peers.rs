//! Compression against other implementations: npm's `ws`, and PyPI's `websockets`.
//!
//! They are installed from npm (`npm ci --prefix tests/browser`) and PyPI (`tests/python/install`). Without them a test
//! prints why and is skipped; in CI it fails instead.

#![cfg(all(unix, feature = "program"))]

mod support;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use support::{Server, skip};

const MODES: [&str; 2] = ["shared", "dedicated"];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/deflate_peers")
}

/// The command that runs `ws.mjs`; `None` where something is missing.
fn node() -> Option<Command> {
    let package = folder().join("../browser/node_modules/ws");
    if !support::has("node") || !package.is_dir() {
        skip("Node.js or the package ws is missing: npm ci --prefix tests/browser");
        return None;
    }
    let mut command = Command::new("node");
    command.arg(folder().join("ws.mjs"));
    Some(command)
}

/// The command that runs `websockets_client.py`; `None` where something is missing.
fn python() -> Option<Command> {
    let mut command = Command::new(support::python()?);
    command.arg(folder().join("websockets_client.py"));
    Some(command)
}

/// The last line of a client that was given the address of an echo server.
fn asked(mut client: Command, mode: &str) -> String {
    let server = Server::start(&["echo", "--deflate", mode]);
    let output = client
        .arg(format!("ws://{}/", server.address))
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{mode}: {errors}");
    String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned()
}

#[test]
fn the_server_understands_every_option_of_ws() {
    for mode in MODES {
        if let Some(client) = node() {
            assert_eq!(asked(client, mode), "80 of 100");
        }
    }
}

#[test]
fn the_server_understands_the_options_of_websockets() {
    if python().is_none() {
        return;
    }
    for mode in MODES {
        if let Some(client) = python() {
            assert_eq!(asked(client, mode), "48 of 64");
        }
    }
}

/// A running echo server of `ws`. Dropping this ends it.
struct EchoOfWs(Child);

impl Drop for EchoOfWs {
    fn drop(&mut self) {
        // The process may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_client_understands_servers_of_ws() {
    let options = [
        "true",
        r#"{"threshold":0}"#,
        r#"{"serverNoContextTakeover":true,"clientNoContextTakeover":true}"#,
        r#"{"serverMaxWindowBits":9}"#,
        r#"{"clientMaxWindowBits":9,"threshold":0}"#,
        r#"{"clientMaxWindowBits":8}"#,
        "false",
    ];
    for option in options {
        let Some(mut command) = node() else { return };
        command.args(["--serve", option]).stdout(Stdio::piped());
        let mut server = EchoOfWs(command.spawn().unwrap());
        let mut port = String::new();
        let mut lines = BufReader::new(server.0.stdout.take().unwrap());
        lines.read_line(&mut port).unwrap();
        for mode in MODES {
            let load = Command::new(env!("CARGO_BIN_EXE_waterwheel"))
                .args([
                    "bench",
                    "echo",
                    "--verify",
                    "--connections",
                    "2",
                    "--size",
                    "5000",
                ])
                .args(["--seconds", "0.1", "--warmup", "0", "--deflate", mode])
                .args(["--url", &format!("ws://127.0.0.1:{}/", port.trim_end())])
                .output()
                .unwrap();
            let report = String::from_utf8_lossy(&load.stdout);
            assert!(load.status.success(), "{option} {mode}: {report}");
        }
    }
}
