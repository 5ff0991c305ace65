//! The arguments of callbacks can do for their own connection what the reactor can do for any.

use std::error::Error;
use std::time::Duration;

use waterwheel::{Config, ConnId, Event, Overflow, Reactor, Sent, Sim};

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: sim\r\n\r\n")
}

#[test]
fn a_stream_is_half_closed_and_goes_on_reading() {
    let mut sim = Sim::new(Vec::new(), |reactor: &mut Reactor<Vec<String>>| {
        reactor.stream("0.0.0.0:1", |stream| {
            stream.on_data(|stream, bytes| {
                let text = String::from_utf8_lossy(bytes).into_owned();
                stream.state.push(text);
                if bytes == b"first" {
                    stream.send("the answer");
                    let sent = [stream.finish(), stream.finish(), stream.send("more")];
                    assert_eq!(sent, [Sent::Queued, Sent::Gone, Sent::Gone]);
                    assert_eq!(stream.publish("t", "news").delivered, 0);
                }
            });
            stream.on_open(|stream| stream.subscribe("t"));
            stream.on_close(|stream, close| stream.state.push(close.to_string()));
        })
    });
    let client = sim.connect();
    client.write("first");
    sim.settle();
    assert_eq!(client.read_text(), "the answer");
    assert!(client.is_closed(), "the client gets an end of stream");
    client.write("second");
    sim.settle();
    client.finish();
    sim.settle();
    assert_eq!(*sim.state(), ["first", "second", "closed by peer"]);
    assert_eq!(sim.reactor().connection_count(), 0);
}

#[test]
fn a_websocket_pauses_resumes_and_subscribes_by_pattern() {
    let mut config = Config::default();
    config.options.overflow = Overflow::LatestPerKey;
    let mut sim = Sim::with_config(config, (), |reactor: &mut Reactor<()>| {
        reactor.websocket("0.0.0.0:1", |ws| {
            ws.on_open(|ws, _| ws.subscribe_pattern("news.*"));
            ws.on_message(|ws, message| match message.to_string().as_str() {
                "pause" => {
                    ws.pause();
                    let id = ws.id;
                    ws.reactor
                        .after(Duration::from_secs(1), move |cx| cx.reactor.resume(id));
                }
                "leave" => assert!(ws.unsubscribe_pattern("news.*")),
                "reset" => ws.reset(),
                text => {
                    assert_eq!(ws.queued_bytes(), 0);
                    ws.send_keyed(1, text);
                }
            });
        })
    });
    let client = sim.websocket("/");
    assert_eq!(sim.reactor().publish("news.local", "a").delivered, 1);
    client.send("pause");
    client.send("later");
    sim.settle();
    assert_eq!(client.received(), ["a"]);
    sim.advance(Duration::from_secs(2));
    assert_eq!(client.received(), ["later"]);
    client.send("leave");
    sim.settle();
    assert_eq!(sim.reactor().publish("news.local", "b").delivered, 0);
    client.send("reset");
    sim.settle();
    assert!(client.is_closed());
}

#[test]
fn an_event_stream_takes_several_topics_and_events_with_ids() {
    let mut sim = Sim::new(None, |reactor: &mut Reactor<Option<ConnId>>| {
        reactor.http("0.0.0.0:80", |http| {
            http.get("/two", |request| {
                let id = request.event_stream().subscribe(["a", "b"]);
                *request.state = Some(id);
            });
            http.get("/one", |request| {
                let topic = request.query("topic").unwrap_or_default();
                request.event_stream().subscribe(topic)
            });
            http.get("/many", |request| {
                let topics: Vec<_> = request.queries("topic").collect();
                request.event_stream().subscribe(topics)
            });
        })
    });
    let clients = ["/two", "/one?topic=a", "/many?topic=a&topic=b"].map(|path| {
        let client = sim.connect();
        client.write(get(path));
        sim.settle();
        client.read();
        client
    });
    let members: Vec<_> = sim.reactor().members("a").collect();
    assert_eq!(members.len(), 3);
    assert!(members.contains(&sim.state().unwrap()));
    assert_eq!(sim.reactor().members("b").count(), 2);
    assert_eq!(sim.reactor().members("nowhere").count(), 0);
    let id = sim.state().unwrap();
    let event = Event::new("price").data("4711");
    assert_eq!(sim.reactor().send_event(id, "17", event), Sent::Queued);
    assert_eq!(sim.reactor().send_event(id, "a\nb", "x"), Sent::Queued);
    sim.settle();
    let text = clients[0].read_text();
    assert!(
        text.contains("id: 17\nevent: price\ndata: 4711\n\n"),
        "{text}"
    );
    assert!(text.contains("id: a\u{fffd}b\ndata: x\n\n"), "{text}");
}

#[derive(Debug)]
struct Refused;

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the file has no address")
    }
}

impl Error for Refused {}

#[test]
fn a_setup_may_return_any_error() {
    fn boxed(_: &mut Reactor<()>) -> Result<(), Box<dyn Error>> {
        Err(Box::new(Refused))
    }
    let error = Reactor::run((), boxed).unwrap_err();
    assert_eq!(error.to_string(), "the file has no address");
    let error = Reactor::run((), |_| Err::<(), _>(Refused)).unwrap_err();
    assert_eq!(error.to_string(), "the file has no address");
    let error = Reactor::run((), |reactor| reactor.http("nowhere", |_| ())).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    // The error of a setup within is that of the call around it.
    let within = [
        Reactor::run((), |reactor| {
            reactor.http("127.0.0.1:0", |_| Err::<(), _>(Refused))
        }),
        Reactor::run((), |reactor| {
            reactor.http("127.0.0.1:0", |http| {
                http.websocket("/", |_| Err::<(), _>(Refused));
            })
        }),
        Reactor::run((), |reactor| {
            reactor.websocket("127.0.0.1:0", |_| Err::<(), _>("the file has no address"))
        }),
        Reactor::run((), |reactor| {
            reactor.connect_stream("127.0.0.1:1", |_| Err::<(), _>(Refused))
        }),
    ];
    for result in within {
        assert_eq!(result.unwrap_err().to_string(), "the file has no address");
    }
}
