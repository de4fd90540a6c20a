//! Places for streams that stay open: so many in all, so many of one user.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use proto::v1::{Failure, FailureKind};

/// Streams of one kind.
#[derive(Clone, Debug)]
pub(super) struct Places {
    taken: Arc<Mutex<HashMap<u32, usize>>>,
    /// What the streams do, for messages: "read the events of flows".
    doing: &'static str,
    of_user: usize,
    /// Of all users but root.
    of_users: usize,
}

impl Places {
    pub(super) fn new(doing: &'static str, of_user: usize, of_users: usize) -> Self {
        Self { taken: Arc::default(), doing, of_user, of_users }
    }

    /// A place for a user's stream.
    pub(super) fn place(&self, uid: u32) -> Result<Place, Failure> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let of_users: usize = taken.iter().filter(|(uid, _)| **uid != 0).map(|(_, n)| n).sum();
        let own = taken.entry(uid).or_default();
        if *own >= self.of_user || (uid != 0 && of_users >= self.of_users) {
            let doing = self.doing;
            let text = format!(
                "{own} programs of user {uid} and {of_users} of all users {doing} already, as many as may; end one"
            );
            return Err(Failure::new(FailureKind::Exhausted, text));
        }
        *own += 1;
        Ok(Place { taken: self.taken.clone(), uid })
    }
}

/// A user's place; free again when it is dropped.
pub(super) struct Place {
    taken: Arc<Mutex<HashMap<u32, usize>>>,
    uid: u32,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = taken.get_mut(&self.uid) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.uid);
            }
        }
    }
}
