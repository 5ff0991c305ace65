//! The words behind `waterwheel bench`.

use std::time::Duration;

use lexopt::{Arg, Parser};
use log::LevelFilter;

use super::echo;
use crate::arguments::{level, text};

pub const HELP: &str = "\
waterwheel bench: load for servers, and what they make of it

  waterwheel bench echo [OPTIONS]      messages go out and must come back

Options of all:
  --url URL                ws://HOST:PORT/PATH of the server
  --pid PID                the server's process, on this machine: processor time and memory
  --seconds S              how long to measure [5]
  --warmup S               how long to run before that [1]
  --connect-rate R         connections begun per second at the most [as many as the server takes]
  --json                   one JSON object on standard output
  --log LEVEL              off, error, warn, info, debug or trace [warn]

Options of echo:
  --connections N          [100]
  --size BYTES             of each message [20]
  --pipeline K             messages outstanding on each connection [1]
  --rate R                 open loop: messages per second on all connections together, whatever comes
                           back; latencies count from when a message was due
  --binary                 binary messages instead of text
  --verify                 check every byte of every reply, and the order

Anything wrong (a connection lost, a reply that is missing or differs) is said, and the exit code is 1.
";

/// The most that a number of connections or messages may be, and the longest run in seconds.
const COUNT_MAX: usize = 10_000_000;
const SECONDS_MAX: f64 = 86_400.0;

#[derive(Debug, PartialEq)]
pub struct Bench {
    pub mode: Mode,
    pub url: String,
    pub pid: Option<u32>,
    pub seconds: Duration,
    pub warmup: Duration,
    pub connect_rate: Option<f64>,
    pub json: bool,
    pub log: LevelFilter,
}

#[derive(Debug, PartialEq)]
pub enum Mode {
    Echo {
        connections: usize,
        options: echo::Options,
    },
}

impl Mode {
    pub fn name(&self) -> &'static str {
        match self {
            Mode::Echo { .. } => "echo",
        }
    }

    pub fn connections(&self) -> usize {
        match self {
            Mode::Echo { connections, .. } => *connections,
        }
    }

    /// Whether one address has too few ports for it.
    pub fn spreads(&self) -> bool {
        match self {
            Mode::Echo { connections, .. } => 20_000 < *connections,
        }
    }
}

/// What stood there, before it is known for which kind of load.
#[derive(Default)]
struct Words {
    url: Option<String>,
    pid: Option<u32>,
    seconds: Option<Duration>,
    warmup: Option<Duration>,
    connect_rate: Option<f64>,
    json: bool,
    log: Option<LevelFilter>,
    connections: Option<usize>,
    size: Option<usize>,
    pipeline: Option<usize>,
    rate: Option<f64>,
    binary: bool,
    verify: bool,
}

const COMMON: [&str; 7] = [
    "url",
    "pid",
    "seconds",
    "warmup",
    "connect-rate",
    "json",
    "log",
];

/// The kinds of load, and which options each has beside the common ones.
const MODES: [(&str, &[&str]); 1] = [(
    "echo",
    &[
        "connections",
        "size",
        "pipeline",
        "rate",
        "binary",
        "verify",
    ],
)];

/// What is to be measured; `None` when only the help is asked for.
///
/// # Errors
///
/// A sentence with the option, the value, and what was expected.
pub fn parse(parser: &mut Parser) -> Result<Option<Bench>, String> {
    let mut mode = None;
    let mut words = Words::default();
    while let Some(argument) = parser.next().map_err(|error| error.to_string())? {
        match argument {
            Arg::Long("help") | Arg::Short('h') => return Ok(None),
            Arg::Long(name) => {
                let name = name.to_owned();
                let Some((mode, own)) = mode else {
                    return Err(format!("--{name}: say first which load: {}", names()));
                };
                let own: &[&str] = own;
                if !COMMON.contains(&name.as_str()) && !own.contains(&name.as_str()) {
                    return Err(format!("bench {mode} has no option --{name}"));
                }
                words.take(&name, parser)?;
            }
            Arg::Value(word) if mode.is_none() => {
                mode = MODES.into_iter().find(|(name, _)| word == *name);
                if mode.is_none() {
                    return Err(format!("bench {word:?}: expected {}", names()));
                }
            }
            other => return Err(other.unexpected().to_string()),
        }
    }
    let Some((mode, _)) = mode else {
        return Err(format!("bench: expected {}", names()));
    };
    words.into_bench(mode).map(Some)
}

fn names() -> String {
    let names = MODES.map(|(name, _)| name);
    names.join(", ")
}

impl Words {
    fn take(&mut self, name: &str, parser: &mut Parser) -> Result<(), String> {
        let option = &format!("--{name}");
        match name {
            "json" => self.json = true,
            "binary" => self.binary = true,
            "verify" => self.verify = true,
            "url" => self.url = Some(text(parser, option)?),
            "log" => self.log = Some(level(&text(parser, option)?)?),
            "pid" => {
                self.pid =
                    Some(number(option, &text(parser, option)?, 1, u32::MAX as usize)? as u32)
            }
            "connections" => self.connections = Some(count(option, parser)?),
            "size" => self.size = Some(number(option, &text(parser, option)?, 1, 1 << 30)?),
            "pipeline" => self.pipeline = Some(count(option, parser)?),
            "rate" => self.rate = Some(rate(option, &text(parser, option)?)?),
            "connect-rate" => self.connect_rate = Some(rate(option, &text(parser, option)?)?),
            "seconds" => self.seconds = Some(seconds(option, &text(parser, option)?, 0.01)?),
            "warmup" => self.warmup = Some(seconds(option, &text(parser, option)?, 0.0)?),
            _ => return Err(format!("{option} is not known")),
        }
        Ok(())
    }

    fn into_bench(self, mode: &str) -> Result<Bench, String> {
        let Some(url) = self.url else {
            return Err(format!("bench {mode} needs --url ws://HOST:PORT/"));
        };
        let connections = self.connections.unwrap_or(100);
        let mode = match mode {
            "echo" => {
                if self.rate.is_some() && self.pipeline.is_some() {
                    return Err("--rate: an open loop has no --pipeline".to_owned());
                }
                Mode::Echo {
                    connections,
                    options: echo::Options {
                        size: self.size.unwrap_or(20),
                        pipeline: self.pipeline.unwrap_or(1),
                        rate: self.rate,
                        binary: self.binary,
                        verify: self.verify,
                    },
                }
            }
            _ => return Err(format!("bench {mode:?}: expected {}", names())),
        };
        Ok(Bench {
            mode,
            url,
            pid: self.pid,
            seconds: self.seconds.unwrap_or(Duration::from_secs(5)),
            warmup: self.warmup.unwrap_or(Duration::from_secs(1)),
            connect_rate: self.connect_rate,
            json: self.json,
            log: self.log.unwrap_or(LevelFilter::Warn),
        })
    }
}

fn count(option: &str, parser: &mut Parser) -> Result<usize, String> {
    number(option, &text(parser, option)?, 1, COUNT_MAX)
}

fn number(option: &str, value: &str, min: usize, max: usize) -> Result<usize, String> {
    match value.parse() {
        Ok(number) if (min..=max).contains(&number) => Ok(number),
        _ => Err(format!(
            "{option}: expected a number from {min} to {max}, got {value:?}"
        )),
    }
}

fn rate(option: &str, value: &str) -> Result<f64, String> {
    match value.parse::<f64>() {
        Ok(rate) if (0.001..=1e9).contains(&rate) => Ok(rate),
        _ => Err(format!(
            "{option}: expected a number per second above 0, got {value:?}"
        )),
    }
}

fn seconds(option: &str, value: &str, min: f64) -> Result<Duration, String> {
    match value.parse::<f64>() {
        Ok(seconds) if (min..=SECONDS_MAX).contains(&seconds) => {
            Ok(Duration::from_secs_f64(seconds))
        }
        _ => Err(format!(
            "{option}: expected seconds from {min} to {SECONDS_MAX}, got {value:?}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(words: &str) -> Result<Option<Bench>, String> {
        parse(&mut Parser::from_args(words.split_whitespace()))
    }

    #[test]
    fn errors_name_option_value_and_what_was_expected() {
        let cases = [
            ("", ["bench", "echo", ""]),
            ("shout", ["\"shout\"", "echo", ""]),
            ("--url ws://h/", ["--url", "which load", "echo"]),
            ("echo", ["--url", "ws://HOST:PORT/", ""]),
            ("echo --url", ["--url", "needs a value", ""]),
            ("echo --size 0", ["--size", "from 1", "\"0\""]),
            (
                "echo --connections many",
                ["--connections", "from 1", "\"many\""],
            ),
            ("echo --rate 0", ["--rate", "above 0", "\"0\""]),
            ("echo --rate NaN", ["--rate", "above 0", "\"NaN\""]),
            ("echo --seconds -1", ["--seconds", "from 0.01", "\"-1\""]),
            ("echo --warmup long", ["--warmup", "from 0", "\"long\""]),
            ("echo --pid -1", ["--pid", "from 1", "\"-1\""]),
            (
                "echo --url ws://h/ --rate 5 --pipeline 2",
                ["--rate", "open loop", "--pipeline"],
            ),
            ("echo --shout", ["echo", "no option", "--shout"]),
        ];
        for (words, parts) in cases {
            let error = parse_words(words).unwrap_err();
            for part in parts {
                assert!(error.contains(part), "{words}: {error}");
            }
        }
    }

    #[test]
    fn words_become_a_load() {
        let bench = parse_words("echo --url ws://h/ --rate 1000 --verify --seconds 0.5");
        let bench = bench.unwrap().unwrap();
        let Mode::Echo {
            connections,
            options,
        } = &bench.mode;
        assert_eq!(
            (*connections, options.rate, options.verify, options.size),
            (100, Some(1000.0), true, 20)
        );
        assert_eq!(bench.seconds, Duration::from_millis(500));
        assert_eq!(parse_words("echo --help"), Ok(None));
    }
}
