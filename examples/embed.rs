//! A reactor inside another event loop: here a `mio::Poll` with a timer, which watches the reactor's
//! descriptor. `cargo run --example embed`.

#[cfg(unix)]
fn main() -> std::io::Result<()> {
    use std::os::fd::AsRawFd;
    use std::time::{Duration, Instant};

    use mio::unix::SourceFd;
    use mio::{Events, Interest, Poll, Token};
    use waterwheel::{Config, EventLoop};

    let mut event_loop = EventLoop::new(Config::default(), ())?;
    event_loop.reactor().websocket("127.0.0.1:8082", |ws| {
        ws.on_message(|ws, message| ws.send(message))
    })?;

    let mut poll = Poll::new()?;
    let descriptor = event_loop.as_raw_fd();
    poll.registry()
        .register(&mut SourceFd(&descriptor), Token(0), Interest::READABLE)?;

    let mut events = Events::with_capacity(16);
    let mut next_line = Instant::now();
    loop {
        if next_line <= Instant::now() {
            println!("{} connections", event_loop.reactor().connection_count());
            next_line += Duration::from_secs(1);
        }
        let until_line = next_line.saturating_duration_since(Instant::now());
        let wait = event_loop
            .next_wakeup()
            .map_or(until_line, |wakeup| wakeup.min(until_line));
        poll.poll(&mut events, Some(wait))?;
        if !event_loop.turn(Some(Duration::ZERO))? {
            return Ok(());
        }
    }
}

#[cfg(not(unix))]
fn main() {
    println!("this example needs a pollable descriptor, which only Unix systems have");
}
