//! Standard output, and the log on standard error.

use std::io::{self, Write};

use waterwheel::{Address, ListenerId, Reactor};

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

/// Logs to standard error from this level on.
pub fn start_log(level: log::LevelFilter) {
    env_logger::Builder::new()
        .filter_level(level)
        .format_target(false)
        .init();
}
