//! A simulation behaves as the kernel does: readiness is reported once, time passes in callbacks,
//! addresses are checked, and a closed listener is gone.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use waterwheel::{Config, ConnId, Faults, ListenerId, Reactor, Sim};

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

// The four tests below hang, or miss bytes, when the loop forgets what was reported once: a
// simulation does not report it again.

#[test]
fn bytes_above_the_budget_of_a_turn_are_read_in_the_next_ones() {
    let config = Config {
        read_budget_bytes: 1000,
        ..Config::default()
    };
    let mut sim = Sim::with_config(config, 0, |reactor: &mut Reactor<usize>| {
        reactor.stream("0.0.0.0:80", |stream| {
            stream.on_data(|stream, bytes| *stream.state += bytes.len());
            stream.on_end(|stream| *stream.state += 1_000_000);
        })
    });
    sim.socket_bytes(1_000_000);
    let client = sim.connect();
    assert_eq!(client.write(vec![b'x'; 500_000]), 500_000);
    sim.settle();
    assert_eq!(*sim.state(), 500_000);
    assert_eq!(client.write(vec![b'x'; 400_000]), 400_000);
    client.finish();
    sim.settle();
    assert_eq!(*sim.state(), 1_900_000);
}

#[test]
fn clients_above_the_accepts_of_a_turn_are_accepted_in_the_next_ones() {
    let config = Config {
        accepts_per_turn: 3,
        ..Config::default()
    };
    let mut sim = Sim::with_config(config, (), |reactor: &mut Reactor<()>| {
        reactor.stream("0.0.0.0:80", |_| {})
    });
    let clients: Vec<_> = (0..20).map(|_| sim.dial()).collect();
    sim.settle();
    assert_eq!(sim.reactor().connection_count(), clients.len());
}

#[test]
fn bytes_that_came_during_a_pause_are_read_when_reading_resumes() {
    let mut sim = Sim::new(Vec::new(), |reactor: &mut Reactor<Vec<(ConnId, usize)>>| {
        reactor.stream("0.0.0.0:80", |stream| {
            stream.on_open(|stream| {
                let id = stream.id;
                stream.state.push((id, 0));
                stream.reactor.pause(id);
            });
            stream.on_data(|stream, bytes| stream.state[0].1 += bytes.len());
        })
    });
    let client = sim.connect();
    client.write("while it is paused");
    sim.settle();
    let (id, read_bytes) = sim.state()[0];
    assert_eq!(read_bytes, 0);
    sim.reactor().resume(id);
    sim.settle();
    assert_eq!(sim.state()[0].1, 18);
}

#[test]
fn a_reader_that_makes_room_late_gets_everything_in_order() {
    for refused_writes_percent in [0, 50] {
        let mut sim = Sim::new((), |reactor: &mut Reactor<()>| {
            reactor.stream("0.0.0.0:80", |stream| {
                stream.options().queue_high_bytes = 1_000_000;
                stream.on_data(|stream, _| {
                    for number in 0..1000 {
                        stream.send(format!("{number:03}"));
                    }
                });
            })
        });
        sim.socket_bytes(64);
        let client = sim.connect();
        let faults = Faults {
            refused_writes_percent,
            short_writes_percent: refused_writes_percent,
            ..Faults::default()
        };
        client.write("all of it");
        sim.faults(5, faults);
        let mut came = String::new();
        loop {
            sim.settle();
            let more = client.read_text();
            if more.is_empty() {
                break;
            }
            came.push_str(&more);
        }
        let expected: String = (0..1000).map(|number| format!("{number:03}")).collect();
        assert_eq!(came, expected);
    }
}

/// An echo whose every message takes `each`.
fn slow_echo(config: Config, each: Duration) -> Sim<usize> {
    let mut sim = Sim::with_config(config, 0, |_: &mut Reactor<usize>| ());
    let clock = sim.clock();
    let listening = sim.reactor().websocket("0.0.0.0:80", move |ws| {
        ws.on_message(move |ws, message| {
            *ws.state += 1;
            clock.advance(each);
            ws.send(message)
        });
    });
    listening.unwrap();
    sim
}

#[test]
fn a_callback_that_takes_time_is_counted_as_slow_and_delays_the_turn() {
    let mut sim = slow_echo(Config::default(), millis(300));
    let client = sim.websocket("/");
    client.send("one");
    sim.settle();
    assert_eq!(client.received(), ["one"]);
    assert_eq!(sim.reactor().now(), millis(300));
    let stats = sim.reactor().stats();
    assert_eq!(stats.slow_callbacks, 1);
    assert!(millis(300) <= stats.lag.max(), "{:?}", stats.lag);
    // A fast one is neither.
    let mut sim = slow_echo(Config::default(), Duration::ZERO);
    let client = sim.websocket("/");
    client.send("one");
    sim.settle();
    let stats = sim.reactor().stats();
    assert_eq!((stats.slow_callbacks, stats.lag.max()), (0, Duration::ZERO));
}

#[test]
fn a_connection_whose_messages_take_long_has_a_share_of_a_turn() {
    for (each, whole_in_one_turn) in [(Duration::ZERO, true), (millis(10), false)] {
        let config = Config {
            slow_callback: secs(60),
            ..Config::default()
        };
        let mut sim = slow_echo(config, each);
        let client = sim.websocket("/");
        for _ in 0..200 {
            client.send("x");
        }
        sim.turn();
        assert_eq!(*sim.state() == 200, whole_in_one_turn, "{}", sim.state());
        sim.settle();
        assert_eq!((*sim.state(), client.received().len()), (200, 200));
    }
}

#[test]
fn timers_that_a_callback_delays_fire_late_and_time_never_goes_back() {
    let mut sim = Sim::new(Vec::new(), |_: &mut Reactor<Vec<Duration>>| ());
    let clock = sim.clock();
    sim.reactor()
        .after(secs(1), move |_| clock.advance(secs(5)));
    sim.reactor().after(secs(2), |cx| {
        let now = cx.reactor.now();
        cx.state.push(now);
    });
    sim.advance(secs(3));
    assert_eq!(*sim.state(), [secs(6)]);
    assert_eq!(sim.clock().now(), secs(6));
    sim.advance(secs(1));
    assert_eq!(sim.clock().now(), secs(7));
}

#[test]
fn the_longest_time_passes_and_deadlines_hold_after_it() {
    let config = Config {
        head_timeout: secs(10),
        ..Config::default()
    };
    let mut sim = Sim::with_config(config, 0, |reactor: &mut Reactor<u32>| {
        reactor.after(secs(1), |cx| *cx.state += 1);
        reactor.after(Duration::MAX, |cx| *cx.state += 100);
        reactor.websocket("0.0.0.0:80", |ws| {
            ws.options().ping_interval = None;
            ws.on_message(|ws, message| ws.send(message));
        })
    });
    for _ in 0..2 {
        sim.advance(Duration::MAX);
        assert_eq!(*sim.state(), 1);
        let client = sim.websocket("/");
        client.send("still here");
        sim.settle();
        assert_eq!(client.received(), ["still here"]);
    }
}

#[test]
fn a_busy_port_and_a_busy_path_are_refused_with_the_address() {
    use std::io::ErrorKind;

    let mut sim = Sim::new((), |_: &mut Reactor<()>| ());
    let cases = [
        ("127.0.0.1:4000", None),
        ("127.0.0.1:4000", Some(ErrorKind::AddrInUse)),
        ("0.0.0.0:4000", Some(ErrorKind::AddrInUse)),
        ("127.0.0.1:4001", None),
        ("unix:/run/w.sock", None),
        ("unix:/run/w.sock", Some(ErrorKind::AddrInUse)),
        ("unix:/run/other.sock", None),
        ("no address at all", Some(ErrorKind::InvalidInput)),
        (":80", Some(ErrorKind::InvalidInput)),
        ("127.0.0.1:65536", Some(ErrorKind::InvalidInput)),
        ("127.0.0.1:0", None),
        ("127.0.0.1:0", None),
    ];
    for (address, refused) in cases {
        let listening = sim.reactor().stream(address, |_| {});
        let error = listening.err();
        assert_eq!(
            error.as_ref().map(|error| error.kind()),
            refused,
            "{address}"
        );
        if let Some(error) = error {
            assert!(error.to_string().contains(address), "{error}");
        }
    }
}

#[test]
fn the_port_of_a_closed_listener_is_free() {
    let mut sim = Sim::new((), |_: &mut Reactor<()>| ());
    let listener = sim.reactor().stream("127.0.0.1:4000", |_| {}).unwrap();
    assert!(sim.reactor().close_listener(listener));
    assert!(sim.reactor().stream("127.0.0.1:4000", |_| {}).is_ok());
}

#[test]
fn a_port_is_shared_where_the_config_says_so() {
    let config = Config {
        reuse_port: true,
        ..Config::default()
    };
    let mut sim = Sim::with_config(config, (), |_: &mut Reactor<()>| ());
    for _ in 0..2 {
        assert!(sim.reactor().stream("127.0.0.1:4000", |_| {}).is_ok());
    }
}

#[test]
fn a_closed_listener_keeps_its_callbacks_for_its_last_connection_and_no_longer() {
    let held = Rc::new(());
    let captured = Rc::clone(&held);
    let mut sim = Sim::new(0, |_: &mut Reactor<u32>| ());
    let listening = sim.reactor().stream("127.0.0.1:4000", move |stream| {
        let captured = Rc::clone(&captured);
        stream.on_data(move |stream, bytes| {
            let _captured = &captured;
            stream.send(bytes)
        });
        stream.on_close(|stream, _| *stream.state += 1);
    });
    let listener = listening.unwrap();
    let clients = [sim.connect(), sim.connect()];
    assert!(sim.reactor().close_listener(listener));
    assert!(!sim.reactor().close_listener(listener));
    for (gone, client) in clients.iter().enumerate() {
        client.write("echo");
        sim.settle();
        assert_eq!(client.read_text(), "echo");
        assert_eq!(Rc::strong_count(&held), 2, "after {gone} of 2 have gone");
        client.close();
        sim.settle();
    }
    assert_eq!((Rc::strong_count(&held), *sim.state()), (1, 2));
}

#[test]
fn a_listener_closed_before_anybody_came_keeps_nothing() {
    let held = Rc::new(());
    let mut sim = Sim::new((), |_: &mut Reactor<()>| ());
    for _ in 0..2 {
        let captured = Rc::clone(&held);
        let listening = sim.reactor().stream("127.0.0.1:4000", move |stream| {
            stream.on_data(move |_, _| {
                let _captured = &captured;
            });
        });
        let listener = listening.unwrap();
        assert!(sim.reactor().close_listener(listener));
        sim.settle();
        assert_eq!(Rc::strong_count(&held), 1);
    }
}

// A listener closes itself in the callback of its own connection.
#[test]
fn callbacks_are_not_dropped_while_one_of_them_runs() {
    let held = Rc::new(());
    let captured = Rc::clone(&held);
    let mut sim = Sim::new(None, |_: &mut Reactor<Option<ListenerId>>| ());
    let listening = sim.reactor().stream("127.0.0.1:4000", move |stream| {
        stream.on_close(move |stream, _| {
            let listener = stream.state.take().unwrap();
            assert!(stream.reactor.close_listener(listener));
            assert_eq!(Rc::strong_count(&captured), 2);
        });
    });
    *sim.state() = Some(listening.unwrap());
    sim.connect().close();
    sim.settle();
    assert_eq!(Rc::strong_count(&held), 1);
    assert_eq!(sim.reactor().stats().panics, 0);
}

struct PanicsInDrop;

impl Drop for PanicsInDrop {
    fn drop(&mut self) {
        panic!("the drop of what a callback has captured");
    }
}

#[test]
fn a_panic_in_the_drop_of_a_closed_listeners_callbacks_is_counted() {
    let mut sim = Sim::new((), |_: &mut Reactor<()>| ());
    sim.catch_panics(true);
    let listening = sim.reactor().stream("127.0.0.1:4000", |stream| {
        let captured = PanicsInDrop;
        stream.on_data(move |_, _| {
            let _captured = &captured;
        });
    });
    let listener = listening.unwrap();
    assert!(sim.reactor().close_listener(listener));
    sim.settle();
    assert_eq!(sim.reactor().stats().panics, 1);
    assert!(sim.is_running());
}

fn panic_of(call: impl FnOnce()) -> Option<String> {
    let payload = catch_unwind(AssertUnwindSafe(call)).err()?;
    payload
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| payload.downcast_ref::<&str>().map(|text| text.to_string()))
}

// An `assert!` in a callback once failed no test: the loop caught it, and the test went on.
#[test]
fn a_failing_assertion_in_a_callback_fails_the_test() {
    fn program() -> Sim<()> {
        Sim::new((), |reactor| {
            reactor.after(secs(1), |_| assert_eq!(1, 2, "of the timer"));
            reactor.websocket("0.0.0.0:80", |ws| {
                ws.on_message(|_, message| assert_eq!(message.to_string(), "right"));
            })
        })
    }
    let mut sim = program();
    let client = sim.websocket("/");
    client.send("right");
    sim.settle();
    client.send("wrong");
    let said = panic_of(|| sim.settle()).expect("the assertion fails the test");
    assert!(said.contains("\"wrong\""), "{said}");
    // It is handed on once, after the turn was finished.
    assert_eq!(panic_of(|| sim.settle()), None);
    client.take_events();
    assert_eq!(client.close_code(), Some(1011));

    let mut sim = program();
    let said = panic_of(|| sim.advance(secs(2))).expect("the assertion fails the test");
    assert!(said.contains("of the timer"), "{said}");

    let mut sim = program();
    sim.reactor().next_tick(|_| panic!("of a tick"));
    assert_eq!(panic_of(|| sim.turn()), Some("of a tick".to_owned()));
}

#[test]
fn a_simulation_that_catches_panics_goes_on() {
    let mut sim = Sim::new((), |reactor: &mut Reactor<()>| {
        reactor.next_tick(|_| panic!("of a tick"));
    });
    sim.catch_panics(true);
    sim.settle();
    assert_eq!(sim.reactor().stats().panics, 1);
}

#[test]
fn a_simulation_goes_on_after_the_longest_duration() {
    let mut sim = Sim::new((), |reactor| reactor.websocket("0.0.0.0:1", |_| {}));
    sim.advance(Duration::MAX);
    let client = sim.websocket("/");
    sim.advance(Duration::from_secs(1));
    sim.clock().advance(Duration::MAX);
    sim.settle();
    assert!(!client.is_closed());
}

// The reactors once exchanged their connections without a word.
#[test]
fn a_reactor_that_was_swapped_with_another_is_noticed() {
    let mut sims = [(), ()].map(|()| {
        Sim::new((), |reactor: &mut Reactor<()>| {
            reactor.stream("0.0.0.0:1", |_| ())
        })
    });
    let [first, second] = &mut sims;
    std::mem::swap(first.reactor(), second.reactor());
    for sim in [first, second] {
        let said = panic_of(|| sim.turn()).expect("the turn panics");
        assert!(said.contains("swapped with another one"), "{said}");
    }
}
