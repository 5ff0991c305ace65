//! The topics of channels: their names, their rules, and their publications as events.

use crate::protocol::pusher::message::{CLIENT_EVENT, push_client_event, push_event};
use crate::pubsub::{BodyKind, Payload, Publication, Rule, Rules};

use crate::hub::parts::HubOptions;

/// The front of the topics of channels.
const TOPIC: &str = "pusher:";

/// Puts the rules of channels in front of those of other topics, so that none of these makes a private channel public.
pub(crate) fn with_rules(mut options: HubOptions) -> HubOptions {
    if options.pusher_apps.is_empty() {
        return options;
    }
    let mut all = Rules::new();
    let private = Rule {
        is_private: true,
        ..Rule::default()
    };
    for channels in ["private-*", "presence-*", "#server-to-user-*"] {
        let pattern = format!("{TOPIC}*:{channels}");
        all.add(&pattern, private.clone())
            .expect("the pattern and the rule are valid");
    }
    for (pattern, rule) in options.rules.iter() {
        if let Err(error) = all.add(pattern, rule.clone()) {
            log::error!("the rule of {pattern:?} does not hold: {error}");
        }
    }
    options.rules = all;
    options
}

/// The topic of a channel.
pub(super) fn topic_of(app_id: &str, channel: &str) -> String {
    format!("{TOPIC}{app_id}:{channel}")
}

/// The channel of a topic. A topic of another kind is a channel of its own name.
fn channel_of(topic: &str) -> &str {
    let rest = topic.strip_prefix(TOPIC);
    let channel = rest.and_then(|rest| rest.split_once(':'));
    channel.map_or(topic, |(_, channel)| channel)
}

/// Appends a publication as an event of its channel. The data of an event that a client has sent is passed on as it came;
/// other data is a text, which is JSON where the publisher has said so.
pub(super) fn encode(publication: &Publication<'_>, out: &mut Vec<u8>) -> BodyKind {
    let channel = channel_of(publication.topic);
    let event = publication.event.name().unwrap_or("message");
    match publication.event.payload() {
        Payload::Json(data) if event.starts_with(CLIENT_EVENT) => {
            push_client_event(event, channel, data, None, out);
        }
        payload => push_event(event, channel, &payload.to_text(), out),
    }
    BodyKind::Text
}
