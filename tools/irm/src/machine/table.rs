//! Tables as `ip` and `docker ps` print them: capital heads, two blanks between columns, no lines.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

/// Blanks between columns.
const GAP: usize = 2;

/// A column: its head, and which side its cells lean to.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Capital letters.
    pub head: &'static str,
    /// Numbers lean right.
    pub right: bool,
}

/// A column of words.
pub const fn words(head: &'static str) -> Column {
    Column { head, right: false }
}

/// A column of numbers.
pub const fn number(head: &'static str) -> Column {
    Column { head, right: true }
}

/// The table as text, a newline after each row. Heads are printed without rows too: an empty answer is an answer.
pub fn render(columns: &[Column], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(columns.iter().map(|c| c.head));
    table.add_rows(rows);
    for (column, shape) in table.column_iter_mut().zip(columns) {
        column.set_padding((0, GAP as u16));
        column.set_cell_alignment(if shape.right { CellAlignment::Right } else { CellAlignment::Left });
    }
    lines(&table)
}

/// Which columns are left out so that the rest fits into so many characters: those of `expendable`, the first first, and
/// no more than needed.
pub fn left_out(
    columns: &[Column],
    rows: &[Vec<String>],
    expendable: &[&'static str],
    width: usize,
) -> Vec<&'static str> {
    let wide = |index: usize, column: &Column| {
        let cells = rows.iter().filter_map(|row| row.get(index));
        cells.map(|cell| cell.chars().count()).chain([column.head.len()]).max().unwrap_or(0) + GAP
    };
    let widths: Vec<(&str, usize)> =
        columns.iter().enumerate().map(|(i, column)| (column.head, wide(i, column))).collect();
    let mut all = widths.iter().map(|(_, width)| width).sum::<usize>().saturating_sub(GAP);
    let mut out = Vec::new();
    for head in expendable {
        if all <= width {
            break;
        }
        if let Some((_, width)) = widths.iter().find(|(other, _)| other == head) {
            all -= width;
            out.push(*head);
        }
    }
    out
}

/// `key  value` lines for one thing.
pub fn render_pairs(pairs: impl IntoIterator<Item = (&'static str, String)>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.add_rows(pairs.into_iter().map(|(key, value)| vec![key.to_owned(), value]));
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    lines(&table)
}

fn lines(table: &Table) -> String {
    let mut out = String::new();
    for line in table.lines() {
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_and_lines_have_no_tail() {
        let rows = [vec!["1".into(), "echo".into()], vec!["10000".into(), "a-longer-name".into()]];
        assert_eq!(render(&[number("ID"), words("NAME")], rows), "   ID  NAME\n    1  echo\n10000  a-longer-name\n");
    }

    #[test]
    fn columns_that_do_not_fit_are_left_out_in_order() {
        let columns = [number("ID"), words("NAME"), words("SIDE"), words("PEER")];
        let row = |cells: [&str; 4]| cells.map(str::to_owned).to_vec();
        let rows = [row(["1", "echo", "accepting", "10.0.0.1:4000"]), row(["2", "a-longer-name", "-", "-"])];
        for (width, out) in [
            (80, &[][..]),
            // 2 + 13 + 9 + 13 and three gaps.
            (43, &[]),
            (42, &["SIDE"]),
            (32, &["SIDE"]),
            (31, &["SIDE", "PEER"]),
            (5, &["SIDE", "PEER"]),
        ] {
            assert_eq!(left_out(&columns, &rows, &["AGE", "SIDE", "PEER"], width), out, "{width}");
        }
    }

    #[test]
    fn no_rows_leave_the_heads() {
        assert_eq!(render(&[words("NAME"), words("LAYERS")], []), "NAME  LAYERS\n");
    }

    #[test]
    fn pairs_align() {
        assert_eq!(render_pairs([("flow", "1".into()), ("state", "allocated".into())]), "flow   1\nstate  allocated\n");
    }
}
