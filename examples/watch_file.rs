//! Prints the changes of a file or folder: `EM.watch_file`. `cargo run --example watch_file PATH`.

use std::error::Error;
use std::path::Path;

use notify::{Event, RecursiveMode, Watcher};
use waterwheel::Reactor;

pub fn setup(reactor: &mut Reactor<Vec<Event>>, path: &Path) -> notify::Result<()> {
    let remote = reactor.remote();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        // An error means that the loop has ended.
        _ = remote.run(|cx| {
            println!("{event:?}");
            event.map(|event| cx.state.push(event))
        });
    })?;
    watcher.watch(path, RecursiveMode::NonRecursive)?;
    // The watch lasts as long as `watcher`.
    reactor.on_end(|_| drop(watcher));
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args_os().nth(1).ok_or("name a path")?;
    Reactor::run(Vec::new(), |reactor| setup(reactor, Path::new(&path)))?;
    Ok(())
}
