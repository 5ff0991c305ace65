//! Limits of `serve` for what one client may do, and all clients together; 0 stands for none.

use std::time::Duration;

use lexopt::Parser;
use waterwheel::Config;

use crate::values::text;

/// The options without their `--`, in the order of the fields of [`Limits`].
const OPTIONS: [&str; 4] = [
    "messages-per-second",
    "max-fragments",
    "max-subscriptions",
    "max-connection-age",
];

/// The highest values: what the library can count, and for the age ten years.
const HIGHEST: [u32; 4] = [1_000_000, u32::MAX, u32::MAX, 10 * 365 * 86_400];

#[derive(Debug, PartialEq, Eq)]
pub struct Limits {
    /// Messages that a WebSocket client may send in a second.
    messages_per_second: u32,
    /// Frames of one message. A client that cuts a message of 1 MiB into frames of 256 bytes is within.
    max_fragments: u32,
    /// Subscriptions of all clients. Ten million take a gigabyte: `--memory-max` is the tighter limit on most
    /// machines.
    max_subscriptions: u32,
    /// In seconds.
    max_connection_age: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            messages_per_second: 500,
            max_fragments: 4096,
            max_subscriptions: 10_000_000,
            max_connection_age: 0,
        }
    }
}

impl Limits {
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
        let index = OPTIONS.iter().position(|name| *name == option);
        let index = index.expect("the caller has asked");
        let (option, highest) = (format!("--{option}"), HIGHEST[index]);
        let value = text(parser, &option)?;
        let number = value.parse().ok().filter(|number| *number <= highest);
        let fields = [
            &mut self.messages_per_second,
            &mut self.max_fragments,
            &mut self.max_subscriptions,
            &mut self.max_connection_age,
        ];
        *fields.into_iter().nth(index).expect("as many") = number.ok_or_else(|| {
            format!("{option}: expected a number up to {highest}, 0 for no limit, got {value:?}")
        })?;
        Ok(())
    }

    /// Sets the fields of the library's configuration.
    pub fn apply(&self, config: &mut Config) {
        let unless_zero = |limit: u32| (limit != 0).then_some(limit);
        config.options.messages_per_second_max = unless_zero(self.messages_per_second);
        config.options.websocket.fragments_max = unless_zero(self.max_fragments);
        config.subscriptions_total_max =
            unless_zero(self.max_subscriptions).map(|count| count as usize);
        config.options.age_max = unless_zero(self.max_connection_age)
            .map(|seconds| Duration::from_secs(u64::from(seconds)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(arguments: &[&str]) -> Result<Limits, String> {
        let mut limits = Limits::default();
        let mut parser = Parser::from_args(arguments);
        while let Ok(Some(lexopt::Arg::Long(option))) = parser.next() {
            let option = option.to_owned();
            assert!(Limits::has(&option), "{option}");
            limits.take(&option, &mut parser)?;
        }
        Ok(limits)
    }

    #[test]
    fn each_option_sets_its_field_and_zero_is_no_limit() {
        let mut config = Config::default();
        taken(&[]).unwrap().apply(&mut config);
        assert_eq!(config.options.messages_per_second_max, Some(500));
        assert_eq!(config.options.websocket.fragments_max, Some(4096));
        assert_eq!(config.subscriptions_total_max, Some(10_000_000));
        assert_eq!(config.options.age_max, None);
        let given = taken(&[
            "--messages-per-second=1",
            "--max-fragments=2",
            "--max-subscriptions=3",
            "--max-connection-age=4",
        ]);
        given.unwrap().apply(&mut config);
        assert_eq!(config.options.messages_per_second_max, Some(1));
        assert_eq!(config.options.websocket.fragments_max, Some(2));
        assert_eq!(config.subscriptions_total_max, Some(3));
        assert_eq!(config.options.age_max, Some(Duration::from_secs(4)));
        let none = OPTIONS.map(|option| format!("--{option}=0"));
        let none = taken(&none.each_ref().map(String::as_str)).unwrap();
        none.apply(&mut config);
        assert!(config.clone().checked().is_ok());
        assert_eq!(config.options.messages_per_second_max, None);
        assert_eq!(config.options.websocket.fragments_max, None);
        assert_eq!(config.subscriptions_total_max, None);
        assert_eq!(config.options.age_max, None);
    }

    #[test]
    fn a_value_that_the_library_would_refuse_is_an_error() {
        for (option, highest) in OPTIONS.into_iter().zip(HIGHEST) {
            let mut config = Config::default();
            let most = taken(&[&format!("--{option}={highest}")]).unwrap();
            most.apply(&mut config);
            assert!(config.checked().is_ok(), "{option}");
            for value in [
                format!("{}", u64::from(highest) + 1),
                "x".into(),
                "-1".into(),
            ] {
                let error = taken(&[&format!("--{option}={value}")]).unwrap_err();
                assert!(error.contains(option) && error.contains(&value), "{error}");
            }
        }
    }
}
