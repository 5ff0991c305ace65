//! Latencies and rates of the measured window.

use hdrhistogram::Histogram;
use serde_json::Value;

use super::report::{Report, rounded};

/// The percentiles that are reported, with their names.
const PERCENTILES: [(&str, f64); 4] =
    [("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("p99_9", 99.9)];

/// Latencies in nanoseconds, with three digits, from 100 ns to 10 minutes.
pub struct Latencies {
    histogram: Histogram<u64>,
    /// So many of the same latency are not counted yet: replies of one batch often are.
    pending: (u64, u64),
}

impl Latencies {
    pub fn new() -> Latencies {
        let histogram = Histogram::new_with_bounds(100, 600_000_000_000, 3)
            .expect("bounds and digits are constant and allowed");
        Latencies {
            histogram,
            pending: (0, 0),
        }
    }

    #[inline]
    pub fn record(&mut self, nanos: u64) {
        if self.pending.0 == nanos {
            self.pending.1 += 1;
        } else {
            self.settle();
            self.pending = (nanos, 1);
        }
    }

    #[inline]
    fn settle(&mut self) {
        let (nanos, count) = self.pending;
        if count != 0 {
            self.histogram.saturating_record_n(nanos, count);
        }
        self.pending.1 = 0;
    }

    /// Adds `PREFIX_p50_us` and its like, or nulls where nothing was measured.
    pub fn report(&mut self, keys: &LatencyKeys, report: &mut Report) {
        self.settle();
        let is_empty = self.histogram.is_empty();
        let micros = |nanos: f64| match is_empty {
            true => Value::Null,
            false => rounded((nanos / 10.0).round() / 100.0),
        };
        for (key, (_, percentile)) in keys.percentiles.iter().zip(PERCENTILES) {
            let nanos = self.histogram.value_at_percentile(percentile);
            report.figure(key, micros(nanos as f64));
        }
        report.figure(keys.max, micros(self.histogram.max() as f64));
        report.figure(keys.mean, micros(self.histogram.mean()));
    }

    /// Shares of all that were at least as quick, and their latencies in microseconds.
    #[cfg(feature = "plot")]
    pub fn curve(&mut self) -> Vec<(f64, f64)> {
        self.settle();
        self.histogram
            .iter_quantiles(10)
            .map(|step| (step.quantile(), step.value_iterated_to() as f64 / 1000.0))
            .collect()
    }
}

/// Names of the figures of one histogram.
pub struct LatencyKeys {
    percentiles: [&'static str; 4],
    max: &'static str,
    mean: &'static str,
}

pub const LATENCY: LatencyKeys = LatencyKeys {
    percentiles: [
        "latency_p50_us",
        "latency_p90_us",
        "latency_p99_us",
        "latency_p99_9_us",
    ],
    max: "latency_max_us",
    mean: "latency_mean_us",
};

/// From the beginning of a connection to the first byte of its answer.
pub const FIRST_BYTE: LatencyKeys = LatencyKeys {
    percentiles: [
        "first_byte_p50_us",
        "first_byte_p90_us",
        "first_byte_p99_us",
        "first_byte_p99_9_us",
    ],
    max: "first_byte_max_us",
    mean: "first_byte_mean_us",
};
