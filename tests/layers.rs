//! The floors and rooms of the library (`FLOORS` below), read off the sources.
//!
//! A file knows what is below it, never what is above or beside it; within a floor the files have an order;
//! a struct's fields are touched by the file that defines it. Modules for tests are left out: a test may
//! use the whole house.

mod source;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use source::{Source, Token, closing, sources};

/// A folder of `src/`, and the folders below it, of which it may use what it likes.
const FLOORS: [(&str, &[&str]); 7] = [
    ("protocol", &[]),
    ("pubsub", &["protocol"]),
    ("reactor", &["protocol", "pubsub"]),
    ("session", &["reactor", "protocol", "pubsub"]),
    ("server", &["session", "reactor", "protocol", "pubsub"]),
    ("client", &["session", "reactor", "protocol", "pubsub"]),
    (
        "hub",
        &[
            "server", "client", "session", "reactor", "protocol", "pubsub",
        ],
    ),
];

/// Types whose methods stand in several files, sorted by role.
const IMPLEMENTED_ELSEWHERE: &[(&str, &str)] = &[
    (
        "GroupSeat",
        "mount knows the whole floor; group.rs is below it",
    ),
    (
        "History",
        "history/walk.rs reads pages in another way, from the same queues",
    ),
    (
        "Reactor",
        "what callbacks get: each floor adds what it offers, by methods alone",
    ),
    ("Reader", "as History: history/walk.rs finds its names"),
    ("Record", "as History: history/walk.rs reads single entries"),
    (
        "Running",
        "the steps of a turn: accept, read, flush and close have a file each",
    ),
];

/// Where the fields of a struct may be visible, at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Visible {
    /// In the file of the struct.
    InFile,
    /// In the files of its folder: `pub(super)`, or private in a `mod.rs`.
    InFolder,
    Elsewhere,
}

/// Structs of the reactor whose fields other files may use, and why.
const OPEN_STRUCTS: &[(&str, Visible, &str)] = &[
    ("Config", Visible::Elsewhere, "plain data, written by users"),
    (
        "ConnectionOptions",
        Visible::Elsewhere,
        "plain data, written by users",
    ),
    (
        "Goodbye",
        Visible::Elsewhere,
        "plain data, written by users",
    ),
    ("Stats", Visible::Elsewhere, "plain data, read by users"),
    (
        "RefusedHandshakes",
        Visible::Elsewhere,
        "plain data, read by users",
    ),
    (
        "ConnectionCounts",
        Visible::Elsewhere,
        "plain data, read by users",
    ),
    ("Gauges", Visible::Elsewhere, "plain data, read by users"),
    ("Histogram", Visible::Elsewhere, "plain data, read by users"),
    ("Close", Visible::Elsewhere, "plain data, read by users"),
    (
        "ConfigError",
        Visible::Elsewhere,
        "plain data, read by users",
    ),
    (
        "Processed",
        Visible::InFolder,
        "the answer of one call of a TLS session, for the stream",
    ),
    ("Published", Visible::Elsewhere, "plain data, read by users"),
    (
        "OperationPanicked",
        Visible::Elsewhere,
        "plain data, read by users",
    ),
    (
        "ProcessExit",
        Visible::Elsewhere,
        "plain data, read by users",
    ),
    (
        "ProcessPlan",
        Visible::Elsewhere,
        "arguments of the start of a child process",
    ),
    (
        "RunningChild",
        Visible::InFolder,
        "a child and what is called at its end",
    ),
    ("Faults", Visible::Elsewhere, "plain data, written by users"),
    ("ConnId", Visible::Elsewhere, "an id: index and generation"),
    ("ListenerId", Visible::Elsewhere, "an id: that of a place"),
    ("UdpId", Visible::Elsewhere, "an id: that of a place"),
    (
        "UdpOptions",
        Visible::Elsewhere,
        "arguments: the options of a socket that is made",
    ),
    ("TimerId", Visible::Elsewhere, "an id: index and generation"),
    ("Cx", Visible::Elsewhere, "arguments of a callback"),
    ("Watch", Visible::Elsewhere, "arguments of a callback"),
    ("Readiness", Visible::Elsewhere, "an event of the poll"),
    ("CoarseTime", Visible::Elsewhere, "a number with a unit"),
    (
        "Upgrade",
        Visible::Elsewhere,
        "a client's request, kept until its answer",
    ),
    (
        "FastMessages",
        Visible::Elsewhere,
        "arguments of a delivery",
    ),
    ("Received", Visible::Elsewhere, "what a delivery answers"),
    ("Arrived", Visible::InFolder, "what a read answers"),
    ("Attempt", Visible::Elsewhere, "a socket and what it is for"),
    ("Lookup", Visible::Elsewhere, "arguments of a look-up"),
    (
        "Parts",
        Visible::InFolder,
        "arguments: what is borrowed, or made, together",
    ),
    ("AddressLimits", Visible::InFolder, "plain data"),
    ("OptionSet", Visible::InFolder, "plain data, never changed"),
    (
        "Rooms",
        Visible::InFolder,
        "lends the rooms beside a connection; each room's own fields are in its file",
    ),
    (
        "Arrival",
        Visible::InFolder,
        "a closure and where it comes from",
    ),
    (
        "QueuedDone",
        Visible::InFolder,
        "a closure and where it comes from",
    ),
    (
        "QueuedTick",
        Visible::InFolder,
        "a closure and where it comes from",
    ),
    (
        "WebSocketParser",
        Visible::Elsewhere,
        "arguments: lent together",
    ),
    (
        "Timer",
        Visible::InFolder,
        "a closure and where it comes from",
    ),
    (
        "Reactor",
        Visible::InFolder,
        "its methods are sorted by role, on this floor and above; the floors above use its methods",
    ),
    (
        "EventLoop",
        Visible::InFolder,
        "it stands in `mod.rs`, where private means the folder",
    ),
    (
        "Running",
        Visible::InFolder,
        "its methods are sorted by role, on this floor",
    ),
    (
        "Dispatched",
        Visible::Elsewhere,
        "an argument with names: the result of a poll and its dispatch",
    ),
    (
        "Connection",
        Visible::InFolder,
        "made of one part of each room of this folder; a room's own fields are in the room's file",
    ),
];

/// One file uses another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Edge {
    from: String,
    line: usize,
    to: String,
    /// Whether the file only hands it on, as `pub use`, and has no use for it.
    is_reexport: bool,
}

/// A path in a file: `crate::reactor::id::ConnId`, with the module that it stands in.
#[derive(Debug)]
struct Mention {
    line: usize,
    module: Vec<String>,
    segments: Vec<String>,
    /// The name that it gets here, if it stands in a `use`.
    name: Option<String>,
    is_public_use: bool,
}

/// The files of one crate.
struct Crate {
    files: Vec<Source>,
    /// Module by path, `["reactor", "id"]`, with the index of its file.
    modules: BTreeMap<Vec<String>, usize>,
    mentions: Vec<Vec<Mention>>,
}

impl Crate {
    /// The library: all of `src/` but the programs.
    fn library() -> Crate {
        let mut files = sources(&["src"]);
        files.retain(|file| !file.path.starts_with("src/bin/"));
        Crate::new("src/", files)
    }

    fn program() -> Crate {
        Crate::new("src/bin/waterwheel/", sources(&["src/bin/waterwheel"]))
    }

    fn new(folder: &str, files: Vec<Source>) -> Crate {
        let files: Vec<Source> = files.iter().map(Source::without_tests).collect();
        assert!(!files.is_empty(), "{folder} has no sources");
        let modules: BTreeMap<Vec<String>, usize> = files
            .iter()
            .enumerate()
            .map(|(index, file)| (module_of(folder, &file.path), index))
            .collect();
        let mentions = files
            .iter()
            .map(|file| mentions(&file.tokens(), &module_of(folder, &file.path), &modules))
            .collect();
        Crate {
            files,
            modules,
            mentions,
        }
    }

    /// All uses of one file by another, sorted.
    fn edges(&self) -> BTreeSet<Edge> {
        let mut edges = BTreeSet::new();
        for (file, mentions) in self.files.iter().zip(&self.mentions) {
            for mention in mentions {
                let Some(target) = self.file_of(mention, 0) else {
                    continue;
                };
                let to = &self.files[target].path;
                if *to != file.path {
                    edges.insert(Edge {
                        from: file.path.clone(),
                        line: mention.line,
                        to: to.clone(),
                        is_reexport: mention.is_public_use && !is_used(file, mention),
                    });
                }
            }
        }
        edges
    }

    /// The file that defines what is mentioned: through re-exports, as far as they name it.
    fn file_of(&self, mention: &Mention, depth: usize) -> Option<usize> {
        let (module, rest) = self.resolve(mention)?;
        let file = *self.modules.get(&module)?;
        let Some(item) = rest.first() else {
            return Some(file);
        };
        let reexport = self.mentions[file].iter().find(|candidate| {
            candidate.is_public_use
                && candidate.module == module
                && candidate.name.as_ref() == Some(item)
        });
        match reexport {
            Some(reexport) if depth < 8 => self.file_of(reexport, depth + 1).or(Some(file)),
            _ => Some(file),
        }
    }

    /// The module that a path goes through last, and what is left of the path. Without a module where the path
    /// belongs to another crate.
    fn resolve(&self, mention: &Mention) -> Option<(Vec<String>, Vec<String>)> {
        let mut module = mention.module.clone();
        let mut rest = mention.segments.as_slice();
        let is_child = |module: &[String], name: &String| {
            self.modules
                .contains_key(&[module, std::slice::from_ref(name)].concat())
        };
        match rest.first()?.as_str() {
            "crate" => {
                module.clear();
                rest = &rest[1..];
            }
            "self" => rest = &rest[1..],
            "super" => {
                while rest.first().is_some_and(|segment| segment == "super") {
                    module.pop()?;
                    rest = &rest[1..];
                }
            }
            _ => {
                if !is_child(&module, rest.first()?) {
                    return None;
                }
            }
        }
        while let Some(name) = rest.first().filter(|name| is_child(&module, name)) {
            module.push(name.clone());
            rest = &rest[1..];
        }
        // A module within a file is part of the file.
        while !self.modules.contains_key(&module) {
            module.pop();
        }
        let rest = rest.iter().filter(|name| *name != "self" && *name != "*");
        Some((module, rest.cloned().collect()))
    }
}

/// Whether the file says the name that a `use` gives, anywhere but in a `use`.
fn is_used(file: &Source, mention: &Mention) -> bool {
    let Some(name) = &mention.name else {
        return true;
    };
    let tokens = file.tokens();
    let mut is_in_use = false;
    tokens.windows(2).any(|pair| {
        match pair[0].text {
            "use" => is_in_use = true,
            ";" => is_in_use = false,
            _ => {}
        }
        !is_in_use && pair[0].text != "." && pair[0].text != "mod" && pair[1].text == name
    })
}

fn module_of(folder: &str, path: &str) -> Vec<String> {
    let path = path.strip_prefix(folder).unwrap();
    let path = path.strip_suffix(".rs").unwrap();
    let mut module: Vec<String> = path.split('/').map(str::to_owned).collect();
    let last = module.last().unwrap();
    if last == "mod" || module.len() == 1 && (last == "lib" || last == "main") {
        module.pop();
    }
    module
}

/// The paths of a file that may lead to another file of its crate.
fn mentions(
    tokens: &[Token<'_>],
    file: &[String],
    modules: &BTreeMap<Vec<String>, usize>,
) -> Vec<Mention> {
    let texts: Vec<&str> = tokens.iter().map(|token| token.text).collect();
    let mut mentions = Vec::new();
    let mut module = file.to_vec();
    let mut inner_ends = Vec::new();
    let mut index = 0;
    while index < texts.len() {
        while inner_ends.last().is_some_and(|end| *end <= index) {
            inner_ends.pop();
            module.pop();
        }
        let before = index.checked_sub(1).map_or("", |index| texts[index]);
        if texts[index] == "mod" && texts.get(index + 2) == Some(&"{") {
            module.push(texts[index + 1].to_owned());
            inner_ends.push(closing(&texts, index + 2));
            index += 3;
        } else if texts[index] == "use" && texts.get(index + 1) != Some(&"<") {
            let mut trees = Vec::new();
            let end = use_tree(&texts, index + 1, &mut Vec::new(), &mut trees);
            let is_public_use = before == "pub" || before == ")";
            mentions.extend(trees.into_iter().map(|(segments, name)| Mention {
                line: tokens[index].line,
                module: module.clone(),
                segments,
                name: Some(name),
                is_public_use,
            }));
            index = end;
        } else if tokens[index].is_word()
            && texts.get(index + 1) == Some(&"::")
            && before != "::"
            && before != "."
        {
            let mut segments = vec![texts[index].to_owned()];
            let mut end = index + 1;
            while texts.get(end) == Some(&"::") && tokens.get(end + 1).is_some_and(Token::is_word) {
                segments.push(texts[end + 1].to_owned());
                end += 2;
            }
            let is_known = matches!(texts[index], "crate" | "self" | "super")
                || modules.contains_key(&[module.as_slice(), &segments[..1]].concat());
            if is_known {
                mentions.push(Mention {
                    line: tokens[index].line,
                    module: module.clone(),
                    segments,
                    name: None,
                    is_public_use: false,
                });
            }
            index = end;
        } else {
            index += 1;
        }
    }
    mentions
}

/// The paths of one `use`, each with the name that it gives. Returns where the tree ends.
fn use_tree(
    texts: &[&str],
    mut index: usize,
    prefix: &mut Vec<String>,
    trees: &mut Vec<(Vec<String>, String)>,
) -> usize {
    let depth = prefix.len();
    loop {
        match texts[index] {
            "{" => {
                let end = closing(texts, index);
                index += 1;
                while index < end {
                    index = use_tree(texts, index, prefix, trees);
                    index += usize::from(texts[index] == ",");
                }
                prefix.truncate(depth);
                return end + 1;
            }
            "::" => index += 1,
            "as" => {
                trees.push((prefix.clone(), texts[index + 1].to_owned()));
                prefix.truncate(depth);
                return index + 2;
            }
            "," | "}" | ";" => {
                let name = prefix.iter().rfind(|segment| *segment != "self");
                trees.push((prefix.clone(), name.cloned().unwrap_or_default()));
                prefix.truncate(depth);
                return index;
            }
            word => {
                prefix.push(word.to_owned());
                index += 1;
            }
        }
    }
}

/// The folder below `src/`, or nothing for `lib.rs`.
fn floor_of(path: &str) -> Option<&str> {
    let (floor, _) = path.strip_prefix("src/")?.split_once('/')?;
    Some(floor)
}

fn assert_none(findings: &[String], rule: &str) {
    assert!(
        findings.is_empty(),
        "{rule}: {} findings\n  {}\n",
        findings.len(),
        findings.join("\n  ")
    );
}

#[test]
fn each_file_uses_only_its_own_floor_and_those_below() {
    let mut findings = Vec::new();
    let library = Crate::library();
    for file in &library.files {
        let floor = floor_of(&file.path);
        if floor.is_some_and(|floor| FLOORS.iter().all(|(name, _)| *name != floor)) {
            findings.push(format!("{}: no such floor in `FLOORS`", file.path));
        }
    }
    for edge in library.edges() {
        let Some(floor) = floor_of(&edge.from) else {
            continue;
        };
        let below = FLOORS.iter().find(|(name, _)| *name == floor);
        let target = floor_of(&edge.to).unwrap_or("lib.rs");
        if target != floor && below.is_some_and(|(_, below)| !below.contains(&target)) {
            findings.push(format!(
                "{}:{}: uses {}, and {target} is not below {floor}",
                edge.from, edge.line, edge.to
            ));
        }
    }
    assert_none(&findings, "a floor uses only the floors below it");
}

#[test]
fn no_two_files_of_a_floor_import_each_other() {
    let mut findings = Vec::new();
    let library = Crate::library().edges();
    for (floor, _) in FLOORS {
        let is_inside = |path: &str| floor_of(path) == Some(floor);
        findings.extend(cycles(
            library
                .iter()
                .filter(|edge| is_inside(&edge.from) && is_inside(&edge.to)),
        ));
    }
    findings.extend(cycles(Crate::program().edges().iter()));
    assert_none(&findings, "the imports of a floor have no cycle");
}

/// One line for each set of files of which every file leads to every other: a shortest cycle, and the set.
fn cycles<'e>(edges: impl Iterator<Item = &'e Edge>) -> Vec<String> {
    let mut next: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
    for edge in edges.filter(|edge| !edge.is_reexport) {
        next.entry(&edge.from)
            .or_default()
            .entry(&edge.to)
            .or_insert(edge.line);
    }
    let mut done: BTreeSet<&str> = BTreeSet::new();
    let mut findings = Vec::new();
    for start in next.keys().copied() {
        if done.contains(start) || shortest(&next, start, start).is_none() {
            continue;
        }
        let set: BTreeSet<&str> = next
            .keys()
            .copied()
            .filter(|other| {
                *other == start
                    || shortest(&next, start, other).is_some()
                        && shortest(&next, other, start).is_some()
            })
            .collect();
        let cycle = set
            .iter()
            .filter_map(|file| shortest(&next, file, file))
            .min_by_key(Vec::len)
            .unwrap();
        let steps: Vec<String> = cycle
            .windows(2)
            .map(|pair| format!("{}:{} imports {}", pair[0], next[pair[0]][pair[1]], pair[1]))
            .collect();
        findings.push(format!(
            "{} files in one circle, for instance\n      {}\n    all: {}",
            set.len(),
            steps.join("\n      "),
            set.iter().copied().collect::<Vec<_>>().join(", ")
        ));
        done.extend(set);
    }
    findings
}

/// The files on a shortest way of at least one step.
fn shortest<'e>(
    next: &BTreeMap<&'e str, BTreeMap<&'e str, usize>>,
    from: &'e str,
    to: &str,
) -> Option<Vec<&'e str>> {
    let mut ways = VecDeque::from([vec![from]]);
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop_front() {
        let last = way.last()?;
        for file in next.get(last).into_iter().flat_map(BTreeMap::keys) {
            let way = [way.as_slice(), &[*file]].concat();
            if *file == to {
                return Some(way);
            }
            if seen.insert(*file) {
                ways.push_back(way);
            }
        }
    }
    None
}

/// Imports do not show methods on one struct that stand in several files, each of which touches its fields.
#[test]
fn methods_stand_in_the_file_of_their_type() {
    let mut findings = Vec::new();
    for part in [Crate::library(), Crate::program()] {
        for file in &part.files {
            let tokens = file.tokens();
            for (line, name) in inherent_impls(&tokens) {
                let is_defined_here = tokens.windows(2).any(|pair| {
                    ["struct", "enum", "union", "type", "trait"].contains(&pair[0].text)
                        && pair[1].text == name
                });
                let is_allowed = IMPLEMENTED_ELSEWHERE
                    .iter()
                    .any(|(allowed, _)| *allowed == name);
                if !is_defined_here && !is_allowed {
                    findings.push(format!(
                        "{}:{line}: `impl {name}`, which another file defines",
                        file.path
                    ));
                }
            }
        }
    }
    assert_none(
        &findings,
        "the methods of a type stand in its file (or the type is listed in this test, with a reason)",
    );
}

/// The line and type of each `impl` that is not of a trait.
fn inherent_impls<'s>(tokens: &[Token<'s>]) -> Vec<(usize, &'s str)> {
    let mut impls = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        let before = index.checked_sub(1).map_or(";", |index| tokens[index].text);
        if token.text != "impl" || !["}", "{", ";", "]", "unsafe"].contains(&before) {
            continue;
        }
        let mut depth = 0_usize;
        let mut name = "";
        for token in &tokens[index + 1..] {
            match token.text {
                "<" => depth += 1,
                ">" => depth -= 1,
                "for" if depth == 0 => {
                    name = "";
                    break;
                }
                "where" | "{" if depth == 0 => break,
                word if depth == 0 && token.is_word() => name = word,
                _ => {}
            }
        }
        if !name.is_empty() {
            impls.push((token.line, name));
        }
    }
    impls
}

#[derive(Debug)]
struct Field<'s> {
    line: usize,
    owner: &'s str,
    name: &'s str,
    seen: Visible,
}

/// The fields of every struct; those of a tuple have the visibility as name.
fn fields<'s>(tokens: &[Token<'s>], is_mod: bool) -> Vec<Field<'s>> {
    let texts: Vec<&str> = tokens.iter().map(|token| token.text).collect();
    let mut fields = Vec::new();
    for index in 0..texts.len() {
        if texts[index] != "struct" {
            continue;
        }
        let owner = texts[index + 1];
        let Some(open) = (index..texts.len()).find(|at| ["{", "(", ";"].contains(&texts[*at]))
        else {
            continue;
        };
        if texts[open] == ";" {
            continue;
        }
        let end = closing(&texts, open);
        let mut at = open + 1;
        while at < end {
            match texts[at] {
                "pub" => {
                    let scope = if texts[at + 1] == "(" {
                        texts[at + 2]
                    } else {
                        ""
                    };
                    let seen = match scope {
                        "self" => Visible::InFile,
                        // From a `mod.rs` this is one folder up.
                        "super" if !is_mod => Visible::InFolder,
                        _ => Visible::Elsewhere,
                    };
                    let next = if scope.is_empty() {
                        at + 1
                    } else {
                        closing(&texts, at + 1) + 1
                    };
                    fields.push(Field {
                        line: tokens[at].line,
                        owner,
                        name: texts[next],
                        seen,
                    });
                    at = next + 1;
                }
                "(" | "[" | "{" => at = closing(&texts, at) + 1,
                // In a `mod.rs` a private field is visible in every file of the folder.
                name if is_mod
                    && tokens[at].is_word()
                    && texts[at + 1] == ":"
                    && ["{", ",", "]"].contains(&texts[at - 1]) =>
                {
                    fields.push(Field {
                        line: tokens[at].line,
                        owner,
                        name,
                        seen: Visible::InFolder,
                    });
                    at += 2;
                }
                _ => at += 1,
            }
        }
    }
    fields
}

#[test]
fn fields_of_the_reactor_are_visible_only_in_their_file() {
    let mut findings = Vec::new();
    let files = sources(&["src/reactor"]);
    for file in files.iter().map(Source::without_tests) {
        let tokens = file.tokens();
        for field in fields(&tokens, file.path.ends_with("/mod.rs")) {
            let allowed = OPEN_STRUCTS
                .iter()
                .find(|(owner, ..)| *owner == field.owner)
                .map_or(Visible::InFile, |(_, seen, _)| *seen);
            if allowed < field.seen {
                findings.push(format!(
                    "{}:{}: {}.{} is visible {:?}, allowed: {allowed:?}",
                    file.path, field.line, field.owner, field.name, field.seen
                ));
            }
        }
    }
    assert_none(
        &findings,
        "fields are private to a file (or the struct is listed in this test, with a reason)",
    );
}

/// No line of code below `folder` has one of `banned` in it. Comments, literals and tests are left out.
fn assert_free_of(folder: &str, banned: &[&str], why: &str) {
    let files = sources(&[folder]);
    assert!(!files.is_empty(), "{folder} has no sources");
    let mut findings = Vec::new();
    for file in files.iter().map(Source::without_tests) {
        for (index, line) in file.code.lines().enumerate() {
            for word in banned.iter().filter(|word| has(line, word)) {
                findings.push(format!("{}:{}: `{word}`", file.path, index + 1));
            }
        }
    }
    assert_none(&findings, why);
}

/// Whether the line has this text, not as the beginning or end of a longer word.
fn has(line: &str, text: &str) -> bool {
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
    line.match_indices(text).any(|(start, _)| {
        let before = line[..start].chars().next_back();
        let after = line[start + text.len()..].chars().next();
        !(before.is_some_and(is_part) && text.starts_with(is_part)
            || after.is_some_and(is_part) && text.ends_with(is_part))
    })
}

#[test]
fn protocols_and_topics_touch_no_socket_no_clock_and_no_log() {
    let banned = [
        "mio",
        "std::net",
        "Instant::now",
        "SystemTime::now",
        "log::",
    ];
    for folder in ["src/protocol", "src/pubsub"] {
        assert_free_of(folder, &banned, "a pure file has no socket, clock or log");
    }
}

/// A group from the crate's root, or a way up by two, hides in a search which floor is used.
#[test]
fn imports_say_the_whole_path() {
    let groups = ["crate::{", "crate as", "crate::*", "super::super"];
    assert_free_of("src", &groups, "an import says its whole path");
}

#[test]
fn only_the_program_prints_and_exits() {
    for (floor, _) in FLOORS {
        assert_free_of(
            &format!("src/{floor}"),
            &["println!", "eprintln!", "process::exit", "dbg!"],
            "only the program prints and exits",
        );
    }
}

#[test]
fn only_the_reactor_waits() {
    for folder in ["src/session", "src/server", "src/client", "src/hub"] {
        assert_free_of(
            folder,
            &["thread::sleep", "Poll::new", "Instant::now"],
            "only the reactor waits",
        );
    }
}

#[test]
fn roles_reach_a_connection_through_methods_of_the_reactor() {
    for folder in ["src/session", "src/server", "src/client", "src/hub"] {
        assert_free_of(
            folder,
            &[".table"],
            "the table belongs to the reactor's floor",
        );
    }
}

#[test]
fn user_code_is_called_in_one_place() {
    let mut findings = Vec::new();
    for file in sources(&["src"]).iter().map(Source::without_tests) {
        if file.path == "src/reactor/panics.rs" {
            continue;
        }
        for token in file.tokens() {
            if token.text == "catch_unwind" {
                findings.push(format!("{}:{}", file.path, token.line));
            }
        }
    }
    assert_none(&findings, "only src/reactor/panics.rs calls `catch_unwind`");
}

#[test]
fn the_reactor_does_not_know_whether_there_is_a_hub() {
    let mut findings = Vec::new();
    for file in sources(&["src/reactor"]) {
        for (index, line) in file.uncommented.lines().enumerate() {
            if line.contains("feature = \"hub\"") {
                findings.push(format!("{}:{}", file.path, index + 1));
            }
        }
    }
    assert_none(
        &findings,
        "no code of the reactor depends on the feature `hub`",
    );
}

mod the_checks {
    use super::*;

    fn file(path: &str, text: &str) -> Source {
        Source::new(path.to_owned(), text.to_owned())
    }

    #[test]
    fn comments_literals_and_test_modules_are_no_code() {
        let text = "a /* b /* c */ d */ \"e // \\\" f\" 'g' r#\"h\"# b'i' <'j> // k\nl\n\
                    #[cfg(test)]\nmod tests { m }\nn";
        let source = file("src/a.rs", text).without_tests();
        let words: Vec<&str> = source.tokens().iter().map(|token| token.text).collect();
        assert_eq!(words, ["a", "<", ">", "l", "n"]);
        assert_eq!(source.tokens().last().unwrap().line, 5);
        let comments: Vec<String> = file("src/a.rs", text)
            .comments
            .into_iter()
            .map(|comment| comment.text)
            .collect();
        assert_eq!(comments, ["b /* c */ d ", "k"]);
    }

    #[test]
    fn a_cycle_is_found_through_use_path_and_reexport_but_not_through_a_declaration() {
        let files = |last: &str| {
            vec![
                file("src/lib.rs", "mod a;"),
                file("src/a/mod.rs", "mod b; mod c; mod d; pub use self::b::B;"),
                file("src/a/b.rs", "use std::fmt; struct B(super::c::C);"),
                file("src/a/c.rs", "use crate::a::{d::{self, D}}; struct C;"),
                file("src/a/d.rs", last),
            ]
        };
        let of = |last: &str| cycles(Crate::new("src/", files(last)).edges().iter());
        assert_eq!(of("struct D;"), Vec::<String>::new());
        assert_eq!(
            of("#[cfg(test)] mod tests { use crate::a::B; }"),
            Vec::<String>::new()
        );
        for last in [
            "use crate::a::B;",
            "use super::B as Other;",
            "fn f(b: super::b::B) {}",
        ] {
            let found = of(last);
            assert_eq!(found.len(), 1, "{last}");
            for step in [
                "b.rs:1 imports src/a/c.rs",
                "c.rs:1 imports src/a/d.rs",
                "d.rs:1 imports src/a/b.rs",
            ] {
                assert!(found[0].contains(step), "{last}: {}", found[0]);
            }
        }
    }

    #[test]
    fn an_impl_of_a_trait_or_of_a_bound_is_not_inherent() {
        let source = file(
            "src/a.rs",
            "impl<F: for<'a> Fn(&'a u8)> a::B<F> where F: C { fn f(x: impl D) -> impl E {} }\n\
             impl<S> F for G<S> {}\nunsafe impl H {}",
        );
        let tokens = source.tokens();
        assert_eq!(inherent_impls(&tokens), [(1, "B"), (3, "H")]);
    }

    #[test]
    fn visibility_follows_from_the_keyword_and_the_file() {
        let text = "struct A<T> { a: Vec<(T, u8)>, #[b] pub(crate) c: u8, pub(super) d: u8, pub e: u8 }\n\
                    struct B(pub(crate) u8, u8);";
        let source = file("src/a.rs", text);
        let tokens = source.tokens();
        let found = |is_mod| {
            fields(&tokens, is_mod)
                .into_iter()
                .map(|field| (field.name, field.seen))
                .collect::<Vec<_>>()
        };
        let seen = [
            ("c", Visible::Elsewhere),
            ("d", Visible::InFolder),
            ("e", Visible::Elsewhere),
            ("u8", Visible::Elsewhere),
        ];
        assert_eq!(found(false), seen);
        assert_eq!(
            found(true),
            [
                ("a", Visible::InFolder),
                ("c", Visible::Elsewhere),
                ("d", Visible::Elsewhere),
                ("e", Visible::Elsewhere),
                ("u8", Visible::Elsewhere),
            ]
        );
    }
}
