//! `irm doctor`: what a puzzled user would look at, judged. [`facts`] is what was looked at, [`examine`] says what
//! that means, [`words`] in which words.

mod command;
mod daemons;
pub mod facts;
mod finding;
mod network;
mod nft;
mod peers;
pub mod proc;
mod system;
pub mod words;

#[cfg(test)]
mod tests;

use serde::Serialize;

pub use finding::{Level, Line};
pub use network::shim;
pub use peers::address as peer_address;

use facts::Facts;

/// What came of all checks.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Things that do not work.
    pub troubles: usize,
    /// Things worth knowing.
    pub notes: usize,
    /// The lines, in the order of the checks.
    pub checks: Vec<Line>,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_well(&self) -> bool {
        self.troubles == 0
    }
}

type Check = fn(&Facts) -> Vec<Line>;

/// From what everything needs to what few notice.
const CHECKS: [Check; 23] = [
    daemons::run_dir,
    daemons::irmd,
    daemons::versions,
    daemons::others,
    daemons::ipcps,
    network::addresses,
    network::ports,
    network::own,
    network::firewall,
    peers::peers,
    peers::dns,
    peers::name,
    system::clock,
    system::certificate,
    system::state,
    system::descriptors,
    system::buffers,
    system::queues,
    system::offload,
    system::kernel,
    system::conntrack,
    system::memory,
    system::namespaces,
];

/// Makes all checks.
pub fn examine(facts: &Facts) -> Report {
    let mut checks: Vec<Line> = Vec::new();
    for check in CHECKS {
        for line in check(facts) {
            // One cause, told by two checks, is told once.
            if !checks.iter().any(|told| told.id.is_some() && (told.id, &told.found) == (line.id, &line.found)) {
                checks.push(line);
            }
        }
    }
    let count = |level| checks.iter().filter(|line| line.level == level).count();
    Report { troubles: count(Level::Trouble), notes: count(Level::Note), checks }
}

/// One line per check; of a trouble also what it means and what to do, and of a note where `verbose`.
pub fn text(report: &Report, verbose: bool) -> String {
    let wide = report.checks.iter().map(|line| line.check.len()).max().unwrap_or(0);
    let mut out = String::new();
    for line in &report.checks {
        out.push_str(&format!("{:<8} {:<wide$}  {}\n", line.level.as_str(), line.check, line.found));
        if line.level == Level::Trouble || verbose {
            for (head, text) in [("means", &line.means), ("do", &line.mend)] {
                if let Some(text) = text {
                    out.push_str(&format!("{:9}{:wide$}  {head:<6} {text}\n", "", ""));
                }
            }
        }
    }
    let plural = |n: usize, one: &str| format!("{n} {one}{}", if n == 1 { "" } else { "s" });
    let hint = if report.notes > 0 && !verbose { "; --verbose says more of notes" } else { "" };
    out.push_str(&match report.troubles {
        0 => format!("Nothing is wrong ({}{hint}).\n", plural(report.notes, "note")),
        troubles => format!("{}, {}{hint}.\n", plural(troubles, "trouble"), plural(report.notes, "note")),
    });
    out
}
