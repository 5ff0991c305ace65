//! Prometheus' text format, version 0.0.4, for numbers of a program.
//!
//! Pure: names and numbers in, text out. Names, labels and help are constants of the program, so no character of
//! them has to be escaped, and no input can make another line.
//!
//! Source: Prometheus, "Exposition formats", "Text-based format".

use std::fmt::{Display, Write};

use crate::reactor::stats::Histogram;

/// The media type of the text.
pub(super) const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The longest bounds of buckets are left out: a turn of more than 8.6 s is in the bucket without a bound.
const BUCKETS: usize = 24;

/// Metrics as text.
#[derive(Default)]
pub(super) struct Exposition {
    text: String,
}

impl Exposition {
    /// A number that only grows, without labels.
    pub(super) fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.begin(name, "counter", help);
        self.sample(name, &[], value);
    }

    /// A number that grows and falls, without labels.
    pub(super) fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.begin(name, "gauge", help);
        self.sample(name, &[], value);
    }

    /// The head of a metric whose samples have labels. `kind` is `counter` or `gauge`.
    pub(super) fn begin(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    /// One sample, of the metric that [`begin`](Self::begin) began.
    pub(super) fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            debug_assert!(!text.contains(['"', '\\', '\n']), "{text:?}");
            self.text.push(if index == 0 { '{' } else { ',' });
            let _ = write!(self.text, "{label}=\"{text}\"");
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }

    /// Durations in seconds.
    pub(super) fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.begin(name, "histogram", help);
        let bucket = format!("{name}_bucket");
        for (bound, count) in histogram.cumulative().take(BUCKETS) {
            let bound = bound.as_secs_f64().to_string();
            self.sample(&bucket, &[("le", &bound)], count);
        }
        let count = histogram.count();
        self.sample(&bucket, &[("le", "+Inf")], count);
        let sum = histogram.sum().as_secs_f64();
        self.sample(&format!("{name}_sum"), &[], sum);
        self.sample(&format!("{name}_count"), &[], count);
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_with_and_without_labels() {
        let mut exposition = Exposition::default();
        exposition.counter("a_total", "Things.", 7_u64);
        exposition.gauge("b", "Now.", 0.25);
        exposition.begin("c_total", "counter", "By kind.");
        exposition.sample("c_total", &[("kind", "x"), ("code", "1000")], u64::MAX);
        assert_eq!(
            exposition.into_text(),
            "# HELP a_total Things.\n# TYPE a_total counter\na_total 7\n\
             # HELP b Now.\n# TYPE b gauge\nb 0.25\n\
             # HELP c_total By kind.\n# TYPE c_total counter\n\
             c_total{kind=\"x\",code=\"1000\"} 18446744073709551615\n"
        );
    }

    #[test]
    fn buckets_are_cumulative_and_count_what_is_longer_than_all() {
        let mut histogram = Histogram::default();
        for nanos in [0, 1023, 1024, 3_000_000_000_000] {
            histogram.record(nanos);
        }
        let mut exposition = Exposition::default();
        exposition.histogram("d_seconds", "Long.", &histogram);
        let text = exposition.into_text();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[2], "d_seconds_bucket{le=\"0.000001023\"} 2");
        assert_eq!(lines[3], "d_seconds_bucket{le=\"0.000002047\"} 3");
        assert_eq!(lines[1 + BUCKETS], "d_seconds_bucket{le=\"8.589934591\"} 3");
        assert_eq!(lines[2 + BUCKETS], "d_seconds_bucket{le=\"+Inf\"} 4");
        assert_eq!(lines[3 + BUCKETS], "d_seconds_sum 3000.000002047");
        assert_eq!(lines[4 + BUCKETS], "d_seconds_count 4");
        assert_eq!(lines.len(), 5 + BUCKETS);
    }
}
