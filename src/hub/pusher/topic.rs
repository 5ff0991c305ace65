//! The topics of channels: their names and their rules.

use std::time::Duration;

use crate::pubsub::{Rule, Rules};

use crate::hub::parts::HubOptions;

/// The front of the topics of channels.
pub(super) const TOPIC: &str = "pusher:";

/// The front of the part behind the app, in topics of the connections that watch a user.
pub(super) const ONLINE: &str = "#online-";

/// For how long a cache channel has its last event.
pub(super) const CACHE_AGE: Duration = Duration::from_secs(30 * 60);

/// Puts the rules of channels in front of those of other topics, so that none of these makes a private channel public.
/// For public channels others hold.
pub(crate) fn with_rules(mut options: HubOptions) -> HubOptions {
    if options.pusher_apps.is_empty() {
        return options;
    }
    let mut all = Rules::new();
    let public = Rule::default();
    let private = Rule {
        is_private: true,
        ..Rule::default()
    };
    let presence = Rule {
        has_presence: true,
        ..private.clone()
    };
    let cache = |rule: &Rule| Rule {
        history_count: 1,
        history_age: CACHE_AGE,
        ..rule.clone()
    };
    // The first one that matches holds.
    for (channels, rule) in [
        ("cache-*", cache(&public)),
        ("private-cache-*", cache(&private)),
        ("private-encrypted-cache-*", cache(&private)),
        ("private-*", private.clone()),
        ("presence-cache-*", cache(&presence)),
        ("presence-*", presence),
        // Of users: their own, and those of who watches them.
        ("#*", private),
    ] {
        let pattern = format!("{TOPIC}*:{channels}");
        all.add(&pattern, rule)
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

/// The rule of public channels, where there are apps: they are open to all clients, unless a rule before says otherwise.
#[cfg(feature = "cable")]
pub(crate) fn public_rule(options: &HubOptions) -> Option<(String, Rule)> {
    let has_apps = !options.pusher_apps.is_empty();
    has_apps.then(|| (format!("{TOPIC}*"), Rule::default()))
}

/// The topic of a channel.
pub(super) fn topic_of(app_id: &str, channel: &str) -> String {
    format!("{TOPIC}{app_id}:{channel}")
}

/// The topic of the connections that watch a user, in which those are present that have signed in as this user.
pub(super) fn online_topic(app_id: &str, user: &str) -> String {
    format!("{TOPIC}{app_id}:{ONLINE}{user}")
}

/// The topic in which all connections of an app are present, where they are counted.
pub(super) fn connections_topic(app_id: &str) -> String {
    format!("{TOPIC}{app_id}:#connections")
}

/// The channel of a topic. A topic of another kind is a channel of its own name.
pub(super) fn channel_of(topic: &str) -> &str {
    split(topic).map_or(topic, |(_, channel)| channel)
}

/// The id of the app and the channel of a topic, where it is that of one.
pub(super) fn split(topic: &str) -> Option<(&str, &str)> {
    topic.strip_prefix(TOPIC)?.split_once(':')
}
