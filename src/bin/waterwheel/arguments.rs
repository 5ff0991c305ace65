//! The command line and the environment, parsed and checked.

use std::env::VarError;
use std::time::Duration;

use lexopt::{Arg, Parser};
use log::LevelFilter;

use crate::values::{level, text};

pub const HELP: &str = "\
waterwheel: pushes backend changes to browsers

  waterwheel [serve] [OPTIONS]   run the hub: WebSocket, Server-Sent Events, POST /publish
  waterwheel echo [OPTIONS]      run a bare echo server, for benchmarks and conformance suites
  waterwheel bench LOAD [OPTIONS]  put load on a server; see `waterwheel bench --help`
  waterwheel doctor [OPTIONS]    list the limits of this machine that are too low for many connections

Options of serve:
  --listen ADDR            HOST:PORT (port 0 picks one) or unix:PATH; may be given several times
                           [127.0.0.1:8080, or 0.0.0.0:$PORT where PORT is set]
  --publish-token TOKEN    require this token to publish and to subscribe to patterns
                           [$WATERWHEEL_PUBLISH_TOKEN]
  --open                   let everyone publish and subscribe to patterns without a token
  --drain-window SECONDS   after TERM or INT, close the connections over this time [10]
  --allow-origin ORIGIN    let pages of this origin use the hub, such as https://example.org;
                           may be given several times
  --max-connections N      accept at most this many [as many as descriptors allow]
  --reactors N             threads that share the connections, one for each core; Unix only [1]
  --log LEVEL              off, error, warn, info, debug or trace [info]

Options of echo:
  --listen ADDR            as for serve [127.0.0.1:9001]
  --to sender|all          send each message to its sender or to all clients [sender]
  --max-connections N      as for serve
  --log LEVEL              as for serve [warn]

Options of doctor:
  --connections N          connections that the machine shall hold [1000000]

  --help, --version
";

#[derive(Debug, PartialEq)]
pub enum Command {
    Help,
    Version,
    Serve(Serve),
    Echo(Echo),
    #[cfg(feature = "bench")]
    BenchHelp,
    #[cfg(feature = "bench")]
    Bench(crate::bench::arguments::Bench),
    Doctor(Doctor),
}

#[derive(Debug, PartialEq, Eq)]
pub struct Serve {
    pub listen: Vec<String>,
    pub publish_token: Option<String>,
    pub open: bool,
    pub drain_window: Duration,
    pub allow_origin: Vec<String>,
    pub max_connections: Option<usize>,
    pub reactors: usize,
    pub log: LevelFilter,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Echo {
    pub listen: Vec<String>,
    pub to_all: bool,
    pub max_connections: Option<usize>,
    pub log: LevelFilter,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Doctor {
    pub connections: u64,
}

/// The most reactors: no machine has use for more threads.
const REACTORS_MAX: usize = 1024;

/// The most connections that `doctor` computes with: no machine has held more.
const DOCTOR_CONNECTIONS_MAX: u64 = 100_000_000;

/// The longest drain window, in seconds: a day.
const DRAIN_WINDOW_MAX: u64 = 86_400;

/// The command with its options.
///
/// # Errors
///
/// A sentence with the option, the value, and what was expected.
pub fn parse(mut parser: Parser) -> Result<Command, String> {
    let mut is_echo = None;
    let mut listen = Vec::new();
    let mut publish_token = None;
    let mut open = false;
    let mut to_all = false;
    let mut drain_window = Duration::from_secs(10);
    let mut allow_origin = Vec::new();
    let mut max_connections = None;
    let mut reactors = 1;
    let mut log = None;
    while let Some(argument) = parser.next().map_err(|error| error.to_string())? {
        let serves = is_echo != Some(true);
        match argument {
            Arg::Long("help") | Arg::Short('h') => return Ok(Command::Help),
            Arg::Long("version") | Arg::Short('V') => return Ok(Command::Version),
            Arg::Long("listen") => listen.push(address(&text(&mut parser, "--listen")?)?),
            Arg::Long("max-connections") => {
                max_connections = Some(count(
                    "--max-connections",
                    &text(&mut parser, "--max-connections")?,
                )?)
            }
            Arg::Long("log") => log = Some(level(&text(&mut parser, "--log")?)?),
            Arg::Long("publish-token") if serves => {
                publish_token = Some(token(
                    "--publish-token",
                    text(&mut parser, "--publish-token")?,
                )?)
            }
            Arg::Long("open") if serves => open = true,
            Arg::Long("drain-window") if serves => {
                drain_window = seconds(&text(&mut parser, "--drain-window")?)?
            }
            Arg::Long("allow-origin") if serves => {
                allow_origin.push(origin(&text(&mut parser, "--allow-origin")?)?)
            }
            Arg::Long("reactors") if serves => {
                reactors = reactor_count(&text(&mut parser, "--reactors")?)?
            }
            Arg::Long("to") if !serves => to_all = to(&text(&mut parser, "--to")?)?,
            #[cfg(feature = "bench")]
            Arg::Value(word) if is_echo.is_none() && word == "bench" => {
                let bench = crate::bench::arguments::parse(&mut parser)?;
                return Ok(bench.map_or(Command::BenchHelp, Command::Bench));
            }
            Arg::Value(word) if is_echo.is_none() && word == "doctor" => {
                return doctor(&mut parser);
            }
            Arg::Value(word) if is_echo.is_none() => {
                is_echo = Some(match word.to_str() {
                    Some("serve") => false,
                    Some("echo") => true,
                    _ => {
                        return Err(format!(
                            "{word:?} is not a command; expected serve, echo, bench or doctor"
                        ));
                    }
                });
            }
            other => return Err(other.unexpected().to_string()),
        }
    }
    if is_echo == Some(true) {
        if listen.is_empty() {
            listen.push("127.0.0.1:9001".to_owned());
        }
        return Ok(Command::Echo(Echo {
            listen,
            to_all,
            max_connections,
            log: log.unwrap_or(LevelFilter::Warn),
        }));
    }
    if listen.is_empty() {
        listen.push(default_address()?);
    }
    if 1 < reactors && listen.iter().all(|address| address.starts_with("unix:")) {
        return Err(format!(
            "--reactors {reactors}: a Unix socket cannot be shared, and there is no other listener"
        ));
    }
    if publish_token.is_none()
        && let Some(given) = environment("WATERWHEEL_PUBLISH_TOKEN")?
    {
        publish_token = Some(token("WATERWHEEL_PUBLISH_TOKEN", given)?);
    }
    if let Some(connections) = max_connections.filter(|count| *count < reactors) {
        return Err(format!(
            "--max-connections {connections}: fewer than --reactors {reactors}, and each reactor needs at least one"
        ));
    }
    Ok(Command::Serve(Serve {
        listen,
        publish_token,
        open,
        drain_window,
        allow_origin,
        max_connections,
        reactors,
        log: log.unwrap_or(LevelFilter::Info),
    }))
}

fn environment(name: &str) -> Result<Option<String>, String> {
    variable(name, std::env::var(name))
}

/// An empty variable counts as unset: unit files and container files cannot unset one.
fn variable(name: &str, found: Result<String, VarError>) -> Result<Option<String>, String> {
    match found {
        Ok(value) if value.is_empty() => Ok(None),
        Ok(value) => Ok(Some(value)),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(_)) => Err(format!("{name}: expected text in UTF-8")),
    }
}

fn default_address() -> Result<String, String> {
    match environment("PORT")? {
        None => Ok("127.0.0.1:8080".to_owned()),
        Some(port) => match port.parse::<u16>() {
            Ok(port) => Ok(format!("0.0.0.0:{port}")),
            Err(_) => Err(format!(
                "PORT: expected a number from 0 to 65535, got {port:?}"
            )),
        },
    }
}

fn address(value: &str) -> Result<String, String> {
    let is_inet = value
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    let is_unix = value
        .strip_prefix("unix:")
        .is_some_and(|path| !path.is_empty());
    if is_inet || is_unix {
        Ok(value.to_owned())
    } else {
        Err(format!(
            "--listen: expected HOST:PORT or unix:PATH, got {value:?}"
        ))
    }
}

fn token(option: &str, value: String) -> Result<String, String> {
    if value.is_empty()
        || value
            .chars()
            .any(|letter| letter.is_whitespace() || letter.is_control())
    {
        return Err(format!("{option}: expected a word without spaces"));
    }
    Ok(value)
}

fn count(option: &str, value: &str) -> Result<usize, String> {
    match value.parse() {
        Ok(0) | Err(_) => Err(format!(
            "{option}: expected a number above 0, got {value:?}"
        )),
        Ok(count) => Ok(count),
    }
}

fn doctor_count(value: &str) -> Result<u64, String> {
    match value.parse() {
        Ok(count @ 1..=DOCTOR_CONNECTIONS_MAX) => Ok(count),
        _ => Err(format!(
            "--connections: expected a number above 0, at most {DOCTOR_CONNECTIONS_MAX}, got {value:?}"
        )),
    }
}

fn reactor_count(value: &str) -> Result<usize, String> {
    match value.parse() {
        Ok(count @ 2..=REACTORS_MAX) if !cfg!(unix) => Err(format!(
            "--reactors {count}: sharing a port needs a Unix system"
        )),
        Ok(count @ 1..=REACTORS_MAX) => Ok(count),
        _ => Err(format!(
            "--reactors: expected a number from 1 to {REACTORS_MAX}, got {value:?}"
        )),
    }
}

fn doctor(parser: &mut Parser) -> Result<Command, String> {
    let mut connections = 1_000_000;
    while let Some(argument) = parser.next().map_err(|error| error.to_string())? {
        match argument {
            Arg::Long("help") | Arg::Short('h') => return Ok(Command::Help),
            Arg::Long("connections") => {
                connections = doctor_count(&text(parser, "--connections")?)?;
            }
            other => return Err(other.unexpected().to_string()),
        }
    }
    Ok(Command::Doctor(Doctor { connections }))
}

fn seconds(value: &str) -> Result<Duration, String> {
    match value.parse::<f64>() {
        Ok(seconds) if (0.0..=DRAIN_WINDOW_MAX as f64).contains(&seconds) => {
            Ok(Duration::from_secs_f64(seconds))
        }
        _ => Err(format!(
            "--drain-window: expected seconds from 0 to {DRAIN_WINDOW_MAX}, got {value:?}"
        )),
    }
}

fn origin(value: &str) -> Result<String, String> {
    let authority = value
        .strip_prefix("http://")
        .or_else(|| value.strip_prefix("https://"));
    match authority.map(|authority| authority.trim_end_matches('/')) {
        Some(authority)
            if !authority.is_empty() && !authority.contains(['/', '?', '#', ' ', '*']) =>
        {
            Ok(value.trim_end_matches('/').to_owned())
        }
        _ if value == "null" => Ok(value.to_owned()),
        _ => Err(format!(
            "--allow-origin: expected an origin such as https://example.org, got {value:?}"
        )),
    }
}

fn to(value: &str) -> Result<bool, String> {
    match value {
        "sender" => Ok(false),
        "all" => Ok(true),
        _ => Err(format!("--to: expected sender or all, got {value:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(words: &str) -> Result<Command, String> {
        parse(Parser::from_args(words.split_whitespace()))
    }

    #[test]
    fn errors_name_option_value_and_what_was_expected() {
        let cases = [
            ("--listen 8080", ["--listen", "HOST:PORT", "\"8080\""]),
            ("--listen unix:", ["--listen", "unix:PATH", "\"unix:\""]),
            (
                "--listen localhost:99999",
                ["--listen", "HOST:PORT", "99999"],
            ),
            (
                "--drain-window soon",
                ["--drain-window", "seconds", "\"soon\""],
            ),
            ("--drain-window -1", ["--drain-window", "seconds", "\"-1\""]),
            (
                "--max-connections 0",
                ["--max-connections", "above 0", "\"0\""],
            ),
            ("--reactors 0", ["--reactors", "1 to 1024", "\"0\""]),
            ("--reactors many", ["--reactors", "1 to 1024", "\"many\""]),
            (
                "--max-connections 3 --reactors 4",
                ["--max-connections 3", "--reactors 4", "fewer"],
            ),
            ("echo --reactors 2", ["--reactors", "", ""]),
            (
                "--reactors 2 --listen unix:a.sock",
                ["--reactors 2", "Unix socket", "no other listener"],
            ),
            (
                "doctor --connections all",
                ["--connections", "above 0", "\"all\""],
            ),
            ("doctor --listen :1", ["--listen", "", ""]),
            ("--log loud", ["--log", "debug", "\"loud\""]),
            (
                "--allow-origin example.org",
                ["--allow-origin", "https://", "\"example.org\""],
            ),
            ("echo --to nobody", ["--to", "sender or all", "\"nobody\""]),
            ("echo --publish-token x", ["--publish-token", "", ""]),
            ("serve --to all", ["--to", "", ""]),
            ("frobnicate", ["frobnicate", "serve", "doctor"]),
            ("--listen", ["--listen", "needs a value", ""]),
        ];
        for (words, parts) in cases {
            let error = parse_words(words).unwrap_err();
            for part in parts {
                assert!(error.contains(part), "{words}: {error}");
            }
        }
    }

    #[test]
    fn an_empty_variable_counts_as_unset() {
        let cases = [
            (Err(VarError::NotPresent), Ok(None)),
            (Ok(""), Ok(None)),
            (Ok("8080"), Ok(Some("8080"))),
            (Ok(" "), Ok(Some(" "))),
            (
                Err(VarError::NotUnicode("x".into())),
                Err("PORT: expected text in UTF-8"),
            ),
        ];
        for (found, expected) in cases {
            let expected = expected.map(|value| value.map(str::to_owned));
            assert_eq!(
                variable("PORT", found.map(str::to_owned)),
                expected.map_err(str::to_owned)
            );
        }
    }

    #[test]
    fn commands() {
        assert_eq!(parse_words("--help"), Ok(Command::Help));
        assert_eq!(parse_words("echo --version"), Ok(Command::Version));
        let Ok(Command::Serve(serve)) =
            parse_words("--listen [::1]:0 --listen unix:a.sock --open --drain-window 0.5")
        else {
            panic!()
        };
        assert_eq!(
            (serve.listen.len(), serve.open, serve.drain_window),
            (2, true, Duration::from_millis(500))
        );
        assert_eq!(
            parse_words("doctor --connections 5"),
            Ok(Command::Doctor(Doctor { connections: 5 }))
        );
        let Ok(Command::Echo(echo)) = parse_words("echo --to all") else {
            panic!()
        };
        assert_eq!(
            (echo.listen, echo.to_all),
            (vec!["127.0.0.1:9001".to_owned()], true)
        );
    }
}
