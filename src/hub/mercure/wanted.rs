//! The parameters of a request for a stream.
//!
//! | parameter | selects |
//! |---|---|
//! | `topic` | a topic, a URI template, or with `*` all |
//! | `match`, `match_exact` | a topic, or with `*` all |
//! | `match_urlpattern` | a URL pattern, or with `*` all |
//! | `last_event_id`, `lastEventID` | the place from which the stream goes on |

use crate::protocol::http::form;
use crate::protocol::mercure::selector::{Selector, SelectorError};
use crate::reactor::reactor::Reactor;
use crate::server::request::Request;

use super::authorize::{Refusal, bad};
use super::cursor::LastEvent;
use super::topic::{REST_BYTES_MAX, hashed_pattern, name_of, pattern_of};
use super::view::View;

/// The most selectors of a stream.
const SELECTORS_MAX: usize = 100;

/// The selectors that a subscriber asks for, and from where on.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) selectors: Vec<Selector>,
    /// The event that it has got last, and its id as it gives it.
    pub(super) last_event: Option<(LastEvent, String)>,
}

impl Wanted {
    /// Reads the parameters of a request.
    ///
    /// # Errors
    ///
    /// The first that is not valid.
    pub(super) fn of<S: 'static>(request: &Request<'_, '_, S>) -> Result<Wanted, Refusal> {
        let mut selectors: Vec<Selector> = Vec::new();
        let mut last_id = None;
        for pair in form::try_pairs(request.query_string().unwrap_or_default()) {
            let (name, value) = pair.ok_or_else(|| bad("the query is not UTF-8 text"))?;
            let parse: fn(&str) -> Result<Selector, SelectorError> = match &*name {
                "topic" => Selector::template,
                "match" | "match_exact" => Selector::exact,
                "match_urlpattern" => Selector::url_pattern,
                "last_event_id" | "lastEventID" | "Last-Event-ID" => {
                    last_id.get_or_insert(value.into_owned());
                    continue;
                }
                // A name that is not known would select nothing in silence.
                other if is_match(other) => {
                    let known = "match, match_exact, match_urlpattern";
                    return Err(bad(format!("{other:?}: expected one of {known}")));
                }
                _ => continue,
            };
            let selector = parse(&value).map_err(|why| bad(format!("{name}: {why}")))?;
            if !selectors.contains(&selector) {
                selectors.push(selector);
            }
            if SELECTORS_MAX < selectors.len() {
                return Err(bad(format!("expected at most {SELECTORS_MAX} selectors")));
            }
        }
        if selectors.is_empty() {
            return Err(bad("say which: ?topic=TOPIC"));
        }
        // A browser names the last id that it got when it connects again; the address is that of the first time.
        let header = request.header("last-event-id").filter(|it| !it.is_empty());
        let last_id = header.map(str::to_owned).or(last_id);
        let last_id = last_id.filter(|id| !id.is_empty());
        Ok(Wanted {
            selectors,
            last_event: last_id.map(|id| (LastEvent::parse(&id), id)),
        })
    }
}

/// Whether a name is one of those that are kept for matchers. Source: draft-dunglas-mercure-08, section 3.
fn is_match(name: &str) -> bool {
    let front = name.get(..5);
    front.is_some_and(|front| front.eq_ignore_ascii_case("match"))
}

/// A name of the hub to which a stream is subscribed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) name: Box<str>,
    pub(super) is_pattern: bool,
    /// The number of the view, or zero where each publication is seen.
    pub(super) value: u32,
}

/// The names of the hub for a view with a number.
pub(super) fn names_of(view: &View, number: u32, is_private: impl Fn(&str) -> bool) -> Vec<Name> {
    let mut names: Vec<Name> = Vec::new();
    let all = view.wanted.iter().any(Selector::is_all);
    // A subscriber without grants gets nothing that is private.
    let kinds: &[bool] = match view.granted.is_empty() {
        true => &[false],
        false => &[false, true],
    };
    for kind in kinds {
        let mut has_pattern = false;
        for selector in &view.wanted {
            if all && !selector.is_all() {
                continue;
            }
            let (name, is_pattern) = match selector.glob(REST_BYTES_MAX) {
                Some(glob) => (pattern_of(&glob, *kind), true),
                None => (name_of(selector.text(), *kind), false),
            };
            // A rule may make a topic private whose updates are not.
            let is_for_granted = *kind || !is_pattern && is_private(&name);
            if !is_pattern && is_for_granted && view.granted.is_empty() {
                continue;
            }
            has_pattern |= is_pattern;
            let value = match view.is_simple(is_for_granted) {
                true => 0,
                false => number,
            };
            let name = name.into();
            names.push(Name {
                name,
                is_pattern,
                value,
            });
        }
        if has_pattern && !all {
            names.push(Name {
                name: hashed_pattern(*kind).into(),
                is_pattern: true,
                value: number,
            });
        }
    }
    names.sort_by(|a, b| a.name.cmp(&b.name));
    names.dedup_by(|a, b| a.name == b.name && a.is_pattern == b.is_pattern);
    names
}

/// Whether there is room for these names.
///
/// # Errors
///
/// When one subscriber may not have so many.
pub(super) fn check_names<S: 'static>(reactor: &Reactor<S>, names: &[Name]) -> Result<(), Refusal> {
    let config = reactor.config();
    let patterns = names.iter().filter(|it| it.is_pattern).count();
    match config.subscriptions_max < names.len() || config.patterns_max < patterns {
        true => Err(bad("too many selectors")),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_views() {
        let list = |texts: &[&str]| {
            let selectors = texts.iter().map(|text| Selector::template(text));
            selectors.collect::<Result<Vec<_>, _>>().unwrap()
        };
        // The selectors, those of the token, and the names, with a star where the view is asked.
        let cases: &[(&[&str], &[&str], &[&str])] = &[
            (&["a"], &[], &["mercure:a"]),
            (&["a"], &["a"], &["mercure-private:a", "mercure:a"]),
            (&["a"], &["b"], &["mercure-private:a +", "mercure:a"]),
            (&["a", "b"], &[], &["mercure:a +", "mercure:b +"]),
            (&["a?"], &[], &["mercure:a?"]),
            (&["*"], &[], &["mercure:* +"]),
            (
                &["*", "a", "/{x}"],
                &["*"],
                &["mercure-private:* +", "mercure:* +"],
            ),
            (&["/a/{x}"], &[], &["mercure:#* +", "mercure:/a/* +"]),
            (&["secret"], &[], &[]),
            (
                &["secret"],
                &["b"],
                &["mercure-private:secret +", "mercure:secret +"],
            ),
            (
                &["secret"],
                &["*"],
                &["mercure-private:secret", "mercure:secret"],
            ),
        ];
        for (wanted, granted, expected) in cases {
            let view = View {
                wanted: list(wanted),
                granted: list(granted),
            };
            let names = names_of(&view, 7, |name| name == "mercure:secret");
            let names = names.iter().map(|it| match it.value {
                0 => it.name.to_string(),
                _ => format!("{} +", it.name),
            });
            let names: Vec<String> = names.collect();
            assert_eq!(names, *expected, "{wanted:?} {granted:?}");
        }
    }
}
