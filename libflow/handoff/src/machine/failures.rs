//! Why a program does not get what it asked for, in words.

use proto::FlowId;
use proto::v1::{Failure, FailureKind};

pub(super) fn unknown_token() -> Failure {
    let text = "the token is unknown, used or expired; a token is good for one use within seconds: allocate again";
    Failure::new(FailureKind::NotPermitted, text)
}

pub(super) fn not_yours() -> Failure {
    let text = "the token belongs to another process; only the process that asked for a flow may take it";
    Failure::new(FailureKind::NotPermitted, text)
}

pub(super) fn no_slot() -> Failure {
    let text = "this process holds as many flows as the daemon gives one process; deallocate some first";
    Failure::new(FailureKind::Exhausted, text)
}

pub(super) fn too_many_waiting() -> Failure {
    let text = "too many redeemed tokens wait for flows that are still pending; wait for some of them";
    Failure::new(FailureKind::Exhausted, text)
}

pub(super) fn already_held(flow: FlowId) -> Failure {
    Failure::new(FailureKind::AlreadyExists, format!("flow {flow} is held already; it was handed back twice"))
}
