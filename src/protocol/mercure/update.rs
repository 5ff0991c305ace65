//! Updates: the form by which a publisher publishes.
//!
//! Source: draft-dunglas-mercure-08, section 5.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

use crate::protocol::digits::parse_decimal;
use crate::protocol::http::form;

use super::EARLIEST;
use super::topic::{self, TopicError, is_reserved, is_visible};

/// The most topics of an update. It is published to each of them.
pub const TOPICS_MAX: usize = 100;

/// The longest id and the longest type, in bytes.
pub const FIELD_BYTES_MAX: usize = 1024;

/// The type of events that only the hub publishes.
const RESERVED_TYPE: &str = "mercure";

/// A publication as a publisher has sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update<'f> {
    /// The canonical topic and then the alternate ones, each once. There is at least one.
    pub topics: Vec<Cow<'f, str>>,
    /// The data, which may be empty.
    pub data: Cow<'f, str>,
    /// Only subscribers get it whose token grants one of its topics.
    pub is_private: bool,
    /// The id that the publisher has chosen.
    pub id: Option<Cow<'f, str>>,
    /// The type of the event.
    pub event_type: Option<Cow<'f, str>>,
    /// The time after which a subscriber connects again, in milliseconds.
    pub retry_ms: Option<u64>,
}

/// Why a form is no update.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UpdateError {
    /// A field is not UTF-8 text.
    Encoding,
    /// This field stands there twice.
    Repeated(&'static str),
    /// There is no field `topic`.
    NoTopic,
    /// There are more than [`TOPICS_MAX`].
    TooManyTopics,
    /// A topic is not valid.
    Topic(TopicError),
    /// A topic is `*`, or in the namespace of the hub.
    ReservedTopic,
    /// The id is too long, is not visible, is reserved or begins with `#`.
    Id,
    /// The type is too long, is not visible or is reserved.
    Type,
    /// The time is no number of milliseconds.
    Retry,
}

impl fmt::Display for UpdateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UpdateError::Encoding => f.write_str("the form is not UTF-8 text"),
            UpdateError::Repeated(field) => write!(f, "{field}: expected at most one"),
            UpdateError::NoTopic => f.write_str("topic: expected at least one"),
            UpdateError::TooManyTopics => write!(f, "topic: expected at most {TOPICS_MAX}"),
            UpdateError::Topic(error) => write!(f, "topic: {error}"),
            UpdateError::ReservedTopic => {
                f.write_str("topic: expected one that is not * and not of the hub itself")
            }
            UpdateError::Id => write!(
                f,
                "id: expected at most {FIELD_BYTES_MAX} bytes without invisible characters, not {EARLIEST} and not \
                 beginning with #"
            ),
            UpdateError::Type => write!(
                f,
                "type: expected at most {FIELD_BYTES_MAX} bytes without invisible characters, and not {RESERVED_TYPE}"
            ),
            UpdateError::Retry => f.write_str("retry: expected a number of milliseconds"),
        }
    }
}

impl Error for UpdateError {}

impl<'f> Update<'f> {
    /// Reads a form. Fields with other names are left out; an empty id, type or time is as none.
    ///
    /// # Errors
    ///
    /// [`UpdateError`] for the first field that is not valid.
    pub fn parse(form: &'f str) -> Result<Update<'f>, UpdateError> {
        let mut topics: Vec<Cow<'f, str>> = Vec::new();
        let mut is_private = false;
        let (mut data, mut id, mut event_type, mut retry) = (None, None, None, None);
        for pair in form::try_pairs(form) {
            let (name, value) = pair.ok_or(UpdateError::Encoding)?;
            let (field, place) = match &*name {
                "topic" => {
                    check_topic(&value)?;
                    if !topics.contains(&value) {
                        topics.push(value);
                    }
                    if TOPICS_MAX < topics.len() {
                        return Err(UpdateError::TooManyTopics);
                    }
                    continue;
                }
                // Its value has no meaning.
                "private" => {
                    is_private = true;
                    continue;
                }
                "data" => ("data", &mut data),
                "id" => ("id", &mut id),
                "type" => ("type", &mut event_type),
                "retry" => ("retry", &mut retry),
                _ => continue,
            };
            if place.replace(value).is_some() {
                return Err(UpdateError::Repeated(field));
            }
        }
        if topics.is_empty() {
            return Err(UpdateError::NoTopic);
        }
        let given = |field: Option<Cow<'f, str>>| field.filter(|it| !it.is_empty());
        let id = given(id);
        if !id.as_deref().is_none_or(is_id) {
            return Err(UpdateError::Id);
        }
        let event_type = given(event_type);
        let is_type = |it: &str| it != RESERVED_TYPE && is_field(it);
        if !event_type.as_deref().is_none_or(is_type) {
            return Err(UpdateError::Type);
        }
        let retry_ms = match given(retry) {
            None => None,
            Some(text) => Some(parse_decimal(text.as_bytes()).ok_or(UpdateError::Retry)?),
        };
        Ok(Update {
            topics,
            data: data.unwrap_or_default(),
            is_private,
            id,
            event_type,
            retry_ms,
        })
    }
}

fn check_topic(topic: &str) -> Result<(), UpdateError> {
    topic::check(topic).map_err(UpdateError::Topic)?;
    match topic == "*" || is_reserved(topic) {
        true => Err(UpdateError::ReservedTopic),
        false => Ok(()),
    }
}

/// Whether a text may be the id of an update.
pub fn is_id(text: &str) -> bool {
    !text.starts_with('#') && text != EARLIEST && is_field(text)
}

fn is_field(text: &str) -> bool {
    text.len() <= FIELD_BYTES_MAX && is_visible(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_read() {
        // As Symfony's publisher sends it.
        let form = "topic=https%3A%2F%2Fexample.com%2Fbooks%2F1&topic=https%3A%2F%2Fexample.com%2Freviews%2F%7Bid%7D\
                    &data=Hi+from+%22Symfony%22%21&private=on&id=id&type=the+type&retry=3";
        let update = Update {
            topics: vec![
                "https://example.com/books/1".into(),
                "https://example.com/reviews/{id}".into(),
            ],
            data: "Hi from \"Symfony\"!".into(),
            is_private: true,
            id: Some("id".into()),
            event_type: Some("the type".into()),
            retry_ms: Some(3),
        };
        assert_eq!(Update::parse(form), Ok(update));
        let least = Update {
            topics: vec!["a".into()],
            data: "".into(),
            is_private: false,
            id: None,
            event_type: None,
            retry_ms: None,
        };
        for form in [
            "topic=a",
            "topic=a&topic=a&other=1&other=2&id=&type=&retry=&data=",
        ] {
            assert_eq!(Update::parse(form).as_ref(), Ok(&least), "{form}");
        }
        for private in ["private", "private=", "private=off&private=0"] {
            let form = format!("topic=a&{private}");
            assert!(Update::parse(&form).unwrap().is_private, "{form}");
        }
        let lines = Update::parse("topic=a&data=1%0A2%0D%0A3").unwrap();
        assert_eq!(lines.data, "1\n2\r\n3");
    }

    #[test]
    fn forms_that_are_no_updates() {
        use UpdateError::{
            Encoding, Id, NoTopic, Repeated, ReservedTopic, Retry, TooManyTopics, Topic, Type,
        };
        let many: String = (0..=TOPICS_MAX).map(|it| format!("&topic={it}")).collect();
        let long = format!("topic={}", "x".repeat(1025));
        let long_id = format!("topic=a&id={}", "x".repeat(FIELD_BYTES_MAX + 1));
        let long_type = format!("topic=a&type={}", "x".repeat(FIELD_BYTES_MAX + 1));
        let cases = [
            ("", NoTopic),
            ("data=x", NoTopic),
            ("Topic=a", NoTopic),
            ("topic=", Topic(TopicError::Empty)),
            ("topic", Topic(TopicError::Empty)),
            ("topic=a&topic=b%0Ac", Topic(TopicError::Character)),
            (&long, Topic(TopicError::TooLong { bytes: 1025 })),
            (&many, TooManyTopics),
            ("topic=%FF", Encoding),
            ("topic=a&data=%FF", Encoding),
            ("topic=*", ReservedTopic),
            (
                "topic=a&topic=/.well-known/mercure/subscriptions/a/b",
                ReservedTopic,
            ),
            ("topic=a&data=1&data=2", Repeated("data")),
            ("topic=a&id=1&id=1", Repeated("id")),
            ("topic=a&type=&type=", Repeated("type")),
            ("topic=a&retry=1&retry=2", Repeated("retry")),
            ("topic=a&id=%23x", Id),
            ("topic=a&id=earliest", Id),
            ("topic=a&id=a%0Adata:+x", Id),
            ("topic=a&id=a%00", Id),
            ("topic=a&id=a%E2%80%8B", Id),
            (&long_id, Id),
            ("topic=a&type=mercure", Type),
            ("topic=a&type=a%0D", Type),
            (&long_type, Type),
            ("topic=a&retry=x", Retry),
            ("topic=a&retry=-1", Retry),
            ("topic=a&retry=%2B1", Retry),
            ("topic=a&retry=1.5", Retry),
            ("topic=a&retry=99999999999999999999", Retry),
        ];
        for (form, expected) in cases {
            assert_eq!(Update::parse(form), Err(expected.clone()), "{form}");
            assert!(!expected.to_string().is_empty());
        }
    }
}
