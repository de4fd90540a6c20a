//! Bars over time.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::widgets::{Sparkline, Widget as _};

use super::Theme;

/// Draws the values into the area, the last at its right edge; the greatest of all is `most`, or of those that are seen.
pub(super) fn bars(values: &[f32], most: Option<f32>, style: Style, theme: &Theme, cells: &mut Buffer, area: Rect) {
    let seen = &values[values.len().saturating_sub(usize::from(area.width))..];
    let most = most.unwrap_or_else(|| greatest(seen));
    if seen.is_empty() || most <= 0.0 {
        return;
    }
    // Whole numbers of a scale that is fine enough for eighths of the highest window.
    const SCALE: f32 = 10_000.0;
    let data: Vec<u64> = seen
        .iter()
        .map(|value| {
            let share = (value / most).clamp(0.0, 1.0) * SCALE;
            // What is more than nothing is seen.
            if *value > 0.0 { (share as u64).max((SCALE / 8.0 / f32::from(area.height.max(1))) as u64 + 1) } else { 0 }
        })
        .collect();
    let wide = u16::try_from(data.len()).unwrap_or(area.width).min(area.width);
    let right = Rect { x: area.right() - wide, width: wide, ..area };
    Sparkline::default().data(data).max(SCALE as u64).bar_set(theme.bars()).style(style).render(right, cells);
}

/// The greatest of some values.
pub(super) fn greatest(values: &[f32]) -> f32 {
    values.iter().copied().fold(0.0, f32::max)
}
