//! Single operations: `cargo bench --bench micro [-- FILTER]`.
//!
//! `-- --sample-count 2 --sample-size 1` runs each only a few times, to check that it works.
//!
//! Private functions are measured through a simulation, with a turn of the loop around each call.
//! The smallest size shows the cost of the turn.

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};

fn main() {
    divan::main();
}

/// Text of this length, with a few characters that are not ASCII.
fn text(bytes: usize) -> String {
    let mut text: String = "so weiß wie Schnee, ".chars().cycle().take(bytes).collect();
    while !text.is_char_boundary(bytes) {
        text.insert(0, 'x');
    }
    text.truncate(bytes);
    text
}

mod frame {
    use super::*;
    use waterwheel::websocket::{Limits, Machine, Message, Role, apply_mask, encode_message};

    const SIZES: [usize; 5] = [20, 125, 512, 16 * 1024, 1024 * 1024];
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

    #[divan::bench(args = SIZES)]
    fn unmask_bytes(bencher: Bencher<'_, '_>, bytes: usize) {
        let mut payload = vec![7; bytes];
        bencher
            .counter(BytesCount::new(bytes))
            .bench_local(|| apply_mask(black_box(&mut payload), black_box(MASK)));
    }

    /// Parsing unmasks in place, so each call gets a new copy of the frame.
    fn parse(bencher: Bencher<'_, '_>, message: Message<'_>) {
        let mut frame = Vec::new();
        encode_message(Some(MASK), message, &mut frame);
        let limits = Limits::default();
        bencher
            .counter(BytesCount::new(message.as_bytes().len()))
            .with_inputs(|| (Machine::new(Role::Server), frame.clone()))
            .bench_local_refs(|(machine, frame)| {
                let mut input = frame.as_mut_slice();
                let event = machine.next_event(&mut input, &limits);
                assert!(matches!(event, Ok(Some(_))) && input.is_empty());
            });
    }

    #[divan::bench(args = SIZES)]
    fn parse_binary_bytes(bencher: Bencher<'_, '_>, bytes: usize) {
        parse(bencher, Message::Binary(&vec![7; bytes]));
    }

    #[divan::bench(args = SIZES)]
    fn parse_text_bytes(bencher: Bencher<'_, '_>, bytes: usize) {
        parse(bencher, Message::Text(&text(bytes)));
    }

    #[divan::bench(args = SIZES)]
    fn encode_bytes(bencher: Bencher<'_, '_>, bytes: usize) {
        let payload = vec![7; bytes];
        let mut out = Vec::new();
        bencher.counter(BytesCount::new(bytes)).bench_local(|| {
            out.clear();
            encode_message(None, black_box(Message::Binary(&payload)), &mut out);
        });
    }
}

mod head {
    use super::*;
    use waterwheel::protocol::http::{HeaderStorage, Limits, parse_request_head};

    const SHORT: &str = "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n";

    const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade\r\n\
        Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: https://example.com\r\n\r\n";

    const BROWSER: &str = "GET /events?topic=news HTTP/1.1\r\nHost: example.com\r\n\
        Connection: keep-alive\r\nsec-ch-ua-platform: \"Linux\"\r\n\
        User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
        Chrome/131.0.0.0 Safari/537.36\r\n\
        sec-ch-ua: \"Chromium\";v=\"131\", \"Not_A Brand\";v=\"24\"\r\nsec-ch-ua-mobile: ?0\r\n\
        Accept: text/event-stream\r\nSec-Fetch-Router: same-origin\r\nSec-Fetch-Mode: cors\r\n\
        Sec-Fetch-Dest: empty\r\nReferer: https://example.com/\r\n\
        Accept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: de-DE,de;q=0.9,en;q=0.8\r\n\
        Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n\r\n";

    #[divan::bench(args = ["short", "upgrade", "browser"])]
    fn parse(bencher: Bencher<'_, '_>, name: &str) {
        let head = match name {
            "short" => SHORT,
            "upgrade" => UPGRADE,
            _ => BROWSER,
        };
        let limits = Limits::default();
        bencher.counter(BytesCount::of_str(head)).bench_local(|| {
            let mut storage = HeaderStorage::new();
            let parsed = parse_request_head(black_box(head).as_bytes(), &mut storage, &limits);
            assert!(matches!(parsed, Ok(Some(parsed)) if parsed.bytes == head.len()));
        });
    }
}

mod form {
    use super::*;
    use waterwheel::protocol::http::form;

    #[divan::bench(args = [
        "name=value",
        "message=so+wei%C3%9F+wie+Schnee%2C+so+rot+wie+Blut&user=maria&room=12&flag=",
    ])]
    fn pairs(bencher: Bencher<'_, '_>, encoded: &str) {
        bencher
            .counter(BytesCount::of_str(encoded))
            .bench_local(|| form::pairs(black_box(encoded)).count());
    }

    #[divan::bench(args = [16, 1024, 64 * 1024])]
    fn decode_component_bytes(bencher: Bencher<'_, '_>, bytes: usize) {
        let encoded = "a+b%20c%C3%9Fdefghijk".repeat(bytes / 21 + 1);
        bencher
            .counter(BytesCount::of_str(&encoded))
            .bench_local(|| form::decode_component(black_box(&encoded)).map(|text| text.len()));
    }
}

mod event_stream {
    use super::*;
    use waterwheel::protocol::event_stream;

    fn encode(bencher: Bencher<'_, '_>, data: &str) {
        let mut out = Vec::new();
        bencher.counter(BytesCount::of_str(data)).bench_local(|| {
            out.clear();
            event_stream::encode(Some("price"), Some("1f:10"), black_box(data), &mut out)
        });
    }

    #[divan::bench(args = [20, 512, 16 * 1024])]
    fn encode_one_line_of_bytes(bencher: Bencher<'_, '_>, bytes: usize) {
        encode(bencher, &text(bytes));
    }

    #[divan::bench(args = [512, 16 * 1024])]
    fn encode_lines_of_32_in_bytes(bencher: Bencher<'_, '_>, bytes: usize) {
        encode(bencher, &format!("{}\n", "x".repeat(31)).repeat(bytes / 32));
    }
}

mod topic {
    use super::*;
    use waterwheel::pubsub::{Limits, Subscriptions, Topics, pattern};

    const NAME: &str = "orders/eu/de/4711/state";

    #[divan::bench(args = [NAME, "orders/*", "orders/*/de/*/state", "*a*b*c*d*", "orders/[a-z]?/*"])]
    fn match_pattern(bencher: Bencher<'_, '_>, glob: &str) {
        bencher.bench_local(|| {
            pattern::matches(black_box(glob).as_bytes(), black_box(NAME.as_bytes()))
        });
    }

    const ONE: Limits = Limits {
        subscriptions_max: 1,
        patterns_max: 1,
        total_max: usize::MAX,
    };

    /// One topic among many, with one member.
    #[divan::bench(args = [1, 1000, 100_000])]
    fn find_among_topics(bencher: Bencher<'_, '_>, count: usize) {
        let mut topics = Topics::new();
        for member in 0..count {
            let mut list = Subscriptions::default();
            let name = format!("orders/{member}");
            let joined = topics.subscribe(member as u64, &mut list, &name, 0, ONE);
            assert_eq!(joined, Ok(true));
        }
        let name = format!("orders/{}", count / 2);
        bencher.bench_local(|| assert_eq!(topics.members(black_box(&name)).count(), 1));
    }

    /// Patterns that do not match the topic.
    #[divan::bench(args = [1, 10, 100])]
    fn find_among_patterns(bencher: Bencher<'_, '_>, count: usize) {
        let mut topics = Topics::new();
        for member in 0..count {
            let mut list = Subscriptions::default();
            let name = format!("orders/*/{member}/*");
            let joined = topics.subscribe_pattern(member as u64, &mut list, &name, 0, ONE);
            assert_eq!(joined, Ok(true));
        }
        bencher.bench_local(|| assert_eq!(topics.members(black_box("orders/eu/de/x")).count(), 0));
    }

    #[divan::bench]
    fn subscribe_and_unsubscribe(bencher: Bencher<'_, '_>) {
        let mut topics = Topics::new();
        let mut others = Subscriptions::default();
        let joined = topics.subscribe(1, &mut others, "news", 0, ONE);
        assert_eq!(joined, Ok(true));
        let mut list = Subscriptions::default();
        bencher.bench_local(|| {
            let joined = topics.subscribe(2, &mut list, black_box("news"), 0, ONE);
            assert_eq!(joined, Ok(true));
            assert!(topics.unsubscribe(2, &mut list, black_box("news")));
        });
    }
}

mod reactor {
    use super::*;
    use std::time::Duration;
    use waterwheel::{Config, Cx, EventLoop, Reactor, Sim};

    /// A request and its answer, by the number of routes. The last route matches.
    #[divan::bench(args = [1, 10, 100])]
    fn request_among_routes(bencher: Bencher<'_, '_>, count: usize) {
        let config = Config {
            requests_per_connection_max: u32::MAX,
            ..Config::default()
        };
        let mut sim = Sim::with_config(config, (), |reactor| {
            reactor.http("0.0.0.0:80", |http| {
                for index in 0..count {
                    http.get(&format!("/shop/part{index}/:id"), |request| {
                        request.reply("yes")
                    });
                }
            })
        });
        let client = sim.connect();
        let path = format!("/shop/part{}/7", count - 1);
        let request = format!("GET {path} HTTP/1.1\r\nHost: example.com\r\n\r\n");
        bencher.bench_local(|| {
            assert_eq!(client.write(&request), request.len());
            sim.settle();
            assert!(client.read().starts_with(b"HTTP/1.1 200 "));
        });
    }

    /// One publication, queued and flushed to all members. The reads of the clients are left out.
    #[divan::bench(args = [1, 100, 1000, 10_000], sample_size = 8)]
    fn publish_to_members(bencher: Bencher<'_, '_>, count: usize) {
        let mut sim = Sim::new((), |reactor| {
            reactor.websocket("0.0.0.0:80", |ws| {
                ws.on_open(|ws, _| ws.subscribe("all"));
            })
        });
        let clients: Vec<_> = (0..count).map(|_| sim.websocket("/")).collect();
        let message = text(64);
        bencher
            .counter(ItemsCount::new(count))
            .with_inputs(|| {
                for client in &clients {
                    client.stream().read();
                }
            })
            .bench_local_values(|()| {
                let published = sim.reactor().publish("all", black_box(&message));
                assert_eq!(published.delivered, count);
                sim.settle();
            });
    }

    const MILLION: u64 = 1_000_000;

    /// A timer fires every microsecond, and is set again for a second later.
    fn set_again(reactor: &mut Reactor<u64>) {
        reactor.after(Duration::from_micros(MILLION), |cx: &mut Cx<'_, u64>| {
            *cx.state += 1;
            set_again(cx.reactor);
        });
    }

    fn a_million_timers() -> Sim<u64> {
        Sim::new(0, |reactor| {
            for index in 1..=MILLION {
                reactor.after(Duration::from_micros(index), |cx: &mut Cx<'_, u64>| {
                    *cx.state += 1;
                    set_again(cx.reactor);
                });
            }
        })
    }

    #[divan::bench]
    fn timer_insert_and_cancel_among_1m(bencher: Bencher<'_, '_>) {
        let mut sim = a_million_timers();
        let mut at = 0;
        bencher.bench_local(|| {
            // At any place in the second, in no order.
            at = (at + 618_033) % MILLION;
            let timer = sim.reactor().after(Duration::from_micros(at), |_| {});
            assert!(sim.reactor().cancel(timer));
        });
    }

    #[divan::bench]
    fn timer_fire_and_insert_among_1m(bencher: Bencher<'_, '_>) {
        let mut sim = a_million_timers();
        bencher.bench_local(|| {
            let fired = *sim.state();
            sim.advance(Duration::from_micros(1));
            assert_eq!(*sim.state(), fired + 1);
        });
    }

    #[divan::bench(max_time = 5)]
    fn timer_insert_1m_and_cancel_all(bencher: Bencher<'_, '_>) {
        let mut sim = Sim::new((), |_| {});
        let mut timers = Vec::with_capacity(MILLION as usize);
        bencher.counter(ItemsCount::new(MILLION)).bench_local(|| {
            for index in 0..MILLION {
                let due = Duration::from_micros(1 + index * 618_033 % MILLION);
                timers.push(sim.reactor().after(due, |_| {}));
            }
            for timer in timers.drain(..) {
                assert!(sim.reactor().cancel(timer));
            }
        });
    }

    /// Operations of nothing on the threads of `defer`, as many at once as are allowed.
    #[divan::bench(max_time = 5)]
    fn defer_100k(bencher: Bencher<'_, '_>) {
        const COUNT: u32 = 100_000;
        fn defer_next(reactor: &mut Reactor<u32>) {
            let done = |cx: &mut Cx<'_, u32>, _| {
                *cx.state -= 1;
                if 1024 <= *cx.state {
                    defer_next(cx.reactor);
                }
            };
            reactor.defer(|| (), done).unwrap();
        }
        let mut event_loop = EventLoop::new(Config::default(), 0).unwrap();
        bencher.counter(ItemsCount::new(COUNT)).bench_local(|| {
            *event_loop.state() = COUNT;
            for _ in 0..1024 {
                defer_next(event_loop.reactor());
            }
            while 0 < *event_loop.state() {
                // The turn of the last result would wait for ever.
                let timeout = Duration::from_millis(1);
                event_loop.turn(Some(timeout)).unwrap();
            }
        });
    }
}
