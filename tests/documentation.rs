//! The pages of the documentation, held against the sources: limits, options, length, links.

mod packaging;

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn assert_no_problems(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

// ── Markdown ────────────────────────────────────────────────────────────────────────────────────

/// The lines of a page that are not within a fenced block of code.
fn prose(page: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    page.lines().filter(move |line| {
        let is_fence = line.starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

/// The rows of the tables below each heading, without the head of a table. A heading is the text behind
/// the `#`s.
fn tables(page: &str) -> BTreeMap<String, Vec<Vec<String>>> {
    let mut tables: BTreeMap<String, Vec<Vec<String>>> = BTreeMap::new();
    let mut heading = String::new();
    let mut is_body = false;
    for line in prose(page) {
        if line.starts_with('#') {
            heading = line.trim_start_matches('#').trim().to_owned();
        }
        if !line.starts_with('|') {
            is_body = false;
        } else if line.starts_with("|---") {
            is_body = true;
        } else if is_body {
            tables.entry(heading.clone()).or_default().push(cells(line));
        }
    }
    tables
}

/// The cells of a row. `\|` is a character of a cell.
fn cells(row: &str) -> Vec<String> {
    let row = row.replace("\\|", "\0");
    let row = row.trim().trim_start_matches('|').trim_end_matches('|');
    row.split('|')
        .map(|cell| cell.replace('\0', "|").trim().to_owned())
        .collect()
}

/// The first piece of code in a cell.
fn code(cell: &str) -> Option<&str> {
    cell.split('`').nth(1)
}

#[test]
fn a_table_is_read_as_it_is_shown() {
    let page =
        "# A\n\n| x | y |\n|---|---|\n| `a b\\|c` | 1 |\n\n```sh\n| no |\n# no\n```\n## `B`\n";
    let tables = tables(page);
    assert_eq!(tables["A"], [["`a b|c`", "1"]]);
    assert_eq!(code(&tables["A"][0][0]), Some("a b|c"));
    assert_eq!(tables.len(), 1);
}

// ── limits ──────────────────────────────────────────────────────────────────────────────────────

/// A default, as the code or a table has it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    /// A count, or a length in bytes.
    Number(u64),
    /// A time, in nanoseconds.
    Time(u64),
    /// `none`, `off`, the name of a variant, or a text that is not understood.
    Word(String),
}

impl Value {
    fn from_code(expression: &str) -> Value {
        let expression = expression.trim();
        if let Some(inner) = inside(expression, "Some(") {
            return Value::from_code(inner);
        }
        let times = [
            ("Duration::from_secs(", 1_000_000_000),
            ("Duration::from_millis(", 1_000_000),
            ("Duration::from_micros(", 1000),
        ];
        for (call, nanos) in times {
            if let Some(Value::Number(count)) = inside(expression, call).map(Value::from_code) {
                return Value::Time(count * nanos);
            }
        }
        let factors: Option<Vec<u64>> = expression.split('*').map(number).collect();
        match (expression, factors) {
            (_, Some(factors)) => Value::Number(factors.iter().product()),
            ("None" | "Vec::new()", None) => Value::Word("none".to_owned()),
            ("false", None) => Value::Word("off".to_owned()),
            ("true", None) => Value::Word("on".to_owned()),
            (expression, None) if expression.ends_with("::default()") => {
                Value::Word("its own".to_owned())
            }
            (expression, None) => {
                let variant = expression.rsplit("::").next().unwrap_or(expression);
                Value::Word(variant.to_owned())
            }
        }
    }

    fn from_table(cell: &str) -> Value {
        let text = cell.replace('`', "");
        let (count, unit) = text.split_once(' ').unwrap_or((&text, ""));
        match (number(count), unit) {
            (Some(count), "") => Value::Number(count),
            (Some(count), "bytes") => Value::Number(count),
            (Some(count), "KiB") => Value::Number(count * 1024),
            (Some(count), "MiB") => Value::Number(count * 1024 * 1024),
            (Some(count), "ms") => Value::Time(count * 1_000_000),
            (Some(count), "s") => Value::Time(count * 1_000_000_000),
            _ => Value::Word(text),
        }
    }
}

/// The argument of a call, whose name is given with its parenthesis.
fn inside<'e>(expression: &'e str, call: &str) -> Option<&'e str> {
    expression.strip_prefix(call)?.strip_suffix(')')
}

fn number(text: &str) -> Option<u64> {
    text.trim().replace(['_', ','], "").parse().ok()
}

#[test]
fn the_same_default_may_be_written_in_several_ways() {
    let cases = [
        ("256 * 1024", "256 KiB"),
        ("16 * 1024 * 1024", "16 MiB"),
        ("1_000_000", "1,000,000"),
        ("Duration::from_millis(500)", "500 ms"),
        ("Some(Duration::from_secs(25))", "25 s"),
        ("Duration::from_secs(1)", "1000 ms"),
        ("None", "none"),
        ("Vec::new()", "none"),
        ("false", "off"),
        ("Overflow::Close", "`Close`"),
        ("http::Limits::default()", "its own"),
    ];
    for (expression, cell) in cases {
        let (code, table) = (Value::from_code(expression), Value::from_table(cell));
        assert_eq!(code, table, "{expression} is {cell}");
    }
    let different = [
        ("Duration::from_secs(5)", "5 ms"),
        ("Duration::from_secs(5)", "5"),
        ("1024", "1000"),
        ("Some(Duration::from_secs(25))", "none"),
        ("Overflow::DropNewest", "`Close`"),
    ];
    for (expression, cell) in different {
        let (code, table) = (Value::from_code(expression), Value::from_table(cell));
        assert_ne!(code, table, "{expression} is not {cell}");
    }
}

/// The public fields of a struct with their defaults, as the code has them. `folder` is where one file
/// declares it and implements `Default` for it, or that file.
fn fields(name: &str, folder: &str) -> BTreeMap<String, String> {
    let declaration = format!("\npub struct {name} {{\n");
    let mut sources = Vec::new();
    collect_files(&root().join(folder), "rs", &mut sources);
    let source = sources
        .iter()
        .map(|path| fs::read_to_string(path).unwrap())
        .find(|source| source.contains(&declaration))
        .unwrap_or_else(|| panic!("no file below {folder} has `pub struct {name}`"));

    let names = block(&source, &declaration).filter_map(|line| {
        let (name, _) = line.strip_prefix("pub ")?.split_once(':')?;
        Some(name.to_owned())
    });
    let implementation = format!("\nimpl Default for {name} {{\n");
    let defaults: BTreeMap<_, _> = block(&source, &implementation)
        .filter_map(|line| line.strip_suffix(',')?.split_once(": "))
        .collect();
    let fields: BTreeMap<_, _> = names
        .map(|field| {
            let default = defaults.get(field.as_str()).unwrap_or_else(|| {
                panic!("{folder}: no line of `{name}`'s Default sets `{field}`")
            });
            (field, (*default).to_owned())
        })
        .collect();
    assert!(!fields.is_empty(), "`{name}` has no public field");
    fields
}

/// The lines behind `start`, up to a brace in the first column, without the space in front of each.
fn block<'s>(source: &'s str, start: &str) -> impl Iterator<Item = &'s str> {
    let (_, rest) = source.split_once(start).unwrap_or_default();
    rest.lines()
        .take_while(|line| *line != "}")
        .map(str::trim_start)
}

fn collect_files(folder: &Path, extension: &str, files: &mut Vec<PathBuf>) {
    if folder.is_file() {
        files.push(folder.to_owned());
        return;
    }
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect_files(&path, extension, files);
        } else if path.extension().is_some_and(|found| found == extension) {
            files.push(path);
        }
    }
    files.sort();
}

#[test]
fn every_limit_stands_in_its_table_with_its_default() {
    let structs = [
        ("Config", "src/reactor", "`Config`"),
        ("ConnectionOptions", "src/reactor", "`ConnectionOptions`"),
        (
            "HttpClientOptions",
            "src/client/http",
            "`HttpClientOptions`",
        ),
        ("Limits", "src/protocol/http", "`http::Limits`"),
        ("Limits", "src/protocol/websocket", "`websocket::Limits`"),
        (
            "Limits",
            "src/protocol/event_stream.rs",
            "`event_stream::Limits`",
        ),
        ("Backoff", "src/client/reconnect.rs", "`Backoff`"),
        ("KeepLimits", "src/client/reconnection.rs", "`KeepLimits`"),
    ];
    let tables = tables(&read("docs/limits.md"));
    let mut problems = Vec::new();
    for (name, folder, heading) in structs {
        let mut fields = fields(name, folder);
        let rows = tables.get(heading).map_or(&[][..], Vec::as_slice);
        for row in rows {
            let field = code(&row[0]).unwrap_or(&row[0]);
            let default = row.get(2).map_or("", String::as_str);
            match fields.remove(field) {
                None => problems.push(format!(
                    "docs/limits.md, {heading}: the row `{field}` is not a public field in {folder}, or stands there twice"
                )),
                Some(expression) if Value::from_code(&expression) != Value::from_table(default) => problems.push(format!(
                    "docs/limits.md, {heading}: the default of `{field}` is `{expression}` in {folder}, and {default:?} in the table"
                )),
                Some(_) => {}
            }
        }
        for (field, expression) in fields {
            problems.push(format!(
                "docs/limits.md, {heading}: no row for `{field}` of {folder}, whose default is `{expression}`"
            ));
        }
    }
    assert_no_problems(&problems);
}

// ── options ─────────────────────────────────────────────────────────────────────────────────────

/// The text of `pub const HELP`.
fn help(path: &str) -> String {
    let source = read(path);
    let (_, rest) = source
        .split_once("pub const HELP: &str = \"\\\n")
        .unwrap_or_else(|| panic!("{path} has no `pub const HELP`"));
    let (help, _) = rest.split_once("\n\";").expect("the end of the text");
    help.to_owned()
}

/// The long options of a text, each where its description begins.
fn listed_options(text: &str) -> BTreeSet<String> {
    let lines = text.lines().map(str::trim_start);
    lines
        .filter(|line| line.starts_with("--"))
        .flat_map(|line| line.split(", "))
        .filter_map(option_name)
        .collect()
}

/// `--name` at the start of a text.
fn option_name(text: &str) -> Option<String> {
    let name: String = text
        .strip_prefix("--")?
        .chars()
        .take_while(|letter| letter.is_ascii_lowercase() || *letter == '-')
        .collect();
    (!name.is_empty()).then(|| format!("--{name}"))
}

/// The lines of a help text below the heading that begins so, up to an empty one.
fn section(help: &str, heading: &str) -> String {
    let lines = help.lines().skip_while(|line| !line.starts_with(heading));
    let lines: Vec<_> = lines.skip(1).take_while(|line| !line.is_empty()).collect();
    assert!(
        !lines.is_empty(),
        "the help text has no section {heading:?}"
    );
    lines.join("\n")
}

/// The options that stand first in the rows of a table.
fn documented_options(rows: &[Vec<String>]) -> BTreeSet<String> {
    let names = rows.iter().filter_map(|row| code(&row[0]));
    names.filter_map(option_name).collect()
}

fn note_differences(
    place: &str,
    program: &BTreeSet<String>,
    documented: &BTreeSet<String>,
    problems: &mut Vec<String>,
) {
    for option in program.difference(documented) {
        problems.push(format!("{place}: no row for `{option}` of the help text"));
    }
    for option in documented.difference(program) {
        problems.push(format!(
            "{place}: the row `{option}` is not an option in the help text"
        ));
    }
}

const PROGRAM: &str = "src/bin/waterwheel/arguments.rs";
const BENCH: &str = "src/bin/waterwheel/bench/arguments.rs";

#[test]
fn every_option_stands_in_the_table_of_its_command() {
    // The source of the help text and the section in it; the page and the heading in that.
    let sections = [
        (PROGRAM, "Options of serve", "deploy.md", "`serve`"),
        (PROGRAM, "Options of echo", "deploy.md", "`echo`"),
        (PROGRAM, "Options of doctor", "deploy.md", "`doctor`"),
        (BENCH, "Options of all", "measure.md", "every load"),
        (BENCH, "Options of echo", "measure.md", "`bench echo`"),
        (BENCH, "Options of idle", "measure.md", "`bench idle`"),
        (BENCH, "Options of churn", "measure.md", "`bench churn`"),
        (
            BENCH,
            "Options of fan-out",
            "measure.md",
            "`bench fan-out` and `bench sse`",
        ),
    ];
    let mut problems = Vec::new();
    for (source, help_heading, page, command) in sections {
        let program = listed_options(&section(&help(source), help_heading));
        let heading = format!("Options of {command}");
        let tables = tables(&read(&format!("docs/{page}")));
        let rows = tables.get(&heading).map_or(&[][..], Vec::as_slice);
        let place = format!("docs/{page}, {heading}");
        note_differences(&place, &program, &documented_options(rows), &mut problems);
    }
    assert_no_problems(&problems);
}

#[test]
fn the_pages_and_the_program_have_the_same_options() {
    let mut problems = Vec::new();
    for (source, page) in [(PROGRAM, "docs/deploy.md"), (BENCH, "docs/measure.md")] {
        let program = listed_options(&help(source));
        let rows: Vec<_> = tables(&read(page)).into_values().flatten().collect();
        note_differences(page, &program, &documented_options(&rows), &mut problems);
    }
    let (source, described) = (read(PROGRAM), listed_options(&help(PROGRAM)));
    let parsed = source.split("Arg::Long(\"").skip(1);
    for name in parsed.filter_map(|rest| rest.split('"').next()) {
        if !described.contains(&format!("--{name}")) {
            problems.push(format!("{PROGRAM}: the help text lacks `--{name}`"));
        }
    }
    assert_no_problems(&problems);
}

/// Completions and the man page are made from the help texts; see `packaging`.
#[test]
fn completions_and_the_man_page_have_the_options_of_the_program() {
    let mut problems = Vec::new();
    for (path, text) in packaging::files(&help(PROGRAM), &help(BENCH)) {
        let path = format!("docs/packaging/{path}");
        if env::var_os("WATERWHEEL_WRITE").is_some() {
            fs::write(root().join(&path), &text).unwrap();
        } else if fs::read_to_string(root().join(&path)).ok() != Some(text) {
            problems.push(format!(
                "{path} is not what the help texts give: \
                 run `WATERWHEEL_WRITE=1 cargo test --test documentation`"
            ));
        }
    }
    assert_no_problems(&problems);
}

// ── length and links ────────────────────────────────────────────────────────────────────────────

const README_LINES_MAX: usize = 250;

#[test]
fn the_readme_is_short() {
    let lines = read("README.md").lines().count();
    assert!(
        lines <= README_LINES_MAX,
        "README.md has {lines} lines, at most {README_LINES_MAX}: move reference to docs/"
    );
}

/// Where the links and pictures of a page lead.
fn link_targets(page: &str) -> Vec<&str> {
    prose(page)
        .flat_map(|line| line.split("](").skip(1))
        .filter_map(|rest| rest.split(')').next())
        .collect()
}

/// The fragment of a link to a heading.
fn anchor(heading: &str) -> String {
    heading
        .to_lowercase()
        .chars()
        .filter(|letter| letter.is_alphanumeric() || [' ', '-', '_'].contains(letter))
        .map(|letter| if letter == ' ' { '-' } else { letter })
        .collect()
}

#[test]
fn links_lead_to_files_and_headings_that_exist() {
    let mut pages = vec![root().join("README.md"), root().join("CHANGELOG.md")];
    collect_files(&root().join("docs"), "md", &mut pages);
    let (mut problems, mut link_count) = (Vec::new(), 0);
    for path in pages {
        let page = fs::read_to_string(&path).unwrap();
        for target in link_targets(&page) {
            if target.contains("://") {
                continue;
            }
            link_count += 1;
            let (file, fragment) = target.split_once('#').unwrap_or((target, ""));
            let target_path = match file {
                "" => path.clone(),
                file => path.with_file_name(file),
            };
            if !target_path.exists() {
                problems.push(format!("{}: no file for ({target})", path.display()));
            } else if !fragment.is_empty() {
                let page = fs::read_to_string(&target_path).unwrap();
                let mut headings = prose(&page).filter_map(|line| line.strip_prefix('#'));
                if !headings.any(|it| anchor(it.trim_start_matches('#').trim()) == fragment) {
                    problems.push(format!("{}: no heading for ({target})", path.display()));
                }
            }
        }
    }
    assert!(10 < link_count, "only {link_count} links were found");
    assert_no_problems(&problems);
}

// ── unit files ──────────────────────────────────────────────────────────────────────────────────

/// The values that a unit or a drop-in gives to a name.
fn unit_values<'u>(unit: &'u str, name: &str) -> Vec<&'u str> {
    let settings = unit.lines().filter_map(|line| line.split_once('='));
    settings
        .filter(|it| it.0 == name)
        .map(|it| it.1.trim())
        .collect()
}

#[test]
fn a_unit_with_a_port_below_1024_may_listen_on_it() {
    let known = listed_options(&section(&help(PROGRAM), "Options of serve"));
    let names = [
        "waterwheel.service",
        "waterwheel-socket.conf",
        "waterwheel-takeover.conf",
        "waterwheel-tls.conf",
        "waterwheel-tokens.conf",
    ];
    for name in names {
        let unit = read(&format!("docs/packaging/{name}")).replace("\\\n", " ");
        let commands = unit_values(&unit, "ExecStart").join(" ");
        for option in commands.split_whitespace().filter_map(option_name) {
            assert!(known.contains(&option), "{name}: serve has no {option}");
        }
        let listens = commands.split_whitespace().filter_map(|word| {
            let port: u16 = word.rsplit_once(':')?.1.parse().ok()?;
            (port < 1024).then_some(port)
        });
        if listens.count() == 0 {
            continue;
        }
        for set in ["CapabilityBoundingSet", "AmbientCapabilities"] {
            assert_eq!(
                unit_values(&unit, set),
                ["CAP_NET_BIND_SERVICE"],
                "{name}: {set}"
            );
        }
        // The capability of a user namespace has no power over the ports of the machine.
        assert_eq!(unit_values(&unit, "PrivateUsers"), ["no"], "{name}");
    }
}

#[test]
fn the_headers_that_a_client_sets_are_all_named() {
    let encoder = read("src/protocol/http/encode_request.rs");
    let names = block(&encoder, "const RESERVED_NAMES");
    let names: Vec<_> = names
        .take_while(|line| *line != "];")
        .filter_map(|line| line.trim().strip_prefix('"')?.strip_suffix("\","))
        .collect();
    assert!(names.contains(&"host"), "{names:?}");
    let errors = read("src/protocol/http/error.rs");
    let (before, _) = errors.split_once("    ReservedName,").unwrap();
    let comment = before.rsplit("\n\n").next().unwrap().to_ascii_lowercase();
    for name in names {
        assert!(comment.contains(&format!("`{name}`")), "{name}");
    }
}
