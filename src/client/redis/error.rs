//! Why a command to a Redis server has no answer.

use std::fmt;

/// Why a command has no answer. An error that the server answers is an answer:
/// [`Reply::Error`](crate::protocol::resp::Reply::Error).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RedisError {
    /// There was no connection for a second. The command was not sent.
    Away,
    /// Too many commands wait. The command was not sent.
    Full,
    /// The connection ended before the answer came. Whether the server has carried out the command is not known.
    Unknown,
    /// The answer did not come in time. Whether the server carries out the command is not known.
    TimedOut,
}

impl RedisError {
    /// Whether the command was certainly not carried out, so that it may be sent again.
    pub fn is_unsent(self) -> bool {
        matches!(self, RedisError::Away | RedisError::Full)
    }
}

impl fmt::Display for RedisError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RedisError::Away => "the Redis server is away",
            RedisError::Full => "too many commands wait for the Redis server",
            RedisError::Unknown => {
                "the connection to the Redis server ended before the answer; whether the command was carried out is not known"
            }
            RedisError::TimedOut => {
                "the Redis server did not answer in time; whether the command is carried out is not known"
            }
        })
    }
}

impl std::error::Error for RedisError {}
