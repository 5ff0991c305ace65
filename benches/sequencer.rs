//! The lock of the order that the reactors of a group share.
//!
//! `cargo bench --bench sequencer` prints, for 1 to 16 reactors, the time of one publication under the lock, and how
//! many publications two threads make that do nothing else; then how long one page of history holds the lock. `-- HOLD REACTORS` makes 10,000 publications for as many
//! reactors, to be counted by callgrind.
//!
//! The time under the lock is that of the whole call, so it is too long rather than too short: the call also rings
//! the bells and drops what the history evicts. Each time is the least of many rounds, which other programs on the
//! machine disturb less than a mean.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use waterwheel::pubsub::pattern::matches;
use waterwheel::pubsub::{Body, History, Reader, Rules, Scratch, Sequencer, Since};
use waterwheel::{Event, EventId};

/// Publications between two looks into the mailboxes, as many as a reactor takes at once.
const ROUND: u64 = 256;

const MESSAGE_BYTES: usize = 64;

/// The topics of a large hub.
const TOPIC_COUNT: usize = 100_000;

fn sequencer(reactors: usize) -> Arc<Sequencer> {
    let mut history = History::new(1);
    history.keep(Rules::new(), 64 << 20);
    let sequencer = Arc::new(Sequencer::new(reactors, 16 << 20, history));
    for place in 0..reactors {
        sequencer.open(place, Box::new(|| {}));
    }
    sequencer
}

fn body() -> Body {
    let event = Event::message("x".repeat(MESSAGE_BYTES));
    Body::new("news", &event, &mut Scratch::default())
}

/// Publishes a round, in the way of a reactor: each publication has a body of its own. Returns the time of the calls.
fn publish_round(sequencer: &Arc<Sequencer>, place: usize) -> Duration {
    let bodies: Vec<_> = (0..ROUND).map(|_| body()).collect();
    let began = Instant::now();
    publish_all(sequencer, place, bodies);
    began.elapsed()
}

/// A function of its own, so that callgrind can count it.
#[inline(never)]
fn publish_all(sequencer: &Arc<Sequencer>, place: usize, bodies: Vec<Body>) {
    for body in bodies {
        sequencer.publish(place, 0, body, None, None);
    }
}

fn take_all(sequencer: &Sequencer, place: usize) {
    while sequencer.has_post(place) {
        drop(sequencer.take(place));
    }
}

/// The time of one publication, in nanoseconds, when no other thread wants the lock.
fn hold_nanos(reactors: usize, rounds: usize) -> f64 {
    let sequencer = sequencer(reactors);
    let round = |_| {
        let time = publish_round(&sequencer, 0);
        (0..reactors).for_each(|place| take_all(&sequencer, place));
        time
    };
    let least = (0..rounds).map(round).min().unwrap_or_default();
    least.as_nanos() as f64 / ROUND as f64
}

/// The publications of threads that do nothing else, each with a place: how many a second all of them make, and the
/// time of one publication with the wait for the lock, in nanoseconds.
fn rate(threads: usize) -> (f64, f64) {
    let sequencer = sequencer(threads);
    let (start, is_over) = (Barrier::new(threads + 1), AtomicBool::new(false));
    thread::scope(|scope| {
        let publish = |place: usize| {
            let (sequencer, start, is_over) = (&sequencer, &start, &is_over);
            scope.spawn(move || {
                start.wait();
                let (mut count, mut time) = (0, Duration::ZERO);
                while !is_over.load(Ordering::Relaxed) {
                    time += publish_round(sequencer, place);
                    take_all(sequencer, place);
                    count += ROUND;
                }
                (count, time)
            })
        };
        let threads: Vec<_> = (0..threads).map(publish).collect();
        start.wait();
        let began = Instant::now();
        thread::sleep(Duration::from_secs(1));
        is_over.store(true, Ordering::Relaxed);
        let (mut count, mut time) = (0, Duration::ZERO);
        for thread in threads {
            let (its_count, its_time) = thread.join().expect("no panic");
            count += its_count;
            time += its_time;
        }
        let seconds = began.elapsed().as_secs_f64();
        (
            count as f64 / seconds,
            time.as_nanos() as f64 / count as f64,
        )
    })
}

/// Prints how long clients that ask for many topics hold the lock.
fn print_reading() {
    let mut history = History::new(1);
    history.keep(Rules::new(), 256 << 20);
    for number in 0..TOPIC_COUNT {
        history.append(&format!("topic.{number}"), 0, body);
    }
    let least = |call: &mut dyn FnMut()| {
        let round = |_| {
            let began = Instant::now();
            call();
            began.elapsed()
        };
        (0..50).map(round).min().unwrap_or_default().as_nanos() as f64 / 1000.0
    };
    let mut length = 0;
    let step = least(&mut || {
        let topics = black_box(&history).topics_of_step(100);
        let topics = topics.expect("there are as many").map(|it| it.topic);
        length += topics
            .filter(|topic| matches(b"*.x", topic.as_bytes()))
            .count()
            + 1;
    });
    assert_ne!(length, 0);
    let page = |name: &str, is_pattern, number| {
        let epoch = 1;
        let since = Since::Id(EventId::new(epoch, number));
        let reader = Reader::new(&history, [(name.into(), is_pattern)], since, false);
        least(&mut || {
            let mut reader = reader.clone();
            let head = history.head().number;
            let page = history.page(&mut reader, head, 16 << 10, |_, _| true);
            assert!(!page.entries.is_empty());
        })
    };
    println!("one hold, of {TOPIC_COUNT} topics");
    println!("{step:>8.1} us  a step of GET /topics");
    let name = format!("topic.{}", TOPIC_COUNT - 1);
    let head = history.head().number;
    println!(
        "{:>8.1} us  a page for a topic",
        page(&name, false, head - 1)
    );
    println!(
        "{:>8.1} us  a page for a pattern, of one topic",
        page("topic.*", true, head - 1)
    );
    println!(
        "{:>8.1} us  a page for a pattern, of all topics",
        page("topic.*", true, 0)
    );
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [word, reactors] = &words[..]
        && word == "HOLD"
    {
        let reactors = reactors.parse().expect("a number of reactors");
        let sequencer = sequencer(reactors);
        for _ in 0..10_000 / ROUND + 1 {
            publish_round(&sequencer, 0);
            (0..reactors).for_each(|place| take_all(&sequencer, place));
        }
        return;
    }
    println!("reactors   a publication, the lock free");
    for reactors in [1, 2, 4, 8, 16] {
        println!("{reactors:>8} {:>8.0} ns", hold_nanos(reactors, 400));
    }
    println!("threads    publications a second    one, with its wait");
    for threads in [1, 2] {
        let (rate, nanos) = rate(threads);
        println!("{threads:>8} {rate:>22.0} {nanos:>18.0} ns");
    }
    print_reading();
}
