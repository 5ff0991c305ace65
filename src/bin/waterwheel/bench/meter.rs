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

/// Rates in successive intervals of one length, of which the last may be shorter.
#[derive(Debug, Default, PartialEq)]
pub struct Series {
    pub interval: Duration,
    pub rates: Vec<f64>,
    /// The most intervals. Events after the last one count to it.
    points_max: usize,
}

impl Series {
    /// An empty series for this time.
    pub fn over(time: Duration) -> Series {
        let interval = (time / POINTS).max(Duration::from_millis(50));
        let points = time.as_nanos().div_ceil(interval.as_nanos());
        Series {
            interval,
            rates: Vec::new(),
            points_max: points as usize,
        }
    }

    /// Adds so many events, spread evenly between two times since the begin of the series.
    ///
    /// The times are those at which a load found time to count, which are not the ends of intervals.
    pub fn add(&mut self, from: Duration, to: Duration, count: u64) {
        let (interval, to) = (self.interval.as_nanos(), to.as_nanos());
        let mut at = from.as_nanos();
        let per_nano = count as f64 / to.saturating_sub(at).max(1) as f64;
        while at < to {
            let index = (at / interval) as usize;
            let end = to.min((at / interval + 1) * interval);
            let index = index.min(self.points_max.saturating_sub(1));
            if self.rates.len() <= index {
                self.rates.resize(index + 1, 0.0);
            }
            let events = per_nano * (end - at) as f64;
            self.rates[index] += events / self.interval.as_secs_f64();
            at = end;
        }
    }

    /// Ends the series at this time since its begin: the last interval may be shorter.
    pub fn finish(&mut self, end: Duration) {
        let Some(before) = self.rates.len().checked_sub(1) else {
            return;
        };
        let width = end.saturating_sub(self.interval * before as u32);
        if width < self.interval && !width.is_zero() {
            self.rates[before] *= self.interval.as_secs_f64() / width.as_secs_f64();
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
            points_max: points as usize,
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

    // Each sample counted as one interval, whenever it was taken: two seconds of load ended at 1.75 s
    // on the axis, and its sum was another than that of the messages.
    #[test]
    fn late_samples_keep_the_time_and_the_sum() {
        let millis = Duration::from_millis;
        let mut series = Series::over(millis(500));
        assert_eq!(series.interval, millis(50));
        // The load was late: one sample for 130 ms, and the last one after the end.
        for (from, to, count) in [
            (0, 130, 130),
            (130, 150, 20),
            (150, 480, 330),
            (480, 503, 23),
        ] {
            series.add(millis(from), millis(to), count);
        }
        series.finish(millis(503));
        assert_eq!(series.rates.len(), 10, "{:?}", series.rates);
        let sum: f64 = series.rates.iter().map(|rate| rate * 0.05).sum();
        assert!((sum - 503.0).abs() < 1e-6, "{sum}");
        assert!(
            series.rates[..9]
                .iter()
                .all(|rate| (rate - 1000.0).abs() < 1e-6)
        );
        // A run that is interrupted in the middle of an interval.
        let mut series = Series::over(millis(500));
        series.add(millis(0), millis(60), 60);
        series.finish(millis(60));
        assert_eq!(series.rates.len(), 2);
        assert!(
            series.rates.iter().all(|rate| (rate - 1000.0).abs() < 1e-6),
            "{series:?}"
        );
    }

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
