//! Streams and descriptors with the programs of others: `nc` and a shell.
#![cfg(unix)]

mod support;
#[path = "../examples/watch.rs"]
#[allow(dead_code, reason = "the test has its own main")]
mod watch;
#[path = "../examples/watch_file.rs"]
#[allow(dead_code, reason = "the test has its own main")]
mod watch_file;

use std::cell::RefCell;
use std::io::Write;
use std::process::{Command, Stdio};
use std::rc::Rc;

use support::has;
use waterwheel::{Address, Config, EventLoop, Reactor};

fn inet_port<S: 'static>(reactor: &Reactor<S>, listener: waterwheel::ListenerId) -> u16 {
    match reactor.local_addr(listener) {
        Some(Address::Inet(address)) => address.port(),
        other => panic!("{other:?}"),
    }
}

// `nc -N` ends its side behind its input, and the answer must still reach it.
#[test]
fn a_client_that_has_ended_its_side_gets_its_answer() {
    if !has("nc") {
        return;
    }
    let mut event_loop = EventLoop::new(Config::default(), ()).unwrap();
    let received = Rc::new(RefCell::new(Vec::new()));
    let listening = event_loop.reactor().stream("127.0.0.1:0", {
        let received = received.clone();
        move |stream| {
            let bytes = received.clone();
            stream.on_data(move |_, data| bytes.borrow_mut().extend_from_slice(data));
            stream.on_end(move |stream| {
                let answer = format!("got {}", received.borrow().len());
                stream.send(answer);
                stream.close()
            });
            stream.on_close(|stream, _| stream.reactor.stop());
        }
    });
    let port = inet_port(event_loop.reactor(), listening.unwrap());
    let mut nc = Command::new("nc")
        .args(["-N", "127.0.0.1", &port.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = nc.stdin.take().unwrap();
    input.write_all(b"x").unwrap();
    drop(input);
    while event_loop.turn(None).unwrap() {}
    let output = nc.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "got 1");
}

#[test]
fn the_example_publishes_what_a_program_prints() {
    let child = Command::new("sh")
        .args(["-c", "printf first; printf second"])
        .stdout(Stdio::piped())
        .spawn();
    let mut child = child.unwrap();
    let output = child.stdout.take().unwrap();
    let mut event_loop = EventLoop::new(Config::default(), ()).unwrap();
    let setting_up = watch::setup(event_loop.reactor(), "127.0.0.1:0", output);
    setting_up.unwrap();
    // The example stops the loop at the end of the output.
    while event_loop.turn(None).unwrap() {}
    assert!(event_loop.reactor().stats().publications >= 1);
    assert!(child.wait().unwrap().success());
}

#[test]
fn changes_of_a_file_are_told() {
    let path = std::env::temp_dir().join(format!("waterwheel-watch-{}", std::process::id()));
    std::fs::write(&path, "old").unwrap();
    let mut event_loop = EventLoop::new(Config::default(), Vec::new()).unwrap();
    watch_file::setup(event_loop.reactor(), &path).unwrap();
    std::fs::write(&path, "new").unwrap();
    std::fs::remove_file(&path).unwrap();
    let mut kinds = Vec::new();
    while !kinds.contains(&"remove") {
        event_loop.turn(None).unwrap();
        let told = event_loop.state().drain(..);
        kinds.extend(told.map(|event| match event.kind {
            notify::EventKind::Modify(_) => "modify",
            notify::EventKind::Remove(_) => "remove",
            _ => "other",
        }));
    }
    assert!(kinds.contains(&"modify"), "{kinds:?}");
}

// The counterpart of `EM.watch_process`, for a process that need not be a child of the reactor.
#[cfg(target_os = "linux")]
#[test]
fn the_end_of_a_process_is_told() {
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    use waterwheel::Interest;

    let mut cat = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    let process = pidfd_open(Pid::from_child(&cat), PidfdFlags::empty()).unwrap();
    let mut event_loop = EventLoop::new(Config::default(), ()).unwrap();
    let watching = event_loop
        .reactor()
        .watch(process, Interest::Readable, |watch| {
            watch.reactor.stop();
        });
    watching.unwrap();
    let is_running = event_loop.turn(Some(std::time::Duration::ZERO)).unwrap();
    assert!(is_running);
    drop(cat.stdin.take());
    while event_loop.turn(None).unwrap() {}
    assert!(cat.wait().unwrap().success());
}
