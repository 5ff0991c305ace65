//! Notices in the words of the envelope and of event streams.

use crate::protocol::event_stream;
use crate::protocol::json::push_string;
use crate::pubsub::{BodyKind, Notice, Snapshot};

/// Whether the envelope and event streams have words for a notice: counts of connections are for those alone whose
/// protocol has them.
pub(crate) fn has(notice: &Notice<'_>) -> bool {
    !matches!(notice, Notice::Connections { .. })
}

/// Appends a notice as a message of the envelope.
pub(crate) fn encode(name: &str, notice: &Notice<'_>, out: &mut Vec<u8>) -> BodyKind {
    match notice {
        Notice::Joined { user, info } => {
            push_topic(name, "joined", out);
            push_user(user, *info, out);
            out.extend_from_slice(b"}}");
        }
        Notice::Left { user } => {
            push_topic(name, "left", out);
            push_user(user, None, out);
            out.extend_from_slice(b"}}");
        }
        Notice::Count { user_count } => {
            push_topic(name, "count", out);
            push_count(*user_count, out);
            out.push(b'}');
        }
        Notice::Connections { count } => {
            push_topic(name, "connections", out);
            push_count(*count, out);
            out.push(b'}');
        }
        Notice::Present { snapshot } => push_snapshot(name, snapshot, out),
        Notice::Gap { cursor } => push_cursor("gap", name, cursor, out),
        Notice::Lagged { cursor } => push_cursor("lagged", name, cursor, out),
    }
    BodyKind::Text
}

/// `{"topic":"t","FIELD":`.
fn push_topic(topic: &str, field: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"topic\":");
    push_string(topic, out);
    out.extend_from_slice(b",\"");
    out.extend_from_slice(field.as_bytes());
    out.extend_from_slice(b"\":");
}

/// Appends `{"topic":"t","present":[{"user","info"?,"connections":N}],"anonymous":N}`; where users are too many
/// to be listed `{"topic":"t","count":N,"anonymous":N}`.
pub(crate) fn push_snapshot(topic: &str, snapshot: &Snapshot, out: &mut Vec<u8>) {
    match &snapshot.users {
        Some(users) => {
            push_topic(topic, "present", out);
            out.push(b'[');
            for (index, present) in users.iter().enumerate() {
                if index != 0 {
                    out.push(b',');
                }
                push_user(&present.user.name, present.user.info.as_deref(), out);
                out.extend_from_slice(b",\"connections\":");
                push_count(present.connection_count, out);
                out.push(b'}');
            }
            out.push(b']');
        }
        None => {
            push_topic(topic, "count", out);
            push_count(snapshot.user_count, out);
        }
    }
    out.extend_from_slice(b",\"anonymous\":");
    push_count(snapshot.anonymous_count, out);
    out.push(b'}');
}

/// `{"user":"u","info":JSON`, without the brace at the end.
fn push_user(user: &str, info: Option<&str>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"user\":");
    push_string(user, out);
    if let Some(info) = info {
        out.extend_from_slice(b",\"info\":");
        out.extend_from_slice(info.as_bytes());
    }
}

/// `{"FIELD":"name","cursor":"c"}`.
fn push_cursor(field: &str, name: &str, cursor: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"");
    out.extend_from_slice(field.as_bytes());
    out.extend_from_slice(b"\":");
    push_string(name, out);
    out.extend_from_slice(b",\"cursor\":");
    push_string(cursor, out);
    out.push(b'}');
}

fn push_count(count: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(count.to_string().as_bytes());
}

/// Appends a notice as an event of an event stream, which has the name of its kind. A gap or a lag has its
/// cursor as the id and the name of its topic as data; others have no id, and the message of the envelope as data.
pub(crate) fn encode_event(name: &str, notice: &Notice<'_>, out: &mut Vec<u8>) -> BodyKind {
    let message = match notice.cursor() {
        Some(_) => name.to_owned(),
        None => message_of(name, notice),
    };
    push_event(Some(notice.name()), notice, &message, out)
}

/// Appends a notice as an event of an event stream with the envelope as its data, and no name of its own.
pub(crate) fn encode_envelope_event(
    name: &str,
    notice: &Notice<'_>,
    out: &mut Vec<u8>,
) -> BodyKind {
    push_event(None, notice, &message_of(name, notice), out)
}

fn message_of(name: &str, notice: &Notice<'_>) -> String {
    let mut message = Vec::new();
    encode(name, notice, &mut message);
    String::from_utf8(message).expect("JSON is UTF-8")
}

fn push_event(
    event_name: Option<&str>,
    notice: &Notice<'_>,
    data: &str,
    out: &mut Vec<u8>,
) -> BodyKind {
    event_stream::encode(event_name, notice.cursor(), data, out)
        .expect("neither the name of a notice nor a cursor has a line break");
    BodyKind::Text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pubsub::{PresentUser, User};

    fn present(name: &str, info: Option<&str>) -> PresentUser {
        let user = User {
            name: name.into(),
            info: info.map(Into::into),
        };
        PresentUser {
            user,
            connection_count: 2,
        }
    }

    #[test]
    fn notices_in_each_grammar() {
        let users = vec![present("a", Some("[1]")), present("\n", None)];
        let listed = Snapshot {
            users: Some(users),
            user_count: 2,
            anonymous_count: 3,
        };
        let counted = Snapshot {
            users: None,
            user_count: 1001,
            anonymous_count: 3,
        };
        let cases = [
            (
                Notice::Joined {
                    user: "a\"b",
                    info: Some(r#"{"nick":"A"}"#),
                },
                r#"{"topic":"t\n","joined":{"user":"a\"b","info":{"nick":"A"}}}"#,
                "event: joined\ndata: MESSAGE\n\n",
                "data: MESSAGE\n\n",
            ),
            (
                Notice::Joined {
                    user: "u",
                    info: None,
                },
                r#"{"topic":"t\n","joined":{"user":"u"}}"#,
                "event: joined\ndata: MESSAGE\n\n",
                "data: MESSAGE\n\n",
            ),
            (
                Notice::Left { user: "u" },
                r#"{"topic":"t\n","left":{"user":"u"}}"#,
                "event: left\ndata: MESSAGE\n\n",
                "data: MESSAGE\n\n",
            ),
            (
                Notice::Count { user_count: 1001 },
                r#"{"topic":"t\n","count":1001}"#,
                "event: count\ndata: MESSAGE\n\n",
                "data: MESSAGE\n\n",
            ),
            (
                Notice::Present { snapshot: &listed },
                concat!(
                    r#"{"topic":"t\n","present":[{"user":"a","info":[1],"connections":2},"#,
                    r#"{"user":"\n","connections":2}],"anonymous":3}"#
                ),
                "event: present\ndata: MESSAGE\n\n",
                "data: MESSAGE\n\n",
            ),
            (
                Notice::Present { snapshot: &counted },
                r#"{"topic":"t\n","count":1001,"anonymous":3}"#,
                "event: present\ndata: MESSAGE\n\n",
                "data: MESSAGE\n\n",
            ),
            (
                Notice::Gap { cursor: "1f:10" },
                r#"{"gap":"t\n","cursor":"1f:10"}"#,
                "id: 1f:10\nevent: gap\ndata: t\ndata: \n\n",
                "id: 1f:10\ndata: MESSAGE\n\n",
            ),
        ];
        for (notice, message, event, envelope_event) in cases {
            let encoders = [
                (
                    encode as fn(&str, &Notice<'_>, &mut Vec<u8>) -> BodyKind,
                    "MESSAGE",
                ),
                (encode_event, event),
                (encode_envelope_event, envelope_event),
            ];
            for (encode, expected) in encoders {
                let mut out = b"before".to_vec();
                assert_eq!(encode("t\n", &notice, &mut out), BodyKind::Text);
                let out = String::from_utf8(out).unwrap();
                let expected = format!("before{}", expected.replace("MESSAGE", message));
                assert_eq!(out, expected, "{notice:?}");
            }
        }
    }
}
