//! Pipes between raw streams.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use waterwheel::{
    CloseCause, Config, ConnId, ConnectionOptions, Cx, Deadline, Reactor, Sent, Sim, SimStream,
};

#[allow(dead_code, reason = "a whole program, whose `main` is not called here")]
#[path = "../examples/proxy.rs"]
mod proxy;

/// The state of a test: the streams of the server behind the proxy, their ends, and the bytes that came to them.
#[derive(Default)]
struct Notes {
    servers: Vec<ConnId>,
    server_ends: Vec<CloseCause>,
    half_ends: usize,
    got: Vec<u8>,
}

/// A proxy on port 7000, and the server behind it, on port 7001, which sends to the client whatever the test tells it.
fn setup(reactor: &mut Reactor<Notes>) -> io::Result<()> {
    reactor.stream("127.0.0.1:7001", |stream| {
        *stream.options() = ConnectionOptions::default();
        stream.on_open(|stream| stream.state.servers.push(stream.id));
        stream.on_data(|stream, data| {
            stream.state.got.extend_from_slice(data);
            stream.send(data.to_ascii_uppercase())
        });
        stream.on_end(|stream| stream.state.half_ends += 1);
        stream.on_close(|stream, close| stream.state.server_ends.push(close.cause));
    })?;
    proxy::listen(reactor, "127.0.0.1:7000", "127.0.0.1:7001".to_owned())?;
    Ok(())
}

fn connected() -> (Sim<Notes>, SimStream) {
    let mut sim = Sim::new(Notes::default(), setup);
    let client = sim.connect_port(7000);
    sim.settle();
    (sim, client)
}

#[test]
fn bytes_go_both_ways_also_those_that_come_before_the_sink_is_connected() {
    let mut sim = Sim::new(Notes::default(), setup);
    let client = sim.connect_port(7000);
    client.write("early ");
    sim.settle();
    client.write("late");
    sim.settle();
    assert_eq!(client.read_text(), "EARLY LATE");
}

#[test]
fn a_half_close_is_carried_over_and_the_answer_still_comes() {
    let (mut sim, client) = connected();
    client.write("question");
    client.finish();
    sim.settle();
    assert_eq!(sim.state().half_ends, 1);
    let server = sim.state().servers[0];
    assert_eq!(sim.reactor().send(server, "! answer"), Sent::Queued);
    sim.settle();
    assert!(!client.is_closed());
    sim.reactor().close(server);
    sim.settle();
    assert_eq!(client.read_text(), "QUESTION! answer");
    assert!(client.is_closed());
    assert_eq!(sim.reactor().connection_count(), 0);
}

#[test]
fn an_end_of_the_server_is_carried_over_and_the_client_may_go_on() {
    let (mut sim, client) = connected();
    let server = sim.state().servers[0];
    sim.reactor().finish_sending(server);
    sim.settle();
    assert!(client.is_closed());
    client.write("still");
    sim.settle();
    assert_eq!(sim.state().server_ends, []);
    client.finish();
    sim.settle();
    assert_eq!(sim.state().half_ends, 1);
    sim.reactor().close(server);
    sim.settle();
    assert_eq!(sim.reactor().connection_count(), 0);
}

#[test]
fn an_end_that_comes_before_the_sink_is_connected_is_carried_over() {
    let mut sim = Sim::new(Notes::default(), setup);
    let client = sim.connect_port(7000);
    client.write("x");
    client.finish();
    sim.settle();
    assert_eq!(sim.state().half_ends, 1);
    let server = sim.state().servers[0];
    sim.reactor().close(server);
    sim.settle();
    assert_eq!(client.read_text(), "X");
    assert_eq!(sim.reactor().connection_count(), 0);
}

#[test]
fn a_failure_of_one_resets_the_other() {
    let (mut sim, client) = connected();
    client.reset();
    sim.settle();
    assert!(matches!(
        sim.state().server_ends[..],
        [CloseCause::Io(io::ErrorKind::ConnectionReset)]
    ));
    assert_eq!(sim.reactor().connection_count(), 0);

    let (mut sim, client) = connected();
    let server = sim.state().servers[0];
    sim.reactor().reset(server);
    sim.settle();
    assert!(client.is_closed());
    assert_eq!(sim.reactor().connection_count(), 0);
}

#[test]
fn a_reset_by_the_application_resets_the_other() {
    let mut sim = Sim::new(Vec::new(), |reactor: &mut Reactor<Vec<CloseCause>>| {
        reactor.stream("127.0.0.1:7001", |stream| {
            stream.on_close(|stream, close| stream.state.push(close.cause));
        })?;
        reactor.stream("127.0.0.1:7000", |stream| {
            stream.on_open(|client| {
                let server = client.reactor.connect_stream("127.0.0.1:7001", |_| {})?;
                client.reactor.pipe(client.id, server);
                let id = client.id;
                let reset = move |cx: &mut Cx<'_, _>| cx.reactor.reset(id);
                client.reactor.after(Duration::from_secs(1), reset);
                Ok::<_, io::Error>(())
            })
        })
    });
    let client = sim.connect_port(7000);
    client.write("half of it");
    sim.advance(Duration::from_secs(2));
    let reset = CloseCause::Io(io::ErrorKind::ConnectionReset);
    assert_eq!(*sim.state(), [reset]);
}

/// The beginning of a line came before the pipe was made, also where the end has come behind it.
#[test]
fn bytes_that_were_kept_for_the_callbacks_go_first() {
    for ends in [false, true] {
        let mut sim = Sim::new(Vec::new(), |reactor: &mut Reactor<Vec<ConnId>>| {
            reactor.stream("127.0.0.1:7000", |stream| {
                stream.on_open(|stream| stream.state.push(stream.id));
                stream.on_line(100, |_, _| ());
                stream.on_end(|_| ());
            })
        });
        let client = sim.connect();
        client.write("line\nhalf a line");
        if ends {
            client.finish();
        }
        sim.settle();
        let id = sim.state()[0];
        assert_eq!(sim.reactor().pipe(id, id), Sent::Queued);
        sim.settle();
        assert_eq!(client.read_text(), "half a line");
        assert_eq!(client.is_closed(), ends);
    }
}

#[test]
fn the_last_of_several_sources_ends_the_sink() {
    let mut sim = Sim::new(Vec::new(), |reactor: &mut Reactor<Vec<ConnId>>| {
        reactor.stream("127.0.0.1:7000", |stream| {
            stream.on_open(|stream| stream.state.push(stream.id));
        })
    });
    let [first, second, sink] = [(); 3].map(|()| sim.connect());
    sim.settle();
    let ids = sim.state().clone();
    for source in &ids[..2] {
        sim.reactor().pipe(*source, ids[2]);
    }
    first.write("1");
    first.finish();
    sim.settle();
    second.write("2");
    sim.settle();
    assert_eq!(sink.read_text(), "12");
    assert!(!sink.is_closed());
    second.finish();
    sim.settle();
    assert!(sink.is_closed());
}

/// A sink that is closed gets what is queued for it, and its source what is queued for that.
#[test]
fn a_close_loses_nothing_that_is_queued_for_either() {
    let mut sim = Sim::new(Notes::default(), setup);
    let client = sim.connect_port(7000);
    sim.settle();
    let server = sim.state().servers[0];
    sim.reactor().pause(server);
    client.write(vec![b'c'; 60_000]);
    sim.settle();
    client.write(vec![b'c'; 60_000]);
    sim.reactor().send(server, vec![b's'; 100_000]);
    sim.settle();
    sim.reactor().resume(server);
    sim.reactor().close(server);
    sim.settle();
    let mut got = Vec::new();
    loop {
        let bytes = client.read();
        if bytes.is_empty() {
            break;
        }
        got.extend(bytes);
        sim.settle();
    }
    assert!(got.starts_with(&[b's'; 100_000]));
    assert!(client.is_closed());
}

#[test]
fn a_server_that_refuses_ends_the_client() {
    let mut sim = Sim::new((), |reactor: &mut Reactor<()>| {
        proxy::listen(reactor, "127.0.0.1:7000", "127.0.0.1:7001".to_owned())
    });
    let client = sim.connect_port(7000);
    client.write("hello");
    sim.settle();
    assert!(client.is_closed());
    assert_eq!(sim.reactor().connection_count(), 0);
}

/// A client that sends without end through the proxy to a server that does not read.
#[test]
fn a_source_waits_for_its_sink_in_flat_memory() {
    let (mut sim, client) = connected();
    let server = sim.state().servers[0];
    sim.reactor().pause(server);
    let mut sent = 0;
    let mut most = 0;
    for _ in 0..400 {
        sent += client.write([b'x'; 16 * 1024]);
        sim.settle();
        most = most.max(sim.reactor().memory_bytes());
    }
    let config = sim.reactor().config();
    let bound = config.options.queue_low_bytes + 2 * config.read_buffer_bytes;
    assert!(most < bound, "{most}");
    let unsent = sent;
    sim.reactor().resume(server);
    let mut got = 0;
    loop {
        sim.settle();
        let bytes = client.read();
        if bytes.is_empty() {
            break;
        }
        got += bytes.len();
    }
    assert_eq!(got, unsent);
}

/// Both peers write before they read: a direction that is full must not stop the other one.
#[test]
fn a_full_direction_does_not_stop_the_other_one() {
    // One read brings the queue above its high watermark.
    let mut config = Config::default();
    config.options.queue_high_bytes = 12 * 1024;
    config.options.queue_low_bytes = 8 * 1024;
    let mut sim = Sim::with_config(config, Notes::default(), setup);
    let client = sim.connect_port(7000);
    sim.settle();
    let server = sim.state().servers[0];
    for _ in 0..400 {
        if sim.reactor().has_room(server) {
            sim.reactor().send(server, vec![b's'; 16 * 1024]);
        }
        sim.settle();
    }
    assert!(!sim.reactor().has_room(server));
    client.write("question");
    sim.settle();
    assert_eq!(sim.state().got, b"question");
    let mut answers = Vec::new();
    while !answers.ends_with(b"QUESTION") {
        let bytes = client.read();
        assert!(!bytes.is_empty());
        answers.extend(bytes);
        sim.settle();
    }
}

#[test]
fn a_stream_may_be_its_own_sink() {
    let mut sim = Sim::new((), |reactor: &mut Reactor<()>| {
        reactor.stream("127.0.0.1:0", |stream| {
            stream.on_open(|stream| stream.reactor.pipe(stream.id, stream.id));
        })
    });
    let client = sim.connect();
    client.write("again");
    client.finish();
    sim.settle();
    assert_eq!(client.read_text(), "again");
    assert!(client.is_closed());
    assert_eq!(sim.reactor().connection_count(), 0);
}

#[test]
fn a_pipe_that_is_removed_gives_the_input_back_to_the_callbacks() {
    let mut sim = Sim::new(Vec::new(), |reactor: &mut Reactor<Vec<ConnId>>| {
        reactor.stream("127.0.0.1:7000", |stream| {
            stream.on_open(|stream| {
                stream.state.push(stream.id);
                stream.reactor.pipe(stream.id, stream.id)
            });
            stream.on_line(100, |stream, line| {
                stream.send([b"line ", line].concat());
                stream.reactor.pipe(stream.id, stream.id)
            });
        })
    });
    let client = sim.connect();
    client.write("echo\n");
    sim.settle();
    assert_eq!(client.read_text(), "echo\n");
    let id = sim.state()[0];
    assert!(sim.reactor().unpipe(id));
    assert!(!sim.reactor().unpipe(id));
    // The callback makes the pipe again, which takes what stands behind the line.
    client.write("one\necho");
    sim.settle();
    assert_eq!(client.read_text(), "line oneecho");
}

#[test]
fn a_pipe_needs_two_raw_streams() {
    let mut sim = Sim::new(Vec::new(), |reactor: &mut Reactor<Vec<ConnId>>| {
        reactor.stream("127.0.0.1:7000", |stream| {
            stream.on_open(|stream| stream.state.push(stream.id));
        })?;
        reactor.websocket("127.0.0.1:7001", |ws| {
            ws.on_open(|ws, _| ws.state.push(ws.id));
        })
    });
    let stream = sim.connect_port(7000);
    sim.settle();
    let socket = sim.websocket_port(7001, "/");
    sim.settle();
    let [raw, websocket] = sim.state()[..] else {
        panic!("two connections")
    };
    assert_eq!(sim.reactor().pipe(raw, websocket), Sent::Gone);
    assert_eq!(sim.reactor().pipe(websocket, raw), Sent::Gone);
    assert_eq!(sim.reactor().pipe(raw, raw), Sent::Queued);
    stream.close();
    sim.settle();
    assert_eq!(sim.reactor().pipe(raw, raw), Sent::Gone);
    assert!(!socket.is_closed());
}

#[test]
fn idle_streams_of_a_pipe_end_together() {
    let mut sim = Sim::new((), |reactor: &mut Reactor<()>| {
        reactor.stream("127.0.0.1:7001", |_| {})?;
        reactor.stream("127.0.0.1:7000", |stream| {
            stream.options().idle_timeout = Some(Duration::from_secs(5));
            stream.on_open(|client| {
                let server = client.reactor.connect_stream("127.0.0.1:7001", |stream| {
                    stream.on_close(|_, close| {
                        assert_eq!(close.cause, CloseCause::TimedOut(Deadline::Idle));
                    });
                })?;
                client.reactor.pipe(client.id, server);
                Ok::<_, io::Error>(())
            })
        })
    });
    let client = sim.connect_port(7000);
    sim.advance(Duration::from_secs(6));
    assert!(client.is_closed());
    client.close();
    sim.settle();
    assert_eq!(sim.reactor().connection_count(), 0);
}

/// A client whose time is over, and one in a drain: what is queued for it still comes, and the server's stream ends.
#[test]
fn an_age_limit_and_a_drain_end_both_streams_behind_what_is_queued() {
    for drains in [false, true] {
        let mut config = Config::default();
        config.options.close_timeout = Duration::from_secs(600);
        config.options.write_timeout = Duration::from_secs(600);
        let mut sim = Sim::with_config(config, Notes::default(), |reactor| {
            reactor.stream("127.0.0.1:7001", |stream| {
                stream.on_open(|stream| stream.send(vec![b'a'; 200_000]));
                stream.on_close(|stream, close| stream.state.server_ends.push(close.cause));
            })?;
            reactor.stream("127.0.0.1:7000", |stream| {
                stream.options().age_max = Some(Duration::from_secs(60));
                stream.on_open(|client| {
                    let server = client.reactor.connect_stream("127.0.0.1:7001", |_| {})?;
                    client.reactor.pipe(client.id, server);
                    client.reactor.pipe(server, client.id);
                    io::Result::Ok(())
                })
            })
        });
        let client = sim.connect_port(7000);
        sim.settle();
        match drains {
            true => sim.reactor().drain(Duration::ZERO),
            // The age limit varies by a tenth.
            false => sim.advance(Duration::from_secs(67)),
        }
        let mut count = 0;
        loop {
            let bytes = client.read();
            if bytes.is_empty() {
                break;
            }
            count += bytes.len();
            sim.settle();
        }
        assert!(client.is_closed(), "drains: {drains}");
        client.close();
        sim.settle();
        assert_eq!(count, 200_000, "drains: {drains}");
        assert_eq!(sim.state().server_ends.len(), 1, "drains: {drains}");
        assert_eq!(sim.reactor().connection_count(), 0, "drains: {drains}");
    }
}

/// Over sockets of the kernel: a megabyte goes through the proxy to a server that sends it back, and the client ends its
/// side before it reads.
#[test]
fn a_megabyte_and_a_half_close_go_through_the_example() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let address: &'static str = server.local_addr().unwrap().to_string().leak();
    let echo = thread::spawn(move || {
        let (mut stream, _) = server.accept().unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        stream.write_all(&bytes).unwrap();
    });
    let (port, has_port) = channel();
    let proxy = thread::spawn(move || {
        Reactor::run((), move |reactor| {
            let listener = proxy::listen(reactor, "127.0.0.1:0", address.to_owned()).unwrap();
            let listening = reactor.local_addr(listener).unwrap();
            port.send((listening.port().unwrap(), reactor.remote()))
                .unwrap();
        })
    });
    let (port, remote) = has_port.recv().unwrap();
    let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let sent: Vec<u8> = (0..1_000_000u32).map(|n| (n % 251) as u8).collect();
    client.write_all(&sent).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut got = Vec::new();
    client.read_to_end(&mut got).unwrap();
    assert!(got == sent);
    echo.join().unwrap();
    remote.run(|cx| cx.reactor.stop()).unwrap();
    proxy.join().unwrap().unwrap();
}
