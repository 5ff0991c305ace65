//! Log lines that strangers can bring about: a few, with how many there would have been.
//!
//! Who could have a line written with each request would fill the log; and where the log goes into
//! a pipe that nobody reads, the line that does not fit any more stops the loop.

use std::fmt;
use std::time::Duration;

/// From one line to the next.
const PERIOD: Duration = Duration::from_secs(60);

/// Of a stranger's text, in characters; a name has at most 253.
const SHOWN_CHARACTERS_MAX: usize = 256;

/// What of a stranger's text goes into a line.
pub(crate) fn shown(text: &str) -> &str {
    let cut = text.char_indices().nth(SHOWN_CHARACTERS_MAX);
    cut.map_or(text, |(index, _)| &text[..index])
}

/// One kind of log line of one listener: the first, then one a minute.
#[derive(Debug, Default)]
pub(crate) struct LogLimit {
    told_at: Option<Duration>,
    suppressed: u64,
}

impl LogLimit {
    /// Whether to write the line now: with what to add to it.
    pub(crate) fn is_due(&mut self, now: Duration) -> Option<Suppressed> {
        if self.told_at.is_some_and(|told_at| now < told_at + PERIOD) {
            self.suppressed += 1;
            return None;
        }
        self.told_at = Some(now);
        Some(Suppressed(std::mem::take(&mut self.suppressed)))
    }
}

/// How many lines were not written since the last one that was. Nothing, where that is none.
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
        assert_eq!(shown("example.org"), "example.org");
        assert_eq!(shown(&"é".repeat(10_000)), "é".repeat(256));
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
                line.is_due(Duration::from_secs(second)),
                expected,
                "second {second}"
            );
        }
        assert_eq!(Suppressed(0).to_string(), "");
        assert_eq!(Suppressed(7).to_string(), "; 7 more since the last line");
    }
}
