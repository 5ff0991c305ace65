//! The resources of the process, as Linux counts them in `/proc`. Elsewhere, and where a file cannot be read, a number
//! is left out.
//!
//! Each file is made by the kernel from its own memory, so reading it waits for no disk.
//!
//! Source: proc(5).

use std::fs;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

/// Clock ticks in a second of `/proc/self/stat`: 100 on every Linux that Rust runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// The most open descriptors that are counted one by one, which takes about a millisecond for each 5,000. Linux
/// from 6.2 on tells their count at once.
const COUNTED_DESCRIPTORS_MAX: usize = 10_000;

/// The resources that this process uses now. `None` where the system does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct ProcessUse {
    pub(super) cpu_seconds: Option<f64>,
    pub(super) start_time_seconds: Option<f64>,
    pub(super) resident_bytes: Option<u64>,
    pub(super) virtual_bytes: Option<u64>,
    pub(super) open_fds: Option<u64>,
    pub(super) max_fds: Option<u64>,
}

impl ProcessUse {
    /// Asks the system.
    pub(super) fn read() -> ProcessUse {
        if !cfg!(target_os = "linux") {
            return ProcessUse::default();
        }
        let file = |name: &str| fs::read_to_string(format!("/proc/{name}")).unwrap_or_default();
        let (stat, status) = (file("self/stat"), file("self/status"));
        ProcessUse {
            cpu_seconds: cpu_seconds(&stat),
            start_time_seconds: start_time_seconds(&stat),
            resident_bytes: kilobytes(&status, "VmRSS:"),
            virtual_bytes: kilobytes(&status, "VmSize:"),
            open_fds: open_descriptors(),
            max_fds: max_descriptors(&file("self/limits")),
        }
    }
}

/// A field of `/proc/PID/stat` by its number in proc(5). The name of the program stands in parentheses and may
/// hold anything, so fields are counted from the last one.
fn field(stat: &str, number: usize) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(number - 3)?.parse().ok()
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    Some((field(stat, 14)? + field(stat, 15)?) / TICKS_PER_SECOND)
}

/// Seconds since 1970. Computed once: the two clocks are read one after the other, and the start of a process
/// must not move from one answer to the next.
fn start_time_seconds(stat: &str) -> Option<f64> {
    static START: OnceLock<Option<f64>> = OnceLock::new();
    *START.get_or_init(|| {
        let uptime = fs::read_to_string("/proc/uptime").ok()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
        start_time_at(stat, &uptime, now.as_secs_f64())
    })
}

fn start_time_at(stat: &str, uptime: &str, now: f64) -> Option<f64> {
    let up_seconds: f64 = uptime.split_whitespace().next()?.parse().ok()?;
    let started = field(stat, 22)? / TICKS_PER_SECOND;
    let start = now - up_seconds + started;
    Some((start * 100.0).round() / 100.0)
}

/// A line of `/proc/PID/status` such as `VmRSS:     1234 kB`, in bytes.
fn kilobytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

/// The soft limit in `/proc/PID/limits`. `None` without one.
fn max_descriptors(limits: &str) -> Option<u64> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn open_descriptors() -> Option<u64> {
    let directory = "/proc/self/fd";
    // Linux from 6.2 on tells the count as the size of the directory, and before that zero.
    match fs::metadata(directory).ok()?.len() {
        0 => {
            let count = fs::read_dir(directory).ok()?;
            let count = count.take(COUNTED_DESCRIPTORS_MAX + 1).count();
            // Without the one by which the directory is read.
            (count <= COUNTED_DESCRIPTORS_MAX).then(|| count.saturating_sub(1) as u64)
        }
        count => Some(count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "4711 (water) wheel) S 1 4711 4711 0 -1 4194560 500 0 3 0 \
        250 50 0 0 20 0 3 0 12345 104857600 2560 18446744073709551615 1 1 0 0 0 0 0 4096";

    #[test]
    fn times_of_a_process_whose_name_has_a_parenthesis() {
        assert_eq!(cpu_seconds(STAT), Some(3.0));
        assert_eq!(start_time_at(STAT, "223.45 800.00\n", 1000.0), Some(900.0));
        for broken in ["", "4711 (x", "4711 (x) S 1", "4711 (x) S a b c"] {
            assert_eq!(cpu_seconds(broken), None, "{broken:?}");
            assert_eq!(start_time_at(broken, "1.0 1.0", 1.0), None, "{broken:?}");
        }
        assert_eq!(start_time_at(STAT, "soon", 1.0), None);
    }

    #[test]
    fn lines_of_memory_and_of_limits() {
        let status = "Name:\twaterwheel\nVmSize:\t  102400 kB\nVmRSS:\t    10240 kB\n";
        assert_eq!(kilobytes(status, "VmRSS:"), Some(10_485_760));
        assert_eq!(kilobytes(status, "VmSize:"), Some(104_857_600));
        assert_eq!(kilobytes(status, "VmPeak:"), None);
        assert_eq!(
            kilobytes("VmRSS:\t18446744073709551615 kB\n", "VmRSS:"),
            None
        );
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
            Max open files            1024                 524288               files     \n";
        assert_eq!(max_descriptors(limits), Some(1024));
        let unlimited =
            "Max open files            unlimited            unlimited            files\n";
        assert_eq!(max_descriptors(unlimited), None);
        assert_eq!(max_descriptors(""), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_uses_something() {
        let first = ProcessUse::read();
        assert!(first.cpu_seconds.is_some_and(|seconds| 0.0 <= seconds));
        assert!(first.resident_bytes < first.virtual_bytes);
        assert!(Some(0) < first.open_fds && first.open_fds <= first.max_fds.or(Some(u64::MAX)));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        assert!(Some(now.as_secs_f64() - 86_400.0) < first.start_time_seconds);
        assert!(first.start_time_seconds <= Some(now.as_secs_f64() + 1.0));
        assert_eq!(
            ProcessUse::read().start_time_seconds,
            first.start_time_seconds
        );
    }
}
