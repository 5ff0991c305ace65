//! The report of a run: named figures, as a table for people or as one JSON object.

use std::fmt::Write;

use serde_json::Value;

/// Every parameter and figure of a run, in the order in which they were added.
#[derive(Default)]
pub struct Report {
    rows: Vec<Row>,
}

struct Row {
    key: &'static str,
    value: Value,
    /// The text in the table. Rows without one are only in the JSON object.
    text: Option<String>,
}

impl Report {
    /// Adds a parameter of the run.
    pub fn parameter(&mut self, key: &'static str, value: impl Into<Value>) {
        let value = value.into();
        let text = match &value {
            Value::Null | Value::Bool(false) => None,
            Value::String(text) => Some(text.clone()),
            value => Some(value.to_string()),
        };
        self.rows.push(Row { key, value, text });
    }

    /// Adds a result.
    pub fn figure(&mut self, key: &'static str, value: impl Into<Value>) {
        let value = value.into();
        let text = match &value {
            Value::Null => None,
            Value::Number(number) => number.as_f64().map(readable),
            value => Some(value.to_string()),
        };
        self.rows.push(Row { key, value, text });
    }

    /// Adds a result that is only in the JSON object.
    pub fn detail(&mut self, key: &'static str, value: impl Into<Value>) {
        self.rows.push(Row {
            key,
            value: value.into(),
            text: None,
        });
    }

    /// One JSON object on one line.
    pub fn to_json(&self) -> String {
        let mut json = String::from("{");
        for (index, row) in self.rows.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            // Writing to a string succeeds.
            let _ = write!(json, "{comma}\"{}\":{}", row.key, row.value);
        }
        json.push_str("}\n");
        json
    }

    /// A table with a line for each row that has a text.
    pub fn to_table(&self) -> String {
        let rows = || self.rows.iter().filter(|row| row.text.is_some());
        let width = rows().map(|row| row.key.len()).max().unwrap_or_default();
        let mut table = String::new();
        for row in rows() {
            let label = row.key.replace("p99_9", "p99.9").replace('_', " ");
            let text = row.text.as_deref().unwrap_or_default();
            // Writing to a string succeeds.
            let _ = writeln!(table, "{label:<width$}  {text}");
        }
        table
    }
}

/// A number with at least three digits, and commas between thousands.
fn readable(number: f64) -> String {
    let decimals = match number.abs() {
        size if number.fract() == 0.0 || 1000.0 <= size => 0,
        size if 100.0 <= size => 1,
        size if 1.0 <= size => 2,
        _ => 4,
    };
    let text = format!("{number:.decimals$}");
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) => (whole, format!(".{fraction}")),
        None => (text.as_str(), String::new()),
    };
    let (sign, digits) = match whole.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", whole),
    };
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index != 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}{fraction}")
}

/// `1 message`, `5 messages`.
pub fn counted(count: u64, noun: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{s}")
}

/// A number with at most six decimals; null when it is not finite.
pub fn rounded(number: f64) -> Value {
    if number.is_finite() {
        Value::from((number * 1e6).round() / 1e6)
    } else {
        Value::Null
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        let cases = [
            (0.0, "0"),
            (7.0, "7"),
            (1234567.0, "1,234,567"),
            (1234.56, "1,235"),
            (123.456, "123.5"),
            (9.876, "9.88"),
            (0.0123, "0.0123"),
            (-1000.0, "-1,000"),
        ];
        for (number, expected) in cases {
            assert_eq!(readable(number), expected);
        }
    }

    #[test]
    fn rows_keep_their_order_and_details_stay_out_of_the_table() {
        let mut report = Report::default();
        report.parameter("url", "ws://h/");
        report.parameter("verify", false);
        report.figure("messages_per_s", rounded(1234.5));
        report.detail("series", vec![1, 2]);
        assert_eq!(
            report.to_json(),
            "{\"url\":\"ws://h/\",\"verify\":false,\"messages_per_s\":1234.5,\"series\":[1,2]}\n"
        );
        assert_eq!(
            report.to_table(),
            "url             ws://h/\nmessages per s  1,234\n"
        );
    }
}
