//! Threads for operations that block, and the `done` of each operation that they have.

use std::any::Any;
use std::collections::VecDeque;
use std::io;

use super::parked::Parked;
use super::pool::{Job, Pool, PoolHandle};

/// Whose operations they are. Each has threads of its own, so that a disk that hangs stops no operation of the
/// application, and an operation of the application no file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// [`Reactor::defer`](super::reactor::Reactor::defer).
    Application,
    /// Answers with files.
    Files,
}

/// The threads of one purpose.
pub(super) struct Workers {
    pool: Pool,
    /// The `done` of each operation that is under way, of a type that only its owner knows.
    dones: Parked<Box<dyn Any>>,
}

impl Workers {
    pub(super) fn new(purpose: Purpose) -> Workers {
        Workers {
            pool: Pool::new(match purpose {
                Purpose::Application => "waterwheel-work",
                Purpose::Files => "waterwheel-file",
            }),
            dones: Parked::default(),
        }
    }

    /// Keeps the `done` of an operation, and returns its number.
    pub(super) fn add_done(&mut self, done: Box<dyn Any>) -> u64 {
        self.dones.add(done)
    }

    /// Takes the `done` with a number. `None` where it was taken before.
    pub(super) fn take_done(&mut self, id: u64) -> Option<Box<dyn Any>> {
        self.dones.take(id)
    }

    /// How many operations are under way.
    pub(super) fn count(&self) -> usize {
        self.dones.count()
    }

    /// Runs a job on a thread, of which there are at most `threads_max`.
    ///
    /// # Errors
    ///
    /// That of the system when there is no thread and none can be started. The job is dropped.
    pub(super) fn put(&mut self, job: Job, threads_max: usize) -> io::Result<()> {
        self.pool.put(job, threads_max)
    }

    /// A handle that puts jobs from any thread.
    pub(super) fn handle(&self) -> PoolHandle {
        self.pool.handle()
    }

    /// Ends the threads, and returns the jobs that none has begun.
    pub(super) fn close(&mut self) -> VecDeque<Job> {
        self.pool.close()
    }

    /// Takes the `done` of all operations, to be dropped.
    pub(super) fn take_dones(&mut self) -> impl Iterator<Item = Box<dyn Any>> + use<> {
        self.dones.take_all()
    }
}
