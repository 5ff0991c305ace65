//! Options of `serve` for Redis: the server that makes several nodes one hub.

use lexopt::Parser;
use waterwheel::pubsub::TOPIC_BYTES_MAX;

use crate::values::text;

/// The options without their `--`.
const OPTIONS: [&str; 2] = ["redis", "redis-prefix"];

/// The variables of the environment that name the server, the first that is set. It may hold a password, which other users
/// of the machine see in the arguments of a process.
pub const VARIABLES: [&str; 2] = ["WATERWHEEL_REDIS_URL", "REDIS_URL"];

/// The longest prefix, in bytes.
const PREFIX_BYTES_MAX: usize = 64;

#[derive(Default, PartialEq, Eq)]
pub struct RedisOptions {
    pub url: Option<String>,
    pub prefix: Option<String>,
}

/// Without the URL, which may hold a password.
impl std::fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisOptions")
            .field("has_url", &self.url.is_some())
            .field("prefix", &self.prefix)
            .finish()
    }
}

impl RedisOptions {
    /// Whether an option, without its `--`, is one of these.
    pub fn has(option: &str) -> bool {
        OPTIONS.contains(&option)
    }

    /// Sets an option, without its `--`, to the next argument.
    ///
    /// # Errors
    ///
    /// A sentence with the option, the value, and what was expected.
    pub fn take(&mut self, option: &str, parser: &mut Parser) -> Result<(), String> {
        if option == "redis" {
            self.url = Some(text(parser, "--redis")?);
            return Ok(());
        }
        let prefix = text(parser, "--redis-prefix")?;
        let is_name = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_name || PREFIX_BYTES_MAX.min(TOPIC_BYTES_MAX) < prefix.len() {
            return Err(format!(
                "--redis-prefix {prefix:?}: expected 1 to {PREFIX_BYTES_MAX} visible ASCII characters"
            ));
        }
        self.prefix = Some(prefix);
        Ok(())
    }
}
