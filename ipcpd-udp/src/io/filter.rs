//! What the filters of flows' sockets drop.

use std::os::fd::BorrowedFd;

use handoff::filter::{self, Rule};
use proto::Name;
use proto::shim::{Unwanted, answer_prefix};
use rustix::io::Errno;

use crate::machine::Filter;

/// What a filter drops.
fn rules(filter: &Filter) -> Vec<Rule> {
    let empty = Rule::exactly(b"");
    match filter {
        Filter::Nothing => vec![Rule::all()],
        Filter::Flow => vec![empty],
        Filter::NoRequests(name, theirs, ours) => {
            let requests = Rule::with(&answer_prefix(name, *theirs));
            Rule::unwanted(Unwanted::control(*ours)).into_iter().chain([requests]).collect()
        }
        Filter::NoRepeats(name) => std::iter::once(empty).chain(classic(name)).collect(),
        Filter::NoControl(_) | Filter::NoAnswers(..) => filter.left_to_program().map_or_else(Vec::new, Rule::unwanted),
        Filter::NoEchoes(name, ours) => {
            let answers = Rule::with(&answer_prefix(name, *ours));
            std::iter::once(empty).chain(classic(name)).chain([answers]).collect()
        }
    }
}

/// Whether the filter would have dropped this payload, for what arrived before it was set.
pub(super) fn drops(filter: &Filter, payload: &[u8]) -> bool {
    rules(filter).iter().any(|rule| rule.drops(payload))
}

/// A classic request for the name, or its echo.
fn classic(name: &Name) -> [Rule; 2] {
    let bytes = name.as_str().as_bytes();
    [Rule::exactly(bytes), Rule::exactly(&[bytes, &[0]].concat())]
}

/// Sets it.
pub(super) fn attach(socket: BorrowedFd<'_>, filter: &Filter) -> Result<(), Errno> {
    filter::attach(socket, &rules(filter)).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::INVAL))
}
