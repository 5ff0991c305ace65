//! Standard output, and the log on standard error.

use std::io::{self, Write};
use std::sync::OnceLock;
use std::time::Duration;

use waterwheel::{Address, ListenerId, Reactor};

use crate::log_writer::LogWriter;

/// Writes to standard output. An error is ignored: the reader may have closed the pipe.
pub fn print(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Prints a line for each listener, with one write, so that a reader that has the first line can
/// rely on all listeners.
pub fn print_listeners<S: 'static>(reactor: &Reactor<S>, listeners: &[ListenerId]) {
    let lines = listeners
        .iter()
        .filter_map(|listener| match reactor.local_addr(*listener)? {
            Address::Inet(address) => Some(format!("listening on http://{address}\n")),
            address => Some(format!("listening on {address}\n")),
        });
    print(&lines.collect::<String>());
}

/// The log, once it is started.
static LOG: OnceLock<LogWriter> = OnceLock::new();

/// How long the end of the program waits for a standard error that takes no bytes.
const END_PATIENCE: Duration = Duration::from_millis(500);

/// Logs to standard error from this level on. A standard error that takes no bytes delays no reactor.
///
/// # Errors
///
/// When the thread that writes the log cannot be started.
pub fn start_log(level: log::LevelFilter) -> io::Result<()> {
    let writer = LogWriter::start(io::stderr())?;
    env_logger::Builder::new()
        .filter_level(level)
        .format_target(false)
        .target(env_logger::Target::Pipe(Box::new(writer.clone())))
        .init();
    // The standard hook writes to standard error itself, and would wait for it.
    let of_panics = writer.clone();
    std::panic::set_hook(Box::new(move |panic| {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("without a name");
        let backtrace = std::backtrace::Backtrace::capture();
        let frames = match backtrace.status() {
            std::backtrace::BacktraceStatus::Captured => format!("{backtrace}\n"),
            _ => String::new(),
        };
        let _ = of_panics
            .clone()
            .write_all(format!("thread {name}: {panic}\n{frames}").as_bytes());
    }));
    let _ = LOG.set(writer);
    Ok(())
}

/// Writes a line to standard error, through the log where it was started.
pub fn print_error(line: &str) {
    match LOG.get() {
        Some(log) => {
            let _ = log.clone().write_all(format!("{line}\n").as_bytes());
        }
        None => eprintln!("{line}"),
    }
}

/// Waits for the last lines of the log, but not for long: see [`LogWriter::finish`].
pub fn finish_log() {
    if let Some(log) = LOG.get() {
        log.finish(END_PATIENCE);
    }
}
