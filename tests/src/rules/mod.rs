//! The rules of the source that neither the compiler nor clippy reads: purity of `machine/`, sizes, names,
//! reasons, and which crate may depend on which.
//!
//! Each rule is a function from text to [`Offence`]s, so that a test can show that it does find what it forbids.

mod crates;
mod source;
mod tokens;
mod tree;

pub use crates::{Allowed, check_dependencies};
pub use source::{Kind, check_source};
pub use tree::{Found, check_tree};

/// Longest file, lines.
pub const MAX_FILE: usize = 600;
/// A file longer than this is named by the test, without failing it.
pub const LONG_FILE: usize = 400;
/// Longest function body, lines.
pub const MAX_FUNCTION: usize = 60;
/// Longest `main.rs`, lines.
pub const MAX_MAIN: usize = 60;

/// A place that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Offence {
    /// The file, relative to the workspace.
    pub file: String,
    /// The line, from 1; 0 where the whole file is meant.
    pub line: usize,
    /// What is wrong and what to do.
    pub what: String,
}

impl std::fmt::Display for Offence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)
    }
}
