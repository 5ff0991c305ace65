//! The claims of a token: what its holder may publish and read.
//!
//! Two shapes are read: the claim `mercure` of the hubs that are deployed, and `authorization_details` of later drafts. Where a token
//! has details for Mercure, these hold alone. A token with a detail or a selector that is not valid is refused whole, because
//! without that part it would grant something else.
//!
//! Sources: draft-dunglas-mercure-07, section 6; draft-dunglas-mercure-08, section 6; RFC 9396, section 2.

use serde_json::value::RawValue;

use crate::hub::jwt::{Foreign, Object, string_of};
use crate::protocol::json;
use crate::protocol::mercure::selector::Selector;
use crate::pubsub;

/// The most selectors of a token for one action.
const SELECTORS_MAX: usize = 100;

/// The deepest nesting of a payload, which is sent on inside of other objects.
const PAYLOAD_DEPTH_MAX: usize = 32;

/// The type of details that are for Mercure.
const DETAIL_TYPE: &str = "https://mercure.rocks/authorization-detail";

/// The grants of a token: its selectors for each action. By default there are none.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Grants {
    pub(super) publish: Vec<Selector>,
    pub(super) subscribe: Vec<Selector>,
    /// The payloads of subscriptions, as JSON: the first whose selector selects that of the subscription holds.
    payloads: Vec<(Selector, String)>,
    /// The user, where its name can be one of the hub's.
    pub(super) user: Option<Box<str>>,
    /// The first second, since 1970, in which the token is no longer valid.
    pub(super) end_unix: Option<u64>,
}

impl Grants {
    /// Reads the claims of a token whose signature is right. `None` when they are not valid.
    pub(super) fn of(token: &Foreign) -> Option<Grants> {
        let claims = Object::parse(&token.payload)?;
        let mut grants = Grants {
            end_unix: token.end_unix,
            user: claims
                .value("sub")
                .and_then(string_of)
                .filter(|it| pubsub::check_name(it).is_ok())
                .map(Into::into),
            ..Grants::default()
        };
        let has_details = match claims.value("authorization_details") {
            Some(details) => grants.add_details(details)?,
            None => false,
        };
        if !has_details && let Some(claim) = claims.value("mercure") {
            grants.add_claim(claim)?;
        }
        let is_small = |list: &[Selector]| list.len() <= SELECTORS_MAX;
        (is_small(&grants.publish) && is_small(&grants.subscribe)).then_some(grants)
    }

    /// Adds what the claim `mercure` grants.
    fn add_claim(&mut self, claim: &RawValue) -> Option<()> {
        let claim = Object::parse(claim.get())?;
        for (name, list) in [
            ("publish", &mut self.publish),
            ("subscribe", &mut self.subscribe),
        ] {
            let Some(value) = claim.value(name).filter(|it| it.get() != "null") else {
                continue;
            };
            for text in serde_json::from_str::<Vec<String>>(value.get()).ok()? {
                list.push(Selector::template(&text).ok()?);
            }
        }
        if let Some(payload) = claim.value("payload") {
            let all = Selector::exact("*").ok()?;
            self.payloads.push((all, payload_of(payload)?));
        }
        Some(())
    }

    /// Adds what details grant. Returns whether there is one for Mercure.
    fn add_details(&mut self, details: &RawValue) -> Option<bool> {
        let mut is_any = false;
        for detail in elements(details)? {
            let detail = Object::parse(detail.get())?;
            let kind = detail.value("type").and_then(string_of)?;
            if kind != DETAIL_TYPE {
                continue;
            }
            is_any = true;
            let actions = detail.value("actions")?;
            let actions = serde_json::from_str::<Vec<String>>(actions.get()).ok()?;
            let topics = elements(detail.value("topics")?)?;
            if actions.is_empty() || topics.is_empty() {
                return None;
            }
            let selectors: Option<Vec<Selector>> = topics.into_iter().map(selector_of).collect();
            let selectors = selectors?;
            let grants = |action: &str| actions.iter().any(|it| it == action);
            let payload = match detail.value("payload") {
                Some(payload) if payload.get().starts_with('{') => Some(payload_of(payload)?),
                Some(_) => return None,
                None => None,
            };
            if grants("publish") {
                self.publish.extend(selectors.iter().cloned());
            }
            if grants("subscribe") {
                if let Some(payload) = payload {
                    let payloads = selectors.iter().cloned().map(|it| (it, payload.clone()));
                    self.payloads.extend(payloads);
                }
                self.subscribe.extend(selectors);
            }
        }
        Some(is_any)
    }

    /// Whether it grants publishing to a topic.
    pub(super) fn may_publish(&self, topic: &str) -> bool {
        self.publish.iter().any(|selector| selector.matches(topic))
    }

    /// Whether it grants private updates of a topic.
    pub(super) fn may_read(&self, topic: &str) -> bool {
        self.subscribe
            .iter()
            .any(|selector| selector.matches(topic))
    }

    /// The payload of a subscription.
    pub(super) fn payload(&self, selector: &Selector) -> Option<&str> {
        let mut payloads = self.payloads.iter();
        let found = payloads.find(|(granted, _)| granted.selects(selector));
        found.map(|(_, payload)| &**payload)
    }
}

/// The elements of an array.
fn elements(value: &RawValue) -> Option<Vec<&RawValue>> {
    json::check_depth(value.get()).ok()?;
    serde_json::from_str(value.get()).ok()
}

/// The selector of an object in `topics`.
fn selector_of(value: &RawValue) -> Option<Selector> {
    let object = Object::parse(value.get())?;
    let text = string_of(object.value("match")?)?;
    let kind = match object.value("match_type") {
        Some(kind) => string_of(kind)?,
        None => "exact".to_owned(),
    };
    let selector = match &*kind {
        "exact" => Selector::exact(&text),
        "urlpattern" => Selector::url_pattern(&text),
        _ => return None,
    };
    selector.ok()
}

/// A payload as others get it.
fn payload_of(value: &RawValue) -> Option<String> {
    let text = value.get();
    json::check_depth_max(text, PAYLOAD_DEPTH_MAX).ok()?;
    Some(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants(payload: &str) -> Option<Grants> {
        Grants::of(&Foreign {
            payload: payload.to_owned(),
            end_unix: Some(7),
        })
    }

    #[test]
    fn both_shapes_of_claims() {
        let detail = |rest: &str| {
            format!(r#"{{"authorization_details":[{{"type":"{DETAIL_TYPE}",{rest}}}]}}"#)
        };
        // The claims, topics that may be published to, and topics that may be read.
        let cases: &[(&str, &[&str], &[&str])] = &[
            ("{}", &[], &[]),
            (r#"{"mercure":{}}"#, &[], &[]),
            (r#"{"mercure":{"publish":[],"subscribe":null}}"#, &[], &[]),
            (r#"{"mercure":{"publish":["*"]}}"#, &["a", "b", "/1"], &[]),
            (
                r#"{"mercure":{"publish":["a"],"subscribe":["/{x}","b"]}}"#,
                &["a"],
                &["b", "/1"],
            ),
            (
                &detail(r#""actions":["publish"],"topics":[{"match":"a"}]"#),
                &["a"],
                &[],
            ),
            (
                &detail(
                    r#""actions":["x","subscribe"],"topics":[{"match":"/:x","match_type":"urlpattern"},{"match":"b","match_type":"exact"}]"#,
                ),
                &[],
                &["/1", "b"],
            ),
            (
                &detail(r#""actions":["other"],"topics":[{"match":"*"}]"#),
                &[],
                &[],
            ),
            (
                r#"{"authorization_details":[{"type":"other","actions":7}],"mercure":{"publish":["a"]}}"#,
                &["a"],
                &[],
            ),
            (
                &detail(r#""actions":["subscribe"],"topics":[{"match":"*"}]"#)
                    .replace("]}]}", "]}],\"mercure\":{\"publish\":[\"*\"]}}"),
                &[],
                &["a", "b", "/1"],
            ),
        ];
        for (claims, publish, read) in cases {
            let grants = grants(claims).unwrap_or_else(|| panic!("{claims}"));
            for topic in ["a", "b", "/1"] {
                assert_eq!(
                    grants.may_publish(topic),
                    publish.contains(&topic),
                    "{claims} {topic}"
                );
                assert_eq!(
                    grants.may_read(topic),
                    read.contains(&topic),
                    "{claims} {topic}"
                );
            }
            assert_eq!(grants.end_unix, Some(7));
        }
    }

    #[test]
    fn claims_that_are_not_valid() {
        let many = format!(
            r#"{{"mercure":{{"publish":[{}"a"]}}}}"#,
            r#""a","#.repeat(100)
        );
        let deep = format!(
            r#"{{"mercure":{{"payload":{}{}}}}}"#,
            "[".repeat(33),
            "]".repeat(33)
        );
        let mut bad = vec![
            "[]".to_owned(),
            r#"{"mercure":[]}"#.into(),
            r#"{"mercure":{"publish":"a"}}"#.into(),
            r#"{"mercure":{"publish":[1]}}"#.into(),
            r#"{"mercure":{"publish":["{+a}"]}}"#.into(),
            r#"{"mercure":{"subscribe":[""]}}"#.into(),
            r#"{"mercure":{"publish":["a"],"publish":["*"]}}"#.into(),
            r#"{"authorization_details":{}}"#.into(),
            r#"{"authorization_details":[7]}"#.into(),
            r#"{"authorization_details":[{"actions":["publish"]}]}"#.into(),
            many,
            deep,
        ];
        for rest in [
            r#""topics":[{"match":"a"}]"#,
            r#""actions":[],"topics":[{"match":"a"}]"#,
            r#""actions":[1],"topics":[{"match":"a"}]"#,
            r#""actions":["publish"]"#,
            r#""actions":["publish"],"topics":[]"#,
            r#""actions":["publish"],"topics":["a"]"#,
            r#""actions":["publish"],"topics":[{"match":1}]"#,
            r#""actions":["publish"],"topics":[{"match":"a","match_type":"regexp"}]"#,
            r#""actions":["publish"],"topics":[{"match":"(a)","match_type":"urlpattern"}]"#,
            r#""actions":["publish"],"topics":[{"match":"a"}],"payload":1"#,
        ] {
            bad.push(format!(
                r#"{{"authorization_details":[{{"type":"{DETAIL_TYPE}",{rest}}}]}}"#
            ));
        }
        for claims in bad {
            assert_eq!(grants(&claims), None, "{claims}");
        }
    }

    #[test]
    fn the_first_payload_holds() {
        let detail = |topic: &str, payload: &str| {
            format!(
                r#"{{"type":"{DETAIL_TYPE}","actions":["subscribe"],"topics":[{{"match":"{topic}"}}],"payload":{payload}}}"#
            )
        };
        let details = [
            detail("a", r#"{"x":1}"#),
            detail("a", r#"{"x":2}"#),
            detail("*", r#"{"x":3}"#),
        ];
        let details = format!(r#"{{"authorization_details":[{}]}}"#, details.join(","));
        let grants = grants(&details).unwrap();
        let payload = |text| grants.payload(&Selector::exact(text).unwrap());
        assert_eq!(payload("a"), Some(r#"{"x":1}"#));
        assert_eq!(payload("b"), Some(r#"{"x":3}"#));
        let old = super::tests::grants(r#"{"sub":"ann","mercure":{"payload":{"y":[1]}}}"#).unwrap();
        let payload = old.payload(&Selector::exact("b").unwrap());
        assert_eq!(
            (payload, old.user.as_deref()),
            (Some(r#"{"y":[1]}"#), Some("ann"))
        );
    }
}
