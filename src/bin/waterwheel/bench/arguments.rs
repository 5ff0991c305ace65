//! The options of `waterwheel bench`, parsed and checked.

use std::borrow::Cow;
use std::time::Duration;

use lexopt::{Arg, Parser};
use log::LevelFilter;
use waterwheel::protocol::http::{Url, without_user_info};
use waterwheel::websocket::Deflate;

use super::fan_out_options::{self, Publishing, Subscription};
use super::{churn, echo, idle, payload};
use crate::help;
use crate::values::{deflate, level, text};

pub const HELP: &str = "\
waterwheel bench: puts load on a server and measures it

  waterwheel bench echo [OPTIONS]      send messages that must come back
  waterwheel bench idle [OPTIONS]      hold connections, and measure what they cost the server
  waterwheel bench churn [OPTIONS]     connect, upgrade, echo one message, close; and repeat
  waterwheel bench fan-out [OPTIONS]   publish messages that must reach all subscribers, once and in order
  waterwheel bench sse [OPTIONS]       the same for Server-Sent Events

Options of all:
  --url URL                ws://HOST:PORT/PATH of the server, or wss:// for TLS; http:// and https://
                           mean the same
  --pid PID                the server's process, on this machine: processor time and memory
  --seconds S              measure this many seconds [5]
  --warmup S               run this many seconds before measuring [1]
  --deflate none|shared|dedicated
                           offer compression on WebSockets: of each message by itself, or by those
                           before it [none]
  --connect-rate R         start at most this many connections per second [as many as the server accepts]
  --json                   print one JSON object
  --plot FILE.svg          draw the latencies and the rate over time (with the feature `plot`)
  --log LEVEL              off, error, warn, info, debug or trace [warn]

Options of echo:
  --connections N          [100]
  --size BYTES             length of each message [20]
  --pipeline K             messages in flight on each connection [1]
  --rate R                 open loop: messages per second on all connections together, whatever comes
                           back; a latency counts from the time at which its message was due
  --binary                 binary messages instead of text
  --payload letters|json   the text of a message [letters]
  --verify                 check every byte of every reply, and the order

Options of idle, which has no --seconds and --warmup; --plot draws how its connections were opened:
  --connections N          [100]
  --hold S                 hold them this many seconds [5]
  --send TEXT              message that each connection sends once; none when empty [hello]
  --expect echo|nothing    what the server answers to it [echo]

Options of churn:
  --connections N          connections at the same time [50]
  --size BYTES             length of the message [20]
  --until handshake|echo   close when the connection is open, over TLS after its handshake, or when the
                           message has come back [echo]
  --resume                 resume sessions of TLS; otherwise each handshake is a full one

Options of fan-out and sse, against `waterwheel serve`, or fan-out against a server that sends each message to all:
  --subscribers N          connections that subscribe [100]
  --publishers P           connections that publish [1]
  --size BYTES             length of each message, in bytes, 32 or more [64]
  --in-flight K            messages of each publisher that some subscribers have not received yet [1]
  --rate R|max             open loop: messages per second of all publishers together [max]
  --protocol plain|waterwheel|actioncable|anycable
                           kind of server for fan-out [plain]; sse needs waterwheel
  --publish-by post|json|redis
                           with waterwheel: `POST /publish`, or a WebSocket with the JSON envelope [post];
                           with any server that is connected to a Redis server: PUBLISH there
  --redis URL              that Redis server: redis://[[USER]:PASSWORD@]HOST[:PORT]
  --topic NAME             the topic, with waterwheel; the channel in Redis [bench]
  --token TOKEN            the token for publishing, with waterwheel

With wss:// and https:// the variables HTTPS_PROXY (http://[USER:PASSWORD@]HOST[:PORT]) and NO_PROXY (names,
domains, addresses and networks, with commas between) are read, those in lower case first. A server on the
loopback network is reached through the proxy too, unless NO_PROXY has it.

Each problem (a lost connection, a reply that is missing or has another length; with --verify, and in
fan-out and sse, also one that differs or is out of order) is printed, and the exit code is 1. An
interrupt (Ctrl-C) ends the measuring early, and the report is of the time until then; a second one
ends the program.
";

/// The largest number of connections or messages.
const COUNT_MAX: usize = 10_000_000;

/// The longest run, in seconds.
const SECONDS_MAX: f64 = 86_400.0;

#[derive(Debug, PartialEq)]
pub struct Bench {
    pub mode: Mode,
    pub url: String,
    pub pid: Option<u32>,
    pub seconds: Duration,
    pub warmup: Duration,
    pub connect_rate: Option<f64>,
    pub deflate: Deflate,
    pub json: bool,
    /// The file of the picture.
    #[cfg(feature = "plot")]
    pub plot: Option<std::path::PathBuf>,
    pub log: LevelFilter,
}

#[derive(Debug, PartialEq)]
pub enum Mode {
    Echo {
        connections: usize,
        options: echo::Options,
    },
    Idle {
        connections: usize,
        options: idle::Options,
    },
    Churn(churn::Options),
    FanOut(fan_out_options::Options),
    Sse(fan_out_options::Options),
}

impl Mode {
    pub fn name(&self) -> &'static str {
        match self {
            Mode::Echo { .. } => "echo",
            Mode::Idle { .. } => "idle",
            Mode::Churn(_) => "churn",
            Mode::FanOut(_) => "fan-out",
            Mode::Sse(_) => "sse",
        }
    }

    pub fn connections(&self) -> usize {
        match self {
            Mode::Echo { connections, .. } | Mode::Idle { connections, .. } => *connections,
            Mode::Churn(options) => options.connections,
            Mode::FanOut(options) | Mode::Sse(options) => options.connections(),
        }
    }

    /// Whether the load needs more ports than one source address has.
    pub fn spreads(&self) -> bool {
        matches!(self, Mode::Churn(_)) || 20_000 < self.connections()
    }
}

/// The options as given. Which of them a load has is checked before they get here.
#[derive(Default)]
struct Options {
    url: Option<String>,
    is_json: bool,
    until_handshake: bool,
    resumes: bool,
    pid: Option<u32>,
    seconds: Option<Duration>,
    warmup: Option<Duration>,
    connect_rate: Option<f64>,
    deflate: Deflate,
    json: bool,
    plot: Option<String>,
    log: Option<LevelFilter>,
    connections: Option<usize>,
    size: Option<usize>,
    pipeline: Option<usize>,
    rate: Option<f64>,
    binary: bool,
    verify: bool,
    subscribers: Option<usize>,
    publishers: Option<usize>,
    in_flight: Option<usize>,
    subscription: Option<Subscription>,
    publishing: Option<Publishing>,
    topic: Option<String>,
    token: Option<String>,
    redis: Option<String>,
    send: Option<String>,
    expects_nothing: bool,
}

const COMMON: [&str; 7] = [
    "url",
    "pid",
    "connect-rate",
    "deflate",
    "json",
    "plot",
    "log",
];

/// The kinds of load, and which options each has beside the common ones.
const MODES: [(&str, &[&str]); 5] = [
    (
        "echo",
        &[
            "seconds",
            "warmup",
            "connections",
            "size",
            "pipeline",
            "rate",
            "binary",
            "payload",
            "verify",
        ],
    ),
    ("idle", &["connections", "hold", "send", "expect"]),
    (
        "churn",
        &[
            "seconds",
            "warmup",
            "connections",
            "size",
            "until",
            "resume",
        ],
    ),
    (
        "fan-out",
        &[
            "seconds",
            "warmup",
            "subscribers",
            "publishers",
            "size",
            "rate",
            "in-flight",
            "protocol",
            "publish-by",
            "redis",
            "topic",
            "token",
        ],
    ),
    (
        "sse",
        &[
            "seconds",
            "warmup",
            "subscribers",
            "publishers",
            "size",
            "rate",
            "in-flight",
            "publish-by",
            "redis",
            "topic",
            "token",
        ],
    ),
];

/// The outcome of parsing.
#[derive(Debug, PartialEq)]
pub enum Parsed {
    Bench(Box<Bench>),
    /// The help was asked for: its text.
    Help(String),
}

/// The load to run, or the help of all loads or of one.
///
/// # Errors
///
/// A sentence with the option, the value, and what was expected.
pub fn parse(parser: &mut Parser) -> Result<Parsed, String> {
    let mut mode: Option<(&str, &[&str])> = None;
    let mut options = Options::default();
    while let Some(argument) = parser.next().map_err(|error| error.to_string())? {
        match argument {
            Arg::Long("help") | Arg::Short('h') => {
                return Ok(Parsed::Help(match mode {
                    None => HELP.to_owned(),
                    Some((mode, _)) => help::of(HELP, &format!("bench {mode}"), &[mode, "all"]),
                }));
            }
            Arg::Long(name) => {
                let name = name.to_owned();
                let Some((mode, own)) = mode else {
                    return Err(format!("--{name}: say first which load: {}", names()));
                };
                if !COMMON.contains(&name.as_str()) && !own.contains(&name.as_str()) {
                    let known = COMMON.iter().chain(own).copied();
                    let suggestion = help::suggestion("--", &name, known);
                    return Err(format!("bench {mode} has no option --{name}{suggestion}"));
                }
                options.take(&name, parser)?;
            }
            Arg::Value(word) if mode.is_none() => {
                mode = MODES.into_iter().find(|(name, _)| word == *name);
                if mode.is_none() {
                    let known = MODES.map(|(name, _)| name);
                    let suggestion = help::suggestion("", &word.to_string_lossy(), known);
                    let names = names();
                    return Err(format!("bench {word:?}: expected {names}{suggestion}"));
                }
            }
            other => return Err(other.unexpected().to_string()),
        }
    }
    let Some((mode, _)) = mode else {
        return Err(format!("bench: expected {}", names()));
    };
    let bench = options.into_bench(mode)?;
    Ok(Parsed::Bench(Box::new(bench)))
}

fn names() -> String {
    let names = MODES.map(|(name, _)| name);
    names.join(", ")
}

impl Options {
    fn take(&mut self, name: &str, parser: &mut Parser) -> Result<(), String> {
        let option = &format!("--{name}");
        match name {
            "json" => self.json = true,
            "plot" if cfg!(feature = "plot") => self.plot = Some(text(parser, option)?),
            "plot" => {
                return Err(
                    "--plot: this program was built without it; build with `--features plot`"
                        .to_owned(),
                );
            }
            "binary" => self.binary = true,
            "payload" => {
                self.is_json = match &*text(parser, option)? {
                    "letters" => false,
                    "json" => true,
                    value => {
                        return Err(format!("{option}: expected letters or json, got {value:?}"));
                    }
                }
            }
            "resume" => self.resumes = true,
            "until" => {
                self.until_handshake = match &*text(parser, option)? {
                    "handshake" => true,
                    "echo" => false,
                    value => {
                        return Err(format!(
                            "{option}: expected handshake or echo, got {value:?}"
                        ));
                    }
                }
            }
            "verify" => self.verify = true,
            "url" => self.url = Some(text(parser, option)?),
            "log" => self.log = Some(level(&text(parser, option)?)?),
            "pid" => {
                self.pid =
                    Some(number(option, &text(parser, option)?, 1, u32::MAX as usize)? as u32)
            }
            "deflate" => self.deflate = deflate(&text(parser, option)?)?,
            "connections" => self.connections = Some(count(option, parser)?),
            "size" => self.size = Some(number(option, &text(parser, option)?, 1, 1 << 30)?),
            "pipeline" => self.pipeline = Some(count(option, parser)?),
            "rate" => self.rate = rate_or_max(option, &text(parser, option)?)?,
            "subscribers" => self.subscribers = Some(count(option, parser)?),
            "publishers" => {
                let value = text(parser, option)?;
                self.publishers = Some(number(option, &value, 1, payload::PUBLISHERS_MAX)?);
            }
            "in-flight" => self.in_flight = Some(count(option, parser)?),
            "protocol" => self.subscription = Some(protocol(option, &text(parser, option)?)?),
            "publish-by" => self.publishing = Some(publishing(option, &text(parser, option)?)?),
            "redis" => self.redis = Some(text(parser, option)?),
            "topic" => self.topic = Some(word(option, text(parser, option)?)?),
            "token" => self.token = Some(word(option, text(parser, option)?)?),
            "connect-rate" => self.connect_rate = Some(rate(option, &text(parser, option)?)?),
            "seconds" => self.seconds = Some(seconds(option, &text(parser, option)?, 0.01)?),
            // `idle` measures while it holds the connections.
            "hold" => self.seconds = Some(seconds(option, &text(parser, option)?, 0.01)?),
            "send" => self.send = Some(text(parser, option)?),
            "expect" => self.expects_nothing = expectation(option, &text(parser, option)?)?,
            "warmup" => self.warmup = Some(seconds(option, &text(parser, option)?, 0.0)?),
            _ => return Err(format!("{option} is not known")),
        }
        Ok(())
    }

    fn into_bench(self, mode: &str) -> Result<Bench, String> {
        let Some(url) = self.url.clone() else {
            let scheme = if mode == "sse" { "http" } else { "ws" };
            return Err(format!("bench {mode} needs --url {scheme}://HOST:PORT/"));
        };
        websocket_url(&url)?;
        let connections = self.connections.unwrap_or(100);
        let warmup = match mode {
            // `idle` sends no load, so it needs no warm-up.
            "idle" => Duration::ZERO,
            _ => Duration::from_secs(1),
        };
        let mode = match mode {
            "echo" => {
                if self.rate.is_some() && self.pipeline.is_some() {
                    return Err("--rate: an open loop has no --pipeline".to_owned());
                }
                Mode::Echo {
                    connections,
                    options: echo::Options {
                        size: self.size.unwrap_or(20),
                        is_json: self.is_json,
                        pipeline: self.pipeline.unwrap_or(1),
                        rate: self.rate,
                        binary: self.binary,
                        verify: self.verify,
                    },
                }
            }
            "idle" => Mode::Idle {
                connections,
                options: idle::Options {
                    send: self.send.unwrap_or_else(|| "hello".to_owned()),
                    expects_echo: !self.expects_nothing,
                },
            },
            "churn" => Mode::Churn(churn::Options {
                connections: self.connections.unwrap_or(50),
                size: self.size.unwrap_or(20),
                until: match self.until_handshake {
                    true => churn::Until::Handshake,
                    false => churn::Until::Echo,
                },
                resumes: self.resumes,
            }),
            "fan-out" => {
                let subscription = self.subscription.unwrap_or(Subscription::Connected);
                Mode::FanOut(self.fan_out(subscription)?)
            }
            "sse" => Mode::Sse(self.fan_out(Subscription::EventStream)?),
            _ => return Err(format!("bench {mode:?}: expected {}", names())),
        };
        Ok(Bench {
            mode,
            url,
            pid: self.pid,
            seconds: self.seconds.unwrap_or(Duration::from_secs(5)),
            warmup: self.warmup.unwrap_or(warmup),
            connect_rate: self.connect_rate,
            deflate: self.deflate,
            json: self.json,
            #[cfg(feature = "plot")]
            plot: self.plot.map(Into::into),
            log: self.log.unwrap_or(LevelFilter::Warn),
        })
    }
}

impl Options {
    fn fan_out(&self, subscription: Subscription) -> Result<fan_out_options::Options, String> {
        if self.rate.is_some() && self.in_flight.is_some() {
            return Err("--rate: an open loop has no --in-flight".to_owned());
        }
        let is_hub = match subscription {
            Subscription::WebSocket | Subscription::EventStream => true,
            Subscription::Connected | Subscription::ActionCable | Subscription::AnyCable => false,
        };
        let publishing = match self.publishing {
            Some(Publishing::Redis) => Publishing::Redis,
            Some(_) if !is_hub => {
                return Err(
                    "--publish-by: post and json only with --protocol waterwheel".to_owned(),
                );
            }
            Some(publishing) => publishing,
            None if is_hub => Publishing::Post,
            None if subscription == Subscription::ActionCable => {
                return Err("--protocol actioncable: only with --publish-by redis".to_owned());
            }
            None if subscription == Subscription::AnyCable => {
                return Err("--protocol anycable: only with --publish-by redis".to_owned());
            }
            None => Publishing::Plain,
        };
        match (publishing, &self.redis) {
            (Publishing::Redis, None) => {
                return Err("--publish-by redis needs --redis redis://HOST:PORT".to_owned());
            }
            (Publishing::Redis, Some(_)) | (_, None) => {}
            (_, Some(_)) => return Err("--redis: only with --publish-by redis".to_owned()),
        }
        let size = self.size.unwrap_or(64);
        if size < payload::HEADER_BYTES {
            let least = payload::HEADER_BYTES;
            return Err(format!(
                "--size: expected at least {least}, the length of the header that identifies a message, got \"{size}\""
            ));
        }
        Ok(fan_out_options::Options {
            subscribers: self.subscribers.unwrap_or(100),
            publishers: self.publishers.unwrap_or(1),
            size,
            rate: self.rate,
            in_flight: self.in_flight.unwrap_or(1),
            subscription,
            publishing,
            topic: self.topic.clone().unwrap_or_else(|| "bench".to_owned()),
            token: self.token.clone(),
            redis: self.redis.clone(),
        })
    }
}

/// The URL of `--url` with `ws://` in front. `http://` is accepted too, because the program prints
/// the address of a hub with it, and because an event stream is no WebSocket.
///
/// # Errors
///
/// A sentence with the value and what was expected.
pub fn websocket_url(url: &str) -> Result<Cow<'_, str>, String> {
    let websocket = match url.split_once("://") {
        Some(("http", rest)) => Cow::Owned(format!("ws://{rest}")),
        Some(("https", rest)) => Cow::Owned(format!("wss://{rest}")),
        _ => Cow::Borrowed(url),
    };
    match Url::of_websocket(&websocket) {
        Ok(_) => Ok(websocket),
        Err(error) => Err(format!(
            "--url: expected ws://HOST:PORT/PATH or http://HOST:PORT/, got {:?}: {error}",
            without_user_info(url)
        )),
    }
}

fn rate_or_max(option: &str, value: &str) -> Result<Option<f64>, String> {
    match value {
        "max" => Ok(None),
        value => rate(option, value).map(Some),
    }
}

fn protocol(option: &str, value: &str) -> Result<Subscription, String> {
    match value {
        "plain" => Ok(Subscription::Connected),
        "waterwheel" => Ok(Subscription::WebSocket),
        "actioncable" => Ok(Subscription::ActionCable),
        "anycable" => Ok(Subscription::AnyCable),
        _ => Err(format!(
            "{option}: expected plain, waterwheel, actioncable or anycable, got {value:?}"
        )),
    }
}

fn publishing(option: &str, value: &str) -> Result<Publishing, String> {
    match value {
        "post" => Ok(Publishing::Post),
        "json" => Ok(Publishing::Json),
        "redis" => Ok(Publishing::Redis),
        _ => Err(format!(
            "{option}: expected post, json or redis, got {value:?}"
        )),
    }
}

/// A word that needs no escape in a URL, a header or JSON.
fn word(option: &str, value: String) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    if value.is_empty() || !value.bytes().all(is_plain) {
        return Err(format!(
            "{option}: expected letters, digits, `-`, `.`, `_` or `~`, got {value:?}"
        ));
    }
    Ok(value)
}

/// Whether the server sends no answer.
fn expectation(option: &str, value: &str) -> Result<bool, String> {
    match value {
        "echo" => Ok(false),
        "nothing" => Ok(true),
        _ => Err(format!("{option}: expected echo or nothing, got {value:?}")),
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

    fn parse_words(words: &str) -> Result<Parsed, String> {
        parse(&mut Parser::from_args(words.split_whitespace()))
    }

    #[test]
    fn errors_name_option_value_and_what_was_expected() {
        let cases = [
            ("", ["bench", "echo", ""]),
            ("shout", ["\"shout\"", "echo", ""]),
            ("fanout", ["\"fanout\"", "did you mean fan-out?", ""]),
            (
                "echo --pipelin 2",
                ["no option", "--pipelin", "did you mean --pipeline?"],
            ),
            ("--url ws://h/", ["--url", "which load", "echo"]),
            ("echo", ["--url", "ws://HOST:PORT/", ""]),
            ("sse", ["--url", "http://HOST:PORT/", ""]),
            ("echo --url", ["--url", "needs a value", ""]),
            ("echo --size 0", ["--size", "from 1", "\"0\""]),
            (
                "echo --connections many",
                ["--connections", "from 1", "\"many\""],
            ),
            ("echo --rate 0", ["--rate", "above 0", "\"0\""]),
            (
                "echo --url h:1",
                ["--url", "ws://HOST:PORT/PATH", "\"h:1\""],
            ),
            ("echo --rate NaN", ["--rate", "above 0", "\"NaN\""]),
            ("echo --seconds -1", ["--seconds", "from 0.01", "\"-1\""]),
            ("echo --warmup long", ["--warmup", "from 0", "\"long\""]),
            ("echo --pid -1", ["--pid", "from 1", "\"-1\""]),
            (
                "echo --url ws://h/ --rate 5 --pipeline 2",
                ["--rate", "open loop", "--pipeline"],
            ),
            ("echo --shout", ["echo", "no option", "--shout"]),
            (
                "fan-out --pipeline 1",
                ["fan-out", "no option", "--pipeline"],
            ),
            (
                "fan-out --protocol smoke",
                ["--protocol", "plain, waterwheel", "\"smoke\""],
            ),
            (
                "fan-out --url ws://h/ --size 31",
                ["--size", "at least 32", "\"31\""],
            ),
            (
                "fan-out --url ws://h/ --publish-by post",
                ["--publish-by", "only with", "waterwheel"],
            ),
            (
                "fan-out --url ws://h/ --protocol actioncable",
                ["actioncable", "only with", "--publish-by redis"],
            ),
            (
                "fan-out --url ws://h/ --publish-by redis",
                ["--publish-by redis", "needs", "redis://HOST:PORT"],
            ),
            (
                "fan-out --url ws://h/ --redis redis://h/",
                ["--redis", "only with", "--publish-by redis"],
            ),
            ("fan-out --topic a*", ["--topic", "letters", "\"a*\""]),
            (
                "sse --publish-by mail",
                ["--publish-by", "post, json", "\"mail\""],
            ),
            (
                "sse --url ws://h/ --rate 1 --in-flight 2",
                ["--rate", "open loop", "--in-flight"],
            ),
        ];
        for (words, parts) in cases {
            let error = parse_words(words).unwrap_err();
            for part in parts {
                assert!(error.contains(part), "{words}: {error}");
            }
        }
    }

    #[test]
    fn arguments_are_parsed_into_a_load() {
        let bench = parse_words("echo --url ws://h/ --rate 1000 --verify --seconds 0.5");
        let Parsed::Bench(bench) = bench.unwrap() else {
            panic!()
        };
        let Mode::Echo {
            connections,
            options,
        } = &bench.mode
        else {
            panic!()
        };
        assert_eq!(
            (*connections, options.rate, options.verify, options.size),
            (100, Some(1000.0), true, 20)
        );
        assert_eq!(bench.seconds, Duration::from_millis(500));
    }

    #[test]
    fn each_load_has_a_help_of_its_own_options() {
        for (mode, own) in MODES {
            let Ok(Parsed::Help(text)) = parse_words(&format!("{mode} --help")) else {
                panic!("{mode}");
            };
            assert!(
                text.starts_with(&format!("waterwheel bench {mode} ")),
                "{text}"
            );
            for option in own.iter().chain(&COMMON) {
                assert!(text.contains(&format!("--{option}")), "{mode}: {option}");
            }
        }
        assert_eq!(parse_words("--help"), Ok(Parsed::Help(HELP.to_owned())));
    }
}
