//! Server-Sent Events through the whole reactor, as a browser's `EventSource` would see them.
//!
//! The reader here is small and strict: a line that is no field, or an event that is cut by the end
//! of a chunk, fails the test.

#[path = "support/answer.rs"]
mod support;

use std::time::Duration;

use support::{Answer, answer, answers_to, get, post};
use waterwheel::protocol::event_stream;
use waterwheel::{CloseCause, ConnId, Event, Router, Sent, Sim, SimStream, Status};

#[derive(Default)]
struct Notes {
    streams: Vec<ConnId>,
    lines: Vec<String>,
}

/// The chat of the guide, and streams whose bytes are compared.
fn chat() -> Sim<Notes> {
    Sim::new(Notes::default(), |reactor| {
        reactor.http("0.0.0.0:80", |router: &mut Router<Notes>| {
            router.get("/chat", |request| {
                let id = request.event_stream().subscribe("chat");
                request.state.streams.push(id);
                request.reactor.on_close(id, |cx, close| {
                    cx.state.lines.push(close.cause.to_string());
                });
            });
            router.post("/message", |request| match request.form("message") {
                Some(text) => {
                    let event = Event::new("message").data(text);
                    request.reactor.publish("chat", event);
                    request.reply("message sent")
                }
                None => request.reply(Status::BAD_REQUEST),
            });
            router.get("/retry", |request| {
                let stream = request.event_stream();
                stream.retry(Duration::from_millis(2500)).subscribe("chat")
            });
            router.get("/both", |request| {
                let mut stream = request.event_stream();
                stream.subscribe("chat");
                stream.subscribe("news");
            });
            router.get("/pattern", |request| {
                request.event_stream().subscribe_pattern("cha*")
            });
            router.get("/bad", |request| request.event_stream().subscribe("a\nb"));
            router.get("/", |request| request.reply("page"));
        })
    })
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Deadlines pass up to a fifteenth of a second late, and never early.
const SLACK: Duration = Duration::from_millis(70);

/// A client of one stream, with the bytes it has received so far.
struct Reader {
    stream: SimStream,
    bytes: Vec<u8>,
}

impl Reader {
    fn open(sim: &mut Sim<Notes>, path: &str) -> Reader {
        let stream = sim.connect();
        stream.write(get(path));
        sim.settle();
        Reader {
            stream,
            bytes: Vec::new(),
        }
    }

    /// The part of the answer that has arrived.
    fn answer(&mut self) -> Answer {
        self.bytes.extend(self.stream.read());
        answer(&self.bytes)
    }

    /// The part of the body that has arrived.
    fn text(&mut self) -> String {
        self.answer().text().to_owned()
    }

    /// The data of all events so far.
    fn data(&mut self) -> Vec<String> {
        events(&self.text())
            .into_iter()
            .map(|event| event.data)
            .collect()
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    id: String,
    name: String,
    data: String,
}

/// An event as a browser dispatches it. Source: WHATWG HTML, section 9.2.6.
fn events(text: &str) -> Vec<Seen> {
    assert!(!text.contains(['\r', '\0']), "{text:?}");
    let mut all = Vec::new();
    let blocks: Vec<&str> = text.split("\n\n").collect();
    let (last, blocks) = blocks.split_last().expect("split gives one at least");
    assert_eq!(*last, "", "an event that has not ended");
    for block in blocks {
        let mut seen = Seen::default();
        let mut lines = Vec::new();
        for line in block.split('\n') {
            match line.split_once(':') {
                Some(("", _)) => {}
                Some(("id", value)) => seen.id = value.trim_start().to_owned(),
                Some(("event", value)) => seen.name = value.trim_start().to_owned(),
                Some(("data", value)) => lines.push(value.strip_prefix(' ').expect("a space")),
                Some(("retry", _)) => {}
                _ => panic!("{line:?} is no field"),
            }
        }
        if !lines.is_empty() {
            seen.data = lines.join("\n");
            all.push(seen);
        }
    }
    all
}

#[test]
fn the_head_of_a_stream_has_exactly_these_bytes_and_is_sent_at_once() {
    let mut sim = chat();
    let reader = Reader::open(&mut sim, "/chat");
    let expected = "HTTP/1.1 200 OK\r\nDate: Sun, 09 Sep 2001 01:46:40 GMT\r\n\
                    Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\
                    Cache-Control: no-cache, no-transform\r\nX-Accel-Buffering: no\r\n\r\n\
                    3\r\n:\n\n\r\n";
    assert_eq!(reader.stream.read_text(), expected);
    assert!(!reader.stream.is_closed());
}

#[test]
fn data_is_split_at_every_kind_of_line_end_and_nothing_else_is_written() {
    let mut sim = chat();
    let mut reader = Reader::open(&mut sim, "/chat");
    let cases = [
        ("plain", "data: plain\n"),
        ("a\nb", "data: a\ndata: b\n"),
        ("a\r\nb", "data: a\ndata: b\n"),
        ("a\rb", "data: a\ndata: b\n"),
        ("a\n\nb", "data: a\ndata: \ndata: b\n"),
        ("a\n", "data: a\ndata: \n"),
        ("\r\r\n\n", "data: \ndata: \ndata: \ndata: \n"),
        ("", "data: \n"),
        (" space", "data:  space\n"),
        (
            "id: 1\nevent: x\ndata: y",
            "data: id: 1\ndata: event: x\ndata: data: y\n",
        ),
        (":", "data: :\n"),
        ("\u{e9}\u{2028}", "data: \u{e9}\u{2028}\n"),
    ];
    let mut expected = ":\n\n".to_owned();
    for (number, (data, lines)) in (1..).zip(cases) {
        sim.reactor().publish("chat", data);
        expected += &format!("id: 1:{number}\n{lines}\n");
    }
    sim.settle();
    assert_eq!(reader.text(), expected);
    let seen = reader.data();
    for (seen, (data, _)) in seen.iter().zip(cases) {
        let joined = data.replace("\r\n", "\n").replace('\r', "\n");
        assert_eq!(*seen, joined, "{data:?}");
    }
    assert_eq!(seen.len(), cases.len());
}

#[test]
fn an_event_name_or_an_id_with_a_line_end_is_refused() {
    for bad in ["x\ny", "x\ry", "x\r\ndata: z", "x\0", "\n"] {
        assert!(Event::try_new(bad).is_err(), "{bad:?}");
        let mut out = Vec::new();
        assert!(event_stream::encode(Some(bad), None, "d", &mut out).is_err());
        assert!(event_stream::encode(None, Some(bad), "d", &mut out).is_err());
        assert!(out.is_empty(), "{bad:?}");
    }
    // `Event::new` does not check its name, so a line end in it is replaced.
    let mut sim = chat();
    let mut reader = Reader::open(&mut sim, "/chat");
    sim.reactor()
        .publish("chat", Event::new("x\ndata: injected\n\n").data("d"));
    sim.settle();
    let seen = events(&reader.text());
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].data, "d");
    assert_eq!(seen[0].name, "x\u{fffd}data: injected\u{fffd}\u{fffd}");
}

#[test]
fn events_carry_id_and_name_and_each_is_one_chunk() {
    let mut sim = chat();
    let mut reader = Reader::open(&mut sim, "/chat");
    let reactor = sim.reactor();
    reactor.publish("chat", Event::new("price").json(r#"{"eur":4}"#));
    // A publication without members takes an id too.
    reactor.publish("other", "unseen");
    reactor.publish("chat", Event::new("raw").binary(&b"\x00\xff"[..]));
    sim.settle();
    let chunks = reader.answer().chunks;
    let chunks: Vec<&str> = chunks
        .iter()
        .map(|chunk| str::from_utf8(chunk).expect("UTF-8"))
        .collect();
    let expected = [
        ":\n\n",
        "id: 1:1\nevent: price\ndata: {\"eur\":4}\n\n",
        "id: 1:3\nevent: raw\ndata: AP8=\n\n",
    ];
    assert_eq!(chunks, expected);
}

#[test]
fn text_sent_to_one_stream_is_data_and_binary_is_refused() {
    let mut sim = chat();
    let mut reader = Reader::open(&mut sim, "/chat");
    let other = Reader::open(&mut sim, "/chat");
    let id = sim.state().streams[0];
    other.stream.read();
    assert_eq!(sim.reactor().send(id, "only\nyou"), Sent::Queued);
    assert_eq!(sim.reactor().send(id, &b"bytes"[..]), Sent::Gone);
    sim.settle();
    assert_eq!(reader.text(), ":\n\ndata: only\ndata: you\n\n");
    assert_eq!(other.stream.read_text(), "");
}

#[test]
fn an_idle_stream_gets_a_comment_every_fifteen_seconds() {
    let mut sim = chat();
    let reader = Reader::open(&mut sim, "/chat");
    reader.stream.read();
    sim.advance(seconds(15));
    assert_eq!(reader.stream.read_text(), "");
    sim.advance(SLACK);
    assert_eq!(reader.stream.read_text(), "3\r\n:\n\n\r\n");
    sim.advance(seconds(106));
    assert_eq!(reader.stream.read_text(), "3\r\n:\n\n\r\n".repeat(7));
    assert!(
        !reader.stream.is_closed(),
        "two minutes are no reason to end it"
    );
}

#[test]
fn the_interval_of_comments_is_an_option_of_the_router() {
    for (interval, count) in [(None, 0), (Some(seconds(2)), 4)] {
        let mut sim = Sim::new((), |reactor| {
            reactor.http("0.0.0.0:80", |router| {
                router.options().heartbeat_interval = interval;
                router.get("/", |request| request.event_stream().subscribe("t"));
            })
        });
        let stream = sim.connect();
        stream.write(get("/"));
        sim.settle();
        stream.read();
        sim.advance(seconds(9));
        assert_eq!(stream.read_text(), "3\r\n:\n\n\r\n".repeat(count));
    }
}

#[test]
fn streams_that_came_together_get_no_comments_together() {
    let mut sim = chat();
    let readers: Vec<_> = (0..100).map(|_| Reader::open(&mut sim, "/chat")).collect();
    for reader in &readers {
        reader.stream.read();
    }
    let (mut count, mut most) = (0, 0);
    for _ in 0..160 {
        sim.advance(Duration::from_millis(100));
        let texts = readers.iter().map(|reader| reader.stream.read_text());
        let together = texts.map(|text| text.matches(":\n\n").count()).sum();
        count += together;
        most = most.max(together);
    }
    assert!(100 <= count, "{count} comments in 16 s");
    assert!(most <= 10, "{most} comments in a tenth of a second");
}

#[test]
fn a_stream_can_set_the_reconnection_time() {
    let mut sim = chat();
    let mut reader = Reader::open(&mut sim, "/retry");
    sim.reactor().publish("chat", "news");
    sim.settle();
    assert_eq!(reader.text(), ":\n\nretry: 2500\n\nid: 1:1\ndata: news\n\n");
}

#[test]
fn a_stream_may_be_a_member_of_several_topics() {
    let mut sim = chat();
    let mut reader = Reader::open(&mut sim, "/both");
    for topic in ["news", "chat", "other"] {
        sim.reactor().publish(topic, topic);
    }
    sim.settle();
    assert_eq!(reader.data(), ["news", "chat"]);
}

#[test]
fn two_streams_show_posted_messages_in_the_same_order() {
    let mut sim = chat();
    let mut readers = [
        Reader::open(&mut sim, "/chat"),
        Reader::open(&mut sim, "/chat"),
        Reader::open(&mut sim, "/pattern"),
    ];
    let posters: Vec<SimStream> = (0..3).map(|_| sim.connect()).collect();
    for round in 0..20 {
        for (number, poster) in posters.iter().enumerate() {
            poster.write(post(
                "/message",
                &format!("message={number}+says%0A{round}"),
            ));
        }
        sim.settle();
    }
    for poster in &posters {
        let all = answers_to(&[], &poster.read());
        assert_eq!(all.len(), 20);
        assert!(all.iter().all(|answer| answer.text() == "message sent"));
    }
    let first = readers[0].text();
    let seen = events(&first);
    assert_eq!(seen.len(), 60);
    assert!(seen.iter().all(|event| event.name == "message"));
    for (number, _) in posters.iter().enumerate() {
        let own = seen
            .iter()
            .filter(|event| event.data.starts_with(&number.to_string()));
        let own: Vec<&str> = own.map(|event| event.data.as_str()).collect();
        let said: Vec<String> = (0..20)
            .map(|round| format!("{number} says\n{round}"))
            .collect();
        assert_eq!(own, said, "what one client posts keeps its order");
    }
    for reader in &mut readers {
        assert_eq!(reader.text(), first);
    }
    let refused = Reader::open(&mut sim, "/");
    refused.stream.read();
    refused.stream.write(post("/message", "other=1"));
    sim.settle();
    assert_eq!(answer(&refused.stream.read()).status, 400);
}

#[test]
fn a_stream_for_http_1_0_has_no_chunks_and_ends_with_the_connection() {
    let mut sim = chat();
    let stream = sim.connect();
    stream.write("GET /chat HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    sim.settle();
    sim.reactor().publish("chat", "a\nb");
    sim.advance(seconds(15) + SLACK);
    let id = sim.state().streams[0];
    sim.reactor().send(id, "c");
    sim.reactor().close(id);
    sim.settle();
    let all = answer(&stream.read());
    assert_eq!(all.header("transfer-encoding"), None);
    assert_eq!(all.header("content-type"), Some("text/event-stream"));
    assert!(all.closes());
    let expected = ":\n\nid: 1:1\ndata: a\ndata: b\n\n:\n\ndata: c\n\n";
    assert_eq!(all.text(), expected);
    assert!(stream.is_closed());
}

// A HEAD once made its connection a member, so publications were sent between two answers.
#[test]
fn head_gets_the_headers_of_a_stream_and_no_events() {
    let mut sim = chat();
    let stream = sim.connect();
    stream.write(get("/chat").replacen("GET", "HEAD", 1));
    sim.settle();
    assert_eq!(sim.reactor().publish("chat", "news").delivered, 0);
    stream.write(get("/"));
    sim.settle();
    let all = answers_to(&["HEAD"], &stream.read());
    assert_eq!(all.len(), 2);
    assert_eq!(all[0].header("content-type"), Some("text/event-stream"));
    assert_eq!(all[1].text(), "page");
    assert!(!stream.is_closed());
}

#[test]
fn every_end_of_a_stream_calls_on_close_once_and_leaves_its_topics() {
    type End = fn(&mut Sim<Notes>, &SimStream);
    let ways: [(&str, End, CloseCause, bool); 5] = [
        (
            "the client closes",
            |_, stream| stream.close(),
            CloseCause::Peer,
            false,
        ),
        (
            "the client ends its side",
            |_, stream| stream.finish(),
            CloseCause::Peer,
            false,
        ),
        (
            "the client resets",
            |_, stream| stream.reset(),
            CloseCause::Io(std::io::ErrorKind::ConnectionReset),
            false,
        ),
        (
            "the program closes",
            |sim, _| {
                let id = sim.state().streams[0];
                sim.reactor().close(id);
            },
            CloseCause::Local,
            true,
        ),
        (
            "the reactor drains",
            |sim, _| sim.reactor().drain(seconds(0)),
            CloseCause::Drained,
            true,
        ),
    ];
    for (name, end, reason, is_whole) in ways {
        let mut sim = chat();
        let mut reader = Reader::open(&mut sim, "/chat");
        reader.answer();
        assert_eq!(sim.reactor().member_count("chat"), 1, "{name}");
        end(&mut sim, &reader.stream);
        sim.settle();
        assert_eq!(sim.state().lines, [reason.to_string()], "{name}");
        assert_eq!(sim.reactor().topic_count(), 0, "{name}");
        let id = sim.state().streams[0];
        assert_eq!(sim.reactor().send(id, "late"), Sent::Gone, "{name}");
        assert_eq!(sim.reactor().publish("chat", "late").delivered, 0, "{name}");
        sim.settle();
        assert_eq!(reader.answer().is_whole, is_whole, "{name}: the last chunk");
        sim.advance(seconds(60));
        assert_eq!(sim.state().lines.len(), 1, "{name}");
    }
}

#[test]
fn bytes_from_the_client_of_a_stream_are_ignored() {
    let mut sim = chat();
    let stream = sim.connect();
    stream.write(get("/chat") + &get("/"));
    sim.settle();
    stream.write("nonsense\r\n\r\n");
    stream.write(post("/message", "message=x"));
    sim.settle();
    assert_eq!(answer(&stream.read()).text(), ":\n\n");
    sim.reactor().publish("chat", "news");
    sim.settle();
    assert!(stream.read_text().contains("data: news\n"));
    assert!(!stream.is_closed());
}

#[test]
fn a_stream_that_is_not_read_is_cut_off_and_the_others_lose_nothing() {
    let mut sim = chat();
    let slow = Reader::open(&mut sim, "/chat");
    let mut quick = Reader::open(&mut sim, "/chat");
    let data = "x".repeat(10_000);
    let mut most = 0;
    for _ in 0..200 {
        sim.reactor().publish("chat", data.as_str());
        sim.settle();
        quick.answer();
        let id = sim.state().streams[0];
        most = most.max(sim.reactor().queued_bytes(id));
    }
    assert!(most < 1024 * 1024 + 20_000, "{most} bytes");
    assert_eq!(quick.data(), vec![data; 200]);
    let mut bytes = Vec::new();
    while !slow.stream.is_closed() {
        bytes.extend(slow.stream.read());
        sim.settle();
    }
    assert_eq!(sim.state().lines, [CloseCause::SlowConsumer.to_string()]);
    assert_eq!(sim.reactor().member_count("chat"), 1);
    assert!(
        !bytes.ends_with(b"0\r\n\r\n"),
        "what was cut must not look whole"
    );
}

#[test]
fn an_invalid_topic_name_is_skipped_and_the_stream_stays_open() {
    let mut sim = chat();
    let mut reader = Reader::open(&mut sim, "/bad");
    assert_eq!(reader.text(), ":\n\n");
    assert!(!reader.stream.is_closed());
    assert_eq!(sim.reactor().topic_count(), 0);
}
