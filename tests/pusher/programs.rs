//! The clients and the backends that applications have, against the program.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{KEY, SECRET, support};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// Runs a program with the port, the id, the key and the secret of an app, and checks how many steps it names.
fn drive(mut command: Command, steps: usize) {
    let app = format!("3:{KEY}:{SECRET},client-events");
    let server = support::Server::start(&["--pusher-app", &app]);
    let port = server.address.port().to_string();
    let output = command.args([&port, "3", KEY, SECRET]).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{errors}");
    assert_eq!(text.lines().count(), steps, "{text}");
}

#[test]
fn pusher_js_and_laravel_echo_with_the_backend_of_npm() {
    if !support::has("node") {
        return;
    }
    if !folder().join("browser/node_modules/laravel-echo").is_dir() {
        support::skip("tests/browser/node_modules is missing: npm ci --prefix tests/browser");
        return;
    }
    let mut command = Command::new("node");
    command.arg(folder().join("pusher_clients/drive.mjs"));
    drive(command, 12);
}

#[test]
fn the_backend_of_pypi() {
    let Some(python) = support::python() else {
        return;
    };
    let mut command = Command::new(python);
    command.arg(folder().join("pusher_clients/backend.py"));
    drive(command, 6);
}

#[test]
fn a_backend_in_ruby_without_a_gem() {
    if !support::has("ruby") {
        return;
    }
    let mut command = Command::new("ruby");
    command.arg(folder().join("pusher_clients/backend.rb"));
    drive(command, 7);
}
