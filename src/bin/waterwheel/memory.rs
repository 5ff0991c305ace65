//! How much memory this process may have, and the limit for its clients that follows from it.

use std::path::Path;

use crate::cgroup::memory_limits;

/// The least that clients may hold together, in bytes, however small the machine is.
const LEAST: u64 = 16 * 1024 * 1024;

/// The bytes that clients may hold together by default: three quarters of what this process may have, so that
/// a quarter is left for the program itself, for the kernel's socket buffers where a group of processes is
/// limited, and for what the allocator cannot use. `None` where no limit is known. `reactors` have a thread
/// each.
pub fn default_max(reactors: usize) -> Option<usize> {
    let limits = [cgroup_limit(), resource_limits(reactors), machine_bytes()];
    let least = limits.into_iter().flatten().min()?;
    usize::try_from(three_quarters(least)).ok()
}

fn three_quarters(bytes: u64) -> u64 {
    (bytes - bytes / 4).max(LEAST)
}

/// Address space that a thread reserves for its stack and for a heap of its own, in bytes. Most of it is never
/// used.
#[cfg(target_os = "linux")]
const THREAD_BYTES: u64 = 68 * 1024 * 1024;

/// Threads beside the reactors: the log, and the signal that files are to be read again.
#[cfg(target_os = "linux")]
const OTHER_THREADS: u64 = 2;

/// The code, the libraries, and what the program needs without clients, in bytes.
#[cfg(target_os = "linux")]
const PROGRAM_BYTES: u64 = 24 * 1024 * 1024;

/// The bytes that the program leaves of the limit of address space, or of the limit of data if that is less.
/// Address space counts what is reserved, so the threads count in full; they are not measured, because they
/// may not have begun.
///
/// Source: setrlimit(2).
#[cfg(target_os = "linux")]
fn resource_limits(reactors: usize) -> Option<u64> {
    use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};

    // The first reactor runs on the main thread, which has the heap of the process.
    let threads = reactors as u64 - 1 + OTHER_THREADS;
    let limits = [
        (Resource::RLIMIT_AS, PROGRAM_BYTES + threads * THREAD_BYTES),
        (Resource::RLIMIT_DATA, PROGRAM_BYTES),
    ];
    let left = limits.iter().filter_map(|(resource, used)| {
        let (soft, _) = getrlimit(*resource).ok()?;
        (soft != RLIM_INFINITY).then(|| soft.saturating_sub(*used))
    });
    left.min()
}

#[cfg(not(target_os = "linux"))]
fn resource_limits(_reactors: usize) -> Option<u64> {
    None
}

/// The memory of the machine, in bytes.
#[cfg(target_os = "linux")]
pub fn machine_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(not(target_os = "linux"))]
pub fn machine_bytes() -> Option<u64> {
    None
}

/// The least limit of the cgroups of this process and of those above them, in bytes.
fn cgroup_limit() -> Option<u64> {
    let limits = memory_limits(Path::new("/")).into_iter();
    limits.map(|limit| limit.max).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_is_left_for_everything_else() {
        assert_eq!(three_quarters(400 << 20), 300 << 20);
        assert_eq!(three_quarters(1 << 20), LEAST);
        assert_eq!(three_quarters(u64::MAX), u64::MAX - u64::MAX / 4);
    }
}
