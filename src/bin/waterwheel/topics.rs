//! Options of `serve` for topics: their rules, and the bytes that their history may take.

use lexopt::Parser;
use waterwheel::hub::Rules;

use crate::values::{bytes, text};

/// The options without their `--`.
const OPTIONS: [&str; 2] = ["topic", "history-bytes"];

/// The least `--history-bytes`: with less, the records of a few hundred topics would push out all messages.
/// `--topic '*=history=0'` keeps no message.
const HISTORY_BYTES_LEAST: usize = 64 * 1024;

#[derive(Debug, PartialEq, Eq)]
pub struct TopicOptions {
    /// In the order in which they were given.
    pub rules: Rules,
    pub history_bytes: usize,
}

impl Default for TopicOptions {
    fn default() -> Self {
        TopicOptions {
            rules: Rules::new(),
            history_bytes: 64 * 1024 * 1024,
        }
    }
}

impl TopicOptions {
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
        if option == "topic" {
            let rule = text(parser, "--topic")?;
            return self
                .rules
                .add_text(&rule)
                .map_err(|why| format!("--topic {rule:?}: {why}"));
        }
        let value = text(parser, "--history-bytes")?;
        self.history_bytes = bytes("--history-bytes", &value, HISTORY_BYTES_LEAST)?;
        Ok(())
    }

    /// Takes the rules out, and leaves the other options.
    pub fn take_rules(&mut self) -> Rules {
        std::mem::take(&mut self.rules)
    }

    /// Adds rules behind those that there are.
    ///
    /// # Errors
    ///
    /// A sentence, when there are too many together.
    pub fn append(&mut self, rules: &Rules) -> Result<(), String> {
        for (pattern, rule) in rules.iter() {
            let added = self.rules.add(pattern, rule.clone());
            added.map_err(|why| format!("--topic {pattern:?}: {why}"))?;
        }
        Ok(())
    }

    /// The patterns of private rules.
    pub fn private_patterns(&self) -> impl Iterator<Item = &str> {
        let rules = self.rules.iter().filter(|(_, rule)| rule.is_private);
        rules.map(|(pattern, _)| pattern)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(arguments: &[&str]) -> Result<TopicOptions, String> {
        let mut options = TopicOptions::default();
        let mut parser = Parser::from_args(arguments);
        while let Ok(Some(lexopt::Arg::Long(option))) = parser.next() {
            let option = option.to_owned();
            assert!(TopicOptions::has(&option), "{option}");
            options.take(&option, &mut parser)?;
        }
        Ok(options)
    }

    #[test]
    fn rules_keep_their_order() {
        let options = taken(&["--topic", "a.*=history=7", "--topic=*=private,latest"]).unwrap();
        assert_eq!(options.rules.of("a.b").history_count, 7);
        assert!(options.rules.of("b").is_private && options.rules.of("b").keeps_latest);
        assert!(options.private_patterns().eq(["*"]));
        assert_eq!(taken(&[]).unwrap().private_patterns().next(), None);
    }

    #[test]
    fn history_takes_64_mib_where_nothing_is_said() {
        assert_eq!(taken(&[]).unwrap().history_bytes, 67_108_864);
        let cases = [
            ("65536", 65_536),
            ("64KiB", 65_536),
            ("2MiB", 2 << 20),
            ("3 GiB", 3 << 30),
        ];
        for (value, expected) in cases {
            let options = taken(&[&format!("--history-bytes={value}")]).unwrap();
            assert_eq!(options.history_bytes, expected, "{value}");
        }
    }

    #[test]
    fn a_wrong_value_is_shown_with_its_option() {
        let cases = [
            ("--topic=news", ["--topic", "PATTERN=OPTION", "\"news\""]),
            ("--topic=a=privat", ["--topic", "private", "\"privat\""]),
            ("--topic=a=history=x", ["--topic", "history", "\"x\""]),
            ("--topic=a=age=0", ["--topic", "seconds from 1", "\"0\""]),
            ("--topic==latest", ["--topic", "pattern", "empty"]),
            ("--history-bytes=0", ["--history-bytes", "64 KiB", "\"0\""]),
            (
                "--history-bytes=65535",
                ["--history-bytes", "64 KiB", "\"65535\""],
            ),
            (
                "--history-bytes=much",
                ["--history-bytes", "64 KiB", "\"much\""],
            ),
            (
                "--history-bytes=99999999999GiB",
                ["--history-bytes", "64 KiB", "99GiB"],
            ),
        ];
        for (argument, parts) in cases {
            let error = taken(&[argument]).unwrap_err();
            for part in parts {
                assert!(error.contains(part), "{argument}: {error}");
            }
        }
        let many = vec!["--topic=a=latest"; 65];
        assert!(taken(&many[..64]).is_ok());
        assert!(taken(&many).unwrap_err().contains("64 rules"));
    }
}
