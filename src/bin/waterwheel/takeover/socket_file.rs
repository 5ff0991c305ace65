//! The Unix socket at which a process waits for its successor.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Connects to the process that waits at a path. `None` without one, also where one has left its socket.
///
/// # Errors
///
/// When something else than a socket is there, or the kernel refuses for another reason.
pub fn connect(path: &Path) -> io::Result<Option<UnixStream>> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let folder = path
                .parent()
                .filter(|folder| !folder.as_os_str().is_empty());
            return match folder.is_none_or(Path::is_dir) {
                true => Ok(None),
                // Known before the process listens, so that it refuses no client.
                false => Err(io::Error::new(error.kind(), "there is no such folder")),
            };
        }
        Err(error) => return Err(error),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            let why = "the file is not a socket";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, why));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(stream) => Ok(Some(stream)),
        // The process that made the file has ended.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The file of a socket, which dropping this removes if it is still the same.
pub struct SocketFile {
    path: PathBuf,
    id: (u64, u64),
}

/// Listens at a path, for this user only, and replaces a socket that is there.
///
/// The socket is made beside the path and renamed when its permissions are set: other users can never connect, and
/// the path has a socket at every moment.
///
/// # Errors
///
/// When something else than a socket is there, or the folder cannot be written.
pub fn listen(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let made = path.with_file_name(name);
    // One of an earlier process with this id.
    if fs::symlink_metadata(&made).is_ok_and(|metadata| metadata.file_type().is_socket()) {
        fs::remove_file(&made)?;
    }
    let listener = UnixListener::bind(&made)?;
    let publish = || {
        fs::set_permissions(&made, Permissions::from_mode(0o600))?;
        let id = file_id(&made)?;
        if fs::symlink_metadata(path).is_ok_and(|metadata| !metadata.file_type().is_socket()) {
            let why = "the file is not a socket";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, why));
        }
        fs::rename(&made, path)?;
        Ok(id)
    };
    match publish() {
        Ok(id) => {
            let path = path.to_owned();
            Ok((listener, SocketFile { path, id }))
        }
        Err(error) => {
            let _ = fs::remove_file(&made);
            Err(error)
        }
    }
}

/// Device and inode: which file it is, whatever its path.
fn file_id(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if file_id(&self.path).is_ok_and(|id| id == self.id) {
            let _ = fs::remove_file(&self.path);
        }
    }
}
