//! Topics and their members, over every transport.

use std::io;

use waterwheel::pubsub::BodyKind;
use waterwheel::{ConnId, Event, Faults, ListenerId, Reactor, Sim, SimSocket, SimStream};

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
