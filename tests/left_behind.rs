//! Descriptors and threads of this process before and after what takes some. One test, because others would take theirs
//! meanwhile.
#![cfg(target_os = "linux")]

#[path = "../examples/proxy.rs"]
#[allow(dead_code, reason = "the test has its own main")]
mod proxy;

use std::fs;
use std::io::{self, Read, Write, pipe};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use waterwheel::{Config, EventLoop, Interest, MulticastInterface, UdpId};

/// Descriptors, and threads.
fn counts() -> [usize; 2] {
    ["/proc/self/fd", "/proc/self/task"].map(|folder| fs::read_dir(folder).unwrap().count())
}

/// Runs a loop with `work`, and returns the counts of its start and those at the end of the work.
fn run(work: impl FnOnce(&mut EventLoop<usize>)) {
    let without_loop = counts();
    let mut event_loop = EventLoop::new(Config::default(), 0).unwrap();
    work(&mut event_loop);
    drop(event_loop);
    // A thread ends a moment after its last work.
    while counts()[1] != without_loop[1] {
        std::thread::yield_now();
    }
    assert_eq!(counts(), without_loop);
}

fn turn_until(
    event_loop: &mut EventLoop<usize>,
    is_wanted: impl Fn(&mut EventLoop<usize>) -> bool,
) {
    while !is_wanted(event_loop) {
        event_loop.turn(Some(Duration::from_millis(1))).unwrap();
    }
}

/// Watches that end by themselves, by `unwatch`, by an error and with the loop.
fn watch(event_loop: &mut EventLoop<usize>) {
    let before = counts();
    let mut watches = Vec::new();
    for round in 0..100 {
        let (reader, mut writer) = pipe().unwrap();
        let watching = event_loop
            .reactor()
            .watch(reader, Interest::Readable, move |watch| {
                *watch.state += 1;
                match round % 2 {
                    0 => watch.end(),
                    _ => return Err("an error of a test"),
                }
                Ok(())
            });
        watching.unwrap();
        writer.write_all(b"x").unwrap();
        let (idle, idle_writer) = pipe().unwrap();
        let idle = event_loop.reactor().watch(idle, Interest::Readable, |_| {});
        watches.push((idle.unwrap(), idle_writer));
    }
    turn_until(event_loop, |event_loop| *event_loop.state() == 100);
    for (watch, _) in watches.drain(..50) {
        assert!(event_loop.reactor().unwatch(watch).is_some());
    }
    turn_until(event_loop, |_| counts() == [before[0] + 100, before[1]]);
    // Fifty are left to the end of the loop.
    drop(watches);
}

/// Proxied streams, half of which are reset.
fn pipes(event_loop: &mut EventLoop<usize>) {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap().to_string();
    let proxy = proxy::listen(event_loop.reactor(), "127.0.0.1:0", address).unwrap();
    let listening = event_loop.reactor().local_addr(proxy).unwrap();
    let before = counts();
    for round in 0..50 {
        let mut client = TcpStream::connect(("127.0.0.1", listening.port().unwrap())).unwrap();
        client.write_all(b"hello").unwrap();
        server.set_nonblocking(true).unwrap();
        let mut accepted = None;
        while accepted.is_none() {
            event_loop.turn(Some(Duration::from_millis(1))).unwrap();
            accepted = server.accept().ok();
        }
        let (mut served, _) = accepted.unwrap();
        served.set_nonblocking(true).unwrap();
        let mut got = [0; 5];
        while served.read(&mut got).is_err() {
            event_loop.turn(Some(Duration::from_millis(1))).unwrap();
        }
        assert_eq!(&got, b"hello");
        if round % 2 == 0 {
            client.shutdown(Shutdown::Write).unwrap();
            served.shutdown(Shutdown::Write).unwrap();
        } else {
            // Unread bytes make its close a reset.
            served.write_all(b"unread").unwrap();
            client.set_nonblocking(true).unwrap();
            while client.peek(&mut got).is_err() {
                event_loop.turn(Some(Duration::from_millis(1))).unwrap();
            }
            drop(client);
        }
        turn_until(event_loop, |event_loop| {
            event_loop.reactor().connection_count() == 0
        });
    }
    assert_eq!(counts(), before);
}

/// Operations on threads, some of which panic.
fn defer(event_loop: &mut EventLoop<usize>) {
    for round in 0..50 {
        let operation = move || assert!(round % 5 != 0, "a panic of a test");
        let deferred = event_loop
            .reactor()
            .defer(operation, |cx, _| *cx.state += 1);
        deferred.unwrap();
    }
    turn_until(event_loop, |event_loop| *event_loop.state() == 50);
}

/// Sockets, commands and descriptors that cannot be had.
fn refused(event_loop: &mut EventLoop<usize>) {
    let before = counts();
    let reactor = event_loop.reactor();
    for _ in 0..50 {
        let missing = std::process::Command::new("/missing/program");
        reactor.process(missing, |_| {}).unwrap_err();
        let file = fs::File::open("/proc/self/exe").unwrap();
        reactor.watch(file, Interest::Readable, |_| {}).unwrap_err();
        reactor.stream("192.0.2.1:1", |_| {}).unwrap_err();
        let own_error = |_: &mut waterwheel::StreamCallbacks<usize>| {
            io::Result::<()>::Err(io::Error::other("no"))
        };
        reactor.stream("127.0.0.1:0", own_error).unwrap_err();
    }
    turn_until(event_loop, |_| counts() == before);
}

fn open_udp(event_loop: &mut EventLoop<usize>) -> UdpId {
    let opening = event_loop.reactor().udp("127.0.0.1:0", |udp| {
        udp.on_datagram(|udp, bytes, _| {
            *udp.state += 1;
            match bytes {
                b"close" => _ = udp.close(),
                _ => panic!("a panic of a test"),
            }
        });
    });
    opening.unwrap()
}

/// UDP sockets that cannot be opened, that are closed in their callback, after a panic, from outside and with the loop.
fn datagrams(event_loop: &mut EventLoop<usize>) {
    let before = counts();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    let used = client.local_addr().unwrap().to_string();
    for _ in 0..50 {
        let reactor = event_loop.reactor();
        reactor.udp(&used, |_| {}).unwrap_err();
        let no_group = |udp: &mut waterwheel::UdpCallbacks<usize>| {
            udp.join_group(Ipv4Addr::LOCALHOST, MulticastInterface::Any);
        };
        reactor.udp("127.0.0.1:0", no_group).unwrap_err();
        let own_error =
            |_: &mut waterwheel::UdpCallbacks<usize>| Err::<(), _>(io::Error::other("no"));
        reactor.udp("127.0.0.1:0", own_error).unwrap_err();
    }
    let sockets: Vec<_> = (0..100).map(|_| open_udp(event_loop)).collect();
    assert_eq!(counts(), [before[0] + 101, before[1]]);
    for id in &sockets[..50] {
        let server = event_loop.reactor().udp_address(*id).unwrap();
        client.send_to(b"panic", server).unwrap();
        client.send_to(b"close", server).unwrap();
    }
    turn_until(event_loop, |event_loop| *event_loop.state() == 100);
    for id in &sockets[50..] {
        assert!(event_loop.reactor().close_udp(*id));
    }
    drop(client);
    assert_eq!(counts(), before);
    for _ in 0..50 {
        open_udp(event_loop);
    }
}

/// A loop that has ended and is kept has closed its UDP sockets.
fn datagrams_until(end: impl FnOnce(&mut waterwheel::Reactor<usize>)) {
    run(|event_loop| {
        let before = counts();
        for _ in 0..50 {
            open_udp(event_loop);
        }
        assert_eq!(counts(), [before[0] + 50, before[1]]);
        end(event_loop.reactor());
        while event_loop.turn(Some(Duration::from_millis(1))).unwrap() {}
        assert_eq!(counts(), before);
    });
}

#[test]
fn descriptors_and_threads_are_given_back() {
    run(watch);
    run(pipes);
    run(defer);
    run(refused);
    run(datagrams);
    datagrams_until(|reactor| reactor.stop());
    datagrams_until(|reactor| reactor.drain(Duration::from_secs(60)));
}
