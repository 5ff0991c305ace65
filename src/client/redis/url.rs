//! Addresses of Redis servers.

use std::borrow::Cow;
use std::fmt;
use std::io;

use crate::protocol::http::form;

use super::tls::Security;
use super::url_error::RedisUrlError;

/// The port of a URL that names none.
const PORT_DEFAULT: &str = "6379";

/// The port of a sentinel that is named without one.
const SENTINEL_PORT_DEFAULT: &str = "26379";

/// Most sentinels in a URL.
const SENTINELS_MAX: usize = 16;

/// Where a server is, and how to introduce oneself there.
///
/// `redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE][?name=NAME][&protocol=2]`, or
/// `unix://[[USER]:PASSWORD@]/PATH[?db=DATABASE][&name=NAME][&protocol=2]`, or that of [`SentinelUrl`]. User, password,
/// path and name may be percent-encoded. With `rediss` in place of `redis` it is over TLS, and a part behind `#` says how certificates
/// are checked; see [`Security`].
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct RedisUrl {
    /// `HOST:PORT` or `unix:PATH`. Empty where sentinels know it.
    pub address: String,
    /// They are asked for the address, and the server must be a master.
    pub sentinels: Option<SentinelUrl>,
    pub user: Option<String>,
    pub password: Option<String>,
    pub database: u32,
    /// The name of the connection in `CLIENT LIST`.
    pub client_name: Option<String>,
    /// RESP2 is spoken also where the server has RESP3.
    pub is_resp2: bool,
    pub security: Security,
}

/// Without the password, which must not stand in a log.
impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisUrl")
            .field("address", &self.address)
            .field("sentinels", &self.sentinels)
            .field("database", &self.database)
            .finish_non_exhaustive()
    }
}

/// The sentinels that know where a master is.
///
/// `redis+sentinel://[[USER]:PASSWORD@]HOST[:PORT][,HOST[:PORT]...]/NAME[/DATABASE][?sentinel_user=USER]`
/// `[&sentinel_password=PASSWORD][&name=NAME][&protocol=2]`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SentinelUrl {
    /// `HOST:PORT` of each, one at least.
    pub addresses: Vec<String>,
    /// The name that they know the master by.
    pub master: String,
    pub user: Option<String>,
    pub password: Option<String>,
}

/// Without the password, which must not stand in a log.
impl fmt::Debug for SentinelUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SentinelUrl")
            .field("addresses", &self.addresses)
            .field("master", &self.master)
            .finish_non_exhaustive()
    }
}

impl RedisUrl {
    /// Parses a URL.
    ///
    /// # Errors
    ///
    /// [`RedisUrlError`].
    pub fn parse(url: &str) -> Result<RedisUrl, RedisUrlError> {
        let (scheme, rest) = url.split_once("://").ok_or(RedisUrlError::Scheme)?;
        let (scheme, rest, security) = secured(scheme, rest)?;
        let mut parsed = match &*scheme {
            "redis" => RedisUrl::parse_of_server(rest, false)?,
            "unix" => RedisUrl::parse_of_server(rest, true)?,
            "redis+sentinel" => RedisUrl::parse_of_sentinels(rest)?,
            "redis+cluster" => return Err(RedisUrlError::Cluster),
            _ => return Err(RedisUrlError::Scheme),
        };
        parsed.security = security;
        Ok(parsed)
    }

    /// Parses what is behind `redis://`, or behind `unix://`.
    fn parse_of_server(rest: &str, is_unix: bool) -> Result<RedisUrl, RedisUrlError> {
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (user, password, place) = credentials(rest)?;
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
            sentinels: None,
            user,
            password,
            database: database_number(database)?,
            client_name: None,
            is_resp2: false,
            security: Security::default(),
        };
        parsed.read_parameters(query)?;
        Ok(parsed)
    }

    fn read_parameters(&mut self, query: &str) -> Result<(), RedisUrlError> {
        for pair in form::try_pairs(query) {
            let (name, value) = pair.ok_or(RedisUrlError::Text)?;
            match (&*name, &*value) {
                ("db", value) => self.database = database_number(value)?,
                ("name", value) if value.bytes().all(|byte| byte.is_ascii_graphic()) => {
                    self.client_name = Some(value.to_owned());
                }
                ("name", _) => return Err(RedisUrlError::Text),
                ("protocol", "2") => self.is_resp2 = true,
                ("protocol", "3") => self.is_resp2 = false,
                (name, value) => self.read_sentinel_parameter(name, value)?,
            }
        }
        Ok(())
    }
}

/// # Sentinels
impl RedisUrl {
    /// Parses what is behind `redis+sentinel://`.
    fn parse_of_sentinels(rest: &str) -> Result<RedisUrl, RedisUrlError> {
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (user, password, place) = credentials(rest)?;
        let (hosts, path) = place.split_once('/').unwrap_or((place, ""));
        let (master, database) = path.split_once('/').unwrap_or((path, ""));
        if SENTINELS_MAX < hosts.split(',').count() {
            return Err(RedisUrlError::SentinelCount);
        }
        let addresses = hosts
            .split(',')
            .map(sentinel_address)
            .collect::<Result<_, _>>()?;
        let master = decoded(master)?.ok_or(RedisUrlError::MasterName)?;
        // The name stands in log lines.
        if !master.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(RedisUrlError::MasterName);
        }
        let mut parsed = RedisUrl {
            address: String::new(),
            sentinels: Some(SentinelUrl {
                addresses,
                master,
                user: None,
                password: None,
            }),
            user,
            password,
            database: database_number(database)?,
            client_name: None,
            is_resp2: false,
            security: Security::default(),
        };
        parsed.read_parameters(query)?;
        Ok(parsed)
    }

    fn read_sentinel_parameter(&mut self, name: &str, value: &str) -> Result<(), RedisUrlError> {
        let value = Some(value.to_owned()).filter(|value| !value.is_empty());
        match (&mut self.sentinels, name) {
            (Some(sentinels), "sentinel_user") => sentinels.user = value,
            (Some(sentinels), "sentinel_password") => sentinels.password = value,
            _ => return Err(RedisUrlError::Parameter),
        }
        Ok(())
    }
}

/// The nodes of a Redis Cluster that are asked first, and how to introduce oneself at each node.
///
/// `redis+cluster://[[USER]:PASSWORD@]HOST[:PORT][,HOST[:PORT]...][?name=NAME][&protocol=2]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClusterUrl {
    /// `HOST:PORT` of each node that the URL names, one at least.
    pub seeds: Vec<String>,
    node: RedisUrl,
}

impl ClusterUrl {
    /// The beginning of such a URL.
    const SCHEME: &str = "redis+cluster";

    /// Parses a URL.
    ///
    /// # Errors
    ///
    /// [`RedisUrlError`].
    pub(crate) fn parse(url: &str) -> Result<ClusterUrl, RedisUrlError> {
        let (scheme, rest) = url.split_once("://").ok_or(RedisUrlError::Scheme)?;
        let (scheme, rest, security) = secured(scheme, rest)?;
        if scheme != ClusterUrl::SCHEME {
            return Err(RedisUrlError::Scheme);
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (user, password, place) = credentials(rest)?;
        let (hosts, database) = place.split_once('/').unwrap_or((place, ""));
        if !database.is_empty() {
            return Err(RedisUrlError::ClusterDatabase);
        }
        let seeds: Result<Vec<String>, _> = hosts.split(',').map(host_and_port).collect();
        let seeds = seeds?;
        let mut node = RedisUrl {
            address: seeds[0].clone(),
            sentinels: None,
            user,
            password,
            database: 0,
            client_name: None,
            is_resp2: false,
            security,
        };
        node.read_parameters(query)?;
        match node.database {
            0 => Ok(ClusterUrl { seeds, node }),
            _ => Err(RedisUrlError::ClusterDatabase),
        }
    }

    /// Reads the files that the URL names for TLS. Connections can be made afterwards.
    ///
    /// # Errors
    ///
    /// Of kind `InvalidInput`, with the file or the fingerprint that is wrong.
    pub(super) fn prepare(&mut self) -> io::Result<()> {
        self.node.security.prepare()
    }

    /// The URL of one node.
    pub(crate) fn node(&self, address: &str) -> RedisUrl {
        RedisUrl {
            address: address.to_owned(),
            ..self.node.clone()
        }
    }
}

/// Whether a URL names a cluster.
pub(crate) fn is_cluster(url: &str) -> bool {
    let scheme = url.split_once("://").map(|(scheme, _)| scheme);
    scheme.is_some_and(|scheme| without_tls(scheme) == ClusterUrl::SCHEME)
}

/// The scheme without the `s` of TLS, the part behind it without a fragment, and what that says.
fn secured<'u>(
    scheme: &'u str,
    rest: &'u str,
) -> Result<(Cow<'u, str>, &'u str, Security), RedisUrlError> {
    let plain = without_tls(scheme);
    if plain == scheme {
        return Ok((plain, rest, Security::default()));
    }
    let (rest, fragment) = rest.rsplit_once('#').unwrap_or((rest, ""));
    Ok((plain, rest, Security::parse(fragment)?))
}

/// The scheme that is the same without TLS: `redis` for `rediss`.
fn without_tls(scheme: &str) -> Cow<'_, str> {
    match scheme.strip_prefix("rediss") {
        Some(kind) => format!("redis{kind}").into(),
        None => scheme.into(),
    }
}

/// Takes user and password off the front of what is behind the scheme.
fn credentials(rest: &str) -> Result<(Option<String>, Option<String>, &str), RedisUrlError> {
    // A password may hold an `@` that is not encoded, but no host does.
    let Some((credentials, place)) = rest.rsplit_once('@') else {
        return Ok((None, None, rest));
    };
    Ok(match credentials.split_once(':') {
        Some((user, password)) => (decoded(user)?, decoded(password)?, place),
        // As `redis-cli` reads it: a user without a password.
        None => (decoded(credentials)?, None, place),
    })
}

fn host_and_port(text: &str) -> Result<String, RedisUrlError> {
    with_port(text, PORT_DEFAULT)
}

fn sentinel_address(text: &str) -> Result<String, RedisUrlError> {
    with_port(text, SENTINEL_PORT_DEFAULT)
}

fn with_port(text: &str, port_default: &str) -> Result<String, RedisUrlError> {
    // An IPv6 address stands in brackets.
    let colon = match text.rfind(']') {
        Some(bracket) => text[bracket..].find(':').map(|at| bracket + at),
        None => text.find(':'),
    };
    let (host, port) = match colon {
        Some(colon) => (&text[..colon], &text[colon + 1..]),
        None => (text, port_default),
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
            sentinels: None,
            user: None,
            password: None,
            database: 0,
            client_name: None,
            is_resp2: false,
            security: Security::default(),
        }
    }

    #[cfg(feature = "tls")]
    #[test]
    fn urls_of_tls_say_how_certificates_are_checked() {
        let cases = [
            ("rediss://h", Ok("h:6379")),
            ("rediss://u:p@h:1/2?name=x#sha256=ab", Ok("h:1")),
            ("rediss://h#ca=/a%20b.pem&certificate=c&key=k", Ok("h:6379")),
            ("rediss+sentinel://h/m#ca=a", Ok("")),
            ("rediss://h#sha256=ab&ca=a", Err(RedisUrlError::Fragment)),
            ("rediss://h#sha256=", Err(RedisUrlError::Fragment)),
            ("rediss://h#sha256=a&sha256=b", Err(RedisUrlError::Fragment)),
            ("rediss://h#insecure=1", Err(RedisUrlError::Fragment)),
            ("rediss://h#key=k", Err(RedisUrlError::Fragment)),
            ("rediss://h#ca=%ff", Err(RedisUrlError::Text)),
            ("rediss+cluster://h", Err(RedisUrlError::Cluster)),
            ("redisss://h", Err(RedisUrlError::Scheme)),
            ("unixs:///a", Err(RedisUrlError::Scheme)),
            // A fragment without TLS would be read as a part of the port.
            ("redis://h:1#sha256=ab", Err(RedisUrlError::Host)),
        ];
        for (given, expected) in cases {
            let parsed = RedisUrl::parse(given);
            let address = parsed.as_ref().map(|url| url.address.as_str());
            assert_eq!(address.map_err(|error| *error), expected, "{given}");
            if let Ok(parsed) = parsed {
                assert!(parsed.security != Security::default(), "{given}");
            }
        }
        assert!(is_cluster("rediss+cluster://h") && is_cluster("redis+cluster://h"));
        assert!(!is_cluster("rediss://h") && !is_cluster("redis+cluster"));
        let mut url = ClusterUrl::parse("rediss+cluster://h#ca=/nowhere.pem").unwrap();
        assert!(url.node("x:1").security == url.node.security);
        let why = url.prepare().unwrap_err().to_string();
        assert!(why.contains("/nowhere.pem"), "{why}");
        let mut url = RedisUrl::parse("rediss://h#sha256=ab").unwrap();
        let why = url.security.prepare().unwrap_err().to_string();
        assert!(why.contains("64 hexadecimal digits"), "{why}");
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
            ("redis://h?sentinel_user=x", Err(RedisUrlError::Parameter)),
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
    fn urls_of_sentinels_are_parsed() {
        let of = |addresses: &[&str], master: &str| RedisUrl {
            sentinels: Some(SentinelUrl {
                addresses: addresses.iter().map(|it| (*it).to_owned()).collect(),
                master: master.into(),
                user: None,
                password: None,
            }),
            ..url("")
        };
        let with_all = {
            let mut with_all = of(&["a:26379", "[::1]:7000"], "m.1");
            let sentinels = with_all.sentinels.as_mut().expect("sentinels");
            (sentinels.user, sentinels.password) = (Some("su".into()), Some("s&p".into()));
            RedisUrl {
                user: Some("u".into()),
                password: Some("p".into()),
                database: 3,
                client_name: Some("web".into()),
                is_resp2: true,
                ..with_all
            }
        };
        let many = |count: usize| format!("redis+sentinel://{}/m", vec!["h"; count].join(","));
        let cases = [
            ("redis+sentinel://h/m", Ok(of(&["h:26379"], "m"))),
            (
                "redis+sentinel://a:1,b,c:3/m/",
                Ok(of(&["a:1", "b:26379", "c:3"], "m")),
            ),
            (
                "redis+sentinel://u:p@a,[::1]:7000/m%2e1/3?name=web&protocol=2&sentinel_user=su&sentinel_password=s%26p",
                Ok(with_all),
            ),
            (&many(16), Ok(of(&["h:26379"; 16], "m"))),
            (&many(17), Err(RedisUrlError::SentinelCount)),
            ("redis+sentinel://h", Err(RedisUrlError::MasterName)),
            ("redis+sentinel://h/", Err(RedisUrlError::MasterName)),
            ("redis+sentinel://h//1", Err(RedisUrlError::MasterName)),
            ("redis+sentinel://h/a%0ab", Err(RedisUrlError::MasterName)),
            ("redis+sentinel://h/m/x", Err(RedisUrlError::Database)),
            ("redis+sentinel:///m", Err(RedisUrlError::Host)),
            ("redis+sentinel://h,/m", Err(RedisUrlError::Host)),
            ("redis+sentinel://h:0/m", Err(RedisUrlError::Host)),
            ("redis+sentinel://h/m?x=1", Err(RedisUrlError::Parameter)),
        ];
        for (text, expected) in cases {
            assert_eq!(RedisUrl::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn urls_of_clusters_are_parsed() {
        let cluster = |seeds: &[&str], node: RedisUrl| {
            let seeds = seeds.iter().map(|seed| (*seed).to_owned()).collect();
            Ok(ClusterUrl { seeds, node })
        };
        let cases = [
            ("redis+cluster://h", cluster(&["h:6379"], url("h:6379"))),
            (
                "redis+cluster://a:7000,b,[::1]:7002",
                cluster(&["a:7000", "b:6379", "[::1]:7002"], url("a:7000")),
            ),
            (
                "redis+cluster://u:p@a,b/?name=web&protocol=2",
                cluster(
                    &["a:6379", "b:6379"],
                    RedisUrl {
                        user: Some("u".into()),
                        password: Some("p".into()),
                        client_name: Some("web".into()),
                        is_resp2: true,
                        ..url("a:6379")
                    },
                ),
            ),
            ("redis+cluster://", Err(RedisUrlError::Host)),
            ("redis+cluster://a,", Err(RedisUrlError::Host)),
            ("redis+cluster://a,b:0", Err(RedisUrlError::Host)),
            ("redis+cluster://a/1", Err(RedisUrlError::ClusterDatabase)),
            (
                "redis+cluster://a?db=1",
                Err(RedisUrlError::ClusterDatabase),
            ),
            ("redis+cluster://a?x=1", Err(RedisUrlError::Parameter)),
            (
                "redis+cluster://a?sentinel_user=x",
                Err(RedisUrlError::Parameter),
            ),
            ("redis://a", Err(RedisUrlError::Scheme)),
        ];
        for (text, expected) in cases {
            assert_eq!(ClusterUrl::parse(text), expected, "{text}");
        }
        let parsed = ClusterUrl::parse("redis+cluster://:p@a,b").expect("a URL");
        let node = parsed.node("c:7000");
        assert_eq!(
            (&*node.address, node.password.as_deref()),
            ("c:7000", Some("p"))
        );
        let one_server = RedisUrl::parse("redis+cluster://a");
        assert_eq!(one_server, Err(RedisUrlError::Cluster));
    }

    #[test]
    fn a_password_is_not_shown() {
        for text in [
            "redis://user:secret@h:6379",
            "redis+sentinel://user:secret@h:6379/m?sentinel_password=secret",
        ] {
            let url = RedisUrl::parse(text).expect("a URL");
            let shown = format!("{url:?}");
            assert!(shown.contains("h:6379"), "{shown}");
            assert!(!shown.contains("secret"), "{shown}");
        }
    }
}
