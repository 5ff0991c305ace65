//! Answers with files: what a setup says about a folder, and how a file is sent.
//!
//! ```text
//! send_file ── prepare (off the loop) ──┬── a whole answer, where it fits into one piece
//!                                       └── head, first piece ── pull ──▶ read_piece (off the loop) ── send ──┐
//!                                                                  ▲                                          │
//!                                                                  └── queue below its low watermark ─────────┘
//! ```
//!
//! So a file costs its connection the low watermark of its queue and one piece, however long it is and however
//! slowly its client reads. A client that has gone takes the file with it: the callback that waits for its queue is
//! dropped, and the result of an operation finds the request gone.
//!
//! The file that was opened is sent, also when another one takes its place by a rename. A file that is written to
//! while it is sent is sent as it is read, with the length that it had; if it has become shorter, the connection ends
//! before the announced length, so that the client knows.

pub(super) mod place;
mod prepare;

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::protocol::http::{Conditions, Phase, RelativePath, Status};
use crate::reactor::close::{Close, CloseCause, Deadline};
use crate::reactor::defer::OperationPanicked;
use crate::reactor::file_work::FileOperation;
use crate::reactor::id::ConnId;
use crate::reactor::reactor::Reactor;

use super::reply::{Reply, Responder};
use super::request::Request;
use place::{Beneath, Place, now};
use prepare::{FileBody, FileHead, Order, PIECE_BYTES, PieceError, Pieces, Prepared, prepare};

/// The time after which a client may ask again when there was no place for its file, in seconds.
const RETRY_AFTER_SECONDS: &str = "1";

/// A folder whose files are sent by [`Router::files`](crate::Router::files).
///
/// ```
/// # use waterwheel::FilesOptions;
/// let assets = FilesOptions::new("public/assets").header("Cache-Control", "public, max-age=31536000, immutable");
/// ```
#[derive(Clone, Debug)]
pub struct FilesOptions {
    folder: PathBuf,
    index: Option<Cow<'static, str>>,
    headers: Vec<(Cow<'static, str>, String)>,
}

impl FilesOptions {
    /// A folder, by a path that is absolute or relative to where the process was started. The answer to the path of
    /// a folder is its file `index.html`.
    pub fn new(folder: impl Into<PathBuf>) -> FilesOptions {
        FilesOptions {
            folder: folder.into(),
            index: Some(Cow::Borrowed("index.html")),
            headers: Vec::new(),
        }
    }

    /// Sets the name of the file that is sent for the path of a folder.
    pub fn index(mut self, name: impl Into<Cow<'static, str>>) -> FilesOptions {
        self.index = Some(name.into());
        self
    }

    /// Answers the path of a folder with 404.
    pub fn without_index(mut self) -> FilesOptions {
        self.index = None;
        self
    }

    /// Adds a header to the answers with a file, and to 304: `Cache-Control` above all. Without it a browser guesses
    /// how long a file stays as it is.
    ///
    /// # Panics
    ///
    /// Where [`Reply::try_header`] returns an error.
    pub fn header(
        mut self,
        name: impl Into<Cow<'static, str>>,
        value: impl Into<String>,
    ) -> FilesOptions {
        let (name, value) = (name.into(), value.into());
        if let Err(error) = Reply::check_header(&name, &value) {
            panic!("the header {name:?}: {value:?} cannot be sent: {error}");
        }
        self.headers.push((name, value));
        self
    }

    /// The folder, made ready to be served.
    ///
    /// # Errors
    ///
    /// That of the system when there is no such folder.
    pub(super) fn into_folder(self) -> io::Result<Folder> {
        let named = |error: io::Error| {
            let text = format!("the folder {}: {error}", self.folder.display());
            io::Error::new(error.kind(), text)
        };
        if !std::fs::metadata(&self.folder).map_err(named)?.is_dir() {
            return Err(named(io::ErrorKind::NotADirectory.into()));
        }
        // The process may go elsewhere later. A link stays a link, so that it can be changed.
        let folder = std::path::absolute(&self.folder).map_err(named)?;
        Ok(Folder {
            folder: folder.into(),
            index: self.index,
            headers: self.headers,
        })
    }
}

impl<P: Into<PathBuf>> From<P> for FilesOptions {
    fn from(folder: P) -> FilesOptions {
        FilesOptions::new(folder)
    }
}

/// A folder that is served.
pub(super) struct Folder {
    folder: Arc<Path>,
    index: Option<Cow<'static, str>>,
    headers: Vec<(Cow<'static, str>, String)>,
}

impl Folder {
    /// The answer to a request, for a path that begins behind the slash of this folder; `None` where the request
    /// has left out that slash.
    pub(super) fn reply<S: 'static>(
        &self,
        request: &Request<'_, '_, S>,
        encoded: Option<&str>,
    ) -> Reply {
        let Some(encoded) = encoded else {
            return moved_to(with_slash(request));
        };
        let Some(path) = RelativePath::decode(encoded) else {
            return Status::NOT_FOUND.into();
        };
        let (path, with_slash) = match path.is_folder() {
            false => (path, Some(with_slash(request))),
            true => match &self.index {
                Some(index) => (path.join(index), None),
                None => return Status::NOT_FOUND.into(),
            },
        };
        let beneath = Beneath {
            folder: Arc::clone(&self.folder),
            path,
            with_slash,
        };
        let mut reply = Reply::from_place(Place::Beneath(Box::new(beneath)));
        reply.headers.clone_from(&self.headers);
        reply
    }
}

/// The target of a request with a slash behind its path. The path has no empty segment, so that it cannot be taken
/// for the name of another host.
fn with_slash<S: 'static>(request: &Request<'_, '_, S>) -> String {
    match request.query_string() {
        Some(query) => format!("{}/?{query}", request.path()),
        None => format!("{}/", request.path()),
    }
}

fn moved_to(location: String) -> Reply {
    Reply::from(Status::MOVED_PERMANENTLY).header("Location", location)
}

/// # Answers with files
impl<S: 'static> Reactor<S> {
    /// Sends the file of a reply to the request that was taken for later. The conditions of the request are `None`
    /// where the request is gone already: the file is then sent whole.
    pub(crate) fn send_file(
        &mut self,
        responder: Responder,
        place: Place,
        reply: Reply,
        conditions: Option<Conditions>,
    ) {
        let id = responder.id;
        let Some(exchange) = self.exchange(id) else {
            return;
        };
        exchange.note_answer();
        let is_head_request = exchange.is_head_request();
        self.drop_on_gone(id);
        if !self.has_place_for_file() {
            return self.send_busy(id);
        }
        let order = Order {
            place,
            // Another status, such as that of an error page, is no answer to conditions.
            conditions: conditions.filter(|_| reply.status == Status::OK),
            is_head_request,
            closer: self.file_closer(),
        };
        self.defer_file_work(
            id,
            FileOperation::Open,
            PIECE_BYTES,
            move || prepare(order, now()),
            move |cx, prepared| {
                if cx.reactor.is_at(responder, Phase::Reply) {
                    cx.reactor.send_prepared(responder, reply, prepared);
                }
            },
        );
    }

    fn send_prepared(
        &mut self,
        responder: Responder,
        reply: Reply,
        prepared: Result<Prepared, OperationPanicked>,
    ) {
        let id = responder.id;
        match prepared {
            Ok(Prepared::Body(head, pieces)) => {
                let reply = reply.or_content_type(head.content_type);
                self.send_file_pieces(responder, with_file_head(reply, head), pieces);
            }
            Ok(Prepared::WithoutBody(status, head)) => {
                let mut answer = Reply::from(status);
                if status == Status::NOT_MODIFIED {
                    answer.headers = reply.headers;
                }
                self.send_reply(id, with_file_head(answer, head));
            }
            Ok(Prepared::Folder(location)) => self.send_reply(id, moved_to(location)),
            Ok(Prepared::Refused(status, error)) => {
                if let Some(error) = error {
                    self.log_refusal(id, status, &error);
                }
                match status {
                    Status::SERVICE_UNAVAILABLE => self.send_busy(id),
                    _ => self.send_reply(id, status.into()),
                }
            }
            Err(_) => self.send_reply(id, Status::INTERNAL_SERVER_ERROR.into()),
        }
    }

    fn send_file_pieces(&mut self, responder: Responder, reply: Reply, pieces: Pieces) {
        let id = responder.id;
        let Pieces {
            length_bytes,
            first,
            rest,
        } = pieces;
        let Some(mut body) = rest else {
            if first.len() as u64 == length_bytes {
                return self.send_reply(id, reply.body(first));
            }
            // The answer to HEAD.
            self.begin_body_of(id, reply, Some(length_bytes));
            self.finish_body(id);
            return;
        };
        let Some(permit) = self.permit_file() else {
            return self.send_busy(id);
        };
        body.keep_permit(permit);
        self.begin_body_of(id, reply, Some(length_bytes));
        self.send(id, first);
        self.pull(responder, body);
    }

    /// Answers that there is no place for another file.
    fn send_busy(&mut self, id: ConnId) {
        self.stats_mut().file_refusals += 1;
        let reply = Reply::from(Status::SERVICE_UNAVAILABLE);
        self.send_reply(id, reply.header("Retry-After", RETRY_AFTER_SECONDS));
    }

    /// Reads the next piece when the queue of the connection is below its low watermark.
    fn pull(&mut self, responder: Responder, body: FileBody) {
        let id = responder.id;
        if self.has_room(id) {
            return self.read_piece(responder, body);
        }
        self.on_drain(id, move |cx| cx.reactor.read_piece(responder, body));
    }

    fn read_piece(&mut self, responder: Responder, mut body: FileBody) {
        if !self.is_streaming(responder) {
            return;
        }
        // A disk that hangs must not keep the connection for ever.
        let id = responder.id;
        if let Some(timeout) = self.options_of(id).map(|options| options.reply_timeout) {
            self.set_deadline(id, Deadline::Reply, timeout);
        }
        self.defer_file_work(
            id,
            FileOperation::Read,
            PIECE_BYTES,
            move || {
                let piece = body.read_piece();
                (body, piece)
            },
            move |cx, read| {
                if cx.reactor.is_streaming(responder) {
                    cx.reactor.send_piece(responder, read);
                }
            },
        );
    }

    fn send_piece(
        &mut self,
        responder: Responder,
        read: Result<(FileBody, Result<Vec<u8>, PieceError>), OperationPanicked>,
    ) {
        let id = responder.id;
        self.clear_deadline(id);
        match read {
            Ok((body, Ok(piece))) => {
                self.send(id, piece);
                if body.is_read() {
                    self.finish_body(id);
                } else {
                    self.pull(responder, body);
                }
            }
            Ok((body, Err(error))) => {
                let path = body.path();
                let path = path.display();
                match error {
                    PieceError::Shrunk => {
                        self.cut_file(id, &format_args!("{path}: the file has become shorter"));
                    }
                    PieceError::Io(error) => self.cut_file(id, &format_args!("{path}: {error}")),
                }
            }
            Err(panicked) => self.cut_file(id, &panicked),
        }
    }

    /// Ends a connection before the announced length of its body, so that the client does not take it for whole.
    fn cut_file(&mut self, id: ConnId, why: &dyn std::fmt::Display) {
        self.stats_mut().files_cut += 1;
        if let Some(suppressed) = self.allow_file_line() {
            log::warn!("conn {id}: a file is cut while it is sent: {why}{suppressed}");
        }
        self.finish(id, Close::new(CloseCause::Local), true);
    }

    fn log_refusal(&mut self, id: ConnId, status: Status, error: &io::Error) {
        if matches!(status, Status::NOT_FOUND | Status::FORBIDDEN) {
            log::debug!("conn {id}: a file is not sent: {error}");
        } else if let Some(suppressed) = self.allow_file_line() {
            log::warn!("conn {id}: a file is not sent: {error}{suppressed}");
        }
    }
}

/// Adds the headers that follow from the file, but for those that the application has chosen itself.
fn with_file_head(mut reply: Reply, head: FileHead) -> Reply {
    let FileHead {
        tag,
        modified,
        content_range,
        ..
    } = head;
    if reply.status == Status::OK && content_range.is_some() {
        reply.status = Status::PARTIAL_CONTENT;
    }
    let own = [
        ("ETag", Some(tag)),
        ("Last-Modified", modified),
        ("Accept-Ranges", Some("bytes".to_owned())),
        ("Content-Range", content_range),
    ];
    for (name, value) in own {
        if let Some(value) = value
            && !super::reply::has_header(&reply.headers, name)
        {
            reply.headers.push((Cow::Borrowed(name), value));
        }
    }
    reply
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpStream};
    use std::rc::Rc;
    use std::sync::{RwLock, mpsc};
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::{Config, Sim};

    /// More operations than there are threads for files, and than are under way at a time.
    const OPERATION_COUNT: usize = 40;

    fn file_work(request: &mut Request<'_, '_, ()>, op: impl Fn() + Clone + Send + 'static) {
        let id = request.id;
        for _ in 0..OPERATION_COUNT {
            request
                .reactor
                .defer_file_work(id, FileOperation::Open, 1, op.clone(), |_, _| {});
        }
    }

    fn status(address: SocketAddr, target: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        let head = format!("GET {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.get(9..12).unwrap_or("none").to_owned()
    }

    #[test]
    fn a_disk_that_hangs_stops_files_and_no_operation_of_the_application() {
        // A folder of every checkout, and a file in it.
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let disk = Arc::new(RwLock::new(()));
        let (sender, server) = mpsc::channel();
        let hanging = Arc::clone(&disk);
        let thread = thread::spawn(move || {
            let mut config = Config::default();
            config.options.reply_timeout = Duration::from_millis(200);
            Reactor::run_with(config, (), |reactor| {
                let listener = reactor.http("127.0.0.1:0", |http| {
                    http.files("/static", folder);
                    http.get("/hang", move |request| {
                        let disk = Arc::clone(&hanging);
                        file_work(request, move || drop(disk.read()));
                        request.reply("hangs")
                    });
                    http.get("/deferred", |request| {
                        let responder = request.reply_later();
                        request.reactor.defer(
                            || "fine",
                            move |cx, text| cx.reactor.reply(responder, text.unwrap_or("panicked")),
                        )
                    });
                })?;
                let Some(crate::Address::Inet(address)) = reactor.local_addr(listener) else {
                    unreachable!("the listener is open");
                };
                sender.send((address, reactor.remote())).unwrap();
                io::Result::Ok(())
            })
        });
        let (address, remote) = server.recv().unwrap();
        let hangs = disk.write().unwrap();
        // It stays, and its operations with it.
        let mut first = TcpStream::connect(address).unwrap();
        first
            .write_all(b"GET /hang HTTP/1.1\r\nHost: h\r\n\r\n")
            .unwrap();
        first.read_exact(&mut [0; 12]).unwrap();
        assert_eq!(status(address, "/static/lib.rs"), "503", "at the deadline");
        assert_eq!(status(address, "/deferred"), "200");
        drop(hangs);
        assert_eq!(status(address, "/static/lib.rs"), "200");
        remote.run(|cx| cx.reactor.stop()).unwrap();
        thread.join().unwrap().unwrap();
    }

    #[test]
    fn an_operation_whose_client_has_gone_is_not_begun() {
        let begun_count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let (count, all_wait) = (Arc::clone(&begun_count), Rc::new(Cell::new(false)));
        let waits = Rc::clone(&all_wait);
        let mut sim = Sim::new((), move |reactor: &mut Reactor<()>| {
            reactor.http("0.0.0.0:80", |http| {
                http.get("/", move |request| {
                    let count = Arc::clone(&count);
                    file_work(request, move || {
                        count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    });
                    waits.set(true);
                    let _ = request.reply_later();
                });
            })
        });
        let client = sim.connect();
        client.write("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        while !all_wait.get() {
            sim.turn();
        }
        client.reset();
        sim.settle();
        let begun_count = begun_count.load(std::sync::atomic::Ordering::Relaxed);
        assert!(begun_count < OPERATION_COUNT, "{begun_count}");
        assert_eq!(sim.reactor().gauges().queued_bytes, 0);
    }
}
