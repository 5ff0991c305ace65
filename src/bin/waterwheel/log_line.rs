//! How a log line looks: as text, or as one JSON object.
//!
//! Both begin with the time in UTC, with milliseconds. Source: RFC 3339, section 5.6.

use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use waterwheel::Answered;

/// Longest path in a line of the access log, in bytes.
const PATH_BYTES_MAX: usize = 1024;

/// The format of `--log-format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

impl LogFormat {
    /// A line with its end.
    pub fn line(self, at: SystemTime, level: log::Level, message: &str) -> String {
        let time = time(at);
        match self {
            LogFormat::Text => format!("{time} {level:<5} {message}\n"),
            LogFormat::Json => {
                let level = level.as_str().to_ascii_lowercase();
                let message = serde_json::Value::from(message);
                format!("{{\"time\":\"{time}\",\"level\":\"{level}\",\"message\":{message}}}\n")
            }
        }
    }
}

/// The line of the access log for an answer.
pub fn access_line(format: LogFormat, at: SystemTime, answered: &Answered<'_>) -> String {
    let Answered {
        peer,
        client,
        method,
        path,
        status,
        body_bytes,
        time,
        ..
    } = answered;
    let status = status.code();
    let path = path.map(shown_path);
    // The client that a trusted proxy has named.
    let client = client.filter(|client| peer.inet().map(|address| address.ip()) != Some(*client));
    match format {
        LogFormat::Text => {
            let millis = time.as_secs_f64() * 1e3;
            let client = client.map_or_else(|| peer.to_string(), |client| client.to_string());
            let (method, path) = (method.unwrap_or("-"), path.as_deref().unwrap_or("-"));
            let message =
                format!("{client} {method} {path} {status} {body_bytes} bytes {millis:.3} ms");
            format.line(at, log::Level::Info, &message)
        }
        LogFormat::Json => {
            let time_of_line = self::time(at);
            let quote = |text: &str| serde_json::Value::from(text).to_string();
            let known = |text: Option<&str>| text.map_or_else(|| "null".to_owned(), quote);
            let (peer, method, path) = (
                quote(&peer.to_string()),
                known(*method),
                known(path.as_deref()),
            );
            let client = client.map_or_else(String::new, |it| format!("\"client\":\"{it}\","));
            let seconds = time.as_secs_f64();
            format!(
                "{{\"time\":\"{time_of_line}\",\"level\":\"info\",\"message\":\"request\",\"peer\":{peer},{client}\"method\":{method},\
                 \"path\":{path},\"status\":{status},\"bytes\":{body_bytes},\"seconds\":{seconds:.6}}}\n"
            )
        }
    }
}

/// A path, cut at [`PATH_BYTES_MAX`] with a mark. The target of a request may have many kilobytes,
/// and a client that asks for long paths would fill the log.
fn shown_path(path: &str) -> Cow<'_, str> {
    match path.len() <= PATH_BYTES_MAX {
        true => path.into(),
        false => {
            let mut ends = (0..=PATH_BYTES_MAX).rev();
            let end = ends.find(|&end| path.is_char_boundary(end)).unwrap_or(0);
            format!("{}...({} bytes)", &path[..end], path.len()).into()
        }
    }
}

/// `2026-11-21T19:45:27.123Z`. A clock before 1970 counts as 1970.
fn time(at: SystemTime) -> String {
    let since_epoch = at.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let seconds = since_epoch.as_secs();
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let millis = since_epoch.subsec_millis();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// The year, month and day in the Gregorian calendar, so many days after 1970-01-01.
///
/// Years begin in March here, so that the leap day is the last one. Source: Howard Hinnant,
/// "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        let cases = [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_001, "2000-03-01T00:00:00.001Z"),
            (1_709_164_800_000, "2024-02-29T00:00:00.000Z"),
            (1_735_689_599_000, "2024-12-31T23:59:59.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ];
        for (millis, expected) in cases {
            assert_eq!(time(UNIX_EPOCH + Duration::from_millis(millis)), expected);
        }
        assert_eq!(time(UNIX_EPOCH - Duration::from_secs(1)), cases[0].1);
    }

    #[test]
    fn a_long_path_is_cut_with_a_mark() {
        let longest = "x".repeat(PATH_BYTES_MAX);
        assert_eq!(shown_path(&longest), longest);
        assert_eq!(
            shown_path(&(longest.clone() + "y")),
            longest + "...(1025 bytes)"
        );
    }

    #[test]
    fn a_line_is_text_or_one_json_object() {
        let message = "conn 1/2: \"x\"\nnext";
        assert_eq!(
            LogFormat::Text.line(UNIX_EPOCH, log::Level::Info, "hello"),
            "1970-01-01T00:00:00.000Z INFO  hello\n"
        );
        let line = LogFormat::Json.line(UNIX_EPOCH, log::Level::Warn, message);
        assert_eq!(line.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        let expected = serde_json::json!({
            "time": "1970-01-01T00:00:00.000Z",
            "level": "warn",
            "message": message,
        });
        assert_eq!(value, expected);
    }
}
