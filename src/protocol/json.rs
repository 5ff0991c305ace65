//! JSON that grammars and routes read and write without a data model.

use std::borrow::Cow;
use std::fmt;

use serde_core::de::{
    DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::value::RawValue;

/// How deep arrays and objects may stand in each other. Many readers of JSON recurse, and a member could be
/// one of them.
const DEPTH_MAX: usize = 128;

/// Whether a text is one JSON value, and nested at most 128 deep.
///
/// # Errors
///
/// Names the first mistake and its line and column.
pub(crate) fn check(text: &str) -> Result<(), serde_json::Error> {
    check_depth(text)?;
    serde_json::from_str::<&RawValue>(text).map(drop)
}

/// Checks that a text that may be JSON is nested at most 128 deep. The parser does not check this for values
/// that it keeps as text.
///
/// # Errors
///
/// Says how deep a text may be nested.
pub(crate) fn check_depth(text: &str) -> Result<(), serde_json::Error> {
    check_depth_max(text, DEPTH_MAX)
}

/// As [`check_depth`], with another limit.
///
/// # Errors
///
/// As [`check_depth`].
pub(crate) fn check_depth_max(text: &str, depth_max: usize) -> Result<(), serde_json::Error> {
    // Most messages are shorter than this and cannot be deeper.
    if text.len() <= depth_max || depth(text) <= depth_max {
        return Ok(());
    }
    Err(Error::custom(format_args!(
        "arrays and objects more than {depth_max} deep"
    )))
}

/// How deep the brackets of a text stand in each other, outside of its strings.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => skip_string(&mut bytes),
            _ => {}
        }
    }
    deepest
}

/// Goes on behind the quote that ends a string.
fn skip_string(bytes: &mut impl Iterator<Item = u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            // The byte behind a backslash is not the end.
            b'\\' => drop(bytes.next()),
            _ => {}
        }
    }
}

/// Limit of the fields of one object, known or not.
const FIELDS_MAX: usize = 64;

/// The values of the fields of an object that have these names, as they stand in the text. Other fields are not
/// kept, so that an object of many small fields costs no memory.
///
/// # Errors
///
/// When the text is not an object, has more than 64 fields, or one of these twice.
pub(crate) fn fields<'t, const COUNT: usize>(
    text: &'t str,
    names: &'static [&'static str; COUNT],
) -> Result<[Option<&'t RawValue>; COUNT], serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let fields = Fields { names }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(fields)
}

/// The elements of an array, as they stand in the text. At most `count_max`.
///
/// # Errors
///
/// When the text is not an array, or has more elements.
pub(crate) fn elements(text: &str, count_max: usize) -> Result<Vec<&RawValue>, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let elements = Elements { count_max }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(elements)
}

struct Fields<const COUNT: usize> {
    names: &'static [&'static str; COUNT],
}

impl<'t, const COUNT: usize> DeserializeSeed<'t> for Fields<COUNT> {
    type Value = [Option<&'t RawValue>; COUNT];

    fn deserialize<D: Deserializer<'t>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'t, const COUNT: usize> Visitor<'t> for Fields<COUNT> {
    type Value = [Option<&'t RawValue>; COUNT];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'t>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut values = [None; COUNT];
        let mut count = 0;
        while let Some(name) = map.next_key::<Cow<'_, str>>()? {
            count += 1;
            if FIELDS_MAX < count {
                return Err(Error::custom(format_args!("more than {FIELDS_MAX} fields")));
            }
            match self.names.iter().position(|known| *known == name) {
                None => drop(map.next_value::<IgnoredAny>()?),
                Some(index) if values[index].is_none() => values[index] = Some(map.next_value()?),
                Some(index) => return Err(Error::duplicate_field(self.names[index])),
            }
        }
        Ok(values)
    }
}

struct Elements {
    count_max: usize,
}

impl<'t> DeserializeSeed<'t> for Elements {
    type Value = Vec<&'t RawValue>;

    fn deserialize<D: Deserializer<'t>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'t> Visitor<'t> for Elements {
    type Value = Vec<&'t RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'t>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = sequence.next_element()? {
            if self.count_max <= elements.len() {
                return Err(Error::custom(format_args!(
                    "more than {} elements",
                    self.count_max
                )));
            }
            elements.push(element);
        }
        Ok(elements)
    }
}

/// The text of a JSON string; `None` for another value.
#[cfg(any(feature = "pusher", feature = "cable"))]
pub(crate) fn string(value: &RawValue) -> Option<Cow<'_, str>> {
    let text = value.get();
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    match inner.contains('\\') {
        false => Some(Cow::Borrowed(inner)),
        true => serde_json::from_str(text).ok().map(Cow::Owned),
    }
}

/// A text as a JSON string, quotes included.
pub(crate) fn quote(text: &str) -> String {
    let mut json = Vec::with_capacity(text.len() + 2);
    push_string(text, &mut json);
    String::from_utf8(json).expect("a JSON string is UTF-8")
}

/// Appends a text as a JSON string, quotes included.
pub(crate) fn push_string(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("writing a string to memory succeeds");
}
