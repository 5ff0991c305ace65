//! Nodes with a real Redis server: what Rails and AnyCable's libraries publish there is heard by clients of all nodes.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tungstenite::client::IntoClientRequest;
use tungstenite::{Message, WebSocket};

use super::identity::{base64url, token};
use super::{command_text, confirmation, message};
use crate::redis_server::{RedisServer, start, until};
use crate::support::{self, Http, Server, Socket};

const SECRET: &str = "a secret key base of the tests, 40 bytes";

fn node(redis: &RedisServer, more: &[&str]) -> Server {
    let url = redis.url();
    let mut words = vec!["--redis", &*url, "--log", "error", "--cable-secret", SECRET];
    words.extend(more);
    let server = Server::start(&words);
    until(|| Http::new(server.connect()).request("GET", "/readyz", b"").0 == 200);
    server
}

/// The identifier of a stream, whose name the application has signed.
fn signed(stream: &str) -> String {
    use hmac::{Hmac, KeyInit, Mac};
    // Rails pads, and a reader takes both.
    let name = base64url(Value::from(stream).to_string().as_bytes());
    let mac = <Hmac<sha2::Sha256> as KeyInit>::new_from_slice(SECRET.as_bytes()).unwrap();
    let digest = mac.chain_update(&name).finalize().into_bytes();
    let digits: Vec<String> = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    super::signed(&format!("{name}--{}", digits.concat()))
}

struct Client {
    socket: WebSocket<Socket>,
}

impl Client {
    fn connect(server: &Server, target: &str) -> Client {
        let mut client = Client {
            socket: server.websocket(target),
        };
        assert_eq!(client.next(), super::WELCOME);
        client
    }

    /// A client that is subscribed to a stream.
    fn subscriber(server: &Server, stream: &str) -> Client {
        let mut client = Client::connect(server, "/cable");
        client.subscribe(&signed(stream));
        client
    }

    fn subscribe(&mut self, identifier: &str) {
        let text = command_text("subscribe", identifier);
        self.socket.send(Message::text(text)).unwrap();
        assert_eq!(self.next(), confirmation(identifier));
    }

    /// The next message that is no ping.
    fn next(&mut self) -> String {
        loop {
            let message = self.socket.read().unwrap();
            let text = message.to_text().unwrap();
            if !text.starts_with(r#"{"type":"ping""#) {
                return text.to_owned();
            }
        }
    }
}

/// A program with Rails's ActionCable, which broadcasts by Redis.
struct Rails {
    child: Child,
    answers: BufReader<std::process::ChildStdout>,
}

impl Rails {
    /// `None` where Rails is not installed.
    fn start(redis: &RedisServer, prefix: &[&str]) -> Option<Rails> {
        if !support::has("ruby") {
            return None;
        }
        let check = Command::new("ruby")
            .args([
                "-e",
                "require 'action_cable'; require 'redis'; require 'globalid'",
            ])
            .stderr(Stdio::null())
            .status();
        if !check.unwrap().success() {
            support::skip(
                "Rails is missing: apt-get install ruby-actioncable ruby-redis ruby-globalid",
            );
            return None;
        }
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cable_clients/rails.rb");
        let mut child = Command::new("ruby")
            .args([script, &redis.url()])
            .args(prefix)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Some(Rails { child, answers })
    }

    /// Has an order carried out.
    fn order(&mut self, order: &str) {
        writeln!(self.child.stdin.as_ref().unwrap(), "{order}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        assert_eq!(answer.trim_end(), order);
    }
}

impl Drop for Rails {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn rails_broadcasts_in_each_of_its_forms() {
    for prefix in [&[] as &[&str], &["myapp_production"]] {
        let Some(redis) = start(&[]) else {
            return;
        };
        let Some(mut rails) = Rails::start(&redis, prefix) else {
            return;
        };
        let options: Vec<&str> = prefix
            .iter()
            .flat_map(|it| ["--redis-prefix", it])
            .collect();
        let nodes = [node(&redis, &options), node(&redis, &options)];
        let post = "comments:Z2lkOi8vVGVzdEFwcC9Qb3N0LzE";
        for (stream, orders) in [
            (
                "chat_1",
                &[
                    ("hash", r#"{"x":1}"#),
                    ("html", r#""\u003cp\u003e\u0026\u003c/p\u003e""#),
                    ("nil", "null"),
                    ("raw", r#""not {json""#),
                ][..],
            ),
            (post, &[("to model", r#"{"body":"é"}"#)]),
            (
                "comments:Z2lkOi8vVGVzdEFwcC9Qb3N0LzE:tab",
                &[("to parts", "2")],
            ),
            ("chats:appearances:all", &[("to nested", "[3]")]),
        ] {
            let mut clients = nodes
                .each_ref()
                .map(|node| Client::subscriber(node, stream));
            for (order, expected) in orders {
                rails.order(order);
                for client in &mut clients {
                    assert_eq!(client.next(), message(&signed(stream), expected), "{order}");
                }
            }
        }
        let two = r#"{"current_user":"gid://TestApp/Post/1","tab":"7"}"#;
        let target = format!("/cable?jid={}", token(SECRET, two, 4_000_000_000));
        let mut clients = nodes.each_ref().map(|node| Client::connect(node, &target));
        // Redis knows the subscription of each node to the name when one that came later is confirmed.
        for client in &mut clients {
            client.subscribe(&signed("chat_1"));
        }
        rails.order("disconnect");
        for client in &mut clients {
            let last = r#"{"type":"disconnect","reason":"remote","reconnect":true}"#;
            assert_eq!(client.next(), last);
            let closed = client.socket.read().unwrap();
            assert!(closed.is_close(), "{closed}");
        }
    }
}

#[test]
fn many_broadcasts_of_rails_come_in_order() {
    let Some(redis) = start(&[]) else {
        return;
    };
    let Some(mut rails) = Rails::start(&redis, &[]) else {
        return;
    };
    let nodes = [node(&redis, &[]), node(&redis, &["--reactors", "2"])];
    let mut clients = nodes
        .each_ref()
        .map(|node| Client::subscriber(node, "chat_1"));
    rails.order("many 2000");
    for client in &mut clients {
        for number in 0..2000 {
            let expected = message(&signed("chat_1"), &number.to_string());
            assert_eq!(client.next(), expected);
        }
    }
}

#[test]
fn broadcasts_of_any_cable_s_libraries_reach_each_node_once() {
    let Some(redis) = start(&[]) else {
        return;
    };
    let nodes = [node(&redis, &[]), node(&redis, &["--reactors", "2"])];
    let mut clients: Vec<Client> = Vec::new();
    for _ in 0..4 {
        clients.extend(nodes.iter().map(|node| Client::subscriber(node, "chat_1")));
    }
    redis.publish("__anycable__", "no JSON");
    redis.publish("__anycable__", r#"{"stream":"chat_1","data":"{\"x\":1}"}"#);
    let both = r#"[{"stream":"chat_1","data":"2"},{"stream":"chat_1","data":"three"}]"#;
    redis.publish("__anycable__", both);
    for client in &mut clients {
        for expected in [r#"{"x":1}"#, "2", r#""three""#] {
            assert_eq!(client.next(), message(&signed("chat_1"), expected));
        }
    }
    let order = r#"{"command":"disconnect","payload":{"identifier":"{\"user\":\"u1\"}"}}"#;
    let target = format!(
        "/cable?jid={}",
        token(SECRET, r#"{"user":"u1"}"#, 4_000_000_000)
    );
    let mut named = Client::connect(&nodes[1], &target);
    named.subscribe(&signed("chat_1"));
    redis.publish("__anycable__", order);
    let last = r#"{"type":"disconnect","reason":"remote","reconnect":true}"#;
    assert_eq!(named.next(), last);
}

#[test]
fn a_subscription_without_redis_is_rejected() {
    let Some(mut redis) = start(&[]) else {
        return;
    };
    let node = node(&redis, &[]);
    let mut client = Client::subscriber(&node, "chat_1");
    redis.kill();
    until(|| Http::new(node.connect()).request("GET", "/readyz", b"").0 == 503);
    let identifier = signed("other");
    let text = command_text("subscribe", &identifier);
    client.socket.send(Message::text(text)).unwrap();
    redis.run();
    // It is confirmed when Redis is there again, or was rejected meanwhile.
    let answer = client.next();
    let expected = [confirmation(&identifier), super::rejection(&identifier)];
    assert!(expected.contains(&answer), "{answer}");
}

#[test]
fn a_cut_loses_no_broadcast_of_rails() {
    let Some(redis) = start(&[]) else {
        return;
    };
    let Some(mut rails) = Rails::start(&redis, &[]) else {
        return;
    };
    let node = node(&redis, &[]);
    let identifier = signed("chat_1");
    let connect = |history: Value| {
        let mut request = node.url("/cable").into_client_request().unwrap();
        *request.uri_mut() = format!("ws://{}/cable", node.address).parse().unwrap();
        let protocol = "actioncable-v1-ext-json".parse().unwrap();
        request
            .headers_mut()
            .insert("Sec-WebSocket-Protocol", protocol);
        let (socket, _) = tungstenite::client(request, node.connect()).unwrap();
        let mut client = Client { socket };
        client.next();
        let command =
            json!({ "command": "subscribe", "identifier": identifier, "history": history });
        client
            .socket
            .send(Message::text(command.to_string()))
            .unwrap();
        assert_eq!(client.next(), confirmation(&identifier));
        client
    };
    let next = |client: &mut Client| -> Value { serde_json::from_str(&client.next()).unwrap() };
    let mut client = connect(json!({ "since": 4_000_000_000_u64 }));
    assert_eq!(next(&mut client)["type"], "confirm_history");
    rails.order("many 3");
    let mut last = Value::Null;
    for number in 0..3 {
        last = next(&mut client);
        assert_eq!(last["message"], number);
    }
    drop(client);
    rails.order("many 60");
    let place = json!({ "epoch": last["epoch"], "offset": last["offset"] });
    let mut client = connect(json!({ "streams": { "chat_1": place } }));
    for number in 0..60 {
        assert_eq!(next(&mut client)["message"], number);
    }
    assert_eq!(next(&mut client)["type"], "confirm_history");
    rails.order("hash");
    assert_eq!(next(&mut client)["message"], json!({ "x": 1 }));
}
