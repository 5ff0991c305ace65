//! Log lines, the page, and draining.

use std::collections::BTreeSet;

use waterwheel::hub::{self, Access};
use waterwheel::{Received, Sim, SimStream};

use crate::log_lines;
use crate::support::{answer, get, post};
use crate::{Reader, ask, open, plain, publish, published, seconds, subscribed, with};

// Each refusal was once a line. So a stranger could fill the log, and block the hub if its log is a
// pipe that no process reads.
#[test]
fn refusals_are_logged_once_a_minute_with_their_count() {
    log_lines::capture();
    let access = Access {
        is_loopback: true,
        ..Access::default()
    };
    let mut sim = Sim::new((), move |reactor| {
        reactor.http("127.0.0.1:4711", |router| hub::mount(router, &access))
    });
    let by_host = "GET / HTTP/1.1\r\nHost: minute.example.org\r\n\r\n";
    let by_origin = with(
        "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "Origin: http://minute.example.org",
    );
    for (request, name) in [
        (by_host, "for host \"minute.example.org\""),
        (&by_origin, "origin \"http://minute.example.org\""),
    ] {
        let said = || log_lines::with(name);
        assert_refused(&mut sim, request, 100);
        assert_eq!(said().len(), 1, "{:?}", said());
        assert!(said()[0].starts_with("WARN ") && !said()[0].contains("more"));
        // A library names its own field, not an option of a program that uses it.
        assert!(said()[0].contains("`Access::origins`"), "{:?}", said());
        sim.advance(seconds(59));
        assert_refused(&mut sim, request, 10);
        assert_eq!(said().len(), 1, "{:?}", said());
        sim.advance(seconds(1));
        assert_refused(&mut sim, request, 2);
        assert_eq!(said().len(), 2, "{:?}", said());
        assert!(said()[1].ends_with("; 109 more since the last line"));
    }
}

fn assert_refused(sim: &mut Sim<()>, request: &str, count: usize) {
    for _ in 0..count {
        assert_eq!(ask(sim, request).status, 403);
    }
}

#[test]
fn the_page_loads_nothing_from_elsewhere() {
    let mut sim = open();
    let page = ask(&mut sim, &get("/"));
    assert_eq!(page.status, 200);
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let policy = page.header("content-security-policy").expect("a policy");
    assert!(policy.starts_with("default-src 'none'"));
    let text = page.text();
    let scripts: Vec<_> = text.matches("<script").collect();
    assert_eq!(scripts.len(), 1);
    assert!(text.contains("<script type=\"module\" src=\"page.js\"></script>"));
    assert!(policy.contains("script-src 'self';"));
    for outside in [
        "src=\"http",
        "src=\"/",
        "@import",
        "url(http",
        "href=\"http",
        "href=\"/",
    ] {
        assert!(!text.contains(outside), "{outside}");
    }
}

#[test]
fn a_draining_hub_is_healthy_and_not_ready() {
    let mut sim = open();
    assert_eq!(ask(&mut sim, &get("/healthz")).text(), "ok\n");
    assert_eq!(ask(&mut sim, &get("/readyz")).status, 200);
    // A drain ends connections in the order in which they came, so these have time to ask.
    let streams: Vec<SimStream> = (0..20).map(|_| sim.connect()).collect();
    sim.reactor().drain(seconds(10));
    let paths = ["/readyz", "/healthz"];
    for (stream, path) in streams[10..].iter().zip(paths) {
        stream.write(get(path));
    }
    sim.advance(seconds(1));
    let ready = answer(&streams[10].read());
    assert!(ready.status == 503 && ready.closes());
    let healthy = answer(&streams[11].read());
    assert!(healthy.status == 200 && healthy.closes());
}

// The listeners were closed when the drain began, so that a back end could not publish to the
// clients that were still there.
#[test]
fn a_draining_hub_serves_requests_until_the_window_ends() {
    let mut sim = open();
    let sockets: Vec<_> = (0..4).map(|_| plain(&mut sim, &["t"])).collect();
    sim.reactor().drain(seconds(10));
    sim.advance(seconds(4));
    let answered = ask(&mut sim, &post("/publish?topic=t", "late"));
    assert!(answered.closes());
    assert_eq!(published(&answered).1, 2);
    assert_eq!(sockets[3].received(), ["late"]);
    assert_eq!(ask(&mut sim, &get("/readyz")).status, 503);
    assert_eq!(ask(&mut sim, &get("/healthz")).status, 200);
    let upgrade = "GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    let refused = ask(&mut sim, upgrade);
    assert_eq!(
        (refused.status, refused.header("retry-after")),
        (503, Some("1"))
    );

    // A connection that came meanwhile and asks for nothing has to go at the end of the window.
    let silent = sim.connect();
    sim.advance(seconds(7));
    assert!(silent.is_closed());
}

// A browser gives up for ever at a status other than 200.
#[test]
fn a_new_event_stream_of_a_draining_hub_ends_with_a_time_to_come_back() {
    let mut sim = open();
    let _socket = plain(&mut sim, &["t"]);
    let _other = plain(&mut sim, &["t"]);
    sim.reactor().drain(seconds(10));
    let request = get("/events?topic=t");
    let mut delays = BTreeSet::new();
    for accept in [
        "Accept: text/event-stream",
        "Accept: text/html;q=0.5, Text/Event-Stream;q=0.9, */*",
        "Accept: text/event-stream",
    ] {
        let ended = ask(&mut sim, &with(&request, accept));
        assert!(ended.status == 200 && ended.is_whole && ended.closes());
        assert_eq!(ended.header("content-type"), Some("text/event-stream"));
        let delay = ended.text().strip_prefix("retry: ").expect("a delay");
        let delay: u64 = delay.trim_end().parse().expect("milliseconds");
        assert!((1000..=10_000).contains(&delay), "{delay}");
        delays.insert(delay);
    }
    assert!(1 < delays.len(), "not all in the same moment");
    for request in [request.clone(), with(&request, "Accept: */*")] {
        let refused = ask(&mut sim, &request);
        assert_eq!(
            (refused.status, refused.header("retry-after")),
            (503, Some("1"))
        );
    }
}

#[test]
fn a_draining_hub_says_goodbye_on_every_transport() {
    let mut sim = open();
    let socket = plain(&mut sim, &["t"]);
    let json = subscribed(&mut sim, "t");
    let mut reader = Reader::open(&mut sim, "/events?topic=t");
    assert_eq!(publish(&mut sim, "t", "last").1, 3);
    sim.reactor().drain(seconds(10));
    sim.advance(seconds(10));
    for socket in [&socket, &json] {
        let events = socket.take_events();
        assert!(
            matches!(events[0], Received::Text(_)),
            "a publication before the drain"
        );
        assert_eq!(socket.close_code(), Some(1001));
        socket.close(1001);
    }
    assert_eq!(reader.events().len(), 1);
    reader.bytes.extend(reader.stream.read());
    assert!(answer(&reader.bytes).is_whole, "the last chunk");
    assert!(reader.stream.is_closed());
    reader.stream.close();
    sim.settle();
    assert!(!sim.is_running(), "all connections have ended");
}
