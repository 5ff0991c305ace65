//! Operations on files: how many there may be at a time, and those that wait.
//!
//! A file that is sent in several pieces holds a permit until it is closed, so that slow clients cannot use all
//! descriptors up. A short one needs none: it is closed before its answer begins, and so can be had however many slow
//! clients there are.
//!
//! Each operation holds a piece of a file in memory. So few of them are under way at a time, which also leaves the
//! threads and the places of `Reactor::defer` to the application. Further operations wait in the order in which they
//! came. Each open file has at most one, and no new file is opened while many wait.

use std::collections::VecDeque;
use std::sync::Arc;

use super::log_limit::LogLimit;

/// The most operations that are under way: they wait for a thread, run, or wait for their `done`.
const OPERATIONS_MAX: usize = 32;

/// The right to keep one file open. It ends when it is dropped.
#[derive(Debug)]
pub(crate) struct FilePermit {
    _permits: Arc<()>,
}

/// The operations on files of one reactor. `C` is a call that starts an operation.
pub(super) struct FileWork<C> {
    /// Each permit holds it once more.
    permits: Arc<()>,
    under_way_count: usize,
    waiting: VecDeque<C>,
    has_retry: bool,
    log_limit: LogLimit,
}

impl<C> Default for FileWork<C> {
    fn default() -> Self {
        FileWork {
            permits: Arc::new(()),
            under_way_count: 0,
            waiting: VecDeque::new(),
            has_retry: false,
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

    /// Adds an operation behind those that wait.
    pub(super) fn push(&mut self, start: C) {
        self.waiting.push_back(start);
    }

    /// How many operations wait.
    pub(super) fn waiting_count(&self) -> usize {
        self.waiting.len()
    }

    /// Takes the operation that has waited longest, if there is room for it. It is under way from here on.
    pub(super) fn pop(&mut self) -> Option<C> {
        if OPERATIONS_MAX <= self.under_way_count {
            return None;
        }
        let start = self.waiting.pop_front()?;
        self.under_way_count += 1;
        Some(start)
    }

    /// Notes that an operation has ended.
    pub(super) fn note_end(&mut self) {
        self.under_way_count -= 1;
    }

    /// Whether operations wait, and there is none under way whose end would start them.
    pub(super) fn is_stuck(&self) -> bool {
        self.under_way_count == 0 && !self.waiting.is_empty()
    }

    /// Notes whether a timer will start what waits. Returns whether there was one.
    pub(super) fn set_retry(&mut self, has_retry: bool) -> bool {
        std::mem::replace(&mut self.has_retry, has_retry)
    }

    /// The limit of the lines about files that could not be sent.
    pub(super) fn log_limit(&mut self) -> &mut LogLimit {
        &mut self.log_limit
    }

    /// Takes the operations that wait, to be dropped.
    pub(super) fn take_all(&mut self) -> VecDeque<C> {
        std::mem::take(&mut self.waiting)
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

    #[test]
    fn operations_wait_for_the_end_of_others_in_their_order() {
        let mut work = FileWork::default();
        for n in 0..OPERATIONS_MAX + 2 {
            work.push(n);
        }
        assert!(work.is_stuck());
        for n in 0..OPERATIONS_MAX {
            assert_eq!(work.pop(), Some(n));
        }
        assert_eq!(work.pop(), None);
        assert!(!work.is_stuck());
        work.note_end();
        assert_eq!(work.pop(), Some(OPERATIONS_MAX));
        assert_eq!(work.pop(), None);
        assert_eq!(work.take_all(), [OPERATIONS_MAX + 1]);
    }
}
