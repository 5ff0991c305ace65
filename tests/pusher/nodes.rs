//! Two nodes with a real Redis server: what one app's clients and backend do on either is known on both.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tungstenite::{Message, WebSocket};
use waterwheel::protocol::pusher::signature::{body_md5, sign, sign_in_text};

use crate::redis_server::{RedisServer, start, until};
use crate::support::{Http, PATIENCE, Server};
use crate::{KEY, SECRET, join_message, subscribe};

use crate::support::Socket;

/// The URL of a backend that takes webhooks, and the events that come, as `NAME CHANNEL`.
fn backend() -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (events, received) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, events) = (stream.unwrap(), events.clone());
            std::thread::spawn(move || {
                let mut request = Vec::new();
                let mut piece = [0; 4096];
                while let Ok(count @ 1..) = stream.read(&mut piece) {
                    request.extend_from_slice(&piece[..count]);
                    let text = String::from_utf8_lossy(&request);
                    let Some((head, body)) = text.split_once("\r\n\r\n") else {
                        continue;
                    };
                    let length = head.to_lowercase();
                    let (_, length) = length.split_once("content-length: ").unwrap();
                    let length = length.lines().next().unwrap().parse::<usize>().unwrap();
                    if body.len() < length {
                        continue;
                    }
                    let body: Value = serde_json::from_str(body).unwrap();
                    for event in body["events"].as_array().unwrap() {
                        let text = |name: &str| event[name].as_str().unwrap_or_default();
                        let line =
                            format!("{} {} {}", text("name"), text("channel"), text("user_id"));
                        if events.send(line).is_err() {
                            return;
                        }
                    }
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
                    stream.write_all(answer).unwrap();
                    request.clear();
                }
            });
        }
    });
    (url, received)
}

fn node(redis: &RedisServer, hook: &str) -> Server {
    let app = format!("3:{KEY}:{SECRET},client-events,webhook={hook}");
    let url = redis.url();
    let server = Server::start(&["--redis", &url, "--log", "error", "--pusher-app", &app]);
    until(|| Http::new(server.connect()).request("GET", "/readyz", b"").0 == 200);
    server
}

struct Client {
    socket: WebSocket<Socket>,
    socket_id: String,
}

impl Client {
    fn connect(server: &Server) -> Client {
        let mut socket = server.websocket(&format!("/app/{KEY}?protocol=7"));
        let greeting: Value =
            serde_json::from_str(socket.read().unwrap().to_text().unwrap()).unwrap();
        let data: Value = serde_json::from_str(greeting["data"].as_str().unwrap()).unwrap();
        let socket_id = data["socket_id"].as_str().unwrap().to_owned();
        Client { socket, socket_id }
    }

    fn send(&mut self, text: String) {
        self.socket.send(Message::text(text)).unwrap();
    }

    /// Reads up to the event with a name, and returns its data.
    fn until(&mut self, name: &str) -> Value {
        loop {
            let message = self.socket.read().unwrap();
            let message: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
            if message["event"] == name {
                return match message["data"].as_str() {
                    Some(text) => serde_json::from_str(text).unwrap_or(Value::Null),
                    None => message["data"].clone(),
                };
            }
        }
    }

    fn subscribe(&mut self, channel: &str) {
        self.send(subscribe(channel, ""));
        self.until("pusher_internal:subscription_succeeded");
    }

    /// Joins a presence channel, and returns the ids of its members.
    fn join(&mut self, channel: &str, user: &str) -> Value {
        let data = format!(r#"{{"user_id":"{user}"}}"#);
        let text = format!("{}:{channel}:{data}", self.socket_id);
        let auth = format!("{KEY}:{}", sign(SECRET.as_bytes(), text.as_bytes()));
        self.send(join_message(channel, &auth, &data));
        let answer = self.until("pusher_internal:subscription_succeeded");
        answer["presence"]["ids"].clone()
    }
}

/// The answer to a request of the backend.
fn ask(server: &Server, method: &str, path: &str, more: &str, body: &str) -> (u16, Value) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let mut query = format!(
        "auth_key={KEY}&auth_timestamp={}&auth_version=1.0",
        now.as_secs()
    );
    if !body.is_empty() {
        query.push_str(&format!("&body_md5={}", body_md5(body.as_bytes())));
    }
    query.push_str(more);
    let text = format!("{method}\n/apps/3{path}\n{query}");
    let signature = sign(SECRET.as_bytes(), text.as_bytes());
    let target = format!("/apps/3{path}?{query}&auth_signature={signature}");
    let mut http = Http::new(server.connect());
    let (status, answer) = http.request(method, &target, body.as_bytes());
    (status, serde_json::from_str(&answer).unwrap_or(Value::Null))
}

fn users(server: &Server) -> String {
    ask(server, "GET", "/channels/presence-a/users", "", "").1["users"].to_string()
}

#[test]
fn two_nodes_are_one_app_also_after_one_is_killed() {
    let Some(redis) = start(&[]) else { return };
    let (hook, events) = backend();
    let (first, second) = (node(&redis, &hook), node(&redis, &hook));
    let (mut ann, mut ben) = (Client::connect(&first), Client::connect(&second));
    ann.join("presence-a", "ann");
    until(|| users(&second) == r#"[{"id":"ann"}]"#);
    assert_eq!(
        ben.join("presence-a", "ben"),
        serde_json::json!(["ann", "ben"])
    );
    assert_eq!(ann.until("pusher_internal:member_added")["user_id"], "ben");
    // The second connection of a user is no new member, and counts.
    let mut ann_again = Client::connect(&second);
    ann_again.join("presence-a", "ann");
    until(|| {
        let more = "&info=user_count,subscription_count";
        let (_, answer) = ask(&first, "GET", "/channels/presence-a", more, "");
        answer["user_count"] == 2 && answer["subscription_count"] == 3
    });
    // A connection of another node is left out.
    ann.subscribe("news");
    // Two nodes that find a channel empty in the same moment would both tell that it is occupied.
    until(|| ask(&second, "GET", "/channels/news", "", "").1["occupied"] == true);
    ben.subscribe("news");
    let body = format!(
        r#"{{"name":"e","channel":"news","data":"1","socket_id":"{}"}}"#,
        ben.socket_id
    );
    assert_eq!(ask(&first, "POST", "/events", "", &body).0, 200);
    let last = r#"{"name":"last","channel":"news","data":"2"}"#;
    assert_eq!(ask(&second, "POST", "/events", "", last).0, 200);
    assert_eq!(ann.until("e"), 1);
    assert_eq!(ann.until("last"), 2);
    let message = ben.socket.read().unwrap();
    assert!(
        message.to_text().unwrap().contains(r#""event":"last""#),
        "{message}"
    );
    // The backend ends the connections of a user on both.
    let user_data = r#"{"id":"cat"}"#;
    let mut cats = [Client::connect(&first), Client::connect(&second)];
    for cat in &mut cats {
        let signature = sign(
            SECRET.as_bytes(),
            sign_in_text(&cat.socket_id, user_data).as_bytes(),
        );
        let data =
            serde_json::json!({"auth": format!("{KEY}:{signature}"), "user_data": user_data});
        cat.send(serde_json::json!({"event": "pusher:signin", "data": data}).to_string());
        cat.until("pusher:signin_success");
    }
    let path = "/users/cat/terminate_connections";
    assert_eq!(ask(&first, "POST", path, "", "{}").0, 200);
    for cat in &mut cats {
        assert_eq!(cat.until("pusher:error")["code"], 4009);
    }
    // A node that is killed takes its members with it, and one that is left says so. An event that it has not told in
    // this second would be lost.
    let mut told: Vec<String> = Vec::new();
    let receive = |told: &mut Vec<String>| match events.recv_timeout(PATIENCE) {
        Ok(event) => told.push(event),
        Err(_) => panic!("{told:?}"),
    };
    while !told.iter().any(|event| event.contains("ben")) {
        receive(&mut told);
    }
    second.signal("-KILL");
    assert_eq!(
        ann.until("pusher_internal:member_removed")["user_id"],
        "ben"
    );
    until(|| users(&first) == r#"[{"id":"ann"}]"#);
    drop(ann);
    let wanted = [
        "channel_occupied presence-a ",
        "member_added presence-a ann",
        "member_added presence-a ben",
        "channel_occupied news ",
        "member_removed presence-a ben",
        "member_removed presence-a ann",
        "channel_vacated news ",
        "channel_vacated presence-a ",
    ];
    while told.len() < wanted.len() {
        receive(&mut told);
    }
    // Each of them once: more would come in the same batches, or with the next second.
    while let Ok(event) = events.recv_timeout(Duration::from_secs(2)) {
        told.push(event);
    }
    let mut wanted = wanted.map(str::to_owned).to_vec();
    told.sort();
    wanted.sort();
    assert_eq!(told, wanted);
}
