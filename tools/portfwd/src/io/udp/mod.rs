//! Rules for datagrams: a session for each client, towards a socket of its own or as a number in a message flow.
//!
//! ```text
//!   direct   clients' socket ── a socket connected to the target, for each client
//!   near     clients' socket ── a message flow, in which each client has a number
//!   far      a message flow  ── a socket connected to the target, for each number
//! ```
//!
//! A rule's work is one task on one thread: it looks at all its sockets together and sends and receives many datagrams per
//! system call.
#![expect(clippy::disallowed_methods, reason = "io/: the clock and timers")]

mod direct;
mod far;
mod near;
mod sockets;
mod upward;

use std::cell::RefCell;
use std::future::pending;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use datagrams as batch;
use tokio::sync::watch;

use self::batch::Batch;
pub(crate) use self::direct::serve as direct;
pub(crate) use self::far::serve as far;
pub(crate) use self::near::serve as near;
pub(crate) use self::sockets::open;
use super::running::Running;
use crate::machine::udp::Bounds;
use crate::said::rule::{Options, Rule};

/// Sessions of a rule that sets no limit.
const MOST: u32 = 8192;
/// The most that a limit can be: a session has a number of 16 bits in a message flow.
const MOST_EVER: u32 = 65_536;
/// One that the target never answered is over after this, however long others may be silent.
const UNANSWERED: Duration = Duration::from_secs(20);
/// Calls for datagrams before others have their turn.
const AT_ONCE: usize = 8;

/// The rule as it is now; `None`: it is taken away.
type Rules = watch::Receiver<Option<Arc<Running>>>;

/// A client of a socket: who it is, and to which address of this host it speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Client {
    address: SocketAddr,
    local: Option<IpAddr>,
}

thread_local! {
    /// Used between two waits only.
    static BATCH: RefCell<Batch> = RefCell::new(Batch::new());
}

/// Runs `work` with this thread's batch, empty.
fn with_batch<T>(work: impl FnOnce(&mut Batch) -> T) -> T {
    BATCH.with_borrow_mut(|batch| {
        batch.clear();
        work(batch)
    })
}

fn bounds(rule: &Rule) -> Bounds {
    let most = rule.options.max_connections.map_or(MOST, |most| most.get().min(MOST_EVER));
    let idle = rule.options.idle_timeout.unwrap_or(Options::UDP_IDLE);
    Bounds { most: most as usize, idle, unanswered: UNANSWERED }
}

/// Waits for a moment; for ever where there is none.
pub(crate) async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => pending().await,
    }
}

/// The rule's next change: what it is then, `None` when it is taken away.
async fn changed(rules: &mut Rules) -> Option<Arc<Running>> {
    // An error: whoever opened it is gone.
    rules.changed().await.ok()?;
    rules.borrow_and_update().clone()
}
