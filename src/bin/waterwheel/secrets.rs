//! Options of `serve` for the secrets of JSON Web Tokens.

use std::path::PathBuf;

use lexopt::Parser;

use crate::values::text;

/// The options without their `--`.
const OPTIONS: [&str; 2] = ["token-secret", "token-secret-file"];

/// The variable of the environment that stands for `--token-secret`.
pub const VARIABLE: &str = "WATERWHEEL_TOKEN_SECRET";

/// The fewest bytes of a secret.
const SECRET_BYTES_LEAST: usize = 32;

#[derive(Debug, Default, PartialEq, Eq)]
pub struct SecretOptions {
    /// From the command line or the environment.
    pub given: Vec<String>,
    pub files: Vec<PathBuf>,
}

impl SecretOptions {
    /// Whether an option, without its `--`, is one of these.
    pub fn has(option: &str) -> bool {
        OPTIONS.contains(&option)
    }

    /// Adds the next argument as the value of an option, without its `--`.
    ///
    /// # Errors
    ///
    /// A sentence with the option and what was expected. The secret stays out of it.
    pub fn take(&mut self, option: &str, parser: &mut Parser) -> Result<(), String> {
        if option == "token-secret-file" {
            self.files.push(text(parser, "--token-secret-file")?.into());
            return Ok(());
        }
        let value = text(parser, "--token-secret")?;
        self.given.push(secret("--token-secret", value)?);
        Ok(())
    }

    pub fn is_empty(&self) -> bool {
        self.given.is_empty() && self.files.is_empty()
    }
}

/// Checks a secret. `place` is the option or the line that has it.
///
/// # Errors
///
/// A sentence with the place and what was expected. The secret stays out of it.
pub fn secret(place: &str, value: String) -> Result<String, String> {
    let bytes = value.len();
    if bytes < SECRET_BYTES_LEAST {
        return Err(format!(
            "{place}: expected at least {SECRET_BYTES_LEAST} bytes, got {bytes}; \
             `openssl rand -hex 32` makes a secret"
        ));
    }
    if value.chars().any(char::is_control) {
        return Err(format!(
            "{place}: expected one line without control characters"
        ));
    }
    Ok(value)
}
