//! Bodies that are pulled while the client reads: from an iterator, and from another thread.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;

use waterwheel::{
    BodySender, CloseCause, ConnId, ConnectionOptions, Reactor, Reply, Sent, Sim, Status,
};

use super::{answer, read_all, seconds};
use crate::support::{answers, answers_to};

/// The causes of ends, in their order.
type Ends = Vec<CloseCause>;

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n")
}

/// A server whose `/pieces` answers with this iterator.
fn serve<I>(length_bytes: Option<u64>, pieces: impl Fn() -> I + 'static) -> Sim<Ends>
where
    I: Iterator<Item = io::Result<Vec<u8>>> + 'static,
{
    let mut sim = Sim::new(Ends::new(), |reactor: &mut Reactor<Ends>| {
        reactor.http("0.0.0.0:80", |router| {
            router.get("/pieces", move |request| {
                let id = request.id;
                request
                    .reactor
                    .on_close(id, |cx, close| cx.state.push(close.cause));
                let head = Reply::new(Status::OK).header("X-Kind", "pieces");
                request.send_pieces(head, length_bytes, pieces())
            });
            router.get("/", |request| request.reply("hello"));
        })
    });
    sim.catch_panics(true);
    sim
}

fn hundred() -> impl Iterator<Item = io::Result<Vec<u8>>> {
    (0..100).map(|index| Ok(vec![index; 20_000]))
}

fn hundred_bytes() -> Vec<u8> {
    (0..100).flat_map(|index| [index; 20_000]).collect()
}

#[test]
fn an_iterator_may_use_what_the_callback_of_the_route_holds() {
    let texts = Rc::new(RefCell::new(vec!["one", "two"]));
    let mut sim = Sim::new((), |reactor: &mut Reactor<()>| {
        reactor.http("0.0.0.0:80", |router| {
            router.get("/", move |request| {
                let held = texts.borrow_mut();
                let later = Rc::clone(&texts);
                let pieces = std::iter::from_fn(move || later.borrow_mut().pop().map(Ok));
                request.send_pieces(Reply::new(Status::OK), None, pieces);
                drop(held);
            });
        })
    });
    let client = sim.connect();
    client.write(get("/"));
    assert_eq!(answer(&read_all(&mut sim, &client)).text(), "twoone");
}

#[test]
fn an_iterator_gives_a_whole_body() {
    for length_bytes in [None, Some(2_000_000)] {
        let mut sim = serve(length_bytes, hundred);
        let client = sim.connect();
        // The second request waits for the end of the body.
        client.write(format!("{}{}", get("/pieces"), get("/")));
        let both = answers(&read_all(&mut sim, &client));
        assert!(both[0].is_whole);
        assert_eq!(both[0].body, hundred_bytes());
        assert_eq!(both[0].header("x-kind"), Some("pieces"));
        assert_eq!(both[0].chunks.is_empty(), length_bytes.is_some());
        assert_eq!(both[1].text(), "hello");
        assert!(!client.is_closed());
    }
}

#[test]
fn the_answer_to_a_head_takes_no_piece() {
    let mut sim = serve(None, || {
        std::iter::from_fn(|| -> Option<io::Result<Vec<u8>>> { panic!("a piece for a HEAD") })
    });
    let client = sim.connect();
    client.write(get("/pieces").replace("GET", "HEAD"));
    client.write(get("/"));
    let both = answers_to(&["HEAD", "GET"], &read_all(&mut sim, &client));
    assert_eq!(both[0].body, b"");
    assert_eq!(both[1].text(), "hello");
}

#[test]
fn a_client_of_http_10_gets_the_body_until_the_end() {
    let mut sim = serve(None, hundred);
    let client = sim.connect();
    client.write("GET /pieces HTTP/1.0\r\n\r\n");
    let bytes = read_all(&mut sim, &client);
    assert!(bytes.ends_with(&hundred_bytes()));
    assert!(client.is_closed());
    assert_eq!(sim.state()[..], [CloseCause::Local]);
}

#[test]
fn a_client_that_does_not_read_stops_an_endless_iterator() {
    let taken = Rc::new(Cell::new(0));
    let counted = Rc::clone(&taken);
    let mut sim = serve(None, move || {
        let counted = Rc::clone(&counted);
        std::iter::repeat_with(move || {
            counted.set(counted.get() + 1);
            Ok(vec![b'x'; 10_000])
        })
    });
    let client = sim.connect();
    client.write(get("/pieces"));
    sim.settle();
    let before = taken.get();
    sim.advance(seconds(1));
    assert_eq!(taken.get(), before);
    let low_bytes = ConnectionOptions::default().queue_low_bytes;
    let ids = sim.reactor().gauges().queued_bytes;
    assert!(ids < 2 * low_bytes, "{ids}");
    client.read();
    sim.settle();
    assert!(before < taken.get());
    // The write deadline ends a client that stays silent, and the iterator with it.
    sim.advance(seconds(120));
    assert_eq!(sim.state().len(), 1);
    let count = Rc::strong_count(&taken);
    assert_eq!(count, 2, "the iterator was not dropped");
}

#[test]
fn an_error_or_a_panic_of_the_iterator_cuts_the_body_short() {
    let failing = || {
        hundred().take(3).chain(std::iter::once_with(|| {
            Err(io::Error::other("the disk has gone"))
        }))
    };
    let panicking = || {
        hundred()
            .take(3)
            .chain(std::iter::once_with(|| panic!("by the test")))
    };
    for length_bytes in [None, Some(2_000_000)] {
        let cases = [
            (serve(length_bytes, failing), CloseCause::CallbackError),
            (serve(length_bytes, panicking), CloseCause::Panicked),
        ];
        for (mut sim, cause) in cases {
            let client = sim.connect();
            client.write(format!("{}{}", get("/pieces"), get("/")));
            let answered = answer(&read_all(&mut sim, &client));
            assert!(!answered.is_whole);
            assert!(client.is_closed());
            assert_eq!(sim.state()[..], [cause]);
        }
    }
}

// The end of the connection ends such a body, so a clean end would make the part look whole.
#[test]
fn a_body_until_the_end_that_is_cut_short_ends_with_a_reset() {
    let mut sim = serve(None, || {
        hundred()
            .take(3)
            .chain([Err(io::Error::other("the disk has gone"))])
    });
    let client = sim.connect();
    client.write("GET /pieces HTTP/1.0\r\n\r\n");
    sim.settle();
    assert_eq!(client.read(), b"");
    assert!(client.is_closed());
}

#[test]
fn a_body_that_has_not_its_announced_length_is_cut_short() {
    for length_bytes in [1_999_999, 2_000_001] {
        let mut sim = serve(Some(length_bytes), hundred);
        let client = sim.connect();
        client.write(get("/pieces"));
        assert!(!answer(&read_all(&mut sim, &client)).is_whole);
        assert!(client.is_closed());
        assert_eq!(sim.state().len(), 1);
    }
}

#[test]
fn an_iterator_answers_later_and_once() {
    let mut sim = Sim::new(Vec::new(), |reactor: &mut Reactor<Vec<Sent>>| {
        reactor.http("0.0.0.0:80", |router| {
            router.get("/", |request| {
                let responder = request.reply_later();
                request.reactor.next_tick(move |cx| {
                    for _ in 0..2 {
                        let head = Reply::new(Status::OK);
                        let sent =
                            cx.reactor
                                .send_pieces(responder, head, None, [Ok("a"), Ok("b")]);
                        cx.state.push(sent);
                    }
                });
            });
        })
    });
    let client = sim.connect();
    client.write(get("/"));
    assert_eq!(answer(&read_all(&mut sim, &client)).text(), "ab");
    assert_eq!(sim.state()[..], [Sent::Queued, Sent::Gone]);
}

// ── from another thread ──────────────────────────────────────────────────────────────────────

#[derive(Default)]
struct Senders {
    senders: Vec<BodySender>,
    ids: Vec<ConnId>,
    ends: Ends,
}

fn serve_senders() -> (Sim<Senders>, waterwheel::SimStream) {
    let mut sim = Sim::new(Senders::default(), |reactor: &mut Reactor<Senders>| {
        reactor.http("0.0.0.0:80", |router| {
            router.options().queue_high_bytes = 100_000;
            router.options().queue_low_bytes = 50_000;
            router.get("/sent", |request| {
                let id = request.id;
                request
                    .reactor
                    .on_close(id, |cx, close| cx.state.ends.push(close.cause));
                request.state.ids.push(id);
                let sender = request.body_sender(Reply::new(Status::OK), None);
                request.state.senders.push(sender);
            });
            router.get("/", |request| request.reply("hello"));
        })
    });
    let client = sim.connect();
    client.write(get("/sent"));
    sim.settle();
    (sim, client)
}

#[test]
fn a_thread_sends_a_body() {
    let (mut sim, client) = serve_senders();
    client.write(get("/"));
    let sender = sim.state().senders.remove(0);
    let (told, started) = mpsc::channel();
    let thread = thread::spawn(move || {
        for index in 0..100 {
            assert_eq!(sender.send(vec![index; 20_000]), Sent::Queued);
            let _ = told.send(());
        }
        sender.finish()
    });
    // The thread waits for room from some piece on, which only the client's reading makes.
    started.recv().unwrap();
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"hello") {
        sim.settle();
        bytes.extend(client.read());
        thread::yield_now();
    }
    assert_eq!(thread.join().unwrap(), Sent::Queued);
    let both = answers(&bytes);
    assert_eq!(both[0].body, hundred_bytes());
    assert!(both[0].is_whole && !client.is_closed());
}

#[test]
fn a_sender_without_room_says_so() {
    let (mut sim, client) = serve_senders();
    let sender = sim.state().senders.remove(0);
    let mut sent = 0;
    loop {
        match sender.try_send(&[b'x'; 10_000]) {
            Sent::Queued => sent += 1,
            other => {
                assert_eq!(other, Sent::Full);
                sim.settle();
                if sender.try_send(&[b'x'; 10_000]) == Sent::Full {
                    break;
                }
                sent += 1;
            }
        }
        assert!(sent < 1000, "the queue has no end");
    }
    let mut length = client.read().len();
    sim.settle();
    length += client.read().len();
    assert!(0 < length && sender.try_send(b"more") == Sent::Queued);
    drop(sender);
    sim.settle();
    assert_eq!(sim.state().ends[..], [CloseCause::CallbackError]);
}

#[test]
fn a_sender_learns_that_its_client_is_gone() {
    let (mut sim, client) = serve_senders();
    let sender = sim.state().senders.remove(0);
    let (told, filled) = mpsc::channel();
    let thread = thread::spawn(move || {
        while sender.try_send(&[b'x'; 10_000]) == Sent::Queued {}
        told.send(()).unwrap();
        // Full: this waits until the client is gone.
        while sender.send(vec![b'x'; 10_000]) == Sent::Queued {}
        sender.is_gone() && sender.finish() == Sent::Gone
    });
    filled.recv().unwrap();
    client.reset();
    while !thread.is_finished() {
        sim.settle();
        thread::yield_now();
    }
    assert!(thread.join().unwrap());
    assert_eq!(sim.state().ends.len(), 1);
}

#[test]
fn a_sender_that_is_dropped_cuts_its_body_short() {
    let (mut sim, client) = serve_senders();
    let sender = sim.state().senders.remove(0);
    sender.send("some");
    drop(sender);
    let answered = answer(&read_all(&mut sim, &client));
    assert!(!answered.is_whole);
    assert!(client.is_closed());
    assert_eq!(sim.state().ends[..], [CloseCause::CallbackError]);
}

#[test]
fn the_end_of_the_loop_ends_a_sender() {
    let (mut sim, _client) = serve_senders();
    let sender = sim.state().senders.remove(0);
    assert!(!sender.is_gone());
    drop(sim);
    assert!(sender.is_gone());
    assert_eq!(sender.send("more"), Sent::Gone);
}
