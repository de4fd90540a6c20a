//! How many leases there are, of whom: counted from the first byte, so that sockets which never say Hello count, too.

use std::collections::HashMap;

use crate::server::{Config, Process};

pub(super) struct Admission {
    most: usize,
    most_of_user: usize,
    unlimited: Vec<u32>,
    all: usize,
    by_user: HashMap<u32, usize>,
}

impl Admission {
    pub(super) fn new(config: Config) -> Self {
        let Config { max_leases, max_leases_per_user, unlimited_users, .. } = config;
        Self {
            most: max_leases,
            most_of_user: max_leases_per_user,
            unlimited: unlimited_users,
            all: 0,
            by_user: HashMap::new(),
        }
    }

    /// One more, or why not.
    pub(super) fn enter(&mut self, Process { uid, pid, .. }: Process) -> Result<(), String> {
        // All such have the number 0: they could be taken for each other.
        if pid == 0 {
            return Err("the process is in a PID namespace that the daemon cannot see into; run both in one".to_owned());
        }
        let own = self.by_user.get(&uid).copied().unwrap_or(0);
        if self.all >= self.most {
            return Err("the daemon keeps as many leases as it may; end some programs".to_owned());
        }
        if own >= self.most_of_user && !self.unlimited.contains(&uid) {
            return Err(format!(
                "{own} programs of user {uid} hold leases, as many as a user's may (leases-per-user in irmd.toml); \
                 end some or raise it"
            ));
        }
        self.all += 1;
        self.by_user.insert(uid, own + 1);
        Ok(())
    }

    /// A lease of the user ended; of nobody: its task failed, and stays counted for its user.
    pub(super) fn left(&mut self, uid: Option<u32>) {
        self.all = self.all.saturating_sub(1);
        let Some(uid) = uid else { return };
        if let Some(count) = self.by_user.get_mut(&uid) {
            *count -= 1;
            if *count == 0 {
                self.by_user.remove(&uid);
            }
        }
    }
}
