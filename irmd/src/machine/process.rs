//! The registry of processes: those that hold a lease with irmd.

use std::collections::{BTreeSet, HashMap};

use proto::{FlowId, Name, v1};

use super::Caller;

/// All processes that hold a lease.
#[derive(Debug, Default)]
pub struct Processes {
    map: HashMap<u32, Entry>,
}

/// One process.
#[derive(Debug, Default)]
pub struct Entry {
    /// Who it is.
    pub process: v1::Process,
    /// The names it serves.
    pub serves: BTreeSet<Name>,
    /// Flows it was given and has not answered yet.
    pub deciding: BTreeSet<FlowId>,
    /// Its accepts that wait.
    pub accepts: usize,
    leases: usize,
}

impl Processes {
    /// A lease was opened. Gives the entry of another user's process that had this number: it has ended, and that was
    /// not told yet.
    pub fn lease_opened(&mut self, process: v1::Process) -> Option<Entry> {
        let known = self.map.get(&process.pid);
        let other = known.is_some_and(|entry| entry.process.uid != process.uid);
        let gone = if other { self.map.remove(&process.pid) } else { None };
        let entry = self.map.entry(process.pid).or_default();
        entry.leases += 1;
        entry.process = process;
        gone
    }

    /// A lease has ended. Gives the entry when it was the process' last one: `last` says so, or none is left here.
    pub fn lease_closed(&mut self, pid: u32, uid: u32, last: bool) -> Option<Entry> {
        let entry = self.map.get_mut(&pid).filter(|entry| entry.process.uid == uid)?;
        entry.leases = entry.leases.saturating_sub(1);
        if entry.leases > 0 && !last { None } else { self.map.remove(&pid) }
    }

    /// A process by its id.
    pub fn get(&self, pid: u32) -> Option<&Entry> {
        self.map.get(&pid)
    }

    /// The same, to change it.
    pub fn get_mut(&mut self, pid: u32) -> Option<&mut Entry> {
        self.map.get_mut(&pid)
    }

    /// A caller as a process: with its command where it holds a lease.
    pub fn describe(&self, caller: &Caller) -> v1::Process {
        match self.map.get(&caller.pid) {
            Some(entry) if entry.process.uid == caller.uid => entry.process.clone(),
            _ => v1::Process { pid: caller.pid, uid: caller.uid, gid: caller.gid, command: String::new() },
        }
    }

    /// Accepts of all of a user's processes that wait.
    pub fn accepts_of(&self, uid: u32) -> usize {
        self.map.values().filter(|entry| entry.process.uid == uid).map(|entry| entry.accepts).sum()
    }

    /// Names that a user's processes serve, each process by itself.
    pub fn served_by(&self, uid: u32) -> usize {
        self.map.values().filter(|entry| entry.process.uid == uid).map(|entry| entry.serves.len()).sum()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_gone_with_its_last_lease() {
        let process = v1::Process { pid: 4, uid: 1, gid: 1, command: "oping".into() };
        let mut processes = Processes::default();
        processes.lease_opened(process.clone());
        processes.lease_opened(process.clone());
        processes.get_mut(4).unwrap().serves.insert(Name::new("echo").unwrap());
        assert!(processes.lease_closed(4, 1, false).is_none());
        assert_eq!(processes.lease_closed(4, 1, true).unwrap().serves.len(), 1);
        assert!(processes.lease_closed(4, 1, true).is_none());
        assert!(processes.is_empty());
    }

    #[test]
    fn a_recycled_pid_inherits_nothing() {
        let process = |uid| v1::Process { pid: 4, uid, gid: uid, command: "oping".into() };
        let mut processes = Processes::default();
        assert!(processes.lease_opened(process(1)).is_none());
        processes.get_mut(4).unwrap().serves.insert(Name::new("echo").unwrap());
        // The first one's end is told late.
        assert_eq!(processes.lease_opened(process(2)).unwrap().serves.len(), 1);
        assert!(processes.get(4).unwrap().serves.is_empty());
        assert!(processes.lease_closed(4, 1, true).is_none());
        assert_eq!(processes.get(4).unwrap().process.uid, 2);
        assert!(processes.lease_closed(4, 2, true).is_some());
    }

    #[test]
    fn a_recycled_pid_of_another_user_is_not_taken_for_the_old_one() {
        let mut processes = Processes::default();
        processes.lease_opened(v1::Process { pid: 4, uid: 1, gid: 1, command: "oping".into() });
        assert_eq!(processes.describe(&Caller { pid: 4, uid: 1, gid: 1, groups: None }).command, "oping");
        assert_eq!(processes.describe(&Caller { pid: 4, uid: 2, gid: 1, groups: None }).command, "");
    }
}
