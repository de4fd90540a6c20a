//! The table of a bench: medians, spread, target, and on what machine.

use std::path::Path;

use anyhow::Result;

use crate::bench::chart::{self, Bar};
use crate::bench::place::Machine;
use crate::bench::said;
use crate::bench::scale::{self, Point};

/// What a figure should be.
#[derive(Clone, Copy)]
pub(crate) enum Column {
    AtMost(f64),
    AtLeast(f64),
    /// No target: shown for comparison.
    None,
}

/// A line of the table.
pub(crate) struct Row {
    what: String,
    bare: String,
    ours: String,
    figure: String,
    target: String,
    met: Option<bool>,
    bar: Option<Bar>,
}

/// The median, the least and the greatest.
fn spread(values: &[f64]) -> (f64, f64, f64) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let median = if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) };
    (median, sorted[0], sorted[sorted.len() - 1])
}

/// Three digits that mean something.
pub(crate) fn number(value: f64) -> String {
    let decimals = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.decimals$}")
}

impl Column {
    fn text(self, unit: &str) -> String {
        match self {
            Self::AtMost(limit) => format!("≤ {limit}{unit}"),
            Self::AtLeast(limit) => format!("≥ {limit}{unit}"),
            Self::None => String::new(),
        }
    }

    fn met(self, value: f64) -> Option<bool> {
        match self {
            Self::AtMost(limit) => Some(value <= limit),
            Self::AtLeast(limit) => Some(value >= limit),
            Self::None => None,
        }
    }

    fn limit(self) -> Option<f64> {
        match self {
            Self::AtMost(limit) | Self::AtLeast(limit) => Some(limit),
            Self::None => None,
        }
    }
}

impl Row {
    /// (bare, flow) of each round; the figure is the ratio.
    pub(crate) fn pair(what: &str, rounds: &[(f64, f64)], unit: &str, target: Column) -> Self {
        let column = |pick: fn(&(f64, f64)) -> f64| rounds.iter().map(pick).collect::<Vec<f64>>();
        let (bare, ..) = spread(&column(|round| round.0));
        let (ours, ..) = spread(&column(|round| round.1));
        let (ratio, least, most) = spread(&column(|round| round.1 / round.0));
        Self {
            what: what.to_owned(),
            bare: format!("{} {unit}", number(bare)),
            ours: format!("{} {unit}", number(ours)),
            figure: format!("**{ratio:.2} ×** ({least:.2} – {most:.2})"),
            target: target.text(" ×"),
            met: target.met(ratio),
            bar: Some(Bar { what: what.to_owned(), ratio, target: target.limit() }),
        }
    }

    /// A figure of each round, with nothing to compare to.
    pub(crate) fn several(what: &str, rounds: &[f64], unit: &str, target: Column) -> Self {
        let (median, least, most) = spread(rounds);
        Self {
            what: what.to_owned(),
            bare: String::new(),
            ours: format!("**{} {unit}**", number(median)),
            figure: format!("({} – {})", number(least), number(most)),
            target: target.text(&format!(" {unit}")),
            met: target.met(median),
            bar: None,
        }
    }

    /// One figure.
    pub(crate) fn single(what: &str, value: f64, unit: &str, target: Column) -> Self {
        Self { figure: String::new(), ..Self::several(what, &[value], unit, target) }
    }
}

/// What was measured elsewhere, quoted as such.
const ELSEWHERE: &str = "\n## Measured elsewhere\n\n\
    The C original (Ouroboros 0.23, its UDP layer), on another machine of two shared cores, for scale and not in the same run: a round trip\n\
    of 64 B over a veth pair 73 µs where bare UDP took 14.6; a remote allocation 1,004 ms, because it first waits a second for a local\n\
    acceptor; about 100 allocations and deallocations a second; irmd 42 MB resident, its IPCP 6.9 MB.\n";

/// The table and what was measured on.
pub(crate) struct Table {
    head: String,
    rows: Vec<Row>,
    points: Vec<Point>,
}

impl Table {
    pub(crate) fn new(place: &str, rounds: u32, seconds: f64) -> Result<Self> {
        let machine = Machine::now();
        let head = format!(
            "# Flows beside bare sockets\n\n\
             Made by `cargo xtask bench flow`; do not edit. Each of {rounds} rounds measures the bare socket and the flow one right\n\
             after the other, {seconds} s each, by the same binary (`operf`, `operf --bare`); a ratio is taken within a round. Shown\n\
             are medians, in brackets the least and the greatest. Ratios travel, absolute figures do not.\n\n\
             | | |\n|---|---|\n\
             | date | {} |\n| machine | {} × {} |\n| kernel | {} |\n| compiler | {} |\n| load before (1, 5, 15 min) | {} |\n\
             | hosts | {place} |\n",
            said("date", &["-u", "+%F %H:%M UTC"]),
            machine.cores,
            machine.model,
            machine.kernel,
            said("rustc", &["-V"]),
            machine.loads(),
        );
        Ok(Self { head, rows: Vec::new(), points: Vec::new() })
    }

    pub(crate) fn add(&mut self, row: Row) {
        self.rows.push(row);
    }

    pub(crate) fn scale(&mut self, points: Vec<Point>) {
        self.points = points;
    }

    /// The ratios and the scale, as an SVG file.
    pub(crate) fn draw(&self, file: &Path) -> Result<()> {
        let bars: Vec<&Bar> = self.rows.iter().filter_map(|row| row.bar.as_ref()).collect();
        chart::draw(file, &bars, &self.points)
    }

    /// As Markdown.
    pub(crate) fn text(&self) -> String {
        let mut text = format!(
            "{}\n| | bare | Flowring | ratio (least – greatest) | target | met |\n|---|---|---|---|---|---|\n",
            self.head
        );
        for row in &self.rows {
            let met = match row.met {
                Some(true) => "yes",
                Some(false) => "**no**",
                None => "",
            };
            let cells = [&row.what, &row.bare, &row.ours, &row.figure, &row.target].map(String::as_str);
            text.push_str(&format!("| {} | {met} |\n", cells.join(" | ")));
        }
        if !self.points.is_empty() {
            text.push_str("\n![ratios, and round trips beside many flows](bench.svg)\n");
            text.push_str(&scale::text(&self.points));
        }
        text.push_str(ELSEWHERE);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_taken_within_a_round() {
        // A load that slows the second round down hits both.
        let row = Row::pair("x", &[(10.0, 11.0), (100.0, 105.0), (10.0, 10.0)], "µs", Column::AtMost(1.05));
        assert_eq!((row.figure.as_str(), row.met), ("**1.05 ×** (1.00 – 1.10)", Some(true)));
        assert_eq!((row.bare.as_str(), row.ours.as_str()), ("10.0 µs", "11.0 µs"));
    }

    #[test]
    fn a_target_that_is_missed_is_shown() {
        let row = Row::several("x", &[1.0, 3.0], "/s", Column::AtLeast(2.5));
        assert_eq!((row.ours.as_str(), row.met), ("**2.00 /s**", Some(false)));
        let mut table = Table { head: String::new(), rows: Vec::new(), points: Vec::new() };
        table.add(row);
        assert!(table.text().contains("| ≥ 2.5 /s | **no** |"), "{}", table.text());
    }
}
