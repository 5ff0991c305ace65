//! Standard output, and the log on standard error.

use std::io::{self, Write};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use waterwheel::{Address, Answered, Reactor};

use crate::arguments::Log;
use crate::listen_address::Bound;
use crate::log_line::{LogFormat, access_line};
use crate::log_writer::LogWriter;

/// Writes to standard output. An error is ignored: the reader may have closed the pipe.
pub fn print(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Prints a line for each address, with one write, so that a reader that has the first line can
/// rely on all listeners.
pub fn print_listeners<S: 'static>(reactor: &Reactor<S>, listeners: &[Bound]) {
    let lines = listeners.iter().filter_map(|bound| {
        Some(match reactor.local_addr(*bound.sockets.first()?)? {
            Address::Inet(address) => {
                format!("listening on {}://{address}\n", bound.scheme.as_str())
            }
            address => format!("listening on {address}\n"),
        })
    });
    print(&lines.collect::<String>());
}

/// The log, once it is started.
static LOG: OnceLock<(LogWriter, LogFormat)> = OnceLock::new();

/// How long the end of the program waits for a standard error that takes no bytes.
const END_PATIENCE: Duration = Duration::from_millis(500);

/// Logs to standard error. A standard error that takes no bytes delays no reactor.
///
/// # Errors
///
/// When the thread that writes the log cannot be started.
pub fn start_log(log: Log) -> io::Result<()> {
    let Log { level, format } = log;
    let dropped_line = move |count| {
        let message = format!("{count} log lines were dropped: standard error took no more");
        format.line(SystemTime::now(), log::Level::Warn, &message)
    };
    let writer = LogWriter::start(io::stderr(), dropped_line)?;
    env_logger::Builder::new()
        .filter_level(level)
        .format(move |out, record| {
            let message = record.args().to_string();
            let line = format.line(SystemTime::now(), record.level(), &message);
            out.write_all(line.as_bytes())
        })
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
        let message = format!("thread {name}: {panic}\n{frames}");
        let line = format.line(SystemTime::now(), log::Level::Error, message.trim_end());
        let _ = of_panics.clone().write_all(line.as_bytes());
    }));
    let _ = LOG.set((writer, format));
    Ok(())
}

/// Writes the line of an answer into the log, whatever its level.
pub fn log_access(answered: &Answered<'_>) {
    if let Some((log, format)) = LOG.get() {
        let line = access_line(*format, SystemTime::now(), answered);
        let _ = log.clone().write_all(line.as_bytes());
    }
}

/// Writes a line to standard error, through the log where it was started. It is a log line there
/// only where the log is JSON.
pub fn print_error(line: &str) {
    match LOG.get() {
        Some((log, format)) => {
            let line = match format {
                LogFormat::Text => format!("{line}\n"),
                LogFormat::Json => format.line(SystemTime::now(), log::Level::Error, line),
            };
            let _ = log.clone().write_all(line.as_bytes());
        }
        None => eprintln!("{line}"),
    }
}

/// Waits for the last lines of the log, but not for long: see [`LogWriter::finish`].
pub fn finish_log() {
    if let Some((log, _)) = LOG.get() {
        log.finish(END_PATIENCE);
    }
}
