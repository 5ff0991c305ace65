//! The limit of open descriptors, which decides how many connections the process can hold.

use std::io;

use waterwheel::Config;

/// Descriptors that each reactor uses for other things than connections: standard streams, the
/// poll, signals, listeners, the resolver.
pub const RESERVED_DESCRIPTORS: u64 = 16;

/// Raises the limit of open descriptors of this process to its hard limit, and returns the limit
/// that holds then.
#[cfg(unix)]
pub fn raise_descriptor_limit() -> u64 {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};

    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return 1024;
    };
    // macOS reports no hard limit and refuses a soft limit above this one.
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
pub fn raise_descriptor_limit() -> u64 {
    1_000_000
}

/// Raises the limit of open descriptors, and returns a configuration with as many connections as
/// the limit leaves after what `reactors` need for themselves, or with `connections_max` where that
/// is fewer.
///
/// # Errors
///
/// When the limit leaves no descriptor for a connection of each reactor.
pub fn config(connections_max: Option<usize>, reactors: usize) -> io::Result<Config> {
    let descriptors = raise_descriptor_limit();
    let needed = reserved(reactors).saturating_add(reactors as u64);
    if descriptors < needed {
        return Err(io::Error::other(format!(
            "{needed} descriptors are needed, and this process may have {descriptors}: raise the limit \
             (ulimit -n, or LimitNOFILE in a systemd unit)"
        )));
    }
    let room = room(descriptors, reactors);
    let wanted = connections_max.unwrap_or(room);
    if room < wanted {
        log::warn!(
            "--max-connections {wanted}: this process may have {descriptors} descriptors, so the limit is {room}"
        );
    }
    let connections_max = wanted.min(room);
    log::info!("room for {connections_max} connections");
    Ok(Config {
        connections_max,
        ..Config::default()
    })
}

/// Descriptors that so many reactors need for themselves.
fn reserved(reactors: usize) -> u64 {
    RESERVED_DESCRIPTORS.saturating_mul(reactors as u64)
}

/// How many connections fit into so many descriptors. At least one.
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
