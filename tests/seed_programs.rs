//! The programs of `examples/`, run without a socket.

#[cfg(feature = "redis")]
use std::cell::RefCell;
use std::io::{self, Read, Write};
#[cfg(feature = "redis")]
use std::rc::Rc;
use std::time::Duration;

#[cfg(feature = "redis")]
use waterwheel::ConnId;
use waterwheel::websocket::{self, Limits, Machine, Role};
use waterwheel::{Received, Sim, SimSocket, SimStream};

#[allow(dead_code, reason = "a whole program, whose `main` is not called here")]
#[path = "../examples/chat.rs"]
mod chat;
#[allow(dead_code, reason = "a whole program, whose `main` is not called here")]
#[path = "../examples/defer.rs"]
mod defer;
#[allow(dead_code, reason = "a whole program, whose `main` is not called here")]
#[path = "../examples/driver_echo.rs"]
mod driver_echo;
#[allow(dead_code, reason = "a whole program, whose `main` is not called here")]
#[path = "../examples/echo.rs"]
mod echo;
#[allow(dead_code, reason = "a whole program, whose `main` is not called here")]
#[path = "../examples/faye.rs"]
mod faye;
#[allow(dead_code, reason = "a whole program, whose `main` is not called here")]
#[path = "../examples/later.rs"]
mod later;
#[cfg(feature = "redis")]
#[allow(dead_code, reason = "a whole program, whose `main` is not called here")]
#[path = "../examples/redis_forward.rs"]
mod redis_forward;
#[allow(dead_code, reason = "a whole program, whose `main` is not called here")]
#[path = "../examples/sse_chat.rs"]
mod sse_chat;
#[allow(dead_code, reason = "a whole program, whose `main` is not called here")]
#[path = "../examples/stream_chat.rs"]
mod stream_chat;
#[allow(dead_code, reason = "a whole program, whose `main` is not called here")]
#[path = "../examples/stream_echo.rs"]
mod stream_echo;

const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn request<S: 'static>(sim: &mut Sim<S>, request: &str) -> SimStream {
    let stream = sim.connect();
    stream.write(request);
    sim.settle();
    stream
}

#[test]
fn echo_greets_answers_and_survives_a_client_that_closes_or_does_not_read() {
    let mut sim = Sim::new((), echo::setup);
    sim.socket_bytes(1000);
    let deaf = sim.websocket("/deaf");
    for _ in 0..100 {
        deaf.send("x".repeat(500));
        sim.settle();
    }
    let client = sim.websocket("/chat");
    client.send("hi");
    client.ping(b"?");
    client.close(1000);
    sim.settle();
    let expected = [
        Received::Text("Hello Client, you connected to /chat".into()),
        Received::Text("Pong: hi".into()),
        Received::Pong(b"?".to_vec()),
        Received::Close(1000, String::new()),
    ];
    assert_eq!(client.take_events(), expected);
    assert!(client.is_closed());
    // The client that does not read has not stopped the program.
    assert!(sim.is_running() && !deaf.is_closed());
}

#[test]
fn defer_answers_with_the_result_of_another_thread() {
    let mut sim = Sim::new((), defer::setup);
    for (path, status, body) in [("100", "200", "25"), ("many", "400", "Bad Request\n")] {
        let head = format!("GET /primes/{path} HTTP/1.1\r\nHost: h\r\n\r\n");
        let answer = String::from_utf8(request(&mut sim, &head).read()).unwrap();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
        assert!(answer.ends_with(body), "{answer}");
    }
}

#[test]
fn chat_sends_to_all_members_and_forgets_those_that_left() {
    let mut sim = Sim::new(chat::Chat::default(), chat::setup);
    let clients: Vec<SimSocket> = (0..3).map(|_| sim.websocket("/")).collect();
    clients[0].send("hello");
    sim.settle();
    for client in &clients {
        assert_eq!(client.received(), ["hello"]);
    }
    clients[1].close(1000);
    clients[2].vanish();
    sim.settle();
    assert_eq!(sim.state().users.len(), 1);
    clients[0].send("alone");
    sim.settle();
    assert_eq!(clients[0].received(), ["alone"]);
}

#[test]
fn sse_chat_sends_each_post_to_every_stream_with_its_newlines() {
    let mut sim = Sim::new((), sse_chat::setup);
    let streams: Vec<SimStream> = (0..2)
        .map(|_| request(&mut sim, "GET /chat HTTP/1.1\r\nHost: sim\r\n\r\n"))
        .collect();
    for stream in &streams {
        let head = stream.read_text();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(
            head.contains("\r\nContent-Type: text/event-stream\r\n"),
            "{head}"
        );
    }
    let post = |sim: &mut Sim<()>, body: &str| {
        let length = body.len();
        let head = format!("POST /message HTTP/1.1\r\nHost: sim\r\nContent-Length: {length}");
        request(sim, &format!("{head}\r\n\r\n{body}")).read_text()
    };
    let answer = post(&mut sim, "message=one%0Atwo+%C3%A9");
    assert!(answer.ends_with("message sent"), "{answer}");
    for stream in &streams {
        let came = stream.read_text();
        assert!(
            came.contains("event: message\ndata: one\ndata: two é\n\n"),
            "{came:?}"
        );
    }
    let answer = post(&mut sim, "massage=typo");
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(sim.reactor().member_count("chat"), 2);
    streams[0].close();
    sim.settle();
    assert_eq!(sim.reactor().member_count("chat"), 1, "pruned");
}

#[test]
fn later_answers_after_two_seconds_and_notices_clients_that_left() {
    const LATER: &str = "GET /later HTTP/1.1\r\nHost: sim\r\n\r\n";
    let mut sim = Sim::new((), later::setup);
    let [waits, closes, resets] = [(); 3].map(|()| request(&mut sim, LATER));
    sim.advance(secs(1));
    assert_eq!(waits.read_text(), "");
    resets.reset();
    sim.settle();
    assert_eq!(sim.reactor().connection_count(), 2);
    // The end of a stream alone may be a half close, whose client still reads. The answer shows that
    // this one has left.
    closes.close();
    sim.settle();
    assert_eq!(sim.reactor().connection_count(), 2);
    sim.advance(secs(1));
    assert_eq!(sim.reactor().connection_count(), 1);
    let answer = waits.read_text();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.ends_with("\r\n\r\ndone"), "{answer}");
}

/// A blocking socket: its input is read in pieces, and its output is kept.
struct Blocking {
    input: Vec<u8>,
    read: usize,
    piece: usize,
    output: Vec<u8>,
}

impl Read for &mut Blocking {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = &self.input[self.read..];
        let count = rest.len().min(self.piece).min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.read += count;
        Ok(count)
    }
}

impl Write for &mut Blocking {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn driver_echo_runs_without_an_event_loop() {
    let mut client = Machine::new(Role::Client);
    let mut input = b"GET / HTTP/1.1\r\nHost: sim\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        .to_vec();
    client.encode(websocket::Message::Text("hello"), &mut input);
    client.encode(websocket::Message::Binary(&[1, 2]), &mut input);
    client.encode_close(1000, "", &mut input);
    for piece in [1, 7, 4096] {
        let mut socket = Blocking {
            input: input.clone(),
            read: 0,
            piece,
            output: Vec::new(),
        };
        driver_echo::serve(&mut socket).unwrap();
        let output = &mut socket.output;
        let head = output.windows(4).position(|window| window == b"\r\n\r\n");
        let mut frames = output.split_off(head.unwrap() + 4);
        assert!(output.starts_with(b"HTTP/1.1 101 "), "pieces of {piece}");
        let (mut machine, limits) = (Machine::new(Role::Client), Limits::default());
        let (mut rest, mut events) = (frames.as_mut_slice(), Vec::new());
        while let Some(event) = machine.next_event(&mut rest, &limits).unwrap() {
            events.push(format!("{event:?}"));
        }
        let expected = [
            r#"Text("hello")"#,
            "Binary([1, 2])",
            r#"Close(Some(Normal), "")"#,
        ];
        assert_eq!(events, expected, "pieces of {piece}");
    }
}

#[cfg(feature = "redis")]
#[test]
fn redis_forward_sends_messages_of_a_pattern_to_those_who_asked_for_it() {
    let mut sim = Sim::new((), redis_forward::setup);
    // Redis: each connection gets the answers that its commands need, and the test publishes.
    let connections = Rc::<RefCell<Vec<ConnId>>>::default();
    let commands = Rc::<RefCell<String>>::default();
    let (kept, seen) = (Rc::clone(&connections), Rc::clone(&commands));
    let listening = sim.reactor().stream("127.0.0.1:6379", move |stream| {
        let (kept, seen) = (Rc::clone(&kept), Rc::clone(&seen));
        stream.on_open(move |stream| kept.borrow_mut().push(stream.id));
        stream.on_data(move |stream, bytes| {
            let text = String::from_utf8_lossy(bytes);
            seen.borrow_mut().push_str(&text);
            for line in text.lines() {
                match line {
                    "HELLO" => stream.send("%0\r\n"),
                    "PING" => stream.send("+PONG\r\n"),
                    _ => continue,
                };
            }
        });
    });
    listening.unwrap();
    let browser = sim.connect_port(8081);
    browser.write("GET / HTTP/1.1\r\nHost: sim\r\n\r\n");
    sim.settle();
    let page = browser.read_text();
    assert!(page.contains("websocket.send(\"new-users\")"), "{page}");
    let [one, other] = [(); 2].map(|()| sim.websocket_port(8081, "/messages"));
    sim.advance(secs(1));
    one.send("new-users");
    other.send("new-users");
    other.send("notifications.*");
    sim.settle();
    let subscribed = commands.borrow().matches("\r\nnew-users\r\n").count();
    assert_eq!(subscribed, 1, "each name is subscribed once");
    let mut publish = |pattern: &str, text: &str| {
        let words = ["pmessage", pattern, "some", text];
        let words = words.map(|word| format!("${}\r\n{word}\r\n", word.len()));
        let redis = connections.borrow()[0];
        sim.reactor()
            .send(redis, format!(">4\r\n{}", words.concat()));
        sim.settle();
        [one.received(), other.received()]
    };
    assert_eq!(publish("new-users", "Ada"), [["Ada"], ["Ada"]]);
    assert_eq!(publish("notifications.*", "x"), [vec![], vec!["x"]]);
    // The last one who asked for a name leaves, and Redis is told.
    one.vanish();
    other.vanish();
    sim.advance(secs(3));
    assert!(commands.borrow().contains("PUNSUBSCRIBE"));
}

#[test]
fn faye_serves_websockets_events_and_pages_and_is_its_own_client() {
    let mut sim = Sim::new(Vec::new(), faye::setup);
    sim.settle();
    assert_eq!(sim.state(), &["message Hello, world!"]);
    sim.advance(secs(2));
    assert_eq!(
        sim.state(),
        &["message Hello, world!", "event Hello", "event Hello"]
    );
    let page = request(&mut sim, "GET / HTTP/1.1\r\nHost: sim\r\n\r\n").read_text();
    assert!(page.ends_with("\r\n\r\nHello"), "{page}");
    let browser = sim.websocket("/");
    browser.send("echo");
    sim.settle();
    assert_eq!(browser.received(), ["echo"]);
}

#[test]
fn stream_echo_says_what_was_sent_until_the_client_quits() {
    let mut sim = Sim::new((), |reactor| stream_echo::listen(reactor, "0.0.0.0:8081"));
    let client = sim.connect();
    client.write("hello\n");
    sim.settle();
    assert_eq!(client.read_text(), ">>>you sent: hello\n");
    client.write("QUIT\n");
    sim.settle();
    assert_eq!(client.read_text(), ">>>you sent: QUIT\n");
    assert!(client.is_closed());
}

#[test]
fn stream_chat_sends_lines_with_the_name_of_their_sender() {
    let mut sim = Sim::new(waterwheel::ConnMap::default(), |reactor| {
        stream_chat::listen(reactor, "0.0.0.0:10000")
    });
    let (ada, bob) = (sim.connect(), sim.connect());
    for (client, name) in [(&ada, "Ada\n"), (&bob, "Bob\n")] {
        sim.settle();
        client.write(name);
    }
    sim.settle();
    ada.write("hi\n");
    sim.settle();
    let expected = "[info] Please enter your username:\n[info] Ada has joined the room\n\
        [info] Bob has joined the room\nAda: hi\n";
    for client in [&ada, &bob] {
        assert_eq!(client.read_text(), expected);
    }
    ada.close();
    sim.settle();
    assert_eq!(sim.state().len(), 1);
}

/// Examples that show more than one thing, or stand in for a program of others.
const LONG_EXAMPLES: [&str; 6] = [
    "autobahn_client",
    "driver_echo",
    "embed",
    "many_cores",
    "reconnect",
    "upload",
];

#[test]
fn examples_have_at_most_25_lines_of_code() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if path.extension().is_none_or(|extension| extension != "rs")
            || LONG_EXAMPLES.contains(&name.as_str())
        {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let lines = text.lines().map(str::trim_start);
        let code = lines.filter(|line| !line.is_empty() && !line.starts_with("//"));
        let count = code.count();
        assert!(count <= 25, "{name} has {count} lines");
    }
}
