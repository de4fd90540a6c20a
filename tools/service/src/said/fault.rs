//! Where a text is wrong.

use std::fmt;

/// What is wrong, and where. Lines and columns (of characters) begin with 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
    /// What is wrong there, and what to write instead.
    pub what: String,
}

impl Fault {
    /// What is wrong at a byte of a text.
    pub fn at(text: &str, byte: usize, what: impl fmt::Display) -> Self {
        let before = text.get(..byte.min(text.len())).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        let column = before[line_start..].chars().count() + 1;
        Self { line: before.matches('\n').count() + 1, column, what: what.to_string() }
    }
}

/// As compilers say it, for who writes the file's name and a colon before it.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.what)
    }
}

impl std::error::Error for Fault {}
