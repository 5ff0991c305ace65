//! Standard error, written by a thread of its own.
//!
//! Standard error may be a pipe whose reader has stopped. A write to a full pipe waits for the reader, and a
//! reactor that logs would wait with it: no client would be served, and no signal would end the program.
//! Here a line goes into a bounded buffer, and the thread writes it. Lines that do not fit are
//! dropped and counted, and so are those that standard error refuses, as a file on a full disk does.
//! The count is written in front of the next line that standard error takes.
//!
//! The program does not make standard error non-blocking: the flag belongs to the open file, which a
//! terminal shares with the shell that started the program. Another program may have made it so.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// The most bytes of lines that wait for the thread.
const WAITING_BYTES_MAX: usize = 256 * 1024;

/// Time before a full non-blocking pipe is tried again: this at first, and twice as much each time
/// up to the longest.
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(128);

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
fn write_lines(shared: &Shared, out: impl Write, dropped_line: impl Fn(u64) -> String) {
    let mut lines = Vec::new();
    let mut output = Output::new(out, dropped_line);
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
        output.write_lines(&lines);
        output.report_dropped(dropped_count);
        lines.clear();
        waiting = shared.lock();
        waiting.is_writing = false;
        shared.changed.notify_all();
    }
}

/// Standard error, with what it has not taken.
struct Output<W, F> {
    out: W,
    dropped_line: F,
    /// How many lines were dropped since the last line that says so.
    dropped_count: u64,
    /// The last line that was written has no end: an error came in the middle of it.
    is_cut: bool,
}

impl<W: Write, F: Fn(u64) -> String> Output<W, F> {
    fn new(out: W, dropped_line: F) -> Output<W, F> {
        Output {
            out,
            dropped_line,
            dropped_count: 0,
            is_cut: false,
        }
    }

    /// Writes whole lines, behind the number of those that were dropped before. After an error the
    /// rest is dropped and counted, because standard error is the only place for it.
    fn write_lines(&mut self, lines: &[u8]) {
        self.report_dropped(0);
        let written_bytes = match self.dropped_count {
            0 => self.write(lines),
            // The number was refused, so the lines would be too.
            _ => 0,
        };
        let unwritten = lines[written_bytes..].iter();
        self.dropped_count += unwritten.filter(|&&byte| byte == b'\n').count() as u64;
    }

    /// Counts lines that were dropped, and writes how many there are now.
    fn report_dropped(&mut self, count: u64) {
        self.dropped_count += count;
        if self.dropped_count != 0 {
            let line = (self.dropped_line)(self.dropped_count);
            if self.write(line.as_bytes()) == line.len() {
                self.dropped_count = 0;
            }
        }
    }

    /// Writes bytes behind the end of the last line, until an error. Returns how many were written.
    fn write(&mut self, bytes: &[u8]) -> usize {
        if self.is_cut && self.write_some(b"\n") == 1 {
            self.is_cut = false;
        }
        if self.is_cut {
            return 0;
        }
        let written_bytes = self.write_some(bytes);
        self.is_cut = bytes[..written_bytes]
            .last()
            .is_some_and(|&byte| byte != b'\n');
        written_bytes
    }

    /// Writes bytes until an error. Returns how many were written.
    ///
    /// A pipe may be non-blocking, since the flag belongs to all who have it open. A full one is
    /// tried again after a pause. Lines that come meanwhile wait in the buffer.
    fn write_some(&mut self, bytes: &[u8]) -> usize {
        let mut written_bytes = 0;
        let mut pause = PAUSE_MIN;
        while written_bytes < bytes.len() {
            match self.out.write(&bytes[written_bytes..]) {
                Ok(0) => break,
                Ok(count) => {
                    written_bytes += count;
                    pause = PAUSE_MIN;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    thread::sleep(pause);
                    pause = (2 * pause).min(PAUSE_MAX);
                }
                Err(_) => break,
            }
        }
        written_bytes
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
        let mut line = [b'x'; 1024];
        line[1023] = b'\n';
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

    /// Each write takes so many bytes at most, or fails.
    struct Scripted {
        steps: std::vec::IntoIter<Result<usize, io::ErrorKind>>,
        written: Sender<Vec<u8>>,
    }

    impl Write for Scripted {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let step = self.steps.next().unwrap_or(Ok(bytes.len()));
            let count = step.map_err(io::Error::from)?.min(bytes.len());
            let _ = self.written.send(bytes[..count].to_vec());
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Writes `batches` of lines, with these outcomes of the writes, and returns the bytes that were taken.
    fn written(steps: Vec<Result<usize, io::ErrorKind>>, batches: &[&str]) -> String {
        let (sender, receiver) = channel();
        let scripted = Scripted {
            steps: steps.into_iter(),
            written: sender,
        };
        let mut output = Output::new(scripted, |count| format!("{count} dropped\n"));
        for batch in batches {
            output.write_lines(batch.as_bytes());
        }
        let bytes: Vec<u8> = receiver.try_iter().flatten().collect();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn lines_that_are_refused_are_counted_and_leave_no_half_line_in_front_of_the_next() {
        let full = || Err(io::ErrorKind::StorageFull);
        let interrupted = Err(io::ErrorKind::Interrupted);
        let cases = [
            (vec![], vec!["a\nb\n", "c\n"], "a\nb\nc\n"),
            (vec![Ok(1), interrupted], vec!["a\nb\n"], "a\nb\n"),
            (vec![full()], vec!["a\nb\n", "c\n"], "2 dropped\nc\n"),
            // The third of four lines is cut.
            (
                vec![Ok(5), full()],
                vec!["a\nb\ncd\ne\n", "f\n"],
                "a\nb\nc\n2 dropped\nf\n",
            ),
            // The end of the cut line, and then the count, are refused too.
            (
                vec![Ok(1), full(), full(), Ok(1), Ok(3), full()],
                vec!["ab\n", "c\n", "d\n", "e\n"],
                "a\n2 d\n3 dropped\ne\n",
            ),
            (vec![Ok(0)], vec!["a\n", "b\n"], "1 dropped\nb\n"),
        ];
        for (steps, batches, expected) in cases {
            let name = format!("{steps:?} {batches:?}");
            assert_eq!(written(steps, &batches), expected, "{name}");
        }
    }

    #[test]
    fn a_full_pipe_that_does_not_block_loses_no_line() {
        let full = Err(io::ErrorKind::WouldBlock);
        let steps = vec![full, full, Ok(3), full, Ok(1), full, full];
        assert_eq!(written(steps, &["first\n", "second\n"]), "first\nsecond\n");
    }
}
