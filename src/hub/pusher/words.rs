//! The messages of clients for publications and notices of topics.

use crate::protocol::pusher::message::{
    self, CLIENT_EVENT, member_added, member_removed, push_client_event, push_event,
    subscription_count, subscription_succeeded, watchlist_events,
};
use crate::pubsub::{BodyKind, Notice, Payload, Publication, Snapshot};

use super::topic::{ONLINE, channel_of};

/// The members of a presence channel, as data of the answer to a subscription.
pub(super) fn roster(snapshot: &Snapshot) -> String {
    let users = snapshot.users.as_deref().unwrap_or_default();
    let members = users.iter().map(|present| &present.user);
    message::presence(members.map(|user| (&*user.name, user.info.as_deref())))
}

/// Appends a publication as an event of its channel. The data of an event that a client has sent is passed on as it came;
/// other data is a text, which is JSON where the publisher has said so.
pub(super) fn encode(publication: &Publication<'_>, out: &mut Vec<u8>) -> BodyKind {
    let channel = channel_of(publication.topic);
    let event = publication.event.name().unwrap_or("message");
    match publication.event.payload() {
        Payload::Json(data) if event.starts_with(CLIENT_EVENT) => {
            let user = publication.event.key_name();
            push_client_event(event, channel, data, user, out);
        }
        payload => push_event(event, channel, &payload.to_text(), out),
    }
    BodyKind::Text
}

/// Whether the protocol has words for a notice.
pub(super) fn has_notice(notice: &Notice<'_>) -> bool {
    match notice {
        Notice::Joined { .. }
        | Notice::Left { .. }
        | Notice::Connections { .. }
        | Notice::Present { .. } => true,
        // Fewer users may be in a channel than are listed.
        Notice::Count { .. } => false,
        // Clients have no cursors.
        Notice::Gap { .. } | Notice::Lagged { .. } => false,
    }
}

/// Appends a notice that [has words](has_notice): users of a presence channel, or users that are watched.
pub(super) fn encode_notice(topic: &str, notice: &Notice<'_>, out: &mut Vec<u8>) -> BodyKind {
    let channel = channel_of(topic);
    let is_watched = channel.starts_with(ONLINE);
    let message = match notice {
        Notice::Joined { user, .. } if is_watched => watchlist_events(&[user], &[]),
        Notice::Left { user } if is_watched => watchlist_events(&[], &[user]),
        Notice::Joined { user, info } => member_added(channel, user, *info),
        Notice::Left { user } => member_removed(channel, user),
        Notice::Present { snapshot } if is_watched => {
            let users = snapshot.users.as_deref().unwrap_or_default();
            let names: Vec<&str> = users.iter().map(|it| &*it.user.name).collect();
            watchlist_events(&names, &[])
        }
        // Changes were lost: the members anew, as in the answer to a subscription.
        Notice::Present { snapshot } => subscription_succeeded(channel, &roster(snapshot)),
        Notice::Connections { count } => subscription_count(channel, *count),
        Notice::Count { .. } | Notice::Gap { .. } | Notice::Lagged { .. } => String::new(),
    };
    out.extend_from_slice(message.as_bytes());
    BodyKind::Text
}
