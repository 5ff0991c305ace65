//! Publications as events of a stream, and what an update says beside its data.

use std::time::Duration;

use crate::protocol::digits::parse_decimal;
use crate::protocol::event_stream;
use crate::pubsub::{BodyKind, EventId, Publication};

use super::topic;
use super::view::Views;

/// The id of an event that has none of its publisher: a fragment.
pub(super) fn fragment(id: EventId) -> String {
    format!("#{id}")
}

/// The parts of an update beside its data, as far as they are not in the name of the hub's topic: the extra text of its
/// publications.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Extra<'e> {
    /// The id.
    pub(super) id: Option<&'e str>,
    /// A number that no other update has, where there is an id: publishers may use an id again.
    pub(super) nonce: Option<&'e str>,
    pub(super) retry_ms: Option<u64>,
    /// All topics of the update, where it has several or one that is not in its name.
    pub(super) topics: Vec<&'e str>,
    /// The topic among them to which this is published.
    pub(super) index: usize,
}

impl<'e> Extra<'e> {
    /// One line for each part. No part has a line end in it.
    pub(super) fn encode(&self) -> Option<String> {
        let mut text = String::new();
        let mut push = |kind: char, part: &str| {
            text.push(kind);
            text.push_str(part);
            text.push('\n');
        };
        for (kind, part) in [('i', self.id), ('n', self.nonce)] {
            if let Some(part) = part {
                push(kind, part);
            }
        }
        if let Some(retry_ms) = self.retry_ms {
            push('r', &retry_ms.to_string());
        }
        for topic in &self.topics {
            push('t', topic);
        }
        if self.index != 0 {
            push('k', &self.index.to_string());
        }
        (!text.is_empty()).then_some(text)
    }

    /// Lines that it does not know are left out: other programs can write to Redis too.
    pub(super) fn parse(text: &'e str) -> Extra<'e> {
        let mut extra = Extra::default();
        for line in text.split('\n') {
            let Some((kind, part)) = line.split_at_checked(1) else {
                continue;
            };
            match kind {
                "i" => extra.id = Some(part).filter(|it| event_stream::is_field_value(it)),
                "n" => extra.nonce = Some(part),
                "r" => extra.retry_ms = parse_decimal(part.as_bytes()),
                "t" => extra.topics.push(part),
                "k" => {
                    let index = parse_decimal(part.as_bytes()).unwrap_or(0);
                    extra.index = usize::try_from(index).unwrap_or(usize::MAX);
                }
                _ => {}
            }
        }
        extra
    }
}

/// The topics of an update that was published to a name, and which of them that is.
pub(super) fn topics_of<'e>(extra: &Extra<'e>, topic: &'e str) -> (Vec<&'e str>, usize) {
    match extra.topics.is_empty() {
        true => (vec![topic], 0),
        false => (extra.topics.clone(), extra.index),
    }
}

/// Appends a publication as an event, unless the member does not see it: then nothing.
pub(super) fn encode(views: &Views, publication: &Publication<'_>, out: &mut Vec<u8>) -> BodyKind {
    let event = publication.event;
    let extra = event.extra_text().map(Extra::parse).unwrap_or_default();
    if publication.value != 0 {
        let is_seen = topic::split(publication.topic).is_some_and(|(_, topic)| {
            let (topics, index) = topics_of(&extra, topic);
            let is_private = views.is_private(publication.topic);
            let view = views.get(publication.value);
            view.is_some_and(|view| view.sees(&topics, index, is_private))
        });
        if !is_seen {
            return BodyKind::Text;
        }
    }
    if let Some(retry_ms) = extra.retry_ms {
        let mut lines = Vec::new();
        event_stream::encode_retry(Duration::from_millis(retry_ms), &mut lines);
        // Without the empty line, which would end the event.
        out.extend_from_slice(lines.strip_suffix(b"\n").unwrap_or_default());
    }
    let own_id = fragment(*publication.id);
    let id = extra.id.unwrap_or(&own_id);
    let data = event.payload().to_text();
    // The name of an event and its id have no line ends.
    let _ = event_stream::encode(event.name(), Some(id), &data, out);
    BodyKind::Text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extra_texts_come_back() {
        let topics = vec!["https://e.com/é", "b c"];
        let all = Extra {
            id: Some("urn:x"),
            nonce: Some("1f"),
            retry_ms: Some(0),
            topics,
            index: 1,
        };
        let text = all.encode().unwrap();
        assert_eq!(Extra::parse(&text), all);
        assert_eq!(Extra::default().encode(), None);
        for bad in ["", "\n\n", "x1", "é", "r1x", "ia\rb", "k-1"] {
            assert_eq!(Extra::parse(bad), Extra::default(), "{bad:?}");
        }
    }
}
