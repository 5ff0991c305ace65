//! Panics of the application: the one place where they are caught.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// The guarded code has panicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Panicked;

/// Runs code of the application, and code that drops what belongs to it.
///
/// # Errors
///
/// [`Panicked`] when it has. What it touched may be half done: the caller ends the connection.
#[inline(always)]
pub(crate) fn guarded<R>(call: impl FnOnce() -> R) -> Result<R, Panicked> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|payload| {
        forget_payload(payload);
        Panicked
    })
}

/// Drops a value of the application. A panic in its `Drop` is logged and goes no further.
pub(crate) fn drop_guarded<T>(value: T) {
    if guarded(|| drop(value)).is_err() {
        log::error!("a panic in a `Drop` of the application was caught");
    }
}

// The payload is a value of the application too. Should dropping it panic, it is leaked.
#[cold]
fn forget_payload(payload: Box<dyn std::any::Any + Send>) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(payload);
    }
}
