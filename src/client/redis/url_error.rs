//! The faults of URLs of Redis servers.

use std::fmt;

/// Why a text is not the URL of a Redis server. The text is not shown, because it may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RedisUrlError {
    /// It does not begin with `redis://`, `unix://`, `redis+sentinel://` or `redis+cluster://`, or one of them with `rediss`.
    Scheme,
    /// `rediss://` without the feature `tls`.
    Tls,
    /// The part behind `#` does not say how certificates are checked.
    Fragment,
    /// The host is empty, or the port is not a number from 1 to 65535.
    Host,
    /// The path of the socket is empty.
    Path,
    /// The sentinels are not told which master is meant.
    MasterName,
    /// More than 16 sentinels are named.
    SentinelCount,
    /// The database is not a number.
    Database,
    /// A database of a Redis Cluster, which has one only.
    ClusterDatabase,
    /// A Redis Cluster where one server is needed.
    Cluster,
    /// A parameter is unknown or has a value that it cannot have.
    Parameter,
    /// Something is not UTF-8 when decoded, or the name of the connection has a space or a control character.
    Text,
}

impl fmt::Display for RedisUrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RedisUrlError::Scheme => {
                "the URL of a Redis server begins with redis://, unix://, redis+sentinel:// or redis+cluster://, or with rediss for TLS"
            }
            RedisUrlError::Tls => "rediss:// needs TLS, and this build is without the feature `tls`",
            RedisUrlError::Fragment => {
                "the part behind # of the URL of a Redis server is sha256=HEX or ca=FILE, and certificate=FILE&key=FILE if the client shows one; it needs rediss://"
            }
            RedisUrlError::Host => {
                "the URL of the Redis server has no host, or a port that is not from 1 to 65535"
            }
            RedisUrlError::Path => "the URL of the Redis server has no path of a socket",
            RedisUrlError::MasterName => {
                "the URL of the sentinels has no name of a master: redis+sentinel://HOST/NAME"
            }
            RedisUrlError::SentinelCount => "the URL names more than 16 sentinels",
            RedisUrlError::Database => {
                "the database in the URL of the Redis server is not a number"
            }
            RedisUrlError::ClusterDatabase => {
                "a Redis Cluster has one database, so its URL must not name one"
            }
            RedisUrlError::Cluster => "redis+cluster:// names a cluster, not one server",
            RedisUrlError::Parameter => {
                "the parameters of the URL of a Redis server are name=NAME, db=NUMBER and protocol=2, and those of sentinels sentinel_user=USER and sentinel_password=PASSWORD too"
            }
            RedisUrlError::Text => {
                "the URL of the Redis server has a part that is not text, or a name with spaces"
            }
        })
    }
}

impl std::error::Error for RedisUrlError {}
