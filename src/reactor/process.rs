//! Child processes on the loop: their pipes are connections, and their end comes from another thread.
//!
//! ```text
//!  spawn_process     a connection for each pipe, a thread that waits for the end of the child
//!  process_exited    the thread has reported: the child is reaped, its input ends, its outputs have `close_timeout`
//!  end_pipe          a connection has ended
//!  report_exit       both are done: `on_exit`, in a tick of its own, so that a panic in `on_close` does not prevent it
//! ```
//!
//! At the end of the loop the child is killed, unless it was started to outlive the loop, and `on_exit` is called without
//! a status if it has not been called before.

use std::io;
use std::panic::Location;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use super::child::{ProcessId, Stderr};
use super::close::{Close, CloseCause, Deadline};
use super::id::ConnId;
use super::reactor::{Cx, Handler, OnExit, QueuedTick, Reactor};

/// The parts of a child process that differ from one to another.
#[cfg_attr(not(unix), allow(dead_code))]
pub(crate) struct ProcessPlan<S> {
    pub(crate) stderr: Stderr,
    pub(crate) options: u16,
    pub(crate) close_timeout: Duration,
    pub(crate) kills_at_end: bool,
    /// For standard input, output and error.
    pub(crate) handlers: [Box<dyn Handler<S>>; 3],
    pub(crate) on_exit: OnExit<S>,
    pub(crate) ordered_at: &'static Location<'static>,
}

impl<S: 'static> Reactor<S> {
    /// Starts a child process with its pipes as connections.
    ///
    /// # Errors
    ///
    /// The system's, for example when there is no such program, and when there are `processes_max` children.
    pub(crate) fn spawn_process(
        &mut self,
        command: Command,
        plan: ProcessPlan<S>,
    ) -> io::Result<ProcessId> {
        if self.is_stopped {
            return Err(io::Error::other("the reactor has stopped"));
        }
        if self.is_simulated() {
            let why = "a simulation starts no processes";
            return Err(io::Error::new(io::ErrorKind::Unsupported, why));
        }
        let max = self.config.processes_max;
        if max <= self.children.count() {
            let why = format!("processes_max is {max}, and as many processes are there");
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, why));
        }
        self.start_process(command, plan)
    }

    #[cfg(not(unix))]
    fn start_process(&mut self, _: Command, _: ProcessPlan<S>) -> io::Result<ProcessId> {
        let why = "child processes need a Unix system";
        Err(io::Error::new(io::ErrorKind::Unsupported, why))
    }

    #[cfg(unix)]
    fn start_process(
        &mut self,
        mut command: Command,
        plan: ProcessPlan<S>,
    ) -> io::Result<ProcessId> {
        use std::sync::Arc;

        use super::child::{RunningChild, SharedChild, WaitThread};
        use super::protocol::Protocol;
        use super::reactor::{Arrival, ArrivalKind};
        use super::transport::Transport;
        use super::transport::command::start;

        let thread = WaitThread::start()?;
        let (child, pipes) = start(&mut command, plan.stderr)?;
        // Its copies of the child's ends of the pipes would keep them open.
        drop(command);
        let child = SharedChild::new(child);
        let mut ids = Vec::new();
        let mut inserted = Ok(());
        for (socket, handler) in pipes.into_iter().zip(plan.handlers) {
            let protocol = match ids.is_empty() {
                true => Protocol::Raw,
                false => Protocol::Finished,
            };
            let key = self.add_handler(handler);
            let transport = Transport::Plain(socket);
            match self.table.insert(transport, protocol, key, plan.options) {
                Ok(id) => {
                    self.mark_opened(id);
                    ids.push(id);
                }
                Err(error) => {
                    self.free_handler(key);
                    inserted = Err(error);
                    break;
                }
            }
        }
        if let Err(error) = inserted {
            for id in ids {
                self.table.abort(id, CloseCause::Local);
            }
            child.kill();
            // It is reaped when it has ended.
            thread.wait_for(child, drop);
            return Err(error);
        }
        let id = ProcessId::new(ids[0], ids[1], ids.get(2).copied());
        let mailbox = Arc::clone(&self.mailbox);
        let queued_at = plan.ordered_at;
        thread.wait_for(child.clone(), move |exited| {
            // Where the loop has ended, or ends before this is called, the drop of `exited` reaps the child.
            mailbox.put(Arrival {
                queued_at,
                kind: ArrivalKind::Run,
                call: Box::new(move |cx| cx.reactor.process_exited(id, exited.status())),
            });
        });
        let at_end = self.at_end(move |cx| {
            if let Some(process) = cx.reactor.children.process(id)
                && process.kills_at_end
            {
                process.child.kill();
            }
            report_exit(cx, id);
        });
        self.children.insert(
            id,
            RunningChild {
                child,
                on_exit: (plan.ordered_at, plan.on_exit),
                close_timeout: plan.close_timeout,
                kills_at_end: plan.kills_at_end,
                at_end,
            },
        );
        self.table.stats_mut().processes += 1;
        Ok(id)
    }

    /// Notes that a connection of a child has ended.
    pub(crate) fn end_pipe(&mut self, id: ProcessId) {
        self.children.note_closed_pipe(id);
        self.report_exit_if_done(id);
    }

    /// Whether the callbacks of a child may be called: it was started, and its `on_exit` was not called.
    pub(crate) fn has_process(&self, id: ProcessId) -> bool {
        self.children.process(id).is_some()
    }

    /// Kills a child process at once (SIGKILL). Its `on_exit` follows. Returns `false` if it has ended.
    pub fn kill(&mut self, id: ProcessId) -> bool {
        if !self.children.is_running(id) {
            return false;
        }
        if let Some(process) = self.children.process(id) {
            process.child.kill();
        }
        true
    }

    /// The number of a child process in the system, until its `on_exit` is called. After the end of the child another
    /// process may have it.
    pub fn process_number(&self, id: ProcessId) -> Option<u32> {
        let process = self.children.process(id)?;
        Some(process.child.number())
    }

    #[cfg_attr(not(unix), allow(dead_code))]
    fn process_exited(&mut self, id: ProcessId, status: Option<ExitStatus>) {
        let Some(process) = self.children.process(id) else {
            return;
        };
        let timeout = process.close_timeout;
        self.children.note_exit(id, status);
        for output in id.outputs() {
            let is_paused = !self.may_read(output);
            self.children.note_paused(id, output, is_paused);
            self.set_deadline(output, Deadline::Idle, timeout);
        }
        // The poll may report the same in this moment.
        match self.table.queued_bytes(id.stdin()) {
            0 => self.finish(id.stdin(), Close::new(CloseCause::Peer), false),
            _ => {
                let cause = CloseCause::Io(io::ErrorKind::BrokenPipe);
                self.table.abort(id.stdin(), cause);
            }
        }
        self.report_exit_if_done(id);
    }

    /// Ends an output of a child that has ended `close_timeout` ago: another process keeps it open. One that the
    /// application has paused may hold bytes of the child, and gets the time again, also after it was resumed.
    pub(crate) fn cut_output(&mut self, id: ProcessId, output: ConnId) {
        let Some(process) = self.children.process(id) else {
            return;
        };
        let timeout = process.close_timeout;
        let is_paused = !self.may_read(output);
        let was_paused = self.children.note_paused(id, output, is_paused);
        if is_paused || was_paused {
            return self.set_deadline(output, Deadline::Idle, timeout);
        }
        self.children.note_cut(id);
        let cause = CloseCause::TimedOut(Deadline::Close);
        self.table.abort(output, cause);
    }

    fn report_exit_if_done(&mut self, id: ProcessId) {
        if !self.children.is_done(id) {
            return;
        }
        if let Some(process) = self.children.process(id) {
            self.ticks.push_back(QueuedTick {
                queued_at: process.on_exit.0,
                call: Box::new(move |cx| report_exit(cx, id)),
            });
        }
    }
}

/// Calls `on_exit`, if it was not called before.
fn report_exit<S: 'static>(cx: &mut Cx<'_, S>, id: ProcessId) {
    let Some((process, exit)) = cx.reactor.children.take(id) else {
        return;
    };
    cx.reactor.forget_at_end(process.at_end);
    (process.on_exit.1)(cx, id, exit);
}
