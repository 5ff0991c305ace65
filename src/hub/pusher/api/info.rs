//! The attributes of channels that a request asks for: `info=user_count,subscription_count,cache`.

use crate::hub::parts::Parts;
use crate::protocol::json::quote;
use crate::protocol::pusher::channel::{Channel, ChannelKind};
use crate::pubsub::PresenceCounts;
use crate::reactor::reactor::Reactor;
use crate::server::reply::Reply;

use super::call::bad;
use crate::hub::pusher::app::PusherApp;
use crate::hub::pusher::subscription::{LastEvent, find_last};
use crate::hub::pusher::topic::topic_of;

/// The attributes that are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Info {
    pub(super) user_count: bool,
    pub(super) subscription_count: bool,
    pub(super) cache: bool,
}

impl Info {
    /// Reads the names of attributes, with commas between them.
    ///
    /// # Errors
    ///
    /// The answer 400 for another name.
    pub(super) fn parse(names: Option<&str>) -> Result<Info, Reply> {
        let mut info = Info::default();
        let names = names.unwrap_or_default().split(',').map(str::trim);
        for name in names.filter(|name| !name.is_empty()) {
            match name {
                "user_count" => info.user_count = true,
                "subscription_count" => info.subscription_count = true,
                "cache" => info.cache = true,
                _ => return Err(bad("info is of user_count, subscription_count and cache")),
            }
        }
        Ok(info)
    }

    pub(super) fn is_empty(self) -> bool {
        self == Info::default()
    }

    /// As these attributes of one channel. A channel without presence has no users.
    fn of(self, channel: Channel<'_>) -> Info {
        Info {
            user_count: self.user_count && channel.kind() == ChannelKind::Presence,
            cache: self.cache && channel.is_cache(),
            ..self
        }
    }
}

/// Calls `done` with the attributes of a channel, as the fields of a JSON object, each with a comma behind it.
pub(super) fn fields_of<S: 'static>(
    hub: &Parts<S>,
    reactor: &mut Reactor<S>,
    app: &PusherApp,
    channel: Channel<'_>,
    info: Info,
    done: impl FnOnce(&mut Reactor<S>, String) + 'static,
) {
    let topic = topic_of(app.id(), channel.name());
    let info = info.of(channel);
    let fields = counts(reactor.presence_counts(&topic), info);
    if !info.cache {
        return done(reactor, fields);
    }
    find_last(hub, reactor, &topic, move |reactor, last| {
        let cache = cache(reactor.unix_time(), &last);
        done(reactor, format!("{fields}{cache}"));
    });
}

/// The counts of a channel, as fields.
pub(super) fn counts(counts: PresenceCounts, info: Info) -> String {
    let mut fields = String::new();
    if info.user_count {
        fields.push_str(&format!("\"user_count\":{},", counts.users));
    }
    if info.subscription_count {
        fields.push_str(&format!("\"subscription_count\":{},", counts.connections));
    }
    fields
}

fn cache(now_unix: u64, last: &LastEvent) -> String {
    let Some(last) = last else {
        return String::new();
    };
    let data = quote(&last.body.event().payload().to_text());
    match last.seconds_left(now_unix) {
        Some(ttl) => format!("\"cache\":{{\"data\":{data},\"ttl\":{ttl}}},"),
        None => format!("\"cache\":{{\"data\":{data}}},"),
    }
}

/// An object of fields with commas behind them.
pub(super) fn object(fields: &str) -> String {
    format!("{{{}}}", fields.strip_suffix(',').unwrap_or(fields))
}
