//! Starting a command whose standard streams are pipes to this reactor.

use std::io;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};

use mio::unix::pipe::{Receiver, Sender};

use crate::reactor::child::Stderr;

use super::pipe::PipeWriter;
use super::socket::Socket;

/// Starts a command. Returns the child with our ends of its standard input, output and, if it is separate, error.
///
/// # Errors
///
/// The system's.
pub(crate) fn start(command: &mut Command, stderr: Stderr) -> io::Result<(Child, Vec<Socket>)> {
    command.stdin(Stdio::piped());
    let mut merged = None;
    if stderr == Stderr::Merged {
        let (reader, writer) = io::pipe()?;
        command.stdout(writer.try_clone()?).stderr(writer);
        merged = Some(OwnedFd::from(reader));
    } else {
        command.stdout(Stdio::piped());
    }
    if stderr == Stderr::Separate {
        command.stderr(Stdio::piped());
    }
    let mut child = command.spawn()?;
    let sockets = take_pipes(&mut child, merged);
    if sockets.is_err() {
        // It has run for a moment only, and ends at once.
        let _ = child.kill();
        let _ = child.wait();
    }
    Ok((child, sockets?))
}

fn take_pipes(child: &mut Child, merged: Option<OwnedFd>) -> io::Result<Vec<Socket>> {
    let missing = || io::Error::other("the child has no pipe");
    let stdin = Sender::from(child.stdin.take().ok_or_else(missing)?);
    stdin.set_nonblocking(true)?;
    let stdout = match merged {
        Some(reader) => reader,
        None => OwnedFd::from(child.stdout.take().ok_or_else(missing)?),
    };
    let mut sockets = vec![Socket::PipeWriter(PipeWriter::new(stdin))];
    let stderr = child.stderr.take().map(OwnedFd::from);
    for output in [Some(stdout), stderr].into_iter().flatten() {
        let output = Receiver::from(output);
        output.set_nonblocking(true)?;
        sockets.push(Socket::PipeReader(output));
    }
    Ok(sockets)
}
