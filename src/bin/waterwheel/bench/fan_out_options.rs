//! The options of `bench fan-out` and `bench sse`: who subscribes, and who publishes.

use super::report::{Report, rounded};

/// How a subscriber subscribes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subscription {
    /// By connecting: the server sends each message to all connections.
    Connected,
    /// With the name of the topic, over the hub's WebSocket.
    WebSocket,
    /// With a request for one of the hub's event streams.
    EventStream,
    /// With ActionCable's command for a channel of the application.
    ActionCable,
    /// With ActionCable's command for a stream by its plain name, as AnyCable has it.
    AnyCable,
}

/// How a publisher publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publishing {
    /// Messages on a WebSocket.
    Plain,
    /// The hub's `POST /publish`.
    Post,
    /// The hub's JSON envelope.
    Json,
    /// `PUBLISH` in Redis, where the server hears it.
    Redis,
}

impl Publishing {
    /// Its name in `--publish-by`.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Publishing::Plain => None,
            Publishing::Post => Some("post"),
            Publishing::Json => Some("json"),
            Publishing::Redis => Some("redis"),
        }
    }
}

#[derive(Debug, PartialEq)]
pub struct Options {
    pub subscribers: usize,
    pub publishers: usize,
    pub size: usize,
    /// Messages per second of all publishers together. `None` is a closed loop.
    pub rate: Option<f64>,
    /// Messages under way of each publisher, in a closed loop.
    pub in_flight: usize,
    pub subscription: Subscription,
    pub publishing: Publishing,
    pub topic: String,
    pub token: Option<String>,
    /// The URL of the Redis server, which may hold a password. There is one for [`Publishing::Redis`].
    pub redis: Option<String>,
}

impl Options {
    /// Connections to the server that is measured.
    pub fn connections(&self) -> usize {
        match self.publishing {
            Publishing::Redis => self.subscribers,
            Publishing::Plain | Publishing::Post | Publishing::Json => {
                self.subscribers + self.publishers
            }
        }
    }

    pub fn report(&self, report: &mut Report) {
        report.parameter("subscribers", self.subscribers);
        report.parameter("publishers", self.publishers);
        report.parameter("size", self.size);
        report.parameter("rate", self.rate.map(rounded));
        let in_flight = self.rate.is_none().then_some(self.in_flight);
        report.parameter("in_flight", in_flight);
        let protocol = match self.subscription {
            Subscription::Connected => "plain",
            Subscription::WebSocket | Subscription::EventStream => "waterwheel",
            Subscription::ActionCable => "actioncable",
            Subscription::AnyCable => "anycable",
        };
        let has_topic = self.publishing != Publishing::Plain;
        report.parameter("protocol", protocol);
        report.parameter("publish_by", self.publishing.name());
        report.parameter("topic", has_topic.then_some(self.topic.as_str()));
        // The token and the URL of Redis are secrets, and reports are passed on.
        report.parameter("token", self.token.is_some());
    }
}
