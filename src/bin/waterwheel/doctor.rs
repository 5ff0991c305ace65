//! `waterwheel doctor`: compares the limits of this machine with what so many connections need.
//!
//! Reads the limits of the process and the kernel, and changes nothing. Each line is one limit:
//! whether it is enough, its value, what is needed, and the command that makes it so.
//!
//! The arithmetic is for one process that holds all connections as the server, with one small
//! message under way to each, as after a publication to all. Bytes of the kernel were measured on
//! Linux 6.18, x86-64, as the growth of its slabs over 16,000 sockets.

use std::fmt;
use std::path::Path;
use std::process::ExitCode;

use crate::arguments::Doctor;
use crate::cgroup::tightest_memory_limit;
use crate::descriptors::{RESERVED_DESCRIPTORS, raise_descriptor_limit};
use crate::output::print;

/// An idle connection with one subscription, in this process.
const SERVER_BYTES: u64 = 400;

/// A TCP socket with its inode, directory entry, file and place in the poll: 3.9 KB.
const KERNEL_BYTES: u64 = 4096;

/// One small message in a socket's queue: 1,140 bytes, which `tcp_mem` counts as a page.
const MESSAGE_BYTES: u64 = 1280;

/// One entry of the connection tracker.
const CONNTRACK_BYTES: u64 = 320;

/// Pages of `tcp_mem` that a queue in use takes, for each direction.
const QUEUE_PAGES: u64 = 1;

/// The smallest queue that the kernel promises to a socket when memory is short.
const QUEUE_BYTES_MIN: u64 = 4096;

/// Ports that an address has for outgoing connections when the range is as wide as it should be.
const PORTS_MAX: u64 = 65_535 - 1024 + 1;

/// The command that raises the limit of descriptors, for a systemd unit and for a login.
fn cure_of_descriptors(needed: u64) -> String {
    format!(
        "LimitNOFILE={needed} below [Service] in its systemd unit; for logins: \
         printf '* - nofile {needed}\\nroot - nofile {needed}\\n' > /etc/security/limits.d/90-waterwheel.conf"
    )
}

fn sysctl(name: &str, value: impl fmt::Display) -> String {
    format!("sysctl -w {name}=\"{value}\"")
}

/// One limit.
#[derive(Debug)]
struct Finding {
    name: &'static str,
    verdict: Verdict,
    value: String,
    needed: String,
    cure: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Ok,
    Low,
    High,
    /// Not as good as it could be, but no connection fails for it.
    Note,
    /// The file with the value could not be read, as in some containers.
    Unknown,
}

impl Verdict {
    /// Whether the machine cannot hold so many connections because of this limit. A limit that
    /// could not be read is not known to be too low.
    fn is_in_the_way(self) -> bool {
        match self {
            Verdict::Low | Verdict::High => true,
            Verdict::Ok | Verdict::Note | Verdict::Unknown => false,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Low => "low",
            Verdict::High => "high",
            Verdict::Note => "note",
            Verdict::Unknown => "unknown",
        }
    }
}

impl Finding {
    fn new(name: &'static str, is_enough: bool, value: impl fmt::Display) -> Finding {
        Finding {
            name,
            verdict: if is_enough { Verdict::Ok } else { Verdict::Low },
            value: value.to_string(),
            needed: String::new(),
            cure: String::new(),
        }
    }

    fn unknown(name: &'static str, path: &str) -> Finding {
        Finding {
            verdict: Verdict::Unknown,
            ..Finding::new(name, false, format!("{path} cannot be read here"))
        }
    }

    fn needs(self, needed: impl fmt::Display) -> Finding {
        Finding {
            needed: needed.to_string(),
            ..self
        }
    }

    /// A limit that is too low for comfort, but stops no connection.
    fn noted(self) -> Finding {
        let verdict = match self.verdict {
            Verdict::Low => Verdict::Note,
            verdict => verdict,
        };
        Finding { verdict, ..self }
    }

    fn cure(self, cure: String) -> Finding {
        Finding { cure, ..self }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = self.verdict.word();
        write!(f, "{verdict:<7} {:<30} {}", self.name, self.value)?;
        if !self.needed.is_empty() {
            write!(f, "; needed: {}", self.needed)?;
        }
        if self.verdict != Verdict::Ok && !self.cure.is_empty() {
            write!(f, "; {}", self.cure)?;
        }
        Ok(())
    }
}

/// Prints the findings. The exit code is 1 when a limit is not enough, 0 otherwise.
pub fn run(options: &Doctor) -> ExitCode {
    let findings = examine(options.connections);
    let mut text = String::new();
    for finding in &findings {
        text.push_str(&format!("{finding}\n"));
    }
    text.push_str(&format!("\n{}", summary(&findings, options.connections)));
    let has_sysctl =
        |finding: &Finding| finding.verdict != Verdict::Ok && finding.cure.starts_with("sysctl");
    if findings.iter().any(has_sysctl) {
        text.push_str(
            "Values set by sysctl last until the next start. To keep them, put NAME = VALUE into \
             /etc/sysctl.d/90-waterwheel.conf.\n",
        );
    }
    print(&text);
    let is_bad = findings.iter().any(|it| it.verdict.is_in_the_way());
    ExitCode::from(u8::from(is_bad))
}

/// The sentences below the findings.
fn summary(findings: &[Finding], connections: u64) -> String {
    let count_of = |is_it: fn(Verdict) -> bool| {
        let found = findings.iter().filter(|finding| is_it(finding.verdict));
        found.count()
    };
    let total = findings.len();
    let unknown = count_of(|verdict| verdict == Verdict::Unknown);
    let s = if connections == 1 { "" } else { "s" };
    let mut text = match (count_of(Verdict::is_in_the_way), unknown) {
        (0, 0) => format!("All limits are enough for {connections} connection{s}.\n"),
        (0, unknown) if unknown == total => "No limit can be read here.\n".to_owned(),
        (0, _) => format!(
            "The limits that can be read here are enough for {connections} connection{s}.\n"
        ),
        (1, _) => format!("1 of {total} limits is not enough for {connections} connection{s}.\n"),
        (bad, _) => {
            format!("{bad} of {total} limits are not enough for {connections} connection{s}.\n")
        }
    };
    if unknown != 0 {
        let are = if unknown == 1 { "is" } else { "are" };
        text.push_str(&format!(
            "{unknown} of {total} {are} unknown: run this on the host of the container.\n"
        ));
    }
    if count_of(|verdict| verdict == Verdict::Note) != 0 {
        text.push_str(
            "A note is no fault: only the speed of a burst, or another program, depends on it.\n",
        );
    }
    text
}

fn examine(connections: u64) -> Vec<Finding> {
    if cfg!(target_os = "linux") {
        return examine_linux(Path::new("/"), connections);
    }
    print("Only descriptors are checked: the other limits are those of Linux.\n\n");
    let needed = descriptors(connections);
    // The limit after it was raised to the hard limit.
    let limit = raise_descriptor_limit();
    let finding = Finding::new("descriptors", needed <= limit, limit);
    vec![finding.needs(needed).cure(format!("ulimit -n {needed}"))]
}

/// The findings from the files below `root`, which is a made-up folder in tests.
fn examine_linux(root: &Path, connections: u64) -> Vec<Finding> {
    let proc = Proc(root);
    let mut findings = vec![
        proc.soft_limit(connections),
        proc.hard_limit(connections),
        proc.nr_open(connections),
        proc.file_max(connections),
        proc.backlog("net.core.somaxconn", connections),
        proc.backlog("net.ipv4.tcp_max_syn_backlog", connections),
        proc.ports(connections),
        proc.tcp_mem(connections),
        proc.queue_min("net.ipv4.tcp_rmem"),
        proc.queue_min("net.ipv4.tcp_wmem"),
    ];
    findings.push(proc.conntrack(connections));
    findings.push(proc.memory(connections));
    findings
}

/// The files below `/proc`.
struct Proc<'r>(&'r Path);

impl Proc<'_> {
    fn read(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.0.join("proc").join(path)).ok()
    }

    /// The numbers of a sysctl, such as the three of `net.ipv4.tcp_mem`.
    fn numbers<const N: usize>(&self, name: &str) -> Option<[u64; N]> {
        let text = self.read(&format!("sys/{}", name.replace('.', "/")))?;
        let words = text.split_whitespace().map(|word| word.parse().ok());
        words.collect::<Option<Vec<u64>>>()?.try_into().ok()
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.numbers(name).map(|[number]| number)
    }

    /// The soft and the hard limit of descriptors.
    fn limits(&self) -> Option<(u64, u64)> {
        let limits = self.read("self/limits")?;
        let rest = limits
            .lines()
            .find_map(|line| line.strip_prefix("Max open files"))?;
        let mut words = rest.split_whitespace().map(|word| match word {
            "unlimited" => Some(u64::MAX),
            word => word.parse().ok(),
        });
        Some((words.next()??, words.next()??))
    }

    /// Bytes, from a line of /proc/meminfo.
    fn available_bytes(&self) -> Option<u64> {
        let text = self.read("meminfo")?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("MemAvailable:"))?;
        let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
        Some(kibibytes.saturating_mul(1024))
    }

    fn soft_limit(&self, connections: u64) -> Finding {
        const NAME: &str = "descriptors, soft limit";
        let needed = descriptors(connections);
        let Some((soft, hard)) = self.limits() else {
            return Finding::unknown(NAME, "/proc/self/limits");
        };
        // The program raises the soft limit at its start, so only the hard limit can be too low.
        let value = match soft < hard {
            true => format!("{soft}, which the program raises to the hard limit"),
            false => soft.to_string(),
        };
        Finding::new(NAME, needed <= soft.max(hard), value)
            .needs(needed)
            .cure("as the hard limit".to_owned())
    }

    fn hard_limit(&self, connections: u64) -> Finding {
        const NAME: &str = "descriptors, hard limit";
        let needed = descriptors(connections);
        let Some((_, hard)) = self.limits() else {
            return Finding::unknown(NAME, "/proc/self/limits");
        };
        Finding::new(NAME, needed <= hard, hard)
            .needs(needed)
            .cure(cure_of_descriptors(needed))
    }

    fn nr_open(&self, connections: u64) -> Finding {
        // The hard limit of a process cannot be above `fs.nr_open`.
        self.at_least("fs.nr_open", descriptors(connections))
    }

    fn file_max(&self, connections: u64) -> Finding {
        // The limit is for the whole system, so descriptors of other processes are added.
        let in_use = self
            .numbers("fs.file-nr")
            .map_or(0, |[in_use, _, _]: [u64; 3]| in_use);
        let needed = descriptors(connections).saturating_add(in_use);
        self.at_least("fs.file-max", needed)
    }

    fn backlog(&self, name: &'static str, connections: u64) -> Finding {
        // A burst above it connects a little later, because its clients try again after a second.
        let backlog = waterwheel::Config::default().listen_backlog;
        self.at_least(name, connections.min(u64::from(backlog)))
            .noted()
    }

    fn at_least(&self, name: &'static str, needed: u64) -> Finding {
        match self.number(name) {
            Some(value) => Finding::new(name, needed <= value, value)
                .needs(needed)
                .cure(sysctl(name, needed)),
            None => Finding::unknown(name, &format!("/proc/sys/{}", name.replace('.', "/"))),
        }
    }

    fn ports(&self, connections: u64) -> Finding {
        const NAME: &str = "net.ipv4.ip_local_port_range";
        let Some([first, last]) = self.numbers::<2>(NAME) else {
            return Finding::unknown(NAME, "/proc/sys/net/ipv4/ip_local_port_range");
        };
        let ports = last.saturating_add(1).saturating_sub(first).max(1);
        let addresses = connections.div_ceil(ports);
        let value = format!(
            "{first} {last}, so a proxy or load tool on this machine needs {addresses} source {}",
            if addresses == 1 {
                "address"
            } else {
                "addresses"
            },
        );
        let needed = connections.min(PORTS_MAX);
        Finding::new(NAME, needed <= ports, value)
            .needs(format!("{needed} ports"))
            .cure(sysctl(NAME, "1024 65535"))
            // The server itself needs one port.
            .noted()
    }

    fn tcp_mem(&self, connections: u64) -> Finding {
        const NAME: &str = "net.ipv4.tcp_mem";
        let Some([low, pressure, max]) = self.numbers(NAME) else {
            return Finding::unknown(NAME, "/proc/sys/net/ipv4/tcp_mem");
        };
        // Above `pressure` the kernel shrinks the queues of all sockets, above `max` it drops packets.
        let sending = connections.saturating_mul(QUEUE_PAGES);
        let both = sending.saturating_mul(2);
        let is_enough = sending <= pressure && both <= max;
        let cure = format!(
            "{} {} {}",
            low.max(sending / 4 * 3),
            pressure.max(sending),
            max.max(both)
        );
        Finding::new(NAME, is_enough, format!("{low} {pressure} {max} pages"))
            .needs(format!(
                "{sending} as the second with a message to each, {both} as the third with one both ways"
            ))
            .cure(sysctl(NAME, cure))
    }

    fn queue_min(&self, name: &'static str) -> Finding {
        let Some([min, default, max]) = self.numbers(name) else {
            let path = format!("/proc/sys/{}", name.replace('.', "/"));
            return Finding::unknown(name, &path);
        };
        // Only the first value reserves memory; the other two bound a queue.
        let mut finding = Finding::new(name, true, format!("{min} {default} {max}"))
            .needs(format!(
                "at most {QUEUE_BYTES_MIN} as the first, kept for each when memory is short"
            ))
            .cure(sysctl(name, format!("{QUEUE_BYTES_MIN} {default} {max}")));
        if QUEUE_BYTES_MIN < min {
            finding.verdict = Verdict::High;
        }
        finding
    }

    fn conntrack(&self, connections: u64) -> Finding {
        const NAME: &str = "net.netfilter.nf_conntrack_max";
        let Some(max) = self.number(NAME) else {
            // Where nothing can be read, a tracker may be loaded all the same.
            if self.read("sys/net/core/somaxconn").is_none() {
                return Finding::unknown(NAME, "/proc/sys/net");
            }
            return Finding::new(NAME, true, "no connection tracker is loaded");
        };
        let in_use = self.number("net.netfilter.nf_conntrack_count").unwrap_or(0);
        let needed = connections.saturating_add(in_use);
        Finding::new(NAME, needed <= max, max)
            .needs(needed)
            .cure(format!(
                "{} && echo {} > /sys/module/nf_conntrack/parameters/hashsize",
                sysctl(NAME, needed),
                needed.div_ceil(4)
            ))
    }

    fn memory(&self, connections: u64) -> Finding {
        const NAME: &str = "memory available";
        let Some(mut available) = self.available_bytes() else {
            return Finding::unknown(NAME, "/proc/meminfo");
        };
        let mut value = megabytes(available);
        if let Some(limit) = tightest_memory_limit(self.0)
            && limit.available < available
        {
            available = limit.available;
            let (left, max) = (megabytes(available), megabytes(limit.max));
            value = format!("{left}, of the {max} that {} allows", limit.file.display());
        }
        let is_tracked = self.number("net.netfilter.nf_conntrack_max").is_some();
        let tracker = if is_tracked { CONNTRACK_BYTES } else { 0 };
        let each = SERVER_BYTES + KERNEL_BYTES + MESSAGE_BYTES + tracker;
        let needed = connections.saturating_mul(each);
        Finding::new(NAME, needed <= available, value)
            .needs(format!(
                "{}, {each} bytes a connection: {SERVER_BYTES} here, {KERNEL_BYTES} in the kernel, \
                 {MESSAGE_BYTES} for a message under way{}",
                megabytes(needed),
                if is_tracked {
                    ", 320 in the connection tracker"
                } else {
                    ""
                }
            ))
            .cure("more memory, or fewer connections".to_owned())
    }
}

fn descriptors(connections: u64) -> u64 {
    connections.saturating_add(RESERVED_DESCRIPTORS)
}

fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes.div_ceil(1_000_000))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// A root folder with the files that `doctor` reads. It is removed when dropped.
    struct Machine(PathBuf);

    impl Machine {
        /// A machine with enough of everything for a million connections.
        fn large(name: &str) -> Machine {
            let root = format!("waterwheel-doctor-{}-{name}", std::process::id());
            let machine = Machine(std::env::temp_dir().join(root));
            let limits = "Limit           Soft Limit  Hard Limit  Units\n\
                          Max processes   100         200         processes\n\
                          Max open files  1024        1048576     files\n";
            let files = [
                ("self/limits", limits),
                (
                    "meminfo",
                    "MemTotal: 17000000 kB\nMemFree: 1 kB\nMemAvailable:   16000000 kB\n",
                ),
                ("sys/fs/nr_open", "1048576\n"),
                ("sys/fs/file-max", "9223372036854775807\n"),
                ("sys/fs/file-nr", "2175\t0\t9223372036854775807\n"),
                ("sys/net/core/somaxconn", "4096\n"),
                ("sys/net/ipv4/tcp_max_syn_backlog", "4096\n"),
                ("sys/net/ipv4/ip_local_port_range", "1024\t65535\n"),
                ("sys/net/ipv4/tcp_mem", "750000\t1000000\t2000000\n"),
                ("sys/net/ipv4/tcp_rmem", "4096\t131072\t6291456\n"),
                ("sys/net/ipv4/tcp_wmem", "4096\t16384\t4194304\n"),
            ];
            for (path, text) in files {
                machine.set(path, text);
            }
            machine
        }

        fn set(&self, path: &str, text: &str) {
            let path = self.0.join("proc").join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }

        /// The lines that are not ok.
        fn complaints(&self, connections: u64) -> Vec<String> {
            let findings = examine_linux(&self.0, connections);
            assert_eq!(findings.len(), 12);
            findings
                .iter()
                .filter(|finding| finding.verdict != Verdict::Ok)
                .map(Finding::to_string)
                .collect()
        }
    }

    impl Drop for Machine {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_ready_machine_has_no_complaints() {
        let machine = Machine::large("ready");
        assert_eq!(machine.complaints(1_000_000), Vec::<String>::new());
        assert_eq!(machine.complaints(1), Vec::<String>::new());
    }

    #[test]
    fn each_low_limit_is_reported_with_the_need_and_the_command() {
        let cases: &[(&str, &str, &[&str])] = &[
            (
                "sys/fs/nr_open",
                "1000015\n",
                &[
                    "low     fs.nr_open",
                    "1000015; needed: 1000016",
                    "sysctl -w fs.nr_open=\"1000016\"",
                ],
            ),
            (
                "sys/fs/file-max",
                "1000016\n",
                &[
                    "low     fs.file-max",
                    "needed: 1002191",
                    "sysctl -w fs.file-max=\"1002191\"",
                ],
            ),
            (
                "sys/net/core/somaxconn",
                "128\n",
                &[
                    "note    net.core.somaxconn",
                    "128; needed: 4096",
                    "sysctl -w net.core.somaxconn=\"4096\"",
                ],
            ),
            (
                "sys/net/ipv4/tcp_max_syn_backlog",
                "512\n",
                &[
                    "note    net.ipv4.tcp_max_syn_backlog",
                    "sysctl -w net.ipv4.tcp_max_syn_backlog=\"4096\"",
                ],
            ),
            (
                "sys/net/ipv4/ip_local_port_range",
                "32768\t60999\n",
                &[
                    "note    net.ipv4.ip_local_port_range",
                    "36 source addresses",
                    "64512 ports",
                    "=\"1024 65535\"",
                ],
            ),
            (
                "sys/net/ipv4/tcp_mem",
                "287898\t383867\t2575796\n",
                &[
                    "low     net.ipv4.tcp_mem",
                    "sysctl -w net.ipv4.tcp_mem=\"750000 1000000 2575796\"",
                ],
            ),
            (
                "sys/net/ipv4/tcp_rmem",
                "16384\t131072\t6291456\n",
                &[
                    "high    net.ipv4.tcp_rmem",
                    "at most 4096",
                    "=\"4096 131072 6291456\"",
                ],
            ),
            (
                "sys/net/ipv4/tcp_wmem",
                "8192\t16384\t4194304\n",
                &["high    net.ipv4.tcp_wmem", "=\"4096 16384 4194304\""],
            ),
            (
                "sys/net/netfilter/nf_conntrack_max",
                "262144\n",
                &[
                    "low     net.netfilter.nf_conntrack_max",
                    "262144; needed: 1000000",
                    "echo 250000 > /sys/module/nf_conntrack/parameters/hashsize",
                ],
            ),
            (
                "meminfo",
                "MemAvailable: 5000000 kB\n",
                &["low     memory available", "5120 MB; needed: 5776 MB"],
            ),
            ("meminfo", "MemTotal: 5 kB\n", &["unknown memory available"]),
            ("sys/net/ipv4/tcp_mem", "", &["unknown net.ipv4.tcp_mem"]),
        ];
        for (index, (path, text, parts)) in cases.iter().enumerate() {
            let machine = Machine::large(&format!("low-{index}"));
            machine.set(path, text);
            let complaints = machine.complaints(1_000_000);
            assert_eq!(complaints.len(), 1, "{path}: {complaints:?}");
            for part in *parts {
                assert!(complaints[0].contains(part), "{path}: {complaints:?}");
            }
        }
    }

    #[test]
    fn a_low_hard_limit_has_a_command_and_a_low_soft_limit_is_raised() {
        let machine = Machine::large("limits");
        machine.set("self/limits", "Max open files  1024  20000  files\n");
        let complaints = machine.complaints(1_000_000);
        assert_eq!(complaints.len(), 2, "{complaints:?}");
        for part in ["20000; needed: 1000016", "LimitNOFILE=1000016", "limits.d"] {
            assert!(complaints[1].contains(part), "{complaints:?}");
        }
        assert_eq!(machine.complaints(19_984), Vec::<String>::new());
        assert_eq!(machine.complaints(19_985).len(), 2);
        machine.set("self/limits", "Max open files  1024  unlimited  files\n");
        assert_eq!(machine.complaints(1_000_000), Vec::<String>::new());
    }

    #[test]
    fn tracked_connections_are_added_to_the_need() {
        let machine = Machine::large("conntrack");
        machine.set("sys/net/netfilter/nf_conntrack_max", "1000100\n");
        machine.set("sys/net/netfilter/nf_conntrack_count", "100\n");
        assert_eq!(machine.complaints(1_000_000), Vec::<String>::new());
        machine.set("sys/net/netfilter/nf_conntrack_count", "101\n");
        assert_eq!(machine.complaints(1_000_000).len(), 1);
        machine.set("meminfo", "MemAvailable: 5700000 kB\n");
        let complaints = machine.complaints(1_000_000);
        assert!(
            complaints[1].contains("6096 MB, 6096 bytes a connection"),
            "{complaints:?}"
        );
    }

    #[test]
    fn unreadable_limits_are_not_reported_as_fine() {
        let machine = Machine(std::env::temp_dir().join("waterwheel-doctor-nowhere"));
        let complaints = machine.complaints(1);
        assert_eq!(complaints.len(), 12, "{complaints:?}");
        assert!(complaints.iter().all(|line| line.starts_with("unknown ")));
    }

    // Each limit that was unknown once counted as one that stands in the way.
    #[test]
    fn the_summary_counts_what_is_too_low_and_what_is_unknown() {
        let nowhere = Path::new("/nowhere-at-all");
        assert_eq!(
            summary(&examine_linux(nowhere, 5), 5),
            "No limit can be read here.\n12 of 12 are unknown: run this on the host of the container.\n"
        );
        let machine = Machine::large("summary");
        let of = |machine: &Machine| summary(&examine_linux(&machine.0, 1_000_000), 1_000_000);
        assert_eq!(
            of(&machine),
            "All limits are enough for 1000000 connections.\n"
        );
        machine.set("sys/net/ipv4/tcp_mem", "");
        let text = of(&machine);
        assert!(
            text.starts_with("The limits that can be read here are enough"),
            "{text}"
        );
        assert!(text.contains("\n1 of 12 is unknown"), "{text}");
        machine.set("sys/fs/nr_open", "1\n");
        let text = of(&machine);
        assert!(text.starts_with("1 of 12 limits is not enough"), "{text}");
    }

    // A gate in CI or before the start of a unit failed on every machine that was not tuned.
    #[test]
    fn a_stock_machine_is_enough_for_ten_thousand_connections() {
        let machine = Machine::large("stock");
        for (path, text) in [
            ("self/limits", "Max open files  1024  524288  files\n"),
            ("meminfo", "MemAvailable: 1500000 kB\n"),
            ("sys/net/ipv4/tcp_max_syn_backlog", "512\n"),
            ("sys/net/ipv4/ip_local_port_range", "32768\t60999\n"),
            ("sys/net/ipv4/tcp_mem", "22374\t29834\t44748\n"),
            ("sys/net/netfilter/nf_conntrack_max", "65536\n"),
        ] {
            machine.set(path, text);
        }
        let findings = examine_linux(&machine.0, 10_000);
        let bad: Vec<_> = findings
            .iter()
            .filter(|it| it.verdict.is_in_the_way())
            .collect();
        assert!(bad.is_empty(), "{bad:?}");
        assert_eq!(machine.complaints(10_000).len(), 1, "the backlog is noted");
    }

    #[test]
    fn a_cgroup_may_leave_less_memory_than_the_machine() {
        let machine = Machine::large("cgroup");
        machine.set("self/cgroup", "0::/hub\n");
        let folder = machine.0.join("sys/fs/cgroup/hub");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("memory.max"), "256000000\n").unwrap();
        std::fs::write(folder.join("memory.current"), "6000000\n").unwrap();
        let complaints = machine.complaints(1_000_000);
        assert_eq!(complaints.len(), 1, "{complaints:?}");
        assert!(
            complaints[0].contains("250 MB, of the 256 MB that "),
            "{complaints:?}"
        );
        assert_eq!(machine.complaints(10_000), Vec::<String>::new());
    }

    #[test]
    fn the_largest_number_of_connections_does_not_overflow() {
        let machine = Machine::large("overflow");
        let complaints = machine.complaints(u64::MAX);
        let names = [
            "hard limit",
            "fs.nr_open",
            "fs.file-max",
            "tcp_mem",
            "memory available",
        ];
        for name in names {
            assert!(complaints.iter().any(|line| line.contains(name)), "{name}");
        }
    }
}
