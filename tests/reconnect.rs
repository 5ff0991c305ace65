//! Clients that connect again: the pauses, which ends are final, messages that are kept meanwhile, and servers that
//! restart under them.

mod support;

use std::cell::RefCell;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use waterwheel::protocol::event_stream::Limits;
use waterwheel::{
    Backoff, ConnId, Event, EventSource, EventSourceSetup, Faults, HttpProxy, KeepLimits,
    ListenerId, Reactor, Reply, Sent, Sim, Status, WebSocketLink,
};

const URL: &str = "ws://localhost:80/feed";

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// A server and its clients, in one reactor.
#[derive(Default)]
struct World {
    listener: Option<ListenerId>,
    /// The open connections of the server.
    served: HashSet<ConnId>,
    /// Messages that the server has got.
    received: Vec<String>,
    /// The callbacks of a client.
    log: Vec<String>,
}

/// Lets the server listen, which answers `close CODE` with that close code.
fn start(sim: &mut Sim<World>) {
    let listener = sim.reactor().websocket("0.0.0.0:80", |ws| {
        ws.on_open(|ws, _| ws.state.served.insert(ws.id));
        ws.on_message(|ws, message| {
            let text = message.to_string();
            if let Some(code) = text.strip_prefix("close ") {
                ws.close_with(code.parse().unwrap(), "as you wish");
            }
            ws.state.received.push(text);
        });
        ws.on_close(|ws, _| ws.state.served.remove(&ws.id));
    });
    sim.state().listener = Some(listener.unwrap());
}

/// The server is gone, and its connections are reset.
fn kill(sim: &mut Sim<World>) {
    let listener = sim.state().listener.take().unwrap();
    assert!(sim.reactor().close_listener(listener));
    for id in std::mem::take(&mut sim.state().served) {
        sim.reactor().reset(id);
    }
    sim.settle();
}

fn world() -> Sim<World> {
    Sim::new(World::default(), |_: &mut Reactor<World>| ())
}

/// A link that logs its callbacks.
fn watched(sim: &mut Sim<World>, backoff: Backoff) -> WebSocketLink<World> {
    let link = sim.reactor().websocket_link(URL, |ws| {
        ws.reconnect(backoff);
        ws.on_open(|ws, _| ws.state.log.push("open".to_owned()));
        ws.on_close(|ws, close| ws.state.log.push(format!("close {close}")));
        ws.on_reconnect(|cx, next| cx.state.log.push(format!("attempt {}", next.attempt)));
        ws.on_give_up(|cx, close| cx.state.log.push(format!("gave up {close}")));
    });
    let link = link.unwrap();
    sim.settle();
    link
}

#[test]
fn a_client_comes_back_after_its_server_has_restarted() {
    let mut sim = world();
    start(&mut sim);
    let link = watched(&mut sim, Backoff::default());
    assert!(link.is_open());
    assert_eq!(link.send(sim.reactor(), "one"), Sent::Queued);
    sim.settle();
    kill(&mut sim);
    assert!(!link.is_open() && link.connection().is_none());
    assert_eq!(link.send(sim.reactor(), "refused"), Sent::Gone);
    start(&mut sim);
    sim.advance(millis(500));
    assert_eq!(link.send(sim.reactor(), "two"), Sent::Queued);
    sim.settle();
    assert_eq!(sim.state().received, ["one", "two"]);
    let expected = [
        "open",
        "close 1006 transport failed: connection reset",
        "attempt 1",
        "open",
    ];
    assert_eq!(sim.state().log, expected);
}

#[test]
fn a_client_without_a_handle_comes_back_too() {
    let mut sim = world();
    start(&mut sim);
    let first = sim.reactor().connect_websocket(URL, |ws| {
        ws.reconnect(Backoff::default());
        ws.on_open(|ws, _| ws.send("open"));
    });
    sim.settle();
    assert!(sim.reactor().is_open(first.unwrap()));
    kill(&mut sim);
    start(&mut sim);
    sim.advance(millis(500));
    assert_eq!(sim.state().received, ["open", "open"]);
}

#[test]
fn headers_of_the_handshake_are_refused() {
    let mut sim = world();
    let mut refused = Vec::new();
    let link = sim.reactor().websocket_link(URL, |ws| {
        for name in [
            "Host",
            "connection",
            "Upgrade",
            "Content-Length",
            "Transfer-Encoding",
            "Sec-WebSocket-Key",
            "sec-websocket-protocol",
            "SEC-WEBSOCKET-EXTENSIONS",
        ] {
            refused.push(ws.header(name, "x").unwrap_err().to_string());
        }
        ws.header("Sec-Fetch-Mode", "websocket")?;
        ws.header("Authorization", "Bearer x")
    });
    assert!(link.is_ok());
    assert_eq!(
        refused[0],
        "the header \"Host\" is set by the client itself"
    );
    let source = sim.reactor().event_source(NEWS, |events| {
        for name in ["Host", "accept", "Cache-Control", "last-event-id", "TE"] {
            refused.push(events.header(name, "x").unwrap_err().to_string());
        }
        events.header("Authorization", "Bearer x")
    });
    assert!(source.is_ok());
    assert_eq!(refused.len(), 13);
}

#[test]
fn errors_about_a_url_have_no_password() {
    let mut sim = world();
    for url in ["ws://u:secret@h/", "u:secret@h", "http://u:se/secret@h/#"] {
        let link = sim.reactor().websocket_link(url, |_| {}).err().unwrap();
        assert!(!link.to_string().contains("secret"), "{link}");
        assert!(link.to_string().contains("***@h"), "{link}");
    }
    for url in ["http://u:secret@h:x/", "http://u:se/secret@h/"] {
        let source = sim.reactor().event_source(url, |_| {}).err().unwrap();
        assert!(!source.to_string().contains("secret"), "{source}");
        assert!(source.to_string().contains("***@h"), "{source}");
    }
}

#[test]
fn impossible_choices_are_refused() {
    let mut sim = world();
    let never_stable = Backoff {
        stable_after: Duration::ZERO,
        ..Backoff::default()
    };
    let link = sim
        .reactor()
        .websocket_link(URL, |ws| ws.reconnect(never_stable));
    assert!(link.err().unwrap().to_string().contains("stable_after"));
    let shared = sim
        .reactor()
        .websocket_client(|ws| ws.reconnect(Backoff::default()));
    assert!(shared.unwrap_err().to_string().contains("websocket_link"));
    let single = sim
        .reactor()
        .connect_websocket(URL, |ws| ws.reconnect_if(|_| true));
    let error = single.unwrap_err().to_string();
    assert!(error.starts_with("reconnect_if is for"), "{error}");
    let shared = sim
        .reactor()
        .websocket_client(|ws| ws.on_give_up(|_, _| ()));
    let error = shared.unwrap_err().to_string();
    assert!(error.starts_with("on_give_up is for"), "{error}");
    let impossible = Backoff {
        base: Duration::ZERO,
        ..Backoff::default()
    };
    let link = sim
        .reactor()
        .websocket_link(URL, |ws| ws.reconnect(impossible));
    assert!(link.is_err());
    let source = sim
        .reactor()
        .event_source(NEWS, |events| events.reconnect(impossible));
    assert!(source.is_err());
    assert!(sim.reactor().event_source("ftp://h/", |_| {}).is_err());
    assert_eq!(sim.reactor().connection_count(), 0);
}

#[test]
fn a_server_that_is_absent_at_first_is_found_later() {
    let mut sim = world();
    let link = watched(&mut sim, Backoff::default());
    sim.advance(secs(5));
    let attempts = sim.state().log.len() / 2;
    assert!((3..20).contains(&attempts), "{:?}", sim.state().log);
    start(&mut sim);
    sim.advance(secs(30));
    assert!(link.is_open());
}

#[test]
fn messages_that_are_kept_go_out_first_and_in_order() {
    let mut sim = world();
    let link = sim.reactor().websocket_link(URL, |ws| {
        ws.keep_while_away(KeepLimits {
            messages_max: 3,
            bytes_max: 10,
        });
        ws.on_open(|ws, _| ws.send("hello"));
    });
    let link = link.unwrap();
    let cases = [
        ("a", Sent::Queued),
        ("longer than it may be", Sent::Full),
        ("b", Sent::Queued),
        ("c", Sent::Queued),
        ("d", Sent::Full),
    ];
    for (message, expected) in cases {
        assert_eq!(link.send(sim.reactor(), message), expected, "{message}");
    }
    assert_eq!(link.kept_count(), 3);
    start(&mut sim);
    sim.advance(secs(30));
    assert_eq!(link.send(sim.reactor(), "e"), Sent::Queued);
    sim.settle();
    assert_eq!(sim.state().received, ["hello", "a", "b", "c", "e"]);
    assert_eq!(link.kept_count(), 0);
}

// The kept messages go out in parts here, because they are more than the queue of the connection may hold.
#[test]
fn newer_messages_wait_behind_those_that_are_kept() {
    let mut sim = world();
    let handle = Rc::new(RefCell::new(None::<WebSocketLink<World>>));
    let own = Rc::clone(&handle);
    let link = sim.reactor().websocket_link(URL, |ws| {
        ws.keep_while_away(KeepLimits::default());
        ws.options().queue_low_bytes = 100;
        ws.options().queue_high_bytes = 200;
        ws.on_open(move |ws, _| {
            let link = own.borrow().clone().unwrap();
            link.send(ws.reactor, "20")
        });
    });
    let link = link.unwrap();
    *handle.borrow_mut() = Some(link.clone());
    for number in 0..20 {
        link.send(sim.reactor(), number.to_string());
    }
    start(&mut sim);
    let mut number = 21;
    while !link.is_open() {
        sim.advance(millis(1));
    }
    while link.kept_count() != 0 {
        link.send(sim.reactor(), number.to_string());
        number += 1;
        sim.turn();
    }
    sim.settle();
    let expected: Vec<_> = (0..number).map(|number| number.to_string()).collect();
    assert_eq!(sim.state().received, expected);
}

#[test]
fn close_codes_that_are_final() {
    let cases = [
        (1000, true),
        (1001, false),
        (1002, true),
        (1003, true),
        (1007, true),
        (1008, true),
        (1009, true),
        (1010, true),
        (1011, false),
        (1012, false),
        (1013, false),
        (1014, false),
        (3000, false),
        (4001, false),
    ];
    for (code, is_final) in cases {
        let mut sim = world();
        start(&mut sim);
        let link = watched(&mut sim, Backoff::default());
        link.send(sim.reactor(), format!("close {code}"));
        sim.settle();
        assert_eq!(link.has_ended(), is_final, "{code}");
        let expected = match is_final {
            true => format!("gave up {code} closed by peer: as you wish"),
            false => "attempt 1".to_owned(),
        };
        assert_eq!(sim.state().log.last(), Some(&expected));
        sim.advance(millis(500));
        assert_eq!(link.is_open(), !is_final, "{code}");
    }
}

#[test]
fn answers_to_the_handshake_that_are_final() {
    let cases = [
        (Status::UNAUTHORIZED, true),
        (Status::FORBIDDEN, true),
        (Status::NOT_FOUND, true),
        (Status::REQUEST_TIMEOUT, false),
        (Status::TOO_MANY_REQUESTS, false),
        (Status::INTERNAL_SERVER_ERROR, false),
        (Status::SERVICE_UNAVAILABLE, false),
    ];
    for (status, is_final) in cases {
        let mut sim = world();
        let listening = sim.reactor().http("0.0.0.0:80", move |http| {
            http.get("/feed", move |request| request.reply(status));
        });
        listening.unwrap();
        let link = watched(&mut sim, Backoff::default());
        assert_eq!(link.has_ended(), is_final, "{status}");
    }
}

#[test]
fn the_condition_of_the_application_decides() {
    for goes_on in [false, true] {
        let mut sim = world();
        start(&mut sim);
        let link = sim.reactor().websocket_link(URL, |ws| {
            ws.on_open(|ws, _| {
                ws.send(if ws.state.received.is_empty() {
                    "close 1000"
                } else {
                    "ok"
                })
            });
            ws.reconnect_if(move |close| goes_on && close.code == 1000);
        });
        sim.advance(secs(1));
        assert_eq!(link.unwrap().is_open(), goes_on);
        assert_eq!(sim.state().received.len(), 1 + usize::from(goes_on));
    }
}

#[test]
fn the_time_that_a_server_asks_for_is_kept() {
    let mut sim = world();
    let listening = sim.reactor().http("0.0.0.0:80", |http| {
        http.get("/feed", |request| {
            request.state.received.push("asked".to_owned());
            let reply = waterwheel::Reply::new(Status::SERVICE_UNAVAILABLE);
            request.reply(reply.header("Retry-After", "20"))
        });
    });
    listening.unwrap();
    watched(&mut sim, Backoff::default());
    sim.advance(millis(19_999));
    assert_eq!(sim.state().received.len(), 1);
    sim.advance(millis(501));
    assert_eq!(sim.state().received.len(), 2);
}

#[test]
fn attempts_end_at_their_limit() {
    let mut sim = world();
    let backoff = Backoff {
        attempts_max: Some(3),
        ..Backoff::default()
    };
    let link = watched(&mut sim, backoff);
    sim.advance(secs(60));
    assert!(link.has_ended());
    let refused = "1006 transport failed: connection refused";
    let close = format!("close {refused}");
    let gave_up = format!("gave up {refused}");
    let expected = [
        &close,
        "attempt 1",
        &close,
        "attempt 2",
        &close,
        "attempt 3",
        &close,
        &gave_up,
    ];
    assert_eq!(sim.state().log, expected);
    assert_eq!(sim.reactor().connection_count(), 0);
    assert_eq!(link.send(sim.reactor(), "x"), Sent::Gone);
}

#[test]
fn a_link_that_is_closed_stays_closed() {
    // Open, while it connects, and while it is away.
    for case in 0..3 {
        let mut sim = world();
        if case == 0 {
            start(&mut sim);
        }
        let link = watched(&mut sim, Backoff::default());
        if case == 1 {
            start(&mut sim);
            while link.connection().is_none() {
                sim.advance(millis(1));
                sim.turn();
            }
        }
        sim.state().log.clear();
        link.close(sim.reactor());
        link.close(sim.reactor());
        assert_eq!(link.send(sim.reactor(), "x"), Sent::Gone);
        sim.advance(secs(100));
        let gave_up = |line: &&String| line.starts_with("gave up");
        assert_eq!(sim.state().log.iter().filter(gave_up).count(), 1);
        assert!(
            !sim.state()
                .log
                .iter()
                .any(|line| line.starts_with("attempt"))
        );
        assert!(link.has_ended());
        assert_eq!(sim.reactor().connection_count(), 0);
    }
}

#[test]
fn a_drain_ends_the_attempts() {
    for is_open in [true, false] {
        let mut sim = world();
        if is_open {
            start(&mut sim);
        }
        let link = watched(&mut sim, Backoff::default());
        sim.reactor().drain(Duration::ZERO);
        sim.advance(secs(60));
        assert!(!sim.is_running());
        assert!(!link.is_open(), "{is_open}");
    }
}

#[test]
fn a_callback_that_panics_costs_one_connection_at_most() {
    for name in ["on_open", "on_close", "on_reconnect", "reconnect_if"] {
        let mut sim = world();
        sim.catch_panics(true);
        start(&mut sim);
        let panics_once = move |cx: &mut World, at: &str| {
            let first = format!("panicked in {at}");
            if at == name && !cx.log.contains(&first) {
                cx.log.push(first);
                panic!("it is a test");
            }
        };
        let mut has_panicked = false;
        let link = sim.reactor().websocket_link(URL, |ws| {
            ws.on_open(move |ws, _| panics_once(ws.state, "on_open"));
            ws.on_close(move |ws, _| panics_once(ws.state, "on_close"));
            ws.on_reconnect(move |cx, _| panics_once(cx.state, "on_reconnect"));
            if name == "reconnect_if" {
                ws.reconnect_if(move |_| {
                    if !std::mem::replace(&mut has_panicked, true) {
                        panic!("it is a test");
                    }
                    true
                });
            }
        });
        let link = link.unwrap();
        sim.settle();
        kill(&mut sim);
        start(&mut sim);
        sim.advance(secs(2));
        assert!(link.is_open(), "{name}");
        assert_eq!(sim.reactor().stats().panics, 1, "{name}");
    }
}

#[test]
fn a_server_that_ends_each_connection_at_once_is_tried_more_and_more_slowly() {
    let mut sim = world();
    let listening = sim.reactor().websocket("0.0.0.0:80", |ws| {
        ws.on_open(|ws, _| {
            ws.state.received.push(String::new());
            ws.close_with(1011, "")
        });
    });
    listening.unwrap();
    watched(&mut sim, Backoff::default());
    sim.advance(secs(300));
    // With a mean of 15 seconds for the later ones.
    let count = sim.state().received.len();
    assert!((15..60).contains(&count), "{count}");
}

/// The moments at which a hundred clients are back, after a server was away for so long.
fn moments_of_return(away: Duration) -> Vec<Duration> {
    const CLIENTS: usize = 100;
    let mut sim = world();
    start(&mut sim);
    let links: Vec<_> = (0..CLIENTS)
        .map(|_| sim.reactor().websocket_link(URL, |_| {}).unwrap())
        .collect();
    sim.advance(secs(20));
    assert!(links.iter().all(WebSocketLink::is_open));
    kill(&mut sim);
    let began = sim.reactor().now();
    sim.advance(away);
    start(&mut sim);
    let mut moments = vec![None; CLIENTS];
    while moments.contains(&None) {
        let now = sim.reactor().now();
        assert!(now < began + secs(60), "{moments:?}");
        for (moment, link) in moments.iter_mut().zip(&links) {
            if link.is_open() && moment.is_none() {
                *moment = Some(now - began);
            }
        }
        sim.advance(millis(1));
    }
    assert_eq!(sim.state().served.len(), CLIENTS);
    moments.into_iter().flatten().collect()
}

/// The most of these moments that fall into one span of this length.
fn most_within(moments: &[Duration], span: Duration) -> usize {
    let count_from = |start: Duration| {
        let within = moments
            .iter()
            .filter(|it| start <= **it && **it < start + span);
        within.count()
    };
    moments
        .iter()
        .map(|start| count_from(*start))
        .max()
        .unwrap()
}

#[test]
fn a_hundred_clients_do_not_come_back_together() {
    let moments = moments_of_return(Duration::ZERO);
    // Half a second has fifty spans of ten milliseconds, with two clients each on average.
    assert!(moments.iter().all(|moment| *moment <= millis(501)));
    assert!(most_within(&moments, millis(10)) <= 10);
    assert!(most_within(&moments, millis(100)) <= 40);
}

#[test]
fn a_server_that_was_away_for_five_seconds_gets_all_clients_back() {
    let moments = moments_of_return(secs(5));
    assert!(moments.iter().all(|moment| secs(5) <= *moment));
    assert!(most_within(&moments, millis(100)) <= 20);
    // No pause is longer than 30 seconds, and the one that ended first behind the five seconds began before them.
    assert!(moments.iter().max() <= Some(&secs(35)));
}

// ── random faults ───────────────────────────────────────────────────────────────────────────

/// A generator of test data.
struct Random(u64);

impl Random {
    fn below(&mut self, count: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % count
    }
}

/// The events of a run.
#[derive(Default)]
struct Run {
    listener: Option<ListenerId>,
    /// Connections of the server, in the order in which they came.
    served: Vec<ConnId>,
    /// For each of these the numbers that came by it.
    received: Vec<(ConnId, u64)>,
    /// Connections of the client that were opened and have not ended.
    live: HashSet<ConnId>,
    live_max: usize,
    opened_count: u64,
    closed_count: u64,
    attempt_count: u64,
    gave_up_count: u64,
    /// An attempt with a larger number than there were ends in a row.
    has_wrong_attempt: bool,
    ends_in_a_row: u32,
}

/// Lets the server of a run listen. It refuses some handshakes, and leaves some without an answer.
fn serve(sim: &mut Sim<Run>, seed: u64) {
    let mut random = Random(seed);
    let listener = sim.reactor().http("0.0.0.0:80", |http| {
        http.websocket("/feed", |ws| {
            ws.before_open(move |_| match random.below(10) {
                0 => Err(Status::SERVICE_UNAVAILABLE.into()),
                1 => Err(Status::TOO_MANY_REQUESTS.into()),
                _ => Ok(()),
            });
            ws.on_open(|ws, _| ws.state.served.push(ws.id));
            ws.on_message(|ws, message| {
                let number = message.to_string().parse().unwrap();
                ws.state.received.push((ws.id, number));
            });
        });
    });
    sim.state().listener = listener.ok();
}

/// A link under random cuts, resets, refusals and delays.
///
/// There is at most one connection at a time. Each number comes at most once, in order, and all that the link kept
/// while it had no connection come, unless the connection that has taken them was cut.
fn run_with_faults(seed: u64) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut sim = Sim::new(Run::default(), |_: &mut Reactor<Run>| ());
    sim.seed(seed);
    let backoff = Backoff {
        base: millis(100),
        max: secs(2),
        attempts_max: None,
        stable_after: secs(1),
    };
    if random.below(2) == 0 {
        serve(&mut sim, seed);
    }
    let link = sim.reactor().websocket_link(URL, |ws| {
        ws.reconnect(backoff);
        ws.keep_while_away(KeepLimits {
            messages_max: 20,
            bytes_max: 1000,
        });
        ws.options().queue_high_bytes = 500;
        ws.options().queue_low_bytes = 200;
        ws.options().overflow = waterwheel::Overflow::DropNewest;
        ws.on_open(|ws, _| {
            ws.state.opened_count += 1;
            ws.state.live.insert(ws.id);
            ws.state.live_max = ws.state.live_max.max(ws.state.live.len());
        });
        ws.on_close(|ws, _| {
            ws.state.closed_count += 1;
            ws.state.ends_in_a_row += 1;
            ws.state.live.remove(&ws.id);
        });
        ws.on_reconnect(|cx, next| {
            cx.state.attempt_count += 1;
            cx.state.has_wrong_attempt |= cx.state.ends_in_a_row < next.attempt;
            if next.attempt == 1 {
                cx.state.ends_in_a_row = 1;
            }
        });
        ws.on_give_up(|cx, _| cx.state.gave_up_count += 1);
    });
    let link = link.unwrap();
    let (mut number, mut queued) = (0, Vec::new());
    for _ in 0..60 {
        match random.below(12) {
            0..=3 => {
                number += 1;
                if link.send(sim.reactor(), number.to_string()).is_queued() {
                    queued.push(number);
                }
            }
            4 | 5 => sim.advance(millis(random.below(300))),
            6 => sim.advance(millis(random.below(3000))),
            7 => {
                if let Some(listener) = sim.state().listener.take() {
                    sim.reactor().close_listener(listener);
                } else {
                    serve(&mut sim, seed);
                }
            }
            8 => {
                if let Some(id) = sim.state().served.last().copied() {
                    sim.reactor().reset(id);
                }
            }
            9 => {
                if let Some(id) = sim.state().served.last().copied() {
                    sim.reactor().close_with(id, 1012, "restart");
                }
            }
            10 => sim.faults(
                random.below(1 << 32),
                Faults {
                    short_reads_percent: random.below(100) as u8,
                    short_writes_percent: random.below(100) as u8,
                    refused_writes_percent: random.below(60) as u8,
                    resets_percent: random.below(3) as u8 * 5,
                },
            ),
            _ => sim.turn(),
        }
        assert!(sim.state().live_max <= 1, "seed {seed}");
    }
    // Messages that are sent while there is no connection are kept, and arrive once the faults are over.
    sim.faults(seed, Faults::default());
    if let Some(listener) = sim.state().listener.take() {
        sim.reactor().close_listener(listener);
    }
    while link.connection().is_some() {
        sim.settle();
        for id in std::mem::take(&mut sim.state().served) {
            sim.reactor().reset(id);
        }
        sim.advance(millis(10));
    }
    let first_kept = number + 1;
    let kept_before = link.kept_count();
    let mut kept_count = 0;
    for _ in 0..random.below(10) {
        number += 1;
        if link.send(sim.reactor(), number.to_string()).is_queued() {
            queued.push(number);
            kept_count += 1;
        }
    }
    assert_eq!(link.kept_count(), kept_before + kept_count, "seed {seed}");
    let before = sim.state().received.len();
    // This server refuses none.
    let listening = sim.reactor().websocket("0.0.0.0:80", |ws| {
        ws.on_message(|ws, message| {
            let number = message.to_string().parse().unwrap();
            ws.state.received.push((ws.id, number));
        });
    });
    listening.unwrap();
    sim.advance(secs(3));
    assert!(link.is_open() && link.kept_count() == 0, "seed {seed}");
    let run = std::mem::take(sim.state());
    let received: Vec<u64> = run.received.iter().map(|(_, number)| *number).collect();
    assert!(
        received.is_sorted_by(|a, b| a < b),
        "seed {seed}: {received:?}"
    );
    assert!(received.iter().all(|it| queued.contains(it)), "seed {seed}");
    let kept: Vec<u64> = queued
        .iter()
        .copied()
        .filter(|it| first_kept <= *it)
        .collect();
    assert!(
        received[before..].ends_with(&kept),
        "seed {seed}: {kept:?} of {received:?}"
    );
    assert_eq!(
        received.len() - before,
        kept_before + kept_count,
        "seed {seed}"
    );
    assert_eq!(run.live_max, 1, "seed {seed}");
    assert_eq!(run.gave_up_count, 0, "seed {seed}");
    assert!(!run.has_wrong_attempt, "seed {seed}");
    // Each end leads to one attempt.
    assert_eq!(run.attempt_count, run.closed_count, "seed {seed}");
}

/// `WATERWHEEL_SEEDS` is the number of runs, 1000 by default.
#[test]
fn a_link_under_random_faults_keeps_its_promises() {
    let seeds = std::env::var("WATERWHEEL_SEEDS").ok();
    let count = seeds.map_or(1000, |count| count.parse().unwrap());
    for seed in 0..count {
        run_with_faults(seed);
    }
}

#[test]
fn one_seed_is_one_run() {
    let log_of = |seed| {
        let mut sim = world();
        sim.seed(seed);
        watched(&mut sim, Backoff::default());
        sim.advance(secs(10));
        (sim.state().log.clone(), sim.reactor().stats().closed)
    };
    assert_eq!(log_of(7), log_of(7));
}

// ── event streams ───────────────────────────────────────────────────────────────────────────

const NEWS: &str = "http://localhost:80/news";

/// A server of numbered events, and a client of it.
#[derive(Default)]
struct News {
    listener: Option<ListenerId>,
    count: u64,
    streams: HashSet<ConnId>,
    /// The `Last-Event-ID` of each request.
    since: Vec<String>,
    log: Vec<String>,
}

fn serve_news(sim: &mut Sim<News>) {
    let listener = sim.reactor().http("0.0.0.0:80", |http| {
        http.get("/news", |request| {
            assert_eq!(request.header("accept"), Some("text/event-stream"));
            let since = request
                .header("last-event-id")
                .unwrap_or_default()
                .to_owned();
            let first = since.parse::<u64>().map_or(1, |last| last + 1);
            request.state.since.push(since);
            let count = request.state.count;
            let id = request.event_stream().id;
            request.state.streams.insert(id);
            for number in first..=count {
                send_news(request.reactor, id, number);
            }
            request
                .reactor
                .on_close(id, move |cx, _| cx.state.streams.remove(&id));
        });
    });
    sim.state().listener = Some(listener.unwrap());
}

fn send_news(reactor: &mut Reactor<News>, id: ConnId, number: u64) {
    let event = Event::message(format!("news {number}"));
    reactor.send_event(id, &number.to_string(), event);
}

fn publish_news(sim: &mut Sim<News>) {
    sim.state().count += 1;
    let number = sim.state().count;
    for id in sim.state().streams.clone() {
        send_news(sim.reactor(), id, number);
    }
}

fn kill_news(sim: &mut Sim<News>) {
    if let Some(listener) = sim.state().listener.take() {
        sim.reactor().close_listener(listener);
    }
    for id in sim.state().streams.clone() {
        sim.reactor().reset(id);
    }
    sim.settle();
}

fn news() -> Sim<News> {
    Sim::new(News::default(), |_: &mut Reactor<News>| ())
}

fn watch_news(
    sim: &mut Sim<News>,
    setup: impl FnOnce(&mut EventSourceSetup<News>),
) -> EventSource<News> {
    let source = sim.reactor().event_source(NEWS, |events| {
        events.on_open(|cx| cx.state.log.push("open".to_owned()));
        events.on_event(|cx, event| cx.state.log.push(format!("{} {}", event.id, event.data)));
        events.on_reconnect(|cx, next| {
            cx.state
                .log
                .push(format!("attempt {}: {}", next.attempt, next.error));
        });
        events.on_give_up(|cx, error| cx.state.log.push(format!("gave up: {error}")));
        setup(events);
    });
    let source = source.unwrap();
    sim.settle();
    source
}

#[test]
fn an_event_stream_goes_on_behind_the_last_event() {
    let mut sim = news();
    serve_news(&mut sim);
    publish_news(&mut sim);
    let source = watch_news(&mut sim, |_| {});
    publish_news(&mut sim);
    sim.settle();
    assert!(source.is_open());
    assert_eq!(source.last_event_id(), "2");
    kill_news(&mut sim);
    assert!(!source.is_open());
    publish_news(&mut sim);
    serve_news(&mut sim);
    sim.advance(secs(1));
    publish_news(&mut sim);
    sim.settle();
    let expected = [
        "open",
        "1 news 1",
        "2 news 2",
        "attempt 1: transport failed: connection reset",
        "open",
        "3 news 3",
        "4 news 4",
    ];
    assert_eq!(sim.state().log, expected);
    assert_eq!(sim.state().since, ["", "2"]);
}

#[test]
fn no_event_is_lost_or_comes_twice_under_random_faults() {
    for seed in 0..200 {
        let mut random = Random(seed);
        let mut sim = news();
        sim.seed(seed);
        serve_news(&mut sim);
        watch_news(&mut sim, |_| {});
        for _ in 0..60 {
            match random.below(8) {
                0..=3 => publish_news(&mut sim),
                4 => sim.advance(millis(random.below(2000))),
                5 if sim.state().listener.is_none() => serve_news(&mut sim),
                5 => kill_news(&mut sim),
                6 => {
                    let faults = Faults {
                        short_reads_percent: random.below(100) as u8,
                        short_writes_percent: random.below(100) as u8,
                        refused_writes_percent: random.below(60) as u8,
                        resets_percent: random.below(2) as u8 * 5,
                    };
                    sim.faults(random.below(1 << 32), faults);
                }
                _ => sim.turn(),
            }
        }
        sim.faults(seed, Faults::default());
        kill_news(&mut sim);
        serve_news(&mut sim);
        sim.advance(secs(60));
        let count = sim.state().count;
        let expected: Vec<_> = (1..=count).map(|n| format!("{n} news {n}")).collect();
        let events = sim.state().log.iter().filter(|line| line.contains("news"));
        assert_eq!(
            events.collect::<Vec<_>>(),
            expected.iter().collect::<Vec<_>>(),
            "seed {seed}"
        );
    }
}

/// The log of a client after a minute, whose server answers each request with these bytes and ends the connection.
fn log_of_answer(answer: &str, setup: impl FnOnce(&mut EventSourceSetup<News>)) -> Vec<String> {
    let mut sim = news();
    let answer = answer.to_owned();
    let listening = sim.reactor().stream("0.0.0.0:80", move |stream| {
        stream.on_data(move |stream, _| {
            stream.send(answer.as_str());
            stream.close()
        });
    });
    listening.unwrap();
    watch_news(&mut sim, setup);
    sim.advance(secs(60));
    std::mem::take(&mut sim.state().log)
}

fn answer_with(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nConnection: close\r\n{headers}\r\n{body}")
}

const STREAM: &str = "Content-Type: text/event-stream\r\n";

#[test]
fn answers_that_are_final_for_an_event_stream() {
    let too_long = format!("data: {}\n", "x".repeat(1100));
    let too_large = format!("data: {}\n", "x".repeat(900)).repeat(3);
    let cases = [
        (
            answer_with("204 No Content", "", ""),
            "the server answered 204 No Content",
        ),
        (
            answer_with("404 Not Found", "Content-Length: 0\r\n", ""),
            "the server answered 404 Not Found",
        ),
        (
            answer_with("503 Service Unavailable", STREAM, "data: x\n\n"),
            "the server answered 503 Service Unavailable",
        ),
        (
            answer_with("206 Partial Content", STREAM, ""),
            "the server answered 206 Partial Content",
        ),
        (
            answer_with("304 Not Modified", STREAM, ""),
            "the server answered 304 Not Modified",
        ),
        (
            answer_with("200 OK", "Content-Type: text/plain\r\n", "data: x\n\n"),
            "the answer is not text/event-stream",
        ),
        (
            answer_with("200 OK", "", "data: x\n\n"),
            "the answer is not text/event-stream",
        ),
        (
            answer_with("302 Found", "Location: /news\r\nContent-Length: 0\r\n", ""),
            "too many redirects",
        ),
        (
            answer_with("200 OK", STREAM, &too_long),
            "a line of the event stream is too long",
        ),
        (
            answer_with("200 OK", STREAM, &too_large),
            "the data of an event is too long",
        ),
        (
            answer_with("200 OK", STREAM, &format!("id: {}\n", "x".repeat(501))),
            "the id of an event is too long",
        ),
    ];
    for (answer, why) in cases {
        let log = log_of_answer(&answer, |events| {
            events.limits(Limits {
                line_bytes_max: 1000,
                event_bytes_max: 2000,
                id_bytes_max: 500,
            });
        });
        let log: Vec<_> = log.iter().filter(|line| *line != "open").collect();
        assert_eq!(log, [&format!("gave up: {why}")], "{answer}");
    }
}

#[test]
fn server_errors_are_tried_again_if_asked() {
    let cases = [
        ("500 Internal Server Error", true),
        ("503 Service Unavailable", true),
        ("429 Too Many Requests", true),
        ("404 Not Found", false),
        ("204 No Content", false),
    ];
    for (status, goes_on) in cases {
        let answer = answer_with(status, "", "");
        let log = log_of_answer(&answer, |events| events.retries_server_errors(true));
        let last = log.last().unwrap();
        assert_eq!(last.starts_with("attempt"), goes_on, "{last}");
    }
}

#[test]
fn streams_without_chunks_end_with_their_connection() {
    let body = "id: 7\ndata: a\n\ndata: cut off\n";
    let cases = [
        answer_with("200 OK", STREAM, body),
        format!("HTTP/1.0 200 OK\r\n{STREAM}\r\n{body}"),
        answer_with(
            "200 OK",
            &format!("{STREAM}Transfer-Encoding: chunked\r\n"),
            &format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()),
        ),
        answer_with(
            "200 OK",
            "Content-Type: text/event-stream; charset=utf-8\r\n",
            body,
        ),
    ];
    for answer in cases {
        let log = log_of_answer(&answer, |_| {});
        assert_eq!(
            log[..3],
            ["open", "7 a", "attempt 1: the server ended the stream"]
        );
        // Each stream brings an event, so the pauses stay short.
        assert!(log.iter().all(|line| !line.starts_with("attempt 2")));
        assert!(150 < log.len(), "{}", log.len());
    }
}

#[test]
fn the_time_of_retry_is_kept_up_to_the_maximum() {
    for (retry, at_most) in [("5000", 11), ("600000", 3)] {
        let answer = answer_with("200 OK", STREAM, &format!("retry: {retry}\ndata: a\n\n"));
        let log = log_of_answer(&answer, |_| {});
        let count = log.iter().filter(|line| *line == "open").count();
        assert!((2..=at_most + 1).contains(&count), "{retry}: {count}");
    }
}

#[test]
fn redirects_of_an_event_stream_are_followed() {
    let mut sim = news();
    serve_news(&mut sim);
    let listening = sim.reactor().http("0.0.0.0:81", |http| {
        http.get("/old", |request| {
            let reply = Reply::new(Status::FOUND).header("Location", "http://localhost:80/news");
            request.reply(reply)
        });
    });
    listening.unwrap();
    let source = sim
        .reactor()
        .event_source("http://localhost:81/old", |_| {});
    sim.settle();
    assert!(source.unwrap().is_open());
}

#[test]
fn an_event_stream_goes_through_a_proxy() {
    let mut sim = news();
    let listening = sim.reactor().stream("0.0.0.0:3128", |stream| {
        stream.on_data(|stream, _| stream.send("HTTP/1.1 502 Bad Gateway\r\n\r\n"));
    });
    listening.unwrap();
    let proxy = HttpProxy::parse("http://127.0.0.1:3128").unwrap();
    watch_news(&mut sim, |events| events.transport(proxy));
    let expected = ["attempt 1: the proxy answered 502 Bad Gateway"];
    assert_eq!(sim.state().log, expected);
}

#[test]
fn a_silent_stream_is_opened_again() {
    let mut sim = news();
    let listening = sim.reactor().stream("0.0.0.0:80", |stream| {
        stream.on_data(|stream, _| stream.send(answer_with("200 OK", STREAM, ":\n")));
    });
    listening.unwrap();
    watch_news(&mut sim, |events| events.idle_timeout(Some(secs(20))));
    sim.advance(secs(19));
    assert_eq!(sim.state().log, ["open"]);
    sim.advance(secs(2));
    assert_eq!(
        sim.state().log[1..],
        ["attempt 1: body deadline passed", "open"]
    );
}

#[test]
fn a_panic_costs_one_event() {
    let mut sim = news();
    sim.catch_panics(true);
    serve_news(&mut sim);
    (0..3).for_each(|_| publish_news(&mut sim));
    let source = watch_news(&mut sim, |events| {
        events.on_event(|cx, event| {
            assert!(&*event.id != "2", "it is a test");
            cx.state.log.push(event.id.to_string());
        });
    });
    publish_news(&mut sim);
    sim.settle();
    assert_eq!(sim.state().log, ["open", "1", "3", "4"]);
    assert!(source.is_open());
}

/// A stream of this many events that come at once, each of which takes some milliseconds of its callback.
fn slow_news(count: u64, clock_millis: u64) -> (Sim<News>, EventSource<News>) {
    let mut sim = news();
    sim.socket_bytes(1 << 22);
    let events: String = (1..=count).map(|n| format!("id: {n}\ndata\n\n")).collect();
    let answer = answer_with("200 OK", STREAM, &events);
    let listening = sim.reactor().stream("0.0.0.0:80", move |stream| {
        stream.options().queue_high_bytes = usize::MAX;
        stream.on_data(move |stream, _| stream.send(answer.as_str()));
    });
    listening.unwrap();
    let clock = sim.clock();
    let source = sim.reactor().event_source(NEWS, |events| {
        events.on_event(move |cx, event| {
            clock.advance(millis(clock_millis));
            cx.state.log.push(event.id.to_string());
        });
    });
    (sim, source.unwrap())
}

#[test]
fn events_that_take_long_are_delivered_in_several_turns() {
    let (mut sim, source) = slow_news(20, 1);
    while sim.state().log.len() < 20 {
        let before = sim.state().log.len();
        sim.turn();
        let count = sim.state().log.len() - before;
        assert!(count <= 5, "{count} events in one turn");
        assert_eq!(
            source.last_event_id(),
            sim.state().log.last().cloned().unwrap_or_default()
        );
    }
    let expected: Vec<_> = (1..=20).map(|n| n.to_string()).collect();
    assert_eq!(sim.state().log, expected);
}

#[test]
fn a_stream_is_read_no_faster_than_its_events_are_delivered() {
    let (mut sim, _source) = slow_news(100_000, 10);
    let server_sends = sim.reactor().stats().received_bytes;
    while sim.state().log.len() < 10 {
        sim.turn();
    }
    let received_bytes = sim.reactor().stats().received_bytes - server_sends;
    assert!(received_bytes < 150_000, "{received_bytes}");
}

// A server may send each event in a chunk of its own.
#[test]
fn many_small_chunks_take_few_turns() {
    let mut sim = news();
    sim.socket_bytes(1 << 20);
    let listening = sim.reactor().stream("0.0.0.0:80", move |stream| {
        stream.options().queue_high_bytes = usize::MAX;
        stream.on_data(|stream, _| {
            let chunks: String = (0..1000)
                .map(|n| format!("f\r\nid:{n:03}\ndata:x\n\n\r\n"))
                .collect();
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
                        Transfer-Encoding: chunked\r\n\r\n";
            stream.send(format!("{head}{chunks}"))
        });
    });
    listening.unwrap();
    let source = sim.reactor().event_source(NEWS, |events| {
        events.on_event(|cx, event| cx.state.log.push(event.id.to_string()));
    });
    let mut turns = 0;
    while sim.state().log.len() < 1000 {
        sim.turn();
        turns += 1;
        assert!(turns < 50, "{} events", sim.state().log.len());
    }
    assert_eq!(source.unwrap().last_event_id(), "999");
}

#[test]
fn events_that_were_not_delivered_do_not_count_as_seen() {
    let close: fn(&mut Sim<News>, &EventSource<News>) = |sim, source| source.close(sim.reactor());
    let drain: fn(&mut Sim<News>, &EventSource<News>) = |sim, _| sim.reactor().drain(secs(1));
    let stop: fn(&mut Sim<News>, &EventSource<News>) = |sim, _| sim.reactor().stop();
    for end in [close, drain, stop] {
        let (mut sim, source) = slow_news(20, 1);
        while sim.state().log.is_empty() {
            sim.turn();
        }
        end(&mut sim, &source);
        sim.settle();
        sim.advance(secs(5));
        let last = sim.state().log.last().cloned().unwrap();
        assert_eq!(source.last_event_id(), last);
    }
}

#[test]
fn a_redirect_whose_body_does_not_end_is_followed() {
    let mut sim = news();
    let listening = sim.reactor().stream("0.0.0.0:80", |stream| {
        stream.on_data(|stream, bytes| match bytes.starts_with(b"GET /moved") {
            true => stream.send(answer_with("200 OK", STREAM, "data: a\n\n")),
            false => {
                let head = "HTTP/1.1 307 x\r\nLocation: /moved\r\nContent-Length: 9\r\n\r\nabc";
                stream.send(head)
            }
        });
    });
    listening.unwrap();
    watch_news(&mut sim, |_| {});
    assert_eq!(sim.state().log, ["open", " a"]);
}

#[test]
fn an_event_source_holds_nothing_after_the_loop() {
    for is_served in [true, false] {
        let mut sim = news();
        if is_served {
            serve_news(&mut sim);
        }
        let held = Rc::new(());
        let own: Rc<RefCell<Option<EventSource<News>>>> = Rc::default();
        let (known, alive) = (Rc::clone(&own), Rc::clone(&held));
        let source = watch_news(&mut sim, |events| {
            events.on_open(move |_| drop((known.borrow().is_some(), Rc::clone(&alive))));
        });
        *own.borrow_mut() = Some(source);
        drop(own);
        drop(sim);
        assert_eq!(Rc::strong_count(&held), 1, "served: {is_served}");
    }
}

#[test]
fn an_id_without_an_event_counts() {
    let mut sim = news();
    let answer = answer_with("200 OK", STREAM, "id: 7\ndata\n\nid: 8\n\n");
    let listening = sim.reactor().stream("0.0.0.0:80", move |stream| {
        stream.on_data(move |stream, _| stream.send(answer.as_str()));
    });
    listening.unwrap();
    let source = watch_news(&mut sim, |_| {});
    assert_eq!(source.last_event_id(), "8");
}

#[test]
fn an_event_stream_that_is_closed_stays_closed() {
    for is_served in [true, false] {
        let mut sim = news();
        if is_served {
            serve_news(&mut sim);
        }
        let source = watch_news(&mut sim, |_| {});
        sim.state().log.clear();
        source.close(sim.reactor());
        source.close(sim.reactor());
        sim.advance(secs(100));
        assert_eq!(sim.state().log, ["gave up: closed by us"]);
        assert!(source.has_ended() && !source.is_open());
        assert_eq!(sim.reactor().connection_count(), 0);
    }
}

#[test]
fn a_drain_does_not_wait_for_an_event_stream() {
    let mut sim = news();
    let listening = sim.reactor().stream("0.0.0.0:80", |stream| {
        stream.on_data(|stream, _| stream.send(answer_with("200 OK", STREAM, ":\n")));
        stream.on_end(|_| ());
    });
    listening.unwrap();
    watch_news(&mut sim, |_| {});
    assert_eq!(sim.state().log, ["open"]);
    sim.reactor().drain(Duration::ZERO);
    sim.advance(millis(100));
    assert!(!sim.is_running());
    assert_eq!(sim.state().log, ["open"]);
}

/// The hub of this repository over connections that break: its clients name the last event that they got.
#[cfg(feature = "hub")]
#[test]
fn no_event_of_a_hub_is_lost_or_comes_twice() {
    use waterwheel::hub;

    for seed in 0..50 {
        let mut random = Random(seed);
        let mut sim = Sim::new(Vec::new(), |reactor: &mut Reactor<Vec<String>>| {
            reactor.http("0.0.0.0:80", |http| {
                let access = hub::Access {
                    open: true,
                    ..hub::Access::default()
                };
                hub::mount(http, &access)
            })
        });
        sim.seed(seed);
        let url = "http://localhost/events?topic=news";
        let source = sim.reactor().event_source(url, |events| {
            events.on_event(|cx, event| cx.state.push(event.data.clone()));
        });
        let source = source.unwrap();
        sim.settle();
        assert!(source.is_open());
        let mut count = 0;
        for _ in 0..100 {
            match random.below(4) {
                0 | 1 => {
                    count += 1;
                    sim.reactor().publish("news", count.to_string().as_str());
                }
                2 => sim.advance(millis(random.below(500))),
                _ => {
                    let faults = Faults {
                        short_reads_percent: 50,
                        resets_percent: random.below(2) as u8 * 5,
                        ..Faults::default()
                    };
                    sim.faults(random.below(1 << 32), faults);
                }
            }
        }
        sim.faults(seed, Faults::default());
        sim.advance(secs(60));
        let expected: Vec<_> = (1..=count).map(|number| number.to_string()).collect();
        assert_eq!(*sim.state(), expected, "seed {seed}");
    }
}

// ── servers of others, which are killed and started again ───────────────────────────────────

/// A server of another implementation that answers each message with `echo` in front.
struct Peer {
    command: Vec<String>,
    directory: PathBuf,
    child: Option<Child>,
}

impl Peer {
    fn start(&mut self) {
        let child = Command::new(&self.command[0])
            .args(&self.command[1..])
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .spawn();
        self.child = Some(child.unwrap());
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Connects to a peer that is started later, kills it after its first answer, starts it again, and expects an answer to
/// each message that was sent meanwhile.
fn comes_back_to(words: &[&str], directory: &Path) {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port().to_string();
    drop(free);
    let words = words.iter().copied().chain([port.as_str()]);
    let peer = Peer {
        command: words.map(str::to_owned).collect(),
        directory: directory.to_owned(),
        child: None,
    };
    struct State {
        peer: Peer,
        log: Vec<String>,
    }
    let state = State {
        peer,
        log: Vec::new(),
    };
    let ended = Reactor::run(state, |reactor| {
        let link = Rc::new(RefCell::new(None::<WebSocketLink<State>>));
        let own = Rc::clone(&link);
        let made = reactor.websocket_link(&format!("ws://127.0.0.1:{port}/"), |ws| {
            ws.reconnect(Backoff {
                base: millis(50),
                max: millis(500),
                ..Backoff::default()
            });
            ws.keep_while_away(KeepLimits::default());
            ws.on_reconnect(move |cx, _| {
                if cx.state.peer.child.is_none() {
                    cx.state.peer.start();
                    let link = own.borrow().clone();
                    for message in ["2", "3", "4"] {
                        // Before the first connection there is no message to wait for.
                        if !cx.state.log.is_empty()
                            && let Some(link) = &link
                        {
                            link.send(cx.reactor, message);
                        }
                    }
                }
            });
            ws.on_open(|ws, _| {
                if ws.state.log.is_empty() {
                    ws.send("1");
                }
            });
            ws.on_message(|ws, message| {
                ws.state.log.push(message.to_string());
                match ws.state.log.len() {
                    1 => ws.state.peer.kill(),
                    4 => ws.reactor.stop(),
                    _ => {}
                }
            });
        });
        *link.borrow_mut() = Some(made?);
        reactor.after(support::PATIENCE, |cx| cx.reactor.stop());
        std::io::Result::Ok(())
    });
    let log = &ended.unwrap().log;
    assert_eq!(*log, ["echo 1", "echo 2", "echo 3", "echo 4"]);
}

#[test]
fn a_client_comes_back_to_the_server_of_npm_ws() {
    const SERVER: &str = r#"
        import { WebSocketServer } from "ws";
        const server = new WebSocketServer({ host: "127.0.0.1", port: Number(process.argv[1]) });
        server.on("connection", socket => socket.on("message", text => socket.send("echo " + text)));
    "#;
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser");
    if !directory.join("node_modules/ws").is_dir() {
        return support::skip("ws is missing: npm ci --prefix tests/browser");
    }
    comes_back_to(&["node", "--input-type=module", "-e", SERVER], &directory);
}

#[test]
fn a_client_comes_back_to_the_server_of_python_websockets() {
    const SERVER: &str = "
import asyncio, sys, websockets

async def echo(socket):
    async for text in socket:
        await socket.send('echo ' + text)

async def main():
    async with websockets.serve(echo, '127.0.0.1', int(sys.argv[1])):
        await asyncio.Future()

asyncio.run(main())
";
    let Some(python) = support::python() else {
        return;
    };
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    comes_back_to(&[python.to_str().unwrap(), "-c", SERVER], target);
}
