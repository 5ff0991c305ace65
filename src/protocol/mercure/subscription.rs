//! Documents about active subscriptions, in JSON-LD.
//!
//! Source: draft-dunglas-mercure-07, section 8.

use crate::protocol::http::form;
use crate::protocol::json::{push_string, quote};

use super::PATH;

/// The path of the list of subscriptions.
pub const SUBSCRIPTIONS: &str = "/.well-known/mercure/subscriptions";

/// The type of the content of a document.
pub const CONTENT_TYPE: &str = "application/ld+json";

/// The context of documents.
const CONTEXT: &str = "https://mercure.rocks/";

/// One selector of one subscriber.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The text of the selector.
    pub selector: String,
    /// The IRI of the subscriber.
    pub subscriber: String,
    /// The payload that its token gives, as JSON.
    pub payload: Option<String>,
}

impl Subscription {
    /// Its path, which is also the topic of events about it.
    pub fn path(&self) -> String {
        path_of(&self.selector, Some(&self.subscriber))
    }

    /// Its document.
    pub fn document(&self, is_active: bool) -> String {
        let mut json = format!("{{\"@context\":{}", quote(CONTEXT)).into_bytes();
        json.push(b',');
        self.push_members(is_active, &mut json);
        String::from_utf8(json).expect("JSON is UTF-8")
    }

    fn push_members(&self, is_active: bool, json: &mut Vec<u8>) {
        for (name, value) in [
            ("id", &*self.path()),
            ("type", "Subscription"),
            ("topic", &self.selector),
            ("subscriber", &self.subscriber),
        ] {
            push_string(name, json);
            json.push(b':');
            push_string(value, json);
            json.push(b',');
        }
        json.extend_from_slice(format!("\"active\":{is_active}").as_bytes());
        if let Some(payload) = &self.payload {
            json.extend_from_slice(b",\"payload\":");
            json.extend_from_slice(payload.as_bytes());
        }
        json.push(b'}');
    }
}

/// The document of a list, at its path, with the id of the last event before it.
pub fn list_document(path: &str, last_event_id: &str, subscriptions: &[Subscription]) -> String {
    let mut json = Vec::new();
    let open = [
        ("{\"@context\":", CONTEXT),
        (",\"id\":", path),
        (",\"type\":", "Subscriptions"),
        (",\"lastEventID\":", last_event_id),
    ];
    for (name, value) in open {
        json.extend_from_slice(name.as_bytes());
        push_string(value, &mut json);
    }
    json.extend_from_slice(b",\"subscriptions\":[");
    for (index, subscription) in subscriptions.iter().enumerate() {
        if index != 0 {
            json.push(b',');
        }
        json.push(b'{');
        subscription.push_members(true, &mut json);
    }
    json.extend_from_slice(b"]}");
    String::from_utf8(json).expect("JSON is UTF-8")
}

/// The path of the subscriptions by a selector, or of that of one subscriber.
fn path_of(selector: &str, subscriber: Option<&str>) -> String {
    let mut path = format!("{SUBSCRIPTIONS}/{}", form::encode_component(selector));
    if let Some(subscriber) = subscriber {
        path.push('/');
        path.push_str(&form::encode_component(subscriber));
    }
    path
}

/// The part of the list that a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// All subscriptions.
    All,
    /// Those by a selector.
    Of(String),
    /// That of a subscriber by a selector.
    One(String, String),
}

impl Asked {
    /// Reads a path. `None` for another one.
    pub fn parse(path: &str) -> Option<Asked> {
        let rest = path.strip_prefix(SUBSCRIPTIONS)?;
        if rest.is_empty() {
            return Some(Asked::All);
        }
        let mut words = rest.strip_prefix('/')?.split('/');
        let mut word = || {
            let word = words.next().filter(|it| !it.is_empty())?;
            form::decode_path(word).map(|it| it.into_owned())
        };
        let selector = word()?;
        let asked = match rest.matches('/').count() {
            1 => Asked::Of(selector),
            2 => Asked::One(selector, word()?),
            _ => return None,
        };
        Some(asked)
    }

    /// Whether it asks for a subscription.
    pub fn is_for(&self, subscription: &Subscription) -> bool {
        match self {
            Asked::All => true,
            Asked::Of(selector) => *selector == subscription.selector,
            Asked::One(selector, subscriber) => {
                *selector == subscription.selector && *subscriber == subscription.subscriber
            }
        }
    }
}

/// Whether a topic is that of an event about a subscription.
pub fn is_event_topic(topic: &str) -> bool {
    debug_assert!(SUBSCRIPTIONS.starts_with(PATH));
    matches!(Asked::parse(topic), Some(Asked::One(..)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscription() -> Subscription {
        Subscription {
            selector: "https://example.com/{id}".into(),
            subscriber: "urn:uuid:bb3de268-05b0-4c65-b44e-8f9acefc29d6".into(),
            payload: Some(r#"{"foo":"bar"}"#.into()),
        }
    }

    #[test]
    fn documents() {
        let own = r#""id":"/.well-known/mercure/subscriptions/https%3A%2F%2Fexample.com%2F%7Bid%7D/urn%3Auuid%3Abb3de268-05b0-4c65-b44e-8f9acefc29d6","type":"Subscription","topic":"https://example.com/{id}","subscriber":"urn:uuid:bb3de268-05b0-4c65-b44e-8f9acefc29d6","active":true,"payload":{"foo":"bar"}}"#;
        let context = r#"{"@context":"https://mercure.rocks/","#;
        assert_eq!(subscription().document(true), format!("{context}{own}"));
        let plain = Subscription {
            payload: None,
            ..subscription()
        };
        assert!(plain.document(false).ends_with(r#""active":false}"#));
        let list = list_document("/x", "#1:2", &[subscription(), subscription()]);
        let head = r##""id":"/x","type":"Subscriptions","lastEventID":"#1:2","subscriptions":["##;
        assert_eq!(list, format!("{context}{head}{{{own},{{{own}]}}"));
        assert!(list_document("/x", "#1:2", &[]).ends_with("\"subscriptions\":[]}"));
    }

    #[test]
    fn paths() {
        let one = subscription();
        let path = one.path();
        assert!(is_event_topic(&path));
        let asked = Asked::One(one.selector.clone(), one.subscriber.clone());
        assert_eq!(Asked::parse(&path), Some(asked.clone()));
        assert!(asked.is_for(&one) && Asked::All.is_for(&one));
        let of = Asked::parse("/.well-known/mercure/subscriptions/https:%2F%2Fexample.com%2F{id}");
        assert!(of.unwrap().is_for(&one));
        assert_eq!(Asked::parse(SUBSCRIPTIONS), Some(Asked::All));
        for path in ["", "/a", "/a/b/c", "/a/", "//b", "/%FF"] {
            let asked = Asked::parse(&format!("{SUBSCRIPTIONS}{path}"));
            assert!(
                !asked.is_some_and(|it| it.is_for(&one)) || path.is_empty(),
                "{path}"
            );
        }
        for path in ["/", "/a/", "//b", "/a//", "/a/b/c", "/%FF", "x"] {
            assert_eq!(
                Asked::parse(&format!("{SUBSCRIPTIONS}{path}")),
                None,
                "{path}"
            );
        }
    }
}
