//! Origins, preflights, and the headers that allow a page to read an answer.

use waterwheel::{Origins, Router, Sim};

use crate::support::{answer, get, post};
use crate::{HOST, Notes, ask, exchange, seconds, server};

fn router_with_origins(absent: bool) -> Sim<Notes> {
    Sim::new(Notes::default(), move |reactor| {
        reactor.http("0.0.0.0:80", |router: &mut Router<Notes>| {
            router.origins(Origins::Listed {
                origins: vec![
                    "https://app.example.org".into(),
                    "http://other:3000/".into(),
                ],
                absent,
            });
            router.get("/", |request| {
                request.state.note("called");
                request.reply("hello")
            });
            router.post("/publish", |request| request.reply("published"));
            router.get("/later", |request| {
                let responder = request.reply_later();
                request
                    .reactor
                    .next_tick(move |cx| cx.reactor.reply(responder, "at last"));
            });
            router.get("/never", |request| request.reply_later());
            router.get("/panic", |_| panic!("of a test"));
            router.get("/forgotten", |_| ());
            router.get("/events", |request| request.event_stream().subscribe("t"));
            router.get("/ticks", |request| request.stream("text/plain"));
            router.websocket("/ws", |_| {});
        })
    })
}

fn with_origin(request: &str, origin: &str) -> String {
    request.replacen("\r\n\r\n", &format!("\r\nOrigin: {origin}\r\n\r\n"), 1)
}

#[test]
fn pages_of_other_origins_are_refused_unless_they_are_listed() {
    let mut sim = router_with_origins(true);
    let cases = [
        ("https://app.example.org", 200),
        ("HTTPS://APP.example.org", 200),
        ("http://other:3000", 200),
        ("http://h", 200),
        ("https://h", 200),
        ("https://evil.example.org", 403),
        ("https://app.example.org.evil.net", 403),
        ("http://app.example.org", 403),
        ("https://app.example.org:8443", 403),
        ("http://h:81", 403),
        ("null", 403),
        ("", 403),
        ("\u{e9}", 403),
        ("ftp://h", 403),
    ];
    for (origin, status) in cases {
        for request in [get("/"), post("/publish", "x")] {
            let answered = ask(&mut sim, &with_origin(&request, origin));
            assert_eq!(answered.status, status, "{origin:?}");
            assert_eq!(answered.closes(), status == 403, "{origin:?}");
            let allowed = (status == 200).then_some(origin);
            assert_eq!(answered.header("access-control-allow-origin"), allowed);
            assert_eq!(answered.header("vary"), allowed.map(|_| "Origin"));
        }
        for path in ["/events", "/ticks"] {
            let (bytes, _) = exchange(&mut sim, &[with_origin(&get(path), origin).as_bytes()]);
            let answered = answer(&bytes);
            assert_eq!(answered.status, status, "{path} {origin:?}");
            let allowed = (status == 200).then_some(origin);
            assert_eq!(answered.header("access-control-allow-origin"), allowed);
        }
    }
    let called = cases.iter().filter(|(_, status)| *status == 200).count();
    assert_eq!(
        sim.state().lines.len(),
        called,
        "a refused request reaches no route"
    );

    assert!(
        sim.try_websocket("/ws", &[("Origin", "https://app.example.org")])
            .is_ok()
    );
    assert!(
        sim.try_websocket("/ws", &[("Origin", "http://sim")])
            .is_ok()
    );
    assert!(sim.try_websocket("/ws", &[]).is_ok());
    let refused = sim.try_websocket("/ws", &[("Origin", "https://evil.example.org")]);
    assert!(refused.is_err_and(|answer| answer.starts_with("HTTP/1.1 403")));
}

#[test]
fn serving_requests_without_an_origin_is_configurable() {
    for (absent, status) in [(true, 200), (false, 403)] {
        let mut sim = router_with_origins(absent);
        let answered = ask(&mut sim, &get("/"));
        assert_eq!(answered.status, status);
        assert_eq!(answered.header("access-control-allow-origin"), None);
        assert_eq!(sim.try_websocket("/ws", &[]).is_ok(), absent);
    }
}

#[test]
fn the_host_of_an_absolute_target_overrides_the_header() {
    let mut sim = router_with_origins(true);
    let request = "GET http://h/ HTTP/1.1\r\nHost: evil\r\nOrigin: http://evil\r\n\r\n";
    assert_eq!(ask(&mut sim, request).status, 403);
    let request = "GET http://h/ HTTP/1.1\r\nHost: evil\r\nOrigin: http://h\r\n\r\n";
    assert_eq!(ask(&mut sim, request).status, 200);
}

#[test]
fn a_foreign_origin_is_refused_before_its_body_is_read() {
    let mut sim = router_with_origins(true);
    let request = format!("POST /publish HTTP/1.1\r\n{HOST}Content-Length: 1000\r\n\r\n");
    let stream = sim.connect();
    stream.write(with_origin(&request, "https://evil.example.org"));
    sim.settle();
    let refused = answer(&stream.read());
    assert!(refused.status == 403 && refused.closes());
}

#[test]
fn a_preflight_is_answered_with_the_allowed_methods_and_headers() {
    let mut sim = router_with_origins(true);
    let preflight = |origin: &str| {
        format!(
            "OPTIONS /publish HTTP/1.1\r\n{HOST}Origin: {origin}\r\n\
             Access-Control-Request-Method: POST\r\n\
             Access-Control-Request-Headers: authorization\r\n\r\n"
        )
    };
    let allowed = ask(&mut sim, &preflight("https://app.example.org"));
    assert_eq!(allowed.status, 204);
    let headers = [
        ("access-control-allow-origin", "https://app.example.org"),
        ("access-control-allow-methods", "POST, OPTIONS"),
        ("access-control-allow-headers", "authorization"),
    ];
    for (name, value) in headers {
        assert_eq!(allowed.header(name), Some(value), "{name}");
    }
    let refused = ask(&mut sim, &preflight("https://evil.example.org"));
    assert_eq!(refused.status, 403);
    assert_eq!(refused.header("access-control-allow-methods"), None);
}

#[test]
fn a_later_reply_allows_the_origin_of_its_request() {
    let mut sim = router_with_origins(true);
    let origin = "https://app.example.org";
    let answered = ask(&mut sim, &with_origin(&get("/later"), origin));
    assert_eq!(answered.body, b"at last");
    assert_eq!(answered.header("access-control-allow-origin"), Some(origin));
    assert_eq!(answered.header("vary"), Some("Origin"));
    let answered = ask(&mut sim, &get("/later"));
    assert_eq!(answered.header("access-control-allow-origin"), None);
}

#[test]
fn a_failure_answer_allows_the_origin_of_its_request() {
    let mut sim = router_with_origins(true);
    sim.catch_panics(true);
    let origin = "https://app.example.org";
    for (path, status) in [("/never", 503), ("/panic", 500), ("/forgotten", 500)] {
        let stream = sim.connect();
        stream.write(with_origin(&get(path), origin));
        sim.advance(seconds(61));
        let failed = answer(&stream.read());
        assert_eq!(failed.status, status, "{path}");
        assert_eq!(
            failed.header("access-control-allow-origin"),
            Some(origin),
            "{path}"
        );
    }
    // Refusals of a body that is too long or never comes allow the origin too.
    let post = |length: usize| {
        let request = format!("POST /publish HTTP/1.1\r\n{HOST}Content-Length: {length}\r\n\r\n");
        with_origin(&request, origin)
    };
    for (request, status) in [(post(1 << 30), 413), (post(9), 408)] {
        let stream = sim.connect();
        stream.write(request);
        sim.advance(seconds(120));
        let failed = answer(&stream.read());
        assert_eq!(failed.status, status);
        assert_eq!(failed.header("access-control-allow-origin"), Some(origin));
    }
    // Bytes that are no request have no origin.
    let answered = ask(&mut sim, &with_origin("nonsense\r\n", origin));
    assert_eq!(answered.header("access-control-allow-origin"), None);
}

#[test]
fn a_router_for_any_origin_answers_with_an_asterisk() {
    let mut sim = server();
    let answered = ask(&mut sim, &with_origin(&get("/"), "https://anyone"));
    assert_eq!(answered.header("access-control-allow-origin"), Some("*"));
    assert_eq!(
        ask(&mut sim, &get("/")).header("access-control-allow-origin"),
        None
    );
}

#[test]
fn two_origins_in_one_request_are_400() {
    for absent in [true, false] {
        let mut sim = router_with_origins(absent);
        let two = with_origin(
            &with_origin(&get("/"), "https://app.example.org"),
            "https://app.example.org",
        );
        let answered = ask(&mut sim, &two);
        assert!(answered.status == 400 && answered.closes());
        assert!(sim.state().lines.is_empty());
    }
    let mut sim = server();
    let two = with_origin(&with_origin(&get("/"), "http://a"), "http://b");
    assert_eq!(ask(&mut sim, &two).status, 400);
}
