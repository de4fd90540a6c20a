//! Active checks: targets are connected to now and then, whether connections come or not.
#![expect(clippy::disallowed_methods, reason = "io/: the clock and timers")]

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::dial::dial;
use super::running::Running;
use crate::said::end::End;

/// Checks a rule's targets until it is taken away.
pub(crate) async fn keep(mut rules: watch::Receiver<Option<Arc<Running>>>) {
    loop {
        let Some(running) = rules.borrow_and_update().clone() else { return };
        tokio::select! {
            changed = rules.changed() => if changed.is_err() { return },
            () = check(&running) => {}
        }
    }
}

/// Those that are under way end with it.
async fn check(running: &Arc<Running>) {
    let mut under_way = JoinSet::new();
    loop {
        tokio::select! {
            () = super::udp::until(running.check_due()) => {}
            Some(_) = under_way.join_next() => {}
        }
        while let Some(place) = running.next_check(Instant::now()) {
            let running = running.clone();
            under_way.spawn(async move {
                let target = running.target(place);
                // A flow's name is asked when a connection comes: an allocation is dear, and says nothing of the target behind.
                if !matches!(target.end, End::Flow(_) | End::Udp(_)) {
                    let reached = dial(target, running.rule.options.connect_timeout, None).await;
                    if let Ok(socket) = &reached {
                        // Closed at once and without TIME_WAIT.
                        socket.reset_at_close();
                    }
                    running.checked(place, reached.err().as_ref());
                }
            });
        }
    }
}
