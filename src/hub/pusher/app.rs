//! The apps of Pusher Channels: each has an id, a key that is public, a secret, and options.

use std::fmt;
use std::str::FromStr;

/// The longest id and the longest key of an app, in bytes.
const NAME_BYTES_MAX: usize = 40;

/// An app of Pusher Channels: the clients and the backend of one application.
///
/// Written as `ID:KEY:SECRET[,option...]`; the option `client-events` lets clients send events to each other.
#[derive(Clone, PartialEq, Eq)]
pub struct PusherApp {
    id: String,
    key: String,
    secret: String,
    takes_client_events: bool,
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
        };
        for option in options {
            match option {
                "client-events" => app.takes_client_events = true,
                _ => {
                    return Err(PusherAppError(format!(
                        "unknown option {option:?}; there is client-events"
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

    /// Whether clients may send events to each other.
    pub fn takes_client_events(&self) -> bool {
        self.takes_client_events
    }
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
        ] {
            let error = text.parse::<PusherApp>().unwrap_err();
            assert!(!error.to_string().contains("secret\""), "{error}");
        }
    }
}
