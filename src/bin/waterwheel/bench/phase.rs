//! The phases that every kind of load goes through, and what is measured of each.
//!
//! ```text
//!   Opening ──▶ WarmUp ──▶ Measuring ──▶ Draining ──▶ Closing
//!      all are open  warmup      seconds     all has come,    gone, or nobody
//!                                            or nothing more  waits any longer
//! ```
//!
//! Only what happens in *Measuring* counts for the figures; the processor time of the server is
//! read at its two ends. *Draining* sends nothing and waits for what is owed, so that a loss is
//! told from an answer that was only late.

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Opening,
    WarmUp,
    Measuring,
    Draining,
    Closing,
}
