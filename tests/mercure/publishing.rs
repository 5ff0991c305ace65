//! Updates of publishers, and the answers.

use super::*;

const FORM: &str = "Content-Type: application/x-www-form-urlencoded";

#[test]
fn an_update_reaches_its_subscribers_and_its_id_is_answered() {
    let mut world = serve();
    let mut one = world.subscribe("topic=https%3A%2F%2Fexample.com%2Fbooks%2F1");
    let mut other = world.subscribe("topic=https%3A%2F%2Fexample.com%2Fbooks%2F2");
    assert_eq!(one.lines(), [""; 0]);
    let id = world.publish("topic=https%3A%2F%2Fexample.com%2Fbooks%2F1&data=hello");
    assert!(id.starts_with('#'), "{id}");
    assert_eq!(one.lines(), [format!("id: {id}"), "data: hello".into()]);
    assert_eq!(other.lines(), [""; 0]);

    let form = "topic=https%3A%2F%2Fexample.com%2Fbooks%2F1&data=1%0A2%0D%0A3&id=urn:x&type=news&retry=1500";
    assert_eq!(world.publish(form), "urn:x");
    let expected = [
        "retry: 1500",
        "id: urn:x",
        "event: news",
        "data: 1",
        "data: 2",
        "data: 3",
    ];
    assert_eq!(one.lines(), expected);
}

#[test]
fn an_answer_is_plain_text_and_names_the_hub() {
    let mut world = serve();
    let token = bearer(&publisher_token(r#""*""#));
    let answer = world.publish_by(&token, "topic=a&data=x");
    let kind = answer.header("content-type").unwrap();
    assert!(kind.starts_with("text/plain"), "{kind}");
    let link = "</.well-known/mercure>; rel=\"mercure\"";
    assert_eq!(answer.header("link"), Some(link));
    let page = world.ask("GET", "/", &[], "");
    assert_eq!(page.header("link"), Some(link));
    let mut stream = world.subscribe("topic=a");
    assert_eq!(stream.header("link").as_deref(), Some(link));
}

#[test]
fn the_bytes_of_symfony_and_both_shapes_of_claims() {
    let mut world = serve();
    let mut subscriber = world.subscribe("topic=https://example.com/books/1");
    let form = "topic=https%3A%2F%2Fexample.com%2Fbooks%2F1&data=Hi+from+Symfony%21&id=id&retry=3";
    let old = r#"{"exp":1000000000,"mercure":{"publish":["https://example.com/books/{id}"],"subscribe":[]}}"#;
    for claims in [old, &detail("publish", "https://example.com/books/1")] {
        let token = bearer(&token::sign(claims, PUBLISHER_KEY));
        let answer = world.publish_by(&token, form);
        assert_eq!((answer.status, answer.text()), (200, "id"), "{claims}");
        assert_eq!(subscriber.data(), ["Hi from Symfony!"]);
    }
}

#[test]
fn tokens_that_are_refused() {
    let mut world = serve();
    let now = world.sims[0].reactor().unix_time();
    let claims = r#""mercure":{"publish":["*"]}"#;
    let signed = |claims: &str| bearer(&token::sign(claims, PUBLISHER_KEY));
    let none = String::new();
    let foreign = bearer(&token::sign(&format!("{{{claims}}}"), SUBSCRIBER_KEY));
    let expired = signed(&format!(r#"{{"exp":{},{claims}}}"#, now - 60));
    let future = signed(&format!(r#"{{"nbf":{},{claims}}}"#, now + 10_000));
    let bad_detail = signed(&detail("publish", "").replace(r#""match":"""#, r#""match":7"#));
    let other_matcher = signed(
        &detail("publish", "a").replace(r#""match":"a""#, r#""match":"a","match_type":"regexp""#),
    );
    let nothing = signed("{}");
    let to_read = signed(r#"{"mercure":{"subscribe":["*"]}}"#);
    let empty = signed(r#"{"mercure":{"publish":[]}}"#);
    let other_topic = signed(r#"{"mercure":{"publish":["b","/a/{x}"]}}"#);
    let cases = [
        ("no token", &none, 401, "Bearer"),
        (
            "no JWT",
            &bearer("abc"),
            401,
            "Bearer error=\"invalid_token\"",
        ),
        (
            "another key",
            &foreign,
            401,
            "Bearer error=\"invalid_token\"",
        ),
        ("expired", &expired, 401, "Bearer error=\"invalid_token\""),
        ("not yet", &future, 401, "Bearer error=\"invalid_token\""),
        ("detail", &bad_detail, 401, "Bearer error=\"invalid_token\""),
        (
            "matcher",
            &other_matcher,
            401,
            "Bearer error=\"invalid_token\"",
        ),
        (
            "nothing",
            &nothing,
            403,
            "Bearer error=\"insufficient_scope\"",
        ),
        (
            "reading",
            &to_read,
            403,
            "Bearer error=\"insufficient_scope\"",
        ),
        ("empty", &empty, 403, "Bearer error=\"insufficient_scope\""),
        (
            "topic",
            &other_topic,
            403,
            "Bearer error=\"insufficient_scope\"",
        ),
    ];
    let mut subscriber = world.subscribe("topic=*");
    for (name, header, status, challenge) in cases {
        let request = request("POST", PATH, &[FORM, header], "topic=a&data=x");
        let mut asked = world.send(0, &request);
        // A token that may be a guess is answered after a pause.
        world.advance(Duration::from_secs(20));
        let answer = asked.answer();
        assert_eq!(answer.status, status, "{name}");
        assert_eq!(answer.header("www-authenticate"), Some(challenge), "{name}");
    }
    // A token that grants one topic of two grants no update of both.
    let half = signed(r#"{"mercure":{"publish":["a"]}}"#);
    assert_eq!(world.publish_by(&half, "topic=a&topic=b").status, 403);
    assert_eq!(subscriber.data(), [""; 0]);
}

#[test]
fn forms_that_are_refused() {
    let mut config = Config::default();
    config.http.body_bytes_max = 4096;
    let mut world = serve_with(Setting {
        config,
        ..Setting::default()
    });
    let mut subscriber = world.subscribe("topic=*");
    let token = bearer(&publisher_token(r#""*""#));
    let long = format!("topic=a&data={}", "x".repeat(5000));
    for (form, status) in [
        ("", 400),
        ("data=x", 400),
        ("topic=", 400),
        ("topic=*", 400),
        ("topic=%ff", 400),
        ("topic=/.well-known/mercure/subscriptions/a/b", 400),
        ("topic=https://x.example/.well-known/%6dercure", 400),
        ("topic=mercure", 400),
        ("topic=%23a", 400),
        ("topic=a&id=%23x", 400),
        ("topic=a&id=earliest", 400),
        ("topic=a&id=a%0Adata:x", 400),
        ("topic=a&type=mercure", 400),
        ("topic=a&type=a%0Ddata:x", 400),
        ("topic=a&retry=soon", 400),
        (&long, 413),
    ] {
        let answer = world.publish_by(&token, form);
        assert_eq!(answer.status, status, "{form}");
    }
    let json = ["Content-Type: application/json", &token];
    let answer = world.ask("POST", PATH, &json, "topic=a");
    assert_eq!(answer.status, 415);
    assert_eq!(subscriber.data(), [""; 0]);
}

#[test]
fn the_copies_of_an_update_are_bounded() {
    let mut world = serve();
    let token = bearer(&publisher_token(r#""*""#));
    let topics: String = (0..100).map(|it| format!("topic={it}&")).collect();
    let data = "x".repeat(16 * 1024 * 1024 / 100);
    let answer = world.publish_by(&token, &format!("{topics}data={data}"));
    assert_eq!(answer.status, 200);
    let answer = world.publish_by(&token, &format!("{topics}data={data}x"));
    assert_eq!(answer.status, 413);
    let lines = "%0A".repeat(16 * 1024 * 1024 / 700);
    let answer = world.publish_by(&token, &format!("{topics}data={lines}%0A%0A"));
    assert_eq!(answer.status, 413);
}

#[test]
fn only_the_body_of_a_publisher_is_read() {
    let mut world = serve();
    let head = format!("POST {PATH} HTTP/1.1\r\nHost: h\r\n{FORM}\r\nContent-Length: 100\r\n");
    let mut asked = world.send(0, &format!("{head}Expect: 100-continue\r\n\r\n"));
    assert_eq!(asked.answer().status, 401);
    let token = bearer(&publisher_token(r#""*""#));
    let mut asked = world.send(0, &format!("{head}{token}\r\nExpect: 100-continue\r\n\r\n"));
    assert_eq!(asked.answer().status, 100);
}

#[test]
fn several_topics_come_once() {
    let mut world = serve();
    let queries = [
        ("topic=a", 1),
        ("topic=c", 1),
        ("topic=a&topic=b&topic=c", 1),
        ("topic=*", 1),
        ("topic=*&topic=a", 1),
        ("topic=/x/{id}", 1),
        ("topic=a&topic=/x/{id}&match=b", 1),
        ("topic=d&topic=/y/{id}", 0),
    ];
    let mut subscribers = queries.map(|(query, _)| world.subscribe(query));
    let id = world.publish("topic=a&topic=b&topic=c&topic=/x/1&topic=/x/2&data=once");
    assert!(id.starts_with("urn:uuid:"), "{id}");
    for ((query, count), subscriber) in queries.iter().zip(&mut subscribers) {
        let lines = subscriber.lines();
        assert_eq!(lines.len(), 2 * count, "{query}: {lines:?}");
        if *count != 0 {
            assert_eq!(lines, [format!("id: {id}"), "data: once".into()], "{query}");
        }
    }
}
