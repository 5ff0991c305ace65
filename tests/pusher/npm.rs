//! The clients and the backend that applications have, from npm.

use crate::{KEY, SECRET, support};

/// npm's client and backend against the program.
#[test]
fn the_clients_and_the_backend_of_npm_speak_with_the_program() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    if !support::has("node") {
        return;
    }
    if !folder.join("browser/node_modules/pusher-js").is_dir() {
        support::skip("tests/browser/node_modules is missing: npm ci --prefix tests/browser");
        return;
    }
    let app = format!("3:{KEY}:{SECRET},client-events");
    let server = support::Server::start(&["--pusher-app", &app]);
    let output = std::process::Command::new("node")
        .arg(folder.join("pusher_clients/drive.mjs"))
        .args([&server.address.port().to_string(), "3", KEY, SECRET])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let steps = String::from_utf8(output.stdout).unwrap();
    assert_eq!(steps.lines().count(), 5, "{steps}");
}
