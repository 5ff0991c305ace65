//! The loop: timers, ticks, other threads, panics, connections and their deadlines, on the
//! invented clock of a simulation. The few tests that need a real event loop say why.

#[path = "support/log_lines.rs"]
mod log_lines;

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use waterwheel::{
    Address, Config, ConnId, EventLoop, Peer, Reactor, ReactorEnded, Received, Sent, Sim,
    SimSocket, TimerId,
};

const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

type Log = Vec<String>;

// ── run, stop, timers, ticks ─────────────────────────────────────────────────────────────────

// Not in a simulation, since `Sim` has no `run`.
#[test]
fn run_ends_at_stop_and_returns_the_state() {
    let state = Reactor::run(Vec::new(), |reactor| {
        reactor.after(millis(1), |cx| {
            cx.state.push("timer");
            cx.reactor.stop();
        });
        reactor.next_tick(|cx| cx.state.push("tick"));
    });
    assert_eq!(state.unwrap(), ["tick", "timer"]);
}

#[test]
fn a_setup_that_fails_ends_run_before_anything_ran() {
    let ran = Rc::new(RefCell::new(false));
    let seen = Rc::clone(&ran);
    let outcome = Reactor::run((), |reactor| -> io::Result<()> {
        reactor.next_tick(move |_| *seen.borrow_mut() = true);
        Err(io::Error::other("no"))
    });
    assert_eq!(outcome.unwrap_err().to_string(), "no");
    assert!(!*ran.borrow());
}

#[test]
fn messages_already_received_are_not_delivered_after_a_stop() {
    for kind in ["short", "long"] {
        let mut sim = Sim::new(Log::new(), |reactor: &mut Reactor<Log>| {
            reactor.websocket("0.0.0.0:80", |ws| {
                ws.on_message(|ws, message| {
                    ws.state.push(message.to_string()[..4].to_owned());
                    ws.reactor.stop();
                });
                ws.on_close(|ws, _| ws.state.push("close".into()));
            })
        });
        let clients = [(); 2].map(|()| sim.websocket("/"));
        let message = if kind == "short" {
            "stop".to_owned()
        } else {
            "stop".repeat(100)
        };
        for client in &clients {
            for _ in 0..3 {
                client.send(&message);
            }
        }
        sim.settle();
        assert_eq!(*sim.state(), ["stop", "close", "close"], "{kind}");
    }
}

#[test]
fn after_a_stop_only_on_close_is_called() {
    type Setup = fn(&mut Reactor<Log>) -> io::Result<()>;
    let on_streams: Setup = |reactor| {
        reactor.stream("0.0.0.0:80", |stream| {
            stream.on_data(|stream, _| {
                stream.state.push("data".into());
                stream.reactor.stop();
            });
            stream.on_end(|stream| stream.state.push("end".into()));
            stream.on_close(|stream, _| stream.state.push("close".into()));
        })?;
        Ok(())
    };
    let on_accepting: Setup = |reactor| {
        reactor.stream("0.0.0.0:80", |stream| {
            stream.on_open(|stream| {
                stream.state.push("open".into());
                stream.reactor.stop();
            });
            stream.on_data(|stream, _| stream.state.push("data".into()));
            stream.on_close(|stream, _| stream.state.push("close".into()));
        })?;
        Ok(())
    };
    let on_guard: Setup = |reactor| {
        reactor.http("0.0.0.0:80", |router| {
            router.guard(|request| {
                request.state.push("guard".into());
                request.reactor.stop();
                Ok(())
            });
            router.get("/", |request| request.state.push("route".into()));
            router.websocket("/ws", |ws| ws.on_open(|ws, _| ws.state.push("open".into())));
        })?;
        Ok(())
    };
    let on_upgrade: Setup = |reactor| {
        reactor.websocket("0.0.0.0:80", |ws| {
            ws.before_open(|request| {
                request.state.push("before".into());
                request.reactor.stop();
                Ok(())
            });
            ws.on_open(|ws, _| ws.state.push("open".into()));
        })?;
        Ok(())
    };
    let get = "GET / HTTP/1.1\r\nHost: h\r\n\r\n".to_owned();
    let upgrade = "GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    // More bytes than one read takes, so that the stop comes in the middle of reading.
    let much = "x".repeat(1024 * 1024);
    let cases: [(Setup, &str, &[&str]); 7] = [
        (on_streams, "x", &["data", "close", "close"]),
        (on_streams, &much, &["data", "close", "close"]),
        // The second client is still in the backlog.
        (on_accepting, "x", &["open", "close"]),
        (on_guard, &get.repeat(3), &["guard"]),
        (on_guard, &get.repeat(30_000), &["guard"]),
        (on_guard, upgrade, &["guard"]),
        (on_upgrade, upgrade, &["before"]),
    ];
    for (setup, said, expected) in cases {
        let mut sim = Sim::new(Log::new(), setup);
        sim.socket_bytes(2 * 1024 * 1024);
        let clients = [(); 2].map(|()| sim.dial());
        for client in &clients {
            client.write(said);
            client.finish();
        }
        sim.settle();
        assert!(!sim.is_running());
        assert_eq!(*sim.state(), expected, "{:.40}", said);
    }
}

#[test]
fn a_stop_comes_before_due_ticks_timers_and_calls() {
    let mut sim = Sim::new(Log::new(), |reactor: &mut Reactor<Log>| {
        let remote = reactor.remote();
        remote
            .run(|cx| {
                cx.state.push("call".into());
                cx.reactor.stop();
            })
            .unwrap();
        remote.run(|cx| cx.state.push("call".into())).unwrap();
        reactor.next_tick(|cx| cx.state.push("tick".into()));
        reactor.after(Duration::ZERO, |cx| cx.state.push("timer".into()));
        reactor.every(millis(1), |cx| cx.state.push("period".into()));
    });
    sim.advance(secs(1));
    assert_eq!(*sim.state(), ["call"]);

    let mut sim = Sim::new(Log::new(), |reactor: &mut Reactor<Log>| {
        reactor.next_tick(|cx| cx.state.push("tick".into()));
        reactor.stop();
    });
    sim.advance(secs(1));
    assert!(sim.state().is_empty());
}

#[test]
fn connecting_or_listening_after_a_stop_is_an_error() {
    let mut sim = Sim::new(Log::new(), |reactor: &mut Reactor<Log>| {
        reactor.stream("0.0.0.0:80", |stream| {
            stream.on_close(|stream, _| {
                let again = stream.reactor.connect_stream("127.0.0.1:80", |_| ());
                stream.state.push(again.unwrap_err().to_string());
                let again = stream.reactor.websocket("127.0.0.1:81", |_| ());
                stream.state.push(again.unwrap_err().to_string());
            });
        })
    });
    let _client = sim.connect();
    sim.reactor().stop();
    sim.settle();
    assert_eq!(
        *sim.state(),
        [
            "cannot connect to 127.0.0.1:80: the reactor has stopped",
            "cannot listen on 127.0.0.1:81: the reactor has stopped"
        ]
    );
}

// A missing Unix socket fails within `connect`, so reconnecting must wait for the next turn.
#[test]
fn reconnecting_in_on_close_does_not_hold_the_turn() {
    fn connect(reactor: &mut Reactor<u32>) {
        let again = reactor.connect_stream("unix:nobody", |stream| {
            stream.on_close(|stream, _| {
                *stream.state += 1;
                connect(stream.reactor);
            });
        });
        again.unwrap();
    }
    let mut event_loop = EventLoop::new(Config::default(), 0).unwrap();
    connect(event_loop.reactor());
    let mut before = 0;
    for _ in 0..3 {
        assert!(event_loop.turn(Some(Duration::ZERO)).unwrap());
        let so_far = *event_loop.state();
        assert!((1..100).contains(&(so_far - before)), "{so_far}");
        before = so_far;
    }
}

#[test]
fn a_stop_ends_the_loop_after_the_current_callback() {
    let mut sim = Sim::new(Log::new(), |reactor: &mut Reactor<Log>| {
        reactor.after(millis(50), |cx| {
            cx.reactor.stop();
            cx.reactor.next_tick(|cx| cx.state.push("tick".into()));
            cx.state.push("stopped".into());
        });
        reactor.after(millis(50), |cx| cx.state.push("second timer".into()));
    });
    sim.advance(millis(49));
    assert!(sim.is_running());
    sim.advance(millis(1));
    assert!(!sim.is_running());
    sim.advance(secs(1));
    assert_eq!(*sim.state(), ["stopped"]);
}

#[test]
fn timers_fire_by_time_and_then_in_the_order_they_were_set() {
    let mut sim = Sim::new(Log::new(), |reactor: &mut Reactor<Log>| {
        for (name, delay) in [("d", 30), ("a", 10), ("b", 20), ("c", 20)] {
            reactor.after(millis(delay), move |cx| {
                let now = cx.reactor.now().as_millis();
                cx.state.push(format!("{name} at {now}"));
            });
        }
    });
    sim.advance(secs(1));
    assert_eq!(*sim.state(), ["a at 10", "b at 20", "c at 20", "d at 30"]);
}

#[test]
fn a_cancelled_timer_never_fires_and_its_id_is_stale() {
    let mut sim = Sim::new((0, None::<TimerId>), |_| {});
    let once = sim.reactor().after(millis(10), |cx| cx.state.0 += 1);
    let fired = sim.reactor().after(millis(5), |cx| cx.state.0 += 10);
    assert!(sim.reactor().cancel(once));
    assert!(!sim.reactor().cancel(once), "cancelled before");
    sim.advance(secs(1));
    assert_eq!(sim.state().0, 10);
    assert!(!sim.reactor().cancel(fired), "fired before");
    // Another timer may take its place in the table, which the stale id must not reach.
    sim.reactor().after(millis(1), |cx| cx.state.0 += 100);
    assert!(!sim.reactor().cancel(fired));
    assert!(!sim.reactor().cancel(once));
    sim.advance(secs(1));
    assert_eq!(sim.state().0, 110);
}

#[test]
fn a_timer_may_cancel_itself_and_another_that_is_due_as_well() {
    let mut sim = Sim::new((Log::new(), Vec::new()), |_| {});
    let periodic = sim.reactor().every(millis(10), |cx| {
        cx.state.0.push("periodic".into());
        match cx.state.0.len() {
            // The periodic timer is set again before its call, so at 30 ms this one comes second.
            2 => {
                let second = cx
                    .reactor
                    .after(millis(10), |cx| cx.state.0.push("late".into()));
                cx.state.1.push(second);
            }
            3 => {
                for timer in &cx.state.1 {
                    assert!(cx.reactor.cancel(*timer));
                    assert!(!cx.reactor.cancel(*timer));
                }
            }
            _ => {}
        }
    });
    sim.state().1.push(periodic);
    sim.advance(secs(1));
    assert_eq!(sim.state().0, ["periodic"; 3]);
    assert_eq!(sim.reactor().stats().panics, 0);
}

#[test]
fn a_timer_set_by_a_timer_waits_for_the_next_turn() {
    let mut sim = Sim::new(0, |reactor: &mut Reactor<u32>| {
        fn again(cx: &mut waterwheel::Cx<'_, u32>) {
            *cx.state += 1;
            if *cx.state < 5 {
                cx.reactor.after(Duration::ZERO, again);
            }
        }
        reactor.after(Duration::ZERO, again);
        for _ in 0..10 {
            reactor.after(secs(1), |_| {});
        }
    });
    for turn in 1..=5 {
        sim.turn();
        assert_eq!(*sim.state(), turn);
    }
}

#[test]
fn a_periodic_timer_does_not_drift_and_survives_panics() {
    let mut sim = Sim::new(Vec::new(), |reactor: &mut Reactor<Vec<u128>>| {
        reactor.every(millis(10), |cx| {
            cx.state.push(cx.reactor.now().as_micros());
            assert!(cx.state.len() % 3 != 0, "each third call");
        });
    });
    sim.catch_panics(true);
    // Steps that are no multiple of the period.
    while sim.reactor().now() < secs(10) {
        sim.advance(millis(7));
    }
    sim.state().truncate(1000);
    let expected: Vec<u128> = (1..=1000).map(|n| n * 10_000).collect();
    assert_eq!(*sim.state(), expected);
    assert_eq!(sim.reactor().stats().panics, 333);
}

#[test]
fn a_periodic_timer_that_is_late_goes_on_at_the_next_whole_period() {
    let mut sim = Sim::new(Vec::new(), |_: &mut Reactor<Vec<u128>>| {});
    let clock = sim.clock();
    // Its first call, due at 10 ms, takes 65 ms. The calls for 20 to 70 ms become one.
    sim.reactor().every(millis(10), move |cx| {
        cx.state.push(cx.reactor.now().as_millis());
        if cx.state.len() == 1 {
            clock.advance(millis(65));
        }
    });
    sim.advance(millis(120));
    assert_eq!(sim.state()[..4], [10, 75, 80, 90]);
}

// On a real event loop: a simulation stops at every moment at which a timer is due.
#[test]
fn missed_periods_are_skipped() {
    const PERIOD: Duration = millis(2);
    const MISSED: u32 = 50;
    let mut event_loop = EventLoop::new(Config::default(), 0).unwrap();
    event_loop.reactor().every(PERIOD, |cx| *cx.state += 1);
    // The loop is late because nothing turns it.
    let set = Instant::now();
    while set.elapsed() <= PERIOD * (MISSED + 1) {
        thread::yield_now();
    }
    let resumed = Instant::now();
    while event_loop.next_wakeup() == Some(Duration::ZERO) {
        event_loop.turn(Some(Duration::ZERO)).unwrap();
    }
    // No two calls belong to one period, so a slow machine has more calls only in more periods. If
    // missed periods were made up for, at least fifty calls would come at once.
    let begun = 2 + resumed.elapsed().as_nanos() / PERIOD.as_nanos();
    let calls = *event_loop.state();
    assert!((1..=begun).contains(&calls), "{calls} in {begun} periods");
}

#[test]
fn ticks_run_in_order_and_new_ticks_wait_for_the_next_turn() {
    let mut sim = Sim::new(Log::new(), |reactor: &mut Reactor<Log>| {
        for name in ["a", "b", "c"] {
            reactor.next_tick(move |cx| {
                cx.state.push(name.into());
                cx.reactor
                    .next_tick(move |cx| cx.state.push(format!("{name} again")));
            });
        }
    });
    sim.turn();
    assert_eq!(*sim.state(), ["a", "b", "c"]);
    sim.turn();
    assert_eq!(sim.state()[3..], ["a again", "b again", "c again"]);
}

fn requeue_tick(cx: &mut waterwheel::Cx<'_, u64>) {
    *cx.state += 1;
    cx.reactor.next_tick(requeue_tick);
}

#[test]
fn a_tick_that_requeues_itself_does_not_starve_sockets_or_timers() {
    let mut sim = Sim::new(0, |reactor: &mut Reactor<u64>| {
        reactor
            .stream("0.0.0.0:1", |stream| {
                stream.on_data(|stream, bytes| stream.send(bytes))
            })
            .unwrap();
        reactor.after(Duration::ZERO, |cx| *cx.state += 1_000_000);
    });
    let client = sim.connect();
    sim.reactor().next_tick(requeue_tick);
    client.write("hello");
    sim.turn();
    assert_eq!(client.read_text(), "hello");
    sim.turn();
    assert_eq!(*sim.state(), 1_000_002);
}

#[test]
fn a_turn_runs_at_most_its_budget_of_ticks() {
    let config = Config {
        ticks_per_turn: 10,
        ..Config::default()
    };
    let mut sim = Sim::with_config(config, Vec::new(), |reactor: &mut Reactor<Vec<u32>>| {
        for n in 0..25 {
            reactor.next_tick(move |cx| cx.state.push(n));
        }
    });
    for done in [10, 20, 25] {
        sim.turn();
        assert_eq!(sim.state().len(), done);
    }
    assert!(sim.state().is_sorted());
}

// ── other threads ────────────────────────────────────────────────────────────────────────────

#[test]
fn closures_of_other_threads_run_once_and_in_each_threads_order() {
    const THREADS: usize = 8;
    const CALLS: usize = 5000;
    let mut sim = Sim::new(Vec::new(), |_| {});
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let remote = sim.reactor().remote();
            thread::spawn(move || {
                for call in 0..CALLS {
                    let handed = remote.run(move |cx: &mut waterwheel::Cx<'_, Vec<_>>| {
                        cx.state.push((thread, call));
                    });
                    handed.unwrap();
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    sim.settle();
    for thread in 0..THREADS {
        let calls: Vec<usize> = sim
            .state()
            .iter()
            .filter(|(by, _)| *by == thread)
            .map(|(_, call)| *call)
            .collect();
        assert_eq!(calls, (0..CALLS).collect::<Vec<_>>(), "thread {thread}");
    }
    assert_eq!(sim.state().len(), THREADS * CALLS);
}

// On real sockets, since the waker is the kernel's.
#[test]
fn a_remote_wakes_a_loop_that_waits_without_a_timeout() {
    let mut threads = Vec::new();
    let state = Reactor::run(0, |reactor: &mut Reactor<u32>| {
        let remote = reactor.remote();
        threads.push(thread::spawn(move || {
            for _ in 0..1000 {
                remote.run(|cx| *cx.state += 1).unwrap();
            }
            remote.run(|cx| cx.reactor.stop()).unwrap();
        }));
    });
    assert_eq!(state.unwrap(), 1000);
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn a_remote_of_an_ended_reactor_returns_an_error_and_drops_the_closure() {
    let mut remotes = Vec::new();
    Reactor::run((), |reactor| {
        remotes.push(("run", reactor.remote()));
        reactor.stop();
    })
    .unwrap();
    let mut event_loop = EventLoop::new(Config::default(), ()).unwrap();
    remotes.push(("into_state", event_loop.reactor().remote()));
    event_loop.into_state();
    let mut event_loop = EventLoop::new(Config::default(), ()).unwrap();
    remotes.push(("dropped", event_loop.reactor().remote()));
    drop(event_loop);
    let mut sim = Sim::new((), |_| {});
    remotes.push(("simulation", sim.reactor().remote()));
    drop(sim);
    for (name, remote) in remotes {
        let witness = Arc::new(());
        let held = Arc::clone(&witness);
        assert_eq!(remote.run(move |_| drop(held)), Err(ReactorEnded), "{name}");
        assert_eq!(Arc::strong_count(&witness), 1, "{name}");
    }
}

#[test]
fn a_loop_that_has_ended_and_is_kept_refuses_closures_and_drops_those_that_wait() {
    type End = fn(&mut Reactor<()>);
    let ends: [(&str, End); 2] = [
        ("stopped", Reactor::stop),
        ("drained", |reactor| reactor.drain(Duration::ZERO)),
    ];
    for (name, end) in ends {
        let mut sim = Sim::new((), |_| {});
        let remote = sim.reactor().remote();
        let witness = Arc::new(());
        let waits = Arc::clone(&witness);
        sim.reactor().next_tick(move |cx| {
            end(cx.reactor);
            let remote = cx.reactor.remote();
            remote.run(move |_| drop(waits)).unwrap();
        });
        sim.settle();
        assert!(!sim.is_running(), "{name}");
        assert_eq!(Arc::strong_count(&witness), 1, "{name}");
        assert_eq!(remote.run(|_| ()), Err(ReactorEnded), "{name}");
    }
}

type Lines = Rc<RefCell<Vec<String>>>;

/// A loop with three connections, whose callbacks note what they get.
fn loop_with_three_connections(events: &Lines) -> (EventLoop<Lines>, [TcpStream; 3]) {
    let mut event_loop = EventLoop::new(Config::default(), Rc::clone(events)).unwrap();
    let listener = event_loop.reactor().stream("127.0.0.1:0", |stream| {
        stream.on_open(|stream| {
            stream.state.borrow_mut().push("open".into());
            stream.send("last words");
        });
        stream.on_close(|stream, close| {
            stream.state.borrow_mut().push(close.to_string());
            // A loop that ends makes no new connections.
            let again = stream.reactor.connect_stream("127.0.0.1:1", |_| {});
            assert!(again.is_err());
            panic!("in on_close");
        });
    });
    let Some(Address::Inet(address)) = event_loop.reactor().local_addr(listener.unwrap()) else {
        panic!("a listener on TCP has an address");
    };
    let clients = [(); 3].map(|()| TcpStream::connect(address).unwrap());
    while events.borrow().len() < 3 {
        event_loop.turn(None).unwrap();
    }
    (event_loop, clients)
}

#[test]
fn every_open_connection_gets_its_on_close_however_the_loop_ends() {
    type End = fn(EventLoop<Lines>);
    let ends: [(&str, End); 3] = [
        ("dropped", drop),
        ("into_state", |event_loop| drop(event_loop.into_state())),
        ("stopped", |mut event_loop| {
            event_loop.reactor().stop();
            assert!(!event_loop.turn(None).unwrap());
        }),
    ];
    for (name, end) in ends {
        let events = Lines::default();
        let (event_loop, clients) = loop_with_three_connections(&events);
        end(event_loop);
        let open = ["open"; 3].map(str::to_owned);
        let closed = ["closed by us"; 3].map(str::to_owned);
        assert_eq!(*events.borrow(), [open, closed].concat(), "{name}");
        for mut client in clients {
            let mut text = String::new();
            client.read_to_string(&mut text).unwrap();
            assert_eq!(text, "last words", "{name}");
        }
    }
}

#[test]
fn closures_that_never_ran_are_dropped_with_the_reactor() {
    let witness = Arc::new(());
    let held = Arc::clone(&witness);
    let mut sim = Sim::new((), |_| {});
    let remote = sim.reactor().remote();
    remote.run(move |_| drop(held)).unwrap();
    drop(sim);
    assert_eq!(Arc::strong_count(&witness), 1);
}

// ── panics, nesting, order ───────────────────────────────────────────────────────────────────

#[test]
fn a_panic_ends_its_connection_with_1011_and_nothing_else() {
    let mut sim = Sim::new(Log::new(), |reactor: &mut Reactor<Log>| {
        reactor.websocket("0.0.0.0:80", |ws| {
            ws.on_message(|ws, message| {
                assert!(message.as_text() != Some("boom"), "a test panic");
                ws.send(message)
            });
            ws.on_close(|ws, close| ws.state.push(format!("{close}")));
        })
    });
    sim.catch_panics(true);
    let (calm, doomed) = (sim.websocket("/"), sim.websocket("/"));
    doomed.send("boom");
    sim.settle();
    assert_eq!(doomed.take_events(), [Received::Close(1011, String::new())]);
    assert!(doomed.is_closed());
    calm.send("still here");
    sim.settle();
    assert_eq!(calm.received(), ["still here"]);
    assert_eq!(sim.reactor().stats().panics, 1);
    assert_eq!(*sim.state(), ["1011 a callback panicked"]);
}

#[test]
fn no_callback_can_end_the_loop_by_a_panic() {
    let mut sim = Sim::new(Log::new(), |reactor: &mut Reactor<Log>| {
        reactor
            .stream("0.0.0.0:1", |stream| {
                stream.on_data(|_, _| panic!("on_data"));
                stream.on_end(|_| panic!("on_end"));
                stream.on_close(|stream, close| {
                    stream.state.push(format!("{close}"));
                    panic!("on_close");
                });
            })
            .unwrap();
        reactor
            .stream("0.0.0.0:2", |stream| {
                stream.on_open(|_| panic!("on_open"));
                stream.on_close(|stream, close| stream.state.push(format!("{close}")));
            })
            .unwrap();
        reactor.next_tick(|_| panic!("tick"));
        reactor.after(millis(1), |_| panic!("timer"));
        let remote = reactor.remote();
        remote.run(|_| panic!("arrival")).unwrap();
    });
    sim.catch_panics(true);
    sim.advance(millis(1));
    assert_eq!(sim.reactor().stats().panics, 3);
    let data = sim.connect_port(1);
    data.write("x");
    sim.settle();
    assert_eq!(sim.reactor().stats().panics, 5, "on_data and its on_close");
    assert!(data.is_closed());
    let end = sim.connect_port(1);
    end.finish();
    sim.settle();
    assert_eq!(sim.reactor().stats().panics, 7, "on_end and its on_close");
    let open = sim.connect_port(2);
    sim.settle();
    assert!(open.is_closed());
    assert_eq!(sim.reactor().stats().panics, 8);
    assert_eq!(*sim.state(), vec!["a callback panicked"; 3]);
    assert!(sim.is_running());
    drop((data, end, open));
    sim.settle();
    assert_eq!(sim.reactor().connection_count(), 0);
}

// A panic in `on_error` once lost the `on_close` behind it.
#[test]
fn every_on_close_is_called_although_on_error_and_another_on_close_panic() {
    let mut sim = Sim::new(Log::new(), |reactor: &mut Reactor<Log>| {
        reactor.websocket("0.0.0.0:80", |ws| {
            ws.on_open(|ws, _| {
                for name in ["first", "second"] {
                    ws.reactor.on_close(ws.id, move |cx, _| {
                        cx.state.push(name.into());
                        panic!("a registered on_close");
                    });
                }
            });
            ws.on_error(|_, _| panic!("on_error"));
            ws.on_close(|ws, _| {
                ws.state.push("on_close".into());
                panic!("on_close");
            });
        })
    });
    sim.catch_panics(true);
    // A protocol error.
    sim.websocket("/").send_bytes([0xff, 0xff]);
    sim.settle();
    assert_eq!(*sim.state(), ["on_close", "first", "second"]);
    assert_eq!(sim.reactor().stats().panics, 4);
    assert_eq!(sim.reactor().connection_count(), 0);
}

struct PanicsInDrop;

impl Drop for PanicsInDrop {
    fn drop(&mut self) {
        panic!("in a drop");
    }
}

// The captures of callbacks were once dropped where a panic ended the loop.
#[test]
fn a_panic_in_the_drop_of_a_capture_does_not_end_the_loop() {
    let mut sim = Sim::new(None, |reactor: &mut Reactor<Option<TimerId>>| {
        // Callbacks of a client, which go with its connection.
        let captured = PanicsInDrop;
        reactor.connect_stream("sim:1", move |stream| {
            stream.on_close(move |_, _| {
                let _captured = &captured;
            });
        })?;
        // A periodic timer that is cancelled, by itself.
        let captured = PanicsInDrop;
        let timer = reactor.every(millis(1), move |cx| {
            let _captured = &captured;
            let timer = cx.state.take().unwrap();
            assert!(cx.reactor.cancel(timer));
        });
        reactor.next_tick(move |cx| *cx.state = Some(timer));
        // A timer that is cancelled before it is due.
        let captured = PanicsInDrop;
        let timer = reactor.after(secs(1), move |_| drop(captured));
        reactor.next_tick(move |cx| cx.reactor.cancel(timer));
        // Closures that run.
        let captured = PanicsInDrop;
        reactor.next_tick(move |_| drop(captured));
        let captured = PanicsInDrop;
        let _ = reactor.remote().run(move |_| drop(captured));
        io::Result::Ok(())
    });
    sim.catch_panics(true);
    sim.advance(secs(2));
    assert!(sim.is_running());
    assert_eq!(*sim.state(), None, "the periodic timer has run");
    assert_eq!(sim.reactor().connection_count(), 0);
}

#[derive(Default)]
struct Room {
    members: Vec<ConnId>,
    log: Log,
}

#[test]
fn overflow_within_a_broadcast_closes_after_the_callback_has_returned() {
    let mut config = Config::default();
    config.options.queue_high_bytes = 4096;
    config.options.queue_low_bytes = 1024;
    let mut sim = Sim::with_config(config, Room::default(), |reactor: &mut Reactor<Room>| {
        reactor.stream("0.0.0.0:1", |stream| {
            stream.on_open(|stream| stream.state.members.push(stream.id));
            stream.on_data(|stream, _| {
                stream.state.log.push("broadcast begins".into());
                for round in 0..4 {
                    for (n, member) in stream.state.members.iter().enumerate() {
                        let sent = stream.reactor.send(*member, [b'x'; 4096]);
                        stream.state.log.push(format!("{round}: {n} {sent:?}"));
                    }
                }
                stream.state.log.push("broadcast ends".into());
            });
            stream.on_close(|stream, close| {
                let gone = stream.id;
                let n = stream.state.members.iter().position(|id| *id == gone);
                stream.state.log.push(format!("close of {n:?}: {close}"));
            });
        })
    });
    let talker = sim.connect();
    sim.socket_bytes(1024);
    let slow = sim.connect();
    talker.write("go");
    sim.settle();
    let log = &sim.state().log;
    let of_slow: Vec<_> = log.iter().filter(|line| line.contains(": 1 ")).collect();
    assert_eq!(
        of_slow,
        ["0: 1 Queued", "1: 1 Full", "2: 1 Gone", "3: 1 Gone"]
    );
    let ends = log.iter().position(|line| line == "broadcast ends");
    let closes = log.iter().position(|line| line.starts_with("close"));
    assert!(ends.unwrap() < closes.unwrap(), "{log:?}");
    assert_eq!(log.last().unwrap(), "close of Some(1): slow consumer");
    assert!(slow.is_closed());
    assert_eq!(sim.reactor().stats().slow_consumers, 1);
}

#[test]
fn close_reset_and_publish_call_no_callback_before_they_return() {
    let mut sim = Sim::new(Room::default(), |reactor: &mut Reactor<Room>| {
        reactor.websocket("0.0.0.0:80", |ws| {
            ws.on_open(|ws, _| {
                ws.state.members.push(ws.id);
                ws.subscribe("room").unwrap();
            });
            ws.on_message(|ws, _| {
                ws.state.log.push("begins".into());
                ws.publish("room", "news");
                ws.reactor
                    .on_close(ws.state.members[1], |cx, _| cx.state.log.push("own".into()));
                ws.reactor.reset(ws.state.members[1]);
                ws.reactor.next_tick(|cx| cx.state.log.push("tick".into()));
                ws.close();
                ws.state.log.push("ends".into());
            });
            ws.on_close(|ws, _| {
                ws.state.log.push("close begins".into());
                // The callback of one end causes another end.
                ws.reactor.reset(ws.state.members[2]);
                ws.state.log.push("close ends".into());
            });
        })
    });
    let sockets: Vec<SimSocket> = (0..3).map(|_| sim.websocket("/")).collect();
    sockets[0].send("go");
    sim.turn();
    let expected = [
        "begins",
        "ends",
        "close begins",
        "close ends",
        "own",
        "close begins",
        "close ends",
    ];
    assert_eq!(sim.state().log, expected);
    sim.turn();
    assert_eq!(sim.state().log.last().unwrap(), "tick");
}

#[test]
fn a_connection_gets_on_open_data_end_and_on_close_in_order() {
    let mut sim = Sim::new(Log::new(), |reactor: &mut Reactor<Log>| {
        reactor.stream("0.0.0.0:1", |stream| {
            stream.on_open(|stream| stream.state.push("open".into()));
            stream.on_data(|stream, bytes| {
                let text = String::from_utf8_lossy(bytes).into_owned();
                stream.state.push(text)
            });
            stream.on_end(|stream| {
                stream.state.push("end".into());
                stream.close()
            });
            stream.on_close(|stream, close| stream.state.push(format!("close {close}")));
        })
    });
    let client = sim.connect();
    client.write("a");
    sim.settle();
    client.write("b");
    client.finish();
    sim.settle();
    sim.advance(secs(100));
    assert_eq!(
        *sim.state(),
        ["open", "a", "b", "end", "close closed by us"]
    );
}

#[test]
fn dialled_connections_are_accepted_when_the_loop_runs() {
    let mut sim = Sim::new(0, |reactor| {
        reactor.websocket("0.0.0.0:80", |ws| ws.on_open(|ws, _| *ws.state += 1))
    });
    let clients: Vec<_> = (0..100).map(|_| sim.dial()).collect();
    assert_eq!(sim.reactor().connection_count(), 0);
    for client in &clients {
        client.write(
            "GET / HTTP/1.1\r\nHost: sim\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        );
    }
    sim.settle();
    assert_eq!((*sim.state(), sim.reactor().connection_count()), (100, 100));
    for client in &clients {
        assert!(client.read_text().starts_with("HTTP/1.1 101 "));
    }
}

// ── stale ids ────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_stale_id_does_nothing_even_when_its_place_is_reused() {
    let mut sim = Sim::new(Room::default(), |reactor: &mut Reactor<Room>| {
        reactor.websocket("0.0.0.0:80", |ws| {
            ws.on_open(|ws, _| ws.state.members.push(ws.id));
            ws.on_message(|ws, message| ws.send(message));
        })
    });
    sim.websocket("/").vanish();
    sim.settle();
    let alive = sim.websocket("/");
    let (stale, id) = (sim.state().members[0], sim.state().members[1]);
    let places = |id: ConnId| id.to_bits() & 0xffff_ffff;
    assert_eq!(places(stale), places(id), "the place is reused");
    let reactor = sim.reactor();
    assert_eq!(reactor.send(stale, "x"), Sent::Gone);
    assert_eq!(reactor.send_keyed(stale, 1, "x"), Sent::Gone);
    assert_eq!(reactor.send_ping(stale, b""), Sent::Gone);
    assert_eq!(reactor.close(stale), Sent::Gone);
    assert_eq!(reactor.close_with(stale, 4000, "x"), Sent::Gone);
    assert_eq!(reactor.finish_body(stale), Sent::Gone);
    assert_eq!(reactor.subscribe(stale, "t"), Ok(false));
    assert_eq!(reactor.subscribe_pattern(stale, "t*"), Ok(false));
    assert!(!reactor.unsubscribe(stale, "t"));
    assert_eq!(reactor.queued_bytes(stale), 0);
    assert_eq!(reactor.peer(stale), Peer::Unknown);
    assert!(!reactor.is_open(stale));
    reactor.reset(stale);
    reactor.pause(stale);
    reactor.resume(stale);
    reactor.on_close(stale, |cx, _| cx.state.log.push("never".into()));
    assert!(reactor.is_open(id));
    alive.send("hi");
    sim.settle();
    assert_eq!(alive.received(), ["hi"]);
    alive.vanish();
    sim.settle();
    assert!(sim.state().log.is_empty());
}

// ── logs and statistics ──────────────────────────────────────────────────────────────────────

/// Every callback that takes any time is a slow one.
fn every_callback_is_slow() -> Config {
    Config {
        slow_callback: Duration::from_nanos(1),
        ..Config::default()
    }
}

// On a real event loop: in a simulation a callback takes no time.
#[test]
fn a_slow_callback_is_logged_by_name_and_shows_in_the_histogram() {
    log_lines::capture();
    let mut event_loop = EventLoop::new(every_callback_is_slow(), Duration::ZERO).unwrap();
    event_loop.reactor().next_tick(|cx| {
        let began = Instant::now();
        thread::yield_now();
        *cx.state = began.elapsed();
    });
    event_loop.turn(Some(Duration::ZERO)).unwrap();
    let took = *event_loop.state();
    let stats = event_loop.reactor().stats();
    assert!(1 <= stats.slow_callbacks);
    assert!(took <= stats.lag.max(), "{took:?} of {:?}", stats.lag);
    // By the place in the program that has queued it.
    let lines = log_lines::with(&format!("the tick queued at {}:", file!()));
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with("WARN") && line.contains(" took ")),
        "{lines:?}"
    );
}

#[test]
fn a_callback_below_the_limit_is_not_counted_as_slow() {
    let mut sim = Sim::with_config(every_callback_is_slow(), 0, |reactor: &mut Reactor<u32>| {
        reactor.next_tick(|cx| *cx.state += 1);
    });
    sim.settle();
    assert_eq!(*sim.state(), 1);
    assert_eq!(sim.reactor().stats().slow_callbacks, 0);
}

#[test]
fn a_panic_is_logged_with_its_connection_its_route_and_its_event() {
    log_lines::capture();
    let mut sim = Sim::new((), |reactor: &mut Reactor<()>| {
        reactor.http("127.0.0.1:4242", |router| {
            router.get("/well", |request| request.reply("well"));
            router.get("/rooms/:room", |_| -> () { panic!("no {}", "secret") });
            router.websocket("/quiet", |_| ());
            router.websocket("/loud", |ws| {
                ws.on_message(|_, _| panic!("a payload must not be logged: {}", "secret"))
            });
        })
    });
    sim.catch_panics(true);
    sim.websocket("/quiet");
    sim.websocket("/loud").send("secret");
    sim.settle();
    let requests = ["/well", "/rooms/secret"]
        .map(|path| format!("GET {path} HTTP/1.1\r\nHost: sim\r\n\r\n"))
        .concat();
    sim.connect().write(requests);
    sim.settle();
    for what in [
        "http 127.0.0.1:4242 websocket /loud: on_message panicked",
        "http 127.0.0.1:4242 GET /rooms/:room: request panicked",
    ] {
        let lines = log_lines::with(what);
        assert_eq!(lines.len(), 1, "{:?}", log_lines::with("panicked"));
        assert!(lines[0].starts_with("ERROR conn "), "{lines:?}");
        assert!(!lines[0].contains("secret"), "{lines:?}");
    }
}

// On a real event loop: only there the kernel chooses the port, and a callback takes time.
#[test]
fn a_slow_callback_is_logged_with_the_real_port_and_its_route() {
    log_lines::capture();
    let mut event_loop = EventLoop::new(every_callback_is_slow(), ()).unwrap();
    let listener = event_loop.reactor().http("127.0.0.1:0", |router| {
        router.get("/other", |request| request.reply("other"));
        router.get("/slow", |request| request.reply("slow"));
    });
    let Some(Address::Inet(address)) = event_loop.reactor().local_addr(listener.unwrap()) else {
        panic!("it listens")
    };
    let mut client = TcpStream::connect(address).unwrap();
    client
        .write_all(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    while event_loop.reactor().stats().requests == 0 {
        event_loop.turn(None).unwrap();
    }
    let lines = log_lines::with(&format!("http {address} GET /slow: request took"));
    assert_eq!(lines.len(), 1, "{:?}", log_lines::with("took"));
}

// On a real poll, since the timeout is what the kernel is given.
#[test]
fn a_loop_with_nothing_due_has_no_next_wakeup() {
    let mut event_loop = EventLoop::new(Config::default(), ()).unwrap();
    event_loop
        .reactor()
        .websocket("127.0.0.1:0", |ws| {
            ws.on_message(|ws, message| ws.send(message))
        })
        .unwrap();
    event_loop.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(event_loop.next_wakeup(), None);
    let timer = event_loop.reactor().after(secs(60), |_| {});
    let wakeup = event_loop.next_wakeup().unwrap();
    assert!(wakeup <= secs(60));
    assert!(event_loop.reactor().cancel(timer));
    assert_eq!(event_loop.next_wakeup(), None);
    event_loop.reactor().next_tick(|_| {});
    assert_eq!(event_loop.next_wakeup(), Some(Duration::ZERO));
}

#[test]
fn a_simulation_has_every_listener_of_the_setup() {
    let mut sim = Sim::new(Log::new(), |reactor: &mut Reactor<Log>| {
        for name in ["first", "second"] {
            reactor.websocket("127.0.0.1:0", move |ws| {
                ws.on_message(move |ws, message| ws.send(format!("{name}: {message}")));
            })?;
        }
        reactor.stream("unix:/run/third.sock", |stream| {
            stream.on_data(|stream, bytes| stream.send(bytes));
        })?;
        reactor.connect_stream("unix:/run/third.sock", |stream| {
            stream.on_open(|stream| stream.send("over a file"));
            stream.on_data(|stream, bytes| {
                let text = String::from_utf8_lossy(bytes).into_owned();
                stream.state.push(text);
            });
        })?;
        reactor.connect_stream("unix:/run/nobody.sock", |stream| {
            stream.on_close(|stream, close| stream.state.push(close.cause.to_string()));
        })
    });
    sim.settle();
    sim.state().sort();
    assert_eq!(
        *sim.state(),
        ["over a file", "transport failed: connection refused"]
    );
    for (port, name) in [(49_152, "first"), (49_153, "second")] {
        let socket = sim.websocket_port(port, "/");
        socket.send("hi");
        sim.settle();
        assert_eq!(socket.received(), [format!("{name}: hi")]);
    }
}

#[test]
fn a_simulated_listener_reports_its_address() {
    let mut sim = Sim::new((), |_: &mut Reactor<()>| ());
    let mut at = |address: &str| {
        let listener = sim.reactor().stream(address, |_| ()).unwrap();
        sim.reactor().local_addr(listener).unwrap().to_string()
    };
    assert_eq!(at("127.0.0.1:0"), "127.0.0.1:49152");
    assert_eq!(at("127.0.0.1:49153"), "127.0.0.1:49153");
    assert_eq!(at("[::1]:0"), "127.0.0.1:49154");
    assert_eq!(at("unix:/run/w.sock"), "unix:/run/w.sock");
}
