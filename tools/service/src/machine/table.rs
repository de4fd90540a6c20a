//! Tables as `ip` prints them, numbers as one says them.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

/// Capital heads, two blanks between columns, numbers lean right.
pub fn table(heads: &[(&str, bool)], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(heads.iter().map(|(head, _)| *head));
    table.add_rows(rows);
    for (column, (_, number)) in table.column_iter_mut().zip(heads) {
        column.set_padding((0, 2));
        column.set_cell_alignment(if *number { CellAlignment::Right } else { CellAlignment::Left });
    }
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// Text that a file or a peer chose, safe on a terminal and in a log.
pub fn printable(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

/// `999 B`, `1.2 kB`, `345 MB`: powers of 1000.
pub fn bytes(count: u64) -> String {
    let (mut value, mut unit) = (count as f64, "B");
    for larger in ["kB", "MB", "GB", "TB", "PB", "EB"] {
        // 999.5 would be printed as 1000.
        if value < 999.5 {
            break;
        }
        (value, unit) = (value / 1000.0, larger);
    }
    if unit != "B" && value < 9.95 { format!("{value:.1} {unit}") } else { format!("{value:.0} {unit}") }
}

/// `850 ms`, `59 s`, `3 min`, `7 h`, `12 d`.
pub fn age(ms: u64) -> String {
    for (least, per, unit) in
        [(172_800_000, 86_400_000, "d"), (7_200_000, 3_600_000, "h"), (120_000, 60_000, "min"), (1_000, 1_000, "s")]
    {
        if ms >= least {
            return format!("{} {unit}", ms / per);
        }
    }
    format!("{ms} ms")
}
