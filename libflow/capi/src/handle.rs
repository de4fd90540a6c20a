//! Numbers for flows and listeners.

use std::collections::BTreeMap;
use std::ffi::c_int;
use std::sync::{Arc, PoisonError, RwLock};

use libflow::blocking::{Flow, Listener};

use crate::error::{EEXHAUSTED, EHANDLE, Failed};

/// What a handle stands for. Threads that use it hold a share, so a handle can be ended under them.
#[derive(Clone)]
pub(crate) enum Held {
    Flow(Arc<Flow>),
    Listener(Arc<Listener>),
}

struct Table {
    held: BTreeMap<c_int, Held>,
    next: c_int,
}

// The lock is held for a look-up. Reading does not exclude reading, so flows do not wait for each other.
static TABLE: RwLock<Table> = RwLock::new(Table { held: BTreeMap::new(), next: 0 });

/// A number for it. Numbers are not reused before all others have been: a stale handle finds nothing.
pub(crate) fn add(held: Held) -> Result<c_int, Failed> {
    let mut table = TABLE.write().unwrap_or_else(PoisonError::into_inner);
    if table.held.len() >= c_int::MAX as usize {
        return Err(Failed { code: EEXHAUSTED, text: "there are no more handles; deallocate flows".into() });
    }
    while table.held.contains_key(&table.next) {
        table.next = table.next.checked_add(1).unwrap_or(0);
    }
    let handle = table.next;
    table.next = handle.checked_add(1).unwrap_or(0);
    table.held.insert(handle, held);
    Ok(handle)
}

pub(crate) fn remove(handle: c_int) -> Result<Held, Failed> {
    let removed = TABLE.write().unwrap_or_else(PoisonError::into_inner).held.remove(&handle);
    removed.ok_or_else(|| unknown(handle))
}

pub(crate) fn flow(handle: c_int) -> Result<Arc<Flow>, Failed> {
    match TABLE.read().unwrap_or_else(PoisonError::into_inner).held.get(&handle) {
        Some(Held::Flow(flow)) => Ok(flow.clone()),
        _ => Err(unknown(handle)),
    }
}

pub(crate) fn listener(handle: c_int) -> Result<Arc<Listener>, Failed> {
    match TABLE.read().unwrap_or_else(PoisonError::into_inner).held.get(&handle) {
        Some(Held::Listener(listener)) => Ok(listener.clone()),
        _ => Err(unknown(handle)),
    }
}

pub(crate) fn unknown(handle: c_int) -> Failed {
    let text = format!("{handle} is no handle of the kind this call takes; it may have been deallocated");
    Failed { code: EHANDLE, text }
}
