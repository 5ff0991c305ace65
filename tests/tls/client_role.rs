//! The role of the client, on a network that cuts or delays what a server says at every byte.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use waterwheel::{ClientTransport, ConnId};

use super::*;

/// The fate of the bytes of the server.
#[derive(Clone, Copy, Debug)]
enum Fault {
    None,
    /// The stream ends behind this many bytes.
    Cut(usize),
    /// This many bytes come at once, and the next ones a millisecond later.
    Pieces(usize),
}

/// The way of the bytes of one server to one client.
struct Way {
    fault: Fault,
    client: ConnId,
    server: ConnId,
    passed: usize,
    is_waiting: bool,
    waiting: VecDeque<u8>,
}

impl Way {
    /// The bytes that pass now.
    fn pass(&mut self) -> Vec<u8> {
        let most = match self.fault {
            Fault::Cut(at) => at - self.passed,
            Fault::Pieces(bytes) => bytes,
            Fault::None => usize::MAX,
        };
        let count = most.min(self.waiting.len());
        self.passed += count;
        self.waiting.drain(..count).collect()
    }
}

/// Sends the client what passes now, and the rest later or never.
fn pass(reactor: &mut Reactor<Log>, shared: &Rc<RefCell<Option<Way>>>) {
    let mut borrowed = shared.borrow_mut();
    let way = borrowed.as_mut().unwrap();
    if way.is_waiting {
        return;
    }
    reactor.send(way.client, way.pass());
    let has_rest = !way.waiting.is_empty();
    match way.fault {
        Fault::Cut(_) if has_rest => {
            reactor.close(way.client);
            reactor.close(way.server);
        }
        Fault::Pieces(_) if has_rest => {
            way.is_waiting = true;
            let shared = Rc::clone(shared);
            reactor.after(Duration::from_millis(1), move |cx| {
                shared.borrow_mut().as_mut().unwrap().is_waiting = false;
                pass(cx.reactor, &shared);
            });
        }
        _ => {}
    }
}

/// A network between clients of port 443 and the server of port 444.
fn network(reactor: &mut Reactor<Log>, fault: Fault, passed: &Rc<Cell<usize>>) {
    let way: Rc<RefCell<Option<Way>>> = Rc::default();
    let passed = Rc::clone(passed);
    let listening = reactor.stream("0.0.0.0:443", move |stream| {
        let (to_server, at_end) = (Rc::clone(&way), Rc::clone(&way));
        stream.on_open(move |stream| {
            let client = stream.id;
            let (of_server, end) = (Rc::clone(&way), Rc::clone(&way));
            let passed = Rc::clone(&passed);
            let connecting = stream
                .reactor
                .connect_stream("localhost:444", move |server| {
                    server.on_data(move |server, bytes| {
                        of_server
                            .borrow_mut()
                            .as_mut()
                            .unwrap()
                            .waiting
                            .extend(bytes);
                        pass(server.reactor, &of_server);
                        passed.set(of_server.borrow().as_ref().unwrap().passed);
                    });
                    server.on_end(move |server| {
                        let way = end.borrow();
                        server.reactor.close(way.as_ref().unwrap().client);
                        server.close()
                    });
                });
            *way.borrow_mut() = Some(Way {
                fault,
                client,
                server: connecting.unwrap(),
                passed: 0,
                is_waiting: false,
                waiting: VecDeque::new(),
            });
        });
        stream.on_data(move |stream, bytes| {
            let server = to_server.borrow().as_ref().unwrap().server;
            stream.reactor.send(server, bytes);
        });
        stream.on_end(move |stream| {
            let server = at_end.borrow().as_ref().unwrap().server;
            stream.reactor.close(server);
            stream.close()
        });
    });
    listening.unwrap();
}

/// A conversation of a WebSocket over TLS with this fault: what the client gets, and how many bytes of the server
/// have passed.
fn converse(version: &'static SupportedProtocolVersion, fault: Fault) -> (Log, usize) {
    let passed = Rc::new(Cell::new(0));
    let mut sim = Sim::new(Log::new(), |reactor: &mut Reactor<Log>| {
        let options = ListenOptions::new("0.0.0.0:444").tls(server_tls("server"));
        let listening =
            reactor.websocket(options, |ws| ws.on_message(|ws, message| ws.send(message)));
        listening.unwrap();
        network(reactor, fault, &passed);
    });
    let tls = ClientTls::new(client_config(&[version]));
    let connecting = sim.reactor().connect_websocket("wss://localhost/", |ws| {
        ws.transport(ClientTransport::default().tls(tls));
        ws.on_open(|ws, _| {
            ws.state.push("open".into());
            ws.send("hello");
        });
        ws.on_message(|ws, message| {
            ws.state.push(message.to_string());
            ws.close();
        });
        ws.on_close(|ws, close| ws.state.push(format!("closed: {}", close.cause)));
    });
    connecting.unwrap();
    sim.advance(Duration::from_secs(120));
    assert_eq!(sim.reactor().connection_count(), 0, "{version:?} {fault:?}");
    (std::mem::take(sim.state()), passed.get())
}

const WHOLE: [&str; 3] = ["open", "hello", "closed: closed by us"];

#[test]
fn a_server_whose_bytes_come_one_by_one_is_heard() {
    for version in VERSIONS {
        for bytes in [1, 2, 3, 5, 7, 100, 1000] {
            let (log, _) = converse(version, Fault::Pieces(bytes));
            assert_eq!(log, WHOLE, "{version:?}: pieces of {bytes} bytes");
        }
    }
}

#[test]
fn a_server_that_is_cut_at_any_byte_ends_the_client_once() {
    for version in VERSIONS {
        let (log, count) = converse(version, Fault::None);
        assert_eq!(log, WHOLE, "{version:?}");
        for place in 0..count {
            let (log, passed) = converse(version, Fault::Cut(place));
            let context = format!("{version:?}: byte {place}: {log:?}");
            assert!(passed <= place, "{context}");
            let (end, before) = log.split_last().unwrap();
            assert!(end.starts_with("closed: "), "{context}");
            assert!(before == &WHOLE[..before.len()], "{context}");
        }
    }
}
