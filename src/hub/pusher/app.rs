//! The apps of Pusher Channels: each has an id, a key that is public, a secret, and options.

use std::fmt;
use std::str::FromStr;

use crate::protocol::pusher::webhook::EVENTS;

/// How many users a presence channel has at most, unless the app says so.
const MEMBERS_MAX: usize = 100;

/// The numbers of users that an app may allow. The hub lists no more.
const MEMBERS_RANGE: std::ops::RangeInclusive<usize> = 1..=1000;

/// The longest id and the longest key of an app, in bytes.
const NAME_BYTES_MAX: usize = 40;

/// An app of Pusher Channels: the clients and the backend of one application.
///
/// Written as `ID:KEY:SECRET[,OPTION...]`, where the secret has no comma. The options are
/// - `client-events`: clients may send events to each other;
/// - `tls`: clients without TLS are refused, and try again with it;
/// - `connections=COUNT`: more clients than this, on all nodes, are refused;
/// - `members=COUNT`: a presence channel has at most so many users, 1 to 1,000; 100 by default;
/// - `origin=ORIGIN`: pages of other origins are refused; may be given several times;
/// - `subscription-count`: members of a channel are told how many connections it has, at most once a second, but for those
///   of presence channels;
/// - `webhook=URL[|EVENT...][|prefix=TEXT...][|suffix=TEXT...]`: the backend is told there of these events of the channels
///   that begin and end so, by default of all; may be given several times;
/// - `disabled`: clients and requests of the backend are refused.
#[derive(Clone, PartialEq, Eq)]
pub struct PusherApp {
    id: String,
    key: String,
    secret: String,
    takes_client_events: bool,
    needs_tls: bool,
    is_disabled: bool,
    connections_max: Option<usize>,
    members_max: usize,
    tells_counts: bool,
    /// Empty for pages of any origin.
    origins: Vec<String>,
    webhooks: Vec<Webhook>,
}

/// A URL of the backend, and the events that are sent there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Webhook {
    url: String,
    /// Empty for all events.
    events: Vec<String>,
    /// The channels begin with one of these, if there are some.
    prefixes: Vec<String>,
    /// The channels end with one of these, if there are some.
    suffixes: Vec<String>,
}

/// Without a password in its URL.
impl fmt::Display for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.url.split(['?', '#']).next().unwrap_or_default();
        let (scheme, rest) = shown.split_once("://").unwrap_or_default();
        let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
        write!(f, "{scheme}://{rest}")
    }
}

impl FromStr for Webhook {
    type Err = PusherAppError;

    /// Parses `URL[|EVENT...][|prefix=TEXT...][|suffix=TEXT...]`.
    fn from_str(text: &str) -> Result<Webhook, PusherAppError> {
        let wrong = |why: &str| Err(PusherAppError(format!("webhook: {why}")));
        let mut parts = text.split('|');
        let url = parts.next().unwrap_or_default();
        let rest = url.strip_prefix("http://").or(url.strip_prefix("https://"));
        if rest.is_none_or(str::is_empty) || url.contains(char::is_whitespace) {
            return wrong("expected a URL that begins with http:// or https://");
        }
        let mut webhook = Webhook {
            url: url.to_owned(),
            events: Vec::new(),
            prefixes: Vec::new(),
            suffixes: Vec::new(),
        };
        for part in parts {
            match part.split_once('=') {
                Some(("prefix", prefix)) => webhook.prefixes.push(prefix.to_owned()),
                Some(("suffix", suffix)) => webhook.suffixes.push(suffix.to_owned()),
                None if EVENTS.contains(&part) => webhook.events.push(part.to_owned()),
                _ => {
                    let events = EVENTS.join(", ");
                    let why = format!("{part:?} is none of {events}, prefix= and suffix=");
                    return wrong(&why);
                }
            }
        }
        Ok(webhook)
    }
}

impl Webhook {
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Whether an event of a channel is sent there.
    pub(super) fn wants(&self, name: &str, channel: &str) -> bool {
        let is_any = |list: &[String], matches: &dyn Fn(&str) -> bool| {
            list.is_empty() || list.iter().any(|it| matches(it))
        };
        is_any(&self.events, &|event| event == name)
            && is_any(&self.prefixes, &|prefix| channel.starts_with(prefix))
            && is_any(&self.suffixes, &|suffix| channel.ends_with(suffix))
    }
}

/// The reason why a text is no [`PusherApp`]. It does not show the secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PusherAppError(String);

impl fmt::Display for PusherAppError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PusherAppError {}

/// Without the secret.
impl fmt::Debug for PusherApp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PusherApp")
            .field("id", &self.id)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl FromStr for PusherApp {
    type Err = PusherAppError;

    fn from_str(text: &str) -> Result<PusherApp, PusherAppError> {
        let wrong = |why: &str| Err(PusherAppError(why.to_owned()));
        let mut options = text.split(',');
        let mut words = options.next().unwrap_or_default().splitn(3, ':');
        let (Some(id), Some(key), Some(secret)) = (words.next(), words.next(), words.next()) else {
            return wrong("expected ID:KEY:SECRET");
        };
        let is_name = |name: &str| {
            let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            (1..=NAME_BYTES_MAX).contains(&name.len()) && name.chars().all(is_allowed)
        };
        if !is_name(id) || !is_name(key) {
            return wrong(
                "the id and the key have 1 to 40 letters and digits of ASCII, hyphens, underscores and dots",
            );
        }
        if secret.is_empty() {
            return wrong("the secret is empty");
        }
        let mut app = PusherApp {
            id: id.to_owned(),
            key: key.to_owned(),
            secret: secret.to_owned(),
            takes_client_events: false,
            needs_tls: false,
            is_disabled: false,
            connections_max: None,
            members_max: MEMBERS_MAX,
            tells_counts: false,
            origins: Vec::new(),
            webhooks: Vec::new(),
        };
        for (index, option) in options.enumerate() {
            let (name, value) = match option.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (option, None),
            };
            match (name, value) {
                ("client-events", None) => app.takes_client_events = true,
                ("tls", None) => app.needs_tls = true,
                ("subscription-count", None) => app.tells_counts = true,
                ("webhook", Some(webhook)) => app.webhooks.push(webhook.parse()?),
                ("disabled", None) => app.is_disabled = true,
                ("connections", Some(count)) => {
                    let count = count.parse().ok().filter(|count| *count != 0);
                    let Some(count) = count else {
                        return wrong("connections is a number above 0");
                    };
                    app.connections_max = Some(count);
                }
                ("members", Some(count)) => {
                    let count = count.parse().ok();
                    let Some(count) = count.filter(|count| MEMBERS_RANGE.contains(count)) else {
                        return wrong("members is a number from 1 to 1000");
                    };
                    app.members_max = count;
                }
                ("origin", Some(origin)) => match is_origin(origin) {
                    true => app.origins.push(origin.to_ascii_lowercase()),
                    false => return wrong("an origin is like https://example.com, without a path"),
                },
                _ => {
                    // A word behind a comma may be a part of the secret.
                    let number = index + 1;
                    return Err(PusherAppError(format!(
                        "option {number} is none of client-events, tls, connections=, members=, origin=, subscription-count, webhook= and disabled; a secret has no comma"
                    )));
                }
            }
        }
        Ok(app)
    }
}

impl PusherApp {
    /// The id, which is in the paths of the HTTP API.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The key, which clients know.
    pub fn key(&self) -> &str {
        &self.key
    }

    pub(super) fn secret(&self) -> &[u8] {
        self.secret.as_bytes()
    }

    pub(super) fn needs_tls(&self) -> bool {
        self.needs_tls
    }

    pub(super) fn is_disabled(&self) -> bool {
        self.is_disabled
    }

    /// Whether members of channels are told how many connections there are.
    pub(super) fn tells_counts(&self) -> bool {
        self.tells_counts
    }

    pub(super) fn webhooks(&self) -> &[Webhook] {
        &self.webhooks
    }

    /// The most clients on all nodes.
    pub(super) fn connections_max(&self) -> Option<usize> {
        self.connections_max
    }

    /// The most users of a presence channel.
    pub(super) fn members_max(&self) -> usize {
        self.members_max
    }

    /// Whether a client may come from a page of this origin. Programs have none.
    pub(super) fn allows_origin(&self, origin: Option<&str>) -> bool {
        let Some(origin) = origin.filter(|_| !self.origins.is_empty()) else {
            return true;
        };
        let mut origins = self.origins.iter();
        origins.any(|allowed| allowed.eq_ignore_ascii_case(origin))
    }

    /// Whether clients may send events to each other.
    pub fn takes_client_events(&self) -> bool {
        self.takes_client_events
    }
}

/// Whether a text is the origin of pages: a scheme and a host, and perhaps a port.
fn is_origin(text: &str) -> bool {
    let Some((scheme, host)) = text.split_once("://") else {
        return false;
    };
    let is_allowed = |c: char| c.is_ascii_graphic() && !"/?#@,".contains(c);
    !scheme.is_empty() && !host.is_empty() && host.chars().all(is_allowed)
}

/// All apps of a hub.
pub(super) struct PusherApps {
    apps: Vec<std::rc::Rc<PusherApp>>,
}

impl PusherApps {
    pub(super) fn new(apps: &[PusherApp]) -> PusherApps {
        let apps = apps.iter().cloned().map(std::rc::Rc::new);
        PusherApps {
            apps: apps.collect(),
        }
    }

    pub(super) fn by_key(&self, key: &str) -> Option<&std::rc::Rc<PusherApp>> {
        self.apps.iter().find(|app| app.key == key)
    }

    /// The app, where there is one alone.
    pub(super) fn single(&self) -> Option<&std::rc::Rc<PusherApp>> {
        match &self.apps[..] {
            [app] => Some(app),
            _ => None,
        }
    }

    pub(super) fn by_id(&self, id: &str) -> Option<&std::rc::Rc<PusherApp>> {
        self.apps.iter().find(|app| app.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_is_written_in_a_line() {
        let app: PusherApp = "1:key:se:cret".parse().unwrap();
        assert_eq!(
            (app.id(), app.key(), app.secret()),
            ("1", "key", &b"se:cret"[..])
        );
        assert!(!app.takes_client_events());
        assert!(!format!("{app:?}").contains("cret"));
        let app: PusherApp = "1:key:secret,client-events".parse().unwrap();
        assert!(app.takes_client_events());
        for text in [
            "",
            "1",
            "1:key",
            "1:key:",
            ":key:secret",
            "a b:key:secret",
            "1:k:s,else",
            "1:k:s,tls=1",
            "1:k:s,connections=0",
            "1:k:s,connections",
            "1:k:s,members=1001",
            "1:k:s,members=0",
            "1:k:s,origin=example.com",
            "1:k:s,origin=https://example.com/",
            "1:k:s,webhook=example.com",
            "1:k:s,webhook=https://",
            "1:k:s,webhook=https://h/|channel",
        ] {
            let error = text.parse::<PusherApp>().unwrap_err();
            assert!(!error.to_string().contains("secret\""), "{error}");
            assert!(!error.to_string().contains("else"), "{error}");
        }
        let text =
            "1:k:s,tls,connections=7,members=1000,origin=https://A.example,origin=http://b:81";
        let app: PusherApp = text.parse().unwrap();
        assert!(app.needs_tls() && !app.is_disabled());
        assert_eq!((app.connections_max(), app.members_max()), (Some(7), 1000));
        let text = "1:k:s,webhook=https://u:p@h/w?t=1|member_added|channel_vacated|prefix=presence-|suffix=-x";
        let app: PusherApp = text.parse().unwrap();
        let [webhook] = app.webhooks() else {
            panic!("one webhook");
        };
        assert_eq!(webhook.to_string(), "https://h/w");
        for (name, channel, expected) in [
            ("member_added", "presence-a-x", true),
            ("channel_vacated", "presence--x", true),
            ("channel_occupied", "presence-a-x", false),
            ("member_added", "presence-a", false),
            ("member_added", "a-x", false),
        ] {
            assert_eq!(webhook.wants(name, channel), expected, "{name} {channel}");
        }
        let text =
            "1:k:s,tls,connections=7,members=1000,origin=https://A.example,origin=http://b:81";
        let app: PusherApp = text.parse().unwrap();
        for (origin, expected) in [
            (None, true),
            (Some("https://a.example"), true),
            (Some("http://b:81"), true),
            (Some("http://a.example"), false),
            (Some("http://b"), false),
            (Some("null"), false),
        ] {
            assert_eq!(app.allows_origin(origin), expected, "{origin:?}");
        }
    }
}
