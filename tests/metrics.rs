//! `GET /metrics` of the program, as Prometheus reads it: under load, judged by `promtool`.

#![cfg(all(unix, feature = "program"))]

mod support;

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use support::{Http, Server, has};
use tungstenite::Message;

fn scrape(server: &Server) -> String {
    let (status, text) = Http::new(server.connect()).request("GET", "/metrics", b"");
    assert_eq!(status, 200, "{text}");
    text
}

fn samples(text: &str) -> BTreeMap<&str, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(name, value)| (name, value.parse().unwrap()))
        .collect()
}

/// Has `promtool` judge a text; it complains about the format and about names.
fn check(text: &str) {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = promtool.stdin.take().unwrap();
    stdin.write_all(text.as_bytes()).unwrap();
    drop(stdin);
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.is_empty(), "{said}\n{text}");
}

#[test]
fn promtool_accepts_the_metrics_under_load() {
    if !has("promtool") {
        return;
    }
    for reactors in ["1", "2"] {
        let server = &Server::start(&["--reactors", reactors]);
        let mut member = server.websocket("/ws");
        member.send(Message::text("load")).unwrap();
        let is_over = &AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(move || {
                let mut http = Http::new(server.connect());
                while !is_over.load(Ordering::Relaxed) {
                    let target = "/publish?topic=load";
                    assert_eq!(http.request("POST", target, b"x").0, 200);
                    // Ends of several kinds.
                    let mut visitor = server.websocket("/ws");
                    visitor.close(None).unwrap();
                    drop(server.websocket("/ws"));
                    Http::new(server.connect()).request("GET", "/nowhere", b"");
                }
            });
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    let _ = member.read();
                }
            });
            for _ in 0..10 {
                let text = scrape(server);
                check(&text);
                let samples = samples(&text);
                assert_eq!(samples["waterwheel_reactors_missing"], 0.0);
                if cfg!(target_os = "linux") {
                    assert!(0.0 < samples["process_resident_memory_bytes"]);
                    assert!(5.0 < samples["process_open_fds"]);
                }
            }
            is_over.store(true, Ordering::Relaxed);
            // Wakes the member.
            Http::new(server.connect()).request("POST", "/publish?topic=load", b"x");
        });
    }
}

#[test]
fn the_counters_equal_a_clients_own_counts_after_10_000_messages() {
    const COUNT: usize = 10_000;
    let server = Server::start(&[]);
    let mut member = server.websocket("/ws");
    member.send(Message::text("news")).unwrap();
    let mut http = Http::new(server.connect());
    // The subscription has no answer: a publication that arrives shows it.
    while !http
        .request("POST", "/publish?topic=news", b"first")
        .1
        .contains("\"delivered\":1")
    {}
    assert_eq!(member.read().unwrap(), Message::text("first"));
    let text = scrape(&server);
    let before = samples(&text);
    for number in 0..COUNT {
        let body = number.to_string();
        assert_eq!(
            http.request("POST", "/publish?topic=news", body.as_bytes())
                .0,
            200
        );
    }
    for number in 0..COUNT {
        assert_eq!(member.read().unwrap(), Message::text(number.to_string()));
    }
    let text = scrape(&server);
    let after = samples(&text);
    for name in ["publications", "deliveries", "messages_sent"] {
        let name = format!("waterwheel_{name}_total");
        assert_eq!(after[&*name] - before[&*name], COUNT as f64, "{name}");
    }
    // With the two for the metrics.
    let name = "waterwheel_requests_total";
    assert_eq!(after[name] - before[name], COUNT as f64 + 1.0);
}
