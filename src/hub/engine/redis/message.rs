//! Messages between the reactors of all nodes, as bytes.
//!
//! A message is an array of words in the form of RESP: its kind, the reactor that has sent it, and what the kind needs. Each
//! program that may publish in Redis may send one.

use crate::hub::order::Order;
use crate::protocol::resp::{Reply, ReplyDecoder, encode_command};
use crate::pubsub::{MemberChange, User};

/// The longest message, in bytes.
const MESSAGE_BYTES_MAX: usize = 256 * 1024;

/// The words of a member: whether it joins, the topic, the kind of its user, the name and the description.
const MEMBER_WORDS: usize = 5;

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ControlMessage {
    /// An order about a user. The token is the sender's own number for it.
    Order {
        origin: u64,
        token: u64,
        order: Order,
    },
    /// How much an order has found. The origin and the token are those of the order.
    Answer {
        origin: u64,
        token: u64,
        count: usize,
    },
    /// Connections have joined and left.
    Present {
        origin: u64,
        sequence: u64,
        changes: Vec<MemberChange>,
    },
    /// The sender is alive. The number is that of its last message about members.
    Alive { origin: u64, sequence: u64 },
    /// The sender asks for the members of a reactor, or of all.
    Want { origin: u64, target: Option<u64> },
    /// Members of the sender, up to its message with this number.
    State {
        origin: u64,
        sequence: u64,
        part: Part,
        members: Vec<MemberChange>,
    },
}

/// Which part of a state it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub is_first: bool,
    pub is_last: bool,
}

impl ControlMessage {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut words = Vec::new();
        let mut begin = |kind: &str, numbers: [u64; 2]| {
            words.push(kind.to_owned());
            words.extend(numbers.map(|number| format!("{number:x}")));
        };
        match self {
            ControlMessage::Order {
                origin,
                token,
                order,
            } => {
                let (kind, user, name) = match order {
                    Order::Disconnect { user } => ("disconnect", user, None),
                    Order::Unsubscribe { user, name } => ("unsubscribe", user, Some(name)),
                };
                begin(kind, [*origin, *token]);
                words.push(user.clone());
                words.extend(name.cloned());
            }
            ControlMessage::Answer {
                origin,
                token,
                count,
            } => {
                begin("answer", [*origin, *token]);
                words.push(count.to_string());
            }
            ControlMessage::Present {
                origin,
                sequence,
                changes,
            } => {
                begin("present", [*origin, *sequence]);
                push_members(changes, &mut words);
            }
            ControlMessage::Alive { origin, sequence } => begin("alive", [*origin, *sequence]),
            ControlMessage::Want { origin, target } => {
                begin("want", [*origin, target.unwrap_or_default()]);
                words.push(if target.is_some() { "one" } else { "all" }.to_owned());
            }
            ControlMessage::State {
                origin,
                sequence,
                part,
                members,
            } => {
                begin("state", [*origin, *sequence]);
                let flags = [part.is_first, part.is_last];
                words.extend(flags.map(|flag| u8::from(flag).to_string()));
                push_members(members, &mut words);
            }
        }
        let mut out = Vec::new();
        encode_command(&words, &mut out);
        out
    }

    /// `None` for bytes that no node has written.
    pub(super) fn parse(bytes: &[u8]) -> Option<ControlMessage> {
        let mut rest = bytes;
        let mut decoder = ReplyDecoder::new(MESSAGE_BYTES_MAX);
        let reply = decoder.next_reply(&mut rest).ok()??;
        if !rest.is_empty() {
            return None;
        }
        let words: Option<Vec<&str>> = reply.as_array()?.iter().map(Reply::as_str).collect();
        let words = words?;
        let [kind, origin, number, ref arguments @ ..] = words[..] else {
            return None;
        };
        let origin = u64::from_str_radix(origin, 16).ok()?;
        let number = u64::from_str_radix(number, 16).ok()?;
        let order = |order| ControlMessage::Order {
            origin,
            token: number,
            order,
        };
        Some(match (kind, arguments) {
            ("disconnect", [user]) => order(Order::Disconnect {
                user: (*user).to_owned(),
            }),
            ("unsubscribe", [user, name]) => order(Order::Unsubscribe {
                user: (*user).to_owned(),
                name: (*name).to_owned(),
            }),
            ("answer", [count]) => ControlMessage::Answer {
                origin,
                token: number,
                count: count.parse().ok()?,
            },
            // The first message has the number 1.
            ("present", changes) if number != 0 => ControlMessage::Present {
                origin,
                sequence: number,
                changes: members(changes)?,
            },
            ("alive", []) => ControlMessage::Alive {
                origin,
                sequence: number,
            },
            ("want", [which @ ("one" | "all")]) => ControlMessage::Want {
                origin,
                target: (*which == "one").then_some(number),
            },
            ("state", [first, last, rest @ ..]) => ControlMessage::State {
                origin,
                sequence: number,
                part: Part {
                    is_first: *first == "1",
                    is_last: *last == "1",
                },
                members: members(rest)?,
            },
            _ => return None,
        })
    }
}

fn push_members(members: &[MemberChange], words: &mut Vec<String>) {
    for member in members {
        let user = member.user.as_ref();
        let info = user.and_then(|user| user.info.as_deref());
        let kind = match (user, info) {
            (None, _) => "anonymous",
            (Some(_), None) => "user",
            (Some(_), Some(_)) => "described",
        };
        let name = user.map_or("", |user| &*user.name);
        let change = if member.has_joined { "joined" } else { "left" };
        let texts = [change, &member.topic, kind, name, info.unwrap_or_default()];
        words.extend(texts.map(str::to_owned));
    }
}

fn members(words: &[&str]) -> Option<Vec<MemberChange>> {
    let entries = words.chunks(MEMBER_WORDS).map(|words| {
        let [change, topic, kind, name, info] = words[..] else {
            return None;
        };
        let has_joined = match change {
            "joined" => true,
            "left" => false,
            _ => return None,
        };
        let info = match kind {
            "anonymous" | "user" => None,
            "described" => Some(info.into()),
            _ => return None,
        };
        let user = (kind != "anonymous").then(|| User {
            name: name.into(),
            info,
        });
        Some(MemberChange {
            topic: topic.into(),
            user,
            has_joined,
        })
    });
    entries.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(user: Option<(&str, Option<&str>)>, has_joined: bool) -> MemberChange {
        MemberChange {
            topic: "room.1".into(),
            user: user.map(|(name, info)| User {
                name: name.into(),
                info: info.map(Into::into),
            }),
            has_joined,
        }
    }

    #[test]
    fn messages_come_back_as_they_were() {
        let order = |order| ControlMessage::Order {
            origin: u64::MAX,
            token: 0x1f,
            order,
        };
        let (origin, sequence) = (7, 0x10);
        let changes = vec![
            member(None, true),
            member(Some(("ann", None)), false),
            member(Some(("", Some(r#"{"n":1}"#))), true),
        ];
        let messages = [
            order(Order::Disconnect {
                user: "ada\r\n$".to_owned(),
            }),
            order(Order::Unsubscribe {
                user: String::new(),
                name: "a*".to_owned(),
            }),
            ControlMessage::Answer {
                origin,
                token: 1,
                count: 17,
            },
            ControlMessage::Present {
                origin,
                sequence,
                changes: changes.clone(),
            },
            ControlMessage::Alive { origin, sequence },
            ControlMessage::Want {
                origin,
                target: None,
            },
            ControlMessage::Want {
                origin,
                target: Some(0),
            },
            ControlMessage::State {
                origin,
                sequence: 0,
                part: Part {
                    is_first: true,
                    is_last: false,
                },
                members: changes,
            },
        ];
        for message in messages {
            assert_eq!(ControlMessage::parse(&message.encode()), Some(message));
        }
    }

    #[test]
    fn other_bytes_are_no_message() {
        let words: &[&[&str]] = &[
            &[],
            &["disconnect"],
            &["disconnect", "1", "2"],
            &["disconnect", "x", "2", "ada"],
            &["disconnect", "1", "2", "ada", "a"],
            &["unsubscribe", "1", "2", "ada"],
            &["answer", "1", "2", "-1"],
            &["answer", "1", "2", "99999999999999999999"],
            &["other", "1", "2", "ada"],
            &["present", "1", "0"],
            &["present", "1", "1", "joined"],
            &["present", "1", "1", "came", "t", "user", "ann", ""],
            &["present", "1", "1", "joined", "t", "guest", "ann", ""],
            &["alive", "1", "1", "x"],
            &["want", "1", "1"],
            &["want", "1", "1", "some"],
            &["state", "1", "1", "1"],
            &["state", "1", "1", "1", "1", "joined", "t"],
        ];
        for words in words {
            let mut bytes = Vec::new();
            encode_command(words, &mut bytes);
            assert_eq!(ControlMessage::parse(&bytes), None, "{words:?}");
        }
        let long = format!("*1\r\n$300000\r\n{}\r\n", "x".repeat(300_000));
        let texts = [
            "",
            "x",
            "*1\r\n",
            "+OK\r\n",
            ":1\r\n",
            "*0\r\n*0\r\n",
            &long,
        ];
        for text in texts {
            assert_eq!(ControlMessage::parse(text.as_bytes()), None, "{text:.20}");
        }
    }
}
