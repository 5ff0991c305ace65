//! Options of `serve` for Mercure.

use lexopt::Parser;

use crate::secrets::{SecretOptions, secret};
use crate::values::text;

/// The options without their `--`.
const OPTIONS: [&str; 6] = [
    "mercure-publisher-key",
    "mercure-publisher-key-file",
    "mercure-subscriber-key",
    "mercure-subscriber-key-file",
    "mercure-anonymous",
    "mercure-subscriptions",
];

/// The variables of the environment that stand for `--mercure-publisher-key` and `--mercure-subscriber-key`.
const VARIABLES: [&str; 2] = [
    "WATERWHEEL_MERCURE_PUBLISHER_KEY",
    "WATERWHEEL_MERCURE_SUBSCRIBER_KEY",
];

#[derive(Debug, Default, PartialEq, Eq)]
pub struct MercureOptions {
    pub publisher: SecretOptions,
    pub subscriber: SecretOptions,
    pub is_anonymous: bool,
    pub has_subscriptions: bool,
}

impl MercureOptions {
    /// Whether an option, without its `--`, is one of these.
    pub fn has(option: &str) -> bool {
        OPTIONS.contains(&option)
    }

    /// Whether there is a key.
    pub fn is_on(&self) -> bool {
        !self.publisher.is_empty() || !self.subscriber.is_empty()
    }

    /// Takes an option, without its `--`, with its value where it has one.
    ///
    /// # Errors
    ///
    /// A sentence with the option and what was expected. The key stays out of it.
    pub fn take(&mut self, option: &str, parser: &mut Parser) -> Result<(), String> {
        let name = format!("--{option}");
        let keys = match option {
            "mercure-anonymous" => {
                self.is_anonymous = true;
                return Ok(());
            }
            "mercure-subscriptions" => {
                self.has_subscriptions = true;
                return Ok(());
            }
            _ if option.starts_with("mercure-publisher") => &mut self.publisher,
            _ => &mut self.subscriber,
        };
        let value = text(parser, &name)?;
        match option.ends_with("-file") {
            true => keys.files.push(value.into()),
            false => keys.given.push(secret(&name, value)?),
        }
        Ok(())
    }

    /// Takes the keys of the environment, each where no option gives one.
    ///
    /// # Errors
    ///
    /// A sentence with the variable, or with the option that needs a key.
    pub fn complete(
        &mut self,
        environment: impl Fn(&'static str) -> Result<Option<String>, String>,
    ) -> Result<(), String> {
        let keys = [&mut self.publisher, &mut self.subscriber];
        for (variable, keys) in VARIABLES.into_iter().zip(keys) {
            if keys.is_empty()
                && let Some(given) = environment(variable)?
            {
                keys.given.push(secret(variable, given)?);
            }
        }
        let flags = [
            ("--mercure-anonymous", self.is_anonymous),
            ("--mercure-subscriptions", self.has_subscriptions),
        ];
        for (flag, is_set) in flags {
            if is_set && !self.is_on() {
                return Err(format!(
                    "{flag} is for a Mercure hub, which needs a key: --mercure-publisher-key KEY or \
                     --mercure-subscriber-key KEY"
                ));
            }
        }
        Ok(())
    }
}
