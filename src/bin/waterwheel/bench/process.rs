//! Processor time and memory of the server's process, from `/proc`.

use std::io;

/// Clock ticks in a second of `/proc/PID/stat`: 100 on every Linux that this program runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// A process on this machine.
#[derive(Clone, Debug)]
pub struct Process {
    name: String,
}

/// Processor time that a process has used, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProcessorTime {
    pub user_seconds: f64,
    pub system_seconds: f64,
}

impl ProcessorTime {
    pub fn total_seconds(self) -> f64 {
        self.user_seconds + self.system_seconds
    }

    pub fn since(self, earlier: ProcessorTime) -> ProcessorTime {
        ProcessorTime {
            user_seconds: self.user_seconds - earlier.user_seconds,
            system_seconds: self.system_seconds - earlier.system_seconds,
        }
    }
}

impl Process {
    pub fn of_id(id: u32) -> Process {
        Process {
            name: id.to_string(),
        }
    }

    /// This process.
    pub fn own() -> Process {
        Process {
            name: "self".to_owned(),
        }
    }

    /// # Errors
    ///
    /// A sentence, when the process does not exist or has ended, or there is no `/proc`.
    pub fn processor_time(&self) -> Result<ProcessorTime, String> {
        let stat = self.read("stat")?;
        processor_time(&stat).ok_or_else(|| self.fault("its stat file has an unknown format"))
    }

    /// Its resident memory in bytes.
    ///
    /// # Errors
    ///
    /// As [`processor_time`](Self::processor_time).
    pub fn resident_bytes(&self) -> Result<u64, String> {
        let status = self.read("status")?;
        resident_bytes(&status).ok_or_else(|| self.fault("it has no memory any more"))
    }

    fn read(&self, file: &str) -> Result<String, String> {
        let path = format!("/proc/{}/{file}", self.name);
        std::fs::read_to_string(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => self.fault("there is no such process"),
            _ => self.fault(&error.to_string()),
        })
    }

    /// An error text about this process.
    pub fn fault(&self, why: &str) -> String {
        format!("--pid {}: {why}", self.name)
    }
}

fn processor_time(stat: &str) -> Option<ProcessorTime> {
    // The name stands in parentheses and may hold blanks and parentheses itself.
    // Source: proc_pid_stat(5).
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut seconds = || Some(fields.next()?.parse::<f64>().ok()? / TICKS_PER_SECOND);
    Some(ProcessorTime {
        user_seconds: seconds()?,
        system_seconds: seconds()?,
    })
}

// A zombie, which has ended and was not waited for, has no such line.
fn resident_bytes(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_times_are_found_behind_any_process_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 11 0 0 0 150 25 0 0 20 0 1 0 5 6 7";
        let expected = ProcessorTime {
            user_seconds: 1.5,
            system_seconds: 0.25,
        };
        assert_eq!(processor_time(stat), Some(expected));
        assert_eq!(processor_time("7 (a"), None);
    }

    #[test]
    fn memory_is_in_bytes() {
        let status = "Name:\ta\nVmHWM:\t  9 kB\nVmRSS:\t    12 kB\n";
        assert_eq!(resident_bytes(status), Some(12 * 1024));
        assert_eq!(resident_bytes("Name:\ta\nState:\tZ (zombie)\n"), None);
    }

    #[test]
    fn an_ended_process_is_reported() {
        // Above the largest id that Linux gives.
        let error = Process::of_id(4_194_305).resident_bytes().unwrap_err();
        assert_eq!(error, "--pid 4194305: there is no such process");
    }
}
