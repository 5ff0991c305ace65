//! Lines and descriptors between two processes of one user.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// The first line of both sides, with the version behind it.
pub const GREETING: &str = "waterwheel takeover ";

/// Changes when a process of one version could misunderstand one of another.
pub const VERSION: &str = "1";

/// The beginning of a line that says why there is no answer.
pub const ERROR: &str = "error: ";

/// How long the other process may be silent, where it has nothing to wait for.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// The longest line, in bytes. An address has at most some 260.
const LINE_BYTES_MAX: usize = 1024;

/// A Unix socket to another process of the same user.
pub struct Line {
    stream: UnixStream,
}

impl Line {
    /// # Errors
    ///
    /// When the other process belongs to another user.
    pub fn new(stream: UnixStream) -> io::Result<Line> {
        stream.set_nonblocking(false)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let (theirs, ours) = (
            rustix::net::sockopt::socket_peercred(&stream)?.uid,
            rustix::process::geteuid(),
        );
        if theirs != ours {
            let why = format!(
                "the other process belongs to user {}, and this one to user {}",
                theirs.as_raw(),
                ours.as_raw()
            );
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        Ok(Line { stream })
    }

    pub fn send(&mut self, line: &str) -> io::Result<()> {
        self.stream.write_all(format!("{line}\n").as_bytes())
    }

    /// The next line, without its end.
    ///
    /// # Errors
    ///
    /// When the other process is silent for `patience`, has gone, or sends no text.
    pub fn receive(&mut self, patience: Duration) -> io::Result<String> {
        let deadline = Instant::now() + patience;
        let mut line = Vec::new();
        loop {
            self.wait_until(deadline)?;
            let mut byte = [0];
            // One byte at a time: a descriptor may come with the byte behind the line.
            match self.stream.read(&mut byte) {
                Ok(0) => return Err(gone()),
                Ok(_) if byte[0] == b'\n' => break,
                Ok(_) if line.len() == LINE_BYTES_MAX => {
                    return Err(unexpected("a line that does not end"));
                }
                Ok(_) => line.push(byte[0]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(plain(error, patience)),
            }
        }
        String::from_utf8(line).map_err(|_| unexpected("a line that is not text"))
    }

    /// Sends a descriptor, with one byte.
    pub fn send_descriptor(&mut self, descriptor: BorrowedFd<'_>) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors = [descriptor];
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        let bytes = [IoSlice::new(b".")];
        sendmsg(&self.stream, &bytes, &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// The descriptor that comes with the next byte. A program that this one starts does not inherit it.
    pub fn receive_descriptor(&mut self) -> io::Result<OwnedFd> {
        self.wait_until(Instant::now() + PATIENCE)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let mut bytes = [IoSliceMut::new(&mut byte)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let received = recvmsg(&self.stream, &mut bytes, &mut control, flags)
            .map_err(|error| plain(error.into(), PATIENCE))?;
        if received.bytes == 0 {
            return Err(gone());
        }
        let mut descriptors = control.drain().flat_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => descriptors.collect::<Vec<_>>(),
            _ => Vec::new(),
        });
        descriptors
            .next()
            .ok_or_else(|| unexpected("a byte without a descriptor"))
    }

    /// Has the next read wait until a deadline at most.
    fn wait_until(&self, deadline: Instant) -> io::Result<()> {
        let left = deadline.saturating_duration_since(Instant::now());
        // Zero would mean for ever.
        let left = left.max(Duration::from_millis(1));
        self.stream.set_read_timeout(Some(left))
    }
}

pub fn unexpected(got: &str) -> io::Error {
    let why = format!("the other process sent {got}");
    io::Error::new(io::ErrorKind::InvalidData, why)
}

fn gone() -> io::Error {
    let why = "the other process has ended the connection";
    io::Error::new(io::ErrorKind::UnexpectedEof, why)
}

fn plain(error: io::Error, patience: Duration) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            let why = format!(
                "the other process was silent for {} seconds",
                patience.as_secs()
            );
            io::Error::new(io::ErrorKind::TimedOut, why)
        }
        _ => error,
    }
}
