//! The memory that the cgroups of this process leave to it, in both versions of cgroups.
//!
//! A container or a systemd unit with `MemoryMax` has less memory than the machine. The least of
//! the process's own cgroup and of those above it counts.
//!
//! Source: Linux, Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst.

use std::fs;
use std::path::{Path, PathBuf};

/// Version 1 says "no limit" by a number about as large as the address space.
const UNLIMITED_FROM: u64 = 1 << 60;

/// A limit of memory.
#[derive(Debug, PartialEq, Eq)]
pub struct MemoryLimit {
    /// In bytes.
    pub max: u64,
    /// Bytes of it that are free, or that the kernel can free by dropping cached files.
    pub available: u64,
    /// The file with the limit.
    pub file: PathBuf,
}

/// The files of one version, below the folder of a cgroup.
struct Version {
    /// Where the cgroups are, below the root.
    mount: &'static str,
    max: &'static str,
    used: &'static str,
    /// The line of `memory.stat` with the cached files that are not in use.
    cached: &'static str,
}

const V1: Version = Version {
    mount: "sys/fs/cgroup/memory",
    max: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    cached: "total_inactive_file ",
};

const V2: Version = Version {
    mount: "sys/fs/cgroup",
    max: "memory.max",
    used: "memory.current",
    cached: "inactive_file ",
};

/// The limits of the cgroups of this process and of those above them. Empty where there is no limit, or no
/// cgroup.
///
/// `root` is `/`, and a made-up folder in tests.
pub fn memory_limits(root: &Path) -> Vec<MemoryLimit> {
    let cgroups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let limits = cgroups.lines().flat_map(|line| {
        // `0::/path` in version 2, `4:memory:/path` in version 1.
        let mut parts = line.splitn(3, ':').skip(1);
        let controllers = parts.next().unwrap_or_default();
        let path = parts.next().unwrap_or_default();
        let version = match controllers {
            "" => &V2,
            controllers if controllers.split(',').any(|name| name == "memory") => &V1,
            _ => return Vec::new(),
        };
        version.limits(root, path)
    });
    limits.collect()
}

/// The limit that leaves the least memory.
pub fn tightest_memory_limit(root: &Path) -> Option<MemoryLimit> {
    let limits = memory_limits(root).into_iter();
    limits.min_by_key(|limit| limit.available)
}

impl Version {
    /// The limits of a cgroup and of those above it.
    fn limits(&self, root: &Path, path: &str) -> Vec<MemoryLimit> {
        let mount = root.join(self.mount);
        // In a container the path may be one of the host, which is not there. Its limit then stands
        // in the folder at the top.
        let path = Path::new(path.trim_start_matches('/'));
        let folders = path.ancestors().map(|folder| mount.join(folder));
        folders.filter_map(|folder| self.limit(&folder)).collect()
    }

    fn limit(&self, folder: &Path) -> Option<MemoryLimit> {
        let file = folder.join(self.max);
        // `max` is no number and no limit.
        let max = number(&file).filter(|max| *max < UNLIMITED_FROM)?;
        let used = number(&folder.join(self.used)).unwrap_or(0);
        let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
        let cached = stat
            .lines()
            .find_map(|line| line.strip_prefix(self.cached)?.trim().parse().ok())
            .unwrap_or(0);
        Some(MemoryLimit {
            max,
            available: max.saturating_sub(used.saturating_sub(cached)),
            file,
        })
    }
}

fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The limit on a machine with these files: its bytes, and the bytes that are available.
    fn limit(name: &str, files: &[(&str, &str)]) -> Option<(u64, u64)> {
        let root = format!("waterwheel-cgroup-{}-{name}", std::process::id());
        let root = std::env::temp_dir().join(root);
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let found = tightest_memory_limit(&root);
        let _ = fs::remove_dir_all(&root);
        found.map(|limit| (limit.max, limit.available))
    }

    #[test]
    fn the_least_limit_of_either_version_counts() {
        let v2 = |own: &str, above: &str| {
            [
                (
                    "proc/self/cgroup",
                    "0::/system.slice/hub.service\n".to_owned(),
                ),
                (
                    "sys/fs/cgroup/system.slice/hub.service/memory.max",
                    own.to_owned(),
                ),
                (
                    "sys/fs/cgroup/system.slice/hub.service/memory.current",
                    "100\n".to_owned(),
                ),
                (
                    "sys/fs/cgroup/system.slice/hub.service/memory.stat",
                    "anon 60\ninactive_file 40\n".to_owned(),
                ),
                ("sys/fs/cgroup/system.slice/memory.max", above.to_owned()),
                (
                    "sys/fs/cgroup/system.slice/memory.current",
                    "700\n".to_owned(),
                ),
            ]
        };
        let cases = [
            ("own", v2("1000\n", "max\n"), Some((1000, 940))),
            ("above", v2("1000\n", "1500\n"), Some((1500, 800))),
            ("none", v2("max\n", "max\n"), None),
        ];
        for (name, files, expected) in cases {
            let files = files.each_ref().map(|(path, text)| (*path, text.as_str()));
            assert_eq!(limit(name, &files), expected, "{name}");
        }
        let v1 = |max: &'static str| {
            [
                ("proc/self/cgroup", "5:cpu,memory:/docker/abc\n0::/\n"),
                // The path is one of the host: in the container its folder is the top.
                ("sys/fs/cgroup/memory/memory.limit_in_bytes", max),
                ("sys/fs/cgroup/memory/memory.usage_in_bytes", "90\n"),
                (
                    "sys/fs/cgroup/memory/memory.stat",
                    "total_inactive_file 10\n",
                ),
            ]
        };
        assert_eq!(limit("v1", &v1("256\n")), Some((256, 176)));
        assert_eq!(limit("v1-none", &v1("9223372036854771712\n")), None);
        assert_eq!(limit("nowhere", &[]), None);
    }
}
