//! An event machine: one thread, one poll, one slab of non-blocking connections, your closures.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod protocol;
pub mod pubsub;
