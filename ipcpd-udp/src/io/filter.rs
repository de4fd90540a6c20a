//! What the filters of flows' sockets drop.

use std::os::fd::BorrowedFd;

use handoff::filter::{self, Rule};
use proto::shim::{Unwanted, answer_prefix};
use rustix::io::Errno;

use crate::machine::Filter;

/// What a filter drops.
fn rules(filter: &Filter) -> Vec<Rule> {
    let empty = Rule::exactly(b"");
    match filter {
        Filter::Nothing => vec![Rule::all()],
        Filter::Flow => vec![empty],
        Filter::NoControl(ours) => Rule::unwanted(Unwanted::control(*ours)),
        Filter::NoAnswers(name, ours) => Rule::unwanted(Unwanted::answers(name, *ours)),
        Filter::NoEchoes(name, ours) => {
            let bytes = name.as_str().as_bytes();
            let with_nul = [bytes, &[0]].concat();
            vec![empty, Rule::exactly(bytes), Rule::exactly(&with_nul), Rule::with(&answer_prefix(name, *ours))]
        }
    }
}

/// Whether the filter would have dropped this payload, for what arrived before it was set.
pub(super) fn drops(filter: &Filter, payload: &[u8]) -> bool {
    rules(filter).iter().any(|rule| rule.drops(payload))
}

/// Sets it.
pub(super) fn attach(socket: BorrowedFd<'_>, filter: &Filter) -> Result<(), Errno> {
    filter::attach(socket, &rules(filter)).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::INVAL))
}
