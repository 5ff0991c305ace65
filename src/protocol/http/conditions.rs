//! Conditional requests and ranges: whether a resource is sent whole, in part, or not at all.
//!
//! Source: RFC 9110, section 13; for the order of the checks section 13.2.2.

use super::date::parse_date;
use super::entity_tag::{EntityTag, EntityTags};
use super::headers::Headers;
use super::range::{Part, RangeRequest, Unsatisfiable};

/// The conditions of a GET or HEAD request. They own what they hold, so that they can be checked when the request
/// is gone from the input.
#[derive(Clone, Debug, Default)]
pub struct Conditions {
    if_match: Option<EntityTags>,
    if_none_match: Option<EntityTags>,
    /// In seconds since 1970.
    if_modified_since: Option<u64>,
    if_unmodified_since: Option<u64>,
    if_range: Option<IfRange>,
    range: Option<RangeRequest>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum IfRange {
    Tag(EntityTag),
    /// In seconds since 1970.
    Date(u64),
    /// The value is no tag and no date, so that no state fits.
    Malformed,
}

/// The state of a resource.
#[derive(Clone, Debug)]
pub struct Validators {
    /// Its entity tag.
    pub tag: EntityTag,
    /// Its time of modification as `Last-Modified` has it, in seconds since 1970. `None` where it is not known.
    pub modified_seconds: Option<u64>,
}

/// The answer that the conditions ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selected {
    /// 200: all of it.
    Whole,
    /// 206: this part.
    Part(Part),
    /// 304: the client has it.
    NotModified,
    /// 412: it is not in the state that the client expects.
    PreconditionFailed,
    /// 416: the range has no byte of it.
    NotSatisfiable,
}

impl Conditions {
    /// The conditions of a GET or HEAD request, at a time in seconds since 1970. A date that is malformed is no
    /// condition. HEAD has no ranges: its answer is the head of the whole. Source: RFC 9110, section 14.2.
    pub fn of(method: &str, headers: Headers<'_>, now_seconds: u64) -> Conditions {
        let tags = |name| {
            let is_there = headers.contains(name);
            is_there.then(|| EntityTags::parse(headers.all(name)))
        };
        let date = |name| {
            let value = headers.first(name)?;
            parse_date(value, now_seconds)
        };
        let range = match method {
            "GET" => RangeRequest::of(headers),
            _ => None,
        };
        let if_range = headers.first("if-range").map(|value| {
            let date = || parse_date(value, now_seconds).map(IfRange::Date);
            let tag = EntityTag::parse(value).map(IfRange::Tag);
            tag.or_else(date).unwrap_or(IfRange::Malformed)
        });
        Conditions {
            if_match: tags("if-match"),
            if_none_match: tags("if-none-match"),
            if_modified_since: date("if-modified-since"),
            if_unmodified_since: date("if-unmodified-since"),
            // Without a range it means nothing.
            if_range: if_range.filter(|_| range.is_some()),
            range,
        }
    }

    /// The answer for a resource of `length_bytes` in this state.
    pub fn select(&self, validators: &Validators, length_bytes: u64) -> Selected {
        let Validators {
            tag,
            modified_seconds,
        } = validators;
        let is_expected = match (&self.if_match, self.if_unmodified_since) {
            (Some(tags), _) => tags.has_strongly(tag),
            (None, Some(since)) => modified_seconds.is_none_or(|modified| modified <= since),
            (None, None) => true,
        };
        if !is_expected {
            return Selected::PreconditionFailed;
        }
        let is_known = match (&self.if_none_match, self.if_modified_since) {
            (Some(tags), _) => tags.has_weakly(tag),
            (None, Some(since)) => modified_seconds.is_some_and(|modified| modified <= since),
            (None, None) => false,
        };
        if is_known {
            return Selected::NotModified;
        }
        match self.range.filter(|_| self.is_in_range_state(validators)) {
            None => Selected::Whole,
            Some(range) => match range.part_of(length_bytes) {
                Ok(Some(part)) => Selected::Part(part),
                Ok(None) => Selected::Whole,
                Err(Unsatisfiable) => Selected::NotSatisfiable,
            },
        }
    }

    /// Whether the client has the beginning of the state that there is now. A date must be the same, because
    /// another file may have taken the place with an earlier one, and is weak where the tag is. Source: RFC 9110,
    /// sections 8.8.2.2 and 13.1.5.
    fn is_in_range_state(&self, validators: &Validators) -> bool {
        match &self.if_range {
            None => true,
            Some(IfRange::Tag(tag)) => tag.is_strongly(&validators.tag),
            Some(IfRange::Date(date)) => {
                !validators.tag.is_weak() && validators.modified_seconds == Some(*date)
            }
            Some(IfRange::Malformed) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";
    const MODIFIED_SECONDS: u64 = 784_111_777;
    const NOW_SECONDS: u64 = 1_700_000_000;

    fn select(tag: &str, modified_seconds: Option<u64>, lines: &[(&str, &str)]) -> Selected {
        select_for("GET", tag, modified_seconds, lines)
    }

    fn select_for(
        method: &str,
        tag: &str,
        modified_seconds: Option<u64>,
        lines: &[(&str, &str)],
    ) -> Selected {
        let lines: Vec<_> = lines
            .iter()
            .map(|(name, value)| httparse::Header {
                name,
                value: value.as_bytes(),
            })
            .collect();
        let validators = Validators {
            tag: EntityTag::parse(tag).unwrap(),
            modified_seconds,
        };
        Conditions::of(method, Headers(&lines), NOW_SECONDS).select(&validators, 10)
    }

    #[test]
    fn conditions_of_a_file_with_a_strong_tag() {
        use Selected::*;
        let part = Part(super::Part { first: 0, last: 4 });
        let (tag, other) = ("\"a\"", "\"b\"");
        let range = ("Range", "bytes=0-4");
        let cases: &[(&[(&str, &str)], Selected)] = &[
            (&[], Whole),
            // If-Match, strong.
            (&[("If-Match", tag)], Whole),
            (&[("If-Match", "*")], Whole),
            (&[("If-Match", "\"b\", \"a\"")], Whole),
            (&[("If-Match", other)], PreconditionFailed),
            (&[("If-Match", "W/\"a\"")], PreconditionFailed),
            (&[("If-Match", "a")], PreconditionFailed),
            // If-Unmodified-Since, which If-Match overrides.
            (&[("If-Unmodified-Since", MODIFIED)], Whole),
            (&[("If-Unmodified-Since", AFTER)], Whole),
            (&[("If-Unmodified-Since", BEFORE)], PreconditionFailed),
            (&[("If-Unmodified-Since", "yesterday")], Whole),
            (&[("If-Unmodified-Since", BEFORE), ("If-Match", tag)], Whole),
            // If-None-Match, weak.
            (&[("If-None-Match", tag)], NotModified),
            (&[("If-None-Match", "W/\"a\"")], NotModified),
            (&[("If-None-Match", "*")], NotModified),
            (
                &[("If-None-Match", other), ("If-None-Match", tag)],
                NotModified,
            ),
            (&[("If-None-Match", other)], Whole),
            (&[("If-None-Match", "")], Whole),
            // If-Modified-Since, which If-None-Match overrides.
            (&[("If-Modified-Since", MODIFIED)], NotModified),
            (&[("If-Modified-Since", AFTER)], NotModified),
            (&[("If-Modified-Since", BEFORE)], Whole),
            (&[("If-Modified-Since", "yesterday")], Whole),
            (
                &[("If-Modified-Since", "Sunday, 06-Nov-94 08:49:37 GMT")],
                NotModified,
            ),
            (
                &[("If-Modified-Since", "Sun Nov  6 08:49:37 1994")],
                NotModified,
            ),
            (
                &[("If-Modified-Since", MODIFIED), ("If-None-Match", other)],
                Whole,
            ),
            // Preconditions come first, and ranges last.
            (
                &[("If-Match", other), ("If-None-Match", tag)],
                PreconditionFailed,
            ),
            (&[("If-Match", tag), ("If-None-Match", tag)], NotModified),
            (&[range], part),
            (&[("If-None-Match", tag), range], NotModified),
            (&[("If-Match", other), range], PreconditionFailed),
            (&[("If-Match", tag), range], part),
            (&[("Range", "bytes=10-")], NotSatisfiable),
            (&[("Range", "bytes=0-1,3-4")], Whole),
            // If-Range, strong.
            (&[range, ("If-Range", tag)], part),
            (&[range, ("If-Range", other)], Whole),
            (&[range, ("If-Range", "W/\"a\"")], Whole),
            (&[range, ("If-Range", MODIFIED)], part),
            (&[range, ("If-Range", BEFORE)], Whole),
            (&[range, ("If-Range", AFTER)], Whole),
            (&[range, ("If-Range", "yesterday")], Whole),
            (&[("If-Range", other)], Whole),
            (&[("Range", "bytes=10-"), ("If-Range", other)], Whole),
        ];
        for (lines, expected) in cases {
            assert_eq!(
                select(tag, Some(MODIFIED_SECONDS), lines),
                *expected,
                "{lines:?}"
            );
        }
    }

    #[test]
    fn a_weak_tag_is_good_enough_for_a_cache_and_not_for_parts() {
        use Selected::*;
        for (lines, expected) in [
            (&[("If-None-Match", "\"a\"")][..], NotModified),
            (&[("If-None-Match", "W/\"a\"")], NotModified),
            (&[("If-Match", "\"a\"")], PreconditionFailed),
            (&[("Range", "bytes=0-4"), ("If-Range", "W/\"a\"")], Whole),
            (&[("Range", "bytes=0-4"), ("If-Range", "\"a\"")], Whole),
            (&[("Range", "bytes=0-4"), ("If-Range", MODIFIED)], Whole),
            (&[("If-Modified-Since", MODIFIED)], NotModified),
        ] {
            let modified = Some(MODIFIED_SECONDS);
            assert_eq!(select("W/\"a\"", modified, lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn head_has_conditions_and_no_ranges() {
        let range = ("Range", "bytes=0-4");
        for (lines, expected) in [
            (&[range][..], Selected::Whole),
            (&[("Range", "bytes=10-")], Selected::Whole),
            (&[range, ("If-None-Match", "\"a\"")], Selected::NotModified),
            (
                &[range, ("If-Match", "\"b\"")],
                Selected::PreconditionFailed,
            ),
        ] {
            let selected = select_for("HEAD", "\"a\"", None, lines);
            assert_eq!(selected, expected, "{lines:?}");
        }
    }

    #[test]
    fn without_a_time_of_modification_dates_decide_nothing() {
        for lines in [
            [("If-Modified-Since", AFTER)],
            [("If-Unmodified-Since", BEFORE)],
        ] {
            assert_eq!(select("\"a\"", None, &lines), Selected::Whole, "{lines:?}");
        }
        let lines = [("Range", "bytes=0-4"), ("If-Range", MODIFIED)];
        assert_eq!(select("\"a\"", None, &lines), Selected::Whole);
    }
}
