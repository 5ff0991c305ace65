//! Raw streams with an object for each connection, and calls at the end of the loop.

use std::cell::RefCell;
use std::rc::Rc;

use waterwheel::{Close, CloseCause, LengthPrefix, Reactor, Sim, Stream, StreamHandler};

type Calls = Rc<RefCell<Vec<String>>>;

/// Notes what is called, and when it is dropped.
struct Noting {
    name: &'static str,
    calls: Calls,
}

impl Noting {
    fn note(&self, call: &str) {
        let call = format!("{} {call}", self.name);
        self.calls.borrow_mut().push(call);
    }
}

impl StreamHandler<()> for Noting {
    fn on_open(&mut self, _: &mut Stream<'_, ()>) {
        self.note("open");
    }

    fn on_data(&mut self, stream: &mut Stream<'_, ()>, bytes: &[u8]) {
        self.note(&String::from_utf8_lossy(bytes));
        stream.send(bytes);
    }

    fn on_close(&mut self, _: &mut Stream<'_, ()>, close: &Close) {
        self.note(match close.cause {
            CloseCause::Peer => "close by peer",
            CloseCause::Io(_) => "close without a connection",
            _ => "close",
        });
    }
}

impl Drop for Noting {
    fn drop(&mut self) {
        self.note("drop");
    }
}

#[test]
fn each_connection_has_an_object_until_its_end() {
    let calls = Calls::default();
    let kept = Rc::clone(&calls);
    let mut sim = Sim::new((), move |reactor: &mut Reactor<()>| {
        reactor.stream("0.0.0.0:80", |stream| {
            stream.on_data(|_, _| panic!("closures are not called beside objects"));
            stream.each(move |_| Noting {
                name: "server",
                calls: Rc::clone(&kept),
            });
        })
    });
    let client = sim.connect();
    client.write("ping");
    sim.settle();
    assert_eq!(client.read_text(), "ping");
    // The default of `on_end` ends our side too.
    client.close();
    sim.settle();
    let expected = [
        "server open",
        "server ping",
        "server close by peer",
        "server drop",
    ];
    assert_eq!(*calls.borrow(), expected);
}

#[test]
fn an_object_gets_lines_or_frames_where_its_listener_says_so() {
    let calls = Calls::default();
    let kept = Rc::clone(&calls);
    let mut sim = Sim::new((), move |reactor: &mut Reactor<()>| {
        let lines = Rc::clone(&kept);
        reactor.stream("0.0.0.0:80", |stream| {
            stream.lines(8);
            stream.each(move |_| Noting {
                name: "line",
                calls: Rc::clone(&lines),
            });
        })?;
        reactor.stream("0.0.0.0:81", |stream| {
            stream.frames(LengthPrefix::U8, 8);
            stream.handler(Noting {
                name: "frame",
                calls: kept,
            });
        })
    });
    let client = sim.connect_port(80);
    client.write("one\r\ntw");
    sim.settle();
    client.write("o\nthree");
    sim.settle();
    let framed = sim.connect_port(81);
    framed.write(b"\x03abc\x01");
    sim.settle();
    framed.write("d");
    sim.settle();
    let seen = [
        "line open",
        "line one",
        "line two",
        "frame open",
        "frame abc",
        "frame d",
    ];
    assert_eq!(*calls.borrow(), seen);
    // One byte more than a line may have.
    client.write("four\n");
    sim.settle();
    assert_eq!(calls.borrow()[6..], ["line close", "line drop"]);
    assert_eq!(client.read_text(), "onetwo");
    assert!(client.is_closed());
}

#[test]
fn a_connection_that_could_not_be_made_has_an_object_for_its_end() {
    let calls = Calls::default();
    let kept = Rc::clone(&calls);
    let mut sim = Sim::new((), move |reactor: &mut Reactor<()>| {
        reactor.connect_stream("127.0.0.1:1", |stream| {
            stream.each(move |_| Noting {
                name: "client",
                calls: Rc::clone(&kept),
            });
        })
    });
    sim.settle();
    let expected = ["client close without a connection", "client drop"];
    assert_eq!(*calls.borrow(), expected);
}

#[test]
fn calls_at_the_end_come_after_the_last_on_close() {
    let calls = Calls::default();
    let kept = Rc::clone(&calls);
    let mut sim = Sim::new((), move |reactor: &mut Reactor<()>| {
        let noting = Noting {
            name: "loop",
            calls: Rc::clone(&kept),
        };
        reactor.on_end(move |_| noting.note("end"));
        reactor.stream("0.0.0.0:80", |stream| {
            stream.on_close(move |_, _| kept.borrow_mut().push("close".to_owned()));
        })
    });
    let _client = sim.connect();
    sim.settle();
    sim.reactor().stop();
    sim.settle();
    drop(sim);
    assert_eq!(*calls.borrow(), ["close", "loop end", "loop drop"]);
}
