//! Clients that lose their connection at any byte and come back with their cursor, on the same transport or another
//! one, and on the same reactor or another one: each gets every publication once and in order, or is told of a gap
//! where it has missed one. All of it in a simulation, many times with random choices.
//!
//! `WATERWHEEL_SEEDS` is the number of runs, 1,000 by default; `WATERWHEEL_SEED` is the first seed, chosen anew by
//! default.

#![cfg(feature = "hub")]

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use waterwheel::hub::{Access, Hub, HubOptions, ReactorGroup, SUBPROTOCOL};
use waterwheel::pubsub::pattern;
use waterwheel::{ConnId, EventId, Sim, SimSocket, SimStream};

const RULES: [&str; 4] = ["c=history=0", "d=history=3", "e*=age=5", "*=history=50"];
const TOPICS: [&str; 8] = ["a", "b1", "b2", "c", "d", "e1", "e2", "f"];

/// The names of each client. No two of one client match the same topic.
const NAMES: [&[&str]; 5] = [
    &["a"],
    &["a", "c"],
    &["b*", "a", "d"],
    &["e*", "b1"],
    &["d", "c", "b*", "e*"],
];

/// The messages that clients of the library have got, by the number of their connection.
type Inboxes = BTreeMap<u64, Vec<String>>;

struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % end
    }

    fn choose<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

/// The reactors of a hub, and all that was published.
struct Hubs {
    sims: Vec<Sim<Inboxes>>,
    published: Vec<(u64, &'static str)>,
    /// The history has room for everything, so that a gap means that something is missing.
    is_roomy: bool,
    connection_count: u64,
}

impl Hubs {
    fn new(reactor_count: usize, history_bytes_max: usize) -> Hubs {
        let group = ReactorGroup::new(reactor_count);
        let access = Access {
            open: true,
            ..Access::default()
        };
        let mut options = HubOptions {
            history_bytes_max,
            ..HubOptions::default()
        };
        for rule in RULES {
            options.rules.add_text(rule).unwrap();
        }
        let sim = |_| {
            Sim::new(Inboxes::new(), |reactor| {
                let hub = match reactor_count {
                    1 => Hub::new(options.clone()),
                    _ => Hub::of_group(&group.join(reactor)?, options.clone()),
                };
                reactor.http("0.0.0.0:80", |router| hub.mount(router, &access))
            })
        };
        Hubs {
            sims: (0..reactor_count).map(sim).collect(),
            published: Vec::new(),
            is_roomy: 1 << 20 < history_bytes_max,
            connection_count: 0,
        }
    }

    fn settle(&mut self) {
        for _ in 0..4 {
            self.sims.iter_mut().for_each(Sim::settle);
        }
    }

    fn publish(&mut self, at: usize, topic: &'static str) {
        let published = self.sims[at].reactor().publish(topic, topic);
        self.published.push((published.id.number, topic));
    }
}

enum Connection {
    Envelope(SimSocket),
    Stream {
        stream: SimStream,
        text: String,
        /// Messages up to the cursor of their name may come again: the stream has one cursor for all names.
        since: Option<u64>,
    },
    Poll {
        stream: SimStream,
        text: String,
        since: Option<u64>,
    },
    /// A client of this library, with the number of its inbox.
    Library {
        at: usize,
        id: ConnId,
        inbox: u64,
    },
}

/// A gap that a client was told of.
#[derive(Debug)]
struct Gap {
    /// A topic, or a name of the client.
    name: String,
    /// Publications after this number may be missing.
    from: u64,
    /// Up to this number.
    to: u64,
    /// The client knows that it had got everything up to `from` and nothing behind it.
    is_certain: bool,
}

/// A client that wants to miss nothing.
struct Client {
    names: &'static [&'static str],
    connection: Option<Connection>,
    /// The reactor that it is connected to.
    at: usize,
    /// For each name that had a first cursor.
    cursors: BTreeMap<&'static str, u64>,
    /// The first cursor of each name.
    first: BTreeMap<&'static str, u64>,
    got: Vec<(u64, String)>,
    gaps: Vec<Gap>,
    /// The numbers up to which it has got everything or was told of a gap. While a replay is under way the cursor is
    /// ahead: a gap further on may be about publications before it, and is told again after a break.
    complete: BTreeMap<&'static str, u64>,
    /// The cursors with which it has connected.
    began: BTreeMap<&'static str, u64>,
    /// The names that are live on this connection.
    live: Vec<&'static str>,
    /// Names that are live and are asked for again: their replay may have messages that have come already.
    again: Vec<&'static str>,
}

impl Client {
    fn new(names: &'static [&'static str]) -> Client {
        Client {
            names,
            connection: None,
            at: 0,
            cursors: BTreeMap::new(),
            first: BTreeMap::new(),
            got: Vec::new(),
            gaps: Vec::new(),
            complete: BTreeMap::new(),
            began: BTreeMap::new(),
            live: Vec::new(),
            again: Vec::new(),
        }
    }

    fn name_of(&self, topic: &str) -> &'static str {
        let mut names = self.names.iter().copied();
        let is_of = |name: &&str| pattern::matches(name.as_bytes(), topic.as_bytes());
        names.find(is_of).expect("a topic that was asked for")
    }

    fn note_cursor(&mut self, name: &'static str, cursor: &str) {
        let number = cursor.parse::<EventId>().unwrap().number;
        self.first.entry(name).or_insert(number);
        let known = self.cursors.entry(name).or_insert(number);
        *known = number.max(*known);
        if self.live.contains(&name) {
            self.complete.insert(name, *known);
        }
    }

    fn note_live(&mut self, name: &'static str, cursor: &str) {
        self.live.push(name);
        self.note_cursor(name, cursor);
    }

    fn note_message(&mut self, topic: &str, id: &str, may_repeat: bool) {
        let name = self.name_of(topic);
        let number = id.parse::<EventId>().unwrap().number;
        let known = self.cursors.get(name).copied();
        if known.is_some_and(|known| number <= known) {
            assert!(may_repeat, "{topic} {number} came again after {known:?}");
            return;
        }
        self.got.push((number, topic.to_owned()));
        self.note_cursor(name, id);
    }

    fn note_gap(&mut self, shown: &str, by: &str, cursor: &str) {
        let name = self.names.iter().copied().find(|name| *name == by);
        let name = name.unwrap_or_else(|| self.name_of(by));
        let number = cursor.parse::<EventId>().unwrap().number;
        let from = self.complete.get(name).copied().unwrap_or(0);
        // A stream begins at the lowest cursor of its names. This name is ahead, and has missed nothing.
        if number <= from && from != 0 {
            return;
        }
        self.gaps.push(Gap {
            name: shown.to_owned(),
            from,
            to: number,
            // A stream begins at the lowest cursor of its names. Of a name that is ahead the client may have
            // everything.
            is_certain: self.began.get(name).is_none_or(|began| *began < number),
        });
        let known = self.cursors.entry(name).or_insert(number);
        *known = number.max(*known);
    }

    fn connect(&mut self, hubs: &mut Hubs, at: usize, random: &mut Random) {
        self.at = at;
        self.live.clear();
        self.again.clear();
        self.began = self.cursors.clone();
        let capacity = random.choose(&[1, 7, 60, 250, 1000, 100_000]);
        hubs.sims[at].socket_bytes(capacity);
        let has_all = self
            .names
            .iter()
            .all(|name| self.cursors.contains_key(name));
        let has_none = self.cursors.is_empty();
        let epoch = hubs.sims[at].reactor().epoch();
        let cursor = |number: u64| EventId::new(epoch, number).to_string();
        let kind = random.below(4);
        if kind < 2 && (has_all || has_none) {
            let topics: Vec<_> = self
                .names
                .iter()
                .map(|name| format!("topic={name}"))
                .collect();
            let mut query = topics.join("&");
            let since = self.cursors.values().copied().min();
            if let Some(since) = since {
                query.push_str(&format!("&since={}", cursor(since)));
            }
            let stream = hubs.sims[at].dial();
            let text = String::new();
            let target = match kind {
                0 => "/events?",
                _ => "/poll?wait=3&",
            };
            let request = format!("GET {target}{query} HTTP/1.0\r\nHost: h\r\n\r\n");
            let mut rest = request.as_bytes();
            for _ in 0..2000 {
                rest = &rest[stream.write(rest)..];
                hubs.sims[at].settle();
            }
            assert!(rest.is_empty());
            self.connection = Some(match kind {
                0 => Connection::Stream {
                    stream,
                    text,
                    since,
                },
                _ => Connection::Poll {
                    stream,
                    text,
                    since,
                },
            });
            return;
        }
        let commands: Vec<String> = self
            .names
            .iter()
            .map(|name| match self.cursors.get(name) {
                Some(number) => json!({"subscribe": name, "since": cursor(*number)}).to_string(),
                None => json!({"subscribe": name}).to_string(),
            })
            .collect();
        if kind == 2 {
            hubs.connection_count += 1;
            let inbox = hubs.connection_count;
            let made = hubs.sims[at]
                .reactor()
                .connect_websocket("ws://sim:80/ws", |ws| {
                    ws.subprotocols([SUBPROTOCOL]);
                    ws.on_open(move |ws, _| {
                        for command in &commands {
                            ws.send(command.as_str());
                        }
                    });
                    ws.on_message(move |ws, message| {
                        let inbox: &mut Vec<String> = ws.state.entry(inbox).or_default();
                        inbox.push(message.to_string());
                    });
                });
            let id = made.unwrap();
            self.connection = Some(Connection::Library { at, id, inbox });
            return;
        }
        hubs.sims[at].socket_bytes(capacity.max(300));
        let headers = [("Sec-WebSocket-Protocol", SUBPROTOCOL)];
        let socket = hubs.sims[at].try_websocket("/ws", &headers).unwrap();
        for command in commands {
            socket.send(command);
        }
        self.connection = Some(Connection::Envelope(socket));
    }

    /// Takes what has arrived. Returns whether there was something.
    fn read(&mut self, hubs: &mut Hubs) -> bool {
        let Some(mut connection) = self.connection.take() else {
            return false;
        };
        if hubs.sims.len() <= self.at {
            return false;
        }
        let (has_read, is_over) = match &mut connection {
            Connection::Envelope(socket) => {
                let messages = socket.received();
                messages.iter().for_each(|text| self.take_envelope(text));
                (!messages.is_empty(), socket.is_closed())
            }
            Connection::Library { at, id, inbox } => {
                let messages = match hubs.sims.get_mut(*at) {
                    Some(sim) => sim.state().remove(inbox).unwrap_or_default(),
                    None => Vec::new(),
                };
                messages.iter().for_each(|text| self.take_envelope(text));
                let sim = hubs.sims.get_mut(*at);
                let is_over = sim.is_none_or(|sim| !sim.reactor().is_open(*id));
                (!messages.is_empty(), is_over && messages.is_empty())
            }
            Connection::Stream {
                stream,
                text,
                since,
            } => {
                let bytes = stream.read();
                text.push_str(str::from_utf8(&bytes).unwrap());
                if let Some(end) = text.find("\r\n\r\n")
                    && text.starts_with("HTTP/1.")
                {
                    text.drain(..end + 4);
                }
                while !text.starts_with("HTTP/1.")
                    && let Some(end) = text.find("\n\n")
                {
                    let block: String = text.drain(..end + 2).collect();
                    self.take_block(&block, *since);
                }
                (!bytes.is_empty(), stream.is_closed())
            }
            Connection::Poll {
                stream,
                text,
                since,
            } => {
                let bytes = stream.read();
                text.push_str(str::from_utf8(&bytes).unwrap());
                let body = text.split_once("\r\n\r\n").map(|(_, body)| body);
                let answer = body.and_then(|body| serde_json::from_str::<Value>(body).ok());
                if let Some(answer) = &answer {
                    self.take_answer(answer, *since);
                }
                (!bytes.is_empty(), answer.is_some() || stream.is_closed())
            }
        };
        if !is_over {
            self.connection = Some(connection);
        }
        has_read
    }

    fn take_envelope(&mut self, text: &str) {
        let message: Value = serde_json::from_str(text).unwrap();
        let field = |name: &str| message[name].as_str().unwrap_or_default().to_owned();
        if let Some(topic) = message["topic"].as_str() {
            let may_repeat = self.again.contains(&self.name_of(topic));
            self.note_message(topic, &field("id"), may_repeat);
        } else if let Some(name) = message["gap"].as_str() {
            let by = message["by"].as_str().unwrap_or(name);
            self.note_gap(name, by, &field("cursor"));
        } else if let Some(name) = message["subscribed"].as_str() {
            let name = self.names.iter().copied().find(|other| *other == name);
            if message["ref"] == "again" {
                self.again.retain(|other| Some(*other) != name);
            }
            self.note_live(name.unwrap(), &field("cursor"));
        } else {
            assert!(message["lagged"].is_string(), "{text}");
        }
    }

    fn take_block(&mut self, block: &str, since: Option<u64>) {
        let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
        let (id, data) = (field("id: "), field("data: "));
        match (field("event: "), id, data) {
            (Some("gap"), Some(id), Some(name)) => {
                self.note_gap(name, name, id);
            }
            (None, Some(id), Some(topic)) => {
                let number = id.parse::<EventId>().unwrap().number;
                let may_repeat = since.is_some_and(|since| since < number);
                self.note_message(topic, id, may_repeat);
            }
            (Some("lagged"), ..) => {}
            // The first one is the cursor that the client gave; a new client is live at once.
            (None, Some(id), None) => {
                let number = id.parse::<EventId>().unwrap().number;
                for name in self.names {
                    match since == Some(number) {
                        true => self.note_cursor(name, id),
                        false => self.note_live(name, id),
                    }
                }
            }
            _ => assert_eq!(block, ":\n\n"),
        }
    }

    fn take_answer(&mut self, answer: &Value, since: Option<u64>) {
        let cursor = answer["cursor"].as_str().unwrap();
        for name in answer["gap"].as_array().into_iter().flatten() {
            // The messages behind the gap come with the same answer.
            let name = name.as_str().unwrap();
            let number = cursor.parse::<EventId>().unwrap().number;
            let wanted = self.names.iter().copied().find(|other| *other == name);
            let wanted = wanted.unwrap_or_else(|| self.name_of(name));
            self.gaps.push(Gap {
                name: name.to_owned(),
                from: self.complete.get(wanted).copied().unwrap_or(0),
                to: number,
                // Of a name that is ahead of the lowest cursor the client may have everything.
                is_certain: Some(self.cursors[wanted]) == since,
            });
        }
        for message in answer["messages"].as_array().unwrap() {
            let topic = message["topic"].as_str().unwrap();
            self.note_message(topic, message["id"].as_str().unwrap(), true);
        }
        for name in self.names {
            self.note_live(name, cursor);
        }
    }

    /// Asks for the messages behind a cursor of a name that is live.
    fn ask_again(&mut self, hubs: &mut Hubs, random: &mut Random) {
        let Some(Connection::Envelope(socket)) = &self.connection else {
            return;
        };
        let (name, at) = (random.choose(self.names), self.at);
        if at < hubs.sims.len() && self.live.contains(&name) && !self.again.contains(&name) {
            let epoch = hubs.sims[at].reactor().epoch();
            let number = self.cursors[name];
            let since = EventId::new(epoch, number).to_string();
            let command = json!({"subscribe": name, "since": since, "ref": "again"});
            socket.send(command.to_string());
            self.again.push(name);
        }
    }

    fn drop_connection(&mut self, hubs: &mut Hubs) {
        match self.connection.take() {
            Some(Connection::Envelope(socket)) => socket.stream().reset(),
            Some(Connection::Stream { stream, .. } | Connection::Poll { stream, .. }) => {
                stream.reset()
            }
            Some(Connection::Library { at, id, .. }) => {
                if let Some(sim) = hubs.sims.get_mut(at) {
                    sim.reactor().reset(id);
                }
            }
            None => {}
        }
    }

    /// Compares what the client has got and was told with all that was published.
    fn check(&self, hubs: &Hubs, seed: u64) {
        let got = |number: u64| self.got.iter().any(|(other, _)| *other == number);
        let is_of = |name: &str, topic: &str| pattern::matches(name.as_bytes(), topic.as_bytes());
        for (number, topic) in &hubs.published {
            let mut names = self.names.iter();
            let Some(name) = names.find(|name| is_of(name, topic)) else {
                continue;
            };
            let first = self.first.get(name).copied().unwrap_or(u64::MAX);
            let is_told = self
                .gaps
                .iter()
                .any(|gap| is_of(&gap.name, topic) && gap.from < *number && *number <= gap.to);
            assert!(
                *number <= first || got(*number) || is_told,
                "seed {seed}: {:?} has missed {number} of {topic} and was not told; {:?} {:?}",
                self.names,
                self.got,
                self.gaps,
            );
        }
        let certain = self
            .gaps
            .iter()
            .filter(|gap| hubs.is_roomy && gap.is_certain);
        for gap in certain {
            let mut published = hubs.published.iter();
            let is_true = published.any(|(number, topic)| {
                is_of(&gap.name, topic) && gap.from < *number && *number <= gap.to && !got(*number)
            });
            assert!(
                is_true,
                "seed {seed}: {:?} has missed nothing in {gap:?}, and has {:?}",
                self.names, self.got
            );
        }
    }
}

fn run(seed: u64, reactor_count: usize) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let history_bytes_max = random.choose(&[1 << 26, 1 << 26, 6000, 2500]);
    let mut hubs = Hubs::new(reactor_count, history_bytes_max);
    let mut clients: Vec<_> = (0..3).map(|_| Client::new(random.choose(&NAMES))).collect();
    let mut may_end = 2 < reactor_count;
    for _ in 0..random.below(120) + 20 {
        let at = random.below(hubs.sims.len());
        let client = random.below(clients.len());
        let client = &mut clients[client];
        match random.below(12) {
            0..4 => hubs.publish(at, random.choose(&TOPICS)),
            4 => (0..random.below(30)).for_each(|_| hubs.publish(at, random.choose(&TOPICS))),
            5 if client.connection.is_none() => client.connect(&mut hubs, at, &mut random),
            6 => client.drop_connection(&mut hubs),
            10 => client.ask_again(&mut hubs, &mut random),
            7 => hubs.sims[at].turn(),
            8 => hubs.sims[at].advance(Duration::from_millis(random.below(3000) as u64)),
            9 if may_end && random.below(10) == 0 => {
                may_end = false;
                // Its clients notice, and come back elsewhere.
                drop(hubs.sims.pop());
            }
            _ => {
                hubs.settle();
                client.read(&mut hubs);
            }
        }
    }
    // In the end all come back and read until there is no more.
    for client in &mut clients {
        let mut quiet_count = 0;
        for round in 0.. {
            let kind = match &client.connection {
                None => "none".to_owned(),
                Some(Connection::Envelope(_)) => "envelope".to_owned(),
                Some(Connection::Stream { text, .. }) => format!("stream {text:?}"),
                Some(Connection::Poll { text, .. }) => format!("poll {text:?}"),
                Some(Connection::Library { .. }) => "library".to_owned(),
            };
            assert!(
                round < 100_000,
                "seed {seed}: a client comes to no end: {kind} {:?}",
                client.cursors
            );
            hubs.settle();
            let is_last_poll = matches!(client.connection, Some(Connection::Poll { .. }));
            if client.connection.is_none() {
                client.connect(&mut hubs, 0, &mut random);
                hubs.settle();
            }
            if is_last_poll {
                hubs.sims
                    .iter_mut()
                    .for_each(|sim| sim.advance(Duration::from_millis(500)));
            }
            let newest = hubs.sims[0].reactor().cursor().number;
            let is_current = |cursors: &BTreeMap<&str, u64>, names: &[&'static str]| {
                names
                    .iter()
                    .all(|name| cursors.get(name).is_some_and(|it| newest <= *it))
            };
            let has_read = client.read(&mut hubs);
            quiet_count = if has_read { 0 } else { quiet_count + 1 };
            // A live client has no newer cursor than that of its last message, until the next heartbeat.
            let is_live = !matches!(client.connection, None | Some(Connection::Poll { .. }));
            let is_current = is_current(&client.cursors, client.names);
            if !has_read && is_current || is_live && 5 < quiet_count {
                break;
            }
        }
        client.check(&hubs, seed);
    }
}

fn seeds() -> impl Iterator<Item = u64> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let first = number("WATERWHEEL_SEED").unwrap_or(now.as_nanos() as u64 % 1_000_000_000);
    let count = number("WATERWHEEL_SEEDS").unwrap_or(1000);
    println!("seeds {first} to {}", first + count);
    first..first + count
}

#[test]
fn clients_that_come_back_miss_nothing_in_silence() {
    seeds().for_each(|seed| run(seed, 1));
}

#[test]
fn clients_that_come_back_on_another_reactor_miss_nothing_in_silence() {
    seeds().for_each(|seed| run(seed, 3));
}
