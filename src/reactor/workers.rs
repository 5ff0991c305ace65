//! Threads for operations that block, and the `done` of each operation that they have.

use std::any::Any;

use super::parked::Parked;
use super::pool::Pool;

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
    pub(super) pool: Pool,
    /// The `done` of each operation that is under way, of a type that only `defer_for` knows.
    pub(super) dones: Parked<Box<dyn Any>>,
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
}
