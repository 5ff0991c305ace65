//! The methods of the reactor for answers with files: which may be opened, and their operations off the loop.

use std::time::Duration;

use super::defer::OperationPanicked;
use super::file_work::FilePermit;
use super::log_limit::Suppressed;
use super::reactor::{Cx, Reactor};

/// The time after which waiting operations are tried again, while the application has used all places up.
const RETRY_DELAY: Duration = Duration::from_millis(20);

/// # For roles
impl<S: 'static> Reactor<S> {
    /// Asks to keep a file open while it is sent. `None` when
    /// [`open_files_max`](crate::Config::open_files_max) are open.
    pub(crate) fn permit_file(&mut self) -> Option<FilePermit> {
        self.files.permit(self.config.open_files_max)
    }

    /// Whether a file can be opened soon: not while the application has used all places for operations up, nor while
    /// as many operations as there are places wait already.
    pub(crate) fn has_place_for_file(&self) -> bool {
        self.has_place_for_deferred() && self.files.waiting_count() < self.config.deferred_max
    }

    /// Asks to write a line about a file that could not be sent, as [`LogLimit`](super::log_limit::LogLimit) does.
    pub(crate) fn allow_file_line(&mut self) -> Option<Suppressed> {
        let now = self.clock_now();
        self.files.log_limit().allow_line(now)
    }

    /// Runs `op` off the loop, and then `done` on it, as [`defer`](Self::defer) does. It waits until there is a place.
    /// While it is under way it counts `held_bytes` as memory.
    pub(crate) fn defer_file_work<T: Send + 'static>(
        &mut self,
        held_bytes: usize,
        op: impl FnOnce() -> T + Send + 'static,
        done: impl FnOnce(&mut Cx<'_, S>, Result<T, OperationPanicked>) + 'static,
    ) {
        self.files.push(Box::new(move |reactor| {
            reactor.table.count_shared(held_bytes);
            let deferred = reactor.defer(op, move |cx, result| {
                cx.reactor.end_file_work(held_bytes);
                done(cx, result);
                cx.reactor.start_file_work();
            });
            // The reactor has ended, or the system gives it no thread: `done` is not called, and the deadline of the
            // answer ends the connection.
            if let Err(error) = deferred {
                log::error!("a file cannot be read: {error}");
                reactor.end_file_work(held_bytes);
            }
        }));
        self.start_file_work();
    }

    fn end_file_work(&mut self, held_bytes: usize) {
        self.files.note_end();
        self.table.forget_shared(held_bytes);
    }

    fn has_place_for_deferred(&self) -> bool {
        self.deferred.count() < self.config.deferred_max
    }

    /// Starts the operations that wait and have a place.
    fn start_file_work(&mut self) {
        while self.has_place_for_deferred() {
            let Some(start) = self.files.pop() else {
                return;
            };
            start(self);
        }
        // Without an operation whose end would start the next one, a timer does.
        if self.files.is_stuck() && !self.files.set_retry(true) {
            self.after(RETRY_DELAY, |cx| {
                cx.reactor.files.set_retry(false);
                cx.reactor.start_file_work();
            });
        }
    }
}
