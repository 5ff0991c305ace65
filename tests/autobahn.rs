//! `waterwheel echo` under the Autobahn cases, an independent judge of RFC 6455.
//!
//! They come from PyPI. Where they cannot be had the test says so and is skipped; with `CI=true` it
//! fails instead.

#![cfg(feature = "program")]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// What the script ends with when the cases cannot be had.
const CANNOT: i32 = 77;

/// A running `waterwheel echo`, killed when the test is over, whatever its outcome.
struct Echo {
    child: Child,
    url: String,
}

impl Echo {
    fn start() -> Echo {
        let mut child = Command::new(env!("CARGO_BIN_EXE_waterwheel"))
            .args(["echo", "--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line.trim_end().strip_prefix("listening on http://");
        let url = format!("ws://{}", address.expect(&line));
        Echo { child, url }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Groups 12 and 13 are about compression, which is not offered.
#[test]
fn autobahn_cases_all_pass_strictly() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let echo = Echo::start();
    let run = Command::new("bash")
        .arg(root.join("tests/autobahn/run"))
        .args([&echo.url, "--strict", "-x", "12.*", "-x", "13.*"])
        .env("CARGO_TARGET_DIR", target)
        .output();
    let unavailable = match &run {
        Ok(output) if output.status.code() == Some(CANNOT) => {
            Some(String::from_utf8_lossy(&output.stderr).into_owned())
        }
        Ok(_) => None,
        Err(error) => Some(format!("bash: {error}")),
    };
    if let Some(why) = unavailable {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{why}");
        // Past the harness, which shows what a test printed only when it failed.
        let _ = writeln!(std::io::stderr(), "skipped: {}", why.trim_end());
        return;
    }
    let output = run.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        said.lines().last(),
        Some("301 passed, 0 failed, 0 skipped"),
        "{said}{errors}"
    );
    assert!(output.status.success());
}
