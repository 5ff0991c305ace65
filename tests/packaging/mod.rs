//! The completions of shells and the man page, made from the help texts of the program.
//!
//! They are files of the repository, so that a packager needs no build to get them. A test compares
//! them with what the help texts give, and writes them when `WATERWHEEL_WRITE` is set.

use std::fmt::Write;

/// An option of a command.
struct CommandOption {
    name: String,
    /// `ADDR`, `text|json`; `None` for a switch.
    value: Option<String>,
    description: String,
}

/// A command with the options that it has.
struct Command {
    /// As it is typed: `serve`, `bench echo`.
    name: String,
    summary: String,
    options: Vec<CommandOption>,
}

const HELP: &str = "  --help  print the options of the command";
const VERSION: &str = "  --version  print the version";

/// The options in the section of a help text whose heading names the command.
fn section_options(help: &str, name: &str) -> Vec<CommandOption> {
    let is_heading = |line: &&str| {
        let names = line.strip_prefix("Options of ").unwrap_or_default();
        let names = names.split([',', ':']).next().unwrap_or_default();
        names.split(" and ").any(|known| known == name)
    };
    let lines = help.lines().skip_while(|line| !is_heading(line)).skip(1);
    options(lines.take_while(|line| !line.is_empty()))
}

/// `  --name VALUE   description`, where the description may go on in further lines.
fn options<'h>(lines: impl Iterator<Item = &'h str>) -> Vec<CommandOption> {
    let mut options: Vec<CommandOption> = Vec::new();
    for line in lines {
        let text = line.trim();
        let Some(rest) = text.strip_prefix("--") else {
            if let Some(option) = options.last_mut() {
                let space = if option.description.is_empty() {
                    ""
                } else {
                    " "
                };
                option.description.push_str(space);
                option.description.push_str(text);
            }
            continue;
        };
        let (usage, description) = rest.split_once("  ").unwrap_or((rest, ""));
        let (name, value) = match usage.split_once(' ') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (usage, None),
        };
        options.push(CommandOption {
            name: name.to_owned(),
            value,
            description: description.trim().to_owned(),
        });
    }
    options
}

/// The description in the usage line of a command.
fn summary(help: &str, name: &str) -> String {
    let usage = |line: &&str| {
        line.replace(['[', ']'], "")
            .trim()
            .starts_with(&format!("waterwheel {name} "))
    };
    let line = help
        .lines()
        .find(usage)
        .unwrap_or_else(|| panic!("no usage of {name}"));
    let (_, summary) = line.trim().split_once("  ").expect("a description");
    summary.trim().to_owned()
}

fn commands(program: &str, bench: &str) -> Vec<Command> {
    let mut commands = Vec::new();
    for name in ["serve", "echo", "doctor"] {
        commands.push(Command {
            name: name.to_owned(),
            summary: summary(program, name),
            options: section_options(program, name),
        });
    }
    for load in ["echo", "idle", "churn", "fan-out", "sse"] {
        let mut options = section_options(bench, load);
        let mut of_all = section_options(bench, "all");
        // The heading of its section says so.
        of_all.retain(|it| load != "idle" || !["seconds", "warmup"].contains(&it.name.as_str()));
        options.extend(of_all);
        commands.push(Command {
            name: format!("bench {load}"),
            summary: summary(bench, &format!("bench {load}")),
            options,
        });
    }
    for command in &mut commands {
        assert!(!command.options.is_empty(), "{}", command.name);
        command.options.extend(options([HELP].into_iter()));
        if ["serve", "echo"].contains(&command.name.as_str()) {
            command.options.extend(options([VERSION].into_iter()));
        }
    }
    commands
}

/// The words that a value may be. Empty where it may be anything.
fn choices(option: &CommandOption) -> Vec<&str> {
    match option.value.as_deref() {
        Some("LEVEL") => vec!["off", "error", "warn", "info", "debug", "trace"],
        // A capital letter stands for any value, as in `R|max`.
        Some(value) if value.contains('|') => {
            let words = value.split('|');
            let is_word = |word: &&str| word.chars().all(|letter| letter.is_ascii_lowercase());
            words.filter(is_word).collect()
        }
        _ => Vec::new(),
    }
}

fn takes_file(option: &CommandOption) -> bool {
    let value = option.value.as_deref();
    value.is_some_and(|value| value.starts_with("FILE"))
}

const LOADS: &str = "echo idle churn fan-out sse";

fn bash(commands: &[Command]) -> String {
    let mut out = String::from(
        "# Completions of waterwheel for bash.\n\
         \n\
         _waterwheel() {\n\
         \x20   local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} command=serve words=\n\
         \x20   case ${COMP_WORDS[1]} in\n\
         \x20       echo | doctor) command=${COMP_WORDS[1]} ;;\n\
         \x20       bench) command=\"bench ${COMP_WORDS[2]}\" ;;\n\
         \x20   esac\n\
         \x20   if [ \"$COMP_CWORD\" = 1 ]; then words=\"serve echo bench doctor \"; fi\n\
         \x20   if [ \"$COMP_CWORD\" = 2 ] && [ \"$before\" = bench ]; then\n",
    );
    let _ = writeln!(out, "        words=\"{LOADS} --help\"");
    out.push_str("    else\n        case $command in\n");
    for command in commands {
        let names = command.options.iter().map(|it| format!("--{}", it.name));
        let names: Vec<_> = names.collect();
        let _ = writeln!(
            out,
            "            \"{}\") words+=\"{}\" ;;",
            command.name,
            names.join(" ")
        );
    }
    out.push_str("        esac\n    fi\n    case $command$before in\n");
    for command in commands {
        for option in &command.options {
            let (name, option_name) = (&command.name, &option.name);
            let words = choices(option);
            if takes_file(option) {
                let _ = writeln!(
                    out,
                    "        \"{name}--{option_name}\") COMPREPLY=($(compgen -f -- \"$word\")); return ;;"
                );
            } else if option.value.is_some() {
                let _ = writeln!(
                    out,
                    "        \"{name}--{option_name}\") words=\"{}\" ;;",
                    words.join(" ")
                );
            }
        }
    }
    out.push_str(
        "    esac\n\
         \x20   COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n\
         }\n\
         complete -F _waterwheel waterwheel\n",
    );
    out
}

fn zsh(commands: &[Command]) -> String {
    let quote = |text: &str| {
        text.replace('\'', "'\\''")
            .replace('[', "\\[")
            .replace(']', "\\]")
            .replace(':', "\\:")
    };
    let mut out = String::from(
        "#compdef waterwheel\n# Completions of waterwheel for zsh.\n\n_waterwheel() {\n",
    );
    out.push_str("    local command=serve first=2\n    case ${words[2]} in\n");
    out.push_str("        serve | echo | doctor) command=${words[2]} ;;\n");
    out.push_str("        bench) command=\"bench ${words[3]}\" ;;\n    esac\n");
    out.push_str("    if (( CURRENT == 2 )); then compadd serve echo bench doctor; fi\n");
    let _ = writeln!(
        out,
        "    if (( CURRENT == 3 )) && [[ ${{words[2]}} == bench ]]; then compadd {LOADS}; return; fi"
    );
    out.push_str("    case $command in\n");
    for command in commands {
        let _ = writeln!(
            out,
            "        '{}')\n            _arguments \\",
            command.name
        );
        for option in &command.options {
            let name = &option.name;
            let description = quote(&option.description);
            let value = match (&option.value, choices(option)) {
                (None, _) => String::new(),
                (Some(_), _) if takes_file(option) => ":file:_files".to_owned(),
                (Some(value), words) if words.is_empty() => format!(":{}: ", quote(value)),
                (Some(_), words) => format!(":value:({})", words.join(" ")),
            };
            let _ = writeln!(out, "                '*--{name}[{description}]{value}' \\");
        }
        out.push_str("                '*: :'\n            ;;\n");
    }
    out.push_str("    esac\n}\n\n_waterwheel \"$@\"\n");
    out
}

fn fish(commands: &[Command]) -> String {
    let quote = |text: &str| text.replace('\\', "\\\\").replace('\'', "\\'");
    let mut out =
        String::from("# Completions of waterwheel for fish.\n\ncomplete -c waterwheel -f\n");
    let no_command = "not __fish_seen_subcommand_from serve echo bench doctor";
    for command in commands.iter().filter(|it| !it.name.contains(' ')) {
        let _ = writeln!(
            out,
            "complete -c waterwheel -n '{no_command}' -a {} -d '{}'",
            command.name,
            quote(&command.summary)
        );
    }
    let _ = writeln!(
        out,
        "complete -c waterwheel -n '{no_command}' -a bench -d 'put load on a server'"
    );
    let _ = writeln!(
        out,
        "complete -c waterwheel -n '__fish_seen_subcommand_from bench; and not __fish_seen_subcommand_from {LOADS}' -a '{LOADS}'"
    );
    for command in commands {
        let condition = match command.name.split_once(' ') {
            Some((bench, load)) => format!(
                "__fish_seen_subcommand_from {bench}; and __fish_seen_subcommand_from {load}"
            ),
            None if command.name == "serve" => {
                "not __fish_seen_subcommand_from echo bench doctor".to_owned()
            }
            None => format!(
                "__fish_seen_subcommand_from {}; and not __fish_seen_subcommand_from bench",
                command.name
            ),
        };
        for option in &command.options {
            let words = choices(option);
            let value = match &option.value {
                None => String::new(),
                Some(_) if takes_file(option) => " -r -F".to_owned(),
                Some(_) if words.is_empty() => " -x".to_owned(),
                Some(_) => format!(" -x -a '{}'", words.join(" ")),
            };
            let _ = writeln!(
                out,
                "complete -c waterwheel -n '{condition}' -l {}{value} -d '{}'",
                option.name,
                quote(&option.description)
            );
        }
    }
    out
}

fn man(commands: &[Command], version: &str) -> String {
    let escape = |text: &str| {
        let text = text.replace('\\', "\\e").replace('-', "\\-");
        // A line that begins so would be a request to the formatter.
        match text.starts_with(['.', '\'']) {
            true => format!("\\&{text}"),
            false => text,
        }
    };
    let mut out = format!(
        ".\\\" Made from the help texts of the program, by tests/packaging.\n\
         .TH WATERWHEEL 1 \"\" \"waterwheel {version}\"\n\
         .SH NAME\nwaterwheel \\- pushes backend changes to browsers\n\
         .SH SYNOPSIS\n"
    );
    for command in commands {
        let _ = writeln!(
            out,
            ".B waterwheel {}\n[\\fIOPTIONS\\fR]\n.br",
            escape(&command.name)
        );
    }
    out.push_str(
        ".SH DESCRIPTION\n\
         A hub that forwards what a back end publishes to browsers, over WebSocket and Server\\-Sent\n\
         Events; a bare echo server; a load tool; and a check of the limits of this machine. Without a\n\
         command it is the hub.\n",
    );
    for command in commands {
        let _ = writeln!(out, ".SH OPTIONS OF {}", command.name.to_uppercase());
        let _ = writeln!(
            out,
            ".B waterwheel {}\n\\- {}.",
            escape(&command.name),
            escape(&command.summary)
        );
        for option in &command.options {
            let name = escape(&option.name);
            let _ = match &option.value {
                Some(value) => writeln!(out, ".TP\n\\fB\\-\\-{name}\\fR \\fI{}\\fR", escape(value)),
                None => writeln!(out, ".TP\n\\fB\\-\\-{name}\\fR"),
            };
            let _ = writeln!(out, "{}", escape(&option.description));
        }
    }
    out.push_str(
        ".SH ENVIRONMENT\n\
         .TP\n.B WATERWHEEL_PUBLISH_TOKEN\nthe token of the hub, unless an option gives one\n\
         .TP\n.B WATERWHEEL_OPTIONS_FILE\nthe file of options of the hub, unless \\fB\\-\\-options\\-file\\fR is given\n\
         .TP\n.B PORT\nthe port of the hub on all addresses, unless \\fB\\-\\-listen\\fR is given\n\
         .TP\n.B HTTPS_PROXY, NO_PROXY\nthe proxy of \\fBbench\\fR for wss:// and https://, and the servers that need none\n\
         .SH SIGNALS\n\
         .TP\n.B TERM, INT\ndrain: say goodbye to all clients over the drain window, and end; a second one ends at once\n\
         .TP\n.B HUP\nread the token file again\n\
         .SH EXIT STATUS\n\
         0 after a drain; 1 when the program cannot run, \\fBdoctor\\fR found a limit that is too low or\n\
         \\fBbench\\fR found something wrong; 2 when the options are wrong.\n",
    );
    out
}

/// The files below `docs/packaging`, with their text.
pub fn files(program_help: &str, bench_help: &str) -> Vec<(&'static str, String)> {
    let commands = commands(program_help, bench_help);
    vec![
        ("completions/waterwheel.bash", bash(&commands)),
        ("completions/_waterwheel", zsh(&commands)),
        ("completions/waterwheel.fish", fish(&commands)),
        ("waterwheel.1", man(&commands, env!("CARGO_PKG_VERSION"))),
    ]
}
