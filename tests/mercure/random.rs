//! Random subscribers on some reactors, whose bytes are cut and delayed, and who come back with the id of their last event.
//! Each gets every update that it selects and may read, once and in order, and no other.

use waterwheel::Faults;

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

const TOPICS: [&str; 5] = ["a", "b", "/t/1", "/t/2", "c?x=*"];

/// Selectors, and the topics that each selects.
const SELECTORS: [(&str, &[&str]); 7] = [
    ("a", &["a"]),
    ("b", &["b"]),
    ("/t/{x}", &["/t/1", "/t/2"]),
    ("/t/1", &["/t/1"]),
    ("c?x=*", &["c?x=*"]),
    ("{x}", &["a", "b"]),
    ("*", &TOPICS),
];

struct Update {
    topics: Vec<&'static str>,
    is_private: bool,
}

/// A subscriber over all of its connections.
struct Reader {
    selected: Vec<&'static str>,
    granted: Vec<&'static str>,
    query: String,
    header: String,
    connection: Subscriber,
    /// The bytes of the body that were taken.
    taken_bytes: usize,
    last_id: Option<String>,
    /// The numbers of the updates that came.
    received: Vec<usize>,
    /// The number of the first update that it may get.
    first: usize,
}

impl Reader {
    /// Takes the whole events that have come.
    fn read(&mut self) {
        let bytes = self.connection.read();
        if !bytes.windows(4).any(|it| it == b"\r\n\r\n") {
            return;
        }
        let answer = answer::answer(bytes);
        assert_eq!(answer.status, 200);
        let rest = &answer.body[self.taken_bytes..];
        let Some(end) = rest.windows(2).rposition(|it| it == b"\n\n") else {
            return;
        };
        self.taken_bytes += end + 2;
        let text = str::from_utf8(&rest[..end + 2]).unwrap();
        for line in text.lines() {
            if let Some(id) = line.strip_prefix("id: ") {
                self.last_id = Some(id.to_owned());
            }
            if let Some(data) = line.strip_prefix("data: ") {
                self.received.push(data.parse().unwrap());
            }
        }
    }

    fn expects(&self, update: &Update) -> bool {
        let has = |list: &[&str]| update.topics.iter().any(|topic| list.contains(topic));
        has(&self.selected) && (!update.is_private || has(&self.granted))
    }
}

fn choose(random: &mut Xorshift, count_max: usize) -> Vec<(&'static str, &'static [&'static str])> {
    let count = 1 + random.below(count_max);
    (0..count)
        .map(|_| SELECTORS[random.below(SELECTORS.len())])
        .collect()
}

fn encode(text: &str) -> String {
    text.replace('?', "%3F").replace('#', "%23")
}

fn run(seed: u64) {
    let mut random = Xorshift(seed * 2 + 1);
    let reactor_count = 1 + random.below(2);
    let mut world = serve_with(Setting {
        reactor_count,
        ..Setting::default()
    });
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
    let mut updates: Vec<Update> = Vec::new();
    let mut readers: Vec<Reader> = Vec::new();
    for _ in 0..50 {
        match random.below(8) {
            0 | 1 => {
                let wanted = choose(&mut random, 3);
                let granted = match random.below(2) {
                    0 => Vec::new(),
                    _ => choose(&mut random, 2),
                };
                let query: Vec<String> = wanted
                    .iter()
                    .map(|(text, _)| format!("topic={}", encode(text)))
                    .collect();
                let query = query.join("&");
                let texts: Vec<String> = granted.iter().map(|(it, _)| format!("{it:?}")).collect();
                let header = match texts.is_empty() {
                    true => String::new(),
                    false => bearer(&subscriber_token(&texts.join(","))),
                };
                let target = format!("{PATH}?{query}");
                let asked = request("GET", &target, &[&header], "");
                let connection = world.send(random.below(reactor_count), &asked);
                readers.push(Reader {
                    selected: wanted.iter().flat_map(|it| it.1).copied().collect(),
                    granted: granted.iter().flat_map(|it| it.1).copied().collect(),
                    query,
                    header,
                    connection,
                    taken_bytes: 0,
                    last_id: None,
                    received: Vec::new(),
                    first: updates.len(),
                });
            }
            2..6 => {
                let mut topics: Vec<&str> = Vec::new();
                for _ in 0..=random.below(3) {
                    topics.push(TOPICS[random.below(TOPICS.len())]);
                }
                let is_private = random.below(3) == 0;
                let number = updates.len();
                let mut form = format!("data={number}");
                for topic in &topics {
                    form.push_str(&format!("&topic={}", encode(topic)));
                }
                if is_private {
                    form.push_str("&private=on");
                }
                match random.below(3) {
                    0 => form.push_str(&format!("&id=own:{number}")),
                    1 if random.below(4) == 0 => form.push_str("&id=same"),
                    _ => {}
                }
                world.publish(&form);
                updates.push(Update { topics, is_private });
            }
            _ if readers.is_empty() => {}
            _ => {
                // Some come back before the end of their connection is known, and others later.
                let index = random.below(readers.len());
                let reader = &mut readers[index];
                reader.read();
                reader.connection.stream.reset();
                // An id that was used again is ambiguous.
                let Some(id) = reader.last_id.clone().filter(|id| id != "same") else {
                    readers.swap_remove(index);
                    continue;
                };
                let target = format!("{PATH}?{}", reader.query);
                let last = format!("Last-Event-ID: {id}");
                let asked = request("GET", &target, &[&reader.header, &last], "");
                let connection = world.send(random.below(reactor_count), &asked);
                let reader = &mut readers[index];
                (reader.connection, reader.taken_bytes) = (connection, 0);
            }
        }
    }
    // With faults a message may take many polls.
    for _ in 0..20 {
        world.settle();
        readers.iter_mut().for_each(Reader::read);
    }
    for reader in &readers {
        let expected = updates.iter().enumerate().skip(reader.first);
        let expected = expected.filter(|(_, update)| reader.expects(update));
        let expected: Vec<usize> = expected.map(|(number, _)| number).collect();
        assert_eq!(reader.received, expected, "seed {seed}: {}", reader.query);
    }
}

/// More seeds with `WATERWHEEL_SEEDS=COUNT`.
#[test]
fn every_subscriber_gets_its_updates_once() {
    let count = std::env::var("WATERWHEEL_SEEDS").ok();
    let count = count.map_or(1000, |count| count.parse().unwrap());
    (1..=count).for_each(run);
}
