//! Lines and descriptors between two processes of one user.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recv, recvmsg, sendmsg,
};

/// The first line of both sides, with the version behind it.
pub const GREETING: &str = "waterwheel takeover ";

/// Changes when a process of one version could misunderstand one of another.
pub const VERSION: &str = "1";

/// The beginning of a line that says why there is no answer.
pub const ERROR: &str = "error: ";

/// How long the other process may be silent, where it has nothing to wait for.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// How long a handover may take, from the greeting of a successor until it is ready; its engine may have to connect.
/// After it the running process goes on serving, and waits for another successor.
pub const HANDOVER_TIMEOUT: Duration = Duration::from_secs(60);

/// The longest line, in bytes. An address has at most some 260.
const LINE_BYTES_MAX: usize = 1024;

/// A Unix socket to another process of the same user.
pub struct Line {
    stream: UnixStream,
    /// When all of the handover must be over, and how long it may have taken then.
    end: Option<(Instant, Duration)>,
}

impl Line {
    /// # Errors
    ///
    /// When the other process belongs to another user.
    pub fn new(stream: UnixStream) -> io::Result<Line> {
        stream.set_nonblocking(false)?;
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
        Ok(Line { stream, end: None })
    }

    /// Bounds the time of everything that follows, however often the other process sends something.
    pub fn end_after(&mut self, timeout: Duration) {
        self.end = Some((Instant::now() + timeout, timeout));
    }

    pub fn send(&mut self, line: &str) -> io::Result<()> {
        let left = self.time_left(Instant::now() + PATIENCE);
        self.stream.set_write_timeout(Some(left))?;
        let sent = self.stream.write_all(format!("{line}\n").as_bytes());
        sent.map_err(|error| self.plain(error, PATIENCE))
    }

    /// Whether the other process has sent something that was not read, or has gone.
    pub fn has_news(&self) -> bool {
        let mut byte = [0];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        recv(&self.stream, &mut byte, flags) != Err(rustix::io::Errno::AGAIN)
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
            // The next byte may be there already, and the one behind it.
            if self.end.is_some_and(|(end, _)| end <= Instant::now()) {
                return Err(self.plain(io::ErrorKind::TimedOut.into(), patience));
            }
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
                Err(error) => return Err(self.plain(error, patience)),
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
        let received = loop {
            match recvmsg(&self.stream, &mut bytes, &mut control, flags) {
                Ok(received) => break received,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(self.plain(error.into(), PATIENCE)),
            }
        };
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
        self.stream.set_read_timeout(Some(self.time_left(deadline)))
    }

    /// The time until a deadline, or until the end of the handover.
    fn time_left(&self, deadline: Instant) -> Duration {
        let end = self.end.map_or(deadline, |(end, _)| end.min(deadline));
        let left = end.saturating_duration_since(Instant::now());
        // Zero would mean for ever.
        left.max(Duration::from_millis(1))
    }

    /// An error with the reason of a timeout.
    fn plain(&self, error: io::Error, patience: Duration) -> io::Error {
        if !matches!(
            error.kind(),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
        ) {
            return error;
        }
        let why = match self.end {
            Some((end, timeout)) if end <= Instant::now() => format!(
                "the other process was not ready within {} seconds",
                timeout.as_secs()
            ),
            _ => format!(
                "the other process was silent for {} seconds",
                patience.as_secs()
            ),
        };
        io::Error::new(io::ErrorKind::TimedOut, why)
    }
}

/// Whether an error says that the other process has ended the connection.
pub fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}

pub fn unexpected(got: &str) -> io::Error {
    let why = format!("the other process sent {got}");
    io::Error::new(io::ErrorKind::InvalidData, why)
}

fn gone() -> io::Error {
    let why = "the other process has ended the connection";
    io::Error::new(io::ErrorKind::UnexpectedEof, why)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_handover_has_one_deadline_whatever_the_other_process_sends() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut line = Line::new(ours).unwrap();
        let sender = thread::spawn(move || while theirs.write_all(b"take a\n").is_ok() {});
        line.end_after(Duration::from_millis(100));
        let error = loop {
            match line.receive(PATIENCE) {
                Ok(order) => assert_eq!(order, "take a"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(error.to_string().contains("not ready within"), "{error}");
        drop(line);
        sender.join().unwrap();
    }

    #[test]
    fn news_are_a_line_or_the_end() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut line = Line::new(ours).unwrap();
        assert!(!line.has_news());
        theirs.write_all(b"a\n").unwrap();
        assert!(line.has_news());
        line.receive(PATIENCE).unwrap();
        assert!(!line.has_news());
        drop(theirs);
        assert!(line.has_news());
        assert!(is_gone(&line.receive(PATIENCE).unwrap_err()));
    }
}
