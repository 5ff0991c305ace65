//! Two pictures of a run in one SVG: the latency curve, and the rate over time.

use std::error::Error;
use std::path::Path;

use plotters::prelude::*;

/// Width and height, in pixels.
const SIZE: (u32, u32) = (900, 760);

const LINE: RGBColor = RGBColor(0x1f, 0x5f, 0x9f);

/// The captions of both pictures.
pub struct Captions {
    pub latencies: &'static str,
    pub rates: &'static str,
}

pub struct Pictures {
    pub captions: Captions,
    /// Shares of the latencies, and the latency in microseconds that this share does not exceed.
    pub latencies: Vec<(f64, f64)>,
    /// Seconds, and the rate in the interval that ends there.
    pub rates: Vec<(f64, f64)>,
}

/// Writes the pictures to a file.
///
/// # Errors
///
/// A sentence, when the file cannot be written.
pub fn draw(path: &Path, pictures: &Pictures) -> Result<(), String> {
    let mut svg = String::new();
    draw_svg(&mut svg, pictures).map_err(|error| format!("--plot: {error}"))?;
    std::fs::write(path, svg).map_err(|error| format!("--plot {}: {error}", path.display()))
}

fn draw_svg(svg: &mut String, pictures: &Pictures) -> Result<(), Box<dyn Error>> {
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let (upper, lower) = root.split_vertically(SIZE.1 / 2);

    let curve: Vec<_> = pictures
        .latencies
        .iter()
        .filter(|(share, _)| *share < 1.0)
        .map(|(share, latency)| (nines(*share), latency.max(0.1)))
        .collect();
    let last = curve.last().map_or(1.0, |(nines, _)| nines.max(1.0));
    let lowest = curve.first().map_or(1.0, |(_, latency)| *latency);
    let highest = curve.last().map_or(10.0, |(_, latency)| *latency);
    let range = lowest / 1.2..highest.max(lowest) * 1.2;
    let mut chart = ChartBuilder::on(&upper)
        .caption(
            format!("{} in µs by percentile", pictures.captions.latencies),
            ("sans-serif", 18),
        )
        .margin(12)
        .x_label_area_size(32)
        .y_label_area_size(72)
        .build_cartesian_2d(0.0..last, range.log_scale())?;
    chart
        .configure_mesh()
        .x_labels(last.ceil() as usize + 1)
        .x_label_formatter(&|nines| percentile(*nines))
        .y_label_formatter(&|latency| format!("{latency:.0}"))
        .light_line_style(WHITE)
        .draw()?;
    chart.draw_series(LineSeries::new(curve, LINE.stroke_width(2)))?;

    let end = pictures.rates.last().map_or(1.0, |(time, _)| *time);
    let top = pictures
        .rates
        .iter()
        .map(|(_, rate)| *rate)
        .fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(&lower)
        .caption(
            format!("{} per second, over time in s", pictures.captions.rates),
            ("sans-serif", 18),
        )
        .margin(12)
        .x_label_area_size(32)
        .y_label_area_size(72)
        .build_cartesian_2d(0.0..end, 0.0..top * 1.1)?;
    chart
        .configure_mesh()
        .y_label_formatter(&|rate| format!("{rate:.0}"))
        .light_line_style(WHITE)
        .draw()?;
    chart.draw_series(LineSeries::new(
        pictures.rates.iter().copied(),
        LINE.stroke_width(2),
    ))?;
    root.present()?;
    Ok(())
}

/// The number of nines of a share: 0.9 has one, 0.99 has two.
fn nines(share: f64) -> f64 {
    -(1.0 - share).log10()
}

fn percentile(nines: f64) -> String {
    let percentile = 100.0 * (1.0 - 10_f64.powf(-nines));
    let decimals = (nines - 2.0).max(0.0).round() as usize;
    format!("{percentile:.decimals$} %")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_placed_by_their_nines() {
        for (share, text) in [
            (0.0, "0 %"),
            (0.9, "90 %"),
            (0.99, "99 %"),
            (0.9999, "99.99 %"),
        ] {
            assert_eq!(percentile(nines(share)), text);
        }
    }

    #[test]
    fn a_plot_without_measurements_is_drawn() {
        let nothing = Pictures {
            captions: Captions {
                latencies: "echo: latency",
                rates: "messages",
            },
            latencies: Vec::new(),
            rates: Vec::new(),
        };
        let mut svg = String::new();
        draw_svg(&mut svg, &nothing).unwrap();
        assert!(
            svg.starts_with("<svg") && svg.contains("echo: latency in µs"),
            "{svg}"
        );
    }
}
