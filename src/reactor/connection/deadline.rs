//! What a connection waits for: its deadlines, set, put off and passed.
//!
//! Where they are filed, and how late they may pass, is in `deadlines`.

use std::time::Duration;

use crate::reactor::close::Deadline;
use crate::reactor::connection::Life;
use crate::reactor::connection::table::Table;
use crate::reactor::id::ConnId;
use crate::reactor::time::coarse::Tick;

impl Table {
    /// Sets what the connection waits for; the deadline it had is forgotten.
    pub(crate) fn wait(&mut self, id: ConnId, wait: Deadline, after: Duration) {
        self.wait_nanos(id, wait, Tick::bounded_nanos(after));
    }

    /// As [`wait`](Self::wait), for a time from [`Tick::bounded_nanos`].
    #[inline]
    pub(crate) fn wait_nanos(&mut self, id: ConnId, wait: Deadline, after: u64) {
        let due = Tick::after_nanos(self.now, after);
        let Some(connection) = self.connection_mut(id) else {
            return;
        };
        // From the first step of closing on, one absolute deadline holds.
        if connection.life != Life::Open {
            return;
        }
        connection.wait = Some(wait);
        connection.deadline = due;
        if connection.filed == Tick::NEVER || due < connection.filed {
            self.file(id);
        }
    }

    /// Puts off the deadline by whole seconds.
    pub(crate) fn extend_wait(&mut self, id: ConnId, seconds: u32) {
        if let Some(connection) = self.open_mut(id)
            && connection.deadline != Tick::NEVER
        {
            connection.deadline = connection
                .deadline
                .later_by(Duration::from_secs(u64::from(seconds)));
        }
    }

    pub(crate) fn wait_for_nothing(&mut self, id: ConnId) {
        if let Some(connection) = self.open_mut(id) {
            connection.wait = None;
            connection.deadline = Tick::NEVER;
        }
    }

    #[inline]
    pub(crate) fn file(&mut self, id: ConnId) {
        let Some(connection) = self.connection_mut(id) else {
            return;
        };
        let due = connection.deadline.earlier(connection.write_deadline);
        if due != Tick::NEVER && (connection.filed == Tick::NEVER || due < connection.filed) {
            connection.filed = due;
            self.deadlines.file(due, id);
        }
    }

    /// What is due for a connection that came up in the bucket of `filed`; files it anew when
    /// nothing is.
    pub(crate) fn due(&mut self, id: ConnId, filed: Tick) -> Option<Deadline> {
        let now = self.now;
        let connection = self.connection_mut(id)?;
        if connection.filed != filed {
            return None;
        }
        connection.filed = Tick::NEVER;
        let passed = |tick: Tick| tick != Tick::NEVER && tick.nanos() <= now;
        let due = if passed(connection.write_deadline) {
            connection.write_deadline = Tick::NEVER;
            Some(Deadline::Write)
        } else if passed(connection.deadline) {
            connection.deadline = Tick::NEVER;
            connection.wait.take()
        } else {
            None
        };
        self.file(id);
        due
    }
}
