//! `GET /metrics`: the numbers of the text against what clients have counted themselves.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use waterwheel::hub::{Access, mount};
use waterwheel::{Config, Overflow, Sim};

use crate::support::{get, post};
use crate::{ask, envelope, guarded, hub, open, plain, publish, say, subscribed, with};

/// The samples by their name with labels.
type Samples = BTreeMap<String, f64>;

fn samples_of(text: &str) -> Samples {
    let mut samples = Samples::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').expect("name and value");
        let value = value.parse().expect("a number");
        assert!(samples.insert(name.into(), value).is_none(), "{name} twice");
    }
    samples
}

fn scrape(sim: &mut Sim<()>) -> Samples {
    let answer = ask(sim, &get("/metrics"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let media_type = Some("text/plain; version=0.0.4; charset=utf-8");
    assert_eq!(answer.header("content-type"), media_type);
    samples_of(answer.text())
}

#[test]
fn the_counters_equal_what_the_clients_have_counted() {
    let mut sim = open();
    let readers = [plain(&mut sim, &["news"]), subscribed(&mut sim, "news")];
    let writer = envelope(&mut sim);
    let stream = sim.connect();
    stream.write(get("/events?topic=news"));
    sim.settle();
    stream.read();
    let before = scrape(&mut sim);
    let (mut got, mut acknowledged) = ([0; 3], 0);
    for round in 0..100 {
        for number in 0..100 {
            let text = json!({"publish": "news", "data": round * 100 + number, "ref": number});
            writer.send(text.to_string());
        }
        sim.settle();
        for (reader, got) in readers.iter().zip(&mut got) {
            *got += reader.received().len();
        }
        got[2] += stream.read_text().matches("\ndata: ").count();
        acknowledged += writer.received().len();
    }
    assert_eq!(got, [10_000; 3]);
    let after = scrape(&mut sim);
    let grown = |name: &str| (after[name] - before[name]) as usize;
    assert_eq!(grown("waterwheel_messages_received_total"), 10_000);
    assert_eq!(grown("waterwheel_publications_total"), 10_000);
    assert_eq!(grown("waterwheel_deliveries_total"), 30_000);
    assert_eq!(
        grown("waterwheel_messages_sent_total"),
        30_000 + acknowledged
    );
    assert_eq!(after["waterwheel_topics"], 1.0);
    assert_eq!(after["waterwheel_subscriptions"], 3.0);
    for (kind, count) in [("websocket", 3.0), ("event_stream", 1.0), ("http", 1.0)] {
        let name = format!("waterwheel_connections{{kind=\"{kind}\"}}");
        assert_eq!(after[&name], count, "{kind}");
    }
    for name in ["turn", "callback"] {
        let name = |suffix: &str| format!("waterwheel_{name}_seconds_{suffix}");
        let count = after[&name("count")];
        assert_eq!(after[&name("bucket{le=\"+Inf\"}")], count);
        assert!(before[&name("count")] < count);
    }
}

#[test]
fn the_bytes_equal_what_the_clients_have_written_and_read() {
    let mut sim = open();
    let (mut written, mut read) = (0, 0);
    for number in 0..50 {
        let client = sim.connect();
        let request = post("/publish?topic=news", &"x".repeat(number * 100));
        written += client.write(&request);
        sim.settle();
        read += client.read().len();
    }
    let request = get("/metrics");
    let client = sim.connect();
    written += client.write(&request);
    sim.settle();
    let text = client.read_text();
    let samples = samples_of(text.split_once("\r\n\r\n").unwrap().1);
    assert_eq!(samples["waterwheel_bytes_received_total"], written as f64);
    // The answer itself has not left when it is worded.
    assert_eq!(samples["waterwheel_bytes_sent_total"], read as f64);
    assert_eq!(samples["waterwheel_requests_total"], 51.0);
    assert_eq!(samples["waterwheel_connections_accepted_total"], 51.0);
    // A simulation is the same in each run.
    assert!(!text.contains("process_"));
}

#[test]
fn metrics_need_the_token_where_publishing_does() {
    let mut sim = guarded();
    for (name, line, status) in [
        ("no token", "X-Any: thing", 401),
        ("wrong token", "Authorization: Bearer guess", 401),
        ("right token", "Authorization: Bearer secret", 200),
    ] {
        let answer = ask(&mut sim, &with(&get("/metrics"), line));
        assert_eq!(answer.status, status, "{name}");
    }
    let local = || Access {
        is_loopback: true,
        ..Access::default()
    };
    let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for (name, access, request, status) in [
        ("loopback", local(), request.to_owned(), 200),
        (
            "through a proxy on loopback",
            local(),
            with(request, "X-Forwarded-For: 203.0.113.9"),
            401,
        ),
        (
            "neither loopback nor token",
            Access::default(),
            request.to_owned(),
            401,
        ),
    ] {
        let mut sim = hub(access);
        assert_eq!(ask(&mut sim, &request).status, status, "{name}");
    }
}

#[test]
fn ends_and_refusals_are_counted_by_their_kind() {
    let mut sim = guarded();
    let kept = plain(&mut sim, &["news"]);
    let leaves = plain(&mut sim, &["news"]);
    leaves.close(4711);
    let resets = sim.websocket("/ws");
    resets.stream().reset();
    sim.settle();
    let upgrade = |target: &str, lines: &str| {
        format!(
            "GET {target} HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{lines}\r\n"
        )
    };
    let version = "Sec-WebSocket-Version: 13\r\n";
    for (request, status) in [
        (upgrade("/ws", "Sec-WebSocket-Version: 8\r\n"), 426),
        (upgrade("/nowhere", version), 404),
        (
            upgrade("/ws", &format!("{version}Origin: http://evil.example\r\n")),
            403,
        ),
        // Requests that ask for no WebSocket are not among the refused handshakes.
        (get("/nowhere"), 404),
        (with(&get("/healthz"), "Origin: http://evil.example"), 403),
    ] {
        assert_eq!(ask(&mut sim, &request).status, status, "{request}");
    }
    let scraped = ask(
        &mut sim,
        &with(&get("/metrics"), "Authorization: Bearer secret"),
    );
    let samples = samples_of(scraped.text());
    let of = |name: &str| samples.get(&format!("waterwheel_{name}")).copied();
    for (name, count) in [
        ("closes_total{code=\"4xxx\",cause=\"peer\"}", 1.0),
        ("closes_total{code=\"1006\",cause=\"io\"}", 1.0),
        ("handshakes_refused_total{reason=\"malformed\"}", 1.0),
        ("handshakes_refused_total{reason=\"not_found\"}", 1.0),
        ("handshakes_refused_total{reason=\"origin\"}", 1.0),
        ("handshakes_refused_total{reason=\"forbidden\"}", 0.0),
        ("handshakes_refused_total{reason=\"unauthorized\"}", 0.0),
        ("connections{kind=\"websocket\"}", 1.0),
        ("subscriptions", 1.0),
        ("panics_total", 0.0),
    ] {
        assert_eq!(of(name), Some(count), "{name}: {samples:#?}");
    }
    assert!(!kept.is_closed());
    // Words of clients are in no label.
    assert!(!scraped.text().contains("evil") && !scraped.text().contains("4711"));
}

#[test]
fn drops_are_counted_by_policy() {
    let mut counts = Vec::new();
    for overflow in [
        Overflow::Close,
        Overflow::DropNewest,
        Overflow::DropOldest,
        Overflow::LatestPerKey,
    ] {
        let mut config = Config::default();
        config.options.overflow = overflow;
        config.options.queue_high_bytes = 2000;
        config.options.queue_low_bytes = 1000;
        let access = Access {
            open: true,
            ..Access::default()
        };
        let mut sim: Sim<()> = Sim::with_config(config, (), move |reactor| {
            reactor.http("0.0.0.0:80", |router| mount(router, &access))
        });
        // It reads nothing.
        let _member = plain(&mut sim, &["news"]);
        for _ in 0..100 {
            sim.reactor().publish("news", "x".repeat(10_000));
            sim.settle();
        }
        let dropped = sim.reactor().stats().dropped;
        let samples = scrape(&mut sim);
        let of = |policy: &str| samples[&format!("waterwheel_drops_total{{policy=\"{policy}\"}}")];
        counts.push(
            ["close", "drop_newest", "drop_oldest", "latest_per_key"]
                .map(|policy| 0.0 < of(policy)),
        );
        let all: f64 = ["drop_newest", "drop_oldest", "latest_per_key"]
            .map(of)
            .iter()
            .sum();
        assert_eq!(all, dropped as f64, "{overflow:?}");
    }
    let only = |index: usize| -> [bool; 4] { std::array::from_fn(|at| at == index) };
    assert_eq!(counts, [0, 1, 2, 3].map(only));
}

#[test]
fn each_metric_stands_in_the_documentation() {
    let page = include_str!("../../docs/deploy.md");
    let documented = page.lines().filter_map(|line| {
        let name = line.strip_prefix("| `")?.split(['`', '{']).next()?;
        (name.starts_with("waterwheel_") || name.starts_with("process_")).then_some(name)
    });
    let documented: BTreeSet<_> = documented.collect();
    let mut sim = open();
    let text = ask(&mut sim, &get("/metrics")).text().to_owned();
    let heads = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let answered: BTreeSet<_> = heads.filter_map(|head| head.split(' ').next()).collect();
    assert!(answered.is_subset(&documented), "{answered:?}");
    // Those of the process are not in a simulation, and those of certificates come with TLS (`tests/tls_program.rs`).
    let others = documented.difference(&answered);
    let is_of_hub = |name: &&&str| {
        !name.starts_with("process_") && !name.starts_with("waterwheel_tls_certificate_")
    };
    assert_eq!(others.filter(is_of_hub).collect::<Vec<_>>(), [&""; 0]);
}

#[test]
fn clients_that_come_back_are_counted_with_and_without_a_gap() {
    let mut sim = open();
    for text in ["1", "2", "3"] {
        publish(&mut sim, "news", text);
    }
    for (cursor, is_whole) in [("1:1", true), ("1:3", true), ("9:1", false), ("1:9", false)] {
        let socket = envelope(&mut sim);
        let said = say(
            &mut sim,
            &socket,
            json!({"subscribe": "news", "since": cursor}),
        );
        let is_gap = said.iter().any(|it| it["gap"] == "news");
        assert_eq!(!is_gap, is_whole, "{cursor}: {said:?}");
    }
    // A first subscription is none that comes back.
    let _fresh = subscribed(&mut sim, "news");
    let fresh = sim.connect();
    fresh.write(get("/events?topic=news"));
    let stream = sim.connect();
    stream.write(with(&get("/events?topic=news"), "Last-Event-ID: 1:2"));
    sim.settle();
    assert!(stream.read_text().contains("\ndata: 3"));
    let samples = scrape(&mut sim);
    let of = |outcome: &str| samples[&format!("waterwheel_resumes_total{{outcome=\"{outcome}\"}}")];
    assert_eq!((of("whole"), of("gap")), (3.0, 2.0));
    assert!(0.0 < samples["waterwheel_history_bytes"]);
}
