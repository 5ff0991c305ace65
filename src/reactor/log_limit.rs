//! Log lines that any client can cause: at most one a minute of each kind, with the number of lines left
//! out.
//!
//! A client that could cause a line with each request would fill the disk. If the log goes into a pipe that
//! is no longer read, a line that does not fit blocks the write, and with it the loop, unless the logger
//! prevents that as the program's own does.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

/// The time between two lines of one kind.
const PERIOD: Duration = Duration::from_secs(60);

/// The most characters of a client's text in a line. A host name has at most 253 (RFC 1035, section 2.3.4).
const TEXT_CHARACTERS_MAX: usize = 256;

/// The beginning of a client's text, short enough for a log line. Cut between characters, since a cut inside
/// one would panic.
pub(crate) fn truncate(text: &str) -> &str {
    let cut = text.char_indices().nth(TEXT_CHARACTERS_MAX);
    cut.map_or(text, |(index, _)| &text[..index])
}

/// One kind of log line, mostly of one listener: lets the first line through, then one a minute.
#[derive(Debug, Default)]
pub(crate) struct LogLimit {
    logged_at: Option<Duration>,
    suppressed: u64,
}

impl LogLimit {
    /// Asks to write a line. `Some` when the line may be written now; its text belongs at the end of the line.
    /// `None` when the line is counted and left out.
    pub(crate) fn allow_line(&mut self, now: Duration) -> Option<Suppressed> {
        if self
            .logged_at
            .is_some_and(|logged_at| now < logged_at + PERIOD)
        {
            self.suppressed += 1;
            return None;
        }
        self.logged_at = Some(now);
        Some(Suppressed(std::mem::take(&mut self.suppressed)))
    }
}

/// The most subjects whose lines are limited at the same time. A program that connects to ever other servers
/// has ever other ones.
const SUBJECTS_MAX: usize = 1024;

/// Log lines of one kind about many subjects, such as the errors of the callbacks of many routes: each subject
/// has a limit of its own.
#[derive(Debug, Default)]
pub(crate) struct LogLimits(HashMap<String, LogLimit>);

impl LogLimits {
    /// Asks to write a line about this subject, as [`LogLimit::allow_line`].
    pub(crate) fn allow_line(&mut self, subject: String, now: Duration) -> Option<Suppressed> {
        if self.0.len() == SUBJECTS_MAX && !self.0.contains_key(&subject) {
            self.0.clear();
        }
        self.0.entry(subject).or_default().allow_line(now)
    }
}

/// How many lines were left out since the last one that was written. Empty text when there were none.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Suppressed(u64);

impl fmt::Display for Suppressed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            count => write!(f, "; {count} more since the last line"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut() {
        assert_eq!(truncate("example.org"), "example.org");
        assert_eq!(truncate(&"é".repeat(10_000)), "é".repeat(256));
    }

    #[test]
    fn each_subject_has_a_limit_of_its_own() {
        let mut lines = LogLimits::default();
        let mut allows = |subject: &str| {
            let allowed = lines.allow_line(subject.into(), Duration::ZERO);
            allowed.is_some()
        };
        assert!(allows("one") && allows("other"));
        assert!(!allows("one") && !allows("other"));
        // The number of subjects is bounded.
        for index in 0..SUBJECTS_MAX {
            assert!(allows(&index.to_string()));
        }
        assert!(lines.0.len() <= SUBJECTS_MAX);
    }

    #[test]
    fn the_first_line_and_then_one_a_minute_are_logged() {
        let mut line = LogLimit::default();
        let seconds = [
            (5, Some(Suppressed(0))),
            (5, None),
            (64, None),
            (65, Some(Suppressed(2))),
            (66, None),
            (1000, Some(Suppressed(1))),
            (1060, Some(Suppressed(0))),
        ];
        for (second, expected) in seconds {
            assert_eq!(
                line.allow_line(Duration::from_secs(second)),
                expected,
                "second {second}"
            );
        }
        assert_eq!(Suppressed(0).to_string(), "");
        assert_eq!(Suppressed(7).to_string(), "; 7 more since the last line");
    }
}
