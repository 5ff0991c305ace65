//! Panics of the application: the one place where they are caught.
//!
//! A panic in one callback ends the connection that it was about and no other: thousands of clients
//! should not lose their connections by one client's message. That needs `panic = "unwind"`.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// The guarded code has panicked, with this payload. The payload is a value of the application, so
/// it goes to [`Panics::note`] or [`forget`](Self::forget) and is not dropped without a guard.
#[must_use]
pub(crate) struct Panicked(Box<dyn Any + Send>);

impl Panicked {
    /// The message of the panic; empty if its payload is not text.
    pub(crate) fn message(&self) -> &str {
        let payload = &*self.0;
        let text = payload.downcast_ref::<&str>().copied();
        text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or_default()
    }

    /// Panics again with the same payload, without another call of the panic hook.
    pub(crate) fn resume(self) -> ! {
        resume_unwind(self.0)
    }

    /// Drops the payload. If that panics as well, the second payload is leaked, because a panic
    /// while dropping that one would have no end.
    #[cold]
    pub(crate) fn forget(self) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(self.0))) {
            std::mem::forget(payload);
        }
    }
}

/// The panics of callbacks: forgotten once they are logged, or the first one is kept for a test that
/// wants to fail with it.
#[derive(Default)]
pub(crate) struct Panics {
    first: Option<Panicked>,
    keeps_first: bool,
}

impl Panics {
    /// Sets whether the first panic from now on is kept.
    pub(crate) fn keep_first(&mut self, keeps: bool) {
        self.keeps_first = keeps;
    }

    /// Keeps or forgets a panic.
    #[cold]
    pub(crate) fn note(&mut self, panicked: Panicked) {
        if self.keeps_first && self.first.is_none() {
            self.first = Some(panicked);
        } else {
            panicked.forget();
        }
    }

    /// Panics again with the panic that was kept, if there is one.
    pub(crate) fn resume(&mut self) {
        if let Some(panicked) = self.first.take() {
            panicked.resume();
        }
    }
}

/// Runs code of the application, or drops a value of it.
///
/// # Errors
///
/// [`Panicked`] when it panicked. Its state may be half changed, so the caller ends the connection.
#[inline(always)]
pub(crate) fn guarded<R>(call: impl FnOnce() -> R) -> Result<R, Panicked> {
    catch_unwind(AssertUnwindSafe(call)).map_err(Panicked)
}

/// Drops a value of the application, named `what` in the log. A panic in its `Drop` is logged.
///
/// # Errors
///
/// [`Panicked`] when it panicked, for the caller to note and to count.
pub(crate) fn drop_guarded<T>(what: &dyn fmt::Display, value: T) -> Result<(), Panicked> {
    let dropped = guarded(|| drop(value));
    if dropped.is_err() {
        log::error!("{what}: `Drop` panicked");
    }
    dropped
}

/// As [`drop_guarded`] for several values, when the reactor ends and its counters with it.
pub(crate) fn drop_all_guarded<T>(what: &dyn fmt::Display, values: impl IntoIterator<Item = T>) {
    for value in values {
        if let Err(panicked) = drop_guarded(what, value) {
            panicked.forget();
        }
    }
}
