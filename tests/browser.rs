//! The hub's demo page and its browser client in a real browser: Chromium, driven by the scripts of
//! `tests/browser`.
//!
//! Without the browser, Node.js or the driver the test prints what is missing and is skipped; where
//! the environment sets `CI`, it fails instead.
#![cfg(feature = "program")]

mod support;

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The oldest major version of Node.js that `playwright-core` supports.
const NODE_MAJOR_MIN: u32 = 20;

#[test]
fn the_demo_page_shows_both_transports_and_reconnects_after_a_restart() {
    run_in_browser("page.mjs");
}

#[test]
fn the_browser_client_shows_each_message_once_over_every_transport() {
    run_in_browser("resume.mjs");
}

#[test]
fn messages_of_other_programs_in_redis_are_shown() {
    if support::has("redis-server") {
        run_in_browser("redis.mjs");
    }
}

#[test]
fn the_hub_works_over_tls_and_the_browser_refuses_strangers() {
    if support::has("certutil") {
        run_in_browser("tls.mjs");
    }
}

#[test]
fn the_clients_of_applications_share_one_port() {
    run_in_browser("clients.mjs");
}

#[test]
fn a_page_subscribes_to_mercure_and_publishes_there() {
    run_in_browser("mercure.mjs");
}

/// Runs a script of `tests/browser`, which ends with a status other than 0 when something is wrong.
fn run_in_browser(script: &str) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser");
    let chromium = match installed(&directory) {
        Ok(chromium) => chromium,
        Err(missing) => return support::skip(&missing),
    };
    let status = Command::new("node")
        .arg(directory.join(script))
        .arg(env!("CARGO_BIN_EXE_waterwheel"))
        .arg(chromium)
        .status()
        .expect("node runs, as its version was asked above");
    assert!(status.success(), "tests/browser/{script}: {status}");
}

/// The path of the browser, or what is missing and how to install it.
fn installed(directory: &Path) -> Result<PathBuf, String> {
    let node = Command::new("node").arg("--version").output();
    let major = node
        .ok()
        .and_then(|output| major(&String::from_utf8_lossy(&output.stdout)));
    if major.is_none_or(|major| major < NODE_MAJOR_MIN) {
        return Err(format!(
            "Node.js {NODE_MAJOR_MIN} or later is missing: https://nodejs.org"
        ));
    }
    let Some(chromium) = ["chromium", "chromium-browser", "google-chrome"]
        .into_iter()
        .find_map(in_path)
    else {
        return Err("Chromium is missing: apt-get install chromium".to_owned());
    };
    if !directory.join("node_modules/playwright-core").is_dir() {
        return Err(
            "tests/browser/node_modules is missing: npm ci --prefix tests/browser".to_owned(),
        );
    }
    Ok(chromium)
}

/// `20` of `v20.20.2`.
fn major(version: &str) -> Option<u32> {
    version
        .trim()
        .strip_prefix('v')?
        .split('.')
        .next()?
        .parse()
        .ok()
}

fn in_path(program: &str) -> Option<PathBuf> {
    let directories = env::var_os("PATH")?;
    env::split_paths(&directories)
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
}
