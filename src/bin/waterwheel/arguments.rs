//! The command line and the environment, parsed and checked.

use std::env::VarError;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::{Arg, Parser};
use log::LevelFilter;
use waterwheel::Network;
use waterwheel::websocket::Deflate;

use crate::cable::CableArguments;
use crate::help;
use crate::limits::Limits;
use crate::log_line::LogFormat;
use crate::mercure::MercureOptions;
use crate::options_file;
use crate::pusher::PusherOptions;
use crate::redis::{self, RedisOptions};
use crate::secrets::{self, SecretOptions};
use crate::sockets::TLS;
use crate::tls::TlsOptions;
use crate::topics::TopicOptions;
use crate::values::{
    address, bytes, deflate, inet_address, level, log_format, origin, port, text, token, unix_mode,
};

pub const HELP: &str = "\
waterwheel: pushes backend changes to browsers

  waterwheel [serve] [OPTIONS]   run the hub: WebSocket, Server-Sent Events, POST /publish
  waterwheel echo [OPTIONS]      run a bare echo server, for benchmarks and conformance suites
  waterwheel bench LOAD [OPTIONS]  put load on a server; see `waterwheel bench --help`
  waterwheel doctor [OPTIONS]    list the limits of this machine that are too low for many connections

Options of serve:
  --options-file FILE      read options from this file too, one a line, such as `drain-window 30`;
                           the command line wins over them; see docs/deploy.md
                           [$WATERWHEEL_OPTIONS_FILE]
  --listen ADDR            HOST:PORT (port 0 picks one), tls:HOST:PORT, unix:PATH, or fd:NAME for the
                           socket with this name, or the Nth for fd:N, that systemd opened (also
                           tls:fd:NAME); may be given several times
                           [127.0.0.1:8080, or 0.0.0.0:$PORT where PORT is set]
  --tls-certificate FILE   the certificate of tls:HOST:PORT, followed by those of the authorities
                           between it and a root, in PEM; may be given several times: a client gets
                           the first that is for the name it asks for; read again on HUP
  --tls-key FILE           the private key of the certificate, in PEM, once for each
  --tls-client-ca FILE     require a certificate of each client of tls:HOST:PORT, from an authority
                           in this file of PEM
  --redirect ADDR          listen for plain HTTP here too, and answer each request with 308 and its
                           URL by https; may be given several times
  --redirect-port PORT     the port of these URLs, where clients reach tls:HOST:PORT by another
                           one [that of the first tls:HOST:PORT]
  --publish-token TOKEN    require this token to publish and to subscribe to patterns
                           [$WATERWHEEL_PUBLISH_TOKEN]
  --publish-token-file FILE
                           as --publish-token, with one token per line, each of which is
                           accepted; read again on HUP
  --token-secret SECRET    accept JSON Web Tokens that were signed with this secret, of at least 32
                           bytes, by HS256, HS384 or HS512; may be given several times
                           [$WATERWHEEL_TOKEN_SECRET]
  --token-secret-file FILE
                           as --token-secret, with one secret per line; may be given several times;
                           read again on HUP
  --pusher-app ID:KEY:SECRET[,OPTION...]
                           serve an app of Pusher Channels: its clients at /app/KEY, its backend below
                           /apps/ID; the options are client-events, tls, connections=COUNT,
                           members=COUNT, origin=ORIGIN, subscription-count, webhook=URL and disabled;
                           may be given several times
  --pusher-app-file FILE   as --pusher-app, with one app per line
  --cable                  serve ActionCable at /cable, for the clients of Rails; each option below
                           does so too
  --cable-secret SECRET    the secret_key_base of Rails, from which the keys of Turbo, CableReady and
                           AnyCable follow; may be given several times [$WATERWHEEL_CABLE_SECRET]
  --cable-turbo-key KEY    a key that signs names of streams for Turbo, where the application has one
                           of its own; may be given several times [$WATERWHEEL_CABLE_TURBO_KEY]
  --cable-streams-key KEY  a key that signs names of streams for the channel $pubsub and CableReady;
                           may be given several times [$WATERWHEEL_CABLE_STREAMS_KEY]
  --cable-broadcast-key KEY
                           a token that broadcasts by POST /_broadcast need; may be given several
                           times [$WATERWHEEL_CABLE_BROADCAST_KEY]
  --cable-secret-file FILE
                           as --cable-secret, with one key per line
  --cable-turbo-key-file FILE
                           as --cable-turbo-key, with one key per line
  --cable-streams-key-file FILE
                           as --cable-streams-key, with one key per line
  --cable-broadcast-key-file FILE
                           as --cable-broadcast-key, with one key per line
  --cable-hook URL         ask this URL of the application about connections, and about subscriptions
                           to channels of its own
  --cable-hook-secret SECRET
                           sign these requests [$WATERWHEEL_CABLE_HOOK_SECRET]
  --cable-hook-secret-file FILE
                           as --cable-hook-secret, with the secret in one line
  --cable-open             let clients subscribe to streams by plain names
  --mercure-publisher-key KEY
                           serve a Mercure hub at /.well-known/mercure, and accept the tokens of its
                           publishers that were signed with this key, of at least 32 bytes, by HS256,
                           HS384 or HS512; may be given several times
                           [$WATERWHEEL_MERCURE_PUBLISHER_KEY]
  --mercure-publisher-key-file FILE
                           as --mercure-publisher-key, with one key per line; may be given several
                           times; read again on HUP
  --mercure-subscriber-key KEY
                           as --mercure-publisher-key, for the tokens of subscribers
                           [$WATERWHEEL_MERCURE_SUBSCRIBER_KEY]
  --mercure-subscriber-key-file FILE
                           as --mercure-subscriber-key, with one key per line; may be given several
                           times; read again on HUP
  --mercure-anonymous      let subscribers without a token have the updates that are not private
  --mercure-subscriptions  list the subscriptions of Mercure, and tell of each that begins or ends
  --open                   let everyone publish and subscribe to patterns without a token
  --drain-window SECONDS   after TERM or INT, close the connections over this time [10]
  --takeover PATH          take the listeners of the process that was started with the same PATH, which
                           then drains; and wait at this Unix socket for the next one; Linux only
  --allow-origin ORIGIN    let pages of this origin use the hub, such as https://example.org;
                           may be given several times
  --max-connections N      accept at most this many [as many as descriptors allow]
  --memory-max BYTES       bytes that all clients together may hold, also with KiB, MiB or GiB; above
                           it those that hold most are ended
                           [three quarters of what the process may have]
  --max-connections-per-address N
                           connections of one address (IPv6: of a /64); 0 for no limit [1000]
  --handshakes-per-second N
                           connections that one address may make in a second; 0 for no limit [200]
  --handshakes-per-second-total N
                           connections that all clients may make in a second; further ones wait;
                           0 for no limit [0]
  --messages-per-second N  messages that a WebSocket client may send in a second; above it the hub
                           reads it more slowly; 0 for no limit [500]
  --max-fragments N        frames of one message of a WebSocket client; 0 for no limit [4096]
  --deflate none|shared|dedicated
                           how WebSocket messages of 1 KiB and more are compressed for clients that
                           offer it: each by itself, or by those before it, which takes some 420 KiB
                           for each client [shared]
  --max-subscriptions N    subscriptions of all clients; 0 for no limit [10000000]
  --max-connection-age SECONDS
                           end connections politely at this age, some of them up to a quarter
                           earlier; 0 for no limit [0]
  --topic PATTERN=OPTION,..
                           a rule for the topics of a pattern, with the options history=COUNT [100],
                           age=SECONDS [300], private, presence, latest and client-publish; may be
                           given several times, and the first one that matches a topic holds
  --history-bytes BYTES    bytes that the stored messages of all topics may take, also with KiB, MiB
                           or GiB [64MiB]
  --redis URL              the Redis server that makes several nodes one hub:
                           redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE],
                           unix://[[USER]:PASSWORD@]/PATH; for the master that sentinels know,
                           redis+sentinel://[[USER]:PASSWORD@]HOST[:PORT][,HOST..]/NAME[/DATABASE];
                           for a cluster, redis+cluster://[[USER]:PASSWORD@]HOST[:PORT][,HOST..];
                           with rediss in place of redis over TLS
                           [$WATERWHEEL_REDIS_URL, $REDIS_URL]
  --redis-prefix NAME      the beginning of the names of keys and channels in Redis, with a colon
                           behind it
  --trusted-proxy CIDR     a proxy whose X-Forwarded-For or Forwarded names the client, such as
                           10.0.0.0/8, or unix for every peer on a Unix socket; may be given
                           several times
  --proxy-protocol         require the PROXY protocol, version 1 or 2, on every listener: the
                           header with which a proxy of bytes names its client
  --reactors N             threads that share the connections, one for each core; Unix only [1]
  --unix-mode MODE         permissions of the sockets of unix:PATH, such as 660 [as the umask says]
  --log LEVEL              off, error, warn, info, debug or trace [info]
  --log-format text|json   how a log line looks [text]
  --access-log             log each request with its answer

Options of echo:
  --listen ADDR            as for serve [127.0.0.1:9001]
  --tls-certificate FILE   as for serve
  --tls-key FILE           as for serve
  --tls-client-ca FILE     as for serve
  --to sender|all          send each message to its sender or to all clients [sender]
  --max-connections N      as for serve
  --deflate none|shared|dedicated
                           as for serve [none]
  --log LEVEL              as for serve [warn]
  --log-format text|json   as for serve [text]

Options of doctor:
  --connections N          connections that the machine shall hold [1000000]

  --help, --version
";

#[derive(Debug, PartialEq)]
pub enum Command {
    /// The text to print.
    Help(String),
    Version,
    Serve(Box<Serve>),
    Echo(Echo),
    #[cfg(feature = "bench")]
    Bench(crate::bench::arguments::Bench),
    Doctor(Doctor),
}

#[derive(Debug, PartialEq, Eq)]
pub struct Serve {
    pub listen: Vec<String>,
    pub tls: TlsOptions,
    pub redirect: Vec<String>,
    pub redirect_port: Option<u16>,
    pub publish_token: Option<String>,
    pub publish_token_file: Option<PathBuf>,
    pub secrets: SecretOptions,
    pub pusher: PusherOptions,
    pub cable: CableArguments,
    pub mercure: MercureOptions,
    pub open: bool,
    pub drain_window: Duration,
    pub takeover: Option<PathBuf>,
    pub allow_origin: Vec<String>,
    pub max_connections: Option<usize>,
    pub memory_max: Option<usize>,
    pub max_connections_per_address: u32,
    pub handshakes_per_second: u32,
    pub handshakes_per_second_total: u32,
    pub limits: Limits,
    pub deflate: Deflate,
    pub topics: TopicOptions,
    pub redis: RedisOptions,
    pub trusted_proxy: Vec<Network>,
    /// Whether every peer on a Unix socket is a trusted proxy.
    pub trusts_unix_proxies: bool,
    pub proxy_protocol: bool,
    pub reactors: usize,
    pub unix_mode: Option<u32>,
    pub access_log: bool,
    pub log: Log,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Echo {
    pub listen: Vec<String>,
    pub tls: TlsOptions,
    pub to_all: bool,
    pub max_connections: Option<usize>,
    pub deflate: Deflate,
    pub log: Log,
}

/// How much is logged, and how a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    pub level: LevelFilter,
    pub format: LogFormat,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Doctor {
    pub connections: u64,
}

/// The most reactors: no machine has use for more threads.
const REACTORS_MAX: usize = 1024;

/// The most connections that `doctor` computes with: no machine has held more.
const DOCTOR_CONNECTIONS_MAX: u64 = 100_000_000;

/// The least `--memory-max`: with less the hub would end its clients all the time.
const MEMORY_MAX_LEAST: usize = 1024 * 1024;

/// The longest drain window, in seconds: a day.
const DRAIN_WINDOW_MAX: u64 = 86_400;

/// The options of `serve` and `echo` as they were given.
struct Given {
    /// `None` until a command was named; without one it is `serve`.
    is_echo: Option<bool>,
    options_file: Option<PathBuf>,
    listen: Vec<String>,
    tls: TlsOptions,
    redirect: Vec<String>,
    redirect_port: Option<u16>,
    publish_token: Option<String>,
    publish_token_file: Option<PathBuf>,
    secrets: SecretOptions,
    pusher: PusherOptions,
    cable: CableArguments,
    mercure: MercureOptions,
    unix_mode: Option<u32>,
    format: LogFormat,
    open: bool,
    access_log: bool,
    to_all: bool,
    drain_window: Duration,
    takeover: Option<PathBuf>,
    allow_origin: Vec<String>,
    max_connections: Option<usize>,
    memory_max: Option<usize>,
    max_connections_per_address: u32,
    handshakes_per_second: u32,
    handshakes_per_second_total: u32,
    limits: Limits,
    deflate: Option<Deflate>,
    topics: TopicOptions,
    redis: RedisOptions,
    proxy_protocol: bool,
    trusted_proxy: Vec<Network>,
    trusts_unix_proxies: bool,
    reactors: usize,
    log: Option<LevelFilter>,
}

impl Default for Given {
    fn default() -> Self {
        Given {
            is_echo: None,
            options_file: None,
            listen: Vec::new(),
            tls: TlsOptions::default(),
            redirect: Vec::new(),
            redirect_port: None,
            publish_token: None,
            publish_token_file: None,
            secrets: SecretOptions::default(),
            pusher: PusherOptions::default(),
            cable: CableArguments::default(),
            mercure: MercureOptions::default(),
            unix_mode: None,
            format: LogFormat::Text,
            open: false,
            access_log: false,
            to_all: false,
            drain_window: Duration::from_secs(10),
            takeover: None,
            allow_origin: Vec::new(),
            max_connections: None,
            memory_max: None,
            max_connections_per_address: 1000,
            handshakes_per_second: 200,
            handshakes_per_second_total: 0,
            limits: Limits::default(),
            deflate: None,
            topics: TopicOptions::default(),
            redis: RedisOptions::default(),
            proxy_protocol: false,
            trusted_proxy: Vec::new(),
            trusts_unix_proxies: false,
            reactors: 1,
            log: None,
        }
    }
}

/// The command with its options: those of the command line, and for `serve` those of `--options-file` before
/// them.
///
/// # Errors
///
/// A sentence with the option, the value, and what was expected; for a file also with the number of the line.
pub fn parse(mut parser: Parser) -> Result<Command, String> {
    let words = parser.raw_args().map_err(|error| error.to_string())?;
    let words: Vec<OsString> = words.collect();
    let mut given = Given::default();
    if let Some(command) = take_words(Parser::from_args(&words), &mut given)? {
        return Ok(command);
    }
    if given.is_echo == Some(true) {
        return echo(given).map(Command::Echo);
    }
    let file = match given.options_file.take() {
        Some(file) => Some(file),
        None => environment(options_file::VARIABLE)?.map(PathBuf::from),
    };
    if let Some(file) = file {
        // The file first, so that an option of the command line takes the place of the file's.
        given = Given::default();
        options_file::take(&file, |line| take_line(line, &mut given))?;
        let topics = given.topics.take_rules();
        take_words(Parser::from_args(&words), &mut given)?;
        given.topics.append(&topics)?;
    }
    serve(given).map(|serve| Command::Serve(Box::new(serve)))
}

/// Takes an option of a file, as one word of a command line.
fn take_line(word: &str, given: &mut Given) -> Result<(), String> {
    if word == "--" {
        return Err("expected the name of an option, got \"--\"".to_owned());
    }
    let is_command = take_words(Parser::from_args([word]), given)?.is_some();
    if is_command || given.options_file.is_some() {
        let (name, _) = word.split_once('=').unwrap_or((word, ""));
        return Err(format!("{name} is not an option of a file"));
    }
    Ok(())
}

/// Takes the words of a command line. Returns the command where it is neither `serve` nor `echo`.
fn take_words(mut parser: Parser, given: &mut Given) -> Result<Option<Command>, String> {
    while let Some(argument) = parser.next().map_err(|error| error.to_string())? {
        let serves = given.is_echo != Some(true);
        match argument {
            Arg::Long("help") | Arg::Short('h') => {
                let text = match given.is_echo {
                    None => HELP.to_owned(),
                    Some(false) => help_of("serve"),
                    Some(true) => help_of("echo"),
                };
                return Ok(Some(Command::Help(text)));
            }
            Arg::Long("version") | Arg::Short('V') => return Ok(Some(Command::Version)),
            Arg::Long("listen") => given.listen.push(address(&text(&mut parser, "--listen")?)?),
            Arg::Long("max-connections") => {
                given.max_connections = Some(count(
                    "--max-connections",
                    &text(&mut parser, "--max-connections")?,
                )?)
            }
            Arg::Long("deflate") => {
                given.deflate = Some(deflate(&text(&mut parser, "--deflate")?)?)
            }
            Arg::Long("log") => given.log = Some(level(&text(&mut parser, "--log")?)?),
            Arg::Long(option) if TlsOptions::has(option) => {
                let option = option.to_owned();
                given.tls.take(&option, &mut parser)?;
            }
            Arg::Long("redirect") if serves => given.redirect.push(inet_address(
                "--redirect",
                &text(&mut parser, "--redirect")?,
            )?),
            Arg::Long("redirect-port") if serves => {
                given.redirect_port = Some(port(&text(&mut parser, "--redirect-port")?)?)
            }
            Arg::Long("options-file") if serves => {
                given.options_file = Some(text(&mut parser, "--options-file")?.into())
            }
            Arg::Long("publish-token") if serves => {
                given.publish_token = Some(token(
                    "--publish-token",
                    text(&mut parser, "--publish-token")?,
                )?)
            }
            Arg::Long("publish-token-file") if serves => {
                given.publish_token_file = Some(text(&mut parser, "--publish-token-file")?.into())
            }
            Arg::Long(option) if serves && SecretOptions::has(option) => {
                let option = option.to_owned();
                given.secrets.take(&option, &mut parser)?;
            }
            Arg::Long(option) if serves && PusherOptions::has(option) => {
                let option = option.to_owned();
                given.pusher.take(&option, &mut parser)?;
            }
            Arg::Long(option) if serves && CableArguments::has(option) => {
                let option = option.to_owned();
                given.cable.take(&option, &mut parser)?;
            }
            Arg::Long(option) if serves && MercureOptions::has(option) => {
                let option = option.to_owned();
                given.mercure.take(&option, &mut parser)?;
            }
            Arg::Long("unix-mode") if serves => {
                given.unix_mode = Some(unix_mode(&text(&mut parser, "--unix-mode")?)?)
            }
            Arg::Long("log-format") => {
                given.format = log_format(&text(&mut parser, "--log-format")?)?;
            }
            Arg::Long("access-log") if serves => given.access_log = true,
            Arg::Long("open") if serves => given.open = true,
            Arg::Long("drain-window") if serves => {
                given.drain_window = seconds(&text(&mut parser, "--drain-window")?)?
            }
            Arg::Long("allow-origin") if serves => given
                .allow_origin
                .push(origin(&text(&mut parser, "--allow-origin")?)?),
            Arg::Long("takeover") if serves => {
                if !cfg!(target_os = "linux") {
                    return Err("--takeover needs Linux".to_owned());
                }
                given.takeover = Some(text(&mut parser, "--takeover")?.into())
            }
            Arg::Long("memory-max") if serves => {
                given.memory_max = Some(bytes(
                    "--memory-max",
                    &text(&mut parser, "--memory-max")?,
                    MEMORY_MAX_LEAST,
                )?)
            }
            Arg::Long("max-connections-per-address") if serves => {
                given.max_connections_per_address =
                    limit(&mut parser, "--max-connections-per-address")?
            }
            Arg::Long("handshakes-per-second") if serves => {
                given.handshakes_per_second = limit(&mut parser, "--handshakes-per-second")?
            }
            Arg::Long("handshakes-per-second-total") if serves => {
                given.handshakes_per_second_total =
                    limit(&mut parser, "--handshakes-per-second-total")?
            }
            Arg::Long(option) if serves && Limits::has(option) => {
                let option = option.to_owned();
                given.limits.take(&option, &mut parser)?;
            }
            Arg::Long(option) if serves && TopicOptions::has(option) => {
                let option = option.to_owned();
                given.topics.take(&option, &mut parser)?;
            }
            Arg::Long(option) if serves && RedisOptions::has(option) => {
                let option = option.to_owned();
                given.redis.take(&option, &mut parser)?;
            }
            Arg::Long("proxy-protocol") if serves => given.proxy_protocol = true,
            Arg::Long("trusted-proxy") if serves => {
                let value = text(&mut parser, "--trusted-proxy")?;
                match value.parse::<Network>() {
                    _ if value == "unix" => given.trusts_unix_proxies = true,
                    Ok(network) => given.trusted_proxy.push(network),
                    Err(why) => {
                        return Err(format!("--trusted-proxy: {why}, or unix, got {value:?}"));
                    }
                }
            }
            Arg::Long("reactors") if serves => {
                given.reactors = reactor_count(&text(&mut parser, "--reactors")?)?
            }
            Arg::Long("to") if !serves => given.to_all = to(&text(&mut parser, "--to")?)?,
            #[cfg(feature = "bench")]
            Arg::Value(word) if given.is_echo.is_none() && word == "bench" => {
                use crate::bench::arguments::{Parsed, parse};
                return Ok(Some(match parse(&mut parser)? {
                    Parsed::Help(text) => Command::Help(text),
                    Parsed::Bench(bench) => Command::Bench(*bench),
                }));
            }
            #[cfg(not(feature = "bench"))]
            Arg::Value(word) if given.is_echo.is_none() && word == "bench" => {
                return Err("this build has no bench: its feature `bench` is off".to_owned());
            }
            // `help COMMAND` is `COMMAND --help`.
            Arg::Value(word) if given.is_echo.is_none() && word == "help" => {
                let words = parser.raw_args().map_err(|error| error.to_string())?;
                return take_words(Parser::from_args(words.chain(["--help".into()])), given);
            }
            Arg::Value(word) if given.is_echo.is_none() && word == "doctor" => {
                return doctor(&mut parser).map(Some);
            }
            Arg::Value(word) if given.is_echo.is_none() => {
                given.is_echo = Some(match word.to_str() {
                    Some("serve") => false,
                    Some("echo") => true,
                    _ => {
                        let given = word.to_string_lossy();
                        return Err(match help::suggestion("", &given, COMMANDS) {
                            none if none.is_empty() => format!(
                                "{word:?} is not a command; expected serve, echo, bench or doctor"
                            ),
                            suggestion => format!("{word:?} is not a command{suggestion}"),
                        });
                    }
                });
            }
            other => {
                let command = if serves { "serve" } else { "echo" };
                return Err(unexpected(command, &other));
            }
        }
    }
    Ok(None)
}

/// # Errors
///
/// A sentence with the options that do not go together.
fn echo(given: Given) -> Result<Echo, String> {
    let mut listen = given.listen;
    if listen.is_empty() {
        listen.push("127.0.0.1:9001".to_owned());
    }
    given.tls.check(&listen)?;
    Ok(Echo {
        listen,
        tls: given.tls,
        to_all: given.to_all,
        max_connections: given.max_connections,
        deflate: given.deflate.unwrap_or(Deflate::None),
        log: Log {
            level: given.log.unwrap_or(LevelFilter::Warn),
            format: given.format,
        },
    })
}

/// Completes the options of `serve` by the environment and by defaults, and checks them together.
///
/// # Errors
///
/// A sentence with the options that do not go together, or the variable that does not parse.
fn serve(given: Given) -> Result<Serve, String> {
    let Given {
        is_echo: _,
        options_file: _,
        mut listen,
        tls,
        redirect,
        redirect_port,
        mut publish_token,
        publish_token_file,
        mut secrets,
        pusher,
        mut cable,
        mut mercure,
        unix_mode,
        format,
        open,
        access_log,
        to_all: _,
        drain_window,
        takeover,
        allow_origin,
        max_connections,
        memory_max,
        max_connections_per_address,
        handshakes_per_second,
        handshakes_per_second_total,
        limits,
        deflate,
        topics,
        mut redis,
        proxy_protocol,
        trusted_proxy,
        trusts_unix_proxies,
        reactors,
        log,
    } = given;
    if listen.is_empty() {
        listen.push(default_address()?);
    }
    tls.check(&listen)?;
    if let Some(address) = redirect.first()
        && !listen.iter().any(|address| address.starts_with(TLS))
    {
        return Err(format!(
            "--redirect {address} sends clients to --listen tls:HOST:PORT, which is missing"
        ));
    }
    if let (Some(port), true) = (redirect_port, redirect.is_empty()) {
        return Err(format!(
            "--redirect-port {port} is for --redirect ADDR, which is missing"
        ));
    }
    if 1 < reactors && listen.iter().all(|address| address.starts_with("unix:")) {
        return Err(format!(
            "--reactors {reactors}: a Unix socket cannot be shared, and there is no other listener"
        ));
    }
    let mut token_option = "--publish-token";
    if publish_token.is_none()
        && publish_token_file.is_none()
        && let Some(given) = environment("WATERWHEEL_PUBLISH_TOKEN")?
    {
        token_option = "WATERWHEEL_PUBLISH_TOKEN";
        publish_token = Some(token(token_option, given)?);
    }
    if secrets.is_empty()
        && let Some(given) = environment(secrets::VARIABLE)?
    {
        let secret = secrets::secret(secrets::VARIABLE, given)?;
        secrets.given.push(secret);
    }
    cable.add_environment(environment)?;
    mercure.complete(environment)?;
    for variable in redis::VARIABLES {
        if redis.url.is_none() {
            redis.url = environment(variable)?;
        }
    }
    if redis.prefix.is_some() && redis.url.is_none() {
        return Err("--redis-prefix is for --redis, which is missing".to_owned());
    }
    if open && (publish_token.is_some() || publish_token_file.is_some()) {
        return Err(format!(
            "--open lets everyone publish without a token, so {token_option} would protect nothing: \
             leave one of them out"
        ));
    }
    if unix_mode.is_some() && !listen.iter().any(|address| address.starts_with("unix:")) {
        return Err(
            "--unix-mode is for a Unix socket, and there is no --listen unix:PATH".to_owned(),
        );
    }
    if let Some(connections) = max_connections.filter(|count| *count < reactors) {
        return Err(format!(
            "--max-connections {connections}: fewer than --reactors {reactors}, and each reactor needs at least one"
        ));
    }
    Ok(Serve {
        listen,
        tls,
        redirect,
        redirect_port,
        publish_token,
        publish_token_file,
        secrets,
        pusher,
        cable,
        mercure,
        open,
        drain_window,
        takeover,
        allow_origin,
        max_connections,
        memory_max,
        max_connections_per_address,
        handshakes_per_second,
        handshakes_per_second_total,
        limits,
        deflate: deflate.unwrap_or(Deflate::Shared),
        topics,
        redis,
        trusted_proxy,
        trusts_unix_proxies,
        proxy_protocol,
        reactors,
        unix_mode,
        access_log,
        log: Log {
            level: log.unwrap_or(LevelFilter::Info),
            format,
        },
    })
}

/// The commands of the program.
const COMMANDS: [&str; 4] = ["serve", "echo", "bench", "doctor"];

/// The help of one command.
fn help_of(command: &str) -> String {
    help::of(HELP, command, &[command]) + "\n  --help, --version\n"
}

/// `waterwheel COMMAND` as it was given, for a pointer to the help.
pub fn given_command() -> String {
    let word = std::env::args().nth(1);
    match word.filter(|word| COMMANDS.contains(&word.as_str())) {
        Some(word) => format!("waterwheel {word}"),
        None => "waterwheel".to_owned(),
    }
}

/// The error for an argument that the command does not know.
fn unexpected(command: &str, argument: &Arg<'_>) -> String {
    let given = match argument {
        Arg::Long(name) => *name,
        Arg::Short(letter) => return format!("{command} has no option -{letter}"),
        Arg::Value(word) => return format!("{command}: unexpected argument {word:?}"),
    };
    let options = |command: &str| help::options(HELP, command);
    let is_known = |other: &&str| *other != command && options(other).contains(&given);
    if let Some(other) = COMMANDS.into_iter().find(is_known) {
        return format!("{command} has no option --{given}, but {other} has");
    }
    let suggestion = help::suggestion("--", given, options(command));
    format!("{command} has no option --{given}{suggestion}")
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

fn count(option: &str, value: &str) -> Result<usize, String> {
    match value.parse() {
        Ok(0) | Err(_) => Err(format!(
            "{option}: expected a number above 0, got {value:?}"
        )),
        Ok(count) => Ok(count),
    }
}

/// The number of an option that may be 0, for no limit.
fn limit(parser: &mut Parser, option: &str) -> Result<u32, String> {
    let value = text(parser, option)?;
    value
        .parse()
        .map_err(|_| format!("{option}: expected a number, 0 for no limit, got {value:?}"))
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
            Arg::Long("help") | Arg::Short('h') => return Ok(Command::Help(help_of("doctor"))),
            Arg::Long("version") | Arg::Short('V') => return Ok(Command::Version),
            Arg::Long("connections") => {
                connections = doctor_count(&text(parser, "--connections")?)?;
            }
            other => return Err(unexpected("doctor", &other)),
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
            (
                "--trusted-proxy proxy",
                ["--trusted-proxy", "10.0.0.0/8", "\"proxy\""],
            ),
            (
                "--handshakes-per-second x",
                ["--handshakes-per-second", "0 for no limit", "\"x\""],
            ),
            ("--memory-max lots", ["--memory-max", "512MiB", "\"lots\""]),
            ("--memory-max 10KiB", ["--memory-max", "1 MiB", "\"10KiB\""]),
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
            ("--log-format xml", ["--log-format", "json", "\"xml\""]),
            ("--lissen :1", ["--lissen", "did you mean", "--listen?"]),
            ("sevre", ["\"sevre\"", "did you mean", "serve?"]),
            ("echo --open", ["echo", "--open", "but serve has"]),
            ("serve now", ["serve", "unexpected", "\"now\""]),
            (
                "--listen http://127.0.0.1:8090",
                ["--listen", "leave out \"http://\"", "127.0.0.1:8090"],
            ),
            (
                "--listen wss://127.0.0.1:8090/",
                [
                    "--listen",
                    "leave out \"wss://\"",
                    "--listen tls:127.0.0.1:8090",
                ],
            ),
            (
                "--listen TLS:127.0.0.1:8090",
                ["--listen", "tls:HOST:PORT", "\"TLS:127.0.0.1:8090\""],
            ),
            ("--listen ::1:80", ["--listen", "HOST:PORT", "\"::1:80\""]),
            (
                "--redirect tls:127.0.0.1:80",
                ["--redirect", "HOST:PORT", "\"tls:127.0.0.1:80\""],
            ),
            (
                "--redirect-port 0",
                ["--redirect-port", "1 to 65535", "\"0\""],
            ),
            (
                "--redirect-port 443",
                ["--redirect-port 443", "--redirect ADDR", "missing"],
            ),
            (
                "--open --publish-token a",
                ["--open", "--publish-token", "leave one of them out"],
            ),
            (
                "--open --publish-token-file a",
                ["--open", "--publish-token", "leave one of them out"],
            ),
            (
                "--token-secret 31-bytes-are-one-fewer-than-is.",
                ["--token-secret", "at least 32 bytes", "got 31"],
            ),
            (
                "--mercure-publisher-key 31-bytes-are-one-fewer-than-is.",
                ["--mercure-publisher-key", "at least 32 bytes", "got 31"],
            ),
            (
                "--mercure-subscriber-key short",
                ["--mercure-subscriber-key", "at least 32 bytes", "got 5"],
            ),
            (
                "--mercure-anonymous",
                ["--mercure-anonymous", "--mercure-publisher-key", ""],
            ),
            (
                "--mercure-subscriptions",
                ["--mercure-subscriptions", "--mercure-subscriber-key", ""],
            ),
            (
                "echo --mercure-anonymous",
                ["--mercure-anonymous", "serve has", ""],
            ),
            ("--unix-mode 660", ["--unix-mode", "--listen unix:PATH", ""]),
            (
                "--listen unix:a --unix-mode rw",
                ["--unix-mode", "660", "\"rw\""],
            ),
            (
                "--listen unix:a --unix-mode 7777",
                ["--unix-mode", "000 to 777", "\"7777\""],
            ),
            (
                "--allow-origin https://example.org:443",
                ["--allow-origin", "leave out \":443\"", "browsers"],
            ),
            (
                "--allow-origin http://example.org:80/",
                ["--allow-origin", "leave out \":80\"", "browsers"],
            ),
            (
                "--allow-origin https://example.org:99999",
                ["--allow-origin", "port", "99999"],
            ),
            (
                "--allow-origin https://example.org:",
                ["--allow-origin", "port", "example.org:"],
            ),
            (
                "--allow-origin null",
                ["--allow-origin", "null", "every site"],
            ),
            (
                "--allow-origin example.org",
                ["--allow-origin", "https://", "\"example.org\""],
            ),
            ("echo --to nobody", ["--to", "sender or all", "\"nobody\""]),
            ("echo --token-secret x", ["--token-secret", "serve has", ""]),
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

    /// The options of the command line with those of a file that has this text.
    fn parse_with_file(text: &str, words: &str) -> Result<Serve, String> {
        let name = format!("waterwheel-options-{}-{:p}", std::process::id(), &text);
        let file = std::env::temp_dir().join(name);
        std::fs::write(&file, text).unwrap();
        let words = format!("{words} --options-file {}", file.display());
        let parsed = parse_words(&words);
        std::fs::remove_file(&file).unwrap();
        match parsed? {
            Command::Serve(serve) => Ok(*serve),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_command_line_wins_over_the_file_and_lists_add_up() {
        let text = "# the hub\n\
            listen 127.0.0.1:1\n\
            drain-window 30\n\
            reactors = 2\n\
            --messages-per-second=7\n\
            topic *=history=1\n\
            history-bytes 1MiB\n\
            access-log\n";
        let words = "serve --listen 127.0.0.1:2 --drain-window 5 --topic a=history=2";
        let serve = parse_with_file(text, words).unwrap();
        assert_eq!(serve.listen, ["127.0.0.1:1", "127.0.0.1:2"]);
        assert_eq!(serve.drain_window, Duration::from_secs(5));
        assert_eq!(serve.reactors, 2);
        assert!(serve.access_log);
        // The first rule that matches holds, so those of the command line come first.
        assert_eq!(serve.topics.rules.of("a").history_count, 2);
        assert_eq!(serve.topics.rules.of("b").history_count, 1);
        assert_eq!(serve.topics.history_bytes, 1024 * 1024);
        let over = parse_with_file(text, "--history-bytes 2MiB").unwrap();
        assert_eq!(over.topics.history_bytes, 2 * 1024 * 1024);
        let without = parse_with_file("", "").unwrap();
        assert_eq!(Ok(Command::Serve(Box::new(without))), parse_words(""));
    }

    #[test]
    fn errors_of_a_file_have_its_line_and_the_word() {
        let cases = [
            ("lissen x", ["line 1: ", "did you mean --listen?"]),
            ("\n\nlog loud", ["line 3: --log", "\"loud\""]),
            ("listen", ["line 1: --listen", "needs a value"]),
            ("open yes", ["line 1: ", "--open"]),
            ("topic a=history=x", ["line 1: --topic", "\"a=history=x\""]),
            ("help", ["line 1: --help", "not an option of a file"]),
            ("version", ["line 1: --version", "not an option of a file"]),
            (
                "#\noptions-file x",
                ["line 2: --options-file", "not an option of a file"],
            ),
            ("serve", ["line 1: serve has no option --serve", ""]),
            ("--", ["line 1: ", "\"--\""]),
            ("= 5", ["line 1: ", ""]),
            (
                "to all",
                ["line 1: serve has no option --to", "but echo has"],
            ),
            ("-h", ["line 1: serve has no option ---h", ""]),
        ];
        for (text, parts) in cases {
            let error = parse_with_file(text, "").unwrap_err();
            for part in parts {
                assert!(error.contains(part), "{text:?}: {error}");
            }
        }
        let secret = parse_with_file("publish-token two words", "").unwrap_err();
        assert!(!secret.contains("words\""), "{secret}");
        let error = parse_with_file("open", "--publish-token t").unwrap_err();
        assert!(error.contains("leave one of them out"), "{error}");
        let unknown = parse_words("echo --options-file x").unwrap_err();
        assert!(unknown.contains("but serve has"), "{unknown}");
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
        assert_eq!(parse_words("--help"), Ok(Command::Help(HELP.to_owned())));
        let Ok(Command::Help(text)) = parse_words("echo --help") else {
            panic!()
        };
        assert!(text.contains("--to sender|all") && !text.contains("--open"));
        assert_eq!(parse_words("echo --version"), Ok(Command::Version));
        let Ok(Command::Serve(serve)) = parse_words(
            "--listen [::1]:0 --listen unix:a.sock --open --drain-window 0.5 --memory-max 5MiB",
        ) else {
            panic!()
        };
        assert_eq!(serve.memory_max, Some(5 * 1024 * 1024));
        assert_eq!(
            (serve.listen.len(), serve.open, serve.drain_window),
            (2, true, Duration::from_millis(500))
        );
        assert_eq!(
            parse_words("doctor --connections 5"),
            Ok(Command::Doctor(Doctor { connections: 5 }))
        );
        assert_eq!(parse_words("doctor --version"), Ok(Command::Version));
        for command in ["", "serve", "echo", "doctor", "bench", "bench echo"] {
            let help = parse_words(&format!("{command} --help"));
            if cfg!(not(feature = "bench")) && command.starts_with("bench") {
                continue;
            }
            assert!(matches!(help, Ok(Command::Help(_))), "{command}");
            assert_eq!(parse_words(&format!("help {command}")), help, "{command}");
        }
        let unknown = parse_words("help frobnicate").unwrap_err();
        assert!(unknown.contains("not a command"), "{unknown}");
        let Ok(Command::Echo(echo)) = parse_words("echo --to all") else {
            panic!()
        };
        assert_eq!(
            (echo.listen, echo.to_all),
            (vec!["127.0.0.1:9001".to_owned()], true)
        );
    }
}
