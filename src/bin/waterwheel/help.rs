//! The help of one command, cut from the text of all commands, and suggestions for misspelled words.

/// Most letters in which a misspelled word and its suggestion differ.
const DISTANCE_MAX: usize = 3;

/// The part of a help text that is about one command: its usage, and the sections of its options.
///
/// `sections` are the headings behind `Options of `, in the order in which they are shown.
pub fn of(help: &str, command: &str, sections: &[&str]) -> String {
    let usage = help.lines().filter(|line| is_usage_of(line, command));
    let mut text: String = usage.map(|line| format!("{}\n", line.trim())).collect();
    for name in sections {
        if let Some((heading, lines)) = section(help, name) {
            text.push_str(&format!("\n{heading}\n"));
            lines.for_each(|line| text.push_str(&format!("{line}\n")));
        }
    }
    text
}

/// Whether a line is `  waterwheel COMMAND ...`, where the name may stand in brackets.
fn is_usage_of(line: &str, command: &str) -> bool {
    let Some(words) = line.trim().strip_prefix("waterwheel ") else {
        return false;
    };
    let words = words.replace(['[', ']'], "");
    let rest = words.strip_prefix(command);
    line.starts_with("  ") && rest.is_some_and(|rest| rest.starts_with(' '))
}

/// The heading of a section that is about `name`, and its lines up to an empty one.
fn section<'h>(help: &'h str, name: &str) -> Option<(&'h str, impl Iterator<Item = &'h str>)> {
    let mut lines = help.lines();
    let heading = lines.find(|line| {
        let names = line.strip_prefix("Options of ").unwrap_or_default();
        let names = names.split([',', ':']).next().unwrap_or_default();
        names.split(" and ").any(|known| known == name)
    })?;
    Some((heading, lines.take_while(|line| !line.is_empty())))
}

/// The names of the options in a section of a help text, without dashes.
pub fn options<'h>(help: &'h str, name: &str) -> Vec<&'h str> {
    let lines = section(help, name).into_iter().flat_map(|(_, lines)| lines);
    lines
        .filter_map(|line| line.trim_start().strip_prefix("--"))
        .filter_map(|line| line.split([' ', ',']).next())
        .collect()
}

/// `; did you mean WORD?`, with the known word that is most like the given one. Empty where none is
/// like it.
pub fn suggestion<'k>(
    prefix: &str,
    given: &str,
    known: impl IntoIterator<Item = &'k str>,
) -> String {
    let best = known
        .into_iter()
        .filter_map(|word| Some((likeness(given, word)?, word)))
        .min_by_key(|(distance, _)| *distance);
    match best {
        Some((_, word)) => format!("; did you mean {prefix}{word}?"),
        None => String::new(),
    }
}

/// How many letters differ, for words that may be meant for each other: at most one letter of
/// three. A word that was not written to its end counts as one letter.
fn likeness(given: &str, known: &str) -> Option<usize> {
    if 2 < given.len() && known.starts_with(given) {
        return Some(1);
    }
    let distance = edit_distance(given, known);
    let max = (known.len() / 3).clamp(1, DISTANCE_MAX);
    (distance <= max).then_some(distance)
}

/// The fewest letters to insert, leave out, replace, or exchange with their neighbour.
fn edit_distance(given: &str, known: &str) -> usize {
    let (given, known): (Vec<char>, Vec<char>) = (given.chars().collect(), known.chars().collect());
    // Row `i` has the distances of the first `i` letters of `given` to each beginning of `known`.
    let mut rows = vec![(0..=known.len()).collect::<Vec<_>>()];
    for (i, letter) in given.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, other) in known.iter().enumerate() {
            let replaced = rows[i][j] + usize::from(letter != other);
            let mut least = replaced.min(rows[i][j + 1] + 1).min(row[j] + 1);
            if 0 < i && 0 < j && *letter == known[j - 1] && given[i - 1] == *other {
                least = least.min(rows[i - 1][j - 1] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[given.len()][known.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
title

  waterwheel [serve] [OPTIONS]   run it
  waterwheel bench echo [OPTIONS]  load it

Options of serve:
  --listen ADDR   where
                  [here]
  --open          for all

Options of fan-out and sse, against `serve`, to all:
  --rate R|max    how much
";

    #[test]
    fn the_help_of_a_command_has_its_usage_and_its_options() {
        let expected = "waterwheel [serve] [OPTIONS]   run it\n\nOptions of serve:\n  --listen ADDR   where\n                  [here]\n  --open          for all\n";
        assert_eq!(of(TEXT, "serve", &["serve"]), expected);
        assert_eq!(options(TEXT, "serve"), ["listen", "open"]);
        assert_eq!(options(TEXT, "sse"), ["rate"]);
        assert_eq!(options(TEXT, "fan-out"), ["rate"]);
        assert_eq!(options(TEXT, "all"), [""; 0]);
        assert!(of(TEXT, "bench echo", &[]).starts_with("waterwheel bench echo"));
    }

    #[test]
    fn a_misspelled_word_has_a_suggestion_and_another_word_has_none() {
        let known = ["listen", "log", "max-connections", "publish-token", "open"];
        let cases = [
            ("lissen", "; did you mean --listen?"),
            ("lsiten", "; did you mean --listen?"),
            ("max-conections", "; did you mean --max-connections?"),
            ("max-connection", "; did you mean --max-connections?"),
            ("publish", "; did you mean --publish-token?"),
            ("opne", "; did you mean --open?"),
            ("lag", "; did you mean --log?"),
            ("verbose", ""),
            ("x", ""),
            ("", ""),
        ];
        for (given, expected) in cases {
            assert_eq!(suggestion("--", given, known), expected, "{given}");
        }
    }
}
