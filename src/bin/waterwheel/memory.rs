//! How much memory this process may have, and the limit for its clients that follows from it.

#[cfg(target_os = "linux")]
use std::path::Path;

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

/// The lower of what the program leaves of the limits of the address space and of data. The first counts what
/// is reserved, so the threads count in full; they are not measured, because they may not have begun.
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

/// The least limit of the control groups of this process and of those above them, in bytes.
#[cfg(target_os = "linux")]
pub fn cgroup_limit() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    cgroup_limit_below(Path::new("/sys/fs/cgroup"), &groups)
}

#[cfg(not(target_os = "linux"))]
pub fn cgroup_limit() -> Option<u64> {
    None
}

/// As [`cgroup_limit`], for a mount and the text of `/proc/self/cgroup`. Each line is `ID:CONTROLLERS:PATH`;
/// version 2 has no controllers in it. In a container the path may be that of the host, which is not below
/// the mount; the mount itself is the group then.
///
/// Source: cgroups(7).
#[cfg(target_os = "linux")]
fn cgroup_limit_below(mount: &Path, groups: &str) -> Option<u64> {
    let mut least: Option<u64> = None;
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        let (root, file) = match controllers {
            "" => (mount.to_path_buf(), "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                (mount.join("memory"), "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let mut group = root.join(path.trim_start_matches('/'));
        loop {
            // "max" is no number: there is no limit.
            let text = std::fs::read_to_string(group.join(file)).unwrap_or_default();
            if let Ok(bytes) = text.trim().parse() {
                least = Some(least.map_or(bytes, |least| least.min(bytes)));
            }
            if group == root || !group.pop() {
                break;
            }
        }
    }
    least
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

    #[cfg(target_os = "linux")]
    #[test]
    fn the_least_limit_of_the_groups_above_holds() {
        let mount = std::env::temp_dir().join(format!("waterwheel-cgroup-{}", std::process::id()));
        let files = [
            ("memory.max", "max\n"),
            ("a/memory.max", "1000\n"),
            ("a/b/memory.max", "2000\n"),
            ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory/c/memory.limit_in_bytes", "3000\n"),
        ];
        for (file, text) in files {
            let path = mount.join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let cases = [
            ("version 2", "0::/a/b\n", Some(1000)),
            ("version 2, the root", "0::/\n", None),
            ("version 2, a path of the host", "0::/host/x\n", None),
            ("version 1", "4:memory:/c\n1:cpu:/a\n", Some(3000)),
            ("version 1, several", "4:cpu,memory:/c\n", Some(3000)),
            ("both", "4:memory:/c\n0::/a\n", Some(1000)),
            ("without memory", "1:cpu:/a\n", None),
            ("unreadable", "nonsense", None),
        ];
        for (name, groups, expected) in cases {
            assert_eq!(cgroup_limit_below(&mount, groups), expected, "{name}");
        }
        std::fs::remove_dir_all(mount).unwrap();
    }
}
