//! The side that is measured.

use super::carrier::Carrier;
use super::{load, trip};
use crate::machine::account::Account;
use crate::machine::params::{Mode, Params};

/// Runs the other half of a test. What it was, in a line.
pub(crate) fn serve(carrier: &mut impl Carrier, params: &Params) -> String {
    let (what, account, ended) = match (params.mode, params.reverse) {
        (Mode::Rtt | Mode::Alloc, _) => {
            let (account, result) = trip::echo(carrier, params);
            ("echoed", account, result.err())
        }
        (Mode::Throughput, false) => {
            let load::Received { own, gone, .. } = load::receive(carrier, params);
            ("received", own, gone)
        }
        (Mode::Throughput, true) => {
            let (own, sent) = load::send(carrier, params);
            ("sent", own, sent.and_then(|()| load::conclude(carrier, &own)).err())
        }
    };
    let Account { sdus, bytes, .. } = account;
    let why = ended.map(|gone| format!("; ended: {}", gone.0)).unwrap_or_default();
    format!("{what} {sdus} SDUs, {bytes} bytes{why}")
}
