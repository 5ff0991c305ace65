//! A logger that keeps its lines, for tests of what the library logs.

use std::sync::Mutex;

/// The lines of all tests of one process. Each test looks for names that no other test uses.
struct Lines(Mutex<Vec<String>>);

static LINES: Lines = Lines(Mutex::new(Vec::new()));

impl log::Log for Lines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = format!("{} {}", record.level(), record.args());
        self.0.lock().unwrap().push(line);
    }

    fn flush(&self) {}
}

/// Keeps the lines from now on.
pub fn capture() {
    // Only the first call of a process installs the logger.
    let _ = log::set_logger(&LINES);
    log::set_max_level(log::LevelFilter::Debug);
}

/// Returns the lines that contain this text, each with its level in front.
pub fn with(text: &str) -> Vec<String> {
    let lines = LINES.0.lock().unwrap();
    let lines = lines.iter().filter(|line| line.contains(text));
    lines.cloned().collect()
}
