//! What a changed set of rules means for the sockets that are open: what stays, what is opened, what is closed.
//!
//! A listening socket that stays is not touched, whatever else of its rule changed, so no connection that waits in it is lost.

use std::collections::HashMap;

use crate::said::end::End;
use crate::said::file::overlap;
use crate::said::rule::Rule;

/// What to do, as places in the rules that were and in those that are to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Nothing changed: the old one, the new one.
    pub keep: Vec<(usize, usize)>,
    /// The socket stays, the rule is another.
    pub change: Vec<(usize, usize)>,
    /// To be opened before anything is closed: if one of them cannot be, all stays as it was.
    pub open: Vec<usize>,
    /// To be closed.
    pub close: Vec<usize>,
    /// To be opened once those are closed whose place they take.
    pub open_after: Vec<usize>,
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.change.is_empty() && self.open.is_empty() && self.close.is_empty() && self.open_after.is_empty()
    }
}

/// How to get from the old rules to the new ones, neither of which listen twice at the same end.
pub fn plan(old: &[Rule], new: &[Rule]) -> Plan {
    let mut plan = Plan::default();
    let mut before: HashMap<&End, usize> = old.iter().enumerate().map(|(place, rule)| (rule.key(), place)).collect();
    let mut fresh = Vec::new();
    for (place, rule) in new.iter().enumerate() {
        match before.get(rule.key()).copied() {
            Some(was) if same_socket(&old[was], rule) => {
                before.remove(rule.key());
                let list = if old[was] == *rule { &mut plan.keep } else { &mut plan.change };
                list.push((was, place));
            }
            _ => fresh.push(place),
        }
    }
    plan.close = before.into_values().collect();
    plan.close.sort_unstable();
    let mut going: HashMap<Option<u16>, Vec<&End>> = HashMap::new();
    for place in &plan.close {
        let end = &old[*place].listen;
        going.entry(end.ports().map(|ports| ports.first())).or_default().push(end);
    }
    let taken = |place: &usize| {
        let end = &new[*place].listen;
        let near = going.get(&end.ports().map(|ports| ports.first()));
        near.is_some_and(|near| near.iter().any(|other| overlap(other, end)))
    };
    (plan.open_after, plan.open) = fresh.into_iter().partition(taken);
    plan
}

/// Whether a rule can go on with another's socket, or service of a name.
fn same_socket(old: &Rule, new: &Rule) -> bool {
    let registered = !matches!(new.listen, End::Flow(_)) || old.options.layers == new.options.layers;
    let to_flow = |rule: &Rule| rule.is_udp() && rule.targets.iter().any(|end| !end.is_udp());
    registered && old.is_udp() == new.is_udp() && to_flow(old) == to_flow(new)
}

#[cfg(test)]
mod tests;
