//! The phases of a run, which are the same for every kind of load.
//!
//! ```text
//!   Opening ──▶ WarmUp ──▶ Measuring ──▶ Draining ──▶ Closing
//!      all are open  warmup      seconds     all replies    all are closed,
//!                    is over     are over    are there,     or timeout
//!                                            or timeout
//! ```
//!
//! The report counts only what happens in *Measuring*; the processor time of the server is read at
//! its beginning and its end. *Draining* sends no messages and waits for outstanding replies, so
//! that a lost reply can be told from a late one.

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Opening,
    WarmUp,
    Measuring,
    Draining,
    Closing,
}
