//! The channels that are occupied, and their users.

use std::rc::Rc;

use crate::hub::parts::Parts;
use crate::protocol::json::quote;
use crate::protocol::pusher::channel::{Channel, ChannelKind};
use crate::server::reply::Reply;
use crate::server::request::Request;

use super::call::{Call, bad, json_reply};
use super::info::{Info, counts, fields_of, object};
use crate::hub::pusher::topic::topic_of;

/// The topics that are read from the presence of all reactors at once.
const PAGE_TOPICS: usize = 1000;

/// `GET /apps/ID/channels`.
pub(super) fn list<S: 'static>(
    request: &mut Request<'_, '_, S>,
    _: &Rc<Parts<S>>,
    call: &Call<'_>,
) -> Result<(), Reply> {
    let info = Info::parse(call.query("info"))?;
    let prefix = call.query("filter_by_prefix").unwrap_or_default();
    if info.user_count && !prefix.starts_with("presence-") {
        return Err(bad("user_count needs filter_by_prefix=presence-"));
    }
    if info.cache {
        return Err(bad("cache is for one channel"));
    }
    let prefix = topic_of(call.app().id(), prefix);
    let channels_from = topic_of(call.app().id(), "").len();
    let (mut after, mut members) = (None, String::new());
    loop {
        let reactor = &*request.reactor;
        let topics = reactor.topics_with_presence(&prefix, after.as_deref(), PAGE_TOPICS);
        for (topic, of_topic) in &topics {
            // Topics of users are no channels that a backend knows.
            let channel = &topic[channels_from..];
            if !channel.starts_with('#') {
                let fields = object(&counts(*of_topic, info));
                members.push_str(&format!("{}:{fields},", quote(channel)));
            }
        }
        if topics.len() < PAGE_TOPICS {
            break;
        }
        after = topics.last().map(|(topic, _)| Rc::<str>::from(&**topic));
    }
    let answer = format!("{{\"channels\":{}}}", object(&members));
    request.reply(json_reply(answer));
    Ok(())
}

/// `GET /apps/ID/channels/C`.
pub(super) fn one<S: 'static>(
    request: &mut Request<'_, '_, S>,
    hub: &Rc<Parts<S>>,
    call: &Call<'_>,
) -> Result<(), Reply> {
    let info = Info::parse(call.query("info"))?;
    let name = request.param("channel").unwrap_or_default();
    let channel = Channel::parse(&name).map_err(|error| bad(&error.to_string()))?;
    if info.user_count && channel.kind() != ChannelKind::Presence {
        return Err(bad("user_count is for presence channels"));
    }
    if info.cache && !channel.is_cache() {
        return Err(bad("cache is for cache channels"));
    }
    let topic = topic_of(call.app().id(), &name);
    let is_occupied = request.reactor.presence_counts(&topic).connections != 0;
    let info = match is_occupied {
        true => info,
        false => Info {
            user_count: false,
            subscription_count: false,
            ..info
        },
    };
    let responder = request.reply_later();
    let done = move |reactor: &mut crate::reactor::reactor::Reactor<S>, fields: String| {
        let answer = object(&format!("\"occupied\":{is_occupied},{fields}"));
        reactor.reply(responder, json_reply(answer));
    };
    fields_of(hub, request.reactor, call.app(), channel, info, done);
    Ok(())
}

/// `GET /apps/ID/channels/C/users`.
pub(super) fn users<S: 'static>(
    request: &mut Request<'_, '_, S>,
    _: &Rc<Parts<S>>,
    call: &Call<'_>,
) -> Result<(), Reply> {
    let name = request.param("channel").unwrap_or_default();
    let channel = Channel::parse(&name).map_err(|error| bad(&error.to_string()))?;
    if channel.kind() != ChannelKind::Presence {
        return Err(bad("users are known in presence channels"));
    }
    let snapshot = request.reactor.presence(&topic_of(call.app().id(), &name));
    let users = snapshot.users.unwrap_or_default();
    let ids = users
        .iter()
        .map(|present| format!("{{\"id\":{}}}", quote(&present.user.name)));
    let ids: Vec<String> = ids.collect();
    request.reply(json_reply(format!("{{\"users\":[{}]}}", ids.join(","))));
    Ok(())
}
