//! Latencies, and rates over time.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::Value;

use super::report::{Report, rounded};

/// The most points of a series of rates.
const POINTS: u32 = 50;

/// A series of openings has at least so many connections in each point on average, so that the
/// curve is not noise.
const OPENED_PER_POINT: u32 = 10;

/// The percentiles that are reported, with their names.
const PERCENTILES: [(&str, f64); 4] =
    [("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("p99_9", 99.9)];

/// Latencies in nanoseconds, with three digits, from 100 ns to 10 minutes.
pub struct Latencies {
    histogram: Histogram<u64>,
    /// A latency and how often it came, not recorded yet: replies of one batch often have the same.
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
            self.record_pending();
            self.pending = (nanos, 1);
        }
    }

    #[inline]
    fn record_pending(&mut self) {
        let (nanos, count) = self.pending;
        if count != 0 {
            self.histogram.saturating_record_n(nanos, count);
        }
        self.pending.1 = 0;
    }

    /// Adds `PREFIX_p50_us` and its like, or nulls where nothing was measured.
    pub fn report(&mut self, keys: &LatencyKeys, report: &mut Report) {
        self.record_pending();
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

    /// Shares of the latencies, and the latency in microseconds that this share does not exceed.
    #[cfg(feature = "plot")]
    pub fn curve(&mut self) -> Vec<(f64, f64)> {
        self.record_pending();
        self.histogram
            .iter_quantiles(10)
            .map(|step| (step.quantile(), step.value_iterated_to() as f64 / 1000.0))
            .collect()
    }
}

/// The names in the report for the figures of one histogram.
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

/// From the start of a connection to the first byte of the answer.
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

/// From the start of a connection until it is open.
pub const OPEN: LatencyKeys = LatencyKeys {
    percentiles: ["open_p50_us", "open_p90_us", "open_p99_us", "open_p99_9_us"],
    max: "open_max_us",
    mean: "open_mean_us",
};

/// Rates in successive intervals.
#[derive(Debug, Default, PartialEq)]
pub struct Series {
    pub interval: Duration,
    pub rates: Vec<f64>,
}

impl Series {
    /// An empty series for this time.
    pub fn over(time: Duration) -> Series {
        Series {
            interval: (time / POINTS).max(Duration::from_millis(50)),
            rates: Vec::new(),
        }
    }

    /// The rates of events at these times, until the last of them.
    pub fn of(times: &[Duration]) -> Series {
        let Some(end) = times.iter().max().filter(|end| !end.is_zero()) else {
            return Series::default();
        };
        let points = (times.len() as u32 / OPENED_PER_POINT).clamp(2, POINTS);
        let interval = *end / points;
        let mut counts = vec![0_u32; points as usize];
        for time in times {
            let index = time.as_nanos() * u128::from(points) / end.as_nanos();
            // The last event lies at the end of the last interval.
            counts[index.min(u128::from(points) - 1) as usize] += 1;
        }
        let rate = |count: u32| f64::from(count) / interval.as_secs_f64();
        Series {
            interval,
            rates: counts.into_iter().map(rate).collect(),
        }
    }

    pub fn report(&self, report: &mut Report) {
        let rates: Vec<_> = self.rates.iter().copied().map(rounded).collect();
        report.detail("series_interval_s", rounded(self.interval.as_secs_f64()));
        report.detail("series", rates);
    }

    /// Seconds, and the rate in the interval that ends there.
    #[cfg(feature = "plot")]
    pub fn curve(&self) -> Vec<(f64, f64)> {
        let interval = self.interval.as_secs_f64();
        let ends = (1..).map(|index| f64::from(index) * interval);
        ends.zip(self.rates.iter().copied()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_become_rates_in_equal_intervals() {
        let times: Vec<_> = (1..=15)
            .chain((16..=50).filter(|time| time % 2 == 0))
            .map(Duration::from_secs)
            .collect();
        assert_eq!(times.len(), 33);
        let series = Series::of(&times);
        assert_eq!(series.interval, Duration::from_secs(50) / 3);
        let counts = series
            .rates
            .iter()
            .map(|rate| (rate * series.interval.as_secs_f64()).round());
        assert_eq!(counts.collect::<Vec<_>>(), [16.0, 8.0, 9.0]);
        assert_eq!(Series::of(&[]), Series::default());
        assert_eq!(Series::of(&[Duration::ZERO]), Series::default());
        let few = Series::of(&[Duration::from_secs(2); 4]);
        assert_eq!(
            (few.interval, few.rates),
            (Duration::from_secs(1), vec![0.0, 4.0])
        );
    }
}
