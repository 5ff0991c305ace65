//! The files of a folder, and one file as a download. `cargo run --example files docs 0.0.0.0:4570`, then
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
    let words: Vec<String> = std::env::args().collect();
    let word = |index: usize, default| words.get(index).map_or(default, String::as_str);
    let (folder, address) = (word(1, "docs"), word(2, "0.0.0.0:4570"));
    Reactor::run((), |reactor| setup(reactor, address, folder)).map(drop)
}
