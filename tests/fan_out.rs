//! Topics and their members, over every transport.

use std::io;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use waterwheel::pubsub::{BodyKind, WireFormat};
use waterwheel::{
    ConnId, Event, Faults, ListenerId, QUEUED_MESSAGE_BYTES, Reactor, Sim, SimSocket, SimStream,
};

type Log = Vec<String>;

fn topics(reactor: &mut Reactor<Log>) -> io::Result<ListenerId> {
    reactor.http("0.0.0.0:80", |http| {
        http.websocket("/:topic", |ws| {
            ws.on_open(|ws, handshake| {
                let topic = handshake.param("topic").unwrap_or_default();
                ws.reactor.subscribe_pattern(ws.id, &topic).unwrap();
                ws.subscribe(&topic).unwrap();
            });
            ws.on_message(|ws, message| {
                let delivered = ws.publish("news", message).delivered;
                ws.state.push(delivered.to_string());
            });
        });
        http.get("/events", |request| {
            request.event_stream().subscribe("news")
        });
    })
}

#[test]
fn every_end_of_a_connection_removes_it_from_its_topics() {
    let mut sim = Sim::new(Log::new(), topics);
    for round in 0..2000 {
        let client = sim.websocket("/news");
        assert_eq!(sim.reactor().member_count("news"), 1, "{round}");
        match round % 3 {
            0 => client.vanish(),
            1 => client.stream().reset(),
            _ => client.close(1000),
        }
        sim.settle();
        assert_eq!(sim.reactor().topic_count(), 0, "{round}");
    }
    assert_eq!(sim.reactor().publish("news", "x").delivered, 0);
    assert_eq!(sim.reactor().connection_count(), 0);
}

#[test]
fn a_closing_member_gets_no_further_publications() {
    let mut sim = Sim::new(Log::new(), topics);
    let (stays, goes) = (sim.websocket("/news"), sim.websocket("/new*"));
    sim.reactor().publish("news", "1");
    sim.settle();
    assert_eq!(
        (stays.received(), goes.received()),
        (vec!["1".into()], vec!["1".into()])
    );
    goes.close(1000);
    sim.settle();
    assert_eq!(sim.reactor().publish("news", "2").delivered, 1);
    sim.settle();
    assert_eq!(stays.received(), ["2"]);
    assert!(goes.received().is_empty());
}

/// The data lines of an event stream, without chunk sizes and comments.
fn data(stream: &SimStream) -> Vec<String> {
    let text = stream.read_text();
    text.lines()
        .filter_map(|line| {
            line.strip_prefix("data: ")
                .or_else(|| line.strip_prefix("data:"))
        })
        .map(str::to_owned)
        .collect()
}

#[test]
fn members_of_all_transports_get_publications_in_one_order() {
    let mut sim = Sim::new(Log::new(), topics);
    sim.socket_bytes(1 << 20);
    let publishers: Vec<SimSocket> = (0..3).map(|_| sim.websocket("/none")).collect();
    let sockets: Vec<SimSocket> = (0..25).map(|_| sim.websocket("/news")).collect();
    let streams: Vec<SimStream> = (0..25)
        .map(|_| {
            let stream = sim.connect();
            stream.write("GET /events HTTP/1.1\r\nHost: sim\r\n\r\n");
            stream
        })
        .collect();
    sim.settle();
    sim.faults(
        7,
        Faults {
            short_reads_percent: 30,
            short_writes_percent: 30,
            refused_writes_percent: 20,
            resets_percent: 0,
        },
    );
    for n in 0..300 {
        publishers[n % 3].send(format!("{n}"));
        if n % 7 == 0 {
            sim.settle();
        }
    }
    while publishers
        .iter()
        .any(|publisher| publisher.unsent_bytes() != 0)
    {
        publishers
            .iter()
            .for_each(|publisher| drop(publisher.take_events()));
        sim.settle();
    }
    sim.settle();
    assert_eq!(*sim.state(), vec!["50"; 300]);
    let reference = sockets[0].received();
    assert_eq!(reference.len(), 300);
    for publisher in 0..3 {
        let of = reference.iter().filter_map(|n| n.parse::<usize>().ok());
        assert!(of.filter(|n| n % 3 == publisher).is_sorted());
    }
    for socket in &sockets[1..] {
        assert_eq!(socket.received(), reference);
    }
    for stream in &streams {
        assert_eq!(data(stream), reference);
    }
}

// All members get the same bytes, which are encoded once.
#[test]
fn all_members_get_the_same_frame_of_a_publication() {
    let mut sim = Sim::new(Log::new(), topics);
    let clients: Vec<SimSocket> = (0..100).map(|_| sim.websocket("/news")).collect();
    let published = sim
        .reactor()
        .publish("news", Event::message("x".repeat(1000)));
    assert_eq!(published.delivered, 100);
    sim.settle();
    let frames: Vec<Vec<u8>> = clients
        .iter()
        .map(|client| client.stream().read())
        .collect();
    assert_eq!(frames[0].len(), 1004);
    assert!(frames.iter().all(|frame| *frame == frames[0]));
    assert_eq!(sim.reactor().stats().deliveries, 100);
}

// A long publication is one shared buffer for all members, and a short reply is copied.
#[test]
fn a_long_publication_arrives_after_an_earlier_reply() {
    let news = "n".repeat(20_000);
    let published = news.clone();
    let mut sim = Sim::new((), move |reactor: &mut Reactor<()>| {
        reactor.websocket("0.0.0.0:80", move |ws| {
            ws.on_open(|ws, _| ws.subscribe("news").unwrap());
            ws.on_message(move |ws, _| {
                ws.send("before");
                ws.publish("news", published.clone());
                ws.send("after");
            });
        })
    });
    let client = sim.websocket("/");
    client.send("go");
    sim.settle();
    assert_eq!(client.received(), ["before", &news, "after"]);
}

/// A server that logs what it gets, and a client of it that is subscribed to `news` before its
/// handshake has begun.
fn early_subscriber(reactor: &mut Reactor<Log>) -> io::Result<()> {
    reactor.websocket("0.0.0.0:80", |ws| {
        ws.on_message(|ws, message| ws.state.push(format!("server got {message}")));
        ws.on_close(|ws, close| ws.state.push(format!("server closed: {close}")));
    })?;
    let client = reactor.connect_websocket("ws://sim/", |ws| {
        ws.on_open(|ws, _| ws.state.push("client opened".to_owned()));
        ws.on_close(|ws, close| ws.state.push(format!("client closed: {close}")));
    })?;
    assert_eq!(reactor.subscribe(client, "news"), Ok(true));
    Ok(())
}

// The bytes of the publication stood in front of the request for the WebSocket.
#[test]
fn publication_during_a_clients_handshake_leaves_it_out() {
    let mut sim = Sim::new(Log::new(), |reactor: &mut Reactor<Log>| {
        early_subscriber(reactor)?;
        assert_eq!(reactor.publish("news", "too early").delivered, 0);
        assert_eq!(reactor.stats().deliveries, 0);
        io::Result::Ok(())
    });
    sim.settle();
    assert_eq!(*sim.state(), ["client opened"]);
}

// The publication went out without a frame, in the wire format of the time of the subscription.
#[test]
fn subscription_before_a_clients_handshake_works_after_it() {
    let mut sim = Sim::new(Log::new(), early_subscriber);
    sim.settle();
    assert_eq!(sim.reactor().publish("news", "hello").delivered, 1);
    sim.settle();
    assert_eq!(*sim.state(), ["client opened", "server got hello"]);
}

#[test]
fn wire_format_that_is_set_later_holds_for_subscriptions_from_before() {
    let mut sim = Sim::new(Log::new(), |reactor: &mut Reactor<Log>| {
        reactor.websocket("0.0.0.0:80", |ws| {
            ws.on_open(|ws, _| ws.subscribe("news"));
            ws.on_message(|ws, _| {
                let loud = ws
                    .reactor
                    .register_wire_format("loud", |publication, out| {
                        let text = publication.event.payload().to_text().to_uppercase();
                        out.extend_from_slice(text.as_bytes());
                        BodyKind::Text
                    })
                    .unwrap();
                ws.reactor.set_wire_format(ws.id, loud);
            });
        })
    });
    let (plain, loud) = (sim.websocket("/"), sim.websocket("/"));
    loud.send("louder");
    sim.settle();
    assert_eq!(sim.reactor().publish("news", "hello").delivered, 2);
    sim.settle();
    assert_eq!(plain.received(), ["hello"]);
    assert_eq!(loud.received(), ["HELLO"]);
}

#[test]
fn publication_leaves_out_the_member_that_is_excepted() {
    let mut sim = Sim::new(Log::new(), |reactor: &mut Reactor<Log>| {
        reactor.http("0.0.0.0:80", |http| {
            http.websocket("/", |ws| {
                ws.on_open(|ws, _| {
                    ws.subscribe("news").unwrap();
                    // A member by name and by pattern is left out of both.
                    ws.reactor.subscribe_pattern(ws.id, "new*").unwrap();
                });
                ws.on_message(|ws, message| {
                    let published = ws.reactor.publish_except("news", message, ws.id);
                    ws.state.push(published.delivered.to_string());
                });
            });
        })
    });
    let (sender, other) = (sim.websocket("/"), sim.websocket("/"));
    sender.send("first");
    sim.settle();
    other.send("second");
    sim.settle();
    assert_eq!(*sim.state(), ["1", "1"]);
    assert_eq!(sender.received(), ["second"]);
    assert_eq!(other.received(), ["first"]);
}

#[test]
fn publication_with_a_stale_exception_reaches_every_member() {
    let mut sim = Sim::new(None, |reactor: &mut Reactor<Option<ConnId>>| {
        reactor.websocket("0.0.0.0:80", |ws| {
            ws.on_open(|ws, _| {
                ws.state.get_or_insert(ws.id);
                ws.subscribe("news")
            });
        })
    });
    sim.websocket("/").vanish();
    sim.settle();
    let client = sim.websocket("/");
    let stale = sim.state().unwrap();
    let published = sim.reactor().publish_except("news", "hello", stale);
    assert_eq!(published.delivered, 1);
    sim.settle();
    assert_eq!(client.received(), ["hello"]);
}

#[test]
fn wire_format_with_values_finds_the_value_of_each_subscription() {
    let mut sim = Sim::new(0, |reactor: &mut Reactor<u32>| {
        reactor.websocket("0.0.0.0:80", |ws| {
            ws.on_open(|ws, _| {
                let numbered = ws
                    .reactor
                    .register_wire_format_with_values("numbered", |publication, out| {
                        let text = publication.event.payload().to_text();
                        out.extend_from_slice(format!("{}: {text}", publication.value).as_bytes());
                        BodyKind::Text
                    })
                    .unwrap();
                ws.reactor.set_wire_format(ws.id, numbered);
                *ws.state += 1;
                ws.reactor.subscribe_with_value(ws.id, "news", *ws.state)
            });
        })
    });
    let clients = [(); 3].map(|()| sim.websocket("/"));
    assert_eq!(sim.reactor().publish("news", "hello").delivered, 3);
    sim.settle();
    let received = clients.each_ref().map(SimSocket::received);
    assert_eq!(received, [["1: hello"], ["2: hello"], ["3: hello"]]);
}

/// A member of random steps, and what it must get.
struct Member {
    id: ConnId,
    client: SimSocket,
    is_in: [bool; 3],
    format: usize,
    expected: Vec<String>,
    received: Vec<String>,
}

// Publications are queued in several ways: with what is before them, in which format, and whether the
// socket takes bytes must not change what a member gets.
#[test]
fn random_publications_reach_each_member_once_and_in_order() {
    const TOPICS: [&str; 3] = ["a", "b", "c"];
    for seed in 0..300 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut sim = Sim::new(Vec::new(), |reactor: &mut Reactor<Vec<ConnId>>| {
            reactor.websocket("0.0.0.0:80", |ws| {
                ws.on_open(|ws, _| ws.state.push(ws.id));
                ws.on_message(|ws, message| ws.send(message));
            })
        });
        let marked = |publication: &waterwheel::pubsub::Publication<'_>, out: &mut Vec<u8>| {
            out.extend_from_slice(b"marked ");
            out.extend_from_slice(publication.event.payload().to_text().as_bytes());
            BodyKind::Text
        };
        let reactor = sim.reactor();
        let plain = reactor.register_wire_format("marked", marked).unwrap();
        let with_values = reactor
            .register_wire_format_with_values("with values", marked)
            .unwrap();
        let formats = [WireFormat::RAW, plain, with_values];
        let mut members: Vec<Member> = (0..6)
            .map(|n| {
                sim.socket_bytes(if n < 2 { 300 } else { 1 << 20 });
                let client = sim.websocket("/");
                Member {
                    id: *sim.state().last().unwrap(),
                    client,
                    is_in: [false; 3],
                    format: 0,
                    expected: Vec::new(),
                    received: Vec::new(),
                }
            })
            .collect();
        if seed % 2 == 1 {
            sim.faults(
                seed,
                Faults {
                    short_writes_percent: 20,
                    refused_writes_percent: 20,
                    ..Faults::default()
                },
            );
        }
        for step in 0..150 {
            let topic = random.random_range(0..3);
            let chosen = random.random_range(0..members.len());
            let length = match random.random_range(0..20) {
                0 => 20_000,
                1..4 => 3000,
                _ => 10,
            };
            let text = format!("{step:x<length$}");
            let id = members[chosen].id;
            match random.random_range(0..20) {
                kind @ 0..10 => {
                    let queued = members
                        .iter()
                        .map(|member| sim.reactor().queued_bytes(member.id));
                    let queued: Vec<usize> = queued.collect();
                    let except = (kind == 9).then_some(id);
                    match except {
                        Some(id) => sim.reactor().publish_except(TOPICS[topic], &*text, id),
                        None => sim.reactor().publish(TOPICS[topic], &*text),
                    };
                    for (member, before) in members.iter_mut().zip(queued) {
                        let mut after = before;
                        if member.is_in[topic] && except != Some(member.id) {
                            let prefix = if member.format == 0 { "" } else { "marked " };
                            let text = format!("{prefix}{text}");
                            let header = if text.len() < 126 { 2 } else { 4 };
                            after += header + text.len() + QUEUED_MESSAGE_BYTES;
                            member.expected.push(text);
                        }
                        let queued = sim.reactor().queued_bytes(member.id);
                        assert_eq!(queued, after, "seed {seed}, step {step}");
                    }
                }
                10..13 => {
                    let _ = match members[chosen].is_in[topic] {
                        true => Ok(sim.reactor().unsubscribe(id, TOPICS[topic])),
                        false => sim.reactor().subscribe(id, TOPICS[topic]),
                    };
                    members[chosen].is_in[topic] ^= true;
                }
                13 => {
                    members[chosen].format = random.random_range(0..3);
                    let format = formats[members[chosen].format];
                    sim.reactor().set_wire_format(id, format);
                }
                14..16 => {
                    sim.reactor().send(id, &*text);
                    members[chosen].expected.push(text);
                }
                // Faults and a small socket may delay the message of a client.
                16 if seed % 2 == 0 && 2 <= chosen => {
                    members[chosen].client.send(&*text);
                    members[chosen].expected.push(text);
                    sim.settle();
                }
                17 => {
                    let member = &mut members[chosen];
                    member.received.extend(member.client.received());
                }
                _ => sim.settle(),
            }
        }
        for member in &mut members {
            while {
                sim.settle();
                let received = member.client.received();
                member.received.extend(received);
                sim.reactor().queued_bytes(member.id) != 0
            } {}
            sim.settle();
            member.received.extend(member.client.received());
            let differs = |(got, wanted): &(&String, &String)| got != wanted;
            let mut pairs = member.received.iter().zip(&member.expected);
            assert_eq!(pairs.find(differs), None, "seed {seed}");
            assert_eq!(member.received.len(), member.expected.len(), "seed {seed}");
        }
    }
}

// ── queues above their marks before the flush ───────────────────────────────────────────────────

const HIGH_BYTES: usize = 20_000;
const NEWS_BYTES: usize = 5_000;

/// A server whose members have a high watermark of four messages, and so many members.
fn members_with_a_mark(count: usize) -> (Sim<Vec<usize>>, Vec<SimSocket>) {
    let mut sim = Sim::new(Vec::new(), |reactor: &mut Reactor<Vec<usize>>| {
        reactor.websocket("0.0.0.0:80", |ws| {
            ws.options().queue_high_bytes = HIGH_BYTES;
            ws.options().queue_low_bytes = HIGH_BYTES / 2;
            ws.on_open(|ws, _| ws.subscribe("news"));
            ws.on_drain(|ws| {
                let queued_bytes = ws.reactor.queued_bytes(ws.id);
                ws.state.push(queued_bytes);
            });
        })
    });
    sim.socket_bytes(4 * 1024 * 1024);
    let members = (0..count).map(|_| sim.websocket("/")).collect();
    sim.settle();
    (sim, members)
}

/// Publishes so many messages in one callback, and returns the most that a queue has held after one of them.
fn most_queued_bytes(sim: &mut Sim<Vec<usize>>, count: usize) -> usize {
    sim.reactor().next_tick(move |cx| {
        for _ in 0..count {
            cx.reactor.publish("news", "x".repeat(NEWS_BYTES));
            let ids = cx.reactor.members("news");
            let queued = ids.map(|id| cx.reactor.queued_bytes(id)).max();
            cx.state.extend(queued);
        }
    });
    sim.settle();
    sim.state().drain(..).max().unwrap_or(0)
}

/// A message adds at most so many bytes to a queue.
const COUNTED_BYTES: usize = NEWS_BYTES + QUEUED_MESSAGE_BYTES + 10;

// Writing the queues of all members early would take too long, so they take more than their mark until the
// flush, but not more than twice the mark.
#[test]
fn one_callback_queues_at_most_a_message_above_twice_the_mark() {
    let (mut sim, members) = members_with_a_mark(200);
    let most = most_queued_bytes(&mut sim, 50);
    assert!(
        HIGH_BYTES + COUNTED_BYTES < most,
        "{most}: all were written early"
    );
    assert!(most <= 2 * HIGH_BYTES + COUNTED_BYTES, "{most}");
    assert!(members.iter().all(|member| member.received().len() == 50));
}

#[test]
fn each_turn_writes_queues_above_their_mark_early_again() {
    let (mut sim, members) = members_with_a_mark(50);
    for turn in 0..5 {
        let most = most_queued_bytes(&mut sim, 7);
        assert!(most <= HIGH_BYTES + COUNTED_BYTES, "{most} in turn {turn}");
    }
    assert!(members.iter().all(|member| member.received().len() == 35));
}

// The kernel takes a part of them, so that the member is above its mark until it reads.
#[test]
fn on_drain_follows_publications_of_one_callback_that_reach_the_mark() {
    let (mut sim, _) = members_with_a_mark(0);
    sim.socket_bytes(8 * 1024);
    let member = sim.websocket("/");
    sim.settle();
    let id = sim.reactor().members("news").next().unwrap();
    sim.reactor().next_tick(move |cx| {
        for _ in 0..4 {
            cx.reactor.publish("news", "x".repeat(NEWS_BYTES));
        }
        assert!(HIGH_BYTES < cx.reactor.queued_bytes(id));
    });
    sim.settle();
    assert!(sim.state().is_empty());
    let mut received_count = 0;
    while received_count < 4 {
        received_count += member.received().len();
        sim.settle();
    }
    // The bytes that were left when it was called.
    let left = sim.state().as_slice();
    assert!(
        matches!(left, [left] if *left <= HIGH_BYTES / 2),
        "{left:?}"
    );
}
