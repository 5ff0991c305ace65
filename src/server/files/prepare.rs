//! The first operation for an answer with a file: open it, see what it is, check the conditions of the request, and
//! read the first piece. A small file needs no second one.
//!
//! Everything here may block, and runs off the loop.

use std::fs::{File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use crate::protocol::http::{
    Conditions, EntityTag, FileState, Part, Selected, Status, Validators, format_date,
};
use crate::reactor::file_work::{FileCloser, FilePermit};

use super::place::{Opened, Place, status_of};

/// The most that is read at a time, in bytes. So much of a body is in memory beside the connection's queue.
pub(super) const PIECE_BYTES: usize = 256 * 1024;

/// An answer with a file that is to be made.
pub(super) struct Order {
    pub(super) place: Place,
    /// `None` for an answer that is sent whole, whatever the client has.
    pub(super) conditions: Option<Conditions>,
    /// Whether only the head is sent.
    pub(super) is_head_request: bool,
    pub(super) closer: FileCloser,
}

/// The result of an order.
pub(super) enum Prepared {
    /// The file itself, or a part of it.
    Body(FileHead, Pieces),
    /// An answer about the file that has no part of it: 304, 412, 416.
    WithoutBody(Status, FileHead),
    /// A folder was asked for without the slash behind its name. The answer says where it is.
    Folder(String),
    /// There is no file to send. The error is that of the system, for the log.
    Refused(Status, Option<io::Error>),
}

/// The part of the answer's head that follows from the file.
#[derive(Debug)]
pub(super) struct FileHead {
    pub(super) content_type: &'static str,
    pub(super) tag: String,
    /// The value of `Last-Modified`, unless the file may change again within that second.
    pub(super) modified: Option<String>,
    /// The value of `Content-Range`, for 206 and 416.
    pub(super) content_range: Option<String>,
}

/// The body of the answer: the first piece, and where the others come from.
pub(super) struct Pieces {
    pub(super) length_bytes: u64,
    /// All of the body where there is no rest.
    pub(super) first: Vec<u8>,
    pub(super) rest: Option<FileBody>,
}

/// A file that is being sent. Other changes of the file are seen in what is sent; its length is the one that was
/// announced, or the connection ends.
pub(super) struct FileBody {
    /// `None` when all of it was read.
    file: Option<File>,
    closer: FileCloser,
    left_bytes: u64,
    place: Place,
    permit: Option<FilePermit>,
}

/// The reason why no next piece was read.
#[derive(Debug)]
pub(super) enum PieceError {
    /// The file has become shorter since its length was announced.
    Shrunk,
    Io(io::Error),
}

impl FileBody {
    /// Reads the next piece. There must be one.
    pub(super) fn read_piece(&mut self) -> Result<Vec<u8>, PieceError> {
        let Some(file) = &mut self.file else {
            return Err(PieceError::Shrunk);
        };
        let piece = read_up_to(file, self.left_bytes).map_err(PieceError::Io)?;
        if piece.len() as u64 != self.left_bytes.min(PIECE_BYTES as u64) {
            return Err(PieceError::Shrunk);
        }
        self.left_bytes -= piece.len() as u64;
        if self.left_bytes == 0 {
            self.file = None;
        }
        Ok(piece)
    }

    /// Keeps the right to be open for as long as it is.
    pub(super) fn keep_permit(&mut self, permit: FilePermit) {
        self.permit = Some(permit);
    }

    /// Whether all pieces were read.
    pub(super) fn is_read(&self) -> bool {
        self.file.is_none()
    }

    /// The path, for log lines.
    pub(super) fn path(&self) -> PathBuf {
        self.place.to_path()
    }
}

impl Drop for FileBody {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            self.closer.close(file, self.permit.take());
        }
    }
}

/// Reads a piece of at most `bytes`. It is shorter at the end of the file alone.
fn read_up_to(file: &mut File, bytes: u64) -> io::Result<Vec<u8>> {
    let piece_bytes = bytes.min(PIECE_BYTES as u64) as usize;
    let mut piece = vec![0; piece_bytes];
    let mut read_bytes = 0;
    while read_bytes < piece_bytes {
        match file.read(&mut piece[read_bytes..]) {
            Ok(0) => break,
            Ok(count) => read_bytes += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    piece.truncate(read_bytes);
    Ok(piece)
}

/// Carries an order out, at a time since 1970.
pub(super) fn prepare(order: Order, now: Duration) -> Prepared {
    let refused = |error: io::Error| Prepared::Refused(status_of(&error), Some(error));
    match order.place.open() {
        Ok(Opened::File(file, metadata)) => {
            prepare_file(order, file, &metadata, now).unwrap_or_else(refused)
        }
        Ok(Opened::Folder) => match order.place {
            Place::Beneath(beneath) => match beneath.with_slash {
                Some(with_slash) => Prepared::Folder(with_slash),
                None => Prepared::Refused(Status::NOT_FOUND, None),
            },
            Place::Path(_) => Prepared::Refused(Status::NOT_FOUND, None),
        },
        Err(error) => refused(error),
    }
}

fn prepare_file(
    order: Order,
    mut file: File,
    metadata: &Metadata,
    now: Duration,
) -> io::Result<Prepared> {
    let length_bytes = metadata.len();
    let validators = validators_of(metadata, now);
    let mut head = FileHead {
        content_type: order.place.content_type(),
        tag: validators.tag.to_string(),
        // A file that may change within this second would have the same date as before, and a client that has its
        // beginning would get the end of the new one. Source: RFC 9110, section 8.8.2.2.
        modified: validators
            .modified_seconds
            .filter(|_| !validators.tag.is_weak())
            .map(date),
        content_range: None,
    };
    let selected = order.conditions.map_or(Selected::Whole, |conditions| {
        conditions.select(&validators, length_bytes)
    });
    let body_bytes = match selected {
        Selected::Whole => length_bytes,
        Selected::Part(part) => {
            let Part { first, last } = part;
            head.content_range = Some(format!("bytes {first}-{last}/{length_bytes}"));
            file.seek(SeekFrom::Start(first))?;
            part.length_bytes()
        }
        Selected::NotModified => return Ok(Prepared::WithoutBody(Status::NOT_MODIFIED, head)),
        Selected::PreconditionFailed => {
            return Ok(Prepared::WithoutBody(Status::PRECONDITION_FAILED, head));
        }
        Selected::NotSatisfiable => {
            head.content_range = Some(format!("bytes */{length_bytes}"));
            return Ok(Prepared::WithoutBody(Status::RANGE_NOT_SATISFIABLE, head));
        }
    };
    let mut pieces = Pieces {
        length_bytes: body_bytes,
        first: Vec::new(),
        rest: None,
    };
    if order.is_head_request {
        return Ok(Prepared::Body(head, pieces));
    }
    let mut body = FileBody {
        file: Some(file),
        closer: order.closer,
        left_bytes: body_bytes,
        place: order.place,
        permit: None,
    };
    match body.read_piece() {
        Ok(piece) => pieces.first = piece,
        // The head is not sent yet. The file is being written anew, and will be whole soon.
        Err(PieceError::Shrunk) => {
            return Ok(Prepared::Refused(Status::SERVICE_UNAVAILABLE, None));
        }
        Err(PieceError::Io(error)) => return Err(error),
    }
    pieces.rest = (!body.is_read()).then_some(body);
    Ok(Prepared::Body(head, pieces))
}

fn validators_of(metadata: &Metadata, now: Duration) -> Validators {
    let modified_nanos = modified_nanos(metadata);
    let now_nanos = now.as_nanos() as i128;
    let state = FileState {
        length_bytes: metadata.len(),
        modified_nanos,
        inode: inode(metadata),
    };
    // A time in the future would be later than the `Date` of the answer. Source: RFC 9110, section 8.8.2.1.
    let modified_seconds = modified_nanos.min(now_nanos).div_euclid(1_000_000_000);
    Validators {
        tag: EntityTag::of_file(state, now_nanos),
        modified_seconds: u64::try_from(modified_seconds).ok(),
    }
}

/// The time of the last modification, in nanoseconds since 1970; 0 where the system does not say.
fn modified_nanos(metadata: &Metadata) -> i128 {
    let modified = metadata.modified().unwrap_or(UNIX_EPOCH);
    match modified.duration_since(UNIX_EPOCH) {
        Ok(since) => since.as_nanos() as i128,
        Err(error) => -(error.duration().as_nanos() as i128),
    }
}

#[cfg(unix)]
fn inode(metadata: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn inode(_: &Metadata) -> u64 {
    0
}

fn date(unix_seconds: u64) -> String {
    let mut out = [0; 29];
    format_date(unix_seconds, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}
