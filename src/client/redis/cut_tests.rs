//! The client against a small server in a simulation. The connection ends after every byte that the server sends.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use super::small_server::SmallServer;
use super::*;
use crate::reactor::sim::Sim;
use crate::reactor::transport::memory::Faults;

type Key = (SubscriptionKind, &'static str);

/// The observations of a run, and the server.
#[derive(Default)]
struct World {
    has_resp3: bool,
    servers: BTreeMap<ConnId, SmallServer>,
    /// Bytes until the server ends the connection, for one connection after the other.
    cuts: Vec<usize>,
    resets: bool,
    sent_bytes: usize,
    repeated: Vec<String>,
    states: Vec<&'static str>,
    outcomes: BTreeMap<u32, Vec<String>>,
    held: BTreeMap<Key, u32>,
    /// Held names for which a confirmation has to come.
    pending: BTreeSet<(SubscriptionKind, String)>,
    /// Names that the client takes to be subscribed.
    confirmed: BTreeSet<(SubscriptionKind, String)>,
    /// Confirmed names when a new connection was made, of which no loss was told.
    lost_in_silence: BTreeSet<(SubscriptionKind, String)>,
    messages: Vec<String>,
}

struct Watch;

impl Listener<World> for Watch {
    fn message(self: Rc<Self>, cx: &mut Cx<'_, World>, message: Message<'_>) {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let (command, name) = (message.kind.subscribe_command(), text(message.name));
        let line = format!("{command} {name}: {}", text(message.payload));
        cx.state.messages.push(line);
    }

    fn subscribed(self: Rc<Self>, cx: &mut Cx<'_, World>, kind: SubscriptionKind, name: &[u8]) {
        let name = String::from_utf8_lossy(name).into_owned();
        cx.state.pending.remove(&(kind, name.clone()));
        cx.state.confirmed.insert((kind, name));
    }

    fn connected(self: Rc<Self>, cx: &mut Cx<'_, World>) {
        cx.state.states.push("all subscribed");
    }

    fn lost(self: Rc<Self>, cx: &mut Cx<'_, World>) {
        cx.state.states.push("not subscribed");
        cx.state.confirmed.clear();
        let held = cx.state.held.keys();
        cx.state.pending = held
            .map(|(kind, name)| (*kind, (*name).to_owned()))
            .collect();
    }
}

const KEYS: [Key; 5] = [
    (SubscriptionKind::Channel, "a"),
    (SubscriptionKind::Channel, "b"),
    (SubscriptionKind::Pattern, "a"),
    (SubscriptionKind::Pattern, "b*"),
    (SubscriptionKind::Sharded, "a"),
];

/// Sends bytes of the server, and ends the connection where the next cut is.
fn send_cut(world: &mut World, reactor: &mut Reactor<World>, id: ConnId, bytes: &[u8]) {
    let Some(left) = world.cuts.first_mut() else {
        world.sent_bytes += bytes.len();
        reactor.send(id, bytes);
        return;
    };
    if bytes.len() <= *left {
        *left -= bytes.len();
        world.sent_bytes += bytes.len();
        reactor.send(id, bytes);
        return;
    }
    let left = *left;
    world.cuts.remove(0);
    world.servers.remove(&id);
    world.sent_bytes += left;
    reactor.send(id, &bytes[..left]);
    match world.resets {
        true => reactor.reset(id),
        false => _ = reactor.close(id),
    }
}

fn listen(reactor: &mut Reactor<World>) -> io::Result<()> {
    let made = reactor.stream("127.0.0.1:6379", |stream| {
        stream.on_open(|stream| {
            let world = &mut *stream.state;
            if world.servers.is_empty() {
                world.lost_in_silence.extend(world.confirmed.clone());
            }
            let server = SmallServer::new(world.has_resp3);
            world.servers.insert(stream.id, server);
        });
        stream.on_data(|stream, bytes| {
            let Some(server) = stream.state.servers.get_mut(&stream.id) else {
                return;
            };
            let replies = server.receive(bytes);
            let repeated = std::mem::take(&mut server.repeated);
            stream.state.repeated.extend(repeated);
            send_cut(stream.state, stream.reactor, stream.id, &replies);
        });
        stream.on_close(|stream, _| _ = stream.state.servers.remove(&stream.id));
    });
    made.map(drop)
}

/// A run of orders that a seed determines.
struct Run {
    sim: Sim<World>,
    redis: Redis<World>,
    random: u64,
    command_count: u32,
    message_count: u32,
}

impl Run {
    fn new(url: &str, has_resp3: bool, seed: u64, cuts: Vec<usize>) -> Run {
        let world = World {
            has_resp3,
            cuts,
            resets: seed % 4 == 3,
            ..World::default()
        };
        let mut sim = Sim::new(world, listen);
        if seed % 2 == 1 {
            let faults = Faults {
                short_reads_percent: 30,
                short_writes_percent: 30,
                ..Faults::default()
            };
            sim.faults(seed, faults);
        }
        let redis = Redis::connect_with(sim.reactor(), url, seed).unwrap();
        redis.set_listener(Rc::new(Watch));
        redis.on_connected(|cx| cx.state.states.push("connected"));
        redis.on_lost(|cx| cx.state.states.push("lost"));
        redis.on_gap(|cx| cx.state.states.push("gap"));
        Run {
            sim,
            redis,
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            command_count: 0,
            message_count: 0,
        }
    }

    fn below(&mut self, end: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 33) as usize % end
    }

    fn command(&mut self) {
        let number = self.command_count;
        self.command_count += 1;
        let words = ["ECHO".to_owned(), number.to_string()];
        let note = move |cx: &mut Cx<'_, World>, reply: Result<Reply<'_>, RedisError>| {
            let text = match reply {
                Ok(reply) => reply.as_str().unwrap_or("no text").to_owned(),
                Err(error) => format!("{error:?}"),
            };
            cx.state.outcomes.entry(number).or_default().push(text);
        };
        self.redis.command(self.sim.reactor(), words, note);
    }

    fn hold(&mut self, (kind, name): Key) {
        let held = self.redis.hold(self.sim.reactor(), kind, name.as_bytes());
        let world = self.sim.state();
        *world.held.entry((kind, name)).or_default() += 1;
        let names = match held {
            Held::Pending => &mut world.pending,
            Held::Active => &mut world.confirmed,
        };
        names.insert((kind, name.to_owned()));
    }

    fn release(&mut self, key: Key) {
        let world = self.sim.state();
        let Some(count) = world.held.get_mut(&key) else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            world.held.remove(&key);
            world.pending.remove(&(key.0, key.1.to_owned()));
            world.confirmed.remove(&(key.0, key.1.to_owned()));
        }
        let reactor = self.sim.reactor();
        self.redis.release(reactor, key.0, key.1.as_bytes());
    }

    /// Publishes to the subscriptions of a name, and returns whether there are any.
    fn publish(&mut self, (kind, name): Key) -> usize {
        self.message_count += 1;
        let payload = self.message_count.to_string();
        let servers = self.sim.state().servers.iter();
        let messages: Vec<_> = servers
            .map(|(id, server)| (*id, server.message(kind, name, &payload)))
            .filter(|(_, message)| !message.is_empty())
            .collect();
        let count = messages.len();
        for (id, message) in messages {
            self.sim.reactor().next_tick(move |cx| {
                send_cut(cx.state, cx.reactor, id, &message);
            });
        }
        count
    }

    fn step(&mut self) {
        let key = KEYS[self.below(KEYS.len())];
        match self.below(10) {
            0..=2 => self.command(),
            3..=5 => self.hold(key),
            6..=7 => self.release(key),
            8 => _ = self.publish(key),
            _ => {
                let millis = [1, 60, 1000, 2100][self.below(4)];
                self.sim.advance(Duration::from_millis(millis));
            }
        }
        if self.below(3) != 0 {
            self.sim.settle();
        }
    }

    fn check(&mut self, name: &str) {
        assert!(self.redis.is_connected(), "{name}");
        let command_count = self.command_count;
        let world = self.sim.state();
        assert_eq!(world.repeated, [""; 0], "subscribed twice: {name}");
        let subscribed: Vec<_> = (world.servers.values())
            .flat_map(SmallServer::names)
            .collect();
        let mut wanted: Vec<_> = (world.held.keys())
            .map(|(kind, name)| format!("{} {name}", kind.subscribe_command()))
            .collect();
        wanted.sort();
        assert_eq!(subscribed, wanted, "{name}");
        assert!(world.pending.is_empty(), "{:?} {name}", world.pending);
        let in_silence = &world.lost_in_silence;
        assert!(in_silence.is_empty(), "{in_silence:?} {name}");
        for number in 0..command_count {
            let outcomes = world.outcomes.get(&number).map_or(&[][..], |it| &it[..]);
            let is_known = match outcomes {
                [one] => {
                    *one == number.to_string()
                        || ["Unknown", "Away", "Full", "TimedOut"].contains(&&**one)
                }
                _ => false,
            };
            assert!(is_known, "command {number}: {outcomes:?} {name}");
        }
        let mut states = &world.states[..];
        let connected = ["all subscribed", "connected"];
        states = states.strip_prefix(&connected).expect(name);
        while !states.is_empty() {
            let again = [
                "not subscribed",
                "lost",
                "all subscribed",
                "connected",
                "gap",
            ];
            let Some(rest) = states.strip_prefix(&again) else {
                panic!("{:?} {name}", world.states);
            };
            states = rest;
        }
        world.messages.clear();
        let held: Vec<Key> = world.held.keys().copied().collect();
        for key in held {
            assert_eq!(self.publish(key), 1, "{name}");
            self.sim.settle();
        }
        self.sim.advance(Duration::from_millis(1));
        let messages = self.sim.state().messages.iter();
        let mut names: Vec<_> = messages
            .map(|line| line.split(':').next().unwrap_or_default().to_owned())
            .collect();
        names.sort();
        assert_eq!(names, wanted, "{name}");
    }
}

/// Runs a seed, and returns how many bytes the server has sent.
fn run(url: &str, has_resp3: bool, seed: u64, cuts: Vec<usize>) -> usize {
    let name = format!("{url} has RESP3: {has_resp3} seed {seed} cuts {cuts:?}");
    let is_whole = cuts.is_empty();
    let mut run = Run::new(url, has_resp3, seed, cuts);
    for _ in 0..24 {
        run.step();
    }
    run.sim.advance(Duration::from_secs(4));
    let sent_bytes = run.sim.state().sent_bytes;
    // All attempts succeed from here on.
    run.sim.state().cuts.clear();
    run.sim.advance(Duration::from_secs(15));
    run.check(&name);
    if is_whole {
        let outcomes = run.sim.state().outcomes.iter();
        let are_answers = outcomes
            .flat_map(|(number, outcomes)| outcomes.iter().map(move |it| (number, it)))
            .all(|(number, outcome)| *outcome == number.to_string());
        assert!(are_answers, "{name}");
        assert!(!run.sim.state().states.contains(&"lost"), "{name}");
    }
    sent_bytes
}

/// Runs seeds, each with a connection that ends after every byte, and a second one a random number of bytes later.
fn cut_everywhere(url: &str, has_resp3: bool, seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let sent_bytes = run(url, has_resp3, seed, Vec::new());
        assert!(100 < sent_bytes, "{sent_bytes} bytes are a small run");
        for cut in 0..sent_bytes {
            let second = (cut * 7919 + seed as usize * 31) % 400;
            run(url, has_resp3, seed, vec![cut, second]);
        }
    }
}

#[test]
fn a_link_of_resp3_that_ends_after_any_byte_comes_back_whole() {
    cut_everywhere("redis://127.0.0.1", true, 0..6);
}

#[test]
fn a_link_of_resp2_that_ends_after_any_byte_comes_back_whole() {
    cut_everywhere("redis://127.0.0.1?protocol=2", true, 0..6);
}

#[test]
fn a_server_without_resp3_that_ends_the_connection_after_any_byte_is_used_again() {
    cut_everywhere("redis://:password@127.0.0.1/3?name=me", false, 16..22);
}

// The first cut is tried alone too: the second one must not hide what is left of it.
#[test]
fn many_orders_over_one_lost_connection() {
    for seed in 100..400 {
        let url = ["redis://127.0.0.1", "redis://127.0.0.1?protocol=2"][seed as usize % 2];
        let sent_bytes = run(url, true, seed, Vec::new());
        run(url, true, seed, vec![seed as usize * 7919 % sent_bytes]);
    }
}
