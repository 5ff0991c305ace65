//! Glob patterns over topic names, by the same rule as Redis, so that a pattern means the same on
//! both sides of a backplane.
//!
//! | pattern | matches |
//! |---|---|
//! | `*` | any bytes, also none |
//! | `?` | one byte |
//! | `[abc]`, `[a-z]`, `[^a]` | one byte of a set, of a range (in either order), outside a set |
//! | `\x` | the byte `x` itself, inside a set too |
//!
//! Bytes, not characters: `?` is a third of `日`. Redis's corners are kept: a set that is not closed
//! ends with the pattern, `[]` matches nothing and `[^]` any byte, `]` may end a range (so `[a-]` is
//! not closed), a last `\` is itself, and the empty name is matched by the empty pattern only.
//!
//! Source: Redis 7.0, `util.c`, `stringmatchlen`, as compiled where `char` is signed.

/// Whether a name is to be taken as a pattern: it has one of `*`, `?`, `[` or `\`.
///
/// Where this is `false`, [`matches()`] is equality. A topic that has such a byte in its name is
/// subscribed to by a pattern that escapes it, so `a\*` is a pattern.
pub fn is_pattern(name: &str) -> bool {
    name.bytes()
        .any(|byte| matches!(byte, b'*' | b'?' | b'[' | b'\\'))
}

/// Whether `name` matches `pattern` as a whole.
///
/// Takes at most the product of both lengths in steps, and no memory. Only the last `*` is ever
/// tried again: when the rest cannot match behind it, a longer match of an earlier one cannot help.
pub fn matches(pattern: &[u8], name: &[u8]) -> bool {
    if name.is_empty() {
        return pattern.is_empty();
    }
    let mut pattern_rest = pattern;
    let mut name_rest = name;
    let mut last_star = None;
    while let [first, name_tail @ ..] = name_rest {
        if let [b'*', tail @ ..] = pattern_rest {
            if tail.is_empty() {
                return true;
            }
            pattern_rest = tail;
            last_star = Some((tail, name_rest));
        } else if let Some(tail) = match_one(pattern_rest, *first) {
            pattern_rest = tail;
            name_rest = name_tail;
        } else {
            let Some((after_star, [_, retry_at @ ..])) = last_star else {
                return false;
            };
            last_star = Some((after_star, retry_at));
            pattern_rest = after_star;
            name_rest = retry_at;
        }
    }
    pattern_rest.iter().all(|byte| *byte == b'*')
}

/// The rest of the pattern, when its first item, which is not `*`, matches `byte`.
fn match_one(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    let (is_match, rest) = match pattern {
        [] => return None,
        [b'?', rest @ ..] => (true, rest),
        [b'[', b'^', set @ ..] => {
            let (is_in, rest) = match_set(set, byte);
            (!is_in, rest)
        }
        [b'[', set @ ..] => match_set(set, byte),
        [b'\\', literal, rest @ ..] | [literal, rest @ ..] => (*literal == byte, rest),
    };
    is_match.then_some(rest)
}

/// Whether `byte` is in the set, and what is behind the set.
fn match_set(mut set: &[u8], byte: u8) -> (bool, &[u8]) {
    let mut is_in = false;
    loop {
        set = match set {
            [] => return (is_in, set),
            [b'\\', literal, rest @ ..] => {
                is_in |= *literal == byte;
                rest
            }
            [b']', rest @ ..] => return (is_in, rest),
            [start, b'-', end, rest @ ..] => {
                is_in |= is_between(*start, *end, byte);
                rest
            }
            [literal, rest @ ..] => {
                is_in |= *literal == byte;
                rest
            }
        };
    }
}

// As signed numbers, which is what Redis compares on x86-64. It only shows in a range with one end
// in ASCII and the other not.
fn is_between(start: u8, end: u8, byte: u8) -> bool {
    let (start, end, byte) = (start as i8, end as i8, byte as i8);
    (start.min(end)..=start.max(end)).contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pubsub::tests::Xorshift;

    #[test]
    fn globs() {
        let cases: &[(&str, &[&str], &[&str])] = &[
            ("", &[""], &["a", "*"]),
            ("a", &["a"], &["", "b", "aa", "A"]),
            ("*", &["a", "abc", "*", "\n"], &[""]),
            ("**", &["a", "ab"], &[""]),
            ("a*", &["a", "ab", "abc"], &["", "b", "ba"]),
            ("*a", &["a", "ba", "aa"], &["ab", ""]),
            ("a**", &["a", "ab"], &["b"]),
            (
                "a*b*c",
                &["abc", "aXbYc", "abbcc", "abcbc"],
                &["ab", "acb", "abcd"],
            ),
            ("*.b.*", &["a.b.c", ".b.", "x.b.b.b.y"], &["a.b", "b.c"]),
            ("news.*", &["news.art", "news."], &["news", "newsart"]),
            ("?", &["a", "*", "\\"], &["", "ab"]),
            ("h?llo", &["hello", "hallo"], &["hllo", "heello"]),
            ("a?*", &["ab", "abc"], &["a"]),
            ("??", &["é", "ab"], &["a", "日"]),
            ("[abc]", &["a", "b", "c"], &["d", "", "ab", "[abc]"]),
            ("h[ae]llo", &["hello", "hallo"], &["hillo", "hllo"]),
            ("h[^e]llo", &["hallo", "hbllo", "h^llo"], &["hello", "hllo"]),
            ("[a-c]x", &["ax", "bx", "cx"], &["dx", "-x", "x"]),
            ("[c-a]x", &["ax", "bx", "cx"], &["dx", "-x"]),
            ("[0-9a-f]", &["0", "9", "a", "f"], &["g", "-", ":"]),
            ("[^a-c]", &["d", "-"], &["a", "b", "c", ""]),
            ("[-a]", &["-", "a"], &["b"]),
            ("[--/]", &["-", ".", "/"], &["0", ","]),
            ("[a^]", &["a", "^"], &["b"]),
            ("[*?]", &["*", "?"], &["a", "**"]),
            ("[[]", &["["], &["]", "[]"]),
            ("[]", &[], &["", "[", "]", "[]", "a"]),
            ("[]a]", &[], &["]", "a", "a]", "[]a]"]),
            ("[^]", &["a", "]"], &["", "ab", "[^]"]),
            ("[^]x", &["ax", "]x"], &["x"]),
            ("[abc", &["a", "b", "c"], &["[abc", "d", ""]),
            ("[", &[], &["[", "", "a"]),
            ("[^", &["a", "["], &["", "ab"]),
            ("[a-]", &["]", "^", "_", "`", "a"], &["-", "b", "a]"]),
            ("[a-", &["a", "-"], &["b"]),
            ("[\\]]", &["]"], &["\\", "\\]", ""]),
            ("[\\-a]", &["-", "a"], &["\\", "b"]),
            ("[\\a-c]", &["a", "-", "c"], &["b"]),
            ("[a-\\z]", &["\\", "]", "a", "z"], &["b", "y", "-"]),
            ("[\\", &["\\"], &["[", ""]),
            ("[\\]", &["]"], &["\\", "[\\]"]),
            ("\\*", &["*"], &["a", "\\*", ""]),
            ("\\a", &["a"], &["\\a", "\\"]),
            ("\\\\", &["\\"], &["\\\\"]),
            ("\\[a]", &["[a]"], &["a"]),
            ("a\\", &["a\\"], &["a"]),
            ("\\", &["\\"], &["", "a"]),
            ("*\\*", &["*", "a*"], &["a", "*a"]),
            ("*[ab]*c", &["ac", "xaxc", "bcc"], &["c", "xc", "a"]),
            ("日*", &["日本"], &["本日"]),
        ];
        for (pattern, yes, no) in cases {
            for name in *yes {
                assert!(
                    matches(pattern.as_bytes(), name.as_bytes()),
                    "{pattern} {name}"
                );
            }
            for name in *no {
                assert!(
                    !matches(pattern.as_bytes(), name.as_bytes()),
                    "{pattern} {name}"
                );
            }
        }
    }

    #[test]
    fn ranges_across_ascii_compare_as_signed() {
        assert!(matches(b"[\x80-a]", b"\x00"));
        assert!(matches(b"[\x80-a]", b"\xff"));
        assert!(!matches(b"[\x80-a]", b"b"));
        assert!(matches(b"[\x80-\xff]", b"\xc3"));
    }

    #[test]
    fn a_name_without_specials_is_no_pattern_and_matches_itself_only() {
        for name in ["a", "news.art", "a-b^c]d", "日本", "{a,b}", "!x"] {
            assert!(!is_pattern(name), "{name}");
            assert!(matches(name.as_bytes(), name.as_bytes()), "{name}");
        }
        for name in ["*", "a?", "[a", "a\\*", "a\\", "news.*"] {
            assert!(is_pattern(name), "{name}");
        }
    }

    #[test]
    fn many_stars_do_not_take_exponential_time() {
        // Redis took minutes for these before 7.0.9 (CVE-2022-36021). A step too many shows as a
        // test that does not end.
        let name = "a".repeat(4000);
        assert!(matches("a*".repeat(1000).as_bytes(), name.as_bytes()));
        assert!(!matches(
            format!("{}b", "a*".repeat(1000)).as_bytes(),
            name.as_bytes()
        ));
        assert!(!matches(
            format!("{}b", "*a".repeat(1000)).as_bytes(),
            name.as_bytes()
        ));
        assert!(!matches(
            format!("{}[b]", "*?[a-z]".repeat(500)).as_bytes(),
            name.as_bytes()
        ));
        assert!(matches(
            format!("{}b", "a*".repeat(1000)).as_bytes(),
            format!("{name}b").as_bytes()
        ));
    }

    /// The rule as its definition reads: every `*` tries every length.
    fn matches_by_definition(pattern: &[u8], name: &[u8]) -> bool {
        match pattern {
            [] => name.is_empty(),
            [b'*', rest @ ..] => {
                (0..=name.len()).any(|length| matches_by_definition(rest, &name[length..]))
            }
            _ => name.split_first().is_some_and(|(first, tail)| {
                match_one(pattern, *first).is_some_and(|rest| matches_by_definition(rest, tail))
            }),
        }
    }

    #[test]
    fn same_as_trying_everything() {
        let mut random = Xorshift::new(7);
        let mut matched = 0;
        for _ in 0..200_000 {
            let pattern: Vec<u8> = (0..random.below(9))
                .map(|_| b"**?[]^-\\aabbc"[random.below(13)])
                .collect();
            let name: Vec<u8> = (0..1 + random.below(7))
                .map(|_| b"aaabbc-]\\"[random.below(9)])
                .collect();
            let expected = matches_by_definition(&pattern, &name);
            matched += usize::from(expected);
            assert_eq!(
                matches(&pattern, &name),
                expected,
                "{} {}",
                pattern.escape_ascii(),
                name.escape_ascii()
            );
        }
        assert!(matched > 5_000, "{matched} matched");
    }
}
