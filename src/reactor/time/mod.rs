//! Time: the clock, timers of the application, and the coarse deadlines of connections.

pub(crate) mod clock;
pub(crate) mod coarse;
pub(crate) mod handled;
pub(crate) mod timers;
