//! The program: the hub, a bare echo server, the load tool, and the doctor.

mod arguments;
#[cfg(feature = "bench")]
mod bench;
mod doctor;
mod echo;
mod serve;

use std::io::{self, Write};
use std::process::ExitCode;

use waterwheel::{Address, Config, ListenerId, Reactor};

use self::arguments::{Command, HELP};

/// Descriptors of a reactor that are not for connections: standard streams, the poll, signals,
/// listeners, the resolver.
const RESERVED_DESCRIPTORS: u64 = 16;

fn main() -> ExitCode {
    let command = match arguments::parse(lexopt::Parser::from_env()) {
        Ok(command) => command,
        Err(why) => {
            eprintln!("waterwheel: {why}");
            let of_bench = std::env::args_os()
                .nth(1)
                .is_some_and(|word| word == "bench");
            let mode = if of_bench { "bench " } else { "" };
            eprintln!("waterwheel {mode}--help tells what there is.");
            return ExitCode::from(2);
        }
    };
    let outcome = match command {
        Command::Help => {
            say(HELP);
            Ok(())
        }
        Command::Version => {
            say(concat!("waterwheel ", env!("CARGO_PKG_VERSION"), "\n"));
            Ok(())
        }
        Command::Serve(options) => serve::run(&options),
        Command::Echo(options) => echo::run(&options),
        #[cfg(feature = "bench")]
        Command::BenchHelp => {
            say(bench::arguments::HELP);
            Ok(())
        }
        #[cfg(feature = "bench")]
        Command::Bench(options) => return bench::run(options),
        Command::Doctor(options) => return doctor::run(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("waterwheel: {error}");
            ExitCode::from(1)
        }
    }
}

/// Writes to standard output; who closed it does not want to know.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// A line for each listener, in one piece: whoever has read one may rely on all.
fn say_listening<S: 'static>(reactor: &Reactor<S>, listeners: &[ListenerId]) {
    let lines = listeners
        .iter()
        .filter_map(|listener| match reactor.local_addr(*listener)? {
            Address::Inet(address) => Some(format!("listening on http://{address}\n")),
            address => Some(format!("listening on {address}\n")),
        });
    say(&lines.collect::<String>());
}

fn start_log(level: log::LevelFilter) {
    env_logger::Builder::new()
        .filter_level(level)
        .format_target(false)
        .init();
}

/// Raises the limit of open descriptors as far as it goes; how far that is.
#[cfg(unix)]
fn raise_descriptor_limit() -> u64 {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};

    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return 1024;
    };
    // macOS says that there is no limit, and refuses all above this one.
    let most = if cfg!(target_vendor = "apple") {
        hard.min(10_240)
    } else {
        hard
    };
    match setrlimit(Resource::RLIMIT_NOFILE, most, hard) {
        Ok(()) => most,
        Err(_) => soft,
    }
}

/// Windows has no such limit for sockets.
#[cfg(not(unix))]
fn raise_descriptor_limit() -> u64 {
    1_000_000
}

/// Raises the limit of open descriptors as far as it goes, and allows as many connections as that
/// leaves beside what so many reactors need for themselves, or as many as were asked for where those
/// are fewer.
///
/// # Errors
///
/// When there is no descriptor left for a connection.
fn config(connections_max: Option<usize>, reactors: usize) -> io::Result<Config> {
    let descriptors = raise_descriptor_limit();
    let needed = reserved(reactors).saturating_add(reactors as u64);
    if descriptors < needed {
        return Err(io::Error::other(format!(
            "this needs {needed} descriptors, and the process may have {descriptors}: raise the limit \
             (ulimit -n, or LimitNOFILE in a systemd unit)"
        )));
    }
    let room = room(descriptors, reactors);
    let wanted = connections_max.unwrap_or(room);
    if room < wanted {
        log::warn!(
            "--max-connections {wanted}: this process may have {descriptors} descriptors, so it will be {room}"
        );
    }
    let connections_max = wanted.min(room);
    log::info!("room for {connections_max} connections");
    Ok(Config {
        connections_max,
        ..Config::default()
    })
}

/// What so many reactors need for themselves.
fn reserved(reactors: usize) -> u64 {
    RESERVED_DESCRIPTORS.saturating_mul(reactors as u64)
}

/// How many connections so many descriptors are enough for.
fn room(descriptors: u64, reactors: usize) -> usize {
    let room = descriptors.saturating_sub(reserved(reactors)).max(1);
    usize::try_from(room).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_reserved_for_each_reactor() {
        let cases = [
            (20_000, 1, 19_984),
            (20_000, 2, 19_968),
            (17, 1, 1),
            (16, 1, 1),
            (0, 1, 1),
        ];
        for (descriptors, reactors, expected) in cases {
            assert_eq!(
                room(descriptors, reactors),
                expected,
                "{descriptors} descriptors"
            );
        }
        assert!(room(u64::MAX, 1) > 1_000_000_000);
    }

    #[test]
    fn connections_max_is_capped_by_the_descriptors() {
        let all = config(None, 1).unwrap().connections_max;
        assert_eq!(config(Some(1), 1).unwrap().connections_max, 1);
        assert_eq!(config(Some(all), 1).unwrap().connections_max, all);
        assert_eq!(config(Some(all + 1), 1).unwrap().connections_max, all);
    }
}
