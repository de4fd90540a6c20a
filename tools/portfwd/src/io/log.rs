//! One line for each connection.

use std::net::SocketAddr;
use std::time::Instant;

use super::live::Live;
use crate::machine::cause::Refusal;
use crate::machine::life::Outcome;
use crate::machine::text;

/// A connection has ended.
pub(crate) fn ended(live: &Live, outcome: &Outcome, now: Instant) {
    let [sent, received] = live.bytes();
    let how = text::ending(outcome);
    tracing::info!(
        target: "portfwd::connection",
        rule = %live.rule().name,
        client = %address(live.client),
        target = %live.target().unwrap_or("-"),
        sent,
        received,
        ms = now.saturating_duration_since(live.since).as_millis() as u64,
        end = %how,
    );
}

/// No target took it.
pub(crate) fn refused(live: &Live, refusal: &Refusal, now: Instant) {
    tracing::info!(
        target: "portfwd::connection",
        rule = %live.rule().name,
        client = %address(live.client),
        target = %live.target().unwrap_or("-"),
        ms = now.saturating_duration_since(live.since).as_millis() as u64,
        end = refusal.label(),
        why = %refusal,
    );
}

fn address(address: Option<SocketAddr>) -> String {
    address.map_or_else(|| "-".to_owned(), |address| address.to_string())
}
