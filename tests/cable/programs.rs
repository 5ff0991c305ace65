//! The clients that applications have, against the program.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::redis_server::free_port;
use crate::support::{self, Server};

/// The key of names of streams, and `news` and `other` signed with it.
const STREAMS_KEY: &str = "streams-key-of-the-tests";

const BROADCAST_KEY: &str = "broadcast-key-of-tests";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// The name of a stream, signed.
fn signed_name(stream: &str) -> String {
    use hmac::{Hmac, KeyInit, Mac};
    let name = super::identity::base64url(format!("\"{stream}\"").as_bytes());
    let mac = <Hmac<sha2::Sha256> as KeyInit>::new_from_slice(STREAMS_KEY.as_bytes()).unwrap();
    let digest = mac.chain_update(&name).finalize().into_bytes();
    let digits: Vec<String> = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{name}--{}", digits.concat())
}

fn serve(port: u16) -> Server {
    let mut command = Command::new(env!("CARGO_BIN_EXE_waterwheel"));
    command
        .args(["--listen", &format!("127.0.0.1:{port}"), "--log", "error"])
        .args(["--cable-streams-key", STREAMS_KEY])
        .args(["--cable-broadcast-key", BROADCAST_KEY])
        .args(["--topic", "news=private,client-publish"])
        .args(["--drain-window", "1"]);
    Server::run(command)
}

/// Runs a program of Node.js with the port and the signed names of two streams. The server is restarted at the step
/// `ready for a restart`. Checks how many steps there are.
fn drive(script: &str, package: &str, steps: usize) {
    if !support::has("node") {
        return;
    }
    if !folder().join("browser/node_modules").join(package).is_dir() {
        support::skip("tests/browser/node_modules is missing: npm ci --prefix tests/browser");
        return;
    }
    let port = free_port();
    let mut server = Some(serve(port));
    let mut program = Command::new("node")
        .arg(folder().join("cable_clients").join(script))
        .args([
            &port.to_string(),
            &signed_name("news"),
            &signed_name("other"),
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = Vec::new();
    for line in BufReader::new(program.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if line == "ready for a restart"
            && let Some(server) = server.take()
        {
            server.terminate();
            server.ended();
        }
        if server.is_none() {
            server = Some(serve(port));
        }
        lines.push(line);
    }
    assert!(program.wait().unwrap().success(), "{lines:?}");
    assert_eq!(lines.len(), steps, "{lines:?}");
}

#[test]
fn the_client_of_any_cable() {
    drive("extended.mjs", "@anycable/core", 5);
}

#[test]
fn the_client_of_rails() {
    drive("drive.mjs", "@rails/actioncable", 8);
}
