//! `waterwheel serve --reactors N` as its users run it: one process, several threads, one hub.

#![cfg(all(unix, feature = "program"))]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::thread;

use serde_json::{Value, json};
use support::{Http, PATIENCE, Server, Socket};
use tungstenite::client::IntoClientRequest;
use tungstenite::http::HeaderValue;
use tungstenite::{Message, WebSocket};

/// Members a topic. With 20, one of the two reactors gets none once in half a million runs.
const MEMBERS: usize = 20;
const TOPICS: [&str; 4] = ["a", "b", "c", "d"];
const COUNT: usize = 100;

fn envelope(server: &Server) -> WebSocket<Socket> {
    let url = format!("ws://{}/ws", server.address);
    let mut request = url.into_client_request().unwrap();
    let subprotocol = HeaderValue::from_static("waterwheel.v1.json");
    request
        .headers_mut()
        .insert("Sec-WebSocket-Protocol", subprotocol);
    tungstenite::client(request, server.connect()).unwrap().0
}

/// The publications that a member got: topic, id and data, in their order.
type Received = Vec<(String, u64, String)>;

fn number(id: &str) -> u64 {
    id.split_once(':').unwrap().1.parse().unwrap()
}

/// Subscribes to all topics. The returned closure reads until each of them has ended.
fn websocket_member(server: &Server) -> impl FnOnce() -> Received + Send + 'static {
    let mut client = envelope(server);
    for topic in TOPICS {
        let text = json!({ "subscribe": topic }).to_string();
        client.send(Message::text(text)).unwrap();
        let Message::Text(answer) = client.read().unwrap() else {
            panic!("text expected");
        };
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["subscribed"], topic);
    }
    move || {
        let mut received = Received::new();
        let mut open = TOPICS.len();
        while 0 < open {
            let Message::Text(text) = client.read().unwrap() else {
                continue;
            };
            let value: Value = serde_json::from_str(&text).unwrap();
            let text = |name: &str| value[name].as_str().unwrap().to_owned();
            if text("data") == "end" {
                open -= 1;
            }
            received.push((text("topic"), number(&text("id")), text("data")));
        }
        received
    }
}

/// The same over an event stream, whose events do not name their topic.
fn stream_member(server: &Server) -> impl FnOnce() -> Received + Send + 'static {
    let mut stream = server.connect();
    let names = TOPICS.map(|topic| format!("topic={topic}")).join("&");
    write!(
        stream,
        "GET /events?{names} HTTP/1.1\r\nHost: localhost\r\n\r\n"
    )
    .unwrap();
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    // The first cursor is sent when it is subscribed.
    assert!(lines.any(|line| line.starts_with("id: ")));
    move || {
        let mut received = Received::new();
        let mut open = TOPICS.len();
        let mut id = 0;
        while 0 < open {
            let line = lines.next().expect("it ended too early");
            if let Some(text) = line.strip_prefix("id: ") {
                id = number(text);
            } else if let Some(data) = line.strip_prefix("data: ") {
                // A message from the envelope is JSON.
                let data = data.trim_matches('"');
                if data == "end" {
                    open -= 1;
                }
                received.push((String::new(), id, data.to_owned()));
            }
        }
        received
    }
}

// Many cores: one order of each topic for all members on all reactors.
#[test]
fn members_on_all_reactors_get_each_topic_in_one_order_and_delivered_counts_all() {
    let server = Server::start(&["--reactors", "2", "--drain-window", "0"]);
    let mut members: Vec<thread::JoinHandle<Received>> = Vec::new();
    for _ in 0..MEMBERS / 2 {
        members.push(thread::spawn(websocket_member(&server)));
        members.push(thread::spawn(stream_member(&server)));
    }
    // Each publisher has a connection of its own. One uses the envelope, which sends no answers.
    let publishers: Vec<_> = (0..2)
        .map(|publisher| {
            let mut http = Http::new(server.connect());
            thread::spawn(move || {
                let mut ids = BTreeSet::new();
                for count in 0..COUNT {
                    let topic = TOPICS[count % TOPICS.len()];
                    let target = format!("/publish?topic={topic}");
                    let body = format!("{publisher}:{count}");
                    let (status, answer) = http.request("POST", &target, body.as_bytes());
                    assert_eq!(status, 200, "{answer}");
                    let answer: Value = serde_json::from_str(&answer).unwrap();
                    assert_eq!(answer["delivered"], MEMBERS, "{body}");
                    ids.insert(number(answer["id"].as_str().unwrap()));
                }
                ids
            })
        })
        .collect();
    let mut client = envelope(&server);
    for count in 0..COUNT {
        let topic = TOPICS[count % TOPICS.len()];
        let text = json!({"publish": topic, "data": format!("2:{count}")}).to_string();
        client.send(Message::text(text)).unwrap();
    }
    let answered: BTreeSet<u64> = publishers
        .into_iter()
        .flat_map(|publisher| publisher.join().unwrap())
        .collect();
    assert_eq!(answered.len(), 2 * COUNT, "no id twice");
    for topic in TOPICS {
        // It comes after all that this client published to the topic before.
        let text = json!({"publish": topic, "data": "end"}).to_string();
        client.send(Message::text(text)).unwrap();
    }
    let received: Vec<Received> = members
        .into_iter()
        .map(|member| member.join().unwrap())
        .collect();

    // Messages by their ids, from the first member, whose transport names the topics.
    let mut topic_of = BTreeMap::new();
    for (topic, id, data) in &received[0] {
        assert_eq!(topic_of.insert(*id, (topic.clone(), data.clone())), None);
    }
    assert_eq!(topic_of.len(), 3 * COUNT + TOPICS.len());
    assert!(answered.iter().all(|id| topic_of.contains_key(id)));
    for messages in &received {
        assert_eq!(messages.len(), topic_of.len());
        for topic in TOPICS {
            let own: Vec<u64> = messages
                .iter()
                .filter(|(_, id, data)| {
                    let (its_topic, its_data) = &topic_of[id];
                    assert_eq!(its_data, data);
                    its_topic == topic
                })
                .map(|(_, id, _)| *id)
                .collect();
            assert_eq!(own.len(), 3 * COUNT / TOPICS.len() + 1);
            assert!(own.is_sorted(), "{topic}: {own:?}");
        }
    }

    drop(client);
    server.terminate();
    let (status, log) = server.ended();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
}

fn goodbyes(server: Server, mut clients: Vec<WebSocket<Socket>>) {
    server.terminate();
    for client in &mut clients {
        loop {
            match client.read().unwrap() {
                Message::Close(close) => {
                    assert_eq!(u16::from(close.unwrap().code), 1001);
                    break;
                }
                message => assert!(message.is_text(), "{message:?}"),
            }
        }
        // Tungstenite writes its answer on the next call.
        let _ = client.flush();
    }
    let (status, log) = server.ended();
    assert_eq!(status.code(), Some(0), "{log}");
    // Both reactors had connections, and each logged how many.
    let counts: Vec<usize> = log
        .lines()
        .filter_map(|line| line.split_once("draining ")?.1.split(' ').next())
        .map(|count| count.parse().unwrap())
        .collect();
    assert_eq!(counts.len(), 2, "{log}");
    assert_eq!(counts.iter().sum::<usize>(), clients.len());
    assert!(!counts.contains(&0), "{counts:?}");
}

#[test]
fn term_says_goodbye_to_the_clients_of_all_reactors() {
    let server = Server::start(&["--reactors", "2", "--drain-window", "0"]);
    let clients = (0..MEMBERS).map(|_| server.websocket("/ws")).collect();
    goodbyes(server, clients);
}

#[test]
fn a_second_term_ends_all_reactors_at_once() {
    let server = Server::start(&["--reactors", "2", "--drain-window", "3600"]);
    let _clients: Vec<_> = (0..MEMBERS).map(|_| server.websocket("/ws")).collect();
    server.terminate();
    // The kernel spreads connections over the reactors, so both drain when many answers in a row say so.
    let mut draining_count = 0;
    while draining_count < 30 {
        let (status, _) = Http::new(server.connect()).request("GET", "/readyz", b"");
        draining_count = match status {
            503 => draining_count + 1,
            _ => 0,
        };
    }
    server.terminate();
    // The drain alone would take an hour.
    let (status, log) = server.ended();
    assert!(status.success(), "{log}");
}

#[test]
fn each_listener_is_announced_once_and_a_unix_socket_reaches_all_reactors() {
    let path = std::env::temp_dir().join(format!("waterwheel-{}.sock", std::process::id()));
    let mut child = Command::new(env!("CARGO_BIN_EXE_waterwheel"))
        .args(["--reactors", "2", "--drain-window", "0"])
        .args(["--listen", "127.0.0.1:0", "--listen"])
        .arg(format!("unix:{}", path.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    let address = first.strip_prefix("listening on http://").unwrap();
    let second = lines.next().unwrap().unwrap();
    assert_eq!(second, format!("listening on unix:{}", path.display()));
    let server = Server {
        child,
        address: address.parse().unwrap(),
    };

    let mut clients: Vec<_> = (0..MEMBERS).map(|_| server.websocket("/ws")).collect();
    for client in &mut clients {
        client.send(Message::text("news")).unwrap();
    }
    let mut delivered = 0;
    // A plain subscription has no answer, so this publishes until all members are there.
    while delivered < MEMBERS as u64 {
        let mut stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = "POST /publish?topic=news HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
        write!(stream, "{head}Content-Length: 2\r\n\r\nhi").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        let body: Value = serde_json::from_str(body).unwrap();
        delivered = body["delivered"].as_u64().unwrap();
    }
    for client in &mut clients {
        assert_eq!(client.read().unwrap(), Message::text("hi"));
    }
    drop(clients);
    server.terminate();
    assert!(server.ended().0.success());
    assert_eq!(lines.next().map(Result::unwrap), None, "nothing more");
}

#[test]
fn a_port_that_is_taken_is_not_shared_with_another_hub() {
    let server = Server::start(&["--reactors", "2"]);
    let taken = server.address.to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_waterwheel"))
        .args(["--reactors", "2", "--listen", &taken])
        .output()
        .unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(
        errors.contains(&format!("cannot listen on {taken}")),
        "{errors}"
    );
    assert!(output.stdout.is_empty());
}

#[test]
fn connections_are_shared_out_and_waiting_clients_are_served_later() {
    let server = Server::start(&["--reactors", "2", "--max-connections", "2"]);
    let mut clients: Vec<_> = (0..MEMBERS).map(|_| server.connect()).collect();
    for client in &mut clients {
        client
            .write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .unwrap();
    }
    // When all clients before it have left, each one is the first in the backlog of its reactor.
    for mut client in clients {
        let mut answer = [0; 15];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200 OK");
    }
    server.terminate();
    let (status, log) = server.ended();
    assert!(status.success(), "{log}");
    assert!(log.contains("room for 2 connections"), "{log}");
    assert!(log.contains("accepting pauses at 1 connections"), "{log}");
}
