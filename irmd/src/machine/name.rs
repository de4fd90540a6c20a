//! The registry of names: who serves them, who waits for them, where they are registered.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proto::v1::LoadBalancing;
use proto::{FlowId, Name};

pub use crate::config::Policy;
use crate::config::Rules;

use super::CallId;
use super::program::Program;

/// All names of this host.
#[derive(Debug, Default)]
pub struct Names {
    map: BTreeMap<Name, Entry>,
    /// Counts changes of what is served.
    changes: u64,
}

/// Where an entry comes from, and so where it is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Origin {
    /// irmd.toml declares it.
    Config,
    /// Made by a tool: survives a restart.
    #[default]
    Runtime,
    /// Made by a process that serves it, or an IPCP started by hand: lives as long as that.
    Process,
}

/// The layers a name is to be registered in.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Layers {
    /// Every layer, those to come too.
    pub all: bool,
    /// These layers.
    pub named: BTreeSet<String>,
}

/// One name.
#[derive(Debug)]
pub struct Entry {
    /// Who takes the next flow.
    pub policy: Policy,
    /// Where it comes from.
    pub origin: Origin,
    /// The user it belongs to: who created it.
    pub owner: u32,
    /// Who may use it, as far as patterns and defaults are not to decide.
    pub rules: Rules,
    /// Programs that can be started for it.
    pub programs: Vec<Program>,
    /// Where it is to be registered.
    pub layers: Layers,
    /// Flows that wait for an accept, oldest first.
    pub backlog: VecDeque<FlowId>,
    processes: Vec<Bound>,
    last: Option<u32>,
}

#[derive(Debug)]
struct Bound {
    pid: u32,
    accepts: VecDeque<Accept>,
}

/// An accept that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accept {
    /// The call to answer.
    pub call: CallId,
    /// The program decides about the flow; else taking is accepting.
    pub ask: bool,
}

impl Policy {
    /// From a message; unspecified is round-robin.
    pub fn from_message(policy: LoadBalancing) -> Self {
        match policy {
            LoadBalancing::Spill => Self::Spill,
            LoadBalancing::RoundRobin | LoadBalancing::Unspecified => Self::RoundRobin,
        }
    }

    /// For a message.
    pub fn message(self) -> LoadBalancing {
        match self {
            Self::RoundRobin => LoadBalancing::RoundRobin,
            Self::Spill => LoadBalancing::Spill,
        }
    }
}

impl Layers {
    /// Whether `layer` is among them.
    pub fn contains(&self, layer: &str) -> bool {
        self.all || self.named.contains(layer)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        !self.all && self.named.is_empty()
    }

    /// As written in a configuration: `*` is every layer.
    pub fn to_texts(&self) -> Vec<String> {
        let all = self.all.then(|| "*".to_owned());
        all.into_iter().chain(self.named.iter().cloned()).collect()
    }

    /// Adds a layer as written in a configuration.
    pub fn insert(&mut self, text: &str) {
        if text == "*" {
            self.all = true;
        } else {
            self.named.insert(text.to_owned());
        }
    }
}

impl Names {
    /// The entry of a name.
    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.map.get(name)
    }

    /// The entry, to change it.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Entry> {
        self.map.get_mut(name)
    }

    /// A new entry; replaces none.
    pub fn insert(&mut self, name: Name, entry: Entry) {
        self.map.entry(name).or_insert(entry);
    }

    /// Removes an entry.
    pub fn remove(&mut self, name: &str) -> Option<Entry> {
        self.changes += 1;
        self.map.remove(name)
    }

    /// A name is served that was not, or no longer. Its entry's going is noted by itself.
    pub fn note_serving(&mut self) {
        self.changes += 1;
    }

    /// Another value where names may be served that were not, or the reverse.
    pub fn serving(&self) -> u64 {
        self.changes
    }

    /// Entries whose names begin so, in order.
    pub fn below(&self, prefix: &Name) -> impl Iterator<Item = (&Name, &Entry)> {
        let begins = prefix.clone();
        self.map.range(prefix.clone()..).take_while(move |(name, _)| name.as_str().starts_with(begins.as_str()))
    }

    /// All entries, in order of name.
    pub fn iter(&self) -> impl Iterator<Item = (&Name, &Entry)> {
        self.map.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }
}

impl Entry {
    /// A name that nobody serves yet.
    pub fn new(policy: Policy, origin: Origin, owner: u32) -> Self {
        Self {
            policy,
            origin,
            owner,
            rules: Rules::default(),
            programs: Vec::new(),
            layers: Layers::default(),
            backlog: VecDeque::new(),
            processes: Vec::new(),
            last: None,
        }
    }

    /// Whether a program may be started for a flow to the name.
    pub fn starts(&self) -> bool {
        self.programs.iter().any(|p| p.auto)
    }

    /// Whether something on this host serves the name, or can be started to.
    pub fn is_bound(&self) -> bool {
        !self.processes.is_empty() || self.starts()
    }

    /// The processes that serve it, in order of binding.
    pub fn processes(&self) -> impl Iterator<Item = u32> {
        self.processes.iter().map(|b| b.pid)
    }

    /// Whether `pid` serves it.
    pub fn serves(&self, pid: u32) -> bool {
        self.processes.iter().any(|b| b.pid == pid)
    }

    /// `pid` serves the name from now on. Says whether it did not before.
    pub fn bind(&mut self, pid: u32) -> bool {
        let new = !self.serves(pid);
        if new {
            self.processes.push(Bound { pid, accepts: VecDeque::new() });
        }
        new
    }

    /// `pid` no longer serves it; gives its accepts that waited.
    pub fn unbind(&mut self, pid: u32) -> Option<Vec<Accept>> {
        let index = self.processes.iter().position(|b| b.pid == pid)?;
        Some(self.processes.remove(index).accepts.into())
    }

    /// An accept of a process that serves the name waits from now on.
    pub fn push(&mut self, pid: u32, accept: Accept) {
        if let Some(bound) = self.processes.iter_mut().find(|b| b.pid == pid) {
            bound.accepts.push_back(accept);
        }
    }

    /// An accept no longer waits.
    pub fn withdraw(&mut self, pid: u32, call: CallId) {
        if let Some(bound) = self.processes.iter_mut().find(|b| b.pid == pid) {
            bound.accepts.retain(|a| a.call != call);
        }
    }

    /// How many accepts wait.
    pub fn accepting(&self) -> usize {
        self.processes.iter().map(|b| b.accepts.len()).sum()
    }

    /// Takes the accept that gets the next flow, and whose it is.
    pub fn next_accept(&mut self) -> Option<(u32, Accept)> {
        let start = match (self.policy, self.last) {
            (Policy::RoundRobin, Some(last)) => {
                self.processes.iter().position(|b| b.pid == last).map_or(0, |index| index + 1)
            }
            _ => 0,
        };
        let count = self.processes.len();
        let index = (start..start + count).map(|i| i % count).find(|&i| !self.processes[i].accepts.is_empty())?;
        let bound = &mut self.processes[index];
        self.last = Some(bound.pid);
        bound.accepts.pop_front().map(|accept| (bound.pid, accept))
    }

    /// The accept could not be used: it waits again, first in line. `false`: its process serves the name no more.
    pub fn give_back(&mut self, pid: u32, accept: Accept) -> bool {
        let bound = self.processes.iter_mut().find(|b| b.pid == pid);
        bound.map(|bound| bound.accepts.push_front(accept)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(policy: Policy, waiting: &[(u32, usize)]) -> Entry {
        let mut entry = Entry::new(policy, Origin::Runtime, 0);
        let mut call = 0;
        for (pid, accepts) in waiting {
            entry.bind(*pid);
            for _ in 0..*accepts {
                call += 1;
                entry.push(*pid, Accept { call: CallId(call), ask: false });
            }
        }
        entry
    }

    fn order(mut entry: Entry) -> Vec<u32> {
        std::iter::from_fn(|| entry.next_accept().map(|(pid, _)| pid)).collect()
    }

    #[test]
    fn policies_choose() {
        let waiting: &[(u32, usize)] = &[(7, 3), (3, 1), (9, 2)];
        type Row<'a> = (Policy, &'a [(u32, usize)], &'a [u32]);
        let table: &[Row<'_>] = &[
            (Policy::RoundRobin, waiting, &[7, 3, 9, 7, 9, 7]),
            (Policy::Spill, waiting, &[7, 7, 7, 3, 9, 9]),
            (Policy::RoundRobin, &[(1, 0), (2, 1)], &[2]),
            (Policy::Spill, &[], &[]),
            (Policy::RoundRobin, &[(1, 0)], &[]),
        ];
        for (policy, waiting, want) in table {
            assert_eq!(order(entry(*policy, waiting)), *want, "{policy:?} {waiting:?}");
        }
    }

    #[test]
    fn turns_go_on_after_a_process_left() {
        let mut entry = entry(Policy::RoundRobin, &[(1, 2), (2, 2), (3, 2)]);
        assert_eq!(entry.next_accept().unwrap().0, 1);
        assert_eq!(entry.unbind(1).unwrap().len(), 1);
        assert_eq!(entry.unbind(1), None);
        assert_eq!(order(entry), [2, 3, 2, 3]);
    }

    #[test]
    fn an_accept_is_given_back_first_in_line() {
        let mut entry = entry(Policy::Spill, &[(1, 2)]);
        let (pid, accept) = entry.next_accept().unwrap();
        assert!(entry.give_back(pid, accept) && !entry.give_back(2, accept));
        assert_eq!(entry.next_accept(), Some((1, accept)));
        entry.withdraw(1, CallId(2));
        assert_eq!((entry.accepting(), entry.next_accept()), (0, None));
    }

    #[test]
    fn layers_are_all_or_some() {
        let mut layers = Layers::default();
        assert!(layers.is_empty());
        layers.insert("net");
        assert!(layers.contains("net") && !layers.contains("lab"));
        layers.insert("*");
        assert!(layers.contains("lab"));
        assert_eq!(layers.to_texts(), ["*", "net"]);
    }

    #[test]
    fn an_auto_program_binds_a_name() {
        let mut entry = entry(Policy::RoundRobin, &[]);
        assert!(!entry.is_bound());
        entry.programs.push(Program::new("/bin/a".into(), vec![], false));
        assert!(!entry.is_bound());
        entry.programs.push(Program::new("/bin/b".into(), vec![], true));
        assert!(entry.is_bound());
    }
}
