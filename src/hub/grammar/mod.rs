//! The languages that clients of the hub speak.

pub(super) mod envelope;
