//! Commands that wait for a node: their slot has no master that is connected, or the master has said to try again.
//!
//! Pure: no link, no clock.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use super::node::NodeId;
use crate::client::redis::machine::{UNSENT_BYTES_MAX, UNSENT_MAX};

/// A command, and what is to be done with its answer.
pub(super) struct Command<D> {
    pub slot: u16,
    /// As it is sent.
    pub bytes: Rc<[u8]>,
    pub done: D,
    /// The time at which it is given up.
    pub due: Duration,
    /// The time at which it is given up while no node can take it.
    pub unsent_due: Duration,
    /// How often a node has named another one.
    pub redirect_count: u32,
    /// The node that has the keys although the slot is not its own yet.
    pub asks: Option<NodeId>,
}

struct Entry<D> {
    command: Command<D>,
    due: Duration,
    /// It is not sent before. Zero for one that waits for a connection.
    retry_at: Duration,
}

/// The commands that wait, the oldest first.
pub(super) struct Waiting<D> {
    entries: VecDeque<Entry<D>>,
    bytes: usize,
}

impl<D> Default for Waiting<D> {
    fn default() -> Self {
        Waiting {
            entries: VecDeque::new(),
            bytes: 0,
        }
    }
}

impl<D> Waiting<D> {
    /// Keeps a command until a node can take it, at most until `due`. Gives it back where too many wait.
    pub(super) fn push(
        &mut self,
        command: Command<D>,
        due: Duration,
        retry_at: Duration,
    ) -> Result<(), Command<D>> {
        if UNSENT_MAX <= self.entries.len() || UNSENT_BYTES_MAX <= self.bytes {
            return Err(command);
        }
        self.bytes += command.bytes.len();
        self.entries.push_back(Entry {
            command,
            due,
            retry_at,
        });
        Ok(())
    }

    /// Takes the commands whose time is over, and those that `can_send` takes now.
    pub(super) fn take(
        &mut self,
        now: Duration,
        mut can_send: impl FnMut(&Command<D>) -> bool,
    ) -> (Vec<Command<D>>, Vec<Command<D>>) {
        let (mut over, mut ready) = (Vec::new(), Vec::new());
        for entry in std::mem::take(&mut self.entries) {
            if entry.due <= now {
                over.push(entry.command);
            } else if entry.retry_at <= now && can_send(&entry.command) {
                ready.push(entry.command);
            } else {
                self.entries.push_back(entry);
                continue;
            }
        }
        self.bytes = (self.entries.iter()).map(|it| it.command.bytes.len()).sum();
        (over, ready)
    }

    /// Whether a command of this slot waits for a connection, so that a new one has to wait behind it.
    pub(super) fn has_unsent(&self, slot: u16) -> bool {
        let mut entries = self.entries.iter();
        entries.any(|it| it.command.slot == slot && it.retry_at == Duration::ZERO)
    }

    /// The next time at which one is over, or is to be tried again.
    pub(super) fn next_due(&self, now: Duration) -> Option<Duration> {
        let times = self.entries.iter().map(|it| match it.retry_at <= now {
            true => it.due,
            false => it.due.min(it.retry_at),
        });
        times.min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn command(slot: u16, bytes: usize) -> Command<u16> {
        Command {
            slot,
            bytes: vec![0; bytes].into(),
            done: slot,
            due: 5 * SECOND,
            unsent_due: SECOND,
            redirect_count: 0,
            asks: None,
        }
    }

    fn slots(commands: &[Command<u16>]) -> Vec<u16> {
        commands.iter().map(|it| it.slot).collect()
    }

    #[test]
    fn commands_are_taken_in_order_when_they_can_be_sent() {
        let mut waiting = Waiting::default();
        for slot in [1, 2, 1, 3] {
            assert!(
                waiting
                    .push(command(slot, 1), SECOND, Duration::ZERO)
                    .is_ok()
            );
        }
        // One that the master is to be asked for again has a pause, and does not hold up others.
        let pause = SECOND / 2;
        assert!(waiting.push(command(4, 1), 5 * SECOND, pause).is_ok());
        assert_eq!([1, 4].map(|slot| waiting.has_unsent(slot)), [true, false]);
        assert_eq!(waiting.next_due(Duration::ZERO), Some(pause));
        let (over, ready) = waiting.take(Duration::ZERO, |it| it.slot != 2);
        assert_eq!((slots(&over), slots(&ready)), (vec![], vec![1, 1, 3]));
        let (over, ready) = waiting.take(pause, |it| it.slot != 2);
        assert_eq!((slots(&over), slots(&ready)), (vec![], vec![4]));
        assert_eq!(waiting.next_due(pause), Some(SECOND));
        let (over, ready) = waiting.take(SECOND, |_| true);
        assert_eq!((slots(&over), slots(&ready)), (vec![2], vec![]));
        assert_eq!(waiting.next_due(SECOND), None);
        assert_eq!(waiting.bytes, 0);
    }

    #[test]
    fn commands_and_their_bytes_are_limited() {
        for (bytes, count) in [(1, UNSENT_MAX), (UNSENT_BYTES_MAX / 2, 2)] {
            let mut waiting = Waiting::default();
            let is_taken = |waiting: &mut Waiting<u16>| {
                let pushed = waiting.push(command(1, bytes), SECOND, Duration::ZERO);
                pushed.is_ok()
            };
            for _ in 0..count {
                assert!(is_taken(&mut waiting));
            }
            assert!(!is_taken(&mut waiting), "{count} of {bytes} bytes");
            waiting.take(SECOND, |_| false);
            assert!(is_taken(&mut waiting));
        }
    }
}
