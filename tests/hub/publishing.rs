//! Publishing by POST: accepted and refused messages, delivery and its count.

use serde_json::{Value, json};

use crate::support::{get, post};
use crate::{
    Reader, ask, ask_bytes, open, plain, publish, published, say, subscribed, values, with,
};

#[test]
fn a_posted_message_reaches_every_kind_of_member() {
    let mut sim = open();
    let plain = plain(&mut sim, &["news"]);
    let json = subscribed(&mut sim, "news");
    let mut reader = Reader::open(&mut sim, "/events?topic=news");
    assert_eq!(publish(&mut sim, "news", "hello \"you\"\n\u{e9}"), (1, 3));
    assert_eq!(plain.received(), ["hello \"you\"\n\u{e9}"]);
    let expected = json!({"topic": "news", "id": "1:1", "data": "hello \"you\"\n\u{e9}"});
    assert_eq!(values(&json), [expected]);
    let expected = "id: 1:0\n\nid: 1:1\ndata: hello \"you\"\ndata: \u{e9}\n\n";
    assert_eq!(reader.text(), expected);
}

#[test]
fn empty_messages_and_topics_of_any_text_are_published() {
    let mut sim = open();
    let json = subscribed(&mut sim, "a b/\u{e9}&=");
    assert_eq!(publish(&mut sim, "a%20b/%C3%A9%26=", ""), (1, 1));
    let expected = json!({"topic": "a b/\u{e9}&=", "id": "1:1", "data": ""});
    assert_eq!(values(&json), [expected]);
}

#[test]
fn a_json_message_is_embedded_as_a_value_and_others_as_a_string() {
    let mut sim = open();
    let plain = plain(&mut sim, &["t"]);
    let json = subscribed(&mut sim, "t");
    let value = "{\"b\": [1, 2.50,\n null], \"a\": \"\\u00e9\"}";
    let parsed: Value = serde_json::from_str(value).expect("JSON");
    let text = Value::String(value.to_owned());
    let cases = [
        ("Content-Type: application/json", &parsed),
        ("Content-Type: application/json; charset=utf-8", &parsed),
        ("Content-Type: Application/JSON", &parsed),
        ("content-type:application/json ;charset=utf-8", &parsed),
        ("Content-Type: text/plain", &text),
        ("Content-Type: application/jsonp", &text),
        ("Content-Type: text/json", &text),
        ("X: y", &text),
    ];
    for (line, expected) in cases {
        let request = with(&post("/publish?topic=t", value), line);
        assert_eq!(published(&ask(&mut sim, &request)).1, 2, "{line}");
        let seen = values(&json);
        assert_eq!(seen.len(), 1, "{line}");
        assert_eq!(&seen[0]["data"], expected, "{line}");
        assert_eq!(plain.received(), [value], "{line}: as it was sent");
    }
    for scalar in ["1", "-0.5e3", "null", "true", "\"x\"", "[]", " {} \n"] {
        let request = with(
            &post("/publish?topic=t", scalar),
            "Content-Type: application/json",
        );
        assert_eq!(published(&ask(&mut sim, &request)).1, 2, "{scalar}");
        let expected: Value = serde_json::from_str(scalar).expect("JSON");
        assert_eq!(values(&json)[0]["data"], expected, "{scalar}");
    }
    plain.received();
    for bad in [
        "",
        "{",
        "{} {}",
        "nope",
        "'x'",
        "{\"a\":1,}",
        "NaN",
        "\u{feff}{}",
    ] {
        let request = with(
            &post("/publish?topic=t", bad),
            "Content-Type: application/json",
        );
        assert_eq!(ask(&mut sim, &request).status, 400, "{bad:?}");
    }
    sim.settle();
    assert_eq!((plain.received().len(), values(&json).len()), (0, 0));
}

#[test]
fn an_event_name_cannot_contain_a_line_end() {
    let mut sim = open();
    let plain = plain(&mut sim, &["t"]);
    let json = subscribed(&mut sim, "t");
    let mut reader = Reader::open(&mut sim, "/events?topic=t");
    let named = ask(&mut sim, &post("/publish?topic=t&event=new+price", "4"));
    assert_eq!(published(&named), (1, 3));
    assert_eq!(
        reader.text(),
        "id: 1:0\n\nid: 1:1\nevent: new price\ndata: 4\n\n"
    );
    let expected = json!({"topic": "t", "id": "1:1", "event": "new price", "data": "4"});
    assert_eq!(values(&json), [expected]);
    assert_eq!(plain.received(), ["4"]);
    for bad in ["a%0Adata:%20b", "a%0D", "%00"] {
        let refused = ask(
            &mut sim,
            &post(&format!("/publish?topic=t&event={bad}"), "4"),
        );
        assert_eq!(refused.status, 400, "{bad}");
    }
    assert_eq!(plain.received(), [""; 0]);
}

#[test]
fn an_invalid_publication_is_refused_with_its_reason() {
    let mut sim = open();
    let everything = plain(&mut sim, &["*"]);
    let long = "t".repeat(257);
    let cases = [
        ("no topic", post("/publish", "x"), 400),
        ("another parameter", post("/publish?topics=t", "x"), 400),
        ("an empty topic", post("/publish?topic=", "x"), 400),
        (
            "a line end in a topic",
            post("/publish?topic=a%0Ab", "x"),
            400,
        ),
        ("a NUL in a topic", post("/publish?topic=a%00", "x"), 400),
        (
            "a topic that is not UTF-8",
            post("/publish?topic=%ff", "x"),
            400,
        ),
        (
            "a topic that is too long",
            post(&format!("/publish?topic={long}"), "x"),
            400,
        ),
        ("a GET", get("/publish?topic=t"), 405),
        (
            "a PUT",
            post("/publish?topic=t", "x").replacen("POST", "PUT", 1),
            405,
        ),
    ];
    for (name, request, status) in cases {
        let refused = ask(&mut sim, &request);
        assert_eq!(refused.status, status, "{name}");
        assert!(
            refused.text().ends_with('\n'),
            "{name}: {:?}",
            refused.text()
        );
        let allow = (status == 405).then_some("POST, OPTIONS");
        assert_eq!(refused.header("allow"), allow, "{name}");
    }
    let head = b"POST /publish?topic=t HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n";
    let refused = ask_bytes(&mut sim, &[head, b"a\xffb"]);
    assert_eq!(refused.status, 400, "not UTF-8");
    assert!(refused.text().contains("UTF-8"));
    sim.settle();
    assert_eq!(everything.received(), [""; 0], "none of them arrived");
    assert_eq!(
        publish(&mut sim, "t", "x"),
        (1, 1),
        "and none has taken an id"
    );
}

#[test]
fn a_message_of_one_mebibyte_is_taken_and_a_longer_one_refused() {
    let mut sim = open();
    let socket = plain(&mut sim, &["t"]);
    let body = vec![b'x'; 1024 * 1024];
    let head = |length: usize| {
        format!("POST /publish?topic=t HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n")
    };
    let fits = ask_bytes(&mut sim, &[head(body.len()).as_bytes(), &body]);
    assert_eq!(published(&fits), (1, 1));
    let mut seen = Vec::new();
    while seen.is_empty() {
        sim.settle();
        seen = socket.received();
    }
    assert_eq!(seen, [str::from_utf8(&body).expect("ASCII")]);

    let above = ask_bytes(&mut sim, &[head(body.len() + 1).as_bytes()]);
    assert!(above.status == 413 && above.closes());
}

#[test]
fn delivered_counts_each_present_member_once() {
    let mut sim = open();
    assert_eq!(publish(&mut sim, "a.b", "x"), (1, 0));
    let by_name = plain(&mut sim, &["a.b"]);
    let by_both = plain(&mut sim, &["a.b", "a.*", "*", "a.b"]);
    let by_pattern = subscribed(&mut sim, "a.?");
    let elsewhere = plain(&mut sim, &["a", "b", "a.bc", "x*"]);
    let mut reader = Reader::open(&mut sim, "/events?topic=a.b&topic=a.*&topic=c");
    assert_eq!(publish(&mut sim, "a.b", "x"), (2, 4));
    assert_eq!(by_name.received(), ["x"]);
    assert_eq!(
        by_both.received(),
        ["x"],
        "by name and by pattern, and one copy"
    );
    assert_eq!(values(&by_pattern).len(), 1);
    assert_eq!(elsewhere.received(), [""; 0]);
    assert_eq!(reader.events(), [("1:2".to_owned(), "x".to_owned())]);

    by_name.vanish();
    sim.settle();
    assert_eq!(publish(&mut sim, "a.b", "y"), (3, 3));
    say(&mut sim, &by_pattern, json!({"unsubscribe": "a.?"}));
    assert_eq!(publish(&mut sim, "a.b", "y"), (4, 2));
    reader.stream.close();
    by_both.close(1000);
    sim.settle();
    assert_eq!(publish(&mut sim, "a.b", "y"), (5, 0));
    assert_eq!(publish(&mut sim, "xyz", "y"), (6, 1));
}

// The first topic alone got the message, and the answer was 200.
#[test]
fn a_message_is_published_to_each_topic_of_the_request() {
    let mut sim = open();
    let a = plain(&mut sim, &["a"]);
    let both = subscribed(&mut sim, "[ab]");
    let request = post("/publish?topic=b&event=sum&topic=a&topic=c", "x");
    let answered = ask(&mut sim, &request);
    assert_eq!(answered.status, 200, "{}", answered.text());
    let value: Value = serde_json::from_str(answered.text()).expect("JSON");
    let expected = json!([
        {"id": "1:1", "delivered": 1},
        {"id": "1:2", "delivered": 2},
        {"id": "1:3", "delivered": 0},
    ]);
    assert_eq!(value, expected);
    assert_eq!(a.received(), ["x"]);
    let seen = values(&both);
    let seen: Vec<_> = seen.iter().map(|it| (&it["topic"], &it["event"])).collect();
    assert_eq!(
        seen,
        [(&json!("b"), &json!("sum")), (&json!("a"), &json!("sum"))]
    );
}

#[test]
fn an_invalid_parameter_is_refused_before_any_topic_gets_the_message() {
    let mut sim = open();
    let everything = plain(&mut sim, &["*"]);
    let many: String = (0..101).map(|n| format!("&topic={n}")).collect();
    let cases = [
        ("an empty topic at the end", "topic=a&topic="),
        ("a topic that is not UTF-8", "topic=a&topic=%ff"),
        ("a line end", "topic=a&topic=b%0A"),
        ("more than 100 topics", &many),
        ("two event names", "topic=a&event=x&event=y"),
        ("an event name that is not UTF-8", "topic=a&event=%ff"),
    ];
    for (name, query) in cases {
        let refused = ask(&mut sim, &post(&format!("/publish?{query}"), "x"));
        assert_eq!(refused.status, 400, "{name}: {}", refused.text());
    }
    assert_eq!(everything.received(), [""; 0]);
    assert_eq!(publish(&mut sim, "a", "x"), (1, 1));
}

// One request of 1 MiB once held the loop for seconds.
#[test]
fn a_long_message_goes_to_a_few_topics() {
    let mut sim = open();
    let target = |count: usize| {
        let topics: Vec<_> = (0..count).map(|index| format!("topic={index}")).collect();
        format!("/publish?{}", topics.join("&"))
    };
    let mebibyte = 1024 * 1024;
    let cases = [
        ("x", mebibyte, 16, 200),
        ("x", mebibyte, 17, 413),
        ("x", 160 * 1024, 100, 200),
        ("\u{1}", mebibyte, 1, 200),
        ("\u{1}", mebibyte, 2, 200),
        ("\u{1}", mebibyte, 3, 413),
        ("\n", mebibyte, 3, 413),
        ("\"", mebibyte, 8, 200),
        ("\"", mebibyte, 9, 413),
    ];
    for (text, bytes, count, status) in cases {
        let answer = ask(&mut sim, &post(&target(count), &text.repeat(bytes)));
        assert_eq!(answer.status, status, "{text:?} to {count} topics");
        if status == 413 {
            assert!(
                answer
                    .text()
                    .starts_with("the message is too long for so many topics")
            );
        }
    }
}
