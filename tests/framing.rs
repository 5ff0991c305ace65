//! Raw streams divided into lines and frames.

use std::cell::RefCell;
use std::io::{self, Write};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::mpsc::channel;
use std::thread;

use waterwheel::{
    Close, CloseCause, Config, EventLoop, FramingError, LengthPrefix, ListenerId, Reactor, Sim,
    SimStream, StreamCallbacks,
};

mod support;

#[allow(dead_code, reason = "a whole program, whose `main` is not called here")]
#[path = "../examples/lines.rs"]
mod lines;

/// The state of a test: the causes of the streams that have ended.
type Ends = Vec<CloseCause>;

fn note_end(stream: &mut StreamCallbacks<Ends>) {
    stream.on_close(|stream, close: &Close| stream.state.push(close.cause));
}

fn echo_lines(reactor: &mut Reactor<Ends>) -> io::Result<ListenerId> {
    reactor.stream("127.0.0.1:0", |stream| {
        stream.on_line(100, |stream, line| stream.send([b"[", line, b"]"].concat()));
        note_end(stream);
    })
}

fn read_text<S: 'static>(sim: &mut Sim<S>, client: &SimStream) -> String {
    sim.settle();
    client.read_text()
}

#[test]
fn lines_are_delivered_whole_however_they_come() {
    const WIRE: &str = "a\n\r\nlong enough\r\n\nlast\n";
    const EXPECTED: &str = "[a][][long enough][][last]";
    for size in 1..=WIRE.len() {
        let mut sim = Sim::new(Ends::new(), echo_lines);
        let client = sim.connect();
        for piece in WIRE.as_bytes().chunks(size) {
            client.write(piece);
            sim.settle();
        }
        assert_eq!(read_text(&mut sim, &client), EXPECTED, "{size}");
    }
}

#[test]
fn a_line_without_an_end_closes_the_stream_and_takes_no_memory() {
    let mut sim = Sim::new(Ends::new(), echo_lines);
    let client = sim.connect();
    client.write("first\n");
    let used_before = sim.reactor().memory_bytes();
    for _ in 0..64 {
        client.write([b'x'; 32 * 1024]);
        sim.settle();
    }
    let used = sim.reactor().memory_bytes();
    assert!(used <= used_before + 64 * 1024, "{used}");
    assert_eq!(client.read_text(), "[first]");
    assert!(client.is_closed());
    let error = FramingError::LineTooLong { max: 100 };
    assert_eq!(*sim.state(), [CloseCause::Framing(error)]);
}

#[test]
fn an_unfinished_line_is_kept_within_its_limit_and_dropped_at_the_end() {
    let mut sim = Sim::new(Ends::new(), echo_lines);
    let client = sim.connect();
    client.write("whole\nunfinished");
    client.finish();
    assert_eq!(read_text(&mut sim, &client), "[whole]");
    assert!(client.is_closed());
    assert_eq!(*sim.state(), [CloseCause::Peer]);
}

#[test]
fn a_pause_in_on_line_keeps_the_lines_behind_it() {
    let mut sim = Sim::new(Vec::new(), |reactor: &mut Reactor<Vec<_>>| {
        reactor.stream("127.0.0.1:0", |stream| {
            stream.on_open(|stream| stream.state.push(stream.id));
            stream.on_line(100, |stream, line| {
                stream.pause();
                stream.send(line)
            });
        })
    });
    let client = sim.connect();
    client.write("1\n2\n3\n");
    for expected in ["1", "2", "3", ""] {
        assert_eq!(read_text(&mut sim, &client), expected);
        let id = sim.state()[0];
        sim.reactor().resume(id);
    }
}

#[test]
fn no_line_is_delivered_behind_a_close_a_reset_or_a_panic() {
    for word in ["close", "reset", "panic", "error"] {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let lines = Rc::clone(&seen);
        let mut sim = Sim::new((), move |reactor: &mut Reactor<()>| {
            reactor.stream("127.0.0.1:0", |stream| {
                stream.on_line(100, move |stream, line| {
                    lines.borrow_mut().push(line.to_vec());
                    match line {
                        b"close" => drop(stream.close()),
                        b"reset" => stream.reset(),
                        b"panic" => panic!("a panic of the test"),
                        b"error" => return Err("an error of the test"),
                        _ => {}
                    }
                    Ok(())
                });
            })
        });
        sim.catch_panics(true);
        let client = sim.connect();
        client.write(format!("{word}\nlater\n"));
        sim.settle();
        assert_eq!(*seen.borrow(), [word.as_bytes()]);
        assert!(client.is_closed(), "{word}");
    }
}

#[test]
fn frames_of_a_client_come_back_from_a_server() {
    let prefix = LengthPrefix::U32_BE;
    let mut sim = Sim::new(Vec::new(), move |reactor: &mut Reactor<Vec<Vec<u8>>>| {
        reactor.stream("127.0.0.1:7000", move |stream| {
            stream.on_frame(prefix, 200_000, move |stream, frame| {
                let mut out = Vec::new();
                prefix.encode(frame, &mut out)?;
                stream.send(out);
                Ok::<_, FramingError>(())
            });
        })?;
        let payloads = [&b""[..], &[7; 200_000], b"last"];
        reactor.connect_stream("127.0.0.1:7000", move |stream| {
            stream.on_open(move |stream| {
                let mut out = Vec::new();
                for payload in payloads {
                    prefix.encode(payload, &mut out)?;
                }
                stream.send(out);
                Ok::<_, FramingError>(())
            });
            stream.on_frame(prefix, 200_000, |stream, frame| {
                stream.state.push(frame.to_vec());
            });
        })
    });
    sim.settle();
    let lengths: Vec<usize> = sim.state().iter().map(Vec::len).collect();
    assert_eq!(lengths, [0, 200_000, 4]);
}

#[test]
fn a_frame_above_the_limit_closes_the_stream_from_its_prefix() {
    let mut sim = Sim::new(Ends::new(), |reactor: &mut Reactor<Ends>| {
        reactor.stream("127.0.0.1:0", |stream| {
            stream.on_frame(LengthPrefix::U16_BE, 10, |stream, frame| stream.send(frame));
            note_end(stream);
        })
    });
    let client = sim.connect();
    client.write(b"\0\x0aten bytes.\0\x0b");
    assert_eq!(read_text(&mut sim, &client), "ten bytes.");
    let error = FramingError::FrameTooLong {
        length: 11,
        max: 10,
    };
    assert_eq!(*sim.state(), [CloseCause::Framing(error)]);
}

#[test]
fn the_callback_that_is_set_last_gets_the_input() {
    let mut sim = Sim::new((), |reactor: &mut Reactor<()>| {
        reactor.stream("127.0.0.1:0", |stream| {
            stream.on_line(10, |stream, _| stream.send("a line"));
            stream.on_data(|stream, data| stream.send(data));
        })
    });
    let client = sim.connect();
    client.write("data\n");
    assert_eq!(read_text(&mut sim, &client), "data\n");
}

#[test]
fn a_limit_above_the_read_buffer_is_refused() {
    let config = Config::default();
    let max = config.read_buffer_bytes - "\r\n".len() - 1;
    for (line_bytes_max, is_refused) in [(max, false), (max + 1, true), (usize::MAX, true)] {
        let mut event_loop = EventLoop::new(config.clone(), ()).unwrap();
        let reactor = event_loop.reactor();
        let set_up = |stream: &mut StreamCallbacks<()>| stream.on_line(line_bytes_max, |_, _| ());
        let listening = reactor.stream("127.0.0.1:0", set_up);
        let connecting = reactor.connect_stream("127.0.0.1:1", set_up);
        for error in [listening.err(), connecting.err()] {
            let text = error.map(|error| error.to_string());
            let expected =
                "the limit of on_line does not fit into read_buffer_bytes, which is 262144";
            assert_eq!(text.as_deref(), is_refused.then_some(expected));
        }
    }
}

#[test]
fn netcat_speaks_the_protocol_of_the_example() {
    if !support::has("nc") {
        return;
    }
    let (port, has_port) = channel();
    let server = thread::spawn(move || {
        Reactor::run(lines::Values::new(), move |reactor| {
            let listener = lines::listen(reactor, "127.0.0.1:0").unwrap();
            let address = reactor.local_addr(listener).unwrap();
            port.send((address.port().unwrap(), reactor.remote()))
                .unwrap();
        })
    });
    let (port, remote) = has_port.recv().unwrap();
    let mut netcat = Command::new("nc")
        .args(["127.0.0.1", &port.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = netcat.stdin.take().unwrap();
    let commands = "SET name Ada Lovelace\r\nGET name\nGET none\nSING\nQUIT\n";
    input.write_all(commands.as_bytes()).unwrap();
    drop(input);
    let output = netcat.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text, "OK\nAda Lovelace\n\nERR\n");
    remote.run(|cx| cx.reactor.stop()).unwrap();
    server.join().unwrap().unwrap();
}
