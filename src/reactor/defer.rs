//! Work off the loop: operations that block run on other threads, and their results come home.
//!
//! An operation has two parts. `op` goes to a thread of the [`Pool`](super::pool::Pool). `done` may hold anything of the
//! loop, so it cannot leave the reactor: it is parked there, and the thread knows it by a number. The result comes
//! through the mailbox as a closure of another thread does, behind the closures that the operation itself has queued,
//! so that many results need one wake-up, and a turn takes as many as it takes of those.
//!
//! In a simulation there are no threads. The operation is put into the mailbox itself, and runs in the next turn in
//! front of its `done`.

use std::any::Any;
use std::fmt;
use std::io;
use std::panic::Location;
use std::sync::Arc;

use super::outcome::Outcome;
use super::panics::{Panicked, guarded};
use super::reactor::{Arrival, ArrivalKind, Cx, Reactor};
use super::workers::{Purpose, Workers};

/// The most threads that read files. More would not make one disk faster.
const FILE_THREADS_MAX: usize = 4;

/// The operation of [`Reactor::defer`] panicked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OperationPanicked {
    /// The message of the panic; empty if it has none that is text.
    pub message: String,
}

impl fmt::Display for OperationPanicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the operation panicked: {}", self.message)
    }
}

impl std::error::Error for OperationPanicked {}

/// The reason for which [`Reactor::defer`] has not taken an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeferError {
    /// As many operations as [`deferred_max`](crate::Config::deferred_max) allows are under way.
    TooMany,
    /// The reactor was stopped, or has ended.
    ReactorEnded,
    /// The system gives the process no thread, and the reactor has none yet.
    NoThread(io::ErrorKind),
}

impl fmt::Display for DeferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeferError::TooMany => f.write_str("too many deferred operations are under way"),
            DeferError::ReactorEnded => f.write_str("the reactor has ended"),
            DeferError::NoThread(kind) => write!(f, "no thread for deferred operations: {kind}"),
        }
    }
}

impl std::error::Error for DeferError {}

/// # Work off the loop
impl<S: 'static> Reactor<S> {
    /// Runs `op` on another thread, and then `done` on the loop with the value that it returned: for what blocks, such
    /// as files, databases and long computations.
    ///
    /// ```no_run
    /// # use waterwheel::Reactor;
    /// # fn setup(reactor: &mut Reactor<()>) -> std::io::Result<waterwheel::ListenerId> {
    /// reactor.http("0.0.0.0:8080", |http| {
    ///     http.get("/hosts", |request| {
    ///         let responder = request.reply_later();
    ///         let read = || std::fs::read_to_string("/etc/hosts");
    ///         request.reactor.defer(read, move |cx, text| {
    ///             let text = text.map_err(|panicked| panicked.to_string());
    ///             cx.reactor.reply(responder, format!("{text:?}"))
    ///         })
    ///     });
    /// })
    /// # }
    /// ```
    ///
    /// Operations begin in the order in which they were deferred, on at most
    /// [`defer_threads_max`](crate::Config::defer_threads_max) threads, and end in any order. The threads are started when
    /// they are needed, and end with the reactor. A panic of `op` is logged and counted, and `done` gets its message.
    /// Closures that `op` queues with a [`Remote`](crate::Remote) run before `done`.
    ///
    /// At the end of the loop, by [`stop`](Self::stop), a [`drain`](Self::drain) or a drop, operations that have not begun
    /// are dropped. Those that run go on in their threads, without the end waiting for them, and their values are
    /// dropped. In both cases `done` is dropped and not called. A drain waits for connections, such as those whose
    /// request waits for an answer, and not for operations.
    ///
    /// In a [`Sim`](crate::Sim) operations run in the next turn on the thread of the test, each in front of its `done`, in
    /// the order in which they were deferred; a panic of `op` fails the test as one of a callback does.
    ///
    /// # Errors
    ///
    /// [`DeferError`] when [`deferred_max`](crate::Config::deferred_max) operations are under way, when the reactor was
    /// stopped, or when there is no thread. `op` and `done` are dropped.
    #[track_caller]
    pub fn defer<T: Send + 'static, R: Outcome>(
        &mut self,
        op: impl FnOnce() -> T + Send + 'static,
        done: impl FnOnce(&mut Cx<'_, S>, Result<T, OperationPanicked>) -> R + 'static,
    ) -> Result<(), DeferError> {
        if !self.is_stopped && self.config.deferred_max <= self.workers.count() {
            self.table.stats_mut().deferred_refusals += 1;
            return Err(DeferError::TooMany);
        }
        self.defer_for(Purpose::Application, Location::caller(), op, done)?;
        self.table.stats_mut().deferred += 1;
        Ok(())
    }

    /// Runs an operation on the threads of a purpose, whose owner bounds how many there are.
    pub(super) fn defer_for<T, R, D>(
        &mut self,
        purpose: Purpose,
        queued_at: &'static Location<'static>,
        op: impl FnOnce() -> T + Send + 'static,
        done: D,
    ) -> Result<(), DeferError>
    where
        T: Send + 'static,
        R: Outcome,
        D: FnOnce(&mut Cx<'_, S>, Result<T, OperationPanicked>) -> R + 'static,
    {
        if self.is_stopped {
            return Err(DeferError::ReactorEnded);
        }
        let id = self.workers_mut(purpose).add_done(Box::new(done));
        let arrival = move |call: Box<dyn FnOnce(&mut Cx<'_, S>) + Send>| Arrival {
            queued_at,
            kind: ArrivalKind::Deferred,
            call,
        };
        if self.is_simulated() {
            self.mailbox.put(arrival(Box::new(move |cx| {
                call_done::<S, T, R, D>(cx, (purpose, id), queued_at, guarded(op));
            })));
        } else {
            let mailbox = Arc::clone(&self.mailbox);
            let job = Box::new(move || {
                let result = guarded(op);
                mailbox.put(arrival(Box::new(move |cx| {
                    call_done::<S, T, R, D>(cx, (purpose, id), queued_at, result);
                })));
            });
            let threads_max = match purpose {
                Purpose::Application => self.config.defer_threads_max,
                Purpose::Files => FILE_THREADS_MAX,
            };
            let workers = self.workers_mut(purpose);
            if let Err(error) = workers.put(job, threads_max) {
                drop(workers.take_done(id));
                return Err(DeferError::NoThread(error.kind()));
            }
        }
        Ok(())
    }

    fn workers_mut(&mut self, purpose: Purpose) -> &mut Workers {
        match purpose {
            Purpose::Application => &mut self.workers,
            Purpose::Files => &mut self.file_workers,
        }
    }

    fn note_operation_panic(
        &mut self,
        queued_at: &'static Location<'static>,
        panicked: Panicked,
    ) -> OperationPanicked {
        let message = panicked.message().to_owned();
        log::error!("the operation deferred at {queued_at} panicked: {message}");
        self.table.stats_mut().panics += 1;
        self.panics.note(panicked);
        OperationPanicked { message }
    }
}

/// Calls the parked `done` of an operation, whose type the caller knows.
fn call_done<S, T, R, D>(
    cx: &mut Cx<'_, S>,
    (purpose, id): (Purpose, u64),
    queued_at: &'static Location<'static>,
    result: Result<T, Panicked>,
) where
    S: 'static,
    R: Outcome,
    D: FnOnce(&mut Cx<'_, S>, Result<T, OperationPanicked>) -> R + 'static,
{
    let done: Option<Box<dyn Any>> = cx.reactor.workers_mut(purpose).take_done(id);
    let done = done
        .and_then(|done| done.downcast::<D>().ok())
        .expect("`defer_for` has parked this `done` under the number of its operation");
    let result = result.map_err(|panicked| cx.reactor.note_operation_panic(queued_at, panicked));
    let outcome = done(cx, result);
    cx.reactor.note_outcome(outcome);
}
