//! Replays from the streams of a small Redis Cluster in a simulation. One node of it has all slots.

#![cfg(all(feature = "hub", feature = "redis"))]

#[path = "support/log_lines.rs"]
mod log_lines;
#[path = "support/redis_commands.rs"]
mod redis_commands;

use std::collections::HashMap;
use std::time::Duration;

use waterwheel::hub::{Access, Hub, HubOptions};
use waterwheel::{ConnId, Reactor, Sim, SimStream};

/// An answer that ends the connection.
const CLOSE: &str = "";

/// The bucket of each topic: its hash slot, of sixteen.
const BUCKETS: [(&str, usize); 2] = [("b", 4), ("a", 7)];

/// The epoch of each bucket.
const EPOCH: u64 = 0x77;

#[derive(Default)]
struct World {
    /// The newest number of each bucket that has publications.
    heads: HashMap<usize, u64>,
    /// The stream of each topic: the numbers of its publications.
    streams: HashMap<&'static str, Vec<u64>>,
    /// The answers to the commands that begin so, in place of the node's own.
    answers: Vec<(String, String)>,
    /// The commands that came.
    commands: Vec<String>,
    /// The connections of the hub.
    links: Vec<ConnId>,
}

fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

fn array(items: Vec<String>) -> String {
    format!("*{}\r\n{}", items.len(), items.concat())
}

impl World {
    fn head(&self, key: &str) -> u64 {
        let mut heads = self.heads.iter();
        let head = heads.find(|(bucket, _)| {
            key == format!("{{waterwheel:{bucket}}}:head") || key == "waterwheel:head"
        });
        head.map_or(0, |(_, number)| *number)
    }

    fn last(&self, topic: &str) -> String {
        let last = self.streams.get(topic).and_then(|numbers| numbers.last());
        last.map_or("_\r\n".into(), |number| bulk(&number.to_string()))
    }

    /// The entries of a stream between two of its ids.
    fn entries(&self, key: &str, from: &str, to: &str) -> String {
        let number = |id: &str| -> u64 { id.split_once('-').unwrap().0.parse().unwrap() };
        let topic = key.split_once(":s:").unwrap().1;
        let numbers = self.streams.get(topic).cloned().unwrap_or_default();
        let (mut previous, mut entries) = (0, Vec::new());
        for it in numbers {
            if (number(from)..=number(to)).contains(&it) {
                let message = format!("1 {EPOCH:x} {it} 0 0 0 t - -\n{topic} {it}");
                let fields = ["p", &previous.to_string(), "m", &message].map(bulk);
                let fields = array(fields.to_vec());
                entries.push(array(vec![bulk(&format!("{it}-9999999999")), fields]));
            }
            previous = it;
        }
        array(entries)
    }

    fn answer(&mut self, words: &[String]) -> String {
        let command = words.join(" ");
        self.commands.push(command.clone());
        let mut answers = self.answers.iter();
        if let Some((_, answer)) = answers.find(|(begin, _)| command.starts_with(begin)) {
            return answer.clone();
        }
        match &*words[0] {
            "HELLO" => "%2\r\n$5\r\nproto\r\n:3\r\n$4\r\nrole\r\n$6\r\nmaster\r\n".into(),
            "CLUSTER" => {
                "*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:7000\r\n".to_owned()
            }
            "PING" => "+PONG\r\n".into(),
            "ECHO" => bulk(&words[1]),
            "SCRIPT" => bulk("digest"),
            "EVAL" => {
                let number = self.head(&words[3]).to_string();
                array([&*format!("{EPOCH:x}"), &number, "0"].map(bulk).to_vec())
            }
            "HMGET" => {
                let number = self.head(&words[1]).to_string();
                array([&*format!("{EPOCH:x}"), &number].map(bulk).to_vec())
            }
            "ZMSCORE" if words[1].ends_with(":topics") => {
                array(words[2..].iter().map(|topic| self.last(topic)).collect())
            }
            "ZMSCORE" => array(vec!["_\r\n".into(); words.len() - 2]),
            "ZRANGEBYSCORE" => {
                let after: u64 = words[2][1..].parse().unwrap();
                let is_of_bucket = |(_, bucket): &(&str, usize)| {
                    words[1] == format!("{{waterwheel:{bucket}}}:topics")
                };
                let topics = BUCKETS.into_iter().filter(is_of_bucket);
                let lasts = topics.filter_map(|(topic, _)| {
                    let last = *self.streams.get(topic)?.last()?;
                    (after < last).then(|| [bulk(topic), bulk(&last.to_string())])
                });
                array(lasts.flatten().collect())
            }
            "XRANGE" => self.entries(&words[1], &words[2], &words[3]),
            kind if kind.ends_with("SUBSCRIBE") => {
                let kind = bulk(&kind.to_lowercase());
                let acknowledge = |name: &String| format!(">3\r\n{kind}{}:1\r\n", bulk(name));
                words[1..].iter().map(acknowledge).collect()
            }
            _ => "_\r\n".into(),
        }
    }
}

fn listen(reactor: &mut Reactor<World>) -> std::io::Result<()> {
    let made = reactor.stream("127.0.0.1:7000", |stream| {
        stream.on_open(|stream| stream.state.links.push(stream.id));
        stream.on_data(|stream, bytes| {
            for words in redis_commands::commands(bytes) {
                let answer = stream.state.answer(&words);
                match &*answer {
                    CLOSE => return stream.reactor.reset(stream.id),
                    answer => _ = stream.reactor.send(stream.id, answer.as_bytes()),
                }
            }
        });
    });
    made.map(drop)
}

/// A hub that is ready, of a cluster in which the topics `a` and `b` have two publications each.
fn run() -> Sim<World> {
    run_with("redis+cluster://127.0.0.1:7000")
}

/// The same for the node at a URL. Without a cluster it has one bucket.
fn run_with(url: &'static str) -> Sim<World> {
    let mut world = World::default();
    for (topic, bucket) in BUCKETS {
        world.streams.insert(topic, vec![1, 2]);
        // Another topic of the bucket has the newest number.
        world.heads.insert(bucket, 3);
    }
    let mut sim = Sim::new(world, |reactor: &mut Reactor<World>| {
        listen(reactor)?;
        let hub = Hub::of_redis(reactor, url, None, HubOptions::default())?;
        let access = Access {
            open: true,
            ..Access::default()
        };
        reactor.http("127.0.0.1:8080", |router| hub.mount(router, &access))
    });
    sim.advance(Duration::from_secs(1));
    assert!(ask(&mut sim, "/readyz").contains("\r\n\r\nready\n"));
    sim
}

fn ask(sim: &mut Sim<World>, target: &str) -> String {
    let stream = begin(sim, target);
    sim.settle();
    stream.read_text()
}

fn begin(sim: &mut Sim<World>, target: &str) -> SimStream {
    let stream = sim.connect_port(8080);
    stream.write(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    stream
}

/// The messages and gaps that an event stream has brought, each with its id.
fn events(stream: &SimStream) -> Vec<(String, String)> {
    let (mut id, mut name, mut events) = (String::new(), String::new(), Vec::new());
    for line in stream.read_text().lines() {
        if let Some(text) = line.strip_prefix("id: ") {
            id = text.to_owned();
        } else if let Some(text) = line.strip_prefix("event: ") {
            name = format!("{text} ");
        } else if let Some(text) = line.strip_prefix("data: ") {
            events.push((format!("{}{text}", std::mem::take(&mut name)), id.clone()));
        }
    }
    events
}

/// Has Redis answer commands that begin so with something else.
fn set_answer(sim: &mut Sim<World>, begin: &str, answer: &str) {
    let answer = (begin.to_owned(), answer.to_owned());
    sim.state().answers.push(answer);
}

fn count(sim: &mut Sim<World>, begin: &str) -> usize {
    let commands = sim.state().commands.iter();
    commands.filter(|it| it.starts_with(begin)).count()
}

fn texts(events: &[(String, String)]) -> Vec<&str> {
    events.iter().map(|(text, _)| &**text).collect()
}

/// A cursor in the epoch of the hub, with these numbers of the buckets of `b` and `a`.
fn cursor(sim: &mut Sim<World>, of_b: u64, of_a: u64) -> String {
    let answer = ask(sim, "/poll?topic=c&wait=0");
    let cursor = answer.split_once("\"cursor\":\"").unwrap().1;
    let epoch = cursor.split_once(':').unwrap().0;
    let number = |bucket| match bucket {
        4 => of_b,
        7 => of_a,
        _ => 0,
    };
    let numbers: Vec<String> = (0..16).map(|bucket| number(bucket).to_string()).collect();
    format!("{epoch}:{}", numbers.join("."))
}

const ALL: [&str; 4] = ["b 1", "b 2", "a 1", "a 2"];

#[test]
fn a_client_goes_on_behind_each_message_of_each_bucket() {
    let mut sim = run();
    let begin_cursor = cursor(&mut sim, 0, 0);
    let target = |since: &str| format!("/events?topic=a&topic=b&since={since}");
    let first = begin(&mut sim, &target(&begin_cursor));
    sim.settle();
    let first = events(&first);
    assert_eq!(texts(&first), ALL);
    for (index, (text, id)) in first.iter().enumerate() {
        let next = begin(&mut sim, &target(id));
        sim.settle();
        assert_eq!(
            texts(&events(&next)),
            ALL[index + 1..],
            "behind {text}: {id}"
        );
    }
}

// The cursor between two buckets was not held by any test.
#[test]
fn a_replay_that_breaks_off_between_two_buckets_goes_on_there() {
    let mut sim = run();
    let since = cursor(&mut sim, 0, 0);
    set_answer(&mut sim, "XRANGE {waterwheel:7}:", CLOSE);
    let stream = begin(&mut sim, &format!("/events?topic=a&topic=b&since={since}"));
    sim.settle();
    assert_eq!(texts(&events(&stream)), ALL[..2]);
    sim.state().answers.clear();
    sim.state().commands.clear();
    sim.advance(Duration::from_secs(5));
    assert_eq!(texts(&events(&stream)), ALL[2..]);
    // The first bucket is not even read again: nothing is behind its end.
    let commands = sim.state().commands.iter();
    let reads: Vec<&String> = commands.filter(|it| it.starts_with("XRANGE")).collect();
    assert_eq!(reads.len(), 1, "{reads:?}");
}

#[test]
fn a_gap_before_the_first_bucket_is_told_once() {
    let mut sim = run();
    sim.state().streams.remove("b");
    set_answer(&mut sim, "XRANGE {waterwheel:7}:", CLOSE);
    let stream = begin(&mut sim, "/events?topic=a&topic=b&since=dead:1");
    sim.settle();
    assert_eq!(texts(&events(&stream)), ["gap a", "gap b"]);
    sim.state().answers.clear();
    sim.advance(Duration::from_secs(5));
    assert_eq!(texts(&events(&stream)), ["a 1", "a 2"]);
}

// A client that breaks off before the gap would never be told of it, because it has a known cursor then.
#[test]
fn a_gap_for_an_unknown_cursor_is_told_before_all_messages() {
    let mut sim = run();
    let stream = begin(&mut sim, "/events?topic=a&topic=b&since=dead:1");
    sim.settle();
    let expected = [&["gap a", "gap b"], &ALL[..]].concat();
    assert_eq!(texts(&events(&stream)), expected);
}

// Any cursor that was not known cost two commands for each bucket.
#[test]
fn heads_are_asked_for_only_where_a_cursor_may_be_ahead() {
    let mut sim = run();
    let epoch = cursor(&mut sim, 0, 0);
    let epoch = epoch.split_once(':').unwrap().0.to_owned();
    let sixteen = |number: &str| vec![number; 16].join(".");
    let ahead = cursor(&mut sim, 4, 4);
    let cases = [
        (format!("{epoch}:9"), 0),
        (format!("dead:{}", sixteen("9")), 0),
        ("dead:9".into(), 0),
        (cursor(&mut sim, 0, 0), 0),
        (cursor(&mut sim, 3, 3), 0),
        (ahead, 16),
    ];
    for (since, expected) in cases {
        sim.state().commands.clear();
        ask(&mut sim, &format!("/poll?topic=a&since={since}"));
        assert_eq!(count(&mut sim, "HMGET"), expected, "{since}");
    }
}

const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n";

const NO_PERMISSION: &str = "-NOPERM No permissions to access a key\r\n";

// A Redis that refused for ever was asked twice a second for each client.
#[test]
fn a_read_that_is_refused_is_tried_again_less_and_less_often() {
    for refusal in [WRONG_TYPE, NO_PERMISSION, "-BUSY x\r\n"] {
        let mut sim = run();
        let since = cursor(&mut sim, 0, 0);
        set_answer(&mut sim, "ZMSCORE {waterwheel:4}:topics", refusal);
        let stream = begin(&mut sim, &format!("/events?topic=a&topic=b&since={since}"));
        // The pauses are 0.5, 1, 2, 4, 8, 16 and 16 seconds.
        sim.advance(Duration::from_secs(48));
        assert_eq!(count(&mut sim, "ZMSCORE {waterwheel:4}:topics"), 8);
        sim.state().answers.clear();
        set_answer(&mut sim, "ZMSCORE {waterwheel:7}:topics", refusal);
        sim.advance(Duration::from_secs(16));
        assert_eq!(texts(&events(&stream)), ALL[..2]);
        // The pause is short again, because the client has got something.
        sim.state().answers.clear();
        sim.advance(Duration::from_secs(1));
        assert_eq!(texts(&events(&stream)), ALL[2..]);
    }
}

// The client was told of a gap, and got all that is kept again.
#[test]
fn a_client_waits_while_a_newest_number_cannot_be_read() {
    log_lines::capture();
    for refusal in ["NOPERM while a cursor is ahead", "BUSY while it is ahead"] {
        let mut sim = run();
        // Another node has heard a publication that this one has not.
        sim.state().heads.insert(7, 4);
        sim.state().streams.insert("a", vec![1, 2, 4]);
        let since = cursor(&mut sim, 3, 4);
        set_answer(
            &mut sim,
            "HMGET {waterwheel:7}:",
            &format!("-{refusal}\r\n"),
        );
        let stream = begin(&mut sim, &format!("/events?topic=a&since={since}"));
        // The pauses are 0.5, 1, 2 and 4 seconds.
        sim.advance(Duration::from_secs(7));
        assert_eq!(texts(&events(&stream)), Vec::<&str>::new());
        assert_eq!(count(&mut sim, "HMGET {waterwheel:7}:"), 4);
        let lines = log_lines::with(&format!(
            "HMGET {{waterwheel:7}}:head is refused: {refusal}; "
        ));
        assert_eq!(lines.len(), 1, "{lines:?}");
        sim.state().answers.clear();
        sim.state().heads.insert(7, 5);
        sim.state().streams.insert("a", vec![1, 2, 4, 5]);
        sim.advance(Duration::from_secs(8));
        assert_eq!(texts(&events(&stream)), ["a 5"]);
    }
}

const BEGIN: &str = include_str!("../src/hub/engine/redis/begin.lua");

// The pauses grew as with a refusal, so that the client waited up to 16 seconds more.
#[test]
fn a_client_reads_soon_after_the_last_bucket_has_caught_up() {
    let mut sim = run();
    let since = cursor(&mut sim, 0, 0);
    for link in std::mem::take(&mut sim.state().links) {
        sim.reactor().reset(link);
    }
    // A bucket without topics of the client has no master for a while.
    let catch_up = format!("EVAL {BEGIN} 2 {{waterwheel:9}}:head");
    set_answer(&mut sim, &catch_up, "-CLUSTERDOWN Hash slot not served\r\n");
    let stream = begin(&mut sim, &format!("/events?topic=a&since={since}"));
    sim.advance(Duration::from_secs(20));
    assert!(count(&mut sim, &catch_up) > 10);
    assert_eq!(texts(&events(&stream)), Vec::<&str>::new());
    sim.state().answers.clear();
    // The node catches up within a second, and the client reads half a second later.
    sim.advance(Duration::from_secs(2));
    assert_eq!(texts(&events(&stream)), ["a 1", "a 2"]);
}

// A client of such a topic was never subscribed.
#[test]
fn a_topic_that_cannot_be_read_is_a_gap_of_a_replay() {
    log_lines::capture();
    let cases = [(WRONG_TYPE, "topic=a&topic=b"), (NO_PERMISSION, "topic=*")];
    for (refusal, names) in cases {
        let mut sim = run();
        let since = cursor(&mut sim, 0, 0);
        set_answer(&mut sim, "XRANGE {waterwheel:7}:", refusal);
        for since in [&*since, "earliest"] {
            let stream = begin(&mut sim, &format!("/events?{names}&since={since}"));
            sim.settle();
            let events = events(&stream);
            assert_eq!(texts(&events), ["b 1", "b 2", "gap a"], "{since}");
            // The client is live, and goes on behind the gap.
            let next = begin(&mut sim, &format!("/events?{names}&since={}", events[2].1));
            sim.settle();
            assert_eq!(texts(&self::events(&next)), Vec::<&str>::new());
        }
        let text = refusal.trim_start_matches('-').trim_end();
        let lines = log_lines::with(&format!("XRANGE {{waterwheel:7}}:s:a is refused: {text}"));
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains("topic \"a\""), "{lines:?}");
    }
}

// It is not known then which topics have messages of other programs.
#[test]
fn a_list_of_topics_that_cannot_be_read_is_a_gap_of_each_name() {
    let mut sim = run();
    let since = cursor(&mut sim, 0, 0);
    set_answer(&mut sim, "ZMSCORE {waterwheel:0}:raw", WRONG_TYPE);
    let stream = begin(&mut sim, &format!("/events?topic=a&topic=b&since={since}"));
    sim.settle();
    let mut events = events(&stream);
    events.retain(|(text, _)| !ALL.contains(&&**text));
    assert_eq!(texts(&events), ["gap a", "gap b"]);
}

// The hub was never ready again.
#[test]
fn a_topic_that_cannot_be_read_is_a_gap_when_a_hub_catches_up() {
    log_lines::capture();
    for refusal in ["WRONGTYPE while catching up", "NOPERM while catching up"] {
        let mut sim = run();
        let streams = ["topic=a", "topic=b", "topic=*", "topic=a*"]
            .map(|names| begin(&mut sim, &format!("/events?{names}")));
        sim.settle();
        for link in std::mem::take(&mut sim.state().links) {
            sim.reactor().reset(link);
        }
        for (topic, bucket) in BUCKETS {
            sim.state().streams.insert(topic, vec![1, 2, 4]);
            sim.state().heads.insert(bucket, 4);
        }
        let answer = format!("-{refusal}\r\n");
        set_answer(&mut sim, "XRANGE {waterwheel:7}:", &answer);
        sim.advance(Duration::from_secs(2));
        assert!(ask(&mut sim, "/readyz").contains("\r\n\r\nready\n"));
        let lines = log_lines::with(&format!("s:a is refused: {refusal}; "));
        assert_eq!(lines.len(), 1, "{lines:?}");
        // Each is told of a gap because of messages of other programs, and those of the topic once more.
        let expected: [&[&str]; 4] = [
            &["gap a", "gap a"],
            &["gap b", "b 4"],
            &["b 4", "gap *", "gap *"],
            &["gap a*", "gap a*"],
        ];
        for (stream, expected) in streams.iter().zip(expected) {
            let events = events(stream);
            let mut seen = texts(&events);
            if 2 < expected.len() {
                seen.sort_unstable();
            }
            assert_eq!(seen, expected);
        }
    }
}

// A client of a pattern got as many as there were topics, and could not take them all.
#[test]
fn topics_that_cannot_be_read_are_one_gap_of_a_pattern() {
    const TOPICS: [&str; 4] = ["a", "a1", "a2", "c"];
    let mut sim = run();
    let streams = ["topic=*", "topic=a*", "topic=?1", "topic=a", "topic=b*"]
        .map(|names| begin(&mut sim, &format!("/events?{names}")));
    sim.settle();
    for link in std::mem::take(&mut sim.state().links) {
        sim.reactor().reset(link);
    }
    sim.state().heads.insert(7, 4);
    sim.state().streams.insert("a", vec![1, 2, 4]);
    // The node says that all of them are in this bucket.
    let changed = TOPICS.iter().flat_map(|topic| [bulk(topic), bulk("4")]);
    let changed = array(changed.collect());
    set_answer(&mut sim, "ZRANGEBYSCORE {waterwheel:7}:topics", &changed);
    // The lines of the log are those of all tests: another one counts those with the usual words.
    set_answer(&mut sim, "XRANGE", "-NOPERM to each of many topics\r\n");
    sim.advance(Duration::from_secs(2));
    assert_eq!(count(&mut sim, "XRANGE"), TOPICS.len());
    // One gap is that of messages of other programs.
    let expected: [&[&str]; 5] = [
        &["gap *", "gap *"],
        &["gap a*", "gap a*"],
        &["gap ?1", "gap ?1"],
        &["gap a", "gap a"],
        &["gap b*"],
    ];
    for (stream, expected) in streams.iter().zip(expected) {
        assert_eq!(texts(&events(stream)), expected);
    }
}

// One server: the gap of messages of other programs is told first. A client that came back from there got neither the
// message nor a gap.
#[test]
fn a_client_that_has_one_of_two_gaps_gets_what_was_refused() {
    let mut sim = run_with("redis://127.0.0.1:7000");
    let streams = ["topic=a", "topic=*"].map(|names| begin(&mut sim, &format!("/events?{names}")));
    sim.settle();
    for link in std::mem::take(&mut sim.state().links) {
        sim.reactor().reset(link);
    }
    sim.state().heads.values_mut().for_each(|head| *head = 4);
    sim.state().streams.insert("a", vec![1, 2, 4]);
    let changed = array(["a", "4"].map(bulk).to_vec());
    set_answer(&mut sim, "ZRANGEBYSCORE", &changed);
    set_answer(&mut sim, "XRANGE", NO_PERMISSION);
    sim.advance(Duration::from_secs(2));
    sim.state().answers.remove(1);
    for (stream, name) in streams.iter().zip(["a", "*"]) {
        let gap = format!("gap {name}");
        let told = events(stream);
        assert_eq!(texts(&told), [&*gap, &gap]);
        for ((_, id), expected) in told.iter().zip([&["a 4"][..], &[]]) {
            let next = begin(&mut sim, &format!("/events?topic={name}&since={id}"));
            sim.settle();
            assert_eq!(texts(&events(&next)), expected, "{name} since {id}");
        }
    }
}

#[test]
fn a_gap_with_two_reasons_is_told_once() {
    let mut sim = run();
    set_answer(&mut sim, "XRANGE {waterwheel:4}:", WRONG_TYPE);
    // The cursor is of another epoch.
    let stream = begin(&mut sim, "/events?topic=b&since=dead:1");
    sim.settle();
    assert_eq!(texts(&events(&stream)), ["gap b"]);
}
