//! The back end's calls: batches, keys of requests that publish once, and the topics that there are.

use serde_json::{Value, json};
use waterwheel::hub::{Hub, HubOptions};
use waterwheel::{Event, Sim};

use crate::support::{Answer, get, post};
use crate::{ask, guarded, open, plain, publish, seconds, subscribed, values, with};

fn batch(sim: &mut Sim<()>, entries: &Value) -> Answer {
    ask(sim, &post("/publish/batch", &entries.to_string()))
}

fn value(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/json"));
    serde_json::from_str(answer.text()).expect("JSON")
}

#[test]
fn a_batch_is_published_in_its_order() {
    let mut sim = open();
    let member = subscribed(&mut sim, "a");
    let entries = json!([
        {"topic": "a", "data": {"n": 1}},
        {"topic": "b", "data": "x", "event": "named"},
        {"topic": "a", "data": [2], "event": "named", "key": "k"},
    ]);
    let answer = value(&batch(&mut sim, &entries));
    let all = answer.as_array().expect("an array");
    let delivered: Vec<_> = all.iter().map(|it| &it["delivered"]).collect();
    assert_eq!(delivered, [1, 0, 1]);
    let ids: Vec<_> = all.iter().map(|it| &it["id"]).collect();
    assert_eq!(ids, ["1:1", "1:2", "1:3"]);
    let got = values(&member);
    let data: Vec<_> = got.iter().map(|it| (&it["id"], &it["data"])).collect();
    assert_eq!(data, [(ids[0], &json!({"n": 1})), (ids[2], &json!([2]))]);
    assert_eq!(value(&batch(&mut sim, &json!([]))), json!([]));
}

#[test]
fn a_batch_with_one_mistake_publishes_nothing() {
    let mut sim = open();
    let member = plain(&mut sim, &["a"]);
    let good = json!({"topic": "a", "data": 1});
    for (bad, named) in [
        (json!({"topic": "a"}), "\"data\" is missing"),
        (json!({"topic": "", "data": 1}), "topic \"\""),
        (json!({"topic": "a", "data": 1, "key": ""}), "key: "),
        (json!(7), "object"),
    ] {
        let answer = batch(&mut sim, &json!([good, good, bad]));
        assert_eq!(answer.status, 400, "{bad}");
        let text = answer.text();
        assert!(text.starts_with("entry 3 of 3 (index 2): "), "{text}");
        assert!(text.contains(named), "{bad}: {text}");
    }
    let many = json!(vec![good; 1001]);
    assert_eq!(batch(&mut sim, &many).status, 400);
    assert_eq!(member.received(), [""; 0]);
    assert_eq!(publish(&mut sim, "a", "first").0, 1);
    let thousand = json!(vec![json!({"topic": "a", "data": 1}); 1000]);
    let answer = value(&batch(&mut sim, &thousand));
    assert_eq!(answer.as_array().map(Vec::len), Some(1000));
}

#[test]
fn the_calls_of_the_back_end_need_the_token() {
    let mut sim = guarded();
    let entries = json!([{"topic": "a", "data": 1}]).to_string();
    for request in [
        post("/publish/batch", &entries),
        get("/topics"),
        get("/topics/a"),
    ] {
        let wrong = with(&request, "Authorization: Bearer guess");
        let right = with(&request, "Authorization: Bearer secret");
        assert_eq!(ask(&mut sim, &request).status, 401, "{request}");
        assert_eq!(ask(&mut sim, &wrong).status, 401, "{request}");
        let status = ask(&mut sim, &right).status;
        assert_eq!(status, 200, "{request}");
    }
    // The head alone is refused, before the body is there.
    let head = "POST /publish/batch HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n";
    assert_eq!(ask(&mut sim, head).status, 401);
}

/// The request with a key.
fn keyed(request: &str, key: &str) -> String {
    with(request, &format!("Idempotency-Key: {key}"))
}

#[test]
fn a_repeat_is_answered_and_not_published() {
    let mut sim = open();
    let member = plain(&mut sim, &["a"]);
    let entries = json!([{"topic": "a", "data": 1}, {"topic": "b", "data": 2}]).to_string();
    for (key, request) in [
        ("one", post("/publish?topic=a", "hi")),
        ("two", post("/publish?topic=a&topic=b&event=e&key=k", "hi")),
        ("batch", post("/publish/batch", &entries)),
    ] {
        let request = keyed(&request, key);
        let first = ask(&mut sim, &request);
        value(&first);
        assert_eq!(member.received().len(), 1, "{key}");
        // Members come and go: the answer stays.
        let other = plain(&mut sim, &["a"]);
        for _ in 0..3 {
            let again = ask(&mut sim, &request);
            assert_eq!((again.status, &again.body), (200, &first.body), "{key}");
        }
        assert_eq!(member.received(), [""; 0], "{key}");
        assert_eq!(other.received(), [""; 0], "{key}");
        other.close(1000);
    }
    // The numbers of the three publications above, and no other.
    sim.advance(seconds(299));
    let request = keyed(&post("/publish?topic=a", "hi"), "one");
    assert_eq!(value(&ask(&mut sim, &request))["id"], "1:1");
    sim.advance(seconds(2));
    let late = value(&ask(&mut sim, &request));
    assert_eq!(late["id"], "1:6", "after five minutes it is new");
}

#[test]
fn a_key_is_for_one_request() {
    let mut sim = open();
    let member = plain(&mut sim, &["a", "b"]);
    let request = post("/publish?topic=a", "hi");
    value(&ask(&mut sim, &keyed(&request, "k")));
    assert_eq!(member.received(), ["hi"]);
    let entries = json!([{"topic": "a", "data": "hi"}]).to_string();
    for other in [
        post("/publish?topic=a", "ho"),
        post("/publish?topic=b", "hi"),
        post("/publish?topic=a&topic=a", "hi"),
        post("/publish?topic=a&event=e", "hi"),
        post("/publish?topic=a&key=k", "hi"),
        post("/publish/batch", &entries),
    ] {
        let answer = ask(&mut sim, &keyed(&other, "k"));
        assert_eq!(answer.status, 422, "{other}: {}", answer.text());
    }
    // A request that is not valid takes no key.
    let bad = keyed(&post("/publish?topic=", "hi"), "fresh");
    assert_eq!(ask(&mut sim, &bad).status, 400);
    value(&ask(
        &mut sim,
        &keyed(&post("/publish?topic=b", "ho"), "fresh"),
    ));
    assert_eq!(member.received(), ["ho"]);
    let long = "x".repeat(256);
    for (key, status) in [("", 400), (&long[..], 400), (&long[..255], 200)] {
        let answer = ask(&mut sim, &keyed(&request, key));
        assert_eq!(answer.status, status, "{} bytes", key.len());
    }
    let two = keyed(&keyed(&request, "a"), "b");
    assert_eq!(ask(&mut sim, &two).status, 400);
}

#[test]
fn topics_with_members_or_history() {
    let mut sim = open();
    let _members = [
        plain(&mut sim, &["a.1", "b"]),
        plain(&mut sim, &["a.1", "a.*"]),
    ];
    publish(&mut sim, "a.2/x%20y", "1");
    publish(&mut sim, "a.1", "2");
    publish(&mut sim, "a.2/x%20y", "3");
    let list = value(&ask(&mut sim, &get("/topics")));
    assert_eq!(
        list,
        json!([
            {"topic": "a.1", "members": 2, "history": 1},
            {"topic": "a.2/x y", "members": 0, "history": 2},
            {"topic": "b", "members": 1, "history": 0},
        ])
    );
    let some = value(&ask(&mut sim, &get("/topics?pattern=a.*&after=a.1")));
    assert_eq!(some.as_array().map(Vec::len), Some(1));
    assert_eq!(some[0]["topic"], "a.2/x y");
    let one = value(&ask(&mut sim, &get("/topics/a.2%2Fx%20y")));
    let expected =
        json!({"topic": "a.2/x y", "members": 0, "history": 2, "first": "1:1", "last": "1:3"});
    assert_eq!(one, expected);
    // A slash may stand as it is.
    assert_eq!(value(&ask(&mut sim, &get("/topics/a.2/x%20y"))), expected);
    let quiet = value(&ask(&mut sim, &get("/topics/b")));
    assert_eq!(quiet, json!({"topic": "b", "members": 1, "history": 0}));
    for (target, status) in [
        ("/topics/nowhere", 404),
        ("/topics/", 400),
        ("/topics/a%0ab", 400),
        ("/topics?pattern=", 400),
        ("/topics?after=%ff", 400),
    ] {
        assert_eq!(ask(&mut sim, &get(target)).status, status, "{target}");
    }
}

#[test]
fn a_long_list_of_topics_has_a_link_to_its_rest() {
    let mut sim = open();
    let entry = |number: usize| json!({"topic": format!("t {number:04}"), "data": number});
    for thousand in 0..3 {
        let entries: Vec<_> = (0..800).map(|n| entry(thousand * 800 + n)).collect();
        value(&batch(&mut sim, &json!(entries)));
    }
    let mut target = "/topics?pattern=t*".to_owned();
    let mut counts = Vec::new();
    let mut all = Vec::new();
    loop {
        let answer = ask(&mut sim, &get(&target));
        let list = value(&answer);
        let topics = list.as_array().unwrap();
        counts.push(topics.len());
        all.extend(
            topics
                .iter()
                .map(|it| it["topic"].as_str().unwrap().to_owned()),
        );
        let Some(link) = answer.header("link") else {
            break;
        };
        let (next, rest) = link.strip_prefix('<').unwrap().split_once('>').unwrap();
        assert_eq!(rest, "; rel=\"next\"");
        target = next.to_owned();
    }
    assert_eq!(counts, [1000, 1000, 400]);
    assert!(all.is_sorted());
    all.dedup();
    assert_eq!(all.len(), 2400);
}

#[test]
fn a_program_has_the_same_calls() {
    let hub = Hub::new(HubOptions::default());
    let listening = hub.clone();
    let access = waterwheel::hub::Access {
        open: true,
        ..Default::default()
    };
    let mut sim: Sim<()> = Sim::new((), move |reactor| {
        reactor.http("0.0.0.0:80", |router| listening.mount(router, &access))
    });
    let member = plain(&mut sim, &["a"]);
    let items = [
        ("a".into(), Event::message("1")),
        ("b".into(), Event::message("2")),
    ];
    let published = hub.publish_batch(sim.reactor(), &items, |_, outcome| {
        let delivered: Vec<_> = outcome.unwrap().iter().map(|it| it.delivered).collect();
        assert_eq!(delivered, [1, 0]);
    });
    assert_eq!(published, Ok(()));
    let bad = [
        ("a".into(), Event::message("1")),
        ("".into(), Event::message("2")),
    ];
    let refused = hub.publish_batch(sim.reactor(), &bad, |_, _| panic!("it is refused"));
    assert!(refused.is_err());
    sim.settle();
    assert_eq!(member.received(), ["1"]);
    let asked = hub.clone();
    sim.reactor().next_tick(move |cx| {
        asked.topics(cx, None, None, |_, list| {
            let names: Vec<_> = list.topics.iter().map(|it| &*it.topic).collect();
            assert_eq!((names, list.has_more), (vec!["a", "b"], false));
        });
        asked.topic(cx, "b", |_, info| {
            let info = info.unwrap();
            assert_eq!((info.members, info.history), (0, 1));
            assert_eq!(info.first, info.last);
        });
    });
    sim.settle();
}
