//! A program's access to the flows of its host.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use proto::RunDir;

use crate::alloc::Alloc;
use crate::error::StackError;
use crate::group::Join;
use crate::io::keeper::Keeper;
use crate::listener::Listen;

/// Access to one irmd: allocates flows and serves names. Cheap to clone.
///
/// Behind it is one thread named `libflow`, which keeps one gRPC channel to irmd and one lease with each daemon whose
/// flows this process holds. It ends when the last stack, listener and flow made from it are dropped.
///
/// **Fork**: a child has its parent's sockets and not its threads. A flow's descriptor works in the child, all else of
/// a `Stack` does not: make a new one after `fork`, best after `exec`.
#[derive(Clone)]
pub struct Stack {
    keeper: Arc<Keeper>,
}

impl Stack {
    /// For the irmd of `run_dir`; without one: `$FLOWRING_RUN_DIR`, else `/run/flowring` for root, else
    /// `$XDG_RUNTIME_DIR/flowring`. irmd is not spoken to before the first call, which says so at once when it is not
    /// there.
    pub fn find(run_dir: Option<&Path>) -> Result<Self, StackError> {
        let keeper = Keeper::start(RunDir::find(run_dir)?).map_err(StackError::Thread)?;
        Ok(Self { keeper })
    }

    /// The one that the environment names, shared by all that ask for it at the same time.
    pub fn global() -> Result<Self, StackError> {
        static GLOBAL: Mutex<Weak<Keeper>> = Mutex::new(Weak::new());
        let mut global = GLOBAL.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(keeper) = global.upgrade() {
            return Ok(Self { keeper });
        }
        let stack = Self::find(None)?;
        *global = Arc::downgrade(&stack.keeper);
        Ok(stack)
    }

    /// A flow to `name`; set what is wanted, then `.await`.
    pub fn alloc(&self, name: &str) -> Alloc {
        Alloc::new(self.keeper.clone(), name)
    }

    /// Serves `name` from now on; set what is wanted, then `.await`.
    pub fn listen(&self, name: &str) -> Listen {
        Listen::new(self.keeper.clone(), name)
    }

    /// Becomes the member `member` of the group `group`: serves the name `group.member`, and has a flow with each other
    /// member; set what is wanted, then `.await`.
    pub fn join(&self, group: &str, member: &str) -> Join {
        Join::new(self.clone(), self.keeper.clone(), group, member)
    }

    /// The folder of irmd's sockets.
    pub fn run_dir(&self) -> &Path {
        self.keeper.run_dir().path()
    }
}

impl std::fmt::Debug for Stack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Stack").field(&self.run_dir()).finish()
    }
}
