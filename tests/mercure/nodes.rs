//! Two nodes with a real Redis server: what is published on one comes on the other, and places hold on both.

use std::io::{BufRead, BufReader, Lines, Read, Write};

use crate::redis_server::{RedisServer, start, until};
use crate::support::{Http, Server, Socket};
use crate::{
    PATH, PUBLISHER_KEY, SUBSCRIBER_KEY, bearer, publisher_token, request, subscriber_token,
};

fn node(redis: &RedisServer) -> Server {
    let words = [
        "--redis",
        &redis.url(),
        "--log",
        "error",
        "--mercure-publisher-key",
        PUBLISHER_KEY,
        "--mercure-subscriber-key",
        SUBSCRIBER_KEY,
        "--mercure-anonymous",
    ];
    let server = Server::start(&words);
    until(|| Http::new(server.connect()).request("GET", "/readyz", b"").0 == 200);
    server
}

fn publish(server: &Server, form: &str) -> String {
    let headers = [
        &*bearer(&publisher_token(r#""*""#)),
        "Content-Type: application/x-www-form-urlencoded",
        "Connection: close",
    ];
    let asked = request("POST", PATH, &headers, form).replace("Host: h", "Host: 127.0.0.1");
    let mut stream = server.connect();
    stream.write_all(asked.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer.rsplit_once("\r\n\r\n").unwrap().1.to_owned()
}

struct Subscriber {
    head: Vec<String>,
    lines: Lines<BufReader<Socket>>,
    last_id: String,
}

/// A subscriber that is live.
fn subscribe(server: &Server, topic: &str, headers: &[&str]) -> Subscriber {
    let target = format!("{PATH}?topic={topic}");
    let asked = request("GET", &target, headers, "").replace("Host: h", "Host: 127.0.0.1");
    let mut stream = server.connect();
    stream.write_all(asked.as_bytes()).unwrap();
    let mut lines = BufReader::new(stream).lines();
    let head = lines.by_ref().map(Result::unwrap);
    let head = head.take_while(|line| !line.is_empty()).collect();
    let mut subscriber = Subscriber {
        head,
        lines,
        last_id: String::new(),
    };
    if headers.iter().all(|it| !it.starts_with("Last-Event-ID")) {
        // Its place comes when the engine has confirmed its names.
        while subscriber.last_id.is_empty() {
            subscriber.line();
        }
    }
    subscriber
}

impl Subscriber {
    fn line(&mut self) -> String {
        let line = self.lines.next().unwrap().unwrap();
        if let Some(id) = line.strip_prefix("id: ") {
            self.last_id = id.to_owned();
        }
        line
    }

    /// The data of the next event.
    fn next(&mut self) -> String {
        loop {
            if let Some(data) = self.line().strip_prefix("data: ") {
                return data.to_owned();
            }
        }
    }

    fn preceding(&self) -> Option<&str> {
        let mut lines = self.head.iter();
        lines.find_map(|line| line.strip_prefix("Mercure-Last-Event-ID: "))
    }
}

#[test]
fn two_nodes_are_one_hub() {
    let Some(redis) = start(&[]) else {
        return;
    };
    let (one, two) = (node(&redis), node(&redis));
    let token = bearer(&subscriber_token(r#""a""#));
    let mut ann = subscribe(&two, "a&topic=/{x}", &[&token]);
    let mut stranger = subscribe(&two, "*", &[]);
    publish(&one, "topic=a&data=1&private=on&id=urn:one");
    publish(&one, "topic=a&topic=/b&data=2&private=on&retry=7");
    publish(&one, "topic=c%3Fd&data=3");
    publish(&one, "topic=/e&data=4");
    assert_eq!([ann.next(), ann.next(), ann.next()], ["1", "2", "4"]);
    assert_eq!([stranger.next(), stranger.next()], ["3", "4"]);
    // An id of a publisher, of several topics, and of the hub, each on both nodes.
    let place = stranger.last_id.clone();
    publish(&two, "topic=a&data=5&private=on");
    publish(&two, "topic=/f&data=6");
    for server in [&one, &two] {
        let last = |id: &str| format!("Last-Event-ID: {id}");
        let mut again = subscribe(server, "a&topic=/{x}", &[&token, &last("urn:one")]);
        assert_eq!(again.preceding(), Some("urn:one"));
        let rest = [again.next(), again.next(), again.next(), again.next()];
        assert_eq!(rest, ["2", "4", "5", "6"]);
        let mut again = subscribe(server, "*", &[&last(&place)]);
        assert_eq!(again.next(), "6");
        let mut again = subscribe(server, "*", &[&last("unknown")]);
        assert_eq!(again.preceding(), Some("earliest"));
        assert_eq!([again.next(), again.next(), again.next()], ["3", "4", "6"]);
    }
}

#[test]
fn a_subscriber_is_sent_away_for_some_time_while_redis_does_not_answer() {
    let Some(redis) = start(&[]) else {
        return;
    };
    let server = node(&redis);
    let mut live = subscribe(&server, "a", &[]);
    redis.signal("STOP");
    let headers = ["Last-Event-ID: own", "Accept: text/event-stream"];
    let mut sent_away = subscribe(&server, "a", &headers);
    assert_eq!(sent_away.head[0], "HTTP/1.1 200 OK");
    assert!(sent_away.line().starts_with("retry: "));
    redis.signal("CONT");
    publish(&server, "topic=a&data=1&id=own");
    assert_eq!(live.next(), "1");
    let mut again = subscribe(&server, "a", &headers);
    publish(&server, "topic=a&data=2");
    assert_eq!(again.next(), "2");
}
