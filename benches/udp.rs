//! An echo of UDP beside a bare loop of mio.
//!
//! `cargo bench --bench udp [-- ROUNDS]`; 9 rounds by default. Each round has both servers answer the same datagrams of
//! 64 bytes, with as many on their way as the table says. The figure is datagrams for each second of processor time that
//! the thread of the server has used. It has a processor of its own, and the clients have another one. A ratio is that of two figures of one round; the table has the median, the lowest
//! and the highest. The bare loop reads until nothing is left and answers each datagram as it comes: it has no limits,
//! no queue, no counters and no other sources.

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("it needs the processor time of a thread, as Linux tells it");
}

#[cfg(target_os = "linux")]
fn main() {
    measured::run();
}

#[cfg(target_os = "linux")]
mod measured {
    use std::io;
    use std::net::{SocketAddr, UdpSocket};
    use std::sync::mpsc::{Sender, channel};
    use std::thread;
    use std::time::Duration;

    use mio::{Events, Interest, Poll, Token};
    use nix::time::{ClockId, clock_gettime};
    use rustix::thread::{CpuSet, sched_setaffinity};
    use waterwheel::{Config, EventLoop};

    const DATAGRAM_BYTES: usize = 64;

    /// Datagrams that are on their way at once, and the answers of one measurement.
    const CASES: [(usize, usize); 3] = [(1, 20_000), (16, 100_000), (64, 100_000)];

    /// Ends a server.
    const END: &[u8] = b"end";

    /// Tells where it receives, and answers until the end.
    type Server = fn(&Sender<SocketAddr>) -> io::Result<()>;

    const HOST: &str = "127.0.0.1:0";

    fn waterwheel(address: &Sender<SocketAddr>) -> io::Result<()> {
        let mut event_loop = EventLoop::new(Config::default(), ())?;
        let reactor = event_loop.reactor();
        let id = reactor.udp(HOST, |udp| {
            udp.on_datagram(|udp, bytes, _| {
                if bytes == END {
                    udp.reactor.stop();
                }
                udp.reply(bytes)
            });
        })?;
        address.send(reactor.udp_address(id).unwrap()).unwrap();
        while event_loop.turn(None)? {}
        Ok(())
    }

    fn bare_mio(address: &Sender<SocketAddr>) -> io::Result<()> {
        let mut socket = mio::net::UdpSocket::bind(HOST.parse().unwrap())?;
        let mut poll = Poll::new()?;
        let mut events = Events::with_capacity(1024);
        poll.registry()
            .register(&mut socket, Token(0), Interest::READABLE)?;
        address.send(socket.local_addr()?).unwrap();
        let mut buffer = vec![0; 64 * 1024 + 1];
        loop {
            poll.poll(&mut events, None)?;
            for _ in &events {
                loop {
                    let (length, from) = match socket.recv_from(&mut buffer) {
                        Ok(received) => received,
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                        Err(error) => return Err(error),
                    };
                    if buffer[..length] == *END {
                        return Ok(());
                    }
                    socket.send_to(&buffer[..length], from)?;
                }
            }
        }
    }

    /// Has the calling thread run on one processor alone; otherwise the scheduler decides at random whether a server and
    /// its client run by turns or at once, and the number of polls follows it.
    fn pin(processor: usize) {
        let mut set = CpuSet::new();
        set.set(processor);
        if let Err(error) = sched_setaffinity(None, &set) {
            eprintln!("the thread has no processor of its own: {error}");
        }
    }

    fn used() -> Duration {
        clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
            .unwrap()
            .into()
    }

    /// Returns datagrams for each second of the server's processor time.
    fn measure((name, server): (&str, Server), (on_their_way, answers): (usize, usize)) -> f64 {
        let (sender, receiver) = channel();
        let running = move || {
            pin(0);
            let before = used();
            server(&sender).unwrap();
            used() - before
        };
        // A name for a profile.
        let thread = thread::Builder::new().name(name.to_owned());
        let server = thread.spawn(running).unwrap();
        let address = receiver.recv().unwrap();
        let socket = UdpSocket::bind(HOST).unwrap();
        // A datagram that is lost ends the benchmark.
        let patience = Some(Duration::from_secs(10));
        socket.set_read_timeout(patience).unwrap();
        let datagram = [b'x'; DATAGRAM_BYTES];
        for _ in 0..on_their_way {
            socket.send_to(&datagram, address).unwrap();
        }
        let mut buffer = [0; DATAGRAM_BYTES + 1];
        for received in 1..=answers {
            assert_eq!(socket.recv(&mut buffer).unwrap(), DATAGRAM_BYTES);
            if received + on_their_way <= answers {
                socket.send_to(&datagram, address).unwrap();
            }
        }
        socket.send_to(END, address).unwrap();
        answers as f64 / server.join().unwrap().as_secs_f64()
    }

    fn median(mut figures: Vec<f64>) -> f64 {
        figures.sort_by(f64::total_cmp);
        figures[figures.len() / 2]
    }

    pub(crate) fn run() {
        pin(1);
        // `cargo bench` passes `--bench`.
        let rounds = std::env::args().find_map(|word| word.parse().ok());
        let rounds = rounds.unwrap_or(9);
        println!(
            "datagrams of {DATAGRAM_BYTES} bytes for each second of processor time, {rounds} rounds"
        );
        println!("| on their way | Waterwheel | mio | ratio |");
        println!("|---|---|---|---|");
        for case in CASES {
            let (mut ours, mut bare) = (Vec::new(), Vec::new());
            for round in 0..rounds {
                if round % 2 == 0 {
                    ours.push(measure(("waterwheel", waterwheel), case));
                }
                bare.push(measure(("mio", bare_mio), case));
                if round % 2 == 1 {
                    ours.push(measure(("waterwheel", waterwheel), case));
                }
            }
            let ratios: Vec<f64> = ours.iter().zip(&bare).map(|(a, b)| a / b).collect();
            let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
            let most = ratios.iter().copied().fold(0.0, f64::max);
            println!(
                "| {} | {:.0} | {:.0} | {:.2} ({least:.2}–{most:.2}) |",
                case.0,
                median(ours),
                median(bare),
                median(ratios),
            );
        }
    }
}
