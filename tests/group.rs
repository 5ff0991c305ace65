//! Several reactors as one hub, each in a simulation of its own, all on one thread: the test
//! decides which reactor runs when.

#![cfg(feature = "hub")]

#[path = "support/answer.rs"]
mod support;

#[allow(dead_code, reason = "a whole program, whose `main` is not called here")]
#[path = "../examples/many_cores.rs"]
mod many_cores;

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use serde_json::{Value, json};
use support::{Answer, answer, answers, get, post};
use waterwheel::hub::{Access, GroupSeat, Overloaded, ReactorGroup, SUBPROTOCOL};
use waterwheel::{Config, EventId, Published, Sim, SimSocket, SimStream};

/// The outcomes that `done` was called with.
type Log = Vec<Published>;

struct TestGroup {
    sims: Vec<Sim<Log>>,
    seats: Vec<GroupSeat<Log>>,
    group: ReactorGroup<Log>,
}

fn group_of(count: usize) -> TestGroup {
    group_from(ReactorGroup::new(count), count, &Config::default())
}

/// A group whose reactors each may have this many bytes on the way to the others.
fn group_with_pending_bytes_max(count: usize, pending_bytes_max: usize) -> TestGroup {
    let group = ReactorGroup::with_pending_bytes_max(count, pending_bytes_max).unwrap();
    group_from(group, count, &Config::default())
}

fn group_from(group: ReactorGroup<Log>, count: usize, config: &Config) -> TestGroup {
    let mut seats = Vec::new();
    let access = Access {
        open: true,
        ..Access::default()
    };
    let sims = (0..count).map(|_| {
        Sim::with_config(config.clone(), Log::new(), |reactor| {
            let seat = group.join(reactor)?;
            let listener = reactor.http("0.0.0.0:80", |router| seat.mount(router, &access));
            seats.push(seat);
            listener
        })
    });
    TestGroup {
        sims: sims.collect(),
        seats,
        group,
    }
}

impl TestGroup {
    /// Runs all reactors until none of them has anything left to do.
    fn settle(&mut self) {
        // A publication goes to the others, and its outcome back to the publisher, which may then go
        // on.
        for _ in 0..500 {
            self.sims.iter_mut().for_each(Sim::settle);
        }
    }

    /// Lets time pass on all reactors, in steps in which they run in turn.
    fn advance(&mut self, time: Duration) {
        for _ in 0..10 {
            self.sims.iter_mut().for_each(|sim| sim.advance(time / 10));
            self.settle();
        }
    }

    fn plain(&mut self, at: usize, topic: &str) -> SimSocket {
        let socket = self.sims[at].websocket("/ws");
        socket.send(topic);
        self.sims[at].settle();
        socket
    }

    fn envelope(&mut self, at: usize, topic: &str) -> SimSocket {
        let headers = [("Sec-WebSocket-Protocol", SUBPROTOCOL)];
        let socket = self.sims[at].try_websocket("/ws", &headers).unwrap();
        socket.send(json!({ "subscribe": topic }).to_string());
        self.sims[at].settle();
        let answer: Value = serde_json::from_str(&socket.received()[0]).unwrap();
        assert_eq!(answer["subscribed"], topic);
        socket
    }

    /// Sends a request and runs only the reactor that gets it.
    fn ask(&mut self, at: usize, request: &str) -> SimStream {
        let stream = self.sims[at].connect();
        assert_eq!(stream.write(request), request.len());
        self.sims[at].settle();
        stream
    }

    fn post(&mut self, at: usize, topic: &str, body: &str) -> Answer {
        let stream = self.ask(at, &post(&format!("/publish?topic={topic}"), body));
        self.settle();
        answer(&stream.read())
    }

    fn publish(&mut self, at: usize, topic: &str, text: &str) -> Result<(), Overloaded> {
        let done = |cx: &mut waterwheel::Cx<'_, Log>, outcome| cx.state.push(outcome);
        self.seats[at].publish(self.sims[at].reactor(), topic, text, done)
    }
}

fn published(answer: &Answer) -> (EventId, u64) {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let value: Value = serde_json::from_str(answer.text()).unwrap();
    let id = value["id"].as_str().unwrap().parse().unwrap();
    (id, value["delivered"].as_u64().unwrap())
}

fn topics() -> Vec<String> {
    (0..40).map(|number| format!("topic.{number}")).collect()
}

#[test]
fn a_publication_on_one_reactor_reaches_the_members_of_all_and_counts_them() {
    for topic in topics() {
        let mut group = group_of(3);
        let plain = [0, 1, 2].map(|at| group.plain(at, &topic));
        let json = group.envelope(1, &topic);
        let stream = group.ask(2, &get(&format!("/events?topic={topic}")));
        let pattern = group.plain(0, "topic.*");
        let elsewhere = group.plain(1, "elsewhere");
        for at in 0..3 {
            let number = at as u64 + 1;
            let (id, delivered) = published(&group.post(at, &topic, "hello"));
            assert_eq!((id.number, delivered), (number, 6));
            for socket in plain.iter().chain([&pattern]) {
                assert_eq!(socket.received(), ["hello"]);
            }
            let expected = json!({"topic": topic, "id": id.to_string(), "data": "hello"});
            let received: Value = serde_json::from_str(&json.received()[0]).unwrap();
            assert_eq!(received, expected);
            let events = stream.read_text();
            assert!(
                events.contains(&format!("id: {id}\ndata: hello\n\n")),
                "{events}"
            );
        }
        assert_eq!(elsewhere.take_events(), []);
    }
}

#[test]
fn a_group_of_one_reactor_publishes_like_a_single_hub() {
    let mut group = group_of(1);
    let member = group.plain(0, "news");
    let (id, delivered) = published(&group.post(0, "news", "hello"));
    assert_eq!((id.number, delivered), (1, 1));
    assert_eq!(member.received(), ["hello"]);
}

#[test]
fn members_on_all_reactors_get_the_messages_of_a_topic_in_one_order_of_ascending_ids() {
    const TOPICS: [&str; 5] = ["a", "b", "c", "d", "e"];
    for seed in 1..=40_u64 {
        // One call from another reactor a turn gives the most interleavings.
        let config = Config {
            ticks_per_turn: 1,
            ..Config::default()
        };
        let mut group = group_from(ReactorGroup::new(3), 3, &config);
        let members: Vec<_> = (0..3)
            .flat_map(|at| TOPICS.map(|topic| (at, topic)))
            .map(|(at, topic)| (topic, group.envelope(at, topic)))
            .collect();
        let mut dice = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut roll = |sides: usize| {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            (dice >> 11) as usize % sides
        };
        let mut count = BTreeMap::new();
        for round in 0..300 {
            let at = roll(3);
            if roll(2) == 0 {
                group.sims[at].turn();
            } else {
                let topic = TOPICS[roll(TOPICS.len())];
                let text = format!("{at}:{round}");
                group.publish(at, topic, &text).unwrap();
                *count.entry(topic).or_insert(0) += 1;
            }
        }
        group.settle();
        let mut by_topic: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
        let mut ids = HashSet::new();
        for (topic, member) in &members {
            let received = member.received();
            let received: Vec<Value> = received
                .iter()
                .map(|text| serde_json::from_str(text).unwrap())
                .collect();
            let first = by_topic.entry(topic).or_insert_with(|| received.clone());
            assert_eq!(*first, received, "seed {seed}, topic {topic}");
        }
        for (topic, received) in by_topic {
            assert_eq!(received.len(), count.get(topic).copied().unwrap_or(0));
            let numbers: Vec<u64> = received
                .iter()
                .map(|value| value["id"].as_str().unwrap().parse::<EventId>().unwrap())
                .map(|id| id.number)
                .collect();
            assert!(numbers.is_sorted(), "seed {seed}: {numbers:?}");
            ids.extend(numbers);
            // The messages of each publisher keep their order.
            for at in 0..3 {
                let own = received.iter().filter_map(|value| {
                    let (from, round) = value["data"].as_str()?.split_once(':')?;
                    (from == at.to_string()).then(|| round.parse::<u32>().unwrap())
                });
                assert!(own.is_sorted(), "seed {seed}");
            }
        }
        let total: usize = count.values().sum();
        assert_eq!(ids.len(), total, "no id twice");
        let outcomes: Log = group
            .sims
            .iter_mut()
            .flat_map(|sim| sim.state().drain(..))
            .collect();
        assert_eq!(outcomes.len(), total);
        assert!(outcomes.iter().all(|outcome| outcome.delivered == 3));
    }
}

#[test]
fn publishing_is_refused_while_a_reactor_is_overloaded_and_reaches_no_member() {
    let mut group = group_with_pending_bytes_max(2, 3000);
    let members = [0, 1].map(|at| group.plain(at, "news"));
    // The other reactor does not run.
    let mut waiting = Vec::new();
    let refused = loop {
        let number = waiting.len();
        assert!(number < 20, "it was never refused");
        let stream = group.ask(0, &post("/publish?topic=news", &number.to_string()));
        let bytes = stream.read();
        if !bytes.is_empty() {
            break answer(&bytes);
        }
        waiting.push(stream);
    };
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(group.publish(0, "news", "no"), Err(Overloaded));
    // A publication counts 256 bytes, its topic and its text.
    assert_eq!(waiting.len(), 3000_usize.div_ceil(256 + 4 + 1));
    // The limit is one of each publishing reactor, so the other one still publishes.
    assert_eq!(group.publish(1, "elsewhere", "yes"), Ok(()));
    group.settle();
    for stream in &waiting {
        assert_eq!(published(&answer(&stream.read())).1, 2);
    }
    let expected: Vec<_> = (0..waiting.len())
        .map(|number| number.to_string())
        .collect();
    for member in &members {
        assert_eq!(member.received(), expected);
    }
    assert_eq!(published(&group.post(0, "news", "again")).1, 2);
}

#[test]
fn a_request_for_several_topics_is_answered_when_all_reactors_have_all_of_them() {
    let mut group = group_of(3);
    let topics = topics();
    let members = [0, 1, 2].map(|at| group.plain(at, "topic.*"));
    let query = topics.iter().map(|topic| format!("&topic={topic}"));
    let target = format!("/publish?{}", query.collect::<String>());
    let waiting = group.ask(1, &post(&target, "hello"));
    group.settle();
    let answered = answer(&waiting.read());
    assert_eq!(answered.status, 200, "{}", answered.text());
    let published: Vec<Value> = serde_json::from_str(answered.text()).unwrap();
    assert_eq!(published.len(), topics.len());
    assert!(published.iter().all(|it| it["delivered"] == 3));
    let ids: HashSet<_> = published.iter().map(|it| it["id"].to_string()).collect();
    assert_eq!(ids.len(), topics.len());
    for member in &members {
        assert_eq!(member.received(), vec!["hello"; topics.len()]);
    }
}

#[test]
fn a_request_for_several_topics_is_refused_as_a_whole_by_an_overloaded_reactor() {
    let mut group = group_with_pending_bytes_max(2, 1000);
    let members = [0, 1].map(|at| group.plain(at, "topic.*"));
    let target = "/publish?topic=topic.1&topic=topic.2&topic=topic.3&topic=topic.4";
    let first = group.ask(0, &post(target, "one"));
    let refused = answer(&group.ask(0, &post(target, "two")).read());
    assert_eq!(refused.status, 503, "{}", refused.text());
    group.settle();
    assert_eq!(answer(&first.read()).status, 200);
    for member in &members {
        assert_eq!(member.received(), ["one"; 4]);
    }
}

// A reactor without connections ended with the begin of the drain, and publications to its topics failed
// although their members were still there.
#[test]
fn a_draining_group_publishes_to_every_topic_until_the_last_member_is_gone() {
    let mut group = group_of(3);
    // The first connection gets its goodbye at once.
    let first = group.plain(1, "topic.*");
    let member = group.plain(1, "topic.*");
    for sim in &mut group.sims {
        sim.reactor().drain(Duration::from_secs(10));
    }
    group.advance(Duration::from_secs(1));
    for topic in topics() {
        let published = group.post(1, &topic, "late");
        assert_eq!(published.status, 200, "{topic}: {}", published.text());
    }
    assert_eq!(member.received().len(), topics().len());
    for socket in [first, member] {
        socket.vanish();
    }
    group.advance(Duration::from_millis(100));
    assert!(group.sims.iter_mut().all(|sim| !sim.is_running()));
}

#[test]
fn a_client_of_the_envelope_that_publishes_fast_is_slowed_and_loses_nothing() {
    let mut group = group_with_pending_bytes_max(2, 2000);
    let publisher = group.envelope(0, "answers");
    let members = [0, 1].map(|at| group.plain(at, "news"));
    for number in 0..500 {
        publisher.send(json!({"publish": "news", "data": number}).to_string());
    }
    group.sims[0].settle();
    group.settle();
    let expected: Vec<_> = (0..500).map(|number| number.to_string()).collect();
    for member in &members {
        assert_eq!(member.received(), expected);
    }
    assert_eq!(publisher.take_events(), [], "no errors");
}

#[test]
fn publishing_goes_on_when_a_reactor_has_ended() {
    let mut group = group_of(2);
    let topics = topics();
    let members: Vec<_> = topics.iter().map(|topic| group.plain(0, topic)).collect();
    let json = group.envelope(0, "answers");
    let _there: Vec<_> = topics.iter().map(|topic| group.plain(1, topic)).collect();
    // This publication is on its way when the other reactor ends.
    let under_way = group.ask(0, &post("/publish?topic=topic.0", "last words"));
    group.sims.pop();
    group.settle();
    assert_eq!(published(&answer(&under_way.read())).1, 1);
    assert_eq!(members[0].received(), ["last words"]);
    for (topic, member) in topics.iter().zip(&members) {
        assert_eq!(published(&group.post(0, topic, "hello")).1, 1);
        json.send(json!({"publish": topic, "data": 1}).to_string());
        group.settle();
        assert_eq!(member.received(), ["hello", "1"]);
        assert_eq!(json.take_events(), []);
    }
}

// Each topic was numbered at a home of its own, so a member of two topics saw ids that went back. The last id
// that it had seen said nothing about what it had missed.
#[test]
fn a_member_of_many_topics_sees_ids_that_ascend() {
    let mut group = group_of(2);
    let stream = group.ask(1, &get("/events?topic=*"));
    stream.read_text();
    // The first reactor publishes, and the second delivers its own publications meanwhile.
    for at in [0, 1] {
        for topic in topics() {
            group.publish(at, &topic, "x").unwrap();
        }
    }
    group.settle();
    let text = stream.read_text();
    let ids = text.lines().filter_map(|line| line.strip_prefix("id: "));
    let ids: Vec<EventId> = ids.map(|id| id.parse().unwrap()).collect();
    assert_eq!(ids.len(), 80);
    assert!(ids.is_sorted_by(|one, next| one < next), "{ids:?}");
}

// The mailbox of a reactor that does not run is full after some time. The others go on, and it reads what it
// has missed from the history.
#[test]
fn a_reactor_that_was_stuck_is_behind_alone_and_catches_up() {
    let mut group = group_with_pending_bytes_max(2, 2000);
    let members = [0, 1].map(|at| group.plain(at, "news"));
    for number in 0..90 {
        // The plain call has no limit, and no outcome to wait for.
        let published = group.sims[0].reactor().publish("news", number.to_string());
        assert_eq!(published.delivered, 1);
        group.sims[0].settle();
    }
    let expected: Vec<_> = (0..90).map(|number| number.to_string()).collect();
    assert_eq!(members[0].received(), expected);
    assert_eq!(members[1].received(), [] as [&str; 0]);
    group.settle();
    assert_eq!(members[1].received(), expected);
    // The history keeps a hundred.
    let json = group.envelope(1, "news");
    for number in 0..300 {
        group.sims[0].reactor().publish("news", number.to_string());
        group.sims[0].settle();
    }
    group.settle();
    let received: Vec<Value> = json
        .received()
        .iter()
        .map(|text| serde_json::from_str(text).unwrap())
        .collect();
    let gap = received.iter().position(|it| it["gap"] == "news").unwrap();
    let cursor = received[gap]["cursor"].as_str().unwrap();
    let number = |it: &Value| it["id"].as_str()?.parse::<EventId>().ok()?.number.into();
    let numbers: Vec<u64> = received.iter().filter_map(number).collect();
    assert!(numbers.is_sorted() && numbers.last() == Some(&390));
    // Exactly what is missing is behind the gap.
    let cursor = cursor.parse::<EventId>().unwrap().number;
    assert_eq!(numbers[gap], cursor + 1);
    assert_eq!(numbers[gap..].len() as u64, 390 - cursor);
    assert_eq!(
        numbers[..gap].to_vec(),
        (91..91 + gap as u64).collect::<Vec<_>>()
    );
}

// A publisher waited for a reactor that was stuck, and with it all its clients.
#[test]
fn a_publisher_waits_two_seconds_for_a_reactor_that_is_stuck() {
    let mut group = group_of(2);
    let member = group.plain(0, "news");
    let _stuck = group.plain(1, "news");
    let first = group.ask(0, &post("/publish?topic=news", "one"));
    group.sims[0].advance(Duration::from_millis(1999));
    assert_eq!(first.read(), b"");
    group.sims[0].advance(Duration::from_millis(2));
    assert_eq!(published(&answer(&first.read())).1, 1);
    // From now on it is not waited for.
    let second = group.ask(0, &post("/publish?topic=news", "two"));
    assert_eq!(published(&answer(&second.read())).1, 1);
    assert_eq!(member.received(), ["one", "two"]);
    group.settle();
    assert_eq!(published(&group.post(0, "news", "three")).1, 2);
}

// A reactor is kept after its end, for its state. The others must not wait for it.
#[test]
fn a_reactor_that_has_stopped_and_is_kept_does_not_hold_the_group_up() {
    let mut group = group_with_pending_bytes_max(2, 10_000);
    group.sims[1].reactor().stop();
    group.sims[1].settle();
    for topic in topics().iter().cycle().take(100) {
        assert_eq!(group.publish(0, topic, "text"), Ok(()));
        group.settle();
    }
    assert_eq!(group.sims[0].state().len(), 100);
    assert!(group.sims[0].state().iter().all(|it| it.delivered == 0));
}

#[test]
fn a_publication_is_delivered_although_its_reactor_ends_before_the_answer() {
    let mut group = group_of(2);
    let member = group.plain(1, "news");
    group.publish(0, "news", "one").unwrap();
    group.sims.remove(0);
    group.settle();
    assert_eq!(member.received(), ["one"]);
}

#[test]
fn a_publication_is_delivered_although_its_client_leaves_before_the_answer() {
    let mut group = group_of(2);
    let member = group.plain(1, "news");
    let stream = group.ask(0, &post("/publish?topic=news", "one"));
    stream.reset();
    group.settle();
    assert_eq!(member.received(), ["one"]);
    assert_eq!(published(&group.post(0, "news", "two")).1, 1);
}

#[test]
fn a_publisher_that_ends_its_side_gets_its_answer_however_many_reactors_there_are() {
    for count in [1, 2, 3] {
        let mut group = group_of(count);
        for topic in topics() {
            let client = group.sims[0].connect();
            client.write(post(&format!("/publish?topic={topic}"), "hi"));
            client.finish();
            group.settle();
            assert_eq!(answer(&client.read()).status, 200, "{count} reactors");
            assert!(client.is_closed());
        }
    }
}

#[test]
fn answers_to_requests_on_one_connection_keep_their_order() {
    let mut group = group_of(2);
    let topics = topics();
    let _members: Vec<_> = topics.iter().map(|topic| group.plain(1, topic)).collect();
    let requests = topics
        .iter()
        .map(|topic| post(&format!("/publish?topic={topic}"), "x"));
    let all = requests.collect::<Vec<_>>().join(&get("/healthz"));
    let stream = group.ask(0, &all);
    group.settle();
    let answers = answers(&stream.read());
    assert_eq!(answers.len(), 2 * topics.len() - 1);
    for (index, answer) in answers.iter().enumerate() {
        assert_eq!(answer.status, 200);
        assert_eq!(answer.text() == "ok\n", index % 2 == 1, "{index}");
    }
}

#[test]
fn a_publish_on_one_reactor_reaches_all_and_counts_its_own_members() {
    let mut group = group_of(2);
    let members = [0, 1].map(|at| group.plain(at, "news"));
    let first = group.sims[0].reactor().publish("news", "here");
    let second = group.sims[1].reactor().publish("news", "there");
    let (third, delivered) = published(&group.post(0, "news", "everywhere"));
    assert_eq!((first.delivered, second.delivered, delivered), (1, 1, 2));
    let ids = [first.id, second.id, third];
    assert!(ids.is_sorted_by(|one, next| one < next), "{ids:?}");
    for member in &members {
        assert_eq!(member.received(), ["here", "there", "everywhere"]);
    }
}

#[test]
fn a_group_has_as_many_seats_as_it_was_made_with() {
    let group = group_of(2);
    let mut late = Sim::new(Log::new(), |_| {});
    let error = group.group.join(late.reactor()).err().unwrap();
    assert_eq!(error.to_string(), "all 2 seats of the group are taken");
    assert_eq!(late.reactor().publish("news", "alone").id.number, 1);
}

#[test]
fn a_group_that_would_refuse_every_publication_cannot_be_made() {
    let refused = ReactorGroup::<Log>::with_pending_bytes_max(2, 0);
    let error = refused.err().unwrap();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    assert!(error.to_string().contains("pending_bytes_max"), "{error}");
    let mut group = group_with_pending_bytes_max(1, 1);
    assert_eq!(published(&group.post(0, "news", "hello")).1, 0);
}

#[test]
fn publishing_works_before_all_have_joined() {
    let group = ReactorGroup::<Log>::new(2);
    let mut sim = Sim::new(Log::new(), |_| {});
    let seat = group.join(sim.reactor()).unwrap();
    for topic in topics() {
        let done = |cx: &mut waterwheel::Cx<'_, Log>, published| cx.state.push(published);
        seat.publish(sim.reactor(), &topic, "x", done).unwrap();
    }
    sim.settle();
    assert_eq!(sim.state().len(), topics().len());
}

#[test]
fn a_call_for_all_runs_on_each_reactor_once() {
    let mut group = group_of(3);
    group.group.run_on_all(|cx| {
        cx.state.push(cx.reactor.publish("none", "x"));
        cx.reactor.stop();
    });
    group.settle();
    for sim in &mut group.sims {
        assert_eq!(sim.state().len(), 1);
        assert!(!sim.is_running());
    }
}

#[test]
fn the_example_publishes_to_all_its_reactors() {
    let group = ReactorGroup::new(2);
    let mut sims = [(), ()].map(|()| Sim::new((), |reactor| many_cores::setup(reactor, &group)));
    let request = get("/events?topic=chat").replace("Host: h", "Host: localhost");
    let listeners = [0, 1].map(|at| {
        let stream = sims[at].connect();
        stream.write(&request);
        sims[at].settle();
        stream
    });
    let stream = sims[0].connect();
    stream.write(post("/say", "hello").replace("Host: h", "Host: localhost"));
    for _ in 0..4 {
        sims.iter_mut().for_each(Sim::settle);
    }
    assert_eq!(answer(&stream.read()).text(), "2 heard it\n");
    for listener in listeners {
        assert!(listener.read_text().contains("data: hello\n"));
    }
}

/// The samples of `GET /metrics` that begin with `name`, as they stand there.
fn sample(text: &str, name: &str) -> String {
    let mut lines = text.lines().filter(|line| line.starts_with(name));
    lines
        .next()
        .unwrap_or_else(|| panic!("no {name}: {text}"))
        .into()
}

#[test]
fn metrics_are_the_sums_of_all_reactors() {
    let mut group = group_of(3);
    let members: Vec<_> = (0..3).map(|at| group.plain(at, "news")).collect();
    for at in 0..3 {
        assert_eq!(group.post(at, "news", "x").status, 200);
    }
    let stream = group.ask(1, &get("/metrics"));
    group.settle();
    let answer = answer(&stream.read());
    assert_eq!(answer.status, 200);
    for line in [
        "waterwheel_reactors 3",
        "waterwheel_reactors_missing 0",
        "waterwheel_publications_total 3",
        "waterwheel_deliveries_total 9",
        "waterwheel_connections{kind=\"websocket\"} 3",
        "waterwheel_subscriptions 3",
    ] {
        let name = line.split(' ').next().unwrap();
        assert_eq!(sample(answer.text(), name), line);
    }
    drop(members);
}

#[test]
fn metrics_leave_out_a_reactor_that_is_stuck_or_has_ended() {
    let mut group = group_of(3);
    let _members: Vec<_> = (0..3).map(|at| group.plain(at, "news")).collect();
    // The third one takes no turn, as one whose callback does not return.
    let stream = group.ask(0, &get("/metrics"));
    for _ in 0..10 {
        group.sims[1].settle();
        group.sims[0].settle();
    }
    assert_eq!(stream.read(), b"");
    group.sims[0].advance(Duration::from_secs(1));
    let first = answer(&stream.read());
    assert_eq!(
        sample(first.text(), "waterwheel_reactors_missing"),
        "waterwheel_reactors_missing 1"
    );
    let kept = "waterwheel_connections{kind=\"websocket\"}";
    assert_eq!(sample(first.text(), kept), format!("{kept} 2"));
    // Its answer comes after all and finds no question.
    group.settle();
    // One that has ended is not waited for.
    group.sims[2].reactor().stop();
    group.settle();
    let stream = group.ask(0, &get("/metrics"));
    group.settle();
    let second = answer(&stream.read());
    assert_eq!(
        sample(second.text(), "waterwheel_reactors_missing"),
        "waterwheel_reactors_missing 1"
    );
}

#[test]
fn a_repeat_on_another_reactor_waits_for_the_first_answer() {
    let mut group = group_of(3);
    let members: Vec<_> = (0..3).map(|at| group.plain(at, "news")).collect();
    let request = post("/publish?topic=news", "x");
    let request = request.replacen("\r\n\r\n", "\r\nIdempotency-Key: k\r\n\r\n", 1);
    // The third reactor takes no turn yet, so the first answer is under way.
    let first = group.ask(0, &request);
    let again = group.ask(1, &request);
    let other = request.replacen("\r\n\r\nx", "\r\n\r\ny", 1);
    let mismatch = group.ask(1, &other);
    assert_eq!((first.read(), again.read()), (Vec::new(), Vec::new()));
    assert_eq!(answer(&mismatch.read()).status, 422);
    group.settle();
    let (first, again) = (answer(&first.read()), answer(&again.read()));
    assert_eq!(published(&first).1, 3);
    assert_eq!(first.body, again.body);
    let late = group.ask(2, &request);
    group.settle();
    assert_eq!(answer(&late.read()).body, first.body);
    for member in &members {
        assert_eq!(member.received(), ["x"], "once");
    }
}

#[test]
fn topics_are_those_of_all_reactors() {
    let mut group = group_of(3);
    let _members: Vec<_> = [(0, "a"), (1, "a"), (1, "b"), (2, "c")]
        .map(|(at, topic)| group.plain(at, topic))
        .into();
    assert_eq!(group.post(2, "d", "x").status, 200);
    assert_eq!(group.post(0, "a", "x").status, 200);
    let stream = group.ask(1, &get("/topics"));
    group.settle();
    let list: Value = serde_json::from_str(answer(&stream.read()).text()).unwrap();
    let list = list.as_array().unwrap();
    let rows: Vec<_> = list
        .iter()
        .map(|it| {
            (
                it["topic"].as_str().unwrap(),
                it["members"].as_u64().unwrap(),
                it["history"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(rows, [("a", 2, 1), ("b", 1, 0), ("c", 1, 0), ("d", 0, 1)]);
    let stream = group.ask(2, &get("/topics/a"));
    group.settle();
    let one: Value = serde_json::from_str(answer(&stream.read()).text()).unwrap();
    assert_eq!(one["members"], 2);
    assert_eq!(one["first"], one["last"]);
}
