//! Child processes: their names, and their ends.
//!
//! A process number may be given to another process as soon as its process is reaped. So only one place reaps, under a
//! lock that `kill` takes too, and a kill never hits a foreign process. A thread for each child waits for its end without
//! reaping it, and reports it; whoever drops the report reaps. So no child stays a zombie, also where the loop has ended
//! before the child.

use std::collections::HashMap;
use std::io;
use std::process::{Child, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use super::id::ConnId;

/// Names a child process of [`Reactor::process`](crate::Reactor::process). Its streams are connections: any method of the
/// reactor that takes an id of a connection, such as `pause`, takes theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProcessId {
    stdin: ConnId,
    stdout: ConnId,
    stderr: Option<ConnId>,
}

impl ProcessId {
    #[cfg_attr(not(unix), allow(dead_code))]
    pub(super) fn new(stdin: ConnId, stdout: ConnId, stderr: Option<ConnId>) -> ProcessId {
        ProcessId {
            stdin,
            stdout,
            stderr,
        }
    }

    /// The connection to its standard input: `send`, `queued_bytes`, `finish_sending`.
    pub fn stdin(self) -> ConnId {
        self.stdin
    }

    /// The connection from its standard output: `pause`, `resume`.
    pub fn stdout(self) -> ConnId {
        self.stdout
    }

    /// The connection from its standard error, if the reactor reads that apart.
    pub fn stderr(self) -> Option<ConnId> {
        self.stderr
    }

    pub(super) fn outputs(self) -> impl Iterator<Item = ConnId> {
        [Some(self.stdout), self.stderr].into_iter().flatten()
    }

    fn pipe_count(self) -> u8 {
        2 + u8::from(self.stderr.is_some())
    }
}

/// The end of a child process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProcessExit {
    /// Its exit code or signal. `None` when the loop has ended before the process, or when something else in this program
    /// has waited for it.
    pub status: Option<ExitStatus>,
    /// Another process, such as a child of the child, has kept an output open, which was therefore cut.
    pub is_cut: bool,
}

impl std::fmt::Display for ProcessExit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.status {
            Some(status) => status.fmt(f),
            None => f.write_str("exit status unknown"),
        }
    }
}

/// The place to which the standard error of a child goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stderr {
    /// As the command says; by default to that of this program.
    AsOrdered,
    /// Into its standard output.
    Merged,
    /// To a connection of its own.
    Separate,
}

/// A child that may be killed and reaped by several.
#[derive(Clone)]
pub(super) struct SharedChild(Arc<Mutex<Child>>);

#[cfg_attr(not(unix), allow(dead_code))]
impl SharedChild {
    pub(super) fn new(child: Child) -> SharedChild {
        SharedChild(Arc::new(Mutex::new(child)))
    }

    fn lock(&self) -> MutexGuard<'_, Child> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn number(&self) -> u32 {
        self.lock().id()
    }

    /// Kills it, unless it was reaped.
    pub(super) fn kill(&self) {
        // An error means that it has ended.
        let _ = self.lock().kill();
    }

    /// Reaps it if it has ended. Returns its status; `None` where something else has reaped it.
    fn reap(&self) -> Option<ExitStatus> {
        self.lock().try_wait().ok().flatten()
    }
}

type Report = Box<dyn FnOnce(Exited) + Send>;

/// A thread for the end of one child. It is started before the child, so that each child that runs has one.
pub(super) struct WaitThread(mpsc::Sender<(SharedChild, Report)>);

#[cfg_attr(not(unix), allow(dead_code))]
impl WaitThread {
    /// # Errors
    ///
    /// That of the system when there is no thread.
    pub(super) fn start() -> io::Result<WaitThread> {
        let (sender, receiver) = mpsc::channel::<(SharedChild, Report)>();
        thread::Builder::new()
            .name("waterwheel-wait".to_owned())
            .stack_size(WAIT_STACK_BYTES)
            .spawn(move || {
                // An error means that there is no child: the thread ends.
                if let Ok((child, report)) = receiver.recv() {
                    wait_for_end(&child);
                    report(Exited(child));
                }
            })?;
        Ok(WaitThread(sender))
    }

    /// Waits for the end of the child and calls `report` then, on its thread.
    pub(super) fn wait_for(self, child: SharedChild, report: impl FnOnce(Exited) + Send + 'static) {
        // The thread ends after it has got this.
        let _ = self.0.send((child, Box::new(report)));
    }
}

/// The stack of a thread that waits, in bytes. It calls little.
const WAIT_STACK_BYTES: usize = 64 * 1024;

/// Waits until the child has ended, and leaves it to be reaped.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
fn wait_for_end(child: &SharedChild) {
    use nix::errno::Errno;
    use nix::sys::wait::{Id, WaitPidFlag, waitid};
    use nix::unistd::Pid;

    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
    let Ok(number) = i32::try_from(child.number()) else {
        return;
    };
    while let Err(Errno::EINTR) = waitid(Id::Pid(Pid::from_raw(number)), flags) {}
}

// Without `waitid` in `nix` the child is asked again and again. A thread that blocked in `wait` would reap the child
// while another one kills its number.
#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
fn wait_for_end(child: &SharedChild) {
    while let Ok(None) = child.lock().try_wait() {
        thread::sleep(Duration::from_millis(10));
    }
}

/// The report that a child has ended. Its drop reaps the child.
pub(super) struct Exited(SharedChild);

#[cfg_attr(not(unix), allow(dead_code))]
impl Exited {
    pub(super) fn status(&self) -> Option<ExitStatus> {
        self.0.reap()
    }
}

impl Drop for Exited {
    fn drop(&mut self) {
        self.0.reap();
    }
}

/// A child, and what is called at its end.
pub(super) struct RunningChild<C> {
    pub(super) child: SharedChild,
    pub(super) on_exit: C,
    /// The time after its end in which its outputs must end too.
    pub(super) close_timeout: Duration,
    pub(super) kills_at_end: bool,
    /// The key of the call at the end of the loop.
    pub(super) at_end: usize,
}

struct Entry<C> {
    process: RunningChild<C>,
    open_pipe_count: u8,
    /// Its end, with its status where that is known.
    exit: Option<Option<ExitStatus>>,
    /// The outputs that were paused when the time in which they must end began.
    paused: Vec<ConnId>,
    is_cut: bool,
}

/// The children whose `on_exit` was not called yet.
pub(super) struct Children<C>(HashMap<ProcessId, Entry<C>>);

impl<C> Default for Children<C> {
    fn default() -> Self {
        Children(HashMap::new())
    }
}

impl<C> Children<C> {
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// Whether a drain waits for the end of a child: those that outlive the loop are left alone.
    pub(super) fn are_awaited(&self) -> bool {
        let mut entries = self.0.values();
        entries.any(|entry| entry.process.kills_at_end)
    }

    #[cfg_attr(not(unix), allow(dead_code))]
    pub(super) fn insert(&mut self, id: ProcessId, process: RunningChild<C>) {
        let entry = Entry {
            process,
            open_pipe_count: id.pipe_count(),
            exit: None,
            paused: Vec::new(),
            is_cut: false,
        };
        self.0.insert(id, entry);
    }

    /// The child, until its `on_exit` is called.
    pub(super) fn process(&self, id: ProcessId) -> Option<&RunningChild<C>> {
        self.0.get(&id).map(|entry| &entry.process)
    }

    /// Whether a child has not ended, as far as is known.
    pub(super) fn is_running(&self, id: ProcessId) -> bool {
        self.0.get(&id).is_some_and(|entry| entry.exit.is_none())
    }

    /// The outputs of all children.
    pub(super) fn outputs(&self) -> impl Iterator<Item = ConnId> {
        self.0.keys().flat_map(|id| id.outputs())
    }

    /// Notes the end of a child.
    pub(super) fn note_exit(&mut self, id: ProcessId, status: Option<ExitStatus>) {
        if let Some(entry) = self.0.get_mut(&id) {
            entry.exit = Some(status);
        }
    }

    /// Notes whether an output is paused, and returns whether it was.
    pub(super) fn note_paused(&mut self, id: ProcessId, output: ConnId, is_paused: bool) -> bool {
        let Some(entry) = self.0.get_mut(&id) else {
            return false;
        };
        let was_paused = entry.paused.contains(&output);
        entry.paused.retain(|paused| *paused != output);
        if is_paused {
            entry.paused.push(output);
        }
        was_paused
    }

    /// Notes that an output is ended although another process keeps it open.
    pub(super) fn note_cut(&mut self, id: ProcessId) {
        if let Some(entry) = self.0.get_mut(&id) {
            entry.is_cut = true;
        }
    }

    /// Notes that one of its streams has ended.
    pub(super) fn note_closed_pipe(&mut self, id: ProcessId) {
        if let Some(entry) = self.0.get_mut(&id) {
            entry.open_pipe_count -= 1;
        }
    }

    /// Whether it and all of its streams have ended.
    pub(super) fn is_done(&self, id: ProcessId) -> bool {
        let entry = self.0.get(&id);
        entry.is_some_and(|entry| entry.open_pipe_count == 0 && entry.exit.is_some())
    }

    /// Takes a child for its last call.
    pub(super) fn take(&mut self, id: ProcessId) -> Option<(RunningChild<C>, ProcessExit)> {
        let entry = self.0.remove(&id)?;
        let exit = ProcessExit {
            status: entry.exit.flatten(),
            is_cut: entry.is_cut,
        };
        Some((entry.process, exit))
    }

    /// Takes the calls that will not be made. Kills the children that must not outlive the reactor.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = C> + use<C> {
        std::mem::take(&mut self.0).into_values().map(|entry| {
            if entry.process.kills_at_end {
                entry.process.child.kill();
            }
            entry.process.on_exit
        })
    }
}
