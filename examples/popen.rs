//! A child process as two streams: `EM.popen`. `cargo run --example popen`.

use std::{io, process::Command};

use waterwheel::{ProcessId, Reactor};

pub fn setup(reactor: &mut Reactor<String>) -> io::Result<ProcessId> {
    let child = reactor.process(Command::new("sort"), |process| {
        process.on_stdout(|process, bytes| *process.state += &String::from_utf8_lossy(bytes));
        process.on_exit(|process, exit| {
            println!("{}{exit}", process.state);
            process.reactor.stop();
        });
    })?;
    reactor.send(child.stdin(), "two\none\n");
    reactor.finish_sending(child.stdin());
    Ok(child)
}

fn main() -> io::Result<()> {
    Reactor::run(String::new(), setup).map(drop)
}
