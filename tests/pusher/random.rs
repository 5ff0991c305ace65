//! Random clients of a presence channel on some reactors, whose bytes are cut and delayed. Each client knows all members
//! and no others, and is told of each change once.

use std::collections::BTreeSet;

use serde_json::Value;
use waterwheel::Faults;

use crate::{Client, serve_on};

const CHANNEL: &str = "presence-a";

/// Pseudo-random numbers.
struct Xorshift(u64);

impl Xorshift {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

/// A client, and the members that it knows of where it has subscribed.
struct Viewer {
    client: Client,
    user: String,
    /// It has asked to be a member, and not to leave since.
    has_joined: bool,
    view: Option<BTreeSet<String>>,
    /// Answers to pings behind which it has left. The messages before them are not compared.
    pongs_due: usize,
}

impl Viewer {
    /// Takes in the messages that have come.
    fn read(&mut self, seed: u64) {
        for text in self.client.socket.received() {
            let message: Value = serde_json::from_str(&text).unwrap();
            if message["event"] == "pusher:pong" {
                self.pongs_due -= 1;
                self.view = None;
            }
            if self.pongs_due != 0 || message["event"] == "pusher:pong" {
                continue;
            }
            let data: Value = serde_json::from_str(message["data"].as_str().unwrap()).unwrap();
            let user = || data["user_id"].as_str().unwrap().to_owned();
            match message["event"].as_str().unwrap() {
                "pusher_internal:subscription_succeeded" => {
                    let ids = data["presence"]["ids"].as_array().unwrap().iter();
                    self.view = Some(ids.map(|id| id.as_str().unwrap().to_owned()).collect());
                }
                "pusher_internal:member_added" => {
                    if let Some(view) = &mut self.view {
                        let is_new = view.insert(user());
                        assert!(is_new, "seed {seed}: {text} once more");
                        assert_ne!(user(), self.user, "seed {seed}: its own joining");
                    }
                }
                "pusher_internal:member_removed" => {
                    if let Some(view) = &mut self.view {
                        assert!(view.remove(&user()), "seed {seed}: {text} of none");
                    }
                }
                other => panic!("seed {seed}: {other}"),
            }
        }
    }
}

fn run(seed: u64, reactor_count: usize) {
    let mut random = Xorshift(seed * 2 + 1);
    let mut world = serve_on(reactor_count);
    if seed.is_multiple_of(2) {
        for sim in &mut world.sims {
            let faults = Faults {
                short_reads_percent: 30,
                short_writes_percent: 30,
                refused_writes_percent: 30,
                ..Faults::default()
            };
            sim.faults(seed, faults);
        }
    }
    let mut viewers: Vec<Viewer> = Vec::new();
    for _ in 0..60 {
        match random.below(8) {
            0 | 1 => {
                let client = world.connect_to(random.below(reactor_count));
                viewers.push(Viewer {
                    client,
                    user: format!("u{}", random.below(4)),
                    has_joined: false,
                    view: None,
                    pongs_due: 0,
                });
            }
            _ if viewers.is_empty() => {}
            2..5 => {
                let index = random.below(viewers.len());
                let viewer = &mut viewers[index];
                world.send_join(&viewer.client, CHANNEL, &viewer.user, "{}");
                viewer.has_joined = true;
            }
            5 => {
                let index = random.below(viewers.len());
                let viewer = &mut viewers[index];
                let leave = r#"{"event":"pusher:unsubscribe","data":{"channel":"presence-a"}}"#;
                viewer.client.socket.send(leave);
                viewer.client.socket.send(r#"{"event":"pusher:ping"}"#);
                viewer.has_joined = false;
                viewer.pongs_due += 1;
            }
            6 => {
                let viewer = viewers.swap_remove(random.below(viewers.len()));
                match random.below(2) {
                    0 => viewer.client.socket.close(1000),
                    _ => viewer.client.socket.stream().reset(),
                }
            }
            _ => {
                let index = random.below(world.sims.len());
                world.sims[index].settle();
            }
        }
        for viewer in &mut viewers {
            viewer.read(seed);
        }
    }
    // With faults a message may take many polls.
    for _ in 0..20 {
        world.settle();
        viewers.iter_mut().for_each(|viewer| viewer.read(seed));
    }
    let joined = viewers.iter().filter(|viewer| viewer.has_joined);
    let members: BTreeSet<String> = joined.map(|viewer| viewer.user.clone()).collect();
    for viewer in &mut viewers {
        let expected = viewer.has_joined.then_some(&members);
        assert_eq!(viewer.view.as_ref(), expected, "seed {seed}");
    }
    let counts = world.sims[0]
        .reactor()
        .presence_counts("pusher:3:presence-a");
    assert_eq!(counts.users, members.len(), "seed {seed}");
}

/// More seeds with `WATERWHEEL_SEEDS=COUNT`.
#[test]
fn every_member_knows_all_others_and_is_told_of_each_change_once() {
    let seeds = std::env::var("WATERWHEEL_SEEDS").map_or(1000, |count| count.parse().unwrap());
    for seed in 1..=seeds {
        run(seed, 1 + seed as usize % 3);
    }
}
