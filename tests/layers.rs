//! The floors, read off the sources: a file knows what is below it, and never what is above.

use std::fs;
use std::path::Path;

fn visit(path: &Path, check: &mut dyn FnMut(&Path, &str)) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            visit(&entry.unwrap().path(), check);
        }
    } else if path.extension().is_some_and(|extension| extension == "rs") {
        check(path, &fs::read_to_string(path).unwrap());
    }
}

/// No line of code below `folder`, outside of tests and comments, has one of `banned` in it.
fn assert_free_of(folder: &str, banned: &[&str], why: &str) {
    let mut files = 0;
    visit(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join(folder),
        &mut |path, source| {
            files += 1;
            let code = source
                .split("#[cfg(test)]\nmod tests")
                .next()
                .unwrap_or_default();
            for (index, line) in code.lines().enumerate() {
                let line = line.split("//").next().unwrap_or_default();
                for word in banned {
                    assert!(
                        !line.contains(word),
                        "{}:{}: `{word}` {why}",
                        path.display(),
                        index + 1
                    );
                }
            }
        },
    );
    assert!(0 < files, "{folder} has no sources");
}

const UPPER: [&str; 4] = [
    "crate::server",
    "crate::client",
    "crate::hub",
    "crate::backplane",
];

#[test]
fn protocols_and_topics_touch_no_socket_no_clock_and_no_log() {
    let banned = [
        "mio",
        "std::net",
        "Instant::now",
        "SystemTime::now",
        "log::",
        "crate::reactor",
    ];
    for folder in ["src/protocol", "src/pubsub"] {
        assert_free_of(folder, &banned, "in a pure file");
        assert_free_of(folder, &UPPER, "in a pure file");
    }
    assert_free_of("src/protocol", &["crate::pubsub"], "in a protocol");
}

#[test]
fn the_reactor_knows_no_role() {
    assert_free_of("src/reactor", &UPPER, "in the reactor");
}

#[test]
fn server_and_client_are_mirror_images() {
    assert_free_of(
        "src/server",
        &["crate::client", "crate::hub", "crate::backplane"],
        "in a server role",
    );
    assert_free_of(
        "src/client",
        &["crate::server", "crate::hub", "crate::backplane"],
        "in a client role",
    );
}

#[test]
fn the_hub_stands_on_the_server() {
    assert_free_of(
        "src/hub",
        &["crate::client", "crate::backplane"],
        "in the hub",
    );
}

/// The words above are whole paths; an import in one group would hide them.
#[test]
fn imports_say_the_whole_path() {
    let groups = ["crate::{", "crate as", "crate::*", "super::super"];
    assert_free_of(
        "src",
        &groups,
        "hides what is used from the other tests here",
    );
}

#[test]
fn only_the_program_prints_and_exits() {
    for folder in [
        "src/protocol",
        "src/pubsub",
        "src/reactor",
        "src/server",
        "src/client",
        "src/hub",
    ] {
        assert_free_of(
            folder,
            &["println!", "eprintln!", "process::exit", "dbg!"],
            "outside of the program",
        );
    }
}

#[test]
fn only_the_reactor_waits() {
    for folder in ["src/server", "src/client", "src/hub"] {
        assert_free_of(
            folder,
            &["thread::sleep", "Poll::new", "Instant::now"],
            "outside of the reactor",
        );
    }
}
