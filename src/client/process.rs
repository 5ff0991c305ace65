//! Child processes: a role for each of their streams.

use std::cell::Cell;
use std::io;
use std::panic::Location;
use std::process::Command;
use std::rc::Rc;

use crate::protocol::websocket::ToMessage;
use crate::reactor::SetupResult;
use crate::reactor::child::{ProcessExit, ProcessId, Stderr};
use crate::reactor::close::{Close, CloseCause, Deadline, Sent};
use crate::reactor::config::ConnectionOptions;
use crate::reactor::connection::Connection;
use crate::reactor::id::ConnId;
use crate::reactor::outcome::{Outcome, Sealed};
use crate::reactor::process::ProcessPlan;
use crate::reactor::reactor::{Cx, Handler, OnExit, Reactor};

impl Sealed for ProcessId {}
impl Outcome for ProcessId {}

/// The argument of the callbacks of a child process.
#[non_exhaustive]
pub struct Process<'a, S> {
    /// Your state.
    pub state: &'a mut S,
    /// The reactor: sending, publishing, timers, connecting.
    pub reactor: &'a mut Reactor<S>,
    /// The id of the child process that this callback was called for.
    pub id: ProcessId,
}

impl<S: 'static> Process<'_, S> {
    /// Sends bytes to the standard input of the child. [`Sent::Gone`] when that has ended.
    pub fn send(&mut self, bytes: impl ToMessage) -> Sent {
        self.reactor.send(self.id.stdin(), bytes)
    }

    /// Ends the standard input of the child behind what is queued for it: the child reads an end of file.
    pub fn finish(&mut self) -> Sent {
        self.reactor.finish_sending(self.id.stdin())
    }

    /// Bytes that wait until the child reads them; see [`Reactor::queued_bytes`].
    pub fn queued_bytes(&self) -> usize {
        self.reactor.queued_bytes(self.id.stdin())
    }

    /// Stops reading the standard output of the child, which waits when its pipe is full.
    pub fn pause(&mut self) {
        self.reactor.pause(self.id.stdout());
    }

    /// Reads the standard output of the child again.
    pub fn resume(&mut self) {
        self.reactor.resume(self.id.stdout());
    }

    /// Kills the child at once; see [`Reactor::kill`].
    pub fn kill(&mut self) -> bool {
        self.reactor.kill(self.id)
    }
}

type OnProcess<S> = Box<dyn FnMut(&mut Process<'_, S>)>;
type OnData<S> = Box<dyn FnMut(&mut Process<'_, S>, &[u8])>;
type OnClose<S> = Box<dyn FnMut(&mut Process<'_, S>, &Close)>;

/// The callbacks and options of a child process.
pub struct ProcessCallbacks<S> {
    options: ConnectionOptions,
    stderr: Stderr,
    kills_at_end: bool,
    on_stdout: Option<OnData<S>>,
    on_stderr: Option<OnData<S>>,
    on_drain: Option<OnProcess<S>>,
    on_stdin_close: Option<OnClose<S>>,
    on_exit: OnExit<S>,
}

impl<S: 'static> ProcessCallbacks<S> {
    fn new(options: ConnectionOptions) -> ProcessCallbacks<S> {
        ProcessCallbacks {
            options,
            stderr: Stderr::AsOrdered,
            kills_at_end: true,
            on_stdout: None,
            on_stderr: None,
            on_drain: None,
            on_stdin_close: None,
            on_exit: Box::new(|_, _, _| ()),
        }
    }

    /// Watermarks, policy and deadlines of its streams. They start as the reactor's, without `age_max`. The watermarks,
    /// the policy and `write_timeout` are for standard input; `close_timeout` is for outputs that another process keeps
    /// open after the end of the child.
    pub fn options(&mut self) -> &mut ConnectionOptions {
        &mut self.options
    }

    /// Sends standard error into standard output, in the order in which the child writes.
    pub fn merge_stderr(&mut self) {
        self.stderr = Stderr::Merged;
        self.on_stderr = None;
    }

    /// Sets whether the child is killed (SIGKILL) when the loop ends. `true` by default. A child that outlives the loop
    /// loses its pipes.
    pub fn kill_at_end(&mut self, kills: bool) {
        self.kills_at_end = kills;
    }

    /// Called with bytes of the child's standard output, in whatever pieces come. Without this callback they are read and
    /// dropped.
    pub fn on_stdout<R: Outcome>(
        &mut self,
        mut call: impl FnMut(&mut Process<'_, S>, &[u8]) -> R + 'static,
    ) {
        self.on_stdout = Some(Box::new(move |process, bytes| {
            let outcome = call(process, bytes);
            process.reactor.end_if_error(process.id.stdout(), outcome);
        }));
    }

    /// Called with bytes of the child's standard error. Without this callback it goes where the command says, by default
    /// to that of this program.
    pub fn on_stderr<R: Outcome>(
        &mut self,
        mut call: impl FnMut(&mut Process<'_, S>, &[u8]) -> R + 'static,
    ) {
        self.stderr = Stderr::Separate;
        self.on_stderr = Some(Box::new(move |process, bytes| {
            let outcome = call(process, bytes);
            if let Some(stderr) = process.id.stderr() {
                process.reactor.end_if_error(stderr, outcome);
            }
        }));
    }

    /// Called when the queue for standard input falls below its low watermark, after it was above the high one.
    pub fn on_drain<R: Outcome>(
        &mut self,
        mut call: impl FnMut(&mut Process<'_, S>) -> R + 'static,
    ) {
        self.on_drain = Some(Box::new(move |process| {
            let outcome = call(process);
            process.reactor.end_if_error(process.id.stdin(), outcome);
        }));
    }

    /// Called once when standard input has ended. The cause is [`CloseCause::Io`] with `BrokenPipe` if the child has
    /// closed its end or has ended with bytes unread, [`CloseCause::SlowConsumer`] if it reads too slowly for the policy,
    /// and [`CloseCause::TimedOut`] if it has read nothing for `write_timeout`. The outputs go on.
    pub fn on_stdin_close<R: Outcome>(
        &mut self,
        mut call: impl FnMut(&mut Process<'_, S>, &Close) -> R + 'static,
    ) {
        self.on_stdin_close = Some(Box::new(move |process, close| {
            let outcome = call(process, close);
            process.reactor.note_outcome(outcome);
        }));
    }

    /// Called once and last: the child has ended, and all of its output was delivered.
    ///
    /// An output that another process keeps open ends `close_timeout` after the child. While one is paused, neither ends,
    /// and for as long again after it was resumed. [`ProcessExit::is_cut`] says so. At the end of the loop this is called too.
    pub fn on_exit<R: Outcome>(
        &mut self,
        call: impl FnOnce(&mut Process<'_, S>, ProcessExit) -> R + 'static,
    ) {
        self.on_exit = Box::new(move |cx, id, exit| {
            let mut process = Process {
                state: cx.state,
                reactor: cx.reactor,
                id,
            };
            let outcome = call(&mut process, exit);
            cx.reactor.note_outcome(outcome);
        });
    }
}

/// The handler of one stream of a child.
struct Pipe<S> {
    name: String,
    /// Set when the child was started.
    process: Rc<Cell<Option<ProcessId>>>,
    on_data: Option<OnData<S>>,
    on_drain: Option<OnProcess<S>>,
    on_close: Option<OnClose<S>>,
}

/// The child that a pipe belongs to, with what its callbacks get.
fn process_of<'a, S: 'static>(
    process: &Cell<Option<ProcessId>>,
    cx: &'a mut Cx<'_, S>,
) -> Option<Process<'a, S>> {
    let id = process.get().filter(|id| cx.reactor.has_process(*id))?;
    Some(Process {
        state: cx.state,
        reactor: cx.reactor,
        id,
    })
}

impl<S: 'static> Handler<S> for Pipe<S> {
    fn name(&self, _: Option<&Connection>) -> String {
        self.name.clone()
    }

    fn open(&mut self, _: &mut Cx<'_, S>, _: ConnId) {}

    fn receive(&mut self, cx: &mut Cx<'_, S>, id: ConnId, input: &mut [u8]) -> usize {
        if cx.reactor.forward(id, input) {
            return input.len();
        }
        if let (Some(call), Some(mut process)) = (&mut self.on_data, process_of(&self.process, cx))
        {
            call(&mut process, input);
        }
        input.len()
    }

    fn end(&mut self, cx: &mut Cx<'_, S>, id: ConnId) {
        cx.reactor.forward_end(id);
        let close = Close {
            was_clean: true,
            ..Close::new(CloseCause::Peer)
        };
        cx.reactor.finish(id, close, false);
    }

    fn below_low_mark(&mut self, cx: &mut Cx<'_, S>, _: ConnId) {
        if let (Some(call), Some(mut process)) = (&mut self.on_drain, process_of(&self.process, cx))
        {
            call(&mut process);
        }
    }

    fn due(&mut self, cx: &mut Cx<'_, S>, id: ConnId, _: Deadline) {
        // It was set when the child had ended.
        if let Some(process) = self.process.get() {
            cx.reactor.cut_output(process, id);
        }
    }

    fn closed(&mut self, cx: &mut Cx<'_, S>, id: ConnId, close: &Close) {
        cx.reactor.unpipe_sources(id);
        cx.reactor.close_piped(id, close);
        let Some(mut process) = process_of(&self.process, cx) else {
            return;
        };
        // First, so that a panic in the callback does not keep `on_exit` from being called.
        process.reactor.end_pipe(process.id);
        if let Some(call) = &mut self.on_close {
            call(&mut process, close);
        }
    }

    fn is_single(&self) -> bool {
        true
    }
}

/// # Child processes
impl<S: 'static> Reactor<S> {
    /// Starts a child process whose standard streams are connections of this reactor, with back-pressure in both
    /// directions. `setup` names the callbacks and runs once. Unix only.
    ///
    /// ```no_run
    /// # use std::process::Command;
    /// # use waterwheel::Reactor;
    /// Reactor::run(String::new(), |reactor| {
    ///     reactor.process(Command::new("date"), |process| {
    ///         process.on_stdout(|process, bytes| process.state.push_str(&String::from_utf8_lossy(bytes)));
    ///         process.on_exit(|process, exit| {
    ///             println!("{} ({exit})", process.state);
    ///             process.reactor.stop();
    ///         });
    ///     })
    /// })?;
    /// # std::io::Result::Ok(())
    /// ```
    ///
    /// Bytes for the child wait in a bounded queue, as those of every connection: above its high watermark the policy of
    /// the [`options`](ProcessCallbacks::options) decides, by default the end of standard input. A producer therefore asks
    /// [`has_room`](Self::has_room) of [`stdin`](ProcessId::stdin), and goes on in `on_drain`. While standard output is
    /// paused, the child waits when its pipe is full.
    ///
    /// The call starts the program, which takes some hundred microseconds and up to a few milliseconds. Every other wait
    /// happens off the loop. A child is reaped in any case. When the loop ends, it is killed, unless
    /// [`kill_at_end`](ProcessCallbacks::kill_at_end) says otherwise; processes that it has started itself are not. A
    /// [`drain`](Self::drain) ends standard input, and waits for the child until its deadline.
    ///
    /// # Errors
    ///
    /// The system's, such as `NotFound` and `PermissionDenied`; `ResourceBusy` when there are
    /// [`processes_max`](crate::Config::processes_max) children; `Unsupported` in a [`Sim`](crate::Sim) and on Windows;
    /// when the reactor was stopped, and when `setup` returns an error.
    #[track_caller]
    pub fn process<R: SetupResult>(
        &mut self,
        command: Command,
        setup: impl FnOnce(&mut ProcessCallbacks<S>) -> R,
    ) -> io::Result<ProcessId> {
        let ordered_at = Location::caller();
        let options = ConnectionOptions {
            age_max: None,
            ..self.config().options.clone()
        };
        let mut callbacks = ProcessCallbacks::new(options);
        setup(&mut callbacks).into_result()?;
        let close_timeout = callbacks.options.close_timeout;
        let options = self.add_options(callbacks.options)?;
        let program = command.get_program().to_string_lossy().into_owned();
        let process = Rc::new(Cell::new(None));
        let pipe = |stream: &str| Pipe {
            name: format!("{stream} of {program}"),
            process: Rc::clone(&process),
            on_data: None,
            on_drain: None,
            on_close: None,
        };
        let stdin = Pipe {
            on_drain: callbacks.on_drain,
            on_close: callbacks.on_stdin_close,
            ..pipe("stdin")
        };
        let stdout = Pipe {
            on_data: callbacks.on_stdout,
            ..pipe("stdout")
        };
        let stderr = Pipe {
            on_data: callbacks.on_stderr,
            ..pipe("stderr")
        };
        let plan = ProcessPlan {
            stderr: callbacks.stderr,
            options,
            close_timeout,
            kills_at_end: callbacks.kills_at_end,
            handlers: [Box::new(stdin), Box::new(stdout), Box::new(stderr)],
            on_exit: callbacks.on_exit,
            ordered_at,
        };
        let started = self.spawn_process(command, plan).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot start {program}: {error}"))
        });
        process.set(started.as_ref().ok().copied());
        started
    }
}
