//! `waterwheel echo` under the Autobahn cases, an independent judge of RFC 6455.
//!
//! They come from PyPI. Where they cannot be had the test says so and is skipped; in CI that is a
//! failure.

#![cfg(all(unix, feature = "program"))]

mod support;

use std::path::Path;
use std::process::Command;

use support::{Server, has, skip};

/// What the script ends with when the cases cannot be had.
const CANNOT: i32 = 77;

/// Groups 12 and 13 are about compression, which is not offered.
#[test]
fn autobahn_cases_all_pass_strictly() {
    if !has("python3") {
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let server = Server::start(&["echo"]);
    let url = format!("ws://{}", server.address);
    let output = Command::new(root.join("tests/autobahn/run"))
        .args([&url, "--strict", "-x", "12.*", "-x", "13.*"])
        .env("CARGO_TARGET_DIR", target)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(CANNOT) {
        return skip(errors.trim_end());
    }
    assert_eq!(
        said.lines().last(),
        Some("301 passed, 0 failed, 0 skipped"),
        "{said}{errors}"
    );
    assert!(output.status.success());
}
