//! The methods of the reactor for answers with files: which may be opened, and their operations off the loop.

use std::panic::Location;

use super::defer::OperationPanicked;
use super::file_work::{FileCloser, FileOperation, FilePermit};
use super::id::ConnId;
use super::log_limit::Suppressed;
use super::panics::guarded;
use super::reactor::{Cx, Reactor};
use super::workers::Purpose;

/// # For roles
impl<S: 'static> Reactor<S> {
    /// Asks to keep a file open while it is sent. `None` when
    /// [`open_files_max`](crate::Config::open_files_max) are open.
    pub(crate) fn permit_file(&mut self) -> Option<FilePermit> {
        self.files.permit(self.config.open_files_max)
    }

    /// Whether one more file can be opened soon: not while [`open_files_max`](crate::Config::open_files_max) wait
    /// already.
    pub(crate) fn has_place_for_file(&mut self) -> bool {
        let table = &self.table;
        self.files.has_place(self.config.open_files_max, |id| {
            table.connection(id).is_some()
        })
    }

    /// Closes the files of answers.
    pub(crate) fn file_closer(&self) -> FileCloser {
        FileCloser::new(self.file_workers.handle())
    }

    /// Asks to write a line about a file that could not be sent, as [`LogLimit`](super::log_limit::LogLimit) does.
    pub(crate) fn allow_file_line(&mut self) -> Option<Suppressed> {
        let now = self.clock_now();
        self.files.log_limit().allow_line(now)
    }

    /// Runs `op` on the threads for files, and then `done` on the loop, as [`defer`](Self::defer) does. It waits until
    /// there is a place, and is dropped when its connection has gone by then. While it is under way it counts
    /// `held_bytes` as memory.
    #[track_caller]
    pub(crate) fn defer_file_work<T: Send + 'static>(
        &mut self,
        id: ConnId,
        operation: FileOperation,
        held_bytes: usize,
        op: impl FnOnce() -> T + Send + 'static,
        done: impl FnOnce(&mut Cx<'_, S>, Result<T, OperationPanicked>) + 'static,
    ) {
        let queued_at = Location::caller();
        let start = Box::new(move |reactor: &mut Reactor<S>| {
            reactor.table.count_shared(held_bytes);
            let deferred = reactor.defer_for(Purpose::Files, queued_at, op, move |cx, result| {
                cx.reactor.end_file_work(held_bytes);
                cx.reactor.start_file_work();
                let Cx { state, reactor, .. } = cx;
                let called = guarded(|| done(&mut Cx::new(state, reactor), result));
                if let Err(panicked) = called {
                    reactor.note_panic_for(id, "its answer with a file", panicked);
                }
            });
            // The reactor has ended, or the system gives it no thread: `done` is not called, and the deadline of the
            // answer ends the connection.
            if let Err(error) = deferred {
                log::error!("a file cannot be read: {error}");
                reactor.end_file_work(held_bytes);
            }
        });
        self.files.push(operation, id, start);
        self.start_file_work();
    }

    fn end_file_work(&mut self, held_bytes: usize) {
        self.files.note_end();
        self.table.forget_shared(held_bytes);
    }

    /// Starts the operations that wait and have a place.
    fn start_file_work(&mut self) {
        while let Some((id, start)) = self.files.pop() {
            match self.table.connection(id) {
                Some(_) => start(self),
                None => self.files.note_end(),
            }
        }
    }
}
