//! Random clients on some reactors, whose bytes are cut and delayed. Each subscription gets the broadcasts of its stream in
//! their order, none twice and none of another, and no subscription is left behind.

use waterwheel::Faults;
use waterwheel::hub::Access;

use super::*;

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

/// A subscription, as its client sees it.
#[derive(Default)]
struct Seen {
    /// It has asked to be subscribed, and not to end since.
    is_wanted: bool,
    is_confirmed: bool,
    /// The ends whose marks have not come back. Messages before these belong to earlier subscriptions.
    ends_due: usize,
    /// The last broadcast. Later ones follow without a gap.
    last: Option<u64>,
}

struct Viewer {
    socket: SimSocket,
    seen: [Seen; 3],
}

/// Two identifiers of one stream, and one of another.
fn identifiers() -> [String; 3] {
    [signed(CHAT), signed_too(CHAT), signed(OTHER)]
}

const STREAMS: [&str; 3] = ["chat/2024", "chat/2024", "chat:2021"];

impl Viewer {
    fn read(&mut self, seed: u64) {
        let identifiers = identifiers();
        for text in self.socket.received() {
            let json: serde_json::Value = serde_json::from_str(&text).unwrap();
            let identifier = json["identifier"].as_str();
            let index = identifiers.iter().position(|it| Some(&**it) == identifier);
            let Some(index) = index else {
                // An end has no answer. Behind it a subscription is rejected, whose identifier is the index.
                if json["type"] == "reject_subscription" {
                    let ended = &mut self.seen[identifier.unwrap().parse::<usize>().unwrap()];
                    ended.ends_due -= 1;
                    ended.is_confirmed = false;
                    continue;
                }
                let is_other = ["welcome", "ping"].iter().any(|it| json["type"] == *it);
                assert!(is_other, "seed {seed}: {text}");
                continue;
            };
            let seen = &mut self.seen[index];
            if 0 < seen.ends_due {
                continue;
            }
            if json["type"] == "confirm_subscription" {
                // Without an end before, the confirmation is a repeated one.
                if !seen.is_confirmed {
                    seen.last = None;
                }
                seen.is_confirmed = true;
                continue;
            }
            let number = json["message"].as_u64().unwrap();
            assert!(
                seen.is_confirmed,
                "seed {seed}: {text} before the confirmation"
            );
            let is_next = seen.last.is_none_or(|last| last + 1 == number);
            assert!(is_next, "seed {seed}: {text} behind {:?}", seen.last);
            seen.last = Some(number);
        }
    }
}

fn run(seed: u64, reactor_count: usize) {
    let mut random = Xorshift(seed * 2 + 1);
    let mut world = serve_with(reactor_count, options(), &Access::default());
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
    let identifiers = identifiers();
    let mut viewers: Vec<Viewer> = Vec::new();
    let mut numbers = [0; 2];
    for _ in 0..60 {
        match random.below(9) {
            0 => {
                let socket = world.sims[random.below(reactor_count)].websocket("/cable");
                let seen = Default::default();
                viewers.push(Viewer { socket, seen });
            }
            1 if !viewers.is_empty() => {
                let viewer = viewers.swap_remove(random.below(viewers.len()));
                match random.below(2) {
                    0 => viewer.socket.close(1000),
                    _ => viewer.socket.vanish(),
                }
            }
            2..6 if !viewers.is_empty() => {
                let viewer_index = random.below(viewers.len());
                let viewer = &mut viewers[viewer_index];
                let index = random.below(3);
                let is_wanted = random.below(3) != 0;
                let command = if is_wanted {
                    "subscribe"
                } else {
                    "unsubscribe"
                };
                viewer
                    .socket
                    .send(command_text(command, &identifiers[index]));
                let seen = &mut viewer.seen[index];
                if !is_wanted {
                    let mark = command_text("subscribe", &index.to_string());
                    viewer.socket.send(mark);
                    seen.ends_due += 1;
                }
                seen.is_wanted = is_wanted;
            }
            _ => {
                let stream = random.below(2);
                numbers[stream] += 1;
                let (topic, number) = (STREAMS[1 + stream], numbers[stream]);
                let reactor = random.below(reactor_count);
                let event = waterwheel::Event::message("").json(number.to_string());
                world.sims[reactor].reactor().publish(topic, event);
            }
        }
        world.settle();
        for viewer in &mut viewers {
            viewer.read(seed);
        }
    }
    // Cut bytes come in several turns.
    for _ in 0..40 {
        world.settle();
        for viewer in &mut viewers {
            viewer.read(seed);
        }
    }
    // All that is confirmed has come to the end.
    for viewer in &viewers {
        for (seen, stream) in viewer.seen.iter().zip([0, 0, 1]) {
            assert_eq!(seen.is_wanted, seen.is_confirmed, "seed {seed}");
            if let (true, Some(last)) = (seen.is_wanted, seen.last) {
                assert_eq!(last, numbers[stream], "seed {seed}");
            }
        }
    }
    for viewer in viewers {
        viewer.socket.vanish();
    }
    world.settle();
    for sim in &mut world.sims {
        assert_eq!(sim.reactor().subscription_count(), 0, "seed {seed}");
        assert_eq!(
            sim.reactor().topics_with_members().count(),
            0,
            "seed {seed}"
        );
    }
}

/// How many seeds are run. 1,000 by default.
fn seeds() -> u64 {
    let given = std::env::var("WATERWHEEL_SEEDS").ok();
    given.map_or(1000, |seeds| seeds.parse().unwrap())
}

#[test]
fn subscriptions_get_their_streams_on_one_reactor() {
    (0..seeds()).for_each(|seed| run(seed, 1));
}

#[test]
fn subscriptions_get_their_streams_on_several_reactors() {
    (0..seeds() / 4).for_each(|seed| run(seed, 2));
}
