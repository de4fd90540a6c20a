//! What became of reading a program's files again.

use sd_notify::NotifyState;

use super::process::manager;

/// How often that went well and how often not, since the start.
#[derive(Clone, Debug, Default)]
pub struct Reloads {
    /// What was read was taken.
    pub taken: u64,
    /// It was not.
    pub failed: u64,
    /// Why the last one was not.
    pub why: Option<String>,
}

impl Reloads {
    /// One more: what it came to, or what is wrong. The service manager is told, too.
    pub fn note(&mut self, done: &Result<String, String>) {
        manager(&[NotifyState::Status(done.as_ref().unwrap_or_else(|why| why))]);
        *if done.is_ok() { &mut self.taken } else { &mut self.failed } += 1;
        self.why = done.as_ref().err().cloned();
    }
}
