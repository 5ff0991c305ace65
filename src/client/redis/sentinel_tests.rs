//! The client with small sentinels and servers in a simulation.

use std::collections::BTreeMap;
use std::time::Duration;

use super::small_server::SmallServer;
use super::*;
use crate::reactor::sim::Sim;

/// The ports of the sentinels.
const SENTINELS: [u16; 3] = [5000, 5001, 5002];

/// The ports of the servers.
const SERVERS: [u16; 2] = [7000, 7001];

const URL: &str = "redis+sentinel://127.0.0.1:5000,127.0.0.1:5001,127.0.0.1:5002/m";

/// The behaviour of a sentinel.
#[derive(Clone, Copy, PartialEq)]
enum Says {
    Master(u16),
    UnknownName,
    /// It takes the question.
    Silence,
}

struct World {
    says: [Says; 3],
    /// The port of the server that is a master.
    master: u16,
    /// The sentinels that were asked.
    asked: Vec<u16>,
    servers: BTreeMap<ConnId, (u16, SmallServer)>,
    states: Vec<&'static str>,
    outcomes: Vec<String>,
}

fn listen(reactor: &mut Reactor<World>) -> io::Result<()> {
    for (index, port) in SENTINELS.into_iter().enumerate() {
        reactor.stream(&*format!("127.0.0.1:{port}"), move |stream| {
            stream.on_data(move |stream, bytes| {
                assert!(bytes.ends_with(b"$1\r\nm\r\n"), "the question is one write");
                stream.state.asked.push(port);
                let answer = match stream.state.says[index] {
                    Says::Master(port) => format!("*2\r\n$9\r\n127.0.0.1\r\n$4\r\n{port}\r\n"),
                    Says::UnknownName => "*-1\r\n".to_owned(),
                    Says::Silence => return,
                };
                stream.reactor.send(stream.id, answer.as_bytes());
            });
        })?;
    }
    for port in SERVERS {
        reactor.stream(&*format!("127.0.0.1:{port}"), move |stream| {
            stream.on_open(move |stream| {
                let server = (port, SmallServer::new(true));
                stream.state.servers.insert(stream.id, server);
            });
            stream.on_data(move |stream, bytes| {
                let world = &mut *stream.state;
                let Some((_, server)) = world.servers.get_mut(&stream.id) else {
                    return;
                };
                server.is_replica = world.master != port;
                let replies = server.receive(bytes);
                stream.reactor.send(stream.id, replies);
            });
            stream.on_close(|stream, _| _ = stream.state.servers.remove(&stream.id));
        })?;
    }
    Ok(())
}

struct Run {
    sim: Sim<World>,
    redis: Redis<World>,
    /// The states that [`until`](Self::until) has returned.
    seen_count: usize,
}

impl Run {
    fn new(url: &str, says: [Says; 3], master: u16) -> Run {
        let world = World {
            says,
            master,
            asked: Vec::new(),
            servers: BTreeMap::new(),
            states: Vec::new(),
            outcomes: Vec::new(),
        };
        let mut sim = Sim::new(world, listen);
        let redis = Redis::connect_with(sim.reactor(), url, 1).unwrap();
        redis.on_connected(|cx| cx.state.states.push("connected"));
        redis.on_lost(|cx| cx.state.states.push("lost"));
        Run {
            sim,
            redis,
            seen_count: 0,
        }
    }

    fn advance(&mut self, millis: u64) {
        self.sim.advance(Duration::from_millis(millis));
    }

    /// Advances until this state was told behind those before, and returns how many milliseconds it took.
    fn until(&mut self, state: &'static str) -> u64 {
        self.seen_count += 1;
        for millis in 0..60_000 {
            let seen_count = self.seen_count;
            let states = &self.sim.state().states;
            if seen_count <= states.len() {
                assert_eq!(states[seen_count - 1], state);
                return millis;
            }
            self.advance(1);
        }
        panic!("not {state}: {:?}", self.sim.state().states);
    }

    /// The ports of the servers that the client is connected to.
    fn ports(&mut self) -> Vec<u16> {
        let servers = self.sim.state().servers.values();
        servers.map(|(port, _)| *port).collect()
    }

    fn take_asked(&mut self) -> Vec<u16> {
        std::mem::take(&mut self.sim.state().asked)
    }

    fn set(&mut self) {
        let words = ["SET", "key", "value"];
        self.redis.command(self.sim.reactor(), words, |cx, reply| {
            let text = format!("{:?}", reply.map(|reply| reply.as_error().is_none()));
            cx.state.outcomes.push(text);
        });
        self.sim.settle();
    }
}

#[test]
fn sentinels_are_asked_in_turn_and_the_one_that_answered_first_the_next_time() {
    for (protocol, connection_count) in [("", 1), ("?protocol=2", 2)] {
        let says = [Says::Silence, Says::UnknownName, Says::Master(7001)];
        let mut run = Run::new(&format!("{URL}{protocol}"), says, 7001);
        run.advance(999);
        assert!(!run.redis.is_connected());
        run.until("connected");
        assert_eq!(run.take_asked(), SENTINELS);
        assert_eq!(run.ports(), vec![7001; connection_count]);
        run.advance(60_000);
        let asked = run.take_asked();
        assert!((58..=60).contains(&asked.len()), "{asked:?}");
        assert!(asked.iter().all(|port| *port == 5002), "{asked:?}");
        assert_eq!(run.sim.state().states, ["connected"]);
        let id = *run.sim.state().servers.keys().next().unwrap();
        run.sim.reactor().reset(id);
        run.until("lost");
        run.until("connected");
        assert_eq!(run.take_asked(), [5002]);
    }
}

#[test]
fn sentinels_that_do_not_know_the_master_are_not_asked_at_full_speed() {
    for says in [
        Says::UnknownName,
        Says::Silence,
        Says::Master(7000),
        Says::Master(9),
    ] {
        let mut run = Run::new(URL, [says; 3], 7001);
        run.advance(60_000);
        let asked_count = run.take_asked().len();
        assert!((6..90).contains(&asked_count), "asked {asked_count} times");
        assert_eq!(run.sim.state().states, [""; 0]);
        // The name of the address is right from now on.
        run.sim.state().says[1] = Says::Master(7001);
        run.until("connected");
        assert_eq!(run.ports(), [7001]);
    }
}

#[test]
fn another_master_is_noticed_while_the_old_one_still_answers() {
    let mut run = Run::new(URL, [Says::Master(7000); 3], 7000);
    run.until("connected");
    // One sentinel alone may be wrong.
    run.sim.state().says[0] = Says::Master(7001);
    run.advance(60_000);
    assert_eq!(run.sim.state().states, ["connected"]);
    run.sim.state().says = [Says::Master(7001); 3];
    run.sim.state().master = 7001;
    let millis = run.until("lost");
    assert!(millis <= 3100, "noticed after {millis} ms");
    run.until("connected");
    assert_eq!(run.ports(), [7001]);
    // Sentinels that are away are no reason to leave a master.
    run.sim.state().says = [Says::Silence; 3];
    run.advance(60_000);
    assert_eq!(run.sim.state().states, ["connected", "lost", "connected"]);
}

// A sentinel that does not answer must not count as bytes of the master.
#[test]
fn a_silent_master_is_noticed_while_sentinels_are_silent() {
    let mut run = Run::new(URL, [Says::Master(7000); 3], 7000);
    run.until("connected");
    run.sim.state().says = [Says::Silence; 3];
    run.sim.state().servers.clear();
    // The server is gone from the table, so that it answers nothing.
    let millis = run.until("lost");
    assert!(millis <= 10_000, "noticed after {millis} ms");
}

#[test]
fn a_master_that_refuses_to_write_is_left() {
    let mut run = Run::new(URL, [Says::Master(7000); 3], 7000);
    run.until("connected");
    run.set();
    run.sim.state().says = [Says::Master(7001); 3];
    run.sim.state().master = 7001;
    run.set();
    run.until("lost");
    run.until("connected");
    run.set();
    assert_eq!(
        run.sim.state().outcomes,
        ["Ok(true)", "Ok(false)", "Ok(true)"]
    );
    assert_eq!(run.ports(), [7001]);
}

#[test]
fn a_closed_link_asks_no_more() {
    let mut run = Run::new(URL, [Says::Silence; 3], 7000);
    run.advance(500);
    run.redis.close(run.sim.reactor());
    run.take_asked();
    run.advance(60_000);
    assert_eq!(run.take_asked(), [0; 0]);
}
