//! Child processes: their streams, their ends, and what they leave behind.
#![cfg(unix)]

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use waterwheel::{
    CloseCause, Config, EventLoop, Process, ProcessCallbacks, ProcessExit, ProcessId, Reactor,
    Sent, Sim,
};

#[allow(dead_code, reason = "a whole program, whose `main` is not called here")]
#[path = "../examples/popen.rs"]
mod popen;

/// The arguments of the callbacks of a child.
#[derive(Default)]
struct Seen {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    stdin_ends: Vec<CloseCause>,
    drains: usize,
    exits: Vec<ProcessExit>,
}

impl Seen {
    fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

fn event_loop() -> EventLoop<Seen> {
    EventLoop::new(Config::default(), Seen::default()).unwrap()
}

fn see_all(process: &mut ProcessCallbacks<Seen>) {
    process.on_stdout(|process, bytes| process.state.stdout.extend_from_slice(bytes));
    process.on_drain(|process| process.state.drains += 1);
    process.on_stdin_close(|process, close| process.state.stdin_ends.push(close.cause));
    process.on_exit(|process, exit| process.state.exits.push(exit));
}

fn start(event_loop: &mut EventLoop<Seen>, script: &str) -> ProcessId {
    let started = event_loop.reactor().process(shell(script), see_all);
    started.unwrap()
}

/// Runs turns until the state is as wanted.
fn turn_until(event_loop: &mut EventLoop<Seen>, is_wanted: impl Fn(&Seen) -> bool) {
    while !is_wanted(event_loop.state()) {
        event_loop.turn(Some(Duration::from_millis(5))).unwrap();
    }
}

fn turn_until_exit(event_loop: &mut EventLoop<Seen>) -> ProcessExit {
    turn_until(event_loop, |seen| !seen.exits.is_empty());
    let exits = &event_loop.state().exits;
    assert_eq!(exits.len(), 1);
    exits[0]
}

/// Lets a child go on that stops itself, once it has.
fn go_on(event_loop: &mut EventLoop<Seen>, child: ProcessId) {
    let number = event_loop.reactor().process_number(child).unwrap();
    let stat = format!("/proc/{number}/stat");
    // Other systems than Linux have no such file.
    while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") T ")) {}
    let mut kill = Command::new("kill");
    let sent = kill.args(["-CONT", &number.to_string()]).status();
    assert!(sent.unwrap().success());
}

fn code(exit: ProcessExit) -> Option<i32> {
    exit.status.unwrap().code()
}

// ── streams ─────────────────────────────────────────────────────────────────────────────────────

#[test]
fn the_example_gives_a_child_its_lines_and_prints_what_comes_back() {
    let state = Reactor::run(String::new(), popen::setup);
    assert_eq!(state.unwrap(), "one\ntwo\n");
}

#[test]
fn many_bytes_go_through_a_child_and_come_back() {
    let mut event_loop = event_loop();
    let child = start(&mut event_loop, "cat");
    let bytes: Vec<u8> = (0..600 * 1024).map(|index| index as u8).collect();
    let reactor = event_loop.reactor();
    assert_eq!(reactor.send(child.stdin(), bytes.clone()), Sent::Queued);
    assert_eq!(reactor.finish_sending(child.stdin()), Sent::Queued);
    assert_eq!(reactor.send(child.stdin(), "more"), Sent::Gone);
    assert_eq!(code(turn_until_exit(&mut event_loop)), Some(0));
    let seen = event_loop.state();
    assert!(seen.stdout == bytes, "{} bytes", seen.stdout.len());
    assert!(seen.stderr.is_empty());
    assert_eq!(seen.stdin_ends.len(), 1);
}

#[test]
fn standard_error_comes_apart_merged_or_not_at_all() {
    const SCRIPT: &str = "echo 1; echo 2 >&2; echo 3; exit 7";
    let cases: [(fn(&mut ProcessCallbacks<Seen>), &str, &str); 3] = [
        (
            |process| {
                process.on_stderr(|process, bytes| process.state.stderr.extend_from_slice(bytes));
            },
            "1\n3\n",
            "2\n",
        ),
        (ProcessCallbacks::merge_stderr, "1\n2\n3\n", ""),
        (|_| (), "1\n3\n", ""),
    ];
    for (choose, stdout, stderr) in cases {
        let mut event_loop = event_loop();
        let mut command = shell(SCRIPT);
        command.stderr(Stdio::null());
        let started = event_loop.reactor().process(command, |process| {
            see_all(process);
            choose(process);
        });
        let child = started.unwrap();
        assert_eq!(child.stderr().is_some(), !stderr.is_empty());
        assert_eq!(code(turn_until_exit(&mut event_loop)), Some(7));
        let seen = event_loop.state();
        assert_eq!(seen.stdout(), stdout);
        assert_eq!(seen.stderr, stderr.as_bytes());
    }
}

#[test]
fn a_child_that_floods_waits_while_its_output_is_paused() {
    let mut event_loop = event_loop();
    let started = event_loop
        .reactor()
        .process(Command::new("yes"), |process| {
            see_all(process);
            process.on_stdout(|process, bytes| {
                process.state.stdout.extend_from_slice(bytes);
                process.pause();
            });
        });
    let child = started.unwrap();
    turn_until(&mut event_loop, |seen| !seen.stdout.is_empty());
    let held = event_loop.reactor().memory_bytes();
    let read = event_loop.state().stdout.len();
    for _ in 0..100 {
        event_loop.turn(Some(Duration::from_millis(1))).unwrap();
    }
    assert_eq!(event_loop.state().stdout.len(), read);
    assert_eq!(event_loop.reactor().memory_bytes(), held);
    event_loop.reactor().resume(child.stdout());
    turn_until(&mut event_loop, |seen| read < seen.stdout.len());
    event_loop.reactor().resume(child.stdout());
    assert!(event_loop.reactor().kill(child));
    event_loop.reactor().resume(child.stdout());
    // It pauses again with each piece, of which a full pipe has some.
    while event_loop.state().exits.is_empty() {
        event_loop.reactor().resume(child.stdout());
        event_loop.turn(Some(Duration::from_millis(5))).unwrap();
    }
    let exit = event_loop.state().exits[0];
    assert_eq!(exit.status.unwrap().signal(), Some(9));
    assert!(!event_loop.reactor().kill(child));
}

// ── standard input ──────────────────────────────────────────────────────────────────────────────

#[test]
fn a_child_that_never_reads_meets_the_policy_and_its_output_goes_on() {
    let mut event_loop = event_loop();
    let child = start(
        &mut event_loop,
        "echo ready; kill -STOP $$; echo still here",
    );
    turn_until(&mut event_loop, |seen| seen.stdout() == "ready\n");
    let piece = vec![b'x'; 64 * 1024];
    let mut pieces = 0;
    while event_loop.state().stdin_ends.is_empty() {
        event_loop.reactor().send(child.stdin(), piece.clone());
        event_loop.turn(Some(Duration::ZERO)).unwrap();
        pieces += 1;
        assert!(pieces < 64, "the queue has no bound");
    }
    assert_eq!(event_loop.state().stdin_ends, [CloseCause::SlowConsumer]);
    go_on(&mut event_loop, child);
    assert_eq!(code(turn_until_exit(&mut event_loop)), Some(0));
    assert_eq!(event_loop.state().stdout(), "ready\nstill here\n");
    assert_eq!(event_loop.state().stdin_ends.len(), 1);
}

#[test]
fn a_producer_that_waits_for_on_drain_loses_no_byte() {
    let mut event_loop = event_loop();
    let started = event_loop.reactor().process(shell("wc -c"), |process| {
        see_all(process);
        process.options().queue_high_bytes = 64 * 1024;
        process.options().queue_low_bytes = 16 * 1024;
        process.on_drain(|process| {
            process.state.drains += 1;
            feed(process.reactor, process.id);
        });
    });
    feed(event_loop.reactor(), started.unwrap());
    turn_until_exit(&mut event_loop);
    let seen = event_loop.state();
    let counted: usize = seen.stdout().trim().parse().unwrap();
    assert_eq!(counted % 8192, 0);
    assert!(10 <= seen.drains && 10 * 8192 < counted, "{counted}");

    fn feed(reactor: &mut Reactor<Seen>, child: ProcessId) {
        while reactor.queued_bytes(child.stdin()) <= 64 * 1024 {
            if reactor.stats().sent_bytes > 1 << 20 {
                reactor.finish_sending(child.stdin());
                return;
            }
            if reactor.send(child.stdin(), vec![b'x'; 8192]) != Sent::Queued {
                return;
            }
        }
    }
}

#[test]
fn a_closed_standard_input_is_told_and_kills_nobody() {
    let mut event_loop = event_loop();
    let child = start(
        &mut event_loop,
        "exec <&-; echo closed; kill -STOP $$; echo end",
    );
    turn_until(&mut event_loop, |seen| seen.stdout() == "closed\n");
    event_loop.reactor().send(child.stdin(), "x");
    turn_until(&mut event_loop, |seen| !seen.stdin_ends.is_empty());
    let broken = CloseCause::Io(io::ErrorKind::BrokenPipe);
    assert_eq!(event_loop.state().stdin_ends, [broken]);
    assert_eq!(event_loop.reactor().send(child.stdin(), "x"), Sent::Gone);
    go_on(&mut event_loop, child);
    assert_eq!(code(turn_until_exit(&mut event_loop)), Some(0));
    assert_eq!(event_loop.state().stdout(), "closed\nend\n");
}

// ── ends ────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_program_that_cannot_be_started_is_an_error() {
    let mut event_loop = event_loop();
    let reactor = event_loop.reactor();
    for (program, kind) in [
        ("/no/such/program", io::ErrorKind::NotFound),
        (
            concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"),
            io::ErrorKind::PermissionDenied,
        ),
        ("/", io::ErrorKind::PermissionDenied),
    ] {
        let error = reactor.process(Command::new(program), see_all).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(program), "{error}");
    }
    assert_eq!(reactor.connection_count(), 0);
    reactor.stop();
    reactor.process(Command::new("true"), see_all).unwrap_err();
    event_loop.turn(None).unwrap();
    assert!(event_loop.state().exits.is_empty());
}

#[test]
fn a_simulation_starts_no_processes() {
    let mut sim = Sim::new(Seen::default(), |_: &mut Reactor<Seen>| ());
    let error = sim.reactor().process(shell(""), see_all).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::Unsupported);
}

#[test]
fn one_child_more_than_the_limit_is_refused() {
    let config = Config {
        processes_max: 2,
        ..Config::default()
    };
    let mut event_loop = EventLoop::new(config, Seen::default()).unwrap();
    for _ in 0..2 {
        start(&mut event_loop, "cat");
    }
    let refused = event_loop.reactor().process(shell("cat"), see_all);
    assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::ResourceBusy);
    assert_eq!(event_loop.reactor().stats().processes, 2);
}

#[test]
fn a_child_that_closes_its_output_goes_on_until_it_ends() {
    let mut event_loop = event_loop();
    let child = start(&mut event_loop, "echo first; exec >&-; read line; exit 3");
    turn_until(&mut event_loop, |seen| seen.stdout() == "first\n");
    while event_loop.reactor().is_open(child.stdout()) {
        event_loop.turn(Some(Duration::from_millis(5))).unwrap();
    }
    assert!(event_loop.state().exits.is_empty());
    assert!(event_loop.reactor().process_number(child).is_some());
    event_loop.reactor().send(child.stdin(), "line\n");
    assert_eq!(code(turn_until_exit(&mut event_loop)), Some(3));
    assert_eq!(event_loop.reactor().process_number(child), None);
}

#[test]
fn an_output_that_a_grandchild_keeps_open_is_cut() {
    let mut event_loop = event_loop();
    let command = shell("sleep 1000 & echo $!; exit 4");
    let started = event_loop.reactor().process(command, |process| {
        see_all(process);
        process.options().close_timeout = Duration::from_millis(50);
    });
    started.unwrap();
    let exit = turn_until_exit(&mut event_loop);
    assert_eq!((code(exit), exit.is_cut), (Some(4), true));
    let grandchild = event_loop.state().stdout();
    let killed = Command::new("kill").arg(grandchild.trim()).status();
    assert!(killed.unwrap().success());
}

#[test]
fn an_output_is_read_before_it_is_cut() {
    const CLOSE_TIMEOUT: Duration = Duration::from_millis(100);
    let mut event_loop = event_loop();
    // The grandchild writes when standard input ends, which it does with the child.
    let command = shell("exec 3<&0; { read line <&3; echo late; } & echo $!; exit 6");
    let started = event_loop.reactor().process(command, |process| {
        see_all(process);
        process.options().close_timeout = CLOSE_TIMEOUT;
    });
    started.unwrap();
    turn_until(&mut event_loop, |seen| {
        !seen.stdin_ends.is_empty() && !seen.stdout.is_empty()
    });
    let grandchild = event_loop.state().stdout();
    // Now the loop is blocked until the grandchild has ended and the time has passed.
    let blocked_since = Instant::now();
    while blocked_since.elapsed() < 2 * CLOSE_TIMEOUT || runs(grandchild.trim()) {
        std::thread::sleep(Duration::from_millis(5));
    }
    let exit = turn_until_exit(&mut event_loop);
    assert_eq!((code(exit), exit.is_cut), (Some(6), false));
    assert_eq!(event_loop.state().stdout(), grandchild + "late\n");
}

/// Whether there is a process with this number that has not ended, where `/proc` tells it.
fn runs(number: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{number}/stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn an_output_that_is_paused_is_not_cut() {
    let mut event_loop = event_loop();
    let command = shell("yes | head -c 60000; exit 5");
    let started = event_loop.reactor().process(command, |process| {
        see_all(process);
        process.options().close_timeout = Duration::from_millis(20);
    });
    let child = started.unwrap();
    event_loop.reactor().pause(child.stdout());
    turn_until(&mut event_loop, |seen| !seen.stdin_ends.is_empty());
    for _ in 0..20 {
        event_loop.turn(Some(Duration::from_millis(5))).unwrap();
    }
    assert!(event_loop.state().exits.is_empty());
    event_loop.reactor().resume(child.stdout());
    let exit = turn_until_exit(&mut event_loop);
    assert_eq!((code(exit), exit.is_cut), (Some(5), false));
    assert_eq!(event_loop.state().stdout.len(), 60_000);
}

#[test]
fn a_panic_in_a_callback_leaves_the_exit_to_be_told() {
    let mut event_loop = event_loop();
    let started = event_loop
        .reactor()
        .process(shell("echo x; cat"), |process| {
            see_all(process);
            process.on_stdout(|process: &mut Process<'_, Seen>, _| {
                process.finish();
                panic!("in on_stdout")
            });
            process.on_stdin_close(|_, _| panic!("in on_stdin_close"));
        });
    started.unwrap();
    turn_until_exit(&mut event_loop);
    assert_eq!(event_loop.reactor().stats().panics, 2);
}

#[test]
fn an_end_of_the_loop_kills_its_children_and_tells_each_once() {
    let mut event_loop = event_loop();
    let child = start(&mut event_loop, "echo ready; exec sleep 1000");
    turn_until(&mut event_loop, |seen| seen.stdout() == "ready\n");
    let number = event_loop.reactor().process_number(child).unwrap();
    let seen = event_loop.into_state();
    assert_eq!(seen.exits.len(), 1);
    assert_eq!(seen.stdin_ends.len(), 1);
    // The thread that waits for it reaps it.
    while Command::new("kill")
        .args(["-0", &number.to_string()])
        .stderr(Stdio::null())
        .status()
        .unwrap()
        .success()
    {}
}

#[test]
fn a_child_may_outlive_the_loop() {
    let mut event_loop = event_loop();
    let started = event_loop.reactor().process(
        shell("trap '' HUP PIPE; echo $$; exec sleep 1000"),
        |process| {
            see_all(process);
            process.kill_at_end(false);
        },
    );
    started.unwrap();
    turn_until(&mut event_loop, |seen| seen.stdout.ends_with(b"\n"));
    let number = event_loop.state().stdout();
    drop(event_loop);
    let killed = Command::new("kill").args(["-9", number.trim()]).status();
    assert!(killed.unwrap().success());
}

#[test]
fn a_drain_ends_standard_input_and_waits_for_the_child() {
    let mut event_loop = event_loop();
    start(&mut event_loop, "echo ready; cat; echo last");
    turn_until(&mut event_loop, |seen| seen.stdout() == "ready\n");
    event_loop.reactor().drain(Duration::ZERO);
    while event_loop.turn(None).unwrap() {}
    assert_eq!(event_loop.state().stdout(), "ready\nlast\n");
    let exits: Vec<_> = event_loop
        .state()
        .exits
        .iter()
        .map(|exit| code(*exit))
        .collect();
    assert_eq!(exits, [Some(0)]);
}

#[test]
fn a_drain_waits_for_a_child_that_has_closed_its_output() {
    let mut event_loop = event_loop();
    start(
        &mut event_loop,
        "echo ready; exec >&- 2>&-; cat; sleep 0.1; exit 3",
    );
    turn_until(&mut event_loop, |seen| seen.stdout() == "ready\n");
    event_loop.reactor().drain(Duration::ZERO);
    while event_loop.turn(None).unwrap() {}
    let exits: Vec<_> = event_loop
        .state()
        .exits
        .iter()
        .map(|exit| code(*exit))
        .collect();
    assert_eq!(exits, [Some(3)]);
}

/// A client's bytes go through `sort` and come back: its half close ends the child's input, and the child's end closes
/// the client.
#[test]
fn a_client_is_piped_through_a_child() {
    let mut event_loop = event_loop();
    let listener = event_loop.reactor().stream("127.0.0.1:0", |stream| {
        stream.on_open(|client| {
            let child = client.reactor.process(shell("sort"), |_| {})?;
            client.reactor.pipe(client.id, child.stdin());
            client.reactor.pipe(child.stdout(), client.id);
            Ok::<_, std::io::Error>(())
        });
    });
    let address = event_loop.reactor().local_addr(listener.unwrap()).unwrap();
    let client = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(address.to_string()).unwrap();
        stream.write_all(b"b\nc\na\n").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    });
    while !client.is_finished() {
        event_loop.turn(Some(Duration::from_millis(5))).unwrap();
    }
    assert_eq!(client.join().unwrap(), "a\nb\nc\n");
}

// ── what is left behind ─────────────────────────────────────────────────────────────────────────

#[cfg(target_os = "linux")]
mod left_behind {
    use super::*;
    use std::fs;

    fn count(folder: &str) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    /// The children of this process that were not reaped.
    fn child_count() -> usize {
        let own = std::process::id().to_string();
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let stats =
            processes.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
        // The name may have spaces and parentheses. Behind it stand the state and the parent.
        stats
            .filter(|stat| {
                let behind = stat.rsplit_once(')').map_or("", |(_, behind)| behind);
                behind.split_whitespace().nth(1) == Some(own.as_str())
            })
            .count()
    }

    // Other tests have children, so this runs in a process of its own.
    #[test]
    fn two_hundred_children_leave_nothing() {
        if std::env::var_os("COUNTS_CHILDREN").is_none() {
            let run = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "left_behind::two_hundred_children_leave_nothing"])
                .env("COUNTS_CHILDREN", "1")
                .output()
                .unwrap();
            let output = String::from_utf8_lossy(&run.stdout).into_owned();
            assert!(
                run.status.success() && output.contains("1 passed"),
                "{output}"
            );
            return;
        }
        let mut event_loop = event_loop();
        let before = (count("/proc/self/fd"), count("/proc/self/task"));
        for round in 0..10 {
            for index in 0..20 {
                let child = start(&mut event_loop, "ls /proc/self/fd");
                if index % 2 == 0 {
                    event_loop.reactor().kill(child);
                }
            }
            let wanted = 20 * (round + 1);
            turn_until(&mut event_loop, |seen| seen.exits.len() == wanted);
        }
        assert_eq!(event_loop.reactor().connection_count(), 0);
        assert_eq!(child_count(), 0);
        assert_eq!(count("/proc/self/fd"), before.0);
        // A thread ends a moment after its report.
        while count("/proc/self/task") != before.1 {
            std::thread::yield_now();
        }
        // No child has inherited more than its streams, and what this process has inherited itself.
        let plain = shell("ls /proc/self/fd").output().unwrap().stdout;
        let plain = String::from_utf8(plain).unwrap();
        let listed = event_loop.state().stdout();
        assert!(!listed.is_empty());
        for line in listed.lines() {
            assert!(plain.lines().any(|known| known == line), "{line}: {plain}");
        }
        // At the end of the loop.
        for _ in 0..20 {
            start(&mut event_loop, "exec sleep 1000");
        }
        drop(event_loop);
        while count("/proc/self/task") != before.1 {
            std::thread::yield_now();
        }
        assert_eq!(child_count(), 0);
    }
}
