//! Connections: bytes, ends, deadlines, pauses and goodbyes, on the invented clock of a simulation.

use std::collections::HashMap;
use std::io;
use std::panic::resume_unwind;
use std::time::Duration;

use waterwheel::{
    Close, CloseCause, Config, ConnId, Faults, ListenerId, Overflow, Reactor, Received, Sent, Sim,
    SimSocket, SimStream, StreamCallbacks,
};

/// A deadline of a connection passes at most this much late, and never early.
const LATE: Duration = Duration::from_millis(70);

const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

type Log = Vec<String>;

/// A stream server that logs its callbacks as lines and never answers.
fn log_stream(reactor: &mut Reactor<Log>) -> io::Result<ListenerId> {
    reactor.stream("0.0.0.0:1", |stream| {
        stream.on_open(|stream| stream.state.push("open".into()));
        stream.on_data(|stream, bytes| {
            let text = String::from_utf8_lossy(bytes).into_owned();
            stream.state.push(text)
        });
        stream.on_close(|stream, close| stream.state.push(format!("close {close}")));
    })
}

// ── bytes ────────────────────────────────────────────────────────────────────────────────────

fn echo(reactor: &mut Reactor<Log>) -> io::Result<ListenerId> {
    reactor.stream("0.0.0.0:1", |stream| {
        stream.on_data(|stream, bytes| stream.send(bytes));
        stream.on_close(|stream, close| stream.state.push(format!("close {close}")));
    })
}

/// Bytes that show when their order is wrong.
fn pattern(length: usize) -> Vec<u8> {
    (0..length as u64)
        .map(|n| (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8)
        .collect()
}

#[test]
fn megabytes_come_back_whole_through_short_reads_and_writes() {
    for seed in 0..4 {
        let mut sim = Sim::new(Log::new(), echo);
        sim.socket_bytes([300, 5000, 64 * 1024, 1024 * 1024][seed as usize]);
        let client = sim.connect();
        sim.faults(
            seed,
            Faults {
                short_reads_percent: 30,
                short_writes_percent: 30,
                refused_writes_percent: 20,
                resets_percent: 0,
            },
        );
        let sent = pattern(if seed == 0 { 100_000 } else { 2_000_000 });
        let (mut written, mut back) = (0, Vec::new());
        while back.len() < sent.len() {
            let before = (written, back.len());
            for _ in 0..20 {
                written += client.write(&sent[written..]);
                sim.settle();
                back.extend(client.read());
                sim.settle();
            }
            assert_ne!(before, (written, back.len()), "stuck, seed {seed}");
        }
        assert!(back == sent, "seed {seed}");
        client.finish();
        sim.settle();
        assert!(client.is_closed());
        assert_eq!(*sim.state(), ["close closed by peer"]);
        let stats = sim.reactor().stats();
        assert_eq!(stats.received_bytes, sent.len() as u64);
        assert_eq!(stats.sent_bytes, sent.len() as u64);
    }
}

#[test]
fn a_half_closed_peer_gets_its_answer_before_the_end() {
    let mut sim = Sim::new(Log::new(), echo);
    sim.socket_bytes(1000);
    let client = sim.connect();
    client.write([b'x'; 1000]);
    sim.settle();
    client.write([b'y'; 1000]);
    client.finish();
    sim.settle();
    assert!(sim.state().is_empty(), "queued bytes go first");
    assert_eq!(client.read(), [b'x'; 1000]);
    sim.settle();
    assert_eq!(client.read(), [b'y'; 1000]);
    sim.settle();
    assert!(client.is_closed());
    assert_eq!(*sim.state(), ["close closed by peer"]);
}

#[test]
fn with_on_end_our_side_stays_open_until_the_application_ends_it() {
    let mut sim = Sim::new(Log::new(), |reactor: &mut Reactor<Log>| {
        reactor.stream("0.0.0.0:1", |stream| {
            stream.on_end(|stream| {
                let id = stream.id;
                stream.reactor.after(secs(60), move |cx| {
                    cx.reactor.send(id, "late answer");
                    cx.reactor.close(id)
                });
            });
            stream.on_close(|stream, close| stream.state.push(format!("close {close}")));
        })
    });
    let client = sim.connect();
    client.finish();
    sim.advance(secs(59));
    assert!(!client.is_closed());
    sim.advance(secs(1));
    assert_eq!(client.read_text(), "late answer");
    assert!(client.is_closed());
    assert_eq!(*sim.state(), ["close closed by us"]);
}

#[test]
fn bytes_sent_before_close_arrive_and_later_sends_answer_gone() {
    let mut sim = Sim::new(Vec::new(), |reactor: &mut Reactor<Vec<Sent>>| {
        reactor.stream("0.0.0.0:1", |stream| {
            stream.on_open(|stream| {
                let before = stream.send("all of it");
                let close = stream.close();
                let after = stream.send("too late");
                let again = stream.close();
                *stream.state = vec![before, close, after, again];
            });
        })
    });
    let client = sim.connect();
    assert_eq!(client.read_text(), "all of it");
    assert!(client.is_closed());
    let expected = [Sent::Queued, Sent::Queued, Sent::Gone, Sent::Gone];
    assert_eq!(*sim.state(), expected);
}

#[test]
fn a_connect_within_one_program_has_one_outcome() {
    let mut sim = Sim::new(Log::new(), |reactor: &mut Reactor<Log>| -> io::Result<()> {
        echo(reactor)?;
        for port in [1, 2] {
            reactor.connect_stream(format!("127.0.0.1:{port}"), move |client| {
                client.on_open(move |client| {
                    client.state.push(format!("{port} open"));
                    client.send("hi")
                });
                client.on_data(move |client, bytes| {
                    let text = String::from_utf8_lossy(bytes).into_owned();
                    client.state.push(format!("{port} {text}"));
                    client.close()
                });
                client.on_close(move |client, close| {
                    client.state.push(format!("{port} close {close}"))
                });
            })?;
        }
        Ok(())
    });
    sim.advance(secs(100));
    let of = |port: &str, log: &Log| -> Log {
        log.iter()
            .filter(|line| line.starts_with(port))
            .cloned()
            .collect()
    };
    let log = sim.state().clone();
    assert_eq!(of("1", &log), ["1 open", "1 hi", "1 close closed by us"]);
    assert_eq!(
        of("2", &log),
        ["2 close transport failed: connection refused"]
    );
    assert_eq!(of("close", &log), ["close closed by peer"]);
    assert_eq!(sim.reactor().connection_count(), 0);
}

// ── before a connection is made ──────────────────────────────────────────────────────────────

/// Callbacks of a client that log lines with its name in front.
fn log_client(stream: &mut StreamCallbacks<Log>) {
    stream.on_open(|stream| stream.state.push("client open".into()));
    stream.on_data(|stream, bytes| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        stream.state.push(format!("client got {text}"))
    });
    stream.on_close(|stream, close| stream.state.push(format!("client close {close}")));
}

#[test]
fn bytes_sent_before_a_connection_is_made_arrive_first() {
    let mut sim = Sim::new(String::new(), |reactor: &mut Reactor<String>| {
        reactor.stream("0.0.0.0:1", |stream| {
            stream.on_data(|stream, bytes| {
                stream.state.push_str(str::from_utf8(bytes).unwrap());
            });
        })?;
        let id = reactor.connect_stream("sim:1", |stream| {
            stream.on_open(|stream| stream.send("in on_open "));
            stream.on_data(|_, _| ());
        })?;
        for text in ["first ", "second "] {
            assert_eq!(reactor.send(id, text), Sent::Queued);
        }
        io::Result::Ok(())
    });
    sim.settle();
    assert_eq!(*sim.state(), "first second in on_open ");
}

// The bytes were thrown away, and the place was kept for ten seconds.
#[test]
fn close_before_a_connection_is_made_delivers_what_was_sent_before_it() {
    let mut sim = Sim::new(Log::new(), |reactor: &mut Reactor<Log>| {
        log_stream(reactor)?;
        let id = reactor.connect_stream("sim:1", log_client)?;
        reactor.send(id, "last words");
        assert_eq!(reactor.close(id), Sent::Queued);
        assert_eq!(reactor.send(id, "too late"), Sent::Gone);
        assert_eq!(reactor.close(id), Sent::Gone);
        io::Result::Ok(())
    });
    sim.settle();
    assert_eq!(sim.reactor().connection_count(), 0);
    let server: Log = ["open", "last words", "close closed by peer"]
        .map(str::to_owned)
        .into();
    let (of_client, of_server): (Log, Log) = sim
        .state()
        .drain(..)
        .partition(|line| line.starts_with("client"));
    assert_eq!(of_server, server);
    assert_eq!(of_client, ["client close closed by us"]);
}

#[test]
fn close_with_nothing_sent_before_a_connection_is_made_ends_it_at_once() {
    for reset in [false, true] {
        let mut sim = Sim::new(Log::new(), |reactor: &mut Reactor<Log>| {
            reactor.stream("0.0.0.0:1", |_| ())?;
            let id = reactor.connect_stream("sim:1", log_client)?;
            match reset {
                true => reactor.reset(id),
                false => assert_eq!(reactor.close(id), Sent::Queued),
            }
            io::Result::Ok(())
        });
        sim.settle();
        assert_eq!(*sim.state(), ["client close closed by us"]);
        assert_eq!(sim.reactor().connection_count(), 0, "reset: {reset}");
    }
}

#[test]
fn a_pause_before_a_connection_is_made_holds_until_resume() {
    let mut id = None;
    let mut sim = Sim::new(Log::new(), |reactor: &mut Reactor<Log>| {
        reactor.stream("0.0.0.0:1", |stream| {
            stream.on_open(|stream| stream.send("greeting"));
        })?;
        let made = reactor.connect_stream("sim:1", log_client)?;
        reactor.pause(made);
        id = Some(made);
        io::Result::Ok(())
    });
    sim.settle();
    assert_eq!(*sim.state(), ["client open"]);
    sim.reactor().resume(id.unwrap());
    sim.settle();
    assert_eq!(*sim.state(), ["client open", "client got greeting"]);
}

#[test]
fn a_refused_connection_drops_what_was_sent_and_calls_on_close_once() {
    let mut id = None;
    let mut sim = Sim::new(Log::new(), |reactor: &mut Reactor<Log>| {
        let made = reactor.connect_stream("sim:2", log_client)?;
        reactor.send(made, "nobody reads this");
        id = Some(made);
        io::Result::Ok(())
    });
    sim.advance(secs(100));
    let expected = ["client close transport failed: connection refused"];
    assert_eq!(*sim.state(), expected);
    let id = id.unwrap();
    assert_eq!(sim.reactor().queued_bytes(id), 0);
    assert_eq!(sim.reactor().connection_count(), 0);
    assert_eq!(sim.reactor().stats().sent_bytes, 0);
    assert_eq!(sim.reactor().send(id, "stale"), Sent::Gone);
}

// ── budgets and pauses ───────────────────────────────────────────────────────────────────────

#[test]
fn a_flood_on_one_connection_does_not_delay_another() {
    let config = Config {
        read_buffer_bytes: 64 * 1024,
        read_budget_bytes: 64 * 1024,
        ..Config::default()
    };
    let mut sim = Sim::with_config(config, 0, |reactor: &mut Reactor<usize>| {
        reactor.stream("0.0.0.0:1", |stream| {
            stream.on_data(|stream, bytes| match bytes {
                b"hello" => drop(stream.send(bytes)),
                flood => *stream.state += flood.len(),
            });
        })
    });
    sim.socket_bytes(4 * 1024 * 1024);
    let (flood, polite) = (sim.connect(), sim.connect());
    flood.write(vec![0; 4 * 1024 * 1024]);
    polite.write("hello");
    sim.turn();
    assert_eq!(polite.read_text(), "hello");
    assert_eq!(*sim.state(), 64 * 1024, "the budget of one turn");
    sim.settle();
    assert_eq!(*sim.state(), 4 * 1024 * 1024);
}

#[test]
fn a_turn_accepts_at_most_its_budget_and_the_next_turns_the_rest() {
    let config = Config {
        accepts_per_turn: 2,
        connections_max: 4,
        ..Config::default()
    };
    let mut sim = Sim::with_config(config, Log::new(), log_stream);
    let mut clients: Vec<SimStream> = (0..6).map(|_| sim.connect()).collect();
    assert_eq!(sim.state().len(), 4, "as many as allowed");
    assert_eq!(sim.reactor().connection_count(), 4);
    assert!(0 < sim.reactor().stats().accept_pauses);
    assert!(!clients[5].is_closed(), "the client waits");
    clients.drain(..2);
    sim.settle();
    let opens = sim.state().iter().filter(|line| *line == "open").count();
    assert_eq!(opens, 6, "served when others have left");
}

#[test]
fn a_paused_connection_delivers_nothing_until_resume_and_then_everything() {
    let mut sim = Sim::new(Log::new(), |reactor: &mut Reactor<Log>| {
        reactor.stream("0.0.0.0:1", |stream| {
            stream.on_open(|stream| {
                let id = stream.id;
                stream.reactor.pause(id);
                stream
                    .reactor
                    .after(secs(300), move |cx| cx.reactor.resume(id));
            });
            stream.on_data(|stream, bytes| {
                let text = String::from_utf8_lossy(bytes).into_owned();
                stream.state.push(text)
            });
            stream.on_close(|stream, close| stream.state.push(format!("close {close}")));
        })
    });
    let client = sim.connect();
    client.write("a");
    sim.advance(secs(1));
    client.write("b");
    client.finish();
    sim.advance(secs(298));
    assert!(sim.state().is_empty());
    sim.advance(secs(1));
    assert_eq!(*sim.state(), ["ab", "close closed by peer"]);
}

#[test]
fn pausing_in_on_message_holds_later_messages_until_resume() {
    let mut sim = Sim::new(Log::new(), |reactor: &mut Reactor<Log>| {
        reactor.websocket("0.0.0.0:80", |ws| {
            ws.on_message(|ws, message| {
                ws.state.push(message.to_string());
                let id = ws.id;
                ws.reactor.pause(id);
                ws.reactor.after(secs(1), move |cx| cx.reactor.resume(id));
            });
            ws.on_close(|ws, close| ws.state.push(format!("close {close}")));
        })
    });
    let client = sim.websocket("/");
    for text in ["1", "2", "3"] {
        client.send(text);
    }
    client.close(1000);
    sim.settle();
    for heard in 1..=3 {
        assert_eq!(sim.state().len(), heard);
        sim.advance(secs(1));
    }
    assert_eq!(*sim.state(), ["1", "2", "3", "close 1000 closed by peer"]);
}

// A paused connection cannot deliver its pong, so the missing pong must not end it.
#[test]
fn a_paused_socket_does_not_time_out_for_a_missing_pong() {
    let mut sim = Sim::new(Log::new(), |reactor: &mut Reactor<Log>| {
        reactor.websocket("0.0.0.0:80", |ws| {
            ws.on_open(|ws, _| ws.reactor.pause(ws.id));
            ws.on_message(|ws, message| ws.state.push(message.to_string()));
            ws.on_close(|ws, close| ws.state.push(format!("close {close}")));
        })
    });
    let mut id = None;
    let client = sim.websocket("/");
    client.send("patience");
    for _ in 0..300 {
        sim.advance(secs(1));
        for event in client.take_events() {
            assert_eq!(event, Received::Ping(Vec::new()));
            client.pong();
        }
        id = id.or_else(|| the_only_connection(&mut sim));
    }
    assert!(sim.state().is_empty(), "{:?}", sim.state());
    sim.reactor().resume(id.unwrap());
    sim.settle();
    assert_eq!(*sim.state(), ["patience"]);
    // After resume the pong deadline holds again.
    sim.advance(secs(46));
    assert_eq!(sim.state()[1..], ["close 1006 pong deadline passed"]);
}

#[test]
fn a_paused_stream_is_not_idle() {
    let mut config = Config::default();
    config.options.idle_timeout = Some(secs(10));
    let mut sim = Sim::with_config(config, Log::new(), log_stream);
    let client = sim.connect();
    let id = the_only_connection(&mut sim).unwrap();
    sim.reactor().pause(id);
    client.write("waits");
    sim.advance(secs(100));
    sim.reactor().resume(id);
    sim.settle();
    assert_eq!(*sim.state(), ["open", "waits"]);
    sim.advance(secs(10) + LATE);
    assert_eq!(sim.state()[2..], ["close idle deadline passed"]);
}

/// The id of the only open connection, found without the application.
fn the_only_connection<S: 'static>(sim: &mut Sim<S>) -> Option<ConnId> {
    (0..16u64)
        .flat_map(|index| (0..16u64).map(move |generation| (generation << 32) | index))
        .map(ConnId::from_bits)
        .find(|id| sim.reactor().is_open(*id))
}

// ── deadlines ────────────────────────────────────────────────────────────────────────────────

#[test]
fn an_idle_stream_is_closed_at_its_deadline_which_each_byte_postpones() {
    let mut config = Config::default();
    config.options.idle_timeout = Some(secs(10));
    let mut sim = Sim::with_config(config, Log::new(), log_stream);
    let client = sim.connect();
    sim.advance(secs(9));
    client.write("x");
    sim.advance(secs(10));
    assert!(!client.is_closed());
    sim.advance(LATE);
    assert!(client.is_closed());
    assert_eq!(*sim.state(), ["open", "x", "close idle deadline passed"]);
}

#[test]
fn raw_listeners_and_raw_clients_have_options_of_their_own() {
    let mut sim = Sim::new(Log::new(), |reactor: &mut Reactor<Log>| {
        reactor.stream("0.0.0.0:1", |stream| {
            stream.options().idle_timeout = Some(secs(10));
            stream.on_close(|stream, close| stream.state.push(format!("server: {close}")));
        })?;
        reactor.stream("0.0.0.0:2", |_| ())?;
        reactor.connect_stream("127.0.0.1:2", |stream| {
            stream.options().idle_timeout = Some(secs(20));
            stream.on_close(|stream, close| stream.state.push(format!("client: {close}")));
        })
    });
    let hasty = sim.connect_port(1);
    let patient = sim.connect_port(2);
    sim.advance(secs(10) + LATE);
    assert!(hasty.is_closed());
    assert_eq!(*sim.state(), ["server: idle deadline passed"]);
    sim.advance(secs(10) + LATE);
    assert_eq!(sim.state()[1..], ["client: idle deadline passed"]);
    sim.advance(secs(1000));
    assert!(!patient.is_closed());
}

#[test]
fn a_connection_without_a_whole_head_is_closed_after_ten_seconds() {
    let cases = [
        ("silent", "", ""),
        ("slow", "GET / HTTP/1.1\r\nHost: sim\r\n", "HTTP/1.1 408"),
    ];
    for (name, head, answer) in cases {
        let mut sim = Sim::new(Log::new(), |reactor: &mut Reactor<Log>| {
            reactor.websocket("0.0.0.0:80", |ws| {
                ws.on_open(|ws, _| ws.state.push("open".into()));
                ws.on_close(|ws, _| ws.state.push("close".into()));
            })
        });
        let client = sim.connect();
        // Single bytes do not postpone the deadline.
        client.write(head);
        for _ in 0..9 {
            sim.advance(secs(1));
            client.write(if head.is_empty() { "" } else { "x" });
        }
        sim.advance(secs(1));
        assert!(!client.is_closed(), "{name}");
        sim.advance(LATE);
        let came = client.read_text();
        assert!(came.starts_with(answer), "{name}: {came:?}");
        assert_eq!(came.is_empty(), answer.is_empty(), "{name}: {came:?}");
        assert!(client.is_closed(), "{name}");
        // The connection lingers so that its answer can be read, but not for ever.
        sim.advance(secs(10) + LATE);
        assert_eq!(sim.reactor().connection_count(), 0, "{name}");
        assert!(sim.state().is_empty(), "{name}: {:?}", sim.state());
    }
}

#[test]
fn a_peer_that_reads_nothing_for_thirty_seconds_is_removed() {
    let mut sim = Sim::new(Log::new(), |reactor: &mut Reactor<Log>| {
        reactor.stream("0.0.0.0:1", |stream| {
            stream.on_open(|stream| stream.send([0; 100_000]));
            stream.on_close(|stream, close| stream.state.push(format!("close {close}")));
        })
    });
    sim.socket_bytes(10_000);
    let (slow, stalled) = (sim.connect(), sim.connect());
    // A client that reads a few bytes now and then is slow but alive.
    let mut read = 0;
    sim.advance(secs(29));
    read += slow.read().len();
    sim.advance(secs(1));
    assert!(!stalled.is_closed());
    sim.advance(LATE);
    assert!(stalled.is_closed());
    assert_eq!(*sim.state(), ["close write deadline passed"]);
    while read < 100_000 {
        sim.advance(secs(20));
        let came = slow.read().len();
        assert_ne!(came, 0);
        read += came;
    }
    assert!(!slow.is_closed());
    // An empty queue has no write deadline.
    sim.advance(secs(3600));
    assert!(!slow.is_closed());
}

#[test]
fn a_closed_stream_is_removed_within_ten_seconds_whatever_the_peer_does() {
    let mut sim = Sim::new(Log::new(), |reactor: &mut Reactor<Log>| {
        reactor.stream("0.0.0.0:1", |stream| {
            stream.on_open(|stream| {
                stream.send([0; 50_000]);
                stream.close()
            });
            stream.on_close(|stream, close| stream.state.push(format!("close {close}")));
        })
    });
    // One client reads no bytes, one reads all and does not end its side, one does both.
    sim.socket_bytes(10_000);
    let stuck = sim.connect();
    sim.socket_bytes(100_000);
    let (open, polite) = (sim.connect(), sim.connect());
    polite.read();
    polite.finish();
    sim.settle();
    assert_eq!(sim.reactor().connection_count(), 2);
    sim.advance(secs(10));
    assert_eq!(sim.reactor().connection_count(), 2);
    sim.advance(LATE);
    assert_eq!(sim.reactor().connection_count(), 0);
    assert_eq!(*sim.state(), vec!["close closed by us"; 3]);
    drop((stuck, open));
}

// ── draining ─────────────────────────────────────────────────────────────────────────────────

fn rooms(reactor: &mut Reactor<Log>) -> io::Result<()> {
    reactor.http("0.0.0.0:80", |http| {
        http.get("/later", |request| {
            let responder = request.reply_later();
            request
                .reactor
                .after(secs(2), move |cx| cx.reactor.reply(responder, "done"));
        });
        http.get("/events", |request| {
            request.event_stream().subscribe("news")
        });
        http.websocket("/ws", |ws| {
            ws.on_close(|ws, close| {
                ws.state
                    .push(format!("{close}, clean: {}", close.was_clean))
            });
        });
    })?;
    Ok(())
}

/// Answers a close frame if one has arrived, and returns whether one has.
fn answer_goodbye(socket: &SimSocket) -> bool {
    let goodbye = Received::Close(1001, "going away".into());
    let is_goodbye = socket.take_events().contains(&goodbye);
    if is_goodbye {
        socket.close(1001);
    }
    is_goodbye
}

#[test]
fn a_drain_spreads_its_goodbyes_over_its_window_and_ends_with_the_last_connection() {
    let mut sim = Sim::new(Log::new(), rooms);
    let sockets: Vec<SimSocket> = (0..20).map(|_| sim.websocket("/ws")).collect();
    sim.advance(secs(1));
    sim.reactor().drain(secs(10));
    assert!(sim.reactor().is_draining());
    let mut goodbyes = 0;
    for second in 1..=10 {
        sim.advance(secs(1));
        goodbyes += sockets
            .iter()
            .filter(|socket| answer_goodbye(socket))
            .count();
        assert!(
            goodbyes.abs_diff(2 * second) <= 1,
            "{goodbyes} in {second} s"
        );
        assert!(sim.is_running());
        sim.settle();
    }
    assert_eq!(goodbyes, 20);
    assert!(!sim.is_running());
    assert_eq!(
        *sim.state(),
        vec!["1001 closed by us, draining: going away, clean: true"; 20]
    );
}

#[test]
fn a_drain_closes_the_listeners_and_finishes_answers_under_way() {
    let mut listener = None;
    let mut sim = Sim::new(Log::new(), |reactor: &mut Reactor<Log>| {
        rooms(reactor).unwrap();
        listener = Some(reactor.stream("0.0.0.0:9", |_| {}).unwrap());
    });
    let waiting = sim.connect_port(80);
    waiting.write("GET /later HTTP/1.1\r\nHost: sim\r\n\r\n");
    let events = sim.connect_port(80);
    events.write("GET /events HTTP/1.1\r\nHost: sim\r\n\r\n");
    let idle = sim.connect_port(80);
    sim.settle();
    assert!(sim.reactor().local_addr(listener.unwrap()).is_some());
    sim.reactor().drain(secs(1));
    assert!(sim.reactor().local_addr(listener.unwrap()).is_none());
    sim.advance(secs(1) + millis(20));
    assert!(idle.is_closed(), "it has no request under way");
    let stream = events.read_text();
    assert!(stream.ends_with("0\r\n\r\n"), "{stream}");
    assert!(events.is_closed());
    assert!(!waiting.is_closed());
    assert_eq!(waiting.read_text(), "");
    sim.advance(secs(1));
    let answer = waiting.read_text();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(
        answer.to_lowercase().contains("connection: close"),
        "{answer}"
    );
    assert!(answer.ends_with("done"), "{answer}");
    for client in [&waiting, &events, &idle] {
        assert!(client.is_closed());
        client.close();
    }
    sim.advance(millis(20));
    assert!(!sim.is_running());
}

#[test]
fn a_paused_listener_leaves_clients_waiting_until_it_is_resumed() {
    let mut paused = None;
    let mut sim = Sim::new(Log::new(), |reactor: &mut Reactor<Log>| {
        paused = Some(reactor.stream("0.0.0.0:9", |_| {}).unwrap());
    });
    let listener = paused.unwrap();
    assert!(sim.reactor().pause_listener(listener));
    let _early = sim.connect_port(9);
    sim.settle();
    assert_eq!(sim.reactor().connection_count(), 0);
    assert!(sim.reactor().resume_listener(listener));
    sim.settle();
    assert_eq!(sim.reactor().connection_count(), 1);
    sim.reactor().close_listener(listener);
    assert!(!sim.reactor().pause_listener(listener));
    assert!(!sim.reactor().resume_listener(listener));
}

/// A request that crosses the goodbye on its way is not lost. Source: RFC 9112, section 9.6.
#[test]
fn a_drain_answers_idle_connections_once_more_until_the_end_of_its_window() {
    let mut sim = Sim::new(Log::new(), |reactor: &mut Reactor<Log>| rooms(reactor));
    let request = "GET /nowhere HTTP/1.1\r\nHost: sim\r\n\r\n";
    let kept: Vec<_> = (0..10).map(|_| sim.connect_port(80)).collect();
    let fresh = sim.connect_port(80);
    let silent = sim.connect_port(80);
    for client in &kept {
        client.write(request);
    }
    sim.settle();
    for client in &kept {
        assert!(client.read_text().starts_with("HTTP/1.1 404"));
    }
    sim.reactor().drain(secs(2));
    for (index, client) in kept.iter().chain([&fresh]).enumerate() {
        sim.advance(millis(170));
        assert!(!client.is_closed(), "client {index}");
        client.write(request);
        sim.settle();
        let answer = client.read_text();
        assert!(answer.starts_with("HTTP/1.1 404"), "{index}: {answer}");
        assert!(answer.contains("Connection: close"), "{index}: {answer}");
        assert!(client.is_closed());
        client.close();
    }
    assert!(!silent.is_closed() && sim.is_running());
    sim.advance(millis(200));
    assert!(silent.is_closed());
    assert!(!sim.is_running());
}

#[test]
fn a_drain_waits_for_silent_peers_until_the_close_deadline() {
    let mut sim = Sim::new(Log::new(), |reactor: &mut Reactor<Log>| rooms(reactor));
    let silent = sim.websocket("/ws");
    sim.reactor().drain(secs(5));
    sim.advance(secs(1));
    // A second drain does not change the first.
    sim.reactor().drain(secs(3600));
    sim.advance(secs(9));
    assert!(
        sim.is_running(),
        "the goodbye is ten seconds old at the most"
    );
    sim.advance(millis(20) + LATE);
    assert!(!sim.is_running());
    assert_eq!(
        *sim.state(),
        ["1001 closed by us, draining: going away, clean: false"]
    );
    drop(silent);
}

#[test]
fn a_drain_ends_a_close_deadline_after_its_window_whatever_is_under_way() {
    let mut sim = Sim::new(Log::new(), |reactor: &mut Reactor<Log>| {
        reactor.http("0.0.0.0:80", |http| {
            http.get("/never", |request| request.reply_later())
        })
    });
    let waiting = sim.connect();
    waiting.write("GET /never HTTP/1.1\r\nHost: sim\r\n\r\n");
    sim.settle();
    sim.reactor().drain(secs(5));
    sim.advance(secs(14));
    assert!(sim.is_running());
    sim.advance(secs(1) + millis(20));
    assert!(!sim.is_running());
}

#[test]
fn the_longest_durations_do_not_overflow() {
    let mut config = Config::default();
    config.options.close_timeout = Duration::MAX;
    config.options.write_timeout = Duration::MAX;
    config.head_timeout = Duration::MAX;
    let mut sim = Sim::with_config(config, 0, |reactor: &mut Reactor<u32>| {
        reactor.websocket("0.0.0.0:80", |ws| ws.options().ping_interval = None)?;
        reactor.after(Duration::MAX, |cx| *cx.state += 1);
        reactor.every(Duration::MAX, |cx| *cx.state += 1);
        std::io::Result::Ok(())
    });
    let clients = [(); 3].map(|()| sim.websocket("/"));
    sim.reactor().drain(Duration::MAX);
    sim.advance(secs(1000));
    // The first close frame is sent at once, the others spread over the window.
    let goodbyes = clients.iter().filter(|client| {
        let _ = client.take_events();
        client.close_code() == Some(1001)
    });
    assert_eq!(goodbyes.count(), 1);
    assert!(sim.is_running());
    sim.reactor().stop();
    sim.advance(Duration::MAX);
    assert_eq!(*sim.state(), 0);
}

#[test]
fn a_drain_without_connections_ends_at_once_and_stop_ends_any_drain() {
    let mut sim = Sim::new(Log::new(), rooms);
    sim.reactor().drain(secs(100));
    sim.turn();
    assert!(!sim.is_running());
    let mut sim = Sim::new(Log::new(), rooms);
    let _client = sim.websocket("/ws");
    sim.reactor().drain(secs(100));
    sim.turn();
    assert!(sim.is_running());
    sim.reactor().stop();
    sim.turn();
    assert!(!sim.is_running());
}

// ── exactly one close ────────────────────────────────────────────────────────────────────────

#[derive(Default)]
struct ConnectionLog {
    open: HashMap<ConnId, bool>,
    opens: usize,
    closes: usize,
    reasons: HashMap<&'static str, usize>,
    /// Broken rules. They are collected, because a failed assertion in a callback would only be
    /// caught as a panic.
    wrong: Log,
}

impl ConnectionLog {
    fn expect(&mut self, is_right: bool, what: &str) {
        if !is_right {
            self.wrong.push(what.to_owned());
        }
    }

    fn open(&mut self, id: ConnId) {
        let before = self.open.insert(id, true);
        self.expect(before.is_none(), "opened twice");
        self.opens += 1;
    }

    fn alive(&mut self, id: ConnId) {
        let is_alive = self.open.get(&id) == Some(&true);
        self.expect(is_alive, "a callback outside of its life");
    }

    fn close(&mut self, id: ConnId, close: &Close) {
        let before = self.open.insert(id, false);
        self.expect(before == Some(true), "closed twice, or never opened");
        self.closes += 1;
        let reason = match close.cause {
            CloseCause::Peer => "peer",
            CloseCause::Local => "local",
            CloseCause::Drained => "drained",
            CloseCause::TimedOut(_) => "timed out",
            CloseCause::Protocol(_) => "protocol",
            CloseCause::SlowConsumer => "slow consumer",
            CloseCause::Panicked => "panicked",
            CloseCause::Io(_) => "io",
            _ => "other",
        };
        *self.reasons.entry(reason).or_default() += 1;
    }
}

fn log_connections(reactor: &mut Reactor<ConnectionLog>) -> io::Result<()> {
    reactor.websocket("0.0.0.0:80", |ws| {
        ws.on_open(|ws, _| {
            ws.state.open(ws.id);
            ws.subscribe("all").unwrap();
        });
        ws.on_message(|ws, message| {
            ws.state.alive(ws.id);
            match message.as_text() {
                Some("boom") => resume_unwind(Box::new("as ordered, and without a word")),
                Some("close") => drop(ws.close_with(4000, "asked to")),
                Some("reset") => ws.reactor.reset(ws.id),
                Some("pause") => ws.reactor.pause(ws.id),
                Some("all") => {
                    for _ in 0..3 {
                        ws.publish("all", "x".repeat(3000));
                    }
                }
                _ => drop(ws.send(message)),
            }
        });
        ws.on_ping(|ws, _| ws.state.alive(ws.id));
        ws.on_pong(|ws, _| ws.state.alive(ws.id));
        ws.on_drain(|ws| ws.state.alive(ws.id));
        ws.on_error(|ws, _| ws.state.alive(ws.id));
        ws.on_close(|ws, close| {
            ws.state.close(ws.id, close);
            ws.state.expect(close.code != 0, "no code");
        });
    })?;
    reactor.stream("0.0.0.0:1", |stream| {
        stream.on_open(|stream| stream.state.open(stream.id));
        stream.on_data(|stream, bytes| {
            stream.state.alive(stream.id);
            match bytes.first() {
                Some(b'!') => resume_unwind(Box::new("as ordered, and without a word")),
                Some(b'c') => drop(stream.close()),
                Some(b'p') => stream.reactor.pause(stream.id),
                _ => drop(stream.send(bytes)),
            }
        });
        stream.on_drain(|stream| stream.state.alive(stream.id));
        stream.on_close(|stream, close| stream.state.close(stream.id, close));
    })?;
    Ok(())
}

/// Random numbers for the tests themselves.
struct Random(u64);

impl Random {
    fn below(&mut self, count: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) % count
    }
}

const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: sim\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x80 | opcode];
    match payload.len() {
        length @ 0..126 => bytes.push(0x80 | length as u8),
        length => {
            bytes.push(0x80 | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
    }
    // A mask of zeros leaves the payload readable.
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

fn run_random_session(seed: u64) -> ConnectionLog {
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut config = Config::default();
    config.options.queue_high_bytes = 4096;
    config.options.queue_low_bytes = 1024;
    config.options.idle_timeout = Some(secs(20));
    config.options.overflow = [Overflow::Close, Overflow::DropOldest][random.below(2) as usize];
    let mut sim = Sim::with_config(config, ConnectionLog::default(), log_connections);
    sim.catch_panics(true);
    sim.faults(
        seed,
        Faults {
            short_reads_percent: 20,
            short_writes_percent: 20,
            refused_writes_percent: 10,
            resets_percent: random.below(3) as u8,
        },
    );
    let mut clients: Vec<SimStream> = Vec::new();
    for _ in 0..3 + random.below(3) {
        sim.socket_bytes([700, 64 * 1024][random.below(2) as usize]);
        let port = [1, 80][random.below(2) as usize];
        let client = sim.connect_port(port);
        if port == 80 {
            client.write(UPGRADE);
        }
        clients.push(client);
    }
    for _ in 0..20 {
        let client = &clients[random.below(clients.len() as u64) as usize];
        match random.below(16) {
            0 => client.finish(),
            1 => client.close(),
            2 => client.reset(),
            3 => drop(client.write(frame(1, b"boom"))),
            4 => drop(client.write(frame(1, b"close"))),
            5 => drop(client.write(frame(1, b"reset"))),
            6 => drop(client.write(frame(1, b"pause"))),
            7 => drop(client.write(frame(8, &[0x03, 0xe8]))),
            8 => drop(client.write(frame(3, b"reserved"))),
            9 => drop(client.write(["!", "c", "p"][random.below(3) as usize])),
            10 => sim.advance(secs(1 + random.below(30))),
            11 => drop(client.read()),
            12 => drop(client.write(frame(9, b"ping"))),
            _ => drop(client.write(frame(1, b"all"))),
        }
        if random.below(2) == 0 {
            sim.settle();
        }
    }
    if random.below(4) == 0 {
        sim.reactor().drain(secs(1));
    }
    // The remaining clients leave, or are silent until a deadline passes.
    if random.below(2) == 0 {
        clients.clear();
    }
    sim.advance(secs(120));
    clients.clear();
    for _ in 0..10 {
        // The end of a paused connection is not read, and its last bytes may pause it again.
        for id in sim.state().open.keys().copied().collect::<Vec<_>>() {
            sim.reactor().resume(id);
        }
        sim.advance(secs(60));
    }
    assert_eq!(sim.reactor().connection_count(), 0, "seed {seed}");
    assert_eq!(sim.reactor().topic_count(), 0, "seed {seed}");
    std::mem::take(sim.state())
}

#[test]
fn every_opened_connection_closes_once_however_it_ends() {
    let mut total = ConnectionLog::default();
    for seed in 0..2500 {
        let log = run_random_session(seed);
        assert_eq!(log.opens, log.closes, "seed {seed}");
        assert!(log.wrong.is_empty(), "seed {seed}: {:?}", log.wrong);
        total.opens += log.opens;
        for (reason, count) in log.reasons {
            *total.reasons.entry(reason).or_default() += count;
        }
    }
    assert!(5000 < total.opens, "{}", total.opens);
    for reason in [
        "peer",
        "local",
        "drained",
        "timed out",
        "protocol",
        "slow consumer",
        "panicked",
        "io",
    ] {
        let count = total.reasons.get(reason).copied().unwrap_or_default();
        assert!(10 < count, "{reason}: {count}");
    }
}

// A stop calls `on_close` for every connection that it ends.
#[test]
fn a_stop_closes_every_connection() {
    let mut sim = Sim::new(Vec::new(), |reactor| {
        reactor
            .websocket("0.0.0.0:80", |ws| {
                ws.on_message(|ws, _| ws.reactor.stop());
                ws.on_close(|ws, close| ws.state.push(close.cause));
            })
            .unwrap();
    });
    let clients = [(); 3].map(|()| sim.websocket("/"));
    clients[1].send("stop");
    sim.settle();
    assert!(!sim.is_running());
    assert_eq!(*sim.state(), [waterwheel::CloseCause::Local; 3]);
}

// Closing a socket with unread bytes resets it, which destroys the last words on their way.
#[test]
fn the_last_words_reach_a_peer_that_still_sends() {
    let config = Config {
        read_buffer_bytes: 64 * 1024,
        read_budget_bytes: 1,
        ..Config::default()
    };
    let mut sim = Sim::with_config(config, (), |reactor: &mut Reactor<()>| {
        reactor.stream("0.0.0.0:1", |stream| {
            stream.on_data(|stream, _| {
                stream.send("last words");
                stream.close()
            });
        })?;
        reactor.http("0.0.0.0:2", |router| {
            router.get("/", |request| request.reply("last words"));
        })
    });
    // More than one turn reads.
    sim.socket_bytes(1024 * 1024);
    let more = vec![b'x'; 512 * 1024];
    let stream = sim.connect_port(1);
    assert_eq!(stream.write(&more), more.len());
    sim.settle();
    assert_eq!(stream.read_text(), "last words");
    assert!(stream.is_closed());
    // The server reads and discards what the client still sends, so that it sees the client's end.
    stream.finish();
    sim.settle();
    assert_eq!(sim.reactor().connection_count(), 0);
    let client = sim.connect_port(2);
    client.write("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    assert_eq!(client.write(&more), more.len());
    sim.settle();
    assert!(client.read_text().ends_with("last words"));
    assert!(client.is_closed());
}

// A place must become free however a connection ends, or waiting clients are never served.
#[test]
fn the_end_of_lingering_frees_a_place_for_the_next_client() {
    let config = Config {
        connections_max: 1,
        ..Config::default()
    };
    let mut sim = Sim::with_config(config, (), |reactor| {
        reactor
            .http("0.0.0.0:80", |router| {
                router.get("/", |request| request.reply("hi"))
            })
            .unwrap();
    });
    let refused = sim.connect();
    refused.write("BAD / HTTP/1.1\r\n\r\n");
    sim.settle();
    assert!(refused.read_text().starts_with("HTTP/1.1 501"));
    let waiting = sim.connect();
    waiting.write("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    sim.settle();
    assert_eq!(waiting.read_text(), "");
    // The refused client never closes its side.
    sim.advance(Duration::from_secs(11));
    assert!(waiting.read_text().ends_with("hi"));
}

// The bytes were lost, so "closed by us" would hide that they were.
#[test]
fn a_refused_connection_says_so_although_it_was_closed_behind_bytes() {
    let mut sim = Sim::new(Log::new(), |reactor: &mut Reactor<Log>| {
        let id = reactor
            .connect_stream("127.0.0.1:9", |stream| {
                stream.on_close(|stream, close| stream.state.push(close.to_string()));
            })
            .unwrap();
        reactor.send(id, "lost");
        reactor.close(id);
    });
    sim.settle();
    assert_eq!(sim.state().len(), 1);
    assert!(
        sim.state()[0].starts_with("transport failed"),
        "{:?}",
        sim.state()
    );
}

// They have nothing to be told, and nothing of theirs is on its way.
#[test]
fn a_drain_does_not_linger_for_clients_without_a_request() {
    let mut sim = Sim::new(Log::new(), |reactor: &mut Reactor<Log>| rooms(reactor));
    let silent = sim.connect_port(80);
    let half_head = sim.connect_port(80);
    half_head.write("GET / HTTP/1.1\r\nHo");
    let idle = sim.connect_port(80);
    idle.write("GET /nowhere HTTP/1.1\r\nHost: sim\r\n\r\n");
    sim.settle();
    assert!(idle.read_text().starts_with("HTTP/1.1 404"));
    sim.reactor().drain(secs(5));
    sim.advance(secs(5) + millis(20));
    assert!(!sim.is_running());
    for client in [silent, half_head, idle] {
        assert!(client.is_closed());
    }
}

#[test]
fn a_half_head_does_not_keep_its_place_beyond_its_deadline() {
    let mut sim = Sim::new(Log::new(), |reactor: &mut Reactor<Log>| rooms(reactor));
    let silent = sim.connect_port(80);
    let half_head = sim.connect_port(80);
    half_head.write("GET / HTTP/1.1\r\nHo");
    sim.advance(secs(10) + LATE);
    assert!(half_head.read_text().starts_with("HTTP/1.1 408"));
    assert!(half_head.is_closed() && silent.is_closed());
    assert_eq!(sim.reactor().connection_count(), 0);
}
