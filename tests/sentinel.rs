//! A hub whose Redis is the master that sentinels know, over failovers.
#![cfg(feature = "program")]

#[path = "support/hubs.rs"]
mod hubs;
#[path = "support/redis_server.rs"]
mod redis_server;
#[path = "support/sentinels.rs"]
mod sentinels;
mod support;
#[path = "support/watcher.rs"]
mod watcher;

use std::io::{BufRead, BufReader, Write};
use std::process::Command;
use std::time::Instant;

use hubs::{confirm, is_ready, node_at};
use redis_server::until;
use sentinels::{NAME, start_all};
use support::{Http, Server};
use watcher::{Kind, Watcher};

/// Whether so many links were lost. A link may be back before anybody sees that the hub is not ready.
fn has_lost(server: &Server, count: usize) -> bool {
    let (_, body) = Http::new(server.connect()).request("GET", "/metrics", b"");
    let line = format!("waterwheel_redis_lost_total {count}");
    body.lines().any(|it| it == line)
}

fn publish(server: &Server, topic: &str, text: &str) -> u16 {
    hubs::publish(&mut Http::new(server.connect()), topic, text)
}

/// A client of each kind, live.
fn watchers(server: &Server) -> Vec<Watcher> {
    let names = ["a".to_owned()];
    let watchers: Vec<_> = (Kind::ALL.into_iter())
        .map(|kind| Watcher::begin(server, kind, &names, None))
        .collect();
    confirm(server, &watchers);
    watchers
}

/// Checks that each client was told of so many gaps.
fn check_gaps(watchers: &[Watcher], expected: usize) {
    for watcher in watchers {
        let items = watcher.items();
        let count = items.iter().filter(|it| *it == "gap a").count();
        match watcher.kind {
            Kind::Envelope | Kind::EventStream => assert_eq!(count, expected, "{items:?}"),
            // Between two polls a client is no member.
            Kind::LongPoll => assert!(count <= expected, "{items:?}"),
            Kind::Plain => {}
        }
    }
}

/// Publishes until it is answered with 200, and waits until all have got the message.
fn check(server: &Server, watchers: &[Watcher], text: &str) {
    let mut number = 0;
    let mut last = String::new();
    until(|| {
        number += 1;
        last = format!("{text}.{number}");
        publish(server, "a", &last) == 200
    });
    for watcher in watchers {
        watcher.wait_for([last.clone()]);
    }
}

#[test]
fn a_hub_follows_failovers() {
    let Some(mut all) = start_all() else {
        return;
    };
    let server = node_at(&all.url(), &[]);
    let watchers = watchers(&server);
    check(&server, &watchers, "first");
    check_gaps(&watchers, 0);
    // By order: the old master ends the connections of its clients when it is a replica.
    assert_eq!(all.command(1, &["SENTINEL", "FAILOVER", NAME]), "OK");
    let began = Instant::now();
    // Messages that the old master takes meanwhile are lost, and are the same gap.
    until(|| {
        publish(&server, "a", "meanwhile");
        has_lost(&server, 1)
    });
    until(|| is_ready(&server));
    let _ = writeln!(std::io::stderr(), "by order: {:?}", began.elapsed());
    assert_eq!(all.role(1).split(' ').next(), Some("master"));
    check(&server, &watchers, "second");
    check_gaps(&watchers, 1);
    // The old master has its copy of the new one, and may take over.
    until(|| all.role(0).contains(" connected "));
    let knows_replica = |index: usize| {
        let answer = all.command(index, &["SENTINEL", "REPLICAS", NAME]);
        answer.contains(" flags slave ") && answer.contains(" master-link-status ok ")
    };
    until(|| (0..3).all(knows_replica));
    all.servers[1].kill();
    let began = Instant::now();
    until(|| !is_ready(&server));
    until(|| is_ready(&server));
    let _ = writeln!(std::io::stderr(), "by force: {:?}", began.elapsed());
    assert_eq!(all.role(0).split(' ').next(), Some("master"));
    check(&server, &watchers, "third");
    check_gaps(&watchers, 2);
}

#[test]
fn a_master_that_hangs_is_left() {
    let Some(mut all) = start_all() else {
        return;
    };
    // The sentinel that is asked first is not there.
    all.kill(0);
    let server = node_at(&format!("{}?protocol=2", all.url()), &[]);
    let watchers = watchers(&server);
    all.servers[0].signal("STOP");
    let began = Instant::now();
    until(|| has_lost(&server, 1));
    let noticed = began.elapsed();
    until(|| is_ready(&server));
    let ready = began.elapsed();
    let _ = writeln!(
        std::io::stderr(),
        "noticed after {noticed:?}, ready after {ready:?}"
    );
    check(&server, &watchers, "other");
    // It comes back, and becomes a replica.
    all.servers[0].signal("CONT");
    until(|| all.role(0).starts_with("slave "));
    check(&server, &watchers, "again");
    check_gaps(&watchers, 1);
}

#[test]
fn sentinels_that_name_no_master_are_one_clear_line() {
    let Some(all) = start_all() else {
        return;
    };
    for index in 0..3 {
        let words = ["ACL", "SETUSER", "ada", "on", ">pw", "+@all"];
        assert_eq!(all.command(index, &words), "OK");
    }
    let cases = [
        ("-unknown", "this sentinel knows no master of this name"),
        (
            "?sentinel_user=ada&sentinel_password=no",
            "WRONGPASS invalid username-password pair or user is disabled.",
        ),
    ];
    for (end, reason) in cases {
        let mut server = Server::start(&["--redis", &(all.url() + end)]);
        assert!(!is_ready(&server));
        let stderr = server.child.stderr.take().unwrap();
        let line = BufReader::new(stderr)
            .lines()
            .map(Result::unwrap)
            .find(|line| line.contains("cannot connect"))
            .unwrap();
        let expected = ": cannot connect: no sentinel has named the master: 127.0.0.1:";
        assert!(line.contains(expected), "{line}");
        assert_eq!(line.matches(reason).count(), 3, "{line}");
    }
    let url = all.url() + "?sentinel_user=ada&sentinel_password=pw";
    let mut server = node_at(&url, &[]);
    // The questions to sentinels do not keep a hub that is to end.
    let id = server.child.id().to_string();
    let killed = Command::new("kill").args(["-s", "TERM", &id]).status();
    assert!(killed.unwrap().success());
    assert!(server.child.wait().unwrap().success());
}
