//! The one handle of the reactor that other threads may hold.

use std::panic::Location;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, sync_channel};
use std::thread::{self, ThreadId};
use std::time::Duration;

use super::mailbox::Mailbox;
use super::outcome::Outcome;
use super::panics::guarded;
use super::reactor::{Arrival, ArrivalKind, Cx, Reactor};

/// Runs closures on the loop from any thread. `Send`, `Sync`, and cheap to clone.
pub struct Remote<S> {
    mailbox: Arc<Mailbox<Arrival<S>>>,
    loop_thread: ThreadId,
}

impl<S> Clone for Remote<S> {
    fn clone(&self) -> Self {
        Remote {
            mailbox: Arc::clone(&self.mailbox),
            loop_thread: self.loop_thread,
        }
    }
}

/// Two handles are equal when they belong to the same reactor.
impl<S> PartialEq for Remote<S> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.mailbox, &other.mailbox)
    }
}

/// The loop of the reactor has ended: it was stopped, has drained, or was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReactorEnded;

impl std::fmt::Display for ReactorEnded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the reactor has ended")
    }
}

impl std::error::Error for ReactorEnded {}

/// The reason for which a [`RemoteCall`] has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallError {
    /// The loop has ended, and the closure was dropped; or the value was taken before.
    ReactorEnded,
    /// The closure panicked, with this message; empty if it has none that is text.
    Panicked(String),
    /// The time is over. The closure is queued or runs, and its value may be waited for again.
    TimedOut,
    /// The closure has not run, and this is the thread of the loop: it would wait for itself.
    OnLoopThread,
}

impl std::fmt::Display for CallError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CallError::ReactorEnded => f.write_str("the reactor has ended"),
            CallError::Panicked(message) => write!(f, "the closure panicked: {message}"),
            CallError::TimedOut => f.write_str("the closure has not run in time"),
            CallError::OnLoopThread => f.write_str("the thread of the loop cannot wait for it"),
        }
    }
}

impl std::error::Error for CallError {}

/// The value of a closure of [`Remote::call`], which this thread may wait for. When this is dropped, the closure runs
/// nevertheless.
#[must_use = "`Remote::run` is for a closure whose value is not needed"]
pub struct RemoteCall<T> {
    answers: Receiver<Result<T, CallError>>,
    loop_thread: ThreadId,
}

impl<T> RemoteCall<T> {
    /// Waits until the closure has run, and returns its value.
    ///
    /// # Errors
    ///
    /// [`CallError`] when the loop has ended before, or the closure panicked. On the thread of the loop itself this does
    /// not wait: [`CallError::OnLoopThread`].
    pub fn wait(self) -> Result<T, CallError> {
        match self.value_now() {
            Err(CallError::TimedOut) => match self.answers.recv() {
                Ok(answer) => answer,
                Err(_) => Err(CallError::ReactorEnded),
            },
            answer => answer,
        }
    }

    /// As [`wait`](Self::wait), for at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait), and [`CallError::TimedOut`], after which one may wait again.
    pub fn wait_timeout(&mut self, timeout: Duration) -> Result<T, CallError> {
        match self.value_now() {
            Err(CallError::TimedOut) => match self.answers.recv_timeout(timeout) {
                Ok(answer) => answer,
                Err(RecvTimeoutError::Timeout) => Err(CallError::TimedOut),
                Err(RecvTimeoutError::Disconnected) => Err(CallError::ReactorEnded),
            },
            answer => answer,
        }
    }

    /// The value if it has come, and otherwise an error: `TimedOut` where it is possible to wait.
    fn value_now(&self) -> Result<T, CallError> {
        match self.answers.try_recv() {
            Ok(answer) => answer,
            Err(TryRecvError::Disconnected) => Err(CallError::ReactorEnded),
            Err(TryRecvError::Empty) if thread::current().id() == self.loop_thread => {
                Err(CallError::OnLoopThread)
            }
            Err(TryRecvError::Empty) => Err(CallError::TimedOut),
        }
    }
}

impl<S: 'static> Remote<S> {
    /// Queues `call` to run on the loop, and wakes the loop if it sleeps. Closures of one thread
    /// run in the order in which that thread queued them.
    ///
    /// Does not wait until it has run. The queue is not bounded: a thread that queues faster than
    /// the loop runs should count the closures that it has under way, and wait.
    ///
    /// # Errors
    ///
    /// [`ReactorEnded`] when the loop has ended; the closure is dropped. A closure that was queued
    /// before the end and has not run is dropped at the end.
    #[track_caller]
    pub fn run<R: Outcome>(
        &self,
        call: impl FnOnce(&mut Cx<'_, S>) -> R + Send + 'static,
    ) -> Result<(), ReactorEnded> {
        let arrival = Arrival {
            queued_at: Location::caller(),
            kind: ArrivalKind::Run,
            call: Box::new(move |cx| {
                let outcome = call(cx);
                cx.reactor.note_outcome(outcome);
            }),
        };
        match self.mailbox.put(arrival) {
            true => Ok(()),
            false => Err(ReactorEnded),
        }
    }

    /// As [`run`](Self::run), and hands the value that `call` returns back to this thread.
    ///
    /// ```
    /// # use std::thread;
    /// # use waterwheel::Reactor;
    /// let mut counter = None;
    /// Reactor::run(7, |reactor| {
    ///     let remote = reactor.remote();
    ///     counter = Some(thread::spawn(move || {
    ///         let count = remote.call(|cx| *cx.state).wait();
    ///         remote.run(|cx| cx.reactor.stop()).unwrap();
    ///         count
    ///     }));
    /// })?;
    /// assert_eq!(counter.unwrap().join().unwrap(), Ok(7));
    /// # std::io::Result::Ok(())
    /// ```
    ///
    /// An error that `call` returns is a value like any other. A panic of `call` is logged and counted, and told to this
    /// thread.
    #[track_caller]
    pub fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&mut Cx<'_, S>) -> T + Send + 'static,
    ) -> RemoteCall<T> {
        let (answer, answers) = sync_channel(1);
        let arrival = Arrival {
            queued_at: Location::caller(),
            kind: ArrivalKind::Call,
            call: Box::new(move |cx| match guarded(|| call(cx)) {
                // A thread that does not wait needs no answer.
                Ok(value) => drop(answer.send(Ok(value))),
                Err(panicked) => {
                    let message = panicked.message().to_owned();
                    drop(answer.send(Err(CallError::Panicked(message))));
                    panicked.resume();
                }
            }),
        };
        // When the reactor has ended, `answer` is dropped, which is the answer.
        self.mailbox.put(arrival);
        RemoteCall {
            answers,
            loop_thread: self.loop_thread,
        }
    }
}

impl<S: 'static> Reactor<S> {
    /// Returns a handle for other threads.
    pub fn remote(&self) -> Remote<S> {
        Remote {
            mailbox: Arc::clone(&self.mailbox),
            // A reactor does not leave its thread.
            loop_thread: thread::current().id(),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::reactor::sim::Sim;

    #[test]
    fn remotes_are_equal_when_they_are_of_one_reactor() {
        let mut sims = [(), ()].map(|()| Sim::new((), |_| {}));
        let [first, second] = sims.each_mut().map(|sim| sim.reactor().remote());
        assert!(first == first.clone());
        assert!(first == sims[0].reactor().remote());
        assert!(first != second);
    }
}
