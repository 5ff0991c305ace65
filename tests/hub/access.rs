//! Tokens, host names and origins: the rights to publish and to use patterns.

use serde_json::json;
use waterwheel::hub::{Access, SUBPROTOCOL, mount};
use waterwheel::{ListenOptions, Sim};

use crate::support::{answer, get, post};
use crate::{ask, envelope, guarded, hub, say, seconds, subscribed, values, with};

/// Whether a request with this header may publish by POST, and use a pattern on an event stream.
fn rights(sim: &mut Sim<()>, header: Option<&str>, query: &str) -> (bool, bool) {
    let local = |request: String| {
        let request = request.replacen("Host: h\r\n", "Host: localhost\r\n", 1);
        match header {
            Some(line) => with(&request, line),
            None => request,
        }
    };
    let publishes = ask(sim, &local(post(&format!("/publish?topic=t{query}"), "x")));
    let streams = ask(
        sim,
        &local(get(&format!("/events?topic=a&topic=t*{query}"))),
    );
    for answer in [&publishes, &streams] {
        assert!(matches!(answer.status, 200 | 401), "{}", answer.status);
        let challenge = (answer.status == 401).then_some("Bearer");
        assert_eq!(answer.header("www-authenticate"), challenge);
    }
    // Subscribing to a name needs no token.
    assert_eq!(ask(sim, &local(get("/events?topic=t"))).status, 200);
    (publishes.status == 200, streams.status == 200)
}

/// Whether a WebSocket with this header and query may use a pattern without the envelope, a pattern
/// with it, and publish with it. A handshake with a wrong token, which waits for its answer, has no right;
/// `guesses.rs` goes on with it.
fn socket_rights(sim: &mut Sim<()>, header: Option<(&str, &str)>, query: &str) -> [bool; 3] {
    let path = format!("/ws{query}");
    let mut headers: Vec<(&str, &str)> = header.into_iter().collect();
    let wrong_tokens = sim.reactor().stats().wrong_tokens;
    let plain = match sim.try_websocket(&path, &headers) {
        Ok(plain) => plain,
        Err(answer) => {
            assert_eq!(answer, "");
            assert_eq!(sim.reactor().stats().wrong_tokens, wrong_tokens + 1);
            return [false; 3];
        }
    };
    plain.send("name");
    plain.send("t*");
    sim.settle();
    plain.take_events();
    assert!(matches!(plain.close_code(), None | Some(1008)));

    headers.push(("Sec-WebSocket-Protocol", SUBPROTOCOL));
    let socket = sim.try_websocket(&path, &headers).expect("an upgrade");
    let said = say(sim, &socket, json!({"subscribe": "name"}));
    assert_eq!(
        said,
        [json!({"subscribed": "name"})],
        "a name needs no token"
    );
    let said = say(sim, &socket, json!({"subscribe": "t*"}));
    let is_subscribed = said == [json!({"subscribed": "t*"})];
    assert!(is_subscribed || said[0]["error"].is_string());
    let said = say(sim, &socket, json!({"publish": "name", "data": 1}));
    let is_published = said[0]["topic"] == "name";
    assert!(is_published || said[0]["error"].is_string());
    [plain.close_code().is_none(), is_subscribed, is_published]
}

#[test]
fn publishing_and_patterns_need_the_token_or_a_local_listener() {
    let token = || Some("secret".to_owned());
    let loopback = Access {
        is_loopback: true,
        ..Access::default()
    };
    let unix = Access {
        is_unix: true,
        ..Access::default()
    };
    let open = Access {
        open: true,
        ..Access::default()
    };
    let with_token = |access: &Access| Access {
        token: token(),
        ..access.clone()
    };
    let elsewhere = Access::default();
    let cases = [
        ("loopback", loopback.clone(), None, true),
        ("unix", unix.clone(), None, true),
        ("open", open.clone(), None, true),
        ("elsewhere", elsewhere.clone(), None, false),
        (
            "elsewhere, a guess",
            elsewhere.clone(),
            Some("Bearer secret"),
            false,
        ),
        (
            "elsewhere, an empty guess",
            elsewhere.clone(),
            Some("Bearer "),
            false,
        ),
        ("loopback with a token", with_token(&loopback), None, false),
        ("unix with a token", with_token(&unix), None, false),
        ("open with a token", with_token(&open), None, true),
        ("none given", with_token(&elsewhere), None, false),
        ("given", with_token(&elsewhere), Some("Bearer secret"), true),
        (
            "given on loopback",
            with_token(&loopback),
            Some("Bearer secret"),
            true,
        ),
        (
            "any case of the scheme",
            with_token(&elsewhere),
            Some("bEARER secret"),
            true,
        ),
        (
            "another scheme",
            with_token(&elsewhere),
            Some("Basic secret"),
            false,
        ),
        ("no scheme", with_token(&elsewhere), Some("secret"), false),
        (
            "any case of the token",
            with_token(&elsewhere),
            Some("Bearer Secret"),
            false,
        ),
        (
            "a longer token",
            with_token(&elsewhere),
            Some("Bearer secret2"),
            false,
        ),
        (
            "a shorter token",
            with_token(&elsewhere),
            Some("Bearer secre"),
            false,
        ),
        (
            "an empty token",
            with_token(&elsewhere),
            Some("Bearer "),
            false,
        ),
    ];
    for (name, access, given, expected) in cases {
        let is_loopback = access.is_loopback;
        let mut sim = hub(access);
        let line = given.map(|given| format!("Authorization: {given}"));
        let allowed = rights(&mut sim, line.as_deref(), "");
        assert_eq!(allowed, (expected, expected), "{name}");
        // A simulated WebSocket names a host that a loopback listener does not serve.
        if !is_loopback {
            let header = given.map(|given| ("Authorization", given));
            let allowed = socket_rights(&mut sim, header, "");
            assert_eq!(allowed, [expected; 3], "{name}");
        }
    }
}

#[test]
fn the_token_is_taken_from_the_query_too() {
    for (query, expected) in [
        ("token=secret", true),
        ("token=%73ecret", true),
        ("token=secre", false),
        ("token=", false),
        ("tokens=secret", false),
    ] {
        let mut sim = guarded();
        let allowed = rights(&mut sim, None, &format!("&{query}"));
        assert_eq!(allowed, (expected, expected), "{query}");
        let allowed = socket_rights(&mut sim, None, &format!("?{query}"));
        assert_eq!(allowed, [expected; 3], "{query}");
    }
}

#[test]
fn the_envelope_takes_the_token_as_a_message() {
    let mut sim = guarded();
    let socket = subscribed(&mut sim, "t");
    let other = subscribed(&mut sim, "t");
    let publication = json!({"publish": "t", "data": 1});
    let refusals = [
        json!({"subscribe": "t*"}),
        publication.clone(),
        json!({"auth": "wrong"}),
        json!({"auth": ""}),
        publication.clone(),
    ];
    for about in refusals {
        let mut said = say(&mut sim, &socket, &about);
        if said.is_empty() {
            sim.advance(seconds(1));
            said = values(&socket);
        }
        assert_eq!(said.len(), 1);
        assert!(said[0]["error"].is_string(), "{}", said[0]);
        // A token is not sent back, because a page may show the answer.
        let expected = about.get("auth").is_none().then_some(&about);
        assert_eq!(said[0].get("about"), expected);
    }
    let said = say(&mut sim, &socket, json!({"auth": "secret"}));
    assert_eq!(said, [json!({"authorized": {}})]);
    let said = say(&mut sim, &socket, &publication);
    assert_eq!(said, [json!({"topic": "t", "id": "1:1", "data": 1})]);
    let said = say(&mut sim, &socket, json!({"subscribe": "t*"}));
    assert_eq!(said, [json!({"subscribed": "t*"})]);

    // The token holds for one connection only.
    assert_eq!(values(&other).len(), 1);
    let said = say(&mut sim, &other, &publication);
    assert!(said[0]["error"].is_string());
    // A wrong token afterwards does not take the right away.
    say(&mut sim, &socket, json!({"auth": "wrong"}));
    sim.advance(seconds(1));
    assert_eq!(values(&socket)[0]["code"], "unauthorized");
    let said = say(&mut sim, &socket, &publication);
    assert_eq!(said[0]["id"], "1:2");
    // A later connection, perhaps in the same place of the table, does not inherit the right.
    socket.vanish();
    sim.settle();
    let later = envelope(&mut sim);
    let said = say(&mut sim, &later, &publication);
    assert!(said[0]["error"].is_string());
}

/// One request of each kind that the hub serves, for this host name.
fn requests(host: &str) -> Vec<String> {
    let upgrade = "GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let all = [
        get("/"),
        get("/healthz"),
        get("/readyz"),
        get("/events?topic=t"),
        post("/publish?topic=t", "x"),
        upgrade.to_owned(),
        get("/nowhere"),
    ];
    let line = format!("Host: {host}\r\n");
    all.map(|request| request.replacen("Host: h\r\n", &line, 1))
        .into()
}

/// The statuses of those requests when all are served.
const SERVED: [u16; 7] = [200, 200, 200, 200, 200, 101, 404];

fn statuses(sim: &mut Sim<()>, host: &str, line: Option<&str>) -> Vec<u16> {
    let requests = requests(host).into_iter();
    let requests = requests.map(|request| match line {
        Some(line) => with(&request, line),
        None => request,
    });
    requests.map(|request| ask(sim, &request).status).collect()
}

#[test]
fn a_loopback_listener_serves_loopback_names_only() {
    let local = Access {
        is_loopback: true,
        open: true,
        origins: vec![
            "https://live.example.org".into(),
            "http://other:3000".into(),
        ],
        ..Access::default()
    };
    let mut sim = hub(local);
    for host in [
        "localhost",
        "localhost:8080",
        "LocalHost:8080",
        "localhost.",
        "app.localhost:3000",
        "127.0.0.1",
        "127.0.0.1:8080",
        "127.3.2.1",
        "[::1]",
        "[::1]:8080",
        "live.example.org",
        "other:3000",
    ] {
        assert_eq!(statuses(&mut sim, host, None), SERVED, "{host}");
    }
    for host in [
        "rebound.example.net",
        "rebound.example.net:8080",
        "localhost.example.net",
        "127.0.0.1.example.net",
        "notlocalhost",
        "192.168.0.1",
        "0.0.0.0",
        "[::]",
        "[::ffff:1.2.3.4]",
        "live.example.org.example.net",
        "other:3001",
    ] {
        assert_eq!(statuses(&mut sim, host, None), [403; 7], "{host}");
        // With DNS rebinding the browser takes the page and the hub for the same origin.
        let origin = format!("Origin: http://{host}");
        assert_eq!(statuses(&mut sim, host, Some(&origin)), [403; 7], "{host}");
    }
    let absolute = "POST http://rebound.example.net/publish?topic=t HTTP/1.1\r\n\
                    Host: localhost\r\nContent-Length: 1\r\n\r\nx";
    let refused = ask(&mut sim, absolute);
    assert_eq!((refused.status, refused.closes()), (403, true));
}

#[test]
fn a_public_listener_serves_any_host_name() {
    for access in [
        Access {
            open: true,
            ..Access::default()
        },
        Access {
            is_unix: true,
            ..Access::default()
        },
    ] {
        let mut sim = hub(access);
        assert_eq!(statuses(&mut sim, "hub.example.org", None), SERVED);
    }
}

#[test]
fn pages_of_other_origins_are_refused_on_every_route() {
    let access = Access {
        open: true,
        is_loopback: true,
        origins: vec!["https://app.example.org".into()],
        ..Access::default()
    };
    let mut sim = hub(access);
    for origin in [
        "https://app.example.org",
        "http://localhost:8080",
        "https://localhost:8080",
    ] {
        let line = format!("Origin: {origin}");
        assert_eq!(
            statuses(&mut sim, "localhost:8080", Some(&line)),
            SERVED,
            "{origin}"
        );
    }
    for origin in [
        "https://evil.example.org",
        "http://app.example.org",
        "http://localhost",
        "http://localhost:3000",
        "http://127.0.0.1:8080",
        "null",
    ] {
        let line = format!("Origin: {origin}");
        assert_eq!(
            statuses(&mut sim, "localhost:8080", Some(&line)),
            [403; 7],
            "{origin}"
        );
    }
    assert_eq!(
        sim.reactor().stats().publications,
        3,
        "of those that were served"
    );

    // A browser sends a preflight before JSON or a token, and a listed page may send it.
    let preflight = "OPTIONS /publish?topic=t HTTP/1.1\r\nHost: localhost\r\n\
                     Origin: https://app.example.org\r\nAccess-Control-Request-Method: POST\r\n\
                     Access-Control-Request-Headers: authorization, content-type\r\n\r\n";
    let allowed = ask(&mut sim, preflight);
    assert_eq!(allowed.status, 204);
    for (name, value) in [
        ("access-control-allow-origin", "https://app.example.org"),
        ("access-control-allow-methods", "POST, OPTIONS"),
        (
            "access-control-allow-headers",
            "authorization, content-type",
        ),
    ] {
        assert_eq!(allowed.header(name), Some(value));
    }
    let line = "Origin: https://app.example.org";
    let request = with(&post("/publish?topic=t", "x"), line);
    let request = request.replacen("Host: h", "Host: localhost", 1);
    let allowed = ask(&mut sim, &request);
    assert_eq!(
        allowed.header("access-control-allow-origin"),
        Some("https://app.example.org")
    );
}

#[test]
fn a_publication_without_the_token_is_refused_before_its_body() {
    let mut sim = guarded();
    let cases = [
        ("/publish?topic=t", 401),
        ("/publish?token=secret", 400),
        ("/publish?token=secret&topic=", 400),
        ("/nowhere", 404),
        ("/healthz", 405),
        ("/publish?topic=t&token=secret", 100),
    ];
    for (target, status) in cases {
        let head = format!(
            "POST {target} HTTP/1.1\r\nHost: h\r\nContent-Length: 500000\r\nExpect: 100-continue\r\n\r\n"
        );
        let stream = sim.connect();
        stream.write(head);
        sim.settle();
        let text = stream.read_text();
        assert!(
            text.starts_with(&format!("HTTP/1.1 {status} ")),
            "{target}: {text}"
        );
        stream.close();
    }
}

#[test]
fn a_local_hub_behind_a_proxy_needs_a_token() {
    let local = Access {
        is_loopback: true,
        ..Access::default()
    };
    let behind = Access {
        origins: vec!["https://live.example.org".into()],
        ..local.clone()
    };
    let publication = post("/publish?topic=t", "x").replace("Host: h", "Host: localhost");
    let mut sim = hub(local);
    assert_eq!(ask(&mut sim, &publication).status, 200);
    for line in [
        "Forwarded: for=203.0.113.1",
        "X-Forwarded-For: 203.0.113.1",
        "X-Forwarded-Host: live.example.org",
        "x-forwarded-proto: https",
        "X-Real-IP: 203.0.113.1",
        "Via: 1.1 proxy",
    ] {
        let answer = ask(&mut sim, &with(&publication, line));
        assert_eq!(answer.status, 401, "{line}");
        let stream = ask(
            &mut sim,
            &with(
                &get("/events?topic=t*").replace("Host: h", "Host: localhost"),
                line,
            ),
        );
        assert_eq!(stream.status, 401, "{line}");
    }
    let headers = [
        ("Sec-WebSocket-Protocol", SUBPROTOCOL),
        ("X-Forwarded-For", "203.0.113.1"),
        ("Host", "localhost"),
    ];
    let socket = sim.try_websocket("/ws", &headers[..2]);
    // A simulated client names the host `sim`, which a loopback address does not serve.
    assert!(socket.is_err());
    let mut sim = hub(behind);
    assert_eq!(ask(&mut sim, &publication).status, 401);
}

#[test]
fn a_client_on_a_unix_socket_behind_a_proxy_cannot_become_trusted() {
    let mut sim = hub(Access {
        is_unix: true,
        ..Access::default()
    });
    for (forwarded, code) in [
        (None, None),
        (
            Some(("X-Forwarded-For", "203.0.113.1")),
            Some("unauthorized"),
        ),
    ] {
        let mut headers = vec![("Sec-WebSocket-Protocol", SUBPROTOCOL)];
        headers.extend(forwarded);
        let socket = sim.try_websocket("/ws", &headers).expect("an upgrade");
        socket.send(json!({"auth": "guess"}).to_string());
        sim.advance(seconds(1));
        let mut answers = values(&socket);
        answers.extend(say(&mut sim, &socket, json!({"publish": "t", "data": 1})));
        let codes: Vec<_> = answers
            .iter()
            .filter_map(|value| value["code"].as_str().map(str::to_owned))
            .collect();
        let expected: Vec<_> = code.iter().flat_map(|code| [*code; 2]).collect();
        assert_eq!(codes, expected);
    }
}

#[test]
fn a_stranger_sends_short_messages_until_it_is_trusted() {
    let long = |bytes: usize| json!({"publish": "t", "data": "x".repeat(bytes)});
    let mut sim = guarded();
    let stranger = envelope(&mut sim);
    let answers = say(&mut sim, &stranger, long(4000));
    assert_eq!(answers[0]["code"], "unauthorized");
    say(&mut sim, &stranger, long(4096));
    values(&stranger);
    assert_eq!(stranger.close_code(), Some(1009));
    let publisher = envelope(&mut sim);
    say(&mut sim, &publisher, json!({"auth": "secret"}));
    say(&mut sim, &publisher, long(50_000));
    values(&publisher);
    assert_eq!(publisher.close_code(), None);
    assert_eq!(sim.reactor().stats().publications, 1);
}

// Whatever the program that embeds the hub says: behind the listener of a proxy anybody may be the client.
#[test]
fn a_local_hub_is_closed_to_clients_that_a_proxy_names() {
    let access = Access {
        is_loopback: true,
        ..Access::default()
    };
    let mut sim = Sim::new((), move |reactor| {
        let options = ListenOptions::new("127.0.0.1:80").proxy_protocol(true);
        reactor.http(options, |router| mount(router, &access))
    });
    let header = "PROXY TCP4 127.0.0.1 127.0.0.1 4711 80\r\n";
    let local =
        |request: String| header.to_owned() + &request.replace("Host: h", "Host: localhost");
    let client = sim.connect();
    client.write(local(post("/publish?topic=t", "x")));
    sim.settle();
    assert_eq!(answer(&client.read()).status, 401);
    let client = sim.connect();
    client.write(local(get("/events?topic=a*")));
    sim.settle();
    assert_eq!(answer(&client.read()).status, 401);
}
