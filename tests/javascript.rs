//! The browser client in Node.js, against a small hub: the tests in `tests/javascript/`.
//!
//! Without Node.js the test prints what is missing and is skipped; where the environment sets `CI`, it fails instead.
#![cfg(feature = "program")]

mod support;

use std::path::Path;
use std::process::{Command, Stdio};

#[test]
fn the_browser_client_resumes_over_every_transport() {
    let version = Command::new("node").arg("--version").output();
    if version.is_err() {
        return support::skip("Node.js 20 or later is missing: https://nodejs.org");
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/javascript");
    let tests = ["client.test.mjs", "changes.test.mjs"].map(|name| folder.join(name));
    // Node.js 20 has the class WebSocket behind this option, later ones have it always.
    let output = Command::new("node")
        .args(["--no-warnings", "--experimental-websocket", "--test"])
        .args(tests)
        .stdin(Stdio::null())
        .output()
        .expect("node runs, as its version was asked above");
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{report}");
}
