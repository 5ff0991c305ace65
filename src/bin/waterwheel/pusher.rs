//! Options of `serve` for Pusher Channels.

use std::fs;
use std::io;
use std::path::PathBuf;

use lexopt::Parser;
use waterwheel::hub::PusherApp;

use crate::values::text;

/// The options without their `--`.
const OPTIONS: [&str; 2] = ["pusher-app", "pusher-app-file"];

#[derive(Debug, Default, PartialEq, Eq)]
pub struct PusherOptions {
    /// From the command line.
    given: Vec<PusherApp>,
    files: Vec<PathBuf>,
}

impl PusherOptions {
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
        if option == "pusher-app-file" {
            self.files.push(text(parser, "--pusher-app-file")?.into());
            return Ok(());
        }
        let app = text(parser, "--pusher-app")?.parse();
        self.given
            .push(app.map_err(|error| format!("--pusher-app: {error}"))?);
        Ok(())
    }

    /// The apps, with those of the files, one a line. Empty lines and those that begin with `#` are left out.
    ///
    /// # Errors
    ///
    /// When a file cannot be read, a line is no app, or two apps have the same id or key.
    pub fn apps(&self) -> io::Result<Vec<PusherApp>> {
        let mut apps = self.given.clone();
        for path in &self.files {
            let wrong = |kind, why: &dyn std::fmt::Display| {
                io::Error::new(kind, format!("--pusher-app-file {}: {why}", path.display()))
            };
            let text = fs::read_to_string(path).map_err(|error| wrong(error.kind(), &error))?;
            for (index, line) in text.lines().enumerate() {
                let line = line.trim();
                if line.is_empty() || line.starts_with('#') {
                    continue;
                }
                let app = line.parse::<PusherApp>().map_err(|error| {
                    let why = format!("line {}: {error}", index + 1);
                    wrong(io::ErrorKind::InvalidData, &why)
                })?;
                apps.push(app);
            }
        }
        for (index, app) in apps.iter().enumerate() {
            let is_same = |it: &PusherApp| it.id() == app.id() || it.key() == app.key();
            if apps[..index].iter().any(is_same) {
                let why = format!(
                    "--pusher-app: two apps have the id {:?} or the key {:?}",
                    app.id(),
                    app.key()
                );
                return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
            }
        }
        Ok(apps)
    }
}
