//! Operations on files: how many there may be at a time, and those that wait.
//!
//! A file that is sent in several pieces holds a permit until it is closed, so that slow clients cannot use all
//! descriptors up. A short one needs none: it is closed before its answer begins, and so can be had however many slow
//! clients there are.
//!
//! Each operation holds a piece of a file in memory, so few of them are under way at a time. Further ones wait: the
//! pieces of files that are being sent, of which each has at most one, and the files that are to be opened. Pieces go
//! first, but many fast clients must not keep others from their first piece, so one file is opened after a few of them.
//! An operation whose client has gone is not begun.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::Arc;

use super::id::ConnId;
use super::log_limit::LogLimit;
use super::pool::PoolHandle;

/// The most operations that are under way: they wait for a thread, run, or wait for their `done`. More than there are
/// threads, so that a thread that is done has the next one.
const OPERATIONS_MAX: usize = 16;

/// The most pieces that are read one after the other while a file waits to be opened.
const READS_IN_ROW_MAX: u8 = 3;

/// An operation on the file of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileOperation {
    /// Opens a file, and reads its first piece.
    Open,
    /// Reads the next piece of a file that is being sent.
    Read,
}

/// The right to keep one file open. It ends when it is dropped.
pub(crate) struct FilePermit {
    _permits: Arc<()>,
}

/// Closes files off the loop: that of a removed file frees its blocks, which may take long.
#[derive(Clone, Default)]
pub(crate) struct FileCloser(PoolHandle);

impl FileCloser {
    pub(super) fn new(threads: PoolHandle) -> FileCloser {
        FileCloser(threads)
    }

    /// Closes a file, and then ends its permit.
    pub(crate) fn close(&self, file: File, permit: Option<FilePermit>) {
        self.0.put_or_run(Box::new(move || drop((file, permit))));
    }
}

/// An operation that waits, and the connection that it is for.
struct WaitingOperation<C> {
    id: ConnId,
    start: C,
}

/// The operations on files of one reactor. `C` is a call that starts an operation.
pub(super) struct FileWork<C> {
    /// Each permit holds it once more.
    permits: Arc<()>,
    under_way_count: usize,
    reads: VecDeque<WaitingOperation<C>>,
    opens: VecDeque<WaitingOperation<C>>,
    /// Pieces that were taken since the last file was opened.
    reads_in_row: u8,
    log_limit: LogLimit,
}

impl<C> Default for FileWork<C> {
    fn default() -> Self {
        FileWork {
            permits: Arc::new(()),
            under_way_count: 0,
            reads: VecDeque::new(),
            opens: VecDeque::new(),
            reads_in_row: 0,
            log_limit: LogLimit::default(),
        }
    }
}

impl<C> FileWork<C> {
    /// Asks to keep one more file open. `None` when `files_max` are kept open.
    pub(super) fn permit(&self, files_max: usize) -> Option<FilePermit> {
        let open_count = Arc::strong_count(&self.permits) - 1;
        (open_count < files_max).then(|| FilePermit {
            _permits: Arc::clone(&self.permits),
        })
    }

    /// Adds an operation for a connection behind those of its kind that wait.
    pub(super) fn push(&mut self, operation: FileOperation, id: ConnId, start: C) {
        let queue = match operation {
            FileOperation::Open => &mut self.opens,
            FileOperation::Read => &mut self.reads,
        };
        queue.push_back(WaitingOperation { id, start });
    }

    /// Whether one more file can wait until it is opened: fewer than `waiting_max` do, not counting those whose
    /// connections have gone, which are dropped when they would be too many.
    pub(super) fn has_place(
        &mut self,
        waiting_max: usize,
        mut is_open: impl FnMut(ConnId) -> bool,
    ) -> bool {
        if waiting_max <= self.opens.len() {
            self.opens.retain(|waiting| is_open(waiting.id));
        }
        self.opens.len() < waiting_max
    }

    /// Takes the operation that is next, if there is room for it: of its kind the one that has waited longest. It is
    /// under way from here on.
    pub(super) fn pop(&mut self) -> Option<(ConnId, C)> {
        if OPERATIONS_MAX <= self.under_way_count {
            return None;
        }
        let is_turn_of_open = self.reads_in_row == READS_IN_ROW_MAX && !self.opens.is_empty();
        let read = match is_turn_of_open {
            false => self.reads.pop_front(),
            true => None,
        };
        let next = match read {
            Some(read) => {
                self.reads_in_row = READS_IN_ROW_MAX.min(self.reads_in_row + 1);
                read
            }
            None => {
                self.reads_in_row = 0;
                self.opens.pop_front()?
            }
        };
        self.under_way_count += 1;
        Some((next.id, next.start))
    }

    /// Notes that an operation has ended.
    pub(super) fn note_end(&mut self) {
        self.under_way_count -= 1;
    }

    /// The limit of the lines about files that could not be sent.
    pub(super) fn log_limit(&mut self) -> &mut LogLimit {
        &mut self.log_limit
    }

    /// Takes the operations that wait, to be dropped.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = C> + use<C> {
        let reads = std::mem::take(&mut self.reads).into_iter();
        let opens = std::mem::take(&mut self.opens).into_iter();
        reads.chain(opens).map(|waiting| waiting.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_are_given_back_by_their_drop() {
        let work = FileWork::<()>::default();
        let permits = [work.permit(2), work.permit(2)].map(Option::unwrap);
        assert!(work.permit(2).is_none());
        drop(permits);
        assert!(work.permit(2).is_some());
    }

    fn id(index: u32) -> ConnId {
        ConnId {
            index,
            generation: 1,
        }
    }

    #[test]
    fn operations_wait_for_the_end_of_others_in_their_order() {
        let mut work = FileWork::default();
        for n in 0..OPERATIONS_MAX + 2 {
            work.push(FileOperation::Open, id(1), n);
        }
        for n in 0..OPERATIONS_MAX {
            assert_eq!(work.pop(), Some((id(1), n)));
        }
        assert_eq!(work.pop(), None);
        work.note_end();
        // A file that is being sent goes first.
        work.push(FileOperation::Read, id(2), 100);
        assert_eq!(work.pop(), Some((id(2), 100)));
        work.note_end();
        assert_eq!(work.pop(), Some((id(1), OPERATIONS_MAX)));
        assert_eq!(work.pop(), None);
        assert_eq!(work.take_all().collect::<Vec<_>>(), [OPERATIONS_MAX + 1]);
    }

    #[test]
    fn clients_that_always_want_a_piece_keep_no_file_from_being_opened() {
        let mut work = FileWork::default();
        for n in 0..4 {
            work.push(FileOperation::Read, id(1), "read");
            work.push(FileOperation::Open, id(n + 2), "open");
        }
        let mut order = Vec::new();
        for _ in 0..12 {
            let (_, operation) = work.pop().unwrap();
            work.note_end();
            order.push(operation);
            if operation == "read" {
                work.push(FileOperation::Read, id(1), "read");
            }
        }
        let expected = ["read", "read", "read", "open"];
        assert_eq!(order, expected.repeat(3));
    }

    #[test]
    fn the_files_of_connections_that_have_gone_take_no_place() {
        let mut work = FileWork::default();
        for n in 0..4 {
            work.push(FileOperation::Open, id(n), n);
        }
        assert!(work.has_place(5, |_| false));
        assert_eq!(work.opens.len(), 4, "there is no need to look");
        assert!(!work.has_place(4, |_| true));
        assert!(work.has_place(4, |it| it != id(2)));
        let left: Vec<_> = work.take_all().collect();
        assert_eq!(left, [0, 1, 3]);
    }
}
