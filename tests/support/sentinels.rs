//! A master, a replica and three sentinels of the test's own.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::redis_server::{RedisServer, command_to, free_port, start, until};

/// The name by which the sentinels know the master.
pub const NAME: &str = "mymaster";

/// Running servers and sentinels. Dropping them kills them and removes their files.
pub struct Sentinels {
    pub servers: [RedisServer; 2],
    sentinels: Vec<(Child, u16)>,
    folder: PathBuf,
}

/// Starts them and waits until all sentinels know each other and the replica, or prints that the test is skipped; in CI
/// the test fails instead.
pub fn start_all() -> Option<Sentinels> {
    // A replica must not wait five seconds for others before its copy is sent.
    let options = ["--repl-diskless-sync-delay", "0"];
    let servers = [start(&options)?, start(&options)?];
    let master_port = servers[0].port.to_string();
    servers[1].command(&["REPLICAOF", "127.0.0.1", &master_port]);
    until(|| servers[1].command(&["ROLE"]).contains(" connected "));
    let folder = std::env::temp_dir().join(format!("waterwheel-sentinels-{master_port}"));
    std::fs::create_dir_all(&folder).unwrap();
    let mut all = Sentinels {
        servers,
        sentinels: Vec::new(),
        folder,
    };
    for index in 0..3 {
        until(|| all.try_run_sentinel(index));
    }
    for (_, port) in &all.sentinels {
        let has = |field: &str, value: &str| {
            let answer = command_to(*port, &["SENTINEL", "MASTER", NAME]).unwrap_or_default();
            answer.contains(&format!(" {field} {value} "))
        };
        until(|| has("num-other-sentinels", "2") && has("num-slaves", "1"));
    }
    Some(all)
}

impl Sentinels {
    /// Runs a sentinel, and returns whether it answers. If not, another process has taken its port.
    fn try_run_sentinel(&mut self, index: usize) -> bool {
        let port = free_port();
        let path = self.folder.join(format!("{index}.conf"));
        let master_port = self.servers[0].port;
        let text = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\n\
             sentinel monitor {NAME} 127.0.0.1 {master_port} 2\n\
             sentinel down-after-milliseconds {NAME} 1000\n\
             sentinel failover-timeout {NAME} 5000\n",
            self.folder.display()
        );
        std::fs::write(&path, text).unwrap();
        let mut child = Command::new("redis-server")
            .arg(&path)
            .arg("--sentinel")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut has_ended = false;
        until(|| {
            has_ended = child.try_wait().unwrap().is_some();
            has_ended || command_to(port, &["PING"]).is_some()
        });
        if !has_ended {
            self.sentinels.push((child, port));
        }
        !has_ended
    }

    pub fn url(&self) -> String {
        let addresses: Vec<_> = (self.sentinels.iter())
            .map(|(_, port)| format!("127.0.0.1:{port}"))
            .collect();
        format!("redis+sentinel://{}/{NAME}", addresses.join(","))
    }

    /// The role of a server, with its details. Empty where the connection was ended: sentinels end all connections of a
    /// server whose role they change.
    pub fn role(&self, index: usize) -> String {
        let answer = self.servers[index].try_command(&["ROLE"]);
        answer.unwrap_or_default()
    }

    /// Kills a sentinel.
    pub fn kill(&mut self, index: usize) {
        let (child, _) = &mut self.sentinels[index];
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Sends a command to a sentinel.
    pub fn command(&self, index: usize, words: &[&str]) -> String {
        command_to(self.sentinels[index].1, words).expect("an answer of a sentinel")
    }
}

impl Drop for Sentinels {
    fn drop(&mut self) {
        for (child, _) in &mut self.sentinels {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
