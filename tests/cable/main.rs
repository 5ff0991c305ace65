//! ActionCable: the clients of Rails, and what a backend broadcasts to them.

#![cfg(feature = "cable")]

mod broadcasts;
mod extended;
mod hook;
mod identity;
#[cfg(feature = "program")]
mod nodes;
#[cfg(feature = "program")]
mod programs;
mod random;
mod subscriptions;

#[path = "../support/answer.rs"]
mod answer;
#[cfg(feature = "program")]
#[path = "../support/redis_server.rs"]
mod redis_server;
#[cfg(feature = "program")]
#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

use waterwheel::hub::{Access, CableOptions, Hub, HubOptions, ReactorGroup};
use waterwheel::{Config, Sim, SimSocket};

/// `chat/2024`, signed with `s3Krit` by Rails 6.1.
const CHAT: &str =
    "ImNoYXQvMjAyNCI=--82a3fbb6e2c6083afdbd1a63564580bfcf9284f8bef3bce300c4b31b0b3e45e6";

/// `chat:2021`, signed alike.
const OTHER: &str =
    "ImNoYXQ6MjAyMSI=--f9ee45dbccb1da04d8ceb99cc820207804370ba0d06b46fc3b8b373af1315628";

const WELCOME: &str = r#"{"type":"welcome"}"#;

/// A hub on one reactor or several.
struct World {
    sims: Vec<Sim<()>>,
}

fn options() -> CableOptions {
    CableOptions {
        streams_keys: vec!["s3Krit".to_owned()],
        ..CableOptions::default()
    }
}

fn serve() -> World {
    serve_with(1, options(), &Access::default())
}

fn serve_with(reactor_count: usize, cable: CableOptions, access: &Access) -> World {
    serve_hub(reactor_count, access, || HubOptions {
        cable: Some(cable.clone()),
        ..HubOptions::default()
    })
}

fn serve_hub(reactor_count: usize, access: &Access, options: impl Fn() -> HubOptions) -> World {
    let group = ReactorGroup::new(reactor_count);
    let sim = |seed| {
        // The clients answer no pings of WebSocket.
        let mut config = Config::default();
        config.options.ping_interval = None;
        let mut sim = Sim::with_config(config, (), |reactor| {
            let hub = match reactor_count {
                1 => Hub::new(options()),
                _ => Hub::of_group(&group.join(reactor)?, options()),
            };
            reactor.http("0.0.0.0:80", |router| hub.mount(router, access))
        });
        sim.seed(seed);
        sim
    };
    World {
        sims: (1..=reactor_count as u64).map(sim).collect(),
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

    /// A client that was greeted.
    fn connect(&mut self) -> SimSocket {
        self.connect_to(0)
    }

    fn connect_to(&mut self, reactor: usize) -> SimSocket {
        let client = self.sims[reactor].websocket("/cable");
        self.settle();
        assert_eq!(client.received(), [WELCOME]);
        client
    }

    /// Sends a command, and returns what has come then.
    fn say(&mut self, client: &SimSocket, command: &str, identifier: &str) -> Vec<String> {
        client.send(command_text(command, identifier));
        self.settle();
        client.received()
    }

    /// A client that is subscribed.
    fn subscriber(&mut self, identifier: &str) -> SimSocket {
        let client = self.connect();
        self.subscribe(&client, identifier);
        client
    }

    fn subscribe(&mut self, client: &SimSocket, identifier: &str) {
        let answer = self.say(client, "subscribe", identifier);
        assert_eq!(answer, [confirmation(identifier)]);
    }

    fn publish(&mut self, topic: &str, json: &str) {
        let event = waterwheel::Event::message("").json(json);
        self.sims[0].reactor().publish(topic, event);
        self.settle();
    }

    /// The messages that have come to a client, in as many turns as it takes.
    fn read_all(&mut self, client: &SimSocket) -> Vec<String> {
        let mut all = Vec::new();
        let mut idle_rounds = 0;
        while idle_rounds < 20 {
            self.settle();
            let received = client.received();
            idle_rounds = if received.is_empty() {
                idle_rounds + 1
            } else {
                0
            };
            all.extend(received);
        }
        all
    }

    /// The answer to a request.
    fn request(&mut self, request: &str) -> answer::Answer {
        let stream = self.sims[0].connect();
        stream.write(request);
        self.settle();
        answer::answer(&stream.read())
    }
}

fn command_text(command: &str, identifier: &str) -> String {
    serde_json::json!({ "command": command, "identifier": identifier }).to_string()
}

/// The identifier of a stream whose name was signed.
fn signed(name: &str) -> String {
    serde_json::json!({ "channel": "$pubsub", "signed_stream_name": name }).to_string()
}

/// As [`signed`], with a parameter that makes it another one.
fn signed_too(name: &str) -> String {
    format!(r#"{{"channel":"$pubsub","signed_stream_name":"{name}","tab":2}}"#)
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn confirmation(identifier: &str) -> String {
    let identifier = quoted(identifier);
    format!(r#"{{"identifier":{identifier},"type":"confirm_subscription"}}"#)
}

fn rejection(identifier: &str) -> String {
    let identifier = quoted(identifier);
    format!(r#"{{"identifier":{identifier},"type":"reject_subscription"}}"#)
}

fn message(identifier: &str, json: &str) -> String {
    let identifier = quoted(identifier);
    format!(r#"{{"identifier":{identifier},"message":{json}}}"#)
}
