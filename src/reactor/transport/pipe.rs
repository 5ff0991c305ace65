//! Our end of the standard input of a child process.

use std::io::{self, IoSlice, Write};
use std::os::fd::AsFd;

use mio::unix::pipe::Sender;
use mio::{Interest, Registry, Token};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Our end of the standard input of a child. `None` when it was closed: a pipe has no half close.
pub(crate) struct PipeWriter(Option<Sender>);

impl PipeWriter {
    pub(super) fn new(sender: Sender) -> PipeWriter {
        PipeWriter(Some(sender))
    }

    pub(super) fn close(&mut self) {
        self.0 = None;
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.sender()?.write(bytes)
    }

    pub(super) fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.sender()?.write_vectored(slices)
    }

    pub(super) fn register(
        &mut self,
        registry: &Registry,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        registry.register(self.sender()?, token, interest)
    }

    pub(super) fn reregister(
        &mut self,
        registry: &Registry,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        registry.reregister(self.sender()?, token, interest)
    }

    fn sender(&mut self) -> io::Result<&mut Sender> {
        self.0
            .as_mut()
            .ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }

    /// An error when the child has closed its end; otherwise there are no bytes and never will be.
    pub(super) fn read_end(&self) -> io::Error {
        let Some(sender) = &self.0 else {
            return io::ErrorKind::WouldBlock.into();
        };
        let mut fds = [PollFd::new(sender.as_fd(), PollFlags::empty())];
        let gone = PollFlags::POLLERR | PollFlags::POLLHUP;
        let is_gone = poll(&mut fds, PollTimeout::ZERO).is_ok()
            && fds[0].revents().is_some_and(|found| found.intersects(gone));
        match is_gone {
            true => io::ErrorKind::BrokenPipe.into(),
            false => io::ErrorKind::WouldBlock.into(),
        }
    }
}
