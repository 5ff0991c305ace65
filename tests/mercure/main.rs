//! A Mercure hub: publishers and subscribers, and the hub's own clients beside them.

#![cfg(feature = "mercure")]

mod last_event;
#[cfg(feature = "program")]
mod nodes;
mod others;
mod private;
#[cfg(feature = "program")]
mod programs;
mod publishing;
mod random;
mod streams;
mod subscriptions;

#[path = "../support/answer.rs"]
mod answer;
#[cfg(feature = "program")]
#[path = "../support/redis_server.rs"]
mod redis_server;
#[cfg(feature = "program")]
#[path = "../support/mod.rs"]
mod support;
#[path = "../support/token.rs"]
mod token;

use std::time::Duration;

use waterwheel::hub::{Access, Hub, HubOptions, MercureOptions, ReactorGroup, TokenSecrets};
use waterwheel::{Config, Sim, SimStream};

use answer::Answer;

const PATH: &str = "/.well-known/mercure";
const PUBLISHER_KEY: &str = "the key of publishers in tests, 42 bytes..";
const SUBSCRIBER_KEY: &str = "the key of subscribers in tests, 44 bytes...";

/// A hub on one reactor or several.
struct World {
    sims: Vec<Sim<()>>,
}

/// The setting of a hub.
struct Setting {
    reactor_count: usize,
    mercure: MercureOptions,
    /// Rules as text.
    rules: Vec<&'static str>,
    access: Access,
    config: Config,
}

impl Default for Setting {
    fn default() -> Setting {
        let secrets = |key: &str| TokenSecrets::new(vec![key.to_owned()]).unwrap();
        let mut mercure = MercureOptions::default();
        mercure.publisher_secrets = secrets(PUBLISHER_KEY);
        mercure.subscriber_secrets = secrets(SUBSCRIBER_KEY);
        mercure.is_anonymous = true;
        Setting {
            reactor_count: 1,
            mercure,
            rules: Vec::new(),
            access: Access::default(),
            config: Config::default(),
        }
    }
}

/// A subscriber whose answer has begun.
struct Subscriber {
    stream: SimStream,
    /// The bytes that have come.
    bytes: Vec<u8>,
    /// The bytes of the body that `lines` has returned.
    seen_bytes: usize,
}

fn serve() -> World {
    serve_with(Setting::default())
}

fn serve_with(setting: Setting) -> World {
    let group = ReactorGroup::new(setting.reactor_count);
    let sim = |seed| {
        let mut options = HubOptions {
            mercure: Some(setting.mercure.clone()),
            ..HubOptions::default()
        };
        for rule in &setting.rules {
            options.rules.add_text(rule).unwrap();
        }
        let mut sim = Sim::with_config(setting.config.clone(), (), |reactor| {
            let hub = match setting.reactor_count {
                1 => Hub::new(options),
                _ => Hub::of_group(&group.join(reactor)?, options),
            };
            reactor.http("0.0.0.0:80", |router| hub.mount(router, &setting.access))
        });
        sim.seed(seed);
        sim
    };
    World {
        sims: (1..=setting.reactor_count as u64).map(sim).collect(),
    }
}

impl World {
    /// Runs all reactors until none has anything to do.
    fn settle(&mut self) {
        for _ in 0..6 {
            self.sims.iter_mut().for_each(Sim::settle);
        }
    }

    fn advance(&mut self, time: Duration) {
        self.sims.iter_mut().for_each(|sim| sim.advance(time));
        self.settle();
    }

    /// Sends a request to a reactor.
    fn send(&mut self, reactor: usize, request: &str) -> Subscriber {
        let stream = self.sims[reactor].connect();
        let mut rest = request.as_bytes();
        while !rest.is_empty() && !stream.is_closed() {
            rest = &rest[stream.write(rest)..];
            self.settle();
        }
        Subscriber {
            stream,
            bytes: Vec::new(),
            seen_bytes: 0,
        }
    }

    /// The answer to a request. `headers` are whole lines.
    fn ask(&mut self, method: &str, target: &str, headers: &[&str], body: &str) -> Answer {
        let request = request(method, target, headers, body);
        let mut asked = self.send(0, &request);
        let answers = answer::answers_to(&[method], asked.read());
        answers.into_iter().next().expect("an answer")
    }

    /// Publishes with a token for all topics, and returns the id.
    fn publish(&mut self, form: &str) -> String {
        let token = bearer(&publisher_token(r#""*""#));
        let answer = self.publish_by(&token, form);
        assert_eq!(answer.status, 200, "{form}: {}", answer.text());
        answer.text().to_owned()
    }

    /// The answer to a form with a header.
    fn publish_by(&mut self, header: &str, form: &str) -> Answer {
        let kind = "Content-Type: application/x-www-form-urlencoded";
        self.ask("POST", PATH, &[kind, header], form)
    }

    /// A subscriber without a token.
    fn subscribe(&mut self, query: &str) -> Subscriber {
        self.subscribe_by(query, &[])
    }

    /// A subscriber with headers.
    fn subscribe_by(&mut self, query: &str, headers: &[&str]) -> Subscriber {
        self.subscribe_at(0, query, headers)
    }

    /// As `subscribe_by`, at a reactor.
    fn subscribe_at(&mut self, reactor: usize, query: &str, headers: &[&str]) -> Subscriber {
        let request = request("GET", &format!("{PATH}?{query}"), headers, "");
        let mut subscriber = self.send(reactor, &request);
        let answer = subscriber.answer();
        assert_eq!(answer.status, 200, "{query}: {}", answer.text());
        assert_eq!(answer.header("content-type"), Some("text/event-stream"));
        subscriber
    }
}

impl Subscriber {
    /// All bytes that have come.
    fn read(&mut self) -> &[u8] {
        self.bytes.extend(self.stream.read());
        &self.bytes
    }

    /// The answer, as far as it has come.
    fn answer(&mut self) -> Answer {
        answer::answer(self.read())
    }

    /// The lines that have come since this was called last, without comments, empty ones, and an id alone.
    fn lines(&mut self) -> Vec<String> {
        let answer = self.answer();
        let old = std::mem::replace(&mut self.seen_bytes, answer.body.len());
        let text = str::from_utf8(&answer.body[old..]).unwrap();
        let events = text.split_terminator("\n\n");
        let events = events.filter(|it| it.contains("data: "));
        let lines = events.flat_map(str::lines);
        lines.map(str::to_owned).collect()
    }

    /// The data of the events that have come since `lines` was called last.
    fn data(&mut self) -> Vec<String> {
        let lines = self.lines();
        let data = lines.iter().filter_map(|it| it.strip_prefix("data: "));
        data.map(str::to_owned).collect()
    }

    /// The last id that has come.
    fn last_id(&mut self) -> String {
        let answer = self.answer();
        let ids = answer.text().lines().rev();
        let mut ids = ids.filter_map(|it| it.strip_prefix("id: "));
        ids.next().expect("an id").to_owned()
    }

    fn header(&mut self, name: &str) -> Option<String> {
        self.answer().header(name).map(str::to_owned)
    }
}

fn request(method: &str, target: &str, headers: &[&str], body: &str) -> String {
    let mut request = format!("{method} {target} HTTP/1.1\r\nHost: h\r\n");
    for header in headers.iter().filter(|it| !it.is_empty()) {
        request.push_str(header);
        request.push_str("\r\n");
    }
    if method == "POST" {
        request.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    request + "\r\n" + body
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}")
}

/// A token for publishers of these topics: strings of JSON, with commas between them.
fn publisher_token(topics: &str) -> String {
    let claims = format!(r#"{{"mercure":{{"publish":[{topics}]}}}}"#);
    token::sign(&claims, PUBLISHER_KEY)
}

/// A token for subscribers of these topics.
fn subscriber_token(topics: &str) -> String {
    let claims = format!(r#"{{"mercure":{{"subscribe":[{topics}]}}}}"#);
    token::sign(&claims, SUBSCRIBER_KEY)
}

/// The claim of later drafts, for an action on a topic.
fn detail(action: &str, topic: &str) -> String {
    format!(
        r#"{{"authorization_details":[{{"type":"https://mercure.rocks/authorization-detail","actions":["{action}"],"topics":[{{"match":"{topic}"}}]}}]}}"#
    )
}
