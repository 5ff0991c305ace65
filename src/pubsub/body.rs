//! A publication as plain data, which the history and the mailboxes of several reactors share.

use std::borrow::Cow;
use std::sync::Arc;

use super::event::{Event, Payload};

/// Most that a publication leaves allocated in the scratch buffer, in bytes. One publication of a
/// megabyte does not keep a megabyte.
const SCRATCH_BYTES_MAX: usize = 64 * 1024;

/// The bytes that a shared body counts beside its content: its reference counts and the allocator's.
const SHARED_BYTES: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Json,
    Binary,
}

/// The bytes of the length of an extra text, which stands at the end.
const EXTRA_LENGTH_BYTES: usize = size_of::<u32>();

/// The topic, name, key, data and extra text of a publication, in one allocation. A clone shares it, also with
/// another thread.
#[derive(Clone, Debug)]
pub struct Body {
    /// Topic, name, key and data, one behind the other. With an extra text behind them, and then its length, because
    /// few publications have one.
    bytes: Arc<[u8]>,
    topic_bytes: u32,
    /// The length plus one; zero where there is no name.
    name: u32,
    /// As `name`.
    key: u32,
    kind: Kind,
    has_extra: bool,
}

/// The buffer in which bodies are put together, so that each costs one allocation.
#[derive(Debug, Default)]
pub struct Scratch(Vec<u8>);

impl Body {
    /// Copies a publication.
    pub fn new(topic: &str, event: &Event<'_>, scratch: &mut Scratch) -> Body {
        let (kind, data) = match event.payload() {
            Payload::Text(text) => (Kind::Text, text.as_bytes()),
            Payload::Json(text) => (Kind::Json, text.as_bytes()),
            Payload::Binary(bytes) => (Kind::Binary, &**bytes),
        };
        let (name, key) = (event.name(), event.key_name());
        let Scratch(scratch) = scratch;
        scratch.clear();
        scratch.extend_from_slice(topic.as_bytes());
        scratch.extend_from_slice(name.unwrap_or_default().as_bytes());
        scratch.extend_from_slice(key.unwrap_or_default().as_bytes());
        scratch.extend_from_slice(data);
        if let Some(extra) = event.extra_text() {
            scratch.extend_from_slice(extra.as_bytes());
            scratch.extend_from_slice(&length(extra).to_ne_bytes());
        }
        let body = Body {
            bytes: Arc::from(&scratch[..]),
            topic_bytes: length(topic),
            name: name.map_or(0, |name| length(name) + 1),
            key: key.map_or(0, |key| length(key) + 1),
            kind,
            has_extra: event.extra_text().is_some(),
        };
        if SCRATCH_BYTES_MAX < scratch.capacity() {
            *scratch = Vec::new();
        }
        body
    }

    /// The topic.
    pub fn topic(&self) -> &str {
        self.text(0, self.topic_bytes)
    }

    /// The key of the event, if it has one.
    pub fn key(&self) -> Option<&str> {
        let begin = self.topic_bytes + self.name.saturating_sub(1);
        let bytes = self.key.checked_sub(1)?;
        Some(self.text(begin, bytes))
    }

    /// The event.
    pub fn event(&self) -> Event<'_> {
        let name = self.name.checked_sub(1);
        let name = name.map(|bytes| self.text(self.topic_bytes, bytes));
        let begin = self.topic_bytes + self.name.saturating_sub(1) + self.key.saturating_sub(1);
        let (content, extra) = self.split_extra();
        let data = &content[begin as usize..];
        let payload = match self.kind {
            Kind::Text => Payload::Text(Cow::Borrowed(checked(data))),
            Kind::Json => Payload::Json(Cow::Borrowed(checked(data))),
            Kind::Binary => Payload::Binary(Cow::Borrowed(data)),
        };
        Event::from_parts(name, self.key(), extra.map(checked), payload)
    }

    /// The memory of the shared part, in bytes, about.
    pub fn counted_bytes(&self) -> usize {
        self.bytes.len() + SHARED_BYTES
    }

    /// The bytes before the extra text, and that text.
    fn split_extra(&self) -> (&[u8], Option<&[u8]>) {
        if !self.has_extra {
            return (&self.bytes, None);
        }
        let (rest, length) = self
            .bytes
            .split_last_chunk::<EXTRA_LENGTH_BYTES>()
            .expect("the length stands at the end");
        let extra_bytes = u32::from_ne_bytes(*length) as usize;
        let (content, extra) = rest.split_at(rest.len() - extra_bytes);
        (content, Some(extra))
    }

    fn text(&self, begin: u32, bytes: u32) -> &str {
        checked(&self.bytes[begin as usize..][..bytes as usize])
    }
}

/// The length of a part. A text of 4 GiB is above every limit of what a client may send.
fn length(text: &str) -> u32 {
    u32::try_from(text.len()).expect("a name of a publication is below 4 GiB")
}

fn checked(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).expect("it was text when it was copied")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_the_publication_that_it_was_made_of() {
        let mut scratch = Scratch::default();
        let large = "x".repeat(SCRATCH_BYTES_MAX);
        let cases: &[Event<'_>] = &[
            "".into(),
            "text".into(),
            b"\xff\x00".into(),
            Event::new("").data(""),
            Event::new("name").json("{}"),
            Event::new("name").key("key").data(&*large),
            Event::message("a").key(""),
            Event::message("a").key("é"),
            Event::message("").extra(""),
            Event::new("n").key("k").binary(b"\xff\x00").extra("exträ"),
        ];
        for event in cases {
            let body = Body::new("tøpic", event, &mut scratch);
            assert_eq!(body.topic(), "tøpic");
            assert_eq!(body.event(), *event);
            assert_eq!(body.key(), event.key_name());
            assert_eq!(body.clone().event(), *event);
            assert!(scratch.0.capacity() <= SCRATCH_BYTES_MAX);
        }
    }
}
