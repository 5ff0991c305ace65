//! Where a file is, and opening it without a way out of its folder.
//!
//! On Linux the kernel resolves the path below the folder (`openat2`): relative links that stay inside are followed,
//! and one that leads out is refused, also while somebody else renames folders. A kernel or sandbox without that call, and
//! other Unix systems, open name by name and follow no link below the folder. A folder that is itself reached by a
//! link is resolved for each file, so that a new version can be deployed by changing that link.
//!
//! Only regular files are handed out. Opening never waits for the other side of a pipe.
//!
//! Everything here may block, and runs off the loop.

use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::protocol::http::{RelativePath, Status, content_type_of_name};

/// The place of a file that answers a request.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// A path that the application has chosen. The system resolves it as any other.
    Path(PathBuf),
    /// A path that a client has chosen, below a folder.
    Beneath(Box<Beneath>),
}

/// A path below a folder.
#[derive(Clone, Debug)]
pub(crate) struct Beneath {
    pub(super) folder: Arc<Path>,
    pub(super) path: RelativePath,
    /// The answer to a client that has left out the slash behind the path of a folder: where it is.
    pub(super) with_slash: Option<String>,
}

/// The result of opening a place.
#[derive(Debug)]
pub(super) enum Opened {
    File(File, Metadata),
    /// A folder, which is not handed out.
    Folder,
}

impl Place {
    /// Opens the file.
    ///
    /// # Errors
    ///
    /// That of the system; see [`status_of`].
    pub(super) fn open(&self) -> io::Result<Opened> {
        let file = match self {
            Place::Path(path) => open_path(path)?,
            Place::Beneath(beneath) => open_beneath(&beneath.folder, beneath.path.as_str())?,
        };
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Ok(Opened::Folder);
        }
        match metadata.is_file() {
            true => Ok(Opened::File(file, metadata)),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// The content type that follows from its name.
    pub(super) fn content_type(&self) -> &'static str {
        match self {
            Place::Path(path) => {
                let name = path.file_name().unwrap_or_default();
                content_type_of_name(&name.to_string_lossy())
            }
            Place::Beneath(beneath) => content_type_of_name(beneath.path.as_str()),
        }
    }

    /// The path, for log lines.
    pub(super) fn to_path(&self) -> PathBuf {
        match self {
            Place::Path(path) => path.clone(),
            Place::Beneath(beneath) => beneath.folder.join(beneath.path.as_str()),
        }
    }
}

/// The time since 1970. Files have times of this clock, also in a simulation.
pub(super) fn now() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// As [`now`], in seconds.
pub(crate) fn unix_seconds() -> u64 {
    now().as_secs()
}

/// The status for a file that cannot be opened or read.
pub(super) fn status_of(error: &io::Error) -> Status {
    use io::ErrorKind::{
        CrossesDevices, InvalidFilename, NotADirectory, NotFound, OutOfMemory, PermissionDenied,
        WouldBlock,
    };
    #[cfg(unix)]
    {
        use nix::errno::Errno;
        // The standard library has no stable kinds for these.
        match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ELOOP | Errno::ENXIO | Errno::ENODEV) => return Status::NOT_FOUND,
            Some(Errno::EMFILE | Errno::ENFILE) => return Status::SERVICE_UNAVAILABLE,
            Some(_) | None => {}
        }
    }
    match error.kind() {
        NotFound | NotADirectory | InvalidFilename | CrossesDevices => Status::NOT_FOUND,
        PermissionDenied => Status::FORBIDDEN,
        OutOfMemory | WouldBlock => Status::SERVICE_UNAVAILABLE,
        _ => Status::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(unix)]
use unix::{open_beneath, open_path};

#[cfg(unix)]
mod unix {
    use std::fs::File;
    use std::io;
    use std::os::fd::OwnedFd;
    use std::path::Path;

    use nix::errno::Errno;
    use nix::fcntl::{OFlag, open, openat};
    use nix::sys::stat::Mode;

    /// The flags for a file. A pipe would otherwise wait for its other side, and a terminal become that of the
    /// process.
    fn file_flags() -> OFlag {
        OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY
    }

    /// The flags for a folder that is only gone through, which needs no right to list it where the system knows
    /// the difference.
    fn folder_flags() -> OFlag {
        #[cfg(target_os = "linux")]
        let access = OFlag::O_PATH;
        #[cfg(not(target_os = "linux"))]
        let access = OFlag::O_RDONLY;
        access | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC
    }

    /// Calls again after a signal.
    fn uninterrupted<T>(mut call: impl FnMut() -> nix::Result<T>) -> nix::Result<T> {
        loop {
            match call() {
                Err(Errno::EINTR) => {}
                result => return result,
            }
        }
    }

    pub(super) fn open_path(path: &Path) -> io::Result<File> {
        let fd = uninterrupted(|| open(path, file_flags(), Mode::empty()))?;
        Ok(File::from(fd))
    }

    pub(super) fn open_beneath(folder: &Path, path: &str) -> io::Result<File> {
        let folder = uninterrupted(|| open(folder, folder_flags(), Mode::empty()))?;
        // The folder itself, for a file there that is not named.
        let path = if path.is_empty() { "." } else { path };
        #[cfg(target_os = "linux")]
        match open_resolved(&folder, path) {
            // The kernel is older than 5.6, a sandbox forbids the call, or folders are renamed all the time.
            Err(Errno::ENOSYS | Errno::EPERM | Errno::EAGAIN) => {}
            result => return Ok(File::from(result?)),
        }
        Ok(File::from(open_by_name(folder, path)?))
    }

    /// Has the kernel resolve the path below the folder.
    #[cfg(target_os = "linux")]
    pub(super) fn open_resolved(folder: &OwnedFd, path: &str) -> nix::Result<OwnedFd> {
        use nix::fcntl::{OpenHow, ResolveFlag, openat2};
        let how = OpenHow::new()
            .flags(file_flags())
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        uninterrupted(|| openat2(folder, path, how))
    }

    /// Opens one name after the other, and follows no link.
    pub(super) fn open_by_name(folder: OwnedFd, path: &str) -> nix::Result<OwnedFd> {
        let mut folder = folder;
        let mut names = path.split('/').peekable();
        loop {
            let name = names.next().unwrap_or(".");
            // Decoding lets no such name through. Here it would be a way out.
            if name == ".." {
                return Err(Errno::ENOENT);
            }
            let is_last = names.peek().is_none();
            let flags = if is_last {
                file_flags()
            } else {
                folder_flags()
            };
            let flags = flags | OFlag::O_NOFOLLOW;
            let fd = uninterrupted(|| openat(&folder, name, flags, Mode::empty()))?;
            if is_last {
                return Ok(fd);
            }
            folder = fd;
        }
    }
}

#[cfg(not(unix))]
fn open_path(path: &Path) -> io::Result<File> {
    File::open(path)
}

/// Without calls that resolve a path below a folder, the path is resolved first and then compared. That holds
/// against links that are there, and not against somebody who changes folders in between.
#[cfg(not(unix))]
fn open_beneath(folder: &Path, path: &str) -> io::Result<File> {
    let folder = folder.canonicalize()?;
    let path = folder.join(path).canonicalize()?;
    match path.starts_with(&folder) {
        true => File::open(path),
        false => Err(io::ErrorKind::NotFound.into()),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs;
    use std::io::Read;
    use std::os::fd::OwnedFd;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// A folder that is removed at the end of the test, with another one beside it.
    struct Folders(PathBuf);

    impl Folders {
        fn new(name: &str) -> Folders {
            let path =
                std::env::temp_dir().join(format!("waterwheel-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(path.join("public/sub/deep")).unwrap();
            fs::create_dir_all(path.join("private")).unwrap();
            fs::write(path.join("public/a.txt"), "a").unwrap();
            fs::write(path.join("public/sub/b.txt"), "b").unwrap();
            fs::write(path.join("private/secret.txt"), "secret").unwrap();
            Folders(path)
        }

        fn public(&self) -> PathBuf {
            self.0.join("public")
        }
    }

    impl Drop for Folders {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn read(mut file: File) -> String {
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        text
    }

    fn beneath(folder: &Path, path: &str) -> Place {
        Place::Beneath(Box::new(Beneath {
            folder: folder.into(),
            path: RelativePath::decode(path).unwrap(),
            with_slash: None,
        }))
    }

    /// The text of the file, or the status of the answer.
    fn text_or_status(place: &Place) -> Result<String, Status> {
        match place.open() {
            Ok(Opened::File(file, _)) => Ok(read(file)),
            Ok(Opened::Folder) => Ok("a folder".to_owned()),
            Err(error) => Err(status_of(&error)),
        }
    }

    fn by_name(folder: &Path, path: &str) -> io::Result<String> {
        let folder = OwnedFd::from(File::open(folder).unwrap());
        Ok(read(File::from(unix::open_by_name(folder, path)?)))
    }

    #[test]
    fn files_below_a_folder_and_links_that_lead_out() {
        let folders = Folders::new("links");
        let public = folders.public();
        let link = |target: &str, name: &str| symlink(target, public.join(name)).unwrap();
        link("a.txt", "inside.txt");
        link("sub/../a.txt", "inside_by_dots.txt");
        link("sub", "inside_folder");
        link("../private/secret.txt", "outside.txt");
        link("../private", "outside_folder");
        link("../public/a.txt", "out_and_back.txt");
        link("/etc/passwd", "absolute");
        link(public.join("a.txt").to_str().unwrap(), "absolute_inside");
        link("/proc/self/root", "magic");
        link("circle", "circle");
        link("missing", "dangling");
        let found = |text: &str| Ok(text.to_owned());
        // Each with the result where the kernel resolves links, and without them.
        for (path, resolved, without_links) in [
            ("a.txt", found("a"), found("a")),
            ("sub/b.txt", found("b"), found("b")),
            ("inside.txt", found("a"), Err(Status::NOT_FOUND)),
            ("inside_by_dots.txt", found("a"), Err(Status::NOT_FOUND)),
            ("inside_folder/b.txt", found("b"), Err(Status::NOT_FOUND)),
            (
                "outside.txt",
                Err(Status::NOT_FOUND),
                Err(Status::NOT_FOUND),
            ),
            (
                "outside_folder/secret.txt",
                Err(Status::NOT_FOUND),
                Err(Status::NOT_FOUND),
            ),
            (
                "out_and_back.txt",
                Err(Status::NOT_FOUND),
                Err(Status::NOT_FOUND),
            ),
            ("absolute", Err(Status::NOT_FOUND), Err(Status::NOT_FOUND)),
            (
                "absolute_inside",
                Err(Status::NOT_FOUND),
                Err(Status::NOT_FOUND),
            ),
            (
                "magic/etc/passwd",
                Err(Status::NOT_FOUND),
                Err(Status::NOT_FOUND),
            ),
            ("circle", Err(Status::NOT_FOUND), Err(Status::NOT_FOUND)),
            ("dangling", Err(Status::NOT_FOUND), Err(Status::NOT_FOUND)),
            ("missing", Err(Status::NOT_FOUND), Err(Status::NOT_FOUND)),
            (
                "missing/a.txt",
                Err(Status::NOT_FOUND),
                Err(Status::NOT_FOUND),
            ),
            (
                "a.txt/b.txt",
                Err(Status::NOT_FOUND),
                Err(Status::NOT_FOUND),
            ),
        ] {
            let without = by_name(&public, path).map_err(|error| status_of(&error));
            assert_eq!(without, without_links, "{path}");
            #[cfg(target_os = "linux")]
            {
                let folder = OwnedFd::from(File::open(&public).unwrap());
                // A kernel or sandbox without the call has the other results.
                let is_there = unix::open_resolved(&folder, ".").is_ok();
                let expected = if is_there { resolved } else { without_links };
                assert_eq!(text_or_status(&beneath(&public, path)), expected, "{path}");
            }
            #[cfg(not(target_os = "linux"))]
            drop(resolved);
        }
        let chosen = Place::Path(public.join("outside.txt"));
        assert_eq!(
            text_or_status(&chosen),
            found("secret"),
            "the application may follow links"
        );
    }

    #[test]
    fn a_name_that_decoding_would_refuse_is_no_way_out() {
        let folders = Folders::new("dots");
        for path in [
            "../private/secret.txt",
            "sub/../../private/secret.txt",
            "/etc/passwd",
        ] {
            for result in [
                open_beneath(&folders.public(), path).map(read),
                by_name(&folders.public(), path),
            ] {
                let status = result.map_err(|error| status_of(&error));
                assert_eq!(status, Err(Status::NOT_FOUND), "{path}");
            }
        }
    }

    #[test]
    fn a_folder_that_becomes_a_link_meanwhile_is_no_way_out() {
        let folders = Folders::new("race");
        let public = folders.public();
        fs::write(public.join("sub/x"), "public").unwrap();
        fs::write(folders.0.join("private/x"), "private").unwrap();
        symlink("../private", public.join("link")).unwrap();
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let rename = |from: &str, to: &str| {
                    fs::rename(public.join(from), public.join(to)).unwrap();
                };
                while !is_over.load(Ordering::Relaxed) {
                    rename("sub", "away");
                    rename("link", "sub");
                    rename("sub", "link");
                    rename("away", "sub");
                }
            });
            let place = beneath(&public, "sub/x");
            let texts: Vec<Option<String>> = (0..2000)
                .flat_map(|_| [text_or_status(&place).ok(), by_name(&public, "sub/x").ok()])
                .collect();
            is_over.store(true, Ordering::Relaxed);
            assert!(!texts.contains(&Some("private".to_owned())));
        });
    }

    #[test]
    fn only_regular_files_are_handed_out() {
        let folders = Folders::new("kinds");
        let public = folders.public();
        let made = std::process::Command::new("mkfifo")
            .arg(public.join("pipe"))
            .status();
        assert!(made.unwrap().success());
        let _listener = UnixListener::bind(public.join("socket")).unwrap();
        for name in ["pipe", "socket"] {
            let place = beneath(&public, name);
            assert_eq!(text_or_status(&place), Err(Status::NOT_FOUND), "{name}");
            let place = Place::Path(public.join(name));
            assert_eq!(text_or_status(&place), Err(Status::NOT_FOUND), "{name}");
        }
        let device = Place::Path("/dev/null".into());
        assert_eq!(text_or_status(&device), Err(Status::NOT_FOUND));
        for path in ["", "sub", "sub/deep"] {
            let place = beneath(&public, path);
            assert!(matches!(place.open(), Ok(Opened::Folder)), "{path}");
        }
    }

    #[test]
    fn a_file_without_rights_is_forbidden() {
        let folders = Folders::new("rights");
        let public = folders.public();
        let forbid =
            |path: PathBuf| fs::set_permissions(path, fs::Permissions::from_mode(0o000)).unwrap();
        forbid(public.join("a.txt"));
        forbid(public.join("sub"));
        // The superuser may read every file.
        if File::open(public.join("a.txt")).is_err() {
            for path in ["a.txt", "sub/b.txt"] {
                let place = beneath(&public, path);
                assert_eq!(text_or_status(&place), Err(Status::FORBIDDEN), "{path}");
            }
        }
        fs::set_permissions(public.join("sub"), fs::Permissions::from_mode(0o700)).unwrap();
    }

    #[test]
    fn errors_of_the_system() {
        use nix::errno::Errno;
        for (errno, expected) in [
            (Errno::ENOENT, Status::NOT_FOUND),
            (Errno::ENOTDIR, Status::NOT_FOUND),
            (Errno::ELOOP, Status::NOT_FOUND),
            (Errno::EXDEV, Status::NOT_FOUND),
            (Errno::ENAMETOOLONG, Status::NOT_FOUND),
            (Errno::ENXIO, Status::NOT_FOUND),
            (Errno::EACCES, Status::FORBIDDEN),
            (Errno::EPERM, Status::FORBIDDEN),
            (Errno::EMFILE, Status::SERVICE_UNAVAILABLE),
            (Errno::ENFILE, Status::SERVICE_UNAVAILABLE),
            (Errno::ENOMEM, Status::SERVICE_UNAVAILABLE),
            (Errno::EIO, Status::INTERNAL_SERVER_ERROR),
        ] {
            assert_eq!(status_of(&errno.into()), expected, "{errno}");
        }
    }

    #[test]
    fn a_folder_that_a_link_names_is_resolved_for_each_file() {
        let folders = Folders::new("deploy");
        let current = folders.0.join("current");
        symlink("public", &current).unwrap();
        let place = beneath(&current, "a.txt");
        assert_eq!(text_or_status(&place), Ok("a".to_owned()));
        fs::remove_file(&current).unwrap();
        symlink("private", &current).unwrap();
        assert_eq!(text_or_status(&place), Err(Status::NOT_FOUND));
        let place = beneath(&current, "secret.txt");
        assert_eq!(text_or_status(&place), Ok("secret".to_owned()));
    }
}
