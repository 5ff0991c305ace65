//! The commands of the envelope: JSON objects of clients, read without a data model.

use std::fmt;

use serde_core::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;

use crate::hub::subscribe::parse_cursor;
use crate::protocol::json;
use crate::pubsub::Since;

/// The longest `ref` of a command, in bytes of its JSON. It is kept until the answer.
const REFERENCE_BYTES_MAX: usize = 256;

/// A client's message.
pub(super) struct Message<'t> {
    fields: Fields<'t>,
}

/// The names of a command, of which the answer has the same shape.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Names {
    One(String),
    List(Vec<String>),
}

/// A request of a client.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command {
    Subscribe {
        names: Names,
        since: Option<Since>,
        is_latest: bool,
    },
    Unsubscribe(String),
    Publish {
        topic: String,
        event: Option<String>,
        key: Option<String>,
        is_to_others: bool,
        /// Valid JSON, as the client wrote it.
        data: String,
    },
    Auth(String),
    Presence(String),
}

impl Names {
    pub(super) fn as_slice(&self) -> &[String] {
        match self {
            Names::One(name) => std::slice::from_ref(name),
            Names::List(names) => names,
        }
    }
}

impl<'t> Message<'t> {
    /// The fields of a client's message.
    ///
    /// # Errors
    ///
    /// A sentence for the client.
    pub(super) fn parse(text: &'t str) -> Result<Message<'t>, String> {
        json::check_depth(text).map_err(|error| error.to_string())?;
        let fields = serde_json::from_str(text).map_err(|error| match error.classify() {
            Category::Data => error.to_string(),
            Category::Io | Category::Syntax | Category::Eof => format!("not JSON: {error}"),
        })?;
        Ok(Message { fields })
    }

    /// Whether it shows a token, which must not be sent back.
    pub(super) fn has_token(&self) -> bool {
        self.fields.value("auth").is_some()
    }

    /// The JSON by which the client knows the answer.
    ///
    /// # Errors
    ///
    /// A sentence for the client, when this is neither a string nor a number, or too long.
    pub(super) fn reference(&self) -> Result<Option<&'t str>, String> {
        let Some(value) = self.fields.value("ref") else {
            return Ok(None);
        };
        let text = value.get();
        let is_scalar = matches!(text.as_bytes(), [b'"' | b'-' | b'0'..=b'9', ..]);
        if !is_scalar || REFERENCE_BYTES_MAX < text.len() {
            return Err(format!(
                "\"ref\" must be a string or a number of at most {REFERENCE_BYTES_MAX} bytes"
            ));
        }
        Ok(Some(text))
    }

    /// The command of the message.
    ///
    /// # Errors
    ///
    /// A sentence for the client.
    pub(super) fn command(&self) -> Result<Command, String> {
        let fields = &self.fields;
        if 1 < fields.command_count() {
            return Err("a message has one command".into());
        }
        if let Some(names) = fields.value("subscribe") {
            return Ok(Command::Subscribe {
                names: parse_names(names)?,
                since: parse_since(fields.string("since")?)?,
                is_latest: fields.is_true("latest")?,
            });
        }
        if let Some(topic) = fields.string("unsubscribe")? {
            return Ok(Command::Unsubscribe(topic));
        }
        if let Some(token) = fields.string("auth")? {
            return Ok(Command::Auth(token));
        }
        if let Some(topic) = fields.string("presence")? {
            return Ok(Command::Presence(topic));
        }
        let Some(topic) = fields.string("publish")? else {
            let commands = "\"subscribe\", \"unsubscribe\", \"publish\", \"auth\" or \"presence\"";
            return Err(format!("expected {commands}"));
        };
        let data = fields.value("data").ok_or("\"publish\" needs \"data\"")?;
        Ok(Command::Publish {
            topic,
            event: fields.string("event")?,
            key: fields.string("key")?,
            is_to_others: fields.is_true("others")?,
            data: data.get().to_owned(),
        })
    }
}

fn parse_names(value: &RawValue) -> Result<Names, String> {
    let text = value.get();
    let names = match text.starts_with('[') {
        true => serde_json::from_str(text).map(Names::List),
        false => serde_json::from_str(text).map(Names::One),
    };
    match names {
        Ok(Names::List(names)) if names.is_empty() => Err("\"subscribe\" has no name".into()),
        names => {
            names.map_err(|_| "\"subscribe\" must be a string or a list of strings".to_owned())
        }
    }
}

fn parse_since(cursor: Option<String>) -> Result<Option<Since>, String> {
    let since = cursor.map(|cursor| parse_cursor(&cursor)).transpose();
    since.map_err(|error| format!("\"since\": {error}"))
}

/// The fields that a command is made of, those that name it first. Others are ignored.
const KNOWN: [&str; 12] = [
    "subscribe",
    "unsubscribe",
    "auth",
    "publish",
    "presence",
    "event",
    "data",
    "key",
    "others",
    "since",
    "latest",
    "ref",
];

/// How many of the [`KNOWN`] fields name a command.
const COMMANDS: usize = 5;

/// Limit of the fields in one message, known or not.
const FIELDS_MAX: usize = 64;

/// The values of the [`KNOWN`] fields as they stand in the message. Other fields are not kept, so
/// that a message of many small fields costs no memory.
#[derive(Default)]
struct Fields<'t>([Option<&'t RawValue>; KNOWN.len()]);

impl<'t> Fields<'t> {
    fn value(&self, name: &str) -> Option<&'t RawValue> {
        let index = KNOWN.iter().position(|known| *known == name)?;
        self.0[index]
    }

    /// How many commands the message names. Of two, one could be left out without a word.
    fn command_count(&self) -> usize {
        self.0[..COMMANDS].iter().flatten().count()
    }

    fn is_true(&self, name: &str) -> Result<bool, String> {
        let value = self.value(name);
        let value = value.map(|value| serde_json::from_str(value.get()));
        let value: Result<Option<bool>, _> = value.transpose();
        let value = value.map_err(|_| format!("\"{name}\" must be true or false"))?;
        Ok(value.unwrap_or(false))
    }

    fn string(&self, name: &str) -> Result<Option<String>, String> {
        let value = self.value(name);
        let text = value.map(|value| serde_json::from_str(value.get()));
        text.transpose()
            .map_err(|_| format!("\"{name}\" must be a string"))
    }
}

impl<'t> Deserialize<'t> for Fields<'t> {
    fn deserialize<D: Deserializer<'t>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'t> Visitor<'t> for FieldsVisitor {
    type Value = Fields<'t>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'t>>(self, mut map: A) -> Result<Fields<'t>, A::Error> {
        let mut fields = Fields::default();
        let mut count = 0;
        while let Some(FieldIndex(index)) = map.next_key()? {
            count += 1;
            if FIELDS_MAX < count {
                return Err(A::Error::custom(format_args!(
                    "more than {FIELDS_MAX} fields"
                )));
            }
            let Some(index) = index else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if fields.0[index].replace(map.next_value()?).is_some() {
                return Err(A::Error::duplicate_field(KNOWN[index]));
            }
        }
        Ok(fields)
    }
}

/// The index of a name in [`KNOWN`], also when the message escapes its letters. `None`: an unknown field.
struct FieldIndex(Option<usize>);

impl<'t> Deserialize<'t> for FieldIndex {
    fn deserialize<D: Deserializer<'t>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(NameVisitor)
    }
}

struct NameVisitor;

impl Visitor<'_> for NameVisitor {
    type Value = FieldIndex;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<FieldIndex, E> {
        Ok(FieldIndex(KNOWN.iter().position(|known| *known == name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pubsub::EventId;

    fn parse(text: &str) -> Result<Command, String> {
        Message::parse(text)?.command()
    }

    fn subscribe(names: Names, since: Option<Since>, is_latest: bool) -> Option<Command> {
        Some(Command::Subscribe {
            names,
            since,
            is_latest,
        })
    }

    #[test]
    fn commands() {
        let one = |name: &str| Names::One(name.into());
        let publish = |event: Option<&str>, data: &str| Command::Publish {
            topic: "t".into(),
            event: event.map(str::to_owned),
            key: None,
            is_to_others: false,
            data: data.into(),
        };
        let keyed = Command::Publish {
            topic: "t".into(),
            event: None,
            key: Some("k".into()),
            is_to_others: true,
            data: "1".into(),
        };
        let cursor = Since::Id(EventId::new(0x1f, 3));
        let list = Names::List(vec!["a".into(), "b".into()]);
        let cases: &[(&str, Option<Command>)] = &[
            (r#"{"subscribe":"a.*"}"#, subscribe(one("a.*"), None, false)),
            (
                r#"{"subscribe":["a","b"],"since":"1f:3"}"#,
                subscribe(list, Some(cursor), false),
            ),
            (
                r#"{"since":"earliest","latest":true,"subscribe":"a"}"#,
                subscribe(one("a"), Some(Since::Earliest), true),
            ),
            (r#"{"subscribe":"a","since":"1f"}"#, None),
            (r#"{"subscribe":"a","since":3}"#, None),
            (r#"{"subscribe":"a","latest":1}"#, None),
            (r#"{"subscribe":[]}"#, None),
            (r#"{"subscribe":["a",1]}"#, None),
            (r#"{"subscribe":7}"#, None),
            (
                r#"{"unsubscribe":"a"}"#,
                Some(Command::Unsubscribe("a".into())),
            ),
            (r#"{"auth":"secret"}"#, Some(Command::Auth("secret".into()))),
            (r#"{"presence":"t"}"#, Some(Command::Presence("t".into()))),
            (
                r#"{"publish":"t","data":{"b":1,"a":[2.50]}}"#,
                Some(publish(None, r#"{"b":1,"a":[2.50]}"#)),
            ),
            (
                r#"{"data":null,"event":"e","publish":"t"}"#,
                Some(publish(Some("e"), "null")),
            ),
            (
                r#"{"publish":"t","data":1,"key":"k","others":true}"#,
                Some(keyed),
            ),
            (r#"{"publish":"t","data":1,"others":"yes"}"#, None),
            (
                r#"{"what":["e",{"v":"er"}],"sub\u0073cribe":"a"}"#,
                subscribe(one("a"), None, false),
            ),
            // Of two values for one field, one could be checked and the other acted upon.
            (r#"{"subscribe":"a","subscribe":"b"}"#, None),
            (r#"{"subscribe":"a","unsubscribe":"b"}"#, None),
            (r#"{"auth":"a","\u0061uth":"a"}"#, None),
            (r#"{"publish":"t","data":1,"data":1}"#, None),
            (
                r#"{"what":1,"auth":"a","what":2}"#,
                Some(Command::Auth("a".into())),
            ),
            (r#"{"what":oops,"auth":"a"}"#, None),
            (r#"{"auth":"a"} {}"#, None),
            (r#"{"publish":"t"}"#, None),
            (r#"{"publish":7,"data":1}"#, None),
            (r#"{"what":"ever"}"#, None),
            (r#"["subscribe"]"#, None),
            ("chat", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text).ok(), *expected, "{text}");
        }
    }

    #[test]
    fn a_reference_is_a_string_or_a_number() {
        let long = format!("\"{}\"", "x".repeat(REFERENCE_BYTES_MAX));
        let cases: &[(&str, Option<&str>)] = &[
            ("7", Some("7")),
            ("-1.5e3", Some("-1.5e3")),
            ("\"a\\n\"", Some("\"a\\n\"")),
            ("null", None),
            ("true", None),
            ("[1]", None),
            ("{}", None),
            (&long, None),
        ];
        for (reference, expected) in cases {
            let text = format!("{{\"subscribe\":\"a\",\"ref\":{reference}}}");
            let message = Message::parse(&text).unwrap();
            assert_eq!(message.reference().ok().flatten(), *expected, "{reference}");
        }
        let message = Message::parse(r#"{"subscribe":"a"}"#).unwrap();
        assert_eq!(message.reference(), Ok(None));
    }

    #[test]
    fn a_message_that_shows_a_token_is_known() {
        for (text, expected) in [
            (r#"{"auth":"secret"}"#, true),
            (r#"{"auth":7}"#, true),
            (r#"{"\u0061uth":"secret","subscribe":""}"#, true),
            (r#"{"subscribe":"auth"}"#, false),
            (r#"{"publish":7}"#, false),
        ] {
            let message = Message::parse(text).ok().unwrap();
            assert_eq!(message.has_token(), expected, "{text}");
        }
    }

    // A mebibyte of fields, each kept in a map, took a tenth of a second.
    #[test]
    fn a_message_with_too_many_fields_is_refused() {
        let with = |others: usize| {
            let others: String = (0..others).map(|n| format!("\"{n}\":0,")).collect();
            parse(&format!("{{{others}\"subscribe\":\"t\"}}"))
        };
        let expected = subscribe(Names::One("t".into()), None, false);
        assert_eq!(with(FIELDS_MAX - 1).ok(), expected);
        let refused = with(FIELDS_MAX).unwrap_err();
        assert!(refused.contains("more than 64 fields"), "{refused}");
        // The rest of the message is not read.
        let begun = format!("{{{}", "\"a\":0,".repeat(FIELDS_MAX + 1));
        assert_eq!(
            parse(&begun).unwrap_err().split(" at ").next(),
            refused.split(" at ").next()
        );
    }
}
