//! Standard error, written by a thread of its own.
//!
//! Standard error may be a pipe whose reader has stopped. A write to a full pipe waits for the reader, and a
//! reactor that logs would wait with it: no client would be served, and no signal would end the program.
//! Here a line goes into a bounded buffer, and the thread writes it. Lines that do not fit are dropped and
//! counted, and the count is written as soon as standard error takes bytes again.
//!
//! A non-blocking standard error would not do: the flag belongs to the open file, which a terminal shares
//! with the shell that started the program.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// The most bytes of lines that wait for the thread.
const WAITING_BYTES_MAX: usize = 256 * 1024;

/// Lines for standard error. A clone writes to the same buffer.
#[derive(Clone)]
pub struct LogWriter {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    /// Notified when there are lines, and when the thread has written some.
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    lines: Vec<u8>,
    dropped_count: u64,
    is_writing: bool,
}

impl Shared {
    // A panic while the lock is held leaves whole lines in the buffer at worst cut, and the log must go on.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogWriter {
    /// Starts the thread that writes to `out`. `dropped_line` makes the line that says how many lines
    /// were dropped.
    ///
    /// # Errors
    ///
    /// When the system refuses the thread.
    pub fn start(
        out: impl Write + Send + 'static,
        dropped_line: impl Fn(u64) -> String + Send + 'static,
    ) -> io::Result<LogWriter> {
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_lines(&of_thread, out, dropped_line))?;
        Ok(LogWriter { shared })
    }

    /// Waits until every line is written, but at most `patience`: a pipe that is not read must not keep the
    /// program from ending.
    pub fn finish(&self, patience: Duration) {
        let waiting = self.shared.lock();
        let is_unwritten = |waiting: &mut Waiting| {
            waiting.is_writing || !waiting.lines.is_empty() || waiting.dropped_count != 0
        };
        let _ = self
            .shared
            .changed
            .wait_timeout_while(waiting, patience, is_unwritten);
    }
}

/// Takes one whole line with each call, or drops it. Never waits for standard error and never fails.
impl Write for LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut waiting = self.shared.lock();
        if WAITING_BYTES_MAX < waiting.lines.len() + line.len() {
            waiting.dropped_count += 1;
        } else {
            waiting.lines.extend_from_slice(line);
            self.shared.changed.notify_all();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes lines as they come, for as long as the program runs.
fn write_lines(shared: &Shared, mut out: impl Write, dropped_line: impl Fn(u64) -> String) {
    let mut lines = Vec::new();
    let mut waiting = shared.lock();
    loop {
        while waiting.lines.is_empty() && waiting.dropped_count == 0 {
            waiting = shared
                .changed
                .wait(waiting)
                .unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::swap(&mut lines, &mut waiting.lines);
        let dropped_count = std::mem::take(&mut waiting.dropped_count);
        waiting.is_writing = true;
        drop(waiting);
        // An error is ignored: the reader is gone, and there is no other place for the lines.
        let _ = out.write_all(&lines);
        if dropped_count != 0 {
            let _ = out.write_all(dropped_line(dropped_count).as_bytes());
        }
        let _ = out.flush();
        lines.clear();
        waiting = shared.lock();
        waiting.is_writing = false;
        shared.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};

    /// Each write says that it has begun, and then waits until the test allows it.
    struct Slow {
        begun: Sender<Vec<u8>>,
        allowed: Receiver<()>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.begun.send(bytes.to_vec());
            let _ = self.allowed.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_do_not_fit_are_counted_and_the_count_is_written() {
        let (begun, written) = channel();
        let (allow, allowed) = channel();
        let mut log = LogWriter::start(Slow { begun, allowed }, |count| {
            format!("{count} dropped\n")
        })
        .unwrap();
        log.write_all(b"first\n").unwrap();
        assert_eq!(written.recv().unwrap(), b"first\n");
        // The thread is stuck in its write from here on.
        let line = [b'x'; 1024];
        for _ in 0..WAITING_BYTES_MAX / line.len() + 7 {
            log.write_all(&line).unwrap();
        }
        log.finish(Duration::ZERO);
        drop(allow);
        assert_eq!(written.recv().unwrap().len(), WAITING_BYTES_MAX);
        log.finish(Duration::from_secs(60));
        let rest: Vec<u8> = written.try_iter().flatten().collect();
        let rest = String::from_utf8(rest).unwrap();
        assert!(rest.starts_with("7 dropped"), "{rest}");
        assert!(rest.ends_with('\n'), "{rest}");
    }
}
