//! How a command of such a program ends: its exit code, and what it says.

use std::process::ExitCode;

use super::{logfile, print};

/// It could not be done.
const FAILED: u8 = 1;
/// Wrong usage.
const USAGE: u8 = 2;
/// None runs there.
const NOT_RUNNING: u8 = 3;

/// Why a command ends badly.
#[derive(Debug)]
pub enum Bad {
    /// Wrong usage; which.
    Usage(String),
    /// It asks one that does not run; what to do.
    NotRunning(String),
    /// It could not be done.
    Failed(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Bad {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// The exit code of a command; says what went wrong.
pub fn end(program: &str, done: Result<(), Bad>) -> ExitCode {
    logfile::flush();
    let (code, words) = match done {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Bad::Usage(words)) => (USAGE, words),
        Err(Bad::NotRunning(words)) => (NOT_RUNNING, words),
        Err(Bad::Failed(error)) => (FAILED, format!("{error:#}")),
    };
    print::error(program, &words);
    ExitCode::from(code)
}
