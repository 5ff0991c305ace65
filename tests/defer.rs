//! Work off the loop: `Reactor::defer` and `Remote::call`, on real threads and in a simulation.

#[path = "support/log_lines.rs"]
mod log_lines;

use std::panic::panic_any;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use waterwheel::{CallError, Config, Cx, DeferError, EventLoop, Reactor, Remote, Sim};

type Log = Vec<String>;

/// A door that is closed at first: operations wait behind it.
#[derive(Clone, Default)]
struct Door(Arc<(Mutex<Passed>, Condvar)>);

#[derive(Default)]
struct Passed {
    is_open: bool,
    waiting_count: usize,
}

impl Door {
    fn pass(&self) {
        let (passed, changed) = &*self.0;
        let mut passed = passed.lock().unwrap();
        passed.waiting_count += 1;
        changed.notify_all();
        drop(changed.wait_while(passed, |passed| !passed.is_open));
    }

    fn open(&self) {
        self.0.0.lock().unwrap().is_open = true;
        self.0.1.notify_all();
    }

    /// Waits until as many threads wait behind the door.
    fn await_waiting(&self, count: usize) {
        let (passed, changed) = &*self.0;
        let passed = passed.lock().unwrap();
        drop(changed.wait_while(passed, |passed| passed.waiting_count < count));
    }
}

fn event_loop<S: 'static>(config: Config, state: S) -> EventLoop<S> {
    EventLoop::new(config, state).unwrap()
}

/// Runs turns until the state is as wanted.
fn turn_until<S: 'static>(event_loop: &mut EventLoop<S>, is_wanted: impl Fn(&S) -> bool) {
    while !is_wanted(event_loop.state()) {
        // A turn runs what has come before it waits.
        event_loop.turn(Some(Duration::from_millis(1))).unwrap();
    }
}

/// Says when it is dropped.
struct Dropped(Sender<()>);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

fn dropped() -> (Dropped, Receiver<()>) {
    let (sender, receiver) = channel();
    (Dropped(sender), receiver)
}

// ── defer, on threads ───────────────────────────────────────────────────────────────────────────

#[test]
fn the_loop_goes_on_while_a_hundred_operations_block_on_four_threads() {
    let door = Door::default();
    let mut event_loop = event_loop(Config::default(), (0, 0));
    let reactor = event_loop.reactor();
    for _ in 0..100 {
        let behind = door.clone();
        reactor
            .defer(move || behind.pass(), |cx, _| cx.state.0 += 1)
            .unwrap();
    }
    door.await_waiting(4);
    for _ in 0..1000 {
        event_loop.reactor().next_tick(|cx| cx.state.1 += 1);
        event_loop.turn(Some(Duration::ZERO)).unwrap();
    }
    assert_eq!(*event_loop.state(), (0, 1000));
    assert_eq!(door.0.0.lock().unwrap().waiting_count, 4, "four threads");
    door.open();
    turn_until(&mut event_loop, |state| state.0 == 100);
    assert_eq!(event_loop.reactor().stats().deferred, 100);
}

#[test]
fn an_operation_above_the_limit_is_refused_until_another_is_done() {
    let config = Config {
        defer_threads_max: 1,
        deferred_max: 3,
        ..Config::default()
    };
    let door = Door::default();
    let mut event_loop = event_loop(config, 0);
    let reactor = event_loop.reactor();
    for _ in 0..3 {
        let behind = door.clone();
        reactor
            .defer(move || behind.pass(), |cx, _| *cx.state += 1)
            .unwrap();
    }
    let (guard, is_dropped) = dropped();
    let refused = reactor.defer(move || drop(guard), |_, _| ());
    assert_eq!(refused, Err(DeferError::TooMany));
    is_dropped.try_recv().unwrap();
    door.open();
    turn_until(&mut event_loop, |count| *count == 3);
    let reactor = event_loop.reactor();
    reactor.defer(|| (), |cx, _| *cx.state += 1).unwrap();
    let stats = reactor.stats();
    assert_eq!((stats.deferred, stats.deferred_refusals), (4, 1));
}

#[test]
fn a_panic_of_an_operation_is_told_to_its_done_and_counted() {
    log_lines::capture();
    let mut event_loop = event_loop(Config::default(), Log::new());
    let operations: [fn() -> u32; 4] = [
        || panic!("plain"),
        || panic!("number {}", 7),
        || panic_any(7),
        || 7,
    ];
    for operation in operations {
        event_loop
            .reactor()
            .defer(operation, move |cx, result| {
                cx.state.push(match result {
                    Ok(value) => value.to_string(),
                    Err(panicked) => panicked.to_string(),
                });
            })
            .unwrap();
        let before = event_loop.state().len();
        turn_until(&mut event_loop, |log| log.len() == before + 1);
    }
    let expected = [
        "the operation panicked: plain",
        "the operation panicked: number 7",
        "the operation panicked: ",
        "7",
    ];
    assert_eq!(*event_loop.state(), expected);
    assert_eq!(event_loop.reactor().stats().panics, 3);
    let lines = log_lines::with("the operation deferred at tests/defer.rs:");
    let numbers = lines
        .iter()
        .filter(|line| line.ends_with(" panicked: number 7"));
    assert_eq!(numbers.count(), 1, "{lines:?}");
}

#[test]
fn closures_that_an_operation_queues_run_before_its_done() {
    let mut event_loop = event_loop(Config::default(), Log::new());
    let remote = event_loop.reactor().remote();
    let queue = move || remote.run(|cx| cx.state.push("queued".into())).unwrap();
    let done = |cx: &mut Cx<'_, Log>, _| cx.state.push("done".into());
    event_loop.reactor().defer(queue, done).unwrap();
    turn_until(&mut event_loop, |log| log.len() == 2);
    assert_eq!(*event_loop.state(), ["queued", "done"]);
}

#[test]
fn one_turn_takes_the_results_of_many_operations() {
    let config = Config {
        dispatch_time_budget: Duration::from_secs(60),
        ..Config::default()
    };
    let mut event_loop = event_loop(config, 0);
    let (ran, has_run) = channel();
    for _ in 0..1000 {
        let ran = ran.clone();
        let operation = move || ran.send(()).unwrap();
        let deferred = event_loop
            .reactor()
            .defer(operation, |cx, _| *cx.state += 1);
        deferred.unwrap();
    }
    for _ in 0..1000 {
        has_run.recv().unwrap();
    }
    // The results of the last operation of each thread may be on their way.
    event_loop.turn(Some(Duration::ZERO)).unwrap();
    assert!(996 <= *event_loop.state());
    turn_until(&mut event_loop, |count| *count == 1000);
}

// ── the end ─────────────────────────────────────────────────────────────────────────────────────

#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Stop,
    Drain,
    Drop,
    IntoState,
}

#[test]
fn an_end_drops_operations_that_have_not_begun_and_waits_for_none() {
    for end in [End::Stop, End::Drain, End::Drop, End::IntoState] {
        let config = Config {
            defer_threads_max: 1,
            ..Config::default()
        };
        let door = Door::default();
        let mut event_loop = event_loop(config, ());
        let reactor = event_loop.reactor();
        let behind = door.clone();
        let (value, value_dropped) = dropped();
        let operation = move || {
            behind.pass();
            value
        };
        let (done, done_dropped) = dropped();
        let running = reactor.defer(operation, move |_, _| {
            drop(done);
            unreachable!("the loop has ended")
        });
        running.unwrap();
        let (waiting, waiting_dropped) = dropped();
        reactor.defer(move || drop(waiting), |_, _| ()).unwrap();
        door.await_waiting(1);
        match end {
            End::Stop => reactor.stop(),
            End::Drain => reactor.drain(Duration::ZERO),
            End::Drop | End::IntoState => (),
        }
        match end {
            End::Stop | End::Drain => {
                while event_loop.turn(None).unwrap() {}
                let refused = event_loop.reactor().defer(|| (), |_, _| ());
                assert_eq!(refused, Err(DeferError::ReactorEnded), "{end:?}");
            }
            End::Drop => drop(event_loop),
            End::IntoState => event_loop.into_state(),
        }
        waiting_dropped.try_recv().unwrap();
        done_dropped.try_recv().unwrap();
        value_dropped.try_recv().unwrap_err();
        door.open();
        value_dropped.recv().unwrap();
    }
}

/// The number of threads of the pools of this process.
#[cfg(target_os = "linux")]
fn worker_count() -> usize {
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    let names = threads.map(|thread| std::fs::read_to_string(thread.unwrap().path().join("comm")));
    // A thread that ends meanwhile has no name.
    names
        .flatten()
        .filter(|name| name.trim() == "waterwheel-work")
        .count()
}

// The threads of other tests come and go, so this runs in a process of its own.
#[cfg(target_os = "linux")]
#[test]
fn the_threads_end_with_the_loop() {
    if std::env::var_os("COUNTS_THREADS").is_none() {
        let name = "the_threads_end_with_the_loop";
        let run = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name])
            .env("COUNTS_THREADS", "1")
            .output()
            .unwrap();
        let output = String::from_utf8_lossy(&run.stdout).into_owned();
        assert!(
            run.status.success() && output.contains("1 passed"),
            "{output}"
        );
        return;
    }
    for _ in 0..10 {
        let mut event_loop = event_loop(Config::default(), 0);
        assert_eq!(worker_count(), 0, "none before the first operation");
        let barrier = Arc::new(Barrier::new(3));
        for _ in 0..3 {
            let barrier = Arc::clone(&barrier);
            let operation = move || {
                barrier.wait();
            };
            let deferred = event_loop
                .reactor()
                .defer(operation, |cx, _| *cx.state += 1);
            deferred.unwrap();
        }
        turn_until(&mut event_loop, |count| *count == 3);
        assert_eq!(worker_count(), 3);
        drop(event_loop);
        while worker_count() != 0 {
            thread::yield_now();
        }
    }
}

// ── defer, in a simulation ──────────────────────────────────────────────────────────────────────

#[test]
fn operations_of_a_simulation_run_in_order_in_the_next_turn() {
    let mut sim = Sim::new(Log::new(), |_: &mut Reactor<Log>| ());
    let test_thread = thread::current().id();
    let remote = sim.reactor().remote();
    for index in 0..3 {
        let remote = remote.clone();
        let operation = move || {
            assert_eq!(thread::current().id(), test_thread);
            remote
                .run(move |cx| cx.state.push(format!("queued {index}")))
                .unwrap();
            index
        };
        let done = |cx: &mut Cx<'_, Log>, result| cx.state.push(format!("{result:?}"));
        sim.reactor().defer(operation, done).unwrap();
    }
    sim.reactor().next_tick(|cx| cx.state.push("tick".into()));
    assert!(sim.state().is_empty());
    sim.turn();
    assert_eq!(*sim.state(), ["Ok(0)", "Ok(1)", "Ok(2)", "tick"]);
    sim.settle();
    assert_eq!(sim.state().len(), 7);
}

#[test]
fn a_panic_of_an_operation_fails_the_test_unless_it_catches_panics() {
    let mut sim = Sim::new(Log::new(), |_: &mut Reactor<Log>| ());
    sim.catch_panics(true);
    let defer = |sim: &mut Sim<Log>| {
        let done = |cx: &mut Cx<'_, Log>, result: Result<(), _>| {
            cx.state.push(format!("{}", result.unwrap_err()));
        };
        sim.reactor().defer(|| panic!("no"), done).unwrap();
    };
    defer(&mut sim);
    sim.settle();
    assert_eq!(*sim.state(), ["the operation panicked: no"]);
    sim.catch_panics(false);
    defer(&mut sim);
    let settled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| sim.settle()));
    assert_eq!(*settled.unwrap_err().downcast::<&str>().unwrap(), "no");
    assert_eq!(sim.state().len(), 2);
}

#[test]
fn a_simulation_refuses_too_many_operations_as_threads_do() {
    let config = Config {
        deferred_max: 1,
        ..Config::default()
    };
    let mut sim = Sim::with_config(config, 0, |_: &mut Reactor<u32>| ());
    let defer = |sim: &mut Sim<u32>| sim.reactor().defer(|| (), |cx, _| *cx.state += 1);
    defer(&mut sim).unwrap();
    assert_eq!(defer(&mut sim), Err(DeferError::TooMany));
    sim.settle();
    defer(&mut sim).unwrap();
    sim.reactor().stop();
    assert_eq!(defer(&mut sim), Err(DeferError::ReactorEnded));
    sim.settle();
    assert_eq!(*sim.state(), 1);
}

// ── Remote::call ────────────────────────────────────────────────────────────────────────────────

fn run_beside(work: impl FnOnce(Remote<u32>) + Send + 'static) -> u32 {
    let mut worker = None;
    let state = Reactor::run(0, |reactor| {
        let remote = reactor.remote();
        worker = Some(thread::spawn(move || {
            work(remote.clone());
            // The work may have stopped the loop.
            let _ = remote.run(|cx| cx.reactor.stop());
        }));
    });
    worker.unwrap().join().unwrap();
    state.unwrap()
}

#[test]
fn calls_of_several_threads_get_their_own_values() {
    let count = run_beside(|remote| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let remote = remote.clone();
                thread::spawn(move || {
                    let mut values = Vec::new();
                    for _ in 0..250 {
                        let call = remote.call(|cx| {
                            *cx.state += 1;
                            *cx.state
                        });
                        values.push(call.wait().unwrap());
                    }
                    values
                })
            })
            .collect();
        let mut all = Vec::new();
        for thread in threads {
            let values = thread.join().unwrap();
            assert!(values.is_sorted());
            all.extend(values);
        }
        all.sort_unstable();
        assert_eq!(all, (1..=1000).collect::<Vec<u32>>());
    });
    assert_eq!(count, 1000);
}

#[test]
fn a_call_that_panics_is_an_error_and_the_loop_goes_on() {
    run_beside(|remote| {
        let call = remote.call(|_| -> u32 { panic!("not this") });
        assert_eq!(call.wait(), Err(CallError::Panicked("not this".into())));
        let panics = remote.call(|cx| cx.reactor.stats().panics);
        assert_eq!(panics.wait(), Ok(1));
    });
}

#[test]
fn a_call_whose_time_is_over_may_be_waited_for_again() {
    let mut event_loop = event_loop(Config::default(), 7);
    let remote = event_loop.reactor().remote();
    let (timed_out, has_timed_out) = channel();
    let waiting = thread::spawn(move || {
        let mut call = remote.call(|cx| *cx.state);
        assert_eq!(call.wait_timeout(Duration::ZERO), Err(CallError::TimedOut));
        timed_out.send(()).unwrap();
        assert_eq!(call.wait_timeout(Duration::MAX), Ok(7));
        assert_eq!(call.wait(), Err(CallError::ReactorEnded));
    });
    has_timed_out.recv().unwrap();
    event_loop.turn(None).unwrap();
    waiting.join().unwrap();
}

#[test]
fn a_call_to_a_loop_that_ends_is_an_error() {
    let mut event_loop = event_loop(Config::default(), ());
    let remote = event_loop.reactor().remote();
    let queued = remote.call(|_| ());
    let ended = thread::spawn(move || queued.wait());
    drop(event_loop);
    assert_eq!(ended.join().unwrap(), Err(CallError::ReactorEnded));
    let late = thread::spawn(move || remote.call(|_| ()).wait());
    assert_eq!(late.join().unwrap(), Err(CallError::ReactorEnded));
}

#[test]
fn the_thread_of_the_loop_does_not_wait_for_itself() {
    let mut sim = Sim::new((), |_: &mut Reactor<()>| ());
    let remote = sim.reactor().remote();
    let mut call = remote.call(|_| 7);
    assert_eq!(
        call.wait_timeout(Duration::MAX),
        Err(CallError::OnLoopThread)
    );
    sim.settle();
    // In a test the value may have come.
    assert_eq!(call.wait(), Ok(7));
    assert_eq!(remote.call(|_| ()).wait(), Err(CallError::OnLoopThread));
}
