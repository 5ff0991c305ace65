//! `waterwheel bench`: its figures agree with those of the server, and it finds every fault of one.

#![cfg(all(feature = "bench", feature = "program"))]

#[path = "support/redis_server.rs"]
mod redis_server;
mod support;

use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;

use serde_json::{Value, json};
use support::Server;
use waterwheel::{Address, ConnId, Message, Reactor, Remote};

/// Exit code, report and error lines of a run of the load tool.
struct Outcome {
    code: Option<i32>,
    report: Value,
    errors: String,
}

impl Outcome {
    fn of(output: Output) -> Outcome {
        Outcome {
            code: output.status.code(),
            report: serde_json::from_slice(&output.stdout).unwrap_or_default(),
            errors: String::from_utf8(output.stderr).unwrap(),
        }
    }

    fn number(&self, key: &str) -> f64 {
        let value = &self.report[key];
        value
            .as_f64()
            .unwrap_or_else(|| panic!("{key} is {value}: {}", self.errors))
    }

    /// How many of a kind were counted.
    fn problems(&self, kind: &str) -> u64 {
        let problems = self.report["problems"].as_array().unwrap();
        let of_kind = |problem: &&Value| problem["kind"] == kind;
        problems
            .iter()
            .find(of_kind)
            .map_or(0, |problem| problem["count"].as_u64().unwrap())
    }

    fn assert_succeeded(&self) {
        assert_eq!((self.code, self.errors.as_str()), (Some(0), ""));
        assert_eq!(self.number("errors"), 0.0);
    }
}

fn bench(words: &[&str]) -> Outcome {
    let mut command = Command::new(env!("CARGO_BIN_EXE_waterwheel"));
    command.arg("bench").args(words).arg("--json");
    finish(&mut command)
}

fn finish(command: &mut Command) -> Outcome {
    Outcome::of(command.stdin(Stdio::null()).output().unwrap())
}

/// A load short enough for a test and long enough for thousands of messages.
const SHORT: [&str; 4] = ["--seconds", "0.5", "--warmup", "0.1"];

fn url(server: &Server) -> String {
    format!("ws://{}/", server.address)
}

// ── a server with one fault ──────────────────────────────────────────────────────────────────

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Nothing,
    Drop,
    Duplicate,
    Reorder,
    Alter,
    /// The bytes are other ones, and more.
    Lengthen,
    /// The server ends.
    Stop,
}

/// Which message is the wrong one.
const WRONG: u64 = 500;

#[derive(Default)]
struct Counters {
    received: AtomicU64,
    sent: AtomicU64,
    faults: AtomicU64,
}

struct State {
    fault: Fault,
    to_all: bool,
    counters: Arc<Counters>,
    connections: Vec<ConnId>,
    held: Option<(ConnId, String)>,
}

impl State {
    fn send(&mut self, reactor: &mut Reactor<Self>, id: ConnId, text: &str) {
        // Probes of a fan-out are left alone.
        let is_counted = !text.starts_with('p') || !self.to_all;
        if is_counted && self.counters.sent.fetch_add(1, Ordering::Relaxed) == WRONG {
            self.counters.faults.fetch_add(1, Ordering::Relaxed);
            match self.fault {
                Fault::Nothing => {}
                Fault::Drop => return,
                Fault::Duplicate => {
                    reactor.send(id, text);
                }
                Fault::Reorder => {
                    self.held = Some((id, text.to_owned()));
                    return;
                }
                Fault::Alter => {
                    let (rest, last) = text.split_at(text.len() - 1);
                    let other = if last == "x" { "y" } else { "x" };
                    reactor.send(id, format!("{rest}{other}"));
                    return;
                }
                Fault::Lengthen => {
                    reactor.send(id, format!("x{text}"));
                    return;
                }
                Fault::Stop => return reactor.stop(),
            }
        }
        reactor.send(id, text);
        if let Some((_, held)) = self.held.take_if(|(held_for, _)| *held_for == id) {
            reactor.send(id, held);
        }
    }
}

struct FaultyServer {
    url: String,
    counters: Arc<Counters>,
    remote: Remote<State>,
    thread: Option<JoinHandle<()>>,
}

impl FaultyServer {
    fn start(fault: Fault, to_all: bool) -> FaultyServer {
        let counters = Arc::new(Counters::default());
        let state = State {
            fault,
            to_all,
            counters: Arc::clone(&counters),
            connections: Vec::new(),
            held: None,
        };
        let (tell, told) = mpsc::channel();
        let serve = move || {
            let setup = |reactor: &mut Reactor<State>| {
                let listener = reactor.websocket("127.0.0.1:0", |ws| {
                    ws.on_open(|ws, _| ws.state.connections.push(ws.id));
                    ws.on_message(|ws, message| {
                        let Message::Text(text) = message else {
                            panic!("the load sends text")
                        };
                        ws.state.counters.received.fetch_add(1, Ordering::Relaxed);
                        match ws.state.to_all {
                            false => ws.state.send(ws.reactor, ws.id, text),
                            true => {
                                for index in 0..ws.state.connections.len() {
                                    let id = ws.state.connections[index];
                                    ws.state.send(ws.reactor, id, text);
                                }
                            }
                        }
                    });
                })?;
                let Some(Address::Inet(address)) = reactor.local_addr(listener) else {
                    panic!("it listens on TCP")
                };
                tell.send((address, reactor.remote())).unwrap();
                std::io::Result::Ok(())
            };
            Reactor::run(state, setup).unwrap();
        };
        let thread = std::thread::spawn(serve);
        let (address, remote) = told.recv().unwrap();
        FaultyServer {
            url: format!("ws://{address}/"),
            counters,
            remote,
            thread: Some(thread),
        }
    }

    fn faults(&self) -> u64 {
        self.counters.faults.load(Ordering::Relaxed)
    }
}

impl Drop for FaultyServer {
    fn drop(&mut self) {
        // The server may have stopped by itself.
        let _ = self.remote.run(|cx| cx.reactor.stop());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

// ── each load ────────────────────────────────────────────────────────────────────────────────

#[test]
fn echo_in_a_closed_loop_counts_replies() {
    let server = Server::start(&["echo"]);
    let url = url(&server);
    let pid = server.child.id().to_string();
    for more in [
        &["--pipeline", "4"][..],
        &["--verify", "--pipeline", "7", "--size", "3"],
        &["--verify", "--binary", "--size", "100000"],
    ] {
        let words = [
            &["echo", "--url", &url, "--pid", &pid, "--connections", "10"],
            more,
            &SHORT,
        ]
        .concat();
        let outcome = bench(&words);
        outcome.assert_succeeded();
        assert!(0.0 < outcome.number("messages"), "{words:?}");
        assert_eq!(
            outcome.number("sent_total"),
            outcome.number("received_total")
        );
        assert!(outcome.number("latency_p50_us") <= outcome.number("latency_p99_us"));
        assert!(outcome.number("latency_p99_us") <= outcome.number("latency_max_us"));
        if cfg!(target_os = "linux") {
            assert!(0.0 <= outcome.number("server_cpu_s"));
        }
    }
}

#[test]
fn counts_at_a_fixed_rate_match_those_of_the_server() {
    let server = FaultyServer::start(Fault::Nothing, false);
    let outcome = bench(
        &[
            &[
                "echo",
                "--url",
                &server.url,
                "--rate",
                "3000",
                "--connections",
                "7",
                "--verify",
            ],
            &SHORT[..],
        ]
        .concat(),
    );
    outcome.assert_succeeded();
    let counters = &server.counters;
    let received = counters.received.load(Ordering::Relaxed) as f64;
    let sent = counters.sent.load(Ordering::Relaxed) as f64;
    assert!(0.0 < received);
    assert_eq!(outcome.number("sent_total"), received);
    assert_eq!(outcome.number("received_total"), sent);
}

#[test]
fn idle_counts_connections_and_the_memory_they_take() {
    let server = Server::start(&["echo"]);
    let url = url(&server);
    let pid = server.child.id().to_string();
    let outcome = bench(&[
        "idle",
        "--url",
        &url,
        "--connections",
        "300",
        "--connect-rate",
        "3000",
        "--hold",
        "0.2",
        "--pid",
        &pid,
    ]);
    outcome.assert_succeeded();
    assert_eq!(outcome.number("connections_opened"), 300.0);
    assert_eq!(outcome.number("replies"), 300.0);
    for key in [
        "server_bytes_before",
        "server_bytes_open",
        "server_bytes_after_message",
    ] {
        assert!(100_000.0 < outcome.number(key), "{key}");
    }
    assert!(0.0 < outcome.number("open_p50_us"));
    assert!(outcome.number("open_p50_us") <= outcome.number("open_max_us"));
    let opened = outcome.report["series"].as_array().unwrap();
    let opened: f64 = opened.iter().map(|rate| rate.as_f64().unwrap()).sum();
    let opened = opened * outcome.number("series_interval_s");
    assert_eq!(opened.round(), 300.0);
    let nothing = bench(&["idle", "--url", &url, "--hold", "0.1", "--send", ""]);
    nothing.assert_succeeded();
    assert_eq!(nothing.number("replies"), 0.0);
}

#[test]
fn churn_opens_and_closes_connections_repeatedly() {
    let server = Server::start(&["echo"]);
    let url = url(&server);
    let outcome = bench(&[&["churn", "--url", &url, "--connections", "5"], &SHORT[..]].concat());
    outcome.assert_succeeded();
    assert!(0.0 < outcome.number("rounds"));
    assert_eq!(
        outcome.number("rounds_total"),
        outcome.number("connections_begun")
    );
    assert!(outcome.number("first_byte_p50_us") <= outcome.number("latency_max_us"));
}

// The option was once accepted and ignored.
#[test]
fn churn_keeps_to_its_rate_of_connections() {
    let server = Server::start(&["echo"]);
    let url = url(&server);
    // The first connection begins at once, the second after a quarter of an hour.
    let words = ["churn", "--url", &url, "--connect-rate", "0.001"];
    let outcome = bench(&[&words, &SHORT[..]].concat());
    outcome.assert_succeeded();
    assert_eq!(outcome.number("connections_begun"), 1.0);
    assert_eq!(outcome.number("rounds_total"), 1.0);
}

#[test]
fn fan_out_reaches_all_members_over_every_transport() {
    let echo = Server::start(&["echo", "--to", "all"]);
    let hub = Server::start(&["serve", "--publish-token", "secret"]);
    let (echo_url, hub_url) = (url(&echo), url(&hub));
    // The form in which the hub prints its address.
    let http_url = hub.url("/");
    let token = ["--token", "secret"];
    let cases: [&[&str]; 6] = [
        &["fan-out", "--url", &echo_url, "--in-flight", "8"],
        &[
            "fan-out",
            "--url",
            &echo_url,
            "--publishers",
            "3",
            "--rate",
            "200",
        ],
        &[
            "fan-out",
            "--url",
            &hub_url,
            "--protocol",
            "waterwheel",
            "--publishers",
            "2",
            token[0],
            token[1],
        ],
        &[
            "fan-out",
            "--url",
            &hub_url,
            "--protocol",
            "waterwheel",
            "--publish-by",
            "json",
            token[0],
            token[1],
        ],
        &[
            "sse",
            "--url",
            &hub_url,
            "--in-flight",
            "4",
            token[0],
            token[1],
        ],
        &[
            "sse", "--url", &http_url, "--rate", "100", "--size", "5000", token[0], token[1],
        ],
    ];
    for words in cases {
        let outcome = bench(&[words, &["--subscribers", "20"], &SHORT].concat());
        outcome.assert_succeeded();
        assert!(0.0 < outcome.number("deliveries"), "{words:?}");
        let published = outcome.number("published_total");
        assert_eq!(
            outcome.number("delivered_total"),
            20.0 * published,
            "{words:?}"
        );
        if outcome.report["publish_by"] == "post" {
            assert_eq!(
                outcome.number("acknowledged_total"),
                20.0 * published,
                "{words:?}"
            );
        }
    }
}

#[test]
fn fan_out_publishes_in_redis() {
    let Some(redis) = redis_server::start(&[]) else {
        return;
    };
    let redis_url = redis.url();
    let hub = Server::start(&["serve", "--redis", &redis_url]);
    let url = url(&hub);
    let words = ["fan-out", "--url", &url, "--publishers", "3"];
    let through_redis = ["--publish-by", "redis", "--redis", &redis_url];
    let hub_words = ["--protocol", "waterwheel", "--subscribers", "20"];
    for more in [["--in-flight", "8"], ["--rate", "200"]] {
        let outcome = bench(&[&words[..], &through_redis, &hub_words, &more, &SHORT].concat());
        outcome.assert_succeeded();
        let published = outcome.number("published_total");
        assert!(0.0 < published);
        assert_eq!(outcome.number("delivered_total"), 20.0 * published);
        assert_eq!(outcome.report["topic"], "bench");
        assert!(!outcome.report.to_string().contains("redis://"));
    }
    // The hub does not speak ActionCable, and says so in the handshake or never subscribes.
    let cable = ["--protocol", "actioncable", "--subscribers", "1"];
    let outcome = bench(&[&words[..], &through_redis, &cable, &SHORT].concat());
    assert_eq!(outcome.code, Some(1), "{}", outcome.errors);
}

#[cfg(feature = "plot")]
#[test]
fn a_plot_is_two_pictures_in_one_file() {
    let server = Server::start(&["echo"]);
    let path = std::env::temp_dir().join(format!("waterwheel-{}.svg", std::process::id()));
    let url = url(&server);
    let cases: [(&[&str], _, _); 2] = [
        (
            &["echo", "--seconds", "0.5", "--warmup", "0.1"],
            "echo: latency in µs",
            "messages per second, over time",
        ),
        (
            &["idle", "--hold", "0.1"],
            "time to open a connection in µs",
            "connections opened per second, over time",
        ),
    ];
    for (words, latencies, rates) in cases {
        let plot = ["--url", &url, "--plot", path.to_str().unwrap()];
        bench(&[words, &plot].concat()).assert_succeeded();
        let svg = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(svg.contains(latencies) && svg.contains(rates), "{svg}");
    }
}

#[cfg(not(feature = "plot"))]
#[test]
fn a_plot_that_cannot_be_drawn_is_reported_before_the_run() {
    let outcome = bench(&["echo", "--url", "ws://127.0.0.1:1/", "--plot", "a.svg"]);
    assert_eq!(outcome.code, Some(2));
    assert!(
        outcome.errors.contains("--features plot"),
        "{}",
        outcome.errors
    );
}

// ── faults of the server ─────────────────────────────────────────────────────────────────────

/// Each fault, the kind it is counted as, and words of its sentence.
const FAULTS: [(Fault, &str, &str); 4] = [
    (Fault::Drop, "lost", "never"),
    (Fault::Duplicate, "duplicated", "again"),
    (Fault::Reorder, "reordered", "after a later one"),
    (Fault::Alter, "altered", "bytes"),
];

fn assert_reported(outcome: &Outcome, server: &FaultyServer, kind: &str, words: &str) {
    assert_eq!(server.faults(), 1, "{kind}: the server never came so far");
    assert_eq!(outcome.code, Some(1), "{kind}");
    assert_eq!(outcome.problems(kind), 1, "{}", outcome.errors);
    assert_eq!(outcome.number("errors"), 1.0, "{}", outcome.errors);
    assert!(outcome.errors.contains(words), "{kind}: {}", outcome.errors);
}

#[test]
fn one_wrong_reply_is_reported_by_its_kind() {
    for (fault, kind, words) in FAULTS {
        let server = FaultyServer::start(fault, false);
        let load = [
            "echo",
            "--url",
            &server.url,
            "--connections",
            "5",
            "--pipeline",
            "8",
            "--verify",
        ];
        let outcome = bench(&[&load, &SHORT[..]].concat());
        assert_reported(&outcome, &server, kind, words);
    }
}

// It was counted as one of another length and as one of other bytes.
#[test]
fn a_reply_that_is_wrong_in_two_ways_is_one_error() {
    let server = FaultyServer::start(Fault::Lengthen, false);
    let load = [
        "echo",
        "--url",
        &server.url,
        "--connections",
        "5",
        "--verify",
    ];
    let outcome = bench(&[&load, &SHORT[..]].concat());
    assert_eq!(server.faults(), 1);
    assert_eq!(outcome.number("errors"), 1.0, "{}", outcome.errors);
    assert_eq!(outcome.problems("wrong_length"), 1);
}

#[test]
fn one_wrong_delivery_is_reported_by_its_kind() {
    for (fault, kind, words) in FAULTS {
        let server = FaultyServer::start(fault, true);
        let load = [
            "fan-out",
            "--url",
            &server.url,
            "--subscribers",
            "10",
            "--rate",
            "1000",
        ];
        let outcome = bench(&[&load, &SHORT[..]].concat());
        assert_reported(&outcome, &server, kind, words);
        assert_eq!(outcome.number(kind), 1.0);
    }
}

// Without --verify, replies are counted.
#[test]
fn a_missing_or_extra_reply_is_found_by_counting() {
    for (fault, kind) in [(Fault::Drop, "lost"), (Fault::Duplicate, "duplicated")] {
        let server = FaultyServer::start(fault, false);
        let load = [
            "echo",
            "--url",
            &server.url,
            "--connections",
            "2",
            "--pipeline",
            "8",
        ];
        let outcome = bench(&[&load, &SHORT[..]].concat());
        assert_eq!(
            (outcome.code, outcome.problems(kind)),
            (Some(1), 1),
            "{}",
            outcome.errors
        );
    }
}

// A publisher goes on after a lost message, so that one loss does not end the measurement.
#[test]
fn a_lost_delivery_does_not_stop_a_closed_loop() {
    let server = FaultyServer::start(Fault::Drop, true);
    let load = [
        "fan-out",
        "--url",
        &server.url,
        "--subscribers",
        "10",
        "--seconds",
        "2.5",
        "--warmup",
        "0",
    ];
    let outcome = bench(&load);
    assert_reported(&outcome, &server, "lost", "never");
    assert!((WRONG / 10 + 2) as f64 <= outcome.number("published_total"));
}

#[test]
fn a_server_that_ends_during_the_run_is_reported() {
    let server = FaultyServer::start(Fault::Stop, false);
    let load = [
        "echo",
        "--url",
        &server.url,
        "--connections",
        "3",
        "--seconds",
        "600",
        "--warmup",
        "0",
    ];
    let outcome = bench(&load);
    assert_eq!(outcome.code, Some(1));
    assert_eq!(outcome.problems("closed"), 3, "{}", outcome.errors);
    assert!(
        outcome.errors.contains("a connection"),
        "{}",
        outcome.errors
    );
    assert!(WRONG as f64 <= outcome.number("messages"));
}

#[test]
fn a_fan_out_that_reaches_only_the_sender_is_reported() {
    let server = Server::start(&["echo"]);
    let outcome = bench(&["fan-out", "--url", &url(&server), "--subscribers", "3"]);
    assert_eq!(outcome.code, Some(1));
    assert!(
        outcome.errors.contains("0 of 3 subscribers"),
        "{}",
        outcome.errors
    );
    assert!(outcome.errors.contains("to all"), "{}", outcome.errors);
}

#[test]
fn refused_connections_and_upgrades_are_reported() {
    let hub = Server::start(&["serve", "--publish-token", "secret"]);
    let hub_url = url(&hub);
    // No server listens on port 1.
    let refused = "ws://127.0.0.1:1/";
    let cases: [(&[&str], &str); 5] = [
        (&["echo", "--url", refused], "refuses connections"),
        (&["churn", "--url", refused], "refuses connections"),
        (&["sse", "--url", refused], "refuses connections"),
        (&["echo", "--url", &hub_url], "did not agree to a WebSocket"),
        (
            &["fan-out", "--url", &hub_url, "--protocol", "waterwheel"],
            "answered 401 to a POST: publishing needs a token",
        ),
    ];
    for (words, sentence) in cases {
        let outcome = bench(words);
        assert_eq!(outcome.code, Some(1), "{words:?}");
        assert!(
            outcome.errors.contains(sentence),
            "{words:?}: {}",
            outcome.errors
        );
    }
}

#[test]
fn json_has_every_parameter_and_never_the_token() {
    // No server listens there, so the run fails; its report has all parameters anyway.
    let refused = "ws://127.0.0.1:1/";
    let common = json!({"url": refused, "connect_rate": 5000.0, "pid": null, "interrupted": false});
    let time = json!({"seconds": 5.0, "warmup": 1.0});
    let cases = [
        (
            "echo --connections 3 --pipeline 2 --binary",
            json!({"mode": "echo", "connections": 3, "size": 20, "rate": null, "pipeline": 2,
                "binary": true, "verify": false}),
        ),
        (
            "echo --rate 7 --verify",
            json!({"mode": "echo", "rate": 7.0, "pipeline": null, "verify": true}),
        ),
        (
            "churn --connections 2 --size 9",
            json!({"mode": "churn", "connections": 2, "size": 9}),
        ),
        (
            "fan-out --subscribers 3 --publishers 2",
            json!({"mode": "fan-out", "subscribers": 3, "publishers": 2, "connections": 5,
                "size": 64, "rate": null, "in_flight": 1, "protocol": "plain", "publish_by": null,
                "topic": null, "token": false}),
        ),
        (
            "fan-out --protocol waterwheel --publish-by json --topic news --token secret --rate 9",
            json!({"rate": 9.0, "in_flight": null, "protocol": "waterwheel", "publish_by": "json",
                "topic": "news", "token": true}),
        ),
        (
            "fan-out --protocol actioncable --publish-by redis --redis redis://u:secret@127.0.0.1:1 --subscribers 3",
            json!({"connections": 3, "publishers": 1, "protocol": "actioncable",
                "publish_by": "redis", "topic": "bench"}),
        ),
        (
            "sse --token secret",
            json!({"mode": "sse", "protocol": "waterwheel", "publish_by": "post", "topic": "bench",
                "token": true}),
        ),
    ];
    let assert_parameters = |outcome: &Outcome, expected: &Value| {
        for (key, value) in expected.as_object().unwrap() {
            assert_eq!(outcome.report.get(key), Some(value), "{key}");
        }
    };
    let run = |words: &str| {
        let words: Vec<_> = words.split(' ').collect();
        bench(&[&words[..], &["--url", refused, "--connect-rate", "5000"]].concat())
    };
    for (words, expected) in cases {
        let outcome = run(words);
        for expected in [&common, &time, &expected] {
            assert_parameters(&outcome, expected);
        }
        assert!(!outcome.report.to_string().contains("secret"), "{words}");
    }
    let idle = run("idle --hold 3 --expect nothing");
    assert_parameters(&idle, &common);
    let own = json!({"mode": "idle", "hold": 3.0, "send": "hello", "expects_echo": false});
    assert_parameters(&idle, &own);
}

#[test]
fn invalid_arguments_exit_with_code_2() {
    for (words, sentence) in [
        (&["echo", "--url", "127.0.0.1:9"][..], "ws://HOST:PORT"),
        (&["echo", "--url", "ftp://h/"], "ws://HOST:PORT"),
        (&["echo"], "needs --url"),
        (&["storm"], "expected echo, idle, churn, fan-out, sse"),
    ] {
        let outcome = bench(words);
        assert_eq!(outcome.code, Some(2), "{words:?}");
        assert!(
            outcome.errors.contains(sentence),
            "{words:?}: {}",
            outcome.errors
        );
    }
}

// ── faults of the machine ────────────────────────────────────────────────────────────────────

/// A process that does nothing until it is killed.
#[cfg(target_os = "linux")]
fn idle_process() -> Child {
    Command::new("cat")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn a_missing_process_to_watch_is_reported() {
    let mut gone = idle_process();
    let pid = gone.id().to_string();
    gone.kill().unwrap();
    gone.wait().unwrap();
    let outcome = bench(&["echo", "--url", "ws://127.0.0.1:1/", "--pid", &pid]);
    assert_eq!(outcome.code, Some(1));
    let sentence = format!("--pid {pid}: there is no such process");
    assert!(outcome.errors.contains(&sentence), "{}", outcome.errors);
}

#[cfg(target_os = "linux")]
#[test]
fn a_watched_process_that_ends_loses_only_its_own_figures() {
    let server = FaultyServer::start(Fault::Nothing, false);
    let mut watched = idle_process();
    let pid = watched.id().to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_waterwheel"));
    command.args([
        "bench",
        "echo",
        "--url",
        &server.url,
        "--pid",
        &pid,
        "--connections",
        "2",
        "--json",
    ]);
    command.args(["--seconds", "1", "--warmup", "0.5"]);
    let load = std::thread::spawn(move || finish(&mut command));
    // The load tool has looked at the process before it sends the first message.
    while server.counters.received.load(Ordering::Relaxed) == 0 {
        std::thread::yield_now();
    }
    watched.kill().unwrap();
    watched.wait().unwrap();
    let outcome = load.join().unwrap();
    assert_eq!(outcome.code, Some(1));
    assert!(
        outcome.errors.contains("no such process any more"),
        "{}",
        outcome.errors
    );
    assert_eq!(outcome.report["messages_per_cpu_s"], Value::Null);
    assert!(0.0 < outcome.number("messages"));
}

#[cfg(target_os = "linux")]
#[test]
fn an_interrupt_reports_figures_so_far_and_an_idle_watched_process() {
    let server = FaultyServer::start(Fault::Nothing, false);
    let mut watched = idle_process();
    let pid = watched.id().to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_waterwheel"));
    command.args(["bench", "echo", "--url", &server.url, "--pid", &pid]);
    command.args(["--connections", "2", "--seconds", "600", "--warmup", "0"]);
    command.args(["--json"]).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let load = command.spawn().unwrap();
    // The kernel counts processor time in ticks, usually of 10 ms. 110,000 messages take several.
    while server.counters.received.load(Ordering::Relaxed) < 110_000 {
        std::thread::yield_now();
    }
    let id = load.id().to_string();
    let kill = Command::new("kill").args(["-INT", &id]).status();
    assert!(kill.unwrap().success());
    let outcome = Outcome::of(load.wait_with_output().unwrap());
    watched.kill().unwrap();
    watched.wait().unwrap();
    assert_eq!(outcome.code, Some(1), "{}", outcome.errors);
    assert!(
        outcome.errors.contains("interrupted: the figures are of"),
        "{}",
        outcome.errors
    );
    let sentence = format!("--pid {pid}: it has used no processor time");
    assert!(outcome.errors.contains(&sentence), "{}", outcome.errors);
    assert_eq!(outcome.number("errors"), 1.0);
    assert_eq!(outcome.report["interrupted"], true);
    assert!(110_000.0 <= outcome.number("sent_total"));
    assert_eq!(
        outcome.number("sent_total"),
        outcome.number("received_total")
    );
}

#[cfg(target_os = "linux")]
#[test]
fn too_few_descriptors_are_reported() {
    let mut command = Command::new("bash");
    let words = "ulimit -n 50 && exec \"$0\" bench echo --url ws://127.0.0.1:1/ --connections 40";
    command.args(["-c", words, env!("CARGO_BIN_EXE_waterwheel")]);
    let outcome = finish(&mut command);
    assert_eq!(outcome.code, Some(1));
    for part in ["need 72 descriptors", "may have 50", "ulimit -Hn"] {
        assert!(outcome.errors.contains(part), "{}", outcome.errors);
    }
}
