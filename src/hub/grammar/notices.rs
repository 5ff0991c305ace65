//! Notices in the words of the envelope and of event streams.

use crate::hub::json::push_string;
use crate::protocol::event_stream;
use crate::pubsub::{BodyKind, Notice};

/// Appends a notice as a message of the envelope.
pub(crate) fn encode(name: &str, notice: &Notice<'_>, out: &mut Vec<u8>) -> BodyKind {
    match notice {
        Notice::Joined { user, info } => {
            push_topic(name, "joined", out);
            out.extend_from_slice(b"{\"user\":");
            push_string(user, out);
            if let Some(info) = info {
                out.extend_from_slice(b",\"info\":");
                out.extend_from_slice(info.as_bytes());
            }
            out.extend_from_slice(b"}}");
        }
        Notice::Left { user } => {
            push_topic(name, "left", out);
            out.extend_from_slice(b"{\"user\":");
            push_string(user, out);
            out.extend_from_slice(b"}}");
        }
        Notice::Count { user_count } => {
            push_topic(name, "count", out);
            out.extend_from_slice(user_count.to_string().as_bytes());
            out.push(b'}');
        }
        Notice::Gap { cursor } => {
            out.extend_from_slice(b"{\"gap\":");
            push_string(name, out);
            out.extend_from_slice(b",\"cursor\":");
            push_string(cursor, out);
            out.push(b'}');
        }
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

/// Appends a notice as an event of an event stream, which has the name of its kind. A gap has its cursor as
/// the id and the name of its topic as data; others have no id, and the message of the envelope as data.
pub(crate) fn encode_event(name: &str, notice: &Notice<'_>, out: &mut Vec<u8>) -> BodyKind {
    let message = match notice {
        Notice::Gap { .. } => name.to_owned(),
        Notice::Joined { .. } | Notice::Left { .. } | Notice::Count { .. } => {
            message_of(name, notice)
        }
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
    let id = match notice {
        Notice::Gap { cursor } => Some(*cursor),
        Notice::Joined { .. } | Notice::Left { .. } | Notice::Count { .. } => None,
    };
    event_stream::encode(event_name, id, data, out)
        .expect("neither the name of a notice nor a cursor has a line break");
    BodyKind::Text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_in_each_grammar() {
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
