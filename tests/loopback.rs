//! Behaviour that needs a kernel: sockets, names, threads, the poll of another loop; with peers of
//! other implementations.

#[path = "support/log_lines.rs"]
mod log_lines;
#[path = "support/socket.rs"]
mod socket;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use socket::Socket;
use tungstenite::{Message, WebSocket};
use waterwheel::{Address, Config, ConnectOptions, EventLoop, Reactor, Remote};

/// After this long a test gives up. It guards against a hang and asserts no time.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a reactor in a thread of its own; `setup` returns what the test needs, such as an address.
/// [`Running::stop`] stops the reactor and returns its state.
struct Running<S: 'static> {
    remote: Remote<S>,
    thread: thread::JoinHandle<std::io::Result<S>>,
}

fn start<S: Send + 'static, T: Send + 'static>(
    state: S,
    setup: impl FnOnce(&mut Reactor<S>) -> T + Send + 'static,
) -> (Running<S>, T) {
    let (sender, receiver) = mpsc::channel();
    let thread = thread::spawn(move || {
        Reactor::run(state, |reactor| {
            let told = setup(reactor);
            sender.send((reactor.remote(), told)).unwrap();
        })
    });
    let (remote, told) = receiver.recv_timeout(PATIENCE).unwrap();
    (Running { remote, thread }, told)
}

impl<S: 'static> Running<S> {
    fn stop(self) -> S {
        let _ = self.remote.run(|cx| cx.reactor.stop());
        self.thread.join().unwrap().unwrap()
    }
}

fn port<S: 'static>(reactor: &Reactor<S>, listener: waterwheel::ListenerId) -> SocketAddr {
    match reactor.local_addr(listener) {
        Some(Address::Inet(address)) => address,
        other => panic!("{other:?}"),
    }
}

fn websocket(address: SocketAddr, path: &str) -> WebSocket<Socket> {
    let stream = Socket::connect(address).unwrap();
    tungstenite::client(format!("ws://{address}{path}"), stream)
        .unwrap()
        .0
}

#[test]
fn tungstenite_gets_its_messages_back() {
    let (running, address) = start(Vec::new(), |reactor| {
        let listener = reactor.websocket("127.0.0.1:0", |ws| {
            ws.on_open(|ws, handshake| ws.state.push(format!("open {}", handshake.path())));
            ws.on_message(|ws, message| ws.send(message));
            ws.on_close(|ws, close| ws.state.push(close.to_string()));
        });
        port(reactor, listener.unwrap())
    });
    let mut client = websocket(address, "/chat/room");
    for length in [0, 1, 125, 126, 127, 65_535, 65_536, 1_000_000] {
        let text = "a".repeat(length);
        client.send(Message::text(&text)).unwrap();
        client.send(Message::Ping("p".into())).unwrap();
        assert_eq!(client.read().unwrap(), Message::text(text));
        assert_eq!(client.read().unwrap(), Message::Pong("p".into()));
    }
    client.close(None).unwrap();
    while client.read().is_ok() {}
    let seen = running.stop();
    assert_eq!(seen[0], "open /chat/room");
    assert_eq!(seen.len(), 2, "{seen:?}");
}

#[test]
fn a_raw_stream_comes_back_whole() {
    const BYTES: usize = 64 * 1024 * 1024;
    let (running, address) = start((), |reactor| {
        let listener = reactor.stream("127.0.0.1:0", |stream| {
            stream.on_data(|stream, bytes| {
                stream.send(bytes);
                // Reading pauses until the client has read what is queued.
                if 512 * 1024 < stream.reactor.queued_bytes(stream.id) {
                    stream.reactor.pause(stream.id);
                }
            });
            stream.on_drain(|stream| stream.reactor.resume(stream.id));
        });
        port(reactor, listener.unwrap())
    });
    let mut client = Socket::connect(address).unwrap();
    let mut sender = client.try_clone().unwrap();
    let byte = |index: usize| (index * 31 + index / 257) as u8;
    let sending = thread::spawn(move || {
        for start in (0..BYTES).step_by(1 << 16) {
            let block: Vec<_> = (start..start + (1 << 16)).map(byte).collect();
            sender.write_all(&block).unwrap();
        }
        sender.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let mut count = 0;
    let mut block = vec![0; 1 << 16];
    loop {
        let length = client.read(&mut block).unwrap();
        if length == 0 {
            break;
        }
        let same = block[..length].iter().zip(count..);
        assert!(same.into_iter().all(|(came, index)| *came == byte(index)));
        count += length;
    }
    assert_eq!(count, BYTES);
    sending.join().unwrap();
    running.stop();
}

#[cfg(unix)]
#[test]
fn a_unix_socket_can_be_served_and_connected_to() {
    let path = std::env::temp_dir().join(format!("waterwheel-loopback-{}", std::process::id()));
    let address = format!("unix:{}", path.display());
    let listen = address.clone();
    let (running, ()) = start(String::new(), move |reactor| {
        reactor
            .stream(&listen, |stream| {
                stream.on_data(|stream, bytes| stream.send(bytes));
            })
            .unwrap();
        reactor
            .connect_stream(&address, |stream| {
                stream.on_open(|stream| stream.send("over a file"));
                stream.on_data(|stream, bytes| {
                    stream.state.push_str(str::from_utf8(bytes).unwrap());
                    if stream.state.len() == "over a file".len() {
                        stream.reactor.stop();
                    }
                });
            })
            .unwrap();
    });
    let state = running.thread.join().unwrap().unwrap();
    assert_eq!(state, "over a file");
    assert!(!path.exists());
}

/// A path in the directory for temporary files that no other test has.
#[cfg(unix)]
fn temporary(name: &str) -> std::path::PathBuf {
    std::env::temp_dir().join(format!("waterwheel-{name}-{}", std::process::id()))
}

#[cfg(unix)]
fn listen_on(path: &std::path::Path) -> std::io::Result<EventLoop<()>> {
    let mut event_loop = EventLoop::new(Config::default(), ())?;
    let address = format!("unix:{}", path.display());
    event_loop.reactor().stream(&address, |_| {})?;
    Ok(event_loop)
}

// A regular file refuses a connect just as an abandoned socket does, so it was once taken for
// one and removed.
#[cfg(unix)]
#[test]
fn a_regular_file_is_not_replaced_by_a_socket() {
    let path = temporary("notes");
    std::fs::write(&path, "precious").unwrap();
    let error = listen_on(&path).err().unwrap().to_string();
    assert!(error.contains("exists and is not a socket"), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    std::fs::remove_file(path).unwrap();
}

#[cfg(unix)]
#[test]
fn an_abandoned_socket_file_is_replaced() {
    let path = temporary("left");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let event_loop = listen_on(&path).unwrap();
    std::os::unix::net::UnixStream::connect(&path).unwrap();
    drop(event_loop);
    assert!(!path.exists());
}

// Closing a listener once removed the socket file of a process that had taken over its path.
#[cfg(unix)]
#[test]
fn a_listener_removes_only_its_own_socket_file() {
    let path = temporary("taken-over");
    let first = listen_on(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let second = listen_on(&path).unwrap();
    drop(first);
    std::os::unix::net::UnixStream::connect(&path).unwrap();
    drop(second);
    assert!(!path.exists());
}

/// How an attempt to connect ended: opened, or why not.
fn outcome_of(address: String, from: Option<IpAddr>) -> Vec<String> {
    let (running, ()) = start(Vec::new(), move |reactor| {
        reactor
            .connect_stream(ConnectOptions::new(&address).from_address(from), |stream| {
                stream.on_open(|stream| {
                    stream.state.push("open".to_owned());
                    stream.close()
                });
                stream.on_close(|stream, close| {
                    stream.state.push(format!("{:?}", close.cause));
                    stream.reactor.stop();
                });
            })
            .unwrap();
    });
    running.thread.join().unwrap().unwrap()
}

#[test]
fn a_connect_has_one_outcome() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let accepting = thread::spawn(move || {
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().unwrap();
            assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
        }
    });
    // On most machines the name has an IPv6 address too, at which no server listens.
    for host in ["127.0.0.1", "localhost"] {
        let seen = outcome_of(format!("{host}:{port}"), None);
        assert_eq!(seen.len(), 2, "{seen:?}");
        assert_eq!(seen[0], "open");
    }
    accepting.join().unwrap();
    // The port is bound here, so that no other program can listen there meanwhile.
    let mute = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    mute.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    let address = mute.local_addr().unwrap().as_socket().unwrap();
    let seen = outcome_of(address.to_string(), None);
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert!(seen[0].contains("ConnectionRefused"), "{seen:?}");
}

// Only Linux has all of 127.0.0.0/8 without configuration.
#[cfg(target_os = "linux")]
#[test]
fn a_stream_connects_from_the_given_local_address() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    for from in [[127, 0, 0, 2], [127, 0, 0, 3]].map(IpAddr::from) {
        let address = address.clone();
        let (running, ()) = start((), move |reactor| {
            let made =
                reactor.connect_stream(ConnectOptions::new(&address).from_address(from), |_| {});
            made.unwrap();
        });
        let (_stream, peer) = listener.accept().unwrap();
        assert_eq!(peer.ip(), from);
        running.stop();
    }
}

#[test]
fn an_unavailable_local_address_fails_in_on_close() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    // An address for documentation, which no machine has. Source: RFC 5737.
    let seen = outcome_of(address.clone(), Some([192, 0, 2, 1].into()));
    assert_eq!(seen, ["Io(AddrNotAvailable)"]);
    let of_another_family = outcome_of(address, Some(std::net::Ipv6Addr::LOCALHOST.into()));
    assert_eq!(of_another_family.len(), 1, "{of_another_family:?}");
    assert!(
        of_another_family[0].starts_with("Io("),
        "{of_another_family:?}"
    );
}

#[test]
fn closures_of_each_remote_run_in_their_order() {
    const THREADS: usize = 8;
    const CALLS: usize = 10_000;
    let (running, ()) = start(vec![0; THREADS], |_| ());
    let threads: Vec<_> = (0..THREADS)
        .map(|index| {
            let remote = running.remote.clone();
            thread::spawn(move || {
                for call in 0..CALLS {
                    let handed = remote.run(move |cx| {
                        assert_eq!(cx.state[index], call);
                        cx.state[index] += 1;
                    });
                    assert!(handed.is_ok());
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let remote = running.remote.clone();
    assert_eq!(running.stop(), [CALLS; THREADS]);
    assert!(remote.run(|_| ()).is_err());
}

#[test]
fn a_reset_by_the_peer_calls_on_close_once() {
    const CLIENTS: usize = 200;
    let (running, address) = start((0, 0), |reactor| {
        let listener = reactor.stream("127.0.0.1:0", |stream| {
            stream.on_open(|stream| stream.state.0 += 1);
            stream.on_data(|stream, bytes| stream.send(bytes));
            stream.on_close(|stream, _| {
                stream.state.1 += 1;
                if stream.state.1 == CLIENTS {
                    stream.reactor.stop();
                }
            });
        });
        port(reactor, listener.unwrap())
    });
    for index in 0..CLIENTS {
        let client =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        client.connect(&address.into()).unwrap();
        if index % 3 == 0 {
            (&client).write_all(b"x").unwrap();
        }
        if index % 2 == 0 {
            // Closing a socket with a linger time of zero resets it.
            client.set_linger(Some(Duration::ZERO)).unwrap();
        }
    }
    assert_eq!(running.thread.join().unwrap().unwrap(), (CLIENTS, CLIENTS));
}

#[test]
fn a_taken_port_is_an_error_that_names_it() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let error = Reactor::run((), |reactor| reactor.websocket(&address, |_| ())).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    assert!(error.to_string().contains(&address), "{error}");
}

#[test]
fn an_invalid_address_is_an_error_that_names_the_expected_form() {
    for address in [
        "8080",
        "localhost",
        ":80",
        "localhost:http",
        "localhost:65536",
    ] {
        let error = Reactor::run((), |reactor| reactor.websocket(address, |_| ())).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
        let expected = format!("cannot listen on {address}: expected HOST:PORT or unix:PATH");
        assert_eq!(error.to_string(), expected);
    }
}

#[cfg(unix)]
#[test]
fn an_event_loop_runs_inside_another_poll() {
    use std::os::fd::AsRawFd;

    use mio::unix::SourceFd;
    use mio::{Events, Interest, Poll, Token};

    let mut event_loop = EventLoop::new(Config::default(), 0).unwrap();
    let listener = event_loop.reactor().stream("127.0.0.1:0", |stream| {
        stream.on_data(|stream, bytes| {
            *stream.state += bytes.len();
            stream.send(bytes);
            stream
                .reactor
                .after(Duration::from_millis(1), |cx| cx.reactor.stop());
        });
    });
    let address = port(event_loop.reactor(), listener.unwrap());
    let client = thread::spawn(move || {
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(b"hello").unwrap();
        let mut answer = [0; 5];
        client.read_exact(&mut answer).unwrap();
        answer
    });
    let mut poll = Poll::new().unwrap();
    let descriptor = event_loop.as_raw_fd();
    poll.registry()
        .register(&mut SourceFd(&descriptor), Token(0), Interest::READABLE)
        .unwrap();
    let mut events = Events::with_capacity(4);
    while event_loop.turn(Some(Duration::ZERO)).unwrap() {
        let timeout = event_loop.next_wakeup().or(Some(PATIENCE));
        if let Err(error) = poll.poll(&mut events, timeout) {
            assert_eq!(error.kind(), std::io::ErrorKind::Interrupted);
        }
    }
    assert_eq!(&client.join().unwrap(), b"hello");
    assert_eq!(event_loop.into_state(), 5);
}

/// Turns the loop until `is_done`. The limit only guards against a test that hangs.
fn turn_until<S: 'static>(
    event_loop: &mut EventLoop<S>,
    is_done: impl Fn(&mut EventLoop<S>) -> bool,
) {
    let began = Instant::now();
    while !is_done(event_loop) {
        assert!(
            began.elapsed() < PATIENCE,
            "the expected state was never reached"
        );
        event_loop.turn(Some(Duration::from_millis(100))).unwrap();
    }
}

// The kernel announces the bytes once. Bytes above the budget of one turn must be read by later
// turns without another announcement. On a Unix socket all bytes are there before the first turn.
#[cfg(unix)]
#[test]
fn bytes_above_the_read_budget_are_read_in_later_turns() {
    // No configuration has a smaller buffer, and one read may fill it.
    const BUFFER_BYTES: usize = 64 * 1024;
    let config = Config {
        read_budget_bytes: 1,
        read_buffer_bytes: BUFFER_BYTES,
        ..Config::default()
    };
    let path = temporary("budget");
    let mut event_loop = EventLoop::new(config, 0).unwrap();
    let listener = event_loop
        .reactor()
        .stream(format!("unix:{}", path.display()), |stream| {
            stream.on_data(|stream, bytes| *stream.state += bytes.len());
        });
    listener.unwrap();
    let mut client = std::os::unix::net::UnixStream::connect(&path).unwrap();
    client.set_nonblocking(true).unwrap();
    let mut sent = 0;
    while let Ok(count) = client.write(&[7; 4096]) {
        sent += count;
    }
    assert!(2 * BUFFER_BYTES < sent, "{sent} bytes need several turns");
    turn_until(&mut event_loop, |event_loop| *event_loop.state() == sent);
}

#[test]
fn a_closed_listener_refuses_clients_and_its_connections_stay_open() {
    let mut event_loop = EventLoop::new(Config::default(), 0).unwrap();
    let listener = event_loop.reactor().stream("127.0.0.1:0", |stream| {
        stream.on_data(|stream, bytes| {
            *stream.state += bytes.len();
            stream.send(bytes)
        });
    });
    let listener = listener.unwrap();
    let address = port(event_loop.reactor(), listener);
    let mut client = Socket::connect(address).unwrap();
    turn_until(&mut event_loop, |event_loop| {
        event_loop.reactor().connection_count() == 1
    });
    assert!(event_loop.reactor().close_listener(listener));
    assert!(
        !event_loop.reactor().close_listener(listener),
        "closed before"
    );
    event_loop.turn(Some(Duration::ZERO)).unwrap();
    let refused = TcpStream::connect(address).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    client.write_all(b"still").unwrap();
    turn_until(&mut event_loop, |event_loop| *event_loop.state() == 5);
    let mut echo = [0; 5];
    client.read_exact(&mut echo).unwrap();
    assert_eq!(&echo, b"still");
}

/// Turns until the server has these bytes.
#[cfg(target_os = "linux")]
fn turn_until_received(event_loop: &mut EventLoop<Vec<u8>>, expected: &[u8]) {
    turn_until(event_loop, |event_loop| event_loop.state() == expected);
}

// A read stops in front of urgent data, so it is short although more bytes are there, and the
// kernel announces them only once.
#[cfg(target_os = "linux")]
#[test]
fn bytes_behind_urgent_data_are_read() {
    let mut event_loop = EventLoop::new(Config::default(), Vec::new()).unwrap();
    let listener = event_loop.reactor().stream("127.0.0.1:0", |stream| {
        stream.on_data(|stream, bytes| stream.state.extend_from_slice(bytes));
    });
    let address = port(event_loop.reactor(), listener.unwrap());
    let mut client = TcpStream::connect(address).unwrap();
    turn_until(&mut event_loop, |event_loop| {
        event_loop.reactor().connection_count() == 1
    });
    for round in 1..=3 {
        client.write_all(b"before").unwrap();
        let urgent = socket2::SockRef::from(&client).send_out_of_band(b"!");
        assert_eq!(urgent.unwrap(), 1);
        client.write_all(b"after").unwrap();
        turn_until_received(&mut event_loop, &b"beforeafter".repeat(round));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn messages_behind_urgent_data_are_delivered() {
    let mut event_loop = EventLoop::new(Config::default(), Vec::new()).unwrap();
    let listener = event_loop.reactor().websocket("127.0.0.1:0", |ws| {
        ws.on_open(|ws, _| ws.state.push(b'o'));
        ws.on_message(|ws, message| ws.state.extend_from_slice(message.as_bytes()));
    });
    let address = port(event_loop.reactor(), listener.unwrap());
    let mut client = TcpStream::connect(address).unwrap();
    let request = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
                   Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    client.write_all(request.as_bytes()).unwrap();
    turn_until_received(&mut event_loop, b"o");
    // Masked with zeros.
    let frame = |byte| [0x81, 0x81, 0, 0, 0, 0, byte];
    client.write_all(&frame(b'a')).unwrap();
    let urgent = socket2::SockRef::from(&client).send_out_of_band(b"!");
    assert_eq!(urgent.unwrap(), 1);
    client.write_all(&frame(b'b')).unwrap();
    turn_until_received(&mut event_loop, b"oab");
}

/// A control message that passes a descriptor to the other end of a Unix socket.
/// Source: cmsg(3), unix(7), with the numbers of these two architectures.
#[cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]
fn passing(descriptor: std::os::fd::RawFd) -> Vec<u8> {
    const SOL_SOCKET: i32 = 1;
    const SCM_RIGHTS: i32 = 1;
    const LENGTH: usize = 8 + 4 + 4 + 4;
    let mut message = LENGTH.to_ne_bytes().to_vec();
    for number in [SOL_SOCKET, SCM_RIGHTS, descriptor, 0] {
        message.extend_from_slice(&number.to_ne_bytes());
    }
    message
}

// A read stops behind bytes that came with a descriptor, and the kernel does not tell.
#[cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]
#[test]
fn bytes_behind_a_passed_descriptor_are_read() {
    use std::io::IoSlice;
    use std::os::fd::AsRawFd;

    let path = temporary("descriptor");
    let mut event_loop = EventLoop::new(Config::default(), Vec::new()).unwrap();
    let listener = event_loop
        .reactor()
        .stream(format!("unix:{}", path.display()), |stream| {
            stream.on_data(|stream, bytes| stream.state.extend_from_slice(bytes));
        });
    listener.unwrap();
    let mut client = std::os::unix::net::UnixStream::connect(&path).unwrap();
    turn_until(&mut event_loop, |event_loop| {
        event_loop.reactor().connection_count() == 1
    });
    client.write_all(b"before").unwrap();
    let control = passing(client.as_raw_fd());
    let slices = [IoSlice::new(b"with")];
    let message = socket2::MsgHdr::new()
        .with_buffers(&slices)
        .with_control(&control);
    let sent = socket2::SockRef::from(&client).sendmsg(&message, 0);
    assert_eq!(sent.unwrap(), 4);
    client.write_all(b"after").unwrap();
    turn_until_received(&mut event_loop, b"beforewithafter");
}

#[test]
fn bytes_sent_and_closed_before_a_connect_is_made_arrive() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut event_loop = EventLoop::new(Config::default(), Vec::new()).unwrap();
    let reactor: &mut Reactor<Vec<String>> = event_loop.reactor();
    let made = reactor.connect_stream(&address, |stream| {
        stream.on_open(|stream| stream.state.push("open".into()));
        stream.on_close(|stream, close| stream.state.push(close.to_string()));
    });
    let id = made.unwrap();
    assert!(reactor.send(id, b"hello").is_queued());
    assert!(reactor.close(id).is_queued());
    let reading = thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        text
    });
    turn_until(&mut event_loop, |event_loop| !event_loop.state().is_empty());
    assert_eq!(reading.join().unwrap(), "hello");
    assert_eq!(event_loop.into_state(), ["closed by us"]);
}

/// Set for the process that the next test starts: the name of a signal.
#[cfg(all(unix, feature = "signals"))]
const SIGNAL_VARIABLE: &str = "WATERWHEEL_TEST_SIGNAL";

// Not a test of its own: `signals_end_the_process_when_its_reactor_has_ended` runs it in a process.
#[cfg(all(unix, feature = "signals"))]
#[test]
fn signalled_process() {
    let Ok(signal) = std::env::var(SIGNAL_VARIABLE) else {
        return;
    };
    for _ in 0..2 {
        Reactor::run((), |reactor| -> std::io::Result<()> {
            reactor.drain_on_signals(Duration::from_secs(1))?;
            reactor.next_tick(|cx| cx.reactor.stop());
            Ok(())
        })
        .unwrap();
    }
    let id = std::process::id().to_string();
    let kill = std::process::Command::new("kill")
        .args([&signal, &id])
        .status();
    assert!(kill.unwrap().success());
    // The signal ends the process here.
    thread::sleep(PATIENCE);
}

// The handlers stayed installed, so that a program could not be interrupted any more.
#[cfg(all(unix, feature = "signals"))]
#[test]
fn signals_end_the_process_when_its_reactor_has_ended() {
    use std::os::unix::process::ExitStatusExt;

    for (signal, number) in [("-INT", 2), ("-TERM", 15)] {
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "signalled_process"])
            .env(SIGNAL_VARIABLE, signal)
            .stdout(std::process::Stdio::null())
            .status()
            .unwrap();
        assert_eq!(status.signal(), Some(number), "{signal}: {status}");
    }
}

// The kernel reports a reset of the client, although its end of stream was reported before.
#[test]
fn a_reset_behind_an_end_of_stream_is_noticed_while_the_reply_is_owed() {
    let mut event_loop = EventLoop::new(Config::default(), Vec::<String>::new()).unwrap();
    let listener = event_loop.reactor().http("127.0.0.1:0", |router| {
        router.get("/", |request| {
            request.state.push("later".into());
            let responder = request.reply_later();
            request
                .reactor
                .on_gone(responder, |cx, close| cx.state.push(close.to_string()));
        });
    });
    let Some(Address::Inet(address)) = event_loop.reactor().local_addr(listener.unwrap()) else {
        panic!("a listener on TCP has an address");
    };
    let mut client = TcpStream::connect(address).unwrap();
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        .unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    turn_until(&mut event_loop, |event_loop| event_loop.state().len() == 1);
    // With a linger of zero, closing is a reset.
    let client = socket2::Socket::from(client);
    client.set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    turn_until(&mut event_loop, |event_loop| event_loop.state().len() == 2);
    assert_eq!(*event_loop.state(), ["later", "closed by peer"]);
    assert_eq!(event_loop.reactor().connection_count(), 0);
}

#[cfg(target_os = "linux")]
#[test]
fn a_unix_listener_lets_as_many_clients_wait_as_configured() {
    let path = temporary("backlog");
    let config = Config {
        listen_backlog: 3,
        ..Config::default()
    };
    let mut event_loop = EventLoop::new(config, ()).unwrap();
    let address = format!("unix:{}", path.display());
    event_loop.reactor().stream(&address, |_| {}).unwrap();
    let mut clients = Vec::new();
    loop {
        let client = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None);
        let client = client.unwrap();
        client.set_nonblocking(true).unwrap();
        match client.connect(&socket2::SockAddr::unix(&path).unwrap()) {
            Ok(()) => clients.push(client),
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
                break;
            }
        }
    }
    // Linux takes one more than the backlog.
    assert_eq!(clients.len(), 4);
}

// A full queue of a Unix listener is no failure: the kernel only has no way to let a socket wait for it.
#[cfg(target_os = "linux")]
#[test]
fn connecting_to_a_unix_listener_waits_for_room_in_its_queue() {
    let path = temporary("full");
    let listener =
        socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    listener
        .bind(&socket2::SockAddr::unix(&path).unwrap())
        .unwrap();
    listener.listen(0).unwrap();
    let mut event_loop = EventLoop::new(Config::default(), Vec::<String>::new()).unwrap();
    let address = format!("unix:{}", path.display());
    for _ in 0..3 {
        let connecting = event_loop.reactor().connect_stream(&address, |stream| {
            stream.on_open(|stream| stream.state.push("open".into()));
            stream.on_close(|stream, close| stream.state.push(close.to_string()));
        });
        connecting.unwrap();
    }
    turn_until(&mut event_loop, |event_loop| event_loop.state().len() == 1);
    let mut accepted = Vec::new();
    for count in 2..=3 {
        accepted.push(listener.accept().unwrap());
        turn_until(&mut event_loop, |event_loop| {
            event_loop.state().len() == count
        });
    }
    assert_eq!(*event_loop.state(), ["open"; 3]);
    let _ = std::fs::remove_file(path);
}

// The kernel has forgotten the peer of a socket that was reset.
#[test]
fn a_log_line_about_a_reset_connection_names_its_peer() {
    log_lines::capture();
    let mut event_loop = EventLoop::new(Config::default(), 0).unwrap();
    let listener = event_loop.reactor().stream("127.0.0.1:0", |stream| {
        stream.on_open(|stream| *stream.state += 1);
        stream.on_close(|stream, _| *stream.state += 1);
    });
    let Some(Address::Inet(address)) = event_loop.reactor().local_addr(listener.unwrap()) else {
        panic!("a listener on TCP has an address");
    };
    let client = TcpStream::connect(address).unwrap();
    let ours = client.local_addr().unwrap();
    turn_until(&mut event_loop, |event_loop| *event_loop.state() == 1);
    let client = socket2::Socket::from(client);
    client.set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    turn_until(&mut event_loop, |event_loop| *event_loop.state() == 2);
    let lines = log_lines::with(&format!("{ours}: ended: "));
    assert_eq!(lines.len(), 1, "{lines:?}");
}

/// Set for the process that the next test starts.
#[cfg(unix)]
const IMPATIENT_VARIABLE: &str = "WATERWHEEL_TEST_IMPATIENT";

// Not a test of its own: `clients_survive_a_process_that_was_stopped` runs it in a process.
#[cfg(unix)]
#[test]
fn impatient_process() {
    if std::env::var(IMPATIENT_VARIABLE).is_err() {
        return;
    }
    let mut config = Config::default();
    config.options.ping_interval = Some(Duration::from_millis(1300));
    config.options.pong_timeout = Duration::from_millis(1300);
    config.keep_alive_timeout = Duration::from_millis(2600);
    Reactor::run_with(config, (), |reactor| {
        let listener = reactor.http("127.0.0.1:0", |router| {
            router.get("/", |request| request.reply("hello"));
            router.websocket("/ws", |ws| ws.on_message(|ws, message| ws.send(message)));
        });
        // On standard error, because the harness of the tests keeps standard output.
        eprintln!("port {}", port(reactor, listener.unwrap()).port());
    })
    .unwrap();
}

// The deadlines of healthy clients passed while the process was stopped, and they were judged before
// the kernel was asked for the bytes that had come meanwhile.
#[cfg(unix)]
#[test]
fn clients_survive_a_process_that_was_stopped() {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "impatient_process", "--nocapture"])
        .env(IMPATIENT_VARIABLE, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let port: u16 = lines
        .find_map(|line| line.unwrap().strip_prefix("port ")?.parse().ok())
        .unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let id = child.id().to_string();
    let signal = |name: &str| {
        let kill = Command::new("kill").args([name, &id]).status();
        assert!(kill.unwrap().success());
    };
    let mut streams: Vec<_> = (0..110)
        .map(|_| Socket::connect(address).unwrap())
        .collect();
    let mut sockets: Vec<_> = (0..110).map(|_| websocket(address, "/ws")).collect();
    let read_answer = |stream: &mut Socket| {
        let mut answer = Vec::new();
        let mut byte = [0];
        while !answer.ends_with(b"hello") {
            assert_eq!(stream.read(&mut byte).unwrap(), 1, "the end of stream");
            answer.push(byte[0]);
        }
    };
    for stream in &mut streams {
        stream.write_all(REQUEST).unwrap();
        read_answer(stream);
    }
    signal("-STOP");
    for stream in &mut streams[..100] {
        stream.write_all(REQUEST).unwrap();
    }
    for socket in &mut sockets[..100] {
        socket.send(Message::text("here")).unwrap();
    }
    // Not to synchronise: the time is what passes for the deadlines.
    thread::sleep(Duration::from_secs(3));
    signal("-CONT");
    streams[..100].iter_mut().for_each(read_answer);
    for socket in &mut sockets[..100] {
        while socket.read().unwrap() != Message::text("here") {}
    }
    // The silent ones end: the requests at once, the sockets when they do not answer their ping.
    for stream in &mut streams[100..] {
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    }
    for socket in &mut sockets[100..] {
        let mut rest = Vec::new();
        let _ = socket.get_mut().read_to_end(&mut rest);
        assert!(rest.len() <= 16, "{} bytes", rest.len());
    }
    child.kill().unwrap();
    child.wait().unwrap();
}
