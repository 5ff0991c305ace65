//! Connections that are made: raw streams.

pub(crate) mod tcp;
