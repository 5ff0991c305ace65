//! The HTTP client: against our own server and against wrong answers in a simulation, and against real servers on
//! loopback.

mod support;

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use waterwheel::{
    ClientTransport, Config, ConnId, Cx, EventLoop, Faults, HttpClient, HttpClientOptions,
    HttpPart, HttpProxy, HttpRequest, HttpRequestError, HttpRequestId, HttpResponse, Reactor, Sim,
};

type Log = Vec<String>;

fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// An answer or an error as a line.
fn line(response: Result<HttpResponse, HttpRequestError>) -> String {
    match response {
        Ok(response) => format!("{} {}", response.status.code(), response.text()),
        Err(error) => format!("error: {error}"),
    }
}

/// Sends a request whose outcome is logged.
fn log(client: &HttpClient<Log>, reactor: &mut Reactor<Log>, request: impl Into<HttpRequest>) {
    client.request(reactor, request, |cx, response| {
        cx.state.push(line(response));
    });
}

// ── a server that follows a script ──────────────────────────────────────────────────────────────

/// A step of the server after a request.
#[derive(Clone, Debug)]
enum Act {
    Send(Vec<u8>),
    /// After this time, the next act.
    Wait(Duration),
    Close,
    Reset,
}

fn send(bytes: impl AsRef<[u8]>) -> Act {
    Act::Send(bytes.as_ref().to_vec())
}

/// An answer with a length.
fn ok(body: &str) -> Act {
    send(format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ))
}

/// The acts for each request, in the order in which requests come, and the requests that came.
#[derive(Clone, Default)]
struct Server {
    script: Rc<RefCell<VecDeque<Vec<Act>>>>,
    requests: Rc<RefCell<Vec<String>>>,
}

impl Server {
    fn listen(reactor: &mut Reactor<Log>, port: u16, script: Vec<Vec<Act>>) -> Server {
        let server = Server {
            script: Rc::new(RefCell::new(script.into())),
            requests: Rc::default(),
        };
        let at_end = server.clone();
        let unread: Rc<RefCell<HashMap<ConnId, Vec<u8>>>> = Rc::default();
        reactor
            .stream(format!("0.0.0.0:{port}"), |stream| {
                stream.options().queue_high_bytes = usize::MAX;
                stream.on_data(move |stream, bytes| {
                    let mut unread = unread.borrow_mut();
                    let input = unread.entry(stream.id).or_default();
                    input.extend_from_slice(bytes);
                    while let Some(request) = take_request(input) {
                        server.requests.borrow_mut().push(request);
                        let acts = server.script.borrow_mut().pop_front().unwrap_or_default();
                        act(stream.reactor, stream.id, acts.into());
                    }
                });
            })
            .unwrap();
        at_end
    }

    fn requests(&self) -> Vec<String> {
        self.requests.borrow().clone()
    }

    /// The first lines of the requests that came.
    fn targets(&self) -> Vec<String> {
        let requests = self.requests.borrow();
        let first = |request: &String| request.split(" HTTP").next().unwrap().to_owned();
        requests.iter().map(first).collect()
    }
}

/// Takes a request with its body off the front of the input.
fn take_request(input: &mut Vec<u8>) -> Option<String> {
    let head_bytes = input.windows(4).position(|it| it == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&input[..head_bytes]).into_owned();
    let length = head.split_once("Content-Length: ").map_or(0, |(_, rest)| {
        rest.split_once("\r\n").unwrap().0.parse().unwrap()
    });
    if input.len() < head_bytes + length {
        return None;
    }
    let request: Vec<u8> = input.drain(..head_bytes + length).collect();
    Some(String::from_utf8_lossy(&request).into_owned())
}

fn act(reactor: &mut Reactor<Log>, id: ConnId, mut acts: VecDeque<Act>) {
    while let Some(next) = acts.pop_front() {
        match next {
            Act::Send(bytes) => drop(reactor.send(id, bytes)),
            Act::Close => drop(reactor.close(id)),
            Act::Reset => reactor.reset(id),
            Act::Wait(time) => {
                reactor.after(time, move |cx| act(cx.reactor, id, acts));
                return;
            }
        }
    }
}

/// A simulation with a server on port 80 and a client.
fn scripted(script: Vec<Vec<Act>>) -> (Sim<Log>, Server, HttpClient<Log>) {
    scripted_with(HttpClientOptions::default(), script)
}

fn scripted_with(
    options: HttpClientOptions,
    script: Vec<Vec<Act>>,
) -> (Sim<Log>, Server, HttpClient<Log>) {
    let mut sim = Sim::new(Log::new(), |_| {});
    let server = Server::listen(sim.reactor(), 80, script);
    let client = sim.reactor().http_client_with(options).unwrap();
    (sim, server, client)
}

/// The outcome of one request to a server with these acts.
fn outcome(acts: Vec<Act>) -> String {
    let (mut sim, _server, client) = scripted(vec![acts]);
    log(&client, sim.reactor(), "http://h/");
    sim.advance(secs(300));
    let lines = std::mem::take(sim.state());
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(sim.reactor().connection_count(), 0);
    lines.into_iter().next().unwrap()
}

// ── answers ─────────────────────────────────────────────────────────────────────────────────────

#[test]
fn our_client_gets_from_our_server() {
    let mut sim = Sim::new(Log::new(), |reactor: &mut Reactor<Log>| {
        reactor.http("0.0.0.0:8080", |http| {
            http.get("/hello", |request| request.reply("Hello"));
            http.post("/echo", |request| {
                let body = request.body().to_vec();
                request.reply(body)
            });
        })?;
        let client = reactor.http_client();
        log(&client, reactor, "http://localhost:8080/hello");
        log(&client, reactor, "http://localhost:8080/absent");
        let head = HttpRequest::new("HEAD", "http://localhost:8080/hello");
        log(&client, reactor, head);
        let post = HttpRequest::post("http://localhost:8080/echo", "text/plain", "x".repeat(9));
        log(&client, reactor, post);
        std::io::Result::Ok(())
    });
    sim.settle();
    let expected = ["200 Hello", "404 404 Not Found\n", "200 ", "200 xxxxxxxxx"];
    assert_eq!(*sim.state(), expected);
}

#[test]
fn a_request_is_what_was_asked_for() {
    let (mut sim, server, client) = scripted(vec![vec![ok("")]; 4]);
    let reactor = sim.reactor();
    log(&client, reactor, "http://h/a?b#c");
    log(&client, reactor, "http://user:p%40ss@h:80");
    let put = HttpRequest::new("PUT", "http://h:80/x")
        .header("User-Agent", "me")
        .header("X-A", "b")
        .body("text/plain", "hello");
    log(&client, reactor, put);
    log(&client, reactor, HttpRequest::new("POST", "http://h"));
    sim.settle();
    let agent = concat!("User-Agent: waterwheel/", env!("CARGO_PKG_VERSION"));
    assert_eq!(
        server.requests(),
        [
            format!("GET /a?b HTTP/1.1\r\nHost: h\r\n{agent}\r\n\r\n"),
            format!(
                "GET / HTTP/1.1\r\nHost: h\r\n{agent}\r\nAuthorization: Basic dXNlcjpwQHNz\r\n\r\n"
            ),
            "PUT /x HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nUser-Agent: me\r\nX-A: b\r\n\
             Content-Type: text/plain\r\n\r\nhello"
                .to_owned(),
            format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n{agent}\r\n\r\n"),
        ]
    );
    assert_eq!(*sim.state(), ["200 "; 4]);
}

#[test]
fn requests_that_cannot_be_sent_fail_in_their_callback() {
    let (mut sim, server, client) = scripted(vec![]);
    let get = || HttpRequest::get("http://h/");
    let cases: Vec<(HttpRequest, &str)> = vec![
        ("h".into(), "a URL must begin with http:// or https://"),
        ("ws://h".into(), "a URL must begin with http:// or https://"),
        (
            "http://h:0x/".into(),
            "the host must be a name or address with an optional port",
        ),
        (
            "http://h/a b".into(),
            "path and query must be visible ASCII",
        ),
        (
            "http://h/\r\nA: b".into(),
            "path and query must be visible ASCII",
        ),
        (
            "http://%0d@h/".into(),
            "the URL must not have a user name or a password",
        ),
        (
            get().header("A\r\nB", "c"),
            "a header name or subprotocol must be a token",
        ),
        (
            get().header("A", "b\r\nC: d"),
            "a header value must be free of control characters",
        ),
        (
            get().header("A", "b\0"),
            "a header value must be free of control characters",
        ),
        (
            get().header("host", "x"),
            "a header that the client itself sets",
        ),
        (
            get().header("Content-Length", "1"),
            "a header that the client itself sets",
        ),
        (
            get().body("a\nb", ""),
            "a header value must be free of control characters",
        ),
        (
            HttpRequest::new("GET ", "http://h"),
            "a method must be a token, and not CONNECT",
        ),
        (
            HttpRequest::new("CONNECT", "http://h"),
            "a method must be a token, and not CONNECT",
        ),
    ];
    let count = cases.len();
    for (request, expected) in cases {
        sim.state().clear();
        log(&client, sim.reactor(), request);
        assert!(sim.state().is_empty(), "the callback comes later");
        sim.settle();
        assert_eq!(*sim.state(), [format!("error: {expected}")]);
    }
    assert!(server.requests().is_empty());
    assert_eq!((count, sim.reactor().connection_count()), (14, 0));
}

#[test]
fn wrong_answers_are_errors() {
    let cases: &[(&str, &str)] = &[
        ("HTTP/1.1 200 OK\r\n\r\nabc", "200 abc"),
        ("HTTP/1.1 103 x\r\n\r\nHTTP/1.1 204 y\r\n\r\n", "204 "),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nA: b\r\n\r\n",
            "200 abc",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc",
            "error: not accepted: the end of the connection inside a message",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
            "error: not accepted: the end of the connection inside a message",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc",
            "error: not accepted: both Content-Length and Transfer-Encoding",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
            "error: not accepted: a malformed or repeated Content-Length",
        ),
        (
            "HTTP/1.1 101 x\r\nUpgrade: h2c\r\n\r\n",
            "error: not accepted: an upgrade that was not asked for",
        ),
        (
            "HTTP/1.1 200 OK\nA: b\n\n",
            "error: not accepted: a line that ends with a line feed alone",
        ),
        (
            "SSH-2.0-x\r\n",
            "error: not accepted: a malformed status line",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1048577\r\n\r\n",
            "error: not accepted: a body above the limit",
        ),
        ("", "error: closed by peer"),
    ];
    for (answer, expected) in cases {
        let said = outcome(vec![send(answer), Act::Close]);
        assert_eq!(said, *expected, "{answer:?}");
        for cut in 1..answer.len() {
            let (first, second) = answer.split_at(cut);
            let acts = vec![
                send(first),
                Act::Wait(Duration::from_millis(10)),
                send(second),
                Act::Close,
            ];
            assert_eq!(outcome(acts), *expected, "{answer:?} cut at {cut}");
        }
    }
}

#[test]
fn an_answer_that_breaks_off_is_an_error_wherever_it_breaks_off() {
    let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    for cut in 0..answer.len() {
        for end in [Act::Close, Act::Reset] {
            let said = outcome(vec![
                send(&answer[..cut]),
                Act::Wait(Duration::from_millis(10)),
                end.clone(),
            ]);
            assert!(said.starts_with("error: "), "{end:?} at {cut}: {said}");
        }
    }
}

// ── deadlines ───────────────────────────────────────────────────────────────────────────────────

#[test]
fn each_step_has_a_deadline() {
    let head = send("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n");
    let slowly: Vec<Act> = std::iter::once(send("HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n"))
        .chain((0..999).flat_map(|_| [Act::Wait(secs(1)), send("x")]))
        .collect();
    let interim: Vec<Act> = (0..10)
        .flat_map(|_| [send("HTTP/1.1 103 x\r\n\r\n"), Act::Wait(secs(9))])
        .collect();
    let cases = [
        (vec![], "error: head deadline passed", 30),
        (
            vec![send("HTTP/1.1 200")],
            "error: head deadline passed",
            30,
        ),
        // Interim answers do not put it off.
        (interim, "error: head deadline passed", 30),
        (vec![head.clone()], "error: body deadline passed", 30),
        (
            vec![Act::Wait(secs(20)), head, Act::Wait(secs(20)), send("ab")],
            "error: request deadline passed",
            60,
        ),
        (slowly, "error: request deadline passed", 60),
    ];
    for (acts, expected, seconds) in cases {
        let (mut sim, _server, client) = scripted(vec![acts]);
        log(&client, sim.reactor(), "http://h/");
        sim.advance(secs(seconds - 1));
        assert!(sim.state().is_empty(), "{:?}", sim.state());
        sim.advance(secs(2));
        assert_eq!(*sim.state(), [expected]);
        assert_eq!(client_connections(&mut sim), 0);
    }
}

/// Connections that are open at the server's end.
fn client_connections(sim: &mut Sim<Log>) -> usize {
    sim.settle();
    sim.reactor().gauges().connections.http
}

#[test]
fn a_server_that_is_absent_is_an_error() {
    let mut sim = Sim::new(Log::new(), |_| {});
    let client = sim.reactor().http_client();
    log(&client, sim.reactor(), "http://h:81/");
    sim.settle();
    assert_eq!(
        *sim.state(),
        ["error: transport failed: connection refused"]
    );
}

#[test]
fn a_request_waits_for_its_turn_within_its_deadline() {
    let options = HttpClientOptions {
        connections_per_host_max: 1,
        ..HttpClientOptions::default()
    };
    let script = vec![vec![Act::Wait(secs(25)), ok("1")], vec![ok("2")]];
    let (mut sim, _server, client) = scripted_with(options, script);
    log(&client, sim.reactor(), "http://h/1");
    let impatient = HttpRequest::get("http://h/2").timeout(secs(5));
    log(&client, sim.reactor(), impatient);
    log(&client, sim.reactor(), "http://h/3");
    sim.advance(secs(40));
    assert_eq!(
        *sim.state(),
        ["error: request deadline passed", "200 1", "200 2"]
    );
}

// ── kept connections ────────────────────────────────────────────────────────────────────────────

#[test]
fn a_connection_is_used_again() {
    let (mut sim, _server, client) = scripted(vec![vec![ok("a")]; 3]);
    for _ in 0..3 {
        log(&client, sim.reactor(), "http://H/");
        sim.settle();
    }
    assert_eq!(*sim.state(), ["200 a"; 3]);
    assert_eq!(sim.reactor().stats().connected, 1);
    sim.advance(secs(29));
    assert_eq!(client_connections(&mut sim), 1);
    sim.advance(secs(2));
    assert_eq!(client_connections(&mut sim), 0);
}

#[test]
fn a_connection_that_must_not_be_used_again_is_closed() {
    let cases = [
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\na",
        "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nKeep-Alive: timeout=1\r\n\r\na",
        // Bytes behind the answer: they would be taken for the next one.
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\naHTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na\r\n",
    ];
    for answer in cases {
        let (mut sim, _server, client) = scripted(vec![vec![send(answer)], vec![ok("b")]]);
        log(&client, sim.reactor(), "http://h/");
        sim.settle();
        log(&client, sim.reactor(), "http://h/");
        sim.settle();
        assert_eq!(*sim.state(), ["200 a", "200 b"], "{answer:?}");
        assert_eq!(sim.reactor().stats().connected, 2, "{answer:?}");
    }
}

#[test]
fn bytes_that_come_behind_an_answer_end_the_connection() {
    let late = vec![ok("a"), Act::Wait(secs(1)), ok("wrong")];
    let (mut sim, _server, client) = scripted(vec![late, vec![ok("b")]]);
    log(&client, sim.reactor(), "http://h/");
    sim.advance(secs(2));
    assert_eq!(client_connections(&mut sim), 0);
    log(&client, sim.reactor(), "http://h/");
    sim.settle();
    assert_eq!(*sim.state(), ["200 a", "200 b"]);
}

#[test]
fn a_request_is_repeated_only_where_that_is_harmless() {
    let request = |method: &str| HttpRequest::new(method, "http://h/2");
    let closed = "error: closed by peer";
    let cases = [
        ("GET", vec![Act::Close], "200 c"),
        ("HEAD", vec![Act::Close], "200 "),
        ("PUT", vec![Act::Close], "200 c"),
        ("DELETE", vec![Act::Close], "200 c"),
        ("GET", vec![Act::Reset], "200 c"),
        ("POST", vec![Act::Close], closed),
        ("PATCH", vec![Act::Close], closed),
        ("REPORT", vec![Act::Close], closed),
        (
            "POST",
            vec![Act::Reset],
            "error: transport failed: connection reset",
        ),
        (
            "GET",
            vec![send("H"), Act::Close],
            "error: not accepted: the end of the connection inside a message",
        ),
        ("GET", vec![], "error: head deadline passed"),
    ];
    for (method, acts, expected) in cases {
        let script = vec![vec![ok("a")], acts.clone(), vec![ok("c")]];
        let (mut sim, server, client) = scripted(script);
        log(&client, sim.reactor(), "http://h/1");
        sim.settle();
        log(&client, sim.reactor(), request(method));
        sim.advance(secs(40));
        assert_eq!(*sim.state(), ["200 a", expected], "{method} {acts:?}");
        let sent = 2 + usize::from(expected.starts_with("200"));
        assert_eq!(server.targets().len(), sent, "{method} {acts:?}");
    }
}

#[test]
fn a_request_is_repeated_once_and_not_on_a_new_connection() {
    let script = vec![
        vec![ok("a")],
        vec![Act::Close],
        vec![Act::Close],
        vec![ok("d")],
    ];
    let (mut sim, server, client) = scripted(script);
    log(&client, sim.reactor(), "http://h/1");
    sim.settle();
    log(&client, sim.reactor(), "http://h/2");
    sim.settle();
    assert_eq!(*sim.state(), ["200 a", "error: closed by peer"]);
    assert_eq!(server.targets(), ["GET /1", "GET /2", "GET /2"]);
}

#[test]
fn an_end_that_has_come_is_noticed_before_a_request_is_sent() {
    // In one turn: the callback orders a request, and the server ends the connection or sends too much.
    let strays: [fn(&mut Reactor<Log>, ConnId); 2] = [
        |reactor, id| {
            reactor.close(id);
        },
        |reactor, id| {
            reactor.send(id, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong");
        },
    ];
    for stray in strays {
        let mut sim = Sim::new(Log::new(), |_| {});
        let at_server: Rc<RefCell<Option<ConnId>>> = Rc::default();
        let known = Rc::clone(&at_server);
        sim.reactor()
            .stream("0.0.0.0:80", move |stream| {
                stream.on_data(move |stream, _| {
                    let body = match known.borrow_mut().replace(stream.id) {
                        None => "first",
                        Some(_) => "right",
                    };
                    stream.send(format!(
                        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{body}"
                    ))
                });
            })
            .unwrap();
        let client = sim.reactor().http_client();
        let own = client.clone();
        client.get(sim.reactor(), "http://h/1", move |cx, response| {
            cx.state.push(line(response));
            log(&own, cx.reactor, HttpRequest::new("POST", "http://h/2"));
            let id = at_server.borrow().unwrap();
            stray(cx.reactor, id);
        });
        sim.settle();
        assert_eq!(*sim.state(), ["200 first", "200 right"]);
        assert_eq!(sim.reactor().stats().connected, 2);
    }
}

/// A server on loopback that answers one request on each of two connections, and hands out the first connection.
fn serve_twice(listener: TcpListener) -> (std::thread::JoinHandle<()>, Receiver<TcpStream>) {
    let (first, found) = mpsc::channel();
    let server = std::thread::spawn(move || {
        for body in ["first", "other"] {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = BufReader::new(stream.try_clone().unwrap()).lines();
            while !head.next().unwrap().unwrap().is_empty() {}
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{body}");
            stream.write_all(answer.as_bytes()).unwrap();
            // Refused when the test has kept the first one already.
            let _ = first.send(stream);
        }
    });
    (server, found)
}

// The report of the poll may come behind the tick that sends: the server ends the connection, or sends bytes that
// were not asked for, between the two.
#[test]
fn a_socket_is_asked_in_the_moment_in_which_a_request_is_sent() {
    let strays: [fn(TcpStream) -> Option<TcpStream>; 2] = [
        |stream| {
            drop(stream);
            None
        },
        |mut stream| {
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong")
                .unwrap();
            Some(stream)
        },
    ];
    for stray in strays {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let (server, found) = serve_twice(listener);
        let mut event_loop = EventLoop::new(Config::default(), Log::new()).unwrap();
        let client = event_loop.reactor().http_client();
        log(&client, event_loop.reactor(), url.as_str());
        let turn_until = |event_loop: &mut EventLoop<Log>, count| {
            while event_loop.state().len() < count {
                event_loop.turn(Some(support::PATIENCE)).unwrap();
            }
        };
        turn_until(&mut event_loop, 1);
        let stream = found.recv().unwrap();
        log(&client, event_loop.reactor(), HttpRequest::new("POST", url));
        // This turn polls, finds nothing, and leaves the sending to a tick of the next one.
        event_loop.turn(Some(Duration::ZERO)).unwrap();
        let kept = stray(stream);
        turn_until(&mut event_loop, 2);
        assert_eq!(*event_loop.state(), ["200 first", "200 other"]);
        drop(kept);
        server.join().unwrap();
    }
}

// ── limits ──────────────────────────────────────────────────────────────────────────────────────

#[test]
fn connections_to_one_server_are_limited_and_requests_keep_their_order() {
    let options = HttpClientOptions {
        connections_per_host_max: 3,
        ..HttpClientOptions::default()
    };
    let script = vec![vec![Act::Wait(secs(1)), ok("")]; 10];
    let (mut sim, server, client) = scripted_with(options, script);
    for number in 0..10 {
        log(&client, sim.reactor(), format!("http://h/{number}"));
    }
    sim.settle();
    assert_eq!(client_connections(&mut sim), 3);
    sim.advance(secs(10));
    assert_eq!(sim.state().len(), 10);
    assert_eq!(sim.reactor().stats().connected, 3);
    let expected: Vec<_> = (0..10).map(|number| format!("GET /{number}")).collect();
    assert_eq!(server.targets(), expected);
}

#[test]
fn an_idle_connection_makes_room_for_another_server() {
    let options = HttpClientOptions {
        connections_max: 2,
        ..HttpClientOptions::default()
    };
    let script = vec![vec![Act::Wait(secs(9)), ok("a")], vec![ok("b")]];
    let (mut sim, _server, client) = scripted_with(options, script);
    let other = Server::listen(sim.reactor(), 81, vec![vec![ok("c")], vec![ok("d")]]);
    log(&client, sim.reactor(), "http://h/1");
    log(&client, sim.reactor(), "http://h/2");
    log(&client, sim.reactor(), "http://h:81/3");
    sim.advance(secs(1));
    assert_eq!(*sim.state(), ["200 b", "200 c"]);
    assert_eq!(client_connections(&mut sim), 2);
    // The other connection is not idle, so the next server waits for this one.
    log(&client, sim.reactor(), "http://h:81/4");
    sim.advance(secs(1));
    assert_eq!(sim.state().last().unwrap(), "200 d");
    assert_eq!(other.targets(), ["GET /3", "GET /4"]);
    sim.advance(secs(10));
    assert_eq!(sim.state().last().unwrap(), "200 a");
}

#[test]
fn waiting_requests_are_limited_by_count_and_by_bytes() {
    let options = HttpClientOptions {
        connections_per_host_max: 1,
        waiting_requests_max: 2,
        waiting_bytes_max: 1000,
        ..HttpClientOptions::default()
    };
    let script = vec![vec![ok("")]; 9];
    let (mut sim, server, client) = scripted_with(options, script);
    for number in 0..4 {
        log(&client, sim.reactor(), format!("http://h/{number}"));
    }
    sim.settle();
    assert_eq!(server.targets(), ["GET /0", "GET /1"]);
    let full = "error: too many requests wait";
    sim.state().sort();
    assert_eq!(*sim.state(), ["200 ", "200 ", full, full]);
    sim.state().clear();
    let body = |bytes: usize| HttpRequest::post("http://h/", "a/b", "x".repeat(bytes));
    for bytes in [2000, 600, 600] {
        log(&client, sim.reactor(), body(bytes));
    }
    sim.settle();
    sim.state().sort();
    assert_eq!(*sim.state(), ["200 ", full, full]);
}

#[test]
fn options_with_which_a_client_could_not_work_are_refused() {
    let mut sim = Sim::new(Log::new(), |_| {});
    let options = HttpClientOptions {
        head_timeout: Duration::ZERO,
        ..HttpClientOptions::default()
    };
    let error = sim.reactor().http_client_with(options).err().unwrap();
    assert_eq!(
        error.to_string(),
        "head_timeout is 0ns: expected more than zero"
    );
}

// ── redirects ───────────────────────────────────────────────────────────────────────────────────

fn redirect(status: u16, location: &str, body: &str) -> Act {
    send(format!(
        "HTTP/1.1 {status} x\r\nLocation: {location}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ))
}

#[test]
fn redirects_are_followed_when_asked() {
    let script = vec![
        vec![redirect(302, "/b", "")],
        vec![redirect(302, "/b", "see there")],
        vec![redirect(303, "?c", "see there")],
        vec![ok("there")],
    ];
    let (mut sim, server, client) = scripted(script);
    log(&client, sim.reactor(), "http://h/a");
    sim.settle();
    let followed = HttpRequest::post("http://h/a", "text/plain", "hello").redirects_max(2);
    client.request(sim.reactor(), followed, |cx, response| {
        let response = response?;
        cx.state
            .push(format!("{} {}", response.url, response.text()));
        Ok::<_, HttpRequestError>(())
    });
    sim.settle();
    assert_eq!(*sim.state(), ["302 ", "http://h/b?c there"]);
    assert_eq!(
        server.targets(),
        ["GET /a", "POST /a", "GET /b", "GET /b?c"]
    );
    // The bodies of the redirects were read, and the connection was kept.
    assert_eq!(sim.reactor().stats().connected, 1);
}

#[test]
fn redirects_have_limits() {
    let (mut sim, server, client) = scripted(vec![vec![redirect(307, "/", "")]; 9]);
    log(
        &client,
        sim.reactor(),
        HttpRequest::get("http://h/").redirects_max(3),
    );
    sim.settle();
    assert_eq!(*sim.state(), ["error: too many redirects"]);
    assert_eq!(server.targets().len(), 4);
    assert_eq!(client_connections(&mut sim), 0);
}

#[test]
fn a_redirect_to_another_server_carries_no_credentials() {
    let (mut sim, server, client) = scripted(vec![vec![redirect(307, "http://h:81/b", "")]]);
    let other = Server::listen(sim.reactor(), 81, vec![vec![ok("there")]]);
    let request = HttpRequest::get("http://u:p@h/a")
        .header("Cookie", "a=b")
        .header("X-A", "b")
        .redirects_max(1);
    log(&client, sim.reactor(), request);
    sim.settle();
    assert_eq!(*sim.state(), ["200 there"]);
    assert!(server.requests()[0].contains("Authorization: Basic dTpw\r\n"));
    let second = &other.requests()[0];
    assert!(
        !second.contains("Authorization") && !second.contains("Cookie"),
        "{second}"
    );
    assert!(
        second.contains("Host: h:81\r\n") && second.contains("X-A: b\r\n"),
        "{second}"
    );
}

#[test]
fn a_long_body_of_a_redirect_is_not_read() {
    let long = redirect(302, "/b", &"x".repeat(70_000));
    let endless: Vec<Act> = std::iter::once(send(
        "HTTP/1.1 302 x\r\nLocation: /b\r\nTransfer-Encoding: chunked\r\n\r\n",
    ))
    .chain(vec![send(format!("3e8\r\n{}\r\n", "x".repeat(1000))); 100])
    .collect();
    for acts in [vec![long], endless] {
        let (mut sim, _server, client) = scripted(vec![acts, vec![ok("there")]]);
        log(
            &client,
            sim.reactor(),
            HttpRequest::get("http://h/a").redirects_max(1),
        );
        sim.settle();
        assert_eq!(*sim.state(), ["200 there"]);
        assert_eq!(sim.reactor().stats().connected, 2);
        assert_eq!(client_connections(&mut sim), 1);
    }
}

#[test]
fn the_rest_of_a_redirect_does_not_hold_up_the_request_that_follows() {
    let options = HttpClientOptions {
        connections_per_host_max: 1,
        ..HttpClientOptions::default()
    };
    let unfinished = send("HTTP/1.1 302 x\r\nLocation: /b\r\nContent-Length: 9\r\n\r\nabc");
    let (mut sim, _server, client) =
        scripted_with(options, vec![vec![unfinished], vec![ok("there")]]);
    let request = HttpRequest::get("http://h/a").redirects_max(1);
    log(&client, sim.reactor(), request);
    sim.settle();
    assert_eq!(*sim.state(), ["200 there"]);
    assert_eq!(sim.reactor().stats().connected, 2);
    assert_eq!(client_connections(&mut sim), 1);
}

#[test]
fn the_limit_of_the_body_is_not_for_the_body_of_a_redirect() {
    let acts = vec![redirect(302, "/b", "it has moved")];
    let (mut sim, _server, client) = scripted(vec![acts.clone(), vec![ok("there")], acts]);
    let limited = HttpRequest::get("http://h/a").response_bytes_max(5);
    log(&client, sim.reactor(), limited.clone().redirects_max(1));
    sim.settle();
    // The one that is not followed is an answer as any other.
    log(&client, sim.reactor(), limited);
    sim.settle();
    let too_long = "error: not accepted: a body above the limit";
    assert_eq!(*sim.state(), ["200 there", too_long]);
}

#[test]
fn a_server_may_say_with_a_redirect_how_long_it_keeps_the_connection() {
    let brief = send(
        "HTTP/1.1 302 x\r\nLocation: /b\r\nKeep-Alive: timeout=1\r\nContent-Length: 0\r\n\r\n",
    );
    let (mut sim, _server, client) = scripted(vec![vec![brief], vec![ok("there")]]);
    let request = HttpRequest::get("http://h/a").redirects_max(1);
    log(&client, sim.reactor(), request);
    sim.settle();
    assert_eq!(*sim.state(), ["200 there"]);
    assert_eq!(sim.reactor().stats().connected, 2);
}

#[test]
fn a_redirect_to_what_is_not_text_is_refused() {
    let acts = vec![send(
        b"HTTP/1.1 302 x\r\nLocation: /\xff\r\nContent-Length: 0\r\n\r\n",
    )];
    let (mut sim, _server, client) = scripted(vec![acts.clone(), acts]);
    let request = HttpRequest::get("http://h/a");
    log(&client, sim.reactor(), request.clone().redirects_max(1));
    sim.settle();
    log(&client, sim.reactor(), request);
    sim.settle();
    let refused = "error: a redirect was refused: path and query must be visible ASCII";
    assert_eq!(*sim.state(), [refused, "302 "]);
}

// ── parts ───────────────────────────────────────────────────────────────────────────────────────

/// A part as a line.
fn part(part: Result<HttpPart<'_>, HttpRequestError>) -> String {
    match part {
        Ok(HttpPart::Head(head)) => format!("head {} {:?}", head.status.code(), head.header("a")),
        Ok(HttpPart::Body(bytes)) => format!("body {}", String::from_utf8_lossy(bytes)),
        Ok(HttpPart::End) => "end".to_owned(),
        Ok(_) => "unknown".to_owned(),
        Err(error) => format!("error: {error}"),
    }
}

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nA: b\r\nTransfer-Encoding: chunked\r\n\r\n";

#[test]
fn an_answer_comes_in_parts_as_it_is_sent() {
    let acts = vec![
        send(CHUNKED),
        Act::Wait(secs(20)),
        send("3\r\nabc\r\n"),
        Act::Wait(secs(20)),
        send("1\r\nd\r\n2\r\nef\r\n"),
        Act::Wait(secs(29)),
        send("0\r\n\r\n"),
    ];
    let broken = vec![send(CHUNKED), send("3\r\nabcX")];
    let (mut sim, _server, client) = scripted(vec![acts, broken, vec![ok("kept")]]);
    client.stream(sim.reactor(), "http://h/", |cx, it| cx.state.push(part(it)));
    sim.settle();
    assert_eq!(*sim.state(), ["head 200 Some(\"b\")"]);
    sim.advance(secs(100));
    let expected = [
        "head 200 Some(\"b\")",
        "body abc",
        "body d",
        "body ef",
        "end",
    ];
    assert_eq!(*sim.state(), expected);
    sim.state().clear();
    client.stream(sim.reactor(), "http://h/", |cx, it| cx.state.push(part(it)));
    sim.settle();
    let expected = [
        "head 200 Some(\"b\")",
        "body abc",
        "error: not accepted: a malformed chunk",
    ];
    assert_eq!(*sim.state(), expected);
}

#[test]
fn a_stream_is_limited_only_if_asked() {
    let long = "x".repeat(2_000_000);
    let endless = || vec![ok(&long)];
    let (mut sim, _server, client) = scripted(vec![endless(), endless(), vec![send(CHUNKED)]]);
    sim.socket_bytes(1 << 22);
    let length = Rc::new(RefCell::new(0));
    let sum = Rc::clone(&length);
    client.stream(sim.reactor(), "http://h/", move |cx, it| match it {
        Ok(HttpPart::Body(bytes)) => *sum.borrow_mut() += bytes.len(),
        it => cx.state.push(part(it)),
    });
    sim.settle();
    assert_eq!(*sim.state(), ["head 200 None", "end"]);
    assert_eq!(*length.borrow(), long.len());
    sim.state().clear();
    let limited = HttpRequest::get("http://h/").response_bytes_max(1_999_999);
    client.stream(sim.reactor(), limited, |cx, it| cx.state.push(part(it)));
    sim.settle();
    let limited = HttpRequest::get("http://h/").timeout(secs(7));
    client.stream(sim.reactor(), limited, |cx, it| cx.state.push(part(it)));
    sim.advance(secs(8));
    let expected = [
        "error: not accepted: a body above the limit",
        "head 200 Some(\"b\")",
        "error: request deadline passed",
    ];
    assert_eq!(*sim.state(), expected);
}

#[test]
fn a_paused_answer_waits_and_has_no_deadline() {
    let acts = vec![
        send(CHUNKED),
        send("1\r\na\r\n1\r\nb\r\n"),
        send("0\r\n\r\n"),
    ];
    let (mut sim, _server, client) = scripted(vec![acts, vec![ok("next")]]);
    let id = Rc::new(RefCell::new(None));
    let (paused, own) = (client.clone(), Rc::clone(&id));
    let request = client.stream(sim.reactor(), "http://h/", move |cx, it| {
        if let (Ok(HttpPart::Body(_)), Some(id)) = (&it, *own.borrow()) {
            paused.pause(cx.reactor, id);
        }
        cx.state.push(part(it));
    });
    *id.borrow_mut() = Some(request);
    sim.settle();
    assert_eq!(*sim.state(), ["head 200 Some(\"b\")", "body a"]);
    sim.advance(secs(200));
    client.resume(sim.reactor(), request);
    sim.settle();
    assert_eq!(sim.state()[2..], ["body b"]);
    client.resume(sim.reactor(), request);
    sim.settle();
    assert_eq!(sim.state()[3..], ["end"]);
    log(&client, sim.reactor(), "http://h/");
    sim.settle();
    assert_eq!(sim.state()[4..], ["200 next"]);
    assert_eq!(sim.reactor().stats().connected, 1);
}

/// Streams an answer, and pauses in its body if `pauses_in` says so, or else in its head.
fn stream_with_pause(
    sim: &mut Sim<Log>,
    client: &HttpClient<Log>,
    pauses_in: fn(&HttpPart<'_>) -> bool,
) -> HttpRequestId {
    let id = Rc::new(RefCell::new(None));
    let (paused, own) = (client.clone(), Rc::clone(&id));
    let request = client.stream(sim.reactor(), "http://h/", move |cx, it| {
        if let (Ok(it), Some(id)) = (&it, *own.borrow())
            && pauses_in(it)
        {
            paused.pause(cx.reactor, id);
        }
        cx.state.push(part(it));
    });
    *id.borrow_mut() = Some(request);
    request
}

#[test]
fn an_answer_that_is_paused_in_its_last_piece_ends_when_it_is_resumed() {
    type Case = (Act, fn(&HttpPart<'_>) -> bool, usize);
    let cases: [Case; 4] = [
        (ok("abc"), |it| matches!(it, HttpPart::Body(_)), 2),
        (ok(""), |it| matches!(it, HttpPart::Head(_)), 1),
        (
            send("HTTP/1.1 204 x\r\n\r\n"),
            |it| matches!(it, HttpPart::Head(_)),
            1,
        ),
        (
            send(format!("{CHUNKED}3\r\nabc\r\n0\r\n\r\n")),
            |it| matches!(it, HttpPart::Body(_)),
            2,
        ),
    ];
    for (answer, pauses_in, count) in cases {
        let (mut sim, _server, client) = scripted(vec![vec![answer.clone()], vec![ok("next")]]);
        let request = stream_with_pause(&mut sim, &client, pauses_in);
        sim.settle();
        assert_eq!(sim.state().len(), count, "{answer:?}: {:?}", sim.state());
        client.resume(sim.reactor(), request);
        sim.settle();
        assert_eq!(sim.state()[count..], ["end"], "{answer:?}");
        log(&client, sim.reactor(), "http://h/");
        sim.settle();
        assert_eq!(sim.state()[count + 1..], ["200 next"], "{answer:?}");
        assert_eq!(sim.reactor().stats().connected, 1);
    }
}

#[test]
fn the_deadline_of_the_next_bytes_begins_anew_after_a_pause() {
    let acts = vec![send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\na")];
    let (mut sim, _server, client) = scripted(vec![acts]);
    let request = stream_with_pause(&mut sim, &client, |it| matches!(it, HttpPart::Body(_)));
    // The deadline that began with the body has passed once, and would pass again after 60 seconds.
    sim.advance(secs(59));
    client.resume(sim.reactor(), request);
    sim.advance(secs(29));
    assert_eq!(sim.state().len(), 2, "{:?}", sim.state());
    // It is not put off by an answer that is not paused.
    client.resume(sim.reactor(), request);
    sim.advance(secs(2));
    assert_eq!(sim.state()[2..], ["error: body deadline passed"]);

    let (mut sim, _server, client) = scripted(vec![vec![]]);
    let request = client.stream(sim.reactor(), "http://h/", |cx, it| cx.state.push(part(it)));
    sim.settle();
    client.pause(sim.reactor(), request);
    sim.advance(secs(59));
    client.resume(sim.reactor(), request);
    sim.advance(secs(29));
    assert!(sim.state().is_empty(), "{:?}", sim.state());
    sim.advance(secs(2));
    assert_eq!(*sim.state(), ["error: head deadline passed"]);
}

/// An answer of twenty small pieces that come at once, each of which takes a millisecond of its callback.
fn stream_slowly(on_piece: fn(&mut Cx<'_, Log>)) -> Sim<Log> {
    let pieces = "1\r\nx\r\n".repeat(20);
    let acts = vec![send(format!("{CHUNKED}{pieces}0\r\n\r\n"))];
    let (mut sim, _server, client) = scripted(vec![acts]);
    let clock = sim.clock();
    client.stream(sim.reactor(), "http://h/", move |cx, it| {
        if let Ok(HttpPart::Body(_)) = it {
            clock.advance(Duration::from_millis(1));
            on_piece(cx);
        }
        cx.state.push(part(it));
    });
    sim
}

#[test]
fn a_long_piece_of_an_answer_is_delivered_in_several_turns() {
    let mut sim = stream_slowly(|_| {});
    let mut most = 0;
    while sim.state().last().is_none_or(|last| last != "end") {
        let before = sim.state().len();
        sim.turn();
        most = most.max(sim.state().len() - before);
    }
    assert_eq!(sim.state().len(), 22);
    // The default budget of a connection is 5 ms, and the clock is not read for each piece.
    assert!((2..=12).contains(&most), "{most}");
}

#[test]
fn no_part_is_delivered_after_the_loop_was_stopped() {
    let mut sim = stream_slowly(|cx| cx.reactor.stop());
    sim.settle();
    let expected = ["head 200 Some(\"b\")", "body x", "error: closed by us"];
    assert_eq!(*sim.state(), expected);
}

// ── callbacks ───────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_cancelled_request_is_not_called_back() {
    let options = HttpClientOptions {
        connections_per_host_max: 1,
        ..HttpClientOptions::default()
    };
    let acts = vec![Act::Wait(secs(1)), ok("late")];
    let (mut sim, server, client) = scripted_with(options, vec![acts, vec![ok("next")]]);
    let cancelled = |cx: &mut Cx<'_, Log>, _| cx.state.push("called".to_owned());
    let first = client.get(sim.reactor(), "http://h/1", cancelled);
    let waits = client.get(sim.reactor(), "http://h/2", cancelled);
    let early = client.get(sim.reactor(), "http://h/3", cancelled);
    assert!(client.cancel(sim.reactor(), early));
    sim.settle();
    assert!(client.cancel(sim.reactor(), waits));
    assert!(client.cancel(sim.reactor(), first));
    assert!(!client.cancel(sim.reactor(), first));
    log(&client, sim.reactor(), "http://h/4");
    sim.advance(secs(5));
    assert_eq!(*sim.state(), ["200 next"]);
    assert_eq!(server.targets(), ["GET /1", "GET /4"]);
}

#[test]
fn a_stream_can_be_cancelled_in_its_own_callback() {
    let acts = vec![send(CHUNKED), send("1\r\na\r\n1\r\nb\r\n0\r\n\r\n")];
    let (mut sim, _server, client) = scripted(vec![acts, vec![ok("next")]]);
    let id = Rc::new(RefCell::new(None));
    let (cancelled, own) = (client.clone(), Rc::clone(&id));
    let request = client.stream(sim.reactor(), "http://h/", move |cx, it| {
        if let (Ok(HttpPart::Body(_)), Some(id)) = (&it, *own.borrow()) {
            assert!(cancelled.cancel(cx.reactor, id));
        }
        cx.state.push(part(it));
    });
    *id.borrow_mut() = Some(request);
    sim.settle();
    assert_eq!(*sim.state(), ["head 200 Some(\"b\")", "body a"]);
    assert!(!client.cancel(sim.reactor(), request));
    assert_eq!(client_connections(&mut sim), 0);
    log(&client, sim.reactor(), "http://h/");
    sim.settle();
    assert_eq!(sim.state().last().unwrap(), "200 next");
}

#[test]
fn a_callback_may_send_the_next_request_over_the_same_connection() {
    fn count_down(client: HttpClient<Log>, reactor: &mut Reactor<Log>, left: u32) {
        let next = client.clone();
        client.get(reactor, &format!("http://h/{left}"), move |cx, response| {
            cx.state.push(line(response));
            if 0 < left {
                count_down(next, cx.reactor, left - 1);
            }
        });
    }
    let (mut sim, _server, client) = scripted(vec![vec![ok("a")]; 5]);
    count_down(client, sim.reactor(), 4);
    sim.settle();
    assert_eq!(*sim.state(), ["200 a"; 5]);
    assert_eq!(sim.reactor().stats().connected, 1);
    // The last callback has dropped the client.
    assert_eq!(client_connections(&mut sim), 0);
}

#[test]
fn a_panic_in_a_callback_ends_its_own_request_only() {
    let (mut sim, server, client) = scripted(vec![vec![ok("a")]; 9]);
    sim.catch_panics(true);
    client.get(sim.reactor(), "http://h/1", |_, _| panic!("on purpose"));
    client.stream(sim.reactor(), "http://h/2", |_, _| panic!("on purpose"));
    client.get(sim.reactor(), "nothing", |_, _| panic!("on purpose"));
    log(&client, sim.reactor(), "nothing");
    log(&client, sim.reactor(), "http://h/3");
    sim.settle();
    sim.state().sort();
    let refused = "error: a URL must begin with http:// or https://";
    assert_eq!(*sim.state(), ["200 a", refused]);
    assert_eq!(sim.reactor().stats().panics, 3);
    // Only the third connection is kept.
    assert_eq!(client_connections(&mut sim), 1);
    for _ in 0..3 {
        log(&client, sim.reactor(), "http://h/4");
    }
    sim.settle();
    assert_eq!(sim.state().len(), 5);
    assert_eq!(server.targets().len(), 6);
}

// ── the rest of the loop ────────────────────────────────────────────────────────────────────────

#[test]
fn an_early_answer_is_read_while_the_request_is_being_sent() {
    let mut sim = Sim::new(Log::new(), |reactor: &mut Reactor<Log>| {
        reactor.stream("0.0.0.0:80", |stream| {
            stream.on_data(|stream, _| {
                stream.pause();
                stream.send("HTTP/1.1 413 x\r\nContent-Length: 3\r\n\r\nabc");
            });
        })
    });
    let client = sim.reactor().http_client();
    let post = HttpRequest::post("http://h/", "a/b", vec![b'x'; 3_000_000]);
    log(&client, sim.reactor(), post);
    sim.settle();
    assert_eq!(*sim.state(), ["413 abc"]);
    assert_eq!(client_connections(&mut sim), 0);
}

#[test]
fn a_drain_waits_for_answers_that_are_on_their_way() {
    let script = vec![vec![ok("idle")], vec![Act::Wait(secs(2)), ok("late")]];
    let (mut sim, _server, client) = scripted(script);
    log(&client, sim.reactor(), "http://h/1");
    sim.settle();
    log(&client, sim.reactor(), "http://h/2");
    sim.settle();
    let client_side = sim.reactor().gauges().connections.http;
    assert_eq!(client_side, 1);
    sim.reactor().drain(secs(5));
    sim.advance(secs(4));
    assert_eq!(*sim.state(), ["200 idle", "200 late"]);
    assert_eq!(client_connections(&mut sim), 0);
}

#[test]
fn a_request_that_the_last_connection_orders_in_a_drain_is_answered() {
    let mut sim = Sim::new(Log::new(), |reactor: &mut Reactor<Log>| {
        let client = reactor.http_client();
        reactor.http("0.0.0.0:81", |http| {
            http.get("/left", |request| request.reply("noted"));
        })?;
        reactor.websocket("0.0.0.0:80", move |ws| {
            let client = client.clone();
            ws.on_close(move |ws, _| log(&client, ws.reactor, "http://hooks:81/left"));
        })
    });
    let socket = sim.websocket_port(80, "/");
    sim.reactor().drain(secs(5));
    sim.settle();
    socket.close(1000);
    sim.settle();
    assert_eq!(*sim.state(), ["200 noted"]);
    assert_eq!(client_connections(&mut sim), 0);
}

#[test]
fn requests_under_way_fail_when_the_loop_ends() {
    let (mut sim, _server, client) = scripted(vec![]);
    log(&client, sim.reactor(), "http://h/1");
    sim.settle();
    sim.reactor().stop();
    sim.settle();
    assert_eq!(*sim.state(), ["error: closed by us"]);
}

#[test]
fn requests_that_wait_are_told_when_the_loop_ends() {
    let options = HttpClientOptions {
        connections_per_host_max: 1,
        ..HttpClientOptions::default()
    };
    let (mut sim, _server, client) = scripted_with(options, vec![]);
    sim.catch_panics(true);
    let held = Rc::new(());
    for path in ["1", "2", "3", "4"] {
        let (own, held) = (client.clone(), Rc::clone(&held));
        client.get(sim.reactor(), &format!("http://h/{path}"), move |cx, it| {
            let _held = &held;
            cx.state.push(format!("{path} {}", line(it)));
            // The last of these are dropped with their callbacks.
            log(&own, cx.reactor, "http://h/5");
            assert!(path != "2", "on purpose");
        });
    }
    sim.settle();
    // This one has failed already, and its callback waits for a tick.
    log(&client, sim.reactor(), "nothing");
    sim.reactor().stop();
    sim.settle();
    let refused = "error: a URL must begin with http:// or https://";
    let expected = [
        "1 error: closed by us",
        refused,
        "2 error: closed by us",
        "3 error: closed by us",
        "4 error: closed by us",
        // Ordered before the end of the last connection.
        "error: closed by us",
    ];
    assert_eq!(*sim.state(), expected);
    drop((sim, client));
    assert_eq!(Rc::strong_count(&held), 1);
}

#[test]
fn requests_are_told_when_a_loop_is_dropped() {
    let mut event_loop = EventLoop::new(Config::default(), Log::new()).unwrap();
    let client = event_loop.reactor().http_client();
    log(&client, event_loop.reactor(), "http://127.0.0.1:9/");
    assert_eq!(event_loop.into_state(), ["error: closed by us"]);
}

#[test]
fn a_client_without_a_handle_keeps_no_connection() {
    let (mut sim, _server, client) = scripted(vec![vec![ok("a")]]);
    log(&client, sim.reactor(), "http://h/");
    sim.settle();
    let clone = client.clone();
    drop(client);
    assert_eq!(client_connections(&mut sim), 1);
    drop(clone);
    assert_eq!(client_connections(&mut sim), 0);
}

#[test]
fn each_request_has_one_outcome_whatever_the_network_does() {
    let seeds = if std::env::var_os("CI").is_some() {
        1000
    } else {
        200
    };
    for seed in 0..seeds {
        let config = Config {
            read_buffer_bytes: 64 * 1024,
            ..Config::default()
        };
        let mut sim = Sim::with_config(config, Log::new(), |reactor: &mut Reactor<Log>| {
            reactor.http("0.0.0.0:80", |http| {
                http.get("/a", |request| request.reply("x".repeat(3000)));
                http.post("/b", |request| {
                    let body = request.body().to_vec();
                    request.reply(body)
                });
            })
        });
        sim.socket_bytes(1 + (seed as usize * 37) % 5000);
        sim.faults(
            seed,
            Faults {
                short_reads_percent: 30,
                short_writes_percent: 30,
                refused_writes_percent: 10,
                resets_percent: u8::from(seed % 2 == 0),
            },
        );
        let client = sim.reactor().http_client();
        for number in 0..20 {
            let request = match number % 2 {
                0 => HttpRequest::get("http://h/a"),
                _ => HttpRequest::post("http://h/b", "a/b", "y".repeat(2000)),
            };
            log(&client, sim.reactor(), request);
            if number % 5 == 4 {
                sim.advance(secs(1));
            }
        }
        sim.advance(secs(100));
        assert_eq!(sim.state().len(), 20, "seed {seed}");
        let whole = [
            format!("200 {}", "x".repeat(3000)),
            format!("200 {}", "y".repeat(2000)),
        ];
        for line in sim.state().iter() {
            let is_error = line.starts_with("error: ") && seed % 2 == 0;
            assert!(whole.contains(line) || is_error, "seed {seed}: {line}");
        }
        assert_eq!(client_connections(&mut sim), 0, "seed {seed}");
    }
}

#[test]
fn requests_go_through_a_proxy() {
    let tunnel = send("HTTP/1.1 200 Connection established\r\n\r\n");
    let script = vec![vec![tunnel], vec![ok("a")], vec![ok("b")]];
    let mut sim = Sim::new(Log::new(), |_| {});
    let proxy = Server::listen(sim.reactor(), 3128, script);
    let options = HttpClientOptions {
        transport: ClientTransport::default().proxy(HttpProxy::parse("http://proxy:3128").unwrap()),
        ..HttpClientOptions::default()
    };
    let client = sim.reactor().http_client_with(options).unwrap();
    for path in ["1", "2"] {
        log(&client, sim.reactor(), format!("http://h/{path}"));
        sim.settle();
    }
    assert_eq!(*sim.state(), ["200 a", "200 b"]);
    assert_eq!(proxy.targets(), ["CONNECT h:80", "GET /1", "GET /2"]);
}

// ── https ───────────────────────────────────────────────────────────────────────────────────────

#[cfg(feature = "tls")]
mod https {
    use waterwheel::tls::{ClientTls, ServerTls};
    use waterwheel::{ListenOptions, Reply, Status};

    use super::*;

    fn file(name: &str) -> String {
        format!("{}/tests/certificates/{name}", env!("CARGO_MANIFEST_DIR"))
    }

    fn server_tls(pair: &str) -> ServerTls {
        let tls = ServerTls::builder();
        let tls = tls.pair(file(&format!("{pair}.pem")), file(&format!("{pair}.key")));
        tls.build().unwrap()
    }

    fn client_tls() -> ClientTls {
        ClientTls::builder().ca(file("ca.pem")).build().unwrap()
    }

    fn options() -> HttpClientOptions {
        HttpClientOptions {
            transport: ClientTransport::default().tls(client_tls()),
            ..HttpClientOptions::default()
        }
    }

    #[test]
    fn our_client_gets_over_tls() {
        let mut sim = Sim::new(Log::new(), |reactor: &mut Reactor<Log>| {
            let secure = ListenOptions::new("0.0.0.0:443").tls(server_tls("server"));
            reactor.http(secure, |http| {
                http.get("/long", |request| request.reply("x".repeat(100_000)));
                http.get("/clear", |request| {
                    let location = "http://localhost/plain";
                    request.reply(Reply::new(Status::FOUND).header("Location", location))
                });
            })?;
            reactor.http("0.0.0.0:80", |http| {
                http.get("/plain", |request| request.reply("plain"));
            })
        });
        let client = sim.reactor().http_client_with(options()).unwrap();
        for _ in 0..2 {
            log(&client, sim.reactor(), "https://localhost/long");
            sim.settle();
        }
        let long = format!("200 {}", "x".repeat(100_000));
        assert!(
            sim.state().iter().all(|line| *line == long),
            "{:?}",
            sim.state()
        );
        assert_eq!(sim.reactor().stats().connected, 1);
        sim.state().clear();
        let clear = || HttpRequest::get("https://localhost/clear").redirects_max(1);
        log(&client, sim.reactor(), clear());
        sim.settle();
        log(&client, sim.reactor(), clear().redirects_to_http(true));
        sim.settle();
        let refused = "error: a redirect from https:// to http:// was refused";
        assert_eq!(*sim.state(), [refused, "200 plain"]);
    }

    #[test]
    fn a_server_that_is_not_who_it_should_be_is_an_error() {
        for (pair, host) in [("server", "elsewhere"), ("self_signed", "localhost")] {
            let mut sim = Sim::new(Log::new(), |reactor: &mut Reactor<Log>| {
                let secure = ListenOptions::new("0.0.0.0:443").tls(server_tls(pair));
                reactor.http(secure, |http| {
                    http.get("/", |request| request.reply("secret"));
                })
            });
            let client = sim.reactor().http_client_with(options()).unwrap();
            log(&client, sim.reactor(), format!("https://{host}/"));
            sim.settle();
            let said = &sim.state()[0];
            assert!(
                said.starts_with("error: TLS failed: "),
                "{pair} {host}: {said}"
            );
        }
    }

    #[test]
    fn each_request_has_one_outcome_over_tls_whatever_the_network_does() {
        let seeds = if std::env::var_os("CI").is_some() {
            300
        } else {
            60
        };
        for seed in 0..seeds {
            let mut sim = Sim::new(Log::new(), |reactor: &mut Reactor<Log>| {
                let secure = ListenOptions::new("0.0.0.0:443").tls(server_tls("server"));
                reactor.http(secure, |http| {
                    http.post("/", |request| {
                        let body = request.body().to_vec();
                        request.reply(body)
                    });
                })
            });
            sim.socket_bytes(1 + (seed as usize * 37) % 5000);
            sim.faults(
                seed,
                Faults {
                    short_reads_percent: 30,
                    short_writes_percent: 30,
                    refused_writes_percent: 10,
                    resets_percent: u8::from(seed % 2 == 0),
                },
            );
            let client = sim.reactor().http_client_with(options()).unwrap();
            for _ in 0..6 {
                let post = HttpRequest::post("https://localhost/", "a/b", "y".repeat(20_000));
                log(&client, sim.reactor(), post);
                sim.advance(Duration::from_millis(100));
            }
            sim.advance(secs(100));
            assert_eq!(sim.state().len(), 6, "seed {seed}");
            let whole = format!("200 {}", "y".repeat(20_000));
            for line in sim.state().iter() {
                let is_error = line.starts_with("error: ") && seed % 2 == 0;
                assert!(*line == whole || is_error, "seed {seed}: {line}");
            }
            assert_eq!(client_connections(&mut sim), 0, "seed {seed}");
        }
    }

    #[test]
    fn a_body_until_the_end_needs_the_goodbye_of_tls() {
        for (is_polite, expected) in [(true, "200 abc"), (false, "error: ")] {
            let mut sim = Sim::new(Log::new(), |reactor: &mut Reactor<Log>| {
                let secure = ListenOptions::new("0.0.0.0:443").tls(server_tls("server"));
                reactor.stream(secure, move |stream| {
                    stream.on_data(move |stream, _| {
                        stream.send("HTTP/1.1 200 OK\r\n\r\nabc");
                        let id = stream.id;
                        stream.reactor.after(secs(1), move |cx| match is_polite {
                            true => drop(cx.reactor.close(id)),
                            false => cx.reactor.reset(id),
                        });
                    });
                })
            });
            let client = sim.reactor().http_client_with(options()).unwrap();
            log(&client, sim.reactor(), "https://localhost/");
            sim.advance(secs(5));
            assert!(sim.state()[0].starts_with(expected), "{:?}", sim.state());
        }
    }
}

#[test]
#[cfg(not(feature = "tls"))]
fn https_without_tls_is_an_error() {
    let (mut sim, _server, client) = scripted(vec![]);
    log(&client, sim.reactor(), "https://h/");
    sim.settle();
    assert!(
        sim.state()[0].contains("without the feature `tls`"),
        "{:?}",
        sim.state()
    );
}

// ── real servers ────────────────────────────────────────────────────────────────────────────────

/// A server of another program, which ends with the test.
struct Foreign {
    child: Child,
    port: u16,
}

impl Foreign {
    /// Starts a program that prints its port within its first line.
    fn start(program: &str, words: &[&str]) -> Foreign {
        let mut child = Command::new(program)
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let output = child.stdout.take().unwrap();
        BufReader::new(output).read_line(&mut line).unwrap();
        let mut ports = line.split(|char: char| !char.is_ascii_digit());
        let port = ports.rfind(|word| 4 <= word.len()).unwrap_or_default();
        let port = port
            .parse()
            .unwrap_or_else(|_| panic!("no port in {line:?}"));
        Foreign { child, port }
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends requests one after the other, and returns what became of them and how many connections were made.
fn one_by_one(requests: Vec<HttpRequest>) -> (Log, u64) {
    struct State {
        log: Log,
        connected: u64,
    }
    fn next(
        client: HttpClient<State>,
        reactor: &mut Reactor<State>,
        mut requests: VecDeque<HttpRequest>,
    ) {
        let Some(request) = requests.pop_front() else {
            return reactor.next_tick(|cx| {
                cx.state.connected = cx.reactor.stats().connected;
                cx.reactor.stop();
            });
        };
        let own = client.clone();
        client.request(reactor, request, move |cx, response| {
            cx.state.log.push(line(response));
            next(own, cx.reactor, requests);
        });
    }
    let state = State {
        log: Log::new(),
        connected: 0,
    };
    let state = Reactor::run(state, |reactor| {
        let client = reactor.http_client();
        reactor.after(support::PATIENCE, |cx: &mut Cx<'_, State>| {
            cx.state.log.push("no patience".to_owned());
            cx.reactor.stop();
        });
        next(client, reactor, requests.into());
    })
    .unwrap();
    (state.log, state.connected)
}

#[test]
fn python_serves_files_to_our_client() {
    if !support::has("python3") {
        return;
    }
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/source");
    let words = [
        "-u",
        "-m",
        "http.server",
        "0",
        "--bind",
        "127.0.0.1",
        "--directory",
        folder,
    ];
    let server = Foreign::start("python3", &words);
    let url = format!("http://127.0.0.1:{}", server.port);
    let (log, connected) = one_by_one(vec![
        HttpRequest::get(format!("{url}/mod.rs")),
        HttpRequest::new("HEAD", format!("{url}/mod.rs")),
        HttpRequest::get(format!("{url}/absent")),
        HttpRequest::post(format!("{url}/mod.rs"), "a/b", "x"),
    ]);
    let file = std::fs::read_to_string(format!("{folder}/mod.rs")).unwrap();
    assert_eq!(log[0], format!("200 {file}"));
    assert_eq!(log[1], "200 ");
    assert!(
        log[2].starts_with("404 ") && log[3].starts_with("501 "),
        "{log:?}"
    );
    // HTTP/1.0: each answer ends its connection.
    assert_eq!(connected, 4);
}

const NODE_SERVER: &str = r#"
const server = require("http").createServer((request, response) => {
  const pieces = [];
  request.on("data", (piece) => pieces.push(piece));
  request.on("end", () => {
    const body = Buffer.concat(pieces);
    if (request.url === "/chunked") {
      response.writeHead(200, { Trailer: "X-Sum", "X-Method": request.method });
      response.write("one ");
      setImmediate(() => {
        response.write("two");
        response.addTrailers({ "X-Sum": "7" });
        response.end();
      });
    } else if (request.url === "/hints") {
      response.writeEarlyHints({ link: "</style.css>; rel=preload" });
      response.end("hinted");
    } else if (request.url === "/redirect") {
      response.writeHead(308, { Location: "/echo" });
      response.end("see there");
    } else {
      response.end(request.method + " " + body.length);
    }
  });
});
server.listen(0, "127.0.0.1", () => console.log("port " + server.address().port));
"#;

#[test]
fn node_serves_chunks_trailers_and_hints_to_our_client() {
    if !support::has("node") {
        return;
    }
    let server = Foreign::start("node", &["-e", NODE_SERVER]);
    let url = format!("http://localhost:{}", server.port);
    let (log, connected) = one_by_one(vec![
        HttpRequest::get(format!("{url}/chunked")),
        HttpRequest::get(format!("{url}/hints")),
        HttpRequest::new("PUT", format!("{url}/redirect"))
            .body("a/b", "x".repeat(300_000))
            .redirects_max(1),
        HttpRequest::new("HEAD", format!("{url}/echo")),
        HttpRequest::new("DELETE", format!("{url}/echo")),
    ]);
    let expected = [
        "200 one two",
        "200 hinted",
        "200 PUT 300000",
        "200 ",
        "200 DELETE 0",
    ];
    assert_eq!(log, expected);
    assert_eq!(connected, 1);
}

#[test]
fn our_own_server_keeps_its_connection_to_our_client() {
    let (address, found) = std::sync::mpsc::channel();
    let server = std::thread::spawn(move || {
        Reactor::run((), |reactor| {
            let listener = reactor.http("127.0.0.1:0", |http| {
                http.post("/echo", |request| {
                    let body = request.body().to_vec();
                    request.reply(body)
                });
                http.get("/stop", |request| {
                    request.reactor.drain(Duration::ZERO);
                    request.reply("stopped")
                });
            })?;
            let port = reactor
                .local_addr(listener)
                .and_then(|address| address.port());
            address.send(port.unwrap()).unwrap();
            std::io::Result::Ok(())
        })
    });
    let url = format!("http://localhost:{}", found.recv().unwrap());
    let echo = |bytes: usize| HttpRequest::post(format!("{url}/echo"), "a/b", "x".repeat(bytes));
    let stop = HttpRequest::get(format!("{url}/stop"));
    let (log, connected) = one_by_one(vec![echo(1), echo(700_000), echo(0), stop]);
    let expected = [
        "200 x",
        &format!("200 {}", "x".repeat(700_000)),
        "200 ",
        "200 stopped",
    ];
    assert_eq!(log, expected);
    assert_eq!(connected, 1);
    server.join().unwrap().unwrap();
}
