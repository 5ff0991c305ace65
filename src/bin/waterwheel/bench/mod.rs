//! `waterwheel bench`: the load tool, which uses the library's own client and reactor.

mod action_cable;
pub mod arguments;
mod churn;
mod deliveries;
mod echo;
mod events;
mod fan_out;
mod fan_out_options;
mod idle;
mod load;
mod meter;
mod payload;
mod phase;
mod plan;
#[cfg(feature = "plot")]
mod plot;
mod post;
mod probing;
mod problems;
mod process;
mod progress;
mod proxy;
mod report;
mod schedule;
mod sequence;

use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::process::ExitCode;
use std::time::Duration;

use waterwheel::HttpProxy;
use waterwheel::protocol::http::Url;
use waterwheel::tls::ClientTls;
use waterwheel::websocket::Deflate;

use self::arguments::{Bench, Mode};
use self::load::Run;
use self::plan::Plan;
use self::process::Process;
use self::report::Report;
use crate::arguments::Log;
use crate::descriptors::raise_descriptor_limit;
use crate::log_line::LogFormat;
use crate::output::{print, print_error, start_log};

/// Descriptors for other things than connections: standard streams, the poll, files of `/proc`.
const RESERVED_DESCRIPTORS: u64 = 32;

/// The longest attempt to connect to one address of a name.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Runs a load and prints its report. The exit code is 1 when there was any problem.
pub fn run(bench: Bench) -> ExitCode {
    let outcome = start_log(Log {
        level: bench.log,
        format: LogFormat::Text,
    })
    .map_err(|why| why.to_string())
    .and_then(|()| measure(bench));
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(why) => {
            print_error(&format!("waterwheel: {why}"));
            ExitCode::from(1)
        }
    }
}

/// Runs a load and prints its report. Returns whether there was no problem.
fn measure(bench: Bench) -> Result<bool, String> {
    let descriptors = raise_descriptors(bench.mode.connections())?;
    let resumes = !matches!(&bench.mode, Mode::Churn(options) if !options.resumes);
    let variable = |name: &str| std::env::var(name).ok();
    let target = resolve(&bench.url, resumes, variable)?;
    let process = bench.pid.map(Process::of_id);
    if let Some(process) = &process {
        process.processor_time().map_err(|why| {
            format!("{why}: expected the id of the server's process, on this machine")
        })?;
    }
    let mut report = Report::default();
    report.parameter("mode", bench.mode.name());
    report.parameter("url", bench.url.as_str());
    report.parameter("connections", bench.mode.connections());
    if matches!(bench.mode, Mode::Idle { .. }) {
        report.parameter("hold", bench.seconds.as_secs_f64());
    } else {
        report.parameter("seconds", bench.seconds.as_secs_f64());
        report.parameter("warmup", bench.warmup.as_secs_f64());
    }
    report.parameter("connect_rate", bench.connect_rate);
    let deflate = match bench.deflate {
        Deflate::Shared => Some("shared"),
        Deflate::Dedicated => Some("dedicated"),
        _ => None,
    };
    report.parameter("deflate", deflate);
    report.parameter("pid", bench.pid);
    report.parameter("descriptors", descriptors);
    let plan = Plan {
        url: target.url,
        spreads: bench.mode.spreads() && target.is_loopback,
        address: target.address,
        connections: bench.mode.connections(),
        opens_first: !matches!(bench.mode, Mode::Churn(_)),
        connect_rate: bench.connect_rate,
        deflate: bench.deflate,
        tls: target.tls,
        proxy: target.proxy,
        warmup: bench.warmup,
        seconds: bench.seconds,
        process,
        counts: !matches!(bench.mode, Mode::Idle { .. }),
        shows_progress: true,
    };
    #[cfg(feature = "plot")]
    let captions = captions(&bench.mode);
    let run = Run::new(plan);
    let run = match bench.mode {
        Mode::Echo { options, .. } => echo::run(run, options, &mut report),
        Mode::Idle { options, .. } => idle::run(run, options, &mut report),
        Mode::Churn(options) => churn::run(run, options, &mut report),
        Mode::FanOut(options) | Mode::Sse(options) => fan_out::run(run, options, &mut report),
    }
    .map_err(|error| error.to_string())?;
    progress::clear(&run.plan);
    run.report_problems(&mut report);
    if bench.json {
        print(&report.to_json());
    } else if run.is_measured() {
        print(&report.to_table());
    }
    eprint!("{}", run.problems);
    if !bench.json {
        for note in &run.notes {
            eprintln!("waterwheel: {note}");
        }
    }
    #[cfg(feature = "plot")]
    if let Some(path) = &bench.plot {
        let mut run = run;
        run.plot(path, captions)?;
        return Ok(run.problems.count() == 0);
    }
    Ok(run.problems.count() == 0)
}

#[cfg(feature = "plot")]
fn captions(mode: &Mode) -> plot::Captions {
    let (latencies, rates) = match mode {
        Mode::Echo { .. } => ("echo: latency", "messages"),
        Mode::Idle { .. } => ("idle: time to open a connection", "connections opened"),
        Mode::Churn(_) => ("churn: latency of a round", "rounds"),
        Mode::FanOut(_) => ("fan-out: latency", "deliveries"),
        Mode::Sse(_) => ("sse: latency", "deliveries"),
    };
    plot::Captions { latencies, rates }
}

/// Raises the limit of descriptors and returns it.
fn raise_descriptors(connections: usize) -> Result<u64, String> {
    let descriptors = raise_descriptor_limit();
    let wanted = connections as u64 + RESERVED_DESCRIPTORS;
    if descriptors < wanted {
        return Err(format!(
            "{connections} connections need {wanted} descriptors, and this process may have {descriptors}: \
             raise the hard limit (`ulimit -Hn`, or LimitNOFILE in systemd), \
             or share them among several processes of at most {} each",
            descriptors.saturating_sub(RESERVED_DESCRIPTORS)
        ));
    }
    Ok(descriptors)
}

/// The server of a URL, after its name was resolved.
struct Target {
    url: String,
    address: String,
    is_loopback: bool,
    tls: Option<ClientTls>,
    proxy: Option<HttpProxy>,
}

/// Resolves the name once, instead of for each connection; with a proxy that is the proxy's task. Sessions of TLS are
/// resumed, or each connection begins a new one. `variable` looks up a variable of the environment.
fn resolve(
    url: &str,
    resumes: bool,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Target, String> {
    let websocket = arguments::websocket_url(url)?;
    let parsed = Url::of_websocket(&websocket).map_err(|error| error.to_string())?;
    let tls = match parsed.has_tls() {
        true => {
            let tls = ClientTls::builder().resumes(resumes).build();
            let tls = tls.map_err(|error| format!("--url {url}: {error}"))?;
            Some(tls.server_name(parsed.server_name()))
        }
        false => None,
    };
    let proxy = match parsed.has_tls() {
        true => proxy::proxy_for(parsed.host, variable)?,
        false => None,
    };
    let name = parsed.address();
    if proxy.is_some() {
        return Ok(Target {
            url: format!("wss://{name}{}", parsed.target()),
            address: name,
            is_loopback: false,
            tls,
            proxy,
        });
    }
    let addresses: Vec<SocketAddr> = name
        .to_socket_addrs()
        .map_err(|error| format!("--url {url}: {name} has no address: {error}"))?
        .collect();
    let address = match addresses[..] {
        [] => return Err(format!("--url {url}: {name} has no address")),
        [address] => address,
        // A name often has an IPv4 and an IPv6 address, of which the server listens on one.
        [first, ..] => *addresses
            .iter()
            .find(|address| TcpStream::connect_timeout(address, CONNECT_TIMEOUT).is_ok())
            .unwrap_or(&first),
    };
    let scheme = if tls.is_some() { "wss" } else { "ws" };
    Ok(Target {
        tls,
        url: format!("{scheme}://{address}{}", parsed.target()),
        address: address.to_string(),
        is_loopback: address.is_ipv4() && address.ip().is_loopback(),
        proxy: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_resolved_once_and_keeps_its_path() {
        let target = resolve("ws://127.0.0.1:9/a?b=c", true, |_| None)
            .ok()
            .unwrap();
        assert_eq!(target.url, "ws://127.0.0.1:9/a?b=c");
        assert_eq!(target.address, "127.0.0.1:9");
        // The form that a hub prints.
        let target = resolve("http://127.0.0.1:9/events", true, |_| None)
            .ok()
            .unwrap();
        assert_eq!(target.url, "ws://127.0.0.1:9/events");
        assert!(target.is_loopback);
        let error = resolve("127.0.0.1:9", true, |_| None).err().unwrap();
        assert!(error.contains("ws://HOST:PORT"), "{error}");
    }

    #[test]
    fn a_proxy_gets_the_name_of_a_server_with_tls() {
        let variable = |name: &str| (name == "HTTPS_PROXY").then(|| "http://p:3128".to_owned());
        let target = resolve("wss://name.invalid/a?b", true, variable)
            .ok()
            .unwrap();
        assert_eq!(target.url, "wss://name.invalid:443/a?b");
        assert_eq!(target.address, "name.invalid:443");
        assert_eq!(target.proxy.unwrap().address(), "p:3128");
        let target = resolve("ws://127.0.0.1:9/", true, variable).ok().unwrap();
        assert!(target.proxy.is_none(), "the variable is for TLS");
    }

    #[test]
    fn too_many_connections_are_reported() {
        let error = raise_descriptors(usize::MAX / 2).unwrap_err();
        assert!(error.contains("several processes"), "{error}");
    }
}
