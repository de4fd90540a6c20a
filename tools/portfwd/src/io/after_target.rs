//! `accept = "after-target"`: the socket listens only while a target is believed to live, so that clients of a dead one are
//! refused by the kernel, as by the target itself.

use std::sync::Arc;

use tokio::sync::watch;

use super::dial::dial;
use super::listen::Listening;
use super::running::Running;
use crate::machine::cause::Refusal;
use crate::said::end::End;
use crate::said::rule::Accept;

/// Opens and closes the gate until the rule is taken away.
pub(crate) async fn keep(
    mut rules: watch::Receiver<Option<Arc<Running>>>,
    listening: Arc<Listening>,
    gate: Arc<watch::Sender<bool>>,
    worker: usize,
) {
    loop {
        let Some(running) = rules.borrow_and_update().clone() else { return };
        tokio::select! {
            changed = rules.changed() => if changed.is_err() { return },
            () = follow(&running, &listening, &gate, worker) => {}
        }
    }
}

async fn follow(running: &Running, listening: &Listening, gate: &watch::Sender<bool>, worker: usize) {
    let mut alive = running.alive();
    let waits = running.rule.options.accept == Accept::AfterTarget;
    loop {
        while waits && !*alive.borrow_and_update() {
            if gate.send_replace(false) {
                tracing::warn!(rule = %running.rule.name, "its target is dead: connections are refused");
            }
            listening.pause();
            look(running, worker).await;
            if !*alive.borrow() {
                pause(running.rule.options.health.retry).await;
            }
        }
        match listening.resume() {
            Ok(()) if gate.send_replace(true) => {}
            Ok(()) => tracing::info!(rule = %running.rule.name, "its target lives: connections are taken"),
            Err(error) => {
                tracing::error!(rule = %running.rule.name, %error, "it cannot listen");
                pause(running.rule.options.health.retry).await;
                continue;
            }
        }
        if alive.changed().await.is_err() {
            return;
        }
    }
}

/// Tries the targets until one answers.
async fn look(running: &Running, worker: usize) {
    let options = &running.rule.options;
    for index in 0..running.rule.targets.len() {
        let target = running.target(index);
        let tried: Result<(), Refusal> = match (&target.end, target.flows.get(worker)) {
            (End::Flow(_), Some(flows)) => flows.seat().await.map(drop),
            _ => dial(target, options.connect_timeout, None).await.map(drop),
        };
        running.tried(index, tried.as_ref().err());
        if tried.is_ok() {
            return;
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "io owns the timers")]
async fn pause(time: std::time::Duration) {
    tokio::time::sleep(time).await;
}
