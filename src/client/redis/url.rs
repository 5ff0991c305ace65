//! Addresses of Redis servers.

use std::borrow::Cow;
use std::fmt;

use crate::protocol::http::form;

/// The port of a URL that names none.
const PORT_DEFAULT: &str = "6379";

/// Where a server is, and how to introduce oneself there.
///
/// `redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE][?name=NAME][&protocol=2]`, or
/// `unix://[[USER]:PASSWORD@]/PATH[?db=DATABASE][&name=NAME][&protocol=2]`. User, password, path and name may be
/// percent-encoded.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct RedisUrl {
    /// `HOST:PORT` or `unix:PATH`.
    pub address: String,
    pub user: Option<String>,
    pub password: Option<String>,
    pub database: u32,
    /// The name of the connection in `CLIENT LIST`.
    pub client_name: Option<String>,
    /// RESP2 is spoken also where the server has RESP3.
    pub is_resp2: bool,
}

/// Without the password, which must not stand in a log.
impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisUrl")
            .field("address", &self.address)
            .field("database", &self.database)
            .finish_non_exhaustive()
    }
}

/// Why a text is not the URL of a Redis server. The text is not shown, because it may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RedisUrlError {
    /// It begins neither with `redis://` nor with `unix://`.
    Scheme,
    /// `rediss://`, which needs TLS.
    Tls,
    /// The host is empty, or the port is not a number from 1 to 65535.
    Host,
    /// The path of the socket is empty.
    Path,
    /// The database is not a number.
    Database,
    /// A parameter is unknown or has a value that it cannot have.
    Parameter,
    /// Something is not UTF-8 when decoded, or the name of the connection has a space or a control character.
    Text,
}

impl fmt::Display for RedisUrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RedisUrlError::Scheme => "the URL of a Redis server begins with redis:// or unix://",
            RedisUrlError::Tls => "rediss:// needs TLS, which is not supported yet",
            RedisUrlError::Host => {
                "the URL of the Redis server has no host, or a port that is not from 1 to 65535"
            }
            RedisUrlError::Path => "the URL of the Redis server has no path of a socket",
            RedisUrlError::Database => {
                "the database in the URL of the Redis server is not a number"
            }
            RedisUrlError::Parameter => {
                "the parameters of the URL of a Redis server are name=NAME, db=NUMBER and protocol=2"
            }
            RedisUrlError::Text => {
                "the URL of the Redis server has a part that is not text, or a name with spaces"
            }
        })
    }
}

impl std::error::Error for RedisUrlError {}

impl RedisUrl {
    /// Parses a URL.
    ///
    /// # Errors
    ///
    /// [`RedisUrlError`].
    pub fn parse(url: &str) -> Result<RedisUrl, RedisUrlError> {
        let (scheme, rest) = url.split_once("://").ok_or(RedisUrlError::Scheme)?;
        let is_unix = match scheme {
            "redis" => false,
            "unix" => true,
            "rediss" => return Err(RedisUrlError::Tls),
            _ => return Err(RedisUrlError::Scheme),
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        // A password may hold an `@` that is not encoded, but no host does.
        let (credentials, place) = match rest.rsplit_once('@') {
            Some((credentials, place)) => (Some(credentials), place),
            None => (None, rest),
        };
        let (user, password) = match credentials.and_then(|it| it.split_once(':')) {
            Some((user, password)) => (decoded(user)?, decoded(password)?),
            // As `redis-cli` reads it: a user without a password.
            None => (credentials.map(decoded).transpose()?.flatten(), None),
        };
        let (address, database) = match is_unix {
            true => {
                let path = text(place)?;
                if !path.starts_with('/') {
                    return Err(RedisUrlError::Path);
                }
                (format!("unix:{path}"), "")
            }
            false => {
                let (host, database) = place.split_once('/').unwrap_or((place, ""));
                (host_and_port(host)?, database)
            }
        };
        let mut parsed = RedisUrl {
            address,
            user,
            password,
            database: database_number(database)?,
            client_name: None,
            is_resp2: false,
        };
        for pair in form::try_pairs(query) {
            let (name, value) = pair.ok_or(RedisUrlError::Text)?;
            match (&*name, &*value) {
                ("db", value) => parsed.database = database_number(value)?,
                ("name", value) if value.bytes().all(|byte| byte.is_ascii_graphic()) => {
                    parsed.client_name = Some(value.to_owned());
                }
                ("name", _) => return Err(RedisUrlError::Text),
                ("protocol", "2") => parsed.is_resp2 = true,
                ("protocol", "3") => parsed.is_resp2 = false,
                _ => return Err(RedisUrlError::Parameter),
            }
        }
        Ok(parsed)
    }
}

fn host_and_port(text: &str) -> Result<String, RedisUrlError> {
    // An IPv6 address stands in brackets.
    let colon = match text.rfind(']') {
        Some(bracket) => text[bracket..].find(':').map(|at| bracket + at),
        None => text.find(':'),
    };
    let (host, port) = match colon {
        Some(colon) => (&text[..colon], &text[colon + 1..]),
        None => (text, PORT_DEFAULT),
    };
    let is_port = port.bytes().all(|byte| byte.is_ascii_digit())
        && port.parse::<u16>().is_ok_and(|port| port != 0);
    if host.is_empty() || !is_port {
        return Err(RedisUrlError::Host);
    }
    Ok(format!("{host}:{port}"))
}

fn database_number(text: &str) -> Result<u32, RedisUrlError> {
    if text.is_empty() {
        return Ok(0);
    }
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|_| is_number);
    number.ok_or(RedisUrlError::Database)
}

/// A part, decoded. `None` where it is empty.
fn decoded(part: &str) -> Result<Option<String>, RedisUrlError> {
    let part = text(part)?;
    Ok((!part.is_empty()).then(|| part.into_owned()))
}

fn text(part: &str) -> Result<Cow<'_, str>, RedisUrlError> {
    form::decode_path(part).ok_or(RedisUrlError::Text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(address: &str) -> RedisUrl {
        RedisUrl {
            address: address.into(),
            user: None,
            password: None,
            database: 0,
            client_name: None,
            is_resp2: false,
        }
    }

    #[test]
    fn urls_are_parsed() {
        let with_password = |user: Option<&str>, password: &str| RedisUrl {
            user: user.map(str::to_owned),
            password: Some(password.into()),
            ..url("h:6379")
        };
        let cases = [
            ("redis://h", Ok(url("h:6379"))),
            ("redis://h/", Ok(url("h:6379"))),
            ("redis://127.0.0.1:7000", Ok(url("127.0.0.1:7000"))),
            ("redis://[::1]:7000", Ok(url("[::1]:7000"))),
            ("redis://[::1]", Ok(url("[::1]:6379"))),
            (
                "redis://h/3",
                Ok(RedisUrl {
                    database: 3,
                    ..url("h:6379")
                }),
            ),
            ("redis://:p@h", Ok(with_password(None, "p"))),
            ("redis://u:p@h", Ok(with_password(Some("u"), "p"))),
            ("redis://u:p%40%3A@h", Ok(with_password(Some("u"), "p@:"))),
            ("redis://u:p@q@h", Ok(with_password(Some("u"), "p@q"))),
            (
                "redis://u@h",
                Ok(RedisUrl {
                    user: Some("u".into()),
                    ..url("h:6379")
                }),
            ),
            ("unix:///run/r.sock", Ok(url("unix:/run/r.sock"))),
            ("unix:///r%20s", Ok(url("unix:/r s"))),
            (
                "unix:///r?db=2",
                Ok(RedisUrl {
                    database: 2,
                    ..url("unix:/r")
                }),
            ),
            (
                "redis://h?name=web-1&protocol=2",
                Ok(RedisUrl {
                    client_name: Some("web-1".into()),
                    is_resp2: true,
                    ..url("h:6379")
                }),
            ),
            ("redis://", Err(RedisUrlError::Host)),
            ("redis://h:", Err(RedisUrlError::Host)),
            ("redis://h:0", Err(RedisUrlError::Host)),
            ("redis://h:65536", Err(RedisUrlError::Host)),
            ("redis://h:+1", Err(RedisUrlError::Host)),
            ("redis://:6379", Err(RedisUrlError::Host)),
            ("redis://h/x", Err(RedisUrlError::Database)),
            ("redis://h/-1", Err(RedisUrlError::Database)),
            ("unix://", Err(RedisUrlError::Path)),
            ("unix://r.sock", Err(RedisUrlError::Path)),
            ("rediss://h", Err(RedisUrlError::Tls)),
            ("http://h", Err(RedisUrlError::Scheme)),
            ("h:6379", Err(RedisUrlError::Scheme)),
            ("", Err(RedisUrlError::Scheme)),
            ("redis://h?name=a%20b", Err(RedisUrlError::Text)),
            ("redis://:%ff@h", Err(RedisUrlError::Text)),
            ("redis://h?protocol=4", Err(RedisUrlError::Parameter)),
            ("redis://h?x=1", Err(RedisUrlError::Parameter)),
        ];
        for (text, expected) in cases {
            assert_eq!(RedisUrl::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        let url = RedisUrl::parse("redis://user:secret@h").expect("a URL");
        let shown = format!("{url:?}");
        assert!(shown.contains("h:6379"), "{shown}");
        assert!(!shown.contains("secret"), "{shown}");
    }
}
