//! The bytes of an answer, its headers, and guards.

use waterwheel::{Reply, Router, Sim, Status};

use crate::support::{answers_to, get};
use crate::{Notes, ask, exchange, seconds, server};

#[test]
fn an_answer_has_exactly_these_bytes() {
    let mut sim = server();
    let (bytes, _) = exchange(&mut sim, &[get("/").as_bytes()]);
    // The simulation began at 1,000,000,000 seconds after 1970.
    let expected = "HTTP/1.1 200 OK\r\nDate: Sun, 09 Sep 2001 01:46:40 GMT\r\n\
                    Content-Type: text/plain; charset=utf-8\r\nContent-Length: 5\r\n\r\nhello";
    assert_eq!(String::from_utf8_lossy(&bytes), expected);
    sim.advance(seconds(61));
    let (bytes, _) = exchange(&mut sim, &[b"junk\r\n\r\n"]);
    let expected = "HTTP/1.1 400 Bad Request\r\nDate: Sun, 09 Sep 2001 01:47:41 GMT\r\n\
                    Content-Type: text/plain; charset=utf-8\r\nContent-Length: 16\r\n\
                    Connection: close\r\n\r\n400 Bad Request\n";
    assert_eq!(String::from_utf8_lossy(&bytes), expected);
}

#[test]
fn a_header_that_would_split_the_answer_is_an_error() {
    let bad = [
        ("X-A", "a\r\nX-B: c"),
        ("X-A", "a\nb"),
        ("X-A", "a\rb"),
        ("X-A", "a\0b"),
        ("X-A\r\nX-B", "c"),
        ("X A", "b"),
        ("X-A:", "b"),
        ("", "b"),
        ("Content-Length", "5"),
        ("transfer-encoding", "chunked"),
        ("CONNECTION", "close"),
        ("Date", "today"),
    ];
    for (name, value) in bad {
        assert!(
            Reply::new(Status::OK).try_header(name, value).is_err(),
            "{name:?} {value:?}"
        );
        assert!(
            Reply::check_header(name, value).is_err(),
            "{name:?} {value:?}"
        );
    }
    let mut sim = Sim::new((), |reactor| {
        reactor.http("0.0.0.0:80", |router| {
            router.get("/type", |request| {
                request.reply(Reply::from("fine").content_type("a/b\r\nSet-Cookie: c"))
            });
            router.get("/", |request| {
                let value = request.query("value").unwrap_or_default();
                match Reply::new(Status::OK).try_header("X-Value", value) {
                    Ok(reply) => request.reply(reply.body("fine")),
                    Err(error) => request.reply((Status::BAD_REQUEST, error.to_string())),
                }
            });
        })
    });
    let fine = ask(&mut sim, &get("/?value=a%09b%C3%A9"));
    assert_eq!(
        (fine.status, fine.header("x-value")),
        (200, Some("a\tb\u{e9}"))
    );
    let refused = ask(&mut sim, &get("/?value=a%0d%0aSet-Cookie:%20b"));
    assert_eq!((refused.status, refused.header("set-cookie")), (400, None));
    let untyped = ask(&mut sim, &get("/type"));
    assert_eq!(
        (untyped.text(), untyped.header("set-cookie")),
        ("fine", None)
    );
}

#[test]
fn a_guard_runs_before_every_route_and_for_unknown_paths() {
    let mut sim = Sim::new(Notes::default(), |reactor| {
        reactor.http("0.0.0.0:80", |router: &mut Router<Notes>| {
            router.guard(|request| match request.query("who").as_deref() {
                Some("stranger") => Err((Status::UNAUTHORIZED, "who are you?").into()),
                Some("known") => {
                    request.reply("at the door");
                    Ok(())
                }
                _ => Ok(()),
            });
            router.get("/", |request| {
                request.state.note("called");
                request.reply("inside")
            });
        })
    });
    let cases = [
        ("/", 200, "inside"),
        ("/?who=stranger", 401, "who are you?"),
        ("/?who=known", 200, "at the door"),
        ("/nowhere?who=known", 200, "at the door"),
        ("/nowhere", 404, "404 Not Found\n"),
    ];
    for (target, status, text) in cases {
        let stream = sim.connect();
        stream.write(get(target).repeat(2));
        sim.settle();
        let answers = answers_to(&[], &stream.read());
        assert_eq!(answers.len(), 2, "{target}");
        for answer in answers {
            assert_eq!((answer.status, answer.text()), (status, text), "{target}");
        }
    }
    assert_eq!(sim.state().lines, ["called"; 2]);
}

#[test]
fn a_content_type_among_the_headers_replaces_the_usual_one() {
    let mut sim = Sim::new((), |reactor| {
        reactor.http("0.0.0.0:80", |router| {
            router.get("/:name", |request| {
                let kind = format!("image/{}", request.param("name").unwrap_or_default());
                let reply = Reply::new(Status::OK).header("content-TYPE", kind);
                request.reply(reply.body("x"))
            });
        })
    });
    let (bytes, _) = exchange(&mut sim, &[get("/png").as_bytes()]);
    let text = String::from_utf8_lossy(&bytes).to_lowercase();
    assert_eq!(text.matches("content-type").count(), 1, "{text}");
    assert!(text.contains("content-type: image/png\r\n"), "{text}");
}

#[test]
fn an_informational_status_is_no_answer() {
    let mut sim = Sim::new((), |reactor| {
        reactor.http("0.0.0.0:80", |router: &mut Router<()>| {
            router.get("/hints", |request| request.reply(Status::EARLY_HINTS));
            router.get("/later", |request| {
                let responder = request.reply_later();
                let switch = Reply::new(Status::SWITCHING_PROTOCOLS).body("not the peer's to see");
                request.reactor.reply(responder, switch)
            });
        })
    });
    for path in ["/hints", "/later"] {
        let answered = ask(&mut sim, &get(path));
        assert_eq!(answered.status, 500, "{path}");
        assert_eq!(answered.text(), "500 Internal Server Error\n", "{path}");
    }
}

#[test]
fn a_large_body_is_sent_whole_whoever_owns_it() {
    let body: Vec<u8> = (0..1_000_000_u32).map(|n| n as u8).collect();
    let sent = body.clone();
    let mut sim = Sim::new((), |reactor| {
        reactor.http("0.0.0.0:80", move |router: &mut Router<()>| {
            router.get("/", move |request| {
                let reply = Reply::new(Status::OK).content_type("image/png");
                request.reply(reply.body(sent.clone()))
            });
        })
    });
    for request in [get("/"), get("/").replacen("GET", "HEAD", 1)] {
        // The head of a later answer comes behind the whole body.
        let (bytes, _) = exchange(&mut sim, &[request.repeat(2).as_bytes()]);
        let is_head = request.starts_with("HEAD");
        let method = if is_head { "HEAD" } else { "GET" };
        let all = answers_to(&[method; 2], &bytes);
        assert_eq!(all.len(), 2);
        for answered in all {
            assert_eq!(answered.header("content-length"), Some("1000000"));
            assert!(answered.body == if is_head { &[][..] } else { &body[..] });
        }
    }
}

#[test]
fn an_answer_is_made_of_a_text_or_of_bytes() {
    let mut sim = Sim::new((), |reactor| {
        reactor.http("0.0.0.0:80", |router: &mut Router<()>| {
            // A text that borrows from the request.
            router.get("/hello/:name", |request| {
                let name = request.param("name").unwrap_or_default();
                request.reply(name)
            });
            router.get("/bytes", |request| request.reply(vec![1_u8, 2]));
            router.get("/status", |request| {
                request.reply((Status::CREATED, vec![1_u8, 2]))
            });
            router.get("/type/:type", |request| {
                let kind = format!("image/{}", request.param("type").unwrap_or_default());
                request.reply(Reply::from(vec![1_u8]).content_type(kind))
            });
            router.get("/header", |request| {
                let reply = Reply::from("x").header("content-type", "a/b");
                request.reply(reply.header("X-A", "1").header("X-B", 2.to_string()))
            });
        })
    });
    let text = "text/plain; charset=utf-8";
    let cases: [(&str, u16, &str, &[u8]); 5] = [
        ("/hello/Ada", 200, text, b"Ada"),
        ("/bytes", 200, "application/octet-stream", &[1, 2]),
        ("/status", 201, "application/octet-stream", &[1, 2]),
        ("/type/png", 200, "image/png", &[1]),
        ("/header", 200, "a/b", b"x"),
    ];
    for (path, status, content_type, body) in cases {
        let answered = ask(&mut sim, &get(path));
        assert_eq!(
            (answered.status, answered.header("content-type")),
            (status, Some(content_type)),
            "{path}"
        );
        assert_eq!(answered.body, body, "{path}");
    }
    let answered = ask(&mut sim, &get("/header"));
    assert_eq!(answered.header("x-a"), Some("1"));
    assert_eq!(answered.header("x-b"), Some("2"));
}

#[test]
#[should_panic(expected = "the header \"X-A\": \"a\\r\\nb\" cannot be sent")]
fn a_constant_header_that_cannot_be_sent_is_a_mistake_of_the_program() {
    let _ = Reply::from("x").header("X-A", "a\r\nb");
}

#[test]
fn a_default_header_is_on_every_answer_that_has_none_of_its_name() {
    let mut sim = Sim::new((), |reactor| {
        reactor.http("0.0.0.0:80", |router: &mut Router<()>| {
            router.default_header("X-Frame-Options", "DENY");
            router.default_header("Cache-Control", "no-store");
            router.guard(|request| match request.query("guard") {
                Some(_) => Err(Status::UNAUTHORIZED.into()),
                None => Ok(()),
            });
            router.get("/", |request| request.reply("hello"));
            router.get("/own", |request| {
                request.reply(Reply::from("x").header("cache-control", "max-age=60"))
            });
            router.get("/panic", |_| panic!("of a test"));
            router.get("/stream", |request| {
                let id = request.stream("text/plain");
                request.reactor.finish_body(id)
            });
            router.get("/events", |request| {
                request.event_stream();
            });
            router.websocket("/ws", |_| ());
        })
    });
    sim.catch_panics(true);
    let cases = [
        ("/", 200, "no-store"),
        ("/own", 200, "max-age=60"),
        ("/nowhere", 404, "no-store"),
        ("/?guard=1", 401, "no-store"),
        ("/panic", 500, "no-store"),
        ("/stream", 200, "no-store"),
        ("/ws", 426, "no-store"),
        ("/events", 200, "no-cache, no-transform"),
    ];
    for (path, status, cache) in cases {
        let answered = ask(&mut sim, &get(path));
        assert_eq!(answered.status, status, "{path}");
        assert_eq!(answered.header("x-frame-options"), Some("DENY"), "{path}");
        assert_eq!(answered.header("cache-control"), Some(cache), "{path}");
    }
    let client = sim.websocket("/ws");
    let head = client.head();
    assert!(head.contains("\r\nX-Frame-Options: DENY\r\n"), "{head}");
}
