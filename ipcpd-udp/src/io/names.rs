//! Names of other hosts that begin alike, for programs that are a group: told whole, again each time they change.
#![expect(clippy::disallowed_methods, reason = "io owns timers")]

use std::time::Duration;

use proto::{MOST_NAMES, Name, v1};
use tokio::sync::mpsc;
use tonic::Status;

use super::api::Api;
use super::command::{Command, Known, Moment};
use super::driver::Driver;

/// Changes that come together are told together.
const TOGETHER: Duration = Duration::from_millis(20);

impl Driver {
    pub(super) fn names(&self, prefix: &Name) -> Known {
        let layer = &self.shim.settings().layer;
        let known = |name: Name| v1::KnownName { name: name.to_string(), layer: layer.clone(), ..Default::default() };
        let mut names = self.shim.names_below(prefix, MOST_NAMES + 1);
        let more = names.len() > MOST_NAMES;
        names.truncate(MOST_NAMES);
        (v1::NamesReply { names: names.into_iter().map(known).collect(), more }, self.names_known.subscribe())
    }

    /// Whoever follows names is told that they may be others.
    pub(super) fn tell_names(&self) {
        let moment: Moment = (self.shim.members_seen(), self.hosts_changed);
        self.names_known.send_if_modified(|known| std::mem::replace(known, moment) != moment);
    }
}

/// Tells names as long as somebody listens.
pub(super) async fn tell(api: Api, prefix: Name, first: Known, to: mpsc::Sender<Result<v1::NamesReply, Status>>) {
    let (mut names, mut changes) = first;
    let mut told = None;
    loop {
        if told.as_ref() != Some(&names) {
            if to.send(Ok(names.clone())).await.is_err() {
                return;
            }
            told = Some(names);
        }
        let goes_on = tokio::select! {
            () = to.closed() => false,
            changed = changes.changed() => changed.is_ok(),
        };
        if !goes_on {
            return;
        }
        tokio::time::sleep(TOGETHER).await;
        match api.call(|reply| Command::Names(prefix.clone(), reply)).await {
            Ok(known) => (names, changes) = known,
            Err(failure) => return drop(to.send(Err(failure.into())).await),
        }
    }
}
