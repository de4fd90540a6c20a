//! The table as a picture.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use crate::bench::scale::Point;

const WIDTH: u32 = 900;
/// Of one bar, of the space around all bars, of the lower picture; pixels.
const ROW: u32 = 40;
const AROUND: u32 = 60;
const BELOW: u32 = 280;
const OURS: RGBColor = RGBColor(0x1f, 0x77, 0xb4);
const BARE: RGBColor = RGBColor(0x99, 0x99, 0x99);

/// One bar: a ratio to the bare socket, and where its target lies.
pub(crate) struct Bar {
    pub(crate) what: String,
    pub(crate) ratio: f64,
    pub(crate) target: Option<f64>,
}

/// Draws ratios above and the round trip over the number of flows below, into an SVG file.
pub(crate) fn draw(file: &Path, bars: &[&Bar], points: &[Point]) -> Result<()> {
    let height = AROUND + ROW * u32::try_from(bars.len())?;
    let root = SVGBackend::new(file, (WIDTH, height + BELOW)).into_drawing_area();
    let done = root.fill(&WHITE).map_err(|error| anyhow!("{}: {error}", file.display()));
    let (above, below) = root.split_vertically(height);
    done.and_then(|()| ratios(&above, bars)).and_then(|()| trips(&below, points))?;
    root.present().map_err(|error| anyhow!("{}: {error}", file.display()))
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn ratios(area: &Area<'_>, bars: &[&Bar]) -> Result<()> {
    let most = bars.iter().map(|bar| bar.ratio).fold(1.2, f64::max);
    let rows = i32::try_from(bars.len())?;
    let mut chart = ChartBuilder::on(area)
        .caption("a flow, as multiples of a bare socket (| target)", ("sans-serif", 18))
        .margin(8)
        .x_label_area_size(24)
        .build_cartesian_2d(-most * 0.75..most * 1.1, 0..rows)
        .map_err(|error| anyhow!("{error}"))?;
    for (row, bar) in (0..).zip(bars.iter().rev()) {
        let thick = [(0.0, row), (bar.ratio, row + 1)];
        let mut shape = Rectangle::new(thick, OURS.filled());
        shape.set_margin(4, 4, 0, 0);
        let right = bar.target.map_or(bar.ratio, |target| target.max(bar.ratio)).max(1.0) + most * 0.01;
        // In the middle of the row, whatever the height of a letter.
        let word = |text: String, x: f64| EmptyElement::at((x, row + 1)) + Text::new(text, (0, 12), ("sans-serif", 13));
        let words = [word(bar.what.clone(), -most * 0.74), word(format!("{:.2} ×", bar.ratio), right)];
        chart.draw_series([shape]).map_err(|error| anyhow!("{error}"))?;
        chart.draw_series(words).map_err(|error| anyhow!("{error}"))?;
        let marks = bar.target.map(|at| PathElement::new([(at, row), (at, row + 1)], BLACK.stroke_width(2)));
        chart.draw_series(marks).map_err(|error| anyhow!("{error}"))?;
    }
    let one = PathElement::new([(1.0, 0), (1.0, rows)], BARE.stroke_width(1));
    chart.draw_series([one]).map_err(|error| anyhow!("{error}"))?;
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "ten thousand flows")]
fn trips(area: &Area<'_>, points: &[Point]) -> Result<()> {
    let most = points.iter().map(|point| point.trip.max(point.bare)).fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption("round trip beside so many open flows, µs", ("sans-serif", 18))
        .margin(8)
        .x_label_area_size(24)
        .y_label_area_size(40)
        .build_cartesian_2d((0.8f64..20_000.0).log_scale(), 0.0..most * 1.2)
        .map_err(|error| anyhow!("{error}"))?;
    chart.configure_mesh().light_line_style(WHITE).draw().map_err(|error| anyhow!("{error}"))?;
    for (name, colour, ours) in [("flow", OURS, true), ("bare socket", BARE, false)] {
        let trips = points.iter().map(|point| (point.flows as f64, if ours { point.trip } else { point.bare }));
        let line = LineSeries::new(trips, colour.stroke_width(2));
        chart
            .draw_series(line)
            .map_err(|error| anyhow!("{error}"))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
    }
    let labels = chart.configure_series_labels().position(SeriesLabelPosition::LowerRight).border_style(BLACK).draw();
    labels.map_err(|error| anyhow!("{error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_shows_every_bar() {
        let dir = std::env::temp_dir().join(format!("flowring-chart-{}", std::process::id()));
        let bars = [("round trip", 1.01, Some(1.05)), ("batches", 0.98, None)].map(|(what, ratio, target)| Bar {
            what: what.to_owned(),
            ratio,
            target,
        });
        draw(&dir, &bars.each_ref(), &[]).unwrap();
        let svg = std::fs::read_to_string(&dir).unwrap();
        std::fs::remove_file(&dir).unwrap();
        assert!(svg.contains("round trip") && svg.contains("0.98 ×"), "{svg}");
    }
}
