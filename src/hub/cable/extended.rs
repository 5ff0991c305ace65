//! The extended protocol: presence and whispers. History is part of a subscription.
//!
//! A whisper is published to a topic of its own, which has no history, so that it does not take the place of a broadcast
//! there. The members of the stream that may get whispers are members of this topic too.

use std::rc::Rc;

use crate::protocol::action_cable::message::{
    HistoryRequest, Position, Present, push_joined, push_left, push_present,
};
use crate::protocol::json;
use crate::pubsub::{BodyKind, Event, EventId, Notice, Since, User};
use crate::reactor::id::ConnId;
use crate::reactor::reactor::Reactor;

use crate::hub::parts::Parts;

use super::identifiers::{AS_IT_IS, SharedIdentifiers};

/// The front of the topics of whispers.
pub(super) const WHISPERS: &str = "whispers:";

/// The longest id of a user who is present, in bytes.
const ID_BYTES_MAX: usize = 128;

/// The longest information about a user, in bytes.
const INFO_BYTES_MAX: usize = 2048;

/// The topic of whispers to a stream.
pub(super) fn whispers_of(stream: &str) -> String {
    format!("{WHISPERS}{stream}")
}

/// The place of a publication, as a client is sent it and sends it back.
pub(super) fn position_of(id: &EventId) -> Position {
    let text = id.to_string();
    // The ids of some engines have more than a number: all of it is then the epoch, which is opaque to clients.
    let epoch = match text.split_once(':') {
        Some((epoch, number)) if number.bytes().all(|it| it.is_ascii_digit()) => epoch,
        _ => &text,
    };
    Position {
        epoch: epoch.to_owned(),
        offset: id.number,
    }
}

/// The cursor of a place. `None` where it was never sent.
fn cursor_of(position: &Position) -> Option<EventId> {
    let text = match position.epoch.contains(':') {
        true => position.epoch.clone(),
        false => format!("{}:{}", position.epoch, position.offset),
    };
    text.parse().ok()
}

/// Where the history of a stream begins that a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    /// With what is published from now on.
    Now,
    /// Behind this place.
    Past(EventId),
    /// At this time, in seconds since 1970.
    At(u64),
    /// At a place that is not known.
    Unknown,
}

impl Begin {
    pub(super) fn of(history: &HistoryRequest, stream: &str) -> Begin {
        match (history.streams.get(stream), history.since_unix) {
            (Some(position), _) => cursor_of(position).map_or(Begin::Unknown, Begin::Past),
            (None, Some(since_unix)) => Begin::At(since_unix),
            (None, None) => Begin::Now,
        }
    }

    /// The place from which the engine reads. `None` for now.
    pub(super) fn since(self) -> Option<Since> {
        match self {
            Begin::Now => None,
            Begin::Past(id) => Some(Since::Id(id)),
            Begin::At(_) | Begin::Unknown => Some(Since::Earliest),
        }
    }
}

/// Makes a client present in a stream.
///
/// # Errors
///
/// A sentence that says what is too long.
pub(super) fn join<S: 'static>(
    reactor: &mut Reactor<S>,
    id: ConnId,
    stream: &str,
    present: &Present,
) -> Result<(), String> {
    if present.id.is_empty() || ID_BYTES_MAX < present.id.len() {
        return Err(format!("the id of a user has 1 to {ID_BYTES_MAX} bytes"));
    }
    let info = present.info.as_deref();
    if INFO_BYTES_MAX < info.map_or(0, str::len) {
        return Err(format!(
            "the information about a user has at most {INFO_BYTES_MAX} bytes"
        ));
    }
    let user = User {
        name: present.id.as_str().into(),
        info: info.map(Into::into),
    };
    reactor.join_presence_told(id, stream, user);
    Ok(())
}

/// Sends a client the users of a stream.
pub(super) fn send_present<S: 'static>(
    reactor: &mut Reactor<S>,
    id: ConnId,
    identifier: &str,
    stream: &str,
) {
    let snapshot = reactor.presence(stream);
    let users = snapshot.users.as_deref().unwrap_or_default();
    let total = reactor.present_user_count(stream);
    let mut text = Vec::new();
    let users = users
        .iter()
        .map(|it| (&*it.user.name, it.user.info.as_deref()));
    push_present(&json::quote(identifier), total, users, &mut text);
    reactor.send(id, String::from_utf8(text).expect("its parts are texts"));
}

/// Publishes a whisper of a client for the others of a stream.
pub(super) fn whisper<S: 'static>(
    hub: &Rc<Parts<S>>,
    reactor: &mut Reactor<S>,
    id: ConnId,
    stream: &str,
    json: &str,
) {
    let except = hub.engine.place_of(id);
    let event = Event::message("").json(json);
    let topic = whispers_of(stream);
    let sent = hub
        .engine
        .publish(reactor, &topic, event, Some(except), move |_, outcome| {
            if let Err(error) = outcome {
                log::debug!("conn {id}: a whisper is dropped: {error}");
            }
        });
    if let Err(error) = sent {
        log::debug!("conn {id}: a whisper is dropped: {error}");
    }
}

/// Whether the protocol has words for a notice.
pub(super) fn has_notice(notice: &Notice<'_>) -> bool {
    match notice {
        Notice::Joined { .. } | Notice::Left { .. } | Notice::Present { .. } => true,
        Notice::Connections { .. } | Notice::Count { .. } => false,
        // A gap is told in the answer to a request for history.
        Notice::Gap { .. } | Notice::Lagged { .. } => false,
    }
}

/// The encoder of notices about users who are present, with the identifier of the subscription.
pub(super) fn notice_encoder(
    identifiers: SharedIdentifiers,
) -> impl Fn(u32, &Notice<'_>, &mut Vec<u8>) -> BodyKind {
    move |value, notice, out| {
        debug_assert_ne!(value, AS_IT_IS);
        let identifiers = identifiers.borrow();
        let quoted = identifiers.quoted(value).unwrap_or("\"\"");
        match notice {
            Notice::Joined { user, info } => push_joined(quoted, user, *info, out),
            Notice::Left { user } => push_left(quoted, user, out),
            // Changes were lost: the users anew.
            Notice::Present { snapshot } => {
                let users = snapshot.users.as_deref().unwrap_or_default();
                let all = users
                    .iter()
                    .map(|it| (&*it.user.name, it.user.info.as_deref()));
                push_present(quoted, users.len(), all, out);
            }
            _ => {}
        }
        BodyKind::Text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_comes_back_as_the_cursor() {
        let plain: EventId = "1f:7".parse().unwrap();
        let raw: EventId = "1f:7-3".parse().unwrap();
        for (id, epoch) in [(plain, "1f"), (raw, "1f:7-3")] {
            let position = position_of(&id);
            assert_eq!((&*position.epoch, position.offset), (epoch, 7));
            assert_eq!(cursor_of(&position), Some(id));
        }
        for epoch in ["", "x y", "1f:7:8", "1f:"] {
            let position = Position {
                epoch: epoch.to_owned(),
                offset: 1,
            };
            assert_eq!(cursor_of(&position), None, "{epoch}");
        }
    }
}
