//! Bodies of any length to files of their own: `cargo run --example upload`, then
//! `curl -T README.md localhost:4571/upload`, which answers with the path of the file.
//!
//! A file that is not complete goes with the value that holds it, however the upload ends.

use std::io::{self, Write};

use tempfile::NamedTempFile;
use waterwheel::{ConnMap, ListenerId, Reactor, Reply, Router, Status};

pub type Files = ConnMap<NamedTempFile>;

pub fn mount(http: &mut Router<Files>, folder: &'static str) {
    http.method_stream("PUT", "/upload", |upload| {
        upload.body_bytes_max(10_000_000_000);
        upload.on_head(move |request| {
            let file = NamedTempFile::with_prefix_in("upload-", folder)?;
            request.state.insert(request.id, file);
            io::Result::Ok(())
        });
        upload.on_data(|upload, bytes| {
            let (id, bytes) = (upload.id, bytes.to_vec());
            let file = upload.state.get(id).ok_or(Status::CONFLICT)?.as_file();
            let mut file = file
                .try_clone()
                .map_err(|_| Status::INTERNAL_SERVER_ERROR)?;
            // The client waits while a thread writes.
            upload.pause();
            let write = move || file.write_all(&bytes);
            let written = upload
                .reactor
                .defer(write, move |cx, written| match written {
                    Ok(Ok(())) => cx.reactor.resume(id),
                    Ok(Err(_)) | Err(_) => cx.reactor.reset(id),
                });
            // An answer before the end of the body is the last call for this upload.
            written.map_err(|_| {
                upload.state.remove(id);
                Status::SERVICE_UNAVAILABLE
            })
        });
        upload.on_end(|upload| {
            let kept = upload.state.remove(upload.id).map(NamedTempFile::keep);
            match kept {
                Some(Ok((_, path))) => upload.reply(format!("{}\n", path.display())),
                Some(Err(_)) | None => upload.reply(Reply::new(Status::INTERNAL_SERVER_ERROR)),
            }
        });
        upload.on_close(|upload, _| upload.state.remove(upload.id));
    });
}

fn listen(reactor: &mut Reactor<Files>) -> io::Result<ListenerId> {
    reactor.http("0.0.0.0:4571", |http| mount(http, "."))
}

fn main() -> io::Result<()> {
    Reactor::run(Files::default(), listen).map(drop)
}
