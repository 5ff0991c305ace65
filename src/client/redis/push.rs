//! The meaning of a push: a message, or the acknowledgement of a subscription.

use super::upstream::SubscriptionKind;
use crate::protocol::resp::Reply;

/// A message of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Message<'b> {
    /// The subscription by which it came: `name` is the pattern, or the channel.
    pub kind: SubscriptionKind,
    pub name: &'b [u8],
    pub channel: &'b [u8],
    pub payload: &'b [u8],
}

/// A push that concerns a subscription.
pub(super) enum Push<'b> {
    Message(Message<'b>),
    Subscribed(SubscriptionKind, &'b [u8]),
    Unsubscribed(SubscriptionKind, &'b [u8]),
}

impl<'b> Push<'b> {
    /// Parses a push, or what RESP2 has in its place. `None` for one of another kind.
    pub(super) fn parse(reply: &Reply<'b>) -> Option<Push<'b>> {
        use SubscriptionKind::{Channel, Pattern, Sharded};
        let [kind, values @ ..] = reply.as_array()? else {
            return None;
        };
        let bytes = |index: usize| values.get(index).and_then(Reply::as_bytes);
        let message = |kind, channel_index: usize| {
            Some(Push::Message(Message {
                kind,
                name: bytes(0)?,
                channel: bytes(channel_index)?,
                payload: bytes(channel_index + 1)?,
            }))
        };
        match kind.as_bytes()? {
            b"message" => message(Channel, 0),
            b"pmessage" => message(Pattern, 1),
            b"smessage" => message(Sharded, 0),
            b"subscribe" => Some(Push::Subscribed(Channel, bytes(0)?)),
            b"psubscribe" => Some(Push::Subscribed(Pattern, bytes(0)?)),
            b"ssubscribe" => Some(Push::Subscribed(Sharded, bytes(0)?)),
            b"unsubscribe" => Some(Push::Unsubscribed(Channel, bytes(0)?)),
            b"punsubscribe" => Some(Push::Unsubscribed(Pattern, bytes(0)?)),
            b"sunsubscribe" => Some(Push::Unsubscribed(Sharded, bytes(0)?)),
            _ => None,
        }
    }
}
