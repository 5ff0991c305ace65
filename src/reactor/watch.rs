//! Watching a descriptor of the application: a pipe, a terminal, an inotify or a device.
//!
//! The poll is edge-triggered, and the descriptor is registered anew behind each callback. The kernel then looks at it
//! again, so a callback that leaves bytes in it is called in the next turn, as with a level-triggered poll. That costs one
//! system call for each callback, and tells of a descriptor that was closed meanwhile. A callback runs at most once in a
//! turn, so that a descriptor that is always ready keeps no other source waiting.

use std::any::Any;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd};
use std::panic::Location;

use mio::unix::SourceFd;
use mio::{Registry, Token};

use super::id::ConnId;
use super::outcome::{Outcome, Sealed};
use super::reactor::{Cx, NextStep, Reactor, Watched};
use super::transport::memory::Readiness;

/// The readiness for which a descriptor is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Interest {
    /// Bytes, or the end, can be read.
    Readable,
    /// Bytes can be written.
    Writable,
    /// Either of them.
    ReadableOrWritable,
}

impl Interest {
    fn of_poll(self) -> mio::Interest {
        match self {
            Interest::Readable => mio::Interest::READABLE,
            Interest::Writable => mio::Interest::WRITABLE,
            Interest::ReadableOrWritable => mio::Interest::READABLE | mio::Interest::WRITABLE,
        }
    }
}

/// Names one watch of a descriptor of type `D`, and no later one. `Copy`, eight bytes.
pub struct WatchId<D> {
    id: ConnId,
    descriptor: PhantomData<fn() -> D>,
}

impl<D> Clone for WatchId<D> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<D> Copy for WatchId<D> {}

impl<D> PartialEq for WatchId<D> {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl<D> Eq for WatchId<D> {}

impl<D> Hash for WatchId<D> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

impl<D> fmt::Debug for WatchId<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "watch {}", self.id)
    }
}

impl<D> Sealed for WatchId<D> {}
impl<D> Outcome for WatchId<D> {}

/// The argument of the callback of [`Reactor::watch`].
#[non_exhaustive]
pub struct Watch<'a, S, D> {
    /// Your state.
    pub state: &'a mut S,
    /// The reactor.
    pub reactor: &'a mut Reactor<S>,
    /// The id of this watch.
    pub id: WatchId<D>,
    /// The descriptor, to read from or write to.
    pub descriptor: &'a mut D,
    /// The kernel says that bytes, the end or an error can be read.
    pub is_readable: bool,
    /// The kernel says that bytes can be written, or that writing fails.
    pub is_writable: bool,
    /// The other end has gone. Bytes of it may be left to read.
    pub is_hung_up: bool,
    /// The descriptor can be watched no longer, mostly because another owner has closed it (`EBADF`). This is the last
    /// call.
    pub error: Option<io::Error>,
}

impl<S: 'static, D: 'static> Watch<'_, S, D> {
    /// Ends this watch behind the callback, and drops the descriptor.
    pub fn end(&mut self) {
        self.reactor.unwatch(self.id);
    }
}

struct WatchedDescriptor<D, C> {
    descriptor: D,
    interest: Interest,
    call: C,
    made_at: &'static Location<'static>,
}

impl<S, D, C, R> Watched<S> for WatchedDescriptor<D, C>
where
    S: 'static,
    D: AsFd + 'static,
    C: FnMut(&mut Watch<'_, S, D>) -> R + 'static,
    R: Outcome,
{
    fn made_at(&self) -> (&'static str, &'static Location<'static>) {
        ("watch", self.made_at)
    }

    fn ready(&mut self, cx: &mut Cx<'_, S>, id: ConnId, readiness: Readiness) -> NextStep {
        if let Some(step) = self.call(cx, id, readiness, None) {
            return step;
        }
        let Some(registry) = cx.reactor.table.registry() else {
            return NextStep::End;
        };
        let token = Token(id.index as usize);
        let fd = self.descriptor.as_fd().as_raw_fd();
        match registry.reregister(&mut SourceFd(&fd), token, self.interest.of_poll()) {
            Ok(()) => NextStep::Wait,
            Err(error) => {
                self.call(cx, id, Readiness::default(), Some(error));
                NextStep::End
            }
        }
    }

    // A callback that panics each time would be called in every turn.
    fn after_panic(&mut self, _: &mut Reactor<S>, _: ConnId) -> NextStep {
        NextStep::End
    }

    fn deregister(&mut self, registry: &Registry) {
        let fd = self.descriptor.as_fd().as_raw_fd();
        // It fails if the descriptor was closed, which has taken it out of the poll.
        let _ = registry.deregister(&mut SourceFd(&fd));
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        Box::new(self.descriptor)
    }
}

impl<D: AsFd + 'static, C> WatchedDescriptor<D, C> {
    /// Calls the callback. Returns the next step if the watch has ended.
    fn call<S: 'static, R: Outcome>(
        &mut self,
        cx: &mut Cx<'_, S>,
        id: ConnId,
        readiness: Readiness,
        error: Option<io::Error>,
    ) -> Option<NextStep>
    where
        C: FnMut(&mut Watch<'_, S, D>) -> R + 'static,
    {
        cx.reactor.callback = "watch";
        let outcome = (self.call)(&mut Watch {
            state: cx.state,
            reactor: cx.reactor,
            id: WatchId {
                id,
                descriptor: PhantomData,
            },
            descriptor: &mut self.descriptor,
            is_readable: readiness.readable || readiness.read_closed,
            is_writable: readiness.writable,
            is_hung_up: readiness.read_closed || readiness.hung_up,
            error,
        });
        if let Some(error) = outcome.into_error() {
            cx.reactor.note_error(&*error);
            return Some(NextStep::End);
        }
        let is_gone = !cx.reactor.table.sources().has_watched(id);
        is_gone.then_some(NextStep::End)
    }
}

/// # Descriptors of your own
impl<S: 'static> Reactor<S> {
    /// Calls `call` when a descriptor of yours is ready: a pipe, a terminal, an inotify, a device. Unix only.
    ///
    /// The watch owns the descriptor and lends it to the callback. It is *level-triggered*: while the descriptor is ready
    /// the callback is called once in each turn, so a callback need not read all that is there, and one read never blocks.
    /// A reader with a buffer, such as `std::io::Stdin`, holds bytes of which the kernel does not know; watch what is
    /// below it. A callback that loops until `WouldBlock` must have made the descriptor non-blocking. At its end a descriptor is
    /// readable for ever, and a socket or pipe is writable nearly always: the callback must
    /// [`end`](Watch::end) the watch, or the loop never sleeps.
    ///
    /// An error that the callback returns, or a panic, is logged and ends the watch, and so does the end of the loop: the
    /// descriptor is dropped then. A watch does not keep a [drain](Self::drain) waiting.
    ///
    /// ```no_run
    /// use std::io::Read;
    /// use waterwheel::{Interest, Reactor};
    ///
    /// # fn setup(reactor: &mut Reactor<()>, reader: std::io::PipeReader) -> std::io::Result<()> {
    /// reactor.watch(reader, Interest::Readable, |watch| {
    ///     let mut buffer = [0; 4096];
    ///     let count = watch.descriptor.read(&mut buffer)?;
    ///     watch.reactor.publish("bytes", &buffer[..count]);
    ///     if count == 0 {
    ///         watch.end();
    ///     }
    ///     std::io::Result::Ok(())
    /// })?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The kernel's, with its meaning: regular files cannot be watched on Linux (`EPERM`), because they are always ready,
    /// nor can one file be watched twice by the same descriptor (`EEXIST`). In a [`Sim`](crate::Sim), which has no kernel.
    #[track_caller]
    pub fn watch<D: AsFd + 'static, R: Outcome>(
        &mut self,
        descriptor: D,
        interest: Interest,
        call: impl FnMut(&mut Watch<'_, S, D>) -> R + 'static,
    ) -> io::Result<WatchId<D>> {
        if self.is_stopped {
            return Err(io::Error::other("cannot watch: the reactor has stopped"));
        }
        let made_at = Location::caller();
        let id = self.table.sources_mut().insert_watched();
        let Some(registry) = self.table.registry() else {
            self.table.sources_mut().remove_watched(id);
            let why = "cannot watch a descriptor in a simulation, which has no kernel";
            return Err(io::Error::new(io::ErrorKind::Unsupported, why));
        };
        let fd = descriptor.as_fd().as_raw_fd();
        let token = Token(id.index as usize);
        if let Err(error) = registry.register(&mut SourceFd(&fd), token, interest.of_poll()) {
            self.table.sources_mut().remove_watched(id);
            let kind = error.kind();
            let why = match kind {
                io::ErrorKind::PermissionDenied => ": a regular file or a folder is always ready",
                io::ErrorKind::AlreadyExists => ": it is watched already",
                _ => "",
            };
            let text = format!("cannot watch descriptor {fd}: {error}{why}");
            return Err(io::Error::new(kind, text));
        }
        let watched = WatchedDescriptor {
            descriptor,
            interest,
            call,
            made_at,
        };
        self.watched.insert(id.index, Box::new(watched));
        Ok(WatchId {
            id,
            descriptor: PhantomData,
        })
    }

    /// Ends a watch and gives its descriptor back. `None` when the watch has ended before, and within its own callback,
    /// which has the descriptor: there the watch ends behind the callback.
    pub fn unwatch<D: 'static>(&mut self, watch: WatchId<D>) -> Option<D> {
        let watched = self.remove_watched(watch.id)?;
        let descriptor = watched.into_any().downcast::<D>().ok()?;
        Some(*descriptor)
    }
}
