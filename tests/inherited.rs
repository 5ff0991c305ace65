//! Listening sockets that were made elsewhere.

#![cfg(unix)]

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use waterwheel::{Address, Config, EventLoop, ListenOptions, Reactor, Router};

fn hello(http: &mut Router<()>) {
    http.get("/", |request| request.reply("hello\n"));
}

/// Runs the loop until the client has its answer.
fn answer(event_loop: &mut EventLoop<()>, client: &mut (impl Read + Write)) -> String {
    let request = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    client.write_all(request).unwrap();
    while event_loop.reactor().stats().closed == 0 {
        event_loop.turn(Some(support::PATIENCE)).unwrap();
    }
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn an_inherited_tcp_listener_serves_http() {
    let inherited = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = inherited.local_addr().unwrap();
    // It waits in the backlog before there is a reactor.
    let mut client = TcpStream::connect(address).unwrap();
    let mut event_loop = EventLoop::new(Config::default(), ()).unwrap();
    let listener = event_loop.reactor().http(inherited, hello).unwrap();
    assert_eq!(
        event_loop.reactor().local_addr(listener),
        Some(Address::Inet(address))
    );
    assert!(answer(&mut event_loop, &mut client).ends_with("hello\n"));
}

#[test]
fn an_inherited_unix_listener_serves_and_its_file_stays() {
    let path = std::env::temp_dir().join(format!("inherited-{}.sock", std::process::id()));
    let inherited = UnixListener::bind(&path).unwrap();
    let mut client = UnixStream::connect(&path).unwrap();
    let mut event_loop = EventLoop::new(Config::default(), ()).unwrap();
    event_loop.reactor().http(inherited, hello).unwrap();
    assert!(answer(&mut event_loop, &mut client).ends_with("hello\n"));
    drop(event_loop);
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn sockets_that_cannot_accept_are_refused_with_a_reason() {
    let listening = |socket: OwnedFd| {
        let mut event_loop = EventLoop::new(Config::default(), ()).unwrap();
        let outcome = event_loop.reactor().http(socket, hello);
        outcome.unwrap_err().to_string()
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let why = listening(client.into());
    assert!(
        why.contains("the inherited socket does not listen"),
        "{why}"
    );
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    let why = listening(datagrams.into());
    assert!(why.contains("is not a stream socket"), "{why}");
    let file = std::fs::File::open("Cargo.toml").unwrap();
    let why = listening(file.into());
    assert!(
        why.starts_with("cannot listen on an inherited socket: "),
        "{why}"
    );
    let pair = UnixStream::pair().unwrap();
    let why = listening(pair.0.into());
    assert!(
        why.contains("the inherited socket does not listen"),
        "{why}"
    );
}

#[test]
fn a_simulation_refuses_a_socket_of_the_kernel() {
    let inherited = TcpListener::bind("127.0.0.1:0").unwrap();
    waterwheel::Sim::new((), move |reactor: &mut Reactor<()>| {
        let why = reactor
            .http(ListenOptions::from(inherited), hello)
            .unwrap_err();
        assert_eq!(why.kind(), std::io::ErrorKind::Unsupported);
    });
}

// Closing a descriptor ends no reports of epoll while another one of the same socket is open.
#[test]
fn a_closed_listener_wakes_the_loop_no_more_though_another_process_has_it() {
    let mut event_loop = EventLoop::new(Config::default(), ()).unwrap();
    let reactor = event_loop.reactor();
    let listener = reactor.http("127.0.0.1:0", hello).unwrap();
    let Some(Address::Inet(address)) = reactor.local_addr(listener) else {
        panic!("a listener on TCP has an address");
    };
    let duplicate = reactor.duplicate_listener(listener).unwrap();
    assert!(reactor.close_listener(listener));
    assert!(reactor.duplicate_listener(listener).is_err());
    event_loop.turn(Some(Duration::ZERO)).unwrap();

    let _client = TcpStream::connect(address).unwrap();
    let mut poll = Poll::new().unwrap();
    let descriptor = event_loop.as_raw_fd();
    let mut source = SourceFd(&descriptor);
    poll.registry()
        .register(&mut source, Token(0), Interest::READABLE)
        .unwrap();
    let mut events = Events::with_capacity(1);
    poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
    assert!(events.is_empty(), "the poll reports a closed listener");
    let (mut accepted, _) = TcpListener::from(duplicate).accept().unwrap();
    accepted.write_all(b"x").unwrap();
}

#[test]
fn a_listener_removes_a_file_that_it_has_adopted() {
    let path = std::env::temp_dir().join(format!("adopted-{}.sock", std::process::id()));
    let inherited = UnixListener::bind(&path).unwrap();
    let mut event_loop = EventLoop::new(Config::default(), ()).unwrap();
    let reactor = event_loop.reactor();
    let tcp = reactor.http("127.0.0.1:0", hello).unwrap();
    assert!(!reactor.adopt_listener_file(tcp));
    let unix = reactor.http(inherited, hello).unwrap();
    assert!(reactor.adopt_listener_file(unix));
    assert!(reactor.close_listener(unix));
    assert!(!path.exists());
    assert!(!reactor.adopt_listener_file(unix));
}

#[test]
fn a_listener_that_is_left_keeps_its_file_and_one_that_is_closed_does_not() {
    let path = std::env::temp_dir().join(format!("left-{}.sock", std::process::id()));
    let address = format!("unix:{}", path.display());
    for stays in [true, false] {
        let mut event_loop = EventLoop::new(Config::default(), ()).unwrap();
        let reactor = event_loop.reactor();
        let listener = reactor.http(&address, hello).unwrap();
        let duplicate = reactor.duplicate_listener(listener).unwrap();
        assert!(match stays {
            true => reactor.leave_listener(listener),
            false => reactor.close_listener(listener),
        });
        drop(event_loop);
        drop(duplicate);
        assert_eq!(path.exists(), stays);
    }
}
