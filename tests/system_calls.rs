//! System calls, counted by `strace`: the calls of an echo, and the waits of a loop without work.
//! Unlike times, counts are the same on every machine.

#![cfg(all(target_os = "linux", feature = "program"))]

mod support;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use support::{Server, Socket, has, round_trip};

/// Calls of each kind in one run of `waterwheel echo` with so many round trips.
fn calls_of(name: &str, round_trips: usize) -> HashMap<String, u64> {
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

/// The process number of the traced program.
fn traced_process(server: &Server) -> String {
    let tracer = server.child.id();
    let children = format!("/proc/{tracer}/task/{tracer}/children");
    let child = std::fs::read_to_string(children).unwrap();
    child.trim().to_owned()
}

/// Ends the traced program, not the tracer, which would detach.
fn end_traced(server: &Server) {
    let status = Command::new("kill")
        .args(["-TERM", &traced_process(server)])
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
    let few = calls_of("few", 100);
    let many = calls_of("many", 100 + MORE as usize);
    let extra = |name: &str| {
        let count = |calls: &HashMap<String, u64>| calls.get(name).copied().unwrap_or_default();
        count(&many).saturating_sub(count(&few))
    };
    let reads = extra("read") + extra("recvfrom") + extra("recvmsg") + extra("readv");
    // `write` is for the log, whose lines tell of a machine that is slow in this moment.
    let writes = extra("sendto") + extra("sendmsg") + extra("writev");
    let waits = extra("epoll_wait") + extra("epoll_pwait");
    let all: u64 = many
        .keys()
        .filter(|name| *name != "total")
        .map(|name| extra(name))
        .sum();
    assert_eq!((reads, writes), (MORE, MORE));
    // A few waits may find no event, when the other side was quicker.
    assert!(waits <= MORE + 10, "{waits} waits");
    assert!(all <= 3 * MORE + 20, "{all} calls: {many:?}");
}

/// A server under `strace`, which writes down its waits and accepts.
struct Traced {
    server: Server,
    path: PathBuf,
}

/// One system call, as `strace` writes it.
struct Call {
    name: String,
    arguments: String,
    /// The returned number, and behind it the name of an error.
    result: String,
}

impl Call {
    /// `None` for lines about signals and the end.
    fn parse(line: &str) -> Option<Call> {
        let (_, call) = line.split_once(' ')?;
        let (call, result) = call.rsplit_once(" = ")?;
        let (name, arguments) = call.trim().split_once('(')?;
        Some(Call {
            name: name.to_owned(),
            arguments: arguments.trim_end_matches(')').to_owned(),
            result: result.to_owned(),
        })
    }

    /// How long a wait may take, in milliseconds; `None` when it is no wait.
    fn timeout_ms(&self) -> Option<i64> {
        let behind_timeout = match self.name.as_str() {
            "epoll_wait" => 0,
            "epoll_pwait" => 2,
            _ => return None,
        };
        let timeout = self.arguments.rsplit(", ").nth(behind_timeout);
        Some(timeout.unwrap().parse().unwrap())
    }
}

impl Traced {
    /// Starts the program with at most so many open descriptors.
    fn start(name: &str, descriptors_max: u32, words: &[&str]) -> Traced {
        let path = std::env::temp_dir().join(format!("waterwheel-{}-{name}", std::process::id()));
        let mut command = Command::new("bash");
        let script = format!(
            "ulimit -n {descriptors_max} && exec strace -f -e trace=accept4,epoll_wait,epoll_pwait \
             -o \"$0\" \"$@\""
        );
        command.args(["-c", &script]).arg(&path);
        command.arg(env!("CARGO_BIN_EXE_waterwheel")).args(words);
        Traced {
            server: Server::spawn(command),
            path,
        }
    }

    /// Ends the program. Its calls until it was told to end, in their order, and its log.
    fn ended(self) -> (Vec<Call>, String) {
        end_traced(&self.server);
        let (_, log) = self.server.ended();
        let text = std::fs::read_to_string(&self.path).unwrap();
        std::fs::remove_file(&self.path).unwrap();
        let running = text.lines().take_while(|line| !line.contains(" SIGTERM "));
        (running.filter_map(Call::parse).collect(), log)
    }
}

/// The most waits without a timeout in a run that does not spin. The loop asks the kernel again at
/// once after it has accepted as much as it may in one turn.
const IMMEDIATE_WAITS_MAX: usize = 20;

/// How many waits ask what is ready without waiting, which is what a loop that spins does.
fn immediate_waits(calls: &[Call]) -> usize {
    let timeouts = calls.iter().filter_map(Call::timeout_ms);
    timeouts.filter(|timeout_ms| *timeout_ms == 0).count()
}

const REQUEST: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn read_answer(client: &mut Socket) {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\nok\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        bytes.push(byte[0]);
    }
    assert!(bytes.starts_with(b"HTTP/1.1 200 OK"));
}

fn ask(client: &mut Socket) {
    client.write_all(REQUEST).unwrap();
    read_answer(client);
}

// The loop makes no call while the kernel lets it wait, so its timeouts tell how long that is.
#[test]
fn an_idle_loop_makes_no_system_calls() {
    if !has("strace") {
        return;
    }
    let traced = Traced::start("idle", 1000, &["echo"]);
    let mut client = traced.server.websocket("/");
    for _ in 0..100 {
        round_trip(&mut client, "a small message");
    }
    drop(client);
    let (calls, _) = traced.ended();
    let immediate = immediate_waits(&calls);
    assert!(immediate <= IMMEDIATE_WAITS_MAX, "{immediate} of them");
    // The shortest deadline is ten seconds, for a request head; the next is a ping.
    let timeouts = calls.iter().filter_map(Call::timeout_ms);
    let shortest = timeouts.filter(|timeout_ms| 0 < *timeout_ms).min();
    assert!(Some(3000) < shortest, "{shortest:?} ms");
}

// 64 descriptors are fewer than 200 clients need, so the program lowers its own limit.
#[test]
fn at_its_connection_limit_the_loop_is_idle_and_serves_later_clients() {
    const CLIENTS: usize = 200;
    if !has("strace") {
        return;
    }
    let traced = Traced::start("full", 64, &[]);
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| traced.server.connect()).collect();
    for client in &mut clients {
        client.write_all(REQUEST).unwrap();
    }
    read_answer(&mut clients[0]);
    // Each request is a turn in which a loop that spins would ask again at once.
    for _ in 0..200 {
        ask(&mut clients[0]);
    }
    // Each client that leaves makes room for the next.
    drop(clients.remove(0));
    for mut client in clients {
        read_answer(&mut client);
    }
    ask(&mut traced.server.connect());
    let (calls, _) = traced.ended();
    let immediate = immediate_waits(&calls);
    assert!(immediate <= IMMEDIATE_WAITS_MAX, "{immediate} of them");
    // At the limit the loop does not even try to accept.
    let accepts = calls.iter().filter(|call| call.name == "accept4").count();
    assert!(accepts <= CLIENTS + 10, "{accepts} accepts");
}

// The limit is lowered while the program runs, so the kernel refuses before the program does.
#[test]
fn without_descriptors_accepting_pauses_and_goes_on_later() {
    /// How long accepting pauses, in milliseconds.
    const BACKOFF_MS: usize = 500;
    if !has("strace") || !has("prlimit") {
        return;
    }
    let began = Instant::now();
    let traced = Traced::start("exhausted", 1000, &["--drain-window", "0"]);
    let id = traced_process(&traced.server);
    let opened = std::fs::read_dir(format!("/proc/{id}/fd")).unwrap().count();
    let limit = opened + 20;
    let lower = Command::new("prlimit")
        .args([&format!("--nofile={limit}:{limit}"), "--pid", &id])
        .status();
    assert!(lower.unwrap().success());
    let mut clients: Vec<_> = (0..32).map(|_| traced.server.connect()).collect();
    // The clients that came first are served meanwhile, in turns that could try to accept again.
    for _ in 0..20 {
        clients[..10].iter_mut().for_each(ask);
    }
    // Those that leave make room for all the others.
    drop(clients.drain(..20));
    clients.iter_mut().for_each(ask);
    drop(clients);
    let (calls, log) = traced.ended();
    // A slow machine takes longer, and may see more pauses in that time.
    let pauses_max = 2 + began.elapsed().as_millis() as usize / BACKOFF_MS;
    let refused = calls.iter().filter(|call| call.result.contains("EMFILE"));
    let refused = refused.count();
    assert!((1..=pauses_max).contains(&refused), "{refused} refused");
    let immediate = immediate_waits(&calls);
    assert!(immediate <= IMMEDIATE_WAITS_MAX, "{immediate} of them");
    // Logged once until a connection is accepted again, which may be before all have left.
    let lines = log
        .lines()
        .filter(|line| line.contains("out of descriptors"));
    assert!((1..=3).contains(&lines.count()), "{log}");
}
