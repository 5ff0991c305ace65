//! Options of `serve` for ActionCable.

use std::io;
use std::path::PathBuf;

use lexopt::Parser;
use waterwheel::hub::{CableHook, CableOptions};

use crate::reload::read_lines;
use crate::values::text;

/// Keys of one kind.
#[derive(Default, PartialEq, Eq)]
struct Keys {
    /// From the command line or the environment.
    given: Vec<String>,
    files: Vec<PathBuf>,
}

/// The kinds of keys: the option without its `--`, to which `-file` is added for a file, and the variable of the
/// environment that stands for it.
const KINDS: [(&str, &str); 5] = [
    ("cable-secret", "WATERWHEEL_CABLE_SECRET"),
    ("cable-turbo-key", "WATERWHEEL_CABLE_TURBO_KEY"),
    ("cable-streams-key", "WATERWHEEL_CABLE_STREAMS_KEY"),
    ("cable-broadcast-key", "WATERWHEEL_CABLE_BROADCAST_KEY"),
    ("cable-hook-secret", "WATERWHEEL_CABLE_HOOK_SECRET"),
];

/// Keys of fewer bytes may be found by trying.
const KEY_BYTES_ADVISED: usize = 16;

#[derive(Default, PartialEq, Eq)]
pub struct CableArguments {
    is_wanted: bool,
    is_open: bool,
    hook_url: Option<String>,
    /// By [`KINDS`].
    keys: [Keys; KINDS.len()],
}

/// Without the keys.
impl std::fmt::Debug for CableArguments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CableArguments")
            .field("is_wanted", &self.is_wanted)
            .field("is_open", &self.is_open)
            .finish_non_exhaustive()
    }
}

/// The kind of keys that an option is for, and whether it names a file.
fn kind_of(option: &str) -> Option<(usize, bool)> {
    let (name, is_file) = match option.strip_suffix("-file") {
        Some(name) => (name, true),
        None => (option, false),
    };
    let kind = KINDS.iter().position(|(known, _)| *known == name)?;
    Some((kind, is_file))
}

impl CableArguments {
    /// Whether an option, without its `--`, is one of these.
    pub fn has(option: &str) -> bool {
        ["cable", "cable-open", "cable-hook"].contains(&option) || kind_of(option).is_some()
    }

    /// Sets an option, without its `--`, of which a value is the next argument.
    ///
    /// # Errors
    ///
    /// A sentence with the option and what was expected. The key stays out of it.
    pub fn take(&mut self, option: &str, parser: &mut Parser) -> Result<(), String> {
        self.is_wanted = true;
        self.is_open |= option == "cable-open";
        if option == "cable-hook" {
            self.hook_url = Some(hook_url(text(parser, "--cable-hook")?)?);
        }
        let Some((kind, is_file)) = kind_of(option) else {
            return Ok(());
        };
        let option = format!("--{option}");
        let value = text(parser, &option)?;
        match is_file {
            true => self.keys[kind].files.push(value.into()),
            false => self.keys[kind].given.push(key(&option, value)?),
        }
        Ok(())
    }

    /// Whether ActionCable is served.
    pub fn is_wanted(&self) -> bool {
        self.is_wanted
    }

    /// Adds the keys of the environment, of each kind that has none.
    ///
    /// # Errors
    ///
    /// A sentence with the variable and what was expected.
    pub fn add_environment(
        &mut self,
        environment: impl Fn(&'static str) -> Result<Option<String>, String>,
    ) -> Result<(), String> {
        for ((_, variable), keys) in KINDS.iter().zip(&mut self.keys) {
            if keys.given.is_empty()
                && keys.files.is_empty()
                && let Some(given) = environment(variable)?
            {
                keys.given.push(key(variable, given)?);
                self.is_wanted = true;
            }
        }
        Ok(())
    }

    /// The options, with the keys of the files, one a line. Empty lines and those that begin with `#` are left out. `None`
    /// where ActionCable is not wanted.
    ///
    /// # Errors
    ///
    /// When a file cannot be read, or a line is no key.
    pub fn options(&self) -> io::Result<Option<CableOptions>> {
        if !self.is_wanted {
            return Ok(None);
        }
        let all = |kind: usize| -> io::Result<Vec<String>> {
            let mut all = self.keys[kind].given.clone();
            let option = format!("--{}-file", KINDS[kind].0);
            for path in &self.keys[kind].files {
                all.extend(read_lines(&option, "key", path, key)?);
            }
            if all.iter().any(|key| key.len() < KEY_BYTES_ADVISED) {
                let option = KINDS[kind].0;
                log::warn!(
                    "--{option}: a key of fewer than {KEY_BYTES_ADVISED} bytes may be found by trying"
                );
            }
            Ok(all)
        };
        let hook_secret = all(4)?.into_iter().next();
        let hook = self.hook_url.clone().map(|url| CableHook {
            url,
            secret: hook_secret,
        });
        Ok(Some(CableOptions {
            secrets: all(0)?,
            turbo_keys: all(1)?,
            streams_keys: all(2)?,
            broadcast_keys: all(3)?,
            is_open: self.is_open,
            hook,
        }))
    }
}

/// Checks the URL of a hook.
///
/// # Errors
///
/// A sentence that says what was expected. The URL stays out of it: it may hold a password.
fn hook_url(url: String) -> Result<String, String> {
    let is_url = ["http://", "https://"].iter().any(|it| url.starts_with(it));
    match is_url && !url.chars().any(|it| it.is_control() || it == ' ') {
        true => Ok(url),
        false => {
            Err("--cable-hook: expected a URL that begins with http:// or https://".to_owned())
        }
    }
}

/// Checks a key. `place` is the option or the line that has it.
///
/// # Errors
///
/// A sentence with the place and what was expected. The key stays out of it.
fn key(place: &str, value: String) -> Result<String, String> {
    match value.is_empty() || value.chars().any(char::is_control) {
        true => Err(format!(
            "{place}: expected a key in one line without control characters"
        )),
        false => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_option_asks_for_it() {
        let mut parser = Parser::from_args(["the-key-of-the-tests"]);
        let mut arguments = CableArguments::default();
        assert_eq!(arguments.options().unwrap().map(|_| ()), None);
        arguments.take("cable-streams-key", &mut parser).unwrap();
        let options = arguments.options().unwrap().unwrap();
        assert_eq!(options.streams_keys, ["the-key-of-the-tests"]);
        assert!(!options.is_open && options.secrets.is_empty());
        let mut arguments = CableArguments::default();
        let mut parser = Parser::from_args([""; 0]);
        arguments.take("cable-open", &mut parser).unwrap();
        assert!(arguments.options().unwrap().unwrap().is_open);
        let mut arguments = CableArguments::default();
        let environment = |name: &'static str| Ok((name == KINDS[0].1).then(|| "base".into()));
        arguments.add_environment(environment).unwrap();
        assert_eq!(arguments.options().unwrap().unwrap().secrets, ["base"]);
    }

    #[test]
    fn options_by_their_names() {
        for option in [
            "cable",
            "cable-open",
            "cable-secret",
            "cable-turbo-key-file",
            "cable-broadcast-key",
        ] {
            assert!(CableArguments::has(option), "{option}");
        }
        for option in ["cable-file", "cable-open-file", "cable-key", "secret"] {
            assert!(!CableArguments::has(option), "{option}");
        }
        let mut parser = Parser::from_args(["two\nlines"]);
        let refused = CableArguments::default().take("cable-secret", &mut parser);
        let why = refused.unwrap_err();
        assert!(
            why.contains("--cable-secret") && !why.contains("two"),
            "{why}"
        );
    }
}
