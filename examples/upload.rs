//! Bodies of any length to files, as fast as the disk takes them: `cargo run --example upload`, then
//! `curl -T README.md localhost:4571/upload`, which answers with the path of the file.

use std::{fs, fs::File, io, io::Write};

use waterwheel::{ConnId, Reactor, Router};

pub fn mount(http: &mut Router<()>, folder: &'static str) {
    let at = move |id: ConnId| format!("{folder}/upload-{}", id.to_bits());
    http.method_stream("PUT", "/upload", |upload| {
        upload.body_bytes_max(10_000_000_000);
        upload.on_head(move |request| File::create(at(request.id)));
        upload.on_data(move |upload, bytes| {
            let (id, bytes) = (upload.id, bytes.to_vec());
            let write = move || File::options().append(true).open(at(id))?.write_all(&bytes);
            // The client waits while a thread writes.
            upload.pause();
            upload
                .reactor
                .defer(write, move |cx, written| match written {
                    Ok(Ok(())) => cx.reactor.resume(id),
                    Ok(Err(_)) | Err(_) => cx.reactor.reset(id),
                })
        });
        upload.on_end(move |upload| upload.reply(at(upload.id)));
        upload.on_close(move |upload, _| fs::remove_file(at(upload.id)));
    });
}

fn main() -> io::Result<()> {
    Reactor::run((), |r| r.http("0.0.0.0:4571", |http| mount(http, ".")))
}
