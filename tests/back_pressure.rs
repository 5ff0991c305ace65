//! Back-pressure: messages for a peer that does not read, and the other connections meanwhile.

use std::time::Duration;

use waterwheel::{
    Close, CloseCause, Config, ConnId, Deadline, Faults, Overflow, QUEUED_MESSAGE_BYTES, Reactor,
    Received, Sent, Sim, SimSocket,
};

const HIGH: usize = 20_000;
const LOW: usize = 5_000;

/// The buffer of a slow client's socket: enough for the answer to its handshake and little more.
const SLOW_SOCKET_BYTES: usize = 500;

/// The bytes of one message in its queue, with frame header and overhead.
const MESSAGE_BYTES: usize = 1000;
const COUNTED_BYTES: usize = MESSAGE_BYTES + 4 + QUEUED_MESSAGE_BYTES;

const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[derive(Default)]
struct Room {
    members: Vec<ConnId>,
    drains: Vec<ConnId>,
    closes: Vec<(ConnId, Close)>,
}

/// A server whose clients get publications to "news", and their own messages back.
fn room(overflow: Overflow) -> Sim<Room> {
    Sim::with_config(
        Config::default(),
        Room::default(),
        move |reactor: &mut Reactor<Room>| {
            reactor.websocket("0.0.0.0:80", move |ws| {
                let options = ws.options();
                options.queue_high_bytes = HIGH;
                options.queue_low_bytes = LOW;
                options.overflow = overflow;
                ws.on_open(|ws, _| {
                    ws.state.members.push(ws.id);
                    ws.subscribe("news")
                });
                ws.on_message(|ws, message| ws.send(message));
                ws.on_drain(|ws| ws.state.drains.push(ws.id));
                ws.on_close(|ws, close| ws.state.closes.push((ws.id, close.clone())));
            })
        },
    )
}

/// A member whose socket takes few bytes until it is read, and its id.
fn slow(sim: &mut Sim<Room>) -> (SimSocket, ConnId) {
    sim.socket_bytes(SLOW_SOCKET_BYTES);
    let socket = sim.websocket("/");
    sim.socket_bytes(1024 * 1024);
    (socket, *sim.state().members.last().unwrap())
}

/// The nth message: its number, filled up with spaces.
fn message(n: usize) -> String {
    format!("{n:<MESSAGE_BYTES$}")
}

fn numbers(texts: &[String]) -> Vec<usize> {
    texts
        .iter()
        .map(|text| text.trim_end().parse().unwrap())
        .collect()
}

/// Reads until no more bytes arrive, and the client can send no more.
fn read_all(sim: &mut Sim<Room>, socket: &SimSocket) -> Vec<Received> {
    let mut events = Vec::new();
    loop {
        sim.settle();
        let before = (sim.reactor().stats().sent_bytes, socket.unsent_bytes());
        events.extend(socket.take_events());
        sim.settle();
        if before == (sim.reactor().stats().sent_bytes, socket.unsent_bytes()) {
            events.extend(socket.take_events());
            return events;
        }
    }
}

fn texts(events: &[Received]) -> Vec<String> {
    let text = |event: &Received| match event {
        Received::Text(text) => Some(text.clone()),
        _ => None,
    };
    events.iter().filter_map(text).collect()
}

/// Publishes `count` messages with a turn after each. The most bytes that were queued for `id`.
fn publish(sim: &mut Sim<Room>, id: ConnId, count: usize) -> usize {
    let mut most = 0;
    for n in 0..count {
        sim.reactor().publish("news", message(n));
        most = most.max(sim.reactor().queued_bytes(id));
        sim.settle();
        most = most.max(sim.reactor().queued_bytes(id));
    }
    most
}

// ── the four policies ────────────────────────────────────────────────────────────────────────

// This policy is the default.
#[test]
fn close_ends_a_slow_consumer_with_1013_and_others_lose_nothing() {
    let mut sim = room(Overflow::Close);
    let fast: Vec<SimSocket> = (0..10).map(|_| sim.websocket("/")).collect();
    let (stopped, id) = slow(&mut sim);
    let (mut got, mut most) = (vec![Vec::new(); 10], 0);
    for n in 0..1000 {
        sim.reactor().publish("news", message(n));
        most = most.max(sim.reactor().queued_bytes(id));
        sim.settle();
        for (client, got) in fast.iter().zip(&mut got) {
            got.extend(client.received());
        }
    }
    for got in &got {
        assert_eq!(numbers(got), (0..1000).collect::<Vec<_>>());
    }
    assert!(HIGH < most && most <= HIGH + COUNTED_BYTES, "{most}");
    assert_eq!(sim.reactor().send(id, "x"), Sent::Gone);
    // The partly written message is finished, the others are dropped, and the close frame follows.
    let events = read_all(&mut sim, &stopped);
    assert_eq!(
        events,
        [
            Received::Text(message(0)),
            Received::Close(1013, String::new())
        ]
    );
    assert!(stopped.is_closed());
    let [(closed, close)] = &sim.state().closes[..] else {
        panic!("{:?}", sim.state().closes)
    };
    assert_eq!((*closed, close.code), (id, 1013));
    assert_eq!(close.cause, CloseCause::SlowConsumer);
    assert!(!close.was_clean);
    assert_eq!(sim.reactor().stats().slow_consumers, 1);
}

#[test]
fn close_resets_a_slow_raw_stream() {
    let mut config = Config::default();
    config.options.queue_high_bytes = HIGH;
    let mut sim = Sim::with_config(config, Vec::new(), |reactor: &mut Reactor<Vec<String>>| {
        reactor.stream("0.0.0.0:1", |stream| {
            stream.on_open(|stream| {
                let sent: Vec<Sent> = (0..5).map(|_| stream.send([0; 12_000])).collect();
                stream.state.push(format!("{sent:?}"));
            });
            stream.on_close(|stream, close| stream.state.push(close.to_string()));
        })
    });
    sim.socket_bytes(1000);
    let client = sim.connect();
    assert!(client.is_closed());
    assert!(client.read().is_empty());
    assert_eq!(
        *sim.state(),
        ["[Queued, Queued, Full, Gone, Gone]", "slow consumer"]
    );
    assert_eq!(sim.reactor().connection_count(), 0);
}

#[test]
fn drop_newest_keeps_the_queue_and_counts_refused_messages() {
    let mut sim = room(Overflow::DropNewest);
    let (stopped, id) = slow(&mut sim);
    let sent: Vec<Sent> = (0..100)
        .map(|n| {
            let sent = sim.reactor().send(id, message(n));
            sim.settle();
            sent
        })
        .collect();
    let kept = sent.iter().take_while(|sent| sent.is_queued()).count();
    assert_eq!(kept, HIGH / COUNTED_BYTES + 1);
    assert!(sent[kept..].iter().all(|sent| *sent == Sent::Full));
    assert_eq!(sim.reactor().stats().dropped, (100 - kept) as u64);
    assert!(sim.reactor().queued_bytes(id) <= HIGH + COUNTED_BYTES);
    let events = read_all(&mut sim, &stopped);
    assert_eq!(numbers(&texts(&events)), (0..kept).collect::<Vec<_>>());
    // With its queue sent, the connection takes messages again.
    assert_eq!(sim.state().drains, [id]);
    assert_eq!(sim.reactor().send(id, message(7)), Sent::Queued);
    assert_eq!(texts(&read_all(&mut sim, &stopped)), [message(7)]);
    assert!(sim.state().closes.is_empty());
}

#[test]
fn drop_oldest_keeps_the_newest_and_the_partly_written() {
    let mut sim = room(Overflow::DropOldest);
    let (stopped, id) = slow(&mut sim);
    let most = publish(&mut sim, id, 100);
    assert!(HIGH < most && most <= HIGH + COUNTED_BYTES, "{most}");
    let got = numbers(&texts(&read_all(&mut sim, &stopped)));
    let kept = got.len();
    assert_eq!(got[0], 0, "it was partly written");
    assert_eq!(got[1..], (101 - kept..100).collect::<Vec<_>>());
    assert!(HIGH / COUNTED_BYTES <= kept, "{kept}");
    assert_eq!(sim.reactor().stats().dropped, (100 - kept) as u64);
    assert!(sim.state().closes.is_empty());
}

#[test]
fn latest_per_key_replaces_a_message_in_its_place() {
    let mut sim = room(Overflow::LatestPerKey);
    let (stopped, id) = slow(&mut sim);
    let price =
        |key: u64, version: usize| format!("{:<MESSAGE_BYTES$}", format!("{key}={version}"));
    for version in 0..50 {
        for key in 0..10 {
            let sent = sim.reactor().send_keyed(id, key, price(key, version));
            assert_eq!(sent, Sent::Queued, "key {key} version {version}");
            sim.settle();
            assert!(sim.reactor().queued_bytes(id) <= HIGH + COUNTED_BYTES);
        }
    }
    let texts = texts(&read_all(&mut sim, &stopped));
    let got: Vec<&str> = texts.iter().map(|text| text.trim_end()).collect();
    assert_eq!(got[0], "0=0", "it was partly written");
    for key in 0..10 {
        let is_of_key = |text: &&&str| text.starts_with(&format!("{key}="));
        let last = got.iter().rfind(is_of_key);
        assert_eq!(last, Some(&format!("{key}=49").as_str()));
    }
    let delivered = got.len() as u64;
    assert_eq!(sim.reactor().stats().dropped, 500 - delivered);
    assert!(sim.state().closes.is_empty());
}

#[test]
fn latest_per_key_takes_the_topic_of_a_publication_as_its_key() {
    let mut sim = room(Overflow::LatestPerKey);
    let (stopped, id) = slow(&mut sim);
    sim.reactor().subscribe(id, "weather").unwrap();
    sim.reactor().publish("weather", "old weather");
    for n in 0..100 {
        sim.reactor().publish("news", message(n));
        sim.settle();
    }
    sim.reactor().publish("weather", "new weather");
    let texts = texts(&read_all(&mut sim, &stopped));
    assert_eq!(texts[0], "old weather", "it was partly written");
    assert!(texts.contains(&"new weather".to_owned()));
    assert!(texts.contains(&message(99)));
    assert!(texts.len() < 30, "{}", texts.len());
}

#[test]
fn latest_per_key_drops_superseded_messages_before_the_only_one_of_a_key() {
    const OPEN: u64 = 100;
    for without_key in [false, true] {
        let mut sim = room(Overflow::LatestPerKey);
        let (stopped, id) = slow(&mut sim);
        // Partly written, so no policy acts on it.
        sim.reactor().send(id, message(0));
        sim.settle();
        let fits = HIGH / COUNTED_BYTES + 1;
        sim.reactor().send_keyed(id, OPEN, "quiet");
        while sim.reactor().queued_bytes(id) <= HIGH {
            sim.reactor().send_keyed(id, 0, message(1));
        }
        let others = fits - 3;
        for key in 1..=others {
            match without_key {
                true => sim.reactor().send(id, message(1 + key)),
                false => sim.reactor().send_keyed(id, key as u64, message(1 + key)),
            };
        }
        let texts = texts(&read_all(&mut sim, &stopped));
        assert!(texts.contains(&"quiet".to_owned()), "{without_key}");
        let kept = (1..=others + 1).map(message);
        let kept: Vec<String> = [message(0), "quiet".to_owned()]
            .into_iter()
            .chain(kept)
            .collect();
        assert_eq!(texts, kept, "{without_key}");
    }
}

// A dropped message is counted, and `send` reports it.
#[test]
fn latest_per_key_drops_the_oldest_for_a_message_without_a_key() {
    let mut sim = room(Overflow::LatestPerKey);
    let (stopped, id) = slow(&mut sim);
    for n in 0..100 {
        assert_eq!(sim.reactor().send(id, message(n)), Sent::Queued, "{n}");
        sim.settle();
    }
    let got = numbers(&texts(&read_all(&mut sim, &stopped)));
    assert_eq!(got.last(), Some(&99));
    assert_eq!(sim.reactor().stats().dropped, 100 - got.len() as u64);
}

// The queue stays bounded even if every replacement is larger than what it replaces.
#[test]
fn latest_per_key_is_bounded_when_replacements_are_larger() {
    let mut sim = room(Overflow::LatestPerKey);
    let (stopped, id) = slow(&mut sim);
    sim.reactor().send_keyed(id, 1_000_000, message(0));
    let mut keys = 0;
    while sim.reactor().queued_bytes(id) <= HIGH {
        sim.reactor().send_keyed(id, keys, "small");
        sim.settle();
        keys += 1;
    }
    assert!(200 < keys, "{keys}");
    let large = "x".repeat(15_000);
    for key in 0..keys {
        let sent = sim.reactor().send_keyed(id, key, format!("{key} {large}"));
        assert_eq!(sent, Sent::Queued);
        let queued = sim.reactor().queued_bytes(id);
        assert!(
            queued <= HIGH + 15_000 + COUNTED_BYTES,
            "{queued} after {key}"
        );
    }
    let texts = texts(&read_all(&mut sim, &stopped));
    // The newest message was not the one that was dropped.
    assert!(texts.last().unwrap().starts_with(&format!("{} ", keys - 1)));
}

// A message is never lost silently. Random operations, since a policy may meet a message that is
// partly written.
#[test]
fn every_message_is_delivered_in_order_or_counted_as_dropped() {
    let dropping = [
        Overflow::DropNewest,
        Overflow::DropOldest,
        Overflow::LatestPerKey,
    ];
    for seed in 1..=150u64 {
        let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut below = move |count: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random >> 20) % count
        };
        let overflow = dropping[seed as usize % 3];
        let mut sim = room(overflow);
        let (client, id) = slow(&mut sim);
        sim.faults(
            seed,
            Faults {
                short_reads_percent: 30,
                short_writes_percent: 30,
                refused_writes_percent: 30,
                resets_percent: 0,
            },
        );
        let mut got = Vec::new();
        for n in 1..=300 {
            // The number five stands for a message without a key.
            let key = below(6);
            let text = format!("{key} {n} {}", "x".repeat(below(3000) as usize));
            let sent = match key {
                5 => sim.reactor().send(id, text),
                _ => sim.reactor().send_keyed(id, key, text),
            };
            let is_reported = sent.is_queued() || overflow == Overflow::DropNewest;
            assert!(is_reported, "seed {seed}: {sent:?}");
            match below(4) {
                0 => sim.settle(),
                1 => got.extend(client.received()),
                _ => {}
            }
        }
        got.extend(texts(&read_all(&mut sim, &client)));
        let got: Vec<(usize, usize)> = got
            .iter()
            .map(|text| {
                let mut words = text.split(' ').map(|word| word.parse().unwrap_or(0));
                (words.next().unwrap(), words.next().unwrap())
            })
            .collect();
        let dropped = sim.reactor().stats().dropped;
        assert_eq!(got.len() as u64 + dropped, 300, "seed {seed}, {overflow:?}");
        assert!(0 < dropped, "seed {seed}: the policy was never needed");
        for key in 0..6 {
            let of_key = || got.iter().filter(|(of, _)| *of == key).map(|(_, n)| *n);
            assert!(of_key().is_sorted(), "seed {seed}, {overflow:?}: {got:?}");
        }
        if overflow != Overflow::DropNewest {
            let newest = got.iter().map(|(_, n)| *n).max();
            assert_eq!(newest, Some(300), "seed {seed}, {overflow:?}");
        }
        if overflow != Overflow::LatestPerKey {
            assert!(got.iter().map(|(_, n)| n).is_sorted(), "seed {seed}");
        }
        assert!(sim.state().closes.is_empty(), "seed {seed}");
    }
}

// ── watermarks ───────────────────────────────────────────────────────────────────────────────

#[test]
fn on_drain_is_called_once_when_the_queue_falls_to_the_low_watermark() {
    let mut sim = room(Overflow::DropNewest);
    let (client, id) = slow(&mut sim);
    for round in 1..=3 {
        // A queue that never reached the high watermark calls no on_drain.
        for n in 0..HIGH / COUNTED_BYTES {
            sim.reactor().send(id, message(n));
        }
        sim.settle();
        assert!(sim.reactor().queued_bytes(id) <= HIGH);
        read_all(&mut sim, &client);
        assert_eq!(sim.state().drains.len(), round - 1);
        for n in 0..30 {
            sim.reactor().send(id, message(n));
        }
        sim.settle();
        let (mut drained_at, mut before) = (None, usize::MAX);
        while sim.reactor().queued_bytes(id) != 0 {
            let sent_bytes = sim.reactor().stats().sent_bytes;
            client.take_events();
            sim.settle();
            assert!(sent_bytes < sim.reactor().stats().sent_bytes, "stuck");
            let queued = sim.reactor().queued_bytes(id);
            if drained_at.is_none() && sim.state().drains.len() == round {
                drained_at = Some((before, queued));
            }
            before = queued;
        }
        read_all(&mut sim, &client);
        let (above, below) = drained_at.unwrap();
        assert!(
            LOW < above && below <= LOW,
            "told between {above} and {below}"
        );
        assert_eq!(sim.state().drains, vec![id; round]);
    }
}

// A producer may fill the queue up to the high watermark and go on at `on_drain`.
#[test]
fn a_producer_that_waits_for_on_drain_loses_nothing() {
    const COUNT: usize = 1000;
    fn produce(reactor: &mut Reactor<usize>, next: &mut usize, id: ConnId) {
        while *next < COUNT && reactor.send(id, message(*next)).is_queued() {
            *next += 1;
        }
    }
    let mut sim = Sim::new(0, |reactor: &mut Reactor<usize>| {
        reactor.websocket("0.0.0.0:80", |ws| {
            ws.options().queue_high_bytes = HIGH;
            ws.options().queue_low_bytes = LOW;
            ws.options().overflow = Overflow::DropNewest;
            ws.on_open(|ws, _| {
                // In a tick, because a producer usually does not run within an event of this
                // connection.
                let id = ws.id;
                ws.reactor
                    .next_tick(move |cx| produce(cx.reactor, cx.state, id));
            });
            ws.on_drain(|ws| produce(ws.reactor, ws.state, ws.id));
        })
    });
    sim.socket_bytes(3000);
    let client = sim.websocket("/");
    let mut got = Vec::new();
    while got.len() < COUNT {
        let before = (got.len(), sim.reactor().stats().sent_bytes);
        sim.settle();
        got.extend(client.received());
        sim.settle();
        assert_ne!(
            before,
            (got.len(), sim.reactor().stats().sent_bytes),
            "stuck"
        );
    }
    assert_eq!(numbers(&got), (0..COUNT).collect::<Vec<_>>());
}

#[test]
fn an_empty_queue_takes_a_message_above_the_high_watermark() {
    for overflow in [
        Overflow::Close,
        Overflow::DropNewest,
        Overflow::DropOldest,
        Overflow::LatestPerKey,
    ] {
        let mut sim = room(overflow);
        let (client, id) = slow(&mut sim);
        let long = "x".repeat(10 * HIGH);
        assert_eq!(sim.reactor().send(id, &long), Sent::Queued, "{overflow:?}");
        sim.settle();
        let queued = sim.reactor().queued_bytes(id);
        assert!(
            queued <= long.len() + 10 + QUEUED_MESSAGE_BYTES,
            "{overflow:?}"
        );
        assert_eq!(texts(&read_all(&mut sim, &client)), [long], "{overflow:?}");
        assert_eq!(sim.state().drains, [id], "{overflow:?}");
        assert!(sim.state().closes.is_empty(), "{overflow:?}");
    }
}

#[test]
fn tiny_messages_count_with_their_overhead() {
    let mut sim = room(Overflow::DropNewest);
    let (_client, id) = slow(&mut sim);
    let taken = (0..HIGH)
        .filter(|_| sim.reactor().send(id, "x").is_queued())
        .count();
    // The simulated kernel takes a few messages beside the queue.
    assert!(
        HIGH / (3 + QUEUED_MESSAGE_BYTES) < taken && taken < HIGH,
        "{taken}"
    );
    let queued = sim.reactor().queued_bytes(id);
    assert!(queued <= HIGH + 3 + QUEUED_MESSAGE_BYTES, "{queued}");
}

// Messages that a callback sends to its own connection once kept the first ones, under a policy
// that keeps the last.
#[test]
fn replies_within_one_callback_keep_the_newest() {
    for overflow in [Overflow::DropOldest, Overflow::LatestPerKey] {
        for length in [5, 100] {
            let mut sim = Sim::new(0, move |reactor: &mut Reactor<usize>| {
                reactor.websocket("0.0.0.0:80", move |ws| {
                    ws.options().queue_high_bytes = 1000;
                    ws.options().queue_low_bytes = 500;
                    ws.options().overflow = overflow;
                    ws.on_message(move |ws, _| {
                        for n in 0..5000 {
                            ws.reactor.send_keyed(ws.id, 1, format!("{n:<length$}"));
                            let queued = ws.reactor.queued_bytes(ws.id);
                            *ws.state = queued.max(*ws.state);
                        }
                    });
                })
            });
            sim.socket_bytes(SLOW_SOCKET_BYTES);
            let client = sim.websocket("/");
            client.send("go");
            sim.settle();
            let most = *sim.state();
            let one = length + 4 + QUEUED_MESSAGE_BYTES;
            assert!(most <= 1000 + one, "{overflow:?}: {most} bytes were queued");
            let mut got = Vec::new();
            while got.last() != Some(&4999) {
                let texts = client.received();
                assert!(!texts.is_empty(), "{overflow:?}: ends at {:?}", got.last());
                got.extend(numbers(&texts));
                sim.settle();
            }
            assert!(got.is_sorted(), "{overflow:?}: {got:?}");
            let dropped = sim.reactor().stats().dropped;
            assert_eq!(dropped, (5000 - got.len()) as u64, "{overflow:?}");
        }
    }
}

// A ping is not a message, but it is admitted as one.
#[test]
fn pings_of_the_application_obey_the_high_watermark() {
    for overflow in [
        Overflow::Close,
        Overflow::DropNewest,
        Overflow::DropOldest,
        Overflow::LatestPerKey,
    ] {
        let mut sim = room(overflow);
        let (_stopped, id) = slow(&mut sim);
        let mut refused = 0;
        for _ in 0..10_000 {
            match sim.reactor().send_ping(id, b"0123456789") {
                Sent::Queued => {}
                _ => refused += 1,
            }
            sim.settle();
            let queued = sim.reactor().queued_bytes(id);
            assert!(queued <= HIGH + COUNTED_BYTES, "{overflow:?}: {queued}");
        }
        assert!(9000 < refused, "{overflow:?}: {refused}");
    }
}

#[test]
fn each_policy_holds_before_a_connection_is_made() {
    let closed = CloseCause::SlowConsumer.to_string();
    for (overflow, expected) in [
        (Overflow::Close, closed.as_str()),
        (Overflow::DropNewest, "012"),
        (Overflow::DropOldest, "789"),
        (Overflow::LatestPerKey, "019"),
    ] {
        let mut sim = Sim::new(Vec::new(), |reactor: &mut Reactor<Vec<String>>| {
            reactor.stream("0.0.0.0:1", |stream| {
                stream.on_data(|stream, bytes| {
                    let firsts = bytes.chunks(MESSAGE_BYTES).map(|message| message[0]);
                    let firsts = String::from_utf8(firsts.collect()).unwrap();
                    stream.state.push(firsts);
                });
            })?;
            let id = reactor.connect_stream("sim:1", |stream| {
                stream.options().overflow = overflow;
                stream.options().queue_high_bytes = 2 * (MESSAGE_BYTES + QUEUED_MESSAGE_BYTES);
                stream.on_close(|stream, close| stream.state.push(close.cause.to_string()));
            })?;
            for n in 0..10 {
                // The later ones are all of one key.
                reactor.send_keyed(id, n.min(2), message(n as usize));
            }
            std::io::Result::Ok(())
        });
        sim.settle();
        assert_eq!(sim.state().concat(), expected, "{overflow:?}");
    }
}

// ── reading ──────────────────────────────────────────────────────────────────────────────────

// A client that pipelines into an echo is slowed by back-pressure, not closed.
#[test]
fn an_echo_to_a_client_that_does_not_read_pauses_and_loses_nothing() {
    let mut sim = room(Overflow::Close);
    let (client, id) = slow(&mut sim);
    for n in 0..500 {
        client.send(message(n));
        sim.settle();
        let queued = sim.reactor().queued_bytes(id);
        // The replies within one event are counted when the event has been handled.
        assert!(queued <= HIGH + COUNTED_BYTES + 64 * 1024, "{queued}");
    }
    assert!(
        400 * MESSAGE_BYTES < client.unsent_bytes(),
        "the client is slowed"
    );
    assert!(sim.reactor().stats().messages < 100);
    let mut got = Vec::new();
    while got.len() < 500 {
        let events = texts(&read_all(&mut sim, &client));
        assert!(!events.is_empty(), "stuck at {}", got.len());
        got.extend(events);
    }
    assert_eq!(numbers(&got), (0..500).collect::<Vec<_>>());
    assert!(sim.state().closes.is_empty());
}

// Pongs are never dropped, so reading must stop before they fill the queue.
#[test]
fn a_client_that_pings_without_reading_fills_a_bounded_queue() {
    let mut sim = room(Overflow::DropOldest);
    let (client, id) = slow(&mut sim);
    for _ in 0..20_000 {
        client.ping(&[7; 125]);
    }
    for _ in 0..1000 {
        sim.settle();
        client.ping(b"");
        let queued = sim.reactor().queued_bytes(id);
        assert!(queued <= 2 * HIGH + 64 * 1024 + COUNTED_BYTES, "{queued}");
    }
    let pongs = read_all(&mut sim, &client);
    assert_eq!(
        pongs.len(),
        21_000,
        "all are answered when the client reads"
    );
}

// Messages that a callback sends to its own connection obey the same policy.
#[test]
fn replies_within_one_callback_are_bounded_and_refusals_reported() {
    for overflow in [Overflow::Close, Overflow::DropNewest, Overflow::DropOldest] {
        let mut sim = Sim::new(Vec::new(), move |reactor: &mut Reactor<Vec<Sent>>| {
            reactor.websocket("0.0.0.0:80", move |ws| {
                ws.options().queue_high_bytes = HIGH;
                ws.options().overflow = overflow;
                ws.on_message(|ws, _| {
                    for n in 0..10_000 {
                        let sent = ws.send(message(n));
                        ws.state.push(sent);
                    }
                    assert!(ws.reactor.queued_bytes(ws.id) <= HIGH + 2 * COUNTED_BYTES);
                })
            })
        });
        sim.socket_bytes(SLOW_SOCKET_BYTES);
        let client = sim.websocket("/");
        client.send("go");
        sim.settle();
        let queued = sim.state().iter().filter(|sent| sent.is_queued()).count();
        let dropped = sim.reactor().stats().dropped;
        assert_eq!(sim.reactor().stats().panics, 0, "{overflow:?}");
        match overflow {
            // Each is accepted in the place of an older one, and those are counted.
            Overflow::DropOldest => {
                assert_eq!(queued, 10_000);
                assert!((9_800..10_000).contains(&dropped), "{dropped}");
            }
            _ => {
                assert!(queued < 200, "{overflow:?}: {queued}");
                assert!(sim.state().contains(&Sent::Full), "{overflow:?}");
            }
        }
        let is_closing = sim.state().contains(&Sent::Gone);
        assert_eq!(is_closing, overflow == Overflow::Close, "{overflow:?}");
    }
}

// A slow client loses messages, but a client that still reads must not count as dead.
#[test]
fn a_slow_member_of_a_dropping_route_is_not_closed() {
    let mut sim = room(Overflow::DropOldest);
    let (slow, id) = slow(&mut sim);
    let mut got = Vec::new();
    for n in 0..3600 {
        // The client reads 500 bytes a second, and twice as many are published.
        sim.reactor().publish("news", message(n));
        sim.advance(secs(1));
        for event in slow.take_events() {
            match event {
                Received::Ping(_) => slow.pong(),
                Received::Text(text) => got.push(text),
                other => panic!("{other:?} at {n}"),
            }
        }
    }
    assert!(sim.state().closes.is_empty(), "{:?}", sim.state().closes);
    assert!(sim.reactor().is_open(id));
    let got = numbers(&got);
    assert!(got.is_sorted(), "in order");
    assert!(1000 < got.len() && 3500 < *got.last().unwrap());
}

// A slow member delays no other member, and leaves its topics when its connection closes.
#[test]
fn closing_a_slow_member_removes_it_from_its_topics() {
    let mut sim = room(Overflow::Close);
    let (stopped, id) = slow(&mut sim);
    publish(&mut sim, id, 30);
    assert_eq!(sim.reactor().publish("news", "x").delivered, 0);
    sim.advance(secs(11));
    assert!(stopped.is_closed());
    assert_eq!(sim.reactor().member_count("news"), 0);
    assert_eq!(sim.state().closes.len(), 1);
    assert_eq!(sim.reactor().connection_count(), 0);
}

// A burst within one turn must not make a client that reads a slow consumer.
#[test]
fn a_burst_within_one_turn_closes_no_client_that_reads() {
    const COUNT: usize = 20_000;
    let mut sim = Sim::new((), |reactor| {
        reactor
            .websocket("0.0.0.0:80", |ws| {
                ws.on_open(|ws, _| ws.subscribe("hall"));
                ws.on_message(|ws, message| {
                    for _ in 0..COUNT {
                        ws.publish("hall", message);
                    }
                });
            })
            .unwrap();
    });
    // As much as a kernel takes for a peer that reads.
    sim.socket_bytes(8 * 1024 * 1024);
    let (reader, publisher) = (sim.websocket("/"), sim.websocket("/"));
    publisher.send("x".repeat(50));
    sim.settle();
    assert_eq!(reader.received().len(), COUNT);
    assert_eq!(reader.close_code(), None);
}

// The kernel refuses the replies to the first messages; the rest of the same read is not delivered before
// the client has taken them.
#[test]
fn a_client_that_pipelines_is_paused_and_not_closed() {
    let mut sim = Sim::new((), |reactor: &mut Reactor<()>| {
        reactor.websocket("0.0.0.0:80", |ws| {
            ws.options().queue_high_bytes = 16_000;
            ws.options().queue_low_bytes = 8_000;
            ws.on_message(|ws, _| ws.send("x".repeat(10_000)));
        })
    });
    let client = sim.websocket("/");
    for _ in 0..30 {
        client.send("go");
    }
    let mut count = 0;
    for _ in 0..200 {
        sim.settle();
        count += client.received().len();
    }
    assert_eq!((count, client.is_closed()), (30, false));
}

#[test]
fn empty_messages_do_not_count_for_any_connection() {
    let mut sim = Sim::new(
        Vec::<String>::new(),
        |reactor: &mut Reactor<Vec<String>>| {
            reactor.stream("0.0.0.0:80", |stream| {
                stream.on_data(|stream, bytes| {
                    if bytes == b"empty" {
                        stream.send("");
                    } else {
                        let queued_bytes = stream.reactor.queued_bytes(stream.id);
                        let sent = stream.send("hello");
                        stream.state.push(format!("{queued_bytes} {sent:?}"));
                    }
                });
                stream.on_close(|stream, close| stream.state.push(format!("closed: {close}")));
            })
        },
    );
    let (first, second) = (sim.connect(), sim.connect());
    for _ in 0..17_000 {
        first.write("empty");
        sim.turn();
    }
    second.write("hi");
    sim.settle();
    assert_eq!(*sim.state(), ["0 Queued"]);
}

// The replies over which reading was paused leave at once, without a queue that could fall.
#[test]
fn a_pause_above_the_low_watermark_is_followed_by_on_drain() {
    let mut sim = Sim::new(
        Vec::<String>::new(),
        |reactor: &mut Reactor<Vec<String>>| {
            reactor.websocket("0.0.0.0:80", |ws| {
                ws.options().queue_low_bytes = 1000;
                ws.on_message(|ws, message| {
                    ws.state.push(message.to_string());
                    ws.send("x".repeat(2000));
                    if 1000 < ws.reactor.queued_bytes(ws.id) {
                        ws.reactor.pause(ws.id);
                    }
                });
                ws.on_drain(|ws| {
                    ws.state.push("drain".to_owned());
                    ws.reactor.resume(ws.id);
                });
            })
        },
    );
    let client = sim.websocket("/");
    for text in ["a", "b"] {
        client.send(text);
        sim.settle();
        client.received();
    }
    assert_eq!(*sim.state(), ["a", "drain", "b", "drain"]);
}

// The listener's own policy is to close, and the head of the 101 is corked under it.
#[test]
fn the_policy_of_a_route_holds_for_what_on_open_sends() {
    for overflow in [Overflow::LatestPerKey, Overflow::DropOldest] {
        for size in [600, 700, 800, 860, 910] {
            let mut sim = Sim::new((), move |reactor: &mut Reactor<()>| {
                reactor.http("0.0.0.0:80", move |router| {
                    router.websocket("/", move |ws| {
                        ws.options().overflow = overflow;
                        ws.options().queue_high_bytes = 1000;
                        ws.options().queue_low_bytes = 500;
                        ws.on_open(move |ws, _| {
                            for n in 0..500 {
                                ws.reactor.send_keyed(ws.id, 7, format!("{n:0size$}"));
                            }
                        });
                    });
                })
            });
            let client = sim.websocket("/");
            let mut received = Vec::new();
            for _ in 0..20 {
                sim.settle();
                received.extend(client.received());
            }
            let last = received.last().map(|text| text.trim_start_matches('0'));
            assert_eq!(last, Some("499"), "{overflow:?} {size}");
        }
    }
}

// A policy that dropped the rest of a message would have the client take the next one for it.
#[test]
fn the_rest_of_a_message_that_has_begun_is_never_dropped() {
    for length in [100, 20_000] {
        let mut sim = Sim::new((), move |reactor: &mut Reactor<()>| {
            reactor.websocket("0.0.0.0:80", move |ws| {
                ws.options().overflow = Overflow::DropOldest;
                ws.options().queue_high_bytes = 1000;
                ws.options().queue_low_bytes = 500;
                ws.on_message(move |ws, _| {
                    ws.send("short");
                    ws.send("l".repeat(length));
                    for n in 0..1000 {
                        ws.send(message(n));
                    }
                });
            })
        });
        sim.socket_bytes(64);
        let client = sim.websocket("/");
        client.send("go");
        let mut received = Vec::new();
        for _ in 0..2000 {
            sim.settle();
            received.extend(client.received());
        }
        assert_eq!(received[0], "short");
        assert_eq!(received[1], "l".repeat(length));
        // Behind a begun message that is above the watermark by itself there is no room to make.
        let last = if length < 1000 {
            message(999)
        } else {
            "l".repeat(length)
        };
        assert_eq!(received.last(), Some(&last));
    }
}

/// How long a peer lives that takes this many bytes each time, and whether it then has all.
fn life_of_a_slow_peer(bytes: usize, every: Duration) -> (Duration, bool) {
    const BODY_BYTES: usize = 30_000;
    let mut sim = Sim::new(None, |reactor: &mut Reactor<Option<CloseCause>>| {
        reactor.stream("0.0.0.0:80", |stream| {
            stream.on_open(|stream| {
                stream.send("x".repeat(BODY_BYTES));
            });
            stream.on_close(|stream, close| *stream.state = Some(close.cause));
        })
    });
    sim.socket_bytes(bytes);
    let client = sim.connect();
    let mut taken = 0;
    while sim.state().is_none() && taken < BODY_BYTES {
        sim.advance(every);
        taken += client.read().len();
        sim.settle();
    }
    let timed_out = CloseCause::TimedOut(Deadline::Write);
    let is_alive = sim.state().is_none();
    assert!(is_alive || *sim.state() == Some(timed_out));
    (sim.clock().now(), taken == BODY_BYTES)
}

#[test]
fn a_peer_that_takes_a_byte_now_and_then_is_ended() {
    // It would have lived for ten days.
    let (life, has_all) = life_of_a_slow_peer(1, Duration::from_secs(29));
    assert!(life < Duration::from_secs(90) && !has_all, "{life:?}");
    // Below the minimum of 256 bytes a second, but not by much.
    let (life, has_all) = life_of_a_slow_peer(200, Duration::from_secs(1));
    assert!(Duration::from_secs(60) < life && !has_all, "{life:?}");
    // A slow peer above the minimum gets everything, and one that comes seldom and takes much.
    assert!(life_of_a_slow_peer(300, Duration::from_secs(1)).1);
    assert!(life_of_a_slow_peer(10_000, Duration::from_secs(29)).1);
}
