//! Tables as `ip` and `docker ps` print them: capital heads, two blanks between columns, no lines.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

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
        column.set_padding((0, 2));
        column.set_cell_alignment(if shape.right { CellAlignment::Right } else { CellAlignment::Left });
    }
    lines(&table)
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
    fn no_rows_leave_the_heads() {
        assert_eq!(render(&[words("NAME"), words("LAYERS")], []), "NAME  LAYERS\n");
    }

    #[test]
    fn pairs_align() {
        assert_eq!(render_pairs([("flow", "1".into()), ("state", "allocated".into())]), "flow   1\nstate  allocated\n");
    }
}
