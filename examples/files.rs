//! The files of a folder, and one file as a download. `cargo run --example files docs`, then
//! `curl localhost:4570/limits.md` and `curl -C - -O localhost:4570/download`.

use std::io;

use waterwheel::{Address, FilesOptions, Reactor, Reply};

pub fn setup(
    reactor: &mut Reactor<()>,
    address: &str,
    folder: &str,
) -> io::Result<Option<Address>> {
    let options = FilesOptions::new(folder).header("Cache-Control", "no-cache");
    let listener = reactor.http(address, |http| {
        http.get("/download", |request| {
            let file = Reply::file(std::env::current_exe()?);
            request.reply(file.header("Content-Disposition", "attachment; filename=\"example\""));
            io::Result::Ok(())
        });
        http.files("/", options);
    })?;
    Ok(reactor.local_addr(listener))
}

fn main() -> io::Result<()> {
    let folder = std::env::args().nth(1).unwrap_or_else(|| "docs".to_owned());
    Reactor::run((), |reactor| setup(reactor, "0.0.0.0:4570", &folder)).map(drop)
}
