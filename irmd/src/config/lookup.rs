//! Users and groups of a file: found by whoever knows them.

use std::collections::BTreeSet;

use crate::machine::policy::PATTERNS;

use super::{Account, Config, NameEntry, Rules};

/// Asked for a user's number, or (`true`) a group's.
type Lookup<'a> = &'a dyn Fn(&str, bool) -> Option<u32>;

impl NameEntry {
    /// Who may use the name.
    pub fn rules(&self) -> Rules {
        Rules {
            serve: self.serve.clone(),
            allow_local: self.allow_local.clone(),
            allow_remote: self.allow_remote.clone(),
            deny_remote: self.deny_remote.clone(),
            identities: self.identities.clone(),
        }
    }
}

impl Config {
    pub(super) fn check_rules(&self) -> Result<(), String> {
        let mut seen = BTreeSet::new();
        for entry in &self.rules {
            let pattern = entry.pattern.as_str();
            entry.rules().check().map_err(|e| format!("[[rule]] {pattern}: {e}"))?;
            if entry.rules().is_empty() {
                return Err(format!(
                    "[[rule]] {pattern} says nothing; give serve, allow-local, allow-remote, deny-remote or identities"
                ));
            }
            if !seen.insert(pattern) {
                return Err(format!("[[rule]] {pattern} is declared twice; join the two"));
            }
        }
        if self.rules.len() > PATTERNS {
            return Err(format!("there are {} [[rule]], more than {}", self.rules.len(), PATTERNS));
        }
        Ok(())
    }

    /// Finds the numbers of all users and groups that are named. Gives a sentence for each that does not exist: it
    /// stays, and is nobody.
    pub fn look_up(&mut self, lookup: Lookup<'_>) -> Vec<String> {
        let mut missing = Vec::new();
        let mut find = |account: &mut Account, group: bool, key: String| {
            if account.id.is_none() {
                account.id = lookup(account.as_str(), group);
            }
            if account.id.is_none() {
                let kind = if group { "group" } else { "user" };
                missing.push(format!(
                    "{key}: there is no {kind} {:?} on this host; correct it, make one, or give a number",
                    account.as_str()
                ));
            }
        };
        if let Some(group) = &mut self.options.admin_group {
            find(group, true, "[options] admin-group".into());
        }
        for entry in &mut self.names {
            let name = &entry.name;
            if let Some(owner) = &mut entry.owner {
                find(owner, false, format!("[[name]] {name}: owner"));
            }
            for program in &mut entry.programs {
                if let Some(user) = &mut program.user {
                    find(user, false, format!("[[name]] {name}: user of {}", program.path));
                }
            }
            let mut rules =
                Rules { serve: entry.serve.take(), allow_local: entry.allow_local.take(), ..Rules::default() };
            rules.accounts().for_each(|(account, group)| find(account, group, format!("[[name]] {name}: rules")));
            (entry.serve, entry.allow_local) = (rules.serve, rules.allow_local);
        }
        for entry in &mut self.rules {
            let pattern = entry.pattern.as_str().to_owned();
            let mut rules =
                Rules { serve: entry.serve.take(), allow_local: entry.allow_local.take(), ..Rules::default() };
            rules.accounts().for_each(|(account, group)| find(account, group, format!("[[rule]] {pattern}: rules")));
            (entry.serve, entry.allow_local) = (rules.serve, rules.allow_local);
        }
        missing
    }
}
