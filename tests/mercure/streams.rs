//! The streams of subscribers: what they select, and how they are refused and end.

use super::*;

#[test]
fn selectors() {
    let book = "https%3A%2F%2Fexample.net%2Ffoo%2F1";
    let long = format!("/{}", "x".repeat(600));
    let long_query = format!("topic={long}");
    let long_template = format!("topic={}{{id}}", &long[..590]);
    for (query, topic, is_received) in [
        ("topic=abc", "abc", true),
        ("match=abc", "abc", true),
        ("match_exact=abc", "abc", true),
        ("topic=foo&topic=abc", "abc", true),
        ("match=foo&match=abc", "abc", true),
        (&format!("topic={book}"), book, true),
        ("topic=https://example.net/foo/{random}", book, true),
        (
            "match_urlpattern=https://example.net/foo/:random",
            book,
            true,
        ),
        ("match_urlpattern=https://*/foo/*", book, true),
        ("topic=*", book, true),
        ("match=*", book, true),
        ("match_urlpattern=*", book, true),
        ("topic=a%3Fb=*%5B", "a%3Fb=*%5B", true),
        (&long_query, &long, true),
        (&long_template, &long, true),
        ("topic=*", &long, true),
        ("topic=another-name", "will-not-match", false),
        ("topic=https://example.net/bar/{random}", book, false),
        (
            "match_urlpattern=https://example.net/bar/:random",
            book,
            false,
        ),
        ("match=https://example.net/foo/{random}", book, false),
        ("topic=https://example.net/{random}", book, false),
        ("topic=a%3Fb=*%5B", "a%3Fb=c%5B", false),
        ("topic=ABC", "abc", false),
    ] {
        let mut world = serve();
        let mut subscriber = world.subscribe(query);
        world.publish(&format!("topic={topic}&data=x&id=own"));
        let expected: &[&str] = match is_received {
            true => &["id: own", "data: x"],
            false => &[],
        };
        assert_eq!(subscriber.lines(), expected, "{query} {topic}");
    }
}

#[test]
fn queries_that_are_refused() {
    let mut world = serve();
    let many: String = (0..101).map(|it| format!("&topic={it}")).collect();
    let patterns: String = (0..32).map(|it| format!("&topic=/{it}/{{x}}")).collect();
    let long = format!("topic={}", "x".repeat(1025));
    for query in [
        "",
        "topics=a",
        "topic=",
        "topic",
        "topic=%ff",
        "topic=a%0Ab",
        "topic=a%E2%80%8B",
        "topic={+a}",
        "topic={a",
        "topic=a&match_regexp=b",
        "topic=a&match_URLPattern=b",
        "topic=a&Match=b",
        "topic=a&matchmaker=b",
        "match_urlpattern=/(.*)",
        &many,
        &patterns,
        &long,
    ] {
        let answer = world.ask("GET", &format!("{PATH}?{query}"), &[], "");
        assert_eq!(answer.status, 400, "{query}");
        assert_eq!(answer.header("www-authenticate"), None, "{query}");
    }
    assert_eq!(world.ask("GET", PATH, &[], "").status, 400);
    assert_eq!(world.ask("PUT", PATH, &[], "").status, 405);
    assert_eq!(
        world.ask("GET", "/.well-known/mercury", &[], "").status,
        404
    );
}

#[test]
fn a_hub_without_anonymous_subscribers_asks_for_tokens() {
    let mut setting = Setting::default();
    setting.mercure.is_anonymous = false;
    let mut world = serve_with(setting);
    let target = format!("{PATH}?topic=a");
    let answer = world.ask("GET", &target, &[], "");
    assert_eq!(answer.status, 401);
    assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    // A token that grants nothing is enough for what is not private.
    let token = token::sign("{}", SUBSCRIBER_KEY);
    let mut subscriber = world.subscribe_by("topic=a", &[&bearer(&token)]);
    world.publish("topic=a&data=x");
    assert_eq!(subscriber.data(), ["x"]);
}

#[test]
fn a_wrong_token_is_refused_where_none_is_needed() {
    let mut world = serve();
    let wrong = token::sign("{}", PUBLISHER_KEY);
    let invalid = token::sign(r#"{"mercure":{"subscribe":["{+x}"]}}"#, SUBSCRIBER_KEY);
    for header in [
        bearer(&wrong),
        bearer(&invalid),
        format!("Cookie: mercureAuthorization={wrong}"),
    ] {
        let request = request("GET", &format!("{PATH}?topic=a"), &[&header], "");
        let mut asked = world.send(0, &request);
        world.advance(Duration::from_secs(20));
        let answer = asked.answer();
        assert_eq!(answer.status, 401, "{header}");
        let challenge = "Bearer error=\"invalid_token\"";
        assert_eq!(
            answer.header("www-authenticate"),
            Some(challenge),
            "{header}"
        );
    }
}

#[test]
fn tokens_come_in_several_ways() {
    let mut setting = Setting::default();
    setting.mercure.is_anonymous = false;
    let mut world = serve_with(setting);
    let token = subscriber_token(r#""a""#);
    let other = subscriber_token(r#""b""#);
    for (query, headers) in [
        ("", vec![bearer(&token)]),
        ("", vec![format!("authorization: bearer {token}")]),
        (&*format!("&authorization={token}"), vec![]),
        ("", vec![format!("Cookie: mercureAuthorization={token}")]),
        (
            "",
            vec![format!(
                "Cookie: x=y; __Secure-mercure_access_token={token}"
            )],
        ),
        (
            "",
            vec![format!(
                "Cookie: mercureAuthorization={other}; __Secure-mercure_access_token={token}"
            )],
        ),
        (
            "",
            vec![
                bearer(&token),
                format!("Cookie: mercureAuthorization={other}"),
            ],
        ),
    ] {
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        let mut subscriber = world.subscribe_by(&format!("topic=a{query}"), &headers);
        world.publish("topic=a&data=x&private");
        assert_eq!(subscriber.data(), ["x"], "{query} {headers:?}");
    }
    // The cookie of a page of another site is not taken.
    let cookie = format!("Cookie: mercureAuthorization={token}");
    let headers = [&*cookie, "Sec-Fetch-Site: cross-site"];
    let answer = world.ask("GET", &format!("{PATH}?topic=a"), &headers, "");
    assert_eq!(answer.status, 401);
}

#[test]
fn a_stream_ends_with_its_token() {
    let mut world = serve();
    let end = world.sims[0].reactor().unix_time() + 100;
    let claims = format!(r#"{{"exp":{end},"mercure":{{"subscribe":["a"]}}}}"#);
    let token = bearer(&token::sign(&claims, SUBSCRIBER_KEY));
    let mut subscriber = world.subscribe_by("topic=a", &[&token]);
    world.publish("topic=a&data=1&private");
    world.advance(Duration::from_secs(90));
    assert!(!subscriber.answer().is_whole);
    world.advance(Duration::from_secs(100));
    assert!(subscriber.answer().is_whole);
    world.publish("topic=a&data=2&private");
    assert_eq!(subscriber.answer().text().matches("data: ").count(), 1);
}

#[test]
fn a_quiet_stream_gets_comments() {
    let mut world = serve();
    let mut subscriber = world.subscribe("topic=a");
    subscriber.lines();
    let before = subscriber.answer().body.len();
    world.advance(Duration::from_secs(40));
    let answer = subscriber.answer();
    let rest = &answer.text()[before..];
    assert!(!rest.is_empty() && rest.lines().all(|it| it.is_empty() || it == ":"));
}

#[test]
fn a_stream_that_comes_while_the_hub_drains_is_sent_away_for_some_time() {
    let mut world = serve();
    let mut old = world.subscribe("topic=a");
    world.sims[0].reactor().drain(Duration::from_secs(30));
    let accept = ["Accept: text/event-stream"];
    let answer = world.ask("GET", &format!("{PATH}?topic=a"), &accept, "");
    assert_eq!(answer.status, 200);
    let retry = answer.text().trim().strip_prefix("retry: ").unwrap();
    assert!((1000..=10_000).contains(&retry.parse::<u32>().unwrap()));
    world.advance(Duration::from_secs(31));
    let answer = old.answer();
    assert!(answer.is_whole);
    let retry = answer.text().lines().rev().find(|it| !it.is_empty());
    let retry = retry.unwrap().strip_prefix("retry: ").unwrap();
    assert!((1000..=10_000).contains(&retry.parse::<u32>().unwrap()));
}

#[test]
fn a_head_request_gets_the_head_alone() {
    let mut world = serve();
    let answer = world.ask("HEAD", &format!("{PATH}?topic=a"), &[], "");
    assert_eq!((answer.status, answer.text()), (200, ""));
}

#[test]
fn pages_of_listed_origins_share_cookies() {
    let mut setting = Setting::default();
    setting.access.origins = vec!["https://app.example".into()];
    let mut world = serve_with(setting);
    let origin = "Origin: https://app.example";
    let mut subscriber = world.subscribe_by("topic=a", &[origin]);
    for (name, value) in [
        ("access-control-allow-origin", "https://app.example"),
        ("access-control-allow-credentials", "true"),
    ] {
        assert_eq!(subscriber.header(name).as_deref(), Some(value));
    }
    let exposed = subscriber.header("access-control-expose-headers").unwrap();
    assert!(exposed.contains("Link") && exposed.contains("Mercure-Last-Event-ID"));
    let asked = [origin, "Access-Control-Request-Method: POST"];
    let preflight = world.ask("OPTIONS", PATH, &asked, "");
    let allowed = preflight.header("access-control-allow-credentials");
    assert_eq!(allowed, Some("true"));
    let other = world.ask("GET", "/healthz", &[origin], "");
    assert_eq!(other.header("access-control-allow-credentials"), None);
    let target = format!("{PATH}?topic=a");
    let foreign = world.ask("GET", &target, &["Origin: https://evil.example"], "");
    assert_eq!(foreign.status, 403);
}

#[test]
fn the_hub_is_there_only_where_it_is_set() {
    let mut sim = Sim::new((), |reactor| {
        let hub = Hub::new(HubOptions::default());
        reactor.http("0.0.0.0:80", |router| hub.mount(router, &Access::default()))
    });
    for method in ["GET", "POST"] {
        let client = sim.connect();
        client.write(request(method, PATH, &[], ""));
        sim.settle();
        let answer = answer::answer(&client.read());
        assert_eq!((answer.status, answer.header("link")), (404, None));
    }
}

#[test]
fn updates_that_a_stream_does_not_see_put_no_heartbeat_off() {
    let mut world = serve();
    let mut subscriber = world.subscribe("topic=/a/{id}");
    subscriber.lines();
    let before = subscriber.answer().body.len();
    for _ in 0..20 {
        world.advance(Duration::from_secs(2));
        // The glob pattern of the selector matches this.
        world.publish("topic=/a/1/2&data=x");
    }
    let answer = subscriber.answer();
    assert_eq!(answer.text()[before..].matches(":\n\n").count(), 2);
}
