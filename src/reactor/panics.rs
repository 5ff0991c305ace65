//! Panics of the application: the one place where they are caught.
//!
//! A panic in one callback ends the connection that it was about and no other: thousands of clients
//! should not lose their connections by one client's message. That needs `panic = "unwind"`.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The guarded code has panicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Panicked;

/// Runs code of the application, or drops a value of it.
///
/// # Errors
///
/// [`Panicked`] when it panicked. Its state may be half changed, so the caller ends the connection.
#[inline(always)]
pub(crate) fn guarded<R>(call: impl FnOnce() -> R) -> Result<R, Panicked> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|payload| {
        forget_payload(payload);
        Panicked
    })
}

/// Drops a value of the application, named `what` in the log. A panic in its `Drop` is logged.
///
/// # Errors
///
/// [`Panicked`] when it panicked, for the caller to count.
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
        let _ = drop_guarded(what, value);
    }
}

// The payload is a value of the application too. If dropping it panics as well, the second payload
// is leaked, because a panic while dropping that one would have no end.
#[cold]
fn forget_payload(payload: Box<dyn std::any::Any + Send>) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(payload);
    }
}
