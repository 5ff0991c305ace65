//! Clients of each kind that note what they get, each in a thread of its own.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;

use serde_json::Value;
use tungstenite::client::IntoClientRequest;
use tungstenite::{Message, WebSocket};

use super::support::{PATIENCE, Server, Socket};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Envelope,
    EventStream,
    LongPoll,
    Plain,
}

impl Kind {
    pub const ALL: [Kind; 4] = [
        Kind::Envelope,
        Kind::EventStream,
        Kind::LongPoll,
        Kind::Plain,
    ];
}

#[derive(Default)]
struct Notes {
    /// Texts of messages, and `gap NAME`.
    items: Vec<String>,
    probes: HashSet<String>,
    is_live: bool,
    cursor: String,
    /// Whether its connection has ended. No note follows.
    is_over: bool,
}

/// The notes of one client, which its thread writes and the test reads.
#[derive(Default)]
struct SharedNotes {
    notes: Mutex<Notes>,
    changed: Condvar,
}

impl SharedNotes {
    fn read(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap()
    }

    fn write(&self, change: impl FnOnce(&mut Notes)) {
        change(&mut self.notes.lock().unwrap());
        self.changed.notify_all();
    }

    /// Waits until `is_reached` is true, which is asked again after each change. Returns whether it became true.
    fn wait(&self, mut is_reached: impl FnMut(&Notes) -> bool) -> bool {
        let mut is_true = false;
        let is_waiting = |notes: &mut Notes| {
            is_true = is_reached(notes);
            !is_true && !notes.is_over
        };
        let notes = self.notes.lock().unwrap();
        let waited = self.changed.wait_timeout_while(notes, PATIENCE, is_waiting);
        drop(waited.unwrap());
        is_true
    }
}

/// A client. Dropping it leaves its thread, which ends with the server.
pub struct Watcher {
    pub kind: Kind,
    pub names: Vec<String>,
    shared: Arc<SharedNotes>,
}

impl Watcher {
    /// Subscribes to names, behind a cursor if there is one.
    pub fn begin(server: &Server, kind: Kind, names: &[String], since: Option<String>) -> Watcher {
        let shared = Arc::<SharedNotes>::default();
        let client = Client {
            address: server.address,
            names: names.to_vec(),
            since,
            shared: Arc::clone(&shared),
        };
        let notes = Arc::clone(&shared);
        thread::spawn(move || {
            match kind {
                Kind::Envelope => client.run_envelope(),
                Kind::EventStream => client.run_event_stream(),
                Kind::LongPoll => client.run_long_poll(),
                Kind::Plain => client.run_plain(),
            };
            notes.write(|notes| notes.is_over = true);
        });
        Watcher {
            kind,
            names: names.to_vec(),
            shared,
        }
    }

    /// The names of a plain client for which it has got no probe yet.
    pub fn unconfirmed(&self) -> Vec<String> {
        if self.kind != Kind::Plain {
            return Vec::new();
        }
        let notes = self.shared.read();
        let names = self.names.iter();
        names
            .filter(|it| !notes.probes.contains(*it))
            .cloned()
            .collect()
    }

    pub fn count(&self) -> usize {
        self.shared.read().items.len()
    }

    /// The items that it has got: the texts of messages, and `gap NAME`.
    pub fn items(&self) -> Vec<String> {
        self.shared.read().items.clone()
    }

    /// Waits until it has got all of these messages.
    #[track_caller]
    pub fn wait_for(&self, texts: impl IntoIterator<Item = String>) {
        for text in texts {
            // Items are only added, so each is compared once.
            let mut compared_count = 0;
            self.wait(&format!("did not get {text}"), |notes| {
                let is_there = notes.items[compared_count..].contains(&text);
                compared_count = notes.items.len();
                is_there
            });
        }
    }

    /// Waits until it has got so many items.
    #[track_caller]
    pub fn wait_for_count(&self, count: usize) {
        let failure = format!("did not get {count} items");
        self.wait(&failure, |notes| count <= notes.items.len());
    }

    /// Waits until its items are as wanted.
    #[track_caller]
    pub fn wait_for_items(&self, are_wanted: impl Fn(&[String]) -> bool) {
        self.wait("got other items", |notes| are_wanted(&notes.items));
    }

    /// Waits until its subscription is confirmed. A plain client is told nothing, and counts as live.
    #[track_caller]
    pub fn wait_until_live(&self) {
        let is_plain = self.kind == Kind::Plain;
        self.wait("is not live", |notes| is_plain || notes.is_live);
    }

    #[track_caller]
    fn wait(&self, failure: &str, is_reached: impl FnMut(&Notes) -> bool) {
        assert!(
            self.shared.wait(is_reached),
            "{:?} of {:?} {failure}: {:?}",
            self.kind,
            self.names,
            self.items()
        );
    }

    /// Its newest cursor.
    pub fn cursor(&self) -> String {
        self.shared.read().cursor.clone()
    }

    /// Waits until its connection has ended. Returns its cursor.
    #[track_caller]
    pub fn ended(&self) -> String {
        self.wait("has not ended", |notes| notes.is_over);
        self.cursor()
    }
}

struct Client {
    address: SocketAddr,
    names: Vec<String>,
    since: Option<String>,
    shared: Arc<SharedNotes>,
}

impl Client {
    fn connect(&self) -> Option<Socket> {
        Socket::connect(self.address).ok()
    }

    fn websocket(&self, subprotocol: Option<&'static str>) -> Option<WebSocket<Socket>> {
        let mut request = format!("ws://{}/ws", self.address)
            .into_client_request()
            .ok()?;
        if let Some(name) = subprotocol {
            let headers = request.headers_mut();
            headers.insert("Sec-WebSocket-Protocol", name.parse().ok()?);
        }
        Some(tungstenite::client(request, self.connect()?).ok()?.0)
    }

    fn note(&self, text: &str) {
        self.shared
            .write(|notes| match text.strip_prefix("probe ") {
                Some(topic) => _ = notes.probes.insert(topic.to_owned()),
                None => notes.items.push(text.to_owned()),
            });
    }

    fn note_cursor(&self, cursor: &str) {
        self.shared.write(|notes| {
            cursor.clone_into(&mut notes.cursor);
            notes.is_live = true;
        });
    }

    fn run_plain(self) -> Option<()> {
        let mut socket = self.websocket(None)?;
        for name in &self.names {
            socket.send(Message::text(name.clone())).ok()?;
        }
        loop {
            if let Message::Text(text) = socket.read().ok()? {
                self.note(&text);
            }
        }
    }

    fn run_envelope(self) -> Option<()> {
        let mut socket = self.websocket(Some("waterwheel.v1.json"))?;
        let mut command = serde_json::json!({"subscribe": self.names});
        if let Some(since) = &self.since {
            command["since"] = since.as_str().into();
        }
        socket.send(Message::text(command.to_string())).ok()?;
        loop {
            let Message::Text(text) = socket.read().ok()? else {
                continue;
            };
            let message: Value = serde_json::from_str(&text).ok()?;
            if let Some(name) = message["gap"].as_str() {
                self.note(&format!("gap {name}"));
            } else if let Some(text) = message["data"].as_str() {
                self.note(text);
            }
            for field in ["id", "cursor"] {
                if let Some(cursor) = message[field].as_str() {
                    self.note_cursor(cursor);
                }
            }
        }
    }

    /// The path and the names, with a cursor.
    fn target(&self, path: &str, since: Option<&str>) -> String {
        let names = self.names.iter().map(|name| format!("topic={name}&"));
        let since = since.map(|since| format!("since={since}"));
        format!(
            "{path}?{}{}",
            names.collect::<String>(),
            since.unwrap_or_default()
        )
    }

    fn run_event_stream(self) -> Option<()> {
        let mut stream = self.connect()?;
        let target = self.target("/events", self.since.as_deref());
        // The body of HTTP/1.0 has no chunks.
        let head = format!(
            "GET {target} HTTP/1.0\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).ok()?;
        let (mut is_gap, mut id) = (false, None);
        for line in BufReader::new(stream).lines() {
            let line = line.ok()?;
            if let Some(cursor) = line.strip_prefix("id: ") {
                id = Some(cursor.to_owned());
            } else if line == "event: gap" {
                is_gap = true;
            } else if let Some(text) = line.strip_prefix("data: ") {
                match is_gap {
                    true => self.note(&format!("gap {text}")),
                    false => self.note(text),
                }
            } else if line.is_empty() {
                is_gap = false;
                if let Some(id) = id.take() {
                    self.note_cursor(&id);
                }
            }
        }
        None
    }

    fn run_long_poll(self) -> Option<()> {
        let mut stream = BufReader::new(self.connect()?);
        let mut cursor = self.since.clone();
        loop {
            let target = self.target("/poll", cursor.as_deref());
            let head = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            stream.get_mut().write_all(head.as_bytes()).ok()?;
            let (mut status, mut length) = (0, 0);
            loop {
                let mut line = String::new();
                if stream.read_line(&mut line).ok()? == 0 {
                    return None;
                }
                let line = line.trim_end();
                if let Some(rest) = line.strip_prefix("HTTP/1.1 ") {
                    status = rest.split(' ').next()?.parse().ok()?;
                } else if let Some(value) = line.strip_prefix("Content-Length: ") {
                    length = value.parse().ok()?;
                } else if line.is_empty() {
                    break;
                }
            }
            let mut body = vec![0; length];
            std::io::Read::read_exact(&mut stream, &mut body).ok()?;
            if status != 200 {
                continue;
            }
            let answer: Value = serde_json::from_slice(&body).ok()?;
            for gap in answer["gap"].as_array().into_iter().flatten() {
                self.note(&format!("gap {}", gap.as_str()?));
            }
            for message in answer["messages"].as_array()? {
                self.note(message["data"].as_str()?);
            }
            let newest = answer["cursor"].as_str()?;
            self.note_cursor(newest);
            cursor = Some(newest.to_owned());
        }
    }
}

/// A WebSocket with the envelope.
pub fn envelope(server: &Server) -> WebSocket<Socket> {
    let client = Client {
        address: server.address,
        names: Vec::new(),
        since: None,
        shared: Arc::default(),
    };
    let socket = client.websocket(Some("waterwheel.v1.json"));
    socket.expect("a WebSocket")
}

/// Sends a command of the envelope, and returns its answer.
pub fn ask(socket: &mut WebSocket<Socket>, command: &str, value: impl Into<Value>) -> Value {
    let command = serde_json::json!({command: value.into()});
    socket.send(Message::text(command.to_string())).unwrap();
    let answer = socket.read().unwrap();
    serde_json::from_str(answer.to_text().unwrap()).unwrap()
}
