//! What an echo costs in system calls, counted by `strace`: a count, which is the same on every
//! machine.

#![cfg(all(target_os = "linux", feature = "program"))]

mod support;

use std::collections::HashMap;
use std::process::Command;
use std::thread;
use std::time::Duration;

use support::{Server, has, round_trip};

/// Calls of each kind in one run of `waterwheel echo` with so many round trips, and then a rest.
fn calls_of(name: &str, round_trips: usize, rest: Duration) -> HashMap<String, u64> {
    let path = std::env::temp_dir().join(format!("waterwheel-{}-{name}", std::process::id()));
    let mut command = Command::new("strace");
    command
        .args(["-c", "-f", "-o"])
        .arg(&path)
        .args([env!("CARGO_BIN_EXE_waterwheel"), "echo"]);
    let server = Server::spawn(command);
    let mut client = server.websocket("/");
    for _ in 0..round_trips {
        round_trip(&mut client, "a small message");
    }
    // Nothing is waited for: in this time there should be no call, which only time can show.
    thread::sleep(rest);
    drop(client);
    end_traced(&server);
    server.ended();
    let table = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let mut calls = HashMap::new();
    for line in table.lines() {
        let fields: Vec<_> = line.split_whitespace().collect();
        if let [_, _, _, count, .., name] = fields[..]
            && let Ok(count) = count.parse()
        {
            calls.insert(name.to_owned(), count);
        }
    }
    calls
}

/// Ends the traced program, not the tracer, which would detach.
fn end_traced(server: &Server) {
    let tracer = server.child.id();
    let children = format!("/proc/{tracer}/task/{tracer}/children");
    let child = std::fs::read_to_string(children).unwrap();
    let status = Command::new("kill")
        .args(["-TERM", child.trim()])
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn an_echo_costs_one_wait_one_read_and_one_write() {
    const MORE: u64 = 1000;
    if !has("strace") {
        return;
    }
    let few = calls_of("few", 100, Duration::ZERO);
    let many = calls_of("many", 100 + MORE as usize, Duration::ZERO);
    let extra = |name: &str| {
        let count = |calls: &HashMap<String, u64>| calls.get(name).copied().unwrap_or_default();
        count(&many).saturating_sub(count(&few))
    };
    let reads = extra("read") + extra("recvfrom") + extra("recvmsg") + extra("readv");
    let writes = extra("write") + extra("sendto") + extra("sendmsg") + extra("writev");
    let waits = extra("epoll_wait") + extra("epoll_pwait");
    let all: u64 = many
        .keys()
        .filter(|name| *name != "total")
        .map(|name| extra(name))
        .sum();
    assert_eq!((reads, writes), (MORE, MORE));
    // A wait may find nothing once, when the other side is quicker.
    assert!(waits <= MORE + 10, "{waits} waits");
    assert!(all <= 3 * MORE + 20, "{all} calls: {many:?}");
}

#[test]
fn an_idle_loop_makes_no_system_calls() {
    if !has("strace") {
        return;
    }
    // Less than the shortest deadline of an idle connection, which is a ping.
    let total = |name, rest| calls_of(name, 10, rest)["total"];
    let (busy, idle) = (
        total("busy", Duration::ZERO),
        total("idle", Duration::from_secs(3)),
    );
    assert!(idle <= busy + 2, "{idle} calls, {busy} without the rest");
}
