//! All connections that live, for who wants to see them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::live::Live;

/// The connections of one worker. Locked when one begins or ends, and when somebody looks.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    lives: Mutex<HashMap<u64, Arc<Live>>>,
    next: AtomicU64,
    /// One has ended: its descriptors are free.
    freed: Notify,
}

/// A connection's line; dropped, it is struck out.
#[derive(Debug)]
pub(crate) struct Listed {
    roster: Arc<Roster>,
    id: u64,
}

impl Roster {
    pub(crate) fn list(self: &Arc<Self>, live: Arc<Live>) -> Listed {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.lives.lock().unwrap_or_else(PoisonError::into_inner).insert(id, live);
        Listed { roster: self.clone(), id }
    }

    /// Those that live now.
    pub(crate) fn lives(&self) -> Vec<Arc<Live>> {
        self.lives.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// How many live.
    pub(crate) fn len(&self) -> usize {
        self.lives.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Waits until one ends.
    pub(crate) async fn freed(&self) {
        self.freed.notified().await;
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.roster.lives.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
        self.roster.freed.notify_one();
    }
}
